//! What others do to a row, to its table and to its database between the insert and the undo.

use super::odd::{AUDIT, alter, dump, into, made, type_in};
use crate::testing::{Bench, Started};
use engine::step::{Leftover, Presence, Settled, Undone};
use serde_json::{Value, json};

/// A schema, values, what another does meanwhile, and what the report must say. Nothing of it may be deleted.
const CHANGES: &[(&str, &str, &str, &str)] = &[
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE)",
        r#"{ "name": "a" }"#,
        "UPDATE t SET name = 'A'",
        "`name` has another value",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT COLLATE RTRIM)",
        r#"{ "name": "a" }"#,
        "UPDATE t SET name = 'a  '",
        "`name` has another value",
    ),
    (
        "CREATE TABLE t (name TEXT COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID",
        r#"{ "name": "a" }"#,
        "UPDATE t SET name = 'A'",
        "`name` has another value",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, size)",
        r#"{ "size": 1 }"#,
        "UPDATE t SET size = 1.0",
        "`size` was integer and is real now",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)",
        r#"{ "name": "a" }"#,
        "UPDATE t SET name = CAST('a' AS BLOB)",
        "`name` was text and is blob now",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)",
        r#"{ "name": "a" }"#,
        "UPDATE t SET id = 99",
        "row 99 is just like it",
    ),
    (
        "CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT)",
        r#"{ "k": "a", "v": "b" }"#,
        "UPDATE t SET k = 'c'",
        "`k` has another value",
    ),
    (
        "CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID",
        r#"{ "k": "a", "v": "b" }"#,
        "UPDATE t SET k = 'c'",
        "row c is just like it",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)",
        r#"{ "name": "a" }"#,
        "ALTER TABLE t RENAME TO t_old",
        "`t_old` holds it",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)",
        r#"{ "name": "a" }"#,
        "ALTER TABLE t RENAME TO t_old; CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'a')",
        "`t_old` holds it",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)",
        r#"{ "name": "a" }"#,
        "ALTER TABLE t RENAME TO t_old; CREATE VIEW t AS SELECT * FROM t_old",
        "`t_old` holds it",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)",
        r#"{ "name": "a" }"#,
        "ALTER TABLE t RENAME COLUMN name TO title",
        "`name` is not there any more",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)",
        r#"{ "name": "a" }"#,
        "ALTER TABLE t RENAME COLUMN id TO ident",
        "`id` is not there any more",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE TABLE child (p INTEGER REFERENCES t)",
        r#"{ "id": 5 }"#,
        "INSERT INTO child VALUES (5)",
        "its deletion is refused: FOREIGN KEY constraint failed",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE TABLE child (n INTEGER PRIMARY KEY, p INTEGER REFERENCES t ON DELETE CASCADE)",
        r#"{ "id": 5 }"#,
        "INSERT INTO child VALUES (1, 5), (2, 5)",
        "its deletion would change what is another's: row 1 of `child` and 1 row more",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE TABLE child (k TEXT PRIMARY KEY, p INTEGER REFERENCES t ON DELETE SET NULL) WITHOUT ROWID",
        r#"{ "id": 5 }"#,
        "INSERT INTO child VALUES ('c', 5)",
        "its deletion would change what is another's: row c of `child`",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)",
        r#"{ "name": "a" }"#,
        "CREATE TRIGGER stays BEFORE DELETE ON t BEGIN SELECT RAISE(ABORT, 'rows are kept for 7 years'); END",
        "its deletion is refused: rows are kept for 7 years",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)",
        r#"{ "name": "a" }"#,
        "CREATE TRIGGER stays BEFORE DELETE ON t BEGIN SELECT RAISE(IGNORE); END",
        "its deletion is ignored: a trigger keeps it",
    ),
    (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE seen (n INTEGER); INSERT INTO seen VALUES (0)",
        r#"{ "name": "a" }"#,
        "CREATE TRIGGER counts AFTER DELETE ON t BEGIN UPDATE seen SET n = n + 1; END",
        "its deletion would change what is another's: row 1 of `seen`",
    ),
];

