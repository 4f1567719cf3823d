//! Where a run belongs: this machine, this start of it, this view of its file systems, this state folder. Elsewhere the same names
//! mean other things.

use serde::{Deserialize, Serialize};
use std::{fs, os::unix::fs::MetadataExt, path::Path, time::UNIX_EPOCH};

/// Where a run was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Place {
    /// The machine's own id; empty where there is none.
    machine: String,
    /// Which start of the machine.
    boot: String,
    /// The namespace of its mounts.
    mounts: String,
    /// Whether that is the one of the machine's first process; missing if that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    of_all: Option<bool>,
    /// The journal itself: a copy or a backup that was put back is another file.
    journal: String,
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn namespace(process: &str) -> Option<String> {
    let link = fs::read_link(format!("/proc/{process}/ns/mnt")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

impl Place {
    /// This one, for the journal under this path.
    pub(super) fn here(journal: &Path) -> Self {
        let mounts = namespace("self").unwrap_or_default();
        let born = |found: &fs::Metadata| {
            let born = found.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
            Some(format!("{} {}", found.ino(), born.as_nanos()))
        };
        // Without a time of birth an inode says little: it may be given out again.
        let journal = fs::metadata(journal).ok().as_ref().and_then(born).unwrap_or_default();
        let of_all = namespace("1").map(|first| first == mounts);
        Self {
            machine: text("/etc/machine-id"),
            boot: text("/proc/sys/kernel/random/boot_id"),
            mounts,
            of_all,
            journal,
        }
    }

    /// Whether that is another start of the machine than this one.
    pub(super) fn is_of_another_boot(&self, boot: &str) -> bool {
        self.boot != boot
    }

    pub(super) fn boot(&self) -> &str {
        &self.boot
    }

    /// Why a run that was made there does not belong here; nothing if it does.
    pub(super) fn elsewhere(&self, here: &Self) -> Option<&'static str> {
        let differ = |one: &str, other: &str| !one.is_empty() && !other.is_empty() && one != other;
        if differ(&self.machine, &here.machine) {
            return Some("it was made on another machine");
        }
        if differ(&self.journal, &here.journal) {
            return Some("this journal is a copy of the one in which it was begun");
        }
        let other_view = match self.boot == here.boot {
            true => differ(&self.mounts, &here.mounts),
            // The numbers of namespaces begin anew with each start.
            false => matches!((self.of_all, here.of_all), (Some(then), Some(now)) if then != now),
        };
        other_view.then_some("it was made where other file systems are mounted (a container, or a service with a view of its own)")
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn a_run_belongs_to_its_machine_its_mounts_and_its_journal() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("journal");
        std::fs::write(&path, "x").expect("written");
        let here = Place::here(&path);
        assert_eq!(here.elsewhere(&here), None);
        let copied = dir.path().join("copy");
        std::fs::copy(&path, &copied).expect("copied");
        let why = |then: Place| then.elsewhere(&here).unwrap_or_default();
        assert!(why(Place::here(&copied)).contains("copy"));
        assert!(why(Place { machine: "another".into(), ..here.clone() }).contains("machine"));
        assert!(why(Place { mounts: "mnt:[1]".into(), ..here.clone() }).contains("mounted"));
        // After a restart the number alone says nothing.
        let restarted = Place { boot: "earlier".into(), mounts: "mnt:[1]".into(), ..here.clone() };
        assert_eq!(restarted.elsewhere(&here), None);
        let service = Place { of_all: here.of_all.map(|of_all| !of_all), ..restarted };
        assert_eq!(service.elsewhere(&here).is_some(), here.of_all.is_some());
        // A version that noted nothing is taken at its word.
        assert_eq!(Place::default().elsewhere(&here), None);
    }
}
