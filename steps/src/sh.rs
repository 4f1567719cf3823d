//! What scripts for the `/bin/sh` of a host share, GNU or busybox.

/// Defines `there`, whether anything has a path, be it a link that leads nowhere, and `gone`, which finds out why nothing
/// has: 0 if nothing is there, 13 if that cannot be seen. It goes into the nearest folder above that exists, so that the
/// kernel of the host decides, and leaves that folder in `$p`. Paths are absolute or have `./` before them.
pub(crate) const GONE: &str = r#"
there() { [ -e "$1" ] || [ -L "$1" ]; }
gone() {
  p=$1 n=0
  while :; do
    if [ -L "$p" ] && [ ! -e "$p" ] && [ "$p" != "$1" ]; then
      n=$((n + 1)); [ $n -lt 41 ] || return 13
      t=$(readlink "$p"; printf x); t=${t%x}; t=${t%?}
      case $t in /*) p=$t ;; *) p=${p%/*}/$t ;; esac
    elif [ -e "$p" ]; then
      [ -d "$p" ] || return 0
      (CDPATH= cd "$p") 2>/dev/null && return 0
      return 13
    else
      while case $p in ?*/) ;; *) false ;; esac; do p=${p%/}; done
      case $p in /*/*) p=${p%/*} ;; /*) p=/ ;; ./*/*) p=${p%/*} ;; *) p=. ;; esac
    fi
  done
}
"#;

/// Defines `need`: the first of these tools that the host lacks is named, and is the end with [`NO_TOOL`].
pub(crate) const NEED: &str = r#"
need() { for x; do command -v "$x" >/dev/null 2>&1 || { echo "$x" >&2; exit 97; }; done; }
"#;

/// The host lacks a tool.
pub(crate) const NO_TOOL: i32 = 97;

/// A path that no program takes for an option.
pub(crate) fn plain(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("./{path}") }
}
