//! Whether a table is still the one that a row went into, or was dropped and made anew under the same name.
//!
//! A new table often gets the very first page of the old one, and an equal row in it may be another's. What tells is the version
//! of the schema: every statement that makes, alters or drops something raises it by one, as a vacuum does. What is more by now
//! than objects and columns account for was a table that went and came back.

use super::{connection::explain, fate::Search, insert::schema_version, made::Stored, table::Table};
use engine::StepError;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many statements nobody has to account for: a vacuum.
const VACUUM: i64 = 1;

/// How many objects a schema has; those that SQLite makes by itself for a table come with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Objects {
    all: i64,
    /// Of them indexes and triggers, by the table that they belong to.
    attached: BTreeMap<String, i64>,
}

impl Objects {
    /// As they are now; attached ones of these tables.
    pub(super) fn of<'t>(
        connection: &Connection,
        tables: impl Iterator<Item = &'t str>,
    ) -> Result<Self, StepError> {
        let count = |condition: &str, table: &str| -> Result<i64, StepError> {
            let sql =
                format!("SELECT count(*) FROM main.sqlite_schema WHERE sql IS NOT NULL AND {condition}");
            let counted = connection.query_row(&sql, [table], |row| row.get(0));
            counted.map_err(|error| explain(connection, &error))
        };
        let all = count("?1 = ''", "")?;
        let attached = tables.map(|table| {
            Ok((table.to_owned(), count("type <> 'table' AND lower(tbl_name) = lower(?1)", table)?))
        });
        Ok(Self { all, attached: attached.collect::<Result<_, StepError>>()? })
    }
}

impl Search<'_> {
    /// Why the table of that name may be another one than that of the row.
    pub(super) fn made_anew(
        &self,
        connection: &Connection,
        home: &Table,
        stored: &Stored,
    ) -> Result<Option<String>, StepError> {
        let Some(then) = &self.made.objects else { return Ok(None) };
        let statements = schema_version(connection)? - self.made.schema;
        if statements <= VACUUM {
            return Ok(None);
        }
        let now = Objects::of(connection, std::iter::once(stored.table.as_str()))?;
        let of = |objects: &Objects| objects.attached.get(&stored.table).copied().unwrap_or(0);
        let others = (now.all - of(&now)) - (then.all - of(then));
        let had = |column: &str| stored.at.row.0.iter().any(|cell| cell.name == column);
        let has = |column: &str| home.columns.iter().any(|name| name == column);
        let columns = home.columns.iter().filter(|column| !had(column)).count()
            + stored.at.row.0.iter().filter(|cell| !has(&cell.name)).count();
        let accounted =
            others.abs() + (of(&now) - of(then)).max(0) + i64::try_from(columns).unwrap_or(i64::MAX);
        Ok((statements - accounted > VACUUM).then(|| {
            format!(
                "the schema was changed since: `{}` may have been made anew, and a row that is just like it may be another's",
                home.name
            )
        }))
    }
}
