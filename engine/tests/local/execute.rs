//! The local executor, with step types whose effects are lines in a log: order, undo, retries, timeouts.

use crate::support::{Stage, StepExt, step};
use engine::{
    error::ErrorClass,
    event::{Decision, Leftovers, Phase::*, RunEvent, Verdict},
    playbook::Keep,
};
use serde_json::json;

#[tokio::test]
async fn effects_happen_in_order_and_are_undone_in_reverse() {
    let mut stage = Stage::new(vec![
        step(Precheck, "check").with(json!({ "reads": true })),
        step(Prepare, "a"),
        step(Prepare, "b").needs(&["a"]),
        step(Prepare, "c").needs(&["b"]),
        step(Monitor, "m"),
        step(Cleanup, "z"),
    ]);
    let end = stage.run().await;
    assert_eq!((end.verdict, end.exit_code()), (Verdict::Passed, 0));
    assert_eq!(stage.log.lines(), ["check", "a", "b", "c", "m", "undo m", "undo c", "undo b", "undo a", "z"]);
    assert_eq!((end.leftovers.created, end.leftovers.removed, end.leftovers.left.len()), (4, 4, 0));
}

#[tokio::test]
async fn the_intent_is_in_the_journal_before_the_effect_begins() {
    let mut stage = Stage::new(vec![step(Prepare, "a").undo("by hand")]);
    stage.run().await;
    let events = stage.events();
    let intent = events.iter().find_map(|event| match event {
        RunEvent::StepStarted { intent, .. } => intent.as_ref(),
        _ => None,
    });
    let intent = intent.expect("an effect has an intent");
    assert_eq!(intent.intent, json!({ "token": "token-a" }));
    assert!(
        matches!(&intent.undo, engine::event::UndoMethod::Written(undo) if undo.params["name"] == "by hand")
    );
    assert_eq!(stage.log.lines(), ["a", "by hand"]);
}

#[tokio::test]
async fn a_failed_step_is_undone_too_and_what_follows_is_not_run() {
    let mut stage = Stage::new(vec![
        step(Prepare, "a"),
        step(Prepare, "b").needs(&["a"]).with(json!({ "fails": 1 })),
        step(Prepare, "c").needs(&["b"]),
        step(OnFailure, "look").with(json!({ "reads": true })),
        step(Cleanup, "z"),
    ]);
    let end = stage.run().await;
    assert_eq!((end.verdict, end.exit_code()), (Verdict::Failed, 2));
    assert_eq!(stage.log.lines(), ["a", "b", "look", "undo b", "undo a", "z"]);
}

#[tokio::test]
async fn an_error_of_the_environment_is_not_blamed_on_the_system_under_test() {
    let mut stage = Stage::new(vec![step(Prepare, "a").with(json!({ "fails": 1, "class": "no-space" }))]);
    assert_eq!(stage.run().await.exit_code(), 5);
}

#[tokio::test]
async fn steps_that_do_not_need_each_other_run_side_by_side() {
    // `first` holds on until `second` opens the gate: one after the other they would never end.
    let mut stage = Stage::new(vec![
        step(Prepare, "first").with(json!({ "gate": true })),
        step(Prepare, "second"),
        step(Prepare, "third").needs(&["first", "second"]),
    ]);
    let (gate, log) = (stage.gate.clone(), stage.log.clone());
    let opener = tokio::spawn(async move {
        while !log.lines().contains(&"second".to_owned()) {
            tokio::task::yield_now().await;
        }
        gate.add_permits(1);
    });
    assert_eq!(stage.run().await.verdict, Verdict::Passed);
    opener.await.unwrap();
    assert_eq!(stage.log.lines()[..3], ["second", "first", "third"]);
}

