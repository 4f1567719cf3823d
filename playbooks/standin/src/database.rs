//! `media_status.db`: the table that the dock manager, this daemon and the smoke tests share.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};

use crate::config::DatabaseSettings;
use crate::stop::Stop;

/// The table with its trigger, as in the field.
pub const SCHEMA: &str = "\
CREATE TABLE IF NOT EXISTS media_transfer_status (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    file_path TEXT NOT NULL UNIQUE,
    file_name TEXT NOT NULL,
    file_size INTEGER,
    file_hash TEXT,
    download_status TEXT DEFAULT 'pending'
        CHECK (download_status IN ('pending', 'downloading', 'completed', 'failed')),
    download_start_time TIMESTAMP,
    download_end_time TIMESTAMP,
    download_retry_count INTEGER DEFAULT 0,
    transfer_status TEXT DEFAULT 'pending'
        CHECK (transfer_status IN ('pending', 'downloading', 'completed', 'failed')),
    transfer_start_time TIMESTAMP,
    transfer_end_time TIMESTAMP,
    transfer_retry_count INTEGER DEFAULT 0,
    last_error_message TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS idx_media_transfer_status_ready
    ON media_transfer_status (download_status, transfer_status);
CREATE TRIGGER IF NOT EXISTS update_media_transfer_status_timestamp
AFTER UPDATE ON media_transfer_status FOR EACH ROW
BEGIN
    UPDATE media_transfer_status SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.id;
END;
";

/// One wait of SQLite's own; the whole busy timeout is made of these, for SIGTERM must not wait for it.
const BUSY_SLICE: Duration = Duration::from_millis(25);

/// A file that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Media {
    pub(crate) id: i64,
    pub(crate) path: String,
    pub(crate) name: String,
    pub(crate) sha256: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
    settings: DatabaseSettings,
    stop: Stop,
}

impl Database {
    /// Makes the database, its folder and its table, if missing.
    pub(crate) fn create(settings: &DatabaseSettings) -> Result<(), String> {
        let make = || -> Result<(), Box<dyn std::error::Error>> {
            if let Some(folder) = settings.path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let connection = Connection::open(&settings.path)?;
            connection.busy_timeout(Duration::from_millis(settings.busy_timeout_ms))?;
            if settings.enable_wal_mode {
                connection.pragma_update(None, "journal_mode", "WAL")?;
            }
            connection.execute_batch(SCHEMA)?;
            Ok(())
        };
        make().map_err(|error| format!("cannot make the database `{}`: {error}", settings.path.display()))
    }

