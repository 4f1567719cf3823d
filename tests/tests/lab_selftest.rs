//! The lab proves itself: a test that passes in a broken lab proves nothing about Shakedown.

use std::io::BufRead;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::lab::{DAEMON, Lab, MEDIA, REMOTE, lab_or_skip, until};

const NAME: &str = "20250123_101500_smoketest_1.txt";
const SUM: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const ADDED: &str =
    "INSERT INTO media_transfer_status (file_path, file_name, file_size, file_hash, download_status)";

/// Puts a file of five bytes in place with its row, as the dock manager does.
fn add(lab: &Lab, name: &str) {
    lab.edge().write(&format!("{MEDIA}/{name}"), "hello");
    lab.sql(&format!("{ADDED} VALUES ('{MEDIA}/{name}', '{name}', 5, '{SUM}', 'completed')"));
}

fn status(lab: &Lab, name: &str) -> String {
    let sql = format!("SELECT transfer_status FROM media_transfer_status WHERE file_name = '{name}'");
    lab.sql(&sql).trim().to_owned()
}

#[test]
fn both_boxes_boot_and_the_daemon_sends_a_file() {
    let lab = lab_or_skip!();
    for node in [lab.edge(), lab.nas()] {
        assert_eq!(node.sh("systemctl is-system-running").stdout.trim(), "running", "{}", node.name());
        assert_eq!(node.sh("hostname").ok().trim(), node.name());
    }
    let state = lab.daemon_state();
    assert_eq!((state.active.as_str(), state.sub.as_str()), ("active", "running"));
    assert_ne!(state.pid, 0);
    assert_eq!(lab.sql("PRAGMA journal_mode").trim(), "wal");

    add(&lab, NAME);
    until("the row is completed", || status(&lab, NAME) == "completed");
    let copy = format!("{REMOTE}/2025/01/23/{NAME}");
    assert_eq!(lab.nas().read(&copy), b"hello");
    assert_eq!(lab.nas().sh(&format!("stat -c %U {copy}")).ok().trim(), "drone");
}

#[test]
fn ssh_reaches_the_nas_until_the_link_is_cut_and_again_after() {
    let lab = lab_or_skip!();
    let ssh = |line: &str| lab.edge().sh(&format!("ssh -o BatchMode=yes -o ConnectTimeout=1 nas {line}"));
    assert_eq!(ssh("id -un").ok().trim(), "drone");
    let mut pilot = lab.edge().command_as("pilot", ["ssh", "-o", "BatchMode=yes", "nas", "hostname"]);
    assert_eq!(pilot.output().expect("sh starts").stdout, b"nas\n");

    lab.link_down();
    let cut = ssh("true");
    assert_eq!(cut.status.code(), Some(255), "{cut}");
    assert!(cut.stderr.contains("timed out"), "a cut is silent: {cut}");
    lab.link_up();
    assert_eq!(ssh("id -un").ok().trim(), "drone");
}

#[test]
fn a_session_survives_a_short_cut() {
    let lab = lab_or_skip!();
    let session = lab.edge().spawn(["ssh", "nas", "cat; echo end"]);
    until("it is connected", || lab.nas().sh("pgrep -u drone -x cat").status.success());
    lab.link_down();
    let mut child = session;
    std::io::Write::write_all(child.child.stdin.as_mut().expect("piped"), b"through\n").expect("write");
    lab.link_up();
    assert_eq!(child.wait().ok(), "through\nend\n");
}

