//! Units on a real systemd: what could not be put back is not moved, and only enabled is enabled.

use tests::{
    lab::{Output, lab_or_skip},
    stage::Stage,
};

const UNITS: &[(&str, &str)] = &[
    ("t-base.service", "[Service]\nExecStart=/bin/sleep 4321\n"),
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

fn playbook(unit: &str, action: &str) -> String {
    format!("name: it\nprepare: {{ it: {{ systemd: {{ unit: '{unit}', do: {action} }} }} }}\n")
}

#[track_caller]
fn ended(output: &Output, code: i32, says: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{output}");
    for text in says {
        assert!(output.stdout.contains(text) || output.stderr.contains(text), "`{text}`: {output}");
    }
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
