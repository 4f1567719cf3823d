//! What is said where something is wrong, and what is never said.

use crate::{Stage, assert_as_earlier, assert_code, earlier, effects, said};
use std::{
    fs,
    process::{Command, Stdio},
};
use tests::{
    lab::{binaries, until},
    servers::redis::{Redis, Setup, free_port},
};

#[test]
fn a_password_is_asked_for_given_as_a_secret_and_never_shown() {
    const PASSWORD: &str = "canary-8f3a61d0";
    let redis = Redis::start(Setup { password: Some(PASSWORD), ..Setup::default() });
    let port = redis.port;
    let step = |login: &str, url: &str| {
        format!(
            "secrets: {{ pw: {{ env: PW }} }}\nprepare: {{ it: {{ redis: {{ url: '{url}'{login}, set: {{ key: k, value: ours }} }} }} }}
monitor: {{ waits: {{ wait: {{ until: {{ file: {{ stat: go }} }}, succeed_when: out.exists, every: 20ms }} }} }}\n"
        )
    };
    let plain = format!("redis://127.0.0.1:{port}/0");
    let inside = format!("redis://:${{{{ secrets.pw }}}}@127.0.0.1:{port}/0");
    let named = ", password: '${{ secrets.pw }}'";
    for (login, url) in [(named, plain.as_str()), ("", inside.as_str())] {
        redis.cli(&["DEL", "k"]);
        let stage = Stage::new();
        stage.write(&step(login, url));
        let mut command = stage.command(binaries::shakedown(), &["run", "it.yaml"]);
        let child = command.env("PW", PASSWORD).spawn().expect("it starts");
        until("the value is set", || redis.cli(&["GET", "k"]) == "ours");
        redis.cli(&["SET", "k", "theirs"]);
        fs::write(stage.dir.path().join("go"), "").expect("written");
        let text = assert_code(&child.wait_with_output().expect("it ends"), 4);
        assert!(!text.contains(PASSWORD), "{text}");
        let wanted = format!("redis-cli -u {plain} --askpass GET k");
        assert!(text.contains(&wanted), "{text}");
        // Typed as it stands, it asks for the password.
        let mut typed = Command::new("/bin/sh")
            .args(["-c", &wanted])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        std::io::Write::write_all(
            &mut typed.stdin.take().expect("a pipe"),
            format!("{PASSWORD}\n").as_bytes(),
        )
        .expect("written");
        let typed = typed.wait_with_output().expect("it ends");
        assert!(typed.status.success() && said(&typed).contains("theirs"), "{}", said(&typed));
    }

    let stage = Stage::new();
    stage.write(&step(named, &plain));
    let mut command = stage.command(binaries::shakedown(), &["run", "it.yaml", "--force"]);
    let text = said(&command.env("PW", "wrong-secret").output().expect("it starts"));
    assert!(
        text.contains("does not accept this user and password") && !text.contains("wrong-secret"),
        "{text}"
    );
    let none = Stage::new().run(&format!(
        "monitor: {{ it: {{ redis: {{ url: '{plain}', command: [PING], reads: true }} }} }}\n"
    ));
    assert!(said(&none).contains("asks for a password, and none was given"), "{}", said(&none));
}

/// What a step that only reads says when it fails.
fn error_of(redis: &str) -> String {
    let output = Stage::new().run(&format!("monitor: {{ it: {{ redis: {redis} }} }}\n"));
    assert!(!output.status.success(), "{}", said(&output));
    said(&output)
}

#[test]
fn errors_name_what_was_found_and_what_to_type() {
    let redis = Redis::start(Setup::default());
    let url = redis.url();
    redis.cli(&["RPUSH", "列表", "a"]);
    redis.cli(&["SET", "text", "a"]);
    let closed = format!("redis://127.0.0.1:{}/0", free_port());
    let nowhere = format!("unix://{}/none", redis.socket().display());
    for (step, words) in [
        (
            format!("{{ url: '{closed}', check: reachable }}"),
            vec!["nothing listens there".to_owned(), format!("redis-cli -u {closed} ping")],
        ),
        (format!("{{ url: '{nowhere}', check: reachable }}"), vec!["redis-cli -s ".into()]),
        (
            format!("{{ url: '{url}', command: [GET, 列表], reads: true }}"),
            vec!["`GET` does not fit: `列表` is a list".into()],
        ),
        (
            format!("{{ url: '{url}', command: [SET, text, b], reads: true }}"),
            vec!["says that `SET` writes".into()],
        ),
        (
            format!("{{ url: '{url}', command: [EVAL, 'return 1', 0], reads: true }}"),
            vec!["EVAL".into(), "`reads: true`".into()],
        ),
        (
            format!("{{ url: '{url}', command: [CONFIG, SET, maxmemory, 1], reads: true }}"),
            vec!["`CONFIG SET`".into()],
        ),
        (
            format!("{{ url: '{url}', command: [SHUTDOWN], reads: true }}"),
            vec!["does not say that `SHUTDOWN` only reads".into()],
        ),
        (
            format!("{{ url: '{url}', command: [NOSUCH, a], reads: true }}"),
            vec!["does not know the command `NOSUCH`".into()],
        ),
        (
            format!("{{ url: '{url}', command: [GET], reads: true }}"),
            vec!["wrong number of arguments".into()],
        ),
        (
            format!("{{ url: '{url}', command: [BLPOP, q, 0], reads: true }}"),
            vec!["`BLPOP` cannot be a step: it blocks".into()],
        ),
        (
            format!("{{ url: '{url}', command: [SUBSCRIBE, c], reads: true }}"),
            vec!["`SUBSCRIBE` cannot be a step".into()],
        ),
        (
            "{ url: 'http://127.0.0.1:1/', check: reachable }".into(),
            vec!["is no address of a Redis server".into()],
        ),
        (format!("{{ url: '{url}', check: persistent }}"), vec!["both AOF and RDB are off".into()]),
        (
            format!("{{ url: 'redis://127.0.0.1:{}/99', check: reachable }}", redis.port),
            vec!["DB index is out of range".into()],
        ),
    ] {
        let text = error_of(&step);
        for word in words {
            assert!(text.contains(&word), "{step}: `{word}`: {text}");
        }
    }
    assert_eq!(redis.cli(&["GET", "text"]), "a");
    for (action, found) in [
        ("set: { key: 列表, value: x }", "is a list, expected a string"),
        ("hash: { key: text, fields: { a: b } }", "is a string, expected a hash"),
        ("push: { key: text, value: x }", "is a string, expected a list"),
        ("add: { key: text, fields: { a: b } }", "is a string, expected a stream"),
    ] {
        let stage = Stage::new();
        stage.write(&format!("prepare: {{ it: {{ redis: {{ url: '{url}', {action} }} }} }}\n"));
        let text = said(&stage.shakedown(&["run", "it.yaml", "--force"]));
        assert!(text.contains(found), "{action}: {text}");
    }
    assert_eq!(redis.cli(&["LRANGE", "列表", "0", "-1"]), "a");
}

