//! From text to a valid [`Playbook`], with every mistake reported at once.

mod defaults;
mod fields;
mod hosts;
mod include;
mod kinds;
mod last;
mod lint;
mod model;
mod names;
mod params;
mod raw;
mod read;
mod scalar;
mod secrets;
mod shown;
mod steps;
mod template;
mod yaml_error;

pub use hosts::read_inventory;
pub use include::{Library, NoLibrary};
pub use lint::{LINTS, lint};
pub use model::*;
pub(crate) use raw::too_large;
pub use raw::{MAX_BYTES, yaml_value};
pub use read::read;
