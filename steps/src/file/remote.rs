//! Files of a host, by small scripts for its `/bin/sh`. Values travel as arguments, never inside the script.

use super::{
    Action, Intent, Output, Params,
    content::{Source, wanted},
    exists, leftover,
};
use engine::{
    StepError,
    error::ErrorClass,
    host::{Exec, Stdin},
    step::{Context, Undone},
};

/// The most that is made for a host in memory; larger files are copied from a file.
const IN_MEMORY: u64 = 64 << 20;

/// Prints kind, size, mode, time, inode; nothing if there is nothing. GNU and busybox `stat` agree on these.
const STAT: &str = r#"[ -e "$1" ] || [ -L "$1" ] || exit 0
stat -c '%F|%s|%a|%Y|%i' -- "$1""#;

/// Reads stdin into `$2` beside the place and names it `$1`, only if that is still free and all `$4` bytes have come. `$3`
/// is the mode.
const WRITE: &str = r#"set -C
trap 'rm -f -- "$2"' EXIT
cat >"$2" || exit 50
[ "$(($(wc -c <"$2")))" -eq "$4" ] || { echo 'not all bytes have come' >&2; exit 50; }
[ -z "$3" ] || chmod "$3" -- "$2" || exit 50
ln -- "$2" "$1" 2>/dev/null || { { [ -e "$1" ] || [ -L "$1" ]; } && exit 51; mv -- "$2" "$1"; }"#;

async fn script(
    cx: &Context,
    script: &str,
    args: &[&str],
    stdin: Stdin,
) -> Result<engine::host::Output, StepError> {
    let argv = ["/bin/sh", "-c", script, "sh"].into_iter().chain(args.iter().copied());
    cx.exec(Exec::new(argv).stdin(stdin)).await
}

/// What a failed script said, as a class.
fn failed(cx: &Context, what: &str, done: &engine::host::Output) -> StepError {
    let said = done.stderr_text();
    let class = match said.to_lowercase() {
        text if text.contains("permission denied") || text.contains("read-only") => ErrorClass::Denied,
        text if text.contains("no space") || text.contains("quota") => ErrorClass::NoSpace,
        text if text.contains("no such file") => ErrorClass::NotFound,
        _ => ErrorClass::Exit,
    };
    let last = said.trim().lines().last().unwrap_or("no reason given").to_owned();
    StepError::new(class, format!("cannot {what} on `{}`: {last}", cx.host.name()))
}

pub(super) async fn stat(cx: &Context, path: &str) -> Result<Output, StepError> {
    let done = script(cx, STAT, &[path], Stdin::Null).await?;
    if !done.success() {
        return Err(failed(cx, &format!("look at `{path}`"), &done));
    }
    let text = done.stdout_text();
    let none = Output { path: path.to_owned(), ..Output::default() };
    if text.trim().is_empty() {
        return Ok(none);
    }
    let fields: Vec<&str> = text.trim().split('|').collect();
    let [kind, size, mode, mtime, inode] = fields.as_slice() else {
        return Err(StepError::internal(format!("unexpected answer of stat: `{}`", text.trim())));
    };
    let kind = match *kind {
        kind if kind.starts_with("regular") => "file",
        "directory" => "folder",
        "symbolic link" => "link",
        _ => "other",
    };
    Ok(Output {
        exists: true,
        kind: kind.to_owned(),
        size: size.parse().unwrap_or(0),
        mode: format!("{:0>4}", mode),
        mtime: mtime.parse().unwrap_or(0),
        inode: inode.parse().unwrap_or(0),
        ..none
    })
}

pub(super) async fn hash(cx: &Context, path: &str) -> Result<String, StepError> {
    let line =
        r#"if command -v sha256sum >/dev/null; then sha256sum; else openssl dgst -sha256 -r; fi <"$1""#;
    let done = script(cx, line, &[path], Stdin::Null).await?;
    match done.stdout_text().split_whitespace().next() {
        Some(hash) if done.success() => Ok(hash.to_owned()),
        _ => Err(failed(cx, &format!("read `{path}`"), &done)),
    }
}

