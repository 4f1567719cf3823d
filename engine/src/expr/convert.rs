//! Between JSON and CEL values.

use super::{budget::size_of, scope::Seen};
use cel::{
    Value as CelValue,
    common::{
        types::{
            CelBool, CelDouble, CelInt, CelList, CelMap as MapVal, CelMapKey, CelNull, CelString, CelUInt,
        },
        value::Val,
    },
    objects::{Key, Map as CelMap},
};
use serde_json::{Map, Number, Value};
use std::{collections::HashMap, sync::Arc};

/// JSON as CEL. Whole numbers become `int`, so that `size == 1024` holds; only those above 2^63 become `uint`.
pub(super) fn to_cel(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(b) => CelValue::Bool(*b),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(int), _) => CelValue::Int(int),
            (None, Some(uint)) => CelValue::UInt(uint),
            (None, None) => CelValue::Float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(s) => CelValue::String(Arc::new(s.clone())),
        Value::Array(items) => CelValue::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(map) => {
            let map: HashMap<Key, CelValue> =
                map.iter().map(|(key, value)| (Key::String(Arc::new(key.clone())), to_cel(value))).collect();
            CelValue::Map(CelMap { map: Arc::new(map) })
        }
    }
}

/// JSON as a value of the evaluator, to be kept.
pub(super) fn to_static(value: &Value) -> Arc<dyn Val> {
    let made: Result<Box<dyn Val>, _> = to_cel(value).try_into();
    made.map_or_else(|_| Arc::new(CelNull) as Arc<dyn Val>, Arc::from)
}

/// What an expression sees, as a value of the evaluator, and about how many bytes that has.
pub(super) fn seen_to_val<'a>(seen: &Seen<'a>, size: &mut u64) -> Box<dyn Val + 'a> {
    match seen {
        Seen::All(value) => {
            *size = size.saturating_add(size_of(value, u64::MAX));
            to_val(value)
        }
        Seen::Part(part) => {
            let entry = |(key, seen): (&&'a str, &Seen<'a>)| {
                (CelMapKey::String(CelString::from(*key)), seen_to_val(seen, size))
            };
            Box::new(MapVal::from(part.iter().map(entry).collect::<HashMap<_, _>>()))
        }
        Seen::Kept(val, made) => {
            *size = size.saturating_add(*made);
            val.clone_as_boxed()
        }
    }
}

/// JSON as a value of the evaluator, which borrows its text.
fn to_val(value: &Value) -> Box<dyn Val + '_> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(b) => Box::new(CelBool::from(*b)),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(int), _) => Box::new(CelInt::from(int)),
            (None, Some(uint)) => Box::new(CelUInt::from(uint)),
            (None, None) => Box::new(CelDouble::from(n.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(s) => Box::new(CelString::from(s.as_str())),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(to_val).collect::<Vec<_>>())),
        Value::Object(map) => {
            let entry =
                |(key, value)| (CelMapKey::String(CelString::from(String::as_str(key))), to_val(value));
            Box::new(MapVal::from(map.iter().map(entry).collect::<HashMap<_, _>>()))
        }
    }
}

/// CEL as JSON. Keys of maps become text and are sorted, for CEL keeps no order.
pub(super) fn to_json(value: &CelValue) -> Result<Value, String> {
    Ok(match value {
        CelValue::Null => Value::Null,
        CelValue::Bool(b) => Value::Bool(*b),
        CelValue::Int(int) => Value::from(*int),
        CelValue::UInt(uint) => Value::from(*uint),
        CelValue::Float(float) => Number::from_f64(*float)
            .map(Value::Number)
            .ok_or_else(|| format!("the number {float} is not finite"))?,
        CelValue::String(s) => Value::String(s.as_ref().clone()),
        CelValue::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => return Err("these bytes are no UTF-8 text".into()),
        },
        CelValue::List(items) => Value::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        CelValue::Map(map) => {
            let mut entries = map
                .map
                .iter()
                .map(|(key, value)| Ok((key_text(key), to_json(value)?)))
                .collect::<Result<Vec<_>, String>>()?;
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect::<Map<_, _>>())
        }
        other => return Err(format!("a value of type {:?} cannot be used here", other.type_of())),
    })
}

pub(super) fn key_text(key: &Key) -> String {
    match key {
        Key::Int(int) => int.to_string(),
        Key::Uint(uint) => uint.to_string(),
        Key::Bool(b) => b.to_string(),
        Key::String(s) => s.as_ref().clone(),
    }
}

/// The type of a value, in words for a message.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(n) if n.is_f64() => "a number",
        Value::Number(_) => "a whole number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
