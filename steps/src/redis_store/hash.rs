//! `hash`: fields of a hash; undone field by field.

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
    step::{Presence, Settled, Undone},
};
use redis::{Pipeline, Value as Reply};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Fields to set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hash {
    /// The key of the hash.
    pub(super) key: String,
    /// Values by field: text, or numbers as text.
    pub(super) fields: Fields,
}

/// What the fields held before, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Before {
    values: Vec<Option<Value>>,
    /// When the whole hash was to expire, in milliseconds since 1970 by the server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    #[serde(default)]
    pub(super) origin: Origin,
}

/// A field with its three values, the secrets in place.
struct Field {
    name: Vec<u8>,
    earlier: Option<Vec<u8>>,
    set: Vec<u8>,
    now: Option<Vec<u8>>,
    /// Whether what was there before had to live no longer than until now.
    expired: bool,
}

/// What a field has become.
#[derive(Clone, Copy, PartialEq)]
enum Turned {
    AsBefore,
    AsSet,
    Changed,
}

impl Field {
    fn turned(&self) -> Turned {
        match &self.now {
            now if *now == self.earlier => Turned::AsBefore,
            Some(now) if *now == self.set => Turned::AsSet,
            // Who removed a field that was not there before did what the undo would; so did the server's clock.
            None if self.earlier.is_none() || self.expired => Turned::AsBefore,
            _ => Turned::Changed,
        }
    }
}

impl Hash {
    pub(super) async fn intend(&self, link: &mut Link<'_>) -> Result<Before, StepError> {
        let key = link.cx.reveal(&self.key)?;
        link.require_type(key.expose().as_bytes(), &self.key, "hash").await?;
        let now = self.look(link, key.expose()).await?;
        super::fits(&self.key, link, now.iter().flatten().map(Vec::len).sum())?;
        let keep = |value: &Option<Vec<u8>>| {
            value.as_deref().map(|value| value::kept(link.cx, &self.key, value)).transpose()
        };
        let values = now.iter().map(keep).collect::<Result<_, _>>()?;
        let left = link.ask(redis::cmd("PTTL").arg(key.expose())).await?;
        let expires_at = match value::number(&left) {
            Some(left) if left >= 0 => Some(clock(link).await?.saturating_add(left)),
            _ => None,
        };
        Ok(Before { values, expires_at, origin: Origin::of(link, &self.key).await? })
    }

    pub(super) async fn run(&self, link: &mut Link<'_>, before: &Before) -> Result<Output, StepError> {
        let key = link.cx.reveal(&self.key)?;
        let fields = self.with_before(link, before)?;
        let mut changes = Pipeline::new();
        changes.atomic().cmd("HSET").arg(key.expose());
        for field in &fields {
            changes.arg(&field.name).arg(&field.set);
        }
        changes.cmd("HMGET").arg(key.expose());
        for field in &fields {
            changes.arg(&field.name);
        }
        before.origin.put(link, &mut changes)?;
        let mut tries = Tries::default();
        let replies = loop {
            link.watch(&mut tries, key.expose().as_bytes()).await?;
            let now = self.look(link, key.expose()).await?;
            // Nothing may be overwritten that the undo does not know of.
            if fields.iter().zip(&now).any(|(field, now)| field.earlier != *now) {
                return Err(super::changed_meanwhile(&self.key, link));
            }
            if let Some(replies) = link.commit(&changes).await? {
                break replies;
            }
        };
        let stored = replies.get(1).cloned().map(value::list).unwrap_or_default();
        let same = |(field, stored): (&Field, &Reply)| *stored == Reply::BulkString(field.set.clone());
        if stored.len() != fields.len() || !fields.iter().zip(&stored).all(same) {
            return Err(super::stored_otherwise(&self.key, link));
        }
        let value = replies.into_iter().next().map(|reply| value::to_json(&["HSET"], reply));
        Ok(Output { value: value.unwrap_or_default(), ..before.output() })
    }

    pub(super) async fn settle(
        &self,
        link: &mut Link<'_>,
        before: &Before,
    ) -> Result<Settled<Output>, StepError> {
        match before.origin.fate(link).await? {
            Fate::Never => return Ok(Settled::NotHappened),
            Fate::Happened => return Ok(Settled::Happened(before.output())),
            Fate::Unclear(why) => return Ok(Settled::Unclear(why)),
            Fate::Unmarked => {}
        }
        let turned: Vec<Turned> = self.fields(link, before).await?.iter().map(Field::turned).collect();
        Ok(match turned.as_slice() {
            all if all.iter().all(|turned| *turned == Turned::AsBefore) => Settled::NotHappened,
            _ if !self.is_unique(link) => {
                Settled::Unclear(format!("fields of `{}` hold the values, perhaps by another", self.key))
            }
            all if !all.contains(&Turned::Changed) => Settled::Happened(before.output()),
            _ => Settled::Unclear(format!("fields of `{}` hold other values", self.key)),
        })
    }

