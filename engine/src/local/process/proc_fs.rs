//! What `/proc` says of the processes of this machine. A look that fails is an error: nothing here takes it for an end.

use std::{fs, io, path::Path};

/// A process, as one look at `/proc/PID/stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) group: u32,
    pub(super) session: u32,
    /// In clock ticks since boot; with the pid it names a process for good.
    pub(super) start_time: u64,
    /// Ended, and only waiting for its parent to ask how.
    pub(super) zombie: bool,
}

/// All processes. One that ends meanwhile is left out.
///
/// # Errors
/// They cannot be listed, or what is listed are not the processes of this machine: something is mounted over `/proc`.
pub(super) fn all() -> io::Result<Vec<Process>> {
    all_below(Path::new("/proc"), std::process::id())
}

fn all_below(proc: &Path, me: u32) -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(proc)? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        match one_below(proc, pid) {
            Ok(one) => found.extend(one),
            // Hidden, as some machines do with other users' processes: no more than one that is not listed.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    // An empty folder can be read without an error; only this program is known to be there.
    if found.iter().any(|process| process.pid == me) {
        return Ok(found);
    }
    let message = format!("`{}` does not show the processes of this machine", proc.display());
    Err(io::Error::new(io::ErrorKind::NotFound, message))
}

/// The process with that pid; none once it has ended.
///
/// # Errors
/// It cannot be looked at.
pub(super) fn one(pid: u32) -> io::Result<Option<Process>> {
    one_below(Path::new("/proc"), pid)
}

/// How often what cannot be understood is read again.
const READS: u32 = 1_000;

fn one_below(proc: &Path, pid: u32) -> io::Result<Option<Process>> {
    let path = proc.join(pid.to_string()).join("stat");
    // Of one that ends while it is read only a part may come; a moment later it is not there.
    for _ in 0..READS {
        match fs::read(&path) {
            Ok(stat) => match parse(pid, &stat) {
                Some(process) => return Ok(Some(process)),
                None => std::thread::yield_now(),
            },
            Err(error) if has_ended(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("`{}` cannot be understood", path.display())))
}

/// Whether a file of a process cannot be read because there is no such process any more.
fn has_ended(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ESRCH))
}

/// The name in the second field may hold anything, also blanks and brackets: the fields after its last bracket count.
fn parse(pid: u32, stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let fields: Vec<&str> = str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace().collect();
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
        zombie: matches!(*fields.first()?, "Z" | "X" | "x"),
    })
}

/// Whether the environment with which the process was started has `name`, and `marker` among its `:`-parted values. None if
/// it is not ours to read: that of another user's process, or of a program with rights that this user has not.
///
/// # Errors
/// It cannot be read for another reason.
pub(super) fn is_marked(pid: u32, name: &str, marker: &str) -> io::Result<Option<bool>> {
    let environ = match fs::read(format!("/proc/{pid}/environ")) {
        Ok(environ) => environ,
        Err(error) if has_ended(&error) => return Ok(Some(false)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(environ.split(|byte| *byte == 0).any(|entry| {
        entry
            .strip_prefix(name.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"="))
            .is_some_and(|value| value.split(|byte| *byte == b':').any(|one| one == marker.as_bytes()))
    })))
}

/// Whether it was started by this user, whatever rights its program has; not if it has ended.
pub(super) fn is_of_this_user(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let real = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next());
    real.and_then(|uid| uid.parse().ok()) == Some(nix::unistd::getuid().as_raw())
}

/// The time, as the start times of processes count it.
pub(super) fn now() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let mut parts = uptime.split([' ', '.']).map(|part| part.parse::<u64>().unwrap_or_default());
    let (seconds, hundredths) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let ticks = rustix::param::clock_ticks_per_second();
    seconds * ticks + hundredths * ticks / 100
}

/// The command line for a message, else the name.
pub(super) fn title(pid: u32) -> String {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let line: String = words.join(" ").trim().chars().take(120).collect();
    if !line.is_empty() {
        return line;
    }
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Names this boot of this machine; empty where the kernel does not tell.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{all, all_below, one, parse};
    use std::fs;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let stat = b"42 (a) S 9 (b) Z 7 8 9 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let process = parse(42, stat).expect("parses");
        assert_eq!((process.parent, process.group, process.session), (7, 8, 9));
        assert_eq!(process.start_time, 12345);
        assert!(process.zombie);
    }

    #[test]
    fn this_process_is_found() {
        let me = one(std::process::id()).expect("looked").expect("alive");
        assert!(!me.zombie && me.start_time > 0);
        assert!(all().expect("listed").iter().any(|process| process.pid == me.pid));
    }

    #[test]
    fn a_list_that_cannot_be_had_is_no_empty_list() {
        let dir = tempfile::tempdir().expect("made");
        // Nothing there, a folder mounted over it, and another machine's list.
        assert!(all_below(&dir.path().join("none"), 7).is_err());
        let error = all_below(dir.path(), 7).expect_err("empty");
        assert!(error.to_string().contains("does not show the processes"), "{error}");
        let stat = "8 (sh) S 1 8 8 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0";
        fs::create_dir(dir.path().join("8")).expect("made");
        fs::write(dir.path().join("8/stat"), stat).expect("written");
        assert!(all_below(dir.path(), 7).is_err());
        assert_eq!(all_below(dir.path(), 8).expect("listed").len(), 1);
        // One that has ended is left out; one that cannot be read is an error.
        fs::create_dir(dir.path().join("9")).expect("made");
        assert_eq!(all_below(dir.path(), 8).expect("listed").len(), 1);
        fs::create_dir(dir.path().join("9/stat")).expect("made");
        assert!(all_below(dir.path(), 8).is_err());
    }
}
