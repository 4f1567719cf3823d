//! A user who may make no control group, and whose `/proc` shows nothing of others: what a step left behind is found
//! among the children of the run, whatever it did to its environment, its session and its rights.

use tests::{lab::lab_or_skip, stage::Stage};

/// Runs it as a user without rights; what it says and its exit code.
fn run(stage: &Stage, steps: &str) -> (String, Option<i32>) {
    let path = "/tmp/escapes.yaml";
    stage.lab.edge().write(path, format!("name: escapes\nmonitor:\n  {steps}\n"));
    let argv = ["shakedown", "run", path, "--no-input", "--state-dir", "/home/pilot/state"];
    let output = stage.lab.edge().command_as("pilot", argv).output().expect("it starts");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (text.concat(), output.status.code())
}

/// Clears its environment, leaves its session and loses its parent; `$1` is what it becomes.
const ESCAPES: &str = "rm -f /tmp/escaped; (env -i /usr/bin/setsid /bin/sh -c 'echo $$ >/tmp/escaped; exec $1' &); \
                       while [ ! -s /tmp/escaped ]; do :; done";

#[test]
fn what_escapes_a_user_without_groups_ends_with_the_run() {
    let stage = Stage::new(lab_or_skip!(), "name: it\n");
    let edge = stage.lab.edge();
    edge.sh("mount -o remount,hidepid=2 /proc; mkdir -m 755 /opt/case").ok();
    edge.sh("cp /bin/sleep /opt/case/rises; chmod 4755 /opt/case/rises").ok();
    for (what, becomes, then) in [
        ("alone", "/bin/sleep 4321", ""),
        ("with a child", "/bin/sh -c \\\"/bin/sleep 4321 & exec /bin/sleep 4322\\\"", ""),
        // With rights that the user has not, so that it is hidden.
        ("hidden", "/opt/case/rises 4321", "; while [ -e /proc/$(cat /tmp/escaped) ]; do :; done"),
    ] {
        let shell = ESCAPES.replace("$1", becomes) + then;
        let (said, code) = run(
            &stage,
            &format!("escapes: {{ command: {{ shell: \"{shell}\", reads: true }}, timeout: 20s }}"),
        );
        let all = edge.processes().into_iter();
        let left: Vec<_> =
            all.filter(|(_, argv)| argv.last().is_some_and(|last| last.starts_with("432"))).collect();
        assert_eq!(left, [], "{what}: {said}");
        assert_eq!(code, Some(0), "{what}: {said}");
        assert!(said.contains("PASSED"), "{what}: {said}");
    }
}
