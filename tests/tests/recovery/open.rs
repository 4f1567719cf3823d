//! Runs that ended and left something, that are known by their lock alone, or that belong elsewhere.

use super::{FILES, Stage};
use serde_json::Value;
use std::{fs, os::unix::process::ExitStatusExt, process::Command};
use tests::{folders::said, lab::binaries};

/// What keeps a row in its place, for as long as it is there.
const KEPT: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); \
    CREATE TRIGGER stays BEFORE DELETE ON t BEGIN SELECT RAISE(ABORT, 'not yet'); END";
const ROW: &str = "
name: row
prepare:
  row: { sqlite: { database: it.db, insert: { into: t, values: { name: a } } } }
cleanup:
  gone: { file: { remove: gone.txt } }
";

impl Stage {
    fn sqlite(&self, sql: &str) -> String {
        let mut command = Command::new("sqlite3");
        let output = command.arg(self.path("it.db")).arg(sql).output().expect("sqlite3");
        assert!(output.status.success(), "{sql}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

#[test]
fn a_run_is_over_only_when_nothing_of_it_is_left() {
    let stage = Stage::new(ROW);
    stage.sqlite(KEPT);
    stage.says(&["run", "it.yaml"], 4, &["LEFTOVERS row", "left 1", "not yet"]);
    stage.says(&["runs"], 0, &["passed, 1 left", "1 run ended and left something: shakedown recover"]);
    assert_eq!(stage.newest()["state"], "left");
    stage.says(&["run", "quickstart", "-p", "size=1KiB"], 0, &["1 run ended and left something"]);
    let run = {
        let list = stage.run(&["runs", "--format", "json"]);
        let runs: Value = serde_json::from_slice(&list.stdout).expect("JSON");
        runs[1]["id"].as_str().expect("an id").to_owned()
    };
    // It is listed, it cannot be resumed, and each recovery tries again.
    stage.says(&["recover"], 4, &["LEFT SOMETHING row", "1 undo to do, 1 seen to be there"]);
    stage.says(&["resume", &run], 3, &["has ended, and left something", "shakedown recover"]);
    stage.says(&["recover", "--yes"], 4, &["LEFTOVERS row", "left 1", "not yet"]);
    stage.says(&["recover", &run], 4, &["left 1"]);
    stage.says(&["runs", "prune", "--older", "0s"], 0, &["died or left something, and stayed"]);
    // A recovery that dies in the middle of it leaves the run as it was.
    for point in 1.. {
        let mut command = stage.command(binaries::shakedown_with_faults(), &["recover", "--yes"]);
        let output = command.env("SHAKEDOWN_FAULTS", format!("kill:{point}")).output().expect("it starts");
        if output.status.signal() != Some(9) {
            assert!(point > 5, "only {point} points");
            break;
        }
        stage.says(&["recover"], 4, &["row"]);
    }
    stage.sqlite("DROP TRIGGER stays");
    stage.says(&["recover", "--yes"], 0, &["RECOVERED row", "left 0"]);
    assert_eq!(stage.sqlite("SELECT count(*) FROM t"), "0");
    stage.says(&["recover", "--yes"], 0, &["nothing to recover"]);
    stage.says(&["recover", &run], 3, &["is over"]);
}

#[test]
fn what_was_removed_by_hand_closes_the_run() {
    let stage = Stage::new(ROW);
    stage.sqlite(KEPT);
    stage.says(&["run", "it.yaml"], 4, &["left 1"]);
    stage.sqlite("DROP TRIGGER stays; DELETE FROM t");
    stage.says(&["recover", "--yes"], 0, &["left 0"]);
    stage.says(&["recover", "--yes"], 0, &["nothing to recover"]);
}

#[test]
fn a_run_that_is_forgotten_is_not_told_of_any_more() {
    let stage = Stage::new(ROW);
    stage.sqlite(KEPT);
    stage.says(&["run", "it.yaml"], 4, &["left 1"]);
    let run = stage.newest()["id"].as_str().expect("an id").to_owned();
    stage.says(&["runs", "forget", &run], 0, &["forgotten"]);
    stage.says(&["recover", "--yes"], 0, &["nothing to recover"]);
}

#[test]
fn a_kill_between_the_last_look_and_the_end_is_no_clean_end() {
    let stage = Stage::new(ROW);
    stage.sqlite(KEPT);
    // The record of the look is the last but one.
    let mut point = 1;
    loop {
        let mut command = stage.command(binaries::shakedown_with_faults(), &["run", "it.yaml"]);
        let output =
            command.env("SHAKEDOWN_FAULTS", format!("kill:append:{point}")).output().expect("it starts");
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.code() == Some(4), "{}", said(&output));
        stage.sqlite("SELECT 1");
        let rows = stage.sqlite("SELECT count(*) FROM t");
        let recovered = stage.run(&["recover", "--yes"]);
        let code = if rows == "0" { 0 } else { 4 };
        assert_eq!(recovered.status.code(), Some(code), "point {point}: {}", said(&recovered));
        let run = stage.newest()["id"].as_str().expect("an id").to_owned();
        let _over = stage.run(&["runs", "forget", &run]);
        stage.sqlite("DROP TRIGGER stays; DELETE FROM t");
        stage.sqlite(KEPT.split_once("; ").expect("two statements").1);
        if !killed {
            break;
        }
        point += 1;
    }
    assert!(point > 8, "only {point} records");
}

#[test]
fn a_run_whose_journal_is_lost_is_told_of_by_its_lock() {
    let stage = Stage::new(FILES);
    let run = stage.die("kill:after:two");
    for name in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
        let _none = fs::remove_file(stage.state.path().join(name));
    }
    for _ in 0..2 {
        stage.says(
            &["recover", "--yes"],
            4,
            &[&run, "the journal has no word of it", "shakedown runs forget"],
        );
    }
    stage.says(&["run", "quickstart", "-p", "size=1KiB"], 0, &["1 run died"]);
    stage.says(&["runs", "forget", &run], 0, &["forgotten"]);
    stage.says(&["recover", "--yes"], 0, &["nothing to recover"]);
}

#[test]
fn a_run_in_a_copy_of_the_journal_is_not_touched_unless_named() {
    let stage = Stage::new(FILES);
    let run = stage.die("kill:after:two");
    let copy = tempfile::tempdir().expect("a folder");
    let copied = copy.path().join("state");
    let done = Command::new("cp").arg("-a").arg(stage.state.path()).arg(&copied).status().expect("cp");
    assert!(done.success());
    let there = copied.to_str().expect("UTF-8");
    let words = ["is not touched", "a copy of the one in which it was begun", &run];
    for argv in [&["recover", "--yes", "--state-dir", there][..], &["recover", "--state-dir", there]] {
        stage.says(argv, 4, &words);
        assert!(stage.path("two.txt").exists());
    }
    stage.says(&["recover", &run, "--state-dir", there], 0, &["does not belong here", "RECOVERED"]);
    assert!(!stage.path("two.txt").exists());
    // The journal itself was not closed by that.
    stage.says(&["recover"], 4, &["DIED files"]);
}
