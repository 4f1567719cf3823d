//! Documents of every style that YAML has.

use super::plain::PLAIN;
use proptest::{collection::vec, prelude::*, sample::select};

const KEYS: &[&str] = &[
    "a",
    "b",
    "c",
    "d",
    "你",
    "a b",
    "'a'",
    "\"b\"",
    "\"\\u4f60\"",
    "1",
    "1.5",
    "true",
    "null",
    "~",
    "''",
    "<<",
    "a.b",
    "a-b",
    "-a",
    "0x1",
    "0644",
    "${{x}}",
    "*a",
    "&k a",
    "? a",
    "!!str a",
    "[a]",
    "{a: b}",
    "=",
    "",
    "no",
    "http://x",
    "a#b",
    "a:b",
];
/// What quoted and block text is made of.
const PIECES: &[&str] = &[
    "a",
    "word",
    " ",
    "  ",
    "\t",
    "你好",
    "é",
    "😀",
    "'",
    "''",
    "\"",
    "\\",
    "\\n",
    "\\t",
    "\\\"",
    "\\\\",
    "\\u4f60",
    "\\ud83d\\ude00",
    "\\x41",
    "\\e",
    "\\0",
    "\\/",
    "\\ ",
    "\\_",
    "\\N",
    "\\L",
    "\\a",
    "\\U0001F600",
    "\\q",
    "\\x4",
    "\\\n",
    "\n",
    "\n\n",
    " \n",
    "\n ",
    "\t\n",
    "# no comment",
    ": ",
    "- ",
    "---",
    "...",
    "{",
    "]",
    "%",
    "&a",
    "*a",
    "!t",
    "|",
    "\u{a0}",
    "\u{85}",
    "\u{2028}",
];
const HEADERS: &[&str] = &[
    "|",
    "|",
    ">",
    ">",
    "|-",
    ">-",
    "|+",
    ">+",
    "|1",
    ">2",
    "|2-",
    ">+1",
    "|4+",
    "| # comment",
    "> #comment",
    "|#",
    "|x",
    "|0",
    "|-1",
    "|10",
];
pub(crate) const COMMENTS: &[&str] =
    &["", "", "", "", " # comment", "  #", "\t# tab", " #你好", "   ", "#none", " # a: b"];
const BEFORE: &[&str] = &[
    "",
    "",
    "",
    "",
    "",
    "---\n",
    "--- # comment\n",
    "# comment\n",
    "\n\n",
    "%YAML 1.2\n---\n",
    "%YAML 1.1\n---\n",
    "\u{feff}",
    "--- ",
    "...\n",
    "---\n---\n",
    "%TAG ! tag:x,2000:\n---\n",
    "  # indented\n",
    "\t\n",
    " \n",
];
const AFTER: &[&str] = &[
    "",
    "",
    "",
    "",
    "",
    "...\n",
    "---\n",
    "--- b\n",
    "... # c\n",
    "# end",
    "\n\n",
    "...\n...\n",
    "\t",
    "  ",
    "\n  # c\n",
    "...\nx\n",
];

