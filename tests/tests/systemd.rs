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

/// Runs a playbook with one precheck on a unit, as a user of the edge box.
fn check(lab: &tests::lab::Lab, user: &str, systemd: &str) -> (Option<i32>, String) {
    let home = if user == "root" { "/root".to_owned() } else { format!("/home/{user}") };
    let path = format!("/tmp/check-{user}.yaml");
    lab.edge().write(&path, format!("name: check\nprecheck:\n  it:\n    systemd: {{ {systemd} }}\n"));
    let argv = ["shakedown", "run", &path, "--no-input", "--state-dir", &format!("{home}/state")];
    let mut command = lab.edge().command_as(user, argv);
    command.env("XDG_RUNTIME_DIR", "/run/user/2002").env("HOME", &home);
    let output = command.output().expect("it starts");
    (
        output.status.code(),
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
    )
}

#[test]
fn states_that_look_alike_are_told_apart_each_with_its_own_hint() {
    let lab = lab_or_skip!();
    let edge = lab.edge();
    edge.install_binary(binaries::shakedown(), "/usr/local/bin/shakedown");
    let unit = |name: &str, service: &str| {
        edge.write(&format!("/etc/systemd/system/{name}.service"), format!("[Service]\n{service}\n"));
    };
    unit("it-fails", "ExecStart=/bin/false");
    unit("it-loops", "ExecStart=/bin/false\nRestart=always\nRestartSec=3600");
    unit("it-starts", "Type=notify\nExecStart=/bin/sleep 4321\nTimeoutStartSec=infinity");
    unit("it-rests", "ExecStart=/bin/sleep 4321");
    edge.sh("ln -s /dev/null /etc/systemd/system/it-is-masked.service; systemctl daemon-reload").ok();
    edge.sh("systemctl start it-fails it-loops; systemctl start --no-block it-starts; true").ok();
    let state = |name: &str| edge.sh(&format!("systemctl show -P ActiveState -P SubState {name}")).stdout;
    until("they are where they belong", || {
        state("it-fails").contains("failed")
            && state("it-loops").contains("auto-restart")
            && state("it-starts").contains("activating")
    });
    let cases = [
        ("it-fails", "failed (failed), exit status 1", "journalctl -u it-fails -n 50"),
        ("it-loops", "crashes and is restarted over and over", "journalctl -u it-loops -n 50"),
        ("it-starts", "activating (start), expected active", "systemctl status it-starts"),
        ("it-rests", "inactive (dead), expected active", "systemctl start it-rests"),
        ("it-is-masked", "is masked", "systemctl unmask it-is-masked"),
        ("it-is-nowhere", "is not installed", "systemctl list-unit-files"),
    ];
    for (name, said, hint) in cases {
        let (code, text) = check(&lab, "root", &format!("unit: {name}, is: active"));
        assert_eq!(code, Some(1), "{name}: {text}");
        assert!(text.contains(said) && text.contains(hint), "{name}: {text}");
    }
    for (name, state) in [("it-fails", "failed"), ("it-rests", "inactive"), ("it-rests", "installed")] {
        let (code, text) = check(&lab, "root", &format!("unit: {name}, is: {state}"));
        assert_eq!(code, Some(0), "{name}: {text}");
    }
    // What may not control units may still look at them.
    let (code, text) = check(&lab, "pilot", "unit: it-rests, is: inactive");
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_unit_that_cannot_be_started_says_why_and_one_may_not_be_started_by_everyone() {
    let lab = lab_or_skip!();
    let edge = lab.edge();
    edge.install_binary(binaries::shakedown(), "/usr/local/bin/shakedown");
    edge.write(
        "/etc/systemd/system/never.service",
        "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo 没有 >&2; exit 7'\n",
    );
    edge.sh("systemctl daemon-reload").ok();
    let playbook = "name: never\nprepare:\n  it: { systemd: { unit: never, do: start } }\n";
    edge.write("/tmp/never.yaml", playbook);
    let run = |user: &str, home: &str| {
        let state = format!("{home}/state");
        let argv = ["shakedown", "run", "/tmp/never.yaml", "--no-input", "--state-dir", state.as_str()];
        let output = edge.command_as(user, argv).output().expect("it starts");
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), text)
    };
    let (code, text) = run("root", "/root");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("could not be brought to start: it is failed (failed), exit status 7"), "{text}");
    assert!(text.contains("the job ended as `failed`"), "{text}");
    assert!(
        text.contains("journal_of_never") && text.contains("没有"),
        "what the unit said is in the report: {text}"
    );
    assert_eq!(
        edge.sh("systemctl is-failed never").stdout.trim(),
        "inactive",
        "not even its failure is left"
    );
    let (code, text) = run("pilot", "/home/pilot");
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("sudo systemctl start never"), "{text}");
}

