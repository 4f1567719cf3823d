//! What was no start is no success, what could not be put back is not moved, and only enabled is enabled.

use super::{down, ended, playbook, stage};
use tests::lab::lab_or_skip;

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
