//! One row: inserted, found again, deleted only if it still is as it was written.

use super::{
    Output,
    address::Place,
    errors::{self, Words},
    link::{Failure, Link},
    query::words,
    sql::quoted,
    table::{Column, Table},
    value,
};
use engine::{
    ErrorClass, StepError,
    secret::is_marked,
    step::{Leftover, Presence, Settled, Undone},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_postgres::Row;

/// How many equal rows that were there before are told apart by their keys.
const REMEMBERED: usize = 100;

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
    /// The first transaction number that was not given out yet; the row's is that or newer.
    xid: i64,
    /// How many rows with the same values, or the same key, were there; at most one more than is remembered.
    equal: usize,
    /// Their keys.
    keys: Vec<Map<String, Value>>,
}

/// Where a row without a key is: this version of it, and no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct At {
    /// The table, or the part of it, by its number.
    table: String,
    /// The place in the table.
    ctid: String,
    /// The transaction that wrote it.
    xmin: String,
}

/// A row that was found.
struct Found {
    key: Map<String, Value>,
    at: At,
    /// Whether the columns that were written still hold what was written.
    same: bool,
}

/// What became of the row.
enum Turned {
    Gone,
    There(Found),
    /// Nobody can tell: why.
    Unclear(&'static str),
}

/// A condition with its values, numbered behind those of another.
#[derive(Default)]
struct Condition {
    parts: Vec<String>,
    values: Vec<Value>,
    offset: usize,
}

impl Condition {
    fn behind(other: &Self) -> Self {
        Self { offset: other.values.len(), ..Self::default() }
    }

    fn add(&mut self, column: &Column, value: &Value) {
        if value.is_null() {
            self.parts.push(column.is_null());
            return;
        }
        self.values.push(value.clone());
        self.parts.push(column.holds(self.offset + self.values.len()));
    }

    fn add_text(&mut self, part: &str, text: &str) {
        self.values.push(Value::from(text));
        self.parts.push(part.replace("$?", &format!("${}", self.offset + self.values.len())));
    }

