//! Files of this machine.

use super::{
    Action, Intent, Output, Params,
    content::{Source, wanted},
    exists, leftover,
    owner::{self, Owner},
    sparse,
};
use crate::hex::hex;
use engine::{
    StepError,
    error::ErrorClass,
    step::{Context, Undone},
};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, Metadata, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::mpsc,
    thread::{self, JoinHandle},
};

/// How often progress is told, in bytes.
const TELL: u64 = 4 << 20;

pub(super) fn stat(path: &str) -> Result<Output, StepError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(output(path, &metadata)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Output { path: path.to_owned(), ..Output::default() })
        }
        Err(error) => Err(StepError::io(format!("look at `{path}`"), &error)),
    }
}

fn output(path: &str, metadata: &Metadata) -> Output {
    let kind = match metadata.file_type() {
        ty if ty.is_file() => "file",
        ty if ty.is_dir() => "folder",
        ty if ty.is_symlink() => "link",
        _ => "other",
    };
    let (owner, group) = owner::names(metadata.uid(), metadata.gid());
    Output {
        path: path.to_owned(),
        exists: true,
        kind: kind.to_owned(),
        size: metadata.len(),
        mode: format!("{:04o}", metadata.mode() & 0o7777),
        mtime: metadata.mtime(),
        inode: metadata.ino(),
        owner,
        group,
        uid: metadata.uid(),
        gid: metadata.gid(),
        sha256: None,
    }
}

/// Does blocking work on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StepError> + Send + 'static,
) -> Result<T, StepError> {
    let task = tokio::task::spawn_blocking(work);
    task.await.map_err(|error| StepError::internal(format!("the file task ended: {error}")))?
}

pub(super) async fn run(
    cx: &Context,
    params: &Params,
    action: &Action<'_>,
    mode: Option<u32>,
    intent: &Intent,
    aside: bool,
) -> Result<Output, StepError> {
    match *action {
        Action::Stat(path) => stat(path),
        Action::Directory(path) => {
            let made = fs::DirBuilder::new().mode(mode.unwrap_or(0o755)).create(path);
            made.map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => exists(path),
                _ => StepError::io(format!("make the folder `{path}`"), &error),
            })?;
            // Half made it would be there for good: nobody knows of it.
            let finished = Owner::of(params).and_then(|owner| owner.give_folder(path));
            if let Err(error) = finished.and_then(|()| set_mode(path, mode)) {
                let _best_effort = fs::remove_dir(path);
                return Err(error);
            }
            stat(path)
        }
        Action::Remove(path) => {
            let gone = match aside {
                true => rename_new(path, &intent.beside),
                false => fs::remove_file(path),
            };
            match gone {
                Ok(()) => stat(path),
                Err(error) if error.kind() == ErrorKind::NotFound => stat(path),
                Err(error) => Err(StepError::io(format!("remove `{path}`"), &error)),
            }
        }
        Action::Create(path) => {
            let (cx, path, intent) = (cx.clone(), path.to_owned(), intent.clone());
            let mut source = Source::of(params, &intent);
            let (owner, total) = (Owner::of(params)?, source.total());
            let length = params.sparse.then_some(total);
            let next = move |_| Ok(if length.is_some() { Vec::new() } else { source.next() });
            blocking(move || write(&cx, &path, &intent, &Finish { mode, owner, length }, total, next)).await
        }
        Action::Copy(from, path) => {
            let (cx, from, path, intent) = (cx.clone(), from.to_owned(), path.to_owned(), intent.clone());
            let finish = Finish { mode, owner: Owner::of(params)?, length: None };
            blocking(move || {
                let cannot = |error: std::io::Error| StepError::io(format!("read `{from}`"), &error);
                let mut file = fs::File::open(&from).map_err(cannot)?;
                let total = file.metadata().map_err(cannot)?.len();
                write(&cx, &path, &intent, &finish, total, |_| {
                    let mut piece = vec![0; super::content::CHUNK];
                    let count = file.read(&mut piece).map_err(cannot)?;
                    piece.truncate(count);
                    Ok(piece)
                })
            })
            .await
        }
    }
}

/// What is done to a file before it gets its name.
struct Finish {
    mode: Option<u32>,
    owner: Owner,
    /// How long it is made, without anything being written.
    length: Option<u64>,
}

