//! The caller's values for a playbook's params.

use super::PlanProblem;
use crate::{
    playbook::{Param, ParamType, Playbook},
    quantity::{Bytes, Millis},
};
use serde_json::{Map, Value};
use std::path::Path;

/// A value for each param: the caller's, else the default. Text is read as the param's type says, so that
/// `-p count=3` gives a number. Relative paths become absolute, from `dir`.
///
/// # Errors
/// All unknown, missing and ill-typed params.
pub fn bind_params(
    playbook: &Playbook,
    given: &Map<String, Value>,
    dir: &Path,
) -> Result<Map<String, Value>, Vec<PlanProblem>> {
    let mut problems = Vec::new();
    for name in given.keys() {
        if !playbook.params.iter().any(|param| param.name == *name) {
            let names: Vec<&str> = playbook.params.iter().map(|param| param.name.as_str()).collect();
            let hint = match names.as_slice() {
                [] => "this playbook has no params".to_owned(),
                names => format!("its params are: {}", names.join(", ")),
            };
            problems.push(PlanProblem::new(format!("unknown param `{name}`")).hint(hint));
        }
    }
    let mut bound = Map::new();
    for param in &playbook.params {
        match (given.get(&param.name), &param.default) {
            (Some(value), _) | (None, Some(value)) => match convert(param, value, dir) {
                Ok(value) => {
                    bound.insert(param.name.clone(), value);
                }
                Err(message) => {
                    let problem = PlanProblem::new(format!("param `{}`: {message}", param.name));
                    let given_by_caller = given.contains_key(&param.name);
                    problems.push(if given_by_caller { problem } else { problem.at(param.span) });
                }
            },
            (None, None) => {
                let problem = PlanProblem::new(format!("param `{}` has no value", param.name));
                problems.push(problem.hint(format!("set it: -p {}=…", param.name)).at(param.span));
            }
        }
    }
    if problems.is_empty() { Ok(bound) } else { Err(problems) }
}

/// A value as its param's type wants it.
///
/// # Errors
/// It is of another type, or none of the choices; in words for the user.
pub fn convert(param: &Param, value: &Value, dir: &Path) -> Result<Value, String> {
    let wrong = |expected: &str| Err(format!("expected {expected}, found `{}`", shown(value)));
    let converted = match (param.ty, value) {
        (ParamType::String, Value::String(_)) => value.clone(),
        (ParamType::String, Value::Number(_) | Value::Bool(_)) => Value::String(value.to_string()),
        (ParamType::String, _) => return wrong("text"),
        (ParamType::Int, Value::Number(n)) if n.is_i64() || n.is_u64() => value.clone(),
        (ParamType::Int, Value::String(text)) => match text.parse::<i64>() {
            Ok(int) => Value::from(int),
            Err(_) => return wrong("a whole number"),
        },
        (ParamType::Int, _) => return wrong("a whole number"),
        (ParamType::Number, Value::Number(_)) => value.clone(),
        (ParamType::Number, Value::String(text)) => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Value::from(number),
            _ => return wrong("a number"),
        },
        (ParamType::Number, _) => return wrong("a number"),
        (ParamType::Bool, Value::Bool(_)) => value.clone(),
        (ParamType::Bool, Value::String(text)) if text == "true" || text == "false" => {
            Value::Bool(text == "true")
        }
        (ParamType::Bool, _) => return wrong("true or false"),
        (ParamType::Bytes, Value::Number(n)) if n.is_u64() => value.clone(),
        (ParamType::Bytes, Value::String(text)) => Value::from(text.parse::<Bytes>()?.0),
        (ParamType::Bytes, _) => return wrong("a size such as `10MB`"),
        (ParamType::Duration, Value::String(text)) => {
            text.parse::<Millis>()?;
            value.clone()
        }
        (ParamType::Duration, _) => return wrong("a duration such as `10s`"),
        (ParamType::Path, Value::String(text)) if text.is_empty() => return wrong("a path"),
        (ParamType::Path, Value::String(text)) => {
            Value::String(dir.join(text).to_string_lossy().into_owned())
        }
        (ParamType::Path, _) => return wrong("a path"),
        (ParamType::List, Value::Array(_)) | (ParamType::Map, Value::Object(_)) => value.clone(),
        (ParamType::List | ParamType::Map, Value::String(text)) => {
            match serde_json::from_str::<Value>(text) {
                Ok(parsed @ Value::Array(_)) if param.ty == ParamType::List => parsed,
                Ok(parsed @ Value::Object(_)) if param.ty == ParamType::Map => parsed,
                _ if param.ty == ParamType::List => return wrong("a list as JSON"),
                _ => return wrong("a map as JSON"),
            }
        }
        (ParamType::List, _) => return wrong("a list"),
        (ParamType::Map, _) => return wrong("a map"),
    };
    match &param.choices {
        Some(choices) if !choices.contains(&converted) => {
            let names: Vec<String> = choices.iter().map(|choice| format!("`{}`", shown(choice))).collect();
            Err(format!("expected one of {}, found `{}`", names.join(", "), shown(value)))
        }
        _ => Ok(converted),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
