//! The report as JSON: the [`Summary`] itself, which carries the version of its form.

use super::{Summary, is_unsafe};
use serde::Serialize;
use serde_json::Value;

/// The report as JSON, with a newline at its end.
#[must_use]
pub fn report(summary: &Summary) -> String {
    pretty(summary)
}

/// A value as JSON on one line. It may hold nothing that JSON cannot say: text, numbers, lists and maps with text as keys.
#[must_use]
pub fn line(value: &impl Serialize) -> String {
    visible(serde_json::to_string(value).unwrap_or_default())
}

/// The same on lines of its own, with a newline at its end.
#[must_use]
pub fn pretty(value: &impl Serialize) -> String {
    let mut text = visible(serde_json::to_string_pretty(value).unwrap_or_default());
    text.push('\n');
    text
}

/// JSON in which characters that a terminal or a reader's eye would take for commands stand as `\u202e`: also those that JSON
/// itself lets through.
fn visible(json: String) -> String {
    // Outside of texts there are none but line feeds.
    let hides = |c: char| c != '\n' && is_unsafe(c);
    if !json.contains(hides) {
        return json;
    }
    let mut safe = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match hides(c) {
            true => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}")))
            }
            false => safe.push(c),
        }
    }
    safe
}

/// The JSON Schema of the report.
#[must_use]
pub fn schema() -> Value {
    schemars::schema_for!(Summary).to_value()
}

#[cfg(test)]
mod tests {
    use super::{line, pretty};
    use serde_json::{Value, json};

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out_and_reads_as_it_was() {
        let value = json!({ "a\u{202e}": ["\u{9b}31m", "\u{7f}", "\u{e0001}", "\u{1b}", "\n", "媒体"] });
        for text in [line(&value), pretty(&value)] {
            let shown: String = text.split_whitespace().collect();
            let expected = r#"{"a\u202e":["\u009b31m","\u007f","\udb40\udc01","\u001b","\n","媒体"]}"#;
            assert_eq!(shown, expected);
            assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
        }
    }
}
