//! Against a real sshd on the loopback.

mod logins;
mod losses;
mod machines;
mod values;
mod way;

use super::{SshConnector, link::Destination, sshd::Sshd};
use crate::testing::until;
use engine::{
    ErrorClass, StepError,
    host::{Cancel, CancelSource, Connector, Exec, Host, HostSpec, Output, Stdin},
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};
use tempfile::TempDir;

struct Bed {
    sshd: Sshd,
    dir: TempDir,
    host: Arc<dyn Host>,
}

async fn connect(dir: &Path, spec: &HostSpec) -> Result<Arc<dyn Host>, StepError> {
    SshConnector::new(dir.join("ssh")).connect(spec).await
}

/// Why the first command, which is what connects, does not run.
async fn refusal(dir: &Path, spec: &HostSpec) -> StepError {
    let host = connect(dir, spec).await.expect("nothing is asked yet");
    host.exec(Exec::new(["true"]), &Cancel::never()).await.expect_err("refused")
}

async fn bed() -> Bed {
    let sshd = Sshd::start();
    let dir = tempfile::tempdir().expect("made");
    let host = connect(dir.path(), &sshd.spec("nas")).await.expect("nothing is asked yet");
    host.exec(Exec::new(["true"]), &Cancel::never()).await.expect("connects");
    Bed { sshd, dir, host }
}

