//! The command line as a user meets it: exit codes, pure stdout, early errors, hostile data.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tests::{folders::said, lab::binaries};

fn shakedown(dir: &Path, argv: &[&str]) -> Output {
    let mut command = Command::new(binaries::shakedown());
    command.args(argv).current_dir(dir).stdin(Stdio::null()).env("SHAKEDOWN_STATE_DIR", dir.join("state"));
    command.output().expect("it starts")
}

/// A folder with `test.yaml` in it.
fn folder(playbook: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("test.yaml"), playbook).expect("a playbook");
    dir
}

#[test]
fn each_way_to_end_has_its_exit_code() {
    let cases = [
        (0, "precheck: { a: { disk: { path: / } } }"),
        (1, "precheck: { a: { disk: { path: /, min_free: 8000TB } } }"),
        (2, "prepare: { a: { command: { run: [\"false\"] }, undo: { command: { run: [\"true\"] } } } }"),
        (3, "prepare: { a: { disc: { path: / } } }"),
        (4, "prepare: { a: { command: { run: [\"true\"] }, undo: { command: { run: [\"false\"] } } } }"),
        (5, "prepare: { a: { file: { create: /sys/nowhere, text: x } } }"),
    ];
    for (code, steps) in cases {
        let dir = folder(&format!("name: test\n{steps}\n"));
        let output = shakedown(dir.path(), &["run", "test.yaml", "--no-input"]);
        assert_eq!(output.status.code(), Some(code), "{steps}: {}", said(&output));
    }
    for argv in
        [&["run"][..], &["nonsense"], &["run", "no-such-playbook"], &["run", "quickstart", "-p", "x=1"]]
    {
        let dir = folder("");
        assert_eq!(shakedown(dir.path(), argv).status.code(), Some(3), "{argv:?}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_found_before_anything_is_done() {
    let dir = folder(
        "name: test\nprepare: { a: { command: { shell: \"echo done > mark\" }, undo: { command: { run: [\"true\"] } } } }\n",
    );
    let output = shakedown(dir.path(), &["run", "test.yaml", "--report", "json=/no/such/folder/report.json"]);
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(!dir.path().join("mark").exists(), "the step did not run");
}

#[test]
fn events_on_stdout_are_json_lines_and_nothing_else() {
    let dir =
        folder("name: test\nprepare: { a: { file: { create: \"${{ run.dir }}/文件\", text: 你好 } } }\n");
    let output = shakedown(dir.path(), &["run", "test.yaml", "--events", "-"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events.first().map(|event| &event["event"]), Some(&Value::from("run_started")));
    assert_eq!(events.last().map(|event| &event["event"]), Some(&Value::from("run_finished")));
    assert!(!dir.path().join("文件").exists(), "it was undone");
}

#[test]
fn control_characters_of_data_never_reach_the_terminal() {
    let shell = "printf 'a\\033[31mred\\007\\342\\200\\256b' >&2; exit 1";
    let dir = folder(&format!(
        "name: test\nprecheck: {{ a: {{ command: {{ shell: \"{}\", reads: true }} }} }}\n",
        shell.replace('\\', "\\\\")
    ));
    let output = shakedown(dir.path(), &["run", "test.yaml", "--no-input"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("red"), "{}", said(&output));
    assert!(!said(&output).contains(['\u{1b}', '\u{7}', '\u{202e}']), "{:?}", said(&output));
}

#[test]
fn null_lists_and_maps_cannot_stand_inside_text_and_keep_their_type_as_a_whole() {
    let dir = folder(
        "name: test\nvars: { list: \"${{ [1, 2] }}\", text: \"n: ${{ vars.list }}\" }\nprecheck: { a: { disk: { path: \"${{ vars.text }}\" } } }\n",
    );
    let output = shakedown(dir.path(), &["run", "test.yaml"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        said(&output).contains(
            "inside of text: expected text, a number or a truth value, and this expression is a list"
        ),
        "{}",
        said(&output)
    );
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let dir = folder("");
    let mut child = Command::new(binaries::shakedown())
        .args(["steps", "--markdown"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{output:?}");
}

#[test]
fn a_starter_is_valid_and_a_run_can_be_shown_again() {
    let dir = folder("");
    assert_eq!(shakedown(dir.path(), &["new", "mine.yaml"]).status.code(), Some(0));
    assert_eq!(shakedown(dir.path(), &["new", "mine.yaml"]).status.code(), Some(3), "it is not overwritten");
    let output = shakedown(dir.path(), &["check", "mine.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let quick = format!("dir={}", dir.path().display());
    let output = shakedown(dir.path(), &["run", "quickstart", "-p", &quick]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let listed = said(&shakedown(dir.path(), &["runs"]));
    let run = listed.split_whitespace().find(|word| word.len() == 26).expect("a run's id").to_owned();
    let shown = shakedown(dir.path(), &["runs", "show", &run]);
    assert!(said(&shown).contains("PASSED quickstart"), "{}", said(&shown));
}
