//! `command`: runs a program, or a line of shell, on this machine or a host.

use crate::word::{Word, argv, environment, last_lines, short, stdin};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use engine::{
    ErrorClass, Step, StepError,
    host::{Exec, Output as Ended},
    secret::is_marked,
    step::{Context, Description, Docs, NoIntent, ParamsView},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The step type `command`.
#[derive(Clone, Copy, Debug)]
pub struct Command;

/// What stands below `command`. Exactly one of `run` and `shell`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The program and its arguments; they never pass through a shell.
    run: Option<Vec<Word>>,
    /// A script for `/bin/sh -c`. Values reach it only by `env`: write `"$FILE"`, not an expression.
    shell: Option<String>,
    /// The working directory.
    #[schemars(extend("format" = "path"))]
    dir: Option<String>,
    /// Variables added to the environment.
    #[serde(default)]
    env: BTreeMap<String, Word>,
    /// Text for its standard input; without it, it reads nothing.
    stdin: Option<String>,
    /// Says that the command changes nothing: it may then stand in `precheck`, be probed by the plan and be repeated.
    #[serde(default)]
    reads: bool,
    /// The exit statuses that are a success; `[0]` if not given.
    #[serde(default = "zero")]
    ok_codes: Vec<i32>,
    /// `json`: reads stdout as one JSON value, which `out.json` then shows.
    parse: Option<Parse>,
}

/// How stdout is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Parse {
    /// As one JSON value.
    Json,
}

/// What `out` shows.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The exit status; missing if a signal ended it. On a host, a signal shows as 128 + its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The number of the signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// stdout as text, without its last line feed. Of more than 256 KiB the head and the tail.
    pub stdout: String,
    /// stdout as base64, if it is no UTF-8: exactly the bytes that were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_base64: Option<String>,
    /// stderr as text, likewise.
    pub stderr: String,
    /// stderr as base64, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_base64: Option<String>,
    /// How many bytes stdout had.
    pub stdout_bytes: u64,
    /// How many bytes stderr had.
    pub stderr_bytes: u64,
    /// What stdout says, with `parse: json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Value>,
}

pub(crate) fn zero() -> Vec<i32> {
    vec![0]
}

impl Step for Command {
    const KIND: &'static str = "command";
    type Params = Params;
    type Output = Output;
    type Intent = NoIntent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "runs a program, or a line of shell",
            details: "`run` is a list and never passes through a shell. `shell` is handed to `/bin/sh -c` as it \
                      stands; hand values to it with `env`.\n\n\
                      When the step ends, by itself, by its timeout or with the run, every process that came of it \
                      is ended too. To leave one running for the rest of the run, use `process`.\n\n\
                      Without `reads: true` the command counts as an effect. Only a written `undo` can take it back; \
                      without one, `check --strict` refuses it.",
            example: "backup:\n  command:\n    run: [cp, -a, /etc/app.toml, /etc/app.toml.smoke]\n  undo:\n    \
                      command: { run: [rm, -f, /etc/app.toml.smoke] }\n\
                      version:\n  command: { run: [app, --version], reads: true }\n  \
                      expect: out.stdout.startsWith(\"app 2.\")\n",
            errors: &[
                ("exit", "the status is not among `ok_codes`; the last lines of stderr follow"),
                ("not-found", "the program or the directory does not exist: `command -v PROGRAM`"),
                ("denied", "the program may not be run: `namei -l PROGRAM`"),
                ("corrupt", "stdout is no JSON, though `parse: json` is given"),
            ],
            on_host: true,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        let title = match view.get("shell") {
            Some(_) => format!("run sh: {}", short(&view.show("shell"))),
            None => format!("run {}", short(&view.words("run"))),
        };
        if view.is_true("reads") { Description::reads(title) } else { Description::needs_written_undo(title) }
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        let mut problems = view.exactly_one(&["run", "shell"]);
        if view.get("run").and_then(Value::as_array).is_some_and(Vec::is_empty) {
            problems.push(("run".into(), "the list is empty: expected a program and its arguments".into()));
        }
        if view.has("shell") && (!view.is_known("shell") || view.show("shell").contains("${{")) {
            let message =
                "expressions do not reach a shell script: pass the value by `env` and write \"$NAME\"";
            problems.push(("shell".into(), message.into()));
        }
        problems
    }

    async fn intend(&self, _: &Context, _: &Params) -> Result<NoIntent, StepError> {
        Ok(NoIntent {})
    }

    async fn run(&self, cx: &Context, params: &Params, _: &NoIntent) -> Result<Output, StepError> {
        let argv = match (&params.run, &params.shell) {
            (Some(words), None) => argv(words)?,
            (None, Some(script)) if is_marked(script) => {
                let message = "a secret cannot stand in a script, which would be read as code";
                return Err(
                    StepError::new(ErrorClass::Invalid, message).hint("hand it over by `env`: \"$NAME\"")
                );
            }
            (None, Some(script)) => vec!["/bin/sh".into(), "-c".into(), script.clone()],
            _ => {
                return Err(StepError::new(ErrorClass::Invalid, "expected exactly one of `run`, `shell`"));
            }
        };
        let title = params.shell.as_deref().map_or_else(|| argv.join(" "), str::to_owned);
        let exec = Exec {
            argv,
            env: environment(cx, cx.host.as_ref(), &params.env)?,
            dir: params.dir.clone().or_else(|| cx.default_dir()),
            stdin: stdin(cx, params.stdin.as_deref())?,
            repeatable: params.reads,
            ..Exec::default()
        };
        let ended = cx.exec(exec).await;
        cx.services.note_degraded(cx.host.as_ref());
        let ended = ended?;
        output(&short(&title), ended, &params.ok_codes, params.parse)
    }

    fn summary(&self, output: &Output) -> String {
        let status = match (output.code, output.signal) {
            (Some(0), _) => String::new(),
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "unknown status".into(),
        };
        let first = short(output.stdout.lines().next().unwrap_or_default());
        [status, first].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
    }
}

