//! The loop over a real store and a local target, with each fault.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Daemon;
use crate::args::Args;
use crate::log::testing::{memory, text};
use crate::stop::Stop;

const NAME: &str = "20250123_101500_smoketest_1.txt";
const SUM: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

struct EdgeBox {
    store: &'static str,
    dir: TempDir,
    lines: Arc<Mutex<Vec<u8>>>,
    log: crate::log::Log,
    stop: Stop,
}

impl EdgeBox {
    fn new(store: &'static str) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let (log, lines) = memory();
        let it = Self { store, dir, lines, log, stop: Stop::default() };
        it.configure(json!({ "delete_after_sync": false, "max_retry_attempts": 2 }));
        it
    }

    /// One with each store that needs no server.
    fn each() -> [Self; 2] {
        ["sqlite", "json"].map(Self::new)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn configure(&self, sync_settings: Value) {
        let config = json!({
            "nas_settings": { "host": "local", "base_path": self.path("nas") },
            "local_settings": { "media_path": self.path("media") },
            "database": {
                "store": self.store, "path": self.path("media_status.db"), "document": self.path("media_status.json"),
                "busy_timeout_ms": 1000,
            },
            "sync_settings": sync_settings,
        });
        std::fs::write(self.path("config.json"), config.to_string()).expect("write");
    }

    fn faults(&self, json: &str) {
        std::fs::write(self.path("faults.json"), json).expect("write");
    }

    fn start(&self, once: bool) -> Result<Daemon, String> {
        let args = Args {
            config: self.path("config.json"),
            once,
            interval: Some(Duration::from_millis(10)),
            init_db: true,
            ready_file: Some(self.path("ready")),
            local_only: false,
            faults: Some(self.path("faults.json")),
        };
        Daemon::start(args, self.log.clone(), self.stop.clone())
    }

    /// Starts, adds a file with its row, and syncs once.
    fn sync_one(&self) {
        let mut daemon = self.start(true).expect("start");
        self.add(NAME, SUM);
        daemon.run().expect("sync");
    }

    fn add(&self, name: &str, sum: &str) {
        let path = self.path("media").join(name);
        std::fs::write(&path, "hello").expect("write");
        let row = json!({
            "file_path": path, "file_name": name, "file_hash": sum, "download_status": "completed",
        });
        match self.store {
            "json" => self.add_element(row),
            _ => {
                let sql =
                    "INSERT INTO media_transfer_status (file_path, file_name, file_hash, download_status)
                           VALUES (?1, ?2, ?3, 'completed')";
                let path = path.to_str().expect("UTF-8");
                self.database().execute(sql, [path, name, sum]).expect("insert");
            }
        };
    }

    /// As another program does that takes turns with the daemon.
    fn add_element(&self, element: Value) {
        let lock = std::fs::File::open(self.path("media_status.json.lock")).expect("open");
        let held = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).expect("lock");
        let mut document = self.document();
        document["media"].as_array_mut().expect("a list").push(element);
        let beside = self.path("beside");
        std::fs::write(&beside, document.to_string()).expect("write");
        std::fs::rename(&beside, self.path("media_status.json")).expect("rename");
        drop(held);
    }

    fn document(&self) -> Value {
        let text = std::fs::read(self.path("media_status.json")).expect("read");
        serde_json::from_slice(&text).expect("JSON")
    }

    fn database(&self) -> Connection {
        let connection = Connection::open(self.path("media_status.db")).expect("open");
        connection.busy_timeout(Duration::from_secs(10)).expect("busy timeout");
        connection
    }

    /// The values of a column, the oldest file first.
    fn column(&self, name: &str) -> Vec<Value> {
        if self.store == "json" {
            let document = self.document();
            let all = document["media"].as_array().expect("a list").iter();
            return all.map(|element| element.get(name).cloned().unwrap_or_default()).collect();
        }
        let database = self.database();
        let sql = format!("SELECT json_quote({name}) FROM media_transfer_status ORDER BY id");
        let mut query = database.prepare(&sql).expect("a column");
        let rows = query.query_map([], |row| row.get::<_, String>(0)).expect("rows");
        rows.map(|row| serde_json::from_str(&row.expect("a row")).expect("JSON")).collect()
    }

    fn only(&self, name: &str) -> Value {
        let column = self.column(name);
        assert_eq!(column.len(), 1, "{column:?}");
        column[0].clone()
    }

    /// That of the only file; `pending` if nobody has said anything yet.
    fn status(&self) -> String {
        self.only("transfer_status").as_str().unwrap_or("pending").to_owned()
    }

    fn made(&self) -> bool {
        let name = if self.store == "json" { "media_status.json" } else { "media_status.db" };
        self.path(name).exists()
    }

    fn copy(&self) -> PathBuf {
        self.path("nas/2025/01/23").join(NAME)
    }

    fn said(&self) -> String {
        text(&self.lines)
    }

    #[track_caller]
    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let limit = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < limit, "never: {what}; the daemon said:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn the_store_comes_last_so_that_it_tells_that_all_is_there() {
    for edge in EdgeBox::each() {
        std::fs::write(edge.path("media"), "in the way").expect("write");
        assert!(edge.start(true).is_err());
        assert!(!edge.made());
    }
}

#[test]
fn a_ready_file_is_sent_and_its_row_completed() {
    for it in EdgeBox::each() {
        it.sync_one();
        assert_eq!(it.status(), "completed");
        assert_eq!(std::fs::read_to_string(it.copy()).expect("copy"), "hello");
        for time in ["transfer_start_time", "transfer_end_time"] {
            assert!(it.only(time).is_string(), "{time}");
        }
        assert!(it.only("last_error_message").is_null());
        assert!(it.said().contains(&format!(" INFO sent {NAME}")), "{}", it.said());
    }
}

