//! `json`: reads, checks and changes a JSON document that another program uses too, taking turns with it by an flock.

mod attributes;
mod back;
mod by_hand;
mod change;
mod edit;
mod guest;
mod lineage;
mod lock;
mod params;
mod pointer;
mod store;
mod style;
mod tree;

pub use lock::Effort;
pub use params::{Append, Check, Params, Set};
pub(crate) use tree::exact;

use crate::{hex::hex, identity::Identity, watch::Files};
use by_hand::Hand;
use change::{Action, Change};
use engine::{
    ErrorClass, Step, StepError,
    event::Phase,
    step::{ByHand, Changes, Context, Description, Docs, ParamsView, Presence, Probe, Settled, Undone},
};
use lineage::Known;
use lock::{Lock, Turn};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use store::{Place, Record};
use tree::Document;

/// How long a look before or after the run waits for the lock; the latter then looks without, for writers replace the
/// document whole.
const GLANCE: Duration = Duration::from_secs(3);

/// How long a record may be for the journal and for a command that a person types, in bytes.
const BRIEF: usize = 4 << 10;

/// The step type.
#[derive(Clone, Copy, Debug)]
pub struct Json;

/// What a document step found or did; fields that do not belong to the action are missing or empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// `get`: the value; null if no element is as `where` says. A number that JSON readers of this program cannot hold exactly, such as `1e400`, appears as
    /// its text.
    #[serde(default)]
    pub value: Value,
    /// `get`: `object`, `array`, `string`, `number`, `boolean` or `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `get`: how many members or elements it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// `set`, `append` and `remove`: whether the document was changed; false if all was as wanted already.
    #[serde(default)]
    pub changed: bool,
    /// Whether the document was made, with `create`.
    #[serde(default)]
    pub created: bool,
    /// `set` and `remove`: the value that was there before, if there was one, and it is no longer than 1 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Value>,
    /// `append`, `remove` and `get` with `where`: the place in the array, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// `append` and `remove`: how many equal elements the array held before; `get` with `where`: how many others are
    /// as it says.
    #[serde(default)]
    pub same: u64,
    /// `check`: what was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// How often the lock was taken and how long it was waited for.
    #[serde(default)]
    pub lock: Effort,
}

/// What a check found.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// The size in bytes.
    pub size: u64,
    /// The type of the whole document, if it was read: `object`, `array` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Whether it can be changed by this user; missing if it was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writable: Option<bool>,
    /// The pointer of a key that an object holds twice, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate_key: Option<String>,
}

/// What must be known to find the document and the record of the change again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Intent {
    /// The document, absolute and without links.
    document: String,
    /// The file that is locked, absolute.
    lock: String,
    /// What the names beside the document hold; empty for a step that only reads.
    mark: String,
    /// What tells the document from another under its name.
    #[serde(default)]
    known: Known,
}