#[tokio::test(start_paused = true)]
async fn retries_wait_longer_each_time_and_every_attempt_is_undone() {
    let mut stage =
        Stage::new(vec![step(Prepare, "a").with(json!({ "fails": 3, "class": "busy" })).retry(4, "10s")]);
    let begun = tokio::time::Instant::now();
    let end = stage.run().await;
    assert_eq!(end.verdict, Verdict::Passed);
    assert_eq!(begun.elapsed().as_secs(), 10 + 20 + 40, "on the paused clock");
    assert_eq!(stage.log.lines(), ["a", "a", "a", "a", "undo a", "undo a", "undo a", "undo a"]);
}

#[tokio::test(start_paused = true)]
async fn steps_with_the_same_lock_do_not_run_at_once() {
    let locked = |id: &str, lock: &str| {
        let mut made = step(Prepare, id).with(json!({ "takes": "10s" }));
        made.lock = Some(engine::playbook::Template::Literal(json!(lock)));
        made
    };
    for (other, seconds) in [("执行 test/../lock", 20), ("another", 10)] {
        let mut stage = Stage::new(vec![locked("a", "执行 test/../lock"), locked("b", other)]);
        let begun = tokio::time::Instant::now();
        assert_eq!(stage.run().await.verdict, Verdict::Passed);
        assert_eq!(begun.elapsed().as_secs(), seconds, "on the paused clock");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_hangs_is_stopped_at_its_timeout() {
    let mut stage = Stage::new(vec![step(Monitor, "slow").with(json!({ "hangs": true })).timeout("12m")]);
    let begun = tokio::time::Instant::now();
    let end = stage.run().await;
    assert_eq!(end.exit_code(), 2);
    assert_eq!(begun.elapsed().as_secs(), 12 * 60, "on the paused clock");
    let error = stage.error("slow").unwrap();
    assert_eq!(
        (error.class, error.message.as_str()),
        (ErrorClass::Timeout, "`slow` did not finish within 12m")
    );
    assert_eq!(stage.log.lines(), ["slow", "stopped slow", "undo slow"]);
}

#[tokio::test]
async fn a_failure_stops_what_runs_beside_it() {
    let mut stage = Stage::new(vec![
        step(Monitor, "watch").with(json!({ "hangs": true })),
        step(Monitor, "bad").with(json!({ "fails": 1 })),
    ]);
    assert_eq!(stage.run().await.exit_code(), 2);
    assert!(stage.log.lines().contains(&"stopped watch".to_owned()));
}

#[tokio::test]
async fn a_false_expectation_shows_the_values_and_the_effect_is_undone() {
    let mut stage = Stage::new(vec![step(Prepare, "a").expect("out.name == \"b\"")]);
    assert_eq!(stage.run().await.exit_code(), 2);
    assert_eq!(stage.error("a").unwrap().message, "expected `out.name == \"b\"`, but out.name is \"a\"");
    assert_eq!(stage.log.lines(), ["a", "undo a"]);
}

#[tokio::test]
async fn outputs_reach_later_steps_and_a_skipped_step_satisfies_needs() {
    let mut stage = Stage::new(vec![
        step(Prepare, "a"),
        step(Prepare, "no").when("steps.a.out.name != \"a\""),
        step(Prepare, "yes").needs(&["no"]).when("steps.a.out.attempt == 1"),
        step(Monitor, "state").with(json!({ "reads": true })).expect("out.name == \"state\""),
    ]);
    assert_eq!(stage.run().await.exit_code(), 0);
    assert_eq!(stage.log.lines(), ["a", "yes", "state", "undo yes", "undo a"]);
}

#[tokio::test]
async fn a_foreach_runs_once_for_each_item_and_its_outputs_are_a_list() {
    let mut stage = Stage::new(vec![
        step(Prepare, "each").foreach(json!(["x", "y", "z"])),
        step(Monitor, "all")
            .with(json!({ "reads": true }))
            .when("steps.each.out.map(o, o.name) == [\"x\", \"y\", \"z\"]"),
    ]);
    assert_eq!(stage.run().await.exit_code(), 0);
    let mut lines = stage.log.lines();
    assert_eq!(lines[3], "all");
    lines.sort();
    assert_eq!(lines, ["all", "undo x", "undo y", "undo z", "x", "y", "z"]);
}

#[tokio::test]
async fn an_item_waits_only_for_the_same_item_of_the_foreach_it_reads() {
    let mut stage = Stage::new(vec![
        step(Prepare, "first").foreach(json!(["a", "b"])),
        step(Prepare, "second").foreach(json!(["a", "b"])).when("steps.first.out[each.key].name == item"),
    ]);
    let needs: Vec<_> = stage.plan.steps[2..].iter().map(|step| step.needs.clone()).collect();
    assert_eq!(needs, [[engine::event::StepId(0)], [engine::event::StepId(1)]]);
    assert_eq!(stage.run().await.exit_code(), 0);
    assert_eq!(stage.log.lines().len(), 8, "four effects, each undone");
}

#[tokio::test]
async fn all_prechecks_run_and_a_refused_one_changes_nothing() {
    let mut stage = Stage::new(vec![
        step(Precheck, "bad").with(json!({ "reads": true, "fails": 1 })),
        step(Precheck, "worse").with(json!({ "reads": true, "fails": 1 })),
        step(Prepare, "a"),
        step(Cleanup, "z"),
    ]);
    let end = stage.run().await;
    assert_eq!((end.verdict, end.exit_code()), (Verdict::Refused, 1));
    let mut lines = stage.log.lines();
    lines.sort();
    assert_eq!(lines, ["bad", "worse"]);
}

#[tokio::test]
async fn prechecks_can_be_run_again_and_be_overridden() {
    let mut stage = Stage::new(vec![
        step(Precheck, "bad").with(json!({ "reads": true, "fails": 1 })),
        step(Prepare, "a"),
    ]);
    stage.answers = vec![Decision::Recheck, Decision::Continue];
    assert_eq!(stage.run().await.exit_code(), 0);
    assert_eq!(stage.log.lines(), ["bad", "bad", "a", "undo a"]);
}

#[tokio::test]
async fn a_cleanup_step_that_refers_to_a_step_that_never_ran_is_skipped_and_the_others_go_on() {
    let mut stage = Stage::new(vec![
        step(Prepare, "bad").with(json!({ "fails": 1 })),
        step(Monitor, "late"),
        step(Cleanup, "refers").when("steps.late.out.name == \"late\""),
        step(Cleanup, "fails").with(json!({ "fails": 1 })),
        step(Cleanup, "after").needs(&["fails"]),
    ]);
    let end = stage.run().await;
    assert_eq!(stage.log.lines(), ["bad", "undo bad", "fails", "after"]);
    assert_eq!(end.exit_code(), 4, "what a failed cleanup step removes is still there");
    assert!(end.leftovers.left[0].what.contains("`fails`"));
}

#[tokio::test]
async fn keep_leaves_an_effect_when_it_says_so() {
    let steps = || {
        vec![
            step(Prepare, "never"),
            step(Prepare, "always").keep(Keep::Always),
            step(Prepare, "passed").keep(Keep::OnSuccess),
            step(Prepare, "failed").keep(Keep::OnFailure),
        ]
    };
    let undone = |stage: &Stage| {
        let mut lines: Vec<_> =
            stage.log.lines().into_iter().filter(|line| line.starts_with("undo")).collect();
        lines.sort();
        lines
    };
    let mut stage = Stage::new(steps());
    let end = stage.run().await;
    assert_eq!(undone(&stage), ["undo failed", "undo never"]);
    assert_eq!((end.exit_code(), end.leftovers.kept), (0, 2));
    let mut failing = steps();
    failing.push(step(Monitor, "bad").with(json!({ "reads": true, "fails": 1 })));
    let mut stage = Stage::new(failing);
    assert_eq!(stage.run().await.exit_code(), 2);
    assert_eq!(undone(&stage), ["undo never", "undo passed"]);
}

#[tokio::test]
async fn an_undo_that_fails_is_named_and_stops_no_other() {
    let mut stage = Stage::new(vec![
        step(Prepare, "a"),
        step(Prepare, "b").needs(&["a"]).with(json!({ "undo_fails": true })),
        step(Prepare, "c").needs(&["b"]),
    ]);
    let end = stage.run().await;
    assert_eq!(end.exit_code(), 4);
    assert_eq!(stage.log.lines(), ["a", "b", "c", "undo c", "undo b", "undo a"]);
    let left = &end.leftovers.left[0];
    assert!(left.what.contains("`b`") && left.why.contains("told to fail to undo"), "{left:?}");
}

#[tokio::test]
async fn the_history_of_a_run_can_be_applied_again() {
    let mut stage = Stage::new(vec![step(Prepare, "a"), step(Monitor, "bad").with(json!({ "fails": 1 }))]);
    stage.run().await;
    let mut scheduler = engine::schedule::Scheduler::for_plan(&stage.plan);
    for event in stage.events() {
        scheduler.apply(event).unwrap();
    }
    assert!(scheduler.is_over());
    assert_eq!(scheduler.verdict(), Verdict::Failed);
}

#[tokio::test]
async fn every_attempt_that_had_an_effect_is_undone_and_counted() {
    let mut stage = Stage::new(vec![
        step(Prepare, "a").expect("out.name == 'b'").retry(3, "1ms"),
        step(Prepare, "z").needs(&["a"]),
    ]);
    let end = stage.run().await;
    assert_eq!(end.exit_code(), 2);
    assert_eq!(stage.log.lines(), ["a", "a", "a", "undo a", "undo a", "undo a"]);
    assert_eq!((end.leftovers.created, end.leftovers.removed, end.leftovers.left.len()), (3, 3, 0));
}

#[tokio::test]
async fn what_cannot_be_seen_is_neither_left_nor_gone() {
    let mut stage = Stage::new(vec![step(Prepare, "a").with(json!({ "hidden": true })), step(Prepare, "b")]);
    let end = stage.run().await;
    let Leftovers { created, removed, left, unknown, .. } = &end.leftovers;
    assert_eq!((*created, *removed, left.len(), unknown.len()), (2, 1, 0, 1));
    assert_eq!(unknown[0].why, "it cannot be seen");
    assert_eq!((end.verdict, end.exit_code()), (Verdict::Passed, 4));
}

#[tokio::test]
async fn effects_that_nothing_takes_back_are_counted_apart() {
    let lasts = || json!({ "lasts": true });
    let mut stage = Stage::new(vec![
        step(Prepare, "a"),
        step(Prepare, "b").with(lasts()),
        step(Prepare, "kept").with(lasts()).keep(Keep::Always),
        step(Prepare, "c").with(lasts()).undo("by hand"),
        step(Cleanup, "z").with(lasts()),
    ]);
    let end = stage.run().await;
    let Leftovers { created, removed, without_undo, .. } = &end.leftovers;
    assert_eq!((*created, *removed, without_undo.as_slice()), (2, 2, ["`b`: b".to_owned()].as_slice()));
    assert_eq!(end.exit_code(), 0);
}

#[tokio::test]
async fn an_undo_is_handed_the_intent_that_was_amended_last() {
    let amends = json!({ "amends": true });
    let mut stage = Stage::new(vec![step(Prepare, "a").with(amends.clone())]);
    // The undo itself asserts that its token is the better one.
    assert_eq!(stage.run().await.exit_code(), 0);
    let amended = stage.events().iter().position(|event| matches!(event, RunEvent::IntentAmended { .. }));
    let finished = stage.events().iter().position(|event| matches!(event, RunEvent::StepFinished { .. }));
    assert!(amended.is_some() && amended < finished, "{:?}", stage.events());
}
