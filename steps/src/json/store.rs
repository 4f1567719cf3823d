//! The document on disk: read whole, replaced by a rename, with a record beside it of how to take the change back.

mod restore;

use super::{edit::Splice, tree::Document};
use crate::{file::trace, hex::hex, identity::Identity};
use engine::{
    ErrorClass, StepError,
    host::{shell_path, shell_word},
    local::{allocate, reading},
    step::{Leftover, Presence},
};
use nix::unistd::{AccessFlags, Gid, Uid, access, fchown};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{ErrorKind, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The largest document that is read, in bytes: it is held in memory.
pub(super) const LARGEST: u64 = 64 << 20;
/// The largest record beside a document: it may hold values of it, with all characters escaped.
const RECORD: u64 = 8 * LARGEST;
/// What is put by for an undo beyond the size of the document, in bytes.
const SPARE: u64 = 4 << 10;

/// How to take a change back. It holds nothing that was put in, for that may be secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Whether the document was made by this step.
    pub(super) created: bool,
    /// The SHA-256 of the document before.
    pub(super) before: String,
    /// And after.
    pub(super) after: String,
    /// Where the text changed, in bytes.
    pub(super) at: usize,
    /// How many bytes were put there.
    pub(super) inserted: usize,
    /// The text in whose place they are.
    pub(super) removed: String,
    /// The value that was replaced or removed, as it stood there.
    pub(super) earlier: Option<String>,
    /// Which element of an array it was.
    pub(super) index: Option<usize>,
    /// After which key of an object it stood.
    pub(super) previous: Option<String>,
    /// How many elements like it the array held before.
    pub(super) same: u64,
    /// How many were so much like it that one of them, changed, could be it.
    #[serde(default)]
    pub(super) similar: u64,
    /// How many like it stood elsewhere in the document.
    #[serde(default)]
    pub(super) elsewhere: u64,
    /// When the document was last written before, in seconds and nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) modified: Option<(i64, i64)>,
}

/// A document as it was found.
pub(super) struct Found {
    pub(super) text: String,
    pub(super) sha256: String,
    pub(super) metadata: Metadata,
    pub(super) identity: Identity,
}

/// The document and the names beside it that belong to one attempt.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) path: String,
    folder: PathBuf,
    mark: String,
}

pub(super) fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// The error of a document that is not there.
pub(super) fn absent(path: &str) -> StepError {
    let folder = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = shell_path(folder.unwrap_or(Path::new(".")));
    StepError::new(ErrorClass::NotFound, format!("there is no document `{path}`"))
        .hint(format!("look what is there: ls -l {folder}"))
}

/// The document's own path, absolute and without links: a rename has to replace the file and not a link to it.
pub(super) fn resolve(path: &str, create: bool) -> Result<String, StepError> {
    if path.is_empty() || path.ends_with('/') || path.contains('\0') {
        let message = format!("`path` is `{}`: expected the path of a file", path.escape_debug());
        return Err(StepError::new(ErrorClass::Invalid, message));
    }
    let cannot = |error: &std::io::Error| StepError::io(format!("look at `{path}`"), error);
    let found = match fs::canonicalize(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_ok() => {
            let message = format!("`{path}` is a link to a file that does not exist");
            let hint = format!("see where it leads: readlink -m {}", shell_word(path));
            return Err(StepError::new(ErrorClass::NotFound, message).hint(hint));
        }
        Err(error) if error.kind() == ErrorKind::NotFound && create => {
            let path = Path::new(path);
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            let real = fs::canonicalize(folder).map_err(|error| {
                cannot(&error).hint(format!("make its folder: mkdir -p {}", shell_path(folder)))
            })?;
            real.join(path.file_name().unwrap_or_default())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(absent(path)),
        Err(error) => return Err(cannot(&error)),
    };
    found.into_os_string().into_string().map_err(|_| {
        StepError::new(ErrorClass::Invalid, format!("`{path}` leads to a name that is no UTF-8 text"))
    })
}

/// The document, or nothing if there is none.
pub(super) fn read(path: &str) -> Result<Option<Found>, StepError> {
    let cannot = |error: &std::io::Error| StepError::io(format!("read `{path}`"), error);
    let file = match reading::open(Path::new(path)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(&error)),
    };
    let metadata = file.metadata().map_err(|error| cannot(&error))?;
    if metadata.len() > LARGEST {
        let message = format!("`{path}` has {} bytes: expected at most {LARGEST}", metadata.len());
        return Err(StepError::new(ErrorClass::Unsupported, message));
    }
    let identity = Identity::of_open(&*file).map_err(|error| cannot(&error))?;
    let bytes = file.bytes(LARGEST).map_err(|error| cannot(&error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        let message = format!("`{path}` is no JSON: line {line}, byte {at} of the file: it is no UTF-8 text");
        StepError::new(ErrorClass::Corrupt, message)
            .hint(format!("file {0}; sed -n {line}p {0}", shell_word(path)))
    })?;
    Ok(Some(Found { sha256: sha256(&text), text, metadata, identity }))
}

