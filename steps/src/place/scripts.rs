//! The scripts for sh that put a file in place and take it back: the same here and on any host. Paths are arguments of
//! theirs, never part of them. They stand in the folder of the file while they work, so that nobody puts another in its
//! place; they know files by device, inode and, where the host
//! tells it and does not change it, time of birth; and they tell what they met by their status.

use crate::sh::NEED;
use engine::host::Exec;

/// The bytes are not those that were sent.
pub(super) const CORRUPT: i32 = 91;
/// The target is not as it was found.
pub(super) const CHANGED: i32 = 92;
/// What is beside the target is not as it was found.
pub(super) const SWAPPED: i32 = 93;
/// The folder is not there.
pub(super) const NO_FOLDER: i32 = 94;
/// The folder is another one.
pub(super) const OTHER_FOLDER: i32 = 95;
/// What is there could not be seen.
pub(super) const UNSEEN: i32 = 96;
/// `$1` is the folder, `$2` its identity if it has to be that one. `see` tells the identity of what has a name, or `gone`
/// if the system says that nothing has it; all else is unknown. `what` tells also its hash if it is a file or leads to one.
const COMMON: &str = r#"
unset CDPATH
need stat sha256sum chmod mv rm
see() {
  o=$(stat -c "$F" -- "$1" 2>&1) && { printf '%s\n' "$o"; return 0; }
  case $o in *": No such file or directory") echo gone; return 0 ;; esac
  printf '%s\n' "$o" >&2
  return 96
}
hash() { h=$(sha256sum <"$1") && printf '%s\n' "${h%% *}"; }
what() {
  o=$(see "$1") || return 96
  [ "$o" = gone ] && { echo nothing; return 0; }
  [ -f "$1" ] || { echo other; return 0; }
  h=$(hash "$1") || return 96
  printf 'file %s %s\n' "$h" "$o"
}
mine() { [ "$(stat -L -c %u:%h "/proc/$$/fd/4")" = "$(id -u):1" ]; }
if ! cd -- "$1" 2>/dev/null; then
  o=$(stat -L -c %F -- "$1" 2>&1) && [ "$o" != directory ] && exit 94
  case $o in *": No such file or directory"|*": Not a directory") exit 94 ;; esac
  printf '%s: Permission denied\n' "$1" >&2
  exit 96
fi
# On an overlay the first write brings a file or folder from a lower layer to the upper one, where it is born anew.
F=%d:%i:%.9W
[ "$(stat -f -c %t . 2>/dev/null)" != 794c7630 ] || F=%d:%i:0
f=$(stat -c "$F" .) || exit 96
[ -z "$2" ] || [ "$f" = "$2" ] || exit 95
shift 2
"#;

/// What has the name `$1`, for any path; it follows links.
const LOOK: &str = r#"
need stat sha256sum
o=$(stat -L -c '%s %a %F' -- "$1" 2>&1) || {
  case $o in *": No such file or directory"|*": Not a directory")
    if [ -L "$1" ]; then echo other; else echo nothing; fi; exit 0 ;;
  esac
  printf '%s\n' "$o" >&2
  exit 96
}
case $o in *' regular file'|*' regular empty file') ;; *) echo other; exit 0 ;; esac
h=$(sha256sum <"$1") || exit 96
o=${o% regular*}
echo "file ${h%% *} $o"
"#;

/// What has the name `$1` in which folder, and what is mounted.
const PLAN: &str = r#"
printf 'folder %s\n' "$f"
what "$1"
sed 's/^/mounted /' </proc/self/mountinfo
"#;

/// Takes bytes into `$1`, after the first `$2` that are there. It never writes through a link, nor into another's file: what it
/// opened must be what has the name.
const RECEIVE: &str = r#"
umask 077
if [ "$2" = 0 ]; then
  rm -f -- "$1" && set -C && exec 4>"$1" || exit 1
