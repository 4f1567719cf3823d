//! What a plan that was kept would do otherwise now, in words.

use super::{Plan, difference};
use serde_json::{Map, Value};

/// The most differences of values that are told one by one.
const TOLD: usize = 20;
/// The longest value shown, in characters.
const SHOWN: usize = 80;

/// What the plan `now` does otherwise than `then`, a line each, down to single values; nothing if both do exactly the
/// same. Both are of the same run: its id and time make no difference. What probes saw is not compared.
#[must_use]
pub fn drift(then: &Plan, now: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let mut text = |what: &str, then: &str, now: &str| {
        if then != now {
            lines.push(format!("{what}: {then} -> {now}"));
        }
    };
    text("host", &then.run.host, &now.run.host);
    text("user", &then.run.user, &now.run.user);
    text("program", &then.run.exe, &now.run.exe);
    let mut values = Vec::new();
    compare("vars", &object(&then.vars), &object(&now.vars), &mut values);
    for (id, include) in &then.includes {
        let Some(other) = now.includes.get(id) else { continue };
        text("fragment", &include.source, &other.source);
        compare(&format!("{id}: params"), &object(&include.params), &object(&other.params), &mut values);
        compare(&format!("{id}: vars"), &object(&include.vars), &object(&other.vars), &mut values);
    }
    lines.extend(difference(then, now));
    let json = |plan: &Plan| serde_json::to_value(&plan.secrets).unwrap_or_default();
    compare("secrets", &json(then), &json(now), &mut values);
    for step in &then.steps {
        let Some(other) = now.steps.iter().find(|other| other.id == step.id) else { continue };
        let each =
            |step: &super::PlannedStep| step.each.as_ref().map(|each| each.value.clone()).unwrap_or_default();
        compare(&format!("step `{}`: each.value", step.id), &each(step), &each(other), &mut values);
        if step.keep != other.keep {
            lines.push(format!("step `{}` has another `keep`", step.id));
        }
        if values.len() > TOLD {
            break;
        }
    }
    let more = values.len().saturating_sub(TOLD);
    values.truncate(TOLD);
    lines.extend(values);
    if more > 0 {
        lines.push(format!("and at least {more} more values"));
    }
    lines
}

fn object(map: &Map<String, Value>) -> Value {
    Value::Object(map.clone())
}

/// Notes where two values differ, as deep as the difference lies.
fn compare(path: &str, then: &Value, now: &Value, lines: &mut Vec<String>) {
    if then == now || lines.len() > TOLD {
        return;
    }
    match (then, now) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&format!("{path}.{key}"), &of(a), &of(b), lines);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{i}]"), a, b, lines);
            }
        }
        _ if is_private(path) => lines.push(format!("{path}: another value")),
        _ => lines.push(format!("{path}: {} -> {}", shown(then), shown(now))),
    }
}

/// Configurations that are loaded hold secrets of their own, under such names.
fn is_private(path: &str) -> bool {
    let name = path.rsplit('.').next().unwrap_or(path).to_lowercase();
    ["pass", "secret", "token", "key", "credential", "auth"].iter().any(|word| name.contains(word))
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.chars().count() > SHOWN {
        true => text.chars().take(SHOWN).chain(['…']).collect(),
        false => text,
    }
}
