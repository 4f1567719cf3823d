//! Carries out a run, new or taken over, with all who watch it and all that is written about it.

use crate::{
    ask::{Manner, Prompt},
    events::Events,
    failure::Failure,
    live::Live,
    out::Out,
    plain::Plain,
    report::Report,
    services::{self, Workers},
    signals::{self, UnderWay},
    stream::{self, STDERR},
    watch::{View, Watch},
};
use clap::Args;
use engine::{
    Registry,
    event::{Purpose, Record},
    expr::Outside,
    journal::sqlite::RunJournal,
    local::{DeadRun, Faults, Setup, Signals, execute},
    plan::Plan,
    report::{
        Ending, Summary,
        end::{self, Evidence, Options},
    },
};
use std::{path::PathBuf, sync::Arc};

/// What is written beside the terminal.
#[derive(Args, Debug, Default)]
pub(crate) struct OutputArgs {
    /// Write each event as a line of JSON; `-` is stdout
    #[arg(long, value_name = "FILE")]
    events: Option<String>,
    /// Write a report: json=FILE, markdown=FILE or TEMPLATE.hbs=FILE; `-` is stdout. Repeatable
    #[arg(long = "report", value_name = "FORMAT=FILE")]
    reports: Vec<String>,
}

/// The runtime of a run, which already listens to signals.
pub(crate) struct Stage {
    runtime: Workers,
    signals: Signals,
    under_way: UnderWay,
}

impl Stage {
    pub(crate) fn new() -> Result<Self, Failure> {
        let runtime = services::runtime()?;
        let (signals, under_way) = signals::of_a_run()?;
        Ok(Self { runtime, signals, under_way })
    }
}

/// A run that is about to begin, or one that died and is taken over.
pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) registry: Registry,
    pub(crate) outside: Arc<dyn Outside>,
    pub(crate) journal: RunJournal,
    pub(crate) scratch: PathBuf,
    /// Where it runs, and what asks it to stop: from before anything of it is written down.
    pub(crate) stage: Stage,
    /// What the owner before has left of it, if there was one.
    pub(crate) dead: Option<Dead>,
}

/// What the owner before journaled, and what the run is taken over for.
pub(crate) struct Dead {
    pub(crate) history: Vec<Record>,
    /// How many records have been lost.
    pub(crate) lost: u64,
    pub(crate) purpose: Purpose,
}

/// The files and streams that a run writes beside the terminal.
pub(crate) struct Outputs {
    events: Option<Events>,
    reports: Vec<Report>,
    /// Whether the closing block may have stdout.
    stdout_is_free: bool,
}

impl OutputArgs {
    /// Opens all of them, so that what cannot be written is known before anything is done.
    pub(crate) fn open(&self, out: &Out) -> Result<Outputs, Failure> {
        let reports = self.reports.iter().map(|spec| Report::open(spec)).collect::<Result<Vec<_>, _>>()?;
        let events = self.events.as_deref().map(|file| Events::open(file, out)).transpose()?;
        let on_stdout = usize::from(self.events.as_deref() == Some("-"))
            + reports.iter().filter(|report| report.is_stdout()).count();
        if on_stdout > 1 {
            return Err(Failure::invalid("only one of `--events` and `--report` can have stdout")
                .hint("give the others a file"));
        }
        Ok(Outputs { events, reports, stdout_is_free: on_stdout == 0 })
    }
}

/// What is to go wrong on purpose, as `SHAKEDOWN_FAULTS` says.
#[cfg(feature = "faults")]
fn faults() -> Result<Faults, Failure> {
    let text = std::env::var("SHAKEDOWN_FAULTS").unwrap_or_default();
    Faults::parse(&text).map_err(|error| Failure::invalid(format!("SHAKEDOWN_FAULTS: {error}")))
}

#[cfg(not(feature = "faults"))]
#[expect(clippy::unnecessary_wraps, reason = "with faults the text may be wrong")]
fn faults() -> Result<Faults, Failure> {
    Ok(Faults::none())
}

impl Run {
    /// Carries it out to its end, and gives the exit code.
    pub(crate) fn carry_out(mut self, manner: Manner, outputs: Outputs, out: &Out) -> Result<u8, Failure> {
        let faults = faults()?;
        let services = match self.dead {
            Some(_) => services::services_after_a_death(&self.plan, &self.registry, &self.scratch)?,
            None => services::services(&self.plan, &self.registry, &self.scratch)?,
        };
        let history = self.dead.as_ref().map(|dead| dead.history.as_slice()).unwrap_or_default();
        let summary = Summary::of(&self.plan, history);
        let watch = Watch::start(summary.clone(), self.views(&summary, outputs.events, out))
            .map_err(|error| services::no_threads(&error))?;
        let mut asker = Prompt { manner, screen: watch.screen(), out: *out };
        let mut reporters = vec![watch.reporter()];
        let Stage { runtime, signals, under_way } = self.stage;
        stream::set_over(false);
        let ended = runtime.block_on(execute(Setup {
            plan: &self.plan,
            services: Arc::clone(&services),
            outside: self.outside.clone(),
            journal: &mut self.journal,
            reporters: &mut reporters,
            asker: &mut asker,
            dead: self.dead.as_ref().map(|Dead { history, lost, purpose }| DeadRun {
                history,
                purpose: *purpose,
                lost: *lost,
            }),
            signals,
            faults,
        }));
        drop(under_way);
        stream::set_over(true);
        // What lives in it has ended with the run, unless that was given up; a folder that stays hurts nobody.
        if ended.as_ref().is_ok_and(|end| !end.aborted) {
            let _stays = std::fs::remove_dir_all(&self.scratch);
        }
        let (summary, shown) = watch.finish();
        let end = ended?;
        let undoes = self.dead.is_some_and(|dead| dead.purpose == Purpose::Undo);
        let code = match undoes && end.leftovers.is_clean() && !end.aborted {
            // A recovery is about what is left, not about what the run had found before it died.
            true => 0,
            false => end.exit_code(),
        };
        let shown = shown && !STDERR.is_given_up();
        let closing = Closing { reports: outputs.reports, stdout_is_free: outputs.stdout_is_free, shown };
        close(&summary, closing, code, out)
    }

    /// Who watches.
    fn views(&self, summary: &Summary, events: Option<Events>, out: &Out) -> Vec<Box<dyn View>> {
        let mut views: Vec<Box<dyn View>> = Vec::new();
        if !out.quiet {
            views.push(match out.stderr_can_move() {
                true => Box::new(Live::new(summary, out)),
                false => Box::new(Plain::new(summary, out)),
            });
        }
        views.extend(events.map(|events| Box::new(events) as Box<dyn View>));
        views
    }
}

/// What is written once the run is over.
struct Closing {
    reports: Vec<Report>,
    stdout_is_free: bool,
    /// Whether all that was told meanwhile was read.
    shown: bool,
}

/// Writes the reports and the closing block, and gives the exit code.
fn close(summary: &Summary, outputs: Closing, code: u8, out: &Out) -> Result<u8, Failure> {
    let Closing { reports, stdout_is_free, shown } = outputs;
    let mut code = code;
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
    let mut block = end::block(summary, &options);
    if !shown {
        block.push(format!("not all that was told was read; all of it: shakedown runs show {}", summary.run));
    }
    if !stdout_is_free {
        out.tell_lines(&block);
    } else if let Err(unread) = out.print_lines(&block) {
        // How the run ended says more than that nobody could be told.
        let failed = unread.print(out);
        code = if code == 0 { failed } else { code };
    }
    Ok(code)
}
