//! Asks the system, read-only, what a plan foresees.

use super::{
    Forecast, Plan, PlannedStep,
    build::{is_known, knows_steps, why_false},
    preview::preview_map,
    scope_of,
};
use crate::{
    error::{ErrorClass, StepError},
    event::{Outcome, Phase, ProgressSink, RunEvent, SkipReason, StepId},
    expr::{Outside, Scope},
    host::{Cancel, CancelSource},
    local::{Outputs, expectation},
    playbook::Template,
    registry::Registry,
    step::{Context, Probe, Prospect, Services},
};
use serde_json::Value;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinSet;

/// How long one probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Fills in the forecasts of a plan by read-only probes, side by side: gives how many were made.
///
/// A step that only reads is run, but only where nothing that this plan changes comes before it: what it sees now
/// is then what the run would see, and others that read its output are asked with that. A step with an effect is
/// asked to look ahead.
pub async fn probe_plan(plan: &mut Plan, services: Arc<Services>, outside: Arc<dyn Outside>) -> usize {
    let mut looking = Looking {
        base: Scope::new(outside),
        outputs: Outputs::new(plan),
        stands: vec![Stand::Open; plan.steps.len()],
        open: (0..plan.steps.len()).collect(),
        services,
        probes: JoinSet::new(),
    };
    for (i, step) in plan.steps.iter().enumerate() {
        let looks = matches!(step.phase, Phase::Precheck | Phase::Prepare | Phase::Monitor);
        if matches!(step.forecast, Forecast::Skipped(_)) {
            looking.skipped(StepId(i));
        } else if !looks || step.description.waits || (!step.is_effect() && effect_before(plan, i).is_some())
        {
            looking.stands[i] = Stand::Unknown;
        }
    }
    let mut count = 0;
    loop {
        looking.ask_who_can_be(plan);
        let Some(done) = looking.probes.join_next().await else { break };
        let Ok((id, seen)) = done else { continue };
        looking.stands[id.0] = Stand::Unknown;
        let Some(Seen { probe, out }) = seen else { continue };
        count += 1;
        if let (Some(out), false) = (out, matches!(probe.prospect, Prospect::WouldFail(_))) {
            looking.saw(id, out);
        }
        // What fails now may not fail once the effects before it have happened: that is no prediction.
        let open =
            matches!(probe.prospect, Prospect::WouldFail(_)).then(|| effect_before(plan, id.0)).flatten();
        plan.steps[id.0].forecast = match open {
            Some(before) => Forecast::Unknown(format!("known after {}", plan.step(before).id)),
            None => Forecast::Observed(probe),
        };
    }
    count
}

/// How far a step has been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// Not yet.
    Open,
    /// It is being asked.
    Asked,
    /// Its output is known, or that it has none.
    Known,
    /// Only the run can tell what comes of it.
    Unknown,
}

/// A plan that is being looked at.
struct Looking {
    base: Scope,
    outputs: Outputs,
    stands: Vec<Stand>,
    /// The steps that are still [`Stand::Open`], and perhaps some that are not any more.
    open: Vec<usize>,
    services: Arc<Services>,
    probes: JoinSet<(StepId, Option<Seen>)>,
}

/// What a probe saw.
struct Seen {
    probe: Probe,
    /// The output of a step that only reads.
    out: Option<Value>,
}

impl Looking {
    fn skipped(&mut self, id: StepId) {
        self.stands[id.0] = Stand::Known;
        self.outputs.apply(&RunEvent::StepSkipped { step: id, reason: SkipReason::When });
    }

    fn saw(&mut self, id: StepId, out: Value) {
        self.stands[id.0] = Stand::Known;
        let outcome = Outcome::Done { out, summary: String::new() };
        self.outputs.apply(&RunEvent::StepFinished { step: id, attempt: 1, outcome, took_ms: 0 });
    }

    /// Asks all steps whose turn it is: what they read is known by now, or will not be. Again after each answer.
    fn ask_who_can_be(&mut self, plan: &mut Plan) {
        loop {
            let mut skipped = false;
            let open = std::mem::take(&mut self.open);
            for i in open.into_iter().filter(|i| self.stands[*i] == Stand::Open).collect::<Vec<_>>() {
                let waits_for = |read: &StepId| matches!(self.stands[read.0], Stand::Open | Stand::Asked);
                if plan.steps[i].reads.iter().any(waits_for) {
                    self.open.push(i);
                    continue;
                }
                self.stands[i] = Stand::Asked;
                skipped |= self.ask(plan, StepId(i));
            }
            // Who is skipped settles what others read.
            if !skipped {
                return;
            }
        }
    }

