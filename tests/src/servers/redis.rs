//! A Redis server of a test's own.

use super::certificates;
pub use super::free_port;
use crate::lab::until;
use std::{
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

/// How a server is to be started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// It asks for this password.
    pub password: Option<&'static str>,
    /// It also listens for TLS, with a certificate of an authority that only the test trusts.
    pub tls: bool,
    /// Further settings, such as `["--maxmemory", "1mb"]`.
    pub settings: &'static [&'static str],
}

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct Redis {
    child: Option<Child>,
    dir: tempfile::TempDir,
    setup: Setup,
    /// The loopback port.
    pub port: u16,
    /// The loopback port that speaks TLS; 0 without.
    pub tls_port: u16,
}

impl Redis {
    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// `redis-server`, `redis-cli` or `openssl` is missing, or the server does not start.
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        if setup.tls {
            certificates(dir.path());
        }
        let mut redis = Self { child: None, dir, setup, port: 0, tls_port: 0 };
        redis.again();
        redis
    }

    /// Starts it once more after [`Redis::end`], empty, on other ports.
    ///
    /// # Panics
    /// The server does not start.
    pub fn again(&mut self) {
        // Another may take a port between its choice and its use.
        for _ in 0..10 {
            self.end();
            (self.port, self.tls_port) = (free_port(), if self.setup.tls { free_port() } else { 0 });
            self.child = Some(self.spawn());
            let mut ended = false;
            until("the Redis server answers or has ended", || {
                ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
                ended || self.raw(&["ping"]).is_ok_and(|answer| answer.stdout.starts_with(b"PONG"))
            });
            if !ended {
                return;
            }
        }
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        panic!("the Redis server does not start: {log}");
    }

    /// Ends the server and waits for it.
    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }

    fn spawn(&self) -> Child {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"]);
        command.args(["--port", &self.port.to_string(), "--unixsocket"]).arg(self.socket());
        command.arg("--dir").arg(self.dir.path()).arg("--logfile").arg(self.path("log"));
        command.args(self.setup.settings);
        if let Some(password) = self.setup.password {
            command.args(["--requirepass", password]);
        }
        if self.setup.tls {
            command.args(["--tls-port", &self.tls_port.to_string(), "--tls-auth-clients", "no"]);
            command.arg("--tls-cert-file").arg(self.path("server.pem"));
            command.arg("--tls-key-file").arg(self.path("server.key"));
            command.arg("--tls-ca-cert-file").arg(self.ca());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("redis-server is installed")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The server's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    /// The certificate of the authority behind the server's own.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// The address of database 0, without the password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// The address of the socket, without the password.
    #[must_use]
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The address that speaks TLS.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("rediss://127.0.0.1:{}/0", self.tls_port)
    }

    /// What another client gets to hear.
    ///
    /// # Panics
    /// `redis-cli` fails.
    #[track_caller]
    pub fn cli(&self, argv: &[&str]) -> String {
        let output = self.raw(argv).expect("redis-cli is installed");
        let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        assert!(output.status.success(), "{argv:?}: {said} {}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// As [`Redis::cli`], with bytes as the last argument.
    ///
    /// # Panics
    /// `redis-cli` fails.
    pub fn cli_bytes(&self, argv: &[&str], last: &[u8]) {
        let mut child = self
            .client()
            .arg("-x")
            .args(argv)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-cli is installed");
        child.stdin.take().expect("a pipe").write_all(last).expect("written");
        assert!(child.wait().expect("it ends").success());
    }

    fn client(&self) -> Command {
        let mut command = Command::new("redis-cli");
        command.arg("-s").arg(self.socket()).stdin(Stdio::null());
        if let Some(password) = self.setup.password {
            command.env("REDISCLI_AUTH", password);
        }
        command
    }

    fn raw(&self, argv: &[&str]) -> std::io::Result<Output> {
        self.client().args(argv).output()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}
