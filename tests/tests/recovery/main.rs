//! `recover`, `resume` and signals on the bare machine: what a person who types them sees.

mod open;
mod state;

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command},
};

use serde_json::Value;
use tests::{
    folders::{Folders, said},
    lab::{binaries, until},
};

/// Where one playbook is run.
struct Stage(Folders);

impl std::ops::Deref for Stage {
    type Target = Folders;

    fn deref(&self) -> &Folders {
        &self.0
    }
}

impl Stage {
    fn new(playbook: &str) -> Self {
        let stage = Self(Folders::new());
        fs::write(stage.path("it.yaml"), playbook).expect("writes");
        stage
    }

    /// Runs the playbook until a fault kills the engine; gives the run's id.
    fn die(&self, fault: &str) -> String {
        let mut command = self.command(binaries::shakedown_with_faults(), &["run", "it.yaml"]);
        let output = command.env("SHAKEDOWN_FAULTS", fault).output().expect("it starts");
        assert_eq!(output.status.signal(), Some(9), "{}", said(&output));
        let run = self.newest();
        assert!(run["verdict"].is_null() && run["alive"] == false, "{run}");
        run["id"].as_str().expect("an id").to_owned()
    }

    #[track_caller]
    fn says(&self, argv: &[&str], code: i32, words: &[&str]) {
        let output = self.run(argv);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        for words in words {
            assert!(said(&output).contains(words), "`{words}`: {}", said(&output));
        }
    }

    /// The newest line of the history.
    fn newest(&self) -> Value {
        let list = self.run(&["runs", "--format", "json"]);
        let runs: Value = serde_json::from_slice(&list.stdout).expect("JSON");
        runs[0].clone()
    }
}

fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
}

const FILES: &str = "
name: files
prepare:
  one: { file: { create: 一.txt, text: one } }
  two: { needs: [one], file: { create: two.txt, text: two } }
monitor:
  look: { file: { stat: two.txt }, expect: out.exists }
cleanup:
  three: { file: { remove: three.txt } }
";

#[test]
fn a_dead_run_is_told_of_listed_and_undone() {
    let stage = Stage::new(FILES);
    assert!(said(&stage.run(&["recover"])).contains("nothing to recover"));
    let run = stage.die("kill:after:two");
    assert!(stage.path("一.txt").exists() && stage.path("two.txt").exists());

    let warned = stage.run(&["run", "quickstart", "-p", "size=1KiB"]);
    assert_eq!(warned.status.code(), Some(0), "{}", said(&warned));
    assert!(
        said(&warned).contains("1 run died and may have left things: shakedown recover"),
        "{}",
        said(&warned)
    );

    let listed = stage.run(&["recover"]);
    assert_eq!(listed.status.code(), Some(4), "{}", said(&listed));
    for words in ["DIED files", &run, "一.txt", "two.txt", "2 undos to do", "shakedown recover --yes"] {
        assert!(said(&listed).contains(words), "`{words}`: {}", said(&listed));
    }
    assert!(stage.path("two.txt").exists(), "to list is not to undo");

    // By a part of its id, and from another folder: the paths of the run count from where it was started.
    let mut elsewhere = stage.command(binaries::shakedown(), &["recover", &run[20..]]);
    let undone = elsewhere.current_dir("/").output().expect("it starts");
    assert_eq!(undone.status.code(), Some(0), "{}", said(&undone));
    assert!(
        said(&undone).contains("RECOVERED files") && said(&undone).contains("undone 2 of 2"),
        "{}",
        said(&undone)
    );
    assert!(!stage.path("一.txt").exists() && !stage.path("two.txt").exists());

    let over = stage.run(&["recover", &run]);
    assert_eq!(over.status.code(), Some(3), "{}", said(&over));
    assert!(said(&over).contains("is over"), "{}", said(&over));
    assert_eq!(stage.run(&["recover", "--yes"]).status.code(), Some(0));
    assert!(said(&stage.run(&["runs"])).contains("died, recovered"));
}

#[test]
fn a_run_is_dead_at_once_although_something_still_holds_its_lock() {
    let stage = Stage::new(FILES);
    let run = stage.die("kill:after:two");
    // As a child does that the run was just starting when it died: the run is dead, and it is waited for.
    let lock = fs::File::open(stage.state.path().join(format!("locks/{run}.lock"))).expect("there");
    lock.lock().expect("free");
    assert_eq!(stage.newest()["state"], "died");
    let recovery = stage.start(&["recover", "--yes"]);
    until("the recovery owns the run", || stage.newest()["alive"] == true);
    assert!(stage.path("two.txt").exists(), "it waits");
    drop(lock);
    let output = recovery.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("RECOVERED files"), "{}", said(&output));
    assert!(!stage.path("two.txt").exists());
}