    /// Whether nobody else writes these values.
    fn is_unique(&self, link: &Link<'_>) -> bool {
        self.fields.0.iter().any(|(_, word)| word.0.contains(&link.cx.services.run.id))
    }

    pub(super) async fn undo(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        ran: bool,
    ) -> Result<Undone, StepError> {
        let all: Vec<usize> = (0..before.values.len()).collect();
        match before.origin.fate(link).await? {
            Fate::Never if !ran => return Ok(Undone::NothingToDo),
            Fate::Unclear(why) if !ran => {
                return Ok(super::cannot_tell(self.changed(link, before, &all, &why)));
            }
            Fate::Unmarked if !ran && !self.is_unique(link) => {
                let fields = self.fields(link, before).await?;
                let why = "it is not known who set it";
                if fields.iter().any(|field| field.turned() == Turned::AsSet) {
                    return Ok(super::cannot_tell(self.changed(link, before, &all, why)));
                }
            }
            _ => {}
        }
        let key = link.cx.reveal(&self.key)?;
        match link.type_of(key.expose().as_bytes()).await?.as_str() {
            "hash" | "none" => {}
            _ => {
                before.origin.clear(link).await?;
                return Ok(self.changed(link, before, &all, "another put a value of another type there"));
            }
        }
        let mut tries = Tries::default();
        let turned = loop {
            link.watch(&mut tries, key.expose().as_bytes()).await?;
            let fields = self.fields(link, before).await?;
            let turned: Vec<Turned> = fields.iter().map(Field::turned).collect();
            if !turned.contains(&Turned::AsSet) {
                link.unwatch().await?;
                break turned;
            }
            let mut changes = restore(key.expose(), &fields);
            before.origin.take(link, &mut changes)?;
            if link.commit(&changes).await?.is_some() {
                break turned;
            }
        };
        if !turned.contains(&Turned::AsSet) {
            before.origin.clear(link).await?;
            if let Some(elsewhere) = self.elsewhere(link, before).await? {
                return Ok(elsewhere);
            }
        }
        let changed: Vec<usize> =
            (0..turned.len()).filter(|place| turned[*place] == Turned::Changed).collect();
        Ok(match (changed.is_empty(), turned.contains(&Turned::AsSet)) {
            (false, _) => self.changed(link, before, &changed, "another changed it since it was set"),
            (true, true) => Undone::Removed,
            (true, false) => Undone::NothingToDo,
        })
    }

    /// Where the fields may be if they are not in their hash.
    async fn elsewhere(&self, link: &mut Link<'_>, before: &Before) -> Result<Option<Undone>, StepError> {
        let key = link.cx.reveal(&self.key)?;
        let fields = self.with_before(link, before)?;
        let ask = |key: &[u8]| {
            let mut command = redis::cmd("HMGET");
            command.arg(key);
            for field in &fields {
                command.arg(&field.name);
            }
            command
        };
        let is = |reply: &Reply| {
            let wanted = fields.iter().map(|field| Reply::BulkString(field.set.clone()));
            value::list(reply.clone()).into_iter().eq(wanted)
        };
        Ok(match before.origin.missing(link, "hash", key.expose(), ask, is).await? {
            Missing::Gone => None,
            Missing::Unclear(why) => {
                let all: Vec<usize> = (0..before.values.len()).collect();
                Some(super::cannot_tell(self.changed(link, before, &all, &why)))
            }
            Missing::Renamed(to) => {
                let mut look: Vec<&[u8]> = vec![b"HMGET", &to];
                look.extend(self.fields.0.iter().map(|(name, _)| name.as_bytes()));
                Some(Undone::Left(super::renamed(link, "fields", &self.key, &to, &look)))
            }
        })
    }

    pub(super) async fn presence(&self, link: &mut Link<'_>, before: &Before) -> Result<Presence, StepError> {
        let key = link.cx.reveal(&self.key)?;
        if link.type_of(key.expose().as_bytes()).await? != "hash" {
            return Ok(Presence::Gone);
        }
        let fields = self.fields(link, before).await?;
        let ours: Vec<usize> =
            (0..fields.len()).filter(|place| fields[*place].turned() == Turned::AsSet).collect();
        if ours.is_empty() {
            return Ok(Presence::Gone);
        }
        Ok(match self.left(link, before, &ours, "it is still as it was set") {
            Undone::Left(left) | Undone::CannotTell(left) => Presence::Present(left),
            Undone::Removed | Undone::NothingToDo => Presence::Gone,
        })
    }

