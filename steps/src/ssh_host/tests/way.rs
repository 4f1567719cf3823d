//! The way to a host: what `ssh_config` says of it, jump hosts, and questions that nobody is there to answer.

use super::{Sshd, connect, refusal};
use crate::testing::until;
use engine::{
    ErrorClass,
    host::{Cancel, Exec, HostSpec},
};
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;

/// The settings for one server: its keys and its port, under that name.
fn block(name: &str, sshd: &Sshd, more: &str) -> String {
    let (key, known) = (sshd.path("user"), sshd.path("known_hosts"));
    format!(
        "{name}\n  HostName 127.0.0.1\n  Port {}\n  IdentityFile {}\n  UserKnownHostsFile {}\n{more}\n",
        sshd.port(),
        key.display(),
        known.display()
    )
}

fn spec(config: &Path, ssh: &str) -> HostSpec {
    HostSpec {
        name: "nas".into(),
        ssh: ssh.into(),
        known_hosts: None,
        config: Some(config.display().to_string()),
        identity: None,
        vars: serde_json::Map::new(),
    }
}

/// A target behind two other hosts.
struct Way {
    outer: Sshd,
    inner: Sshd,
    target: Sshd,
    /// With a blank in its path, as folders of users have.
    dir: TempDir,
}

fn way() -> Way {
    let dir = tempfile::Builder::new().prefix("a way ").tempdir().expect("made");
    Way { outer: Sshd::start(), inner: Sshd::start(), target: Sshd::start(), dir }
}

impl Way {
    /// Aliases of which one includes the others, and jumps.
    fn config(&self) -> String {
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().expect("a name").name;
        let more = self.dir.path().join("more");
        let jumps = block("Host outer", &self.outer, "")
            + &block("Match host inner", &self.inner, "  ProxyJump outer");
        fs::write(&more, jumps).expect("written");
        let target = block("Host target", &self.target, &format!("  User {user}\n  ProxyJump inner"));
        format!("Include \"{}\"\n{target}", more.display())
    }

    fn spec(&self, config: &str) -> HostSpec {
        let path = self.dir.path().join("config");
        fs::write(&path, config).expect("written");
        spec(&path, "target")
    }

