//! A document as text with the places of its values. Changes are made in the text itself, so that what nobody asked to
//! change (numbers of any size, order, spaces, escapes) stays as it is, byte for byte.

use engine::{ErrorClass, StepError};
use serde_json::{Map, Number, Value};
use std::collections::{HashMap, HashSet};

/// How deeply values may be nested; a program that reads with `serde_json` allows no more either.
pub(super) const DEEPEST: usize = 128;

/// A value and where it stands in the text, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    /// Known by its text alone: it may be of any size.
    Number,
    String(String),
    Array(Vec<Node>),
    Object(Vec<Member>),
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) key: String,
    /// Where the key begins.
    pub(super) start: usize,
    /// Where the key ends.
    pub(super) key_end: usize,
    pub(super) value: Node,
}

/// A whole document.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) text: String,
    pub(super) root: Node,
    /// A key that an object holds twice: which of the two counts is not defined.
    pub(super) twice: Option<String>,
}

/// Why a text is no document: what is wrong at which byte.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) class: ErrorClass,
    pub(super) message: String,
    pub(super) at: usize,
}

impl Node {
    /// `object`, `array`, `string` and so on.
    pub(super) fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "boolean",
            Kind::Number => "number",
            Kind::String(_) => "string",
            Kind::Array(_) => "array",
            Kind::Object(_) => "object",
        }
    }

    /// How many elements or members it has.
    pub(super) fn count(&self) -> Option<usize> {
        match &self.kind {
            Kind::Array(items) => Some(items.len()),
            Kind::Object(members) => Some(members.len()),
            _ => None,
        }
    }

    /// How many levels of arrays and objects it has.
    pub(super) fn depth(&self) -> usize {
        match &self.kind {
            Kind::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Kind::Object(members) => 1 + members.iter().map(|member| member.value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// The member of that key; of two the last, as most readers have it.
    pub(super) fn member(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Object(members) => {
                members.iter().rfind(|member| member.key == key).map(|member| &member.value)
            }
            _ => None,
        }
    }
}

impl Document {
    /// Reads a text.
    pub(super) fn parse(text: String) -> Result<Self, Flaw> {
        // Some editors begin a file with a mark; it is no part of the value, and stays.
        let at = text.strip_prefix('\u{feff}').map_or(0, |rest| text.len() - rest.len());
        let mut reader = Reader { text: &text, at, twice: None, path: Vec::new() };
        reader.space();
        if reader.at == text.len() {
            return Err(reader.flaw("it is empty: expected a JSON value"));
        }
        let root = reader.value()?;
        reader.space();
        if reader.at < text.len() {
            return Err(reader.flaw("expected the end after the value"));
        }
        let twice = reader.twice;
        Ok(Self { text, root, twice })
    }

    /// The text of a value.
    pub(super) fn raw(&self, node: &Node) -> &str {
        &self.text[node.start..node.end]
    }

    /// The value for an output. A number that would change on the way appears as its text.
    pub(super) fn value(&self, node: &Node) -> Value {
        match &node.kind {
            Kind::Null => Value::Null,
            Kind::Bool(truth) => Value::Bool(*truth),
            Kind::Number => number(self.raw(node)),
            Kind::String(text) => Value::String(text.clone()),
            Kind::Array(items) => Value::Array(items.iter().map(|item| self.value(item)).collect()),
            Kind::Object(members) => {
                let member = |member: &Member| (member.key.clone(), self.value(&member.value));
                Value::Object(members.iter().map(member).collect::<Map<_, _>>())
            }
        }
    }
}

/// A JSON text as a value; a number that would change on the way appears as its text.
///
/// # Errors
/// It is none, or too deep; in words.
pub(crate) fn exact(text: &str) -> Result<Value, String> {
    let document = Document::parse(text.to_owned()).map_err(|flaw| flaw.message)?;
    Ok(document.value(&document.root))
}

fn number(raw: &str) -> Value {
    let made = match raw.parse::<i64>() {
        Ok(whole) if raw != "-0" => Some(Number::from(whole)),
        _ => match raw.parse::<u64>() {
            Ok(whole) => Some(Number::from(whole)),
            Err(_) => raw.parse::<f64>().ok().and_then(Number::from_f64),
        },
    };
    match made {
        Some(made) if same_number(&made.to_string(), raw) => Value::Number(made),
        _ => Value::String(raw.to_owned()),
    }
}

/// Sign, digits without zeros at either end, and the power of ten of the last digit.
fn canonical(raw: &str) -> Option<(bool, String, i64)> {
    let (negative, rest) = raw.strip_prefix('-').map_or((false, raw), |rest| (true, rest));
    let (mantissa, power) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let kept = digits.trim_end_matches('0');
    if kept.is_empty() {
        return Some((false, String::new(), 0));
    }
    let dropped = i64::try_from(digits.len() - kept.len()).ok()?;
    let power = power.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    Some((negative, kept.to_owned(), power.checked_add(dropped)?))
}

/// Whether two numbers are the same, however they are written: programs write `1.50` as `1.5`.
fn same_number(one: &str, other: &str) -> bool {
    one == other || canonical(one).is_some_and(|value| canonical(other) == Some(value))
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The same value, whatever the order of members and the writing of numbers.
    Value,
    /// The same value, and numbers written the same way.
    Writing,
    /// As `Writing`; the second may have members that the first has not.
    Members,
}

/// Whether `b` of one document is as `a` of another.
pub(super) fn alike(by: By, left: &Document, a: &Node, right: &Document, b: &Node) -> bool {
    match (&a.kind, &b.kind) {
        (Kind::Null, Kind::Null) => true,
        (Kind::Bool(a), Kind::Bool(b)) => a == b,
        (Kind::String(a), Kind::String(b)) => a == b,
        (Kind::Number, Kind::Number) if by == By::Value => same_number(left.raw(a), right.raw(b)),
        (Kind::Number, Kind::Number) => left.raw(a) == right.raw(b),
        (Kind::Array(a), Kind::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(by, left, a, right, b))
        }
        (Kind::Object(a), Kind::Object(b)) => {
            if by != By::Members && a.len() != b.len() {
                return false;
            }
            let others: HashMap<&str, &Node> = b.iter().map(|m| (m.key.as_str(), &m.value)).collect();
            let same = |m: &Member| {
                others.get(m.key.as_str()).is_some_and(|other| alike(by, left, &m.value, right, other))
            };
            a.iter().all(same)
        }
        _ => false,
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    twice: Option<String>,
    path: Vec<String>,
}

impl Reader<'_> {
    fn flaw(&self, message: impl Into<String>) -> Flaw {
        Flaw { class: ErrorClass::Corrupt, message: message.into(), at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// What stands here, for a message.
    fn found(&self) -> String {
        match self.text[self.at..].chars().next() {
            Some(c) => format!("found `{}`", c.escape_debug()),
            None => "found the end".to_owned(),
        }
    }

    fn value(&mut self) -> Result<Node, Flaw> {
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => self.object()?,
            Some(b'[') => self.array()?,
            Some(b'"') => Kind::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true", Kind::Bool(true))?,
            Some(b'f') => self.word("false", Kind::Bool(false))?,
            Some(b'n') => self.word("null", Kind::Null)?,
            _ => return Err(self.flaw(format!("expected a value, {}", self.found()))),
        };
        Ok(Node { start, end: self.at, kind })
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<Kind, Flaw> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.flaw(format!("expected `{word}`")));
        }
        self.at += word.len();
        Ok(kind)
    }

    fn digits(&mut self) -> Result<(), Flaw> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.flaw(format!("expected a digit, {}", self.found())));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Kind, Flaw> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.flaw("a number does not begin with a zero"));
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Kind::Number)
    }

    fn string(&mut self) -> Result<String, Flaw> {
        self.at += 1;
        let mut made = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ').unwrap_or(rest.len());
            made.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(made);
                }
                Some(b'\\') => made.push(self.escape()?),
                Some(_) => return Err(self.flaw(format!("in a text, {} not escaped", self.found()))),
                None => return Err(self.flaw("a text has no end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Flaw> {
        let made = match self.text.as_bytes().get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.code_point(),
            _ => return Err(self.flaw("no such escape in a text")),
        };
        self.at += 2;
        Ok(made)
    }

    /// The four digits of `\uXXXX` at `at`.
    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.text.get(at..at + 6)?.strip_prefix("\\u")?;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
    }

    fn code_point(&mut self) -> Result<char, Flaw> {
        let Some(first) = self.unit(self.at) else {
            return Err(self.flaw("expected four hexadecimal digits after `\\u`"));
        };
        let pair = match first {
            0xd800..0xdc00 => self.unit(self.at + 6).filter(|second| (0xdc00..0xe000).contains(second)),
            _ => None,
        };
        let (code, length) = match pair {
            Some(second) => (0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12),
            None => (first, 6),
        };
        let made =
            char::from_u32(code).ok_or_else(|| self.flaw("half of a surrogate pair is no character"))?;
        self.at += length;
        Ok(made)
    }

    fn deeper(&mut self, token: String) -> Result<(), Flaw> {
        if self.path.len() >= DEEPEST {
            let message = format!("values are nested more than {DEEPEST} levels deep");
            return Err(Flaw { class: ErrorClass::Unsupported, message, at: self.at });
        }
        self.path.push(token);
        Ok(())
    }

    fn array(&mut self) -> Result<Kind, Flaw> {
        self.deeper("0".into())?;
        self.at += 1;
        self.space();
        let mut items = Vec::new();
        if self.peek() != Some(b']') {
            loop {
                self.space();
                if let Some(last) = self.path.last_mut() {
                    *last = items.len().to_string();
                }
                items.push(self.value()?);
                self.space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b']') => break,
                    _ => return Err(self.flaw(format!("expected `,` or `]`, {}", self.found()))),
                }
            }
        }
        self.at += 1;
        self.path.pop();
        Ok(Kind::Array(items))
    }

    fn object(&mut self) -> Result<Kind, Flaw> {
        self.deeper(String::new())?;
        self.at += 1;
        self.space();
        let mut members: Vec<Member> = Vec::new();
        if self.peek() != Some(b'}') {
            loop {
                self.space();
                if self.peek() != Some(b'"') {
                    return Err(self.flaw(format!("expected a key in `\"`, {}", self.found())));
                }
                let start = self.at;
                let key = self.string()?;
                let key_end = self.at;
                self.space();
                if self.peek() != Some(b':') {
                    return Err(self.flaw(format!("expected `:` after a key, {}", self.found())));
                }
                self.at += 1;
                self.space();
                if let Some(last) = self.path.last_mut() {
                    last.clone_from(&key);
                }
                let value = self.value()?;
                members.push(Member { key, start, key_end, value });
                self.space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break,
                    _ => return Err(self.flaw(format!("expected `,` or `}}`, {}", self.found()))),
                }
            }
        }
        self.at += 1;
        if self.twice.is_none() {
            let mut seen = HashSet::new();
            if let Some(again) = members.iter().find(|member| !seen.insert(member.key.as_str())) {
                let depth = self.path.len() - 1;
                self.path[depth].clone_from(&again.key);
                self.twice = Some(super::pointer::show(&self.path));
            }
        }
        self.path.pop();
        Ok(Kind::Object(members))
    }
}

impl Flaw {
    /// The error for a file, with line and column, both from 1.
    pub(super) fn of(self, path: &str, text: &str) -> StepError {
        let before = &text[..self.at.min(text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let what = match self.class {
            ErrorClass::Corrupt => format!("`{path}` is no JSON"),
            _ => format!("`{path}` cannot be used"),
        };
        StepError::new(self.class, format!("{what}: line {line}, column {column}: {}", self.message))
            .hint(format!("look there: sed -n {line}p {}", engine::host::shell_word(path)))
    }
}
