//! The schema of a value, in which an expression may stand wherever a value may.

use serde_json::{Map, Value, json};

/// One expression that is the whole value.
const EXPRESSION: &str = r"^\s*\$\{\{[\s\S]*\}\}\s*$";

/// A duration, or text with an expression in it.
const DURATION: &str = r"^(\s*[0-9.]+\s*(ms|s|m|h|d))+\s*$|\$\{\{";

/// A size, or text with an expression in it.
const BYTES: &str = r"^\s*[0-9.]+\s*([kKmMgGtT][iI]?[bB]|[bB])?\s*$|\$\{\{";

/// Anything but an expression in its braces.
const BARE: &str = r"^(?!\s*\$\{\{)";

/// A duration.
pub(super) fn duration(words: &str) -> Value {
    value(json!({ "description": words, "type": "string", "format": "duration" }))
}

/// A bare expression such as that of `when`.
pub(super) fn condition(words: &str, examples: &[&str]) -> Value {
    let mut schema =
        value(json!({ "description": words, "type": ["string", "boolean"], "format": "condition" }));
    if let Value::Object(schema) = &mut schema {
        schema.insert("examples".into(), json!(examples));
    }
    schema
}

/// The schema of a value that may also be an expression, with our own formats spelled out.
pub(super) fn value(schema: Value) -> Value {
    let Value::Object(mut map) = schema else { return schema };
    let description = map.get("description").cloned();
    if map.get("format").and_then(Value::as_str) == Some("step") {
        let mut made = Map::new();
        made.extend(description.map(|words| ("description".to_owned(), words)));
        made.insert("$ref".into(), "#/definitions/nested".into());
        return Value::Object(made);
    }
    let format = map.get("format").and_then(Value::as_str).map(str::to_owned);
    map.retain(|key, value| !(key == "format" && is_ours(value) || key == "default" && value.is_null()));
    for key in ["properties", "definitions"] {
        if let Some(Value::Object(inner)) = map.get_mut(key) {
            inner.values_mut().for_each(|inner| *inner = value(inner.take()));
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner @ Value::Object(_)) = map.get_mut(key) {
            *inner = value(inner.take());
        }
    }
    if let Some(choices) = choices(&mut map) {
        return choices;
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(Value::Array(branches)) = map.get_mut(key) {
            // `null` only says that the key may be missing; optional keys are that anyway.
            branches.retain(|branch| branch.get("type").and_then(Value::as_str) != Some("null"));
            branches.iter_mut().for_each(|branch| *branch = value(branch.take()));
            if let [only] = branches.as_mut_slice() {
                let mut only = only.take();
                if let (Value::Object(only), Some(words)) = (&mut only, description) {
                    only.insert("description".into(), words);
                }
                return only;
            }
        }
    }
    allow_expression(&mut map);
    match format.as_deref() {
        Some("duration") => {
            written_as(
                &mut map,
                DURATION,
                "expected a duration such as 500ms, 10s, 12m or 1h30m",
                &["10s", "12m"],
            );
        }
        Some("bytes") => {
            written_as(&mut map, BYTES, "expected a size such as 4096, 1KiB or 10MB", &["1KiB", "10MB"]);
        }
        Some("condition") => written_as(&mut map, BARE, "a bare expression stands here, without ${{ }}", &[]),
        _ => {}
    }
    Value::Object(map)
}

/// Whether a format is not one of JSON Schema: ours, or a width of a number.
fn is_ours(format: &Value) -> bool {
    let name = format.as_str().unwrap_or_default();
    ["duration", "bytes", "condition", "double", "float"].contains(&name)
        || name.starts_with("uint")
        || name.starts_with("int")
}

fn written_as(map: &mut Map<String, Value>, pattern: &str, message: &str, examples: &[&str]) {
    map.insert("pattern".into(), pattern.into());
    map.insert("patternErrorMessage".into(), message.into());
    if !examples.is_empty() {
        map.insert("examples".into(), json!(examples));
    }
    let shorter = map.get("default").and_then(Value::as_str).and_then(|text| text.strip_suffix("000ms"));
    if let Some(seconds) = shorter.map(|seconds| format!("{seconds}s")) {
        map.insert("default".into(), seconds.into());
    }
}

