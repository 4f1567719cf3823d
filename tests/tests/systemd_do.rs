//! `systemd` with effects, on a real systemd: what is done is undone to the state that was found.

use tests::lab::{CONFIG, DAEMON, binaries, lab_or_skip, until};

/// A playbook that does one thing to the daemon's unit and expects a state after it.
fn playbook(action: &str, expected: &str) -> String {
    format!(
        "name: unit\nprepare:\n  it:\n    systemd: {{ unit: {DAEMON}, do: {action} }}\n\
         monitor:\n  after:\n    systemd: {{ unit: {DAEMON}, is: {expected} }}\n"
    )
}

#[test]
fn a_unit_that_was_stopped_started_or_restarted_is_as_it_was_found() {
    let lab = lab_or_skip!();
    assert!(lab.edge().exists(CONFIG));
    lab.edge().install_binary(binaries::shakedown(), "/usr/local/bin/shakedown");
    let run = |action: &str, expected: &str| {
        lab.edge().write("/root/unit.yaml", playbook(action, expected));
        lab.edge().run(["shakedown", "run", "/root/unit.yaml", "--no-input"])
    };
    let active = || lab.daemon_state().active == "active";

    let stopped = run("stop", "inactive");
    assert_eq!(stopped.status.code(), Some(0), "{stopped}");
    until("the unit runs again", active);

    let pid = lab.daemon_state().pid;
    let restarted = run("restart", "active");
    assert_eq!(restarted.status.code(), Some(0), "{restarted}");
    assert!(active() && lab.daemon_state().pid != pid);

    lab.stop_daemon();
    let started = run("start", "active");
    assert_eq!(started.status.code(), Some(0), "{started}");
    assert_eq!(lab.daemon_state().active, "inactive", "it was not running before: {started}");
}
