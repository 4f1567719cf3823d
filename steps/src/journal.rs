//! `journal`: what the systemd journal holds.

use crate::{
    systemd::{Scope, no_systemd},
    watch::Files,
    word::short,
};
use engine::{
    ErrorClass, Step, StepError,
    host::Exec,
    quantity::Millis,
    step::{Changes, Context, Description, Docs, NoIntent, ParamsView},
};
use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{borrow::Cow, path::Path};

/// The step type `journal`.
#[derive(Clone, Copy, Debug)]
pub struct Journal;

/// How much of what journalctl writes is read, in bytes.
const READ: usize = 32 << 20;
/// How many entries are looked through for a `pattern`.
const SEARCHED: usize = 50_000;
/// The status of the script when systemd does not run.
const NO_SYSTEMD: i32 = 97;

/// What stands below `journal`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The unit; without one, the whole journal.
    unit: Option<String>,
    /// From when: a duration back such as `10m`, `run` (the start of this run), or a time such as
    /// `2025-01-23 10:15:00`. Without it, all there is.
    since: Option<String>,
    /// Only entries after this one: the `cursor` that an earlier `journal` step gave.
    cursor: Option<String>,
    /// Until when, likewise.
    until: Option<String>,
    /// Only entries at least that severe; `err` shows `err`, `crit`, `alert` and `emerg`.
    priority: Option<Priority>,
    /// Only entries whose message this regular expression (of Rust's `regex`) finds.
    pattern: Option<String>,
    /// At most so many entries, the most recent ones; 200 if not given.
    #[serde(default = "two_hundred")]
    max: usize,
    /// `system` (if not given) or `user`: whose units.
    #[serde(default)]
    scope: Scope,
}

fn two_hundred() -> usize {
    200
}

/// How severe an entry is, the most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// The system is unusable.
    Emerg,
    /// Act at once.
    Alert,
    /// Critical.
    Crit,
    /// An error.
    Err,
    /// A warning.
    Warning,
    /// Normal, but of note.
    Notice,
    /// For information; also what a program writes to stdout or stderr without a priority.
    Info,
    /// For debugging.
    Debug,
}

impl Priority {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Emerg, "emerg"),
        (Self::Alert, "alert"),
        (Self::Crit, "crit"),
        (Self::Err, "err"),
        (Self::Warning, "warning"),
        (Self::Notice, "notice"),
        (Self::Info, "info"),
        (Self::Debug, "debug"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(one, _)| *one == self).map_or("", |(_, name)| name)
    }
}

/// What `out` shows.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The entries, the oldest first.
    pub entries: Vec<Entry>,
    /// How many entries there are in `entries`.
    pub count: usize,
    /// Whether there were more than `max`, or than could be searched.
    pub more: bool,
    /// Where the journal stood: the newest entry looked at, also if `pattern` does not find it. Null if there was none.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// When it was written, RFC 3339 in UTC.
    pub time: String,
    /// Its priority by name, such as `err`; empty if it has none.
    pub priority: String,
    /// The unit, or what the program calls itself.
    pub unit: String,
    /// What it says. Bytes that are no UTF-8 show as U+FFFD.
    pub message: String,
    /// The number of the process that wrote it; 0 if unknown.
    pub pid: u32,
}

