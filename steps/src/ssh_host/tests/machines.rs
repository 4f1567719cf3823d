//! Which machine a name leads to, and what stays of commands there: nothing, however they try, and nothing of theirs is ended
//! by a recovery but what died.

use super::{Bed, alive, bed, pids, sh};
use crate::{
    ssh_host::{SshConnector, sshd::Sshd},
    testing::until,
};
use engine::{
    ErrorClass,
    host::{Cancel, Connector, Exec, Host, HostSpec},
};
use std::{fs, path::Path, sync::Arc};

/// A daemon in a session of its own whose parent is gone and whose environment is empty.
fn escape(file: &str) -> String {
    format!(
        "(env -i setsid sh -c 'echo $$ >>{file}; exec sleep 1000' &) ; while [ ! -s {file} ]; do sleep 0.01; done"
    )
}

fn groups_of(run: &str) -> usize {
    let text = std::process::Command::new("find").arg("/sys/fs/cgroup").output().expect("find runs").stdout;
    String::from_utf8_lossy(&text)
        .lines()
        .filter(|line| line.contains(run) && line.contains("shakedown-"))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_clears_its_environment_ends_with_its_command() {
    let bed = bed().await;
    let file = bed.at("pids");
    let output = bed.exec(sh(&escape(&file))).await.expect("runs");
    assert_eq!((output.code, output.left_behind), (Some(0), 1));
    assert!(!pids(&file).into_iter().any(alive));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_also_when_the_connection_breaks() {
    let bed = bed().await;
    let file = bed.at("pids");
    let (host, command) = (bed.host.clone(), sh(&format!("{}; exec sleep 1000", escape(&file))));
    let running = tokio::spawn(async move { host.exec(command, &Cancel::never()).await });
    until("it runs", async || pids(&file).len() == 1).await;
    bed.sshd.break_connections();
    assert!(running.await.expect("no panic").expect_err("lost").outcome_unknown);
    until("it is gone", async || !pids(&file).into_iter().any(alive)).await;
}

async fn connect(connector: &SshConnector, spec: &HostSpec) -> Arc<dyn Host> {
    connector.connect(spec).await.expect("nothing is asked yet")
}

fn of_run(dir: &Path, run: &str) -> SshConnector {
    SshConnector::new(dir.join("ssh")).of_run(run)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_ends_what_a_dead_run_left_once_for_a_machine_and_none_of_its_own() {
    let Bed { sshd, dir, .. } = bed().await;
    let at = |name: &str| dir.path().join(name).display().to_string();
    let run = "RUNOFTHETESTS1";
    let dead = connect(&of_run(&dir.path().join("dead"), run), &sshd.spec("nas")).await;
    let (left, lives) = (at("left"), at("lives"));
    let command = sh(&format!("{}; exec sleep 1000", escape(&left)));
    let dies = tokio::spawn(async move { dead.exec(command, &Cancel::never()).await });
    until("it runs", async || pids(&left).len() == 1).await;
    assert!(groups_of(run) > 0);
    let recovery = of_run(dir.path(), run).after_a_death();
    let first = connect(&recovery, &sshd.spec("nas")).await;
    let script = format!("echo $$ >{lives}; while [ ! -e {} ]; do sleep 0.01; done", at("end"));
    let undo = {
        let first = first.clone();
        tokio::spawn(async move { first.exec(sh(&script), &Cancel::never()).await })
    };
    until("the undo runs", async || pids(&lives).len() == 1).await;
    assert!(!pids(&left).into_iter().any(alive), "it was ended before");
    // The same machine by another name.
    let second = connect(&recovery, &sshd.spec("also")).await;
    assert!(second.exec(Exec::new(["true"]), &Cancel::never()).await.expect("runs").success());
    assert!(pids(&lives).into_iter().all(alive));
    fs::write(at("end"), "").expect("written");
    assert!(undo.await.expect("no panic").expect("its end is seen").success());
    assert_ne!(dies.await.expect("no panic").map(|output| output.code).ok(), Some(Some(0)));
    until("no group is left", async || groups_of(run) == 0).await;
    first.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_the_same_at_another_address_and_another_one_is_refused() {
    let mut there = Sshd::start();
    let moved = Sshd::start();
    let other = Sshd::start_with(
        "ForceCommand exec unshare --uts /bin/sh -c 'hostname other; exec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"'",
    );
    let dir = tempfile::tempdir().expect("made");
    let connector = SshConnector::new(dir.path().join("ssh"));
    let never = Cancel::never();
    let identity = async |spec: &HostSpec| {
        connect(&connector, spec).await.identity(&never).await.expect("is asked").expect("has one")
    };
    let first = identity(&there.spec("a")).await;
    assert_eq!(first, identity(&moved.spec("b")).await);
    let second = identity(&other.spec("c")).await;
    assert!(second != first && second.starts_with("other ("), "{first}, {second}");
    // A name that leads elsewhere while the run goes on.
    let config = dir.path().join("config");
    let lead = |to: &Sshd| {
        let text = format!("Host box\n HostName 127.0.0.1\n Port {}\n", to.port());
        fs::write(&config, text).expect("written");
    };
    let known =
        [&there, &moved, &other].map(|one| fs::read_to_string(one.path("known_hosts")).expect("read"));
    fs::write(dir.path().join("known"), known.concat()).expect("written");
    let keys = [&there, &moved, &other].map(|one| fs::read_to_string(one.path("authorized")).expect("read"));
    for one in [&there, &moved, &other] {
        fs::write(one.path("authorized"), keys.concat()).expect("written");
    }
    let spec = HostSpec {
        ssh: "box".into(),
        config: Some(config.display().to_string()),
        known_hosts: Some(dir.path().join("known").display().to_string()),
        ..there.spec("box")
    };
    lead(&there);
    let host = connect(&connector, &spec).await;
    assert!(host.exec(Exec::new(["true"]), &never).await.expect("runs").success());
    lead(&moved);
    there.stop();
    assert!(host.exec(Exec::new(["true"]).repeatable(), &never).await.expect("runs").success());
    lead(&other);
    moved.break_connections();
    drop(moved);
    let file = dir.path().join("file");
    let touch = Exec::new(["touch".to_owned(), file.display().to_string()]).repeatable();
    let error = host.exec(touch, &never).await.expect_err("refused");
    assert_eq!(error.class, ErrorClass::Denied, "{error:?}");
    assert!(error.message.contains("another machine now, `other ("), "{error:?}");
    assert!(!file.exists());
    host.close().await;
}