#[tokio::test]
async fn what_another_changed_is_left_and_named() {
    for (schema, values, change, says) in CHANGES {
        let bench = Bench::new();
        let path = made(&bench, schema);
        let values: Value = serde_json::from_str(values).unwrap();
        let started = bench.start("sqlite", into(&path, "t", &values)).await;
        assert!(started.result.is_ok(), "{schema}: {:?}", started.result);
        alter(&path, change);
        let changed = dump(&path);
        for _ in 0..2 {
            let left = left(&bench, &started).await;
            assert!(left.why.contains(says), "{change}: {left:?}");
            assert_eq!(dump(&path), changed, "{change}");
        }
    }
}

/// What is left or cannot be told.
async fn left(bench: &Bench, started: &Started) -> Leftover {
    match bench.undo(started).await.unwrap() {
        Undone::Left(left) | Undone::CannotTell(left) => left,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_row_is_found_through_a_vacuum_and_other_changes_of_the_schema() {
    for change in [
        "VACUUM",
        "ALTER TABLE t ADD COLUMN more TEXT DEFAULT 'x'",
        "ALTER TABLE t ADD COLUMN more TEXT; ALTER TABLE t ADD COLUMN most TEXT; ALTER TABLE t ADD COLUMN last TEXT",
        "CREATE INDEX by_name ON t (name); CREATE TABLE a (b UNIQUE); CREATE TABLE c (d); CREATE VIEW v AS SELECT * FROM t; VACUUM",
        "CREATE VIRTUAL TABLE words USING fts5 (word); DELETE FROM t WHERE name = 'theirs'; INSERT INTO t VALUES (1, 'theirs')",
    ] {
        let bench = Bench::new();
        let path = made(
            &bench,
            "CREATE TABLE u (a); CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'theirs'); DROP TABLE u",
        );
        let started = bench.start("sqlite", into(&path, "t", &json!({ "name": "a" }))).await;
        alter(&path, change);
        assert_eq!(bench.undo(&started).await.unwrap(), Undone::Removed, "{change}");
        assert_eq!(dump(&path).iter().filter(|line| line.starts_with("t:")).count(), 1, "{change}");
    }
}

#[tokio::test]
async fn an_equal_row_of_a_table_that_was_made_anew_is_no_proof() {
    const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)";
    const INDEX: &str = "CREATE INDEX by_name ON t (name)";
    for (more, change) in [
        ("", format!("DROP TABLE t; {SCHEMA}; INSERT INTO t VALUES (1, 'a')")),
        ("", format!("BEGIN; DROP TABLE t; {SCHEMA}; INSERT INTO t VALUES (1, 'a'); COMMIT; VACUUM")),
        ("", format!("DROP TABLE t; CREATE TABLE u (a); {SCHEMA}; INSERT INTO t VALUES (1, 'a')")),
        ("", format!("DROP TABLE t; {SCHEMA}; {INDEX}; INSERT INTO t VALUES (1, 'a')")),
        (INDEX, format!("DROP TABLE t; {SCHEMA}; INSERT INTO t VALUES (1, 'a')")),
        (INDEX, format!("DROP TABLE t; {SCHEMA}; {INDEX}; INSERT INTO t VALUES (1, 'a')")),
        ("", "BEGIN; CREATE TABLE n (id INTEGER PRIMARY KEY, name TEXT, more TEXT); INSERT INTO n SELECT id, name, 'x' FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT".to_owned()),
    ] {
        let bench = Bench::new();
        let path = made(&bench, &format!("CREATE TABLE first (a); {SCHEMA}; {more}"));
        let started = bench.start("sqlite", into(&path, "t", &json!({ "name": "a" }))).await;
        alter(&path, &change);
        let others = dump(&path);
        let undone = bench.undo(&started).await.unwrap();
        let Undone::CannotTell(left) = undone else { panic!("{change}: {undone:?}") };
        assert!(left.why.contains("made anew"), "{left:?}");
        type_in(&left.remove_with);
        assert_eq!(dump(&path), others, "{change}");
    }
}

#[tokio::test]
async fn a_row_that_went_is_not_looked_for_in_tables_of_others() {
    const TWIN: &str =
        "CREATE TABLE other (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO other VALUES (1, 'a');";
    for (change, undone) in [
        ("DELETE FROM t", "NothingToDo"),
        ("DELETE FROM t; VACUUM", "NothingToDo"),
        ("ALTER TABLE t ADD COLUMN more; DELETE FROM t", "NothingToDo"),
        // What is only like it is no proof.
        ("DROP TABLE t", "CannotTell"),
        ("ALTER TABLE t RENAME TO t_old", "Left"),
        (
            "ALTER TABLE t RENAME TO t_old; UPDATE t_old SET name = 'b'; CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)",
            "CannotTell",
        ),
    ] {
        let bench = Bench::new();
        let path = made(&bench, &format!("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); {TWIN}"));
        let started = bench.start("sqlite", into(&path, "t", &json!({ "name": "a" }))).await;
        alter(&path, change);
        let others = dump(&path);
        let came_to = bench.undo(&started).await.unwrap();
        assert!(format!("{came_to:?}").starts_with(undone), "{change}: {came_to:?}");
        assert_eq!(dump(&path), others, "{change}");
    }
}

#[tokio::test]
async fn what_triggers_made_is_told_and_left_if_another_changed_it() {
    let bench = Bench::new();
    let path = made(&bench, AUDIT);
    let probe = bench.probe("sqlite", &into(&path, "t", &json!({ "name": "a" }))).await.unwrap();
    assert!(probe.now.ends_with("; triggers write `audit` too"), "{probe:?}");
    let started = bench.start("sqlite", into(&path, "t", &json!({ "name": "a" }))).await;
    assert_eq!(started.result.clone().unwrap()["triggered"], json!("1 row in `audit`"));
    alter(&path, "UPDATE audit SET what = 'mine now'");
    let left = left(&bench, &started).await;
    assert!(
        left.what.contains("row 1 of `audit`") && left.why.contains("`what` has another value"),
        "{left:?}"
    );
    assert_eq!(dump(&path), ["audit: Integer(1), text mine now"]);
    type_in(&left.remove_with);
    assert_eq!(dump(&path), ["audit: Integer(1), text mine now"]);
}

#[tokio::test]
async fn another_file_under_the_name_is_not_touched_and_the_old_one_is_found() {
    let schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)";
    let bench = Bench::new();
    let path = made(&bench, schema);
    let params = into(&path, "t", &json!({ "name": "a" }));
    let started = bench.start("sqlite", params.clone()).await;
    std::fs::rename(&path, bench.at("it.db.1")).unwrap();
    alter(&path, &format!("{schema}; INSERT INTO t VALUES (1, 'a')"));
    let others = dump(&path);
    for _ in 0..2 {
        let undone = bench.undo(&started).await.unwrap();
        let Undone::CannotTell(left) = undone else { panic!("{undone:?}") };
        assert!(left.what.contains(&path) && left.why.contains("it.db.1` now"), "{left:?}");
        assert!(matches!(bench.settle(&started).await.unwrap(), Settled::Unclear(_)));
        assert!(matches!(bench.presence(&started).await.unwrap(), Presence::Unknown(_)));
        assert_eq!(dump(&path), others);
    }
    let left = left(&bench, &started).await;
    type_in(&left.remove_with);
    assert_eq!((dump(&path), dump(&bench.at("it.db.1"))), (others, Vec::new()));
    // Put back, it is known again.
    std::fs::rename(bench.at("it.db.1"), &path).unwrap();
    assert_eq!(bench.undo(&started).await.unwrap(), Undone::NothingToDo);

    // Gone with its folder, and through a link that leads elsewhere now.
    let started = bench.start("sqlite", params).await;
    std::fs::remove_file(&path).unwrap();
    assert!(left_unseen(&bench, &started).await.contains("is not there any more"));
    let real = bench.at("real.db");
    alter(&real, schema);
    std::os::unix::fs::symlink(&real, &path).unwrap();
    let started = bench.start("sqlite", into(&path, "t", &json!({ "name": "a" }))).await;
    std::fs::remove_file(&path).unwrap();
    alter(&bench.at("other.db"), &format!("{schema}; INSERT INTO t VALUES (1, 'a')"));
    std::os::unix::fs::symlink(bench.at("other.db"), &path).unwrap();
    assert!(left_unseen(&bench, &started).await.contains("real.db` now"));
    assert_eq!(dump(&bench.at("other.db")), ["t: Integer(1), text a"]);
}

