//! A journal in memory, for tests.

use super::{Journal, JournalError};
use crate::{
    event::{Record, RunEvent},
    host::BoxFuture,
};

/// Keeps the history in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal {
    /// All records so far.
    pub records: Vec<Record>,
}

impl Journal for MemoryJournal {
    fn append<'a>(&'a mut self, event: &'a RunEvent) -> BoxFuture<'a, Result<Record, JournalError>> {
        let seq = self.records.len() as u64;
        let record = Record { seq, at_ms: seq, event: event.clone() };
        self.records.push(record.clone());
        Box::pin(async move { Ok(record) })
    }
}
