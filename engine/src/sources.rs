//! The texts of a playbook: its own and those it includes, with one count of bytes through all of them.

use crate::diagnostic::{Source, Span};
use std::sync::Arc;

/// Texts in a line, as if they stood one behind the other: a [`Span`] tells by its bytes which one it is of.
#[derive(Clone, Debug)]
pub struct Sources {
    main: Arc<Source>,
    /// The others, each with the byte at which it begins.
    included: Vec<(usize, Arc<Source>)>,
}

impl Sources {
    /// One text, which begins at byte 0.
    #[must_use]
    pub fn of(main: Arc<Source>) -> Self {
        Self { main, included: Vec::new() }
    }

    /// The playbook's own text.
    #[must_use]
    pub fn main(&self) -> &Arc<Source> {
        &self.main
    }

    /// Adds a text and gives the byte at which it begins. A byte is left out between two, so that the end of one is
    /// not the start of the next.
    pub fn add(&mut self, source: Arc<Source>) -> usize {
        let end = |(base, source): &(usize, Arc<Source>)| base + source.text.len();
        let base = self.included.last().map_or(self.main.text.len(), end) + 1;
        self.included.push((base, source));
        base
    }

    /// The text in which a span stands, and the span as it counts in that text alone.
    #[must_use]
    pub fn at(&self, span: Span) -> (&Arc<Source>, Span) {
        let after = self.included.partition_point(|(base, _)| *base <= span.start);
        match after.checked_sub(1).map(|i| &self.included[i]) {
            None => (&self.main, span),
            Some((base, source)) => (source, Span::new(span.start - base, span.end.saturating_sub(*base))),
        }
    }

    /// What stands there.
    #[must_use]
    pub fn slice(&self, span: Span) -> Option<&str> {
        let (source, span) = self.at(span);
        source.text.get(span.range())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, text: &str) -> Arc<Source> {
        Arc::new(Source { name: name.into(), text: text.into() })
    }

    #[test]
    fn a_span_tells_its_text() {
        let mut sources = Sources::of(source("main", "ab"));
        let second = sources.add(source("second", ""));
        let third = sources.add(source("third", "你好"));
        let name = |start: usize| sources.at(Span::new(start, start)).0.name.clone();
        assert_eq!([name(0), name(2), name(second), name(third)], ["main", "main", "second", "third"]);
        let (_, local) = sources.at(Span::new(third + 3, third + 6));
        assert_eq!((local, sources.slice(Span::new(third + 3, third + 6))), (Span::new(3, 6), Some("好")));
    }
}
