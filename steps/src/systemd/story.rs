//! What the other steps of a run have done to the units of one of them. Each step has seen the units as the steps before
//! it had left them; what has to be put back in the end is what the first of them has seen.

use super::{Intent, Params, Scope, effect::Record, facts::Facts};
use engine::step::{Context, Intended};
use std::collections::{BTreeMap, BTreeSet};

/// The acts of a run upon one service manager.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// Starts that the steps of the run and their undos have made, by their invocations.
    ours: BTreeSet<String>,
    /// Units whose job a step has begun, and nobody saw how it left them: it was killed meanwhile, or stopped.
    unseen: BTreeSet<String>,
    /// Whether the undo of this attempt has begun to start units, in a try before this one.
    pub(super) is_restoring: bool,
    /// Units as the first step of the run has found them, if it was one before this.
    first: BTreeMap<String, Record>,
    /// Units that another step has moved for good: nobody puts them back, or a written undo does.
    for_good: BTreeSet<String>,
}

impl Story {
    /// As the attempt at hand has to know it.
    pub(super) fn of(cx: &Context, scope: Scope) -> Self {
        let all = cx.chronicle.of("systemd");
        let is_it = |it: &Intended| it.step == cx.step && it.attempt == cx.attempt;
        let Some(at) = all.iter().position(is_it) else { return Self::default() };
        let mut story = Self::default();
        for (place, it) in all.iter().enumerate() {
            let (params, intent) =
                (serde_json::from_value(it.params.clone()), serde_json::from_value(it.intent.clone()));
            let (Ok(params), Ok(intent)): (Result<Params, _>, Result<Intent, _>) = (params, intent) else {
                continue;
            };
            if it.on == all[at].on && params.scope == scope {
                story.take_in(&intent, it.is_derived, place < at);
                story.is_restoring |= place == at && intent.restoring;
            }
        }
        story
    }

    #[cfg(test)]
    pub(super) fn with_starts<const N: usize>(starts: [&str; N]) -> Self {
        Self { ours: starts.map(str::to_owned).into(), ..Self::default() }
    }

    fn take_in(&mut self, intent: &Intent, is_derived: bool, is_earlier: bool) {
        let before = intent.before();
        let anew = before.iter().zip(&intent.left).filter(|(was, left)| left.is_a_start_after(was));
        self.ours.extend(anew.map(|(_, left)| left.invocation.clone()));
        self.ours.extend(intent.back.iter().cloned());
        if intent.left.is_empty() {
            let moved = before.iter().filter(|was| was.is_moved_for_sure());
            self.unseen.extend(moved.map(|was| was.unit.clone()));
        }
        for (place, was) in before.into_iter().enumerate() {
            let moved = match intent.left.get(place) {
                Some(left) => *left != was,
                None => was.is_moved_for_sure(),
            };
            if !is_derived && moved {
                self.for_good.insert(was.unit.clone());
            }
            if is_derived && is_earlier {
                self.first.entry(was.unit.clone()).or_insert(was);
            }
        }
    }

    /// Whether the start in which the unit is, or was last, is the run's own.
    pub(super) fn has_started(&self, now: &Facts) -> bool {
        self.ours.contains(now.text("InvocationID")) || self.unseen.contains(now.id())
    }

    /// The units as they were before the run, and those that are not this attempt's to judge left out: `None`.
    pub(super) fn before_all(&self, before: &[Record]) -> Vec<Option<Record>> {
        let of_all = |was: &Record| match self.first.get(&was.unit) {
            _ if self.for_good.contains(&was.unit) => None,
            Some(first) => Some(Record { role: was.role, ..first.clone() }),
            None => Some(was.clone()),
        };
        before.iter().map(of_all).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::reach::Role, Facts, Intent, Record, Story};

    fn record(active: &str, invocation: &str) -> Record {
        Record {
            unit: "a.service".into(),
            role: Role::Itself,
            active: active.into(),
            invocation: invocation.into(),
            restarts: 0,
            remains: false,
        }
    }

    fn intent(before: Record, left: Record) -> Intent {
        Intent { before: vec![before], left: vec![left], ..Intent::default() }
    }

    #[test]
    fn what_the_first_step_has_found_is_what_all_put_back() {
        let mut story = Story::default();
        story.take_in(&intent(record("inactive", ""), record("active", "1")), true, true);
        story.take_in(&intent(record("active", "1"), record("active", "2")), true, true);
        story.take_in(&Intent { back: vec!["3".into()], ..Intent::default() }, true, false);
        let has_started = |story: &Story, invocation: &str| {
            story.has_started(&Facts::parse(&format!("Id=a.service\nInvocationID={invocation}\n"))[0])
        };
        assert!(["1", "2", "3"].iter().all(|start| has_started(&story, start)) && !has_started(&story, "4"));
        let now = record("active", "2");
        assert_eq!(story.before_all(std::slice::from_ref(&now)), [Some(record("inactive", ""))]);
        // Nobody puts back what a cleanup has stopped.
        story.take_in(&Intent { before: vec![now.clone()], ..Intent::default() }, false, false);
        assert_eq!(story.before_all(&[now]), [None]);
        assert!(has_started(&story, "4"), "nobody saw how it left it");
    }
}