#[test]
fn a_wrong_sum_fails_the_row_and_leaves_no_copy() {
    for it in EdgeBox::each() {
        let mut daemon = it.start(true).expect("start");
        it.add(NAME, &SUM.replace('2', "3"));
        daemon.run().expect("sync");
        assert_eq!(it.status(), "failed");
        assert_eq!(std::fs::read_dir(it.path("nas/2025/01/23")).expect("folder").count(), 0);
    }
}

#[test]
fn a_file_that_is_gone_fails_the_row_after_its_tries() {
    for it in EdgeBox::each() {
        let mut daemon = it.start(true).expect("start");
        it.add(NAME, SUM);
        std::fs::remove_file(it.path("media").join(NAME)).expect("remove");
        daemon.run().expect("sync");
        assert_eq!(it.only("transfer_retry_count"), 2);
        let message = it.only("last_error_message").to_string();
        assert!(message.contains("No such file"), "{message}");
    }
}

#[test]
fn sent_files_go_after_the_delay_if_the_copy_is_intact() {
    for store in ["sqlite", "json"] {
        let it = EdgeBox::new(store);
        it.configure(json!({ "safe_delete_delay_minutes": 0 }));
        it.sync_one();
        assert!(!it.path("media").join(NAME).exists(), "{}", it.said());
        assert!(it.copy().exists());

        let it = EdgeBox::new(store);
        it.configure(json!({ "safe_delete_delay_minutes": 30 }));
        it.sync_one();
        assert!(it.path("media").join(NAME).exists());
        std::fs::write(it.copy(), "hullo").expect("write");
        it.configure(json!({ "safe_delete_delay_minutes": 0 }));
        it.start(true).expect("start").run().expect("sync");
        assert!(it.path("media").join(NAME).exists(), "{}", it.said());
    }
}

#[test]
fn crash_at_start_ends_at_once() {
    for it in EdgeBox::each() {
        it.faults(r#"{"crash_at_start": true}"#);
        assert!(it.start(false).is_err());
        assert!(!it.made());
        assert!(!it.path("ready").exists());
    }
}

#[test]
fn fail_transfer_fails_the_row_with_its_message() {
    for it in EdgeBox::each() {
        it.faults(r#"{"fail_transfer": "rsync: connection unexpectedly closed"}"#);
        it.sync_one();
        assert_eq!(it.status(), "failed");
        assert_eq!(it.only("last_error_message"), "rsync: connection unexpectedly closed");
        assert!(!it.copy().exists());
    }
}

#[test]
fn checksum_mismatch_leaves_the_row_at_downloading_with_the_cause_only_in_the_log() {
    for it in EdgeBox::each() {
        it.faults(r#"{"checksum_mismatch": true}"#);
        it.sync_one();
        it.start(true).expect("start").run().expect("sync again");
        assert_eq!(it.status(), "downloading");
        assert!(it.only("last_error_message").is_null());
        let said = it.said();
        let line = said.lines().find(|line| line.contains("checksum mismatch")).expect("a line");
        assert!(line.contains(" ERROR ") && line.contains(NAME) && line.contains(SUM), "{line}");
        assert_eq!(said.matches("checksum mismatch").count(), 1, "{said}");
    }
}

#[test]
fn hang_takes_no_rows_until_it_ends() {
    for it in EdgeBox::each() {
        it.faults(r#"{"hang": true}"#);
        it.sync_one();
        assert_eq!(it.status(), "pending");
        it.faults("{}");
        it.start(true).expect("start").run().expect("sync");
        assert_eq!(it.status(), "completed");
    }
}

#[test]
fn asked_to_end_within_a_slow_transfer_it_gives_the_row_back() {
    for it in EdgeBox::each() {
        it.faults(r#"{"slow_ms": 3600000}"#);
        let mut daemon = it.start(false).expect("start");
        it.add(NAME, SUM);
        std::thread::scope(|scope| {
            let running = scope.spawn(move || daemon.run());
            it.until("downloading", || it.status() == "downloading");
            assert!(it.path("ready").exists());
            let asked = Instant::now();
            it.stop.ask();
            running.join().expect("no panic").expect("ends well");
            assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        });
        assert_eq!(it.status(), "pending");
        assert!(!it.path("ready").exists());
    }
}

#[test]
fn ignore_sigterm_goes_on_until_the_fault_is_gone() {
    for it in EdgeBox::each() {
        it.faults(r#"{"ignore_sigterm": true}"#);
        let mut daemon = it.start(false).expect("start");
        std::thread::scope(|scope| {
            // The fault holds from the first sync on; the wish to end comes after it.
            let running = scope.spawn(move || daemon.run());
            it.add(NAME, SUM);
            it.until("completed", || it.status() == "completed");
            it.stop.ask();
            it.add("20250123_101501_smoketest_2.txt", SUM);
            let completed =
                || it.column("transfer_status").iter().filter(|status| *status == "completed").count();
            it.until("both completed", || completed() == 2);
            assert!(!running.is_finished());
            it.faults("{}");
            running.join().expect("no panic").expect("ends well");
        });
    }
}

#[test]
fn an_unknown_store_is_refused_and_the_known_ones_are_named() {
    let it = EdgeBox::new("mysql");
    let error = it.start(true).err().expect("unknown");
    assert!(error.contains("`mysql`") && error.contains("`redis+sqlite`"), "{error}");
}
