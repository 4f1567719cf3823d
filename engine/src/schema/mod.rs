//! The JSON Schema of playbooks, drawn from the step types: for editors and other tools.

mod kinds;
mod values;

use crate::{error::ErrorClass, event::Phase, registry::Registry};
use serde_json::{Map, Value, json};
use values::{condition, duration, value};

/// A name that expressions can use.
const NAME: &str = "^[A-Za-z_][A-Za-z0-9_]{0,63}$";

/// The schema of a playbook that uses these step types (JSON Schema draft 7).
#[must_use]
pub fn playbook(registry: &Registry) -> Value {
    let mut properties = json!({
        "name": { "description": "The playbook's name.", "type": "string", "minLength": 1, "examples": ["backup-restores"] },
        "description": {
            "description": "What it proves, in a sentence.",
            "type": "string",
            "examples": ["Last night's backup can be read."],
        },
        "params": {
            "description": "The caller's contract: typed, set with -p NAME=VALUE, read as `params.NAME`.",
            "type": "object",
            "title": "params",
            "propertyNames": names(),
            "additionalProperties": { "$ref": "#/definitions/param" },
            "examples": [{ "size": { "type": "bytes", "default": "1KiB", "description": "The size of the test file" } }],
        },
        "vars": {
            "description": "Values derived once, before the plan, read as `vars.NAME`.",
            "type": "object",
            "title": "vars",
            "propertyNames": names(),
            "examples": [{ "config": "${{ load(params.config) }}" }],
        },
        "hosts": {
            "description": "Machines that steps can name with `on`; a range such as `edge-[01:50]` stands for many.",
            "type": "object",
            "title": "hosts",
            "additionalProperties": { "$ref": "#/definitions/host" },
            "examples": [{ "nas": { "ssh": "backup@nas.lan" } }],
        },
        "groups": {
            "description": "Groups of hosts: a step that names one with `on` runs on each of its hosts.",
            "type": "object",
            "title": "groups",
            "additionalProperties": { "$ref": "#/definitions/group" },
            "examples": [{ "docks": ["dock-[01:50]"] }],
        },
        "secrets": {
            "description": "What values name as `secrets.NAME` and never hold. Plans, journals and reports show a mark.",
            "type": "object",
            "title": "secrets",
            "propertyNames": names(),
            "additionalProperties": { "$ref": "#/definitions/secret" },
            "examples": [{ "token": { "file": "/etc/shakedown/token" } }],
        },
        "defaults": { "$ref": "#/definitions/defaults" },
        "max_parallel": {
            "description": "How many local steps may work at once; the number of cores if not given.",
            "type": "integer", "minimum": 1, "maximum": 1000, "examples": [4],
        },
    });
    if let Value::Object(properties) = &mut properties {
        properties.extend(Phase::ALL.map(|name| (name.name().to_owned(), phase(name))));
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
            "defaults": defaults(registry),
            "param": param(),
            "host": host(),
            "group": group(),
            "secret": secret(),
        },
    })
}

/// The schema of a fragment, which playbooks include (JSON Schema draft 7).
#[must_use]
pub fn fragment(registry: &Registry) -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Shakedown fragment",
        "type": "object",
        "required": ["steps"],
        "additionalProperties": false,
        "properties": {
            "name": text("The fragment's name.", &["daemon"]),
            "description": text("What it is for, in a sentence.", &["A unit is active and quiet."]),
            "params": {
                "description": "What `with` may set, and must if there is no default; read as `params.NAME`.",
                "type": "object",
                "title": "params",
                "propertyNames": names(),
                "additionalProperties": { "$ref": "#/definitions/param" },
                "examples": [{ "unit": { "type": "string", "description": "The unit" } }],
            },
            "vars": {
                "description": "Values derived from the params, read as `vars.NAME`.",
                "type": "object",
                "title": "vars",
                "propertyNames": names(),
                "examples": [{ "folder": "${{ dirname(params.path) }}" }],
            },
            "defaults": { "$ref": "#/definitions/defaults" },
            "steps": {
                "description": "Its steps: a map from ids to steps. Their phase is that of the include.",
                "type": "object",
                "title": "steps",
                "propertyNames": names(),
                "additionalProperties": { "$ref": "#/definitions/step" },
            },
        },
        "definitions": {
            "step": step(registry),
            "nested": nested(registry),
            "defaults": defaults(registry),
            "param": param(),
        },
    })
}

