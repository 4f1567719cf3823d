//! How the document gives its place to a new one and has it back: where the file system can, it is the very file again.

use super::{Found, Place, Record, read, remove};
use crate::identity::Identity;
use engine::{StepError, local::reading};
use rustix::fs::{AtFlags, CWD, RenameFlags, Timespec, Timestamps, renameat_with, utimensat};
use std::{fs, io::ErrorKind, path::Path};

impl Place {
    /// The document as it was before, byte for byte: if it can be the very file that it was.
    pub(in super::super) fn restore_whole(
        &self,
        found: &Found,
        text: &str,
        record: &Record,
    ) -> Result<bool, StepError> {
        let path = self.new_file();
        let shown = path.to_string_lossy();
        let kept = match reading::open_itself(&path).map(reading::Reading::into_file) {
            // Whoever held it open may have gone on writing into it.
            Ok(kept) => read(&shown).ok().flatten().filter(|it| it.sha256 == record.before).map(|_| kept),
            Err(_) => None,
        };
        match kept {
            // Others may have changed owner or mode of what stands there since.
            Some(kept) => {
                self.dress(&kept, found)?;
                self.swap(&path, Some(found), None)
            }
            None => self.restore_at(found, text, record.modified),
        }
    }

    /// The document as it was before, by whatever text that now means. It takes the space that was put by.
    pub(in super::super) fn restore(&self, found: &Found, text: &str) -> Result<bool, StepError> {
        self.restore_at(found, text, None)
    }

    fn restore_at(&self, found: &Found, text: &str, modified: Option<(i64, i64)>) -> Result<bool, StepError> {
        let path = self.undo_file();
        remove(&path)?;
        match fs::rename(self.space_file(), &path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(StepError::io(format!("make `{}`", path.display()), &error));
            }
            _ => {}
        }
        let restored = self.write(&path, text, Some(found)).and_then(|()| {
            if let Some((tv_sec, tv_nsec)) = modified {
                let modified = Timespec { tv_sec, tv_nsec };
                let times = Timestamps { last_access: modified, last_modification: modified };
                // What it says matters more than when it was written.
                let _best_effort = utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW);
            }
            self.swap(&path, Some(found), None)
        });
        if !matches!(restored, Ok(true)) {
            // The first error is the one to tell; half a document must not stay.
            let removed = remove(&path);
            return restored.and_then(|restored| removed.map(|()| restored));
        }
        restored
    }

    /// Gives the new file the document's name, and the document the new file's.
    pub(super) fn exchange(&self, found: &Found, own: &Identity) -> Result<bool, StepError> {
        let (new, path) = (self.new_file(), Path::new(&self.path));
        if !self.is_still(found)? {
            return Ok(false);
        }
        let exchange = || renameat_with(CWD, &new, CWD, path, RenameFlags::EXCHANGE);
        if exchange().is_err() {
            // Not all file systems can: then only its text comes back.
            return self.swap(&new, Some(found), Some(own));
        }
        let was = Identity::of(&new).ok().flatten();
        if was.is_some_and(|was| !was.is(&found.identity)) && exchange().is_ok() {
            // Another had replaced it in that moment.
            return Ok(false);
        }
        self.sync();
        Ok(true)
    }
}