    /// Opens it, and never makes it: a missing database is a wrong path or an edge box not yet set up.
    pub(crate) fn open(settings: &DatabaseSettings, stop: Stop) -> Result<Self, String> {
        let open = |path: &Path| {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY_SLICE)?;
            Ok::<_, rusqlite::Error>(connection)
        };
        let connection = open(&settings.path)
            .map_err(|error| format!("cannot open the database `{}`: {error}", settings.path.display()))?;
        let database = Self { connection, settings: settings.clone(), stop };
        // Opening reads nothing yet: ask for what every sync needs, so that a foreign file fails now.
        database.next_ready(0)?;
        Ok(database)
    }

    /// The oldest file that is downloaded and not yet sent, with an id above `after`.
    pub(crate) fn next_ready(&self, after: i64) -> Result<Option<Media>, String> {
        self.retried("read", |connection| {
            connection
                .query_row(
                    "SELECT id, file_path, file_name, file_hash FROM media_transfer_status
                     WHERE download_status = 'completed' AND transfer_status = 'pending' AND id > ?1
                     ORDER BY id LIMIT 1",
                    [after],
                    |row| {
                        Ok(Media {
                            id: row.get(0)?,
                            path: row.get(1)?,
                            name: row.get(2)?,
                            sha256: row.get(3)?,
                        })
                    },
                )
                .optional()
        })
    }

    /// Takes the row; false if it went or another took it meanwhile.
    pub(crate) fn begin(&self, id: i64) -> Result<bool, String> {
        let taken = self.write(
            "UPDATE media_transfer_status SET transfer_status = 'downloading',
                 transfer_start_time = CURRENT_TIMESTAMP, transfer_end_time = NULL, last_error_message = NULL
             WHERE id = ?1 AND download_status = 'completed' AND transfer_status = 'pending'",
            params![id],
        )?;
        Ok(taken == 1)
    }

    pub(crate) fn complete(&self, id: i64) -> Result<(), String> {
        self.write(
            "UPDATE media_transfer_status SET transfer_status = 'completed',
                 transfer_end_time = CURRENT_TIMESTAMP, last_error_message = NULL WHERE id = ?1",
            params![id],
        )
        .map(drop)
    }

    /// One more try went wrong; the row stays taken.
    pub(crate) fn retry(&self, id: i64, tries: u32, message: &str) -> Result<(), String> {
        self.write(
            "UPDATE media_transfer_status SET transfer_retry_count = ?2, last_error_message = ?3 WHERE id = ?1",
            params![id, tries, message],
        )
        .map(drop)
    }

    pub(crate) fn fail(&self, id: i64, tries: u32, message: &str) -> Result<(), String> {
        self.write(
            "UPDATE media_transfer_status SET transfer_status = 'failed',
                 transfer_end_time = CURRENT_TIMESTAMP, transfer_retry_count = ?2, last_error_message = ?3
             WHERE id = ?1",
            params![id, tries, message],
        )
        .map(drop)
    }

    /// Gives a row back at the end of the daemon. One short try: SIGTERM does not wait for a lock.
    pub(crate) fn give_back(&self, id: i64) -> rusqlite::Result<()> {
        let sql = "UPDATE media_transfer_status SET transfer_status = 'pending', transfer_start_time = NULL
             WHERE id = ?1 AND transfer_status = 'downloading'";
        self.connection.execute(sql, [id]).map(drop)
    }

    /// Files sent at least `minutes` ago, the newest first and no more than a sync can look at.
    pub(crate) fn sent_before(&self, minutes: u64) -> Result<Vec<Media>, String> {
        self.retried("read", |connection| {
            let mut query = connection.prepare_cached(
                "SELECT id, file_path, file_name, file_hash FROM media_transfer_status
                 WHERE transfer_status = 'completed' AND transfer_end_time <= datetime('now', ?1)
                 ORDER BY id DESC LIMIT 1000",
            )?;
            let rows = query.query_map([format!("-{minutes} minutes")], |row| {
                Ok(Media { id: row.get(0)?, path: row.get(1)?, name: row.get(2)?, sha256: row.get(3)? })
            })?;
            rows.collect()
        })
    }

    /// One statement in a transaction that takes the write lock at its start: a read that turns into a write
    /// fails at once when another wrote in between, whatever the busy timeout.
    fn write(&self, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<usize, String> {
        self.retried("write", |connection| {
            let transaction =
                rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let changed = transaction.execute(sql, values)?;
            transaction.commit()?;
            Ok(changed)
        })
    }

    /// Tries while the database is locked: up to the busy timeout, and that `max_retries` times again with
    /// growing pauses.
    fn retried<T>(
        &self,
        what: &str,
        action: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, String> {
        let name = self.settings.path.display();
        let mut pause = Duration::from_millis(self.settings.retry_delay_ms.max(1));
        let mut retries = 0;
        let mut began = Instant::now();
        loop {
            match action(&self.connection) {
                Ok(value) => return Ok(value),
                Err(error) if !is_locked(&error) => {
                    return Err(format!("cannot {what} the database `{name}`: {error}"));
                }
                Err(_) if self.stop.asked() => {
                    return Err(format!(
                        "cannot {what} the database `{name}`: locked at the end of the daemon"
                    ));
                }
                Err(_) if began.elapsed() < Duration::from_millis(self.settings.busy_timeout_ms) => {}
                Err(error) if retries == self.settings.max_retries => {
                    return Err(format!(
                        "cannot {what} the database `{name}` after {} tries: {error}",
                        retries + 1
                    ));
                }
                Err(_) => {
                    self.stop.wait(pause);
                    pause = (pause * 2).min(Duration::from_secs(5));
                    retries += 1;
                    began = Instant::now();
                }
            }
        }
    }
}

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

#[cfg(test)]
mod tests {
    use super::Database;
    use crate::config::DatabaseSettings;
    use crate::stop::Stop;
    use rusqlite::Connection;

    fn fresh() -> (tempfile::TempDir, DatabaseSettings) {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("new/media_status.db");
        let settings = DatabaseSettings {
            path,
            busy_timeout_ms: 30,
            max_retries: 1,
            retry_delay_ms: 1,
            ..Default::default()
        };
        Database::create(&settings).expect("create");
        Database::create(&settings).expect("twice changes nothing");
        (dir, settings)
    }

    fn insert(connection: &Connection, name: &str, download: &str) {
        let sql = "INSERT INTO media_transfer_status (file_path, file_name, download_status, updated_at)
                   VALUES (?1, ?1, ?2, '2001-01-01 00:00:00')";
        connection.execute(sql, [name, download]).expect("insert");
    }

    fn text(connection: &Connection, sql: &str) -> String {
        connection.query_row(sql, [], |row| row.get(0)).expect(sql)
    }

    #[test]
    fn every_update_sets_updated_at() {
        let (_dir, settings) = fresh();
        let connection = Connection::open(&settings.path).expect("open");
        assert_eq!(text(&connection, "PRAGMA journal_mode"), "wal");
        insert(&connection, "a", "pending");
        assert_eq!(text(&connection, "SELECT updated_at FROM media_transfer_status"), "2001-01-01 00:00:00");
        connection.execute("UPDATE media_transfer_status SET file_size = 1", []).expect("update");
        assert_ne!(text(&connection, "SELECT updated_at FROM media_transfer_status"), "2001-01-01 00:00:00");
    }

    #[test]
    fn a_status_outside_the_four_is_refused() {
        let (_dir, settings) = fresh();
        let connection = Connection::open(&settings.path).expect("open");
        insert(&connection, "a", "pending");
        let wrong = connection.execute("UPDATE media_transfer_status SET transfer_status = 'sent'", []);
        assert!(wrong.is_err());
    }

    #[test]
    fn rows_are_taken_once_oldest_first_and_only_when_downloaded() {
        let (_dir, settings) = fresh();
        let connection = Connection::open(&settings.path).expect("open");
        insert(&connection, "not yet", "downloading");
        insert(&connection, "first", "completed");
        insert(&connection, "second", "completed");
        let database = Database::open(&settings, Stop::default()).expect("open");
        let first = database.next_ready(0).expect("read").expect("a row");
        assert_eq!(first.name, "first");
        assert_eq!(database.begin(first.id), Ok(true));
        assert_eq!(database.begin(first.id), Ok(false), "taken already");
        assert_eq!(database.next_ready(0).expect("read").expect("a row").name, "second");
        database.give_back(first.id).expect("give back");
        assert_eq!(database.next_ready(0).expect("read").expect("a row").name, "first");
    }

    #[test]
    fn a_missing_database_is_not_made() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("none.db");
        let settings = DatabaseSettings { path: path.clone(), ..Default::default() };
        assert!(Database::open(&settings, Stop::default()).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_is_waited_for_within_the_limits_and_named() {
        let (_dir, settings) = fresh();
        let holder = Connection::open(&settings.path).expect("open");
        insert(&holder, "a", "completed");
        let database = Database::open(&settings, Stop::default()).expect("open");
        holder.execute_batch("BEGIN IMMEDIATE").expect("lock");
        let error = database.begin(1).expect_err("locked");
        assert!(error.contains("after 2 tries") && error.contains("locked"), "{error}");
        holder.execute_batch("COMMIT").expect("unlock");
        assert_eq!(database.begin(1), Ok(true));
    }
}
