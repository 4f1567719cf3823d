//! A plan in numbers: what it holds, and how long it takes at worst.

use super::{Forecast, Plan, PlannedStep};
use crate::{event::Phase, quantity::Millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A plan in numbers. Each step is counted once: as a check, an effect, a wait, a cleanup or a diagnostic, or as skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// All steps.
    pub steps: usize,
    /// Steps that only read.
    pub checks: usize,
    /// Steps that change something, without those of `cleanup`.
    pub effects: usize,
    /// Effects that are undone at the end.
    pub undone: usize,
    /// Effects that cannot be undone.
    pub without_undo: usize,
    /// Steps that wait for something to come true.
    pub waits: usize,
    /// Steps that clear something away.
    pub cleanup: usize,
    /// Steps that run only after a failure.
    pub diagnostics: usize,
    /// Steps of any kind that are known to be skipped; they count as nothing else.
    pub skipped: usize,
    /// Steps that a probe foresees to fail.
    pub predicted_failures: usize,
    /// The named locks that are taken; waiting for one takes no part in `worst_case_ms`.
    pub locks: BTreeSet<String>,
    /// How long all phases take at worst, in milliseconds; the undo has a limit of its own.
    pub worst_case_ms: u64,
}

impl Plan {
    /// The plan in numbers.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            steps: self.steps.len(),
            predicted_failures: self.predicted_failures().count(),
            locks: self.steps.iter().filter_map(|step| step.lock.clone()).collect(),
            worst_case_ms: self.worst_case().0,
            ..Totals::default()
        };
        for step in &self.steps {
            if matches!(step.forecast, Forecast::Skipped(_)) {
                totals.skipped += 1;
                continue;
            }
            let count = match (step.phase, step.is_effect()) {
                (Phase::OnFailure, _) => &mut totals.diagnostics,
                (_, false) if step.description.waits => &mut totals.waits,
                (_, false) => &mut totals.checks,
                (Phase::Cleanup, true) => &mut totals.cleanup,
                (_, true) => &mut totals.effects,
            };
            *count += 1;
            if step.is_effect() && step.phase != Phase::Cleanup {
                *(if step.is_undone() { &mut totals.undone } else { &mut totals.without_undo }) += 1;
            }
        }
        totals
    }

    /// The time that the phases take at worst: every attempt of every step takes its whole timeout, and the longest
    /// delay comes before the next. Not in it: waiting for named locks, the diagnostics of a failed run, and the undo,
    /// which has a limit of its own for each step.
    ///
    /// Steps run side by side, but only `max_parallel` of those that work at once. Whatever the order in which they get
    /// their turns, while a step waits for its turn all places are taken: so a phase takes at most its longest
    /// chain of steps, and for the others their work shared among the places.
    #[must_use]
    pub fn worst_case(&self) -> Millis {
        let mut total = 0u64;
        for phase in Phase::ALL.into_iter().filter(|phase| *phase != Phase::OnFailure) {
            total = total.saturating_add(self.worst_case_of(phase));
        }
        Millis(total)
    }

    fn worst_case_of(&self, phase: Phase) -> u64 {
        let places = u64::try_from(self.max_parallel.max(1)).unwrap_or(u64::MAX);
        // As the scheduler counts: prechecks and waits have places enough.
        let works = |step: &PlannedStep| phase != Phase::Precheck && !step.description.waits;
        let members = || self.steps.iter().enumerate().filter(|(_, step)| step.phase == phase);
        let working = members().filter(|(_, step)| works(step));
        let (count, work) = working.fold((0u64, 0u64), |(count, work), (_, step)| {
            (count + 1, work.saturating_add(step.worst_case()))
        });
        let crowded = count > places;
        let mut ends = vec![None; self.steps.len()];
        let mut longest = 0;
        for (i, _) in members() {
            longest = longest.max(self.chain(i, &mut ends, &|step| {
                let own = step.worst_case();
                // Of a chain's own work the share that is in `work / places` already is not counted twice.
                if crowded && works(step) { own - own / places } else { own }
            }));
        }
        longest.saturating_add(if crowded { work.div_ceil(places) } else { 0 })
    }

    /// How long the longest chain of `needs` takes that ends with a step. `needs` may name later steps, so the chain is
    /// followed from the step back, without recursion: chains of thousands are legal.
    fn chain(&self, step: usize, ends: &mut [Option<u64>], takes: &dyn Fn(&PlannedStep) -> u64) -> u64 {
        let mut stack = vec![step];
        while let Some(&top) = stack.last() {
            let needs = &self.steps[top].needs;
            let open = needs.iter().map(|need| need.0).filter(|need| ends[*need].is_none());
            let before = stack.len();
            stack.extend(open.collect::<Vec<_>>());
            if stack.len() == before {
                let start = needs.iter().filter_map(|need| ends[need.0]).max().unwrap_or(0);
                ends[top] = Some(start.saturating_add(takes(&self.steps[top])));
                stack.pop();
            }
        }
        ends[step].unwrap_or(0)
    }
}

impl PlannedStep {
    /// The time it takes at worst, in milliseconds; none if it is skipped.
    fn worst_case(&self) -> u64 {
        if matches!(self.forecast, Forecast::Skipped(_)) {
            return 0;
        }
        let retry = &self.retry;
        let delays = (1..retry.attempts)
            .fold(0u64, |sum, attempt| sum.saturating_add(crate::schedule::longest_delay(retry, attempt)));
        self.timeout.0.saturating_mul(u64::from(retry.attempts.max(1))).saturating_add(delays)
    }
}
