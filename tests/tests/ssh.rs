//! ssh in the lab: a link that is away for twenty seconds, transfers that go on, commands side by side, jump hosts, and
//! questions that nobody answers.

use std::time::Duration;

use serde_json::Value;
use tests::{
    lab::{REMOTE, lab_or_skip, lasts, until},
    stage::Stage,
};

/// What the link is away for.
const CUT: Duration = Duration::from_secs(20);

/// A monitor phase on the NAS: a wait and a command that last until files of the test come, and a step that begins when
/// the test says so.
fn monitor() -> String {
    format!(
        "
name: cut
hosts: {{ nas: {{ ssh: nas }} }}
prepare:
  far: {{ on: nas, file: {{ create: {REMOTE}/far.bin, size: 10KiB }} }}
monitor:
  arrives:
    wait:
      until: {{ on: nas, file: {{ stat: /home/drone/late }} }}
      succeed_when: out.exists
    timeout: 3m
  runs:
    on: nas
    command: {{ shell: 'touch /home/drone/runs; while [ ! -e /home/drone/late ]; do sleep 0.1; done', reads: true }}
    timeout: 3m
  told: {{ wait: {{ until: {{ file: {{ stat: /root/begin }} }}, succeed_when: out.exists }}, timeout: 3m }}
  begins: {{ needs: [told], on: nas, hash: {{ path: {REMOTE}/far.bin }}, expect: out.size == 10240 }}
"
    )
}

/// The ssh on the edge box that serves the connections of a run.
fn masters(stage: &Stage) -> usize {
    let is_one = |argv: &[String]| argv.iter().any(|word| word == "-M") && argv[0].ends_with("ssh");
    stage.lab.edge().processes().iter().filter(|(_, argv)| is_one(argv)).count()
}

/// Ends the server's side of connections that were cut: TCP tells it only when it sends again.
fn end_stale(stage: &Stage) {
    stage.lab.nas().sh("pkill -f '[s]shd: drone'; rm -f /home/drone/*").ok();
    stage.lab.edge().sh("rm -f /root/begin").ok();
}

fn starts(stage: &Stage) -> tests::lab::Running {
    let running = stage.start(&[]);
    until("the command runs", || stage.lab.nas().exists("/home/drone/runs"));
    running
}

fn assert_passed(stage: &Stage, running: tests::lab::Running) {
    stage.lab.nas().sh("touch /home/drone/late").ok();
    let output = running.wait();
    assert_eq!(output.status.code(), Some(0), "{output}");
    assert!(output.stdout.contains("undone 1 of 1"), "{output}");
    end_stale(stage);
    stage.assert_clean_soon();
}

#[test]
fn a_monitor_phase_survives_a_link_that_is_away_for_twenty_seconds() {
    let stage = Stage::new(lab_or_skip!(), &monitor());
    let running = starts(&stage);
    stage.lab.link_down();
    // It begins on a connection of which nobody knows yet that it is cut.
    stage.lab.edge().sh("touch /root/begin").ok();
    lasts(CUT);
    stage.lab.link_up();
    assert_passed(&stage, running);
}

#[test]
fn a_monitor_phase_survives_that_its_connection_is_given_up() {
    let stage = Stage::new(lab_or_skip!(), &monitor());
    let running = starts(&stage);
    let begun = std::time::Instant::now();
    stage.lab.link_down();
    let ssh = |stage: &Stage| {
        let processes = stage.lab.edge().processes();
        processes.iter().find(|(_, argv)| argv.iter().any(|word| word == "-M")).map(|(pid, _)| *pid)
    };
    let first = ssh(&stage).expect("a connection");
    until("it is given up", || ssh(&stage) != Some(first));
    stage.lab.edge().sh("touch /root/begin").ok();
    lasts(CUT.saturating_sub(begun.elapsed()));
    stage.lab.link_up();
    assert_passed(&stage, running);
}

const SIZE: u64 = 60 << 20;
const GATE: u64 = 20 << 20;

/// Stands for `cat` on the NAS: takes 20 MiB, and the rest when the test lets it.
const GATED: &str = r#"#!/bin/sh
[ -n "$SHAKEDOWN_TREE" ] || exec /usr/bin/cat "$@"
head -c 20971520
[ -e /home/drone/open ] || touch /home/drone/shut
while [ -e /home/drone/shut ] && [ ! -e /home/drone/open ]; do sleep 0.1; done
exec /usr/bin/cat
"#;

