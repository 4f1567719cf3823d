//! A checksum that is made beside the writing.

use crate::hex::hex;
use engine::StepError;
use sha2::{Digest, Sha256};
use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
};

/// A SHA-256 made on a thread of its own, beside the writing: each of both takes about as long as the other. Where the system gives no
/// more threads, both are done in turn.
pub(super) enum Aside {
    Thread { pieces: mpsc::SyncSender<Vec<u8>>, thread: JoinHandle<String> },
    Here(Sha256),
}

impl Aside {
    pub(super) fn new() -> Self {
        // A few pieces are enough to keep both busy, and bound the memory.
        let (pieces, taken) = mpsc::sync_channel::<Vec<u8>>(4);
        let hash = move || {
            let mut hasher = Sha256::new();
            taken.into_iter().for_each(|piece| hasher.update(&piece));
            hex(&hasher.finalize())
        };
        match thread::Builder::new().name("hash".into()).spawn(hash) {
            Ok(thread) => Self::Thread { pieces, thread },
            Err(_) => Self::Here(Sha256::new()),
        }
    }

    pub(super) fn update(&mut self, piece: Vec<u8>) {
        match self {
            // It takes all that comes; if it ended early, `finish` says so.
            Self::Thread { pieces, .. } => drop(pieces.send(piece)),
            Self::Here(hasher) => hasher.update(&piece),
        }
    }

    pub(super) fn finish(self) -> Result<String, StepError> {
        match self {
            Self::Thread { pieces, thread } => {
                drop(pieces);
                thread.join().map_err(|_| StepError::internal("the hashing thread ended early"))
            }
            Self::Here(hasher) => Ok(hex(&hasher.finalize())),
        }
    }
}
