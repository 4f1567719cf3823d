//! The unit and the timer of `docs/service.md`, in the lab: stopped, killed, and the machine restarted in the middle.

use tests::lab::{Lab, Manifest, Scope, binaries, lab_or_skip, until};

/// Makes a file, and then waits for as long as nobody stops it.
const PLAYBOOK: &str = "name: smoke
prepare:
  made: { file: { create: /root/made, text: made } }
  words: { needs: [made], process: { run: [sleep, '4242'] } }
monitor:
  waits: { timeout: 1h, wait: { until: { file: { stat: /root/go } }, succeed_when: out.exists, every: 50ms } }
";
struct Stage {
    lab: Lab,
    before: Manifest,
}

fn scope() -> Scope {
    let folders = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    Scope { edge: folders(&["/root", "/etc/shakedown"]), nas: folders(&["/root"]), ..Scope::default() }
}

/// A fenced block of the page.
fn block(head: &str) -> String {
    let page = include_str!("../../docs/service.md");
    let from = page.split_once(head).expect("the page has it").1.split_once("```ini\n").expect("a block").1;
    from.split_once("```").expect("it ends").0.to_owned()
}

impl Stage {
    fn new(lab: Lab) -> Self {
        let edge = lab.edge();
        edge.install_binary(binaries::shakedown(), "/usr/local/bin/shakedown");
        edge.sh("mkdir -p /etc/shakedown").ok();
        edge.write("/etc/systemd/system/smoke.service", block("smoke.service`:"));
        edge.write("/etc/systemd/system/smoke.timer", block("smoke.timer`:"));
        edge.write("/etc/shakedown/smoke.yaml", PLAYBOOK);
        edge.sh("systemctl daemon-reload && systemctl enable -q smoke.timer && systemctl start smoke.timer")
            .ok();
        let before = lab.manifest_of(&scope());
        Self { lab, before }
    }

    fn sh(&self, line: &str) -> String {
        self.lab.edge().sh(line).stdout.trim().to_owned()
    }

    fn property(&self, name: &str) -> String {
        self.sh(&format!("systemctl show -P {name} smoke"))
    }

    /// Starts it, as its timer would, and waits until its effects are there.
    fn begins(&self) {
        self.sh("systemctl start --no-block smoke");
        let waits = || self.lab.edge().exists("/root/made") && !self.sh("pgrep -f 'sleep 424[2]'").is_empty();
        let failed = || self.property("ActiveState") == "failed";
        until("the run waits, or has ended", || waits() || failed());
        assert!(waits(), "{}", self.sh("journalctl -u smoke --no-pager | tail -n 40"));
    }

    fn rests(&self) {
        until("the unit is at rest", || {
            ["inactive", "failed"].contains(&self.property("ActiveState").as_str())
        });
    }

    #[track_caller]
    fn is_as_before(&self) {
        self.rests();
        // That it has failed is no trace of the run.
        self.sh("systemctl reset-failed smoke");
        let difference = self.before.diff(&self.lab.manifest_of(&scope()));
        assert!(
            difference.is_empty(),
            "{difference:#?}\n{}",
            self.sh("journalctl -u smoke --no-pager | tail -n 60")
        );
        assert_eq!(self.sh("pgrep -f 'sleep 424[2]'"), "");
        let left = self.lab.edge().sh("shakedown recover --state-dir /var/lib/shakedown");
        assert!(left.stderr.contains("nothing to recover"), "{left}");
    }
}

#[test]
fn a_unit_that_is_stopped_killed_or_restarted_leaves_nothing() {
    let mut stage = Stage::new(lab_or_skip!());
    // A stop in good order is no alarm.
    stage.begins();
    stage.sh("systemctl stop smoke");
    assert_eq!(
        (stage.property("ActiveState").as_str(), stage.property("Result").as_str()),
        ("inactive", "success")
    );
    stage.is_as_before();
    // Its lines have priorities, and the journal's times only.
    let said = stage.sh("journalctl -u smoke -o cat --no-pager -p warning");
    assert!(said.contains("signal") && !said.contains("phase"), "{said}");
    let all = stage.sh("journalctl -u smoke -o cat --no-pager");
    let line = all.lines().find(|line| line.contains("phase")).expect("a phase began");
    assert!(line.starts_with("phase"), "no time of its own: {line}");
    assert!(
        stage.lab.edge().exists("/var/lib/shakedown/journal.sqlite")
            && !stage.lab.edge().exists("/root/.local")
    );

    // Killed, with all that it had started.
    stage.begins();
    stage.sh("systemctl kill -s KILL smoke");
    stage.rests();
    assert_eq!(stage.property("ActiveState"), "failed", "that is an alarm");
    stage.is_as_before();

    // The machine goes down in the middle: the next start takes back what was left.
    stage.begins();
    stage.lab.power_cut_edge();
    assert!(stage.lab.edge().exists("/root/made"));
    stage.sh("touch /root/go; systemctl start smoke; rm /root/go");
    assert_eq!(
        stage.property("Result"),
        "success",
        "{}",
        stage.sh("journalctl -u smoke --no-pager | tail -n 40")
    );
    stage.is_as_before();
}