/// The document as values.
pub(super) fn parse(path: &str, text: &str) -> Result<Document, StepError> {
    Document::parse(text.to_owned()).map_err(|flaw| flaw.of(path, text))
}

/// Refuses a document that cannot be replaced without loss.
pub(super) fn require_writable(path: &str, found: &Found, document: &Document) -> Result<(), StepError> {
    let fail = |class, message: String| Err(StepError::new(class, message));
    if let Some(twice) = &document.twice {
        let message = format!(
            "`{path}` holds the key at `{twice}` twice: it is not written, for its readers would disagree on what it says"
        );
        return fail(ErrorClass::Corrupt, message)
            .map_err(|error: StepError| error.hint("remove one of the two"));
    }
    let links = found.metadata.nlink();
    if links > 1 {
        let message = format!("`{path}` has {links} names (hard links): replacing it would part them");
        let hint = format!("find them: find / -xdev -samefile {}", shell_word(path));
        return fail(ErrorClass::Unsupported, message).map_err(|error: StepError| error.hint(hint));
    }
    let (owner, me) = (Uid::from_raw(found.metadata.uid()), Uid::effective());
    if !me.is_root() && owner != me {
        let message = format!("`{path}` belongs to user {owner}: this user ({me}) could not keep its owner");
        let hint = format!("run as that user: ls -l {}", shell_word(path));
        return fail(ErrorClass::Denied, message).map_err(|error: StepError| error.hint(hint));
    }
    let folder = Path::new(path).parent().unwrap_or(Path::new("/"));
    access(folder, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| {
        let folder = folder.display();
        StepError::io(format!("write in the folder `{folder}`"), &errno.into())
            .hint(format!("check owner, mode and mount with: namei -l {}", shell_word(path)))
    })
}

/// The folder in which a document stands.
pub(super) fn folder_of(path: &str) -> &Path {
    Path::new(path).parent().unwrap_or(Path::new("/"))
}

/// Whether there is something under that name. A look that is denied is no proof that there is not.
fn exists(path: &Path) -> Result<bool, StepError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StepError::io(format!("look at `{}`", path.display()), &error)),
    }
}

fn remove(path: &Path) -> Result<(), StepError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StepError::io(format!("remove `{}`", path.display()), &error))
        }
        _ => Ok(()),
    }
}

impl Place {
    pub(super) fn new(path: &str, mark: &str) -> Self {
        let folder = folder_of(path).to_owned();
        Self { path: path.to_owned(), folder, mark: mark.to_owned() }
    }

    /// What only this attempt has.
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// The kernel tells what becomes of the new document while the run lives.
    fn watch(&self, new: &Identity) {
        let opened = OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(&self.path);
        if let Ok(file) = opened
            && Identity::of_open(&file).is_ok_and(|now| now.is(new))
        {
            trace::watch(&self.mark, &file);
        }
    }

    fn beside(&self, what: &str) -> PathBuf {
        self.folder.join(format!(".shakedown-{}.{what}", self.mark))
    }

    /// The new document before it has its name, and then the one that had it: that very file comes back, for another step
    /// or program may know it by what it is.
    pub(super) fn new_file(&self) -> PathBuf {
        self.beside("new")
    }

    /// How to take the change back.
    pub(super) fn record_file(&self) -> PathBuf {
        self.beside("record")
    }

    /// The space that the undo takes.
    fn space_file(&self) -> PathBuf {
        self.beside("space")
    }

    /// The document as it was, before it has its name.
    fn undo_file(&self) -> PathBuf {
        self.beside("undo")
    }

    /// All names beside the document. Without the record there is nothing to take back, so it goes first.
    pub(super) fn files(&self) -> [PathBuf; 4] {
        [self.record_file(), self.new_file(), self.undo_file(), self.space_file()]
    }

