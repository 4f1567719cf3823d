//! The document is another now, or cannot be looked at: what is ours is left and named, what is not stays as it is.

use super::*;
use engine::step::{Leftover, Presence};

fn job() -> Value {
    json!({ "name": "同", "state": "queued" })
}

async fn appended(bench: &Bench) -> Started {
    started(bench, on(bench, "append", json!({ "to": "/jobs", "value": job() }))).await
}

fn unclear(undone: Undone) -> Leftover {
    match undone {
        Undone::CannotTell(left) => left,
        other => panic!("expected what cannot be told, found {other:?}"),
    }
}

/// Another's document with an element like ours.
fn theirs() -> String {
    json!({ "jobs": [job()] }).to_string()
}

/// As a writer does that replaces the document.
fn replace(bench: &Bench, text: &str) {
    fs::write(bench.path("next"), text).expect("writes");
    fs::rename(bench.path("next"), bench.path("it.json")).expect("renames");
}

#[tokio::test]
async fn a_document_that_was_rotated_away_is_named_and_its_successor_is_not_touched() {
    for (to, rewritten) in [("it.json.1", false), ("it.json.1", true), ("old/it.json", false)] {
        let bench = bench();
        fs::create_dir(bench.path("old")).expect("made");
        let it = appended(&bench).await;
        if rewritten {
            let now = text(&bench);
            replace(&bench, &now.replace("1e400", "2e400"));
        }
        fs::rename(bench.path("it.json"), bench.path(to)).expect("rotated");
        if !rewritten {
            let told = left(bench.undo(&it).await.expect("looks"));
            assert!(told.why.contains("renamed to"), "no successor yet: {told:?}");
        }
        write(&bench, &theirs());
        let told = left(bench.undo(&it).await.expect("looks"));
        assert!(told.what.contains(to) && told.why.contains("renamed to"), "{told:?}");
        assert_eq!(bench.undo_blindly(&it).await, Ok(Undone::Left(told.clone())), "twice is once");
        assert_eq!(text(&bench), theirs());
        sh(&told.remove_with);
        let old = fs::read_to_string(bench.path(to)).expect("there");
        assert!(old.contains("2e400") == rewritten && old.contains("e400") && !old.contains('同'), "{old}");
        assert_eq!(text(&bench), theirs());
        assert!(!names(&bench).iter().any(|name| name.starts_with('.')), "{:?}", names(&bench));
    }
}

#[tokio::test]
async fn a_folder_that_is_another_now_is_not_taken_for_the_one_that_was() {
    let make = || {
        let bench = Bench::new();
        fs::create_dir(bench.path("d")).expect("made");
        fs::write(bench.path("d/it.json"), DOCUMENT).expect("writes");
        bench
    };
    let append =
        |bench: &Bench| json!({ "path": bench.at("d/it.json"), "append": { "to": "/jobs", "value": job() } });
    let bench = make();
    let it = started(&bench, append(&bench)).await;
    fs::rename(bench.path("d"), bench.path("e")).expect("renamed");
    fs::create_dir(bench.path("d")).expect("made");
    fs::write(bench.path("d/it.json"), theirs()).expect("writes");
    assert!(matches!(bench.settle(&it).await, Ok(Settled::Unclear(_))));
    assert!(matches!(bench.presence(&it).await, Ok(Presence::Present(_))));
    let told = left(bench.undo(&it).await.expect("looks"));
    assert!(told.what.contains("/e/it.json") && told.why.contains("renamed"), "{told:?}");
    sh(&told.remove_with);
    assert!(!fs::read_to_string(bench.path("e/it.json")).expect("there").contains('同'));
    assert_eq!(fs::read_to_string(bench.path("d/it.json")).expect("there"), theirs());
    assert_eq!(fs::read_dir(bench.path("e")).expect("lists").count(), 1, "nothing beside it");
    assert_eq!(bench.undo(&it).await, Ok(Undone::NothingToDo));

    for gone in [true, false] {
        let bench = make();
        let it = started(&bench, append(&bench)).await;
        fs::create_dir_all(bench.path("deep/er")).expect("made");
        fs::rename(bench.path("d"), bench.path("deep/er/d")).expect("moved");
        if !gone {
            fs::write(bench.path("d"), "a file").expect("writes");
        }
        let told = unclear(bench.undo(&it).await.expect("looks"));
        assert!(told.why.contains("is another now or gone"), "{told:?}");
        sh(&told.remove_with);
        assert!(matches!(bench.presence(&it).await, Ok(Presence::Unknown(_))));
    }
}

