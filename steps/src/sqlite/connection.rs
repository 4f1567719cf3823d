//! Opens databases as a guest: read-only for reads, never creating, waiting politely for locks.

mod look;

pub(super) use look::{require_folder, require_writable};

use engine::{StepError, error::ErrorClass, host::Cancel, local::reading, quantity::Millis, step::Context};
use rusqlite::{
    Connection, Error, ErrorCode, OpenFlags, Transaction, TransactionBehavior, config::DbConfig, ffi,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// The busy handler of SQLite is unfair: 20 writers were seen to wait 8 s, so the limit is generous.
const BUSY: Millis = Millis(30_000);
/// The longest pause between two looks at a lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What asking the database took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Effort {
    /// How often the database was asked.
    #[serde(default)]
    pub operations: u64,
    /// How often a lock of another program was met.
    pub waits: u64,
    /// How long locks were waited for in all, in milliseconds.
    pub wait_ms: u64,
    /// The longest wait for one lock, in milliseconds.
    pub longest_wait_ms: u64,
    /// How long the whole took, in milliseconds.
    pub took_ms: u64,
}

impl Effort {
    /// Adds another's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.waits += other.waits;
        self.wait_ms += other.wait_ms;
        self.longest_wait_ms = self.longest_wait_ms.max(other.longest_wait_ms);
        self.took_ms += other.took_ms;
    }
}

/// What the connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Something to do with a database, on a thread where blocking is allowed.
#[derive(Debug)]
pub(super) struct Task {
    database: String,
    busy: Duration,
    access: Access,
    /// Whether nothing may be opened for writing.
    looks_only: bool,
    cancel: Cancel,
}

impl Task {
    pub(super) fn new(cx: &Context, database: &str, busy: Option<Millis>, access: Access) -> Self {
        let busy = busy.unwrap_or(BUSY).duration();
        let looks_only = cx.services.looks_only;
        Self { database: database.to_owned(), busy, access, looks_only, cancel: cx.cancel.clone() }
    }

    /// Does it, and counts the waits.
    pub(super) async fn run<T: Send + 'static>(
        self,
        work: impl Fn(&mut Connection) -> Result<T, StepError> + Send + 'static,
    ) -> Result<(T, Effort), StepError> {
        let task = tokio::task::spawn_blocking(move || self.run_blocking(work));
        task.await.map_err(|error| StepError::internal(format!("the database task ended: {error}")))?
    }

    fn run_blocking<T>(
        self,
        work: impl Fn(&mut Connection) -> Result<T, StepError>,
    ) -> Result<(T, Effort), StepError> {
        let begun = Instant::now();
        let waiting = Arc::new(Mutex::new(Waiting::new(self.busy, self.cancel.clone())));
        // The handler is a plain function, so the state of the wait travels by the thread.
        WAITING.with(|slot| *lock_slot(slot) = Some(waiting.clone()));
        let result = match self.looks_only || self.access == Access::Read {
            true => self.look(&work),
            false => open_to_write(&self.database).and_then(|connection| self.work(connection, &work)),
        };
        WAITING.with(|slot| *lock_slot(slot) = None);
        let mut effort = lock_slot(&waiting).effort.clone();
        effort.operations = 1;
        effort.took_ms = millis(begun.elapsed());
        match result {
            Ok(value) => Ok((value, effort)),
            Err(_) if self.cancel.is_cancelled() => {
                Err(StepError::new(ErrorClass::Cancelled, format!("stopped while using `{}`", self.database)))
            }
            Err(error) if error.class == ErrorClass::Busy => {
                let message = format!(
                    "`{}` was locked by another program for {}",
                    self.database,
                    Millis(effort.wait_ms)
                );
                Err(StepError::new(ErrorClass::Busy, message)
                    .hint(format!("see who holds it: fuser -v {}", self.database)))
            }
            Err(error) => Err(error),
        }
    }

    /// Who was killed in a transaction leaves a journal, which the next reader rolls back if it may write the file.
    fn roll_back_and_look<T>(
        &self,
        work: &impl Fn(&mut Connection) -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let connection = open_to_write(&self.database)?;
        connection.pragma_update(None, "query_only", true).map_err(|error| explain(&connection, &error))?;
        self.work(connection, work)
    }

    fn work<T>(
        &self,
        mut connection: Connection,
        work: &impl Fn(&mut Connection) -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        connection.busy_handler(Some(on_busy)).map_err(|error| explain(&connection, &error))?;
        let cancel = self.cancel.clone();
        let stop = move || cancel.is_cancelled();
        connection.progress_handler(10_000, Some(stop)).map_err(|error| explain(&connection, &error))?;
        work(&mut connection)
    }

    /// Looks at a database that others may change meanwhile: then what was seen is forgotten.
    fn look<T>(&self, work: &impl Fn(&mut Connection) -> Result<T, StepError>) -> Result<T, StepError> {
        for _ in 0..look::LOOKS {
            let (connection, still) = look::open(&self.database, self.looks_only)?;
            let seen = self.work(connection, work);
            if still.is_none_or(|still| still.holds()) {
                return match seen {
                    Err(error) if error.class == ErrorClass::Denied && !self.looks_only => {
                        self.roll_back_and_look(work)
                    }
                    seen => seen,
                };
            }
        }
        let message =
            format!("`{}` changed each of the {} times it was looked at", self.database, look::LOOKS);
        Err(StepError::new(ErrorClass::Timeout, message))
    }
}

