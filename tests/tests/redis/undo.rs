//! What the four actions take back, after success, failure and death, and what they leave.

use crate::{Stage, assert_as_earlier, assert_code, earlier, effects, said, type_in};
use std::{fs, os::unix::process::ExitStatusExt};
use tests::{
    lab::{binaries, until},
    servers::redis::{Redis, Setup},
};

#[test]
fn what_the_actions_change_is_back_after_success_and_after_failure() {
    let redis = Redis::start(Setup::default());
    earlier(&redis);
    let url = redis.url();
    let seen = format!(
        "{}monitor:
  saw_set: {{ redis: {{ url: '{url}', command: [GET, 配置], reads: true }}, expect: out.value == '新值' }}
  saw_forever: {{ redis: {{ url: '{url}', command: [TTL, 配置], reads: true }}, expect: out.value == -1 }}
  saw_ttl: {{ redis: {{ url: '{url}', command: [TTL, lives], reads: true }}, expect: out.value > 0 && out.value <= 300 }}
  saw_hash: {{ redis: {{ url: '{url}', command: [HGETALL, device], reads: true }}, expect: \"out.value == {{'state': '上传', 'other': 'x', 'extra': '1'}}\" }}
  saw_queue: {{ redis: {{ url: '{url}', command: [LRANGE, queue, 0, -1], reads: true }}, expect: \"out.value == ['one', 'zero', 'one', '二', 'one']\" }}
  saw_length: {{ command: {{ shell: 'true', reads: true }}, expect: steps.push.out.length == 5 && steps.push.out.earlier && !steps.left.out.earlier }}
  saw_entry: {{ redis: {{ url: '{url}', command: [XRANGE, events, '${{{{ steps.add.out.id }}}}', '+'], reads: true }}, expect: \"out.value[0].fields == {{'z': '最后', 'a': '1.5'}}\" }}
",
        effects(&url)
    );
    let text = assert_code(&Stage::new().run(&seen), 0);
    assert!(text.contains("undone 7 of 7"), "{text}");
    assert_as_earlier(&redis);

    let fails =
        format!("{seen}  fails: {{ needs: [saw_entry], command: {{ shell: exit 1, reads: true }} }}\n");
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

/// Types what a report says of the values from before.
fn put_back(text: &str) -> String {
    let told = text.lines().find_map(|line| line.split_once("what was there before is put back with: "));
    let (_, line) = told.unwrap_or_else(|| panic!("no command: {text}"));
    let typed = std::process::Command::new("/bin/sh").args(["-c", line]).output().expect("sh");
    assert!(typed.status.success(), "{line}: {}", said(&typed));
    line.to_owned()
}

#[test]
fn what_another_changed_is_left_and_named_with_what_was_there_before() {
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
    assert!(type_in(&text).ends_with(" GET k"), "{text}");
    assert_eq!(redis.cli(&["GET", "k"]), "theirs");
    put_back(&text);
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
    let line = put_back(&text);
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
    assert_eq!(redis.cli(&["HGETALL", "h"]), "f\nx\ng\ny");
    put_back(&text);
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
    let text = assert_code(&Stage::new().run_while(&push, ready, || drop(redis.cli(&["LPOP", "q"]))), 0);
    assert!(text.contains("undone 1 of 1"), "{text}");
    assert_eq!(redis.cli(&["DBSIZE"]), "0", "the other one was still ours");
    // Where others have pushed, only a value that nobody else can have is known.
    let theirs = || {
        redis.cli(&["LPOP", "q"]);
        redis.cli(&["RPUSH", "q", "theirs"]);
    };
    let text = assert_code(&Stage::new().run_while(&push, ready, theirs), 4);
    assert!(text.contains("1 cannot be told"), "{text}");
    assert_eq!(redis.cli(&["LRANGE", "q", "0", "-1"]), "b\ntheirs");
    redis.cli(&["DEL", "q"]);
    let own = push.replace("[a, b]", "['a ${{ run.id }}', 'b ${{ run.id }}']");
    assert_code(&Stage::new().run_while(&own, ready, theirs), 0);
    assert_eq!(redis.cli(&["LRANGE", "q", "0", "-1"]), "theirs");

    // Two equal elements were there before, two of the three are gone: nobody can tell which.
    redis.cli(&["DEL", "q"]);
    redis.cli(&["RPUSH", "q", "a", "a"]);
    let one = format!("prepare: {{ it: {{ redis: {{ url: '{url}', push: {{ key: q, value: a }} }} }} }}");
    let three = || redis.cli(&["LLEN", "q"]) == "3";
    let text = assert_code(&Stage::new().run_while(&one, three, || drop(redis.cli(&["LPOP", "q", "2"]))), 4);
    assert!(text.contains("1 cannot be told") && text.contains("the rest may be either"), "{text}");
    assert!(text.contains("LRANGE q 0 -1"), "{text}");
    assert_eq!(redis.cli(&["LLEN", "q"]), "1");
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
    // The mark that was pushed with it tells that it was there.
    assert!(said(&resumed).contains("its effect has happened"), "{}", said(&resumed));
    assert_eq!(resumed.status.code(), Some(0));
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