#[tokio::test]
async fn what_cannot_be_read_as_a_document_is_not_gone() {
    let bench = bench();
    let it = appended(&bench).await;
    let ours = text(&bench);
    fs::remove_file(bench.path("it.json")).expect("removes");
    fs::create_dir(bench.path("it.json")).expect("made");
    let told = unclear(bench.undo(&it).await.expect("looks"));
    assert!(told.why.contains("is a folder"), "{told:?}");
    sh(&told.remove_with);
    fs::remove_dir(bench.path("it.json")).expect("removes");
    std::os::unix::fs::symlink("it.json", bench.path("it.json")).expect("links");
    unclear(bench.undo(&it).await.expect("looks"));
    fs::remove_file(bench.path("it.json")).expect("removes");
    // Half written by a program that is not done yet.
    write(&bench, &ours[..ours.len() / 2]);
    assert!(bench.undo(&it).await.is_err());
    write(&bench, &ours);
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!((names(&bench), text(&bench).as_str()), (vec!["it.json".to_owned()], DOCUMENT));
}

#[tokio::test]
async fn an_element_that_was_changed_or_moved_is_not_gone() {
    let bench = Bench::new();
    let now = |jobs: Value| json!({ "jobs": jobs, "done": [] }).to_string();
    for (ours, after, place) in [
        (json!(1), now(json!([7, 1.0])), "/jobs/1"),
        (job(), now(json!([{ "name": "同", "state": "done" }])), "/jobs/0"),
        (json!({ "n": 1, "名": "é" }), now(json!([{ "n": 1.0, "名": "é" }])), "/jobs/0"),
        (json!({ "n": 1, "名": "é" }), now(json!([{ "n": 1, "名": "e\u{301}" }])), "/jobs/0"),
        (job(), json!({ "jobs": [], "done": [job()] }).to_string(), "/done/0"),
        (job(), json!({ "queue": [job()] }).to_string(), "/queue/0"),
    ] {
        write(&bench, &now(json!([])));
        let it = started(&bench, on(&bench, "append", json!({ "to": "/jobs", "value": ours }))).await;
        replace(&bench, &after);
        let told = left(bench.undo(&it).await.expect("looks"));
        assert!(told.what.contains(place), "{after}: {told:?}");
        assert_eq!(text(&bench), after);
        assert_eq!(bench.undo(&it).await, Ok(Undone::Left(told.clone())), "twice is once");
        if place.starts_with("/jobs") {
            // What another made of it is shown.
            sh(&told.remove_with);
            assert_eq!(text(&bench), after, "{told:?}");
            continue;
        }
        // What changes once more before somebody types it is not touched.
        write(&bench, &after.replace(['1', '同'], "9"));
        let refused = Command::new("sh").args(["-c", &told.remove_with]).output().expect("sh");
        assert!(!refused.status.success() && text(&bench).contains('9'), "{told:?}");
        write(&bench, &after);
        sh(&told.remove_with);
        assert_eq!(bench.undo(&it).await, Ok(Undone::NothingToDo), "{after}: {}", text(&bench));
        assert_eq!(names(&bench), ["it.json"]);
    }
    // A consumer took it, and the others are as they were.
    write(&bench, &now(json!([{ "name": "a", "state": "queued" }])));
    let it = appended(&bench).await;
    replace(&bench, &now(json!([{ "state": "queued", "name": "a" }])));
    assert_eq!(bench.undo(&it).await, Ok(Undone::NothingToDo));
    // The order of members is no change, and what another set in the meantime is.
    let it = started(&bench, on(&bench, "set", json!({ "at": "/n", "value": { "a": 1, "b": 2 } }))).await;
    replace(&bench, "{\"n\": {\"b\": 2, \"a\": 1}}");
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    write(&bench, "{\"n\": 5}");
    let it = started(&bench, on(&bench, "set", json!({ "at": "/n", "value": 1 }))).await;
    replace(&bench, "{\"n\": 1.0}");
    assert!(matches!(bench.undo(&it).await, Ok(Undone::Left(_))));
    replace(&bench, "{}");
    let told = left(bench.undo(&it).await.expect("looks"));
    assert!(told.why.contains("the value from before is not back"), "{told:?}");
    sh(&told.remove_with);
    assert_eq!(value(&bench), json!({ "n": 5 }));
}

