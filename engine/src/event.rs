//! What happens in a run. A [`RunEvent`] is durable, versioned and small; a [`Progress`] may be lost.

use crate::{
    degraded::Degraded,
    error::StepError,
    step::{Leftover, Undone},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, fmt, sync::Arc};

/// The version of the event format; raised when a reader of the old one could misread the new one.
pub const EVENT_VERSION: u32 = 1;

/// Identifies a step of a plan: its position in [`Plan::steps`](crate::plan::Plan::steps).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct StepId(pub usize);

/// Part of a run. Order in `PHASES` is order in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// What must hold before; read-only.
    Precheck,
    /// What is put in place.
    Prepare,
    /// What is watched.
    Monitor,
    /// Diagnostics after a failure; read-only.
    OnFailure,
    /// What is cleared away, always.
    Cleanup,
}

impl Phase {
    /// All phases in the order in which they may run.
    pub const ALL: [Self; 5] = [Self::Precheck, Self::Prepare, Self::Monitor, Self::OnFailure, Self::Cleanup];

    /// The key in a playbook.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Precheck => "precheck",
            Self::Prepare => "prepare",
            Self::Monitor => "monitor",
            Self::OnFailure => "on_failure",
            Self::Cleanup => "cleanup",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is durable before an effect starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Intent {
    /// The rendered parameters.
    pub params: Value,
    /// What the step type must know to undo it: names, the state found, seeds.
    pub intent: Value,
    /// The host it acts on, if not this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// How it is taken back.
    pub undo: UndoMethod,
    /// Which machine each host that it concerns was when it began: its undo acts on no other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub machines: BTreeMap<String, String>,
}

/// How an effect is taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UndoMethod {
    /// By the step type itself.
    Derived,
    /// By this rendered step, which the playbook wrote.
    Written(UndoStep),
    /// Not at all.
    None,
}

/// A rendered `undo`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UndoStep {
    /// The step type.
    pub kind: String,
    /// Its rendered parameters.
    pub params: Value,
    /// The host it acts on, if not this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
}

/// What became of an attempt. "Unknown" is an outcome of its own: it is never blindly retried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It succeeded, with this output and a few words about it.
    Done {
        /// What `steps.ID.out` shows.
        out: Value,
        /// A few words for the report.
        #[serde(default)]
        summary: String,
    },
    /// It failed.
    Failed {
        /// Why.
        error: StepError,
        /// What it found nonetheless, as when only its `expect` was false.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        out: Option<Value>,
    },
    /// Whether its effect happened is not known.
    Unknown {
        /// What was met.
        error: StepError,
    },
}

/// What the user, or `--force`, decided after failed prechecks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Go on regardless.
    Continue,
    /// Change nothing and end.
    Quit,
    /// Run the prechecks again.
    Recheck,
}

/// Why a dead run is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// To go on where it stopped.
    Resume,
    /// To take back what it did.
    Undo,
}

/// Why a step was not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Its `when` was false.
    When,
    /// It needs the output of a step that has none.
    Missing(String),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything held.
    Passed,
    /// A precheck failed; nothing was changed.
    Refused,
    /// The system under test failed.
    Failed,
    /// The engine or the environment failed.
    Errored,
    /// A signal ended it.
    Interrupted {
        /// The signal's number.
        signal: i32,
    },
    /// It died before its verdict was known, and a recovery undid it.
    Recovered,
}

/// The count of what a run made and what is left of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Leftovers {
    /// Effects that the run made or may have made.
    pub created: usize,
    /// Those that are gone again.
    pub removed: usize,
    /// Those that were kept because the playbook or the user said so.
    pub kept: usize,
    /// Those that are still there though they should not be.
    pub left: Vec<Leftover>,
    /// Those of which nobody can tell whether they are still there: a look was denied, failed or was cut off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<Leftover>,
    /// Effects that nothing takes back, each with the step and what it did. They are part of no other count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_undo: Vec<String>,
}

impl Leftovers {
    /// Whether everything that the run made and had to take back was seen to be gone.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.left.is_empty() && self.unknown.is_empty()
    }
}

