//! The pure scheduler: the only place that decides what runs next. No clock, no randomness, no I/O; the same
//! history always gives the same state, so resuming a run is replaying it.

mod delay;
mod next;
mod state;
mod takeover;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_resume;

pub use delay::{delay_before, longest_delay};
pub use state::{IllegalTransition, StepState, UndoState};

use crate::{
    error::ErrorClass,
    event::{Decision, Leftovers, Phase, StepId, Verdict},
    plan::Plan,
    playbook::{Keep, RetryPolicy},
    step::Recovery,
};

/// What the scheduler must know of a step.
#[derive(Clone, Debug)]
pub struct Node {
    /// The phase it stands in.
    pub phase: Phase,
    /// Steps of its phase that come before.
    pub needs: Vec<StepId>,
    /// Whether it changes something.
    pub effect: bool,
    /// Whether that is undone before the run ends.
    pub undone: bool,
    /// How long its effect lasts.
    pub keep: Keep,
    /// When it is tried again.
    pub retry: RetryPolicy,
    /// Whether its failure is tolerated.
    pub continue_on_error: bool,
    /// Whether it mostly waits.
    pub waits: bool,
    /// What may be done when its outcome is unknown.
    pub recovery: Recovery,
}

/// How much may go on at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Steps that work.
    pub working: usize,
    /// Steps that wait, and prechecks.
    pub waiting: usize,
}

/// Something the executor has to do. What comes of it goes back as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Record that this phase begins.
    StartPhase(Phase),
    /// Start an attempt after a delay.
    Run {
        /// Which step.
        step: StepId,
        /// 1 for the first.
        attempt: u32,
        /// How long to wait before, in milliseconds.
        delay_ms: u64,
    },
    /// Find out whether the effect of an attempt happened whose outcome is unknown.
    Settle {
        /// Which step.
        step: StepId,
        /// Which attempt.
        attempt: u32,
    },
    /// Ask what to do about failed prechecks.
    AskPrecheck,
    /// Stop all steps that run.
    StopRunning,
    /// Record that an effect stays.
    Keep(StepId),
    /// Take back an effect.
    Undo(StepId),
    /// Look for what is left.
    CheckLeftovers,
    /// Record the verdict and end.
    Finish(Verdict),
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not started.
    New,
    /// Started; this phase is next.
    Between(Next),
    /// In a phase.
    In(Phase),
    /// Failed prechecks wait for an answer.
    Asking,
    /// Taking back effects.
    Undoing,
    /// Nothing but the leftovers check and the verdict is missing.
    Checking,
    /// Checked.
    Checked,
    /// Over.
    Over,
}

/// What comes after a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Phase(Phase),
    Undo,
    Check,
}

/// The state of a run, folded from its events.
#[derive(Clone, Debug)]
pub struct Scheduler {
    nodes: Vec<Node>,
    /// The steps that need each step.
    dependents: Vec<Vec<StepId>>,
    limits: Limits,
    /// Varies the delays of different runs; part of the plan, so that replay gives the same.
    seed: u64,
    stage: Stage,
    steps: Vec<state::StepRecord>,
    /// The first failure that decides the verdict.
    failure: Option<ErrorClass>,
    signal: Option<i32>,
    /// A recovery undoes the run before its verdict was known.
    given_up: bool,
    decision: Option<Decision>,
    leftovers: Option<Leftovers>,
    /// Commands given out whose event has not come back. Not part of the history.
    phase_issued: bool,
    asked: bool,
    stop_issued: bool,
    undo_given_out: Vec<bool>,
}

impl Scheduler {
    /// The scheduler of a plan.
    #[must_use]
    pub fn for_plan(plan: &Plan) -> Self {
        let nodes = plan
            .steps
            .iter()
            .map(|step| Node {
                phase: step.phase,
                needs: step.needs.clone(),
                effect: step.is_effect(),
                undone: step.is_undone(),
                keep: step.keep,
                retry: step.retry.clone(),
                continue_on_error: step.continue_on_error,
                // What runs on another machine takes next to nothing of this one.
                waits: step.description.waits || step.body.on.is_some(),
                recovery: step.description.recovery,
            })
            .collect();
        let seed = delay::hash(plan.run.id.as_bytes());
        Self::new(nodes, Limits { working: plan.max_parallel, waiting: 64 }, seed)
    }

