//! The tables of the journal, and how an older layout becomes this one.

use super::{BUSY, guard};
use crate::journal::JournalError;
use rusqlite::Connection;
use std::sync::Mutex;

/// The version of the database's layout.
const LAYOUT: i64 = 2;

const FIRST: &str = "
    CREATE TABLE IF NOT EXISTS runs (
        id TEXT PRIMARY KEY, playbook TEXT NOT NULL, plan_hash TEXT NOT NULL, plan TEXT NOT NULL,
        started_ms INTEGER NOT NULL, finished_ms INTEGER, verdict TEXT,
        epoch INTEGER NOT NULL, boot_id TEXT NOT NULL, pid INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS events (
        run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, seq INTEGER NOT NULL,
        at_ms INTEGER NOT NULL, event TEXT NOT NULL, PRIMARY KEY (run, seq)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS runs_by_start ON runs (started_ms);";

/// Where a run belongs, how many things it left, and checksums. What is open is found without reading what is over. Records that
/// were damaged are put aside, not thrown away.
const SECOND: &str = "
    ALTER TABLE runs ADD COLUMN place TEXT;
    ALTER TABLE runs ADD COLUMN remains INTEGER;
    ALTER TABLE runs ADD COLUMN plan_sum TEXT;
    ALTER TABLE events ADD COLUMN sum TEXT;
    CREATE TABLE damaged (run TEXT NOT NULL, seq INTEGER NOT NULL, at_ms, event, sum);
    CREATE INDEX runs_open ON runs (started_ms) WHERE finished_ms IS NULL OR verdict IS NULL OR remains > 0;";

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn other(layout: i64) -> JournalError {
    JournalError::new(format!("its layout is {layout}, this version knows {LAYOUT}"))
        .hint("use the version of shakedown that wrote it, or another folder: --state-dir DIR")
}

/// Requires this layout, where nothing can be changed.
pub(super) fn require(connection: &Mutex<Connection>) -> Result<(), JournalError> {
    match version(&guard(connection)) {
        Ok(LAYOUT) => Ok(()),
        Ok(layout) => Err(other(layout)),
        Err(error) => Err(JournalError::new(error.to_string())),
    }
}

/// Sets the connection up, and brings the tables to this layout.
pub(super) fn prepare(connection: &Mutex<Connection>) -> Result<(), JournalError> {
    let connection = guard(connection);
    let sql = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => {
            JournalError::new(error.to_string()).hint("its disk is full: df -h")
        }
        _ => JournalError::new(error.to_string()),
    };
    connection.busy_timeout(BUSY).map_err(sql)?;
    // So that space can be given back bit by bit; of a journal that has tables this changes nothing.
    connection.pragma_update(None, "auto_vacuum", "incremental").map_err(sql)?;
    connection.pragma_update(None, "journal_mode", "wal").map_err(sql)?;
    // Invariant 1: a commit survives a power cut.
    connection.pragma_update(None, "synchronous", "full").map_err(sql)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(sql)?;
    let layout = version(&connection).map_err(sql)?;
    if layout > LAYOUT {
        return Err(other(layout));
    }
    for (from, statements) in
        [FIRST, SECOND].into_iter().enumerate().skip(usize::try_from(layout).unwrap_or(0))
    {
        let made = connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {statements} PRAGMA user_version = {}; COMMIT;",
            from + 1
        ));
        if let Err(error) = made {
            let _nothing_begun = connection.execute_batch("ROLLBACK");
            return Err(sql(error));
        }
    }
    Ok(())
}
