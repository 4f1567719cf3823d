//! A name in a folder that is held open: what is done by it stays in that folder, whatever becomes of the path.

use crate::identity::Identity;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};
use std::{
    ffi::OsString,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// Where something stands or is to stand.
pub(super) struct Spot {
    folder: OwnedFd,
    name: OsString,
}

/// The folder of a path and the name in it; none if the path ends in no name, as `/` and `..` do.
pub(super) fn split(path: &str) -> Option<(PathBuf, OsString)> {
    let path = Path::new(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some((folder.to_owned(), path.file_name()?.to_owned()))
}

impl Spot {
    /// Opens the folder; links on the way to it are followed.
    pub(super) fn open(path: &str) -> io::Result<Self> {
        let (folder, name) = split(path).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { folder: rustix::fs::open(folder, flags, Mode::empty())?, name })
    }

    /// Another name in the same folder.
    pub(super) fn beside(&self, name: &str) -> io::Result<Self> {
        let (_, name) = split(name).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(Self { folder: self.folder.try_clone()?, name })
    }

    /// The folder itself.
    pub(super) fn folder(&self) -> io::Result<Identity> {
        Identity::of_open(&self.folder)
    }

    /// What has the name now.
    pub(super) fn now(&self) -> io::Result<Option<Identity>> {
        Identity::at(&self.folder, Path::new(&self.name))
    }

    /// Whether this very thing has the name now.
    pub(super) fn holds(&self, it: &Identity) -> io::Result<bool> {
        Ok(self.now()?.is_some_and(|now| now.is(it)))
    }

    /// Makes a file that was not there. The mode is subject to the umask.
    pub(super) fn create(&self, mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.folder, &self.name, flags, Mode::from_raw_mode(mode))?.into())
    }

    /// Makes a folder that was not there, and opens it.
    pub(super) fn create_folder(&self, mode: u32) -> io::Result<File> {
        rustix::fs::mkdirat(&self.folder, &self.name, Mode::from_raw_mode(mode))?;
        self.open_folder()
    }

    /// Opens the folder that has the name, no link.
    pub(super) fn open_folder(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.folder, &self.name, flags, Mode::empty())?.into())
    }

    /// Opens the file that has the name, no link, and waits for nobody at a pipe.
    pub(super) fn open_file(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(openat(&self.folder, &self.name, flags, Mode::empty())?.into())
    }

    /// How many names the thing has.
    pub(super) fn names(&self) -> io::Result<u64> {
        let found = rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(found.st_nlink)
    }

    /// Gives it another name, but never over something.
    pub(super) fn rename(&self, to: &Self) -> io::Result<()> {
        match renameat_with(&self.folder, &self.name, &to.folder, &to.name, RenameFlags::NOREPLACE) {
            // Some file systems cannot: a hard link does not replace either.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                rustix::fs::linkat(&self.folder, &self.name, &to.folder, &to.name, AtFlags::empty())?;
                Ok(unlinkat(&self.folder, &self.name, AtFlags::empty())?)
            }
            result => Ok(result?),
        }
    }

    /// Takes the name from a file.
    pub(super) fn unlink(&self) -> io::Result<()> {
        Ok(unlinkat(&self.folder, &self.name, AtFlags::empty())?)
    }

    /// Removes an empty folder.
    pub(super) fn remove_folder(&self) -> io::Result<()> {
        Ok(unlinkat(&self.folder, &self.name, AtFlags::REMOVEDIR)?)
    }

    /// A name is durable only once its folder is.
    pub(super) fn sync(&self) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if let Ok(folder) = openat(&self.folder, ".", flags, Mode::empty()) {
            let _best_effort = rustix::fs::fsync(folder);
        }
    }
}
