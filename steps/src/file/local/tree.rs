//! Removes a folder with all in it, by held folders: it follows no link, enters no mount, and takes nothing that was put
//! in the place of what it looked at.

use super::trace::unescaped;
use engine::host::shell_path;
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxAttributes, StatxFlags, openat, statx, unlinkat},
    io::Errno,
};
use std::{
    ffi::{CStr, CString, OsStr},
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
};

/// How many folders are held open at once.
const HELD: usize = 64;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What stops it.
pub(super) enum Stopped {
    /// Another file system, or another part of this one, is mounted here.
    Mount(PathBuf),
    /// The system refused.
    At(PathBuf, io::Error),
}

/// Removes all that is in a folder that is held open, but only if nothing is mounted below it. `path` is for messages.
pub(super) fn empty(folder: &File, path: &Path) -> Result<(), Stopped> {
    let mount = mount_of(folder).map_err(|error| Stopped::At(path.to_owned(), error))?;
    // First a look through all of it: a folder that cannot go as a whole stays as a whole.
    walk(folder, path, mount, false)?;
    walk(folder, path, mount, true)
}

/// The mount that is the first to be found below a folder.
pub(super) fn mounted(folder: &File, path: &Path) -> Option<PathBuf> {
    let mount = mount_of(folder).ok()?;
    match walk(folder, path, mount, false) {
        Err(Stopped::Mount(at)) => Some(at),
        _ => None,
    }
}

/// All that is mounted below a folder, in the order in which it was mounted, as often as it was.
pub(super) fn mounts(folder: &Path) -> Vec<PathBuf> {
    let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let places = text.split(|byte| *byte == b'\n').filter_map(|line| {
        let at = line.split(|byte| *byte == b' ').nth(4)?;
        Some(PathBuf::from(OsStr::from_bytes(&unescaped(at))))
    });
    places.filter(|at| at.starts_with(&folder) && *at != folder).collect()
}

/// Why a removal may be refused to everybody, with what helps; nothing if that is not so.
pub(super) fn obstacle(path: &Path, folder: &Path) -> String {
    let flags = |path: &Path| {
        let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
        found.map_or(StatxAttributes::empty(), |found| found.stx_attributes)
    };
    let fixed =
        [(StatxAttributes::IMMUTABLE, "immutable", "-i"), (StatxAttributes::APPEND, "append-only", "-a")];
    for (at, what) in [(path, "it"), (folder, "its folder")] {
        for (flag, name, option) in fixed {
            if flags(at).contains(flag) {
                return format!("; {what} is {name}, so first: chattr {option} -- {}", shell_path(at));
            }
        }
    }
    String::new()
}

/// A folder on the way down.
struct Level {
    /// Its name in the one above.
    name: CString,
    /// Held open, unless it is far above.
    folder: Option<File>,
    device: u64,
    inode: u64,
    /// What in it is still to be looked at.
    names: Vec<CString>,
}

impl Level {
    fn of(name: CString, folder: File) -> io::Result<Self> {
        let found = folder.metadata()?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            if ![c".", c".."].contains(&entry.file_name()) {
                names.push(entry.file_name().to_owned());
            }
        }
        Ok(Self { name, folder: Some(folder), device: found.dev(), inode: found.ino(), names })
    }

    /// Opens it again from the one below, in which it was.
    fn above(&self, below: &File) -> io::Result<File> {
        let folder = File::from(openat(below, c"..", FOLDER, Mode::empty())?);
        let found = folder.metadata()?;
        match (found.dev(), found.ino()) == (self.device, self.inode) {
            true => Ok(folder),
            false => Err(io::Error::other("a folder in it was moved meanwhile")),
        }
    }
}

