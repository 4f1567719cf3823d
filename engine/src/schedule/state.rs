//! The one table of legal transitions. Anything else is an error, live and on resume.

use super::{Next, Scheduler, Stage};
use crate::{
    error::ErrorClass,
    event::{Decision, Outcome, Phase, RunEvent, StepId},
    step::{Recovery, Undone},
};

/// Where a step stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StepState {
    /// Not started.
    #[default]
    Pending,
    /// This attempt runs.
    Running {
        /// 1 for the first.
        attempt: u32,
    },
    /// It failed and will be tried again, unless the run stops.
    Retrying {
        /// The attempt to come.
        attempt: u32,
    },
    /// It ran when the owner of the run died, and running it again is harmless.
    Lost {
        /// The attempt to come.
        attempt: u32,
    },
    /// It is not known whether the effect of this attempt happened; its step type is asked.
    InDoubt {
        /// The attempt in doubt.
        attempt: u32,
    },
    /// It succeeded.
    Done,
    /// It failed for good.
    Failed,
    /// It is not known whether its effect happened, and nobody can tell.
    Unknown,
    /// It was passed over.
    Skipped,
}

impl StepState {
    /// Whether nothing more comes of it by itself.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Unknown | Self::Skipped)
    }
}

/// Where the undo of a step stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UndoState {
    /// Not begun.
    #[default]
    None,
    /// Under way.
    Running,
    /// The effect stays on purpose.
    Kept,
    /// It ended, and nothing is left.
    Done,
    /// It ended, and something is left.
    Left,
}

#[derive(Clone, Debug, Default)]
pub(super) struct StepRecord {
    pub(super) state: StepState,
    pub(super) undo: UndoState,
    /// Whether an attempt with an intent has begun.
    pub(super) touched: bool,
    /// It never will start, for a step that it needs failed.
    pub(super) blocked: bool,
    /// Given out, and its event has not come back.
    pub(super) issued: bool,
    /// The last attempt that began.
    pub(super) tried: u32,
    /// Attempts that do not count as tries: they died with the owner of the run, or came before it was taken over.
    pub(super) lost: u32,
    /// With what an attempt in doubt ended; nothing if it died with the owner of the run.
    pub(super) doubt: Option<ErrorClass>,
}

/// An event that does not fit the state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} does not fit: {state}")]
pub struct IllegalTransition {
    /// The event, in words.
    pub event: String,
    /// The state, in words.
    pub state: String,
}

