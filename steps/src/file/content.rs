//! What created files hold: drawn from a seed, so that a half-written file can be told from another's.

use super::{Action, Content, Intent, Params};
use crate::hex::hex;
use engine::{StepError, step::Context};
use sha2::{Digest, Sha256};
use std::time::{SystemTime, UNIX_EPOCH};

/// How much is made at once.
pub(super) const CHUNK: usize = 256 * 1024;

/// A name that no other step of any run has. A step that nobody takes back has the same one however often it is tried: what
/// a try left behind that was killed is then found and removed.
pub(super) fn unique(cx: &Context) -> String {
    if cx.is_final() {
        let text = format!("{} {} {} final", cx.services.run.id, cx.step, cx.undoing);
        return hex(&Sha256::digest(text.as_bytes()));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let text = format!("{} {} {} {now} {}", cx.services.run.id, cx.step, cx.attempt, std::process::id());
    hex(&Sha256::digest(text.as_bytes()))
}

/// The SHA-256 of what the step makes, as far as its intent tells.
pub(super) async fn wanted(
    params: &Params,
    action: &Action<'_>,
    intent: &Intent,
) -> Result<Option<String>, StepError> {
    match action {
        Action::Create(_) => {
            let source = Source::of(params, intent);
            super::local::blocking(move || Ok(Some(source.sha256()))).await
        }
        _ => Ok(intent.sha256.clone()),
    }
}

/// The content of a created file, piece by piece.
pub(super) enum Source {
    Text(Vec<u8>),
    Zero { left: u64 },
    Random { left: u64, reader: Box<blake3::OutputReader> },
}

impl Source {
    pub(super) fn of(params: &Params, intent: &Intent) -> Self {
        if let Some(text) = &params.text {
            return Self::Text(text.clone().into_bytes());
        }
        let left = params.size.unwrap_or_default().0;
        let content = if params.sparse { Content::Zero } else { params.content.unwrap_or_default() };
        match content {
            Content::Zero => Self::Zero { left },
            Content::Random => {
                let mut hasher = blake3::Hasher::new_derive_key("shakedown file content 1");
                hasher.update(intent.seed.as_bytes());
                Self::Random { left, reader: Box::new(hasher.finalize_xof()) }
            }
        }
    }

    pub(super) fn total(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Zero { left } | Self::Random { left, .. } => *left,
        }
    }

    /// The next piece; empty at the end.
    pub(super) fn next(&mut self) -> Vec<u8> {
        match self {
            Self::Text(text) => std::mem::take(text),
            Self::Zero { left } => {
                let size = usize::try_from(*left).unwrap_or(CHUNK).min(CHUNK);
                *left -= size as u64;
                vec![0; size]
            }
            Self::Random { left, reader } => {
                let size = usize::try_from(*left).unwrap_or(CHUNK).min(CHUNK);
                *left -= size as u64;
                let mut piece = vec![0; size];
                reader.fill(&mut piece);
                piece
            }
        }
    }

    /// The SHA-256 of all of it.
    pub(super) fn sha256(mut self) -> String {
        let mut hasher = Sha256::new();
        loop {
            let piece = self.next();
            if piece.is_empty() {
                return hex(&hasher.finalize());
            }
            hasher.update(&piece);
        }
    }
}
