//! Whether a journal can be trusted, asked before it is opened for writing.

use super::cannot;
use crate::journal::JournalError;
use nix::sys::statfs::{
    AFS_SUPER_MAGIC, CODA_SUPER_MAGIC, FsType, NCP_SUPER_MAGIC, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC,
    TMPFS_MAGIC, statfs,
};
use nix::unistd::geteuid;
use rusqlite::{Connection, OpenFlags};
use std::{fs, io::ErrorKind, os::unix::fs::MetadataExt, path::Path};

/// Journals beyond this size, in bytes, are not read as a whole at every start.
const READ_WHOLE: u64 = 1 << 20;
/// The numbers of CIFS, SMB2, 9P and Ceph, which the library does not name.
const MORE_NETWORK: [i64; 4] = [0xFF53_4D42, 0xFE53_4D42, 0x0102_1997, 0x00C3_6400];

/// What to do with a journal that cannot be used.
pub(super) fn move_away(path: &Path) -> String {
    format!(
        "it has not been touched; look at what it still holds: sqlite3 {0} .recover; then move it away: mv {0} {0}.damaged",
        path.display()
    )
}

/// Refuses folders on which neither locks nor the write-ahead log can be relied on.
pub(super) fn refuse_network(dir: &Path) -> Result<(), JournalError> {
    let kind =
        statfs(dir).map_err(|error| cannot("look at the file system of", dir, error))?.filesystem_type();
    let known = [NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, NCP_SUPER_MAGIC, CODA_SUPER_MAGIC, AFS_SUPER_MAGIC];
    if known.contains(&kind) || MORE_NETWORK.iter().any(|number| FsType(*number) == kind) {
        return Err(JournalError::new(format!("`{}` is on a network file system", dir.display()))
            .hint("a journal needs a disk of this machine: --state-dir DIR or SHAKEDOWN_STATE_DIR"));
    }
    Ok(())
}

/// Whether a folder is in memory.
pub(super) fn is_in_memory(dir: &Path) -> bool {
    /// The number of ramfs, which the library does not name.
    const RAMFS: i64 = 0x8584_58F6;
    statfs(dir).is_ok_and(|found| [TMPFS_MAGIC, FsType(RAMFS)].contains(&found.filesystem_type()))
}

/// Whether a link may stand in for a folder or file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// The state folder itself may be reached by one.
    Followed,
    /// Nothing in it is one.
    Refused,
}

/// Refuses what others may write or have put there: a recovery does what the journal says, with the rights of who calls it.
/// What is not there may be made.
pub(super) fn refuse_others(path: &Path, links: Links) -> Result<(), JournalError> {
    let look = match links {
        Links::Followed => fs::metadata(path),
        Links::Refused => fs::symlink_metadata(path),
    };
    let found = match look {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|error| cannot("look at", path, error))?,
    };
    let me = geteuid().as_raw();
    let why = if found.is_symlink() {
        "it is a link".to_owned()
    } else if found.uid() != me {
        format!("it belongs to user {}, and this is user {me}", found.uid())
    } else if found.mode() & 0o022 != 0 {
        format!("others may write it (mode {:04o})", found.mode() & 0o7777)
    } else {
        return Ok(());
    };
    let shown = path.display();
    Err(JournalError::new(format!("`{shown}` cannot be trusted: {why}")).hint(format!(
        "look who made it: ls -ld {shown}; or choose another folder: --state-dir DIR or SHAKEDOWN_STATE_DIR"
    )))
}

/// Looks, without a change, whether a journal is whole.
pub(super) fn check(path: &Path) -> Result<(), JournalError> {
    let length = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => {
            return Err(JournalError::new(format!("the journal `{}` is no file", path.display()))
                .hint("choose another folder: --state-dir DIR or SHAKEDOWN_STATE_DIR"));
        }
        Err(_) => return Ok(()),
    };
    let damaged = |why: String| {
        JournalError::new(format!("the journal `{}` is damaged: {why}", path.display())).hint(move_away(path))
    };
    if length == 0 {
        // SQLite would take it for new, and throw the log away.
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        return match fs::metadata(&log) {
            Ok(metadata) if metadata.len() > 0 => Err(damaged("it is empty, but its log is not".into())),
            _ => Ok(()),
        };
    }
    let ask = || -> rusqlite::Result<Vec<String>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(super::BUSY)?;
        let question = if length <= READ_WHOLE {
            "PRAGMA quick_check(3)"
        } else {
            "SELECT 'ok' FROM sqlite_schema LIMIT 1"
        };
        let mut statement = connection.prepare(question)?;
        let answers = statement.query_map([], |row| row.get(0))?;
        answers.collect()
    };
    match ask() {
        Ok(answers) if answers.is_empty() || answers == ["ok"] => Ok(()),
        Ok(answers) => Err(damaged(answers.join("; "))),
        Err(error) => match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Err(damaged(error.to_string()))
            }
            _ if crate::local::is_full(path) => Err(cannot("read the journal", path, error)
                .hint("its disk is full: df -h; or choose another folder: --state-dir DIR")),
            _ => Err(cannot("read the journal", path, error)),
        },
    }
}
