//! Takes back what was made or put aside on a host. Each script looks once more whether the thing still is what was seen.

use super::{
    super::{Action, Advice, Intent, Mark, Output, Params, leftover},
    Seen, Thing, failed, folder_of, script, scripts, search, see,
};
use crate::{
    file::trace::{Fate, Lost},
    identity::Identity,
    sh::plain,
};
use engine::{
    StepError,
    error::ErrorClass,
    host::{Output as Done, Stdin},
    step::{Context, Leftover, Presence, Undone},
};
use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

struct Undo<'a> {
    cx: &'a Context,
    params: &'a Params,
    action: &'a Action<'a>,
    intent: &'a Intent,
    output: Option<&'a Output>,
    target: &'a str,
}

/// Whether a thing is what a step made or found; an intent of old tells only the inode.
fn is_ours(intent: &Intent, output: Option<&Output>, now: &Thing) -> bool {
    match &intent.made {
        Some(made) => made.is(&now.is),
        None => intent.folder.is_none() && output.is_none_or(|output| output.inode == now.output.inode),
    }
}

/// Why the folder is not the one in which the step acted.
fn elsewhere(seen: &Seen, intent: &Intent) -> Option<&'static str> {
    match (&seen.folder, &intent.folder) {
        (None, _) => Some("its folder is not there any more"),
        (Some(now), Some(folder)) if !folder.is(&now.is) => {
            Some("another folder is in the place of its folder")
        }
        _ => None,
    }
}

pub(in super::super) async fn undo(
    cx: &Context,
    params: &Params,
    action: &Action<'_>,
    intent: &Intent,
    output: Option<&Output>,
) -> Result<Undone, StepError> {
    let undo = Undo { cx, params, action, intent, output, target: action.target() };
    match action {
        Action::Stat(_) => Ok(Undone::NothingToDo),
        Action::Remove(_) if intent.found.is_none() => Ok(Undone::NothingToDo),
        _ => {
            let seen = match see(cx, undo.target, Some(&intent.beside), false).await {
                Ok(seen) => seen,
                Err(error) if error.class == ErrorClass::Denied => {
                    return Ok(undo.unseen("permission to look was denied"));
                }
                Err(error) => return Err(error),
            };
            let mark = Mark::set(cx, intent, undo.removes_it(&seen)).await;
            let undone = match action {
                Action::Remove(_) => undo.removal(seen).await,
                _ => undo.made(seen).await,
            };
            mark.settled(cx, intent, &undone).await;
            undone
        }
    }
}

