//! The step type `redis` against a real server: what is read, what is undone, what is left and how it is told.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use tests::{
    lab::{binaries, until},
    servers::redis::{Redis, Setup, free_port},
};

/// A folder for the run and one for Shakedown's own state.
struct Stage {
    dir: tempfile::TempDir,
    state: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder"), state: tempfile::tempdir().expect("a folder") }
    }

    fn command(&self, program: &Path, argv: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(argv).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("SHAKEDOWN_STATE_DIR", self.state.path()).env("NO_COLOR", "1").env("COLUMNS", "400");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn write(&self, phases: &str) {
        fs::write(self.dir.path().join("it.yaml"), format!("name: it\n{phases}")).expect("written");
    }

    fn shakedown(&self, argv: &[&str]) -> Output {
        self.command(binaries::shakedown(), argv).output().expect("it starts")
    }

    fn run(&self, phases: &str) -> Output {
        self.write(phases);
        self.shakedown(&["run", "it.yaml"])
    }

    /// As [`Stage::run`], with something going wrong on purpose.
    fn run_with(&self, faults: &str, phases: &str) -> Output {
        self.write(phases);
        let mut command = self.command(binaries::shakedown_with_faults(), &["run", "it.yaml"]);
        command.env("SHAKEDOWN_FAULTS", faults).output().expect("it starts")
    }

    /// Runs it, lets another do something while it waits, and gives what came out.
    fn run_while(&self, phases: &str, ready: impl FnMut() -> bool, meanwhile: impl FnOnce()) -> Output {
        self.write(&format!(
            "{phases}\nmonitor: {{ waits: {{ wait: {{ until: {{ file: {{ stat: go }} }}, succeed_when: out.exists, every: 20ms }} }} }}\n"
        ));
        let child = self.command(binaries::shakedown(), &["run", "it.yaml"]).spawn().expect("it starts");
        until("the step has done its work", ready);
        meanwhile();
        fs::write(self.dir.path().join("go"), "").expect("written");
        child.wait_with_output().expect("it ends")
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn assert_code(output: &Output, code: i32) -> String {
    let text = said(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

/// Types the command that a report gives, as it stands.
fn type_in(text: &str) -> String {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("remove it with: "));
    let line = line.unwrap_or_else(|| panic!("no command: {text}"));
    let typed = Command::new("/bin/sh").args(["-c", line]).output().expect("sh");
    assert!(typed.status.success() && !said(&typed).contains("ERR"), "{line}: {}", said(&typed));
    line.to_owned()
}

/// The parts of a playbook that all four actions go into.
fn effects(url: &str) -> String {
    format!(
        "prepare:
  set: {{ redis: {{ url: '{url}', set: {{ key: '配置', value: 新值 }} }} }}
  ttl: {{ redis: {{ url: '{url}', set: {{ key: lives, value: 7, ttl: 5m }} }} }}
  hash: {{ redis: {{ url: '{url}', hash: {{ key: device, fields: {{ state: 上传, extra: 1 }} }} }} }}
  push: {{ redis: {{ url: '{url}', push: {{ key: queue, values: [one, 二, one] }} }} }}
  left: {{ redis: {{ url: '{url}', push: {{ key: head, value: first, side: left }} }} }}
  add: {{ redis: {{ url: '{url}', add: {{ key: events, fields: {{ z: 最后, a: 1.5 }} }} }} }}
  new: {{ redis: {{ url: '{url}', add: {{ key: fresh, fields: {{ a: b }} }} }} }}
"
    )
}

/// State that the actions of [`effects`] meet.
fn earlier(redis: &Redis) {
    redis.cli(&["SET", "配置", "旧值", "EX", "5000"]);
    redis.cli(&["HSET", "device", "state", "待机", "other", "x"]);
    redis.cli(&["RPUSH", "queue", "one", "zero"]);
    redis.cli(&["XADD", "events", "1-1", "a", "b"]);
}

fn assert_as_earlier(redis: &Redis) {
    assert_eq!(redis.cli(&["GET", "配置"]), "旧值");
    let ttl: u64 = redis.cli(&["TTL", "配置"]).parse().expect("a number");
    assert!((4_000..=5_000).contains(&ttl), "{ttl}");
    assert_eq!(redis.cli(&["HGETALL", "device"]), "state\n待机\nother\nx");
    assert_eq!(redis.cli(&["LRANGE", "queue", "0", "-1"]), "one\nzero");
    assert_eq!(redis.cli(&["XRANGE", "events", "-", "+"]), "1-1\na\nb");
    assert_eq!(redis.cli(&["EXISTS", "lives", "head", "fresh"]), "0");
    assert_eq!(redis.cli(&["DBSIZE"]), "4");
}

#[test]
fn all_families_are_read_with_their_types() {
    let redis = Redis::start(Setup::default());
    redis.cli(&["SET", "text", "你好 \"世界\""]);
    redis.cli_bytes(&["SET", "bytes"], b"\xff\x00\x80");
    redis.cli(&["SET", "count", "41"]);
    redis.cli(&["HSET", "h", "名", "值", "n", "1"]);
    redis.cli(&["RPUSH", "l", "a", "b", "丙"]);
    redis.cli(&["SADD", "s", "only"]);
    redis.cli(&["ZADD", "z", "1.5", "low", "2", "high"]);
    redis.cli(&["XADD", "x", "5-1", "字段", "一", "b", "2"]);
    let steps = [
        ("GET, text", "out.value == '你好 \"世界\"'"),
        ("GET, missing", "out.value == null"),
        ("GET, bytes", "out.value['$blob'] == 'ff0080'"),
        ("get, count", "out.value == '41' && out.role == 'master'"),
        ("STRLEN, text", "out.value == 15"),
        ("HGETALL, h", "out.value == {'名': '值', 'n': '1'}"),
        ("HMGET, h, n, none", "out.value == ['1', null]"),
        ("LRANGE, l, 0, -1", "out.value == ['a', 'b', '丙']"),
        ("LLEN, l", "out.value == 3"),
        ("SMEMBERS, s", "out.value == ['only']"),
        ("SISMEMBER, s, only", "out.value == 1"),
        ("ZRANGE, z, 0, -1", "out.value == ['low', 'high']"),
        ("XRANGE, x, '-', '+'", "out.value == [{'id': '5-1', 'fields': {'字段': '一', 'b': '2'}}]"),
        ("XREAD, STREAMS, x, 0", "out.value.x[0].id == '5-1'"),
        ("XINFO, STREAM, x", "out.value.length == 1"),
        ("TYPE, z", "out.value == 'zset'"),
        ("PING", "out.value == 'PONG'"),
        ("CONFIG, GET, save", "out.value.save == ''"),
        ("EVAL_RO, 'return {1,KEYS[1]}', 1, k", "out.value[1] == 'k'"),
    ];
    for url in [redis.url(), redis.unix_url(), format!("{}?protocol=resp2", redis.url())] {
        let mut phases = "monitor:\n".to_owned();
        for (at, (argv, expect)) in steps.iter().enumerate() {
            let step = format!(
                "  s{at}:\n    redis: {{ url: '{url}', command: [{argv}], reads: true }}\n    expect: |-\n      {expect}\n"
            );
            phases.push_str(&step);
        }
        // Scores are numbers in the newer protocol alone.
        if !url.contains("resp2") {
            phases.push_str(&format!(
                "  score:\n    redis: {{ url: '{url}', command: [ZSCORE, z, low], reads: true }}\n    expect: out.value == 1.5\n"
            ));
        }
        assert_code(&Stage::new().run(&phases), 0);
    }
}

#[test]
fn what_the_actions_change_is_back_after_success_and_after_failure() {
    let redis = Redis::start(Setup::default());
    earlier(&redis);
    let url = redis.url();
    let seen = format!(
        "{}monitor:
  set: {{ redis: {{ url: '{url}', command: [GET, 配置], reads: true }}, expect: out.value == '新值' }}
  forever: {{ redis: {{ url: '{url}', command: [TTL, 配置], reads: true }}, expect: out.value == -1 }}
  ttl: {{ redis: {{ url: '{url}', command: [TTL, lives], reads: true }}, expect: out.value > 0 && out.value <= 300 }}
  hash: {{ redis: {{ url: '{url}', command: [HGETALL, device], reads: true }}, expect: \"out.value == {{'state': '上传', 'other': 'x', 'extra': '1'}}\" }}
  queue: {{ redis: {{ url: '{url}', command: [LRANGE, queue, 0, -1], reads: true }}, expect: \"out.value == ['one', 'zero', 'one', '二', 'one']\" }}
  length: {{ command: {{ shell: 'true', reads: true }}, expect: steps.push.out.length == 5 && steps.push.out.earlier && !steps.left.out.earlier }}
  entry: {{ redis: {{ url: '{url}', command: [XRANGE, events, '${{{{ steps.add.out.id }}}}', '+'], reads: true }}, expect: \"out.value[0].fields == {{'z': '最后', 'a': '1.5'}}\" }}
",
        effects(&url)
    );
    let text = assert_code(&Stage::new().run(&seen), 0);
    assert!(text.contains("undone 7 of 7"), "{text}");
    assert_as_earlier(&redis);

    let fails = format!("{seen}  fails: {{ needs: [entry], command: {{ shell: exit 1, reads: true }} }}\n");
    let text = assert_code(&Stage::new().run(&fails), 2);
    assert!(text.contains("undone 7 of 7"), "{text}");
    assert_as_earlier(&redis);
    // Over TLS, over a socket and in the older protocol all is the same; and an undo can be carried out twice.
    let again = "repeat:set,repeat:ttl,repeat:hash,repeat:push,repeat:left,repeat:add,repeat:new";
    for url in [redis.unix_url(), format!("{url}?protocol=2")] {
        let text = assert_code(&Stage::new().run_with(again, &effects(&url)), 0);
        assert!(text.contains("undone 7 of 7"), "{text}");
        assert_as_earlier(&redis);
    }
}

#[test]
fn a_plan_changes_nothing_and_foresees_a_wrong_type() {
    let redis = Redis::start(Setup::default());
    earlier(&redis);
    let stage = Stage::new();
    stage.write(&effects(&redis.url()));
    assert_code(&stage.shakedown(&["plan", "it.yaml"]), 0);
    assert_as_earlier(&redis);
    redis.cli(&["DEL", "queue"]);
    redis.cli(&["SET", "queue", "text"]);
    let text = said(&stage.shakedown(&["plan", "it.yaml"]));
    assert!(text.contains("`queue`") && text.contains("is a string, expected a list"), "{text}");
}

#[test]
fn what_another_changed_is_left_and_named_and_the_command_puts_it_back() {
    let redis = Redis::start(Setup::default());
    let url = redis.url();
    redis.cli(&["SET", "k", "旧 'alt'"]);
    redis.cli(&["HSET", "h", "f", "old"]);
    let set = format!("prepare: {{ it: {{ redis: {{ url: '{url}', set: {{ key: k, value: ours }} }} }} }}");
    let text = assert_code(
        &Stage::new().run_while(
            &set,
            || redis.cli(&["GET", "k"]) == "ours",
            || drop(redis.cli(&["SET", "k", "theirs"])),
        ),
        4,
    );
    assert!(text.contains("key `k`") && text.contains("another changed it since"), "{text}");
    assert_eq!(redis.cli(&["GET", "k"]), "theirs");
    type_in(&text);
    assert_eq!(redis.cli(&["GET", "k"]), "旧 'alt'");

    // A value that cannot be typed, with a time to live.
    redis.cli_bytes(&["SET", "k"], b"\xff\n\x00end");
    redis.cli(&["EXPIRE", "k", "5000"]);
    let text = assert_code(
        &Stage::new().run_while(
            &set,
            || redis.cli(&["GET", "k"]) == "ours",
            || drop(redis.cli(&["SET", "k", "theirs"])),
        ),
        4,
    );
    let line = type_in(&text);
    assert!(line.contains("ff0a00656e64") && line.contains("PEXPIREAT k"), "{line}");
    assert_eq!(redis.cli(&["STRLEN", "k"]), "6");
    assert!(redis.cli(&["TTL", "k"]).parse::<u64>().expect("a number") > 4_000);

    let hash = format!(
        "prepare: {{ it: {{ redis: {{ url: '{url}', hash: {{ key: h, fields: {{ f: 1, g: 2, kept: 3 }} }} }} }} }}"
    );
    let text = assert_code(
        &Stage::new().run_while(
            &hash,
            || redis.cli(&["HGET", "h", "g"]) == "2",
            || drop(redis.cli(&["HSET", "h", "f", "x", "g", "y"])),
        ),
        4,
    );
    assert!(text.contains("fields `f`, `g` of hash `h`"), "{text}");
    assert_eq!(redis.cli(&["HGETALL", "h"]), "f\nx\ng\ny", "the third was still as it was set");
    type_in(&text);
    assert_eq!(redis.cli(&["HGETALL", "h"]), "f\nold");
}

#[test]
fn what_a_consumer_took_leaves_nothing_and_what_it_left_is_removed() {
    let redis = Redis::start(Setup::default());
    let url = redis.url();
    let push =
        format!("prepare: {{ it: {{ redis: {{ url: '{url}', push: {{ key: q, values: [a, b] }} }} }} }}");
    let ready = || redis.cli(&["LLEN", "q"]) == "2";
    let text = assert_code(
        &Stage::new().run_while(&push, ready, || {
            redis.cli(&["LPOP", "q", "2"]);
        }),
        0,
    );
    assert!(text.contains("PASSED"), "{text}");
    assert_eq!(redis.cli(&["DBSIZE"]), "0");
    assert_code(
        &Stage::new().run_while(&push, ready, || {
            redis.cli(&["LPOP", "q"]);
            redis.cli(&["RPUSH", "q", "theirs"]);
        }),
        0,
    );
    assert_eq!(redis.cli(&["LRANGE", "q", "0", "-1"]), "theirs");

    // An equal element was there before, one of the two is gone: nobody can tell which.
    redis.cli(&["DEL", "q"]);
    redis.cli(&["RPUSH", "q", "a"]);
    let one = format!("prepare: {{ it: {{ redis: {{ url: '{url}', push: {{ key: q, value: a }} }} }} }}");
    let text = assert_code(&Stage::new().run_while(&one, ready, || drop(redis.cli(&["LPOP", "q"]))), 4);
    assert!(text.contains("perhaps elements of list `q`"), "{text}");
    assert_eq!(redis.cli(&["LLEN", "q"]), "1");
    type_in(&text);
    assert_eq!(redis.cli(&["LLEN", "q"]), "0");
}

#[test]
fn a_stream_is_kept_where_others_use_it() {
    let redis = Redis::start(Setup::default());
    let url = redis.url();
    let add =
        format!("prepare: {{ it: {{ redis: {{ url: '{url}', add: {{ key: x, fields: {{ a: b }} }} }} }} }}");
    let ready = || redis.cli(&["XLEN", "x"]) == "1";
    assert_code(
        &Stage::new().run_while(&add, ready, || drop(redis.cli(&["XGROUP", "CREATE", "x", "g", "$"]))),
        0,
    );
    assert_eq!(redis.cli(&["XLEN", "x"]), "0");
    assert_eq!(redis.cli(&["EXISTS", "x"]), "1", "its group belongs to another");
    redis.cli(&["DEL", "x"]);
    assert_code(&Stage::new().run_while(&add, ready, || drop(redis.cli(&["XADD", "x", "*", "c", "d"]))), 0);
    assert_eq!(redis.cli(&["XLEN", "x"]), "1");
    redis.cli(&["DEL", "x"]);
    // The consumer deletes what it has read: the empty stream is ours.
    let text = assert_code(
        &Stage::new().run_while(&add, ready, || drop(redis.cli(&["XTRIM", "x", "MAXLEN", "0"]))),
        0,
    );
    assert_eq!(redis.cli(&["EXISTS", "x"]), "0", "{text}");
}

#[test]
fn a_run_that_was_killed_is_taken_back_by_recover() {
    for point in ["before", "after"] {
        for step in ["set", "ttl", "hash", "push", "left", "add", "new"] {
            let redis = Redis::start(Setup::default());
            earlier(&redis);
            let stage = Stage::new();
            let died = stage.run_with(&format!("kill:{point}:{step}"), &effects(&redis.url()));
            assert_eq!(died.status.signal(), Some(9), "{}", said(&died));
            let text = assert_code(&stage.shakedown(&["recover", "--yes"]), 0);
            assert!(text.contains("RECOVERED"), "{text}");
            assert_as_earlier(&redis);
        }
    }
}

#[test]
fn a_run_that_was_killed_is_resumed_without_doing_anything_twice() {
    let redis = Redis::start(Setup::default());
    let url = redis.url();
    for (point, step) in
        [("after", "push"), ("before", "push"), ("after", "add"), ("after", "hash"), ("before", "set")]
    {
        earlier(&redis);
        let stage = Stage::new();
        let once = format!(
            "{}monitor:
  queue: {{ redis: {{ url: '{url}', command: [LLEN, queue], reads: true }}, expect: out.value == 5 }}
  events: {{ redis: {{ url: '{url}', command: [XLEN, events], reads: true }}, expect: out.value == 2 }}
",
            effects(&url)
        );
        let died = stage.run_with(&format!("kill:{point}:{step}"), &once);
        assert_eq!(died.status.signal(), Some(9), "{}", said(&died));
        let list = stage.shakedown(&["runs", "--format", "json"]);
        let runs: serde_json::Value = serde_json::from_slice(&list.stdout).expect("JSON");
        let text = assert_code(&stage.shakedown(&["resume", runs[0]["id"].as_str().expect("an id")]), 0);
        assert!(text.contains("PASSED") && text.contains("undone 7 of 7"), "{point} {step}: {text}");
        assert_as_earlier(&redis);
        redis.cli(&["FLUSHALL"]);
    }
}

#[test]
fn an_answer_that_was_lost_is_looked_for() {
    let redis = Redis::start(Setup::default());
    earlier(&redis);
    let lost = "lose:set,lose:ttl,lose:hash,lose:push,lose:left,lose:add,lose:new";
    let text = assert_code(&Stage::new().run_with(lost, &effects(&redis.url())), 0);
    assert!(text.contains("undone 7 of 7"), "{text}");
    assert_as_earlier(&redis);
}

#[test]
fn what_a_consumer_may_have_taken_is_not_pushed_again() {
    let redis = Redis::start(Setup::default());
    let stage = Stage::new();
    let push = format!(
        "prepare: {{ it: {{ redis: {{ url: '{}', push: {{ key: q, value: job }} }} }} }}\n",
        redis.url()
    );
    let died = stage.run_with("kill:after:it", &push);
    assert_eq!(died.status.signal(), Some(9), "{}", said(&died));
    assert_eq!(redis.cli(&["LPOP", "q"]), "job");
    let list = stage.shakedown(&["runs", "--format", "json"]);
    let runs: serde_json::Value = serde_json::from_slice(&list.stdout).expect("JSON");
    let resumed = stage.shakedown(&["resume", runs[0]["id"].as_str().expect("an id")]);
    assert!(said(&resumed).contains("a consumer took it, or it was never pushed"), "{}", said(&resumed));
    assert_ne!(resumed.status.code(), Some(0));
    assert_eq!(redis.cli(&["DBSIZE"]), "0", "it was not pushed a second time");
}

#[test]
fn a_server_that_is_away_at_the_undo_is_named_with_what_to_type() {
    let mut redis = Redis::start(Setup::default());
    redis.cli(&["SET", "k", "alt"]);
    let stage = Stage::new();
    let url = redis.url();
    stage.write(&format!(
        "prepare: {{ it: {{ redis: {{ url: '{url}', set: {{ key: k, value: ours }} }} }} }}
monitor: {{ waits: {{ wait: {{ until: {{ file: {{ stat: go }} }}, succeed_when: out.exists, every: 20ms }} }} }}\n"
    ));
    let child = stage.command(binaries::shakedown(), &["run", "it.yaml"]).spawn().expect("it starts");
    until("the value is set", || redis.cli(&["GET", "k"]) == "ours");
    redis.end();
    fs::write(stage.dir.path().join("go"), "").expect("written");
    let text = assert_code(&child.wait_with_output().expect("it ends"), 4);
    assert!(text.contains(&format!("redis-cli -u {url} SET k alt")), "{text}");
    assert!(text.contains("nothing listens there"), "{text}");
}

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
        let wanted = format!("redis-cli -u {plain} --askpass DEL k");
        assert!(text.contains(&wanted), "{text}");
        // Typed as it stands, it asks for the password.
        let mut typed =
            Command::new("/bin/sh").args(["-c", &wanted]).stdin(Stdio::piped()).spawn().expect("sh");
        std::io::Write::write_all(
            &mut typed.stdin.take().expect("a pipe"),
            format!("{PASSWORD}\n").as_bytes(),
        )
        .expect("written");
        assert!(typed.wait().expect("it ends").success());
        assert_eq!(redis.cli(&["EXISTS", "k"]), "0");
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

#[test]
fn a_wait_ends_when_the_server_says_so() {
    let redis = Redis::start(Setup::default());
    let stage = Stage::new();
    stage.write(&format!(
        "monitor:
  it:
    wait:
      until: {{ redis: {{ url: '{}', command: [HGET, job, 状态], reads: true }} }}
      succeed_when: out.value == '完成'
      every: 20ms
    timeout: 60s
",
        redis.url()
    ));
    let child = stage.command(binaries::shakedown(), &["run", "it.yaml"]).spawn().expect("it starts");
    until("it has asked", || redis.cli(&["INFO", "commandstats"]).contains("cmdstat_hget:"));
    redis.cli(&["HSET", "job", "状态", "完成"]);
    let output = child.wait_with_output().expect("it ends");
    assert_code(&output, 0);
}

#[test]
fn a_written_undo_takes_back_a_command() {
    let redis = Redis::start(Setup::default());
    let url = redis.url();
    let bare = format!("prepare: {{ it: {{ redis: {{ url: '{url}', command: [SADD, s, a] }} }} }}\n");
    let text = said(&Stage::new().run(&bare));
    assert!(text.contains("undo"), "{text}");
    assert_eq!(redis.cli(&["DBSIZE"]), "0");
    let whole = format!(
        "prepare:
  it:
    redis: {{ url: '{url}', command: [SADD, s, 成员, 7] }}
    undo: {{ redis: {{ url: '{url}', command: [SREM, s, 成员, 7] }} }}
    expect: out.value == 2
monitor:
  seen: {{ redis: {{ url: '{url}', command: [SISMEMBER, s, 成员], reads: true }}, expect: out.value == 1 }}
"
    );
    assert_code(&Stage::new().run(&whole), 0);
    assert_eq!(redis.cli(&["DBSIZE"]), "0");
}
