//! Between JSON and PostgreSQL values. Values travel as text, which the server reads by the type that it says the
//! parameter has; results are read by the type that it says the column has.

use super::sql::quoted;
use crate::hex::hex;
use engine::{ErrorClass, StepError, step::Context};
use serde_json::{Map, Value, json};
use std::{error::Error, fmt};
use tokio_postgres::{
    Column, Statement,
    types::{Format, FromSql, IsNull, Kind, ToSql, Type, private::BytesMut},
};

/// A value as it is sent; may hold a secret.
pub(super) struct Bound(Option<String>);

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bound")
    }
}

impl ToSql for Bound {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Some(text) = &self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.to_sql(ty, out)
    }
}

/// The type behind domains.
fn base(ty: &Type) -> &Type {
    match ty.kind() {
        Kind::Domain(inner) => base(inner),
        _ => ty,
    }
}

/// Puts secrets in place of their marks, or leaves the marks for people to see.
type Reveal<'a> = &'a dyn Fn(&str) -> Result<String, StepError>;

/// Values for the parameters of a statement, each by the type that the server says it has.
///
/// # Errors
/// One is no value of a column, or a secret in it was not found.
pub(super) fn bind_all(
    cx: &Context,
    values: &[Value],
    statement: &Statement,
) -> Result<Vec<Bound>, StepError> {
    let reveal = |text: &str| Ok(cx.reveal(text)?.expose().to_owned());
    let types = statement.params();
    if types.len() != values.len() {
        let message = format!("the statement takes {} values, found {}", types.len(), values.len());
        return Err(StepError::new(ErrorClass::Invalid, message));
    }
    values.iter().zip(types).map(|(value, ty)| Ok(Bound(to_text(&reveal, value, base(ty))?))).collect()
}

/// A value as a person types it, in quotes; secrets stay marked.
pub(super) fn shown(value: &Value, ty: &Type) -> Option<String> {
    let text = to_text(&|text| Ok(text.to_owned()), value, ty);
    text.unwrap_or_else(|_| Some(value.to_string()))
}

fn to_text(reveal: Reveal<'_>, value: &Value, ty: &Type) -> Result<Option<String>, StepError> {
    if value.is_null() {
        return Ok(None);
    }
    let is_json = *ty == Type::JSON || *ty == Type::JSONB;
    let is_whole = [Type::INT2, Type::INT4, Type::INT8, Type::NUMERIC].contains(ty);
    Ok(Some(match value {
        Value::String(text) => reveal(text)?,
        Value::Array(_) | Value::Object(_) if is_json => revealed(reveal, value)?.to_string(),
        Value::Bool(truth) if is_whole => u8::from(*truth).to_string(),
        Value::Number(number) => {
            // An expression may give a whole number as 5.0, which no integer of PostgreSQL is.
            let whole = number.as_f64().filter(|real| is_whole && number.is_f64() && real.fract() == 0.0);
            whole.map_or_else(|| number.to_string(), |real| format!("{real:.0}"))
        }
        Value::Array(items) => match ty.kind() {
            Kind::Array(item) => list(reveal, items, base(item))?,
            _ => return Err(cannot_bind(value, ty)),
        },
        Value::Object(map) => match (map.len(), map.get("$blob").and_then(Value::as_str)) {
            (1, Some(hex)) if hex.len().is_multiple_of(2) && hex.bytes().all(|c| c.is_ascii_hexdigit()) => {
                format!("\\x{hex}")
            }
            _ => return Err(cannot_bind(value, ty)),
        },
        other => other.to_string(),
    }))
}

fn cannot_bind(value: &Value, ty: &Type) -> StepError {
    StepError::new(
        ErrorClass::Invalid,
        format!("`{value}` is no value of type `{ty}`: expected text, a number, true, false or null"),
    )
    .hint("lists go with arrays, maps with json; bytes are written as {\"$blob\": \"hex\"}")
}

/// The value with its secrets put in.
fn revealed(reveal: Reveal<'_>, value: &Value) -> Result<Value, StepError> {
    Ok(match value {
        Value::String(text) => Value::from(reveal(text)?),
        Value::Array(items) => items.iter().map(|item| revealed(reveal, item)).collect::<Result<_, _>>()?,
        Value::Object(map) => {
            let made: Result<Map<_, _>, StepError> =
                map.iter().map(|(key, value)| Ok((key.clone(), revealed(reveal, value)?))).collect();
            Value::Object(made?)
        }
        other => other.clone(),
    })
}

/// A literal of an array, such as `{"a",NULL,{…}}`.
fn list(reveal: Reveal<'_>, items: &[Value], ty: &Type) -> Result<String, StepError> {
    let items: Result<Vec<String>, StepError> = items
        .iter()
        .map(|item| match item {
            Value::Array(inner) if *ty != Type::JSON && *ty != Type::JSONB => list(reveal, inner, ty),
            item => Ok(match to_text(reveal, item, ty)? {
                Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
                None => "NULL".to_owned(),
            }),
        })
        .collect();
    Ok(format!("{{{}}}", items?.join(",")))
}

/// How a column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As it comes.
    Plain,
    /// As the text of a number of any length.
    Number,
    /// As JSON that the server makes of it.
    Json,
}

