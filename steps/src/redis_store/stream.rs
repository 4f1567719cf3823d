//! `add`: an entry of a stream; undone by deleting it, and the stream with it if that was not there before.

use super::{
    Output,
    address::Place,
    fields::Fields,
    link::{Link, Tries},
    origin::{Fate, Missing, Origin},
    value,
};
use engine::{
    StepError,
    step::{Leftover, Presence, Settled, Undone},
};
use redis::{Pipeline, Value as Reply};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many entries are read at once.
const PAGE: usize = 500;
/// The id below all others.
const NONE: &str = "0-0";
/// How far in the future the id of each try is, in milliseconds.
const AHEAD: [u64; 5] = [0, 5, 25, 100, 250];
/// How often an id is made while others are faster.
const TRIES: usize = 20;

/// An entry to add.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// The key of the stream.
    pub(super) key: String,
    /// Values by field: text, or numbers as text.
    fields: Fields,
}

/// What was there before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Before {
    /// Whether the stream was there.
    existed: bool,
    /// The last id that it had given: the new entry's is above.
    last: String,
    /// The id that the new entry gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default)]
    pub(super) origin: Origin,
}

/// Entries that can be the one that was added.
enum Found {
    None,
    One(String),
    Several,
}

impl Add {
    pub(super) async fn intend(&self, link: &mut Link<'_>) -> Result<Before, StepError> {
        let key = link.cx.reveal(&self.key)?;
        let existed = link.require_type(key.expose().as_bytes(), &self.key, "stream").await?;
        let origin = Origin::of(link, &self.key).await?;
        let last = if existed { last(link, key.expose()).await? } else { NONE.into() };
        Ok(Before { existed, last, id: None, origin })
    }

    pub(super) async fn run(&self, link: &mut Link<'_>, before: &Before) -> Result<Output, StepError> {
        let key = link.cx.reveal(&self.key)?;
        let fields = self.words(link)?;
        // What tells it from all equal entries of others, known before there is one.
        let own = random(link, before);
        if link.cx.is_final()
            && let Some(id) = written(link, key.expose(), own, &fields).await?
        {
            return Ok(before.output(id));
        }
        for tries in 0.. {
            let last = match link.type_of(key.expose().as_bytes()).await?.as_str() {
                "stream" => last(link, key.expose()).await?,
                _ => NONE.into(),
            };
            let now = link.ask(&redis::cmd("TIME")).await.map(value::clock)?;
            // Others may go on adding while it is written down: each time a little later.
            let id = next(&last, u64::try_from(now).unwrap_or(0) + AHEAD[tries.min(AHEAD.len() - 1)], own);
            let known = Before { id: Some(id.clone()), ..before.clone() };
            link.cx.amend(&super::Intent::Add(known)).await?;
            let mut changes = Pipeline::new();
            changes.atomic().cmd("XADD").arg(key.expose()).arg(&id).arg(&fields);
            changes.cmd("XRANGE").arg(key.expose()).arg(&id).arg(&id);
            before.origin.put(link, &mut changes)?;
            let replies = match link.commit(&changes).await {
                Err(error)
                    if !error.outcome_unknown && tries < TRIES && self.overtaken(link, &id).await? =>
                {
                    // Its mark was made all the same.
                    before.origin.clear(link).await?;
                    continue;
                }
                replies => replies?.unwrap_or_default(),
            };
            let stored = replies.get(1).cloned().map(entries).unwrap_or_default();
            if stored != [(id.clone(), fields)] {
                return Err(super::stored_otherwise(&self.key, link));
            }
            return Ok(before.output(id));
        }
        Err(StepError::internal("a stream is never overtaken so often"))
    }

    /// Whether others have given a higher id meanwhile, so that this one is refused.
    async fn overtaken(&self, link: &mut Link<'_>, id: &str) -> Result<bool, StepError> {
        let key = link.cx.reveal(&self.key)?;
        if link.type_of(key.expose().as_bytes()).await? != "stream" {
            return Ok(false);
        }
        let last = last(link, key.expose()).await?;
        Ok(parts(&last) >= parts(id))
    }

