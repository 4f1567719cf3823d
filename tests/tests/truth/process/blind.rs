//! Late in a run the processes can no longer be looked for: something is mounted over `/proc`, or there are no file
//! descriptors left. Where there is a control group all that is in it is ended all the same; where there is none, nobody says
//! that it is gone.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests::{
    lab::{Output, lab_or_skip, until},
    stage::Stage,
};

/// What takes the sight, as a command of the run.
const BLINDS: [(&str, &str); 2] =
    [("a mount", "mount -t tmpfs tmpfs /proc"), ("no descriptors", "prlimit --pid $PPID --nofile=5:5")];

/// Processes that live on beside the steps, and one that hides from its step.
fn playbook(blinds: &str) -> String {
    format!(
        r#"
name: blind
prepare:
  beside: {{ process: {{ run: [/bin/sh, -c, "setsid sleep 4321 & exec sleep 4321"] }} }}
monitor:
  blinds:
    command:
      shell: (env -i /usr/bin/setsid /bin/sleep 4321 &); {blinds}
      reads: true
    continue_on_error: true
"#
    )
}

/// The numbers, as this machine has them, of the box's processes that sleep so long.
fn sleepers(stage: &Stage) -> Vec<u32> {
    let all = stage.lab.edge().processes().into_iter();
    all.filter(|(_, argv)| argv.last().is_some_and(|last| last == "4321")).map(|(pid, _)| pid).collect()
}

/// Runs it, and takes away what is mounted over `/proc`, which nothing of the lab could do without.
fn run(stage: &mut Stage, blinds: &str) -> Output {
    stage.playbook(&playbook(blinds));
    let output = stage.run(&[]);
    stage.lab.edge().sh("! grep -qs tmpfs /proc/self/mounts || true; [ -e /proc/self ] || umount /proc").ok();
    output
}

#[test]
fn without_a_look_the_control_group_ends_what_is_in_it() {
    let mut stage = Stage::new(lab_or_skip!(), "name: blind\n");
    stage.look_less();
    for (what, blinds) in BLINDS {
        let output = run(&mut stage, blinds);
        assert_eq!(sleepers(&stage), [0; 0], "{what}: {output}");
        assert_eq!(output.status.code(), Some(0), "{what}: {output}");
        assert!(output.stdout.contains("left 0"), "{what}: {output}");
        stage.assert_clean();
    }
}

#[test]
fn without_a_look_and_without_a_group_nobody_says_gone() {
    let mut stage = Stage::new(lab_or_skip!(), "name: blind\n");
    stage.look_less();
    for (what, blinds) in BLINDS {
        stage.lab.edge().sh("mount -t tmpfs tmpfs /sys/fs/cgroup").ok();
        let output = run(&mut stage, blinds);
        stage.lab.edge().sh("umount /sys/fs/cgroup").ok();
        assert_eq!(output.status.code(), Some(4), "{what}: {output}");
        assert!(!sleepers(&stage).is_empty(), "{what}: the test means nothing if they are gone: {output}");
        for text in
            ["cannot be told", "cannot be looked for", "processes of `/bin/sh`", "a command of this run"]
        {
            assert!(output.stdout.contains(text), "{what}: `{text}`: {output}");
        }
        // What it says to end them with ends those that carry the mark.
        let hint = "if it is there, remove it with: ";
        let line = output.stdout.lines().find_map(|line| line.trim().strip_prefix(hint));
        stage.lab.edge().sh(line.unwrap_or_else(|| panic!("no command: {output}"))).ok();
        until("those with the mark have ended", || sleepers(&stage).len() <= 1);
        for pid in sleepers(&stage) {
            // It may have been out of sight of the run only.
            let _ended = kill(Pid::from_raw(pid.try_into().expect("a pid")), Signal::SIGKILL);
        }
        until("they have ended", || sleepers(&stage).is_empty());
    }
}
