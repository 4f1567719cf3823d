//! How long a plan takes at worst.

use crate::sample::{plan_of, step};
use engine::{
    event::{Phase, StepId},
    plan::{Forecast, Plan, PlannedStep},
    playbook::RetryPolicy,
    quantity::Millis,
    step::Description,
};

fn work(id: &str, phase: Phase, seconds: u64, needs: &[usize]) -> PlannedStep {
    let mut made = step(id, phase, "command", Description::reads("looks"), 1);
    made.timeout = Millis(seconds * 1_000);
    made.needs = needs.iter().map(|need| StepId(*need)).collect();
    made
}

fn seconds(steps: Vec<PlannedStep>, max_parallel: usize) -> u64 {
    let plan = Plan { max_parallel, ..plan_of(steps) };
    plan.worst_case().0 / 1_000
}

#[test]
fn phases_and_chains_add_up_and_what_runs_side_by_side_does_not() {
    let steps = vec![
        work("a", Phase::Prepare, 10, &[]),
        work("b", Phase::Prepare, 20, &[0]),
        work("c", Phase::Prepare, 25, &[]),
        work("d", Phase::Monitor, 7, &[]),
        work("e", Phase::OnFailure, 1_000, &[]),
        work("f", Phase::Cleanup, 3, &[]),
    ];
    assert_eq!(seconds(steps, 8), 30 + 7 + 3);
}

#[test]
fn a_need_may_stand_after_the_step() {
    assert_eq!(seconds(vec![work("a", Phase::Prepare, 1, &[1]), work("b", Phase::Prepare, 2, &[])], 8), 3);
}

#[test]
fn attempts_and_the_longest_delays_between_them_count() {
    let mut tried = work("a", Phase::Monitor, 10, &[]);
    tried.retry = RetryPolicy {
        attempts: 4,
        delay: Millis(1_000),
        backoff: 3.0,
        max_delay: Millis(5_000),
        jitter: 1.0,
        on: Vec::new(),
    };
    // Four attempts of 10 s, and delays of 1, 3 and 5 s, each doubled by its jitter.
    assert_eq!(seconds(vec![tried], 8), 40 + 2 * (1 + 3 + 5));
}

#[test]
fn more_steps_than_places_wait_for_their_turn() {
    let ten = |phase| (0..10).map(|i| work(&format!("s{i}"), phase, 10, &[])).collect::<Vec<_>>();
    assert_eq!(seconds(ten(Phase::Prepare), 10), 10);
    // The last of ten may begin when all others of two places are done: 90 s of work by two, and its own 10 s.
    assert_eq!(seconds(ten(Phase::Prepare), 2), 55);
    assert_eq!(seconds(ten(Phase::Prepare), 1), 100);
    assert_eq!(seconds(ten(Phase::Precheck), 2), 10, "prechecks have places enough");
}

#[test]
fn what_is_skipped_takes_no_time() {
    let mut skipped = work("a", Phase::Prepare, 50, &[]);
    skipped.forecast = Forecast::Skipped("`false` is false".into());
    assert_eq!(seconds(vec![skipped, work("b", Phase::Prepare, 2, &[0])], 8), 2);
}

#[test]
fn a_long_chain_is_no_deep_recursion() {
    let chain = (0..20_000).map(|i| {
        let needs: &[usize] = if i + 1 < 20_000 { &[i + 1] } else { &[] };
        work(&format!("s{i}"), Phase::Prepare, 1, needs)
    });
    assert_eq!(seconds(chain.collect(), 8), 20_000);
}
