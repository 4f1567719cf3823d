//! From text to a valid [`Playbook`], with every mistake reported at once.

pub mod model;
pub use model::*;
