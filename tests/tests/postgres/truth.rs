//! What `left 0` means of a row: what could not be seen is never gone, and what looks like it is another's.

use crate::{SECRET, Stage, place, step};
use std::os::unix::process::ExitStatusExt;
use tests::{
    bare::exited,
    folders::said,
    servers::postgres::{Postgres, Setup},
};

const ROW: &str = "{ path: /a, name: b, size: 1 }";

/// Inserts a row into `files`, lets another do something, and gives the report.
#[track_caller]
fn meanwhile(stage: &Stage, sql: &str, code: i32) -> String {
    let ready = || stage.psql("SELECT count(*) FROM files") == "1";
    exited(&stage.run_while(&stage.insert("files", ROW), ready, || drop(stage.psql(sql))), code)
}

#[test]
fn a_row_that_a_policy_hides_is_not_gone() {
    let stage = Stage::new();
    stage.psql("ALTER TABLE files OWNER TO owner; GRANT ALL ON files, files_id_seq TO tester");
    stage.psql("ALTER TABLE files ENABLE ROW LEVEL SECURITY; CREATE POLICY all_of_it ON files USING (true)");
    // As long as it lets the row be seen all is well, and what was deleted is known to be.
    let text = exited(&stage.run(&stage.insert("files", ROW)), 0);
    assert!(text.contains("left 0") && !text.contains("cannot be told"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");

    let text = meanwhile(&stage, "ALTER POLICY all_of_it ON files USING (path <> '/a')", 4);
    assert!(text.contains("1 cannot be told") && text.contains("row-level security of `files`"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "1");
    stage.psql("ALTER POLICY all_of_it ON files USING (true); TRUNCATE files");

    // A recovery sees no more than the run did.
    let died = stage.run_with("kill:before-undo:row", &stage.insert("files", ROW));
    assert_eq!(died.status.signal(), Some(9), "{}", said(&died));
    stage.psql("ALTER POLICY all_of_it ON files USING (path <> '/a')");
    let text = exited(&stage.shakedown(&["recover", "--yes"]), 4);
    assert!(text.contains("row-level security of `files`"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "1");
}

#[test]
fn a_right_that_was_lost_leaves_the_row_and_says_so() {
    let stage = Stage::new();
    stage.psql("ALTER TABLE files OWNER TO owner; GRANT ALL ON files, files_id_seq TO tester");
    for (right, words) in [("SELECT", "cannot be told"), ("DELETE", "the server does not delete it")] {
        let text = meanwhile(&stage, &format!("REVOKE {right} ON files FROM tester"), 4);
        assert!(text.contains(words) && text.contains("permission denied"), "{right}: {text}");
        assert_eq!(stage.psql("SELECT count(*) FROM files"), "1");
        stage.psql("TRUNCATE files; GRANT ALL ON files TO tester");
    }
    let text = meanwhile(&stage, "ALTER DATABASE media SET default_transaction_read_only = on", 4);
    assert!(text.contains("takes no writes"), "{text}");
}

#[test]
fn a_table_under_another_name_or_another_under_its_name_is_told() {
    let stage = Stage::new();
    let text = meanwhile(&stage, "ALTER TABLE files RENAME TO archive", 4);
    assert!(text.contains("the table `files` is called `archive` now"), "{text}");
    stage.type_in(&text);
    assert_eq!(stage.psql("SELECT count(*) FROM archive"), "0");

    // Restored from a dump: an equal row in another table.
    stage.psql("ALTER TABLE archive RENAME TO files");
    let anew = "CREATE TABLE other (LIKE files INCLUDING ALL); INSERT INTO other SELECT * FROM files; \
                DROP TABLE files CASCADE; ALTER TABLE other RENAME TO files; GRANT ALL ON files TO tester";
    let anew = anew
        .replace("DROP TABLE files CASCADE", "ALTER SEQUENCE files_id_seq OWNED BY NONE; DROP TABLE files");
    let text = meanwhile(&stage, &anew, 4);
    assert!(text.contains("`files` is another table now") && text.contains("1 cannot be told"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "1");
}

#[test]
fn a_key_that_was_changed_is_followed() {
    let stage = Stage::new();
    let text = meanwhile(&stage, "UPDATE files SET id = 77", 4);
    assert!(text.contains("the row with id 77") && text.contains("`id` has another value"), "{text}");
    let shown = stage.type_in(&text);
    assert!(shown.contains("SELECT * FROM") && shown.contains("77"), "{shown}");
    assert_eq!(stage.psql("SELECT id FROM files"), "77");
    // Where the server cannot follow it any more, it is not taken for gone either.
    let stage = Stage::new();
    let ready = || stage.psql("SELECT count(*) FROM files") == "1";
    let vacuum = || {
        stage.psql("UPDATE files SET id = 78");
        stage.psql("VACUUM files");
    };
    let text = exited(&stage.run_while(&stage.insert("files", ROW), ready, vacuum), 4);
    assert!(text.contains("1 cannot be told") && text.contains("its key was changed"), "{text}");
}

#[test]
fn an_equal_row_of_another_under_the_same_key_stays() {
    let stage = Stage::new();
    stage.make("CREATE TABLE codes (code text PRIMARY KEY, name text)");
    let insert = stage.insert("codes", "{ code: c, name: n }");
    let ready = || stage.psql("SELECT count(*) FROM codes") == "1";
    let other = || {
        stage.psql("DELETE FROM codes");
        stage.psql("INSERT INTO codes VALUES ('c', 'n')");
    };
    let text = exited(&stage.run_while(&insert, ready, other), 4);
    assert!(text.contains("was written by another transaction"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM codes"), "1");
    // The program under test goes on with ours, and it is ours still.
    stage.psql("TRUNCATE codes; ALTER TABLE codes ADD state text");
    exited(&stage.run_while(&insert, ready, || drop(stage.psql("UPDATE codes SET state = 'done'"))), 0);
    assert_eq!(stage.psql("SELECT count(*) FROM codes"), "0");
}

#[test]
fn another_server_or_database_under_the_address_is_told() {
    let mut stage = Stage::new();
    let mut other = Postgres::start(Setup::default());
    other.psql(&format!(
        "SET ROLE tester; {}; INSERT INTO files (path, name, size) VALUES ('/a', 'b', 1)",
        crate::FILES
    ));
    let child = stage.begin(&format!(
        "{}monitor: {{ waits: {{ wait: {{ until: {{ file: {{ stat: go }} }}, succeed_when: out.exists, every: 20ms }} }} }}\n",
        stage.insert("files", ROW)
    ));
    tests::lab::until("the row is there", || stage.psql("SELECT count(*) FROM files") == "1");
    let port = stage.server.port;
    stage.server.end();
    other.end();
    other.port = port;
    other.again();
    assert_eq!(other.port, port, "another took the port");
    std::fs::write(stage.path("go"), "").expect("written");
    let text = exited(&child.wait_with_output().expect("it ends"), 4);
    assert!(text.contains("another server answers") && text.contains("1 cannot be told"), "{text}");
    assert_eq!(other.psql("SELECT count(*) FROM files"), "1");

    // The command is for the right one, once that is back.
    other.end();
    stage.server.again();
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "1");
}

#[test]
fn a_database_that_was_renamed_did_not_take_the_row_with_it() {
    let stage = Stage::new();
    stage.server.psql("CREATE DATABASE other OWNER tester");
    let other = stage.server.url().replace("/media", "/other");
    let made = step(&other, "execute: CREATE TABLE t (a int PRIMARY KEY)");
    let made = made.strip_suffix(" }").expect("a step in braces");
    let row = step(&other, "insert: { into: t, values: { a: 1 } }");
    let row = row.strip_suffix(" }").expect("a step in braces");
    let phases = format!(
        "{SECRET}prepare:\n  table: {made}, undo: {{ command: {{ run: ['true'] }} }} }}\n  row: {row}, needs: [table] }}\n"
    );
    let ready = || {
        stage.psql("SELECT count(*) FROM pg_stat_database WHERE datname = 'other' AND tup_inserted > 0")
            == "1"
            && stage.server.log().contains("INSERT INTO \"public\".\"t\"")
            && stage.psql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'other'") == "0"
    };
    let renamed = || drop(stage.psql("ALTER DATABASE other RENAME TO aside"));
    let text = exited(&stage.run_while(&phases, ready, renamed), 4);
    assert!(text.contains("it is called `aside`"), "{text}");
}

const ODD: &str = "CREATE TABLE low (id bigint PRIMARY KEY, name text); INSERT INTO low VALUES (100, 'x'), (9223372036854775807, 'n'); \
    CREATE TABLE odd (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text, n numeric); \
    CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := upper(NEW.name) || '!'; RETURN NEW; END $$; \
    CREATE TRIGGER odd BEFORE INSERT ON odd FOR EACH ROW EXECUTE FUNCTION odd(); \
    CREATE TABLE heap (name text); INSERT INTO heap VALUES ('n'), ('n'); \
    CREATE TABLE parts (id int, name text) PARTITION BY RANGE (id); \
    CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (10); INSERT INTO parts VALUES (5, 'n')";
const LEFT: &str = "SELECT (SELECT count(*) FROM low), (SELECT count(*) FROM odd), (SELECT count(*) FROM heap), (SELECT count(*) FROM parts)";

fn odd(stage: &Stage) -> String {
    let insert = |values: &str| stage.step(&format!("insert: {{ {values} }}"));
    format!(
        "{SECRET}prepare:\n  low: {}\n  odd: {}\n  heap: {}\n  part: {}\n",
        insert("into: low, values: { id: 5, name: n }"),
        insert("into: odd, values: { name: n, n: 1.50 }"),
        insert("into: heap, values: { name: n }"),
        insert("into: parts, values: { id: 5, name: n }"),
    )
}

#[test]
fn a_kill_at_any_point_leaves_no_odd_row_and_inserts_none_twice() {
    let stage = Stage::new();
    stage.make(ODD);
    let mut kills = 0;
    for at in 1.. {
        let place = place();
        let died = place.run_with(&format!("kill:{at}"), &odd(&stage));
        if died.status.signal() != Some(9) {
            exited(&died, 0);
            break;
        }
        kills += 1;
        // Every other one goes on, the others are taken back.
        let ended = if at % 2 == 0 { place.resume() } else { place.shakedown(&["recover", "--yes"]) };
        // The last points come after the end of the run.
        let is_over = said(&ended).contains("is over: there is nothing to recover");
        assert!(ended.status.success() || is_over, "kill {at}: {}", said(&ended));
        assert_eq!(stage.psql(LEFT), "2|0|2|1", "kill {at}: {}", said(&ended));
    }
    assert!(kills > 20, "only {kills} points");
}

#[test]
fn exactly_one_row_is_inserted_or_the_step_fails() {
    let stage = Stage::new();
    stage.make("CREATE TABLE t (id serial PRIMARY KEY, name text UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO t VALUES (0, 'n')");
    // Deferred to the commit, and seen before it.
    let text = exited(&stage.run(&stage.insert("t", "{ name: n }")), 5);
    assert!(
        text.contains("duplicate key") && text.contains("left 0") && !text.contains("created 1"),
        "{text}"
    );
    stage.make("CREATE RULE nothing AS ON INSERT TO t DO INSTEAD NOTHING");
    let text = said(&stage.run(&stage.insert("t", "{ name: m }")));
    assert!(!text.contains("PASSED") && text.contains("left 0") && !text.contains("created 1"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM t"), "1");
    stage.make("CREATE VIEW v AS SELECT * FROM t; CREATE MATERIALIZED VIEW m AS SELECT * FROM t");
    for (into, words) in [("v", "is a view, not a table"), ("m", "is a materialized view")] {
        let text = said(&stage.run(&stage.insert(into, "{ name: m }")));
        assert!(text.contains(words), "{text}");
    }
    let two = stage.step("execute: 'DELETE FROM t; DELETE FROM files'");
    let two = two.strip_suffix(" }").expect("a step in braces");
    stage.write(&format!("{SECRET}prepare: {{ two: {two}, undo: {{ command: {{ run: ['true'] }} }} }} }}\n"));
    let checked = stage.shakedown(&["check", "it.yaml"]);
    let text = said(&checked);
    assert!(!checked.status.success() && text.contains("more than one statement"), "{text}");
}

#[test]
fn what_only_a_type_or_a_collation_takes_for_equal_was_changed() {
    let stage = Stage::new();
    stage.psql("CREATE EXTENSION citext");
    stage.make(
        "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
         CREATE TABLE eq (id serial PRIMARY KEY, ci citext, nc text COLLATE nocase, n numeric, f float8, j json, c char(5))",
    );
    let insert = stage.insert("eq", "{ ci: abc, nc: abc, n: 1, f: 0.0, j: { a: 1 }, c: x }");
    let ready = || stage.psql("SELECT count(*) FROM eq") == "1";
    for change in ["ci = 'ABC'", "nc = 'ABC'", "n = 1.0", "f = '-0'", "j = '{\"a\": 1 }'"] {
        let update = format!("UPDATE eq SET {change}");
        let text = exited(&stage.run_while(&insert, ready, || drop(stage.psql(&update))), 4);
        let column = change.split(' ').next().expect("a column");
        assert!(text.contains(&format!("`{column}` has another value")), "{change}: {text}");
        stage.type_in(&text);
        assert_eq!(stage.psql("SELECT count(*) FROM eq"), "1", "{change}");
        stage.psql("DELETE FROM eq");
    }
    exited(&stage.run(&insert), 0);
    assert_eq!(stage.psql("SELECT count(*) FROM eq"), "0");
}

const AUDIT: &str = "CREATE TABLE audit (id serial, what text); CREATE TABLE stats (n int); INSERT INTO stats VALUES (0); \
    INSERT INTO audit (what) VALUES ('of another'); \
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit (what) VALUES (TG_OP); RETURN NULL; END $$; \
    CREATE TRIGGER audit AFTER INSERT OR DELETE ON files FOR EACH ROW EXECUTE FUNCTION audit()";

#[test]
fn what_triggers_did_is_taken_back_or_named() {
    let stage = Stage::new();
    stage.make(AUDIT);
    let text = exited(&stage.run(&stage.insert("files", ROW)), 0);
    assert!(text.contains("undone 1 of 1"), "{text}");
    assert_eq!(stage.psql("SELECT string_agg(what, ',') FROM audit"), "of another");
    // Rows that cannot be deleted are named, with what removes them.
    stage.make(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'an audit stays'; END $$; \
         CREATE TRIGGER keep BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION keep()",
    );
    let text = exited(&stage.run(&stage.insert("files", ROW)), 4);
    assert!(text.contains("1 row of `audit`") && text.contains("an audit stays"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");
    stage.make("DROP TRIGGER keep ON audit; DROP TRIGGER audit ON files");
    // What was changed elsewhere cannot be put back for certain.
    stage.make(
        "CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE stats SET n = n + 1; RETURN NULL; END $$; \
         CREATE TRIGGER bump AFTER INSERT ON files FOR EACH ROW EXECUTE FUNCTION bump()",
    );
    let text = exited(&stage.run(&stage.insert("files", ROW)), 4);
    assert!(text.contains("1 row of `stats` that triggers changed"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");
}

#[test]
fn rows_of_others_that_would_go_with_it_keep_it() {
    let stage = Stage::new();
    stage.make("CREATE TABLE notes (file int REFERENCES files ON DELETE CASCADE)");
    let text = meanwhile(&stage, "INSERT INTO notes SELECT id FROM files", 4);
    assert!(text.contains("would change or delete 1 row of `notes`"), "{text}");
    assert_eq!(stage.psql("SELECT (SELECT count(*) FROM files), (SELECT count(*) FROM notes)"), "1|1");
    stage.psql("TRUNCATE notes, files; DROP TABLE notes");
    stage.make(
        "CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'this row stays'; END $$; \
         CREATE TRIGGER stay BEFORE DELETE ON files FOR EACH ROW EXECUTE FUNCTION stay()",
    );
    let text = exited(&stage.run(&stage.insert("files", ROW)), 4);
    assert!(text.contains("the server does not delete it") && text.contains("this row stays"), "{text}");
}

/// A trigger of `files` that does something as who owns the database.
fn does(when: &str, body: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION does() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN {body}; RETURN NULL; END $$; \
         DROP TRIGGER IF EXISTS does ON files; CREATE TRIGGER does AFTER {when} ON files FOR EACH ROW EXECUTE FUNCTION does()"
    )
}

#[test]
fn what_triggers_do_beside_rows_makes_the_step_fail_and_nothing_of_it_comes_about() {
    let stage = Stage::new();
    stage.psql("CREATE TABLE c (x int); INSERT INTO c VALUES (1), (2)");
    for (body, words) in [
        ("TRUNCATE c", "`c`"),
        ("DELETE FROM c", "a trigger or a rule would delete rows of `c`, which are another's"),
        ("CREATE TABLE IF NOT EXISTS t_1 (x int)", "`t_1`"),
        ("ALTER TABLE c ADD COLUMN y int", "`c`"),
        ("GRANT SELECT ON c TO PUBLIC", "`pg_class`"),
        ("COMMENT ON TABLE c IS 'x'", "`pg_description`"),
        ("PERFORM lo_create(0)", "`pg_largeobject_metadata`"),
        ("CREATE TYPE word AS ENUM ('a')", "`pg_enum`"),
        (
            "PERFORM set_config('track_counts', 'off', true); INSERT INTO c VALUES (3)",
            "`track_counts` is off",
        ),
    ] {
        stage.psql(&does("INSERT", body));
        let text = exited(&stage.run(&stage.insert("files", ROW)), 5);
        assert!(text.contains("nothing was inserted into `files`") && text.contains(words), "{body}: {text}");
        assert!(text.contains("left 0") && !text.contains("created 1"), "{body}: {text}");
        let left = "SELECT (SELECT count(*) FROM files), (SELECT count(*) FROM c), \
                    (SELECT count(*) FROM pg_tables WHERE schemaname = 'public'), (SELECT count(*) FROM pg_largeobject_metadata)";
        assert_eq!(stage.psql(left), "0|2|2|0", "{body}");
    }
    // What stays within the session, or only holds others up, is no effect.
    for body in [
        "CREATE TEMP TABLE IF NOT EXISTS mine (x serial PRIMARY KEY)",
        "LOCK TABLE c IN ACCESS EXCLUSIVE MODE",
    ] {
        stage.psql(&does("INSERT", body));
        let text = exited(&stage.run(&stage.insert("files", ROW)), 0);
        assert!(text.contains("undone 1 of 1"), "{body}: {text}");
    }
    // Nor may the deletion do such things.
    stage.psql(&does("DELETE", "TRUNCATE c"));
    let text = exited(&stage.run(&stage.insert("files", ROW)), 4);
    assert!(text.contains("when it is deleted, a trigger") && text.contains("left 1"), "{text}");
    assert_eq!(stage.psql("SELECT (SELECT count(*) FROM files), (SELECT count(*) FROM c)"), "1|2");
    stage.psql("DROP TRIGGER does ON files; TRUNCATE files");
    let text = meanwhile(&stage, "ALTER DATABASE media SET track_counts = off", 4);
    assert!(text.contains("the server does not count changes") && text.contains("left 1"), "{text}");
    stage.psql("TRUNCATE files");
    let text = exited(&stage.run(&stage.insert("files", ROW)), 5);
    assert!(text.contains("`track_counts` is off") && text.contains("left 0"), "{text}");
}

#[test]
fn a_written_undo_that_was_carried_out_before_ends_as_one() {
    let stage = Stage::new();
    stage.make("CREATE TABLE codes (code text PRIMARY KEY, n numeric); INSERT INTO codes VALUES ('c', 1)");
    let gone = stage.step("execute: DELETE FROM codes");
    let gone = gone.strip_suffix(" }").expect("a step in braces");
    let back = stage.step("insert: { into: codes, values: { code: c, n: 1 } }");
    let phases = format!("{SECRET}prepare: {{ gone: {gone}, undo: {back} }} }}\n");
    exited(&stage.run_with("repeat:gone", &phases), 0);
    assert_eq!(stage.psql("SELECT * FROM codes"), "c|1");
    let died = stage.run_with("kill:after-undo:gone", &phases);
    assert_eq!(died.status.signal(), Some(9), "{}", said(&died));
    exited(&stage.shakedown(&["recover", "--yes"]), 0);
    assert_eq!(stage.psql("SELECT * FROM codes"), "c|1");
    // Another's row under the key is none of it.
    let ready = || stage.psql("SELECT count(*) FROM codes") == "0";
    let text = exited(
        &stage.run_while(&phases, ready, || drop(stage.psql("INSERT INTO codes VALUES ('c', 1.0)"))),
        4,
    );
    assert!(text.contains("duplicate key"), "{text}");
}
