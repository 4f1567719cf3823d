//! Whether a journal can be trusted, asked before it is opened for writing.

use super::cannot;
use crate::journal::JournalError;
use nix::sys::statfs::{
    AFS_SUPER_MAGIC, CODA_SUPER_MAGIC, FsType, NCP_SUPER_MAGIC, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs,
};
use rusqlite::{Connection, OpenFlags};
use std::{fs, path::Path};

/// Journals beyond this size, in bytes, are not read as a whole at every start.
const READ_WHOLE: u64 = 16 << 20;
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
