//! The judge itself: it sees what a run leaves although the run says that nothing is left.

use tests::truth::{Death, Row, Server};

const MADE: &str = "prepare: { made: { file: { create: '@DIR@/made', text: x } } }";

/// A run that is all right, while another changes something of which it knows nothing.
fn beside<'a>(setup: &'a str, meanwhile: &'a str) -> Row<'a> {
    Row { setup, playbook: MADE, ready: "test -e made", meanwhile, ..Row::HERE }
}

/// The judge says that this is different.
#[track_caller]
fn sees(row: &Row<'_>, thing: &str) {
    let problem = row.judge().expect_err("something was left");
    assert!(problem.contains(thing), "expected `{thing}`: {problem}");
    assert!(problem.contains("left 0"), "the run itself knows nothing of it: {problem}");
}

#[test]
fn a_run_that_leaves_nothing_is_all_right() {
    beside("", "true").check();
}

#[test]
fn a_difference_that_is_named_must_be_there() {
    let row = Row { differs: &["+ file other"], ..beside("", "true") };
    sees(&row, "missing: [\n    \"+ file other\"");
    Row { differs: &["+ file other"], ..beside("", "touch other") }.check();
}

#[test]
fn it_sees_each_kind_of_change_to_files() {
    let setup = "echo a >a; mkdir d; ln -s a link; echo other >b";
    for (meanwhile, thing) in [
        ("touch .hidden", "+ file .hidden"),
        ("mkdir d/.e; touch d/.e/f", "+ file d/.e/f"),
        ("mkfifo p", "+ file p"),
        ("echo A >a", "~ file a"),
        ("chmod 600 a", "~ file a"),
        ("chmod u+s a", "~ file a"),
        ("chown 1 a", "~ file a"),
        ("ln -sfn b link", "~ file link"),
        ("ln a again", "~ file a"),
        ("rm b", "- file b"),
        ("mv b c", "- file b"),
    ] {
        sees(&beside(setup, meanwhile), thing);
    }
}

#[test]
fn it_sees_rows_that_differ_only_in_case_or_type() {
    let setup = "sqlite3 it.db \"CREATE TABLE t (a COLLATE NOCASE, n); INSERT INTO t VALUES ('a', 1)\"";
    for (change, thing) in [
        ("UPDATE t SET a = 'A'", "- row it.db: INSERT"),
        ("UPDATE t SET n = 1.0", "- row it.db: INSERT"),
        ("UPDATE t SET a = x'61'", "- row it.db: INSERT"),
        ("UPDATE t SET rowid = 7", "- row it.db: INSERT"),
        ("INSERT INTO t SELECT * FROM t", "+ row it.db: INSERT"),
        ("DROP TABLE t", "- row it.db: CREATE TABLE"),
    ] {
        sees(&beside(setup, &format!("sqlite3 it.db \"{change}\"")), thing);
    }
}

#[test]
fn it_sees_rows_and_keys_on_servers() {
    let setup = "psql -q -c \"CREATE TABLE t (a text); INSERT INTO t VALUES ('a')\"";
    let row = Row { server: Server::Postgres, ..beside(setup, "psql -q -c \"UPDATE t SET a = 'A'\"") };
    sees(&row, "+ row: public.t|(A)");
    let row = Row {
        server: Server::Redis,
        ..beside("redis-cli -s $REDIS set k v", "redis-cli -s $REDIS set k V; redis-cli -s $REDIS set l v")
    };
    sees(&row, "~ key k");
}

#[test]
fn it_sees_processes_also_those_that_hide() {
    sees(&beside("", "sleep 1234 &"), "+ process sleep 1234");
    sees(&beside("", "setsid env -i /bin/sleep 123 &"), "+ process /bin/sleep 123");
    sees(&beside("", "(cd / && exec setsid sleep 1235) &"), "+ process sleep 1235");
}

#[test]
fn it_reads_what_a_run_says() {
    let row = beside("", "true");
    for (wrong, thing) in [
        (Row { exit: 4, ..row }, "expected exit code 4"),
        (Row { says: &["left 7"], ..row }, "does not say"),
        (Row { silent: &["left 0"], ..row }, "it says"),
        (Row { typed: Some(&[]), ..row }, "there is no command"),
        (Row { death: Death::At("after:nothing"), ..row }, "it was not killed"),
    ] {
        sees(&wrong, thing);
    }
}

#[test]
fn it_sees_what_a_recovery_leaves() {
    let row = Row { playbook: MADE, death: Death::At("after:made"), ..Row::HERE };
    row.check();
    sees(&Row { between: "touch .hidden", ..row }, "+ file .hidden");
    Row { death: Death::Everywhere, ..row }.check();
    let leaves = format!(
        "{MADE}\nmonitor: {{ bad: {{ command: {{ run: [touch, '@DIR@/.hidden'], reads: true }} }} }}"
    );
    sees(&Row { playbook: &leaves, death: Death::Everywhere, ..row }, "+ file .hidden");
}

#[test]
fn it_sees_units_and_far_files_in_the_lab() {
    let setup = "printf '[Service]\\nExecStart=/bin/sleep 4321\\n' >/etc/systemd/system/other.service
        systemctl daemon-reload; systemctl start other";
    let row = Row { ..Row::LAB };
    let beside = Row {
        setup,
        playbook: MADE,
        ready: "test -e made",
        meanwhile: "systemctl stop other\nnas: touch /volume1/.hidden",
        ..row
    };
    if let Err(problem) = beside.judge() {
        for thing in
            ["- edge unit other.service", "- edge process /bin/sleep 4321", "+ nas file /volume1/.hidden"]
        {
            assert!(problem.contains(thing), "{problem}");
        }
    } else {
        assert!(tests::lab::Lab::start_or_skip().is_none(), "a stopped unit was not seen");
    }
}
