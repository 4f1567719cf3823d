//! The playbook's own advice for a step that failed.

use crate::{
    event::StepId,
    expr::Scope,
    plan::{Plan, render, scope_of},
    playbook::{Part, Template},
};
use serde_json::{Map, Value};

/// The `hint` of a step, rendered as far as params, vars, the run and `steps` (by their ids in the playbook) allow: an
/// expression that has no value stands as its text. It is advice beside an error, so it never is one.
#[must_use]
pub fn hint(plan: &Plan, step: StepId, steps: &Map<String, Value>) -> Option<String> {
    let step = plan.steps.get(step.0)?;
    let template = step.hint.as_ref()?;
    let mut scope = scope_of(plan, step, &Scope::default());
    let known = steps.iter().filter_map(|(id, seen)| Some((step.calls(id)?.to_owned(), seen.clone())));
    scope.set("steps", Value::Object(known.collect()));
    let words = match template {
        Template::Text(parts) => parts.iter().map(|part| words(part, &scope)).collect(),
        Template::Expr(expr) => words(&Part::Expr(expr.clone()), &scope),
        other => shown(&render(other, &scope).unwrap_or_default()),
    };
    Some(words).filter(|words| !words.trim().is_empty())
}

fn words(part: &Part, scope: &Scope) -> String {
    match part {
        Part::Text(text) => text.clone(),
        Part::Expr(expr) => match expr.eval(scope) {
            Ok(value) => shown(&value),
            Err(_) => format!("${{{{ {} }}}}", expr.text().trim()),
        },
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
