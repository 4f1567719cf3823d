//! `process`: a background process that lives as long as the run.

use crate::word::{Word, argv, environment, last_lines, short};
use engine::{
    ErrorClass, Step, StepError,
    host::Exec,
    local::process::{Background, Tree, spawn_background},
    quantity::Millis,
    step::{
        Condition, Context, Description, Docs, Leftover, Nested, ParamsView, Presence, Probe, Settled, Undone,
    },
};
use nix::sys::signal::Signal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The step type `process`.
#[derive(Clone, Copy, Debug)]
pub struct Process;

/// What stands below `process`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The program and its arguments; they never pass through a shell.
    run: Vec<Word>,
    /// The working directory.
    dir: Option<String>,
    /// Variables added to the environment.
    #[serde(default)]
    env: BTreeMap<String, Word>,
    /// A read-only step that is tried until it succeeds: only then is the process ready.
    ready: Option<Nested>,
    /// A condition on the output of `ready`, as `out`, that must hold too.
    ready_when: Option<Condition>,
    /// How long it may take to be ready; `10s` if not given.
    #[serde(default = "ten_seconds")]
    ready_timeout: Millis,
    /// The signal that stops it; `TERM` if not given.
    #[serde(default)]
    stop_signal: StopSignal,
    /// How long it may take to stop before it is killed; `5s` if not given.
    #[serde(default = "five_seconds")]
    stop_grace: Millis,
}

/// A signal that asks a process to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Term,
    /// SIGINT.
    Int,
    /// SIGHUP.
    Hup,
    /// SIGQUIT.
    Quit,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGKILL.
    Kill,
}

impl StopSignal {
    fn signal(self) -> Signal {
        match self {
            Self::Term => Signal::SIGTERM,
            Self::Int => Signal::SIGINT,
            Self::Hup => Signal::SIGHUP,
            Self::Quit => Signal::SIGQUIT,
            Self::Usr1 => Signal::SIGUSR1,
            Self::Usr2 => Signal::SIGUSR2,
            Self::Kill => Signal::SIGKILL,
        }
    }
}

fn ten_seconds() -> Millis {
    Millis(10_000)
}

fn five_seconds() -> Millis {
    Millis(5_000)
}

/// What `out` shows.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The number of the process.
    pub pid: u32,
    /// The file with its stdout and stderr; it goes with the run.
    pub log: String,
}

/// What is durable before the process starts: the mark that it will carry.
#[derive(Debug, Serialize, Deserialize)]
pub struct Intent {
    tree: Tree,
    log: PathBuf,
}

