//! What the server knows of a table: its columns with their types, and what tells its rows apart.

use super::{
    link::{Failure, Link},
    sql::{literal, parts, quoted},
    value,
};
use engine::{ErrorClass, StepError, diagnostic::did_you_mean};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::{Row, types::Type};

/// A column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Column {
    pub(super) name: String,
    /// As `format_type` says it, such as `numeric(10,2)`.
    pub(super) ty: String,
    /// Whether its values are compared by `=`, for which an index may serve; others are compared by their text.
    plain: bool,
    /// Whether it is a `smallint`, an `integer` or a `bigint`.
    pub(super) whole: bool,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Table {
    /// What stays when it is renamed.
    #[serde(default)]
    pub(super) oid: u32,
    schema: String,
    name: String,
    /// `r` is a table, `p` one with partitions, `v` a view and so on.
    kind: String,
    columns: Vec<Column>,
    /// The columns of its primary key; else of the first unique index without NULL; else none.
    pub(super) key: Vec<String>,
    /// Whether rows of other tables go, or are changed, with a row of it.
    #[serde(default)]
    pub(super) takes_along: bool,
}

impl Column {
    /// The condition that it holds the value of a parameter.
    pub(super) fn holds(&self, number: usize) -> String {
        self.holds_value(&format!("${number}"))
    }

    /// The condition that it holds the bytes that a parameter has as a value of its type.
    pub(super) fn holds_exactly(&self, number: usize) -> String {
        format!("{} = (${number}::{})::text", self.exact(), self.ty)
    }

    fn holds_value(&self, value: &str) -> String {
        let Self { name, ty, plain, .. } = self;
        let name = quoted(name);
        match plain {
            true => format!("{name} = {value}::{ty}"),
            false => format!("{name}::text = ({value}::{ty})::text"),
        }
    }

    /// The same for a person to type.
    pub(super) fn holds_literal(&self, value: Option<&str>) -> String {
        match value {
            Some(text) => self.holds_value(&literal(text)),
            None => self.is_null(),
        }
    }

    /// The expression of its very bytes as text, under the settings of [`EXACT`](super::link::EXACT): what its type or a
    /// collation takes for equal, such as 1 and 1.0, differs here.
    pub(super) fn exact(&self) -> String {
        format!("({}::text COLLATE \"C\")", quoted(&self.name))
    }

    /// The same as a digest, for long values.
    pub(super) fn digest(&self) -> String {
        format!("encode(sha256(convert_to({}::text, 'UTF8')), 'hex')", quoted(&self.name))
    }

    /// The expression that reads it as text which can be read back: times of some styles name their zone by letters that
    /// stand for several, such as `CST`.
    pub(super) fn as_text(&self) -> String {
        match self.ty.starts_with("timestamp") || self.ty.starts_with("date") {
            true => format!("to_jsonb({}) #>> '{{}}'", quoted(&self.name)),
            false => format!("{}::text", quoted(&self.name)),
        }
    }

    /// A value of it as a person types it, in quotes; secrets stay marked.
    pub(super) fn shown(&self, value: &Value) -> Option<String> {
        let ty = match self.ty.as_str() {
            "json" | "jsonb" => Type::JSON,
            ty if ty.ends_with("[]") => Type::TEXT_ARRAY,
            _ if self.whole => Type::INT8,
            _ => Type::TEXT,
        };
        value::shown(value, &ty)
    }

    /// # Errors
    /// The value means another time whenever it is read: it could not be compared later.
    pub(super) fn refuse(&self, name: &str, value: &Value) -> Result<(), StepError> {
        const WORDS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];
        let text = value.as_str().unwrap_or_default();
        let is_time = ["time", "date"].iter().any(|kind| self.ty.starts_with(kind));
        let moves = |word: &str| WORDS.iter().any(|one| one.eq_ignore_ascii_case(word));
        if !is_time || !text.split_whitespace().any(moves) {
            return Ok(());
        }
        let message =
            format!("`{name}` is `{text}`: expected a time that stays the same, for the undo compares it");
        Err(StepError::new(ErrorClass::Invalid, message)
            .hint("leave the column to its default, or write ${{ run.started_at }}"))
    }

    pub(super) fn is_null(&self) -> String {
        format!("{} IS NULL", quoted(&self.name))
    }
}

const FIND: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relname = $1::text AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
    AND CASE WHEN $2::text IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = $2::text END";

const BY_OID: &str = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::oid";

const COLUMNS: &str = "SELECT attname::text, format_type(atttypid, atttypmod), \
    atttypid = ANY ('{bool,int2,int4,int8,float4,float8,numeric,text,varchar,bytea,uuid,date,time,timestamp,timestamptz}'::regtype[]), \
    atttypid = ANY ('{int2,int4,int8}'::regtype[]) \
    FROM pg_attribute WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum";

const KEY: &str = "SELECT array_agg(a.attname::text ORDER BY k.at) FROM pg_index i \
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (num, at) \
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num \
    WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND (i.indisprimary OR i.indimmediate) \
    AND i.indpred IS NULL AND i.indexprs IS NULL AND k.at <= i.indnkeyatts \
    GROUP BY i.indexrelid, i.indisprimary HAVING bool_and(a.attnotnull) \
    ORDER BY i.indisprimary DESC, count(*), i.indexrelid LIMIT 1";

/// Foreign keys that cascade, or set what refers to a row to NULL or to its default.
const TAKES_ALONG: &str = "SELECT EXISTS (SELECT FROM pg_constraint \
    WHERE confrelid = $1::oid AND contype = 'f' AND confdeltype IN ('c', 'n', 'd'))";

const NAMES: &str = "SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname ELSE n.nspname || '.' || c.relname END::text \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
    ORDER BY 1 LIMIT 1000";

