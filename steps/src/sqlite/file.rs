//! Which file a database is, whatever stands under its name by now.

use crate::identity::Identity;
use engine::{StepError, error::ErrorClass};
use serde::{Deserialize, Serialize};
use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// How many names of a folder are looked through for a file that was moved.
const NAMES: usize = 10_000;

/// The file as it was when the row went in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DatabaseFile {
    identity: Identity,
    /// Its path without links.
    real: String,
    /// Whether a journal of SQLite was beside it.
    #[serde(default = "there")]
    had_journal: bool,
}

/// Versions that did not look may have found one.
const fn there() -> bool {
    true
}

fn journal(real: &str) -> PathBuf {
    PathBuf::from(format!("{real}-journal"))
}

/// What stands under the name now.
#[derive(Debug)]
pub(super) enum Standing {
    /// The same file.
    Same,
    /// Nothing, or another file: why that is so, and where the one meant is now, if it can be found.
    Elsewhere { why: String, moved: Option<PathBuf> },
}

/// How far the content of the file has come. A copy over the file, or a backup put back, leaves the file the same and not
/// its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    /// SQLite's count of changes, which each transaction raises; with a log only some do.
    changes: u32,
    /// Whether there is a log.
    logged: bool,
}

impl Content {
    /// As it is now; nothing if it cannot be told, or changes in this moment.
    pub(super) fn of(database: &str) -> Option<Self> {
        let written = || {
            let found = std::fs::metadata(database).ok()?;
            Some(i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec()))
        };
        let before = written()?;
        let header = header(database)?;
        let counter = header.get(24..28)?.try_into().ok()?;
        let content = Self { changes: u32::from_be_bytes(counter), logged: header.get(18) == Some(&2) };
        (written()? == before).then_some(content)
    }

    /// Whether what is there now is older.
    pub(super) fn is_ahead_of(self, now: Self) -> bool {
        // The count goes round after four thousand million changes.
        now.changes.wrapping_sub(self.changes) > u32::MAX / 2
    }

    /// Whether no transaction was committed since. The time at which the file was written says nothing of that: SQLite also writes
    /// what it then rolls back, most of all after a kill.
    pub(super) fn is_that_of(self, now: Self) -> bool {
        !self.logged && !now.logged && now.changes == self.changes
    }
}

/// Whether the database is in WAL mode: its header says so.
pub(super) fn is_wal(database: &str) -> bool {
    header(database).is_some_and(|header| header.get(18..20) == Some(&[2, 2]))
}

/// The first bytes of the file, read by a process of its own: closing the file in this one would let go of every lock that
/// a connection of this process has on it.
fn header(database: &str) -> Option<Vec<u8>> {
    let path = std::path::absolute(database).ok()?;
    let mut head = Command::new("head");
    head.args(["-c", "100"]).arg(path).stdin(Stdio::null()).stderr(Stdio::null());
    let read = head.output().ok()?;
    read.status.success().then_some(read.stdout).filter(|bytes| bytes.starts_with(b"SQLite format 3\0"))
}

impl DatabaseFile {
    /// # Errors
    /// It is not there, or may not be looked at.
    pub(super) fn at(database: &str) -> Result<Self, StepError> {
        let failed = |error: std::io::Error| StepError::io(format!("look at `{database}`"), &error);
        let identity = Identity::behind(Path::new(database)).map_err(failed)?;
        let gone = || StepError::new(ErrorClass::NotFound, format!("`{database}` does not exist"));
        let real = std::fs::canonicalize(database).map_err(failed)?;
        let real = real.to_string_lossy().into_owned();
        let had_journal = journal(&real).exists();
        Ok(Self { identity: identity.ok_or_else(gone)?, real, had_journal })
    }

    /// Where SQLite keeps what it needs to roll a transaction back: beside the file itself, not beside a link to it. Nothing if
    /// one was there before the insert: who keeps it for good may have it.
    pub(super) fn own_journal(&self) -> Option<PathBuf> {
        (!self.had_journal).then(|| journal(&self.real))
    }

    /// Removes what a kill left of our journal. One that was killed before SQLite had synchronised it is no journal yet to any
    /// reader, and only the next writer would remove it. The caller holds the lock of writers, so that it is nobody else's.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub(super) fn discard_journal(&self) -> Result<(), StepError> {
        let Some(journal) = self.own_journal() else { return Ok(()) };
        match std::fs::remove_file(&journal) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StepError::io(format!("remove `{}`", journal.display()), &error))
            }
            _ => Ok(()),
        }
    }

    /// Whether that name still leads to this file.
    pub(super) fn standing(&self, database: &str) -> Standing {
        let elsewhere = |why: String| Standing::Elsewhere { why, moved: self.moved(database) };
        match Identity::behind(Path::new(database)) {
            Ok(Some(now)) if now.is(&self.identity) => Standing::Same,
            Ok(Some(_)) => elsewhere(format!("`{database}` is another file now")),
            Ok(None) => elsewhere(format!("`{database}` is not there any more")),
            Err(error) => elsewhere(format!("`{database}` cannot be looked at: {error}")),
        }
    }

    /// # Errors
    /// It does not lead there any more.
    pub(super) fn require(&self, database: &str) -> Result<(), StepError> {
        match self.standing(database) {
            Standing::Same => Ok(()),
            Standing::Elsewhere { why, .. } => {
                Err(StepError::new(ErrorClass::NotFound, format!("{why}: it was replaced in this moment")))
            }
        }
    }

    /// Where the file is now: under its own path, if a link to it has changed, or under another name in the same folder.
    fn moved(&self, database: &str) -> Option<PathBuf> {
        let here =
            |path: &Path| Identity::of(path).is_ok_and(|found| found.is_some_and(|it| it.is(&self.identity)));
        let real = PathBuf::from(&self.real);
        if here(&real) {
            return Some(real);
        }
        let mut folders: Vec<&Path> = real.parent().into_iter().chain(Path::new(database).parent()).collect();
        folders.dedup();
        let entries = folders.into_iter().filter_map(|folder| std::fs::read_dir(folder).ok());
        let mut names = entries.flat_map(|entries| entries.flatten().take(NAMES));
        names.find(|entry| here(&entry.path())).map(|entry| entry.path())
    }
}