pub(super) async fn is_empty(cx: &Context, path: &str) -> Result<bool, StepError> {
    let done = script(cx, r#"ls -A -- "$1""#, &[path], Stdin::Null).await?;
    if !done.success() {
        return Err(failed(cx, &format!("read the folder `{path}`"), &done));
    }
    Ok(done.stdout.is_empty())
}

pub(super) async fn run(
    cx: &Context,
    params: &Params,
    action: &Action<'_>,
    mode: Option<u32>,
    intent: &Intent,
    aside: bool,
) -> Result<Output, StepError> {
    let path = action.target();
    let mode = mode.map(|mode| format!("{mode:o}")).unwrap_or_default();
    match *action {
        Action::Stat(_) => {}
        Action::Directory(_) => {
            let make = r#"mkdir -- "$1" && { [ -z "$2" ] || chmod "$2" -- "$1"; }"#;
            let done = script(cx, make, &[path, &mode], Stdin::Null).await?;
            if !done.success() {
                return Err(failed(cx, &format!("make the folder `{path}`"), &done));
            }
        }
        Action::Remove(_) => {
            let gone = match aside {
                true => {
                    script(cx, r#"[ ! -e "$1" ] || mv -- "$1" "$2""#, &[path, &intent.beside], Stdin::Null)
                        .await?
                }
                false => script(cx, r#"rm -f -- "$1""#, &[path], Stdin::Null).await?,
            };
            if !gone.success() {
                return Err(failed(cx, &format!("remove `{path}`"), &gone));
            }
        }
        Action::Create(_) => {
            let mut source = Source::of(params, intent);
            if source.total() > IN_MEMORY {
                let message = format!("`{path}`: at most 64 MiB can be created on a host");
                return Err(StepError::new(ErrorClass::Invalid, message)
                    .hint("create it here and use `ssh` with `upload`"));
            }
            let mut bytes = Vec::new();
            loop {
                match source.next() {
                    piece if piece.is_empty() => break,
                    piece => bytes.extend(piece),
                }
            }
            write(cx, path, &intent.beside, &mode, bytes).await?;
            let mut made = stat(cx, path).await?;
            made.sha256 = Some(Source::of(params, intent).sha256());
            return Ok(made);
        }
        Action::Copy(from, _) => {
            let copy = r#"set -C
trap 'rm -f -- "$3"' EXIT
cat -- "$1" >"$3" || exit 50
[ -z "$4" ] || chmod "$4" -- "$3" || exit 50
ln -- "$3" "$2""#;
            let done = script(cx, copy, &[from, path, &intent.beside, &mode], Stdin::Null).await?;
            if !done.success() {
                return Err(failed(cx, &format!("copy `{from}` to `{path}`"), &done));
            }
            let mut made = stat(cx, path).await?;
            made.sha256 = hash(cx, path).await.ok();
            return Ok(made);
        }
    }
    stat(cx, path).await
}

async fn write(cx: &Context, path: &str, beside: &str, mode: &str, bytes: Vec<u8>) -> Result<(), StepError> {
    let length = bytes.len().to_string();
    let done = script(cx, WRITE, &[path, beside, mode, &length], Stdin::Bytes(bytes)).await?;
    match done.code {
        Some(0) => Ok(()),
        Some(51) => Err(exists(path)),
        _ => Err(failed(cx, &format!("create `{path}`"), &done)),
    }
}

pub(super) async fn undo(
    cx: &Context,
    params: &Params,
    action: &Action<'_>,
    intent: &Intent,
    output: Option<&Output>,
) -> Result<Undone, StepError> {
    let target = action.target();
    let require = async |line: &str, args: &[&str], what: String| -> Result<(), StepError> {
        let done = script(cx, line, args, Stdin::Null).await?;
        if done.success() { Ok(()) } else { Err(failed(cx, &what, &done)) }
    };
    match action {
        Action::Stat(_) => Ok(Undone::NothingToDo),
        Action::Remove(_) => {
            let aside = stat(cx, &intent.beside).await?;
            if !aside.exists {
                return Ok(Undone::NothingToDo);
            }
            if stat(cx, target).await?.exists {
                return Ok(Undone::Left(leftover(
                    &aside,
                    &format!("another file is at `{target}`, where it came from"),
                )));
            }
            require(r#"mv -- "$1" "$2""#, &[&intent.beside, target], format!("put `{target}` back")).await?;
            Ok(Undone::Removed)
        }
        Action::Directory(_) => {
            let now = stat(cx, target).await?;
            if !now.exists {
                return Ok(Undone::NothingToDo);
            }
            if now.kind != "folder" || output.is_some_and(|made| made.inode != now.inode) {
                return Ok(Undone::Left(leftover(&now, "it is another than the one that was made")));
            }
            let line =
                if params.owned && output.is_some() { r#"rm -rf -- "$1""# } else { r#"rmdir -- "$1""# };
            match require(line, &[target], format!("remove the folder `{target}`")).await {
                Ok(()) => Ok(Undone::Removed),
                Err(error) if error.message.contains("not empty") => {
                    Ok(Undone::Left(leftover(&now, "it is not empty")))
                }
                Err(error) => Err(error),
            }
        }
        Action::Create(_) | Action::Copy(..) => {
            require(r#"rm -f -- "$1""#, &[&intent.beside], format!("remove `{}`", intent.beside)).await?;
            let now = stat(cx, target).await?;
            if !now.exists {
                return Ok(Undone::NothingToDo);
            }
            let wanted = match output.and_then(|made| made.sha256.clone()) {
                Some(sha256) => Some(sha256),
                None => wanted(params, action, intent).await?,
            };
            let same_inode = output.is_none_or(|made| made.inode == now.inode);
            let found = if now.kind == "file" && same_inode { hash(cx, target).await.ok() } else { None };
            match (wanted, found) {
                (Some(wanted), Some(found)) if wanted == found => {
                    require(r#"rm -f -- "$1""#, &[target], format!("remove `{target}`")).await?;
                    Ok(Undone::Removed)
                }
                _ if output.is_none() => Ok(Undone::NothingToDo),
                _ => Ok(Undone::Left(leftover(&now, "it was changed since it was made"))),
            }
        }
    }
}
