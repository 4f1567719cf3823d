//! How two plans differ, in words.

use super::{Forecast, Place, Plan, PlannedStep};
use serde_json::Value;
use std::collections::BTreeMap;

/// What the plan `now` does otherwise than `then`, a line each; nothing if both do the same. Runs' own ids and times,
/// places in the file and what probes saw make no difference.
#[must_use]
pub fn difference(then: &Plan, now: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let mut values = |what: &str, then: Value, now: Value| {
        if then != now {
            lines.push(format!("{what}: {then} -> {now}"));
        }
    };
    values("name", then.playbook.clone().into(), now.playbook.clone().into());
    values("params", then.params.clone().into(), now.params.clone().into());
    values("hosts", json(&then.hosts), json(&now.hosts));
    values("max_parallel", then.max_parallel.into(), now.max_parallel.into());
    for (id, include) in &then.includes {
        if now.includes.get(id).is_some_and(|other| other.given != include.given) {
            lines.push(format!("the params of the include `{id}` are given other values"));
        }
    }
    let steps = |plan: &Plan| -> BTreeMap<String, Value> {
        plan.steps.iter().map(|step| (step.id.clone(), comparable(plan, step))).collect()
    };
    let (before, after) = (steps(then), steps(now));
    for (id, step) in &before {
        match after.get(id) {
            None => lines.push(format!("step `{id}` is gone")),
            Some(other) if other != step => {
                lines.push(format!("step `{id}` has another {}", fields(step, other)))
            }
            Some(_) => {}
        }
    }
    lines.extend(after.keys().filter(|id| !before.contains_key(*id)).map(|id| format!("step `{id}` is new")));
    lines
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// A step with everything that counts; other steps by name, for their places shift.
fn comparable(plan: &Plan, step: &PlannedStep) -> Value {
    let names = |ids: &[crate::event::StepId]| -> Value {
        let mut names: Vec<&str> = ids.iter().map(|id| plan.step(*id).id.as_str()).collect();
        names.sort_unstable();
        names.into()
    };
    let plain =
        PlannedStep { forecast: Forecast::Will, at: Place::default(), ..step.clone().without_run_values() };
    let mut value = json(&plain);
    if let Value::Object(fields) = &mut value {
        fields.insert("needs".into(), names(&step.needs));
        fields.insert("reads".into(), names(&step.reads));
        // `--keep` overrides it for one run; it says nothing about the playbook.
        fields.shift_remove("keep");
    }
    value
}

/// The names of the fields in which two steps differ.
fn fields(one: &Value, other: &Value) -> String {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return "form".into() };
    let mut names: Vec<String> = one
        .keys()
        .chain(other.keys().filter(|key| !one.contains_key(*key)))
        .filter(|key| one.get(*key) != other.get(*key))
        .map(|key| format!("`{key}`"))
        .collect();
    names.sort_unstable();
    names.join(", ")
}
