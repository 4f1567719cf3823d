//! The differences that are known, and why they are. docs/design/language.md has an example of each.

use super::Answer;
use serde_json::Value;

/// A difference: its words in the table of the docs, the words of the refusal, and what the text then has.
type Known = (&'static str, &'static str, fn(&str) -> bool);

/// What we refuse and the other takes.
const WE_REFUSE: &[Known] = &[
    ("a key twice", "stands twice in this map", always),
    ("a merge key", "merge keys (`<<`) are not allowed", merges),
    ("a tag", "the tag ", tags),
    ("a tag", "this tag ", tags),
    ("a tag", "this `!!binary` is no base64", tags),
    ("a tag", "a key must be text, found nothing", tags),
    ("a control character", "the control character", |text| text.contains(char::is_control)),
    ("infinity", "is not finite", always),
    ("a key of nothing", "a key must be text, found nothing", always),
    ("a comment", "a comment needs a space before its `#`", |text| text.contains('#')),
    ("a byte order mark", "a byte order mark", |text| text.contains('\u{feff}')),
    ("a tab", "a tab cannot indent", |text| text.contains('\t')),
    ("a dash", "text cannot begin with this sign", |text| has(text, &["-,", "-]", "-}", "-[", "-{"])),
    ("a block's end", "this line is not indented as the text in `|` or `>`", blocks),
    ("a block in the first column", "this line has no `:` after its key", blocks),
];
/// What the other refuses and we take.
const THEY_REFUSE: &[Known] = &[
    ("a tab", "found character that cannot start any token", |text| text.contains('\t')),
    ("a tab", "found a tab character", |text| text.contains('\t')),
    ("an empty document", "did not find expected node content", |text| text.contains("...")),
    ("a large number", "JSON number out of range", always),
    ("an anchor", "did not find expected alphabetic or numeric character", |text| text.contains(['&', '*'])),
    ("an anchor", "found character that cannot start any token", |text| text.contains('&')),
    ("a tag", "invalid type: enum", tags),
    ("a tag", "expected an integer", tags),
    ("a tag", ", expected null", tags),
    ("a tag", "did not find expected whitespace or line break", tags),
    ("a surrogate pair", "found invalid Unicode character escape code", |text| has(text, &["\\ud", "\\uD"])),
    ("a directive", "directive", |text| text.contains('%')),
    ("a directive", "found incompatible YAML document", |text| text.contains('%')),
    ("a directive", "did not find expected <document start>", |text| text.contains('%')),
    ("a tab", "containing more than one document", |text| text.contains('\t')),
    ("a block in the first column", "", first_column),
    ("a sign in brackets", "did not find expected node content", |text| text.contains(['{', '['])),
    ("a sign in brackets", "did not find expected ','", |text| text.contains(['{', '['])),
    ("a sign in brackets", "expected a string key", |text| text.contains("?*")),
    ("a sign in brackets", "found unexpected ':'", |text| text.contains(['{', '['])),
];

/// Whether both answers are the same, or differ for a known reason.
pub(crate) fn agree(text: &str, ours: &Answer, theirs: &Answer) -> bool {
    let known =
        |list: &[Known], error: &str| list.iter().any(|(_, words, is)| error.contains(words) && is(text));
    // Ends of lines for YAML 1.1 alone, marks that it passes over, and names of anchors that it does not know.
    let mark_inside = text.trim_start_matches('\u{feff}').contains('\u{feff}');
    if text.contains(['\u{85}', '\u{2028}', '\u{2029}']) || mark_inside || odd_anchors(text) {
        return true;
    }
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => same(text, ours, theirs),
        (Err(ours), Ok(_)) => known(WE_REFUSE, ours),
        (Ok(_), Err(theirs)) => known(THEY_REFUSE, theirs),
        (Err(_), Err(_)) => true,
    }
}

/// Whether two values are equal, or differ for a known reason.
fn same(text: &str, ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(ours, theirs)| same(text, ours, theirs))
        }
        (Value::Object(one), Value::Object(other)) => {
            let names = |key: &str, name: &str| key == name || key.strip_prefix('?') == Some(name);
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|((key, ours), (name, theirs))| names(key, name) && same(text, ours, theirs))
        }
        // `0X`, `0O` and `0B` begin a number as `0x` does.
        (Value::Number(_), Value::String(theirs)) => has(theirs, &["0X", "0O", "0B"]),
        // `!!binary` is read, not kept.
        (Value::String(_), Value::String(_)) if text.contains("!!binary") => true,
        // In brackets `?x` and `:x` are text, and no keys.
        (Value::String(ours), Value::Object(_)) => ours.starts_with(['?', ':']),
        // A last line of nothing but spaces ends as the others do.
        (Value::String(ours), Value::String(theirs)) if ours.strip_suffix('\n') == Some(theirs) => {
            blocks(text) && text.ends_with([' ', '\t'])
        }
        (Value::String(_), Value::String(_)) if first_column(text) => true,
        _ => ours == theirs,
    }
}

fn always(_: &str) -> bool {
    true
}

fn merges(text: &str) -> bool {
    text.contains("<<")
}

fn has(text: &str, parts: &[&str]) -> bool {
    parts.iter().any(|part| text.contains(part))
}

fn blocks(text: &str) -> bool {
    text.contains(['|', '>'])
}

/// The whole text is one block, whose lines may begin in the first column.
fn first_column(text: &str) -> bool {
    let header = |line: &str| {
        let mut words = line.trim_start_matches("---").split_whitespace();
        words.find(|word| !word.starts_with(['&', '!'])).is_some_and(|word| word.starts_with(['|', '>']))
    };
    text.trim_start_matches('\u{feff}').split(['\n', '\r']).any(header)
}

/// Whether an anchor has other signs in its name than letters, digits, `-` and `_`.
fn odd_anchors(text: &str) -> bool {
    text.split(['&', '*']).skip(1).any(|rest| {
        let name = rest.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}')).next();
        name.is_some_and(|name| !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
    })
}

fn tags(text: &str) -> bool {
    text.contains('!')
}
