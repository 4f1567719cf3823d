//! The local executor takes a dead run over: from every record of its journal, forward or back.

use crate::support::{Stage, StepExt, step};
use engine::{
    event::{Outcome, Phase::*, Purpose, Record, RunEvent, Verdict},
    host::BoxFuture,
    journal::{Journal, JournalError},
    playbook::StepDef,
};
use serde_json::json;

fn steps() -> Vec<StepDef> {
    let quiet = json!({ "counts": false });
    vec![
        step(Precheck, "check").with(json!({ "reads": true })),
        step(Prepare, "a").with(quiet.clone()),
        step(Prepare, "b").needs(&["a"]).with(quiet.clone()),
        step(Monitor, "m").with(quiet.clone()).expect("out.name == 'm'"),
        step(Monitor, "look").needs(&["m"]).with(json!({ "reads": true })),
        step(Cleanup, "z").with(quiet),
    ]
}

/// What another process finds after a death: the first records, and in the world what had happened by then. An attempt
/// that was under way has had its effect or not.
fn died_after(whole: &Stage, records: usize, in_flight_happened: bool) -> Stage {
    let mut stage = Stage::new(steps());
    stage.journal.records = whole.journal.records[..records].to_vec();
    let mut in_flight = None;
    for record in &stage.journal.records {
        match &record.event {
            RunEvent::StepStarted { step, .. } => in_flight = Some(stage.plan.step(*step).id.clone()),
            RunEvent::StepFinished { outcome: Outcome::Done { .. }, .. } => {
                stage.log.push(in_flight.take().expect("it was started"));
            }
            RunEvent::UndoStarted { step } => in_flight = Some(format!("undo {}", stage.plan.step(*step).id)),
            RunEvent::UndoFinished { .. } => stage.log.push(in_flight.take().expect("it was started")),
            _ => {}
        }
    }
    if let Some(line) = in_flight.filter(|_| in_flight_happened) {
        stage.log.push(line);
    }
    stage
}

#[tokio::test]
async fn a_run_is_resumed_from_every_record_and_nothing_happens_twice() {
    let mut whole = Stage::new(steps());
    assert_eq!(whole.run().await.verdict, Verdict::Passed);
    let effects = ["a", "b", "m", "undo m", "undo b", "undo a", "z"];
    let mut cuts = 0;
    for records in 0..whole.journal.records.len() {
        for happened in [false, true] {
            let mut stage = died_after(&whole, records, happened);
            let end = stage.take_over(Purpose::Resume).await;
            assert_eq!(end.verdict, Verdict::Passed, "after {records}: {:#?}", stage.events());
            let lines = stage.log.lines();
            let made: Vec<&str> =
                lines.iter().map(String::as_str).filter(|line| effects.contains(line)).collect();
            // What clears away may do so twice; all else happens once and is undone once.
            let twice = made.ends_with(&["z", "z"]);
            assert_eq!(made[..made.len() - usize::from(twice)], effects, "after {records}, {happened}");
            assert!(!twice || happened);
            assert!(end.leftovers.left.is_empty());
            cuts += 1;
        }
    }
    assert!(cuts >= 50, "{cuts}");
}

#[tokio::test]
async fn a_run_is_undone_from_every_record_and_once_more_from_every_record_of_that() {
    let mut whole = Stage::new(steps());
    whole.run().await;
    for records in 0..whole.journal.records.len() {
        let mut first = died_after(&whole, records, true);
        let end = first.take_over(Purpose::Undo).await;
        assert_eq!(end.exit_code(), 0, "after {records}: {:#?}", first.events());
        for again in records + 1..first.journal.records.len() {
            let mut second = died_after(&first, again, true);
            second.take_over(Purpose::Undo).await;
            for name in ["a", "b", "m"] {
                assert!(
                    !second.log.holds(name),
                    "{name} is left: {records}, {again}: {:?}",
                    second.log.lines()
                );
            }
            let lines = second.log.lines();
            let undone = |name: &str| lines.iter().filter(|line| **line == format!("undo {name}")).count();
            assert!(["a", "b", "m"].iter().all(|name| undone(name) <= 1), "undone twice: {lines:?}");
        }
    }
}

#[tokio::test]
async fn a_step_that_only_a_person_can_judge_is_not_tried_again() {
    // The registry describes `mark` as one that can be asked; this plan says otherwise.
    let manual =
        |stage: &mut Stage| stage.plan.steps[1].description.recovery = engine::step::Recovery::Manual;
    let mut whole = Stage::new(steps());
    manual(&mut whole);
    whole.run().await;
    let started = whole.journal.records.iter().position(|record| {
        matches!(&record.event, RunEvent::StepStarted { step, .. } if whole.plan.step(*step).id == "a")
    });
    let mut stage = died_after(&whole, started.expect("it was") + 1, true);
    manual(&mut stage);
    let end = stage.take_over(Purpose::Resume).await;
    assert_eq!((end.verdict, end.exit_code()), (Verdict::Errored, 5));
    assert_eq!(stage.log.lines().iter().filter(|line| *line == "a").count(), 1);
    assert!(!stage.log.holds("a"), "it is undone nonetheless");
}

/// A journal that another process takes over after so many records.
struct TakenAway(u64);

impl Journal for TakenAway {
    fn append<'a>(&'a mut self, event: &'a RunEvent) -> BoxFuture<'a, Result<Record, JournalError>> {
        let left = self.0;
        self.0 = left.saturating_sub(1);
        Box::pin(async move {
            match left {
                0 => Err(JournalError { message: "another has it".into(), hint: None, not_owner: true }),
                _ => Ok(Record { seq: 100 - left, at_ms: 0, event: event.clone() }),
            }
        })
    }
}

#[tokio::test]
async fn who_has_lost_the_run_does_nothing_more_not_even_its_undo() {
    for records in 1..20 {
        let mut stage = Stage::new(steps());
        let lost = stage.run_with(&mut TakenAway(records)).await.expect_err("it is another's");
        assert!(lost.not_owner);
        let lines = stage.log.lines();
        // Each undo that was begun had its record before.
        let undone = lines.iter().filter(|line| line.starts_with("undo ")).count();
        assert!(undone == 0 || records > 14, "{records}: {lines:?}");
        assert!(!lines.contains(&"z".to_owned()) || records > 18, "{records}: {lines:?}");
    }
}