impl Scheduler {
    /// Folds an event into the state.
    ///
    /// # Errors
    /// The event cannot happen in this state; the state is unchanged.
    pub fn apply(&mut self, event: &RunEvent) -> Result<(), IllegalTransition> {
        match (self.stage, event) {
            (Stage::New, RunEvent::RunStarted { .. }) => self.stage = self.after_phase(None),
            (Stage::Between(Next::Phase(due)), RunEvent::PhaseStarted { phase }) if due == *phase => {
                self.stage = Stage::In(due);
                self.phase_issued = false;
            }
            (Stage::In(phase), RunEvent::StepSkipped { step, .. }) => {
                self.require(phase, *step, event, |state| state == StepState::Pending)?;
                self.finish(*step, StepState::Skipped);
            }
            (Stage::In(phase), RunEvent::StepStarted { step, attempt, intent }) => {
                let attempt = *attempt;
                self.require(phase, *step, event, |state| match state {
                    StepState::Pending => attempt == 1,
                    StepState::Retrying { attempt: next } | StepState::Lost { attempt: next } => {
                        attempt == next
                    }
                    _ => false,
                })?;
                let record = &mut self.steps[step.0];
                record.state = StepState::Running { attempt };
                record.tried = attempt;
                record.touched |= intent.is_some();
                record.issued = false;
            }
            (Stage::In(phase), RunEvent::IntentAmended { step, attempt, .. }) => {
                let attempt = *attempt;
                self.require(phase, *step, event, |state| state == StepState::Running { attempt })?;
            }
            (Stage::In(phase), RunEvent::StepFinished { step, attempt, outcome, .. }) => {
                let attempt = *attempt;
                self.require(phase, *step, event, |state| state == StepState::Running { attempt })?;
                self.outcome(*step, attempt, outcome);
            }
            (Stage::In(phase), RunEvent::StepSettled { step, attempt, outcome }) => {
                let attempt = *attempt;
                self.require(phase, *step, event, |state| state == StepState::InDoubt { attempt })?;
                self.settled(*step, attempt, outcome.as_ref());
            }
            (Stage::In(Phase::Precheck) | Stage::Asking, RunEvent::PrecheckDecided { decision }) => {
                if !self.phase_is_over(Phase::Precheck) {
                    return Err(self.illegal(event, "prechecks still run"));
                }
                self.decide(*decision);
            }
            (Stage::New | Stage::Over, RunEvent::Interrupted { .. } | RunEvent::RunAborted { .. })
            | (Stage::New, RunEvent::RunTakenOver { .. }) => {
                return Err(self.illegal(event, "the run is not under way"));
            }
            (Stage::Over, RunEvent::RunTakenOver { .. }) if !self.left_something() => {
                return Err(self.illegal(event, "the run is over, and left nothing"));
            }
            (_, RunEvent::RunAborted { .. } | RunEvent::Degraded { .. }) => {}
            (_, RunEvent::RunTakenOver { purpose, .. }) => self.take_over(*purpose),
            (_, RunEvent::Interrupted { signal }) => {
                self.signal.get_or_insert(*signal);
                if self.stage == Stage::Asking {
                    self.stage = Stage::In(Phase::Precheck);
                }
                if let Stage::Between(Next::Phase(Phase::Precheck | Phase::Prepare | Phase::Monitor)) =
                    self.stage
                {
                    self.stage = self.after_stop();
                }
            }
            (Stage::Undoing, RunEvent::StepKept { step }) => {
                self.require_undo(*step, event, UndoState::None)?;
                self.steps[step.0].undo = UndoState::Kept;
                self.steps[step.0].issued = false;
            }
            (Stage::Undoing, RunEvent::UndoStarted { step }) => {
                // A crash in the middle of an undo repeats it.
                if self.steps[step.0].undo != UndoState::Running {
                    self.require_undo(*step, event, UndoState::None)?;
                }
                self.steps[step.0].undo = UndoState::Running;
                self.steps[step.0].issued = false;
            }
            (Stage::Undoing, RunEvent::UndoIntended { step, .. } | RunEvent::IntentAmended { step, .. }) => {
                self.require_undo(*step, event, UndoState::Running)?;
            }
            (Stage::Undoing, RunEvent::UndoFinished { step, result, .. }) => {
                self.require_undo(*step, event, UndoState::Running)?;
                self.steps[step.0].undo = match result {
                    Ok(Undone::Removed | Undone::NothingToDo) => UndoState::Done,
                    Ok(Undone::Left(_) | Undone::CannotTell(_)) | Err(_) => UndoState::Left,
                };
            }
            (Stage::Checking, RunEvent::LeftoversChecked { leftovers }) => {
                self.leftovers = Some(leftovers.clone());
                self.stage = Stage::Checked;
                self.phase_issued = false;
            }
            (Stage::Checked | Stage::Checking, RunEvent::RunFinished { verdict }) => {
                if *verdict != self.verdict() {
                    return Err(self.illegal(event, &format!("the verdict is {:?}", self.verdict())));
                }
                self.stage = Stage::Over;
            }
            _ => return Err(self.illegal(event, &format!("the run is at {:?}", self.stage))),
        }
        self.settle();
        Ok(())
    }

    fn illegal(&self, event: &RunEvent, state: &str) -> IllegalTransition {
        IllegalTransition { event: format!("{event:?}"), state: state.to_owned() }
    }

    fn require(
        &self,
        phase: Phase,
        step: StepId,
        event: &RunEvent,
        fits: impl Fn(StepState) -> bool,
    ) -> Result<(), IllegalTransition> {
        match (self.nodes.get(step.0), self.steps.get(step.0)) {
            (Some(node), Some(record)) if node.phase == phase && fits(record.state) => Ok(()),
            (Some(node), Some(record)) => {
                let state = format!("step {} of {} is {:?} in {phase}", step.0, node.phase, record.state);
                Err(self.illegal(event, &state))
            }
            _ => Err(self.illegal(event, "there is no such step")),
        }
    }

