//! `sqlite`: reads, checks and changes a database that another program uses, as a guest in its house.

mod check;
mod connection;
mod insert;
mod reserve;
mod value;

pub use check::{Check, Health};
pub use connection::Effort;
pub use insert::Insert;

use crate::{checks::Checks, watch::Files};
use connection::{Access, Task};
use engine::{
    Step, StepError,
    error::ErrorClass,
    host::shell_word,
    quantity::Millis,
    step::{Changes, Context, Description, Docs, Leftover, ParamsView, Presence, Probe, Settled, Undone},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The step type.
pub struct Sqlite;

/// `database` and exactly one of `query`, `insert`, `execute` and `check`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The database file. It is never created.
    #[schemars(extend("format" = "local-path"))]
    database: String,
    /// A statement that only reads.
    #[serde(default)]
    query: Option<String>,
    /// A row to insert; undone by deleting it, if it still is as it was written.
    #[serde(default)]
    insert: Option<Insert>,
    /// A statement that changes something; needs a written `undo`.
    #[serde(default)]
    execute: Option<String>,
    /// What must hold of the database.
    #[serde(default)]
    check: Option<Checks<Check>>,
    /// Values for `:name` in `query` or `execute`; they are bound, never pasted.
    #[serde(default)]
    params: Map<String, Value>,
    /// For `check: schema`: the table that must exist.
    #[serde(default)]
    table: Option<String>,
    /// For `check: schema`: the columns that it must have.
    #[serde(default)]
    columns: Vec<String>,
    /// How many rows of a query are kept; 1000 if not given.
    #[serde(default)]
    max_rows: Option<usize>,
    /// How long to wait for a lock that another program holds; 30 s if not given.
    #[serde(default)]
    busy_timeout: Option<Millis>,
}

/// What a database step found or did; fields that do not belong to the action are missing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// `query`: the first row by column, or null.
    #[serde(default)]
    pub row: Value,
    /// `query`: all rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Value>,
    /// `query`: how many rows there are.
    #[serde(default)]
    pub count: u64,
    /// `query`: the names of the columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// `insert`: the new row's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rowid: Option<i64>,
    /// `insert` and `execute`: how many rows changed.
    #[serde(default)]
    pub changes: u64,
    /// `check`: what was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// How often the database was asked and how long locks were waited for.
    #[serde(default)]
    pub db: Effort,
}

/// What must be known to find the inserted row again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Intent {
    /// The highest rowid before: the new row's is above.
    #[serde(default)]
    above: Option<i64>,
    /// The file that takes up the space which the undo needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reserve: Option<String>,
    /// How large it is, in bytes.
    #[serde(default)]
    reserve_bytes: u64,
}

