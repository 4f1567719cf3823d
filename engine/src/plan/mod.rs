//! A plan: everything a run will do, known before it does anything. A value with a hash.

mod bind;
mod build;
mod diagnostics;
mod difference;
mod dot;
mod drift;
mod fixed;
mod graph_lines;
mod mermaid;
mod preview;
#[cfg(feature = "local")]
mod probe;
mod render;
pub mod text;
mod totals;
mod values;

pub use bind::{bind_params, convert};
pub use build::{Inputs, build};
pub use difference::difference;
pub use dot::dot;
pub use drift::drift;
pub use mermaid::mermaid;
#[cfg(feature = "local")]
pub use probe::probe_plan;
pub use render::{render, render_body, scope_of};
pub use totals::Totals;

use crate::{
    diagnostic::Span,
    error::StepError,
    event::{Phase, StepId},
    expr::Expr,
    host::HostSpec,
    playbook::{Body, Keep, RetryPolicy, Template, local},
    quantity::Millis,
    secret::SecretSource,
    step::{Description, Effect, Probe, Prospect, RunInfo},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The version of the plan's JSON form.
pub const PLAN_VERSION: u32 = 1;

/// The SHA-256, in hex.
#[must_use]
pub fn checksum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// Everything a run will do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// SHA-256 over what the run will do: the playbook, the values of its params and vars, the steps. Not over the
    /// run's own id and time, and not over what probes saw.
    pub hash: String,
    /// The playbook's name.
    pub playbook: String,
    /// What it proves.
    pub description: String,
    /// The file it was read from.
    pub source: String,
    /// The run that will carry it out.
    pub run: RunInfo,
    /// The values of the params.
    pub params: Map<String, Value>,
    /// The values of the vars.
    pub vars: Map<String, Value>,
    /// The fragments that the playbook includes, by the ids of the includes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub includes: BTreeMap<String, PlannedInclude>,
    /// The inventory that named hosts beside the playbook's own, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<String>,
    /// The hosts.
    pub hosts: Vec<HostSpec>,
    /// Where the secrets are found; never what they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretSource>,
    /// How many local steps may work at once.
    pub max_parallel: usize,
    /// The steps in the order of the playbook, `foreach` expanded.
    pub steps: Vec<PlannedStep>,
}

/// A fragment with its values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedInclude {
    /// The file it was read from, or `bundled:NAME`.
    pub source: String,
    /// What each param is given, as it is written: by `with`, or by its default.
    pub given: BTreeMap<String, Template>,
    /// The values of its params.
    pub params: Map<String, Value>,
    /// The values of its vars.
    pub vars: Map<String, Value>,
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedStep {
    /// Its id; of a `foreach` with its key: `media[2]`.
    pub id: String,
    /// Its id in the playbook.
    pub base: String,
    /// The include whose fragment it stands in: its expressions see the params, vars and steps of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include: Option<String>,
    /// Its item of a `foreach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Each>,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its phase.
    pub phase: Phase,
    /// The steps of its phase that have to be over before.
    pub needs: Vec<StepId>,
    /// All steps whose output it reads, of any phase.
    pub reads: Vec<StepId>,
    /// Runs only if this holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Expr>,
    /// Must hold of its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expr>,
    /// The step type with its parameters.
    pub body: Body,
    /// The written undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Body>,
    /// The limit of one attempt.
    pub timeout: Millis,
    /// When it is tried again.
    pub retry: RetryPolicy,
    /// How long its effect lasts.
    pub keep: Keep,
    /// Whether its failure is tolerated.
    pub continue_on_error: bool,
    /// The named lock it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
    /// What to do when it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Template>,
    /// What it does, in words.
    pub description: Description,
    /// What is foreseen of it.
    pub forecast: Forecast,
    /// Where it stands.
    pub at: Place,
}

/// An item of a `foreach`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Each {
    /// The index in a list, the key in a map.
    pub key: Value,
    /// The item.
    pub value: Value,
    /// A name of its own for the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
}

/// A place in the playbook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// What is foreseen of a step. There are three certainties: seen now, will be done, unknown until the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forecast {
    /// A read-only probe saw this now.
    Observed(Probe),
    /// It will be done; nothing was asked.
    Will,
    /// It will be skipped: why.
    Skipped(String),
    /// Only the run can tell: why.
    Unknown(String),
}

