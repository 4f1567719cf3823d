//! Files whose way is cut in the middle: what carries them on the host stops at a gate, after the first 3,000,000 bytes of
//! its turn, until the test opens it.

use crate::{
    ssh_host::{
        SshConnector,
        sshd::{PLAIN, Sshd},
    },
    testing::{Bench, Started, until},
};
use engine::{
    ErrorClass, StepError,
    event::{Progress, ProgressSink},
    step::{Intended, Presence, Settled, Undone},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    sync::{Arc, LazyLock, Mutex},
};
use tempfile::TempDir;

const GATE: usize = 3_000_000;
/// Far more than what pipes, sockets and ssh itself hold on the way.
const SIZE: usize = 24_000_000;

/// Stands for `cat` and `tail` in commands on the host.
const WRAPPER: &str = r#"#!/bin/sh
[ -n "$SHAKEDOWN_TREE" ] || exec /usr/bin/NAME "$@"
/usr/bin/NAME "$@" | {
  head -c 3000000
  [ -e "DIR/open" ] || touch "DIR/shut"
  while [ -e "DIR/shut" ] && [ ! -e "DIR/open" ]; do sleep 0.01; done
  exec /usr/bin/cat
}
"#;

struct Bed {
    bench: Bench,
    sshd: Sshd,
    gate: TempDir,
    told: Arc<Mutex<Vec<(u64, u64)>>>,
}

fn bed() -> Bed {
    let gate = tempfile::tempdir().expect("made");
    let dir = gate.path().display().to_string();
    for name in ["cat", "tail"] {
        let path = gate.path().join(name);
        fs::write(&path, WRAPPER.replace("NAME", name).replace("DIR", &dir)).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    }
    let sshd = Sshd::start_with(&format!("{PLAIN} PATH={dir}:/usr/local/bin:/usr/bin:/bin"));
    let mut bench = Bench::with_hosts(|dir| Arc::new(SshConnector::new(dir.join("ssh"))), [sshd.spec("nas")]);
    let told = Arc::<Mutex<Vec<(u64, u64)>>>::default();
    let teller = told.clone();
    bench.cx.progress = ProgressSink::new(move |_, progress| {
        if let Progress::Bytes { done, total } = progress {
            teller.lock().expect("no panic").push((done, total));
        }
    });
    fs::create_dir(bench.path("far")).expect("made");
    fs::write(bench.path("source"), data()).expect("written");
    Bed { bench, sshd, gate, told }
}

/// The content of the source: no part of it is like another.
fn data() -> Vec<u8> {
    static DATA: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut data = Vec::with_capacity(SIZE);
        for n in 0..SIZE as u64 / 8 {
            data.extend_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        }
        data
    });
    DATA.clone()
}

impl Bed {
    fn upload(&self) -> Value {
        json!({ "host": "nas", "upload": { "from": self.bench.at("source"), "to": self.bench.at("far/it") } })
    }

    fn download(&self) -> Value {
        json!({ "host": "nas", "download": { "from": self.bench.at("source"), "to": self.bench.at("far/it") } })
    }

    fn open(&self) {
        fs::write(self.gate.path().join("open"), "").expect("written");
    }

    /// The files in the folder of the target.
    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.bench.path("far"))
            .expect("there")
            .map(|entry| entry.expect("reads").path())
            .collect()
    }

    /// Waits until the file is on its way and stands at the gate.
    async fn stands(&self) {
        until("it stands at the gate", async || {
            let length = |path: &PathBuf| fs::metadata(path).map_or(0, |file| file.len());
            self.gate.path().join("shut").exists() && self.files().first().map(length) == Some(GATE as u64)
        })
        .await;
    }

    fn assert_whole(&self) {
        assert!(fs::read(self.bench.path("far/it")).expect("there") == data(), "the content differs");
        assert_eq!(self.files(), [self.bench.path("far/it")]);
    }

    /// The next attempt of the step, or the same run resumed: it finds what the one before has left.
    async fn next_attempt(&mut self, params: Value) -> Started {
        self.open();
        self.bench.cx.attempt += 1;
        self.bench.start("ssh", params).await
    }
}

fn beside(it: &Started) -> PathBuf {
    it.intent["placing"]["beside"].as_str().expect("a path").into()
}

