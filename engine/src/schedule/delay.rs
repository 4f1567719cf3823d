//! How long to wait between attempts.

use crate::{event::StepId, playbook::RetryPolicy};
use sha2::{Digest, Sha256};

/// A number drawn from bytes; always the same for the same bytes.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The delay after attempt `after`, before jitter, in milliseconds.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "delays are capped by max_delay and far below 2^53 milliseconds"
)]
fn base(retry: &RetryPolicy, after: u32) -> u64 {
    let exponent = i32::try_from(after.saturating_sub(1)).unwrap_or(i32::MAX);
    let grown = retry.delay.0 as f64 * retry.backoff.powi(exponent);
    grown.min(retry.max_delay.0 as f64) as u64
}

/// The longest delay after attempt `after`, in milliseconds: with all of the jitter.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "delays are capped by max_delay and far below 2^53 milliseconds"
)]
pub fn longest_delay(retry: &RetryPolicy, after: u32) -> u64 {
    let base = base(retry, after) as f64;
    (base * (1.0 + retry.jitter)) as u64
}

/// The delay after attempt `after`, in milliseconds. Jitter is drawn from the seed, the step and the attempt, so
/// that a replay gives the same delay.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "delays are capped by max_delay and far below 2^53 milliseconds"
)]
pub fn delay_before(retry: &RetryPolicy, seed: u64, step: StepId, after: u32) -> u64 {
    let mut bytes = seed.to_be_bytes().to_vec();
    bytes.extend(step.0.to_be_bytes());
    bytes.extend(after.to_be_bytes());
    let draw = (hash(&bytes) >> 11) as f64 / (1u64 << 53) as f64;
    let base = base(retry, after) as f64;
    (base * (1.0 + retry.jitter * (2.0 * draw - 1.0))).max(0.0) as u64
}
