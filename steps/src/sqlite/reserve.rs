//! Space that is put by beside a database before a row is inserted, so that the row can be deleted on a full disk.

use engine::{StepError, local::allocate};
use std::{
    fs::{self, OpenOptions},
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// How many pages a delete may write: the row's, its indexes', the free list, and their frames in the log.
pub(super) const PAGES: u64 = 32;

/// Where the space for one attempt is put by: a hidden name of its own beside the database.
pub(super) fn path(database: &str, mark: &str) -> String {
    let folder = Path::new(database).parent().unwrap_or(Path::new(""));
    folder.join(format!(".shakedown-{mark}.reserve")).to_string_lossy().into_owned()
}

/// Takes up the space.
///
/// # Errors
/// It is not there, or the folder cannot be written.
pub(super) fn make(path: &str, bytes: u64) -> Result<(), StepError> {
    let made = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .and_then(|mut file| allocate(&mut file, bytes));
    made.map_err(|error| {
        // Nothing has been inserted yet: nothing of this is needed.
        let _none = fs::remove_file(path);
        StepError::io(format!("put by {bytes} bytes for the undo in `{path}`"), &error)
    })
}

/// Gives it back.
///
/// # Errors
/// It is there and cannot be removed.
pub(super) fn release(path: &str) -> Result<(), StepError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StepError::io(format!("remove `{path}`"), &error))
        }
        _ => Ok(()),
    }
}
