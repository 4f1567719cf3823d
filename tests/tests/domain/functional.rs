//! The precheck, the phases, what is seen of the transfer, and how it all ends.

use super::{code, media_sync, rows};
use serde_json::Value;
use std::fs;
use tests::{
    lab::{DATABASE, MEDIA, lab_or_skip, until},
    stage::Stage,
};

/// Whether anything was to be changed.
fn effects(stage: &Stage) -> usize {
    stage
        .events()
        .iter()
        .filter(|event| event["event"] == "step_started" && !event["intent"].is_null())
        .count()
}

#[test]
fn precheck_names_every_problem_with_its_guidance() {
    let stage = Stage::new(lab_or_skip!(), "");
    // All at once: an error in the journal, no daemon, a database without WAL, no room, no network.
    stage.lab.set_faults(r#"{"crash_at_start": true}"#);
    stage.lab.restart_daemon();
    until("the daemon has logged its error", || stage.lab.daemon_journal().contains("ERROR"));
    stage.lab.stop_daemon();
    stage.lab.sql("PRAGMA journal_mode = delete");
    let broken = stage.lab.manifest();
    stage.lab.link_down();
    let output = media_sync(&stage, &["-p", "size=100TB"]);
    stage.lab.link_up();
    assert_eq!(code(&output), Some(1), "{output}");
    for (step, hint) in [
        ("daemon", "sudo systemctl restart media-sync-daemon"),
        ("quiet", "journalctl -u media-sync-daemon --since -10m"),
        ("space", &format!("df -h {MEDIA}")),
        ("sqlite", &format!("sqlite3 {DATABASE} 'PRAGMA journal_mode; PRAGMA quick_check;'")),
        ("network", "ping -c 3 10.97.2.2"),
        ("ssh", "ssh -o BatchMode=yes nas true"),
    ] {
        assert_eq!(stage.step(step)["status"], "failed", "{step}: {output}");
        assert!(output.stdout.contains(hint), "{step}: {hint}: {output}");
    }
    assert_eq!(stage.step("installed")["status"], "ok", "{output}");
    assert_eq!(effects(&stage), 0, "nothing has begun");
    broken.assert_same(&stage.lab.manifest());

    // What needs the network, and a unit that was never installed.
    let output = media_sync(&stage, &["-p", "size=100TB", "-p", "unit=media-sync-demon"]);
    assert_eq!(code(&output), Some(1), "{output}");
    for (step, hint) in [
        ("installed", "systemctl cat media-sync-demon"),
        ("daemon", "sudo systemctl restart media-sync-demon"),
        ("nas_space", "ssh nas df -h /volume1"),
    ] {
        assert_eq!(stage.step(step)["status"], "failed", "{step}: {output}");
        assert!(output.stdout.contains(hint), "{step}: {hint}: {output}");
    }
    broken.assert_same(&stage.lab.manifest());
}

#[test]
fn force_goes_on_regardless_of_the_precheck() {
    let stage = Stage::new(lab_or_skip!(), "");
    // An error of the past stands in the daemon's journal; it works again.
    stage.lab.set_faults(r#"{"crash_at_start": true}"#);
    stage.lab.restart_daemon();
    until("the daemon has logged its error", || stage.lab.daemon_journal().contains("ERROR"));
    stage.lab.edge().sh("rm /etc/media-sync/faults.json").ok();
    until("it runs again", || {
        stage.lab.daemon_state().active == "active" && stage.lab.edge().exists("/run/media-sync-daemon.ready")
    });
    let refused = media_sync(&stage, &[]);
    assert_eq!((code(&refused), effects(&stage)), (Some(1), 0), "{refused}");
    stage.lab.edge().sh("rm /dev/shm/events.jsonl").ok();
    let output = media_sync(&stage, &["--force"]);
    assert_eq!(code(&output), Some(0), "{output}");
    assert!(effects(&stage) > 0, "{output}");
    stage.assert_clean_soon();
}

#[test]
fn exit_codes_tell_passed_refused_and_failed() {
    let stage = Stage::new(lab_or_skip!(), "");
    let passed = media_sync(&stage, &[]);
    assert_eq!((code(&passed), stage.report()["exit_code"].clone()), (Some(0), 0.into()), "{passed}");
    stage.assert_clean_soon();
    let refused = media_sync(&stage, &["-p", "unit=no-such-unit"]);
    assert_eq!((code(&refused), stage.report()["exit_code"].clone()), (Some(1), 1.into()), "{refused}");
    stage.assert_clean();
    stage.lab.set_faults(r#"{"fail_transfer": "rsync: 连接断开 (code 12)"}"#);
    let failed = media_sync(&stage, &[]);
    assert_eq!((code(&failed), stage.report()["exit_code"].clone()), (Some(2), 2.into()), "{failed}");
    assert_eq!(rows(&stage), "0");
    stage.lab.edge().sh("rm /etc/media-sync/faults.json").ok();
    stage.assert_clean_soon();
}

/// Whether a step of the monitor phase has begun.
fn monitors(stage: &Stage) -> bool {
    let events = stage.events();
    let mut events = events.iter().skip_while(|event| event["phase"] != "monitor");
    events.any(|event| event["event"] == "step_started")
}

/// Whether a process only waits: all of its threads sleep, and so do the programs that it has started.
fn at_rest(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.fold(true, |all, thread| {
        let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let sleeps =
            read("stat").rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('S'));
        let children = read("children");
        let mut children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        all && sleeps && children.all(at_rest)
    })
}

#[test]
fn status_changes_are_seen_and_kept_as_a_timeline_with_the_speed() {
    let stage = Stage::new(lab_or_skip!(), "");
    // Longer than any look takes, so that `downloading` cannot pass unseen between two of them.
    stage.lab.set_faults(r#"{"slow_ms": 3000}"#);
    stage.lab.edge().sh("systemctl kill -s STOP media-sync-daemon").ok();
    let running = super::started(&stage, &["-p", "size=1MB"]);
    until("the wait has looked at the row", || monitors(&stage) && at_rest(running.pid()));
    super::go_on(&stage);
    let output = running.wait();
    assert_eq!(code(&output), Some(0), "{output}");
    let transferred = stage.step("transferred[0]");
    let timeline = transferred["out"]["timeline"].as_array().expect("a time line").clone();
    let of = |status: &str| {
        let seen =
            |seen: &&Value| seen["saw"].as_str().is_some_and(|saw| saw.contains(&format!("\"{status}\"")));
        timeline
            .iter()
            .position(|one| seen(&one))
            .unwrap_or_else(|| panic!("`{status}` is missing: {timeline:?}"))
    };
    assert!(of("pending") < of("downloading") && of("downloading") < of("completed"), "{timeline:?}");
    assert!(transferred["out"]["notices"].as_u64() >= Some(2), "by word, not only by looking: {transferred}");
    let speed = stage.step("speed[0]")["out"]["stdout"].as_str().expect("text").to_owned();
    let bytes: u64 = speed.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    // Three seconds at least of them it did nothing.
    assert!(bytes > 0 && bytes < 1_000_000 / 2, "{speed}");
    assert!(output.stdout.contains("bytes/s") || stage.report().to_string().contains("bytes/s"), "{output}");
    stage.lab.edge().sh("rm /etc/media-sync/faults.json").ok();
    stage.assert_clean_soon();
}
