//! Files of a host, by small scripts for its `/bin/sh`. Values travel as arguments, never inside the script.

mod scripts;
pub(crate) mod search;
mod undo;

use super::{
    Action, Intent, Mounts, Output, Params,
    content::{Source, wanted},
    exists,
};
use crate::{
    identity::Identity,
    sh::{NO_TOOL, plain},
};
use engine::{
    StepError,
    error::ErrorClass,
    host::{Stdin, shell_word},
    step::Context,
};
pub(super) use undo::{presence, undo};

/// The most that is made for a host in memory; larger files are copied from a file.
const IN_MEMORY: u64 = 64 << 20;

/// Something that a host has.
#[derive(Clone, Debug)]
pub(super) struct Thing {
    pub(super) output: Output,
    pub(super) is: Identity,
    /// What the host itself prints for what it is, so that a script can compare.
    raw: String,
    /// How many names it has.
    names: u64,
}

/// What is at a path, in its folder, and under the hidden name beside it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) now: Option<Thing>,
    pub(super) folder: Option<Thing>,
    beside: Option<Thing>,
    /// What is mounted on the file system of its folder.
    pub(super) mounts: Option<Mounts>,
}

/// The folder in which a path stands.
fn folder_of(path: &str) -> String {
    let path = plain(path);
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", _)) => "/".to_owned(),
        Some((folder, _)) => folder.to_owned(),
        None => path,
    }
}

async fn script(
    cx: &Context,
    script: &str,
    args: &[&str],
    stdin: Stdin,
) -> Result<engine::host::Output, StepError> {
    cx.exec(scripts::exec(script, args).stdin(stdin)).await
}

/// What a failed script said, as a class: by its status, else by the words of the C locale.
fn failed(cx: &Context, path: &str, what: &str, done: &engine::host::Output) -> StepError {
    let said = done.stderr_text();
    let host = cx.host.name();
    let class = match (done.code, said.to_lowercase()) {
        (Some(scripts::EXISTS), _) => return exists(path),
        (Some(scripts::OTHER_FOLDER), _) => {
            let message = format!("the folder of `{path}` on `{host}` is another than a moment ago");
            return StepError::new(ErrorClass::Busy, message);
        }
        (Some(scripts::SWAPPED), _) => {
            let message = format!("`{path}` on `{host}` was taken away or replaced while it was made");
            return StepError::new(ErrorClass::Denied, message)
                .hint(format!("see who may write there: ls -ld -- {}", shell_word(&folder_of(path))));
        }
        (Some(scripts::OTHER), _) => {
            let message = format!("`{path}` on `{host}` is another file than a moment ago");
            return StepError::new(ErrorClass::Busy, message);
        }
        (Some(scripts::NO_FILE), _) => {
            let message = format!("what is to be copied on `{host}` is no file");
            return StepError::new(ErrorClass::Invalid, message);
        }
        (Some(scripts::DENIED), _) => ErrorClass::Denied,
        (Some(NO_TOOL), tool) => {
            let message = format!("`{host}` has no `{}`", tool.trim());
            return StepError::new(ErrorClass::Unsupported, message)
                .hint(format!("install it on `{host}` (coreutils or busybox have it)"));
        }
        (Some(44), _) => ErrorClass::NotFound,
        (_, text)
            if ["permission denied", "not permitted", "read-only"].iter().any(|it| text.contains(it)) =>
        {
            ErrorClass::Denied
        }
        (_, text)
            if ["invalid user", "invalid group", "unknown user", "unknown group"]
                .iter()
                .any(|it| text.contains(it)) =>
        {
            ErrorClass::NotFound
        }
        (_, text) if text.contains("no space") || text.contains("quota") => ErrorClass::NoSpace,
        (_, text) if text.contains("no such file") => ErrorClass::NotFound,
        _ => ErrorClass::Exit,
    };
    let last = said.trim().lines().last().map(str::to_owned).unwrap_or_else(|| match class {
        ErrorClass::Denied => "permission denied".to_owned(),
        ErrorClass::NotFound => "there is no such file".to_owned(),
        _ => format!("status {}", done.code.unwrap_or_default()),
    });
    let made = StepError::new(class, format!("cannot {what} on `{host}`: {last}"));
    match class {
        ErrorClass::Denied => made.hint(format!("namei -l {}", shell_word(path))),
        _ => made,
    }
}

