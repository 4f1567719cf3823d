//! Takes back what was made or put aside here, and only that: what it is counts, not what it is called.

use super::{
    super::{Action, Advice, Intent, Output, Params},
    is_untouched, output,
    spot::{Spot, split},
    trace::{self, Fate, Lost},
    tree::{self, Stopped},
};
use crate::identity::Identity;
use engine::{
    StepError,
    local::reading,
    step::{Leftover, Presence, Undone},
};
use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// One step to be taken back.
pub(super) struct Undo {
    pub(super) target: String,
    pub(super) params: Params,
    pub(super) intent: Intent,
    /// Whether the step came to its end.
    pub(super) ended: bool,
    /// The inode that its output tells.
    pub(super) inode: Option<u64>,
    /// What a file that was made holds.
    pub(super) sha256: Option<String>,
}

/// The folder in which the step acted.
enum Place {
    /// It is still there.
    Same(Spot),
    /// Its path leads elsewhere or nowhere.
    Other(&'static str),
}

/// Nobody can tell.
type Unseen = Box<Undone>;

impl Undo {
    fn advice(&self) -> Advice<'_> {
        Advice { target: &self.target, beside: &self.intent.beside, params: &self.params }
    }

    fn unseen(&self, why: impl std::fmt::Display) -> Unseen {
        Box::new(Undone::CannotTell(self.advice().cannot_tell(&why.to_string())))
    }

