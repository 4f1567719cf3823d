//! From text to a tree of nodes with places. The only use of the YAML crate.

use super::{fields::short, yaml_error::diagnose};
use crate::diagnostic::{Code, Diagnostic, Diagnostics, Source, Span};
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
use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
};

/// The largest playbook, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// The stack on which YAML is parsed, in bytes.
const STACK: usize = 8 << 20;
pub(super) const MAX_DEPTH: usize = 64;
pub(super) const MAX_NODES: usize = 100_000;
pub(super) const MAX_ALIASES: usize = 1_000;
pub(super) const MAX_ANCHORS: usize = 1_000;

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
    budget.max_aliases = MAX_ALIASES;
    budget.max_anchors = MAX_ANCHORS;
    budget.max_total_scalar_bytes = MAX_BYTES;
    options.budget = Some(budget);
    let mut aliases = AliasLimits::default();
    aliases.max_total_replayed_events = MAX_NODES;
    aliases.max_replay_stack_depth = 8;
    options.alias_limits = aliases;
    // Both are mistakes, found where the tree is made: then the others are found too.
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.merge_keys = MergeKeyPolicy::AsOrdinary;
    options.strict_booleans = true;
    // `0644` is a mode and `1_000` a name as often as a number: both stay the text that stands there.
    options.leading_zero_numbers_as_strings = true;
    options.underscored_numbers_as_strings = true;
    options.reject_unsupported_tags = true;
    options
}

/// Reads a text as a tree; notes keys that stand twice, of which the first wins.
///
/// # Errors
/// It is too large, no YAML, or exceeds a budget: one diagnostic, for after a syntax error nothing is certain.
pub(super) fn parse(source: &Source, found: &mut Vec<Diagnostic>) -> Result<Node, Diagnostic> {
    let text = source.text.as_str();
    if text.len() > MAX_BYTES {
        return Err(too_large());
    }
    if let Some((at, c)) =
        text.char_indices().find(|(_, c)| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        let message = format!("the control character U+{:04X} cannot stand in a playbook", u32::from(c));
        let hint = format!("in double quotes it is written \"\\u{:04x}\"", u32::from(c));
        return Err(Diagnostic::error(Code::Encoding, message, Span::new(at, at + c.len_utf8())).hint(hint));
    }
    // The parser recurses; on a thread of its own a deep document cannot reach our stack.
    let parsed = std::thread::scope(|scope| {
        let reading = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || {
            let mut repeated = Vec::new();
            serde_saphyr::from_str_with_options::<Raw>(text, options())
                .map(|raw| (node(text, raw, &mut repeated), repeated))
        });
        reading.map(|thread| thread.join().ok())
    });
    let parsed = parsed.map_err(|error| {
        let message = format!("the playbook cannot be read: the system gives no thread: {error}");
        Diagnostic::error(Code::Yaml, message, Span::new(0, 0)).hint("see how many there may be: ulimit -u")
    })?;
    match parsed {
        Some(Ok((node, repeated))) => {
            found.extend(repeated);
            Ok(node)
        }
        Some(Err(error)) => Err(diagnose(text, &error)),
        None => Err(Diagnostic::error(Code::Yaml, "the playbook could not be parsed", Span::new(0, 0))),
    }
}

/// Reads a text of our own language, in which nothing may look like something else. Its bytes are counted from `base`.
///
/// # Errors
/// As [`parse`], or it holds characters that deceive; noted in `found`.
pub(super) fn parse_visible(source: &Source, base: usize, found: &mut Diagnostics) -> Option<Node> {
    let mut wrong = Vec::new();
    let parsed = parse(source, &mut wrong);
    wrong.extend(deceptions(&source.text));
    let parsed = parsed.map_err(|diagnostic| wrong.push(diagnostic)).ok();
    for mut diagnostic in wrong {
        diagnostic.span = diagnostic.span.after(base);
        diagnostic.related.iter_mut().for_each(|(span, _)| *span = span.after(base));
        found.push(diagnostic);
    }
    let mut root = parsed?;
    move_to(&mut root, base);
    Some(root)
}

/// Counts the places of a tree from `base`.
fn move_to(node: &mut Node, base: usize) {
    node.span = node.span.after(base);
    match &mut node.value {
        NodeValue::Scalar(_) => {}
        NodeValue::Seq(items) => items.iter_mut().for_each(|item| move_to(item, base)),
        NodeValue::Map(entries) => {
            for (_, span, value) in entries {
                *span = span.after(base);
                move_to(value, base);
            }
        }
    }
}

/// Characters that turn the direction of text, look like a line break, or cannot be seen at all. Those that only join
/// letters are part of several scripts and may stand in values.
fn deceptions(text: &str) -> Vec<Diagnostic> {
    // At the very start a byte order mark is no part of the text.
    let rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = text.len() - rest.len();
    let one = |(at, c): (usize, char)| {
        let what = match c {
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => "turns the direction of the text behind it",
            '\u{2028}' | '\u{2029}' => "looks like a line break and is none",
            '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' => "cannot be seen",
            _ => return None,
        };
        let message = format!("the character U+{:04X} {what}", u32::from(c));
        let span = Span::new(first + at, first + at + c.len_utf8());
        let hint = format!("remove it, or write it in double quotes as \"\\u{:04x}\"", u32::from(c));
        Some(Diagnostic::error(Code::Encoding, message, span).hint(hint))
    };
    rest.char_indices().filter_map(one).take(100).collect()
}

