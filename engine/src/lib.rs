//! The core of Shakedown: it reads playbooks, plans them, schedules and runs them.
//!
//! Without features this crate is pure: it does no I/O beyond what it is handed. The feature
//! `local` adds the executor that runs a plan on this machine and the SQLite journal.

pub mod degraded;
pub mod diagnostic;
pub mod error;
pub mod event;
pub mod expr;
pub mod graph;
pub mod host;
pub mod journal;
#[cfg(feature = "local")]
pub mod local;
pub mod plan;
pub mod playbook;
pub mod quantity;
pub mod registry;
pub mod report;
pub mod schedule;
pub mod schema;
pub mod secret;
pub mod sources;
pub mod step;

pub use diagnostic::{Code, Diagnostic, Diagnostics, Severity, Source, Span};
pub use error::{ErrorClass, StepError};
pub use registry::Registry;
pub use sources::Sources;
pub use step::Step;
