//! Templates as people read them.

use super::{Body, Part, Template};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Parameters with expressions as their texts.
pub(super) fn shown(params: &Template) -> (Value, BTreeSet<String>) {
    fn value(template: &Template) -> (Value, bool) {
        match template {
            Template::Literal(value) => (value.clone(), true),
            Template::Condition(expr) => (json!(expr.text()), true),
            Template::Expr(expr) => (json!(format!("${{{{ {} }}}}", expr.text())), false),
            Template::Text(parts) => {
                let text = parts.iter().map(|part| match part {
                    Part::Text(text) => text.clone(),
                    Part::Expr(expr) => format!("${{{{ {} }}}}", expr.text()),
                });
                (Value::String(text.collect()), false)
            }
            Template::List(items) => {
                let (values, known): (Vec<_>, Vec<_>) = items.iter().map(value).unzip();
                (Value::Array(values), known.into_iter().all(|known| known))
            }
            Template::Map(entries) => {
                let mut known = true;
                let mut map = Map::new();
                for (key, template) in entries {
                    let (value, is_known) = value(template);
                    known &= is_known;
                    map.insert(key.clone(), value);
                }
                (Value::Object(map), known)
            }
        }
    }
    let mut unknown = BTreeSet::new();
    if let Template::Map(entries) = params {
        unknown.extend(entries.iter().filter(|(_, template)| !value(template).1).map(|(key, _)| key.clone()));
    }
    (value(params).0, unknown)
}

impl Body {
    /// The host it names, as written; nothing for this machine.
    pub(crate) fn host_words(&self) -> Option<String> {
        let on = shown(self.on.as_ref()?).0;
        on.as_str().filter(|on| *on != "local").map(str::to_owned)
    }
}
