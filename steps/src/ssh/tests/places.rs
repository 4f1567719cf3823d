//! Places that are not what they were: several files in one place, another's file, a folder that moved, a copy that changed.

use super::{Bed, bed};
use crate::testing::{Bench, Started};
use engine::{
    ErrorClass,
    step::{Presence, Settled, Undone},
};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    process::Command,
};

impl Bed {
    /// Uploads these words to the one place, as a step of that name.
    async fn put(&mut self, step: &str, words: &str) -> Started {
        fs::write(self.bench.path("words"), words).expect("written");
        self.bench.cx.step = step.into();
        let params = json!({ "host": "nas", "upload": { "from": self.bench.at("words"), "to": self.bench.at("nas/it") } });
        let it = self.bench.start("ssh", params).await;
        assert!(it.result.is_ok(), "{:?}", it.result);
        it
    }

    fn text(&self) -> String {
        String::from_utf8(self.content().expect("there")).expect("text")
    }

    fn backup(&self, it: &Started) -> String {
        it.intent["placing"]["backup"].as_str().expect("a path").to_owned()
    }
}

async fn left(bench: &Bench, it: &Started) -> engine::step::Leftover {
    match bench.undo(it).await {
        Ok(Undone::Left(left)) => left,
        other => panic!("not left: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_files_in_one_place_are_taken_back_to_the_first() {
    let mut bed = bed();
    fs::write(bed.bench.path("nas/it"), "original").expect("written");
    let inode = fs::metadata(bed.bench.path("nas/it")).expect("there").ino();
    let one = bed.put("one", "first").await;
    let two = bed.put("two", "second").await;
    bed.bench.cx.attempt = 2;
    let again = bed.put("two", "third").await;
    assert_eq!(bed.names().len(), 4, "each keeps what it found: {:?}", bed.names());
    // In any order: what lies under another waits for it.
    let error = bed.bench.undo(&one).await.expect_err("another lies over it");
    assert_eq!(error.class, ErrorClass::Busy);
    assert_eq!(bed.text(), "third");
    assert!(matches!(bed.bench.presence(&one).await, Ok(Presence::Present(_))));
    for it in [&again, &two, &one] {
        assert_eq!(bed.bench.undo(it).await, Ok(Undone::Removed));
    }
    assert_eq!((bed.text().as_str(), bed.names()), ("original", vec!["it".to_owned()]));
    assert_eq!(fs::metadata(bed.bench.path("nas/it")).expect("there").ino(), inode);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_pile_and_each_of_it_can_be_undone_again() {
    for original in [Some("original"), None] {
        let mut bed = bed();
        if let Some(text) = original {
            fs::write(bed.bench.path("nas/it"), text).expect("written");
        }
        let pile = [bed.put("one", "1").await, bed.put("two", "2").await, bed.put("three", "3").await];
        for it in pile.iter().rev() {
            assert!(matches!(bed.bench.settle(it).await, Ok(Settled::Happened(_))), "{original:?}");
        }
        for it in pile.iter().rev() {
            assert_eq!(bed.bench.undo(it).await, Ok(Undone::Removed));
            assert_eq!(bed.bench.undo(it).await, Ok(Undone::Removed), "again");
        }
        for it in &pile {
            assert_eq!(bed.bench.presence(it).await, Ok(Presence::Gone), "{original:?}");
            assert_eq!(bed.bench.undo(it).await, Ok(Undone::Removed), "{original:?}");
        }
        let names: Vec<String> = original.iter().map(|_| "it".to_owned()).collect();
        assert_eq!(bed.names(), names);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_waits_for_the_second_name_that_a_killed_step_gave_it() {
    let mut bed = bed();
    fs::write(bed.bench.path("nas/it"), "original").expect("written");
    let (one, two) = (bed.put("one", "1").await, bed.put("two", "2").await);
    // As if `two` had been killed between the link and the rename.
    fs::remove_file(bed.bench.path("nas/it")).expect("removed");
    fs::hard_link(bed.backup(&two), bed.bench.path("nas/it")).expect("linked");
    let error = bed.bench.undo(&one).await.expect_err("it has a second name");
    assert_eq!(error.class, ErrorClass::Busy);
    assert_eq!(bed.bench.undo(&two).await, Ok(Undone::NothingToDo));
    assert_eq!(bed.bench.undo(&one).await, Ok(Undone::Removed));
    assert_eq!((bed.text().as_str(), bed.names()), ("original", vec!["it".to_owned()]));
    for it in [&one, &two] {
        assert_eq!(bed.bench.presence(it).await, Ok(Presence::Gone));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_may_replace_what_another_put_there_while_it_was_on_its_way() {
    let bed = bed();
    let (one, two) =
        (bed.bench.intend("ssh", bed.upload()).await, bed.bench.start("ssh", bed.upload()).await);
    assert!(two.result.is_ok(), "{:?}", two.result);
    let mut late = bed.bench.intend("ssh", bed.upload()).await;
    late.intent = one.intent;
    let params = bed.upload();
    let kind = crate::builtin().get("ssh").expect("there").clone();
    kind.run(&bed.bench.cx, &params, &late.intent).await.expect("replaces a file of its own run");
    fs::remove_file(bed.bench.path("nas/it")).expect("removed");
    fs::write(bed.bench.path("nas/it"), "another's").expect("written");
    let error = kind.run(&bed.bench.cx, &params, &late.intent).await.expect_err("not a file of another");
    assert_eq!(error.class, ErrorClass::Busy, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equal_file_of_another_is_left() {
    let mut bed = bed();
    let it = bed.put("it", "equal").await;
    fs::write(bed.bench.path("new"), "equal").expect("written");
    fs::rename(bed.bench.path("new"), bed.bench.path("nas/it")).expect("renamed");
    let left = left(&bed.bench, &it).await;
    assert!(left.why.contains("did not make") && left.remove_with.is_empty(), "{left:?}");
    assert_eq!(bed.text(), "equal");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_file_that_changed_is_not_put_back_and_the_command_loses_nothing() {
    let mut bed = bed();
    fs::write(bed.bench.path("nas/it"), "original").expect("written");
    let it = bed.put("it", "new").await;
    fs::write(bed.backup(&it), "touched").expect("written");
    let left = left(&bed.bench, &it).await;
    assert!(left.why.contains("changed meanwhile"), "{left:?}");
    assert_eq!(bed.text(), "new");
    // As a person types it: with the files of the playbook for this host.
    assert!(left.remove_with.starts_with("ssh -F /dev/null -i "), "{left:?}");
    let typed = Command::new("sh").args(["-c", &left.remove_with]).output().expect("runs");
    assert!(typed.status.success(), "{typed:?}");
    assert_eq!(bed.text(), "touched");
    assert_eq!(fs::read_to_string(bed.bench.path("nas/it.other")).expect("there"), "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_file_that_is_gone_is_told_and_the_new_one_stays() {
    let mut bed = bed();
    fs::write(bed.bench.path("nas/it"), "original").expect("written");
    let it = bed.put("it", "new").await;
    fs::remove_file(bed.backup(&it)).expect("removed");
    let left = left(&bed.bench, &it).await;
    assert!(left.why.contains("is gone") && left.remove_with.is_empty(), "{left:?}");
    assert_eq!(bed.text(), "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_another_or_gone_cannot_be_told() {
    let mut bed = bed();
    let it = bed.put("it", "new").await;
    fs::rename(bed.bench.path("nas"), bed.bench.path("away")).expect("renamed");
    for remake in [false, true] {
        if remake {
            fs::create_dir(bed.bench.path("nas")).expect("made");
        }
        assert!(matches!(bed.bench.undo(&it).await, Ok(Undone::CannotTell(_))), "{remake}");
        assert!(matches!(bed.bench.presence(&it).await, Ok(Presence::Unknown(_))), "{remake}");
        assert!(matches!(bed.bench.settle(&it).await, Ok(Settled::Unclear(_))), "{remake}");
    }
    fs::remove_dir(bed.bench.path("nas")).expect("removed");
    fs::rename(bed.bench.path("away"), bed.bench.path("nas")).expect("renamed");
    assert_eq!(bed.bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(bed.names(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_comes_back_as_a_link() {
    let mut bed = bed();
    fs::write(bed.bench.path("real"), "original").expect("written");
    symlink(bed.bench.path("real"), bed.bench.path("nas/it")).expect("made");
    let it = bed.put("it", "new").await;
    assert_eq!(fs::read_to_string(bed.bench.path("real")).expect("there"), "original");
    assert_eq!(bed.bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(fs::read_link(bed.bench.path("nas/it")).expect("a link"), bed.bench.path("real"));
    assert_eq!(bed.names(), ["it"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_back_leaves_nothing_beside() {
    let mut bed = bed();
    fs::write(bed.bench.path("nas/it"), "original").expect("written");
    bed.bench.cx.undoing = true;
    let part = bed.bench.intend("ssh", bed.upload()).await;
    let beside = part.intent["placing"]["beside"].as_str().expect("a path").to_owned();
    // Killed in the middle, then run again.
    fs::write(&beside, "new").expect("written");
    bed.put("it", "new").await;
    assert_eq!((bed.text().as_str(), bed.names()), ("new", vec!["it".to_owned()]));
    bed.put("it", "new").await;
    assert_eq!((bed.text().as_str(), bed.names()), ("new", vec!["it".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_keeps_its_mode_but_not_the_right_to_run_as_its_owner() {
    let bed = bed();
    let mode = |name: &str| fs::metadata(bed.bench.path(name)).expect("there").permissions().mode() & 0o7777;
    let set =
        |bits| fs::set_permissions(bed.bench.path("文件 1"), fs::Permissions::from_mode(bits)).expect("set");
    for (bits, kept) in [(0o600, 0o600), (0o4755, 0o755)] {
        set(bits);
        let up = bed.bench.start("ssh", bed.upload()).await;
        assert!(up.result.is_ok(), "{:?}", up.result);
        assert_eq!(mode("nas/it"), kept);
        let params = json!({ "host": "nas", "download": { "from": bed.bench.at("文件 1"), "to": bed.bench.at("here") } });
        let down = bed.bench.start("ssh", params).await;
        assert!(down.result.is_ok(), "{:?}", down.result);
        assert_eq!(mode("here"), kept);
        assert_eq!(bed.bench.undo(&up).await, Ok(Undone::Removed));
        assert_eq!(bed.bench.undo(&down).await, Ok(Undone::Removed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_name_is_a_name() {
    for name in ["nas/-n", "nas/名\n\"'$(x) *", "nas/a b"] {
        let bed = bed();
        let params = |to: &str| -> Value {
            json!({ "host": "nas", "upload": { "from": bed.bench.at("文件 1"), "to": to } })
        };
        let it = bed.bench.start("ssh", params(&bed.bench.at(name))).await;
        assert!(it.result.is_ok(), "{name}: {:?}", it.result);
        assert!(bed.bench.path(name).exists(), "{name}");
        assert!(matches!(bed.bench.presence(&it).await, Ok(Presence::Present(_))), "{name}");
        assert_eq!(bed.bench.undo(&it).await, Ok(Undone::Removed), "{name}");
        assert_eq!(bed.names(), [""; 0], "{name}");
    }
}
