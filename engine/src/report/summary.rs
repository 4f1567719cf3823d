//! What became of a run, as one value.

use crate::{
    degraded::Degraded,
    error::ErrorClass,
    event::{Decision, Leftovers, Phase, Verdict},
    plan::Plan,
    step::Leftover,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// The version of the report's JSON form; raised when a reader of the old one could misread the new one.
pub const REPORT_VERSION: u32 = 1;

/// What became of a run: a fold over its events. [`Summary::new`] starts it, [`Summary::apply`] goes on.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Summary {
    /// [`REPORT_VERSION`].
    pub schema_version: u32,
    /// The run's id.
    pub run: String,
    /// The playbook's name.
    pub playbook: String,
    /// What it proves.
    pub description: String,
    /// The file it was read from.
    pub source: String,
    /// The plan's hash.
    pub plan_hash: String,
    /// The machine that carried it out.
    pub host: String,
    /// The user that ran it.
    pub user: String,
    /// The values of the params.
    pub params: Map<String, Value>,
    /// When it began, RFC 3339 in UTC; missing if it has not.
    pub started_at: Option<String>,
    /// When it ended, RFC 3339 in UTC; missing if it has not.
    pub finished_at: Option<String>,
    /// How long it took, or has taken up to the last event, in milliseconds.
    pub took_ms: u64,
    /// How it ended; missing while it runs, and if it died.
    pub ending: Option<Ending>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The exit code of `shakedown run`.
    pub exit_code: Option<u8>,
    /// What was decided about failed prechecks.
    pub decision: Option<Decision>,
    /// The steps, counted, without those of `on_failure`.
    pub counts: Counts,
    /// Why less ran than was planned, gathered by the reason; empty if all ran, and before the end.
    pub not_ran: Vec<NotRan>,
    /// The effects that were to be taken back.
    pub undone: Tally,
    /// The cleanup steps that were started.
    pub cleanup: Tally,
    /// What asking databases took, over all steps; missing if none was asked.
    pub database: Option<Database>,
    /// What protects a run, or lets it notice things at once, and could not be used.
    pub degraded: Vec<Degraded>,
    /// What the leftovers check found; missing if nothing was to be looked for.
    pub leftovers: Option<Leftovers>,
    /// The phases that the plan has, in order of time, with their steps.
    pub phases: Vec<PhaseSummary>,
    #[serde(skip)]
    pub(super) plan: Arc<Plan>,
    /// Where each step of the plan stands: its phase and its place there.
    #[serde(skip)]
    pub(super) places: Vec<(usize, usize)>,
    /// `steps` as the expressions of hints see it.
    #[serde(skip)]
    pub(super) outputs: Map<String, Value>,
    #[serde(skip)]
    pub(super) started_ms: u64,
    /// Whether its owner died and another process gave it up.
    #[serde(skip)]
    pub(super) given_up: bool,
    /// The step whose failure stopped the run.
    #[serde(skip)]
    pub(super) stopped_by: Option<usize>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Everything held.
    Passed,
    /// A precheck failed; nothing was changed.
    Refused,
    /// The system under test failed.
    Failed,
    /// The engine or the environment failed.
    Errored,
    /// A signal ended it.
    Interrupted,
    /// It died or had left something, and a recovery undid it.
    Recovered,
    /// Nothing failed, and something is left or cannot be told.
    Leftovers,
    /// A third signal gave it up before its undo was over.
    Aborted,
}

/// Steps, counted by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// All that were planned.
    pub planned: usize,
    /// Those that were started.
    pub ran: usize,
    /// Those that succeeded.
    pub ok: usize,
    /// Those that failed, tolerated or not.
    pub failed: usize,
    /// Those of which nobody knows whether their effect happened.
    pub unknown: usize,
    /// Those that were stopped while they ran, for the run had come to its end.
    pub stopped: usize,
    /// Those whose `when` was false, or that had nothing to act on.
    pub skipped: usize,
    /// Those that were never started.
    pub not_run: usize,
}

/// Steps that never began, for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NotRan {
    /// What became of them: `skipped` or `not_run`.
    pub status: StepStatus,
    /// Why, in words.
    pub why: String,
    /// Their ids, in the order of the plan.
    pub steps: Vec<String>,
}

/// How many of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tally {
    /// Those that are done.
    pub done: usize,
    /// All.
    pub all: usize,
}

/// What asking databases took: the sum of the outputs' `db`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Database {
    /// How often one was asked.
    pub operations: u64,
    /// How often a lock of another program was met.
    pub waits: u64,
    /// How long locks were waited for in all, in milliseconds.
    pub wait_ms: u64,
    /// The longest wait for one lock, in milliseconds.
    pub longest_wait_ms: u64,
    /// How long all took, in milliseconds.
    pub took_ms: u64,
    /// Attempts of steps that asked a database and were tried again.
    pub retries: u64,
}

/// A phase of a run.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PhaseSummary {
    /// Which.
    pub phase: Phase,
    /// When it began, RFC 3339 in UTC; missing if it never did.
    pub started_at: Option<String>,
    /// From its begin to the end of its last step, in milliseconds.
    pub took_ms: u64,
    /// Its steps, in the order of the playbook.
    pub steps: Vec<StepSummary>,
    #[serde(skip)]
    pub(super) started_ms: Option<u64>,
}