impl Step for Journal {
    const KIND: &'static str = "journal";
    type Params = Params;
    type Output = Output;
    type Intent = NoIntent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "entries of the systemd journal",
            details: "Gives the most recent entries that match. That there are none is no error: say what you expect \
                      with `expect`. What a daemon prints has priority `info`, whatever it says: to find such errors, \
                      use `pattern`.\n\n\
                      Durations are counted on the clock of the machine that is asked.",
            example: "quiet:\n  journal: { unit: media-sync-daemon, since: 10m, priority: err }\n  \
                      expect: size(out.entries) == 0\n\
                      no_mismatch:\n  journal: { unit: media-sync-daemon, since: run, pattern: \"(?i)checksum mismatch\" }\n  \
                      expect: out.count == 0\n",
            errors: &[
                ("denied", "this user may not read the journal: `sudo usermod -aG systemd-journal USER`"),
                ("invalid", "`pattern` is no regular expression, or journalctl cannot read a time"),
                ("unsupported", "systemd does not run here: `ps -p 1 -o comm=`"),
            ],
            on_host: true,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        let mut title = match view.has("unit") {
            true => format!("journal of {}", view.show("unit")),
            false => "journal".to_owned(),
        };
        match view.show("since").as_str() {
            "" => {}
            "run" => title.push_str(" since the run began"),
            since if since.parse::<Millis>().is_ok() => title.push_str(&format!(", last {since}")),
            since => title.push_str(&format!(" since {since}")),
        }
        if view.has("cursor") {
            title.push_str(" after a cursor");
        }
        if view.has("priority") {
            title.push_str(&format!(", {} or worse", view.show("priority")));
        }
        if view.has("pattern") {
            title.push_str(&format!(", matching {}", short(&view.show("pattern"))));
        }
        Description::reads(title)
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        if view.is_known("pattern")
            && let Some(Err(error)) = view.get("pattern").and_then(Value::as_str).map(Regex::new)
        {
            problems.push(("pattern".into(), bad_pattern(&view.show("pattern"), &error)));
        }
        problems
    }

    async fn intend(&self, _: &Context, _: &Params) -> Result<NoIntent, StepError> {
        Ok(NoIntent {})
    }

    async fn run(&self, cx: &Context, params: &Params, _: &NoIntent) -> Result<Output, StepError> {
        let pattern = match &params.pattern {
            Some(text) => Some(
                Regex::new(text)
                    .map_err(|error| StepError::new(ErrorClass::Invalid, bad_pattern(text, &error)))?,
            ),
            None => None,
        };
        // Where systemd does not run, journalctl finds no entries and says nothing: that must not pass for quiet.
        let script = format!("[ -d /run/systemd/system ] || exit {NO_SYSTEMD}; exec journalctl \"$@\"");
        let mut argv: Vec<String> = vec!["/bin/sh".into(), "-c".into(), script, "sh".into()];
        argv.extend(arguments(params, &cx.services.run.started_at, Timestamp::now())?);
        // It may be run twice; what it writes is newest first, so that a cut loses the oldest.
        let ended = cx.exec(Exec::new(argv).env("LC_ALL", "C").keep(READ).repeatable()).await?;
        let stderr = ended.stderr_text();
        if ended.code == Some(NO_SYSTEMD) {
            return Err(no_systemd(cx));
        }
        // Who asks for units of their own need not see the rest.
        let hidden = params.scope == Scope::System && stderr.contains("not seeing messages");
        if hidden || stderr.contains("insufficient permissions") {
            return Err(StepError::new(ErrorClass::Denied, "this user may not read the whole journal")
                .hint("sudo usermod -aG systemd-journal $USER, then log in again")
                .detail(stderr.trim().to_owned()));
        }
        if ended.code == Some(127) {
            return Err(no_systemd(cx).detail(stderr.trim().to_owned()));
        }
        if !ended.success() && stderr.contains("Failed to parse timestamp") {
            let message = format!("journalctl cannot read the time: {}", stderr.trim());
            return Err(StepError::new(ErrorClass::Invalid, message)
                .hint("write `10m`, `run`, `2025-01-23 10:15:00` or RFC 3339"));
        }
        if !ended.success() && stderr.contains("seek to cursor") {
            let message = format!("`cursor`: journalctl does not know it: {}", stderr.trim());
            return Err(StepError::new(ErrorClass::Invalid, message)
                .hint("take it from `steps.ID.out.cursor` of a `journal` step on the same machine"));
        }
        // Without a match some versions end with 1 and say nothing.
        let silent = ended.code == Some(1) && stderr.trim().is_empty();
        if !ended.success() && !silent {
            ended.require_success("journalctl")?;
            return Ok(Output { entries: Vec::new(), count: 0, more: false, cursor: params.cursor.clone() });
        }
        let cut = ended.stdout_bytes > READ as u64;
        let text = if cut { &ended.stdout[..READ / 2] } else { &ended.stdout[..] };
        let mut found = collect(&String::from_utf8_lossy(text), pattern.as_ref(), params, cut);
        found.cursor = found.cursor.or_else(|| params.cursor.clone());
        Ok(found)
    }

    async fn changes(&self, cx: &Context, _: &Params) -> Option<Box<dyn Changes>> {
        // journald touches its file after each entry, at most every quarter of a second.
        let machine =
            cx.host.is_local().then(|| std::fs::read_to_string("/etc/machine-id").ok()).flatten()?;
        let folders =
            ["/run/log/journal", "/var/log/journal"].map(|folder| Path::new(folder).join(machine.trim()));
        let mut readable = folders.into_iter().filter(|folder| std::fs::read_dir(folder).is_ok()).peekable();
        readable.peek()?;
        Files::watch_folders(cx, readable)
    }

    fn summary(&self, output: &Output) -> String {
        let more = if output.more { "more than " } else { "" };
        match (output.count, output.entries.last()) {
            (0, _) => "no entries".into(),
            (1, Some(entry)) => format!("1 entry: {}", short(&entry.message)),
            (count, Some(entry)) => format!("{more}{count} entries, the last: {}", short(&entry.message)),
            (count, None) => format!("{count} entries"),
        }
    }
}