pub(crate) fn too_large() -> Diagnostic {
    let message = format!("a playbook has at most {MAX_BYTES} bytes (1 MiB), and this one has more");
    Diagnostic::error(Code::TooLarge, message, Span::new(0, 1))
        .hint("data belongs into a file of its own: load(\"FILE\")")
}

/// A YAML text as JSON, for `load()`.
///
/// # Errors
/// It is no YAML, exceeds a budget, or has a key twice; in words for the user.
pub fn yaml_value(text: &str) -> Result<Value, String> {
    let source = Source { name: String::new(), text: text.to_owned() };
    let mut repeated = Vec::new();
    let node = match parse(&source, &mut repeated) {
        Ok(node) if repeated.is_empty() => return Ok(to_json(&node)),
        Ok(_) => repeated.swap_remove(0),
        Err(diagnostic) => diagnostic,
    };
    let (line, column) = source.position(node.span.start);
    Err(format!("{line}:{column}: {}", node.message))
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

fn node(text: &str, Raw(raw): Raw, repeated: &mut Vec<Diagnostic>) -> Node {
    let span = span_of(text, &raw.referenced);
    let value = match raw.value {
        RawValue::Scalar(Value::Null) => {
            let written = text.get(span.range()).unwrap_or_default();
            // The text behind the tag would be lost without a word.
            if is_tagged_null(text, span.start)
                && !matches!(written.trim(), "" | "~" | "null" | "Null" | "NULL")
            {
                let message = "the tag `!!null` stands before something";
                repeated.push(Diagnostic::error(Code::Yaml, message, span).hint("remove it"));
            }
            NodeValue::Scalar(Value::Null)
        }
        RawValue::Scalar(Value::String(mut value)) => {
            if is_open_block(text, span, &value) {
                value.pop();
            }
            NodeValue::Scalar(Value::String(value))
        }
        RawValue::Scalar(value) => NodeValue::Scalar(value),
        RawValue::Seq(items) => {
            NodeValue::Seq(items.into_iter().map(|item| node(text, item, repeated)).collect())
        }
        RawValue::Map(entries) => {
            let mut first: HashMap<String, Span> = HashMap::with_capacity(entries.len());
            let mut kept = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                let (place, value) = (span_of(text, &key.referenced), node(text, value, repeated));
                let key = key.value.0;
                if key == "<<" {
                    let message = "merge keys (`<<`) are not allowed";
                    repeated.push(
                        Diagnostic::error(Code::Yaml, message, place)
                            .hint("write the keys out, or let `foreach` repeat the step"),
                    );
                    continue;
                }
                match first.entry(key) {
                    Entry::Occupied(there) => {
                        let message = format!("the key `{}` stands twice in this map", short(there.key()));
                        repeated.push(
                            Diagnostic::error(Code::Duplicate, message, place)
                                .related(*there.get(), "first here"),
                        );
                    }
                    Entry::Vacant(free) => {
                        kept.push((free.key().clone(), place, value));
                        free.insert(place);
                    }
                }
            }
            NodeValue::Map(kept)
        }
    };
    Node { value, span }
}

/// Whether a value is that of a block (`|` or `>`) of which the last line has no line break, for the text ends with it. The parser
/// gives it one.
fn is_open_block(text: &str, span: Span, value: &str) -> bool {
    if span.end < text.len() || !value.ends_with('\n') {
        return false;
    }
    let before = text[..span.start].trim_end_matches([' ', '\t']);
    let header = before
        .strip_suffix(['\n', '\r'])
        .map(str::trim_end)
        .and_then(|before| before.rsplit(['\n', '\r']).next());
    let last = |text: &str| text.chars().next_back();
    let line = text.rsplit(['\n', '\r']).next().unwrap_or_default();
    let blank = line.trim_matches([' ', '\t']).is_empty();
    !blank
        && header.is_some_and(|line| line.contains(['|', '>']))
        && last(value.trim_end_matches('\n')) == last(text)
}

/// Whether the tag `!!null` stands before a place, with nothing between but an anchor or the header of a block.
fn is_tagged_null(text: &str, at: usize) -> bool {
    // As far back as a person writes such things; a search of the whole text for each value would take long.
    let from = (at.saturating_sub(80)..=at).find(|from| text.is_char_boundary(*from)).unwrap_or(at);
    text[from..at]
        .rsplit_once("!!null")
        .is_some_and(|(_, between)| between.split_whitespace().all(|word| word.starts_with(['&', '|', '>'])))
}

pub(super) fn span_of(text: &str, location: &Location) -> Span {
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
pub(super) fn offset(text: &str, line: usize, column: usize) -> Option<usize> {
    let start: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let within: usize = text.get(start..)?.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
    Some(start + within)
}
