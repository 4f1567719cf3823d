//! What is read, and that reading changes nothing.

use crate::{SECRET, Stage};
use tests::{bare::exited, folders::said, lab::until};

/// Steps that read, each with what has to hold of its output.
fn reads(stage: &Stage, steps: &[(&str, &str)]) -> String {
    let mut phases = format!("{SECRET}monitor:\n");
    for (at, (action, expect)) in steps.iter().enumerate() {
        phases.push_str(&format!(
            "  s{at}:\n    postgres:\n      url: '{}'\n      password: '${{{{ secrets.pw }}}}'\n{action}\n    expect: |-\n      {expect}\n",
            stage.server.url()
        ));
    }
    phases
}

/// A step to which further keys are to be added.
fn open(step: &str) -> &str {
    step.strip_suffix(" }").expect("a step in braces")
}

/// A query in the form of [`reads`].
fn query(sql: &str, params: &str) -> String {
    let params = if params.is_empty() { String::new() } else { format!("\n      params: {params}") };
    format!("      query: |-\n        {sql}{params}")
}

const TYPES: &str = "CREATE TYPE mood AS ENUM ('froh', '忧'); CREATE DOMAIN positive AS int CHECK (value > 0); \
    CREATE TYPE pair AS (a int, b text); \
    CREATE TABLE types (id serial PRIMARY KEY, i2 int2, i4 int4, i8 int8, f4 real, f8 double precision, n numeric(24,4), \
    b bool, t text, v varchar(10), c char(5), j json, jb jsonb, u uuid, ts timestamp, tz timestamptz, d date, ti time, \
    bin bytea, ints int[], texts text[], grid int[], m mood, pos positive, pr pair, ip inet, iv interval, r int4range)";