/// Values to choose from, each with its meaning, or an expression: one list, so that an editor offers all of it.
fn choices(map: &mut Map<String, Value>) -> Option<Value> {
    let mut names = Vec::new();
    let mut meanings = Vec::new();
    if let Some(Value::Array(list)) = map.get("enum") {
        names.extend(list.iter().filter(|name| !name.is_null()).cloned());
    } else {
        for branch in ["anyOf", "oneOf"].iter().find_map(|key| map.get(*key)?.as_array())? {
            match (branch.get("const"), branch.get("enum").and_then(Value::as_array)) {
                (Some(name), _) => {
                    names.push(name.clone());
                    meanings.push(branch.get("description").cloned().unwrap_or_default());
                }
                (None, Some(list)) => {
                    names.extend(list.iter().cloned());
                    meanings.extend(list.iter().map(|_| Value::Null));
                }
                (None, None) if branch.get("type").and_then(Value::as_str) == Some("null") => {}
                (None, None) => return None,
            }
        }
    }
    let mut made = Map::new();
    for key in ["description", "default"] {
        made.extend(map.remove(key).map(|kept| (key.to_owned(), kept)));
    }
    let mut list = json!({ "type": "string", "enum": names });
    if meanings.iter().any(Value::is_string) {
        let texts = meanings.iter().map(|meaning| meaning.as_str().unwrap_or_default());
        list["markdownEnumDescriptions"] = texts.collect();
    }
    made.insert("anyOf".into(), json!([list, expression()]));
    Some(Value::Object(made))
}

/// One expression that is the whole value.
pub(super) fn expression() -> Value {
    json!({
        "type": "string",
        "pattern": EXPRESSION,
        "patternErrorMessage": "expected a value of another type, or one ${{ … }} that is the whole value",
    })
}

/// Values that are no text may be given by an expression, which is text.
fn allow_expression(map: &mut Map<String, Value>) {
    let mut types: Vec<String> = match map.get("type") {
        Some(Value::String(only)) => vec![only.clone()],
        Some(Value::Array(many)) => {
            many.iter().filter_map(Value::as_str).filter(|name| *name != "null").map(str::to_owned).collect()
        }
        _ => return,
    };
    if !types.iter().any(|name| name == "string") {
        types.push("string".into());
        map.insert("pattern".into(), EXPRESSION.into());
        map.insert("patternErrorMessage".into(), "expected one ${{ … }} that is the whole value".into());
    }
    map.insert("type".into(), if types.len() == 1 { json!(types[0]) } else { json!(types) });
}

#[cfg(test)]
mod tests {
    use super::value;
    use serde_json::json;

    #[test]
    fn an_expression_may_stand_wherever_a_value_may() {
        let number = value(json!({ "type": ["integer", "null"], "format": "uint64", "minimum": 0 }));
        assert_eq!(number["type"], json!(["integer", "string"]));
        assert!(number["pattern"].is_string() && number.get("format").is_none(), "{number}");
        let map = value(json!({ "type": "object", "properties": { "flag": { "type": "boolean" } } }));
        assert_eq!(map["type"], json!(["object", "string"]));
        assert_eq!(map["properties"]["flag"]["type"], json!(["boolean", "string"]));
        let choice = value(json!({ "anyOf": [
            { "oneOf": [{ "const": "a", "description": "The first." }, { "enum": ["b"] }] },
            { "type": "null" },
        ] }));
        assert_eq!(choice["anyOf"][0]["enum"], json!(["a", "b"]));
        assert_eq!(choice["anyOf"][0]["markdownEnumDescriptions"], json!(["The first.", ""]));
        assert!(choice["anyOf"][1]["pattern"].is_string(), "{choice}");
    }

    #[test]
    fn a_default_of_whole_seconds_is_written_so() {
        let limit = value(json!({ "type": "string", "format": "duration", "default": "5000ms" }));
        assert_eq!(limit["default"], "5s");
        let null = value(json!({ "type": "string", "default": null }));
        assert!(null.get("default").is_none());
    }
}
