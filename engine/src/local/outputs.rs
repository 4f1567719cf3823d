//! What `steps` is in expressions: a fold over the events of a run.

use crate::{
    event::{Intent, Outcome, RunEvent, StepId, UndoMethod},
    plan::{Plan, PlannedStep},
    playbook::global,
    step::{Chronicle, Intended},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// An attempt that may have changed something.
#[derive(Clone, Debug)]
pub(super) struct Touched {
    pub(super) attempt: u32,
    pub(super) intent: Intent,
    pub(super) output: Option<Value>,
    /// The intent of its written undo, once that has begun.
    pub(super) undoing: Option<Value>,
}

/// The outputs and intents of a run's steps.
#[derive(Debug)]
pub(crate) struct Outputs {
    status: Vec<&'static str>,
    outs: Vec<Option<Value>>,
    touched: BTreeMap<StepId, Vec<Touched>>,
    /// Of each step its type, its id, and whether anything takes it back.
    names: Vec<(String, String, bool)>,
    /// The same attempts in their order, for step types that act on one thing several times.
    chronicle: Chronicle,
    /// The steps that one id of the playbook stands for.
    instances: BTreeMap<String, Vec<StepId>>,
}

impl Outputs {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut instances: BTreeMap<String, Vec<StepId>> = BTreeMap::new();
        for (i, step) in plan.steps.iter().enumerate() {
            instances.entry(step.base.clone()).or_default().push(StepId(i));
        }
        let count = plan.steps.len();
        let name = |step: &PlannedStep| (step.body.kind.clone(), step.id.clone(), step.is_undone());
        let (status, outs) = (vec!["not run"; count], vec![None; count]);
        Self {
            status,
            outs,
            touched: BTreeMap::new(),
            names: plan.steps.iter().map(name).collect(),
            chronicle: Chronicle::default(),
            instances,
        }
    }

    pub(crate) fn apply(&mut self, event: &RunEvent) {
        match event {
            RunEvent::StepSkipped { step, .. } => self.status[step.0] = "skipped",
            RunEvent::StepStarted { step, attempt, intent } => {
                self.status[step.0] = "running";
                if let Some(intent) = intent {
                    let intent = (**intent).clone();
                    let (kind, id, is_undone) = &self.names[step.0];
                    self.chronicle.add(Intended {
                        kind: kind.clone(),
                        step: id.clone(),
                        attempt: *attempt,
                        on: intent.on.clone(),
                        params: intent.params.clone(),
                        intent: intent.intent.clone(),
                        is_derived: *is_undone && intent.undo == UndoMethod::Derived,
                    });
                    let touched = Touched { attempt: *attempt, intent, output: None, undoing: None };
                    self.touched.entry(*step).or_default().push(touched);
                }
            }
            RunEvent::IntentAmended { step, attempt, intent } => {
                let attempts = self.touched.get_mut(step).into_iter().flatten();
                for it in attempts.filter(|it| it.attempt == *attempt) {
                    it.intent.intent = intent.clone();
                }
                self.chronicle.amend(&self.names[step.0].1, *attempt, intent);
            }
            RunEvent::UndoIntended { step, attempt, intent } => {
                let attempts = self.touched.get_mut(step).into_iter().flatten();
                for it in attempts.filter(|it| it.attempt == *attempt) {
                    it.undoing = Some(intent.clone());
                }
            }
            RunEvent::StepFinished { step, attempt, outcome, .. }
            | RunEvent::StepSettled { step, attempt, outcome: Some(outcome) } => {
                let (status, out) = match outcome {
                    Outcome::Done { out, .. } => ("ok", Some(out)),
                    Outcome::Failed { out, .. } => ("failed", out.as_ref()),
                    Outcome::Unknown { .. } => ("unknown", None),
                };
                self.status[step.0] = status;
                if status == "ok" {
                    self.outs[step.0] = out.cloned();
                }
                // A step that only reads, or failed before it had an intent, has none of this attempt.
                let Some(attempts) = self.touched.get_mut(step) else { return };
                let Some(last) = attempts.last_mut().filter(|last| last.attempt == *attempt) else { return };
                last.output = out.cloned();
                // What an undo would find of it is another's.
                if matches!(outcome, Outcome::Failed { error, out: None } if error.no_effect) {
                    attempts.pop();
                    self.chronicle.forget(&self.names[step.0].1, Some(*attempt));
                    if attempts.is_empty() {
                        self.touched.remove(step);
                    }
                }
            }
            RunEvent::StepKept { step } => self.chronicle.forget(&self.names[step.0].1, None),
            _ => {}
        }
    }

    /// What the run has intended so far; it goes on with the run.
    pub(super) fn chronicle(&self) -> Chronicle {
        self.chronicle.clone()
    }

    /// Attempts of a step that may have changed something, the latest first.
    pub(super) fn touched(&self, step: StepId) -> Vec<Touched> {
        self.touched.get(&step).map(|attempts| attempts.iter().rev().cloned().collect()).unwrap_or_default()
    }

    /// All steps that may have changed something.
    pub(super) fn all_touched(&self) -> Vec<StepId> {
        self.touched.keys().copied().collect()
    }

    /// `steps`, with those that `step` reads.
    pub(crate) fn visible_to(&self, plan: &Plan, step: &PlannedStep) -> Value {
        let mut bases: Vec<&str> = step.reads.iter().map(|id| plan.step(*id).base.as_str()).collect();
        bases.sort_unstable();
        bases.dedup();
        let known =
            bases.into_iter().filter_map(|base| Some((step.calls(base)?.to_owned(), self.value(plan, base))));
        let mut steps: Map<String, Value> = known.collect();
        // A `foreach` over nothing has no step in the plan, and went well.
        let mut nothing = |expr: &crate::expr::Expr| {
            for name in expr.steps() {
                if !steps.contains_key(name)
                    && !self.instances.contains_key(&global(step.include.as_deref(), name))
                {
                    steps.insert(name.to_owned(), json!({ "status": "ok", "out": [] }));
                }
            }
        };
        step.when.iter().chain(&step.expect).for_each(&mut nothing);
        step.body.for_each_expr(&mut nothing);
        step.undo.iter().for_each(|undo| undo.for_each_expr(&mut nothing));
        Value::Object(steps)
    }

    /// The first step that `step` reads without asking whether it is there, and that has no output.
    pub(super) fn missing_for(&self, plan: &Plan, step: &PlannedStep) -> Option<String> {
        let mut missing = None;
        let mut look = |expr: &crate::expr::Expr| {
            for id in expr.references().iter().filter(|r| !r.guarded).filter_map(crate::expr::Reference::step)
            {
                let asked = expr.references().iter().any(|r| r.guarded && r.step() == Some(id));
                let mut read =
                    step.reads.iter().filter(|read| step.calls(&plan.step(**read).base) == Some(id));
                let has_output = read.all(|read| self.outs[read.0].is_some());
                if !asked && !has_output {
                    missing.get_or_insert_with(|| id.to_owned());
                }
            }
        };
        step.when.iter().for_each(&mut look);
        step.body.for_each_expr(&mut look);
        missing
    }

    fn value(&self, plan: &Plan, base: &str) -> Value {
        let Some(instances) = self.instances.get(base) else { return Value::Null };
        let entry = |status: &str, out: Option<Value>| {
            let mut entry = Map::new();
            entry.insert("status".into(), json!(status));
            if let Some(out) = out {
                entry.insert("out".into(), out);
            }
            Value::Object(entry)
        };
        if let [only] = instances.as_slice()
            && plan.step(*only).each.is_none()
        {
            return entry(self.status[only.0], self.outs[only.0].clone());
        }
        let statuses: Vec<&str> = instances.iter().map(|id| self.status[id.0]).collect();
        let status = ["failed", "unknown", "running", "not run"]
            .into_iter()
            .find(|status| statuses.contains(status))
            .unwrap_or(if !statuses.is_empty() && statuses.iter().all(|s| *s == "skipped") {
                "skipped"
            } else {
                "ok"
            });
        let by_key =
            instances.iter().any(|id| plan.step(*id).each.as_ref().is_some_and(|each| each.key.is_string()));
        let outs = instances.iter().map(|id| self.outs[id.0].clone().unwrap_or(Value::Null));
        let out = if by_key {
            let keys = instances.iter().map(|id| {
                plan.step(*id)
                    .each
                    .as_ref()
                    .and_then(|each| each.key.as_str().map(str::to_owned))
                    .unwrap_or_default()
            });
            Value::Object(keys.zip(outs).collect())
        } else {
            Value::Array(outs.collect())
        };
        entry(status, Some(out))
    }
}
