//! `shakedown runs`.

use crate::{args::Format, failure::Failure, out::Out, state};
use clap::{Args, Subcommand};
use engine::{
    event::Verdict,
    journal::sqlite::{RunRow, RunState, Store},
    quantity::Millis,
    report::{
        Style, Summary, Tone,
        console::{Lines, count, signal_name},
        end::{self, Evidence, Options},
        escape, pad, rfc3339, width,
    },
};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;
use std::{path::PathBuf, time::Duration};

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  shakedown runs
  shakedown runs --format json | jq '.[0]'
  shakedown runs show 1V3W8K     the beginning or the end of an id will do")]
pub(crate) struct RunsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// The form of the list
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Format::Text)]
    format: Format,
    /// The folder of the history [default: ~/.local/state/shakedown]
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Replay a run: its events, then its summary
    #[command(after_help = "Example:
  shakedown runs show 1V3W8K -v")]
    Show {
        /// Its id, or the beginning or end of it
        run: String,
    },
    /// Forget runs that ended long ago; those that died or left something stay until they are recovered
    #[command(after_help = "Example:
  shakedown runs prune --older 30d")]
    Prune {
        /// How long ago they must have ended
        #[arg(long, value_name = "TIME", default_value = "30d", value_parser = age)]
        older: Duration,
    },
    /// Forget one run, with whatever it has left: nobody will tell of that any more
    #[command(after_help = "Example:
  shakedown runs forget 1V3W8K")]
    Forget {
        /// Its id, or the beginning or end of it
        run: String,
    },
}

fn age(text: &str) -> Result<Duration, String> {
    text.parse::<Millis>().map(Millis::duration).map_err(|error| error.to_string())
}

impl RunsArgs {
    pub(crate) fn wants_json(&self) -> bool {
        self.action.is_none() && self.format == Format::Json
    }
}

pub(crate) fn run(args: &RunsArgs, out: &Out) -> Result<u8, Failure> {
    let dir = state::dir(args.state_dir.as_ref())?;
    let store = match &args.action {
        Some(Action::Prune { .. } | Action::Forget { .. }) => state::existing(&dir)?,
        Some(Action::Show { .. }) | None => state::to_look(&dir)?,
    };
    match &args.action {
        Some(Action::Show { run }) => show(store.as_ref(), run, out)?,
        Some(Action::Prune { older }) => prune(store.as_ref(), *older, out)?,
        Some(Action::Forget { run }) => {
            let none =
                || Failure::invalid(format!("there is no run `{run}`")).hint("list them: shakedown runs");
            let forgotten =
                store.ok_or_else(none)?.forget(state::given_id(run)).map_err(Failure::unknown_run)?;
            out.print(&format!("run {forgotten} forgotten\n"))?;
        }
        None => {
            let rows = store.map(|store| store.runs()).transpose()?.unwrap_or_default();
            match args.format {
                Format::Json => out.print(&to_json(&rows))?,
                Format::Text if rows.is_empty() => {
                    out.tell("no runs yet; begin with: shakedown run quickstart\n")
                }
                Format::Text => out.print_lines(&table(&rows, out.stdout_style()))?,
            }
        }
    }
    Ok(0)
}

fn show(store: Option<&Store>, given: &str, out: &Out) -> Result<(), Failure> {
    let id = state::given_id(given);
    let none = || Failure::invalid(format!("there is no run `{given}`")).hint("list them: shakedown runs");
    let (plan, history) = store.ok_or_else(none)?.load(id).map_err(Failure::unknown_run)?;
    let style = out.stdout_style();
    let mut summary = Summary::new(&plan);
    let lines = Lines::new(&summary, style, TimeZone::system());
    for record in &history {
        summary.apply(record);
        if !out.quiet {
            out.print(&format!("{}\n", lines.event(&summary, record)))?;
        }
    }
    summary.count();
    let evidence = if out.verbose { Evidence::All } else { Evidence::Some };
    out.print_lines(&end::block(&summary, &Options { style, evidence, reports: &[] }))
}

fn prune(store: Option<&Store>, older: Duration, out: &Out) -> Result<(), Failure> {
    let pruned = store.map(|store| store.prune(older)).transpose()?.unwrap_or_default();
    out.print(&format!("{} forgotten\n", count(pruned.runs, "run")))?;
    if pruned.open > 0 {
        let words = format!(
            "{} as old died or left something, and stayed: shakedown recover",
            count(pruned.open, "run")
        );
        out.warning(&words);
    }
    Ok(())
}

fn ending(row: &RunRow) -> (String, Tone) {
    let (word, tone) = verdict(row);
    match row.state() {
        RunState::Left => (format!("{word}, {} left", row.left), Tone::Bad),
        RunState::Running if row.finished_ms.is_some() => ("recovered now".into(), Tone::Change),
        _ => (word, tone),
    }
}

fn verdict(row: &RunRow) -> (String, Tone) {
    match row.verdict {
        Some(Verdict::Passed) => ("passed".into(), Tone::Good),
        Some(Verdict::Refused) => ("refused".into(), Tone::Warn),
        Some(Verdict::Failed) => ("failed".into(), Tone::Bad),
        Some(Verdict::Errored) => ("errored".into(), Tone::Bad),
        Some(Verdict::Interrupted { signal }) => {
            (format!("interrupted by {}", signal_name(signal)), Tone::Warn)
        }
        Some(Verdict::Recovered) => ("died, recovered".into(), Tone::Warn),
        None if row.alive => ("running".into(), Tone::Change),
        None => ("died".into(), Tone::Bad),
    }
}

fn to_json(rows: &[RunRow]) -> String {
    let list: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "id": row.id,
                "playbook": row.playbook,
                "plan_hash": row.plan_hash,
                "started_at": rfc3339(row.started_ms),
                "finished_at": row.finished_ms.map(rfc3339),
                "verdict": row.verdict,
                "state": match row.state() {
                    RunState::Running => "running",
                    RunState::Died => "died",
                    RunState::Left => "left",
                    RunState::Over => "over",
                },
                "left": row.left,
                "alive": row.alive,
                "elsewhere": row.elsewhere,
            })
        })
        .collect();
    engine::report::json::pretty(&list)
}

fn table(rows: &[RunRow], style: Style) -> Vec<String> {
    let playbooks = rows.iter().map(|row| width(&escape(&row.playbook))).max().unwrap_or(0);
    let endings = rows.iter().map(|row| width(&ending(row).0)).max().unwrap_or(0);
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let (word, tone) = ending(row);
            let took = row.finished_ms.map(|end| Millis(end.saturating_sub(row.started_ms)).to_string());
            format!(
                "{}  {}  {}  {}  {}",
                escape(&row.id),
                local(row.started_ms),
                pad(&escape(&row.playbook), playbooks),
                style.paint(tone, &pad(&word, endings)),
                took.unwrap_or_default()
            )
            .trim_end()
            .to_owned()
        })
        .collect();
    for (state, words) in [
        (RunState::Died, "died; what was begun may still be there: shakedown recover"),
        (RunState::Left, "ended and left something: shakedown recover"),
    ] {
        let runs = rows.iter().filter(|row| row.state() == state).count();
        if runs > 0 {
            lines.push(style.paint(Tone::Warn, &format!("{} {words}", count(runs, "run"))));
        }
    }
    lines
}

/// A moment as the clock on the wall showed it.
pub(crate) fn local(ms: u64) -> String {
    let moment = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let text = |moment: Timestamp| {
        moment.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    };
    moment.map(text).unwrap_or_default()
}