    /// The same in the folder after that was renamed.
    pub(super) fn within(&self, folder: &Path) -> Self {
        let path = folder.join(Path::new(&self.path).file_name().unwrap_or_default());
        Self { path: path.to_string_lossy().into_owned(), folder: folder.to_owned(), mark: self.mark.clone() }
    }

    /// Whether the new document still has a name of its own: it has not taken the place of the old one.
    pub(super) fn is_unpublished(&self, published: Option<&Identity>) -> Result<bool, StepError> {
        let path = self.new_file();
        let found = Identity::of(&path)
            .map_err(|error| StepError::io(format!("look at `{}`", path.display()), &error))?;
        Ok(found.is_some_and(|found| published.is_none_or(|published| published.is(&found))))
    }

    /// The record; it is written before the new document gets its name.
    pub(super) fn record(&self) -> Result<Option<Record>, StepError> {
        let path = self.record_file();
        let cannot = |error: &std::io::Error| StepError::io(format!("read `{}`", path.display()), error);
        match reading::bytes(&path, RECORD) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                StepError::new(ErrorClass::Corrupt, format!("the record `{}`: {error}", path.display()))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(cannot(&error)),
        }
    }

    /// Nothing is left beside the document.
    pub(super) fn clear(&self) -> Result<(), StepError> {
        self.files().iter().try_for_each(|path| remove(path))
    }

    /// Nothing is left beside the document but the record: what it holds is needed still.
    pub(super) fn clear_but_record(&self) -> Result<(), StepError> {
        self.files()[1..].iter().try_for_each(|path| remove(path))
    }

    /// What of this attempt is still beside the document.
    pub(super) fn presence(&self) -> Result<Presence, StepError> {
        for path in self.files() {
            if exists(&path)? {
                return Ok(Presence::Present(Leftover {
                    what: format!("file `{}`", path.display()),
                    why: "it was made on the way".into(),
                    remove_with: format!("rm -- {}", shell_path(&path)),
                }));
            }
        }
        Ok(Presence::Gone)
    }

    /// The document changes, or nothing does. False if somebody else changed it meanwhile.
    ///
    /// With a record the change can be taken back later. `announce` makes known what will have the document's name, and
    /// that nothing will.
    pub(super) fn change(
        &self,
        found: Option<&Found>,
        text: &str,
        record: Option<&Record>,
        announce: &dyn Fn(Option<Identity>) -> Result<(), StepError>,
    ) -> Result<bool, StepError> {
        let mut announced = false;
        let changed = (|| {
            remove(&self.new_file())?;
            if let Some(record) = record {
                let size = text.len().max(found.map_or(0, |found| found.text.len())) as u64;
                self.put_by(size + SPARE)?;
                self.write(&self.new_file(), text, found)?;
                let record =
                    serde_json::to_vec(record).map_err(|error| StepError::internal(error.to_string()))?;
                let path = self.record_file();
                remove(&path)?;
                private(&path, |file| file.write_all(&record).and_then(|()| file.sync_all()))?;
            } else {
                self.write(&self.new_file(), text, found)?;
            }
            self.sync();
            let cannot = |error| StepError::io(format!("look at `{}`", self.new_file().display()), &error);
            let new = Identity::of(&self.new_file()).map_err(cannot)?;
            announced = true;
            announce(new.clone())?;
            let changed = match (found, &new) {
                (Some(found), Some(new)) if record.is_some() => self.exchange(found, new),
                _ => self.swap(&self.new_file(), found, new.as_ref()),
            };
            if let (Ok(true), Some(new), Some(_)) = (&changed, &new, record) {
                self.watch(new);
            }
            changed
        })();
        if matches!(changed, Ok(true)) {
            return changed;
        }
        // Only once it is known that nothing was published may the file go that proves it.
        if announced && let Err(error) = announce(None) {
            return changed.and(Err(error));
        }
        // The first error is the one to tell; what cannot be removed now is known by the intent.
        let _gone = self.clear();
        changed
    }

    /// Removes the document that this attempt made.
    pub(super) fn remove_document(&self, found: &Found) -> Result<bool, StepError> {
        if !self.is_still(found)? {
            return Ok(false);
        }
        remove(Path::new(&self.path))?;
        self.sync();
        Ok(true)
    }

    fn put_by(&self, bytes: u64) -> Result<(), StepError> {
        let path = self.space_file();
        remove(&path)?;
        private(&path, |file| allocate(file, bytes))
    }

    /// A whole document under another name, durable, with owner, mode and attributes of the one that is there.
    fn write(&self, path: &Path, text: &str, found: Option<&Found>) -> Result<(), StepError> {
        let document = self.path.as_str();
        let cannot = |error: &std::io::Error| StepError::io(format!("write `{document}`"), error);
        let mode = if found.is_some() { 0o600 } else { 0o644 };
        let mut file = match OpenOptions::new().write(true).custom_flags(nix::libc::O_NOFOLLOW).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => create(path, mode),
            there => there,
        }
        .map_err(|error| cannot(&error))?;
        if let Some(found) = found {
            self.dress(&file, found)?;
        }
        let written = file.write_all(text.as_bytes()).and_then(|()| file.set_len(text.len() as u64));
        written.and_then(|()| file.sync_all()).map_err(|error| cannot(&error))
    }

    /// Gives a file owner, mode and attributes of the document that is there.
    fn dress(&self, file: &File, found: &Found) -> Result<(), StepError> {
        let (document, metadata) = (self.path.as_str(), &found.metadata);
        let cannot = |error: std::io::Error| StepError::io(format!("write `{document}`"), &error);
        let now = file.metadata().map_err(cannot)?;
        if (now.uid(), now.gid()) != (metadata.uid(), metadata.gid()) {
            let (uid, gid) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
            fchown(file, Some(uid), Some(gid)).map_err(|errno| {
                StepError::io(format!("keep the owner {uid}:{gid} of `{document}`"), &errno.into())
                    .hint(format!("run as its owner: ls -l {}", shell_word(document)))
            })?;
        }
        super::attributes::copy(Path::new(document), file).map_err(|errno| {
            StepError::io(format!("keep the access list of `{document}`"), &errno.into())
                .hint(format!("getfacl {0}; getfattr -d {0}", shell_word(document)))
        })?;
        file.set_permissions(Permissions::from_mode(metadata.mode() & 0o7777)).map_err(cannot)
    }

    /// Whether the document still is the file that was read.
    fn is_still(&self, found: &Found) -> Result<bool, StepError> {
        let facts = |m: &Metadata| (m.dev(), m.ino(), m.len(), m.mtime(), m.mtime_nsec());
        match fs::metadata(&self.path) {
            Ok(now) => Ok(facts(&now) == facts(&found.metadata)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StepError::io(format!("look at `{}`", self.path), &error)),
        }
    }

    /// Gives a new file the document's name.
    fn swap(&self, new: &Path, found: Option<&Found>, own: Option<&Identity>) -> Result<bool, StepError> {
        let renamed = match found {
            Some(found) if !self.is_still(found)? => return Ok(false),
            Some(_) => fs::rename(new, &self.path),
            None => match crate::file::rename_new(&new.to_string_lossy(), &self.path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
                renamed => renamed,
            },
        };
        if let Err(error) = renamed {
            // A network file system can carry it out and lose the answer.
            let now = Identity::of(Path::new(&self.path)).ok().flatten();
            if !own.zip(now.as_ref()).is_some_and(|(own, now)| own.is(now)) {
                return Err(StepError::io(format!("replace `{}`", self.path), &error));
            }
        }
        self.sync();
        Ok(true)
    }

    /// Names are durable only once their folder is.
    fn sync(&self) {
        if let Ok(folder) = File::open(&self.folder) {
            let _best_effort = folder.sync_all();
        }
    }
}

fn create(path: &Path, mode: u32) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).custom_flags(nix::libc::O_NOFOLLOW).open(path)
}

/// Makes a file of our own that nobody else may read.
fn private(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<(), StepError> {
    let made = create(path, 0o600).and_then(|mut file| fill(&mut file));
    made.map_err(|error| StepError::io(format!("make `{}` for the undo", path.display()), &error))
}

impl Record {
    /// The document before, if `text` is the one after.
    pub(super) fn text_before(&self, text: &str) -> Option<String> {
        let splice = Splice { at: self.at, removed: self.inserted, text: self.removed.clone() };
        let fits =
            text.is_char_boundary(self.at) && text.is_char_boundary(self.at.checked_add(self.inserted)?);
        let before = fits.then(|| splice.apply(text))?;
        (sha256(&before) == self.before).then_some(before)
    }
}
