//! The mounts that stand on a file system: each hides what lies under it. A search goes round them, so one that finds nothing
//! proves nothing once a mount stands there that did not when the thing was made.

use crate::hex::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// A short digest of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mounts(BTreeSet<String>);

impl Mounts {
    /// Those of this machine that stand on the file system of a device.
    pub(crate) fn here(device: u64) -> Option<Self> {
        Some(Self::parse(&std::fs::read("/proc/self/mountinfo").ok()?, device))
    }

    /// The same as `mountinfo` of any machine tells it.
    pub(crate) fn parse(text: &[u8], device: u64) -> Self {
        let wanted = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let lines = || {
            text.split(|byte| *byte == b'\n').filter_map(|line| {
                let mut words = line.split(|byte| *byte == b' ');
                let [id, parent, device, root, at] =
                    std::array::from_fn(|_| words.next().unwrap_or_default());
                (!at.is_empty()).then_some((id, parent, device, root, at))
            })
        };
        let on: BTreeSet<&[u8]> = lines().filter(|it| it.2 == wanted.as_bytes()).map(|(id, ..)| id).collect();
        let standing = lines().filter(|(_, parent, ..)| on.contains(parent));
        Self(
            standing
                .map(|(id, parent, device, root, at)| {
                    hex(&Sha256::digest([id, parent, device, root, at].join(&b' '))[..6])
                })
                .collect(),
        )
    }

    /// Whether none stands there that did not then.
    pub(crate) fn are_of(&self, then: Option<&Self>) -> bool {
        self.0.is_empty() || then.is_some_and(|then| self.0.is_subset(&then.0))
    }
}

#[cfg(test)]
mod tests {
    use super::Mounts;

    #[test]
    fn what_is_new_on_that_file_system_is_told() {
        let before = "20 1 8:1 / / rw - ext4 d rw\n21 20 0:5 / /proc rw - proc p rw\n30 21 0:9 / /proc/x rw - t t rw\n";
        let device = rustix::fs::makedev(8, 1);
        let of = |text: &str| Mounts::parse(text.as_bytes(), device);
        let then = of(before);
        assert!(of(before).are_of(Some(&then)));
        let more = |line: &str| of(&format!("{before}{line}"));
        // A part of the same file system over a folder of it, and another over the whole of it.
        assert!(!more("40 20 8:1 /q /d rw - ext4 d rw\n").are_of(Some(&then)));
        assert!(!more("41 20 0:44 / / rw - tmpfs t rw\n").are_of(Some(&then)));
        assert!(more("42 30 0:45 / /proc/x/y rw - tmpfs t rw\n").are_of(Some(&then)), "on another");
        assert!(of("20 1 8:1 / / rw - ext4 d rw\n").are_of(Some(&then)), "one is gone");
        assert!(!of(before).are_of(None));
        assert!(of("20 1 8:1 / / rw - ext4 d rw\n").are_of(None), "none stands on it");
    }
}
