//! A checksum that is made beside the writing.

use crate::hex::hex;
use engine::StepError;
use sha2::{Digest, Sha256};
use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
};

/// A SHA-256 made on a thread of its own, beside the writing: each of both takes about as long as the other.
pub(super) struct Aside {
    pieces: Option<mpsc::SyncSender<Vec<u8>>>,
    thread: JoinHandle<String>,
}

impl Aside {
    pub(super) fn new() -> Self {
        // A few pieces are enough to keep both busy, and bound the memory.
        let (pieces, taken) = mpsc::sync_channel::<Vec<u8>>(4);
        let thread = thread::spawn(move || {
            let mut hasher = Sha256::new();
            taken.into_iter().for_each(|piece| hasher.update(&piece));
            hex(&hasher.finalize())
        });
        Self { pieces: Some(pieces), thread }
    }

    pub(super) fn update(&mut self, piece: Vec<u8>) {
        if let Some(pieces) = &self.pieces {
            // It takes all that comes; if it ended early, `finish` says so.
            let _ended = pieces.send(piece);
        }
    }

    pub(super) fn finish(mut self) -> Result<String, StepError> {
        self.pieces = None;
        self.thread.join().map_err(|_| StepError::internal("the hashing thread ended early"))
    }
}
