//! Kills the engine, at every point that it has and at random times, and compares the whole lab before and after.
//!
//! `tests/soak` runs the last test for as long as you like. Odd things are killed in `odd/`.

use std::{os::unix::process::ExitStatusExt, time::Instant};

use nix::sys::signal::Signal;
use tests::{
    lab::{Lab, Manifest, Output, Scope, binaries, lab_or_skip, lasts, until},
    truth::{Random, Soak, Tally, stride},
};

const STATE: &str = "/root/.local/state/shakedown";
const PLAYBOOK: &str = "/root/crash.yaml";

/// A lab in which things of others are beside those of the runs, and what it looked like before.
struct Stage {
    lab: Lab,
    before: Manifest,
}

/// Where the runs of these tests write.
fn scope() -> Scope {
    let strings = |paths: &[&str]| paths.iter().map(ToString::to_string).collect();
    Scope {
        edge: strings(&["/data", "/root", "/run", "/tmp", "/etc/media-sync"]),
        nas: strings(&["/home", "/root", "/run", "/tmp", "/volume1"]),
        ..Scope::default()
    }
}

impl Stage {
    fn new(lab: Lab) -> Self {
        lab.edge().install_binary(binaries::shakedown_with_faults(), "/usr/local/bin/shakedown");
        lab.edge().sh(&format!("mkdir -p -m 700 {STATE}")).ok();
        lab.edge().write(PLAYBOOK, include_str!("crash.yaml"));
        lab.edge().sh("echo theirs >/root/theirs").ok();
        lab.nas()
            .sh("cd /volume1/drone/drone_media && echo theirs >theirs.bin && chown drone: theirs.bin")
            .ok();
        let before = lab.manifest_of(&scope());
        Self { lab, before }
    }

    /// Runs `shakedown` with these faults.
    fn shakedown(&self, faults: &str, argv: &[&str]) -> Output {
        let assignment = format!("SHAKEDOWN_FAULTS={faults}");
        self.lab.edge().run(["env", &assignment, "shakedown"].iter().chain(argv))
    }

    /// True if a fault killed it; false if it came to its end.
    fn killed(&self, faults: &str, argv: &[&str]) -> bool {
        let output = self.shakedown(faults, argv);
        let killed = was_killed(&output);
        assert!(killed || output.status.success(), "{faults}: {output}");
        killed
    }

    fn recover(&self) -> Output {
        self.shakedown("", &["recover", "--yes"])
    }

    /// The id of the run that died.
    fn dead_run(&self) -> Option<String> {
        let list = self.shakedown("", &["runs", "--format", "json"]).ok();
        let runs: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        let dead = |run: &&serde_json::Value| run["verdict"].is_null() && run["alive"] == false;
        let found = runs.as_array().expect("a list").iter().find(dead)?;
        Some(found["id"].as_str().expect("an id").to_owned())
    }

    /// Nothing is left. A command on the NAS has a moment to notice that its run has died.
    #[track_caller]
    fn assert_clean(&self, what: &str) {
        let mut difference = Vec::new();
        let begun = Instant::now();
        while begun.elapsed().as_secs() < 30 {
            difference = self.before.diff(&self.lab.manifest_of(&scope()));
            if difference.is_empty() {
                return;
            }
        }
        panic!("{what}: the lab has changed:\n{}", difference.join("\n"));
    }
}

fn was_killed(output: &Output) -> bool {
    output.status.signal() == Some(9) || output.status.code() == Some(137)
}

#[test]
fn killed_at_every_point_a_run_is_recovered_and_nothing_is_left() {
    let stage = Stage::new(lab_or_skip!());
    let mut points = 0;
    while stage.killed(&format!("kill:{}", points * stride() + 1), &["run", PLAYBOOK]) {
        points += 1;
        let output = stage.recover();
        assert_eq!(output.status.code(), Some(0), "point {points}: {output}");
        stage.assert_clean(&format!("point {points}: {output}"));
        // To recover twice is to recover once.
        if points % 16 == 0 {
            let again = stage.recover();
            assert!(again.stderr.contains("nothing to recover"), "{again}");
        }
    }
    assert!(points * stride() > 120, "only {points} points");
    stage.assert_clean("the run that was not killed");
    tests::tell(&format!("{points} points of a run, garbage 0"));
}

