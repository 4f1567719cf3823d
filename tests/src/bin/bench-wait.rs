//! Measures waits, for `tests/bench/wait`: how long after a change the step that waits for it ends, and what waiting costs.
//!
//! `bench-wait CHANGES SECONDS` prints tables in Markdown. `SHAKEDOWN_BIN` names the program to measure. Units need the
//! lab (root, and `tests/lab/prepare` done); without it they are left out, and a line says so.

use rusqlite::Connection;
use serde_json::Value;
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tests::{lab::Lab, lab::binaries};

/// Milliseconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64() * 1_000.0
}

fn say(line: &str) {
    let _unread = writeln!(std::io::stdout(), "{line}");
}

/// A playbook of one wait after the other.
fn playbook(waits: &[String]) -> String {
    let mut text = String::from("name: bench\nmonitor:\n");
    for (i, wait) in waits.iter().enumerate() {
        let needs = if i > 0 { format!(", needs: [w{}]", i - 1) } else { String::new() };
        text.push_str(&format!("  w{i}: {{ wait: {wait}, timeout: 1h{needs} }}\n"));
    }
    text
}

/// Events of a run: when each step of the plan began and ended, in milliseconds since 1970, and its output.
#[derive(Default)]
struct Seen {
    began: Vec<f64>,
    ended: Vec<(f64, Value)>,
}

/// From a change to the moment at which the wait found its condition true, and to the end of the step, in milliseconds.
type Delay = (f64, f64);

impl Seen {
    fn delay(&self, i: usize, changed: f64) -> Delay {
        let (ended, out) = &self.ended[i];
        (self.began[i] + out["true_at_ms"].as_f64().expect("a number") - changed, ended - changed)
    }
}

fn seen(events: &[u8]) -> Seen {
    let mut seen = Seen::default();
    for line in events.split(|byte| *byte == b'\n') {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { continue };
        let at = event["at_ms"].as_f64().unwrap_or_default();
        match event["event"].as_str() {
            Some("step_started") => seen.began.push(at),
            Some("step_finished") => seen.ended.push((at, event["outcome"]["done"]["out"].clone())),
            _ => {}
        }
    }
    seen
}

/// A run of this machine.
struct Run {
    child: Child,
    events: PathBuf,
}

