//! Opens databases for a plan: nothing is made, nothing is locked against others, nothing is opened for writing that can be
//! read otherwise.
//!
//! Whoever reads a database in WAL mode shares an index in memory with its writers, the file `-shm`, and opens the log,
//! `-wal`, as a writer would; SQLite makes both where they are missing. So a plan tells apart:
//! - a log with something in it: the index is opened for reading (`readonly_shm`), the log is opened as SQLite does;
//! - no log, or an empty one: the file alone is the database. It is read as one that does not change (`immutable`), and
//!   [`Still`] tells afterwards whether it did not.

use super::{must_be_a_file, open_as};
use engine::{StepError, error::ErrorClass};
use nix::unistd::{AccessFlags, access};
use rusqlite::{Connection, OpenFlags};
use std::{
    fs::File,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// How often a database that changes while it is looked at is looked at anew.
pub(super) const LOOKS: usize = 20;

/// A file as it was: one that is changed or replaced is another.
type Stamp = Option<(u64, u64, i64, i64)>;

/// What a database without a log was when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Still {
    database: PathBuf,
    file: Stamp,
}

/// The connection, and what must not have changed while it was used.
pub(super) fn open(database: &str) -> Result<(Connection, Option<Still>), StepError> {
    must_be_a_file(database)?;
    // SQLite keeps the log beside the file itself, not beside a link to it.
    let real = std::fs::canonicalize(database).unwrap_or_else(|_| database.into());
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let uri = |options: &str| format!("file:{}?{options}", escaped(&real));
    let has_log = beside(&real, "-wal").metadata().is_ok_and(|log| log.len() > 0);
    let has_index = beside(&real, "-shm").exists();
    if !is_wal(&real) || (has_log && !has_index) {
        return Ok((open_as(database, database, OpenFlags::SQLITE_OPEN_READ_ONLY)?, None));
    }
    if has_log {
        return Ok((open_as(database, &uri("readonly_shm=1"), read_only)?, None));
    }
    let still = Still { file: stamp(&real), database: real.clone() };
    Ok((open_as(database, &uri("immutable=1"), read_only)?, Some(still)))
}

impl Still {
    /// Whether nobody has written meanwhile.
    pub(super) fn holds(&self) -> bool {
        let has_log = beside(&self.database, "-wal").metadata().is_ok_and(|log| log.len() > 0);
        !has_log && stamp(&self.database) == self.file
    }
}

/// A write transaction cannot be begun just to look; but who may not write the file, or not beside it, will fail.
///
/// # Errors
/// The file, its log or its folder cannot be written.
pub(in crate::sqlite) fn require_writable(database: &str) -> Result<(), StepError> {
    let real = std::fs::canonicalize(database).unwrap_or_else(|_| database.into());
    let folder = real.parent().map(Path::to_owned).unwrap_or_else(|| ".".into());
    let log = beside(&real, "-wal");
    let all = [Some(real), log.exists().then_some(log), Some(folder)];
    for path in all.into_iter().flatten() {
        if let Err(error) = access(&path, AccessFlags::W_OK) {
            let message = format!("`{database}` cannot be written: `{}`: {}", path.display(), error.desc());
            return Err(StepError::new(ErrorClass::Denied, message)
                .hint(format!("check owner and mode of the file and of its folder: namei -l {database}")));
        }
    }
    Ok(())
}

/// Whether the database is in WAL mode: its header says so.
pub(in crate::sqlite) fn is_wal(path: &Path) -> bool {
    let mut header = [0; 20];
    File::open(path).and_then(|mut file| file.read_exact(&mut header)).is_ok()
        && header.starts_with(b"SQLite format 3\0")
        && header[18..20] == [2, 2]
}

pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn stamp(path: &Path) -> Stamp {
    path.metadata().ok().map(|found| (found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

/// A path inside of a URI.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_changed_while_it_was_looked_at_is_told_from_one_that_did_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("odd ?#% 媒体.db");
        let owner = Connection::open(&path).expect("a database");
        owner.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (n);").expect("a table");
        drop(owner);
        let database = path.display().to_string();
        let (connection, still) = open(&database).expect("it opens");
        let still = still.expect("it has no log");
        let rows = || connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
        assert_eq!(rows().expect("a count"), 0);
        assert!(still.holds());
        assert_eq!(dir.path().read_dir().expect("the folder").count(), 1, "nothing was made beside it");

        let owner = Connection::open(&path).expect("the owner is back");
        owner.execute("INSERT INTO t VALUES (1)", []).expect("a row");
        assert!(!still.holds(), "a log has come");
        drop(owner);
        assert!(!still.holds(), "the log went into the database");
    }

    #[test]
    fn who_may_not_write_is_told_without_an_attempt() {
        let missing = require_writable("/no/such/folder/a.db").expect_err("it is not there");
        assert_eq!(missing.class, ErrorClass::Denied);
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.db");
        Connection::open(&path).and_then(|c| c.execute_batch("CREATE TABLE t (n)")).expect("a database");
        require_writable(&path.display().to_string()).expect("it may be written");
    }
}
