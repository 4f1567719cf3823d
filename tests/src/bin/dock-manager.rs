//! A stand-in for the program of the dock that shares the database: it inserts and updates rows over one connection,
//! waits for a lock as long as its busy timeout, and tells at its end what locks cost it.
//!
//! `dock-manager DATABASE STOP LEAST` works until the file `STOP` is there and it has done `LEAST` operations.

use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::{
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// How long a lock is waited for, in milliseconds.
const BUSY_TIMEOUT: u64 = 5_000;
/// Between two operations.
const PAUSE: Duration = Duration::from_millis(5);
/// As SQLite's own busy timeout pauses, in milliseconds; the last one again and again.
const DELAYS: [u64; 12] = [1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, 100];

static WAITS: AtomicU64 = AtomicU64::new(0);
static WAITED: AtomicU64 = AtomicU64::new(0);

/// Waits for a lock as SQLite's own busy timeout does, and counts.
fn wait(count: i32) -> bool {
    let count = usize::try_from(count).unwrap_or_default();
    let delay = DELAYS[count.min(DELAYS.len() - 1)];
    let before: u64 = DELAYS.iter().take(count).sum::<u64>()
        + u64::try_from(count.saturating_sub(DELAYS.len())).unwrap_or_default() * DELAYS[DELAYS.len() - 1];
    if before + delay > BUSY_TIMEOUT {
        return false;
    }
    WAITS.fetch_add(u64::from(count == 0), Relaxed);
    let begun = Instant::now();
    std::thread::sleep(Duration::from_millis(delay));
    WAITED.fetch_add(u64::try_from(begun.elapsed().as_micros()).unwrap_or_default(), Relaxed);
    true
}

fn work(database: &str, stop: &Path, least: u64) -> rusqlite::Result<serde_json::Value> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(database, flags)?;
    connection.busy_handler(Some(wait))?;
    let me = std::process::id();
    let (mut operations, mut locked, mut longest) = (0u64, 0u64, Duration::ZERO);
    let mut one = |sql: &str, name: &str| {
        let begun = Instant::now();
        let done = connection.execute(sql, [name]);
        longest = longest.max(begun.elapsed());
        operations += 1;
        match done {
            Ok(_) => Ok(operations),
            Err(error)
                if matches!(
                    error.sqlite_error_code(),
                    Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
                ) =>
            {
                locked += 1;
                Ok(operations)
            }
            Err(error) => Err(error),
        }
    };
    for round in 0u64.. {
        let name = format!("/data/dock-{me}-{round}");
        // The daemon takes only rows whose download is completed.
        for sql in [
            "INSERT INTO media_transfer_status (file_path, file_name) VALUES (?1, ?1)",
            "UPDATE media_transfer_status SET download_status = 'downloading' WHERE file_path = ?1",
            "UPDATE media_transfer_status SET download_status = 'failed' WHERE file_path = ?1",
            "DELETE FROM media_transfer_status WHERE file_path = ?1",
        ] {
            one(sql, &name)?;
            std::thread::sleep(PAUSE);
        }
        if stop.exists() && (round + 1) * 4 >= least {
            // What a lock kept from being deleted is deleted now.
            connection.execute(
                "DELETE FROM media_transfer_status WHERE file_path LIKE ?1",
                [format!("/data/dock-{me}-%")],
            )?;
            break;
        }
    }
    Ok(serde_json::json!({
        "operations": operations,
        "locked": locked,
        "waits": WAITS.load(Relaxed),
        "waited_ms": WAITED.load(Relaxed) / 1_000,
        "longest_ms": u64::try_from(longest.as_millis()).unwrap_or_default(),
    }))
}

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [database, stop, least] = arguments.as_slice() else {
        return std::process::ExitCode::from(3);
    };
    match work(database, Path::new(stop), least.parse().unwrap_or(0)) {
        Ok(told) => {
            let _ = writeln!(std::io::stdout(), "{told}");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            std::process::ExitCode::FAILURE
        }
    }
}