/// A look that was denied.
fn denied(cx: &Context, path: &str) -> StepError {
    let message = format!("cannot look at `{path}` on `{}`: permission denied", cx.host.name());
    StepError::new(ErrorClass::Denied, message).hint(format!("namei -l {}", shell_word(path)))
}

/// Reads what the scripts' `$F` prints.
fn thing(path: &str, text: &str, boot: &str) -> Option<Thing> {
    let fields: Vec<&str> = text.split('|').collect();
    let [mode, size, bits, mtime, names, uid, gid, raw, owner, group] = fields.as_slice() else {
        return None;
    };
    let kind = match u32::from_str_radix(mode, 16).ok()? & 0o170_000 {
        0o100_000 => "file",
        0o040_000 => "folder",
        0o120_000 => "link",
        _ => "other",
    };
    let is = identity(raw, boot)?;
    let output = Output {
        path: path.to_owned(),
        exists: true,
        kind: kind.to_owned(),
        size: size.parse().ok()?,
        mode: format!("{bits:0>4}"),
        mtime: mtime.parse().ok()?,
        inode: is.inode(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        // What has no name is its number, as here.
        owner: if *owner == "UNKNOWN" { uid } else { owner }.to_string(),
        group: if *group == "UNKNOWN" { gid } else { group }.to_string(),
        sha256: None,
    };
    Some(Thing { output, is, raw: (*raw).to_owned(), names: names.parse().ok()? })
}

/// Reads device, inode and time of birth.
pub(crate) fn identity(raw: &str, boot: &str) -> Option<Identity> {
    let mut words = raw.split(' ');
    let (device, inode) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Identity::told(device, inode, born(words.next().unwrap_or_default()), boot.to_owned()))
}

/// The time of birth, as `stat` of coreutils prints it, in nanoseconds; others print no number.
fn born(text: &str) -> Option<i128> {
    let (seconds, nanos) = text.split_once('.')?;
    let born = seconds.parse::<i128>().ok()? * 1_000_000_000 + nanos.parse::<i128>().ok()?;
    (nanos.len() == 9 && born > 0).then_some(born)
}

/// Looks at a path, its folder and, if it is given, the hidden name beside it; for an intent also at what is mounted.
pub(super) async fn see(
    cx: &Context,
    path: &str,
    beside: Option<&str>,
    mounts: bool,
) -> Result<Seen, StepError> {
    let (target, folder) = (plain(path), folder_of(path));
    let mounted = if mounts { "mounted" } else { "" };
    let beside = beside.map(plain).unwrap_or_default();
    let exec = scripts::exec(scripts::SEE, &[&target, &folder, &beside, mounted]).repeatable();
    let done = cx.exec(exec).await?;
    if !done.success() {
        return Err(failed(cx, path, &format!("look at `{path}`"), &done));
    }
    let text = done.stdout_text();
    let (mut seen, mut boot, mut answers, mut mounts) = (Seen::default(), "", 0, Vec::new());
    for line in text.lines() {
        let Some((what, rest)) = line.strip_prefix('@').and_then(|line| line.split_once('|')) else {
            continue;
        };
        let slot = match what {
            "boot" => {
                boot = rest;
                continue;
            }
            "mounted" => {
                mounts.push(rest);
                continue;
            }
            "now" => &mut seen.now,
            "folder" => &mut seen.folder,
            "beside" => &mut seen.beside,
            _ => continue,
        };
        answers += 1;
        *slot = match rest.split_once('|').unwrap_or((rest, "")) {
            ("nothing", _) => None,
            ("denied", _) => return Err(denied(cx, path)),
            (_, facts) => Some(thing(path, facts, boot).ok_or_else(|| unexpected(&text))?),
        };
    }
    if let Some(folder) = seen.folder.as_ref().filter(|_| !mounts.is_empty()) {
        seen.mounts = Some(Mounts::parse(mounts.join("\n").as_bytes(), folder.is.device()));
    }
    match answers == if beside.is_empty() { 2 } else { 3 } {
        true => Ok(seen),
        false => Err(unexpected(&text)),
    }
}

fn unexpected(text: &str) -> StepError {
    StepError::internal(format!("unexpected answer of a script: `{}`", text.trim().escape_debug()))
}

pub(super) async fn stat(cx: &Context, path: &str) -> Result<Output, StepError> {
    let none = Output { path: path.to_owned(), ..Output::default() };
    Ok(see(cx, path, None, false).await?.now.map_or(none, |thing| thing.output))
}

