//! Forgetting old runs.

use super::{RunState, Store, guard, lock::LockFile, now_ms, to_i64};
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

impl Store {
    /// Forgets all runs that ended longer ago than `older`. Those that died or left something stay until they are recovered.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn prune(&self, older: Duration) -> Result<Pruned, JournalError> {
        let before = now_ms().saturating_sub(Millis::from(older).0);
        let open = self.open_runs()?.iter().filter(|row| row.is_open() && row.started_ms < before).count();
        let failed = |error: rusqlite::Error| JournalError::new(format!("cannot prune the journal: {error}"));
        let connection = guard(&self.connection);
        let runs = connection
            .execute(
                "DELETE FROM runs WHERE finished_ms < ?1 AND verdict IS NOT NULL AND coalesce(remains, 0) = 0",
                params![to_i64(before)],
            )
            .map_err(failed)?;
        if runs > 0 {
            // Gives the space back; on a full disk, or while another run writes, it stays for later use.
            let _later = connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);");
        }
        drop(connection);
        self.sweep()?;
        Ok(Pruned { runs, open })
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
