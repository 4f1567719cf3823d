//! Named locks across runs. A lock is a file that the kernel locks, and so frees when its owner dies. Who has to wait
//! draws a ticket, a file in the lock's queue that it keeps locked while it waits: the oldest living ticket is next.

use crate::{
    error::{ErrorClass, StepError},
    host::Cancel,
};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How often a taken lock is tried again.
const EVERY: Duration = Duration::from_millis(50);

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // Nobody owns it any more. The name is only for people, so it is no matter if it stays.
        let _stays = self.0.set_len(0);
    }
}

/// A place in the queue.
struct Ticket {
    path: PathBuf,
    _locked: File,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // One that stays is taken for dead, since nobody holds it locked.
        let _stays = fs::remove_file(&self.path);
    }
}

/// Waits for the lock `name` in the folder `dir`, in the order of arrival. While it waits, `waits` is told who has it.
pub(super) async fn acquire(
    dir: &Path,
    name: &str,
    run: &str,
    cancel: &Cancel,
    waits: impl Fn(String),
) -> Result<Held, StepError> {
    // Names come from playbooks: anything but the plainest characters is encoded.
    let encoded: String = name
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02x}"),
        })
        .collect();
    let path = dir.join(format!("named-{encoded}.lock"));
    let queue = dir.join(format!("named-{encoded}.queue"));
    let cannot = |error: &io::Error| StepError::io(format!("use the lock `{}`", path.display()), error);
    fs::create_dir_all(&queue).map_err(|error| cannot(&error))?;
    let mut file = open(&path).map_err(|error| cannot(&error))?;
    let ticket = draw(&queue).map_err(|error| cannot(&error))?;
    loop {
        if is_next(&queue, &ticket.path) {
            match file.try_lock() {
                Ok(()) => {
                    // For those who wait, and only for their eyes.
                    let _unread = file.set_len(0).and_then(|()| file.write_all(run.as_bytes()));
                    return Ok(Held(file));
                }
                Err(TryLockError::Error(error)) => return Err(cannot(&error)),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        waits(format!("waits for the lock `{name}`, which {} has", owner(&mut file)));
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = cancel.cancelled() => {
                return Err(StepError::new(ErrorClass::Cancelled, format!("stopped while waiting for the lock `{name}`")));
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
}

fn owner(file: &mut File) -> String {
    let mut text = String::new();
    match file.rewind().and_then(|()| file.read_to_string(&mut text)) {
        Ok(count) if count > 0 => format!("run {text}"),
        _ => "another run".to_owned(),
    }
}

/// Takes a place at the end of the queue. It gets its name only once it is locked, so that nobody takes it for dead.
fn draw(queue: &Path) -> io::Result<Ticket> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{now:024}-{:010}-{count:010}", std::process::id());
    let hidden = queue.join(format!(".{name}"));
    let file = open(&hidden)?;
    file.lock()?;
    let path = queue.join(name);
    fs::rename(&hidden, &path)?;
    Ok(Ticket { path, _locked: file })
}

/// Whether no living ticket is older. Dead ones are removed on the way.
fn is_next(queue: &Path, mine: &Path) -> bool {
    let names = fs::read_dir(queue).into_iter().flatten().flatten().map(|entry| entry.path());
    let older = names.filter(|path| path.as_path() < mine && !is_hidden(path));
    for path in older {
        let Ok(file) = OpenOptions::new().write(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path) else {
            continue;
        };
        match file.try_lock() {
            Ok(()) => drop(fs::remove_file(&path)),
            Err(_) => return false,
        }
    }
    true
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::CancelSource;
    use std::sync::Mutex;

    async fn take(dir: &Path, run: &str) -> Held {
        acquire(dir, "数据 db/../x", run, &Cancel::never(), |_| {}).await.expect("gets it")
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_first_is_served_first_and_learns_who_has_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let held = take(dir.path(), "A").await;
        let order = Mutex::new(Vec::new());
        let said = Mutex::new(String::new());
        let wait = async |run: &str| {
            let tell = |words: String| said.lock().expect("unpoisoned").clone_from(&words);
            let got =
                acquire(dir.path(), "数据 db/../x", run, &Cancel::never(), tell).await.expect("gets it");
            order.lock().expect("unpoisoned").push(run.to_owned());
            drop(got);
        };
        let free = async {
            tokio::time::sleep(EVERY * 10).await;
            assert!(said.lock().expect("unpoisoned").contains("which run A has"));
            drop(held);
        };
        tokio::join!(wait("B"), wait("C"), wait("D"), free);
        assert_eq!(*order.lock().expect("unpoisoned"), ["B", "C", "D"]);
        let queue = fs::read_dir(dir.path()).expect("read").flatten().find(|entry| entry.path().is_dir());
        let tickets = fs::read_dir(queue.expect("a queue").path()).expect("read").count();
        assert_eq!(tickets, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_ticket_and_a_dead_owner_hold_nobody_up() {
        let dir = tempfile::tempdir().expect("a folder");
        drop(take(dir.path(), "A").await);
        let queue = fs::read_dir(dir.path()).expect("read").flatten().find(|entry| entry.path().is_dir());
        // What a killed process leaves: a file that nobody holds locked.
        fs::write(queue.expect("a queue").path().join(format!("{:024}-dead", 1)), "").expect("writes");
        drop(take(dir.path(), "B").await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_stopped_leaves_the_queue() {
        let dir = tempfile::tempdir().expect("a folder");
        let _held = take(dir.path(), "A").await;
        let (source, cancel) = CancelSource::new();
        source.cancel();
        let stopped = acquire(dir.path(), "数据 db/../x", "B", &cancel, |_| {}).await;
        assert_eq!(stopped.err().map(|error| error.class), Some(ErrorClass::Cancelled));
        let queue = fs::read_dir(dir.path()).expect("read").flatten().find(|entry| entry.path().is_dir());
        assert_eq!(fs::read_dir(queue.expect("a queue").path()).expect("read").count(), 0);
    }
}
