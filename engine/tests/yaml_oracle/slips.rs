//! Changes of a text as slips of a hand make them.

use super::make::{COMMENTS, spaces};
use proptest::{collection::vec, prelude::*, sample::select};

/// A slip of the hand; places are taken modulo what there is.
#[derive(Clone, Debug)]
pub(crate) enum Slip {
    DeleteLine(usize),
    DuplicateLine(usize),
    MoveLine(usize, usize),
    InsertLine(usize, &'static str),
    Indent(usize, usize),
    Outdent(usize, usize),
    JoinLines(usize),
    Comment(usize, &'static str),
    EndLine(usize, &'static str),
    SwapChars(usize),
    DeleteChar(usize),
    InsertText(usize, &'static str),
    Cut(usize),
    Tab(usize),
    CarriageReturns,
}

pub(crate) fn slips(most: usize) -> impl Strategy<Value = Vec<Slip>> {
    let n = || any::<usize>();
    let lines = &[
        "",
        "x",
        "  x: 1",
        "- x",
        "    - x: 1",
        "# comment",
        "---",
        "...",
        "\t",
        "  \t",
        "x: |",
        "x: >-",
        "x: \"",
        "x: '",
        "x: [",
        "}",
        "? x",
        ": x",
        "x: &a 1",
        "x: *a",
        "<<: *a",
        "%YAML 1.2",
        "x: !t 1",
        "你: 好",
        "\u{feff}",
    ][..];
    let signs = &[
        ":", ": ", " :", "-", "- ", "#", " #", "'", "\"", "[", "]", "{", "}", ",", "&a ", "*a", "!", "|",
        ">", "%", "@", "`", "\\", "\t", " ", "\n", "\r", "\r\n", "?", "? ", "~", "0", "0x", ".", "e9", "_",
        "好", "\u{301}", "\u{85}", "\u{a0}", "\u{2028}", "\u{feff}", "\u{0}", "\u{7f}", "\u{1b}",
    ][..];
    let one = prop_oneof![
        n().prop_map(Slip::DeleteLine),
        n().prop_map(Slip::DuplicateLine),
        (n(), n()).prop_map(|(from, to)| Slip::MoveLine(from, to)),
        (n(), select(lines)).prop_map(|(at, line)| Slip::InsertLine(at, line)),
        (n(), 1usize..5).prop_map(|(at, by)| Slip::Indent(at, by)),
        (n(), 1usize..5).prop_map(|(at, by)| Slip::Outdent(at, by)),
        n().prop_map(Slip::JoinLines),
        (n(), select(COMMENTS)).prop_map(|(at, comment)| Slip::Comment(at, comment)),
        (n(), select(&["\r", " ", "\t", "\r\r", " \\"][..])).prop_map(|(at, end)| Slip::EndLine(at, end)),
        n().prop_map(Slip::SwapChars),
        n().prop_map(Slip::DeleteChar),
        (n(), select(signs)).prop_map(|(at, sign)| Slip::InsertText(at, sign)),
        (n(), select(signs)).prop_map(|(at, sign)| Slip::InsertText(at, sign)),
        (n(), select(signs)).prop_map(|(at, sign)| Slip::InsertText(at, sign)),
        n().prop_map(Slip::Cut),
        n().prop_map(Slip::Tab),
        Just(Slip::CarriageReturns),
    ];
    vec(one, 1..=most)
}

/// The text with these slips, one after the other.
pub(crate) fn slipped(text: &str, slips: &[Slip]) -> String {
    slips.iter().fold(text.to_owned(), |text, slip| slipped_once(&text, slip))
}

fn slipped_once(text: &str, slip: &Slip) -> String {
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let mut chars: Vec<char> = text.chars().collect();
    let joined = |chars: Vec<char>| chars.into_iter().collect::<String>();
    let (lines_there, chars_there) = (lines.len(), chars.len().max(1));
    let (line, place) = (|at: &usize| at % lines_there, |at: &usize| at % chars_there);
    match slip {
        Slip::DeleteLine(at) => drop(lines.remove(line(at))),
        Slip::DuplicateLine(at) => lines.insert(line(at), lines[line(at)].clone()),
        Slip::MoveLine(from, to) => {
            let (from, to) = (line(from), line(to));
            let moved = lines.remove(from);
            lines.insert(to.min(lines.len()), moved);
        }
        Slip::InsertLine(at, new) => lines.insert(line(at), (*new).to_owned()),
        Slip::Indent(at, by) => {
            let at = line(at);
            lines[at].insert_str(0, &spaces(*by));
        }
        Slip::Outdent(at, by) => {
            let at = line(at);
            let there = lines[at].len() - lines[at].trim_start_matches(' ').len();
            lines[at].drain(..there.min(*by));
        }
        Slip::JoinLines(at) => {
            let at = line(at);
            if at + 1 < lines.len() {
                let next = lines.remove(at + 1);
                lines[at].push_str(&next);
            }
        }
        Slip::Comment(at, end) | Slip::EndLine(at, end) => {
            let at = line(at);
            lines[at].push_str(end);
        }
        Slip::Tab(at) => {
            let at = line(at);
            lines[at] = lines[at].replacen("  ", "\t", 1);
        }
        Slip::SwapChars(at) if chars.len() > 1 => {
            let at = at % (chars.len() - 1);
            chars.swap(at, at + 1);
            return joined(chars);
        }
        Slip::DeleteChar(at) if !chars.is_empty() => {
            chars.remove(place(at));
            return joined(chars);
        }
        Slip::InsertText(at, sign) => {
            let at = place(at);
            chars.splice(at..at, sign.chars());
            return joined(chars);
        }
        Slip::Cut(at) => {
            chars.truncate(place(at));
            return joined(chars);
        }
        Slip::CarriageReturns => return text.replace('\n', "\r\n"),
        Slip::SwapChars(_) | Slip::DeleteChar(_) => {}
    }
    lines.join("\n")
}
