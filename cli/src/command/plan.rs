//! `shakedown plan`.

use crate::{
    args::Format,
    failure::Failure,
    out::Out,
    params::ParamArgs,
    playbook::{self, HostArgs},
    services, wrap,
};
use clap::Args;
use engine::{
    Registry,
    local::run_info,
    plan::{
        Inputs, Plan, probe_plan,
        text::{self, Options},
    },
};
use std::path::Path;

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown plan quickstart
  shakedown plan media-sync -p size=10MB
  shakedown plan media-sync --no-probe --format json | jq '.plan.steps[].id'

Marks: ? reads, + makes, - removes, ~ waits, . is skipped.

Exit codes:
  0  runnable
  1  a precheck would fail
  3  the playbook, the params or the command line are invalid
  5  a target could not be asked")]
pub(crate) struct PlanArgs {
    /// A file, or the name of a bundled playbook
    playbook: String,
    #[command(flatten)]
    params: ParamArgs,
    #[command(flatten)]
    hosts: HostArgs,
    /// The form of the plan
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Format::Text)]
    format: Format,
    /// Ask the system nothing
    #[arg(long)]
    no_probe: bool,
}

pub(crate) fn run(args: &PlanArgs, out: &Out) -> Result<u8, Failure> {
    let registry = steps::builtin();
    let playbook = playbook::read(&args.playbook, &registry, &args.hosts.read(out)?, out)?;
    let dir = services::working_dir()?;
    let inputs = Inputs {
        params: args.params.values()?,
        run: run_info(&dir),
        max_parallel: None,
        default_parallel: services::cores(),
        keep: None,
        outside: services::outside(&dir),
        inventory: args.hosts.absolute(&dir),
    };
    let mut plan = playbook::plan(&playbook, &inputs, &registry, out)?;
    if !args.no_probe {
        probe(&mut plan, &registry, &dir)?;
    }
    match args.format {
        Format::Json => out.print(&text::json(&plan))?,
        Format::Text => {
            let options = Options {
                style: out.stdout_style(),
                width: wrap::terminal_width(),
                verbose: out.verbose,
                probed: !args.no_probe,
            };
            out.print_lines(&text::lines(&plan, &options))?;
        }
    }
    Ok(text::exit_code(&plan))
}

fn probe(plan: &mut Plan, registry: &Registry, dir: &Path) -> Result<(), Failure> {
    // A plan leaves nothing behind: its folder goes when this is over.
    let scratch = tempfile::Builder::new()
        .prefix("shakedown-plan-")
        .tempdir()
        .map_err(|error| Failure::environment(format!("cannot make a folder for the probes: {error}")))?;
    let services = services::services(plan, registry, scratch.path())?;
    services::runtime()?.block_on(async {
        probe_plan(plan, services.clone(), services::outside(dir)).await;
        services.close().await;
    });
    Ok(())
}
