//! The small scripts for the `/bin/sh` of a host, GNU or busybox. Paths are arguments, absolute or with `./` before them,
//! never part of a script. What a script has to say stands on lines that begin with `@`; why it failed is its status.

use crate::sh::{GONE, NEED};
use engine::host::Exec;

/// The path exists already.
pub(super) const EXISTS: i32 = 51;
/// The folder is another than it was.
pub(super) const OTHER_FOLDER: i32 = 52;
/// What was half made was taken away or replaced.
pub(super) const SWAPPED: i32 = 55;
/// What is to be copied is no file.
pub(super) const NO_FILE: i32 = 56;
/// What has the name is another than it was.
pub(super) const OTHER: i32 = 61;
/// Something is mounted in the folder.
pub(super) const MOUNTED: i32 = 62;
/// The folder is not empty.
pub(super) const NOT_EMPTY: i32 = 63;
/// The system refused, as a test of the path shows.
pub(super) const DENIED: i32 = 13;

/// What all of them share besides [`GONE`] and [`NEED`]; what makes something asks before for all that takes it back.
/// `id_of` prints what a thing is. On overlayfs (794c7630) what stands in a lower layer
/// is born once more with the first write to it: its birth tells nothing, and `on` leaves it out. `mounted` tells what is mounted
/// below the folder it is in.
const COMMON: &str = r#"
need stat
on() {
  case $(stat -f -c %t -- "$1" 2>/dev/null) in 794c7630) I='%d %i 0' ;; *) I='%d %i %.9W' ;; esac
  F="%f|%s|%a|%Y|%h|%u|%g|$I|%U|%G"
  export I
}
id_of() { on "$1"; stat -c "$I" -- "$1" 2>/dev/null; }
folder_id() { on "$1"; stat -L -c "$I" -- "$1" 2>/dev/null; }
mounted() {
  [ -r /proc/self/mountinfo ] || { echo 'its mounts cannot be seen: /proc is not mounted' >&2; exit 50; }
  here=$(pwd -P; printf x); here=${here%??} any=1
  while read -r _ _ _ _ at _; do
    at=$(printf '%bx' "$(printf %s "$at" | sed 's/\\\([0-7][0-7][0-7]\)/\\0\1/g')"); at=${at%x}
    case $at in "$here"/*) printf '@mount|%s\0' "$at"; any=0 ;; esac
  done </proc/self/mountinfo
  return $any
}
"#;

/// `$1` is looked at itself, `$2` as the folder that it leads to, `$3` again itself. With a `$4` it tells all mounts.
pub(super) const SEE: &str = r#"
IFS= read -r boot </proc/sys/kernel/random/boot_id && echo "@boot|$boot"
see() {
  on "$1"
  if s=$(stat $3 -c "$F" -- "$1" 2>/dev/null); then echo "@$2|is|$s"
  elif there "$1"; then echo "@$2|denied"
  else gone "$1" && echo "@$2|nothing" || echo "@$2|denied"; fi
}
[ -z "$1" ] || see "$1" now
[ -z "$2" ] || see "$2" folder -L
[ -z "$3" ] || see "$3" beside
[ -z "$4" ] || sed 's/^/@mounted|/' </proc/self/mountinfo
exit 0"#;

/// Makes the file `$1` under its hidden name, in the folder `$2` that is `$3`. `$4` is the mode, `$5` the owner, `$6` how
/// many bytes it has and `$7` where they come from: from stdin, from the file `$8`, or from nowhere. All is done by the open
/// file, for others may write to the folder.
pub(super) const PREPARE: &str = r#"
b=$1
need cat chmod mv rm
command -v openssl >/dev/null 2>&1 || need sha256sum
[ -z "$5" ] || need chown
case $7 in zero) need head ;; sparse) need dd head cmp ;; esac
on "$2"
[ "$(folder_id "$2")" = "$3" ] || exit 52
base=666
if [ "$7" = copy ]; then
  [ -e "$8" ] && [ ! -f "$8" ] && exit 56
  base=$(stat -L -c %a -- "$8") || exit 50
  base=${base#"${base%???}"}
fi
mask=$(umask); umask 077; set -C
drop() { [ "$b" -ef "$f" ] && rm -f -- "$b"; exit "$1"; }
{
  f=/proc/$$/fd/4
  [ ! -L "$b" ] && [ "$b" -ef "$f" ] || exit 55
  trap 'drop 50' HUP INT TERM
  case $7 in
  stdin) cat >&4 ;;
  copy) cat -- "$8" >&4 ;;
  zero) head -c "$6" /dev/zero >&4 ;;
  sparse) [ "$6" -eq 0 ] || dd if=/dev/null of="$f" bs=1 seek="$6" count=0 2>/dev/null ;;
  esac || drop 50
  [ "$7" = copy ] || [ "$(stat -L -c %s "$f")" = "$6" ] || { echo 'not all bytes have come' >&2; drop 50; }
  [ -z "$5" ] || chown -- "$5" "$f" || drop 50
  chmod "${4:-$(printf %o $((0$base & ~0$mask)))}" "$f" || drop 50
  s=$(stat -L -c "$F" "$f") && echo "@now|is|$s" || drop 50
  exit 0
} 4>"$b"
there "$b" && exit 51
[ -w "$2" ] || exit 13
exit 50"#;

/// Makes the folder `$1` under its hidden name, as [`PREPARE`] does. Owner and mode are set from within.
pub(super) const FOLDER: &str = r#"
need chmod ls mkdir mv rm rmdir sed
[ -z "$5" ] || need chown
on "$2"
[ "$(folder_id "$2")" = "$3" ] || exit 52
mask=$(umask); umask 077
mkdir -- "$1" || { there "$1" && exit 51; [ -w "$2" ] || exit 13; exit 50; }
from=$PWD
CDPATH= cd -P -- "$1" || exit 55
case $(stat -c %a .) in *700) [ -O . ] && [ -z "$(ls -A .)" ] || exit 55 ;; *) exit 55 ;; esac
{ [ -z "$5" ] || chown -- "$5" .; } && chmod "${4:-$(printf %o $((0777 & ~0$mask)))}" . \
  && s=$(stat -c "$F" .) && echo "@now|is|$s" || { cd "$from"; rmdir -- "$1"; exit 50; }"#;

/// Gives `$1`, which is `$3`, the name `$2`, only if that is still free. `$4` is `file` or `folder`.
pub(super) const PUBLISH: &str = r#"
[ "$(id_of "$1")" = "$3" ] || exit 55
there "$2" && exit 51
if [ "$4" = file ] && ln -- "$1" "$2" 2>/dev/null; then
  if [ "$(id_of "$2")" = "$3" ]; then rm -f -- "$1"; exit; fi
  rm -f -- "$2/${1##*/}"; exit 51
