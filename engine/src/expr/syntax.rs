//! What the parser of expressions has to say, in our words.

/// A message of the parser: it lists every token that it would have taken, and we do not.
pub(super) fn plain(message: &str) -> String {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let message = message.split(" expecting ").next().unwrap_or(message);
    let quoted = |from: &str| {
        let inside = from.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        inside.unwrap_or(from).to_owned()
    };
    for (theirs, is_token) in [
        ("mismatched input ", true),
        ("extraneous input ", true),
        ("no viable alternative at input ", true),
        ("token recognition error at: ", false),
    ] {
        let Some(rest) = message.strip_prefix(theirs) else { continue };
        let token = quoted(rest);
        return match token.trim() {
            "<EOF>" => "the expression ends too early: a value is missing".into(),
            token if !is_token && token.starts_with(['"', '\'']) => "this text has no closing quote".into(),
            token if is_token => format!("did not expect `{token}` here"),
            token => format!("`{token}` is no part of an expression"),
        };
    }
    if let Some((missing, at)) = message.strip_prefix("missing ").and_then(|rest| rest.split_once(" at ")) {
        return match quoted(at).as_str() {
            "<EOF>" => format!("the expression ends too early: `{}` is missing", quoted(missing)),
            at => format!("expected `{}` before `{at}`", quoted(missing)),
        };
    }
    let mut chars = message.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// What is often meant by what stands at the place of a syntax error or before it.
pub(super) fn hint(text: &str, at: usize) -> Option<String> {
    let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at))?;
    let (before, here) = text.split_at(at);
    let word = |word: &str| {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        here.strip_prefix(word).is_some_and(|rest| !rest.starts_with(part))
            || before.trim_end().strip_suffix(word).is_some_and(|rest| !rest.ends_with(part))
    };
    let single = |sign: char| {
        let double = [sign, sign].iter().collect::<String>();
        (here.starts_with(sign) || before.trim_end().ends_with(sign))
            && !here.starts_with(&double)
            && !before.trim_end().ends_with(&double)
            && !before.trim_end().ends_with(['=', '!', '<', '>'])
    };
    Some(match () {
        () if word("and") => "`and` is written `&&`".into(),
        () if word("or") => "`or` is written `||`".into(),
        () if word("not") => "`not` is written `!`".into(),
        () if word("is") => "`is` is written `==`".into(),
        () if single('=') => "equality is written `==`".into(),
        () if single('&') => "`and` is written `&&`".into(),
        () if single('|') => "`or` is written `||`".into(),
        () if here.starts_with('$') || here.starts_with("{{") => {
            "an expression stands in one `${{ }}`; inside of it names need no sign".into()
        }
        () => return None,
    })
}
