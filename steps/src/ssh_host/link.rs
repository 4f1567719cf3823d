//! How a connection is made: where to, and with which settings of ssh.

use super::{
    errors::{connect_error, host_part, on_the_way},
    guard::BEAT_S,
};
use engine::{
    ErrorClass, StepError,
    host::{Cancel, HostSpec},
    local::{process::Leader, reading},
};
use openssh::Session;
use std::{
    fs::File,
    io,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// How long the TCP connection and the handshake may take, in seconds.
const CONNECT_S: u64 = 10;
/// The same for a host that has been away for a while: one that is back answers at once.
const CONNECT_AWAY_S: u64 = 3;
/// How long the connection with its login may take.
const LOGIN: Duration = Duration::from_secs(30);
/// How many keep-alives may stay without an answer. ssh gives up when the next would be due: 20 s after the last word
/// of the host, as the watchdog on the host does.
const UNANSWERED: u32 = 3;
/// How long an unused connection stays after its run has died, in seconds.
const PERSIST_S: u64 = 60;
/// The settings that are handed to ssh, in the folder of the connection; and a copy of those that the playbook names.
const CONFIG: &str = "config";
const GIVEN: &str = "given";
/// The largest file of settings, in bytes.
const LARGEST_CONFIG: u64 = 1 << 20;
/// The longest folder in which a socket can be made: the kernel takes 107 bytes, ssh adds 17 of its own.
const LONGEST_DIR: usize = 60;

/// An ssh destination in its parts, none of which ssh could take for an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) host: String,
    pub(super) user: Option<String>,
    pub(super) port: Option<u16>,
}

impl Destination {
    pub(super) fn parse(spec: &HostSpec) -> Result<Self, StepError> {
        let text = spec.ssh.as_str();
        let invalid = |why: &str| {
            let message =
                format!("the ssh destination `{}` of host `{}` {why}", text.escape_debug(), spec.name);
            StepError::new(ErrorClass::Invalid, message)
                .hint("expected an alias of ssh_config, user@host, or ssh://user@host:port")
        };
        let host = host_part(text).to_owned();
        let rest = text.strip_prefix("ssh://").unwrap_or(text);
        let user = rest.rsplit_once('@').map(|(user, _)| user.to_owned());
        let after = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        let port = match text.strip_prefix("ssh://").and(after.rsplit_once(':')) {
            Some((_, port)) if !port.contains(']') => {
                Some(port.parse().map_err(|_| invalid("has a port that is no number from 1 to 65535"))?)
            }
            _ => None,
        };
        for (part, what) in [(Some(&host), "host"), (user.as_ref(), "user")] {
            let Some(part) = part else { continue };
            if part.is_empty() {
                return Err(invalid(&format!("has an empty {what}")));
            }
            if part.starts_with('-') {
                return Err(invalid(&format!("has a {what} that begins with `-`")));
            }
            if part.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(invalid(&format!("has a {what} with blanks or control characters")));
            }
        }
        for path in [&spec.known_hosts, &spec.config, &spec.identity].into_iter().flatten() {
            if path.is_empty() || path.starts_with('-') || path.contains(['"', '\n', '\0']) {
                return Err(invalid(&format!(
                    "comes with a path that ssh cannot take: `{}`",
                    path.escape_debug()
                )));
            }
        }
        Ok(Self { host, user, port })
    }
}

/// The ssh process behind a connection.
#[derive(Debug)]
pub(super) struct Master {
    pid: i32,
    /// When it started, in clock ticks since boot: tells it from another process with a reused id.
    started: String,
}

/// How long a master may take to end once it is told to.
pub(super) const END: Duration = Duration::from_secs(2);

/// The process that serves a connection, if it still does.
pub(super) async fn master_of(session: &Session) -> Option<Master> {
    let mut check = Command::new("ssh");
    check.stdin(Stdio::null()).kill_on_drop(true);
    check.args(["-O", "check", "-S"]).arg(session.control_socket()).arg("--").arg("master");
    let output = tokio::time::timeout(END, check.output()).await.ok()?.ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let digits = said.split_once("pid=")?.1.chars().take_while(char::is_ascii_digit).collect::<String>();
    let pid = digits.parse().ok()?;
    Some(Master { pid, started: started(pid)? })
}

/// The start time of a process, as `/proc/PID/stat` has it; none for one that has ended.
fn started(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so the fields are counted from its end.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18).map(str::to_owned)).flatten()
}

impl Master {
    fn is_alive(&self) -> bool {
        started(self.pid).as_deref() == Some(self.started.as_str())
    }

