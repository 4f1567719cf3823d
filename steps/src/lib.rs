//! The built-in step types of Shakedown: one file each, one line each in [`builtin`].

pub mod command;
pub mod disk;
pub mod ssh_host;
pub mod tcp;
#[cfg(test)]
mod testing;
mod word;

use engine::Registry;

/// All built-in step types, in the order of the documentation.
#[must_use]
pub fn builtin() -> Registry {
    Registry::new().with(command::Command).with(disk::Disk).with(tcp::Tcp)
}
