//! The main job on each store that the chain may keep its states in: `media-sync` in the lab, with a real server where
//! the store has one.

use std::fs;

use serde_json::{Value, json};
use tests::{
    folders::{self, Folders},
    lab::{CONFIG, DATABASE, Lab, MEDIA, Output, REMOTE, lab_or_skip, until},
    stage::Stage,
};

/// Written by the daemon once it serves.
const READY: &str = "/run/media-sync-daemon.ready";
const DOCUMENT: &str = "/data/媒体状态.json";
/// Where the servers have their files: in memory, and no part of what a run may leave something in.
const HOME: &str = "/dev/shm";
const POSTGRES: &str = "postgres:///media?host=/dev/shm/postgres&user=postgres";
const REDIS: &str = "redis://127.0.0.1:6379/3";
const QUEUE: &str = "媒体:ready";

/// What other programs have in the store: not yet downloaded, and failed long ago. Nobody touches it.
fn of_others() -> Value {
    json!([
        { "id": 1, "file_path": "/data/甲.mp4", "file_name": "甲.mp4", "download_status": "downloading" },
        { "id": 2, "file_path": "/data/乙.mp4", "file_name": "乙.mp4", "download_status": "completed",
          "transfer_status": "failed", "last_error_message": "连接断开" },
    ])
}

/// As SQL that both databases understand.
fn rows_of_others() -> String {
    let rows = of_others();
    let text =
        |row: &Value, name: &str| row[name].as_str().map_or("NULL".to_owned(), |text| format!("'{text}'"));
    let values = rows.as_array().expect("rows").iter().map(|row| {
        let names = ["file_path", "file_name", "download_status", "transfer_status", "last_error_message"];
        let row: Vec<String> = names.iter().map(|name| text(row, name)).collect();
        format!("({})", row.join(", "))
    });
    format!(
        "INSERT INTO media_transfer_status \
         (file_path, file_name, download_status, transfer_status, last_error_message) VALUES {}",
        values.collect::<Vec<_>>().join(", ")
    )
}

/// A lab whose daemon works with this store, and what the store held before.
struct Chain {
    stage: Stage,
    store: &'static str,
    held: String,
}

impl Chain {
    fn new(lab: Lab, store: &'static str) -> Self {
        match store {
            "postgres" => start_postgres(&lab),
            "redis+sqlite" => start_redis(&lab),
            _ => {}
        }
        let mut config: Value = serde_json::from_slice(&lab.edge().read(CONFIG)).expect("JSON");
        config["database"]["store"] = json!(store);
        config["database"]["url"] = json!(POSTGRES);
        config["database"]["redis_url"] = json!(REDIS);
        config["database"]["queue"] = json!(QUEUE);
        config["database"]["document"] = json!(DOCUMENT);
        lab.edge().write(CONFIG, config.to_string());
        restart(&lab);
        match store {
            "postgres" => drop(psql(&lab, &rows_of_others())),
            "json" => {
                // As the daemon writes it, and in turn with it.
                let document = format!("{:#}\n", json!({ "版本": 1, "media": of_others() }));
                lab.edge().write(&format!("{DOCUMENT}.test"), document);
                lab.edge().sh(&format!("flock {DOCUMENT}.lock mv {DOCUMENT}.test {DOCUMENT}")).ok();
            }
            _ => drop(lab.sql(&rows_of_others())),
        }
        if store == "redis+sqlite" {
            lab.edge().run(["redis-cli", "-u", REDIS, "RPUSH", "别人的", "1", "2"]).ok();
        }
        let held = held(&lab, store);
        Self { stage: Stage::new(lab, ""), store, held }
    }

    fn argv<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        [&["run", "media-sync", "-p", "config=/etc/media-sync/unified_config.json", "-v"], more].concat()
    }

    fn run(&self, more: &[&str]) -> Output {
        self.stage.shakedown(&self.argv(more))
    }

    /// The step that waits for the transfers.
    fn wait(&self) -> &'static str {
        match self.store {
            "postgres" => "transferred_in_postgres",
            "json" => "transferred_in_json",
            _ => "transferred",
        }
    }

    fn in_downloading(&self) -> usize {
        let lab = &self.stage.lab;
        let sql = "SELECT count(*) FROM media_transfer_status WHERE transfer_status = 'downloading'";
        match self.store {
            "json" => {
                let document: Value = serde_json::from_slice(&lab.edge().read(DOCUMENT)).expect("JSON");
                let all = document["media"].as_array().expect("a list").iter();
                all.filter(|media| media["transfer_status"] == "downloading").count()
            }
            "postgres" => psql(lab, sql).trim().parse().expect("a number"),
            _ => lab.sql(sql).trim().parse().expect("a number"),
        }
    }

    /// Nothing is left: no files, rows, elements of lists, remote files; the document is the same, byte for byte.
    #[track_caller]
    fn assert_clean(&self) {
        until("the daemon has put down what it had in hand", || {
            held(&self.stage.lab, self.store) == self.held
        });
        self.stage.assert_clean_soon();
    }

    /// The same, once the daemon does no more wrong.
    #[track_caller]
    fn assert_clean_without_faults(&self) {
        self.stage.lab.edge().sh("rm /etc/media-sync/faults.json").ok();
        self.assert_clean();
    }
}