pub(super) async fn hash(cx: &Context, path: &str) -> Result<String, StepError> {
    let exec = scripts::exec(scripts::SHA256, &[&plain(path)]).repeatable();
    let done = cx.exec(exec).await?;
    let text = done.stdout_text();
    match text.lines().find_map(|line| line.strip_prefix('@')) {
        Some(hash) if done.success() && hash.len() == 64 => Ok(hash.to_owned()),
        _ => Err(failed(cx, path, &format!("read `{path}`"), &done)),
    }
}

async fn is_empty(cx: &Context, path: &str) -> Result<bool, StepError> {
    let done = script(cx, scripts::IS_EMPTY, &[&plain(path)], Stdin::Null).await?;
    match done.code {
        Some(0) => Ok(true),
        Some(scripts::NOT_EMPTY) => Ok(false),
        _ => Err(failed(cx, path, &format!("read the folder `{path}`"), &done)),
    }
}

pub(super) async fn run(
    cx: &Context,
    params: &Params,
    action: &Action<'_>,
    mode: Option<u32>,
    intent: &Intent,
) -> Result<Output, StepError> {
    match *action {
        Action::Stat(path) => stat(cx, path).await,
        Action::Remove(path) => {
            remove(cx, path, intent).await?;
            stat(cx, path).await
        }
        Action::Directory(_) => make(cx, params, action, mode, intent, "", "", Stdin::Null).await,
        Action::Copy(from, path) => {
            let made = make(cx, params, action, mode, intent, "copy", from, Stdin::Null).await?;
            Ok(Output { sha256: hash(cx, path).await.ok(), ..made })
        }
        Action::Create(path) => {
            let mut source = Source::of(params, intent);
            let zero = matches!(source, Source::Zero { .. });
            if source.total() > IN_MEMORY && !zero {
                let message =
                    format!("`{path}`: at most 64 MiB can be created on a host, except of zero bytes");
                return Err(StepError::new(ErrorClass::Invalid, message)
                    .hint("create it here and use `ssh` with `upload`"));
            }
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
            let mut made = make(cx, params, action, mode, intent, from, "", stdin).await?;
            if !params.sparse {
                let source = Source::of(params, intent);
                made.sha256 = Some(super::local::blocking(move || Ok(source.sha256())).await?);
            }
            Ok(made)
        }
    }
}

/// Makes it under a hidden name, writes down what it is, and gives it its name only if that is still free.
#[expect(clippy::too_many_arguments, reason = "what differs between files, copies and folders")]
async fn make(
    cx: &Context,
    params: &Params,
    action: &Action<'_>,
    mode: Option<u32>,
    intent: &Intent,
    kind: &str,
    from: &str,
    stdin: Stdin,
) -> Result<Output, StepError> {
    let path = action.target();
    let what = format!("create `{path}`");
    let mode = mode.map(|mode| format!("{mode:o}")).unwrap_or_default();
    let (beside, folder, from) = (plain(&intent.beside), folder_of(path), plain(from));
    let total = Source::of(params, intent).total().to_string();
    let before = see(cx, path, Some(&intent.beside), false).await?;
    let raw = match (&before.folder, &intent.folder) {
        (Some(now), Some(folder)) if now.is.is(folder) => now.raw.clone(),
        _ => {
            let message =
                format!("the folder of `{path}` on `{}` is another than a moment ago", cx.host.name());
            return Err(StepError::new(ErrorClass::Busy, message).without_effect());
        }
    };
    let is_folder = matches!(action, Action::Directory(_));
    if let Some(half) = before.beside.filter(|_| cx.is_final()) {
        // From a try of the same step that was killed.
        drop_half(cx, &beside, &half.raw, is_folder).await?;
    }
    let text = if is_folder { scripts::FOLDER } else { scripts::PREPARE };
    let args = [&*beside, &folder, &raw, &mode, &owner(params), &total, kind, &from];
    let done = script(cx, text, &args, stdin).await?;
    if !done.success() {
        return Err(failed(cx, path, &what, &done));
    }
    let text = done.stdout_text();
    let facts =
        text.lines().find_map(|line| line.strip_prefix("@now|is|")).ok_or_else(|| unexpected(&text))?;
    let boot = intent.folder.as_ref().map(|folder| folder.boot().to_owned()).unwrap_or_default();
    let made = thing(path, facts, &boot).ok_or_else(|| unexpected(&text))?;
    let result = async {
        cx.amend(&Intent { made: Some(made.is.clone()), ..intent.clone() }).await?;
        let kind = if is_folder { "folder" } else { "file" };
        let done =
            script(cx, scripts::PUBLISH, &[&beside, &plain(path), &made.raw, kind], Stdin::Null).await?;
        if done.success() { Ok(()) } else { Err(failed(cx, path, &what, &done)) }
    };
    match result.await {
        Ok(()) => Ok(made.output),
        Err(error) if error.outcome_unknown => Err(error),
        Err(error) => Err(match drop_half(cx, &beside, &made.raw, is_folder).await {
            Ok(()) => error.without_effect(),
            Err(_) => error,
        }),
    }
}

