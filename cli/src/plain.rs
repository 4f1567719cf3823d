//! A run without a terminal: one line an event, with a time stamp.

use crate::{out::Out, watch::View};
use engine::{
    event::{Progress, Record, RunEvent, StepId},
    report::{Summary, console::Lines},
};
use jiff::{Timestamp, tz::TimeZone};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How long a step must see something new before that is worth another line.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes lines to stderr.
pub(crate) struct Plain {
    lines: Lines,
    out: Out,
    ids: HashMap<String, StepId>,
    /// What each step saw last, and when that was told.
    seen: HashMap<StepId, (Progress, Instant)>,
}

impl Plain {
    pub(crate) fn new(summary: &Summary, out: &Out) -> Self {
        let lines = Lines::new(summary, out.stderr_style(), TimeZone::system());
        let lines = if out.journaled { lines.with_priorities() } else { lines };
        let steps = summary.plan().steps.iter().enumerate();
        let ids = steps.map(|(i, step)| (step.id.clone(), StepId(i))).collect();
        Self { lines, out: *out, ids, seen: HashMap::new() }
    }
}

impl View for Plain {
    fn event(&mut self, summary: &Summary, record: &Record) {
        // What a recovery has to know is nothing that a person waits for.
        if matches!(record.event, RunEvent::IntentAmended { .. } | RunEvent::UndoIntended { .. }) {
            return;
        }
        self.out.tell(&format!("{}\n", self.lines.event(summary, record)));
    }

    fn progress(&mut self, summary: &Summary, step: &str, progress: &Progress) {
        let (true, Some(id)) = (self.out.verbose, self.ids.get(step)) else { return };
        let known = self.seen.get(id);
        if known.is_some_and(|(last, told)| last == progress || told.elapsed() < PATIENCE) {
            return;
        }
        self.seen.insert(*id, (progress.clone(), Instant::now()));
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
        self.out.tell(&format!("{}\n", self.lines.sees(now, summary, *id, progress)));
    }
}
