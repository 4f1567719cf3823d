//! Disk space that is really there.

use nix::fcntl::posix_fallocate;
use std::{
    fs::File,
    io::{self, Write},
};

/// Makes a new file take up `bytes`, so that they are there when they are given back.
///
/// # Errors
/// They are not there.
pub fn allocate(file: &mut File, bytes: u64) -> io::Result<()> {
    let length = i64::try_from(bytes).unwrap_or(i64::MAX);
    match posix_fallocate(&*file, 0, length) {
        Ok(()) => Ok(()),
        // A file system that cannot: zeros take up space too, unless it compresses them.
        Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EINVAL) => {
            let zeros = vec![0u8; 64 * 1024];
            let mut left = bytes;
            while left > 0 {
                let count = usize::try_from(left).unwrap_or(zeros.len()).min(zeros.len());
                file.write_all(&zeros[..count])?;
                left -= count as u64;
            }
            file.sync_all()
        }
        Err(errno) => Err(errno.into()),
    }
}
