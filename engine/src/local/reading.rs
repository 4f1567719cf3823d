//! Files that are read: opened without waiting for anybody, judged by what was opened, and never read without an end.
//!
//! A name may lead to a pipe that nobody writes to, to a device that gives zeros for ever or does something by being
//! opened, or to a stream of the kernel that calls itself a file. All that is given by name is opened here.

use nix::{
    libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK},
    sys::stat::makedev,
};
use std::{
    fmt,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Read},
    ops::Deref,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Why something that was named is not read, although the system would let us.
#[derive(Debug)]
struct Refused {
    path: PathBuf,
    why: Why,
}

#[derive(Debug)]
enum Why {
    /// It is no file but this.
    Is(&'static str),
    /// It gives nothing now, and may give something later: no file that ends does so.
    Waits,
    /// It holds more than this many bytes.
    Larger(u64),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Why::Is(kind) => write!(f, "it is {kind}, expected a file"),
            Why::Waits => f.write_str("it is a stream that would have to be waited for, expected a file"),
            Why::Larger(most) if most % (1 << 20) == 0 => write!(f, "it is larger than {} MiB", most >> 20),
            Why::Larger(most) => write!(f, "it is larger than {most} bytes"),
        }
    }
}

impl std::error::Error for Refused {}

fn refused(path: &Path, why: Why) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, Refused { path: path.to_owned(), why })
}

/// What to do about an error of this module; nothing where the system's own words say enough.
#[must_use]
pub fn hint(error: &io::Error) -> Option<String> {
    let Refused { path, why } = error.get_ref()?.downcast_ref()?;
    let path = crate::host::shell_path(path);
    Some(match why {
        Why::Is(_) | Why::Waits => format!("look what is there: ls -ld {path}"),
        Why::Larger(_) => format!("look what it holds: ls -l {path}; head -c 200 {path}"),
    })
}

/// What it is, in words, if it is no file.
#[must_use]
pub fn kind(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    Some(match () {
        () if kind.is_file() => return None,
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () if kind.is_symlink() => "a link",
        () => "a device",
    })
}

/// Whether the kernel makes up what it holds: it calls itself a file, and may be a stream without an end.
#[must_use]
pub fn is_made_up(path: &Path) -> bool {
    // Of procfs, sysfs, debugfs, tracefs, securityfs and the control groups.
    const MADE_UP: [u32; 7] =
        [0x9fa0, 0x6265_6572, 0x6462_6720, 0x7472_6163, 0x7363_6673, 0x6367_7270, 0x0027_e0eb];
    rustix::fs::statfs(path)
        .is_ok_and(|found| MADE_UP.iter().any(|known| found.f_type as u64 == u64::from(*known)))
}

/// A file that is open to be read. Where it would have to be waited for, reading fails.
#[derive(Debug)]
pub struct Reading {
    file: File,
    path: PathBuf,
}

impl Reading {
    /// The open file itself.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }

    /// All of it, if it holds no more than `most` bytes.
    ///
    /// # Errors
    /// It holds more, or cannot be read.
    pub fn bytes(mut self, most: u64) -> io::Result<Vec<u8>> {
        if self.file.metadata()?.len() > most {
            return Err(refused(&self.path, Why::Larger(most)));
        }
        let mut bytes = Vec::new();
        // What its length says is no bound: files grow, and those of the kernel have none.
        (&mut self).take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > most {
            true => Err(refused(&self.path, Why::Larger(most))),
            false => Ok(bytes),
        }
    }
}

impl Deref for Reading {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => refused(&self.path, Why::Waits),
            _ => error,
        })
    }
}

/// Opens a file.
///
/// # Errors
/// It is no file, or cannot be opened.
pub fn open(path: &Path) -> io::Result<Reading> {
    open_if(path, 0, unreadable)
}

/// Opens what a command line names: a file, or a pipe that whoever started this program holds open for it, as a shell does
/// for `<(…)`. That is waited for, as any program would.
///
/// # Errors
/// It is neither, or cannot be opened.
pub fn open_given(path: &Path) -> io::Result<Reading> {
    let is_held =
        path == Path::new("/dev/stdin") || path.starts_with("/dev/fd") || path.starts_with("/proc/self/fd");
    match is_held && fs::metadata(path)?.file_type().is_fifo() {
        true => Ok(Reading { file: File::open(path)?, path: path.to_owned() }),
        false => open(path),
    }
}

