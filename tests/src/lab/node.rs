//! One box: running commands and handling files inside it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::keeper::Keeper;
use super::{LIMIT, proc, wait};

/// Enters the control group at `$1` before it becomes `nsenter`: so the box's systemd sees the process as one of
/// its own, and not as one from nowhere.
const ENTER: &str = r#"{ echo 0 >"$1/cgroup.procs"; } 2>/dev/null || true; shift; exec nsenter "$@""#;

#[derive(Debug)]
pub struct Node {
    name: &'static str,
    leader: u32,
    /// The control group of what tests start, as the keeper sees it.
    group: PathBuf,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Its stdout.
    ///
    /// # Panics
    /// If it did not succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{self}");
        self.stdout
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nstdout: {}\nstderr: {}", self.status, self.stdout, self.stderr)
    }
}

impl Node {
    /// Waits until the box is up; `not` is the process 1 of its life before.
    pub(crate) fn up(name: &'static str, keeper: &Keeper, not: Option<u32>) -> Result<Self, String> {
        let leader = keeper.leader(name, not).map_err(|problem| format!("{problem}\n{}", keeper.log()))?;
        let (pid, lab) = (keeper.pid(), keeper.group());
        let group = PathBuf::from(format!("/proc/{pid}/root/sys/fs/cgroup/{lab}/{name}/payload/lab"));
        let node = Self { name, leader, group };
        // Asked through the bus, which is not there in the first moments: an error means "not yet".
        let is_up = || {
            let state = node.sh("systemctl is-system-running").stdout;
            matches!(state.trim(), "running" | "degraded")
        };
        if !wait::holds(LIMIT, is_up) {
            let jobs = node.sh("systemctl --no-pager list-jobs; systemctl --no-pager --failed");
            return Err(format!("`{name}` did not come up within {LIMIT:?}\n{jobs}\n{}", keeper.log()));
        }
        // Not earlier, for systemd clears its tree when it starts. Without it commands still run, in the group
        // of the test.
        let _ = std::fs::create_dir_all(&node.group);
        Ok(node)
    }

    /// Kills its process 1, and with it the kernel kills all others of the box.
    pub(crate) fn kill(&self) {
        send(self.leader, Signal::SIGKILL);
    }

    /// Waits until process 1 has ended, and with it all others.
    ///
    /// At its end systemd stops all processes before it kills them, and an `nsenter` whose program is stopped stops
    /// itself. It then never takes note of the program's end, and the kernel keeps the box's process namespace for
    /// that. So this wakes the `nsenter`s of this box.
    pub(crate) fn ended(&self) -> Result<(), String> {
        let leader = self.leader.to_string();
        let entered = |pid: &u32| proc::name(*pid) == "nsenter" && proc::arguments(*pid).contains(&leader);
        let ended = wait::holds(LIMIT, || {
            let stopped = proc::all().into_iter().filter(|&pid| proc::is_stopped(pid));
            stopped.filter(entered).for_each(|pid| send(pid, Signal::SIGCONT));
            proc::is_dead(self.leader)
        });
        if ended { Ok(()) } else { Err(format!("`{}` did not go down within {LIMIT:?}", self.name)) }
    }

