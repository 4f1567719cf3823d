//! What needs a server and a moment between intent, effect and undo.

use crate::testing::{Bench, check, until};
use engine::{
    ErrorClass,
    secret::{Secrets, mark},
    step::{Presence, Settled, Undone},
};
use serde_json::{Value, json};
use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
};

/// A server on a socket of its own; it ends with this value.
struct Server {
    child: Child,
    bench: Bench,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn spawn(bench: &Bench, log: &str) -> Child {
    Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", log, "--appendfsync", "always"])
        .args(["--unixsocket", &bench.at("socket"), "--dir"])
        .arg(bench.dir.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

/// What each action makes.
fn actions() -> [(&'static str, Value); 4] {
    [
        ("set", json!({ "key": "k", "value": 1 })),
        ("hash", json!({ "key": "h", "fields": { "f": 1 } })),
        ("push", json!({ "key": "l", "value": "a" })),
        ("add", json!({ "key": "s", "fields": { "f": 1 } })),
    ]
}

impl Server {
    async fn start() -> Self {
        Self::with("no").await
    }

    /// With or without a log of changes.
    async fn with(log: &str) -> Self {
        let bench = Bench::new();
        let mut server = Self { child: spawn(&bench, log), bench };
        server.answers().await;
        server
    }

    /// Ends the server, and starts it in the same place.
    async fn again(&mut self, log: &str) {
        self.child.kill().expect("kills");
        self.child.wait().expect("ends");
        self.child = spawn(&self.bench, log);
        self.answers().await;
    }

    async fn answers(&mut self) {
        let server = &*self;
        let ping = || json!({ "url": server.url(), "check": "reachable" });
        until("the server answers", async || server.bench.run("redis", ping()).await.is_ok()).await;
    }

    fn url(&self) -> String {
        format!("unix://{}", self.bench.at("socket"))
    }

    fn params(&self, action: &str, what: Value) -> Value {
        json!({ "url": self.url(), action: what })
    }

    /// What another client says and gets to hear.
    async fn other(&self, argv: &[&str]) -> Value {
        let out = self.bench.run("redis", self.params("command", json!(argv))).await.expect("an answer");
        out["value"].clone()
    }
}

#[tokio::test]
async fn what_changed_since_the_intent_is_not_overwritten() {
    let server = Server::start().await;
    for (action, what, change, look) in [
        (
            "set",
            json!({ "key": "k", "value": "ours" }),
            ["SET", "k", "theirs"].as_slice(),
            ["GET", "k"].as_slice(),
        ),
        (
            "hash",
            json!({ "key": "h", "fields": { "f": "ours" } }),
            &["HSET", "h", "f", "theirs"],
            &["HGET", "h", "f"],
        ),
    ] {
        let params = server.params(action, what);
        let mut started = server.bench.intend("redis", params).await;
        server.other(change).await;
        server.bench.go_on(&mut started).await;
        let error = started.result.as_ref().expect_err("refused");
        assert_eq!(error.class, ErrorClass::Busy);
        assert!(!error.outcome_unknown && error.message.contains("in the very moment before"), "{error}");
        assert!(error.no_effect, "what is there is another's: {error:?}");
        assert_eq!(server.other(look).await, "theirs");
    }
}

#[tokio::test]
async fn a_value_whose_time_is_over_gives_way_to_the_earlier_one() {
    let server = Server::start().await;
    server.other(&["SET", "k", "earlier"]).await;
    let set = server.params("set", json!({ "key": "k", "value": "ours", "ttl": "1ms" }));
    let it = server.bench.start("redis", set).await;
    assert_eq!(it.result.as_ref().expect("set")["earlier"], true);
    until("it has expired", async || server.other(&["GET", "k"]).await.is_null()).await;
    assert!(matches!(server.bench.settle(&it).await, Ok(Settled::Happened(_))));
    assert_eq!(server.bench.undo_blindly(&it).await, Ok(Undone::Removed));
    assert_eq!(server.bench.undo(&it).await, Ok(Undone::NothingToDo));
    assert_eq!(server.other(&["GET", "k"]).await, "earlier");
}

#[tokio::test]
async fn what_never_happened_needs_no_undo_and_what_happened_is_seen() {
    let server = Server::start().await;
    server.other(&["RPUSH", "l", "a", "a"]).await;
    for (action, what) in actions() {
        let params = server.params(action, what);
        let mut it = server.bench.intend("redis", params).await;
        assert_eq!(server.bench.settle(&it).await, Ok(Settled::NotHappened), "{action}");
        assert_eq!(server.bench.presence(&it).await, Ok(Presence::Gone), "{action}");
        assert_eq!(server.bench.undo_blindly(&it).await, Ok(Undone::NothingToDo), "{action}");
        server.bench.go_on(&mut it).await;
        assert!(it.result.is_ok(), "{action}: {:?}", it.result);
        assert!(matches!(server.bench.settle(&it).await, Ok(Settled::Happened(_))), "{action}");
        assert!(matches!(server.bench.presence(&it).await, Ok(Presence::Present(_))), "{action}");
        assert_eq!(server.bench.undo_blindly(&it).await, Ok(Undone::Removed), "{action}");
        assert_eq!(server.bench.undo(&it).await, Ok(Undone::NothingToDo), "{action}");
        assert_eq!(server.bench.presence(&it).await, Ok(Presence::Gone), "{action}");
    }
    assert_eq!(server.other(&["LRANGE", "l", "0", "-1"]).await, json!(["a", "a"]));
    assert_eq!(server.other(&["DBSIZE"]).await, 1);
}

#[tokio::test]
async fn a_hash_whose_time_is_over_is_not_missed_and_not_made_anew() {
    let server = Server::start().await;
    server.other(&["HSET", "h", "f", "earlier"]).await;
    server.other(&["PEXPIRE", "h", "600000"]).await;
    let hash = server.params("hash", json!({ "key": "h", "fields": { "f": "ours", "g": 1 } }));
    let mut it = server.bench.start("redis", hash).await;
    assert_eq!(it.result.as_ref().expect("set")["earlier"], true);
    server.other(&["DEL", "h"]).await;
    assert!(matches!(server.bench.undo(&it).await, Ok(Undone::Left(_))), "its time was not over");
    // As if it had been: nobody wants ten minutes to pass here.
    assert!(it.intent["hash"]["expires_at"].is_i64(), "{}", it.intent);
    it.intent["hash"]["expires_at"] = json!(1);
    assert_eq!(server.bench.undo(&it).await, Ok(Undone::NothingToDo));
    assert_eq!(server.other(&["EXISTS", "h"]).await, 0);
}

#[tokio::test]
async fn what_is_too_long_for_a_journal_is_refused() {
    let server = Server::start().await;
    server.other(&["SETRANGE", "long", "1100000", "x"]).await;
    for argv in [json!(["GET", "long"]), json!(["MGET", "long", "none"])] {
        let params = json!({ "url": server.url(), "command": argv, "reads": true });
        let error = server.bench.run("redis", params).await.expect_err("too long");
        assert_eq!(error.class, ErrorClass::Invalid);
        assert!(
            error.message.contains("the reply has 1100") && !error.message.contains("carried"),
            "{error}"
        );
    }
    let swap = server.params("command", json!(["GETSET", "long", "short"]));
    let error = server.bench.run("redis", swap).await.expect_err("too long");
    assert!(error.message.contains("`GETSET`: it was carried out, but"), "{error}");
    assert_eq!(server.other(&["GET", "long"]).await, "short");
    server.other(&["SETRANGE", "long", "60000", "x"]).await;
    let set = server.params("set", json!({ "key": "long", "value": 1 }));
    let error = server.bench.run("redis", set).await.expect_err("could not be put back");
    assert!(error.message.contains("holds 60001 bytes"), "{error}");
}

#[tokio::test]
async fn equal_entries_of_others_are_not_taken_for_ours() {
    let server = Server::start().await;
    let params = server.params("add", json!({ "key": "s", "fields": { "f": "x" } }));
    let it = server.bench.start("redis", params).await;
    server.other(&["XADD", "s", "*", "f", "x"]).await;
    assert!(matches!(server.bench.settle(&it).await, Ok(Settled::Happened(_))), "its id tells them apart");
    assert_eq!(server.bench.undo_blindly(&it).await, Ok(Undone::Removed));
    assert_eq!(server.other(&["XLEN", "s"]).await, 1);
}

#[tokio::test]
async fn a_secret_goes_to_the_server_and_nowhere_else() {
    let mut server = Server::start().await;
    let found = [("pw".to_owned(), Ok("canary-77".to_owned().into()))];
    Arc::get_mut(&mut server.bench.cx.services).expect("not shared").secrets =
        Secrets::of(found.into()).into();
    for (action, what, look) in [
        ("set", json!({ "key": "k", "value": mark("pw") }), ["STRLEN", "k"].as_slice()),
        ("hash", json!({ "key": "h", "fields": { "f": mark("pw") } }), &["HSTRLEN", "h", "f"]),
        (
            "push",
            json!({ "key": "l", "value": mark("pw") }),
            &["EVAL", "return #redis.call('LINDEX','l',0)", "0"],
        ),
    ] {
        let it = server.bench.start("redis", server.params(action, what)).await;
        assert_eq!(server.other(look).await, "canary-77".len(), "the secret itself is there");
        let told = format!("{:?} {:?} {:?}", it.intent, it.result, server.bench.presence(&it).await);
        assert!(!told.contains("canary"), "{told}");
        assert_eq!(server.bench.undo(&it).await, Ok(Undone::Removed), "{action}");
    }
    // One that was there before is only marked in the intent, and comes back as it was.
    server.other(&["SET", "k", &mark("pw")]).await;
    let it = server.bench.start("redis", server.params("set", json!({ "key": "k", "value": "ours" }))).await;
    assert!(!it.intent.to_string().contains("canary"), "{}", it.intent);
    assert_eq!(server.bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(server.other(&["STRLEN", "k"]).await, "canary-77".len());
    server.other(&["SET", "k", "63616e6172792d3737"]).await;
    let set = server.params("set", json!({ "key": "k", "value": 1 }));
    let error = server.bench.run("redis", set).await.expect_err("from hex it would not come back");
    assert!(error.message.contains("in another form"), "{error}");
    let wrong = server.params("command", json!(["SETRANGE", "k", mark("pw"), "x"]));
    let error = server.bench.run("redis", wrong).await.expect_err("no offset");
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
}

#[tokio::test]
async fn a_run_that_stops_gives_the_connection_up() {
    let bench = Bench::new();
    // Nobody accepts: the kernel does, and no greeting is answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("redis://{}", silent.local_addr().expect("bound"));
    let params = json!({ "url": url, "check": "reachable", "connect_timeout": "10m" });
    let stop = async {
        tokio::task::yield_now().await;
        bench.cancel.cancel();
    };
    let (result, ()) = tokio::join!(bench.run("redis", params), stop);
    assert_eq!(result.expect_err("stopped").class, ErrorClass::Cancelled);
}

#[test]
fn parameters_that_do_not_go_together_are_told_while_reading() {
    let url = "redis://h";
    for (params, wrong) in [
        (json!({ "url": url }), "expected exactly one of"),
        (json!({ "url": url, "check": "reachable", "set": {} }), "`check` cannot go with `set`"),
        (json!({ "url": url, "check": "reachable", "reads": true }), "`reads` goes with `command`"),
        (json!({ "url": url, "check": "reachable", "ca": "x" }), "`ca` goes with a `rediss://` address"),
        (json!({ "url": url, "command": ["MULTI"] }), "`MULTI` cannot be a step"),
        (json!({ "url": url, "push": { "key": "k" } }), "either `value` or `values`"),
    ] {
        let found = check("redis", &params).join("\n");
        assert!(found.contains(wrong), "{params}: {found}");
    }
}

#[tokio::test]
async fn another_server_under_the_address_cannot_tell_and_one_that_came_back_can() {
    for (action, what) in actions() {
        let mut server = Server::with("yes").await;
        let mut own = what.clone();
        // Of equal elements of a list only those that nobody else can have are known after that.
        if action == "push" {
            own["value"] = json!(server.bench.cx.services.run.id);
        }
        let it = server.bench.start("redis", server.params(action, own)).await;
        server.again("yes").await;
        assert_eq!(server.bench.undo(&it).await, Ok(Undone::Removed), "{action}: the data are back");
        assert_eq!(server.other(&["DBSIZE"]).await, 0);

        let mut server = Server::start().await;
        let it = server.bench.start("redis", server.params(action, what)).await;
        server.again("no").await;
        let undone = server.bench.undo(&it).await;
        let Ok(Undone::CannotTell(left)) = undone else { panic!("{action}: {undone:?}") };
        assert!(left.why.contains("another server process answers"), "{left:?}");
        let blind = server.bench.undo_blindly(&it).await;
        assert!(matches!(blind, Ok(Undone::CannotTell(_))), "{action}: {blind:?}");
    }
}

#[tokio::test]
async fn what_another_made_like_it_before_it_happened_stays() {
    let server = Server::start().await;
    let others = [
        &["SET", "k", "1"][..],
        &["HSET", "h", "f", "1"],
        &["RPUSH", "l", "a"],
        &["XADD", "s", "*", "f", "1"],
    ];
    for ((action, what), other) in actions().into_iter().zip(others) {
        let it = server.bench.intend("redis", server.params(action, what)).await;
        server.other(other).await;
        assert_eq!(server.bench.settle(&it).await, Ok(Settled::NotHappened), "{action}");
        assert_eq!(server.bench.undo_blindly(&it).await, Ok(Undone::NothingToDo), "{action}");
        assert_eq!(server.bench.presence(&it).await, Ok(Presence::Gone), "{action}");
    }
    assert_eq!(server.other(&["DBSIZE"]).await, 4, "and no mark");
}

#[tokio::test]
async fn who_may_make_no_mark_is_told_what_cannot_be_known() {
    let server = Server::start().await;
    for key in ["k", "h", "l", "s"] {
        let user = ["ACL", "SETUSER", key, "on", "nopass", &format!("~{key}"), "+@all"];
        let user = server.bench.run("redis", server.params("command", json!(user))).await;
        user.expect("made");
    }
    for (action, what) in actions() {
        let mut params = server.params(action, what.clone());
        params["user"] = what["key"].clone();
        params["password"] = json!("any");
        let it = server.bench.start("redis", params.clone()).await;
        assert!(it.result.is_ok(), "{action}: {:?}", it.result);
        assert_eq!(server.bench.undo(&it).await, Ok(Undone::Removed), "{action}");
        assert_eq!(server.bench.undo(&it).await, Ok(Undone::NothingToDo), "{action}");
        let it = server.bench.start("redis", params).await;
        if action != "add" {
            let settled = server.bench.settle(&it).await;
            assert!(matches!(settled, Ok(Settled::Unclear(_))), "{action}: {settled:?}");
            let blind = server.bench.undo_blindly(&it).await;
            assert!(matches!(blind, Ok(Undone::CannotTell(_))), "{action}: {blind:?}");
        }
        assert_eq!(server.bench.undo(&it).await, Ok(Undone::Removed), "{action}");
    }
    assert_eq!(server.other(&["DBSIZE"]).await, 0);
}

#[tokio::test]
async fn what_is_final_leaves_no_mark_and_an_entry_once() {
    let mut server = Server::start().await;
    server.bench.cx.undoing = true;
    for (action, what) in actions() {
        for _ in 0..2 {
            let it = server.bench.start("redis", server.params(action, what.clone())).await;
            assert!(it.result.is_ok(), "{action}: {:?}", it.result);
        }
    }
    server.bench.cx.undoing = false;
    assert_eq!(server.other(&["XLEN", "s"]).await, 1);
    assert_eq!(server.other(&["DBSIZE"]).await, 4);
}

#[tokio::test]
async fn entries_that_others_add_all_the_time_keep_nobody_from_adding() {
    let server = Server::start().await;
    // Its clock is ahead of everybody's.
    server.other(&["XADD", "s", "99999999999999-5", "f", "theirs"]).await;
    let params = server.params("add", json!({ "key": "s", "fields": { "f": "x" } }));
    let it = server.bench.start("redis", params).await;
    let id = it.result.as_ref().expect("added")["id"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("100000000000000-"), "{id}");
    assert_eq!(server.bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(server.other(&["XLEN", "s"]).await, 1);
}
