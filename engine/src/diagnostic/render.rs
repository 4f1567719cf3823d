//! Diagnostics for people, as rustc prints them, and for editors.

use super::{Diagnostic, Diagnostics, Severity, Source, Span};
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

/// The most diagnostics printed for a person; editors get all.
const SHOWN: usize = 50;
/// The longest line of which the part around the place is shown, in bytes. Of a longer one, which no person wrote, only
/// the place is told: drawing it costs its whole length.
const MAX_LINE: usize = 8 << 10;

impl Diagnostics {
    /// For a person, with file, line, column, a caret and a hint, as rustc does. Ends with where to read more.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut blocks: Vec<String> =
            self.list.iter().take(SHOWN).map(|diagnostic| self.render_one(diagnostic, &renderer)).collect();
        let unseen = self.list.len().saturating_sub(SHOWN) + self.dropped;
        if unseen > 0 {
            blocks.push(format!("… and {unseen} more"));
        }
        blocks.extend(self.more());
        blocks.join("\n\n")
    }

    /// The line that tells where to read more: the code, if all have the same.
    fn more(&self) -> Option<String> {
        let first = self.list.first()?.code;
        let code = match self.list.iter().all(|diagnostic| diagnostic.code == first) {
            true => first.name(),
            false => "CODE",
        };
        Some(format!("for more: shakedown explain {code}"))
    }

    fn render_one(&self, diagnostic: &Diagnostic, renderer: &Renderer) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let message = visible(&diagnostic.message);
        let mut group = level
            .primary_title(message.as_str())
            .id(diagnostic.code.name())
            .elements(Vec::<annotate_snippets::Element<'_>>::new());
        for part in self.parts(diagnostic) {
            group = part.add_to(group);
        }
        let mut report = vec![group];
        let hint = diagnostic.hint.as_deref().map(visible);
        if let Some(hint) = &hint {
            report.push(Group::with_title(Level::HELP.secondary_title(hint.as_str())));
        }
        renderer.render(&report).clone()
    }

    /// The places of a diagnostic, those of each text together; the text of the diagnostic itself comes first.
    fn parts(&self, diagnostic: &Diagnostic) -> Vec<Part<'_>> {
        let mut parts: Vec<Part<'_>> = Vec::new();
        let own = (diagnostic.span, &diagnostic.label, AnnotationKind::Primary);
        let related = diagnostic.related.iter().map(|(span, words)| (*span, words, AnnotationKind::Context));
        for (span, words, kind) in std::iter::once(own).chain(related) {
            let (source, span) = self.at(span);
            let place = (one_line(&source.text, span), visible(words), kind);
            match parts.iter_mut().find(|part| std::ptr::eq(part.source, source)) {
                Some(part) => part.places.push(place),
                None => parts.push(Part { source, places: vec![place] }),
            }
        }
        parts
    }

    /// The text that a span belongs to, and its place in it.
    fn at(&self, span: Span) -> (&Source, Span) {
        let (source, span) = self.sources.at(span);
        (source, span)
    }

    /// For editors: a list of objects with `file`, `code`, `severity`, `message`, `hint` (or null), `range`, `line`,
    /// `column`, and `related` (further places, each with `file`, `message`, `range`, `line` and `column`).
    ///
    /// `range` is that of the Language Server Protocol: lines from 0, characters from 0 in UTF-16 units. `line` and
    /// `column` are those that are printed for people: from 1, columns in characters.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut known: Vec<(&Source, Lines<'_>)> = Vec::new();
        let mut place = |span: Span| {
            let (source, span) = self.at(span);
            let at = known.iter().position(|(other, _)| std::ptr::eq(*other, source)).unwrap_or_else(|| {
                known.push((source, Lines::new(&source.text)));
                known.len() - 1
            });
            let lines = &known[at].1;
            let (line, column) = lines.position(span.start);
            (&source.name, lines.range(span), line, column)
        };
        let one = |d: &Diagnostic| {
            let related: Vec<Value> = d
                .related
                .iter()
                .map(|(span, words)| {
                    let (file, range, line, column) = place(*span);
                    json!({ "file": file, "message": words, "range": range, "line": line, "column": column })
                })
                .collect();
            let (file, range, line, column) = place(d.span);
            json!({
                "file": file,
                "code": d.code.name(),
                "severity": match d.severity { Severity::Error => "error", Severity::Warning => "warning" },
                "message": d.message,
                "hint": d.hint,
                "range": range,
                "line": line,
                "column": column,
                "related": related,
            })
        };
        Value::Array(self.list.iter().map(one).collect())
    }
}

