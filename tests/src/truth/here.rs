//! A case on this machine: a folder, a history, a server, and the processes that belong to them.

use super::{Server, sight, world::Said};
use crate::{
    folders::Folders,
    lab::{Manifest, binaries},
    servers::{
        postgres::{self, OWNER, Postgres},
        redis::{self, Redis},
    },
};
use std::{
    fs,
    io::{Read as _, Seek as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command},
};

/// The variable that marks what a case has started.
const MARK: &str = "SHAKEDOWN_CASE";
/// All rows of all tables, with the tables' names, as text.
const ALL_ROWS: &str = "SELECT format('SELECT %L, t::text FROM %I.%I AS t ORDER BY 2', schemaname || '.' || tablename, \
    schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1";
/// A line for each key: its name, its type, whether it lasts and what it holds. A stream keeps marks of entries that it had, which
/// nobody can see.
const ALL_KEYS: &str = r"local lines = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
    local kind = redis.pcall('TYPE', key).ok or '?'
    local look = ({ string = {'GET', key}, hash = {'HGETALL', key}, list = {'LRANGE', key, 0, -1}, set = {'SMEMBERS', key},
        zset = {'ZRANGE', key, 0, -1, 'WITHSCORES'}, stream = {'XRANGE', key, '-', '+'} })[kind] or {'EXISTS', key}
    local holds = cjson.encode(redis.pcall(unpack(look)))
    if kind == 'stream' then holds = holds .. cjson.encode(redis.pcall('XINFO', 'GROUPS', key)) end
    local lasts = tostring(redis.pcall('TTL', key) == -1)
    lines[#lines + 1] = key:gsub('[\n\t]', ' ') .. '\t' .. kind .. ' lasts: ' .. lasts .. ' ' .. holds
end
return lines";

/// A program whose output goes into files: a pipe that something in the background still holds has no end.
#[derive(Debug)]
pub struct Captured {
    child: Child,
    said: [fs::File; 2],
}

impl Captured {
    fn start(command: &mut Command) -> Self {
        let said = [(); 2].map(|()| tempfile::tempfile().expect("a file"));
        let again = |file: &fs::File| file.try_clone().expect("a file");
        command.stdout(again(&said[0])).stderr(again(&said[1]));
        Self { child: command.spawn().expect("it starts"), said }
    }

    pub(super) fn kill(&mut self) {
        // It may have ended by itself.
        let _gone = self.child.kill();
    }

    pub(super) fn wait(mut self) -> Said {
        let status = self.child.wait().expect("it ends");
        let mut text = Vec::new();
        for file in &mut self.said {
            file.rewind().expect("a file");
            file.read_to_end(&mut text).expect("a file");
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        Said { code: status.code(), killed: status.signal() == Some(9), text }
    }
}

/// A case on this machine.
#[derive(Debug)]
pub struct Here {
    folders: Folders,
    postgres: Option<Postgres>,
    redis: Option<Redis>,
}

impl Here {
    pub(super) fn new(server: Server) -> Self {
        Self {
            folders: Folders::new(),
            postgres: (server == Server::Postgres).then(|| Postgres::start(postgres::Setup::default())),
            redis: (server == Server::Redis).then(|| Redis::start(redis::Setup::default())),
        }
    }

    fn dir(&self) -> String {
        self.folders.dir.path().display().to_string()
    }

    pub(super) fn filled(&self, text: &str) -> String {
        let mut text = text.replace("@DIR@", &self.dir());
        if let Some(postgres) = &self.postgres {
            text = text.replace("@PG@", &postgres.unix_url());
        }
        if let Some(redis) = &self.redis {
            text = text.replace("@REDIS@", &redis.url());
        }
        text
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        fs::write(self.folders.path(name), text).expect("written");
    }

    /// A program of the case, which can be told by its environment.
    fn command(&self, program: &Path, argv: &[&str]) -> Command {
        let mut command = self.folders.command(program, argv);
        command.env("COLUMNS", "400").env(MARK, self.dir());
        if let Some(postgres) = &self.postgres {
            command.env("PGHOST", postgres.socket()).env("PGPORT", postgres.port.to_string());
            command.env("PGUSER", OWNER).env("PGDATABASE", "media");
        }
        if let Some(redis) = &self.redis {
            command.env("REDIS", redis.socket());
        }
        command
    }

    pub(super) fn sh(&self, script: &str) -> Said {
        Captured::start(&mut self.command(Path::new("/bin/sh"), &["-c", script])).wait()
    }

    pub(super) fn start(&self, folder: &str, faults: &str, argv: &[String]) -> Captured {
        let argv: Vec<_> = argv.iter().map(String::as_str).collect();
        let mut command = self.command(binaries::shakedown_with_faults(), &argv);
        command.current_dir(self.folders.path(folder)).env("SHAKEDOWN_FAULTS", faults);
        Captured::start(&mut command)
    }

    pub(super) fn look(&self) -> Manifest {
        let mut manifest = Manifest::default();
        let folder = self.folders.dir.path();
        self.processes(&mut manifest);
        // What a run needs while it lasts. It is made when it is first used.
        let scratch = self.folders.state.path().join("scratch");
        let name = |path: &Path| format!("scratch {}", path.strip_prefix(&scratch).unwrap_or(path).display());
        if scratch.exists() {
            sight::files(&scratch, &name, &mut manifest);
            manifest.remove("scratch ");
        }
        let inside = |path: &Path| path.strip_prefix(folder).unwrap_or(path).display().to_string();
        for database in sight::files(folder, &|path| format!("file {}", inside(path)), &mut manifest) {
            let mut client = Command::new("sqlite3");
            client.args(["-readonly", "-cmd", ".timeout 10000"]).arg(&database).arg(sight::DUMP);
            let dump = client.output().expect("sqlite3 is installed");
            let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
            sight::rows(&format!("row {}", inside(&database)), &dump, &mut manifest);
        }
        if let Some(postgres) = &self.postgres {
            sight::rows("row", &postgres.psql_of_answers(ALL_ROWS), &mut manifest);
        }
        if let Some(redis) = &self.redis {
            for line in redis.cli(&["EVAL", ALL_KEYS, "0"]).lines().filter(|line| !line.is_empty()) {
                let (key, facts) = line.split_once('\t').expect("a key and what it holds");
                manifest.add(format!("key {key}"), facts.to_owned());
            }
        }
        manifest
    }

    /// What the case has started and what works in its folder; no program escapes both by accident.
    fn processes(&self, manifest: &mut Manifest) {
        let mark = format!("{MARK}={}", self.dir());
        for process in fs::read_dir("/proc").expect("it can be read").flatten().map(|entry| entry.path()) {
            let marked = || {
                let environment = fs::read(process.join("environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
            };
            let inside = || {
                fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(self.folders.dir.path()))
            };
            let argv = String::from_utf8_lossy(&fs::read(process.join("cmdline")).unwrap_or_default())
                .replace('\0', " ");
            // One without arguments is dead and waits for its parent.
            if !argv.is_empty() && (marked() || inside()) {
                manifest.count(format!("process {}", argv.trim_end()));
            }
        }
    }
}

impl Drop for Here {
    /// Ends what a row has left running, for the next.
    fn drop(&mut self) {
        let mark = format!("{MARK}={}", self.dir());
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid
                && environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
            {
                // It may end by itself right now.
                let _gone = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
    }
}
