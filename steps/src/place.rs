//! Puts a file in place on any host, beside it first and then by a rename, so that it can be taken back exactly.
//! All is done by short scripts for sh, the same here and there; paths are arguments of theirs, never part of them.

use engine::{
    ErrorClass, StepError,
    host::{Cancel, Exec, Host, Output, shell_word},
    step::{Leftover, Presence, Undone},
};
use serde::{Deserialize, Serialize};

/// What is known, and durable, before a file is put in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placing {
    /// The file to be made.
    pub(crate) to: String,
    /// What it is made from, lower-case hex.
    pub(crate) sha256: String,
    /// Where the bytes go first.
    pub(crate) beside: String,
    /// Where a file that is there already is kept.
    pub(crate) backup: String,
    /// The sha256 of that file.
    pub(crate) earlier: Option<String>,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    File { sha256: String, size: u64, mode: String },
    Other,
}

const LOOK: &str = r#"
if [ -L "$1" ]; then [ -e "$1" ] || { echo other; exit 0; }; fi
if [ -f "$1" ]; then
  h=$(sha256sum < "$1") && s=$(wc -c < "$1") && m=$(stat -c %a -- "$1") || exit 1
  echo file ${h%% *} $s $m
elif [ -e "$1" ]; then echo other
else
  d=$(dirname -- "$1")
  [ -d "$d" ] && [ ! -x "$d" ] && { echo "$d: Permission denied" >&2; exit 1; }
  echo nothing
fi
"#;

/// The statuses 91 and 92 are the script's own: the bytes are not as sent, and the place is not as found. It may be run
/// again: it first looks whether the run before came to its end.
const PLACE: &str = r#"
b=$1 to=$2 k=$3 sum=$4 had=$5 mode=$6
if [ ! -e "$b" ] && [ -f "$to" ]; then
  h=$(sha256sum < "$to") || exit 1
  [ "${h%% *}" = "$sum" ] && exit 0
fi
[ -L "$b" ] && exit 92
h=$(sha256sum < "$b") || exit 1
[ "${h%% *}" = "$sum" ] || exit 91
if [ -n "$had" ]; then
  h=$(sha256sum < "$to") || exit 92
  [ "${h%% *}" = "$had" ] || exit 92
  ln -- "$to" "$k" 2>/dev/null || cp -p -- "$to" "$k" || exit 1
elif [ -e "$to" ] || [ -L "$to" ]; then exit 92
fi
chmod "$mode" "$b" && { sync "$b" 2>/dev/null || sync; } && mv -f -- "$b" "$to"
"#;

/// Takes bytes, after the first `$2` that are there. The status 93 is its own: what is there is not as found. It never
/// writes through a link: what it opened must be what has the name.
const RECEIVE: &str = r#"
b=$1 at=$2
umask 077
if [ "$at" = 0 ]; then
  rm -f -- "$b" && set -C && exec 4>"$b" || exit 1
else
  [ -f "$b" ] && [ ! -L "$b" ] && exec 4>>"$b" && [ ! -L "$b" ] && [ "$b" -ef "/proc/$$/fd/4" ] || exit 93
  [ "$(wc -c < "$b")" -eq "$at" ] || exit 93
fi
exec cat >&4
"#;

/// The sha256 of the first `$2` bytes.
const BEGINNING: &str = r#"h=$(head -c "$2" < "$1" | sha256sum) && echo "${h%% *}""#;

const TAKE_BACK: &str = r#"
b=$1 to=$2 k=$3 sum=$4 had=$5
rm -f -- "$b" || exit 1
now=
if [ -f "$to" ]; then h=$(sha256sum < "$to") || exit 1; now=${h%% *}; elif [ -e "$to" ] || [ -L "$to" ]; then now=other; fi
if [ -z "$had" ]; then
  [ -z "$now" ] && { echo nothing; exit 0; }
  [ "$now" = "$sum" ] || { echo changed; exit 0; }
  rm -f -- "$to" && echo removed
elif [ ! -f "$k" ]; then
  [ "$now" = "$had" ] && echo nothing || echo changed
elif [ "$now" = "$sum" ] || [ -z "$now" ]; then
  mv -f -- "$k" "$to" && { [ ! -e "$k" ] || rm -f -- "$k"; } && echo removed
elif [ "$now" = "$had" ]; then
  rm -f -- "$k" && echo nothing
else echo changed
fi
"#;

const IS_THERE: &str = r#"for p in "$@"; do [ -e "$p" ] && printf '%s\n' "$p"; done; exit 0"#;

