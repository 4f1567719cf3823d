//! Forgetting old runs.

use super::{Store, lock, now_ms, to_i64};
use crate::{journal::JournalError, quantity::Millis};
use rusqlite::params;
use std::{collections::BTreeSet, fs, time::Duration};

/// What pruning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Runs that are forgotten.
    pub runs: usize,
    /// Dead runs that are older, and kept: what they left is known only by their journal.
    pub dead: usize,
}

impl Store {
    /// Forgets all runs that ended longer ago than `older`. Dead runs stay until they are recovered.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn prune(&self, older: Duration) -> Result<Pruned, JournalError> {
        let before = now_ms().saturating_sub(Millis::from(older).0);
        let dead = self.runs()?.iter().filter(|row| row.is_dead() && row.started_ms < before).count();
        let failed = |error: rusqlite::Error| JournalError::new(format!("cannot prune the journal: {error}"));
        let connection = lock(&self.connection);
        let runs = connection
            .execute(
                "DELETE FROM runs WHERE finished_ms IS NOT NULL AND finished_ms < ?1",
                params![to_i64(before)],
            )
            .map_err(failed)?;
        if runs > 0 {
            // Gives the space back; on a full disk, or while another run writes, it stays for later use.
            let _later = connection.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);");
        }
        drop(connection);
        self.sweep()?;
        Ok(Pruned { runs, dead })
    }

    /// Removes locks and reserves of runs that are over.
    fn sweep(&self) -> Result<(), JournalError> {
        let open: BTreeSet<String> =
            self.runs()?.into_iter().filter(|row| row.finished_ms.is_none()).map(|row| row.id).collect();
        for (folder, ending) in [("locks", ".lock"), ("scratch", ".reserve")] {
            for entry in fs::read_dir(self.dir.join(folder)).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let run = name.to_str().and_then(|name| name.strip_suffix(ending));
                let Some(run) = run.filter(|run| !run.starts_with("named-") && !open.contains(*run)) else {
                    continue;
                };
                // A run that is just being made has its lock before its row.
                if let Ok(Some(held)) = self.lock_run(run) {
                    let _stays = fs::remove_file(entry.path());
                    held.remove();
                }
            }
        }
        Ok(())
    }
}
