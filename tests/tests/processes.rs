//! Processes of steps in the lab: whatever they do to hide, they end with their step, here and on a host; and whatever
//! they write, it costs little.

use serde_json::Value;
use tests::lab::{Lab, Manifest, Output, binaries, lab_or_skip, until};

const PLAYBOOK: &str = "/root/it.yaml";
const EVENTS: &str = "/root/.local/state/shakedown/events.jsonl";

struct Stage {
    lab: Lab,
    before: Manifest,
}

impl Stage {
    fn new(lab: Lab, playbook: &str) -> Self {
        lab.edge().install_binary(binaries::shakedown_with_faults(), "/usr/local/bin/shakedown");
        lab.edge().sh("mkdir -p -m 700 /root/.local/state/shakedown").ok();
        lab.edge().write(PLAYBOOK, playbook);
        let before = lab.manifest();
        Self { lab, before }
    }

    fn run(&self, fault: &str) -> Output {
        let fault = format!("SHAKEDOWN_FAULTS={fault}");
        self.lab.edge().run(["env", &fault, "shakedown", "run", PLAYBOOK, "--events", EVENTS])
    }

    fn events(&self) -> Vec<Value> {
        let text = String::from_utf8(self.lab.edge().read(EVENTS)).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON Lines")).collect()
    }

    /// How many `sleep`s of these tests run in the boxes.
    fn sleepers(&self) -> usize {
        let nodes = [self.lab.edge(), self.lab.nas()].into_iter();
        nodes.flat_map(tests::lab::Node::processes).filter(|(_, argv)| argv == &["sleep", "4321"]).count()
    }

    fn assert_clean(&self) {
        assert_eq!(self.sleepers(), 0);
        let groups = self.lab.edge().sh("find /sys/fs/cgroup -name 'shakedown-*'").ok();
        assert_eq!(groups, "", "no control group stays");
        self.lab.edge().sh("rm -f /tmp/pid /tmp/pids").ok();
        self.lab.nas().sh("rm -f /tmp/pid /tmp/pids").ok();
        self.before.assert_same(&self.lab.manifest());
    }
}

/// Starts one that clears its environment, leaves its group and session, and loses its parent.
const HIDES: &str = "(env -i /usr/bin/setsid /bin/sh -c 'echo $$ >/tmp/pid; exec sleep 4321' &); while [ ! -s /tmp/pid ]; do :; done";

