//! What a person or a machine is told of a run: a fold over its events, and forms in which it is written.
//!
//! Everything here is pure: it gives text. Whoever calls it decides where that goes.

pub mod console;
mod cut;
pub mod end;
mod escape;
mod fold;
mod hint;
pub mod json;
mod style;
mod summary;
pub mod template;
mod time;
mod turns;

pub use escape::{escape, escape_lines, is_unsafe};
pub use hint::hint;
pub use style::{Style, Tone, pad, shorten, width};
pub use summary::{
    Attempt, Counts, Ending, ErrorSummary, PhaseSummary, REPORT_VERSION, StepStatus, StepSummary, Summary,
    Tally, UndoStatus, UndoSummary, exit_code,
};
pub use time::{clock, rfc3339};
