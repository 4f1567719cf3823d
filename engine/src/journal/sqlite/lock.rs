//! Who owns a run: a lock of the kernel, and the count of records beside it.
//!
//! The lock belongs to a process, not to an open file: a child that is just being started does not share it, and it is gone with
//! its owner. It can be asked for without being taken, so that two who look never mistake each other for an owner. What
//! it costs: a process that closes any file of that name gives up all its locks on it, so this module alone opens these files, and
//! none that this process holds.

use super::cannot;
use crate::journal::JournalError;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};
use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a process that was killed may take to its end; the kernel takes a large one apart bit by bit.
const DYING: Duration = Duration::from_secs(60);

/// The files, by device and inode, whose locks this process holds.
static HELD: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

fn held() -> MutexGuard<'static, BTreeSet<(u64, u64)>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lock of a run, held until it is dropped.
#[derive(Debug)]
pub(super) struct LockFile {
    /// Missing only while it is dropped.
    file: Option<File>,
    inode: (u64, u64),
    path: PathBuf,
}

/// What a look at a lock sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody owns the run.
    None,
    /// This process does; 0 if it lives where its number cannot be seen from here.
    Process(u32),
}

/// What is wanted of the kernel: a lock for writing, on all of the file.
fn whole() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn inode(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl LockFile {
    /// Takes it, and makes the file if it is missing; nothing if a living process has it.
    ///
    /// # Errors
    /// The file cannot be made or locked.
    pub(super) fn take(path: &Path) -> Result<Option<Self>, JournalError> {
        let patience = Instant::now() + DYING;
        loop {
            if let Some(lock) = Self::try_take(path)? {
                lock.wait_for_children(patience)?;
                return Ok(Some(lock));
            }
            if is_owned(path)? || Instant::now() >= patience {
                return Ok(None);
            }
        }
    }

    fn try_take(path: &Path) -> Result<Option<Self>, JournalError> {
        let mut held = held();
        loop {
            if fs::symlink_metadata(path).is_ok_and(|found| held.contains(&inode(&found))) {
                return Ok(None);
            }
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(path)
                .map_err(|error| cannot("open the lock", path, error))?;
            match fcntl(&file, FcntlArg::F_SETLK(&whole())) {
                Ok(_) => {}
                Err(Errno::EACCES | Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(cannot("lock", path, error)),
            }
            let found = file.metadata().map_err(|error| cannot("look at the lock", path, error))?;
            // A run that ended took its name away: a lock counts only as long as its file has its name.
            if fs::symlink_metadata(path).is_ok_and(|named| inode(&named) == inode(&found)) {
                held.insert(inode(&found));
                return Ok(Some(Self { file: Some(file), inode: inode(&found), path: path.to_owned() }));
            }
        }
    }

    /// A program that the dead owner was just starting begins even now, and nothing tells yet whose it is. Until it has begun it
    /// shares the open file of its parent, and so this second lock, which belongs to that.
    fn wait_for_children(&self, patience: Instant) -> Result<(), JournalError> {
        let Some(file) = &self.file else { return Ok(()) };
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if Instant::now() < patience => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    let why = "its owner has died, and a program that it was just starting has not yet begun";
                    let shown = crate::host::shell_word(&self.path.to_string_lossy());
                    return Err(cannot("lock", &self.path, why)
                        .hint(format!("see which it is, and end it: fuser -v {shown}")));
                }
                Err(TryLockError::Error(error)) => return Err(cannot("lock", &self.path, error)),
            }
        }
    }

    /// Takes its name away. Who opens one of that name later finds that it is another file.
    pub(super) fn remove(&self) {
        let _stays = fs::remove_file(&self.path);
    }

    /// How many records the journal of the run has, as its owners counted them.
    pub(super) fn records(&mut self) -> u64 {
        let Some(file) = &mut self.file else { return 0 };
        let mut text = String::new();
        let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(64).read_to_string(&mut text));
        if read.is_ok() { counted(&text) } else { 0 }
    }

    /// Notes how many there are. It is not waited for: the journal itself is durable, and this tells only of one that has lost
    /// some since.
    pub(super) fn count(&mut self, records: u64) {
        if let Some(file) = &mut self.file {
            let text = format!("{records:020}\n");
            let _best_effort = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(text.as_bytes()));
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let mut held = held();
        drop(self.file.take());
        held.remove(&self.inode);
    }
}

