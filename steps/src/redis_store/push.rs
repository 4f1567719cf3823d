//! `push`: elements at an end of a list; undone by removing them, if no consumer has taken them.

use super::{
    Output,
    address::Place,
    info,
    link::{Link, Tries},
    origin::{Fate, Missing, Origin},
    puts::{self, Puts},
    value,
};
use crate::word::Word;
use engine::{
    ErrorClass, StepError,
    step::{Leftover, Presence, Settled, Undone},
};
use redis::{Pipeline, Value as Reply};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Elements to push.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// The key of the list.
    pub(super) key: String,
    /// One element: text, or a number as text.
    #[serde(default)]
    value: Option<Word>,
    /// Several elements, pushed one after the other.
    #[serde(default)]
    values: Option<Vec<Word>>,
    /// The end of the list; `right` if not given.
    #[serde(default)]
    side: Side,
}

/// An end of a list.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The head: `LPUSH`.
    Left,
    /// The tail: `RPUSH`.
    #[default]
    Right,
}

/// What was there before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Before {
    /// How often each distinct element was in the list already.
    equal: Vec<u64>,
    /// How long the list was.
    length: u64,
    /// How often the server had pushed at all, with the id of that server process: while it has pushed no more often,
    /// this step has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pushes: Option<(String, u64)>,
    /// How often anything had been put into lists of the server before it, and right after it, with the id of the process.
    #[serde(default)]
    pub(super) puts: Puts,
    #[serde(default)]
    pub(super) origin: Origin,
}

/// Why equal elements are left alone.
const UNSURE: &str =
    "others have put elements into lists of the server since: whether an equal one is ours nobody can tell";

/// Says that this process has removed the elements.
struct Removed;

fn removed_key(link: &Link<'_>) -> String {
    format!("redis {} {} {}", link.cx.services.run.id, link.cx.step, link.cx.attempt)
}

impl Before {
    /// How often anything had been put right after it.
    pub(super) fn put(&mut self, count: Option<u64>) {
        self.puts.after = count;
    }
}

/// A distinct element.
struct Element<'a> {
    word: &'a Word,
    /// How often it is pushed.
    pushed: u64,
    /// How often it was there before.
    before: u64,
}

impl Element<'_> {
    /// How many of those that are there now must be pushed ones.
    fn ours(&self, now: u64) -> u64 {
        now.saturating_sub(self.before).min(self.pushed)
    }
}

impl Push {
    fn words(&self) -> Result<&[Word], StepError> {
        match (&self.value, &self.values) {
            (Some(value), None) => Ok(std::slice::from_ref(value)),
            (None, Some(values)) if !values.is_empty() => Ok(values),
            _ => Err(StepError::new(
                ErrorClass::Invalid,
                format!(
                    "`push` to `{}`: expected either `value` or `values` with at least one element",
                    self.key
                ),
            )),
        }
    }

