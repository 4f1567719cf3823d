//! The command line as a whole. Each subcommand's arguments stand in its own file.

use crate::command;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Where the help shows what every command takes.
const GLOBAL: &str = "Global options";

/// Operational smoke tests: prove on a live system that the whole chain works, then leave no trace.
#[derive(Debug, Parser)]
#[command(
    name = "shakedown",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = "Examples:
  shakedown run quickstart             prove that it works here, with a system of its own
  shakedown plan media-sync            see what a run would do; changes nothing
  shakedown run media-sync -p size=10MB
  shakedown new my-check.yaml          begin a playbook of your own
  shakedown help guide                 from nothing to a playbook of your own in ten minutes

Exit codes:
  0  passed
  1  a precheck refused; nothing was changed
  2  the system under test failed; everything was undone
  3  the playbook, the params or the command line are invalid
  4  something could not be undone; each thing is named
  5  the engine or the environment failed; everything was undone
  129, 130, 143  interrupted by HUP, INT, TERM; everything was undone"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Global {
    /// When to use colours; NO_COLOR is honoured too
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = When::Auto, help_heading = GLOBAL)]
    pub(crate) color: When,
    /// Say only what failed
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = GLOBAL)]
    pub(crate) quiet: bool,
    /// Say more
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub(crate) verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    Auto,
    Always,
    Never,
}

/// The forms of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

impl Command {
    /// Whether stdout is to be JSON also where the command fails. `check` has a list of its own.
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Plan(args) => args.wants_json(),
            Self::Runs(args) => args.wants_json(),
            _ => false,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a playbook
    Run(command::run::RunArgs),
    /// Show what a run would do, and what can be seen of its chances now; changes nothing
    Plan(command::plan::PlanArgs),
    /// Validate playbooks: all mistakes of all files at once
    Check(command::check::CheckArgs),
    /// Explain the code of a diagnostic, or list all
    Explain(command::explain::ExplainArgs),
    /// List the bundled playbooks, or print one
    Playbooks(command::playbooks::PlaybooksArgs),
    /// Begin a playbook of your own
    New(command::new::NewArgs),
    /// List the step types, or explain one
    Steps(command::steps::StepsArgs),
    /// Print or write the JSON Schemas of playbooks, plans, events and reports
    Schema(command::schema::SchemaArgs),
    /// List past runs, or replay one
    Runs(command::runs::RunsArgs),
    /// Find runs that died, see what each left, and undo it
    Recover(command::recover::RecoverArgs),
    /// Go on where a dead run stopped
    Resume(command::resume::ResumeArgs),
    /// Print completions for a shell
    Completions(command::completions::CompletionsArgs),
    /// Print the manual, or write it as man pages
    Man(command::man::ManArgs),
    /// Explain a command, or a topic such as `guide` or `language`
    Help(command::help::HelpArgs),
    /// The stand-in for the media sync daemon, which the quickstart tests
    #[command(name = "stand-in", hide = true, disable_help_flag = true)]
    StandIn,
}
