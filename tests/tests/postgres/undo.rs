//! What an insert takes back, and what it leaves.

use crate::{SECRET, Stage, step};
use tests::{bare::exited, folders::said, lab::until};

const TABLES: &str = "CREATE SCHEMA \"档案\"; CREATE TABLE \"档案\".\"文件 \"\"x\"\"\" (\"编号\" uuid PRIMARY KEY DEFAULT gen_random_uuid(), \"名称\" text); \
    CREATE TABLE pairs (a text, b int, c text, PRIMARY KEY (b, a)); \
    CREATE TABLE always (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text); \
    CREATE TABLE \"unique\" (code text NOT NULL UNIQUE, maybe int UNIQUE); \
    CREATE TABLE heap (name text, n numeric(6,2), j json, state text); \
    CREATE TABLE parts (id int, name text) PARTITION BY RANGE (id); \
    CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (10); \
    CREATE TABLE parts2 PARTITION OF parts FOR VALUES FROM (10) TO (20)";

/// Into tables with keys of all kinds.
fn inserts(stage: &Stage, url: &str) -> String {
    let mut phases = format!("{SECRET}prepare:\n");
    for (id, into, values) in [
        ("serial", "files", "{ path: /数据/a.txt, name: 'a''b', size: 1024 }"),
        ("uuid", "\"档案\".\"文件 \"\"x\"\"\"", "{ 名称: 媒体 }"),
        ("pair", "PAIRS", "{ A: x, b: 7, c: null }"),
        ("identity", "public.always", "{ name: n }"),
        ("unique", "\"unique\"", "{ code: c-1 }"),
        ("heap", "heap", "{ name: h, n: 1.005, j: { a: 1 } }"),
        ("parts", "parts", "{ id: 12, name: p }"),
        ("defaults", "always", "{}"),
    ] {
        let into = into.replace('\'', "''");
        phases.push_str(&format!(
            "  {id}: {}\n",
            step(url, &format!("insert: {{ into: '{into}', values: {values} }}"))
        ));
    }
    let _ = stage;
    phases
}

const COUNT: &str = "SELECT (SELECT count(*) FROM files), (SELECT count(*) FROM \"档案\".\"文件 \"\"x\"\"\"), (SELECT count(*) FROM pairs), \
    (SELECT count(*) FROM always), (SELECT count(*) FROM \"unique\"), (SELECT count(*) FROM heap), (SELECT count(*) FROM parts)";

/// Rows of others, as like to ours as they can be.
const OTHERS: &str = "INSERT INTO files (path, name, size) VALUES ('/b', 'a''b', 1024); \
    INSERT INTO \"档案\".\"文件 \"\"x\"\"\" (\"名称\") VALUES ('媒体'); INSERT INTO pairs VALUES ('y', 7, NULL); \
    INSERT INTO always (name) VALUES ('n'), (NULL); INSERT INTO \"unique\" VALUES ('c-2'); \
    INSERT INTO heap VALUES ('h', 1.01, '{\"a\":1}', 'old'); INSERT INTO parts VALUES (12, 'p'), (2, 'p')";

const ONLY_OTHERS: &str = "1|1|1|2|1|1|2";

#[test]
fn a_row_of_every_kind_of_table_is_back_after_success_and_after_failure() {
    let stage = Stage::new();
    stage.make(TABLES);
    stage.make(OTHERS);
    let url = stage.server.url();
    let outs = [
        "steps.serial.out.rowid == steps.serial.out.key.id && steps.serial.out.changes == 1",
        "size(steps.uuid.out.key['编号']) == 36 && !has(steps.uuid.out.rowid)",
        "steps.pair.out.key == {'a': 'x', 'b': 7} && !has(steps.pair.out.rowid)",
        "steps.identity.out.rowid >= 1 && steps.unique.out.key == {'code': 'c-1'}",
        "has(steps.heap.out.at) && !has(steps.heap.out.key) && has(steps.parts.out.at)",
    ];
    let mut phases = format!("{}monitor:\n", inserts(&stage, &url));
    for (at, expect) in outs.iter().enumerate() {
        phases.push_str(&format!(
            "  s{at}:\n    command: {{ run: [\"true\"], reads: true }}\n    expect: |-\n      {expect}\n"
        ));
    }
    // The owner goes on with the row: other columns are its own.
    phases.push_str(&format!(
        "  owner:\n    postgres: {{ url: '{url}', password: '${{{{ secrets.pw }}}}', execute: \"UPDATE heap SET state = 'done' WHERE state IS NULL\" }}\n    undo: {{ command: {{ run: [\"true\"] }} }}\n"
    ));
    let text = exited(&stage.run(&phases), 0);
    assert!(text.contains("undone 9 of 9") && text.contains("left 0"), "{text}");
    assert_eq!(stage.psql(COUNT), ONLY_OTHERS);

    let fails = format!(
        "{phases}  fails: {{ needs: [s0, s1, s2, s3, s4, owner], command: {{ shell: exit 1, reads: true }} }}\n"
    );
    let text = exited(&stage.run(&fails), 2);
    assert!(text.contains("undone 9 of 9") && text.contains("left 0"), "{text}");
    assert_eq!(stage.psql(COUNT), ONLY_OTHERS);

    // By the socket all is the same; and an undo can be carried out twice.
    let again = "repeat:serial,repeat:uuid,repeat:pair,repeat:identity,repeat:unique,repeat:heap,repeat:parts,repeat:defaults";
    let text = exited(&stage.run_with(again, &inserts(&stage, &stage.server.unix_url())), 0);
    assert!(text.contains("undone 8 of 8"), "{text}");
    assert_eq!(stage.psql(COUNT), ONLY_OTHERS);
}

