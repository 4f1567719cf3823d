//! `shakedown resume`.

use crate::{
    ask::Manner,
    failure::Failure,
    out::Out,
    playbook::{self, HostArgs},
    runner::{Dead, OutputArgs, Run, Stage},
    services, state,
};
use clap::Args;
use engine::{
    event::Purpose,
    journal::sqlite::RunState,
    plan::{Inputs, Plan, difference},
    report::escape,
};
use std::path::{Path, PathBuf};

#[derive(Args, Debug)]
#[command(after_help = "Example:
  shakedown resume 1V3W8K      the beginning or the end of an id will do

The run goes on by the plan in its journal. Steps that were under way are looked into first: one whose effect
has happened is not done again. A run whose undo has begun goes on with that. A playbook that was changed since
is refused.

Exit codes: as those of `run`.")]
pub(crate) struct ResumeArgs {
    /// The run, by its id or the beginning or end of it
    run: String,
    /// Go on after a refused precheck
    #[arg(long)]
    force: bool,
    /// Never ask; a refused precheck ends the run
    #[arg(long)]
    no_input: bool,
    #[command(flatten)]
    outputs: OutputArgs,
    /// The folder of the history [default: ~/.local/state/shakedown]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

pub(crate) fn run(args: &ResumeArgs, out: &Out) -> Result<u8, Failure> {
    let none =
        || Failure::invalid(format!("there is no run `{}`", args.run)).hint("list them: shakedown runs");
    let store = state::existing(&state::dir(args.state_dir.as_ref())?)?.ok_or_else(none)?;
    let row = store.find(state::given_id(&args.run)).map_err(Failure::unknown_run)?;
    if row.state() == RunState::Left {
        return Err(Failure::invalid(format!("run `{}` has ended, and left something", row.id))
            .hint(format!("undo that: shakedown recover {}", row.id)));
    }
    state::warn_of_elsewhere(&row, out);
    let (plan, _) = store.load(&row.id).map_err(Failure::unknown_run)?;
    // Files that the caller names count from where the caller is.
    let outputs = args.outputs.open(out)?;
    refuse_a_change(&plan, out)?;
    services::require_secrets(&plan, out)?;
    let stage = Stage::new()?;
    let taken = store.take_over(&plan.run.id).map_err(Failure::unknown_run)?;
    let scratch = store.scratch(&taken.plan.run.id);
    services::end_remains(&taken.plan, &scratch)?;
    let dir = PathBuf::from(&taken.plan.run.dir);
    let run = Run {
        registry: steps::builtin(),
        outside: services::outside(&dir),
        journal: taken.journal,
        scratch,
        stage,
        dead: Some(Dead { history: taken.history, lost: taken.lost, purpose: Purpose::Resume }),
        plan: taken.plan,
    };
    run.carry_out(Manner::choose(args.force, args.no_input), outputs, out)
}

/// The journaled plan is what is carried out; a playbook that says something else now is no longer that run's.
fn refuse_a_change(plan: &Plan, out: &Out) -> Result<(), Failure> {
    let registry = steps::builtin();
    let name = plan.source.strip_prefix("bundled:").unwrap_or(&plan.source);
    if name == plan.source && !Path::new(&plan.run.dir).join(name).exists() {
        out.warning(&format!("the playbook `{}` is gone: the run goes on by its journal", escape(name)));
        return Ok(());
    }
    let hosts = HostArgs { file: plan.inventory.clone() };
    let playbook = playbook::read(name, Path::new(&plan.run.dir), &registry, &hosts.read()?, out)?;
    let inputs = Inputs {
        params: plan.params.clone(),
        run: plan.run.clone(),
        max_parallel: Some(plan.max_parallel),
        default_parallel: plan.max_parallel,
        keep: None,
        outside: services::outside(Path::new(&plan.run.dir)),
        inventory: plan.inventory.clone(),
    };
    let now = playbook::plan(&playbook, &inputs, &registry, out)?;
    let lines = difference(plan, &now);
    if lines.is_empty() {
        return Ok(());
    }
    let lines = lines.iter().map(|line| format!("\n  {line}")).collect::<String>();
    Err(Failure::invalid(format!("the playbook `{name}` was changed since the run began:{lines}"))
        .hint(format!("put it back as it was, or undo the run: shakedown recover {}", plan.run.id)))
}
