//! Full disks and missing permissions, in the lab: a typed error with a next step, and nothing left.

use tests::{
    lab::{MEDIA, Output, REMOTE, lab_or_skip},
    stage::Stage,
};

/// Takes all space of a file system, to the last byte, and says nothing.
const FILL: &str = "dd if=/dev/zero of=FOLDER/filler bs=64k 2>/dev/null; dd if=/dev/zero of=FOLDER/filler2 bs=512 2>/dev/null; true";

fn fill(folder: &str) -> String {
    FILL.replace("FOLDER", folder)
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[test]
fn a_full_disk_under_the_media_ends_in_a_clean_undo() {
    let playbook = format!(
        "
name: media
prepare:
  small: {{ file: {{ create: {MEDIA}/小.bin, size: 1MiB }} }}
  large: {{ needs: [small], file: {{ create: {MEDIA}/large.bin, size: 8MiB }} }}
"
    );
    let mut stage = Stage::new(lab_or_skip!(), &playbook);
    stage.mount("edge", MEDIA, "size=4m");
    let output = stage.run(&[]);
    assert_eq!(code(&output), Some(5), "{output}");
    assert_eq!(stage.step("large")["error"]["class"], "no-space");
    assert!(output.stdout.contains("df -h"), "{output}");
    stage.assert_clean();
    // The bundled playbook finds it before it changes anything.
    let config = format!("config={}", tests::lab::CONFIG);
    let refused = stage.shakedown(&["run", "media-sync", "-p", &config, "-p", "size=8MB"]);
    assert_eq!(code(&refused), Some(1), "{refused}");
    stage.assert_clean();
}

#[test]
fn a_disk_that_fills_up_under_a_database_cannot_keep_the_row() {
    let database = "/data/small/it.db";
    let playbook = format!(
        "
name: database
prepare:
  row: {{ sqlite: {{ database: {database}, insert: {{ into: t, values: {{ name: 名, size: 5 }} }} }} }}
monitor:
  full: {{ needs: [], command: {{ shell: \"{}\", reads: true }} }}
",
        fill("/data/small")
    );
    let mut stage = Stage::new(lab_or_skip!(), &playbook);
    stage.mount("edge", "/data/small", "size=4m");
    let sql = |sql: &str| stage.lab.edge().run(["sqlite3", database, sql]).ok();
    sql(
        "PRAGMA journal_mode=wal; CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, size INTEGER); CREATE INDEX i ON t (name);",
    );
    let output = stage.run(&[]);
    assert_eq!(code(&output), Some(0), "{output}");
    assert!(output.stdout.contains("undone 1 of 1"), "{output}");
    // To ask needs space, too.
    let rows = || {
        stage.lab.edge().sh("rm -f /data/small/filler /data/small/filler2").ok();
        sql("SELECT count(*) FROM t").trim().to_owned()
    };
    assert_eq!(rows(), "0");
    // It is full now: nothing is even begun.
    stage.lab.edge().sh(&fill("/data/small")).ok();
    let output = stage.run(&[]);
    assert_eq!(code(&output), Some(5), "{output}");
    assert_eq!(stage.step("row")["error"]["class"], "no-space");
    assert!(output.stdout.contains("df -h"), "{output}");
    assert_eq!(rows(), "0");
    let left = stage.lab.edge().sh("ls -A /data/small").ok();
    let expected = |name: &&str| !["it.db", "it.db-wal", "it.db-shm"].contains(name);
    assert_eq!(left.lines().filter(expected).count(), 0, "{left}");
}

#[test]
fn a_disk_that_fills_up_under_the_journal_cannot_keep_the_run_from_its_undo() {
    let playbook = format!(
        "
name: journal
prepare:
  one: {{ file: {{ create: {MEDIA}/one.bin, size: 1KiB }} }}
  two: {{ needs: [one], file: {{ create: {MEDIA}/two.bin, size: 1KiB }} }}
monitor:
  full: {{ command: {{ shell: \"{}\", reads: true }} }}
  look: {{ needs: [full], file: {{ stat: {MEDIA}/two.bin }}, expect: out.exists }}
cleanup:
  none: {{ file: {{ remove: /tmp/none }} }}
",
        fill("/state")
    );
    let mut stage = Stage::new(lab_or_skip!(), &playbook);
    stage.mount("edge", "/state", "size=4m,mode=700");
    let output = stage.run(&["--state-dir", "/state/shakedown"]);
    assert_eq!(code(&output), Some(0), "{output}");
    assert!(output.stdout.contains("undone 2 of 2"), "{output}");
    let runs = stage.shakedown(&["runs", "--state-dir", "/state/shakedown", "--format", "json"]);
    assert!(runs.stdout.contains("passed"), "its end is written down: {runs}");
    assert_eq!(stage.lab.edge().sh(&format!("ls -A {MEDIA}")).ok(), "");

    // Full before anything is done: nothing is done.
    stage.lab.edge().sh(&fill("/state")).ok();
    let output = stage.run(&["--state-dir", "/state/shakedown"]);
    assert_eq!(code(&output), Some(5), "{output}");
    assert!(output.stderr.contains("df -h"), "{output}");
    assert_eq!(stage.lab.edge().sh(&format!("ls -A {MEDIA}")).ok(), "");
    let fresh = stage.run(&["--state-dir", "/state/other"]);
    assert_eq!(code(&fresh), Some(5), "{fresh}");
    assert_eq!(stage.lab.edge().sh(&format!("ls -A {MEDIA}")).ok(), "");
}

#[test]
fn a_full_nas_ends_in_a_clean_undo() {
    let playbook = format!(
        "
name: nas
hosts: {{ nas: {{ ssh: nas }} }}
prepare:
  local: {{ file: {{ create: {MEDIA}/local.bin, size: 8MiB }} }}
  small: {{ on: nas, file: {{ create: {REMOTE}/small.bin, size: 1MiB }} }}
  sent:
    needs: [small]
    ssh: {{ host: nas, upload: {{ from: \"${{{{ steps.local.out.path }}}}\", to: {REMOTE}/sent.bin }} }}
"
    );
    let mut stage = Stage::new(lab_or_skip!(), &playbook);
    stage.mount("nas", REMOTE, "size=4m,mode=777");
    let output = stage.run(&[]);
    assert_eq!(code(&output), Some(5), "{output}");
    assert_eq!(stage.step("sent")["error"]["class"], "no-space", "{output}");
    assert!(output.stdout.contains("df -h"), "{output}");
    stage.assert_clean();
    stage.playbook(&playbook.replace("1MiB", "6MiB"));
    let output = stage.run(&[]);
    assert_eq!(code(&output), Some(5), "{output}");
    assert_eq!(stage.step("small")["error"]["class"], "no-space", "{output}");
    stage.assert_clean();
}

#[test]
fn a_file_system_that_is_read_only_is_named_and_nothing_is_left() {
    let playbook = format!(
        "
name: read-only
prepare:
  one: {{ file: {{ create: /data/one.bin, size: 1KiB }} }}
  two: {{ needs: [one], file: {{ create: {MEDIA}/two.bin, size: 1KiB }} }}
"
    );
    let mut stage = Stage::new(lab_or_skip!(), &playbook);
    stage.lab.edge().sh(&format!("mount --bind {MEDIA} {MEDIA} && mount -o remount,ro,bind {MEDIA}")).ok();
    stage.look();
    let output = stage.run(&[]);
    assert_eq!(code(&output), Some(5), "{output}");
    let error = &stage.step("two")["error"];
    assert_eq!(error["class"], "denied");
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("namei")), "{error}");
    stage.assert_clean();
}

#[test]
fn a_user_without_permission_is_told_before_anything_is_changed() {
    let playbook = "
name: denied
prepare:
  one: { file: { create: /tmp/one.bin, size: 1KiB } }
  two: { needs: [one], file: { create: /etc/media-sync/two.bin, size: 1KiB } }
";
    let stage = Stage::new(lab_or_skip!(), "");
    stage.lab.edge().write("/home/pilot/it.yaml", playbook);
    let config = format!("config={}", tests::lab::CONFIG);
    let as_pilot = |argv: &[&str]| {
        let output = stage.lab.edge().command_as("pilot", argv).output().expect("it starts");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (code, said) = as_pilot(&["shakedown", "run", "media-sync", "--no-input", "-p", &config]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("this user may not") && said.contains("sudo usermod"), "{said}");
    let (code, said) = as_pilot(&["shakedown", "run", "/home/pilot/it.yaml"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("Permission denied") && said.contains("namei -l") && said.contains("left 0"),
        "{said}"
    );
    stage.lab.edge().sh("rm -r /home/pilot/.local /home/pilot/it.yaml").ok();
    stage.assert_clean();
}

#[test]
fn what_cannot_be_undone_is_named_and_can_be_removed_as_told() {
    let playbook = format!(
        "
name: immutable
prepare:
  one: {{ file: {{ create: {MEDIA}/one.bin, size: 1KiB }} }}
  two: {{ needs: [one], file: {{ create: {MEDIA}/two.bin, size: 1KiB }} }}
monitor:
  locked: {{ command: {{ run: [chattr, +i, {MEDIA}/one.bin], reads: true }} }}
"
    );
    let stage = Stage::new(lab_or_skip!(), &playbook);
    let output = stage.run(&[]);
    assert_eq!(code(&output), Some(4), "{output}");
    assert!(output.stdout.contains("one.bin") && output.stdout.contains("left 1"), "{output}");
    assert!(!stage.lab.edge().exists(&format!("{MEDIA}/two.bin")), "one that stays keeps no other");
    stage.lab.edge().sh(&format!("chattr -i {MEDIA}/one.bin")).ok();
    let told = output
        .stdout
        .lines()
        .find_map(|line| tests::truth::HINTS.iter().find_map(|hint| line.trim().strip_prefix(hint)));
    stage.lab.edge().sh(told.expect("a command")).ok();
    stage.assert_clean();
}