/// Places in one text.
struct Part<'s> {
    source: &'s Source,
    places: Vec<(Span, String, AnnotationKind)>,
}

impl Part<'_> {
    /// Adds the lines of these places with their marks.
    fn add_to<'g>(self, group: Group<'g>) -> Group<'g> {
        let text = self.source.text.as_str();
        let name = visible(&self.source.name);
        let first = self.places.first().map_or(Span::default(), |(span, ..)| *span);
        let long = self.places.iter().any(|(span, ..)| line_of(text, *span).len() > MAX_LINE);
        if long {
            let (line, column) = self.source.position(first.start);
            return group.element(Origin::path(name).line(line).char_column(column));
        }
        let from = self.places.iter().map(|(span, ..)| line_start(text, span.start)).min().unwrap_or(0);
        let to = self.places.iter().map(|(span, ..)| line_end(text, span.end)).max().unwrap_or(text.len());
        let annotations = self.places.into_iter().map(|(span, words, kind)| {
            kind.span(span.start - from..span.end - from).label((!words.is_empty()).then_some(words))
        });
        group.element(
            Snippet::source(visible(&text[from..to]))
                .path(name)
                .line_start(text[..from].matches('\n').count() + 1)
                .annotations(annotations),
        )
    }
}

/// Where the lines of a text begin: found once, for many diagnostics ask.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The line from 0, and what stands in it before a byte.
    fn before(&self, byte: usize) -> (usize, &'t str) {
        let byte = floor(self.text, byte);
        let line = self.starts.partition_point(|start| *start <= byte).saturating_sub(1);
        (line, &self.text[self.starts[line]..byte])
    }

    /// Line and column from 1, in characters.
    fn position(&self, byte: usize) -> (usize, usize) {
        let (line, before) = self.before(byte);
        (line + 1, before.chars().count() + 1)
    }

    fn range(&self, span: Span) -> Value {
        let place = |byte| {
            let (line, before) = self.before(byte);
            json!({ "line": line, "character": before.encode_utf16().count() })
        };
        json!({ "start": place(span.start), "end": place(span.end) })
    }
}

/// A span within the text and within its first line: a caret under many lines hides the place.
fn one_line(text: &str, span: Span) -> Span {
    let start = floor(text, span.start);
    Span::new(start, floor(text, span.end).clamp(start, line_end(text, start).max(start)))
}

fn line_of(text: &str, span: Span) -> &str {
    &text[line_start(text, span.start)..line_end(text, span.start)]
}

fn line_start(text: &str, byte: usize) -> usize {
    text[..byte].rfind('\n').map_or(0, |newline| newline + 1)
}

fn line_end(text: &str, byte: usize) -> usize {
    text[byte..].find('\n').map_or(text.len(), |newline| byte + newline)
}

/// The last place where a character begins, at or before a byte.
pub(super) fn floor(text: &str, byte: usize) -> usize {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    byte
}

/// The text with what could deceive a reader or a terminal made harmless, byte for byte as long as before.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        // The end of a line as Windows writes it; of a line that was cut out, the end is not there.
        if c == '\r' && (text[at + 1..].starts_with('\n') || at + 1 == text.len()) {
            shown.push(' ');
            continue;
        }
        let hidden = (c.is_control() && !matches!(c, '\n' | '\t')) || super::deceives(c);
        match (hidden, c.len_utf8()) {
            (false, _) => shown.push(c),
            (true, 3) => shown.push('\u{fffd}'),
            (true, 2) => shown.push('¿'),
            (true, _) => shown.push('?'),
        }
    }
    shown
}
