//! `shakedown`: the command line. It alone prints and exits.

mod args;
mod ask;
mod bundled;
mod command;
mod events;
mod failure;
mod library;
mod live;
mod out;
mod params;
mod paths;
mod plain;
mod playbook;
mod report;
mod runner;
mod saved;
mod services;
mod signals;
mod state;
mod stream;
mod watch;
mod wrap;

use args::{Cli, Command};
use clap::{CommandFactory, FromArgMatches};
use failure::Failure;
use std::{
    ffi::OsString,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
};

/// The exit code of an invalid command line, playbook or param.
const INVALID: u8 = 3;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // Comes before everything else: the arguments after it are the stand-in's own.
    if args.get(1).is_some_and(|first| first == "stand-in") {
        return standin::main_with_args(args.into_iter().skip(2));
    }
    match parse(&args) {
        Ok(cli) => {
            let out = out::Out::new(&cli.global, cli.command.wants_json());
            signals::survive_large_files();
            // What was said of a panic stands above.
            let done = panic::catch_unwind(AssertUnwindSafe(|| run(&cli, &out))).unwrap_or_else(|_| {
                Err(Failure::environment("the program broke off: this is a mistake of Shakedown")
                    .hint("what a run may have left is found by: shakedown recover"))
            });
            ExitCode::from(done.unwrap_or_else(|failure| failure.print(&out)))
        }
        Err(error) => {
            // Nobody may be reading any more; there is nobody to tell either.
            let _unread = error.print();
            if let Some(tip) = command::help::tip(&error) {
                let _unread = std::io::Write::write_all(&mut std::io::stderr(), tip.as_bytes());
            }
            ExitCode::from(if error.use_stderr() { INVALID } else { 0 })
        }
    }
}

/// Clap knows of NO_COLOR by itself, but reads `--color` only once everything else is right.
fn parse(args: &[OsString]) -> Result<Cli, clap::Error> {
    let never = args.windows(2).any(|pair| pair[0] == "--color" && pair[1] == "never")
        || args.iter().any(|arg| arg == "--color=never");
    let color = if never { clap::ColorChoice::Never } else { clap::ColorChoice::Auto };
    Cli::from_arg_matches(&Cli::command().color(color).try_get_matches_from(args)?)
}

fn run(cli: &Cli, out: &out::Out) -> Result<u8, Failure> {
    match &cli.command {
        Command::Run(args) => command::run::run(args, out),
        Command::Plan(args) => command::plan::run(args, out),
        Command::Check(args) => command::check::run(args, out),
        Command::Explain(args) => command::explain::run(args, out),
        Command::Playbooks(args) => command::playbooks::run(args, out),
        Command::New(args) => command::new::run(args, out),
        Command::Steps(args) => command::steps::run(args, out),
        Command::Recover(args) => command::recover::run(args, out),
        Command::Resume(args) => command::resume::run(args, out),
        Command::Schema(args) => command::schema::run(args, out),
        Command::Runs(args) => command::runs::run(args, out),
        Command::Completions(args) => command::completions::run(args, out),
        Command::Man(args) => command::man::run(args, out),
        Command::Help(args) => command::help::run(args, out),
        // Taken by `main`; here so that the help of clap knows the name.
        Command::StandIn => Ok(0),
    }
}