#[derive(Clone, Debug)]
pub(crate) enum Made {
    Plain(&'static str),
    /// With this quote on both sides.
    Quoted(char, Vec<&'static str>),
    /// A header, and lines with how much deeper each is indented.
    Block(&'static str, Vec<(usize, Vec<&'static str>)>),
    List(Vec<Made>),
    Map(Vec<(&'static str, Made)>),
    FlowList(Vec<Made>),
    FlowMap(Vec<(&'static str, Made)>),
    Anchor(&'static str, Box<Made>),
    Alias(&'static str),
    Tag(&'static str, Box<Made>),
    Commented(&'static str, Box<Made>),
}

/// How a document is laid out.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    before: &'static str,
    after: &'static str,
    /// Columns a level.
    step: usize,
    /// Lists stand in the column of the key they belong to.
    flat: bool,
    /// Maps and lists in `{ }` and `[ ]` have a line for each entry.
    tall: bool,
    ends: &'static str,
    last_end: bool,
}

pub(crate) fn document() -> impl Strategy<Value = String> {
    (made(), layout()).prop_map(|(made, layout)| write(&made, &layout))
}

fn layout() -> impl Strategy<Value = Layout> {
    let ends = select(&["\n", "\n", "\n", "\r\n", "\r"][..]);
    let step = select(&[2, 2, 2, 1, 3, 4, 8][..]);
    (select(BEFORE), select(AFTER), step, any::<[bool; 3]>(), ends).prop_map(
        |(before, after, step, [flat, tall, last_end], ends)| Layout {
            before,
            after,
            step,
            flat,
            tall,
            ends,
            last_end,
        },
    )
}

fn made() -> impl Strategy<Value = Made> {
    let names = || select(&["a", "b", "a-1", "你"][..]);
    let text = || vec(select(PIECES), 0..6);
    let leaf = prop_oneof![
        8 => select(PLAIN).prop_map(Made::Plain),
        3 => (select(&['"', '\''][..]), text()).prop_map(|(quote, text)| Made::Quoted(quote, text)),
        2 => (select(HEADERS), vec((select(&[0, 0, 0, 1, 2, 5][..]), text()), 0..5)).prop_map(|(header, lines)| Made::Block(header, lines)),
        1 => names().prop_map(Made::Alias),
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        let entries = vec((select(KEYS), inner.clone()), 0..5);
        let few = prop_oneof![4 => vec(("[a-f]{1,2}".prop_map(key), inner.clone()), 0..5), 2 => entries];
        let tags = &[
            "!!str", "!!int", "!!float", "!!bool", "!!null", "!!seq", "!!map", "!!binary", "!!set", "!own",
            "!", "!include",
        ][..];
        prop_oneof![
            4 => vec(inner.clone(), 0..5).prop_map(Made::List),
            6 => few.clone().prop_map(Made::Map),
            2 => vec(inner.clone(), 0..4).prop_map(Made::FlowList),
            2 => few.prop_map(Made::FlowMap),
            1 => (names(), inner.clone()).prop_map(|(name, made)| Made::Anchor(name, made.into())),
            1 => (select(tags), inner.clone()).prop_map(|(tag, made)| Made::Tag(tag, made.into())),
            1 => (select(COMMENTS), inner).prop_map(|(comment, made)| Made::Commented(comment, made.into())),
        ]
    })
}

/// A short key of the alphabet: most maps have none twice.
fn key(text: String) -> &'static str {
    const LETTERS: &[&str] = &["a", "b", "c", "d", "e", "f", "aa", "ab", "bc", "cd", "de", "ef", "fa"];
    let sum = text.bytes().map(usize::from).sum::<usize>() + text.len() * 7;
    LETTERS[sum % LETTERS.len()]
}

fn write(made: &Made, layout: &Layout) -> String {
    let mut text = layout.before.to_owned();
    value(made, 0, true, layout, &mut text);
    if layout.last_end && !text.ends_with('\n') {
        text.push('\n');
    }
    if !layout.after.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(layout.after);
    match layout.ends {
        "\n" => text,
        ends => text.replace('\n', ends),
    }
}

pub(crate) fn spaces(columns: usize) -> String {
    " ".repeat(columns)
}

/// Writes a value whose line is begun; `fresh` if nothing stands in it yet. `indent` is the column of its entries.
fn value(made: &Made, indent: usize, fresh: bool, layout: &Layout, text: &mut String) {
    let lines = |text: &mut String, fresh: bool, at: usize| {
        if !fresh && !text.ends_with('\n') {
            text.push('\n');
        }
        at
    };
    match made {
        Made::Plain(word) => text.push_str(word),
        Made::Quoted(quote, pieces) => {
            text.push(*quote);
            let inner = pieces.concat().replace('\n', &format!("\n{}", spaces(indent)));
            text.push_str(&match quote {
                '\'' => inner.replace('\'', "''"),
                _ => inner.replace("\"", "\\\"").replace("\\\\\"", "\\\""),
            });
            text.push(*quote);
        }
        Made::Block(header, body) => {
            text.push_str(header);
            for (more, pieces) in body {
                let line = pieces.concat().replace('\n', &format!("\n{}", spaces(indent)));
                text.push_str(&format!("\n{}{line}", spaces(indent + more)));
            }
        }
        Made::List(items) if items.is_empty() => text.push_str("[]"),
        Made::Map(entries) if entries.is_empty() => text.push_str("{}"),
        Made::List(items) => {
            let at = lines(text, fresh, indent);
            for (n, item) in items.iter().enumerate() {
                if n > 0 || !fresh {
                    begin(at, text);
                }
                text.push_str("- ");
                value(
                    item,
                    at + layout.step.max(2),
                    true,
                    &Layout { step: layout.step.max(2), ..layout.clone() },
                    text,
                );
                text.push('\n');
            }
        }
        Made::Map(entries) => {
            let at = lines(text, fresh, indent);
            for (n, (key, held)) in entries.iter().enumerate() {
                if n > 0 || !fresh {
                    begin(at, text);
                }
                text.push_str(key);
                text.push_str(": ");
                let flat = layout.flat && matches!(held, Made::List(_));
                value(held, if flat { at } else { at + layout.step }, false, layout, text);
                text.push('\n');
            }
        }
        Made::FlowList(items) => {
            flow(items.iter().map(|item| (None, item)), ['[', ']'], indent, layout, text)
        }
        Made::FlowMap(entries) => {
            flow(entries.iter().map(|(key, held)| (Some(*key), held)), ['{', '}'], indent, layout, text);
        }
        Made::Anchor(name, made) => {
            text.push_str(&format!("&{name} "));
            value(made, indent, false, layout, text);
        }
        Made::Alias(name) => text.push_str(&format!("*{name}")),
        Made::Tag(tag, made) => {
            text.push_str(&format!("{tag} "));
            value(made, indent, false, layout, text);
        }
        Made::Commented(comment, made) => {
            value(made, indent, fresh, layout, text);
            while text.ends_with('\n') {
                text.pop();
            }
            text.push_str(comment);
        }
    }
}

/// Begins a line.
fn begin(indent: usize, text: &mut String) {
    while text.ends_with("\n\n") {
        text.pop();
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&spaces(indent));
}

fn flow<'m>(
    entries: impl Iterator<Item = (Option<&'static str>, &'m Made)>,
    [open, close]: [char; 2],
    indent: usize,
    layout: &Layout,
    text: &mut String,
) {
    text.push(open);
    for (n, (key, held)) in entries.enumerate() {
        if n > 0 {
            text.push(',');
        }
        text.push_str(&if layout.tall { format!("\n{}", spaces(indent + 1)) } else { " ".to_owned() });
        if let Some(key) = key {
            text.push_str(key);
            text.push_str(": ");
        }
        value(held, indent + 1, false, layout, text);
    }
    if layout.tall {
        text.push_str(&format!("\n{}", spaces(indent)));
    }
    text.push(close);
}
