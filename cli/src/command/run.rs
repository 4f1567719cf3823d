//! `shakedown run`.

use crate::{
    ask::{Manner, Prompt},
    events::Events,
    failure::Failure,
    live::Live,
    out::Out,
    params::ParamArgs,
    plain::Plain,
    playbook,
    report::Report,
    services, state,
    watch::{View, Watch},
};
use clap::{Args, ValueEnum};
use engine::{
    Registry,
    expr::Outside,
    journal::sqlite::{RunJournal, Store},
    local::{RunEnd, Setup, execute, run_info},
    plan::{Inputs, Plan},
    playbook::Keep,
    report::{
        Ending, Summary,
        console::count,
        end::{self, Evidence, Options},
    },
};
use std::{path::PathBuf, sync::Arc};

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown run quickstart
  shakedown run media-sync -p size=10MB -p config=/etc/media/unified_config.json
  shakedown run media-sync --no-input --report json=report.json --report markdown=report.md
  shakedown run ./my-check.yaml --events - | jq .event

Progress goes to stderr. The closing summary goes to stdout, unless --events or --report writes there.

Exit codes: 0 passed, 1 a precheck refused and nothing was changed, 2 the system under test failed and
everything was undone, 3 invalid playbook, params or command line, 4 leftovers, each named, 5 the engine
or the environment failed and everything was undone, 129/130/143 interrupted and everything was undone.")]
pub(crate) struct RunArgs {
    /// A file, or the name of a bundled playbook
    playbook: String,
    #[command(flatten)]
    params: ParamArgs,
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
    /// Write each event as a line of JSON; `-` is stdout
    #[arg(long, value_name = "FILE")]
    events: Option<String>,
    /// Write a report: json=FILE, markdown=FILE or TEMPLATE.hbs=FILE; `-` is stdout. Repeatable
    #[arg(long = "report", value_name = "FORMAT=FILE")]
    reports: Vec<String>,
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
    let playbook = playbook::read(&args.playbook, &registry, out)?;
    let dir = services::working_dir()?;
    let inputs = Inputs {
        params: args.params.values()?,
        run: run_info(&dir),
        max_parallel: args.max_parallel.map(usize::from),
        default_parallel: services::cores(),
        keep: args.keep.map(Keep::from),
        outside: services::outside(&dir),
    };
    let plan = playbook::plan(&playbook, &inputs, &registry, out)?;

    // Everything that can fail early does so here: nothing has been done yet.
    let outputs = Outputs::open(args, out)?;
    let state = state::dir(args.state_dir.as_ref())?;
    let store = Store::open(&state)?;
    tell_of_dead_runs(&store, out)?;
    let journal = store.create(&plan)?;
    let scratch = store.scratch(&plan.run.id);
    let run = Run { plan, registry, outside: inputs.outside, journal, scratch };
    run.carry_out(args, outputs, out)
}

/// A run that is about to begin.
struct Run {
    plan: Plan,
    registry: Registry,
    outside: Arc<dyn Outside>,
    journal: RunJournal,
    scratch: PathBuf,
}

/// The files and streams that a run writes beside the terminal.
struct Outputs {
    events: Option<Events>,
    reports: Vec<Report>,
    /// Whether the closing block may have stdout.
    stdout_is_free: bool,
}

impl Outputs {
    fn open(args: &RunArgs, out: &Out) -> Result<Self, Failure> {
        let reports = args.reports.iter().map(|spec| Report::open(spec)).collect::<Result<Vec<_>, _>>()?;
        let events = args.events.as_deref().map(|file| Events::open(file, out)).transpose()?;
        let on_stdout = usize::from(args.events.as_deref() == Some("-"))
            + reports.iter().filter(|report| report.is_stdout()).count();
        if on_stdout > 1 {
            return Err(Failure::invalid("only one of `--events` and `--report` can have stdout")
                .hint("give the others a file"));
        }
        Ok(Self { events, reports, stdout_is_free: on_stdout == 0 })
    }
}

fn tell_of_dead_runs(store: &Store, out: &Out) -> Result<(), Failure> {
    let dead = store.runs()?.iter().filter(|row| row.finished_ms.is_none() && !row.alive).count();
    if dead > 0 {
        let (what, it) = (count(dead, "run"), if dead == 1 { "it" } else { "them" });
        out.warning(&format!("{what} died and may have left things; list {it}: shakedown runs"));
    }
    Ok(())
}

impl Run {
    fn carry_out(mut self, args: &RunArgs, outputs: Outputs, out: &Out) -> Result<u8, Failure> {
        let services = services::services(&self.plan, &self.registry, &self.scratch)?;
        let watch = Watch::start(&self.plan, self.views(outputs.events, out));
        let manner = Manner::choose(args.force, args.no_input);
        let mut asker = Prompt { manner, screen: watch.screen(), out: *out };
        let mut reporters = vec![watch.reporter()];
        let ended = services::runtime()?.block_on(execute(Setup {
            plan: &self.plan,
            services: Arc::clone(&services),
            outside: self.outside.clone(),
            journal: &mut self.journal,
            reporters: &mut reporters,
            asker: &mut asker,
        }));
        // What lives in it has ended with the run; a folder that cannot be removed hurts nobody.
        let _stays = std::fs::remove_dir_all(&self.scratch);
        let summary = watch
            .finish()
            .ok_or_else(|| Failure::environment("the display of the run failed; its history is complete"))?;
        close(&summary, outputs.reports, outputs.stdout_is_free, &ended?, out)
    }

    /// Who watches.
    fn views(&self, events: Option<Events>, out: &Out) -> Vec<Box<dyn View>> {
        let mut views: Vec<Box<dyn View>> = Vec::new();
        if !out.quiet {
            let summary = Summary::new(&self.plan);
            views.push(match out.stderr_can_move() {
                true => Box::new(Live::new(&summary, out)),
                false => Box::new(Plain::new(&summary, out)),
            });
        }
        views.extend(events.map(|events| Box::new(events) as Box<dyn View>));
        views
    }
}

/// Writes the reports and the closing block, and gives the exit code.
fn close(
    summary: &Summary,
    reports: Vec<Report>,
    stdout_is_free: bool,
    end: &RunEnd,
    out: &Out,
) -> Result<u8, Failure> {
    let mut code = end.exit_code();
    let mut written = Vec::new();
    for report in reports {
        let name = report.name.clone();
        match report.write(summary, out) {
            Ok(()) if name == "-" => {}
            Ok(()) => written.push(name),
            Err(failure) => {
                let failed = failure.print(out);
                code = if code == 0 { failed } else { code };
            }
        }
    }
    if out.quiet && code == 0 {
        return Ok(code);
    }
    let style = if stdout_is_free { out.stdout_style() } else { out.stderr_style() };
    let evidence = match (out.verbose, out.stderr_can_move()) {
        (true, _) => Evidence::All,
        // Shown when the step failed, a few lines above, unless it was a precheck or nothing was shown.
        (false, true) if !out.quiet && summary.ending != Some(Ending::Refused) => Evidence::None,
        (false, _) => Evidence::Some,
    };
    let options = Options { style, evidence, reports: &written };
    let block = end::block(summary, &options);
    if stdout_is_free {
        out.print_lines(&block)?;
    } else {
        out.tell_lines(&block);
    }
    Ok(code)
}
