//! Hosts behind ssh: one connection a host and run, strict about keys, with commands that die with the run.

mod errors;
mod feed;
mod frame;
mod greeting;
mod guard;
mod heed;
mod line;
mod link;
mod meet;
#[cfg(test)]
pub(crate) mod sshd;
#[cfg(test)]
mod tests;

use engine::{
    ErrorClass, StepError,
    degraded::Degraded,
    host::{BoxFuture, Cancel, Connector, Exec, Host, HostSpec, Output, shell_word},
    local::process::{Capture, Tree, open_output},
};
use errors::{connect_error, lost};
use feed::{Data, hold};
use frame::{Frame, Noise};
use greeting::Groups;
use guard::{Ended, Mark, guard};
use line::Line;
use link::{Destination, Link};
use meet::Swept;
use openssh::{Session, Stdio};
use std::{
    fs::{DirBuilder, File},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

/// How many commands run at once on a host; servers allow 10 sessions a connection unless told otherwise.
const CHANNELS: usize = 8;
/// How long a command of another host may take to be gone after it was told to end: its grace, and a network's delay.
const END: Duration = Duration::from_secs(10);
/// How long output is read on after the command has ended; and how long a command may take to say that it ended that has
/// not had all its data, and so may not hear that it is to end.
const DRAIN: Duration = Duration::from_secs(1);
/// How long a host that went away is waited for, by commands that may be run again and by those that were never sent.
const AWAY: Duration = Duration::from_secs(30);
/// The pauses between tries to connect to a host that went away.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// Why a command ended whose connection may not even have broken.
const LAPSED: &str = "no word of this run reached the host for 20 s, so the command was ended there";
/// How long a host may refuse any command on a connection that has none, for it is slow to notice that the last one has
/// ended; and the pauses between tries.
const REFUSING: Duration = Duration::from_secs(5);
const ROOM_PAUSE: Duration = Duration::from_millis(50);
/// How often a command may lose its connection before it is given up.
const LOSSES: u32 = 3;

/// Connects to hosts over ssh.
#[derive(Debug)]
pub struct SshConnector {
    control_dir: PathBuf,
    mark: Mark,
    groups: bool,
    /// What of a dead run has been ended, by the views of machines; nothing if none died.
    swept: Option<Arc<Swept>>,
}

impl SshConnector {
    /// A connector that keeps its control sockets in `control_dir`, a folder of the run's own. It is made with mode
    /// 0700 when it does not exist.
    #[must_use]
    pub fn new(control_dir: impl Into<PathBuf>) -> Self {
        let mark = Mark { run: None, owner: Tree::new().marker };
        Self { control_dir: control_dir.into(), mark, groups: true, swept: None }
    }

    /// For the commands of this run, so that they can be found again.
    #[must_use]
    pub fn of_run(mut self, run: &str) -> Self {
        self.mark.run = Some(run.to_owned());
        self
    }

    /// For a plan: nothing is made on a host for its commands, so they have no control groups there.
    #[must_use]
    pub fn without_groups(mut self) -> Self {
        self.groups = false;
        self
    }

    /// The run had an owner who died: what of its commands still runs on a host is ended before any other runs there.
    #[must_use]
    pub fn after_a_death(mut self) -> Self {
        self.swept = Some(Arc::default());
        self
    }
}

impl Connector for SshConnector {
    fn connect<'a>(&'a self, spec: &'a HostSpec) -> BoxFuture<'a, Result<Arc<dyn Host>, StepError>> {
        Box::pin(async move {
            let destination = Destination::parse(spec)?;
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.control_dir)
                .map_err(|error| StepError::io(format!("create `{}`", self.control_dir.display()), &error))?;
            let folder = File::open(&self.control_dir)
                .map_err(|error| StepError::io(format!("open `{}`", self.control_dir.display()), &error))?;
            let link =
                Link { spec: spec.clone(), destination, control_dir: self.control_dir.clone(), folder };
            // The first command connects: it is what can be cancelled while a host does not answer.
            Ok(Arc::new(SshHost {
                line: Line::new(link),
                mark: self.mark.clone(),
                groups: self.groups,
                swept: self.swept.clone(),
                channels: Semaphore::new(CHANNELS),
                degraded: OnceLock::new(),
            }) as Arc<dyn Host>)
        })
    }
}