    fn elements(&self, before: Option<&Before>) -> Result<Vec<Element<'_>>, StepError> {
        let mut elements: Vec<Element<'_>> = Vec::new();
        for word in self.words()? {
            match elements.iter_mut().find(|element| element.word == word) {
                Some(element) => element.pushed += 1,
                None => elements.push(Element { word, pushed: 1, before: 0 }),
            }
        }
        if let Some(before) = before {
            for (element, equal) in elements.iter_mut().zip(&before.equal) {
                element.before = *equal;
            }
        }
        Ok(elements)
    }

    fn command(&self) -> &'static str {
        match self.side {
            Side::Left => "LPUSH",
            Side::Right => "RPUSH",
        }
    }

    /// For `LREM`: from the side of the push, where the newest are.
    fn signed(&self, count: u64) -> i64 {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        match self.side {
            Side::Left => count,
            Side::Right => -count,
        }
    }

    pub(super) async fn intend(&self, link: &mut Link<'_>) -> Result<Before, StepError> {
        let elements = self.elements(None)?;
        let key = link.cx.reveal(&self.key)?;
        link.require_type(key.expose().as_bytes(), &self.key, "list").await?;
        let pushes = self.pushes(link).await;
        let equal = counts(link, key.expose(), &elements).await?;
        let length = length(link, key.expose()).await?;
        let puts = Puts::before(link).await;
        Ok(Before { equal, length, pushes, puts, origin: Origin::of(link, &self.key).await? })
    }

    pub(super) async fn run(&self, link: &mut Link<'_>, before: &Before) -> Result<Output, StepError> {
        let key = link.cx.reveal(&self.key)?;
        let mut values = Vec::new();
        for word in self.words()? {
            values.push(link.cx.reveal(&word.0)?.expose().as_bytes().to_vec());
        }
        let mut changes = Pipeline::new();
        changes.atomic().cmd(self.command()).arg(key.expose()).arg(&values);
        let last = i64::try_from(values.len()).unwrap_or(i64::MAX);
        let (from, to) = match self.side {
            Side::Left => (0, last - 1),
            Side::Right => (-last, -1),
        };
        changes.cmd("LRANGE").arg(key.expose()).arg(from).arg(to);
        before.puts.ask(&mut changes);
        before.origin.put(link, &mut changes)?;
        let replies = link.commit(&changes).await?.unwrap_or_default();
        if let Side::Left = self.side {
            values.reverse();
        }
        let stored = replies.get(1).cloned().map(value::list).unwrap_or_default();
        if !stored.into_iter().eq(values.into_iter().map(Reply::BulkString)) {
            return Err(super::stored_otherwise(&self.key, link));
        }
        let length = replies.first().and_then(value::number).and_then(|length| u64::try_from(length).ok());
        let puts = replies.get(2).and_then(puts::count);
        Ok(Output { length, puts, earlier: Some(before.length > 0), ..Output::default() })
    }

    /// Whether equal elements that are there now must be ours: nobody else pushes these, or nobody has put anything into a
    /// list since. Otherwise ours may have been taken, and another's be there; in a list equal elements are the same.
    async fn is_sure(&self, link: &mut Link<'_>, before: &Before) -> bool {
        self.is_unique(link) || before.puts.nobody_since(link).await
    }

    /// Whether nobody else pushes these elements.
    fn is_unique(&self, link: &Link<'_>) -> bool {
        let unique = |word: &Word| word.0.contains(&link.cx.services.run.id);
        self.words().is_ok_and(|words| words.iter().all(unique))
    }

    pub(super) async fn settle(
        &self,
        link: &mut Link<'_>,
        before: &Before,
    ) -> Result<Settled<Output>, StepError> {
        let elements = self.elements(Some(before))?;
        let key = link.cx.reveal(&self.key)?;
        match before.origin.fate(link).await? {
            Fate::Never => return Ok(Settled::NotHappened),
            Fate::Happened => {
                let length = Some(length(link, key.expose()).await?);
                return Ok(Settled::Happened(Output {
                    length,
                    earlier: Some(before.length > 0),
                    ..Output::default()
                }));
            }
            Fate::Unclear(why) => return Ok(Settled::Unclear(why)),
            Fate::Unmarked => {}
        }
        if self.is_unique(link) && link.type_of(key.expose().as_bytes()).await? == "list" {
            let now = counts(link, key.expose(), &elements).await?;
            if elements.iter().zip(&now).all(|(element, now)| element.ours(*now) == element.pushed) {
                let length = length(link, key.expose()).await?;
                return Ok(Settled::Happened(Output {
                    length: Some(length),
                    earlier: Some(before.length > 0),
                    ..Output::default()
                }));
            }
        }
        if self.never_pushed(link, before).await {
            return Ok(Settled::NotHappened);
        }
        // To push again what a consumer has taken would do its work twice.
        Ok(Settled::Unclear(format!(
            "not all that was to be pushed is in the list `{}`: a consumer took it, or it was never pushed",
            self.key
        )))
    }

    pub(super) async fn undo(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        ran: bool,
    ) -> Result<Undone, StepError> {
        let elements = self.elements(Some(before))?;
        let key = link.cx.reveal(&self.key)?;
        match before.origin.fate(link).await? {
            Fate::Never if !ran => return Ok(Undone::NothingToDo),
            Fate::Unclear(why) if !ran => return Ok(Undone::CannotTell(self.unclear(link, &why))),
            Fate::Unmarked if !ran && self.never_pushed(link, before).await => {
                return Ok(Undone::NothingToDo);
            }
            Fate::Unmarked if !ran && !self.is_unique(link) => {
                return Ok(Undone::CannotTell(
                    self.unclear(link, "it is not known whether they were pushed"),
                ));
            }
            _ => {}
        }
        if link.type_of(key.expose().as_bytes()).await? != "list" {
            // A list that is empty, or gone for another value, holds none of ours.
            before.origin.clear(link).await?;
            return Ok(self.elsewhere(link, before).await?.unwrap_or(Undone::NothingToDo));
        }
        let mut values = Vec::new();
        for element in &elements {
            values.push(link.cx.reveal(&element.word.0)?);
        }
        let mut tries = Tries::default();
        let (removed, unsure) = loop {
            link.watch(&mut tries, key.expose().as_bytes()).await?;
            let now = counts(link, key.expose(), &elements).await?;
            if now.iter().any(|now| *now > 0) && !self.is_sure(link, before).await {
                link.unwatch().await?;
                before.origin.clear(link).await?;
                return Ok(Undone::CannotTell(self.unclear(link, UNSURE)));
            }
            let mut changes = Pipeline::new();
            changes.atomic();
            let (mut removed, mut unsure) = (0, false);
            for (at, (element, now)) in elements.iter().zip(now).enumerate() {
                let ours = element.ours(now);
                removed += ours;
                if ours > 0 {
                    changes.cmd("LREM").arg(key.expose()).arg(self.signed(ours)).arg(values[at].expose());
                }
                // Of equal elements that were there before more were taken than pushed: nobody can tell whose remain.
                unsure |= now > 0 && now < element.before;
            }
            if removed == 0 {
                link.unwatch().await?;
                before.origin.clear(link).await?;
                break (removed, unsure);
            }
            before.origin.take(link, &mut changes)?;
            if link.commit(&changes).await?.is_some() {
                break (removed, unsure);
            }
        };
        if removed > 0 {
            let mut resident = link.cx.services.resident.lock().await;
            resident.insert(removed_key(link), Box::new(Removed));
        }
        if unsure {
            let why = "equal elements were there before, more are taken than were pushed, and the rest may be either";
            return Ok(Undone::CannotTell(self.unclear(link, why)));
        }
        if removed > 0 {
            return Ok(Undone::Removed);
        }
        Ok(self.elsewhere(link, before).await?.unwrap_or(Undone::NothingToDo))
    }

    fn unclear(&self, link: &Link<'_>, why: &str) -> Leftover {
        let what = format!("pushed elements of list `{}`", self.key);
        link.leftover(what, why, link.place.type_in(&["LRANGE", &self.key, "0", "-1"]))
    }

    /// Where the elements may be if they are not in their list.
    async fn elsewhere(&self, link: &mut Link<'_>, before: &Before) -> Result<Option<Undone>, StepError> {
        let key = link.cx.reveal(&self.key)?;
        let Some(word) = self.words()?.first() else { return Ok(None) };
        let element = link.cx.reveal(&word.0)?;
        let ask = |key: &[u8]| redis::cmd("LPOS").arg(key).arg(element.expose()).clone();
        let is = |reply: &Reply| value::number(reply).is_some();
        Ok(match before.origin.missing(link, "list", key.expose(), ask, is).await? {
            Missing::Gone => None,
            Missing::Unclear(why) => Some(Undone::CannotTell(self.unclear(link, &why))),
            Missing::Renamed(to) => {
                let look: [&[u8]; 4] = [b"LRANGE", &to, b"0", b"-1"];
                Some(Undone::Left(super::renamed(link, "elements", &self.key, &to, &look)))
            }
        })
    }

    pub(super) async fn presence(&self, link: &mut Link<'_>, before: &Before) -> Result<Presence, StepError> {
        let elements = self.elements(Some(before))?;
        let key = link.cx.reveal(&self.key)?;
        // The server itself said that it removed them: what is equal is another's.
        let removed = link.cx.services.resident.lock().await.contains_key(&removed_key(link));
        if removed || link.type_of(key.expose().as_bytes()).await? != "list" {
            return Ok(Presence::Gone);
        }
        let now = counts(link, key.expose(), &elements).await?;
        if now.iter().any(|now| *now > 0) && !self.is_sure(link, before).await {
            return Ok(Presence::Unknown(UNSURE.into()));
        }
        let lines: Vec<String> = elements
            .iter()
            .zip(now)
            .filter(|(element, now)| element.ours(*now) > 0)
            .map(|(element, now)| self.remove(&link.place, element.word, element.ours(now)))
            .collect();
        if lines.is_empty() {
            return Ok(Presence::Gone);
        }
        let what = format!("pushed elements of list `{}`", self.key);
        Ok(Presence::Present(link.leftover(what, "they are still there", lines.join(" && "))))
    }

    /// The command that shows the list: whose equal elements are in it has to be seen first.
    pub(super) fn by_hand(&self, place: &Place) -> String {
        place.type_in(&["LRANGE", &self.key, "0", "-1"])
    }

    fn remove(&self, place: &Place, word: &Word, count: u64) -> String {
        let count = self.signed(count).to_string();
        place.type_bytes(&[b"LREM", self.key.as_bytes(), count.as_bytes(), word.0.as_bytes()])
    }

    /// Whether it is certain that the server has pushed nothing since.
    async fn never_pushed(&self, link: &mut Link<'_>, before: &Before) -> bool {
        before.pushes.is_some() && self.pushes(link).await == before.pushes
    }

    async fn pushes(&self, link: &mut Link<'_>) -> Option<(String, u64)> {
        let server = info::section(link, "server").await.ok()?;
        let stats = info::section(link, "commandstats").await.ok()?;
        let name = format!("cmdstat_{}", self.command().to_ascii_lowercase());
        let calls = match stats.get(&name) {
            Some(line) => line.strip_prefix("calls=")?.split(',').next()?.parse().ok()?,
            None => 0,
        };
        Some((server.get("run_id")?.clone(), calls))
    }
}

/// How often each element is in the list.
async fn counts(link: &mut Link<'_>, key: &str, elements: &[Element<'_>]) -> Result<Vec<u64>, StepError> {
    let mut counts = Vec::new();
    for element in elements {
        let mut command = redis::cmd("LPOS");
        command.arg(key).arg(link.cx.reveal(&element.word.0)?.expose()).arg("COUNT").arg(0);
        let found = value::list(link.ask(&command).await?);
        counts.push(u64::try_from(found.len()).unwrap_or(u64::MAX));
    }
    Ok(counts)
}

async fn length(link: &mut Link<'_>, key: &str) -> Result<u64, StepError> {
    let reply = link.ask(redis::cmd("LLEN").arg(key)).await?;
    Ok(value::number(&reply).and_then(|length| u64::try_from(length).ok()).unwrap_or(0))
}