    /// A scheduler of these steps.
    #[must_use]
    pub fn new(nodes: Vec<Node>, limits: Limits, seed: u64) -> Self {
        let steps = vec![state::StepRecord::default(); nodes.len()];
        let mut dependents = vec![Vec::new(); nodes.len()];
        for (step, node) in nodes.iter().enumerate() {
            for need in &node.needs {
                dependents[need.0].push(StepId(step));
            }
        }
        let undo_given_out = vec![false; nodes.len()];
        Self {
            nodes,
            dependents,
            limits,
            seed,
            stage: Stage::New,
            steps,
            failure: None,
            signal: None,
            given_up: false,
            decision: None,
            leftovers: None,
            phase_issued: false,
            asked: false,
            stop_issued: false,
            undo_given_out,
        }
    }

    /// The state of a step.
    #[must_use]
    pub fn step(&self, step: StepId) -> StepState {
        self.steps[step.0].state
    }

    /// The state of a step's undo.
    #[must_use]
    pub fn undo(&self, step: StepId) -> UndoState {
        self.steps[step.0].undo
    }

    /// Whether nothing but undo, cleanup and the closing checks is ahead.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        match self.stage {
            Stage::New | Stage::Asking => false,
            Stage::In(phase) | Stage::Between(Next::Phase(phase)) => phase == Phase::Cleanup,
            Stage::Between(Next::Undo | Next::Check)
            | Stage::Undoing
            | Stage::Checking
            | Stage::Checked
            | Stage::Over => true,
        }
    }

    /// Whether cleanup has to run and has not ended.
    #[must_use]
    pub fn owes_cleanup(&self) -> bool {
        let ended = matches!(
            self.stage,
            Stage::Between(Next::Check) | Stage::Checking | Stage::Checked | Stage::Over
        );
        self.has(Phase::Cleanup) && self.has_begun() && !ended
    }

    /// Whether the run is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Whether an attempt that was given out may still begin: not if the run has begun to stop meanwhile.
    #[must_use]
    pub fn may_start(&self, step: StepId) -> bool {
        self.steps[step.0].issued && !self.stops_in(self.nodes[step.0].phase)
    }

    /// Takes back an attempt that was given out and has not begun.
    pub fn withdraw(&mut self, step: StepId) {
        self.steps[step.0].issued = false;
    }

    /// Whether nothing new may start in this phase.
    fn stops_in(&self, phase: Phase) -> bool {
        match phase {
            Phase::Precheck => self.signal.is_some() || self.given_up,
            Phase::Prepare | Phase::Monitor => {
                self.signal.is_some() || self.failure.is_some() || self.given_up
            }
            Phase::OnFailure => self.given_up,
            Phase::Cleanup => false,
        }
    }

    /// The verdict as far as it is known.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match (self.signal, self.failure) {
            (Some(signal), _) => Verdict::Interrupted { signal },
            (None, _) if self.decision == Some(Decision::Quit) => Verdict::Refused,
            (None, Some(class)) if class.blames_the_system_under_test() => Verdict::Failed,
            (None, Some(_)) => Verdict::Errored,
            (None, None) if self.given_up => Verdict::Recovered,
            (None, None) => Verdict::Passed,
        }
    }

    /// Whether an effect stays at the end, as its `keep` says.
    fn keeps(&self, step: usize) -> bool {
        let verdict = self.verdict();
        match self.nodes[step].keep {
            Keep::Never => false,
            Keep::Always => true,
            Keep::OnSuccess => verdict == Verdict::Passed,
            // A recovery is asked to leave nothing; nobody saw a failure that is worth a look.
            Keep::OnFailure => !matches!(verdict, Verdict::Passed | Verdict::Recovered),
        }
    }
}
