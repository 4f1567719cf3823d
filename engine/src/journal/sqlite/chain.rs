//! Checksums: each record's covers the one before it, so that nothing can be missing in between.

use sha2::{Digest, Sha256};

/// The checksum of these texts, each set off from the next.
pub(super) fn sum(texts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The checksum of a record that follows one with that checksum.
pub(super) fn next(last: &str, seq: u64, at_ms: u64, event: &str) -> String {
    sum(&[last, &seq.to_string(), &at_ms.to_string(), event])
}
