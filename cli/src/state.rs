//! The folder that holds the history of runs.

use crate::{failure::Failure, out::Out};
use engine::journal::sqlite::{RunRow, Store};
use std::{
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// The history in this folder, if there is one: to look does not make one. It can be read where it cannot be written.
pub(crate) fn to_look(dir: &Path) -> Result<Option<Store>, Failure> {
    match dir.join("journal.sqlite").exists() {
        true => match Store::open(dir) {
            Ok(store) => Ok(Some(store)),
            // What is wrong with it is told by the first of the two.
            Err(error) => Store::look(dir).map(Some).map_err(|_| error.into()),
        },
        false => Ok(None),
    }
}

/// An id as it was given: the closing block shortens ids to `01JH…1V3W8K`, of which the end will do.
pub(crate) fn given_id(given: &str) -> &str {
    given.rsplit('…').next().unwrap_or(given)
}

/// Tells that a run which was named belongs to another place.
pub(crate) fn warn_of_elsewhere(row: &RunRow, out: &Out) {
    if let Some(why) = row.elsewhere {
        out.warning(&format!("run `{}` does not belong here: {why}", row.id));
    }
}

/// The history in this folder, if there is one, for who takes back what dead runs did.
pub(crate) fn existing(dir: &Path) -> Result<Option<Store>, Failure> {
    // A journal that was taken away from under its runs has left their locks.
    let has_locks = || std::fs::read_dir(dir.join("locks")).is_ok_and(|mut locks| locks.next().is_some());
    match dir.join("journal.sqlite").exists() || has_locks() {
        true => Ok(Some(Store::open_to_recover(dir)?)),
        false => Ok(None),
    }
}

/// `--state-dir`, else `SHAKEDOWN_STATE_DIR`, else the first of `STATE_DIRECTORY` (which systemd sets for `StateDirectory=`), else
/// `XDG_STATE_HOME/shakedown`, else `~/.local/state/shakedown`. Without `HOME`, as in a service, it is the user's.
pub(crate) fn dir(flag: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let of_service = || {
        let folders = set("STATE_DIRECTORY")?.into_os_string().into_encoded_bytes();
        let first = folders.split(|byte| *byte == b':').next()?;
        Some(PathBuf::from(std::ffi::OsString::from_vec(first.to_vec()))).filter(|path| path.is_absolute())
    };
    let home = || {
        let of_user =
            || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.dir);
        set("HOME").or_else(of_user)
    };
    let chosen = flag.cloned().or_else(|| set("SHAKEDOWN_STATE_DIR")).or_else(of_service);
    let usual = || {
        // The XDG specification says that relative paths are to be ignored.
        set("XDG_STATE_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| home().map(|home| home.join(".local/state")))
            .map(|state| state.join("shakedown"))
    };
    let dir = chosen.or_else(usual).ok_or_else(|| {
        Failure::environment("no folder for the history: HOME is not set, and the user has none")
            .hint("choose one: --state-dir DIR or SHAKEDOWN_STATE_DIR")
    })?;
    std::path::absolute(&dir)
        .map_err(|error| Failure::environment(format!("cannot use `{}`: {error}", dir.display())))
}
