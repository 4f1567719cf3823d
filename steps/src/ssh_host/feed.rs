//! What goes into the stdin of a command: its data, and then the beats of its lease.

use super::guard::BEAT_S;
use engine::{ErrorClass, StepError, host::Stdin, local::process::open_input_aside};
use openssh::ChildStdin;
use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How soon the second beat follows. `head` of BusyBox takes what comes with the end of the data, and so the first.
const SOON: Duration = Duration::from_millis(200);

/// How much of a file is read at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// What goes before the beats.
pub(super) enum Data {
    Bytes(Vec<u8>),
    File(tokio::fs::File, u64),
}

impl Data {
    pub(super) async fn open(stdin: &Stdin) -> Result<(Self, Option<u64>), StepError> {
        Ok(match stdin {
            Stdin::Null => (Self::Bytes(Vec::new()), None),
            Stdin::Bytes(bytes) => (Self::Bytes(bytes.clone()), Some(bytes.len() as u64)),
            Stdin::File(path) => Self::from(path, 0).await?,
            Stdin::FileFrom(path, at) => Self::from(path, *at).await?,
        })
    }

    async fn from(path: &Path, at: u64) -> Result<(Self, Option<u64>), StepError> {
        let fail = |error| StepError::io(format!("open `{}` for stdin", path.display()), &error);
        let file = tokio::fs::File::from_std(open_input_aside(path, at).await?);
        let length = file.metadata().await.map_err(fail)?.len().saturating_sub(at);
        Ok((Self::File(file, length), Some(length)))
    }
}

/// Sends what goes ahead, the data, then a beat every few seconds for as long as it is polled; dropping it ends the lease. Ends by
/// itself when nobody reads any more, or with an error if the data could not be read.
pub(super) async fn hold(
    mut stdin: ChildStdin,
    ahead: &str,
    data: Data,
    moved: &AtomicU64,
    all_sent: &AtomicBool,
) -> Option<StepError> {
    stdin.write_all(ahead.as_bytes()).await.ok()?;
    match data {
        Data::Bytes(bytes) => send(&mut stdin, &bytes, moved).await?,
        Data::File(file, length) => {
            let mut file = file.take(length);
            let mut buffer = vec![0; CHUNK];
            let mut sent = 0;
            loop {
                match file.read(&mut buffer).await {
                    Ok(0) => break,
                    Ok(count) => {
                        send(&mut stdin, &buffer[..count], moved).await?;
                        sent += count as u64;
                    }
                    Err(error) => return Some(StepError::io("read the file for stdin", &error)),
                }
            }
            if sent < length {
                let message =
                    format!("the file for stdin shrank from {length} to {sent} bytes while it was read");
                return Some(StepError::new(ErrorClass::Busy, message));
            }
        }
    }
    all_sent.store(true, Ordering::Relaxed);
    // The first beat says that the data were all; the others that somebody is still there.
    let mut pause = SOON;
    loop {
        stdin.write_all(b"\n").await.ok()?;
        tokio::time::sleep(pause).await;
        pause = Duration::from_secs(BEAT_S);
    }
}

/// Writes all of the bytes, and counts those that went; nothing if nobody reads any more.
async fn send(stdin: &mut ChildStdin, mut bytes: &[u8], moved: &AtomicU64) -> Option<()> {
    while !bytes.is_empty() {
        let count = stdin.write(bytes).await.ok().filter(|count| *count > 0)?;
        moved.fetch_add(count as u64, Ordering::Relaxed);
        bytes = &bytes[count..];
    }
    Some(())
}