impl Step for Json {
    const KIND: &'static str = "json";
    type Params = Params;
    type Output = Output;
    type Intent = Intent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "reads, checks and changes a JSON document that another program uses too",
            details: "Values are named by JSON Pointers (RFC 6901): `/jobs/0/name`, with `~1` for `/` and `~0` for `~` \
                      in a key; an empty text is the whole document. `get` with `where` finds the element of an \
                      array that has these values.\n\nReads take a shared flock and changes an \
                      exclusive one, on the document itself or on the file that `lock` names; that has to be the one \
                      the other program locks. A lock on the document itself is taken anew if the document was \
                      replaced during the wait. Locks are waited for up to `lock_timeout`, and the waits are counted \
                      in `out.lock`.\n\nA change is made in the text: only the value itself is written, in the style \
                      of the document (indentation, spaces, escapes), and numbers of any size stay as they are. The \
                      new document is written beside the old one, with its owner, mode and access list, and takes its place by a \
                      rename. A program that writes into the document in place must therefore lock another file, or \
                      look after its wait whether the name still leads to the file that it has locked.\n\nUndo gives \
                      back the document byte for byte if nobody else changed it since. Otherwise only this step's part \
                      is taken back: `set` puts the earlier value back if the value still is what was set; `append` \
                      removes that element, wherever it is now, known by `id` or by being equal, if the members that \
                      were written still are as they were; `remove` puts the value back to its place, except in \
                      `cleanup`, where it is gone. What was changed by others is left and named: values are compared with the writing of \
                      their numbers, for `1` and `1.0` are not the same, but not with the order of members. So is an element that \
                      was moved within the document, and a document whose folder was renamed, or that was renamed or rotated \
                      away while another took its name. What the undo needs \
                      (a record, and space for a full disk) is kept in hidden files beside the document until \
                      then; a step in `cleanup` and a written `undo` keep nothing. In a written `undo` an element that the array \
                      has already is not appended again.\n\n`check` takes one or a list of `exists`, `valid` and `writable`.",
            example: "job:\n  json:\n    path: /data/jobs.json\n    lock: /data/jobs.json.lock\n    append:\n      \
                      to: /jobs\n      value: { name: smoke, state: queued }\n    id: /name\n",
            errors: &[
                (
                    "not-found",
                    "there is no document, no lock or nothing at the pointer; the message names what is there",
                ),
                (
                    "corrupt",
                    "the document is no JSON, at that line and column, or holds a key twice and is not written",
                ),
                (
                    "busy",
                    "another program held the lock for the whole `lock_timeout`; `fuser -v FILE` or `lslocks` names it",
                ),
                ("exists", "the array has an element with that `id` already; choose another"),
                ("invalid", "the pointer is none, or leads to something that cannot be changed that way"),
                ("denied", "the document or its folder cannot be written by this user; `namei -l FILE`"),
                ("no-space", "the disk is full; the document was not touched; see `df -h`"),
                ("unsupported", "nested too deep, too large, hard links, or a file system without locks"),
            ],
            on_host: false,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        params::describe(view)
    }

    fn touches(&self, view: &ParamsView<'_>) -> Vec<String> {
        vec![format!("the document `{}`", view.show("path"))]
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        params::check(view)
    }

    fn probe_ignores(&self) -> &'static [&'static str] {
        &["set", "append"]
    }

    async fn probe(&self, cx: &Context, params: &Params) -> Result<Probe, StepError> {
        let path = store::resolve(&params.path, params.create)?;
        let lock = lock(cx, params, &path, false)?;
        // An expression stands in place of what is not known yet, perhaps in the pointer.
        let known = !params.pointer().contains("${");
        let change = if known { change(cx, params, &path, &lock.path, false)? } else { None };
        let create = params.create;
        let work = move |_| guest::foresee(change.as_ref(), &path, create).map(Turn::Done);
        let lock = Lock { limit: lock.limit.min(GLANCE), ..lock };
        match lock.hold(&mut Effort::default(), work).await {
            Ok(now) => Ok(Probe::would_pass(now)),
            // The run itself will wait longer than a plan may.
            Err(error) if error.class == ErrorClass::Busy => Ok(Probe::unknown("locked by another program")),
            Err(error) => Err(error),
        }
    }

    async fn intend(&self, cx: &Context, params: &Params) -> Result<Intent, StepError> {
        if !params.is_change() {
            return Ok(Intent::default());
        }
        // Said before anything is journaled: a pointer that is none, a secret that was not found.
        let document = store::resolve(&params.path, params.create)?;
        let lock = lock(cx, params, &document, true)?.path;
        change(cx, params, &document, &lock, true)?;
        let mark = if cx.is_final() {
            // Nothing is taken back there: another attempt clears away what this one may leave behind.
            let what = if cx.undoing { "undo of " } else { "" };
            let digest = Sha256::digest(format!("{} {what}{}", cx.services.run.id, cx.step));
            hex(&digest[..12])
        } else {
            engine::local::process::Tree::new().marker
        };
        let known = Known::of_folder(&document)?;
        Ok(Intent { document, lock, mark, known })
    }

    async fn run(&self, cx: &Context, params: &Params, intent: &Intent) -> Result<Output, StepError> {
        let mut effort = Effort::default();
        let mut output = if params.is_change() {
            let keep = !cx.is_final();
            let lock = lock_of(cx, params, intent, true);
            let lock = Lock { optional: lock.own && params.create, ..lock };
            let change = required_change(cx, params, intent)?;
            let (place, own, create) = (Place::new(&intent.document, &intent.mark), lock.own, params.create);
            let (cx, intent, new_file) = (cx.clone(), intent.clone(), place.new_file());
            let runtime = tokio::runtime::Handle::current();
            let work = move |locked: bool| {
                let announce = |new: Option<(Identity, &Record)>| {
                    let known = intent.known.clone();
                    let known = match new {
                        Some((new, record)) => {
                            let handle = crate::file::handle(&new_file.to_string_lossy());
                            known.publishing(new, handle, brief(&cx, record))
                        }
                        None => known,
                    };
                    runtime.block_on(cx.amend(&Intent { known, ..intent.clone() }))
                };
                // An error always means that the document is as it was.
                guest::run(&change, &place, create, keep, own && !locked, &announce)
                    .map_err(StepError::without_effect)
            };
            lock.hold(&mut effort, work).await?
        } else {
            let path = store::resolve(&params.path, false)?;
            let checks = params.checks();
            let lock = lock(cx, params, &path, checks.contains(&Check::Writable))?;
            let tokens = pointer::parse(params.pointer())?;
            let get = params.get.is_some();
            let wanted = params.wanted.as_ref().map(|wanted| wanted_parts(cx, wanted)).transpose()?;
            let work = move |_| {
                let found = match get {
                    true => guest::get(&path, &tokens, wanted.as_ref()),
                    false => guest::check(&path, &checks),
                };
                found.map(Turn::Done)
            };
            lock.hold(&mut effort, work).await?
        };
        output.lock = effort;
        Ok(output)
    }

    async fn changes(&self, cx: &Context, params: &Params) -> Option<Box<dyn Changes>> {
        let path = Some(&params.path).filter(|_| !params.is_change())?;
        Files::watch(cx, [std::path::absolute(path).ok()?])
    }

    fn summary(&self, output: &Output) -> String {
        match (&output.health, &output.kind, output.index) {
            (Some(health), _, _) => {
                let size = engine::quantity::Bytes(health.size).to_string();
                let writable = health.writable.map(|_| "writable".to_owned());
                [writable, health.kind.clone(), Some(size)]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join(", ")
            }
            (None, Some(kind), _) => match output.count {
                Some(1) => format!("{kind}, 1 value"),
                Some(count) => format!("{kind}, {count} values"),
                None => crate::word::short(&output.value.to_string()),
            },
            (None, None, _) if !output.changed => "already so".into(),
            (None, None, Some(index)) => format!("element {index}"),
            (None, None, None) if output.created => "made".into(),
            (None, None, None) => "changed".into(),
        }
    }

    async fn settle(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
    ) -> Result<Settled<Output>, StepError> {
        if !params.is_change() {
            return Ok(Settled::NotHappened);
        }
        let change = required_change(cx, params, intent)?;
        let place = Place::new(&intent.document, &intent.mark);
        let mut effort = Effort::default();
        // An attempt that was given up may still be at work; it holds the lock until it is done.
        let lock = Lock { optional: true, ..lock_of(cx, params, intent, false) };
        let known = intent.known.clone();
        let work = move |_| guest::settle(&change, &place, &known).map(Turn::Done);
        Ok(match lock.hold(&mut effort, work).await? {
            Settled::Happened(output) => Settled::Happened(Output { lock: effort, ..output }),
            other => other,
        })
    }

    async fn undo(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Undone, StepError> {
        if !params.is_change() {
            return Ok(Undone::NothingToDo);
        }
        let change = required_change(cx, params, intent)?;
        let place = Place::new(&intent.document, &intent.mark);
        let lock = Lock { optional: true, ..lock_of(cx, params, intent, true) };
        let (own, output, known) = (lock.own, output.cloned(), intent.known.clone());
        if cx.phase == Phase::Cleanup {
            // What is removed there is gone; only what a kill has left on the way is ours to take away.
            place.clear()?;
            return Ok(Undone::NothingToDo);
        }
        let (to_do, at) = (change.clone(), place.clone());
        let began = Arc::new(AtomicBool::new(false));
        let begin = began.clone();
        let (noting, intent, runtime) = (cx.clone(), intent.clone(), tokio::runtime::Handle::current());
        let mark = move |known: Known| {
            // A journal that takes no more is no reason to leave what is to be taken back.
            let _best_effort = runtime.block_on(noting.amend(&Intent { known, ..intent.clone() }));
        };
        let work = move |locked: bool| {
            begin.store(true, Ordering::Relaxed);
            guest::undo(&to_do, &at, &known, output.as_ref(), own && !locked, &mark)
        };
        match lock.hold(&mut Effort::default(), work).await {
            // The lock could not even be opened.
            Err(error) if !guest::may_pass(error.class) && !began.load(Ordering::Relaxed) => {
                Ok(Undone::CannotTell(guest::unseen(&change, &place, error)))
            }
            undone => undone,
        }
    }

    async fn release(&self, _: &Context, params: &Params, intent: &Intent) -> Result<(), StepError> {
        if params.is_change() { Place::new(&intent.document, &intent.mark).clear() } else { Ok(()) }
    }

    fn by_hand(&self, params: &Params, intent: &Intent) -> Option<ByHand> {
        let command = || by_hand::restore(&Place::new(&intent.document, &intent.mark), &intent.lock);
        params.is_change().then(|| ByHand { host: None, command: command() })
    }

    async fn presence(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Presence, StepError> {
        if !params.is_change() {
            return Ok(Presence::Gone);
        }
        let place = Place::new(&intent.document, &intent.mark);
        let change = required_change(cx, params, intent)?;
        let lock = Lock { optional: true, limit: GLANCE, ..lock_of(cx, params, intent, false) };
        let (output, known) = (output.cloned(), intent.known.clone());
        let look = move |_| guest::presence(&change, &place, &known, output.as_ref()).map(Turn::Done);
        match lock.hold(&mut Effort::default(), look.clone()).await {
            Err(error) if error.class == ErrorClass::Busy => {
                let look = tokio::task::spawn_blocking(move || look(false)).await;
                match look.map_err(|error| StepError::internal(format!("the task ended: {error}")))?? {
                    Turn::Done(presence) => Ok(presence),
                    Turn::Moved => Ok(Presence::Unknown("the document changed during the look".into())),
                }
            }
            presence => presence,
        }
    }
}

/// A record that may stand in the journal: a long one, or one with a secret, stays beside the document.
fn brief(cx: &Context, record: &Record) -> Option<Record> {
    let earlier = record.earlier.as_deref().unwrap_or_default();
    let secrets = &cx.services.secrets;
    let hides = |text: &str| {
        let mut value = serde_json::from_str(text).unwrap_or(Value::Null);
        let seen = value.clone();
        secrets.mask_value(&mut value);
        secrets.mask(text) != text || value != seen
    };
    let fits = record.removed.len() + earlier.len() <= BRIEF && !hides(&record.removed) && !hides(earlier);
    fits.then(|| record.clone())
}

/// The lock of the document at `path`.
fn lock(cx: &Context, params: &Params, path: &str, exclusive: bool) -> Result<Lock, StepError> {
    let named = params.lock.as_deref().unwrap_or(path);
    let absolute = std::path::absolute(named)
        .map_err(|error| StepError::io(format!("use the lock `{named}`"), &error))?;
    // By another name it may be the document itself all the same.
    let own = std::fs::canonicalize(&absolute).map_or(params.lock.is_none(), |real| real == *path);
    let path = if own { path.to_owned() } else { absolute.to_string_lossy().into_owned() };
    Ok(Lock {
        own,
        path,
        exclusive,
        optional: own && params.create,
        limit: params.lock_timeout.duration(),
        cancel: cx.cancel.clone(),
    })
}

/// The lock that an attempt chose.
fn lock_of(cx: &Context, params: &Params, intent: &Intent, exclusive: bool) -> Lock {
    Lock {
        path: intent.lock.clone(),
        own: intent.lock == intent.document,
        exclusive,
        optional: false,
        limit: params.lock_timeout.duration(),
        cancel: cx.cancel.clone(),
    }
}

/// A value with its secrets put in.
fn revealed(cx: &Context, value: &Value) -> Result<Value, StepError> {
    Ok(match value {
        Value::String(text) => Value::String(cx.reveal(text)?.expose().to_owned()),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| revealed(cx, item)).collect::<Result<_, _>>()?)
        }
        Value::Object(members) => {
            let member = |(key, item): (&String, &Value)| {
                Ok((cx.reveal(key)?.expose().to_owned(), revealed(cx, item)?))
            };
            Value::Object(members.iter().map(member).collect::<Result<_, StepError>>()?)
        }
        other => other.clone(),
    })
}

