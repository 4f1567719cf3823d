//! `file`: looks at files, makes, copies and removes them, here or on a host, and takes each of these back.

mod advice;
mod content;
mod local;
mod mark;
mod mounts;
mod owner;
mod params;
mod remote;
mod sparse;

use advice::Advice;
pub(crate) use local::{handle, rename_new, trace};
use mark::Mark;
pub(crate) use mounts::Mounts;
pub(crate) use params::Action;
pub use params::{Content, Output, Params};
pub(crate) use remote::{identity, search};

use crate::{identity::Identity, watch::Files};
use engine::{
    Step, StepError,
    error::ErrorClass,
    host::shell_word,
    quantity::Bytes,
    step::{
        ByHand, Changes, Context, Description, Docs, Leftover, ParamsView, Presence, Probe, Prospect,
        Settled, Undone,
    },
};
use serde::{Deserialize, Serialize};

/// The step type.
pub struct File;

/// What must be known to take it back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Intent {
    /// Where a file is written before it gets its name, or put aside when it is removed.
    beside: String,
    /// What random content is drawn from.
    seed: String,
    /// For `remove`: what was there.
    found: Option<Output>,
    /// For `copy`: the SHA-256 of what is copied, so that a copy whose making was cut short is known for ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// The folder in which it acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folder: Option<Identity>,
    /// What was mounted on its file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mounts: Option<Mounts>,
    /// What was made, known before it got its name; for `remove`, what was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made: Option<Identity>,
    /// What the kernel of this machine finds that by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handle: Option<String>,
    /// For a step that nobody takes back: it was run before, was killed, and all is there already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    done: bool,
    /// An undo is about to take it away: if it is gone afterwards, that was the undo.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removing: bool,
}

/// What is at a path, and in which folder.
struct Seen {
    now: Output,
    is: Option<Identity>,
    folder: Option<Identity>,
    mounts: Option<Mounts>,
}

