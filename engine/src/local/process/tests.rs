//! Everything here runs real processes.

use super::{Background, LocalHost, Tree, proc_fs, spawn_background};
use crate::{
    error::{ErrorClass, StepError},
    host::{Cancel, CancelSource, Exec, Host, Output, Stdin},
};
use nix::sys::signal::Signal;
use std::{fs, path::Path, time::Duration};

async fn exec(exec: Exec) -> Result<Output, StepError> {
    LocalHost::new().exec(exec, &Cancel::never()).await
}

fn sh(script: &str) -> Exec {
    Exec::new(["sh", "-c", script])
}

/// Asks until it holds. The limit only ends a test that would hang.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true: {what}");
}

/// How many lines the file has, each of which is a pid.
fn pids(path: &Path) -> Vec<u32> {
    fs::read_to_string(path).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
}

fn alive(pid: u32) -> bool {
    proc_fs::one(pid).expect("looked").is_some_and(|process| !process.zombie)
}

#[tokio::test]
async fn the_exit_status_and_both_streams_come_back() {
    let output = exec(sh("echo out; echo err >&2; exit 7")).await.expect("runs");
    assert_eq!((output.code, output.signal), (Some(7), None));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(output.left_behind, 0);
}

#[tokio::test]
async fn the_signal_that_ended_it_comes_back() {
    let output = exec(sh("kill -9 $$")).await.expect("runs");
    assert_eq!((output.code, output.signal), (None, Some(9)));
}

#[tokio::test]
async fn environment_and_directory_are_set() {
    let dir = tempfile::tempdir().expect("made");
    let mut command = sh("pwd; printf %s \"$SHAKEDOWN_T\"").env("SHAKEDOWN_T", "a b\n`c`");
    command.dir = Some(dir.path().display().to_string());
    let output = exec(command).await.expect("runs");
    assert_eq!(output.stdout_text(), format!("{}\na b\n`c`", dir.path().display()));
}

#[tokio::test]
async fn hostile_arguments_arrive_as_they_are() {
    let dir = tempfile::tempdir().expect("made");
    let hostile =
        ["$(touch X)", "`touch X`", "; touch X", "a\nb", "'\"\\", "-rf", "", "*", "文件 名", "\u{202e}x"];
    let mut command = Exec::new(["printf", "%s\\0"]);
    command.argv.extend(hostile.map(str::to_owned));
    command.dir = Some(dir.path().display().to_string());
    let output = exec(command).await.expect("runs");
    let expected: String = hostile.iter().map(|word| format!("{word}\0")).collect();
    assert_eq!(output.stdout_text(), expected);
    assert!(!dir.path().join("X").exists());
}

#[tokio::test]
async fn stdin_is_a_file_or_bytes_or_nothing() {
    let dir = tempfile::tempdir().expect("made");
    let path = dir.path().join("in");
    fs::write(&path, b"\0\xffbinary").expect("written");
    let cat = || Exec::new(["cat"]);
    let output = exec(cat().stdin(Stdin::File(path))).await.expect("runs");
    assert_eq!(output.stdout, b"\0\xffbinary");
    let large = vec![b'x'; 3 << 20];
    let output = exec(cat().stdin(Stdin::Bytes(large.clone())).keep(4 << 20)).await.expect("runs");
    assert_eq!(output.stdout, large);
    assert_eq!(exec(cat()).await.expect("runs").stdout_bytes, 0);
    let unread = exec(Exec::new(["true"]).stdin(Stdin::Bytes(large))).await.expect("runs");
    assert!(unread.success());
}

#[tokio::test]
async fn long_output_is_counted_and_bounded() {
    let output = exec(sh("head -c 100000000 /dev/zero; echo the end").keep(1_000)).await.expect("runs");
    assert_eq!(output.stdout_bytes, 100_000_008);
    assert!(output.stdout.len() < 1_100, "{} bytes", output.stdout.len());
    assert!(output.stdout.ends_with(b"the end\n"));
}

