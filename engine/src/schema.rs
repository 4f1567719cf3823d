//! The JSON Schema of playbooks, drawn from the step types: for editors and other tools.

use crate::{error::ErrorClass, event::Phase, registry::Registry};
use serde_json::{Map, Value, json};

/// An expression in place of a value.
const EXPRESSION: &str = r"^\$\{\{[\s\S]*\}\}$";

/// The schema of a playbook that uses these step types (JSON Schema draft 7).
#[must_use]
pub fn playbook(registry: &Registry) -> Value {
    let phase = |words: &str| json!({ "description": words, "type": "object", "additionalProperties": { "$ref": "#/definitions/step" } });
    let mut properties = json!({
        "name": { "description": "The playbook's name.", "type": "string", "minLength": 1 },
        "description": { "description": "What it proves, in a sentence.", "type": "string" },
        "params": {
            "description": "The caller's contract: typed, set with -p NAME=VALUE.",
            "type": "object",
            "additionalProperties": { "$ref": "#/definitions/param" },
        },
        "vars": { "description": "Values derived once, before the plan.", "type": "object" },
        "hosts": {
            "description": "Machines that steps can name with `on`; a range such as `edge-[01:50]` stands for many.",
            "type": "object",
            "additionalProperties": { "$ref": "#/definitions/host" },
        },
        "groups": {
            "description": "Groups of hosts: a step that names one with `on` runs on each of its hosts.",
            "type": "object",
            "additionalProperties": { "$ref": "#/definitions/group" },
        },
        "secrets": {
            "description": "What values name as `secrets.NAME` and never hold. Plans, journals and reports show a mark.",
            "type": "object",
            "additionalProperties": { "$ref": "#/definitions/secret" },
        },
        "max_parallel": {
            "description": "How many local steps may work at once; the number of cores if not given.",
            "type": "integer", "minimum": 1, "maximum": 1000,
        },
    });
    let phases = [
        (Phase::Precheck, "What must hold before anything is touched. Read-only."),
        (Phase::Prepare, "What is put in place. Each effect is undone at the end."),
        (Phase::Monitor, "What is watched until it comes true."),
        (Phase::OnFailure, "Diagnostics after a failure, before anything is undone. Read-only."),
        (Phase::Cleanup, "What is cleared away, always."),
    ];
    if let Value::Object(properties) = &mut properties {
        properties.extend(phases.map(|(name, words)| (name.name().to_owned(), phase(words))));
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Shakedown playbook",
        "type": "object",
        "required": ["name"],
        "additionalProperties": false,
        "properties": properties,
        "definitions": {
            "step": step(registry),
            "nested": nested(registry),
            "param": param(),
            "host": host(),
            "group": group(),
            "secret": secret(),
        },
    })
}

fn text(words: &str) -> Value {
    json!({ "description": words, "type": "string" })
}

fn duration(words: &str) -> Value {
    json!({ "description": words, "type": "string", "examples": ["10s", "12m"] })
}

fn param() -> Value {
    json!({
        "type": "object",
        "required": ["type"],
        "additionalProperties": false,
        "properties": {
            "type": {
                "description": "The type of its values.",
                "enum": ["string", "int", "number", "bool", "bytes", "duration", "path", "list", "map"],
            },
            "default": { "description": "Its value if the caller gives none; without one it must be given." },
            "description": text("What it is for."),
            "choices": { "description": "The allowed values.", "type": "array", "minItems": 1 },
        },
    })
}

fn host() -> Value {
    json!({
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": {
            "ssh": text("The destination: an alias of ssh_config, user@host, or ssh://user@host:port; the host's name if not given."),
            "known_hosts": text("An explicit known_hosts file."),
            "config": text("An explicit ssh_config file."),
            "identity": text("An explicit private key."),
            "vars": { "description": "Values of its own, read as hosts[NAME].vars.", "type": "object" },
        },
    })
}

fn group() -> Value {
    let hosts = json!({
        "description": "Names of hosts, ranges of them, and groups.",
        "type": "array",
        "items": { "type": "string" },
    });
    json!({
        "anyOf": [
            hosts,
            {
                "type": "object",
                "required": ["hosts"],
                "additionalProperties": false,
                "properties": {
                    "hosts": hosts,
                    "vars": { "description": "Values for its hosts; a host's own win.", "type": "object" },
                },
            },
        ],
    })
}

fn secret() -> Value {
    json!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": false,
        "properties": {
            "env": text("A variable of the environment."),
            "file": text("A file of mode 0600 or 0400; without its last line feed."),
            "credential": text("A credential of the systemd unit that runs it."),
        },
    })
}

fn condition(words: &str) -> Value {
    json!({ "description": words, "type": ["string", "boolean"] })
}

