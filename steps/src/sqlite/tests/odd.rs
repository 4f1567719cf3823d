//! Odd tables, rows and neighbours: what an insert leaves of them, judged by dumps of the whole database.

use crate::testing::{Bench, check};
use engine::{
    error::ErrorClass,
    event::Phase,
    step::{Amend, Presence, Settled, Undone},
};
use rusqlite::{Connection, types::ValueRef};
use serde_json::{Value, json};

/// Everything that tables hold, types and all, but for the counters of SQLite itself.
pub(super) fn dump(path: &str) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name";
    let mut tables = connection.prepare(sql).unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut lines = Vec::new();
    for table in tables {
        let mut statement = connection.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
        let width = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        let from = lines.len();
        while let Some(row) = rows.next().unwrap() {
            let cells = (0..width).map(|at| match row.get_ref(at).unwrap() {
                ValueRef::Text(text) => format!("text {}", String::from_utf8_lossy(text)),
                other => format!("{other:?}"),
            });
            lines.push(format!("{table}: {}", cells.collect::<Vec<_>>().join(", ")));
        }
        lines[from..].sort();
    }
    lines
}

pub(super) fn made(bench: &Bench, schema: &str) -> String {
    let path = bench.at("it.db");
    Connection::open(&path).unwrap().execute_batch(schema).unwrap();
    path
}

