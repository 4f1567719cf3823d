//! Removes a folder with all in it, by held folders: it follows no link, enters no mount, and takes nothing that was put
//! in the place of what it looked at.

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags, openat, statx, unlinkat},
    io::Errno,
};
use std::{
    ffi::{CStr, OsStr},
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

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

fn walk(folder: &File, path: &Path, mount: u64, remove: bool) -> Result<(), Stopped> {
    let at = |error: Errno| Stopped::At(path.to_owned(), error.into());
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(at)? {
        let entry = entry.map_err(at)?;
        if ![c".", c".."].contains(&entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    for name in names {
        let below = path.join(OsStr::from_bytes(name.to_bytes()));
        let failed = |error: io::Error| Stopped::At(below.clone(), error);
        let Some(kind) = look(folder, &name, mount, &below)? else { continue };
        if kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = match openat(folder, &name, flags, Mode::empty()) {
                Ok(inner) => File::from(inner),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(error.into())),
            };
            // What was opened counts, not what had the name a moment ago.
            if mount_of(&inner).map_err(failed)? != mount {
                return Err(Stopped::Mount(below));
            }
            walk(&inner, &below, mount, remove)?;
        }
        if remove {
            let flags = if kind == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            match unlinkat(folder, &name, flags) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::BUSY) => return Err(Stopped::Mount(below)),
                Err(error) => return Err(failed(error.into())),
            }
        }
    }
    Ok(())
}

/// What an entry is; nothing if it has gone meanwhile.
fn look(folder: &File, name: &CStr, mount: u64, below: &Path) -> Result<Option<FileType>, Stopped> {
    let failed = |error: io::Error| Stopped::At(below.to_owned(), error);
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let found = match statx(folder, name, flags, StatxFlags::TYPE | StatxFlags::MNT_ID) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    if found.stx_mask & StatxFlags::MNT_ID.bits() != 0 && found.stx_mnt_id != mount {
        return Err(Stopped::Mount(below.to_owned()));
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
