//! What `/proc` says of processes, here and on a host.

use engine::{ErrorClass, StepError, host::Exec, step::Context};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// How much of a command line is kept, in characters.
const LINE: usize = 4_096;
/// How much of the answer of a host is read, in bytes.
const READ: usize = 16 << 20;

/// A process that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Running {
    /// Its number.
    pub pid: u32,
    /// The number of its parent.
    pub parent: u32,
    /// When it began, in clock ticks since the machine started: with `pid` it names the process for good.
    pub start_time: u64,
    /// When it began, RFC 3339 in UTC.
    pub since: String,
    /// Its name, as the kernel has it: at most 15 bytes.
    pub name: String,
    /// Its command line, the arguments parted by blanks; empty for a thread of the kernel.
    pub command_line: String,
    /// How much memory it holds, in bytes.
    pub rss: u64,
    /// How much time of a processor it has used, in milliseconds.
    pub cpu_ms: u64,
}

/// A process, as one look at `stat` and `cmdline` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) start_time: u64,
    pub(super) name: String,
    /// As separate words, of which the first is the program as it was called.
    pub(super) words: Vec<String>,
    /// It has ended, and only waits for its parent to ask how.
    pub(super) ended: bool,
    ticks: u64,
    pages: u64,
}

/// What a machine counts in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Units {
    /// Clock ticks a second.
    ticks: u64,
    /// The size of a page of memory.
    page: u64,
    /// When it started, in seconds since 1970.
    boot: i64,
}

impl Seen {
    /// From the files `stat` and `cmdline`.
    fn parse(stat: &[u8], cmdline: &[u8]) -> Option<Self> {
        // The name may hold anything, also blanks and brackets: the fields after its last bracket count.
        let open = stat.iter().position(|byte| *byte == b'(')?;
        let close = stat.iter().rposition(|byte| *byte == b')')?;
        let fields: Vec<&str> =
            str::from_utf8(stat.get(close + 1..)?).ok()?.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let words = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
        Some(Self {
            pid: str::from_utf8(&stat[..open]).ok()?.trim().parse().ok()?,
            parent: fields.get(1)?.parse().ok()?,
            start_time: number(19)?,
            name: String::from_utf8_lossy(stat.get(open + 1..close)?).into_owned(),
            words: match words {
                [] => Vec::new(),
                words => words
                    .split(|byte| *byte == 0)
                    .map(|word| String::from_utf8_lossy(word).into_owned())
                    .collect(),
            },
            ended: matches!(*fields.first()?, "Z" | "X" | "x"),
            ticks: number(11)?.saturating_add(number(12)?),
            // Negative is possible for the kernel's own type, but no such process exists.
            pages: number(21).unwrap_or_default(),
        })
    }

    pub(super) fn command_line(&self) -> String {
        self.words.join(" ").chars().take(LINE).collect()
    }

    /// Whether the program goes by that name: its own, or the last part of what it was called by, as the kernel keeps
    /// only 15 bytes of the first.
    pub(super) fn is_named(&self, name: &str) -> bool {
        let called = self.words.first().map(|word| word.rsplit('/').next().unwrap_or(word));
        self.name == name || called == Some(name)
    }

    pub(super) fn to_running(&self, units: Units) -> Running {
        let ms = |ticks: u64| ticks.saturating_mul(1_000) / units.ticks.max(1);
        let since = i64::try_from(ms(self.start_time)).unwrap_or_default() + units.boot * 1_000;
        Running {
            pid: self.pid,
            parent: self.parent,
            start_time: self.start_time,
            since: Timestamp::from_millisecond(since).map(|time| time.to_string()).unwrap_or_default(),
            name: self.name.clone(),
            command_line: self.command_line(),
            rss: self.pages.saturating_mul(units.page),
            cpu_ms: ms(self.ticks),
        }
    }
}

/// The processes of this machine that have not ended.
///
/// # Errors
/// They cannot be looked at.
pub(super) fn all() -> Result<Vec<Seen>, StepError> {
    let seen = pids()?.into_iter().filter_map(|pid| one(pid).transpose());
    seen.filter(|one| !matches!(one, Err(error) if error.class == ErrorClass::Denied)).collect()
}

/// The numbers of the processes of this machine.
///
/// # Errors
/// They cannot be listed, or what is listed are not the processes of this machine.
pub(super) fn pids() -> Result<Vec<u32>, StepError> {
    let unseen = |error: std::io::Error| StepError::io("list the processes in `/proc`", &error);
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").map_err(unseen)? {
        let name = entry.map_err(unseen)?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    // An empty folder is read without an error; this program is known to be there.
    if pids.contains(&std::process::id()) {
        return Ok(pids);
    }
    Err(StepError::new(ErrorClass::Unsupported, "`/proc` does not show the processes of this machine")
        .hint("findmnt /proc; ls -d /proc/self/"))
}

