//! One row: inserted, read back and written down before anybody can see it.

use super::{
    anew::Objects,
    check::require_columns,
    connection::explain,
    file::DatabaseFile,
    key::{At, Exact, Key, quoted},
    made::{Altered, Made, Stored, named},
    table::{Kind, Table},
    twins::twins,
    value::to_sql,
    witness::{Change, Event, Witness, written},
};
use engine::{StepError, error::ErrorClass, secret::is_marked};
use rusqlite::{
    Connection, Transaction, TransactionBehavior, params_from_iter,
    types::{Value as SqlValue, ValueRef},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// How long a condition may be that a person types, in bytes.
const LONGEST: usize = 10_000;

/// A row to insert.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Insert {
    /// The table; or a view that takes inserts.
    pub(super) into: String,
    /// Values by column; text, numbers, true and false (as 1 and 0), null.
    pub(super) values: Map<String, Value>,
}

impl Insert {
    pub(super) fn columns(&self) -> Vec<String> {
        self.values.keys().cloned().collect()
    }

    /// Whether a column was asked for: others belong to the program under test.
    pub(super) fn writes(&self, column: &str) -> bool {
        self.values.keys().any(|name| name.eq_ignore_ascii_case(column))
    }

    /// The condition, for a person to type, that what was written and is no key still is as it was stored; nothing if that
    /// cannot be typed.
    pub(super) fn typed(&self, stored: &Stored) -> Option<String> {
        let mut conditions = String::new();
        for (name, value) in &self.values {
            let Some(cell) = stored.at.row.0.iter().find(|cell| cell.name.eq_ignore_ascii_case(name)) else {
                continue;
            };
            let value = to_sql(value).ok()?;
            let value = ValueRef::from(&value);
            // What a trigger or the type of the column made of a value is not known as one.
            if !stored.at.key.has(&cell.name) && cell.is(&Exact::cell(&cell.name, value)) {
                let literal = Exact::from(value).literal();
                conditions.push_str(&format!(" AND {} COLLATE BINARY IS {literal}", quoted(&cell.name)));
            }
        }
        (conditions.len() <= LONGEST && !is_marked(&conditions)).then_some(conditions)
    }

    fn bound(&self) -> Result<Vec<SqlValue>, StepError> {
        self.values.values().map(to_sql).collect()
    }

    /// The strict rule takes the place of what the schema says of conflicts: nothing is replaced, nothing ignored.
    fn statement(&self) -> String {
        let columns: Vec<String> = self.values.keys().map(|name| quoted(name)).collect();
        let marks = vec!["?"; columns.len()].join(", ");
        let into = quoted(&self.into);
        match columns.is_empty() {
            true => format!("INSERT OR ABORT INTO main.{into} DEFAULT VALUES"),
            false => format!("INSERT OR ABORT INTO main.{into} ({}) VALUES ({marks})", columns.join(", ")),
        }
    }

    pub(super) fn table(&self, connection: &Connection) -> Result<Option<Table>, StepError> {
        Table::load(connection, &self.into)
    }

    /// Tables that triggers would write, too.
    pub(super) fn would_also_write(&self, connection: &mut Connection) -> Result<Vec<String>, StepError> {
        require_columns(connection, &self.into, &self.columns())?;
        let written = written(connection, &self.statement())?;
        let others = written.into_keys().filter(|table| !table.eq_ignore_ascii_case(&self.into));
        Ok(others.filter(|table| !table.starts_with("sqlite_")).map(|table| format!("`{table}`")).collect())
    }

    /// Inserts it. `publish` is given all that came of it while nobody else can see it; only once that is durable it is
    /// committed.
    ///
    /// # Errors
    /// It cannot be inserted, or not without touching what is another's. Nothing was, if the error says so.
    pub(super) fn run(
        &self,
        connection: &mut Connection,
        database: &str,
        file: &DatabaseFile,
        publish: impl Fn(&Made) -> Result<(), StepError>,
    ) -> Result<Made, StepError> {
        let transaction = self.prepare(connection, database, file, publish);
        let (transaction, made) = transaction.map_err(StepError::without_effect)?;
        match transaction.commit() {
            Ok(()) => Ok(made),
            Err(error) => {
                let explained = explain(connection, &error);
                // A lock that was in the way left all as it was.
                let certain = explained.class == ErrorClass::Busy;
                Err(if certain { explained.without_effect() } else { explained })
            }
        }
    }