else
  [ -f "$1" ] && [ ! -L "$1" ] && exec 4>>"$1" && [ ! -L "$1" ] && [ "$1" -ef "/proc/$$/fd/4" ] && mine || exit 93
  [ "$(wc -c <"$1")" -eq "$2" ] || exit 93
fi
PATH=$P
exec cat >&4
"#;

/// Makes `$1` ready: its hash must be `$3`, its mode becomes `$4`. The mode is set on the open file, for in a folder of another
/// user the name may be given to something else at any time. Tells its identity, and what has the name `$2` now.
const PREPARE: &str = r#"
[ -L "$1" ] && exit 93
exec 4<"$1" || exit 1
[ ! -L "$1" ] && [ "$1" -ef "/proc/$$/fd/4" ] && mine || exit 93
h=$(sha256sum <&4) || exit 1
[ "${h%% *}" = "$3" ] || exit 91
chmod "$4" "/proc/$$/fd/4" && { sync "/proc/$$/fd/4" 2>/dev/null || sync; } || exit 1
printf 'made %s\n' "$(stat -L -c "$F" "/proc/$$/fd/4")"
what "$2"
"#;

/// Gives `$1`, whose identity is `$4`, the name `$2`. What has it, with the identity `$5`, is put aside as `$3`, if that is a
/// name. It may be run again: it first looks whether the run before came to its end.
const PUBLISH: &str = r#"
b=$1 n=$2 k=$3 made=$4 had=$5
s=$(see "$n") || exit 96
o=$(see "$b") || exit 96
if [ "$s" = "$made" ]; then
  [ "$o" = "$made" ] && rm -f -- "$b"
  exit 0
fi
[ "$o" = "$made" ] || exit 93
if [ -n "$had" ]; then
  if [ "$s" = gone ] && [ -n "$k" ]; then [ "$(see "$k")" = "$had" ] || exit 92
  else
    [ "$s" = "$had" ] || exit 92
    [ -z "$k" ] || ln -- "$n" "$k" 2>/dev/null || [ "$(see "$k")" = "$had" ] || mv -- "$n" "$k" || exit 1
  fi
  mv -f -- "$b" "$n" || exit 1
else
  [ "$s" = gone ] || exit 92
  # A link is never made over what has come meanwhile; not all file systems know links.
  if ln -- "$b" "$n" 2>/dev/null; then rm -f -- "$b" || exit 1
  else
    s=$(see "$n") || exit 96
    [ "$s" = gone ] || exit 92
    mv -f -- "$b" "$n" || exit 1
  fi
fi
s=$(see "$n") || exit 96
[ "$s" = "$made" ] || exit 92
"#;

/// What became of a file that was put in place. Of one that was in its place and is not, `gone`, `returned` and `restored` tell what is
/// there now: it may be elsewhere, as it is for sure if it was `linked`. The same words whether it is only looked at (`$9` is
/// `look`, or `settle`, to which what is beside does not matter) or taken back (`act`). What lies under the earlier file, and
/// comes back once the undo of that is over, too, follows as further arguments: identities, or `gone`.
const FATE: &str = r#"
b=$1 n=$2 k=$3 made=$4 sum=$5 had=$6 id=$7 all=$8 way=$9 act=
shift 9
[ "$way" = act ] && act=1
o=$(see "$b") || exit 96
# One that never got its name needs no search.
none=gone back=returned put=restored
[ -z "$made" ] || [ "$o" != "$made" ] || { none=nothing back=nothing put=removed; }
if [ -n "$act" ]; then rm -f -- "$b" || exit 1
elif [ "$way" = look ] && [ "$o" != gone ]; then echo beside; exit 0
fi
# It was killed, or failed, before it was put in place.
[ -n "$made" ] || { echo nothing; exit 0; }
s=$(see "$n") || exit 96
a=gone
if [ -n "$k" ]; then a=$(see "$k") || exit 96; fi
# The earlier file may be put back only if it is as it was.
good() {
  [ "$a" = "$id" ] || return 1
  [ -L "$k" ] && return 0
  h=$(hash "$k") || exit 96
  [ "$h" = "$had" ]
}
back() {
  [ "$a" = gone ] && { echo lost; exit 0; }
  good || { echo touched; exit 0; }
  mv -f -- "$k" "$n" || exit 1
  # Two links to one file: the rename did nothing.
  [ "$(see "$k")" = gone ] || rm -f -- "$k" || exit 1
}
# Also while it still has its own name: the step that is to replace it may have been killed in the middle.
for f in "$all"*.old; do
  o=$(see "$f") || exit 96
  [ "$o" = "$made" ] && { echo buried; exit 0; }