impl Step for Process {
    const KIND: &'static str = "process";
    type Params = Params;
    type Output = Output;
    type Intent = Intent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "starts a background process for the run",
            details: "The process runs beside the steps that follow and is stopped, with all that came of it, when \
                      the run undoes its effects. It carries a mark in its environment, `SHAKEDOWN_TREE`, by which a \
                      recovery finds and stops it even after this program was killed.\n\n\
                      With `ready` the step ends when that step succeeds and `ready_when` holds; without, at once. \
                      Its stdout and stderr go to the file `out.log`. That it ends later by itself is no error of \
                      this step: watch it with another.",
            example: "daemon:\n  process:\n    run: [media-syncd, --config, daemon.toml]\n    \
                      ready: { tcp: { host: 127.0.0.1, port: 8080 } }\n    ready_timeout: 20s\n",
            errors: &[
                ("exit", "it ended before it was ready; the last lines of its log follow"),
                ("timeout", "it was not ready within `ready_timeout`; the last trouble of `ready` follows"),
                ("not-found", "the program or the directory does not exist: `command -v PROGRAM`"),
            ],
            on_host: false,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        Description::changes(format!("start {}", short(&view.words("run"))), "stop it, with its whole tree")
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        if view.get("run").and_then(|run| run.as_array()).is_some_and(Vec::is_empty) {
            problems.push(("run".into(), "the list is empty: expected a program and its arguments".into()));
        }
        if view.has("ready_when") && !view.has("ready") {
            problems.push((
                "ready_when".into(),
                "`ready_when` is about the output of `ready`, which is missing".into(),
            ));
        }
        problems
    }

    async fn probe(&self, cx: &Context, params: &Params) -> Result<Probe, StepError> {
        let program = params.run.first().map(|word| word.0.clone()).unwrap_or_default();
        let exec = Exec::new(["/bin/sh", "-c", "command -v \"$1\"", "sh", &program]);
        let found = cx.exec(exec).await?;
        if found.success() {
            return Ok(Probe::would_pass(found.stdout_text().trim().to_owned()));
        }
        let error = StepError::new(ErrorClass::NotFound, format!("program `{program}` does not exist"));
        Ok(Probe::would_fail("no such program", error))
    }

    async fn intend(&self, cx: &Context, _: &Params) -> Result<Intent, StepError> {
        let step: String =
            cx.step.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
        let tree = Tree::of_run(&cx.services.run.id);
        let log = cx.services.scratch.join(format!("process-{step}-{}.log", &tree.marker[..8]));
        Ok(Intent { tree, log })
    }

    async fn run(&self, cx: &Context, params: &Params, intent: &Intent) -> Result<Output, StepError> {
        if !cx.host.is_local() {
            return Err(StepError::new(ErrorClass::Unsupported, "`process` runs on this machine only")
                .hint("on a host, start the unit of a service with `systemd: { do: start }`"));
        }
        let exec = Exec {
            argv: argv(&params.run)?,
            env: environment(cx, cx.host.as_ref(), &params.env)?,
            dir: params.dir.clone(),
            ..Exec::default()
        };
        let mut process = spawn_background(&exec, &intent.log, intent.tree.clone())?;
        if let Err(error) = ready(cx, params, &mut process, &intent.log).await {
            // What failed must be gone before another attempt, and its end is no news beside the error.
            let ended = process.tree.end(params.stop_signal.signal(), params.stop_grace.duration()).await;
            return Err(match ended {
                Ok(_) => error,
                Err(survivors) => error.detail(survivors.message),
            });
        }
        let pid = process.tree.root.map_or(0, |root| root.pid);
        cx.services.resident.lock().await.insert(cx.step.clone(), Box::new(process));
        Ok(Output { pid, log: intent.log.display().to_string() })
    }

    fn summary(&self, output: &Output) -> String {
        format!("pid {}", output.pid)
    }

    async fn settle(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
    ) -> Result<Settled<Output>, StepError> {
        let Some(pid) = intent.tree.members().first().map(|member| member.pid) else {
            return Ok(Settled::NotHappened);
        };
        // It was started, and may have been cut off from its owner before it was ready.
        let began = Instant::now();
        while let Some(step) = &params.ready {
            match is_ready(cx, params, step).await {
                Ok(()) => break,
                Err(error) if began.elapsed() >= params.ready_timeout.duration() => return Err(error),
                Err(_) if !intent.tree.is_alive() => return Ok(Settled::NotHappened),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        Ok(Settled::Happened(Output { pid, log: intent.log.display().to_string() }))
    }

    async fn undo(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        _: Option<&Output>,
    ) -> Result<Undone, StepError> {
        // The one that is still held knows more than the journal: its process group.
        let held = {
            let mut resident = cx.services.resident.lock().await;
            let ours = resident
                .get(&cx.step)
                .and_then(|any| any.downcast_ref::<Background>())
                .is_some_and(|process| process.tree.marker == intent.tree.marker);
            if ours {
                resident.remove(&cx.step).and_then(|any| any.downcast::<Background>().ok())
            } else {
                None
            }
        };
        let tree = held.as_ref().map_or(&intent.tree, |process| &process.tree);
        let ended = tree.end(params.stop_signal.signal(), params.stop_grace.duration()).await?;
        Ok(if ended == 0 { Undone::NothingToDo } else { Undone::Removed })
    }

    async fn presence(
        &self,
        _: &Context,
        _: &Params,
        intent: &Intent,
        _: Option<&Output>,
    ) -> Result<Presence, StepError> {
        let alive = intent.tree.members();
        if alive.is_empty() {
            return Ok(Presence::Gone);
        }
        let pids = alive.iter().map(|member| member.pid.to_string()).collect::<Vec<_>>().join(" ");
        Ok(Presence::Present(Leftover {
            what: format!("processes {pids}"),
            why: "they still run".into(),
            remove_with: format!("kill {pids}"),
        }))
    }
}

/// Waits until the process is ready.
async fn ready(cx: &Context, params: &Params, process: &mut Background, log: &Path) -> Result<(), StepError> {
    let began = Instant::now();
    let limit = params.ready_timeout.duration();
    let mut pause = Duration::from_millis(20);
    let mut trouble: Option<StepError> = None;
    let name = short(&params.run.first().map(|word| word.0.clone()).unwrap_or_default());
    loop {
        if let Some(status) = process.ended().map_err(|error| StepError::io("watch the process", &error))? {
            let how = match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or_default()),
            };
            return Err(with_log(
                StepError::new(ErrorClass::Exit, format!("`{name}` ended with {how} before it was ready")),
                log,
            ));
        }
        let Some(step) = &params.ready else { return Ok(()) };
        let rest = limit.saturating_sub(began.elapsed());
        let tried = tokio::select! {
            () = cx.cancel.cancelled() => {
                return Err(StepError::new(ErrorClass::Cancelled, format!("`{name}` was stopped with the run")));
            }
            tried = tokio::time::timeout(rest, is_ready(cx, params, step)) => tried,
        };
        match tried {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if error.class == ErrorClass::Invalid => return Err(error),
            Ok(Err(error)) => {
                cx.sees(format!("not ready: {}", error.message));
                trouble = Some(error);
            }
            Err(_) => {}
        }
        if began.elapsed() >= limit {
            let message = format!("`{name}` was not ready within {}", params.ready_timeout);
            let mut error = StepError::new(ErrorClass::Timeout, message);
            if let Some(trouble) = trouble {
                error = error.detail(trouble.message);
            }
            return Err(with_log(error, log));
        }
        tokio::time::sleep(pause.min(limit.saturating_sub(began.elapsed()))).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

async fn is_ready(cx: &Context, params: &Params, step: &Nested) -> Result<(), StepError> {
    let out = cx.run_nested(step).await?;
    let Some(condition) = &params.ready_when else { return Ok(()) };
    let extra = Map::from_iter([("out".to_owned(), out)]);
    if cx.holds(condition, &extra)? {
        return Ok(());
    }
    let values = cx.explain(condition, &extra).join("; ");
    Err(StepError::expectation(format!("`{}` does not hold: {values}", condition.0)))
}

/// Adds the last lines of the log to an error.
fn with_log(error: StepError, log: &Path) -> StepError {
    let mut tail = Vec::new();
    let read = std::fs::File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(16 * 1024)))?;
        file.take(16 * 1024).read_to_end(&mut tail)
    });
    match read {
        Ok(_) => last_lines(&String::from_utf8_lossy(&tail), 10).into_iter().fold(error, StepError::detail),
        Err(_) => error,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, check, until};
    use engine::{
        ErrorClass,
        step::{Presence, Undone},
    };
    use serde_json::json;
    use std::fs;

    fn alive(pid: &serde_json::Value) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[tokio::test]
    async fn it_starts_waits_until_ready_and_is_stopped_with_its_tree() {
        let bench = Bench::new();
        let flag = bench.at("flag");
        let params = json!({
            "run": ["sh", "-c", "setsid sleep 1000 & echo up; sleep 0.1; echo $! > flag; wait"],
            "dir": bench.at("."),
            "ready": { "command": { "run": ["cat", flag], "reads": true } },
            "ready_when": "size(out.stdout) > 0",
        });
        let it = bench.start("process", params).await;
        let out = it.result.clone().expect("is ready");
        assert!(alive(&out["pid"]));
        let child = json!(fs::read_to_string(&flag).expect("there").trim().parse::<u32>().expect("a pid"));
        assert!(alive(&child));
        assert!(matches!(bench.presence(&it).await, Ok(Presence::Present(_))));
        assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
        assert!(!alive(&out["pid"]) && !alive(&child));
        assert_eq!(bench.presence(&it).await, Ok(Presence::Gone));
        assert_eq!(bench.undo(&it).await, Ok(Undone::NothingToDo));
        assert_eq!(fs::read_to_string(out["log"].as_str().expect("text")).expect("there"), "up\n");
    }

    #[tokio::test]
    async fn a_recovery_stops_it_by_the_intent_alone() {
        let bench = Bench::new();
        let it = bench.start("process", json!({ "run": ["sleep", 1000] })).await;
        let out = it.result.clone().expect("starts");
        bench.cx.services.resident.lock().await.clear();
        assert_eq!(bench.undo_blindly(&it).await, Ok(Undone::Removed));
        assert!(!alive(&out["pid"]));
    }

    #[tokio::test]
    async fn one_that_ends_before_it_is_ready_shows_its_last_lines() {
        let bench = Bench::new();
        let params = json!({
            "run": ["sh", "-c", "echo no config >&2; exit 3"],
            "ready": { "command": { "run": ["false"], "reads": true } },
        });
        let it = bench.start("process", params).await;
        let error = it.result.clone().expect_err("fails");
        assert_eq!(error.class, ErrorClass::Exit);
        assert!(error.message.contains("exit status 3"), "{}", error.message);
        assert_eq!(error.details, ["no config"]);
        assert_eq!(bench.undo(&it).await, Ok(Undone::NothingToDo));
    }

    #[tokio::test]
    async fn one_that_is_never_ready_is_stopped() {
        let bench = Bench::new();
        let params = json!({
            "run": ["sh", "-c", "echo $$ > pid; exec sleep 1000"], "dir": bench.at("."),
            "ready": { "command": { "run": ["test", "-e", bench.at("never")], "reads": true } },
            "ready_timeout": "300ms",
        });
        let error = bench.run("process", params).await.expect_err("never ready");
        assert_eq!(error.class, ErrorClass::Timeout);
        assert!(error.details[0].contains("exit status 1"), "{error:?}");
        let pid = json!(
            fs::read_to_string(bench.path("pid")).expect("there").trim().parse::<u32>().expect("a pid")
        );
        assert!(!alive(&pid));
    }

    #[tokio::test]
    async fn cancel_stops_it_while_it_gets_ready() {
        let bench = Bench::new();
        let params = json!({
            "run": ["sh", "-c", "echo $$ > pid; exec sleep 1000"], "dir": bench.at("."),
            "ready": { "command": { "run": ["false"], "reads": true } }, "ready_timeout": "10m",
        });
        let (result, ()) = tokio::join!(bench.run("process", params), async {
            until("it runs", async || fs::read_to_string(bench.path("pid")).is_ok_and(|pid| pid.len() > 1))
                .await;
            bench.cancel.cancel();
        });
        assert_eq!(result.expect_err("cancelled").class, ErrorClass::Cancelled);
        let pid = json!(
            fs::read_to_string(bench.path("pid")).expect("there").trim().parse::<u32>().expect("a pid")
        );
        assert!(!alive(&pid));
    }

    #[tokio::test]
    async fn the_plan_says_whether_the_program_exists() {
        let bench = Bench::new();
        assert_eq!(
            bench.probe("process", &json!({ "run": ["sh"] })).await.expect("looks").now,
            "/usr/bin/sh"
        );
        let none = bench.probe("process", &json!({ "run": ["no-such-program"] })).await.expect("looks");
        assert_eq!(none.now, "no such program");
    }

    #[test]
    fn ready_when_needs_ready() {
        assert_eq!(check("process", &json!({ "run": ["x"], "ready_when": "true" })).len(), 1);
    }
}
