//! `set`: a text at a key; undone by putting back what was there, with the time it had to live.

use super::{
    Output,
    link::{Link, Tries},
    origin::{Fate, Missing, Origin},
    value,
    value::number,
};
use crate::word::Word;
use engine::{
    ErrorClass, StepError,
    quantity::Millis,
    step::{Presence, Settled, Undone},
};
use redis::{Pipeline, Value as Reply};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Expiries that are this close are the same: the server tells them by a clock that goes on. Milliseconds.
const SLACK: i64 = 1_000;

/// A text to set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The key.
    pub(super) key: String,
    /// The text, or a number as text.
    value: Word,
    /// After this time the server removes the key by itself; never if not given.
    #[serde(default)]
    ttl: Option<Millis>,
}

/// What was there before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Before {
    /// The text, if there was one.
    value: Option<Value>,
    /// When it was to expire, in milliseconds since 1970 by the server's clock.
    expires_at: Option<i64>,
    /// When that was seen, by the same clock.
    seen_at: i64,
    #[serde(default)]
    pub(super) origin: Origin,
}

/// What is there now.
struct Now {
    value: Option<Vec<u8>>,
    expires_at: Option<i64>,
    at: i64,
}

/// What the key has become.
enum Turned {
    /// As before, or gone where nothing was before.
    AsBefore,
    /// As this step set it.
    AsSet,
    /// Gone, because the time that this step gave it is over.
    Expired,
    /// Somebody else removed it.
    Gone,
    /// Somebody else changed it.
    Changed,
}

impl Set {
    pub(super) async fn intend(&self, link: &mut Link<'_>) -> Result<Before, StepError> {
        let key = link.cx.reveal(&self.key)?;
        link.require_type(key.expose().as_bytes(), &self.key, "string").await?;
        // Asked first: a text of half a gigabyte is not to be read only to be refused.
        let length = link.ask(redis::cmd("STRLEN").arg(key.expose())).await?;
        let length = number(&length).and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        super::fits(&self.key, link, length)?;
        let now = look(link, key.expose()).await?;
        let kept = |bytes: &Vec<u8>| value::kept(link.cx, &self.key, bytes);
        let value = now.value.as_ref().map(kept).transpose()?;
        let origin = Origin::of(link, &self.key).await?;
        Ok(Before { value, expires_at: now.expires_at, seen_at: now.at, origin })
    }

    pub(super) async fn run(&self, link: &mut Link<'_>, before: &Before) -> Result<Output, StepError> {
        if self.ttl == Some(Millis(0)) {
            return Err(StepError::new(ErrorClass::Invalid, "`ttl` is 0: expected a time, such as `10s`"));
        }
        let (key, value) = (link.cx.reveal(&self.key)?, link.cx.reveal(&self.value.0)?);
        let earlier = before.bytes(link)?;
        let mut command = redis::cmd("SET");
        command.arg(key.expose()).arg(value.expose());
        if let Some(ttl) = self.ttl {
            command.arg("PX").arg(ttl.0);
        }
        let mut changes = Pipeline::new();
        changes.atomic().add_command(command).cmd("GET").arg(key.expose());
        before.origin.put(link, &mut changes)?;
        let mut tries = Tries::default();
        let replies = loop {
            link.watch(&mut tries, key.expose().as_bytes()).await?;
            // Nothing may be overwritten that the undo does not know of.
            if !before.is(&look(link, key.expose()).await?, earlier.as_deref()) {
                return Err(super::changed_meanwhile(&self.key, link));
            }
            if let Some(replies) = link.commit(&changes).await? {
                break replies;
            }
        };
        match replies.get(1) {
            Some(Reply::BulkString(stored)) if *stored == value.expose().as_bytes() => {}
            _ => return Err(super::stored_otherwise(&self.key, link)),
        }
        Ok(Output { earlier: Some(before.value.is_some()), ..Output::default() })
    }

    pub(super) async fn settle(
        &self,
        link: &mut Link<'_>,
        before: &Before,
    ) -> Result<Settled<Output>, StepError> {
        let happened = Output { earlier: Some(before.value.is_some()), ..Output::default() };
        match before.origin.fate(link).await? {
            Fate::Never => return Ok(Settled::NotHappened),
            Fate::Happened => return Ok(Settled::Happened(happened)),
            Fate::Unclear(why) => return Ok(Settled::Unclear(why)),
            Fate::Unmarked => {}
        }
        Ok(match self.now(link, before).await? {
            Turned::AsSet | Turned::Expired if self.is_unique(link) => Settled::Happened(happened),
            Turned::AsSet | Turned::Expired => {
                Settled::Unclear(format!("the key `{}` holds the value, perhaps by another", self.key))
            }
            // To set it again is no harm where it was set and removed since.
            Turned::AsBefore => Settled::NotHappened,
            Turned::Gone => Settled::Unclear(format!("the key `{}` is gone", self.key)),
            Turned::Changed => Settled::Unclear(format!("the key `{}` holds another value", self.key)),
        })
    }

