//! The checksums, each and several at once.

use crate::hex::hex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Digest;

/// A checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// SHA-1; only to compare with what others have noted.
    Sha1,
    /// MD5; only to compare with what others have noted.
    Md5,
    /// BLAKE3.
    Blake3,
}

impl Algorithm {
    /// The program of coreutils, and openssl's name for it.
    pub(super) fn tools(self) -> (&'static str, &'static str) {
        match self {
            Self::Sha256 => ("sha256sum", "sha256"),
            Self::Sha512 => ("sha512sum", "sha512"),
            Self::Sha1 => ("sha1sum", "sha1"),
            Self::Md5 => ("md5sum", "md5"),
            Self::Blake3 => ("b3sum", ""),
        }
    }
}

/// A checksum under way.
enum Running {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
    Sha1(sha1::Sha1),
    Md5(md5::Md5),
    Blake3(Box<blake3::Hasher>),
}

impl Running {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
            Algorithm::Sha1 => Self::Sha1(sha1::Sha1::new()),
            Algorithm::Md5 => Self::Md5(md5::Md5::new()),
            Algorithm::Blake3 => Self::Blake3(Box::new(blake3::Hasher::new())),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Sha512(hasher) => hex(&hasher.finalize()),
            Self::Sha1(hasher) => hex(&hasher.finalize()),
            Self::Md5(hasher) => hex(&hasher.finalize()),
            Self::Blake3(hasher) => hasher.finalize().to_hex().to_string(),
        }
    }
}

/// Several checksums of one stream of bytes.
pub(super) struct Sums(Vec<(Algorithm, Running)>);

impl Sums {
    pub(super) fn new(algorithms: &[Algorithm]) -> Self {
        Self(algorithms.iter().map(|algorithm| (*algorithm, Running::new(*algorithm))).collect())
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|(_, running)| running.update(bytes));
    }

    /// The digests in lower-case hex, in the order of the algorithms.
    pub(super) fn finish(self) -> Vec<String> {
        self.0.into_iter().map(|(_, running)| running.finish()).collect()
    }
}
