//! `shakedown plan`.

use crate::{
    failure::Failure,
    out::Out,
    params::ParamArgs,
    playbook::{self, HERE, HostArgs},
    saved::Target,
    services, wrap,
};
use clap::{Args, ValueEnum};
use engine::{
    local::run_info,
    plan::{
        Inputs, dot, mermaid,
        text::{self, Options},
    },
};
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown plan quickstart
  shakedown plan media-sync -p size=10MB
  shakedown plan media-sync --no-probe --format json | jq '.plan.steps[].id'
  shakedown plan media-sync --format dot | dot -Tsvg > plan.svg
  shakedown plan media-sync --out media.plan && shakedown run --plan media.plan

Marks: ? reads, + makes, - removes, ~ waits, . is skipped.

Exit codes:
  0  runnable
  1  a step would fail
  3  the playbook, the params or the command line are invalid
  5  a target could not be asked")]
pub(crate) struct PlanArgs {
    /// A file, or the name of a bundled playbook
    playbook: String,
    #[command(flatten)]
    params: ParamArgs,
    #[command(flatten)]
    hosts: HostArgs,
    /// The form of the plan; dot is for Graphviz, mermaid for Markdown pages
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Form::Text)]
    format: Form,
    /// Also keep the plan in a file, to carry out exactly that: shakedown run --plan FILE
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Ask the system nothing
    #[arg(long)]
    no_probe: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
    Dot,
    Mermaid,
}

impl PlanArgs {
    pub(crate) fn wants_json(&self) -> bool {
        self.format == Form::Json
    }
}

pub(crate) fn run(args: &PlanArgs, out: &Out) -> Result<u8, Failure> {
    let target = args.out.as_deref().map(Target::new).transpose()?;
    let registry = steps::builtin();
    let playbook = playbook::read(&args.playbook, Path::new(HERE), &registry, &args.hosts.read()?, out)?;
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
        services::look_ahead(&mut plan, &registry, &dir)?;
    }
    match args.format {
        Form::Json => out.print(&text::json(&plan))?,
        Form::Dot => out.print(&dot(&plan))?,
        Form::Mermaid => out.print(&mermaid(&plan))?,
        Form::Text => {
            let options = Options {
                style: out.stdout_style(),
                width: wrap::terminal_width(),
                verbose: out.verbose,
                probed: !args.no_probe,
            };
            out.print_lines(&text::lines(&plan, &options))?;
        }
    }
    if let Some(target) = target {
        target.write(&plan, !args.no_probe, out)?;
    }
    Ok(text::exit_code(&plan))
}
