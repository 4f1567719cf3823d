//! `redis`: reads, checks and changes a Redis server that another program uses, as a guest in its house.

mod address;
mod check;
mod command;
mod errors;
mod fields;
mod hash;
mod info;
mod intent;
mod link;
mod origin;
mod push;
mod puts;
mod set;
mod stream;
mod value;

pub use check::{Check, Health};
pub use hash::Hash;
pub use intent::Intent;
pub use push::{Push, Side};
pub use set::Set;
pub use stream::Add;

use crate::{
    checks::Checks,
    word::{Word, short},
};
use address::Place;
use engine::{
    Step, StepError,
    error::ErrorClass,
    quantity::Millis,
    step::{ByHand, Context, Description, Docs, Leftover, ParamsView, Presence, Probe, Settled, Undone},
};
use intent::{change, finish};
use link::Link;
use origin::{Fate, Origin};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Instant;

/// How much of what was there before is kept for the undo, in bytes: it has to fit into a command that a person types.
const KEPT: usize = 60_000;

/// The step type.
pub struct Redis;

/// `url` and exactly one of `command`, `set`, `hash`, `push`, `add` and `check`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The server: `redis://HOST:PORT/DB`, `rediss://HOST:PORT/DB` for TLS, `unix:///PATH?db=DB`.
    url: String,
    /// The user of the server's access list; its default user if not given.
    #[serde(default)]
    user: Option<String>,
    /// The password; best a secret.
    #[serde(default)]
    password: Option<String>,
    /// For `rediss`: a PEM file with the certificates to trust; those of this machine if not given.
    #[serde(default)]
    #[schemars(extend("format" = "local-path"))]
    ca: Option<String>,
    /// How long the connection may take, greeting and all; `5s` if not given.
    #[serde(default = "five_seconds")]
    connect_timeout: Millis,
    /// A command with its arguments: text or numbers. It needs a written `undo`, or `reads: true`.
    #[serde(default)]
    command: Option<Vec<Word>>,
    /// `command` only reads. The server is asked whether that is so.
    #[serde(default)]
    reads: bool,
    /// Sets a text; undone by putting back the earlier one with the time it had to live.
    #[serde(default)]
    set: Option<Set>,
    /// Sets fields of a hash; undone by putting back the earlier ones.
    #[serde(default)]
    hash: Option<Hash>,
    /// Pushes elements to a list; undone by removing those that no consumer took.
    #[serde(default)]
    push: Option<Push>,
    /// Adds an entry to a stream; undone by deleting it.
    #[serde(default)]
    add: Option<Add>,
    /// What must hold of the server.
    #[serde(default)]
    check: Option<Checks<Check>>,
}

fn five_seconds() -> Millis {
    Millis(5_000)
}

/// What a Redis step found or did; fields that do not belong to the action are missing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// `command`: the reply: null, a number, text, a list or a map; entries of streams as `{id, fields}`, bytes that are
    /// no text as `{"$blob": "hex"}`. `hash`: how many fields are new.
    #[serde(default)]
    pub value: Value,
    /// `add`: the id of the new entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `push`: how long the list was right after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// `push`: how often anything had been put into a list right after it.
    #[serde(skip)]
    puts: Option<u64>,
    /// `set`, `hash`, `push` and `add`: whether there was something at the key, or in one of the fields, before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<bool>,
    /// `check`: what was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Whether the server is a `master` or a `slave`; missing if the user may not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// How long all of it took, connection and all, in milliseconds.
    #[serde(default)]
    pub took_ms: u64,
}

