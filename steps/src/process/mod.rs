//! `process`: starts a background process that lives as long as the run, or looks for processes of any program.

mod find;
#[cfg(test)]
mod find_tests;
mod look;
mod start;
#[cfg(test)]
mod tests;
mod watch;

use crate::word::{Word, short};
use engine::{
    ErrorClass, Step, StepError,
    host::Exec,
    quantity::Millis,
    step::{
        Changes, Condition, Context, Description, Docs, Leftover, Nested, ParamsView, Presence, Probe,
        Settled, Undone,
    },
};
use find::{Find, State};
pub use look::Running;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use start::StopSignal;
use std::collections::BTreeMap;

/// The step type `process`.
#[derive(Clone, Copy, Debug)]
pub struct Process;

/// What stands below `process`. Exactly one of `run` and `find`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The program to start and its arguments; they never pass through a shell.
    run: Option<Vec<Word>>,
    /// Which running processes to look for; the step changes nothing.
    find: Option<Find>,
    /// For `find`: what must be so. Without it, none is found is no error: see `out.running`.
    is: Option<State>,
    /// For `run`: the working directory.
    #[schemars(extend("format" = "path"))]
    dir: Option<String>,
    /// For `run`: variables added to the environment.
    #[serde(default)]
    env: BTreeMap<String, Word>,
    /// For `run`: a read-only step that is tried until it succeeds: only then is the process ready.
    ready: Option<Nested>,
    /// For `run`: a condition on the output of `ready`, as `out`, that must hold too.
    ready_when: Option<Condition>,
    /// For `run`: how long it may take to be ready; `10s` if not given.
    #[serde(default = "ten_seconds")]
    ready_timeout: Millis,
    /// For `run`: the signal that stops it; `TERM` if not given.
    #[serde(default)]
    stop_signal: StopSignal,
    /// For `run`: how long it may take to stop before it is killed; `5s` if not given.
    #[serde(default = "five_seconds")]
    stop_grace: Millis,
}

fn ten_seconds() -> Millis {
    Millis(10_000)
}

fn five_seconds() -> Millis {
    Millis(5_000)
}

/// The options that only go with `run`.
const OF_RUN: [&str; 7] = ["dir", "env", "ready", "ready_when", "ready_timeout", "stop_signal", "stop_grace"];

/// What `out` shows.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// The number of the process; for `find` of the oldest one, and null if there is none.
    #[serde(default)]
    pub pid: Option<u32>,
    /// `run`: the file with its stdout and stderr; it goes with the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// `find`: whether there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
    /// `find`: how many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// `find`: what there is, the oldest first, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Running>,
}

impl Step for Process {
    const KIND: &'static str = "process";
    type Params = Params;
    type Output = Output;
    /// None for `find`, which only reads.
    type Intent = Option<start::Intent>;

