//! The built-in step types of Shakedown: one file each, one line each in [`builtin`].

mod checks;
pub mod command;
pub mod disk;
pub mod file;
pub mod hash;
mod hex;
pub mod http;
mod identity;
pub mod journal;
pub mod json;
mod place;
pub mod postgres;
pub mod process;
pub mod redis_store;
#[cfg(test)]
mod settle_tests;
mod sh;
pub mod sqlite;
pub mod ssh;
pub mod ssh_host;
pub mod store;
pub mod systemd;
pub mod tcp;
#[cfg(test)]
mod testing;
mod tls;
pub mod wait;
mod watch;
mod word;

use engine::Registry;

/// All built-in step types, in the order of the documentation.
#[must_use]
pub fn builtin() -> Registry {
    Registry::new()
        .with(file::File)
        .with(hash::Hash)
        .with(sqlite::Sqlite)
        .with(postgres::Postgres)
        .with(json::Json)
        .with(systemd::Systemd)
        .with(journal::Journal)
        .with(ssh::Ssh)
        .with(command::Command)
        .with(process::Process)
        .with(wait::Wait)
        .with(disk::Disk)
        .with(tcp::Tcp)
        .with(http::Http)
        .with(redis_store::Redis)
}