/// The process of this machine with that number, if it has not ended.
///
/// # Errors
/// It cannot be looked at, or `/proc` hides it from this user.
pub(super) fn one(pid: u32) -> Result<Option<Seen>, StepError> {
    let path = format!("/proc/{pid}/stat");
    let stat = match fs::read(&path) {
        Ok(stat) => stat,
        Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ESRCH)) => {
            // Only where this program itself is seen can a look say that there is none.
            pids()?;
            // It may have come or gone since; it is hidden if it is there, and was all the while.
            let is_hidden = exists(pid) && !Path::new(&path).exists() && exists(pid);
            return if is_hidden { Err(hidden(&format!("the process {pid}"))) } else { Ok(None) };
        }
        Err(error) => return Err(StepError::io(format!("read `{path}`"), &error)),
    };
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let seen = Seen::parse(&stat, &cmdline)
        .ok_or_else(|| StepError::new(ErrorClass::Unsupported, format!("`{path}` cannot be understood")))?;
    Ok((!seen.ended).then_some(seen))
}

/// Whether there is a process of that number, even one that `/proc` hides.
fn exists(pid: u32) -> bool {
    let number = i32::try_from(pid).map(nix::unistd::Pid::from_raw);
    number.is_ok_and(|pid| nix::sys::signal::kill(pid, None) != Err(nix::errno::Errno::ESRCH))
}

/// Whether `/proc` shows this user only processes of its own (`hidepid`): the first process is always there.
pub(super) fn others_are_hidden() -> bool {
    exists(1) && fs::read("/proc/1/stat").is_err()
}

/// `/proc` hides something from this user.
pub(super) fn hidden(what: &str) -> StepError {
    let message = format!("cannot look for {what}: `/proc` hides the processes of other users (`hidepid`)");
    StepError::new(ErrorClass::Denied, message).hint("run as root; see: findmnt -o TARGET,OPTIONS /proc")
}

/// What this machine counts in.
pub(super) fn units() -> Units {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    Units {
        ticks: rustix::param::clock_ticks_per_second(),
        page: u64::try_from(rustix::param::page_size()).unwrap_or(4_096),
        boot: boot.unwrap_or_default(),
    }
}

/// The number that was given out last, which tells whether a process has begun since; 0 where the kernel does not say.
pub(super) fn last_pid() -> u32 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_ascii_whitespace().nth(4).and_then(|pid| pid.parse().ok()).unwrap_or_default()
}

/// Parts the files by the boot's id, in a file that is there anyway: so a single `cat` reads them all.
const REMOTE: &str = r#"
pid=$1 file=$2 content=
if [ -n "$file" ]; then
  d=$(dirname -- "$file")
  [ -d "$d" ] && [ ! -x "$d" ] && { echo "$d: Permission denied" >&2; exit 96; }
  if [ -e "$file" ]; then
    [ -r "$file" ] || { echo "$file: Permission denied" >&2; exit 96; }
    read -r content rest < "$file"
  fi
  pid=none
  case $content in *[!0-9]*) ;; ?*) pid=$content ;; esac
fi
cd /proc 2>/dev/null && [ -r self/stat ] || exit 97
hidden=
[ -r 1/stat ] || hidden=hidden
id=sys/kernel/random/boot_id
getconf CLK_TCK 2>/dev/null || echo 100
getconf PAGESIZE 2>/dev/null || echo 4096
sed -n 's/^btime //p' stat
echo $$
printf '%.60s\n' "$content"
echo "$hidden"
list=
for p in ${pid:-[0-9]*}; do list="$list $id $p/stat $id $p/cmdline"; done
cat $id $list 2>/dev/null
exit 0
"#;

/// What a host was found to run.
#[derive(Debug)]
pub(super) struct Elsewhere {
    pub(super) seen: Vec<Seen>,
    pub(super) units: Units,
    /// What the pid file holds, if it was asked for and is there.
    pub(super) pid_file: String,
    /// Whether those of other users are hidden.
    pub(super) others_are_hidden: bool,
}

