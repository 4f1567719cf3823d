//! `add`: an entry of a stream; undone by deleting it, and the stream with it if that was not there before.

use super::{
    Output,
    address::Place,
    fields::Fields,
    link::{Link, Tries},
    value,
};
use engine::{
    StepError,
    step::{Presence, Settled, Undone},
};
use redis::{Pipeline, Value as Reply};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many entries are read at once.
const PAGE: usize = 500;

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
        if !link.require_type(key.expose().as_bytes(), &self.key, "stream").await? {
            return Ok(Before { existed: false, last: "0-0".into() });
        }
        let reply = link.ask(redis::cmd("XINFO").arg("STREAM").arg(key.expose())).await?;
        let last = value::field(&reply, "last-generated-id");
        let last = last.as_ref().and_then(value::text).unwrap_or("0-0").to_owned();
        Ok(Before { existed: true, last })
    }

    pub(super) async fn run(&self, link: &mut Link<'_>, before: &Before) -> Result<Output, StepError> {
        let mut command = redis::cmd("XADD");
        command.arg(link.cx.reveal(&self.key)?.expose()).arg("*");
        for (name, word) in &self.fields.0 {
            command.arg(link.cx.reveal(name)?.expose()).arg(link.cx.reveal(&word.0)?.expose());
        }
        let reply = link.change(&command).await?;
        Ok(before.output(value::text(&reply).unwrap_or_default().to_owned()))
    }

    pub(super) async fn settle(
        &self,
        link: &mut Link<'_>,
        before: &Before,
    ) -> Result<Settled<Output>, StepError> {
        Ok(match self.find(link, before, None).await? {
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
        if link.type_of(key.expose().as_bytes()).await? != "stream" {
            return Ok(Undone::NothingToDo);
        }
        let known = output.and_then(|output| output.id.clone());
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
            let whole =
                !before.existed && (ours || output.is_some()) && unused(link, key.expose(), ours).await?;
            if whole {
                changes.cmd("DEL").arg(key.expose());
            }
            if !ours && !whole {
                link.unwatch().await?;
                return Ok(Undone::NothingToDo);
            }
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
        let known = output.and_then(|output| output.id.as_deref());
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

    /// The command that shows the entries that came since: which id the new one got, only the server knew.
    pub(super) fn by_hand(&self, place: &Place, before: &Before) -> String {
        place.type_in(&["XRANGE", &self.key, &after(&before.last), "+"])
    }

    async fn find(&self, link: &mut Link<'_>, before: &Before, id: Option<&str>) -> Result<Found, StepError> {
        let key = link.cx.reveal(&self.key)?;
        let mut wanted = Vec::new();
        for (name, word) in &self.fields.0 {
            wanted.push(link.cx.reveal(name)?.expose().as_bytes().to_vec());
            wanted.push(link.cx.reveal(&word.0)?.expose().as_bytes().to_vec());
        }
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
    fn output(&self, id: String) -> Output {
        Output { id: Some(id), earlier: Some(self.existed), ..Output::default() }
    }
}

/// The smallest id above this one.
fn after(id: &str) -> String {
    let (ms, sequence) = id.split_once('-').unwrap_or((id, "0"));
    let (ms, sequence): (u64, u64) = (ms.parse().unwrap_or(0), sequence.parse().unwrap_or(0));
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
    let entries = value::list(reply).into_iter().filter_map(|entry| {
        let mut parts = value::list(entry).into_iter();
        let id = value::text(&parts.next()?)?.to_owned();
        let fields = value::list(parts.next()?).into_iter().map(|part| match part {
            Reply::BulkString(bytes) => bytes,
            _ => Vec::new(),
        });
        Some((id, fields.collect()))
    });
    Ok(entries.collect())
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
    use super::after;

    #[test]
    fn the_next_id_follows_at_once() {
        assert_eq!(after("0-0"), "0-1");
        assert_eq!(after("1700000000000-9"), "1700000000000-10");
        assert_eq!(after("5-18446744073709551615"), "6-0");
    }
}
