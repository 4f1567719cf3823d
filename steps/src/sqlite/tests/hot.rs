//! What a look sees if somebody was killed in a transaction.

use super::odd::{dump, into, made};
use crate::testing::Bench;
use engine::step::{Amend, Presence, Settled, Undone};
use rusqlite::{Connection, OpenFlags, ffi};
use serde_json::json;
use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE big (n INTEGER PRIMARY KEY, filler TEXT);
    WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 200) INSERT INTO big SELECT n, hex(zeroblob(1000)) FROM n";

/// Kills a writer that has written half of its transaction into the file.
fn kill_a_writer(path: &str) {
    let before = std::fs::read(path).expect("the database");
    let mut writer = Command::new("sqlite3").arg(path).stdin(Stdio::piped()).spawn().expect("sqlite3");
    let mut input = writer.stdin.take().expect("a pipe");
    let sql = "PRAGMA cache_size = 1; BEGIN IMMEDIATE; UPDATE big SET filler = lower(hex(randomblob(1000))); INSERT INTO t VALUES (77, 'half');";
    writeln!(input, "{sql}").expect("it reads");
    input.flush().expect("it reads");
    let until = Instant::now() + Duration::from_secs(20);
    while std::fs::read(path).expect("the database") == before {
        assert!(Instant::now() < until, "it has not written into the file");
        std::thread::yield_now();
    }
    writer.kill().expect("it runs");
    writer.wait().expect("it ends");
    let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("it opens");
    let read = reader.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
    let code = read.expect_err("its journal is hot").sqlite_error().map(|it| it.extended_code);
    assert_eq!(code, Some(ffi::SQLITE_READONLY_ROLLBACK));
}

#[tokio::test]
async fn a_journal_that_a_kill_left_is_rolled_back_by_each_look() {
    let mut bench = Bench::new();
    let path = made(&bench, SCHEMA);
    let before = dump(&path);
    let journal = bench.amended.clone();
    bench.cx.amend = Amend::new(move |intent| {
        *journal.lock().unwrap() = Some(intent);
        Box::pin(async { false })
    });
    let cut = bench.start("sqlite", into(&path, "t", &json!({ "name": "a" }))).await;
    assert!(cut.result.is_err());

    kill_a_writer(&path);
    assert_eq!(bench.settle(&cut).await.unwrap(), Settled::NotHappened);
    assert_eq!(dump(&path), before);
    kill_a_writer(&path);
    assert_eq!(bench.presence(&cut).await.unwrap(), Presence::Gone);
    kill_a_writer(&path);
    assert_eq!(bench.undo_blindly(&cut).await.unwrap(), Undone::NothingToDo);
    kill_a_writer(&path);
    let query = json!({ "database": path, "query": "SELECT count(*) AS n FROM t" });
    assert_eq!(bench.run("sqlite", query).await.unwrap()["row"]["n"], json!(0));
    kill_a_writer(&path);
    bench.intend("sqlite", into(&path, "t", &json!({ "name": "a" }))).await;
    assert_eq!(dump(&path), before);
}
