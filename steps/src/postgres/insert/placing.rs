//! The row is inserted, read back, written into the intent, and only then committed.

use super::{At, Before, Condition, Found, Insert, Placed, Side};
use crate::{
    postgres::{
        Intent, Output,
        beyond::beyond,
        counts::{Count, Counts},
        errors,
        home::Home,
        link::{EXACT, Failure, Link},
        query::words,
        sql::quoted,
        table::Table,
        value,
    },
    store::{Cell, Row},
};
use engine::{ErrorClass, StepError};
use serde_json::{Map, Value};

/// What no text of the server holds, for a value that is none.
const NULL: &[u8] = b"\0";

/// What is read of a row: where it is, its key, and some columns to the byte.
pub(super) fn reading(table: &Table, columns: &[String]) -> String {
    let key = table.key_columns().into_iter().map(|column| format!(", {}", column.as_text()));
    let exact =
        columns.iter().filter_map(|name| table.known(name)).map(|column| format!(", {}", column.exact()));
    let place = "tableoid::text, ctid::text, xmin::text, tableoid::regclass::text";
    format!("{place}{}", key.chain(exact).collect::<String>())
}

/// A row of [`reading`].
pub(super) fn found(link: &Link<'_>, table: &Table, columns: &[String], row: &tokio_postgres::Row) -> Found {
    let keys = table.key_columns();
    let first = 4 + keys.len();
    let key = keys.into_iter().enumerate().map(|(at, column)| {
        let text: Option<String> = row.get(4 + at);
        let value = match text {
            Some(text) if column.whole => value::number(&text),
            // A secret is only named, and put in again where the key is looked for.
            Some(text) => Value::from(link.cx.services.secrets.mask(&text)),
            None => Value::Null,
        };
        (column.name.clone(), value)
    });
    let key = key.collect();
    let cells = columns.iter().filter_map(|name| table.known(name)).enumerate().map(|(at, column)| {
        let text: Option<String> = row.get(first + at);
        Cell::new(&column.name, &column.ty, text.as_deref().map_or(NULL, str::as_bytes))
    });
    Found {
        key,
        at: At { table: row.get(0), ctid: row.get(1), xmin: row.get(2) },
        part: row.get(3),
        now: cells.collect(),
        table: table.clone(),
    }
}

/// What says that no place in a table was given to another row: its file, and how often it was vacuumed.
pub(super) async fn ground(link: &Link<'_>, oid: &str) -> Result<Option<String>, Failure> {
    let sql = "SELECT pg_relation_filenode(c.oid)::text || ' ' || pg_stat_get_vacuum_count(c.oid) + pg_stat_get_autovacuum_count(c.oid) \
               FROM pg_class c WHERE c.oid = $1::oid";
    Ok(link.rows(sql, &[Value::from(oid)]).await?.first().and_then(|row| row.get(0)))
}

/// How often rows were deleted from a table: as long as that stays, a key in it is that of the same row.
pub(super) async fn deleted(link: &Link<'_>, oid: &str) -> Result<Option<i64>, Failure> {
    let rows = link.rows("SELECT pg_stat_get_tuples_deleted($1::oid)", &[Value::from(oid)]).await?;
    Ok(rows.first().and_then(|row| row.get(0)))
}

