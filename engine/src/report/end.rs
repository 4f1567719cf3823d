//! The block that closes a run: how it ended, what failed and why, what to do, what is left.

use super::{
    Style, Tone,
    console::count,
    escape, escape_lines,
    summary::{Ending, ErrorSummary, PhaseSummary, StepStatus, StepSummary, Summary, UndoStatus},
    width,
};
use crate::{
    event::{Leftovers, Phase},
    quantity::Millis,
};
use std::fmt::Write as _;

/// How much evidence is shown behind one error unless all is asked for.
const DETAILS: usize = 12;
/// How many entries of a log are shown of a diagnostic.
const ENTRIES: usize = 6;

/// How the block is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Its colours.
    pub style: Style,
    /// How much evidence is shown.
    pub evidence: Evidence,
    /// The reports that were written, by name.
    pub reports: &'a [String],
}

/// How much evidence is shown behind an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Evidence {
    /// None: it has been shown already.
    None,
    /// The last lines.
    #[default]
    Some,
    /// All, and the outputs of the diagnostics too.
    All,
}

/// The lines of the block.
#[must_use]
pub fn block(summary: &Summary, options: &Options<'_>) -> Vec<String> {
    let mut lines = vec![head(summary, options.style)];
    for (phase, step) in summary.failures() {
        failure(&mut lines, phase, step, options);
    }
    diagnostics(&mut lines, summary, options);
    undo_failures(&mut lines, summary, options);
    left(&mut lines, summary, options.style);
    not_run(&mut lines, summary, options.style);
    for degraded in &summary.degraded {
        let word = options.style.paint(Tone::Warn, "degraded:");
        lines.push(format!("  {word} {}; {}", escape(&degraded.what), escape(&degraded.means)));
    }
    lines.extend(foot(summary, options));
    lines
}

/// A run's id in few characters: `runs show` takes its end.
#[must_use]
pub fn short_id(id: &str) -> String {
    if id.is_ascii() && id.len() > 12 {
        return format!("{}…{}", &id[..4], &id[id.len() - 6..]);
    }
    escape(id).into_owned()
}

fn head(summary: &Summary, style: Style) -> String {
    let (word, tone) = match summary.ending {
        Some(ending @ Ending::Passed) => (ending.word(), Tone::Good),
        Some(ending @ Ending::Refused) => (ending.word(), Tone::Warn),
        Some(ending) => (ending.word(), Tone::Bad),
        None => ("UNFINISHED", Tone::Warn),
    };
    let counts = &summary.counts;
    let mut parts = Vec::new();
    for (n, what) in [
        (counts.ok, "ok"),
        (counts.failed, "failed"),
        (counts.unknown, "unknown"),
        (counts.stopped, "stopped"),
        (counts.skipped, "skipped"),
        (counts.not_run, "not run"),
    ] {
        if n > 0 {
            parts.push(format!("{n} {what}"));
        }
    }
    let steps = match parts.as_slice() {
        [] => count(counts.planned, "step"),
        parts => format!("{}: {}", count(counts.planned, "step"), parts.join(", ")),
    };
    format!(
        "{} {} in {} · run {} · {steps}",
        style.paint(tone, word),
        style.paint(Tone::Strong, &escape(&summary.playbook)),
        Millis(summary.took_ms),
        short_id(&summary.run),
    )
}

/// What went wrong in a step: the message and its place, evidence, advice.
pub fn failure(lines: &mut Vec<String>, phase: &PhaseSummary, step: &StepSummary, options: &Options<'_>) {
    let style = options.style;
    let Some(error) = &step.error else { return };
    let mut message = escape_lines(&error.message).into_iter();
    let tone = if step.continue_on_error { Tone::Warn } else { Tone::Bad };
    let mut first = format!("{}: {}", escape(&step.id), message.next().unwrap_or_default());
    let room = 72usize.saturating_sub(width(&first)).max(2);
    first = first.replacen(&*escape(&step.id), &style.paint(tone, &escape(&step.id)), 1);
    let place = style.paint(Tone::Faint, &escape(&step.at));
    lines.push(format!("  {first}{:room$}{place}", ""));
    lines.extend(message.map(|line| format!("    {line}")));
    let mut notes = Vec::new();
    if step.attempts.len() > 1 {
        notes.push(format!("after {} in {}", count(step.attempts.len(), "attempt"), Millis(step.took_ms)));
    }
    if step.status == StepStatus::Unknown {
        notes.push("it is not known whether its effect happened".into());
    }
    if step.continue_on_error {
        notes.push("tolerated: continue_on_error".into());
    } else if matches!(phase.phase, Phase::OnFailure | Phase::Cleanup) {
        notes.push(format!("in {}, which does not change the verdict", phase.phase));
    }
    if !notes.is_empty() {
        lines.push(format!("    {}", style.paint(Tone::Faint, &notes.join(" · "))));
    }
    evidence(lines, error, options);
    for hint in step.hint.iter().chain(error.hint.iter().filter(|hint| Some(*hint) != step.hint.as_ref())) {
        advice(lines, "  ", hint, style);
    }
}

