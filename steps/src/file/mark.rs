//! The mark that an undo sets before it takes something away. Killed before the record of that, it would find a missing
//! thing later, and only a search of the whole file system could tell that nobody had moved it.

use super::Intent;
use engine::{
    StepError,
    step::{Context, Undone},
};

/// Whether this undo has set the mark.
#[must_use]
pub(super) struct Mark(bool);

impl Mark {
    /// Sets it if something is about to be taken away. A journal that takes no more is no reason to leave it.
    pub(super) async fn set(cx: &Context, intent: &Intent, removes_it: bool) -> Self {
        let marked = Intent { removing: true, ..intent.clone() };
        Self(removes_it && !intent.removing && cx.amend(&marked).await.is_ok())
    }

    /// Takes it back if the thing is still there: what becomes of that later is another's doing.
    pub(super) async fn settled(self, cx: &Context, intent: &Intent, undone: &Result<Undone, StepError>) {
        let is_there = match undone {
            Ok(Undone::Left(_)) => true,
            Ok(Undone::Removed) => false,
            // What could not be seen now has been marked before by one that saw it.
            Ok(_) => self.0,
            Err(error) => !error.outcome_unknown,
        };
        if is_there && (self.0 || intent.removing) {
            let _best_effort = cx.amend(&Intent { removing: false, ..intent.clone() }).await;
        }
    }
}
