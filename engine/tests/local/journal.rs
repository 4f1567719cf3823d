//! The journal on disk: one owner, a prefix after any damage to its log, and no touch on what is damaged for good.

use crate::support::{Stage, StepExt, step};
use engine::{
    event::{Phase, Purpose, Record, RunEvent, StepId, Verdict},
    journal::{
        Journal, JournalError,
        sqlite::{RunJournal, Store},
    },
    plan::Plan,
};
use proptest::prelude::*;
use std::{fs, path::Path, time::Duration};

fn plan(id: &str) -> Plan {
    let mut plan = Stage::new(vec![step(Phase::Prepare, "a"), step(Phase::Cleanup, "z").needs(&[])]).plan;
    plan.run.id = id.into();
    plan
}

fn events(count: usize) -> Vec<RunEvent> {
    let start = RunEvent::RunStarted { version: 1, plan: "x".repeat(50), playbook: "测试".into() };
    let rest = (1..count).map(|i| RunEvent::StepKept { step: StepId(i) });
    std::iter::once(start).chain(rest).collect()
}

async fn write(journal: &mut RunJournal, events: &[RunEvent]) -> Vec<Record> {
    let mut records = Vec::new();
    for event in events {
        records.push(journal.append(event).await.expect("writes"));
    }
    records
}

fn fails<T: std::fmt::Debug>(result: Result<T, JournalError>) -> JournalError {
    result.expect_err("is refused")
}

#[tokio::test]
async fn a_run_whose_owner_lives_is_never_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut journal = store.create(&plan("01A")).unwrap();
    write(&mut journal, &events(2)).await;
    let other = Store::open(dir.path()).unwrap();
    assert!(other.find("01A").unwrap().alive);
    let error = fails(other.take_over("01A"));
    assert!(error.message.contains("under way") && error.message.contains(&std::process::id().to_string()));
    // Whatever the row says of its process: the lock alone tells, so a number that was given out again is no matter.
    drop(journal);
    assert!(other.find("01A").unwrap().is_dead());
    assert_eq!(other.take_over("01A").unwrap().history.len(), 2);
}

#[tokio::test]
async fn an_owner_that_lost_its_run_writes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut stale = store.create(&plan("01A")).unwrap();
    write(&mut stale, &events(2)).await;
    // The one way to lose a lock and live: somebody takes its file away.
    fs::remove_file(dir.path().join("locks/01A.lock")).unwrap();
    let mut taken = store.take_over("01A").unwrap();
    let error = stale.append(&RunEvent::StepKept { step: StepId(9) }).await.unwrap_err();
    assert!(error.not_owner, "{error:?}");
    let record =
        taken.journal.append(&RunEvent::RunTakenOver { purpose: Purpose::Undo, lost: 0 }).await.unwrap();
    assert_eq!(record.seq, 2);
    assert_eq!(store.load("01A").unwrap().1.len(), 3);
}

#[tokio::test]
async fn a_run_that_is_over_is_not_recovered_and_leaves_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut journal = store.create(&plan("01A")).unwrap();
    assert!(dir.path().join("scratch/01A.reserve").exists());
    write(&mut journal, &[RunEvent::RunFinished { verdict: Verdict::Passed }]).await;
    drop(journal);
    assert!(fails(store.take_over("01A")).message.contains("is over"));
    let files = |folder: &str| fs::read_dir(dir.path().join(folder)).unwrap().count();
    assert_eq!(files("scratch"), 0);
    fs::write(dir.path().join("locks/01B.lock"), "").unwrap();
    store.prune(Duration::from_secs(3600)).unwrap();
    assert_eq!(files("locks"), 0);
}

