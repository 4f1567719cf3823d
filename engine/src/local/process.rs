//! Commands on this machine: each in a process group of its own, with its output bounded and its whole tree of
//! processes ended with it.

mod capture;
mod cgroup;
mod leader;
mod orphans;
mod proc_fs;
#[cfg(test)]
mod tests;
mod tree;
mod unended;
mod unreadable;

pub use capture::Capture;
pub use leader::Leader;
pub(super) use orphans::end_orphans;
pub use tree::{GRACE, MARKER, ProcessId, Tree, end_steps};
pub use unended::{Unended, not_seen_to_end};

use crate::{
    degraded::Degraded,
    error::{ErrorClass, StepError},
    host::{BoxFuture, Cancel, Exec, Host, Output, Stdin, shell_word},
    local::reading,
};
use nix::sys::{
    memfd::{MFdFlags, memfd_create},
    signal::Signal,
};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    mem,
    os::unix::{fs::OpenOptionsExt, process::ExitStatusExt},
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};
use tokio::process::{Child, Command};

/// How long pipes are read on after every process of the tree is gone: only one that got away can hold them.
const DRAIN: Duration = Duration::from_secs(1);

/// This machine.
#[derive(Clone, Debug)]
pub struct LocalHost {
    /// The run whose steps use it; empty for none.
    run: String,
    /// Whether commands may have control groups of their own.
    groups: bool,
    /// Why one was in none, if so.
    degraded: Arc<OnceLock<Degraded>>,
}

impl Default for LocalHost {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalHost {
    /// This machine. Makes orphans of the processes that are started from now on children of this program.
    #[must_use]
    pub fn new() -> Self {
        Self::of_run("")
    }

    /// This machine as the steps of a run use it: their commands can be found by the run's id, see [`end_steps`].
    #[must_use]
    pub fn of_run(run: &str) -> Self {
        tree::become_subreaper();
        Self { run: run.to_owned(), groups: true, degraded: Arc::default() }
    }

    /// This machine for a plan: nothing is made or written for its commands, so they have no control groups, and only their
    /// marks and families tell what belongs to them.
    #[must_use]
    pub fn without_groups(run: &str) -> Self {
        Self { groups: false, ..Self::of_run(run) }
    }
}

impl Host for LocalHost {
    fn name(&self) -> &str {
        "local"
    }

    fn is_local(&self) -> bool {
        true
    }

    fn exec<'a>(&'a self, exec: Exec, cancel: &'a Cancel) -> BoxFuture<'a, Result<Output, StepError>> {
        let tree = Tree::of_step(&self.run);
        Box::pin(async move {
            if !self.groups {
                return run(exec, &self.run, tree.without_group(), cancel).await;
            }
            let ended = run(exec, &self.run, tree.clone(), cancel).await;
            if let Some(degraded) = tree.degraded() {
                let _first = self.degraded.set(degraded);
            }
            ended
        })
    }

    fn degraded(&self) -> Option<Degraded> {
        self.degraded.get().cloned()
    }
}

/// A command that was started to live beside the steps that follow.
#[derive(Debug)]
pub struct Background {
    /// The command and what comes from it.
    pub tree: Tree,
    child: Child,
}

impl Background {
    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system cannot tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

/// Starts a command whose stdout and stderr go to the file `log`, made anew with mode 0600. It is marked as `tree`,
/// so that whoever knows the mark can end it.
///
/// # Errors
/// The log cannot be written or the command not started.
pub fn spawn_background(exec: &Exec, log: &Path, tree: Tree) -> Result<Background, StepError> {
    tree::become_subreaper();
    let out = open_output(log, 0)?;
    let err = out.try_clone().map_err(|error| StepError::io(format!("write `{}`", log.display()), &error))?;
    let mut command = command(exec, &tree)?;
    let stdin = match &exec.stdin {
        Stdin::File(path) => Stdio::from(open_input(path, 0)?),
        Stdin::FileFrom(path, at) => Stdio::from(open_input(path, *at)?),
        Stdin::Null => Stdio::null(),
        Stdin::Bytes(_) => {
            return Err(StepError::internal("a background process takes no bytes for its stdin"));
        }
    };
    let child = command.stdin(stdin).stdout(out).stderr(err).spawn().map_err(|error| {
        tree.forget();
        spawn_error(exec, &error)
    })?;
    let tree = tree.started(child.id().unwrap_or_default());
    Ok(Background { tree, child })
}

/// Ends the tree when the future that runs the command is dropped.
struct Guard {
    run: String,
    tree: Option<Tree>,
}

impl Guard {
    /// Ends the tree, and notes for the end of the run if it was not seen to end.
    async fn end(&mut self, signal: Signal, grace: Duration) -> Result<usize, StepError> {
        let Some(tree) = self.tree.clone() else { return Ok(0) };
        let ended = tree.end(signal, grace).await;
        self.tree = None;
        Ok(ended.inspect_err(|_| unended::note(&self.run, &tree))?)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(tree) = self.tree.take() else { return };
        let run = mem::take(&mut self.run);
        // The thread outlives the runtime that may be going down with this future.
        let end = move || {
            if tree.end_blocking(Signal::SIGKILL, Duration::ZERO).is_err() {
                unended::note(&run, &tree);
            }
        };
        drop(thread::Builder::new().name("end-processes".into()).spawn(end));
    }
}

async fn run(exec: Exec, run: &str, tree: Tree, cancel: &Cancel) -> Result<Output, StepError> {
    if cancel.is_cancelled() {
        return Err(cancelled(&exec));
    }
    let mut command = command(&exec, &tree)?;
    let stdin = match &exec.stdin {
        Stdin::Null => Stdio::null(),
        Stdin::Bytes(bytes) => {
            Stdio::from(whole(bytes).map_err(|error| StepError::io("hold the data for stdin", &error))?)
        }
        Stdin::File(path) => Stdio::from(open_input_aside(path, 0).await?),
        Stdin::FileFrom(path, at) => Stdio::from(open_input_aside(path, *at).await?),
    };
    let stdout_file = exec.stdout_file.as_deref().map(|path| open_output(path, exec.stdout_at));
    let stdout_file = stdout_file.transpose()?.map(tokio::fs::File::from_std);
    let mut child =
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| {
            tree.forget();
            spawn_error(&exec, &error)
        })?;
    let tree = tree.started(child.id().unwrap_or_default());
    let mut guard = Guard { run: run.to_owned(), tree: Some(tree.clone()) };

