//! One row: inserted, found again, deleted only if it still is as it was written.

use super::{
    connection::{explain, immediate},
    value::to_sql,
};
use engine::{
    StepError,
    host::shell_word,
    step::{Leftover, Presence, Settled, Undone},
};
use rusqlite::{Connection, OptionalExtension, params_from_iter, types::Value as SqlValue};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A row to insert.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Insert {
    /// The table.
    pub(super) into: String,
    /// Values by column; text, numbers, true and false (as 1 and 0), null.
    pub(super) values: Map<String, Value>,
}

/// What became of a row.
enum Found {
    Gone,
    /// As it was written; its rowid.
    AsWritten(i64),
    /// Somebody changed a column that we wrote.
    Changed(i64),
    /// Several rows could be ours.
    Unclear,
}

/// An identifier of SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Insert {
    pub(super) fn columns(&self) -> Vec<String> {
        self.values.keys().cloned().collect()
    }

    fn bound(&self) -> Result<Vec<SqlValue>, StepError> {
        self.values.values().map(to_sql).collect()
    }

    pub(super) fn highest_rowid(&self, connection: &Connection) -> Result<i64, StepError> {
        super::check::require_columns(connection, &self.into, &self.columns())?;
        let sql = format!("SELECT coalesce(max(rowid), 0) FROM {}", quoted(&self.into));
        connection.query_row(&sql, [], |row| row.get(0)).map_err(|error| explain(connection, &error))
    }

    pub(super) fn run(&self, connection: &mut Connection) -> Result<i64, StepError> {
        super::check::require_columns(connection, &self.into, &self.columns())?;
        let columns: Vec<String> = self.values.keys().map(|name| quoted(name)).collect();
        let marks = vec!["?"; columns.len()].join(", ");
        let sql = match columns.is_empty() {
            true => format!("INSERT INTO {} DEFAULT VALUES", quoted(&self.into)),
            false => format!("INSERT INTO {} ({}) VALUES ({marks})", quoted(&self.into), columns.join(", ")),
        };
        let values = self.bound()?;
        immediate(connection, |transaction| {
            transaction.execute(&sql, params_from_iter(values))?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// Columns that hold what was written, as SQL; `IS` also compares NULL.
    fn as_written(&self) -> String {
        let parts: Vec<String> = self.values.keys().map(|name| format!("{} IS ?", quoted(name))).collect();
        if parts.is_empty() { "1".to_owned() } else { parts.join(" AND ") }
    }

    fn find(
        &self,
        connection: &Connection,
        above: Option<i64>,
        rowid: Option<i64>,
    ) -> Result<Found, StepError> {
        let failed = |error: rusqlite::Error| explain(connection, &error);
        let table = quoted(&self.into);
        let mut values = self.bound()?;
        if let Some(rowid) = rowid {
            let sql = format!("SELECT {} FROM {table} WHERE rowid = ?", self.as_written());
            values.push(SqlValue::Integer(rowid));
            let same =
                connection.query_row(&sql, params_from_iter(values), |row| row.get::<_, bool>(0)).optional();
            return Ok(match same.map_err(failed)? {
                None => Found::Gone,
                Some(true) => Found::AsWritten(rowid),
                Some(false) => Found::Changed(rowid),
            });
        }
        // The run died before it learned the id: only a new row with exactly these values can be ours.
        let Some(above) = above else { return Ok(Found::Gone) };
        let sql = format!("SELECT rowid FROM {table} WHERE {} AND rowid > ? LIMIT 2", self.as_written());
        values.push(SqlValue::Integer(above));
        let mut statement = connection.prepare(&sql).map_err(failed)?;
        let rows: Vec<i64> = statement
            .query_map(params_from_iter(values), |row| row.get(0))
            .and_then(Iterator::collect)
            .map_err(failed)?;
        Ok(match rows.as_slice() {
            [] => Found::Gone,
            [only] => Found::AsWritten(*only),
            _ => Found::Unclear,
        })
    }

    /// Whether the row was inserted by an attempt whose outcome is unknown.
    pub(super) fn settle(
        &self,
        connection: &Connection,
        above: Option<i64>,
    ) -> Result<Settled<i64>, StepError> {
        Ok(match self.find(connection, above, None)? {
            Found::Gone => Settled::NotHappened,
            Found::AsWritten(rowid) | Found::Changed(rowid) => Settled::Happened(rowid),
            Found::Unclear => Settled::Unclear("several new rows have its values".into()),
        })
    }

    pub(super) fn undo(
        &self,
        connection: &mut Connection,
        database: &str,
        above: Option<i64>,
        rowid: Option<i64>,
    ) -> Result<Undone, StepError> {
        match self.find(connection, above, rowid)? {
            Found::Gone => Ok(Undone::NothingToDo),
            Found::Changed(rowid) => {
                Ok(Undone::Left(self.leftover(database, rowid, "it was changed since it was written")))
            }
            Found::Unclear => Ok(Undone::Left(Leftover {
                what: format!("a row of `{}` in `{database}`", self.into),
                why: "several new rows have its values".into(),
                remove_with: format!("sqlite3 {} 'SELECT rowid, * FROM {}'", shell_word(database), self.into),
            })),
            Found::AsWritten(rowid) => {
                // Checked once more inside of the transaction: nobody can change it in between.
                let sql =
                    format!("DELETE FROM {} WHERE rowid = ? AND {}", quoted(&self.into), self.as_written());
                let mut values = vec![SqlValue::Integer(rowid)];
                values.extend(self.bound()?);
                let deleted =
                    immediate(connection, |transaction| transaction.execute(&sql, params_from_iter(values)))?;
                match deleted {
                    0 => Ok(Undone::Left(self.leftover(database, rowid, "it was changed in this moment"))),
                    _ => Ok(Undone::Removed),
                }
            }
        }
    }

    pub(super) fn presence(
        &self,
        connection: &Connection,
        database: &str,
        above: Option<i64>,
        rowid: Option<i64>,
    ) -> Result<Presence, StepError> {
        Ok(match self.find(connection, above, rowid)? {
            Found::Gone => Presence::Gone,
            Found::AsWritten(rowid) | Found::Changed(rowid) => {
                Presence::Present(self.leftover(database, rowid, "it is still there"))
            }
            Found::Unclear => Presence::Unknown("several new rows have its values".into()),
        })
    }

    fn leftover(&self, database: &str, rowid: i64, why: &str) -> Leftover {
        let sql = format!("DELETE FROM {} WHERE rowid = {rowid}", quoted(&self.into));
        Leftover {
            what: format!("row {rowid} of `{}` in `{database}`", self.into),
            why: why.to_owned(),
            remove_with: format!("sqlite3 {} {}", shell_word(database), shell_word(&sql)),
        }
    }
}
