//! Text of SQL: names in double quotes, literals, and the `:name` of parameters. Values are bound, never pasted.

use engine::{ErrorClass, StepError};

/// A statement with `$1`, `$2` … in place of its names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) text: String,
    /// Which name stands behind each number.
    pub(super) names: Vec<String>,
}

/// An identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A literal, for a command that a person types.
pub(super) fn literal(text: &str) -> String {
    match text.contains('\\') {
        true => format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''")),
        false => format!("'{}'", text.replace('\'', "''")),
    }
}

/// The parts of a table's name, such as `public.files` or `"My Schema"."T"`: each with whether it stands in quotes.
pub(super) fn parts(name: &str) -> Option<Vec<(String, bool)>> {
    let mut parts = Vec::new();
    let mut rest = name;
    loop {
        if let Some(inner) = rest.strip_prefix('"') {
            let mut part = String::new();
            let mut chars = inner.char_indices().peekable();
            let end = loop {
                match chars.next()? {
                    (_, '"') if chars.next_if(|(_, c)| *c == '"').is_some() => part.push('"'),
                    (at, '"') => break at + 1,
                    (_, c) => part.push(c),
                }
            };
            parts.push((part, true));
            rest = &inner[end..];
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            parts.push((rest[..end].to_owned(), false));
            rest = &rest[end..];
        }
        if parts.last().is_none_or(|(part, _)| part.is_empty()) || parts.len() > 2 {
            return None;
        }
        match rest.strip_prefix('.') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Some(parts),
            None => return None,
        }
    }
}

/// Whether the statement begins with one of these words.
pub(super) fn begins_with(text: &str, words: &[&str]) -> bool {
    let mut rest = text.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    while let Some(end) = comment(rest) {
        rest = rest[end..].trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    words.iter().any(|one| one.eq_ignore_ascii_case(&word))
}

/// Whether there are only semicolons and comments.
fn is_blank(text: &str) -> bool {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        match comment(rest) {
            Some(end) => rest = &rest[end..],
            None => return rest.is_empty(),
        }
    }
}

/// Where a comment ends that the text begins with.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("--") {
        return Some(text.find('\n').map_or(text.len(), |at| at + 1));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    Some(text.len())
}

/// Where something ends that is no SQL to look into: a comment, a text or a name in quotes.
fn closed(text: &str, before: Option<char>) -> Option<usize> {
    let first = text.chars().next()?;
    match first {
        '-' | '/' => comment(text),
        '\'' => Some(quoted_end(text, '\'', matches!(before, Some('e' | 'E')))),
        '"' => Some(quoted_end(text, '"', false)),
        '$' if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') => {
            let tag = text[1..].find('$').map(|at| &text[..at + 2])?;
            let inner = &tag[1..tag.len() - 1];
            let is_tag = inner.chars().all(|c| c.is_alphanumeric() || c == '_')
                && !inner.starts_with(|c: char| c.is_ascii_digit());
            let end = || text[tag.len()..].find(tag).map_or(text.len(), |at| at + 2 * tag.len());
            is_tag.then(end)
        }
        _ => None,
    }
}

