//! Proof by `strace`: a plan opens nothing for writing. What is allowed is named here, and in docs/design/plan.md.

use std::{path::Path, process::Command};

use tests::{
    folders::{Folders, said},
    lab::binaries,
};

/// The calls that could make, change or remove something, or open it for that.
const CALLS: &str = "trace=open,openat,openat2,creat,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,\
                     linkat,symlink,symlinkat,mknod,mknodat,truncate,ftruncate,chmod,fchmod,fchmodat,chown,fchown,\
                     fchownat,lchown,utimensat,setxattr,fsetxattr,mount";

/// The lines of a trace that tell of writing.
fn writes(trace: &str) -> Vec<String> {
    let opens = |line: &str| ["open(", "openat(", "openat2("].iter().any(|call| line.contains(call));
    let for_writing = |line: &str| {
        ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"].iter().any(|flag| line.contains(flag))
    };
    trace
        .lines()
        .filter(|line| line.contains('(') && !line.contains("+++") && !line.contains("--- SIG"))
        // The end of a call that another process had interrupted: its beginning has been looked at.
        .filter(|line| !line.contains("resumed>"))
        .filter(|line| !opens(line) || for_writing(line))
        // Devices that hold nothing.
        .filter(|line| !line.contains("\"/dev/null\"") && !line.contains("\"/dev/tty\""))
        .map(str::to_owned)
        .collect()
}

/// What a plan writes, told by `strace`, with all processes that it starts.
fn traced(folders: &Folders, argv: &[&str]) -> (Vec<String>, String) {
    let (trace, said) = trace(folders, argv);
    (writes(&trace), said)
}

fn trace(folders: &Folders, argv: &[&str]) -> (String, String) {
    let trace = folders.state.path().join("trace");
    let output = Command::new("strace")
        // With `-y` a file that is open has its name beside its number.
        .args(["-f", "-qq", "-y", "-s", "300", "-e", CALLS, "-o"])
        .arg(&trace)
        .arg(binaries::shakedown())
        .args(argv)
        .current_dir(folders.dir.path())
        .env("SHAKEDOWN_STATE_DIR", folders.state.path().join("state"))
        .env("TMPDIR", folders.dir.path())
        .output()
        .expect("strace is installed: tests/lab/prepare");
    let text = std::fs::read_to_string(&trace).expect("a trace");
    assert!(text.contains("openat("), "the trace holds the run: {}", said(&output));
    (text, said(&output))
}

#[test]
fn the_filter_finds_writes_of_every_kind() {
    let lines = [
        "7 openat(AT_FDCWD, \"/tmp/x\", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3",
        "7 openat(AT_FDCWD, \"/tmp/x\", O_RDWR|O_CLOEXEC) = 3",
        "7 mkdir(\"/tmp/x\", 0700) = 0",
        "7 unlink(\"/tmp/x\") = -1 ENOENT (No such file or directory)",
        "7 openat(AT_FDCWD, \"/tmp/x\", O_RDWR|O_CREAT <unfinished ...>",
    ];
    assert_eq!(writes(&lines.join("\n")).len(), lines.len());
    let reads = ["7 openat(AT_FDCWD, \"/etc/hosts\", O_RDONLY|O_CLOEXEC) = 3", "7 <... openat resumed>) = 3"];
    assert_eq!(writes(&reads.join("\n")), Vec::<String>::new());
    // A run does write: the proof is not empty.
    let folders = Folders::new();
    let dir = format!("dir={}", folders.dir.path().display());
    let (writes, said) = traced(&folders, &["run", "quickstart", "-p", &dir]);
    assert!(said.contains("PASSED") && writes.len() > 10, "{said}");
}

#[test]
fn the_plans_of_the_bundled_playbooks_open_nothing_for_writing() {
    let folders = Folders::new();
    let database = folders.path("media_status.db");
    database_of_the_stand_in(&database, "wal");
    let config = serde_json::json!({
        "nas_settings": { "host": "127.0.0.1", "username": "nobody", "base_path": folders.path("nas") },
        "local_settings": { "media_path": folders.dir.path(), "log_path": folders.dir.path() },
        "database": { "path": database },
    });
    std::fs::write(folders.path("unified_config.json"), config.to_string()).expect("a configuration");
    let dir = format!("dir={}", folders.dir.path().display());
    for argv in [&["plan", "quickstart", "-p", &dir][..], &["plan", "host-health"]] {
        let (writes, said) = traced(&folders, argv);
        assert!(said.contains("probes: ") && !said.contains("probes: 0"), "the system was asked: {said}");
        assert_eq!(writes, Vec::<String>::new(), "{argv:?}: {said}");
    }
    // These name a host: the connection keeps its socket in a private folder, and ssh itself may note the host's key.
    for playbook in ["media-sync", "media-sync-diagnostics"] {
        let (trace, said) = trace(&folders, &["plan", playbook]);
        assert!(said.contains("now: writable"), "the database was asked: {said}");
        let private = format!("{}/shakedown-plan-", folders.dir.path().display());
        // The path of a socket is short: it begins at the number under which the folder is open.
        let opened: Vec<String> = trace
            .lines()
            .filter_map(|line| line.rsplit_once("= ")?.1.split_once(&format!("<{private}")))
            .map(|(number, _)| format!("/fd/{number}/"))
            .collect();
        let is_private = |line: &str| line.contains(&private) || opened.iter().any(|fd| line.contains(fd));
        let writes = writes(&trace);
        let others: Vec<&String> = writes.iter().filter(|line| !is_private(line)).collect();
        assert!(others.is_empty(), "{playbook}: {others:#?}");
    }
    let names = |folder: &Path| {
        let mut names: Vec<String> = folder
            .read_dir()
            .expect("the folder")
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(folders.dir.path()), ["media_status.db", "unified_config.json"], "nothing is left");
}

