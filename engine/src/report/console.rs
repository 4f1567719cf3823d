//! The lines that a person reads while a run goes on. Pure: gives lines, prints nothing. All data in them is
//! escaped.

use super::{Style, Tone, clock, escape, pad, summary::StepSummary, summary::Summary, width};
use crate::{
    event::{Decision, Outcome, Progress, Purpose, Record, RunEvent, StepId},
    quantity::{Bytes, Millis},
    step::Undone,
};
use jiff::tz::TimeZone;

/// The widest column of steps; longer ids stand out of it.
const STEP_COLUMN: usize = 32;
/// The widest word of the first column.
const WORD_COLUMN: usize = 7;

/// Makes lines for a file or a pipe: one an event, with a time stamp.
#[derive(Clone, Debug)]
pub struct Lines {
    style: Style,
    head: Head,
    column: usize,
}

/// What stands before each line.
#[derive(Clone, Debug)]
enum Head {
    /// The time, as a clock in this zone shows it.
    Time(TimeZone),
    /// Its priority, for a journal that notes the time by itself: `<3>` for what is bad, `<4>` for a warning, else `<6>`.
    Priority,
}

/// A line without its time: a word, the step or phase it is about, and text.
struct Line {
    word: &'static str,
    tone: Option<Tone>,
    about: String,
    text: Vec<String>,
}

impl Line {
    fn new(word: &'static str, about: impl Into<String>) -> Self {
        Self { word, tone: None, about: about.into(), text: Vec::new() }
    }

    fn tone(mut self, tone: Tone) -> Self {
        self.tone = Some(tone);
        self
    }

    fn text(mut self, text: &str) -> Self {
        if !text.is_empty() {
            self.text.push(escape(text).into_owned());
        }
        self
    }
}

impl Lines {
    /// Lines for the run of `summary`, with times of `zone`.
    #[must_use]
    pub fn new(summary: &Summary, style: Style, zone: TimeZone) -> Self {
        let widest = summary
            .steps()
            .map(|(phase, step)| width(&label(phase.phase.name(), &step.id)))
            .filter(|width| *width <= STEP_COLUMN);
        Self { style, head: Head::Time(zone), column: widest.max().unwrap_or(0) }
    }

    /// The same for the system's journal: with priorities in place of times.
    #[must_use]
    pub fn with_priorities(self) -> Self {
        Self { head: Head::Priority, ..self }
    }

    /// The line of an event that `summary` has already taken in.
    #[must_use]
    pub fn event(&self, summary: &Summary, record: &Record) -> String {
        let line = event_line(summary, &record.event);
        self.finish(record.at_ms, line)
    }

    /// The line of what a step sees at a moment, in milliseconds since 1970.
    #[must_use]
    pub fn sees(&self, at_ms: u64, summary: &Summary, step: StepId, progress: &Progress) -> String {
        let line = Line::new("sees", about(summary, step)).text(&progress_words(progress));
        self.finish(at_ms, line)
    }

    fn finish(&self, at_ms: u64, line: Line) -> String {
        let word = pad(line.word, WORD_COLUMN);
        let word = line.tone.map_or_else(|| word.clone(), |tone| self.style.paint(tone, &word));
        let head = match &self.head {
            Head::Time(zone) => format!("{} ", clock(at_ms, zone)),
            Head::Priority => match line.tone {
                Some(Tone::Bad) => "<3>".to_owned(),
                Some(Tone::Warn) => "<4>".to_owned(),
                _ => "<6>".to_owned(),
            },
        };
        let text = line.text.join("  ");
        let mut whole = format!("{head}{word} {}", pad(&line.about, self.column));
        if !text.is_empty() {
            whole.push_str("  ");
            whole.push_str(&text);
        }
        whole.trim_end().to_owned()
    }
}

/// What a step sees, in a few words, escaped or not: `1.5 MiB of 10 MiB`.
#[must_use]
pub fn progress_words(progress: &Progress) -> String {
    match progress {
        Progress::Sees(now) => now.clone(),
        Progress::Bytes { done, total } => format!("{} of {}", Bytes(*done), Bytes(*total)),
    }
}

fn label(phase: &str, step: &str) -> String {
    format!("{phase}/{}", escape(step))
}

fn about(summary: &Summary, step: StepId) -> String {
    summary.step(step).map_or_else(|| "?".into(), |(phase, step)| label(phase.phase.name(), &step.id))
}

