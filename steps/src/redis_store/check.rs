//! `check`: what must hold of the server. Nothing is written.

use super::{address::Place, errors, info, link::Link, value};
use engine::StepError;
use redis::Cmd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// It answers, and lets the user in.
    Reachable,
    /// It is a master that has loaded its data, has memory left and is not kept from writes by its disk, and the user may write.
    Writable,
    /// It keeps its data on disk: by a log of changes (AOF) or by snapshots (RDB).
    Persistent,
}

/// What the checks found; what none of them asked for is missing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// `writable`: bytes of memory in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_memory: Option<u64>,
    /// `writable`: the limit in bytes; 0 means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maxmemory: Option<u64>,
    /// `persistent`: whether changes are logged (AOF).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aof: Option<bool>,
    /// `persistent`: when snapshots are made (RDB), such as `3600 1 300 100`; empty means never. Missing where AOF made
    /// the question needless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save: Option<String>,
}

impl Health {
    /// The same in a few words.
    pub(super) fn words(&self) -> String {
        let mut words = vec!["answers".to_owned()];
        if self.used_memory.is_some() {
            words.push("writable".into());
        }
        match (self.aof, &self.save) {
            (Some(true), _) => words.push("AOF".into()),
            (_, Some(_)) => words.push("RDB".into()),
            _ => {}
        }
        words.join(", ")
    }
}

/// # Errors
/// A check does not hold; the server does not answer.
pub(super) async fn look(link: &mut Link<'_>, checks: &[Check]) -> Result<Health, StepError> {
    let mut health = Health::default();
    for check in checks {
        match check {
            Check::Reachable => {
                link.ask(&redis::cmd("PING")).await?;
            }
            Check::Writable => writable(link, &mut health).await?,
            Check::Persistent => persistent(link, &mut health).await?,
        }
    }
    // At the end, for who may not end a transaction stays in it.
    if checks.contains(&Check::Writable) {
        let writes = WRITES.map(|words| words.iter().collect::<Vec<_>>());
        permitted(link, &writes.map(|words| command(&words)), true).await?;
    }
    Ok(health)
}

/// Some way to write a value of each type.
const WRITES: [&[&str]; 5] = [
    &["SET", "shakedown", "x"],
    &["HSET", "shakedown", "f", "x"],
    &["RPUSH", "shakedown", "x"],
    &["XADD", "shakedown", "*", "f", "x"],
    &["DEL", "shakedown"],
];

/// A command of these words.
pub(super) fn command<W: redis::ToRedisArgs>(words: &[W]) -> Cmd {
    let mut made = Cmd::new();
    for word in words {
        made.arg(word);
    }
    made
}

/// Whether the server would take one of these changes from this user. What waits in a transaction is judged as it is put in, and
/// the transaction is never carried out: it ends with the connection, if not before. With `any_key` the right to the command
/// is enough, whatever keys it is for.
///
/// # Errors
/// It would take none of them.
pub(super) async fn permitted(link: &mut Link<'_>, changes: &[Cmd], any_key: bool) -> Result<(), StepError> {
    if let Err(error) = link.try_ask(&redis::cmd("MULTI")).await? {
        // Something between us and the server may know no transactions.
        return if errors::refuses(&error) { Err(errors::explain(&error, &link.place)) } else { Ok(()) };
    }
    let mut refused = None;
    for change in changes {
        refused = match link.try_ask(change).await? {
            Err(error) if errors::refuses(&error) && !(any_key && errors::is_for_the_key(&error)) => {
                Some(errors::explain(&error, &link.place))
            }
            _ => None,
        };
        if refused.is_none() {
            break;
        }
    }
    let _best_effort = link.try_ask(&redis::cmd("DISCARD")).await?;
    refused.map_or(Ok(()), Err)
}

async fn writable(link: &mut Link<'_>, health: &mut Health) -> Result<(), StepError> {
    let replication = info::section(link, "replication").await?;
    let persistence = info::section(link, "persistence").await?;
    let memory = info::section(link, "memory").await?;
    let place = link.place.clone();
    let is = |section: &BTreeMap<String, String>, name: &str, value: &str| {
        section.get(name).is_some_and(|found| found == value)
    };
    let number = |name: &str| memory.get(name).and_then(|text| text.parse::<u64>().ok());
    if !is(&replication, "role", "master") {
        let role = replication.get("role").map_or("unknown", String::as_str);
        return Err(refuse(&place, format!("expected the role master, found {role}"), "replication"));
    }
    // Told only where replicas are needed.
    if let Some(good) = replication.get("min_slaves_good_slaves").and_then(|good| good.parse::<u64>().ok())
        && let Ok(needed) = setting(link, "min-replicas-to-write").await
        && needed.parse().is_ok_and(|needed: u64| good < needed)
    {
        return Err(refuse(&place, format!("it needs {needed} replicas and has {good}"), "replication"));
    }
    if is(&persistence, "loading", "1") {
        return Err(refuse(&place, "it still loads its data from disk".into(), "persistence"));
    }
    if is(&persistence, "aof_enabled", "1") && is(&persistence, "aof_last_write_status", "err") {
        return Err(refuse(&place, "it cannot write its log (AOF) to disk".into(), "persistence"));
    }
    if is(&persistence, "rdb_last_bgsave_status", "err") && stops_on_error(link).await {
        return Err(refuse(
            &place,
            "its last snapshot (RDB) could not be written to disk".into(),
            "persistence",
        ));
    }
    (health.used_memory, health.maxmemory) = (number("used_memory"), number("maxmemory"));
    let policy = memory.get("maxmemory_policy").map_or("", String::as_str);
    if let (Some(used), Some(limit)) = (health.used_memory, health.maxmemory)
        && limit > 0
        && used >= limit
        && policy == "noeviction"
    {
        return Err(refuse(&place, format!("{used} of {limit} bytes of memory are in use"), "memory"));
    }
    Ok(())
}

fn refuse(place: &Place, why: String, section: &str) -> StepError {
    StepError::expectation(format!("`{}` takes no writes: {why}", place.label))
        .hint(place.type_in(&["INFO", section]))
}

/// Whether a failed snapshot keeps the server from writes; it does unless it is told otherwise.
async fn stops_on_error(link: &mut Link<'_>) -> bool {
    setting(link, "stop-writes-on-bgsave-error").await.map_or(true, |found| found != "no")
}

async fn persistent(link: &mut Link<'_>, health: &mut Health) -> Result<(), StepError> {
    let persistence = info::section(link, "persistence").await?;
    let aof = persistence.get("aof_enabled").is_some_and(|found| found == "1");
    health.aof = Some(aof);
    if aof {
        return Ok(());
    }
    let save = setting(link, "save").await?;
    if save.is_empty() {
        let message =
            format!("`{}` keeps its data in memory only: both AOF and RDB are off", link.place.label);
        return Err(StepError::expectation(message).hint(link.place.type_in(&["CONFIG", "GET", "save"])));
    }
    health.save = Some(save);
    Ok(())
}

async fn setting(link: &mut Link<'_>, name: &str) -> Result<String, StepError> {
    let reply = link.ask(redis::cmd("CONFIG").arg("GET").arg(name)).await?;
    Ok(value::field(&reply, name).as_ref().and_then(value::text).unwrap_or_default().to_owned())
}
