//! The journal on disk: one SQLite database a state folder, one owner a run.

use super::{Journal, JournalError};
use crate::{
    event::{Record, RunEvent, Verdict},
    host::BoxFuture,
    plan::Plan,
};
use rusqlite::{Connection, OptionalExtension, params};
use std::{
    fs::{DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The version of the database's layout.
const LAYOUT: i64 = 1;
/// How long a write waits for another process that writes its own run.
const BUSY: Duration = Duration::from_secs(30);

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
    /// Whether a living process owns it.
    pub alive: bool,
}

/// The journal of a run that this process owns, until it is dropped.
#[derive(Debug)]
pub struct RunJournal {
    run: String,
    epoch: i64,
    seq: u64,
    connection: Arc<Mutex<Connection>>,
    /// Held locked as long as the run is owned; the kernel frees it when the process dies, however it dies.
    _lock: File,
}

fn cannot(what: &str, path: &Path, error: impl std::fmt::Display) -> JournalError {
    JournalError::new(format!("cannot {what} `{}`: {error}", path.display()))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

impl Store {
    /// Opens the state folder, and makes it if it is missing: mode 0700, files 0600.
    ///
    /// # Errors
    /// It cannot be made or written, or holds a journal of a newer version.
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
        make(&dir.join("locks"))?;
        make(&dir.join("scratch"))?;
        let path = dir.join("journal.sqlite");
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
            cannot("use the journal", &path, error)
                .hint(format!("move it away and keep it: mv {0} {0}.damaged", path.display()))
        })?;
        Ok(store)
    }

    fn prepare(&self) -> Result<(), JournalError> {
        let connection = lock(&self.connection);
        let sql = |error: rusqlite::Error| JournalError::new(error.to_string());
        connection.busy_timeout(BUSY).map_err(sql)?;
        connection.pragma_update(None, "journal_mode", "wal").map_err(sql)?;
        // Invariant 1: a commit survives a power cut.
        connection.pragma_update(None, "synchronous", "full").map_err(sql)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(sql)?;
        let layout: i64 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sql)?;
        if layout > LAYOUT {
            return Err(JournalError::new(format!("its layout is {layout}, this version knows {LAYOUT}")));
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
        lock(&self.connection)
            .execute(
                "INSERT INTO runs (id, playbook, plan_hash, plan, started_ms, epoch, boot_id, pid)
                 VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7)",
                params![run, plan.playbook, plan.hash, json, to_i64(now_ms()), boot_id(), std::process::id()],
            )
            .map_err(|error| match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::ConstraintViolation) => {
                    JournalError::new(format!("run `{run}` has been run already")).hint("make a new plan")
                }
                _ => JournalError::new(format!("cannot store the plan: {error}")),
            })?;
        Ok(RunJournal { run, epoch: 1, seq: 0, connection: self.connection.clone(), _lock: lock_file })
    }

    /// The lock of a run, or none if a living process holds it.
    fn lock_run(&self, run: &str) -> Result<Option<File>, JournalError> {
        let path = self.dir.join("locks").join(format!("{run}.lock"));
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&path)
            .map_err(|error| cannot("open the lock", &path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(cannot("lock", &path, error)),
        }
    }

    /// All runs, newest first.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn runs(&self) -> Result<Vec<RunRow>, JournalError> {
        let sql = |error: rusqlite::Error| JournalError::new(format!("cannot read the journal: {error}"));
        let mut rows = {
            let connection = lock(&self.connection);
            let mut statement = connection
                .prepare(
                    "SELECT id, playbook, plan_hash, started_ms, finished_ms, verdict FROM runs
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
                })
            });
            found.and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(sql)?
        };
        for row in rows.iter_mut().filter(|row| row.finished_ms.is_none()) {
            row.alive = self.lock_run(&row.id)?.is_none();
        }
        Ok(rows)
    }

    /// The plan and the history of a run. `id` may be cut to any beginning or end of one run's id.
    ///
    /// # Errors
    /// There is no such run, several, or the journal cannot be read.
    pub fn load(&self, id: &str) -> Result<(Plan, Vec<Record>), JournalError> {
        let runs = self.runs()?;
        let exact = runs.iter().filter(|row| row.id == id).collect::<Vec<_>>();
        let wanted = id.to_uppercase();
        let near = runs.iter().filter(|row| row.id.starts_with(&wanted) || row.id.ends_with(&wanted));
        let found = if exact.is_empty() && !wanted.is_empty() { near.collect() } else { exact };
        let row = match found.as_slice() {
            [row] => *row,
            [] => {
                return Err(
                    JournalError::new(format!("there is no run `{id}`")).hint("list them: shakedown runs")
                );
            }
            more => {
                let names = more.iter().map(|row| row.id.as_str()).collect::<Vec<_>>().join(", ");
                return Err(JournalError::new(format!("`{id}` is the id of several runs")).hint(names));
            }
        };
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

impl RunJournal {
    fn write(&mut self, event: &RunEvent) -> Result<Record, JournalError> {
        let failed = |error: rusqlite::Error| {
            JournalError::new(format!("cannot write the journal: {error}")).hint("is its disk full? df -h")
        };
        let json = serde_json::to_string(event).map_err(|error| JournalError::new(error.to_string()))?;
        let record = Record { seq: self.seq, at_ms: now_ms(), event: event.clone() };
        let mut connection = lock(&self.connection);
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
        // Invariant 7: whoever lost the run to another owner writes nothing more.
        let epoch: Option<i64> = transaction
            .query_row("SELECT epoch FROM runs WHERE id = ?1", [&self.run], |row| row.get(0))
            .optional()
            .map_err(failed)?;
        if epoch != Some(self.epoch) {
            return Err(JournalError::new(format!("another process has taken over run `{}`", self.run)));
        }
        transaction
            .execute(
                "INSERT INTO events (run, seq, at_ms, event) VALUES (?1, ?2, ?3, ?4)",
                params![self.run, to_i64(record.seq), to_i64(record.at_ms), json],
            )
            .map_err(failed)?;
        if let RunEvent::RunFinished { verdict } = event {
            let verdict =
                serde_json::to_string(verdict).map_err(|error| JournalError::new(error.to_string()))?;
            transaction
                .execute(
                    "UPDATE runs SET finished_ms = ?2, verdict = ?3 WHERE id = ?1",
                    params![self.run, to_i64(record.at_ms), verdict],
                )
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        self.seq += 1;
        Ok(record)
    }
}

impl Journal for RunJournal {
    fn append<'a>(&'a mut self, event: &'a RunEvent) -> BoxFuture<'a, Result<Record, JournalError>> {
        // A commit takes under a millisecond and nothing may start before it is durable, so the loop waits here.
        Box::pin(async move { self.write(event) })
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