fn event_line(summary: &Summary, event: &RunEvent) -> Line {
    let known = |step: &StepId| summary.step(*step).map(|(_, step)| step);
    let title = |step: &StepId| known(step).map(|step| step.title.clone()).unwrap_or_default();
    let line = |word, step: &StepId| Line::new(word, about(summary, *step));
    match event {
        RunEvent::RunStarted { .. } => Line::new("run", escape(&summary.playbook))
            .tone(Tone::Strong)
            .text(&summary.run)
            .text(&format!("plan {}", summary.plan().short_hash()))
            .text(&count(summary.counts.planned, "step")),
        RunEvent::PhaseStarted { phase } => Line::new("phase", phase.name()).tone(Tone::Strong),
        RunEvent::StepSkipped { step, .. } => line("skip", step)
            .tone(Tone::Faint)
            .text(known(step).and_then(|step| step.why.as_deref()).unwrap_or_default()),
        RunEvent::StepStarted { step, attempt, .. } => {
            let line = line("start", step).text(&title(step));
            if *attempt > 1 { line.text(&format!("attempt {attempt}")) } else { line }
        }
        RunEvent::IntentAmended { step, .. } | RunEvent::UndoIntended { step, .. } => {
            line("intent", step).tone(Tone::Faint)
        }
        RunEvent::StepFinished { step, attempt, outcome, took_ms } => {
            let took = Millis(*took_ms).to_string();
            match (outcome, known(step)) {
                (Outcome::Done { summary: words, .. }, _) => {
                    line("ok", step).tone(Tone::Good).text(&title(step)).text(words).text(&took)
                }
                (Outcome::Unknown { error }, _) => {
                    line("unknown", step).tone(Tone::Bad).text(&error.message).text(&took)
                }
                (Outcome::Failed { error, .. }, Some(known))
                    if known.status == super::StepStatus::Retrying =>
                {
                    let most = summary.plan().step(*step).retry.attempts;
                    let tried = format!("attempt {attempt} of {most}");
                    line("retry", step).tone(Tone::Warn).text(&tried).text(&error.message).text(&took)
                }
                (Outcome::Failed { .. }, Some(known)) if known.status == super::StepStatus::Stopped => {
                    let why = known.why.as_deref().unwrap_or_default();
                    line("stopped", step).tone(Tone::Faint).text(why).text(&took)
                }
                (Outcome::Failed { error, .. }, known) => {
                    let at = known.map(|step: &StepSummary| step.at.clone()).unwrap_or_default();
                    line("FAIL", step).tone(Tone::Bad).text(&error.message).text(&at).text(&took)
                }
            }
        }
        RunEvent::PrecheckDecided { decision } => Line::new("precheck", "").text(match decision {
            Decision::Continue => "failed, and the run goes on regardless",
            Decision::Quit => "failed: nothing is changed",
            Decision::Recheck => "failed, and is tried again",
        }),
        RunEvent::Interrupted { signal } => Line::new("signal", signal_name(*signal))
            .tone(Tone::Warn)
            .text("stopping; what was done is undone"),
        RunEvent::StepSettled { step, outcome, .. } => match outcome {
            Some(Outcome::Done { summary: words, .. }) => {
                line("ok", step).tone(Tone::Good).text("its effect has happened").text(words)
            }
            Some(Outcome::Failed { error, .. }) => line("FAIL", step).tone(Tone::Bad).text(&error.message),
            Some(Outcome::Unknown { error }) => line("unknown", step).tone(Tone::Bad).text(&error.message),
            None => line("settled", step).text("its effect has not happened"),
        },
        RunEvent::RunTakenOver { purpose, .. } => Line::new("run", escape(&summary.playbook))
            .tone(Tone::Strong)
            .text(&summary.run)
            .text(taken_over(summary, *purpose)),
        RunEvent::RunAborted { signal } => Line::new("signal", signal_name(*signal))
            .tone(Tone::Bad)
            .text("given up; what was not undone yet is left for: shakedown recover"),
        RunEvent::StepKept { step } => line("keep", step).tone(Tone::Warn).text(&title(step)),
        RunEvent::UndoStarted { step } => line("undo", step)
            .text(known(step).and_then(|step| step.undo.as_ref()?.how.as_deref()).unwrap_or_default()),
        RunEvent::UndoFinished { step, result, took_ms } => {
            let took = Millis(*took_ms).to_string();
            match result {
                Ok(Undone::Removed) => line("undone", step).tone(Tone::Good).text(&took),
                Ok(Undone::NothingToDo) => {
                    line("undone", step).tone(Tone::Good).text("nothing was there").text(&took)
                }
                Ok(Undone::Left(left)) => line("LEFT", step).tone(Tone::Bad).text(&left.what).text(&left.why),
                Ok(Undone::CannotTell(left)) => {
                    line("UNKNOWN", step).tone(Tone::Bad).text(&left.what).text(&left.why)
                }
                Err(error) => line("LEFT", step).tone(Tone::Bad).text(&error.message).text(&took),
            }
        }
        RunEvent::Degraded { degraded } => {
            Line::new("degraded", "").tone(Tone::Warn).text(&degraded.what).text(&degraded.means)
        }
        RunEvent::LeftoversChecked { leftovers } => {
            let tone = if leftovers.is_clean() { Tone::Good } else { Tone::Bad };
            Line::new("check", "leftovers").tone(tone).text(&format!(
                "created {}, removed {}, kept {}, {}",
                leftovers.created,
                leftovers.removed,
                leftovers.kept,
                super::end::remains(leftovers)
            ))
        }
        RunEvent::RunFinished { .. } => {
            let tone = if summary.exit_code == Some(0) { Tone::Good } else { Tone::Bad };
            Line::new("end", summary.ending.map(super::Ending::word).unwrap_or_default())
                .tone(tone)
                .text(&Millis(summary.took_ms).to_string())
        }
    }
}

/// The usual name of a signal that ends a run.
#[must_use]
pub fn signal_name(signal: i32) -> String {
    match signal {
        1 => "SIGHUP".into(),
        2 => "SIGINT".into(),
        15 => "SIGTERM".into(),
        other => format!("signal {other}"),
    }
}

/// What becomes of a run that another process takes over, in words.
#[must_use]
pub fn taken_over(summary: &Summary, purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Resume => "goes on where it died",
        Purpose::Undo if summary.leftovers.is_some() => "had left something; its undo is tried again",
        Purpose::Undo => "had died; what it did is undone",
    }
}

/// `1 step`, `2 steps`.
#[must_use]
pub fn count(n: usize, thing: &str) -> String {
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}
