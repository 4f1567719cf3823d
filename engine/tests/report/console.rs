//! What a person reads of a run: its lines, its closing block.

use crate::sample::*;
use engine::{
    error::{ErrorClass, StepError},
    event::{Decision, Leftovers, Outcome, Phase, Record, RunEvent, Verdict},
    plan::Plan,
    report::{
        StepStatus, Style, Summary, UndoStatus,
        console::Lines,
        end::{self, Evidence, Options},
        exit_code,
    },
    step::{Leftover, Undone},
};
use jiff::tz::TimeZone;
use serde_json::json;

fn lines(plan: &Plan, history: &[Record]) -> String {
    let mut summary = Summary::new(plan);
    let writer = Lines::new(&summary, Style::PLAIN, TimeZone::UTC);
    let mut text = String::new();
    for record in history {
        summary.apply(record);
        text.push_str(&writer.event(&summary, record));
        text.push('\n');
    }
    text
}

fn block(plan: &Plan, history: &[Record]) -> String {
    end::block(&Summary::of(plan, history), &Options::default()).join("\n")
}

fn refused() -> Vec<Record> {
    History::new()
        .phase(Phase::Precheck)
        .ok(DAEMON, "active", json!({}), 4)
        .start(QUIET, 1)
        .end(QUIET, 1, failed(StepError::expectation("`size(out.entries) == 0` is false")), 30)
        .then(RunEvent::PrecheckDecided { decision: Decision::Quit })
        .then(RunEvent::RunFinished { verdict: Verdict::Refused })
        .records()
}

/// A step's outcome is unknown, and its undo leaves something.
fn with_leftovers() -> Vec<Record> {
    let left = Leftover {
        what: "file `/data/temp/dji/media/20250123_101500_smoketest.txt`".into(),
        why: "it has changed since the run made it".into(),
        remove_with: "rm /data/temp/dji/media/20250123_101500_smoketest.txt".into(),
    };
    let lost = StepError::new(ErrorClass::Unreachable, "the connection broke").hint("ssh nas true");
    History::new()
        .phase(Phase::Precheck)
        .ok(DAEMON, "active", json!({}), 4)
        .ok(QUIET, "0 entries", json!({}), 4)
        .phase(Phase::Prepare)
        .ok_effect(MEDIA, "1 KiB", json!({}), 3)
        .ok(DIGEST, "9f86", json!({}), 3)
        .start_effect(RECORD, 1)
        .end(RECORD, 1, Outcome::Unknown { error: lost.unknown_outcome() }, 3)
        .then(RunEvent::UndoStarted { step: RECORD })
        .then(RunEvent::UndoFinished {
            step: RECORD,
            result: Err(StepError::new(ErrorClass::Busy, "the database is locked").hint("fuser the.db")),
            took_ms: 30_000,
        })
        .then(RunEvent::UndoStarted { step: MEDIA })
        .then(RunEvent::UndoFinished { step: MEDIA, result: Ok(Undone::Left(left.clone())), took_ms: 1 })
        .then(RunEvent::LeftoversChecked {
            leftovers: Leftovers {
                created: 2,
                removed: 0,
                kept: 0,
                left: vec![left],
                ..Leftovers::default()
            },
        })
        .then(RunEvent::RunFinished { verdict: Verdict::Errored })
        .records()
}

#[test]
fn each_event_is_one_plain_line() {
    let text = lines(&media_sync(), &failed_transfer());
    assert!(!text.contains('\u{1b}'));
    insta::assert_snapshot!(text);
}

#[test]
fn the_block_of_a_failed_run_tells_why_and_what_next() {
    insta::assert_snapshot!(block(&media_sync(), &failed_transfer()));
}

#[test]
fn the_block_of_a_refused_run_says_that_nothing_was_changed() {
    insta::assert_snapshot!(block(&media_sync(), &refused()));
}

#[test]
fn the_block_names_each_leftover_and_how_to_remove_it() {
    insta::assert_snapshot!(block(&media_sync(), &with_leftovers()));
}

