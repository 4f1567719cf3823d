//! Against a real sshd on the loopback.

mod broken;
mod places;

use crate::{
    ssh_host::{SshConnector, sshd::Sshd},
    testing::{Bench, check, describe},
};
use engine::{
    ErrorClass,
    step::{Effect, Presence, Undone},
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

struct Bed {
    bench: Bench,
    _sshd: Sshd,
}

fn bed() -> Bed {
    let sshd = Sshd::start();
    let bench = Bench::with_hosts(|dir| Arc::new(SshConnector::new(dir.join("ssh"))), [sshd.spec("nas")]);
    fs::create_dir(bench.path("nas")).expect("made");
    fs::write(bench.path("文件 1"), b"new\0\xff").expect("written");
    Bed { bench, _sshd: sshd }
}

impl Bed {
    fn upload(&self) -> Value {
        json!({ "host": "nas", "upload": { "from": self.bench.at("文件 1"), "to": self.bench.at("nas/it") } })
    }

    fn content(&self) -> Option<Vec<u8>> {
        fs::read(self.bench.path("nas/it")).ok()
    }

    /// The names in the folder of the target.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.bench.path("nas")).expect("there");
        entries.map(|entry| entry.expect("reads").file_name().to_string_lossy().into_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_on_the_host() {
    let Bed { bench, _sshd } = bed();
    let params = json!({ "host": "nas", "run": ["sh", "-c", "cat; echo \"$A$SSH_CONNECTION\"; exit 2"], "stdin": "in ",
        "env": { "A": "$(touch X) " }, "ok_codes": [2], "reads": true });
    let out = bench.run("ssh", params).await.expect("runs");
    assert_eq!(out["code"], 2);
    assert!(out["stdout"].as_str().is_some_and(|text| text.starts_with("in $(touch X) 127.0.0.1 ")), "{out}");
    let error = bench.run("ssh", json!({ "host": "nas", "run": ["sh", "-c", "echo bad >&2; exit 9"] })).await;
    let error = error.expect_err("fails");
    assert_eq!((error.class, error.details), (ErrorClass::Exit, vec!["bad".to_owned()]));
    let error = bench.run("ssh", json!({ "host": "nsa", "run": ["true"] })).await.expect_err("unknown");
    assert!(error.message.contains("unknown host `nsa`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_arrives_whole_and_its_undo_removes_it() {
    let bed = bed();
    fs::set_permissions(bed.bench.path("文件 1"), fs::Permissions::from_mode(0o640)).expect("set");
    let it = bed.bench.start("ssh", bed.upload()).await;
    let out = it.result.clone().expect("uploads");
    assert_eq!((out["size"].as_u64(), bed.content().as_deref()), (Some(5), Some(&b"new\0\xff"[..])));
    assert_eq!(fs::metadata(bed.bench.path("nas/it")).expect("there").permissions().mode() & 0o777, 0o640);
    assert_eq!(bed.names(), ["it"]);
    assert!(matches!(bed.bench.presence(&it).await, Ok(Presence::Present(_))));
    assert_eq!(bed.bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(bed.names(), [""; 0]);
    assert_eq!(bed.bench.undo_blindly(&it).await, Ok(Undone::Removed));
    assert_eq!(bed.bench.presence(&it).await, Ok(Presence::Gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_undo_restores_the_file_that_was_there() {
    let bed = bed();
    fs::write(bed.bench.path("nas/it"), "earlier").expect("written");
    let it = bed.bench.start("ssh", bed.upload()).await;
    assert!(it.result.is_ok(), "{:?}", it.result);
    assert_eq!(bed.content().as_deref(), Some(&b"new\0\xff"[..]));
    assert_eq!(bed.bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!((bed.content().as_deref(), bed.names()), (Some(&b"earlier"[..]), vec!["it".to_owned()]));
    assert_eq!(bed.bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(bed.content().as_deref(), Some(&b"earlier"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_is_kept_nothing_stays_beside_it() {
    let bed = bed();
    fs::write(bed.bench.path("nas/it"), "earlier").expect("written");
    let it = bed.bench.start("ssh", bed.upload()).await;
    assert_eq!(bed.names().len(), 2, "the earlier file is put by");
    // It may be asked for again after a crash.
    for _ in 0..2 {
        assert_eq!(bed.bench.release(&it).await, Ok(()));
        assert_eq!((bed.content().as_deref(), bed.names()), (Some(&b"new\0\xff"[..]), vec!["it".to_owned()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_undo_leaves_a_file_that_changed_since() {
    let bed = bed();
    let it = bed.bench.start("ssh", bed.upload()).await;
    fs::write(bed.bench.path("nas/it"), "another's").expect("written");
    let Ok(Undone::Left(left)) = bed.bench.undo(&it).await else { panic!("not left") };
    assert!(left.what.contains("nas/it") && left.remove_with.contains("ls -l -- "), "{left:?}");
    assert_eq!(bed.content().as_deref(), Some(&b"another's"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_undo_clears_away_what_a_crash_left_beside() {
    let bed = bed();
    let it = bed.bench.start("ssh", bed.upload()).await;
    let placing = &it.intent["placing"];
    fs::rename(bed.bench.path("nas/it"), placing["beside"].as_str().expect("a path")).expect("moved");
    assert!(matches!(bed.bench.presence(&it).await, Ok(Presence::Present(_))));
    assert_eq!(bed.bench.undo_blindly(&it).await, Ok(Undone::NothingToDo));
    assert_eq!(bed.names(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_tells_why_it_cannot() {
    let bed = bed();
    let run = async |from: String, to: String| {
        let params = json!({ "host": "nas", "upload": { "from": from, "to": to } });
        bed.bench.run("ssh", params).await.expect_err("fails")
    };
    let good = || bed.bench.at("文件 1");
    let missing = run(bed.bench.at("none"), bed.bench.at("nas/it")).await;
    assert_eq!(missing.class, ErrorClass::NotFound, "{missing:?}");
    assert_eq!(run(good(), bed.bench.at("no/such/dir")).await.class, ErrorClass::NotFound);
    assert_eq!(run(good(), bed.bench.at("nas")).await.class, ErrorClass::Exists);
    assert_eq!(run(good(), "-rf".into()).await.class, ErrorClass::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_arrives_whole_and_is_taken_back() {
    let bed = bed();
    let large: Vec<u8> = (0..2_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    fs::write(bed.bench.path("nas/it"), &large).expect("written");
    fs::write(bed.bench.path("here"), "earlier").expect("written");
    let params =
        json!({ "host": "nas", "download": { "from": bed.bench.at("nas/it"), "to": bed.bench.at("here") } });
    let it = bed.bench.start("ssh", params).await;
    assert_eq!(it.result.clone().expect("downloads")["size"], 2_000_000);
    assert!(fs::read(bed.bench.path("here")).expect("there") == large);
    assert_eq!(bed.bench.undo(&it).await, Ok(Undone::Removed));
    assert_eq!(fs::read(bed.bench.path("here")).expect("there"), b"earlier");
}

#[test]
fn what_it_does_is_told_beforehand() {
    let upload = json!({ "host": "nas", "upload": { "from": "a", "to": "/b" } });
    assert_eq!(describe("ssh", &upload).title, "upload a to nas:/b");
    let run = json!({ "host": "nas", "run": ["df", "-h"], "reads": true });
    assert_eq!(describe("ssh", &run).effect, Effect::Reads);
    assert_eq!(
        describe("ssh", &json!({ "host": "nas", "run": ["rm", "x"] })).effect,
        Effect::NeedsWrittenUndo
    );
    assert_eq!(check("ssh", &json!({ "host": "nas" })).len(), 1);
    assert_eq!(check("ssh", &json!({ "host": "nas", "upload": {}, "reads": true })).len(), 1);
}