/// What steps have unless they say otherwise.
fn defaults(registry: &Registry) -> Value {
    let step = step(registry);
    let keys = ["timeout", "retry", "keep", "lock"];
    let of_steps = || keys.map(|key| (key.to_owned(), step["properties"][key].clone())).into_iter();
    let phase = |phase: Phase| {
        json!({
            "description": format!("The same for the steps of `{phase}`."),
            "type": "object",
            "title": phase.name(),
            "additionalProperties": false,
            "properties": of_steps().collect::<Map<_, _>>(),
        })
    };
    let mut properties: Map<String, Value> = of_steps().collect();
    properties.extend(Phase::ALL.map(|name| (name.name().to_owned(), phase(name))));
    kinds::add_defaults(&mut properties, registry);
    json!({
        "description": "What steps of this file have unless they say otherwise: a step's own key wins over that of its phase, and that over the one for all.",
        "type": "object",
        "title": "defaults",
        "additionalProperties": false,
        "properties": properties,
        "examples": [{ "timeout": "1m", "precheck": { "timeout": "3s" } }],
    })
}

fn phase(phase: Phase) -> Value {
    let words = match phase {
        Phase::Precheck => "What must hold before anything is touched. Read-only.",
        Phase::Prepare => "What is put in place. Each effect is undone at the end.",
        Phase::Monitor => "What is watched until it comes true.",
        Phase::OnFailure => "Diagnostics after a failure, before anything is undone. Read-only.",
        Phase::Cleanup => "What is cleared away, always.",
    };
    json!({
        "description": format!("{words} A map from the ids of steps to steps; order comes from `needs` and references alone."),
        "type": ["object", "null"],
        "title": phase.name(),
        "propertyNames": names(),
        "additionalProperties": { "$ref": "#/definitions/step" },
    })
}

/// What keys are that expressions can use.
fn names() -> Value {
    json!({ "pattern": NAME, "patternErrorMessage": "expected a name of up to 64 letters, digits and _" })
}

fn text(words: &str, examples: &[&str]) -> Value {
    json!({ "description": words, "type": "string", "examples": examples })
}

fn param() -> Value {
    json!({
        "type": "object",
        "title": "param",
        "required": ["type"],
        "additionalProperties": false,
        "properties": {
            "type": {
                "description": "The type of its values.",
                "type": "string",
                "enum": ["string", "int", "number", "bool", "bytes", "duration", "path", "list", "map"],
                "markdownEnumDescriptions": [
                    "Any text.",
                    "A whole number.",
                    "A number.",
                    "True or false.",
                    "A size such as `10MB`; a whole number of bytes in expressions.",
                    "A duration such as `12m`; text in expressions.",
                    "A path; relative to the working directory, absolute in expressions.",
                    "A list.",
                    "A map.",
                ],
            },
            "default": { "description": "Its value if the caller gives none; without one it must be given." },
            "description": text("What it is for.", &["Where the run puts its test file"]),
            "choices": { "description": "The allowed values.", "type": "array", "minItems": 1, "examples": [["small", "large"]] },
        },
    })
}

fn host() -> Value {
    json!({
        "type": ["object", "null"],
        "title": "host",
        "additionalProperties": false,
        "properties": {
            "ssh": text(
                "The destination: an alias of ssh_config, user@host, or ssh://user@host:port; the host's name if not given.",
                &["nas", "backup@nas.lan"],
            ),
            "known_hosts": text("An explicit known_hosts file.", &["/etc/shakedown/known_hosts"]),
            "config": text("An explicit ssh_config file.", &["/etc/shakedown/ssh_config"]),
            "identity": text("An explicit private key.", &["/etc/shakedown/id_ed25519"]),
            "vars": { "description": "Values of its own, read as hosts[NAME].vars.", "type": "object", "examples": [{ "zone": "south" }] },
        },
    })
}

fn group() -> Value {
    let hosts = json!({
        "description": "Names of hosts, ranges of them, and groups.",
        "type": "array",
        "items": { "type": "string" },
        "examples": [["dock-[01:50]"]],
    });
    json!({
        "anyOf": [
            hosts,
            {
                "type": "object",
                "title": "group",
                "required": ["hosts"],
                "additionalProperties": false,
                "properties": {
                    "hosts": hosts,
                    "vars": { "description": "Values for its hosts; a host's own win.", "type": "object", "examples": [{ "zone": "north" }] },
                },
            },
        ],
    })
}

fn secret() -> Value {
    json!({
        "type": "object",
        "title": "secret",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": false,
        "properties": {
            "env": text("A variable of the environment.", &["API_TOKEN"]),
            "file": text("A file of mode 0600 or 0400; without its last line feed.", &["/etc/shakedown/token"]),
            "credential": text("A credential of the systemd unit that runs it.", &["api-token"]),
        },
    })
}

