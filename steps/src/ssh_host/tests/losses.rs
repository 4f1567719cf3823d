//! Hosts that go away: what reads is run again, what was never sent waits, all else is told as unknown.

use super::{alive, bed, daemons, pids, sh};
use crate::testing::until;
use engine::{
    ErrorClass,
    host::{Cancel, Exec},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fs, path::Path};

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_leaves_the_outcome_unknown_and_the_command_ends() {
    let bed = bed().await;
    let file = bed.at("pids");
    let host = bed.host.clone();
    let command = sh(&format!("echo $$ >> {file}; exec sleep 1000"));
    let running = tokio::spawn(async move { host.exec(command, &Cancel::never()).await });
    until("it runs", async || pids(&file).len() == 1).await;
    bed.sshd.break_connections();
    let error = running.await.expect("no panic").expect_err("lost");
    assert_eq!(error.class, ErrorClass::Unreachable);
    assert!(error.outcome_unknown, "{error:?}");
    until("it is gone", async || !pids(&file).into_iter().any(alive)).await;
    let again = bed.exec(Exec::new(["echo", "back"])).await.expect("a new connection is made");
    assert_eq!(again.stdout_text(), "back\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeatable_command_is_run_again_after_a_broken_connection() {
    let bed = bed().await;
    let file = bed.at("pids");
    let host = bed.host.clone();
    let script = format!("echo $$ >> {file}; [ \"$(wc -l < {file})\" = 2 ] || exec sleep 1000; echo second");
    let running = tokio::spawn(async move { host.exec(sh(&script).repeatable(), &Cancel::never()).await });
    until("it runs", async || pids(&file).len() == 1).await;
    bed.sshd.break_connections();
    assert_eq!(running.await.expect("no panic").expect("runs").stdout_text(), "second\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_command_left_is_gone_before_the_next_begins() {
    let bed = bed().await;
    let file = bed.at("pids");
    let host = bed.host.clone();
    let command = sh(&format!("{}; wait; sleep 1000", daemons(&file)));
    let running = tokio::spawn(async move { host.exec(command, &Cancel::never()).await });
    until("all run", async || pids(&file).len() == 5).await;
    bed.sshd.break_connections();
    assert!(running.await.expect("no panic").expect_err("lost").outcome_unknown);
    // The watchdog would leave them two seconds; the next command does not begin beside them.
    bed.exec(Exec::new(["true"])).await.expect("runs");
    assert!(!pids(&file).into_iter().any(alive));
}

/// The processes whose arguments hold this text.
fn with_argument(text: &Path) -> Vec<i32> {
    let text = text.display().to_string();
    let all = fs::read_dir("/proc").expect("read").flatten();
    let has = |pid: &i32| {
        let argv = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&argv).contains(&text)
    };
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(has).collect()
}

fn lines(path: &str) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_begin_while_their_host_is_away_run_once_when_it_is_back() {
    let mut bed = bed().await;
    let (reads, changes) = (bed.at("reads"), bed.at("changes"));
    let port = bed.sshd.port();
    bed.sshd.stop();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
    let start = |exec: Exec| {
        let host = bed.host.clone();
        tokio::spawn(async move { host.exec(exec, &Cancel::never()).await })
    };
    let running =
        [start(sh(&format!("echo >> {reads}")).repeatable()), start(sh(&format!("echo >> {changes}")))];
    for _ in 0..3 {
        drop(listener.accept().await.expect("a try to connect"));
    }
    assert_eq!((lines(&reads), lines(&changes)), (0, 0));
    drop(listener);
    bed.sshd.start_again();
    for one in running {
        assert!(one.await.expect("no panic").expect("runs").success());
    }
    assert_eq!((lines(&reads), lines(&changes)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_command_that_reads_is_repeated_when_its_host_is_back_and_another_is_not() {
    let mut bed = bed().await;
    let (reads, changes) = (bed.at("reads"), bed.at("changes"));
    let start = |exec: Exec| {
        let host = bed.host.clone();
        tokio::spawn(async move { host.exec(exec, &Cancel::never()).await })
    };
    let once = |file: &str| sh(&format!("echo $$ >> {file}; [ $(wc -l < {file}) = 2 ] || exec sleep 1000"));
    let (reading, changing) = (start(once(&reads).repeatable()), start(once(&changes)));
    until("both run", async || lines(&reads) == 1 && lines(&changes) == 1).await;
    bed.sshd.stop();
    let error = changing.await.expect("no panic").expect_err("it is not known what it did");
    assert!(error.class == ErrorClass::Unreachable && error.outcome_unknown, "{error:?}");
    bed.sshd.start_again();
    assert!(reading.await.expect("no panic").expect("runs").success());
    assert_eq!((lines(&reads), lines(&changes)), (2, 1));
    assert!(!pids(&changes).into_iter().any(alive));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_never_there_is_not_waited_for() {
    let mut sshd = super::Sshd::start();
    sshd.stop();
    let dir = tempfile::tempdir().expect("made");
    let host = super::connect(dir.path(), &sshd.spec("nas")).await.expect("nothing is asked yet");
    let error = host.exec(Exec::new(["true"]).repeatable(), &Cancel::never()).await.expect_err("refused");
    assert!(error.class == ErrorClass::Unreachable && !error.outcome_unknown, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_master_is_replaced() {
    let bed = bed().await;
    let masters = with_argument(&bed.dir.path().join("ssh"));
    assert_eq!(masters.len(), 1, "{masters:?}");
    kill(Pid::from_raw(masters[0]), Signal::SIGKILL).expect("killed");
    until("it is gone", async || !alive(masters[0])).await;
    assert_eq!(bed.exec(Exec::new(["echo", "again"])).await.expect("runs").stdout_text(), "again\n");
}

/// The connection hangs so long that the watchdog on the host ends the commands, and is then as before.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_that_the_watchdog_makes_is_not_taken_for_the_end_of_the_command() {
    let bed = bed().await;
    let (reads, changes, data) = (bed.at("reads"), bed.at("changes"), bed.at("data"));
    let start = |exec: Exec| {
        let host = bed.host.clone();
        tokio::spawn(async move { host.exec(exec, &Cancel::never()).await })
    };
    let once =
        |file: &str| sh(&format!("echo $$ >> {file}; [ $(wc -l < {file}) = 2 ] || sleep 1000; exit 5"));
    let with_data = once(&data).stdin(engine::host::Stdin::Bytes(b"data".to_vec()));
    let reading = start(once(&reads).repeatable());
    let changing = [start(once(&changes)), start(with_data)];
    let first = |file: &String| pids(file).first().copied();
    until("all run", async || [&reads, &changes, &data].into_iter().all(|file| first(file).is_some())).await;
    let masters = with_argument(&bed.dir.path().join("ssh"));
    kill(Pid::from_raw(masters[0]), Signal::SIGSTOP).expect("stopped");
    // The patience of the watchdog is twenty seconds.
    for _ in 0..2 {
        let gone = |file: &String| !first(file).is_some_and(alive);
        let all_gone = async || [&reads, &changes, &data].into_iter().all(gone);
        if tokio::time::timeout(std::time::Duration::from_secs(29), until("they are gone", all_gone))
            .await
            .is_ok()
        {
            break;
        }
    }
    kill(Pid::from_raw(masters[0]), Signal::SIGCONT).expect("goes on");
    assert_eq!(reading.await.expect("no panic").expect("runs").code, Some(5));
    for one in changing {
        let error = one.await.expect("no panic").expect_err("it is not known what it did");
        assert!(error.class == ErrorClass::Unreachable && error.outcome_unknown, "{error:?}");
    }
    assert_eq!((lines(&reads), lines(&changes), lines(&data)), (2, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_read_its_data_ends_when_it_is_cancelled() {
    let bed = bed().await;
    let file = bed.at("pid");
    let command = sh(&format!("echo $$ >> {file}; exec sleep 1000"));
    // Line feeds, such as the beats that keep it going.
    let command = command.stdin(engine::host::Stdin::Bytes(vec![b'\n'; 8 << 20]));
    let (source, cancel) = engine::host::CancelSource::new();
    let host = bed.host.clone();
    let running = tokio::spawn(async move { host.exec(command, &cancel).await });
    until("it runs", async || lines(&file) == 1).await;
    source.cancel();
    let error = running.await.expect("no panic").expect_err("cancelled");
    assert!(error.class == ErrorClass::Cancelled && !error.outcome_unknown, "{error:?}");
    assert!(!pids(&file).into_iter().any(alive));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_unread_does_not_keep_it_going() {
    let bed = bed().await;
    let file = bed.at("pid");
    // It goes on after it has closed its stdin.
    let command = sh(&format!("exec </dev/null; echo $$ >> {file}; exec sleep 1000"));
    let command = command.stdin(engine::host::Stdin::Bytes(b"\n\n data\n".repeat(1 << 20)));
    let host = bed.host.clone();
    let running = tokio::spawn(async move { host.exec(command, &Cancel::never()).await });
    until("it runs", async || lines(&file) == 1).await;
    bed.sshd.break_connections();
    assert!(running.await.expect("no panic").expect_err("lost").outcome_unknown);
    until("it is gone", async || !pids(&file).into_iter().any(alive)).await;
}
