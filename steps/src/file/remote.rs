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

/// Prints kind, size, mode, time, inode, owner and group; nothing if there is nothing. GNU and busybox `stat` agree on these.
const STAT: &str = r#"[ -e "$1" ] || [ -L "$1" ] || exit 0
stat -c '%F|%s|%a|%Y|%i|%u|%g|%U|%G' -- "$1""#;

/// Makes `$2` beside the place and names it `$1`, only if that is still free. `$3` is the mode, `$4` the owner, `$5` how many
/// bytes it has and `$6` where they come from: from stdin, from the file `$7`, or from nowhere.
const WRITE: &str = r#"set -C
trap 'rm -f -- "$2"' EXIT
case $6 in
stdin) cat >"$2" ;;
copy) cat -- "$7" >"$2" ;;
zero) head -c "$5" /dev/zero >"$2" ;;
sparse) : >"$2" && { [ "$5" -eq 0 ] || dd if=/dev/null of="$2" bs=1 seek="$5" count=0 2>/dev/null; } ;;
esac || exit 50
[ "$6" = copy ] || [ "$(stat -c %s -- "$2")" = "$5" ] || { echo 'not all bytes have come' >&2; exit 50; }
[ -z "$4" ] || chown -- "$4" "$2" || exit 50
[ -z "$3" ] || chmod "$3" -- "$2" || exit 50
ln -- "$2" "$1" 2>/dev/null || { { [ -e "$1" ] || [ -L "$1" ]; } && exit 51; mv -- "$2" "$1"; }"#;

/// Makes the folder `$1` with the mode `$2` and the owner `$3`, or leaves nothing.
const FOLDER: &str = r#"mkdir -- "$1" || exit 50
{ [ -z "$3" ] || chown -- "$3" "$1"; } && { [ -z "$2" ] || chmod "$2" -- "$1"; } || { rmdir -- "$1"; exit 50; }"#;

/// Whether `$1` has `$2` bytes that are all zero. One of which no block is taken is not read.
const UNTOUCHED: &str = r#"[ "$(stat -c %s -- "$1")" = "$2" ] || exit 1
[ "$(stat -c %b -- "$1")" = 0 ] || head -c "$2" /dev/zero | cmp -s - "$1""#;

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
        text if ["permission denied", "not permitted", "read-only"].iter().any(|it| text.contains(it)) => {
            ErrorClass::Denied
        }
        text if ["invalid user", "invalid group", "unknown user", "unknown group"]
            .iter()
            .any(|it| text.contains(it)) =>
        {
            ErrorClass::NotFound
        }
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
    let [kind, size, mode, mtime, inode, uid, gid, owner, group] = fields.as_slice() else {
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
        uid: uid.parse().unwrap_or(0),
        gid: gid.parse().unwrap_or(0),
        // What has no name is its number, as here.
        owner: if *owner == "UNKNOWN" { uid } else { owner }.to_string(),
        group: if *group == "UNKNOWN" { gid } else { group }.to_string(),
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
            let done = script(cx, FOLDER, &[path, &mode, &owner(params)], Stdin::Null).await?;
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
            let zero = matches!(source, Source::Zero { .. });
            if source.total() > IN_MEMORY && !zero {
                let message =
                    format!("`{path}`: at most 64 MiB can be created on a host, except of zero bytes");
                return Err(StepError::new(ErrorClass::Invalid, message)
                    .hint("create it here and use `ssh` with `upload`"));
            }
            let total = source.total();
            let (from, stdin) = match (params.sparse, zero) {
                (true, _) => ("sparse", Stdin::Null),
                (false, true) => ("zero", Stdin::Null),
                (false, false) => {
                    let mut bytes = Vec::new();
                    loop {
                        match source.next() {
                            piece if piece.is_empty() => break,
                            piece => bytes.extend(piece),
                        }
                    }
                    ("stdin", Stdin::Bytes(bytes))
                }
            };
            let args = [path, &intent.beside, &mode, &owner(params), &total.to_string(), from];
            made(cx, path, &script(cx, WRITE, &args, stdin).await?, "create")?;
            let mut made = stat(cx, path).await?;
            if !params.sparse {
                let source = Source::of(params, intent);
                made.sha256 = Some(super::local::blocking(move || Ok(source.sha256())).await?);
            }
            return Ok(made);
        }
        Action::Copy(from, _) => {
            let args = [path, &intent.beside, &mode, &owner(params), "", "copy", from];
            made(cx, path, &script(cx, WRITE, &args, Stdin::Null).await?, "make a copy at")?;
            let mut made = stat(cx, path).await?;
            made.sha256 = hash(cx, path).await.ok();
            return Ok(made);
        }
    }
    stat(cx, path).await
}

/// `USER:GROUP` as `chown` takes it; empty if neither is given.
fn owner(params: &Params) -> String {
    let word = |word: &Option<crate::word::Word>| word.as_ref().map_or(String::new(), |word| word.0.clone());
    match (word(&params.owner), word(&params.group)) {
        (user, group) if group.is_empty() => user,
        (user, group) => format!("{user}:{group}"),
    }
}

/// What came of [`WRITE`].
fn made(cx: &Context, path: &str, done: &engine::host::Output, what: &str) -> Result<(), StepError> {
    match done.code {
        Some(0) => Ok(()),
        Some(51) => Err(exists(path)),
        _ => Err(failed(cx, &format!("{what} `{path}`"), done)),
    }
}

/// As [`super::local::is_ours`].
pub(super) async fn is_ours(
    cx: &Context,
    params: &Params,
    action: &Action<'_>,
    intent: &Intent,
    output: Option<&Output>,
) -> Result<bool, StepError> {
    let target = action.target();
    if params.sparse {
        let size = params.size.unwrap_or_default().0.to_string();
        let done = script(cx, UNTOUCHED, &[target, &size], Stdin::Null).await?;
        return Ok(done.success());
    }
    let wanted = match output.and_then(|made| made.sha256.clone()) {
        Some(sha256) => Some(sha256),
        None => wanted(params, action, intent).await?,
    };
    let found = hash(cx, target).await.ok();
    Ok(wanted.is_some() && wanted == found)
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
            let same_inode = output.is_none_or(|made| made.inode == now.inode);
            let ours =
                now.kind == "file" && same_inode && is_ours(cx, params, action, intent, output).await?;
            match ours {
                true => {
                    require(r#"rm -f -- "$1""#, &[target], format!("remove `{target}`")).await?;
                    Ok(Undone::Removed)
                }
                false if output.is_none() => Ok(Undone::NothingToDo),
                false => Ok(Undone::Left(leftover(&now, "it was changed since it was made"))),
            }
        }
    }
}