async fn left_unseen(bench: &Bench, started: &Started) -> String {
    let undone = bench.undo(started).await.unwrap();
    let Undone::CannotTell(left) = undone else { panic!("{undone:?}") };
    left.why
}

#[tokio::test]
async fn a_database_that_cannot_be_read_any_more_is_no_proof() {
    let bench = Bench::new();
    let path = made(&bench, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let started = bench.start("sqlite", into(&path, "t", &json!({ "name": "a" }))).await;
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    std::fs::write(&path, "no database at all, only text, but in the same file").unwrap();
    assert!(left_unseen(&bench, &started).await.contains("not a database"));
    assert!(matches!(bench.presence(&started).await.unwrap(), Presence::Unknown(_)));
}

#[tokio::test]
async fn a_state_from_before_the_table_was_made_is_no_proof() {
    let bench = Bench::new();
    let path = made(&bench, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let backup = std::fs::read(&path).unwrap();
    alter(&path, "CREATE TABLE later (a)");
    let started = bench.start("sqlite", into(&path, "t", &json!({ "name": "a" }))).await;
    std::fs::write(&path, backup).unwrap();
    alter(&path, "INSERT INTO t VALUES (1, 'a')");
    assert!(left_unseen(&bench, &started).await.contains("older state"));
    assert_eq!(dump(&path), ["t: Integer(1), text a"]);
}

#[tokio::test]
async fn a_database_that_can_only_be_read_by_now_keeps_the_row_and_it_is_named() {
    use std::os::unix::fs::FileExt as _;
    let bench = Bench::new();
    let path = made(&bench, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let started = bench.start("sqlite", into(&path, "t", &json!({ "name": "a" }))).await;
    // Who finds a later format of writing in the header may only read.
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let written = file.metadata().unwrap().modified().unwrap();
    let set = |version| {
        file.write_all_at(&[version], 18).unwrap();
        file.set_modified(written).unwrap();
    };
    set(3);
    let undone = bench.undo(&started).await.unwrap();
    let Undone::Left(left) = undone else { panic!("{undone:?}") };
    assert!(left.why.contains("cannot be deleted") && left.why.contains("readonly"), "{left:?}");
    assert!(matches!(bench.presence(&started).await.unwrap(), Presence::Present(_)));
    set(1);
    assert_eq!(bench.undo(&started).await.unwrap(), Undone::Removed);
}

#[tokio::test]
async fn what_was_copied_over_the_file_is_no_proof() {
    let schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)";
    for mine in [true, false] {
        let bench = Bench::new();
        let path = made(&bench, schema);
        let backup = std::fs::read(&path).unwrap();
        let started = bench.start("sqlite", into(&path, "t", &json!({ "name": "a" }))).await;
        // The same inode, and as many changes as with ours.
        std::fs::write(&path, backup).unwrap();
        if !mine {
            alter(&path, "INSERT INTO t VALUES (2, 'b')");
        }
        let others = dump(&path);
        for _ in 0..2 {
            let why = left_unseen(&bench, &started).await;
            assert!(why.contains(if mine { "an older state" } else { "was overwritten" }), "{why}");
            assert!(matches!(bench.presence(&started).await.unwrap(), Presence::Unknown(_)));
            assert_eq!(dump(&path), others);
        }
    }
}

#[tokio::test]
async fn what_was_written_and_rolled_back_is_no_other_content() {
    let bench = Bench::new();
    let path = made(&bench, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let before = dump(&path);
    let started = bench.start("sqlite", into(&path, "t", &json!({ "name": "a" }))).await;
    let written = || std::fs::metadata(&path).unwrap().modified().unwrap();
    let was = written();
    // More than is kept in memory goes into the file before it is rolled back, as it also does when a kill comes in a commit.
    alter(
        &path,
        "PRAGMA cache_size = 1; BEGIN; CREATE TABLE u AS
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 500) SELECT zeroblob(900) FROM n; ROLLBACK;",
    );
    assert!(written() > was);
    assert!(matches!(bench.presence(&started).await.unwrap(), Presence::Present(_)));
    assert_eq!(bench.undo(&started).await.unwrap(), Undone::Removed);
    assert_eq!(dump(&path), before);
}
