//! Units on a real systemd: the whole effect of a job is put back, whatever happens in between, and what cannot be put back
//! is named or not begun. Judged by the states of all units before and after.

mod along;
mod kills;
mod meanwhile;
mod several;
mod states;

use tests::{
    lab::{Lab, Output, until},
    stage::Stage,
};

/// Lines for a shell that make units which depend on each other, and start none.
const UNITS: &str = include_str!("units.sh");

fn stage(lab: Lab) -> Stage {
    lab.edge().sh(UNITS).ok();
    let mut stage = Stage::new(lab, "name: it\n");
    stage.look_less();
    stage
}

/// Starts these units, as they are to be before the run.
fn up(stage: &Stage, units: &str) {
    if !units.is_empty() {
        stage.lab.edge().sh(&format!("systemctl start {units}")).ok();
    }
}

fn down(stage: &Stage) {
    stage.lab.edge().sh("systemctl stop 't-*'; systemctl reset-failed 't-*'; true").ok();
}

fn is_up(stage: &Stage, unit: &str) -> bool {
    stage.lab.edge().sh(&format!("systemctl is-active {unit}")).stdout.trim() == "active"
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

/// Runs a playbook, lets another do something once the step is done, and lets it end.
fn run_while(stage: &mut Stage, unit: &str, action: &str, meanwhile: &str) -> Output {
    let waits = "monitor: { waits: { wait: { until: { file: { stat: /dev/shm/go } }, succeed_when: out.exists, every: 20ms } } }\n";
    stage.lab.edge().sh("rm -f /dev/shm/go /dev/shm/events.jsonl").ok();
    stage.playbook(&(playbook(unit, action) + waits));
    let running = stage.start(&[]);
    until("the step is done", || {
        stage.events().iter().any(|event| event["event"] == "step_finished" && event["attempt"] == 1)
    });
    stage.lab.edge().sh(meanwhile).ok();
    stage.lab.edge().sh("touch /dev/shm/go").ok();
    running.wait()
}
