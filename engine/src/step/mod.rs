//! What a step type is: the trait that a contributor implements, and what its methods speak in.

mod changes;
mod chronicle;
mod context;
mod erased;
mod paths;
mod view;

pub use changes::Changes;
pub use chronicle::{Chronicle, Intended};
pub use context::{Amend, Condition, Context, Nested, RunInfo, Services};
pub use erased::{DynStep, Erased};
pub use view::ParamsView;

use crate::error::StepError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::future::Future;

/// What a step does to the world, as far as its parameters tell before it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It only reads.
    Reads,
    /// It changes something, and can take that back by itself: how, in words.
    Undoable(String),
    /// It changes something that only a written `undo` can take back.
    NeedsWrittenUndo,
}

impl Effect {
    /// Whether it only reads.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        *self == Self::Reads
    }
}

/// What may be done with a step whose outcome is unknown, after a lost connection or a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// Running it again is harmless: each attempt has an intent of its own, and all of them are undone.
    Rerun,
    /// [`Step::settle`] tells whether it happened.
    Probe,
    /// Only a person can tell.
    Manual,
}

/// What a plan says of a step without asking the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Description {
    /// A line such as `create /data/a.txt, 1 KiB`: lower case, starts with a verb or a thing.
    pub title: String,
    /// Whether it changes the world.
    pub effect: Effect,
    /// What may be done when its outcome is unknown.
    pub recovery: Recovery,
    /// Whether it waits rather than works: it gets a slot beside the working ones.
    #[serde(default)]
    pub waits: bool,
}

impl Description {
    /// A step that only reads.
    #[must_use]
    pub fn reads(title: impl Into<String>) -> Self {
        Self { title: title.into(), effect: Effect::Reads, recovery: Recovery::Rerun, waits: false }
    }

    /// A step that changes something and undoes it by itself.
    #[must_use]
    pub fn changes(title: impl Into<String>, undo: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            effect: Effect::Undoable(undo.into()),
            recovery: Recovery::Probe,
            waits: false,
        }
    }

    /// A step that changes something which only a written `undo` takes back.
    #[must_use]
    pub fn needs_written_undo(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            effect: Effect::NeedsWrittenUndo,
            recovery: Recovery::Manual,
            waits: false,
        }
    }

    /// A step that waits and only reads.
    #[must_use]
    pub fn waits(title: impl Into<String>) -> Self {
        Self { waits: true, ..Self::reads(title) }
    }
}

/// What a read-only look at the system says of a step that has not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Probe {
    /// What is there now, in a few words, such as `active` or `writable, WAL`.
    pub now: String,
    /// What that means for the step.
    pub prospect: Prospect,
}

/// What a probe foresees. There is no "will succeed": nobody knows that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Prospect {
    /// Nothing seen now speaks against it.
    WouldPass,
    /// It would fail, with this error.
    WouldFail(StepError),
    /// Only the run can tell.
    Unknown,
}

impl Probe {
    /// Nothing seen now speaks against the step.
    #[must_use]
    pub fn would_pass(now: impl Into<String>) -> Self {
        Self { now: now.into(), prospect: Prospect::WouldPass }
    }

    /// The step would fail.
    #[must_use]
    pub fn would_fail(now: impl Into<String>, error: StepError) -> Self {
        Self { now: now.into(), prospect: Prospect::WouldFail(error) }
    }

    /// Only the run can tell.
    #[must_use]
    pub fn unknown(now: impl Into<String>) -> Self {
        Self { now: now.into(), prospect: Prospect::Unknown }
    }
}

/// What an undo came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "undone")]
pub enum Undone {
    /// Everything this step made is gone again.
    Removed,
    /// The effect never happened, or somebody else has taken it back.
    NothingToDo,
    /// Something is left on purpose: it changed since, or belongs to another.
    Left(Leftover),
    /// It could not be seen whether what this step made is still there: a look was denied, failed or was cut off, or
    /// the place it stood in is another now. Never [`Undone::NothingToDo`], which claims to have looked.
    CannotTell(Leftover),
}