/// How many bytes went over the connection, and after how many it went on.
fn sent(out: &Value) -> (u64, Option<u64>) {
    (out["sent_bytes"].as_u64().expect("a number"), out["resumed_at"].as_u64())
}

async fn cut(bed: &Bed, params: Value) -> Value {
    let (out, ()) = tokio::join!(bed.bench.run("ssh", params), async {
        bed.stands().await;
        bed.sshd.break_connections();
        bed.open();
    });
    bed.assert_whole();
    out.expect("arrives")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_where_it_stood_when_the_connection_broke() {
    let bed = bed();
    let out = cut(&bed, bed.upload()).await;
    let (sent, at) = sent(&out);
    // What was in the pipe behind the gate arrived, too.
    assert!(at.is_some_and(|at| at >= GATE as u64 && at < SIZE as u64), "{at:?}");
    assert!(sent >= SIZE as u64 && sent < 2 * SIZE as u64, "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_where_it_stood_when_the_connection_broke() {
    let bed = bed();
    let out = cut(&bed, bed.download()).await;
    assert_eq!(sent(&out), (SIZE as u64, Some(GATE as u64)));
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_while_it_goes() {
    for upload in [true, false] {
        let bed = bed();
        let params = if upload { bed.upload() } else { bed.download() };
        let (out, ()) = tokio::join!(bed.bench.run("ssh", params), async {
            bed.stands().await;
            let middle = |told: &(u64, u64)| told.0 >= GATE as u64 && told.0 < told.1;
            until("it is told", async || bed.told.lock().expect("no panic").iter().any(middle)).await;
            bed.open();
        });
        assert_eq!(sent(&out.expect("arrives")), (SIZE as u64, None));
        let told = bed.told.lock().expect("no panic");
        assert!(told.iter().all(|(_, total)| *total == SIZE as u64), "{told:?}");
        assert!(told.is_sorted() && told.last() == Some(&(SIZE as u64, SIZE as u64)), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_attempt_goes_on_after_what_is_the_beginning_of_the_source() {
    for upload in [true, false] {
        let mut bed = bed();
        let params = if upload { bed.upload() } else { bed.download() };
        let killed = bed.bench.intend("ssh", params.clone()).await;
        fs::write(beside(&killed), &data()[..1_000_001]).expect("written");
        assert_eq!(bed.bench.settle(&killed).await, Ok(Settled::NotHappened));
        let it = bed.next_attempt(params).await;
        assert_eq!(sent(&it.result.clone().expect("arrives")), (SIZE as u64 - 1_000_001, Some(1_000_001)));
        bed.assert_whole();
        assert_eq!(bed.bench.undo(&it).await, Ok(Undone::Removed));
        assert_eq!(bed.bench.undo_blindly(&killed).await, Ok(Undone::NothingToDo));
        assert_eq!(bed.files(), [""; 0].map(PathBuf::from));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_all_of_the_source_is_not_sent_again() {
    for upload in [true, false] {
        let mut bed = bed();
        let params = if upload { bed.upload() } else { bed.download() };
        let killed = bed.bench.intend("ssh", params.clone()).await;
        fs::write(beside(&killed), data()).expect("written");
        let it = bed.next_attempt(params).await;
        assert_eq!(sent(&it.result.expect("arrives")), (0, Some(SIZE as u64)));
        bed.assert_whole();
    }
}

/// Killed as it was about to give the file its name; the next attempt gave it that, and its undo took it away.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_undo_of_the_next_attempt_took_away_is_not_searched_for() {
    for upload in [true, false] {
        let mut bed = bed();
        let params = if upload { bed.upload() } else { bed.download() };
        let mut killed = bed.bench.intend("ssh", params.clone()).await;
        fs::write(beside(&killed), data()).expect("written");
        let it = bed.next_attempt(params.clone()).await;
        killed.intent["placing"]["made"] = it.intent["placing"]["made"].clone();
        assert_eq!(bed.bench.undo(&it).await, Ok(Undone::Removed));
        // By its own intent it is one that another took away.
        assert_ne!(bed.bench.undo_blindly(&killed).await, Ok(Undone::Removed));
        let mut intent = it.intent.clone();
        intent["placing"]["removing"] = true.into();
        let (kind, step) = ("ssh".into(), bed.bench.cx.step.clone());
        let noted = Intended { kind, step, attempt: 2, on: None, params, intent, is_derived: true };
        bed.bench.cx.chronicle.add(noted);
        assert_eq!(bed.bench.undo_blindly(&killed).await, Ok(Undone::Removed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_not_the_beginning_of_the_source_is_begun_anew() {
    let mut other = data();
    other[500_000] ^= 1;
    let longer = [data(), b"more".to_vec()].concat();
    for upload in [true, false] {
        for part in [&other[..1_000_000], &longer] {
            let mut bed = bed();
            let params = if upload { bed.upload() } else { bed.download() };
            let killed = bed.bench.intend("ssh", params.clone()).await;
            fs::write(beside(&killed), part).expect("written");
            let it = bed.next_attempt(params).await;
            assert_eq!(sent(&it.result.expect("arrives")), (SIZE as u64, None));
            bed.assert_whole();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_undo_removes_a_part() {
    for upload in [true, false] {
        let bed = bed();
        let params = if upload { bed.upload() } else { bed.download() };
        let (it, ()) = tokio::join!(bed.bench.start("ssh", params), async {
            bed.stands().await;
            bed.bench.cancel.cancel();
        });
        assert_eq!(it.result.as_ref().map_err(|error| error.class), Err(ErrorClass::Cancelled));
        assert!(beside(&it).exists());
        // The undo is not part of what was cancelled.
        let mut bench = bed.bench;
        bench.cx.cancel = engine::host::Cancel::never();
        assert!(matches!(bench.presence(&it).await, Ok(Presence::Present(_))));
        assert_eq!(bench.undo_blindly(&it).await, Ok(Undone::NothingToDo));
        assert_eq!(bench.presence(&it).await, Ok(Presence::Gone));
        assert!(!beside(&it).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changes_meanwhile_is_not_put_in_place() {
    let bed = bed();
    let (it, ()) = tokio::join!(bed.bench.start("ssh", bed.upload()), async {
        bed.stands().await;
        let mut source = fs::File::options().write(true).open(bed.bench.path("source")).expect("opened");
        source.seek(SeekFrom::End(-1)).and_then(|_| source.write_all(b"!")).expect("written");
        bed.open();
    });
    let error = it.result.as_ref().expect_err("refused");
    assert_eq!(error.class, ErrorClass::Busy, "{error:?}");
    assert!(error.message.contains("changed while it was carried"), "{error:?}");
    assert!(!bed.bench.path("far/it").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_through_a_link_at_the_place_of_the_part() {
    for upload in [true, false] {
        for length in [1_000, SIZE] {
            let mut bed = bed();
            let params = if upload { bed.upload() } else { bed.download() };
            let killed = bed.bench.intend("ssh", params.clone()).await;
            let (theirs, content) = (bed.bench.path("theirs"), &data()[..length]);
            fs::write(&theirs, content).expect("written");
            fs::set_permissions(&theirs, fs::Permissions::from_mode(0o604)).expect("set");
            symlink(&theirs, beside(&killed)).expect("made");
            let error: StepError = bed.next_attempt(params).await.result.expect_err("refused");
            assert!(!error.outcome_unknown, "{error:?}");
            assert!(fs::read(&theirs).expect("there") == content);
            assert_eq!(fs::metadata(&theirs).expect("there").permissions().mode() & 0o777, 0o604);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_waits_for_its_host_until_it_is_back() {
    let mut bed = bed();
    let port = bed.sshd.port();
    let params = bed.upload();
    let bench = &bed.bench;
    let files = || fs::read_dir(bench.path("far")).expect("there").count();
    let (gate, sshd) = (bed.gate.path(), &mut bed.sshd);
    let (out, ()) = tokio::join!(bench.run("ssh", params), async {
        until("it stands at the gate", async || gate.join("shut").exists() && files() == 1).await;
        sshd.stop();
        fs::write(gate.join("open"), "").expect("written");
        // It tries while nobody serves there.
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        for _ in 0..3 {
            drop(listener.accept().await.expect("a try"));
        }
        drop(listener);
        sshd.start_again();
    });
    let (_, at) = sent(&out.expect("arrives"));
    assert!(at.is_some(), "it went on");
    bed.assert_whole();
}
