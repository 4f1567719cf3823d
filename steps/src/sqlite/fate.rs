//! What became of a row that was inserted: found by its key, compared to the byte, and looked for under other names.

use super::{
    file::Content,
    insert::{Insert, schema_version},
    key::{Exact, Key},
    made::{Made, Stored, deletion, deletion_at, look, named},
    table::{Kind, Table},
    value::to_sql,
};
use crate::store::{Fate, Thing};
use engine::StepError;
use rusqlite::{Connection, types::ValueRef};

/// How many rows are compared with one whose key is gone.
const CANDIDATES: usize = 100_000;

/// The look at what an insert made.
pub(super) struct Search<'a> {
    pub(super) insert: &'a Insert,
    pub(super) made: &'a Made,
    /// Whether it is known to have been inserted. If not, what stands under its key need not be the row.
    pub(super) confirmed: bool,
    /// The database, and its content once the row was in it.
    pub(super) content: Option<(&'a str, Content)>,
    /// Whether an undo was about to delete it, which may have been killed between that and the record of it.
    pub(super) removing: bool,
    /// Whether to search for it under another key, too.
    pub(super) thorough: bool,
}

/// What became of a row, and where a row was seen that is it, or may be.
pub(super) struct Found {
    pub(super) fate: Fate,
    /// A table and a key, if they are not those under which it was stored.
    at: Option<(String, Key)>,
    /// Whether it is as it was stored, but for the name of its table.
    is_stored: bool,
}

impl Found {
    fn at(fate: Fate, table: &str, key: &Key) -> Self {
        Self { fate, at: Some((table.to_owned(), key.clone())), is_stored: false }
    }
}

impl From<Fate> for Found {
    fn from(fate: Fate) -> Self {
        let is_stored = fate == Fate::AsStored;
        Self { fate, at: None, is_stored }
    }
}

