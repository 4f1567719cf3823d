//! Where the document is that an attempt has published. Its writers replace it by a rename, and so do we: another file
//! under its name is normal life. Another *folder* under its path is not, nor is it if the very file that was published
//! goes on under another name: then the document was moved or rotated away, and what stands in its place is another's.

use super::{
    back::Back,
    change::{Action, Change},
    store::{self, Place, Record},
};
use crate::{
    file::{
        Mounts,
        trace::{Fate as Where, Lost},
    },
    identity::Identity,
};
use engine::{
    StepError,
    host::{shell_path, shell_word},
    step::{Leftover, Undone},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirEntry},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// How many names are looked at in search of a document that was moved.
const NAMES: usize = 10_000;
/// How many documents are read in search of what was written.
const READ: usize = 16;
/// Time stamps of files are coarse. Milliseconds.
const COARSE: u64 = 1_000;

/// What an intent knows of the document; it grows while the change is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    /// The folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) folder: Option<Identity>,
    /// The new document, from the moment before it gets its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) published: Option<Identity>,
    /// When that was, in milliseconds since 1970.
    #[serde(default)]
    pub(super) at: u64,
    /// What the kernel finds it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) handle: Option<String>,
    /// What was mounted on its file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mounts: Option<Mounts>,
    /// An undo is about to remove the document: if it is gone afterwards, that was the undo.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) removing: bool,
    /// How to take the change back, if it is short and holds no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) record: Option<Record>,
    /// An undo has taken the change back and was about to remove the record of it, which the journal does not hold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) taken_back: bool,
}

impl Known {
    /// What is known before anything is made.
    pub(super) fn of_folder(document: &str) -> Result<Self, StepError> {
        let folder = store::folder_of(document);
        let cannot = |error| StepError::io(format!("look at the folder `{}`", folder.display()), &error);
        let folder = Identity::of(folder).map_err(cannot)?;
        let mounts = folder.as_ref().and_then(|folder| Mounts::here(folder.device()));
        Ok(Self { folder, mounts, ..Self::default() })
    }

    /// What is known once the new document is about to get its name.
    pub(super) fn publishing(self, new: Identity, handle: Option<String>, record: Option<Record>) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self { published: Some(new), handle, at: u64::try_from(at).unwrap_or(0), record, ..self }
    }
}

/// Where the folder is in which the document stood.
pub(super) enum Folder {
    Here,
    /// Its name is another now.
    Renamed(PathBuf),
    /// Another folder stands in its place, or none.
    Lost,
}

/// What became of an attempt.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is soon taken apart")]
pub(super) enum Fate {
    Never,
    /// With the record of how to take it back, if it is there still.
    Happened(Option<Record>),
}

/// # Errors
/// It cannot be looked at.
pub(super) fn folder(place: &Place, known: &Known) -> Result<Folder, StepError> {
    let Some(was) = &known.folder else { return Ok(Folder::Here) };
    let here = store::folder_of(&place.path);
    let cannot = |error| StepError::io(format!("look at the folder `{}`", here.display()), &error);
    if Identity::of(here).map_err(cannot)?.is_some_and(|now| was.is(&now)) {
        return Ok(Folder::Here);
    }
    // Only a look that sees it says where it is; all else is no proof of anything.
    let beside = here.parent().and_then(|parent| fs::read_dir(parent).ok()).into_iter().flatten().flatten();
    let found = beside.take(NAMES).map(|entry| entry.path()).find(|path| is(path, was));
    Ok(found.map_or(Folder::Lost, Folder::Renamed))
}

/// What became of the attempt, told by its folder.
///
/// # Errors
/// It cannot be looked at.
pub(super) fn fate(place: &Place, known: &Known) -> Result<Fate, StepError> {
    if known.taken_back || place.is_unpublished(known.published.as_ref())? {
        // The record may have been cut off in the middle.
        return Ok(Fate::Never);
    }
    Ok(match &known.published {
        Some(_) => Fate::Happened(place.record()?.or_else(|| known.record.clone())),
        // An intent of before there were identities.
        None if known.folder.is_none() => {
            place.record()?.map_or(Fate::Never, |record| Fate::Happened(Some(record)))
        }
        None => Fate::Never,
    })
}

fn is(path: &Path, wanted: &Identity) -> bool {
    Identity::of(path).ok().flatten().is_some_and(|found| wanted.is(&found))
}

fn entries(folder: &Path) -> impl Iterator<Item = DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten().take(NAMES)
}

/// What has become of the published file, wherever it is; nothing if none was published.
fn lost<'a>(place: &'a Place, known: &'a Known) -> Option<Lost<'a>> {
    Some(Lost {
        key: place.mark(),
        made: known.published.as_ref()?,
        handle: known.handle.as_deref(),
        folder: store::folder_of(&place.path),
        stood: known.folder.as_ref(),
        mounts: known.mounts.as_ref(),
    })
}

