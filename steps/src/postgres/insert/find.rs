//! What became of the row: looked for by its key and its place, and compared to the byte.

use super::{
    At, Before, Condition, Found, Insert, Placed, Turned,
    placing::{deleted, differences, found, ground, reading},
};
use crate::postgres::{
    Output, errors,
    home::Home,
    link::{EXACT, Failure, Link},
    query::words,
    table::Table,
};
use engine::{
    ErrorClass, StepError,
    step::{Presence, Settled},
};
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long the server may take to end a transaction whose session is gone.
const ENDING: Duration = Duration::from_secs(5);

/// A row whose transaction is newer than that of a number; transaction numbers begin anew after 2^32.
pub(super) const NEWER: &str =
    "(xmin::text::bigint - $?::bigint + 4294967296) % 4294967296 BETWEEN 1 AND 2147483647";

/// How a transaction ended.
pub(super) enum Ended {
    /// As far as the server knows.
    Committed,
    RolledBack,
    /// Nobody can tell: why.
    Unclear(String),
}

/// Where the newest version of the row is.
enum Follow {
    /// There.
    At(At),
    /// The server could follow it, and it is nowhere else.
    Nowhere,
    /// Its place may have been given to another row since.
    Unknown,
}

/// The words for an intent of a version that did not write the row down.
const OLDER: &str = "an older version of this program began it, and did not write down which row it was";

impl Insert {
    /// How the transaction of the row ended, once no session is left that could end it otherwise.
    pub(super) async fn ended(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        placed: &Placed,
    ) -> Result<Ended, StepError> {
        link.end_others(&before.mark).await?;
        let began = Instant::now();
        loop {
            match self.try_ended(link, before, placed).await {
                Ok(Some(ended)) => return Ok(ended),
                Ok(None) if began.elapsed() > ENDING => {
                    let message = format!(
                        "the transaction {} of an earlier attempt on `{}` does not end",
                        placed.xid, link.place.label
                    );
                    let look =
                        format!("SELECT * FROM pg_stat_activity WHERE backend_xid::text = '{}'", placed.xid);
                    return Err(StepError::new(ErrorClass::Busy, message).hint(link.place.type_in(&look)));
                }
                Ok(None) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(failure) => link.again(failure).await?,
            }
        }
    }

    async fn try_ended(
        &self,
        link: &Link<'_>,
        before: &Before,
        placed: &Placed,
    ) -> Result<Option<Ended>, Failure> {
        link.begin("READ ONLY").await?;
        let seen = Home::look(link, before.home.as_ref()).await?;
        let other = before.home.as_ref().and_then(|home| seen.other_than(home, &link.place.label));
        if let Some(why) = other {
            link.roll_back().await?;
            return Ok(Some(Ended::Unclear(why)));
        }
        let status = link.rows("SELECT txid_status($1::bigint)", &[Value::from(placed.xid)]).await;
        let status: Option<String> = match status {
            Ok(rows) => rows.first().and_then(|row| row.get(0)),
            // A server that crashed before any of it was durable has not given that number out, as far as it knows.
            Err(Failure::Pg(error)) if errors::code(&error) == "22023" => Some("aborted".into()),
            Err(failure) => return Err(failure),
        };
        link.roll_back().await?;
        Ok(match status.as_deref() {
            Some("in progress") if seen.replica => Some(Ended::Unclear(replica(&link.place.label))),
            Some("in progress") => None,
            Some("aborted") => Some(Ended::RolledBack),
            _ => Some(Ended::Committed),
        })
    }

    /// What became of the row.
    pub(super) async fn find(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        placed: &Placed,
    ) -> Result<Turned, StepError> {
        link.words = words(self.values.values());
        loop {
            match self.try_find(link, before, placed).await {
                Ok(turned) => {
                    link.patience.done();
                    return Ok(turned);
                }
                Err(Failure::Pg(error)) if ["42P01", "42703", "42704"].contains(&errors::code(&error)) => {
                    return Ok(Turned::Unclear(link.explain(Failure::Pg(error)).message, None));
                }
                Err(failure) => link.again(failure).await?,
            }
        }
    }

