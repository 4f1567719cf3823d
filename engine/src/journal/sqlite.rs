//! The journal on disk: one SQLite database a state folder, one owner a run.

mod chain;
mod health;
mod layout;
mod lock;
mod place;
mod prune;
mod reserve;
mod rows;
mod run;

pub use prune::Pruned;
pub use rows::{LostRun, RunRow, RunState};
pub use run::RunJournal;

use super::JournalError;
use crate::{event::Record, plan::Plan, quantity::Millis};
use health::Links;
use lock::LockFile;
use place::Place;
use reserve::{Reserve, Unnamed};
use run::Owned;
use rusqlite::{Connection, OpenFlags, params};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long a write waits for another process that writes its own run.
const BUSY: Duration = Duration::from_secs(30);

/// All runs of a state folder.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    /// Where this is.
    here: Place,
    connection: Arc<Mutex<Connection>>,
}

/// A dead run that this process owns now.
#[derive(Debug)]
pub struct TakenOver {
    /// What it was to do.
    pub plan: Plan,
    /// What it has done.
    pub history: Vec<Record>,
    /// How many records that followed have been lost or damaged.
    pub lost: u64,
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

/// A path within a URI.
fn uri_path(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let shown = |byte: &u8| match plain(*byte) {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    path.as_os_str().as_bytes().iter().map(shown).collect()
}

/// Waits for its turn to open the journal.
fn turn(dir: &Path) -> Result<File, JournalError> {
    let folder = File::open(dir).map_err(|error| cannot("open the state folder", dir, error))?;
    let patience = Instant::now() + BUSY;
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                let why = format!("another program has held its lock for {} s", BUSY.as_secs());
                return Err(cannot("lock the state folder", dir, why)
                    .hint(format!("see who that is: fuser -v {}", dir.display())));
            }
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(cannot("lock the state folder", dir, error));
            }
        }
    }
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
        let path = dir.join("journal.sqlite");
        for folder in ["locks", "scratch"].map(|name| dir.join(name)) {
            // A link would be followed by what makes it.
            health::refuse_others(&folder, Links::Refused)?;
            make(&folder)?;
        }
        health::refuse_others(dir, Links::Followed)?;
        health::refuse_others(&path, Links::Refused)?;
        // One after the other: SQLite waits for nobody when a new database is switched to its log.
        let turn = turn(dir)?;
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
        let store = Self::over(dir, connection);
        layout::prepare(&store.connection).map_err(|error| {
            let full = || "its disk is full: df -h; or choose another folder: --state-dir DIR".to_owned();
            let usual = || if crate::local::is_full(&path) { full() } else { health::move_away(&path) };
            let hint = error.hint.clone().unwrap_or_else(usual);
            cannot("use the journal", &path, error).hint(hint)
        })?;
        drop(turn);
        Ok(store)
    }

    /// The same for who takes back what a dead run did: on a full disk it may have the space that the dead have put by.
    ///
    /// # Errors
    /// As for [`Store::open`].
    pub fn open_to_recover(dir: &Path) -> Result<Self, JournalError> {
        loop {
            match Self::open(dir) {
                Err(_) if crate::local::is_full(dir) && reserve::give_one_back(dir) => {}
                opened => return opened,
            }
        }
    }

    /// Opens the state folder for a look, where it cannot be written.
    ///
    /// # Errors
    /// It cannot be read, or its layout is another than this version's.
    pub fn look(dir: &Path) -> Result<Self, JournalError> {
        let path = dir.join("journal.sqlite");
        health::refuse_others(dir, Links::Followed)?;
        health::refuse_others(&path, Links::Refused)?;
        let failed = |error: rusqlite::Error| cannot("read the journal", &path, error);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let readable = |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).is_ok()
        };
        // With its log it can be read if the index beside it is there, or can be made.
        let mut connection = Connection::open_with_flags(&path, flags).map_err(failed)?;
        let logged = fs::metadata(dir.join("journal.sqlite-wal")).is_ok_and(|log| log.len() > 0);
        if !readable(&connection) && !logged {
            let uri = format!("file:{}?immutable=1", uri_path(&path));
            connection = Connection::open_with_flags(uri, flags).map_err(failed)?;
        }
        let store = Self::over(dir, connection);
        layout::require(&store.connection).map_err(|error| cannot("read the journal", &path, error))?;
        Ok(store)
    }

    fn over(dir: &Path, connection: Connection) -> Self {
        let connection = Arc::new(Mutex::new(connection));
        Self { dir: dir.to_owned(), here: Place::here(&dir.join("journal.sqlite")), connection }
    }

    /// Whether the state folder is in memory: a restart of the machine loses it, with all that tells of what is left.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        health::is_in_memory(&self.dir)
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
        let lock_file = LockFile::take(&self.lock_path(&run))?
            .ok_or_else(|| JournalError::new(format!("run `{run}` is under way")))?;
        let json = serde_json::to_string(plan).map_err(|error| JournalError::new(error.to_string()))?;
        // Before anything is done: what is needed to write down the undo must be there whatever happens.
        let path = self.reserve_path(&run);
        let needed = reserve::needed(plan);
        let reserve = Unnamed::make(&path, needed).map_err(|error| {
            cannot(&format!("put by {} for the run in", crate::quantity::Bytes(needed)), &path, error)
                .hint("free space first, or choose another folder: df -h; --state-dir DIR")
        })?;
        let place =
            serde_json::to_string(&self.here).map_err(|error| JournalError::new(error.to_string()))?;
        let (sum, began, pid) = (chain::sum(&[&json]), to_i64(now_ms()), std::process::id());
        let stored = guard(&self.connection)
            .execute(
                "INSERT INTO runs (id, playbook, plan_hash, plan, plan_sum, started_ms, epoch, boot_id, pid, place)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, ?9)",
                params![run, plan.playbook, plan.hash, json, sum, began, self.here.boot(), pid, place],
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
        let owned = Owned { epoch: 1, seq: 0, sum: String::new(), lock: lock_file, reserve: reserve.name() };
        Ok(RunJournal::new(run, self.connection.clone(), owned))
    }

    fn reserve_path(&self, run: &str) -> PathBuf {
        self.dir.join("scratch").join(format!("{run}.reserve"))
    }

    fn lock_path(&self, run: &str) -> PathBuf {
        self.dir.join("locks").join(format!("{run}.lock"))
    }

    /// Makes this process the owner of a run that is open. `id` as in [`Store::find`].
    ///
    /// # Errors
    /// There is no such run, it is over, a living process owns it, or the journal cannot be written.
    pub fn take_over(&self, id: &str) -> Result<TakenOver, JournalError> {
        let run = self.pick(id)?.id;
        let Some(mut lock_file) = LockFile::take(&self.lock_path(&run))? else {
            let pid = self.pick(&run)?.pid;
            return Err(JournalError::new(format!("run `{run}` is under way: process {pid} owns it"))
                .hint("wait for it, or stop it in good order: kill -INT PID"));
        };
        // Only now: until the lock was ours another recovery may have been at work.
        let row = self.pick(&run)?;
        if row.state() == RunState::Over {
            lock_file.remove();
            return Err(JournalError::new(format!("run `{run}` is over: there is nothing to recover"))
                .hint(format!("see how it ended: shakedown runs show {run}")));
        }
        let stored = self.read(&run)?;
        let seq = u64::try_from(stored.records.len()).unwrap_or(u64::MAX);
        let lost = lock_file.records().saturating_sub(seq).max(stored.damaged);
        let path = self.reserve_path(&run);
        let mut reserve = Reserve::found(&path);
        let epoch = loop {
            match self.raise_epoch(&run, seq) {
                Ok(epoch) => break epoch,
                // The disk is full: the dead run has put space by for this.
                Err(error) if is_full(&error) && reserve.is_some() => {
                    reserve.take().into_iter().for_each(Reserve::release);
                }
                Err(error) => {
                    let full = is_full(&error).then(|| "its disk is full: df -h".to_owned());
                    let error = JournalError::new(format!("cannot take over run `{run}`: {error}"));
                    return Err(JournalError { hint: full, ..error });
                }
            }
        };
        // A full disk must not keep anybody from a recovery.
        let make = || Unnamed::make(&path, reserve::needed(&stored.plan)).ok().and_then(Unnamed::name);
        let reserve = reserve.or_else(make);
        let owned = Owned { epoch, seq, sum: stored.sum, lock: lock_file, reserve };
        let journal = RunJournal::new(run, self.connection.clone(), owned);
        Ok(TakenOver { plan: stored.plan, history: stored.records, lost, journal })
    }

    /// From now on nobody but this process writes the run. Records from `seq` on were damaged, and are put aside.
    fn raise_epoch(&self, run: &str, seq: u64) -> rusqlite::Result<i64> {
        let mut connection = guard(&self.connection);
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let epoch = transaction.query_row(
            "UPDATE runs SET epoch = epoch + 1, boot_id = ?2, pid = ?3 WHERE id = ?1 RETURNING epoch",
            params![run, self.here.boot(), std::process::id()],
            |row| row.get(0),
        )?;
        let damaged = params![run, to_i64(seq)];
        transaction.execute(
            "INSERT INTO damaged SELECT run, seq, at_ms, event, sum FROM events WHERE run = ?1 AND seq >= ?2",
            damaged,
        )?;
        transaction.execute("DELETE FROM events WHERE run = ?1 AND seq >= ?2", damaged)?;
        transaction.commit()?;
        Ok(epoch)
    }
}

/// Whether SQLite means that the disk is full. The second is what it says when there is no room for its shared memory.
fn is_full(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::SystemIoFailure)
    )
}

fn guard(connection: &Mutex<Connection>) -> std::sync::MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
