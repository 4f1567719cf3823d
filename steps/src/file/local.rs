//! Files of this machine. What is made is made beside its place under a hidden name, known by its identity, and then
//! renamed, all by open folders and files: a path may lead elsewhere a moment later.

mod aside;
pub(crate) mod handle;
mod spot;
pub(crate) mod trace;
mod tree;
mod undo;

use super::{
    Action, Intent, Mark, Output, Params,
    content::{Source, wanted},
    exists,
    owner::{self, Owner},
    sparse,
};
use crate::{hex::hex, identity::Identity};
use aside::Aside;
use engine::{
    StepError,
    error::ErrorClass,
    host::{Cancel, shell_path, shell_word},
    local::reading::{self, Reading},
    step::{Context, Presence, Undone},
};
use sha2::{Digest, Sha256};
use spot::Spot;
use std::{
    fs::{self, File, Metadata},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};
pub(super) use undo::release;

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

/// The folder in which a path stands, and what stands there.
pub(super) fn identify(path: &str) -> Result<(Option<Identity>, Option<Identity>), StepError> {
    let cannot = |error: io::Error| StepError::io(format!("look at `{path}`"), &error);
    match Spot::open(path) {
        Ok(spot) => Ok((Some(spot.folder().map_err(cannot)?), spot.now().map_err(cannot)?)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok((None, None))
        }
        Err(error) => Err(cannot(error)),
    }
}

