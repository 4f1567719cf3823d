//! The network and sshd fail, in the lab: noticed in time, gone on with where that can be, and nothing left on the host.

use std::time::Duration;

use tests::{
    lab::{CONFIG, DATABASE, REMOTE, lab_or_skip, lasts, until},
    stage::Stage,
};

/// Something on the NAS that has to be taken back, and a command there that goes on until a file says otherwise.
fn playbook(command: &str) -> String {
    format!(
        "
name: network
hosts: {{ nas: {{ ssh: nas }} }}
prepare:
  far: {{ on: nas, file: {{ create: {REMOTE}/far.bin, size: 10KiB }} }}
monitor:
  works: {{ on: nas, command: {{ shell: \"{command}\", reads: true }}, timeout: 5m }}
  still: {{ on: nas, needs: [works], file: {{ stat: {REMOTE}/far.bin }}, expect: out.exists }}
"
    )
}

/// Says where it is, and waits for a file. Killed, it leaves nothing.
const WAITS: &str = "touch /home/drone/runs; while [ ! -e /home/drone/go ]; do sleep 0.1; done; rm -f /home/drone/go /home/drone/runs";

fn runs(stage: &Stage) -> bool {
    stage.lab.nas().exists("/home/drone/runs")
}

/// Whether the command of these tests runs on the NAS.
fn shell_runs(stage: &Stage) -> bool {
    let waits = |argv: &[String]| {
        argv.iter().any(|word| word.contains("/home/drone/runs")) && argv.iter().any(|word| word == "-c")
    };
    stage.lab.nas().processes().iter().any(|(_, argv)| waits(argv))
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("soon")
}

#[test]
fn a_link_that_is_down_is_found_before_anything_is_changed() {
    let stage = Stage::new(lab_or_skip!(), "");
    stage.lab.link_down();
    let config = format!("config={CONFIG}");
    let output = stage.shakedown(&["run", "media-sync", "-p", &config]);
    stage.lab.link_up();
    assert_eq!(output.status.code(), Some(1), "{output}");
    for step in ["network", "ssh"] {
        let error = stage.step(step)["error"].clone();
        assert!(
            ["unreachable", "timeout"].contains(&error["class"].as_str().unwrap_or_default()),
            "{step}: {error}"
        );
    }
    assert!(output.stdout.contains("ping -c 3"), "{output}");
    assert_eq!(stage.lab.sql("SELECT count(*) FROM media_transfer_status").trim(), "0", "{DATABASE}");
    stage.assert_clean_soon();
}

#[test]
fn a_command_goes_on_when_the_link_is_back_after_five_seconds() {
    let stage = Stage::new(lab_or_skip!(), &playbook(WAITS));
    let running = stage.start(&[]);
    until("the command runs", || runs(&stage));
    stage.lab.link_down();
    lasts(Duration::from_secs(5));
    stage.lab.link_up();
    stage.lab.nas().sh("touch /home/drone/go").ok();
    let output = running.wait();
    assert_eq!(output.status.code(), Some(0), "{output}");
    assert!(output.stdout.contains("undone 1 of 1"), "{output}");
    stage.assert_clean_soon();
}

#[test]
fn a_command_that_only_reads_is_repeated_when_the_link_is_back_after_the_connection_was_given_up() {
    let stage = Stage::new(lab_or_skip!(), &playbook(WAITS));
    let running = stage.start(&[]);
    until("the command runs", || runs(&stage));
    stage.lab.link_down();
    until("the command is ended there, for its lease is over", || !shell_runs(&stage));
    stage.lab.nas().sh("rm -f /home/drone/runs").ok();
    stage.lab.link_up();
    until("it runs again", || runs(&stage));
    stage.lab.nas().sh("touch /home/drone/go").ok();
    let output = running.wait();
    assert_eq!(output.status.code(), Some(0), "{output}");
    stage.assert_clean_soon();
}

/// A command that changes something is not repeated: nobody knows whether it happened.
fn changes(command: &str) -> String {
    let undo = " }, undo: { on: nas, command: { run: [rm, -f, /home/drone/runs] } }, timeout";
    playbook(command).replace(", reads: true }, timeout", undo)
}

#[test]
fn a_link_that_never_comes_back_is_noticed_and_what_is_left_there_is_named() {
    let stage =
        Stage::new(lab_or_skip!(), &playbook(WAITS).replace(", reads: true }, timeout", " }, timeout"));
    let running = stage.start(&[]);
    until("the command runs", || runs(&stage));
    let cut = std::time::Instant::now();
    stage.lab.link_down();
    until("it is noticed", || stage.count("undo_started") == 1);
    let noticed = cut.elapsed();
    // Four keep-alives of five seconds and two more; the machine may be busy with other tests.
    assert!(noticed < Duration::from_secs(22 + 5), "{noticed:?}");
    // Without the lease the command on the NAS is ended there, while the link is still down.
    until("the command is gone", || !shell_runs(&stage));
    let output = running.wait();
    assert_eq!(output.status.code(), Some(4), "{output}");
    assert!(output.stdout.contains("far.bin") && output.stdout.contains("left 1"), "{output}");
    stage.lab.link_up();
    // The server's own end of the connection: TCP tells it only when it sends again, which may be minutes from now.
    stage.lab.nas().sh("pkill -f '[s]shd: drone'").ok();
    stage.lab.nas().sh("rm -f /home/drone/runs").ok();
    // As told, on the edge box.
    let told = output
        .stdout
        .lines()
        .find_map(|line| tests::truth::HINTS.iter().find_map(|hint| line.trim().strip_prefix(hint)));
    stage.lab.edge().sh(told.expect("a command")).ok();
    stage.assert_clean_soon();
    tests::tell(&format!("noticed after {noticed:?}"));
}

#[test]
fn a_link_that_comes_back_during_the_undo_is_used_for_it() {
    let stage = Stage::new(lab_or_skip!(), &playbook(WAITS));
    let running = stage.start(&[]);
    until("the command runs", || runs(&stage));
    stage.lab.link_down();
    running.signal(nix::sys::signal::Signal::SIGINT);
    until("the undo has begun", || stage.count("undo_started") == 1);
    stage.lab.link_up();
    let output = running.wait();
    assert_eq!(output.status.code(), Some(130), "{output}");
    assert!(output.stdout.contains("undone 1 of 1") && output.stdout.contains("left 0"), "{output}");
    until("the command is gone", || !shell_runs(&stage));
    stage.lab.nas().sh("rm -f /home/drone/runs").ok();
    stage.assert_clean_soon();
}

#[test]
fn a_killed_ssh_session_is_noticed_at_once_and_the_undo_connects_again() {
    let stage = Stage::new(lab_or_skip!(), &changes(WAITS));
    let running = stage.start(&[]);
    until("the command runs", || runs(&stage));
    stage.lab.nas().sh("pkill -KILL -f '[s]shd: drone'").ok();
    let killed = now_ms();
    let output = running.wait();
    assert_eq!(output.status.code(), Some(5), "{output}");
    let told = stage
        .events()
        .iter()
        .rfind(|event| event["event"] == "step_finished")
        .and_then(|event| event["at_ms"].as_u64());
    // A second; and two more, for the machine may be busy with other tests.
    assert!(told.is_some_and(|told| told < killed + 1_000 + 2_000), "killed at {killed}, told at {told:?}");
    let step = stage.step("works");
    assert_eq!(
        (&step["error"]["class"], &step["status"]),
        (&"unreachable".into(), &"unknown".into()),
        "{step}"
    );
    assert!(output.stdout.contains("undone 2 of 2") && output.stdout.contains("left 0"), "{output}");
    until("the command is gone", || !shell_runs(&stage));
    stage.assert_clean_soon();
}

#[test]
fn an_sshd_that_is_gone_for_good_leaves_what_is_named() {
    let stage = Stage::new(lab_or_skip!(), &playbook(WAITS));
    let running = stage.start(&[]);
    until("the command runs", || runs(&stage));
    stage.lab.nas().sh("systemctl stop ssh; pkill -KILL -f '[s]shd: drone'").ok();
    let output = running.wait();
    assert_eq!(output.status.code(), Some(4), "{output}");
    assert!(output.stdout.contains("far.bin"), "{output}");
    until("the command is gone", || !shell_runs(&stage));
    stage.lab.nas().sh(&format!("systemctl start ssh; rm {REMOTE}/far.bin; rm -f /home/drone/runs")).ok();
    stage.assert_clean_soon();
}
