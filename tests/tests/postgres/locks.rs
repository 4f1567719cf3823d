//! Others that are in the way: locks, deadlocks, transactions that cannot be put in a row.

use crate::{SECRET, Stage};
use nix::sys::signal::{Signal, kill};
use std::time::Instant;
use tests::{
    bare::exited,
    folders::said,
    lab::until,
    servers::postgres::{Setup, USER},
    tell,
};

#[test]
fn a_lock_that_goes_away_is_waited_for_and_the_wait_is_counted() {
    let stage = Stage::new();
    let holder = stage.server.hold("LOCK TABLE files IN SHARE MODE");
    let child = stage.begin(&format!(
        "{}monitor:\n  counted: {{ command: {{ run: ['true'], reads: true }}, expect: steps.row.out.db.waits >= 1 && steps.row.out.db.wait_ms >= 100 && steps.row.out.db.operations == 1 }}\n",
        stage.insert("files", "{ path: /a, name: b }")
    ));
    // Its first try is given up soon; the second one stays in the queue.
    until("the second try waits", || {
        stage.server.log().contains("canceling statement due to lock timeout") && stage.waiting() == "1"
    });
    drop(holder);
    let text = exited(&child.wait_with_output().expect("it ends"), 0);
    assert!(text.contains("for locks, the longest"), "{text}");
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");
}

#[test]
fn a_lock_that_stays_is_an_error_of_its_own_with_a_hint() {
    let stage = Stage::new();
    let holder = stage.server.hold("LOCK TABLE files IN ACCESS EXCLUSIVE MODE");
    for action in ["query: SELECT * FROM files", "insert: { into: files, values: { path: /a, name: b } }"] {
        let step = stage.step(&format!("busy_timeout: 300ms, {action}"));
        let phase = if action.starts_with("query") { "monitor" } else { "prepare" };
        let output = stage.run(&format!("{SECRET}{phase}: {{ it: {step} }}\n"));
        let text = said(&output);
        assert!(!output.status.success(), "{text}");
        assert!(
            text.contains("others were in the way for 300 ms") && text.contains("pg_blocking_pids"),
            "{text}"
        );
    }
    drop(holder);
    assert_eq!(stage.psql("SELECT count(*) FROM files"), "0");
}

/// Changes two rows one after the other. The first two that come here wait for each other in between, so that they are in
/// each other's way for certain if they come from two sides.
const MOVE: &str = "CREATE SEQUENCE met; CREATE TABLE accounts (id int PRIMARY KEY, n int NOT NULL); \
    INSERT INTO accounts VALUES (1, 0), (2, 0); \
    CREATE FUNCTION move(a int, b int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN \
    UPDATE accounts SET n = n + 1 WHERE id = a; \
    IF nextval('met') <= 2 THEN WHILE (SELECT last_value FROM met) < 2 LOOP PERFORM pg_sleep(0.001); END LOOP; END IF; \
    UPDATE accounts SET n = n - 1 WHERE id = b; END $$";

#[test]
fn twenty_writers_at_once_all_succeed_though_two_met_in_a_deadlock() {
    let stage = Stage::with(Setup { settings: &["deadlock_timeout=1ms"], ..Setup::default() });
    stage.make(MOVE);
    // The first from either side hold a row each, and no third one can come between them.
    let began = Instant::now();
    let mut phases = format!("max_parallel: 20\n{SECRET}prepare:\n");
    for at in 0..20 {
        let (a, b) = if at % 2 == 0 { (1, 2) } else { (2, 1) };
        let it = stage.step(&format!("execute: 'SELECT move(:a, :b)', params: {{ a: {a}, b: {b} }}"));
        let it = it.strip_suffix(" }").expect("a step in braces");
        phases.push_str(&format!("  w{at}: {it}, undo: {{ command: {{ run: ['true'] }} }} }}\n"));
        let values = format!("insert: {{ into: files, values: {{ path: /{at}, name: 同 }} }}");
        phases.push_str(&format!("  r{at}: {}\n", stage.step(&values)));
    }
    let text = exited(&stage.run(&phases), 0);
    assert!(text.contains("undone 40 of 40"), "{text}");
    assert_eq!(stage.psql("SELECT sum(n), count(*), (SELECT count(*) FROM files) FROM accounts"), "0|2|0");
    let log = stage.server.log();
    let count = |what: &str| log.lines().filter(|line| line.contains("ERROR") && line.contains(what)).count();
    let (deadlocks, timeouts) = (count("deadlock detected"), count("due to lock timeout"));
    assert!(deadlocks >= 1, "no deadlock was provoked: {log}");
    tell(&format!(
        "40 writes at once: {deadlocks} deadlocks, {timeouts} lock waits noticed, {} ms",
        began.elapsed().as_millis()
    ));
}

