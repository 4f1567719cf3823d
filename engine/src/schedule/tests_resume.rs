//! A history that is cut anywhere is resumed to the same end, and nothing happens twice that may not.

use super::{
    tests::{Fate, Simulation, node, world},
    *,
};
use crate::{
    event::{Outcome, Purpose, RunEvent},
    step::{Leftover, Undone},
};
use proptest::prelude::*;

/// How often the effect of a step happened: attempts that are known to have succeeded, and those that died with their
/// owner after the effect.
fn effects(history: &[RunEvent], id: usize) -> usize {
    let succeeded = |event: &&RunEvent| match event {
        RunEvent::StepFinished { step, outcome: Outcome::Done { .. }, .. }
        | RunEvent::StepSettled { step, outcome: Some(Outcome::Done { .. }), .. } => step.0 == id,
        _ => false,
    };
    history.iter().filter(succeeded).count()
}

fn touched(history: &[RunEvent], id: usize) -> bool {
    let begun = |event: &RunEvent| matches!(event, RunEvent::StepStarted { step, intent: Some(_), .. } if step.0 == id);
    history.iter().any(begun)
}

/// What another process makes of the history up to `cut`.
fn taken_over(
    nodes: &[Node],
    fates: &[Fate],
    history: &[RunEvent],
    purpose: Purpose,
    happened: &[bool],
) -> Simulation {
    let mut next = Simulation::new(nodes.to_vec(), fates.to_vec()).replay(history);
    next.decision = Decision::Continue;
    next.happened = happened.to_vec();
    next.emit(RunEvent::RunTakenOver { purpose, lost: 0 });
    next
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_run_that_is_resumed_from_any_prefix_ends_the_same((nodes, fates) in world(), picks in prop::collection::vec(any::<usize>(), 1..8),
                                                          happened in prop::collection::vec(any::<bool>(), 24..=24)) {
        let mut whole = Simulation::new(nodes.clone(), fates.clone());
        whole.decision = Decision::Continue;
        let whole = whole.run(&picks, None);
        for cut in 1..whole.history.len() {
            let end = taken_over(&nodes, &fates, &whole.history[..cut], Purpose::Resume, &happened).go_on(&picks, None);
            prop_assert_eq!(end.verdict(), whole.verdict(), "cut at {}: {:#?}", cut, end.history);
            for (id, node) in nodes.iter().enumerate().filter(|(_, node)| node.effect) {
                let made = effects(&end.history, id);
                prop_assert!(made <= 1, "cut at {}: the effect of {} happened {} times", cut, id, made);
                if whole.verdict() == Some(Verdict::Passed) {
                    prop_assert_eq!(made, effects(&whole.history, id), "cut at {}: step {}", cut, id);
                }
                if node.undone && touched(&end.history, id) {
                    prop_assert!(end.undo(id).1.is_some(), "cut at {}: {} was not undone", cut, id);
                }
            }
        }
    }

    #[test]
    fn a_run_that_dies_again_and_again_is_undone_from_wherever_it_is((nodes, fates) in world(), picks in prop::collection::vec(any::<usize>(), 1..8),
                                                                    cuts in prop::collection::vec(any::<usize>(), 1..5), purposes in prop::collection::vec(any::<bool>(), 5..=5),
                                                                    manual in any::<u32>()) {
        let mut nodes = nodes;
        for (id, node) in nodes.iter_mut().enumerate().filter(|(_, node)| node.effect) {
            if manual >> (id % 32) & 1 == 1 {
                node.recovery = Recovery::Manual;
            }
        }
        let mut history = Simulation::new(nodes.clone(), fates.clone()).run(&picks, None).history;
        for (cut, resume) in cuts.iter().zip(&purposes) {
            let cut = 1 + cut % (history.len() - 1).max(1);
            let purpose = if *resume { Purpose::Resume } else { Purpose::Undo };
            let happened = vec![true; nodes.len()];
            history = taken_over(&nodes, &fates, &history[..cut.min(history.len() - 1)], purpose, &happened).go_on(&picks, None).history;
        }
        let cut = cuts[0] % (history.len() - 1) + 1;
        let end = taken_over(&nodes, &fates, &history[..cut.min(history.len() - 1)], Purpose::Undo, &vec![true; nodes.len()]).go_on(&picks, None);
        prop_assert!(end.scheduler.is_over());
        for (id, node) in nodes.iter().enumerate() {
            if node.undone && touched(&end.history, id) {
                let (begun, ended) = end.undo(id);
                prop_assert!(begun.is_some() && ended.is_some(), "{} was not undone: {:#?}", id, end.history);
            }
            if node.recovery == Recovery::Manual {
                // Only a person can tell whether it happened: it never is tried again by itself.
                let lost = |event: &&RunEvent| matches!(event, RunEvent::StepStarted { step, attempt, .. } if step.0 == id && *attempt > node.retry.attempts);
                prop_assert_eq!(end.history.iter().filter(lost).count(), 0);
            }
        }
    }
}

