//! A JSON document that others use at the same time: whole runs of `shakedown` beside a program that never rests.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    path::PathBuf,
    process::{Child, Command, Output},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};
use tests::{
    folders::{Folders, said},
    lab::{binaries, until},
};

/// How many runs work on the document at once.
const WRITERS: usize = 20;

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
        fs::write(stage.state.path().join("it.yaml"), playbook).expect("writes");
        stage
    }

    fn document(&self) -> String {
        fs::read_to_string(self.path("作业.json")).expect("the document")
    }

    fn playbook(&self) -> String {
        self.state.path().join("it.yaml").display().to_string()
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.dir.path()).expect("lists").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

/// The program under test: takes the lock, works on what is there and on things of its own, renames.
struct Busy {
    document: PathBuf,
    lock: PathBuf,
    /// What the document holds apart from what others put there.
    own: Value,
    turns: u64,
    /// Elements of others that it has seen.
    seen: BTreeSet<String>,
}

impl Busy {
    /// As whoever locks a file that may be replaced must: the lock of a file without a name keeps nobody out.
    fn lock(&self) -> Flock<File> {
        loop {
            let file = File::open(&self.lock).expect("opens");
            let held = Flock::lock(file, FlockArg::LockExclusive).expect("locks");
            if fs::metadata(&self.lock).expect("there").ino() == held.metadata().expect("there").ino() {
                return held;
            }
        }
    }

    fn turn(&mut self) {
        let held = self.lock();
        let text = fs::read_to_string(&self.document).expect("reads");
        let mut now: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        self.turns += 1;
        let mine = json!({ "mine": self.turns % 7 });
        let jobs = now["jobs"].as_array_mut().expect("an array");
        for job in jobs.iter_mut().filter(|job| job["name"].is_string()) {
            self.seen.insert(job["name"].as_str().expect("a name").to_owned());
            job["seen"] = json!(self.turns);
        }
        // Its own things come and go, in front of and behind those of others.
        let own = self.own["jobs"].as_array_mut().expect("an array");
        match self.turns % 3 {
            0 => {
                jobs.insert(0, mine.clone());
                own.insert(0, mine);
            }
            1 => {
                jobs.push(mine.clone());
                own.push(mine);
            }
            _ => {
                let first = jobs.iter().position(|job| job.get("mine").is_some()).expect("one of its own");
                jobs.remove(first);
                own.remove(0);
            }
        }
        now["次数"] = json!(self.turns);
        self.own["次数"] = json!(self.turns);
        // It does not even write it the same way each time.
        let text = match self.turns.is_multiple_of(2) {
            true => now.to_string(),
            false => format!("{now:#}\n"),
        };
        let beside = self.document.with_extension("busy");
        fs::write(&beside, text).expect("writes");
        fs::rename(&beside, &self.document).expect("renames");
        drop(held);
    }
}

