//! The built-in step types of Shakedown: one file each, one line each in [`builtin`].

pub mod ssh_host;
#[cfg(test)]
mod testing;

use engine::Registry;

/// All built-in step types, in the order of the documentation.
#[must_use]
pub fn builtin() -> Registry {
    Registry::new()
}
