//! Opens databases to look at them: nothing is made, nothing is locked against others, nothing is opened for writing that can be
//! read otherwise.
//!
//! Whoever reads a database in WAL mode shares an index in memory with its writers, the file `-shm`, and opens the log,
//! `-wal`, as a writer would; SQLite makes both where they are missing, and who only reads never takes them away again. They
//! would belong to whoever looked, and keep the database's own users out. So a look tells apart:
//! - log and index are there: they are opened as SQLite does; by a plan the index is opened for reading (`readonly_shm`);
//! - a log and no index: nobody has the database open. The log is read with an index in our own memory, and without locks,
//!   for SQLite keeps it so only for one that excludes all others;
//! - no log, or an empty one: the file alone is the database. It is read as one that does not change (`immutable`).
//!
//! Of the last two [`Still`] tells afterwards whether nobody has written meanwhile.

use super::{super::file::is_wal, must_be_a_file, open_as};
use engine::{StepError, error::ErrorClass};
use nix::unistd::{AccessFlags, access};
use rusqlite::{Connection, OpenFlags};
use std::{
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
    log: Stamp,
}

/// The connection, and what must not have changed while it was used. With `plans` not even the index is opened for writing.
pub(super) fn open(database: &str, plans: bool) -> Result<(Connection, Option<Still>), StepError> {
    must_be_a_file(database)?;
    // SQLite keeps the log beside the file itself, not beside a link to it.
    let real = std::fs::canonicalize(database).unwrap_or_else(|_| database.into());
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let uri = |options: &str| format!("file:{}?{options}", escaped(&real));
    let log = beside(&real, "-wal");
    let has_index = beside(&real, "-shm").exists();
    if (log.exists() && has_index && !plans) || !is_wal(database) {
        return Ok((open_as(database, database, OpenFlags::SQLITE_OPEN_READ_ONLY, true)?, None));
    }
    let still = Still { file: stamp(&real), log: filled(&log), database: real.clone() };
    if still.log.is_none() {
        return Ok((open_as(database, &uri("immutable=1"), read_only, true)?, Some(still)));
    }
    if has_index {
        return Ok((open_as(database, &uri("readonly_shm=1"), read_only, true)?, None));
    }
    let connection = open_as(database, &uri("vfs=unix-none"), read_only, true)?;
    let own_index = connection.pragma_update(None, "locking_mode", "exclusive");
    own_index.map_err(|error| super::explain(&connection, &error))?;
    Ok((connection, Some(still)))
}

impl Still {
    /// Whether nobody has written meanwhile.
    pub(super) fn holds(&self) -> bool {
        filled(&beside(&self.database, "-wal")) == self.log && stamp(&self.database) == self.file
    }
}

/// Who may not write the file, or not beside it, will fail. That a write transaction can be begun does not tell: SQLite makes
/// its journal only with the first change.
///
/// # Errors
/// The file, its log or its folder cannot be written.
pub(in crate::sqlite) fn require_writable(database: &str) -> Result<(), StepError> {
    let real = std::fs::canonicalize(database).unwrap_or_else(|_| database.into());
    let (log, index) = (beside(&real, "-wal"), beside(&real, "-shm"));
    let both: Vec<PathBuf> = [log, index].into_iter().filter(|path| path.exists()).collect();
    require(database, std::iter::once(&real).chain(&both))?;
    // With both of them nothing is made.
    if both.len() == 2 { Ok(()) } else { require_folder(database) }
}

/// # Errors
/// Nothing can be made beside the file.
pub(in crate::sqlite) fn require_folder(database: &str) -> Result<(), StepError> {
    let real = std::fs::canonicalize(database).unwrap_or_else(|_| database.into());
    require(database, [&real.parent().map(Path::to_owned).unwrap_or_else(|| ".".into())])
}

fn require<'a>(database: &str, all: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), StepError> {
    for path in all {
        if let Err(error) = access(path, AccessFlags::W_OK) {
            let message = format!("`{database}` cannot be written: `{}`: {}", path.display(), error.desc());
            return Err(StepError::new(ErrorClass::Denied, message)
                .hint(format!("check owner and mode of the file and of its folder: namei -l {database}")));
        }
    }
    Ok(())
}

/// Whether what SQLite keeps beside a database in WAL mode is to stay as it is when we leave. What was not there, or what one of
/// ours who was killed has left in another's house, SQLite takes away when nobody else has the database open.
pub(super) fn keeps_log(database: &str) -> bool {
    let real = std::fs::canonicalize(database).unwrap_or_else(|_| database.into());
    let own = nix::unistd::geteuid().as_raw();
    let owner = |path: &Path| path.metadata().ok().map(|found| found.uid());
    let is_guest = owner(&real).is_some_and(|owner| owner != own);
    let mut found = ["-wal", "-shm"].into_iter().filter_map(|ending| owner(&beside(&real, ending)));
    found.any(|owner| !is_guest || owner != own)
}

pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A log with something in it.
fn filled(log: &Path) -> Stamp {
    stamp(log).filter(|(_, length, ..)| *length > 0)
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
        let (connection, still) = open(&database, true).expect("it opens");
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
    fn a_log_without_an_index_is_read_and_stays_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, cut) = (dir.path().join("it.db"), dir.path().join("cut.db"));
        let owner = Connection::open(&path).expect("a database");
        owner
            .execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (n); INSERT INTO t VALUES (1);")
            .expect("a row");
        for ending in ["", "-wal"] {
            std::fs::copy(beside(&path, ending), beside(&cut, ending)).expect("copies");
        }
        let database = cut.display().to_string();
        for plans in [true, false] {
            let (connection, still) = open(&database, plans).expect("it opens");
            let rows = connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
            assert_eq!(rows.expect("a count"), 1, "the row in the log was seen");
            drop(connection);
            assert!(still.expect("nobody keeps others out").holds());
            assert!(beside(&cut, "-wal").exists() && !beside(&cut, "-shm").exists());
        }
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
