//! Disk space that is really there.

use nix::{fcntl::posix_fallocate, sys::statvfs::statvfs};
use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

/// A file system with less free space, in bytes, counts as full: SQLite needs so much for its shared memory alone.
const FULL: u64 = 64 * 1024;

/// Whether the file system on which `path` is has no space left.
#[must_use]
pub fn is_full(path: &Path) -> bool {
    let stat = statvfs(path).or_else(|_| statvfs(path.parent().unwrap_or(Path::new("/"))));
    stat.is_ok_and(|stat| stat.blocks_available().saturating_mul(stat.fragment_size()) < FULL)
}

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
