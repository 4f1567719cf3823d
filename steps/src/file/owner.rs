//! To whom a file belongs, by name or number.

use super::Params;
use engine::{StepError, error::ErrorClass};
use nix::unistd::{Gid, Group, Uid, User};
use std::{fs::File, os::unix::fs::fchown};

/// Whom a new file or folder is to belong to; nothing where the one who makes it keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    user: Option<u32>,
    group: Option<u32>,
}

impl Owner {
    /// # Errors
    /// This machine knows no such user or group.
    pub(super) fn of(params: &Params) -> Result<Self, StepError> {
        let user = |name: &str| User::from_name(name).map(|user| user.map(|user| user.uid.as_raw()));
        let group = |name: &str| Group::from_name(name).map(|group| group.map(|group| group.gid.as_raw()));
        let find = |kind: &str, database: &str, name: &str, found: nix::Result<Option<u32>>| {
            found.ok().flatten().map(Some).ok_or_else(|| unknown(kind, database, name, ""))
        };
        let user = match params.owner.as_ref().map(|word| word.0.as_str()) {
            None => None,
            Some(name) => match name.parse() {
                Ok(number) => Some(number),
                Err(_) => find("user", "passwd", name, user(name))?,
            },
        };
        let group = match params.group.as_ref().map(|word| word.0.as_str()) {
            None => None,
            Some(name) => match name.parse() {
                Ok(number) => Some(number),
                Err(_) => find("group", "group", name, group(name))?,
            },
        };
        Ok(Self { user, group })
    }

    /// Gives an open file or folder away.
    pub(super) fn give(self, file: &File, path: &str) -> Result<(), StepError> {
        match self == Self::default() {
            true => Ok(()),
            false => fchown(file, self.user, self.group).map_err(|error| denied(path, &error)),
        }
    }
}

fn denied(path: &str, error: &std::io::Error) -> StepError {
    let made = StepError::io(format!("change the owner of `{path}`"), error);
    match made.class {
        ErrorClass::Denied => {
            made.hint("only root gives files away, and others only to groups of their own: run as root")
        }
        _ => made,
    }
}

/// `at` says where, such as `` on `nas` ``.
pub(super) fn unknown(kind: &str, database: &str, name: &str, at: &str) -> StepError {
    let message = format!("`{name}`: there is no such {kind}{at}");
    StepError::new(ErrorClass::NotFound, message)
        .hint(format!("getent {database} {}", engine::host::shell_word(name)))
}

/// The names of an owner and a group, or their numbers.
pub(super) fn names(uid: u32, gid: u32) -> (String, String) {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name);
    (user.unwrap_or_else(|| uid.to_string()), group.unwrap_or_else(|| gid.to_string()))
}
