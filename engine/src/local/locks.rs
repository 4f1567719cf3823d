//! Named locks across runs: a file each, locked by the kernel, so that a dead owner frees it.

use crate::{
    error::{ErrorClass, StepError},
    host::Cancel,
};
use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

/// How often a taken lock is tried again.
const EVERY: Duration = Duration::from_millis(50);

/// Waits for the lock `name` in the folder `dir`; it is held until the file is dropped.
pub(super) async fn acquire(dir: &Path, name: &str, cancel: &Cancel) -> Result<File, StepError> {
    // Names come from playbooks: anything but the plainest characters is encoded.
    let encoded: String = name
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02x}"),
        })
        .collect();
    let path = dir.join(format!("named-{encoded}.lock"));
    let cannot = |error: &std::io::Error| StepError::io(format!("open the lock `{}`", path.display()), error);
    std::fs::create_dir_all(dir).map_err(|error| cannot(&error))?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&path)
        .map_err(|error| cannot(&error))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(cannot(&error)),
            Err(TryLockError::WouldBlock) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = cancel.cancelled() => {
                return Err(StepError::new(ErrorClass::Cancelled, format!("stopped while waiting for the lock `{name}`")));
            }
        }
    }
}
