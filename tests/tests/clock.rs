//! The clock of the wall jumps by a day, forward and back, in the middle of a wait: its timeout stays right.
//!
//! The jump is made by libfaketime, which stands between the program and its clock, and leaves alone the one that
//! nobody can set. Without that library, or in a lab, whose boxes share this machine's clock, it cannot be made.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use tests::lab::{binaries, until};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

#[test]
fn a_jump_of_a_day_does_not_change_how_long_a_wait_takes() {
    if !Path::new(LIBRARY).exists() {
        let required = std::env::var("SHAKEDOWN_LAB").is_ok_and(|value| value == "required");
        assert!(!required, "SHAKEDOWN_LAB=required, but there is no {LIBRARY}; run tests/lab/prepare");
        let _unread = writeln!(std::io::stderr(), "SKIPPED lab test: no {LIBRARY}");
        return;
    }
    for jump in ["+1d", "-1d"] {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        let playbook = "
name: clock
monitor:
  waits:
    wait: { until: { file: { stat: never } }, succeed_when: out.exists, every: 50ms }
    timeout: 4s
";
        fs::write(path("it.yaml"), playbook).expect("writes");
        fs::write(path("clock"), "+0d\n").expect("writes");
        let mut command = Command::new(binaries::shakedown());
        command
            .args(["run", "it.yaml", "--events", "events.jsonl"])
            .current_dir(dir.path())
            .stdin(Stdio::null());
        command.env("SHAKEDOWN_STATE_DIR", path("state")).env("LD_PRELOAD", LIBRARY);
        command.env("FAKETIME_TIMESTAMP_FILE", path("clock")).env("FAKETIME_NO_CACHE", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let events = || fs::read_to_string(path("events.jsonl")).unwrap_or_default();
        until("it waits", || events().contains("step_started"));
        fs::write(path("clock"), format!("{jump}\n")).expect("writes");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
        let all: Vec<serde_json::Value> =
            events().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let find = |name: &str| all.iter().find(|event| event["event"] == name).expect(name);
        let (started, finished) = (find("step_started"), find("step_finished"));
        let wall = finished["at_ms"].as_i64().expect("a time") - started["at_ms"].as_i64().expect("a time");
        assert!(wall.abs() > 23 * 3600 * 1000, "{jump}: the clock has jumped: {wall} ms");
        let took = finished["took_ms"].as_u64().expect("a number");
        // 5 %, and upwards a second for a machine that is busy with other tests.
        assert!((3_800..4_200 + 1_000).contains(&took), "{jump}: {took} ms");
    }
}
