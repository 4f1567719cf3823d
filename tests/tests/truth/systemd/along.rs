//! What a job takes along is put back with it.

use super::{down, ended, playbook, stage, up};
use tests::lab::lab_or_skip;

/// Units that go down with each other.
const FAMILY: &str = "t-base t-needs t-part t-bound";

#[test]
fn all_that_a_job_takes_along_is_put_back() {
    let mut stage = stage(lab_or_skip!());
    for (units, unit, action, says) in [
        (FAMILY, "t-base", "stop", &["`t-needs.service`", "`t-part.service`", "`t-bound.service`"][..]),
        (FAMILY, "t-base", "restart", &["active (running)"]),
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
        tests::tell(&format!("{unit} {action}"));
        up(&stage, units);
        if unit == "t-top" && action == "stop" {
            // What it wants was at rest before, and must be so after the undo has started it again.
            stage.lab.edge().sh("systemctl stop t-help").ok();
        }
        stage.playbook(&playbook(unit, action));
        let output = stage.run(&[]);
        ended(&output, 0, &[says, &["left 0"]].concat());
        stage.assert_clean();
        down(&stage);
    }
}

#[test]
fn the_plan_names_it_and_without_a_bus_it_is_put_back_too() {
    let mut stage = stage(lab_or_skip!());
    up(&stage, FAMILY);
    stage.playbook(&playbook("t-base", "stop"));
    let plan = stage.shakedown(&["plan", "/root/it.yaml"]);
    assert!(plan.stdout.contains("takes along `t-needs.service`"), "{plan}");
    stage.lab.edge().sh("mkdir -p /dev/shm/empty && mount --bind /dev/shm/empty /run/dbus").ok();
    let output = stage.run(&[]);
    stage.lab.edge().sh("umount /run/dbus; rmdir /dev/shm/empty").ok();
    ended(&output, 0, &["`t-needs.service` inactive", "left 0"]);
    stage.assert_clean();
}