/// What is left of the change in the published file, which is not the document any more or has a second name: it may be
/// anywhere. `gone` is what it comes to if that is nowhere.
pub(super) fn elsewhere(
    change: &Change,
    place: &Place,
    known: &Known,
    record: &Record,
    gone: Undone,
) -> Undone {
    let what = || format!("{} of `{}`", change.thing(), place.path);
    let at = |path: &Path| {
        let why = format!("the document was moved to `{}`, or has that name, too", path.display());
        left_in(change, path, Some(record), &why).map_or(gone.clone(), Undone::Left)
    };
    match lost(place, known).map(|lost| lost.fate()) {
        None | Some(Where::Deleted) => gone,
        Some(Where::Unknown(why)) => {
            let remove_with = format!("ls -ld {}", shell_word(&place.path));
            Undone::CannotTell(Leftover { what: what(), why, remove_with })
        }
        // Another step, or another run, has put it by for its own undo, which gives it back only where it fits or clears it away.
        Some(Where::At(path)) if is_put_by(&path) => {
            match known.published.as_ref().and_then(|it| moved(place, it)) {
                Some(path) => at(&path),
                None => gone,
            }
        }
        Some(Where::At(path)) => at(&path),
    }
}

/// Whether the kernel says that the published file still exists.
pub(super) fn exists(place: &Place, known: &Known) -> bool {
    lost(place, known).is_some_and(|lost| lost.exists())
}

/// Whether a file has a name of ours: a step that changes the document gives it such a one while its own takes the place,
/// and keeps it so for its undo.
fn is_put_by(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".shakedown-"))
}

/// The published file under another name: in the folder, in one beside or below it.
pub(super) fn moved(place: &Place, published: &Identity) -> Option<PathBuf> {
    let here = store::folder_of(&place.path);
    let wanted = |path: &PathBuf| *path != Path::new(&place.path) && !is_put_by(path) && is(path, published);
    let (mut below, mut found) = (Vec::new(), None);
    for entry in entries(here) {
        let path = entry.path();
        if wanted(&path) {
            found = Some(path);
            break;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below.push(path);
        }
    }
    let beside = here.parent().map(Path::to_path_buf);
    let more = || {
        below
            .into_iter()
            .chain(beside)
            .flat_map(|folder| entries(&folder).map(|entry| entry.path()).collect::<Vec<_>>())
    };
    found.or_else(|| more().take(NAMES).find(wanted))
}

/// A document beside this one, by its name a part of the same series, that was written since and holds what was
/// written: the one before a rotation or a restore.
pub(super) fn kin(change: &Change, place: &Place, known: &Known, record: &Record) -> Option<PathBuf> {
    if matches!(change.action, Action::Remove(_)) {
        // What lacks something proves nothing.
        return None;
    }
    let name = Path::new(&place.path).file_name()?.to_string_lossy().into_owned();
    let (stem, ending) = name.rsplit_once('.').unwrap_or((&name, ""));
    let akin = |other: &str| {
        other != name
            && (other.starts_with(&name)
                || !stem.is_empty() && other.starts_with(stem) && other.ends_with(&format!(".{ending}")))
    };
    let since = |entry: &DirEntry| {
        entry.metadata().is_ok_and(|found| {
            let written = found.mtime().saturating_mul(1_000).saturating_add(found.mtime_nsec() / 1_000_000);
            found.is_file() && u64::try_from(written).unwrap_or(0) + COARSE >= known.at
        })
    };
    entries(store::folder_of(&place.path))
        .filter(|entry| akin(&entry.file_name().to_string_lossy()) && since(entry))
        .take(READ)
        .map(|entry| entry.path())
        .find(|path| holds(change, path, record))
}

/// Whether a document holds what was written.
pub(super) fn holds(change: &Change, path: &Path, record: &Record) -> bool {
    matches!(look(change, path, record), Some(Back::Text(_) | Back::Document))
}

fn look(change: &Change, path: &Path, record: &Record) -> Option<Back> {
    let path = path.to_str()?;
    let found = store::read(path).ok()??;
    let document = store::parse(path, &found.text).ok()?;
    change.at(path).take_back(&document, record).ok()
}

/// What was changed, and stands in a document that was moved; nothing if it is not in there any more.
pub(super) fn left_in(change: &Change, path: &Path, record: Option<&Record>, why: &str) -> Option<Leftover> {
    let shown = path.to_string_lossy();
    let change = change.at(&shown);
    let told = |remove_with| Leftover {
        what: format!("{} of `{shown}`", change.thing()),
        why: why.to_owned(),
        remove_with,
    };
    let look_at = || format!("ls -l {}", shell_path(path));
    let Some(record) = record else { return Some(told(look_at())) };
    match look(&change, path, record) {
        Some(Back::Nothing) => None,
        Some(Back::Left(left)) => Some(Leftover { why: format!("{why}, and {}", left.why), ..left }),
        Some(Back::Text(_) | Back::Document) => {
            Some(told(change.undo_by_hand(path, record).unwrap_or_else(look_at)))
        }
        None => Some(told(look_at())),
    }
}

/// What cannot be told, for the folder is not where it was.
pub(super) fn no_folder(change: &Change, place: &Place) -> Leftover {
    let here = store::folder_of(&place.path);
    let there = here.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    Leftover {
        what: format!("{} of `{}`", change.thing(), place.path),
        why: format!(
            "the folder `{}` is another now or gone: it was renamed, replaced or unmounted since",
            here.display()
        ),
        remove_with: format!("ls -ld {0} && findmnt -T {0}", shell_path(there)),
    }
}
