//! A run on a terminal: a line for each step that runs, finished phases folded, failures unfolded.

mod line;

use crate::{out::Out, watch::View};
use engine::{
    event::{Outcome, Phase, Progress, Record, RunEvent, StepId},
    quantity::Millis,
    report::{
        PhaseSummary, StepStatus, StepSummary, Style, Summary, Tone,
        console::{count, signal_name, taken_over},
        end::{self, short_id},
        escape,
    },
};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use std::collections::{BTreeMap, HashMap};

/// The most lines for running steps; more are only counted.
const MOST_LINES: usize = 12;

/// Draws on stderr.
pub(crate) struct Live {
    screen: MultiProgress,
    out: Out,
    style: Style,
    ids: HashMap<String, StepId>,
    /// The line above the running steps.
    header: Option<(Header, ProgressBar)>,
    running: BTreeMap<StepId, ProgressBar>,
    /// When the undo began, in milliseconds since 1970.
    undo_began_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Phase(Phase),
    Undo,
}

impl Live {
    pub(crate) fn new(summary: &Summary, out: &Out) -> Self {
        let steps = summary.plan().steps.iter().enumerate();
        Self {
            screen: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(20)),
            out: *out,
            style: out.stderr_style(),
            ids: steps.map(|(i, step)| (step.id.clone(), StepId(i))).collect(),
            header: None,
            running: BTreeMap::new(),
            undo_began_ms: 0,
        }
    }

    /// A line that stays, above those that move.
    fn say(&self, line: &str) {
        // A terminal that has gone away needs no lines.
        let _gone = self.screen.println(line);
    }

    fn show(&mut self, header: Header, name: &str) {
        let bar = self.screen.add(ProgressBar::no_length());
        bar.set_style(line::header());
        bar.set_prefix(self.style.paint(Tone::Strong, name));
        self.header = Some((header, bar));
    }

    /// Counts on in the line above the running steps.
    fn count(&self, summary: &Summary) {
        let Some((header, bar)) = &self.header else { return };
        let text = match header {
            Header::Phase(phase) => {
                let Some(phase) = summary.phases.iter().find(|known| known.phase == *phase) else { return };
                let over = phase.steps.iter().filter(|step| is_over(step.status)).count();
                let hidden = phase.steps.iter().filter(|step| step.status == StepStatus::Running).count();
                let hidden = hidden.saturating_sub(self.running.len());
                let more = if hidden > 0 { format!(", {hidden} more running") } else { String::new() };
                format!("{over} of {}{more}", phase.steps.len())
            }
            Header::Undo => String::new(),
        };
        bar.set_message(text);
    }

    /// Folds what is shown into one line.
    fn fold(&mut self, summary: &Summary, now_ms: u64) {
        for (_, bar) in std::mem::take(&mut self.running) {
            bar.finish_and_clear();
        }
        let Some((header, bar)) = self.header.take() else { return };
        bar.finish_and_clear();
        self.screen.remove(&bar);
        match header {
            Header::Phase(phase) => {
                if let Some(phase) = summary.phases.iter().find(|known| known.phase == phase) {
                    self.say(&folded(phase, self.style));
                }
            }
            Header::Undo => {
                let mut now = summary.clone();
                now.count();
                let whole = now.undone.done == now.undone.all;
                let (mark, tone) = if whole { ("✓", Tone::Good) } else { ("✗", Tone::Bad) };
                let took = Millis(now_ms.saturating_sub(self.undo_began_ms));
                let text = format!("undo  {} of {}  {took}", now.undone.done, now.undone.all);
                self.say(&format!("{} {text}", self.style.paint(tone, mark)));
            }
        }
    }

    fn begin(&mut self, id: StepId, name: &str, sees: &str, limit: Option<Millis>) {
        if self.running.len() >= MOST_LINES {
            return;
        }
        let bar = self.screen.add(ProgressBar::no_length());
        bar.set_style(line::running(limit));
        bar.set_prefix(escape(name).into_owned());
        bar.set_message(line::fit(&escape(sees), name));
        bar.tick();
        self.running.insert(id, bar);
    }

    fn over(&mut self, id: StepId) {
        if let Some(bar) = self.running.remove(&id) {
            bar.finish_and_clear();
            self.screen.remove(&bar);
        }
    }

    fn finished(&mut self, summary: &Summary, id: StepId, attempt: u32, outcome: &Outcome) {
        self.over(id);
        let Some((phase, step)) = summary.step(id) else { return };
        match outcome {
            Outcome::Done { .. } if self.out.verbose => self.say(&done(step, self.style)),
            Outcome::Done { .. } => {}
            Outcome::Failed { error, .. } if step.status == StepStatus::Retrying => {
                let most = summary.plan().step(id).retry.attempts;
                let mark = self.style.paint(Tone::Warn, "↻");
                let message = escape(&error.message);
                self.say(&format!("  {mark} {}  attempt {attempt} of {most}: {message}", escape(&step.id)));
            }
            Outcome::Failed { .. } if step.status == StepStatus::Stopped => {}
            // The question, or the closing block, tells of all failed prechecks at once.
            Outcome::Failed { .. } | Outcome::Unknown { .. } if phase.phase == Phase::Precheck => {
                let mark = self.style.paint(Tone::Bad, "✗");
                self.say(&format!("  {mark} {}", escape(&step.id)));
            }
            Outcome::Failed { .. } | Outcome::Unknown { .. } => {
                let options = end::Options { style: self.style, ..end::Options::default() };
                let mut lines = Vec::new();
                end::failure(&mut lines, phase, step, &options);
                lines.iter().for_each(|line| self.say(line));
            }
        }
    }
}

