//! The main job on real systems: `media-sync` in the lab, passing, refused and failing in each way of the field.

use serde_json::Value;
use tests::lab::{CONFIG, Lab, MEDIA, Manifest, Output, REMOTE, binaries, lab_or_skip, until};

const EVENTS: &str = "/root/.local/state/shakedown/events.jsonl";

/// A lab with `shakedown` in its edge box, and what it looked like before.
struct Stage {
    lab: Lab,
    before: Manifest,
}

impl Stage {
    fn new(lab: Lab) -> Self {
        lab.edge().install_binary(binaries::shakedown(), "/usr/local/bin/shakedown");
        lab.edge().sh("mkdir -p -m 700 /root/.local/state/shakedown").ok();
        let before = lab.manifest();
        Self { lab, before }
    }

    fn run(&self, playbook: &str, more: &[&str]) -> Output {
        let config = format!("config={CONFIG}");
        let mut argv = vec!["shakedown", "run", playbook, "--no-input", "--events", EVENTS];
        if playbook.starts_with("media-sync") {
            argv.extend(["-p", &config]);
        }
        argv.extend(more);
        self.lab.edge().run(argv)
    }

    /// Everything the run said.
    fn said(output: &Output) -> String {
        format!("{}{}", output.stdout, output.stderr)
    }

    fn events(&self) -> Vec<Value> {
        let text = String::from_utf8(self.lab.edge().read(EVENTS)).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON Lines")).collect()
    }