/// A run whose upload stands at the gate, with a third of the file there.
fn half_uploaded() -> Option<(Stage, tests::lab::Running)> {
    let lab = tests::lab::Lab::start_or_skip()?;
    let playbook = format!(
        "
name: upload
hosts: {{ nas: {{ ssh: nas }} }}
prepare:
  sample: {{ ssh: {{ host: nas, upload: {{ from: /data/sample.bin, to: {REMOTE}/sample.bin }} }}, timeout: 5m }}
monitor:
  same: {{ on: nas, hash: {{ path: {REMOTE}/sample.bin }}, expect: out.sha256 == steps.sample.out.sha256 }}
"
    );
    let mut stage = Stage::new(lab, &playbook);
    stage.lab.edge().sh(&format!("head -c {SIZE} /dev/urandom >/data/sample.bin")).ok();
    stage.lab.nas().write("/usr/local/bin/cat", GATED);
    stage.lab.nas().sh("chmod 755 /usr/local/bin/cat").ok();
    stage.look();
    let running = stage.start(&[]);
    until("a part is there", || {
        let part = stage.lab.nas().sh(&format!("/usr/bin/stat -c %s {REMOTE}/sample.bin.*.new")).stdout;
        stage.lab.nas().exists("/home/drone/shut") && part.trim().parse().is_ok_and(|size: u64| size == GATE)
    });
    Some((stage, running))
}

/// Where the upload went on, and how many bytes it sent.
fn went_on(step: &Value) -> (u64, u64) {
    let number = |key: &str| step["out"][key].as_u64().unwrap_or_else(|| panic!("no `{key}`: {step}"));
    (number("resumed_at"), number("sent_bytes"))
}

#[test]
fn an_upload_that_is_cut_for_twenty_seconds_goes_on_where_it_stood() {
    let Some((stage, running)) = half_uploaded() else { return };
    let begun = std::time::Instant::now();
    stage.lab.link_down();
    until("the connection is given up", || masters(&stage) == 0 || begun.elapsed() > CUT * 2);
    lasts(CUT.saturating_sub(begun.elapsed()));
    stage.lab.nas().sh("touch /home/drone/open").ok();
    stage.lab.link_up();
    let output = running.wait();
    assert_eq!(output.status.code(), Some(0), "{output}");
    let (at, sent) = went_on(&stage.step("sample"));
    assert!((GATE..SIZE).contains(&at), "{at}");
    assert!(sent < 2 * SIZE - GATE, "{sent} of {SIZE}, went on at {at}");
    end_stale(&stage);
    stage.assert_clean_soon();
    tests::tell(&format!("went on at {at} of {SIZE}, sent {sent}"));
}

#[test]
fn a_run_that_was_killed_in_the_middle_of_an_upload_goes_on_with_it_when_it_is_resumed() {
    let Some((stage, running)) = half_uploaded() else { return };
    running.signal(nix::sys::signal::Signal::SIGKILL);
    let _killed = running.wait();
    stage.lab.nas().sh("touch /home/drone/open").ok();
    let list: Value =
        serde_json::from_str(&stage.shakedown(&["runs", "--format", "json"]).ok()).expect("JSON");
    let run = list[0]["id"].as_str().expect("an id").to_owned();
    let output = stage.shakedown(&["resume", &run, "--report", "json=/dev/shm/report.json"]);
    assert_eq!(output.status.code(), Some(0), "{output}");
    let (at, sent) = went_on(&stage.step("sample"));
    assert!((GATE..SIZE).contains(&at), "{at}");
    assert_eq!(sent, SIZE - at);
    end_stale(&stage);
    stage.assert_clean_soon();
    tests::tell(&format!("went on at {at} of {SIZE}, sent {sent}"));
}

