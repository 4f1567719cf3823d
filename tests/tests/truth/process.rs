//! Processes: those that cannot be looked for are not gone, and none is started where nothing would end it.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::{
    lab::{Output, lab_or_skip, until},
    stage::Stage,
    truth::{Death, Row, rows},
};

/// A process that lives on beside the steps, one that hides from its step, and something mounted over `/proc`.
const BLIND: &str = r#"
name: blind
prepare:
  beside: { process: { run: [/bin/sh, -c, "setsid sleep 4321 & exec sleep 4321"] } }
monitor:
  blinds:
    command:
      shell: (env -i /usr/bin/setsid /bin/sleep 4321 &); mount -t tmpfs tmpfs /proc
      reads: true
    continue_on_error: true
"#;

/// The numbers, as this machine has them, of the box's processes that sleep so long.
fn sleepers(stage: &Stage) -> Vec<u32> {
    let all = stage.lab.edge().processes().into_iter();
    all.filter(|(_, argv)| argv.last().is_some_and(|last| last == "4321")).map(|(pid, _)| pid).collect()
}

/// Runs it, and takes away what is mounted over `/proc`, which nothing of the lab could do without.
fn run_blind(stage: &Stage) -> Output {
    let output = stage.run(&[]);
    stage.lab.edge().sh("umount /proc").ok();
    output
}

#[test]
fn without_a_look_the_control_group_ends_what_is_in_it() {
    let stage = Stage::new(lab_or_skip!(), BLIND);
    let output = run_blind(&stage);
    assert_eq!(sleepers(&stage), [0; 0], "{output}");
    assert_eq!(output.status.code(), Some(0), "{output}");
    assert!(output.stdout.contains("left 0"), "{output}");
    stage.assert_clean();
}

#[test]
fn without_a_look_and_without_a_group_nobody_says_gone() {
    let stage = Stage::new(lab_or_skip!(), BLIND);
    let edge = stage.lab.edge();
    edge.sh("mount -t tmpfs tmpfs /sys/fs/cgroup").ok();
    let output = run_blind(&stage);
    edge.sh("umount /sys/fs/cgroup").ok();
    assert_eq!(output.status.code(), Some(4), "{output}");
    assert!(!sleepers(&stage).is_empty(), "the test means nothing if they are gone: {output}");
    for text in ["cannot be told", "cannot be looked for", "processes of `/bin/sh`", "a command of this run"]
    {
        assert!(output.stdout.contains(text), "`{text}`: {output}");
    }
    // What it says to end them with ends those that carry the mark.
    let hint = "if it is there, remove it with: ";
    let line = output.stdout.lines().find_map(|line| line.trim().strip_prefix(hint));
    edge.sh(line.unwrap_or_else(|| panic!("no command: {output}"))).ok();
    until("those with the mark have ended", || sleepers(&stage).len() == 1);
    for pid in sleepers(&stage) {
        kill(Pid::from_raw(pid.try_into().expect("a pid")), Signal::SIGKILL).expect("it was alive");
    }
    until("they have ended", || sleepers(&stage).is_empty());
}

rows! {
    /// Nothing ends a process that a cleanup starts.
    no_process_begins_in_cleanup: Row {
        playbook: "cleanup: { late: { process: { run: [sleep, '4399'] } } }",
        exit: 3,
        says: &["nothing ends a process that is started in `cleanup` or as an `undo`", "use `command`"],
        ..Row::HERE
    };

    /// Nor one that an undo starts.
    no_process_begins_as_an_undo: Row {
        playbook: "prepare: { it: { command: { run: ['true'] }, undo: { process: { run: [sleep, '4399'] } } } }",
        exit: 3,
        says: &["nothing ends a process that is started in `cleanup` or as an `undo`"],
        ..Row::HERE
    };

    /// Two hundred that leave their session, clear their environment, stand still or ignore signals.
    two_hundred_end_with_their_step: Row {
        playbook: "prepare: { it: { process: { run: [sh, -c, \"for i in $(seq 100); do env -i setsid sleep 4398 & done; for i in $(seq 99); do (trap '' TERM; sleep 4398) & done; setsid sleep 4398 & kill -STOP $!; touch go; exec sleep 4398\"], dir: '@DIR@', stop_grace: 500ms, ready: { file: { stat: '@DIR@/go' } }, ready_when: out.exists } } }\ncleanup: { it_too: { command: { run: [rm, -f, '@DIR@/go'] } } }",
        says: &["left 0"],
        ..Row::LAB
    };

    /// Killed anywhere, the process and what came of it are ended by the recovery.
    a_process_is_ended_wherever_the_run_was_killed: Row {
        playbook: "prepare: { it: { process: { run: [sh, -c, '(env -i setsid sleep 4397 &); exec sleep 4397'] } } }",
        death: Death::Everywhere,
        ..Row::LAB
    };
}
