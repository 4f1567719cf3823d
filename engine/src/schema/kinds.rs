//! The step types in the schema: their parameters, with the text that an editor shows and the one that it inserts.

use super::values;
use crate::{playbook::yaml_value, registry::Registry, step::DynStep};
use serde_json::{Map, Value, json};

/// Adds each step type as a key.
pub(super) fn add(properties: &mut Value, registry: &Registry) {
    let Value::Object(properties) = properties else { return };
    for kind in registry.iter() {
        properties.insert(kind.kind().to_owned(), params(&**kind));
    }
}

/// Adds some parameters of each step type: of a default none is required.
pub(super) fn add_defaults(properties: &mut Map<String, Value>, registry: &Registry) {
    for kind in registry.iter() {
        let mut map = values::value(kind.params_schema());
        if let Value::Object(map) = &mut map {
            map.insert("title".into(), kind.kind().into());
            map.insert("type".into(), "object".into());
            map.insert("description".into(), format!("Parameters of all `{}` steps.", kind.kind()).into());
            for key in ["pattern", "patternErrorMessage", "required"] {
                map.remove(key);
            }
        }
        properties.insert(kind.kind().to_owned(), map);
    }
}

/// A map or an expression in place of it. An editor inserts a snippet only for what has no keys of its own: so the map
/// stands one level below.
fn params(kind: &dyn DynStep) -> Value {
    let summary = kind.docs().summary;
    let mut map = values::value(kind.params_schema());
    if let Value::Object(map) = &mut map {
        map.insert("title".into(), kind.kind().into());
        map.insert("type".into(), "object".into());
        for key in ["pattern", "patternErrorMessage", "description"] {
            map.remove(key);
        }
    }
    let mut schema = json!({
        "title": kind.kind(),
        "description": summary,
        "markdownDescription": docs(kind),
        "anyOf": [map, values::expression()],
    });
    if let Some(body) = snippet(kind) {
        schema["defaultSnippets"] = json!([{ "label": "the example", "body": body }]);
    }
    schema
}

/// What an editor shows of a step type: what `shakedown steps KIND` says, but for what the keys say themselves.
fn docs(kind: &dyn DynStep) -> String {
    let docs = kind.docs();
    let on = if docs.on_host { "Takes `on: HOST`." } else { "Acts on this machine only." };
    let mut text = format!("{}\n\n{}\n\n{on}", docs.summary, docs.details.trim());
    let schema = kind.output_schema();
    if let Some(outputs) = schema.get("properties").and_then(Value::as_object) {
        let names: Vec<String> = outputs.keys().map(|name| format!("`out.{name}`")).collect();
        text.push_str(&format!("\n\nOutput: {}", names.join(", ")));
    }
    text.push_str(&format!("\n\n```yaml\n{}\n```", docs.example.trim_end()));
    text
}

/// The parameters of the step type's example, each value a place to type at.
fn snippet(kind: &dyn DynStep) -> Option<Value> {
    let example = yaml_value(kind.docs().example).ok()?;
    let body = example.as_object()?.values().find_map(|step| step.get(kind.kind()))?;
    Some(places(body, &mut 0))
}

fn places(value: &Value, count: &mut usize) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| places(item, count)).collect(),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| (key.clone(), places(value, count)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        scalar => {
            *count += 1;
            let shown = scalar.as_str().map_or(scalar.to_string(), str::to_owned);
            let escaped = shown.replace('\\', "\\\\").replace('$', "\\$").replace('}', "\\}");
            format!("${{{count}:{escaped}}}").into()
        }
    }
}
