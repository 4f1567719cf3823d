//! What is wrong with a playbook, where, and what to do: collected all at once, printed like rustc.

mod code;
mod decode;
mod render;

pub use code::Code;
pub use decode::decode;

use crate::sources::Sources;
use render::floor;
use serde::Serialize;
use std::{ops::Range, sync::Arc};

/// A text with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file's name as the user wrote it, or `bundled:NAME`.
    pub name: String,
    /// Its whole text.
    pub text: String,
}

/// Where something stands in a [`Source`]: bytes from `start` up to `end`; see [`Sources`] where there are several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// From `start` up to `end`.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The same so many bytes further on.
    #[must_use]
    pub fn after(self, bytes: usize) -> Self {
        Self { start: self.start + bytes, end: self.end + bytes }
    }

    /// As a range for slicing.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

impl Source {
    /// The line and column of a byte, both from 1; columns count characters.
    #[must_use]
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let before = &self.text[..floor(&self.text, byte)];
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (line, before[start..].chars().count() + 1)
    }
}

/// How grave it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The playbook cannot be used.
    Error,
    /// It can, but something is odd.
    Warning,
}

/// Something that is wrong with a playbook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind of mistake.
    pub code: Code,
    /// How grave.
    pub severity: Severity,
    /// Lower case, the thing in backticks, what was expected, what was found.
    pub message: String,
    /// Where.
    pub span: Span,
    /// A word at the place; may be empty.
    pub label: String,
    /// Further places that belong to it, each with a word.
    pub related: Vec<(Span, String)>,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error.
    #[must_use]
    pub fn error(code: Code, message: impl Into<String>, span: Span) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            span,
            label: String::new(),
            related: Vec::new(),
            hint: None,
        }
    }

    /// A warning.
    #[must_use]
    pub fn warning(code: Code, message: impl Into<String>, span: Span) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message, span) }
    }

    /// With what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With a word at its place.
    #[must_use]
    pub fn label(mut self, words: impl Into<String>) -> Self {
        self.label = words.into();
        self
    }

    /// With a further place.
    #[must_use]
    pub fn related(mut self, span: Span, words: impl Into<String>) -> Self {
        self.related.push((span, words.into()));
        self
    }
}

/// The most diagnostics kept of one text: a hostile one must not cost memory and time without end.
const MAX_KEPT: usize = 1_000;

/// All that is wrong with a text and with those it includes, in their order.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    sources: Sources,
    list: Vec<Diagnostic>,
    dropped: usize,
}

impl Diagnostics {
    /// None so far.
    #[must_use]
    pub fn new(source: Arc<Source>) -> Self {
        Self::of(Sources::of(source))
    }

    /// None so far, of several texts.
    #[must_use]
    pub fn of(sources: Sources) -> Self {
        Self { sources, list: Vec::new(), dropped: 0 }
    }

    /// The texts.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Adds a text, and gives the byte at which its spans begin.
    pub fn add_source(&mut self, source: Arc<Source>) -> usize {
        self.sources.add(source)
    }

    /// Adds one. Above a thousand they are only counted, except for the first error.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let order = |d: &Diagnostic| (d.span.start, d.severity, d.span.end);
        let at = self.list.partition_point(|known| order(known) <= order(&diagnostic));
        let mut same = self.list[..at].iter().rev().take_while(|known| order(known) == order(&diagnostic));
        if same.any(|known| *known == diagnostic) {
            return;
        }
        let first_error = diagnostic.severity == Severity::Error && !self.has_errors();
        if self.list.len() < MAX_KEPT || first_error {
            self.list.insert(at, diagnostic);
        } else {
            self.dropped += 1;
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether there is an error among them.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|d| d.severity == Severity::Error)
    }

    /// All of them in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }
}

/// Whether a character has no width, turns the direction of the text or looks like a line break: what is read is not what
/// stands there.
pub(crate) fn deceives(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// ``did you mean `x`?`` for the nearest of `known`, if one is near.
#[must_use]
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&name, &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= 1.max(known.chars().count() / 3))
        .min()
        .map(|(_, known)| format!("did you mean `{known}`?"))
}
