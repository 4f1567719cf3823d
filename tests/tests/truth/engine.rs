//! The engine's own part: written undos, attempts, counts, and paths.

use tests::{
    bare::exited,
    truth::{Death, Place, Row, rows},
};

const NAS: &str = "hosts: { nas: { ssh: nas } }\n";

/// A step that never is as it is expected, and is tried three times.
fn thrice<'a>(text: &'a str) -> Row<'a> {
    Row { playbook: text, exit: 2, says: &["left 0"], ..Row::HERE }
}

const RETRY: &str = "retry: { attempts: 3, delay: 10ms, on: [expectation] }";

rows! {
    /// The undo acts where its step did, and not on the equal file of this machine.
    a_written_undo_runs_on_the_host_of_its_step: Row {
        setup: "echo mine >/tmp/made",
        playbook: "hosts: { nas: { ssh: nas } }\nprepare: { made: { on: nas, command: { run: [touch, /tmp/made] }, \
            undo: { command: { run: [rm, /tmp/made] } } } }",
        says: &["PASSED", "left 0"],
        ..Row::LAB
    };
    /// Also when it is recovered.
    a_written_undo_is_recovered_on_the_host_of_its_step: Row {
        setup: "echo mine >/tmp/made",
        playbook: "hosts: { nas: { ssh: nas } }\nprepare: { made: { on: nas, command: { run: [touch, /tmp/made] }, \
            undo: { command: { run: [rm, -f, /tmp/made] } } } }",
        death: Death::At("after:made"),
        says: &["RECOVERED"],
        ..Row::LAB
    };
    /// An effect that nothing takes back is no part of `left 0`.
    an_effect_without_undo_is_counted_apart: Row {
        playbook: "prepare: { made: { command: { run: [touch, made] } } }",
        says: &["left 0", "1 effect without undo"],
        differs: &["+ file made"],
        ..Row::HERE
    };
    /// Made again by an undo is as it was, and no record stays beside it.
    an_undo_that_makes_a_file_leaves_nothing_beside: Row {
        setup: "printf x >made",
        playbook: "prepare: { gone: { command: { run: [rm, made] }, undo: { file: { create: made, text: x } } } }",
        says: &["PASSED", "left 0"],
        ..Row::HERE
    };
    /// The same killed anywhere.
    an_undo_that_inserts_leaves_nothing_wherever_it_is_killed: Row {
        setup: "sqlite3 it.db \"CREATE TABLE t (a, UNIQUE (a)); INSERT INTO t VALUES ('x')\"",
        playbook: "prepare: { gone: { sqlite: { database: it.db, execute: DELETE FROM t }, \
            undo: { sqlite: { database: it.db, execute: INSERT OR IGNORE INTO t VALUES ('x') } } } }",
        death: Death::Everywhere,
        ..Row::HERE
    };
    /// An upload of an undo leaves no earlier file beside it.
    an_undo_that_uploads_leaves_nothing_beside: Row {
        setup: "printf x >x\nnas: printf x >/volume1/drone/x; chown drone: /volume1/drone/x; chmod 644 /volume1/drone/x",
        playbook: "hosts: { nas: { ssh: nas } }\nprepare: { other: { on: nas, \
            command: { shell: 'echo other >/volume1/drone/x' }, \
            undo: { ssh: { host: nas, upload: { from: '@DIR@/x', to: /volume1/drone/x } } } } }",
        says: &["PASSED", "left 0"],
        ..Row::LAB
    };
    /// Recovered from another folder, a path leads where it led in the run.
    a_relative_path_means_the_same_from_another_folder: Row {
        setup: "mkdir w other; echo mine >other/made",
        playbook: "prepare: { made: { file: { create: made, text: x } } }",
        folder: "w",
        later: "other",
        death: Death::Everywhere,
        ..Row::HERE
    };
    /// The folder of the run now has another name: nobody looks there, and nobody says that it is gone.
    a_relative_path_means_the_same_after_its_folder_moved: Row {
        setup: "mkdir w",
        playbook: "prepare: { made: { file: { create: made, text: x } } }",
        folder: "w",
        ready: "test -e w/made",
        meanwhile: "mv w v; mkdir w; echo other >w/made",
        exit: 4,
        says: &["w/made"],
        differs: &["+ file v", "+ file v/made", "+ file w/made"],
        over: false,
        ..Row::HERE
    };
}

