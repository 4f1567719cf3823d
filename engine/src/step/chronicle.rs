//! What the steps of a run have intended so far, as its journal has it: where several of them act on one thing, none can
//! be judged by its own intent alone.

use serde_json::Value;
use std::sync::{Arc, PoisonError, RwLock};

/// One attempt that may have changed something.
#[derive(Clone, Debug)]
pub struct Intended {
    /// Its step type.
    pub kind: String,
    /// The step's id.
    pub step: String,
    /// Which of its attempts.
    pub attempt: u32,
    /// The host that `on` names.
    pub on: Option<String>,
    /// Its rendered parameters.
    pub params: Value,
    /// Its last intent.
    pub intent: Value,
    /// Whether the undo that its step type derives takes it back; not so for a written undo, nor in `cleanup`.
    pub is_derived: bool,
}

/// The attempts of a run, in the order in which they began. The clones share it.
#[derive(Clone, Debug, Default)]
pub struct Chronicle(Arc<RwLock<Vec<Intended>>>);

impl Chronicle {
    /// Those of one step type.
    #[must_use]
    pub fn of(&self, kind: &str) -> Vec<Intended> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|it| it.kind == kind).cloned().collect()
    }

    /// Another one has begun.
    pub fn add(&self, intended: Intended) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(intended);
    }

    /// An attempt has a better intent.
    #[cfg(feature = "local")]
    pub(crate) fn amend(&self, step: &str, attempt: u32, intent: &Value) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for it in all.iter_mut().filter(|it| it.step == step && it.attempt == attempt) {
            it.intent = intent.clone();
        }
    }

    /// What this attempt, or all of the step, did is nobody's business any more: it never was, or is kept.
    #[cfg(feature = "local")]
    pub(crate) fn forget(&self, step: &str, attempt: Option<u32>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|it| it.step != step || attempt.is_some_and(|attempt| it.attempt != attempt));
    }
}