fn quoted_end(text: &str, quote: char, escapes: bool) -> usize {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if escapes && c == '\\' {
            let _escaped = chars.next();
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}

/// Whether a second statement follows the first one. What stands in parentheses belongs to a rule, and the body of a
/// function may be a list of statements (`BEGIN ATOMIC`).
pub(super) fn is_several(sql: &str) -> bool {
    let atomic = |word: &str| word.eq_ignore_ascii_case("atomic");
    if sql.split(|c: char| !c.is_alphanumeric()).any(atomic) {
        return false;
    }
    let (mut rest, mut before, mut depth) = (sql, None, 0i32);
    while let Some(first) = rest.chars().next() {
        match first {
            '(' => depth += 1,
            ')' => depth -= 1,
            ';' if depth <= 0 => return !is_blank(rest),
            _ => {}
        }
        let taken = closed(rest, before).unwrap_or(first.len_utf8());
        (before, rest) = (rest[..taken].chars().next_back(), &rest[taken..]);
    }
    false
}

/// Puts numbers in place of `:name`.
///
/// # Errors
/// The statement has numbers of its own.
pub(super) fn named(sql: &str) -> Result<Named, StepError> {
    let mut named = Named { text: String::with_capacity(sql.len()), names: Vec::new() };
    let mut rest = sql.trim_end();
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        // A semicolon at the end is nothing of the statement, and neither are comments behind it.
        if first == ';' && is_blank(rest) {
            break;
        }
        let mut taken = closed(rest, before).unwrap_or(first.len_utf8());
        let in_a_name = before.is_some_and(|c: char| c.is_alphanumeric() || c == '_');
        let numbered = first == '$' && rest[1..].starts_with(|c: char| c.is_ascii_digit());
        if numbered && !in_a_name {
            return Err(StepError::new(ErrorClass::Invalid, "`$1` has no name")
                .hint("write `:name` and give its value in `params`"));
        }
        if rest.starts_with("::") || rest.starts_with(":=") {
            taken = 2;
        } else if first == ':' {
            let name: String = rest[1..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
                let number = match named.names.iter().position(|known| *known == name) {
                    Some(at) => at + 1,
                    None => {
                        named.names.push(name.clone());
                        named.names.len()
                    }
                };
                named.text.push_str(&format!("${number}"));
                (before, rest) = (Some('0'), &rest[1 + name.len()..]);
                continue;
            }
        }
        named.text.push_str(&rest[..taken]);
        (before, rest) = (rest[..taken].chars().next_back(), &rest[taken..]);
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::{begins_with, is_several, literal, named, parts};

    #[test]
    fn names_become_numbers_and_nothing_else_does() {
        for (sql, text, names) in [
            ("SELECT :a, :b, :a", "SELECT $1, $2, $1", vec!["a", "b"]),
            ("SELECT x::text, a[1:2] WHERE b = :名;\n ; ", "SELECT x::text, a[1:2] WHERE b = $1", vec!["名"]),
            (
                "SELECT ':a', \":a\", 'it''s :a', E'\\':a', '\\'",
                "SELECT ':a', \":a\", 'it''s :a', E'\\':a', '\\'",
                vec![],
            ),
            (
                "SELECT $$:a$$, $t$ $$ :a $t$, :b -- :c\n/* :d /* :e */ :f */, :g",
                "SELECT $$:a$$, $t$ $$ :a $t$, $1 -- :c\n/* :d /* :e */ :f */, $2",
                vec!["b", "g"],
            ),
            ("f(x := :a)", "f(x := $1)", vec!["a"]),
            ("SELECT 1; -- :a\n ;/* ; */", "SELECT 1", vec![]),
            ("SELECT 1; SELECT :a", "SELECT 1; SELECT $1", vec!["a"]),
            ("SELECT 'open :a", "SELECT 'open :a", vec![]),
            ("SELECT 5 - :a / :b", "SELECT 5 - $1 / $2", vec!["a", "b"]),
        ] {
            let found = named(sql).expect(sql);
            assert_eq!(
                (found.text.as_str(), found.names),
                (text, names.into_iter().map(str::to_owned).collect()),
                "{sql}"
            );
        }
        assert!(named("SELECT $1").expect_err("a number").message.contains("no name"));
    }

    #[test]
    fn a_table_is_named_with_or_without_schema_and_quotes() {
        let plain = |text: &str| (text.to_owned(), false);
        let exact = |text: &str| (text.to_owned(), true);
        assert_eq!(parts("媒体"), Some(vec![plain("媒体")]));
        assert_eq!(parts("a.T"), Some(vec![plain("a"), plain("T")]));
        assert_eq!(parts("\"a.\"\"b\".c"), Some(vec![exact("a.\"b"), plain("c")]));
        for wrong in ["", "a.", ".a", "a.b.c", "\"a", "\"a\"b"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
        assert_eq!(literal("it's \\ 文"), "E'it''s \\\\ 文'");
    }

    #[test]
    fn a_second_statement_is_seen_where_one_is() {
        for (sql, several) in [
            ("DELETE FROM a; DELETE FROM b", true),
            ("DELETE FROM a; -- one\n ; /* ; */", false),
            ("INSERT INTO a VALUES (';'); ", false),
            ("SELECT $$ a; b $$, \"c;d\"", false),
            (
                "CREATE RULE r AS ON INSERT TO t DO (INSERT INTO a VALUES (1); INSERT INTO b VALUES (2))",
                false,
            ),
            ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END", false),
            ("SELECT 1;;SELECT 2", true),
        ] {
            assert_eq!(is_several(sql), several, "{sql}");
        }
    }

    #[test]
    fn the_first_word_is_found_behind_comments() {
        assert!(begins_with("-- x\n /* y /* z */ */ (( select 1", &["SELECT"]));
        assert!(!begins_with("/* select */ delete from t", &["SELECT"]));
        assert!(!begins_with("/*", &["SELECT"]));
    }
}
