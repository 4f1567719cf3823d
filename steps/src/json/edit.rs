//! Changes of a document's text: a piece is put in place of another, and nothing else moves.

use super::{
    pointer,
    style::{New, Style, children, gap},
    tree::{Document, Kind, Node},
};

/// A piece of text in place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Splice {
    /// Where, in bytes.
    pub(super) at: usize,
    /// How many bytes go.
    pub(super) removed: usize,
    /// What comes.
    pub(super) text: String,
}

impl Splice {
    pub(super) fn apply(&self, text: &str) -> String {
        let (before, after) = (&text[..self.at], &text[self.at + self.removed..]);
        [before, &self.text, after].concat()
    }
}

/// The last line feed of a gap and what follows it, if the next value stands on a line of its own.
fn line(gap: &str) -> Option<&str> {
    let at = gap.rfind('\n')?;
    Some(&gap[if gap[..at].ends_with('\r') { at - 1 } else { at }..])
}

/// The line feed and indentation of the line on which the value at `tokens` begins.
fn level<S: AsRef<str>>(document: &Document, style: &Style, tokens: &[S]) -> Option<String> {
    let Some((last, parents)) = tokens.split_last() else { return style.newline.clone() };
    let parent = pointer::find(&document.root, parents)?;
    let i = place(parent, last.as_ref())?;
    line(gap(document, parent, &children(parent), i)).map(str::to_owned)
}

/// Which child of `parent` a token names.
pub(super) fn place(parent: &Node, token: &str) -> Option<usize> {
    match &parent.kind {
        Kind::Array(items) => pointer::index(token).filter(|i| *i < items.len()),
        Kind::Object(members) => members.iter().rposition(|member| member.key == token),
        _ => None,
    }
}

/// Another value in place of the one at `tokens`.
pub(super) fn replace(document: &Document, style: &Style, tokens: &[String], new: New<'_>) -> Option<Splice> {
    let node = pointer::find(&document.root, tokens)?;
    let level = level(document, style, tokens);
    let text = style.write(new, level.as_deref());
    Some(Splice { at: node.start, removed: node.end - node.start, text })
}

/// A new child of the array or object at `tokens`, before its child `i`; with a key it is a member.
pub(super) fn insert(
    document: &Document,
    style: &Style,
    tokens: &[String],
    i: usize,
    key: Option<&str>,
    new: New<'_>,
) -> Option<Splice> {
    let node = pointer::find(&document.root, tokens)?;
    let there = children(node);
    let i = i.min(there.len());
    let child = |level: Option<&str>| {
        let key = key.map(|key| style.key(key)).unwrap_or_default();
        format!("{key}{}", style.write(new, level))
    };
    if there.is_empty() {
        let (at, removed) = (node.start + 1, node.end - node.start - 2);
        let text = match level(document, style, tokens) {
            Some(outer) => {
                let inner = format!("{outer}{}", style.unit);
                format!("{inner}{}{outer}", child(Some(&inner)))
            }
            None => child(None),
        };
        return Some(Splice { at, removed, text });
    }
    let first = gap(document, node, &there, 0);
    let between = match there.len() {
        1 if first.contains('\n') => first,
        1 => style.after_comma,
        many => gap(document, node, &there, i.clamp(1, many - 1)),
    };
    let child = child(line(between));
    Some(match i == there.len() {
        true => Splice { at: there[i - 1].1, removed: 0, text: format!(",{between}{child}") },
        false => Splice { at: there[i].0, removed: 0, text: format!("{child},{between}") },
    })
}

/// The child `i` of a value goes, with its comma.
pub(super) fn take_out(node: &Node, i: usize) -> Option<Splice> {
    let there = children(node);
    let (from, to) = match (i, there.len()) {
        (0, 1) => (node.start + 1, node.end - 1),
        (i, count) if i + 1 < count => (there[i].0, there[i + 1].0),
        (i, count) if i + 1 == count => (there[i - 1].1, there[i].1),
        _ => return None,
    };
    Some(Splice { at: from, removed: to - from, text: String::new() })
}
