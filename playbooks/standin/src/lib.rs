//! A stand-in for the daemon that sends media files from an edge box to a NAS.
//!
//! The bundled playbooks test a chain whose middle part is a product of its own. This crate behaves as that
//! daemon does towards everything a playbook can see (the store, the files, the journal, the unit's
//! state), and can be told to fail in each way seen in the field (`faults.rs`). So the playbooks, the lab and
//! the quickstart have a real process to test, over real ssh.

mod args;
mod config;
mod daemon;
mod destination;
mod faults;
mod log;
mod paths;
mod stop;
mod store;

pub use config::Config;
pub use store::sqlite::SCHEMA;

use std::ffi::OsString;
use std::process::ExitCode;

use args::{Args, Parsed};
use daemon::Daemon;
use log::Log;
use stop::Stop;

/// Runs the daemon with these arguments (without the program's name) until SIGTERM or SIGINT.
///
/// Exit codes: 0 ended as asked, 1 could not start (the reason is an ERROR line on stdout, where the field's
/// daemon has it too), 2 wrong arguments.
pub fn main_with_args(args: impl Iterator<Item = OsString>) -> ExitCode {
    let log = Log::stdout();
    let args = match Args::parse(args) {
        Ok(Parsed::Run(args)) => args,
        Ok(Parsed::Help) => {
            log.plain(args::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            log.error(&problem);
            log.plain(args::USAGE);
            return ExitCode::from(2);
        }
    };
    let started = Stop::on_signals()
        .map_err(|error| format!("cannot install the signal handlers: {error}"))
        .and_then(|stop| Daemon::start(args, log.clone(), stop));
    match started.and_then(|mut daemon| daemon.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            log.error(&problem);
            ExitCode::FAILURE
        }
    }
}