    /// Returns once the process has ended; ends it if it does not by itself.
    pub(super) async fn await_end(&self) {
        let deadline = tokio::time::Instant::now() + END;
        while self.is_alive() {
            if tokio::time::Instant::now() > deadline {
                // It is ours, made by this connection, and was told to end before.
                let pid = nix::unistd::Pid::from_raw(self.pid);
                let _gone_already = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Ends an ssh that is still logging in, with the program that it connects by.
async fn give_up(ssh: &mut Child, dir: TempDir) {
    end_group(ssh).await;
    // It may have logged in, and gone to the background, in this very moment.
    if dir.path().join("master").exists() {
        let session = Session::new_native_mux(dir);
        let master = master_of(&session).await;
        drop(tokio::time::timeout(END, session.close()).await);
        if let Some(master) = master {
            master.await_end().await;
        }
    }
}

async fn end_group(ssh: &mut Child) {
    if let Some(id) = ssh.id().and_then(|id| i32::try_from(id).ok()) {
        let group = nix::unistd::Pid::from_raw(id);
        let _gone_already = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    }
    let _status = ssh.wait().await;
}

/// What no setting of a user changes, on the way as at its end: nothing is asked, no key of a host is accepted unseen,
/// nothing is forwarded, and no connection outlives the run. One that the user has made before is used, as for a jump host
/// that wants a password. What ssh says is read here, so that its users cannot silence it.
const ALWAYS: &str = "\
LogLevel INFO
BatchMode yes
StrictHostKeyChecking yes
UpdateHostKeys no
ControlMaster no
ClearAllForwardings yes
ForwardAgent no
ForwardX11 no
PermitLocalCommand no
";

fn missing(program: &str, package: &str) -> StepError {
    StepError::new(ErrorClass::Unsupported, format!("the program `{program}` does not exist here"))
        .hint(format!("sudo apt install {package}"))
}

/// All that is needed to make a connection, and to make it again.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) spec: HostSpec,
    pub(super) destination: Destination,
    pub(super) control_dir: PathBuf,
    /// Held open: a long path to it is shortened by way of this file descriptor.
    pub(super) folder: File,
}

impl Link {
    /// The control directory by a path that is short, and plain: ssh takes the path of its settings apart when it
    /// connects to a jump host.
    fn parent(&self) -> PathBuf {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(byte);
        let path = self.control_dir.as_os_str().as_bytes();
        if path.len() <= LONGEST_DIR && path.iter().all(plain) {
            return self.control_dir.clone();
        }
        format!("/proc/{}/fd/{}", std::process::id(), self.folder.as_raw_fd()).into()
    }

    /// Writes the settings for this ssh and for each that it starts to reach a jump host, which takes over its file of
    /// settings but none of its arguments. The first value of an option counts: these, then those of the user.
    fn write_config(&self, dir: &Path) -> Result<(), StepError> {
        let write = |name: &str, text: &[u8]| {
            let path = dir.join(name);
            std::fs::write(&path, text)
                .map_err(|error| StepError::io(format!("write `{}`", path.display()), &error))
        };
        let alive = format!("ServerAliveInterval {BEAT_S}\nServerAliveCountMax {UNANSWERED}\n");
        let mut text = format!("{alive}ConnectTimeout {CONNECT_S}\n{ALWAYS}");
        match &self.spec.config {
            None => text.push_str("Include ~/.ssh/config\nMatch all\nInclude /etc/ssh/ssh_config\n"),
            Some(path) => {
                // A copy, for ssh takes a file by `Include` only if no group may write it.
                let given = reading::bytes(Path::new(path), LARGEST_CONFIG)
                    .map_err(|error| StepError::io(format!("read the ssh configuration `{path}`"), &error))?;
                write(GIVEN, &given)?;
                text.push_str(&format!("Include {}\n", dir.join(GIVEN).display()));
            }
        }
        if let Some(path) = &self.spec.known_hosts {
            // For jump hosts that have none of their own.
            let path = path.replace('%', "%%");
            text.push_str(&format!("Match all\nUserKnownHostsFile \"{path}\" ~/.ssh/known_hosts\n"));
        }
        write(CONFIG, text.as_bytes())
    }

    /// What ssh said, with the user's name of what this program made a copy of.
    fn as_named(&self, dir: &Path, log: &str) -> String {
        match &self.spec.config {
            Some(path) => log.replace(&*dir.join(GIVEN).to_string_lossy(), path),
            None => log.to_owned(),
        }
    }

    /// Logs in. When `cancel` is raised, the half-made connection is ended before the answer comes. `away`: earlier
    /// tries have failed for a while.
    pub(super) async fn connect(&self, away: bool, cancel: &Cancel) -> Result<Arc<Session>, StepError> {
        let fail =
            |error| StepError::io(format!("make a folder in `{}`", self.control_dir.display()), &error);
        let dir = tempfile::Builder::new().prefix("h").tempdir_in(self.parent()).map_err(fail)?;
        self.write_config(dir.path())?;
        let log = dir.path().join("log");
        let create = |path: &Path| File::options().append(true).create_new(true).mode(0o600).open(path);
        let mut ssh = Leader::spawn(&mut self.master(dir.path(), create(&log).map_err(fail)?, away))
            .map_err(|error| {
                if error.kind() == io::ErrorKind::NotFound {
                    return missing("setsid", "util-linux");
                }
                StepError::io("run `ssh`", &error)
            })?;
        match self.end_of(&mut ssh, cancel).await {
            Ok(status) if status.success() => Ok(Arc::new(Session::new_native_mux(dir))),
            Ok(status) if status.code() == Some(127) => Err(missing("ssh", "openssh-client")),
            Ok(_) => {
                let text =
                    |log| String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
                let mut said = text(log);
                if on_the_way(&said) {
                    // What the ssh to a jump host says is dropped by one that is to go to the background.
                    let log = dir.path().join("way");
                    let mut ssh = self.ssh(dir.path(), create(&log).map_err(fail)?, away);
                    let mut ssh =
                        Leader::spawn(ssh.args(["-S", "none", "-T", "--", &self.destination.host, "true"]));
                    if let Ok(ssh) = &mut ssh
                        && let Err(error) = self.end_of(ssh, cancel).await
                    {
                        end_group(ssh).await;
                        return Err(error);
                    }
                    let told = text(log);
                    said = if told.is_empty() { said } else { told };
                }
                Err(connect_error(&self.spec, &self.as_named(dir.path(), &said)))
            }
            Err(error) => {
                give_up(&mut ssh, dir).await;
                Err(error)
            }
        }
    }

    /// How an ssh that logs in ends.
    async fn end_of(&self, ssh: &mut Child, cancel: &Cancel) -> Result<ExitStatus, StepError> {
        tokio::select! {
            status = ssh.wait() => status.map_err(|error| StepError::io("run `ssh`", &error)),
            () = tokio::time::sleep(LOGIN) => Err(connect_error(&self.spec, "the login timed out")),
            () = cancel.cancelled() => Err(StepError::new(
                ErrorClass::Cancelled,
                format!("connecting to host `{}` was stopped with the run", self.spec.name),
            )),
        }
    }

    /// The ssh that logs in and then serves all commands from the background.
    fn master(&self, dir: &Path, log: File, away: bool) -> Command {
        let mut ssh = self.ssh(dir, log, away);
        let persist = format!("ControlPersist={PERSIST_S}s");
        ssh.arg("-S").arg(dir.join("master")).args(["-o", &persist, "-M", "-f", "-N", "--"]);
        ssh.arg(&self.destination.host);
        ssh
    }

    /// An ssh, but for what it is to do.
    fn ssh(&self, dir: &Path, log: File, away: bool) -> Command {
        // A session of its own: without a terminal neither this ssh nor any program that it connects by can ask
        // something there and wait for the answer. Nor does a terminal's Ctrl-C leave a half-made connection behind.
        let mut ssh = Command::new("setsid");
        ssh.arg("ssh")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            // Nor is a window to be opened for a question; older versions do not know the first.
            .env("SSH_ASKPASS_REQUIRE", "never")
            .env("SSH_ASKPASS", "/bin/false")
            .arg("-F")
            .arg(dir.join(CONFIG));
        let timeout = format!("ConnectTimeout={}", if away { CONNECT_AWAY_S } else { CONNECT_S });
        for option in [timeout.as_str(), "RemoteCommand=none", "RequestTTY=no"] {
            ssh.args(["-o", option]);
        }
        if let Some(path) = &self.spec.known_hosts {
            let known = format!("UserKnownHostsFile=\"{}\"", path.replace('%', "%%"));
            ssh.args(["-o", &known, "-o", "GlobalKnownHostsFile=/dev/null"]);
        }
        if let Some(path) = &self.spec.identity {
            ssh.args(["-o", "IdentitiesOnly=yes", "-i", path]);
        }
        if let Some(user) = &self.destination.user {
            ssh.args(["-l", user]);
        }
        if let Some(port) = self.destination.port {
            ssh.args(["-p", &port.to_string()]);
        }
        ssh
    }
}
