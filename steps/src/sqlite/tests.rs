//! Against real databases, with real other writers.

mod hot;
mod odd;
mod others;

use crate::testing::Bench;
use engine::{error::ErrorClass, step::Undone};
use rusqlite::Connection;
use serde_json::json;

fn database(bench: &Bench) -> (String, Connection) {
    let path = bench.at("状态.db");
    let owner = Connection::open(&path).unwrap();
    owner.pragma_update(None, "journal_mode", "wal").unwrap();
    owner
        .execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL, state TEXT DEFAULT 'pending', data BLOB)")
        .unwrap();
    (path, owner)
}

fn row(database: &str, name: &str) -> serde_json::Value {
    json!({ "database": database, "insert": { "into": "t", "values": { "name": name, "data": null } } })
}

#[tokio::test]
async fn a_row_is_inserted_read_and_taken_back_though_its_owner_changed_other_columns() {
    let bench = Bench::new();
    let (path, owner) = database(&bench);
    let started = bench.start("sqlite", row(&path, "媒体")).await;
    let out = started.result.clone().unwrap();
    assert_eq!(out["rowid"], json!(1));
    owner.execute("UPDATE t SET state = 'completed'", []).unwrap();
    let query = json!({ "database": path, "query": "SELECT name, state FROM t WHERE id = :id", "params": { "id": 1 } });
    let read = bench.start("sqlite", query).await.result.unwrap();
    assert_eq!(read["row"], json!({ "name": "媒体", "state": "completed" }));
    assert_eq!(bench.undo(&started).await.unwrap(), Undone::Removed);
    assert_eq!(bench.undo(&started).await.unwrap(), Undone::NothingToDo);
    assert_eq!(owner.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0)).unwrap(), 0);
}

#[tokio::test]
async fn a_row_that_somebody_changed_is_left_and_named() {
    let bench = Bench::new();
    let (path, owner) = database(&bench);
    let started = bench.start("sqlite", row(&path, "a")).await;
    owner.execute("UPDATE t SET name = 'b'", []).unwrap();
    let Undone::Left(left) = bench.undo(&started).await.unwrap() else { panic!("it was deleted") };
    assert!(left.what.contains("row 1 of `t`") && left.remove_with.contains("SELECT * FROM"), "{left:?}");
    assert_eq!(owner.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0)).unwrap(), 1);
}

#[tokio::test]
async fn after_a_crash_the_row_is_found_by_what_was_written() {
    let bench = Bench::new();
    let (path, owner) = database(&bench);
    owner.execute("INSERT INTO t (name) VALUES ('mine')", []).unwrap();
    let started = bench.start("sqlite", row(&path, "mine")).await;
    assert!(matches!(bench.presence(&started).await.unwrap(), engine::step::Presence::Present(_)));
    assert_eq!(bench.undo_blindly(&started).await.unwrap(), Undone::Removed);
    assert_eq!(bench.undo_blindly(&started).await.unwrap(), Undone::NothingToDo);
    let left: i64 = owner.query_row("SELECT id FROM t", [], |r| r.get(0)).unwrap();
    assert_eq!(left, 1, "the older row with the same name is another's");
}