/// Refuses what is no path for a file.
pub(crate) fn check_path(key: &str, path: &str) -> Result<(), StepError> {
    if path.is_empty() || path.starts_with('-') || path.ends_with('/') || path.contains('\0') {
        let message = format!(
            "`{key}` is `{}`: expected the path of a file, not beginning with `-`",
            path.escape_debug()
        );
        return Err(StepError::new(ErrorClass::Invalid, message));
    }
    Ok(())
}

fn script(text: &str, arguments: &[&str]) -> Exec {
    Exec::new(["/bin/sh", "-c", text, "sh"].iter().chain(arguments).copied()).env("LC_ALL", "C")
}

/// An error of a script, told by what its tools wrote.
fn trouble(ended: Output, what: &str) -> StepError {
    let stderr = ended.stderr_text();
    let (class, hint) = if stderr.contains("No space left") || stderr.contains("Disk quota exceeded") {
        (ErrorClass::NoSpace, Some("free space first; see: df -h && df -i"))
    } else if stderr.contains("Permission denied")
        || stderr.contains("Read-only")
        || stderr.contains("not permitted")
    {
        (ErrorClass::Denied, Some("check owner, mode and mount with: namei -l PATH"))
    } else if stderr.contains("sha256sum: not found") || stderr.contains("sha256sum: command not found") {
        (ErrorClass::Unsupported, Some("install sha256sum (coreutils or busybox) on the host"))
    } else if stderr.contains("No such file or directory") || stderr.contains("nonexistent") {
        (ErrorClass::NotFound, Some("make its folder first"))
    } else if stderr.contains("File exists") || stderr.contains("existing file") {
        (ErrorClass::Exists, None)
    } else {
        (ErrorClass::Exit, None)
    };
    let mut error = ended.require_success(what).err().unwrap_or_else(|| StepError::internal(what));
    error.class = class;
    error.hint = hint.map(str::to_owned);
    error.message = format!("cannot {what}");
    error
}

/// What is at `path`.
pub(crate) async fn look(host: &dyn Host, path: &str, cancel: &Cancel) -> Result<Found, StepError> {
    let ended = host.exec(script(LOOK, &[path]).repeatable(), cancel).await?;
    let what = format!("read `{path}` on `{}`", host.name());
    if !ended.success() {
        return Err(trouble(ended, &what));
    }
    let text = ended.stdout_text();
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["nothing"] => Ok(Found::Nothing),
        ["other"] => Ok(Found::Other),
        ["file", sha256, size, mode] if sha256.len() == 64 => Ok(Found::File {
            sha256: (*sha256).to_owned(),
            size: size.parse().map_err(|_| StepError::internal(format!("{what}: `{text}`")))?,
            mode: (*mode).to_owned(),
        }),
        _ => Err(StepError::internal(format!("{what}: `{text}`"))),
    }
}

/// The sha256 of the first `length` bytes of a file, lower-case hex.
pub(crate) async fn beginning(
    host: &dyn Host,
    path: &str,
    length: u64,
    cancel: &Cancel,
) -> Result<String, StepError> {
    let ended = host.exec(script(BEGINNING, &[path, &length.to_string()]).repeatable(), cancel).await?;
    if !ended.success() {
        return Err(trouble(ended, &format!("read `{path}` on `{}`", host.name())));
    }
    Ok(ended.stdout_text().trim().to_owned())
}

/// The script that gives a file without its first `at` bytes.
pub(crate) fn rest(path: &str, at: u64) -> Exec {
    script("exec tail -c \"+$2\" -- \"$1\"", &[path, &(at + 1).to_string()])
}

/// Turns the end of a script into an error if it failed.
pub(crate) fn succeeded(ended: Output, what: &str) -> Result<(), StepError> {
    if ended.success() { Ok(()) } else { Err(trouble(ended, what)) }
}

impl Placing {
    /// Looks at the place and chooses the names beside it. `part` names what is on its way: the same in all attempts of
    /// a step, so that one goes on where the one before stopped. `mark` names the earlier file, in this attempt only.
    pub(crate) async fn plan(
        host: &dyn Host,
        to: &str,
        sha256: String,
        part: &str,
        mark: &str,
        cancel: &Cancel,
    ) -> Result<Self, StepError> {
        let earlier = match look(host, to, cancel).await? {
            Found::Nothing => None,
            Found::File { sha256, .. } => Some(sha256),
            Found::Other => {
                let message = format!("`{to}` on `{}` is there and no file", host.name());
                return Err(StepError::new(ErrorClass::Exists, message).hint(format!("ls -ld {to}")));
            }
        };
        Ok(Self {
            to: to.to_owned(),
            sha256,
            beside: format!("{to}.{part}.new"),
            backup: format!("{to}.{mark}.old"),
            earlier,
        })
    }