    /// Fields and values, the secrets put in.
    fn words(&self, link: &Link<'_>) -> Result<Vec<Vec<u8>>, StepError> {
        let mut words = Vec::new();
        for (name, word) in &self.fields.0 {
            words.push(link.cx.reveal(name)?.expose().as_bytes().to_vec());
            words.push(link.cx.reveal(&word.0)?.expose().as_bytes().to_vec());
        }
        Ok(words)
    }

    pub(super) async fn settle(
        &self,
        link: &mut Link<'_>,
        before: &Before,
    ) -> Result<Settled<Output>, StepError> {
        match before.origin.fate(link).await? {
            Fate::Never => return Ok(Settled::NotHappened),
            Fate::Happened => {
                let id = before.id.clone().unwrap_or_default();
                return Ok(Settled::Happened(before.output(id)));
            }
            Fate::Unclear(why) => return Ok(Settled::Unclear(why)),
            Fate::Unmarked => {}
        }
        Ok(match self.find(link, before, before.id.as_deref()).await? {
            Found::None => Settled::NotHappened,
            Found::One(id) => Settled::Happened(before.output(id)),
            Found::Several => {
                Settled::Unclear(format!("several new entries of `{}` have its fields", self.key))
            }
        })
    }

    pub(super) async fn undo(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        output: Option<&Output>,
    ) -> Result<Undone, StepError> {
        let key = link.cx.reveal(&self.key)?;
        match before.origin.fate(link).await? {
            Fate::Never if output.is_none() => return Ok(Undone::NothingToDo),
            Fate::Unclear(why) if output.is_none() => {
                return Ok(Undone::CannotTell(self.unclear(link, before, &why)));
            }
            _ => {}
        }
        if link.type_of(key.expose().as_bytes()).await? != "stream" {
            before.origin.clear(link).await?;
            return Ok(self.elsewhere(link, before, output).await?.unwrap_or(Undone::NothingToDo));
        }
        let known = output.and_then(|output| output.id.clone()).or_else(|| before.id.clone());
        let happened = output.is_some() || before.id.is_some();
        let id = match self.find(link, before, known.as_deref()).await? {
            Found::One(id) => Some(id),
            Found::None => None,
            Found::Several => {
                return Ok(Undone::Left(link.leftover(
                    format!("an entry of stream `{}`", self.key),
                    "several new entries have its fields",
                    self.by_hand(&link.place, before),
                )));
            }
        };
        let mut tries = Tries::default();
        loop {
            link.watch(&mut tries, key.expose().as_bytes()).await?;
            let ours = match &id {
                Some(id) => entry(link, key.expose(), id).await?.is_some(),
                None => false,
            };
            let mut changes = Pipeline::new();
            changes.atomic();
            if let Some(id) = id.as_deref().filter(|_| ours) {
                changes.cmd("XDEL").arg(key.expose()).arg(id);
            }
            let whole = !before.existed && (ours || happened) && unused(link, key.expose(), ours).await?;
            if whole {
                changes.cmd("DEL").arg(key.expose());
            }
            if !ours && !whole {
                link.unwatch().await?;
                before.origin.clear(link).await?;
                return Ok(self.elsewhere(link, before, output).await?.unwrap_or(Undone::NothingToDo));
            }
            before.origin.take(link, &mut changes)?;
            if link.commit(&changes).await?.is_some() {
                return Ok(Undone::Removed);
            }
        }
    }

    pub(super) async fn presence(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        output: Option<&Output>,
    ) -> Result<Presence, StepError> {
        let key = link.cx.reveal(&self.key)?;
        if link.type_of(key.expose().as_bytes()).await? != "stream" {
            return Ok(Presence::Gone);
        }
        let known = output.and_then(|output| output.id.as_deref()).or(before.id.as_deref());
        Ok(match self.find(link, before, known).await? {
            Found::None => Presence::Gone,
            Found::One(id) => Presence::Present(link.leftover(
                format!("entry `{id}` of stream `{}`", self.key),
                "it is still there",
                link.place.type_in(&["XDEL", &self.key, &id]),
            )),
            Found::Several => {
                Presence::Unknown(format!("several new entries of `{}` have its fields", self.key))
            }
        })
    }