pub(super) async fn run(
    cx: &Context,
    params: &Params,
    action: &Action<'_>,
    mode: Option<u32>,
    intent: &Intent,
) -> Result<Output, StepError> {
    let making = |owner: Owner, length| Making {
        cx: cx.clone(),
        path: action.target().to_owned(),
        intent: intent.clone(),
        mode,
        owner,
        length,
    };
    match *action {
        Action::Stat(path) => stat(path),
        Action::Directory(_) => {
            let making = making(Owner::of(params)?, None);
            blocking(move || making.folder()).await
        }
        Action::Remove(path) => {
            let (path, intent, aside) = (path.to_owned(), intent.clone(), !cx.is_final());
            blocking(move || remove(&path, &intent, aside)).await
        }
        Action::Create(_) => {
            let mut source = Source::of(params, intent);
            let (owner, total) = (Owner::of(params)?, source.total());
            let length = params.sparse.then_some(total);
            let making = making(owner, length);
            let next = move |_| Ok(if length.is_some() { Vec::new() } else { source.next() });
            blocking(move || making.file(0o644, total, next)).await
        }
        Action::Copy(from, _) => {
            let making = making(Owner::of(params)?, None);
            let from = from.to_owned();
            blocking(move || {
                let cannot = |error: io::Error| StepError::io(format!("read `{from}`"), &error);
                let mut file = source(&from)?;
                let found = file.metadata().map_err(cannot)?;
                // What few may read is not for more because it was copied.
                making.file(found.mode() & 0o777, found.len(), |_| {
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

/// Something that gets its name only once it is whole, and known by what it is.
struct Making {
    cx: Context,
    path: String,
    intent: Intent,
    mode: Option<u32>,
    owner: Owner,
    /// How long a file is made, without anything being written.
    length: Option<u64>,
}

impl Making {
    fn cannot(&self, error: &io::Error) -> StepError {
        let made = StepError::io(format!("create `{}`", self.path), error);
        match spot::split(&self.path) {
            Some((folder, _)) if made.class == ErrorClass::NotFound => {
                made.hint(format!("its folder does not exist: mkdir -p {}", shell_path(&folder)))
            }
            _ => made,
        }
    }

    /// The place, and the hidden one beside it.
    fn spots(&self) -> Result<(Spot, Spot), StepError> {
        let cannot = |error: io::Error| self.cannot(&error);
        let spot = Spot::open(&self.path).map_err(cannot)?;
        if let Some(folder) = &self.intent.folder
            && !spot.folder().map_err(cannot)?.is(folder)
        {
            let message = format!("the folder of `{}` is another than a moment ago", self.path);
            return Err(StepError::new(ErrorClass::Busy, message).without_effect());
        }
        let beside = spot.beside(&self.intent.beside).map_err(cannot)?;
        Ok((spot, beside))
    }

    fn file(
        &self,
        default: u32,
        total: u64,
        next: impl FnMut(u64) -> Result<Vec<u8>, StepError>,
    ) -> Result<Output, StepError> {
        let (spot, beside) = self.spots()?;
        if self.cx.is_final() {
            // From a try of the same step that was killed.
            let _none = beside.unlink();
        }
        let file = beside.create(self.mode.unwrap_or(default)).map_err(|error| self.cannot(&error))?;
        let made = self.fill(&file, total, next).and_then(|sha256| {
            self.publish(&file, &spot, &beside)?;
            Ok(sha256)
        });
        match made {
            Ok(sha256) => Ok(Output { sha256, ..self.seen(&file)? }),
            Err(error) => Err(self.take_back(error, &file, &beside, Spot::unlink)),
        }
    }

    fn folder(&self) -> Result<Output, StepError> {
        let (spot, beside) = self.spots()?;
        if self.cx.is_final() {
            let _none = beside.remove_folder();
        }
        let folder = beside.create_folder(self.mode.unwrap_or(0o755)).map_err(|error| self.cannot(&error))?;
        let made = self.own(&folder).and_then(|()| self.publish(&folder, &spot, &beside));
        match made {
            Ok(()) => self.seen(&folder),
            Err(error) => Err(self.take_back(error, &folder, &beside, Spot::remove_folder)),
        }
    }

    /// What was made, as it is.
    fn seen(&self, file: &File) -> Result<Output, StepError> {
        let found = file.metadata().map_err(|error| self.cannot(&error))?;
        Ok(output(&self.path, &found))
    }

    /// Writes all of it; gives the SHA-256, not of a sparse one.
    fn fill(
        &self,
        mut file: &File,
        total: u64,
        mut next: impl FnMut(u64) -> Result<Vec<u8>, StepError>,
    ) -> Result<Option<String>, StepError> {
        let mut hasher = Aside::new();
        let (mut done, mut told) = (0u64, 0u64);
        loop {
            if self.cx.cancel.is_cancelled() {
                let message = format!("stopped while writing `{}`", self.path);
                return Err(StepError::new(ErrorClass::Cancelled, message));
            }
            let piece = next(done)?;
            if piece.is_empty() {
                break;
            }
            file.write_all(&piece).map_err(|error| self.cannot(&error))?;
            done += piece.len() as u64;
            hasher.update(piece);
            if done - told >= TELL {
                told = done;
                self.cx.bytes(done, total);
            }
        }
        if let Some(length) = self.length {
            file.set_len(length).map_err(|error| self.cannot(&error))?;
        }
        self.own(file)?;
        file.sync_all().map_err(|error| self.cannot(&error))?;
        if self.length.is_none() { hasher.finish().map(Some) } else { Ok(None) }
    }

    /// Owner and mode. A change of the owner takes away bits of the mode: that comes last.
    fn own(&self, file: &File) -> Result<(), StepError> {
        self.owner.give(file, &self.path)?;
        let Some(mode) = self.mode else { return Ok(()) };
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(|error| StepError::io(format!("set the mode of `{}`", self.path), &error))
    }

    /// Writes down what it is, and gives it its name only if that is still free.
    fn publish(&self, file: &File, spot: &Spot, beside: &Spot) -> Result<(), StepError> {
        let made = Identity::of_new(file).map_err(|error| self.cannot(&error))?;
        let intent = Intent { made: Some(made.clone()), handle: handle::of(file), ..self.intent.clone() };
        // Whoever may write to the folder can have put something else under the hidden name.
        self.still(&made, beside)?;
        tokio::runtime::Handle::current().block_on(self.cx.amend(&intent))?;
        beside.rename(spot).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => exists(&self.path),
            _ => self.cannot(&error),
        })?;
        trace::watch(&self.intent.beside, file);
        if let Err(error) = self.still(&made, spot) {
            // It is another's, and goes back to where that one put it.
            let _best_effort = spot.rename(beside);
            return Err(error);
        }
        spot.sync();
        Ok(())
    }

    fn still(&self, made: &Identity, spot: &Spot) -> Result<(), StepError> {
        match spot.holds(made).map_err(|error| self.cannot(&error))? {
            true => Ok(()),
            false => {
                let message = format!("`{}` was taken away or replaced while it was made", self.path);
                Err(StepError::new(ErrorClass::Denied, message)
                    .hint(format!("see who may write there: ls -ld -- {}", shell_word(&self.folder_of()))))
            }
        }
    }

    fn folder_of(&self) -> String {
        spot::split(&self.path).map(|(folder, _)| folder.display().to_string()).unwrap_or_default()
    }

    /// Takes the half away; a full disk has its space back at once.
    fn take_back(
        &self,
        error: StepError,
        file: &File,
        beside: &Spot,
        remove: fn(&Spot) -> io::Result<()>,
    ) -> StepError {
        let ours = Identity::of_open(file).and_then(|made| beside.holds(&made));
        match ours {
            Ok(true) if remove(beside).is_ok() => error.without_effect(),
            _ => error,
        }
    }
}

/// What the kernel finds it by, if it can be asked.
pub(crate) fn handle(path: &str) -> Option<String> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    handle::of(rustix::fs::open(path, flags, Mode::empty()).ok()?)
}

/// Puts a file aside, or removes it for good.
fn remove(path: &str, intent: &Intent, aside: bool) -> Result<Output, StepError> {
    let cannot = |error: io::Error| StepError::io(format!("remove `{path}`"), &error);
    let gone = |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    let spot = match Spot::open(path) {
        Ok(spot) => spot,
        Err(error) if gone(&error) => return stat(path),
        Err(error) => return Err(cannot(error)),
    };
    if !aside {
        match spot.unlink() {
            Ok(()) => spot.sync(),
            Err(error) if gone(&error) => {}
            Err(error) => return Err(cannot(error)),
        }
        return stat(path);
    }
    let Some(found) = &intent.made else {
        // Nothing was there when the step began: what is there now is another's.
        return stat(path);
    };
    let changed = || {
        let message = format!("`{path}` is another file than a moment ago");
        StepError::new(ErrorClass::Busy, message).without_effect()
    };
    let file = match spot.open_file() {
        Ok(file) => Some(file),
        Err(error) if gone(&error) => return stat(path),
        // It can be put aside without being read.
        Err(_) => None,
    };
    if !spot.holds(found).map_err(cannot)? {
        return Err(changed());
    }
    let hidden = spot.beside(&intent.beside).map_err(cannot)?;
    match spot.rename(&hidden) {
        Ok(()) => {}
        Err(error) if gone(&error) => return stat(path),
        Err(error) => return Err(cannot(error)),
    }
    if !hidden.holds(found).map_err(cannot)? {
        let _best_effort = hidden.rename(&spot);
        return Err(changed());
    }
    if let Some(file) = file {
        trace::watch(&intent.beside, &file);
    }
    spot.sync();
    stat(path)
}

/// Renames, but never over something.
pub(crate) fn rename_new(from: &str, to: &str) -> io::Result<()> {
    Spot::open(from)?.rename(&Spot::open(to)?)
}

/// The SHA-256 of an open file. One that grows for ever is read until this is to stop.
fn sum(file: &mut impl Read, stops: impl Fn() -> bool) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; super::content::CHUNK];
    loop {
        if stops() {
            return Err(ErrorKind::Interrupted.into());
        }
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// The SHA-256 of a file that is to be copied.
pub(super) async fn hash(path: &str, cancel: &Cancel) -> Result<String, StepError> {
    let (path, cancel) = (path.to_owned(), cancel.clone());
    blocking(move || {
        sum(&mut source(&path)?, || cancel.is_cancelled()).map_err(|error| match error.kind() {
            ErrorKind::Interrupted => {
                StepError::new(ErrorClass::Cancelled, format!("stopped while reading `{path}`"))
            }
            _ => StepError::io(format!("read `{path}`"), &error),
        })
    })
    .await
}

/// Opens what is to be copied.
fn source(path: &str) -> Result<Reading, StepError> {
    reading::open(Path::new(path)).map_err(|error| StepError::io(format!("read `{path}`"), &error))
}

/// Whether an open file still holds what this step wrote; `sha256` is that of a file that is not sparse.
fn is_untouched(file: &mut File, params: &Params, sha256: Option<&str>) -> io::Result<bool> {
    match params.sparse {
        true => sparse::is_untouched(file, params.size.unwrap_or_default().0),
        false => Ok(Some(sum(file, || false)?.as_str()) == sha256),
    }
}

/// Whether what a step in `cleanup` is to make is there already: it was killed once it had made it.
pub(super) async fn is_made(
    params: &Params,
    action: &Action<'_>,
    intent: &Intent,
) -> Result<bool, StepError> {
    let target = action.target().to_owned();
    if let Action::Directory(_) = action {
        return Ok(fs::symlink_metadata(&target).is_ok_and(|found| found.is_dir())
            && fs::read_dir(&target).is_ok_and(|mut entries| entries.next().is_none()));
    }
    let sha256 = wanted(params, action, intent).await?;
    let params = params.clone();
    blocking(move || {
        let file = Spot::open(&target).and_then(|spot| spot.open_file());
        let Ok(mut file) = file else { return Ok(false) };
        Ok(is_untouched(&mut file, &params, sha256.as_deref()).unwrap_or(false))
    })
    .await
}

/// The SHA-256 of what the step made.
async fn sha256_of(
    params: &Params,
    action: &Action<'_>,
    intent: &Intent,
    output: Option<&Output>,
) -> Result<Option<String>, StepError> {
    match output.and_then(|output| output.sha256.clone()) {
        Some(sha256) => Ok(Some(sha256)),
        None if params.sparse => Ok(None),
        None => wanted(params, action, intent).await,
    }
}

pub(super) async fn undo(
    cx: &Context,
    params: &Params,
    action: &Action<'_>,
    intent: &Intent,
    output: Option<&Output>,
) -> Result<Undone, StepError> {
    let sha256 = match action {
        Action::Create(_) | Action::Copy(..) => sha256_of(params, action, intent, output).await?,
        _ => None,
    };
    let undo = undo::Undo {
        target: action.target().to_owned(),
        params: params.clone(),
        intent: intent.clone(),
        ended: output.is_some(),
        inode: output.map(|output| output.inode),
        sha256,
    };
    let (removes, folder) = (matches!(action, Action::Remove(_)), matches!(action, Action::Directory(_)));
    let (undo, removes_it) = blocking(move || {
        let removes_it = undo.removes_it(removes, folder);
        Ok((undo, removes_it))
    })
    .await?;
    let mark = Mark::set(cx, intent, removes_it).await;
    let undone = blocking(move || match (removes, folder) {
        (true, _) => undo.removal(),
        (_, true) => undo.folder(),
        _ => undo.file(),
    })
    .await;
    mark.settled(cx, intent, &undone).await;
    undone
}

/// Whether what the step made or put aside is there.
pub(super) fn presence(
    action: &Action<'_>,
    params: &Params,
    intent: &Intent,
    output: Option<&Output>,
) -> Result<Presence, StepError> {
    undo::presence(action, params, intent, output)
}
