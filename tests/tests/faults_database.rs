//! Databases that others lock or that are damaged, in the lab.

use nix::sys::signal::Signal;
use std::io::Write;
use tests::{
    lab::{DATABASE, Running, lab_or_skip, lasts, until},
    stage::Stage,
};

const INSERT: &str = "
name: row
prepare:
  row:
    sqlite:
      database: /data/media_status.db
      busy_timeout: BUSY
      insert: { into: media_transfer_status, values: { file_path: /x, file_name: 锁.bin, download_status: downloading } }
monitor:
  there:
    sqlite: { database: /data/media_status.db, query: SELECT count(*) AS n FROM media_transfer_status }
    expect: out.row.n == 1
";

/// Another program that holds the write lock until it is dropped or released.
struct Holder(Running);

impl Holder {
    fn new(stage: &Stage) -> Self {
        let mut running = stage.lab.edge().spawn(["sqlite3", DATABASE]);
        let stdin = running.child.stdin.as_mut().expect("piped");
        stdin.write_all(b"BEGIN IMMEDIATE;\n.shell touch /tmp/held\n").expect("writes");
        until("the lock is held", || stage.lab.edge().exists("/tmp/held"));
        stage.lab.edge().sh("rm /tmp/held").ok();
        Self(running)
    }

    fn release(self) {
        // Its end rolls its transaction back.
        self.0.signal(Signal::SIGTERM);
        let _ended = self.0.wait();
    }
}

#[test]
fn a_lock_that_goes_away_is_waited_for_and_the_wait_is_counted() {
    let stage = Stage::new(lab_or_skip!(), &INSERT.replace("BUSY", "60s"));
    stage.lab.stop_daemon();
    for held_ms in [100, 10_000] {
        stage.lab.edge().sh("rm -f /dev/shm/events.jsonl").ok();
        let holder = Holder::new(&stage);
        let running = stage.start(&[]);
        until("the insert has begun", || stage.count("step_started") == 1);
        lasts(std::time::Duration::from_millis(held_ms));
        holder.release();
        let output = running.wait();
        assert_eq!(output.status.code(), Some(0), "{output}");
        let db = stage.step("row")["out"]["db"].clone();
        assert!(
            db["waits"].as_u64() >= Some(1) && db["longest_wait_ms"].as_u64() > Some(0),
            "{held_ms}: {db}"
        );
        let report = stage.report();
        assert!(report["database"]["waits"].as_u64() >= Some(1), "{held_ms}: {}", report["database"]);
        assert!(report["database"]["operations"].as_u64() >= Some(2), "{held_ms}: {}", report["database"]);
        assert!(output.stdout.contains("for locks, the longest"), "{output}");
        assert!(!output.stdout.contains("locked"), "{output}");
    }
    stage.lab.restart_daemon();
    stage.assert_clean_soon();
}

#[test]
fn a_lock_that_stays_ends_the_step_at_its_busy_timeout() {
    let stage = Stage::new(lab_or_skip!(), &INSERT.replace("BUSY", "2s"));
    stage.lab.stop_daemon();
    let holder = Holder::new(&stage);
    let running = stage.start(&[]);
    until("the insert has failed", || stage.count("step_finished") == 1);
    holder.release();
    let output = running.wait();
    // The undo finds nothing to do, and the database is free by then.
    assert_eq!(output.status.code(), Some(2), "{output}");
    let step = stage.step("row");
    assert_eq!(step["error"]["class"], "busy");
    assert!(step["error"]["hint"].as_str().is_some_and(|hint| hint.contains("fuser")), "{step}");
    let took = step["took_ms"].as_u64().expect("a number");
    // Its timeout and a tenth; a second more, for the machine may be busy with other tests.
    assert!((2_000..2_200 + 1_000).contains(&took), "{took} ms");
    stage.lab.restart_daemon();
    stage.assert_clean_soon();
}

#[test]
fn a_damaged_database_is_named_and_not_touched() {
    let playbook = "
name: damaged
precheck:
  health: { sqlite: { database: /data/it.db, check: [readable, quick] } }
prepare:
  row: { sqlite: { database: /data/it.db, insert: { into: t, values: { name: x } } } }
";
    let stage = Stage::new(lab_or_skip!(), playbook);
    let make = "rm -f /data/it.db*; sqlite3 /data/it.db 'CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); \
                WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) \
                INSERT INTO t (name) SELECT hex(randomblob(40)) FROM n;'";
    let damages = [
        (
            "bits in the middle",
            "printf '\\377\\377\\377\\377\\377\\377\\377\\377' | dd of=/data/it.db bs=1 seek=8192 conv=notrunc 2>/dev/null",
            "corrupt",
        ),
        ("half of it", "truncate -s 30000 /data/it.db", "corrupt"),
        ("its header", "dd if=/dev/urandom of=/data/it.db bs=60 count=1 conv=notrunc 2>/dev/null", "corrupt"),
        (
            "another file",
            "echo 'no database, but long enough to be taken for one: 文本 文本 文本 文本 文本 文本 文本 文本' >/data/it.db",
            "corrupt",
        ),
    ];
    for (what, damage, class) in damages {
        stage.lab.edge().sh(make).ok();
        stage.lab.edge().sh(damage).ok();
        let sum = || stage.lab.edge().sh("cd /data && sha256sum it.db && ls it.db*").ok();
        let before = sum();
        let output = stage.run(&[]);
        assert_eq!(output.status.code(), Some(1), "{what}: {output}");
        let error = stage.step("health")["error"].clone();
        assert!(
            error["message"].as_str().is_some_and(|text| text.contains("/data/it.db")),
            "{what}: {error}"
        );
        assert!(!error["hint"].is_null(), "{what}: {error}");
        assert!(
            ["corrupt", "expectation"].contains(&error["class"].as_str().unwrap_or_default()),
            "{what}: {class} {error}"
        );
        assert_eq!(sum(), before, "{what}: not a byte is changed");
        let forced = stage.run(&["--force"]);
        assert!(!forced.stderr.contains("panicked"), "{what}: {forced}");
    }
    // Nothing at all is in it: an empty database is none that has the table.
    stage.lab.edge().sh("rm -f /data/it.db*; : >/data/it.db").ok();
    let output = stage.run(&["--force"]);
    assert_eq!(output.status.code(), Some(2), "{output}");
    assert_eq!(stage.step("row")["error"]["class"], "not-found");
    assert_eq!(stage.lab.edge().sh("cat /data/it.db | wc -c").ok().trim(), "0");
    stage.lab.edge().sh("rm -f /data/it.db*").ok();
    stage.assert_clean();
}