impl Plan {
    /// The first seven digits of the hash.
    #[must_use]
    pub fn short_hash(&self) -> &str {
        &self.hash[..7.min(self.hash.len())]
    }

    /// The step with this id.
    #[must_use]
    pub fn step(&self, id: StepId) -> &PlannedStep {
        &self.steps[id.0]
    }

    /// Where a step stands: `file:line:column`.
    #[must_use]
    pub fn place(&self, step: &PlannedStep) -> String {
        let include = step.include.as_ref().and_then(|id| self.includes.get(id));
        let source = include.map_or(&self.source, |include| &include.source);
        format!("{source}:{}:{}", step.at.line, step.at.column)
    }

    /// Steps that a probe foresees to fail, with the error.
    pub fn predicted_failures(&self) -> impl Iterator<Item = (&PlannedStep, &StepError)> {
        self.steps.iter().filter_map(|step| match &step.forecast {
            Forecast::Observed(Probe { prospect: Prospect::WouldFail(error), .. }) => Some((step, error)),
            _ => None,
        })
    }

    /// The SHA-256 of what the run will do, as hex.
    #[must_use]
    pub(crate) fn compute_hash(&self, same_of_any_run: &Value) -> String {
        #[derive(Serialize)]
        struct Content<'a> {
            version: u32,
            playbook: &'a str,
            params: &'a Map<String, Value>,
            values: &'a Value,
            hosts: &'a [HostSpec],
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            secrets: &'a BTreeMap<String, SecretSource>,
            max_parallel: usize,
            steps: Vec<PlannedStep>,
        }
        let steps = self
            .steps
            .iter()
            .cloned()
            .map(|step| PlannedStep {
                forecast: Forecast::Will,
                at: Place::default(),
                ..step.without_run_values()
            })
            .collect();
        let content = Content {
            version: self.version,
            playbook: &self.playbook,
            params: &self.params,
            values: same_of_any_run,
            hosts: &self.hosts,
            secrets: &self.secrets,
            max_parallel: self.max_parallel,
            steps,
        };
        let bytes = serde_json::to_vec(&content).unwrap_or_default();
        checksum(&bytes)
    }
}

impl PlannedStep {
    /// What its expressions call the step with this id of the playbook; nothing if they do not know it.
    #[must_use]
    pub fn calls<'i>(&self, base: &'i str) -> Option<&'i str> {
        local(self.include.as_deref(), base)
    }

    /// Whether it changes something.
    #[must_use]
    pub fn is_effect(&self) -> bool {
        !self.description.effect.is_read_only()
    }

    /// Whether its effect can be taken back.
    #[must_use]
    pub fn is_undoable(&self) -> bool {
        match &self.description.effect {
            Effect::Reads => false,
            Effect::Undoable(_) => true,
            Effect::NeedsWrittenUndo => self.undo.is_some(),
        }
    }

    /// Whether its effect is meant to last: cleanup is never undone.
    #[must_use]
    pub fn is_undone(&self) -> bool {
        self.is_undoable() && self.phase != Phase::Cleanup
    }

    /// How its effect is taken back, in words; nothing for a step that only reads.
    #[must_use]
    pub fn undo_words(&self) -> Option<String> {
        match (&self.description.effect, &self.undo) {
            (Effect::Reads, _) => None,
            (_, Some(undo)) => Some(match undo.host_words() {
                Some(host) => format!("its written undo, {} on {host}", undo.kind),
                None => format!("its written undo, {}", undo.kind),
            }),
            (Effect::Undoable(words), None) => Some(words.clone()),
            (Effect::NeedsWrittenUndo, None) => Some("none".into()),
        }
    }

    /// Titles and items of `foreach` may hold the run's id and time, which are no part of the hash.
    fn without_run_values(mut self) -> Self {
        self.description.title.clear();
        if let Some(each) = &mut self.each {
            each.value = Value::Null;
        }
        self
    }
}

/// Something that keeps a valid playbook from being planned: params that are missing or of the wrong type, vars
/// that cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanProblem {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Where in the playbook, if it is there.
    pub span: Option<Span>,
}

impl PlanProblem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, span: None }
    }

    /// An error of what is named, with its hint.
    pub(crate) fn of(what: &str, error: StepError) -> Self {
        Self { message: format!("{what}: {}", error.message), hint: error.hint, span: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }
}
