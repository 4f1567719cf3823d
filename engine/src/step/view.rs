//! The parameters of a step as they are known before it runs.

use serde_json::Value;
use std::collections::BTreeSet;

/// Parameters of which some values are not known yet. Which keys are present is always known; a value that is
/// not known shows as the text of its expression.
#[derive(Clone, Copy, Debug)]
pub struct ParamsView<'a> {
    value: &'a Value,
    unknown: &'a BTreeSet<String>,
}

impl<'a> ParamsView<'a> {
    /// A view of `value`, in which the values below the top-level keys `unknown` are not known yet.
    #[must_use]
    pub fn new(value: &'a Value, unknown: &'a BTreeSet<String>) -> Self {
        Self { value, unknown }
    }

    /// Whether the key is present.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.value.get(key).is_some()
    }

    /// Whether the key is present and its whole value known.
    #[must_use]
    pub fn is_known(&self, key: &str) -> bool {
        self.has(key) && !self.unknown.contains(key)
    }

    /// The value of a key, with expressions in place of what is not known.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key)
    }

    /// Whether the key is present and literally `true`.
    #[must_use]
    pub fn is_true(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The value of a key for a title: text as it is, other values as JSON, nothing as an empty text.
    #[must_use]
    pub fn show(&self, key: &str) -> String {
        self.get(key).map(show).unwrap_or_default()
    }

    /// A list of words for a title, joined by spaces.
    #[must_use]
    pub fn words(&self, key: &str) -> String {
        match self.get(key) {
            Some(Value::Array(items)) => items.iter().map(show).collect::<Vec<_>>().join(" "),
            Some(other) => show(other),
            None => String::new(),
        }
    }

    /// Of `keys`, those that are present.
    #[must_use]
    pub fn present<'k>(&self, keys: &[&'k str]) -> Vec<&'k str> {
        keys.iter().copied().filter(|key| self.has(key)).collect()
    }

    /// The check that most step types need: exactly one of `actions` is present. The errors are ready for
    /// [`Step::check`](super::Step::check).
    #[must_use]
    pub fn exactly_one(&self, actions: &[&str]) -> Vec<(String, String)> {
        let names = || actions.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match self.present(actions).as_slice() {
            [] => vec![(String::new(), format!("expected exactly one of {}", names()))],
            [_] => Vec::new(),
            [first, rest @ ..] => rest
                .iter()
                .map(|key| {
                    (
                        (*key).to_owned(),
                        format!("`{key}` cannot go with `{first}`: expected exactly one of {}", names()),
                    )
                })
                .collect(),
        }
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
