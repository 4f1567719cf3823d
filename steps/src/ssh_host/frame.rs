//! Reads what stands between two marks of a stream: a login prints what it likes before a command, and a wrapper around it after.

use memchr::memmem;
use std::{
    io,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, ReadBuf};

/// How much is read at once, and how much of what comes before the first mark is kept, in bytes.
const CHUNK: usize = 64 << 10;
const KEPT: usize = 4 << 10;

/// What comes before the first mark: it tells why a command was never begun.
#[derive(Default)]
pub(super) struct Noise(Mutex<Vec<u8>>);

impl Noise {
    fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let room = KEPT.saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A stream of which only what stands between the marks is seen.
pub(super) struct Frame<'a, R> {
    stream: R,
    begin: Vec<u8>,
    /// None if it is seen to its end.
    end: Option<Vec<u8>>,
    noise: &'a Noise,
    state: State,
    chunk: Vec<u8>,
    /// What has been read and not judged: a mark may come in pieces.
    held: Vec<u8>,
    /// What may be handed on, and how much of it has been.
    ready: Vec<u8>,
    at: usize,
}

#[derive(PartialEq, Eq)]
enum State {
    Before,
    Inside,
    After,
}

impl<'a, R> Frame<'a, R> {
    pub(super) fn new(stream: R, begin: Vec<u8>, end: Option<Vec<u8>>, noise: &'a Noise) -> Self {
        let (chunk, held, ready) = (vec![0; CHUNK], Vec::new(), Vec::new());
        Self { stream, begin, end, noise, state: State::Before, chunk, held, ready, at: 0 }
    }

    /// Judges what is held; at the end of the stream no mark is waited for any more.
    fn judge(&mut self, at_end: bool) {
        if self.state == State::Before {
            match memmem::find(&self.held, &self.begin) {
                Some(at) => {
                    self.noise.add(&self.held[..at]);
                    self.held.drain(..at + self.begin.len());
                    self.state = State::Inside;
                }
                None => {
                    let open = if at_end { 0 } else { beginning_of(&self.begin, &self.held) };
                    let noise = self.held.len() - open;
                    self.noise.add(&self.held[..noise]);
                    self.held.drain(..noise);
                }
            }
        }
        if self.state == State::Inside {
            let end = self.end.as_deref().unwrap_or_default();
            match (!end.is_empty()).then(|| memmem::find(&self.held, end)).flatten() {
                Some(at) => {
                    self.ready.extend_from_slice(&self.held[..at]);
                    self.state = State::After;
                }
                None => {
                    let open = if at_end { 0 } else { beginning_of(end, &self.held) };
                    let sure = self.held.len() - open;
                    self.ready.extend_from_slice(&self.held[..sure]);
                    self.held.drain(..sure);
                }
            }
        }
        if self.state == State::After {
            self.held.clear();
        }
    }
}

/// How many bytes at the end of what was read may be the beginning of the mark.
fn beginning_of(mark: &[u8], read: &[u8]) -> usize {
    (1..mark.len().min(read.len() + 1)).rev().find(|count| read.ends_with(&mark[..*count])).unwrap_or(0)
}

impl<R: AsyncRead + Unpin> AsyncRead for Frame<'_, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.at < this.ready.len() {
                let count = buffer.remaining().min(this.ready.len() - this.at);
                buffer.put_slice(&this.ready[this.at..this.at + count]);
                this.at += count;
                return Poll::Ready(Ok(()));
            }
            this.ready.clear();
            this.at = 0;
            let mut chunk = ReadBuf::new(&mut this.chunk);
            match Pin::new(&mut this.stream).poll_read(cx, &mut chunk) {
                Poll::Ready(Ok(())) if chunk.filled().is_empty() => {
                    this.judge(true);
                    if this.ready.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Ok(())) => {
                    this.held.extend_from_slice(chunk.filled());
                    this.judge(false);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Frame, Noise};
    use tokio::io::AsyncReadExt as _;

    /// What is seen of text that comes in pieces of so many bytes.
    async fn seen(text: &str, piece: usize) -> (String, String) {
        let mut stream = tokio_test_stream(text, piece);
        let noise = Noise::default();
        let mut seen = String::new();
        let (begin, end) = (b"MARK begins\n".to_vec(), Some(b"MARK ends\n".to_vec()));
        Frame::new(&mut stream, begin, end, &noise).read_to_string(&mut seen).await.expect("read");
        (seen, String::from_utf8_lossy(&noise.into_bytes()).into_owned())
    }

    fn tokio_test_stream(text: &str, piece: usize) -> impl tokio::io::AsyncRead + Unpin {
        let (mut into, out) = tokio::io::duplex(piece);
        let text = text.to_owned();
        tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            into.write_all(text.as_bytes()).await.expect("written");
        });
        out
    }

    #[tokio::test]
    async fn only_what_stands_between_the_marks_is_seen_however_it_comes() {
        for piece in [1, 2, 3, 7, 11, 12, 13, 1000] {
            for (text, inside, before) in [
                ("hello\nMARK begins\nout\nMARK ends\nbye\n", "out\n", "hello\n"),
                ("MARK begins\nMARK MARK endsMARK ends\n", "MARK MARK ends", ""),
                ("MARK begins\nlost in the midd", "lost in the midd", ""),
                ("MARK begins\nthis MARK e", "this MARK e", ""),
                ("MARMARK begins\nMARK ends\n", "", "MAR"),
                ("no shell here\nMARK beg", "", "no shell here\nMARK beg"),
                ("", "", ""),
            ] {
                let found = seen(text, piece).await;
                assert_eq!(found, (inside.to_owned(), before.to_owned()), "{text:?} by {piece}");
            }
        }
    }
}
