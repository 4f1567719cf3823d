//! `file`: looks at files, makes, copies and removes them, here or on a host, and takes each of these back.

mod content;
mod local;
mod remote;

pub(crate) use local::rename_new;

use crate::watch::Files;
use engine::{
    Step, StepError,
    error::ErrorClass,
    event::Phase,
    host::shell_word,
    quantity::Bytes,
    step::{
        ByHand, Changes, Context, Description, Docs, Leftover, ParamsView, Presence, Probe, Prospect,
        Settled, Undone,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The step type.
pub struct File;

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
    stat: Option<String>,
    /// Make a file at this path, where nothing may be yet.
    #[serde(default)]
    create: Option<String>,
    /// Copy this file to `to`, where nothing may be yet.
    #[serde(default)]
    copy: Option<String>,
    /// Remove the file at this path. In `cleanup` it is gone; elsewhere it is put aside and comes back at the end.
    #[serde(default)]
    remove: Option<String>,
    /// Make a folder at this path, where nothing may be yet.
    #[serde(default)]
    directory: Option<String>,
    /// For `copy`: where to.
    #[serde(default)]
    to: Option<String>,
    /// For `create`: how large.
    #[serde(default)]
    size: Option<Bytes>,
    /// For `create` with `size`: what it holds; random if not given.
    #[serde(default)]
    content: Option<Content>,
    /// For `create`: the text it holds.
    #[serde(default)]
    text: Option<String>,
    /// For `create`, `copy` and `directory`: the mode in octal, such as "0640".
    #[serde(default)]
    mode: Option<String>,
    /// For `directory`: all that anybody puts into the folder belongs to the run and is removed with it.
    #[serde(default)]
    owned: bool,
    /// For `remove`: it is an error if there is nothing to remove.
    #[serde(default)]
    must_exist: bool,
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
    /// The SHA-256 of what was written, for `create` and `copy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What must be known to take it back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Intent {
    /// Where a file is written before it gets its name, or put aside when it is removed.
    beside: String,
    /// What random content is drawn from.
    seed: String,
    /// For `remove`: what was there.
    found: Option<Output>,
    /// For `copy`: the SHA-256 of what is copied, so that a copy whose making was cut short is known for ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
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
    fn action(&self) -> Result<Action<'_>, StepError> {
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

    fn mode(&self) -> Result<Option<u32>, StepError> {
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

impl Step for File {
    const KIND: &'static str = "file";
    type Params = Params;
    type Output = Output;
    type Intent = Intent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "looks at files; makes, copies and removes them, and takes that back",
            details: "`create`, `copy` and `directory` never overwrite: something at the path is an error. A file is \
                      written beside its place under a name of its own and then renamed, so that others see it whole \
                      or not at all.\n\nUndo removes a file only if it still is the one that was made, by inode and \
                      content; a changed one is left and named. A folder is removed if it is empty; with `owned: true` \
                      all that anybody put into it is part of the run and goes with it. A file that `remove` took away \
                      comes back, except in `cleanup`, where it is gone.",
            example: "media:\n  file: { create: /data/media/test.bin, size: 10MB, content: random }\n",
            errors: &[
                ("exists", "something is at the path already; choose another name or remove it"),
                ("not-found", "the folder, or the file to copy, does not exist"),
                ("denied", "this user may not write there; `namei -l PATH` shows why"),
                ("no-space", "the disk is full; what was written is removed again"),
            ],
            on_host: true,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        if view.has("stat") {
            return Description::reads(format!("look at {}", view.show("stat")));
        }
        if view.has("create") {
            let size = match view.get("size").cloned().map(serde_json::from_value::<Bytes>) {
                Some(Ok(size)) => format!(", {size}"),
                Some(Err(_)) => format!(", {}", view.show("size")),
                None => String::new(),
            };
            return Description::changes(
                format!("create {}{size}", view.show("create")),
                "remove it, if unchanged",
            );
        }
        if view.has("copy") {
            let title = format!("copy {} to {}", view.show("copy"), view.show("to"));
            return Description::changes(title, "remove the copy, if unchanged");
        }
        if view.has("directory") {
            let undo = if view.is_true("owned") { "remove it with all in it" } else { "remove it, if empty" };
            return Description::changes(format!("make the folder {}", view.show("directory")), undo);
        }
        Description::changes(format!("remove {}", view.show("remove")), "put it back")
    }

    fn touches(&self, view: &ParamsView<'_>) -> Vec<String> {
        let path = ["create", "to", "remove", "directory"].into_iter().find(|key| view.has(key));
        path.map(|key| format!("the file `{}`", view.show(key))).into_iter().collect()
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        let mut wrong = view.exactly_one(&["stat", "create", "copy", "remove", "directory"]);
        let belongs: [(&str, &[&str]); 7] = [
            ("to", &["copy"]),
            ("size", &["create"]),
            ("content", &["create"]),
            ("text", &["create"]),
            ("mode", &["create", "copy", "directory"]),
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
            for key in view.present(&["size", "content"]) {
                wrong.push((key.into(), format!("`{key}` cannot go with `text`")));
            }
        }
        wrong
    }

    async fn probe(&self, cx: &Context, params: &Params) -> Result<Probe, StepError> {
        let action = params.action()?;
        let now = self.look(cx, action.target()).await?;
        Ok(match (&action, now.exists) {
            (Action::Remove(_), false) => Probe::would_pass("not there"),
            (Action::Remove(_), true) => Probe::would_pass(format!("there, {}", Bytes(now.size))),
            (Action::Create(path) | Action::Copy(_, path) | Action::Directory(path), true) => {
                Probe { now: format!("a {} is there", now.kind), prospect: Prospect::WouldFail(exists(path)) }
            }
            _ => Probe::would_pass("free"),
        })
    }

    async fn intend(&self, cx: &Context, params: &Params) -> Result<Intent, StepError> {
        let action = params.action()?;
        if let Action::Stat(_) = action {
            return Ok(Intent::default());
        }
        params.mode()?;
        let target = action.target();
        let now = self.look(cx, target).await?;
        let unique = content::unique(cx);
        let beside = beside(target, &unique);
        match action {
            Action::Remove(path) if now.exists && now.kind != "file" => Err(StepError::new(
                ErrorClass::Invalid,
                format!("`{path}` is a {}, expected a file", now.kind),
            )),
            Action::Remove(path) if !now.exists && params.must_exist => {
                Err(StepError::new(ErrorClass::NotFound, format!("there is no file `{path}`")))
            }
            Action::Remove(_) => Ok(Intent { beside, found: now.exists.then_some(now), ..Intent::default() }),
            _ if now.exists => Err(exists(target)),
            Action::Copy(from, _) => {
                let sha256 = Some(self.hash(cx, from).await?);
                Ok(Intent { beside, seed: unique, found: None, sha256 })
            }
            _ => Ok(Intent { beside, seed: unique, ..Intent::default() }),
        }
    }

    async fn run(&self, cx: &Context, params: &Params, intent: &Intent) -> Result<Output, StepError> {
        let action = params.action()?;
        let mode = params.mode()?;
        // What cleanup removes is not to come back.
        let aside = cx.phase != Phase::Cleanup;
        match cx.host.is_local() {
            true => local::run(cx, params, &action, mode, intent, aside).await,
            false => remote::run(cx, params, &action, mode, intent, aside).await,
        }
    }

    async fn changes(&self, cx: &Context, params: &Params) -> Option<Box<dyn Changes>> {
        let path = params.stat.as_ref().filter(|_| cx.host.is_local())?;
        Files::watch([std::path::absolute(path).ok()?])
    }

    fn summary(&self, output: &Output) -> String {
        match (output.exists, output.kind.as_str()) {
            (false, _) => "not there".into(),
            (true, "file") => Bytes(output.size).to_string(),
            (true, kind) => kind.to_owned(),
        }
    }

    async fn settle(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
    ) -> Result<Settled<Output>, StepError> {
        let action = params.action()?;
        let mut now = self.look(cx, action.target()).await?;
        let happened = match &action {
            Action::Stat(_) => false,
            Action::Remove(_) => intent.found.is_none() || self.look(cx, &intent.beside).await?.exists,
            Action::Directory(path) if now.kind == "folder" => {
                if !self.is_empty(cx, path).await? {
                    let why = format!("the folder `{path}` is there and not empty: it may be another's");
                    return Ok(Settled::Unclear(why));
                }
                true
            }
            Action::Create(path) | Action::Copy(_, path) if now.kind == "file" => {
                now.sha256 = Some(self.hash(cx, path).await?);
                now.sha256 == content::wanted(params, &action, intent).await?
            }
            Action::Directory(_) | Action::Create(_) | Action::Copy(..) => false,
        };
        Ok(if happened { Settled::Happened(now) } else { Settled::NotHappened })
    }

    async fn undo(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Undone, StepError> {
        let action = params.action()?;
        match cx.host.is_local() {
            true => local::undo(cx, params, &action, intent, output).await,
            false => remote::undo(cx, params, &action, intent, output).await,
        }
    }

    fn by_hand(&self, params: &Params, intent: &Intent) -> Option<ByHand> {
        let command = match params.action().ok()? {
            Action::Stat(_) => return None,
            Action::Create(path) | Action::Copy(_, path) => {
                format!("rm -f -- {} {}", shell_word(path), shell_word(&intent.beside))
            }
            Action::Directory(path) => format!("rm -r -- {}", shell_word(path)),
            Action::Remove(path) => format!("mv -n -- {} {}", shell_word(&intent.beside), shell_word(path)),
        };
        Some(ByHand { host: None, command })
    }

    async fn presence(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Presence, StepError> {
        let action = params.action()?;
        let beside = self.look(cx, &intent.beside).await?;
        if beside.exists {
            return Ok(Presence::Present(leftover(&beside, "it is still there")));
        }
        if let Action::Stat(_) | Action::Remove(_) = action {
            return Ok(Presence::Gone);
        }
        let now = self.look(cx, action.target()).await?;
        let ours = output.is_none_or(|output| output.inode == now.inode);
        Ok(if now.exists && ours {
            Presence::Present(leftover(&now, "it is still there"))
        } else {
            Presence::Gone
        })
    }
}

impl File {
    async fn look(&self, cx: &Context, path: &str) -> Result<Output, StepError> {
        match cx.host.is_local() {
            true => local::stat(path),
            false => remote::stat(cx, path).await,
        }
    }

    async fn hash(&self, cx: &Context, path: &str) -> Result<String, StepError> {
        match cx.host.is_local() {
            true => local::hash(path).await,
            false => remote::hash(cx, path).await,
        }
    }

    async fn is_empty(&self, cx: &Context, path: &str) -> Result<bool, StepError> {
        match cx.host.is_local() {
            true => local::is_empty(path),
            false => remote::is_empty(cx, path).await,
        }
    }
}

fn exists(path: &str) -> StepError {
    StepError::new(ErrorClass::Exists, format!("`{path}` exists already"))
        .hint(format!("choose another name, or look at it: ls -ld {}", shell_word(path)))
}

/// A hidden name of our own in the same folder.
fn beside(path: &str, unique: &str) -> String {
    let path = path.trim_end_matches('/');
    let hidden = format!(".shakedown-{}", &unique[..unique.len().min(24)]);
    match path.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{hidden}"),
        None => hidden,
    }
}

pub(crate) fn leftover(found: &Output, why: &str) -> Leftover {
    let remove = if found.kind == "folder" { "rm -r" } else { "rm" };
    Leftover {
        what: format!("{} `{}`", found.kind, found.path),
        why: why.to_owned(),
        remove_with: format!("{remove} -- {}", shell_word(&found.path)),
    }
}

#[cfg(test)]
mod tests;