    fn prepare<'c>(
        &self,
        connection: &'c mut Connection,
        database: &str,
        file: &DatabaseFile,
        publish: impl Fn(&Made) -> Result<(), StepError>,
    ) -> Result<(Transaction<'c>, Made), StepError> {
        require_columns(connection, &self.into, &self.columns())?;
        let statement = self.statement();
        let witness = Witness::over(connection, vec![statement.clone()], false)?;
        let connection: &'c Connection = connection;
        let failed = |error: rusqlite::Error| explain(connection, &error);
        let transaction =
            Transaction::new_unchecked(connection, TransactionBehavior::Immediate).map_err(failed)?;
        file.require(database)?;
        let table = self.table(&transaction)?.ok_or_else(|| self.nothing("it is gone"))?;
        let changed = transaction.execute(&statement, params_from_iter(self.bound()?)).map_err(|error| {
            let explained = explain(connection, &error);
            self.refused(&transaction, &table, &error, explained)
        })?;
        let made = self.made(&transaction, &table, changed, &witness)?;
        publish(&made)?;
        file.require(database)?;
        Ok((transaction, made))
    }

    /// Everything that came of the insert; an error if that is not just what was asked for.
    fn made(
        &self,
        connection: &Connection,
        table: &Table,
        changed: usize,
        witness: &Witness,
    ) -> Result<Made, StepError> {
        if changed != 1 && table.kind != Kind::View {
            return Err(self.nothing("a trigger or the table's own rule for conflicts ignores it"));
        }
        let events = witness.seen(connection)?;
        let (born, altered) = sorted(&events, &table.name)?;
        let schema = schema_version(connection)?;
        let (mut own, mut others) = (None, Vec::new());
        let last = connection.last_insert_rowid();
        for (name, key) in born {
            let Some(home) = Table::load(connection, &name)? else { continue };
            let found = home.under(connection, &key)?;
            let [at] = found.as_slice() else {
                let message = format!(
                    "`{name}` has no key, and {} as the one to be inserted: it could not be told from them",
                    if found.len() == 2 { "a row is just".to_owned() } else { "rows are just".to_owned() }
                );
                return Err(StepError::new(ErrorClass::Unsupported, message));
            };
            let stored = Stored { table: home.name.clone(), root: home.root, at: at.clone() };
            let is_own = home.name == table.name && (at.rowid.is_none() || at.rowid == Some(last));
            match is_own && own.is_none() {
                true => own = Some(stored),
                false => others.push(stored),
            }
        }
        // A trigger may have given it another key.
        if own.is_none()
            && let Some(at) = others.iter().position(|stored| stored.table == table.name)
        {
            own = Some(others.remove(at));
        }
        let mut unwatched = witness.unwatched.clone();
        if table.kind == Kind::Virtual {
            unwatched.remove(&table.name);
            own = self.virtual_row(connection, table, last)?;
        }
        match table.kind {
            Kind::View if others.is_empty() && altered.is_empty() && unwatched.is_empty() => {
                return Err(self.nothing("the triggers of the view ignore it"));
            }
            Kind::View => {}
            _ if own.is_none() => return Err(self.nothing("a trigger takes it away again")),
            _ => {}
        }
        let twins = match &own {
            Some(stored) => twins(connection, stored, |column| self.writes(column))?,
            None => Vec::new(),
        };
        let tables = own.iter().chain(&others).map(|stored| stored.table.as_str());
        let objects = Some(Objects::of(connection, tables)?);
        let unwatched = unwatched.into_iter().collect();
        Ok(Made { row: own, others, altered, unwatched, schema, objects, twins })
    }

    fn virtual_row(
        &self,
        connection: &Connection,
        table: &Table,
        rowid: i64,
    ) -> Result<Option<Stored>, StepError> {
        let Some(name) = table.rowid else { return Ok(None) };
        let key = Key(vec![(name.to_owned(), Exact::Integer(rowid))]);
        let found = table.under(connection, &key)?;
        Ok(found.into_iter().next().map(|at| Stored { table: table.name.clone(), root: table.root, at }))
    }

    fn nothing(&self, why: &str) -> StepError {
        StepError::new(ErrorClass::Invalid, format!("nothing was inserted into `{}`: {why}", self.into))
            .hint("look at its triggers: sqlite3 FILE .schema")
    }

    /// An insert that SQLite refused.
    fn refused(
        &self,
        connection: &Connection,
        table: &Table,
        error: &rusqlite::Error,
        explained: StepError,
    ) -> StepError {
        use rusqlite::ffi;
        let code = error.sqlite_error().map_or(0, |error| error.extended_code);
        match code {
            ffi::SQLITE_CONSTRAINT_DATATYPE => {
                let types = column_types(connection, &table.name).unwrap_or_default();
                explained.hint(format!("the table is STRICT; its columns are: {types}"))
            }
            _ => explained,
        }
    }

    /// For a step that nobody takes back and that may be done again after a kill: whether the row that is in the way is the
    /// very row that it would insert.
    pub(super) fn is_there(&self, connection: &Connection) -> Result<Option<At>, StepError> {
        let Some(table) = self.table(connection)?.filter(|table| table.kind == Kind::Table) else {
            return Ok(None);
        };
        let columns = self.values.keys();
        let same: Vec<String> = columns.map(|name| format!("{} IS ? COLLATE BINARY", quoted(name))).collect();
        let condition = if same.is_empty() { "0".to_owned() } else { same.join(" AND ") };
        let found = table.rows(connection, &condition, self.bound()?, 2)?;
        Ok(found.into_iter().next())
    }
}

