//! Properties that a `check` asks for.

use schemars::JsonSchema;
use serde::Deserialize;

/// One check or several.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Checks<C> {
    /// One.
    One(C),
    /// Several.
    Many(Vec<C>),
}

impl<C> Checks<C> {
    /// All of them.
    pub(crate) fn list(&self) -> &[C] {
        match self {
            Self::One(check) => std::slice::from_ref(check),
            Self::Many(checks) => checks,
        }
    }
}
