//! Runs a plan on this machine: one loop owns the scheduler and the journal, tasks only send messages.

mod attempt;
pub(crate) use attempt::expectation;
mod execute;
mod faults;
mod info;
mod locks;
mod machines;
mod notes;
mod outputs;
mod outside;
mod setup;
mod signal;
mod space;
mod survey;
mod task;
mod undo;
mod written;

pub use execute::execute;
pub use faults::Faults;
pub use info::run_info;
pub(crate) use outputs::Outputs;
pub use outside::{LocalOutside, near_names};

pub use setup::{Asker, DeadRun, FailedCheck, RunEnd, Setup};
pub use signal::Signals;
pub use space::{allocate, is_full};
pub use survey::{Survey, survey};

pub mod process;
pub mod reading;
pub mod secrets;
