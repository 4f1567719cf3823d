//! The values that an expression sees.

use super::Reference;
use serde_json::{Map, Value};
use std::{fmt, sync::Arc};

/// What expressions may ask of the world; handed in, so that the core does no I/O of its own.
pub trait Outside: Send + Sync {
    /// The content of a JSON, YAML or TOML file.
    ///
    /// # Errors
    /// Why it cannot be read, in words for the user.
    fn load(&self, path: &str) -> Result<Value, String>;
    /// A variable of the environment.
    fn env(&self, name: &str) -> Option<String>;
}

/// An outside with no files and no environment.
struct Nothing;

impl Outside for Nothing {
    fn load(&self, path: &str) -> Result<Value, String> {
        Err(format!("cannot read `{path}` here"))
    }
    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

/// The names that an expression can use, with their values. Cheap to extend: names are shared.
#[derive(Clone)]
pub struct Scope {
    names: Map<String, Value>,
    outside: Arc<dyn Outside>,
}

impl Default for Scope {
    fn default() -> Self {
        Self { names: Map::new(), outside: Arc::new(Nothing) }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.names.iter()).finish()
    }
}

impl Scope {
    /// A scope without names that asks `outside`.
    #[must_use]
    pub fn new(outside: Arc<dyn Outside>) -> Self {
        Self { names: Map::new(), outside }
    }

    /// Gives a name a value.
    pub fn set(&mut self, name: impl Into<String>, value: Value) {
        self.names.insert(name.into(), value);
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.names.get(name)
    }

    /// This scope with more names, which win over those it has.
    #[must_use]
    pub fn with(&self, extra: &Map<String, Value>) -> Self {
        let mut scope = self.clone();
        scope.names.extend(extra.iter().map(|(name, value)| (name.clone(), value.clone())));
        scope
    }

    pub(super) fn outside(&self) -> Arc<dyn Outside> {
        self.outside.clone()
    }

    /// The names that `references` use. Of `steps`, only the steps they name: a run may have thousands.
    pub(super) fn visible(&self, references: &[Reference]) -> Vec<(String, Value)> {
        let mut seen: Map<String, Value> = Map::new();
        for reference in references {
            let root = reference.path[0].as_str();
            let Some(value) = self.names.get(root) else { continue };
            match (root, reference.path.get(1), value) {
                ("steps", Some(step), Value::Object(steps)) => {
                    let Some(found) = steps.get(step) else { continue };
                    let entry = seen.entry("steps").or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(chosen) = entry {
                        chosen.entry(step.clone()).or_insert_with(|| found.clone());
                    }
                }
                _ => {
                    seen.insert(root.to_owned(), value.clone());
                }
            }
        }
        if self.names.contains_key("steps") && references.iter().any(|r| r.path[0] == "steps") {
            seen.entry("steps").or_insert_with(|| Value::Object(Map::new()));
        }
        seen.into_iter().collect()
    }
}