#[tokio::test]
async fn stdout_goes_to_a_file_on_request() {
    let dir = tempfile::tempdir().expect("made");
    let path = dir.path().join("out");
    let mut command = sh("head -c 3000000 /dev/zero");
    command.stdout_file = Some(path.clone());
    let output = exec(command).await.expect("runs");
    assert_eq!((output.stdout_bytes, output.stdout.len()), (3_000_000, 0));
    assert_eq!(fs::metadata(path).expect("there").len(), 3_000_000);
}

#[tokio::test]
async fn a_full_disk_ends_the_command_with_a_typed_error() {
    let mut command = sh("yes");
    command.stdout_file = Some("/dev/full".into());
    assert_eq!(exec(command).await.expect_err("fails").class, ErrorClass::NoSpace);
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let dir = tempfile::tempdir().expect("made");
    let missing = exec(Exec::new(["shakedown-no-such-program"])).await.expect_err("fails");
    assert_eq!(missing.class, ErrorClass::NotFound);
    assert!(missing.message.contains("`shakedown-no-such-program`") && missing.hint.is_some());

    let plain = dir.path().join("plain");
    fs::write(&plain, "text").expect("written");
    let denied = exec(Exec::new([plain.display().to_string()])).await.expect_err("fails");
    assert_eq!(denied.class, ErrorClass::Denied);

    let mut nowhere = Exec::new(["true"]);
    nowhere.dir = Some(dir.path().join("no").display().to_string());
    let nowhere = exec(nowhere).await.expect_err("fails");
    assert_eq!(nowhere.class, ErrorClass::NotFound);
    assert!(nowhere.message.contains("directory"), "{}", nowhere.message);

    assert_eq!(exec(Exec::new(["true", "a\0b"])).await.expect_err("fails").class, ErrorClass::Invalid);
    assert_eq!(exec(Exec::default()).await.expect_err("fails").class, ErrorClass::Invalid);
}