    fn require_undo(&self, step: StepId, event: &RunEvent, undo: UndoState) -> Result<(), IllegalTransition> {
        match self.steps.get(step.0) {
            Some(record) if record.touched && record.undo == undo => Ok(()),
            Some(record) => {
                Err(self.illegal(event, &format!("the undo of step {} is {:?}", step.0, record.undo)))
            }
            None => Err(self.illegal(event, "there is no such step")),
        }
    }

    pub(super) fn finish(&mut self, step: StepId, state: StepState) {
        let record = &mut self.steps[step.0];
        record.state = state;
        record.issued = false;
    }

    fn outcome(&mut self, step: StepId, attempt: u32, outcome: &Outcome) {
        match outcome {
            Outcome::Done { .. } => self.end(step, StepState::Done, None),
            Outcome::Failed { error, .. } => self.failed(step, attempt, error.class),
            Outcome::Unknown { error } => {
                let node = &self.nodes[step.0];
                // While the run stops it makes no difference: the undo must cope with both.
                if node.recovery == Recovery::Probe && !self.stops_in(node.phase) {
                    self.steps[step.0].doubt = Some(error.class);
                    self.finish(step, StepState::InDoubt { attempt });
                } else {
                    self.end(step, StepState::Unknown, Some(error.class));
                }
            }
        }
    }

    fn failed(&mut self, step: StepId, attempt: u32, class: ErrorClass) {
        let (node, lost) = (&self.nodes[step.0], self.steps[step.0].lost);
        let worth_it = node.retry.on.is_empty() || node.retry.on.contains(&class);
        let again = attempt - lost < node.retry.attempts && worth_it && class != ErrorClass::Cancelled;
        if again && !self.stops_in(node.phase) {
            self.end(step, StepState::Retrying { attempt: attempt + 1 }, None);
        } else {
            self.end(step, StepState::Failed, Some(class));
        }
    }

    /// What is known of an attempt that was in doubt.
    fn settled(&mut self, step: StepId, attempt: u32, outcome: Option<&Outcome>) {
        let doubt = self.steps[step.0].doubt.take();
        let clears_away = self.nodes[step.0].phase == Phase::Cleanup;
        match (outcome, doubt) {
            // Nobody can tell, and what clears away does no harm twice.
            (Some(Outcome::Unknown { .. }), None) if clears_away => {
                self.steps[step.0].lost += 1;
                self.finish(step, StepState::Lost { attempt: attempt + 1 });
            }
            (Some(Outcome::Unknown { error }), _) => self.end(step, StepState::Unknown, Some(error.class)),
            (Some(outcome), _) => self.outcome(step, attempt, outcome),
            // It never happened: the policy decides about another try, as after any failure.
            (None, Some(class)) => self.failed(step, attempt, class),
            (None, None) => {
                self.steps[step.0].lost += 1;
                self.finish(step, StepState::Lost { attempt: attempt + 1 });
            }
        }
    }

    /// A step has come to rest, or waits for its next try; `class` says with what it failed.
    pub(super) fn end(&mut self, step: StepId, state: StepState, class: Option<ErrorClass>) {
        self.finish(step, state);
        if matches!(state, StepState::Failed | StepState::Unknown) {
            self.block_dependents(step);
        }
        let node = &self.nodes[step.0];
        // Prechecks are judged together by a decision; cleanup and diagnostics never change the verdict.
        if let (Some(class), Phase::Prepare | Phase::Monitor) = (class, node.phase)
            && !node.continue_on_error
            && self.signal.is_none()
        {
            self.failure.get_or_insert(class);
        }
    }

    fn decide(&mut self, decision: Decision) {
        self.asked = false;
        self.decision = Some(decision);
        match decision {
            Decision::Continue => self.stage = self.after_phase(Some(Phase::Precheck)),
            Decision::Quit => self.stage = Stage::Checked,
            Decision::Recheck => {
                for step in 0..self.nodes.len() {
                    if self.nodes[step].phase == Phase::Precheck {
                        self.steps[step] = StepRecord::default();
                    }
                }
                self.stage = Stage::In(Phase::Precheck);
            }
        }
    }

