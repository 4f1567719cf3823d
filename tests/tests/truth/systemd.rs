//! The whole effect of a job on a unit, on a real systemd: what it takes along is put back with it, whatever happens in
//! between; what cannot be put back is named. Judged by the states of all units before and after.

use tests::{
    lab::{Output, lab_or_skip, until},
    stage::Stage,
};

/// Units that depend on each other. All that are to run are started in the order of this list.
const UNITS: &[(&str, &str)] = &[
    ("t-base.service", "[Service]\nExecStart=/bin/sleep 4321\n"),
    (
        "t-needs.service",
        "[Unit]\nRequires=t-base.service\nAfter=t-base.service\n[Service]\nExecStart=/bin/sleep 4322\n",
    ),
    ("t-part.service", "[Unit]\nPartOf=t-base.service\n[Service]\nExecStart=/bin/sleep 4323\n"),
    (
        "t-bound.service",
        "[Unit]\nBindsTo=t-needs.service\nAfter=t-needs.service\n[Service]\nExecStart=/bin/sleep 4324\n",
    ),
    (
        "t-top.service",
        "[Unit]\nWants=t-help.service\nConflicts=t-rival.service\n[Service]\nExecStart=/bin/sleep 4325\n",
    ),
    ("t-help.service", "[Unit]\nRequires=t-deep.service\n[Service]\nExecStart=/bin/sleep 4326\n"),
    ("t-deep.service", "[Service]\nExecStart=/bin/sleep 4327\n"),
    ("t-rival.service", "[Service]\nExecStart=/bin/sleep 4328\n"),
    ("t-sock.socket", "[Socket]\nListenStream=/run/t-sock\n"),
    ("t-sock.service", "[Unit]\nRequires=t-sock.socket\n[Service]\nExecStart=/bin/sleep 4329\n"),
    (
        "t-user.service",
        "[Unit]\nRequires=t-idle.service\nAfter=t-idle.service\n[Service]\nExecStart=/bin/sleep 4330\n",
    ),
    ("t-idle.service", "[Unit]\nStopWhenUnneeded=yes\n[Service]\nExecStart=/bin/sleep 4331\n"),
    ("t-never.service", "[Unit]\nConditionPathExists=/nope\n[Service]\nExecStart=/bin/sleep 4332\n"),
    ("t-asserts.service", "[Unit]\nAssertPathExists=/nope\n[Service]\nExecStart=/bin/sleep 4332\n"),
    ("t-ends.service", "[Service]\nExecStart=/bin/true\n"),
    ("t-late.service", "[Service]\nExecStart=/bin/sh -c 'sleep 0.1; exit 3'\n"),
    (
        "t-flaps.service",
        "[Service]\nRestart=always\nRestartSec=20ms\nStartLimitBurst=1000\nExecStart=/bin/true\n",
    ),
    ("t-once.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n"),
    ("t-busy.service", "[Service]\nExecStart=/bin/sh -c 'while :; do :; done'\n"),
    ("t-many@.service", "[Service]\nExecStart=/bin/sleep 4333\n"),
    ("t-bad-end.service", "[Service]\nExecStart=/bin/sleep 4334\nExecStop=/bin/false\n"),
    ("t-static.service", "[Service]\nExecStart=/bin/sleep 4335\n"),
    ("t-other.service", "[Service]\nExecStart=/bin/sleep 4336\n[Install]\nAlso=t-static.service\n"),
    (
        "t-real.service",
        "[Service]\nExecStart=/bin/sleep 4337\n[Install]\nAlias=t-alias.service\nWantedBy=multi-user.target\n",
    ),
];

fn stage(lab: tests::lab::Lab) -> Stage {
    for (name, text) in UNITS {
        lab.edge().write(&format!("/etc/systemd/system/{name}"), text);
    }
    lab.edge().sh("systemctl daemon-reload").ok();
    Stage::new(lab, "name: it\n")
}

/// Starts these units, as they were before the run.
fn up(stage: &mut Stage, units: &str) {
    if !units.is_empty() {
        stage.lab.edge().sh(&format!("systemctl start {units}")).ok();
    }
    stage.look();
}

fn down(stage: &mut Stage) {
    stage.lab.edge().sh("systemctl stop 't-*'; systemctl reset-failed 't-*'; true").ok();
    stage.look();
}

fn playbook(unit: &str, action: &str) -> String {
    format!("name: it\nprepare: {{ it: {{ systemd: {{ unit: '{unit}', do: {action} }} }} }}\n")
}

