//! Bounds what a report holds of one step, whatever the step found.

use super::summary::ErrorSummary;
use crate::error::StepError;
use serde_json::{Map, Value};

/// Characters of one text.
const TEXT: usize = 4_096;
/// Entries of one list or map.
const ENTRIES: usize = 200;
/// Characters of all texts and numbers of one output together.
const TOTAL: usize = 32_768;
/// Nesting below which nothing is kept.
const DEPTH: usize = 32;
/// Lines of evidence behind one error.
const LINES: usize = 100;

/// A value within bounds, and whether something was cut away.
pub(super) fn value(full: &Value) -> (Value, bool) {
    let mut cutter = Cutter { left: TOTAL, cut: false };
    let value = cutter.value(full, 0);
    (value, cutter.cut)
}

/// An error within bounds.
pub(super) fn error(full: &StepError) -> ErrorSummary {
    let mut details: Vec<String> = full.details.iter().take(LINES).map(|line| text(line, TEXT)).collect();
    if full.details.len() > LINES {
        details.push(format!("… {} more lines", full.details.len() - LINES));
    }
    ErrorSummary {
        class: full.class,
        message: text(&full.message, TEXT),
        hint: full.hint.as_deref().map(|hint| text(hint, TEXT)),
        details,
        outcome_unknown: full.outcome_unknown,
    }
}

fn text(full: &str, most: usize) -> String {
    match full.char_indices().nth(most) {
        None => full.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes)", &full[..end], full.len()),
    }
}

struct Cutter {
    left: usize,
    cut: bool,
}

impl Cutter {
    fn value(&mut self, full: &Value, depth: usize) -> Value {
        if depth > DEPTH || self.left == 0 {
            self.cut = true;
            return Value::Null;
        }
        match full {
            Value::String(full) => {
                let kept = text(full, TEXT.min(self.left));
                self.cut |= kept.len() != full.len();
                self.spend(kept.len());
                Value::String(kept)
            }
            Value::Array(items) => {
                self.cut |= items.len() > ENTRIES;
                Value::Array(items.iter().take(ENTRIES).map(|item| self.value(item, depth + 1)).collect())
            }
            Value::Object(map) => {
                self.cut |= map.len() > ENTRIES;
                let entries = map.iter().take(ENTRIES).map(|(key, value)| {
                    self.spend(key.len());
                    (text(key, TEXT), self.value(value, depth + 1))
                });
                Value::Object(entries.collect::<Map<_, _>>())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                self.spend(8);
                full.clone()
            }
        }
    }

    fn spend(&mut self, characters: usize) {
        self.left = self.left.saturating_sub(characters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorClass;
    use serde_json::json;

    #[test]
    fn small_values_are_kept_whole() {
        let small = json!({ "row": { "status": "完成", "n": 3 }, "list": [1, null, true] });
        assert_eq!(value(&small), (small, false));
    }

    #[test]
    fn a_huge_output_is_cut_and_says_so() {
        let huge = json!({ "text": "体".repeat(100_000), "rows": vec![json!({ "line": "x".repeat(1_000) }); 1_000] });
        let (kept, cut) = value(&huge);
        assert!(cut);
        assert!(kept.to_string().len() < 200_000, "{}", kept.to_string().len());
        assert!(kept["text"].as_str().is_some_and(|text| text.ends_with("… (300000 bytes)")));
    }

    #[test]
    fn an_errors_evidence_is_bounded() {
        let mut full = StepError::new(ErrorClass::Exit, "m".repeat(10_000));
        full.details = vec!["line".to_owned(); 5_000];
        let kept = error(&full);
        assert_eq!(kept.details.len(), LINES + 1);
        assert_eq!(kept.details[LINES], "… 4900 more lines");
        assert!(kept.message.len() < 4_200);
    }
}
