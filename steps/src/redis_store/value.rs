//! Replies as JSON, and bytes as the journal keeps them.

use crate::hex::hex;
use engine::{ErrorClass, StepError, step::Context};
use redis::Value as Reply;
use serde_json::{Map, Value, json};

/// Bytes as JSON: text where they are UTF-8, else `{"$blob": "hex"}`.
pub(super) fn stored(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "$blob": hex(bytes) }),
    }
}

/// As [`stored`], for an intent: secrets of the run are only named in it.
///
/// # Errors
/// A secret stands there in a form that its name would not bring back.
pub(super) fn kept(cx: &Context, key: &str, bytes: &[u8]) -> Result<Value, StepError> {
    let secrets = &cx.services.secrets;
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            let masked = secrets.mask(text);
            if cx.reveal(&masked)?.expose() == text {
                return Ok(Value::from(masked.into_owned()));
            }
        }
        Err(_) => {
            let mut masked = bytes.to_vec();
            secrets.mask_bytes(&mut masked);
            if masked == bytes {
                return Ok(stored(bytes));
            }
        }
    }
    let message = format!(
        "`{key}` holds a secret of this run in another form, which must not be written down for the undo"
    );
    Err(StepError::new(ErrorClass::Invalid, message)
        .hint("use another key, or `command` with a written `undo`"))
}

/// Back from [`kept`].
pub(super) fn restored(cx: &Context, value: &Value) -> Result<Vec<u8>, StepError> {
    match value {
        Value::String(text) => Ok(cx.reveal(text)?.expose().as_bytes().to_vec()),
        other => from_blob(other)
            .ok_or_else(|| StepError::new(ErrorClass::Corrupt, "the intent holds no bytes where it should")),
    }
}

/// Back from [`kept`], for a command that people read: secrets stay marked.
pub(super) fn shown(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.as_bytes().to_vec(),
        other => from_blob(other).unwrap_or_default(),
    }
}

fn from_blob(value: &Value) -> Option<Vec<u8>> {
    let hex = value.get("$blob")?.as_str()?;
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair.filter(|pair| pair.len() == 2)?, 16).ok()).collect()
}

/// A reply as JSON. `argv` says what the reply is to: entries of streams have a shape of their own, and in RESP2 maps
/// come as lists.
pub(super) fn to_json(argv: &[&str], reply: Reply) -> Value {
    let name = argv.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
    match (name.as_str(), reply) {
        ("XRANGE" | "XREVRANGE" | "XCLAIM", reply) => entries(reply),
        ("XREAD" | "XREADGROUP", Reply::Map(streams)) => {
            Value::Object(streams.into_iter().map(|(key, found)| (key_of(key), entries(found))).collect())
        }
        ("XREAD" | "XREADGROUP", Reply::Array(streams)) => Value::Object(
            streams
                .into_iter()
                .filter_map(|stream| match stream {
                    Reply::Array(pair) => {
                        let [key, found] = <[Reply; 2]>::try_from(pair).ok()?;
                        Some((key_of(key), entries(found)))
                    }
                    _ => None,
                })
                .collect(),
        ),
        ("HGETALL" | "CONFIG", Reply::Array(flat)) => pairs_or_list(flat),
        // Of a stream it is a map, of groups and consumers a list of maps.
        ("XINFO", Reply::Array(list)) => match list.first() {
            Some(Reply::Array(_)) => list
                .into_iter()
                .map(|one| match one {
                    Reply::Array(flat) => pairs_or_list(flat),
                    other => plain(other),
                })
                .collect(),
            _ => pairs_or_list(list),
        },
        (_, reply) => plain(reply),
    }
}

/// `[[id, [field, value, …]], …]` as `[{id, fields}, …]`.
fn entries(reply: Reply) -> Value {
    let Reply::Array(list) = reply else { return plain(reply) };
    list.into_iter()
        .map(|entry| match entry {
            Reply::Array(pair) if pair.len() == 2 => {
                let mut pair = pair.into_iter();
                let (id, fields) = (pair.next().unwrap_or_default(), pair.next().unwrap_or_default());
                let fields = match fields {
                    Reply::Array(flat) => Value::Object(pairs(flat)),
                    other => plain(other),
                };
                json!({ "id": plain(id), "fields": fields })
            }
            other => plain(other),
        })
        .collect()
}

fn pairs(flat: Vec<Reply>) -> Map<String, Value> {
    let mut flat = flat.into_iter();
    let mut map = Map::new();
    while let (Some(key), Some(value)) = (flat.next(), flat.next()) {
        map.insert(key_of(key), plain(value));
    }
    map
}

/// A map that RESP2 sends as a list.
fn pairs_or_list(flat: Vec<Reply>) -> Value {
    match flat.len().is_multiple_of(2) && !flat.is_empty() {
        true => Value::Object(pairs(flat)),
        false => plain(Reply::Array(flat)),
    }
}

/// The key of a map. One that is no text shows as its hex digits.
fn key_of(reply: Reply) -> String {
    match plain(reply) {
        Value::String(text) => text,
        Value::Object(blob) => blob.get("$blob").and_then(Value::as_str).unwrap_or_default().to_owned(),
        other => other.to_string(),
    }
}

