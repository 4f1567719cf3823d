//! Takes turns with other programs: an flock is asked for again and again, so that no thread of the runtime hangs in it
//! and the wait can be given up.

use engine::{ErrorClass, StepError, host::Cancel, local::reading, quantity::Millis};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    hash::{BuildHasher, Hasher, RandomState},
    io::ErrorKind,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    time::{Duration, Instant},
};

/// The first pause between two tries.
const SHORTEST: Duration = Duration::from_millis(1);
/// The longest.
const LONGEST: Duration = Duration::from_millis(50);
/// Who has waited for so long asks more often again, and so comes before those who have just arrived: without this the
/// last of many writers would only get through by luck.
const OLD: Duration = Duration::from_secs(1);
/// The longest pause of one who has waited long.
const LONGEST_OF_OLD: Duration = Duration::from_millis(4);
/// How often a document may change under our lock before that is told.
const MOVES: u32 = 200;

/// What taking turns with other programs took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Effort {
    /// How often the lock was taken.
    pub locks: u64,
    /// How often it was held by another program.
    pub waits: u64,
    /// How long it was waited for in all, in milliseconds.
    pub wait_ms: u64,
    /// The longest wait, in milliseconds.
    pub longest_wait_ms: u64,
    /// How long the whole took, in milliseconds.
    pub took_ms: u64,
}

/// Which lock, how, and for how long it is waited for.
#[derive(Clone, Debug)]
pub(super) struct Lock {
    /// The file that is locked.
    pub(super) path: String,
    /// Whether that is the document itself, which a writer replaces by a rename.
    pub(super) own: bool,
    pub(super) exclusive: bool,
    /// Whether to go on without a lock if the file is not there.
    pub(super) optional: bool,
    pub(super) limit: Duration,
    pub(super) cancel: Cancel,
}

/// What one turn came to.
pub(super) enum Turn<T> {
    Done(T),
    /// The document was changed by somebody who does not hold the lock: once more from the beginning.
    Moved,
}

enum Try {
    Locked(Flock<File>),
    Held,
    /// It was replaced between opening and locking.
    Replaced,
    Absent,
}

fn millis(duration: Duration) -> u64 {
    Millis::from(duration).0
}

/// Between half of a pause and the whole, so that those who wait do not all ask at once.
fn jittered(pause: Duration) -> Duration {
    let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
    let random = RandomState::new().build_hasher().finish();
    Duration::from_nanos(nanos / 2 + random % (nanos / 2).max(1))
}