#[test]
fn colours_are_added_to_words_and_change_none() {
    let summary = Summary::of(&media_sync(), &failed_transfer());
    let style = Style { color: true };
    let coloured = end::block(&summary, &Options { style, ..Options::default() }).join("\n");
    assert!(coloured.contains('\u{1b}'));
    let mut bare = String::new();
    let mut inside = false;
    for c in coloured.chars() {
        match c {
            '\u{1b}' => inside = true,
            'm' if inside => inside = false,
            c if !inside => bare.push(c),
            _ => {}
        }
    }
    assert_eq!(bare, block(&media_sync(), &failed_transfer()));
}

#[test]
fn steps_that_never_ran_say_why() {
    let summary = Summary::of(&media_sync(), &refused());
    let why = |step| summary.step(step).map(|(_, step)| (step.status, step.why.clone().unwrap_or_default()));
    let refused = "the precheck refused the run".to_owned();
    assert_eq!(why(MEDIA), Some((StepStatus::NotRun, refused.clone())));
    assert_eq!(why(COPY), Some((StepStatus::NotRun, refused)));
    assert_eq!(why(JOURNAL), Some((StepStatus::NotNeeded, "nothing had failed".into())));
    assert_eq!((summary.counts.planned, summary.counts.ran, summary.counts.not_run), (7, 2, 5));

    let blocked = History::new()
        .phase(Phase::Prepare)
        .start_effect(MEDIA, 1)
        .end(MEDIA, 1, failed(StepError::new(ErrorClass::NoSpace, "no space")), 1)
        .then(RunEvent::RunFinished { verdict: Verdict::Errored })
        .records();
    let mut plan = media_sync();
    plan.steps[MEDIA.0].retry.attempts = 1;
    let summary = Summary::of(&plan, &blocked);
    let why = |step| summary.step(step).and_then(|(_, step)| step.why.clone());
    assert_eq!(why(RECORD).as_deref(), Some("it needs `media`, which failed"));
    assert_eq!(why(TRANSFERRED).as_deref(), Some("the run stopped when `media` failed"));
}

#[test]
fn a_retry_that_never_came_is_a_failure() {
    let history = History::new()
        .phase(Phase::Prepare)
        .start_effect(MEDIA, 1)
        .end(MEDIA, 1, failed(StepError::new(ErrorClass::Busy, "busy")), 1)
        .records();
    let mut summary = Summary::of(&media_sync(), &history);
    assert_eq!(summary.step(MEDIA).map(|(_, step)| step.status), Some(StepStatus::Retrying));
    let end = RunEvent::RunFinished { verdict: Verdict::Interrupted { signal: 2 } };
    summary.apply(&Record { seq: 9, at_ms: START_MS + 9, event: end });
    assert_eq!(summary.step(MEDIA).map(|(_, step)| step.status), Some(StepStatus::Failed));
    assert_eq!(summary.exit_code, Some(130));
}

#[test]
fn a_recheck_forgets_the_prechecks_before_it() {
    let history = History::new()
        .phase(Phase::Precheck)
        .start(DAEMON, 1)
        .end(DAEMON, 1, failed(StepError::expectation("inactive")), 1)
        .then(RunEvent::PrecheckDecided { decision: Decision::Recheck })
        .ok(DAEMON, "active", json!({}), 1)
        .records();
    let summary = Summary::of(&media_sync(), &history);
    let (_, daemon) = summary.step(DAEMON).unwrap();
    assert_eq!((daemon.status, daemon.attempts.len(), &daemon.error), (StepStatus::Ok, 1, &None));
}

#[test]
fn an_undo_is_counted_only_where_something_was_begun() {
    let summary = Summary::of(&media_sync(), &failed_transfer());
    assert_eq!((summary.undone.done, summary.undone.all), (2, 2));
    assert_eq!((summary.cleanup.done, summary.cleanup.all), (1, 1));
    let undo = |step| summary.step(step).and_then(|(_, step)| step.undo.as_ref()).map(|undo| undo.status);
    assert_eq!(undo(MEDIA), Some(UndoStatus::Removed));
    assert_eq!(undo(COPY), Some(UndoStatus::None));
    assert_eq!(undo(DIGEST), None);
    let refused = Summary::of(&media_sync(), &refused());
    assert_eq!(refused.undone.all, 0);
}