const VALUES: &str = "
          i2: -7
          i4: true
          i8: 9007199254740993
          f4: 0.1
          f8: 1.5e300
          n: '12345678901234567890.5'
          b: false
          t: \"媒体 'q' \\\\ \\\" :x $1 \\n!\"
          v: abc
          c: ab
          j: { a: [1, 二, null] }
          jb: [1.5, null]
          u: 6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b
          ts: 2025-01-23 10:15:00.5
          tz: '2025-01-23T10:15:00Z'
          d: 2025-01-23
          ti: '10:15'
          bin: { $blob: 00ff80 }
          ints: [1, null, 3]
          texts: ['a,b', \"c\\\"d\\\\\", 丙, '']
          grid: [[1, 2], [3, 4]]
          m: 忧
          pos: 3
          pr: (1,x)
          ip: 10.0.0.1
          iv: 1 day
          r: '[1,5)'";

#[test]
fn every_type_is_written_and_read_as_it_is() {
    let stage = Stage::new();
    stage.make(TYPES);
    stage.psql("ALTER ROLE tester SET timezone = 'UTC'");
    let seen = [
        "out.row.i2 == -7 && out.row.i4 == 1 && out.row.i8 == 9007199254740993",
        "out.row.f4 == 0.1 && out.row.f8 == 1.5e300 && out.row.n == '12345678901234567890.5000'",
        "out.row.b == false && out.row.v == 'abc' && out.row.c == 'ab   '",
        "out.row.t == '媒体 \\'q\\' \\\\ \" :x $1 \\n!'",
        "out.row.j == {'a': [1, '二', null]} && out.row.jb == [1.5, null]",
        "out.row.u == '6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b'",
        "out.row.ts == '2025-01-23T10:15:00.5' && out.row.tz == '2025-01-23T10:15:00+00:00'",
        "out.row.d == '2025-01-23' && out.row.ti == '10:15:00'",
        "out.row.bin['$blob'] == '00ff80'",
        "out.row.ints == [1, null, 3] && out.row.grid == [[1, 2], [3, 4]]",
        "out.row.texts == ['a,b', 'c\"d\\\\', '丙', '']",
        "out.row.m == '忧' && out.row.pos == 3 && out.row.pr == {'a': 1, 'b': 'x'}",
        "out.row.ip == '10.0.0.1' && out.row.iv == '1 day' && out.row.r == '[1,5)'",
    ];
    let url = stage.server.url();
    for address in [url.clone(), stage.server.unix_url()] {
        let mut steps: Vec<(String, &str)> = Vec::new();
        for expect in seen {
            steps.push((
                query("SELECT * FROM types WHERE id = :id", "{ id: '${{ steps.row.out.rowid }}' }"),
                expect,
            ));
        }
        let borrowed: Vec<(&str, &str)> =
            steps.iter().map(|(action, expect)| (action.as_str(), *expect)).collect();
        let phases = reads(&stage, &borrowed).replace(&url, &address);
        let insert = format!(
            "prepare:\n  row:\n    postgres:\n      url: '{address}'\n      password: '${{{{ secrets.pw }}}}'\n      insert:\n        into: types\n        values:{VALUES}\nmonitor:"
        );
        let text = exited(&stage.run(&phases.replace("monitor:", &insert)), 0);
        assert!(text.contains("undone 1 of 1"), "{text}");
        assert_eq!(stage.psql("SELECT count(*) FROM types"), "0");
    }
}

#[test]
fn null_and_what_is_no_number_are_told_apart_from_values() {
    let stage = Stage::new();
    stage.make(TYPES);
    let nulls = "{ i4: null, f8: null, n: null, b: null, t: null, j: null, u: null, tz: null, bin: null, ints: null, m: null }";
    let read = format!(
        "{}monitor:\n  all:\n    postgres: {{ url: '{}', password: '${{{{ secrets.pw }}}}', query: 'SELECT * FROM types' }}\n    expect: out.row.all(name, name == 'id' || out.row[name] == null)\n",
        stage.insert("types", nulls),
        stage.server.url()
    );
    exited(&stage.run(&read), 0);
    assert_eq!(stage.psql("SELECT count(*) FROM types"), "0");
    let steps = [
        (
            query("SELECT 'NaN'::float8 AS nan, '-Infinity'::float4 AS inf, 'NaN'::numeric AS n", ""),
            "out.row == {'nan': 'NaN', 'inf': '-inf', 'n': 'NaN'}",
        ),
        (
            query("SELECT 12.50::numeric AS a, 7::numeric AS b, 0.1::numeric AS c", ""),
            "out.row.a == 12.5 && out.row.b == 7 && out.row.c == 0.1",
        ),
        (query("SELECT 1 AS x WHERE false", ""), "out.row == null && out.count == 0 && out.columns == ['x']"),
        (
            query("SELECT pg_sleep(0), 1 AS a, 2 AS b;  -- the end", ""),
            "out.row.pg_sleep == null && out.row.b == 2",
        ),
        (
            query("SELECT ROW(1, 'x') AS r, interval '2 days' AS iv -- no semicolon", ""),
            "out.row.r.f2 == 'x' && out.row.iv == '2 days'",
        ),
        (query("SHOW server_encoding", ""), "out.row.server_encoding == 'UTF8'"),
        (query("VALUES (1), (2)", ""), "out.count == 2 && out.rows[1].column1 == 2"),
        (
            query("EXPLAIN (FORMAT JSON) SELECT 1", ""),
            "out.rows[0]['QUERY PLAN'][0].Plan['Node Type'] == 'Result'",
        ),
        (
            query(
                "SELECT :名::text AS a, ':b' AS b, '{1,2}'::int[] AS c, :n::int + :n::int AS d",
                "{ 名: '; DROP TABLE files', n: 4 }",
            ),
            "out.row == {'a': '; DROP TABLE files', 'b': ':b', 'c': [1, 2], 'd': 8}",
        ),
        (
            query(
                "SELECT n FROM generate_series(1, :to) AS n WHERE n = ANY (:some)",
                "{ to: 9, some: [2, 5, 77] }",
            ),
            "out.rows == [{'n': 2}, {'n': 5}]",
        ),
    ];
    let steps: Vec<(&str, &str)> = steps.iter().map(|(action, expect)| (action.as_str(), *expect)).collect();
    exited(&stage.run(&reads(&stage, &steps)), 0);
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");
}

#[test]
fn all_rows_are_counted_and_only_so_many_kept() {
    let stage = Stage::new();
    let many = query("SELECT n FROM generate_series(1, 5000) AS n ORDER BY n", "");
    let few = format!("{many}\n      max_rows: 3");
    let large = query("SELECT repeat('x', 100000) AS x FROM generate_series(1, 50)", "");
    let steps = [
        (many.as_str(), "out.count == 5000 && size(out.rows) == 1000 && out.rows[999].n == 1000"),
        (few.as_str(), "out.count == 5000 && out.rows == [{'n': 1}, {'n': 2}, {'n': 3}]"),
        (large.as_str(), "out.count == 50 && size(out.rows) == 10"),
    ];
    exited(&stage.run(&reads(&stage, &steps)), 0);
    let huge = query("SELECT repeat('x', 2000000) AS x", "");
    let text = said(&stage.run(&reads(&stage, &[(huge.as_str(), "true")])));
    assert!(text.contains("the first row has 20") && text.contains("read fewer columns"), "{text}");
}

#[test]
fn a_query_cannot_write_whatever_it_says() {
    let stage = Stage::new();
    stage.make("INSERT INTO files (path, name) VALUES ('/a', 'a')");
    stage.make("CREATE SEQUENCE seq; CREATE FUNCTION sly() RETURNS int LANGUAGE plpgsql AS $$ BEGIN DELETE FROM files; RETURN 1; END $$");
    // The owner of the cluster may do everything, and still nothing is written.
    let owner = stage.server.unix_url();
    for (sql, words) in [
        ("DELETE FROM files", "`query` only reads"),
        ("/* SELECT */ TRUNCATE files", "`query` only reads"),
        ("COPY files TO '/tmp/never-written'", "`query` only reads"),
        ("COMMIT", "`query` only reads"),
        ("WITH gone AS (DELETE FROM files RETURNING id) SELECT * FROM gone", "`query` changes something"),
        (
            "WITH gone AS (DELETE FROM files RETURNING id, 1.5) SELECT * FROM gone",
            "`query` changes something",
        ),
        ("SELECT sly()", "`query` changes something"),
        ("SELECT nextval('seq')", "`query` changes something"),
        ("SELECT 1 FROM files FOR UPDATE", "`query` changes something"),
        ("SELECT set_config('transaction_read_only', 'off', true), sly()", "read-write mode"),
        ("SELECT 1; DELETE FROM files", "more than one statement"),
        ("EXPLAIN ANALYZE DELETE FROM files", "`query` changes something"),
    ] {
        let phases = reads(&stage, &[(&query(sql, ""), "true")]).replace(&stage.server.url(), &owner);
        let output = stage.run(&phases);
        let text = said(&output);
        assert!(!output.status.success() && text.contains(words), "{sql}: {text}");
    }
    assert_eq!(stage.psql("SELECT count(*), (SELECT is_called FROM seq) FROM files"), "1|f");
    assert!(!std::path::Path::new("/tmp/never-written").exists());
    // What a function leaves beside the tables goes with the transaction: no word is sent, no lock stays.
    let notify = query("SELECT pg_notify('c', 'x'), pg_advisory_xact_lock(7)", "");
    exited(&stage.run(&reads(&stage, &[(notify.as_str(), "out.count == 1")])), 0);
}

#[test]
fn values_and_names_must_fit_together() {
    let stage = Stage::new();
    for (sql, params, words) in [
        ("SELECT :a", "", "`:a` has no value"),
        ("SELECT 1", "{ b: 1 }", "the statement has no `:b`"),
        ("SELECT $1", "", "`$1` has no name"),
        ("SELECT '${{ secrets.pw }}'", "", "a secret cannot stand in a statement"),
        ("SELECT :a::int", "{ a: [1] }", "is no value of type `int4`"),
        ("SELECT :a::int", "{ a: abc }", "invalid input syntax for type integer"),
        ("SELECT 1 WHERE id = :id", "{ id: 1 }", "column \"id\" does not exist"),
    ] {
        let output = stage.run(&reads(&stage, &[(&query(sql, params), "true")]));
        assert!(!output.status.success() && said(&output).contains(words), "{sql}: {}", said(&output));
    }
}

#[test]
fn a_wait_ends_when_the_row_says_so() {
    let stage = Stage::new();
    stage.make("INSERT INTO files (path, name) VALUES ('/a', '媒体')");
    let until_done =
        stage.step("query: 'SELECT state FROM files WHERE name = :name', params: { name: 媒体 }");
    let child = stage.begin(&format!(
        "{SECRET}monitor:\n  it:\n    wait: {{ until: {until_done}, succeed_when: out.row.state == 'completed', fail_when: out.row.state == 'failed', every: 20ms }}\n    timeout: 60s\n"
    ));
    until("it has asked", || stage.server.log().contains("SELECT state FROM files"));
    stage.psql("UPDATE files SET state = 'completed'");
    exited(&child.wait_with_output().expect("it ends"), 0);
}

#[test]
fn a_written_undo_takes_back_a_statement() {
    let stage = Stage::new();
    stage.make("INSERT INTO files (path, name) VALUES ('/a', 'a'), ('/b', 'b')");
    let change = stage.step("execute: 'UPDATE files SET state = :state', params: { state: 完成 }");
    let back = stage.step("execute: UPDATE files SET state = 'pending'");
    let seen = stage.step("query: SELECT DISTINCT state FROM files");
    let whole = format!(
        "{SECRET}prepare:\n  it: {}, undo: {back}, expect: out.changes == 2 }}\nmonitor:\n  seen: {}, expect: out.row.state == '完成' }}\n",
        open(&change),
        open(&seen)
    );
    exited(&stage.run(&whole), 0);
    assert_eq!(stage.psql("SELECT DISTINCT state FROM files"), "pending");
}

#[test]
fn rows_that_a_change_returns_are_counted_and_not_kept() {
    let stage = Stage::new();
    // 400 MB of rows.
    let many = stage.step("execute: \"SELECT repeat('x', 1000) FROM generate_series(1, 400000)\"");
    let many = many.strip_suffix(" }").expect("a step in braces");
    let mark = stage.step("insert: { into: files, values: { path: /a, name: b } }");
    let mark = mark.strip_suffix(" }").expect("a step in braces");
    let child = stage.begin(&format!(
        "{SECRET}prepare:\n  many: {many}, undo: {{ command: {{ run: ['true'] }} }}, expect: out.changes == 400000 }}\n  \
         mark: {mark}, needs: [many] }}\nmonitor:\n  waits: {{ wait: {{ until: {{ file: {{ stat: go }} }}, succeed_when: out.exists, every: 20ms }} }}\n"
    ));
    until("all rows have come", || stage.psql("SELECT count(*) FROM files") == "1");
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    std::fs::write(stage.path("go"), "").expect("written");
    exited(&child.wait_with_output().expect("it ends"), 0);
    assert!(peak < 200_000, "{peak} kB");
    tests::tell(&format!("400 MB of rows: {peak} kB of memory at most"));
}

#[test]
fn a_limit_of_months_is_none_too_long() {
    let stage = Stage::new();
    let patient = stage.step("busy_timeout: 60d, statement_timeout: 60d, query: 'SELECT 1 AS n'");
    exited(
        &stage.run(&format!("{SECRET}monitor: {{ it: {}, expect: out.row.n == 1 }} }}\n", open(&patient))),
        0,
    );
}

#[test]
fn numbers_within_json_and_lists_lose_nothing_and_what_is_too_deep_is_told() {
    let stage = Stage::new();
    let big = "12345678901234567890123";
    let query =
        format!("SELECT '[{big}, 1e400, 1.50]'::jsonb AS j, '[{big}]'::json AS k, ARRAY[{big}, 0.5] AS n");
    let step = stage.step(&format!("query: \"{query}\""));
    let expect = format!(
        "out.row.j[0] == \"{big}\" && out.row.k[0] == \"{big}\" && out.row.j[2] == 1.5 && out.row.n == [\"{big}\", 0.5]"
    );
    let phases = format!("{SECRET}monitor:\n  it: {}, expect: '{expect}' }}\n", open(&step));
    exited(&stage.run(&phases), 0);
    let deep = stage.step("query: \"SELECT (repeat('[', 200) || repeat(']', 200))::jsonb AS j\"");
    let text = said(&stage.run(&format!("{SECRET}monitor: {{ it: {deep} }}\n")));
    assert!(text.contains("a value that cannot be shown") && text.contains("nested more than 128"), "{text}");
    assert!(!text.contains("does not answer as"), "{text}");
}
