//! What was no start is no success, what could not be put back is not moved, and only enabled is enabled.

use super::{down, ended, is_up, playbook, stage, up};
use tests::lab::{lab_or_skip, until};

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
        stage.playbook(&playbook(unit, "start"));
        for _ in 0..5 {
            ended(&stage.run(&[]), 2, &[says, &["left 0"]].concat());
        }
        stage.assert_clean();
        down(&stage);
    }
}

#[test]
fn what_could_not_be_started_again_is_not_stopped() {
    let mut stage = stage(lab_or_skip!());
    stage.lab.edge().sh("systemd-run -q --unit t-made -p Requires=t-base.service sleep 4338").ok();
    for (unit, says) in [
        ("t-made", "`t-made.service` could not be started again"),
        ("t-base", "takes along `t-made.service`"),
    ] {
        stage.playbook(&playbook(unit, "stop"));
        ended(&stage.run(&[]), 2, &[says, "transient"]);
        stage.assert_clean();
    }
}

/// The processes that `KillMode=process` leaves are named, and the command that is printed ends them.
#[test]
fn processes_that_outlive_their_unit_are_named() {
    let mut stage = stage(lab_or_skip!());
    stage.playbook(&playbook("t-lasting", "start"));
    let says = "unit `t-lasting.service`: it is stopped, and processes of it run on";
    ended(&stage.run(&[]), 4, &[says, "left 1", "systemctl kill -s KILL t-lasting.service"]);
    // So does a recovery.
    ended(&stage.shakedown(&["recover", "--yes"]), 4, &[says]);
    stage.lab.edge().sh("systemctl kill -s KILL t-lasting.service").ok();
    until("they have ended", || !stage.lab.edge().sh("pgrep -f '[s]leep 4350'").status.success());
    ended(&stage.shakedown(&["recover", "--yes"]), 0, &["left 0"]);
    stage.assert_clean();
}

/// One that is reloaded along with another and dies of it is started again.
#[test]
fn what_a_reload_takes_along_is_put_back() {
    let mut stage = stage(lab_or_skip!());
    up(&stage, "t-front t-worker");
    stage.playbook(&playbook("t-front", "reload"));
    ended(&stage.run(&[]), 0, &["left 0"]);
    assert!(is_up(&stage, "t-front") && is_up(&stage, "t-worker"));
    stage.assert_clean();
}

#[test]
fn a_manager_of_users_is_not_stopped() {
    let mut stage = stage(lab_or_skip!());
    stage.lab.edge().sh("systemctl start user@0").ok();
    stage.playbook(&playbook("user@0.service", "stop"));
    ended(&stage.run(&[]), 2, &["what runs in it does not come back with it", "left 0"]);
    assert!(is_up(&stage, "user@0"));
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
