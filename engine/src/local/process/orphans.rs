//! What escaped from its step and became a child of this program: it cleared its environment, left its session and lost
//! its parent, and no control group holds it. Nobody can tell which step it came of, but it came of one, and none is to
//! outlive the run.

use super::{
    leader, proc_fs,
    tree::{GRACE, KILL_LIMIT, PATIENCE, ProcessId, began, is_orphan, may_pass, send_number, step_mark},
    unended::Unended,
};
use nix::{
    errno::Errno,
    sys::{
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpgid, getsid},
};
use std::{
    collections::BTreeSet,
    fs, io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Whether a command has run that no control group holds.
static POSSIBLE: AtomicBool = AtomicBool::new(false);

/// A command runs that no control group holds.
pub(super) fn are_possible() {
    POSSIBLE.store(true, Ordering::Relaxed);
}

/// Ends what has escaped from the steps of a run, when none of them is at work any more. Gives their number. Blocks.
///
/// # Errors
/// They are still alive, or cannot be looked for.
pub(in crate::local) fn end_orphans(run: &str) -> Result<usize, Unended> {
    if !POSSIBLE.load(Ordering::Relaxed) {
        return Ok(0);
    }
    let (since, began) = (began(run), Instant::now());
    let mut met = BTreeSet::new();
    // One list may miss a child while another ends.
    let mut empty_looks = 0;
    while empty_looks < 2 {
        let waited = began.elapsed();
        let orphans = match alive(since) {
            Ok(orphans) => orphans,
            Err(error) if may_pass(&error) && waited < PATIENCE => {
                thread::sleep(Duration::from_millis(10));
                continue;
            }
            Err(error) => {
                return Err(Unended::Unseen { why: error.to_string(), marker: step_mark(run) });
            }
        };
        if orphans.is_empty() {
            empty_looks += 1;
            continue;
        }
        empty_looks = 0;
        let kills = waited >= GRACE;
        let signal = if kills { Signal::SIGKILL } else { Signal::SIGTERM };
        let told = orphans.iter().filter(|it| met.insert(it.pid) || kills);
        let denied = told.filter(|it| send_number(it.pid, signal) == Err(Errno::EPERM)).count();
        if kills && (denied == orphans.len() || waited >= GRACE + KILL_LIMIT) {
            return Err(Unended::Alive(orphans));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(met.len())
}

/// The children of this program that nobody in it waits for, and that began since then. Those that have ended are reaped.
fn alive(since: u64) -> io::Result<Vec<ProcessId>> {
    let awaited = leader::awaited();
    let mut found = Vec::new();
    for pid in children()? {
        let Ok(number) = i32::try_from(pid).map(Pid::from_raw) else { continue };
        let (Ok(group), Ok(session)) = (getpgid(Some(number)), getsid(Some(number))) else { continue };
        if awaited.contains(&pid) || !is_orphan(number, group, session) {
            continue;
        }
        if !matches!(waitpid(number, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive)) {
            continue;
        }
        // One that is hidden from this user cannot say when it began.
        let start_time = proc_fs::one(pid)?.map_or(u64::MAX, |seen| seen.start_time);
        if start_time >= since {
            found.push(ProcessId { pid, start_time });
        }
    }
    Ok(found)
}

/// The numbers of this program's children, also of those that `/proc` hides from this user.
fn children() -> io::Result<BTreeSet<u32>> {
    let me = std::process::id();
    let seen = proc_fs::all()?.into_iter().filter(|process| process.parent == me);
    let mut pids: BTreeSet<u32> = seen.map(|process| process.pid).collect();
    for thread in fs::read_dir("/proc/self/task")? {
        // Not every kernel has this list.
        let listed = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        pids.extend(listed.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(pids)
}