    fn docs(&self) -> Docs {
        Docs {
            summary: "starts a background process for the run, or looks whether processes run",
            details: "`run` starts a process. It runs beside the steps that follow and is stopped, with all that came of it, when \
                      the run undoes its effects. It carries a mark in its environment, `SHAKEDOWN_TREE`, by which a \
                      recovery finds and stops it even after this program was killed. \
                      With `ready` the step ends when that step succeeds and `ready_when` holds; without, at once. \
                      Its stdout and stderr go to the file `out.log`. That it ends later by itself is no error of \
                      this step: watch it with another. It runs on this machine only, and not in `cleanup` or as an \
                      `undo`, where nothing would end it.\n\n\
                      `find` looks for processes of any program, here or on a host (of Linux): those for which all that \
                      is given holds. One that has ended and only waits for its parent does not count, nor does this \
                      program itself. `is: running` and `is: gone` make an error of the contrary, as for a precheck; \
                      without it `out.running` says what is so, for conditions. A pid may be given out again: with \
                      `start_time`, as an earlier look gave it, only the same process counts.\n\n\
                      In a `wait` the end of a process is noticed at once (pidfd), a change of a `pid_file` too (inotify), \
                      and a new process within 20 ms. One that only later takes the name or the command line that is \
                      looked for, by an exec, is noticed at the next look. On hosts all is asked again and again.",
            example: "daemon:\n  process:\n    run: [media-syncd, --config, daemon.toml]\n    \
                      ready: { tcp: { host: 127.0.0.1, port: 8080 } }\n    ready_timeout: 20s\n\
                      dock_manager:\n  process: { find: { name: dock_info_manager }, is: running }\n\
                      ended:\n  wait:\n    until: { process: { find: { pid_file: /run/sync.pid, name: rsync } } }\n    \
                      succeed_when: \"!out.running\"\n  \
                      timeout: 10m\n",
            errors: &[
                ("exit", "it ended before it was ready; the last lines of its log follow"),
                ("timeout", "it was not ready within `ready_timeout`; the last trouble of `ready` follows"),
                ("not-found", "the program or the directory to start does not exist: `command -v PROGRAM`"),
                ("expectation", "a process that should run does not, or the other way round: `ps -ef`"),
                ("denied", "this user may not read the `pid_file`: `namei -l PATH`"),
                ("unsupported", "`run` with `on`, or a host without `/proc`"),
            ],
            on_host: true,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        if view.has("find") {
            let what = find::title(view.get("find"));
            return Description::reads(match view.show("is").as_str() {
                "" => format!("look for the process {what}"),
                is => format!("process {what} is {is}"),
            });
        }
        Description::changes(format!("start {}", short(&view.words("run"))), "stop it, with its whole tree")
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        let mut problems = view.exactly_one(&["run", "find"]);
        if view.has("find") {
            for key in view.present(&OF_RUN) {
                problems.push((key.into(), format!("`{key}` cannot go with `find`")));
            }
            problems.extend(find::check(view).map(|message| ("find".into(), message)));
        } else if view.has("is") {
            problems.push(("is".into(), "`is` is about what `find` finds, which is missing".into()));
        }
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

    fn check_final(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        view.present(&["run"]).iter().map(|key| ((*key).to_owned(), start::FINAL.to_owned())).collect()
    }

    async fn probe(&self, cx: &Context, params: &Params) -> Result<Probe, StepError> {
        if !cx.host.is_local() {
            return Ok(Probe::would_fail("not on this machine", start::elsewhere()));
        }
        let program = params.run.iter().flatten().next().map(|word| word.0.clone()).unwrap_or_default();
        let exec = Exec::new(["/bin/sh", "-c", "command -v \"$1\"", "sh", &program]);
        let found = cx.exec(exec).await?;
        if found.success() {
            return Ok(Probe::would_pass(found.stdout_text().trim().to_owned()));
        }
        let error = StepError::new(ErrorClass::NotFound, format!("program `{program}` does not exist"));
        Ok(Probe::would_fail("no such program", error))
    }

    async fn intend(&self, cx: &Context, params: &Params) -> Result<Self::Intent, StepError> {
        Ok(params.run.as_ref().map(|_| start::Intent::new(cx)))
    }

    async fn run(&self, cx: &Context, params: &Params, intent: &Self::Intent) -> Result<Output, StepError> {
        match (&params.run, &params.find, intent) {
            (Some(run), None, Some(intent)) => start::start(cx, params, run, intent).await,
            (None, Some(find), _) => find::find(cx, find, params.is).await,
            _ => Err(StepError::new(ErrorClass::Invalid, "expected exactly one of `run`, `find`")),
        }
    }

    async fn changes(&self, cx: &Context, params: &Params) -> Option<Box<dyn Changes>> {
        if !cx.host.is_local() {
            return None;
        }
        watch::Processes::watch(cx, params.find.as_ref()?)
    }

    fn summary(&self, output: &Output) -> String {
        match (output.count, output.pid) {
            (None, pid) => format!("pid {}", pid.unwrap_or_default()),
            (Some(0), _) | (_, None) => "none runs".into(),
            (Some(1), Some(pid)) => format!("runs, pid {pid}"),
            (Some(count), Some(pid)) => format!("{count} run, the oldest pid {pid}"),
        }
    }

    async fn settle(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Self::Intent,
    ) -> Result<Settled<Output>, StepError> {
        match intent {
            Some(intent) => start::settle(cx, params, intent).await,
            None => Ok(Settled::NotHappened),
        }
    }

    async fn undo(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Self::Intent,
        _: Option<&Output>,
    ) -> Result<Undone, StepError> {
        match intent {
            Some(intent) => start::undo(cx, params, intent).await,
            None => Ok(Undone::NothingToDo),
        }
    }

    async fn presence(
        &self,
        _: &Context,
        params: &Params,
        intent: &Self::Intent,
        _: Option<&Output>,
    ) -> Result<Presence, StepError> {
        let what = start::what(params);
        let alive = intent.as_ref().map(start::Intent::alive).unwrap_or(Ok(Vec::new()));
        let pids = match alive {
            Ok(pids) => pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
            Err(unseen) => return Ok(unseen.presence(&what)),
        };
        if pids.is_empty() {
            return Ok(Presence::Gone);
        }
        Ok(Presence::Present(Leftover {
            what: format!("{what}: {pids}"),
            why: "they still run".into(),
            remove_with: format!("kill {pids}"),
        }))
    }
}
