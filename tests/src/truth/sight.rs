//! What can be seen of files and databases.

use crate::lab::Manifest;
use rustix::{
    fs::{lgetxattr, llistxattr},
    io::Errno,
};
use sha2::{Digest as _, Sha256};
use std::{
    fmt::Write as _,
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

/// How `sqlite3` is asked for all that is in a database: types, bytes and ids of rows included.
pub(super) const DUMP: &str = ".dump --preserve-rowids";

/// Adds all that is in a folder, hidden files and what is behind mounts included. Of SQLite databases, which come back,
/// the bytes do not count, and neither do the files beside them in which their last transactions are.
pub(super) fn files(folder: &Path, shown: &dyn Fn(&Path) -> String, manifest: &mut Manifest) -> Vec<PathBuf> {
    let mut databases = Vec::new();
    let mut beside = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            // It vanished meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        let kind = found.file_type();
        let mut facts = format!("{:o} {}:{}", found.mode(), found.uid(), found.gid());
        if kind.is_dir() {
            let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            waiting.extend(entries.flatten().map(|entry| entry.path()));
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).unwrap_or_default();
            let _fits = write!(facts, " -> {}", target.display());
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap_or_default();
            let _fits = write!(facts, " links {}", found.nlink());
            if content.starts_with(b"SQLite format 3\0") {
                beside.extend(["-wal", "-shm"].map(|end| format!("{}{end}", path.display())));
                databases.push(path.clone());
            } else {
                let _fits = write!(facts, " {} bytes {}", content.len(), hex(&Sha256::digest(&content)));
            }
        } else if kind.is_fifo() || kind.is_socket() {
            facts.push_str(" special");
        } else {
            let _fits = write!(facts, " device {:x}", found.rdev());
        }
        facts.push_str(&attributes(&path));
        manifest.add(shown(&path), facts);
    }
    for path in beside {
        manifest.remove(&shown(Path::new(&path)));
    }
    databases
}

/// Extended attributes, and so also access control lists.
fn attributes(path: &Path) -> String {
    let mut names = vec![0; 65536];
    let count = match llistxattr(path, &mut names[..]) {
        Ok(count) => count,
        Err(Errno::NOTSUP | Errno::NOENT) => 0,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let mut told = String::new();
    let mut names: Vec<_> = names[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    for name in names {
        let mut value = vec![0; 65536];
        let length = lgetxattr(path, name, &mut value[..]).unwrap_or(0);
        let _fits = write!(told, " {}={}", String::from_utf8_lossy(name), hex(&value[..length]));
    }
    told
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _fits = write!(text, "{byte:02x}");
        text
    })
}

/// Adds the lines of a dump, each with how often it is there. Counters of keys, which never go back, are no rows.
pub(super) fn rows(name: &str, dump: &str, manifest: &mut Manifest) {
    for line in dump.lines().filter(|line| !line.contains("sqlite_sequence")) {
        manifest.count(format!("{name}: {line}"));
    }
}
