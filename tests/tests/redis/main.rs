//! The step type `redis` against a real server: what is read, what is undone, what is left and how it is told.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

mod errors;
mod reads;
mod undo;

use tests::{
    folders::{Folders, said},
    lab::{binaries, until},
    servers::redis::Redis,
};

/// Where playbooks are run.
struct Stage(Folders);

impl std::ops::Deref for Stage {
    type Target = Folders;

    fn deref(&self) -> &Folders {
        &self.0
    }
}

impl Stage {
    fn new() -> Self {
        Self(Folders::new())
    }

    fn command(&self, program: &Path, argv: &[&str]) -> Command {
        let mut command = self.0.command(program, argv);
        command.env("COLUMNS", "400");
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
