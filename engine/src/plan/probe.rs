//! Asks the system, read-only, what a plan foresees.

use super::{Forecast, Plan, PlannedStep, build::preview_map, scope_of};
use crate::{
    error::{ErrorClass, StepError},
    event::{Phase, ProgressSink, StepId},
    expr::{Outside, Scope},
    host::{Cancel, CancelSource},
    local::expectation,
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
/// is then what the run would see. A step with an effect is asked to look ahead.
pub async fn probe_plan(plan: &mut Plan, services: Arc<Services>, outside: Arc<dyn Outside>) -> usize {
    let base = Scope::new(outside);
    let mut probes = JoinSet::new();
    for (i, step) in plan.steps.iter().enumerate() {
        if !matches!(step.phase, Phase::Precheck | Phase::Prepare | Phase::Monitor)
            || matches!(step.forecast, Forecast::Skipped)
        {
            continue;
        }
        if step.description.waits || (!step.is_effect() && effect_before(plan, i).is_some()) {
            continue;
        }
        let scope = scope_of(plan, step, &base);
        let (params, unknown) = preview_map(&step.body.params, &scope);
        if !unknown.is_empty() && !step.is_effect() {
            continue;
        }
        let job = Probing { step: step.clone(), params, unknown, scope, services: services.clone() };
        let limit = PROBE_TIMEOUT.min(step.timeout.duration());
        probes.spawn(async move {
            let (source, cancel) = CancelSource::new();
            let found = tokio::time::timeout(limit, job.look(cancel)).await;
            source.cancel();
            (
                StepId(i),
                found.unwrap_or_else(|_| {
                    let message = format!("no answer within {} s", limit.as_secs());
                    let error = StepError::new(ErrorClass::Timeout, message);
                    Some(Probe::would_fail("no answer", error))
                }),
            )
        });
    }
    let mut count = 0;
    while let Some(done) = probes.join_next().await {
        let Ok((id, Some(probe))) = done else { continue };
        count += 1;
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
    async fn look(&self, cancel: Cancel) -> Option<Probe> {
        match self.ask(cancel).await {
            Ok(probe) => probe,
            Err(error) => Some(Probe::would_fail(error.class.name(), error)),
        }
    }

    async fn ask(&self, cancel: Cancel) -> Result<Option<Probe>, StepError> {
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
            return Ok((!probe.now.is_empty()).then_some(probe));
        }
        let intent = kind.intend(&cx, &self.params).await?;
        let out = kind.run(&cx, &self.params, &intent).await?;
        let now = kind.summary(&out);
        Ok(Some(match self.step.expect.as_ref().map(|expect| expectation(expect, &out, &self.scope)) {
            Some(Err(error)) => Probe::would_fail(now, error),
            Some(Ok(())) | None => Probe::would_pass(now),
        }))
    }
}