impl Search<'_> {
    /// The row with a command. Only what is as it was stored is told how to be deleted: what another made of it, and a row that may
    /// be another's, is shown.
    pub(super) fn thing(&self, stored: &Stored, found: &Found, database: &str) -> Thing {
        let (table, key) = match &found.at {
            Some((table, key)) => (table, key),
            None => (&stored.table, &stored.at.key),
        };
        match found.is_stored {
            true => deletion_at(table, stored, self.written(stored), database),
            false => {
                Thing { what: named(&stored.table, &stored.at.key, database), ..look(table, key, database) }
            }
        }
    }

    /// The same before anything was seen.
    pub(super) fn unseen(&self, stored: &Stored, database: &str) -> Thing {
        deletion(stored, self.written(stored), database)
    }

    /// What went into the row that was asked for; triggers made the others.
    fn written(&self, stored: &Stored) -> Option<&Insert> {
        (self.made.row.as_ref() == Some(stored)).then_some(self.insert)
    }

    /// The content of the database once the row was in it, and now.
    fn content(&self) -> Option<(Content, Content)> {
        let (database, then) = self.content?;
        Content::of(database).map(|now| (then, now))
    }

    /// Another content has come into the file: what is there now proves nothing.
    pub(super) fn replaced(&self, connection: &Connection) -> Result<Option<String>, StepError> {
        if self.content().is_some_and(|(then, now)| then.is_ahead_of(now)) {
            return Ok(Some("the database was put back to an older state since the row went in".into()));
        }
        let now = schema_version(connection)?;
        Ok((now < self.made.schema)
            .then(|| "the database was put back to an older state: its schema is older than the row".into()))
    }

    /// What became of the row that was asked for. The columns that were not asked for belong to others.
    pub(super) fn own(&self, connection: &Connection, stored: &Stored) -> Result<Found, StepError> {
        let counts = |column: &str| self.insert.writes(column) || stored.at.key.has(column);
        let found = self.by_key(connection, stored, &counts)?;
        let found = match found.fate {
            Fate::Gone if self.thorough && self.confirmed => {
                self.under_another_key(connection, stored, &counts)?
            }
            Fate::Changed(why) if !self.confirmed => {
                let why = format!(
                    "it is not known whether it was inserted, and a row with its key is there: {why}"
                );
                Found { fate: Fate::Unseen(why), is_stored: false, ..found }
            }
            fate => Found { fate, ..found },
        };
        Ok(match found.fate {
            // Nobody has deleted it, for nobody has committed anything.
            Fate::Gone if self.content().is_some_and(|(then, now)| then.is_that_of(now)) => {
                let why = "the database was overwritten since the row went in, and not by SQLite";
                Fate::Unseen(why.into()).into()
            }
            fate => Found { fate, ..found },
        })
    }

    /// What became of a row that a trigger made: nobody else has a part in it.
    pub(super) fn other(&self, connection: &Connection, stored: &Stored) -> Result<Found, StepError> {
        self.by_key(connection, stored, &|_| true)
    }

    fn by_key(
        &self,
        connection: &Connection,
        stored: &Stored,
        counts: &dyn Fn(&str) -> bool,
    ) -> Result<Found, StepError> {
        let home = Table::load(connection, &stored.table)?.filter(|table| table.kind != Kind::View);
        if let Some(home) = &home {
            let found = home.under(connection, &stored.at.key)?;
            match found.as_slice() {
                [] => {}
                // A table that took the name of the one meant may hold an equal row.
                [at] => {
                    let fate = Fate::of_differences(&stored.at.row.differences(&at.row, counts));
                    return Ok(match self.elsewhere(connection, Some(home), stored, counts)? {
                        Some(other) if fate == Fate::AsStored => other,
                        Some(other @ Found { fate: Fate::Changed(_), .. }) => other,
                        _ if fate == Fate::AsStored => self
                            .made_anew(connection, home, stored)?
                            .map_or(fate.into(), |why| Found::at(Fate::Unseen(why), &home.name, &at.key)),
                        _ => fate.into(),
                    });
                }
                several => {
                    return Ok(
                        Fate::Unseen(format!("{} rows or more are just like it", several.len())).into()
                    );
                }
            }
            if let Some(found) = self.by_rowid(connection, home, stored)? {
                return Ok(found);
            }
        }
        Ok(self.elsewhere(connection, home.as_ref(), stored, counts)?.unwrap_or(Fate::Gone.into()))
    }

    /// A row whose key is gone may still stand under its rowid, with another key.
    fn by_rowid(
        &self,
        connection: &Connection,
        home: &Table,
        stored: &Stored,
    ) -> Result<Option<Found>, StepError> {
        let known = |column: &str| {
            home.rowid == Some(column) || home.columns.iter().any(|name| name.eq_ignore_ascii_case(column))
        };
        let renamed = stored.at.key.0.iter().find(|(column, _)| !known(column));
        if let (Some(rowid), Some(name)) = (stored.at.rowid, home.rowid) {
            let key = Key(vec![(name.to_owned(), Exact::Integer(rowid))]);
            let outside = |column: &str| !stored.at.key.has(column);
            let has_others = stored.at.row.0.iter().any(|cell| outside(&cell.name));
            let found = home.under(connection, &key)?;
            let same = found.iter().find(|at| {
                (has_others || renamed.is_some()) && stored.at.row.differences(&at.row, outside).is_empty()
            });
            if let Some(at) = same {
                let all = stored.at.row.differences(&at.row, |_| true);
                return Ok(Some(Found::at(Fate::of_differences(&all), &home.name, &key)));
            }
        }
        Ok(renamed.map(|(column, _)| {
            let why = format!("`{column}`, which was its key, is no column of `{}` any more", home.name);
            Fate::Unseen(why).into()
        }))
    }

    /// What another table says, if the one meant was renamed. It keeps its first page then; but a vacuum moves that, too, so
    /// that a row which is only like it may be anything.
    fn elsewhere(
        &self,
        connection: &Connection,
        home: Option<&Table>,
        stored: &Stored,
        counts: &dyn Fn(&str) -> bool,
    ) -> Result<Option<Found>, StepError> {
        if home.is_some_and(|home| home.root == stored.root) {
            return Ok(None);
        }
        let cells = || stored.at.row.0.iter().filter(|cell| counts(&cell.name));
        let mut perhaps = None;
        for name in Table::names(connection)? {
            if name.eq_ignore_ascii_case(&stored.table) {
                continue;
            }
            let Some(table) = Table::load(connection, &name)? else { continue };
            let is_it = table.root == stored.root && stored.root != 0;
            for at in table.under(connection, &stored.at.key)? {
                // What a trigger copied there is known.
                if self.made.rows().any(|made| made.table == name && made.at.key == at.key) {
                    continue;
                }
                let equal = stored.at.row.differences(&at.row, counts).is_empty();
                // Without a column that counts every row would do.
                let tells = cells().next().is_some();
                if is_it && (home.is_none() || (equal && tells)) {
                    let why = format!("the table `{}` was renamed: `{name}` holds it", stored.table);
                    let found = Found::at(Fate::Changed(why), &name, &at.key);
                    return Ok(Some(Found { is_stored: equal && tells, ..found }));
                }
                let has_its_columns = || cells().all(|cell| at.row.get(&cell.name).is_some());
                if tells && (equal || (is_it && has_its_columns())) {
                    perhaps = Some((name.clone(), at.key));
                }
            }
        }
        Ok(perhaps.map(|(name, key)| {
            let why = format!(
                "the table `{}` is not the one it was, and a row of `{name}` may be the one meant",
                stored.table
            );
            Found::at(Fate::Unseen(why), &name, &key)
        }))
    }

    /// A row with its values and another key.
    fn under_another_key(
        &self,
        connection: &Connection,
        stored: &Stored,
        counts: &dyn Fn(&str) -> bool,
    ) -> Result<Found, StepError> {
        let counts = |column: &str| counts(column) && !stored.at.key.has(column);
        let Some(home) = Table::load(connection, &stored.table)?.filter(|table| table.kind == Kind::Table)
        else {
            return Ok(Fate::Gone.into());
        };
        if !stored.at.row.0.iter().any(|cell| counts(&cell.name)) {
            return Ok(Fate::Gone.into());
        }
        let (condition, values) = self.as_stored(&home, stored, &counts)?;
        let found = home.rows(connection, &condition, values, CANDIDATES)?;
        let like = found.iter().filter(|at| {
            !self.made.twins.contains(&at.key) && stored.at.row.differences(&at.row, counts).is_empty()
        });
        let outside = |column: &str| !stored.at.key.has(column);
        let like: Vec<_> = like.collect();
        let fate = match like.as_slice() {
            [] if found.len() < CANDIDATES => Fate::Gone,
            [] => Fate::Unseen(format!(
                "its key is gone, and `{}` is too large to be searched for it",
                home.name
            )),
            [at, ..] if self.removing => Fate::Unseen(format!(
                "its deletion was begun, and row {} has its values: it may be the same row under another key",
                at.key.shown()
            )),
            [at] if stored.at.row.differences(&at.row, outside).is_empty() => {
                Fate::Changed(format!("its key was changed: row {} is just like it", at.key.shown()))
            }
            [at, ..] => Fate::Unseen(format!(
                "its key is gone, and row {} has its values: it may be the same row",
                at.key.shown()
            )),
        };
        Ok(match like.first() {
            Some(at) => Found::at(fate, &home.name, &at.key),
            None => fate.into(),
        })
    }

    /// A condition that finds at least those rows that are like it: by the values that went in as they were given.
    fn as_stored(
        &self,
        home: &Table,
        stored: &Stored,
        counts: &dyn Fn(&str) -> bool,
    ) -> Result<(String, Vec<rusqlite::types::Value>), StepError> {
        let (mut condition, mut values) = ("1".to_owned(), Vec::new());
        for (name, value) in &self.insert.values {
            let Some(column) = home.columns.iter().find(|column| column.eq_ignore_ascii_case(name)) else {
                continue;
            };
            let value = to_sql(value)?;
            let given = Exact::cell(column, ValueRef::from(&value));
            if counts(column) && stored.at.row.get(column).is_some_and(|cell| cell.is(&given)) {
                condition.push_str(&format!(" AND {} IS ?", super::key::quoted(column)));
                values.push(value);
            }
        }
        Ok((condition, values))
    }
}
