//! Readers over the tree of nodes: each notes every mistake and goes on.

use super::raw::{Node, NodeValue};
use crate::diagnostic::{Code, Diagnostic, Diagnostics, Span, did_you_mean};
use serde_json::Value;

/// The longest name shown in a message, in characters.
const SHOWN: usize = 60;

/// A name for a message: cut if it is very long.
pub(super) fn short(name: &str) -> String {
    match name.chars().count() > SHOWN {
        true => name.chars().take(SHOWN).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

/// What a node is, in words.
pub(super) fn kind(node: &Node) -> String {
    match &node.value {
        NodeValue::Seq(_) => "a list".into(),
        NodeValue::Map(_) => "a map".into(),
        NodeValue::Scalar(Value::Null) => "nothing".into(),
        NodeValue::Scalar(Value::String(text)) => format!("the text `{}`", short(text)),
        NodeValue::Scalar(other) => format!("`{other}`"),
    }
}

/// The entries of a section that must be a map.
pub(super) fn entries<'n>(
    node: &'n Node,
    what: &str,
    found: &mut Diagnostics,
) -> Vec<(&'n str, Span, &'n Node)> {
    let NodeValue::Map(entries) = &node.value else {
        let message = format!("`{what}`: expected a map, found {}", kind(node));
        found.push(Diagnostic::error(Code::WrongType, message, node.span));
        return Vec::new();
    };
    entries.iter().map(|(key, span, node)| (key.as_str(), *span, node)).collect()
}

/// A map whose keys are taken one by one; what is never taken is unknown.
pub(super) struct Fields<'n> {
    entries: Vec<(&'n str, Span, &'n Node, bool)>,
    asked: Vec<&'static str>,
    what: &'static str,
    span: Span,
}

impl<'n> Fields<'n> {
    /// The fields of a node that must be a map; `what` names it in messages.
    pub(super) fn of(node: &'n Node, what: &'static str, found: &mut Diagnostics) -> Option<Self> {
        let NodeValue::Map(entries) = &node.value else {
            let message = format!("{what}: expected a map, found {}", kind(node));
            found.push(Diagnostic::error(Code::WrongType, message, node.span));
            return None;
        };
        let entries = entries.iter().map(|(key, span, value)| (key.as_str(), *span, value, false)).collect();
        Some(Self { entries, asked: Vec::new(), what, span: node.span })
    }

    /// The value of a key and the key's place.
    pub(super) fn take(&mut self, key: &'static str) -> Option<(Span, &'n Node)> {
        self.asked.push(key);
        let entry = self.entries.iter_mut().find(|(name, ..)| *name == key)?;
        entry.3 = true;
        Some((entry.1, entry.2))
    }

    /// Adds a key with a value from elsewhere, unless it is there.
    pub(super) fn add(&mut self, key: &'n str, span: Span, node: &'n Node) -> bool {
        let is_new = !self.entries.iter().any(|(name, ..)| *name == key);
        if is_new {
            self.entries.push((key, span, node, false));
        }
        is_new
    }

    /// The value of a key that is taken later.
    pub(super) fn peek(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(name, ..)| *name == key).map(|entry| entry.2)
    }

    /// The same as `take`, and an error if it is missing.
    pub(super) fn require(&mut self, key: &'static str, found: &mut Diagnostics) -> Option<&'n Node> {
        let value = self.take(key).map(|(_, node)| node);
        if value.is_none() {
            let message = format!("{}: the key `{key}` is missing", self.what);
            found.push(Diagnostic::error(Code::MissingKey, message, self.span));
        }
        value
    }

    /// Text.
    pub(super) fn text(&mut self, key: &'static str, found: &mut Diagnostics) -> Option<String> {
        let (_, node) = self.take(key)?;
        match &node.value {
            NodeValue::Scalar(Value::String(text)) => Some(text.clone()),
            _ => {
                let message = format!("`{key}`: expected text, found {}", kind(node));
                let diagnostic = Diagnostic::error(Code::WrongType, message, node.span);
                found.push(match &node.value {
                    NodeValue::Scalar(Value::Number(_) | Value::Bool(_)) => {
                        diagnostic.hint("put it in quotes")
                    }
                    _ => diagnostic,
                });
                None
            }
        }
    }

    /// True or false.
    pub(super) fn flag(&mut self, key: &'static str, found: &mut Diagnostics) -> bool {
        let Some((_, node)) = self.take(key) else { return false };
        match &node.value {
            NodeValue::Scalar(Value::Bool(flag)) => *flag,
            _ => {
                let message = format!("`{key}`: expected true or false, found {}", kind(node));
                found.push(Diagnostic::error(Code::WrongType, message, node.span));
                false
            }
        }
    }

    /// The entries that nobody has taken yet.
    pub(super) fn rest(&self) -> Vec<(&'n str, Span, &'n Node)> {
        self.entries
            .iter()
            .filter(|entry| !entry.3)
            .map(|(key, span, node, _)| (*key, *span, *node))
            .collect()
    }

    /// Marks a key as known.
    pub(super) fn accept(&mut self, key: &str) {
        for entry in self.entries.iter_mut().filter(|entry| entry.0 == key) {
            entry.3 = true;
        }
    }

    /// Notes the keys that nobody has taken; `more` are further names to suggest.
    pub(super) fn finish(self, more: &[&str], found: &mut Diagnostics) {
        for (key, span, _) in self.rest() {
            let known = self.asked.iter().copied().chain(more.iter().copied());
            let message = format!("{}: unknown key `{}`", self.what, short(key));
            let hint = did_you_mean(key, known.clone()).unwrap_or_else(|| {
                let mut names: Vec<&str> = known.collect();
                names.sort_unstable();
                format!("known keys are: {}", names.join(", "))
            });
            found.push(Diagnostic::error(Code::UnknownKey, message, span).hint(hint));
        }
    }
}
