//! What must hold of a database before anything relies on it.

use super::{
    connection::{explain, immediate, require_writable},
    file::is_wal,
};
use engine::{StepError, error::ErrorClass};
use rusqlite::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A property of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The file is there.
    Exists,
    /// It is a database that can be read.
    Readable,
    /// A write transaction can be begun; it is rolled back.
    Writable,
    /// Its journal mode is WAL.
    Wal,
    /// `PRAGMA quick_check` finds nothing.
    Quick,
    /// `PRAGMA integrity_check` finds nothing.
    Full,
    /// The table is there, with the columns.
    Schema,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// `wal`, `delete` and so on.
    #[serde(default)]
    pub journal_mode: Option<String>,
    /// Whether a write transaction could be begun; missing if it was not tried.
    #[serde(default)]
    pub writable: Option<bool>,
    /// `ok`, if integrity was checked.
    #[serde(default)]
    pub integrity: Option<String>,
    /// The size in bytes.
    #[serde(default)]
    pub size: u64,
}

impl Health {
    /// A few words for the report.
    pub(super) fn words(&self) -> String {
        let mut words = Vec::new();
        if self.writable == Some(true) {
            words.push("writable".to_owned());
        }
        words.extend(self.journal_mode.as_ref().map(|mode| mode.to_uppercase()));
        words.extend(self.integrity.clone().map(|integrity| format!("integrity {integrity}")));
        words.push(engine::quantity::Bytes(self.size).to_string());
        words.join(", ")
    }
}

/// Looks; the first property that does not hold is the error. With `looks_only` no write transaction is begun.
pub(super) fn look(
    connection: &mut Connection,
    wanted: &[Check],
    table: Option<&str>,
    columns: &[String],
    looks_only: bool,
) -> Result<Health, StepError> {
    let database = connection.path().unwrap_or_default().to_owned();
    let text = |connection: &Connection, sql: &str| -> Result<String, StepError> {
        connection.query_row(sql, [], |row| row.get(0)).map_err(|error| explain(connection, &error))
    };
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| explain(connection, &error))?;
    // Who looks at a file that has no log takes it for a plain one: its header tells.
    let mode = match is_wal(&database) {
        true => "wal".to_owned(),
        false => text(connection, "PRAGMA journal_mode")?,
    };
    let size = std::fs::metadata(&database).map(|metadata| metadata.len()).unwrap_or(0);
    let mut health = Health { journal_mode: Some(mode.clone()), size, ..Health::default() };
    for check in wanted {
        match check {
            Check::Exists | Check::Readable if tables == 0 && size == 0 => {
                return Err(StepError::new(
                    ErrorClass::Corrupt,
                    format!("`{database}` is empty: it holds no database yet"),
                )
                .hint("has the program that owns it been started once?"));
            }
            Check::Exists | Check::Readable => {}
            Check::Writable => {
                require_writable(&database)?;
                if !looks_only {
                    immediate(connection, |_| Ok(()))?;
                }
                health.writable = Some(true);
            }
            Check::Wal if mode == "wal" => {}
            Check::Wal => {
                return Err(StepError::expectation(format!(
                    "`{database}`: expected journal mode `wal`, found `{mode}`"
                ))
                .hint("its owner has to switch it: PRAGMA journal_mode = wal"));
            }
            Check::Quick | Check::Full => {
                let pragma =
                    if *check == Check::Full { "PRAGMA integrity_check(3)" } else { "PRAGMA quick_check(3)" };
                let found = text(connection, pragma)?;
                if found != "ok" {
                    return Err(StepError::new(
                        ErrorClass::Corrupt,
                        format!("`{database}` is damaged: {found}"),
                    )
                    .hint("restore a backup, or save what can be read: sqlite3 FILE .recover"));
                }
                health.integrity = Some(found);
            }
            Check::Schema => match table {
                Some(table) => require_columns(connection, table, columns)?,
                None => return Err(StepError::new(ErrorClass::Invalid, "`check: schema` needs `table`")),
            },
        }
    }
    Ok(health)
}

/// The table must be there, with these columns.
pub(super) fn require_columns(
    connection: &Connection,
    table: &str,
    columns: &[String],
) -> Result<(), StepError> {
    let database = connection.path().unwrap_or_default().to_owned();
    let names = |sql: &str, of: &[&str]| -> Result<Vec<String>, StepError> {
        let read = || -> rusqlite::Result<Vec<String>> {
            connection.prepare(sql)?.query_map(rusqlite::params_from_iter(of), |row| row.get(0))?.collect()
        };
        read().map_err(|error| explain(connection, &error))
    };
    let there = names("SELECT name FROM pragma_table_info(?1)", &[table])?;
    if there.is_empty() {
        let tables =
            names("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name", &[])?;
        let hint = engine::diagnostic::did_you_mean(table, tables.iter().map(String::as_str))
            .unwrap_or_else(|| format!("its tables are: {}", tables.join(", ")));
        return Err(
            StepError::new(ErrorClass::NotFound, format!("`{database}` has no table `{table}`")).hint(hint)
        );
    }
    for column in columns {
        if !there.iter().any(|name| name.eq_ignore_ascii_case(column)) {
            let hint = engine::diagnostic::did_you_mean(column, there.iter().map(String::as_str))
                .unwrap_or_else(|| format!("its columns are: {}", there.join(", ")));
            let message = format!("the table `{table}` of `{database}` has no column `{column}`");
            return Err(StepError::new(ErrorClass::NotFound, message).hint(hint));
        }
    }
    Ok(())
}
