//! What a dead run left: listed from its journal, and looked for.

use super::{Faults, outputs::Outputs, undo::Workshop, written::Note};
use crate::{
    event::{ProgressSink, Record, UndoMethod},
    expr::{Outside, Scope},
    journal::JournalError,
    plan::Plan,
    schedule::{Scheduler, UndoState},
    step::{Leftover, Presence, Services},
};
use std::{path::PathBuf, sync::Arc};

/// What a dead run left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Effects whose undo has not ended, that may have happened.
    pub open: usize,
    /// What is there of them, as far as can be seen.
    pub left: Vec<Leftover>,
    /// Whether its cleanup has not ended.
    pub cleanup_is_due: bool,
}

/// Looks, read-only, for what a dead run left.
///
/// # Errors
/// Its journal is no history of this plan.
pub async fn survey(
    plan: &Plan,
    history: &[Record],
    services: Arc<Services>,
    outside: Arc<dyn Outside>,
) -> Result<Survey, JournalError> {
    let (mut scheduler, mut outputs) = (Scheduler::for_plan(plan), Outputs::new(plan));
    for record in history {
        scheduler.apply(&record.event).map_err(|illegal| {
            JournalError::new(format!("record {} of the journal: {illegal}", record.seq))
        })?;
        outputs.apply(&record.event);
    }
    let workshop = Workshop {
        services,
        scope: Arc::new(Scope::new(outside)),
        progress: ProgressSink::none(),
        locks: PathBuf::new(),
        faults: Faults::none(),
        note: Note::none(),
        chronicle: outputs.chronicle(),
    };
    let mut survey = Survey { cleanup_is_due: scheduler.owes_cleanup(), ..Survey::default() };
    for id in outputs.all_touched() {
        let step = plan.step(id);
        if !step.is_undone() || matches!(scheduler.undo(id), UndoState::Done | UndoState::Kept) {
            continue;
        }
        survey.open += 1;
        for attempt in outputs.touched(id) {
            let told = |why: String, remove_with: String| Leftover {
                what: format!("what `{}` did: {}", step.id, step.description.title),
                why,
                remove_with,
            };
            match (&attempt.intent.undo, workshop.look(step, &attempt).await) {
                (UndoMethod::Written(_), _) => {
                    survey.left.push(told("its written undo has not run".into(), String::new()));
                }
                (_, Presence::Gone) => {}
                (_, Presence::Present(left)) => survey.left.push(left),
                (_, Presence::Unknown(why)) => survey.left.push(told(why, String::new())),
            }
        }
    }
    workshop.services.close().await;
    Ok(survey)
}
