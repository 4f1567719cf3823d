//! What an insert made: the row, and all that triggers did because of it. It is put into the intent before the commit.

use super::{
    anew::Objects,
    insert::Insert,
    key::{At, Key, quoted},
};
use crate::store::{Row, Thing};
use engine::{StepError, host::shell_word, secret::Secrets};
use serde::{Deserialize, Serialize};

/// A row that is there because of the insert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) table: String,
    /// The first page of the table.
    #[serde(default)]
    pub(super) root: i64,
    #[serde(flatten)]
    pub(super) at: At,
}

/// A row of another that a trigger changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Altered {
    pub(super) table: String,
    pub(super) key: Key,
    /// As it was before.
    pub(super) before: Row,
}

/// The whole effect of an insert.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    /// The row that was asked for; missing for a view, which has no rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) row: Option<Stored>,
    /// Rows that triggers inserted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) others: Vec<Stored>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) altered: Vec<Altered>,
    /// Tables of modules that triggers wrote, and nobody can watch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) unwatched: Vec<String>,
    /// The version of the schema; it only ever grows.
    #[serde(default)]
    pub(super) schema: i64,
    /// What the schema held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) objects: Option<Objects>,
    /// Rows of others that are like it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) twins: Vec<Key>,
}

impl Made {
    pub(super) fn rows(&self) -> impl Iterator<Item = &Stored> {
        self.row.iter().chain(&self.others)
    }

    /// With the secrets that the journal does not keep.
    pub(super) fn revealed(&self, secrets: &Secrets) -> Result<Self, StepError> {
        let mut made = self.clone();
        for stored in made.row.iter_mut().chain(&mut made.others) {
            stored.at.key.reveal(secrets)?;
        }
        let altered = made.altered.iter_mut().map(|altered| &mut altered.key);
        for key in altered.chain(&mut made.twins) {
            key.reveal(secrets)?;
        }
        Ok(made)
    }

    /// What triggers did, in a few words; empty if nothing.
    pub(super) fn besides(&self) -> String {
        let mut words = Vec::new();
        let mut tables: Vec<&str> = self.others.iter().map(|stored| stored.table.as_str()).collect();
        tables.sort_unstable();
        for group in tables.chunk_by(|one, other| one == other) {
            words.push(format!("{} in `{}`", rows(group.len()), group[0]));
        }
        let mut changed: Vec<&str> = self.altered.iter().map(|altered| altered.table.as_str()).collect();
        changed.sort_unstable();
        for group in changed.chunk_by(|one, other| one == other) {
            words.push(format!("{} of `{}` changed", rows(group.len()), group[0]));
        }
        words.extend(self.unwatched.iter().map(|table| format!("entries of `{table}`")));
        words.join(", ")
    }
}

pub(super) fn rows(count: usize) -> String {
    if count == 1 { "1 row".into() } else { format!("{count} rows") }
}

/// A row as people read of it.
pub(super) fn named(table: &str, key: &Key, database: &str) -> String {
    format!("row {} of `{table}` in `{database}`", key.shown())
}

/// The row with the command that deletes it, if it is as it was stored: under its key another's may stand by now. What cannot
/// be put into a condition is to be seen first.
pub(super) fn deletion(stored: &Stored, insert: Option<&Insert>, database: &str) -> Thing {
    deletion_at(&stored.table, stored, insert, database)
}

/// The same where its table has another name now.
pub(super) fn deletion_at(table: &str, stored: &Stored, insert: Option<&Insert>, database: &str) -> Thing {
    let what = named(&stored.table, &stored.at.key, database);
    let Some(rest) = insert.map_or(Some(String::new()), |insert| insert.typed(stored)) else {
        return Thing { what, ..look(table, &stored.at.key, database) };
    };
    let sql = format!("DELETE FROM {} WHERE {}{rest}", quoted(table), stored.at.key.typed());
    Thing { what, remove_with: typed(database, &sql) }
}

/// The row with the command that shows it: where a plain deletion is not what helps.
pub(super) fn look(table: &str, key: &Key, database: &str) -> Thing {
    let sql = format!("SELECT * FROM {} WHERE {}", quoted(table), key.typed());
    Thing { what: named(table, key, database), remove_with: typed(database, &sql) }
}

/// SQL as a person types it.
pub(super) fn typed(database: &str, sql: &str) -> String {
    let database = if database.starts_with('-') { format!("./{database}") } else { database.to_owned() };
    format!("sqlite3 {} {}", shell_word(&database), shell_word(sql))
}