#[test]
fn a_recovery_goes_straight_to_the_undo_and_cleans_up() {
    let nodes = vec![
        node(Phase::Prepare, &[]),
        node(Phase::Monitor, &[]),
        node(Phase::OnFailure, &[]),
        node(Phase::Cleanup, &[]),
    ];
    let whole = Simulation::new(nodes.clone(), vec![Fate::Done; 4]).run(&[0], None);
    let running = whole.started(1).expect("it ran") + 1;
    let end = taken_over(&nodes, &[Fate::Done; 4], &whole.history[..running], Purpose::Undo, &[true; 4])
        .go_on(&[0], None);
    assert_eq!(end.verdict(), Some(Verdict::Recovered));
    assert_eq!(end.started(2), None, "no diagnostics of a moment that is long gone");
    assert!(end.undo(0).0 > end.undo(1).1 && end.started(3) > end.undo(0).1, "{:#?}", end.history);
}

#[test]
fn what_was_left_is_tried_again_and_looked_for_again() {
    let left = || Leftovers { left: vec![Leftover::default()], ..Leftovers::default() };
    let nodes = vec![node(Phase::Prepare, &[]), node(Phase::Prepare, &[]), node(Phase::Cleanup, &[])];
    let fates = [Fate::Done, Fate::Done, Fate::Failed];
    let whole = Simulation::new(nodes.clone(), fates.to_vec()).run(&[0], None);
    // The undo of the first has left something, and the last look has seen that.
    let history: Vec<RunEvent> = whole
        .history
        .into_iter()
        .map(|event| match event {
            RunEvent::UndoFinished { step: StepId(0), took_ms, .. } => RunEvent::UndoFinished {
                step: StepId(0),
                result: Ok(Undone::Left(Leftover::default())),
                took_ms,
            },
            RunEvent::LeftoversChecked { .. } => RunEvent::LeftoversChecked { leftovers: left() },
            other => other,
        })
        .collect();
    let undos = |history: &[RunEvent], id: usize| {
        history.iter().filter(|event| matches!(event, RunEvent::UndoStarted { step } if step.0 == id)).count()
    };
    let checks = |history: &[RunEvent]| {
        history.iter().filter(|event| matches!(event, RunEvent::LeftoversChecked { .. })).count()
    };
    // Also if it died between the look and its end.
    for cut in [history.len() - 1, history.len()] {
        for purpose in [Purpose::Undo, Purpose::Resume] {
            let end =
                taken_over(&nodes, &[Fate::Done; 3], &history[..cut], purpose, &[true; 3]).go_on(&[0], None);
            assert_eq!(end.verdict(), Some(Verdict::Passed), "{:#?}", end.history);
            assert_eq!((undos(&end.history, 0), undos(&end.history, 1)), (2, 1), "{:#?}", end.history);
            assert_eq!(checks(&end.history), 2);
            let again = end
                .history
                .iter()
                .filter(|event| matches!(event, RunEvent::StepStarted { step: StepId(2), .. }));
            assert_eq!(again.count(), 2, "a cleanup that failed is tried again");
        }
    }
    // One that is over and clean stays so.
    let clean = Simulation::new(nodes.clone(), vec![Fate::Done; 3]).run(&[0], None);
    let mut over = Simulation::new(nodes, vec![Fate::Done; 3]).replay(&clean.history);
    let again = RunEvent::RunTakenOver { purpose: Purpose::Undo, lost: 0 };
    assert!(over.scheduler.apply(&again).is_err());
}

#[test]
fn a_verdict_that_was_known_before_the_death_stays() {
    let nodes = vec![node(Phase::Prepare, &[]), node(Phase::Monitor, &[]), node(Phase::Cleanup, &[])];
    let fates = [Fate::Done, Fate::Failed, Fate::Done];
    for (fates, verdict) in [(fates, Verdict::Failed), ([Fate::Done; 3], Verdict::Passed)] {
        let whole = Simulation::new(nodes.clone(), fates.to_vec()).run(&[0], None);
        let undoing = whole.undo(0).0.expect("undone") + 1;
        let end = taken_over(&nodes, &fates, &whole.history[..undoing], Purpose::Undo, &[true; 3])
            .go_on(&[0], None);
        assert_eq!(end.verdict(), Some(verdict));
        assert_eq!(
            end.undo(0).1.map(|at| at > undoing),
            Some(true),
            "an undo that was cut short is done again"
        );
    }
}

#[test]
fn an_attempt_that_died_with_its_owner_does_not_count_as_a_try() {
    let nodes = vec![node(Phase::Prepare, &[])];
    let whole = Simulation::new(nodes.clone(), vec![Fate::FailedOnce]).run(&[0], None);
    assert_eq!(whole.verdict(), Some(Verdict::Failed));
    let running = whole.started(0).expect("it ran") + 1;
    let mut next = taken_over(&nodes, &[Fate::Done], &whole.history[..running], Purpose::Resume, &[false]);
    next.happened = vec![false];
    let end = next.go_on(&[0], None);
    assert_eq!(end.verdict(), Some(Verdict::Passed));
    let attempts: Vec<u32> = end
        .history
        .iter()
        .filter_map(|event| match event {
            RunEvent::StepStarted { attempt, .. } => Some(*attempt),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [1, 2]);
}
