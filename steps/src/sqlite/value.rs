//! Between JSON and SQLite values. Values are always bound, never pasted into SQL.

use crate::hex::hex;
use engine::{StepError, error::ErrorClass};
use rusqlite::{
    Statement,
    types::{ToSqlOutput, Value as SqlValue, ValueRef},
};
use serde_json::{Map, Value, json};

/// A value of a row.
pub(super) fn to_json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(int) => int.into(),
        ValueRef::Real(real) => serde_json::Number::from_f64(real).map_or(Value::Null, Value::Number),
        ValueRef::Text(text) => Value::String(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(blob) => json!({ "$blob": hex(blob) }),
    }
}

/// A value to be bound.
pub(super) fn to_sql(value: &Value) -> Result<SqlValue, StepError> {
    Ok(match value {
        Value::Null => SqlValue::Null,
        Value::Bool(flag) => SqlValue::Integer((*flag).into()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => SqlValue::Integer(int),
            (None, Some(real)) => SqlValue::Real(real),
            (None, None) => return Err(cannot_bind(value)),
        },
        Value::String(text) => SqlValue::Text(text.clone()),
        Value::Object(map) => {
            match (map.len(), map.get("$blob").and_then(Value::as_str).and_then(from_hex)) {
                (1, Some(blob)) => SqlValue::Blob(blob),
                _ => return Err(cannot_bind(value)),
            }
        }
        Value::Array(_) => return Err(cannot_bind(value)),
    })
}

fn cannot_bind(value: &Value) -> StepError {
    StepError::new(
        ErrorClass::Invalid,
        format!("`{value}` is no value of a column: expected text, a number or null"),
    )
}

fn from_hex(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || !hex.is_ascii() {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}

/// Binds each `:name` of a statement.
pub(super) fn bind(statement: &mut Statement<'_>, params: &Map<String, Value>) -> Result<(), StepError> {
    let invalid = |message: String| StepError::new(ErrorClass::Invalid, message);
    let mut used = 0;
    for index in 1..=statement.parameter_count() {
        let Some(name) = statement.parameter_name(index).map(str::to_owned) else {
            return Err(
                invalid("`?` has no name".into()).hint("write `:name` and give its value in `params`")
            );
        };
        let bare = name.trim_start_matches([':', '@', '$']);
        let value = params.get(bare).ok_or_else(|| {
            invalid(format!("`{name}` has no value")).hint(format!("add it: params: {{ {bare}: … }}"))
        })?;
        let value = ToSqlOutput::Owned(to_sql(value)?);
        statement.raw_bind_parameter(index, value).map_err(|error| invalid(format!("`{name}`: {error}")))?;
        used += 1;
    }
    if used < params.len() {
        let names: Vec<Option<&str>> =
            (1..=statement.parameter_count()).map(|i| statement.parameter_name(i)).collect();
        let extra = params.keys().find(|key| !names.iter().flatten().any(|name| name[1..] == ***key));
        if let Some(extra) = extra {
            return Err(invalid(format!("the statement has no `:{extra}`")));
        }
    }
    Ok(())
}
