//! What an undo says is true: situations in which a file or folder is not where it was, or is another.

use super::tests::{here_and_there, listing};
use crate::testing::{Bench, Started};
use engine::{
    error::ErrorClass,
    event::Phase,
    step::{Amend, Leftover, Presence, Settled, Undone},
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

fn left(undone: &Undone) -> &Leftover {
    match undone {
        Undone::Left(left) => left,
        other => panic!("expected something left, found {other:?}"),
    }
}

/// On a host only a search tells what became of a file, and the disk of this machine may be too large for it.
fn was_cut_off(undone: &Undone) -> bool {
    matches!(undone, Undone::CannotTell(left) if left.why.contains("not all of its file system can be searched"))
}

/// Types the command of a leftover.
fn typed(left: &Leftover) {
    let done = Command::new("/bin/sh").args(["-c", &left.remove_with]).output().unwrap();
    assert!(done.status.success(), "{}: {}", left.remove_with, String::from_utf8_lossy(&done.stderr));
}

async fn made(bench: &Bench, params: Value) -> Started {
    let it = bench.start("file", params).await;
    if let Err(error) = &it.result {
        panic!("{error:?}");
    }
    it
}

/// Runs what has to be root; gives whether it could.
fn root(argv: &[&str]) -> bool {
    nix::unistd::Uid::effective().is_root()
        && Command::new(argv[0]).args(&argv[1..]).status().is_ok_and(|status| status.success())
}

/// A mount that goes with the test.
struct Mount(PathBuf);

impl Mount {
    fn new(argv: &[&str], at: &Path) -> Option<Self> {
        let at = at.display().to_string();
        root(&[&["mount"], argv, &[&at]].concat()).then(|| Self(at.into()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg(&self.0).stderr(std::process::Stdio::null()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_moved_is_left_and_named_and_one_that_was_deleted_is_gone() {
    for (bench, sshd) in here_and_there().await {
        fs::create_dir(bench.path("d")).unwrap();
        let params = json!({ "create": bench.at("d/名\n字"), "text": "ours" });
        for after_a_crash in [false, true] {
            let it = made(&bench, params.clone()).await;
            fs::rename(bench.path("d/名\n字"), bench.path("d/b")).unwrap();
            let undone = match after_a_crash {
                true => bench.undo_blindly(&it).await.unwrap(),
                false => bench.undo(&it).await.unwrap(),
            };
            assert!(left(&undone).what.contains(&bench.at("d/b")), "{undone:?}");
            typed(left(&undone));
            assert_eq!(listing(&bench), ["d"]);

            // Moved with its folder, in whose place is another one.
            let it = made(&bench, params.clone()).await;
            fs::rename(bench.path("d"), bench.path("e")).unwrap();
            fs::create_dir(bench.path("d")).unwrap();
            fs::write(bench.path("d/名\n字"), "ours").unwrap();
            let undone = bench.undo(&it).await.unwrap();
            assert!(left(&undone).what.contains(&bench.at("e/名\n字")), "{undone:?}");
            typed(left(&undone));
            assert_eq!(fs::read_dir(bench.path("e")).unwrap().count(), 0);
            fs::remove_dir(bench.path("e")).unwrap();
            fs::remove_file(bench.path("d/名\n字")).unwrap();
        }
        let it = made(&bench, params.clone()).await;
        fs::remove_file(bench.path("d/名\n字")).unwrap();
        let undone = bench.undo(&it).await.unwrap();
        assert!(undone == Undone::NothingToDo || (sshd.is_some() && was_cut_off(&undone)), "{undone:?}");
        assert_eq!(bench.presence(&it).await.unwrap(), Presence::Gone);
        bench.cx.services.close().await;
        drop(sshd);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_name_of_the_file_is_named_once_the_first_is_gone() {
    for (bench, sshd) in here_and_there().await {
        let it = made(&bench, json!({ "create": bench.at("a"), "text": "ours" })).await;
        fs::hard_link(bench.path("a"), bench.path("b")).unwrap();
        let undone = bench.undo(&it).await.unwrap();
        assert!(left(&undone).what.contains(&bench.at("b")), "{undone:?}");
        assert_eq!(listing(&bench), ["b"]);
        bench.cx.services.close().await;
        drop(sshd);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_aside_file_that_is_not_there_is_never_nothing() {
    for (bench, sshd) in here_and_there().await {
        fs::create_dir(bench.path("d")).unwrap();
        let path = bench.path("d/它");
        let params = json!({ "remove": path.display().to_string() });
        let aside = |it: &Started| PathBuf::from(it.intent["beside"].as_str().unwrap());

        fs::write(&path, "theirs").unwrap();
        let it = made(&bench, params.clone()).await;
        fs::remove_file(aside(&it)).unwrap();
        let undone = bench.undo(&it).await.unwrap();
        if !(sshd.is_some() && was_cut_off(&undone)) {
            assert!(left(&undone).why.contains(&aside(&it).display().to_string()), "{undone:?}");
            typed(left(&undone));
        }

        // Its folder was renamed: the command brings the file back.
        fs::write(&path, "theirs").unwrap();
        let it = made(&bench, params.clone()).await;
        fs::rename(bench.path("d"), bench.path("e")).unwrap();
        fs::create_dir(bench.path("d")).unwrap();
        let undone = bench.undo(&it).await.unwrap();
        assert!(left(&undone).what.contains(&bench.at("e/.shakedown-")), "{undone:?}");
        typed(left(&undone));
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        fs::remove_dir(bench.path("e")).unwrap();

        // Another has made the file anew: the command destroys neither.
        let it = made(&bench, params.clone()).await;
        fs::write(&path, "new").unwrap();
        let undone = bench.undo(&it).await.unwrap();
        let found = left(&undone);
        let aside = aside(&it).display().to_string();
        assert!(found.why.contains("put aside") && found.what.contains(&aside), "{found:?}");
        typed(found);
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_to_string(&aside).unwrap(), "theirs");

        // Put back twice is put back once; before it was put aside there is nothing to do.
        fs::remove_file(&path).unwrap();
        assert_eq!(bench.undo(&it).await.unwrap(), Undone::Removed);
        assert_eq!(bench.undo(&it).await.unwrap(), Undone::Removed);
        let it = bench.intend("file", params.clone()).await;
        assert_eq!(bench.settle(&it).await.unwrap(), Settled::NotHappened);
        assert_eq!(bench.undo(&it).await.unwrap(), Undone::NothingToDo);
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        bench.cx.services.close().await;
        drop(sshd);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_another_in_the_place_of_ours_keeps_its_content() {
    for (bench, sshd) in here_and_there().await {
        for owned in [true, false] {
            let it = made(&bench, json!({ "directory": bench.at("d//"), "owned": owned })).await;
            fs::remove_dir(bench.path("d")).unwrap();
            fs::create_dir(bench.path("d")).unwrap();
            if owned {
                fs::write(bench.path("d/precious"), "theirs").unwrap();
            }
            let undone = bench.undo(&it).await.unwrap();
            assert!(left(&undone).remove_with.starts_with("ls "), "{undone:?}");
            typed(left(&undone));
            assert_eq!(fs::read_dir(bench.path("d")).unwrap().count(), usize::from(owned));
            fs::remove_dir_all(bench.path("d")).unwrap();

            let it = made(&bench, json!({ "directory": bench.at("d"), "owned": owned })).await;
            fs::rename(bench.path("d"), bench.path("e")).unwrap();
            let undone = bench.undo(&it).await.unwrap();
            assert!(left(&undone).what.contains(&bench.at("e")), "{undone:?}");
            typed(left(&undone));
            assert_eq!(listing(&bench), Vec::<String>::new());
        }
        bench.cx.services.close().await;
        drop(sshd);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_removed_without_what_is_mounted_or_linked_in_it() {
    for (bench, sshd) in here_and_there().await {
        fs::create_dir(bench.path("precious")).unwrap();
        fs::write(bench.path("precious/one"), "theirs").unwrap();
        let it = made(&bench, json!({ "directory": bench.at("d"), "owned": true })).await;
        fs::create_dir_all(bench.path("d/a/空 m\n")).unwrap();
        fs::write(bench.path("d/a/-f"), "").unwrap();
        symlink(bench.path("precious"), bench.path("d/a/link")).unwrap();
        // A view of the same file system: no device tells it apart.
        if let Some(mount) = Mount::new(&["--bind", &bench.at("precious")], &bench.path("d/a/空 m\n")) {
            let undone = bench.undo(&it).await.unwrap();
            assert!(left(&undone).why.contains(&bench.at("d/a/空 m\n")), "{undone:?}");
            assert!(bench.path("d/a/-f").exists());
            assert_eq!(fs::read_to_string(bench.path("precious/one")).unwrap(), "theirs");
            drop(mount);
        }
        assert_eq!(bench.undo(&it).await.unwrap(), Undone::Removed);
        assert_eq!(bench.undo(&it).await.unwrap(), Undone::Removed);
        assert_eq!(fs::read_to_string(bench.path("precious/one")).unwrap(), "theirs");
        assert_eq!(listing(&bench), ["precious"]);
        bench.cx.services.close().await;
        drop(sshd);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mount_hides_or_took_away_cannot_be_told() {
    for (bench, sshd) in here_and_there().await {
        fs::create_dir(bench.path("d")).unwrap();
        let params = json!({ "create": bench.at("d/a"), "text": "ours" });
        let it = made(&bench, params.clone()).await;
        let Some(over) = Mount::new(&["-t", "tmpfs", "tmpfs"], &bench.path("d")) else { return };
        let undone = bench.undo(&it).await.unwrap();
        assert!(
            matches!(&undone, Undone::CannotTell(it) if it.what.contains(&bench.at("d/a"))),
            "{undone:?}"
        );
        assert!(matches!(bench.presence(&it).await.unwrap(), Presence::Unknown(_)));

        let inside = made(&bench, params.clone()).await;
        let aside =
            fs::write(bench.path("d/theirs"), "x").map(|()| json!({ "remove": bench.at("d/theirs") }));
        let aside = made(&bench, aside.unwrap()).await;
        assert!(root(&["umount", &bench.at("d")]), "a watch keeps no mount busy");
        std::mem::forget(over);
        for it in [&inside, &aside] {
            let undone = bench.undo(it).await.unwrap();
            assert!(matches!(undone, Undone::CannotTell(_)), "{undone:?}");
        }
        assert_eq!(bench.undo(&it).await.unwrap(), Undone::Removed);
        assert_eq!(fs::read_dir(bench.path("d")).unwrap().count(), 0);
        bench.cx.services.close().await;
        drop(sshd);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_nobody_takes_back_leaves_nothing_beside_and_may_be_run_twice() {
    for (mut bench, sshd) in here_and_there().await {
        for undoing in [true, false] {
            bench.cx.undoing = undoing;
            bench.cx.phase = if undoing { Phase::Prepare } else { Phase::Cleanup };
            fs::write(bench.path("a"), "theirs").unwrap();
            let steps = [
                json!({ "create": bench.at("b"), "text": "x" }),
                json!({ "create": bench.at("random"), "size": 1000 }),
                json!({ "copy": bench.at("a"), "to": bench.at("c") }),
                json!({ "directory": bench.at("d") }),
                json!({ "remove": bench.at("a") }),
            ];
            for params in &steps {
                let it = made(&bench, params.clone()).await;
                // Killed in the middle of an earlier try: its half is found again.
                let half = PathBuf::from(it.intent["beside"].as_str().unwrap());
                assert!(!half.exists(), "{half:?}");
                if params["create"].is_string() {
                    fs::remove_file(params["create"].as_str().unwrap()).unwrap();
                    fs::write(&half, "half").unwrap();
                    made(&bench, params.clone()).await;
                    assert!(!half.exists(), "{half:?}");
                }
                if params["copy"].is_null() {
                    made(&bench, params.clone()).await;
                }
            }
            assert_eq!(listing(&bench), ["b", "c", "d", "random"]);
            for name in ["b", "c", "random"] {
                fs::remove_file(bench.path(name)).unwrap();
            }
            fs::remove_dir(bench.path("d")).unwrap();
        }
        bench.cx.services.close().await;
        drop(sshd);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_for_no_more_eyes_than_its_source() {
    for (bench, sshd) in here_and_there().await {
        for mode in [0o600, 0o640, 0o400, 0o4711] {
            fs::write(bench.path("from"), "secret").unwrap();
            fs::set_permissions(bench.path("from"), fs::Permissions::from_mode(mode)).unwrap();
            let it = made(&bench, json!({ "copy": bench.at("from"), "to": bench.at("to") })).await;
            assert_eq!(fs::metadata(bench.path("to")).unwrap().mode() & 0o7777, mode & 0o777);
            assert_eq!(bench.undo(&it).await.unwrap(), Undone::Removed);
            fs::remove_file(bench.path("from")).unwrap();
        }
        let made_now = made(&bench, json!({ "create": bench.at("a"), "text": "x" })).await;
        assert_eq!(fs::metadata(bench.path("a")).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(bench.undo(&made_now).await.unwrap(), Undone::Removed);
        bench.cx.services.close().await;
        drop(sshd);
    }
}

/// A half that is swapped for a link, in the last moment before it gets its name, is given nothing: neither a name nor, by
/// the path, a mode.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_that_was_swapped_for_a_link_is_refused() {
    for (mut bench, sshd) in here_and_there().await {
        let victim = bench.path("victim");
        fs::write(&victim, "theirs").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        for params in [
            json!({ "create": bench.at("a"), "text": "x", "mode": "0666" }),
            json!({ "directory": bench.at("a"), "mode": "0777" }),
        ] {
            let (victim, folder) = (victim.clone(), params["directory"].is_string());
            bench.cx.amend = Amend::new(move |intent| {
                let half = victim.parent().unwrap().join(".half");
                let beside = PathBuf::from(intent["beside"].as_str().unwrap());
                fs::rename(&beside, &half).unwrap();
                symlink(&victim, &beside).unwrap();
                let _gone = if folder { fs::remove_dir(half) } else { fs::remove_file(half) };
                Box::pin(async { true })
            });
            let it = bench.start("file", params).await;
            assert_eq!(it.result.clone().unwrap_err().class, ErrorClass::Denied, "{:?}", it.result);
            assert!(!bench.path("a").exists());
            let beside = PathBuf::from(it.intent["beside"].as_str().unwrap());
            assert!(beside.is_symlink(), "what is another's stays");
            assert_eq!(fs::metadata(bench.path("victim")).unwrap().mode() & 0o777, 0o600);
            fs::remove_file(beside).unwrap();
        }
        bench.cx.services.close().await;
        drop(sshd);
    }
}

/// What is half made when the journal can take no more is gone again, and so is what was killed there.
#[tokio::test(flavor = "multi_thread")]
async fn between_making_and_naming_nothing_is_lost() {
    for (mut bench, sshd) in here_and_there().await {
        let steps = [
            json!({ "create": bench.at("a"), "text": "x" }),
            json!({ "directory": bench.at("a"), "owned": true }),
        ];
        for params in steps {
            let amend = bench.cx.amend.clone();
            bench.cx.amend = Amend::new(|_| Box::pin(async { false }));
            let error = bench.run("file", params.clone()).await.unwrap_err();
            assert!(error.no_effect, "{error:?}");
            assert_eq!(listing(&bench), Vec::<String>::new());
            bench.cx.amend = amend;

            // Killed after it got its name, before the record of that.
            let it = made(&bench, params.clone()).await;
            assert!(matches!(bench.settle(&it).await.unwrap(), Settled::Happened(_)));
            // Killed before: it has only the hidden name.
            let beside = it.intent["beside"].as_str().unwrap().to_owned();
            fs::rename(bench.path("a"), &beside).unwrap();
            assert_eq!(bench.settle(&it).await.unwrap(), Settled::NotHappened);
            assert!(matches!(bench.presence(&it).await.unwrap(), Presence::Present(_)));
            assert_eq!(bench.undo_blindly(&it).await.unwrap(), Undone::Removed);
            assert_eq!(bench.undo_blindly(&it).await.unwrap(), Undone::Removed);
            assert_eq!(listing(&bench), Vec::<String>::new());

            // An equal one of another, made while nobody knew: it is not taken for ours.
            let it = bench.intend("file", params.clone()).await;
            match params["create"].is_string() {
                true => fs::write(bench.path("a"), "x").unwrap(),
                false => fs::create_dir(bench.path("a")).unwrap(),
            }
            assert_eq!(bench.settle(&it).await.unwrap(), Settled::NotHappened);
            assert_eq!(bench.undo_blindly(&it).await.unwrap(), Undone::NothingToDo);
            assert_eq!(listing(&bench), ["a"]);
            let _gone = fs::remove_file(bench.path("a")).or_else(|_| fs::remove_dir(bench.path("a")));
        }
        bench.cx.services.close().await;
        drop(sshd);
    }
}