#[test]
fn a_crash_at_each_start_shows_as_auto_restart_and_not_as_failed() {
    let lab = lab_or_skip!();
    lab.set_faults(r#"{"crash_at_start": true}"#);
    lab.restart_daemon();
    until("systemd waits to restart it", || {
        let state = lab.daemon_state();
        state.active == "activating" && state.sub == "auto-restart" && state.restarts >= 2
    });
    lab.set_faults("{}");
    until("it runs again by itself", || lab.daemon_state().active == "active");
}

#[test]
fn a_failed_transfer_fails_the_row_with_its_message() {
    let lab = lab_or_skip!();
    lab.set_faults(r#"{"fail_transfer": "rsync: connection unexpectedly closed"}"#);
    lab.restart_daemon();
    add(&lab, NAME);
    until("the row is failed", || status(&lab, NAME) == "failed");
    let message = lab.sql("SELECT last_error_message FROM media_transfer_status");
    assert_eq!(message.trim(), "rsync: connection unexpectedly closed");
}

#[test]
fn a_checksum_mismatch_shows_only_as_an_error_line_at_priority_info() {
    let lab = lab_or_skip!();
    lab.set_faults(r#"{"checksum_mismatch": true}"#);
    lab.restart_daemon();
    add(&lab, NAME);
    until("the journal has the line", || lab.daemon_journal().contains("checksum mismatch"));
    let line = lab.edge().sh(&format!("journalctl -o json -u {DAEMON} --grep 'checksum mismatch'")).ok();
    let entry: serde_json::Value = serde_json::from_str(line.lines().next().expect("a line")).expect("JSON");
    assert_eq!(entry["PRIORITY"], "6", "{entry}");
    let text = entry["MESSAGE"].as_str().expect("text");
    assert!(text.contains(" ERROR ") && text.contains(NAME) && text.contains(SUM), "{text}");
    let errors = lab.edge().sh(&format!("journalctl -q -o cat -p err -u {DAEMON}")).ok();
    assert_eq!(errors, "", "by priority there is none");

    // It stays so, though the daemon goes on: the next file arrives.
    lab.set_faults("{}");
    let next = "20250123_101501_smoketest_2.txt";
    add(&lab, next);
    until("the next file is sent", || status(&lab, next) == "completed");
    assert_eq!(status(&lab, NAME), "downloading");
    lab.restart_daemon();
    until("it runs again", || lab.daemon_journal().matches("daemon started").count() >= 3);
    assert_eq!(status(&lab, NAME), "downloading");
}

#[test]
fn a_hung_daemon_is_active_and_takes_no_row() {
    let lab = lab_or_skip!();
    let faults = r#"{"hang": true}"#;
    lab.set_faults(faults);
    lab.restart_daemon();
    add(&lab, NAME);
    // It reads nothing but its faults file now, once a sync: so the bytes read count its syncs.
    let daemon = lab.edge().sh(&format!("systemctl show -p MainPID --value {DAEMON}")).ok();
    let daemon = daemon.trim();
    let bytes_read = || -> usize {
        let io = lab.edge().sh(&format!("sed -n 's/^rchar: //p' /proc/{daemon}/io"));
        io.ok().trim().parse().expect("a number")
    };
    let from = bytes_read();
    until("three syncs have passed", || bytes_read() >= from + 3 * faults.len());
    assert_eq!(lab.daemon_state().active, "active");
    assert_eq!(status(&lab, NAME), "pending");
    lab.set_faults("{}");
    until("the row is completed", || status(&lab, NAME) == "completed");
}

#[test]
fn sigterm_ends_a_daemon_in_the_middle_of_a_transfer_at_once() {
    let lab = lab_or_skip!();
    lab.set_faults(r#"{"slow_ms": 600000}"#);
    lab.restart_daemon();
    add(&lab, NAME);
    until("the transfer is under way", || status(&lab, NAME) == "downloading");
    let asked = Instant::now();
    lab.stop_daemon();
    assert!(asked.elapsed() < Duration::from_secs(4), "systemd did not have to kill it");
    assert_eq!(lab.daemon_state().active, "inactive");
    assert_eq!(status(&lab, NAME), "pending");
}

#[test]
fn the_manifest_sees_each_kind_of_garbage_and_nothing_else() {
    let lab = lab_or_skip!();
    lab.stop_daemon();
    let before = lab.manifest();
    before.assert_same(&lab.manifest());

    add(&lab, NAME);
    lab.nas().write("/volume1/drone/drone_media/left.txt", "x");
    let left = lab.edge().spawn(["sleep", "1000001"]);
    lab.edge().sh("systemd-run --unit=left-unit sleep 1000002").ok();
    lab.edge().sh("ssh -fNM -S /tmp/left-socket nas").ok();
    let difference = before.diff(&lab.manifest()).join("\n");
    for expected in [
        &format!("+ edge file {MEDIA}/{NAME}"),
        "+ edge row 1",
        "+ nas file /volume1/drone/drone_media/left.txt",
        "+ edge process sleep 1000001",
        "+ edge unit left-unit.service",
        "+ edge socket u_str /tmp/left-socket",
    ] {
        assert!(difference.contains(expected), "no `{expected}` in\n{difference}");
    }

    left.signal(Signal::SIGKILL);
    assert!(left.wait().status.code().is_none(), "it ends as its program did");
    lab.edge().sh("systemctl stop left-unit; ssh -S /tmp/left-socket -O exit nas").ok();
    lab.edge().sh(&format!("rm {MEDIA}/{NAME}")).ok();
    lab.nas().sh("rm /volume1/drone/drone_media/left.txt").ok();
    lab.sql("DELETE FROM media_transfer_status");
    until("nothing is left", || before.diff(&lab.manifest()).is_empty());
}

#[test]
fn commands_run_as_processes_of_the_box() {
    let lab = lab_or_skip!();
    assert_eq!(lab.edge().sh("cat /proc/self/cgroup | tail -n 1").ok().trim(), "0::/lab");
    let mut command = lab.edge().command_as("pilot", ["sh", "-c", "id -un; pwd; touch /data/x"]);
    let output = command.output().expect("sh starts");
    assert_eq!(output.stdout, b"pilot\n/\n");
    assert!(!output.status.success(), "the pilot cannot write there");
    // Built here, it runs there.
    lab.edge().install_binary(tests::lab::binaries::daemon(), "/tmp/daemon");
    assert!(lab.edge().sh("/tmp/daemon --help").ok().contains("--faults FILE"));
}

/// What this machine shows of this process's labs: mounts, names of networks, links, control groups, folders, and
/// of these processes.
fn traces(owner: u32, processes: &[u32]) -> Vec<String> {
    let lab = format!("shakedown-lab-{owner}-");
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().expect("starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let with = |text: String, part: &str| -> Vec<String> {
        text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    };
    let alive = processes.iter().filter(|pid| std::fs::metadata(format!("/proc/{pid}")).is_ok());
    let folders = std::fs::read_dir(std::env::temp_dir()).expect("temp dir").flatten();
    let folders: Vec<_> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    [
        alive.map(|pid| format!("process {pid}")).collect(),
        with(std::fs::read_to_string("/proc/self/mountinfo").expect("mounts"), &lab),
        with(said("ip", &["netns", "list"]), "edge"),
        with(said("ip", &["-o", "link"]), "to-edge"),
        with(said("find", &["/sys/fs/cgroup", "-maxdepth", "2", "-type", "d"]), &lab),
        with(folders.join("\n"), &lab),
    ]
    .concat()
}

/// Runs this test again in a process of its own, with `LAB_ALONE` set, for other labs would be traces too.
fn alone(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("path"));
    command.args(["--exact", name, "--nocapture"]).env("LAB_ALONE", "1");
    command
}

fn is_alone() -> bool {
    std::env::var_os("LAB_ALONE").is_some()
}

#[test]
fn a_dropped_lab_leaves_nothing_not_even_after_a_panic() {
    if !is_alone() {
        let output = alone("a_dropped_lab_leaves_nothing_not_even_after_a_panic").output().expect("starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let me = std::process::id();
    let lab = lab_or_skip!();
    let processes: Vec<u32> =
        [lab.edge(), lab.nas()].iter().flat_map(|node| node.processes()).map(|(pid, _)| pid).collect();
    assert!(processes.len() > 6, "{processes:?}");
    assert!(traces(me, &processes).len() > processes.len(), "what is looked for is there while it runs");
    lab.stop().expect("all gone");
    assert_eq!(traces(me, &processes), [""; 0]);

    let panicked = std::panic::catch_unwind(|| {
        let lab = Lab::start().expect("a second lab");
        std::panic::panic_any(lab.edge().leader());
    });
    let leader: u32 = *panicked.expect_err("panics").downcast().expect("its leader");
    assert_eq!(traces(me, &[leader]), [""; 0]);
}

#[test]
fn the_lab_of_a_killed_owner_ends_with_it_and_the_next_one_sweeps_its_folder() {
    if is_alone() {
        let lab = lab_or_skip!();
        println_leader(&lab);
        loop {
            std::thread::park();
        }
    }
    let name = "the_lab_of_a_killed_owner_ends_with_it_and_the_next_one_sweeps_its_folder";
    let mut owner = alone(name).stdout(std::process::Stdio::piped()).spawn().expect("starts");
    let lines = std::io::BufReader::new(owner.stdout.take().expect("piped"));
    let leader =
        lines.lines().map_while(Result::ok).find_map(|line| line.strip_prefix("leader ")?.parse().ok());
    owner.kill().expect("kill");
    owner.wait().expect("wait");
    // None: it was skipped, and has said so.
    let Some(leader) = leader else { return };
    until("its boxes are gone", || std::fs::metadata(format!("/proc/{leader}")).is_err());
    until("its folder and groups are swept", || {
        drop(Lab::start());
        traces(owner.id(), &[leader]).is_empty()
    });
}

/// For the test's parent, which reads this process's stdout past the test runner.
fn println_leader(lab: &Lab) {
    let line = format!("\nleader {}\n", lab.edge().leader());
    std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).expect("write");
}

#[test]
fn the_edge_box_comes_up_again_after_a_reboot_and_after_a_power_cut() {
    let mut lab = lab_or_skip!();
    let boot_id = |lab: &Lab| lab.edge().sh("cat /proc/sys/kernel/random/boot_id").ok();
    add(&lab, NAME);
    until("the row is completed", || status(&lab, NAME) == "completed");
    let mut boots = vec![boot_id(&lab)];
    let sleeping = lab.edge().spawn(["sleep", "1000003"]);

    lab.reboot_edge();
    boots.push(boot_id(&lab));
    lab.power_cut_edge();
    boots.push(boot_id(&lab));

    boots.dedup();
    assert_eq!(boots.len(), 3, "each boot has its own id: {boots:?}");
    assert!(!sleeping.wait().status.success());
    assert_eq!(status(&lab, NAME), "completed", "the disk stays");
    add(&lab, "20250123_101501_smoketest_2.txt");
    until("the next is sent", || status(&lab, "20250123_101501_smoketest_2.txt") == "completed");
}

#[test]
fn a_full_disk_and_a_read_only_one_can_be_made() {
    let lab = lab_or_skip!();
    lab.edge().sh(&format!("mount -t tmpfs -o size=64k tmpfs {MEDIA}")).ok();
    let full = lab.edge().sh(&format!("head -c 1000000 /dev/zero >{MEDIA}/x"));
    assert!(full.stderr.contains("No space left"), "{full}");
    lab.edge().sh(&format!("mount -o remount,ro {MEDIA}")).ok();
    let read_only = lab.edge().sh(&format!("rm {MEDIA}/x"));
    assert!(read_only.stderr.contains("Read-only"), "{read_only}");
}
