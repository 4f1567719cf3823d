//! Makes data fit to be shown: what a terminal, or a reader's eye, would take for a command is spelled out.

use std::borrow::Cow;

/// Text for one line of a terminal or a file. Control characters, characters that turn the direction of writing,
/// line separators and invisible ones stand as `\n` or `\u{202e}`; a tab becomes a space.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\t' => safe.push(' '),
            c if is_unsafe(c) => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// The lines of a text, each fit to be shown; blank ones at the end are dropped.
#[must_use]
pub fn escape_lines(text: &str) -> Vec<String> {
    text.trim_end().lines().map(|line| escape(line.trim_end_matches('\r')).into_owned()).collect()
}

/// Whether a character may not reach a terminal as it is. Joiners (U+200C, U+200D) may: scripts and emoji need
/// them.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::{escape, escape_lines};

    #[test]
    fn control_and_direction_characters_are_spelled_out() {
        assert_eq!(escape("\u{1b}[31mred\u{7}"), "\\u{1b}[31mred\\u{7}");
        assert_eq!(
            escape("a\u{202e}txt.exe\u{2028}\u{feff}\u{9b}"),
            "a\\u{202e}txt.exe\\u{2028}\\u{feff}\\u{9b}"
        );
        assert_eq!(escape("two\nlines\r\tand a tab"), "two\\nlines\\r and a tab");
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in ["媒体 文件.mp4", "naïve", "👩‍🚀", "क्‍ष", "\\n is no newline"] {
            assert_eq!(escape(text), text);
        }
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(escape_lines("a\r\nb\u{1b}c\n\n"), ["a", "b\\u{1b}c"]);
    }
}