fn bad_pattern(pattern: &str, error: &regex::Error) -> String {
    let why = error.to_string();
    let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
    format!("`{pattern}` is no regular expression: {why}")
}

/// The arguments of journalctl.
fn arguments(params: &Params, run_started: &str, now: Timestamp) -> Result<Vec<String>, StepError> {
    let mut argv: Vec<String> = [
        "--output=json",
        "--output-fields=MESSAGE,PRIORITY,UNIT,USER_UNIT,_SYSTEMD_UNIT,_SYSTEMD_USER_UNIT,SYSLOG_IDENTIFIER,_PID",
        "--no-pager",
        "--all",
    ]
    .map(str::to_owned)
    .to_vec();
    if params.scope == Scope::User {
        argv.push("--user".into());
    }
    if let Some(unit) = &params.unit {
        if unit.is_empty() || unit.contains('\0') {
            return Err(StepError::new(
                ErrorClass::Invalid,
                "`unit` is empty: leave it out for the whole journal",
            ));
        }
        argv.push(format!("--unit={unit}"));
    }
    if let Some(priority) = params.priority {
        argv.push(format!("--priority={}", priority.name()));
    }
    for (name, time) in [("since", &params.since), ("until", &params.until)] {
        if let Some(time) = time {
            argv.push(format!("--{name}={}", moment(time, run_started, now)?));
        }
    }
    match &params.cursor {
        // Backwards from a cursor would be what was before it.
        Some(cursor) => argv.push(format!("--after-cursor={cursor}")),
        None => argv.push("--reverse".into()),
    }
    // One more than wanted tells whether there are more.
    let lines = if params.pattern.is_some() || params.cursor.is_some() {
        SEARCHED
    } else {
        params.max.min(SEARCHED) + 1
    };
    argv.push(format!("--lines={lines}"));
    Ok(argv)
}

/// A time as journalctl takes it. Durations stay durations: the clock of the machine that is asked counts.
fn moment<'a>(text: &'a str, run_started: &str, now: Timestamp) -> Result<Cow<'a, str>, StepError> {
    let back = |duration: SignedDuration| format!("-{}ms", duration.as_millis().max(0));
    if text == "run" {
        let started: Timestamp = run_started.parse().map_err(|error| {
            StepError::internal(format!("the start of the run, `{run_started}`: {error}"))
        })?;
        return Ok(back(now.duration_since(started)).into());
    }
    if let Ok(duration) = text.parse::<Millis>() {
        return Ok(format!("-{}ms", duration.0).into());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        let micros = time.as_microsecond();
        return Ok(format!("@{}.{:06}", micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000)).into());
    }
    Ok(text.into())
}

