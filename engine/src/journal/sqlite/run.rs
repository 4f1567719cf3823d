//! The journal of one run, and who may write it.

use super::{lock, now_ms, reserve::Reserve, to_i64};
use crate::{
    event::{Record, RunEvent},
    host::BoxFuture,
    journal::{Journal, JournalError},
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use std::{
    fs::{self, File},
    path::PathBuf,
    sync::{Arc, Mutex},
};

/// The journal of a run that this process owns, until it is dropped.
#[derive(Debug)]
pub struct RunJournal {
    run: String,
    epoch: i64,
    seq: u64,
    connection: Arc<Mutex<Connection>>,
    /// Held locked as long as the run is owned; the kernel frees it when the process dies, however it dies.
    lock: LockFile,
    /// Space for the rest of the history, should the disk fill up meanwhile.
    reserve: Option<Reserve>,
}

/// The lock of a run.
#[derive(Debug)]
pub(super) struct LockFile {
    pub(super) _file: File,
    pub(super) path: PathBuf,
}

impl LockFile {
    /// Takes its name away. Who opens one of that name later finds that it is another file.
    pub(super) fn remove(&self) {
        let _stays = fs::remove_file(&self.path);
    }
}

/// Why a record could not be written.
enum Failed {
    NoSpace(String),
    Other(JournalError),
}

impl RunJournal {
    /// The journal of a run whose lock this process has.
    pub(super) fn new(
        run: String,
        epoch: i64,
        seq: u64,
        connection: Arc<Mutex<Connection>>,
        lock: LockFile,
        reserve: Option<Reserve>,
    ) -> Self {
        Self { run, epoch, seq, connection, lock, reserve }
    }

    fn write(&mut self, event: &RunEvent) -> Result<Record, JournalError> {
        let json = serde_json::to_string(event).map_err(|error| JournalError::new(error.to_string()))?;
        let record = Record { seq: self.seq, at_ms: now_ms(), event: event.clone() };
        if let (RunEvent::RunFinished { .. }, Some(reserve)) = (event, &mut self.reserve) {
            reserve.hide();
        }
        loop {
            match self.try_write(&record, &json) {
                Ok(()) => break,
                // The disk is full: now is the time for which space was put by.
                Err(Failed::NoSpace(_)) if self.reserve.is_some() => self.release(),
                Err(Failed::NoSpace(error)) => {
                    return Err(JournalError::new(format!("cannot write the journal: {error}"))
                        .hint("its disk is full: df -h"));
                }
                Err(Failed::Other(error)) => return Err(error),
            }
        }
        self.seq += 1;
        if let RunEvent::RunFinished { .. } = event {
            self.release();
            self.lock.remove();
        }
        Ok(record)
    }

    fn release(&mut self) {
        if let Some(reserve) = self.reserve.take() {
            reserve.release();
        }
    }

    fn try_write(&self, record: &Record, json: &str) -> Result<(), Failed> {
        let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
            // The second is what it says when there is no room for its shared memory.
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => Failed::NoSpace(error.to_string()),
            _ => Failed::Other(JournalError::new(format!("cannot write the journal: {error}"))),
        };
        let mut connection = lock(&self.connection);
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
        // Invariant 7: whoever lost the run to another owner writes nothing more.
        let epoch: Option<i64> = transaction
            .query_row("SELECT epoch FROM runs WHERE id = ?1", [&self.run], |row| row.get(0))
            .optional()
            .map_err(failed)?;
        if epoch != Some(self.epoch) {
            let mut error = JournalError::new(format!("another process has taken over run `{}`", self.run));
            error.not_owner = true;
            return Err(Failed::Other(error));
        }
        transaction
            .execute(
                "INSERT INTO events (run, seq, at_ms, event) VALUES (?1, ?2, ?3, ?4)",
                params![self.run, to_i64(record.seq), to_i64(record.at_ms), json],
            )
            .map_err(failed)?;
        if let RunEvent::RunFinished { verdict } = &record.event {
            let verdict = serde_json::to_string(verdict)
                .map_err(|error| Failed::Other(JournalError::new(error.to_string())))?;
            transaction
                .execute(
                    "UPDATE runs SET finished_ms = ?2, verdict = ?3 WHERE id = ?1",
                    params![self.run, to_i64(record.at_ms), verdict],
                )
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }
}

impl Journal for RunJournal {
    fn append<'a>(&'a mut self, event: &'a RunEvent) -> BoxFuture<'a, Result<Record, JournalError>> {
        // A commit takes under a millisecond and nothing may start before it is durable, so the loop waits here.
        Box::pin(async move { self.write(event) })
    }
}
