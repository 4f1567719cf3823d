//! The journal on disk: one SQLite database a state folder, one owner a run.

mod health;
mod prune;
mod reserve;
mod run;

pub use prune::Pruned;
pub use run::RunJournal;

use super::JournalError;
use crate::{
    event::{Record, Verdict},
    plan::Plan,
    quantity::Millis,
};
use reserve::{Reserve, Unnamed};
use run::LockFile;
use rusqlite::{Connection, OptionalExtension, params};
use std::{
    fs::{DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The version of the database's layout.
const LAYOUT: i64 = 1;
/// How long a write waits for another process that writes its own run.
const BUSY: Duration = Duration::from_secs(30);

/// How long the lock of an owner that has died may still be held: by the kernel, which takes a large process apart bit by
/// bit, or by a child that was just being started and closes it with its first program.
const LINGERS: Duration = Duration::from_secs(5);

/// All runs of a state folder.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// The run's id.
    pub id: String,
    /// The playbook's name.
    pub playbook: String,
    /// The plan's hash.
    pub plan_hash: String,
    /// When it began, in milliseconds since 1970 UTC.
    pub started_ms: u64,
    /// When it ended; missing if it runs or died.
    pub finished_ms: Option<u64>,
    /// How it ended.
    pub verdict: Option<Verdict>,
    /// Whether a living process owns it, or something that is not to be seen.
    pub alive: bool,
    /// Whether its process is not to be seen and yet something holds its lock: it is ending, or runs where this process cannot
    /// look, as in another container.
    pub unseen: bool,
    /// The process that owns it, or did last.
    pub pid: u32,
    /// Whether the machine has been started anew since the owner began.
    pub rebooted: bool,
}

impl RunRow {
    /// Whether its owner died before the run was over.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.finished_ms.is_none() && !self.alive
    }
}

/// Who owns a run.
#[derive(Debug)]
enum Owner {
    /// Nobody: here is its lock.
    Nobody(LockFile),
    /// A living process.
    Lives,
    /// Its process is not to be seen, and yet its lock is held.
    Unseen,
}

/// A dead run that this process owns now.
#[derive(Debug)]
pub struct TakenOver {
    /// What it was to do.
    pub plan: Plan,
    /// What it has done.
    pub history: Vec<Record>,
    /// Where the rest of its history goes.
    pub journal: RunJournal,
}

fn cannot(what: &str, path: &Path, error: impl std::fmt::Display) -> JournalError {
    JournalError::new(format!("cannot {what} `{}`: {error}", path.display()))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::from(since).0
}

/// Whether a process is there and was not killed. One that cannot be seen is taken for dead.
fn lives(pid: u32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return false };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let killed = |name: &str| {
        let pending = field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
        pending & (1 << (nix::libc::SIGKILL - 1)) != 0
    };
    !matches!(field("State:").and_then(|state| state.chars().next()), None | Some('Z' | 'X'))
        && !killed("SigPnd:")
        && !killed("ShdPnd:")
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

