//! From a template and a scope to a value.

use super::{Each, Plan, PlannedStep};
use crate::{
    error::{ErrorClass, StepError},
    expr::{Expr, Scope, size_of},
    playbook::{Body, Part, Template},
    quantity::Bytes,
    secret::marks,
};
use serde_json::{Map, Value, json};

/// The largest text or value that is rendered, as about so many bytes.
pub(super) const MAX_RENDERED: u64 = 32 << 20;

/// The value of a template.
///
/// # Errors
/// An expression has no value, null, a list or a map stands inside text, or it grows too large; class `invalid`.
pub fn render(template: &Template, scope: &Scope) -> Result<Value, StepError> {
    rendered(template, scope, &mut 0)
}

/// The same, where `size` bytes have been rendered before.
fn rendered(template: &Template, scope: &Scope, size: &mut u64) -> Result<Value, StepError> {
    let mut grow = |more: u64| {
        *size = size.saturating_add(more);
        match *size <= MAX_RENDERED {
            true => Ok(()),
            false => Err(StepError::new(
                ErrorClass::Invalid,
                format!("what is written here grows beyond {}", Bytes(MAX_RENDERED)),
            )
            .hint("give the step a file to read, or less")),
        }
    };
    Ok(match template {
        Template::Literal(value) => value.clone(),
        Template::Expr(expr) => {
            let value = eval(expr, scope)?;
            grow(size_of(&value, MAX_RENDERED))?;
            value
        }
        Template::Condition(expr) => Value::String(expr.text().to_owned()),
        Template::Text(parts) => {
            let mut text = String::new();
            for part in parts {
                match part {
                    Part::Text(piece) => text.push_str(piece),
                    Part::Expr(expr) => {
                        let piece = as_text(expr, &eval(expr, scope)?)?;
                        grow(piece.len() as u64)?;
                        text.push_str(&piece);
                    }
                }
            }
            Value::String(text)
        }
        Template::List(items) => {
            Value::Array(items.iter().map(|item| rendered(item, scope, size)).collect::<Result<_, _>>()?)
        }
        Template::Map(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                map.insert(key.clone(), rendered(value, scope, size)?);
            }
            Value::Object(map)
        }
    })
}

/// The parameters of a body and the host it names.
///
/// # Errors
/// As [`render`]; `on` must be the name of a host.
pub fn render_body(body: &Body, scope: &Scope) -> Result<(Value, Option<String>), StepError> {
    let params = render(&body.params, scope)?;
    let on = match body.on.as_ref().map(|on| render(on, scope)).transpose()? {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name),
        Some(other) => {
            let message = format!("`on`: expected the name of a host, found `{other}`");
            return Err(StepError::new(ErrorClass::Invalid, message));
        }
    };
    Ok((params, on))
}

fn eval(expr: &Expr, scope: &Scope) -> Result<Value, StepError> {
    expr.eval(scope).map_err(|error| error.of(&format!("`{}`", expr.text())))
}

fn as_text(expr: &Expr, value: &Value) -> Result<String, StepError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(StepError::new(
            ErrorClass::Invalid,
            format!("`{}` is {} and cannot stand inside text", expr.text(), crate::expr::kind_of(value)),
        )
        .hint("let it be the whole value, or choose a field of it")),
    }
}

/// A scope with the item of a `foreach`, if there is one.
pub(super) fn with_each(scope: &Scope, each: Option<&Each>) -> Scope {
    each.map_or_else(|| scope.clone(), |each| scope.with(&each_names(each)))
}

/// What `each` and its alias are for an item.
fn each_names(each: &Each) -> Map<String, Value> {
    let mut names = Map::new();
    names.insert("each".into(), json!({ "key": each.key, "value": each.value }));
    if let Some(alias) = &each.alias {
        names.insert(alias.clone(), each.value.clone());
    }
    names
}

/// The names that expressions of `step` see, apart from `steps` and `out`.
#[must_use]
pub fn scope_of(plan: &Plan, step: &PlannedStep, base: &Scope) -> Scope {
    let mut scope = base.clone();
    let include = step.include.as_ref().and_then(|id| plan.includes.get(id));
    let (params, vars) = include.map_or((&plan.params, &plan.vars), |of| (&of.params, &of.vars));
    scope.set("params", Value::Object(params.clone()));
    scope.set("vars", Value::Object(vars.clone()));
    scope.set("run", serde_json::to_value(&plan.run).unwrap_or_default());
    let hosts: Map<String, Value> = plan
        .hosts
        .iter()
        .map(|host| (host.name.clone(), serde_json::to_value(host).unwrap_or_default()))
        .collect();
    scope.set("hosts", Value::Object(hosts));
    scope.set("secrets", marks(plan.secrets.keys()));
    with_each(&scope, step.each.as_ref())
}
