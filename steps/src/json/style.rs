//! How a document is written, so that what is added looks like what is there.

use super::tree::{Document, Kind, Member, Node};
use serde_json::Value;

/// The habits of whoever writes the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// How a line ends, if values stand on lines of their own.
    pub(super) newline: Option<String>,
    /// By how much a level is indented.
    pub(super) unit: String,
    /// What follows a comma on the same line.
    pub(super) after_comma: &'static str,
    /// What stands between a key and its value.
    colon: String,
    /// Whether characters beyond ASCII are escaped.
    ascii: bool,
}

/// What is put into a document.
#[derive(Clone, Copy, Debug)]
pub(super) enum New<'a> {
    /// A value, written in the style of the document.
    Value(&'a Document),
    /// A text that stood there before.
    Raw(&'a str),
}

impl Style {
    /// For a document that did not exist.
    pub(super) fn fresh() -> Self {
        Self {
            newline: Some("\n".into()),
            unit: "  ".into(),
            after_comma: " ",
            colon: ": ".into(),
            ascii: false,
        }
    }

    /// Of a document that is there.
    pub(super) fn of(document: &Document) -> Self {
        let text = document.text.as_str();
        let first = children(&document.root).first().map(|(start, _)| *start);
        let before = first.map(|first| &text[document.root.start + 1..first]).unwrap_or_default();
        let (newline, unit) = match before.rfind('\n') {
            Some(at) => {
                let newline = if before[..at].ends_with('\r') { "\r\n" } else { "\n" };
                (Some(newline.to_owned()), before[at + 1..].to_owned())
            }
            None => (None, String::new()),
        };
        let colon = a_member(&document.root).map(|member| &text[member.key_end..member.value.start]);
        let spaced = |colon: &str| colon.ends_with(' ');
        let after_comma = match a_comma(document, &document.root) {
            Some("") => "",
            Some(_) => " ",
            None if colon.is_some_and(|colon| !spaced(colon)) => "",
            None => " ",
        };
        let colon = colon.filter(|colon| !colon.contains('\n')).unwrap_or(match after_comma {
            "" => ":",
            _ => ": ",
        });
        let ascii = text.is_ascii() && text.contains("\\u");
        Self { newline, unit, after_comma, colon: colon.to_owned(), ascii }
    }

    /// A key and what stands between it and its value.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}{}", self.string(key), self.colon)
    }

    fn string(&self, text: &str) -> String {
        let plain = Value::String(text.to_owned()).to_string();
        if !self.ascii || plain.is_ascii() {
            return plain;
        }
        let mut made = String::with_capacity(plain.len() * 2);
        for c in plain.chars() {
            match c.is_ascii() {
                true => made.push(c),
                false => {
                    let mut units = [0; 2];
                    made.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
                }
            }
        }
        made
    }

    /// The text of what is put in. `level` is the line feed and indentation of the line on which it begins; without
    /// it all is written on one line.
    pub(super) fn write(&self, new: New<'_>, level: Option<&str>) -> String {
        match new {
            New::Raw(text) => text.to_owned(),
            New::Value(document) => {
                let mut made = String::new();
                self.node(document, &document.root, level, &mut made);
                made
            }
        }
    }

    fn node(&self, document: &Document, node: &Node, level: Option<&str>, made: &mut String) {
        let inner = level.map(|level| format!("{level}{}", self.unit));
        let between = |i: usize, made: &mut String| {
            if i > 0 {
                made.push(',');
            }
            match &inner {
                Some(inner) => made.push_str(inner),
                None if i > 0 => made.push_str(self.after_comma),
                None => {}
            }
        };
        match &node.kind {
            Kind::String(text) => made.push_str(&self.string(text)),
            Kind::Array(items) if !items.is_empty() => {
                made.push('[');
                for (i, item) in items.iter().enumerate() {
                    between(i, made);
                    self.node(document, item, inner.as_deref(), made);
                }
                made.push_str(level.unwrap_or_default());
                made.push(']');
            }
            Kind::Object(members) if !members.is_empty() => {
                made.push('{');
                for (i, member) in members.iter().enumerate() {
                    between(i, made);
                    made.push_str(&self.key(&member.key));
                    self.node(document, &member.value, inner.as_deref(), made);
                }
                made.push_str(level.unwrap_or_default());
                made.push('}');
            }
            _ => made.push_str(document.raw(node)),
        }
    }
}

/// Where the elements or the members with their keys begin and end.
pub(super) fn children(node: &Node) -> Vec<(usize, usize)> {
    match &node.kind {
        Kind::Array(items) => items.iter().map(|item| (item.start, item.end)).collect(),
        Kind::Object(members) => members.iter().map(|member| (member.start, member.value.end)).collect(),
        _ => Vec::new(),
    }
}

/// The white space before a child, behind the bracket or the comma.
pub(super) fn gap<'a>(document: &'a Document, node: &Node, children: &[(usize, usize)], i: usize) -> &'a str {
    let from = if i == 0 { node.start + 1 } else { children[i - 1].1 };
    let text = &document.text[from..children[i].0];
    text.split_once(',').map_or(text, |(_, after)| after)
}

fn below(node: &Node) -> Vec<&Node> {
    match &node.kind {
        Kind::Array(items) => items.iter().collect(),
        Kind::Object(members) => members.iter().map(|member| &member.value).collect(),
        _ => Vec::new(),
    }
}

/// The first member of any object.
fn a_member(node: &Node) -> Option<&Member> {
    match &node.kind {
        Kind::Object(members) if !members.is_empty() => members.first(),
        _ => below(node).into_iter().find_map(a_member),
    }
}

/// What follows the first comma that is not at the end of a line.
fn a_comma<'a>(document: &'a Document, node: &Node) -> Option<&'a str> {
    let children = children(node);
    if children.len() > 1 {
        let gap = gap(document, node, &children, 1);
        if !gap.contains('\n') {
            return Some(gap);
        }
    }
    below(node).into_iter().find_map(|node| a_comma(document, node))
}