#[test]
fn one_that_hides_from_its_step_ends_with_it() {
    let playbook = format!(
        "
name: hides
monitor:
  step: {{ command: {{ shell: \"{HIDES}\", reads: true }} }}
"
    );
    let stage = Stage::new(lab_or_skip!(), &playbook);
    let output = stage.run("");
    assert_eq!(output.status.code(), Some(0), "{output}");
    assert!(stage.lab.edge().exists("/tmp/pid"), "it ran");
    stage.assert_clean();
}

#[test]
fn one_that_hides_does_not_outlive_a_recovery_either() {
    let playbook = format!(
        "
name: hides
prepare:
  helper: {{ process: {{ run: [/bin/sh, -c, \"{HIDES}; exec sleep 4321\"] }} }}
  ready:
    needs: [helper]
    command: {{ shell: 'while [ ! -s /tmp/pid ]; do sleep 0.05; done; rm /tmp/pid', reads: true }}
monitor:
  step: {{ command: {{ shell: \"{HIDES}; exec sleep 4321\", reads: true }} }}
"
    );
    let stage = Stage::new(lab_or_skip!(), &playbook);
    let running = stage.lab.edge().spawn(["shakedown", "run", PLAYBOOK, "--events", EVENTS]);
    until("all four run", || stage.sleepers() == 4);
    running.signal(nix::sys::signal::Signal::SIGKILL);
    let _killed = running.wait();
    assert_eq!(stage.sleepers(), 4, "they outlive the engine");
    let output = stage.lab.edge().run(["shakedown", "recover", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{output}");
    stage.assert_clean();
}

/// Starts 50 that leave their session, ignore signals and hold stdout; then waits for ever.
const FIFTY: &str = "for i in $(seq 50); do setsid sh -c 'trap \\\"\\\" TERM HUP INT; echo $$ >>/tmp/pids; while :; do sleep 4321; done' & done; wait";

#[test]
fn fifty_that_hold_the_pipes_are_dead_when_the_step_ends() {
    let stage = Stage::new(lab_or_skip!(), "");
    for (on, node) in [("local", stage.lab.edge()), ("nas", stage.lab.nas())] {
        let playbook = format!(
            "
name: fifty
hosts: {{ nas: {{ ssh: nas }} }}
monitor:
  step:
    on: {on}
    command: {{ shell: \"{FIFTY}\", reads: true }}
    timeout: 4s
"
        );
        stage.lab.edge().write(PLAYBOOK, playbook);
        let output = stage.run("");
        assert_eq!(output.status.code(), Some(2), "{on}: {output}");
        assert!(output.stdout.contains("did not finish within 4 s"), "{on}: {output}");
        assert_eq!(node.sh("wc -l </tmp/pids").ok().trim(), "50", "{on}");
        let finished = stage.events().into_iter().find(|event| event["event"] == "step_finished");
        let took = finished.expect("it did")["took_ms"].as_u64().expect("a number");
        // Its timeout, the grace, and a second; the machine may be busy with other tests.
        assert!(took < 4_000 + 2_000 + 1_000 + 3_000, "{on}: {took} ms");
        assert_eq!(stage.sleepers(), 0, "{on}");
    }
    stage.lab.edge().write(PLAYBOOK, "");
    stage.assert_clean();
}

/// What the kernel notes of a process's memory, in KiB: the most that it ever had.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

#[test]
fn a_gigabyte_of_output_costs_little_memory_and_little_journal() {
    let text = "head -c 1073741824 /dev/zero | tr '\\\\0' x";
    // The worst that text can be: every byte takes six in JSON.
    let control = "head -c 67108864 /dev/zero | tr '\\\\0' '\\\\1'";
    for (what, shell, bytes) in [("text", text, 1_u64 << 30), ("control", control, 64 << 20)] {
        let playbook = format!(
            "
name: {what}
monitor:
  step:
    command: {{ shell: \"{shell}\", reads: true }}
    expect: out.stdout_bytes == {bytes}
"
        );
        let stage = Stage::new(lab_or_skip!(), &playbook);
        let mut running = stage.lab.edge().spawn(["shakedown", "run", PLAYBOOK, "--events", EVENTS, "-q"]);
        let mut most = 0;
        while running.is_running() {
            most = most.max(peak(running.pid()).unwrap_or(0));
        }
        let output = running.wait();
        assert_eq!(output.status.code(), Some(0), "{output}");
        assert!((1..64 * 1024).contains(&most), "{what}: {most} KiB of memory");
        let state = "/root/.local/state/shakedown";
        let journal = stage.lab.edge().sh(&format!("cat {state}/journal.sqlite* | wc -c")).ok();
        let journal: u64 = journal.trim().parse().expect("a number");
        assert!(journal < 1024 * 1024, "{what}: {journal} bytes of journal");
        tests::tell(&format!(
            "{what}: {bytes} bytes of output, at most {most} KiB of memory, {journal} bytes of journal"
        ));
        stage.assert_clean();
    }
}

#[test]
fn binary_output_is_kept_exactly_and_never_reaches_the_terminal_raw() {
    // ESC ] 0 sets a terminal's title; U+202E turns the reading direction; 0xFF is no text at all.
    let playbook = r#"
name: binary
monitor:
  kept:
    command: { shell: "printf 'a\\377\\000\\033]0;x\\007b'", reads: true }
    expect: out.stdout_base64 == "Yf8AG10wO3gHYg==" && out.stdout_bytes == 10
  fails:
    needs: [kept]
    command: { shell: "printf '\\033]0;owned\\007 \\342\\200\\256 evil' >&2; exit 1", reads: true }
"#;
    let stage = Stage::new(lab_or_skip!(), playbook);
    let output = stage.lab.edge().run(["shakedown", "run", PLAYBOOK, "--color", "never"]);
    assert_eq!(output.status.code(), Some(2), "{output}");
    for text in [&output.stdout, &output.stderr] {
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}', '\0']), "{text:?}");
    }
    assert!(output.stdout.contains("evil"), "it is shown nonetheless: {output}");
    stage.assert_clean();
}