#[test]
fn leftovers_decide_the_exit_code() {
    let none = Leftovers::default();
    let some = Leftovers {
        left: vec![Leftover { what: String::new(), why: String::new(), remove_with: String::new() }],
        ..Leftovers::default()
    };
    for (verdict, code) in [
        (Verdict::Passed, 0),
        (Verdict::Refused, 1),
        (Verdict::Failed, 2),
        (Verdict::Errored, 5),
        (Verdict::Interrupted { signal: 1 }, 129),
        (Verdict::Interrupted { signal: 2 }, 130),
        (Verdict::Interrupted { signal: 15 }, 143),
    ] {
        assert_eq!(exit_code(verdict, &none), code, "{verdict:?}");
        assert_eq!(exit_code(verdict, &some), 4, "{verdict:?}");
    }
}

#[test]
fn hostile_data_cannot_reach_the_terminal() {
    let evil = "x\u{1b}]0;owned\u{7}\u{202e}\u{9b}31m\r";
    let mut plan = media_sync();
    plan.playbook = evil.into();
    for step in &mut plan.steps {
        step.id = format!("{}{evil}", step.id);
        step.description.title = evil.into();
    }
    let error = StepError::expectation(format!("one{evil}\ntwo{evil}")).hint(evil).detail(evil);
    let left = Leftover { what: evil.into(), why: evil.into(), remove_with: evil.into() };
    let history = History::new()
        .phase(Phase::Prepare)
        .ok_effect(MEDIA, evil, json!({ "name": evil }), 1)
        .start_effect(RECORD, 1)
        .end(RECORD, 1, failed(error.clone()), 1)
        .then(RunEvent::UndoFinished { step: MEDIA, result: Ok(Undone::Left(left.clone())), took_ms: 1 })
        .then(RunEvent::UndoFinished { step: RECORD, result: Err(error), took_ms: 1 })
        .ok(JOURNAL, evil, json!({ "line": evil }), 1)
        .then(RunEvent::LeftoversChecked {
            leftovers: Leftovers { left: vec![left], ..Leftovers::default() },
        })
        .then(RunEvent::RunFinished { verdict: Verdict::Failed })
        .records();
    let summary = Summary::of(&plan, &history);
    let verbose = Options { evidence: Evidence::All, reports: &[evil.to_owned()], ..Options::default() };
    let all = format!("{}\n{}", lines(&plan, &history), end::block(&summary, &verbose).join("\n"));
    let unsafe_ones: Vec<char> =
        all.chars().filter(|c| *c != '\n' && engine::report::is_unsafe(*c)).collect();
    assert_eq!(unsafe_ones, Vec::<char>::new(), "{all}");
}

#[test]
fn a_step_that_was_stopped_is_no_failure() {
    let mut plan = media_sync();
    plan.steps[DIGEST.0].needs.clear();
    let history = History::new()
        .phase(Phase::Prepare)
        .start(DIGEST, 1)
        .start_effect(MEDIA, 1)
        .end(MEDIA, 1, failed(StepError::new(ErrorClass::NoSpace, "no space on `/data`")), 7)
        .end(DIGEST, 1, failed(StepError::new(ErrorClass::Cancelled, "`digest` was stopped")), 1)
        .then(RunEvent::RunFinished { verdict: Verdict::Errored })
        .records();
    plan.steps[MEDIA.0].retry.attempts = 1;
    let summary = Summary::of(&plan, &history);
    assert_eq!((summary.counts.failed, summary.counts.stopped), (1, 1));
    let text = block(&plan, &history);
    assert!(text.contains("  stopped: digest (the run stopped when `media` failed)"), "{text}");
    assert!(text.contains("1 failed, 1 stopped, 5 not run"), "{text}");
}