impl Lock {
    /// Does `work` while the lock is held, on a thread where blocking is allowed. `work` is told whether it is held,
    /// and is asked again if the document moved.
    pub(super) async fn hold<T: Send + 'static>(
        &self,
        effort: &mut Effort,
        work: impl Fn(bool) -> Result<Turn<T>, StepError> + Clone + Send + 'static,
    ) -> Result<T, StepError> {
        let begun = Instant::now();
        for _ in 0..MOVES {
            let guard = self.take(effort).await?;
            let work = work.clone();
            // The guard goes with the work: should this future be dropped, the lock is held until the work is done.
            let task = tokio::task::spawn_blocking(move || {
                let done = work(guard.is_some());
                drop(guard);
                done
            });
            let done = task.await.map_err(|error| StepError::internal(format!("the task ended: {error}")))?;
            effort.took_ms = millis(begun.elapsed());
            match done? {
                Turn::Done(value) => return Ok(value),
                Turn::Moved => {}
            }
        }
        let message = format!("the document changed {MOVES} times while `{}` was locked", self.path);
        Err(StepError::new(ErrorClass::Busy, message).hint(
            "another program writes without this lock: name the file that it locks with `lock`; see: lslocks",
        ))
    }

    async fn take(&self, effort: &mut Effort) -> Result<Option<Flock<File>>, StepError> {
        let begun = Instant::now();
        let mut pause = SHORTEST;
        let mut waited = false;
        let taken = loop {
            if self.cancel.is_cancelled() {
                break Err(self.cancelled());
            }
            let (path, exclusive) = (self.path.clone(), self.exclusive);
            let attempt = tokio::task::spawn_blocking(move || attempt(&path, exclusive)).await;
            match attempt.map_err(|error| StepError::internal(format!("the task ended: {error}")))? {
                Ok(Try::Locked(guard)) => break Ok(Some(guard)),
                Ok(Try::Absent) if self.optional => break Ok(None),
                Ok(Try::Absent) => break Err(self.absent()),
                Ok(Try::Replaced | Try::Held) => {}
                Err(error) => break Err(error),
            }
            if !waited {
                waited = true;
                effort.waits += 1;
            }
            let left = self.limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break Err(self.busy());
            }
            tokio::select! {
                () = self.cancel.cancelled() => {}
                () = tokio::time::sleep(jittered(pause).min(left)) => {}
            }
            let longest = if begun.elapsed() > OLD { LONGEST_OF_OLD } else { LONGEST };
            pause = (pause * 2).min(longest);
        };
        if waited {
            let wait = millis(begun.elapsed());
            effort.wait_ms += wait;
            effort.longest_wait_ms = effort.longest_wait_ms.max(wait);
        }
        effort.locks += u64::from(matches!(taken, Ok(Some(_))));
        taken
    }

    fn cancelled(&self) -> StepError {
        StepError::new(
            ErrorClass::Cancelled,
            format!("stopped while waiting for the lock of `{}`", self.path),
        )
    }

    fn busy(&self) -> StepError {
        let message = format!(
            "`{}` was locked by another program for {}: expected to get its lock",
            self.path,
            Millis(millis(self.limit))
        );
        let path = engine::host::shell_word(&self.path);
        StepError::new(ErrorClass::Busy, message).hint(format!("see who holds it: fuser -v {path}; lslocks"))
    }

    fn absent(&self) -> StepError {
        if self.own {
            return super::store::absent(&self.path);
        }
        let message =
            format!("the lock `{}` does not exist: expected the file that its users lock", self.path);
        StepError::new(ErrorClass::NotFound, message).hint(format!(
            "has the program that uses it been started once? if it makes none: touch {}",
            engine::host::shell_word(&self.path)
        ))
    }
}

fn absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn attempt(path: &str, exclusive: bool) -> Result<Try, StepError> {
    let cannot = |error: &std::io::Error| StepError::io(format!("open `{path}` for its lock"), error);
    // What is no file, such as a device, may act by being opened; its lock would tell nothing.
    match reading::open(Path::new(path)) {
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            return Err(cannot(&error).without_effect());
        }
        _ => {}
    }
    let open = |write: bool| {
        OpenOptions::new().read(true).write(write).custom_flags(nix::libc::O_NONBLOCK).open(path)
    };
    // Only some network file systems need a file that is open for writing; others lock it either way.
    let opened = match open(exclusive) {
        Err(error) if exclusive && !absent(&error) => open(false),
        opened => opened,
    };
    let file = match opened {
        Ok(file) => file,
        Err(error) if absent(&error) => return Ok(Try::Absent),
        Err(error) => return Err(cannot(&error)),
    };
    let opened = file.metadata().map_err(|error| cannot(&error))?;
    let how = match exclusive {
        true => FlockArg::LockExclusiveNonblock,
        false => FlockArg::LockSharedNonblock,
    };
    match Flock::lock(file, how) {
        // The lock of a file that has lost its name keeps nobody out.
        Ok(guard) => match fs::metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (opened.dev(), opened.ino()) => Ok(Try::Locked(guard)),
            Ok(_) => Ok(Try::Replaced),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Try::Replaced),
            Err(error) => Err(cannot(&error)),
        },
        Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(Try::Held),
        Err((_, errno)) => {
            let message = format!("cannot lock `{path}`: {}", errno.desc());
            let hint =
                format!("its file system may know no locks: findmnt -T {}", engine::host::shell_word(path));
            Err(StepError::new(ErrorClass::Unsupported, message).hint(hint))
        }
    }
}
