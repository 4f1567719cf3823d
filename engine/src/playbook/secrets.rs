//! Reads the section `secrets`.

use super::{
    fields::{Fields, kind},
    raw::{Node, NodeValue},
    read::named,
    template::Reader,
};
use crate::{
    diagnostic::{Code, Diagnostic},
    playbook::SecretDef,
};
use serde_json::Value;

/// Where a secret may be found.
pub(super) const PLACES: [&str; 3] = ["env", "file", "credential"];

pub(super) fn read_secrets(node: &Node, reader: &mut Reader<'_>) -> Vec<SecretDef> {
    let mut secrets = Vec::new();
    for (name, span, node) in named(node, "secrets", "a secret's name", reader.found) {
        if let NodeValue::Scalar(Value::String(_)) = &node.value {
            let message = format!("secret `{name}`: a secret is never written into a playbook");
            let hint = "say where it is found: { env: VARIABLE }, { file: PATH } or { credential: NAME }";
            reader.found.push(Diagnostic::error(Code::BadValue, message, node.span).hint(hint));
            continue;
        }
        let Some(mut fields) = Fields::of(node, "secret", reader.found) else { continue };
        let places: Vec<(&'static str, &Node)> =
            PLACES.into_iter().filter_map(|key| fields.take(key).map(|(_, node)| (key, node))).collect();
        fields.finish(&[], reader.found);
        let [(key, place)] = places.as_slice() else {
            let message = format!("secret `{name}`: expected exactly one of `env`, `file`, `credential`");
            reader.found.push(Diagnostic::error(Code::MissingKey, message, span));
            continue;
        };
        match &place.value {
            NodeValue::Scalar(Value::String(text)) if !text.is_empty() => {
                let place = reader.text(text, place);
                secrets.push(SecretDef { name: name.to_owned(), key, place, span });
            }
            _ => {
                let message = format!("`{key}`: expected text, found {}", kind(place));
                reader.found.push(Diagnostic::error(Code::WrongType, message, place.span));
            }
        }
    }
    secrets
}