/// A script that starts 50 processes in sessions of their own, which hold stdout, ignore SIGTERM and SIGHUP, and
/// write their pids to the file `pids`.
fn fifty(pids: &Path) -> String {
    format!(
        "for i in $(seq 50); do setsid sh -c 'trap \"\" TERM HUP; echo $$ >> {0}; while :; do sleep 1; done' & done",
        pids.display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_ends_fifty_daemons_that_hold_stdout() {
    let dir = tempfile::tempdir().expect("made");
    let file = dir.path().join("pids");
    let (source, cancel) = CancelSource::new();
    let script = format!("{}; wait", fifty(&file));
    let running = tokio::spawn(async move { LocalHost::new().exec(sh(&script), &cancel).await });
    until("all run", || pids(&file).len() == 50).await;
    source.cancel();
    let error = running.await.expect("no panic").expect_err("cancelled");
    assert_eq!(error.class, ErrorClass::Cancelled);
    assert_eq!(pids(&file).into_iter().filter(|pid| alive(*pid)).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_in_the_background_is_ended_and_counted() {
    let dir = tempfile::tempdir().expect("made");
    let file = dir.path().join("pids");
    let script =
        format!("{}; while [ $(wc -l < {1}) -lt 50 ]; do :; done; echo up", fifty(&file), file.display());
    let output = exec(sh(&script)).await.expect("runs");
    assert_eq!(output.stdout_text(), "up\n");
    assert!(output.left_behind >= 50, "{}", output.left_behind);
    assert_eq!(pids(&file).into_iter().filter(|pid| alive(*pid)).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_command_is_ended_with_its_tree() {
    let dir = tempfile::tempdir().expect("made");
    let file = dir.path().join("pids");
    let script = format!("{}; wait", fifty(&file));
    let running = tokio::spawn(exec(sh(&script)));
    until("all run", || pids(&file).len() == 50).await;
    running.abort();
    until("all are gone", || !pids(&file).into_iter().any(alive)).await;
}

#[tokio::test]
async fn an_orphan_without_the_mark_is_found_through_its_group() {
    let dir = tempfile::tempdir().expect("made");
    let file = dir.path().join("pids");
    let script = format!(
        "env -i sh -c 'echo $$ > {0}; exec sleep 1000' & while ! [ -s {0} ]; do :; done",
        file.display()
    );
    let output = exec(sh(&script)).await.expect("runs");
    assert!(output.left_behind >= 1);
    assert!(!pids(&file).into_iter().any(alive));
}

fn background(script: &str, dir: &Path) -> Background {
    spawn_background(&sh(script), &dir.join("log"), Tree::new()).expect("starts")
}

#[tokio::test]
async fn a_background_tree_is_found_and_ended_by_what_was_stored() {
    let dir = tempfile::tempdir().expect("made");
    let mut it = background("echo started; setsid sleep 1000 & exec sleep 1000", dir.path());
    until("both run", || it.tree.members().expect("looked").len() == 2).await;
    let stored = serde_json::to_string(&it.tree).expect("writes");
    let found: Tree = serde_json::from_str(&stored).expect("reads");
    assert!(found.is_alive().expect("looked"));
    assert_eq!(found.end(Signal::SIGTERM, super::GRACE).await.expect("ends"), 2);
    assert!(!it.tree.is_alive().expect("looked"));
    until("its end is known", || it.ended().expect("asked").is_some()).await;
    assert_eq!(fs::read_to_string(dir.path().join("log")).expect("read"), "started\n");
    assert_eq!(found.end(Signal::SIGTERM, super::GRACE).await.expect("ends twice"), 0);
}

#[tokio::test]
async fn a_background_tree_is_found_by_its_mark_alone() {
    let dir = tempfile::tempdir().expect("made");
    let planned = Tree::new();
    let started = spawn_background(&Exec::new(["sleep", "1000"]), &dir.path().join("log"), planned.clone());
    let started = started.expect("starts");
    // In the moment of its start a process shows no environment yet.
    until("it is found", || !planned.members().expect("looked").is_empty()).await;
    assert_eq!(planned.members(), started.tree.members());
    assert_eq!(planned.end(Signal::SIGTERM, super::GRACE).await.expect("ends"), 1);
    assert!(!started.tree.is_alive().expect("looked"));
}

#[tokio::test]
async fn a_reused_pid_is_never_touched() {
    let dir = tempfile::tempdir().expect("made");
    let other = background("exec sleep 1000", dir.path());
    let mut stale = Tree::new();
    stale.root = other.tree.root.map(|mut root| {
        root.start_time -= 1;
        root
    });
    assert_eq!(stale.end(Signal::SIGKILL, Duration::ZERO).await.expect("ends nothing"), 0);
    let mut after_boot = other.tree.clone();
    after_boot.boot_id = "another".into();
    assert_eq!(after_boot.end(Signal::SIGKILL, Duration::ZERO).await.expect("ends nothing"), 0);
    assert!(other.tree.is_alive().expect("looked"));
    assert_eq!(other.tree.end(Signal::SIGKILL, Duration::ZERO).await.expect("ends"), 1);
}

#[tokio::test]
async fn the_commands_of_a_dead_run_are_found_by_its_id_and_no_others() {
    let dir = tempfile::tempdir().expect("made");
    let run = format!("RUN{}", std::process::id());
    let (mine, other) = (LocalHost::of_run(&run), LocalHost::of_run("OTHER"));
    let sleep = |name: &str| sh(&format!("echo $$ > {}; exec sleep 1000", dir.path().join(name).display()));
    let (source, cancel) = CancelSource::new();
    let stays =
        spawn_background(&sleep("stays"), &dir.path().join("log"), Tree::of_run(&run)).expect("starts");
    let (died, lives, ()) =
        tokio::join!(mine.exec(sleep("mine"), &cancel), other.exec(sleep("other"), &cancel), async {
            let started = |name: &str| !pids(&dir.path().join(name)).is_empty();
            until("all run", || started("mine") && started("other") && started("stays")).await;
            assert_eq!(super::end_steps(&run).await.expect("ends"), 1);
            assert!(alive(pids(&dir.path().join("other"))[0]) && stays.tree.is_alive().expect("looked"));
            source.cancel();
        });
    assert_eq!(died.expect("ended").signal, Some(15));
    assert!(lives.is_err());
    assert_eq!(stays.tree.end(Signal::SIGKILL, Duration::ZERO).await.expect("ends"), 1);
}
