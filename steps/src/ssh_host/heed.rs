//! Reads a stream and tells when the guard's last line has come.

use super::guard::Guarded;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::Notify,
};

/// A stream of stderr that is watched for the guard's last line.
pub(super) struct Heed<'a, R> {
    stream: R,
    guarded: &'a Guarded,
    /// The end of what has been read: long enough to hold a last line that came in pieces.
    tail: Vec<u8>,
    ended: &'a Notify,
}

impl<'a, R> Heed<'a, R> {
    pub(super) fn new(stream: R, guarded: &'a Guarded, ended: &'a Notify) -> Self {
        Self { stream, guarded, tail: Vec::new(), ended }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Heed<'_, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let new = &buffer.filled()[before..];
        if !new.is_empty() {
            self.tail.extend_from_slice(new);
            let longest = self.guarded.overhead() + 64;
            let over = self.tail.len().saturating_sub(longest);
            self.tail.drain(..over);
            if self.guarded.has_ended(&self.tail) {
                self.ended.notify_one();
            }
        }
        polled
    }
}
