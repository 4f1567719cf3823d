//! `find`: which processes are meant, and whether they are as they should be.

use super::{
    Output,
    look::{self, Seen, Units},
};
use crate::{place::check_path, word::short};
use engine::{
    ErrorClass, StepError,
    host::shell_word,
    local::reading,
    step::{Context, ParamsView},
};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{io::Read as _, path::Path};

/// How many of the processes found are listed.
const LISTED: usize = 100;

/// Which processes to look for: all that is given must hold.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Find {
    /// The one with this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pid: Option<u32>,
    /// For `pid`: only if it began then, in clock ticks as `out.processes[0].start_time` of an earlier look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) start_time: Option<u64>,
    /// The one whose number stands in this file. No such file, or an empty one, means that none runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path"))]
    pub(super) pid_file: Option<String>,
    /// Those that go by this name: the program's, without a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// Those whose command line, its words parted by blanks, this regular expression (of Rust's `regex`) finds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) command_line: Option<String>,
}

/// What must be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// There is at least one.
    Running,
    /// There is none.
    Gone,
}

/// The keys of which one at least is needed.
const KEYS: [&str; 4] = ["pid", "pid_file", "name", "command_line"];

/// What is looked for, in a few words, from what is written.
pub(super) fn title(find: Option<&Value>) -> String {
    let mut words = Vec::new();
    for key in KEYS {
        let Some(value) = find.and_then(|find| find.get(key)) else { continue };
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        words.push(match key {
            "pid" => format!("with the pid {value}"),
            "pid_file" => format!("of `{value}`"),
            "name" => format!("named `{value}`"),
            _ => format!("whose command line matches `{}`", short(&value)),
        });
    }
    words.join(", ")
}

/// What is wrong with what is written.
pub(super) fn check(view: &ParamsView<'_>) -> Option<String> {
    let find = view.get("find")?.as_object()?;
    if !KEYS.iter().any(|key| find.contains_key(*key)) {
        return Some("expected at least one of `pid`, `pid_file`, `name`, `command_line`".into());
    }
    if find.contains_key("pid") && find.contains_key("pid_file") {
        return Some("`pid` and `pid_file` cannot both say which process is meant".into());
    }
    if find.contains_key("start_time") && !find.contains_key("pid") {
        return Some(
            "`start_time` tells whether the process with a `pid` is still the same: `pid` is missing".into(),
        );
    }
    if !view.is_known("find") {
        return None;
    }
    pattern(find.get("command_line").and_then(Value::as_str)).err().map(|error| error.message)
}

fn pattern(text: Option<&str>) -> Result<Option<Regex>, StepError> {
    let Some(text) = text else { return Ok(None) };
    Regex::new(text).map(Some).map_err(|error| {
        let message = format!("`command_line` is no regular expression: `{text}`");
        StepError::new(ErrorClass::Invalid, message).detail(error.to_string())
    })
}

/// [`Find`] with its pattern compiled.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) find: Find,
    pattern: Option<Regex>,
}

impl Wanted {
    /// # Errors
    /// Of [`check`], for values that were not known then.
    pub(super) fn new(find: &Find) -> Result<Self, StepError> {
        if let Some(path) = &find.pid_file {
            check_path("pid_file", path)?;
        }
        let invalid = |message: &str| Err(StepError::new(ErrorClass::Invalid, message));
        if find.name.as_deref() == Some("") {
            return invalid("`name` is empty: expected the name of a program");
        }
        if find.pid == Some(0) {
            return invalid("`pid` is 0: no process has this number");
        }
        Ok(Self { find: find.clone(), pattern: pattern(find.command_line.as_deref())? })
    }

    /// Whether it is meant, by all but the pid file.
    pub(super) fn matches(&self, seen: &Seen) -> bool {
        self.find.pid.is_none_or(|pid| pid == seen.pid)
            && self.find.start_time.is_none_or(|time| time == seen.start_time)
            && self.find.name.as_deref().is_none_or(|name| seen.is_named(name))
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&seen.command_line()))
    }

    /// The only number that it can have, `Some(None)` if there can be none now; `None` for any.
    pub(super) fn only(&self) -> Result<Option<Option<u32>>, StepError> {
        Ok(match (&self.find.pid_file, self.find.pid) {
            (Some(path), _) => Some(in_file(path)?),
            (None, Some(pid)) => Some(Some(pid)),
            (None, None) => None,
        })
    }

    /// Whether a process of a host may be meant, given what the pid file holds there: none is if the file is empty.
    fn may_be_there(&self, pid_file: &str) -> bool {
        self.find.pid_file.is_none() || !pid_file.is_empty()
    }

    /// Those of this machine that are meant. Blocks.
    pub(super) fn here(&self) -> Result<Vec<Seen>, StepError> {
        let me = std::process::id();
        let seen = match self.only()? {
            Some(pid) => pid.map(look::one).transpose()?.flatten().into_iter().collect(),
            None => look::all()?,
        };
        let named = self.find.pid.is_some() || self.find.pid_file.is_some();
        let seen: Vec<_> =
            seen.into_iter().filter(|seen| (named || seen.pid != me) && self.matches(seen)).collect();
        // One of another user may be there and not be seen.
        if seen.is_empty() && !named && look::others_are_hidden() {
            return Err(look::hidden("processes"));
        }
        Ok(seen)
    }
}