/// Something that happened in a run. The journal holds these; state and reports are folds over them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum RunEvent {
    /// The run began. Its plan is stored beside the journal.
    RunStarted {
        /// The version of the event format, [`EVENT_VERSION`].
        version: u32,
        /// The plan's hash.
        plan: String,
        /// The playbook's name.
        playbook: String,
    },
    /// A phase began.
    PhaseStarted {
        /// Which.
        phase: Phase,
    },
    /// A step was passed over.
    StepSkipped {
        /// Which.
        step: StepId,
        /// Why.
        reason: SkipReason,
    },
    /// An attempt begins. For an effect this record is durable before anything is changed.
    StepStarted {
        /// Which.
        step: StepId,
        /// 1 for the first.
        attempt: u32,
        /// What is needed to undo it; missing for a step that only reads.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        intent: Option<Box<Intent>>,
    },
    /// The attempt that runs knows more of its effect than when it began, or its undo is about to take it away. Durable
    /// before that can be seen.
    IntentAmended {
        /// Which.
        step: StepId,
        /// Which attempt.
        attempt: u32,
        /// What takes the place of the `intent` within the intent of its start.
        intent: serde_json::Value,
    },
    /// An attempt ended.
    StepFinished {
        /// Which.
        step: StepId,
        /// Which attempt.
        attempt: u32,
        /// What came of it.
        outcome: Outcome,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// Failed prechecks were answered.
    PrecheckDecided {
        /// How.
        decision: Decision,
    },
    /// An attempt whose outcome was unknown has been looked into.
    StepSettled {
        /// Which.
        step: StepId,
        /// Which attempt.
        attempt: u32,
        /// What came of it after all; nothing if its effect never happened.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outcome: Option<Outcome>,
    },
    /// The run's owner died, or it ended and left something, and another process goes on in its place.
    RunTakenOver {
        /// What for.
        purpose: Purpose,
        /// How many records before this one the journal has lost.
        #[serde(default, skip_serializing_if = "is_zero")]
        lost: u64,
    },
    /// A signal asked the run to stop.
    Interrupted {
        /// The signal's number.
        signal: i32,
    },
    /// A third signal ended the run in the middle of its undo. It counts as dead: a recovery goes on from here.
    RunAborted {
        /// The signal's number.
        signal: i32,
    },
    /// An effect stays, as `keep` says.
    StepKept {
        /// Which.
        step: StepId,
    },
    /// The undo of a step begins.
    UndoStarted {
        /// Which.
        step: StepId,
    },
    /// A written undo is about to act on an attempt, or knows more of what it does. Durable before that can be seen, so
    /// that after a crash its own step type can tell whether it has acted.
    UndoIntended {
        /// Which.
        step: StepId,
        /// Which attempt it takes back.
        attempt: u32,
        /// The intent of the undo itself.
        intent: serde_json::Value,
    },
    /// Something that protects the run, or lets it notice things at once, could not be used.
    Degraded {
        /// What, and what that means.
        #[serde(flatten)]
        degraded: Degraded,
    },
    /// The undo of a step ended.
    UndoFinished {
        /// Which.
        step: StepId,
        /// What came of it.
        result: Result<Undone, StepError>,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// Every intent of the run has been looked for.
    LeftoversChecked {
        /// What was found.
        leftovers: Leftovers,
    },
    /// The run ended. Nothing follows, unless it left something: then it may be taken over once more.
    RunFinished {
        /// How.
        verdict: Verdict,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A [`RunEvent`] with its place and time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Its place in the history of the run, from 0.
    pub seq: u64,
    /// When, in milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: RunEvent,
}

/// What a running step tells a person who watches. Lossy; never journaled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// What it sees now.
    Sees(String),
    /// How far a transfer or a hash is.
    Bytes {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
}

/// What a [`ProgressSink`] calls.
type TakeProgress = dyn Fn(&str, Progress) + Send + Sync;

/// Takes [`Progress`]. Must not block.
#[derive(Clone)]
pub struct ProgressSink(Arc<TakeProgress>);

impl ProgressSink {
    /// A sink that calls `take` with the step's id.
    pub fn new(take: impl Fn(&str, Progress) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// A sink that drops everything.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|_, _| {})
    }

    /// Hands progress on.
    pub fn send(&self, step: &str, progress: Progress) {
        (self.0)(step, progress);
    }
}

impl fmt::Debug for ProgressSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProgressSink")
    }
}

/// Sees every durable event, in order. A reporter that fails warns by itself; it cannot stop a run.
pub trait Reporter {
    /// Takes an event that is now durable.
    fn event(&mut self, record: &Record);
    /// Takes progress.
    fn progress(&mut self, _step: &str, _progress: &Progress) {}
}