impl Way {
    pub(super) fn of(column: &Column) -> Self {
        let ty = base(column.type_());
        match ty.kind() {
            _ if *ty == Type::NUMERIC => Self::Number,
            Kind::Enum(_) => Self::Plain,
            _ if PLAIN.contains(ty) => Self::Plain,
            _ => Self::Json,
        }
    }

    /// The expression that reads it, of the column `c1` and so on of a subquery.
    pub(super) fn read(self, number: usize) -> String {
        match self {
            Self::Plain => format!("c{number}"),
            Self::Number => format!("c{number}::text"),
            Self::Json => format!("to_jsonb(c{number})"),
        }
    }
}

/// Types that are read as they come.
const PLAIN: [Type; 15] = [
    Type::BOOL,
    Type::INT2,
    Type::INT4,
    Type::INT8,
    Type::OID,
    Type::FLOAT4,
    Type::FLOAT8,
    Type::TEXT,
    Type::VARCHAR,
    Type::BPCHAR,
    Type::NAME,
    Type::JSON,
    Type::JSONB,
    Type::BYTEA,
    Type::VOID,
];

/// A value of a row.
pub(super) struct Cell(pub(super) Value);

impl<'a> FromSql<'a> for Cell {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let ty = base(ty);
        Ok(Self(match *ty {
            Type::BOOL => bool::from_sql(ty, raw)?.into(),
            Type::INT2 => i16::from_sql(ty, raw)?.into(),
            Type::INT4 => i32::from_sql(ty, raw)?.into(),
            Type::INT8 => i64::from_sql(ty, raw)?.into(),
            Type::OID => u32::from_sql(ty, raw)?.into(),
            // By its shortest text, so that 0.1 is 0.1.
            Type::FLOAT4 => real(f32::from_sql(ty, raw)?.to_string().parse()?),
            Type::FLOAT8 => real(f64::from_sql(ty, raw)?),
            Type::JSON => crate::json::exact(std::str::from_utf8(raw)?)?,
            // A byte before it tells its version.
            Type::JSONB => crate::json::exact(std::str::from_utf8(raw.get(1..).unwrap_or_default())?)?,
            Type::BYTEA => json!({ "$blob": hex(raw) }),
            Type::VOID => Value::Null,
            _ => Value::String(String::from_utf8(raw.to_vec())?),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Value::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Infinities and "not a number" are no numbers of JSON: they are shown as text.
fn real(number: f64) -> Value {
    serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number)
}

/// A number of any length: as a number where that loses nothing, else as text.
pub(super) fn number(text: &str) -> Value {
    match text.split_once('.') {
        None => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
        Some((_, _)) => {
            let short = text.trim_end_matches('0').trim_end_matches('.');
            match text.parse::<f64>() {
                Ok(number) if number.to_string() == short => real(number),
                _ => text.into(),
            }
        }
    }
}

/// Reads each column of the query by its way, under the name that the query gives it.
pub(super) fn reading(query: &str, ways: &[Way]) -> String {
    let columns: Vec<String> = (1..=ways.len()).map(|number| format!("c{number}")).collect();
    let read: Vec<String> = ways.iter().zip(1..).map(|(way, number)| way.read(number)).collect();
    // On a line of its own, for the query may end with a comment.
    format!("SELECT {} FROM (\n{query}\n) AS {} ({})", read.join(", "), quoted("it"), columns.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{list, number, to_text};
    use serde_json::json;
    use tokio_postgres::types::Type;

    #[test]
    fn numbers_lose_nothing() {
        for (text, value) in [
            ("12", json!(12)),
            ("-0.50", json!(-0.5)),
            ("2.00", json!(2.0)),
            ("12345678901234567890", json!("12345678901234567890")),
            ("0.1234567890123456789", json!("0.1234567890123456789")),
            ("NaN", json!("NaN")),
        ] {
            assert_eq!(number(text), value, "{text}");
        }
    }

    #[test]
    fn values_are_written_as_their_types_are() {
        let plain = |text: &str| Ok(text.to_owned());
        let text = |value, ty: Type| to_text(&plain, &value, &ty).expect("a value");
        assert_eq!(text(json!(true), Type::INT4).as_deref(), Some("1"));
        assert_eq!(text(json!(true), Type::BOOL).as_deref(), Some("true"));
        assert_eq!(text(json!(5.0), Type::INT8).as_deref(), Some("5"));
        assert_eq!(text(json!(5.0), Type::FLOAT8).as_deref(), Some("5.0"));
        assert_eq!(text(json!({ "$blob": "00ff" }), Type::BYTEA).as_deref(), Some("\\x00ff"));
        assert_eq!(text(json!({ "a": [1, "二"] }), Type::JSONB).as_deref(), Some("{\"a\":[1,\"二\"]}"));
        assert_eq!(text(json!(null), Type::TEXT), None);
        let items = [json!("a\"\\b"), json!(null), json!("丙")];
        assert_eq!(list(&plain, &items, &Type::TEXT).expect("a list"), "{\"a\\\"\\\\b\",NULL,\"丙\"}");
        let nested = [json!([1, 2]), json!([3, null])];
        assert_eq!(list(&plain, &nested, &Type::INT4).expect("a list"), "{{\"1\",\"2\"},{\"3\",NULL}}");
        assert!(to_text(&plain, &json!({ "a": 1 }), &Type::TEXT).is_err());
        assert!(to_text(&plain, &json!([1]), &Type::INT4).is_err());
    }
}
