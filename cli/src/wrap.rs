//! Text in as many columns as the reader has.

use engine::report::width;
use std::io::{self, IsTerminal};

/// More columns than this are hard to read.
const MOST: usize = 100;

/// The columns of the terminal, if stdout is one.
pub(crate) fn terminal_width() -> Option<usize> {
    let columns = || console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
    io::stdout().is_terminal().then(columns).flatten()
}

/// How many columns running text may have.
pub(crate) fn columns() -> usize {
    terminal_width().map_or(MOST, |columns| columns.clamp(30, MOST))
}

/// The words in lines of at most `columns`; a word that is longer has a line of its own.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().map(|line| (width(line), line));
        match line {
            Some((0, line)) => line.push_str(word),
            Some((used, line)) if used + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `first`, and the text beside it in lines that begin below each other.
pub(crate) fn beside(first: &str, text: &str, columns: usize) -> Vec<String> {
    let indent = width(first);
    // Beside a very long beginning nothing is left: the text goes below.
    let (indent, mut lines) =
        if indent + 24 > columns { (6, vec![first.trim_end().to_owned()]) } else { (indent, Vec::new()) };
    for (number, line) in wrap(text, columns.saturating_sub(indent).max(24)).into_iter().enumerate() {
        let begin = if number == 0 && lines.is_empty() { first.to_owned() } else { " ".repeat(indent) };
        lines.push(format!("{begin}{line}").trim_end().to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{beside, wrap};

    #[test]
    fn lines_are_as_long_as_they_may_be_and_no_longer() {
        assert_eq!(wrap("one two  three\nfour", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("averylongword x", 5), ["averylongword", "x"]);
        assert_eq!(wrap("媒体 同步", 5), ["媒体", "同步"]);
    }

    #[test]
    fn text_stands_beside_its_beginning() {
        assert_eq!(
            beside("  a  ", "one two three four five six", 30),
            ["  a  one two three four five", "     six"]
        );
        assert_eq!(beside("  a very long beginning  ", "one", 30), ["  a very long beginning", "      one"]);
    }
}
