//! What `/proc` says of the processes of this machine.

use std::fs;

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
pub(super) fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| one(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// The process with that pid.
pub(super) fn one(pid: u32) -> Option<Process> {
    parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
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

/// Whether the environment with which the process was started has `name`, and `marker` among its `:`-parted values.
pub(super) fn is_marked(pid: u32, name: &str, marker: &str) -> bool {
    let Ok(environ) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    environ.split(|byte| *byte == 0).any(|entry| {
        entry
            .strip_prefix(name.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"="))
            .is_some_and(|value| value.split(|byte| *byte == b':').any(|one| one == marker.as_bytes()))
    })
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
    use super::{one, parse};

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
        let me = one(std::process::id()).expect("alive");
        assert!(!me.zombie && me.start_time > 0);
    }
}