/// Writes beside the place, makes it durable, and gives it its name only if that is still free.
fn write(
    cx: &Context,
    path: &str,
    intent: &Intent,
    finish: &Finish,
    total: u64,
    mut next: impl FnMut(u64) -> Result<Vec<u8>, StepError>,
) -> Result<Output, StepError> {
    let beside = intent.beside.as_str();
    let cannot = |error: &std::io::Error| StepError::io(format!("create `{path}`"), error);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(finish.mode.unwrap_or(0o644))
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(beside)
            .map_err(|error| {
                let made = cannot(&error);
                match Path::new(path).parent() {
                    Some(folder) if made.class == ErrorClass::NotFound => made.hint(format!(
                        "its folder does not exist: mkdir -p {}",
                        engine::host::shell_word(&folder.to_string_lossy())
                    )),
                    _ => made,
                }
            })?;
        let mut hasher = Aside::new();
        let (mut done, mut told) = (0u64, 0u64);
        loop {
            if cx.cancel.is_cancelled() {
                return Err(StepError::new(ErrorClass::Cancelled, format!("stopped while writing `{path}`")));
            }
            let piece = next(done)?;
            if piece.is_empty() {
                break;
            }
            file.write_all(&piece).map_err(|error| cannot(&error))?;
            done += piece.len() as u64;
            hasher.update(piece);
            if done - told >= TELL {
                told = done;
                cx.bytes(done, total);
            }
        }
        if let Some(length) = finish.length {
            file.set_len(length).map_err(|error| cannot(&error))?;
        }
        // A change of the owner takes away bits of the mode: that comes last.
        finish.owner.give(&file, path)?;
        set_mode(beside, finish.mode)?;
        file.sync_all().map_err(|error| cannot(&error))?;
        rename_new(beside, path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => exists(path),
            _ => cannot(&error),
        })?;
        sync_folder(path);
        let mut made = stat(path)?;
        made.sha256 = if finish.length.is_none() { Some(hasher.finish()?) } else { None };
        Ok(made)
    })();
    if written.is_err() {
        // The half-written file is ours by its name; a full disk has its space back at once.
        let _gone = fs::remove_file(beside);
    }
    written
}

/// A SHA-256 made on a thread of its own, beside the writing: each of both takes about as long as the other.
struct Aside {
    pieces: Option<mpsc::SyncSender<Vec<u8>>>,
    thread: JoinHandle<String>,
}

impl Aside {
    fn new() -> Self {
        // A few pieces are enough to keep both busy, and bound the memory.
        let (pieces, taken) = mpsc::sync_channel::<Vec<u8>>(4);
        let thread = thread::spawn(move || {
            let mut hasher = Sha256::new();
            taken.into_iter().for_each(|piece| hasher.update(&piece));
            hex(&hasher.finalize())
        });
        Self { pieces: Some(pieces), thread }
    }

    fn update(&mut self, piece: Vec<u8>) {
        if let Some(pieces) = &self.pieces {
            // It takes all that comes; if it ended early, `finish` says so.
            let _ended = pieces.send(piece);
        }
    }

    fn finish(mut self) -> Result<String, StepError> {
        self.pieces = None;
        self.thread.join().map_err(|_| StepError::internal("the hashing thread ended early"))
    }
}

/// Renames, but never over something.
pub(crate) fn rename_new(from: &str, to: &str) -> std::io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(()),
        // Some file systems cannot: a hard link does not replace either.
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn set_mode(path: &str, mode: Option<u32>) -> Result<(), StepError> {
    let Some(mode) = mode else { return Ok(()) };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| StepError::io(format!("set the mode of `{path}`"), &error))
}

/// A name is durable only once its folder is.
fn sync_folder(path: &str) {
    if let Some(folder) = Path::new(path).parent()
        && let Ok(folder) =
            fs::File::open(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
    {
        let _best_effort = folder.sync_all();
    }
}

fn remove(path: &str) -> Result<Undone, StepError> {
    match fs::remove_file(path) {
        Ok(()) => {
            sync_folder(path);
            Ok(Undone::Removed)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Undone::NothingToDo),
        // A file system that is read-only says so also of what is not there.
        Err(_) if fs::symlink_metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound) => {
            Ok(Undone::NothingToDo)
        }
        Err(error) => Err(StepError::io(format!("remove `{path}`"), &error)
            .hint(format!("rm -- {}", engine::host::shell_word(path)))),
    }
}

