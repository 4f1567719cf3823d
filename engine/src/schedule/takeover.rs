//! Another process goes on with a run: what was under way is in doubt, and what was left is tried again.

use super::{Next, Scheduler, Stage, StepState, UndoState};
use crate::{
    error::ErrorClass,
    event::{Decision, Phase, Purpose, StepId},
    step::Recovery,
};

impl Scheduler {
    /// The owner of the run died. What was under way is in doubt.
    pub(super) fn take_over(&mut self, purpose: Purpose) {
        let giving_up = purpose == Purpose::Undo && !self.is_ending();
        for step in 0..self.nodes.len() {
            self.steps[step].issued = false;
            let (node, id) = (&self.nodes[step], StepId(step));
            match self.steps[step].state {
                // Its undo copes with both.
                StepState::Running { .. } | StepState::InDoubt { .. } if giving_up => {
                    self.finish(id, StepState::Unknown);
                }
                // The same attempt again: nothing of it can be left.
                StepState::Running { attempt } if !node.effect => {
                    self.finish(id, StepState::Lost { attempt });
                }
                // What clears away and cannot tell is told to clear away again.
                StepState::Running { attempt }
                    if node.recovery == Recovery::Rerun
                        || (node.phase == Phase::Cleanup && node.recovery == Recovery::Manual) =>
                {
                    self.steps[step].lost += 1;
                    self.finish(id, StepState::Lost { attempt: attempt + 1 });
                }
                StepState::Running { attempt } if node.recovery == Recovery::Probe => {
                    self.finish(id, StepState::InDoubt { attempt });
                }
                StepState::Running { .. } => {
                    self.end(id, StepState::Unknown, Some(ErrorClass::Cancelled));
                }
                _ => {}
            }
        }
        self.phase_issued = false;
        self.asked = false;
        self.stop_issued = false;
        self.undo_given_out.fill(false);
        if giving_up {
            self.given_up = true;
            if self.stage == Stage::Asking {
                self.stage = Stage::In(Phase::Precheck);
            }
            if let Stage::Between(Next::Phase(_)) = self.stage {
                self.stage = self.after_stop();
            }
        }
        self.try_again();
    }

    pub(super) fn left_something(&self) -> bool {
        self.leftovers.as_ref().is_some_and(|leftovers| !leftovers.is_clean())
    }

    /// What an undo or a cleanup has left is tried again, and looked for again: what stood in the way may be gone.
    fn try_again(&mut self) {
        let cleans_up =
            matches!(self.stage, Stage::In(Phase::Cleanup) | Stage::Between(Next::Phase(Phase::Cleanup)));
        let is_checked = matches!(self.stage, Stage::Checking | Stage::Checked | Stage::Over);
        // Who quit after its prechecks has done nothing.
        if !(cleans_up || is_checked) || self.decision == Some(Decision::Quit) {
            return;
        }
        let mut again = false;
        for step in 0..self.nodes.len() {
            let (node, record) = (&self.nodes[step], &mut self.steps[step]);
            if record.undo == UndoState::Left {
                record.undo = UndoState::None;
                again = true;
            }
            let failed = matches!(record.state, StepState::Failed | StepState::Unknown);
            if is_checked && node.phase == Phase::Cleanup && failed && !node.continue_on_error {
                record.state = StepState::Lost { attempt: record.tried + 1 };
                record.lost = record.tried;
                again = true;
            }
        }
        if again {
            self.stage = Stage::Between(Next::Undo);
        } else if is_checked {
            self.stage = Stage::Checking;
        }
        self.leftovers = None;
    }
}