pub(super) fn alter(path: &str, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

pub(super) fn into(path: &str, table: &str, values: &Value) -> Value {
    json!({ "database": path, "insert": { "into": table, "values": values } })
}

/// Types the command of a leftover, as a person would.
pub(super) fn type_in(command: &str) {
    let typed = std::process::Command::new("/bin/sh").args(["-c", command]).output().expect("sh");
    assert!(typed.status.success() && typed.stderr.is_empty(), "{command}: {typed:?}");
}

pub(super) const AUDIT: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE audit (n INTEGER PRIMARY KEY, what TEXT);
    CREATE TRIGGER made AFTER INSERT ON t BEGIN INSERT INTO audit (what) VALUES ('made ' || new.name); END;";

/// A schema, a table and the values of a row.
fn odd_tables() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (100, 'a');",
            "t",
            json!({ "id": 5, "name": "a" }),
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (9223372036854775807, 'a');",
            "t",
            json!({ "name": "a" }),
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, size); INSERT INTO t VALUES (1, 'A!', 1);
             CREATE TRIGGER rewrites AFTER INSERT ON t BEGIN UPDATE t SET name = upper(new.name) || '!', size = 1.0 WHERE id = new.id; END;",
            "t",
            json!({ "name": "a", "size": 1 }),
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);
             CREATE TRIGGER moves AFTER INSERT ON t BEGIN UPDATE t SET id = new.id + 1000 WHERE id = new.id; END;",
            "t",
            json!({ "name": "a" }),
        ),
        ("CREATE TABLE t (rowid TEXT, name TEXT); INSERT INTO t VALUES ('1', 'a');", "t", json!({ "rowid": "x", "name": "a" })),
        (
            "CREATE TABLE t (rowid TEXT, oid INTEGER, _rowid_ BLOB, name TEXT PRIMARY KEY); INSERT INTO t VALUES ('x', 1, 2, 'b');",
            "t",
            json!({ "rowid": "x", "oid": 1, "_rowid_": 2, "name": "a" }),
        ),
        (
            "CREATE TABLE t (rowid TEXT, oid INTEGER, _rowid_ BLOB); INSERT INTO t VALUES ('x', 1, 2);",
            "t",
            json!({ "rowid": "x", "oid": 1, "_rowid_": 3.5 }),
        ),
        (
            "CREATE TABLE t (k BLOB, lang TEXT, v TEXT, PRIMARY KEY (k, lang)) WITHOUT ROWID; INSERT INTO t VALUES (x'00', '文''s', 'a');",
            "t",
            json!({ "k": { "$blob": "00ff27" }, "lang": "文's \"quoted\"\n二", "v": "a" }),
        ),
        (
            "CREATE TABLE base (id INTEGER PRIMARY KEY, name TEXT); CREATE VIEW v AS SELECT name FROM base;
             CREATE TRIGGER there INSTEAD OF INSERT ON v BEGIN INSERT INTO base (name) VALUES (new.name); INSERT INTO base (name) VALUES (new.name || '2'); END;",
            "v",
            json!({ "name": "a" }),
        ),
        (AUDIT, "t", json!({ "name": "a" })),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE audit (k TEXT PRIMARY KEY) WITHOUT ROWID; CREATE TABLE gone (k TEXT);
             CREATE TRIGGER made AFTER INSERT ON t BEGIN INSERT INTO audit VALUES ('made ' || new.id); END;
             CREATE TRIGGER went AFTER DELETE ON t BEGIN INSERT INTO gone VALUES ('gone ' || old.id); END;",
            "t",
            json!({ "name": "a" }),
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE stats (n INTEGER); INSERT INTO stats VALUES (7);
             CREATE TRIGGER more AFTER INSERT ON t BEGIN UPDATE stats SET n = n + 1; END;
             CREATE TRIGGER less AFTER DELETE ON t BEGIN UPDATE stats SET n = n - 1; END;",
            "t",
            json!({ "name": "a" }),
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, size INTEGER, twice INTEGER AS (size * 2) STORED, at REAL DEFAULT 1.5) STRICT;",
            "t",
            json!({ "name": "a", "size": 21 }),
        ),
        ("CREATE TABLE t (a TEXT, b TEXT, PRIMARY KEY (a, b)); INSERT INTO t VALUES (NULL, 'x');", "t", json!({ "a": null, "b": "x" })),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT); CREATE VIRTUAL TABLE words USING fts5(body, content = 't', content_rowid = 'id');
             CREATE TRIGGER ai AFTER INSERT ON t BEGIN INSERT INTO words (rowid, body) VALUES (new.id, new.body); END;
             CREATE TRIGGER ad AFTER DELETE ON t BEGIN INSERT INTO words (words, rowid, body) VALUES ('delete', old.id, old.body); END;",
            "t",
            json!({ "body": "some words" }),
        ),
        ("CREATE VIRTUAL TABLE words USING fts5(body);", "words", json!({ "body": "some words" })),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, live INTEGER); CREATE UNIQUE INDEX one ON t (name) WHERE live = 1;
             INSERT INTO t VALUES (1, 'a', 0);",
            "t",
            json!({ "name": "a", "live": 1 }),
        ),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, state TEXT DEFAULT 'new');", "t", json!({})),
    ]
}

#[tokio::test]
async fn an_odd_row_goes_with_all_that_came_of_it() {
    for (schema, table, values) in odd_tables() {
        for mode in ["delete", "wal"] {
            for blindly in [false, true] {
                let bench = Bench::new();
                let path = made(&bench, schema);
                alter(&path, &format!("PRAGMA journal_mode = {mode}"));
                let before = dump(&path);
                let params = into(&path, table, &values);
                let started = bench.start("sqlite", params.clone()).await;
                assert!(started.result.is_ok(), "{schema}: {:?}", started.result);
                assert!(matches!(bench.settle(&started).await.unwrap(), Settled::Happened(_)), "{schema}");
                let presence = bench.presence(&started).await.unwrap();
                let Presence::Present(left) = &presence else { panic!("{schema}: {presence:?}") };
                assert!(left.remove_with.starts_with("sqlite3 "), "{left:?}");
                let undone = match blindly {
                    true => bench.undo_blindly(&started).await.unwrap(),
                    false => bench.undo(&started).await.unwrap(),
                };
                assert_eq!(undone, Undone::Removed, "{schema}");
                assert_eq!(dump(&path), before, "{schema}");
                assert_eq!(bench.presence(&started).await.unwrap(), Presence::Gone, "{schema}");
                assert_eq!(bench.undo_blindly(&started).await.unwrap(), Undone::NothingToDo, "{schema}");
                assert_eq!(dump(&path), before, "{schema}");
            }
        }
    }
}

