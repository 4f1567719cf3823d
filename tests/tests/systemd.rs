//! `systemd` with effects and `journal` after a cursor, on a real systemd.

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

#[test]
fn a_cursor_divides_the_journal_into_before_and_after() {
    let lab = lab_or_skip!();
    lab.edge().install_binary(binaries::shakedown(), "/usr/local/bin/shakedown");
    lab.edge().sh("logger -t mark before-the-cursor").ok();
    let playbook = r#"
name: cursor
precheck:
  here: { journal: { pattern: before-the-cursor }, expect: out.count == 1 }
  again: { journal: { cursor: "${{ steps.here.out.cursor }}", pattern: before-the-cursor }, expect: out.count == 0 }
prepare:
  write: { command: { run: [logger, -t, mark, after-the-cursor] }, undo: { command: { run: ["true"] } } }
monitor:
  seen:
    wait:
      until: { journal: { cursor: "${{ steps.here.out.cursor }}", pattern: after-the-cursor } }
      succeed_when: out.count == 1
    timeout: 60s
  wrong: { needs: [seen], continue_on_error: true, journal: { cursor: nonsense } }
"#;
    lab.edge().write("/root/cursor.yaml", playbook);
    let output = lab.edge().run(["shakedown", "run", "/root/cursor.yaml", "--no-input"]);
    assert_eq!(output.status.code(), Some(0), "{output}");
    assert!(output.stdout.contains("`cursor`: journalctl does not know it"), "{output}");
}
