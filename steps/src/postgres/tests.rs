//! What needs no server.

use crate::testing::{Bench, check, describe};
use engine::{ErrorClass, step::Effect};
use serde_json::json;

#[test]
fn parameters_that_do_not_go_together_are_told_while_reading() {
    let url = "postgres://h/d";
    for (params, wrong) in [
        (json!({ "url": url }), "expected exactly one of"),
        (json!({ "url": url, "check": "reachable", "query": "x" }), "`check` cannot go with `query`"),
        (
            json!({ "url": url, "check": "reachable", "params": {} }),
            "`params` goes with `query` or `execute`",
        ),
        (json!({ "url": url, "query": "SELECT 1", "table": "t" }), "`table` goes with `check`"),
        (json!({ "url": url, "check": "writable", "columns": ["a"] }), "`columns` goes with `check: schema`"),
        (json!({ "url": url, "execute": "x", "max_rows": 1 }), "`max_rows` goes with `query`"),
    ] {
        let found = check("postgres", &params).join("\n");
        assert!(found.contains(wrong), "{params}: {found}");
    }
    let fine = json!({ "url": url, "check": ["writable", "schema"], "table": "t", "columns": ["a"] });
    assert!(check("postgres", &fine).is_empty());
}

#[test]
fn a_plan_shows_what_is_done_and_never_the_address() {
    let url = "postgres://me:very-secret@h/d";
    for (params, title, effect) in [
        (json!({ "url": url, "query": "SELECT\n  1" }), "query: SELECT 1", Effect::Reads),
        (json!({ "url": url, "check": ["reachable", "writable"] }), "check PostgreSQL: ", Effect::Reads),
        (
            json!({ "url": url, "execute": "DELETE FROM t" }),
            "execute: DELETE FROM t",
            Effect::NeedsWrittenUndo,
        ),
        (
            json!({ "url": url, "insert": { "into": "媒体.t", "values": {} } }),
            "insert into 媒体.t",
            Effect::Undoable("delete that row, if unchanged".into()),
        ),
    ] {
        let found = describe("postgres", &params);
        assert!(found.title.starts_with(title) && !found.title.contains("secret"), "{found:?}");
        assert_eq!(found.effect, effect);
    }
}

#[tokio::test]
async fn a_run_that_stops_gives_the_connection_up() {
    let bench = Bench::new();
    // Nobody accepts: the kernel does, and no greeting is answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("postgres://u@{}/d", silent.local_addr().expect("bound"));
    let params = json!({ "url": url, "check": "reachable", "connect_timeout": "10m" });
    let stop = async {
        tokio::task::yield_now().await;
        bench.cancel.cancel();
    };
    let (result, ()) = tokio::join!(bench.run("postgres", params), stop);
    assert_eq!(result.expect_err("stopped").class, ErrorClass::Cancelled);
}

#[tokio::test]
async fn an_address_that_is_none_is_not_quoted() {
    let bench = Bench::new();
    for url in ["postgres://u:very-secret@h:port/d", "mysql://u:very-secret@h/d", "password=very-secret no"] {
        let params = json!({ "url": url, "check": "reachable" });
        let error = bench.run("postgres", params).await.expect_err("no address");
        assert_eq!(error.class, ErrorClass::Invalid, "{error:?}");
        assert!(!format!("{error:?}").contains("very-secret"), "{error:?}");
    }
    let ca = json!({ "url": "postgres:///d", "ca": "/nowhere.pem", "check": "reachable" });
    let error = bench.run("postgres", ca).await.expect_err("a socket");
    assert!(error.message.contains("`ca` goes with an encrypted connection"), "{error}");
}
