//! Puts a file in place on any host, beside it first and then by a rename, so that it can be taken back exactly: the file is
//! known by its identity, and what was there before comes back only if it is as it was.

mod elsewhere;
mod scripts;

use crate::{
    file::{self, Mounts},
    identity::Identity,
    sh::NO_TOOL,
};
use engine::{
    ErrorClass, StepError,
    host::{BoxFuture, Cancel, Exec, Host, Output, shell_word},
    step::{Presence, Services, Undone},
};
use scripts::{CHANGED, CORRUPT, NO_FOLDER, OTHER_FOLDER, SWAPPED, Script, UNSEEN};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

/// What is known, and durable, before a file is put in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placing {
    /// The file to be made.
    pub(crate) to: String,
    /// What it is made from, lower-case hex.
    pub(crate) sha256: String,
    /// Where the bytes go first.
    pub(crate) beside: String,
    /// Where a file that is there already is kept; nowhere for what nobody takes back.
    #[serde(default)]
    backup: Option<String>,
    /// How the names of all that this run keeps of the target begin.
    #[serde(default)]
    ours: String,
    /// The folder, as device, inode and time of birth.
    #[serde(default)]
    folder: String,
    /// What is replaced.
    #[serde(default)]
    before: Option<Earlier>,
    /// What comes back under that, the next first, if this run put it there: identities, or `gone`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    below: Vec<String>,
    /// The new file, as device, inode and time of birth, once it is about to get its name.
    #[serde(default)]
    made: Option<String>,
    /// What the kernel of this machine finds that by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handle: Option<String>,
    /// What was mounted on its file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mounts: Option<Mounts>,
    /// An undo is about to take it away: if it is gone afterwards, that was the undo.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removing: bool,
}

/// A file that is replaced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Earlier {
    sha256: String,
    /// Device, inode and time of birth.
    id: String,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    File { sha256: String, size: u64, mode: String },
    Other,
}

/// How the names beside a target are made.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// The run.
    pub(crate) run: String,
    /// The step, in a few letters.
    pub(crate) step: String,
    pub(crate) attempt: u32,
    /// Whether a file that is there already is kept.
    pub(crate) keeps: bool,
}

/// Where a file is: on a host, as a step works there.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) host: &'a dyn Host,
    pub(crate) services: &'a Services,
    pub(crate) cancel: &'a Cancel,
}

/// Locks by target: two steps of a run that put files in one place do it one after the other.
static TARGETS: LazyLock<Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>> =
    LazyLock::new(Mutex::default);
/// How often, and how long between, a file that lies under another is looked at before its undo is tried again.
const UNCOVERED_TRIES: u32 = 20;
const UNCOVERED_PAUSE: Duration = Duration::from_millis(250);
/// What this process has put in place, and what comes back under that: another of its steps may replace it though it did not
/// expect it.
type Placed = BTreeMap<(String, Earlier), Vec<String>>;
static PLACED: LazyLock<Mutex<Placed>> = LazyLock::new(Mutex::default);

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

/// The folder of a path, and the name in it as a path that is no option.
fn split(path: &str) -> (String, String) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/".into(), format!("./{name}")),
        Some((folder, name)) => (folder.to_owned(), format!("./{name}")),
        None => (".".into(), format!("./{path}")),
    }
}

