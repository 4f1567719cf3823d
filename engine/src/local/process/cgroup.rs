//! A control group (v2) for each tree, where one may be made: nothing that a process does to itself takes it out.

use nix::{
    sys::memfd::{MFdFlags, memfd_create},
    unistd::AccessFlags,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

/// How the groups' names begin.
const PREFIX: &str = "shakedown-";

/// Where the group of a tree would be; nothing where this machine has no version 2 hierarchy.
pub(super) fn path_for(name: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    own_group(&mounts, &own).map(|group| group.join(format!("{PREFIX}{name}")))
}

/// The group that this process is in: the mount point, and our place below the mount's root.
fn own_group(mounts: &str, own: &str) -> Option<PathBuf> {
    let (root, point) = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        (after.split(' ').next() == Some("cgroup2")).then(|| Some((fields.next()?, fields.next()?))).flatten()
    })?;
    let place = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let below = Path::new(place).strip_prefix(root).ok()?;
    Some(Path::new(point).join(below))
}

/// What is held open of a group, so that neither `/proc` nor another file descriptor is needed to end what is in it.
#[derive(Debug)]
pub(super) struct Held {
    procs: File,
    events: File,
    /// Kernels before 5.14 have none.
    kill: Option<File>,
    /// Where a command that could not enter the group says so.
    refused: File,
}

impl Held {
    fn open(group: &Path) -> io::Result<Self> {
        Ok(Self {
            procs: OpenOptions::new().read(true).write(true).open(group.join("cgroup.procs"))?,
            events: File::open(group.join("cgroup.events"))?,
            kill: OpenOptions::new().write(true).open(group.join("cgroup.kill")).ok(),
            refused: File::from(memfd_create(c"refused", MFdFlags::MFD_CLOEXEC)?),
        })
    }

    /// Whether the command is in the group: then all that comes of it is, and what leaves it does so as root.
    pub(super) fn was_entered(&self) -> bool {
        self.refused.metadata().is_ok_and(|it| it.len() == 0)
    }

    /// Whether no process is left in it, nor in any group below it.
    pub(super) fn is_empty(&self) -> io::Result<bool> {
        match whole(&self.events) {
            Ok(text) => Ok(text.lines().any(|line| line == "populated 0")),
            // Only a group without processes can be removed.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The processes in the group itself.
    pub(super) fn pids(&self) -> Vec<u32> {
        whole(&self.procs).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills all in the group at once. False where the kernel cannot.
    pub(super) fn kill(&self) -> bool {
        self.kill.as_ref().is_some_and(|mut kill| kill.write_all(b"1").is_ok())
    }
}

/// All of a file of the kernel, whatever was read of it before.
fn whole(mut file: &File) -> io::Result<String> {
    file.rewind()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Makes the group, and has the command enter it before it becomes its program. An error where that may not be done.
pub(super) fn enter(group: &Path, command: &mut Command) -> io::Result<Held> {
    fs::create_dir(group)?;
    let prepared = Held::open(group).and_then(|held| {
        let (procs, refused) = (held.procs.try_clone()?, held.refused.try_clone()?);
        Ok((held, procs, refused))
    });
    let (held, procs, refused) = prepared.inspect_err(|_| remove(group))?;
    // A user may make a group in a delegated one and still not move processes: it runs where it is, then, and says so.
    let put = move || match write(&procs).or_else(|_| write(&refused)) {
        Ok(()) | Err(_) => Ok(()),
    };
    #[expect(unsafe_code, reason = "between fork and exec; it does nothing but write(2) to open files")]
    // SAFETY: the closure neither allocates nor takes a lock; write(2) is async-signal-safe.
    unsafe {
        command.pre_exec(put);
    }
    Ok(held)
}

fn write(file: &File) -> io::Result<()> {
    nix::unistd::write(file, b"0").map(drop).map_err(io::Error::from)
}

/// Whether a command that was to be put into the group may have run outside of it: there is none, and none may be made.
/// Where what holds the groups is gone, so is all that ran in it.
pub(super) fn is_out_of_reach(group: &Path) -> bool {
    let holder = group.parent().filter(|holder| holder.exists());
    !group.exists() && holder.is_some_and(|holder| nix::unistd::access(holder, AccessFlags::W_OK).is_err())
}

/// The processes in the group and in all below it; none if there is no such group any more.
///
/// # Errors
/// They cannot be listed.
pub(super) fn members(group: &Path) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut folders = vec![group.to_owned()];
    while let Some(folder) = folders.pop() {
        match fs::read_to_string(folder.join("cgroup.procs")) {
            Ok(text) => found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok())),
            Err(error) if is_removed(&error) => continue,
            Err(error) => return Err(error),
        }
        let below = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        match below {
            Ok(entries) => {
                folders.extend(entries.into_iter().filter_map(|entry| {
                    entry.file_type().is_ok_and(|kind| kind.is_dir()).then(|| entry.path())
                }))
            }
            Err(error) if is_removed(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn is_removed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENODEV))
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Kills all in the group at once, so that none can start another meanwhile. Kernels before 5.14 cannot.
pub(super) fn kill(group: &Path) {
    let _older = fs::write(group.join("cgroup.kill"), "1");
}

/// Removes the group with all below it; one that still has processes stays.
pub(super) fn remove(group: &Path) {
    for folder in below(group) {
        remove(&folder);
    }
    let _stays = fs::remove_dir(group);
}

/// Groups of dead runs, wherever they are: those whose name begins so.
pub(super) fn find(name: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some(top) = own_group(&mounts, "0::/").or_else(|| mount_point(&mounts)) else { return Vec::new() };
    let wanted = format!("{PREFIX}{name}");
    let mut found = Vec::new();
    let mut folders = vec![top];
    while let Some(folder) = folders.pop() {
        for path in below(&folder) {
            let ours =
                path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(wanted.as_bytes()));
            (if ours { &mut found } else { &mut folders }).push(path);
        }
    }
    found
}

fn mount_point(mounts: &str) -> Option<PathBuf> {
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::own_group;
    use std::path::Path;

    #[test]
    fn the_own_group_is_found_below_the_mount() {
        let unified = "25 20 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let at = |mounts, own| own_group(mounts, own);
        assert_eq!(
            at(unified, "0::/user.slice/a b\n").as_deref(),
            Some(Path::new("/sys/fs/cgroup/user.slice/a b"))
        );
        let part = "25 20 0:23 /lab /mnt rw - cgroup2 none rw\n";
        assert_eq!(at(part, "0::/lab/x\n").as_deref(), Some(Path::new("/mnt/x")));
        assert_eq!(at(part, "0::/elsewhere\n"), None);
        let old = "30 20 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(at(old, "3:cpu:/\n0::/\n"), None);
        assert_eq!(at(unified, "3:cpu:/\n"), None);
    }
}
