//! A bound on what a server may answer: the library makes room for as much as a reply says that it will have, whether it comes or
//! not.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The largest text in a reply, in bytes, the most parts of a list or map, and the most bytes on one connection, which is there
/// for one look or one change.
const MAX_TEXT: u64 = 16 << 20;
const MAX_PARTS: u64 = 200_000;
const MAX_ALL: u64 = 32 << 20;
/// The longest line of what is no text: a number, an error, a length.
const MAX_LINE: usize = 64 << 10;

/// Where in the replies of a server its stream is.
#[derive(Default)]
pub(super) struct Replies {
    line: Vec<u8>,
    /// How many bytes of a text are still to come, with its end of line.
    text: u64,
    all: u64,
    /// Parts on this connection, so that lists in lists do not multiply.
    parts: u64,
}

impl Replies {
    /// # Errors
    /// What these bytes begin is more than a step reads.
    fn read(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.all += bytes.len() as u64;
        bound(self.all, MAX_ALL, "bytes")?;
        while let Some(first) = bytes.first() {
            if self.text > 0 {
                let count = self.text.min(bytes.len() as u64);
                self.text -= count;
                bytes = &bytes[usize::try_from(count).unwrap_or(bytes.len())..];
                continue;
            }
            bytes = &bytes[1..];
            if *first != b'\n' {
                self.line.push(*first);
                bound(self.line.len() as u64, MAX_LINE as u64, "bytes in a line")?;
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            let Some((kind, number)) = line.split_first() else { continue };
            // A length of -1 stands for nothing; one that is no number is the library's to refuse.
            let number = std::str::from_utf8(number).ok().and_then(|number| number.parse::<u64>().ok());
            match (kind, number) {
                (b'$' | b'=' | b'!' | b';', Some(length)) => {
                    bound(length, MAX_TEXT, "bytes in a value")?;
                    // `;` is a part of a text that comes in parts; its last one is empty and has no end of line.
                    self.text = if *kind == b';' && length == 0 { 0 } else { length + 2 };
                }
                (b'*' | b'%' | b'~' | b'>' | b'|', Some(count)) => {
                    self.parts = self.parts.saturating_add(count);
                    bound(self.parts, MAX_PARTS, "parts")?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn bound(found: u64, most: u64, what: &str) -> io::Result<()> {
    match found <= most {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the server's answer has {found} {what}, at most {most} are read"),
        )),
    }
}

/// A stream on which a reply beyond the bounds is an error.
pub(super) struct Bounded<S> {
    stream: S,
    replies: Replies,
}

impl<S> Bounded<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, replies: Replies::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(self.replies.read(&buffer.filled()[before..])),
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::Replies;

    fn read(text: &[u8], piece: usize) -> Result<(), String> {
        let mut replies = Replies::default();
        text.chunks(piece).try_for_each(|piece| replies.read(piece)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_length_beyond_the_bounds_is_refused_before_anything_comes() {
        for piece in [1, 3, 1000] {
            for (text, why) in [
                (&b"$900000000\r\n"[..], "bytes in a value"),
                (b"+OK\r\n*2\r\n$3\r\n$99\r\n*200001\r\n", "parts"),
                (b"%1\r\n*100000\r\n*100000\r\n", "parts"),
                (b"$?\r\n;20000000\r\n", "bytes in a value"),
                (b"*18446744073709551615\r\n*1\r\n", "parts"),
            ] {
                let error = read(text, piece).expect_err("is refused");
                assert!(error.contains(why), "{error}");
            }
            // What looks like a length inside of a text is none.
            assert_eq!(read(b"$12\r\n$900000000\r\n\r\n:900000000\r\n$-1\r\n*-1\r\n_\r\n", piece), Ok(()));
            assert_eq!(read(b"$?\r\n;2\r\nab\r\n;0\r\n*1\r\n+ok\r\n", piece), Ok(()));
        }
        assert!(read(&[b'+'; 70_000], 1000).is_err(), "a line without an end");
        assert!(read(&b"+OK\r\n".repeat(7_000_000), 100_000).is_err(), "answers without an end");
    }
}