/// What `where` asks for, secrets put in.
fn wanted_parts(cx: &Context, wanted: &Map<String, Value>) -> Result<guest::Wanted, StepError> {
    let part = |(at, value): (&String, &Value)| {
        let document = Document::parse(revealed(cx, value)?.to_string()).map_err(|flaw| {
            StepError::new(ErrorClass::Invalid, format!("`where` cannot be compared: {}", flaw.message))
        })?;
        Ok((pointer::parse(at)?, document))
    };
    wanted.iter().map(part).collect()
}

/// The change that the parameters ask for, if they ask for one. A probe leaves secrets where they are.
fn change(
    cx: &Context,
    params: &Params,
    document: &str,
    lock: &str,
    reveal: bool,
) -> Result<Option<Change>, StepError> {
    let tokens = pointer::parse(params.pointer())?;
    let (action, value) = match (&params.set, &params.append, &params.remove) {
        (Some(set), _, _) => (Action::Set(tokens), &set.value),
        (_, Some(append), _) => (Action::Append(tokens), &append.value),
        (_, _, Some(_)) => (Action::Remove(tokens), &Value::Null),
        _ => return Ok(None),
    };
    let value = if reveal { revealed(cx, value)? } else { value.clone() };
    let wanted = Document::parse(value.to_string()).map_err(|flaw| {
        let message = format!("`value` cannot be written: {}", flaw.message);
        StepError::new(ErrorClass::Invalid, message).hint("make it less deep")
    })?;
    let id = params.id.as_deref().map(pointer::parse).transpose()?;
    let hand = Hand { document: document.to_owned(), lock: lock.to_owned(), ..Hand::default() };
    Ok(Some(Change { action, wanted, id, lenient: cx.is_final(), once: cx.undoing, hand }))
}

fn required_change(cx: &Context, params: &Params, intent: &Intent) -> Result<Change, StepError> {
    let mut change = change(cx, params, &intent.document, &intent.lock, true)?.ok_or_else(|| {
        StepError::new(ErrorClass::Invalid, "expected one of `get`, `set`, `append`, `remove`, `check`")
    })?;
    let record = Place::new(&intent.document, &intent.mark).record_file();
    change.hand.record = record.to_string_lossy().into_owned();
    change.hand.by_record = intent.known.record.is_none();
    Ok(change)
}

#[cfg(test)]
mod tests;