impl Undo<'_> {
    fn advice(&self) -> Advice<'_> {
        Advice { target: self.target, beside: &self.intent.beside, params: self.params }
    }

    fn unseen(&self, why: &str) -> Undone {
        Undone::CannotTell(self.advice().cannot_tell(why))
    }

    fn is_folder(&self) -> bool {
        matches!(self.action, Action::Directory(_))
    }

    /// Whether what was seen is ours and about to be taken away, or put back. Of a file with a second name only a search
    /// tells where that is.
    fn removes_it(&self, seen: &Seen) -> bool {
        let Some(made) = self.intent.made.as_ref().filter(|_| elsewhere(seen, self.intent).is_none()) else {
            return false;
        };
        let ours = |thing: &Option<Thing>| {
            let names =
                if self.is_folder() { 0 } else { 1 + u64::from(seen.now.is_some() && seen.beside.is_some()) };
            thing.as_ref().is_some_and(|it| made.is(&it.is) && (names == 0 || it.names <= names))
        };
        ours(&seen.beside) || (!matches!(self.action, Action::Remove(_)) && ours(&seen.now))
    }

    async fn made(&self, seen: Seen) -> Result<Undone, StepError> {
        let gone = |undone| Ok(undone);
        if let Some(why) = elsewhere(&seen, self.intent) {
            return match &self.intent.made {
                Some(made) => self.elsewhere(made, Undone::NothingToDo).await,
                None => gone(self.unseen(why)),
            };
        }
        let mut half = Undone::NothingToDo;
        if let Some(hidden) = &seen.beside
            && self.intent.made.as_ref().is_none_or(|made| made.is(&hidden.is))
        {
            super::drop_half(self.cx, &plain(&self.intent.beside), &hidden.raw, self.is_folder()).await?;
            half = Undone::Removed;
        }
        match (&seen.now, &self.intent.made) {
            (Some(now), _) if is_ours(self.intent, self.output, now) => self.take(now, &seen).await,
            // Under the hidden name it was a moment ago: it never got another.
            (_, Some(_)) if half == Undone::Removed => Ok(half),
            // An undo was killed after it had taken it away.
            (None, Some(_)) if self.intent.removing => Ok(Undone::Removed),
            (now, Some(made)) => Ok(match self.elsewhere(made, half).await? {
                Undone::NothingToDo | Undone::CannotTell(_) if now.is_some() && self.output.is_some() => {
                    self.replaced()
                }
                other => other,
            }),
            (Some(_), None) if self.output.is_some() => gone(self.replaced()),
            (_, None) => gone(half),
        }
    }

    fn replaced(&self) -> Undone {
        Undone::Left(self.advice().replaced())
    }

    /// Removes what stands in its place and is ours.
    async fn take(&self, now: &Thing, seen: &Seen) -> Result<Undone, StepError> {
        let (target, folder) = (plain(self.target), folder_of(self.target));
        let what = format!("remove `{}`", self.target);
        if self.is_folder() {
            // Only one that is known for ours is emptied.
            let known = self.intent.made.is_some() || self.output.is_some();
            let all = if self.params.owned && known { "all" } else { "" };
            let done =
                script(self.cx, scripts::REMOVE_FOLDER, &[&target, &now.raw, all], Stdin::Null).await?;
            return match done.code {
                Some(0) => Ok(Undone::Removed),
                Some(scripts::OTHER) => Ok(self.replaced()),
                Some(scripts::NOT_EMPTY) => Ok(Undone::Left(self.advice().not_empty())),
                Some(scripts::MOUNTED) => {
                    Ok(Undone::Left(self.advice().mounted(Path::new(self.target), &mounts(&done))))
                }
                _ => Err(failed(self.cx, self.target, &what, &done)),
            };
        }
        match super::is_untouched(self.cx, self.target, self.params, self.action, self.intent, self.output)
            .await
        {
            Ok(true) => {}
            Ok(false) if self.intent.made.is_none() && self.output.is_none() => {
                return Ok(Undone::NothingToDo);
            }
            Ok(false) => return Ok(Undone::Left(self.advice().changed())),
            Err(error) if error.class == ErrorClass::Denied => {
                return Ok(self.unseen("permission to read it was denied"));
            }
            Err(error) => return Err(error),
        }
        let done = script(self.cx, scripts::DROP, &[&target, &now.raw, &folder], Stdin::Null).await?;
        match (done.code, &self.intent.made) {
            // Another has given it a second name: under that it is still there. One may be the hidden name.
            (Some(0), Some(made)) if now.names > 1 + u64::from(seen.beside.is_some()) => {
                self.elsewhere(made, Undone::Removed).await
            }
            (Some(0), _) => Ok(Undone::Removed),
            (Some(scripts::OTHER), _) => Ok(self.replaced()),
            _ => Err(failed(self.cx, self.target, &what, &done)),
        }
    }

    async fn elsewhere(&self, made: &Identity, gone: Undone) -> Result<Undone, StepError> {
        Ok(match self.fate(made).await? {
            Fate::Deleted => gone,
            Fate::At(at) => Undone::Left(self.moved(&at).await?),
            Fate::Unknown(why) => self.unseen(&why),
        })
    }

    /// It is here now, by what it is; what it holds may be another's by now.
    async fn moved(&self, at: &Path) -> Result<Leftover, StepError> {
        let Some(path) = at.to_str() else { return Ok(self.advice().moved(at, false)) };
        if !self.is_folder() {
            let held = super::is_untouched(self.cx, path, self.params, self.action, self.intent, self.output);
            return Ok(self.advice().moved(at, matches!(held.await, Ok(true))));
        }
        let done = script(self.cx, scripts::MOUNTS, &[&plain(path)], Stdin::Null).await?;
        Ok(match mounts(&done) {
            mounts if mounts.is_empty() => self.advice().moved(at, done.success()),
            mounts => self.advice().mounted(at, &mounts),
        })
    }

    async fn fate(&self, made: &Identity) -> Result<Fate, StepError> {
        let folder = PathBuf::from(folder_of(self.target));
        let lost = Lost {
            key: &self.intent.beside,
            made,
            handle: None,
            folder: &folder,
            stood: self.intent.folder.as_ref(),
            mounts: self.intent.mounts.as_ref(),
        };
        search::fate(&lost, async |exec| self.cx.exec(exec).await).await
    }

    /// Puts back what was put aside.
    async fn removal(&self, seen: Seen) -> Result<Undone, StepError> {
        if let Some(why) = elsewhere(&seen, self.intent) {
            return self.lost(why).await;
        }
        if let Some(hidden) = &seen.beside
            && self.intent.made.as_ref().is_none_or(|found| found.is(&hidden.is))
        {
            let args = [&*plain(&self.intent.beside), &plain(self.target), &hidden.raw, "file"];
            let done = script(self.cx, scripts::PUBLISH, &args, Stdin::Null).await?;
            return match done.code {
                Some(0) => Ok(Undone::Removed),
                Some(scripts::EXISTS) => Ok(Undone::Left(self.advice().occupied())),
                _ => Err(failed(self.cx, self.target, &format!("put `{}` back", self.target), &done)),
            };
        }
        match (&seen.now, &self.intent.made) {
            (Some(now), Some(found)) if found.is(&now.is) && self.intent.removing => Ok(Undone::Removed),
            // It was never put aside, or is back already.
            (Some(now), Some(found)) if found.is(&now.is) => Ok(Undone::NothingToDo),
            (None, None) if self.output.is_none() => Ok(Undone::NothingToDo),
            _ => self.lost("it is not where it was put aside").await,
        }
    }

    async fn lost(&self, why: &str) -> Result<Undone, StepError> {
        let Some(found) = &self.intent.made else { return Ok(self.unseen(why)) };
        Ok(match self.fate(found).await? {
            Fate::At(at) if at.file_name() == Path::new(self.target).file_name() && self.output.is_none() => {
                Undone::NothingToDo
            }
            Fate::At(at) => Undone::Left(self.advice().aside_moved(&at)),
            Fate::Deleted => Undone::Left(self.advice().aside_deleted()),
            Fate::Unknown(more) => self.unseen(&format!("{why}; {more}")),
        })
    }
}

