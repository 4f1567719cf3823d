//! Space that is put by before the first effect, so that a full disk cannot keep a run from writing down its undo.

use crate::{local::allocate, plan::Plan};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags},
    unistd::linkat,
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What one record takes at most in the write-ahead log, in bytes: four pages of 4 KiB and their headers.
const RECORD: u64 = 4 * 4120;
/// The most that is put by for one run, in bytes.
const MOST: u64 = 64 << 20;

/// A file that takes up space until it is released. One that dies with its owner serves the recovery.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    /// It has no name any more: the space is taken until this is closed.
    hidden: Option<File>,
}

/// How much the records of undo, cleanup and the end of a run may take, in bytes.
pub(super) fn needed(plan: &Plan) -> u64 {
    let records = plan.steps.iter().map(|step| if step.is_effect() { 3 } else { 1 }).sum::<u64>() + 8;
    (records * RECORD).min(MOST)
}

/// Space that is taken up by a file without a name: of one who dies now nothing stays, and no run is known yet that could be
/// recovered.
#[derive(Debug)]
pub(super) struct Unnamed {
    file: File,
    path: PathBuf,
    /// A file system that knows no such files: it has its name already.
    named: Option<Reserve>,
}

impl Unnamed {
    /// Takes up `bytes`; the file is to have this path.
    ///
    /// # Errors
    /// They are not there.
    pub(super) fn make(path: &Path, bytes: u64) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let flags = nix::libc::O_TMPFILE;
        let (mut file, named) =
            match OpenOptions::new().write(true).mode(0o600).custom_flags(flags).open(folder) {
                Ok(file) => (file, None),
                Err(error) if knows_none(&error) => (create(path)?, Some(Reserve::at(path))),
                Err(error) => return Err(error),
            };
        match allocate(&mut file, bytes) {
            Ok(()) => Ok(Self { file, path: path.to_owned(), named }),
            Err(error) => {
                named.into_iter().for_each(Reserve::release);
                Err(error)
            }
        }
    }

    /// Gives it its name: from now on it serves a recovery. Nothing if that fails, and the space is free.
    pub(super) fn name(self) -> Option<Reserve> {
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let follow = AtFlags::AT_SYMLINK_FOLLOW;
        self.named.or_else(|| {
            linkat(AT_FDCWD, own.as_str(), AT_FDCWD, &self.path, follow)
                .ok()
                .map(|()| Reserve::at(&self.path))
        })
    }

    /// Gives the space back.
    pub(super) fn release(self) {
        self.named.into_iter().for_each(Reserve::release);
    }
}

/// Whether this is how a file system says that its files all have names.
fn knows_none(error: &io::Error) -> bool {
    let codes = [Errno::EOPNOTSUPP, Errno::EISDIR, Errno::ENOENT, Errno::EINVAL];
    codes.iter().any(|code| error.raw_os_error() == Some(*code as i32))
}

fn create(path: &Path) -> io::Result<File> {
    let flags = nix::libc::O_NOFOLLOW;
    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).custom_flags(flags).open(path)
}

impl Reserve {
    fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), hidden: None }
    }

    /// Takes its name away and not yet the space: who dies right after the end of the run leaves nothing.
    pub(super) fn hide(&mut self) {
        if let Ok(file) = File::open(&self.path) {
            self.hidden = Some(file);
            let _stays = fs::remove_file(&self.path);
        }
    }

    /// Gives the space back.
    pub(super) fn release(self) {
        // A name that stays would only take up space; pruning takes it away.
        let _stays = fs::remove_file(&self.path);
    }

    /// The one that a dead owner left, if it did.
    pub(super) fn found(path: &Path) -> Option<Self> {
        path.exists().then(|| Self::at(path))
    }
}

/// Gives back what one run that nobody owns has put by in a state folder. False if there is none.
pub(super) fn give_one_back(dir: &Path) -> bool {
    let entries = fs::read_dir(dir.join("scratch")).into_iter().flatten().flatten();
    let mut reserves = entries.filter_map(|entry| {
        let run = entry.file_name().to_str()?.strip_suffix(".reserve")?.to_owned();
        Some((entry.path(), dir.join("locks").join(format!("{run}.lock"))))
    });
    reserves.any(|(path, lock)| {
        matches!(super::lock::owner(&lock), Ok(super::lock::Owner::None)) && fs::remove_file(path).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::Unnamed;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_space_is_really_taken_and_given_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("reserve");
        let unnamed = Unnamed::make(&path, 100_000).expect("made");
        assert!(!path.exists());
        let reserve = unnamed.name().expect("named");
        assert!(path.metadata().expect("there").blocks() * 512 >= 100_000);
        reserve.release();
        assert!(!path.exists());
    }
}