#[tokio::test]
async fn what_never_happened_takes_nothing_of_another_with_it() {
    let bench = bench();
    let params = on(&bench, "append", json!({ "to": "/jobs", "value": job() }));
    let it = bench.intend("json", params.clone()).await;
    write(&bench, &theirs());
    assert_eq!(bench.settle(&it).await, Ok(Settled::NotHappened));
    assert_eq!(bench.undo_blindly(&it).await, Ok(Undone::NothingToDo));
    assert_eq!(text(&bench), theirs());
    // It failed, and another was faster.
    let mut known = params;
    known["id"] = json!("/name");
    let it = bench.start("json", known).await;
    let error = it.result.as_ref().expect_err("its id is there");
    assert!(error.no_effect, "{error:?}");
    assert_eq!(bench.undo_blindly(&it).await, Ok(Undone::NothingToDo));
    assert_eq!((names(&bench), text(&bench)), (vec!["it.json".to_owned()], theirs()));
}

#[tokio::test]
async fn a_written_undo_leaves_nothing_beside_the_document_and_may_run_again() {
    let mut bench = bench();
    bench.cx.undoing = true;
    let append = || on(&bench, "append", json!({ "to": "/jobs", "value": job() }));
    let it = started(&bench, append()).await;
    let (once, mark) = (text(&bench), it.intent["mark"].as_str().expect("a mark").to_owned());
    assert_eq!(names(&bench), ["it.json"]);
    // Killed on the way, and carried out again.
    fs::write(bench.path(&format!(".shakedown-{mark}.new")), "{").expect("writes");
    let again = started(&bench, append()).await;
    assert_eq!(again.result.as_ref().expect("ran")["changed"], false);
    assert_eq!((names(&bench), text(&bench)), (vec!["it.json".to_owned()], once));
    started(&bench, on(&bench, "remove", json!("/名字"))).await;
    let again = started(&bench, on(&bench, "remove", json!("/名字"))).await;
    assert_eq!(again.result.as_ref().expect("ran")["changed"], false);
    bench.cx.undoing = false;
    bench.cx.phase = Phase::Cleanup;
    let it = started(&bench, on(&bench, "set", json!({ "at": "/a~1b", "value": 1 }))).await;
    let Ok(Settled::Happened(out)) = bench.settle(&it).await else { panic!("it happened") };
    assert_eq!((&out["changed"], names(&bench)), (&json!(true), vec!["it.json".to_owned()]));
}

#[tokio::test]
async fn a_long_value_that_cannot_go_back_by_itself_stays_and_is_shown() {
    let bench = Bench::new();
    let long = json!({ "字": "长".repeat(5_000), "n": 1.50 });
    write(&bench, &json!({ "long": long, "x": 1 }).to_string());
    let it = started(&bench, on(&bench, "remove", json!("/long"))).await;
    write(&bench, "{\"long\": 7, \"x\": 1e400}");
    let told = left(bench.undo(&it).await.expect("looks"));
    assert_eq!(names(&bench).len(), 2, "the only copy: {:?}", names(&bench));
    assert_eq!(bench.undo(&it).await, Ok(Undone::Left(told.clone())), "twice is once");
    let shown = Command::new("sh").args(["-c", &told.remove_with]).output().expect("sh");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("长长长") && shown.contains("\"long\": 7"), "both are shown: {shown}");
    assert_eq!(names(&bench).len(), 2, "the only copy stays: {:?}", names(&bench));
    assert_eq!(text(&bench), "{\"long\": 7, \"x\": 1e400}");
}

#[tokio::test]
async fn a_mark_at_the_start_of_the_file_stays() {
    let bench = bench();
    let marked = format!("\u{feff}{}", DOCUMENT.replace('\n', "\r\n"));
    write(&bench, &marked);
    let it = appended(&bench).await;
    assert!(text(&bench).starts_with("\u{feff}{\r\n"), "{}", text(&bench));
    let now = text(&bench);
    write(&bench, &now.replace("\"float\"", "\"f\""));
    let twice = started(&bench, on(&bench, "set", json!({ "at": "/jobs", "value": "ours" }))).await;
    write(&bench, &text(&bench).replace("\"jobs\": \"ours\"", "\"other\": 1"));
    sh(&left(bench.undo(&twice).await.expect("looks")).remove_with);
    assert!(text(&bench).starts_with('\u{feff}') && text(&bench).contains('同'), "{}", text(&bench));
    write(&bench, &now);
    assert_eq!(bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(text(&bench), marked);
}
