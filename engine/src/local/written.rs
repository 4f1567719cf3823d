//! What undos note in the journal, and a written undo at work. That is a step like any other, so it has an intent of its own, durable before it acts: after a kill
//! or a lost connection in the middle of it, its step type tells whether it has acted, and it does not act twice.

use super::{outputs::Touched, undo::Workshop};
use crate::{
    error::StepError,
    event::UndoStep,
    host::{BoxFuture, Cancel},
    plan::PlannedStep,
    step::{Amend, Settled, Undone},
};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// What an undo makes durable of the attempt that it takes back.
pub(super) enum Noted {
    /// A better intent of the attempt itself, by the undo that its step type derives.
    Attempt(Value),
    /// The intent of its written undo.
    Undo(Value),
}

/// Takes the attempt and what is noted of it; false if the run belongs to another by now.
type TakeNote = dyn Fn(u32, Noted) -> BoxFuture<'static, bool> + Send + Sync;

/// Where the intents of undos are made durable.
#[derive(Clone)]
pub(super) struct Note(Arc<TakeNote>);

impl Note {
    pub(super) fn new(take: impl Fn(u32, Noted) -> BoxFuture<'static, bool> + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// For who only looks.
    pub(super) fn none() -> Self {
        Self::new(|_, _| Box::pin(async { true }))
    }

    /// What takes better intents of an attempt from its undo.
    pub(super) fn amend(&self, attempt: u32) -> Amend {
        let note = self.clone();
        Amend::new(move |intent| note.0(attempt, Noted::Attempt(intent)))
    }
}

/// The last intent of the undo of one attempt, from the journal or from a try before.
#[derive(Clone)]
pub(super) struct LastIntent(Arc<Mutex<Option<Value>>>);

impl LastIntent {
    pub(super) fn of(attempt: &Touched) -> Self {
        Self(Arc::new(Mutex::new(attempt.undoing.clone())))
    }

    pub(super) fn forget(&self) {
        self.set(None);
    }

    fn get(&self) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, intent: Option<Value>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = intent;
    }
}

impl Workshop {
    /// Runs the written undo of an attempt, unless an earlier try of it has already done its work.
    pub(super) async fn run_written(
        &self,
        step: &PlannedStep,
        attempt: &Touched,
        written: &UndoStep,
        last: &LastIntent,
        cancel: &Cancel,
    ) -> Result<Undone, StepError> {
        let kind = self.kind(&written.kind)?;
        let mut cx = self.context(step, attempt.attempt, written.on.as_deref(), cancel).await?;
        cx.undoing = true;
        if let Some(intent) = last.get()
            && let Settled::Happened(_) = kind.settle(&cx, &written.params, &intent).await?
        {
            return Ok(Undone::Removed);
        }
        let (note, number, memory) = (self.note.clone(), attempt.attempt, last.clone());
        cx.amend = Amend::new(move |intent| {
            memory.set(Some(intent.clone()));
            note.0(number, Noted::Undo(intent))
        });
        let intent = kind.intend(&cx, &written.params).await?;
        cx.amend(&intent).await?;
        kind.run(&cx, &written.params, &intent).await.map(|_| Undone::Removed)
    }
}