    fn unclear(&self, link: &Link<'_>, before: &Before, why: &str) -> Leftover {
        link.leftover(format!("an entry of stream `{}`", self.key), why, self.by_hand(&link.place, before))
    }

    /// Where the entry may be if it is not in its stream.
    async fn elsewhere(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        output: Option<&Output>,
    ) -> Result<Option<Undone>, StepError> {
        let key = link.cx.reveal(&self.key)?;
        let wanted = self.words(link)?;
        let id = output.and_then(|output| output.id.clone()).or_else(|| before.id.clone());
        let Some(id) = id else { return Ok(None) };
        let ask = |key: &[u8]| redis::cmd("XRANGE").arg(key).arg(&id).arg(&id).clone();
        let is = |reply: &Reply| entries(reply.clone()).iter().any(|(_, fields)| *fields == wanted);
        Ok(match before.origin.missing(link, "stream", key.expose(), ask, is).await? {
            Missing::Gone => None,
            Missing::Unclear(why) => Some(Undone::CannotTell(self.unclear(link, before, &why))),
            Missing::Renamed(to) => {
                let gone: [&[u8]; 3] = [b"XDEL", &to, id.as_bytes()];
                Some(Undone::Left(super::renamed(link, "entry", &self.key, &to, &gone)))
            }
        })
    }

    /// The command that shows the entries that came since: which id the new one got, only the server knew.
    pub(super) fn by_hand(&self, place: &Place, before: &Before) -> String {
        place.type_in(&["XRANGE", &self.key, &after(&before.last), "+"])
    }

    async fn find(&self, link: &mut Link<'_>, before: &Before, id: Option<&str>) -> Result<Found, StepError> {
        let key = link.cx.reveal(&self.key)?;
        let wanted = self.words(link)?;
        if let Some(id) = id {
            // Entries never change; other fields mean that another stream has taken the place of this one.
            let same = entry(link, key.expose(), id).await?.is_some_and(|fields| fields == wanted);
            return Ok(if same { Found::One(id.to_owned()) } else { Found::None });
        }
        if link.type_of(key.expose().as_bytes()).await? != "stream" {
            return Ok(Found::None);
        }
        // The run died before it learned the id: only a new entry with exactly these fields can be ours.
        let (mut from, mut found) = (after(&before.last), Found::None);
        loop {
            let page = range(link, key.expose(), &from, "+", PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            from = after(last);
            for (id, fields) in page {
                if fields == wanted {
                    found = match found {
                        Found::None => Found::One(id),
                        Found::One(_) | Found::Several => return Ok(Found::Several),
                    };
                }
            }
        }
    }
}

impl Before {
    /// The id under which the entry was stored.
    pub(super) fn is_at(&mut self, id: Option<String>) {
        self.id = id;
    }

