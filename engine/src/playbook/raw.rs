//! From text to a tree of nodes with places. The only use of the YAML crate.

use crate::diagnostic::{Code, Diagnostic, Source, Span};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::{
    Location, Spanned,
    budget::Budget,
    options::{AliasLimits, DuplicateKeyPolicy, MergeKeyPolicy, Options},
};
use std::fmt;

/// The largest playbook, in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// The stack on which YAML is parsed, in bytes.
const STACK: usize = 8 << 20;
const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 100_000;

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// What stands there.
    pub(super) value: NodeValue,
    /// Where.
    pub(super) span: Span,
}

/// What stands at a place.
#[derive(Clone, Debug)]
pub(super) enum NodeValue {
    /// A scalar.
    Scalar(Value),
    /// A list.
    Seq(Vec<Node>),
    /// A map in the order of the file; keys with their places.
    Map(Vec<(String, Span, Node)>),
}

struct Raw(Spanned<RawValue>);

enum RawValue {
    Scalar(Value),
    Seq(Vec<Raw>),
    Map(Vec<(Spanned<RawKey>, Raw)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Raw)
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

/// A key: any scalar, as text.
struct RawKey(String);

impl<'de> Deserialize<'de> for RawKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(RawKey)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E: de::Error>(self) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Null))
    }
    fn visit_none<E: de::Error>(self) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Null))
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawValue, D::Error> {
        deserializer.deserialize_any(Self)
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Bool(value)))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(value.into()))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(value.into()))
    }
    fn visit_i128<E: de::Error>(self, value: i128) -> Result<RawValue, E> {
        Err(E::custom(format!("the number {value} is too large")))
    }
    fn visit_u128<E: de::Error>(self, value: u128) -> Result<RawValue, E> {
        Err(E::custom(format!("the number {value} is too large")))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<RawValue, E> {
        let number =
            Number::from_f64(value).ok_or_else(|| E::custom(format!("the number {value} is not finite")))?;
        Ok(RawValue::Scalar(Value::Number(number)))
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::String(value.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(RawValue::Seq(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(RawValue::Map(entries))
    }
}

fn options() -> Options {
    let mut options = Options::default();
    let mut budget = Budget::default();
    budget.max_depth = MAX_DEPTH;
    budget.max_nodes = MAX_NODES;
    budget.max_events = 4 * MAX_NODES;
    budget.max_aliases = 1_000;
    budget.max_anchors = 1_000;
    budget.max_total_scalar_bytes = MAX_BYTES;
    options.budget = Some(budget);
    let mut aliases = AliasLimits::default();
    aliases.max_total_replayed_events = MAX_NODES;
    aliases.max_replay_stack_depth = 8;
    options.alias_limits = aliases;
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.merge_keys = MergeKeyPolicy::Error;
    options.strict_booleans = true;
    // `0644` is a mode and `1_000` a name as often as a number: both stay the text that stands there.
    options.leading_zero_numbers_as_strings = true;
    options.underscored_numbers_as_strings = true;
    options.reject_unsupported_tags = true;
    options
}

/// Reads a text as a tree.
///
/// # Errors
/// It is too large, no YAML, or exceeds a budget: one diagnostic, for after a syntax error nothing is certain.
pub(super) fn parse(source: &Source) -> Result<Node, Diagnostic> {
    let text = source.text.as_str();
    if text.len() > MAX_BYTES {
        let message = format!("the playbook has {} bytes, at most {MAX_BYTES} are allowed", text.len());
        return Err(Diagnostic::error(Code::Yaml, message, Span::new(0, 1)));
    }
    if let Some((at, c)) =
        text.char_indices().find(|(_, c)| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        let message = format!("the control character {} may not stand in a playbook", c.escape_unicode());
        return Err(Diagnostic::error(Code::Yaml, message, Span::new(at, at + c.len_utf8())));
    }
    // The parser recurses; on a thread of its own a deep document cannot reach our stack.
    let parsed = std::thread::scope(|scope| {
        let reading = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || {
            serde_saphyr::from_str_with_options::<Raw>(text, options()).map(|raw| node(text, raw))
        });
        match reading {
            Ok(thread) => thread.join().ok(),
            Err(_) => None,
        }
    });
    match parsed {
        Some(Ok(node)) => Ok(node),
        Some(Err(error)) => Err(diagnose(text, &error)),
        None => Err(Diagnostic::error(Code::Yaml, "the playbook could not be parsed", Span::new(0, 0))),
    }
}

/// A YAML text as JSON, for `load()`.
///
/// # Errors
/// It is no YAML or exceeds a budget; in words for the user.
pub fn yaml_value(text: &str) -> Result<Value, String> {
    let source = Source { name: String::new(), text: text.to_owned() };
    parse(&source).map(|node| to_json(&node)).map_err(|diagnostic| {
        let (line, column) = source.position(diagnostic.span.start);
        format!("{line}:{column}: {}", diagnostic.message)
    })
}

/// A tree without its places.
pub(super) fn to_json(node: &Node) -> Value {
    match &node.value {
        NodeValue::Scalar(value) => value.clone(),
        NodeValue::Seq(items) => Value::Array(items.iter().map(to_json).collect()),
        NodeValue::Map(entries) => Value::Object(
            entries.iter().map(|(key, _, value)| (key.clone(), to_json(value))).collect::<Map<_, _>>(),
        ),
    }
}

fn node(text: &str, Raw(raw): Raw) -> Node {
    let span = span_of(text, &raw.referenced);
    let value = match raw.value {
        RawValue::Scalar(value) => NodeValue::Scalar(value),
        RawValue::Seq(items) => NodeValue::Seq(items.into_iter().map(|item| node(text, item)).collect()),
        RawValue::Map(entries) => {
            let entry = |(key, value): (Spanned<RawKey>, Raw)| {
                (key.value.0, span_of(text, &key.referenced), node(text, value))
            };
            NodeValue::Map(entries.into_iter().map(entry).collect())
        }
    };
    Node { value, span }
}

fn span_of(text: &str, location: &Location) -> Span {
    let usize_of = |number: Option<u64>| number.and_then(|number| usize::try_from(number).ok());
    let length = usize_of(location.span().byte_len()).unwrap_or(0);
    // Some places come only as a line and a column.
    let start = usize_of(location.span().byte_offset()).or_else(|| {
        offset(text, usize::try_from(location.line()).ok()?, usize::try_from(location.column()).ok()?)
    });
    let start = start.unwrap_or(0).min(text.len());
    Span::new(start, (start + length.max(1)).min(text.len().max(start)))
}

/// The byte at a line and a column, both from 1; columns count characters.
fn offset(text: &str, line: usize, column: usize) -> Option<usize> {
    let start: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let within: usize = text.get(start..)?.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
    Some(start + within)
}

fn diagnose(text: &str, error: &serde_saphyr::Error) -> Diagnostic {
    let full = error.without_snippet().to_string();
    let located =
        error.location().filter(|location| location.line() > 0).map(|location| span_of(text, &location));
    let span = located.or_else(|| span_in_words(text, &full)).unwrap_or(Span::new(0, 0));
    let message = full.split(" at line ").next().unwrap_or(&full);
    let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or(message);
    let message = message.split("; use from_str").next().unwrap_or(message);
    let (message, hint) = match message {
        "expected string scalar" if text[span.start.min(text.len())..].starts_with('{') => {
            ("a map cannot be a key".to_owned(), Some("an expression is written \"${{ … }}\", in quotes"))
        }
        "expected string scalar" => ("a key must be text".to_owned(), None),
        other => {
            let plain = other
                .replace(" rejected by the configured policy", " is not allowed")
                .replace(" by configured policy", "")
                .replace(
                    "multiple YAML documents detected",
                    "a playbook is one YAML document: this is a second one",
                )
                .replace(
                    "recursive references require weak recursion types",
                    "an alias cannot refer to what it is part of",
                )
                .replace("YAML merge keys are not allowed", "merge keys (`<<`) are not allowed");
            (plain, None)
        }
    };
    let diagnostic = Diagnostic::error(Code::Yaml, message, span);
    match hint {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    }
}

/// Some errors of the parser tell their place only in words: `... at line 3, column 7`.
fn span_in_words(text: &str, message: &str) -> Option<Span> {
    let (_, place) = message.rsplit_once(" at line ")?;
    let (line, column) = place.split_once(", column ")?;
    let digits =
        |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<usize>().ok();
    let (line, column) = (digits(line)?, digits(column)?);
    let start = offset(text, line, column)?;
    Some(Span::new(start, start + 1))
}