/// What a script has told to be mounted.
fn mounts(done: &Done) -> Vec<PathBuf> {
    let records = done.stdout.split(|byte| *byte == 0);
    let places = records.filter_map(|record| {
        let at = record.windows(7).position(|start| start == b"@mount|")?;
        Some(PathBuf::from(OsStr::from_bytes(&record[at + 7..])))
    });
    places.collect()
}

/// Whether what the step made or put aside is there.
pub(in super::super) async fn presence(
    cx: &Context,
    action: &Action<'_>,
    intent: &Intent,
    output: Option<&Output>,
) -> Result<Presence, StepError> {
    let seen = match see(cx, action.target(), Some(&intent.beside), false).await {
        Ok(seen) => seen,
        Err(error) if error.class == ErrorClass::Denied => return Ok(Presence::Unknown(error.message)),
        Err(error) => return Err(error),
    };
    if let Some(why) = elsewhere(&seen, intent) {
        // An undo that has seen what became of it went before.
        return Ok(if seen.folder.is_none() { Presence::Gone } else { Presence::Unknown(why.to_owned()) });
    }
    if let Some(hidden) = &seen.beside {
        let hidden = Output { path: intent.beside.clone(), ..hidden.output.clone() };
        return Ok(Presence::Present(leftover(&hidden, action, "it is still there")));
    }
    let made = matches!(action, Action::Create(_) | Action::Copy(..) | Action::Directory(_));
    Ok(match &seen.now {
        Some(now) if made && is_ours(intent, output, now) => {
            Presence::Present(leftover(&now.output, action, "it is still there"))
        }
        _ => Presence::Gone,
    })
}
