//! The small sh program under which every command runs on another host. It says how the command ended, and ends the
//! command with all that came of it when the command is done or the run no longer holds its lease.
//!
//! The lease is stdin: a beat every few seconds. When stdin ends, because the run was cancelled, killed or cut
//! off, or when the beat stays away, a watchdog in a session of its own ends the command.

use super::greeting::{Groups, Hierarchy};
use engine::{
    ErrorClass, StepError,
    host::{Exec, script_word},
};

/// How often the lease is renewed, in seconds.
pub(super) const BEAT_S: u64 = 5;

/// How long the watchdog waits for a beat, in seconds: four keep-alives.
const PATIENCE_S: u64 = 4 * BEAT_S;

/// The kernel takes at most 128 KiB in one argument.
const LONGEST: usize = 128 * 1024;

/// And a quarter of the stack, which is seldom under 8 MiB, in all of them together.
const LONGEST_IN_ALL: usize = 1 << 20;

/// A command as it is sent, and the word by which its last line of stderr is known.
pub(super) struct Guarded {
    pub(super) text: String,
    /// What goes before all else into stdin: the guard itself, if it is too long for the command.
    pub(super) ahead: String,
    nonce: String,
}

/// What the last line of stderr says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The command ended with that status; a signal shows as 128 + its number.
    Status { code: i32, left_behind: usize },
    /// It was never started: the program does not exist.
    NoProgram,
    /// It was never started: the directory cannot be entered.
    NoDirectory,
    /// It was never started: the host lacks a tool that the guard needs.
    NoTool(String),
    /// The watchdog ended it, for the lease was over.
    Lease,
    /// So many of its processes did not end even when they were killed.
    Stuck(usize),
}

/// By whom a command was started, as its processes and its control group are marked.
#[derive(Clone, Debug, Default)]
pub(super) struct Mark {
    /// The run, if it is one of a run.
    pub(super) run: Option<String>,
    /// This process: a recovery tells its own commands from those of the one that died.
    pub(super) owner: String,
}

/// How the names of control groups begin.
pub(super) const PREFIX: &str = "shakedown-";

/// The members of a control group with all below it, and its removal. What is in another space of processes shows as 0.
const MEMBERS: &str = r#"
m() {
  while read -r x; do [ "$x" -gt 0 ] && printf '%s\n' "$x"; done <"$1/cgroup.procs"
  for y in "$1"/*/; do [ -d "$y" ] && m "${y%/}"; done
}
g() { for y in "$1"/*/; do [ -d "$y" ] && g "${y%/}"; done; rmdir "$1"; }
"#;

/// A command of this program's own for a host: it speaks C, and finds the system's programs first.
pub(super) fn nothing_of_the_users<const N: usize>(argv: [&str; N]) -> Exec {
    let mut exec = Exec::new(argv).env("LC_ALL", "C");
    if let Some(script) = exec.argv.get_mut(2) {
        script.insert_str(0, "PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH\n");
    }
    exec
}

