//! Rows of others that are like one of ours: they are not ours, whatever becomes of their keys or of ours.

use super::{
    key::{Key, quoted},
    made::Stored,
    table::{Kind, Table},
};
use engine::StepError;
use rusqlite::{Connection, types::Value};

/// How many of the latest rows are searched.
const AMONG: usize = 20_000;
/// How many of them are remembered.
const TWINS: usize = 100;

/// The rows that hold what counts of a row that is there. What triggers made of the values is there, too: a condition on what
/// was sent would miss those.
pub(super) fn twins(
    connection: &Connection,
    stored: &Stored,
    counts: impl Fn(&str) -> bool,
) -> Result<Vec<Key>, StepError> {
    let home = Table::load(connection, &stored.table)?.filter(|table| table.kind == Kind::Table);
    let Some(home) = home else { return Ok(Vec::new()) };
    let counts = |column: &str| counts(column) && !stored.at.key.has(column);
    let counting: Vec<&String> = home.columns.iter().filter(|column| counts(column)).collect();
    let order = home.order();
    if counting.is_empty() || order.is_empty() {
        return Ok(Vec::new());
    }
    let table = quoted(&home.name);
    let columns = order.join(", ");
    let latest = order.iter().map(|column| format!("{column} DESC")).collect::<Vec<_>>().join(", ");
    let (own, key) = stored.at.key.condition();
    let mut condition = format!(
        "({columns}) IN (SELECT {columns} FROM main.{table} ORDER BY {latest} LIMIT {AMONG}) AND NOT ({own})"
    );
    let mut values: Vec<Value> = key.clone();
    for column in counting {
        let column = quoted(column);
        condition.push_str(&format!(" AND {column} IS (SELECT {column} FROM main.{table} WHERE {own})"));
        values.extend(key.iter().cloned());
    }
    let found = home.rows(connection, &condition, values, TWINS)?;
    let alike = found.into_iter().filter(|at| stored.at.row.differences(&at.row, counts).is_empty());
    Ok(alike.map(|at| at.key).collect())
}