    async fn try_find(&self, link: &Link<'_>, before: &Before, placed: &Placed) -> Result<Turned, Failure> {
        // With `off` the server refuses to answer from which a policy could leave something out.
        match self.look(link, before, placed, "off").await {
            Err(Failure::Pg(error)) if errors::code(&error) == "42501" => {}
            other => return other,
        }
        link.roll_back().await?;
        match self.look(link, before, placed, "on").await {
            Ok(Turned::Gone) => Ok(unclear(format!(
                "row-level security of `{}` may hide it from this user",
                before.table.label()
            ))),
            Err(Failure::Pg(error)) if errors::code(&error) == "42501" => {
                Ok(unclear(link.explain(Failure::Pg(error)).message))
            }
            other => other,
        }
    }

    async fn look(
        &self,
        link: &Link<'_>,
        before: &Before,
        placed: &Placed,
        security: &str,
    ) -> Result<Turned, Failure> {
        // One snapshot for all of it: a row that is changed in between is not seen twice, nor missed.
        link.begin("ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        link.set(&format!("{EXACT}; SET LOCAL row_security = {security}")).await?;
        let turned = self.look_inside(link, before, placed).await?;
        link.roll_back().await?;
        Ok(turned)
    }

    async fn look_inside(
        &self,
        link: &Link<'_>,
        before: &Before,
        placed: &Placed,
    ) -> Result<Turned, Failure> {
        let seen = Home::look(link, before.home.as_ref()).await?;
        let other = before.home.as_ref().and_then(|home| seen.other_than(home, &link.place.label));
        if let Some(why) = other {
            return Ok(unclear(why));
        }
        let old = &before.table;
        let Some(table) = old.again(link).await? else {
            return Ok(match (old.is_replaced(link).await?, seen.replica) {
                (true, _) => unclear(format!("`{}` is another table now, made anew since", old.label())),
                (_, true) => unclear(replica(&link.place.label)),
                // A part of it may have left before, with the row in it.
                (false, false) => self.moved(link, old, placed).await?,
            });
        };
        // The key may be another by now; what was written down is found by that of then.
        let mut then = table.clone();
        then.key.clone_from(&old.key);
        let turned = match then.key.is_empty() {
            false => self.by_key(link, &then, placed).await?,
            true => self.by_place(link, &then, placed).await?,
        };
        let turned = match turned {
            Turned::Gone => self.moved(link, &then, placed).await?,
            turned => turned,
        };
        Ok(match turned {
            Turned::Gone if seen.replica => unclear(replica(&link.place.label)),
            Turned::Ours(found) if table.label() != old.label() => {
                let why = format!("the table `{}` is called `{}` now", old.label(), table.label());
                Turned::Changed(found, why)
            }
            turned => turned,
        })
    }

    /// A row of the table itself, and of its parts.
    async fn fetch(
        &self,
        link: &Link<'_>,
        table: &Table,
        placed: &Placed,
        condition: &Condition,
    ) -> Result<Option<Found>, Failure> {
        self.fetch_from(link, table, &table.only(), placed, condition).await
    }

    pub(super) async fn fetch_from(
        &self,
        link: &Link<'_>,
        table: &Table,
        from: &str,
        placed: &Placed,
        condition: &Condition,
    ) -> Result<Option<Found>, Failure> {
        let columns: Vec<String> = placed.stored.0.iter().map(|cell| cell.name.clone()).collect();
        let sql =
            format!("SELECT {} FROM {from} WHERE {} LIMIT 1", reading(table, &columns), condition.sql());
        let rows = link.rows(&sql, &condition.values).await?;
        Ok(rows.first().map(|row| found(link, table, &columns, row)))
    }

    async fn by_key(&self, link: &Link<'_>, table: &Table, placed: &Placed) -> Result<Turned, Failure> {
        if let Some(found) = self.fetch(link, table, placed, &Condition::by_key(table, &placed.key)).await? {
            let differences = differences(&placed.stored, &found.now);
            if !differences.is_empty() {
                let why = format!("it was changed since: {}", differences.join(", "));
                return Ok(Turned::Changed(found, why));
            }
            // A key can be another's by now, also one that the server once made up.
            let ours = found.at.xmin == placed.at.xmin
                || match self.follow(link, placed).await? {
                    Follow::At(at) => at.is(&found.at),
                    Follow::Nowhere | Follow::Unknown => never_free(link, placed).await?,
                };
            return Ok(match ours {
                true => Turned::Ours(found),
                false => Turned::Unclear(
                    "the row that has its key and values now was written by another transaction".into(),
                    Some(found),
                ),
            });
        }
        let follow = self.follow(link, placed).await?;
        if let Follow::At(at) = &follow
            && let Some(found) = self.fetch(link, table, placed, &Condition::by_place(at)).await?
        {
            let why = format!("it was changed since: {}", differences(&placed.stored, &found.now).join(", "));
            return Ok(Turned::Changed(found, why));
        }
        // Without a trace of it: a row that is newer and has all that was written but the key may be ours. Where nothing else
        // was written, that is every newer one.
        let alike = match (alike(table, placed), &follow) {
            (Some(alike), _) => alike,
            (None, Follow::Nowhere) => return Ok(Turned::Gone),
            (None, _) => Condition::default(),
        };
        let alike = alike.and(NEWER, &placed.at.xmin);
        Ok(match self.fetch(link, table, placed, &alike).await? {
            None => Turned::Gone,
            found => Turned::Unclear(
                "no row has its key, but newer ones have its values: nobody can tell whether its key was changed"
                    .into(),
                found,
            ),
        })
    }

    async fn by_place(&self, link: &Link<'_>, table: &Table, placed: &Placed) -> Result<Turned, Failure> {
        if let Some(found) = self.fetch(link, table, placed, &Condition::by_place(&placed.at)).await? {
            return Ok(Turned::Ours(found));
        }
        if let Follow::At(at) = self.follow(link, placed).await?
            && let Some(found) = self.fetch(link, table, placed, &Condition::by_place(&at)).await?
        {
            let differences = differences(&placed.stored, &found.now);
            return Ok(match differences.is_empty() {
                true => Turned::Ours(found),
                false => {
                    let why = format!("it was changed since: {}", differences.join(", "));
                    Turned::Changed(found, why)
                }
            });
        }
        // Where the table was written anew, the row has another place and the same transaction.
        if let Some(alike) = alike(table, placed) {
            let same = alike.and("xmin::text = $?::text", &placed.at.xmin);
            if let Some(found) = self.fetch(link, table, placed, &same).await? {
                return Ok(match placed.sides.iter().any(|side| side.oid.to_string() == placed.at.table) {
                    false => Turned::Ours(found),
                    true => Turned::Unclear(
                        "its transaction inserted several rows with its values".into(),
                        Some(found),
                    ),
                });
            }
        }
        // A change makes a new version of the row: where there is none at all, the row was removed.
        let newer = Condition::default().and(NEWER, &placed.at.xmin);
        Ok(match self.fetch(link, table, placed, &newer).await? {
            None => Turned::Gone,
            found => Turned::Unclear(
                "without a key nobody can tell whether another changed or removed it".into(),
                found,
            ),
        })
    }

    /// Where the newest version of the row is, as far as the server can follow them.
    async fn follow(&self, link: &Link<'_>, placed: &Placed) -> Result<Follow, Failure> {
        let At { table: oid, ctid, .. } = &placed.at;
        // Only on ground that was not vacuumed no place was given to another row.
        if placed.ground.is_none() || ground(link, oid).await? != placed.ground {
            return Ok(Follow::Unknown);
        }
        let may = "SELECT to_regprocedure('currtid2(text, tid)') IS NOT NULL AND has_table_privilege($1::oid, 'SELECT')";
        let may = link.rows(may, &[Value::from(oid.as_str())]).await?.first().is_some_and(|row| row.get(0));
        if !may {
            return Ok(Follow::Unknown);
        }
        let ask = "SELECT currtid2($1::oid::regclass::text, $2::tid)::text";
        let rows = link.rows(ask, &[Value::from(oid.as_str()), Value::from(ctid.as_str())]).await?;
        let now: Option<String> = rows.first().and_then(|row| row.get(0));
        let at = |now| At { table: oid.clone(), ctid: now, xmin: String::new() };
        Ok(now.filter(|now| now != ctid).map_or(Follow::Nowhere, |now| Follow::At(at(now))))
    }

    /// Whether the row was inserted by an attempt whose outcome is unknown.
    pub(in crate::postgres) async fn settle(
        &self,
        link: &mut Link<'_>,
        before: &Before,
    ) -> Result<Settled<Output>, StepError> {
        let Some(placed) = &before.row else {
            if before.home.is_none() {
                return Ok(Settled::Unclear(OLDER.to_owned()));
            }
            // It was not committed, for that comes after the amendment.
            link.end_others(&before.mark).await?;
            return Ok(Settled::NotHappened);
        };
        Ok(match self.ended(link, before, placed).await? {
            Ended::RolledBack => Settled::NotHappened,
            Ended::Unclear(why) => Settled::Unclear(why),
            Ended::Committed => match self.find(link, before, placed).await? {
                Turned::Ours(_) | Turned::Changed(..) => Settled::Happened(placed.output(&before.table)),
                Turned::Gone => Settled::Unclear("it was inserted, and is not there any more".into()),
                Turned::Unclear(why, _) => Settled::Unclear(why),
            },
        })
    }

    pub(in crate::postgres) async fn presence(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        output: Option<&Output>,
    ) -> Result<Presence, StepError> {
        let Some(placed) = &before.row else {
            return Ok(match before.home.is_none() {
                true => Presence::Unknown(OLDER.to_owned()),
                false => Presence::Gone,
            });
        };
        if output.is_none() {
            match self.ended(link, before, placed).await? {
                Ended::RolledBack => return Ok(Presence::Gone),
                Ended::Unclear(why) => return Ok(Presence::Unknown(why)),
                Ended::Committed => {}
            }
        }
        let place = link.place.clone();
        let present = |found: &Found, why: &str| Presence::Present(found.leftover(&place, placed, why));
        let removed = super::removal::is_removed(link.cx, before).await;
        Ok(match self.find(link, before, placed).await? {
            Turned::Gone => Presence::Gone,
            Turned::Ours(found) => present(&found, "it is still there"),
            // The server itself said that it deleted the row: what looks like it is another's.
            Turned::Changed(..) | Turned::Unclear(..) if removed => Presence::Gone,
            Turned::Changed(found, why) => present(&found, &why),
            Turned::Unclear(why, _) => Presence::Unknown(why),
        })
    }
}

impl At {
    /// Whether both are the same place.
    fn is(&self, other: &Self) -> bool {
        self.table == other.table && self.ctid == other.ctid
    }
}

/// Nobody can tell, and no row was seen that may be it.
pub(super) fn unclear(why: String) -> Turned {
    Turned::Unclear(why, None)
}

/// Whether no row was deleted where ours is since it went in: nobody else can have its key then.
async fn never_free(link: &Link<'_>, placed: &Placed) -> Result<bool, Failure> {
    let file =
        |ground: &Option<String>| ground.as_deref().and_then(|it| it.split(' ').next()).map(str::to_owned);
    let oid = &placed.at.table;
    Ok(placed.deleted.is_some()
        && file(&placed.ground) == file(&ground(link, oid).await?)
        && deleted(link, oid).await? == placed.deleted)
}

fn replica(label: &str) -> String {
    format!("`{label}` is a replica now, which may not have it yet or any more")
}

/// A condition that a row has all that was written but the key; none where nothing else was written.
pub(super) fn alike(table: &Table, placed: &Placed) -> Option<Condition> {
    let mut condition = Condition::default();
    let written = placed.stored.0.iter().filter(|cell| !table.key.contains(&cell.name));
    for column in written.filter_map(|cell| table.known(&cell.name)) {
        match placed.sums.get(&column.name).and_then(Value::as_str) {
            Some(sum) => condition = condition.and(&format!("{} = $?::text", column.digest()), sum),
            None => condition.parts.push(column.is_null()),
        }
    }
    (!condition.parts.is_empty()).then_some(condition)
}
