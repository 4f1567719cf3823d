//! Looking for processes that are really there, here and over a real sshd.

use super::{find::Find, watch::Processes};
use crate::{
    ssh_host::{SshConnector, sshd::Sshd},
    testing::{Bench, check, describe, until},
};
use engine::{
    ErrorClass,
    step::{Changes, Effect},
};
use serde_json::{Value, json};
use std::{
    fs,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

/// Long enough for any machine; only a test that fails waits for it.
const LONG: Duration = Duration::from_secs(30);

/// A process that ends with this value.
struct Victim(Child);

impl Victim {
    /// A program of the test's own under any name, which lasts until its stdin is closed.
    fn named(bench: &Bench, name: &str) -> Self {
        let path = bench.path(name);
        if !path.exists() {
            fs::copy("/bin/cat", &path).expect("copied");
        }
        // Another thread that is starting a program may still hold the copy open for writing.
        for _ in 0..1_000 {
            match Command::new(&path).stdin(Stdio::piped()).stdout(Stdio::null()).spawn() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::yield_now()
                }
                started => return Self(started.expect("starts")),
            }
        }
        panic!("`{name}` stays busy");
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Kills it and leaves it as a zombie, for nobody asks how it ended.
    fn kill(&mut self) {
        self.0.kill().expect("is killed");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

async fn find(bench: &Bench, find: Value) -> Value {
    bench.run("process", json!({ "find": find })).await.expect("looks")
}

#[tokio::test]
async fn a_process_is_found_by_each_of_its_marks_and_shows_what_it_uses() {
    let bench = Bench::new();
    // Longer than the 15 bytes that the kernel keeps, and Chinese.
    let victim = Victim::named(&bench, "媒体同步守护进程-daemon");
    let pid_file = bench.at("it.pid");
    fs::write(&pid_file, format!("{}\n", victim.pid())).expect("written");
    let folder = bench.dir.path().file_name().expect("a name").to_string_lossy().into_owned();
    for by in [
        json!({ "pid": victim.pid() }),
        json!({ "pid_file": pid_file }),
        json!({ "pid_file": pid_file, "name": "媒体同步守护进程-daemon" }),
        json!({ "name": "媒体同步守护进程-daemon", "command_line": format!("^/.*{folder}/媒") }),
    ] {
        let out = find(&bench, by.clone()).await;
        assert_eq!(
            (&out["running"], &out["count"], &out["pid"]),
            (&json!(true), &json!(1), &json!(victim.pid())),
            "{by}"
        );
        let process = &out["processes"][0];
        assert_eq!(process["command_line"], bench.at("媒体同步守护进程-daemon"), "{by}");
        assert_eq!(process["parent"], std::process::id());
        assert!(process["rss"].as_u64() > Some(0) && process["cpu_ms"].is_u64(), "{process}");
        let since: jiff::Timestamp = process["since"].as_str().expect("text").parse().expect("a time");
        let age = jiff::Timestamp::now().as_second() - since.as_second();
        assert!((-2..600).contains(&age), "{since}");
    }
    let not_it = find(&bench, json!({ "pid": victim.pid(), "name": "another" })).await;
    assert_eq!(
        (&not_it["running"], &not_it["pid"], &not_it["count"]),
        (&json!(false), &Value::Null, &json!(0))
    );
}

#[tokio::test]
async fn one_that_has_ended_or_has_another_start_time_does_not_count() {
    let bench = Bench::new();
    let mut victim = Victim::named(&bench, "ends");
    let out = find(&bench, json!({ "pid": victim.pid() })).await;
    let start_time = out["processes"][0]["start_time"].as_u64().expect("a number");
    let same = json!({ "pid": victim.pid(), "start_time": start_time });
    assert_eq!(find(&bench, same.clone()).await["running"], true);
    let reused = json!({ "pid": victim.pid(), "start_time": start_time - 1 });
    assert_eq!(find(&bench, reused).await["running"], false, "another process had the number");
    victim.kill();
    until("it is a zombie", async || find(&bench, same.clone()).await["running"] == false).await;
    assert!(fs::exists(format!("/proc/{}", victim.pid())).expect("told"));
}

#[tokio::test]
async fn what_is_not_as_it_should_be_is_told_with_the_command_that_shows_it() {
    let bench = Bench::new();
    let victim = Victim::named(&bench, "stays");
    let error = async |params: Value| bench.run("process", params).await.expect_err("not so");
    let gone = error(json!({ "find": { "pid": victim.pid() }, "is": "gone" })).await;
    assert_eq!(gone.class, ErrorClass::Expectation);
    let expected =
        format!("the process with the pid {0} still runs: pid {0}, `{1}`", victim.pid(), bench.at("stays"));
    assert!(gone.message.starts_with(&expected[..60]), "{}", gone.message);
    let missing = error(json!({ "find": { "name": "no-such-程序" }, "is": "running" })).await;
    assert_eq!(missing.message, "no process runs named `no-such-程序`");
    assert_eq!(missing.hint.as_deref(), Some("ps -ef | grep -F -- 'no-such-程序'"));
    fs::write(bench.path("bad.pid"), "soon").expect("written");
    let bad = error(json!({ "find": { "pid_file": bench.at("bad.pid") } })).await;
    assert_eq!(bad.class, ErrorClass::Expectation);
    assert!(bad.message.contains("holds `soon`, expected the number of a process"), "{}", bad.message);
    // A file that is not there, or not written yet, is no error.
    fs::write(bench.path("empty.pid"), "").expect("written");
    for file in ["none.pid", "empty.pid"] {
        assert_eq!(find(&bench, json!({ "pid_file": bench.at(file) })).await["running"], false);
    }
    let running = bench.run("process", json!({ "find": { "pid": victim.pid() }, "is": "running" })).await;
    assert_eq!(running.expect("runs")["count"], 1);
}

#[test]
fn what_does_not_go_together_is_refused_while_reading() {
    for (params, word) in [
        (json!({}), "exactly one of"),
        (json!({ "run": ["x"], "find": { "pid": 1 } }), "cannot go with `run`"),
        (json!({ "find": { "pid": 1 }, "stop_grace": "1s" }), "`stop_grace` cannot go with `find`"),
        (json!({ "run": ["x"], "is": "gone" }), "`find` finds, which is missing"),
        (json!({ "find": {} }), "at least one of"),
        (json!({ "find": { "pid": 1, "pid_file": "/x" } }), "cannot both"),
        (json!({ "find": { "name": "x", "start_time": 5 } }), "`pid` is missing"),
        (json!({ "find": { "command_line": "(" } }), "no regular expression"),
    ] {
        let problems = check("process", &params);
        assert!(problems.iter().any(|problem| problem.contains(word)), "{params}: {problems:?}");
    }
    let reads = describe("process", &json!({ "find": { "name": "x" }, "is": "running" }));
    assert_eq!((reads.title.as_str(), reads.effect), ("process named `x` is running", Effect::Reads));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_looked_at_as_this_machine_is() {
    let sshd = Sshd::start();
    let mut bench = Bench::with_hosts(|dir| Arc::new(SshConnector::new(dir)), [sshd.spec("nas")]);
    let victim = Victim::named(&bench, "far (远) 1");
    fs::write(bench.path("it.pid"), victim.pid().to_string()).expect("written");
    let by = [
        json!({ "pid": victim.pid() }),
        json!({ "pid_file": bench.at("it.pid") }),
        json!({ "name": "far (远) 1" }),
        json!({ "command_line": "/far .远. 1$" }),
        json!({ "pid_file": bench.at("none.pid") }),
        json!({ "name": "no-such-程序" }),
    ];
    let mut here = Vec::new();
    for by in &by {
        here.push(find(&bench, by.clone()).await);
    }
    bench.cx.host = bench.cx.services.host(Some("nas")).await.expect("connects");
    for (by, here) in by.iter().zip(here) {
        let there = find(&bench, by.clone()).await;
        for key in ["running", "count", "pid"] {
            assert_eq!(there[key], here[key], "{by} {key}");
        }
        for key in ["command_line", "start_time", "parent", "name"] {
            assert_eq!(there["processes"][0][key], here["processes"][0][key], "{by} {key}");
        }
    }
    let error = bench.run("process", json!({ "run": ["true"] })).await.expect_err("not there");
    assert_eq!(error.class, ErrorClass::Unsupported);
}

fn watch(find: Value) -> Box<dyn Changes> {
    let find: Find = serde_json::from_value(find).expect("parameters");
    Processes::watch(&Bench::new().cx, &find).expect("watches")
}

async fn told(changes: &mut Box<dyn Changes>, what: &str) {
    tokio::time::timeout(LONG, changes.next()).await.unwrap_or_else(|_| panic!("no word of {what}"));
}

#[tokio::test]
async fn the_end_and_the_beginning_of_a_process_are_told() {
    let bench = Bench::new();
    let mut first = Victim::named(&bench, "told");
    let mut by_pid = watch(json!({ "pid": first.pid() }));
    let mut by_name = watch(json!({ "name": "told" }));
    first.kill();
    told(&mut by_pid, "its end, by the pid").await;
    told(&mut by_name, "its end, by the name").await;
    let _second = Victim::named(&bench, "told");
    told(&mut by_name, "the beginning of another").await;
}

#[tokio::test]
async fn a_program_that_takes_the_name_only_by_an_exec_is_told() {
    let bench = Bench::new();
    fs::copy("/bin/cat", bench.path("late")).expect("copied");
    let mut changes = watch(json!({ "name": "late" }));
    // The shell is there first, and becomes the program once it has read a line.
    let mut shell = Command::new("/bin/sh");
    let script = "read line; until \"$0\" </dev/null; do :; done; exec \"$0\"";
    let mut shell = Victim(
        shell.args(["-c", script]).arg(bench.path("late")).stdin(Stdio::piped()).spawn().expect("starts"),
    );
    let mut stdin = shell.0.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut stdin, b"go\n").expect("written");
    told(&mut changes, "the program").await;
}

/// Waits until `succeed_when` holds, by word alone: by itself it would ask only after ten minutes.
async fn wait(bench: &Bench, find: Value, succeed_when: &str) -> Value {
    let until = json!({ "process": { "find": find } });
    let wait = json!({ "until": until, "succeed_when": succeed_when, "every": "10m" });
    tokio::time::timeout(LONG, bench.run("wait", wait)).await.expect("is told").expect("ends well")
}

#[tokio::test]
async fn a_pid_file_that_is_written_and_the_end_of_the_process_in_it_are_told() {
    let bench = Bench::new();
    let by = json!({ "pid_file": bench.at("it.pid") });
    let mut victim = Victim::named(&bench, "filed");
    let written = async {
        tokio::task::yield_now().await;
        fs::write(bench.path("it.pid"), victim.pid().to_string()).expect("written");
    };
    let (out, ()) = tokio::join!(wait(&bench, by.clone(), "out.running"), written);
    assert_eq!(out["out"]["pid"], victim.pid(), "{out}");
    let killed = async {
        tokio::task::yield_now().await;
        victim.kill();
    };
    let (out, ()) = tokio::join!(wait(&bench, by.clone(), "!out.running"), killed);
    assert_eq!(out["out"]["running"], false, "{out}");
}

#[tokio::test]
async fn a_wait_ends_with_the_process_that_it_watches() {
    let bench = Bench::new();
    let mut victim = Victim::named(&bench, "waited for");
    let by = json!({ "pid": victim.pid() });
    let killed = async {
        tokio::task::yield_now().await;
        victim.kill();
    };
    let (out, ()) = tokio::join!(wait(&bench, by, "!out.running"), killed);
    assert_eq!(out["out"]["running"], false, "{out}");
}