#[test]
fn a_full_memory_a_replica_and_a_server_that_hangs_are_told_apart() {
    let redis = Redis::start(Setup::default());
    let url = redis.url();
    let set = format!("prepare: {{ it: {{ redis: {{ url: '{url}', set: {{ key: k, value: x }} }} }} }}\n");
    let forced = || {
        let stage = Stage::new();
        stage.write(&set);
        stage.shakedown(&["run", "it.yaml", "--force"])
    };
    let check = format!("{{ url: '{url}', check: [reachable, writable] }}");
    let fine = Stage::new().run(&format!("monitor: {{ it: {{ redis: {check} }} }}\n"));
    assert_code(&fine, 0);
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let text = said(&forced());
    assert!(text.contains("has used up its `maxmemory`") && text.contains("INFO memory"), "{text}");
    assert!(error_of(&check).contains("of 1 bytes of memory are in use"));
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    redis.cli(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    let text = said(&forced());
    assert!(text.contains("replica"), "{text}");
    assert!(error_of(&check).contains("expected the role master, found slave"));
    redis.cli(&["REPLICAOF", "NO", "ONE"]);
    assert_code(&forced(), 0);

    // With a backlog of its own, the kernel accepts the connection, and nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let text =
        error_of(&format!("{{ url: 'redis://127.0.0.1:{port}', check: reachable, connect_timeout: 200ms }}"));
    assert!(text.contains("did not answer within 200 ms"), "{text}");
}

#[test]
fn a_user_without_permission_is_told_so() {
    let redis = Redis::start(Setup::default());
    redis.cli(&["ACL", "SETUSER", "reader", "on", ">pw", "~*", "+get", "+command|info"]);
    redis.cli(&["SET", "k", "v"]);
    let login = format!("url: '{}', user: reader, password: pw", redis.url());
    let fine = Stage::new().run(&format!(
        "monitor: {{ it: {{ redis: {{ {login}, command: [GET, k], reads: true }}, expect: out.value == 'v' }} }}\n"
    ));
    assert_code(&fine, 0);
    let text = error_of(&format!("{{ {login}, command: [HGETALL, h], reads: true }}"));
    assert!(
        text.contains("refuses this user permission") && text.contains("--user reader --askpass"),
        "{text}"
    );
}

#[test]
fn tls_is_accepted_with_the_right_authority_and_with_no_other() {
    let redis = Redis::start(Setup { tls: true, ..Setup::default() });
    let (url, ca) = (redis.tls_url(), redis.ca().display().to_string());
    earlier(&redis);
    let trusted = effects(&url).replace(&format!("url: '{url}'"), &format!("url: '{url}', ca: '{ca}'"));
    assert_code(&Stage::new().run(&trusted), 0);
    assert_as_earlier(&redis);
    let by_name = format!("rediss://localhost:{}", redis.tls_port);
    let fine =
        format!("monitor: {{ it: {{ redis: {{ url: '{by_name}', ca: '{ca}', check: reachable }} }} }}\n");
    assert_code(&Stage::new().run(&fine), 0);
    let text = error_of(&format!("{{ url: '{url}', check: reachable }}"));
    assert!(
        text.contains("is not trusted") && text.contains("openssl s_client -connect 127.0.0.1:"),
        "{text}"
    );
    let plain = format!("rediss://127.0.0.1:{}", redis.port);
    let text = error_of(&format!("{{ url: '{plain}', ca: '{ca}', check: reachable, connect_timeout: 2s }}"));
    assert!(text.contains("does it speak TLS?"), "{text}");
}
