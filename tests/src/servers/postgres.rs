//! A PostgreSQL server of a test's own.

use super::{certificates, free_port};
use crate::lab::until;
use std::{
    ffi::OsStr,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

/// The owner of the cluster, who may do everything, and lets himself in by the socket without a password.
pub const OWNER: &str = "owner";
/// The user of the tests, and the password that the server wants of it over TCP.
pub const USER: &str = "tester";
/// See [`USER`].
pub const PASSWORD: &str = "canary-5f1e8d20";

/// How a server is to be started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// It speaks TLS too, with a certificate of an authority that only the test trusts.
    pub tls: bool,
    /// Further settings, such as `["max_connections=5"]`.
    pub settings: &'static [&'static str],
}

/// A running server with a database `media`; it ends with this value, or with the test's process.
#[derive(Debug)]
pub struct Postgres {
    child: Option<Child>,
    dir: tempfile::TempDir,
    setup: Setup,
    /// The loopback port; the socket bears the same number.
    pub port: u16,
}

impl Postgres {
    /// Makes a cluster and starts it.
    ///
    /// # Panics
    /// PostgreSQL or `openssl` is not installed, or the server does not start.
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        if setup.tls {
            certificates(dir.path());
            let key = dir.path().join("server.key");
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("its mode is set");
        }
        let mut postgres = Self { child: None, dir, setup, port: 0 };
        give_away(postgres.dir.path());
        let made = program("initdb")
            .arg("-D")
            .arg(postgres.path("data"))
            .args(["-U", OWNER, "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8"])
            .args(["--no-sync", "--no-instructions"])
            .stdin(Stdio::null())
            .output()
            .expect("postgresql is installed");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let hba = format!(
            "local all,replication {OWNER} trust\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n"
        );
        postgres.write_inside("data/pg_hba.conf", &hba);
        postgres.again();
        postgres.psql_in("postgres", &format!("CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'"));
        postgres.psql_in("postgres", &format!("CREATE DATABASE media OWNER {USER}"));
        postgres
    }

    /// Starts it once more after [`Postgres::end`], with its data, on the same port.
    ///
    /// # Panics
    /// The server does not start.
    pub fn again(&mut self) {
        // Another may take a port between its choice and its use.
        for _ in 0..10 {
            self.end();
            if self.port == 0 {
                self.port = free_port();
            }
            self.child = Some(self.spawn());
            let mut ended = false;
            until("the PostgreSQL server answers or has ended", || {
                ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
                ended || self.raw("postgres", "SELECT 1").status.success()
            });
            if !ended {
                return;
            }
            self.port = 0;
        }
        panic!("the PostgreSQL server does not start: {}", self.log());
    }

    fn spawn(&self) -> Child {
        let mut command = program("postgres");
        command.arg("-D").arg(self.path("data")).args(["-p", &self.port.to_string(), "-h", "127.0.0.1"]);
        command.arg("-k").arg(self.dir.path());
        for setting in ["fsync=off", "deadlock_timeout=20ms", "log_statement=all", "autovacuum=off"] {
            command.args(["-c", setting]);
        }
        for setting in self.setup.settings {
            command.args(["-c", setting]);
        }
        if self.setup.tls {
            command.args(["-c", "ssl=on"]);
            for (setting, file) in [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key")] {
                command.arg("-c").arg(format!("{setting}={}", self.path(file).display()));
            }
        }
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().expect("postgresql is installed")
    }

    /// What the server has logged: each statement that it was asked to carry out is in it.
    ///
    /// # Panics
    /// The log cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path("log")).expect("a log")).into_owned()
    }

    /// Kills the server and all of its processes as a crash does, and waits for it.
    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; its children end with it, and the socket's lock is free then.
            let _gone = child.kill();
            let _gone = child.wait();
            let data = self.path("data").display().to_string();
            until("its processes have ended", || !processes(&data));
            let _gone = std::fs::remove_file(self.path("data/postmaster.pid"));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_inside(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    /// Adds rules about who is let in before all others, and has the server read them.
    ///
    /// # Panics
    /// They cannot be written.
    pub fn let_in(&self, rules: &str) {
        let path = self.path("data/pg_hba.conf");
        let there = std::fs::read_to_string(&path).expect("rules");
        std::fs::write(path, format!("{rules}\n{there}")).expect("written");
        self.psql("SELECT pg_reload_conf()");
    }

    /// The folder of the socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        self.dir.path()
    }

    /// The certificate of the authority behind the server's own.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// The address of the database for [`USER`], without the password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/media", self.port)
    }

    /// The address by the socket for [`OWNER`], who needs no password.
    #[must_use]
    pub fn unix_url(&self) -> String {
        format!("postgres:///media?host={}&port={}&user={OWNER}", self.socket().display(), self.port)
    }

    /// What another client gets to hear: rows as lines, columns parted by `|`.
    ///
    /// # Panics
    /// The server objects.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        self.psql_in("media", sql)
    }

    /// Asks a question as the owner, and then each answer to it as a question.
    ///
    /// # Panics
    /// The server objects.
    #[must_use]
    #[track_caller]
    pub fn psql_of_answers(&self, sql: &str) -> String {
        let mut client = self.client("media");
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = client.spawn().expect("psql is installed");
        writeln!(child.stdin.take().expect("a pipe"), "{sql} \\gexec").expect("written");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    #[track_caller]
    fn psql_in(&self, database: &str, sql: &str) -> String {
        let output = self.raw(database, sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn client(&self, database: &str) -> Command {
        let mut command = Command::new("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", OWNER, "-d", database]);
        command.arg("-h").arg(self.socket()).args(["-p", &self.port.to_string()]);
        command.env_remove("PGPASSWORD").env("PGOPTIONS", "-c client_min_messages=warning");
        command
    }

    fn raw(&self, database: &str, sql: &str) -> Output {
        self.client(database).args(["-c", sql]).stdin(Stdio::null()).output().expect("psql is installed")
    }

    /// Another client of [`USER`] that has a connection and does nothing.
    ///
    /// # Panics
    /// The server objects.
    #[must_use]
    pub fn connect(&self) -> Holder {
        let url = format!("{}?application_name=idler", self.url());
        let client = || {
            let mut command = Command::new("psql");
            command.args(["-X", "-q", &url]).env("PGPASSWORD", PASSWORD).stderr(Stdio::null());
            command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("psql is installed")
        };
        let count = || self.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'idler'");
        let before = count();
        let mut child = client();
        until("it is connected", || {
            // A session that is about to end may still have had the last place.
            if !matches!(child.try_wait(), Ok(None)) {
                child = client();
            }
            count() != before
        });
        Holder(child)
    }

    /// A server that follows this one and can only be read.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn replica(&self) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut replica = Self { child: None, dir, setup: self.setup, port: 0 };
        give_away(replica.dir.path());
        let made = program("pg_basebackup")
            .arg("-D")
            .arg(replica.path("data"))
            .args(["-U", OWNER, "-R", "--no-sync", "-c", "fast", "-p", &self.port.to_string(), "-h"])
            .arg(self.socket())
            .output()
            .expect("postgresql is installed");
        assert!(made.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&made.stderr));
        replica.again();
        replica
    }

    /// Another client that holds what it was given, in a transaction that stays open until it is dropped.
    ///
    /// # Panics
    /// The server objects.
    #[must_use]
    pub fn hold(&self, sql: &str) -> Holder {
        let mut child = self
            .client("media")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("psql is installed");
        let stdin = child.stdin.as_mut().expect("a pipe");
        writeln!(stdin, "SET application_name = 'holder'; BEGIN; {sql};").expect("written");
        let held = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holder' AND state = 'idle in transaction'";
        until("the lock is held", || self.psql(held) == "1");
        Holder(child)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
    }
}

