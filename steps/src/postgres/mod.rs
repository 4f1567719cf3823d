//! `postgres`: reads, checks and changes a PostgreSQL database that another program uses, as a guest in its house.

mod address;
mod beyond;
mod check;
mod counts;
mod errors;
mod home;
mod insert;
mod link;
mod patience;
mod query;
mod sql;
mod table;
mod value;

pub use check::{Check, Health};
pub use insert::{At, Insert};

use crate::{checks::Checks, sqlite::Effort, word::short};
use address::Place;
use check::Wanted;
use engine::{
    Step, StepError,
    error::ErrorClass,
    quantity::Millis,
    step::{ByHand, Context, Description, Docs, ParamsView, Presence, Probe, Settled, Undone},
};
use home::Missing;
use link::Link;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The name of sessions that only read, or change something that the playbook takes back.
const SESSION: &str = "shakedown";

/// The step type.
pub struct Postgres;

/// `url` and exactly one of `query`, `insert`, `execute` and `check`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The database: `postgres://USER@HOST:PORT/DATABASE`, `postgres:///DATABASE?host=/SOCKET/FOLDER` or
    /// `host=HOST dbname=DATABASE`, with the keys of libpq. `sslmode` is `disable`, `prefer`, `require` or `verify-full`.
    url: String,
    /// The user; that of `url`, or else the one who runs this, if not given.
    #[serde(default)]
    user: Option<String>,
    /// The password; best a secret.
    #[serde(default)]
    password: Option<String>,
    /// A PEM file with the certificates to trust, and the connection is encrypted; those of this machine if not given.
    #[serde(default)]
    #[schemars(extend("format" = "local-path"))]
    ca: Option<String>,
    /// How long the connection may take, greeting and all; `5s` if not given.
    #[serde(default = "five_seconds")]
    connect_timeout: Millis,
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
    /// For `check`: the table that must exist, be readable or be writable.
    #[serde(default)]
    table: Option<String>,
    /// For `check: schema`: the columns that it must have.
    #[serde(default)]
    columns: Vec<String>,
    /// How many rows of a query are kept; 1000 if not given, and never more than 1 MiB of them.
    #[serde(default)]
    max_rows: Option<usize>,
    /// How long to wait for locks that others hold, and to try again after a deadlock; 30 s if not given.
    #[serde(default)]
    busy_timeout: Option<Millis>,
    /// How long a statement may work, waits for locks aside; 30 s if not given.
    #[serde(default)]
    statement_timeout: Option<Millis>,
}

fn five_seconds() -> Millis {
    Millis(5_000)
}

/// What a database step found or did; fields that do not belong to the action are missing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Output {
    /// `query`: the first row by column, or null.
    #[serde(default)]
    pub row: Value,
    /// `query`: all rows, up to `max_rows`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Value>,
    /// `query`: how many rows there are.
    #[serde(default)]
    pub count: u64,
    /// `query`: the names of the columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// `insert`: the new row's key, where that is one whole number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rowid: Option<i64>,
    /// `insert`: the new row's key by column: the primary key, or else the columns of a unique index. Whole numbers are
    /// numbers, all else is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Map<String, Value>>,
    /// `insert`: where the new row is, in a table without a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
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
    /// Of `insert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<insert::Before>,
}

const ACTIONS: [&str; 4] = ["query", "insert", "execute", "check"];

impl Params {
    /// The row and what is known of it.
    fn row<'a>(&'a self, intent: &'a Intent) -> Option<(&'a Insert, &'a insert::Before)> {
        self.insert.as_ref().zip(intent.before.as_ref())
    }
}

impl Step for Postgres {
    const KIND: &'static str = "postgres";
    type Params = Params;
    type Output = Output;
    type Intent = Intent;

