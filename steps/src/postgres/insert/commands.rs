//! What a person is told of the row and can type.

use super::{At, Before, Found, Insert, Placed, placing::differences};
use crate::postgres::{address::Place, errors::Words, query::words, table::Table};
use engine::{secret::is_marked, step::Leftover};
use serde_json::{Map, Value};

impl Insert {
    /// What a person types before anything more is known: by the row's key, else by the values alone.
    pub(in crate::postgres) fn by_hand(&self, place: &Place, before: &Before) -> String {
        let secret = words(self.values.values()) == Words::Unquoted;
        match &before.row {
            Some(placed) if !secret && !before.table.takes_along => {
                let table = &before.table;
                let condition = match table.key.is_empty() {
                    true => by_place(&placed.at),
                    false => match self.rest(table, placed) {
                        // Another's row may have its key by now.
                        rest if rest.is_empty() => {
                            format!("{} AND xmin::text = '{}'", by_key(table, &placed.key), placed.at.xmin)
                        }
                        rest => format!("{}{rest}", by_key(table, &placed.key)),
                    },
                };
                place.type_in(&format!("DELETE FROM {} WHERE {condition}", table.only()))
            }
            // Which row it is, if any, is for the person to see.
            _ => place.type_in(&self.statement("SELECT ctid, *", before)),
        }
    }

    /// The condition that what was written and is no key still holds, for a person to type. What a trigger has
    /// rewritten is not part of it.
    fn rest(&self, table: &Table, placed: &Placed) -> String {
        let mut conditions = String::new();
        for (name, value) in &self.values {
            let column = table.known(name).or_else(|| table.known(&name.to_lowercase()));
            let Some(column) = column.filter(|column| !table.key.contains(&column.name)) else { continue };
            let text = column.shown(value);
            // Only what is stored as it was sent can be compared by a text of ours.
            let exact = crate::store::Cell::new(
                &column.name,
                &column.ty,
                text.as_deref().map_or(&b"\0"[..], str::as_bytes),
            );
            if placed.stored.get(&column.name).is_some_and(|stored| stored.is(&exact)) {
                conditions.push_str(&format!(" AND {}", column.holds_literal(text.as_deref())));
            }
        }
        conditions
    }

    /// A statement over the rows that have the values, as far as they are no secrets.
    pub(super) fn statement(&self, verb: &str, before: &Before) -> String {
        let table = &before.table;
        let mut conditions = Vec::new();
        for (name, value) in &self.values {
            let column = table.known(name).or_else(|| table.known(&name.to_lowercase()));
            let text = column.and_then(|column| column.shown(value));
            let told = text.as_deref().is_none_or(|text| !is_marked(text));
            if let Some(column) = column.filter(|_| told) {
                conditions.push(column.holds_literal(text.as_deref()));
            }
        }
        let conditions = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
        format!("{verb} FROM {} WHERE {conditions}", table.sql())
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn by_place(at: &At) -> String {
    let At { ctid, xmin, table } = at;
    format!("tableoid = {table} AND ctid = '{ctid}' AND xmin::text = '{xmin}'")
}

fn by_key(table: &Table, key: &Map<String, Value>) -> String {
    let conditions = table.key_columns().into_iter().map(|column| {
        column.holds_literal(key.get(&column.name).filter(|value| !value.is_null()).map(text).as_deref())
    });
    conditions.collect::<Vec<_>>().join(" AND ")
}

impl Found {
    /// The row as it is now. Only what is as it was stored has a command that deletes it, and that version of it alone: what
    /// another made of it is for the person to see, and so is a row with which the database would delete or change others.
    pub(super) fn leftover(&self, place: &Place, placed: &Placed, why: &str) -> Leftover {
        let is_stored = differences(&placed.stored, &self.now).is_empty();
        let verb = if is_stored && !self.table.takes_along { "DELETE" } else { "SELECT *" };
        self.told(place, verb, why)
    }

    /// The row as it is now, where its deletion would do more than that.
    pub(super) fn shown(&self, place: &Place, why: &str) -> Leftover {
        self.told(place, "SELECT *", why)
    }

    /// A row that may be it, or another's.
    pub(super) fn look(&self, place: &Place, why: &str) -> Leftover {
        let told = self.told(place, "SELECT *", why);
        let what =
            format!("perhaps a row of `{}` in `{}`: {}", self.table.label(), place.label, self.named());
        Leftover { what, ..told }
    }

    /// By its key, or else by its place.
    fn named(&self) -> String {
        if self.table.key.is_empty() {
            return format!("the row at {}", self.at.ctid);
        }
        let told: Vec<String> =
            self.key.iter().map(|(name, value)| format!("{name} {}", text(value))).collect();
        format!("the row with {}", told.join(", "))
    }

    fn told(&self, place: &Place, verb: &str, why: &str) -> Leftover {
        let table = &self.table;
        let condition = match (table.key.is_empty(), verb) {
            (true, _) => by_place(&self.at),
            (false, "DELETE") => {
                format!("{} AND xmin::text = '{}'", by_key(table, &self.key), self.at.xmin)
            }
            (false, _) => by_key(table, &self.key),
        };
        // One that stands in an heir is not among the table's own.
        let from = if self.at.table == table.oid.to_string() { table.only() } else { table.sql() };
        Leftover {
            what: format!("{} of `{}` in `{}`", self.named(), table.label(), place.label),
            why: why.to_owned(),
            remove_with: place.type_in(&format!("{verb} FROM {from} WHERE {condition}")),
        }
    }
}
