//! Runs, sessions and servers that die around an insert.

use crate::{SECRET, Stage, place, step};
use std::os::unix::process::ExitStatusExt;
use tests::{bare::exited, folders::said, lab::until};

const HEAP: &str =
    "CREATE TABLE heap (name text, state text); CREATE TABLE codes (code text PRIMARY KEY, name text)";

/// Rows with a key of the server's own, a key among the values, and none at all.
fn inserts(stage: &Stage) -> String {
    let insert = |values: &str| stage.step(&format!("insert: {{ {values} }}"));
    format!(
        "{SECRET}prepare:\n  serial: {}\n  own: {}\n  none: {}\n",
        insert("into: always, values: { name: 同 }"),
        insert("into: codes, values: { code: c, name: 同 }"),
        insert("into: heap, values: { name: 同 }")
    )
}

const TABLES: &str = "CREATE TABLE always (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)";
const COUNT: &str = "SELECT (SELECT count(*) FROM always) AS a, (SELECT count(*) FROM codes) AS b, \
    (SELECT count(*) FROM heap) AS c";

fn stage() -> Stage {
    let stage = Stage::new();
    stage.make(HEAP);
    stage.make(TABLES);
    stage
}

#[test]
fn a_run_that_was_killed_is_taken_back_by_recover() {
    let stage = stage();
    // Equal rows of another, which must stay.
    stage.make("INSERT INTO always (name) VALUES ('同'); INSERT INTO heap VALUES ('同')");
    for point in ["before", "after"] {
        for id in ["serial", "own", "none"] {
            let place = place();
            let died = place.run_with(&format!("kill:{point}:{id}"), &inserts(&stage));
            assert_eq!(died.status.signal(), Some(9), "{}", said(&died));
            let text = exited(&place.shakedown(&["recover", "--yes"]), 0);
            assert!(text.contains("RECOVERED"), "{text}");
            assert_eq!(stage.psql(COUNT), "1|0|1", "{point} {id}");
        }
    }
}

#[test]
fn a_run_that_was_killed_is_resumed_without_doing_anything_twice() {
    let stage = stage();
    for point in ["before", "after"] {
        for id in ["serial", "own", "none"] {
            let place = place();
            let seen = stage.step(&format!("query: '{COUNT}'"));
            let seen = seen.strip_suffix(" }").expect("a step in braces");
            let whole = format!(
                "{}monitor:\n  seen: {seen}, expect: 'out.row == {{\"a\": 1, \"b\": 1, \"c\": 1}}' }}\n",
                inserts(&stage)
            );
            let died = place.run_with(&format!("kill:{point}:{id}"), &whole);
            assert_eq!(died.status.signal(), Some(9), "{}", said(&died));
            let text = exited(&place.resume(), 0);
            assert!(text.contains("PASSED") && text.contains("undone 3 of 3"), "{point} {id}: {text}");
            assert_eq!(stage.psql(COUNT), "0|0|0");
        }
    }
}

#[test]
fn an_answer_that_was_lost_is_looked_for() {
    let stage = stage();
    stage.make("INSERT INTO always (name) VALUES ('同'); INSERT INTO heap VALUES ('同')");
    let text = exited(&stage.run_with("lose:serial,lose:own,lose:none", &inserts(&stage)), 0);
    assert!(text.contains("undone 3 of 3"), "{text}");
    assert_eq!(stage.psql(COUNT), "1|0|1");
}

#[test]
fn a_key_that_was_taken_before_is_not_taken_for_ours() {
    let stage = stage();
    stage.make("INSERT INTO codes VALUES ('c', '同')");
    let insert = stage.insert("codes", "{ code: c, name: 同 }");
    let text = said(&stage.run(&insert));
    assert!(text.contains("duplicate key") && text.contains("(code)=(c) already exists"), "{text}");
    let place = place();
    let died = place.run_with("kill:before:row", &insert);
    assert_eq!(died.status.signal(), Some(9), "{}", said(&died));
    exited(&place.shakedown(&["recover", "--yes"]), 0);
    assert_eq!(stage.psql("SELECT count(*) FROM codes"), "1");
}

/// The transaction takes a while before it is committed: time to die in.
const SLOW: &str = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); RETURN NULL; END $$; \
    CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON files DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()";

impl Stage {
    fn works(&self) -> bool {
        let works =
            "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SET CONSTRAINTS' AND state = 'active'";
        self.psql(works) == "1"
    }

    fn commits(&self) -> bool {
        self.psql("SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'") == "1"
    }

    /// From now on commits wait, once they are durable, for a replica that does not exist.
    fn commits_wait(&self) {
        self.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
        self.psql("SELECT pg_reload_conf()");
        until("commits wait", || self.psql("SHOW synchronous_standby_names") == "nobody");
    }

