//! A folder as one checksum: a list of what is in it, in an order of its own, and the checksum of that list.

use super::algorithm::{Algorithm, Sums};

/// What an entry of a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file, with a digest for each algorithm.
    File(Vec<String>),
    Folder,
    /// A symbolic link, with its target.
    Link(Vec<u8>),
    /// A socket, a pipe or a device.
    Other,
}

/// An entry, with its path below the folder: `./NAME` or `./FOLDER/NAME`. Names are bytes, as they are on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
}

/// The checksums of the list of these entries, a digest for each algorithm. The list is what the documentation of the step
/// type says: no two trees with another name or another content have the same one.
pub(super) fn digests(mut entries: Vec<Entry>, algorithms: &[Algorithm]) -> Vec<String> {
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let one = |(at, algorithm): (usize, &Algorithm)| {
        let mut sums = Sums::new(&[*algorithm]);
        for entry in &entries {
            let word = match &entry.kind {
                Kind::File(digests) => digests.get(at).map_or("", String::as_str),
                Kind::Folder => "folder",
                Kind::Link(_) => "link",
                Kind::Other => "other",
            };
            sums.update(word.as_bytes());
            sums.update(b"  ");
            sums.update(&entry.path);
            sums.update(b"\0");
            if let Kind::Link(target) = &entry.kind {
                sums.update(target);
                sums.update(b"\0");
            }
        }
        sums.finish().concat()
    };
    algorithms.iter().enumerate().map(one).collect()
}