#[test]
fn what_another_changed_is_left_and_named_and_the_command_shows_it() {
    let stage = Stage::new();
    let ready = || stage.psql("SELECT count(*) FROM files") == "1";
    let text = exited(
        &stage.run_while(&stage.insert("files", "{ path: /a, name: 'it''s' }"), ready, || {
            stage.psql("UPDATE files SET name = 'theirs', state = 'completed'");
        }),
        4,
    );
    assert!(text.contains("the row with id 1 of `files`") && text.contains("it was changed since"), "{text}");
    assert_eq!(stage.psql("SELECT name FROM files"), "theirs");
    let line = stage.type_in(&text);
    assert!(line.contains("psql -h 127.0.0.1") && line.contains("-U tester"), "{line}");
    assert_eq!(stage.psql("SELECT name FROM files"), "theirs");
    stage.psql("DELETE FROM files");

    // What another removed is nobody's any more; a change of other columns is the owner's business.
    for (change, left) in [("DELETE FROM files", "0"), ("UPDATE files SET state = 'failed'", "0")] {
        let insert = stage.insert("files", "{ path: /a, name: b }");
        exited(&stage.run_while(&insert, ready, || drop(stage.psql(change))), 0);
        assert_eq!(stage.psql("SELECT count(*) FROM files"), left);
    }
}

#[test]
fn without_a_key_a_row_is_known_by_its_version_and_its_values() {
    let stage = Stage::new();
    stage.make(TABLES);
    let ready = || stage.psql("SELECT count(*) FROM heap WHERE state IS NULL AND name = 'h'") == "1";
    let insert = stage.insert("heap", "{ name: h, n: 2 }");
    // Another column changes: a new version of the row, with our values.
    exited(&stage.run_while(&insert, ready, || drop(stage.psql("UPDATE heap SET state = 'done'"))), 0);
    assert_eq!(stage.psql("SELECT count(*) FROM heap"), "0");
    exited(&stage.run_while(&insert, ready, || drop(stage.psql("DELETE FROM heap"))), 0);
    // Changed into another: the server still knows where it went.
    let text = exited(&stage.run_while(&insert, ready, || drop(stage.psql("UPDATE heap SET name = 'x'"))), 4);
    assert!(text.contains("of `heap`") && text.contains("`name` has another value"), "{text}");
    assert_eq!(stage.psql("SELECT name FROM heap"), "x");
    stage.type_in(&text);
    assert_eq!(stage.psql("SELECT name FROM heap"), "x");
    stage.psql("DELETE FROM heap");
    // Gone, while others inserted more: nobody can tell, so it is named.
    let others = "DELETE FROM heap; INSERT INTO heap VALUES ('z')";
    let text = exited(&stage.run_while(&insert, ready, || drop(stage.psql(others))), 4);
    assert!(text.contains("perhaps a row of `heap`") && text.contains("nobody can tell"), "{text}");
}

#[test]
fn a_row_that_others_refer_to_is_left_and_named() {
    let stage = Stage::new();
    stage.make("CREATE TABLE notes (file int REFERENCES files)");
    let ready = || stage.psql("SELECT count(*) FROM files") == "1";
    let insert = stage.insert("files", "{ path: /a, name: b }");
    let text = exited(
        &stage.run_while(&insert, ready, || drop(stage.psql("INSERT INTO notes SELECT id FROM files"))),
        4,
    );
    assert!(text.contains("rows of `notes` refer to it"), "{text}");
    stage.psql("TRUNCATE notes");
    stage.type_in(&text);
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");
}