/// The number in a pid file of this machine.
fn in_file(path: &str) -> Result<Option<u32>, StepError> {
    let mut text = Vec::new();
    match reading::open(Path::new(path)).and_then(|file| file.take(64).read_to_end(&mut text)) {
        Ok(_) => number(path, &String::from_utf8_lossy(&text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StepError::io(format!("read `{path}`"), &error)),
    }
}

/// The number in the text of a pid file: its first word.
fn number(path: &str, text: &str) -> Result<Option<u32>, StepError> {
    let Some(word) = text.split_whitespace().next() else { return Ok(None) };
    word.parse().map(Some).map_err(|_| {
        let message = format!("`{path}` holds `{}`, expected the number of a process", word.escape_debug());
        StepError::expectation(message).hint(format!("cat {}", shell_word(path)))
    })
}

/// Looks.
///
/// # Errors
/// It cannot be told, or `is` does not hold.
pub(super) async fn find(cx: &Context, find: &Find, is: Option<State>) -> Result<Output, StepError> {
    let wanted = Wanted::new(find)?;
    let (mut seen, units) = if cx.host.is_local() { here(wanted).await? } else { there(cx, &wanted).await? };
    seen.sort_by_key(|seen| (seen.start_time, seen.pid));
    judge(find, is, &seen)?;
    Ok(Output {
        pid: seen.first().map(|seen| seen.pid),
        log: None,
        running: Some(!seen.is_empty()),
        count: Some(seen.len()),
        processes: seen.iter().take(LISTED).map(|seen| seen.to_running(units)).collect(),
    })
}

async fn here(wanted: Wanted) -> Result<(Vec<Seen>, Units), StepError> {
    // A process that hangs in the kernel may hold up who asks for its command line: not on a thread that others need.
    tokio::task::spawn_blocking(move || Ok((wanted.here()?, look::units())))
        .await
        .map_err(|error| StepError::internal(format!("cannot look for processes: {error}")))?
}

async fn there(cx: &Context, wanted: &Wanted) -> Result<(Vec<Seen>, Units), StepError> {
    let path = wanted.find.pid_file.as_deref();
    let mut found = look::elsewhere(cx, wanted.find.pid, path).await?;
    if let Some(path) = path {
        let pid = number(path, &found.pid_file)?;
        found.seen.retain(|seen| Some(seen.pid) == pid);
    }
    found.seen.retain(|seen| wanted.matches(seen));
    if found.seen.is_empty() && found.others_are_hidden && wanted.may_be_there(&found.pid_file) {
        return Err(look::hidden(&format!("processes on `{}`", cx.host.name())));
    }
    Ok((found.seen, found.units))
}

fn judge(find: &Find, is: Option<State>, seen: &[Seen]) -> Result<(), StepError> {
    let what = || title(serde_json::to_value(find).ok().as_ref());
    match (is, seen) {
        (Some(State::Running), []) => {
            let hint = match (&find.pid, &find.pid_file, &find.name) {
                (Some(pid), ..) => format!("ps -fp {pid}"),
                (_, Some(path), _) => {
                    let path = shell_word(path);
                    format!("cat {path}; ps -fp \"$(cat {path})\"")
                }
                (_, _, Some(name)) => format!("ps -ef | grep -F -- {}", shell_word(name)),
                _ => "ps -ef".to_owned(),
            };
            Err(StepError::expectation(format!("no process runs {}", what())).hint(hint))
        }
        (Some(State::Gone), [first, rest @ ..]) => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            let message = format!(
                "the process {} still runs: pid {}{more}, `{}`",
                what(),
                first.pid,
                short(&if first.words.is_empty() { first.name.clone() } else { first.command_line() })
            );
            Err(StepError::expectation(message).hint(format!("ps -fp {}", first.pid)))
        }
        _ => Ok(()),
    }
}