/// Opens a file that is no link.
///
/// # Errors
/// It is no file, or cannot be opened.
pub fn open_itself(path: &Path) -> io::Result<Reading> {
    open_if(path, O_NOFOLLOW, unreadable)
}

/// Opens a file, or a disk: that ends, too.
///
/// # Errors
/// It is neither, or cannot be opened.
pub fn open_or_disk(path: &Path) -> io::Result<Reading> {
    open_if(path, 0, |found| unreadable(found).filter(|_| !found.file_type().is_block_device()))
}

/// What it is, if it cannot be read to an end. `/dev/null` stands for a file that is empty.
fn unreadable(metadata: &Metadata) -> Option<&'static str> {
    let is_null = metadata.file_type().is_char_device() && metadata.rdev() == makedev(1, 3);
    kind(metadata).filter(|_| !is_null)
}

fn open_if(path: &Path, flags: i32, wrong: fn(&Metadata) -> Option<&'static str>) -> io::Result<Reading> {
    let judge = |found: io::Result<Metadata>| match wrong(&found?) {
        Some(kind) => Err(refused(path, Why::Is(kind))),
        None => Ok(()),
    };
    // Some devices act by being opened: those are known by their names. What takes their place then is not waited for.
    judge(if flags & O_NOFOLLOW == 0 { fs::metadata(path) } else { fs::symlink_metadata(path) })?;
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_NOCTTY | flags).open(path)?;
    judge(file.metadata())?;
    Ok(Reading { file, path: path.to_owned() })
}

/// All of a file, if it holds no more than `most` bytes.
///
/// # Errors
/// It is no file, holds more, or cannot be read.
pub fn bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    open(path)?.bytes(most)
}

/// The same as text.
///
/// # Errors
/// As [`bytes`], or it is no UTF-8 text.
pub fn text(path: &Path, most: u64) -> io::Result<String> {
    utf8(bytes(path, most)?)
}

/// All of what a command line names, as text; see [`open_given`].
///
/// # Errors
/// It is neither a file nor such a pipe, holds more than `most` bytes, cannot be read, or is no UTF-8 text.
pub fn text_given(path: &Path, most: u64) -> io::Result<String> {
    utf8(open_given(path)?.bytes(most)?)
}

fn utf8(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is no UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::{bytes, hint, is_made_up, open_itself, open_or_disk};
    use nix::{sys::stat::Mode, unistd::mkfifo};
    use std::{os::unix::net::UnixListener, path::Path};

    #[test]
    fn what_is_no_file_is_neither_waited_for_nor_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let pipe = dir.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
        let socket = dir.path().join("socket");
        let _socket = UnixListener::bind(&socket).expect("a socket");
        for (path, kind) in [
            (pipe.as_path(), "a pipe"),
            (&socket, "a socket"),
            (dir.path(), "a folder"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            for opened in
                [bytes(path, 9).map(drop), open_itself(path).map(drop), open_or_disk(path).map(drop)]
            {
                let error = opened.expect_err("no file");
                assert_eq!(error.to_string(), format!("it is {kind}, expected a file"));
                assert!(hint(&error).is_some_and(|hint| hint.starts_with("look what is there: ls -ld ")));
            }
        }
    }

    #[test]
    fn what_does_not_end_costs_no_more_than_its_bound() {
        // Its length says that it is empty.
        let maps = Path::new("/proc/self/maps");
        assert_eq!(bytes(maps, 99).expect_err("larger").to_string(), "it is larger than 99 bytes");
        assert!(is_made_up(maps) && !is_made_up(Path::new("/")));
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("large");
        // All of it is a hole.
        std::fs::File::create(&path).and_then(|file| file.set_len(1 << 40)).expect("a file");
        assert_eq!(bytes(&path, 8 << 20).expect_err("larger").to_string(), "it is larger than 8 MiB");
        assert_eq!(bytes(Path::new("/dev/null"), 0).expect("empty"), b"");
    }

    #[test]
    fn a_link_is_followed_unless_the_file_itself_is_meant() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("file"), "text").expect("a file");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("file", &link).expect("a link");
        assert_eq!(bytes(&link, 4).expect("read"), b"text");
        assert_eq!(open_itself(&link).expect_err("a link").to_string(), "it is a link, expected a file");
        assert_eq!(bytes(&link, 3).expect_err("too large").to_string(), "it is larger than 3 bytes");
    }
}
