//! What each step type says of an attempt whose outcome is unknown: it happened, it did not, or it cannot be told.

use crate::testing::{Bench, Started};
use engine::step::{Settled, Undone};
use serde_json::{Value, json};
use std::fs;

/// What is known of a step that ran and whose output was lost: the same as its output, but for what only it could know.
async fn happened(bench: &Bench, it: &Started) -> Value {
    match bench.settle(it).await.expect("looks") {
        Settled::Happened(output) => output,
        other => panic!("it happened, and is said to be {other:?}"),
    }
}

async fn not_happened(bench: &Bench, it: &Started) {
    assert_eq!(bench.settle(it).await.expect("looks"), Settled::NotHappened);
}

#[tokio::test]
async fn a_file_is_known_by_what_it_holds() {
    let bench = Bench::new();
    fs::write(bench.path("source"), "原文").expect("writes");
    for params in [
        json!({ "create": bench.at("random"), "size": "300KiB" }),
        json!({ "create": bench.at("text"), "text": "文" }),
        json!({ "copy": bench.at("source"), "to": bench.at("copy") }),
        json!({ "directory": bench.at("folder") }),
        json!({ "remove": bench.at("source") }),
    ] {
        not_happened(&bench, &bench.intend("file", params.clone()).await).await;
        let it = bench.start("file", params.clone()).await;
        assert_eq!(Ok(happened(&bench, &it).await), it.result, "{params}");
        assert_eq!(bench.undo_blindly(&it).await.expect("undoes"), Undone::Removed, "{params}");
    }
    assert_eq!(fs::read_to_string(bench.path("source")).expect("put back"), "原文");
}

#[tokio::test]
async fn a_file_of_anothers_is_not_taken_for_ours() {
    let bench = Bench::new();
    let it = bench.intend("file", json!({ "create": bench.at("a"), "text": "ours" })).await;
    fs::write(bench.path("a"), "theirs").expect("writes");
    not_happened(&bench, &it).await;
    bench.undo_blindly(&it).await.expect("undoes");
    assert_eq!(fs::read_to_string(bench.path("a")).expect("there"), "theirs");
    let it = bench.intend("file", json!({ "directory": bench.at("d"), "owned": true })).await;
    fs::create_dir(bench.path("d")).expect("made");
    fs::write(bench.path("d/theirs"), "").expect("writes");
    not_happened(&bench, &it).await;
    bench.undo_blindly(&it).await.expect("undoes");
    assert!(bench.path("d/theirs").exists());
}

#[tokio::test]
async fn a_row_is_known_by_the_key_that_it_was_given() {
    let bench = Bench::new();
    let database = rusqlite::Connection::open(bench.path("it.db")).expect("opens");
    database
        .execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, note TEXT); INSERT INTO t (name) VALUES ('名');")
        .expect("makes");
    let params =
        json!({ "database": bench.at("it.db"), "insert": { "into": "t", "values": { "name": "名" } } });
    // The row of another with the same values was there before.
    not_happened(&bench, &bench.intend("sqlite", params.clone()).await).await;
    let it = bench.start("sqlite", params.clone()).await;
    let out = happened(&bench, &it).await;
    assert_eq!(out["rowid"], it.result.as_ref().expect("inserted")["rowid"]);
    database.execute("INSERT INTO t (name) VALUES ('名')", []).expect("inserts");
    assert_eq!(happened(&bench, &it).await["rowid"], out["rowid"], "a later row just like it is another's");
}

#[tokio::test]
async fn a_process_is_known_by_its_mark_and_is_ready_before_it_has_happened() {
    let bench = Bench::new();
    let params = json!({
        "run": ["sh", "-c", format!("sleep 0.2; touch {}; exec sleep 1000", bench.at("ready"))],
        "ready": { "file": { "stat": bench.at("ready") } }, "ready_when": "out.exists",
    });
    not_happened(&bench, &bench.intend("process", params.clone()).await).await;
    let it = bench.start("process", params).await;
    let out = happened(&bench, &it).await;
    assert_eq!(out["log"], it.result.as_ref().expect("started")["log"]);
    assert_eq!(bench.undo_blindly(&it).await.expect("stops"), Undone::Removed);
    not_happened(&bench, &it).await;
}

#[tokio::test]
async fn a_command_cannot_tell() {
    let bench = Bench::new();
    let it = bench.intend("command", json!({ "run": ["true"] })).await;
    assert!(matches!(bench.settle(&it).await, Ok(Settled::Unclear(_))));
}
