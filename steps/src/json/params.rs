//! What stands below `json`, and what is said of it before it runs.

use super::pointer;
use crate::checks::Checks;
use engine::{
    quantity::Millis,
    step::{Description, ParamsView},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

const ACTIONS: [&str; 5] = ["get", "set", "append", "remove", "check"];

/// `path` and exactly one of `get`, `set`, `append`, `remove` and `check`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The document. Made only with `create`.
    #[schemars(extend("format" = "local-path"))]
    pub(super) path: String,
    /// The pointer of the value to read, such as `/jobs/0/name`; an empty text is the whole document.
    #[serde(default)]
    pub(super) get: Option<String>,
    /// For `get` of an array: only the element that has these values, each at a pointer within it, such as
    /// `{/name: smoke}`; of several the first.
    #[serde(default, rename = "where")]
    pub(super) wanted: Option<Map<String, Value>>,
    /// A value to put in place of another or to add to an object; undone if it still is what was set.
    #[serde(default)]
    pub(super) set: Option<Set>,
    /// An element to add to the end of an array; undone by removing it, if it still is as it was written.
    #[serde(default)]
    pub(super) append: Option<Append>,
    /// The pointer of a value to remove; undone by putting it back, except in `cleanup`.
    #[serde(default)]
    pub(super) remove: Option<String>,
    /// What must hold of the document.
    #[serde(default)]
    pub(super) check: Option<Checks<Check>>,
    /// For `append`: the pointer, within `value`, of what tells the element from all others; without it an element is
    /// known by being equal to `value`.
    #[serde(default)]
    pub(super) id: Option<String>,
    /// For `set` and `append`: make the document if it does not exist; the undo removes it, if nobody else has written
    /// into it.
    #[serde(default)]
    pub(super) create: bool,
    /// The file that is locked, such as `FILE.lock`; the document itself if not given. It is never made.
    #[serde(default)]
    #[schemars(extend("format" = "local-path"))]
    pub(super) lock: Option<String>,
    /// How long to wait for the lock while another program holds it; `30s` if not given.
    #[serde(default = "thirty_seconds")]
    pub(super) lock_timeout: Millis,
}

fn thirty_seconds() -> Millis {
    Millis(30_000)
}

/// A value and its place.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The pointer of the value; what it is in must exist.
    pub(super) at: String,
    /// The value.
    pub(super) value: Value,
}

/// An element and its array.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Append {
    /// The pointer of the array.
    pub(super) to: String,
    /// The element.
    pub(super) value: Value,
}

/// A property of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The file is there.
    Exists,
    /// It is JSON.
    Valid,
    /// It can be changed: its lock is free, no key is there twice, owner and folder allow it.
    Writable,
}

impl Params {
    /// Whether the document is changed.
    pub(super) fn is_change(&self) -> bool {
        self.set.is_some() || self.append.is_some() || self.remove.is_some()
    }

    /// The pointer of the action; of `check` that of the whole.
    pub(super) fn pointer(&self) -> &str {
        let set = self.set.as_ref().map(|set| set.at.as_str());
        let append = self.append.as_ref().map(|append| append.to.as_str());
        set.or(append).or(self.get.as_deref()).or(self.remove.as_deref()).unwrap_or_default()
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        self.check.as_ref().map(|checks| checks.list().to_vec()).unwrap_or_default()
    }
}

pub(super) fn describe(view: &ParamsView<'_>) -> Description {
    let path = view.show("path");
    let file = path.rsplit('/').next().unwrap_or_default();
    let within = |action: &str, key: &str| {
        let at = view.get(action).and_then(|it| it.get(key)).and_then(Value::as_str).unwrap_or("?");
        if at.is_empty() { "all".to_owned() } else { at.to_owned() }
    };
    if view.has("set") {
        let title = format!("set {} of {file}", within("set", "at"));
        return Description::changes(title, "put back what was there, if unchanged");
    }
    if view.has("append") {
        let title = format!("append to {} of {file}", within("append", "to"));
        return Description::changes(title, "remove that element, if unchanged");
    }
    if view.has("remove") {
        return Description::changes(format!("remove {} of {file}", view.show("remove")), "put it back");
    }
    if view.has("check") {
        return Description::reads(format!("check {path}: {}", view.words("check")));
    }
    let what = if view.has("where") { "an element of " } else { "" };
    match view.show("get").as_str() {
        "" if what.is_empty() => Description::reads(format!("get all of {file}")),
        "" => Description::reads(format!("get {what}{file}")),
        at => Description::reads(format!("get {what}{at} of {file}")),
    }
}

pub(super) fn check(view: &ParamsView<'_>) -> Vec<(String, String)> {
    let mut wrong = view.exactly_one(&ACTIONS);
    if view.has("create") && view.present(&["set", "append"]).is_empty() {
        wrong.push(("create".into(), "`create` goes with `set` or `append`".into()));
    }
    if view.has("id") && !view.has("append") {
        wrong.push(("id".into(), "`id` goes with `append`".into()));
    }
    if view.has("where") && !view.has("get") {
        wrong.push(("where".into(), "`where` goes with `get`".into()));
    }
    let keys = view.get("where").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    for key in keys.filter(|key| !key.contains("${")) {
        if let Err(error) = pointer::parse(key) {
            wrong.push(("where".into(), error.message));
        }
    }
    let pointers =
        [("get", None), ("remove", None), ("id", None), ("set", Some("at")), ("append", Some("to"))];
    for (key, within) in pointers {
        let value = view.get(key).and_then(|value| within.map_or(Some(value), |within| value.get(within)));
        let Some(text) = value.and_then(Value::as_str).filter(|text| !text.contains("${")) else { continue };
        match pointer::parse(text) {
            Err(error) => {
                let hint = error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                wrong.push((key.into(), format!("{}{hint}", error.message)));
            }
            Ok(tokens) if key == "set" && tokens.last().is_some_and(|last| last == "-") => {
                wrong.push((key.into(), "`-` is the place behind an array: use `append`".into()));
            }
            Ok(tokens) if key == "remove" && tokens.is_empty() => {
                wrong
                    .push((key.into(), "`remove` names the whole document: expected something in it".into()));
            }
            Ok(_) => {}
        }
    }
    wrong
}