#[test]
fn transactions_that_cannot_be_put_in_a_row_are_tried_again() {
    let stage = Stage::new();
    stage.make("CREATE TABLE accounts (id int PRIMARY KEY, n int); INSERT INTO accounts VALUES (1, 0)");
    stage.psql(&format!("ALTER ROLE {USER} SET default_transaction_isolation = 'repeatable read'"));
    let holder = stage.server.hold("UPDATE accounts SET n = n + 10");
    let it = stage.step("execute: UPDATE accounts SET n = n + 1 WHERE id = 1");
    let it = it.strip_suffix(" }").expect("a step in braces");
    let child = stage
        .begin(&format!("{SECRET}prepare: {{ it: {it}, undo: {{ command: {{ run: ['true'] }} }} }} }}\n"));
    until("it waits", || {
        stage.server.log().contains("canceling statement due to lock timeout") && stage.waiting() == "1"
    });
    holder.commit();
    exited(&child.wait_with_output().expect("it ends"), 0);
    assert!(stage.server.log().contains("could not serialize access"));
    assert_eq!(stage.psql("SELECT n FROM accounts"), "11");
}

#[test]
fn a_statement_that_takes_too_long_ends_on_the_server_too() {
    let stage = Stage::new();
    let sleeps = || {
        stage.psql(
            "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep' AND state = 'active'",
        )
    };
    let slow = stage.step("busy_timeout: 1ms, statement_timeout: 200ms, query: SELECT pg_sleep(3600)");
    let text = said(&stage.run(&format!("{SECRET}monitor: {{ it: {slow} }}\n")));
    assert!(
        text.contains("canceling statement due to statement timeout") && text.contains("`statement_timeout`"),
        "{text}"
    );
    assert_eq!(sleeps(), "0");

    let patient = stage.step("statement_timeout: 2h, query: SELECT pg_sleep(3600)");
    let child = stage.begin(&format!("{SECRET}monitor: {{ it: {patient} }}\n"));
    until("it sleeps", || sleeps() == "1");
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().expect("a process id"));
    kill(pid, Signal::SIGINT).expect("it runs");
    let text = said(&child.wait_with_output().expect("it ends"));
    assert!(text.contains("INTERRUPTED") || text.contains("interrupted"), "{text}");
    until("the server has stopped it", || sleeps() == "0");

    // The step's own time is over first: what it asked for must not go on either.
    let timed = patient.strip_suffix(" }").expect("a step in braces");
    let text = said(&stage.run(&format!("{SECRET}monitor: {{ it: {timed}, timeout: 300ms }} }}\n")));
    assert!(text.contains("did not finish within 300 ms"), "{text}");
    until("the server has stopped it", || sleeps() == "0");
}

#[test]
fn who_comes_second_leaves_the_row_of_the_first_alone() {
    let stage = Stage::new();
    stage.make("CREATE TABLE codes (code text PRIMARY KEY, name text)");
    // What the second one sees of the first before it begins is nothing at all.
    for name in ["同", "another"] {
        let first = stage.server.hold(&format!("INSERT INTO codes VALUES ('c', '{name}')"));
        let child = stage.begin(&stage.insert("codes", "{ code: c, name: 同 }"));
        until("it waits for the first", || stage.waiting() == "1");
        first.commit();
        let output = child.wait_with_output().expect("it ends");
        let text = said(&output);
        assert!(text.contains("duplicate key") && text.contains("left 0"), "{text}");
        assert_eq!(stage.psql("SELECT name FROM codes"), name, "{text}");
        stage.psql("TRUNCATE codes");
    }
}