/// What a command that ended gives to the playbook.
pub(crate) fn output(
    title: &str,
    ended: Ended,
    ok_codes: &[i32],
    parse: Option<Parse>,
) -> Result<Output, StepError> {
    if !ended.code.is_some_and(|code| ok_codes.contains(&code)) {
        if ended.success() {
            let message = format!("`{title}` ended with exit status 0, expected one of {ok_codes:?}");
            return Err(StepError::new(ErrorClass::Exit, message));
        }
        let stdout = ended.stdout_text();
        let error = ended.require_success(title).err();
        let mut error = error.unwrap_or_else(|| StepError::internal("a status is both good and bad"));
        // Many programs explain themselves on stdout.
        if error.details.is_empty() {
            error.details = last_lines(&stdout, 5);
        }
        return Err(error);
    }
    let text = ended.stdout_text();
    let json = match parse {
        Some(Parse::Json) => Some(serde_json::from_str(&text).map_err(|error| {
            let error = match ended.stdout_bytes > ended.stdout.len() as u64 {
                true => "it is too long".to_owned(),
                false => error.to_string(),
            };
            StepError::new(ErrorClass::Corrupt, format!("the output of `{title}` is no JSON: {error}"))
                .detail(short(&text))
        })?),
        None => None,
    };
    let (stdout, stdout_base64) = kept(&ended.stdout);
    let (stderr, stderr_base64) = kept(&ended.stderr);
    Ok(Output {
        code: ended.code,
        signal: ended.signal,
        stdout,
        stdout_base64,
        stderr,
        stderr_base64,
        stdout_bytes: ended.stdout_bytes,
        stderr_bytes: ended.stderr_bytes,
        json,
    })
}

/// The most that a stream may take in the journal as text, in bytes, once it is escaped: a control character takes six.
const MOST_TEXT: usize = 384 * 1024;
/// The same beside the bytes themselves.
const MOST_BESIDE: usize = 32 * 1024;

/// A stream as text, and as base64 if text does not say it all.
fn kept(bytes: &[u8]) -> (String, Option<String>) {
    match str::from_utf8(bytes) {
        Ok(text) => (cut(&without_line_feed(text.to_owned()), MOST_TEXT), None),
        Err(_) => {
            let text = without_line_feed(String::from_utf8_lossy(bytes).into_owned());
            (cut(&text, MOST_BESIDE), Some(BASE64_STANDARD.encode(bytes)))
        }
    }
}