    /// The end of that: at once, or with the next start of the server.
    fn commits_wait_no_more(&self, at_once: bool) {
        self.psql("ALTER SYSTEM RESET synchronous_standby_names");
        if at_once {
            self.psql("SELECT pg_reload_conf()");
            until("commits do not wait", || self.psql("SHOW synchronous_standby_names").is_empty());
        }
    }
}

#[test]
fn a_session_that_a_dead_run_left_behind_is_ended_before_anything_is_believed() {
    let stage = Stage::new();
    stage.make(SLOW);
    let patient = stage.step("statement_timeout: 2h, insert: { into: files, values: { path: /a, name: b } }");
    let mut child = stage.begin(&format!("{SECRET}prepare: {{ row: {patient} }}\n"));
    until("the transaction is under way", || stage.works());
    child.kill().expect("it runs");
    let died = child.wait().expect("it ends");
    assert_eq!(died.signal(), Some(9));
    assert!(stage.works(), "the server goes on without the run");
    let text = exited(&stage.shakedown(&["recover", "--yes"]), 0);
    assert!(text.contains("RECOVERED"), "{text}");
    assert!(!stage.works());
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");
}

#[test]
fn a_commit_whose_answer_nobody_heard_is_taken_back() {
    let stage = Stage::new();
    stage.commits_wait();
    let mut child = stage.begin(&stage.insert("files", "{ path: /a, name: b }"));
    until("the commit is under way", || stage.commits());
    child.kill().expect("it runs");
    assert_eq!(child.wait().expect("it ends").signal(), Some(9));
    stage.commits_wait_no_more(true);
    until("it is committed", || stage.psql("SELECT count(*) FROM files") == "1");
    let text = exited(&stage.shakedown(&["recover", "--yes"]), 0);
    assert!(text.contains("RECOVERED") && text.contains("left 0"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_commit_leaves_no_doubt_once_it_is_back() {
    let mut stage = Stage::new();
    stage.make(SLOW);
    let patient = stage.step("statement_timeout: 2h, insert: { into: files, values: { path: /a, name: b } }");
    let phases = format!("{SECRET}prepare: {{ row: {patient} }}\n");
    // Before the commit nothing has happened, and that is certain.
    let child = stage.begin(&phases);
    until("the transaction is under way", || stage.works());
    stage.server.end();
    stage.server.again();
    let text = exited(&child.wait_with_output().expect("it ends"), 5);
    assert!(text.contains("left 0") && !text.contains("created 1"), "{text}");
    stage.psql("DROP TRIGGER slow ON files");

    // It is back at once: the run itself finds out.
    stage.commits_wait();
    let child = stage.begin(&phases);
    until("the commit is under way", || stage.commits());
    stage.commits_wait_no_more(false);
    stage.server.end();
    stage.server.again();
    let text = exited(&child.wait_with_output().expect("it ends"), 0);
    assert!(text.contains("unknown prepare/row") && text.contains("undone 1 of 1"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");

    // It stays away: what may be left is named, and a recovery finds out.
    stage.commits_wait();
    let child = stage.begin(&phases);
    until("the commit is under way", || stage.commits());
    stage.commits_wait_no_more(false);
    stage.server.end();
    let text = exited(&child.wait_with_output().expect("it ends"), 4);
    assert!(
        text.contains("nothing listens there") && text.contains("DELETE FROM ONLY \"public\".\"files\""),
        "{text}"
    );
    stage.server.again();
    stage.type_in(&text);
    exited(&stage.shakedown(&["recover", "--yes"]), 0);
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");
}

#[test]
fn a_table_or_a_database_that_is_gone_took_the_row_with_it() {
    let stage = stage();
    let ready = || stage.psql("SELECT count(*) FROM always") == "1";
    let insert = stage.insert("always", "{ name: a }");
    exited(&stage.run_while(&insert, ready, || drop(stage.psql("DROP TABLE always"))), 0);

    stage.server.psql("CREATE DATABASE other OWNER tester");
    let other = stage.server.url().replace("/media", "/other");
    let made = step(&other, "execute: CREATE TABLE t (a int PRIMARY KEY)");
    let made = made.strip_suffix(" }").expect("a step in braces");
    let row = step(&other, "insert: { into: t, values: { a: 1 } }");
    let row = row.strip_suffix(" }").expect("a step in braces");
    let phases = format!(
        "{SECRET}prepare:\n  table: {made}, undo: {{ command: {{ run: ['true'] }} }} }}\n  row: {row}, needs: [table] }}\n"
    );
    let there = || {
        stage.psql("SELECT count(*) FROM pg_stat_database WHERE datname = 'other' AND tup_inserted > 0")
            == "1"
    };
    let committed = || stage.server.log().matches("INSERT INTO \"public\".\"t\"").count() > 0 && there();
    let text = exited(
        &stage.run_while(&phases, committed, || drop(stage.psql("DROP DATABASE other WITH (FORCE)"))),
        0,
    );
    assert!(text.contains("PASSED"), "{text}");
}