    let keep = if exec.keep == 0 { Exec::KEEP } else { exec.keep };
    let captured = || Capture::new(keep).masking(exec.secrets.clone());
    let (mut out, mut err) = (captured().counting(exec.moved.clone()), captured());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
        return Err(StepError::internal("a pipe to a command is missing"));
    };
    let mut drain =
        Box::pin(async { tokio::try_join!(out.copy(stdout, stdout_file), err.read(stderr)).map(|_| ()) });

    let mut drained = None;
    let status = loop {
        tokio::select! {
            () = cancel.cancelled() => {
                let ended = guard.end(Signal::SIGTERM, GRACE).await;
                drop(child.wait().await);
                ended?;
                return Err(cancelled(&exec));
            }
            status = child.wait() => break status,
            done = &mut drain, if drained.is_none() => {
                let failed = done.is_err();
                drained = Some(done);
                if failed {
                    // Nobody reads on: the command would block for ever, or die of SIGPIPE at best.
                    tree.end(Signal::SIGKILL, Duration::ZERO).await?;
                }
            }
        }
    };
    let status = status.map_err(|error| StepError::io(format!("wait for `{}`", exec.argv[0]), &error))?;
    // What the command left in the background may still hold the pipes: it ends first.
    let left_behind = guard.end(Signal::SIGTERM, GRACE).await?;
    if drained.is_none() {
        drained = tokio::time::timeout(DRAIN, &mut drain).await.ok();
    }
    drop(drain);
    if let Some(Err(error)) = drained {
        let what = exec.stdout_file.as_ref().map_or_else(
            || format!("read the output of `{}`", exec.argv[0]),
            |path| format!("write `{}`", path.display()),
        );
        return Err(StepError::io(what, &error));
    }
    Ok(Output {
        code: status.code(),
        signal: status.signal(),
        stdout_bytes: out.total(),
        stderr_bytes: err.total(),
        stdout: out.into_bytes(),
        stderr: err.into_bytes(),
        left_behind,
    })
}