fn restart(lab: &Lab) {
    lab.restart_daemon();
    until("the daemon serves again", || lab.edge().exists(READY));
}

fn start_postgres(lab: &Lab) {
    let bin = lab.edge().sh("ls -d /usr/lib/postgresql/*/bin").ok().trim().to_owned();
    lab.edge().sh(&format!("install -d -o postgres {HOME}/postgres")).ok();
    let made = format!(
        "setpriv --reuid postgres --regid postgres --init-groups {bin}/initdb -D {HOME}/postgres/data -A trust \
         -U postgres -E UTF8 --locale C.UTF-8 --no-sync --no-instructions"
    );
    lab.edge().sh(&made).ok();
    start_server(lab);
    lab.edge().run(["psql", "-h", "/dev/shm/postgres", "-U", "postgres", "-c", "CREATE DATABASE media"]).ok();
}

fn start_server(lab: &Lab) {
    let bin = lab.edge().sh("ls -d /usr/lib/postgresql/*/bin").ok().trim().to_owned();
    // No processes that come and go by themselves, and none whose title tells what it does.
    let server = format!(
        "systemd-run --quiet --unit=it-postgres --uid=postgres {bin}/postgres -D {HOME}/postgres/data \
         -k {HOME}/postgres -h '' -c fsync=off -c autovacuum=off -c update_process_title=off"
    );
    lab.edge().sh(&server).ok();
    until("PostgreSQL answers", || {
        lab.edge()
            .run(["psql", "-h", "/dev/shm/postgres", "-U", "postgres", "-c", "SELECT 1"])
            .status
            .success()
    });
}

fn psql(lab: &Lab, sql: &str) -> String {
    lab.edge().run(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql, POSTGRES]).ok()
}

fn start_redis(lab: &Lab) {
    lab.edge().sh(&format!("install -d -o redis {HOME}/redis")).ok();
    let server = format!(
        "systemd-run --quiet --unit=it-redis --uid=redis redis-server --bind 127.0.0.1 --port 6379 --save '' \
         --dir {HOME}/redis"
    );
    lab.edge().sh(&server).ok();
    until("Redis answers", || lab.edge().run(["redis-cli", "-u", REDIS, "PING"]).stdout.contains("PONG"));
}