fn step(registry: &Registry) -> Value {
    let classes: Vec<&str> = ErrorClass::ALL.iter().map(|class| class.name()).collect();
    let defaults = crate::playbook::RetryPolicy::default();
    let with_default = |mut schema: Value, default: Value| {
        schema["default"] = default;
        schema
    };
    let mut properties = json!({
        "name": text("What people call the step.", &["The copy on the NAS"]),
        "needs": {
            "description": "Steps of the same phase that come before.",
            "type": ["array", "string"],
            "items": { "type": "string" },
            "examples": [["media", "record"]],
        },
        "when": condition("A bare expression; the step is skipped if it is false.", &["params.size > 0"]),
        "foreach": {
            "description": "A list or map: the step runs once for each item, known as `each.key` and `each.value`.",
            "type": ["array", "object", "string"],
            "examples": [["a.txt", "b.txt"], "${{ range(params.count) }}"],
        },
        "as": {
            "description": "A name for the item of `foreach`.",
            "type": "string", "pattern": NAME, "examples": ["file"],
        },
        "timeout": duration("The limit of one attempt. If not given: 5 s in `precheck`, 30 min for a wait, 5 min for all else."),
        "retry": {
            "description": "When the step is tried again.",
            "type": "object",
            "title": "retry",
            "required": ["attempts"],
            "additionalProperties": false,
            "properties": {
                "attempts": value(json!({ "description": "How many attempts in all, the first one too.", "type": "integer", "minimum": 1, "maximum": 1000, "examples": [3] })),
                "delay": with_default(duration("How long to wait before the second."), "1s".into()),
                "backoff": with_default(
                    value(json!({ "description": "What the delay is multiplied with each time.", "type": "number", "minimum": 0 })),
                    json!(defaults.backoff),
                ),
                "max_delay": with_default(duration("The longest delay."), "1m".into()),
                "jitter": with_default(
                    value(json!({ "description": "The share of the delay by which it may vary.", "type": "number", "minimum": 0, "maximum": 1 })),
                    json!(defaults.jitter),
                ),
                "on": {
                    "description": "The error classes that are worth another attempt; all if not given.",
                    "type": "array",
                    "items": { "enum": classes },
                    "examples": [["unreachable", "busy"]],
                },
            },
            "defaultSnippets": [{ "body": { "attempts": "${1:3}", "delay": "${2:1s}" } }],
        },
        "expect": condition("A bare expression that must hold of `out`, the step's output.", &["out.size > 0"]),
        "undo": { "description": "How its effect is taken back: one step type, and `on`.", "$ref": "#/definitions/nested" },
        "keep": {
            "description": "How long its effect lasts.",
            "type": "string",
            "enum": ["never", "on_failure", "on_success", "always"],
            "markdownEnumDescriptions": [
                "For the run only, like a test fixture.",
                "It stays if the run failed.",
                "It stays if the run passed.",
                "It stays.",
            ],
            "default": "never",
        },
        "continue_on_error": {
            "description": "Its failure does not fail the run; what depends on it still does not run.",
            "type": "boolean", "default": false,
        },
        "on": text("The host it acts on, or a group: then it runs on each of its hosts. This machine if not given.", &["nas", "all"]),
        "lock": text("A named lock across runs: waits until it is free.", &["media-database"]),
        "include": text(
            "In place of a step: the steps of a fragment, a file or bundled:NAME.",
            &["bundled:daemon", "parts/precheck.yaml"],
        ),
        "with": {
            "description": "Values for the params of the fragment that is included.",
            "type": "object",
            "examples": [{ "unit": "media-sync-daemon" }],
        },
        "hint": text("What to do when it fails, best a command.", &["sudo systemctl restart media-sync-daemon"]),
    });
    kinds::add(&mut properties, registry);
    json!({
        "type": "object",
        "title": "step",
        "description": "Exactly one step type, and any of the keys that all steps have.",
        "additionalProperties": false,
        "properties": properties,
    })
}

/// A step inside another: one step type and `on`.
fn nested(registry: &Registry) -> Value {
    let mut properties = json!({ "on": text("The host it asks.", &["nas"]) });
    kinds::add(&mut properties, registry);
    json!({
        "type": "object",
        "title": "step",
        "description": "Exactly one step type, and `on`.",
        "additionalProperties": false,
        "properties": properties,
    })
}