fn evidence(lines: &mut Vec<String>, error: &ErrorSummary, options: &Options<'_>) {
    let shown = match options.evidence {
        Evidence::None => return,
        Evidence::Some => DETAILS,
        Evidence::All => usize::MAX,
    };
    let all: Vec<String> = error.details.iter().flat_map(|detail| escape_lines(detail)).collect();
    // The last lines of a log tell most.
    let skipped = all.len().saturating_sub(shown);
    if skipped > 0 {
        lines.push(format!("    … {} before", count(skipped, "line")));
    }
    lines.extend(all.into_iter().skip(skipped).map(|line| format!("    {line}")));
}

fn advice(lines: &mut Vec<String>, indent: &str, hint: &str, style: Style) {
    let mut words = escape_lines(hint).into_iter();
    let first = words.next().unwrap_or_default();
    lines.push(format!("{indent}{} {first}", style.paint(Tone::Change, "hint:")));
    lines.extend(words.map(|line| format!("{indent}      {line}")));
}

/// What the diagnostics of a failed run found.
fn diagnostics(lines: &mut Vec<String>, summary: &Summary, options: &Options<'_>) {
    let Some(phase) = summary.phases.iter().find(|phase| phase.phase == Phase::OnFailure) else { return };
    for step in phase.steps.iter().filter(|step| step.status == StepStatus::Ok) {
        let found = if step.summary.is_empty() { &step.title } else { &step.summary };
        let id = options.style.paint(Tone::Strong, &escape(&step.id));
        lines.push(format!("  {id}: {}", escape(found)));
        if options.evidence == Evidence::Some {
            let entries =
                step.out.as_ref().and_then(|out| out.get("entries")?.as_array()).into_iter().flatten();
            let said: Vec<&str> = entries.filter_map(|entry| entry.get("message")?.as_str()).collect();
            let last = &said[said.len().saturating_sub(ENTRIES)..];
            lines.extend(last.iter().flat_map(|line| escape_lines(line)).map(|line| format!("    {line}")));
        }
        if let (Evidence::All, Some(out)) = (options.evidence, &step.out) {
            let text = serde_json::to_string_pretty(out).unwrap_or_default();
            lines.extend(escape_lines(&text).into_iter().map(|line| format!("    {line}")));
        }
    }
}

fn undo_failures(lines: &mut Vec<String>, summary: &Summary, options: &Options<'_>) {
    for (_, step) in summary.steps() {
        let Some(undo) = step.undo.as_ref().filter(|undo| undo.status == UndoStatus::Failed) else {
            continue;
        };
        let Some(error) = &undo.error else { continue };
        let id = options.style.paint(Tone::Bad, &format!("undo of {}", escape(&step.id)));
        lines.push(format!("  {id}: {}", escape(&error.message)));
        evidence(lines, error, options);
        if let Some(hint) = &error.hint {
            advice(lines, "  ", hint, options.style);
        }
    }
}

/// `left 0`, or `left 0, 1 cannot be told`.
pub(super) fn remains(leftovers: &Leftovers) -> String {
    let left = format!("left {}", leftovers.left.len());
    match leftovers.unknown.len() {
        0 => left,
        unknown => format!("{left}, {unknown} cannot be told"),
    }
}

