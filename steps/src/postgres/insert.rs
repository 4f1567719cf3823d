//! One row: inserted, found again by what the server made of it, deleted only if it still is as it was stored.
//!
//! It is inserted in an open transaction and read back; the intent is amended with its key, its place, its transaction
//! and the bytes of its values, and only then the transaction is committed. Whoever comes after a crash knows what to look
//! for, and that nothing happened if there is no such row in the intent.

mod commands;
mod find;
mod moved;
mod placing;
mod removal;

use super::{
    Output,
    home::Home,
    link::{Failure, Link},
    query::words,
    table::Table,
};
use crate::store::Row;
use engine::{ErrorClass, StepError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A row to insert.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Insert {
    /// The table, such as `files` or `archive.files`: found exactly so, else in small letters.
    pub(super) into: String,
    /// Values by column: text, numbers, true and false, null; lists for arrays, maps and lists for JSON,
    /// `{"$blob": "hex"}` for bytes. The server reads text as the type of the column, as in `'2025-01-23 10:15'`.
    pub(super) values: Map<String, Value>,
}

/// What must be known to find the row again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Before {
    table: Table,
    /// The name of the session that inserts it.
    pub(super) mark: String,
    /// The server and the database; missing in intents of versions that did not amend them.
    #[serde(default)]
    pub(super) home: Option<Home>,
    /// The row, once the server has it in a transaction that is not committed yet.
    #[serde(default)]
    row: Option<Placed>,
}

/// Where a row without a key is: this version of it, and no other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct At {
    /// The table, or the part of it, by its number.
    table: String,
    /// The place in the table.
    ctid: String,
    /// The transaction that wrote it.
    xmin: String,
}

/// A row as the server stored it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Placed {
    /// The transaction.
    xid: i64,
    at: At,
    /// The key by column, as outputs have it.
    key: Map<String, Value>,
    /// Whether the key stands among the values, so that another may insert the same one.
    own_key: bool,
    /// The columns that were written and those of the key, to the byte.
    stored: Row,
    /// Digests, by the server, of the columns that were written and belong to no key; those that are NULL are missing.
    sums: Map<String, Value>,
    /// The file of the table and how often it was vacuumed: as long as both stay, no place in it is used anew.
    ground: Option<String>,
    /// How often rows had been deleted where it is.
    #[serde(default)]
    deleted: Option<i64>,
    /// All tables of the tree that its table belonged to.
    #[serde(default)]
    family: Vec<u32>,
    /// What its triggers and rules did besides.
    #[serde(default)]
    sides: Vec<Side>,
}

/// What triggers and rules did to a table when the row was inserted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Side {
    oid: u32,
    /// As statements name it.
    sql: String,
    /// As messages name it.
    label: String,
    /// Rows that they inserted.
    inserted: i64,
    /// Rows that they changed or deleted.
    changed: i64,
    /// Whether those that were inserted, and only those, bear the transaction's number.
    found: bool,
}

/// A row that was found.
struct Found {
    key: Map<String, Value>,
    at: At,
    /// The table, or the part of it, that holds it.
    part: String,
    /// The columns that were written and those of the key, to the byte.
    now: Row,
    /// The table as it is now.
    table: Table,
}

/// What became of the row.
enum Turned {
    /// It is not there, and all of the table could be seen.
    Gone,
    /// It is there, and it is ours, as it was stored.
    Ours(Found),
    /// It is there, and another changed it: how.
    Changed(Found, String),
    /// Nobody can tell: why, and which row may be it.
    Unclear(String, Option<Found>),
}

/// A condition with its values.
#[derive(Default)]
struct Condition {
    parts: Vec<String>,
    values: Vec<Value>,
}

impl Condition {
    fn by_key(table: &Table, key: &Map<String, Value>) -> Self {
        let mut condition = Self::default();
        for column in table.key_columns() {
            match key.get(&column.name) {
                None | Some(Value::Null) => condition.parts.push(column.is_null()),
                Some(value) => {
                    condition.values.push(value.clone());
                    condition.parts.push(column.holds(condition.values.len()));
                }
            }
        }
        condition
    }

    fn by_place(at: &At) -> Self {
        let place = Self::default().and("tableoid = $?::oid", &at.table).and("ctid = $?::tid", &at.ctid);
        if at.xmin.is_empty() { place } else { place.and("xmin::text = $?::text", &at.xmin) }
    }

    fn and(mut self, part: &str, text: &str) -> Self {
        self.values.push(Value::from(text));
        self.parts.push(part.replace("$?", &format!("${}", self.values.len())));
        self
    }

    fn sql(&self) -> String {
        if self.parts.is_empty() { "true".to_owned() } else { self.parts.join(" AND ") }
    }
}

impl Insert {
    async fn table(&self, link: &Link<'_>) -> Result<Table, Failure> {
        let table = Table::find(link, &self.into).await?;
        if let Some(kind) = table.other_kind() {
            let message = format!("`{}` of `{}` is {kind}, not a table", table.label(), link.place.label);
            return Err(StepError::new(ErrorClass::Unsupported, message)
                .hint("insert into the table behind it, or use `execute` with a written `undo`")
                .into());
        }
        for (name, value) in &self.values {
            table.column(name, link)?.refuse(name, value)?;
        }
        Ok(table)
    }

    pub(super) async fn intend(&self, link: &mut Link<'_>, mark: String) -> Result<Before, StepError> {
        link.words = words(self.values.values());
        loop {
            match self.look_before(link, &mark).await {
                Ok(before) => return Ok(before),
                Err(failure) => link.again(failure).await?,
            }
        }
    }

    async fn look_before(&self, link: &Link<'_>, mark: &str) -> Result<Before, Failure> {
        link.begin("READ ONLY").await?;
        let table = self.table(link).await?;
        let home = Home::look(link, None).await?.home;
        link.roll_back().await?;
        Ok(Before { table, mark: mark.to_owned(), home: Some(home), row: None })
    }

    /// The columns that were written, by the names that the table has for them, and those of the key.
    fn columns(&self, link: &Link<'_>, table: &Table) -> Result<Vec<String>, StepError> {
        let written = self.values.keys().map(|name| Ok(table.column(name, link)?.name.clone()));
        let mut columns = written.collect::<Result<Vec<_>, StepError>>()?;
        columns.extend(table.key.iter().filter(|key| !columns.contains(key)).cloned().collect::<Vec<_>>());
        Ok(columns)
    }
}

impl Placed {
    fn output(&self, table: &Table) -> Output {
        let rowid = match table.key.as_slice() {
            [only] => self.key.get(only).and_then(Value::as_i64),
            _ => None,
        };
        let (key, at) = match table.key.is_empty() {
            true => (None, Some(self.at.clone())),
            false => (Some(self.key.clone()), None),
        };
        Output { rowid, key, at, changes: 1, ..Output::default() }
    }
}
