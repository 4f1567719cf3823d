//! What the parameters of a step are, as far as that is known when planning.

use super::{
    build::is_known,
    render::{MAX_RENDERED, render},
};
use crate::{
    error::StepError,
    expr::{Expr, Scope, size_of},
    playbook::{Part, Template},
};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The parameters as far as they are known, and the top-level keys below which something is not.
pub(crate) fn preview_map(params: &Template, scope: &Scope) -> (Value, BTreeSet<String>) {
    Preview::new(scope).map(params)
}

/// A template as far as it is known: an expression that is not stands as its text.
pub(super) fn preview(template: &Template, scope: &Scope) -> (Value, bool) {
    Preview::new(scope).of(template)
}

/// What is rendered as far as it is known.
pub(super) struct Preview<'a> {
    scope: &'a Scope,
    /// How large it is so far.
    size: u64,
    /// The expression that costs more than it may, and what to say of it.
    pub(super) costly: Option<StepError>,
}

impl<'a> Preview<'a> {
    pub(super) fn new(scope: &'a Scope) -> Self {
        Self { scope, size: 0, costly: None }
    }

    pub(super) fn map(&mut self, params: &Template) -> (Value, BTreeSet<String>) {
        let mut unknown = BTreeSet::new();
        let value = match params {
            Template::Map(entries) => {
                let mut map = Map::new();
                for (key, template) in entries {
                    let (value, known) = self.of(template);
                    if !known {
                        unknown.insert(key.clone());
                    }
                    map.insert(key.clone(), value);
                }
                Value::Object(map)
            }
            other => self.of(other).0,
        };
        (value, unknown)
    }

    fn expr(&mut self, expr: &Expr) -> (Value, bool) {
        let value = if is_known(expr, self.scope) { expr.eval(self.scope).map(Some) } else { Ok(None) };
        match value {
            Ok(Some(value)) => {
                self.size = self.size.saturating_add(size_of(&value, MAX_RENDERED));
                if self.size <= MAX_RENDERED {
                    return (value, true);
                }
            }
            Err(error) if error.costly => {
                self.costly.get_or_insert_with(|| error.of(&format!("`{}`", expr.text())));
            }
            Ok(None) | Err(_) => {}
        }
        (Value::String(format!("${{{{ {} }}}}", expr.text())), false)
    }

    fn of(&mut self, template: &Template) -> (Value, bool) {
        match template {
            Template::Expr(expr) => self.expr(expr),
            Template::Text(parts) => {
                let mut known = true;
                let text = parts.iter().map(|part| match part {
                    Part::Text(text) => text.clone(),
                    Part::Expr(expr) => {
                        let (value, is_known) = self.expr(expr);
                        known &= is_known;
                        value.as_str().map_or(value.to_string(), str::to_owned)
                    }
                });
                let text = text.collect();
                (Value::String(text), known)
            }
            Template::List(items) => {
                let (values, known): (Vec<Value>, Vec<bool>) = items.iter().map(|item| self.of(item)).unzip();
                (Value::Array(values), known.into_iter().all(|known| known))
            }
            Template::Map(entries) => {
                let mut known = true;
                let map = entries.iter().map(|(key, template)| {
                    let (value, is_known) = self.of(template);
                    known &= is_known;
                    (key.clone(), value)
                });
                let map = map.collect();
                (Value::Object(map), known)
            }
            Template::Literal(_) | Template::Condition(_) => {
                (render(template, self.scope).unwrap_or_default(), true)
            }
        }
    }
}
