//! The step types that a playbook may use.

use crate::step::{DynStep, Erased, Step};
use std::{fmt, sync::Arc};

/// A list of step types, found by their key. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    steps: Arc<Vec<Arc<dyn DynStep>>>,
}

impl Registry {
    /// A registry without step types.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step type; the order is the order of the documentation.
    ///
    /// # Panics
    /// If its key is taken: a mistake in the list of step types.
    #[must_use]
    pub fn with<S: Step>(mut self, step: S) -> Self {
        assert!(self.get(S::KIND).is_none(), "two step types with the key `{}`", S::KIND);
        Arc::make_mut(&mut self.steps).push(Arc::new(Erased::new(step)));
        self
    }

    /// The step type with that key.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&Arc<dyn DynStep>> {
        self.steps.iter().find(|step| step.kind() == kind)
    }

    /// All step types.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn DynStep>> {
        self.steps.iter()
    }

    /// The keys of all step types.
    #[must_use]
    pub fn kinds(&self) -> Vec<&'static str> {
        self.iter().map(|step| step.kind()).collect()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.kinds()).finish()
    }
}