impl Store {
    /// Opens the state folder, and makes it if it is missing: mode 0700, files 0600.
    ///
    /// # Errors
    /// It cannot be made or written, lies on a network file system, or holds a journal that is damaged or of a newer
    /// version. A damaged journal is not touched.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let choose = "choose another folder: --state-dir DIR or SHAKEDOWN_STATE_DIR";
        let make = |path: &Path| {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|error| cannot("make the state folder", path, error).hint(choose))
        };
        make(dir)?;
        health::refuse_network(dir)?;
        make(&dir.join("locks"))?;
        make(&dir.join("scratch"))?;
        let path = dir.join("journal.sqlite");
        // One after the other: SQLite waits for nobody when a new database is switched to its log.
        let turn = File::open(dir).and_then(|folder| folder.lock().map(|()| folder));
        let turn = turn.map_err(|error| cannot("lock the state folder", dir, error).hint(choose))?;
        health::check(&path)?;
        // Made by us first, for SQLite would make it as the umask says.
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| cannot("open the journal", &path, error).hint(choose))?;
        let connection = Connection::open(&path).map_err(|error| cannot("open the journal", &path, error))?;
        let store = Self { dir: dir.to_owned(), connection: Arc::new(Mutex::new(connection)) };
        store.prepare().map_err(|error| {
            let full = || "its disk is full: df -h; or choose another folder: --state-dir DIR".to_owned();
            let usual = || if crate::local::is_full(&path) { full() } else { health::move_away(&path) };
            let hint = error.hint.clone().unwrap_or_else(usual);
            cannot("use the journal", &path, error).hint(hint)
        })?;
        drop(turn);
        Ok(store)
    }

    fn prepare(&self) -> Result<(), JournalError> {
        let connection = lock(&self.connection);
        let sql = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => {
                JournalError::new(error.to_string()).hint("its disk is full: df -h")
            }
            _ => JournalError::new(error.to_string()),
        };
        connection.busy_timeout(BUSY).map_err(sql)?;
        connection.pragma_update(None, "journal_mode", "wal").map_err(sql)?;
        // Invariant 1: a commit survives a power cut.
        connection.pragma_update(None, "synchronous", "full").map_err(sql)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(sql)?;
        let layout: i64 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sql)?;
        if layout > LAYOUT {
            return Err(JournalError::new(format!("its layout is {layout}, this version knows {LAYOUT}"))
                .hint("use the version of shakedown that wrote it, or another folder: --state-dir DIR"));
        }
        if layout == 0 {
            connection
                .execute_batch(
                    "BEGIN IMMEDIATE;
                     CREATE TABLE IF NOT EXISTS runs (
                         id TEXT PRIMARY KEY, playbook TEXT NOT NULL, plan_hash TEXT NOT NULL, plan TEXT NOT NULL,
                         started_ms INTEGER NOT NULL, finished_ms INTEGER, verdict TEXT,
                         epoch INTEGER NOT NULL, boot_id TEXT NOT NULL, pid INTEGER NOT NULL);
                     CREATE TABLE IF NOT EXISTS events (
                         run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, seq INTEGER NOT NULL,
                         at_ms INTEGER NOT NULL, event TEXT NOT NULL, PRIMARY KEY (run, seq)) WITHOUT ROWID;
                     CREATE INDEX IF NOT EXISTS runs_by_start ON runs (started_ms);
                     PRAGMA user_version = 1;
                     COMMIT;",
                )
                .map_err(sql)?;
        }
        Ok(())
    }

    /// A private folder for what belongs to a run while it lives.
    #[must_use]
    pub fn scratch(&self, run: &str) -> PathBuf {
        self.dir.join("scratch").join(run)
    }

    /// Stores the plan of a new run and takes the run's lock.
    ///
    /// # Errors
    /// The run exists already, or nothing can be written.
    pub fn create(&self, plan: &Plan) -> Result<RunJournal, JournalError> {
        let run = plan.run.id.clone();
        let lock_file =
            self.lock_run(&run)?.ok_or_else(|| JournalError::new(format!("run `{run}` is under way")))?;
        let json = serde_json::to_string(plan).map_err(|error| JournalError::new(error.to_string()))?;
        // Before anything is done: what is needed to write down the undo must be there whatever happens.
        let path = self.reserve_path(&run);
        let needed = reserve::needed(plan);
        let reserve = Unnamed::make(&path, needed).map_err(|error| {
            cannot(&format!("put by {} for the run in", crate::quantity::Bytes(needed)), &path, error)
                .hint("free space first, or choose another folder: df -h; --state-dir DIR")
        })?;
        let stored = lock(&self.connection)
            .execute(
                "INSERT INTO runs (id, playbook, plan_hash, plan, started_ms, epoch, boot_id, pid)
                 VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7)",
                params![run, plan.playbook, plan.hash, json, to_i64(now_ms()), boot_id(), std::process::id()],
            )
            .map_err(|error| match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::ConstraintViolation) => {
                    JournalError::new(format!("run `{run}` has been run already")).hint("make a new plan")
                }
                Some(rusqlite::ErrorCode::DiskFull) => {
                    JournalError::new(format!("cannot store the plan: {error}"))
                        .hint("its disk is full: df -h")
                }
                _ => JournalError::new(format!("cannot store the plan: {error}")),
            });
        if let Err(error) = stored {
            reserve.release();
            lock_file.remove();
            return Err(error);
        }
        Ok(RunJournal::new(run, 1, 0, self.connection.clone(), lock_file, reserve.name()))
    }

    fn reserve_path(&self, run: &str) -> PathBuf {
        self.dir.join("scratch").join(format!("{run}.reserve"))
    }

    fn lock_path(&self, run: &str) -> PathBuf {
        self.dir.join("locks").join(format!("{run}.lock"))
    }

    /// Makes this process the owner of a run whose owner died. `id` as in [`Store::load`].
    ///
    /// # Errors
    /// There is no such run, it is over, a living process owns it, or the journal cannot be written.
    pub fn take_over(&self, id: &str) -> Result<TakenOver, JournalError> {
        let run = pick(self.rows()?, id)?.id;
        let lock_file = match self.owner(&run)? {
            Owner::Nobody(lock_file) => lock_file,
            Owner::Lives => {
                let pid = pick(self.rows()?, &run)?.pid;
                return Err(JournalError::new(format!("run `{run}` is under way: process {pid} owns it"))
                    .hint("wait for it, or stop it in good order: kill -INT PID"));
            }
            Owner::Unseen => return Err(self.unseen(&pick(self.rows()?, &run)?)),
        };
        // Only now: until the lock was ours another recovery may have been at work. Not asked is who owns it: we do, and the row
        // still names the dead.
        let row = pick(self.rows()?, &run)?;
        if row.finished_ms.is_some() {
            lock_file.remove();
            return Err(JournalError::new(format!("run `{run}` is over: there is nothing to recover"))
                .hint(format!("see how it ended: shakedown runs show {run}")));
        }
        let (plan, history) = self.load(&run)?;
        let epoch: i64 = lock(&self.connection)
            .query_row(
                "UPDATE runs SET epoch = epoch + 1, boot_id = ?2, pid = ?3 WHERE id = ?1 RETURNING epoch",
                params![run, boot_id(), std::process::id()],
                |row| row.get(0),
            )
            .map_err(|error| JournalError::new(format!("cannot take over run `{run}`: {error}")))?;
        let seq = history.last().map_or(0, |record| record.seq + 1);
        // A full disk must not keep anybody from a recovery: without a new reserve the old one, if there is one.
        let path = self.reserve_path(&run);
        let make = || Unnamed::make(&path, reserve::needed(&plan)).ok().and_then(Unnamed::name);
        let reserve = Reserve::found(&path).or_else(make);
        let journal = RunJournal::new(run, epoch, seq, self.connection.clone(), lock_file, reserve);
        Ok(TakenOver { plan, history, journal })
    }

    /// The lock of a run, or none if a living process holds it.
    fn lock_run(&self, run: &str) -> Result<Option<LockFile>, JournalError> {
        let path = self.lock_path(run);
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(&path)
                .map_err(|error| cannot("open the lock", &path, error))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
                Err(std::fs::TryLockError::Error(error)) => return Err(cannot("lock", &path, error)),
            }
            // Pruning takes files of locks away: a lock counts only as long as its file has its name.
            let ours = file.metadata().map(|metadata| metadata.ino()).ok();
            if ours.is_some() && std::fs::metadata(&path).map(|metadata| metadata.ino()).ok() == ours {
                return Ok(Some(LockFile { _file: file, path }));
            }
        }
    }

    /// All runs, newest first.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn runs(&self) -> Result<Vec<RunRow>, JournalError> {
        let mut rows = self.rows()?;
        for row in rows.iter_mut().filter(|row| row.finished_ms.is_none()) {
            match self.owner(&row.id)? {
                Owner::Lives => row.alive = true,
                Owner::Unseen => (row.alive, row.unseen) = (true, true),
                Owner::Nobody(lock_file) => {
                    // It may have ended while it was looked for, and its lock has no name any more.
                    *row = pick(self.rows()?, &row.id)?;
                    if row.finished_ms.is_some() {
                        lock_file.remove();
                    }
                }
            }
        }
        Ok(rows)
    }

    /// What is to be said of a run whose owner is not to be seen; see [`RunRow::unseen`].
    #[must_use]
    pub fn unseen(&self, row: &RunRow) -> JournalError {
        let (run, pid, lock) = (&row.id, row.pid, self.lock_path(&row.id));
        JournalError::new(format!(
            "run `{run}`: its process {pid} is not to be seen from here, and yet something holds its lock"
        ))
        .hint(format!(
            "see what does, and recover once it has ended: fuser -v {}",
            crate::host::shell_word(&lock.to_string_lossy())
        ))
    }

    /// All runs, newest first, without a look whether they live.
    fn rows(&self) -> Result<Vec<RunRow>, JournalError> {
        let sql = |error: rusqlite::Error| JournalError::new(format!("cannot read the journal: {error}"));
        let boot = boot_id();
        let rows = {
            let connection = lock(&self.connection);
            let mut statement = connection
                .prepare(
                    "SELECT id, playbook, plan_hash, started_ms, finished_ms, verdict, pid, boot_id FROM runs
                     ORDER BY started_ms DESC, id DESC",
                )
                .map_err(sql)?;
            let found = statement.query_map([], |row| {
                Ok(RunRow {
                    id: row.get(0)?,
                    playbook: row.get(1)?,
                    plan_hash: row.get(2)?,
                    started_ms: to_u64(row.get(3)?),
                    finished_ms: row.get::<_, Option<i64>>(4)?.map(to_u64),
                    verdict: row
                        .get::<_, Option<String>>(5)?
                        .and_then(|text| serde_json::from_str(&text).ok()),
                    alive: false,
                    unseen: false,
                    pid: row.get(6)?,
                    rebooted: row.get::<_, String>(7)? != boot,
                })
            });
            found.and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(sql)?
        };
        Ok(rows)
    }

    /// Who owns a run. A lock that is held although its owner has died is waited for.
    fn owner(&self, run: &str) -> Result<Owner, JournalError> {
        let patience = Instant::now() + LINGERS;
        loop {
            if let Some(lock_file) = self.lock_run(run)? {
                return Ok(Owner::Nobody(lock_file));
            }
            let pid = lock(&self.connection)
                .query_row("SELECT pid FROM runs WHERE id = ?1", [run], |row| row.get(0))
                .map_err(|error| JournalError::new(format!("cannot read the journal: {error}")))?;
            if lives(pid) {
                return Ok(Owner::Lives);
            }
            if Instant::now() >= patience {
                return Ok(Owner::Unseen);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The run with this id, which may be cut to any beginning or end of one run's id.
    ///
    /// # Errors
    /// There is no such run, several, or the journal cannot be read.
    pub fn find(&self, id: &str) -> Result<RunRow, JournalError> {
        pick(self.runs()?, id)
    }

    /// The plan and the history of a run. `id` as in [`Store::find`].
    ///
    /// # Errors
    /// There is no such run, several, or the journal cannot be read.
    pub fn load(&self, id: &str) -> Result<(Plan, Vec<Record>), JournalError> {
        let row = pick(self.rows()?, id)?;
        let sql = |error: rusqlite::Error| JournalError::new(format!("cannot read the journal: {error}"));
        let json =
            |error: serde_json::Error| JournalError::new(format!("the journal of `{}`: {error}", row.id));
        let connection = lock(&self.connection);
        let plan: Option<String> = connection
            .query_row("SELECT plan FROM runs WHERE id = ?1", [&row.id], |row| row.get(0))
            .optional()
            .map_err(sql)?;
        let plan = serde_json::from_str(&plan.unwrap_or_default()).map_err(json)?;
        let mut statement = connection
            .prepare("SELECT seq, at_ms, event FROM events WHERE run = ?1 ORDER BY seq")
            .map_err(sql)?;
        let events = statement
            .query_map([&row.id], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
            })
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(sql)?;
        let records = events
            .into_iter()
            .map(|(seq, at_ms, event)| {
                let event = serde_json::from_str(&event)?;
                Ok(Record { seq: to_u64(seq), at_ms: to_u64(at_ms), event })
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(json)?;
        Ok((plan, records))
    }
}

/// The run that an id means; see [`Store::find`].
fn pick(mut runs: Vec<RunRow>, id: &str) -> Result<RunRow, JournalError> {
    if let Some(exact) = runs.iter().position(|row| row.id == id) {
        return Ok(runs.swap_remove(exact));
    }
    let wanted = id.to_uppercase();
    runs.retain(|row| !wanted.is_empty() && (row.id.starts_with(&wanted) || row.id.ends_with(&wanted)));
    match runs.len() {
        0 => Err(JournalError::new(format!("there is no run `{id}`")).hint("list them: shakedown runs")),
        1 => Ok(runs.swap_remove(0)),
        _ => {
            let names = runs.iter().map(|row| row.id.as_str()).collect::<Vec<_>>().join(", ");
            Err(JournalError::new(format!("`{id}` is the id of several runs")).hint(names))
        }
    }
}

fn lock(connection: &Mutex<Connection>) -> std::sync::MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
