//! Takes a row back with all that its insert made, or leaves everything as it is and says why.

use super::{
    connection::explain,
    fate::Search,
    file::{DatabaseFile, Standing},
    key::{Key, quoted},
    made::{Altered, Made, Stored, look, named, rows, typed},
    table::{Kind, Table},
    twins::twins,
    witness::{Change, Event, Witness},
};
use crate::store::{Fate, Thing};
use engine::{
    StepError,
    step::{Leftover, Presence, Undone},
};
use rusqlite::{Connection, Transaction, TransactionBehavior, params_from_iter};
use std::collections::{BTreeSet, VecDeque};

/// How many rows more than the insert made one undo deletes: triggers may answer each deletion with a new row.
const ROWS: usize = 1_000;

/// Rows that are ours, by table and key.
type Ours = BTreeSet<(String, Key)>;

/// What is to be taken back, and where.
pub(super) struct Undo<'a> {
    pub(super) search: Search<'a>,
    pub(super) database: &'a str,
    pub(super) file: Option<&'a DatabaseFile>,
}

/// Several leftovers told as one.
#[derive(Default)]
struct Told {
    left: Vec<Leftover>,
    unseen: Vec<Leftover>,
}

impl Told {
    fn take(&mut self, undone: Undone) {
        match undone {
            Undone::Left(left) => self.left.push(left),
            Undone::CannotTell(left) => self.unseen.push(left),
            Undone::Removed | Undone::NothingToDo => {}
        }
    }

    fn come_to(self, otherwise: Undone) -> Undone {
        match (self.left.is_empty(), self.unseen.is_empty()) {
            (true, true) => otherwise,
            (true, false) => Undone::CannotTell(together(&self.unseen)),
            _ => Undone::Left(together(&self.left.into_iter().chain(self.unseen).collect::<Vec<_>>())),
        }
    }
}

fn together(all: &[Leftover]) -> Leftover {
    let joined = |each: fn(&Leftover) -> &str, by: &str| {
        let mut parts: Vec<&str> = all.iter().map(each).filter(|part| !part.is_empty()).collect();
        parts.dedup();
        parts.join(by)
    };
    Leftover {
        what: joined(|left| &left.what, ", "),
        why: joined(|left| &left.why, "; "),
        remove_with: joined(|left| &left.remove_with, " && "),
    }
}

