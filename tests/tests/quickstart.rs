//! The quickstart on the bare machine: it passes, its plan changes nothing, and whatever goes wrong nothing is left.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tests::{
    folders::said,
    lab::{binaries, until},
};

/// A folder for the run and one for Shakedown's own state.
struct Stage {
    dir: tempfile::TempDir,
    state: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder"), state: tempfile::tempdir().expect("a folder") }
    }

    fn shakedown(&self, argv: &[&str]) -> Command {
        let mut command = Command::new(binaries::shakedown());
        command.args(argv).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("SHAKEDOWN_STATE_DIR", self.state.path()).env("NO_COLOR", "1");
        command
    }

    fn run(&self, argv: &[&str]) -> Output {
        self.shakedown(argv).output().expect("it starts")
    }

    fn dir_param(&self) -> String {
        format!("dir={}", self.dir.path().display())
    }

    /// Every file below the folder, with what can change about it; and no process that works there.
    fn manifest(&self) -> BTreeMap<String, String> {
        fn walk(dir: &Path, found: &mut BTreeMap<String, String>) {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let facts =
                    entry.metadata().map(|m| format!("{:o} {} {}", m.mode(), m.size(), m.mtime_nsec()));
                found.insert(entry.path().display().to_string(), facts.unwrap_or_default());
                walk(&entry.path(), found);
            }
        }
        let mut found = BTreeMap::new();
        walk(self.dir.path(), &mut found);
        found
    }

    /// Processes whose arguments name the folder.
    fn processes(&self) -> Vec<String> {
        let own = self.dir.path().display().to_string();
        let all = std::fs::read_dir("/proc").expect("/proc").flatten();
        all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .map(|argv| String::from_utf8_lossy(&argv).replace('\0', " "))
            .filter(|argv| argv.contains("stand-in") && argv.contains(&own))
            .collect()
    }

    fn assert_clean(&self, before: &BTreeMap<String, String>) {
        assert_eq!(*before, self.manifest());
        assert_eq!(self.processes(), Vec::<String>::new());
        let scratch = self.state.path().join("scratch");
        let left = std::fs::read_dir(scratch).map(|entries| entries.count()).unwrap_or(0);
        assert_eq!(left, 0, "the run's private folder is gone");
    }
}

#[test]
fn it_passes_and_leaves_nothing() {
    let stage = Stage::new();
    let before = stage.manifest();
    let output = stage.run(&["run", "quickstart", "-p", &stage.dir_param()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("PASSED quickstart"), "{}", said(&output));
    stage.assert_clean(&before);
}

#[test]
fn its_plan_changes_nothing_and_its_json_is_pure() {
    let stage = Stage::new();
    let before = stage.manifest();
    let output = stage.run(&["plan", "quickstart", "-p", &stage.dir_param(), "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let plan: Value = serde_json::from_slice(&output.stdout).expect("stdout is JSON and nothing else");
    assert!(plan["schema_version"].is_number());
    stage.assert_clean(&before);
}

#[test]
fn what_was_planned_is_what_ran() {
    let stage = Stage::new();
    let report = stage.state.path().join("report.json");
    let arg = format!("json={}", report.display());
    let output = stage.run(&["run", "quickstart", "-p", &stage.dir_param(), "--report", &arg]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report: Value = serde_json::from_slice(&std::fs::read(report).expect("a report")).expect("JSON");
    assert_eq!((&report["ending"], &report["exit_code"]), (&Value::from("passed"), &Value::from(0)));
    assert_eq!(report["counts"]["planned"], report["counts"]["ran"]);
    let run = stage.run(&["runs"]);
    assert!(said(&run).contains("quickstart"), "{}", said(&run));
}

#[test]
fn a_transfer_that_takes_too_long_fails_and_all_is_undone() {
    let stage = Stage::new();
    let before = stage.manifest();
    let output = stage.run(&["run", "quickstart", "-p", &stage.dir_param(), "-p", "timeout=1ms"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("did not finish within 1 ms"), "{}", said(&output));
    stage.assert_clean(&before);
}

#[test]
fn an_interrupt_undoes_everything_and_says_so_by_its_exit_code() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let stage = Stage::new();
        let before = stage.manifest();
        // Writing 1 GiB takes longer than the signal takes to arrive.
        let child = stage
            .shakedown(&["run", "quickstart", "-p", &stage.dir_param(), "-p", "size=1GiB"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        until("the daemon runs", || !stage.processes().is_empty());
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        stage.assert_clean(&before);
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a CI script counts these lines")]
fn a_full_disk_is_named_with_a_next_step_and_nothing_is_left() {
    let stage = Stage::new();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
        .arg(stage.dir.path())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("SKIPPED lab test: mounting a small file system needs root");
        return;
    }
    let before = stage.manifest();
    let argv = ["run", "quickstart", "-p", &stage.dir_param(), "-p", "size=8MiB"];
    let refused = stage.run(&argv);
    assert_eq!(refused.status.code(), Some(1), "the precheck finds it: {}", said(&refused));
    let forced = stage.run(&[&argv[..], &["--force"]].concat());
    let clean = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.assert_clean(&before)));
    let unmounted = Command::new("umount").arg("-l").arg(stage.dir.path()).status();
    assert_eq!(forced.status.code(), Some(5), "the environment's fault: {}", said(&forced));
    assert!(said(&forced).contains("df -h"), "{}", said(&forced));
    assert!(clean.is_ok() && unmounted.is_ok_and(|status| status.success()));
}
