//! Bodies: one that is sent, from memory or from a file as it is read, and one that comes, kept in part.

use engine::step::Context as StepContext;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use sha2::{Digest, Sha256};
use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, ReadBuf};

/// How much of a body is kept, in bytes.
pub(super) const KEEP: usize = 256 * 1024;
/// How much of a file is read at once.
const CHUNK: usize = 64 * 1024;
/// How often progress is told, in bytes.
const TELL: u64 = 4 << 20;

/// What is sent.
pub(super) enum Outgoing {
    Bytes(Bytes),
    File { file: tokio::fs::File, total: u64, left: u64, cx: Box<StepContext> },
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::File { left: 0, .. } => Poll::Ready(None),
            Self::File { file, total, left, cx } => {
                let mut buffer = vec![0; usize::try_from(*left).unwrap_or(CHUNK).min(CHUNK)];
                let mut piece = ReadBuf::new(&mut buffer);
                match Pin::new(file).poll_read(task, &mut piece) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(Ok(())) => {}
                }
                let count = piece.filled().len();
                if count == 0 {
                    let shorter = io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter meanwhile");
                    return Poll::Ready(Some(Err(shorter)));
                }
                buffer.truncate(count);
                let before = *total - *left;
                *left -= count as u64;
                if before / TELL != (*total - *left) / TELL {
                    cx.bytes(*total - *left, *total);
                }
                Poll::Ready(Some(Ok(Frame::data(buffer.into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { left, .. } => *left,
        })
    }
}

/// What came.
pub(super) struct Received {
    /// Its beginning, without secrets.
    pub(super) kept: Vec<u8>,
    pub(super) size: u64,
    pub(super) sha256: String,
}

impl Received {
    /// Whether all of it was kept.
    pub(super) fn is_whole(&self) -> bool {
        self.size <= KEEP as u64
    }

    /// Reads all of a body; `count` says how much has come so far.
    pub(super) async fn read(
        cx: &StepContext,
        mut body: Incoming,
        count: &AtomicU64,
    ) -> Result<Self, hyper::Error> {
        let secrets = &cx.services.secrets;
        // A secret that lies across the cut is only found if the whole of it is there.
        let most = KEEP + secrets.longest();
        let total = body.size_hint().exact().unwrap_or(0);
        let (mut kept, mut size, mut hasher) = (Vec::new(), 0u64, Sha256::new());
        while let Some(frame) = std::future::poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await {
            let frame = frame?;
            let Some(data) = frame.data_ref() else { continue };
            hasher.update(data);
            let room = most.saturating_sub(kept.len()).min(data.len());
            kept.extend_from_slice(&data[..room]);
            let before = size;
            size += data.len() as u64;
            count.store(size, Ordering::Relaxed);
            if before / TELL != size / TELL {
                cx.bytes(size, total.max(size));
            }
        }
        let all_is_there = kept.len() as u64 == size;
        secrets.mask_bytes(&mut kept);
        if !all_is_there {
            // What the last bytes begin may be a secret, and a mark before them may be shorter than what it stands for.
            kept.truncate(kept.len().saturating_sub(secrets.longest()));
        }
        if size > KEEP as u64 {
            kept.truncate(KEEP);
        }
        Ok(Self { kept, size, sha256: crate::hex::hex(&hasher.finalize()) })
    }
}