/// A depth has no bound, so it takes neither stack nor descriptors.
fn walk(folder: &File, path: &Path, mount: u64, remove: bool) -> Result<(), Stopped> {
    let start = folder.try_clone().and_then(|folder| Level::of(CString::default(), folder));
    let mut levels = vec![start.map_err(|error| Stopped::At(path.to_owned(), error))?];
    loop {
        let depth = levels.len();
        let Some(Level { folder: Some(folder), names, .. }) = levels.last_mut() else { return Ok(()) };
        let Some(name) = names.pop() else {
            let Some(Level { name, folder: Some(below), .. }) = levels.pop() else { return Ok(()) };
            let Some(level) = levels.last_mut() else { return Ok(()) };
            let above = level.folder.take().map_or_else(|| level.above(&below), Ok);
            let gone = above.and_then(|above| {
                drop(below);
                if remove {
                    take(&above, &name, AtFlags::REMOVEDIR)?;
                }
                Ok(above)
            });
            match gone {
                Ok(above) => level.folder = Some(above),
                Err(error) => return Err(stopped(place(path, &levels, &name), error)),
            }
            continue;
        };
        let inner = look(folder, &name, mount).and_then(|kind| match kind {
            Some(FileType::Directory) => enter(folder, &name, mount),
            Some(_) if remove => take(folder, &name, AtFlags::empty()).map(|()| None),
            _ => Ok(None),
        });
        match inner.and_then(|inner| inner.map(|inner| Level::of(name.clone(), inner)).transpose()) {
            Ok(Some(level)) => {
                levels.push(level);
                if depth > HELD {
                    levels[depth - HELD].folder = None;
                }
            }
            Ok(None) => {}
            Err(error) => return Err(stopped(place(path, &levels, &name), error)),
        }
    }
}

fn place(path: &Path, levels: &[Level], name: &CStr) -> PathBuf {
    let names = levels.iter().skip(1).map(|level| level.name.as_c_str()).chain([name]);
    names.fold(path.to_owned(), |path, name| path.join(OsStr::from_bytes(name.to_bytes())))
}

/// Something is mounted where it is a mount that refuses.
fn stopped(at: PathBuf, error: io::Error) -> Stopped {
    match error.kind() == io::ErrorKind::ResourceBusy || error.kind() == io::ErrorKind::CrossesDevices {
        true => Stopped::Mount(at),
        false => Stopped::At(at, error),
    }
}

fn take(folder: &File, name: &CStr, flags: AtFlags) -> io::Result<()> {
    match unlinkat(folder, name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder; nothing if it has gone meanwhile.
fn enter(folder: &File, name: &CStr, mount: u64) -> io::Result<Option<File>> {
    let inner = match openat(folder, name, FOLDER, Mode::empty()) {
        Ok(inner) => File::from(inner),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // What was opened counts, not what had the name a moment ago.
    if mount_of(&inner)? == mount { Ok(Some(inner)) } else { Err(Errno::XDEV.into()) }
}

/// What an entry is; nothing if it has gone meanwhile.
fn look(folder: &File, name: &CStr, mount: u64) -> io::Result<Option<FileType>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let found = match statx(folder, name, flags, StatxFlags::TYPE | StatxFlags::MNT_ID) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if found.stx_mask & StatxFlags::MNT_ID.bits() != 0 && found.stx_mnt_id != mount {
        return Err(Errno::XDEV.into());
    }
    Ok(Some(FileType::from_raw_mode(found.stx_mode.into())))
}

/// The mount that an open folder is on. Also two views of one file system are two mounts.
fn mount_of(folder: &File) -> io::Result<u64> {
    let found = statx(folder.as_fd(), "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    if found.stx_mask & StatxFlags::MNT_ID.bits() != 0 {
        return Ok(found.stx_mnt_id);
    }
    // Kernels before 5.8 tell it only here.
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", folder.as_raw_fd()))?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    id.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
}

#[cfg(test)]
mod tests {
    use super::{Stopped, empty};
    use std::{fs, process::Command};

    /// Each level takes neither stack nor a descriptor, and no path is as long.
    #[test]
    fn a_depth_of_five_thousand_goes() {
        let dir = tempfile::tempdir().expect("made");
        let deep = "import os,sys\nos.chdir(sys.argv[1])\nfor i in range(5000):\n  open('f','w').close(); os.mkdir('名'); os.chdir('名')";
        let made = Command::new("python3").args(["-c", deep]).arg(dir.path()).status().expect("python3");
        assert!(made.success());
        let folder = fs::File::open(dir.path()).expect("opens");
        // A thread of a test has two MiB of stack.
        match empty(&folder, dir.path()) {
            Ok(()) => {}
            Err(Stopped::Mount(at)) => panic!("a mount at {}", at.display()),
            Err(Stopped::At(at, error)) => panic!("{} bytes deep: {error}", at.as_os_str().len()),
        }
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 0);
    }
}