/// A database as the stand-in has one; in WAL mode its log is empty and gone, as after its owner ended well.
fn database_of_the_stand_in(path: &Path, mode: &str) {
    let connection = rusqlite::Connection::open(path).expect("a database");
    let sql = "CREATE TABLE media_transfer_status (id INTEGER PRIMARY KEY, file_path TEXT, file_name TEXT, file_size INTEGER, \
               file_hash TEXT, download_status TEXT, transfer_status TEXT, last_error_message TEXT);";
    connection.execute_batch(&format!("PRAGMA journal_mode = {mode}; {sql}")).expect("a table");
}

const LOOK: &str = r#"
name: look
precheck:
  sound:
    sqlite:
      database: media_status.db
      check: [exists, readable, writable, quick, schema]
      table: media_transfer_status
      columns: [id, file_hash]
  rows: { sqlite: { database: media_status.db, query: SELECT count(*) AS n FROM media_transfer_status }, expect: out.row.n == 1 }
prepare:
  row: { sqlite: { database: media_status.db, insert: { into: media_transfer_status, values: { file_name: x } } } }
"#;

#[test]
fn a_database_is_looked_at_as_it_is_and_left_as_it_is() {
    for mode in ["delete", "wal"] {
        let folders = Folders::new();
        std::fs::write(folders.path("look.yaml"), LOOK).expect("a playbook");
        let database = folders.path("media_status.db");
        database_of_the_stand_in(&database, mode);
        let insert = "INSERT INTO media_transfer_status (file_name) VALUES ('a')";
        rusqlite::Connection::open(&database).and_then(|c| c.execute(insert, [])).expect("a row");
        let before = std::fs::read(&database).expect("the database");
        let (writes, said) = traced(&folders, &["plan", "look.yaml"]);
        assert!(said.contains("would pass") && !said.contains("WOULD FAIL"), "{mode}: {said}");
        assert!(mode == "delete" || said.contains("WAL"), "{said}");
        // Of a database that has no log, and of one that does not use any, nothing at all is opened for writing.
        assert_eq!(writes, Vec::<String>::new(), "{mode}: {said}");
        assert_eq!(std::fs::read(&database).expect("the database"), before);
        assert_eq!(folders.dir.path().read_dir().expect("the folder").count(), 2, "{mode}: no log, no index");
    }
}

#[test]
fn of_a_log_that_is_in_use_sqlite_opens_the_log_alone_as_a_writer_would() {
    let folders = Folders::new();
    std::fs::write(folders.path("look.yaml"), LOOK).expect("a playbook");
    let database = folders.path("media_status.db");
    database_of_the_stand_in(&database, "wal");
    let owner = rusqlite::Connection::open(&database).expect("the owner");
    owner.execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO media_transfer_status (file_name) VALUES ('only in the log');").expect("a row");
    let (log, rows) = (folders.path("media_status.db-wal"), std::fs::read(&database).expect("the database"));
    let before = std::fs::read(&log).expect("the log");
    assert!(!before.is_empty());
    let (writes, said) = traced(&folders, &["plan", "look.yaml"]);
    assert!(!said.contains("WOULD FAIL"), "the row in the log was seen: {said}");
    // As root SQLite gives log and index to the owner of the database, whose they are.
    let given = |line: &str| {
        line.contains(" fchown(") && (line.contains("status.db-wal>, ") || line.contains("status.db-shm>, "))
    };
    let is_log = |line: &str| line.contains("/media_status.db-wal\"") || given(line);
    let others: Vec<&String> = writes.iter().filter(|line| !is_log(line)).collect();
    assert!(others.is_empty(), "{others:#?}");
    assert!(!writes.is_empty(), "the exception is real");
    assert_eq!(
        (std::fs::read(&log).expect("the log"), std::fs::read(&database).expect("the database")),
        (before, rows)
    );
    // Nor was anything locked: the owner goes on.
    owner
        .execute("INSERT INTO media_transfer_status (file_name) VALUES ('more')", [])
        .expect("the owner writes on");
}
