//! Forgetting old runs.

use super::{RunState, Store, guard, is_full, lock::LockFile, now_ms, to_i64};
use crate::{journal::JournalError, quantity::Millis};
use rusqlite::params;
use std::{collections::BTreeSet, fs, time::Duration};

/// What pruning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Runs that are forgotten.
    pub runs: usize,
    /// Runs that are as old, and kept because they died or left something: what that is is known only by their journal.
    pub open: usize,
}

/// How many runs, and how many records of a run, are forgotten at once: others wait for so long.
const AT_ONCE: i64 = 64;
/// How many pages of the file are given back at once.
const PAGES: i64 = 256;
/// A run that ended later than this from now, in milliseconds, has the stamp of a clock that was wrong.
const FUTURE: u64 = 24 * 60 * 60 * 1000;

const OLD: &str =
    "(finished_ms < ?1 OR finished_ms > ?2) AND verdict IS NOT NULL AND coalesce(remains, 0) = 0";

impl Store {
    /// Forgets all runs that ended longer ago than `older`. Those that died or left something stay until they are recovered.
    /// Little is changed at once: a living run goes on beside it, and a full disk gets its space back.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn prune(&self, older: Duration) -> Result<Pruned, JournalError> {
        let before = now_ms().saturating_sub(Millis::from(older).0);
        let open = self.open_runs()?.iter().filter(|row| row.is_open() && row.started_ms < before).count();
        let failed = |error: rusqlite::Error| match is_full(&error) {
            true => JournalError::new("cannot prune the journal: its disk has no space at all")
                .hint("free a little first: df -h"),
            false => JournalError::new(format!("cannot prune the journal: {error}")),
        };
        let mut runs = 0;
        let mut at_once = AT_ONCE;
        loop {
            match self.forget_some(before, at_once) {
                Ok(0) => break,
                Ok(some) => runs += some,
                Err(error) if is_full(&error) && at_once > 1 => at_once /= 4,
                // Not even one run at once: record by record, as long as there are any.
                Err(error) if is_full(&error) && self.forget_records(before).map_err(failed)? > 0 => {}
                Err(error) => return Err(failed(error)),
            }
            self.write_back();
        }
        if runs > 0 {
            self.shrink();
        }
        self.sweep()?;
        Ok(Pruned { runs, open })
    }

    fn forget_some(&self, before: u64, limit: i64) -> rusqlite::Result<usize> {
        let values = params![to_i64(before), to_i64(now_ms().saturating_add(FUTURE)), limit];
        let sql = format!("DELETE FROM runs WHERE id IN (SELECT id FROM runs WHERE {OLD} LIMIT ?3)");
        guard(&self.connection).execute(&sql, values)
    }

    /// Forgets the records of one old run, a few at a time, and tells how many there were.
    fn forget_records(&self, before: u64) -> rusqlite::Result<usize> {
        let sql = format!("SELECT id FROM runs WHERE {OLD} LIMIT 1");
        let values = params![to_i64(before), to_i64(now_ms().saturating_add(FUTURE))];
        let run: String = guard(&self.connection).query_row(&sql, values, |row| row.get(0))?;
        let last = "DELETE FROM events WHERE run = ?1 AND seq IN
                        (SELECT seq FROM events WHERE run = ?1 ORDER BY seq DESC LIMIT ?2)";
        let (mut at_once, mut forgotten) = (AT_ONCE, 0);
        loop {
            let deleted = guard(&self.connection).execute(last, params![run, at_once]);
            match deleted {
                Ok(0) => return Ok(forgotten),
                Ok(some) => {
                    forgotten += some;
                    self.write_back();
                }
                Err(error) if is_full(&error) && at_once > 1 => at_once /= 4,
                Err(error) => return Err(error),
            }
        }
    }

    /// Empties the log into the database, as far as others let it.
    fn write_back(&self) {
        let _later = guard(&self.connection).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }

    /// Gives free pages back to the file system.
    fn shrink(&self) {
        let number = |pragma: &str| {
            let connection = guard(&self.connection);
            connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).unwrap_or(0)
        };
        // An older journal, which cannot do that bit by bit, does it at once and can from then on; but only if nobody has to wait.
        if number("auto_vacuum") != 2 {
            if self.open_runs().is_ok_and(|open| open.iter().all(|row| !row.alive)) {
                let vacuum = "PRAGMA auto_vacuum = incremental; VACUUM";
                let _later = guard(&self.connection).execute_batch(vacuum);
                self.write_back();
            }
            return;
        }
        let mut free = number("freelist_count");
        while free > 0 {
            let some = format!("PRAGMA incremental_vacuum({PAGES})");
            let _later = guard(&self.connection).execute_batch(&some);
            self.write_back();
            let left = number("freelist_count");
            if left >= free {
                return;
            }
            free = left;
        }
    }

    /// Forgets a run, whatever it left.
    ///
    /// # Errors
    /// There is no such run, a living process owns it, or the journal cannot be written.
    pub fn forget(&self, id: &str) -> Result<String, JournalError> {
        let run = match self.lost_runs()?.into_iter().find(|lost| lost.id == id) {
            Some(lost) => lost.id,
            None => self.pick(id)?.id,
        };
        let Some(lock) = LockFile::take(&self.lock_path(&run))? else {
            return Err(JournalError::new(format!("run `{run}` is under way"))
                .hint("wait for it, or stop it in good order: kill -INT PID"));
        };
        guard(&self.connection)
            .execute("DELETE FROM runs WHERE id = ?1", [&run])
            .map_err(|error| JournalError::new(format!("cannot write the journal: {error}")))?;
        let _none = fs::remove_file(self.reserve_path(&run));
        lock.remove();
        Ok(run)
    }

    /// Removes locks and reserves of runs that are over, or died before they had begun.
    ///
    /// # Errors
    /// The journal or a lock cannot be read.
    pub fn sweep(&self) -> Result<(), JournalError> {
        let open: BTreeSet<String> = self.open_runs()?.into_iter().map(|row| row.id).collect();
        let lost: BTreeSet<String> = self.lost_runs()?.into_iter().map(|lost| lost.id).collect();
        let reserves = fs::read_dir(self.dir.join("scratch")).into_iter().flatten().flatten();
        let names = reserves.filter_map(|entry| entry.file_name().into_string().ok());
        let reserved = names.filter_map(|name| name.strip_suffix(".reserve").map(str::to_owned));
        for run in self.locked()?.into_iter().chain(reserved.collect::<Vec<_>>()) {
            if open.contains(&run) || lost.contains(&run) {
                continue;
            }
            // A run that is just being made has its lock before its row.
            if let Ok(Some(lock)) = LockFile::take(&self.lock_path(&run)) {
                let has_row = self.pick(&run).is_ok_and(|row| row.state() != RunState::Over);
                if !has_row {
                    let _none = fs::remove_file(self.reserve_path(&run));
                    lock.remove();
                }
            }
        }
        Ok(())
    }
}
