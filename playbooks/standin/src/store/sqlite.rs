//! `media_status.db`: the table as in the field.

use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, TransactionBehavior, params};

use super::patience::{Patience, Refused};
use super::{AT_ONCE, Media, Store};
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

#[derive(Debug)]
pub(super) struct Sqlite {
    connection: Connection,
    patience: Patience,
}

impl Sqlite {
    /// Makes the database, its folder and its table, if missing.
    pub(super) fn create(settings: &DatabaseSettings) -> Result<(), String> {
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

    pub(super) fn open(settings: &DatabaseSettings, stop: Stop) -> Result<Self, String> {
        let name = format!("the database `{}`", settings.path.display());
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&settings.path, flags)?;
            connection.busy_timeout(BUSY_SLICE)?;
            Ok::<_, rusqlite::Error>(connection)
        };
        let connection = open().map_err(|error| format!("cannot open {name}: {error}"))?;
        let database = Self { connection, patience: Patience::new(name, settings, stop) };
        // Opening reads nothing yet.
        database.next_ready(0)?;
        Ok(database)
    }

    /// The oldest file that is downloaded and not yet sent, with an id above `after`.
    fn next_ready(&self, after: i64) -> Result<Option<Media>, String> {
        self.read(|connection| {
            connection
                .query_row(
                    "SELECT id, file_path, file_name, file_hash FROM media_transfer_status
                     WHERE download_status = 'completed' AND transfer_status = 'pending' AND id > ?1
                     ORDER BY id LIMIT 1",
                    [after],
                    media,
                )
                .optional()
        })
    }

    /// Takes the row; false if it went or another took it meanwhile.
    fn begin(&self, id: i64) -> Result<bool, String> {
        let taken = self.write(
            "UPDATE media_transfer_status SET transfer_status = 'downloading',
                 transfer_start_time = CURRENT_TIMESTAMP, transfer_end_time = NULL, last_error_message = NULL
             WHERE id = ?1 AND download_status = 'completed' AND transfer_status = 'pending'",
            params![id],
        )?;
        Ok(taken == 1)
    }

    /// Takes this row, if it is ready.
    pub(super) fn take_row(&self, id: i64) -> Result<Option<Media>, String> {
        if !self.begin(id)? {
            return Ok(None);
        }
        self.read(|connection| {
            let sql = "SELECT id, file_path, file_name, file_hash FROM media_transfer_status WHERE id = ?1";
            connection.query_row(sql, [id], media).optional()
        })
    }

    /// Gives a row back, also one that a daemon before this one had.
    pub(super) fn give_back_row(&self, id: i64) -> Result<(), String> {
        self.patience.once("write", || {
            let sql =
                "UPDATE media_transfer_status SET transfer_status = 'pending', transfer_start_time = NULL
                 WHERE id = ?1 AND transfer_status = 'downloading'";
            self.connection.execute(sql, [id]).map(drop).map_err(refused)
        })
    }

    fn read<T>(&self, query: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, String> {
        self.patience.retried("read", || query(&self.connection).map_err(refused))
    }

    /// One statement in a transaction that takes the write lock at its start: a read that turns into a write
    /// fails at once when another wrote in between, whatever the busy timeout.
    fn write(&self, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<usize, String> {
        let write = || {
            let transaction =
                rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
            let changed = transaction.execute(sql, values)?;
            transaction.commit()?;
            Ok(changed)
        };
        self.patience.retried("write", || write().map_err(refused))
    }
}

impl Store for Sqlite {
    fn take(&mut self) -> Result<Option<Media>, String> {
        let mut last = 0;
        while let Some(media) = self.next_ready(last)? {
            if self.begin(media.id)? {
                return Ok(Some(media));
            }
            last = media.id;
        }
        Ok(None)
    }

    fn complete(&mut self, media: &Media) -> Result<(), String> {
        self.write(
            "UPDATE media_transfer_status SET transfer_status = 'completed',
                 transfer_end_time = CURRENT_TIMESTAMP, last_error_message = NULL WHERE id = ?1",
            params![media.id],
        )
        .map(drop)
    }

    fn retry(&mut self, media: &Media, tries: u32, message: &str) -> Result<(), String> {
        self.write(
            "UPDATE media_transfer_status SET transfer_retry_count = ?2, last_error_message = ?3 WHERE id = ?1",
            params![media.id, tries, message],
        )
        .map(drop)
    }

    fn fail(&mut self, media: &Media, tries: u32, message: &str) -> Result<(), String> {
        self.write(
            "UPDATE media_transfer_status SET transfer_status = 'failed',
                 transfer_end_time = CURRENT_TIMESTAMP, transfer_retry_count = ?2, last_error_message = ?3
             WHERE id = ?1",
            params![media.id, tries, message],
        )
        .map(drop)
    }

    fn leave(&mut self, _: &Media) -> Result<(), String> {
        Ok(())
    }

    fn give_back(&mut self, media: &Media) -> Result<(), String> {
        self.give_back_row(media.id)
    }

    fn sent_before(&mut self, minutes: u64) -> Result<Vec<Media>, String> {
        self.read(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT id, file_path, file_name, file_hash FROM media_transfer_status
                 WHERE transfer_status = 'completed' AND transfer_end_time <= datetime('now', ?1)
                 ORDER BY id DESC LIMIT ?2",
            )?;
            let rows = query.query_map(params![format!("-{minutes} minutes"), AT_ONCE], media)?;
            rows.collect()
        })
    }
}

fn media(row: &Row<'_>) -> rusqlite::Result<Media> {
    Ok(Media { id: row.get(0)?, path: row.get(1)?, name: row.get(2)?, sha256: row.get(3)? })
}

fn refused(error: rusqlite::Error) -> Refused {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Refused::ForNow(error.to_string()),
        _ => Refused::ForGood(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::Sqlite;
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
        Sqlite::create(&settings).expect("create");
        Sqlite::create(&settings).expect("twice changes nothing");
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
        let database = Sqlite::open(&settings, Stop::default()).expect("open");
        let first = database.next_ready(0).expect("read").expect("a row");
        assert_eq!(first.name, "first");
        assert_eq!(database.begin(first.id), Ok(true));
        assert_eq!(database.begin(first.id), Ok(false), "taken already");
        assert_eq!(database.next_ready(0).expect("read").expect("a row").name, "second");
        database.give_back_row(first.id).expect("give back");
        assert_eq!(database.next_ready(0).expect("read").expect("a row").name, "first");
    }

    #[test]
    fn a_missing_database_is_not_made() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("none.db");
        let settings = DatabaseSettings { path: path.clone(), ..Default::default() };
        assert!(Sqlite::open(&settings, Stop::default()).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_is_waited_for_within_the_limits_and_named() {
        let (_dir, settings) = fresh();
        let holder = Connection::open(&settings.path).expect("open");
        insert(&holder, "a", "completed");
        let database = Sqlite::open(&settings, Stop::default()).expect("open");
        holder.execute_batch("BEGIN IMMEDIATE").expect("lock");
        let error = database.begin(1).expect_err("locked");
        assert!(error.contains("after 2 tries") && error.contains("locked"), "{error}");
        holder.execute_batch("COMMIT").expect("unlock");
        assert_eq!(database.begin(1), Ok(true));
    }
}
