//! What fails in the middle, once the row is there: the test goes on, or ends with a clear error and leaves nothing.

use super::{code, go_on, in_the_middle, rows};
use std::time::Duration;
use tests::{
    lab::{REMOTE, lab_or_skip, lasts, until},
    stage::Stage,
};

fn status(stage: &Stage) -> String {
    stage.lab.sql("SELECT transfer_status FROM media_transfer_status").trim().to_owned()
}

#[test]
fn the_network_goes_and_comes_back_in_the_middle() {
    let stage = Stage::new(lab_or_skip!(), "");
    let running = in_the_middle(&stage, &["-p", "size=1MB"]);
    stage.lab.link_down();
    go_on(&stage);
    until("the daemon is at the transfer", || status(&stage) == "downloading");
    lasts(Duration::from_secs(5));
    assert_eq!(status(&stage), "downloading", "it cannot have got through");
    stage.lab.link_up();
    let output = running.wait();
    assert_eq!(code(&output), Some(0), "{output}");
    stage.assert_clean_soon();
}

#[test]
fn the_disk_of_the_nas_is_full() {
    let mut stage = Stage::new(lab_or_skip!(), "");
    stage.mount("nas", REMOTE, "size=4m,mode=777");
    // Larger than what is there: refused before anything is made.
    let refused = super::media_sync(&stage, &["-p", "size=8MB"]);
    assert_eq!(code(&refused), Some(1), "{refused}");
    assert!(refused.stdout.contains(&format!("ssh nas df -h {REMOTE}")), "{refused}");
    stage.assert_clean();
    let running = in_the_middle(&stage, &["-p", "size=1MB"]);
    let fill = format!("dd if=/dev/zero of={REMOTE}/filler bs=64k 2>/dev/null; true");
    stage.lab.nas().sh(&fill).ok();
    go_on(&stage);
    let output = running.wait();
    assert_eq!(code(&output), Some(2), "{output}");
    assert!(output.stdout.contains("No space left on device"), "{output}");
    assert!(output.stdout.contains("journalctl -u media-sync-daemon"), "a next step: {output}");
    stage.lab.nas().sh(&format!("rm {REMOTE}/filler")).ok();
    assert_eq!(rows(&stage), "0");
    stage.assert_clean_soon();
}

#[test]
fn permission_is_denied_on_the_nas() {
    let mut stage = Stage::new(lab_or_skip!(), "");
    stage.lab.nas().sh(&format!("chown root: {REMOTE} && chmod 755 {REMOTE}")).ok();
    stage.look();
    let running = in_the_middle(&stage, &[]);
    go_on(&stage);
    let output = running.wait();
    assert_eq!(code(&output), Some(2), "{output}");
    assert!(output.stdout.contains("Permission denied"), "{output}");
    assert!(output.stdout.contains("journalctl -u media-sync-daemon"), "a next step: {output}");
    assert_eq!(rows(&stage), "0");
    stage.assert_clean_soon();
}

#[test]
fn the_daemon_is_restarted_in_the_middle_and_it_is_reported() {
    let stage = Stage::new(lab_or_skip!(), "");
    let first = stage.lab.daemon_state().pid;
    let running = in_the_middle(&stage, &[]);
    // A new process: it takes the row up where the old one has left it.
    stage.lab.edge().sh("systemctl kill -s KILL media-sync-daemon").ok();
    let output = running.wait();
    assert_eq!(code(&output), Some(0), "{output}");
    let second = stage.lab.daemon_state().pid;
    assert_ne!(first, second);
    let step = stage.step("same_daemon");
    assert_eq!(step["status"], "failed", "{step}");
    let message = step["error"]["message"].as_str().unwrap_or_default();
    let said = [message, &step["error"]["details"].to_string()].concat();
    assert!(said.contains(&format!("out.main_pid is {second}")), "{step}");
    assert!(said.contains(&format!("steps.daemon.out.main_pid is {first}")), "{step}");
    assert!(output.stdout.contains("same_daemon") && output.stdout.contains("main_pid"), "{output}");
    stage.assert_clean_soon();

    // Undisturbed there is nothing to tell.
    let output = super::media_sync(&stage, &[]);
    assert_eq!(code(&output), Some(0), "{output}");
    assert_eq!(stage.step("same_daemon")["status"], "ok", "{output}");
    stage.assert_clean_soon();
}
