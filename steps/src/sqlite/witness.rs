//! Sees every row that a statement changes, whatever trigger or foreign key does it.
//!
//! Which tables a statement can write is asked of SQLite itself, as it compiles the statement with all that it sets off. Each of
//! these is given triggers of this connection alone, in its temporary schema, that note each row before and after. So
//! tables without rowids are seen, too, and rows as they were before; the database itself gets none of it.

use super::{
    connection::explain,
    key::{At, quoted},
    table::{Kind, Table},
};
use engine::StepError;
use rusqlite::{
    Connection,
    hooks::{AuthAction, AuthContext, Authorization},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

const LOG: &str = "shakedown_witness";

/// The tables that are watched.
#[derive(Debug, Default)]
pub(super) struct Witness {
    tables: Vec<Table>,
    /// Tables that can be written and not watched: those of modules.
    pub(super) unwatched: BTreeSet<String>,
}

/// What happened to one row, in the order in which it did.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) table: String,
    pub(super) change: Change,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Inserted(At),
    Deleted(At),
    Updated { from: At, to: At },
}

/// Tables, and whether rows are inserted there.
type Written = BTreeMap<String, bool>;

impl Witness {
    /// Watches everything that these statements can write, and, with `also_deleted`, that the deletion of what they
    /// insert can.
    pub(super) fn over(
        connection: &mut Connection,
        statements: Vec<String>,
        also_deleted: bool,
    ) -> Result<Self, StepError> {
        let mut seen = BTreeSet::new();
        let mut ahead = statements;
        while let Some(statement) = ahead.pop() {
            for (table, inserts) in written(connection, &statement)? {
                if seen.insert(table.clone()) && inserts && also_deleted && !table.starts_with("sqlite_") {
                    ahead.push(format!("DELETE FROM main.{} WHERE 1", quoted(&table)));
                }
            }
        }
        let mut witness = Self::default();
        for name in seen {
            // What SQLite keeps for itself is no row of anybody.
            if name.starts_with("sqlite_") {
                continue;
            }
            match Table::load(connection, &name)? {
                Some(table) if table.kind == Kind::Table => witness.tables.push(table),
                Some(table) if table.kind == Kind::Virtual => {
                    witness.unwatched.insert(table.name);
                }
                // A view has no rows, and what belongs to a virtual table goes with it.
                _ => {}
            }
        }
        witness.watch(connection).map_err(|error| explain(connection, &error))?;
        Ok(witness)
    }

    fn watch(&self, connection: &Connection) -> rusqlite::Result<()> {
        let width = self.tables.iter().map(|table| table.columns.len()).max().unwrap_or(0);
        let columns: String = (0..width).map(|at| format!(", c{at}")).collect();
        connection.execute_batch(&format!(
            "PRAGMA temp_store = memory; DROP TABLE IF EXISTS temp.{LOG};
             CREATE TEMP TABLE {LOG} (n INTEGER PRIMARY KEY, tab, op, r{columns});"
        ))?;
        for (at, table) in self.tables.iter().enumerate() {
            let into: String = (0..table.columns.len()).map(|at| format!(", c{at}")).collect();
            let note = |op: &str, of: &str| {
                format!("INSERT INTO {LOG} (tab, op, r{into}) VALUES ({at}, '{op}', {});", table.wanted(of))
            };
            for (event, body) in [
                ("INSERT", note("new", "new.")),
                ("DELETE", note("old", "old.")),
                ("UPDATE", note("from", "old.") + &note("to", "new.")),
            ] {
                connection.execute_batch(&format!(
                    "CREATE TEMP TRIGGER {LOG}_{at}_{event} AFTER {event} ON main.{} BEGIN {body} END;",
                    quoted(&table.name)
                ))?;
            }
        }
        Ok(())
    }

    /// What happened since it was asked last.
    pub(super) fn seen(&self, connection: &Connection) -> Result<Vec<Event>, StepError> {
        self.read(connection).map_err(|error| explain(connection, &error))
    }

    fn read(&self, connection: &Connection) -> rusqlite::Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut from = None;
        let mut statement = connection.prepare(&format!("SELECT * FROM temp.{LOG} ORDER BY n"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (place, op): (u32, String) = (row.get(1)?, row.get(2)?);
            let Some(table) = self.tables.get(place as usize) else { continue };
            let at = table.row(row, 3)?;
            let change = match op.as_str() {
                "new" => Change::Inserted(at),
                "old" => Change::Deleted(at),
                "from" => {
                    from = Some(at);
                    continue;
                }
                _ => match from.take() {
                    Some(from) => Change::Updated { from, to: at },
                    None => continue,
                },
            };
            events.push(Event { table: table.name.clone(), change });
        }
        drop(rows);
        connection.execute_batch(&format!("DELETE FROM temp.{LOG}"))?;
        Ok(events)
    }
}

/// The tables that a statement can write, with all that it sets off.
pub(super) fn written(connection: &mut Connection, statement: &str) -> Result<Written, StepError> {
    let found = Arc::new(Mutex::new(Written::new()));
    let told = found.clone();
    let hear = move |context: AuthContext<'_>| {
        let (table, inserts) = match context.action {
            AuthAction::Insert { table_name } => (table_name, true),
            AuthAction::Update { table_name, .. } | AuthAction::Delete { table_name } => (table_name, false),
            _ => return Authorization::Allow,
        };
        if context.database_name != Some("temp") {
            *told.lock().unwrap_or_else(PoisonError::into_inner).entry(table.to_owned()).or_default() |=
                inserts;
        }
        Authorization::Allow
    };
    let asked = connection.authorizer(Some(hear));
    let compiled = asked.and_then(|()| connection.prepare(statement).map(drop));
    let silent = connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>);
    compiled.and(silent).map_err(|error| explain(connection, &error))?;
    let found = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(found)
}