    /// Whether nobody else writes this value.
    fn is_unique(&self, link: &Link<'_>) -> bool {
        self.value.0.contains(&link.cx.services.run.id)
    }

    pub(super) async fn undo(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        ran: bool,
    ) -> Result<Undone, StepError> {
        match before.origin.fate(link).await? {
            Fate::Never if !ran => return Ok(Undone::NothingToDo),
            Fate::Unclear(why) if !ran => return Ok(self.unclear(link, before, &why)),
            Fate::Unmarked if !ran && !self.is_unique(link) => {
                if matches!(self.now(link, before).await?, Turned::AsSet) {
                    return Ok(self.unclear(link, before, "it is not known who set it"));
                }
            }
            _ => {}
        }
        let (key, value) = (link.cx.reveal(&self.key)?, link.cx.reveal(&self.value.0)?);
        match link.type_of(key.expose().as_bytes()).await?.as_str() {
            "string" | "none" => {}
            kind => {
                let why = format!("another put a {kind} there");
                let look = link.place.type_in(&["TYPE", &self.key]);
                return Ok(self.changed(link, before, &why, look));
            }
        }
        let earlier = before.bytes(link)?;
        let mut tries = Tries::default();
        let turned = loop {
            link.watch(&mut tries, key.expose().as_bytes()).await?;
            let now = look(link, key.expose()).await?;
            let turned = self.turned(before, earlier.as_deref(), &now, value.expose().as_bytes());
            if !matches!(turned, Turned::AsSet | Turned::Expired) {
                link.unwatch().await?;
                break turned;
            }
            let mut changes = before.restore(key.expose(), earlier.as_deref(), now.at);
            before.origin.take(link, &mut changes)?;
            if link.commit(&changes).await?.is_some() {
                break turned;
            }
        };
        if !matches!(turned, Turned::AsSet | Turned::Expired) {
            before.origin.clear(link).await?;
            if let Some(elsewhere) = self.elsewhere(link, before, value.expose().as_bytes()).await? {
                return Ok(elsewhere);
            }
        }
        Ok(match turned {
            Turned::AsSet | Turned::Expired => Undone::Removed,
            Turned::AsBefore => Undone::NothingToDo,
            Turned::Gone => self.changed(
                link,
                before,
                "another removed it, and the value from before is not back",
                link.place.type_in(&["EXISTS", &self.key]),
            ),
            Turned::Changed => {
                let look = link.place.type_in(&["GET", &self.key]);
                self.changed(link, before, "another changed it since it was set", look)
            }
        })
    }

    /// Where the value may be if it is not at its key.
    async fn elsewhere(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        value: &[u8],
    ) -> Result<Option<Undone>, StepError> {
        let (key, wanted) = (link.cx.reveal(&self.key)?, Reply::BulkString(value.to_vec()));
        let ask = |key: &[u8]| redis::cmd("GET").arg(key).clone();
        let missing =
            before.origin.missing(link, "string", key.expose(), ask, |reply| *reply == wanted).await?;
        Ok(match missing {
            Missing::Gone => None,
            Missing::Unclear(why) => Some(self.unclear(link, before, &why)),
            Missing::Renamed(to) => {
                Some(Undone::Left(super::renamed(link, "value", &self.key, &to, &[b"GET", &to])))
            }
        })
    }

    fn unclear(&self, link: &Link<'_>, before: &Before, why: &str) -> Undone {
        super::cannot_tell(self.changed(link, before, why, link.place.type_in(&["GET", &self.key])))
    }

    pub(super) async fn presence(&self, link: &mut Link<'_>, before: &Before) -> Result<Presence, StepError> {
        Ok(match self.now(link, before).await? {
            Turned::AsSet => match self.left(link, before, "it is still as it was set") {
                Undone::Left(left) | Undone::CannotTell(left) => Presence::Present(left),
                Undone::Removed | Undone::NothingToDo => Presence::Gone,
            },
            _ => Presence::Gone,
        })
    }