impl Bed {
    async fn exec(&self, exec: Exec) -> Result<Output, StepError> {
        self.host.exec(exec, &Cancel::never()).await
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

fn sh(script: &str) -> Exec {
    Exec::new(["sh", "-c", script])
}

fn pids(path: &str) -> Vec<i32> {
    fs::read_to_string(path).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
}

fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_both_streams_come_back() {
    let bed = bed().await;
    let output = bed.exec(sh("echo out; echo err >&2; exit 7")).await.expect("runs");
    assert_eq!((output.code, output.left_behind), (Some(7), 0));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!((output.stdout_bytes, output.stderr_bytes), (4, 4));
    for code in [127, 255] {
        let output = bed.exec(sh(&format!("exit {code}"))).await.expect("runs");
        assert_eq!(output.code, Some(code));
    }
    bed.host.close().await;
    until("the control folder is empty", async || {
        fs::read_dir(bed.dir.path().join("ssh")).expect("there").next().is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stdin_is_bytes_or_a_file_or_nothing() {
    let bed = bed().await;
    let cat = || Exec::new(["cat"]);
    assert_eq!(bed.exec(cat()).await.expect("runs").stdout_bytes, 0);
    let output = bed.exec(cat().stdin(Stdin::Bytes(b"\0\xff\n\n".to_vec()))).await.expect("runs");
    assert_eq!(output.stdout, b"\0\xff\n\n");
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let path = bed.dir.path().join("large");
    fs::write(&path, &large).expect("written");
    let mut command = cat().stdin(Stdin::File(path));
    command.stdout_file = Some(bed.dir.path().join("back"));
    let output = bed.exec(command).await.expect("runs");
    assert_eq!((output.stdout_bytes, output.stdout.len()), (3_000_000, 0));
    assert!(fs::read(bed.dir.path().join("back")).expect("there") == large);
    let unread = bed.exec(Exec::new(["true"]).stdin(Stdin::Bytes(large))).await.expect("runs");
    assert!(unread.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn long_output_is_counted_and_bounded() {
    let bed = bed().await;
    let output =
        bed.exec(sh("head -c 50000000 /dev/zero >&2; echo end >&2").keep(1_000)).await.expect("runs");
    assert_eq!(output.stderr_bytes, 50_000_004);
    assert!(output.stderr.len() < 1_300 && output.stderr.ends_with(b"end\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_says_why() {
    let bed = bed().await;
    let missing = bed.exec(Exec::new(["shakedown-no-such-program"])).await.expect_err("fails");
    assert_eq!(missing.class, ErrorClass::NotFound);
    assert!(missing.message.contains("on `nas`") && !missing.outcome_unknown, "{missing:?}");
    let mut nowhere = Exec::new(["true"]);
    nowhere.dir = Some("/no/such/dir".into());
    let nowhere = bed.exec(nowhere).await.expect_err("fails");
    assert!(nowhere.class == ErrorClass::NotFound && nowhere.message.contains("`/no/such/dir`"));
}

/// Starts daemons that ignore SIGTERM, hold stdout and write their pids to `file`.
fn daemons(file: &str) -> String {
    format!(
        "for i in 1 2 3 4 5; do setsid sh -c 'trap \"\" TERM HUP; echo $$ >> {file}; while :; do sleep 1; done' & done"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_ends_the_command_and_all_that_came_of_it() {
    let bed = bed().await;
    let file = bed.at("pids");
    for stdin in [Stdin::Null, Stdin::Bytes(b"data".to_vec())] {
        let (source, cancel) = CancelSource::new();
        let host = bed.host.clone();
        let command = sh(&format!("{}; wait; sleep 1000", daemons(&file))).stdin(stdin);
        let running = tokio::spawn(async move { host.exec(command, &cancel).await });
        until("all run", async || pids(&file).len() == 5).await;
        source.cancel();
        let error = running.await.expect("no panic").expect_err("cancelled");
        assert_eq!(error.class, ErrorClass::Cancelled);
        assert!(!error.outcome_unknown, "{error:?}");
        assert!(!pids(&file).into_iter().any(alive));
        fs::remove_file(&file).expect("removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_in_the_background_is_ended_and_counted() {
    let bed = bed().await;
    let file = bed.at("pids");
    let script = format!("{}; while [ \"$(wc -l < {file})\" != 5 ]; do :; done; echo up", daemons(&file));
    let output = bed.exec(sh(&script)).await.expect("runs");
    assert_eq!(output.stdout_text(), "up\n");
    assert!(output.left_behind >= 5, "{}", output.left_behind);
    assert!(!pids(&file).into_iter().any(alive));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_command_ends() {
    let bed = bed().await;
    let file = bed.at("pids");
    let host = bed.host.clone();
    let command = sh(&format!("echo $$ > {file}; exec sleep 1000"));
    let running = tokio::spawn(async move { host.exec(command, &Cancel::never()).await });
    until("it runs", async || pids(&file).len() == 1).await;
    running.abort();
    until("it is gone", async || !pids(&file).into_iter().any(alive)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_to_a_silent_host_can_be_cancelled_and_leaves_no_ssh() {
    // Whoever connects to it is never answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = silent.local_addr().expect("bound").port();
    let dir = tempfile::tempdir().expect("made");
    let mut spec = Sshd::start().spec("nas");
    spec.ssh = format!("ssh://127.0.0.1:{port}");
    let control = dir.path().join("ssh");
    let half_made = || {
        let name = control.display().to_string();
        let all = fs::read_dir("/proc").expect("read").flatten();
        all.filter(|entry| {
            let argv = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&argv).contains(&name)
        })
        .count()
    };
    let host = connect(dir.path(), &spec).await.expect("nothing is asked yet");
    let (source, cancel) = CancelSource::new();
    let running = tokio::spawn(async move { host.exec(Exec::new(["true"]), &cancel).await });
    until("ssh runs", async || half_made() > 0).await;
    source.cancel();
    let error = running.await.expect("no panic").expect_err("cancelled");
    assert_eq!(error.class, ErrorClass::Cancelled, "{error:?}");
    assert_eq!(half_made(), 0);
    assert!(fs::read_dir(&control).expect("there").next().is_none(), "its folder is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_eight_commands_run_at_once() {
    let bed = bed().await;
    let dir = bed.at("now");
    fs::create_dir(&dir).expect("made");
    let script = format!("touch {dir}/$$; ls {dir} | wc -l; sleep 0.05; rm {dir}/$$");
    let mut running = Vec::new();
    for _ in 0..30 {
        let (host, command) = (bed.host.clone(), sh(&script));
        running.push(tokio::spawn(async move { host.exec(command, &Cancel::never()).await }));
    }
    for one in running {
        let output = one.await.expect("no panic").expect("runs");
        let at_once: usize = output.stdout_text().trim().parse().expect("a number");
        assert!(at_once <= 8, "{at_once} at once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_key_is_refused_and_never_added() {
    let sshd = Sshd::start();
    let dir = tempfile::tempdir().expect("made");
    let known = dir.path().join("known hosts");
    fs::write(&known, "").expect("written");
    let mut spec = sshd.spec("nas");
    spec.known_hosts = Some(known.display().to_string());
    let error = refusal(dir.path(), &spec).await;
    assert_eq!(error.class, ErrorClass::Denied, "{error:?}");
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("ssh-keyscan")), "{error:?}");
    assert_eq!(fs::read(&known).expect("read"), b"");
    let good = fs::read(sshd.path("known_hosts")).expect("read");
    fs::write(&known, good).expect("written");
    let host = connect(dir.path(), &spec).await.expect("nothing is asked yet");
    host.exec(Exec::new(["true"]), &Cancel::never()).await.expect("a path with a blank works");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_and_a_closed_port_are_told_apart() {
    let mut spec;
    let dir = tempfile::tempdir().expect("made");
    {
        let sshd = Sshd::start();
        spec = sshd.spec("nas");
        spec.identity = Some(sshd.path("host").display().to_string());
        let error = refusal(dir.path(), &spec).await;
        assert_eq!(error.class, ErrorClass::Denied, "{error:?}");
        assert!(error.message.contains("refused the login"), "{error:?}");
    }
    let error = refusal(dir.path(), &spec).await;
    assert_eq!(error.class, ErrorClass::Unreachable, "{error:?}");
    assert!(error.message.contains("no ssh server listens"), "{error:?}");
    spec.ssh = "ssh://no-such-host.invalid".into();
    let error = refusal(dir.path(), &spec).await;
    assert!(error.message.contains("cannot be resolved"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_folder_is_private_and_may_have_a_long_path() {
    let sshd = Sshd::start();
    let dir = tempfile::tempdir().expect("made");
    let long = dir.path().join("a".repeat(120));
    let host = connect(&long, &sshd.spec("nas")).await.expect("connects");
    let mode = fs::metadata(long.join("ssh")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let output = host.exec(Exec::new(["echo", "hi"]), &Cancel::never()).await.expect("runs");
    assert_eq!(output.stdout_text(), "hi\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_ends_the_connection_of_a_dead_run() {
    let bed = bed().await;
    let control = bed.dir.path().join("ssh");
    assert_eq!(bed.sshd.sessions().len(), 1);
    super::end_connections(&control).await;
    until("the connection is gone", async || bed.sshd.sessions().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_runs_no_commands_is_told_as_such() {
    let sshd = Sshd::start_with("ForceCommand echo not here >&2; exit 1");
    let dir = tempfile::tempdir().expect("made");
    let host = connect(dir.path(), &sshd.spec("nas")).await.expect("connects");
    let error = host.exec(Exec::new(["true"]), &Cancel::never()).await.expect_err("fails");
    assert_eq!(error.class, ErrorClass::Unsupported, "{error:?}");
    assert_eq!(error.details, ["not here"]);
}

#[test]
fn destinations_that_ssh_could_take_for_options_are_refused() {
    let parse = |ssh: &str| {
        Destination::parse(&HostSpec {
            name: "h".into(),
            ssh: ssh.into(),
            known_hosts: None,
            config: None,
            identity: None,
            vars: serde_json::Map::new(),
        })
    };
    for bad in [
        "-oProxyCommand=touch X",
        "me@-oProxyCommand=x",
        "-l@nas",
        "ssh://-oProxyCommand=x",
        "ssh://me@-x:22",
        "",
        "a b",
        "nas\n",
        "ssh://nas:99999",
        "ssh://@nas",
    ] {
        assert_eq!(parse(bad).expect_err(bad).class, ErrorClass::Invalid, "{bad}");
    }
    let good = parse("ssh://me@[::1]:2222").expect("parses");
    assert_eq!(good, Destination { host: "::1".into(), user: Some("me".into()), port: Some(2222) });
    assert_eq!(parse("nas").expect("parses").port, None);
}

#[tokio::test]
async fn what_a_dead_run_left_on_a_host_is_ended_before_anything_else_runs_there() {
    let sshd = Sshd::start();
    let dir = tempfile::tempdir().expect("made");
    let of = |run: &str, folder: &str| SshConnector::new(dir.path().join(folder)).of_run(run);
    let spec = sshd.spec("nas");
    let (dead, other) = (of("RUN1", "a").connect(&spec).await, of("RUN2", "b").connect(&spec).await);
    let (dead, other) = (dead.expect("connects"), other.expect("connects"));
    let script = |name: &str| format!("touch {}; exec sleep 1000", dir.path().join(name).display());
    let (source, cancel) = CancelSource::new();
    let sleeps = |name: &str| Exec::new(["sh".to_owned(), "-c".to_owned(), script(name)]);
    let (ended, lives, ()) =
        tokio::join!(dead.exec(sleeps("one"), &cancel), other.exec(sleeps("two"), &cancel), async {
            let there = |name: &str| dir.path().join(name).exists();
            until("both run", async || there("one") && there("two")).await;
            let next = of("RUN1", "c").after_a_death().connect(&spec).await.expect("connects");
            let looked = next.exec(Exec::new(["true"]), &Cancel::never()).await.expect("runs");
            assert!(looked.success());
            next.close().await;
            source.cancel();
        });
    assert_eq!(ended.expect("its end is seen").code, Some(128 + 15));
    assert_eq!(lives.expect_err("it was cancelled").class, ErrorClass::Cancelled);
    dead.close().await;
    other.close().await;
}

#[tokio::test]
async fn data_that_are_cut_off_do_not_look_like_their_end() {
    let bed = bed().await;
    let (got, all) = (bed.at("got"), bed.at("all"));
    let line = format!("cat >{got}; touch {all}");
    let big = vec![b'x'; 4 << 20];
    let exec = sh(&line).stdin(Stdin::Bytes(big));
    let (source, cancel) = CancelSource::new();
    let (cut, ()) = tokio::join!(bed.host.exec(exec, &cancel), async {
        until("some of it has come", async || fs::metadata(&got).is_ok_and(|file| file.len() > 0)).await;
        source.cancel();
    });
    // Either all had come before the cancel, or the command never saw an end.
    let whole = fs::metadata(&got).is_ok_and(|file| file.len() == 4 << 20);
    assert_eq!(cut.expect_err("cancelled").class, ErrorClass::Cancelled);
    assert!(whole || !Path::new(&all).exists(), "{:?}", fs::metadata(&got).map(|file| file.len()));
}
