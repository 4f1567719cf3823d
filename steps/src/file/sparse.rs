//! Files that take no space: all holes.

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

/// Whether a file is as long as this and nothing but zero bytes. Holes are not read.
pub(super) fn is_untouched(file: &mut File, size: u64) -> io::Result<bool> {
    if file.metadata()?.len() != size {
        return Ok(false);
    }
    let mut at = 0i64;
    while let Some(data) = seek(file, at, Whence::SeekData)? {
        let end = seek(file, data, Whence::SeekHole)?.unwrap_or(data);
        file.seek(SeekFrom::Start(data.unsigned_abs()))?;
        if !is_zero(Read::by_ref(file).take((end - data).unsigned_abs()))? {
            return Ok(false);
        }
        at = end;
    }
    Ok(true)
}

/// The next data or the next hole; none behind the last.
fn seek(file: &File, from: i64, whence: Whence) -> io::Result<Option<i64>> {
    match lseek(file, from, whence) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn is_zero(mut bytes: impl Read) -> io::Result<bool> {
    let mut buffer = vec![0; super::content::CHUNK];
    loop {
        match bytes.read(&mut buffer)? {
            0 => return Ok(true),
            count if buffer[..count].iter().any(|byte| *byte != 0) => return Ok(false),
            _ => {}
        }
    }
}
