//! Which server and which database: by what they are, not by their address.

use super::{
    Params,
    address::Place,
    link::{Failure, Link},
};
use engine::{StepError, step::Context};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What tells a server and a database of it from all others, and its past from its future.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Home {
    /// The number that the cluster was given when it was made; none where the user may not ask.
    #[serde(default)]
    system: Option<String>,
    /// The number of the database, which stays when it is renamed.
    #[serde(default)]
    database: u32,
    #[serde(default)]
    name: String,
    /// The history that the server writes; another after a replica was promoted or a backup was restored to a point in time.
    #[serde(default)]
    timeline: Option<String>,
    /// How far its log was durable: a server that is not there yet was set back.
    #[serde(default)]
    log: Option<String>,
}

const MAY: &str = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')";

/// The identity, and whether the log is as far as `$1`.
const LOOK: &str = "SELECT d.oid, d.datname::text, r.replica, CASE WHEN NOT r.replica THEN left(pg_walfile_name(pg_current_wal_flush_lsn()), 8) END, \
    CASE WHEN NOT r.replica THEN pg_current_wal_flush_lsn()::text END, \
    CASE WHEN NOT r.replica AND $1::text IS NOT NULL THEN pg_current_wal_flush_lsn() < $1::text::pg_lsn ELSE false END, SYSTEM \
    FROM pg_database d CROSS JOIN (SELECT pg_is_in_recovery() AS replica) AS r WHERE d.datname = current_database()";

/// What a look at the place finds.
pub(super) struct Seen {
    pub(super) home: Home,
    /// A row that is not there may be on its way yet, or be there on the primary.
    pub(super) replica: bool,
    /// Its log is not as far as it was once.
    set_back: bool,
}

impl Home {
    /// Where a connection leads, inside of a transaction; compared with where another led before.
    pub(super) async fn look(link: &Link<'_>, before: Option<&Self>) -> Result<Seen, Failure> {
        let may = link.rows(MAY, &[]).await?.first().is_some_and(|row| row.get(0));
        let system =
            if may { "(SELECT system_identifier FROM pg_control_system())::text" } else { "NULL::text" };
        let log = before.and_then(|before| before.log.clone()).map_or(Value::Null, Value::from);
        let rows = link.rows(&LOOK.replace("SYSTEM", system), &[log]).await?;
        let Some(row) = rows.first() else {
            return Err(StepError::internal("a look without a row").into());
        };
        let home = Self {
            database: row.get(0),
            name: row.get(1),
            timeline: row.get(3),
            log: row.get(4),
            system: row.get(6),
        };
        Ok(Seen { home, replica: row.get(2), set_back: row.get(5) })
    }
}

impl Seen {
    /// Why this is not the place that it was, in words.
    pub(super) fn other_than(&self, before: &Home, label: &str) -> Option<String> {
        let now = &self.home;
        if now.system.is_some() && before.system.is_some() && now.system != before.system {
            return Some(format!("another server answers as `{label}` now"));
        }
        if now.database != before.database {
            return Some(format!("another database has the name `{}` on `{label}` now", now.name));
        }
        if self.set_back {
            return Some(format!("the server of `{label}` was set back to an earlier state"));
        }
        match (&now.timeline, &before.timeline) {
            (Some(now), Some(before)) if now != before => Some(format!(
                "the server of `{label}` goes on from a backup or a replica: its history is {now}, it was {before}"
            )),
            _ => None,
        }
    }
}

/// What became of a database that the server says it does not have.
pub(super) enum Missing {
    /// It was dropped, and all that was in it.
    Dropped,
    /// Nobody can tell: why.
    Unclear(String),
}

/// Looks for a database by its number in another database of the server.
pub(super) async fn missing(cx: &Context, params: &Params, before: Option<&Home>) -> Missing {
    let place = Place::of(params);
    let unclear = |why: String| Missing::Unclear(format!("`{}` has no such database now{why}", place.label));
    let Some(before) = before else { return unclear(String::new()) };
    let mut link = None;
    for database in ["postgres", "template1"] {
        if let Ok(open) = Link::open_in(cx, params, super::SESSION, Some(database)).await {
            link = Some(open);
            break;
        }
    }
    let Some(link) = link else { return unclear(", and no other one of it can be asked".into()) };
    match look_for(&link, before).await {
        Ok(found) => match found {
            (Some(why), _) => unclear(format!(": {why}")),
            (None, Some(name)) => unclear(format!(": it is called `{name}`")),
            (None, None) => Missing::Dropped,
        },
        Err(failure) => unclear(format!(": {}", link.explain(failure).message)),
    }
}

/// Why it is another server, and the name that the database has now.
async fn look_for(link: &Link<'_>, before: &Home) -> Result<(Option<String>, Option<String>), Failure> {
    link.begin("READ ONLY").await?;
    let seen = Home::look(link, Some(before)).await?;
    let same = Home { database: seen.home.database, ..before.clone() };
    let mut why = seen.other_than(&same, &link.place.label);
    if why.is_none() && (seen.home.system.is_none() || before.system.is_none()) {
        why = Some("it does not say whether it is the same server".into());
    }
    if why.is_none() && seen.replica {
        why = Some("it is a replica".into());
    }
    let names = "SELECT datname::text FROM pg_database WHERE oid = $1::oid";
    let name = link.rows(names, &[Value::from(before.database)]).await?.first().map(|row| row.get(0));
    link.roll_back().await?;
    Ok((why, name))
}

#[cfg(test)]
mod tests {
    use super::{Home, Seen};

    fn home() -> Home {
        Home {
            system: Some("7".into()),
            database: 5,
            name: "media".into(),
            timeline: Some("00000001".into()),
            log: Some("0/1".into()),
        }
    }

    #[test]
    fn a_place_is_known_by_what_it_is() {
        let seen = |home: Home| Seen { home, replica: false, set_back: false };
        assert_eq!(seen(Home { log: Some("0/2".into()), ..home() }).other_than(&home(), "l"), None);
        // Who may not ask any more still knows the database by its number.
        assert_eq!(seen(Home { system: None, ..home() }).other_than(&home(), "l"), None);
        for (other, words) in [
            (Home { system: Some("8".into()), ..home() }, "another server"),
            (Home { database: 6, ..home() }, "another database"),
            (Home { timeline: Some("00000002".into()), ..home() }, "a backup or a replica"),
        ] {
            let why = seen(other).other_than(&home(), "l").expect("another place");
            assert!(why.contains(words), "{why}");
        }
        let back = Seen { home: home(), replica: false, set_back: true };
        assert!(back.other_than(&home(), "l").expect("set back").contains("earlier state"));
    }
}
