//! Runs a plan on this machine: one loop owns the scheduler and the journal, tasks only send messages.

mod attempt;
pub(crate) use attempt::expectation;
mod execute;
mod info;
mod locks;
mod outputs;
mod outside;
mod signal;
mod undo;

pub use execute::{Asker, FailedCheck, RunEnd, Setup, execute};
pub use info::run_info;
pub use outside::LocalOutside;

pub mod process;