fn waiting(unit: &str, action: &str) -> String {
    playbook(unit, action)
        + "monitor: { waits: { wait: { until: { file: { stat: /dev/shm/go } }, succeed_when: out.exists, every: 20ms } } }\n"
}

fn is_up(stage: &Stage, unit: &str) -> bool {
    stage.lab.edge().sh(&format!("systemctl is-active {unit}")).stdout.trim() == "active"
}

#[track_caller]
fn ended(output: &Output, code: i32, says: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{output}");
    for text in says {
        assert!(output.stdout.contains(text) || output.stderr.contains(text), "`{text}`: {output}");
    }
}

/// Runs a playbook, lets another do something once the step is done, and lets it end.
fn run_while(stage: &Stage, unit: &str, action: &str, meanwhile: &str) -> Output {
    stage.lab.edge().write("/root/it.yaml", waiting(unit, action));
    stage.lab.edge().sh("rm -f /dev/shm/go").ok();
    let running = stage.start(&[]);
    until("the step is done", || {
        stage.events().iter().any(|event| event["event"] == "step_finished" && event["attempt"] == 1)
    });
    stage.lab.edge().sh(meanwhile).ok();
    stage.lab.edge().sh("touch /dev/shm/go").ok();
    running.wait()
}

#[test]
fn all_that_a_job_takes_along_is_put_back() {
    let mut stage = stage(lab_or_skip!());
    let family = "t-base t-needs t-part t-bound";
    for (units, unit, action, says) in [
        (family, "t-base", "stop", &["`t-needs.service`", "`t-part.service`", "`t-bound.service`"][..]),
        (family, "t-base", "restart", &["active (running)"]),
        (
            "t-rival",
            "t-top",
            "start",
            &["`t-help.service` active", "`t-deep.service` active", "`t-rival.service` inactive"],
        ),
        ("t-deep", "t-top", "start", &["`t-help.service` active"]),
        ("t-sock.socket t-sock.service", "t-sock.socket", "stop", &["`t-sock.service` inactive"]),
        ("t-sock.socket t-sock.service", "t-sock.service", "stop", &["inactive (dead)"]),
        ("t-user t-idle", "t-user", "stop", &["`t-idle.service` inactive"]),
        ("t-top", "t-top", "stop", &["inactive (dead)"]),
        ("", "t-once", "start", &["it did its work and ended"]),
        ("", "t-busy", "start", &["active (running)"]),
        ("", "t-many@3", "start", &["active (running)"]),
        ("t-many@3", "t-many@3", "stop", &["inactive (dead)"]),
        ("t-bad-end", "t-bad-end", "stop", &[]),
        ("", "t-sock.socket", "start", &["active (listening)"]),
    ] {
        up(&mut stage, units);
        if unit == "t-top" && action == "stop" {
            // What it wants was at rest before, and must be so after the undo has started it again.
            stage.lab.edge().sh("systemctl stop t-help").ok();
            stage.look();
        }
        stage.lab.edge().write("/root/it.yaml", playbook(unit, action));
        let output = stage.run(&[]);
        ended(&output, 0, &[says, &["left 0"]].concat());
        eprintln!("{unit} {action}");
        stage.assert_clean();
        down(&mut stage);
    }
    // The plan names the set.
    up(&mut stage, family);
    stage.lab.edge().write("/root/it.yaml", playbook("t-base", "stop"));
    let plan = stage.shakedown(&["plan", "/root/it.yaml"]);
    assert!(plan.stdout.contains("takes along `t-needs.service`"), "{plan}");
    // Nothing of a bus: the same by `systemctl`.
    stage.lab.edge().sh("mkdir -p /dev/shm/empty && mount --bind /dev/shm/empty /run/dbus").ok();
    let output = stage.run(&[]);
    stage.lab.edge().sh("umount /run/dbus; rmdir /dev/shm/empty").ok();
    ended(&output, 0, &["`t-needs.service` inactive", "left 0"]);
    stage.assert_clean();
}

#[test]
fn what_was_no_start_is_no_success() {
    let mut stage = stage(lab_or_skip!());
    for (unit, says) in [
        ("t-never", &["was not started: `ConditionPathExists=/nope` is not met"][..]),
        ("t-asserts", &["`AssertPathExists=/nope` is not met"]),
        ("t-ends", &["ended at once, with exit status 0"]),
        ("t-late", &["exit status 3", "journalctl -u t-late"]),
        ("t-flaps", &["ended at once and is restarted over and over"]),
    ] {
        for _ in 0..5 {
            stage.lab.edge().write("/root/it.yaml", playbook(unit, "start"));
            ended(&stage.run(&[]), 2, &[says, &["left 0"]].concat());
        }
        stage.assert_clean();
        down(&mut stage);
    }
}