#[tokio::test]
async fn the_printed_command_deletes_just_that_row() {
    for (schema, table, values) in odd_tables() {
        if ["v", "words"].contains(&table) || schema.contains("TRIGGER") {
            continue;
        }
        let bench = Bench::new();
        let path = made(&bench, schema);
        let before = dump(&path);
        let started = bench.start("sqlite", into(&path, table, &values)).await;
        let Presence::Present(left) = bench.presence(&started).await.unwrap() else { panic!("{schema}") };
        type_in(&left.remove_with);
        assert_eq!(dump(&path), before, "{schema}: {}", left.remove_with);
    }
}

#[tokio::test]
async fn who_was_killed_before_the_key_was_written_down_inserted_nothing() {
    let bench = Bench::new();
    let path =
        made(&bench, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (100, 'b')");
    let it = bench.intend("sqlite", into(&path, "t", &json!({ "id": 5, "name": "a" }))).await;
    alter(&path, "INSERT INTO t VALUES (5, 'a')");
    let others = dump(&path);
    assert_eq!(bench.settle(&it).await.unwrap(), Settled::NotHappened);
    assert_eq!(bench.undo_blindly(&it).await.unwrap(), Undone::NothingToDo);
    assert_eq!(dump(&path), others);
}

#[tokio::test]
async fn a_row_whose_key_cannot_be_written_down_is_not_committed() {
    let mut bench = Bench::new();
    let path = made(&bench, AUDIT);
    bench.cx.amend = Amend::new(|_| Box::pin(async { false }));
    let started = bench.start("sqlite", into(&path, "t", &json!({ "name": "a" }))).await;
    let error = started.result.unwrap_err();
    assert!(error.no_effect && error.class == ErrorClass::Internal, "{error:?}");
    assert_eq!(dump(&path), Vec::<String>::new());
    let names: Vec<_> =
        bench.dir.path().read_dir().unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().ends_with(".reserve")), "{names:?}");
}