#[test]
fn what_was_changed_since_is_left_named_and_shown() {
    let stage = Stage::new(FILES);
    stage.die("kill:before-undo:two");
    fs::write(stage.path("two.txt"), "mine now").expect("writes");
    let output = stage.run(&["recover", "--yes"]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert_eq!(fs::read_to_string(stage.path("two.txt")).expect("there"), "mine now");
    assert!(!stage.path("一.txt").exists(), "one that stays keeps no other");
    let text = said(&output);
    let line = text
        .lines()
        .find_map(|line| tests::truth::HINTS.iter().find_map(|hint| line.trim().strip_prefix(hint)))
        .expect("a command");
    let typed =
        Command::new("/bin/sh").args(["-c", line]).current_dir(stage.dir.path()).output().expect("sh");
    assert!(typed.status.success(), "{line}: {}", said(&typed));
    // It is all that there is of what another wrote, so it is only shown.
    assert_eq!(fs::read_to_string(stage.path("two.txt")).expect("there"), "mine now");
    fs::remove_file(stage.path("two.txt")).expect("removed by hand");
    let closed = stage.run(&["recover", "--yes"]);
    assert_eq!(closed.status.code(), Some(0), "{}", said(&closed));
}

#[test]
fn a_run_that_lives_is_never_touched() {
    let stage = Stage::new(
        "
name: lives
prepare: { made: { file: { create: made.txt, text: x } } }
monitor: { waits: { wait: { until: { file: { stat: go } }, succeed_when: out.exists, every: 50ms } } }
",
    );
    let child = stage.start(&["run", "it.yaml"]);
    until("it is under way", || stage.path("made.txt").exists());
    let id = stage.newest()["id"].as_str().expect("an id").to_owned();
    assert!(said(&stage.run(&["recover", "--yes"])).contains("nothing to recover"));
    for command in ["recover", "resume"] {
        let refused = stage.run(&[command, &id]);
        assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
        let pid = format!("process {} owns it", child.id());
        assert!(said(&refused).contains(&pid), "{}", said(&refused));
    }
    assert!(stage.path("made.txt").exists());
    fs::write(stage.path("go"), "").expect("writes");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn a_run_is_resumed_by_its_journal_and_a_changed_playbook_is_refused() {
    let stage = Stage::new(FILES);
    let run = stage.die("kill:after:one");
    fs::write(stage.path("it.yaml"), FILES.replace("text: two", "text: zwei").replace("three", "third"))
        .expect("writes");
    let refused = stage.run(&["resume", &run]);
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    for words in [
        "was changed since the run began",
        "step `two` has another `body`",
        "step `third` is new",
        "shakedown recover",
    ] {
        assert!(said(&refused).contains(words), "`{words}`: {}", said(&refused));
    }
    assert!(stage.path("一.txt").exists(), "nothing was done");
    // Comments and order are no change.
    fs::write(stage.path("it.yaml"), format!("# the same\n{FILES}")).expect("writes");
    let report = stage.path("report.json");
    let resumed = stage.run(&["resume", &run, "--report", &format!("json={}", report.display())]);
    assert_eq!(resumed.status.code(), Some(0), "{}", said(&resumed));
    assert!(
        said(&resumed).contains("PASSED files") && said(&resumed).contains("undone 2 of 2"),
        "{}",
        said(&resumed)
    );
    assert!(!stage.path("一.txt").exists() && !stage.path("two.txt").exists());
    let report: Value = serde_json::from_slice(&fs::read(report).expect("a report")).expect("JSON");
    assert_eq!(report["run"].as_str(), Some(run.as_str()));
    assert_eq!(
        report["phases"][0]["steps"][0]["attempts"].as_array().map(Vec::len),
        Some(1),
        "not done again"
    );
}

/// The monitor phase runs until it is told to stop, and does not take a hint; the undo waits as long as `hold` is there.
const STUBBORN: &str = r#"
name: stubborn
prepare:
  made:
    command: { run: [touch, made] }
    undo: { command: { shell: "while [ -e hold ]; do sleep 0.05; done; rm -f made" } }
monitor:
  stays: { command: { shell: "trap '' TERM INT HUP; echo $$ >pid; while :; do sleep 0.1; done", reads: true } }
"#;

fn alive(pid: &str) -> bool {
    Path::new("/proc").join(pid.trim()).exists()
}

fn written(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
}

#[test]
fn a_second_signal_kills_what_runs_and_still_undoes() {
    let stage = Stage::new(STUBBORN);
    let child = stage.start(&["run", "it.yaml"]);
    until("it runs", || written(&stage.path("pid")).is_some());
    let pid = written(&stage.path("pid")).expect("a number");
    // Of one kind: two signals of one moment have no order.
    send(&child, "-INT");
    send(&child, "-INT");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert!(!alive(&pid) && !stage.path("made").exists(), "{}", said(&output));
    assert!(said(&output).contains("undone 1 of 1"), "{}", said(&output));
}

#[test]
fn a_third_signal_gives_up_and_says_so_in_the_journal() {
    let stage = Stage::new(STUBBORN);
    fs::write(stage.path("hold"), "").expect("writes");
    let child = stage.start(&["run", "it.yaml", "--events", "events.jsonl"]);
    let happened = |event: &str| {
        let events = fs::read_to_string(stage.path("events.jsonl")).unwrap_or_default();
        events.contains(&format!("\"event\":\"{event}\""))
    };
    until("it runs", || written(&stage.path("pid")).is_some());
    send(&child, "-INT");
    until("the undo is under way", || happened("undo_started"));
    send(&child, "-INT");
    send(&child, "-TERM");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(
        said(&output).contains("ABORTED") && said(&output).contains("shakedown recover"),
        "{}",
        said(&output)
    );
    assert!(happened("run_aborted") && stage.path("made").exists());

    let pid = written(&stage.path("pid")).expect("a number");
    fs::remove_file(stage.path("hold")).expect("removes");
    let output = stage.run(&["recover", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!stage.path("made").exists() && !alive(&pid));
}

#[test]
fn a_lock_is_queued_for_across_runs_and_freed_by_a_dead_owner() {
    let playbook = |name: &str| {
        format!(
            "
name: {name}
prepare:
  holds:
    lock: the database
    command: {{ shell: 'echo {name} >>order; while [ -e hold-{name} ]; do sleep 0.05; done' }}
    undo: {{ command: {{ run: ['true'] }} }}
"
        )
    };
    let stage = Stage::new("");
    for name in ["a", "b", "c"] {
        fs::write(stage.path(&format!("{name}.yaml")), playbook(name)).expect("writes");
    }
    let order = || fs::read_to_string(stage.path("order")).unwrap_or_default();
    fs::write(stage.path("hold-a"), "").expect("writes");
    let mut first = stage.start(&["run", "a.yaml"]);
    until("a has it", || order() == "a\n");
    let tickets = || {
        let folders = fs::read_dir(stage.state.path().join("locks")).into_iter().flatten().flatten();
        let queue = folders.map(|entry| entry.path()).find(|path| path.is_dir());
        queue.and_then(|queue| fs::read_dir(queue).ok()).map_or(0, Iterator::count)
    };
    let second = stage.start(&["run", "b.yaml"]);
    until("b waits", || tickets() == 1);
    let third = stage.start(&["run", "c.yaml"]);
    until("c waits", || tickets() == 2);
    // Dead, by kill -9: its lock is free at once, and b is next.
    first.kill().expect("kills");
    first.wait().expect("ends");
    for child in [second, third] {
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    assert_eq!(order(), "a\nb\nc\n");
    fs::remove_file(stage.path("hold-a")).expect("removes");
    assert_eq!(stage.run(&["recover", "--yes"]).status.code(), Some(0));
}

#[test]
fn old_runs_are_forgotten_and_dead_ones_are_not() {
    let stage = Stage::new(FILES);
    assert_eq!(stage.run(&["run", "it.yaml"]).status.code(), Some(0));
    stage.die("kill:after:one");
    let none = stage.run(&["runs", "prune", "--older", "1h"]);
    assert!(said(&none).contains("0 runs forgotten"), "{}", said(&none));
    // A run of this very millisecond has not ended before it.
    until("the run is old enough", || {
        said(&stage.run(&["runs", "prune", "--older", "0s"])).contains("1 run forgotten")
    });
    let kept = stage.run(&["runs", "prune", "--older", "0s"]);
    assert!(said(&kept).contains("1 run as old died or left something, and stayed"), "{}", said(&kept));
    assert_eq!(stage.run(&["recover", "--yes"]).status.code(), Some(0));
    assert!(!stage.path("一.txt").exists());
}

const RELATIVE: &str = "
name: relative
prepare:
  made: { file: { create: made, text: ours } }
  folder: { needs: [made], file: { directory: folder } }
  words: { needs: [folder], command: { shell: 'echo > said' }, undo: { command: { run: [rm, said] } } }
cleanup:
  trace: { file: { remove: trace } }
";

#[test]
fn relative_paths_mean_the_folder_of_the_run_whoever_undoes_it() {
    let stage = Stage::new(RELATIVE);
    let elsewhere = Stage::new(RELATIVE);
    // Another's things under the same relative names, where the recovery is typed.
    for name in ["made", "said", "trace"] {
        fs::write(elsewhere.path(name), "another's").expect("written");
    }
    fs::create_dir(elsewhere.path("folder")).expect("made");
    fs::write(stage.path("trace"), "").expect("written");
    stage.die("kill:after:words");
    let mut recover = stage.command(binaries::shakedown(), &["recover", "--yes"]);
    let undone = recover.current_dir(elsewhere.dir.path()).output().expect("it starts");
    assert_eq!(undone.status.code(), Some(0), "{}", said(&undone));
    let names = |stage: &Stage| {
        let names = fs::read_dir(stage.dir.path()).expect("reads").flatten();
        let mut names: Vec<_> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&stage), ["it.yaml"], "{}", said(&undone));
    assert_eq!(names(&elsewhere), ["folder", "it.yaml", "made", "said", "trace"]);
}
