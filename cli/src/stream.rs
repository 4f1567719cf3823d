//! Writing to who may not read. A run goes on, whoever reads what it tells; and once it is over, a reader who takes nothing for a
//! while is not waited for any longer.

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::write,
};
use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How long a reader may take nothing once the run is over.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long nobody may have opened a pipe that is to be written.
const OPENED: Duration = Duration::from_secs(5);
/// A pipe that says it has room takes this much at once, in bytes: `PIPE_BUF`.
const PIECE: usize = 4_096;
const TICK: u16 = 200;

/// Since when a run is over and only its end is told.
static OVER: Mutex<Option<Instant>> = Mutex::new(None);

/// Whether a run is under way from now on, or over.
pub(crate) fn set_over(over: bool) {
    *OVER.lock().unwrap_or_else(PoisonError::into_inner) = over.then(Instant::now);
}

/// Where something is written, until nobody reads it any more.
#[derive(Debug)]
pub(crate) struct Stream(AtomicBool);

pub(crate) static STDOUT: Stream = Stream::new();
pub(crate) static STDERR: Stream = Stream::new();

impl Stream {
    pub(crate) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Whether what was to be written was dropped, for nobody read it.
    pub(crate) fn is_given_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// It cannot be written; of kind `TimedOut` if nobody reads it.
    pub(crate) fn write(&self, to: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
        let to = to.as_fd();
        while !bytes.is_empty() {
            self.wait(to)?;
            match write(to, &bytes[..bytes.len().min(PIECE)]) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits until there is room.
    fn wait(&self, to: BorrowedFd<'_>) -> io::Result<()> {
        let begun = Instant::now();
        while !self.is_given_up() {
            match poll(&mut [PollFd::new(to, PollFlags::POLLOUT)], PollTimeout::from(TICK)) {
                Ok(0) | Err(Errno::EINTR) => {}
                // What cannot be waited for is written, and says itself what is wrong.
                Ok(_) | Err(_) => return Ok(()),
            }
            let over = *OVER.lock().unwrap_or_else(PoisonError::into_inner);
            if over.is_some_and(|over| over.max(begun).elapsed() > PATIENCE) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let words = format!("nobody has read it for {} s", PATIENCE.as_secs());
        Err(io::Error::new(ErrorKind::TimedOut, words))
    }
}

/// Opens a pipe, a terminal or the like to be written: who reads a pipe must come soon.
///
/// # Errors
/// It cannot be opened, or nobody reads it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let is_pipe = path.metadata()?.file_type().is_fifo();
    let begun = Instant::now();
    loop {
        match OpenOptions::new().write(true).custom_flags(flags).open(path) {
            Err(error) if is_pipe && error.raw_os_error() == Some(nix::libc::ENXIO) => {
                if begun.elapsed() > OPENED {
                    return Err(io::Error::new(ErrorKind::TimedOut, "it is a pipe that nobody reads"));
                }
                thread::sleep(Duration::from_millis(20));
            }
            opened => return opened,
        }
    }
}