impl Step for Sqlite {
    const KIND: &'static str = "sqlite";
    type Params = Params;
    type Output = Output;
    type Intent = Intent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "queries, checks and changes a SQLite database that another program uses",
            details: "Reads open the database read-only; nothing ever creates it. Writes are short `BEGIN IMMEDIATE` \
                      transactions. Locks of others are waited for up to `busy_timeout`, and the waits are counted \
                      in `out.db`. The journal mode is never changed, and no checkpoint or vacuum is run.\n\n\
                      `insert` is undone by deleting that row, but only if the columns that were written still hold \
                      what was written; other columns belong to the program under test. The space that this takes is put by \
                      in a hidden file beside the database, so that a full disk cannot keep the row. `execute` needs a written \
                      `undo`. `check` takes one or a list of `exists`, `readable`, `writable`, `wal`, `quick`, `full` \
                      and `schema` (with `table` and `columns`).\n\nBLOBs appear as `{\"$blob\": \"hex\"}`.",
            example: "record:\n  sqlite:\n    database: /data/media_status.db\n    insert:\n      into: media_transfer_status\n      \
                      values: { file_path: /data/a.txt, file_name: a.txt, download_status: completed }\n",
            errors: &[
                (
                    "not-found",
                    "the database, table or column does not exist; the message lists those that do",
                ),
                ("busy", "another program held a lock for the whole busy timeout; `fuser -v FILE` names it"),
                (
                    "corrupt",
                    "the file is damaged or no database; `sqlite3 FILE 'PRAGMA integrity_check'` says more",
                ),
                ("denied", "the file or its folder cannot be written by this user"),
                ("no-space", "the disk is full; see `df -h`"),
            ],
            on_host: false,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        let database = view.show("database");
        let file = database.rsplit('/').next().unwrap_or_default();
        if view.has("insert") {
            let table = view
                .get("insert")
                .and_then(|insert| insert.get("into"))
                .and_then(Value::as_str)
                .unwrap_or("?");
            return Description::changes(
                format!("insert into {table} of {file}"),
                "delete that row, if unchanged",
            );
        }
        if view.has("execute") {
            return Description::needs_written_undo(format!(
                "execute on {file}: {}",
                one_line(&view.show("execute"))
            ));
        }
        if view.has("check") {
            return Description::reads(format!("check {database}: {}", view.words("check")));
        }
        Description::reads(format!("query {file}: {}", one_line(&view.show("query"))))
    }

    fn touches(&self, view: &ParamsView<'_>) -> Vec<String> {
        let table = view.get("insert").and_then(|insert| insert.get("into")).and_then(Value::as_str);
        table.map(|table| format!("the table `{table}` of `{}`", view.show("database"))).into_iter().collect()
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        let mut wrong = view.exactly_one(&["query", "insert", "execute", "check"]);
        if view.has("params") && !view.has("query") && !view.has("execute") {
            wrong.push(("params".into(), "`params` goes with `query` or `execute`".into()));
        }
        for key in view.present(&["table", "columns"]) {
            if !view.words("check").contains("schema") {
                wrong.push((key.into(), format!("`{key}` goes with `check: schema`")));
            }
        }
        wrong
    }

    fn probe_ignores(&self) -> &'static [&'static str] {
        &["insert", "params"]
    }

    async fn probe(&self, cx: &Context, params: &Params) -> Result<Probe, StepError> {
        let params = params.clone();
        let into = params.insert.as_ref().map(|insert| (insert.into.clone(), insert.columns()));
        let looks_only = cx.services.looks_only;
        let (health, _) = Task::new(cx, &params.database, params.busy_timeout, Access::Write)
            .run(move |connection| {
                let health = check::look(connection, &[Check::Writable], None, &[], looks_only)?;
                if let Some((table, columns)) = &into {
                    check::require_columns(connection, table, columns)?;
                }
                Ok(health)
            })
            .await?;
        let mode = health.journal_mode.map(|mode| mode.to_uppercase()).unwrap_or_default();
        Ok(Probe::would_pass(format!("writable, {mode}")))
    }

    async fn intend(&self, cx: &Context, params: &Params) -> Result<Intent, StepError> {
        let Some(insert) = params.insert.clone() else { return Ok(Intent::default()) };
        let ((above, page), _) = Task::new(cx, &params.database, params.busy_timeout, Access::Read)
            .run(move |connection| {
                Ok((insert.highest_rowid(connection)?, connection::page_size(connection)?))
            })
            .await?;
        let mark = engine::local::process::Tree::new().marker;
        let reserve = Some(reserve::path(&params.database, &mark));
        Ok(Intent { above: Some(above), reserve, reserve_bytes: page * reserve::PAGES })
    }

    async fn run(&self, cx: &Context, params: &Params, intent: &Intent) -> Result<Output, StepError> {
        let access = match params.insert.is_some() || params.execute.is_some() {
            true => Access::Write,
            false => Access::Read,
        };
        let task = Task::new(cx, &params.database, params.busy_timeout, access);
        let params = params.clone();
        if let Some(checks) = &params.check {
            let wanted = checks.list().to_vec();
            let access = match wanted.contains(&Check::Writable) {
                true => Access::Write,
                false => Access::Read,
            };
            let task = Task::new(cx, &params.database, params.busy_timeout, access);
            let looks_only = cx.services.looks_only;
            let (health, db) = task
                .run(move |connection| {
                    check::look(connection, &wanted, params.table.as_deref(), &params.columns, looks_only)
                })
                .await?;
            return Ok(Output { health: Some(health), db, ..Output::default() });
        }
        if let Some(path) = &intent.reserve {
            reserve::make(path, intent.reserve_bytes)?;
        }
        let inserts = params.insert.is_some();
        let (mut output, db) = task
            .run(move |connection| match (&params.query, &params.insert, &params.execute) {
                (Some(sql), _, _) => query(connection, sql, &params.params, params.max_rows.unwrap_or(1_000)),
                (_, Some(insert), _) => {
                    let rowid = insert.run(connection)?;
                    Ok(Output { rowid: Some(rowid), changes: 1, ..Output::default() })
                }
                (_, _, Some(sql)) => execute(connection, sql, &params.params),
                _ => Err(StepError::new(
                    ErrorClass::Invalid,
                    "expected one of `query`, `insert`, `execute`, `check`",
                )),
            })
            .await
            .map_err(|error| if inserts { refused(error, intent) } else { error })?;
        output.db = db;
        Ok(output)
    }

    async fn changes(&self, _: &Context, params: &Params) -> Option<Box<dyn Changes>> {
        // A commit goes to the log first, or straight to the database where there is none. The index beside the log
        // is mapped into memory and gives no word.
        let database = std::path::absolute(&params.database).ok()?;
        // SQLite keeps the log beside the file itself, not beside a link to it.
        let real = database.canonicalize().unwrap_or_else(|_| database.clone());
        let beside = |ending: &str| {
            let mut path = real.clone().into_os_string();
            path.push(ending);
            std::path::PathBuf::from(path)
        };
        Files::watch_contents([beside("-wal"), beside("-journal"), database])
    }

    fn summary(&self, output: &Output) -> String {
        match (&output.health, output.rowid) {
            (Some(health), _) => health.words(),
            (None, Some(rowid)) => format!("row {rowid}"),
            (None, None) if !output.columns.is_empty() => match (output.count, output.row.as_object()) {
                (1, Some(row)) => row
                    .iter()
                    .map(|(column, value)| format!("{column} {value}"))
                    .collect::<Vec<_>>()
                    .join(", "),
                (count, _) => format!("{count} rows"),
            },
            (None, None) => format!("{} rows changed", output.changes),
        }
    }

    async fn settle(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
    ) -> Result<Settled<Output>, StepError> {
        let Some(insert) = params.insert.clone() else { return Ok(Settled::NotHappened) };
        let above = intent.above;
        let task = Task::new(cx, &params.database, params.busy_timeout, Access::Read);
        let (settled, db) = task.run(move |connection| insert.settle(connection, above)).await?;
        Ok(match settled {
            Settled::Happened(rowid) => {
                Settled::Happened(Output { rowid: Some(rowid), changes: 1, db, ..Output::default() })
            }
            Settled::NotHappened => Settled::NotHappened,
            Settled::Unclear(why) => Settled::Unclear(why),
        })
    }

    async fn undo(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Undone, StepError> {
        let Some(insert) = params.insert.clone() else { return Ok(Undone::NothingToDo) };
        // On a full disk this is the space that the delete takes.
        if let Some(path) = &intent.reserve {
            reserve::release(path)?;
        }
        let (database, above, rowid) =
            (params.database.clone(), intent.above, output.and_then(|output| output.rowid));
        let task = Task::new(cx, &params.database, params.busy_timeout, Access::Write);
        let undone = task.run(move |connection| insert.undo(connection, &database, above, rowid)).await;
        match undone {
            Ok((undone, _)) => Ok(undone),
            // A database that is gone took the row with it.
            Err(error) if error.class == ErrorClass::NotFound => Ok(Undone::NothingToDo),
            Err(error) => Err(error),
        }
    }

    async fn presence(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Presence, StepError> {
        let Some(insert) = params.insert.clone() else { return Ok(Presence::Gone) };
        let (database, above, rowid) =
            (params.database.clone(), intent.above, output.and_then(|output| output.rowid));
        let task = Task::new(cx, &params.database, params.busy_timeout, Access::Read);
        let row = match task.run(move |connection| insert.presence(connection, &database, above, rowid)).await
        {
            Ok((presence, _)) => presence,
            Err(error) if error.class == ErrorClass::NotFound => Presence::Gone,
            Err(error) => return Err(error),
        };
        if row != Presence::Gone {
            return Ok(row);
        }
        if let Some(path) = intent.reserve.as_ref().filter(|path| std::path::Path::new(path).exists()) {
            return Ok(Presence::Present(Leftover {
                what: format!("file `{path}`"),
                why: "the space that was put by for the undo is still taken".into(),
                remove_with: format!("rm -- {}", shell_word(path)),
            }));
        }
        Ok(Presence::Gone)
    }
}

/// Who failed because another was first, or in the way, must not take the row of that other for its own.
fn refused(error: StepError, intent: &Intent) -> StepError {
    let certain = matches!(error.class, ErrorClass::Exists | ErrorClass::Busy | ErrorClass::Cancelled);
    // No undo will come to give the space back.
    let given_back = || intent.reserve.as_deref().is_none_or(|path| reserve::release(path).is_ok());
    if certain && given_back() { error.without_effect() } else { error }
}

fn one_line(sql: &str) -> String {
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.chars().count() > 60 {
        true => line.chars().take(59).chain(['…']).collect(),
        false => line,
    }
}

fn query(
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
    let mut output = Output { columns: columns.clone(), ..Output::default() };
    while let Some(row) = rows.next().map_err(failed)? {
        output.count += 1;
        if output.rows.len() < max_rows {
            let mut made = Map::new();
            for (i, column) in columns.iter().enumerate() {
                made.insert(column.clone(), value::to_json(row.get_ref(i).map_err(failed)?));
            }
            output.rows.push(Value::Object(made));
        }
    }
    output.row = output.rows.first().cloned().unwrap_or(Value::Null);
    Ok(output)
}

fn execute(
    connection: &mut rusqlite::Connection,
    sql: &str,
    params: &Map<String, Value>,
) -> Result<Output, StepError> {
    let changes = connection::immediate(connection, |transaction| {
        let mut statement = transaction.prepare(sql)?;
        if let Err(error) = value::bind(&mut statement, params) {
            return Ok(Err(error));
        }
        statement.raw_execute().map(Ok)
    })??;
    Ok(Output { changes: u64::try_from(changes).unwrap_or(0), ..Output::default() })
}

#[cfg(test)]
mod tests;