impl At<'_> {
    fn name(&self) -> &str {
        self.host.name()
    }

    /// A command as it is typed on this machine.
    pub(crate) fn typed(&self, command: &str) -> String {
        self.services.typed_on((!self.host.is_local()).then_some(self.name()), command)
    }

    async fn run(&self, exec: Exec) -> Result<Output, StepError> {
        self.host.exec(exec.repeatable(), self.cancel).await
    }

    /// An error of a script, told by its status and by the reason that the system gave.
    fn trouble(&self, ended: Output, what: &str, path: &str) -> StepError {
        let stderr = ended.stderr_text();
        let says = |reasons: &[&str]| {
            stderr.lines().any(|line| reasons.iter().any(|reason| line.trim_end().ends_with(reason)))
        };
        let list = || Some(self.typed(&format!("ls -ld -- {}", shell_word(path))));
        let code = ended.code;
        let (class, hint) = if code == Some(NO_TOOL) {
            let tool = stderr.lines().last().unwrap_or_default();
            (
                ErrorClass::Unsupported,
                Some(format!("install {tool} (coreutils or busybox) on `{}`", self.name())),
            )
        } else if code == Some(NO_FOLDER) {
            let folder = split(path).0;
            (ErrorClass::NotFound, Some(self.typed(&format!("mkdir -p -- {}", shell_word(&folder)))))
        } else if matches!(code, Some(CHANGED | SWAPPED | OTHER_FOLDER)) {
            (ErrorClass::Busy, list())
        } else if says(&[": No space left on device", "isk quota exceeded", "Quota exceeded"]) {
            (ErrorClass::NoSpace, Some(self.typed(&format!("df -h -- {}", shell_word(&split(path).0)))))
        } else if code == Some(UNSEEN)
            || says(&["Permission denied", "Read-only file system", "Operation not permitted"])
        {
            (ErrorClass::Denied, list())
        } else if says(&["No such file or directory", "onexistent", "nonexistent directory"]) {
            (ErrorClass::NotFound, list())
        } else if says(&["File exists", "existing file", "Is a directory"]) {
            (ErrorClass::Exists, list())
        } else {
            (ErrorClass::Exit, None)
        };
        let mut error = ended.require_success(what).err().unwrap_or_else(|| StepError::internal(what));
        error.class = class;
        error.hint = hint;
        let why = match code {
            Some(NO_FOLDER) => ": its folder does not exist",
            Some(OTHER_FOLDER) => ": its folder is another one than before",
            Some(CHANGED) => ": it changed while the new file was on its way",
            Some(SWAPPED) => ": what is beside it is not what this run put there",
            _ => "",
        };
        error.message = format!("cannot {what}{why}");
        error
    }

    /// What is at `path`.
    pub(crate) async fn look(&self, path: &str) -> Result<Found, StepError> {
        let ended = self.run(Script::Look.with(&[path])).await?;
        let what = format!("read `{path}` on `{}`", self.name());
        if !ended.success() {
            return Err(self.trouble(ended, &what, path));
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
    pub(crate) async fn beginning(&self, path: &str, length: u64) -> Result<String, StepError> {
        let ended = self.run(Script::Beginning.with(&[path, &length.to_string()])).await?;
        match ended.success() {
            true => Ok(ended.stdout_text().trim().to_owned()),
            false => Err(self.trouble(ended, &format!("read `{path}` on `{}`", self.name()), path)),
        }
    }

    /// Turns the end of a script that is about this path into an error if it failed.
    pub(crate) fn succeeded(&self, ended: Output, what: &str, path: &str) -> Result<Output, StepError> {
        if ended.success() { Ok(ended) } else { Err(self.trouble(ended, what, path)) }
    }
}

/// The script that gives a file without its first `at` bytes.
pub(crate) fn rest(path: &str, at: u64) -> Exec {
    Script::Rest.with(&[path, &(at + 1).to_string()])
}

/// What a line says that has a name now.
fn now(text: &str) -> Option<Result<Option<Earlier>, ()>> {
    text.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>().as_slice() {
        ["nothing"] => Some(Ok(None)),
        ["other"] => Some(Err(())),
        ["file", sha256, id] => Some(Ok(Some(Earlier { sha256: (*sha256).into(), id: (*id).into() }))),
        _ => None,
    })
}

fn value(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).map(str::to_owned)
}