pub(super) fn schema_version(connection: &Connection) -> Result<i64, StepError> {
    let version = connection.pragma_query_value(None, "schema_version", |row| row.get(0));
    version.map_err(|error| explain(connection, &error))
}

fn column_types(connection: &Connection, table: &str) -> rusqlite::Result<String> {
    let sql = "SELECT group_concat(name || ' ' || type, ', ') FROM pragma_table_info(?1, 'main')";
    connection.query_row(sql, [table], |row| row.get(0))
}

/// The rows that were born and those of others that were changed; an error if a row of another was deleted.
type Sorted = (Vec<(String, Key)>, Vec<Altered>);

fn sorted(events: &[Event], own: &str) -> Result<Sorted, StepError> {
    let mut born: Vec<(String, Key)> = Vec::new();
    let mut altered: Vec<Altered> = Vec::new();
    for Event { table, change } in events {
        let place =
            |born: &[(String, Key)], key: &Key| born.iter().position(|(name, it)| name == table && it == key);
        match change {
            Change::Inserted(at) => born.push((table.clone(), at.key.clone())),
            Change::Deleted(at) => match place(&born, &at.key) {
                Some(at) => drop(born.remove(at)),
                None => {
                    let what = named(table, &at.key, "it").replace(" in `it`", "");
                    let message = format!(
                        "nothing was inserted into `{own}`: a trigger would delete {what}, which is another's"
                    );
                    return Err(StepError::new(ErrorClass::Exists, message)
                        .hint("look at its triggers: sqlite3 FILE .schema"));
                }
            },
            Change::Updated { from, to } => match place(&born, &from.key) {
                Some(at) => born[at].1 = to.key.clone(),
                None => match altered.iter_mut().find(|it| it.table == *table && it.key == from.key) {
                    Some(known) => known.key = to.key.clone(),
                    None => altered.push(Altered {
                        table: table.clone(),
                        key: to.key.clone(),
                        before: from.row.clone(),
                    }),
                },
            },
        }
    }
    Ok((born, altered))
}
