//! The report as JSON: the [`Summary`] itself, which carries the version of its form.

use super::Summary;
use serde_json::Value;

/// The report as JSON, with a newline at its end.
#[must_use]
pub fn report(summary: &Summary) -> String {
    // A summary holds text, numbers, lists and maps with text as keys: nothing that JSON cannot say.
    let mut text = serde_json::to_string_pretty(summary).unwrap_or_default();
    text.push('\n');
    text
}

/// The JSON Schema of the report.
#[must_use]
pub fn schema() -> Value {
    schemars::schema_for!(Summary).to_value()
}