    /// Asks a step; true if it turns out to be skipped.
    fn ask(&mut self, plan: &mut Plan, id: StepId) -> bool {
        let step = plan.step(id);
        let scope = self.scope(plan, step);
        if let Some(when) = &step.when {
            match is_known(when, &scope).then(|| when.truth(&scope)) {
                Some(Ok(true)) => {}
                Some(Ok(false)) => {
                    plan.steps[id.0].forecast = Forecast::Skipped(why_false(when, &scope));
                    self.skipped(id);
                    return true;
                }
                // What is seen of it matters only if it runs: nobody knows.
                Some(Err(_)) | None => {
                    self.stands[id.0] = Stand::Unknown;
                    return false;
                }
            }
        }
        let (params, unknown) = preview_map(&step.body.params, &scope);
        if !unknown.is_empty() && !step.is_effect() {
            self.stands[id.0] = Stand::Unknown;
            return false;
        }
        let job = Probing { step: step.clone(), params, unknown, scope, services: self.services.clone() };
        let limit = PROBE_TIMEOUT.min(step.timeout.duration());
        self.probes.spawn(async move {
            let (source, cancel) = CancelSource::new();
            let found = tokio::time::timeout(limit, job.look(cancel)).await;
            source.cancel();
            (
                id,
                found.unwrap_or_else(|_| {
                    let message = format!("no answer within {} s", limit.as_secs());
                    let error = StepError::new(ErrorClass::Timeout, message);
                    Some(Seen { probe: Probe::would_fail("no answer", error), out: None })
                }),
            )
        });
        false
    }

    /// The names that a step's expressions see: of `steps` those whose output is known now.
    fn scope(&self, plan: &Plan, step: &PlannedStep) -> Scope {
        let mut scope = scope_of(plan, step, &self.base);
        let mut steps = self.outputs.visible_to(plan, step);
        if let Value::Object(steps) = &mut steps {
            for read in step.reads.iter().filter(|read| self.stands[read.0] != Stand::Known) {
                if let Some(name) = step.calls(&plan.step(*read).base) {
                    steps.shift_remove(name);
                }
            }
        }
        scope.set("steps", steps);
        scope
    }
}

/// Something that this plan changes before the step: the nearest in its own phase, or any of an earlier phase.
fn effect_before(plan: &Plan, step: usize) -> Option<StepId> {
    let mut seen = BTreeSet::new();
    let mut queue: VecDeque<StepId> = plan.steps[step].needs.iter().copied().collect();
    while let Some(up) = queue.pop_front() {
        if seen.insert(up) {
            if plan.step(up).is_effect() {
                return Some(up);
            }
            queue.extend(&plan.step(up).needs);
        }
    }
    let phase = plan.steps[step].phase;
    (0..plan.steps.len()).map(StepId).find(|id| plan.step(*id).phase < phase && plan.step(*id).is_effect())
}

struct Probing {
    step: PlannedStep,
    params: Value,
    unknown: BTreeSet<String>,
    scope: Scope,
    services: Arc<Services>,
}

impl Probing {
    async fn look(&self, cancel: Cancel) -> Option<Seen> {
        match self.ask(cancel).await {
            Ok(seen) => seen,
            Err(error) => Some(Seen { probe: Probe::would_fail(error.class.name(), error), out: None }),
        }
    }

    async fn ask(&self, cancel: Cancel) -> Result<Option<Seen>, StepError> {
        let registry: &Registry = &self.services.registry;
        let Some(kind) = registry.get(&self.step.body.kind) else { return Ok(None) };
        let on = match &self.step.body.on {
            Some(Template::Literal(Value::String(name))) => Some(name.clone()),
            Some(on) => super::render(on, &self.scope)?.as_str().map(str::to_owned),
            None => None,
        };
        let cx = Context {
            services: self.services.clone(),
            step: self.step.id.clone(),
            phase: self.step.phase,
            attempt: 1,
            undoing: false,
            amend: crate::step::Amend::none(),
            chronicle: crate::step::Chronicle::default(),
            host: self.services.host(on.as_deref()).await?,
            cancel,
            scope: Arc::new(self.scope.clone()),
            progress: ProgressSink::none(),
        };
        if self.step.is_effect() {
            // What is not known yet stands as the text of its expression: only step types whose look ahead does
            // not need it can be asked.
            let needed = self.unknown.iter().any(|key| !kind.probe_ignores().contains(&key.as_str()));
            if needed || kind.accepts(&self.params).is_err() {
                return Ok(None);
            }
            let probe = kind.probe(&cx, &self.params).await?;
            return Ok((!probe.now.is_empty()).then_some(Seen { probe, out: None }));
        }
        let intent = kind.intend(&cx, &self.params).await?;
        let out = kind.run(&cx, &self.params, &intent).await?;
        let now = kind.summary(&out);
        let probe = match &self.step.expect {
            None => Probe::would_pass(now),
            // What it compares with is not known yet.
            Some(expect) if !knows_steps(expect, &self.scope) => Probe::unknown(now),
            Some(expect) => match expectation(expect, &out, &self.scope) {
                Err(error) => Probe::would_fail(now, error),
                Ok(()) => Probe::would_pass(now),
            },
        };
        Ok(Some(Seen { probe, out: Some(out) }))
    }
}
