//! Whether anybody has put something into a list since a push: a list does not tell equal elements apart, and another's can
//! only be there if another put it there.

use super::{info, intent::Intent, link::Link, value};
use redis::{Pipeline, Value as Reply};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Commands after which an element may be in a list that was not in it before, also those that a script sends.
const PUTS: [&str; 17] = [
    "lpush",
    "rpush",
    "lpushx",
    "rpushx",
    "linsert",
    "lset",
    "lmove",
    "blmove",
    "rpoplpush",
    "brpoplpush",
    "sort",
    "restore",
    "copy",
    "rename",
    "renamenx",
    "move",
    "swapdb",
];

/// How often that was done on the whole server, as it counts by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Puts {
    /// The server process; missing if it does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    /// Some time before the push.
    #[serde(default)]
    before: u64,
    /// Right after it, the push included; missing as long as the journal does not know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<u64>,
}

impl Puts {
    /// Before a push.
    pub(super) async fn before(link: &mut Link<'_>) -> Self {
        match now(link).await {
            Some((run, before)) => Self { run: Some(run), before, after: None },
            None => Self::default(),
        }
    }

    /// Asks within the transaction of the push, if the user may.
    pub(super) fn ask(&self, changes: &mut Pipeline) {
        match self.run {
            Some(_) => changes.cmd("INFO").arg("commandstats"),
            None => changes.cmd("PING"),
        };
    }

    /// Whether nobody but this run has put anything anywhere since.
    pub(super) async fn nobody_since(&self, link: &mut Link<'_>) -> bool {
        let Some(run) = &self.run else { return false };
        let Some((now_run, now)) = now(link).await else { return false };
        if now_run != *run {
            return false;
        }
        let then = self.after.unwrap_or(self.before);
        let (mut own, mut perhaps) = (0, u64::from(self.after.is_none()));
        for intended in link.cx.chronicle.of("redis") {
            let Ok(Intent::Push(other)) = serde_json::from_value(intended.intent) else { continue };
            let is_this = intended.step == link.cx.step && intended.attempt == link.cx.attempt;
            match other.puts.after {
                Some(after) => own += u64::from(after > then && other.puts.run == self.run),
                None => perhaps += u64::from(!is_this),
            }
        }
        (then + own..=then + own + perhaps).contains(&now)
    }
}

/// The count in an answer to [`Puts::ask`].
pub(super) fn count(reply: &Reply) -> Option<u64> {
    let text = match reply {
        Reply::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => value::text(other)?.to_owned(),
    };
    text.contains("cmdstat_").then(|| sum(&info::facts(&text)))
}

/// The server process and its count; nothing if the user may not ask.
async fn now(link: &mut Link<'_>) -> Option<(String, u64)> {
    let server = info::section(link, "server").await.ok()?;
    let stats = info::section(link, "commandstats").await.ok()?;
    Some((server.get("run_id")?.clone(), sum(&stats)))
}

fn sum(stats: &BTreeMap<String, String>) -> u64 {
    let of = |name: &&str| {
        let line = stats.get(&format!("cmdstat_{name}"))?;
        line.strip_prefix("calls=")?.split(',').next()?.parse::<u64>().ok()
    };
    PUTS.iter().filter_map(of).sum()
}