#[test]
fn killed_at_every_point_a_run_is_resumed_and_ends_as_if_nothing_had_happened() {
    let stage = Stage::new(lab_or_skip!());
    let mut points = 0;
    while stage.killed(&format!("kill:{}", points * stride() + 1), &["run", PLAYBOOK]) {
        points += 1;
        let Some(run) = stage.dead_run() else {
            // The last points are after its end was written down.
            assert!(points * stride() > 100, "point {points}: no dead run");
            continue;
        };
        let output = stage.shakedown("", &["resume", &run]);
        assert_eq!(output.status.code(), Some(0), "point {points}: {output}");
        assert!(output.stdout.contains("PASSED crash"), "point {points}: {output}");
        stage.assert_clean(&format!("point {points}: {output}"));
    }
    assert!(points * stride() > 120, "only {points} points");
    tests::tell(&format!("{points} points of a run, each resumed to its end, garbage 0"));
}

#[test]
fn a_recovery_that_is_killed_at_every_point_is_recovered_by_the_next() {
    let stage = Stage::new(lab_or_skip!());
    let mut points = 0;
    // In the middle of the way forward, and of the way back.
    for died in ["kill:after:far_extra", "kill:after-undo:record"] {
        let mut at = 1;
        loop {
            assert!(stage.killed(died, &["run", PLAYBOOK]), "{died}");
            let killed = stage.killed(&format!("kill:{at}"), &["recover", "--yes"]);
            if !killed {
                break;
            }
            let output = stage.recover();
            assert_eq!(output.status.code(), Some(0), "{died}, then {at}: {output}");
            stage.assert_clean(&format!("{died}, then {at}: {output}"));
            (at, points) = (at + stride(), points + 1);
        }
        stage.assert_clean(died);
    }
    assert!(points * stride() > 60, "only {points} points");
    tests::tell(&format!("{points} points of recoveries, garbage 0"));
}

#[test]
fn a_power_cut_in_the_middle_is_recovered_after_the_restart() {
    let mut stage = Stage::new(lab_or_skip!());
    // Its last step waits, so that the cut comes when everything is there.
    let playbook =
        include_str!("crash.yaml").replace("  settled:\n", "  waits:\n    wait: { for: 10m }\n  settled:\n");
    stage.lab.edge().write(PLAYBOOK, playbook);
    stage.before = stage.lab.manifest_of(&scope());
    let running = stage.lab.edge().spawn(["shakedown", "run", PLAYBOOK]);
    until("all is there", || stage.lab.nas().exists("/tmp/extra"));
    stage.lab.power_cut_edge();
    drop(running);
    let list = stage.shakedown("", &["recover"]);
    assert_eq!(list.status.code(), Some(4), "{list}");
    assert!(list.stdout.contains("restarted since") && list.stdout.contains("冒烟"), "{list}");
    let output = stage.recover();
    assert_eq!(output.status.code(), Some(0), "{output}");
    stage.assert_clean(&format!("{output}"));
}

#[test]
fn killed_at_random_times_nothing_is_ever_left() {
    let stage = Stage::new(lab_or_skip!());
    let soak = Soak::of(10);
    let seed = soak.seed;
    let mut random = Random::new(seed);
    // How long a run takes here, for a kill at a random moment of it.
    let one = || {
        let begun = Instant::now();
        let whole = stage.shakedown("", &["run", PLAYBOOK]);
        assert_eq!(whole.status.code(), Some(0), "{whole}");
        u64::try_from(begun.elapsed().as_micros()).expect("short")
    };
    let length = one().min(one()).min(one());
    let mut tally = Tally::default();
    while soak.goes_on(&tally) {
        tally.trials += 1;
        let mut what = format!("seed {seed}, trial {}", tally.trials);
        let kill_after = |argv: &[&str], micros: u64| {
            let running = stage.lab.edge().spawn(["shakedown"].iter().chain(argv));
            // The moment is what is random here; nothing is expected to have happened by then.
            lasts(std::time::Duration::from_micros(micros));
            running.signal(Signal::SIGKILL);
            was_killed(&running.wait())
        };
        tally.killed += u64::from(kill_after(&["run", PLAYBOOK], random.below(length)));
        if random.below(3) == 0 {
            tally.twice += u64::from(kill_after(&["recover", "--yes"], random.below(length / 2)));
            what.push_str(", recovery killed");
        } else if random.below(3) == 0
            && let Some(run) = stage.dead_run()
        {
            let output = stage.shakedown("", &["resume", &run]);
            assert_eq!(output.status.code(), Some(0), "{what}: {output}");
            tally.resumed += 1;
        }
        let output = stage.recover();
        assert_eq!(output.status.code(), Some(0), "{what}: {output}");
        stage.assert_clean(&format!("{what}: {output}"));
        if tally.trials.is_multiple_of(100) {
            tests::tell(&tally.to_string());
        }
    }
    tests::tell(&format!("{tally}, seed {seed}"));
}