    /// Nothing is left: files, rows, units, processes, sockets, remote files.
    fn assert_clean(&self) {
        self.before.assert_same(&self.lab.manifest());
    }
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[test]
fn media_sync_passes_and_leaves_nothing() {
    let stage = Stage::new(lab_or_skip!());
    let output = stage.run("media-sync", &[]);
    assert_eq!(code(&output), Some(0), "{output}");
    assert!(Stage::said(&output).contains("PASSED media-sync"), "{output}");
    stage.assert_clean();
}

#[test]
fn a_plan_changes_nothing_and_foresees_a_stopped_daemon() {
    let stage = Stage::new(lab_or_skip!());
    let config = format!("config={CONFIG}");
    let plan = || stage.lab.edge().run(["shakedown", "plan", "media-sync", "-p", &config]);
    let output = plan();
    assert_eq!(code(&output), Some(0), "{output}");
    assert!(output.stdout.contains("undo:"), "{output}");
    stage.assert_clean();

    stage.lab.stop_daemon();
    let stopped = stage.lab.manifest();
    let output = plan();
    assert_eq!(code(&output), Some(1), "{output}");
    assert!(output.stdout.contains("WOULD FAIL"), "{output}");
    stopped.assert_same(&stage.lab.manifest());
}

#[test]
fn a_stopped_daemon_is_refused_with_hints_and_nothing_is_created() {
    let stage = Stage::new(lab_or_skip!());
    stage.lab.stop_daemon();
    let stopped = stage.lab.manifest();
    for playbook in ["media-sync", "media-sync-diagnostics"] {
        let output = stage.run(playbook, &[]);
        assert_eq!(code(&output), Some(1), "{output}");
        assert!(Stage::said(&output).contains("sudo systemctl restart media-sync-daemon"), "{output}");
        let started = |event: &&Value| event["event"] == "step_started" && !event["intent"].is_null();
        assert_eq!(stage.events().iter().filter(started).count(), 0, "no effect has begun");
        stopped.assert_same(&stage.lab.manifest());
    }
}

#[test]
fn a_daemon_that_crashes_at_every_start_is_refused() {
    let stage = Stage::new(lab_or_skip!());
    stage.lab.set_faults(r#"{"crash_at_start": true}"#);
    stage.lab.restart_daemon();
    until("systemd restarts it again and again", || stage.lab.daemon_state().restarts >= 2);
    let output = stage.run("media-sync", &[]);
    assert_eq!(code(&output), Some(1), "{output}");
    let said = Stage::said(&output);
    assert!(
        said.contains("auto-restart") && said.contains("journalctl"),
        "the crash loop is named: {output}"
    );
    assert_eq!(stage.lab.sql("SELECT count(*) FROM media_transfer_status").trim(), "0");
    assert_eq!(stage.lab.edge().sh(&format!("ls -A {MEDIA}")).ok(), "");
}

#[test]
fn a_failed_transfer_ends_the_run_at_once_and_all_is_undone() {
    let stage = Stage::new(lab_or_skip!());
    stage.lab.set_faults(r#"{"fail_transfer": "rsync: connection unexpectedly closed"}"#);
    let output = stage.run("media-sync", &[]);
    assert_eq!(code(&output), Some(2), "{output}");
    assert!(Stage::said(&output).contains("rsync: connection unexpectedly closed"), "{output}");
    stage.lab.set_faults("{}");
    let faults_file = stage.lab.manifest().matching("faults.json");
    let left: Vec<_> = stage.before.diff(&stage.lab.manifest());
    let other: Vec<_> = left.iter().filter(|line| !line.contains("faults.json")).collect();
    assert!(other.is_empty(), "{other:?} beside {faults_file:?}");
}

#[test]
fn a_checksum_mismatch_ends_the_run_with_the_daemons_own_words() {
    let stage = Stage::new(lab_or_skip!());
    stage.lab.set_faults(r#"{"checksum_mismatch": true}"#);
    let output = stage.run("media-sync", &[]);
    assert_eq!(code(&output), Some(2), "{output}");
    let journal = stage.lab.daemon_journal();
    let line = journal.lines().find(|line| line.contains("ERROR")).expect("the daemon logs it");
    let message = line.split_once("ERROR").map(|(_, message)| message.trim()).unwrap_or_default();
    let start: String = message.chars().take(40).collect();
    assert!(Stage::said(&output).contains(&start), "`{start}` is quoted: {output}");
    assert_eq!(
        stage.lab.nas().sh(&format!("find {REMOTE} -type f")).ok(),
        "",
        "the copy on the NAS is gone too"
    );
    assert_eq!(stage.lab.sql("SELECT count(*) FROM media_transfer_status").trim(), "0");
    assert_eq!(stage.lab.edge().sh(&format!("ls -A {MEDIA}")).ok(), "");
}

#[test]
fn an_interrupt_in_the_middle_undoes_everything() {
    let stage = Stage::new(lab_or_skip!());
    // The daemon takes no rows, so that the monitor phase waits.
    stage.lab.set_faults(r#"{"hang": true}"#);
    let before = stage.lab.manifest();
    let config = format!("config={CONFIG}");
    let running = stage.lab.edge().spawn(["shakedown", "run", "media-sync", "-p", &config]);
    let rows = || stage.lab.sql("SELECT count(*) FROM media_transfer_status").trim().to_owned();
    until("the row is there", || rows() == "1");
    running.signal(nix::sys::signal::Signal::SIGINT);
    let output = running.wait();
    assert_eq!(code(&output), Some(130), "{output}");
    before.assert_same(&stage.lab.manifest());
}

#[test]
fn the_health_of_a_host_is_read_here_and_over_ssh() {
    let stage = Stage::new(lab_or_skip!());
    // The clock of a lab is not synchronized, and the NAS's user may not read its journal: just these are found.
    for (more, found) in [(&[][..], &["clock"][..]), (&["-p", "host=nas"], &["clock", "errors"])] {
        // Other tests may keep the machine busy.
        let more = [more, &["-p", "max_load_per_core=1000"]].concat();
        let output = stage.run("host-health", &more);
        assert_eq!(code(&output), Some(1), "{output}");
        for step in ["space", "load", "units", "errors", "clock"] {
            let named = output.stdout.contains(&format!("  {step}: "));
            assert_eq!(named, found.contains(&step), "{step}: {output}");
        }
        assert!(output.stdout.contains("hint: timedatectl status"), "{output}");
    }
    // Asking for the time starts systemd's own daemon for it, which ends by itself later.
    let left = stage.before.diff(&stage.lab.manifest());
    let ours: Vec<_> = left.iter().filter(|line| !line.contains("timedate")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[test]
fn files_of_a_host_are_made_copied_put_aside_and_all_taken_back() {
    let stage = Stage::new(lab_or_skip!());
    stage.lab.nas().sh(&format!("cd {REMOTE} && echo theirs > 'old one' && chown drone: 'old one'")).ok();
    let before = stage.lab.manifest();
    let playbook = format!(
        r#"
name: remote-files
hosts: {{ nas: {{ ssh: nas }} }}
vars: {{ home: "{REMOTE}/家 '$(touch X)'" }}
prepare:
  home: {{ on: nas, file: {{ directory: "${{{{ vars.home }}}}", mode: "0750" }} }}
  made: {{ on: nas, needs: [home], file: {{ create: "${{{{ vars.home }}}}/a", size: 1MiB, mode: "0640" }} }}
  copied: {{ on: nas, file: {{ copy: "${{{{ steps.made.out.path }}}}", to: "${{{{ vars.home }}}}/b" }} }}
  aside: {{ on: nas, file: {{ remove: "{REMOTE}/old one", must_exist: true }} }}
monitor:
  same: {{ on: nas, hash: {{ path: "${{{{ steps.copied.out.path }}}}" }}, expect: out.sha256 == steps.made.out.sha256 }}
  gone: {{ on: nas, file: {{ stat: "{REMOTE}/old one" }}, expect: "!out.exists" }}
  mode: {{ on: nas, file: {{ stat: "${{{{ steps.made.out.path }}}}" }}, expect: out.mode == "0640" && out.size == 1048576 }}
"#
    );
    stage.lab.edge().write("/root/remote.yaml", playbook);
    let output = stage.run("/root/remote.yaml", &[]);
    assert_eq!(code(&output), Some(0), "{output}");
    assert!(Stage::said(&output).contains("undone 4 of 4"), "{output}");
    stage.lab.edge().sh("rm /root/remote.yaml").ok();
    before.assert_same(&stage.lab.manifest());
}
