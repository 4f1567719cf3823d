//! Where media go: the NAS over ssh, or a folder of this machine where there is no NAS.

mod local;
mod ssh;

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::stop::Stop;

#[derive(Debug)]
pub(crate) enum Destination {
    Local { base: PathBuf },
    Ssh { target: String, base: PathBuf },
}

/// Why a file did not arrive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TransferError {
    /// The daemon ends; nothing is wrong with the file.
    Stopped,
    /// What arrived is not what the row says.
    Checksum {
        expected: String,
        actual: String,
    },
    Failed(String),
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => write!(f, "the daemon ended during the transfer"),
            Self::Checksum { expected, actual } => {
                write!(f, "checksum mismatch: expected {expected}, got {actual}")
            }
            Self::Failed(message) => write!(f, "{message}"),
        }
    }
}

/// One file to send.
#[derive(Debug)]
pub(crate) struct Shipment<'a> {
    pub(crate) source: &'a Path,
    /// Below the base path.
    pub(crate) target: &'a Path,
    /// In hex; None: not checked.
    pub(crate) sha256: Option<&'a str>,
    pub(crate) timeout: Duration,
}

impl Destination {
    pub(crate) fn of(config: &Config, local_only: bool) -> Self {
        let nas = &config.nas_settings;
        if local_only || nas.host == "local" {
            Self::Local { base: nas.base_path.clone() }
        } else {
            Self::Ssh { target: nas.ssh_target(), base: nas.base_path.clone() }
        }
    }

    /// Sends the file: beside its place first, checked there, then renamed. Returns the target's sha256.
    pub(crate) fn put(&self, shipment: &Shipment<'_>, stop: &Stop) -> Result<String, TransferError> {
        match self {
            Self::Local { base } => local::put(base, shipment, stop),
            Self::Ssh { target, base } => ssh::put(target, base, shipment, stop),
        }
    }

    /// The sha256 of a file that was sent; None if it is not there or cannot be read.
    pub(crate) fn sha256(&self, target: &Path, stop: &Stop) -> Option<String> {
        match self {
            Self::Local { base } => sha256_of(&base.join(target)).ok(),
            Self::Ssh { target: host, base } => ssh::sha256(host, &base.join(target), stop).ok(),
        }
    }
}

/// In hex.
pub(crate) fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `file.txt` is written as `.file.txt.part` first, so that no reader takes half a file for the whole.
fn part_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

fn same_sum(expected: &str, actual: &str) -> bool {
    expected.trim().eq_ignore_ascii_case(actual)
}
