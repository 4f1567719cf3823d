//! `run`: starts a process, waits until it is ready, and stops it with all that came of it.

use super::{Output, Params};
use crate::word::{Word, argv, environment, last_lines, short};
use engine::{
    ErrorClass, StepError,
    host::Exec,
    local::{
        process::{Background, Tree, Unended, spawn_background},
        reading,
    },
    step::{Context, Nested, Settled, Undone},
};
use nix::sys::signal::Signal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::{
    io::{Read, Seek, SeekFrom},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A signal that asks a process to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum StopSignal {
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

/// What is durable before the process starts: the mark that it will carry.
#[derive(Debug, Serialize, Deserialize)]
pub struct Intent {
    tree: Tree,
    log: PathBuf,
}

impl Intent {
    pub(super) fn new(cx: &Context) -> Self {
        let step: String =
            cx.step.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
        let tree = Tree::of_run(&cx.services.run.id);
        let log = cx.services.scratch.join(format!("process-{step}-{}.log", &tree.marker[..8]));
        Self { tree, log }
    }

    /// The processes that live.
    ///
    /// # Errors
    /// They cannot be looked for.
    pub(super) fn alive(&self) -> Result<Vec<u32>, Unended> {
        Ok(self.tree.members()?.iter().map(|member| member.pid).collect())
    }

    fn output(&self, pid: u32) -> Output {
        Output { pid: Some(pid), log: Some(self.log.display().to_string()), ..Output::default() }
    }
}

/// Why none is started where nothing is undone any more.
pub(super) const FINAL: &str = "nothing ends a process that is started in `cleanup` or as an `undo`: use `command`, whose processes end with it";

pub(super) fn elsewhere() -> StepError {
    StepError::new(ErrorClass::Unsupported, "`process` with `run` starts one on this machine only")
        .hint("on a host, start the unit of a service with `systemd: { do: start }`")
}

pub(super) async fn start(
    cx: &Context,
    params: &Params,
    run: &[Word],
    intent: &Intent,
) -> Result<Output, StepError> {
    if !cx.host.is_local() {
        return Err(elsewhere());
    }
    let exec = Exec {
        argv: argv(run)?,
        env: environment(cx, cx.host.as_ref(), &params.env)?,
        dir: params.dir.clone().or_else(|| cx.default_dir()),
        ..Exec::default()
    };
    if cx.is_final() {
        return Err(StepError::new(ErrorClass::Invalid, FINAL));
    }
    let mut process = spawn_background(&exec, &intent.log, intent.tree.clone())?;
    if let Some(degraded) = process.tree.degraded() {
        cx.services.degraded.note(degraded);
    }
    if let Err(error) = ready(cx, params, &mut process, &intent.log).await {
        // What failed must be gone before another attempt, and its end is no news beside the error.
        let ended = process.tree.end(params.stop_signal.signal(), params.stop_grace.duration()).await;
        return Err(match ended {
            Ok(_) => error,
            Err(unended) => error.detail(StepError::from(unended).message),
        });
    }
    let pid = process.tree.root.map_or(0, |root| root.pid);
    cx.services.resident.lock().await.insert(cx.step.clone(), Box::new(process));
    Ok(intent.output(pid))
}

pub(super) async fn settle(
    cx: &Context,
    params: &Params,
    intent: &Intent,
) -> Result<Settled<Output>, StepError> {
    let Some(pid) = intent.alive()?.first().copied() else {
        return Ok(Settled::NotHappened);
    };
    // It was started, and may have been cut off from its owner before it was ready.
    let began = Instant::now();
    while let Some(step) = &params.ready {
        match is_ready(cx, params, step).await {
            Ok(()) => break,
            Err(error) if began.elapsed() >= params.ready_timeout.duration() => return Err(error),
            Err(_) if !intent.tree.is_alive()? => return Ok(Settled::NotHappened),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    Ok(Settled::Happened(intent.output(pid)))
}

pub(super) async fn undo(cx: &Context, params: &Params, intent: &Intent) -> Result<Undone, StepError> {
    // The one that is still held knows more than the journal: its process group.
    let held = {
        let mut resident = cx.services.resident.lock().await;
        let ours = resident
            .get(&cx.step)
            .and_then(|any| any.downcast_ref::<Background>())
            .is_some_and(|process| process.tree.marker == intent.tree.marker);
        if ours { resident.remove(&cx.step).and_then(|any| any.downcast::<Background>().ok()) } else { None }
    };
    let tree = held.as_ref().map_or(&intent.tree, |process| &process.tree);
    match tree.end(params.stop_signal.signal(), params.stop_grace.duration()).await {
        Ok(0) => Ok(Undone::NothingToDo),
        Ok(_) => Ok(Undone::Removed),
        Err(unended @ Unended::Unseen { .. }) => Ok(Undone::CannotTell(unended.leftover(&what(params)))),
        Err(unended) => Err(unended.into()),
    }
}

/// The processes, in words.
pub(super) fn what(params: &Params) -> String {
    format!("processes of `{}`", short(params.run.iter().flatten().next().map_or("", |word| &word.0)))
}

/// Waits until the process is ready.
async fn ready(cx: &Context, params: &Params, process: &mut Background, log: &Path) -> Result<(), StepError> {
    let began = Instant::now();
    let limit = params.ready_timeout.duration();
    let mut pause = Duration::from_millis(20);
    let mut trouble: Option<StepError> = None;
    let name = short(params.run.iter().flatten().next().map_or("", |word| &word.0));
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
    let read = reading::open(log).map(reading::Reading::into_file).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(16 * 1024)))?;
        file.take(16 * 1024).read_to_end(&mut tail)
    });
    match read {
        Ok(_) => last_lines(&String::from_utf8_lossy(&tail), 10).into_iter().fold(error, StepError::detail),
        Err(_) => error,
    }
}
