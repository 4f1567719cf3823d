//! Keeps the head and the tail of a stream and counts the rest.

use crate::secret::Secrets;
use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads a stream to its end with bounded memory. When it is longer than `keep` bytes, its first and its last
/// half are kept, for an error is as often told at the start as at the end.
#[derive(Debug)]
pub struct Capture {
    keep: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
    secrets: Arc<Secrets>,
    moved: Arc<AtomicU64>,
}

impl Capture {
    /// A capture that keeps `keep` bytes.
    #[must_use]
    pub fn new(keep: usize) -> Self {
        Self {
            keep,
            head: Vec::new(),
            tail: VecDeque::new(),
            total: 0,
            secrets: Arc::default(),
            moved: Arc::default(),
        }
    }

    /// The same, with these masked in what it gives.
    #[must_use]
    pub fn masking(self, secrets: Arc<Secrets>) -> Self {
        Self { secrets, ..self }
    }

    /// The same, with what goes to a sink added to `moved` while it goes.
    #[must_use]
    pub fn counting(self, moved: Arc<AtomicU64>) -> Self {
        Self { moved, ..self }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let (head, rest) = bytes.split_at(bytes.len().min(self.keep / 2 - self.head.len()));
        self.head.extend_from_slice(head);
        let room = self.keep - self.keep / 2;
        let rest = &rest[rest.len().saturating_sub(room)..];
        let over = (self.tail.len() + rest.len()).saturating_sub(room);
        self.tail.drain(..over);
        self.tail.extend(rest);
    }

    /// Reads `stream` to its end.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn read(&mut self, stream: impl AsyncRead) -> io::Result<()> {
        self.copy(stream, None::<tokio::io::Sink>).await
    }

    /// Reads `stream` to its end; with a `sink` the bytes go there, are counted and not kept.
    ///
    /// # Errors
    /// The stream cannot be read or the sink not written.
    pub async fn copy(
        &mut self,
        stream: impl AsyncRead,
        mut sink: Option<impl AsyncWrite + Unpin>,
    ) -> io::Result<()> {
        tokio::pin!(stream);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = stream.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            match &mut sink {
                Some(sink) => {
                    sink.write_all(&buffer[..count]).await?;
                    self.total += count as u64;
                    self.moved.fetch_add(count as u64, Ordering::Relaxed);
                }
                None => self.push(&buffer[..count]),
            }
        }
        if let Some(sink) = &mut sink {
            sink.flush().await?;
        }
        Ok(())
    }

    /// How many bytes the stream had.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What was kept. A cut stream has a line in its middle that says how much is missing; no character is torn.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        let (mut kept, mut tail) = (self.head, Vec::from(self.tail));
        if self.total <= self.keep as u64 || kept.is_empty() && tail.is_empty() {
            // Where they meet, a secret may lie across.
            kept.append(&mut tail);
            self.secrets.mask_bytes(&mut kept);
            return kept;
        }
        self.secrets.mask_bytes(&mut kept);
        self.secrets.mask_bytes(&mut tail);
        // The cut may have left a part of a secret, which nobody would recognise.
        let part = self.secrets.longest().saturating_sub(1);
        kept.truncate(kept.len().saturating_sub(part));
        tail.drain(..part.min(tail.len()));
        kept.truncate(whole_characters(&kept));
        let torn = tail.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
        tail.drain(..torn);
        let cut = self.total.saturating_sub((kept.len() + tail.len()) as u64);
        kept.extend_from_slice(format!("\n[{cut} bytes cut]\n").as_bytes());
        kept.append(&mut tail);
        kept
    }
}

/// The length of `bytes` without a character that its end tears.
fn whole_characters(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let at = bytes.len() - back;
        let width = match bytes[at] {
            0x80..=0xBF => continue,
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xFF => 4,
            _ => 1,
        };
        return if width > back { at } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::Capture;

    fn capture(keep: usize, pieces: &[&[u8]]) -> Vec<u8> {
        let mut capture = Capture::new(keep);
        pieces.iter().for_each(|piece| capture.push(piece));
        capture.into_bytes()
    }

    #[test]
    fn what_fits_is_kept_as_it_is() {
        assert_eq!(capture(8, &[b"ab", b"", b"cdef", b"\xff\0"]), b"abcdef\xff\0");
        assert_eq!(capture(7, &[b"abcdefg"]), b"abcdefg");
    }

    #[test]
    fn a_longer_stream_keeps_its_head_and_its_tail() {
        assert_eq!(capture(4, &[b"abcdefgh"]), b"ab\n[4 bytes cut]\ngh");
        assert_eq!(capture(4, &[b"a", b"b", b"c", b"d", b"e", b"f"]), b"ab\n[2 bytes cut]\nef");
    }

    #[test]
    fn the_cut_tears_no_character() {
        let text = "文件名文件名".as_bytes();
        let kept = String::from_utf8(capture(10, &[text])).expect("whole characters");
        assert_eq!(kept, "文\n[12 bytes cut]\n名");
    }
}
