//! What a person and a machine read of a plan.

use crate::sample::*;
use engine::{
    error::{ErrorClass, StepError},
    event::Phase,
    expr::Expr,
    plan::{
        Forecast, Plan,
        text::{self, Options},
    },
    playbook::Keep,
    report::width,
    step::{Description, Probe},
};
use serde_json::Value;

fn lines(plan: &Plan, options: Options) -> String {
    text::lines(plan, &Options { probed: true, ..options }).join("\n")
}

#[test]
fn a_plan_says_what_is_what_will_be_and_what_nobody_knows() {
    insta::assert_snapshot!(lines(&media_sync(), Options::default()));
}

#[test]
fn particulars_are_shown_on_demand() {
    let mut plan = media_sync();
    plan.steps[DIGEST.0].expect = Some(Expr::compile("out.sha256 != \"\"").unwrap());
    plan.steps[RECORD.0].keep = Keep::OnFailure;
    plan.steps[MEDIA.0].continue_on_error = true;
    insta::assert_snapshot!(lines(&plan, Options { verbose: true, ..Options::default() }));
}

#[test]
fn an_effect_without_undo_and_a_skipped_step_are_marked() {
    let mut plan = media_sync();
    plan.steps[MEDIA.0].description = Description::needs_written_undo("run touch /data/x");
    plan.steps[DAEMON.0].when = Some(Expr::compile("params.unit == \"\"").unwrap());
    plan.steps[DAEMON.0].forecast =
        Forecast::Skipped("`params.unit == \"\"` is false: params.unit is \"x\"".into());
    let text = lines(&plan, Options::default());
    assert!(text.contains("  + media        run touch /data/x"), "{text}");
    assert!(text.contains("NO UNDO"), "{text}");
    assert!(text.contains("  . daemon"), "{text}");
    assert!(text.contains("`params.unit == \"\"` is false: params.unit is \"x\""), "{text}");
    assert!(text.contains("8 steps: 2 checks, 2 effects (1 undone, 1 without undo)"), "{text}");
    assert!(text.contains("1 only after a failure, 1 skipped"), "{text}");
}

#[test]
fn no_line_of_a_narrow_plan_is_wider_than_the_terminal() {
    for terminal in [80, 100, 140] {
        let mut plan = media_sync();
        // What would fail is told in full, whatever the width.
        plan.steps[QUIET.0].forecast = Forecast::Observed(Probe::would_pass("quiet"));
        let text = lines(&plan, Options { width: Some(terminal), ..Options::default() });
        let body = text.lines().skip(1).take(text.lines().count() - 2);
        for line in body.filter(|_| terminal > 100) {
            assert!(width(line) <= terminal, "{terminal}: {line}");
        }
        assert!(text.contains("媒体") || text.contains('…'));
    }
}

#[test]
fn what_is_wider_than_its_column_moves_no_other_column() {
    let mut plan = media_sync();
    let column = |text: &str, word: &str| {
        let line = text.lines().find(|line| line.contains(word)).expect("the line");
        width(&line[..line.find(word).expect("the word")])
    };
    let plain = lines(&plan, Options::default());
    plan.steps[MEDIA.0].description.title = "create /data/".to_owned() + &"长".repeat(100);
    plan.steps[RECORD.0].forecast =
        Forecast::Observed(Probe::would_pass("a state that is longer than its column is"));
    let text = lines(&plan, Options::default());
    for word in ["undo: remove it", "undo: delete that row", "now: active", "would pass"] {
        assert!(column(&text, word) >= column(&plain, word), "{word}: {text}");
    }
    assert_eq!(column(&text, "undo: remove it"), column(&text, "undo: delete that row"), "{text}");
    assert!(text.contains(&"长".repeat(100)), "nothing is cut where there is no terminal: {text}");
}

#[test]
fn a_lock_is_named_with_its_step_and_at_the_end() {
    let mut plan = media_sync();
    plan.steps[RECORD.0].lock = Some("media".into());
    let text = lines(&plan, Options::default());
    assert_eq!(text.matches("lock media").count(), 2, "{text}");
}

#[test]
fn a_plan_never_promises_success() {
    let text = lines(&media_sync(), Options { verbose: true, ..Options::default() });
    assert!(!text.to_lowercase().contains("success"));
}

#[test]
fn the_json_form_carries_its_version_and_reads_back() {
    let plan = media_sync();
    let document: Value = serde_json::from_str(&text::json(&plan)).unwrap();
    assert_eq!(document["schema_version"], 1);
    assert_eq!(serde_json::from_value::<Plan>(document["plan"].clone()).unwrap(), plan);
}

#[test]
fn the_exit_code_tells_refused_from_not_asked() {
    let mut plan = media_sync();
    assert_eq!(text::exit_code(&plan), 1);
    let unreachable = StepError::new(ErrorClass::Unreachable, "no route to host");
    plan.steps[QUIET.0].forecast = Forecast::Observed(Probe::would_fail("", unreachable));
    assert_eq!(text::exit_code(&plan), 5);
    plan.steps[QUIET.0].forecast = Forecast::Observed(Probe::would_pass(""));
    assert_eq!(text::exit_code(&plan), 0);
    let taken = StepError::new(ErrorClass::Exists, "it exists");
    plan.steps[RECORD.0].forecast = Forecast::Observed(Probe::would_fail("", taken));
    assert_eq!((plan.steps[RECORD.0].phase, text::exit_code(&plan)), (Phase::Prepare, 1));
    plan.steps[RECORD.0].continue_on_error = true;
    assert_eq!(text::exit_code(&plan), 0, "its failure would be tolerated");
}

#[test]
fn hostile_data_is_escaped() {
    let evil = "x\u{1b}[2J\u{202e}\n";
    let mut plan = media_sync();
    (plan.playbook, plan.source, plan.run.host) = (evil.into(), evil.into(), evil.into());
    for step in &mut plan.steps {
        step.id = format!("{}{evil}", step.id);
        step.description.title = evil.into();
    }
    let error = StepError::expectation(evil).hint(evil).detail(evil);
    plan.steps[DAEMON.0].forecast = Forecast::Observed(Probe::would_fail(evil, error));
    plan.steps[DIGEST.0].forecast = Forecast::Unknown(evil.into());
    let text = lines(&plan, Options { verbose: true, ..Options::default() });
    let unsafe_ones = text.chars().filter(|c| *c != '\n' && engine::report::is_unsafe(*c)).count();
    assert_eq!(unsafe_ones, 0, "{text}");
}