impl Step for File {
    const KIND: &'static str = "file";
    type Params = Params;
    type Output = Output;
    type Intent = Intent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "looks at files; makes, copies and removes them, and takes that back",
            details: "`create`, `copy` and `directory` never overwrite: something at the path is an error. A file is \
                      written beside its place under a name of its own and then renamed, so that others see it whole \
                      or not at all.\n\nUndo removes a file only if it still is the one that was made, by inode and \
                      content; a changed one is left and named. A folder is removed if it is empty; with `owned: true` \
                      all that anybody put into it is part of the run and goes with it. A file that `remove` took away \
                      comes back as it was, with mode, owner, times and all, except in `cleanup` and in an `undo`, where it \
                      is gone.\n\n`sparse: \
                      true` makes a file of any size that takes no space and reads as zero bytes; it has no `sha256`, \
                      and its undo does not read its holes.",
            example: "media:\n  file: { create: /data/media/test.bin, size: 10MB, content: random }\n",
            errors: &[
                ("exists", "something is at the path already; choose another name or remove it"),
                ("not-found", "the folder, or the file to copy, does not exist"),
                ("denied", "this user may not write there; `namei -l PATH` shows why"),
                ("denied", "only root gives files to another `owner`"),
                ("no-space", "the disk is full; what was written is removed again"),
            ],
            on_host: true,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        if view.has("stat") {
            return Description::reads(format!("look at {}", view.show("stat")));
        }
        if view.has("create") {
            let size = match view.get("size").cloned().map(serde_json::from_value::<Bytes>) {
                Some(Ok(size)) => format!(", {size}"),
                Some(Err(_)) => format!(", {}", view.show("size")),
                None => String::new(),
            };
            return Description::changes(
                format!("create {}{size}", view.show("create")),
                "remove it, if unchanged",
            );
        }
        if view.has("copy") {
            let title = format!("copy {} to {}", view.show("copy"), view.show("to"));
            return Description::changes(title, "remove the copy, if unchanged");
        }
        if view.has("directory") {
            let undo = if view.is_true("owned") { "remove it with all in it" } else { "remove it, if empty" };
            return Description::changes(format!("make the folder {}", view.show("directory")), undo);
        }
        Description::changes(format!("remove {}", view.show("remove")), "put it back")
    }

    fn touches(&self, view: &ParamsView<'_>) -> Vec<String> {
        let path = ["create", "to", "remove", "directory"].into_iter().find(|key| view.has(key));
        path.map(|key| format!("the file `{}`", view.show(key))).into_iter().collect()
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        params::check(view)
    }

    async fn probe(&self, cx: &Context, params: &Params) -> Result<Probe, StepError> {
        let action = params.action()?;
        let now = self.see(cx, action.target()).await?.now;
        Ok(match (&action, now.exists) {
            (Action::Remove(_), false) => Probe::would_pass("not there"),
            (Action::Remove(_), true) => Probe::would_pass(format!("there, {}", Bytes(now.size))),
            (Action::Create(path) | Action::Copy(_, path) | Action::Directory(path), true) => {
                Probe { now: format!("a {} is there", now.kind), prospect: Prospect::WouldFail(exists(path)) }
            }
            _ => Probe::would_pass("free"),
        })
    }

    async fn intend(&self, cx: &Context, params: &Params) -> Result<Intent, StepError> {
        let action = params.action()?;
        if let Action::Stat(_) = action {
            return Ok(Intent::default());
        }
        params.mode()?;
        if cx.host.is_local() {
            owner::Owner::of(params)?;
        }
        let target = action.target();
        let Seen { now, is, folder, mounts } = self.see(cx, target).await?;
        let unique = content::unique(cx);
        let beside = beside(target, &unique);
        let intent = Intent { beside, seed: unique, folder, mounts, ..Intent::default() };
        match action {
            Action::Remove(path) if now.exists && now.kind != "file" => Err(StepError::new(
                ErrorClass::Invalid,
                format!("`{path}` is a {}, expected a file", now.kind),
            )),
            Action::Remove(path) if !now.exists && params.must_exist => {
                Err(StepError::new(ErrorClass::NotFound, format!("there is no file `{path}`")))
            }
            Action::Remove(path) => {
                let handle = cx.host.is_local().then(|| local::handle(path)).flatten();
                Ok(Intent { found: now.exists.then_some(now), made: is, handle, ..intent })
            }
            _ => {
                let sha256 = match action {
                    Action::Copy(from, _) => Some(self.hash(cx, from).await?),
                    _ => None,
                };
                let intent = Intent { sha256, ..intent };
                if now.exists {
                    let done = cx.is_final() && self.is_made(cx, params, &action, &intent, &now).await?;
                    return if done { Ok(Intent { done, ..intent }) } else { Err(exists(target)) };
                }
                if intent.folder.is_none() {
                    return Err(no_folder(target));
                }
                Ok(intent)
            }
        }
    }

    async fn run(&self, cx: &Context, params: &Params, intent: &Intent) -> Result<Output, StepError> {
        let action = params.action()?;
        let mode = params.mode()?;
        if intent.done {
            return Ok(self.see(cx, action.target()).await?.now);
        }
        match cx.host.is_local() {
            true => local::run(cx, params, &action, mode, intent).await,
            false => remote::run(cx, params, &action, mode, intent).await,
        }
    }

    async fn changes(&self, cx: &Context, params: &Params) -> Option<Box<dyn Changes>> {
        let path = params.stat.as_ref().filter(|_| cx.host.is_local())?;
        Files::watch(cx, [std::path::absolute(path).ok()?])
    }

    fn summary(&self, output: &Output) -> String {
        match (output.exists, output.kind.as_str()) {
            (false, _) => "not there".into(),
            (true, "file") => Bytes(output.size).to_string(),
            (true, kind) => kind.to_owned(),
        }
    }

    async fn settle(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
    ) -> Result<Settled<Output>, StepError> {
        let action = params.action()?;
        let Seen { mut now, is, folder, .. } = self.see(cx, action.target()).await?;
        let same = is.as_ref().zip(intent.made.as_ref()).is_some_and(|(now, made)| now.is(made));
        let other = folder.zip(intent.folder.as_ref()).is_some_and(|(now, folder)| !now.is(folder));
        let happened = match &action {
            Action::Stat(_) => false,
            _ if other => {
                let message =
                    format!("another folder is in the place of the folder of `{}`", action.target());
                return Ok(Settled::Unclear(message));
            }
            Action::Remove(_) if cx.is_final() => !same,
            Action::Remove(_) => intent.found.is_none() || self.see(cx, &intent.beside).await?.now.exists,
            // The intent knows what was made before it gets its name.
            _ => same || intent.done,
        };
        if happened && !params.sparse && matches!(action, Action::Create(_) | Action::Copy(..)) {
            now.sha256 = content::wanted(params, &action, intent).await?;
        }
        Ok(if happened { Settled::Happened(now) } else { Settled::NotHappened })
    }

    async fn undo(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Undone, StepError> {
        let action = params.action()?;
        match cx.host.is_local() {
            true => local::undo(cx, params, &action, intent, output).await,
            false => remote::undo(cx, params, &action, intent, output).await,
        }
    }

    fn by_hand(&self, params: &Params, intent: &Intent) -> Option<ByHand> {
        let command = match params.action().ok()? {
            Action::Stat(_) => return None,
            Action::Create(path) | Action::Copy(_, path) => remove_ours(path, intent),
            Action::Directory(path) if params.owned => {
                advice::remove_all(&shell_word(&crate::sh::plain(path)))
            }
            Action::Directory(path) => format!("rmdir -- {}", shell_word(path)),
            Action::Remove(path) => format!("mv -n -- {} {}", shell_word(&intent.beside), shell_word(path)),
        };
        Some(ByHand { host: None, command })
    }

    async fn release(&self, cx: &Context, params: &Params, intent: &Intent) -> Result<(), StepError> {
        let action = params.action()?;
        let is_folder = matches!(action, Action::Directory(_));
        match (&intent.made, cx.host.is_local()) {
            // Nothing was there that could have been put aside.
            (None, _) if !matches!(action, Action::Create(_) | Action::Copy(..) | Action::Directory(_)) => {
                Ok(())
            }
            // Of one that was killed before it noted what it made, the hidden name alone tells.
            (made, true) => local::release(&intent.beside, made.as_ref(), is_folder),
            (made, false) => remote::release(cx, &intent.beside, made.as_ref(), is_folder).await,
        }
    }

    async fn presence(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Presence, StepError> {
        let action = params.action()?;
        match cx.host.is_local() {
            true => local::presence(&action, params, intent, output),
            false => remote::presence(cx, &action, intent, output).await,
        }
    }
}

impl File {
    async fn see(&self, cx: &Context, path: &str) -> Result<Seen, StepError> {
        if !cx.host.is_local() {
            let seen = remote::see(cx, path, None, true).await?;
            let (is, folder) = (seen.now.as_ref().map(|it| it.is.clone()), seen.folder.map(|it| it.is));
            let none = || Output { path: path.to_owned(), ..Output::default() };
            let mounts = seen.mounts;
            return Ok(Seen { now: seen.now.map_or_else(none, |it| it.output), is, folder, mounts });
        }
        let (folder, is) = local::identify(path)?;
        let mounts = folder.as_ref().and_then(|folder| Mounts::here(folder.device()));
        Ok(Seen { now: local::stat(path)?, is, folder, mounts })
    }

    async fn hash(&self, cx: &Context, path: &str) -> Result<String, StepError> {
        match cx.host.is_local() {
            true => local::hash(path, &cx.cancel).await,
            false => remote::hash(cx, path).await,
        }
    }

    /// Whether what a step that nobody takes back is to make is there already.
    async fn is_made(
        &self,
        cx: &Context,
        params: &Params,
        action: &Action<'_>,
        intent: &Intent,
        now: &Output,
    ) -> Result<bool, StepError> {
        match cx.host.is_local() {
            true => local::is_made(params, action, intent).await,
            false => remote::is_made(cx, params, action, intent, now).await,
        }
    }
}

fn no_folder(path: &str) -> StepError {
    let path = path.trim_end_matches('/');
    let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
    StepError::new(
        ErrorClass::NotFound,
        format!("the folder `{folder}` does not exist, expected one for `{path}`"),
    )
    .hint(format!("its folder does not exist: mkdir -p {}", shell_word(folder)))
}
fn exists(path: &str) -> StepError {
    StepError::new(ErrorClass::Exists, format!("`{path}` exists already"))
        .hint(format!("choose another name, or look at it: ls -ld {}", shell_word(path)))
}

/// A hidden name of our own in the same folder.
fn beside(path: &str, unique: &str) -> String {
    let path = path.trim_end_matches('/');
    let hidden = format!(".shakedown-{}", &unique[..unique.len().min(24)]);
    match path.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{hidden}"),
        None => hidden,
    }
}

/// Removes a file, under its own or its hidden name, only if it is the one that was made.
fn remove_ours(path: &str, intent: &Intent) -> String {
    let (path, beside) = (shell_word(path), shell_word(&intent.beside));
    match &intent.made {
        None => format!("rm -f -- {beside}"),
        Some(made) => format!(
            r#"for f in {path} {beside}; do ls -di -- "$f" 2>/dev/null | {{ read -r i x; [ "$i" != {} ]; }} || rm -f -- "$f"; done"#,
            made.inode()
        ),
    }
}

/// What is still there; of a file that was put aside it may be the only copy.
fn leftover(found: &Output, action: &Action<'_>, why: &str) -> Leftover {
    let path = shell_word(&found.path);
    Leftover {
        what: format!("{} `{}`", found.kind, found.path),
        why: why.to_owned(),
        remove_with: match action {
            Action::Remove(target) => format!("mv -n -- {path} {}", shell_word(target)),
            _ if found.kind == "folder" => format!("rmdir -- {path}"),
            _ => format!("rm -- {path}"),
        },
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_truth;
