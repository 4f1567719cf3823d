//! What a file or folder is, whatever it is called: an intent holds what its effect stands in and what it made, and an
//! undo finds it again by that, never by name or likeness alone.

use serde::{Deserialize, Serialize};
use std::{io, os::fd::AsFd, path::Path, sync::LazyLock};

/// This boot of this machine. Device numbers of some file systems are given out anew with each.
static BOOT: LazyLock<String> = LazyLock::new(|| {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
});

/// A file or folder as the kernel knows it. An inode number alone is given out again once its file is gone; with the
/// time of birth it is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    /// Nanoseconds since 1970; missing where the file system does not keep it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<i128>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    boot: String,
}

impl Identity {
    /// What stands under that path, itself if it is a link; nothing if nothing does.
    ///
    /// # Errors
    /// It could not be looked at: that is not the same as nothing.
    pub(crate) fn of(path: &Path) -> io::Result<Option<Self>> {
        Self::look(rustix::fs::CWD, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
    }

    /// The folder or file that the path leads to, through links.
    ///
    /// # Errors
    /// As [`Identity::of`].
    pub(crate) fn behind(path: &Path) -> io::Result<Option<Self>> {
        Self::look(rustix::fs::CWD, path, rustix::fs::AtFlags::empty())
    }

    /// What an open file is.
    ///
    /// # Errors
    /// The kernel refuses to say.
    pub(crate) fn of_open(file: impl AsFd) -> io::Result<Self> {
        let found = Self::look(file, Path::new(""), rustix::fs::AtFlags::EMPTY_PATH)?;
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// What stands under that name in an open folder, itself if it is a link.
    ///
    /// # Errors
    /// As [`Identity::of`].
    pub(crate) fn at(folder: impl AsFd, name: &Path) -> io::Result<Option<Self>> {
        Self::look(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
    }

    /// What a host has told of one of its files: `boot` is that host's.
    pub(crate) fn told(device: u64, inode: u64, born: Option<i128>, boot: String) -> Self {
        Self { device, inode, born, boot }
    }

    /// The device that it is on.
    pub(crate) fn device(&self) -> u64 {
        self.device
    }

    /// When it was born, in nanoseconds since 1970, if that is known.
    pub(crate) fn born(&self) -> Option<i128> {
        self.born
    }

    /// The boot of the machine that told it.
    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }

    /// Its number on that device.
    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }

    fn look(at: impl AsFd, path: &Path, flags: rustix::fs::AtFlags) -> io::Result<Option<Self>> {
        use rustix::fs::StatxFlags;
        let asked = StatxFlags::INO | StatxFlags::TYPE | StatxFlags::BTIME;
        let found = match rustix::fs::statx(at, path, flags, asked) {
            Ok(found) => found,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let keeps_birth = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        let born = i128::from(found.stx_btime.tv_sec) * 1_000_000_000 + i128::from(found.stx_btime.tv_nsec);
        Ok(Some(Self {
            device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            born: keeps_birth.then_some(born),
            boot: BOOT.clone(),
        }))
    }

    /// Whether both are the same file or folder.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let born = match (self.born, other.born) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        self.inode == other.inode && born && (self.device == other.device || self.boot != other.boot)
    }
}

#[cfg(test)]
mod tests {
    use super::Identity;
    use std::fs;

    #[test]
    fn a_file_is_known_through_a_rename_and_not_in_its_successor() {
        let dir = tempfile::tempdir().expect("a folder");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, "").expect("writes");
        let first = Identity::of(&a).expect("looks").expect("is there");
        assert!(first.is(&Identity::of_open(fs::File::open(&a).expect("opens")).expect("looks")));
        fs::rename(&a, &b).expect("renames");
        assert_eq!(Identity::of(&a).expect("looks"), None);
        assert!(first.is(&Identity::of(&b).expect("looks").expect("is there")));
        fs::remove_file(&b).expect("removes");
        fs::write(&a, "").expect("writes");
        let second = Identity::of(&a).expect("looks").expect("is there");
        assert!(!first.is(&second), "{first:?} {second:?}");
        std::os::unix::fs::symlink(&a, &b).expect("links");
        assert!(second.is(&Identity::behind(&b).expect("looks").expect("is there")));
        assert!(!second.is(&Identity::of(&b).expect("looks").expect("is there")));
    }
}
