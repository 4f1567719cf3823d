//! Where each byte of a scalar's value stands in the text, in all of YAML's styles.

use crate::diagnostic::Span;
use std::rc::Rc;

/// How a character of a value may be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// As it stands; lines may be folded.
    Plain,
    /// A quote is written twice.
    Single,
    /// With escapes.
    Double,
}

/// The place in the text of each byte of a value, and of its end.
#[derive(Clone, Debug)]
pub(super) struct Origins(Rc<[usize]>);

impl Origins {
    /// The origins of `value`, which `raw` stands for; `start` is where `raw` begins in the text. None if `raw` is
    /// something else, such as an alias.
    pub(super) fn of(raw: &str, value: &str, start: usize) -> Option<Self> {
        // The header of a block ends with its line; no other style begins with these.
        let skipped = match raw.starts_with(['|', '>']) {
            true => raw.find('\n')? + 1,
            false => 0,
        };
        let body = &raw[skipped..];
        let styled = match body.chars().next() {
            Some('"') if skipped == 0 => align(body, 1, value, Style::Double),
            Some('\'') if skipped == 0 => align(body, 1, value, Style::Single),
            _ => None,
        };
        let mut places = styled.or_else(|| align(body, 0, value, Style::Plain))?;
        places.iter_mut().for_each(|place| *place += start + skipped);
        Some(Self(places.into()))
    }

    /// The place of a part of the value.
    pub(super) fn place(&self, start: usize, end: usize) -> Option<Span> {
        let from = *self.0.get(start)?;
        // The last byte and the one behind it: between them may stand more than one, as in an escape.
        let to = match end > start {
            true => (*self.0.get(end - 1)? + 1).max(self.after(end - 1)?),
            false => from,
        };
        Some(Span::new(from, to))
    }

    /// Where the character of which `byte` is a part ends, if the next one stands right behind it.
    fn after(&self, byte: usize) -> Option<usize> {
        let (at, next) = (*self.0.get(byte)?, *self.0.get(byte + 1)?);
        // What was skipped between two characters, such as an indentation, is no part of the first.
        Some(if next.saturating_sub(at) <= LONGEST_ESCAPE { next } else { at + 1 })
    }
}

/// `\U0001F600`.
const LONGEST_ESCAPE: usize = 10;

/// Walks through both texts side by side. White space is folded and indented in many ways, all else stands in its order:
/// what is no white space in the value is the next such thing in the text.
fn align(raw: &str, from: usize, value: &str, style: Style) -> Option<Vec<usize>> {
    let mut places = Vec::with_capacity(value.len() + 1);
    let mut at = from;
    for c in value.chars() {
        let blank = matches!(c, ' ' | '\t' | '\n' | '\r');
        let (begin, next) = loop {
            let rest = &raw[at..];
            match read(rest, style)? {
                // A line that goes on after a backslash.
                (None, length) => at += length,
                (Some(read), length) if read == c => break (at, at + length),
                (Some(' ' | '\t' | '\n' | '\r'), length) if !rest.starts_with('\\') => match blank {
                    // A folded line break: it stands for this blank, and may stand for more.
                    true => break (at, at),
                    false => at += length,
                },
                // A blank that came from a break which has been passed.
                _ if blank => break (at, at),
                _ => return None,
            }
        };
        places.extend((0..c.len_utf8()).map(|byte| match next - begin >= c.len_utf8() {
            true => begin + byte,
            false => begin,
        }));
        at = next;
    }
    places.push(at.min(raw.len()));
    Some(places)
}

/// The next character that a text stands for, and its length there; none for a line that goes on after a backslash.
/// `None` at the end.
fn read(rest: &str, style: Style) -> Option<(Option<char>, usize)> {
    let first = rest.chars().next()?;
    let own = (Some(first), first.len_utf8());
    Some(match (style, first) {
        (Style::Single, '\'') => match rest.starts_with("''") {
            true => (Some('\''), 2),
            false => return None,
        },
        (Style::Double, '"') => return None,
        (Style::Double, '\\') => {
            let escape = rest[1..].chars().next()?;
            let code = |digits: usize| {
                let code = u32::from_str_radix(rest.get(2..2 + digits)?, 16).ok()?;
                Some((Some(char::from_u32(code)?), 2 + digits))
            };
            match escape {
                '\n' => (None, 2),
                '\r' if rest[2..].starts_with('\n') => (None, 3),
                'n' => (Some('\n'), 2),
                't' => (Some('\t'), 2),
                'r' => (Some('\r'), 2),
                '0' => (Some('\0'), 2),
                'e' => (Some('\u{1b}'), 2),
                '_' => (Some('\u{a0}'), 2),
                'N' => (Some('\u{85}'), 2),
                'L' => (Some('\u{2028}'), 2),
                'P' => (Some('\u{2029}'), 2),
                'a' => (Some('\u{7}'), 2),
                'b' => (Some('\u{8}'), 2),
                'v' => (Some('\u{b}'), 2),
                'f' => (Some('\u{c}'), 2),
                'x' => code(2)?,
                'u' => code(4)?,
                'U' => code(8)?,
                other => (Some(other), 1 + other.len_utf8()),
            }
        }
        _ => own,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in the text where `part` of a value comes from.
    fn origin(raw: &str, value: &str, part: &str) -> String {
        let start = value.find(part).expect("a part of it");
        let origins = Origins::of(raw, value, 100).expect("they belong together");
        let span = origins.place(start, start + part.len()).expect("within");
        raw[span.start - 100..span.end - 100].to_owned()
    }

    #[test]
    fn a_name_is_found_in_every_style() {
        for (raw, value) in [
            ("a ${{ x.y }} b", "a ${{ x.y }} b"),
            ("'it''s ${{ x.y }}'", "it's ${{ x.y }}"),
            (r#""\"\u4f60 ${{ x.y }}""#, "\"你 ${{ x.y }}"),
            ("|\n    one\n      ${{ x.y }}\n    two\n", "one\n  ${{ x.y }}\ntwo\n"),
            (">-\n    one\n    ${{ x.y }}\n\n    two\n", "one ${{ x.y }}\ntwo"),
            ("one\n    ${{ x.y }}\n    two", "one ${{ x.y }} two"),
            ("\"one \\\n    ${{ x.y }}\"", "one ${{ x.y }}"),
            ("|  # why\n  ${{ x.y }}\n", "${{ x.y }}\n"),
        ] {
            assert_eq!(origin(raw, value, "x.y"), "x.y", "{raw}");
        }
    }

    #[test]
    fn an_escape_is_marked_as_a_whole() {
        assert_eq!(origin(r#""a\u4f60b""#, "a你b", "你"), r"\u4f60");
        assert_eq!(origin(r#""a\"b\"c""#, "a\"b\"c", "\"b\""), "\\\"b\\\"");
    }

    #[test]
    fn an_alias_has_no_origins() {
        assert!(Origins::of("*x", "${{ y }}", 0).is_none());
    }
}