/// Runs twenty playbooks at once beside the busy program, and compares.
fn twenty_writers(lock: &str) {
    let locked = if lock.is_empty() { String::new() } else { format!("lock: {lock}, ") };
    let stage = Stage::new(&format!(
        "
name: jobs
prepare:
  add:
    json: {{ path: 作业.json, {locked}append: {{ to: /jobs, value: {{ name: \"${{{{ run.id }}}}\", n: 1.0 }} }}, id: /name }}
monitor:
  worked_on:
    wait:
      until: {{ json: {{ path: 作业.json, {locked}get: /jobs }} }}
      succeed_when: 'out.value.exists(job, has(job.name) && job.name == run.id && has(job.seen))'
    timeout: 2m
"
    ));
    let own = json!({ "jobs": [{ "mine": 0 }, { "mine": 0 }], "次数": 0, "a/b~c": { "深": [1.5, "✓"] } });
    let document = stage.path("作业.json");
    fs::write(&document, own.to_string()).expect("writes");
    if !lock.is_empty() {
        fs::write(stage.path(lock), "").expect("writes");
    }
    let before = stage.names();
    let lock = if lock.is_empty() { document.clone() } else { stage.path(lock) };
    let (over, program) = (AtomicBool::new(false), binaries::shakedown());
    let busy = Busy { document, lock, own, turns: 0, seen: BTreeSet::new() };
    let (busy, outputs) = thread::scope(|scope| {
        let over = &over;
        let worker = scope.spawn(move || {
            let mut busy = busy;
            while !over.load(Ordering::Relaxed) {
                busy.turn();
            }
            busy
        });
        tests::tell(&format!("{} runs of {}", WRITERS, program.display()));
        let playbook = stage.playbook();
        let runs: Vec<Child> = (0..WRITERS).map(|_| stage.start(&["run", &playbook, "--no-input"])).collect();
        let outputs: Vec<Output> =
            runs.into_iter().map(|run| run.wait_with_output().expect("it ends")).collect();
        over.store(true, Ordering::Relaxed);
        (worker.join().expect("the program under test is well"), outputs)
    });
    for output in &outputs {
        assert_eq!(output.status.code(), Some(0), "{}", said(output));
        assert!(said(output).contains("undone 1 of 1"), "{}", said(output));
    }
    let now: Value = serde_json::from_str(&stage.document()).expect("JSON");
    assert_eq!(now, busy.own, "nothing of the program under test is lost, and nothing of the runs is left");
    assert_eq!(busy.seen.len(), WRITERS, "it worked on the element of each");
    assert_eq!(stage.names(), before);
    tests::tell(&format!("{WRITERS} runs, {} turns of the program beside them, garbage 0", busy.turns));
}

#[test]
fn twenty_runs_and_a_busy_program_share_a_document_by_a_lock_beside_it() {
    twenty_writers("作业.json.lock");
}

#[test]
fn twenty_runs_and_a_busy_program_share_a_document_by_its_own_lock() {
    twenty_writers("");
}

const DOCUMENT: &str =
    "{\n\t\"名\": 123456789012345678901234567890,\n\t\"jobs\": [\n\t\t{\"a\":1.0}\n\t],\n\t\"x\": 1e400\n}";

const CHANGES: &str = "
name: changes
prepare:
  one: { json: { path: 作业.json, append: { to: /jobs, value: { name: 一 } } } }
  two: { needs: [one], json: { path: 作业.json, set: { at: /名, value: { 新: [1, 2] } } } }
  three: { needs: [two], json: { path: 作业.json, remove: /x } }
  four: { needs: [three], json: { path: new.json, create: true, set: { at: /a, value: 1 } } }
monitor:
  look: { json: { path: 作业.json, get: /jobs }, expect: 'out.count == 2' }
";

#[test]
fn killed_at_any_point_it_is_recovered_byte_for_byte() {
    let stage = Stage::new(CHANGES);
    fs::write(stage.path("作业.json"), DOCUMENT).expect("writes");
    let mut points = 0;
    loop {
        let mut run = stage.command(binaries::shakedown_with_faults(), &["run", &stage.playbook()]);
        let output = run.env("SHAKEDOWN_FAULTS", format!("kill:{}", points + 1)).output().expect("it starts");
        if output.status.signal() != Some(9) {
            assert_eq!(output.status.code(), Some(0), "{}", said(&output));
            break;
        }
        points += 1;
        let output = stage.run(&["recover", "--yes"]);
        assert_eq!(output.status.code(), Some(0), "point {points}: {}", said(&output));
        assert_eq!(stage.document(), DOCUMENT, "point {points}");
        assert_eq!(stage.names(), BTreeSet::from(["作业.json".to_owned()]), "point {points}");
    }
    assert!(points > 40, "only {points} points");
    assert_eq!(stage.document(), DOCUMENT);
    assert_eq!(stage.names(), BTreeSet::from(["作业.json".to_owned()]));
    tests::tell(&format!("{points} points of a run, garbage 0"));
}

#[test]
fn killed_while_it_waits_for_the_lock_nothing_has_happened() {
    let stage = Stage::new(CHANGES);
    fs::write(stage.path("作业.json"), DOCUMENT).expect("writes");
    let held = Flock::lock(File::open(stage.path("作业.json")).expect("opens"), FlockArg::LockExclusive);
    let held = held.expect("locks");
    let events = stage.state.path().join("events.jsonl");
    let argv = ["run", &stage.playbook(), "--events", &events.display().to_string()];
    let mut run = stage.start(&argv);
    until("the step has begun", || {
        let text = fs::read_to_string(&events).unwrap_or_default();
        text.lines().any(|line| line.contains("step_started"))
    });
    run.kill().expect("kills");
    run.wait().expect("ends");
    drop(held);
    let output = stage.run(&["recover", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(stage.document(), DOCUMENT);
    assert_eq!(stage.names(), BTreeSet::from(["作业.json".to_owned()]));
}

#[test]
#[expect(clippy::print_stderr, reason = "a CI script counts these lines")]
fn a_full_disk_leaves_the_document_untouched_and_cannot_keep_a_change() {
    let stage = Stage::new(
        "
name: full
prepare:
  one: { json: { path: 作业.json, append: { to: /jobs, value: 1 } } }
monitor:
  full: { command: { shell: 'dd if=/dev/zero of=filler bs=512 2>/dev/null; true', reads: true } }
",
    );
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
        .arg(stage.dir.path())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("SKIPPED lab test: mounting a small file system needs root");
        return;
    }
    let document = format!("{{\"jobs\": [], \"long\": \"{}\"}}", "长".repeat(10_000));
    let all = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        fs::write(stage.path("作业.json"), &document).expect("writes");
        // It fills up between the change and the undo: the space for that was put by.
        let output = stage.run(&["run", &stage.playbook()]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert!(said(&output).contains("undone 1 of 1"), "{}", said(&output));
        assert_eq!(stage.document(), document);
        assert_eq!(stage.names(), BTreeSet::from(["filler".to_owned(), "作业.json".to_owned()]));
        // It is full before.
        fs::remove_file(stage.path("filler")).expect("removes");
        fs::write(stage.path("filler"), vec![0; 180 << 10]).expect("writes");
        let output = stage.run(&["run", &stage.playbook()]);
        assert_eq!(output.status.code(), Some(5), "the environment's fault: {}", said(&output));
        assert!(said(&output).contains("df -h"), "{}", said(&output));
        assert_eq!(stage.document(), document);
        assert_eq!(stage.names(), BTreeSet::from(["filler".to_owned(), "作业.json".to_owned()]));
    }));
    let unmounted = Command::new("umount").arg("-l").arg(stage.dir.path()).status();
    assert!(all.is_ok() && unmounted.is_ok_and(|status| status.success()));
}