/// Chooses the entries from what journalctl wrote: the newest first, after a cursor the oldest first.
fn collect(text: &str, pattern: Option<&Regex>, params: &Params, cut: bool) -> Output {
    let max = params.max;
    let mut lines: Vec<&str> = text.lines().collect();
    if cut {
        // The last line is torn.
        lines.pop();
    }
    if params.cursor.is_some() {
        lines.reverse();
    }
    let cursor = lines.iter().find_map(|line| {
        let fields: Value = serde_json::from_str(line).ok()?;
        fields.get("__CURSOR")?.as_str().map(str::to_owned)
    });
    let (mut seen, mut more) = (0, cut);
    let mut entries = Vec::new();
    for entry in lines.into_iter().filter_map(parse) {
        seen += 1;
        if pattern.is_some_and(|pattern| !pattern.is_match(&entry.message)) {
            continue;
        }
        if entries.len() == max {
            more = true;
            break;
        }
        entries.push(entry);
    }
    entries.reverse();
    Output { count: entries.len(), entries, more: more || seen >= SEARCHED, cursor }
}

/// Reads a line of `-o json`. Every value is text; one with bytes that are no UTF-8, or with control characters, is a
/// list of bytes, and a field that an entry has several times is a list of such values.
fn parse(line: &str) -> Option<Entry> {
    let fields: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| fields.get(key).map(as_text).filter(|text| !text.is_empty());
    let time =
        text("__REALTIME_TIMESTAMP")?.parse().ok().and_then(|us| Timestamp::from_microsecond(us).ok())?;
    let priority = text("PRIORITY").and_then(|number| number.parse::<usize>().ok());
    // What systemd itself says of a unit names it in UNIT; what the unit writes, in _SYSTEMD_UNIT.
    let unit = ["UNIT", "USER_UNIT", "_SYSTEMD_USER_UNIT", "_SYSTEMD_UNIT", "SYSLOG_IDENTIFIER"]
        .into_iter()
        .find_map(text);
    Some(Entry {
        time: time.to_string(),
        priority: priority
            .and_then(|at| Priority::ALL.get(at))
            .map_or(String::new(), |(_, name)| (*name).to_owned()),
        unit: unit.unwrap_or_default(),
        message: text("MESSAGE").unwrap_or_default(),
        pid: text("_PID").and_then(|pid| pid.parse().ok()).unwrap_or(0),
    })
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let bytes: Option<Vec<u8>> =
                items.iter().map(|item| item.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect();
            match bytes {
                Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                None => items.first().map(as_text).unwrap_or_default(),
            }
        }
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Params, arguments, collect, moment, parse};
    use crate::testing::{Bench, check, describe};
    use engine::ErrorClass;
    use jiff::Timestamp;
    use regex::Regex;
    use serde_json::json;

    const LINE: &str = r#"{"_PID":"412","PRIORITY":"6","_SYSTEMD_UNIT":"media-sync-daemon.service","__REALTIME_TIMESTAMP":"1737627300123456","MESSAGE":"ERROR checksum mismatch: 文件.mp4","SYSLOG_IDENTIFIER":"media-syncd","__CURSOR":"s=1;i=2","__MONOTONIC_TIMESTAMP":"99","_BOOT_ID":"b"}"#;
    const OF_SYSTEMD: &str = r#"{"_PID":"1","__REALTIME_TIMESTAMP":"1795497242409593","PRIORITY":"4","MESSAGE":"crash.service: Failed with result 'exit-code'.","_BOOT_ID":"a151fe64ee114d80bad041b20d8c1e31","SYSLOG_IDENTIFIER":"systemd","__CURSOR":"s=7f281f9755244ce6b22bca21d9391554;i=34","__MONOTONIC_TIMESTAMP":"7638312060","UNIT":"crash.service","_SYSTEMD_UNIT":"init.scope"}"#;
    const BINARY: &str = r#"{"__CURSOR":"s=7f281f9755244ce6b22bca21d9391554;i=3a","_PID":"93","__MONOTONIC_TIMESTAMP":"7638410976","_BOOT_ID":"a151fe64ee114d80bad041b20d8c1e31","MESSAGE":[98,105,110,255,27,120],"SYSLOG_IDENTIFIER":"bintest","__REALTIME_TIMESTAMP":"1795497242508509","PRIORITY":"3"}"#;

    #[test]
    fn entries_of_all_kinds_are_read() {
        let entry = parse(LINE).expect("reads");
        assert_eq!((entry.time.as_str(), entry.priority.as_str()), ("2025-01-23T10:15:00.123456Z", "info"));
        assert_eq!((entry.unit.as_str(), entry.pid), ("media-sync-daemon.service", 412));
        assert_eq!(entry.message, "ERROR checksum mismatch: 文件.mp4");
        let entry = parse(OF_SYSTEMD).expect("reads");
        assert_eq!((entry.priority.as_str(), entry.unit.as_str()), ("warning", "crash.service"));
        let entry = parse(BINARY).expect("reads");
        assert_eq!(
            (entry.message.as_str(), entry.unit.as_str(), entry.pid),
            ("bin\u{fffd}\u{1b}x", "bintest", 93)
        );
        assert_eq!(parse("-- No entries --"), None);
    }

    #[test]
    fn the_most_recent_matches_are_kept_in_order() {
        let text = [BINARY, OF_SYSTEMD, LINE].join("\n");
        let up_to = |max: usize| -> Params { serde_json::from_value(json!({ "max": max })).expect("reads") };
        let all = collect(&text, None, &up_to(3), false);
        assert_eq!(all.cursor.as_deref(), Some("s=7f281f9755244ce6b22bca21d9391554;i=3a"), "of the newest");
        assert_eq!((all.count, all.more, all.entries[0].pid), (3, false, 412));
        let two = collect(&text, None, &up_to(2), false);
        assert_eq!((two.count, two.more, two.entries[0].pid), (2, true, 1));
        let found = collect(&text, Some(&Regex::new("(?i)CHECKSUM").expect("valid")), &up_to(1), false);
        assert_eq!((found.count, found.more, found.entries[0].pid), (1, false, 412));
        assert_eq!(collect(&text, None, &up_to(3), true).count, 2, "the torn last line is left out");
    }

    #[test]
    fn times_are_written_as_journalctl_takes_them() {
        let now: Timestamp = "2025-01-23T10:20:00Z".parse().expect("a time");
        let moment =
            |text: &str| moment(text, "2025-01-23T11:15:00+01:00", now).expect("a time").into_owned();
        assert_eq!(moment("10m"), "-600000ms");
        assert_eq!(moment("run"), "-300000ms");
        assert_eq!(moment("2025-01-23T10:15:00.5Z"), "@1737627300.500000");
        assert_eq!(moment("yesterday"), "yesterday");
    }

    #[test]
    fn nothing_of_the_playbook_can_become_an_option() {
        let params: Params = serde_json::from_value(json!({
            "unit": "--vacuum-size=1", "since": "--rotate", "priority": "err", "max": 5,
        }))
        .expect("reads");
        let argv = arguments(&params, "", Timestamp::UNIX_EPOCH).expect("made");
        assert!(argv.contains(&"--unit=--vacuum-size=1".into()) && argv.contains(&"--since=--rotate".into()));
        assert!(argv.contains(&"--priority=err".into()) && argv.contains(&"--lines=6".into()));
    }

    #[tokio::test]
    async fn a_machine_without_systemd_is_never_quiet() {
        let result = Bench::new().run("journal", json!({ "since": "1s", "max": 1 })).await;
        if std::path::Path::new("/run/systemd/system").exists() {
            assert!(result.is_ok() || result.is_err_and(|error| error.class == ErrorClass::Denied));
        } else {
            assert_eq!(result.expect_err("no systemd").class, ErrorClass::Unsupported);
        }
    }

    #[test]
    fn what_it_reads_is_told_beforehand() {
        let params = json!({ "unit": "a", "since": "10m", "priority": "err", "pattern": "x" });
        assert_eq!(describe("journal", &params).title, "journal of a, last 10m, err or worse, matching x");
        let problems = check("journal", &json!({ "pattern": "(" }));
        assert!(problems[0].contains("unclosed group"), "{problems:?}");
    }
}
