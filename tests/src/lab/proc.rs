//! What `/proc` of this machine says of the lab's processes. The boxes' processes are its processes, too, seen
//! from outside with other numbers.

use std::fs;
use std::path::PathBuf;

pub(crate) fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A process may end between two looks: then it has no children, no name and no arguments.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    all().into_iter().filter(|&child| parent(child) == Some(pid)).collect()
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// In clock ticks since boot: with the number it names a process for good.
pub(crate) fn started(pid: u32) -> Option<u64> {
    stat(pid)?.get(19)?.parse().ok()
}

/// The fields after the name, which may hold anything, also blanks and brackets: state, parent, ...
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

pub(crate) fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

pub(crate) fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// Its namespace of this kind (`pid`, `mnt`, `net`), by name.
pub(crate) fn namespace(pid: u32, kind: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()
}

/// Gone, or a zombie that only its parent's wait keeps.
pub(crate) fn is_dead(pid: u32) -> bool {
    state(pid).is_none_or(|state| state == "Z" || state == "X")
}

pub(crate) fn is_stopped(pid: u32) -> bool {
    state(pid).is_some_and(|state| state == "T")
}

fn state(pid: u32) -> Option<String> {
    stat(pid)?.into_iter().next()
}