/// A client with an open transaction; dropping it rolls that back.
#[derive(Debug)]
pub struct Holder(Child);

impl Holder {
    /// Ends its transaction with effect.
    ///
    /// # Panics
    /// It has ended before.
    pub fn commit(mut self) {
        writeln!(self.0.stdin.as_mut().expect("a pipe"), "COMMIT;").expect("written");
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // The end of its input is the end of its session.
        drop(self.0.stdin.take());
        let _ended = self.0.wait();
    }
}

/// Whether a process works on this data.
fn processes(data: &str) -> bool {
    let Ok(all) = std::fs::read_dir("/proc") else { return false };
    all.flatten().any(|process| {
        std::fs::read_link(process.path().join("cwd"))
            .is_ok_and(|folder| folder.as_os_str() == OsStr::new(data))
    })
}

/// Whether this process is root's: the server refuses to be.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The user who runs the server where the tests are root's.
fn user() -> nix::unistd::User {
    let named = |name: &str| nix::unistd::User::from_name(name).ok().flatten();
    named("postgres").or_else(|| named("nobody")).expect("a user without privileges")
}

/// Gives a folder and what is in it to the user of the server.
fn give_away(folder: &Path) {
    if !is_root() {
        return;
    }
    let user = user();
    let own = |path: &Path| {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("its owner is set")
    };
    own(folder);
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        own(&entry.path());
    }
}

/// A program of the server, of the newest version there is. It ends at once when this process does.
fn program(name: &str) -> Command {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    let path = found.pop().unwrap_or_else(|| name.into());
    let mut command = Command::new("setpriv");
    // SIGQUIT: the server ends its own processes too.
    command.args(["--pdeathsig", "QUIT"]);
    if is_root() {
        let user = user();
        command.args([
            format!("--reuid={}", user.uid),
            format!("--regid={}", user.gid),
            "--clear-groups".into(),
        ]);
    }
    command.arg("--").arg(path).current_dir("/");
    command
}
