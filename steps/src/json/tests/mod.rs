//! What is read, changed and refused.

mod lineage;
mod locks;
mod undo;

use crate::{
    json::lock::{Lock, Turn},
    testing::{Bench, Started, check, describe, until},
};
use engine::{
    ErrorClass,
    event::Phase,
    secret::Secrets,
    step::{Effect, Prospect, Settled, Undone},
};
use inotify::{Inotify, WatchMask};
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};
use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

const DOCUMENT: &str = "{\n    \"名字\": \"无人机\",\n    \"big\": 123456789012345678901234567890,\n    \"float\": 1.0,\n    \
                        \"far\": 1e400,\n    \"jobs\": [\n        {\n            \"name\": \"a\"\n        }\n    ],\n    \
                        \"a/b\": {\"m~n\": [1, 2]}\n}\n";

fn bench() -> Bench {
    let bench = Bench::new();
    fs::write(bench.path("it.json"), DOCUMENT).expect("writes");
    bench
}

fn text(bench: &Bench) -> String {
    fs::read_to_string(bench.path("it.json")).expect("there")
}

fn write(bench: &Bench, text: &str) {
    fs::write(bench.path("it.json"), text).expect("writes");
}

fn value(bench: &Bench) -> Value {
    serde_json::from_str(&text(bench).replace("1e400", "1")).expect("JSON")
}

/// Parameters for the document with one action more.
fn on(bench: &Bench, action: &str, what: Value) -> Value {
    json!({ "path": bench.at("it.json"), action: what })
}

fn names(bench: &Bench) -> Vec<String> {
    let entries = fs::read_dir(bench.dir.path()).expect("lists").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "scratch");
    names.sort();
    names
}

async fn started(bench: &Bench, params: Value) -> Started {
    let it = bench.start("json", params.clone()).await;
    assert!(it.result.is_ok(), "{params}: {:?}", it.result);
    it
}

fn left(undone: Undone) -> engine::step::Leftover {
    match undone {
        Undone::Left(left) => left,
        other => panic!("expected something left, found {other:?}"),
    }
}

/// Ends once somebody has opened the file twice: who asks for its lock again has found it held.
async fn asked_twice(path: &Path) {
    let mut watch = Inotify::init().expect("inotify");
    watch.watches().add(path, WatchMask::OPEN).expect("watches");
    let mut opened = 0;
    until("it is opened twice", async || {
        let mut buffer = [0; 4096];
        opened += watch.read_events(&mut buffer).map(Iterator::count).unwrap_or(0);
        opened >= 2
    })
    .await;
}