/// The head and the tail of a text that would take more than `most` bytes in JSON.
fn cut(text: &str, most: usize) -> String {
    let cost = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        c if c.is_control() && c.is_ascii() => 6,
        c => c.len_utf8(),
    };
    if text.chars().map(cost).sum::<usize>() <= most {
        return text.to_owned();
    }
    let part = |chars: &mut dyn Iterator<Item = char>| {
        let mut left = most / 2;
        chars
            .take_while(|c| {
                let fits = cost(*c) <= left;
                left = left.saturating_sub(cost(*c));
                fits
            })
            .map(char::len_utf8)
            .sum::<usize>()
    };
    let (head, tail) = (part(&mut text.chars()), part(&mut text.chars().rev()));
    let missing = text.len() - head - tail;
    format!("{}\n[{missing} bytes cut]\n{}", &text[..head], &text[text.len() - tail..])
}

fn without_line_feed(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, check, describe};
    use engine::{ErrorClass, step::Effect};
    use serde_json::json;

    #[tokio::test]
    async fn a_command_gives_its_status_and_its_streams() {
        let bench = Bench::new();
        let params = json!({ "run": ["sh", "-c", "echo \"$A\"; pwd; echo e >&2; exit 3"], "ok_codes": [0, 3],
            "env": { "A": 7 }, "dir": bench.at(".") });
        let out = bench.run("command", params).await.expect("runs");
        assert_eq!(out["code"], 3);
        assert!(out["stdout"].as_str().is_some_and(|text| text.starts_with("7\n/")));
        assert_eq!(out["stderr"], "e");
    }

    #[tokio::test]
    async fn a_bad_status_is_an_error_with_the_lines_that_matter() {
        let bench = Bench::new();
        let params = json!({ "shell": "echo no such table >&2; exit 4" });
        let error = bench.run("command", params).await.expect_err("fails");
        assert_eq!(error.class, ErrorClass::Exit);
        assert!(error.message.contains("exit status 4"), "{}", error.message);
        assert_eq!(error.details, ["no such table"]);
        let error = bench.run("command", json!({ "shell": "kill -9 $$" })).await.expect_err("fails");
        assert!(error.message.contains("signal 9"), "{}", error.message);
        let error =
            bench.run("command", json!({ "run": ["true"], "ok_codes": [1] })).await.expect_err("fails");
        assert!(error.message.contains("exit status 0"), "{}", error.message);
    }

    #[tokio::test]
    async fn stdin_goes_in_and_json_comes_out() {
        let bench = Bench::new();
        let params = json!({ "run": ["cat"], "stdin": "{\"名\": [1]}", "parse": "json" });
        let out = bench.run("command", params).await.expect("runs");
        assert_eq!(out["json"], json!({ "名": [1] }));
        let params = json!({ "run": ["echo", "{"], "parse": "json" });
        assert_eq!(bench.run("command", params).await.expect_err("fails").class, ErrorClass::Corrupt);
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_are_kept_exactly() {
        let bench = Bench::new();
        let out = bench.run("command", json!({ "shell": r"printf 'a\377\000b\n'" })).await.expect("runs");
        assert_eq!(
            (out["stdout"].as_str(), out["stdout_base64"].as_str()),
            (Some("a\u{fffd}\0b"), Some("Yf8AYgo="))
        );
        let text = bench.run("command", json!({ "run": ["echo", "名"] })).await.expect("runs");
        assert_eq!((text["stdout"].as_str(), text.get("stdout_base64")), (Some("名"), None));
    }

    #[test]
    fn a_text_is_cut_by_what_it_takes_in_json() {
        assert_eq!(super::cut("名字", 6), "名字");
        let long = "\u{1}".repeat(100);
        let short = super::cut(&long, 60);
        assert!(short.contains("[90 bytes cut]"), "{short:?}");
        assert_eq!(super::cut("名字名字名字", 9), "名\n[12 bytes cut]\n字");
    }

    #[test]
    fn only_one_that_reads_needs_no_undo() {
        let reads = describe("command", &json!({ "run": ["uname", "-r"], "reads": true }));
        assert_eq!((reads.effect, reads.title.as_str()), (Effect::Reads, "run uname -r"));
        let writes = describe("command", &json!({ "shell": "touch x" }));
        assert_eq!(writes.effect, Effect::NeedsWrittenUndo);
    }

    #[test]
    fn exactly_one_of_run_and_shell() {
        assert_eq!(check("command", &json!({ "run": ["true"] })), Vec::<String>::new());
        assert_eq!(check("command", &json!({})).len(), 1);
        assert_eq!(check("command", &json!({ "run": ["true"], "shell": "true" })).len(), 1);
        assert_eq!(check("command", &json!({ "run": [] })).len(), 1);
    }
}