    /// `edge` or `nas`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
    }

    /// The id of its process 1, as this machine counts.
    #[must_use]
    pub fn leader(&self) -> u32 {
        self.leader
    }

    /// A command that runs in the box as root, in `/`, with a plain environment; add to it as to any other.
    ///
    /// Mind that its child is `nsenter`, and the program is the child of that: use [`Node::spawn`] to send signals.
    pub fn command<I>(&self, argv: I) -> Command
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let mut command = Command::new("/bin/sh");
        command
            .env_clear()
            .envs([("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")])
            .envs([("HOME", "/root"), ("USER", "root"), ("LANG", "C.UTF-8"), ("SHELL", "/bin/sh")])
            .args(["-c", ENTER, "enter"])
            .arg(&self.group)
            .args(["--target", &self.leader.to_string()])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"])
            .args(argv)
            .stdin(Stdio::null());
        command
    }

    /// The same as another user of the box (`pilot`, `drone`).
    pub fn command_as<I>(&self, user: &str, argv: I) -> Command
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let drop_root = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--"];
        let argv: Vec<OsString> = drop_root
            .into_iter()
            .map(OsString::from)
            .chain(argv.into_iter().map(|argument| argument.as_ref().to_owned()))
            .collect();
        let mut command = self.command(argv);
        command.env("HOME", format!("/home/{user}")).env("USER", user);
        command
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run<I>(&self, argv: I) -> Output
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        collect(self.command(argv))
    }

    /// Runs a line of `/bin/sh` to its end.
    #[track_caller]
    pub fn sh(&self, line: &str) -> Output {
        self.run(["/bin/sh", "-c", line])
    }

    /// Starts it with stdin, stdout and stderr as pipes.
    #[track_caller]
    pub fn spawn<I>(&self, argv: I) -> Running
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let mut command = self.command(argv);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::start(command)
    }

    /// Makes or overwrites the file, and its folders.
    #[track_caller]
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let line = r#"mkdir -p "$(dirname "$1")" && cat >"$1""#;
        let mut running = self.spawn(["/bin/sh", "-c", line, "write", path]);
        // If it has ended early, its error says more than the broken pipe.
        let _ = running.child.stdin.take().expect("piped").write_all(content.as_ref());
        running.wait().ok();
    }

    #[track_caller]
    pub fn read(&self, path: &str) -> Vec<u8> {
        let output = self.command(["cat", "--", path]).output().expect("sh starts");
        assert!(output.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.run(["test", "-e", path]).status.success()
    }

    /// Copies a program of this machine into the box.
    #[track_caller]
    pub fn install_binary(&self, source: impl AsRef<Path>, target: &str) {
        let source = source.as_ref();
        let content = std::fs::read(source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        self.write(target, content);
        self.run(["chmod", "755", target]).ok();
    }

    /// Argument lists of all that runs in the box now, with the ids as this machine counts.
    #[must_use]
    pub fn processes(&self) -> Vec<(u32, Vec<String>)> {
        let mine = proc::namespace(self.leader, "pid");
        let inside = proc::all().into_iter().filter(|&pid| proc::namespace(pid, "pid") == mine);
        inside.map(|pid| (pid, proc::arguments(pid))).filter(|(_, argv)| !argv.is_empty()).collect()
    }
}

/// A program that runs in a box. Dropping it leaves it running: the lab's end is its end.
#[derive(Debug)]
pub struct Running {
    /// `nsenter`, which ends as its child does, also by the same signal.
    pub child: Child,
    pid: u32,
}

impl Running {
    /// Starts a command of [`Node::command`].
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        let child = command.spawn().expect("sh starts");
        let nsenter = child.id();
        let mut pid = None;
        wait::holds(LIMIT, || {
            pid = proc::children(nsenter).first().copied();
            pid.is_some() || proc::is_dead(nsenter)
        });
        // None: it has ended already, and signals go nowhere.
        Self { child, pid: pid.unwrap_or(0) }
    }

    /// The id of the program itself, as this machine counts; 0 if it ended at once.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends the program a signal, `Signal::SIGKILL` for one.
    pub fn signal(&self, signal: Signal) {
        if self.pid != 0 {
            send(self.pid, signal);
        }
    }

    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its end, and what it said that was not read before.
    #[track_caller]
    pub fn wait(self) -> Output {
        finish(self.child)
    }
}

fn send(pid: u32, signal: Signal) {
    if let (false, Ok(pid)) = (proc::is_dead(pid), i32::try_from(pid)) {
        // It may end right now.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

#[track_caller]
fn collect(mut command: Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.spawn().expect("sh starts"))
}

/// Ends with the program, not with the last holder of its pipes: a background child that holds them must not
/// keep a test waiting for ever.
#[track_caller]
fn finish(mut child: Child) -> Output {
    drop(child.stdin.take());
    let stdout = child.stdout.take().map(drain);
    let stderr = child.stderr.take().map(drain);
    let status = child.wait().expect("it was started");
    Output { status, stdout: text(stdout), stderr: text(stderr) }
}

type Drain = std::sync::mpsc::Receiver<Vec<u8>>;

fn drain(mut pipe: impl Read + Send + 'static) -> Drain {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

fn text(drain: Option<Drain>) -> String {
    let mut bytes = Vec::new();
    if let Some(receiver) = drain {
        // What the program wrote is in the pipe by now; the limit is for a holder that outlives it.
        while let Ok(part) = receiver.recv_timeout(std::time::Duration::from_secs(2)) {
            bytes.extend(part);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
