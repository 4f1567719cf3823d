//! Inventories: steps that run on every host of a group, side by side, and are taken back on each.

use tests::{lab::lab_or_skip, stage::Stage};

const INVENTORY: &str = r#"
hosts:
  dock-[01:12]: { ssh: drone@10.97.2.2, vars: { zone: south } }
  dock-[13:20]: { ssh: drone@10.97.2.2 }
  lost: { ssh: drone@10.97.2.99 }
groups:
  docks: ["dock-[01:20]"]
  mountain: { hosts: ["dock-[13:20]"], vars: { zone: 山 } }
  all_docks: [docks, mountain]
  broken: [dock-01, lost, dock-02]
"#;

fn playbook(group: &str) -> String {
    format!(
        r#"
name: fleet
prepare:
  mark:
    on: {group}
    file: {{ create: "/tmp/${{{{ each.key }}}}.txt", text: "${{{{ each.value.vars.zone }}}}" }}
  sum:
    on: {group}
    hash: {{ path: "${{{{ steps.mark.out[each.key].path }}}}" }}
monitor:
  read:
    on: {group}
    command: {{ run: [cat, "/tmp/${{{{ each.key }}}}.txt"], reads: true }}
    expect: out.stdout == each.value.vars.zone
  last:
    needs: [read]
    disk: {{ path: / }}
    expect: size(steps.sum.out) == 20 && steps.sum.out["dock-07"].sha256 != steps.sum.out["dock-19"].sha256
"#
    )
}

#[test]
fn a_step_on_a_group_runs_on_each_of_its_hosts_and_is_taken_back_on_each() {
    let stage = Stage::new(lab_or_skip!(), &playbook("all_docks"));
    stage.lab.edge().write("/root/inventory.yaml", INVENTORY);
    let mut stage = stage;
    stage.look();
    let output = stage.run(&["--hosts", "/root/inventory.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{output}");
    assert!(output.stdout.contains("61 steps: 61 ok"), "{output}");
    assert!(output.stdout.contains("undone 20 of 20"), "{output}");
    let plan = stage.shakedown(&["plan", "/root/it.yaml", "--hosts", "/root/inventory.yaml"]).ok();
    assert!(plan.contains("mark[dock-01]") && plan.contains("mark[dock-20]"), "{plan}");
    stage.assert_clean();
}

#[test]
fn a_host_that_does_not_answer_fails_alone_and_by_its_name() {
    let text = "name: broken\nprepare:\n  mark:\n    on: broken\n    file: { create: \"/tmp/${{ each.key }}.txt\", text: x }\n    continue_on_error: true\n\
                monitor:\n  two: { disk: { path: / }, expect: 'steps.mark.status[\"lost\"] == \"failed\"' }\n";
    let mut stage = Stage::new(lab_or_skip!(), text);
    stage.lab.edge().write("/root/inventory.yaml", INVENTORY);
    stage.look();
    let output = stage.run(&["--hosts", "/root/inventory.yaml"]);
    assert!(output.stdout.contains("mark[lost]"), "{output}");
    assert!(output.stdout.contains("`lost`"), "{output}");
    assert!(output.stdout.contains("undone 2 of 2"), "{output}");
    stage.assert_clean();
}
