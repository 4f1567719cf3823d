//! The statuses that a playbook expects.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use std::{borrow::Cow, fmt, ops::RangeInclusive};

/// One or several of `200`, `2xx` and `200-204`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

impl Default for Statuses {
    fn default() -> Self {
        Self(vec![200..=299])
    }
}

impl Statuses {
    /// # Errors
    /// Not a status, a class or a range of them, or none at all; in words.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let list = match value {
            Value::Array(list) => list.iter().map(one).collect::<Result<Vec<_>, _>>()?,
            other => vec![one(other)?],
        };
        if list.is_empty() {
            return Err("expected a status such as `200`, `2xx` or `200-204`, found an empty list".into());
        }
        Ok(Self(list))
    }

    pub(super) fn hold(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

fn one(value: &Value) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("expected a status such as `200`, `2xx` or `200-204`, found `{value}`");
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_ascii_lowercase(),
        _ => return Err(wrong()),
    };
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..=599).contains(status));
    if let Some(class) = text.strip_suffix("xx") {
        let class = class.parse::<u16>().ok().filter(|class| (1..=5).contains(class)).ok_or_else(wrong)?;
        return Ok(class * 100..=class * 100 + 99);
    }
    let (from, to) = text.split_once('-').unwrap_or((&text, &text));
    match (status(from), status(to)) {
        (Some(from), Some(to)) if from <= to => Ok(from..=to),
        _ => Err(wrong()),
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(" or ")?;
            }
            match (*range.start(), *range.end()) {
                (from, to) if from == to => write!(f, "{from}")?,
                (from, to) if from % 100 == 0 && to == from + 99 => write!(f, "{}xx", from / 100)?,
                (from, to) => write!(f, "{from}-{to}")?,
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for Statuses {
    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string", "array"],
            "minimum": 100,
            "maximum": 599,
            "items": { "type": ["integer", "string"] },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Statuses;
    use serde_json::json;

    #[test]
    fn numbers_classes_ranges_and_lists_of_them_are_known() {
        let read = |value| Statuses::read(&value).map(|statuses| statuses.to_string());
        assert_eq!(read(json!(204)).unwrap(), "204");
        assert_eq!(read(json!("5XX")).unwrap(), "5xx");
        assert_eq!(read(json!([200, "301-308", "4xx"])).unwrap(), "200 or 301-308 or 4xx");
        for wrong in
            [json!("20x"), json!(99), json!(600), json!([]), json!("300-200"), json!(true), json!("6xx")]
        {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(Statuses::default().hold(204) && !Statuses::default().hold(301));
    }
}
