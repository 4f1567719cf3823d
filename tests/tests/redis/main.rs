//! The step type `redis` against a real server: what is read, what is undone, what is left and how it is told.

mod errors;
mod reads;
mod undo;

use tests::{
    bare::{Bare as Stage, exited as assert_code},
    folders::said,
    servers::redis::Redis,
};

/// Types the command that a report gives, as it stands.
#[track_caller]
fn type_in(text: &str) -> String {
    Stage::new().type_in(text)
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
