//! An sshd of the tests' own on a port of the loopback, with keys and settings in a folder that goes with it.

use engine::host::HostSpec;
use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

const SSHD: &str = "/usr/sbin/sshd";
/// A bash that sshd starts would read what the user who tests has for interactive shells, unless it is told that it is not
/// the first one.
pub(crate) const PLAIN: &str = "SetEnv SHLVL=2";

/// A running server; ends when it is dropped.
pub(crate) struct Sshd {
    dir: TempDir,
    port: u16,
    server: Child,
}

impl Sshd {
    /// Starts a server that lets this user in with a key of its own.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more lines of `sshd_config`, which cannot change those that are there.
    pub(crate) fn start_with(settings: &str) -> Self {
        Self::start_between("", settings)
    }

    /// The same with lines that win over those that are there.
    pub(crate) fn start_with_first(settings: &str) -> Self {
        Self::start_between(settings, "")
    }

    fn start_between(first: &str, settings: &str) -> Self {
        assert!(Path::new(SSHD).exists(), "{SSHD} is missing: install the package openssh-server");
        let dir = tempfile::tempdir().expect("a temporary folder");
        // sshd refuses to start without the folder into which it locks itself up before a login.
        fs::create_dir_all("/run/sshd").expect("the folder /run/sshd");
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
                .arg(dir.path().join(key))
                .status()
                .expect("ssh-keygen of the package openssh-client");
            assert!(made.success());
        }
        fs::copy(dir.path().join("user.pub"), dir.path().join("authorized")).expect("copied");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("set");
        for _ in 0..20 {
            // Another process may take the port between this look and sshd's start: then the next one.
            let port =
                TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
            let config = dir.path().join("sshd_config");
            let at = dir.path().display();
            let text = format!(
                "{first}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nPidFile {at}/pid\n\
                 AuthorizedKeysFile {at}/authorized\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 PermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\nMaxStartups 100\n{settings}\n{PLAIN}\n"
            );
            fs::write(&config, text).expect("written");
            let mut server = run(dir.path());
            if listens(&mut server, &dir.path().join("pid")) {
                let key = fs::read_to_string(dir.path().join("host.pub")).expect("read");
                fs::write(dir.path().join("known_hosts"), format!("[127.0.0.1]:{port} {key}"))
                    .expect("written");
                return Self { dir, port, server };
            }
        }
        panic!("sshd did not start: {}", fs::read_to_string(dir.path().join("sshd.log")).unwrap_or_default());
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends it with all its connections; nobody listens on its port.
    pub(crate) fn stop(&mut self) {
        self.break_connections();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    /// Starts it again after [`Sshd::stop`].
    pub(crate) fn start_again(&mut self) {
        // The port may still be in use for a moment.
        for _ in 0..200 {
            let pid = self.path("pid");
            let _ = fs::remove_file(&pid);
            self.server = run(self.dir.path());
            if listens(&mut self.server, &pid) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("sshd did not start again: {}", fs::read_to_string(self.path("sshd.log")).unwrap_or_default());
    }

    /// How to reach it, under that name.
    pub(crate) fn spec(&self, name: &str) -> HostSpec {
        let path = |name: &str| Some(self.path(name).display().to_string());
        HostSpec {
            name: name.into(),
            ssh: format!("ssh://127.0.0.1:{}", self.port),
            known_hosts: path("known_hosts"),
            // The user's own settings must not reach the tests.
            config: Some("/dev/null".into()),
            identity: path("user"),
            vars: serde_json::Map::new(),
        }
    }

    /// A file of the server's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The processes that serve a connection each.
    pub(crate) fn sessions(&self) -> Vec<i32> {
        let listing = Command::new("ps")
            .args(["-o", "pid=", "--ppid", &self.server.id().to_string()])
            .output()
            .expect("ps of the package procps");
        String::from_utf8_lossy(&listing.stdout).lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    /// Breaks all connections, as a crash of the server's side would.
    pub(crate) fn break_connections(&self) {
        for pid in self.sessions() {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(dir: &Path) -> Child {
    let mut sshd = Command::new(SSHD);
    sshd.arg("-D").arg("-f").arg(dir.join("sshd_config")).arg("-E").arg(dir.join("sshd.log"));
    sshd.stdin(Stdio::null()).spawn().expect("sshd starts")
}

/// Waits until the server has written its pid, which it does once it listens. False if it ended instead.
fn listens(server: &mut Child, pid: &Path) -> bool {
    for _ in 0..2_000 {
        if pid.exists() {
            return true;
        }
        if !matches!(server.try_wait(), Ok(None)) {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}