/// Something that a run made and did not take back, or may not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Leftover {
    /// What it is, such as ``file `/data/a.txt` ``.
    pub what: String,
    /// Why it is still there.
    pub why: String,
    /// A command that removes it, or looks at it, as it is typed on the host where the step acts: the engine puts `ssh`
    /// before it. Always a command, never prose; empty where there is none.
    pub remove_with: String,
}

/// Words of the commands that steps print to look at something.
const LOOKS: [&str; 10] = [
    "SELECT ",
    "ls -",
    "findmnt ",
    "json.tool",
    " GET ",
    " LRANGE ",
    " HMGET ",
    " XRANGE ",
    "[\"earlier\"])",
    "systemctl status",
];
/// Words of those that change something. They may also stand in a name: then nothing is said of a look.
const ACTS: [&str; 14] = [
    "DELETE",
    "UPDATE",
    "INSERT",
    "BEGIN",
    "EVAL",
    " SET ",
    "DEL ",
    "REM ",
    "rm ",
    "rmdir ",
    "mv ",
    "kill ",
    "umount",
    "os.replace",
];

impl Leftover {
    /// Whether the command only shows it: what another made of it, or what may be another's, is not removed by a command of ours.
    #[must_use]
    pub fn only_looks(&self) -> bool {
        let has = |words: &[&str]| words.iter().any(|word| self.remove_with.contains(word));
        has(&LOOKS) && !has(&ACTS)
    }
}

/// A command that a person can type to remove what a step made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByHand {
    /// The host of the playbook on which it is typed, if not the step's own.
    pub host: Option<String>,
    /// A line for `/bin/sh`.
    pub command: String,
}

/// What the leftovers check finds when it looks for what a step made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It is not there.
    Gone,
    /// It is there.
    Present(Leftover),
    /// It cannot be told.
    Unknown(String),
}

/// What became of an effect whose outcome was unknown, after a lost connection or a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled<T> {
    /// It happened, with this output.
    Happened(T),
    /// It did not happen; what was half made is known by the intent and taken back with it.
    NotHappened,
    /// It cannot be told: why.
    Unclear(String),
}

/// What `shakedown steps KIND` and the step reference print.
#[derive(Clone, Copy, Debug)]
pub struct Docs {
    /// One line: what the step type is for.
    pub summary: &'static str,
    /// A few paragraphs of Markdown: behaviour, undo, what to mind.
    pub details: &'static str,
    /// A complete step or more in YAML, as it stands in a phase.
    pub example: &'static str,
    /// The errors it can give, each with the next step.
    pub errors: &'static [(&'static str, &'static str)],
    /// Whether `on: HOST` is supported.
    pub on_host: bool,
}

/// The intent and undo of a step type that only reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoIntent {}

