//! The values that an expression sees.

use super::{
    Meter, Reference,
    budget::{MAX_PLAN_COST, size_of},
    convert,
};
use cel::{
    common::value::{CowVal, Val},
    context::VariableResolver,
};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

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

/// The names that an expression can use, with their values. Cheap to clone and to extend: values are shared.
#[derive(Clone)]
pub struct Scope {
    names: BTreeMap<String, Arc<Named>>,
    outside: Arc<dyn Outside>,
    meter: Option<Arc<Meter>>,
}

/// The value of a name.
#[derive(Debug, Default, Clone)]
struct Named {
    value: Value,
    /// The same for the evaluator, if it is large: made once for all expressions.
    val: OnceLock<Arc<dyn Val>>,
}

impl Named {
    fn new(value: Value) -> Arc<Self> {
        Arc::new(Self { value, val: OnceLock::new() })
    }
}

/// Names of which all expressions see the same value, and from what size on it is worth keeping for all.
const FIXED: [&str; 3] = ["params", "vars", "hosts"];
const LARGE: u64 = 64 << 10;

impl Default for Scope {
    fn default() -> Self {
        Self::new(Arc::new(Nothing))
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.names.iter().map(|(name, named)| (name, &named.value))).finish()
    }
}

impl Scope {
    /// A scope without names that asks `outside`.
    #[must_use]
    pub fn new(outside: Arc<dyn Outside>) -> Self {
        Self { names: BTreeMap::new(), outside, meter: None }
    }

    /// The same, where all that is evaluated in it and in its clones counts towards what a plan may cost.
    #[must_use]
    pub(crate) fn metered(self) -> Self {
        Self { meter: Some(Arc::new(Meter::new(MAX_PLAN_COST))), ..self }
    }

    /// Gives a name a value.
    pub fn set(&mut self, name: impl Into<String>, value: Value) {
        self.names.insert(name.into(), Named::new(value));
    }

    /// Gives the map of this name an entry.
    pub(crate) fn put(&mut self, name: &str, key: &str, value: Value) {
        let named = Arc::make_mut(self.names.entry(name.to_owned()).or_default());
        named.val = OnceLock::new();
        let map = &mut named.value;
        match map {
            Value::Object(entries) => {
                entries.insert(key.to_owned(), value);
            }
            _ => *map = Value::Object(Map::from_iter([(key.to_owned(), value)])),
        }
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.names.get(name).map(|named| &named.value)
    }

    /// This scope with more names, which win over those it has.
    #[must_use]
    pub fn with(&self, extra: &Map<String, Value>) -> Self {
        let mut scope = self.clone();
        scope.names.extend(extra.iter().map(|(name, value)| (name.clone(), Named::new(value.clone()))));
        scope
    }

    pub(super) fn outside(&self) -> Arc<dyn Outside> {
        self.outside.clone()
    }

    pub(crate) fn meter(&self) -> Option<&Meter> {
        self.meter.as_deref()
    }

    /// The names that `references` use, with only what they name of each: a run may have thousands of steps, and a var
    /// may be large.
    pub(super) fn visible(&self, references: &[Reference]) -> BTreeMap<&str, Seen<'_>> {
        let mut paths: Vec<&[String]> = references.iter().map(|of| of.path.as_slice()).collect();
        // A path comes right before those that begin with it.
        paths.sort_unstable();
        paths.dedup_by(|path, kept| path.starts_with(kept));
        let mut seen = BTreeMap::new();
        for path in paths {
            let found = path.first().and_then(|root| self.names.get_key_value(root));
            let Some((name, named)) = found else { continue };
            if FIXED.contains(&name.as_str()) && size_of(&named.value, LARGE) > LARGE {
                seen.entry(name.as_str()).or_insert_with(|| {
                    let mut made = 0;
                    let val = named.val.get_or_init(|| {
                        made = size_of(&named.value, u64::MAX);
                        convert::to_static(&named.value)
                    });
                    Seen::Kept(val.as_ref(), made)
                });
                continue;
            }
            see(&named.value, &path[1..], seen.entry(name.as_str()).or_insert(Seen::Part(BTreeMap::new())));
        }
        seen
    }
}

/// A value as an expression sees it.
pub(super) enum Seen<'a> {
    All(&'a Value),
    /// Of a map only what the expression names.
    Part(BTreeMap<&'a str, Seen<'a>>),
    /// What is kept for all expressions, and how large it is if it has only now been made.
    Kept(&'a dyn Val, u64),
}

/// What is kept, by its name.
#[derive(Default)]
pub(super) struct Kept<'a>(pub(super) BTreeMap<&'a str, &'a dyn Val>);

impl VariableResolver for Kept<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        self.0.get(name).map(|val| CowVal::Borrowed(*val))
    }
}

/// Adds what a path leads to; where it leads nowhere, what it goes through stays, as empty maps.
fn see<'a>(from: &'a Value, path: &[String], to: &mut Seen<'a>) {
    let (Value::Object(entries), Some((name, rest))) = (from, path.split_first()) else {
        *to = Seen::All(from);
        return;
    };
    if let (Seen::Part(part), Some((name, value))) = (to, entries.get_key_value(name)) {
        see(value, rest, part.entry(name).or_insert(Seen::Part(BTreeMap::new())));
    }
}
