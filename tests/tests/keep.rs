//! What is kept stays, and nothing that was put by for its undo: neither at the end, nor after a kill at any point.

use std::{fs, os::unix::process::ExitStatusExt};
use tests::{bare::Bare, lab::binaries, truth::stride};

const STEPS: &str = "prepare:
  row: { keep: always, sqlite: { database: d.db, insert: { into: t, values: { v: x } } } }
  set: { keep: always, json: { path: d.json, set: { at: /a, value: 2 } } }
  gone: { keep: always, file: { remove: old.log } }
  made: { keep: always, file: { create: made.txt, text: made } }
  folder: { keep: always, file: { directory: folder, owned: true } }
";

fn stage(steps: &str) -> Bare {
    let bare = Bare::new();
    let database = rusqlite::Connection::open(bare.path("d.db")).expect("opens");
    database.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)").expect("made");
    fs::write(bare.path("d.json"), "{\"a\": 1}").expect("written");
    fs::write(bare.path("old.log"), "old").expect("written");
    bare.write(steps);
    bare
}

/// What stands in the folder, hidden things too.
fn names(bare: &Bare) -> Vec<String> {
    let entries = fs::read_dir(bare.path(".")).expect("there");
    let mut names: Vec<String> =
        entries.map(|it| it.expect("reads").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn nothing_is_left_beside_what_is_kept() {
    // The last fails, and so keeps the others.
    let fails = STEPS.replace("always", "on_failure")
        + "monitor: { no: { command: { run: ['false'] , reads: true } } }\n";
    for (steps, code) in [(STEPS, 0), (&STEPS.replace("always", "on_success"), 0), (&fails, 2)] {
        let bare = stage(steps);
        let output = bare.shakedown(&["run", "it.yaml"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains("kept 5") && text.contains("left 0"), "{text}");
        assert_eq!(names(&bare), ["d.db", "d.json", "folder", "it.yaml", "made.txt"]);
    }
}

#[test]
fn killed_at_any_point_nothing_is_left_beside_what_is_kept() {
    let mut points = 0;
    loop {
        let bare = stage(STEPS);
        let faults = format!("kill:{}", points * stride() + 1);
        let mut command = bare.command(binaries::shakedown_with_faults(), &["run", "it.yaml"]);
        let killed = command.env("SHAKEDOWN_FAULTS", &faults).status().expect("starts");
        if killed.signal() != Some(9) {
            break;
        }
        points += 1;
        let output = bare.shakedown(&["recover", "--yes"]);
        let code = output.status.code();
        assert_eq!(code, Some(0), "{faults}: {}", String::from_utf8_lossy(&output.stdout));
        let hidden: Vec<_> = names(&bare).into_iter().filter(|name| name.starts_with('.')).collect();
        assert_eq!(hidden, [""; 0], "{faults}");
    }
    assert!(points * stride() > 20, "only {points} points");
}