/// A step type. One file in `steps` implements it and one line in `builtin()` adds it.
///
/// Only [`Step::docs`], [`Step::describe`] and [`Step::run`] must be written; a step type with an effect also
/// writes `intend`, `undo` and `presence`, and says `type Intent` (others say [`NoIntent`]).
pub trait Step: Send + Sync + 'static {
    /// The key that playbooks use, such as `sqlite`.
    const KIND: &'static str;
    /// What stands below that key. Derive `Deserialize` with `deny_unknown_fields`; doc comments become docs.
    type Params: DeserializeOwned + JsonSchema + Send + Sync;
    /// What `steps.ID.out` and `out` show.
    type Output: Serialize + DeserializeOwned + JsonSchema + Send + Sync;
    /// What must be known, and be durable, before the effect starts, so that it can be undone.
    type Intent: Serialize + DeserializeOwned + Send + Sync;

    /// What `shakedown steps KIND` prints.
    fn docs(&self) -> Docs;

    /// What the step does, told from its parameters alone. Pure. Values that are not known yet appear in `view`
    /// as the text of their expression; which keys are present is always known.
    fn describe(&self, view: &ParamsView<'_>) -> Description;

    /// Whether the parameters go together: exactly one action, no option of another. Pure; called while reading a
    /// playbook, with the keys that are present. Each error names the key it is about.
    fn check(&self, _view: &ParamsView<'_>) -> Vec<(String, String)> {
        Vec::new()
    }

    /// What is wrong with the step where nobody takes it back: in `cleanup`, and as a written undo. Pure, as
    /// [`Step::check`].
    fn check_final(&self, _view: &ParamsView<'_>) -> Vec<(String, String)> {
        Vec::new()
    }

    /// The parameter that names the host on which the effect happens, of a step type that takes no `on`. A written undo
    /// without an `on` of its own goes there.
    fn host_param(&self, _view: &ParamsView<'_>) -> Option<&'static str> {
        None
    }

    /// Read-only steps that a failed run takes by itself before anything is undone, for they tell more about what this
    /// one touches: a name for the step, its type and its parameters, among them `unit`. Pure.
    fn diagnostics(&self, _view: &ParamsView<'_>) -> Vec<(String, &'static str, serde_json::Value)> {
        Vec::new()
    }

    /// What an effect changes, in words such as ``the file `/a` ``, so that two steps that change the same thing are
    /// known to. Pure; values that are not known yet count as their text.
    fn touches(&self, _view: &ParamsView<'_>) -> Vec<String> {
        Vec::new()
    }

    /// A read-only look ahead for the plan. The engine itself probes a step that only reads by running it, so
    /// only step types with effects have something to say here.
    fn probe(
        &self,
        _cx: &Context,
        _params: &Self::Params,
    ) -> impl Future<Output = Result<Probe, StepError>> + Send {
        async { Ok(Probe::unknown("")) }
    }

    /// Top-level keys whose values [`Step::probe`] does without: a plan is probed although they are not known yet.
    fn probe_ignores(&self) -> &'static [&'static str] {
        &[]
    }

    /// Read-only: the state found, the names to be made, the seed of random content.
    fn intend(
        &self,
        cx: &Context,
        params: &Self::Params,
    ) -> impl Future<Output = Result<Self::Intent, StepError>> + Send;

    /// Does it. Called only once the intent is durable.
    fn run(
        &self,
        cx: &Context,
        params: &Self::Params,
        intent: &Self::Intent,
    ) -> impl Future<Output = Result<Self::Output, StepError>> + Send;

    /// Gives word when another look may show something new; asked before the first look. None where there is no word to
    /// be had, as of most things on other hosts: a wait then asks again and again.
    fn changes(
        &self,
        _cx: &Context,
        _params: &Self::Params,
    ) -> impl Future<Output = Option<Box<dyn Changes>>> + Send {
        async { None }
    }

    /// A few words for the report about what was found or done, such as `active` or `1 KiB`.
    fn summary(&self, _output: &Self::Output) -> String {
        String::new()
    }

    /// Looks, read-only, whether the effect of an attempt happened whose outcome is unknown. Asked of step types that
    /// describe themselves with [`Recovery::Probe`], before anything is tried again.
    fn settle(
        &self,
        _cx: &Context,
        _params: &Self::Params,
        _intent: &Self::Intent,
    ) -> impl Future<Output = Result<Settled<Self::Output>, StepError>> + Send {
        async { Ok(Settled::Unclear(format!("`{}` cannot tell", Self::KIND))) }
    }

    /// Takes back what `run` did, and only that. Succeeds where it never happened; may be called twice. `output`
    /// is missing when the step failed, timed out or crashed.
    fn undo(
        &self,
        _cx: &Context,
        _params: &Self::Params,
        _intent: &Self::Intent,
        _output: Option<&Self::Output>,
    ) -> impl Future<Output = Result<Undone, StepError>> + Send {
        async { Ok(Undone::NothingToDo) }
    }

    /// How a person removes what the step made, told from the intent alone: for a host that does not answer.
    fn by_hand(&self, _params: &Self::Params, _intent: &Self::Intent) -> Option<ByHand> {
        None
    }

    /// The effect stays for good, as `keep` says: removes what was put by for its undo. It may be called again.
    fn release(
        &self,
        _cx: &Context,
        _params: &Self::Params,
        _intent: &Self::Intent,
    ) -> impl Future<Output = Result<(), StepError>> + Send {
        async { Ok(()) }
    }

    /// Looks, read-only, whether what the step made is still there; the leftovers check asks this after the undo.
    fn presence(
        &self,
        _cx: &Context,
        _params: &Self::Params,
        _intent: &Self::Intent,
        _output: Option<&Self::Output>,
    ) -> impl Future<Output = Result<Presence, StepError>> + Send {
        async { Ok(Presence::Gone) }
    }
}