fi
there "$2" && exit 51
mv -- "$1" "$2" || exit 50
[ "$(id_of "$2")" = "$3" ] && exit 0
mv -- "$2/${1##*/}" "$1" && exit 51
exit 55"#;

/// Puts the file `$1`, which is `$3`, aside as `$2`.
pub(super) const ASIDE: &str = r#"
need mv
there "$1" || { gone "$1"; exit $?; }
[ "$(id_of "$1")" = "$3" ] || exit 61
mv -- "$1" "$2" || { [ -w "$4" ] || exit 13; exit 50; }
[ "$(id_of "$2")" = "$3" ] || { mv -- "$2" "$1"; exit 61; }"#;

/// Removes the file `$1`, if it is `$2`; without `$2` whatever file it is.
pub(super) const DROP: &str = r#"
there "$1" || { gone "$1"; exit $?; }
[ -z "$2" ] || [ "$(id_of "$1")" = "$2" ] || exit 61
rm -f -- "$1" && exit 0
[ -w "$3" ] || exit 13
exit 50"#;

/// Removes the folder `$1`, if it is `$2`; with a `$3` all in it goes first, unless something is mounted in it. It goes into
/// the folder and works from there, so that nothing can be put in its place. Not every `find` can delete.
pub(super) const REMOVE_FOLDER: &str = r#"
[ "$(id_of "$1")" = "$2" ] || exit 61
from=$PWD
CDPATH= cd -P -- "$1" || exit 13
[ "$(id_of .)" = "$2" ] || exit 61
mounted && exit 62
if [ -z "$3" ]; then :
elif find . -maxdepth 0 ! -name . -delete 2>/dev/null; then find . -xdev -depth ! -name . -delete || exit 50
else
  for x in ./* ./.[!.]* ./..?*; do ! there "$x" || rm -rf -- "$x" || exit 50; done
fi
[ -z "$(ls -A .)" ] || exit 63
cd "$from" && [ "$(id_of "$1")" = "$2" ] || exit 61
rmdir -- "$1" && exit 0
exit 50"#;

/// What is mounted below the folder `$1`.
pub(super) const MOUNTS: &str = r#"
CDPATH= cd -P -- "$1" || exit 13
mounted
exit 0"#;

/// Finds what has the inode `$2` on the file system of the device `$3`, which is number `$6`: first in the folder `$1`, then
/// below `$4`, then in all of it. `$5` is its inode and time of birth. Then it prints `@seen` if the search came to its end,
/// what the folder `$1` is, and all mounts; one that cannot search by inodes has seen nothing.
pub(super) const FIND: &str = r#"
[ "$(find / -maxdepth 0 -xdev -inum "$(stat -c %i /)" -exec echo {} \; 2>/dev/null)" = / ] || exit 0
on "$4"
tell='printf "@at|"; stat -c "$I" -- "$1"; printf "%s\0\n" "$1"'
find "$1" -xdev -maxdepth 1 -inum "$2" -exec sh -c "$tell" sh {} \; 2>/dev/null
root=
while read -r _ _ device part at _; do
  [ "$device" = "$3" ] && [ "$part" = / ] || continue
  at=$(printf '%bx' "$(printf %s "$at" | sed 's/\\\([0-7][0-7][0-7]\)/\\0\1/g')"); at=${at%x}
  # One that is mounted over is not what its path leads to.
  [ "$(stat -c %d -- "$at" 2>/dev/null)" = "$6" ] && root=$at
done </proc/self/mountinfo
[ -n "$root" ] || exit 0
timeout 5 true 2>/dev/null || exit 0
near=$(timeout 2 find "$4" -xdev -inum "$2" -exec sh -c "$tell" sh {} \; 2>/dev/null | tr '\0' '\1')
# The inode may be another's by now: only its birth tells.
case $near in *" $5"*) printf '%s\n' "$near" | tr '\1' '\0'; exit 0 ;; esac
exec 3>&1
missed=$({ timeout 3 find "$root" -xdev -inum "$2" -exec sh -c "$tell" sh {} \; 2>&1 >&3
  case $? in 124 | 137 | 143) echo late ;; esac; } | sed '/: No such file or directory$/d')
# A folder that this user may not enter may hold it; one that vanished meanwhile holds nothing.
[ -n "$missed" ] || echo @seen
IFS= read -r boot </proc/sys/kernel/random/boot_id && echo "@boot|$boot"
on "$1"
if s=$(stat -L -c "$I" -- "$1" 2>/dev/null); then echo "@folder|$s"
else gone "$1" && echo '@folder|nothing'; fi
sed 's/^/@mounted|/' </proc/self/mountinfo
exit 0"#;

/// The SHA-256 of a file.
pub(super) const SHA256: &str = r#"
[ -f "$1" ] || { there "$1" && exit 56; gone "$1" || exit 13; exit 44; }
[ -r "$1" ] || exit 13
if command -v sha256sum >/dev/null; then h=$(sha256sum <"$1"); else h=$(openssl dgst -sha256 -r <"$1"); fi && echo "@${h%% *}""#;

/// Whether `$1` has `$2` bytes that are all zero: 1 if not. One of which no block is taken is not read.
pub(super) const UNTOUCHED: &str = r#"
[ "$(stat -c %s -- "$1")" = "$2" ] || exit 1
[ "$(stat -c %b -- "$1")" = 0 ] && exit 0
[ -r "$1" ] || exit 13
head -c "$2" /dev/zero | cmp -s - "$1""#;

/// Whether anything is in the folder `$1`: 63 if so.
pub(super) const IS_EMPTY: &str = r#"
l=$(ls -A -- "$1") || exit 13
[ -z "$l" ] || exit 63"#;

/// A script as a command.
pub(super) fn exec(script: &str, args: &[&str]) -> Exec {
    let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH";
    let script = [path, GONE, NEED, COMMON, script].concat();
    let argv = ["/bin/sh", "-c", &script, "sh"].into_iter().chain(args.iter().copied());
    Exec::new(argv).env("LC_ALL", "C")
}
