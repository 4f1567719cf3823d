//! Which server it was, and whether an effect happened there: an address says neither.
//!
//! An effect and a key of its own, the mark, come into being in one transaction; the journal learns that it happened, and
//! the mark goes. Whoever finds neither the mark nor that note knows that nothing happened, and takes nothing of
//! another for the effect, however alike it is.

use super::{info, link::Link, value};
use engine::{ErrorClass, StepError, step::Presence};
use redis::{Cmd, Pipeline, Value as Reply};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many keys are looked at in search of one that was renamed.
const KEYS: usize = 20_000;
/// How many keys the server is asked for at once.
const PAGE: usize = 500;
/// Commands after which the same value has another key.
const RENAME: [&str; 3] = ["rename", "renamenx", "copy"];
/// Commands after which it is in another database or on another server.
const MOVE: [&str; 3] = ["move", "swapdb", "migrate"];

/// A server process, as it tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Server {
    /// The id of the process.
    run: String,
    /// The id of its data, which a replica that takes over keeps.
    #[serde(default)]
    data: Vec<String>,
    /// How often keys were renamed or copied.
    #[serde(default)]
    renamed: u64,
    /// How often they went elsewhere.
    #[serde(default)]
    moved: u64,
}

/// Where an effect was to happen, and whether it has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Origin {
    /// The server; missing if it does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<Server>,
    /// The key of the mark; missing in a step that is final, and where the user may not make one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
    /// The effect has happened.
    #[serde(default)]
    done: bool,
}

/// What became of an effect.
pub(super) enum Fate {
    Never,
    Happened,
    /// There is no mark: only what is there can tell.
    Unmarked,
    Unclear(String),
}

/// What is known of something that is not where it was.
pub(super) enum Missing {
    Gone,
    /// It is at this key now.
    Renamed(Vec<u8>),
    Unclear(String),
}

impl Origin {
    /// Before anything is made; the name of the mark is made from that of the key, as permissions are.
    pub(super) async fn of(link: &mut Link<'_>, key: &str) -> Result<Self, StepError> {
        let mark = format!("{key}:shakedown:{}", &engine::local::process::Tree::new().marker);
        let mark = (!link.cx.is_final()).then_some(mark);
        Ok(Self { server: seen(link).await?.map(|(server, _)| server), mark, done: false })
    }

    /// The same once the effect has happened.
    pub(super) fn done(&self) -> Self {
        Self { done: true, ..self.clone() }
    }

    /// The same for who may not make a mark.
    pub(super) fn unmarked(&self) -> Self {
        Self { mark: None, ..self.clone() }
    }

    /// Adds the mark to a transaction.
    pub(super) fn put(&self, link: &Link<'_>, changes: &mut Pipeline) -> Result<(), StepError> {
        if let Some(mark) = &self.mark {
            changes.cmd("SET").arg(link.cx.reveal(mark)?.expose()).arg(1);
        }
        Ok(())
    }

    /// Adds its removal.
    pub(super) fn take(&self, link: &Link<'_>, changes: &mut Pipeline) -> Result<(), StepError> {
        if let Some(mark) = &self.mark {
            changes.cmd("DEL").arg(link.cx.reveal(mark)?.expose());
        }
        Ok(())
    }

    /// Removes the mark.
    pub(super) async fn clear(&self, link: &mut Link<'_>) -> Result<(), StepError> {
        let Some(mark) = &self.mark else { return Ok(()) };
        let mark = link.cx.reveal(mark)?;
        // A replica takes no writes, also not where there is nothing to remove.
        if value::number(&link.ask(redis::cmd("EXISTS").arg(mark.expose())).await?) == Some(0) {
            return Ok(());
        }
        link.change(redis::cmd("DEL").arg(mark.expose())).await.map(drop)
    }

    /// Whether an error says that no mark can be made here: a list of permitted keys, or a cluster.
    pub(super) fn refused(&self, error: &StepError) -> bool {
        self.mark.is_some()
            && !error.outcome_unknown
            && (error.class == ErrorClass::Denied || error.message.contains("CROSSSLOT"))
    }

    /// Whether something of the way there is left, or what is not seen may be elsewhere.
    pub(super) async fn presence(&self, link: &mut Link<'_>) -> Result<Presence, StepError> {
        if let Some(mark) = &self.mark {
            let key = link.cx.reveal(mark)?;
            if value::number(&link.ask(redis::cmd("EXISTS").arg(key.expose())).await?) == Some(1) {
                let gone = link.place.type_in(&["DEL", mark]);
                let what = format!("key `{mark}`");
                return Ok(Presence::Present(link.leftover(what, "it was made on the way", gone)));
            }
        }
        Ok(Presence::Gone)
    }

