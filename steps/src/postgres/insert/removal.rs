//! The row is deleted, with what triggers made of it, and nothing else is.

use super::{Before, Found, Insert, Placed, Turned, find::Ended};
use crate::postgres::{
    Output,
    beyond::beyond,
    counts::{Count, Counts},
    errors,
    link::{Failure, Link},
};
use engine::{
    StepError,
    step::{Context, Leftover, Undone},
};
use std::collections::BTreeMap;

/// How often a row that others change at the same time is looked at again.
const LOOKS: usize = 5;

/// Says that this process has seen the row being deleted.
struct Removed;

fn removed_key(before: &Before) -> String {
    format!("postgres {}", before.mark)
}

/// Whether the server said that it deleted the row: where a policy may hide rows, no later look could say so.
pub(super) async fn is_removed(cx: &Context, before: &Before) -> bool {
    cx.services.resident.lock().await.contains_key(&removed_key(before))
}

/// What a deletion came to.
enum Deleted {
    /// It is done; what of the triggers' work is left.
    Done(Vec<Leftover>),
    /// No row was deleted.
    Nothing,
    /// Nothing was deleted: why.
    Refused(String),
    /// Nothing was deleted, for something of another would be, too: why.
    Harmful(String),
}

impl Insert {
    pub(in crate::postgres) async fn undo(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        output: Option<&Output>,
    ) -> Result<Undone, StepError> {
        let unclear =
            |link: &Link<'_>, why: &str| Ok(Undone::CannotTell(self.unclear(&link.place, before, why)));
        let Some(placed) = &before.row else {
            if before.home.is_none() {
                return unclear(
                    link,
                    "an older version of this program began it, and did not write down which row it was",
                );
            }
            link.end_others(&before.mark).await?;
            return Ok(Undone::NothingToDo);
        };
        if is_removed(link.cx, before).await {
            return Ok(Undone::NothingToDo);
        }
        if output.is_none() {
            match self.ended(link, before, placed).await? {
                Ended::RolledBack => return Ok(Undone::NothingToDo),
                Ended::Unclear(why) => return unclear(link, &why),
                Ended::Committed => {}
            }
        }
        let mut kept: Option<Found> = None;
        for _ in 0..LOOKS {
            let found = match self.find(link, before, placed).await? {
                Turned::Gone => return self.delete_rest(link, before, placed).await,
                Turned::Unclear(why, Some(seen)) => {
                    return Ok(Undone::CannotTell(seen.look(&link.place, &why)));
                }
                Turned::Unclear(why, None) => return unclear(link, &why),
                Turned::Changed(found, why) => {
                    return Ok(Undone::Left(found.leftover(&link.place, placed, &why)));
                }
                Turned::Ours(found) => found,
            };
            if kept.as_ref().is_some_and(|kept| kept.at == found.at) {
                let why = "a trigger, a rule or a policy of the table keeps it from being deleted";
                return Ok(Undone::Left(found.leftover(&link.place, placed, why)));
            }
            match self.delete(link, before, placed, Some(&found)).await? {
                Deleted::Done(rest) => {
                    let mut resident = link.cx.services.resident.lock().await;
                    resident.insert(removed_key(before), Box::new(Removed));
                    return Ok(with_rest(Undone::Removed, rest));
                }
                Deleted::Refused(why) => {
                    return Ok(Undone::Left(found.leftover(&link.place, placed, &why)));
                }
                Deleted::Harmful(why) => return Ok(Undone::Left(found.shown(&link.place, &why))),
                Deleted::Nothing => kept = Some(found),
            }
        }
        unclear(link, "others change it again and again")
    }

    /// What triggers made is taken back although another has removed the row itself.
    async fn delete_rest(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        placed: &Placed,
    ) -> Result<Undone, StepError> {
        if placed.sides.is_empty() {
            return Ok(Undone::NothingToDo);
        }
        match self.delete(link, before, placed, None).await? {
            Deleted::Done(rest) => Ok(with_rest(Undone::Removed, rest)),
            Deleted::Nothing => Ok(Undone::NothingToDo),
            Deleted::Refused(why) | Deleted::Harmful(why) => {
                Ok(Undone::CannotTell(self.unclear(&link.place, before, &why)))
            }
        }
    }

