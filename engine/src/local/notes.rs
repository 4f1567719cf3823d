//! What prompts and the leftovers check have to know of failures and undos: a fold over the events of a run.

use super::{
    outputs::{Outputs, Touched},
    setup::FailedCheck,
};
use crate::{
    error::StepError,
    event::{Decision, Outcome, Phase, RunEvent, StepId},
    expr::Scope,
    plan::{Plan, PlannedStep, render, scope_of},
    playbook::Keep,
    schedule::{Scheduler, StepState, UndoState},
    step::Undone,
};
use std::collections::BTreeMap;

/// What is kept of the events.
#[derive(Debug, Default)]
pub(super) struct Notes {
    prechecks: BTreeMap<StepId, FailedCheck>,
    cleanups: BTreeMap<StepId, StepError>,
    undos: BTreeMap<StepId, Result<Undone, StepError>>,
    /// How many records the journal has lost.
    lost: u64,
}

/// An effect of the run, as the leftovers check must know it.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) step: StepId,
    pub(super) kept: bool,
    /// How its undo ended, if it has.
    pub(super) undo: Option<Result<Undone, StepError>>,
    /// Its attempts, the latest first.
    pub(super) attempts: Vec<Touched>,
}

/// Everything that the leftovers check looks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    pub(super) effects: Vec<Claim>,
    /// Effects that nothing takes back, with how often each was tried.
    pub(super) without_undo: Vec<(StepId, usize)>,
    /// Cleanup steps that failed for good.
    pub(super) cleanups: Vec<(StepId, StepError)>,
    /// How many records the journal has lost: what they told of is not known.
    pub(super) lost: u64,
}

impl Notes {
    /// Takes in an event that `outputs` has already taken in.
    pub(super) fn apply(&mut self, plan: &Plan, outputs: &Outputs, base: &Scope, event: &RunEvent) {
        match event {
            RunEvent::StepFinished { step, outcome, .. } => self.failed(plan, outputs, base, *step, outcome),
            RunEvent::UndoFinished { step, result, .. } => {
                self.undos.insert(*step, result.clone());
            }
            RunEvent::RunTakenOver { lost, .. } => self.lost += lost,
            RunEvent::PrecheckDecided { decision: Decision::Recheck } => self.prechecks.clear(),
            _ => {}
        }
    }

    fn failed(&mut self, plan: &Plan, outputs: &Outputs, base: &Scope, id: StepId, outcome: &Outcome) {
        let (Outcome::Failed { error, .. } | Outcome::Unknown { error }) = outcome else { return };
        let step = plan.step(id);
        match step.phase {
            Phase::Precheck => {
                let mut scope = scope_of(plan, step, base);
                scope.set("steps", outputs.visible_to(plan, step));
                let hint = step.hint.as_ref().and_then(|hint| render(hint, &scope).ok());
                let hint = hint.and_then(|hint| hint.as_str().map(str::to_owned));
                let failed = FailedCheck { step: step.id.clone(), error: error.clone(), hint };
                self.prechecks.insert(id, failed);
            }
            Phase::Cleanup => {
                self.cleanups.insert(id, error.clone());
            }
            Phase::Prepare | Phase::Monitor | Phase::OnFailure => {}
        }
    }

    /// The prechecks that failed, in the order of the playbook.
    pub(super) fn failed_prechecks(&self) -> Vec<FailedCheck> {
        self.prechecks.values().cloned().collect()
    }

    /// What the leftovers check has to look for.
    pub(super) fn claims(&self, plan: &Plan, scheduler: &Scheduler, outputs: &Outputs) -> Claims {
        let (effects, others): (Vec<_>, Vec<_>) =
            outputs.all_touched().into_iter().partition(|id| plan.step(*id).is_undone());
        // What clears away is meant to last, and so is what is kept whatever comes.
        let stays = |step: &PlannedStep| step.phase == Phase::Cleanup || step.keep == Keep::Always;
        let others = others.into_iter().filter(|id| !stays(plan.step(*id)));
        let without_undo = others.map(|id| (id, outputs.touched(id).len())).collect();
        let effects = effects.into_iter().map(|step| Claim {
            step,
            kept: scheduler.undo(step) == UndoState::Kept,
            undo: self.undos.get(&step).cloned(),
            attempts: outputs.touched(step),
        });
        let failed = |id: StepId| matches!(scheduler.step(id), StepState::Failed | StepState::Unknown);
        let cleanups =
            self.cleanups.iter().filter(|(id, _)| failed(**id) && !plan.step(**id).continue_on_error);
        Claims {
            effects: effects.collect(),
            without_undo,
            cleanups: cleanups.map(|(id, error)| (*id, error.clone())).collect(),
            lost: self.lost,
        }
    }
}
