//! What is read, waited for and sent with a written undo.

use crate::{Stage, assert_code};
use tests::{
    lab::{binaries, until},
    servers::redis::{Redis, Setup},
};

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
