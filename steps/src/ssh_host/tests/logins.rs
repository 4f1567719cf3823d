//! Logins that print, speak another language, allow few commands at once, or whose users silence ssh.

use super::{connect, refusal, sh};
use crate::{
    ssh_host::{SshConnector, sshd::Sshd},
    testing::Bench,
};
use engine::{
    ErrorClass,
    host::{Cancel, Exec},
    step::Undone,
};
use serde_json::json;
use std::{fs, sync::Arc};

/// What a login prints before a command and after it, on both streams, and beside it.
const NOISY: &str = "ForceCommand echo Welcome; printf 'no news' >&2; set -v; sh -c \"$SSH_ORIGINAL_COMMAND\"; echo bye; echo bye >&2\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_login_prints_is_no_output_of_a_command() {
    let (sshd, dir) = (Sshd::start_with_first(NOISY), tempfile::tempdir().expect("made"));
    let host = connect(dir.path(), &sshd.spec("nas")).await.expect("nothing is asked yet");
    let never = Cancel::never();
    let output = host.exec(sh("echo out; printf err >&2; exit 7"), &never).await.expect("runs");
    assert_eq!((output.code, output.stdout_bytes), (Some(7), 4));
    assert_eq!((output.stdout_text().as_ref(), output.stderr.as_slice()), ("out\n", &b"err"[..]));
    let mut download = sh("printf '%s' \"$(seq 100000)\"");
    download.stdout_file = Some(dir.path().join("back"));
    host.exec(download, &never).await.expect("runs");
    let back = fs::read_to_string(dir.path().join("back")).expect("there");
    assert!(back.starts_with("1\n2\n") && back.ends_with("\n100000"), "{}", back.len());
    let missing = host.exec(Exec::new(["no-such-program"]), &never).await.expect_err("is not there");
    assert_eq!(missing.class, ErrorClass::NotFound, "{missing:?}");
}

/// A login in another language, which prints, too.
const FOREIGN: &str = "ForceCommand echo Willkommen; export LC_ALL=C.UTF-8 LANG=C.UTF-8 LANGUAGE=de:zh_CN; sh -c \"$SSH_ORIGINAL_COMMAND\"; echo bye\n";

#[tokio::test(flavor = "multi_thread")]
async fn steps_understand_a_host_in_another_language() {
    let sshd = Sshd::start_with_first(FOREIGN);
    let mut bench = Bench::with_hosts(|dir| Arc::new(SshConnector::new(dir)), [sshd.spec("nas")]);
    let local = bench.run("disk", json!({ "path": "/" })).await.expect("measures");
    bench.cx.host = bench.cx.services.host(Some("nas")).await.expect("connects");
    let remote = bench.run("disk", json!({ "path": "/" })).await.expect("measures");
    assert_eq!(remote["total"], local["total"]);
    let path = bench.at("made.txt");
    let made = bench.start("file", json!({ "create": path, "size": 4 })).await;
    assert!(made.result.is_ok(), "{:?}", made.result);
    let seen = bench.run("file", json!({ "stat": path })).await.expect("is seen");
    assert_eq!((&seen["kind"], &seen["size"]), (&json!("file"), &json!(4)));
    let gone = bench.run("file", json!({ "stat": bench.at("never") })).await.expect("is seen");
    assert_eq!(gone["exists"], json!(false));
    let hash = bench.run("hash", json!({ "path": path })).await.expect("is read");
    assert_eq!(hash["size"], json!(4), "{hash}");
    assert_eq!(bench.undo(&made).await.expect("undone"), Undone::Removed);
    assert!(!std::path::Path::new(&path).exists(), "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_prints_instead_of_running_is_told_with_what_it_says() {
    let sshd = Sshd::start_with_first("ForceCommand echo This account is not available; exit 1\n");
    let dir = tempfile::tempdir().expect("made");
    let error = refusal(dir.path(), &sshd.spec("nas")).await;
    assert_eq!(error.class, ErrorClass::Unsupported, "{error:?}");
    assert!(error.details.iter().any(|line| line.contains("not available")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_allows_few_commands_on_a_connection_is_given_more_connections() {
    for most in [1, 2] {
        let sshd = Sshd::start_with_first(&format!("MaxSessions {most}\n"));
        let dir = tempfile::tempdir().expect("made");
        let host = connect(dir.path(), &sshd.spec("nas")).await.expect("nothing is asked yet");
        // All but the last wait for what the last one makes: they must all run at the same time.
        let wait = "until [ -e \"$0\" ]; do sleep 0.1; done";
        let made = dir.path().join("made").display().to_string();
        let command = |script: &str| Exec::new(["sh", "-c", script, &made]);
        let never = Cancel::never();
        let waiting = (0..6).map(|_| host.exec(command(wait), &never));
        let last = host.exec(command("touch \"$0\""), &never);
        let (waited, last) = tokio::join!(futures_util::future::join_all(waiting), last);
        for output in waited.into_iter().chain([last]) {
            assert!(output.expect("runs").success());
        }
        // And many more than may run at once.
        let many = (0..20).map(|_| host.exec(Exec::new(["true"]), &never));
        for output in futures_util::future::join_all(many).await {
            assert!(output.expect("runs").success());
        }
        host.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_allows_no_command_says_so() {
    let sshd = Sshd::start_with_first("MaxSessions 0\n");
    let dir = tempfile::tempdir().expect("made");
    let error = refusal(dir.path(), &sshd.spec("nas")).await;
    assert_eq!(error.class, ErrorClass::Busy, "{error:?}");
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("MaxSessions")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ssh_that_its_user_has_silenced_still_says_what_is_wrong() {
    let (sshd, dir) = (Sshd::start(), tempfile::tempdir().expect("made"));
    let config = dir.path().join("config");
    fs::write(&config, "LogLevel QUIET\n").expect("written");
    let empty = dir.path().join("empty");
    fs::write(&empty, "").expect("written");
    let spec = |known: &std::path::Path| engine::host::HostSpec {
        config: Some(config.display().to_string()),
        known_hosts: Some(known.display().to_string()),
        ..sshd.spec("nas")
    };
    let error = refusal(dir.path(), &spec(&empty)).await;
    assert_eq!(error.class, ErrorClass::Denied, "{error:?}");
    let stranger = engine::host::HostSpec {
        identity: Some(sshd.path("host").display().to_string()),
        ..spec(&sshd.path("known_hosts"))
    };
    let error = refusal(dir.path(), &stranger).await;
    assert_eq!(error.class, ErrorClass::Denied, "{error:?}");
}