impl Undo<'_> {
    /// The row that was asked for, or what came of it first.
    fn thing(&self) -> Thing {
        match self.search.made.rows().next() {
            Some(stored) => self.search.unseen(stored, self.database),
            None => Thing {
                what: format!(
                    "what the insert into `{}` did in `{}`",
                    self.search.insert.into, self.database
                ),
                remove_with: String::new(),
            },
        }
    }

    /// What can be said if the file under the name is not the one that holds the row.
    pub(super) fn elsewhere(&self) -> Option<Leftover> {
        let Standing::Elsewhere { why, moved } = self.file?.standing(self.database) else { return None };
        let mut left = self.thing().because(why);
        left.remove_with.clear();
        if let Some(moved) = moved {
            let moved = moved.to_string_lossy();
            left.why = format!("{}; the one meant is `{moved}` now", left.why);
            if let Some(stored) = self.search.made.rows().next() {
                left.remove_with = self.search.unseen(stored, &moved).remove_with;
            }
        } else {
            left.why = format!("{}, and the one meant is not in its folder", left.why);
        }
        Some(left)
    }

    /// What can be said if the file or its content is another now.
    pub(super) fn replaced(&self, connection: &Connection) -> Result<Option<Leftover>, StepError> {
        if let Some(left) = self.elsewhere() {
            return Ok(Some(left));
        }
        // What is there now may be another's.
        let shown = || match self.search.made.rows().next() {
            Some(stored) => look(&stored.table, &stored.at.key, self.database),
            None => self.thing(),
        };
        Ok(self.search.replaced(connection)?.map(|why| shown().because(why)))
    }

    /// An error that kept the undo from looking at all.
    pub(super) fn unseen(&self, error: &StepError) -> Undone {
        Undone::CannotTell(self.elsewhere().unwrap_or_else(|| self.thing().because(&error.message)))
    }

    /// Deletes it. `mark` is given what was made, with those that are like it by now, before anybody can see the deletion: killed
    /// between that and its record, the next undo finds no row, and must not take another for it.
    pub(super) fn run(&self, connection: &mut Connection, mark: impl Fn(Made)) -> Result<Undone, StepError> {
        let mut deletions = Vec::new();
        for stored in self.search.made.rows() {
            if Table::load(connection, &stored.table)?.is_some_and(|table| table.kind != Kind::View) {
                deletions.push(format!("DELETE FROM main.{} WHERE 1", quoted(&stored.table)));
            }
        }
        let witness = Witness::over(connection, deletions, true)?;
        let connection: &Connection = connection;
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
            .map_err(|error| explain(connection, &error))?;
        if let Some(left) = self.replaced(connection)? {
            return Ok(Undone::CannotTell(left));
        }
        if let Some(file) = self.file {
            file.discard_journal()?;
        }
        let (mut told, mut doomed) = (Told::default(), Vec::new());
        if let Some(stored) = &self.search.made.row {
            let found = self.search.own(connection, stored)?;
            match found.fate.undone(&self.search.thing(stored, &found, self.database)) {
                None => doomed.push(stored),
                Some(Undone::NothingToDo) => {}
                // What triggers made goes with the row, and stays with it.
                Some(Undone::Left(mut left) | Undone::CannotTell(mut left)) => {
                    self.name_besides(&mut left);
                    return Ok(match found.fate {
                        Fate::Changed(_) => Undone::Left(left),
                        _ => Undone::CannotTell(left),
                    });
                }
                Some(Undone::Removed) => {}
            }
        }
        for stored in &self.search.made.others {
            let found = self.search.other(connection, stored)?;
            match found.fate.undone(&self.search.thing(stored, &found, self.database)) {
                None => doomed.push(stored),
                Some(undone) => told.take(undone),
            }
        }
        let made = self.search.made;
        let twins = match made.row.as_ref().filter(|own| doomed.contains(own)) {
            Some(own) => twins(connection, own, |column| self.search.insert.writes(column))?,
            None => made.twins.clone(),
        };
        let done = match doomed.is_empty() {
            true => Undone::NothingToDo,
            false => match self.delete(connection, &doomed, &witness)? {
                Undone::Removed => Undone::Removed,
                // Nothing of it is committed.
                mut refused => {
                    if let Undone::Left(left) = &mut refused {
                        self.name_besides(left);
                    }
                    told.take(refused);
                    return Ok(told.come_to(Undone::NothingToDo));
                }
            },
        };
        for altered in &self.search.made.altered {
            told.left.extend(self.altered(connection, altered)?);
        }
        for table in self.search.made.unwatched.iter().filter(|table| !witness.unwatched.contains(*table)) {
            let sql = format!("SELECT * FROM {} LIMIT 10", quoted(table));
            told.unseen.push(Leftover {
                what: format!("entries of the virtual table `{table}` in `{}`", self.database),
                why: "a trigger wrote it when the row was inserted, and none does when it is deleted".into(),
                remove_with: typed(self.database, &sql),
            });
        }
        if done == Undone::Removed {
            mark(Made { twins, ..made.clone() });
        }
        transaction.commit().map_err(|error| explain(connection, &error))?;
        Ok(told.come_to(done))
    }

    /// What is left with a row that stays.
    fn name_besides(&self, left: &mut Leftover) {
        let besides = self.search.made.besides();
        if !besides.is_empty() {
            left.why = format!("{}; with it is left what triggers did: {besides}", left.why);
        }
    }

    /// Deletes rows and whatever triggers write because of that; anything but [`Undone::Removed`] must not be committed.
    fn delete(
        &self,
        connection: &Connection,
        doomed: &[&Stored],
        witness: &Witness,
    ) -> Result<Undone, StepError> {
        let mut ahead: VecDeque<(String, Key)> =
            doomed.iter().map(|stored| (stored.table.clone(), stored.at.key.clone())).collect();
        let mut ours: Ours = ahead.iter().cloned().collect();
        let most = ours.len() + ROWS;
        while let Some((name, key)) = ahead.pop_front() {
            let refused = |why: String| Ok(Undone::Left(look(&name, &key, self.database).because(why)));
            if ours.len() > most {
                return refused("its deletion makes triggers write row after row: it was not deleted".into());
            }
            let Some(table) = Table::load(connection, &name)? else { continue };
            if table.under(connection, &key)?.is_empty() {
                continue;
            }
            let (condition, values) = key.condition();
            let sql = format!("DELETE FROM main.{} WHERE {condition}", quoted(&name));
            if let Err(error) = connection.execute(&sql, params_from_iter(values)) {
                let explained = explain(connection, &error);
                return match error.sqlite_error_code() {
                    Some(rusqlite::ErrorCode::ConstraintViolation) => {
                        refused(format!("its deletion is refused: {}", plain(&error)))
                    }
                    _ => Err(explained),
                };
            }
            if !table.under(connection, &key)?.is_empty() {
                return refused("its deletion is ignored: a trigger keeps it".into());
            }
            let harmed = self.harmed(&mut ours, &mut ahead, &witness.seen(connection)?);
            if !harmed.is_empty() {
                let which = match harmed.as_slice() {
                    [one] => one.clone(),
                    [one, rest @ ..] => format!("{one} and {} more", rows(rest.len())),
                    [] => String::new(),
                };
                return refused(format!("its deletion would change what is another's: {which}"));
            }
        }
        Ok(Undone::Removed)
    }

    /// Rows of others that a deletion has touched. What triggers inserted because of it is ours, and to be deleted, too.
    fn harmed(&self, ours: &mut Ours, ahead: &mut VecDeque<(String, Key)>, events: &[Event]) -> Vec<String> {
        let mut harmed = Vec::new();
        for Event { table, change } in events {
            let own = |key: &Key| (table.clone(), key.clone());
            let row = |key: &Key| named(table, key, "it").replace(" in `it`", "");
            match change {
                Change::Inserted(at) => {
                    ours.insert(own(&at.key));
                    ahead.push_back(own(&at.key));
                }
                Change::Deleted(at) if ours.contains(&own(&at.key)) => {}
                Change::Deleted(at) => harmed.push(row(&at.key)),
                Change::Updated { from, to } => match ours.remove(&own(&from.key)) {
                    true => {
                        ours.insert(own(&to.key));
                        for (_, key) in ahead.iter_mut().filter(|(name, it)| name == table && *it == from.key)
                        {
                            *key = to.key.clone();
                        }
                    }
                    false => {
                        let known = self
                            .search
                            .made
                            .altered
                            .iter()
                            .any(|it| it.table == *table && it.key == from.key);
                        if !known {
                            harmed.push(row(&from.key));
                        }
                    }
                },
            }
        }
        harmed.dedup();
        harmed
    }

    /// A row of another that a trigger of the insert changed, if it is not as it was before.
    fn altered(&self, connection: &Connection, altered: &Altered) -> Result<Option<Leftover>, StepError> {
        let Some(table) = Table::load(connection, &altered.table)? else { return Ok(None) };
        let found = table.under(connection, &altered.key)?;
        let Some(at) = found.first() else { return Ok(None) };
        let differences = altered.before.differences(&at.row, |_| true);
        Ok((!differences.is_empty()).then(|| {
            look(&altered.table, &altered.key, self.database).because(format!(
                "a trigger changed it when the row was inserted, and it is not as it was before: {}",
                differences.join(", ")
            ))
        }))
    }

    /// What the undo would come to if nothing can be deleted.
    pub(super) fn dry(&self, connection: &Connection) -> Result<Undone, StepError> {
        if let Some(left) = self.replaced(connection)? {
            return Ok(Undone::CannotTell(left));
        }
        let mut told = Told::default();
        for stored in self.search.made.rows() {
            let found = match self.search.made.row.as_ref() == Some(stored) {
                true => self.search.own(connection, stored)?,
                false => self.search.other(connection, stored)?,
            };
            let thing = self.search.thing(stored, &found, self.database);
            let left = Undone::Left(thing.because("it is still there, and cannot be deleted"));
            told.take(found.fate.undone(&thing).unwrap_or(left));
        }
        Ok(told.come_to(Undone::NothingToDo))
    }

    /// Whether anything of it is there.
    pub(super) fn presence(&self, connection: &Connection) -> Result<Presence, StepError> {
        if let Some(left) = self.replaced(connection)? {
            return Ok(Presence::Unknown(left.why));
        }
        let mut unknown = None;
        for stored in self.search.made.rows() {
            let found = match self.search.made.row.as_ref() == Some(stored) {
                true => self.search.own(connection, stored)?,
                false => self.search.other(connection, stored)?,
            };
            match found.fate.presence(&self.search.thing(stored, &found, self.database)) {
                Presence::Gone => {}
                Presence::Present(left) => return Ok(Presence::Present(left)),
                Presence::Unknown(why) => unknown = Some(why),
            }
        }
        for altered in &self.search.made.altered {
            if let Some(left) = self.altered(connection, altered)? {
                return Ok(Presence::Present(left));
            }
        }
        Ok(unknown.map_or(Presence::Gone, Presence::Unknown))
    }
}

/// What SQLite says, such as the words of a trigger.
fn plain(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    }
}