    fn docs(&self) -> Docs {
        Docs {
            summary: "queries, checks and changes a PostgreSQL database that another program uses",
            details: "A `query` runs in a read-only transaction that is rolled back, so it cannot write, whatever it says. \
                      Writes are short transactions of one statement. Locks of others are waited for up to `busy_timeout`; \
                      after a deadlock, or where the server could not put two transactions in a row, the step tries again \
                      within that time, each time after a longer pause. Waits of more than 100 ms are counted in `out.db`.\n\n\
                      `insert` must insert exactly one row. It is read back before it is committed, and what the server \
                      stored, a trigger's work included, is what its undo looks for: server, database, table, key and \
                      transaction. The row is deleted only if the columns that were written still hold the same bytes: another case, \
                      another scale of a number or other spaces in JSON are a change, whatever the type or a collation takes \
                      for equal. Other columns belong to the program under test. Rows that triggers inserted with it, as into an \
                      audit table, are deleted too; what they changed otherwise is named. \
                      Where a trigger deletes rows of others, empties, makes or alters a table, changes rights or comments, or where \
                      the server counts no changes (`track_counts`), the step fails and nothing is inserted. Where deleting it would delete or change rows of \
                      others (`ON DELETE CASCADE`), or where a policy may hide it, or the table or the server is another \
                      now, it stays and is named. `out.key` is the new row's primary key (or \
                      that of another unique index), `out.rowid` the same where it is one whole number. A table without any \
                      key works too; only where another may have changed or removed the row nobody can tell, and it is named. \
                      In a written undo or in `cleanup`, a row that is there already with the same key and values is not inserted again. \
                      `execute` needs a written `undo`. `check` takes one or a list of `reachable`, `readable`, `writable` (no replica, not read-only) \
                      and `schema`; with `table` the user's privileges are asked for too.\n\n\
                      Values are sent as text that the server reads by the type of the column or parameter; where it cannot know \
                      the type, say it: `:since::timestamptz`. Results: numbers are numbers (a `numeric` of more digits than \
                      a number holds is text), `json` is what it says, arrays are lists, composite types maps, bytes `{\"$blob\": \"hex\"}`, \
                      times text as in `2025-01-23T10:15:00+00:00`, all else text.\n\n\
                      Whatever is encrypted is checked: the server's certificate must be trusted by this machine or by `ca`. \
                      Without `sslmode` connections to this machine itself are plain, those to others encrypted if the server can.\n\n\
                      `psql` commands in messages never hold the password: `psql` asks for it.",
            example: "record:\n  postgres:\n    url: postgres://tester@127.0.0.1:5432/media\n    insert:\n      into: \
                      media_transfer_status\n      values: { file_path: /data/a.txt, file_name: a.txt, download_status: completed \
                      }\nsent:\n  wait:\n    until:\n      postgres:\n        url: postgres://tester@127.0.0.1:5432/media\n        \
                      query: SELECT transfer_status FROM media_transfer_status WHERE id = :id\n        params: { id: \
                      \"${{ steps.record.out.rowid }}\" }\n    succeed_when: out.row.transfer_status == \"completed\"\n  timeout: 12m\n",
            errors: &[
                ("unreachable", "refused, timed out or broken: `pg_isready -h HOST -p PORT`"),
                ("denied", "wrong or no password, no privilege, or a database that takes no writes"),
                ("denied", "the server's certificate is not trusted: name its authority with `ca`"),
                (
                    "not-found",
                    "the database, table or column does not exist; the message lists those that do",
                ),
                ("exists", "another row has the same value of a unique column"),
                ("busy", "others held locks for the whole `busy_timeout`, or there are too many connections"),
                ("timeout", "the statement took longer than `statement_timeout`"),
                (
                    "invalid",
                    "the statement or a value is wrong, or a `query` writes: use `execute` with an `undo`",
                ),
                ("no-space", "the server's disk or memory is full: `df -h` on its host"),
                ("expectation", "a check does not hold, or a trigger of the database objects"),
                ("corrupt", "the server reports damaged data: look into its log"),
            ],
            on_host: false,
        }
    }

    fn describe(&self, view: &ParamsView<'_>) -> Description {
        match view.present(&ACTIONS).first().copied() {
            Some("insert") => {
                let table = view.get("insert").and_then(|insert| insert.get("into")).and_then(Value::as_str);
                Description::changes(
                    format!("insert into {}", short(table.unwrap_or("?"))),
                    "delete that row, if unchanged",
                )
            }
            Some("execute") => {
                Description::needs_written_undo(short(&format!("execute: {}", view.show("execute"))))
            }
            Some("check") => Description::reads(format!("check PostgreSQL: {}", view.words("check"))),
            _ => Description::reads(short(&format!("query: {}", view.show("query")))),
        }
    }

    fn check(&self, view: &ParamsView<'_>) -> Vec<(String, String)> {
        let mut wrong = view.exactly_one(&ACTIONS);
        if view.has("params") && !view.has("query") && !view.has("execute") {
            wrong.push(("params".into(), "`params` goes with `query` or `execute`".into()));
        }
        if view.has("max_rows") && !view.has("query") {
            wrong.push(("max_rows".into(), "`max_rows` goes with `query`".into()));
        }
        for key in view.present(&["table", "columns"]) {
            if !view.has("check") {
                wrong.push((key.into(), format!("`{key}` goes with `check`")));
            }
        }
        for key in view.present(&["query", "execute"]) {
            let text = view.get(key).and_then(Value::as_str).filter(|_| view.is_known(key));
            if text.is_some_and(sql::is_several) {
                let message =
                    format!("`{key}` holds more than one statement: expected one, in a step of its own");
                wrong.push((key.into(), message));
            }
        }
        if view.has("columns") && view.has("check") && !view.words("check").contains("schema") {
            wrong.push(("columns".into(), "`columns` goes with `check: schema`".into()));
        }
        wrong
    }