/// Removes what was put aside or never got its name.
pub(super) async fn release(
    cx: &Context,
    beside: &str,
    made: Option<&Identity>,
    is_folder: bool,
) -> Result<(), StepError> {
    match see(cx, beside, None, false).await?.now {
        Some(hidden) if made.is_none_or(|made| made.is(&hidden.is)) => {
            drop_half(cx, &plain(beside), &hidden.raw, is_folder).await
        }
        _ => Ok(()),
    }
}

/// Takes a half away that never got its name.
async fn drop_half(cx: &Context, beside: &str, raw: &str, is_folder: bool) -> Result<(), StepError> {
    let done = match is_folder {
        true => script(cx, scripts::REMOVE_FOLDER, &[beside, raw, ""], Stdin::Null).await?,
        false => script(cx, scripts::DROP, &[beside, raw, &folder_of(beside)], Stdin::Null).await?,
    };
    if done.success() { Ok(()) } else { Err(failed(cx, beside, &format!("remove `{beside}`"), &done)) }
}

/// Puts a file aside, or removes it for good.
async fn remove(cx: &Context, path: &str, intent: &Intent) -> Result<(), StepError> {
    let (target, beside, folder) = (plain(path), plain(&intent.beside), folder_of(path));
    let done = match (cx.is_final(), &intent.made) {
        (true, _) => script(cx, scripts::DROP, &[&target, "", &folder], Stdin::Null).await?,
        // Nothing was there when the step began: what is there now is another's.
        (false, None) => return Ok(()),
        (false, Some(found)) => {
            let raw = match see(cx, path, None, false).await?.now {
                None => return Ok(()),
                Some(now) if now.is.is(found) => now.raw,
                Some(_) => {
                    let message = format!("`{path}` is another file than a moment ago");
                    return Err(StepError::new(ErrorClass::Busy, message).without_effect());
                }
            };
            script(cx, scripts::ASIDE, &[&target, &beside, &raw, &folder], Stdin::Null).await?
        }
    };
    if done.success() { Ok(()) } else { Err(failed(cx, path, &format!("remove `{path}`"), &done)) }
}

/// `USER:GROUP` as `chown` takes it; empty if neither is given.
fn owner(params: &Params) -> String {
    let word = |word: &Option<crate::word::Word>| word.as_ref().map_or(String::new(), |word| word.0.clone());
    match (word(&params.owner), word(&params.group)) {
        (user, group) if group.is_empty() => user,
        (user, group) => format!("{user}:{group}"),
    }
}

/// Whether what is at a path is what this step writes.
async fn is_untouched(
    cx: &Context,
    path: &str,
    params: &Params,
    action: &Action<'_>,
    intent: &Intent,
    output: Option<&Output>,
) -> Result<bool, StepError> {
    if params.sparse {
        let size = params.size.unwrap_or_default().0.to_string();
        let done = script(cx, scripts::UNTOUCHED, &[&plain(path), &size], Stdin::Null).await?;
        return match done.code {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(failed(cx, path, &format!("read `{path}`"), &done)),
        };
    }
    let wanted = match output.and_then(|made| made.sha256.clone()) {
        Some(sha256) => Some(sha256),
        None => wanted(params, action, intent).await?,
    };
    let found = hash(cx, path).await?;
    Ok(wanted.is_some_and(|wanted| wanted == found))
}

/// As [`super::local::is_made`].
pub(super) async fn is_made(
    cx: &Context,
    params: &Params,
    action: &Action<'_>,
    intent: &Intent,
    now: &Output,
) -> Result<bool, StepError> {
    match (action, now.kind.as_str()) {
        (Action::Directory(path), "folder") => is_empty(cx, path).await,
        (Action::Create(_) | Action::Copy(..), "file") => {
            is_untouched(cx, action.target(), params, action, intent, None).await
        }
        _ => Ok(false),
    }
}
