//! Statements that a playbook writes.

use super::{Output, connection, statement, value};
use engine::{StepError, error::ErrorClass};
use rusqlite::types::ValueRef;
use serde_json::{Map, Value};

/// How many bytes of rows are kept; an output has to fit into the journal.
const KEPT: usize = 1 << 20;

pub(super) fn query(
    connection: &rusqlite::Connection,
    sql: &str,
    params: &Map<String, Value>,
    max_rows: usize,
) -> Result<Output, StepError> {
    let failed = |error: rusqlite::Error| connection::explain(connection, &error);
    let mut statement = connection.prepare(sql).map_err(failed)?;
    if !statement.readonly() {
        return Err(StepError::new(
            ErrorClass::Invalid,
            "`query` changes something; expected a statement that only reads",
        )
        .hint("use `execute` with a written `undo`"));
    }
    value::bind(&mut statement, params)?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.raw_query();
    let mut kept = 0;
    let mut output = Output { columns: columns.clone(), ..Output::default() };
    while let Some(row) = rows.next().map_err(failed)? {
        output.count += 1;
        if kept > KEPT || output.rows.len() >= max_rows {
            continue;
        }
        for at in 0..columns.len() {
            kept += size(row.get_ref(at).map_err(failed)?);
        }
        if kept > KEPT {
            continue;
        }
        let mut made = Map::new();
        for (i, column) in columns.iter().enumerate() {
            made.insert(column.clone(), value::to_json(row.get_ref(i).map_err(failed)?));
        }
        output.rows.push(Value::Object(made));
    }
    if output.rows.is_empty() && kept > KEPT {
        let message = format!("the first row has {kept} bytes: expected at most {KEPT}");
        return Err(StepError::new(ErrorClass::Invalid, message)
            .hint("read fewer columns, or a part of them: substr(COLUMN, 1, 1000)"));
    }
    output.row = output.rows.first().cloned().unwrap_or(Value::Null);
    Ok(output)
}

/// How many bytes a value has; a blob is written as twice as many digits.
fn size(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 8,
        ValueRef::Text(text) => text.len(),
        ValueRef::Blob(blob) => blob.len() * 2,
    }
}

pub(super) fn execute(
    connection: &mut rusqlite::Connection,
    sql: &str,
    params: &Map<String, Value>,
) -> Result<Output, StepError> {
    if let Some(error) = more_than_one(sql) {
        return Err(error.without_effect());
    }
    let changes = connection::immediate(connection, |transaction| {
        let mut statement = transaction.prepare(sql)?;
        if let Err(error) = value::bind(&mut statement, params) {
            return Ok(Err(error.without_effect()));
        }
        statement.raw_execute().map(Ok)
    })??;
    Ok(Output { changes: u64::try_from(changes).unwrap_or(0), ..Output::default() })
}

/// A statement alone is one transaction, with one count of rows and one undo.
fn more_than_one(sql: &str) -> Option<StepError> {
    let count = statement::count(sql);
    (count > 1).then(|| {
        StepError::new(
            ErrorClass::Invalid,
            format!("expected one statement, found {count}: nothing was executed"),
        )
        .hint("write a step for each")
    })
}