#[tokio::test]
async fn who_comes_second_says_that_it_did_nothing_and_puts_nothing_by() {
    let bench = Bench::new();
    let (path, owner) = database(&bench);
    owner.execute_batch("CREATE UNIQUE INDEX names ON t (name)").unwrap();
    let params = row(&path, "a");
    let it = bench.intend("sqlite", params.clone()).await;
    owner.execute("INSERT INTO t (name) VALUES ('a')", []).unwrap();
    let registry = crate::builtin();
    let ran = registry.get("sqlite").unwrap().run(&bench.cx, &params, &it.intent).await;
    let error = ran.expect_err("the name is taken");
    assert!(error.class == ErrorClass::Exists && error.no_effect, "{error:?}");
    let hidden = bench.dir.path().read_dir().unwrap().flatten();
    let hidden: Vec<_> =
        hidden.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[tokio::test]
async fn a_lock_of_another_is_waited_for_and_counted() {
    let bench = Bench::new();
    let (path, owner) = database(&bench);
    owner.execute_batch("BEGIN IMMEDIATE").unwrap();
    let insert = async { bench.start("sqlite", row(&path, "a")).await.result };
    let release = async {
        // Once the other writer has been met there is a wait to be counted.
        tokio::task::spawn_blocking(move || {
            let until = std::time::Instant::now() + std::time::Duration::from_millis(200);
            while std::time::Instant::now() < until {
                std::thread::yield_now();
            }
            owner.execute_batch("COMMIT").unwrap();
        })
        .await
        .unwrap();
    };
    let (result, ()) = tokio::join!(insert, release);
    let out = result.unwrap();
    assert!(out["db"]["waits"].as_u64() >= Some(1) && out["db"]["wait_ms"].as_u64() >= Some(1), "{out}");
}

#[tokio::test]
async fn a_lock_that_stays_is_an_error_of_its_own_with_a_hint() {
    let bench = Bench::new();
    let (path, owner) = database(&bench);
    owner.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut params = row(&path, "a");
    params["busy_timeout"] = json!("50ms");
    let error = bench.start("sqlite", params).await.result.unwrap_err();
    assert_eq!(error.class, ErrorClass::Busy);
    assert!(error.hint.unwrap().contains("fuser"));
}

#[tokio::test]
async fn twenty_writers_at_once_all_succeed() {
    let bench = Bench::new();
    let (path, owner) = database(&bench);
    let started = (0..20).map(|i| {
        let (bench, path) = (&bench, path.clone());
        async move { bench.start("sqlite", row(&path, &format!("n{i}"))).await }
    });
    let mut all = Vec::new();
    for one in started {
        all.push(one);
    }
    let done = futures_join(all).await;
    assert!(done.iter().all(|started| started.result.is_ok()));
    assert_eq!(
        owner.query_row("SELECT count(DISTINCT name) FROM t", [], |r| r.get::<_, i64>(0)).unwrap(),
        20
    );
}

/// Polls all futures to their ends, side by side.
async fn futures_join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pinned: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in pinned.iter_mut().filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(cx) {
                *output = Some(value);
            }
        }
        match pinned.iter().all(|(_, output)| output.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    pinned.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn a_missing_or_damaged_database_is_never_made_or_touched() {
    let bench = Bench::new();
    let missing = bench.at("no.db");
    let check = |path: &str| json!({ "database": path, "check": ["exists", "readable", "quick"] });
    let error = bench.start("sqlite", check(&missing)).await.result.unwrap_err();
    assert_eq!(error.class, ErrorClass::NotFound);
    assert!(!bench.path("no.db").exists());

    for (name, content) in
        [("empty.db", &b""[..]), ("text.db", b"this is no database at all, only some text")]
    {
        std::fs::write(bench.path(name), content).unwrap();
        let error = bench.start("sqlite", check(&bench.at(name))).await.result.unwrap_err();
        assert_eq!(error.class, ErrorClass::Corrupt, "{name}: {error:?}");
        assert_eq!(std::fs::read(bench.path(name)).unwrap(), content);
    }
}

#[tokio::test]
async fn unknown_names_come_with_those_that_exist() {
    let bench = Bench::new();
    let (path, _owner) = database(&bench);
    let schema = |table: &str, column: &str| json!({ "database": path, "check": "schema", "table": table, "columns": [column] });
    let error = bench.start("sqlite", schema("t", "nam")).await.result.unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("did you mean `name`?"));
    let query = json!({ "database": path, "query": "SELECT * FROM missing" });
    let error = bench.start("sqlite", query).await.result.unwrap_err();
    assert_eq!((error.class, error.hint.as_deref()), (ErrorClass::NotFound, Some("its tables are: t")));
    let query = json!({ "database": path, "query": "DELETE FROM t" });
    assert_eq!(bench.start("sqlite", query).await.result.unwrap_err().class, ErrorClass::Invalid);
}