#[test]
fn a_plan_changes_nothing_and_foresees_what_is_wrong() {
    let stage = Stage::new();
    stage.write(&stage.insert("files", "{ path: /a, name: b }"));
    let text = exited(&stage.shakedown(&["plan", "it.yaml"]), 0);
    assert!(text.contains("insert into files") && text.contains("writable, PostgreSQL"), "{text}");
    for (into, values, words) in
        [("file", "{ path: /a }", "did you mean `files`?"), ("files", "{ paht: /a }", "did you mean `path`?")]
    {
        stage.write(&stage.insert(into, values));
        let text = said(&stage.shakedown(&["plan", "it.yaml"]));
        assert!(text.contains(words), "{text}");
    }
    stage.psql("ALTER DATABASE media SET default_transaction_read_only = on");
    stage.write(&stage.insert("files", "{ path: /a, name: b }"));
    let text = said(&stage.shakedown(&["plan", "it.yaml"]));
    assert!(text.contains("takes no writes: `default_transaction_read_only` is on"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");
    assert!(!stage.server.log().contains("INSERT INTO \"public\""), "{}", stage.server.log());
}

#[test]
fn a_server_that_is_away_at_the_undo_is_named_with_what_to_type() {
    let mut stage = Stage::new();
    let insert = stage.insert("files", "{ path: /a, name: 'it''s', size: null }");
    let wait = "monitor: { waits: { wait: { until: { file: { stat: go } }, succeed_when: out.exists, every: 20ms } } }";
    let child = stage.begin(&format!("{insert}{wait}\n"));
    until("the row is there", || stage.psql("SELECT count(*) FROM files") == "1");
    stage.server.end();
    std::fs::write(stage.path("go"), "").expect("written");
    let text = exited(&child.wait_with_output().expect("it ends"), 4);
    assert!(text.contains("nothing listens there"), "{text}");
    stage.server.again();
    let line = stage.type_in(&text);
    // By the key that the server gave, and only as long as it holds what was written.
    assert!(line.contains("DELETE FROM ONLY \"public\".\"files\" WHERE \"id\" = "), "{line}");
    assert!(line.contains(" AND \"path\" = ") && line.contains(" AND \"size\" IS NULL"), "{line}");
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");
}

#[test]
fn what_a_trigger_makes_of_the_row_is_seen() {
    let stage = Stage::new();
    stage.make(
        "CREATE FUNCTION aside() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF NEW.name = 'aside' THEN RETURN NULL; END IF; IF NEW.name = 'no' THEN RAISE 'not this one'; END IF; \
         NEW.name := lower(NEW.name); RETURN NEW; END $$; \
         CREATE TRIGGER aside BEFORE INSERT ON files FOR EACH ROW EXECUTE FUNCTION aside()",
    );
    let text = exited(&stage.run(&stage.insert("files", "{ path: /a, name: aside }")), 2);
    assert!(text.contains("`files` took no row"), "{text}");
    let text = exited(&stage.run(&stage.insert("files", "{ path: /a, name: 'no' }")), 2);
    assert!(text.contains("not this one"), "{text}");
    // What counts is what was stored.
    let text = exited(&stage.run(&stage.insert("files", "{ path: /a, name: NAME }")), 0);
    assert!(text.contains("undone 1 of 1"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");
    exited(&stage.run(&stage.insert("files", "{ path: /a, name: small }")), 0);
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");
}

#[test]
fn a_time_that_moves_is_refused_before_anything_is_written() {
    let stage = Stage::new();
    stage.make("CREATE TABLE times (id serial PRIMARY KEY, t timestamptz, d date, word text)");
    for values in ["{ t: now }", "{ d: ' Tomorrow' }", "{ t: 'today 04:05' }"] {
        let text = said(&stage.run(&stage.insert("times", values)));
        assert!(text.contains("expected a time that stays the same") && !text.contains("undone"), "{text}");
    }
    let still = "{ t: '${{ run.started_at }}', d: epoch, word: now }";
    exited(&stage.run(&stage.insert("times", still)), 0);
    assert_eq!(stage.psql("SELECT count(*) FROM times"), "0");
}

#[test]
fn a_time_in_the_key_is_found_again_whatever_the_style_of_the_database() {
    let stage = Stage::new();
    stage.make("CREATE TABLE shots (at timestamptz, day date, name text, PRIMARY KEY (at, day))");
    // `CST` is the zone of Shanghai where times are written, and one of America where they are read.
    for set in ["datestyle = 'SQL, DMY'", "timezone = 'Asia/Shanghai'"] {
        stage.psql(&format!("ALTER DATABASE media SET {set}"));
    }
    let shot = stage.insert("shots", "{ at: '2025-01-23 10:15:00.25+08', day: '03/02/2025', name: 一 }");
    let text = exited(&stage.run(&shot), 0);
    assert!(text.contains("undone 1 of 1"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM shots"), "0");
}

#[test]
fn a_row_that_the_table_does_not_let_go_is_named_with_the_reason() {
    let stage = Stage::new();
    stage.make(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
         CREATE TRIGGER keep BEFORE DELETE ON files FOR EACH ROW EXECUTE FUNCTION keep()",
    );
    let text = exited(&stage.run(&stage.insert("files", "{ path: /a, name: b }")), 4);
    assert!(text.contains("a trigger, a rule or a policy of the table keeps it"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "1");
}