impl View for Live {
    fn event(&mut self, summary: &Summary, record: &Record) {
        let at_ms = record.at_ms;
        match &record.event {
            RunEvent::RunStarted { .. } => {
                let name = self.style.paint(Tone::Strong, &escape(&summary.playbook));
                self.say(&format!(
                    "{name} on {} · run {} · {}",
                    escape(&summary.host),
                    short_id(&summary.run),
                    count(summary.counts.planned, "step")
                ));
            }
            RunEvent::PhaseStarted { phase } => {
                self.fold(summary, at_ms);
                self.show(Header::Phase(*phase), phase.name());
            }
            RunEvent::StepStarted { step, .. } => {
                let planned = summary.plan().step(*step);
                let limit = planned.description.waits.then_some(planned.timeout);
                self.begin(*step, &planned.id, &planned.description.title, limit);
            }
            RunEvent::StepFinished { step, attempt, outcome, .. } => {
                self.finished(summary, *step, *attempt, outcome);
            }
            RunEvent::StepSkipped { step, .. } => {
                if let (true, Some((_, step))) = (self.out.verbose, summary.step(*step)) {
                    let why = escape(step.why.as_deref().unwrap_or_default()).into_owned();
                    self.say(&self.style.paint(Tone::Faint, &format!("  . {}  {why}", escape(&step.id))));
                }
            }
            RunEvent::Interrupted { signal } => {
                let name = signal_name(*signal);
                let text = format!("{name}: stopping; what was done is undone. Again to stop faster");
                self.say(&self.style.paint(Tone::Warn, &text));
            }
            RunEvent::UndoStarted { step } => {
                if self.header.as_ref().is_none_or(|(header, _)| *header != Header::Undo) {
                    self.fold(summary, at_ms);
                    self.undo_began_ms = at_ms;
                    self.show(Header::Undo, "undo");
                }
                let planned = summary.plan().step(*step);
                let how = planned.undo_words().unwrap_or_default();
                self.begin(*step, &planned.id, &how, None);
            }
            RunEvent::UndoFinished { step, .. } => self.over(*step),
            RunEvent::LeftoversChecked { .. } | RunEvent::RunFinished { .. } => self.fold(summary, at_ms),
            RunEvent::RunTakenOver { purpose, .. } => {
                let name = self.style.paint(Tone::Strong, &escape(&summary.playbook));
                let what = taken_over(summary, *purpose);
                self.say(&format!("{name} · run {} · {what}", short_id(&summary.run)));
            }
            RunEvent::StepSettled { step, .. } => {
                if let Some((_, known)) = summary.step(*step) {
                    let what =
                        if known.status == StepStatus::Ok { "has happened" } else { "has not happened" };
                    self.say(&format!("  {}  looked into: its effect {what}", escape(&known.id)));
                }
            }
            RunEvent::RunAborted { signal } => {
                let text = format!("{}: given up; what was not undone yet is left", signal_name(*signal));
                self.say(&self.style.paint(Tone::Bad, &text));
            }
            RunEvent::PrecheckDecided { .. }
            | RunEvent::StepKept { .. }
            | RunEvent::Degraded { .. }
            | RunEvent::IntentAmended { .. }
            | RunEvent::UndoIntended { .. } => {}
        }
        self.count(summary);
    }

    fn progress(&mut self, _: &Summary, step: &str, progress: &Progress) {
        if let Some(bar) = self.ids.get(step).and_then(|id| self.running.get(id)) {
            bar.set_message(line::fit(&line::progress(progress), step));
        }
    }

    fn tick(&mut self) {
        self.running.values().for_each(ProgressBar::tick);
    }

    fn pause(&mut self) {
        let _gone = self.screen.clear();
        self.screen.set_draw_target(ProgressDrawTarget::hidden());
    }

    fn resume(&mut self) {
        self.screen.set_draw_target(ProgressDrawTarget::stderr_with_hz(20));
    }

    fn end(&mut self) {
        let _gone = self.screen.clear();
    }
}

fn is_over(status: StepStatus) -> bool {
    !matches!(status, StepStatus::Pending | StepStatus::Running | StepStatus::Retrying)
}

/// A phase that is over, in one line.
fn folded(phase: &PhaseSummary, style: Style) -> String {
    let of = |wanted: &dyn Fn(&StepSummary) -> bool| phase.steps.iter().filter(|step| wanted(step)).count();
    let bad = of(&|step| step.status.is_bad() && !step.continue_on_error);
    let tolerated = of(&|step| step.status.is_bad() && step.continue_on_error);
    let waiting = of(&|step| !is_over(step.status));
    let stopped = of(&|step| step.status == StepStatus::Stopped);
    let (mark, tone) = match (bad, waiting + stopped) {
        (0, 0) => ("✓", Tone::Good),
        (0, _) => ("-", Tone::Warn),
        _ => ("✗", Tone::Bad),
    };
    let mut parts = vec![count(phase.steps.len(), "step")];
    for (n, what) in [
        (bad, "failed"),
        (tolerated, "failed, tolerated"),
        (stopped, "stopped"),
        (of(&|step| step.status == StepStatus::Skipped), "skipped"),
        (waiting, "not run"),
    ] {
        if n > 0 {
            parts.push(format!("{n} {what}"));
        }
    }
    let name = phase.phase.name();
    format!("{} {name}  {}  {}", style.paint(tone, mark), parts.join(", "), Millis(phase.took_ms))
}

/// A step that succeeded, in one line.
fn done(step: &StepSummary, style: Style) -> String {
    let mut parts = vec![escape(&step.id).into_owned(), escape(&step.title).into_owned()];
    if !step.summary.is_empty() {
        parts.push(escape(&step.summary).into_owned());
    }
    parts.push(Millis(step.took_ms).to_string());
    format!("  {} {}", style.paint(Tone::Good, "✓"), parts.join("  "))
}