    /// Moves on once a phase, or the undo, is over.
    fn settle(&mut self) {
        loop {
            let before = self.stage;
            self.stage = match self.stage {
                Stage::In(Phase::Precheck) if self.phase_is_over(Phase::Precheck) => {
                    if self.signal.is_some() || self.given_up {
                        self.after_stop()
                    } else if self.prechecks_failed() {
                        Stage::Asking
                    } else {
                        self.after_phase(Some(Phase::Precheck))
                    }
                }
                Stage::In(phase) if self.phase_is_over(phase) => self.after_phase(Some(phase)),
                Stage::Between(Next::Undo) => Stage::Undoing,
                Stage::Undoing if self.undo_is_over() => self.after_undo(),
                Stage::Between(Next::Check) => Stage::Checking,
                stage => stage,
            };
            if self.stage == before {
                return;
            }
        }
    }

    /// What follows a phase that is over.
    fn after_phase(&self, phase: Option<Phase>) -> Stage {
        let ahead: &[Phase] = match phase {
            None => &[Phase::Precheck, Phase::Prepare, Phase::Monitor],
            Some(Phase::Precheck) => &[Phase::Prepare, Phase::Monitor],
            Some(Phase::Prepare) => &[Phase::Monitor],
            Some(Phase::Monitor) => &[],
            Some(Phase::OnFailure) => return Stage::Between(Next::Undo),
            Some(Phase::Cleanup) => return Stage::Between(Next::Check),
        };
        if self.signal.is_some() || self.failure.is_some() || self.given_up {
            return self.after_stop();
        }
        match ahead.iter().find(|phase| self.has(**phase)) {
            Some(next) => Stage::Between(Next::Phase(*next)),
            None => Stage::Between(Next::Undo),
        }
    }

    /// What follows a failure, a signal, or the death of the owner.
    pub(super) fn after_stop(&self) -> Stage {
        match self.has(Phase::OnFailure) && self.has_begun() && !self.given_up {
            true => Stage::Between(Next::Phase(Phase::OnFailure)),
            false => Stage::Between(Next::Undo),
        }
    }

    fn after_undo(&self) -> Stage {
        match self.has(Phase::Cleanup) && self.has_begun() {
            true => Stage::Between(Next::Phase(Phase::Cleanup)),
            false => Stage::Between(Next::Check),
        }
    }

    pub(super) fn has(&self, phase: Phase) -> bool {
        self.nodes.iter().any(|node| node.phase == phase)
    }

    /// Whether anything of prepare or monitor has started.
    pub(super) fn has_begun(&self) -> bool {
        self.nodes.iter().zip(&self.steps).any(|(node, record)| {
            matches!(node.phase, Phase::Prepare | Phase::Monitor)
                && !matches!(record.state, StepState::Pending | StepState::Skipped)
        })
    }

    fn prechecks_failed(&self) -> bool {
        self.nodes.iter().zip(&self.steps).any(|(node, record)| {
            node.phase == Phase::Precheck
                && !node.continue_on_error
                && matches!(record.state, StepState::Failed | StepState::Unknown)
        })
    }

    /// Whether nothing of the phase runs and nothing of it can start any more.
    fn phase_is_over(&self, phase: Phase) -> bool {
        let stops = self.stops_in(phase);
        (0..self.nodes.len()).filter(|step| self.nodes[*step].phase == phase).all(|step| {
            match self.steps[step].state {
                StepState::Running { .. } => false,
                StepState::Retrying { .. } | StepState::Lost { .. } => stops,
                StepState::InDoubt { .. } => false,
                StepState::Pending => stops || self.steps[step].blocked,
                state => state.is_over(),
            }
        })
    }

    /// Marks everything that depends on a failed step, directly or not.
    fn block_dependents(&mut self, failed: StepId) {
        // Cleanup goes on whatever happens to its parts: there `needs` only orders.
        if self.nodes[failed.0].phase == Phase::Cleanup {
            return;
        }
        let mut stack = vec![failed];
        while let Some(StepId(step)) = stack.pop() {
            for dependent in &self.dependents[step] {
                if !std::mem::replace(&mut self.steps[dependent.0].blocked, true) {
                    stack.push(*dependent);
                }
            }
        }
    }

    fn undo_is_over(&self) -> bool {
        (0..self.nodes.len()).all(|step| !self.awaits_undo(step))
    }

    /// Whether a step has an effect that is neither taken back nor kept yet.
    pub(super) fn awaits_undo(&self, step: usize) -> bool {
        let record = &self.steps[step];
        self.nodes[step].undone
            && record.touched
            && matches!(record.undo, UndoState::None | UndoState::Running)
    }
}