#[tokio::test]
async fn values_are_bound_and_never_run() {
    let bench = Bench::new();
    let (path, owner) = database(&bench);
    let hostile = "'); DROP TABLE t; --";
    bench.start("sqlite", row(&path, hostile)).await.result.unwrap();
    let query = json!({ "database": path, "query": "SELECT count(*) AS n FROM t WHERE name = :n", "params": { "n": hostile } });
    assert_eq!(bench.start("sqlite", query).await.result.unwrap()["row"]["n"], json!(1));
    assert_eq!(owner.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0)).unwrap(), 1);
}

#[tokio::test]
async fn a_probe_sees_a_writable_table_and_changes_nothing() {
    let bench = Bench::new();
    let (path, owner) = database(&bench);
    let probe = bench.probe("sqlite", &row(&path, "a")).await.unwrap();
    assert_eq!(probe.now, "writable, WAL");
    let version: i64 = owner.pragma_query_value(None, "data_version", |r| r.get(0)).unwrap();
    assert_eq!(owner.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0)).unwrap(), 0);
    assert_eq!(owner.pragma_query_value(None, "data_version", |r| r.get::<_, i64>(0)).unwrap(), version);
}

/// At a pipe SQLite would wait for ever, and a device has no end.
#[tokio::test]
async fn what_is_no_file_is_refused_at_once_whatever_is_asked() {
    let bench = Bench::new();
    let (path, _owner) = database(&bench);
    let pipe = |name: &str| {
        let path = bench.at(name);
        nix::unistd::mkfifo(path.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        path
    };
    std::fs::create_dir(bench.at("folder")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(bench.at("socket")).unwrap();
    let beside = bench.at("beside.db");
    std::fs::copy(&path, &beside).unwrap();
    for (database, kind) in [
        (pipe("pipe"), "is a pipe"),
        (bench.at("folder"), "is a folder"),
        (bench.at("socket"), "is a socket"),
        ("/dev/zero".to_owned(), "is a device"),
        (pipe("beside.db-journal").replace("-journal", ""), "beside.db-journal` is a pipe"),
    ] {
        let insert = row(&database, "a");
        let mut errors = vec![bench.probe("sqlite", &insert).await.expect_err("refused")];
        for what in [
            json!({ "check": "readable" }),
            json!({ "query": "SELECT 1" }),
            json!({ "execute": "DELETE FROM t" }),
        ] {
            let mut params = what.clone();
            params["database"] = json!(database);
            errors.push(bench.run("sqlite", params).await.expect_err("refused"));
        }
        errors.push(bench.run("sqlite", insert).await.expect_err("refused"));
        for error in errors {
            assert!(
                error.class == ErrorClass::Invalid && error.message.contains(kind),
                "{database}: {error:?}"
            );
        }
    }
}

#[tokio::test]
async fn rows_are_kept_up_to_a_mebibyte_and_counted_beyond() {
    let bench = Bench::new();
    let (path, owner) = database(&bench);
    let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20) \
                INSERT INTO t (name, data) SELECT printf('%100000d', i), zeroblob(1000000) FROM n";
    owner.execute_batch(fill).unwrap();
    let query = |sql: &str| json!({ "database": path, "query": sql });
    let out = bench.start("sqlite", query("SELECT name FROM t")).await.result.unwrap();
    assert_eq!((&out["count"], out["rows"].as_array().unwrap().len()), (&json!(20), 10));
    let error = bench.start("sqlite", query("SELECT data FROM t")).await.result.unwrap_err();
    assert!(error.class == ErrorClass::Invalid && error.message.contains("2000000 bytes"), "{error:?}");
    assert!(error.hint.unwrap().contains("substr"));
}