    async fn delete(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        placed: &Placed,
        found: Option<&Found>,
    ) -> Result<Deleted, StepError> {
        loop {
            match self.try_delete(link, before, placed, found).await {
                Ok(deleted) => {
                    link.patience.done();
                    return Ok(deleted);
                }
                Err(Failure::Pg(error)) if objects(&error) => {
                    // Who refers to it is a name of the server's own, whatever the values are.
                    let other = error.as_db_error().and_then(|said| said.table()).map(str::to_owned);
                    let refers = errors::code(&error) == "23503";
                    let told = link.explain(Failure::Pg(error)).message;
                    link.roll_back().await.map_err(|failure| link.explain(failure))?;
                    return Ok(Deleted::Refused(match other.filter(|_| refers) {
                        Some(other) => format!("rows of `{other}` refer to it by now: {told}"),
                        None => format!("the server does not delete it: {told}"),
                    }));
                }
                Err(failure) => link.again(failure).await?,
            }
        }
    }

    async fn try_delete(
        &self,
        link: &Link<'_>,
        before: &Before,
        placed: &Placed,
        found: Option<&Found>,
    ) -> Result<Deleted, Failure> {
        link.begin("").await?;
        let counted = Counts::take(link).await?;
        let mut work = Work {
            link,
            table: before.table.label(),
            taken: BTreeMap::new(),
            rest: Vec::new(),
            gone: found.is_none(),
        };
        for side in &placed.sides {
            let condition = side.condition(&(placed.xid % (1 << 32)).to_string(), &placed.at);
            let (sql, label) = (&side.sql, &side.label);
            if side.found {
                work.take(side.oid, sql, label, &condition, side.inserted).await?;
            } else if side.changed > 0 {
                work.left(sql, &format!("{} that triggers changed", rows(side.changed, label)), None);
            } else {
                work.left(sql, &format!("{} that triggers inserted", rows(side.inserted, label)), None);
            }
        }
        if let Some(found) = found {
            let condition = super::Condition::by_place(&found.at);
            // By its version: whoever changes the row in between makes another one, which is looked at anew.
            let sql = format!("DELETE FROM {} WHERE {}", found.table.only(), condition.sql());
            if link.write(&sql, &condition.values).await?.count != 1 {
                link.roll_back().await?;
                return Ok(Deleted::Nothing);
            }
            *work.taken.entry(found.at.table.parse().unwrap_or(0)).or_default() += 1;
        }
        link.set("SET CONSTRAINTS ALL IMMEDIATE").await?;
        let counts = Counts::take(link).await?.since(&counted);
        if let Some(why) = beyond(link, &counts).await? {
            link.roll_back().await?;
            return Ok(Deleted::Harmful(format!("when it is deleted, {why}")));
        }
        for (oid, count) in counts.of_rows() {
            let Count { sql, label, inserted, updated, deleted, .. } = count;
            let others = updated + deleted - work.taken.get(&oid).copied().unwrap_or(0);
            let answers = placed.sides.iter().any(|side| side.oid == oid && side.changed > 0);
            if others > 0 && !answers {
                link.roll_back().await?;
                return Ok(Deleted::Harmful(format!(
                    "with it the database would change or delete {}, not ours",
                    rows(others, &label)
                )));
            }
            if inserted > 0 {
                // What the deletion itself has triggers write is no less ours.
                let this = "txid_current() % 4294967296";
                work.take(oid, &sql, &label, &format!("xmin::text::bigint = {this}"), inserted).await?;
            }
        }
        let rest = work.rest;
        link.commit().await?;
        Ok(Deleted::Done(rest))
    }

