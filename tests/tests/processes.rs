//! Processes of steps in the lab: whatever they do to hide, they end with their step, here and on a host; and whatever
//! they write, it costs little.

use tests::{
    lab::{lab_or_skip, until},
    stage::{STATE, Stage},
};

/// How many `sleep`s of these tests run in the boxes.
fn sleepers(stage: &Stage) -> usize {
    let nodes = [stage.lab.edge(), stage.lab.nas()].into_iter();
    nodes.flat_map(tests::lab::Node::processes).filter(|(_, argv)| argv == &["sleep", "4321"]).count()
}

fn assert_clean(stage: &Stage) {
    assert_eq!(sleepers(stage), 0);
    let groups = stage.lab.edge().sh("find /sys/fs/cgroup -name 'shakedown-*'").ok();
    assert_eq!(groups, "", "no control group stays");
    stage.lab.edge().sh("rm -f /tmp/pid /tmp/pids").ok();
    stage.lab.nas().sh("rm -f /tmp/pid /tmp/pids").ok();
    stage.assert_clean();
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
    let output = stage.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{output}");
    assert!(stage.lab.edge().exists("/tmp/pid"), "it ran");
    assert_clean(&stage);
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
    let running = stage.start(&[]);
    until("all four run", || sleepers(&stage) == 4);
    running.signal(nix::sys::signal::Signal::SIGKILL);
    let _killed = running.wait();
    assert_eq!(sleepers(&stage), 4, "they outlive the engine");
    let output = stage.shakedown(&["recover", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{output}");
    assert_clean(&stage);
}

/// Starts 50 that leave their session, ignore signals and hold stdout; then waits for ever.
const FIFTY: &str = "for i in $(seq 50); do setsid sh -c 'trap \\\"\\\" TERM HUP INT; echo $$ >>/tmp/pids; while :; do sleep 4321; done' & done; wait";

#[test]
fn fifty_that_hold_the_pipes_are_dead_when_the_step_ends() {
    let mut stage = Stage::new(lab_or_skip!(), "");
    for on in ["local", "nas"] {
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
        stage.lab.edge().sh("rm -f /tmp/pids").ok();
        stage.playbook(&playbook);
        let output = stage.run(&[]);
        assert_eq!(output.status.code(), Some(2), "{on}: {output}");
        assert!(output.stdout.contains("did not finish within 4 s"), "{on}: {output}");
        let node = if on == "nas" { stage.lab.nas() } else { stage.lab.edge() };
        assert_eq!(node.sh("wc -l </tmp/pids").ok().trim(), "50", "{on}");
        let finished = stage.events().into_iter().find(|event| event["event"] == "step_finished");
        let took = finished.expect("it did")["took_ms"].as_u64().expect("a number");
        // Its timeout, the grace, and a second; the machine may be busy with other tests.
        assert!(took < 4_000 + 2_000 + 1_000 + 3_000, "{on}: {took} ms");
        assert_eq!(sleepers(&stage), 0, "{on}");
    }
    assert_clean(&stage);
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
        let mut running = stage.start(&["-q"]);
        let mut most = 0;
        while running.is_running() {
            most = most.max(peak(running.pid()).unwrap_or(0));
        }
        let output = running.wait();
        assert_eq!(output.status.code(), Some(0), "{output}");
        assert!((1..64 * 1024).contains(&most), "{what}: {most} KiB of memory");
        let journal = stage.lab.edge().sh(&format!("cat {STATE}/journal.sqlite* | wc -c")).ok();
        let journal: u64 = journal.trim().parse().expect("a number");
        assert!(journal < 1024 * 1024, "{what}: {journal} bytes of journal");
        tests::tell(&format!(
            "{what}: {bytes} bytes of output, at most {most} KiB of memory, {journal} bytes of journal"
        ));
        assert_clean(&stage);
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
    let output = stage.run(&["--color", "never"]);
    assert_eq!(output.status.code(), Some(2), "{output}");
    for text in [&output.stdout, &output.stderr] {
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}', '\0']), "{text:?}");
    }
    assert!(output.stdout.contains("evil"), "it is shown nonetheless: {output}");
    assert_clean(&stage);
}
