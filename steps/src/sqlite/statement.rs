//! How many statements a text of SQL holds.

/// Counts them as the SQLite shell would part them: a semicolon within a text, a name, a comment or the body of a trigger
/// parts nothing.
pub(super) fn count(sql: &str) -> usize {
    let (mut count, mut words) = (0, Vec::<String>::new());
    let mut chars = sql.chars().peekable();
    // Within the statement: whether anything but blanks and comments was met.
    let mut begun = false;
    while let Some(c) = chars.next() {
        match c {
            '-' if chars.peek() == Some(&'-') => {
                chars.by_ref().find(|c| *c == '\n');
            }
            '/' if chars.peek() == Some(&'*') => {
                chars.next();
                let mut star = false;
                chars.by_ref().find(|c| std::mem::replace(&mut star, *c == '*') && *c == '/');
            }
            '\'' | '"' | '`' | '[' => {
                // A doubled quote only begins the next text at once.
                let end = if c == '[' { ']' } else { c };
                chars.by_ref().find(|c| *c == end);
                begun = true;
                words.push(String::new());
            }
            ';' => {
                let body = is_trigger(&words) && !ends_body(&words);
                words.push(";".into());
                if !body {
                    count += usize::from(begun);
                    (begun, words) = (false, Vec::new());
                }
            }
            c if c.is_whitespace() => {}
            c => {
                begun = true;
                let mut word = c.to_uppercase().to_string();
                while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    word.extend(c.to_uppercase());
                }
                words.push(word);
            }
        }
    }
    count + usize::from(begun)
}

fn is_trigger(words: &[String]) -> bool {
    let words: Vec<&str> = words.iter().take(3).map(String::as_str).collect();
    matches!(words.as_slice(), ["CREATE", "TRIGGER", ..] | ["CREATE", "TEMP" | "TEMPORARY", "TRIGGER"])
}

/// `END` after a semicolon ends the body; the one of a `CASE` stands after none.
fn ends_body(words: &[String]) -> bool {
    matches!(words, [.., semicolon, end] if semicolon == ";" && end == "END")
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn statements_are_counted_as_sqlite_parts_them() {
        for (sql, expected) in [
            ("", 0),
            (" ; -- nothing;\n", 0),
            ("DELETE FROM t", 1),
            ("DELETE FROM t;", 1),
            ("DELETE FROM t; -- done; all", 1),
            ("UPDATE t SET a = 'x;y''; z' WHERE \"b;\" = [c;] /* ; */", 1),
            ("DELETE FROM t; DELETE FROM u", 2),
            ("DELETE FROM t;\nDELETE FROM u;\n", 2),
            (
                "CREATE TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM u; SELECT CASE 1 WHEN 1 THEN 2 END; END;",
                1,
            ),
            ("create temp trigger r after insert on t begin delete from u; end; select 1", 2),
            ("CREATE TABLE trigger_like (a); DROP TABLE x", 2),
        ] {
            assert_eq!(count(sql), expected, "{sql}");
        }
    }
}
