//! What a failed run looks at by itself: step types name what tells more about the things they touch.

use super::{Forecast, PlannedStep, fixed::Fixed, preview::preview_map, render::with_each};
use crate::{
    event::Phase,
    playbook::{Body, Keep, RetryPolicy, Template},
    quantity::Millis,
    registry::Registry,
    step::ParamsView,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Diagnostics must not hold up the undo for long.
const TIMEOUT: Millis = Millis(10_000);

/// Adds to `on_failure` what the step types of a plan name, each once, unless the playbook asks for the same.
pub(super) fn add(steps: &mut Vec<PlannedStep>, registry: &Registry, fixed: &Fixed) {
    let mut known: BTreeSet<String> = steps
        .iter()
        .filter(|step| step.phase == Phase::OnFailure)
        .filter_map(|step| {
            let scope = fixed.scope_in(step.include.as_deref());
            subject(&step.body.kind, &preview_map(&step.body.params, scope).0, step.body.on.as_ref())
        })
        .collect();
    let ids: BTreeSet<String> = steps.iter().map(|step| step.base.clone()).collect();
    let mut added = Vec::new();
    for step in steps.iter().filter(|step| step.phase != Phase::OnFailure) {
        let Some(kind) = registry.get(&step.body.kind) else { continue };
        let scope = with_each(fixed.scope_in(step.include.as_deref()), step.each.as_ref());
        let (params, unknown) = preview_map(&step.body.params, &scope);
        for (name, kind, params) in kind.diagnostics(&ParamsView::new(&params, &unknown)) {
            let (Some(subject), Some(diagnostic)) =
                (subject(kind, &params, step.body.on.as_ref()), registry.get(kind))
            else {
                continue;
            };
            if !known.insert(subject) {
                continue;
            }
            let host = match &step.body.on {
                Some(Template::Literal(Value::String(host))) => format!("_on_{host}"),
                _ => String::new(),
            };
            let id: String = format!("{name}{host}")
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                .collect();
            if ids.contains(&id) || added.iter().any(|step: &PlannedStep| step.id == id) {
                continue;
            }
            let description = diagnostic.describe(&ParamsView::new(&params, &BTreeSet::new()));
            added.push(PlannedStep {
                base: id.clone(),
                id,
                include: step.include.clone(),
                each: None,
                name: None,
                phase: Phase::OnFailure,
                needs: Vec::new(),
                reads: Vec::new(),
                when: None,
                expect: None,
                body: Body {
                    kind: kind.to_owned(),
                    params: Template::Literal(params),
                    on: step.body.on.clone(),
                },
                undo: None,
                timeout: TIMEOUT,
                retry: RetryPolicy::default(),
                keep: Keep::Never,
                continue_on_error: true,
                lock: None,
                hint: None,
                description,
                forecast: Forecast::Unknown("only if the run fails".into()),
                at: step.at,
            });
        }
    }
    steps.extend(added);
}

/// What a diagnostic is about: two with the same would tell the same.
fn subject(kind: &str, params: &Value, on: Option<&Template>) -> Option<String> {
    let named = params.get("unit")?.as_str()?;
    let scope = params.get("scope").and_then(Value::as_str).unwrap_or("system");
    let host = match on {
        None => "local",
        Some(Template::Literal(Value::String(host))) => host,
        // A host that is only known in the run.
        Some(_) => return None,
    };
    Some(format!("{kind} {scope} {} {host}", named.trim_end_matches(".service")))
}
