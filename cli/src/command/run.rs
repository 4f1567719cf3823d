//! `shakedown run`.

use crate::{
    ask::Manner,
    failure::Failure,
    out::Out,
    params::ParamArgs,
    playbook::{self, HERE, HostArgs},
    runner::{OutputArgs, Run, Stage},
    saved, services, state,
};
use clap::{Args, ValueEnum};
use engine::{
    Registry,
    journal::sqlite::{RunState, Store},
    local::run_info,
    plan::{Inputs, Plan},
    playbook::Keep,
    report::{console::count, escape},
};
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown run quickstart
  shakedown run media-sync -p size=10MB -p config=/etc/media/unified_config.json
  shakedown run media-sync --no-input --report json=report.json --report markdown=report.md
  shakedown run ./my-check.yaml --events - | jq .event
  shakedown run --plan media.plan      what `shakedown plan media-sync --out media.plan` showed, or nothing

Progress goes to stderr. The closing summary goes to stdout, unless --events or --report writes there.

Exit codes:
  0  passed
  1  a precheck refused; nothing was changed
  2  the system under test failed; everything was undone
  3  the playbook, the params or the command line are invalid
  4  something could not be undone; each thing is named
  5  the engine or the environment failed; everything was undone
  129, 130, 143  interrupted by HUP, INT, TERM; everything was undone")]
pub(crate) struct RunArgs {
    /// A file, or the name of a bundled playbook
    #[arg(required_unless_present = "plan", conflicts_with = "plan")]
    playbook: Option<String>,
    /// Carry out exactly the plan that `plan --out` wrote; refused, with the difference, if anything has changed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["params", "file", "hosts", "keep", "max_parallel"])]
    plan: Option<PathBuf>,
    #[command(flatten)]
    params: ParamArgs,
    #[command(flatten)]
    hosts: HostArgs,
    /// Go on after a refused precheck
    #[arg(long)]
    force: bool,
    /// Never ask; a refused precheck ends the run
    #[arg(long)]
    no_input: bool,
    /// Override `keep` of all steps: how long effects last
    #[arg(long, value_name = "WHEN", value_enum)]
    keep: Option<KeepArg>,
    /// How many local steps may work at once [default: the playbook's, else the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_parallel: Option<u16>,
    #[command(flatten)]
    outputs: OutputArgs,
    /// The folder of the history [default: ~/.local/state/shakedown]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KeepArg {
    Never,
    OnFailure,
    Always,
}

impl From<KeepArg> for Keep {
    fn from(keep: KeepArg) -> Self {
        match keep {
            KeepArg::Never => Self::Never,
            KeepArg::OnFailure => Self::OnFailure,
            KeepArg::Always => Self::Always,
        }
    }
}

pub(crate) fn run(args: &RunArgs, out: &Out) -> Result<u8, Failure> {
    let registry = steps::builtin();
    let state = state::dir(args.state_dir.as_ref())?;
    let (plan, outputs) = match &args.plan {
        Some(file) => {
            // Files that the caller names count from where the caller is; the plan's from where it was made.
            let outputs = args.outputs.open(out)?;
            (saved::renewed(file, &registry, out)?, Some(outputs))
        }
        None => (new_plan(args, &registry, out)?, None),
    };

    // Everything that can fail early does so here: nothing has been done yet.
    services::require_secrets(&plan, out)?;
    let outputs = outputs.map_or_else(|| args.outputs.open(out), Ok)?;
    let store = Store::open(&state)?;
    if store.is_in_memory() {
        let shown = escape(&state.to_string_lossy()).into_owned();
        out.warning(&format!("the history `{shown}` is in memory: a restart of the machine loses it, and what a dead run left is not known then"));
    }
    tell_of_open_runs(&store, out)?;
    let stage = Stage::new()?;
    let journal = store.create(&plan)?;
    let scratch = store.scratch(&plan.run.id);
    let outside = services::outside(Path::new(&plan.run.dir));
    let run = Run { plan, registry, outside, journal, scratch, stage, dead: None };
    run.carry_out(Manner::choose(args.force, args.no_input), outputs, out)
}

fn new_plan(args: &RunArgs, registry: &Registry, out: &Out) -> Result<Plan, Failure> {
    let given = args.playbook.as_deref().unwrap_or_default();
    let playbook = playbook::read(given, Path::new(HERE), registry, &args.hosts.read()?, out)?;
    let dir = services::working_dir()?;
    let inputs = Inputs {
        params: args.params.values()?,
        run: run_info(&dir),
        max_parallel: args.max_parallel.map(usize::from),
        default_parallel: services::cores(),
        keep: args.keep.map(Keep::from),
        outside: services::outside(&dir),
        inventory: args.hosts.absolute(&dir),
    };
    playbook::plan(&playbook, &inputs, registry, out)
}

fn tell_of_open_runs(store: &Store, out: &Out) -> Result<(), Failure> {
    let open = store.open_runs()?;
    let count_of = |state: RunState| open.iter().filter(|row| row.state() == state).count();
    let (died, left) = (count_of(RunState::Died) + store.lost_runs()?.len(), count_of(RunState::Left));
    if died > 0 {
        out.warning(&format!("{} died and may have left things: shakedown recover", count(died, "run")));
    }
    if left > 0 {
        out.warning(&format!("{} ended and left something: shakedown recover", count(left, "run")));
    }
    Ok(())
}
