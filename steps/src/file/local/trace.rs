//! What became of a file that is no longer where it was: deleted, or somewhere else under another name. A name that is
//! missing does not tell.
//!
//! While the run lives, the kernel tells: a watch on the file itself gives word of its end and keeps neither the file nor
//! its mount busy, as an open descriptor would. After a crash the kernel is asked by the file's handle; where it does not
//! answer, only a search can tell.

use super::{
    super::mounts::Mounts,
    handle::{self, Answer},
};
use crate::identity::Identity;
use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{DirEntryExt, MetadataExt},
        },
    },
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long is searched, for a recovery waits for it.
const SEARCH: Duration = Duration::from_secs(5);

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It does not exist any more.
    Deleted,
    /// It is here now.
    At(PathBuf),
    /// Nobody can tell, and why.
    Unknown(String),
}

/// What the kernel has said of a watched file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Lives,
    Moved,
    Deleted,
}

#[derive(Default)]
struct Watched {
    inotify: Option<Inotify>,
    words: HashMap<String, Word>,
    keys: HashMap<WatchDescriptor, Vec<String>>,
}

static WATCHED: LazyLock<Mutex<Watched>> = LazyLock::new(Mutex::default);

fn watched() -> MutexGuard<'static, Watched> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks for word of what becomes of an open file or folder; `key` is the hidden name that only its step has.
pub(crate) fn watch(key: &str, file: &File) {
    let mut watched = watched();
    let watched = &mut *watched;
    if watched.inotify.is_none() {
        watched.inotify = Inotify::init().ok();
    }
    let Some(inotify) = &watched.inotify else { return };
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // Without a watch a search has to tell.
    if let Ok(descriptor) = inotify.watches().add(path, WatchMask::DELETE_SELF | WatchMask::MOVE_SELF) {
        watched.keys.entry(descriptor).or_default().push(key.to_owned());
        watched.words.insert(key.to_owned(), Word::Lives);
    }
}

/// What has been said of it; nothing if nobody watches it any more.
fn word(key: &str) -> Option<Word> {
    let mut watched = watched();
    let watched = &mut *watched;
    let mut buffer = [0; 4096];
    while let Some(inotify) = &mut watched.inotify
        && let Ok(events) = inotify.read_events(&mut buffer)
    {
        let mut any = false;
        for event in events {
            any = true;
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                watched.words.clear();
            }
            for key in watched.keys.get(&event.wd).into_iter().flatten() {
                if event.mask.contains(EventMask::DELETE_SELF) {
                    watched.words.insert(key.clone(), Word::Deleted);
                } else if event.mask.contains(EventMask::MOVE_SELF) {
                    watched.words.insert(key.clone(), Word::Moved);
                } else if watched.words.get(key) != Some(&Word::Deleted) {
                    // The watch has ended without the file: its file system was unmounted.
                    watched.words.remove(key);
                }
            }
            if event.mask.contains(EventMask::IGNORED) {
                watched.keys.remove(&event.wd);
            }
        }
        if !any {
            break;
        }
    }
    watched.words.get(key).copied()
}

/// Whether the kernel has told of its end.
pub(crate) fn is_deleted(key: &str) -> bool {
    word(key) == Some(Word::Deleted)
}

/// Whether the kernel has told of its move, or has not told of its end.
pub(crate) fn is_told_of(key: &str) -> bool {
    matches!(word(key), Some(Word::Moved | Word::Lives))
}

/// A file that is not where it was.
pub(crate) struct Lost<'a> {
    /// The hidden name that only its step has.
    pub(crate) key: &'a str,
    pub(crate) made: &'a Identity,
    /// What the kernel finds it by, if it can be asked.
    pub(crate) handle: Option<&'a str>,
    /// Where it stood.
    pub(crate) folder: &'a Path,
    /// Which folder that was.
    pub(crate) stood: Option<&'a Identity>,
    /// What was mounted on that file system then.
    pub(crate) mounts: Option<&'a Mounts>,
}

