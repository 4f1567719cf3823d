//! Values to the byte: what a row is found again by, and what it is compared with.

use crate::{
    hex::hex,
    store::{Cell, Row},
};
use engine::{StepError, secret::Secrets};
use rusqlite::types::{Value as SqlValue, ValueRef};
use serde::{Deserialize, Serialize};

/// A value under the type and with the bytes that SQLite holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Exact {
    Null,
    Integer(i64),
    /// The bits, in hex: no decimal loses one of them.
    Real(String),
    Text(String),
    /// Text that is no UTF-8, in hex.
    OddText(String),
    /// In hex.
    Blob(String),
}

impl From<ValueRef<'_>> for Exact {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(int) => Self::Integer(int),
            ValueRef::Real(real) => Self::Real(hex(&real.to_be_bytes())),
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Self::Text(text.to_owned()),
                Err(_) => Self::OddText(hex(bytes)),
            },
            ValueRef::Blob(bytes) => Self::Blob(hex(bytes)),
        }
    }
}

impl Exact {
    /// As it is bound, and the expression around its mark.
    fn bound(&self) -> (SqlValue, &'static str) {
        match self {
            Self::Null => (SqlValue::Null, "?"),
            Self::Integer(int) => (SqlValue::Integer(*int), "?"),
            Self::Real(_) => (SqlValue::Real(self.real()), "?"),
            Self::Text(text) => (SqlValue::Text(text.clone()), "?"),
            Self::OddText(digits) => (SqlValue::Blob(bytes(digits)), "CAST(? AS TEXT)"),
            Self::Blob(digits) => (SqlValue::Blob(bytes(digits)), "?"),
        }
    }

    fn real(&self) -> f64 {
        match self {
            Self::Real(bits) => u64::from_str_radix(bits, 16).map(f64::from_bits).unwrap_or_default(),
            _ => 0.0,
        }
    }

    /// As it is written in SQL that a person types; on one line, whatever it holds.
    pub(super) fn literal(&self) -> String {
        match self {
            Self::Null => "NULL".into(),
            Self::Integer(i64::MIN) => "(-9223372036854775807 - 1)".into(),
            Self::Integer(int) => int.to_string(),
            Self::Real(_) if self.real().is_infinite() => {
                if self.real() > 0.0 {
                    "9e999".into()
                } else {
                    "-9e999".into()
                }
            }
            Self::Real(_) => format!("{:e}", self.real()),
            Self::Text(text) if text.chars().any(char::is_control) => {
                format!("CAST(X'{}' AS TEXT)", hex(text.as_bytes()))
            }
            Self::Text(text) => format!("'{}'", text.replace('\'', "''")),
            Self::OddText(digits) => format!("CAST(X'{digits}' AS TEXT)"),
            Self::Blob(digits) => format!("X'{digits}'"),
        }
    }

    /// In a sentence.
    fn shown(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Integer(int) => int.to_string(),
            Self::Real(_) => self.real().to_string(),
            Self::Text(text) => text.clone(),
            Self::OddText(digits) | Self::Blob(digits) => format!("0x{digits}"),
        }
    }

    /// The value of a column, to be compared.
    pub(super) fn cell(name: &str, value: ValueRef<'_>) -> Cell {
        match value {
            ValueRef::Null => Cell::new(name, "null", b""),
            ValueRef::Integer(int) => Cell::new(name, "integer", &int.to_be_bytes()),
            ValueRef::Real(real) => Cell::new(name, "real", &real.to_be_bytes()),
            ValueRef::Text(bytes) => Cell::new(name, "text", bytes),
            ValueRef::Blob(bytes) => Cell::new(name, "blob", bytes),
        }
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    let pairs = (0..digits.len() / 2).filter_map(|at| digits.get(2 * at..2 * at + 2));
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

/// An identifier of SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What a row is found again by: the columns of its primary key, else its rowid, else all of its columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Key(pub(super) Vec<(String, Exact)>);

impl Key {
    /// The condition and what is bound to its marks.
    pub(super) fn condition(&self) -> (String, Vec<SqlValue>) {
        let (mut parts, mut values) = (Vec::new(), Vec::new());
        for (column, exact) in &self.0 {
            let (value, mark) = exact.bound();
            parts.push(format!("{} IS {mark}", name(column)));
            values.push(value);
        }
        (parts.join(" AND "), values)
    }

    /// The condition as a person types it.
    pub(super) fn typed(&self) -> String {
        let parts = self.0.iter().map(|(column, exact)| format!("{} IS {}", name(column), exact.literal()));
        parts.collect::<Vec<_>>().join(" AND ")
    }

    /// In a sentence: `5`, or `a, b`.
    pub(super) fn shown(&self) -> String {
        let parts: Vec<String> = self.0.iter().map(|(_, exact)| exact.shown()).collect();
        let text = parts.join(", ");
        match text.chars().count() > 60 {
            true => text.chars().take(59).chain(['…']).collect(),
            false => text,
        }
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.0.iter().any(|(name, _)| name == column)
    }

    /// With the secrets that the journal does not keep.
    pub(super) fn reveal(&mut self, secrets: &Secrets) -> Result<(), StepError> {
        for (_, exact) in &mut self.0 {
            if let Exact::Text(text) = exact {
                *text = secrets.reveal(text)?.expose().to_owned();
            }
        }
        Ok(())
    }
}

/// A column in a condition. The rowid is none, and is not quoted: quoted it would be a text where it does not exist.
fn name(column: &str) -> String {
    match super::table::ROWIDS.contains(&column) {
        true => column.to_owned(),
        false => quoted(column),
    }
}

/// A row as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct At {
    pub(super) key: Key,
    /// Its rowid, where the key is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rowid: Option<i64>,
    pub(super) row: Row,
}