    fn place(&self) -> Result<Place, Unseen> {
        let seen = Spot::open(&self.target).and_then(|spot| Ok((spot.folder()?, spot)));
        match seen {
            Ok((now, spot)) => Ok(match &self.intent.folder {
                Some(folder) if !folder.is(&now) => {
                    Place::Other("another folder is in the place of its folder")
                }
                _ => Place::Same(spot),
            }),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Ok(Place::Other("its folder is not there any more"))
            }
            Err(error) => Err(self.unseen(format!("its folder cannot be looked at: {error}"))),
        }
    }

    /// Whether what is there now is what the step made. An intent of old tells only the inode.
    fn is_ours(&self, now: &Identity) -> bool {
        match &self.intent.made {
            Some(made) => made.is(now) && !trace::is_deleted(&self.intent.beside),
            None => self.intent.folder.is_none() && self.inode.is_none_or(|inode| inode == now.inode()),
        }
    }

    /// What was not given its name is taken away. Gives whether anything was.
    fn half(
        &self,
        spot: &Spot,
        remove: fn(&Spot) -> io::Result<()>,
    ) -> Result<Undone, Result<Unseen, StepError>> {
        let seen = spot.beside(&self.intent.beside).and_then(|hidden| Ok((hidden.now()?, hidden)));
        let (now, hidden) = seen.map_err(|error| Ok(self.unseen(error)))?;
        match now {
            Some(now) if self.intent.made.as_ref().is_none_or(|made| made.is(&now)) => {
                remove(&hidden).map_err(|error| Err(self.failed(&error)))?;
                spot.sync();
                Ok(Undone::Removed)
            }
            _ => Ok(Undone::NothingToDo),
        }
    }

    fn failed(&self, error: &io::Error) -> StepError {
        let mut failed = StepError::io(format!("remove `{}`", self.target), error);
        let folder = split(&self.target).map(|(folder, _)| folder).unwrap_or_default();
        failed.message.push_str(&tree::obstacle(Path::new(&self.target), &folder));
        failed
    }

    pub(super) fn file(&self) -> Result<Undone, StepError> {
        self.made(Spot::unlink, |undo, spot| {
            let cannot = |error: io::Error| Undone::CannotTell(undo.advice().cannot_tell(&error.to_string()));
            let opened = spot.open_file().and_then(|file| Ok((Identity::of_open(&file)?, file)));
            let (mut file, names) = match opened.and_then(|(now, file)| Ok((now, file, spot.names()?))) {
                Ok((now, file, names)) if undo.is_ours(&now) => (file, names),
                Ok(_) => return Ok(undo.replaced()),
                Err(error) => return Ok(cannot(error)),
            };
            match is_untouched(&mut file, &undo.params, undo.sha256.as_deref()) {
                Ok(true) => {}
                Ok(false) if undo.intent.made.is_none() && !undo.ended => return Ok(Undone::NothingToDo),
                Ok(false) => return Ok(Undone::Left(undo.advice().changed())),
                Err(error) => return Ok(cannot(error)),
            }
            drop(file);
            match spot.now().map(|now| now.is_some_and(|now| undo.is_ours(&now))) {
                Ok(true) => spot.unlink().map_err(|error| undo.failed(&error))?,
                Ok(false) => return Ok(undo.replaced()),
                Err(error) => return Ok(cannot(error)),
            }
            spot.sync();
            match &undo.intent.made {
                // Another has given it a second name: under that it is still there.
                Some(made) if names > 1 => Ok(undo.elsewhere(made, Undone::Removed)),
                _ => Ok(Undone::Removed),
            }
        })
    }

    pub(super) fn folder(&self) -> Result<Undone, StepError> {
        self.made(Spot::remove_folder, |undo, spot| {
            let advice = undo.advice();
            let folder = match spot.open_folder().and_then(|folder| Ok((Identity::of_open(&folder)?, folder)))
            {
                Ok((now, folder)) if undo.is_ours(&now) => folder,
                Ok(_) => return Ok(undo.replaced()),
                Err(error) => return Ok(Undone::CannotTell(advice.cannot_tell(&error.to_string()))),
            };
            let path = PathBuf::from(&undo.target);
            // Only one that is known for ours is emptied.
            if undo.params.owned && (undo.intent.made.is_some() || undo.ended) {
                match tree::empty(&folder, &path) {
                    Ok(()) => {}
                    Err(Stopped::Mount(at)) => return Ok(Undone::Left(undo.mounted(&at))),
                    Err(Stopped::At(at, error)) => {
                        let mut failed = StepError::io(format!("remove `{}`", at.display()), &error);
                        let folder = at.parent().unwrap_or(&at);
                        failed.message.push_str(&tree::obstacle(&at, folder));
                        return Err(failed);
                    }
                }
            }
            match spot.now().map(|now| now.is_some_and(|now| undo.is_ours(&now))) {
                Ok(true) => {}
                Ok(false) => return Ok(undo.replaced()),
                Err(error) => return Ok(Undone::CannotTell(advice.cannot_tell(&error.to_string()))),
            }
            match spot.remove_folder() {
                Ok(()) => {
                    spot.sync();
                    Ok(Undone::Removed)
                }
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
                    Ok(Undone::Left(match tree::mounted(&folder, &path) {
                        Some(at) => undo.mounted(&at),
                        None => advice.not_empty(),
                    }))
                }
                Err(error) => Err(undo.failed(&error)),
            }
        })
    }

    /// Something is mounted in it, at least there.
    fn mounted(&self, at: &Path) -> Leftover {
        let folder = Path::new(&self.target);
        match tree::mounts(folder) {
            mounts if mounts.is_empty() => self.advice().mounted(folder, &[at.to_owned()]),
            mounts => self.advice().mounted(folder, &mounts),
        }
    }

    /// Whether what is in its place is ours and about to be taken away, or put back. Of a file with a second name only a
    /// search tells where that is.
    pub(super) fn removes_it(&self, removes: bool, folder: bool) -> bool {
        let Some(made) = &self.intent.made else { return false };
        let Ok(Place::Same(spot)) = self.place() else { return false };
        let holds = |spot: &Spot| {
            let one = folder || spot.names().is_ok_and(|names| names == 1);
            one && spot.holds(made).unwrap_or(false)
        };
        spot.beside(&self.intent.beside).is_ok_and(|hidden| holds(&hidden)) || (!removes && holds(&spot))
    }

    /// Whether an undo was killed after it had taken it away: nothing is there, and nobody has moved it since.
    fn was_removed(&self) -> bool {
        self.intent.removing && !trace::is_told_of(&self.intent.beside)
    }

    /// Finds what was made, and takes it away if it is in its place.
    fn made(
        &self,
        remove_half: fn(&Spot) -> io::Result<()>,
        remove: impl FnOnce(&Self, &Spot) -> Result<Undone, StepError>,
    ) -> Result<Undone, StepError> {
        let spot = match self.place() {
            Ok(Place::Same(spot)) => spot,
            Ok(Place::Other(why)) => {
                return Ok(match &self.intent.made {
                    Some(made) => self.elsewhere(made, Undone::NothingToDo),
                    None => *self.unseen(why),
                });
            }
            Err(unseen) => return Ok(*unseen),
        };
        let half = match self.half(&spot, remove_half) {
            Ok(half) => half,
            Err(Ok(unseen)) => return Ok(*unseen),
            Err(Err(error)) => return Err(error),
        };
        match spot.now() {
            Err(error) => Ok(*self.unseen(error)),
            Ok(Some(now)) if self.is_ours(&now) => remove(self, &spot),
            Ok(now) => match &self.intent.made {
                // Under the hidden name it was a moment ago: it never got another.
                Some(_) if half == Undone::Removed => Ok(half),
                Some(_) if now.is_none() && self.was_removed() => Ok(Undone::Removed),
                Some(made) => Ok(match self.elsewhere(made, half) {
                    Undone::NothingToDo | Undone::CannotTell(_) if now.is_some() && self.ended => {
                        self.replaced()
                    }
                    other => other,
                }),
                None if now.is_some() && self.ended => Ok(self.replaced()),
                None => Ok(half),
            },
        }
    }

    fn replaced(&self) -> Undone {
        Undone::Left(self.advice().replaced())
    }

    /// What became of what was made, which is not in its place.
    fn elsewhere(&self, made: &Identity, gone: Undone) -> Undone {
        match self.fate(made) {
            Fate::Deleted => gone,
            Fate::At(at) => Undone::Left(self.moved(&at)),
            Fate::Unknown(why) => Undone::CannotTell(self.advice().cannot_tell(&why)),
        }
    }

    /// It is here now, by what it is; what it holds may be another's by now.
    fn moved(&self, at: &Path) -> Leftover {
        let mounts = || tree::mounts(at);
        let open = || reading::open_itself(at).map(reading::Reading::into_file);
        match self.params.directory.is_some() {
            true if !mounts().is_empty() => self.advice().mounted(at, &mounts()),
            true => self.advice().moved(at, true),
            false => {
                let held =
                    open().and_then(|mut file| is_untouched(&mut file, &self.params, self.sha256.as_deref()));
                self.advice().moved(at, matches!(held, Ok(true)))
            }
        }
    }

    fn fate(&self, made: &Identity) -> Fate {
        let (folder, _) = split(&self.target).unwrap_or_default();
        let lost = Lost {
            key: &self.intent.beside,
            made,
            handle: self.intent.handle.as_deref(),
            folder: &folder,
            stood: self.intent.folder.as_ref(),
            mounts: self.intent.mounts.as_ref(),
        };
        lost.fate()
    }

    /// Puts back what was put aside.
    pub(super) fn removal(&self) -> Result<Undone, StepError> {
        if self.intent.found.is_none() {
            return Ok(Undone::NothingToDo);
        }
        let advice = self.advice();
        let spot = match self.place() {
            Ok(Place::Same(spot)) => spot,
            Ok(Place::Other(why)) => return Ok(self.lost(why)),
            Err(unseen) => return Ok(*unseen),
        };
        let seen = spot.beside(&self.intent.beside).and_then(|hidden| Ok((hidden.now()?, hidden)));
        let (now, hidden) = match seen {
            Ok(seen) => seen,
            Err(error) => return Ok(*self.unseen(error)),
        };
        if now.is_some_and(|now| self.intent.made.as_ref().is_none_or(|found| found.is(&now))) {
            return match hidden.rename(&spot) {
                Ok(()) => {
                    spot.sync();
                    Ok(Undone::Removed)
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Undone::Left(advice.occupied())),
                Err(error) => Err(StepError::io(format!("put `{}` back", self.target), &error)),
            };
        }
        match (spot.now(), &self.intent.made) {
            (Err(error), _) => Ok(*self.unseen(error)),
            (Ok(Some(now)), Some(found)) if found.is(&now) && self.intent.removing => Ok(Undone::Removed),
            // It was never put aside, or is back already.
            (Ok(Some(now)), Some(found)) if found.is(&now) => Ok(Undone::NothingToDo),
            (Ok(None), None) if !self.ended => Ok(Undone::NothingToDo),
            _ => Ok(self.lost("it is not where it was put aside")),
        }
    }

    /// Of a file that was put aside and is not there.
    fn lost(&self, why: &str) -> Undone {
        let advice = self.advice();
        match self.intent.made.as_ref().map(|found| self.fate(found)) {
            Some(Fate::At(at)) if at.file_name() == Path::new(&self.target).file_name() && !self.ended => {
                Undone::NothingToDo
            }
            Some(Fate::At(at)) => Undone::Left(advice.aside_moved(&at)),
            Some(Fate::Deleted) => Undone::Left(advice.aside_deleted()),
            Some(Fate::Unknown(more)) => Undone::CannotTell(advice.cannot_tell(&format!("{why}; {more}"))),
            None => Undone::CannotTell(advice.cannot_tell(why)),
        }
    }
}