/// What a step is told to do.
enum Action<'a> {
    Command(&'a [Word]),
    Set(&'a Set),
    Hash(&'a Hash),
    Push(&'a Push),
    Add(&'a Add),
    Check(&'a Checks<Check>),
}

impl Params {
    fn action(&self) -> Result<Action<'_>, StepError> {
        let Self { command, set, hash, push, add, check, .. } = self;
        match (command, set, hash, push, add, check) {
            (Some(command), None, None, None, None, None) => Ok(Action::Command(command)),
            (None, Some(set), None, None, None, None) => Ok(Action::Set(set)),
            (None, None, Some(hash), None, None, None) => Ok(Action::Hash(hash)),
            (None, None, None, Some(push), None, None) => Ok(Action::Push(push)),
            (None, None, None, None, Some(add), None) => Ok(Action::Add(add)),
            (None, None, None, None, None, Some(check)) => Ok(Action::Check(check)),
            _ => Err(StepError::new(
                ErrorClass::Invalid,
                format!("expected exactly one of `{}`", ACTIONS.join("`, `")),
            )),
        }
    }
}

const ACTIONS: [&str; 6] = ["command", "set", "hash", "push", "add", "check"];

impl Step for Redis {
    const KIND: &'static str = "redis";
    type Params = Params;
    type Output = Output;
    type Intent = Intent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "reads, checks and changes a Redis server that another program uses",
            details: "`command` sends any command of strings, hashes, lists, streams, sets and sorted sets, word by \
                      word: nothing is pasted, so values may hold anything. With `reads: true` the step only reads, \
                      and the server is asked (`COMMAND INFO`) whether that is so; without it the step needs a written \
                      `undo`. Commands that block, listen or change the connection are refused.\n\n\
                      Four actions undo themselves. `set` puts back the earlier text with the time it had to live; \
                      `hash` puts back the earlier fields (but not an expiry of a single field); `push` removes the \
                      elements that no consumer has taken; `add` deletes the entry, and the stream with it if that was \
                      not there before, is empty and has no groups. `set` and `hash` look and change in one transaction \
                      (`WATCH`), so nothing is overwritten that the undo does not know of. What another has changed \
                      since is left as it is and named, with a command that shows it and what was there before. A list does not tell \
                      equal elements apart: those without `run.id` are removed only if nobody else has put anything into a list of \
                      the server since (its own counts in `INFO` tell); otherwise, and where equal \
                      elements were there before and more were taken than pushed, nobody can tell whose they are, and they \
                      are left and named. Texts of more than 60 kB are not overwritten, for they could not be put back by \
                      hand.\n\nEach change is made in one transaction with a key of its own, `KEY:shakedown:…`, which is removed once the \
                      journal knows of the change: after a crash it tells whether it happened, so that nothing equal of another is \
                      taken for it. Where the user may make no such key, only values with `run.id` are known for sure after a \
                      crash; of others it is said that it cannot be told. What is not at its key is gone only if it is the \
                      same server (its `run_id`, or its data's `master_replid`), and no key was renamed, moved or swapped since; a \
                      renamed one is looked for among up to 20,000 keys and named, all else cannot be told. A user who may not ask \
                      `INFO` gets none of this. In `cleanup` and in a written `undo` no such key is made: after a crash \
                      there, `push` may push once more.\n\n\
                      `check` takes one or a list of `reachable`, `writable` (a master with memory left that can save \
                      its data; nothing is written) and `persistent` (AOF or RDB is on).\n\n\
                      `redis-cli` commands in messages never hold the password: they ask for it.",
            example: "job:\n  redis:\n    url: redis://127.0.0.1:6379/0\n    push: { key: uploads, value: /data/a.txt \
                      }\ntaken:\n  needs: [job]\n  wait:\n    until:\n      redis: { url: redis://127.0.0.1:6379/0, command: \
                      [LLEN, uploads], reads: true }\n    succeed_when: out.value == 0\n  timeout: 1m\n",
            errors: &[
                ("unreachable", "refused, timed out or broken: `redis-cli -u URL ping`"),
                ("denied", "wrong or no password, or no permission: `redis-cli -u URL ACL WHOAMI`"),
                ("denied", "the server's certificate is not trusted: name its authority with `ca`"),
                ("invalid", "the key holds a value of another type; the message names it"),
                ("invalid", "`reads: true` on a command that writes: write an `undo` instead"),
                ("no-space", "`maxmemory` is used up, or the disk is full: `redis-cli -u URL INFO memory`"),
                ("busy", "a replica, still loading, a script runs, or the key was changed in this moment"),
                ("expectation", "a check does not hold; the message says what was found"),
                ("unsupported", "the server does not know the command: `redis-cli -u URL INFO server`"),
            ],
            on_host: false,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        let key = |action: &str| {
            let key = view.get(action).and_then(|action| action.get("key"));
            key.and_then(Value::as_str).unwrap_or("?").to_owned()
        };
        match view.present(&ACTIONS).first().copied() {
            Some("set") => Description::changes(
                format!("set {}", short(&key("set"))),
                "put back the earlier value, if unchanged since",
            ),
            Some("hash") => Description::changes(
                format!("set fields of {}", short(&key("hash"))),
                "put back the earlier fields, if unchanged since",
            ),
            Some("push") => Description::changes(
                format!("push to {}", short(&key("push"))),
                "remove the elements, if not taken",
            ),
            Some("add") => {
                Description::changes(format!("add to stream {}", short(&key("add"))), "delete that entry")
            }
            Some("check") => Description::reads(format!("check Redis: {}", view.words("check"))),
            _ if view.is_true("reads") => Description::reads(short(&view.words("command"))),
            _ => Description::needs_written_undo(short(&view.words("command"))),
        }
    }

    fn touches(&self, view: &ParamsView<'_>) -> Vec<String> {
        // Pushing and adding are made for many at once.
        let key = ["set", "hash"].into_iter().find_map(|action| view.get(action)?.get("key")?.as_str());
        key.map(|key| format!("the key `{key}` of `{}`", view.show("url"))).into_iter().collect()
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        let mut wrong = view.exactly_one(&ACTIONS);
        if view.has("reads") && !view.has("command") {
            wrong.push(("reads".into(), "`reads` goes with `command`".into()));
        }
        if view.has("ca") && view.is_known("url") && view.show("url").starts_with("redis:") {
            wrong.push(("ca".into(), "`ca` goes with a `rediss://` address".into()));
        }
        if let Some(words) =
            view.get("command").and_then(Value::as_array).filter(|_| view.is_known("command"))
        {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            if let Some(why) = command::refused(&words) {
                wrong.push(("command".into(), why));
            }
        }
        if let Some(push) = view.get("push")
            && push.get("value").is_some() == push.get("values").is_some()
        {
            wrong.push(("push".into(), "`push` takes either `value` or `values`".into()));
        }
        wrong
    }

    fn probe_ignores(&self) -> &'static [&'static str] {
        &["command", "set", "hash", "push", "add"]
    }

    async fn probe(&self, cx: &Context, params: &Params) -> Result<Probe, StepError> {
        let mut link = Link::open(cx, params).await?;
        let role = link.role().await;
        if role.as_deref() == Some("slave") {
            let error = StepError::new(
                ErrorClass::Busy,
                format!("`{}` is a replica: expected a master", link.place.label),
            )
            .hint(link.place.type_in(&["ROLE"]));
            return Ok(Probe::would_fail("a replica", error));
        }
        // The last words stand for what is written.
        let (name, wanted, change, rest): (_, _, _, &[&str]) = match params.action()? {
            Action::Set(set) => (&set.key, "string", "SET", &["x"]),
            Action::Hash(hash) => (&hash.key, "hash", "HSET", &["f", "x"]),
            Action::Push(push) => (&push.key, "list", "RPUSH", &["x"]),
            Action::Add(add) => (&add.key, "stream", "XADD", &["*", "f", "x"]),
            Action::Command(_) | Action::Check(_) => {
                return Ok(Probe::would_pass(role.unwrap_or_else(|| "it answers".into())));
            }
        };
        let key = cx.reveal(name)?;
        match link.require_type(key.expose().as_bytes(), name, wanted).await {
            Ok(there) => {
                let words = [&[change, key.expose()], rest].concat();
                Ok(match check::permitted(&mut link, &[check::command(&words)], false).await {
                    Ok(()) if there => Probe::would_pass(format!("a {wanted}")),
                    Ok(()) => Probe::would_pass("no such key"),
                    Err(error) if error.class == ErrorClass::Denied => {
                        Probe::would_fail("no permission", error)
                    }
                    Err(error) => Probe::would_fail("it takes no changes", error),
                })
            }
            Err(error) if error.class == ErrorClass::Invalid => {
                Ok(Probe::would_fail(format!("no {wanted}"), error))
            }
            Err(error) => Err(error),
        }
    }

    async fn intend(&self, cx: &Context, params: &Params) -> Result<Intent, StepError> {
        let action = params.action()?;
        if matches!(action, Action::Command(_) | Action::Check(_)) {
            return Ok(Intent::Nothing);
        }
        let mut link = Link::open(cx, params).await?;
        Ok(match action {
            Action::Set(set) => Intent::Set(set.intend(&mut link).await?),
            Action::Hash(hash) => Intent::Hash(hash.intend(&mut link).await?),
            Action::Push(push) => Intent::Push(push.intend(&mut link).await?),
            Action::Add(add) => Intent::Add(add.intend(&mut link).await?),
            Action::Command(_) | Action::Check(_) => Intent::Nothing,
        })
    }

    async fn run(&self, cx: &Context, params: &Params, intent: &Intent) -> Result<Output, StepError> {
        let began = Instant::now();
        let mut link = Link::open(cx, params).await?;
        // Asked before: after a change nothing may fail any more.
        let role = link.role().await;
        let output = match (params.action()?, intent) {
            (Action::Command(argv), _) => command::run(&mut link, argv, params.reads).await?,
            (Action::Check(checks), _) => {
                Output { health: Some(check::look(&mut link, checks.list()).await?), ..Output::default() }
            }
            (action, intent) => match change(&mut link, &action, intent).await {
                // This user may make no key of that name, or not with the other in one transaction.
                Err(error) if intent.origin().is_some_and(|origin| origin.refused(&error)) => {
                    let intent = intent.with(Origin::unmarked);
                    cx.amend(&intent).await?;
                    change(&mut link, &action, &intent).await?
                }
                Err(error) => return Err(error),
                Ok(output) => {
                    finish(&mut link, intent, &output).await?;
                    output
                }
            },
        };
        let took_ms = Millis::from(began.elapsed()).0;
        Ok(Output { role, took_ms, ..output })
    }

    fn summary(&self, output: &Output) -> String {
        match (&output.health, &output.id, output.length, output.earlier) {
            (Some(health), ..) => health.words(),
            (_, Some(id), ..) => format!("entry {id}"),
            (_, _, Some(length), _) => format!("length {length}"),
            (.., Some(true)) => "replaced".into(),
            (.., Some(false)) => "new".into(),
            _ => match &output.value {
                Value::Array(list) => format!("{} items", list.len()),
                Value::Object(map) if !map.contains_key("$blob") => format!("{} fields", map.len()),
                Value::String(text) => short(text),
                other => short(&other.to_string()),
            },
        }
    }

    async fn settle(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
    ) -> Result<Settled<Output>, StepError> {
        let mut link = Link::open(cx, params).await?;
        match (params.action()?, intent) {
            (Action::Set(set), Intent::Set(before)) => set.settle(&mut link, before).await,
            (Action::Hash(hash), Intent::Hash(before)) => hash.settle(&mut link, before).await,
            (Action::Push(push), Intent::Push(before)) => push.settle(&mut link, before).await,
            (Action::Add(add), Intent::Add(before)) => add.settle(&mut link, before).await,
            _ => Ok(Settled::Unclear("only a person can tell what this command did".into())),
        }
    }

    async fn undo(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Undone, StepError> {
        let action = params.action()?;
        if matches!(intent, Intent::Nothing) {
            return Ok(Undone::NothingToDo);
        }
        let mut link = Link::open(cx, params).await?;
        let ran = output.is_some();
        let undone = match (action, intent) {
            (Action::Set(set), Intent::Set(before)) => set.undo(&mut link, before, ran).await,
            (Action::Hash(hash), Intent::Hash(before)) => hash.undo(&mut link, before, ran).await,
            (Action::Push(push), Intent::Push(before)) => push.undo(&mut link, before, ran).await,
            (Action::Add(add), Intent::Add(before)) => add.undo(&mut link, before, output).await,
            _ => Ok(Undone::NothingToDo),
        };
        // What one may not look at, or not here, is not gone; what is seen and may not be changed is left.
        let refused = |error: &StepError| matches!(error.class, ErrorClass::Denied | ErrorClass::Unsupported);
        match undone {
            Err(error) if refused(&error) => Ok(match self.presence(cx, params, intent, output).await {
                Ok(Presence::Present(left)) => Undone::Left(Leftover { why: error.message, ..left }),
                _ => Undone::CannotTell(Leftover {
                    what: format!("what was changed at `{}`", link.place.label),
                    why: error.message,
                    remove_with: self.by_hand(params, intent).map(|it| it.command).unwrap_or_default(),
                }),
            }),
            undone => undone,
        }
    }

    fn by_hand(&self, params: &Params, intent: &Intent) -> Option<ByHand> {
        let place = Place::of(params);
        let command = match (params.action().ok()?, intent) {
            (Action::Set(set), Intent::Set(before)) => set.by_hand(&place, before),
            (Action::Hash(hash), Intent::Hash(before)) => hash.by_hand(&place, before),
            (Action::Push(push), Intent::Push(_)) => push.by_hand(&place),
            (Action::Add(add), Intent::Add(before)) => add.by_hand(&place, before),
            _ => return None,
        };
        Some(ByHand { host: None, command })
    }

    async fn presence(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Presence, StepError> {
        let action = params.action()?;
        if matches!(intent, Intent::Nothing) {
            return Ok(Presence::Gone);
        }
        let mut link = Link::open(cx, params).await?;
        if let (None, Some(origin)) = (output, intent.origin()) {
            // What is alike is another's, unless it is known that there is something of ours.
            match origin.fate(&mut link).await? {
                Fate::Never => return Ok(Presence::Gone),
                Fate::Unclear(why) => return Ok(Presence::Unknown(why)),
                Fate::Happened | Fate::Unmarked => {}
            }
        }
        let found = match (action, intent) {
            (Action::Set(set), Intent::Set(before)) => set.presence(&mut link, before).await,
            (Action::Hash(hash), Intent::Hash(before)) => hash.presence(&mut link, before).await,
            (Action::Push(push), Intent::Push(before)) => push.presence(&mut link, before).await,
            (Action::Add(add), Intent::Add(before)) => add.presence(&mut link, before, output).await,
            _ => Ok(Presence::Gone),
        };
        match (found?, intent.origin()) {
            (Presence::Gone, Some(origin)) => origin.presence(&mut link).await,
            (found, _) => Ok(found),
        }
    }
}

/// Another stored than was sent.
fn stored_otherwise(key: &str, link: &Link<'_>) -> StepError {
    let message = format!("`{}` holds something else at `{key}` than was sent to it", link.place.label);
    StepError::new(ErrorClass::Corrupt, message).unknown_outcome()
}

/// Why something is left, with what puts back what was there before, if anything was.
fn with_earlier(why: &str, command: &str, was: bool) -> String {
    match was {
        true => format!("{why}; what was there before is put back with: {command}"),
        false => format!("{why}; nothing was there before"),
    }
}

/// What is left, as what nobody can tell.
fn cannot_tell(undone: Undone) -> Undone {
    match undone {
        Undone::Left(left) => Undone::CannotTell(left),
        other => other,
    }
}

/// What is at another key now, with the command that shows it: an equal value there may be another's.
fn renamed(link: &Link<'_>, what: &str, key: &str, to: &[u8], look: &[&[u8]]) -> Leftover {
    let shown = String::from_utf8_lossy(to);
    let why = format!("`{key}` was renamed or copied to it since");
    link.leftover(format!("{what} at key `{shown}`"), &why, link.place.type_bytes(look))
}

/// # Errors
/// What is at the key is too large to be kept for the undo.
fn fits(key: &str, link: &Link<'_>, bytes: usize) -> Result<(), StepError> {
    if bytes <= KEPT {
        return Ok(());
    }
    let message = format!(
        "`{key}` of `{}` holds {bytes} bytes: expected at most {KEPT}, which can be put back by hand",
        link.place.label
    );
    Err(StepError::new(ErrorClass::Invalid, message)
        .hint("use `command` with a written `undo`, or another key"))
}

/// The key is no longer as it was when the intent was written down.
fn changed_meanwhile(key: &str, link: &Link<'_>) -> StepError {
    let message = format!(
        "another changed `{key}` of `{}` in the very moment before it was to be set",
        link.place.label
    );
    StepError::new(ErrorClass::Busy, message).hint("run it again; `retry: { on: [busy] }` does so by itself")
}

#[cfg(test)]
mod tests;