/// Opens a file, and nothing that a link names.
pub(super) fn open_itself(path: &str) -> Result<fs::File, StepError> {
    let opened = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path);
    opened.map_err(|error| StepError::io(format!("read `{path}`"), &error))
}

fn sha256(path: &str) -> Result<String, StepError> {
    let cannot = |error: std::io::Error| StepError::io(format!("read `{path}`"), &error);
    let mut file = open_itself(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; super::content::CHUNK];
    loop {
        match file.read(&mut buffer).map_err(cannot)? {
            0 => return Ok(hex(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

pub(super) async fn hash(path: &str) -> Result<String, StepError> {
    let path = path.to_owned();
    blocking(move || sha256(&path)).await
}

pub(super) fn is_empty(path: &str) -> Result<bool, StepError> {
    let mut entries =
        fs::read_dir(path).map_err(|error| StepError::io(format!("read the folder `{path}`"), &error))?;
    Ok(entries.next().is_none())
}

pub(super) async fn undo(
    cx: &Context,
    params: &Params,
    action: &Action<'_>,
    intent: &Intent,
    output: Option<&Output>,
) -> Result<Undone, StepError> {
    let target = action.target();
    match action {
        Action::Stat(_) => Ok(Undone::NothingToDo),
        Action::Directory(_) => undo_folder(target, params.owned, output),
        Action::Remove(_) => match rename_new(&intent.beside, target) {
            Ok(()) => Ok(Undone::Removed),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Undone::NothingToDo),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let aside = stat(&intent.beside)?;
                Ok(Undone::Left(leftover(
                    &aside,
                    &format!("another file is at `{target}`, where it came from"),
                )))
            }
            Err(error) => Err(StepError::io(format!("put `{target}` back"), &error)),
        },
        Action::Create(_) | Action::Copy(..) => {
            let half = remove(&intent.beside)?;
            let now = stat(target)?;
            if !now.exists {
                return Ok(half);
            }
            let same_inode = output.is_none_or(|made| made.inode == now.inode);
            let ours = now.kind == "file" && same_inode && is_ours(params, action, intent, output).await?;
            debug_assert!(!cx.step.is_empty(), "steps have ids");
            match ours {
                true => remove(target),
                false if output.is_none() => Ok(half),
                false => Ok(Undone::Left(leftover(&now, "it was changed since it was made"))),
            }
        }
    }
}

/// Whether the content at the target is what this step made. Without an output the run died between the rename and its
/// record: then the intent tells.
pub(super) async fn is_ours(
    params: &Params,
    action: &Action<'_>,
    intent: &Intent,
    output: Option<&Output>,
) -> Result<bool, StepError> {
    let target = action.target().to_owned();
    if params.sparse {
        let size = params.size.unwrap_or_default().0;
        return blocking(move || Ok(sparse::is_untouched(&target, size).unwrap_or(false))).await;
    }
    let wanted = match output.and_then(|output| output.sha256.clone()) {
        Some(sha256) => Some(sha256),
        None => wanted(params, action, intent).await?,
    };
    let found = blocking(move || Ok(sha256(&target).ok())).await?;
    Ok(wanted.is_some() && wanted == found)
}

fn undo_folder(path: &str, owned: bool, output: Option<&Output>) -> Result<Undone, StepError> {
    let now = stat(path)?;
    if !now.exists {
        return Ok(Undone::NothingToDo);
    }
    if now.kind != "folder" || output.is_some_and(|made| made.inode != now.inode) {
        return Ok(Undone::Left(leftover(&now, "it is another than the one that was made")));
    }
    // Without an output it is not known who made the folder: only an empty one is removed.
    let removed = if owned && output.is_some() { fs::remove_dir_all(path) } else { fs::remove_dir(path) };
    match removed {
        Ok(()) => Ok(Undone::Removed),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Undone::NothingToDo),
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
            Ok(Undone::Left(leftover(&now, "it is not empty")))
        }
        Err(error) => Err(StepError::io(format!("remove the folder `{path}`"), &error)),
    }
}
