//! What a file or folder is, whatever it is called: an intent holds what its effect stands in and what it made, and an
//! undo finds it again by that, never by name or likeness alone.

use serde::{Deserialize, Serialize};
use std::{io, os::fd::AsFd, path::Path, sync::LazyLock};

/// `f_type` of overlayfs.
const OVERLAY: rustix::fs::FsWord = 0x794c_7630;

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
    /// On overlayfs, what stands in a lower layer is born once more with the first write to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    layered: bool,
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

    /// What an open file is that was made a moment ago: it is in the upper layer, and its birth is its only one.
    ///
    /// # Errors
    /// As [`Identity::of_open`].
    pub(crate) fn of_new(file: impl AsFd) -> io::Result<Self> {
        Ok(Self { layered: false, ..Self::of_open(file)? })
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
        Self { device, inode, born, layered: false, boot }
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

    /// This boot of this machine.
    pub(crate) fn boot_of_here() -> &'static str {
        &BOOT
    }

    /// Whether this boot of this machine has told it: only then is its device known by its number.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        self.boot == *BOOT
    }

    /// Its number on that device.
    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }

    fn look(at: impl AsFd, path: &Path, flags: rustix::fs::AtFlags) -> io::Result<Option<Self>> {
        use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
        let opened;
        let at = match flags.contains(AtFlags::EMPTY_PATH) {
            true => at.as_fd(),
            // Opened, so that both looks are at the same thing. This takes no permission and waits for nobody.
            false => {
                let link = flags.contains(AtFlags::SYMLINK_NOFOLLOW).then_some(OFlags::NOFOLLOW);
                let how = OFlags::PATH | OFlags::CLOEXEC | link.unwrap_or(OFlags::empty());
                opened = match rustix::fs::openat(at, path, how, Mode::empty()) {
                    Ok(opened) => opened,
                    Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
                opened.as_fd()
            }
        };
        let asked = StatxFlags::INO | StatxFlags::TYPE | StatxFlags::BTIME;
        let found = rustix::fs::statx(at, "", AtFlags::EMPTY_PATH, asked)?;
        let layered = rustix::fs::fstatfs(at)?.f_type == OVERLAY;
        let keeps_birth = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        let born = i128::from(found.stx_btime.tv_sec) * 1_000_000_000 + i128::from(found.stx_btime.tv_nsec);
        Ok(Some(Self {
            device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            born: keeps_birth.then_some(born),
            layered,
            boot: BOOT.clone(),
        }))
    }

    /// Whether both are the same file or folder.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let born = match (self.born, other.born) {
            (Some(one), Some(theirs)) if !self.layered || !other.layered => one == theirs,
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
        // The clock of births ticks every few milliseconds only.
        let probe = dir.path().join("probe");
        let born = || {
            fs::write(&probe, "").expect("writes");
            let born = Identity::of(&probe).expect("looks").expect("is there").born;
            fs::remove_file(&probe).expect("removes");
            born
        };
        while first.born.is_some() && born() == first.born {}
        fs::write(&a, "").expect("writes");
        let second = Identity::of(&a).expect("looks").expect("is there");
        assert!(!first.is(&second), "{first:?} {second:?}");
        std::os::unix::fs::symlink(&a, &b).expect("links");
        assert!(second.is(&Identity::behind(&b).expect("looks").expect("is there")));
        assert!(!second.is(&Identity::of(&b).expect("looks").expect("is there")));
    }

    /// The folder of a lower layer is copied up by the first write into it, and its birth time with it.
    #[test]
    fn a_folder_of_a_lower_layer_stays_itself_when_it_is_written_to() {
        use std::process::Command;
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let root = |argv: &[&str]| {
            nix::unistd::Uid::effective().is_root()
                && Command::new(argv[0]).args(&argv[1..]).status().is_ok_and(|status| status.success())
        };
        fs::create_dir(at("all")).expect("makes");
        if !root(&["mount", "-t", "tmpfs", "tmpfs", &at("all")]) {
            return;
        }
        for name in ["lower/d", "upper", "work", "seen"] {
            fs::create_dir_all(at(&format!("all/{name}"))).expect("makes");
        }
        fs::write(at("all/lower/d/old"), "x").expect("writes");
        let layers =
            format!("lowerdir={},upperdir={},workdir={}", at("all/lower"), at("all/upper"), at("all/work"));
        if root(&["mount", "-t", "overlay", "overlay", "-o", &layers, &at("all/seen")]) {
            let look = |name: &str| Identity::of(at(name).as_ref()).expect("looks").expect("is there");
            let (folder, old) = (look("all/seen/d"), look("all/seen/d/old"));
            let file = fs::File::create(at("all/seen/d/new")).expect("makes");
            let new = Identity::of_new(&file).expect("looks");
            fs::rename(at("all/seen/d/old"), at("all/seen/d/moved")).expect("renames");
            assert!(folder.is(&look("all/seen/d")), "{folder:?} {:?}", look("all/seen/d"));
            assert!(old.is(&look("all/seen/d/moved")), "{old:?} {:?}", look("all/seen/d/moved"));
            assert!(new.is(&look("all/seen/d/new")) && !new.is(&look("all/seen/d/moved")));
            // One that was made here is told from another with its number.
            let later = Identity { born: Some(1), ..look("all/seen/d/new") };
            assert!(!new.is(&later) && !later.is(&new));
            drop(file);
            assert!(root(&["umount", &at("all/seen")]));
        }
        assert!(root(&["umount", &at("all")]));
    }
}
