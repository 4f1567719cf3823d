//! What a file has beside its text, owner and mode: access lists, labels, notes of users. A document that is replaced
//! must keep them, or another user loses its access, or gains one.

use rustix::{
    fs::{XattrFlags, fremovexattr, fsetxattr, getxattr, listxattr},
    io::{Errno, Result},
};
use std::{fs::File, path::Path};

/// The longest list of names, and the longest value, that Linux allows, in bytes.
const LONGEST: usize = 64 << 10;
/// The list of users that have access beside those of the mode.
const ACCESS: &str = "system.posix_acl_access";

/// Gives `to` what `from` has of them. It is for the mode to be set after.
///
/// # Errors
/// An access list or a note of a user cannot be kept.
pub(super) fn copy(from: &Path, to: &File) -> Result<()> {
    let mut buffer = vec![0; LONGEST];
    let listed = match listxattr(from, buffer.as_mut_slice()) {
        // The file system has none.
        Err(Errno::OPNOTSUPP) => return Ok(()),
        listed => String::from_utf8_lossy(&buffer[..listed?]).into_owned(),
    };
    let names: Vec<&str> = listed.split_terminator('\0').collect();
    if !names.contains(&ACCESS) {
        // One that the folder gives to new files.
        match fremovexattr(to, ACCESS) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    for name in names {
        let copied = getxattr(from, name, buffer.as_mut_slice())
            .and_then(|length| fsetxattr(to, name, &buffer[..length], XattrFlags::empty()));
        match copied {
            // Most labels of the system are its own business: it has given the new file its own.
            Err(error) if name == ACCESS || name.starts_with("user.") => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
