//! What a run needs, and how it ended.

use super::{faults::Faults, signal::Signals};
use crate::{
    error::StepError,
    event::{Decision, Leftovers, Purpose, Record, Reporter, Verdict},
    expr::Outside,
    host::BoxFuture,
    journal::Journal,
    plan::Plan,
    report::exit_code,
    step::Services,
};
use std::sync::Arc;

/// A precheck that failed.
#[derive(Clone, Debug)]
pub struct FailedCheck {
    /// The step's id.
    pub step: String,
    /// Why.
    pub error: StepError,
    /// The playbook's hint.
    pub hint: Option<String>,
}

/// Answers what to do about failed prechecks.
pub trait Asker: Send {
    /// The decision.
    fn ask<'a>(&'a mut self, failed: &'a [FailedCheck]) -> BoxFuture<'a, Decision>;
}

/// What a run needs.
pub struct Setup<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// What the steps share.
    pub services: Arc<Services>,
    /// What expressions may read.
    pub outside: Arc<dyn Outside>,
    /// Where the history goes.
    pub journal: &'a mut dyn Journal,
    /// Who sees it.
    pub reporters: &'a mut [Box<dyn Reporter>],
    /// Who decides about failed prechecks.
    pub asker: &'a mut dyn Asker,
    /// What is known of a run whose owner died, and what it is taken over for; nothing for a new run.
    pub dead: Option<DeadRun<'a>>,
    /// What asks it to stop.
    pub signals: Signals,
    /// What is to go wrong on purpose; [`Faults::none`] outside of tests.
    pub faults: Faults,
}

/// A run whose owner died.
#[derive(Clone, Copy, Debug)]
pub struct DeadRun<'a> {
    /// What its journal holds.
    pub history: &'a [Record],
    /// What it is taken over for.
    pub purpose: Purpose,
    /// How many records its journal has lost.
    pub lost: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// The verdict.
    pub verdict: Verdict,
    /// What is left.
    pub leftovers: Leftovers,
    /// A third signal ended the run before its undo was over.
    pub aborted: bool,
}

impl RunEnd {
    /// The exit code of `run`.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        // What was not undone any more is left.
        if self.aborted { 4 } else { exit_code(self.verdict, &self.leftovers) }
    }
}