#[tokio::test]
async fn pruning_forgets_what_is_over_and_never_what_died() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut over = store.create(&plan("01OVER")).unwrap();
    write(&mut over, &[RunEvent::RunFinished { verdict: Verdict::Passed }]).await;
    let mut alive = store.create(&plan("01LIVES")).unwrap();
    write(&mut alive, &events(2)).await;
    drop(store.create(&plan("01DIED")).unwrap());
    let pruned = store.prune(Duration::from_secs(3600)).unwrap();
    assert_eq!((pruned.runs, pruned.open), (0, 0), "none is so old");
    // Until the clock has moved on by a millisecond, nothing has ended before now.
    while store.prune(Duration::ZERO).unwrap().runs == 0 {}
    let mut ids: Vec<String> = store.runs().unwrap().into_iter().map(|row| row.id).collect();
    ids.sort();
    assert_eq!(ids, ["01DIED", "01LIVES"]);
    assert!(dir.path().join("locks/01LIVES.lock").exists());
    assert!(dir.path().join("scratch/01DIED.reserve").exists());
    write(&mut alive, &events(1)).await;
}

/// A copy of the journal as a power cut would leave it: the log has not been written back.
fn copy(from: &Path, to: &Path) {
    for name in ["journal.sqlite", "journal.sqlite-wal"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Cut,
    Overwrite(usize),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_torn_log_opens_and_holds_a_prefix(at in 0.0..1.0f64, damage in prop_oneof![Just(Damage::Cut), (1usize..200).prop_map(Damage::Overwrite)]) {
        let (dir, torn) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut journal = store.create(&plan("01A")).unwrap();
        let written = runtime.block_on(write(&mut journal, &events(30)));
        copy(dir.path(), torn.path());
        let path = torn.path().join("journal.sqlite-wal");
        let mut log = fs::read(&path).unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an offset")]
        let offset = (log.len() as f64 * at) as usize;
        match damage {
            Damage::Cut => log.truncate(offset),
            Damage::Overwrite(count) => log.iter_mut().skip(offset).take(count).for_each(|byte| *byte ^= 0xA5),
        }
        fs::write(&path, log).unwrap();
        fs::create_dir(torn.path().join("locks")).unwrap();
        fs::copy(dir.path().join("locks/01A.lock"), torn.path().join("locks/01A.lock")).unwrap();
        let store = Store::open(torn.path()).unwrap();
        // What was lost is known, although the log itself looks whole.
        match store.runs().unwrap().is_empty() {
            true => prop_assert_eq!(store.lost_runs().unwrap()[0].records, 30),
            false => {
                let taken = store.take_over("01A").unwrap();
                let held = taken.history.len();
                prop_assert_eq!(&taken.history[..], &written[..held], "a prefix of what was acknowledged");
                prop_assert_eq!(taken.lost, 30 - u64::try_from(held).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn a_journal_that_is_damaged_is_named_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Store::open(dir.path()).unwrap();
        let mut journal = store.create(&plan("01A")).unwrap();
        write(&mut journal, &events(200)).await;
    }
    let path = dir.path().join("journal.sqlite");
    let whole = fs::read(&path).unwrap();
    let flipped = |from: usize, count: usize| {
        let mut bytes = whole.clone();
        bytes.iter_mut().skip(from).take(count).for_each(|byte| *byte ^= 0x5A);
        bytes
    };
    for (what, bytes) in [
        ("its header", flipped(0, 40)),
        ("its pages", flipped(4096, 6000)),
        ("cut in the middle of a page", whole[..whole.len() / 2 + 100].to_vec()),
        ("another file", "name: a playbook\n".repeat(500).into_bytes()),
    ] {
        fs::write(&path, &bytes).unwrap();
        let error = fails(Store::open(dir.path()));
        assert!(error.message.contains("journal.sqlite"), "{what}: {error:?}");
        let hint = error.hint.unwrap_or_default();
        assert!(hint.contains("not been touched") && hint.contains("mv "), "{what}: {hint}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{what}: not a byte is changed");
    }
}

#[tokio::test]
async fn an_empty_journal_with_a_log_is_not_taken_for_a_new_one() {
    let (dir, copied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(dir.path()).unwrap();
    let mut journal = store.create(&plan("01A")).unwrap();
    write(&mut journal, &events(3)).await;
    copy(dir.path(), copied.path());
    fs::write(copied.path().join("journal.sqlite"), "").unwrap();
    let log = fs::read(copied.path().join("journal.sqlite-wal")).unwrap();
    assert!(fails(Store::open(copied.path())).message.contains("it is empty, but its log is not"));
    assert_eq!(fs::read(copied.path().join("journal.sqlite-wal")).unwrap(), log);
}
