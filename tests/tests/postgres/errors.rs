//! What is said where something is wrong, and what to type next.

use crate::{SECRET, Stage, place, step};
use tests::{
    bare::exited,
    folders::said,
    servers::{free_port, postgres::Setup},
};

/// What a step that only reads says when it fails.
fn error_of(step: &str) -> String {
    let output = place().run(&format!("{SECRET}monitor: {{ it: {step} }}\n"));
    assert!(!output.status.success(), "{}", said(&output));
    said(&output)
}

#[test]
fn errors_name_what_was_found_and_what_to_type() {
    let stage = Stage::new();
    let (url, port) = (stage.server.url(), stage.server.port);
    stage.psql("CREATE TABLE \"禁止\" (a int); CREATE TABLE hidden (a int)");
    let closed = format!("postgres://tester@127.0.0.1:{}/media", free_port());
    let nowhere = "postgres:///media?host=/nowhere&user=tester".to_owned();
    let other = format!("postgres://tester@127.0.0.1:{port}/no_such");
    let on = |address: &str, action: &str| step(address, action);
    for (step, words) in [
        (
            on(&closed, "check: reachable"),
            vec!["nothing listens there".to_owned(), "psql -h 127.0.0.1 -p".into()],
        ),
        (
            on(&nowhere, "check: reachable"),
            vec!["expected the socket of a server, found no such file".into()],
        ),
        (
            on(&other, "check: reachable"),
            vec!["\"no_such\" does not exist".into(), "-d postgres -c '\\l'".into()],
        ),
        (
            on(&url, "query: SELECT * FROM file"),
            vec!["relation \"file\" does not exist".into(), "did you mean `files`?".into()],
        ),
        (
            on(&url, "query: SELECT * FROM nothing.like_it"),
            vec!["its tables are: files, hidden, 禁止".into()],
        ),
        (
            on(&url, "query: SELECT nam FROM files"),
            vec!["column \"nam\" does not exist".into(), "files.name".into()],
        ),
        (on(&url, "query: SELECT no_such(1)"), vec!["function no_such(integer) does not exist".into()]),
        (on(&url, "query: SELEC 1"), vec!["`query` only reads".into()]),
        (on(&url, "query: SELECT FROM WHERE"), vec!["syntax error at or near \"WHERE\"".into()]),
        (
            on(&url, "query: SELECT * FROM hidden"),
            vec!["permission denied for table hidden".into(), "\\dp".into()],
        ),
        (on(&url, "query: SELECT 1/0"), vec!["division by zero".into()]),
        (
            on(&url, "check: [reachable, schema], table: file"),
            vec!["has no table `file`".into(), "did you mean `files`?".into()],
        ),
        (
            on(&url, "check: schema, table: files, columns: [paht]"),
            vec!["has no column `paht`".into(), "did you mean `path`?".into()],
        ),
        (
            on(&url, "check: readable, table: hidden"),
            vec!["the user `tester` may not SELECT the table `hidden`".into(), "GRANT SELECT ON".into()],
        ),
        (
            on(&url, "check: writable, table: hidden"),
            vec!["may not INSERT, UPDATE, DELETE the table `hidden`".into()],
        ),
        (on(&url, "check: schema"), vec!["`check: schema` needs `table`".into()]),
        (on("http://127.0.0.1/", "check: reachable"), vec!["is no address of a PostgreSQL server".into()]),
        (
            on(&format!("{url}?sslmode=allow"), "check: reachable"),
            vec!["`sslmode=allow` is not supported".into()],
        ),
        (
            on(&url, "query: SELECT 1, insert: { into: t, values: {} }"),
            vec!["`insert` cannot go with `query`".into()],
        ),
    ] {
        let text = error_of(&step);
        for word in words {
            assert!(text.contains(&word), "{step}: `{word}`: {text}");
        }
    }
    for (into, values, words) in [
        ("files", "{ path: null, name: a }", "null value in column \"path\""),
        ("files", "{ path: /a, name: a, size: lots }", "invalid input syntax for type bigint"),
        ("files", "{ path: /a, name: a, size: 99999999999999999999 }", "out of range for type bigint"),
        ("missing", "{ a: 1 }", "has no table `missing`"),
        ("files", "{ a: 1 }", "its columns are: id, path, name, size, state"),
        ("a.b.c", "{ a: 1 }", "expected `TABLE` or `SCHEMA.TABLE`"),
        ("seen", "{ id: 1 }", "`seen` of"),
    ] {
        stage.psql("CREATE OR REPLACE VIEW seen AS SELECT id FROM files; GRANT ALL ON seen TO tester");
        let text = said(&stage.run(&stage.insert(into, values)));
        assert!(text.contains(words), "{into} {values}: {text}");
    }
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");
}

#[test]
fn a_server_in_order_passes_all_checks() {
    let stage = Stage::new();
    let all = stage.step(
        "check: [reachable, readable, writable, schema], table: public.files, columns: [id, path, STATE]",
    );
    let all = all.strip_suffix(" }").expect("a step in braces");
    exited(
        &stage.run(&format!(
            "{SECRET}precheck: {{ it: {all}, expect: out.health.writable && out.health.role == 'primary' && out.health.size > 0 && out.health.version != '' }} }}\n"
        )),
        0,
    );
    let socket = step(&stage.server.unix_url(), "check: [reachable, readable, writable]");
    exited(&stage.run(&format!("{SECRET}precheck: {{ it: {socket} }}\n")), 0);
    stage.psql("ALTER DATABASE media SET default_transaction_read_only = on");
    let text = error_of(&stage.step("check: writable"));
    assert!(text.contains("takes no writes: `default_transaction_read_only` is on"), "{text}");
    exited(
        &stage.run(&format!("{SECRET}monitor: {{ it: {} }}\n", stage.step("check: readable, table: files"))),
        0,
    );
}

#[test]
fn a_replica_is_read_and_not_written() {
    let stage = Stage::new();
    stage.make("INSERT INTO files (path, name) VALUES ('/a', 'a')");
    let replica = stage.server.replica();
    let seen = step(&replica.url(), "query: SELECT name FROM files");
    let seen = seen.strip_suffix(" }").expect("a step in braces");
    exited(&stage.run(&format!("{SECRET}monitor: {{ it: {seen}, expect: out.row.name == 'a' }} }}\n")), 0);
    let text = error_of(&step(&replica.url(), "check: writable"));
    assert!(text.contains("takes no writes: it is a replica"), "{text}");
    let insert = stage.insert("files", "{ path: /b, name: b }").replace(&stage.server.url(), &replica.url());
    let text = said(&stage.run(&insert));
    assert!(text.contains("takes no writes: cannot execute INSERT in a read-only transaction"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "1");
}

#[test]
fn a_server_that_is_full_or_never_answers_is_told_apart() {
    let stage = Stage::with(Setup {
        settings: &["max_connections=5", "superuser_reserved_connections=3"],
        ..Setup::default()
    });
    let holders: Vec<_> = (0..2).map(|_| stage.server.connect()).collect();
    let text = error_of(&stage.step("check: reachable"));
    assert!(text.contains("remaining connection slots") || text.contains("too many clients"), "{text}");
    assert!(text.contains("FROM pg_stat_activity"), "{text}");
    drop(holders);

    // With a backlog of its own, the kernel accepts the connection, and nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("postgres://u@127.0.0.1:{}/d", silent.local_addr().expect("bound").port());
    let text = error_of(&step(&silent, "check: reachable, connect_timeout: 200ms"));
    assert!(text.contains("did not answer within 200 ms"), "{text}");
}