impl Lost<'_> {
    /// Whether what stands where it stood is the same folder; nothing if none does.
    ///
    /// # Errors
    /// It cannot be seen.
    fn same(&self) -> io::Result<Option<bool>> {
        let now = Identity::behind(self.folder)?;
        Ok(now.map(|now| self.stood.is_some_and(|stood| now.is(stood))))
    }

    /// Whether no mount hides what was not hidden then. In the place of its folder may be no other one.
    fn is_visible(&self, same: &io::Result<Option<bool>>) -> bool {
        let mounts = Mounts::here(self.made.device());
        matches!(same, Ok(None | Some(true))) && mounts.is_some_and(|mounts| mounts.are_of(self.mounts))
    }

    /// Whether the kernel says that it still exists.
    pub(crate) fn exists(&self) -> bool {
        let same = matches!(self.same(), Ok(Some(true)));
        is_told_of(self.key) || matches!(self.ask(same), Answer::Exists(_))
    }

    /// Finds out what became of it.
    pub(crate) fn fate(&self) -> Fate {
        if is_deleted(self.key) {
            return Fate::Deleted;
        }
        let made = self.made;
        let there = self.same();
        let same = matches!(there, Ok(Some(true)));
        let exists = match self.ask(same) {
            Answer::Deleted => return Fate::Deleted,
            Answer::Exists(at) if Identity::of(&at).is_ok_and(|now| now.is_some_and(|now| now.is(made))) => {
                return Fate::At(at);
            }
            Answer::Exists(_) => true,
            Answer::Nothing => false,
        };
        let until = Instant::now() + SEARCH;
        let mut search = Search { made, until, complete: true, done: Vec::new() };
        // Mostly it has another name in the same folder.
        if same && let Some(at) = search.folder(self.folder, &mut Vec::new()) {
            return Fate::At(at);
        }
        let Some((root, whole)) = root_of(made.device()) else {
            return Fate::Unknown(match same {
                // An overlay numbers files as the layer does in which they are.
                true => "it was deleted or moved: its file system cannot be searched".into(),
                false => "its file system is not mounted here any more".into(),
            });
        };
        // A folder that has another name is mostly not far from where it was.
        let near = std::path::absolute(self.folder).ok().and_then(|folder| Some(folder.parent()?.to_owned()));
        for start in near.into_iter().chain([root]) {
            if let Some(at) = search.below(&start) {
                return Fate::At(at);
            }
        }
        let seen_all = search.complete && whole && self.is_visible(&there) && !exists;
        match word(self.key) {
            Some(Word::Deleted) => Fate::Deleted,
            Some(Word::Moved) => Fate::Unknown("it was moved, and is not to be found".into()),
            _ if seen_all => Fate::Deleted,
            Some(Word::Lives) => Fate::Unknown("it still exists, and is not to be found".into()),
            None if exists => Fate::Unknown("it still exists, and is not to be found".into()),
            None => {
                Fate::Unknown("it was deleted or moved: not all of its file system can be searched".into())
            }
        }
    }

    /// Asks the kernel, on the very file system that it is of: on another its number says nothing.
    fn ask(&self, same: bool) -> Answer {
        let Some(handle) = self.handle else { return Answer::Nothing };
        let at = match same {
            true => Some(self.folder.to_owned()),
            // Devices are numbered anew with each boot.
            false if self.made.is_of_this_boot() => root_of(self.made.device()).map(|(root, _)| root),
            false => None,
        };
        match at.and_then(|at| File::open(at).ok()) {
            Some(at) if at.metadata().is_ok_and(|it| same || it.dev() == self.made.device()) => {
                handle::find(handle, &at)
            }
            _ => Answer::Nothing,
        }
    }
}

struct Search<'a> {
    made: &'a Identity,
    until: Instant,
    /// Whether it came to its end.
    complete: bool,
    /// The folders below which it has looked.
    done: Vec<PathBuf>,
}

impl Search<'_> {
    /// Looks through all that is below a folder, the near before the far.
    fn below(&mut self, start: &Path) -> Option<PathBuf> {
        let mut open = vec![start.to_owned()];
        while !open.is_empty() {
            let mut more = Vec::new();
            for next in open {
                if !self.done.contains(&next)
                    && let Some(at) = self.folder(&next, &mut more)
                {
                    return Some(at);
                }
            }
            open = more;
        }
        self.done.push(start.to_owned());
        None
    }

    /// Looks through one folder; the folders in it that are on the same file system are added to `more`.
    fn folder(&mut self, folder: &Path, more: &mut Vec<PathBuf>) -> Option<PathBuf> {
        if Instant::now() > self.until {
            self.complete = false;
            more.clear();
            return None;
        }
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                self.missed(&error);
                return None;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.missed(&error);
                    continue;
                }
            };
            if entry.ino() == self.made.inode() {
                match Identity::of(&entry.path()) {
                    Ok(Some(found)) if found.is(self.made) => return Some(entry.path()),
                    Ok(_) => {}
                    Err(_) => self.complete = false,
                }
            }
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            match entry.metadata() {
                Ok(found) if found.dev() == self.made.device() => more.push(entry.path()),
                Ok(_) => {}
                Err(error) => self.missed(&error),
            }
        }
        None
    }

    /// One that this user may not enter may hold it; one that vanished meanwhile holds nothing.
    fn missed(&mut self, error: &io::Error) {
        self.complete &= error.kind() == io::ErrorKind::NotFound;
    }
}

/// Where the file system of a device is mounted, and whether as a whole.
fn root_of(device: u64) -> Option<(PathBuf, bool)> {
    let text = fs::read("/proc/self/mountinfo").ok()?;
    let wanted = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mut found: Option<(PathBuf, bool)> = None;
    for line in text.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let [_, _, device, root, at, ..] = fields.as_slice() else { continue };
        let whole = *root == b"/";
        if *device == wanted.as_bytes() && (whole || found.is_none()) {
            let place = PathBuf::from(std::ffi::OsStr::from_bytes(&unescaped(at)));
            // One that is mounted over is not what its path leads to.
            if fs::metadata(&place).is_ok_and(|now| now.dev() == self::number(device)) {
                found = Some((place, whole));
            }
        }
    }
    found
}

/// `MAJOR:MINOR` as a number.
fn number(text: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(text);
    let mut parts = text.split(':').map(|part| part.parse().unwrap_or(0));
    rustix::fs::makedev(parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// A path of `mountinfo`, in which blanks and the like stand in octal.
pub(crate) fn unescaped(text: &[u8]) -> Vec<u8> {
    let (mut made, mut rest) = (Vec::new(), text);
    while let [first, more @ ..] = rest {
        let octal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        match (first, more.get(..3).and_then(octal)) {
            (b'\\', Some(byte)) => {
                made.push(byte);
                rest = &more[3..];
            }
            _ => {
                made.push(*first);
                rest = more;
            }
        }
    }
    made
}