/// A file in memory that holds all of `bytes`. Through a pipe a command would take what had come for all, if this program
/// were killed meanwhile.
fn whole(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"stdin", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn command(exec: &Exec, tree: &Tree) -> Result<Command, StepError> {
    let Some((program, arguments)) = exec.argv.split_first().filter(|(program, _)| !program.is_empty())
    else {
        return Err(StepError::new(ErrorClass::Invalid, "the command is empty: expected a program"));
    };
    if let Some(dir) = &exec.dir {
        // The error of a start does not say whether the program or the directory is missing.
        let failed = match std::fs::metadata(dir) {
            Ok(found) if found.is_dir() => None,
            Ok(_) => Some(io::ErrorKind::NotADirectory.into()),
            Err(error) => Some(error),
        };
        if let Some(error) = failed {
            return Err(StepError::io(format!("run `{program}` in the directory `{dir}`"), &error));
        }
    }
    let mut command = Command::new(program);
    command.args(arguments).envs(&exec.env);
    if let Some(dir) = &exec.dir {
        command.current_dir(dir);
    }
    tree.mark(&mut command);
    Ok(command)
}

/// Opens the file that takes a command's stdout: anew with mode 0600, or after the first `at` bytes of what is there.
///
/// # Errors
/// It cannot be opened, or holds less than `at` bytes.
pub fn open_output(path: &Path, at: u64) -> Result<File, StepError> {
    let mut options = OpenOptions::new();
    // Nobody is waited for at a pipe.
    options
        .write(true)
        .create(at == 0)
        .truncate(at == 0)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    let fail = |error| StepError::io(format!("write `{}`", path.display()), &error);
    let mut file = options.open(path).map_err(fail)?;
    if at > 0 {
        let length = file.metadata().map_err(fail)?.len();
        if length < at {
            let message = format!("`{}` shrank to {length} bytes, expected {at}", path.display());
            return Err(StepError::new(ErrorClass::Busy, message));
        }
        file.set_len(at).map_err(fail)?;
        file.seek(io::SeekFrom::Start(at)).map_err(fail)?;
    }
    Ok(file)
}

/// Opens a file that goes into a command, from `at` on.
///
/// # Errors
/// It is no file, or cannot be opened.
pub fn open_input(path: &Path, at: u64) -> Result<File, StepError> {
    let opened = reading::open(path).map(reading::Reading::into_file);
    let placed = opened.and_then(|mut file| file.seek(io::SeekFrom::Start(at)).map(|_| file));
    placed.map_err(|error| StepError::io(format!("open `{}` for stdin", path.display()), &error))
}

/// The same where nobody else may have to wait: a file system may not answer.
///
/// # Errors
/// As [`open_input`].
pub async fn open_input_aside(path: &Path, at: u64) -> Result<File, StepError> {
    let path = path.to_owned();
    let opened = tokio::task::spawn_blocking(move || open_input(&path, at)).await;
    opened.map_err(|error| StepError::internal(format!("the file task ended: {error}")))?
}

fn cancelled(exec: &Exec) -> StepError {
    let program = exec.argv.first().map_or("", String::as_str);
    StepError::new(ErrorClass::Cancelled, format!("`{program}` was stopped with the run"))
}

/// The program is there, and something that it takes to start it is not.
fn not_found(program: &str) -> StepError {
    let error = |why: &str| {
        let message = format!("cannot run `{program}`: {why}");
        StepError::new(ErrorClass::NotFound, message)
    };
    if !Path::new("/dev/null").exists() {
        return error("`/dev/null` does not exist").hint("mknod -m 666 /dev/null c 1 3");
    }
    let mut head = [0; 2];
    let script =
        File::open(program).and_then(|mut file| file.read_exact(&mut head)).is_ok() && head == *b"#!";
    let path = shell_word(program);
    match script {
        true => error("the interpreter in its first line does not exist").hint(format!("head -n 1 {path}")),
        false => error("the loader or a library that it names does not exist")
            .hint(format!("file {path}; ldd {path}")),
    }
}

fn spawn_error(exec: &Exec, error: &io::Error) -> StepError {
    let program = &exec.argv[0];
    match error.kind() {
        io::ErrorKind::NotFound if Path::new(program).is_file() => not_found(program),
        io::ErrorKind::NotFound => {
            StepError::new(ErrorClass::NotFound, format!("program `{program}` does not exist"))
                .hint(format!("install it, or give its full path; see: command -v {program}; echo $PATH"))
        }
        io::ErrorKind::PermissionDenied => {
            StepError::new(ErrorClass::Denied, format!("program `{program}` may not be run: {error}"))
                .hint(format!("check that it is executable: ls -l {program}; namei -l {program}"))
        }
        io::ErrorKind::InvalidInput => StepError::new(
            ErrorClass::Invalid,
            format!("cannot run `{program}`: an argument or a variable holds a NUL byte"),
        ),
        io::ErrorKind::ArgumentListTooLong => {
            StepError::new(ErrorClass::Invalid, format!("cannot run `{program}`: its arguments are too long"))
                .hint("hand large values over by `stdin`")
        }
        io::ErrorKind::WouldBlock => StepError::io(format!("run `{program}`"), error)
            .hint("no more processes may be started; see: ulimit -u; systemctl show -p TasksMax user-$(id -u).slice"),
        _ if error.raw_os_error() == Some(nix::libc::ENOEXEC) => {
            StepError::new(ErrorClass::Invalid, format!("`{program}` is no program of this machine"))
                .hint(format!("file {program}"))
        }
        _ => StepError::io(format!("run `{program}`"), error),
    }
}
