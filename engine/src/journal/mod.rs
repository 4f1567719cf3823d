//! Where the history of a run is kept. An event counts only once it is durable here.

mod memory;
#[cfg(feature = "local")]
pub mod sqlite;

pub use memory::MemoryJournal;

use crate::{
    event::{Record, RunEvent},
    host::BoxFuture,
};

/// Why the journal cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JournalError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Another process owns the run now: this one must do nothing more for it.
    pub not_owner: bool,
}

#[cfg(feature = "local")]
impl JournalError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, not_owner: false }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The history of one run, owned by whoever carries it out.
pub trait Journal: Send {
    /// Adds an event; it is durable when this returns.
    fn append<'a>(&'a mut self, event: &'a RunEvent) -> BoxFuture<'a, Result<Record, JournalError>>;
}