#[test]
fn each_attempt_of_a_command_is_undone() {
    let text = format!(
        "prepare: {{ made: {{ command: {{ shell: 'echo x >>log' }}, undo: {{ command: {{ shell: 'sed -i 1d log' }} }}, \
         expect: out.code == 7, {RETRY} }} }}"
    );
    Row { setup: ": >log", says: &["left 0"], ..thrice(&text) }.check();
}

#[test]
fn each_attempt_of_a_file_is_undone() {
    // The second attempt finds the file of the first.
    let text = format!(
        "prepare: {{ made: {{ file: {{ create: made, text: x }}, expect: out.size == 7, {RETRY} }} }}"
    );
    Row { exit: 5, says: &["exists already", "left 0"], ..thrice(&text) }.check();
}

#[test]
fn each_attempt_of_a_row_is_undone() {
    let text = format!(
        "prepare: {{ made: {{ sqlite: {{ database: it.db, insert: {{ into: t, values: {{ a: x }} }} }}, \
         expect: out.rowid == 0, {RETRY} }} }}"
    );
    Row { setup: "sqlite3 it.db 'CREATE TABLE t (a)'", ..thrice(&text) }.check();
}

#[test]
fn each_attempt_of_a_process_is_undone() {
    let text = format!(
        "prepare: {{ made: {{ process: {{ run: [sleep, '1000'] }}, expect: out.pid == 0, {RETRY} }} }}"
    );
    thrice(&text).check();
}

#[test]
fn each_attempt_on_a_host_is_undone() {
    let text = format!(
        "{NAS}prepare: {{ made: {{ ssh: {{ host: nas, run: [/bin/sh, -c, 'echo x >>/volume1/drone/log'] }}, \
         undo: {{ ssh: {{ host: nas, run: [sed, -i, 1d, /volume1/drone/log] }} }}, expect: out.code == 7, {RETRY} }} }}"
    );
    Row {
        place: Place::Lab,
        setup: "nas: : >/volume1/drone/log; chown drone: /volume1/drone/log /volume1/drone",
        ..thrice(&text)
    }
    .check();
}

/// A map whose first key is asked for again and again.
const KEYS: &str = "vars:
  map: { f: 1, b: 2, k: 3, a: 4, z: 5, c: 6, y: 7, d: 8 }
  first: \"${{ vars.map.map(k, k)[0] }}\"
  text: \"${{ vars.map.map(k, k + string(vars.map[k])).join(',') }}\"
prepare:
  made:
    command: { run: [touch, \"${{ vars.map.map(k, k)[0] }}\"] }
    undo: { command: { run: [rm, \"${{ vars.map.map(k, k)[0] }}\"] } }
  same: { file: { stat: \"${{ vars.first }}\" }, needs: [made], expect: \"out.exists && vars.map.map(k, k)[0] == 'a'\" }
  text: { command: { run: [echo, \"${{ vars.text }}\"], reads: true }, expect: \"out.stdout.contains('a4,b2,c6,d8')\" }
";

#[test]
fn an_undo_names_what_its_step_named_each_time() {
    for _ in 0..10 {
        Row { playbook: KEYS, says: &["PASSED", "left 0"], ..Row::HERE }.check();
    }
}

#[test]
fn a_plan_that_iterates_over_maps_is_run_as_it_was_made() {
    for _ in 0..10 {
        let bare = tests::bare::Bare::new();
        bare.write(KEYS);
        exited(&bare.shakedown(&["plan", "it.yaml", "--out", "it.plan"]), 0);
        let text = exited(&bare.shakedown(&["run", "--plan", "it.plan"]), 0);
        assert!(text.contains("PASSED") && text.contains("left 0"), "{text}");
        assert!(!bare.path("a").exists(), "{text}");
    }
}