    /// The script that takes the bytes after the first `at`, which are there.
    pub(crate) fn receive(&self, at: u64) -> Exec {
        script(RECEIVE, &[&self.beside, &at.to_string()])
    }

    /// Turns the end of `receive` into an error if it failed.
    pub(crate) fn received(&self, ended: Output) -> Result<(), StepError> {
        if ended.code == Some(93) {
            let message = format!("`{}` is not as it was found a moment ago", self.beside);
            return Err(StepError::new(ErrorClass::Busy, message).hint(format!("ls -l {}", self.beside)));
        }
        succeeded(ended, &format!("write `{}`", self.beside))
    }

    /// Checks the bytes and puts the file in place.
    pub(crate) async fn place(&self, host: &dyn Host, mode: &str, cancel: &Cancel) -> Result<(), StepError> {
        let earlier = self.earlier.as_deref().unwrap_or_default();
        let arguments = [&self.beside, &self.to, &self.backup, &self.sha256, earlier, mode];
        let ended = host.exec(script(PLACE, &arguments).repeatable(), cancel).await?;
        let to = &self.to;
        match ended.code {
            Some(0) => Ok(()),
            Some(91) => Err(StepError::new(
                ErrorClass::Corrupt,
                format!(
                    "what arrived for `{to}` on `{}` is not what was sent: its sha256 differs",
                    host.name()
                ),
            )
            .hint("check the network and the disk, then run again")),
            Some(92) => Err(StepError::new(
                ErrorClass::Busy,
                format!("`{to}` on `{}` changed while the new file was on its way", host.name()),
            )),
            _ => Err(trouble(ended, &format!("put `{to}` in place on `{}`", host.name()))),
        }
    }

    /// Takes the file back: removes it, or restores the earlier one, if it is still what was put there.
    pub(crate) async fn take_back(&self, host: &dyn Host, cancel: &Cancel) -> Result<Undone, StepError> {
        let earlier = self.earlier.as_deref().unwrap_or_default();
        let arguments = [&self.beside, &self.to, &self.backup, &self.sha256, earlier];
        let ended = host.exec(script(TAKE_BACK, &arguments).repeatable(), cancel).await?;
        if !ended.success() {
            return Err(trouble(ended, &format!("take back `{}` on `{}`", self.to, host.name())));
        }
        match ended.stdout_text().trim() {
            "removed" => Ok(Undone::Removed),
            "nothing" => Ok(Undone::NothingToDo),
            _ => Ok(Undone::Left(self.leftover(host, "it changed since this run put it there"))),
        }
    }

    /// What a person can type to take the file back.
    pub(crate) fn by_hand(&self) -> String {
        let (to, beside, backup) = (shell_word(&self.to), shell_word(&self.beside), shell_word(&self.backup));
        match &self.earlier {
            None => format!("rm -f -- {to} {beside}"),
            Some(_) => format!("rm -f -- {beside}; [ ! -e {backup} ] || mv -- {backup} {to}"),
        }
    }

    /// Whether the file is in place, for an attempt whose outcome is unknown.
    pub(crate) async fn is_placed(&self, host: &dyn Host, cancel: &Cancel) -> Result<bool, StepError> {
        let now = look(host, &self.to, cancel).await?;
        Ok(matches!(now, Found::File { sha256, .. } if sha256 == self.sha256))
    }

    fn leftover(&self, host: &dyn Host, why: &str) -> Leftover {
        let on = if host.is_local() { String::new() } else { format!(" on `{}`", host.name()) };
        let command = match &self.earlier {
            None => format!("rm {}", self.to),
            Some(_) => format!("ls -l {} {1}; mv {1} {0}", self.to, self.backup),
        };
        Leftover { what: format!("file `{}`{on}", self.to), why: why.to_owned(), remove_with: command }
    }

    /// Whether anything of it is there.
    pub(crate) async fn presence(&self, host: &dyn Host, cancel: &Cancel) -> Result<Presence, StepError> {
        let beside = host.exec(script(IS_THERE, &[&self.beside, &self.backup]).repeatable(), cancel).await?;
        let names = beside.stdout_text();
        if let Some(name) = names.lines().next() {
            return Ok(Presence::Present(Leftover {
                what: format!("file `{name}` on `{}`", host.name()),
                why: "it was made on the way".into(),
                remove_with: format!("rm {name}"),
            }));
        }
        match look(host, &self.to, cancel).await? {
            Found::File { sha256, .. } if sha256 == self.sha256 && self.earlier.as_ref() != Some(&sha256) => {
                Ok(Presence::Present(self.leftover(host, "it is still there")))
            }
            _ => Ok(Presence::Gone),
        }
    }
}
