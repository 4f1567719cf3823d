//! The journal of one run, and who may write it.

use super::{chain, guard, is_full, lock::LockFile, now_ms, reserve::Reserve, to_i64};
use crate::{
    event::{Record, RunEvent},
    host::BoxFuture,
    journal::{Journal, JournalError},
};
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::{Arc, Mutex};

/// The journal of a run that this process owns, until it is dropped.
#[derive(Debug)]
pub struct RunJournal {
    run: String,
    connection: Arc<Mutex<Connection>>,
    owned: Owned,
    /// How many things the last look has found left, or could not tell of.
    remains: u32,
}

/// What only the owner of a run has.
#[derive(Debug)]
pub(super) struct Owned {
    /// Raised by each owner: whoever has an older one has lost the run.
    pub(super) epoch: i64,
    /// The place of the next record.
    pub(super) seq: u64,
    /// The checksum of the last record.
    pub(super) sum: String,
    /// Held as long as the run is owned; the kernel frees it when the process dies, however it dies.
    pub(super) lock: LockFile,
    /// Space for the rest of the history, should the disk fill up meanwhile.
    pub(super) reserve: Option<Reserve>,
}

/// Why a record could not be written.
enum Failed {
    NoSpace(String),
    Other(JournalError),
}

impl RunJournal {
    /// The journal of a run whose lock this process has.
    pub(super) fn new(run: String, connection: Arc<Mutex<Connection>>, owned: Owned) -> Self {
        Self { run, connection, owned, remains: 0 }
    }

    fn write(&mut self, event: &RunEvent) -> Result<Record, JournalError> {
        let json = serde_json::to_string(event).map_err(|error| JournalError::new(error.to_string()))?;
        let record = Record { seq: self.owned.seq, at_ms: now_ms(), event: event.clone() };
        let sum = chain::next(&self.owned.sum, record.seq, record.at_ms, &json);
        if let (RunEvent::RunFinished { .. }, Some(reserve)) = (event, &mut self.owned.reserve) {
            reserve.hide();
        }
        if let RunEvent::LeftoversChecked { leftovers } = event {
            let remains = leftovers.left.len() + leftovers.unknown.len();
            self.remains = u32::try_from(remains).unwrap_or(u32::MAX);
        }
        loop {
            match self.try_write(&record, &json, &sum) {
                Ok(()) => break,
                // The disk is full: now is the time for which space was put by.
                Err(Failed::NoSpace(_)) if self.owned.reserve.is_some() => self.release(),
                Err(Failed::NoSpace(error)) => {
                    return Err(JournalError::new(format!("cannot write the journal: {error}"))
                        .hint("its disk is full: df -h"));
                }
                Err(Failed::Other(error)) => return Err(error),
            }
        }
        self.owned.seq += 1;
        self.owned.sum = sum;
        self.owned.lock.count(self.owned.seq);
        if let RunEvent::RunFinished { .. } = event {
            self.release();
            self.owned.lock.remove();
        }
        Ok(record)
    }

    fn release(&mut self) {
        if let Some(reserve) = self.owned.reserve.take() {
            reserve.release();
        }
    }

    fn try_write(&self, record: &Record, json: &str, sum: &str) -> Result<(), Failed> {
        let failed = |error: rusqlite::Error| match is_full(&error) {
            true => Failed::NoSpace(error.to_string()),
            false => Failed::Other(JournalError::new(format!("cannot write the journal: {error}"))),
        };
        let mut connection = guard(&self.connection);
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
        // Invariant 7: whoever lost the run to another owner writes nothing more.
        let epoch: Option<i64> = transaction
            .query_row("SELECT epoch FROM runs WHERE id = ?1", [&self.run], |row| row.get(0))
            .optional()
            .map_err(failed)?;
        if epoch != Some(self.owned.epoch) {
            let mut error = JournalError::new(format!("another process has taken over run `{}`", self.run));
            error.not_owner = true;
            return Err(Failed::Other(error));
        }
        transaction
            .execute(
                "INSERT INTO events (run, seq, at_ms, event, sum) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![self.run, to_i64(record.seq), to_i64(record.at_ms), json, sum],
            )
            .map_err(failed)?;
        if let RunEvent::RunFinished { verdict } = &record.event {
            let verdict = serde_json::to_string(verdict)
                .map_err(|error| Failed::Other(JournalError::new(error.to_string())))?;
            transaction
                .execute(
                    "UPDATE runs SET finished_ms = ?2, verdict = ?3, remains = ?4 WHERE id = ?1",
                    params![self.run, to_i64(record.at_ms), verdict, self.remains],
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