    /// The command that puts all fields back.
    pub(super) fn by_hand(&self, place: &Place, before: &Before) -> String {
        self.put_back(place, before, &(0..before.values.len()).collect::<Vec<_>>())
    }

    fn put_back(&self, place: &Place, before: &Before, which: &[usize]) -> String {
        let mut gone: Vec<&[u8]> = vec![b"HDEL", self.key.as_bytes()];
        let mut lines = Vec::new();
        for at in which {
            let Some((name, _)) = self.fields.0.get(*at) else { continue };
            match before.values.get(*at).and_then(Option::as_ref) {
                None => gone.push(name.as_bytes()),
                Some(value) => lines.push(place.type_bytes(&[
                    b"HSET",
                    self.key.as_bytes(),
                    name.as_bytes(),
                    &value::shown(value),
                ])),
            }
        }
        if gone.len() > 2 {
            lines.push(place.type_bytes(&gone));
        }
        lines.join(" && ")
    }

    fn left(&self, link: &Link<'_>, before: &Before, which: &[usize], why: &str) -> Undone {
        Undone::Left(link.leftover(self.named(which), why, self.put_back(&link.place, before, which)))
    }

    /// What another made of them is shown, never overwritten; what was there before is told with it.
    fn changed(&self, link: &Link<'_>, before: &Before, which: &[usize], why: &str) -> Undone {
        let was = which.iter().any(|at| before.values.get(*at).is_some_and(Option::is_some));
        let why = super::with_earlier(why, &self.put_back(&link.place, before, which), was);
        let mut look: Vec<&[u8]> = vec![b"HMGET", self.key.as_bytes()];
        look.extend(which.iter().filter_map(|at| self.fields.0.get(*at)).map(|(name, _)| name.as_bytes()));
        Undone::Left(link.leftover(self.named(which), &why, link.place.type_bytes(&look)))
    }

    fn named(&self, which: &[usize]) -> String {
        let names: Vec<String> = which
            .iter()
            .filter_map(|at| self.fields.0.get(*at))
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        let plural = if names.len() == 1 { "" } else { "s" };
        format!("field{plural} {} of hash `{}`", names.join(", "), self.key)
    }

    /// The values of the fields now.
    async fn look(&self, link: &mut Link<'_>, key: &str) -> Result<Vec<Option<Vec<u8>>>, StepError> {
        let mut command = redis::cmd("HMGET");
        command.arg(key);
        for (name, _) in &self.fields.0 {
            command.arg(link.cx.reveal(name)?.expose());
        }
        let found = value::list(link.ask(&command).await?).into_iter();
        Ok(found
            .map(|value| match value {
                Reply::BulkString(bytes) => Some(bytes),
                _ => None,
            })
            .collect())
    }

    /// The fields with what they held and what they get.
    fn with_before(&self, link: &Link<'_>, before: &Before) -> Result<Vec<Field>, StepError> {
        let fields = self.fields.0.iter().zip(&before.values);
        fields
            .map(|((name, set), earlier)| {
                Ok(Field {
                    name: link.cx.reveal(name)?.expose().as_bytes().to_vec(),
                    earlier: earlier.as_ref().map(|value| value::restored(link.cx, value)).transpose()?,
                    set: link.cx.reveal(&set.0)?.expose().as_bytes().to_vec(),
                    now: None,
                    expired: false,
                })
            })
            .collect()
    }

    async fn fields(&self, link: &mut Link<'_>, before: &Before) -> Result<Vec<Field>, StepError> {
        let key = link.cx.reveal(&self.key)?;
        let now = self.look(link, key.expose()).await?;
        let known = self.with_before(link, before)?;
        let expired = match before.expires_at {
            Some(at) => at <= clock(link).await?,
            None => false,
        };
        Ok(known.into_iter().zip(now).map(|(field, now)| Field { now, expired, ..field }).collect())
    }
}

impl Before {
    fn output(&self) -> Output {
        Output { earlier: Some(self.values.iter().any(Option::is_some)), ..Output::default() }
    }
}

/// The server's clock.
async fn clock(link: &mut Link<'_>) -> Result<i64, StepError> {
    link.ask(&redis::cmd("TIME")).await.map(value::clock)
}

fn restore(key: &str, fields: &[Field]) -> Pipeline {
    let mut changes = Pipeline::new();
    changes.atomic();
    for field in fields.iter().filter(|field| field.turned() == Turned::AsSet) {
        match &field.earlier {
            Some(value) => changes.cmd("HSET").arg(key).arg(&field.name).arg(value),
            // With its last field the server removes the hash.
            None => changes.cmd("HDEL").arg(key).arg(&field.name),
        };
    }
    changes
}