/// All that is in the store.
fn held(lab: &Lab, store: &str) -> String {
    match store {
        "postgres" => psql(lab, "SELECT * FROM media_transfer_status ORDER BY id"),
        "json" => String::from_utf8(lab.edge().read(DOCUMENT)).expect("UTF-8"),
        _ => {
            let rows = lab
                .edge()
                .run(["sqlite3", "-readonly", DATABASE, "SELECT * FROM media_transfer_status"])
                .ok();
            if store == "sqlite" {
                return rows;
            }
            let lists = format!(
                "redis-cli -u {REDIS} --scan | sort | while read -r key; do echo \"$key\"; \
                 redis-cli -u {REDIS} LRANGE \"$key\" 0 -1; done"
            );
            format!("{rows}{}", lab.edge().sh(&lists).ok())
        }
    }
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn passes_and_leaves_nothing(chain: &Chain) {
    let plan =
        chain.stage.lab.edge().run(["shakedown", "plan", "media-sync", "-p", &format!("config={CONFIG}")]);
    assert_eq!(code(&plan), Some(0), "{plan}");
    let marked = plan.stdout.contains("skipped") && plan.stdout.contains("` is false: vars.");
    assert!(marked, "the steps of other stores are marked: {plan}");
    chain.assert_clean();
    let output = chain.run(&[]);
    assert_eq!(code(&output), Some(0), "{output}");
    assert!(output.stdout.contains("PASSED media-sync"), "{output}");
    for step in ["transferred", "transferred_in_postgres", "transferred_in_json"] {
        let wanted = if step == chain.wait() { "ok" } else { "skipped" };
        assert_eq!(chain.stage.step(&format!("{step}[0]"))["status"], wanted, "{step}");
    }
    chain.assert_clean();
}

fn five_files_at_once_pass(chain: &Chain) {
    let output = chain.run(&["-p", "count=5", "-p", "size=1MB", "-p", "prefix=冒烟 测试"]);
    assert_eq!(code(&output), Some(0), "{output}");
    chain.assert_clean();
}

fn a_failed_transfer_ends_the_run_with_its_message(chain: &Chain) {
    chain.stage.lab.set_faults(r#"{"fail_transfer": "rsync: 连接断开 (code 12)"}"#);
    let output = chain.run(&[]);
    assert_eq!(code(&output), Some(2), "{output}");
    assert!(output.stdout.contains("rsync: 连接断开 (code 12)"), "{output}");
    assert!(!output.stdout.contains("did not finish within"), "not at the timeout: {output}");
    chain.assert_clean_without_faults();
}

fn a_checksum_mismatch_ends_the_run_with_the_daemons_words(chain: &Chain) {
    chain.stage.lab.set_faults(r#"{"checksum_mismatch": true}"#);
    let output = chain.run(&[]);
    assert_eq!(code(&output), Some(2), "{output}");
    assert!(output.stdout.contains("文件校验和不匹配 (checksum mismatch)"), "{output}");
    assert!(!output.stdout.contains("did not finish within"), "not at the timeout: {output}");
    assert_eq!(chain.stage.lab.nas().sh(&format!("find {REMOTE} -type f")).ok(), "");
    assert_eq!(chain.stage.lab.edge().sh(&format!("ls -A {MEDIA}")).ok(), "");
    chain.assert_clean_without_faults();
}

fn killed_while_the_daemon_transfers_it_is_recovered(chain: &Chain) {
    chain.stage.lab.set_faults(r#"{"slow_ms": 3600000}"#);
    let running = chain.stage.lab.edge().spawn(["shakedown"].iter().chain(&chain.argv(&["--no-input"])));
    until("the daemon has taken the file", || chain.in_downloading() == 1);
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.wait();
    let output = chain.stage.shakedown(&["recover", "--yes"]);
    assert_eq!(code(&output), Some(0), "{output}");
    assert_eq!(chain.in_downloading(), 0);
    // The daemon still has the file in hand: at its next start it finds that nobody wants it any more.
    chain.stage.lab.edge().sh("rm /etc/media-sync/faults.json").ok();
    restart(&chain.stage.lab);
    chain.assert_clean();
}

fn three_runs_at_once_pass(chain: &Chain) {
    let argv = chain.argv(&["--no-input", "-p", "quiet_for=1s"]);
    let runs: Vec<_> =
        (0..3).map(|_| chain.stage.lab.edge().spawn(["shakedown"].iter().chain(&argv))).collect();
    for running in runs {
        let output = running.wait();
        assert_eq!(code(&output), Some(0), "{output}");
    }
    chain.assert_clean();
}

fn a_store_that_is_away_is_refused_with_what_to_type(chain: &Chain) {
    let edge = chain.stage.lab.edge();
    let (away, said, hint) = match chain.store {
        "sqlite" => (
            format!("mv {DATABASE} {DATABASE}.away"),
            "cannot open the database `/data/media_status.db`",
            "hint: sqlite3 /data/media_status.db 'PRAGMA",
        ),
        "postgres" => (
            "systemctl stop it-postgres".into(),
            "expected the socket of a server, found no such file",
            "hint: psql 'postgres:///media?host=/dev/shm/postgres&user=postgres' -c",
        ),
        "redis+sqlite" => (
            "systemctl stop it-redis".into(),
            "refused the connection: nothing listens there",
            "hint: redis-cli -u 'redis://127.0.0.1:6379/3' LRANGE '媒体:ready' 0 -1",
        ),
        _ => (
            format!(
                "echo '{{\"media\": [' >{DOCUMENT}.test && flock {DOCUMENT}.lock mv {DOCUMENT}.test {DOCUMENT}"
            ),
            "is no JSON: line 2",
            "hint: python3 -m json.tool /data/媒体状态.json; fuser -v /data/媒体状态.json.lock",
        ),
    };
    edge.sh(&away).ok();
    for playbook in ["media-sync", "media-sync-diagnostics"] {
        let output = chain.stage.shakedown(&["run", playbook, "-p", &format!("config={CONFIG}")]);
        assert_eq!(code(&output), Some(1), "{output}");
        assert!(output.stdout.contains(said) && output.stdout.contains(hint), "{output}");
        let effects = chain.stage.events().iter().filter(|event| !event["intent"].is_null()).count();
        assert_eq!(effects, 0, "nothing is changed");
    }
    assert_eq!(edge.sh(&format!("ls -A {MEDIA}")).ok(), "");
}

/// The same tests for each store.
macro_rules! on {
    ($($module:ident: $store:literal),+) => {
        $(mod $module {
            use super::Chain;
            use tests::lab::lab_or_skip;

            on!(@each $store: passes_and_leaves_nothing, five_files_at_once_pass,
                a_failed_transfer_ends_the_run_with_its_message,
                a_checksum_mismatch_ends_the_run_with_the_daemons_words,
                killed_while_the_daemon_transfers_it_is_recovered, three_runs_at_once_pass,
                a_store_that_is_away_is_refused_with_what_to_type);
        })+
    };
    (@each $store:literal: $($test:ident),+) => {
        $(#[test]
        fn $test() {
            super::$test(&Chain::new(lab_or_skip!(), $store));
        })+
    };
}

on!(sqlite: "sqlite", postgres: "postgres", redis_and_sqlite: "redis+sqlite", json: "json");

/// Whatever comes back in time is waited for.
#[test]
fn a_server_that_is_restarted_in_the_middle_does_not_fail_the_run() {
    let chain = Chain::new(lab_or_skip!(), "postgres");
    let lab = &chain.stage.lab;
    lab.set_faults(r#"{"hang": true}"#);
    let running = lab.edge().spawn(["shakedown"].iter().chain(&chain.argv(&["--no-input"])));
    let rows = || psql(lab, "SELECT count(*) FROM media_transfer_status").trim().to_owned();
    until("the row is there", || rows() == "3");
    lab.edge().sh("systemctl stop it-postgres").ok();
    start_server(lab);
    lab.edge().sh("rm /etc/media-sync/faults.json").ok();
    let output = running.wait();
    assert_eq!(code(&output), Some(0), "{output}");
    chain.assert_clean();
}

/// The daemon's list of what it has in hand outlives it.
#[test]
fn a_daemon_that_dies_with_a_file_of_the_queue_takes_it_up_again() {
    let chain = Chain::new(lab_or_skip!(), "redis+sqlite");
    let lab = &chain.stage.lab;
    lab.set_faults(r#"{"slow_ms": 3600000}"#);
    let running = lab.edge().spawn(["shakedown"].iter().chain(&chain.argv(&["--no-input"])));
    until("the daemon has taken the file", || chain.in_downloading() == 1);
    lab.edge().sh("rm /etc/media-sync/faults.json && systemctl kill -s KILL media-sync-daemon").ok();
    let output = running.wait();
    assert_eq!(code(&output), Some(0), "{output}");
    chain.assert_clean();
}

#[test]
fn the_store_is_that_of_the_daemons_configuration_unless_another_is_chosen() {
    let folders = Folders::new();
    for (configured, chosen, wanted) in [
        (None, "auto", "sqlite"),
        (Some("json"), "auto", "json"),
        (Some("redis+sqlite"), "auto", "sqlite redis"),
        (Some("json"), "postgres", "postgres"),
        (None, "redis+sqlite", "sqlite redis"),
    ] {
        let mut config = json!({
            "nas_settings": { "host": "localhost", "username": "none", "base_path": "/none" },
            "local_settings": { "media_path": folders.dir.path() },
            "database": { "path": folders.path("none.db") },
        });
        if let Some(configured) = configured {
            config["database"]["store"] = json!(configured);
        }
        fs::write(folders.path("config.json"), config.to_string()).expect("written");
        for playbook in ["media-sync", "media-sync-diagnostics"] {
            let chosen = format!("store={chosen}");
            let output = folders.run(&["plan", playbook, "-p", "config=config.json", "-p", &chosen]);
            let text = folders::said(&output);
            let asked = text.lines().filter_map(|line| line.trim_start().strip_prefix("? "));
            let names = asked.filter_map(|line| line.split_whitespace().next());
            let stores = names.filter(|name| ["sqlite", "postgres", "redis", "json"].contains(name));
            assert_eq!(stores.collect::<Vec<_>>().join(" "), wanted, "{configured:?} {chosen}: {text}");
        }
    }
    let output = folders.run(&["plan", "media-sync", "-p", "config=config.json", "-p", "store=mysql"]);
    assert_eq!(output.status.code(), Some(3));
    let text = folders::said(&output);
    assert!(text.contains("`redis+sqlite`") && text.contains("found `mysql`"), "{text}");
}
