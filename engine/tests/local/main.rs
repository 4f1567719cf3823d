//! The local executor and the journal on disk, with step types whose effects are lines in a log.

mod execute;
#[cfg(feature = "faults")]
mod faults;
mod journal;
mod plan_and_run;
mod resume;
mod support;
