use crate::{
    ssh_host::{SshConnector, sshd::Sshd},
    testing::{Bench, check},
};
use engine::{
    error::ErrorClass,
    event::Phase,
    step::{Presence, Undone},
};
use serde_json::json;
use std::{
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    process::Command,
    sync::Arc,
};

/// What is in the bench's folder, apart from its own.
pub(super) fn listing(bench: &Bench) -> Vec<String> {
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
    assert_eq!(bench.undo(&started).await.unwrap(), Undone::Removed);
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
        assert!(left.what.contains(&path), "{left:?}");
        // What took its place is another's, and so is what was written into it: the command only looks.
        assert!(left.remove_with.starts_with("ls -ld -- "), "{left:?}");
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

/// A bench on this machine, and one whose steps act on it through sshd.
pub(super) async fn here_and_there() -> [(Bench, Option<Sshd>); 2] {
    let sshd = Sshd::start();
    let mut there = Bench::with_hosts(|dir| Arc::new(SshConnector::new(dir.join("ssh"))), [sshd.spec("nas")]);
    there.cx.host = there.cx.services.host(Some("nas")).await.expect("connected");
    [(Bench::new(), None), (there, Some(sshd))]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_file_takes_no_space_and_is_known_by_its_holes() {
    for (bench, sshd) in here_and_there().await {
        let path = bench.at("大 sparse");
        let params = json!({ "create": path, "size": "4TiB", "sparse": true, "mode": "0600" });
        let started = bench.start("file", params.clone()).await;
        let out = started.result.clone().unwrap();
        assert_eq!(
            (&out["size"], &out["mode"], &out["sha256"]),
            (&json!(4u64 << 40), &json!("0600"), &json!(null))
        );
        assert_eq!(std::fs::metadata(&path).unwrap().blocks(), 0);
        assert!(matches!(bench.presence(&started).await.unwrap(), Presence::Present(_)));
        assert!(matches!(bench.settle(&started).await.unwrap(), engine::step::Settled::Happened(_)));
        assert_eq!(bench.undo(&started).await.unwrap(), Undone::Removed);
        assert_eq!(bench.undo(&started).await.unwrap(), Undone::Removed);

        // Data that are zero change nothing; another byte does.
        let small = bench.at("small");
        let params = json!({ "create": small, "size": "3MiB", "sparse": true });
        let started = bench.start("file", params).await;
        let file = std::fs::OpenOptions::new().write(true).open(&small).unwrap();
        file.write_all_at(&[0; 4096], 1 << 20).unwrap();
        assert!(matches!(bench.settle(&started).await.unwrap(), engine::step::Settled::Happened(_)));
        file.write_all_at(b"x", 2 << 20).unwrap();
        assert!(matches!(bench.undo(&started).await.unwrap(), Undone::Left(_)));
        // After a crash it is known by what it is, too.
        assert!(matches!(bench.undo_blindly(&started).await.unwrap(), Undone::Left(_)));
        assert_eq!(listing(&bench), ["small"]);
        bench.cx.services.close().await;
        drop(sshd);
    }
    let wrong = json!({ "create": "a", "sparse": true, "content": "random" });
    assert_eq!(check("file", &wrong).len(), 2, "{:?}", check("file", &wrong));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_belongs_to_whom_it_should() {
    if !nix::unistd::Uid::effective().is_root() {
        let bench = Bench::new();
        let given = json!({ "create": bench.at("a"), "text": "x", "owner": "root" });
        assert_eq!(bench.run("file", given).await.unwrap_err().class, ErrorClass::Denied);
        assert_eq!(listing(&bench), Vec::<String>::new());
        return;
    }
    for (bench, sshd) in here_and_there().await {
        std::fs::write(bench.path("from"), "content").unwrap();
        let (a, b, c) = (bench.at("a"), bench.at("b 副本"), bench.at("c"));
        for (params, wanted) in [
            (
                json!({ "create": a, "text": "x", "owner": "daemon", "group": 12345, "mode": "4750" }),
                ("daemon", "12345", "4750"),
            ),
            (
                json!({ "copy": bench.at("from"), "to": b, "owner": 54321, "group": "daemon" }),
                ("54321", "daemon", "0644"),
            ),
            (json!({ "directory": c, "owner": "daemon", "mode": "2770" }), ("daemon", "root", "2770")),
        ] {
            let started = bench.start("file", params).await;
            let out = started.result.clone().unwrap();
            let found = (&out["owner"], &out["group"], &out["mode"]);
            assert_eq!(found, (&json!(wanted.0), &json!(wanted.1), &json!(wanted.2)), "{out}");
            let metadata = std::fs::metadata(out["path"].as_str().unwrap()).unwrap();
            assert_eq!(
                (json!(metadata.uid()), json!(metadata.gid())),
                (out["uid"].clone(), out["gid"].clone())
            );
            assert_eq!(bench.undo(&started).await.unwrap(), Undone::Removed);
        }
        let unknown = json!({ "create": a, "text": "x", "owner": "no-such-user" });
        let error = bench.run("file", unknown).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::NotFound, "{error}");
        let unknown = json!({ "directory": c, "group": "no-such-group" });
        let error = bench.run("file", unknown).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::NotFound, "{error}");
        assert_eq!(listing(&bench), ["from"]);
        bench.cx.services.close().await;
        drop(sshd);
    }
}

/// What a line of Python says of a file: there is no program for extended attributes on every machine.
fn python(line: &str, path: &std::path::Path) -> String {
    let output =
        Command::new("python3").args(["-c", &format!("import os, sys; {line}")]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_file_comes_back_with_mode_owner_times_attributes_and_links() {
    for (bench, sshd) in here_and_there().await {
        let path = bench.path("它");
        std::fs::write(&path, "theirs").unwrap();
        std::fs::hard_link(&path, bench.path("other name")).unwrap();
        let typed = Command::new("sh")
            .args(["-c", "[ $(id -u) != 0 ] || chown daemon:12345 \"$1\"; chmod 4751 \"$1\" && touch -d '2001-02-03 04:05:06.123456789' \"$1\"", "sh"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(typed.success());
        python("os.setxattr(sys.argv[1], 'user.shakedown', b'value')", &path);
        let look = || {
            let metadata = std::fs::metadata(&path).unwrap();
            let all =
                (metadata.mode(), metadata.uid(), metadata.gid(), metadata.mtime(), metadata.mtime_nsec());
            (
                all,
                metadata.ino(),
                metadata.nlink(),
                python("print(os.listxattr(sys.argv[1]), os.getxattr(sys.argv[1], 'user.shakedown'))", &path),
                std::fs::read(&path).unwrap(),
            )
        };
        let before = look();
        let started = bench.start("file", json!({ "remove": path.display().to_string() })).await;
        assert_eq!(started.result.clone().unwrap()["exists"], false);
        assert!(!path.exists());
        assert_eq!(bench.undo(&started).await.unwrap(), Undone::Removed);
        assert_eq!(look(), before);
        assert_eq!(listing(&bench), ["other name", "它"]);
        bench.cx.services.close().await;
        drop(sshd);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_bytes_of_any_size_are_made_on_the_host_itself() {
    let [_, (bench, _sshd)] = here_and_there().await;
    let params = json!({ "create": bench.at("zeros"), "size": "70MiB", "content": "zero" });
    let started = bench.start("file", params).await;
    let out = started.result.clone().unwrap();
    let sum = Command::new("sha256sum").arg(bench.path("zeros")).output().unwrap();
    assert_eq!(out["sha256"].as_str().unwrap(), &String::from_utf8(sum.stdout).unwrap()[..64]);
    assert_eq!(bench.undo(&started).await.unwrap(), Undone::Removed);
    let random = json!({ "create": bench.at("random"), "size": "65MiB" });
    assert_eq!(bench.run("file", random).await.unwrap_err().class, ErrorClass::Invalid);
    bench.cx.services.close().await;
}