thread_local! {
    static WAITING: Mutex<Option<Arc<Mutex<Waiting>>>> = const { Mutex::new(None) };
}

fn lock_slot<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn millis(duration: Duration) -> u64 {
    Millis::from(duration).0
}

/// The state of waiting for locks.
#[derive(Debug)]
struct Waiting {
    limit: Duration,
    cancel: Cancel,
    effort: Effort,
    since: Option<Instant>,
}

impl Waiting {
    fn new(limit: Duration, cancel: Cancel) -> Self {
        Self { limit, cancel, effort: Effort::default(), since: None }
    }
}

/// Waits a little for a lock; false gives up. Called by SQLite with the count of calls for the same lock.
fn on_busy(count: i32) -> bool {
    let Some(waiting) = WAITING.with(|slot| lock_slot(slot).clone()) else { return false };
    let since = {
        let mut waiting = lock_slot(&waiting);
        if count == 0 {
            waiting.effort.waits += 1;
            waiting.since = Some(Instant::now());
        }
        if waiting.cancel.is_cancelled() {
            return false;
        }
        *waiting.since.get_or_insert_with(Instant::now)
    };
    let limit = lock_slot(&waiting).limit;
    let pause = Duration::from_millis(1 << count.clamp(0, 7)).min(LONGEST_PAUSE);
    let left = limit.saturating_sub(since.elapsed());
    let goes_on = !left.is_zero();
    if goes_on {
        std::thread::sleep(pause.min(left));
    }
    let mut waiting = lock_slot(&waiting);
    let waited = millis(since.elapsed());
    // Within one wait the total grows by what the longest part of it has grown.
    let before = if count == 0 { 0 } else { waiting.effort.longest_wait_ms.min(waited) };
    waiting.effort.wait_ms += waited.saturating_sub(before);
    waiting.effort.longest_wait_ms = waiting.effort.longest_wait_ms.max(waited);
    goes_on
}

fn open_to_write(database: &str) -> Result<Connection, StepError> {
    must_be_a_file(database)?;
    open_as(database, database, OpenFlags::SQLITE_OPEN_READ_WRITE, look::keeps_log(database))
}

/// Opens the database by a name that may be a URI of it. With `keeps_log` the log stays as it is when the connection ends.
fn open_as(database: &str, name: &str, flags: OpenFlags, keeps_log: bool) -> Result<Connection, StepError> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(name, flags).map_err(|error| classify(database, &error))?;
    // The house is another's: no checkpoint by us, neither when the log grows nor when we leave. Only a log that we
    // alone have written goes with us.
    let set = || -> rusqlite::Result<()> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keeps_log)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)
    };
    set().map_err(|error| classify(database, &error))?;
    Ok(connection)
}

/// Looks at it and at what SQLite keeps beside it by name alone: at a pipe the library would wait for ever, and to open and close
/// the file here would let go of every lock that a connection of this process has on it.
fn must_be_a_file(database: &str) -> Result<(), StepError> {
    let path = Path::new(database);
    let metadata = std::fs::metadata(path).map_err(|error| {
        let hint = match path.parent() {
            Some(folder) if !folder.exists() => {
                format!("its folder does not exist either: ls -ld {}", folder.display())
            }
            Some(folder) => format!("look what is there: ls -l {}", folder.display()),
            None => "check the path".to_owned(),
        };
        StepError::io(format!("open the database `{database}`"), &error).hint(hint)
    })?;
    let other = |path: &str, kind: &str| {
        StepError::new(ErrorClass::Invalid, format!("`{path}` is {kind}, expected a database"))
            .hint(format!("look what is there: ls -l {}", engine::host::shell_word(path)))
    };
    if let Some(kind) = reading::kind(&metadata) {
        return Err(other(database, kind));
    }
    // SQLite waits where such a file has nothing to give.
    if reading::is_made_up(path) {
        return Err(other(database, "a file that the kernel makes up"));
    }
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    for ending in ["-journal", "-wal", "-shm"] {
        let beside = look::beside(&real, ending);
        if let Some(kind) = std::fs::metadata(&beside).ok().as_ref().and_then(reading::kind) {
            return Err(other(&beside.to_string_lossy(), kind));
        }
    }
    Ok(())
}

