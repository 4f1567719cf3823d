//! `check`: what must hold of the database. Nothing is written.

use super::{
    link::{Failure, Link},
    table::Table,
};
use engine::{ErrorClass, StepError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What can be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// It answers, and lets the user in.
    Reachable,
    /// The user may read: the table if one is named, else at least one of the database.
    Readable,
    /// It takes writes: no replica, not read-only; with `table` the user may insert into it, change and delete its rows.
    Writable,
    /// The table is there, with the columns.
    Schema,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// The server's version, such as `15.14`.
    #[serde(default)]
    pub version: String,
    /// `primary` or `replica`.
    #[serde(default)]
    pub role: String,
    /// `writable`: whether it takes writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writable: Option<bool>,
    /// The size of the database in bytes; missing if the user may not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

impl Health {
    /// The same in a few words.
    pub(super) fn words(&self) -> String {
        let mut words = Vec::new();
        if self.writable == Some(true) {
            words.push("writable".to_owned());
        }
        words.push(format!("PostgreSQL {}", self.version));
        words.push(self.role.clone());
        words.extend(self.size.map(|size| engine::quantity::Bytes(size).to_string()));
        words.join(", ")
    }
}

/// What is wanted.
pub(super) struct Wanted<'a> {
    pub(super) checks: &'a [Check],
    pub(super) table: Option<&'a str>,
    pub(super) columns: &'a [String],
}

const LOOK: &str = "SELECT current_setting('server_version'), pg_is_in_recovery(), \
    CASE WHEN has_database_privilege(current_database(), 'CONNECT') THEN pg_database_size(current_database()) END, \
    current_setting('default_transaction_read_only') = 'on', current_user::text";

/// What the user may do with a table of the names `$1` and in the words `$2`.
const MAY: &str = "SELECT word FROM unnest(string_to_array($2::text, ' ')) AS word \
    WHERE NOT has_table_privilege($1::text, word)";

const MAY_READ: &str = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
    AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')), \
    EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_')";

/// # Errors
/// A check does not hold; the server does not answer.
pub(super) async fn look(link: &mut Link<'_>, wanted: &Wanted<'_>) -> Result<Health, StepError> {
    loop {
        match try_look(link, wanted).await {
            Ok(health) => {
                link.patience.done();
                return Ok(health);
            }
            Err(failure) => link.again(failure).await?,
        }
    }
}

async fn try_look(link: &Link<'_>, wanted: &Wanted<'_>) -> Result<Health, Failure> {
    link.begin("READ ONLY").await?;
    let rows = link.rows(LOOK, &[]).await?;
    let Some(row) = rows.first() else { return Err(StepError::internal("a look without a row").into()) };
    let version: String = row.get(0);
    let (replica, read_only, user): (bool, bool, String) = (row.get(1), row.get(3), row.get(4));
    let mut health = Health {
        // Such as `15.14 (Debian 15.14-0+deb12u1)`.
        version: version.split(' ').next().unwrap_or_default().to_owned(),
        role: if replica { "replica" } else { "primary" }.to_owned(),
        writable: None,
        size: row.get::<_, Option<i64>>(2).and_then(|size| u64::try_from(size).ok()),
    };
    let label = link.place.label.clone();
    let table = match wanted.table {
        Some(name) => Some(Table::find(link, name).await?),
        None => None,
    };
    let may = async |words: &str| -> Result<(), Failure> {
        let Some(table) = &table else { return Ok(()) };
        let rows = link.rows(MAY, &[Value::from(table.sql()), Value::from(words)]).await?;
        let missing: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!(
            "`{label}`: the user `{user}` may not {} the table `{}`",
            missing.join(", "),
            table.label()
        );
        let grant =
            format!("GRANT {} ON {} TO {}", missing.join(", "), table.sql(), super::sql::quoted(&user));
        Err(StepError::new(ErrorClass::Denied, message).hint(link.place.type_in(&grant)).into())
    };
    for check in wanted.checks {
        match check {
            Check::Reachable => {}
            Check::Readable if table.is_some() => may("SELECT").await?,
            Check::Readable => {
                let rows = link.rows(MAY_READ, &[]).await?;
                let (some, any): (bool, bool) =
                    rows.first().map_or((true, true), |row| (row.get(0), row.get(1)));
                if any && !some {
                    let message = format!("`{label}`: the user `{user}` may read none of its tables");
                    return Err(StepError::new(ErrorClass::Denied, message)
                        .hint(link.place.type_in("\\dp"))
                        .into());
                }
            }
            Check::Writable => {
                let why = match (replica, read_only) {
                    (true, _) => "it is a replica",
                    (_, true) => "`default_transaction_read_only` is on",
                    _ => "",
                };
                if !why.is_empty() {
                    let look = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')";
                    return Err(StepError::expectation(format!("`{label}` takes no writes: {why}"))
                        .hint(link.place.type_in(look))
                        .into());
                }
                may("INSERT UPDATE DELETE").await?;
                health.writable = Some(true);
            }
            Check::Schema => {
                let Some(table) = &table else {
                    return Err(StepError::new(ErrorClass::Invalid, "`check: schema` needs `table`").into());
                };
                for column in wanted.columns {
                    table.column(column, link)?;
                }
            }
        }
    }
    link.roll_back().await?;
    Ok(health)
}