#[tokio::test]
async fn nothing_of_anothers_is_lost_and_nothing_is_called_inserted_that_was_not() {
    for (schema, table, values, says) in [
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE ON CONFLICT REPLACE, size INT); INSERT INTO t VALUES (1, 'a', 7)",
            "t",
            json!({ "name": "a" }),
            "UNIQUE constraint failed: t.name",
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY ON CONFLICT REPLACE, name TEXT); INSERT INTO t VALUES (5, 'theirs')",
            "t",
            json!({ "id": 5, "name": "a" }),
            "UNIQUE constraint failed: t.id",
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE ON CONFLICT IGNORE); INSERT INTO t VALUES (0, 'a')",
            "t",
            json!({ "name": "a" }),
            "UNIQUE constraint failed: t.name",
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (0, 'a');
             CREATE TRIGGER no BEFORE INSERT ON t BEGIN SELECT RAISE(IGNORE); END",
            "t",
            json!({ "name": "a" }),
            "nothing was inserted into `t`",
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'a');
             CREATE TRIGGER only BEFORE INSERT ON t BEGIN DELETE FROM t WHERE name = new.name; END",
            "t",
            json!({ "name": "a" }),
            "a trigger would delete row 1 of `t`",
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (5, 'theirs');
             CREATE TRIGGER only BEFORE INSERT ON t BEGIN DELETE FROM t WHERE id = new.id; END",
            "t",
            json!({ "id": 5, "name": "a" }),
            "a trigger would delete row 5 of `t`",
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);
             CREATE TRIGGER eats AFTER INSERT ON t BEGIN DELETE FROM t WHERE id = new.id; END",
            "t",
            json!({ "name": "a" }),
            "nothing was inserted into `t`: a trigger takes it away again",
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, UNIQUE (name) ON CONFLICT FAIL);
             CREATE TRIGGER no BEFORE INSERT ON t BEGIN SELECT RAISE(ABORT, 'not on Sundays'); END",
            "t",
            json!({ "name": "a" }),
            "a trigger refuses it: not on Sundays",
        ),
        (
            "CREATE TABLE t (size INTEGER) STRICT",
            "t",
            json!({ "size": "many" }),
            "cannot store TEXT value in INTEGER column",
        ),
        (
            "CREATE TABLE t (a); CREATE VIEW v AS SELECT a FROM t",
            "v",
            json!({ "a": 1 }),
            "because it is a view",
        ),
        (
            "CREATE TABLE t (a); CREATE VIEW v AS SELECT a FROM t; CREATE TRIGGER no INSTEAD OF INSERT ON v BEGIN SELECT 1; END",
            "v",
            json!({ "a": 1 }),
            "the triggers of the view ignore it",
        ),
        (
            "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE t (p INTEGER NOT NULL REFERENCES p)",
            "t",
            json!({ "p": 1 }),
            "FOREIGN KEY constraint failed",
        ),
        (
            "CREATE TABLE t (rowid, oid, _rowid_); INSERT INTO t VALUES (1, 2, 3)",
            "t",
            json!({ "rowid": 1, "oid": 2, "_rowid_": 3 }),
            "has no key",
        ),
    ] {
        let bench = Bench::new();
        let path = made(&bench, schema);
        let before = dump(&path);
        let started = bench.start("sqlite", into(&path, table, &values)).await;
        let error = started.result.expect_err(schema);
        assert!(error.no_effect && error.message.contains(says), "{schema}: {error:?}");
        let hint = error.hint.clone().unwrap_or_default();
        assert_eq!(
            hint.contains("another row"),
            error.class == ErrorClass::Exists && says.starts_with("UNIQUE"),
            "{error:?}"
        );
        assert_eq!(hint.contains("size INTEGER"), schema.contains("STRICT"), "{error:?}");
        assert_eq!(dump(&path), before, "{schema}");
    }
}

#[tokio::test]
async fn a_step_that_nobody_takes_back_puts_nothing_by_and_can_be_done_again() {
    for undoing in [false, true] {
        let mut bench = Bench::new();
        bench.cx.undoing = undoing;
        bench.cx.phase = if undoing { Phase::Prepare } else { Phase::Cleanup };
        let path = made(&bench, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
        let params = into(&path, "t", &json!({ "id": 5, "name": "a" }));
        for _ in 0..2 {
            let started = bench.start("sqlite", params.clone()).await;
            assert_eq!(started.result.unwrap()["rowid"], json!(5));
            assert_eq!(dump(&path), ["t: Integer(5), text a"]);
        }
        let other = into(&path, "t", &json!({ "id": 5, "name": "b" }));
        assert_eq!(bench.start("sqlite", other).await.result.unwrap_err().class, ErrorClass::Exists);
        let mut names: Vec<_> =
            bench.dir.path().read_dir().unwrap().flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!(names, ["it.db", "scratch"]);
    }
}

#[tokio::test]
async fn two_statements_in_one_are_refused_before_the_run_and_in_it() {
    let two = json!({ "database": "/x", "execute": "DELETE FROM t; DELETE FROM u", "params": {} });
    assert_eq!(check("sqlite", &two), ["execute: expected one statement, found 2: write a step for each"]);
    let bench = Bench::new();
    let path = made(&bench, "CREATE TABLE t (a); INSERT INTO t VALUES (1)");
    let two = json!({ "database": path, "execute": "DELETE FROM t; INSERT INTO t VALUES (2)" });
    let error = bench.start("sqlite", two).await.result.unwrap_err();
    assert!(error.no_effect && error.class == ErrorClass::Invalid, "{error:?}");
    assert_eq!(dump(&path), ["t: Integer(1)"]);
}
