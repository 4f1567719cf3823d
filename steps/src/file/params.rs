//! What stands below `file`, and what it gives.

use crate::word::Word;
use engine::{StepError, error::ErrorClass, quantity::Bytes, step::ParamsView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a created file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Bytes that look random and can be made again from a seed.
    #[default]
    Random,
    /// Zero bytes.
    Zero,
}

/// Exactly one of `stat`, `create`, `copy`, `remove` and `directory`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Look at this path; it need not exist.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    pub(super) stat: Option<String>,
    /// Make a file at this path, where nothing may be yet.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    pub(super) create: Option<String>,
    /// Copy this file to `to`, where nothing may be yet.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    pub(super) copy: Option<String>,
    /// Remove the file at this path. In `cleanup` it is gone; elsewhere it is put aside and comes back at the end.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    pub(super) remove: Option<String>,
    /// Make a folder at this path, where nothing may be yet.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    pub(super) directory: Option<String>,
    /// For `copy`: where to.
    #[serde(default)]
    #[schemars(extend("format" = "path"))]
    pub(super) to: Option<String>,
    /// For `create`: how large.
    #[serde(default)]
    pub(super) size: Option<Bytes>,
    /// For `create` with `size`: what it holds; random if not given.
    #[serde(default)]
    pub(super) content: Option<Content>,
    /// For `create`: the text it holds.
    #[serde(default)]
    pub(super) text: Option<String>,
    /// For `create` with `size`: no block of the disk is taken; all reads as zero.
    #[serde(default)]
    pub(super) sparse: bool,
    /// For `create`, `copy` and `directory`: the mode in octal, such as "0640".
    #[serde(default)]
    pub(super) mode: Option<String>,
    /// For `create`, `copy` and `directory`: the user it belongs to, by name or number; only root may give files away.
    #[serde(default)]
    pub(super) owner: Option<Word>,
    /// For `create`, `copy` and `directory`: the group it belongs to, by name or number.
    #[serde(default)]
    pub(super) group: Option<Word>,
    /// For `directory`: all that anybody puts into the folder belongs to the run and is removed with it.
    #[serde(default)]
    pub(super) owned: bool,
    /// For `remove`: it is an error if there is nothing to remove.
    #[serde(default)]
    pub(super) must_exist: bool,
}

/// What is at the path after the step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The path.
    pub path: String,
    /// Whether there is anything.
    pub exists: bool,
    /// `file`, `folder`, `link` or `other`.
    #[serde(default)]
    pub kind: String,
    /// Its size in bytes.
    #[serde(default)]
    pub size: u64,
    /// Its mode in octal.
    #[serde(default)]
    pub mode: String,
    /// When it was last written, in seconds since 1970 UTC.
    #[serde(default)]
    pub mtime: i64,
    /// Its inode: another file under the same name has another.
    #[serde(default)]
    pub inode: u64,
    /// The user it belongs to; the number if that has no name.
    #[serde(default)]
    pub owner: String,
    /// The group it belongs to; the number if that has no name.
    #[serde(default)]
    pub group: String,
    /// The number of the user.
    #[serde(default)]
    pub uid: u32,
    /// The number of the group.
    #[serde(default)]
    pub gid: u32,
    /// The SHA-256 of what was written, for `create` and `copy`; not of a sparse file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What a step is to do.
pub(crate) enum Action<'a> {
    Stat(&'a str),
    Create(&'a str),
    Copy(&'a str, &'a str),
    Remove(&'a str),
    Directory(&'a str),
}

impl Params {
    pub(super) fn action(&self) -> Result<Action<'_>, StepError> {
        let action = match (&self.stat, &self.create, &self.copy, &self.remove, &self.directory) {
            (Some(path), ..) => Action::Stat(path),
            (_, Some(path), ..) => Action::Create(path),
            (_, _, Some(from), ..) => Action::Copy(from, self.to.as_deref().unwrap_or_default()),
            (_, _, _, Some(path), _) => Action::Remove(path),
            (_, _, _, _, Some(path)) => Action::Directory(path),
            _ => return Err(StepError::new(ErrorClass::Invalid, "`file` has nothing to do")),
        };
        let path = action.target();
        if path.is_empty() || path.contains('\0') {
            return Err(StepError::new(
                ErrorClass::Invalid,
                format!("`{}` is no path", path.replace('\0', "\\0")),
            ));
        }
        if path.ends_with('/') && !matches!(action, Action::Stat(_) | Action::Directory(_)) {
            return Err(StepError::new(
                ErrorClass::Invalid,
                format!("`{path}` names a folder, expected a file"),
            ));
        }
        Ok(action)
    }

    pub(super) fn mode(&self) -> Result<Option<u32>, StepError> {
        let Some(text) = &self.mode else { return Ok(None) };
        match u32::from_str_radix(text.trim_start_matches("0o"), 8) {
            Ok(mode) if mode <= 0o7777 => Ok(Some(mode)),
            _ => Err(StepError::new(
                ErrorClass::Invalid,
                format!("`mode`: expected octal digits such as \"0640\", found `{text}`"),
            )),
        }
    }
}

impl Action<'_> {
    /// The path that is looked at or changed.
    pub(crate) fn target(&self) -> &str {
        match self {
            Self::Stat(path) | Self::Create(path) | Self::Remove(path) | Self::Directory(path) => path,
            Self::Copy(_, to) => to,
        }
    }
}

/// Whether the parameters go together; what [`engine::Step::check`] wants to know.
pub(super) fn check(view: &ParamsView<'_>) -> Vec<(String, String)> {
    let mut wrong = view.exactly_one(&["stat", "create", "copy", "remove", "directory"]);
    let made: &[&str] = &["create", "copy", "directory"];
    let belongs: [(&str, &[&str]); 10] = [
        ("to", &["copy"]),
        ("size", &["create"]),
        ("content", &["create"]),
        ("text", &["create"]),
        ("sparse", &["create"]),
        ("mode", made),
        ("owner", made),
        ("group", made),
        ("owned", &["directory"]),
        ("must_exist", &["remove"]),
    ];
    for (key, actions) in belongs {
        if view.has(key) && view.present(actions).is_empty() {
            wrong.push((key.into(), format!("`{key}` goes with `{}`", actions.join("` or `"))));
        }
    }
    if view.has("copy") && !view.has("to") {
        wrong.push(("copy".into(), "`copy` needs `to`".into()));
    }
    if view.has("text") {
        for key in view.present(&["size", "content", "sparse"]) {
            wrong.push((key.into(), format!("`{key}` cannot go with `text`")));
        }
    }
    if view.is_true("sparse") {
        if !view.has("size") {
            wrong.push(("sparse".into(), "`sparse` needs `size`".into()));
        }
        if view.is_known("content") && view.show("content") != "zero" {
            wrong.push(("content".into(), "a sparse file holds zero bytes: `content: zero`".into()));
        }
    }
    wrong
}