    /// The command that puts back what was there before.
    pub(super) fn by_hand(&self, place: &super::address::Place, before: &Before) -> String {
        let Some(value) = &before.value else { return place.type_in(&["DEL", &self.key]) };
        let set = place.type_bytes(&[b"SET", self.key.as_bytes(), &value::shown(value)]);
        match before.expires_at {
            Some(at) => format!("{set} && {}", place.type_in(&["PEXPIREAT", &self.key, &at.to_string()])),
            None => set,
        }
    }

    async fn now(&self, link: &mut Link<'_>, before: &Before) -> Result<Turned, StepError> {
        let (key, value) = (link.cx.reveal(&self.key)?, link.cx.reveal(&self.value.0)?);
        match link.type_of(key.expose().as_bytes()).await?.as_str() {
            "string" | "none" => {}
            _ => return Ok(Turned::Changed),
        }
        let now = look(link, key.expose()).await?;
        Ok(self.turned(before, before.bytes(link)?.as_deref(), &now, value.expose().as_bytes()))
    }

    fn turned(&self, before: &Before, earlier: Option<&[u8]>, now: &Now, set: &[u8]) -> Turned {
        if before.is(now, earlier) {
            return Turned::AsBefore;
        }
        let over = |at: Option<i64>| at.is_some_and(|at| at <= now.at);
        match &now.value {
            Some(value) if value == set => Turned::AsSet,
            Some(value) if Some(value.as_slice()) == earlier => Turned::AsBefore,
            Some(_) => Turned::Changed,
            None if earlier.is_none() || over(before.expires_at) => Turned::AsBefore,
            None if over(self.ttl.map(|ttl| before.seen_at.saturating_add(millis(ttl)))) => Turned::Expired,
            None => Turned::Gone,
        }
    }

    /// What another made of it is shown, never overwritten; what was there before is told with it.
    fn changed(&self, link: &Link<'_>, before: &Before, why: &str, look: String) -> Undone {
        let why = super::with_earlier(why, &self.by_hand(&link.place, before), before.value.is_some());
        Undone::Left(link.leftover(format!("key `{}`", self.key), &why, look))
    }

    fn left(&self, link: &Link<'_>, before: &Before, why: &str) -> Undone {
        let remove_with = self.by_hand(&link.place, before);
        Undone::Left(link.leftover(format!("key `{}`", self.key), why, remove_with))
    }
}

impl Before {
    fn bytes(&self, link: &Link<'_>) -> Result<Option<Vec<u8>>, StepError> {
        self.value.as_ref().map(|value| value::restored(link.cx, value)).transpose()
    }

    /// Whether nothing has changed.
    fn is(&self, now: &Now, earlier: Option<&[u8]>) -> bool {
        let same_expiry = match (self.expires_at, now.expires_at) {
            (None, None) => true,
            (Some(then), Some(now)) => then.abs_diff(now) <= SLACK.unsigned_abs(),
            _ => false,
        };
        now.value.as_deref() == earlier && same_expiry
    }

    fn restore(&self, key: &str, earlier: Option<&[u8]>, now: i64) -> Pipeline {
        let mut changes = Pipeline::new();
        changes.atomic();
        match earlier {
            Some(value) if self.expires_at.is_none_or(|at| at > now) => {
                changes.cmd("SET").arg(key).arg(value);
                if let Some(at) = self.expires_at {
                    changes.cmd("PEXPIREAT").arg(key).arg(at);
                }
            }
            // What would have expired by now is not put back.
            _ => {
                changes.cmd("DEL").arg(key);
            }
        }
        changes
    }
}

fn millis(ttl: Millis) -> i64 {
    i64::try_from(ttl.0).unwrap_or(i64::MAX)
}

/// The value, its expiry and the server's time, all of one moment.
async fn look(link: &mut Link<'_>, key: &str) -> Result<Now, StepError> {
    let mut questions = Pipeline::new();
    questions.cmd("GET").arg(key).cmd("PTTL").arg(key).cmd("TIME");
    let mut replies = link.ask_all(&questions).await?.into_iter();
    let (value, left, time) = (replies.next(), replies.next(), replies.next());
    let at = value::clock(time.unwrap_or_default());
    let left = left.as_ref().and_then(number).filter(|left| *left >= 0);
    let value = match value {
        Some(Reply::BulkString(bytes)) => Some(bytes),
        _ => None,
    };
    Ok(Now { value, expires_at: left.map(|left| at.saturating_add(left)), at })
}
