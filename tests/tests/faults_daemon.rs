//! The daemon under test fails, and many runs use it at once, in the lab.

use tests::{
    lab::{CONFIG, Output, lab_or_skip},
    stage::Stage,
};

fn media_sync<'a>(config: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "media-sync", "-p", config], more].concat()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn rows(stage: &Stage) -> String {
    stage.lab.sql("SELECT count(*) FROM media_transfer_status").trim().to_owned()
}

#[test]
fn a_daemon_that_hangs_fails_the_run_and_everything_is_undone() {
    let stage = Stage::new(lab_or_skip!(), "");
    let config = format!("config={CONFIG}");
    // Its process is there and does nothing: systemd says that it is active.
    stage.lab.edge().sh("systemctl kill -s STOP media-sync-daemon").ok();
    let output = stage.shakedown(&media_sync(&config, &["-p", "timeout=3s"]));
    assert_eq!(code(&output), Some(2), "{output}");
    assert!(output.stdout.contains("did not finish within 3 s"), "{output}");
    assert_eq!(rows(&stage), "0");
    stage.lab.edge().sh("systemctl kill -s CONT media-sync-daemon").ok();
    stage.assert_clean_soon();
}

#[test]
fn a_daemon_that_fails_a_file_is_quoted_in_the_report() {
    let stage = Stage::new(lab_or_skip!(), "");
    let config = format!("config={CONFIG}");
    stage.lab.set_faults(r#"{"fail_transfer": "rsync: 连接断开 (code 12)"}"#);
    let output = stage.shakedown(&media_sync(&config, &["-v"]));
    assert_eq!(code(&output), Some(2), "{output}");
    assert!(output.stdout.contains("rsync: 连接断开 (code 12)"), "{output}");
    let log = stage.step("daemon_log")["out"].to_string();
    assert!(log.contains("连接断开"), "the journal's lines are in the report: {log}");
    stage.lab.edge().sh("rm /etc/media-sync/faults.json").ok();
    stage.assert_clean_soon();
}

/// Whole runs at once on one database, beside the daemon that works on their rows.
fn at_once(runs: usize) {
    let stage = Stage::new(lab_or_skip!(), "");
    let config = format!("config={CONFIG}");
    // A writer of another program beside them.
    let busy = "while [ ! -e /dev/shm/stop ]; do sqlite3 -cmd '.timeout 30000' /data/media_status.db \
                \"BEGIN IMMEDIATE; UPDATE media_transfer_status SET id = id; COMMIT;\"; sleep 0.02; done";
    let writer = stage.lab.edge().spawn(["/bin/sh", "-c", busy]);
    let argv = ["shakedown", "run", "media-sync", "--no-input", "-p", &config, "-p", "quiet_for=1s"];
    let all: Vec<_> = (0..runs).map(|_| stage.lab.edge().spawn(argv)).collect();
    for (i, running) in all.into_iter().enumerate() {
        let output = running.wait();
        assert_eq!(code(&output), Some(0), "run {i} of {runs}: {output}");
        assert!(!output.stdout.contains("locked") && !output.stderr.contains("locked"), "run {i}: {output}");
    }
    stage.lab.edge().sh("touch /dev/shm/stop").ok();
    let _ended = writer.wait();
    assert_eq!(rows(&stage), "0", "each row is there until its own run takes it away");
    stage.assert_clean_soon();
}

#[test]
fn three_runs_at_once_on_one_database_pass() {
    at_once(3);
}

#[test]
fn twenty_runs_at_once_on_one_database_pass() {
    at_once(20);
}
