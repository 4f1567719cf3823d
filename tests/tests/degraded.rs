//! What protects a run and cannot be used is told, with what that means; the verdict stands.

use std::process::Command;
use tests::lab::{Lab, binaries, lab_or_skip};

const PLAYBOOK: &str = "name: smoke
hosts: { nas: { ssh: nas } }
prepare:
  sleeper: { process: { run: [sleep, '4242'] } }
  stopped: { systemd: { unit: media-sync-daemon, do: stop } }
monitor:
  command: { command: { run: ['true'], reads: true } }
  there: { timeout: 10s, wait: { until: { file: { stat: /root/smoke.yaml } }, succeed_when: out.exists } }
  far: { on: nas, command: { run: ['true'], reads: true } }
";
/// The login on the NAS is no root's, and has no service manager.
const FAR: &str = "no control groups on `nas`: this login may not make any; ";
/// Each with what takes something away, in a mount namespace of its own, and what is told then besides.
const CASES: [(&str, &str); 4] = [
    ("true", ""),
    (
        "mount --bind /sys/fs/cgroup /sys/fs/cgroup && mount -o remount,bind,ro /sys/fs/cgroup",
        "no control groups on this machine: Read-only file system",
    ),
    ("mkdir /tmp/none && mount --bind /tmp/none /sys/fs/cgroup", "no control groups on this machine: "),
    ("mount -t tmpfs none /run/dbus", "no bus of the service manager: "),
];

/// The lines that tell of it, in the closing block and in the JSON report.
fn degraded(lab: &Lab, before: &str) -> (Vec<String>, serde_json::Value) {
    let line =
        format!("{before} && cd /root && exec shakedown run smoke.yaml --report json=/root/report.json");
    let output = lab.edge().run(["unshare", "-m", "--", "sh", "-c", &line]);
    assert_eq!(output.status.code(), Some(0), "{before}: {output}");
    let block = output.stdout.lines().filter_map(|line| line.trim().strip_prefix("degraded: "));
    let report = lab.edge().sh("cat /root/report.json; rm /root/report.json").ok();
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    (block.map(str::to_owned).collect(), report["degraded"].clone())
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().expect("text")
}

#[test]
fn what_could_not_be_used_is_told() {
    let lab = lab_or_skip!();
    lab.edge().install_binary(binaries::shakedown(), "/usr/local/bin/shakedown");
    lab.edge().write("/root/smoke.yaml", PLAYBOOK);
    for (before, expected) in CASES {
        let (block, report) = degraded(&lab, before);
        let expected: Vec<_> = [expected, FAR].into_iter().filter(|begin| !begin.is_empty()).collect();
        let is_told = |begin: &&str| block.iter().any(|line| line.starts_with(begin));
        assert!(expected.iter().all(is_told) && block.len() == expected.len(), "{before}: {block:?}");
        let words = |told: &serde_json::Value| format!("{}; {}", text(&told["what"]), text(&told["means"]));
        let told: Vec<_> = report.as_array().expect("a list").iter().map(words).collect();
        assert_eq!(told, block, "{before}");
    }
}

#[test]
fn nothing_can_be_watched_where_no_watch_may_be_had() {
    let dir = tempfile::tempdir().expect("a folder");
    let playbook = "name: smoke\nmonitor:\n  there: { timeout: 10s, wait: { until: { file: { stat: smoke.yaml } }, \
                    succeed_when: out.exists } }\n";
    std::fs::write(dir.path().join("smoke.yaml"), playbook).expect("written");
    // The count belongs to the user's namespace.
    let line = "echo 0 >/proc/sys/user/max_inotify_instances && exec \"$0\" run smoke.yaml";
    let output = Command::new("unshare")
        .args(["-Urm", "--", "/bin/sh", "-c", line])
        .arg(binaries::shakedown())
        .current_dir(&dir)
        .env("XDG_STATE_HOME", dir.path().join("state"))
        .output()
        .expect("starts");
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{error}");
    assert!(out.contains("degraded: no word of changes of files (inotify): "), "{out}{error}");
}
