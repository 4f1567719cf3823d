//! `shakedown recover`.

use super::runs::local;
use crate::{
    ask::{Manner, confirm},
    failure::Failure,
    out::Out,
    runner::{Dead, OutputArgs, Run, Stage},
    services, state,
};
use clap::Args;
use engine::{
    event::Purpose,
    journal::{
        JournalError,
        sqlite::{LostRun, RunRow, RunState, Store},
    },
    local::{Survey, survey},
    report::{Tone, console::count, escape},
};
use std::path::PathBuf;

/// The exit code when something is left.
const LEFTOVERS: u8 = 4;

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown recover             list the runs that died or left something; on a terminal, offer to undo that
  shakedown recover --yes       undo all of them
  shakedown recover 1V3W8K      undo this one; the beginning or the end of an id will do

A run that lives in another process is never touched, and one that was made elsewhere (another machine, another
view of the file systems, a copy of the journal) only if it is named. A run stays open until nothing of it is left:
a recovery that died or could not remove everything is tried again by the next.

Exit codes:
  0  nothing is left
  3  there is no such run
  4  something is left, each thing named
  5  the engine or the environment failed")]
pub(crate) struct RecoverArgs {
    /// The run, by its id or the beginning or end of it [default: all that died or left something]
    run: Option<String>,
    /// Undo without asking
    #[arg(short, long)]
    yes: bool,
    /// The folder of the history [default: ~/.local/state/shakedown]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

pub(crate) fn run(args: &RecoverArgs, out: &Out) -> Result<u8, Failure> {
    let dir = state::dir(args.state_dir.as_ref())?;
    if let Some(run) = &args.run {
        let Some(store) = state::existing(&dir)? else { return Err(no_such_run(run)) };
        let row = store.find(state::given_id(run)).map_err(Failure::unknown_run)?;
        state::warn_of_elsewhere(&row, out);
        return undo(&store, &row.id, out).map_err(|problem| match problem {
            Problem::Journal(error) => Failure::unknown_run(error),
            Problem::Other(failure) => failure,
        });
    }
    let store = match args.yes {
        true => state::existing(&dir)?,
        // To list them a look is enough.
        false => state::existing(&dir).or_else(|_| state::to_look(&dir))?,
    };
    let Some(store) = store else { return Ok(nothing(out)) };
    let open: Vec<RunRow> = store.open_runs()?.into_iter().filter(RunRow::is_open).collect();
    let lost = store.lost_runs()?;
    if open.is_empty() && lost.is_empty() {
        let _later = store.sweep();
        return Ok(nothing(out));
    }
    let (open, elsewhere): (Vec<_>, Vec<_>) = open.into_iter().partition(|row| row.elsewhere.is_none());
    for run in &lost {
        tell_of_lost(run, out);
    }
    for row in &elsewhere {
        tell_of_elsewhere(row, out);
    }
    let mut worst = if lost.is_empty() && elsewhere.is_empty() { 0 } else { LEFTOVERS };
    if open.is_empty() {
        return Ok(worst);
    }
    if !args.yes {
        list(&store, &open, out)?;
        if !confirm(&format!("undo {}?", if open.len() == 1 { "it" } else { "them" }), out) {
            out.hint("undo them: shakedown recover --yes");
            return Ok(LEFTOVERS);
        }
    }
    for row in &open {
        match undo(&store, &row.id, out) {
            Ok(code) => worst = worst.max(code),
            // One that cannot be recovered must not keep others from it.
            Err(Problem::Journal(error)) => {
                // Another recovery may have been faster.
                if store.find(&row.id).is_ok_and(|now| now.is_open()) {
                    worst = worst.max(Failure::from(error).print(out));
                }
            }
            Err(Problem::Other(failure)) => worst = worst.max(failure.print(out)),
        }
    }
    let _later = store.sweep();
    Ok(worst)
}

fn nothing(out: &Out) -> u8 {
    out.tell("nothing to recover: no run has died or left anything\n");
    0
}

/// A run of which only its lock is left.
fn tell_of_lost(run: &LostRun, out: &Out) {
    let how = match run.owner {
        Some(_) => "lives",
        None => "died",
    };
    out.error(&format!(
        "run `{}` {how}, and the journal has no word of it: it had {} when it was lost",
        escape(&run.id),
        count(usize::try_from(run.records).unwrap_or(usize::MAX), "record")
    ));
    out.hint(
        "put its journal back, or look by hand for what it left and forget it: shakedown runs forget RUN",
    );
}

/// A run that belongs to another place.
fn tell_of_elsewhere(row: &RunRow, out: &Out) {
    let why = row.elsewhere.unwrap_or_default();
    out.warning(&format!(
        "run `{}` of `{}` is open and is not touched: {why}",
        escape(&row.id),
        escape(&row.playbook)
    ));
    out.hint(&format!(
        "recover it where it was made; if it has to be here: shakedown recover {}",
        escape(&row.id)
    ));
}

fn no_such_run(run: &str) -> Failure {
    Failure::invalid(format!("there is no run `{run}`")).hint("list them: shakedown runs")
}

enum Problem {
    Journal(JournalError),
    Other(Failure),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

/// Takes a dead run over and undoes it.
fn undo(store: &Store, id: &str, out: &Out) -> Result<u8, Problem> {
    let stage = Stage::new()?;
    let taken = store.take_over(id).map_err(Problem::Journal)?;
    let scratch = store.scratch(&taken.plan.run.id);
    services::end_remains(&taken.plan, &scratch)?;
    let dir = PathBuf::from(&taken.plan.run.dir);
    let run = Run {
        registry: steps::builtin(),
        outside: services::outside(&dir),
        journal: taken.journal,
        scratch,
        stage,
        dead: Some(Dead { history: taken.history, lost: taken.lost, purpose: Purpose::Undo }),
        plan: taken.plan,
    };
    let outputs = OutputArgs::default().open(out)?;
    Ok(run.carry_out(Manner::Quit, outputs, out)?)
}

/// Tells of each dead run what it left.
fn list(store: &Store, dead: &[RunRow], out: &Out) -> Result<(), Failure> {
    let style = out.stdout_style();
    for row in dead {
        let cause = if row.rebooted { ", the machine was restarted since" } else { "" };
        let how = if row.state() == RunState::Left { "LEFT SOMETHING" } else { "DIED" };
        let head = format!(
            "{} {} · run {} · begun {} by process {}{cause}",
            style.paint(Tone::Bad, how),
            style.paint(Tone::Strong, &escape(&row.playbook)),
            row.id,
            local(row.started_ms),
            row.pid,
        );
        let mut lines = vec![head];
        match look(store, &row.id) {
            Ok(seen) => lines.extend(words(&seen)),
            Err(failure) => lines.push(format!("  {}", escape(&failure.message()))),
        }
        out.print_lines(&lines)?;
    }
    Ok(())
}

fn words(seen: &Survey) -> Vec<String> {
    let mut lines = Vec::new();
    for left in &seen.left {
        lines.push(format!("  {}: {}", escape(&left.what), escape(&left.why)));
    }
    let undos = count(seen.open, "undo");
    lines.push(match (seen.open, seen.left.len(), seen.cleanup_is_due) {
        (0, _, false) => "  nothing is left of it; only its end is not written down".to_owned(),
        (0, _, true) => "  its cleanup has not ended".to_owned(),
        (_, left, true) => format!("  {undos} to do, {left} seen to be there; its cleanup has not ended"),
        (_, left, false) => format!("  {undos} to do, {left} seen to be there"),
    });
    lines
}

fn look(store: &Store, id: &str) -> Result<Survey, Failure> {
    let (plan, history) = store.load(id)?;
    let dir = PathBuf::from(&plan.run.dir);
    let folder = tempfile::Builder::new()
        .prefix("shakedown-recover-")
        .tempdir()
        .map_err(|error| Failure::environment(format!("cannot make a folder to look from: {error}")))?;
    let services = services::services(&plan, &steps::builtin(), folder.path())?;
    let runtime = services::runtime()?;
    Ok(runtime.block_on(survey(&plan, &history, services, services::outside(&dir)))?)
}