fn left(lines: &mut Vec<String>, summary: &Summary, style: Style) {
    let Some(leftovers) = &summary.leftovers else { return };
    for (found, word, removes) in [
        (&leftovers.left, "left:", "remove it with:"),
        (&leftovers.unknown, "cannot be told:", "if it is there, remove it with:"),
    ] {
        for left in found {
            let word = style.paint(Tone::Bad, word);
            lines.push(format!("  {word} {}: {}", escape(&left.what), escape(&left.why)));
            if !left.remove_with.is_empty() {
                let advice = if left.only_looks() { "look at it with:" } else { removes };
                lines.push(format!("    {advice} {}", escape(&left.remove_with)));
            }
        }
    }
    for what in &leftovers.without_undo {
        lines.push(format!("  {} {}", style.paint(Tone::Warn, "without undo:"), escape(what)));
    }
}

/// The steps that never ran, or not to their end, gathered by the reason.
fn not_run(lines: &mut Vec<String>, summary: &Summary, style: Style) {
    let stopped = summary.steps().filter(|(_, step)| step.status == StepStatus::Stopped);
    let mut stopped_for: Vec<(&str, Vec<&str>)> = Vec::new();
    for (_, step) in stopped {
        let why = step.why.as_deref().unwrap_or_default();
        match stopped_for.iter_mut().find(|(known, _)| *known == why) {
            Some((_, steps)) => steps.push(&step.id),
            None => stopped_for.push((why, vec![&step.id])),
        }
    }
    let stopped = stopped_for.into_iter().map(|(why, steps)| (StepStatus::Stopped, why, steps));
    let never = summary.not_ran.iter().map(|not_ran| {
        (not_ran.status, not_ran.why.as_str(), not_ran.steps.iter().map(String::as_str).collect())
    });
    for (status, why, steps) in stopped.chain(never) {
        let names: Vec<_> = steps.iter().take(8).map(|id| escape(id)).collect();
        let mut text = format!("{}: {}", status.word(), names.join(", "));
        if steps.len() > names.len() {
            let _infallible = write!(text, " and {} more", steps.len() - names.len());
        }
        lines.push(format!("  {}", style.paint(Tone::Faint, &format!("{text} ({})", escape(why)))));
    }
}

/// What was planned and what ran of it, with the count of each reason if that is less.
fn planned(summary: &Summary) -> String {
    let counts = &summary.counts;
    let mut text = format!("planned {}, ran {}", counts.planned, counts.ran);
    let mut why = Vec::new();
    for status in [StepStatus::Skipped, StepStatus::NotRun] {
        let of_status = summary.not_ran.iter().filter(|not_ran| not_ran.status == status);
        let n: usize = of_status.map(|not_ran| not_ran.steps.len()).sum();
        if n > 0 {
            why.push(format!("{n} {}", status.word()));
        }
    }
    if !why.is_empty() {
        let _infallible = write!(text, " ({})", why.join(", "));
    }
    text
}

fn foot(summary: &Summary, options: &Options<'_>) -> Option<String> {
    let mut parts = Vec::new();
    if summary.ending.is_some() {
        parts.push(planned(summary));
    }
    if let Some(leftovers) = &summary.leftovers {
        if summary.undone.all > 0 {
            parts.push(format!("undone {} of {}", summary.undone.done, summary.undone.all));
        }
        if summary.cleanup.all > 0 {
            parts.push(format!("cleanup {} of {}", summary.cleanup.done, summary.cleanup.all));
        }
        if leftovers.kept > 0 {
            parts.push(options.style.paint(Tone::Warn, &format!("kept {}", leftovers.kept)));
        }
        let left = remains(leftovers);
        parts.push(match leftovers.is_clean() {
            true => left,
            false => options.style.paint(Tone::Bad, &left),
        });
        if !leftovers.without_undo.is_empty() {
            let effects = format!("{} without undo", count(leftovers.without_undo.len(), "effect"));
            parts.push(options.style.paint(Tone::Warn, &effects));
        }
    } else if summary.ending == Some(Ending::Refused) {
        parts.push("nothing was changed".into());
    }
    if let Some(database) = summary.database.filter(|database| database.waits > 0) {
        parts.push(format!(
            "database asked {} times, {} for locks, the longest {}",
            database.operations,
            count(usize::try_from(database.waits).unwrap_or(usize::MAX), "wait"),
            Millis(database.longest_wait_ms)
        ));
    }
    parts.extend(options.reports.iter().map(|report| format!("report {}", escape(report))));
    (!parts.is_empty()).then(|| parts.join(" · "))
}