#[test]
fn thirty_commands_at_once_pass_and_never_are_more_than_eight() {
    let playbook = "
name: many
hosts: { nas: { ssh: nas } }
monitor:
  many:
    foreach: ${{ range(30) }}
    on: nas
    command:
      shell: 'mkdir -p /home/drone/now; touch /home/drone/now/$$; ls /home/drone/now | wc -l >>/home/drone/counts; sleep 0.3; rm /home/drone/now/$$'
      reads: true
";
    let stage = Stage::new(lab_or_skip!(), playbook);
    let output = stage.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{output}");
    let counts = stage.lab.nas().sh("cat /home/drone/counts").ok();
    let counts: Vec<u32> = counts.lines().map(|line| line.trim().parse().expect("a number")).collect();
    assert_eq!(counts.len(), 30);
    let most = counts.iter().copied().max().expect("there are some");
    assert!((2..=8).contains(&most), "{most} at once");
    stage.lab.nas().sh("rm -r /home/drone/now /home/drone/counts").ok();
    stage.assert_clean_soon();
    tests::tell(&format!("at most {most} at once"));
}

/// One step on a host that is reached directly, and one on a host behind it.
const WAY: &str = "
name: way
hosts: { nas: { ssh: nas }, far: { ssh: far } }
monitor:
  near: { on: nas, command: { run: [hostname], reads: true }, continue_on_error: true }
  far: { on: far, command: { run: [hostname], reads: true }, continue_on_error: true }
";

fn way() -> Option<Stage> {
    let lab = tests::lab::Lab::start_or_skip()?;
    lab.edge()
        .sh("printf 'Match host far\n HostName 127.0.0.1\n HostKeyAlias nas\n User drone\n IdentityFile ~/.ssh/id_ed25519\n ProxyJump nas\n' >/root/.ssh/far
             { echo 'Include far'; cat /root/.ssh/config; } >/root/.ssh/new && mv /root/.ssh/new /root/.ssh/config")
        .ok();
    Some(Stage::new(lab, WAY))
}

#[test]
fn a_host_behind_a_jump_host_is_reached_as_ssh_config_says() {
    let Some(stage) = way() else { return };
    let output = stage.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{output}");
    for step in ["near", "far"] {
        assert_eq!(stage.step(step)["out"]["stdout"], "nas", "{output}");
    }
    stage.assert_clean_soon();
}

/// What would ask somebody, by a change of the NAS or of the edge box.
const QUESTIONS: [(&str, &str, &str); 4] = [
    ("passphrase", "edge", "ssh-keygen -q -p -P '' -N secret -f /root/.ssh/id_ed25519"),
    ("unknown key", "edge", ": >/root/.ssh/known_hosts"),
    (
        "password",
        "nas",
        "sed -i 's/^PasswordAuthentication no/PasswordAuthentication yes\\nPubkeyAuthentication no/' /etc/ssh/sshd_config; systemctl restart ssh",
    ),
    (
        "keyboard-interactive",
        "nas",
        "sed -i 's/^KbdInteractiveAuthentication no/KbdInteractiveAuthentication yes\\nPubkeyAuthentication no/; s/^UsePAM no/UsePAM yes/' /etc/ssh/sshd_config; systemctl restart ssh",
    ),
];

#[test]
fn no_question_is_ever_asked_at_a_terminal_or_in_a_window() {
    for (question, node, change) in QUESTIONS {
        let Some(mut stage) = way() else { return };
        let on = if node == "nas" { stage.lab.nas() } else { stage.lab.edge() };
        on.sh(change).ok();
        stage.lab.edge().sh("printf '#!/bin/sh\ntouch /root/asked\necho yes\n' >/root/ask; chmod 755 /root/ask; mkfifo /dev/shm/nobody").ok();
        stage.look();
        // A terminal at which nobody types, and a display with a program that answers.
        let line = "exec 9<>/dev/shm/nobody; export DISPLAY=:9 SSH_ASKPASS=/root/ask TERM=xterm; \
                    script -q -e -c 'shakedown run /root/it.yaml --report json=/dev/shm/report.json' /dev/null <&9";
        let output = stage.lab.edge().sh(line);
        // The failures are tolerated: nothing waited for an answer.
        assert_eq!(output.status.code(), Some(0), "{question}: {output}");
        for step in ["near", "far"] {
            let error = &stage.step(step)["error"];
            assert_eq!(error["class"], "denied", "{question}: {error}");
            assert!(error["hint"].is_string(), "{question}: {error}");
        }
        let asks = ["'s password:", "Enter passphrase", "(yes/no", "Password:"];
        assert!(!asks.iter().any(|words| output.stdout.contains(words)), "{question}: {output}");
        assert!(!stage.lab.edge().exists("/root/asked"), "{question}");
        stage.assert_clean_soon();
    }
}