fn sh(command: &str) {
    let output = Command::new("sh").args(["-c", command]).output().expect("sh");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn values_are_read_as_they_stand() {
    let bench = bench();
    for (pointer, wanted, kind, count) in [
        ("/名字", json!("无人机"), "string", Value::Null),
        ("/a~1b/m~0n/1", json!(2), "number", Value::Null),
        ("/big", json!("123456789012345678901234567890"), "number", Value::Null),
        ("/far", json!("1e400"), "number", Value::Null),
        ("/float", json!(1.0), "number", Value::Null),
        ("/jobs", json!([{ "name": "a" }]), "array", json!(1)),
    ] {
        let out = bench.run("json", on(&bench, "get", json!(pointer))).await.expect("reads");
        assert_eq!(
            (&out["value"], &out["kind"], &out["count"]),
            (&wanted, &json!(kind), &count),
            "{pointer}"
        );
        assert_eq!(out["lock"]["locks"], 1);
    }
    let out = bench.run("json", on(&bench, "get", json!(""))).await.expect("reads");
    assert_eq!((&out["count"], &out["value"]["名字"]), (&json!(6), &json!("无人机")));
    assert_eq!((text(&bench).as_str(), names(&bench)), (DOCUMENT, vec!["it.json".to_owned()]));
}

#[tokio::test]
async fn the_element_that_has_these_values_is_read() {
    let bench = bench();
    write(&bench, r#"{"jobs": ["x", {"n": 1, "名": {"a/b": 1.0}}, {"n": 2, "名": {"a/b": 1}}, {"n": 3}]}"#);
    let of = |wanted: Value| json!({ "path": bench.at("it.json"), "get": "/jobs", "where": wanted });
    for (wanted, n, index, others) in [
        (json!({ "/n": 3 }), json!(3), json!(3), 0),
        (json!({ "/名/a~1b": 1 }), json!(1), json!(1), 1),
        (json!({ "/名/a~1b": 1, "/n": 2 }), json!(2), json!(2), 0),
        (json!({ "/n": "3" }), Value::Null, Value::Null, 0),
    ] {
        let out = bench.run("json", of(wanted.clone())).await.expect("reads");
        assert_eq!((&out["value"]["n"], &out["index"]), (&n, &index), "{wanted}");
        assert_eq!(out["same"], others, "{wanted}");
    }
    let whole = json!({ "path": bench.at("it.json"), "get": "", "where": { "/n": 1 } });
    let error = bench.run("json", whole).await.expect_err("no array");
    assert!(error.class == ErrorClass::Invalid && error.message.contains("expected an array"), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_told_with_what_is() {
    let bench = bench();
    for (pointer, class, words, hint) in [
        ("/jbos", ErrorClass::NotFound, "the keys `名字`, `big`", "did you mean `jobs`?"),
        ("/jobs/0/nmae", ErrorClass::NotFound, "`/jobs/0` is an object with the keys `name`", "`name`"),
        ("/jobs/7/name", ErrorClass::NotFound, "`/jobs` is an array with the elements 0 to 0", "json.tool"),
        ("/jobs/00", ErrorClass::NotFound, "the elements 0 to 0", "expected a number"),
        ("/float/x", ErrorClass::NotFound, "the type number", "json.tool"),
        ("jobs.name", ErrorClass::Invalid, "no JSON Pointer", "`/jobs/name`"),
        ("/a~2b", ErrorClass::Invalid, "expected `0` or `1` after `~`", "`~1`"),
    ] {
        let error = bench.run("json", on(&bench, "get", json!(pointer))).await.expect_err(pointer);
        assert_eq!(error.class, class, "{error}");
        assert!(error.message.contains(words), "{pointer}: {error}");
        assert!(error.hint.as_deref().is_some_and(|it| it.contains(hint)), "{pointer}: {:?}", error.hint);
    }
    let params = json!({ "path": bench.at("其他.json"), "get": "" });
    let error = bench.run("json", params).await.expect_err("absent");
    assert!(error.class == ErrorClass::NotFound && error.message.contains("其他.json"), "{error}");
}

#[tokio::test]
async fn what_is_added_has_the_indentation_of_its_neighbours() {
    let bench = bench();
    let value = json!({ "name": "b", "tags": ["x"] });
    started(&bench, on(&bench, "append", json!({ "to": "/jobs", "value": value }))).await;
    let wanted = "            \"name\": \"a\"\n        },\n        {\n            \"name\": \"b\",\n            \"tags\": \
                  [\n                \"x\"\n            ]\n        }\n    ],";
    assert!(text(&bench).contains(wanted), "{}", text(&bench));
    started(&bench, on(&bench, "append", json!({ "to": "/a~1b/m~0n", "value": 3 }))).await;
    assert!(text(&bench).contains("{\"m~n\": [1, 2, 3]}"), "{}", text(&bench));
    for kept in ["123456789012345678901234567890", "1.0,", "1e400", "无人机"] {
        assert!(text(&bench).contains(kept), "{kept}");
    }
    write(&bench, "{\"escaped\":\"\\u65e0\"}\n");
    started(&bench, on(&bench, "set", json!({ "at": "/新", "value": "🛸" }))).await;
    assert_eq!(text(&bench), "{\"escaped\":\"\\u65e0\",\"\\u65b0\":\"\\ud83d\\udef8\"}\n");
}

#[tokio::test]
async fn what_is_so_already_is_not_written() {
    let bench = bench();
    let inode = fs::metadata(bench.path("it.json")).expect("there").ino();
    let it = started(&bench, on(&bench, "set", json!({ "at": "/float", "value": 1.0 }))).await;
    assert_eq!(it.result.as_ref().expect("ran")["changed"], false);
    assert_eq!(fs::metadata(bench.path("it.json")).expect("there").ino(), inode);
    assert_eq!(bench.undo(&it).await, Ok(Undone::NothingToDo));
    let it = started(&bench, on(&bench, "set", json!({ "at": "/float", "value": 1 }))).await;
    assert!(text(&bench).contains("\"float\": 1,"), "1 and 1.0 are not written the same");
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(text(&bench), DOCUMENT);
}

#[tokio::test]
async fn what_cannot_be_changed_is_refused_and_stays_as_it_is() {
    let bench = Bench::new();
    let set = json!({ "at": "/a/0", "value": 1 });
    for (before, action, what, class, words) in [
        ("{\"a\":[1],\"b\":{\"键\":1,\"键\":2}}", "set", set.clone(), ErrorClass::Corrupt, "`/b/键` twice"),
        ("{\"a\": [1,]}", "set", set.clone(), ErrorClass::Corrupt, "line 1, column 10"),
        ("{\n  \"a\": tru\n}", "set", set.clone(), ErrorClass::Corrupt, "line 2, column 8"),
        ("", "set", set.clone(), ErrorClass::Corrupt, "it is empty"),
        ("{\"a\":[]}", "set", set.clone(), ErrorClass::Invalid, "expected the place of one that is there"),
        (
            "{\"a\":[]}",
            "set",
            json!({ "at": "/a/-", "value": 1 }),
            ErrorClass::Invalid,
            "would add an element",
        ),
        ("{\"a\":[]}", "set", json!({ "at": "/a/5", "value": 1 }), ErrorClass::NotFound, "without elements"),
        ("{\"a\":[]}", "set", json!({ "at": "/x/y", "value": 1 }), ErrorClass::NotFound, "the keys `a`"),
        ("{\"a\":{}}", "append", json!({ "to": "/a", "value": 1 }), ErrorClass::Invalid, "expected an array"),
        ("{\"a\":1}", "remove", json!("/b"), ErrorClass::NotFound, "nothing at `/b`"),
        ("{\"a\":1}", "remove", json!(""), ErrorClass::Invalid, "the whole document"),
    ] {
        write(&bench, before);
        let error = bench.run("json", on(&bench, action, what)).await.expect_err(before);
        assert_eq!(error.class, class, "{before}: {error}");
        assert!(error.message.contains(words), "{before}: {error}");
        assert_eq!((text(&bench).as_str(), names(&bench)), (before, vec!["it.json".to_owned()]));
    }
    write(&bench, "{}");
    fs::hard_link(bench.path("it.json"), bench.path("other.json")).expect("links");
    let params = on(&bench, "set", json!({ "at": "/a", "value": 1 }));
    let error = bench.run("json", params.clone()).await.expect_err("two names");
    assert!(error.class == ErrorClass::Unsupported && error.message.contains("2 names"), "{error}");
    fs::remove_file(bench.path("other.json")).expect("removes");
    fs::write(bench.path("it.json"), [b'"', 0xff, b'"']).expect("writes");
    let error = bench.run("json", params).await.expect_err("no UTF-8");
    assert_eq!(error.class, ErrorClass::Corrupt);
}

#[tokio::test]
async fn deep_nesting_is_refused_cleanly() {
    let bench = Bench::new();
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (levels, fits) in [(96, true), (97, false), (128, false), (129, false), (1_000_000, false)] {
        write(&bench, &deep(levels));
        let read = bench.run("json", on(&bench, "get", json!(""))).await;
        assert_eq!(read.is_ok(), fits, "{levels}");
        assert!(read.err().is_none_or(|error| error.class == ErrorClass::Unsupported));
        let checked = bench.run("json", on(&bench, "check", json!("valid"))).await;
        assert_eq!(checked.is_ok(), levels <= 128, "{levels}");
    }
    write(&bench, &deep(128));
    let to = "/0".repeat(127);
    let error = bench.run("json", on(&bench, "append", json!({ "to": to, "value": [] }))).await;
    let error = error.expect_err("129 levels");
    assert!(error.class == ErrorClass::Invalid && text(&bench) == deep(128), "{error}");
    let it = started(&bench, on(&bench, "append", json!({ "to": to, "value": 1 }))).await;
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(text(&bench), deep(128));
}

#[tokio::test]
async fn owner_and_mode_are_kept_and_a_link_still_leads_to_it() {
    let bench = bench();
    fs::set_permissions(bench.path("it.json"), Permissions::from_mode(0o640)).expect("changes");
    std::os::unix::fs::symlink(bench.path("it.json"), bench.path("link.json")).expect("links");
    let it = started(&bench, json!({ "path": bench.at("link.json"), "remove": "/jobs" })).await;
    assert!(fs::symlink_metadata(bench.path("link.json")).expect("there").is_symlink());
    let now = fs::metadata(bench.path("it.json")).expect("there");
    assert_eq!(now.mode() & 0o7777, 0o640);
    for name in names(&bench).iter().filter(|name| name.starts_with('.')) {
        // The document from before is as it was; all else is nobody's business.
        let open = if name.ends_with(".new") { 0o040 } else { 0 };
        assert_eq!(fs::metadata(bench.path(name)).expect("there").mode() & 0o077, open, "{name}");
    }
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    let now = fs::metadata(bench.path("it.json")).expect("there");
    assert_eq!((now.mode() & 0o7777, text(&bench).as_str()), (0o640, DOCUMENT));
}

#[tokio::test]
async fn checks_tell_what_does_not_hold() {
    let bench = bench();
    let all = on(&bench, "check", json!(["exists", "valid", "writable"]));
    let out = bench.run("json", all.clone()).await.expect("holds");
    assert_eq!(out["health"], json!({ "size": DOCUMENT.len(), "kind": "object", "writable": true }));
    write(&bench, "{\"a\":1,\"a\":2}");
    let out = bench.run("json", on(&bench, "check", json!("valid"))).await.expect("it can be read");
    assert_eq!(out["health"]["duplicate_key"], "/a");
    assert_eq!(bench.run("json", all).await.expect_err("written by nobody").class, ErrorClass::Corrupt);
    write(&bench, "{\"a\":");
    bench.run("json", on(&bench, "check", json!("exists"))).await.expect("it is there");
    assert!(bench.run("json", on(&bench, "check", json!("valid"))).await.is_err());
}

#[tokio::test]
async fn a_plan_foresees_what_would_fail_and_writes_nothing() {
    let bench = bench();
    let probe = async |params: Value| bench.probe("json", &params).await;
    let good = probe(on(&bench, "append", json!({ "to": "/jobs", "value": 1 }))).await.expect("looks");
    assert_eq!((good.now.as_str(), good.prospect), ("writable, object", Prospect::WouldPass));
    let error =
        probe(on(&bench, "append", json!({ "to": "/jbos", "value": 1 }))).await.expect_err("foreseen");
    assert_eq!(error.class, ErrorClass::NotFound);
    probe(on(&bench, "append", json!({ "to": "/${x}", "value": 1 }))).await.expect("not known yet");
    assert_eq!((names(&bench), text(&bench).as_str()), (vec!["it.json".to_owned()], DOCUMENT));
}

#[test]
fn parameters_are_checked_and_described_before_anything_runs() {
    let params = json!({ "path": "/d/作业.json", "append": { "to": "/jobs", "value": 1 } });
    let described = describe("json", &params);
    assert_eq!(described.title, "append to /jobs of 作业.json");
    assert!(matches!(described.effect, Effect::Undoable(_)));
    assert_eq!(describe("json", &json!({ "path": "a", "get": "" })).title, "get all of a");
    assert!(check("json", &params).is_empty());
    for (wrong, words) in [
        (json!({ "path": "a" }), "exactly one"),
        (json!({ "path": "a", "get": "", "remove": "/a" }), "cannot go with"),
        (json!({ "path": "a", "get": "", "create": true }), "`create` goes with"),
        (json!({ "path": "a", "get": "", "id": "/a" }), "`id` goes with"),
        (json!({ "path": "a", "get": "a" }), "did you mean `/a`?"),
        (json!({ "path": "a", "remove": "/a", "where": { "/b": 1 } }), "`where` goes with"),
        (json!({ "path": "a", "get": "/a", "where": { "b": 1 } }), "no JSON Pointer"),
        (json!({ "path": "a", "set": { "at": "/l/-", "value": 1 } }), "use `append`"),
        (json!({ "path": "a", "remove": "" }), "the whole document"),
    ] {
        let told = check("json", &wrong);
        assert!(told.iter().any(|line| line.contains(words)), "{wrong}: {told:?}");
    }
}