fn plain(reply: Reply) -> Value {
    match reply {
        Reply::Int(number) => Value::from(number),
        Reply::BulkString(bytes) => stored(&bytes),
        Reply::Array(list) | Reply::Set(list) => list.into_iter().map(plain).collect(),
        Reply::SimpleString(text) | Reply::VerbatimString { text, .. } => Value::from(text),
        Reply::Okay => Value::from("OK"),
        Reply::Map(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (key_of(key), plain(value))).collect())
        }
        Reply::Attribute { data, .. } => plain(*data),
        // Infinities are no numbers of JSON.
        Reply::Double(number) => {
            serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number)
        }
        Reply::Boolean(truth) => Value::from(truth),
        Reply::BigNumber(digits) => stored(&digits),
        _ => Value::Null,
    }
}

/// About how long a reply is as text, in bytes.
pub(super) fn size(reply: &Reply) -> usize {
    const AROUND: usize = 4;
    AROUND
        + match reply {
            Reply::BulkString(bytes) | Reply::BigNumber(bytes) => bytes.len(),
            Reply::SimpleString(text) | Reply::VerbatimString { text, .. } => text.len(),
            Reply::Array(list) | Reply::Set(list) => list.iter().map(size).sum(),
            Reply::Map(map) => map.iter().map(|(key, value)| size(key) + size(value)).sum(),
            Reply::Attribute { data, .. } => size(data),
            _ => 0,
        }
}

/// The server's clock, from a reply to `TIME`: milliseconds since 1970.
pub(super) fn clock(reply: Reply) -> i64 {
    match list(reply).iter().filter_map(number).collect::<Vec<_>>().as_slice() {
        [seconds, micros] => seconds * 1_000 + micros / 1_000,
        _ => 0,
    }
}

/// A field of a map, which RESP2 sends as a list.
pub(super) fn field(reply: &Reply, name: &str) -> Option<Reply> {
    let is = |key: &Reply| text(key).is_some_and(|key| key == name);
    match reply {
        Reply::Map(map) => map.iter().find(|(key, _)| is(key)).map(|(_, value)| value.clone()),
        Reply::Array(flat) => flat.chunks(2).find(|pair| is(&pair[0])).and_then(|pair| pair.get(1).cloned()),
        _ => None,
    }
}

/// A reply that is text.
pub(super) fn text(reply: &Reply) -> Option<&str> {
    match reply {
        Reply::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Reply::SimpleString(text) | Reply::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

/// A reply that is a number, or text that is one.
pub(super) fn number(reply: &Reply) -> Option<i64> {
    match reply {
        Reply::Int(number) => Some(*number),
        other => text(other)?.parse().ok(),
    }
}

/// A reply that is a list, or nothing.
pub(super) fn list(reply: Reply) -> Vec<Reply> {
    match reply {
        Reply::Array(list) | Reply::Set(list) => list,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Reply, from_blob, number, stored, to_json};
    use serde_json::json;

    fn bulk(text: &str) -> Reply {
        Reply::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn replies_are_typed() {
        let reply = Reply::Array(vec![
            Reply::Nil,
            Reply::Int(-7),
            bulk("文本"),
            Reply::BulkString(vec![0xff, 0]),
            Reply::Okay,
            Reply::Double(1.5),
            Reply::Double(f64::INFINITY),
            Reply::Boolean(true),
        ]);
        let wanted = json!([null, -7, "文本", { "$blob": "ff00" }, "OK", 1.5, "inf", true]);
        assert_eq!(to_json(&["MGET"], reply), wanted);
    }

    #[test]
    fn both_protocols_give_the_same_maps_and_entries() {
        let flat = Reply::Array(vec![bulk("a"), Reply::Int(1)]);
        let map = Reply::Map(vec![(bulk("a"), Reply::Int(1))]);
        assert_eq!(to_json(&["hgetall", "k"], flat.clone()), to_json(&["HGETALL", "k"], map));
        assert_eq!(to_json(&["LRANGE"], flat.clone()), json!(["a", 1]));
        let entries = || Reply::Array(vec![Reply::Array(vec![bulk("1-0"), flat.clone()])]);
        let wanted = json!([{ "id": "1-0", "fields": { "a": 1 } }]);
        assert_eq!(to_json(&["XRANGE"], entries()), wanted);
        let resp2 = Reply::Array(vec![Reply::Array(vec![bulk("s"), entries()])]);
        let resp3 = Reply::Map(vec![(bulk("s"), entries())]);
        assert_eq!(to_json(&["XREAD"], resp2), json!({ "s": wanted }));
        assert_eq!(to_json(&["XREAD"], resp3), json!({ "s": wanted }));
    }

    #[test]
    fn bytes_survive_the_journal() {
        for bytes in [&b"\xff\x00\n"[..], b"\xc3"] {
            assert_eq!(from_blob(&stored(bytes)).as_deref(), Some(bytes));
        }
        assert_eq!(from_blob(&json!({ "$blob": "f" })), None);
        assert_eq!(number(&bulk("12")), Some(12));
    }
}
