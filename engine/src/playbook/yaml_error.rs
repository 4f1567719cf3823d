//! What the YAML parser has to say, in our words.

use super::{
    fields::short,
    raw::{MAX_ALIASES, MAX_ANCHORS, MAX_DEPTH, MAX_NODES, span_of},
};
use crate::diagnostic::{Code, Diagnostic, Span};
use serde_saphyr::{Error, Location, budget::BudgetBreach};

/// The longest key, in characters: YAML's own bound.
const MAX_KEY: usize = 1024;

/// What stands in the same line before a place.
fn key_of(text: &str, at: usize) -> &str {
    let before = text.get(..at).unwrap_or_default();
    before[before.rfind('\n').map_or(0, |newline| newline + 1)..].trim_start()
}

/// What is wrong, and what to do.
type Said = (Code, String, Option<&'static str>);

pub(super) fn diagnose(text: &str, error: &Error) -> Diagnostic {
    let error = error.without_snippet();
    let place = |location: Location| Some(location).filter(|l| l.line() > 0).map(|l| span_of(text, &l));
    let span = error.location().and_then(place).or_else(|| span_in_words(text, &error.to_string()));
    let span = span.unwrap_or(Span::new(0, 0));
    let at = text.get(span.start..).unwrap_or_default();
    let (code, message, hint) = match key_of(text, span.start) {
        key if at.starts_with(':') && key.chars().count() > MAX_KEY => {
            let message = format!("a key has at most {MAX_KEY} characters, and this one has more");
            (Code::TooLarge, message, None)
        }
        _ => said(error, at),
    };
    let mut diagnostic = Diagnostic::error(code, message, span);
    if let Error::AliasError { locations, .. } = error
        && let Some(defined) = place(locations.defined_location).filter(|defined| *defined != span)
    {
        diagnostic = diagnostic.related(defined, "the anchor is here");
    }
    match hint {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    }
}

fn said(error: &Error, at: &str) -> Said {
    let yaml = |message: &str, hint| (Code::Yaml, message.to_owned(), hint);
    match error {
        Error::AliasError { error, .. } => said(error, at),
        Error::Budget { breach, .. } => over_budget(breach),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => {
            let message = format!("the aliases stand for more than {MAX_NODES} values in all");
            (Code::TooLarge, message, Some("write out what is needed, or use `foreach`"))
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            yaml("an alias cannot refer to what it is part of", None)
        }
        Error::UnknownAnchor { .. } => {
            let name: String = at.chars().skip(1).take_while(|c| !c.is_whitespace() && *c != ',').collect();
            let message = format!("there is no anchor `&{}` before this alias", short(&name));
            (Code::Yaml, message, Some("text that begins with `*` stands in quotes"))
        }
        Error::MultipleDocuments { .. } => yaml(
            "a playbook is one YAML document: this is a second one",
            Some("put it into a file of its own, or remove the line `---` before it"),
        ),
        Error::UnsupportedTag { tag, .. } => {
            let message = format!("the tag `{}` is not supported", short(tag));
            let hint = match tag.as_str() {
                "!include" => "values of another file come by an expression: ${{ load(\"FILE\") }}",
                _ => "remove it; text that begins with `!` stands in quotes",
            };
            (Code::Yaml, message, Some(hint))
        }
        Error::TaggedScalarCannotDeserializeIntoString { .. } => yaml(
            "this tag cannot stand before text",
            Some("remove it; text that begins with `!` stands in quotes"),
        ),
        Error::NonFiniteFloat { value, .. } => {
            let message = format!("the number `{}` is not finite", short(value));
            (Code::BadValue, message, Some("put it in quotes if it is text"))
        }
        Error::Unexpected { .. } if at.starts_with('{') => {
            yaml("a map cannot be a key", Some("an expression is written \"${{ … }}\", in quotes"))
        }
        Error::Unexpected { .. } => yaml("a key must be text, and not a list or a map", None),
        Error::NullIntoString { .. } => yaml("a key must be text, found nothing", None),
        Error::InvalidBinaryBase64 { .. } | Error::BinaryNotUtf8 { .. } => {
            yaml("this `!!binary` is no base64 of UTF-8 text", None)
        }
        Error::InvalidUtf8Input => (Code::Encoding, "the text is no UTF-8".into(), None),
        Error::InvalidScalar { ty, .. } => {
            let kind = match ty.as_bytes() {
                [b'i' | b'u', b'1'..=b'9', ..] => "a whole number",
                [b'f', b'1'..=b'9', ..] => "a number",
                _ => "another value",
            };
            (Code::Yaml, format!("the tag asks for {kind}, and this is none"), None)
        }
        Error::InvalidBooleanStrict { .. } => {
            yaml("the tag asks for a truth value, and this is none", Some("write true or false"))
        }
        Error::Eof { .. } => yaml("the text ends too early", None),
        Error::Message { msg, .. } => (Code::BadValue, msg.clone(), Some("put it in quotes if it is text")),
        other => syntax(&other.to_string(), at),
    }
}

fn over_budget(breach: &BudgetBreach) -> Said {
    let message = match breach {
        BudgetBreach::Depth { .. } => format!("lists and maps are nested deeper than {MAX_DEPTH} levels"),
        BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } => {
            format!("the playbook has more than {MAX_NODES} values")
        }
        BudgetBreach::Aliases { .. } => format!("the playbook has more than {MAX_ALIASES} aliases"),
        BudgetBreach::Anchors { .. } => format!("the playbook has more than {MAX_ANCHORS} anchors"),
        BudgetBreach::SequenceUnbalanced => {
            return (Code::Yaml, "a list or a map ends that did not begin".into(), None);
        }
        BudgetBreach::Documents { .. } => {
            return (Code::Yaml, "a playbook is one YAML document".into(), None);
        }
        _ => "the playbook repeats too much by its aliases".into(),
    };
    (Code::TooLarge, message, None)
}