/// A step of a run.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct StepSummary {
    /// Its id; of a `foreach` with its key.
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// The step type.
    pub kind: String,
    /// What it does, in words.
    pub title: String,
    /// Where it stands: `file:line:column`.
    pub at: String,
    /// Whether it changes something.
    pub effect: bool,
    /// Whether its failure is tolerated.
    pub continue_on_error: bool,
    /// What became of it.
    pub status: StepStatus,
    /// Why it was skipped or not run.
    pub why: Option<String>,
    /// The attempts, in order.
    pub attempts: Vec<Attempt>,
    /// How long its attempts took together, in milliseconds.
    pub took_ms: u64,
    /// A few words about what it found or did.
    pub summary: String,
    /// Its output, long values cut.
    pub out: Option<Value>,
    /// Whether something of the output was cut away.
    pub out_cut: bool,
    /// Why it failed.
    pub error: Option<ErrorSummary>,
    /// The playbook's advice for that.
    pub hint: Option<String>,
    /// What became of its undo; missing for a step that only reads.
    pub undo: Option<UndoSummary>,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// Its turn has not come.
    Pending,
    /// It runs.
    Running,
    /// It failed and will be tried again.
    Retrying,
    /// It succeeded.
    Ok,
    /// It failed.
    Failed,
    /// Nobody knows whether its effect happened.
    Unknown,
    /// It was stopped, for the run had come to its end.
    Stopped,
    /// It was passed over.
    Skipped,
    /// The run ended without it.
    NotRun,
    /// A step of `on_failure` in a run that had no failure.
    NotNeeded,
}

/// One attempt of a step.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// When it began, RFC 3339 in UTC.
    pub started_at: String,
    /// How long it took, in milliseconds; missing while it runs.
    pub took_ms: Option<u64>,
    /// Why it failed.
    pub error: Option<ErrorSummary>,
}

/// Why a step or an undo failed. Every field is present, so that strict templates can ask for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ErrorSummary {
    /// What kind of trouble it is.
    pub class: ErrorClass,
    /// What was expected and what was found.
    pub message: String,
    /// What the user can do next, as the step type knows it.
    pub hint: Option<String>,
    /// Evidence: lines of stderr or of a journal, the values behind a false expectation.
    pub details: Vec<String>,
    /// Whether nobody knows if the effect happened.
    pub outcome_unknown: bool,
}

/// How an effect is taken back, and what came of it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UndoSummary {
    /// How, in words; missing if it cannot be.
    pub how: Option<String>,
    /// What came of it.
    pub status: UndoStatus,
    /// How long it took, in milliseconds.
    pub took_ms: Option<u64>,
    /// What was left on purpose, or cannot be told.
    pub left: Option<Leftover>,
    /// Why it failed.
    pub error: Option<ErrorSummary>,
}

/// What became of an undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UndoStatus {
    /// There was nothing to take back: the step never started.
    NotNeeded,
    /// The step began; its undo has not.
    Pending,
    /// It cannot be taken back, or is meant to last as all of `cleanup` is.
    None,
    /// It is under way.
    Running,
    /// Everything the step made is gone again.
    Removed,
    /// The effect never happened, or somebody else has taken it back.
    NothingToDo,
    /// Something was left on purpose.
    Left,
    /// Nobody can tell whether it is there: it could not be looked at.
    CannotTell,
    /// It failed.
    Failed,
    /// The effect stays, as `keep` says.
    Kept,
}

/// The exit code of `shakedown run`: 0 passed, 1 refused, 2 the system under test failed, 4 leftovers, 5 the engine
/// or the environment failed, 128 and the signal's number if one ended the run.
#[must_use]
pub fn exit_code(verdict: Verdict, leftovers: &Leftovers) -> u8 {
    if !leftovers.is_clean() {
        return 4;
    }
    match verdict {
        // Nothing is left of a run that died: the recovery has done all that it was asked to.
        Verdict::Passed | Verdict::Recovered => 0,
        Verdict::Refused => 1,
        Verdict::Failed => 2,
        Verdict::Errored => 5,
        Verdict::Interrupted { signal } => u8::try_from(128 + i64::from(signal)).unwrap_or(u8::MAX),
    }
}

impl Ending {
    /// The word in capitals that heads the report.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Refused => "REFUSED",
            Self::Failed => "FAILED",
            Self::Errored => "ERRORED",
            Self::Interrupted => "INTERRUPTED",
            Self::Recovered => "RECOVERED",
            Self::Leftovers => "LEFTOVERS",
            Self::Aborted => "ABORTED",
        }
    }
}

impl StepStatus {
    /// A short word, at most eight characters.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Retrying => "retry",
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Stopped => "stopped",
            Self::Skipped => "skipped",
            Self::NotRun => "not run",
            Self::NotNeeded => "not needed",
        }
    }

    /// Whether it failed, or may have.
    #[must_use]
    pub fn is_bad(self) -> bool {
        matches!(self, Self::Failed | Self::Unknown)
    }
}

impl Summary {
    /// All steps, phase by phase.
    pub fn steps(&self) -> impl Iterator<Item = (&PhaseSummary, &StepSummary)> {
        self.phases.iter().flat_map(|phase| phase.steps.iter().map(move |step| (phase, step)))
    }

    /// Steps that failed, or may have: first the one that stopped the run, then in the order of the playbook.
    #[must_use]
    pub fn failures(&self) -> Vec<(&PhaseSummary, &StepSummary)> {
        let first = self.stopped_by.and_then(|step| self.step(crate::event::StepId(step)));
        let id = first.map(|(_, step)| &step.id);
        let others = self.steps().filter(|(_, step)| step.status.is_bad() && Some(&step.id) != id);
        first.into_iter().chain(others).collect()
    }

    /// The phase and the step with this position in the plan.
    #[must_use]
    pub fn step(&self, step: crate::event::StepId) -> Option<(&PhaseSummary, &StepSummary)> {
        let (phase, place) = *self.places.get(step.0)?;
        let phase = &self.phases[phase];
        Some((phase, &phase.steps[place]))
    }

    /// The plan whose run this is.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}
