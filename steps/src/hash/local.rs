//! Files and folders of this machine.

use super::{
    Found, Via,
    algorithm::{Algorithm, Sums},
    changed, look,
    tree::{self, Entry, Kind},
};
use engine::{
    StepError,
    error::ErrorClass,
    local::reading::{self, Reading},
    step::Context,
};
use std::{
    fs,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// How much is read at once. Larger pieces leave the cache of the processor and are slower.
const CHUNK: usize = 64 * 1024;
/// How often progress is told, in bytes.
const TELL: u64 = 4 << 20;

pub(super) async fn file(cx: &Context, path: &str, algorithms: &[Algorithm]) -> Result<Found, StepError> {
    let (path, algorithms) = (path.to_owned(), algorithms.to_vec());
    aside(cx, move |cx| {
        let cannot = |error: io::Error| cannot(Path::new(&path), &error);
        // All else has no end that could be hashed.
        let mut file = reading::open_or_disk(Path::new(&path)).map_err(|error| {
            let error = cannot(error);
            match Path::new(&path).is_dir() {
                true => error.hint("of a whole folder: `tree` in place of `path`"),
                false => error,
            }
        })?;
        let length = file.metadata().map_err(cannot)?.len();
        let mut progress = Progress::new(&cx, length);
        let (size, digests) = read(&mut file, Path::new(&path), &algorithms, &mut progress)?;
        Ok(Found { size, files: None, via: Via::Local, digests })
    })
    .await
}

pub(super) async fn tree(cx: &Context, path: &str, algorithms: &[Algorithm]) -> Result<Found, StepError> {
    let (path, algorithms) = (path.to_owned(), algorithms.to_vec());
    aside(cx, move |cx| {
        let root = Path::new(&path);
        let metadata = fs::metadata(root).map_err(|error| cannot(root, &error))?;
        if !metadata.is_dir() {
            return Err(StepError::new(ErrorClass::Invalid, format!("`{path}` is no folder, expected one"))
                .hint("of a file: `path` in place of `tree`"));
        }
        let (mut entries, files) = list(&cx, root)?;
        let mut progress = Progress::new(&cx, files.iter().map(|(_, size)| size).sum());
        let (count, mut total) = (files.len() as u64, 0);
        for (name, _) in files {
            let place = root.join(&name);
            // What has become a link or a pipe since is neither followed nor waited for.
            let mut file = reading::open_itself(&place).map_err(|error| vanished(&place, &error))?;
            let (size, digests) = read(&mut file, &place, &algorithms, &mut progress)?;
            total += size;
            entries.push(Entry { path: below(&name), kind: Kind::File(digests) });
        }
        let digests = tree::digests(entries, &algorithms);
        Ok(Found { size: total, files: Some(count), via: Via::Local, digests })
    })
    .await
}

/// A file, with its size when it was listed.
type Listed = (PathBuf, u64);

/// All entries but the files, and the files with their sizes, by their paths below the folder.
fn list(cx: &Context, root: &Path) -> Result<(Vec<Entry>, Vec<Listed>), StepError> {
    let (mut entries, mut files, mut folders) = (Vec::new(), Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        stop(cx, root)?;
        let place = root.join(&folder);
        for entry in fs::read_dir(&place).map_err(|error| cannot(&place, &error))? {
            let entry = entry.map_err(|error| cannot(&place, &error))?;
            let name = folder.join(entry.file_name());
            let metadata = entry.metadata().map_err(|error| vanished(&entry.path(), &error))?;
            let path = below(&name);
            if metadata.is_file() {
                files.push((name, metadata.len()));
            } else if metadata.is_dir() {
                entries.push(Entry { path, kind: Kind::Folder });
                folders.push(name);
            } else if metadata.is_symlink() {
                let target = fs::read_link(entry.path()).map_err(|error| vanished(&entry.path(), &error))?;
                entries.push(Entry { path, kind: Kind::Link(target.as_os_str().as_bytes().to_vec()) });
            } else {
                entries.push(Entry { path, kind: Kind::Other });
            }
        }
    }
    Ok((entries, files))
}

fn below(name: &Path) -> Vec<u8> {
    [b"./", name.as_os_str().as_bytes()].concat()
}

/// Reads all of it once.
fn read(
    file: &mut Reading,
    path: &Path,
    algorithms: &[Algorithm],
    progress: &mut Progress<'_>,
) -> Result<(u64, Vec<String>), StepError> {
    let mut sums = Sums::new(algorithms);
    let mut buffer = vec![0u8; CHUNK];
    let mut size = 0u64;
    loop {
        stop(progress.cx, path)?;
        let count = match file.read(&mut buffer) {
            Ok(0) => return Ok((size, sums.finish())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(cannot(path, &error)),
        };
        sums.update(&buffer[..count]);
        size += count as u64;
        progress.add(count as u64);
    }
}

/// Tells now and then how far it came.
struct Progress<'a> {
    cx: &'a Context,
    done: u64,
    told: u64,
    total: u64,
}

impl<'a> Progress<'a> {
    fn new(cx: &'a Context, total: u64) -> Self {
        Self { cx, done: 0, told: 0, total }
    }

    fn add(&mut self, count: u64) {
        self.done += count;
        if self.done - self.told >= TELL {
            self.told = self.done;
            self.cx.bytes(self.done, self.total.max(self.done));
        }
    }
}

fn stop(cx: &Context, path: &Path) -> Result<(), StepError> {
    match cx.cancel.is_cancelled() {
        true => {
            let message = format!("stopped while reading `{}`", path.display());
            Err(StepError::new(ErrorClass::Cancelled, message))
        }
        false => Ok(()),
    }
}

fn cannot(path: &Path, error: &io::Error) -> StepError {
    let shown = path.display().to_string();
    let made = StepError::io(format!("read `{shown}`"), error);
    match made.class {
        ErrorClass::NotFound => made.hint(look(&shown, None)),
        _ => made,
    }
}

/// Of an entry that was listed a moment ago.
fn vanished(path: &Path, error: &io::Error) -> StepError {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) | (_, Some(nix::libc::ELOOP)) => {
            changed(&path.display().to_string(), "it is no longer there")
        }
        // It was a file when it was listed.
        (io::ErrorKind::InvalidInput, None) => changed(&path.display().to_string(), "it is no file any more"),
        _ => cannot(path, error),
    }
}

async fn aside<T: Send + 'static>(
    cx: &Context,
    work: impl FnOnce(Context) -> Result<T, StepError> + Send + 'static,
) -> Result<T, StepError> {
    let cx = cx.clone();
    let task = tokio::task::spawn_blocking(move || work(cx));
    task.await.map_err(|error| StepError::internal(format!("the reading task ended: {error}")))?
}