/// The parts and heirs of the tree that a table belongs to: a row may be moved into each of them, and each may leave the tree.
async fn family(link: &Link<'_>, table: &Table, stored_in: &str) -> Result<Vec<u32>, Failure> {
    let seeds = format!("{},{stored_in}", table.oid);
    let rows = link.rows(FAMILY, &[Value::from(seeds)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

const FAMILY: &str = "WITH RECURSIVE up (oid) AS (SELECT unnest(string_to_array($1::text, ',')::oid[]) \
    UNION SELECT i.inhparent FROM pg_inherits i JOIN up ON i.inhrelid = up.oid), \
    tree (oid) AS (SELECT oid FROM up UNION SELECT i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.oid) \
    SELECT oid FROM tree ORDER BY oid";

impl Insert {
    pub(in crate::postgres) async fn run(
        &self,
        link: &mut Link<'_>,
        before: &Before,
    ) -> Result<Output, StepError> {
        link.words = words(self.values.values());
        loop {
            match self.try_run(link, before).await {
                Ok(output) => {
                    link.patience.done();
                    return Ok(output);
                }
                // An undo that was killed is carried out again: its row may be there since the first time.
                Err(Failure::Pg(error)) if errors::code(&error) == "23505" && link.cx.is_final() => {
                    return match self.is_there(link, &before.table).await {
                        Ok(Some(output)) => Ok(output),
                        Ok(None) => Err(link.explain(Failure::Pg(error)).without_effect()),
                        Err(failure) => Err(link.explain(failure).without_effect()),
                    };
                }
                // Nothing is committed, unless the error says that nobody knows.
                Err(failure) => link.again(failure).await.map_err(StepError::without_effect)?,
            }
        }
    }

    async fn try_run(&self, link: &Link<'_>, before: &Before) -> Result<Output, Failure> {
        let table = &before.table;
        link.begin("").await?;
        let counted = Counts::take(link).await?;
        let (at, key) = self.insert(link, table).await?;
        // What is deferred to the end of the transaction happens now, while it can still be seen and given up.
        link.set(&format!("SET CONSTRAINTS ALL IMMEDIATE; {EXACT}")).await?;
        let columns = self.columns(link, table)?;
        let found = self.read_back(link, table, &columns, &at, &key).await?;
        let counts = Counts::take(link).await?.since(&counted);
        if let Some(why) = beyond(link, &counts).await? {
            return Err(refused(link, table, ErrorClass::Unsupported, &why).into());
        }
        let xid = link.rows("SELECT txid_current()", &[]).await?.first().map_or(0, |row| row.get(0));
        let placed = Placed {
            xid,
            own_key: !table.key.is_empty() && self.writes_key(link, table),
            sums: self.sums(link, table, &found.at).await?,
            ground: ground(link, &found.at.table).await?,
            deleted: deleted(link, &found.at.table).await?,
            family: family(link, table, &found.at.table).await?,
            sides: sides(link, table, counts, &at, &found.at).await?,
            at: found.at,
            key: found.key,
            stored: found.now,
        };
        let home = Home::look(link, None).await?.home;
        let output = placed.output(table);
        let amended = Before { home: Some(home), row: Some(placed), ..before.clone() };
        // If the journal does not take it, the end of the connection takes the row back.
        link.cx.amend(&Intent { before: Some(amended) }).await?;
        link.commit().await?;
        Ok(output)
    }

    /// A row with the key and the very values that are to be inserted.
    async fn is_there(&self, link: &Link<'_>, table: &Table) -> Result<Option<Output>, Failure> {
        link.roll_back().await?;
        if table.key.is_empty() || !self.writes_key(link, table) {
            return Ok(None);
        }
        link.begin("READ ONLY").await?;
        let mut condition = Condition::default();
        for (name, value) in &self.values {
            let column = table.column(name, link)?;
            if value.is_null() {
                condition.parts.push(column.is_null());
            } else {
                condition.values.push(value.clone());
                condition.parts.push(column.holds_exactly(condition.values.len()));
            }
        }
        let sql = format!("SELECT {} FROM {} WHERE {}", reading(table, &[]), table.only(), condition.sql());
        let rows = link.rows(&sql, &condition.values).await?;
        link.roll_back().await?;
        Ok(rows.first().map(|row| {
            let Found { key, at, .. } = found(link, table, &[], row);
            Output { changes: 0, ..Placed { key, at, ..Placed::default() }.output(table) }
        }))
    }

    /// Where the row is and what its key is, as the statement itself says.
    async fn insert(&self, link: &Link<'_>, table: &Table) -> Result<(At, Map<String, Value>), Failure> {
        let columns: Result<Vec<String>, StepError> =
            self.values.keys().map(|name| Ok(quoted(&table.column(name, link)?.name))).collect();
        let columns = columns?;
        let marks: Vec<String> = (1..=columns.len()).map(|number| format!("${number}")).collect();
        let row = match columns.is_empty() {
            true => "DEFAULT VALUES".to_owned(),
            false => format!("({}) VALUES ({})", columns.join(", "), marks.join(", ")),
        };
        // Where rows go to parts of a table, an insert cannot tell the row's transaction.
        let reading = reading(table, &[]).replacen("xmin::text", "''::text", 1);
        let sql = format!("INSERT INTO {} {row} RETURNING {reading}", table.sql());
        let values: Vec<Value> = self.values.values().cloned().collect();
        let change = link.write(&sql, &values).await?;
        match change.rows.as_slice() {
            [row] if change.count == 1 => {
                let found = found(link, table, &[], row);
                Ok((found.at, found.key))
            }
            rows => {
                let took = if rows.is_empty() { "no row" } else { "several rows" };
                let message = format!(
                    "`{}` took {took}, expected exactly one: a rule or a trigger of it put it aside",
                    table.label()
                );
                Err(StepError::expectation(message)
                    .hint(link.place.type_in(&format!("\\d+ {}", table.sql())))
                    .into())
            }
        }
    }

    /// The row as it is stored. A trigger may have changed it since it was inserted, and then it is somewhere else.
    async fn read_back(
        &self,
        link: &Link<'_>,
        table: &Table,
        columns: &[String],
        at: &At,
        key: &Map<String, Value>,
    ) -> Result<Found, Failure> {
        let mut conditions = vec![Condition::by_place(at)];
        if !table.key.is_empty() {
            conditions.push(Condition::by_key(table, key));
        }
        conditions.push(Condition {
            parts: vec!["xmin::text::bigint = txid_current() % 4294967296".into()],
            values: Vec::new(),
        });
        for condition in conditions {
            let select = reading(table, columns);
            let sql = format!("SELECT {select} FROM {} WHERE {} LIMIT 2", table.only(), condition.sql());
            let rows = link.rows(&sql, &condition.values).await?;
            if let [row] = rows.as_slice() {
                return Ok(found(link, table, columns, row));
            }
        }
        let message = format!(
            "`{}` took the row, and a trigger of it took it away again or made several of it",
            table.label()
        );
        Err(StepError::expectation(message).hint(link.place.type_in(&format!("\\d+ {}", table.sql()))).into())
    }

    /// Whether each column of the key stands among the values.
    fn writes_key(&self, link: &Link<'_>, table: &Table) -> bool {
        let written: Vec<&str> = self
            .values
            .keys()
            .filter_map(|name| table.column(name, link).ok())
            .map(|column| column.name.as_str())
            .collect();
        table.key.iter().all(|key| written.contains(&key.as_str()))
    }

    /// Digests of what was written and is no key, by which a row whose key was changed is looked for.
    async fn sums(&self, link: &Link<'_>, table: &Table, at: &At) -> Result<Map<String, Value>, Failure> {
        let columns: Vec<_> = self
            .values
            .keys()
            .filter_map(|name| table.column(name, link).ok())
            .filter(|column| !table.key.contains(&column.name))
            .collect();
        if columns.is_empty() {
            return Ok(Map::new());
        }
        let select: Vec<String> = columns.iter().map(|column| column.digest()).collect();
        let condition = Condition::by_place(at);
        let sql = format!("SELECT {} FROM {} WHERE {}", select.join(", "), table.only(), condition.sql());
        let rows = link.rows(&sql, &condition.values).await?;
        let Some(row) = rows.first() else { return Ok(Map::new()) };
        let sums = columns.iter().enumerate().filter_map(|(at, column)| {
            let sum: Option<String> = row.get(at);
            sum.map(|sum| (column.name.clone(), Value::from(sum)))
        });
        Ok(sums.collect())
    }
}

/// A step that must not have an effect.
fn refused(link: &Link<'_>, table: &Table, class: ErrorClass, why: &str) -> StepError {
    let message = format!("nothing was inserted into `{}`: {why}", table.label());
    StepError::new(class, message).hint(link.place.type_in(&format!("\\d+ {}", table.sql())))
}

/// What triggers and rules did besides, with what can be found again by the transaction's number.
///
/// # Errors
/// They deleted rows of others, which would be lost.
async fn sides(
    link: &Link<'_>,
    table: &Table,
    counts: Counts,
    made: &At,
    row: &At,
) -> Result<Vec<Side>, Failure> {
    let mut sides = Vec::new();
    for (oid, count) in counts.of_rows() {
        let Count { sql, label, mut inserted, updated, deleted, .. } = count;
        if deleted > inserted {
            let why = format!("a trigger or a rule would delete rows of `{label}`, which are another's");
            return Err(refused(link, table, ErrorClass::Exists, &why).into());
        }
        let mut changed = updated + deleted;
        if oid.to_string() == made.table {
            inserted -= 1;
            // It was changed by a trigger of its own after it was inserted.
            changed -= i64::from(*made != At { xmin: String::new(), ..row.clone() });
        }
        if inserted <= 0 && changed <= 0 {
            continue;
        }
        let mut side = Side { oid, sql, label, inserted, changed, found: false };
        // A trigger of its own may change it more than once: no other row bears the transaction's number then.
        let own = oid.to_string() == made.table && inserted == 0 && deleted == 0;
        if own && side.count(link, row).await? == Some(0) {
            continue;
        }
        side.found = changed == 0 && side.count(link, row).await? == Some(inserted);
        sides.push(side);
    }
    Ok(sides)
}

impl Side {
    /// How many rows of it bear this transaction's number, but for the row itself; none if not all can be seen.
    async fn count(&self, link: &Link<'_>, row: &At) -> Result<Option<i64>, Failure> {
        let may = "SELECT has_table_privilege($1::oid, 'SELECT') AND NOT row_security_active($1::oid)";
        let may = link.rows(may, &[Value::from(self.oid)]).await?.first().is_some_and(|row| row.get(0));
        if !may {
            return Ok(None);
        }
        let condition = self.condition("txid_current() % 4294967296", row);
        let sql = format!("SELECT count(*) FROM ONLY {} WHERE {condition}", self.sql);
        // No index serves for this. A table that is too large for it must not keep the row from being inserted.
        link.set("SAVEPOINT side; SET LOCAL statement_timeout = '2s'").await?;
        let counted = match link.rows(&sql, &[]).await {
            Ok(rows) => rows.first().map(|row| row.get(0)),
            Err(Failure::Pg(error)) if errors::code(&error) == "57014" => None,
            Err(failure) => return Err(failure),
        };
        link.set("ROLLBACK TO SAVEPOINT side; RELEASE SAVEPOINT side").await?;
        Ok(counted)
    }

    /// The condition that a row of it was written by that transaction, and is not the inserted row itself.
    pub(super) fn condition(&self, xid: &str, row: &At) -> String {
        let own = match self.oid.to_string() == row.table {
            true => format!(" AND ctid <> '{}'::tid", row.ctid),
            false => String::new(),
        };
        format!("xmin::text::bigint = {xid}{own}")
    }
}

/// How a row differs from what was stored, in words.
pub(super) fn differences(stored: &Row, now: &Row) -> Vec<String> {
    stored.differences(now, |_| true)
}
