//! Space that is put by before the first effect, so that a full disk cannot keep a run from writing down its undo.

use crate::{local::allocate, plan::Plan};
use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// What one record takes at most in the write-ahead log, in bytes: four pages of 4 KiB and their headers.
const RECORD: u64 = 4 * 4120;
/// The most that is put by for one run, in bytes.
const MOST: u64 = 64 << 20;

/// A file that takes up space until it is released. One that dies with its owner serves the recovery.
#[derive(Debug)]
pub(super) struct Reserve(PathBuf);

/// How much the records of undo, cleanup and the end of a run may take, in bytes.
pub(super) fn needed(plan: &Plan) -> u64 {
    let records = plan.steps.iter().map(|step| if step.is_effect() { 3 } else { 1 }).sum::<u64>() + 8;
    (records * RECORD).min(MOST)
}

impl Reserve {
    /// Takes up `bytes` in a new file.
    ///
    /// # Errors
    /// They are not there.
    pub(super) fn make(path: &Path, bytes: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)?;
        let reserve = Self(path.to_owned());
        match allocate(&mut file, bytes) {
            Ok(()) => Ok(reserve),
            Err(error) => {
                reserve.release();
                Err(error)
            }
        }
    }

    /// Gives the space back.
    pub(super) fn release(self) {
        // A name that stays would only take up space; pruning takes it away.
        let _stays = fs::remove_file(&self.0);
    }

    /// The one that a dead owner left, if it did.
    pub(super) fn found(path: &Path) -> Option<Self> {
        path.exists().then(|| Self(path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::Reserve;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_space_is_really_taken_and_given_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("reserve");
        let reserve = Reserve::make(&path, 100_000).expect("made");
        assert!(path.metadata().expect("there").blocks() * 512 >= 100_000);
        reserve.release();
        assert!(!path.exists());
    }
}