impl Placing {
    /// Looks at the place and chooses the names beside it. What is on its way has the same name in all attempts of a step, so
    /// that one goes on where the one before stopped; an earlier file has one of this attempt only.
    pub(crate) async fn plan(at: At<'_>, to: &str, sha256: String, names: &Names) -> Result<Self, StepError> {
        let (folder, name) = split(to);
        let what = format!("look for `{to}` on `{}`", at.name());
        let told = at.run(Script::Plan.with(&[&folder, "", &name])).await?;
        let told = at.succeeded(told, &what, to)?.stdout_text();
        let unclear = || StepError::internal(format!("{what}: `{told}`"));
        let Ok(before) = now(&told).ok_or_else(unclear)? else { return Err(occupied(at, to)) };
        let ours = format!("{to}.shakedown-{}-", names.run);
        Ok(Self {
            to: to.to_owned(),
            sha256,
            beside: format!("{ours}{}.new", names.step),
            backup: names.keeps.then(|| format!("{ours}{}-{}.old", names.step, names.attempt)),
            ours,
            folder: value(&told, "folder").ok_or_else(unclear)?,
            before,
            below: Vec::new(),
            made: None,
            handle: None,
            mounts: value(&told, "folder").and_then(|folder| identity(&folder, at)).map(|folder| {
                let lines: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("mounted ")).collect();
                Mounts::parse(lines.join("\n").as_bytes(), folder.device())
            }),
            removing: false,
        })
    }

    /// The script, with the folder and the names in it.
    fn script(&self, script: Script, more: &[&str]) -> Exec {
        let folder = split(&self.to).0;
        let beside = split(&self.beside).1;
        script.with(&[&[folder.as_str(), &self.folder, &beside], more].concat())
    }

    fn target(&self) -> String {
        split(&self.to).1
    }

    fn kept(&self) -> String {
        self.backup.as_deref().map(|path| split(path).1).unwrap_or_default()
    }

    /// The script that takes the bytes after the first `at`, which are there.
    pub(crate) fn receive(&self, at: u64) -> Exec {
        self.script(Script::Receive, &[&at.to_string()])
    }

    /// Turns the end of `receive` into an error if it failed.
    pub(crate) fn received(&self, at: At<'_>, ended: Output) -> Result<(), StepError> {
        at.succeeded(ended, &format!("write `{}` on `{}`", self.beside, at.name()), &self.beside).map(drop)
    }

    /// Checks the bytes and puts the file in place. `amend` makes durable what is known of it before anybody can see it.
    pub(crate) async fn place(
        &mut self,
        at: At<'_>,
        mode: &str,
        amend: impl AsyncFnOnce(&Self) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let machine = machine(at).await?;
        let turn = self.lock_on(&machine);
        let _held = turn.lock().await;
        let (target, kept) = (self.target(), self.kept());
        let what = format!("put `{}` in place on `{}`", self.to, at.name());
        let told = at.run(self.script(Script::Prepare, &[&target, &self.sha256, mode])).await?;
        if told.code == Some(CORRUPT) {
            let message = format!(
                "what arrived for `{}` on `{}` is not what was sent: its sha256 differs",
                self.to,
                at.name()
            );
            return Err(StepError::new(ErrorClass::Corrupt, message)
                .hint("check the network and the disk, then run again"));
        }
        let told = at.succeeded(told, &what, &self.to)?.stdout_text();
        let unclear = || StepError::internal(format!("{what}: `{told}`"));
        let Ok(found) = now(&told).ok_or_else(unclear)? else { return Err(occupied(at, &self.to)) };
        let made = value(&told, "made").ok_or_else(unclear)?;
        let below = found.as_ref().and_then(|it| lock(&PLACED).get(&(machine.clone(), it.clone())).cloned());
        if found != self.before && below.is_none() {
            let message =
                format!("`{}` on `{}` changed while the new file was on its way", self.to, at.name());
            return Err(StepError::new(ErrorClass::Busy, message));
        }
        (self.before, self.made) = (found, Some(made.clone()));
        self.below = below.unwrap_or_default();
        self.handle = at.host.is_local().then(|| file::handle(&self.beside)).flatten();
        amend(self).await?;
        let had = self.before.as_ref().map(|it| it.id.clone()).unwrap_or_default();
        let ended = at.run(self.script(Script::Publish, &[&target, &kept, &made, &had])).await?;
        at.succeeded(ended, &what, &self.to)?;
        if at.host.is_local() {
            self.watch(&made, at);
        }
        let next = self.before.as_ref().map_or_else(|| "gone".to_owned(), |it| it.id.clone());
        let below = [&[next], self.below.as_slice()].concat();
        lock(&PLACED).insert((machine, Earlier { sha256: self.sha256.clone(), id: made }), below);
        Ok(())
    }

    /// What lets only one step at a time work at the target.
    fn lock_on(&self, machine: &str) -> Arc<tokio::sync::Mutex<()>> {
        lock(&TARGETS).entry(format!("{machine} {} {}", self.folder, self.target())).or_default().clone()
    }

    /// Removes what has not been put in place; what cannot be removed now is removed by the undo.
    pub(crate) async fn discard(&self, at: At<'_>) -> Result<(), StepError> {
        let ended = at.run(self.script(Script::Discard, &[])).await?;
        at.succeeded(ended, &format!("remove `{}` on `{}`", self.beside, at.name()), &self.beside).map(drop)
    }

    /// Removes what was put by for its undo: the earlier file, if it is the one, and what was on its way.
    pub(crate) async fn release(&self, at: At<'_>) -> Result<(), StepError> {
        let id = self.before.as_ref().map_or("", |it| &it.id);
        let ended = at.run(self.script(Script::Release, &[&self.kept(), id])).await?;
        match ended.code {
            // With the folder went all that was in it.
            Some(NO_FOLDER) => Ok(()),
            _ => {
                let what = format!("remove what is beside `{}` on `{}`", self.to, at.name());
                at.succeeded(ended, &what, &self.beside).map(drop)
            }
        }
    }

    /// What became of it: a word of the script; nothing if that could not be seen, with the reason.
    async fn fate(&self, at: At<'_>, act: &str) -> Result<Result<String, String>, StepError> {
        if self.ours.is_empty() {
            return Ok(Err("an older version put it there, and did not note what it was".into()));
        }
        let (sha256, id) = self.before.as_ref().map_or(("", ""), |it| (&it.sha256, &it.id));
        let (target, kept, ours) = (self.target(), self.kept(), split(&self.ours).1);
        let made = self.made.as_deref().unwrap_or_default();
        let mut more = vec![target.as_str(), &kept, made, &self.sha256, sha256, id, &ours, act];
        more.extend(self.below.iter().map(String::as_str));
        let ended = at.run(self.script(Script::Fate, &more)).await?;
        let folder = split(&self.to).0;
        match ended.code {
            Some(0) => Ok(Ok(ended.stdout_text().trim().to_owned())),
            Some(NO_FOLDER) => Ok(Err(format!("its folder `{folder}` is not there any more"))),
            Some(OTHER_FOLDER) => Ok(Err(format!("its folder `{folder}` is another one than before"))),
            Some(UNSEEN) => {
                let stderr = ended.stderr_text();
                let why = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
                Ok(Err(format!("it cannot be looked at: {why}")))
            }
            _ => Err(at.trouble(ended, &format!("take back `{}` on `{}`", self.to, at.name()), &self.to)),
        }
    }

    /// This one, with what the undos of other attempts of its step have noted of the same file.
    pub(crate) fn after(&self, mut others: impl Iterator<Item = Self>) -> Self {
        let takes_it = |it: Self| it.removing && it.made.is_some() && it.made == self.made;
        Self { removing: self.removing || others.any(takes_it), ..self.clone() }
    }

    /// Takes the file back: removes it, or restores the earlier one, if it is still what was put there. `amend` notes that it
    /// is about to be removed, or is not: killed in between, the next undo would find nothing, and only a search could tell why.
    pub(crate) async fn take_back<'a>(
        &self,
        at: At<'_>,
        amend: &(dyn Fn(Self) -> BoxFuture<'a, Result<(), StepError>> + Sync),
    ) -> Result<Undone, StepError> {
        let mut marked = false;
        let lock = self.lock_on(&machine(at).await?);
        let mut word = Ok("buried".to_owned());
        // What lies over it is uncovered by the undo of the step that put it there.
        for _ in 0..UNCOVERED_TRIES {
            let held = lock.lock().await;
            let ours = matches!(self.fate(at, "look").await?.as_deref(), Ok("there" | "beside"));
            if ours && self.made.is_some() && !self.removing && !marked {
                // A journal that takes no more is no reason to leave it.
                marked = amend(Self { removing: true, ..self.clone() }).await.is_ok();
            }
            word = self.fate(at, "act").await?;
            drop(held);
            if word.as_deref() != Ok("buried") {
                break;
            }
            tokio::time::sleep(UNCOVERED_PAUSE).await;
        }
        let word = match word {
            Ok(word) => word,
            Err(why) => return Ok(Undone::CannotTell(self.leftover(at, &why, String::new()))),
        };
        let undone = match word.as_str() {
            "removed" => Ok(Undone::Removed),
            "nothing" => Ok(Undone::NothingToDo),
            "linked" => self.elsewhere(at, Undone::Removed).await,
            "gone" | "returned" | "restored" if self.removing => Ok(Undone::Removed),
            "gone" | "returned" => self.elsewhere(at, Undone::NothingToDo).await,
            "restored" => self.elsewhere(at, Undone::Removed).await,
            "other" if self.made.is_some() && !self.removing => {
                self.elsewhere(at, Undone::Left(self.left(at, "other"))).await
            }
            "buried" => {
                let message =
                    format!("another step of this run put a file over `{}`, which is still there", self.to);
                Err(StepError::new(ErrorClass::Busy, message))
            }
            word => Ok(Undone::Left(self.left(at, word))),
        };
        if (marked || self.removing) && !matches!(undone, Ok(Undone::Removed | Undone::NothingToDo)) {
            let _best_effort = amend(Self { removing: false, ..self.clone() }).await;
        }
        undone
    }

    /// Whether the file is in place, for an attempt whose outcome is unknown.
    pub(crate) async fn is_placed(&self, at: At<'_>) -> Result<Result<bool, String>, StepError> {
        // What is beside it does not matter, for it may have been killed before it removed that.
        let word = self.fate(at, "settle").await?;
        Ok(word.and_then(|word| match word.as_str() {
            "changed" => Err("it changed since this run put it there".into()),
            // What another step has put over it was there before.
            word => Ok(matches!(word, "there" | "buried")),
        }))
    }

    /// Whether anything of it is there.
    pub(crate) async fn presence(&self, at: At<'_>) -> Result<Presence, StepError> {
        Ok(match self.fate(at, "look").await? {
            Err(why) => Presence::Unknown(why),
            Ok(word) if word == "nothing" => Presence::Gone,
            Ok(word) if word == "buried" => {
                let why = "another step of this run put a file over it";
                Presence::Present(self.leftover(at, why, String::new()))
            }
            Ok(word) => Presence::Present(self.left(at, &word)),
        })
    }
}

/// What the scripts tell of a file, as device, inode and time of birth.
fn identity(told: &str, at: At<'_>) -> Option<Identity> {
    file::identity(&told.replace(':', " "), if at.host.is_local() { Identity::boot_of_here() } else { "" })
}

/// The machine, for what this process knows of its files.
async fn machine(at: At<'_>) -> Result<String, StepError> {
    Ok(at.host.identity(at.cancel).await?.unwrap_or_else(|| at.name().to_owned()))
}

fn occupied(at: At<'_>, to: &str) -> StepError {
    let message = format!("`{to}` on `{}` is there and no file", at.name());
    StepError::new(ErrorClass::Exists, message).hint(at.typed(&format!("ls -ld -- {}", shell_word(to))))
}

fn place(path: &str, at: At<'_>) -> String {
    let on = if at.host.is_local() { String::new() } else { format!(" on `{}`", at.name()) };
    format!("file `{path}`{on}")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