#[test]
fn what_another_did_meanwhile_is_left_and_named() {
    let mut stage = stage(lab_or_skip!());
    let edge_is = |stage: &Stage, unit: &str| is_up(stage, unit);
    // Started anew by another.
    let output = run_while(&stage, "t-base", "start", "systemctl restart t-base");
    ended(&output, 4, &["left 1", "another started it anew", "systemctl stop t-base.service"]);
    assert!(edge_is(&stage, "t-base"));
    down(&mut stage);
    // A helper that something else has come to need.
    let output = run_while(&stage, "t-base", "start", "systemctl start t-needs");
    ended(&output, 4, &["left 1", "`t-needs.service` needs it now"]);
    assert!(edge_is(&stage, "t-needs"));
    down(&mut stage);
    // Its file is gone: it cannot be started again.
    up(&mut stage, "t-base t-needs");
    let output = run_while(
        &stage,
        "t-base",
        "stop",
        "rm /etc/systemd/system/t-needs.service; systemctl daemon-reload",
    );
    ended(&output, 4, &["`t-needs.service`", "systemctl start t-needs.service"]);
    assert!(edge_is(&stage, "t-base") && !edge_is(&stage, "t-needs"));
}

#[test]
fn what_could_not_be_started_again_is_not_stopped() {
    let mut stage = stage(lab_or_skip!());
    stage.lab.edge().sh("systemd-run -q --unit t-made -p Requires=t-base.service sleep 4338").ok();
    stage.look();
    for (unit, says) in [
        ("t-made", "`t-made.service` could not be started again"),
        ("t-base", "takes along `t-made.service`"),
    ] {
        stage.lab.edge().write("/root/it.yaml", playbook(unit, "stop"));
        ended(&stage.run(&[]), 2, &[says, "transient"]);
        stage.assert_clean();
    }
}

#[test]
fn steps_of_one_run_know_each_others_starts() {
    let mut stage = stage(lab_or_skip!());
    stage.look();
    let playbook = "name: it\nprepare:\n  up: { systemd: { unit: t-base, do: start } }\n  \
                    again: { needs: [up], systemd: { unit: t-base, do: restart } }\n  \
                    more: { needs: [again], systemd: { unit: t-needs, do: start } }\n";
    stage.lab.edge().write("/root/it.yaml", playbook);
    ended(&stage.run(&[]), 0, &["left 0"]);
    stage.assert_clean();
}

#[test]
fn killed_at_any_point_the_units_are_put_back() {
    let mut stage = stage(lab_or_skip!());
    for (units, unit, action) in
        [("t-base t-needs t-part t-bound", "t-base", "stop"), ("t-rival", "t-top", "start")]
    {
        up(&mut stage, units);
        stage.lab.edge().write("/root/it.yaml", playbook(unit, action));
        let mut points = 0;
        loop {
            let faults = format!("SHAKEDOWN_FAULTS=kill:{}", points + 1);
            let output =
                stage.lab.edge().run(["env", &faults, "shakedown", "run", "/root/it.yaml", "--no-input"]);
            if output.status.code() == Some(0) {
                break;
            }
            points += 1;
            let recovered = stage.shakedown(&["recover", "--yes"]);
            assert_eq!(recovered.status.code(), Some(0), "{action}, point {points}: {recovered}");
            stage.assert_clean_soon();
        }
        assert!(points > 10, "only {points} points");
        down(&mut stage);
    }
}

#[test]
fn only_enabled_is_enabled_and_every_name_of_a_unit_will_do() {
    let stage = stage(lab_or_skip!());
    stage.lab.edge().sh("systemctl enable -q t-real").ok();
    let check = |systemd: &str| {
        stage.lab.edge().write(
            "/root/it.yaml",
            format!("name: it\nprecheck: {{ it: {{ systemd: {{ {systemd} }} }} }}\n"),
        );
        stage.run(&[])
    };
    ended(&check("unit: t-real, is: enabled"), 0, &[]);
    ended(&check("unit: t-alias, is: enabled"), 0, &[]);
    ended(&check("unit: t-static, is: enabled"), 1, &["`t-static` is static, expected enabled"]);
    ended(&check("unit: t-other, is: enabled"), 1, &["`t-other` is indirect, expected enabled"]);
    ended(&check("unit: '-.mount', is: active"), 0, &["active (mounted)"]);
    ended(&check("unit: '-.slice', is: active"), 0, &["active (active)"]);
}
