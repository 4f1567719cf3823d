//! Colours and widths of lines for a terminal. Pure: gives text, prints nothing.

use unicode_width::UnicodeWidthStr;

/// Whether lines carry colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether they do.
    pub color: bool,
}

/// What a piece of text means; the colour follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It went well.
    Good,
    /// It went wrong.
    Bad,
    /// It deserves a look.
    Warn,
    /// It is a title.
    Strong,
    /// It is beside the point.
    Faint,
    /// It is a thing that changes the system.
    Change,
}

impl Style {
    /// Without colours.
    pub const PLAIN: Self = Self { color: false };

    /// The text in the colour of its tone.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "1;31",
            Tone::Warn => "33",
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Change => "36",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// The columns that a text without colours takes on a terminal: a Chinese character takes two.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text, filled with spaces up to `columns`.
#[must_use]
pub fn pad(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(width(text));
    format!("{text}{:missing$}", "")
}

/// The text in at most `columns`, with `…` in place of its middle.
#[must_use]
pub fn shorten(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(1);
    // The end of a path tells more than its beginning.
    let tail_room = room - room / 3;
    let mut tail = String::new();
    for c in text.chars().rev() {
        let longer = format!("{c}{tail}");
        if width(&longer) > tail_room {
            break;
        }
        tail = longer;
    }
    let mut head = String::new();
    for c in text.chars() {
        head.push(c);
        if width(&head) > room - width(&tail) {
            head.pop();
            break;
        }
    }
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(width("媒体"), 4);
        assert_eq!(pad("媒体", 6), "媒体  ");
        assert_eq!(pad("longer", 3), "longer");
    }

    #[test]
    fn a_shortened_text_keeps_its_end_and_fits() {
        let short = shorten("/data/temp/dji/media/20250123_101500_smoketest.txt", 30);
        assert_eq!(width(&short), 30);
        assert!(short.starts_with("/data/tem…") && short.ends_with("smoketest.txt"), "{short}");
        for columns in 1..12 {
            assert!(width(&shorten("媒体文件媒体文件", columns)) <= columns);
        }
    }

    #[test]
    fn without_colour_nothing_is_added() {
        assert_eq!(Style::PLAIN.paint(Tone::Bad, "x"), "x");
        assert_eq!(Style { color: true }.paint(Tone::Good, "x"), "\u{1b}[32mx\u{1b}[0m");
    }
}
