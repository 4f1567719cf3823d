//! Faults on purpose: what a run makes of steps that fail after their effect, outcomes that are lost, undos that fail.

use crate::support::{Stage, StepExt, step};
use engine::{
    event::{Phase::*, RunEvent, Verdict},
    local::Faults,
};
use serde_json::json;

fn stage(faults: &str) -> Stage {
    let quiet = json!({ "counts": false });
    let mut stage = Stage::new(vec![
        step(Prepare, "a").with(quiet.clone()),
        step(Prepare, "b").needs(&["a"]).with(quiet.clone()),
        step(Cleanup, "z").with(quiet),
    ]);
    stage.faults = Faults::parse(faults).unwrap();
    stage
}

#[tokio::test]
async fn a_step_that_fails_after_its_effect_is_undone() {
    let mut stage = stage("fail:b");
    let end = stage.run().await;
    assert_eq!((end.verdict, end.exit_code()), (Verdict::Errored, 5));
    assert_eq!(stage.log.lines(), ["a", "b", "undo b", "undo a", "z"]);
}

#[tokio::test]
async fn a_lost_outcome_is_looked_into_and_the_effect_is_not_made_twice() {
    let mut stage = stage("lose:a");
    let end = stage.run().await;
    assert_eq!(end.verdict, Verdict::Passed, "{:#?}", stage.events());
    assert_eq!(stage.log.lines(), ["a", "b", "undo b", "undo a", "z"]);
    let settled = |event: &&&RunEvent| matches!(event, RunEvent::StepSettled { outcome: Some(_), .. });
    assert_eq!(stage.events().iter().filter(settled).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_fails_is_a_named_leftover_and_stops_no_other() {
    let mut stage = stage("undo:b");
    let end = stage.run().await;
    assert_eq!((end.verdict, end.exit_code()), (Verdict::Passed, 4));
    assert_eq!(stage.log.lines(), ["a", "b", "undo a", "z"]);
    assert!(end.leftovers.left[0].what.contains("`b`"), "{:?}", end.leftovers);
    assert_eq!((end.leftovers.created, end.leftovers.removed), (2, 1));
}

#[tokio::test]
async fn an_undo_that_runs_twice_is_as_good_as_once() {
    let mut stage = stage("repeat:a,repeat:b");
    let end = stage.run().await;
    assert_eq!((end.verdict, end.exit_code()), (Verdict::Passed, 0));
    assert_eq!(stage.log.lines(), ["a", "b", "undo b", "undo a", "z"]);
}
