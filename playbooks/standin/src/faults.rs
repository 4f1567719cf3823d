//! The faults the daemon can be told to make: each was seen in the field, or is what the field fears.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A file of these, all optional, e.g. `{"fail_transfer": "rsync: connection unexpectedly closed"}`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Faults {
    /// End with exit code 1 at once. Under `Restart=always` systemd then shows `activating (auto-restart)`.
    pub(crate) crash_at_start: bool,
    /// Every transfer fails with this message.
    pub(crate) fail_transfer: Option<String>,
    /// The copy is taken for damaged: the row stays at `downloading` for ever, and the cause is only an
    /// ERROR line.
    pub(crate) checksum_mismatch: bool,
    /// Take no rows.
    pub(crate) hang: bool,
    /// Wait this long within each transfer, after the row says `downloading`.
    pub(crate) slow_ms: u64,
    /// Go on after SIGTERM.
    pub(crate) ignore_sigterm: bool,
}

/// The file, read again before each sync.
#[derive(Debug)]
pub(crate) struct FaultsFile {
    path: Option<PathBuf>,
    current: Faults,
}

impl FaultsFile {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self { path, current: Faults::default() }
    }

    /// What holds now. After an error the previous faults hold on: the file may be half written, and will
    /// be whole at the next sync.
    pub(crate) fn refresh(&mut self) -> Result<&Faults, String> {
        if let Some(path) = &self.path {
            self.current = read(path)?;
        }
        Ok(&self.current)
    }

    pub(crate) fn current(&self) -> &Faults {
        &self.current
    }
}

fn read(path: &Path) -> Result<Faults, String> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| format!("faults file `{}`: {error}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Faults::default()),
        Err(error) => Err(format!("faults file `{}`: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Faults, FaultsFile};

    #[test]
    fn the_file_is_read_again_and_a_broken_one_changes_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("faults.json");
        let mut file = FaultsFile::new(Some(path.clone()));
        assert_eq!(file.refresh(), Ok(&Faults::default()), "an absent file means none");

        std::fs::write(&path, r#"{"hang": true, "slow_ms": 5}"#).expect("write");
        let wanted = Faults { hang: true, slow_ms: 5, ..Faults::default() };
        assert_eq!(file.refresh(), Ok(&wanted));

        std::fs::write(&path, r#"{"hang": tr"#).expect("write");
        assert!(file.refresh().is_err());
        assert_eq!(file.current(), &wanted);

        std::fs::remove_file(&path).expect("remove");
        assert_eq!(file.refresh(), Ok(&Faults::default()));
    }

    #[test]
    fn an_unknown_fault_is_refused() {
        assert!(serde_json::from_str::<Faults>(r#"{"hangs": true}"#).is_err());
    }
}