/// Asks the ssh processes that a dead run left in its control directory to end; for recovery, before it removes the
/// directory. Commands on the hosts have ended by themselves.
pub async fn end_connections(control_dir: &Path) {
    let Ok(entries) = std::fs::read_dir(control_dir) else { return };
    for entry in entries.flatten() {
        let socket = entry.path().join("master");
        if socket.exists() {
            let session = Session::resume_mux(socket.into_boxed_path(), None);
            // One that does not answer has ended already.
            drop(session.close().await);
        }
    }
}

/// A host behind ssh.
struct SshHost {
    line: Line,
    /// Whose commands they are.
    mark: Mark,
    groups: bool,
    swept: Option<Arc<Swept>>,
    channels: Semaphore,
    /// Why its commands are in no control group, if one was not.
    degraded: OnceLock<Degraded>,
}

/// How one try to run a command failed.
enum Failure {
    /// The connection was gone before the command was sent.
    NotSent(String),
    /// The connection broke after it was sent.
    Lost(String),
    /// The host takes no further command on the connection; nothing was sent.
    Refused(StepError),
    /// The host had no word of this run for too long and ended it; the connection may be good again.
    Lapsed,
    /// All else.
    Final(StepError),
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        Self::Final(error)
    }
}

impl Host for SshHost {
    fn name(&self) -> &str {
        &self.spec().name
    }

    fn degraded(&self) -> Option<Degraded> {
        self.degraded.get().cloned()
    }

