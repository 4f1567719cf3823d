//! From text to a valid [`Playbook`], with every mistake reported at once.

mod fields;
mod hosts;
mod model;
mod names;
mod params;
mod raw;
mod read;
mod secrets;
mod steps;
mod template;

pub use hosts::read_inventory;
pub use model::*;
pub use raw::yaml_value;
pub use read::read;
