//! What is wrong with a playbook, where, and what to do: collected all at once, printed like rustc.

use crate::sources::Sources;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
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
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let before = &self.text[..byte];
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (line, before[start..].chars().count() + 1)
    }
}

/// What kind of mistake a diagnostic is about. The code is stable; the words may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The text is no YAML, or exceeds a budget.
    Yaml,
    /// A key that does not exist.
    UnknownKey,
    /// A key that must be there and is not.
    MissingKey,
    /// A value of another type than expected.
    WrongType,
    /// A value that is not among those allowed.
    BadValue,
    /// A name that cannot be one.
    BadName,
    /// The same name twice.
    Duplicate,
    /// An expression that is no CEL.
    Syntax,
    /// A name in an expression, a need or a host that does not exist.
    UnknownName,
    /// A name that cannot be used in this place.
    OutOfPlace,
    /// Steps or vars that wait for each other.
    Cycle,
    /// A step that changes something where only reading is allowed.
    EffectInReadOnly,
    /// The output of a step that may be skipped.
    MayBeSkipped,
    /// Keys that do not go together.
    Conflict,
    /// Something that is never used.
    Unused,
    /// A problem found while making the plan.
    Plan,
    /// An effect without an undo.
    NoUndo,
}

impl Code {
    /// The code as users see it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::UnknownKey => "unknown-key",
            Self::MissingKey => "missing-key",
            Self::WrongType => "wrong-type",
            Self::BadValue => "bad-value",
            Self::BadName => "bad-name",
            Self::Duplicate => "duplicate",
            Self::Syntax => "syntax",
            Self::UnknownName => "unknown-name",
            Self::OutOfPlace => "out-of-place",
            Self::Cycle => "cycle",
            Self::EffectInReadOnly => "effect-in-read-only",
            Self::MayBeSkipped => "may-be-skipped",
            Self::Conflict => "conflict",
            Self::Unused => "unused",
            Self::Plan => "plan",
            Self::NoUndo => "no-undo",
        }
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
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error.
    #[must_use]
    pub fn error(code: Code, message: impl Into<String>, span: Span) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), span, hint: None }
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
}

/// All that is wrong with a text and with those it includes, in their order.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    sources: Sources,
    list: Vec<Diagnostic>,
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
        Self { sources, list: Vec::new() }
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

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if !self.list.contains(&diagnostic) {
            self.list.push(diagnostic);
            self.list.sort_by_key(|d| (d.span.start, d.severity, d.span.end));
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

    /// For a person, with file, line, column, a caret and a hint, as rustc does.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut blocks = Vec::new();
        // The diagnostics of a text follow each other: each text is made harmless once.
        let same = |a: &Diagnostic, b: &Diagnostic| Arc::ptr_eq(self.sources.at(a.span).0, self.sources.at(b.span).0);
        for of_text in self.list.chunk_by(same) {
            let text = of_text.first().map(|d| visible(&self.sources.at(d.span).0.text)).unwrap_or_default();
            blocks.extend(of_text.iter().map(|d| self.render_one(d, &text, &renderer)));
        }
        blocks.join("\n\n")
    }

    fn render_one(&self, diagnostic: &Diagnostic, text: &str, renderer: &Renderer) -> String {
        let (source, place) = self.sources.at(diagnostic.span);
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let message = visible(&diagnostic.message);
        let start = floor(text, place.start);
        // A caret under many lines hides the place: the first line tells it.
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let end = floor(text, place.end).clamp(start, line_end.max(start));
        let name = visible(&source.name);
        let snippet =
            Snippet::source(text).path(name.as_str()).annotation(AnnotationKind::Primary.span(start..end));
        let mut report =
            vec![level.primary_title(message.as_str()).id(diagnostic.code.name()).element(snippet)];
        let hint = diagnostic.hint.as_deref().map(visible);
        if let Some(hint) = &hint {
            report.push(Group::with_title(Level::HELP.secondary_title(hint.as_str())));
        }
        renderer.render(&report).clone()
    }

    /// For a machine: a list of objects with `file`, `code`, `severity`, `message`, `range` and `hint`; lines and
    /// columns from 1, columns in characters.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let one = |d: &Diagnostic| {
            let (source, span) = self.sources.at(d.span);
            let place = |byte: usize| {
                let (line, column) = source.position(byte);
                serde_json::json!({ "line": line, "column": column })
            };
            serde_json::json!({
                "file": source.name,
                "code": d.code.name(),
                "severity": match d.severity { Severity::Error => "error", Severity::Warning => "warning" },
                "message": d.message,
                "range": { "start": place(span.start), "end": place(span.end) },
                "hint": d.hint,
            })
        };
        serde_json::Value::Array(self.list.iter().map(one).collect())
    }
}

fn floor(text: &str, byte: usize) -> usize {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    byte
}

/// The text with what could deceive a reader or a terminal made harmless, byte for byte as long as before where that
/// is possible.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden = (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        match (hidden, c.len_utf8()) {
            (false, _) => shown.push(c),
            (true, 3) => shown.push('\u{fffd}'),
            (true, 2) => shown.push('¿'),
            (true, _) => shown.push('?'),
        }
    }
    shown
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