/// The names of tables, as far as a message can hold them.
pub(super) async fn names(link: &Link<'_>) -> Vec<String> {
    let rows = link.rows(NAMES, &[]).await.unwrap_or_default();
    rows.iter().map(|row| row.get(0)).collect()
}

/// What to say where there is no table of this name.
pub(super) fn near(name: &str, there: &[String]) -> String {
    let name = name.rsplit('.').next().unwrap_or(name).trim_matches('"');
    let near = did_you_mean(name, there.iter().map(String::as_str));
    near.unwrap_or_else(|| match there {
        [] => "it has none at all, or this user may see none".to_owned(),
        _ => {
            let shown: Vec<&str> = there.iter().take(20).map(String::as_str).collect();
            let more = if there.len() > shown.len() { " and more" } else { "" };
            format!("its tables are: {}{more}", shown.join(", "))
        }
    })
}

impl Table {
    /// Finds it by the name that a playbook gives: exactly as it stands, else as SQL reads it, in small letters.
    ///
    /// # Errors
    /// It does not exist.
    pub(super) async fn find(link: &Link<'_>, given: &str) -> Result<Self, Failure> {
        let Some(parts) = parts(given) else {
            return Err(StepError::new(
                ErrorClass::Invalid,
                format!("`{given}` is no name of a table: expected `TABLE` or `SCHEMA.TABLE`"),
            )
            .into());
        };
        let exact: Vec<String> = parts.iter().map(|(part, _)| part.clone()).collect();
        let folded = parts
            .iter()
            .map(|(part, quoted)| if *quoted { part.clone() } else { part.to_lowercase() })
            .collect();
        for mut names in [exact, folded] {
            let name = names.pop().unwrap_or_default();
            let schema = names.pop().map_or(Value::Null, Value::from);
            if let Some(row) = link.rows(FIND, &[Value::from(name), schema]).await?.first() {
                return Self::read(link, row).await;
            }
        }
        let hint = near(given, &names(link).await);
        let message = format!("`{}` has no table `{given}`", link.place.label);
        Err(StepError::new(ErrorClass::NotFound, message).hint(hint).into())
    }

    /// The same table as it is now, whatever its name; none if it was dropped.
    pub(super) async fn again(&self, link: &Link<'_>) -> Result<Option<Self>, Failure> {
        Self::numbered(link, self.oid).await
    }

    /// The table of a number, if there is one.
    pub(super) async fn numbered(link: &Link<'_>, oid: u32) -> Result<Option<Self>, Failure> {
        match link.rows(BY_OID, &[Value::from(oid)]).await?.first() {
            Some(row) => Ok(Some(Self::read(link, row).await?)),
            None => Ok(None),
        }
    }

    /// Whether another table has its name now.
    pub(super) async fn is_replaced(&self, link: &Link<'_>) -> Result<bool, Failure> {
        let names = [Value::from(self.name.as_str()), Value::from(self.schema.as_str())];
        Ok(link.rows(FIND, &names).await?.iter().any(|row| row.get::<_, u32>(0) != self.oid))
    }

    async fn read(link: &Link<'_>, row: &Row) -> Result<Self, Failure> {
        let oid = || [Value::from(row.get::<_, u32>(0))];
        let columns = link.rows(COLUMNS, &oid()).await?;
        let columns = columns.iter().map(|row| Column {
            name: row.get(0),
            ty: row.get(1),
            plain: row.get(2),
            whole: row.get(3),
        });
        let key = link.rows(KEY, &oid()).await?;
        let takes_along = link.rows(TAKES_ALONG, &oid()).await?;
        Ok(Self {
            oid: row.get(0),
            schema: row.get(1),
            name: row.get(2),
            kind: row.get(3),
            columns: columns.collect(),
            key: key.first().map(|row| row.get(0)).unwrap_or_default(),
            takes_along: takes_along.first().is_some_and(|row| row.get(0)),
        })
    }

    /// As statements name it.
    pub(super) fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// As statements name its own rows: those of tables that inherit from it are not among them.
    pub(super) fn only(&self) -> String {
        match self.kind == "p" {
            true => self.sql(),
            false => format!("ONLY {}", self.sql()),
        }
    }

    /// Whether its rows are kept in parts, between which a change may move them.
    pub(super) fn has_parts(&self) -> bool {
        self.kind == "p"
    }

    /// As messages name it.
    pub(super) fn label(&self) -> String {
        match self.schema.as_str() {
            "public" => self.name.clone(),
            schema => format!("{schema}.{}", self.name),
        }
    }

    /// What it is instead of a table into which rows are inserted.
    pub(super) fn other_kind(&self) -> Option<&'static str> {
        match self.kind.as_str() {
            "r" | "p" => None,
            "v" => Some("a view"),
            "m" => Some("a materialized view"),
            "f" => Some("a foreign table"),
            _ => Some("no table"),
        }
    }

    /// The column of a name, in any letters.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn column(&self, name: &str, link: &Link<'_>) -> Result<&Column, StepError> {
        let exact = self.columns.iter().find(|column| column.name == name);
        if let Some(column) =
            exact.or_else(|| self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)))
        {
            return Ok(column);
        }
        let there = || self.columns.iter().map(|column| column.name.as_str());
        let hint = did_you_mean(name, there())
            .unwrap_or_else(|| format!("its columns are: {}", there().collect::<Vec<_>>().join(", ")));
        let message =
            format!("the table `{}` of `{}` has no column `{name}`", self.label(), link.place.label);
        Err(StepError::new(ErrorClass::NotFound, message).hint(hint))
    }

    /// The columns of its key.
    pub(super) fn key_columns(&self) -> Vec<&Column> {
        self.key.iter().filter_map(|name| self.known(name)).collect()
    }

    /// A column that was found before.
    pub(super) fn known(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}