    pub(super) async fn fate(&self, link: &mut Link<'_>) -> Result<Fate, StepError> {
        if self.done {
            return Ok(Fate::Happened);
        }
        let Some(mark) = &self.mark else { return Ok(Fate::Unmarked) };
        let mark = link.cx.reveal(mark)?;
        if value::number(&link.ask(redis::cmd("EXISTS").arg(mark.expose())).await?) == Some(1) {
            return Ok(Fate::Happened);
        }
        Ok(match self.changed(link).await? {
            Some((why, _)) => Fate::Unclear(why),
            None => Fate::Never,
        })
    }

    /// What is known of a value of type `kind` that is not at its key: `ask` makes the question to another key, and
    /// `is` judges the answer.
    pub(super) async fn missing(
        &self,
        link: &mut Link<'_>,
        kind: &str,
        key: &str,
        ask: impl Fn(&[u8]) -> Cmd,
        is: impl Fn(&Reply) -> bool,
    ) -> Result<Missing, StepError> {
        let Some((why, renamed)) = self.changed(link).await? else { return Ok(Missing::Gone) };
        if !renamed {
            return Ok(Missing::Unclear(why));
        }
        let (mut cursor, mut looked) = (b"0".to_vec(), 0);
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("COUNT").arg(PAGE).arg("TYPE").arg(kind);
            let [next, keys] = <[Reply; 2]>::try_from(value::list(link.ask(&scan).await?))
                .map_err(|_| StepError::new(ErrorClass::Corrupt, "the server's `SCAN` gives no page"))?;
            let keys: Vec<Vec<u8>> = value::list(keys)
                .into_iter()
                .filter_map(|found| match found {
                    Reply::BulkString(bytes) if bytes != key.as_bytes() => Some(bytes),
                    _ => None,
                })
                .collect();
            for found in &keys {
                // One that went or became another since the page was made is none.
                if link.try_ask(&ask(found)).await?.is_ok_and(|reply| is(&reply)) {
                    return Ok(Missing::Renamed(found.clone()));
                }
            }
            looked += keys.len();
            cursor = match next {
                Reply::BulkString(bytes) if bytes != b"0" => bytes,
                _ => return Ok(Missing::Gone),
            };
            if looked > KEYS {
                return Ok(Missing::Unclear(format!("{why}, and there are more than {KEYS} to look at")));
            }
        }
    }

    /// Why what is not seen may be elsewhere all the same, and whether that is a matter of another key.
    async fn changed(&self, link: &mut Link<'_>) -> Result<Option<(String, bool)>, StepError> {
        let Some(then) = &self.server else { return Ok(None) };
        let label = link.place.label.clone();
        let Some((now, facts)) = seen(link).await? else {
            return Ok(Some((format!("`{label}` no longer tells which server it is"), false)));
        };
        let fact = |name: &str| facts.get(name).map(String::as_str).unwrap_or_default();
        if fact("role") == "slave" {
            let master = format!("{}:{}", fact("master_host"), fact("master_port"));
            return Ok(Some((format!("`{label}` is a replica of `{master}` now"), false)));
        }
        if now.run != then.run && !now.data.iter().any(|id| then.data.contains(id)) {
            let why = format!(
                "another server process answers at `{label}` since {} s: it was started anew, or is another server",
                fact("uptime_in_seconds")
            );
            return Ok(Some((why, false)));
        }
        // A replica that took over counts for itself.
        let same = now.run == then.run;
        if same && now.moved != then.moved {
            return Ok(Some((format!("keys of `{label}` went to other databases or servers since"), false)));
        }
        Ok((!same || now.renamed != then.renamed)
            .then(|| (format!("keys of `{label}` may have been renamed since"), true)))
    }
}

/// The server with what it says of itself; nothing if the user may not ask.
async fn seen(link: &mut Link<'_>) -> Result<Option<(Server, BTreeMap<String, String>)>, StepError> {
    let mut facts = BTreeMap::new();
    for section in ["server", "replication", "commandstats"] {
        match info::section(link, section).await {
            Ok(found) => facts.extend(found),
            Err(error) if error.class == ErrorClass::Denied => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let calls = |names: &[&str]| {
        let of = |name: &&str| {
            let line = facts.get(&format!("cmdstat_{name}"))?;
            line.strip_prefix("calls=")?.split(',').next()?.parse::<u64>().ok()
        };
        names.iter().filter_map(of).sum()
    };
    let Some(run) = facts.get("run_id").cloned() else { return Ok(None) };
    let none = |id: &&String| id.chars().any(|c| c != '0');
    let data = ["master_replid", "master_replid2"].into_iter().filter_map(|name| facts.get(name));
    let data = data.filter(none).cloned().collect();
    let server = Server { run, data, renamed: calls(&RENAME), moved: calls(&MOVE) };
    Ok(Some((server, facts)))
}
