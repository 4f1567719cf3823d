//! Values that look like something else: a command, an option, an expression, an escape of a terminal.

/// Values that no step may take for anything but text, each with a name. None holds a NUL.
#[must_use]
pub fn hostile() -> Vec<(&'static str, String)> {
    let fixed = [
        ("substitution", "$(touch X)"),
        ("backticks", "`touch X`"),
        ("semicolon", "; touch X"),
        ("and", "&& touch X & touch X || touch X | touch X"),
        ("newline", "a\ntouch X\n"),
        ("carriage_return", "a\r\ntouch X\r"),
        ("quotes", "'\"'; touch X; '\"\\"),
        ("single_quote", "'"),
        ("backslash", "\\"),
        ("option", "-rf"),
        ("long_option", "--help"),
        ("one_dash", "-"),
        ("two_dashes", "--"),
        ("proxy", "-oProxyCommand=touch X"),
        ("empty", ""),
        ("blank", " \t "),
        ("glob", "*?[a-z]{a,b}"),
        ("home", "~/$HOME/${HOME}"),
        ("format", "%s%n%x%%"),
        ("expression", "${{ run.id }} ${{ 1/0 }}"),
        ("template", "{{playbook}} {{> x}} {{#each}}"),
        ("sql", "'); DROP TABLE t; --"),
        ("sql_name", ":v ?1 @v $v"),
        ("up", "../../X"),
        ("markup", "<script>alert(1)</script><img src=x onerror=alert(1)> &lt; ]]>"),
        ("markdown", "| a | [x](javascript:alert(1)) `code` **b** # h\n```\n- x"),
        ("terminal", "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[31m\u{9b}31m\u{7f}"),
        ("turned", "\u{202e}fdp.exe\u{202c}\u{2066}\u{200f}"),
        ("unseen", "a\u{200b}b\u{feff}c\u{2028}d\u{85}e\u{a0}f"),
        ("combining", "e\u{301}\u{20dd} 👩\u{200d}🚀 文件"),
        ("json", "{\"a\": [1, null]}"),
        ("yaml", "a: b\n- !!python/object/apply:os.system [touch X]\n&a *a"),
        ("number", "0644"),
        ("truth", "no"),
        ("null", "null"),
    ];
    let mut values: Vec<_> = fixed.map(|(name, value)| (name, value.to_owned())).into();
    values.push(("long", "x'\"$ ".repeat(20_000)));
    values
}

/// What may not reach a terminal or a page as it is: characters that a terminal obeys, that turn the direction of text, or
/// that nobody sees. Ends of lines may.
#[must_use]
pub fn raw(text: &str) -> Option<char> {
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.chars().find(|c| {
        obeyed(*c)
            || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    })
}
