use crate::testing::Bench;
use engine::{
    error::ErrorClass,
    event::Phase,
    step::{Presence, Undone},
};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

/// What is in the bench's folder, apart from its own.
fn listing(bench: &Bench) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(bench.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name != "scratch")
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_file_is_made_as_wanted_and_removed_again() {
    let bench = Bench::new();
    let path = bench.at("媒体 '$(touch X)'\n.bin");
    let started = bench.start("file", json!({ "create": path, "size": "1MiB", "mode": "0640" })).await;
    let out = started.result.clone().unwrap();
    assert_eq!((out["size"].as_u64(), out["mode"].as_str()), (Some(1 << 20), Some("0640")));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(listing(&bench).len(), 1);
    assert!(matches!(bench.presence(&started).await.unwrap(), Presence::Present(_)));
    assert_eq!(bench.undo(&started).await.unwrap(), Undone::Removed);
    assert_eq!(bench.undo(&started).await.unwrap(), Undone::NothingToDo);
    assert_eq!(bench.presence(&started).await.unwrap(), Presence::Gone);
    assert_eq!(listing(&bench), Vec::<String>::new());
}

#[tokio::test]
async fn undo_leaves_a_file_that_changed_since_and_one_that_took_its_place() {
    let bench = Bench::new();
    for replace in [false, true] {
        let path = bench.at(if replace { "b" } else { "a" });
        let started = bench.start("file", json!({ "create": path, "text": "ours" })).await;
        if replace {
            std::fs::write(bench.path("other"), "ours").unwrap();
            std::fs::rename(bench.path("other"), &path).unwrap();
        } else {
            std::fs::write(&path, "theirs").unwrap();
        }
        let Undone::Left(left) = bench.undo(&started).await.unwrap() else { panic!("it was removed") };
        assert!(left.what.contains(&path) && left.remove_with.starts_with("rm -- "), "{left:?}");
    }
    assert_eq!(listing(&bench), ["a", "b"]);
}

#[tokio::test]
async fn nothing_is_ever_overwritten() {
    let bench = Bench::new();
    std::fs::write(bench.path("a"), "theirs").unwrap();
    std::os::unix::fs::symlink("nowhere", bench.path("link")).unwrap();
    for path in [bench.at("a"), bench.at("link")] {
        let error = bench.run("file", json!({ "create": path, "text": "ours" })).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Exists);
    }
    assert_eq!(std::fs::read_to_string(bench.path("a")).unwrap(), "theirs");
    assert_eq!(listing(&bench), ["a", "link"]);
}

#[tokio::test]
async fn after_a_crash_only_what_the_seed_makes_is_taken_for_ours() {
    let bench = Bench::new();
    let started = bench.start("file", json!({ "create": bench.at("a"), "size": 100_000 })).await;
    assert_eq!(bench.undo_blindly(&started).await.unwrap(), Undone::Removed);
    std::fs::write(bench.path("a"), "theirs").unwrap();
    assert_eq!(bench.undo_blindly(&started).await.unwrap(), Undone::NothingToDo);
    assert_eq!(listing(&bench), ["a"]);
}

#[tokio::test]
async fn a_removed_file_comes_back_except_in_cleanup() {
    let mut bench = Bench::new();
    std::fs::write(bench.path("a"), "theirs").unwrap();
    let started = bench.start("file", json!({ "remove": bench.at("a") })).await;
    assert!(!bench.path("a").exists());
    assert_eq!(bench.undo(&started).await.unwrap(), Undone::Removed);
    assert_eq!(std::fs::read_to_string(bench.path("a")).unwrap(), "theirs");
    bench.cx.phase = Phase::Cleanup;
    let out = bench.run("file", json!({ "remove": bench.at("a") })).await.unwrap();
    assert_eq!(out["exists"], false);
    assert_eq!(listing(&bench), Vec::<String>::new());
    bench.run("file", json!({ "remove": bench.at("a") })).await.unwrap();
}

#[tokio::test]
async fn an_owned_folder_goes_with_all_in_it_and_another_only_when_empty() {
    let bench = Bench::new();
    for (name, owned) in [("owned", true), ("plain", false)] {
        let started = bench.start("file", json!({ "directory": bench.at(name), "owned": owned })).await;
        std::fs::write(bench.path(name).join("theirs"), "x").unwrap();
        let undone = bench.undo(&started).await.unwrap();
        assert_eq!(matches!(undone, Undone::Removed), owned, "{undone:?}");
    }
    assert_eq!(listing(&bench), ["plain"]);
}

#[tokio::test]
async fn a_copy_is_whole_and_a_missing_folder_is_explained() {
    let bench = Bench::new();
    std::fs::write(bench.path("from"), "content").unwrap();
    let started = bench.start("file", json!({ "copy": bench.at("from"), "to": bench.at("to") })).await;
    assert_eq!(std::fs::read_to_string(bench.path("to")).unwrap(), "content");
    assert_eq!(bench.undo(&started).await.unwrap(), Undone::Removed);
    let error = bench.run("file", json!({ "create": bench.at("no/file"), "text": "" })).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::NotFound);
    assert!(error.hint.unwrap().starts_with("its folder does not exist: mkdir -p"));
    assert_eq!(listing(&bench), ["from"]);
}

#[tokio::test]
async fn a_cancelled_write_leaves_nothing() {
    let bench = Bench::new();
    bench.cancel.cancel();
    let error = bench.run("file", json!({ "create": bench.at("a"), "size": "1MiB" })).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Cancelled);
    assert_eq!(listing(&bench), Vec::<String>::new());
}