    fn exec<'a>(&'a self, exec: Exec, cancel: &'a Cancel) -> BoxFuture<'a, Result<Output, StepError>> {
        Box::pin(async move {
            let program = exec.argv.first().cloned().unwrap_or_default();
            let stopped = || self.cancelled(&program);
            let _channel = tokio::select! {
                () = cancel.cancelled() => return Err(stopped()),
                channel = self.channels.acquire() => {
                    channel.map_err(|_| StepError::internal("the connection is closed"))?
                }
            };
            let (mut pause, mut losses) = (FIRST_PAUSE, 0);
            let mut refused = None;
            loop {
                let used = match self.line.session(cancel).await {
                    Ok(Some(used)) => used,
                    Ok(None) if cancel.is_cancelled() => return Err(stopped()),
                    Ok(None) => {
                        self.make_room(cancel).await;
                        continue;
                    }
                    Err(error)
                        if error.class == ErrorClass::Unreachable && self.line.may_come_back().await =>
                    {
                        // Cancelled, it ends with the next try to connect.
                        tokio::select! {
                            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                            () = cancel.cancelled() => {}
                        }
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let session = used.session.clone();
                let tried = match self.settle(&session, cancel).await {
                    Ok(machine) => {
                        if self.groups && machine.groups == Groups::None {
                            let host = Some(self.spec().name.as_str());
                            let degraded = Degraded::no_control_group(host, "this login may not make any");
                            let _first = self.degraded.set(degraded);
                        }
                        self.attempt(&session, &exec, &self.mark, &machine.groups, cancel).await
                    }
                    Err(failure) => Err(failure),
                };
                if let Err(Failure::NotSent(_) | Failure::Lost(_)) = &tried {
                    self.line.forget(&session).await;
                }
                let (error, sent) = match tried {
                    Ok(output) => return Ok(output),
                    Err(Failure::Final(error)) if error.class == ErrorClass::Cancelled => {
                        return Err(self.ended_for_sure(&session, error).await);
                    }
                    Err(Failure::Final(error)) => return Err(error),
                    Err(Failure::Refused(error)) => {
                        let since = *refused.get_or_insert_with(tokio::time::Instant::now);
                        if !self.line.refused(&used) {
                            if since.elapsed() > REFUSING {
                                return Err(error);
                            }
                            if cancel.is_cancelled() {
                                return Err(stopped());
                            }
                            self.make_room(cancel).await;
                        }
                        continue;
                    }
                    Err(Failure::NotSent(why)) => (connect_error(self.spec(), &why), false),
                    Err(Failure::Lost(why)) => (lost(self.spec(), &program, &why), true),
                    Err(Failure::Lapsed) => (lost(self.spec(), &program, LAPSED), true),
                };
                losses += 1;
                if losses > LOSSES || sent && !exec.repeatable {
                    return Err(error);
                }
            }
        })
    }

    fn identity<'a>(&'a self, cancel: &'a Cancel) -> BoxFuture<'a, Result<Option<String>, StepError>> {
        Box::pin(async move {
            loop {
                if let Some(session) = self.line.made().await
                    && let Some(machine) = self.line.known().await.of(&session)
                {
                    return Ok(machine.identity.clone());
                }
                // Any command makes the connection, and with it what is known of it.
                self.exec(Exec::new(["true"]).repeatable(), cancel).await?;
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.line.close())
    }
}

impl SshHost {
    fn spec(&self) -> &HostSpec {
        &self.line.link.spec
    }

    /// A command that was told to end and did not say that it had, as one that does not read the data that come before
    /// the word: it is ended by another command.
    async fn ended_for_sure(&self, session: &Arc<Session>, error: StepError) -> StepError {
        if !error.outcome_unknown {
            return error;
        }
        let never = Cancel::never();
        let settled = async {
            loop {
                match self.settle(session, &never).await {
                    Err(Failure::Refused(_)) => self.make_room(&never).await,
                    settled => return settled,
                }
            }
        };
        match tokio::time::timeout(END, settled).await {
            Ok(Ok(_)) => StepError { outcome_unknown: false, ..error },
            _ => error,
        }
    }

    /// Waits a moment for other commands to end.
    async fn make_room(&self, cancel: &Cancel) {
        tokio::select! {
            () = tokio::time::sleep(ROOM_PAUSE) => {}
            () = cancel.cancelled() => {}
        }
    }

    async fn attempt(
        &self,
        session: &Arc<Session>,
        exec: &Exec,
        mark: &Mark,
        groups: &Groups,
        cancel: &Cancel,
    ) -> Result<Output, Failure> {
        let marker = Tree::new().marker;
        let (data, length) = Data::open(&exec.stdin).await?;
        let guarded = guard(exec, marker.clone(), mark, groups, length)?;
        let sink = match &exec.stdout_file {
            Some(path) => Some(tokio::fs::File::from_std(open_output(path, exec.stdout_at)?)),
            None => None,
        };
        let mut command = session.clone().arc_raw_command(&guarded.text);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let doubt = self.line.doubt(marker);
        // On a connection that hangs even the start of a command does.
        let mut child = tokio::select! {
            child = command.spawn() => child.map_err(|error| {
                let failure = self.not_started(&error);
                if let Failure::Final(_) | Failure::Refused(_) = failure {
                    doubt.dispel();
                }
                failure
            })?,
            () = cancel.cancelled() => {
                return Err(Failure::Final(self.cancelled(&exec.argv[0]).unknown_outcome()));
            }
        };
        let (stdin, stdout, stderr) = (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(StepError::internal("a pipe to a command is missing").into());
        };

        let keep = if exec.keep == 0 { Exec::KEEP } else { exec.keep };
        let captured = |keep| Capture::new(keep).masking(exec.secrets.clone());
        let mut out = captured(keep).counting(exec.moved.clone());
        let mut err = captured(keep + 2 * guarded.overhead());
        let all_sent = AtomicBool::new(false);
        let mut lease = Some(Box::pin(hold(stdin, &guarded.ahead, data, &exec.moved, &all_sent)));
        let last_line = tokio::sync::Notify::new();
        let (begin, end) = guarded.frame();
        let (quiet, noise) = (Noise::default(), Noise::default());
        let stdout = Frame::new(stdout, begin.clone(), Some(end), &quiet);
        let stderr = heed::Heed::new(Frame::new(stderr, begin, None, &noise), &guarded, &last_line);
        let mut drain =
            Box::pin(async { tokio::try_join!(out.copy(stdout, sink), err.read(stderr)).map(|_| ()) });
        let mut wait = Box::pin(child.wait());
        let (mut drained, mut cancelled) = (None, false);
        let deadline = tokio::time::sleep(END);
        tokio::pin!(deadline);
        let status = loop {
            tokio::select! {
                status = &mut wait => break Some(status),
                done = &mut drain, if drained.is_none() => {
                    // An output that cannot be stored ends the command: nobody reads on.
                    if done.is_err() {
                        lease = None;
                        deadline.as_mut().reset(tokio::time::Instant::now() + END);
                    }
                    drained = Some(done);
                }
                error = async { lease.as_mut().expect("guarded by the condition").await }, if lease.is_some() => {
                    lease = None;
                    if let Some(error) = error {
                        drop(wait);
                        return Err(error.into());
                    }
                }
                // The guard waits for this before it ends.
                () = last_line.notified() => lease = None,
                () = cancel.cancelled(), if !cancelled => {
                    // The end of stdin is what the guard takes for the end of its lease.
                    (cancelled, lease) = (true, None);
                    let patience = if all_sent.load(Ordering::Relaxed) { END } else { DRAIN };
                    deadline.as_mut().reset(tokio::time::Instant::now() + patience);
                }
                () = &mut deadline, if cancelled || matches!(drained, Some(Err(_))) => break None,
            }
        };
        if drained.is_none() {
            drained = tokio::time::timeout(DRAIN, &mut drain).await.ok();
        }
        drop((drain, lease));
        let (stdout_bytes, stderr_bytes) = (out.total(), err.total());
        let mut stderr = err.into_bytes();
        let before = stderr.len();
        let ended = guarded.ended(&mut stderr);
        if ended.is_some() {
            doubt.dispel();
        }
        if cancelled {
            let error = self.cancelled(&exec.argv[0]);
            return Err(Failure::Final(if ended.is_some() { error } else { error.unknown_outcome() }));
        }
        if let Some(Err(error)) = drained {
            let what = exec
                .stdout_file
                .as_ref()
                .map_or("read the output".to_owned(), |path| format!("write `{}`", path.display()));
            return Err(StepError::io(what, &error).into());
        }
        let Some(ended) = ended else {
            return Err(match status {
                Some(Ok(status)) => Failure::Final(
                    self.no_shell(&status, &[noise.into_bytes(), quiet.into_bytes(), stderr].concat()),
                ),
                Some(Err(error)) => Failure::Lost(chain(&error)),
                None => Failure::Lost("no answer".into()),
            });
        };
        let (code, left_behind) = self.read_end(ended, exec)?;
        Ok(Output {
            code: Some(code),
            signal: None,
            stdout: out.into_bytes(),
            stderr_bytes: stderr_bytes - (before - stderr.len()) as u64,
            stderr,
            stdout_bytes,
            left_behind,
        })
    }

    fn read_end(&self, ended: Ended, exec: &Exec) -> Result<(i32, usize), Failure> {
        let (program, host) = (&exec.argv[0], &self.spec().name);
        let dir = exec.dir.as_deref().unwrap_or_default();
        let (class, message, hint) = match ended {
            Ended::Status { code, left_behind } => return Ok((code, left_behind)),
            Ended::Lease => return Err(Failure::Lapsed),
            Ended::Stuck(count) => {
                let message = format!(
                    "`{program}` ended on `{host}`, but {count} of its processes did not, even when they were killed"
                );
                let error = StepError::new(ErrorClass::Busy, message);
                return Err(error.hint(self.spec().typed("ps -ef")).unknown_outcome().into());
            }
            Ended::NoProgram => (
                ErrorClass::NotFound,
                format!("program `{program}` does not exist on `{host}`"),
                self.spec().typed(&format!("command -v {}; echo \"$PATH\"", shell_word(program))),
            ),
            Ended::NoDirectory => (
                ErrorClass::NotFound,
                format!("directory `{dir}` cannot be entered on `{host}`"),
                self.spec().typed(&format!("ls -ld -- {}", shell_word(dir))),
            ),
            Ended::NoTool(tool) => (
                ErrorClass::Unsupported,
                format!("host `{host}` lacks `{tool}`, without which commands cannot be ended there"),
                format!("install `{tool}` on `{host}` (util-linux, grep, coreutils or busybox have it)"),
            ),
        };
        Err(StepError::new(class, message).hint(hint).into())
    }

    /// A login that runs something else than what it is sent, or nothing.
    fn no_shell(&self, status: &std::process::ExitStatus, stderr: &[u8]) -> StepError {
        let message = format!("host `{}` did not run the command to its end: {status}", self.spec().name);
        let error = StepError::new(ErrorClass::Unsupported, message)
            .hint(format!("the login must run commands by a POSIX shell; try: {}", self.spec().typed("true")))
            .unknown_outcome();
        String::from_utf8_lossy(stderr).lines().take(5).fold(error, |error, line| error.detail(line))
    }

    fn not_started(&self, error: &openssh::Error) -> Failure {
        let text = chain(error);
        match error {
            openssh::Error::SshMux(_) if text.contains("refused the request") => Failure::Refused(
                StepError::new(
                    ErrorClass::Busy,
                    format!("host `{}` allows no command on a connection", self.spec().name),
                )
                .hint("MaxSessions in the sshd_config of the host must be at least 1")
                .detail(text),
            ),
            openssh::Error::InvalidCommand => {
                Failure::Final(StepError::internal("a command for ssh holds a NUL byte"))
            }
            _ => Failure::NotSent(text),
        }
    }

    fn cancelled(&self, program: &str) -> StepError {
        StepError::new(
            ErrorClass::Cancelled,
            format!("`{program}` on `{}` was stopped with the run", self.spec().name),
        )
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
