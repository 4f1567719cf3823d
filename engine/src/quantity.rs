//! Sizes and durations as people write them: `10MB`, `1KiB`, `12m`, `1h30m`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

/// A size in bytes. Written as a whole number or as text with a unit: `kB`, `MB`, `GB`, `TB` are powers of
/// 1000, `KiB`, `MiB`, `GiB`, `TiB` powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

/// A span of time, kept in milliseconds. Written as text with units: `ms`, `s`, `m`, `h`, `d`, as in `1m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// The same span as the standard library's type.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

const BYTE_UNITS: [(&str, u64); 10] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("", 1),
];

const TIME_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Splits `1.5MiB` into the number and the unit behind it.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].parse::<f64>().ok()?;
    Some((number, text[end..].trim_start()))
}

fn scale(number: f64, unit: u64) -> Option<u64> {
    #[expect(clippy::cast_precision_loss, reason = "units are far below 2^53")]
    let scaled = number * unit as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    (scaled.is_finite() && (0.0..9.0e18).contains(&scaled)).then_some(scaled.round() as u64)
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected a size such as `1KiB`, `10MB` or `4096`, found `{text}`");
        let (number, unit) = number_and_unit(text.trim()).ok_or_else(expected)?;
        let unit = unit.to_ascii_lowercase();
        let (_, factor) = BYTE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
        scale(number, *factor).map(Bytes).ok_or_else(expected)
    }
}

impl From<Duration> for Millis {
    /// Whole milliseconds; what is longer than they can count is the most that they can.
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("expected a duration such as `500ms`, `10s`, `12m` or `1h30m`, found `{text}`");
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(expected());
        }
        let mut total = 0u64;
        while !rest.is_empty() {
            let (number, tail) = number_and_unit(rest).ok_or_else(expected)?;
            let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (_, factor) =
                TIME_UNITS.iter().find(|(name, _)| *name == &tail[..end]).ok_or_else(expected)?;
            let part = scale(number, *factor).ok_or_else(expected)?;
            total = total.checked_add(part).ok_or_else(expected)?;
            rest = tail[end..].trim_start();
        }
        Ok(Millis(total))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "shown to a person, to one decimal")]
        let n = self.0 as f64;
        match self.0 {
            0..1_024 => write!(f, "{} B", self.0),
            1_024..1_048_576 => write!(f, "{} KiB", round(n / 1_024.0)),
            1_048_576..1_073_741_824 => write!(f, "{} MiB", round(n / 1_048_576.0)),
            _ => write!(f, "{} GiB", round(n / 1_073_741_824.0)),
        }
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        #[expect(clippy::cast_precision_loss, reason = "shown to a person, to one decimal")]
        let seconds = ms as f64 / 1_000.0;
        match ms {
            0..1_000 => write!(f, "{ms} ms"),
            1_000..60_000 => write!(f, "{} s", round(seconds)),
            60_000..3_600_000 => match (ms / 1_000) % 60 {
                0 => write!(f, "{}m", ms / 60_000),
                s => write!(f, "{}m {s}s", ms / 60_000),
            },
            _ => match (ms / 60_000) % 60 {
                0 => write!(f, "{}h", ms / 3_600_000),
                m => write!(f, "{}h {m}m", ms / 3_600_000),
            },
        }
    }
}

/// To one decimal, without a trailing `.0`.
fn round(n: f64) -> String {
    let text = format!("{n:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}ms", self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Number(n) => {
                n.as_u64().map(Bytes).ok_or_else(|| D::Error::custom(format!("expected a size, found `{n}`")))
            }
            serde_json::Value::String(s) => s.parse().map_err(D::Error::custom),
            other => Err(D::Error::custom(format!("expected a size, found `{other}`"))),
        }
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(s) => s.parse().map_err(D::Error::custom),
            other => Err(D::Error::custom(format!(
                "expected a duration with a unit such as `10s`, found `{other}`"
            ))),
        }
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "format": "bytes",
        })
    }
}

impl JsonSchema for Millis {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "duration",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_decimal_and_binary_units() {
        for (text, bytes) in [("4096", 4096), ("1KiB", 1024), ("1 kB", 1000), ("1.5MiB", 1_572_864), ("0", 0)]
        {
            assert_eq!(text.parse::<Bytes>().unwrap().0, bytes, "{text}");
        }
        for bad in ["", "KiB", "1XB", "-1", "1e400GB", "99999999999TB"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_may_be_compound() {
        for (text, ms) in [("500ms", 500), ("10s", 10_000), ("12m", 720_000), ("1h30m", 5_400_000), ("0s", 0)]
        {
            assert_eq!(text.parse::<Millis>().unwrap().0, ms, "{text}");
        }
        for bad in ["", "10", "10x", "1:30", "-1s", "m"] {
            assert!(bad.parse::<Millis>().is_err(), "{bad}");
        }
    }

    #[test]
    fn both_print_as_people_write_them() {
        assert_eq!(Bytes(1024).to_string(), "1 KiB");
        assert_eq!(Bytes(1_572_864).to_string(), "1.5 MiB");
        assert_eq!(Millis(41_200).to_string(), "41.2 s");
        assert_eq!(Millis(760_000).to_string(), "12m 40s");
        assert_eq!(Millis(720_000).to_string(), "12m");
    }
}