    fn sql(&self) -> String {
        if self.parts.is_empty() { "true".to_owned() } else { self.parts.join(" AND ") }
    }
}

/// A row whose transaction is not older than a number; transaction numbers begin anew after 2^32.
const NEWER: &str = "(xmin::text::bigint - $?::bigint + 4294967296) % 4294967296 < 2147483648";

/// The transaction of this moment, as rows bear it: where rows go to parts of a table, an insert cannot tell the row's.
const THIS: &str = "(txid_current() % 4294967296)";

impl Insert {
    pub(super) async fn table(&self, link: &Link<'_>) -> Result<Table, Failure> {
        let table = Table::find(link, &self.into).await?;
        if !table.is_table() {
            let message = format!("`{}` of `{}` is no table", table.label(), link.place.label);
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
        let number =
            link.rows("SELECT txid_snapshot_xmax(txid_current_snapshot()) % 4294967296", &[]).await?;
        let xid = number.first().map_or(0, |row| row.get(0));
        let mut before = Before { table, mark: mark.to_owned(), xid, equal: 0, keys: Vec::new() };
        let found = self.look(link, &before, &self.likely(link, &before.table)?, REMEMBERED + 1).await?;
        link.roll_back().await?;
        before.equal = found.len();
        before.keys = found.into_iter().map(|found| found.key).collect();
        Ok(before)
    }

    pub(super) async fn run(&self, link: &mut Link<'_>, before: &Before) -> Result<Output, StepError> {
        link.words = words(self.values.values());
        let table = &before.table;
        let columns: Result<Vec<String>, StepError> =
            self.values.keys().map(|name| Ok(quoted(&table.column(name, link)?.name))).collect();
        let columns = columns?;
        let marks: Vec<String> = (1..=columns.len()).map(|number| format!("${number}")).collect();
        let row = match columns.is_empty() {
            true => "DEFAULT VALUES".to_owned(),
            false => format!("({}) VALUES ({})", columns.join(", "), marks.join(", ")),
        };
        let sql = format!("INSERT INTO {} {row} RETURNING {}", table.sql(), returning(table, "true", THIS));
        let values: Vec<Value> = self.values.values().cloned().collect();
        // Who failed because another was first must not take the row of that other for its own.
        let refused = |link: &Link<'_>, failure| link.explain(failure).without_effect();
        let change = link.change(&sql, &values).await.map_err(|failure| refused(link, failure))?;
        match change.rows.first() {
            Some(row) => Ok(output(table, found(link, table, row))),
            None => {
                let message =
                    format!("`{}` took no row: a rule or a trigger of it put it aside", table.label());
                Err(StepError::expectation(message)
                    .hint(link.place.type_in(&format!("\\d+ {}", table.sql()))))
            }
        }
    }

    /// Adds the condition that the columns still hold what was written.
    fn as_written(
        &self,
        link: &Link<'_>,
        table: &Table,
        mut condition: Condition,
    ) -> Result<Condition, StepError> {
        for (name, value) in &self.values {
            condition.add(table.column(name, link)?, value);
        }
        Ok(condition)
    }

    /// The values of the key, if they are all among those that are written.
    fn own_key(&self, link: &Link<'_>, table: &Table) -> Option<Map<String, Value>> {
        let own = |key: &String| {
            let written = |(name, _): &(&String, &Value)| {
                table.column(name, link).is_ok_and(|column| column.name == *key)
            };
            self.values.iter().find(written).map(|(_, value)| (key.clone(), value.clone()))
        };
        if table.key.is_empty() { None } else { table.key.iter().map(own).collect() }
    }

    /// A condition that the row must fulfil without its key being known.
    fn likely(&self, link: &Link<'_>, table: &Table) -> Result<Condition, StepError> {
        match self.own_key(link, table) {
            Some(key) => Ok(by_key(table, &key)),
            None => self.as_written(link, table, Condition::default()),
        }
    }

    async fn look(
        &self,
        link: &Link<'_>,
        before: &Before,
        condition: &Condition,
        limit: usize,
    ) -> Result<Vec<Found>, Failure> {
        let table = &before.table;
        let same = self.as_written(link, table, Condition::behind(condition))?;
        let sql = format!(
            "SELECT {} FROM {} WHERE {} LIMIT {limit}",
            returning(table, &format!("coalesce({}, false)", same.sql()), "xmin"),
            table.sql(),
            condition.sql()
        );
        let values: Vec<Value> = condition.values.iter().chain(&same.values).cloned().collect();
        let rows = link.rows(&sql, &values).await?;
        Ok(rows.iter().map(|row| found(link, table, row)).collect())
    }

    /// What became of the row.
    async fn find(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        output: Option<&Output>,
    ) -> Result<Turned, StepError> {
        link.words = words(self.values.values());
        if output.is_none() {
            // What an attempt left behind on the server must not come about after this look.
            link.end_others(&before.mark).await?;
        }
        loop {
            match self.try_find(link, before, output).await {
                Ok(turned) => return Ok(turned),
                // The table went, and the row with it.
                Err(Failure::Pg(error)) if errors::code(&error) == "42P01" => return Ok(Turned::Gone),
                Err(failure) => link.again(failure).await?,
            }
        }
    }

    async fn try_find(
        &self,
        link: &Link<'_>,
        before: &Before,
        output: Option<&Output>,
    ) -> Result<Turned, Failure> {
        let table = &before.table;
        link.begin("READ ONLY").await?;
        let known = match output {
            Some(Output { key: Some(key), .. }) if !table.key.is_empty() => Some(by_key(table, key)),
            Some(Output { at: Some(at), .. }) => Some(by_place(at)),
            _ => None,
        };
        if let Some(known) = &known {
            let found = self.look(link, before, known, 1).await?.pop();
            if found.is_some() || !table.key.is_empty() {
                link.roll_back().await?;
                return Ok(found.map_or(Turned::Gone, Turned::There));
            }
        }
        let mut likely = self.likely(link, table)?;
        likely.add_text(NEWER, &before.xid.to_string());
        let rows = self.look(link, before, &likely, REMEMBERED).await?;
        let turned = match table.key.is_empty() {
            false => before.ours(rows, self.own_key(link, table).is_some()),
            true if rows.is_empty() && known.is_some() => {
                // A change makes a new version of the row: where there is none at all, the row was removed.
                let mut newer = Condition::default();
                newer.add_text(NEWER, &before.xid.to_string());
                match self.look(link, before, &newer, 1).await?.is_empty() {
                    true => Turned::Gone,
                    false => {
                        Turned::Unclear("without a key nobody can tell whether another changed or removed it")
                    }
                }
            }
            true => self.ours_without_key(link, before, rows).await?,
        };
        link.roll_back().await?;
        Ok(turned)
    }

    /// Which of the new rows with its values is ours, where no key tells them apart.
    async fn ours_without_key(
        &self,
        link: &Link<'_>,
        before: &Before,
        mut rows: Vec<Found>,
    ) -> Result<Turned, Failure> {
        Ok(match (rows.len(), rows.pop()) {
            (_, None) => Turned::Gone,
            (1, Some(one)) if before.equal == 0 => Turned::There(one),
            (1, Some(one)) => {
                let alike = self.as_written(link, &before.table, Condition::default())?;
                let all = self.look(link, before, &alike, REMEMBERED + 2).await?;
                match before.equal <= REMEMBERED && all.len() == before.equal + 1 {
                    true => Turned::There(one),
                    false => Turned::Unclear("equal rows were there before"),
                }
            }
            _ => Turned::Unclear("several new rows have its values"),
        })
    }

    /// Whether the row was inserted by an attempt whose outcome is unknown.
    pub(super) async fn settle(
        &self,
        link: &mut Link<'_>,
        before: &Before,
    ) -> Result<Settled<Output>, StepError> {
        Ok(match self.find(link, before, None).await? {
            Turned::Gone => Settled::NotHappened,
            Turned::There(found) => Settled::Happened(output(&before.table, found)),
            Turned::Unclear(why) => Settled::Unclear(why.to_owned()),
        })
    }

    pub(super) async fn undo(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        output: Option<&Output>,
    ) -> Result<Undone, StepError> {
        let table = &before.table;
        let found = match self.find(link, before, output).await? {
            Turned::Gone => return Ok(Undone::NothingToDo),
            Turned::Unclear(why) => return Ok(Undone::Left(self.unclear(&link.place, before, why))),
            Turned::There(found) if !found.same => {
                let why = "it was changed since it was written";
                return Ok(Undone::Left(found.leftover(&link.place, table, why)));
            }
            Turned::There(found) => found,
        };
        let known = match table.key.is_empty() {
            true => by_place(&found.at),
            false => by_key(table, &found.key),
        };
        // Checked once more by the very statement that deletes it: nobody can change it in between.
        let condition = self.as_written(link, table, known)?;
        let sql = format!("DELETE FROM {} WHERE {}", table.sql(), condition.sql());
        let deleted = link.change(&sql, &condition.values).await;
        match deleted {
            Ok(change) if change.count > 0 => Ok(Undone::Removed),
            Ok(_) => Ok(match self.find(link, before, output).await? {
                Turned::Gone => Undone::NothingToDo,
                Turned::There(still) if still.same => {
                    let why = "a trigger, a rule or a policy of the table keeps it from being deleted";
                    Undone::Left(still.leftover(&link.place, table, why))
                }
                _ => Undone::Left(found.leftover(&link.place, table, "it was changed in this moment")),
            }),
            Err(Failure::Pg(error)) if errors::code(&error) == "23503" => {
                let other = error.as_db_error().and_then(|said| said.table()).unwrap_or("another table");
                let why = format!("rows of `{other}` refer to it by now");
                Ok(Undone::Left(found.leftover(&link.place, table, &why)))
            }
            Err(failure) => Err(link.explain(failure)),
        }
    }

    pub(super) async fn presence(
        &self,
        link: &mut Link<'_>,
        before: &Before,
        output: Option<&Output>,
    ) -> Result<Presence, StepError> {
        Ok(match self.find(link, before, output).await? {
            Turned::Gone => Presence::Gone,
            Turned::There(found) => {
                Presence::Present(found.leftover(&link.place, &before.table, "it is still there"))
            }
            Turned::Unclear(why) => Presence::Unknown(why.to_owned()),
        })
    }

    fn unclear(&self, place: &Place, before: &Before, why: &str) -> Leftover {
        Leftover {
            what: format!("perhaps a row of `{}` in `{}`", before.table.label(), place.label),
            why: why.to_owned(),
            remove_with: place.type_in(&self.statement("SELECT ctid, *", before)),
        }
    }

    /// What a person types: by the values alone, for nobody knows the key.
    pub(super) fn by_hand(&self, place: &Place, before: &Before) -> String {
        let table = &before.table;
        let secret = words(self.values.values()) == Words::Unquoted;
        if before.equal > 0 || secret || self.values.is_empty() {
            // Which of several is ours is for the person to see.
            return place.type_in(&self.statement("SELECT *", before));
        }
        let own = |key: &String| self.values.keys().any(|name| name.eq_ignore_ascii_case(key));
        let delete = self.statement("DELETE", before);
        if !table.key.is_empty() && table.key.iter().all(own) {
            return place.type_in(&delete);
        }
        // Another may have inserted an equal one since.
        let count = self.statement("SELECT count(*)", before);
        place.type_in(&format!("{delete} AND 1 = ({count})"))
    }

    fn statement(&self, verb: &str, before: &Before) -> String {
        let table = &before.table;
        let mut conditions = Vec::new();
        for (name, value) in &self.values {
            let column = table.known(name).or_else(|| table.known(&name.to_lowercase()));
            let text = column.and_then(|column| column.shown(value));
            let told = text.as_deref().is_none_or(|text| !is_marked(text));
            if let Some(column) = column.filter(|_| told) {
                conditions.push(column.holds_literal(text.as_deref()));
            }
        }
        let conditions = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
        format!("{verb} FROM {} WHERE {conditions}", table.sql())
    }
}

impl Before {
    /// Which of the new rows with its values is ours.
    fn ours(&self, rows: Vec<Found>, own_key: bool) -> Turned {
        let (old, mut new): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| self.keys.contains(&row.key));
        match (new.len(), new.pop()) {
            (_, None) if own_key && !old.is_empty() => Turned::Unclear("a row with its key was there before"),
            (_, None) => Turned::Gone,
            (1, Some(one)) if self.equal <= REMEMBERED => Turned::There(one),
            _ => Turned::Unclear("several new rows have its values"),
        }
    }
}

fn by_key(table: &Table, key: &Map<String, Value>) -> Condition {
    let mut condition = Condition::default();
    for column in table.key_columns() {
        condition.add(column, key.get(&column.name).unwrap_or(&Value::Null));
    }
    condition
}

fn by_place(at: &At) -> Condition {
    let mut condition = Condition::default();
    condition.add_text("tableoid = $?::oid", &at.table);
    condition.add_text("ctid = $?::tid", &at.ctid);
    condition.add_text("xmin::text = $?::text", &at.xmin);
    condition
}

/// What is read of a row: whether it is as it was written, where it is, and its key.
fn returning(table: &Table, same: &str, xmin: &str) -> String {
    let key = table.key_columns().into_iter().map(|column| format!(", {}", column.as_text()));
    format!("{same}, tableoid::text, ctid::text, {xmin}::text{}", key.collect::<String>())
}

fn found(link: &Link<'_>, table: &Table, row: &Row) -> Found {
    let key = table.key_columns().into_iter().enumerate().map(|(at, column)| {
        let text: Option<String> = row.get(4 + at);
        let value = match text {
            Some(text) if column.whole => value::number(&text),
            // A secret is only named, and put in again where the key is looked for.
            Some(text) => Value::from(link.cx.services.secrets.mask(&text)),
            None => Value::Null,
        };
        (column.name.clone(), value)
    });
    let at = At { table: row.get(1), ctid: row.get(2), xmin: row.get(3) };
    Found { key: key.collect(), at, same: row.get(0) }
}

fn output(table: &Table, found: Found) -> Output {
    let rowid = match table.key.as_slice() {
        [only] => found.key.get(only).and_then(Value::as_i64),
        _ => None,
    };
    let (key, at) = match table.key.is_empty() {
        true => (None, Some(found.at)),
        false => (Some(found.key), None),
    };
    Output { rowid, key, at, changes: 1, ..Output::default() }
}

impl Found {
    fn leftover(&self, place: &Place, table: &Table, why: &str) -> Leftover {
        let (what, condition) = match table.key.is_empty() {
            true => {
                let At { ctid, xmin, table } = &self.at;
                let condition = format!("tableoid = {table} AND ctid = '{ctid}' AND xmin = '{xmin}'");
                (format!("the row at {ctid}"), condition)
            }
            false => {
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let told: Vec<String> =
                    self.key.iter().map(|(name, value)| format!("{name} {}", text(value))).collect();
                let conditions = table
                    .key_columns()
                    .into_iter()
                    .map(|column| column.holds_literal(self.key.get(&column.name).map(text).as_deref()));
                (format!("the row with {}", told.join(", ")), conditions.collect::<Vec<_>>().join(" AND "))
            }
        };
        Leftover {
            what: format!("{what} of `{}` in `{}`", table.label(), place.label),
            why: why.to_owned(),
            remove_with: place.type_in(&format!("DELETE FROM {} WHERE {condition}", table.sql())),
        }
    }
}