fn step(registry: &Registry) -> Value {
    let classes: Vec<&str> = ErrorClass::ALL.iter().map(|class| class.name()).collect();
    let value = |schema: Value| with_expressions(schema);
    let mut properties = json!({
        "name": text("What people call the step."),
        "needs": {
            "description": "Steps of the same phase that come before.",
            "type": ["array", "string"],
            "items": { "type": "string" },
        },
        "when": condition("A bare expression; the step is skipped if it is false."),
        "foreach": { "description": "A list or map: the step runs once for each item, known as `each`.", "type": ["array", "object", "string"] },
        "as": text("A name for the item of `foreach`."),
        "timeout": duration("The limit of one attempt."),
        "retry": {
            "description": "When the step is tried again.",
            "type": "object",
            "required": ["attempts"],
            "additionalProperties": false,
            "properties": {
                "attempts": value(json!({ "description": "How many attempts in all.", "type": "integer", "minimum": 1, "maximum": 1000 })),
                "delay": duration("How long to wait before the second; 1s if not given."),
                "backoff": value(json!({ "description": "What the delay is multiplied with each time; 2 if not given.", "type": "number", "minimum": 0 })),
                "max_delay": duration("The longest delay; 1m if not given."),
                "jitter": value(json!({ "description": "The share of the delay by which it may vary; 0.1 if not given.", "type": "number", "minimum": 0, "maximum": 1 })),
                "on": { "description": "The error classes that are worth another attempt; all if not given.", "type": "array", "items": { "enum": classes } },
            },
        },
        "expect": condition("A bare expression that must hold of `out`, the step's output."),
        "undo": { "description": "How its effect is taken back.", "$ref": "#/definitions/nested" },
        "keep": { "description": "How long its effect lasts.", "enum": ["never", "on_failure", "on_success", "always"], "default": "never" },
        "continue_on_error": { "description": "Its failure does not fail the run.", "type": "boolean", "default": false },
        "on": text("The host it acts on, or a group: then it runs on each of its hosts. This machine if not given."),
        "lock": text("A named lock across runs: waits until it is free."),
        "hint": text("What to do when it fails, best a command."),
    });
    add_kinds(&mut properties, registry);
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

/// A step inside another: one step type and `on`.
fn nested(registry: &Registry) -> Value {
    let mut properties = json!({ "on": text("The host it asks.") });
    add_kinds(&mut properties, registry);
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn add_kinds(properties: &mut Value, registry: &Registry) {
    let Value::Object(properties) = properties else { return };
    for kind in registry.iter() {
        let mut schema = with_expressions(kind.params_schema());
        if let Value::Object(schema) = &mut schema {
            schema.insert("description".into(), kind.docs().summary.into());
            schema.remove("title");
        }
        properties.insert(kind.kind().to_owned(), schema);
    }
}

/// A schema in which each value may also be an expression, and our own formats are spelled out.
fn with_expressions(schema: Value) -> Value {
    let Value::Object(mut map) = schema else { return schema };
    match map.get("format").and_then(Value::as_str) {
        Some("step") => {
            let mut made = Map::new();
            made.extend(map.remove("description").map(|words| ("description".to_owned(), words)));
            made.insert("$ref".into(), "#/definitions/nested".into());
            return Value::Object(made);
        }
        Some("duration") => {
            map.insert("examples".into(), json!(["10s", "12m"]));
        }
        Some("bytes") => {
            map.insert("examples".into(), json!(["1KiB", "10MB"]));
        }
        _ => {}
    }
    let ours = ["duration", "bytes", "condition"];
    map.retain(|key, value| {
        let own_format = key == "format"
            && value.as_str().is_some_and(|name| {
                ours.contains(&name)
                    || name.starts_with("uint")
                    || name.starts_with("int")
                    || name == "double"
            });
        !(own_format || key == "default" && value.is_null())
    });
    for key in ["properties", "definitions"] {
        if let Some(Value::Object(inner)) = map.get_mut(key) {
            inner.values_mut().for_each(|value| *value = with_expressions(value.take()));
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner @ Value::Object(_)) = map.get_mut(key) {
            *inner = with_expressions(inner.take());
        }
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(Value::Array(branches)) = map.get_mut(key) {
            // `null` only says that the key may be missing; optional keys are that anyway.
            branches.retain(|branch| branch.get("type").and_then(Value::as_str) != Some("null"));
            branches.iter_mut().for_each(|branch| *branch = with_expressions(branch.take()));
            if let [only] = branches.as_mut_slice() {
                let mut only = only.take();
                map.remove(key);
                if let (Value::Object(only), Some(words)) = (&mut only, map.remove("description")) {
                    only.insert("description".into(), words);
                }
                return only;
            }
        }
    }
    drop_null_and_allow_text(&mut map);
    Value::Object(map)
}

/// Values that are no text may be given by an expression, which is text.
fn drop_null_and_allow_text(map: &mut Map<String, Value>) {
    let types: Vec<String> = match map.get("type") {
        Some(Value::String(only)) => vec![only.clone()],
        Some(Value::Array(many)) => {
            many.iter().filter_map(Value::as_str).filter(|name| *name != "null").map(str::to_owned).collect()
        }
        _ => return,
    };
    let literal = types.iter().any(|name| name == "string");
    let structured = types.iter().all(|name| name == "object");
    if literal && map.contains_key("enum") {
        let choices = map.remove("enum").unwrap_or_default();
        map.remove("type");
        map.insert("anyOf".into(), json!([{ "enum": choices }, { "type": "string", "pattern": EXPRESSION }]));
    } else if literal || structured {
        map.insert("type".into(), if types.len() == 1 { json!(types[0]) } else { json!(types) });
    } else {
        let mut all = types;
        all.push("string".into());
        map.insert("type".into(), json!(all));
        map.insert("pattern".into(), EXPRESSION.into());
    }
}
