//! `query` and `execute`: statements of the playbook's own.

use super::{
    Output,
    errors::{self, Words},
    link::{Failure, Link},
    sql::{begins_with, named},
    table,
    value::{self, Cell, Way},
};
use engine::{ErrorClass, StepError, secret::is_marked};
use futures_util::TryStreamExt as _;
use serde_json::{Map, Value};

/// What statements that only read begin with.
const READS: [&str; 6] = ["SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN"];
/// How many bytes of rows are kept; an output has to fit into the journal.
const KEPT: usize = 1 << 20;

/// A statement with the values of its names.
struct Ask {
    text: String,
    values: Vec<Value>,
}

fn invalid(message: String) -> StepError {
    StepError::new(ErrorClass::Invalid, message)
}

impl Ask {
    fn new(sql: &str, params: &Map<String, Value>) -> Result<Self, StepError> {
        if is_marked(sql) {
            return Err(invalid("a secret cannot stand in a statement, which the server may log".into())
                .hint("write `:name` in its place, and give the secret in `params`"));
        }
        let named = named(sql)?;
        let mut values = Vec::new();
        for name in &named.names {
            let value = params.get(name).ok_or_else(|| {
                invalid(format!("`:{name}` has no value")).hint(format!("add it: params: {{ {name}: … }}"))
            })?;
            values.push(value.clone());
        }
        if let Some(extra) = params.keys().find(|key| !named.names.contains(key)) {
            return Err(invalid(format!("the statement has no `:{extra}`")));
        }
        Ok(Self { text: named.text, values })
    }
}

/// What of the server's words may be passed on, where they can quote these values.
pub(super) fn words<'a>(mut values: impl Iterator<Item = &'a Value>) -> Words {
    match values.any(|value| is_marked(&value.to_string())) {
        true => Words::Unquoted,
        false => Words::All,
    }
}

/// Reads in a transaction that cannot write, and that is rolled back.
pub(super) async fn query(
    link: &mut Link<'_>,
    sql: &str,
    params: &Map<String, Value>,
    max_rows: usize,
) -> Result<Output, StepError> {
    if !begins_with(sql, &READS) {
        return Err(invalid(format!("`query` only reads: expected one of `{}` first", READS.join("`, `")))
            .hint("use `execute` with a written `undo`"));
    }
    let ask = Ask::new(sql, params)?;
    link.words = words(params.values());
    loop {
        match read(link, &ask, max_rows).await {
            Ok(output) => {
                link.patience.done();
                return Ok(output);
            }
            Err(Failure::Pg(error)) if !errors::passes(errors::code(&error)) => {
                return Err(objection(link, error).await);
            }
            Err(failure) => link.again(failure).await?,
        }
    }
}

async fn read(link: &Link<'_>, ask: &Ask, max_rows: usize) -> Result<Output, Failure> {
    link.begin("READ ONLY").await?;
    let mut statement = link.ask(link.client.prepare(&ask.text)).await?;
    let names: Vec<String> = statement.columns().iter().map(|column| column.name().to_owned()).collect();
    let ways: Vec<Way> = statement.columns().iter().map(Way::of).collect();
    if ways.iter().any(|way| *way != Way::Plain) {
        statement = link.ask(link.client.prepare(&value::reading(&ask.text, &ways))).await?;
    }
    let values = value::bind_all(link.cx, &ask.values, &statement)?;
    let mut output = Output { columns: names, ..Output::default() };
    let mut kept = 0;
    let reading = async {
        let stream = link.client.query_raw(&statement, values.iter()).await?;
        tokio::pin!(stream);
        while let Some(row) = stream.try_next().await? {
            output.count += 1;
            if kept > KEPT || output.rows.len() >= max_rows {
                continue;
            }
            kept += row.raw_size_bytes();
            if kept > KEPT {
                continue;
            }
            let mut made = Map::new();
            for (at, (name, way)) in output.columns.iter().zip(&ways).enumerate() {
                let Cell(value) = row.try_get(at)?;
                let value = match (way, value) {
                    (Way::Number, Value::String(text)) => value::number(&text),
                    (_, value) => value,
                };
                made.insert(name.clone(), value);
            }
            output.rows.push(Value::Object(made));
        }
        Ok(())
    };
    link.ask(reading).await?;
    link.roll_back().await?;
    if output.rows.is_empty() && kept > KEPT {
        return Err(invalid(format!("the first row has {kept} bytes: expected at most {KEPT}"))
            .hint("read fewer columns, or a part of them: left(COLUMN, 1000)")
            .into());
    }
    output.row = output.rows.first().cloned().unwrap_or(Value::Null);
    Ok(output)
}

/// What the server has against a statement, with what it has where a name is unknown.
async fn objection(link: &Link<'_>, error: tokio_postgres::Error) -> StepError {
    let code = errors::code(&error).to_owned();
    let mut told = errors::explain(&error, &link.place, link.words);
    // The connection may be broken: the next question says so.
    let _ended = link.roll_back().await;
    match code.as_str() {
        "42P01" => {
            let there = table::names(link).await;
            let said = error.as_db_error().map_or("", |said| said.message());
            let name = said.split('"').nth(1).unwrap_or_default();
            told.hint(table::near(name, &there))
        }
        // A statement that writes where nothing can be written: of a query it is its own fault.
        "25006" => {
            told.class = ErrorClass::Invalid;
            told.message =
                format!("`query` changes something; expected a statement that only reads ({code})");
            told.hint("use `execute` with a written `undo`")
        }
        "0A000" if told.message.contains("data-modifying") => {
            told.class = ErrorClass::Invalid;
            told.message =
                format!("`query` changes something; expected a statement that only reads ({code})");
            told.hint("use `execute` with a written `undo`")
        }
        _ => told,
    }
}

/// Carries out a statement that changes something.
pub(super) async fn execute(
    link: &mut Link<'_>,
    sql: &str,
    params: &Map<String, Value>,
) -> Result<Output, StepError> {
    let ask = Ask::new(sql, params)?;
    link.words = words(params.values());
    match link.change(&ask.text, &ask.values).await {
        Ok(change) => Ok(Output { changes: change.count, ..Output::default() }),
        Err(Failure::Told(error)) => Err(error),
        Err(Failure::Pg(error)) => Err(match errors::code(&error) {
            "42P01" => objection(link, error).await,
            _ => errors::explain(&error, &link.place, link.words),
        }),
    }
}