/// The parser's words, or a part of them, with ours.
const WORDS: &[(&str, &str, Option<&str>)] = &[
    (
        "tab",
        "a tab cannot indent: YAML is indented by spaces",
        Some("replace it: expand -t 2 FILE > NEW_FILE"),
    ),
    (
        "flow mapping",
        "this map in `{ }` has no end, or a `,` is missing",
        Some("text that holds `{`, `}` or `,` stands in quotes"),
    ),
    (
        "flow sequence",
        "this list in `[ ]` has no end, or a `,` is missing",
        Some("text that holds `[`, `]` or `,` stands in quotes"),
    ),
    (
        "unclosed bracket",
        "this bracket is never closed",
        Some("add the missing `]` or `}`; text that begins with a bracket stands in quotes"),
    ),
    ("mismatched bracket", "this bracket closes another than the one that is open", None),
    ("unclosed quote", "this quote is never closed", None),
    (
        "did not find expected key",
        "expected a key here: is it indented as the keys before it?",
        Some(
            "keys of one map begin in the same column; text that goes on after a quote stands in quotes as a whole",
        ),
    ),
    ("expected '-' indicator", "expected `- ` here: the list before it goes on with something else", None),
    ("node content", "expected a value here", Some("text that begins with a sign of YAML stands in quotes")),
    (
        "simple key expected ':'",
        "this line has no `:` after its key",
        Some("a key is followed by `:` and a space"),
    ),
    (
        "simple key",
        "expected `: ` after this key, on the same line",
        Some("is it indented as the keys before it?"),
    ),
    (
        "mapping values are not allowed",
        "a `: ` cannot stand here: this text is a value already",
        Some("text that holds `: ` stands in quotes"),
    ),
    ("block mapping", "this map has no end", None),
    ("block sequence", "this list has no end", None),
    ("ndentation", "this line is not indented as the lines before it", Some("use the same number of spaces")),
    ("BOM", "a byte order mark (U+FEFF) may stand only at the start of the file", Some("remove it")),
    (
        "unknown escape",
        "YAML knows no such escape in double quotes",
        Some("a backslash is written `\\\\`, or the text stands in single quotes"),
    ),
    (
        "escape code",
        "this escape is no Unicode character",
        Some("a backslash is written `\\\\`, or the text stands in single quotes"),
    ),
    ("surrogate", "this escape is half a character: a high and a low surrogate belong together", None),
    (
        "hexadecimal",
        "expected hexadecimal digits after this escape",
        Some("a backslash is written `\\\\`, or the text stands in single quotes"),
    ),
    ("document indicator", "this quote is not closed before `---` or `...`", None),
    ("plain scalar cannot start", "text cannot begin with this sign", Some("put the text in quotes")),
    (
        "wrongly indented line in block scalar",
        "this line is not indented as the text in `|` or `>` that it ends",
        Some("indent it as that text, or as the key of that text"),
    ),
    ("block scalar", "after `|` or `>` stand only `+`, `-`, a digit from 1 to 9, or a comment", None),
    ("comment", "a comment needs a space before its `#`", Some("text that holds `#` stands in quotes")),
    ("major version", "a playbook is YAML 1.2: `%YAML` may say 1.1 or 1.2", Some("remove the line")),
    (
        "irective",
        "a line that begins with `%` cannot stand here",
        Some("put the text in quotes, or remove the line"),
    ),
    ("version", "`%YAML` is followed by 1.2", Some("remove the line")),
    ("TAG", "this `%TAG` is none", Some("remove it")),
    ("handle", "this tag was not declared", Some("text that begins with `!` stands in quotes")),
    ("tag", "this tag is none", Some("text that begins with `!` stands in quotes")),
    ("anchor", "after `&` or `*` stands a name", Some("text that begins with `&` or `*` stands in quotes")),
    ("end marker", "after `...` the document is over", Some("remove what stands behind it")),
    ("document start", "expected the end of the playbook here, or a line `---`", None),
    ("unexpected character", "text cannot begin with this sign", Some("put the text in quotes")),
    ("recursion limit", "lists and maps are nested too deeply", None),
    ("expected whitespace", "expected a space here", None),
    ("eof", "the text ends too early", None),
    ("EOF", "the text ends too early", None),
];

fn syntax(full: &str, at: &str) -> Said {
    if at.starts_with(['@', '`']) {
        let message = format!("text cannot begin with `{}`", at.chars().next().unwrap_or('@'));
        return (Code::Yaml, message, Some("put the text in quotes"));
    }
    let words = full.split(" at line ").next().unwrap_or(full);
    let known = WORDS.iter().find(|(theirs, ..)| words.contains(theirs));
    match known {
        Some(("recursion limit", ours, hint)) => (Code::TooLarge, (*ours).to_owned(), *hint),
        Some((_, ours, hint)) => (Code::Yaml, (*ours).to_owned(), *hint),
        None => (Code::Yaml, words.to_owned(), None),
    }
}

/// Some errors of the parser tell their place only in words: `... at line 3, column 7`.
fn span_in_words(text: &str, message: &str) -> Option<Span> {
    let (_, place) = message.rsplit_once(" at line ")?;
    let (line, column) = place.split_once(", column ")?;
    let digits =
        |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>().ok();
    let start = super::raw::offset(text, digits(line)?, digits(column)?)?;
    Some(Span::new(start, start + 1))
}