done
if [ "$s" = "$made" ]; then
  [ -f "$n" ] && h=$(hash "$n") || exit 96
  [ "$h" = "$sum" ] || { echo changed; exit 0; }
  [ -n "$act" ] || { echo there; exit 0; }
  c=$(stat -c %h -- "$n") || exit 96
  if [ -n "$id" ]; then back; else rm -f -- "$n" || exit 1; fi
  [ "$c" -gt 1 ] && echo linked || echo removed
  exit 0
fi
# Neither it nor the earlier file is here: that came back, and what has the name since is not this file's matter.
[ "$way" = look ] && [ "$a" = gone ] && { echo nothing; exit 0; }
if [ -z "$id" ]; then
  [ "$s" = gone ] && echo "$none" || echo other
  exit 0
fi
# It was taken back before, and the earlier file, which was of this run, too.
if [ "$a" = gone ]; then
  for f; do [ "$s" = "$f" ] && { echo "$back"; exit 0; }; done
fi
if [ "$s" = "$id" ]; then
  [ "$a" = "$id" ] || { echo "$back"; exit 0; }
  [ -n "$act" ] || { echo spare; exit 0; }
  rm -f -- "$k" && echo nothing || exit 1
elif [ "$s" = gone ] && [ "$a" != gone ]; then
  [ -n "$act" ] || { echo aside; exit 0; }
  back
  echo "$put"
elif [ "$s" = gone ]; then echo lost
else echo other
fi
"#;

/// Removes `$1`, and `$2` if it is `$3`.
const RELEASE: &str = r#"
rm -f -- "$1" || exit 1
[ -n "$2" ] && [ -n "$3" ] || exit 0
o=$(see "$2") || exit 96
[ "$o" != "$3" ] || rm -f -- "$2"
"#;

const DISCARD: &str = r#"rm -f -- "$1""#;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Look,
    Plan,
    Receive,
    Prepare,
    Publish,
    Fate,
    Discard,
    Release,
    Beginning,
    Rest,
}

impl Script {
    /// The command that runs it. Those that carry data find the host's own programs first, all others the system's.
    pub(super) fn with(self, arguments: &[&str]) -> Exec {
        let (common, text) = match self {
            Self::Look => ("", LOOK),
            Self::Plan => (COMMON, PLAN),
            Self::Receive => (COMMON, RECEIVE),
            Self::Prepare => (COMMON, PREPARE),
            Self::Publish => (COMMON, PUBLISH),
            Self::Fate => (COMMON, FATE),
            Self::Discard => (COMMON, DISCARD),
            Self::Release => (COMMON, RELEASE),
            Self::Beginning => ("", r#"h=$(head -c "$2" <"$1" | sha256sum) && echo "${h%% *}""#),
            Self::Rest => ("PATH=$P\n", r#"exec tail -c "+$2" -- "$1""#),
        };
        let script = format!("P=$PATH; PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH\n{NEED}{common}{text}");
        let words = ["/bin/sh", "-c", &script, "sh"];
        Exec::new(words.iter().chain(arguments).copied()).env("LC_ALL", "C")
    }
}