/// The processes of a host: the one with that number, or with the number in that file, or all.
///
/// # Errors
/// The host cannot be asked, has no `/proc`, or the file may not be read.
pub(super) async fn elsewhere(
    cx: &Context,
    pid: Option<u32>,
    pid_file: Option<&str>,
) -> Result<Elsewhere, StepError> {
    let pid = pid.map(|pid| pid.to_string()).unwrap_or_default();
    let argv = ["sh", "-c", REMOTE, "sh", &pid, pid_file.unwrap_or_default()];
    let ended = cx.exec(Exec::new(argv).env("LC_ALL", "C").repeatable().keep(READ)).await?;
    let host = cx.host.name();
    match ended.code {
        Some(97) => {
            let message = format!("`{host}` has no `/proc`: processes can be looked for on Linux only");
            return Err(StepError::new(ErrorClass::Unsupported, message));
        }
        Some(96) => {
            let message = format!("cannot read `{}` on `{host}`", pid_file.unwrap_or_default());
            let error =
                StepError::new(ErrorClass::Denied, message).detail(ended.stderr_text().trim().to_owned());
            return Err(error.hint(format!("namei -l {}", pid_file.unwrap_or_default())));
        }
        _ => {}
    }
    let ended = ended.require_success("look for processes")?;
    if ended.stdout_bytes > READ as u64 {
        let message = format!("the processes of `{host}` take {} bytes to list", ended.stdout_bytes);
        return Err(
            StepError::new(ErrorClass::Unsupported, message).hint("look for one by `pid` or `pid_file`")
        );
    }
    parse(&ended.stdout).ok_or_else(|| {
        let message = format!("what `{host}` says of its processes cannot be read");
        StepError::new(ErrorClass::Unsupported, message)
            .hint("`/proc`, `cat` and `sed` are needed there; try: cat /proc/self/stat")
    })
}

/// Reads what `REMOTE` prints.
fn parse(bytes: &[u8]) -> Option<Elsewhere> {
    let mut lines = bytes.splitn(8, |byte| *byte == b'\n');
    let mut line = || lines.next().map(|line| String::from_utf8_lossy(line).trim().to_owned());
    let (ticks, page, boot) = (line()?.parse().ok()?, line()?.parse().ok()?, line()?.parse().ok()?);
    let shell: u32 = line()?.parse().ok()?;
    let pid_file = line()?;
    let others_are_hidden = line()? == "hidden";
    let id = line()? + "\n";
    let files = apart(lines.next()?, id.as_bytes());
    let processes = files.get(1..).unwrap_or_default().chunks_exact(2);
    let seen = processes.filter_map(|pair| Seen::parse(pair[0], pair[1]));
    // The shell and what it started are the look itself.
    let seen = seen.filter(|seen| !seen.ended && seen.pid != shell && seen.parent != shell).collect();
    Some(Elsewhere { seen, units: Units { ticks, page, boot }, pid_file, others_are_hidden })
}

/// The pieces between the occurrences of `mark`.
fn apart<'a>(mut bytes: &'a [u8], mark: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while let Some(at) = bytes.windows(mark.len()).position(|window| window == mark) {
        pieces.push(&bytes[..at]);
        bytes = &bytes[at + mark.len()..];
    }
    pieces.push(bytes);
    pieces
}

#[cfg(test)]
mod tests {
    use super::{Seen, parse};

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let stat = b"42 (a) S 9 (b) R 7 8 9 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 1 0 12345 0 25 0\n";
        let seen = Seen::parse(stat, b"/usr/bin/a\0-x y\0\0").expect("parses");
        assert_eq!((seen.pid, seen.parent, seen.start_time, seen.ticks, seen.pages), (42, 7, 12345, 42, 25));
        assert_eq!((seen.name.as_str(), seen.ended), ("a) S 9 (b", false));
        assert_eq!(seen.words, ["/usr/bin/a", "-x y", ""]);
        assert!(seen.is_named("a") && seen.is_named("a) S 9 (b") && !seen.is_named("/usr/bin/a"));
    }

    #[test]
    fn a_process_that_ends_during_the_look_of_a_host_shifts_nothing() {
        let id = "5f1c7a3e-0000-4000-8000-000000000000\n";
        let stat = |pid: u32, parent: u32| {
            format!("{pid} (守护) S {parent} 1 1 0 -1 0 1 0 0 0 0 0 0 0 20 0 1 0 5 0 25 0\n")
        };
        let files =
            [&stat(7, 1), "a\0b\0", "", "", &stat(8, 1), "c\0", &stat(90, 1), "sh\0", &stat(91, 90), "cat\0"];
        let body: String = files.iter().map(|file| format!("{id}{file}")).collect();
        let found = parse(format!("100\n4096\n1700000000\n90\n8\n\n{id}{body}").as_bytes()).expect("parses");
        let words: Vec<_> = found.seen.iter().map(|seen| (seen.pid, seen.words.join(" "))).collect();
        assert_eq!(words, [(7, "a b".to_owned()), (8, "c".to_owned())]);
        assert_eq!(found.pid_file, "8");
        let running = found.seen[0].to_running(found.units);
        assert_eq!((running.since.as_str(), running.rss), ("2023-11-14T22:13:20.05Z", 102_400));
    }
}