#[test]
fn the_units_of_a_user_are_reached_by_that_users_own_manager() {
    let lab = lab_or_skip!();
    let edge = lab.edge();
    edge.install_binary(binaries::shakedown(), "/usr/local/bin/shakedown");
    edge.write("/home/pilot/.config/systemd/user/mine.service", "[Service]\nExecStart=/bin/sleep 4321\n");
    edge.sh(
        "chown -R pilot: /home/pilot/.config; install -d -o pilot -g pilot -m 700 /run/user /run/user/2002",
    )
    .ok();
    let (code, text) = check(&lab, "pilot", "unit: mine, is: active, scope: user");
    assert_eq!(code, Some(1), "without a manager: {text}");
    assert!(text.contains("no service manager of this user runs"), "{text}");
    edge.sh("systemd-run -q --unit pilots -p User=pilot -p Delegate=yes -E XDG_RUNTIME_DIR=/run/user/2002 \
         -E HOME=/home/pilot /lib/systemd/systemd --user")
        .ok();
    until("it has a bus", || edge.exists("/run/user/2002/bus"));
    until("it answers", || check(&lab, "pilot", "unit: mine, is: inactive, scope: user").0 == Some(0));
    edge.write(
        "/tmp/mine.yaml",
        "name: mine\nprepare:\n  it: { systemd: { unit: mine, do: start, scope: user } }\n\
         monitor:\n  after: { systemd: { unit: mine, is: active, scope: user } }\n",
    );
    let argv = ["shakedown", "run", "/tmp/mine.yaml", "--no-input", "--state-dir", "/home/pilot/state"];
    let mut command = edge.command_as("pilot", argv);
    let output = command.env("XDG_RUNTIME_DIR", "/run/user/2002").output().expect("it starts");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("undone 1 of 1"), "{text}");
    let (code, text) = check(&lab, "pilot", "unit: mine, is: inactive, scope: user");
    assert_eq!(code, Some(0), "it is as it was found: {text}");
}

#[test]
fn a_wait_on_a_unit_ends_by_the_signal_of_its_change() {
    let lab = lab_or_skip!();
    let edge = lab.edge();
    edge.install_binary(binaries::shakedown(), "/usr/local/bin/shakedown");
    edge.write("/etc/systemd/system/late.service", "[Service]\nExecStart=/bin/sleep 4321\n");
    edge.sh("systemctl daemon-reload").ok();
    // Between two looks lies an hour: without the signal it would not end.
    let playbook = "name: late\nmonitor:\n  up:\n    wait:\n      until: { systemd: { unit: late, is: active } }\n      \
                    every: 1h\n    timeout: 60s\n";
    edge.write("/tmp/late.yaml", playbook);
    let running = edge.spawn([
        "shakedown",
        "run",
        "/tmp/late.yaml",
        "--no-input",
        "--events",
        "/dev/shm/late.jsonl",
        "--report",
        "json=/dev/shm/late.json",
    ]);
    until("it waits", || {
        edge.sh("grep -c step_started /dev/shm/late.jsonl 2>/dev/null").stdout.trim() == "1"
    });
    // What is told in the moment before the first look is seen by that look; this comes after it.
    until("it has looked", || edge.sh("busctl list --no-pager | grep -c shakedown").stdout.trim() != "0");
    edge.sh("systemctl start late").ok();
    let output = running.wait();
    assert_eq!(output.status.code(), Some(0), "{output}");
    let report = String::from_utf8(edge.read("/dev/shm/late.json")).expect("UTF-8");
    assert!(report.contains("it succeeds"), "{report}");
}
