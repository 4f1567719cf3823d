//! What is known before a change, and the change with the mark that tells whether it happened.

use super::{Action, Output, hash, link::Link, origin::Origin, push, set, stream};
use engine::StepError;
use serde::{Deserialize, Serialize};

/// What was there before, so that it can be put back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// Nothing that this step type takes back.
    Nothing,
    /// Of `set`.
    Set(set::Before),
    /// Of `hash`.
    Hash(hash::Before),
    /// Of `push`.
    Push(push::Before),
    /// Of `add`.
    Add(stream::Before),
}

impl Intent {
    pub(super) fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Nothing => None,
            Self::Set(before) => Some(&before.origin),
            Self::Hash(before) => Some(&before.origin),
            Self::Push(before) => Some(&before.origin),
            Self::Add(before) => Some(&before.origin),
        }
    }

    pub(super) fn with(&self, change: impl FnOnce(&Origin) -> Origin) -> Self {
        let mut intent = self.clone();
        match &mut intent {
            Self::Nothing => {}
            Self::Set(before) => before.origin = change(&before.origin),
            Self::Hash(before) => before.origin = change(&before.origin),
            Self::Push(before) => before.origin = change(&before.origin),
            Self::Add(before) => before.origin = change(&before.origin),
        }
        intent
    }
}

/// Makes a change that undoes itself.
pub(super) async fn change(
    link: &mut Link<'_>,
    action: &Action<'_>,
    intent: &Intent,
) -> Result<Output, StepError> {
    let made = match (action, intent) {
        (Action::Set(set), Intent::Set(before)) => set.run(link, before).await,
        (Action::Hash(hash), Intent::Hash(before)) => hash.run(link, before).await,
        (Action::Push(push), Intent::Push(before)) => push.run(link, before).await,
        (Action::Add(add), Intent::Add(before)) => add.run(link, before).await,
        _ => Err(StepError::internal("the intent of a `redis` step is of another action")),
    };
    match made {
        // Of a transaction the server carries out what it can: a mark can be there without its effect.
        Err(error) if !error.outcome_unknown => {
            if let Some(origin) = intent.origin() {
                // The first error is the one to tell.
                let _gone = origin.clear(link).await;
            }
            // Who failed because another was first must not take what is there for its own.
            Err(error.without_effect())
        }
        made => made,
    }
}

/// Notes that a change has happened, and takes its mark away.
pub(super) async fn finish(link: &mut Link<'_>, intent: &Intent, output: &Output) -> Result<(), StepError> {
    let mut done = intent.with(Origin::done);
    match &mut done {
        Intent::Add(before) => before.is_at(output.id.clone()),
        Intent::Push(before) => before.put(output.puts),
        _ => {}
    }
    let noted = async {
        link.cx.amend(&done).await?;
        intent.origin().ok_or_else(|| StepError::internal("an effect without an origin"))?.clear(link).await
    };
    // The change itself has happened, whatever becomes of its mark: that is found again by it.
    noted.await.map_err(StepError::unknown_outcome)
}