fn counted(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// Who owns a run, seen without touching its lock.
///
/// # Errors
/// The file cannot be looked at.
pub(super) fn owner(path: &Path) -> Result<Owner, JournalError> {
    Ok(look(path)?.map_or(Owner::None, |(owner, _)| owner))
}

/// The owner and the count of records of a run that has a lock file.
pub(super) fn look(path: &Path) -> Result<Option<(Owner, u64)>, JournalError> {
    let held = held();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot("look at the lock", path, error)),
        Ok(found) if held.contains(&inode(&found)) => {
            return Ok(Some((Owner::Process(std::process::id()), 0)));
        }
        Ok(_) => {}
    }
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| cannot("look at the lock", path, error))?,
    };
    let mut seen = whole();
    fcntl(&file, FcntlArg::F_GETLK(&mut seen)).map_err(|error| cannot("look at the lock", path, error))?;
    let mut text = String::new();
    let _unread = (&mut file).take(64).read_to_string(&mut text);
    let owner = match i32::from(seen.l_type) == libc::F_UNLCK {
        true => Owner::None,
        false => Owner::Process(u32::try_from(seen.l_pid).unwrap_or(0)),
    };
    Ok(Some((owner, counted(&text))))
}

/// Whether a living process owns a run. One that was killed and is on its way out is waited for.
///
/// # Errors
/// The lock cannot be looked at.
pub(super) fn is_owned(path: &Path) -> Result<bool, JournalError> {
    let patience = Instant::now() + DYING;
    loop {
        match owner(path)? {
            Owner::None => return Ok(false),
            Owner::Process(pid) if lives(pid) || Instant::now() >= patience => return Ok(true),
            Owner::Process(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Whether a process that holds a lock was not killed. Of one that cannot be seen nobody can say so.
fn lives(pid: u32) -> bool {
    if pid == 0 {
        return true;
    }
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        // It is gone, and its lock with it in a moment; or there is no process table to look at.
        return !Path::new("/proc/self/status").exists();
    };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let killed = |name: &str| {
        let pending = field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
        pending & (1 << (libc::SIGKILL - 1)) != 0
    };
    !matches!(field("State:").and_then(|state| state.chars().next()), None | Some('Z' | 'X'))
        && !killed("SigPnd:")
        && !killed("ShdPnd:")
}

#[cfg(test)]
mod tests {
    use super::{LockFile, Owner, look, owner};
    use std::{
        fs::File,
        process::{Command, Stdio},
    };

    #[test]
    fn a_program_that_the_dead_was_just_starting_is_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("it.lock");
        drop(LockFile::take(&path).expect("locks").expect("is free"));
        let mut holder = Command::new("flock");
        holder.arg(&path).arg("cat").stdin(Stdio::piped());
        let mut child = holder.spawn().expect("flock is installed");
        while File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            std::thread::yield_now();
        }
        let (taken, seen) = (path.clone(), || owner(&path).expect("a look"));
        let taker = std::thread::spawn(move || LockFile::take(&taken).expect("locks").expect("is free"));
        while seen() != Owner::Process(std::process::id()) {
            std::thread::yield_now();
        }
        assert!(!taker.is_finished(), "it waits");
        drop(child.stdin.take());
        drop(taker.join().expect("it is taken"));
        child.wait().expect("it ends");
    }

    #[test]
    fn a_lock_is_seen_without_being_touched_and_given_up_when_dropped() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("it.lock");
        assert_eq!(look(&path).expect("a look"), None);
        assert!(!path.exists(), "a look makes nothing");
        let mut lock = LockFile::take(&path).expect("locks").expect("is free");
        lock.count(7);
        assert_eq!(owner(&path).expect("a look"), Owner::Process(std::process::id()));
        assert!(LockFile::take(&path).expect("looks").is_none());
        assert_eq!(lock.records(), 7);
        drop(lock);
        assert_eq!(look(&path).expect("a look"), Some((Owner::None, 7)));
    }
}
