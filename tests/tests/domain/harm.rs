//! Others on the database are not worse off for us.

use super::code;
use serde_json::Value;
use tests::{
    lab::{CONFIG, DATABASE, lab_or_skip, until},
    stage::Stage,
    tell,
};

/// How many operations are counted at least.
const LEAST: u64 = 400;

const STOP: &str = "/dev/shm/stop";

/// The program of the dock works on the database as long as `beside` lasts: what locks cost it.
fn dock_manager(stage: &Stage, beside: impl FnOnce()) -> Value {
    stage.lab.edge().sh(&format!("rm -f {STOP}")).ok();
    let dock = stage.lab.edge().spawn(["/usr/local/bin/shakedown-dock", DATABASE, STOP, &LEAST.to_string()]);
    until("it works", || stage.lab.sql("SELECT count(*) FROM sqlite_sequence WHERE seq > 0").trim() == "1");
    beside();
    stage.lab.edge().sh(&format!("touch {STOP}")).ok();
    let output = dock.wait();
    assert!(output.status.success(), "{output}");
    stage.lab.edge().sh(&format!("rm -f {STOP}")).ok();
    serde_json::from_str(output.stdout.trim()).expect("JSON")
}

fn locked_lines(stage: &Stage) -> usize {
    stage.lab.daemon_journal().lines().filter(|line| line.contains("locked")).count()
}

#[test]
fn others_meet_no_more_locks_with_us_than_without() {
    let mut stage = Stage::new(lab_or_skip!(), "");
    // Named so that the manifest leaves it out, as it does our own program.
    stage.lab.edge().install_binary(env!("CARGO_BIN_EXE_dock-manager"), "/usr/local/bin/shakedown-dock");
    stage.lab.edge().write(
        "/root/watch.yaml",
        "name: watch\nmonitor:\n  never:\n    wait:\n      until: { sqlite: { database: /data/media_status.db, \
         query: SELECT count(*) AS n FROM media_transfer_status } }\n      succeed_when: out.row.n > 1000000\n",
    );
    stage.look();
    let without = dock_manager(&stage, || {});
    let daemon_without = locked_lines(&stage);

    let config = format!("config={CONFIG}");
    let with = dock_manager(&stage, || {
        let watch =
            ["shakedown", "run", "/root/watch.yaml", "--no-input", "--report", "json=/dev/shm/watch.json"];
        let watch = stage.lab.edge().spawn(watch);
        let argv = ["shakedown", "run", "media-sync", "--no-input", "-p", &config, "-p", "count=3"];
        let runs: Vec<_> = (0..3).map(|_| stage.lab.edge().spawn(argv)).collect();
        for running in runs {
            let output = running.wait();
            assert_eq!(code(&output), Some(0), "{output}");
        }
        watch.signal(nix::sys::signal::Signal::SIGINT);
        let output = watch.wait();
        assert_eq!(code(&output), Some(130), "{output}");
    });
    let daemon_with = locked_lines(&stage) - daemon_without;
    tell(&format!("the dock manager without us: {without}"));
    tell(&format!("the dock manager with 3 runs and a wait beside it: {with}"));
    tell(&format!("lines of the daemon on locks: {daemon_without} without us, {daemon_with} with"));
    for told in [&without, &with] {
        assert!(told["operations"].as_u64() >= Some(LEAST), "{told}");
        for key in ["waits", "waited_ms", "longest_ms"] {
            assert!(told[key].is_u64(), "{key}: {told}");
        }
    }
    // It waits for a lock for 5 s, and none of ours lasts so long.
    assert_eq!((&without["locked"], &with["locked"]), (&0.into(), &0.into()), "{without} {with}");
    assert!(daemon_with <= daemon_without, "{}", stage.lab.daemon_journal());
    stage.assert_clean_soon();
}
