//! Signals at random moments of a run: a terminal state is in the journal, and nothing is left.
//!
//! `SHAKEDOWN_SIGNAL_TRIALS=1000` makes it a long test.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tests::lab::{binaries, lasts};

/// Everything below the folder, and every process whose arguments name it.
fn seen(dir: &Path) -> BTreeSet<String> {
    let text = dir.display().to_string();
    let files =
        std::fs::read_dir(dir).expect("a folder").flatten().map(|entry| entry.path().display().to_string());
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let arguments = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let ours = arguments
        .map(|argv| String::from_utf8_lossy(&argv).replace('\0', " "))
        .filter(|argv| argv.contains(&text));
    files.chain(ours).collect()
}

#[test]
fn at_random_moments_they_end_a_run_in_good_order() {
    let number =
        |name: &str, usual: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (trials, mut random) =
        (number("SHAKEDOWN_SIGNAL_TRIALS", 30), number("SHAKEDOWN_SIGNAL_SEED", 0x51_6E).max(1));
    let mut below = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    let (dir, state) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let folder = format!("dir={}", dir.path().display());
    let shakedown = |argv: &[&str]| {
        let mut command = Command::new(binaries::shakedown());
        command.args(argv).env("SHAKEDOWN_STATE_DIR", state.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let run = ["run", "quickstart", "-p", &folder, "-p", "size=64KiB"];
    let one = || {
        let begun = Instant::now();
        assert!(shakedown(&run).output().expect("it starts").status.success());
        u64::try_from(begun.elapsed().as_micros()).expect("short")
    };
    let length = one().min(one()).min(one());
    let before = seen(dir.path());
    let (mut stopped, mut passed, mut early) = (0, 0, 0);
    for trial in 1..=trials {
        let child = shakedown(&run).spawn().expect("it starts");
        lasts(Duration::from_micros(below(length)));
        let (signal, code) =
            [("-INT", 130), ("-TERM", 143), ("-HUP", 129)][usize::try_from(below(3)).expect("small")];
        // It may have ended by now.
        let _gone =
            Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status();
        let output = child.wait_with_output().expect("it ends");
        let said =
            format!("trial {trial}, {signal}: {} {}", output.status, String::from_utf8_lossy(&output.stderr));
        match output.status.code() {
            Some(0) => passed += 1,
            Some(found) => {
                assert_eq!(found, code, "{said}");
                stopped += 1;
            }
            // Before it listens to signals it has done nothing either.
            None => early += 1,
        }
        let left: Vec<String> = seen(dir.path()).difference(&before).cloned().collect();
        assert!(left.is_empty(), "{said}: {left:?}");
    }
    let list = shakedown(&["runs", "--format", "json"]).output().expect("it starts");
    let runs: serde_json::Value = serde_json::from_slice(&list.stdout).expect("JSON");
    let runs = runs.as_array().expect("a list");
    let open = runs.iter().filter(|run| run["verdict"].is_null()).count();
    // It listens before it writes anything down.
    assert_eq!(open, 0, "runs without an end; {early} were ended before they listened");
    tests::tell(&format!(
        "{trials} signals: {stopped} runs stopped in good order, {passed} were over, {early} not begun; garbage 0"
    ));
}
