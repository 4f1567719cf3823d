//! What the kernel itself finds a file by, under any name and after a restart of this program: a number that is never given
//! out again. It answers at once whether the file still exists, where a search could take long or come to no end. Only root
//! may ask, and not all file systems know it.

use crate::hex::hex;
use nix::libc;
use rustix::io::Errno;
use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    path::PathBuf,
};

/// As many bytes as the kernel takes.
const MOST: usize = 128;

/// `struct file_handle` with its bytes.
#[repr(C)]
struct Raw {
    length: libc::c_uint,
    kind: libc::c_int,
    bytes: [u8; MOST],
}

/// What has become of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It does not exist any more.
    Deleted,
    /// It exists; this is the name by which the kernel last knew it.
    Exists(PathBuf),
    /// This user may not ask, or it cannot be asked here.
    Nothing,
}

/// The handle of an open file or folder as text.
pub(crate) fn of(file: impl AsFd) -> Option<String> {
    let mut raw = Raw { length: u32::try_from(MOST).ok()?, kind: 0, bytes: [0; MOST] };
    let (mut mount, file) = (0, file.as_fd().as_raw_fd());
    #[expect(unsafe_code, reason = "the handle has room for as many bytes as it says")]
    // SAFETY: all pointers are to live values of this frame, and `Raw` begins as the kernel's structure does.
    let done = unsafe {
        let handle = (&raw mut raw).cast();
        libc::name_to_handle_at(file, c"".as_ptr(), handle, &raw mut mount, libc::AT_EMPTY_PATH)
    };
    let bytes = raw.bytes.get(..usize::try_from(raw.length).ok()?)?;
    (done == 0).then(|| format!("{}:{}", raw.kind, hex(bytes)))
}

/// Asks for a file of the file system that `at` is on.
pub(super) fn find(handle: &str, at: &File) -> Answer {
    let Some(mut raw) = read(handle) else { return Answer::Nothing };
    #[expect(unsafe_code, reason = "the handle has as many bytes as it says")]
    // SAFETY: the pointer is to a live value of this frame, and `Raw` begins as the kernel's structure does.
    let opened = unsafe {
        libc::open_by_handle_at(at.as_raw_fd(), (&raw mut raw).cast(), libc::O_PATH | libc::O_CLOEXEC)
    };
    if opened < 0 {
        return match std::io::Error::last_os_error().raw_os_error() == Some(Errno::STALE.raw_os_error()) {
            true => Answer::Deleted,
            false => Answer::Nothing,
        };
    }
    #[expect(unsafe_code, reason = "the kernel has just given it out")]
    // SAFETY: it is open, and nobody else has it.
    let file = unsafe { OwnedFd::from_raw_fd(opened) };
    match rustix::fs::fstat(&file) {
        // Somebody still holds it open, under no name.
        Ok(found) if found.st_nlink == 0 => Answer::Deleted,
        _ => {
            let name = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
            Answer::Exists(name.unwrap_or_default())
        }
    }
}

fn read(handle: &str) -> Option<Raw> {
    let (kind, digits) = handle.split_once(':')?;
    let mut raw = Raw { length: 0, kind: kind.parse().ok()?, bytes: [0; MOST] };
    raw.length = u32::try_from(digits.len() / 2).ok()?;
    for (at, byte) in raw.bytes.iter_mut().take(digits.len() / 2).enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    (digits.len() <= 2 * MOST).then_some(raw)
}

#[cfg(test)]
mod tests {
    use super::{Answer, find, of};
    use std::fs;

    #[test]
    fn a_file_is_found_under_another_name_and_a_deleted_one_is_told_from_its_successor() {
        let dir = tempfile::tempdir().expect("made");
        let (made, moved) = (dir.path().join("made"), dir.path().join("moved"));
        let folder = fs::File::open(dir.path()).expect("opens");
        let handle = of(fs::File::create(&made).expect("made"));
        fs::rename(&made, &moved).expect("moved");
        // Not everybody may ask, and not everywhere.
        let Some(handle) = handle.filter(|handle| find(handle, &folder) != Answer::Nothing) else { return };
        assert_eq!(find(&handle, &folder), Answer::Exists(moved.clone()));
        let held = fs::File::open(&moved).expect("opens");
        fs::remove_file(&moved).expect("removed");
        assert_eq!(find(&handle, &folder), Answer::Deleted, "only held open");
        drop(held);
        fs::write(&made, "another, perhaps with the same number").expect("made");
        assert_eq!(find(&handle, &folder), Answer::Deleted);
        for odd in ["", "1", "x:00", "1:0", "1:zz", &format!("1:{}", "0".repeat(258))] {
            assert_eq!(find(odd, &folder), Answer::Nothing, "{odd}");
        }
    }
}
