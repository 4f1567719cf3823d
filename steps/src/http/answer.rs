//! What an answer holds, as values.

use super::body::Received;
use hyper::header::HeaderMap;
use serde_json::Value;
use std::collections::BTreeMap;

/// Lines of a body that an error quotes, and characters of each.
const LINES: usize = 10;
const WIDTH: usize = 200;

/// The headers by their lower-case names. Repeated ones are joined by a comma, as HTTP means them; cookies, which may
/// hold commas, by a line feed.
pub(super) fn headers(map: &HeaderMap) -> BTreeMap<String, String> {
    let mut found = BTreeMap::<String, String>::new();
    for (name, value) in map {
        let value = String::from_utf8_lossy(value.as_bytes());
        let joint = if name.as_str() == "set-cookie" { "\n" } else { ", " };
        found
            .entry(name.as_str().to_owned())
            .and_modify(|all| {
                all.push_str(joint);
                all.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    found
}

/// The body if it is text; of text in another encoding than UTF-8 what can be read of it.
pub(super) fn text(received: &Received, content_type: &str) -> Option<String> {
    match std::str::from_utf8(&received.kept) {
        Ok(text) => Some(text.to_owned()),
        // The cut may go through a character.
        Err(error) if !received.is_whole() && error.error_len().is_none() => {
            String::from_utf8(received.kept[..error.valid_up_to()].to_vec()).ok()
        }
        Err(_) if content_type.trim_start().to_ascii_lowercase().starts_with("text/") => {
            Some(String::from_utf8_lossy(&received.kept).into_owned())
        }
        Err(_) => None,
    }
}

/// The body as JSON if it says that it is, or looks like it and does not say that it is something else.
pub(super) fn json(received: &Received, content_type: &str) -> Value {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let says = kind == "application/json" || kind.ends_with("+json") || kind == "text/json";
    let first = received.kept.iter().find(|byte| !byte.is_ascii_whitespace());
    let looks = matches!(kind.as_str(), "" | "text/plain") && matches!(first, Some(b'{' | b'['));
    match received.is_whole() && (says || looks) {
        true => serde_json::from_slice(&received.kept).unwrap_or_default(),
        false => Value::Null,
    }
}

/// The first lines of a body, for a person; nothing of one that is no text.
pub(super) fn first_lines(received: &Received) -> Vec<String> {
    let end = received.kept.len().min(LINES * WIDTH * 4);
    let head = String::from_utf8_lossy(&received.kept[..end]);
    if head.contains('\0') {
        return Vec::new();
    }
    let lines = head.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).take(LINES);
    lines
        .map(|line| match line.char_indices().nth(WIDTH) {
            Some((at, _)) => format!("{}…", &line[..at]),
            None => line.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Received, first_lines, json, text};
    use serde_json::{Value, json};

    fn received(bytes: &[u8], size: u64) -> Received {
        Received { kept: bytes.to_vec(), size, sha256: String::new() }
    }

    #[test]
    fn json_is_read_where_it_is_declared_or_evident() {
        let body = received("{\"名\": [1]}".as_bytes(), 12);
        for kind in ["application/json; charset=utf-8", "application/problem+json", "", "text/plain"] {
            assert_eq!(json(&body, kind), json!({ "名": [1] }), "{kind}");
        }
        assert_eq!(json(&body, "text/html"), Value::Null);
        assert_eq!(json(&received(b"7", 1), "application/json"), json!(7));
        assert_eq!(json(&received(b"7", 1), "text/plain"), Value::Null);
        assert_eq!(json(&received(b"{", 1), "application/json"), Value::Null);
        assert_eq!(json(&received(b"{}", 1 << 30), "application/json"), Value::Null);
    }

    #[test]
    fn a_body_is_text_or_missing() {
        assert_eq!(text(&received(b"caf\xe9", 4), "text/html").as_deref(), Some("caf\u{fffd}"));
        assert_eq!(text(&received(b"\x1f\x8b", 2), "application/gzip"), None);
        let cut = received(&"中".as_bytes()[..2], 1 << 20);
        assert_eq!(text(&cut, "").as_deref(), Some(""));
        let lines = first_lines(&received(format!("\n a \r\n{}", "中".repeat(300)).as_bytes(), 1));
        assert_eq!((lines[0].as_str(), lines[1].chars().count()), (" a", 201));
    }
}