    fn connections(&self) -> [usize; 3] {
        [&self.outer, &self.inner, &self.target].map(|sshd| sshd.sessions().len())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_reached_by_its_alias_through_two_jump_hosts() {
    let way = way();
    let host = connect(way.dir.path(), &way.spec(&way.config())).await.expect("nothing is asked yet");
    let output = host.exec(Exec::new(["sh", "-c", "echo $SSH_CONNECTION"]), &Cancel::never()).await;
    let port = way.target.port().to_string();
    assert!(output.expect("runs").stdout_text().trim().ends_with(&port));
    assert_eq!(way.connections(), [1, 1, 1]);
    host.close().await;
    until("all connections are gone", async || way.connections() == [0, 0, 0]).await;
    assert!(fs::read_dir(way.dir.path().join("ssh")).expect("there").next().is_none(), "its folder is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_through_jump_hosts_that_breaks_is_made_again() {
    let way = way();
    let host = connect(way.dir.path(), &way.spec(&way.config())).await.expect("nothing is asked yet");
    host.exec(Exec::new(["true"]), &Cancel::never()).await.expect("runs");
    way.outer.break_connections();
    host.exec(Exec::new(["true"]).repeatable(), &Cancel::never()).await.expect("runs again");
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_jump_host_must_be_known_whatever_its_settings_say() {
    let way = way();
    let empty = way.dir.path().join("empty");
    fs::write(&empty, "").expect("written");
    let lax = format!(
        "Host *\n  StrictHostKeyChecking no\n  BatchMode no\n  UserKnownHostsFile \"{}\"\n{}",
        empty.display(),
        way.config()
    );
    let error = refusal(way.dir.path(), &way.spec(&lax)).await;
    assert_eq!(error.class, ErrorClass::Denied, "{error:?}");
    assert!(error.message.contains("a jump host"), "{error:?}");
    let scan = format!("ssh-keyscan -p {} 127.0.0.1", way.outer.port());
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains(&scan)), "{error:?}");
    assert_eq!(fs::read(&empty).expect("read"), b"");
    assert_eq!(way.connections(), [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_of_known_hosts_can_hold_the_keys_of_the_whole_way() {
    let way = way();
    let known = way.dir.path().join("known 100%h");
    let keys = [&way.outer, &way.inner, &way.target]
        .map(|sshd| fs::read_to_string(sshd.path("known_hosts")).expect("read"));
    let config: String = way
        .config()
        .lines()
        .filter(|line| !line.contains("UserKnownHostsFile"))
        .fold(String::new(), |all, line| all + line + "\n");
    let more = way.dir.path().join("more");
    let text = fs::read_to_string(&more).expect("read");
    let without: String = text
        .lines()
        .filter(|line| !line.contains("UserKnownHostsFile"))
        .fold(String::new(), |all, line| all + line + "\n");
    fs::write(&more, without).expect("written");
    let mut spec = way.spec(&config);
    spec.known_hosts = Some(known.display().to_string());
    // Without that of the first jump host.
    fs::write(&known, keys[1..].concat()).expect("written");
    assert_eq!(refusal(way.dir.path(), &spec).await.class, ErrorClass::Denied);
    fs::write(&known, keys.concat()).expect("written");
    let host = connect(way.dir.path(), &spec).await.expect("nothing is asked yet");
    host.exec(Exec::new(["true"]), &Cancel::never()).await.expect("runs");
    host.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_host_that_is_away_is_told_as_one() {
    let mut way = way();
    way.outer.stop();
    let error = refusal(way.dir.path(), &way.spec(&way.config())).await;
    assert_eq!(error.class, ErrorClass::Unreachable, "{error:?}");
    assert!(error.message.contains("a jump host"), "{error:?}");
    assert!(error.details.iter().any(|line| line.contains("Connection refused")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_the_settings_is_told_with_the_users_own_path_and_line() {
    let dir = tempfile::tempdir().expect("made");
    let config = dir.path().join("config");
    fs::write(&config, "Host x\n\n  NoSuchOption yes\n").expect("written");
    let error = refusal(dir.path(), &spec(&config, "x")).await;
    assert_eq!(error.class, ErrorClass::Invalid, "{error:?}");
    let told = format!("{}: line 3", config.display());
    assert!(error.details.iter().any(|line| line.contains(&told)), "{error:?}");
    let none = spec(&dir.path().join("none"), "x");
    assert_eq!(refusal(dir.path(), &none).await.class, ErrorClass::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_a_passphrase_is_refused_with_a_hint() {
    let sshd = Sshd::start();
    let key = sshd.path("locked");
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "secret", "-f"]).arg(&key).status();
    assert!(made.expect("it starts").success());
    fs::copy(key.with_extension("pub"), sshd.path("authorized")).expect("copied");
    let dir = tempfile::tempdir().expect("made");
    let mut spec = sshd.spec("nas");
    spec.identity = Some(key.display().to_string());
    let error = refusal(dir.path(), &spec).await;
    assert_eq!(error.class, ErrorClass::Denied, "{error:?}");
    assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("ssh-add")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_would_ask_is_told_as_one() {
    for (ways, settings) in [
        ("password", "PubkeyAuthentication no\nPasswordAuthentication yes"),
        ("keyboard-interactive", "PubkeyAuthentication no\nUsePAM yes\nKbdInteractiveAuthentication yes"),
    ] {
        // The first value of a setting counts, and the server's own come first.
        let sshd = Sshd::start_with_first(settings);
        let dir = tempfile::tempdir().expect("made");
        let error = refusal(dir.path(), &sshd.spec("nas")).await;
        assert_eq!(error.class, ErrorClass::Denied, "{error:?}");
        assert!(error.message.contains(&format!("({ways})")), "{error:?}");
    }
}
