//! Starting a process and taking it back.

use crate::testing::{Bench, check, until};
use engine::{
    ErrorClass,
    step::{Presence, Undone},
};
use serde_json::json;
use std::fs;

fn alive(pid: &serde_json::Value) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn it_starts_waits_until_ready_and_is_stopped_with_its_tree() {
    let bench = Bench::new();
    let flag = bench.at("flag");
    let params = json!({
        "run": ["sh", "-c", "setsid sleep 1000 & echo up; sleep 0.1; echo $! > flag; wait"],
        "dir": bench.at("."),
        "ready": { "command": { "run": ["cat", flag], "reads": true } },
        "ready_when": "size(out.stdout) > 0",
    });
    let it = bench.start("process", params).await;
    let out = it.result.clone().expect("is ready");
    assert!(alive(&out["pid"]));
    let child = json!(fs::read_to_string(&flag).expect("there").trim().parse::<u32>().expect("a pid"));
    assert!(alive(&child));
    assert!(matches!(bench.presence(&it).await, Ok(Presence::Present(_))));
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    assert!(!alive(&out["pid"]) && !alive(&child));
    assert_eq!(bench.presence(&it).await, Ok(Presence::Gone));
    assert_eq!(bench.undo(&it).await, Ok(Undone::NothingToDo));
    assert_eq!(fs::read_to_string(out["log"].as_str().expect("text")).expect("there"), "up\n");
}

#[tokio::test]
async fn a_recovery_stops_it_by_the_intent_alone() {
    let bench = Bench::new();
    let it = bench.start("process", json!({ "run": ["sleep", 1000] })).await;
    let out = it.result.clone().expect("starts");
    bench.cx.services.resident.lock().await.clear();
    assert_eq!(bench.undo_blindly(&it).await, Ok(Undone::Removed));
    assert!(!alive(&out["pid"]));
}

#[tokio::test]
async fn one_that_ends_before_it_is_ready_shows_its_last_lines() {
    let bench = Bench::new();
    let params = json!({
        "run": ["sh", "-c", "echo no config >&2; exit 3"],
        "ready": { "command": { "run": ["false"], "reads": true } },
    });
    let it = bench.start("process", params).await;
    let error = it.result.clone().expect_err("fails");
    assert_eq!(error.class, ErrorClass::Exit);
    assert!(error.message.contains("exit status 3"), "{}", error.message);
    assert_eq!(error.details, ["no config"]);
    assert_eq!(bench.undo(&it).await, Ok(Undone::NothingToDo));
}

#[tokio::test]
async fn one_that_is_never_ready_is_stopped() {
    let bench = Bench::new();
    let params = json!({
        "run": ["sh", "-c", "echo $$ > pid; exec sleep 1000"], "dir": bench.at("."),
        "ready": { "command": { "run": ["test", "-e", bench.at("never")], "reads": true } },
        "ready_timeout": "300ms",
    });
    let error = bench.run("process", params).await.expect_err("never ready");
    assert_eq!(error.class, ErrorClass::Timeout);
    assert!(error.details[0].contains("exit status 1"), "{error:?}");
    let pid =
        json!(fs::read_to_string(bench.path("pid")).expect("there").trim().parse::<u32>().expect("a pid"));
    assert!(!alive(&pid));
}

#[tokio::test]
async fn cancel_stops_it_while_it_gets_ready() {
    let bench = Bench::new();
    let params = json!({
        "run": ["sh", "-c", "echo $$ > pid; exec sleep 1000"], "dir": bench.at("."),
        "ready": { "command": { "run": ["false"], "reads": true } }, "ready_timeout": "10m",
    });
    let (result, ()) = tokio::join!(bench.run("process", params), async {
        until("it runs", async || fs::read_to_string(bench.path("pid")).is_ok_and(|pid| pid.len() > 1)).await;
        bench.cancel.cancel();
    });
    assert_eq!(result.expect_err("cancelled").class, ErrorClass::Cancelled);
    let pid =
        json!(fs::read_to_string(bench.path("pid")).expect("there").trim().parse::<u32>().expect("a pid"));
    assert!(!alive(&pid));
}

#[tokio::test]
async fn the_plan_says_whether_the_program_exists() {
    let bench = Bench::new();
    assert_eq!(bench.probe("process", &json!({ "run": ["sh"] })).await.expect("looks").now, "/usr/bin/sh");
    let none = bench.probe("process", &json!({ "run": ["no-such-program"] })).await.expect("looks");
    assert_eq!(none.now, "no such program");
}

#[test]
fn ready_when_needs_ready() {
    assert_eq!(check("process", &json!({ "run": ["x"], "ready_when": "true" })).len(), 1);
}