impl Run {
    fn start(dir: &Path, name: &str, waits: &[String]) -> Self {
        let at = |ending: &str| dir.join(format!("{name}.{ending}"));
        fs::write(at("yaml"), playbook(waits)).expect("written");
        let child = Command::new(binaries::shakedown())
            .arg("run")
            .arg(at("yaml"))
            .args(["--no-input", "--events"])
            .arg(at("jsonl"))
            .arg("--state-dir")
            .arg(at("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        Self { child, events: at("jsonl") }
    }

    fn seen(&self) -> Seen {
        seen(&fs::read(&self.events).unwrap_or_default())
    }

    fn until(&self, what: impl Fn(&Seen) -> bool) -> Seen {
        loop {
            let seen = self.seen();
            if what(&seen) {
                return seen;
            }
            sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The pause before change `i`: the wait is at rest by then, and is not met at the same point of any rhythm.
fn rest(i: usize) {
    sleep(Duration::from_millis(150 + u64::try_from(i * 37 % 101).unwrap_or_default()));
}

/// The delays of `waits`, each ended by `change`, which gives the moment just before it.
fn delays(dir: &Path, name: &str, waits: &[String], mut change: impl FnMut(usize) -> f64) -> Vec<Delay> {
    let run = Run::start(dir, name, waits);
    let mut changed = Vec::new();
    for i in 0..waits.len() {
        run.until(|seen| seen.began.len() > i);
        rest(i);
        changed.push(change(i));
        run.until(|seen| seen.ended.len() > i);
    }
    let seen = run.seen();
    changed.iter().enumerate().map(|(i, changed)| seen.delay(i, *changed)).collect()
}

fn row(name: &str, delays: Vec<Delay>, limit: &str) {
    let (mut found, mut ended): (Vec<f64>, Vec<f64>) = delays.iter().copied().unzip();
    found.sort_by(f64::total_cmp);
    ended.sort_by(f64::total_cmp);
    let at = |sorted: &[f64], share: usize| sorted[(sorted.len() - 1) * share / 100];
    let [found, ended] =
        [found, ended].map(|sorted| format!("{:.1} | {:.1}", at(&sorted, 50), at(&sorted, 95)));
    say(&format!("| {name} | {} | {found} | {ended} | {limit} |", delays.len()));
}

fn database(path: &Path, rows: usize) -> Connection {
    let connection = Connection::open(path).expect("opens");
    connection
        .execute_batch("PRAGMA journal_mode = wal; CREATE TABLE q (id INTEGER PRIMARY KEY, state TEXT); CREATE TABLE other (n)")
        .expect("is made");
    for id in 0..rows {
        connection.execute("INSERT INTO q VALUES (?1, 'pending')", [id.to_string()]).expect("inserts");
    }
    connection.execute("INSERT INTO other VALUES (0)", []).expect("inserts");
    connection
}

/// Another program that commits again and again, until this is dropped.
struct Writer(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Writer {
    fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let connection = Connection::open(path).expect("opens");
            connection.busy_timeout(Duration::from_secs(30)).expect("is set");
            while !told.load(Relaxed) {
                connection.execute("UPDATE other SET n = n + 1", []).expect("updates");
                sleep(Duration::from_millis(5));
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        let _ended = self.1.take().map(std::thread::JoinHandle::join);
    }
}

fn row_wait(database: &Path, id: usize) -> String {
    format!(
        "{{ until: {{ sqlite: {{ database: {}, query: SELECT state FROM q WHERE id = {id} }} }}, \
         succeed_when: out.row.state == \"completed\" }}",
        database.display()
    )
}

fn sqlite(dir: &Path, name: &str, changes: usize) -> Vec<Delay> {
    let path = dir.join(format!("{name}.db"));
    let connection = database(&path, changes);
    let _writer = name.contains("busy").then(|| Writer::start(path.clone()));
    connection.busy_timeout(Duration::from_secs(30)).expect("is set");
    let waits: Vec<_> = (0..changes).map(|id| row_wait(&path, id)).collect();
    delays(dir, name, &waits, |id| {
        let at = now();
        connection
            .execute("UPDATE q SET state = 'completed' WHERE id = ?1", [id.to_string()])
            .expect("updates");
        at
    })
}

fn sleeper(program: &Path) -> Child {
    Command::new(program).arg("100000").stdin(Stdio::null()).spawn().expect("starts")
}

struct Ended(Vec<Child>);

impl Drop for Ended {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ended = child.kill();
            let _status = child.wait();
        }
    }
}

fn unit(n: usize) -> String {
    let is = if n.is_multiple_of(2) { "active" } else { "inactive" };
    format!("{{ until: {{ systemd: {{ unit: bench, is: {is} }} }} }}")
}

/// Units, in the lab: from the moment that systemd itself notes for the change.
fn units(lab: &Lab, changes: usize) -> Vec<Delay> {
    let edge = lab.edge();
    let waits: Vec<_> = (0..changes).map(unit).collect();
    edge.write("/root/bench.yaml", playbook(&waits));
    let events = "/dev/shm/bench.jsonl";
    let run = edge.spawn(["shakedown", "run", "/root/bench.yaml", "--no-input", "--events", events]);
    let look = || {
        sleep(Duration::from_millis(20));
        seen(edge.sh(&format!("cat {events} 2>/dev/null || true")).ok().as_bytes())
    };
    let mut since = Vec::new();
    for i in 0..changes {
        while look().began.len() <= i {}
        rest(i);
        let action = if i.is_multiple_of(2) { "start" } else { "stop" };
        edge.sh(&format!("systemctl {action} bench")).ok();
        while look().ended.len() <= i {}
        let show = "systemctl show --timestamp=us+utc --property=StateChangeTimestamp --value bench";
        let asked = edge.sh(&format!("date -d \"$({show})\" +%s.%N")).ok();
        since.push(asked.trim().parse::<f64>().expect("a number") * 1_000.0);
    }
    run.wait().ok();
    let seen = look();
    since.iter().enumerate().map(|(i, since)| seen.delay(i, *since)).collect()
}

/// The time of a processor that a process has used, in seconds.
fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect())
        .unwrap_or_default();
    (fields[11] + fields[12]) / 100.0
}

/// Whether others keep waking the wait of this name.
fn disturbed(name: &str) -> bool {
    name.contains("disturbed") || name.contains("beside")
}

fn main() {
    let number = |at: usize, usual: usize| {
        std::env::args().nth(at).and_then(|word| word.parse().ok()).unwrap_or(usual)
    };
    let (changes, seconds) = (number(1, 50), number(2, 60));
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let lab = match Lab::start() {
        Ok(lab) => {
            lab.edge().install_binary(binaries::shakedown(), "/usr/local/bin/shakedown");
            // Wanted by a target: systemd forgets the times of a unit at rest that nothing refers to.
            let service = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sleep 100000\n[Install]\nWantedBy=multi-user.target\n";
            lab.edge().write("/etc/systemd/system/bench.service", service);
            lab.edge().sh("systemctl daemon-reload && systemctl enable bench").ok();
            Some(lab)
        }
        Err(error) => {
            say(&format!("units are left out, for there is no lab: {error:?}\n"));
            None
        }
    };

    say(
        "| change | changes | found true: median, ms | p95, ms | step ended: median, ms | p95, ms | wanted |\n\
         | --- | --- | --- | --- | --- | --- | --- |",
    );
    let path = |i: usize| dir.join(format!("file-{i}"));
    let waits: Vec<_> = (0..changes)
        .map(|i| {
            format!("{{ until: {{ file: {{ stat: {} }} }}, succeed_when: out.exists }}", path(i).display())
        })
        .collect();
    let files = delays(dir, "files", &waits, |i| {
        let at = now();
        fs::write(path(i), "x").expect("written");
        at
    });
    row("a file is made", files, "under 20");
    if let Some(lab) = &lab {
        row("a unit is started or stopped", units(lab, changes), "under 20");
    }
    row("another process commits to SQLite", sqlite(dir, "sqlite", changes), "under 50");
    row(
        "the same, with 150 other commits a second beside it",
        sqlite(dir, "sqlite-busy", changes),
        "under 50",
    );

    let mut sleepers = Ended((0..changes).map(|_| sleeper(Path::new("/bin/sleep"))).collect());
    let waits: Vec<_> = sleepers
        .0
        .iter()
        .map(|child| format!("{{ until: {{ process: {{ find: {{ pid: {} }}, is: gone }} }} }}", child.id()))
        .collect();
    let ends = delays(dir, "ends", &waits, |i| {
        let at = now();
        sleepers.0[i].kill().expect("is killed");
        at
    });
    row("a process ends", ends, "");
    let program = |i: usize| dir.join(format!("bench-{i}"));
    for i in 0..changes {
        fs::copy("/bin/sleep", program(i)).expect("copied");
    }
    let waits: Vec<_> = (0..changes)
        .map(|i| format!("{{ until: {{ process: {{ find: {{ name: bench-{i} }}, is: running }} }} }}"))
        .collect();
    let mut begun = Ended(Vec::new());
    let begins = delays(dir, "begins", &waits, |i| {
        let at = now();
        begun.0.push(sleeper(&program(i)));
        at
    });
    row("a process begins", begins, "");
    drop((sleepers, begun));

    say("\n| waiting for | % of a core | wanted |\n| --- | --- | --- |");
    // A folder each: whoever waits for a file watches its folder, and what the others do there would wake it.
    let own = |name: &str| {
        let own = dir.join(name);
        fs::create_dir(&own).expect("is made");
        own
    };
    let quiet = own("quiet").join("quiet.db");
    let _connection = database(&quiet, 1);
    let busy = own("busy").join("busy.db");
    let _other = database(&busy, 1);
    let kept = Ended(vec![sleeper(Path::new("/bin/sleep"))]);
    let never = own("empty").join("never");
    let beside = busy.with_file_name("never");
    let file = |path: &Path| {
        format!("{{ until: {{ file: {{ stat: {} }} }}, succeed_when: out.exists }}", path.display())
    };
    let waits = [
        ("a file", file(&never)),
        ("a row of SQLite", row_wait(&quiet, 0)),
        (
            "the end of a process",
            format!("{{ until: {{ process: {{ find: {{ pid: {} }}, is: gone }} }} }}", kept.0[0].id()),
        ),
        (
            "a process of a name",
            "{ until: { process: { find: { name: never-there }, is: running } } }".to_owned(),
        ),
        ("a row of SQLite, disturbed by 150 other commits a second", row_wait(&busy, 0)),
        ("a file beside that database", file(&beside)),
    ];
    let runs: Vec<_> = waits
        .iter()
        .enumerate()
        .map(|(i, (_, wait))| Run::start(dir, &format!("cpu-{i}"), std::slice::from_ref(wait)))
        .collect();
    let mut pids: Vec<_> =
        waits.iter().map(|(name, _)| *name).zip(runs.iter().map(|run| run.child.id())).collect();
    let in_lab = lab.as_ref().map(|lab| {
        lab.edge().sh("systemctl stop bench").ok();
        lab.edge().write("/root/cpu.yaml", playbook(&[unit(0)]));
        lab.edge().spawn(["shakedown", "run", "/root/cpu.yaml", "--no-input"])
    });
    if let Some(run) = &in_lab {
        pids.push(("a unit", run.pid()));
    }
    runs.iter().for_each(|run| drop(run.until(|seen| !seen.began.is_empty())));
    let _writer = Writer::start(busy);
    // Its start is over by then.
    sleep(Duration::from_secs(3));
    let before: Vec<_> = pids.iter().map(|(_, pid)| cpu(*pid)).collect();
    sleep(Duration::from_secs(seconds as u64));
    for ((name, pid), before) in pids.iter().zip(before) {
        let share = (cpu(*pid) - before) / seconds as f64 * 100.0;
        let limit = if disturbed(name) { "" } else { "under 0.5" };
        say(&format!("| {name} | {share:.2} | {limit} |"));
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    say(&format!("\nload average at the end: {load}"));
}