    /// What is said where nobody can tell which row is ours.
    pub(in crate::postgres) fn unclear(
        &self,
        place: &crate::postgres::address::Place,
        before: &Before,
        why: &str,
    ) -> Leftover {
        Leftover {
            what: format!("perhaps a row of `{}` in `{}`", before.table.label(), place.label),
            why: why.to_owned(),
            remove_with: place.type_in(&self.statement("SELECT ctid, *", before)),
        }
    }
}

/// A deletion under way.
struct Work<'a, 'b> {
    link: &'a Link<'b>,
    /// The table of the row itself, for messages.
    table: String,
    /// How many rows were deleted, by table.
    taken: BTreeMap<u32, i64>,
    rest: Vec<Leftover>,
    /// The row itself is gone: what went with it is no leftover.
    gone: bool,
}

impl Work<'_, '_> {
    fn left(&mut self, sql: &str, what: &str, condition: Option<&str>) {
        let remove_with = match condition {
            Some(condition) => self.link.place.type_in(&format!("DELETE FROM ONLY {sql} WHERE {condition}")),
            None => self.link.place.type_in(&format!("SELECT * FROM {sql}")),
        };
        let why = format!(
            "a trigger or a rule of `{}` did that, and it cannot be put back for certain",
            self.table
        );
        self.rest.push(Leftover { what: what.to_owned(), why, remove_with });
    }

    /// Deletes rows that triggers inserted; what the server does not let go stays and is named.
    async fn take(
        &mut self,
        oid: u32,
        sql: &str,
        label: &str,
        condition: &str,
        expected: i64,
    ) -> Result<(), Failure> {
        self.link.set("SAVEPOINT side").await?;
        let deleted = self.link.write(&format!("DELETE FROM ONLY {sql} WHERE {condition}"), &[]).await;
        match deleted {
            Ok(change) => {
                // What came after it would bear the number of the savepoint instead of the transaction's.
                self.link.set("RELEASE SAVEPOINT side").await?;
                let count = i64::try_from(change.count).unwrap_or(i64::MAX);
                *self.taken.entry(oid).or_default() += count;
                if count < expected && !self.gone {
                    let what = format!("{} that triggers inserted", rows(expected - count, label));
                    self.left(sql, &what, None);
                }
                Ok(())
            }
            Err(Failure::Pg(error)) if objects(&error) => {
                self.link.set("ROLLBACK TO SAVEPOINT side; RELEASE SAVEPOINT side").await?;
                let this = self.link.rows("SELECT (txid_current() % 4294967296)::text", &[]).await?;
                let this: String = this.first().map(|row| row.get(0)).unwrap_or_default();
                // As a person has to say it: the number of this transaction is that of another one then.
                let condition = condition.replace("txid_current() % 4294967296", &this);
                let what = format!("{} that triggers inserted", rows(expected, label));
                self.left(sql, &what, Some(&condition));
                if let Some(left) = self.rest.last_mut() {
                    left.why = format!(
                        "the server does not delete them: {}",
                        self.link.explain(error.into()).message
                    );
                }
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }
}

fn rows(count: i64, label: &str) -> String {
    format!("{count} {} of `{label}`", if count == 1 { "row" } else { "rows" })
}

/// Whether the server refuses the statement itself, rather than being in trouble or in a hurry.
fn objects(error: &tokio_postgres::Error) -> bool {
    let code = errors::code(error);
    let class = &code[..2.min(code.len())];
    error.as_db_error().is_some()
        && !errors::passes(code)
        && !errors::is_lost(error)
        && !["53", "57", "58", "XX", "40"].contains(&class)
}

/// The same, unless something is left beside the row.
fn with_rest(undone: Undone, rest: Vec<Leftover>) -> Undone {
    let Some(first) = rest.first() else { return undone };
    let what: Vec<&str> = rest.iter().map(|left| left.what.as_str()).collect();
    Undone::Left(Leftover {
        what: what.join(", "),
        why: first.why.clone(),
        remove_with: first.remove_with.clone(),
    })
}