/// Removes what was put aside or never got its name.
pub(in super::super) fn release(
    beside: &str,
    made: Option<&Identity>,
    is_folder: bool,
) -> Result<(), StepError> {
    let released = Spot::open(beside).and_then(|spot| {
        if !spot.now()?.is_some_and(|now| made.is_none_or(|made| made.is(&now))) {
            return Ok(());
        }
        if is_folder { spot.remove_folder() } else { spot.unlink() }?;
        spot.sync();
        Ok(())
    });
    match released {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(StepError::io(format!("remove `{beside}`"), &error))
        }
        _ => Ok(()),
    }
}

/// Whether what the step made or put aside is there.
pub(super) fn presence(
    action: &Action<'_>,
    params: &Params,
    intent: &Intent,
    output: Option<&Output>,
) -> Result<Presence, StepError> {
    let target = action.target();
    let undo = Undo {
        target: target.to_owned(),
        params: params.clone(),
        intent: intent.clone(),
        ended: output.is_some(),
        inode: output.map(|output| output.inode),
        sha256: None,
    };
    let present = |path: &str| Ok(Presence::Present(there(path, action)));
    let spot = match undo.place() {
        Ok(Place::Same(spot)) => spot,
        // An undo that has seen what became of it went before.
        Ok(Place::Other(why)) => {
            let is_gone = |folder: PathBuf| matches!(Identity::behind(&folder), Ok(None));
            let known =
                trace::is_deleted(&intent.beside) || split(target).is_some_and(|(folder, _)| is_gone(folder));
            return Ok(if known { Presence::Gone } else { Presence::Unknown(why.to_owned()) });
        }
        Err(unseen) => {
            return Ok(Presence::Unknown(match *unseen {
                Undone::CannotTell(left) => left.why,
                _ => "it cannot be looked at".to_owned(),
            }));
        }
    };
    let cannot = |error: io::Error| StepError::io(format!("look at `{target}`"), &error);
    let hidden = spot.beside(&intent.beside).map_err(cannot)?;
    if hidden.now().map_err(cannot)?.is_some() {
        return present(&intent.beside);
    }
    if let Action::Stat(_) | Action::Remove(_) = action {
        return Ok(Presence::Gone);
    }
    match spot.now().map_err(cannot)? {
        Some(now) if undo.is_ours(&now) => present(target),
        _ => Ok(Presence::Gone),
    }
}

fn there(path: &str, action: &Action<'_>) -> Leftover {
    let found = fs::symlink_metadata(path).map(|found| output(path, &found));
    super::super::leftover(
        &found.unwrap_or_else(|_| Output { path: path.to_owned(), ..Output::default() }),
        action,
        "it is still there",
    )
}
