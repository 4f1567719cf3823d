//! `sqlite`: reads, checks and changes a database that another program uses, as a guest in its house.

mod anew;
mod check;
mod connection;
mod effect;
mod fate;
mod file;
mod insert;
mod key;
mod made;
mod query;
mod reserve;
mod statement;
mod table;
mod twins;
mod undo;
mod value;
mod witness;

pub use check::{Check, Health};
pub use connection::Effort;
pub use insert::Insert;

use crate::{checks::Checks, watch::Files};
use check::require_columns;
use connection::{Access, Task};
use engine::{
    Step, StepError,
    error::ErrorClass,
    quantity::Millis,
    step::{ByHand, Changes, Context, Description, Docs, ParamsView, Presence, Probe, Settled, Undone},
};
use file::{Content, DatabaseFile};
use made::Made;
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
    /// How many rows of a query are kept; 1000 if not given, and never more than 1 MiB of them.
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
    /// `insert`: the new row's id; missing where a table or view has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rowid: Option<i64>,
    /// `insert` and `execute`: how many rows changed.
    #[serde(default)]
    pub changes: u64,
    /// `insert`: the new row by its key, such as `row 5`; empty for a view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inserted: Option<String>,
    /// `insert`: what triggers did because of it, such as ``1 row in `audit` ``.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub triggered: String,
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
    /// The highest rowid before, in the journals of versions that knew no better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    above: Option<i64>,
    /// The file that the name stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<DatabaseFile>,
    /// Its content once the row was in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Content>,
    /// An undo is about to delete it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    removing: bool,
    /// What was inserted; known, and written down, before the commit. Without it nothing was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made: Option<Made>,
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
                      in `out.db`. The journal mode is never changed, and no vacuum is run. Reads make no file beside the database; what \
                      a write to one with a log makes, SQLite takes away again, with a checkpoint, if nobody else has it open.\n\n\
                      `insert` adds exactly one row, by the strict rule for conflicts: a schema that would replace or ignore makes the \
                      step fail. The row is read back and its key written down before the commit, so that a kill at any moment is \
                      recovered. It is undone by deleting that row, found by its key in the same file, but only if the columns that \
                      were written still hold what was stored, type and bytes; other columns belong to the program under test. Rows that \
                      triggers inserted because of it are deleted with it; `out.triggered` tells of them. If the deletion would change \
                      a row of another, by a trigger or a foreign key, nothing is deleted and the row is named. Counters of \
                      AUTOINCREMENT are not turned back. The space that the undo takes is put by \
                      in a hidden file beside the database, so that a full disk cannot keep the row; not in `cleanup` or a written \
                      `undo`, which nobody takes back. `execute` is one statement and needs a written \
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
        for key in ["execute", "query"] {
            let literal = view.get(key).and_then(Value::as_str).filter(|_| view.is_known(key));
            let count = literal.map_or(0, statement::count);
            if count > 1 {
                wrong.push((
                    key.into(),
                    format!("expected one statement, found {count}: write a step for each"),
                ));
            }
        }
        wrong
    }

    fn probe_ignores(&self) -> &'static [&'static str] {
        &["insert", "params"]
    }

    async fn probe(&self, cx: &Context, params: &Params) -> Result<Probe, StepError> {
        let params = params.clone();
        let into = params.insert.clone();
        let looks_only = cx.services.looks_only;
        let reserves = !cx.is_final();
        let ((health, besides), _) = Task::new(cx, &params.database, params.busy_timeout, Access::Write)
            .run(move |connection| {
                let health = check::look(connection, &[Check::Writable], None, &[], looks_only)?;
                let mut besides = Vec::new();
                if let Some(insert) = &into {
                    if reserves {
                        connection::require_folder(connection.path().unwrap_or_default())?;
                    }
                    besides = insert.would_also_write(connection)?;
                }
                Ok((health, besides))
            })
            .await?;
        let mode = health.journal_mode.map(|mode| mode.to_uppercase()).unwrap_or_default();
        let besides = match besides.as_slice() {
            [] => String::new(),
            tables => format!("; triggers write {} too", tables.join(", ")),
        };
        Ok(Probe::would_pass(format!("writable, {mode}{besides}")))
    }

    async fn intend(&self, cx: &Context, params: &Params) -> Result<Intent, StepError> {
        let Some(insert) = params.insert.clone() else { return Ok(Intent::default()) };
        let (page, _) = Task::new(cx, &params.database, params.busy_timeout, Access::Read)
            .run(move |connection| {
                require_columns(connection, &insert.into, &insert.columns())?;
                connection::page_size(connection)
            })
            .await?;
        let file = Some(DatabaseFile::at(&params.database)?);
        let mut intent = Intent { file, ..Intent::default() };
        // Who is not taken back needs no space for it.
        if !cx.is_final() {
            let mark = engine::local::process::Tree::new().marker;
            intent.reserve = Some(reserve::path(&params.database, &mark));
            intent.reserve_bytes = page * reserve::PAGES;
        }
        Ok(intent)
    }

    async fn run(&self, cx: &Context, params: &Params, intent: &Intent) -> Result<Output, StepError> {
        if let Some(insert) = &params.insert {
            return self.insert(cx, params, insert, intent).await;
        }
        let access = match (&params.execute, &params.check) {
            (Some(_), _) => Access::Write,
            (_, Some(checks)) if checks.list().contains(&Check::Writable) => Access::Write,
            _ => Access::Read,
        };
        let task = Task::new(cx, &params.database, params.busy_timeout, access);
        let looks_only = cx.services.looks_only;
        let params = params.clone();
        let (mut output, db) = task
            .run(move |connection| match (&params.query, &params.check, &params.execute) {
                (Some(sql), _, _) => {
                    query::query(connection, sql, &params.params, params.max_rows.unwrap_or(1_000))
                }
                (_, Some(checks), _) => {
                    let table = params.table.as_deref();
                    let health = check::look(connection, checks.list(), table, &params.columns, looks_only)?;
                    Ok(Output { health: Some(health), ..Output::default() })
                }
                (_, _, Some(sql)) => query::execute(connection, sql, &params.params),
                _ => Err(StepError::new(
                    ErrorClass::Invalid,
                    "expected one of `query`, `insert`, `execute`, `check`",
                )),
            })
            .await?;
        output.db = db;
        Ok(output)
    }

    async fn changes(&self, cx: &Context, params: &Params) -> Option<Box<dyn Changes>> {
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
        Files::watch_contents(cx, [beside("-wal"), beside("-journal"), database])
    }

    fn summary(&self, output: &Output) -> String {
        match (&output.health, &output.inserted) {
            (Some(health), _) => health.words(),
            (None, Some(row)) => match (row.as_str(), output.triggered.as_str()) {
                (row, "") => row.to_owned(),
                ("", besides) => besides.to_owned(),
                (row, besides) => format!("{row}; by triggers {besides}"),
            },
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
        self.settle_insert(cx, params, intent).await
    }

    async fn undo(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Undone, StepError> {
        self.undo_insert(cx, params, intent, output).await
    }

    async fn release(&self, _: &Context, _: &Params, intent: &Intent) -> Result<(), StepError> {
        intent.reserve.as_deref().map_or(Ok(()), reserve::release)
    }

    async fn presence(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Presence, StepError> {
        self.presence_insert(cx, params, intent, output).await
    }

    fn by_hand(&self, params: &Params, intent: &Intent) -> Option<ByHand> {
        let made = intent.made.as_ref()?;
        let stored = made.rows().next()?;
        let insert = params.insert.as_ref().filter(|_| made.row.is_some());
        let command = made::deletion(stored, insert, &params.database).remove_with;
        Some(ByHand { host: None, command })
    }
}

fn one_line(sql: &str) -> String {
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.chars().count() > 60 {
        true => line.chars().take(59).chain(['…']).collect(),
        false => line,
    }
}

#[cfg(test)]
mod tests;
