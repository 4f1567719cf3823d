//! Processes whose environment may not be read, such as those of setuid programs: nobody can tell whether they are marked.

use super::{
    leader,
    proc_fs::{self, Process},
};
use nix::unistd::{Pid, getsid};
use std::io;

/// Says no where one of them may have come of a tree that began at `since`, in clock ticks since boot.
///
/// Those that have their true parent belong where it belongs. Only an orphan could be anybody's.
pub(super) fn none_may_belong(denied: &[Process], all: &[Process], since: u64) -> io::Result<()> {
    let me = std::process::id();
    let first = |pid: u32| pid <= 1;
    // The first process, its children (the manager of a user's services is one), and this program take in orphans.
    let reaps = |pid: u32| {
        first(pid) || pid == me || all.iter().any(|process| process.pid == pid && first(process.parent))
    };
    let session = getsid(None).map_or(0, Pid::as_raw);
    let found =
        denied.iter().filter(|it| !first(it.pid) && !it.zombie && it.start_time >= since).find(|process| {
            match process.parent == me {
                // Our own children lead a group in our session, or a session that is known; others are orphans.
                true => {
                    let leads =
                        process.group == process.pid && i64::from(process.session) == i64::from(session);
                    !leads && !leader::awaited().contains(&process.pid)
                }
                false => reaps(process.parent) && proc_fs::is_of_this_user(process.pid),
            }
        });
    let Some(process) = found else { return Ok(()) };
    let pid = process.pid;
    let message = format!("the environment of the process {pid} (`{}`) may not be read", proc_fs::title(pid));
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

#[cfg(test)]
mod tests {
    use super::{Process, none_may_belong};

    #[test]
    fn an_orphan_that_began_since_may_be_anybodys_and_no_other() {
        // The number of no process: of this user it is only said to be where it is our own child.
        let me = std::process::id();
        let orphan =
            Process { pid: u32::MAX, parent: me, group: 7, session: 7, start_time: 50, zombie: false };
        let all = [Process { pid: me, parent: 5, ..orphan }, Process { pid: 9, parent: me, ..orphan }];
        let may = |process: Process, since| none_may_belong(&[process], &all, since).is_ok();
        assert!(!may(orphan, 50));
        assert!(may(orphan, 51), "it was there before");
        assert!(may(Process { zombie: true, ..orphan }, 0));
        assert!(may(Process { parent: 9, ..orphan }, 0), "it belongs where its parent does");
        assert!(may(Process { parent: 1, ..orphan }, 0), "it is not of this user");
    }
}