/// The size of a page, in bytes.
pub(super) fn page_size(connection: &Connection) -> Result<u64, StepError> {
    let size = connection.pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0));
    size.map(|size| u64::try_from(size).unwrap_or(4096)).map_err(|error| explain(connection, &error))
}

/// Runs `work` in a short write transaction. Deferred ones fail at once when they have to become writers.
pub(super) fn immediate<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> Result<T, StepError> {
    let done = (|| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    })();
    done.map_err(|error: Error| explain(connection, &error))
}

/// An SQLite error in our words, with what the database has where a name is unknown.
pub(super) fn explain(connection: &Connection, error: &Error) -> StepError {
    let database = connection.path().unwrap_or("the database").to_owned();
    let made = classify(&database, error);
    let text = error.to_string();
    let names = |sql: &str| -> Vec<String> {
        let read = |connection: &Connection| -> rusqlite::Result<Vec<String>> {
            connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        };
        read(connection).unwrap_or_default()
    };
    if text.contains("no such table") {
        let tables = names("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name");
        return made.hint(format!("its tables are: {}", tables.join(", ")));
    }
    made
}

/// Which rule a row breaks. Only with a rule of uniqueness is it another row that is in the way.
fn constraint(error: &Error) -> (ErrorClass, String) {
    let hint = match error.sqlite_error().map_or(0, |error| error.extended_code) {
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => {
            return (ErrorClass::Exists, "another row has these values already".to_owned());
        }
        ffi::SQLITE_CONSTRAINT_NOTNULL => "give the column a value",
        ffi::SQLITE_CONSTRAINT_CHECK => "look at the rule: sqlite3 FILE .schema",
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => {
            "the row that it refers to has to be there first, and those that refer to it gone"
        }
        ffi::SQLITE_CONSTRAINT_DATATYPE => "the table is STRICT: give a value of the column's type",
        ffi::SQLITE_CONSTRAINT_TRIGGER => "look at the triggers: sqlite3 FILE .schema",
        _ => "",
    };
    (ErrorClass::Invalid, hint.to_owned())
}

fn classify(database: &str, error: &Error) -> StepError {
    let text = error.to_string();
    let (class, hint) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ErrorClass::Busy, format!("see who holds it: fuser -v {database}"))
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            (ErrorClass::Corrupt, format!("look closer: sqlite3 {database} 'PRAGMA integrity_check'"))
        }
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => (
            ErrorClass::Denied,
            format!("check owner and mode of the file and of its folder: namei -l {database}"),
        ),
        // Without room for its shared memory or its log SQLite speaks of an I/O error.
        Some(ErrorCode::SystemIoFailure) if engine::local::is_full(Path::new(database)) => {
            (ErrorClass::NoSpace, "free space first; see: df -h".to_owned())
        }
        Some(ErrorCode::DiskFull) => (ErrorClass::NoSpace, "free space first; see: df -h".to_owned()),
        Some(ErrorCode::ConstraintViolation) => constraint(error),
        Some(ErrorCode::OperationInterrupted) => (ErrorClass::Cancelled, String::new()),
        _ if text.contains("no such table")
            || text.contains("no such column")
            || text.contains("has no column") =>
        {
            (ErrorClass::NotFound, String::new())
        }
        _ if text.contains("syntax error") || text.contains("incomplete input") => {
            (ErrorClass::Invalid, String::new())
        }
        _ if text.contains("because it is a view") => {
            let hint = "a view takes changes only through an `INSTEAD OF` trigger: name the table behind it";
            (ErrorClass::Invalid, hint.to_owned())
        }
        _ => (ErrorClass::Internal, String::new()),
    };
    let by_trigger =
        error.sqlite_error().is_some_and(|it| it.extended_code == ffi::SQLITE_CONSTRAINT_TRIGGER);
    let text = if by_trigger { format!("a trigger refuses it: {text}") } else { text };
    let made = StepError::new(class, format!("`{database}`: {text}"));
    if hint.is_empty() { made } else { made.hint(hint) }
}