    fn probe_ignores(&self) -> &'static [&'static str] {
        &["insert", "params"]
    }

    async fn probe(&self, cx: &Context, params: &Params) -> Result<Probe, StepError> {
        let mut link = Link::open(cx, params, SESSION).await?;
        let table = params.insert.as_ref().map(|insert| insert.into.as_str());
        let columns: Vec<String> =
            params.insert.iter().flat_map(|insert| insert.values.keys().cloned()).collect();
        let checks: &[Check] = match table {
            Some(_) => &[Check::Writable, Check::Schema],
            None => &[Check::Writable],
        };
        let wanted = Wanted { checks, table, columns: &columns };
        match check::look(&mut link, &wanted).await {
            Ok(health) => Ok(Probe::would_pass(health.words())),
            Err(error) if error.class == ErrorClass::Expectation => {
                Ok(Probe::would_fail("takes no writes", error))
            }
            Err(error) => Err(error),
        }
    }

    async fn intend(&self, cx: &Context, params: &Params) -> Result<Intent, StepError> {
        let Some(insert) = &params.insert else { return Ok(Intent::default()) };
        let mark = format!("{SESSION}-{}", engine::local::process::Tree::new().marker);
        let mut link = Link::open(cx, params, SESSION).await?;
        Ok(Intent { before: Some(insert.intend(&mut link, mark).await?) })
    }

    async fn run(&self, cx: &Context, params: &Params, intent: &Intent) -> Result<Output, StepError> {
        let mark = intent.before.as_ref().map_or(SESSION, |before| before.mark.as_str());
        let mut link = Link::open(cx, params, mark).await?;
        let output = if let Some((insert, before)) = params.row(intent) {
            insert.run(&mut link, before).await?
        } else if let Some(checks) = &params.check {
            let (table, columns) = (params.table.as_deref(), params.columns.as_slice());
            let wanted = Wanted { checks: checks.list(), table, columns };
            Output { health: Some(check::look(&mut link, &wanted).await?), ..Output::default() }
        } else if let Some(sql) = &params.query {
            query::query(&mut link, sql, &params.params, params.max_rows.unwrap_or(1_000)).await?
        } else if let Some(sql) = &params.execute {
            query::execute(&mut link, sql, &params.params).await?
        } else {
            let message = format!("expected exactly one of `{}`", ACTIONS.join("`, `"));
            return Err(StepError::new(ErrorClass::Invalid, message));
        };
        Ok(Output { db: link.patience.effort(), ..output })
    }

    fn summary(&self, output: &Output) -> String {
        if let Some(health) = &output.health {
            return health.words();
        }
        let named = |map: &Map<String, Value>| {
            short(&map.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", "))
        };
        match (&output.key, &output.at, output.row.as_object()) {
            (Some(key), ..) => format!("row {}", named(key)),
            (_, Some(_), _) => "a row without a key".to_owned(),
            (.., Some(row)) if output.count == 1 => named(row),
            _ if !output.columns.is_empty() => format!("{} rows", output.count),
            _ => format!("{} rows changed", output.changes),
        }
    }

    async fn settle(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
    ) -> Result<Settled<Output>, StepError> {
        let Some((insert, before)) = params.row(intent) else { return Ok(Settled::NotHappened) };
        let mut link = Link::open(cx, params, SESSION).await?;
        insert.settle(&mut link, before).await
    }

    async fn undo(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Undone, StepError> {
        let Some((insert, before)) = params.row(intent) else { return Ok(Undone::NothingToDo) };
        match Link::open(cx, params, SESSION).await {
            Ok(mut link) => insert.undo(&mut link, before, output).await,
            Err(error) if errors::is_gone(&error) => {
                Ok(match home::missing(cx, params, before.home.as_ref()).await {
                    Missing::Dropped => Undone::NothingToDo,
                    Missing::Unclear(why) => {
                        Undone::CannotTell(insert.unclear(&Place::of(params), before, &why))
                    }
                })
            }
            Err(error) => Err(error),
        }
    }

    fn by_hand(&self, params: &Params, intent: &Intent) -> Option<ByHand> {
        let (insert, before) = params.row(intent)?;
        Some(ByHand { host: None, command: insert.by_hand(&Place::of(params), before) })
    }

    async fn presence(
        &self,
        cx: &Context,
        params: &Params,
        intent: &Intent,
        output: Option<&Output>,
    ) -> Result<Presence, StepError> {
        let Some((insert, before)) = params.row(intent) else { return Ok(Presence::Gone) };
        match Link::open(cx, params, SESSION).await {
            Ok(mut link) => insert.presence(&mut link, before, output).await,
            Err(error) if errors::is_gone(&error) => {
                Ok(match home::missing(cx, params, before.home.as_ref()).await {
                    Missing::Dropped => Presence::Gone,
                    Missing::Unclear(why) => Presence::Unknown(why),
                })
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
