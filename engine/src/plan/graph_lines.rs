//! What a drawing of a plan shows, in whatever language it is drawn.

use super::{Forecast, Plan, PlannedStep};
use crate::{
    event::{Phase, StepId},
    playbook::Template,
    report::{escape, shorten},
    step::Effect,
};
use std::collections::BTreeSet;

/// The widest line of a label, in columns.
const LABEL: usize = 60;

/// What a step is for whoever looks at a drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    /// It only reads.
    Reads,
    /// It waits.
    Waits,
    /// It changes something, and that is undone.
    Effect,
    /// It changes something for good.
    NoUndo,
    /// It clears something away.
    Cleanup,
    /// It will be skipped.
    Skipped,
}

impl Look {
    pub(super) const ALL: [Self; 6] =
        [Self::Reads, Self::Waits, Self::Effect, Self::NoUndo, Self::Cleanup, Self::Skipped];

    pub(super) fn of(step: &PlannedStep) -> Self {
        match (&step.forecast, &step.description.effect) {
            (Forecast::Skipped(_), _) => Self::Skipped,
            (_, Effect::Reads) if step.description.waits => Self::Waits,
            (_, Effect::Reads) => Self::Reads,
            _ if step.phase == Phase::Cleanup => Self::Cleanup,
            _ if step.is_undone() => Self::Effect,
            _ => Self::NoUndo,
        }
    }

    /// The mark of the text form.
    pub(super) fn mark(self) -> char {
        match self {
            Self::Reads => '?',
            Self::Waits => '~',
            Self::Effect | Self::NoUndo => '+',
            Self::Cleanup => '-',
            Self::Skipped => '.',
        }
    }
}

/// Why one step comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// `needs` says so.
    Needs,
    /// It reads the other's output.
    Reads,
}

/// The lines of a step's label: its mark and id, what it does, what there is to say of it.
pub(super) fn label(step: &PlannedStep) -> Vec<String> {
    let look = Look::of(step);
    let mut lines = vec![format!("{} {}", look.mark(), escape(&step.id))];
    let host = match &step.body.on {
        Some(Template::Literal(host)) => format!("{}: ", escape(host.as_str().unwrap_or_default())),
        Some(_) => "on a host known in the run: ".into(),
        None => String::new(),
    };
    lines.push(format!("{host}{}", escape(&step.description.title)));
    match look {
        Look::Waits => lines.push(format!("at most {}", step.timeout)),
        Look::NoUndo => lines.push("no undo".into()),
        Look::Skipped => lines.push("skipped".into()),
        Look::Reads | Look::Effect | Look::Cleanup => {}
    }
    if let Some(lock) = &step.lock {
        lines.push(format!("lock {}", escape(lock)));
    }
    lines.into_iter().map(|line| shorten(&line, LABEL)).collect()
}

/// The phases that have steps, with them.
pub(super) fn phases(plan: &Plan) -> Vec<(Phase, Vec<StepId>)> {
    let of = |phase| (0..plan.steps.len()).map(StepId).filter(move |id| plan.step(*id).phase == phase);
    Phase::ALL
        .map(|phase| (phase, of(phase).collect::<Vec<_>>()))
        .into_iter()
        .filter(|(_, of)| !of.is_empty())
        .collect()
}

/// All links, each from what comes first. Where a step both needs and reads another, the reading is shown.
pub(super) fn links(plan: &Plan) -> impl Iterator<Item = (StepId, StepId, Link)> {
    plan.steps.iter().enumerate().flat_map(|(i, step)| {
        let reads: BTreeSet<StepId> = step.reads.iter().copied().collect();
        let needs: Vec<StepId> = step.needs.iter().copied().filter(|need| !reads.contains(need)).collect();
        let needs = needs.into_iter().map(move |from| (from, StepId(i), Link::Needs));
        needs.chain(reads.into_iter().map(move |from| (from, StepId(i), Link::Reads)))
    })
}