/// The watchdog. Its own children are found by the variable `SHAKEDOWN_DOG`; `$1` is the word in the environment of the
/// command's processes, `$2` the guard, `$3` the command's process group if it is known, `$4` its control group if it has
/// one, which the watchdog removes if the guard is gone. It tells the guard first, so that
/// the end that it makes is not taken for the command's own. The processes are stopped before they are told to end: a shell
/// must not go on with its next command because the one before was ended.
const DOG: &str = r#"
trap "" HUP TERM INT
hit() {
  [ -n "$g" ] && kill -s "$1" -- "-$g"
  for f in $(LC_ALL=C grep -ls "$w" /proc/[0-9]*/environ); do f=${f#/proc/}; kill -s "$1" "${f%/environ}"; done
  [ -d "$c" ] && for f in $(m "$c"); do kill -s "$1" "$f"; done
}
end() {
  kill -s USR1 "$k"; hit STOP; hit TERM; hit CONT; sleep 2; hit KILL
  i=0
  while [ -d "$c" ] && [ "$i" -lt 20 ]; do echo 1 >"$c/cgroup.kill"; hit KILL; g "$c"; i=$((i + 1)); sleep 0.1 || sleep 1; done
  kill -s KILL 0
}
w=$1; k=$2; g=$3; c=$4
{ sleep PATIENCE; end; } & t=$!
while read -r beat; do kill -s KILL "$t"; { sleep PATIENCE; end; } & t=$!; done
end
"#;

/// The guard. It marks where the output of the command begins and ends, for what a login prints by itself is none of it. After its last line it waits for the end of its lease, but not longer than for a beat, for the line may be
/// cut: the client of OpenSSH loses what stderr still holds when the end of a session reaches it together with it. The command is over only when its
/// control group, if it has one, is empty. Words in capitals are placeholders; the rest is for any POSIX sh with `setsid` and
/// `grep`.
const GUARD: &str = r#"
n=NONCE; d=DOG; q=; z=; G=; unset CDPATH
printf '%s begins\n' "$n"; printf '%s begins\n' "$n" >&2
trap z=1 USR1
exec 3<&0 </dev/null
say() {
  printf '%s ends\n' "$n"
  printf '\n%s %s %s\n' "$n" "$1" "$2" >&2
  exec >/dev/null 2>&1
  sleep PATIENCE 3<&- & t=$!
  ( while read -r x; do :; done; kill -s TERM "$t" ) <&3 & e=$!
  wait "$t"; kill -s KILL "$e"
  exit 0
}
for x in setsid grep TOOLS; do command -v "$x" >/dev/null 2>&1 || say tool "$x"; done
[ -r /proc/self/environ ] || say tool /proc
MEMBERS
GROUP
DIRECTORY
command -v PROGRAM >/dev/null 2>&1 || say program
START
wait "$p"; c=$?
[ -n "$z" ] && wait "$p"
l=0; i=0; s=TERM; u=
while :; do
  f=$(LC_ALL=C grep -ls "c$n" /proc/[0-9]*/environ 2>/dev/null)
  kill -s "$s" -- "-$p" 2>/dev/null && [ -z "$f$G" ] && f=group
  [ -n "$G" ] && for x in $(m "$G" 2>/dev/null); do
    case " "$f" " in *[!0-9]"$x"[!0-9]*) ;; *) f="$f /proc/$x/environ" ;; esac
  done
  if [ -z "$f" ]; then
    [ -z "$G" ] && break
    g "$G" 2>/dev/null
    [ -d "$G" ] || break
  fi
  set -- $f
  [ "$#" -gt "$l" ] && l=$#
  for f in "$@"; do f=${f#/proc/}; kill -s "$s" "${f%/environ}"; done 2>/dev/null
  i=$((i + 1)); s=0
  [ "$i" -ge 20 ] && { s=KILL; [ -n "$G" ] && echo 1 >"$G/cgroup.kill"; } 2>/dev/null
  # A process group is there also for those that have ended and that nobody has asked how.
  [ "$i" -ge 120 ] && { [ "$*" = group ] || u=1; break; }
  sleep 0.1 2>/dev/null || { sleep 1; s=KILL; }
done
# From here on the guard ends the watchdog: one whose timer dies a moment before it takes that for the end of the lease.
trap "" USR1
[ -n "$q" ] && kill -s KILL "$q" 2>/dev/null
# A watchdog that was just starting its timer can have a child that the first look did not see yet.
i=0
while [ "$i" -lt 2 ]; do
  f=$(LC_ALL=C grep -ls "d$n" /proc/[0-9]*/environ 2>/dev/null)
  [ -z "$f" ] && i=$((i + 1))
  for f in $f; do f=${f#/proc/}; kill -s KILL "${f%/environ}"; done 2>/dev/null
done
[ -n "$u" ] && say stuck "$l"
[ -n "$z" ] && say lease
say "$c" "$l"
"#;

/// Puts the command under the guard; `stdin_bytes` of data come before the beats. `mark` says by whom it is started,
/// `groups` how its processes are kept together.
///
/// # Errors
/// A value cannot be sent: a NUL byte, a variable's name that is none, a program that begins with `-`, too much text.
pub(super) fn guard(
    exec: &Exec,
    nonce: String,
    mark: &Mark,
    groups: &Groups,
    stdin_bytes: Option<u64>,
) -> Result<Guarded, StepError> {
    let invalid = |message: String| StepError::new(ErrorClass::Invalid, message);
    let Some(program) = exec.argv.first().filter(|program| !program.is_empty()) else {
        return Err(invalid("the command is empty: expected a program".into()));
    };
    if program.starts_with('-') {
        return Err(invalid(format!("program `{program}` begins with `-`")));
    }
    let values = exec.argv.iter().chain(exec.env.values()).chain(exec.dir.as_ref());
    if values.clone().any(|value| value.contains('\0')) {
        return Err(invalid(format!("cannot run `{program}`: an argument or a variable holds a NUL byte")));
    }
    if let Some(name) = exec.env.keys().find(|name| !is_variable(name)) {
        return Err(invalid(format!("`{name}` is no name of a variable")));
    }
    let mut exports: String =
        exec.env.iter().map(|(name, value)| format!("export {name}={}; ", script_word(value))).collect();
    exports.push_str("export SHAKEDOWN_TREE=\"${SHAKEDOWN_TREE:+$SHAKEDOWN_TREE:}c$n");
    // Ids of runs are letters and digits.
    let plain = |run: &&str| run.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let run = mark.run.as_deref().filter(plain);
    exports.extend(run.map(|run| format!(":c{run}:o{}", mark.owner)));
    exports.push_str("\"; [ -z \"$G\" ] || echo 0 >\"$G/cgroup.procs\"");
    let name = format!("{PREFIX}{}-{}-{nonce}", run.unwrap_or("0"), mark.owner);
    let (group, scope) = match groups {
        Groups::None => (String::new(), false),
        Groups::Own(place) => (place.enter(&name), false),
        Groups::Scope(place) => (format!("unset INVOCATION_ID\n{}", place.enter(&name)), true),
    };
    let argv = exec.argv.iter().map(|word| script_word(word)).collect::<Vec<_>>().join(" ");
    let dog = "SHAKEDOWN_DOG=\"d$n\" setsid sh -c \"$d\" dog \"c$n\" \"$$\"";
    let start = match stdin_bytes {
        None => {
            format!(
                "( {exports}; exec setsid {argv} ) 3<&- & p=$!\n{dog} \"$p\" \"$G\" <&3 >/dev/null 2>&1 & q=$!"
            )
        }
        // The watchdog must not read before the data have been: it follows them in the same process. Data that were cut
        // off must not look like their end: without the beat behind them the command is ended before its stdin is, which
        // the watchdog holds open. What a command leaves unread is read all the same, or it would be taken for beats.
        Some(bytes) => format!(
            "( head -c {bytes} <&3 2>/dev/null | {{ cat 2>/dev/null; cat >/dev/null; }}; \
             if read -r x <&3; then exec >/dev/null 2>&1; {dog} \"\" \"$G\" <&3 & else exec 4>&1; {dog} \"\" \"$G\" </dev/null >/dev/null 2>&1; fi ) | \
             ( {exports}; exec setsid {argv} ) 3<&- & p=$!"
        ),
    };
    let directory = exec
        .dir
        .as_ref()
        .map(|dir| format!("cd -- {} 2>/dev/null || say directory", script_word(dir)))
        .unwrap_or_default();
    // What comes from the playbook is put in last, so that it cannot hold a placeholder.
    let script = GUARD
        .trim()
        .replacen("PATIENCE", &PATIENCE_S.to_string(), 1)
        .replacen("NONCE", &nonce, 1)
        .replacen("TOOLS", if stdin_bytes.is_some() { "head cat" } else { "" }, 1)
        .replacen(
            "DOG",
            &script_word(&format!("{MEMBERS}{}", DOG.replace("PATIENCE", &PATIENCE_S.to_string()))),
            1,
        )
        .replacen("MEMBERS", MEMBERS, 1)
        .replacen("GROUP", &group, 1);
    let (before, rest) = script.split_once("DIRECTORY").unwrap_or_default();
    let (between, rest) = rest.split_once("PROGRAM").unwrap_or_default();
    let (middle, after) = rest.split_once("START").unwrap_or_default();
    let script = [before, &directory, between, &script_word(program), middle, &start, after].concat();
    // The program gets the values one by one, with a name each if they are variables.
    let named = exec.env.iter().map(|(name, value)| name.len() + 1 + value.len());
    let lengths = exec.argv.iter().map(String::len).chain(named);
    if lengths.clone().any(|length| length >= LONGEST) || lengths.sum::<usize>() > LONGEST_IN_ALL {
        return Err(invalid(format!("cannot run `{program}` over ssh: its arguments are too long"))
            .hint("hand large values over by `stdin`, or upload a file"));
    }
    let start = match scope {
        true => format!(
            "exec systemd-run --user --scope --quiet --collect -p Delegate=yes --unit=shakedown.{nonce} -- /bin/sh"
        ),
        false => "exec /bin/sh".to_owned(),
    };
    let text = for_any_login_shell(&start, &script);
    // The login shell gets all of this in one argument.
    if text.len() < LONGEST {
        return Ok(Guarded { text, ahead: String::new(), nonce });
    }
    // `head` of BusyBox would take some of the data with it.
    let text = format!("{start} -c 'eval \"$(dd bs=1 count={} 2>/dev/null)\"'", script.len());
    Ok(Guarded { text, ahead: script, nonce })
}

impl Guarded {
    /// Takes the guard's line off the end of stderr. Without one the command did not end under the guard's eyes.
    pub(super) fn ended(&self, stderr: &mut Vec<u8>) -> Option<Ended> {
        let mark = format!("\n{} ", self.nonce);
        let at = stderr.windows(mark.len()).rposition(|window| window == mark.as_bytes())?;
        let line = String::from_utf8_lossy(&stderr[at + mark.len()..]).trim().to_owned();
        let (first, second) = line.split_once(' ').unwrap_or((&line, ""));
        let ended = match first {
            "program" => Ended::NoProgram,
            "directory" => Ended::NoDirectory,
            "tool" => Ended::NoTool(second.to_owned()),
            "lease" => Ended::Lease,
            "stuck" => Ended::Stuck(second.trim().parse().unwrap_or(0)),
            code => {
                Ended::Status { code: code.parse().ok()?, left_behind: second.trim().parse().unwrap_or(0) }
            }
        };
        stderr.truncate(at);
        Some(ended)
    }

    /// Whether the last line may have been read: `seen` is the end of what stderr said so far.
    pub(super) fn has_ended(&self, seen: &[u8]) -> bool {
        let mark = format!("\n{} ", self.nonce);
        match seen.windows(mark.len()).rposition(|window| window == mark.as_bytes()) {
            Some(at) => seen[at + mark.len()..].contains(&b'\n'),
            None => false,
        }
    }

    /// The lines between which the output stands.
    pub(super) fn frame(&self) -> (Vec<u8>, Vec<u8>) {
        (format!("{} begins\n", self.nonce).into_bytes(), format!("{} ends\n", self.nonce).into_bytes())
    }

    /// How many bytes the guard adds to stderr at most.
    pub(super) fn overhead(&self) -> usize {
        self.nonce.len() + 64
    }
}

impl Hierarchy {
    /// The script that makes a group of that name below the own one, as `$G`; empty where that may not be.
    fn enter(&self, name: &str) -> String {
        let (point, root) = (script_word(&self.point), script_word(&self.root));
        format!(
            "while IFS= read -r x; do case $x in 0::*) x=${{x#0::}}; x=${{x#{root}}}; G={point}${{x%/}}/{name} ;; esac; done </proc/self/cgroup\n\
             mkdir \"$G\" 2>/dev/null && {{ ( echo 0 >\"$G/cgroup.procs\" ) 2>/dev/null || {{ rmdir \"$G\"; false; }}; }} || G="
        )
    }
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Wraps a script for sh so that sh, csh and fish alike hand it on unchanged: whatever any of them might read in a
/// way of its own travels as an octal number.
fn for_any_login_shell(start: &str, script: &str) -> String {
    let mut payload = String::with_capacity(script.len() * 2);
    for byte in script.bytes() {
        match byte {
            b'\'' | b'"' | b'\\' | b'$' | b'`' | b'!' | 0..=0x1F | 0x7F.. => {
                payload.push_str(&format!("\\0{byte:03o}"));
            }
            plain => payload.push(char::from(plain)),
        }
    }
    format!("{start} -c 'eval \"$(printf %b \"{payload}\")\"'")
}

#[cfg(test)]
mod tests {
    use super::{Ended, Groups, Guarded, Mark, for_any_login_shell, guard};
    use engine::{
        ErrorClass,
        host::{Exec, script_word},
    };

    fn guarded() -> Guarded {
        guard(&Exec::new(["true"]), "abc123".into(), &Mark::default(), &Groups::None, None).expect("guards")
    }

    #[test]
    fn the_last_line_of_stderr_tells_the_end_and_is_taken_off() {
        let mut stderr = b"warning\n\nabc123 7 3\n".to_vec();
        assert_eq!(guarded().ended(&mut stderr), Some(Ended::Status { code: 7, left_behind: 3 }));
        assert_eq!(stderr, b"warning\n");
        let mut stderr = b"\nabc123 program \n".to_vec();
        assert_eq!(guarded().ended(&mut stderr), Some(Ended::NoProgram));
        assert_eq!(guarded().ended(&mut b"\nabc123 lease \n".to_vec()), Some(Ended::Lease));
        assert_eq!(guarded().ended(&mut b"Connection reset".to_vec()), None);
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let refused = |exec: Exec| {
            guard(&exec, "n".into(), &Mark::default(), &Groups::None, None).err().map(|error| error.class)
        };
        assert_eq!(refused(Exec::new(["-x"])), Some(ErrorClass::Invalid));
        assert_eq!(refused(Exec::new(["echo", "a\0b"])), Some(ErrorClass::Invalid));
        assert_eq!(refused(Exec::new(["echo"]).env("A;B", "1")), Some(ErrorClass::Invalid));
        assert_eq!(refused(Exec::new(["echo".to_owned(), "x".repeat(200_000)])), Some(ErrorClass::Invalid));
        assert_eq!(refused(Exec::default()), Some(ErrorClass::Invalid));
    }

    #[test]
    fn what_is_too_long_for_one_argument_goes_ahead_of_stdin() {
        let word = "'".repeat(60_000);
        let guarded = guard(&Exec::new(["echo", &word]), "n".into(), &Mark::default(), &Groups::None, None)
            .expect("guards");
        assert!(guarded.text.len() < 100 && guarded.ahead.contains(&script_word(&word)), "{}", guarded.text);
        assert!(guarded.text.contains(&format!("count={} ", guarded.ahead.len())), "{}", guarded.text);
        let words = vec![word; 20];
        assert!(
            guard(&Exec::new(words), "n".into(), &Mark::default(), &Groups::None, None).is_err(),
            "more than a program can take"
        );
    }

    #[test]
    fn nothing_that_a_login_shell_reads_in_its_own_way_is_sent() {
        let text = for_any_login_shell("exec /bin/sh", "echo '$(x)' \"`y`\" \\ !! \n 文");
        let payload = text.strip_prefix("exec /bin/sh -c 'eval \"$(printf %b \"").expect("prefix");
        let payload = payload.strip_suffix("\")\"'").expect("suffix");
        assert!(!payload.contains(['\'', '"', '$', '`', '!', '\n']) && payload.is_ascii(), "{payload}");
        assert_eq!(script_word("it's"), r"'it'\''s'");
    }
}