    fn output(&self, id: String) -> Output {
        Output { id: Some(id), earlier: Some(self.existed), ..Output::default() }
    }
}

/// The two numbers of an id.
fn parts(id: &str) -> (u64, u64) {
    let (ms, sequence) = id.split_once('-').unwrap_or((id, "0"));
    (ms.parse().unwrap_or(0), sequence.parse().unwrap_or(0))
}

/// An id above the last one, at that time if it can be, that nobody else gives.
fn next(last: &str, now: u64, own: u64) -> String {
    let (ms, sequence) = parts(last);
    match ms.checked_add(1) {
        Some(after) => format!("{}-{own}", now.max(after)),
        None => format!("{ms}-{}", sequence.saturating_add(1)),
    }
}

/// A number of the attempt's own, not 0; of a step that is final the same each time it is carried out.
fn random(link: &Link<'_>, before: &Before) -> u64 {
    let cx = link.cx;
    let seed = match cx.is_final() {
        true => format!("{} {} {}", cx.services.run.id, cx.step, cx.undoing),
        false => format!("{:?} {}", before, engine::local::process::Tree::new().marker),
    };
    let digest = Sha256::digest(seed);
    digest.iter().take(5).fold(0, |number, byte| number << 8 | u64::from(*byte)) | 1
}

/// The id of the entry that a step which is carried out again has written already.
async fn written(
    link: &mut Link<'_>,
    key: &str,
    own: u64,
    fields: &[Vec<u8>],
) -> Result<Option<String>, StepError> {
    if link.type_of(key.as_bytes()).await? != "stream" {
        return Ok(None);
    }
    let mut newest = redis::cmd("XREVRANGE");
    newest.arg(key).arg("+").arg("-").arg("COUNT").arg(PAGE);
    let found = entries(link.ask(&newest).await?);
    let is = |(id, found): &(String, Vec<Vec<u8>>)| parts(id).1 == own && found == fields;
    Ok(found.into_iter().find(is).map(|(id, _)| id))
}

/// The last id that a stream has given.
async fn last(link: &mut Link<'_>, key: &str) -> Result<String, StepError> {
    let reply = link.ask(redis::cmd("XINFO").arg("STREAM").arg(key)).await?;
    let last = value::field(&reply, "last-generated-id");
    Ok(last.as_ref().and_then(value::text).unwrap_or(NONE).to_owned())
}

/// The smallest id above this one.
fn after(id: &str) -> String {
    let (ms, sequence) = parts(id);
    match sequence.checked_add(1) {
        Some(sequence) => format!("{ms}-{sequence}"),
        None => format!("{}-0", ms.saturating_add(1)),
    }
}

/// Ids with the fields and values behind them, in order.
type Entries = Vec<(String, Vec<Vec<u8>>)>;

async fn range(
    link: &mut Link<'_>,
    key: &str,
    from: &str,
    to: &str,
    count: usize,
) -> Result<Entries, StepError> {
    let reply = link.ask(redis::cmd("XRANGE").arg(key).arg(from).arg(to).arg("COUNT").arg(count)).await?;
    Ok(entries(reply))
}

fn entries(reply: Reply) -> Entries {
    let entries = value::list(reply).into_iter().filter_map(|entry| {
        let mut parts = value::list(entry).into_iter();
        let id = value::text(&parts.next()?)?.to_owned();
        let fields = value::list(parts.next()?).into_iter().map(|part| match part {
            Reply::BulkString(bytes) => bytes,
            _ => Vec::new(),
        });
        Some((id, fields.collect()))
    });
    entries.collect()
}

/// Whether the stream holds nothing but `ours`, and nobody has made groups in it: such a stream would be theirs.
async fn unused(link: &mut Link<'_>, key: &str, ours: bool) -> Result<bool, StepError> {
    if link.type_of(key.as_bytes()).await? != "stream" {
        return Ok(false);
    }
    let length = link.ask(redis::cmd("XLEN").arg(key)).await?;
    if value::number(&length) != Some(i64::from(ours)) {
        return Ok(false);
    }
    let groups = link.ask(redis::cmd("XINFO").arg("GROUPS").arg(key)).await?;
    Ok(value::list(groups).is_empty())
}

async fn entry(link: &mut Link<'_>, key: &str, id: &str) -> Result<Option<Vec<Vec<u8>>>, StepError> {
    Ok(range(link, key, id, id, 1).await?.into_iter().next().map(|(_, fields)| fields))
}

#[cfg(test)]
mod tests {
    use super::{after, next};

    #[test]
    fn the_next_id_follows_at_once() {
        assert_eq!(after("0-0"), "0-1");
        assert_eq!(after("1700000000000-9"), "1700000000000-10");
        assert_eq!(after("5-18446744073709551615"), "6-0");
        assert_eq!(next("5-7", 9, 3), "9-3");
        assert_eq!(next("9-7", 9, 3), "10-3");
        assert_eq!(next("18446744073709551615-7", 9, 3), "18446744073709551615-8");
    }
}
