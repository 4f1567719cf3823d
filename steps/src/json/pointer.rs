//! JSON Pointer, RFC 6901: where a value is in a document.

use super::tree::{Document, Kind, Node};
use engine::{ErrorClass, StepError, diagnostic::did_you_mean};

/// How many keys an error lists.
const LISTED: usize = 20;

/// The tokens of a pointer.
///
/// # Errors
/// It is none.
pub(super) fn parse(text: &str) -> Result<Vec<String>, StepError> {
    let invalid = |why: &str, hint: String| {
        let message =
            format!("`{}` is no JSON Pointer: {why}", text.escape_debug().to_string().replace("\\\"", "\""));
        StepError::new(ErrorClass::Invalid, message).hint(hint)
    };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let Some(rest) = text.strip_prefix('/') else {
        let hint = format!("did you mean `/{}`?", text.trim_start_matches(['$', '.']).replace('.', "/"));
        return Err(invalid("expected `/` at its start, or an empty text for the whole document", hint));
    };
    rest.split('/')
        .map(|token| {
            let mut made = String::new();
            let mut parts = token.split('~');
            made.push_str(parts.next().unwrap_or_default());
            for part in parts {
                let (c, tail) = match (part.strip_prefix('0'), part.strip_prefix('1')) {
                    (Some(tail), _) => ('~', tail),
                    (_, Some(tail)) => ('/', tail),
                    _ => {
                        let hint = "a `~` in a key is written `~0`, a `/` is written `~1`".to_owned();
                        return Err(invalid("expected `0` or `1` after `~`", hint));
                    }
                };
                made.push(c);
                made.push_str(tail);
            }
            Ok(made)
        })
        .collect()
}

/// The pointer of tokens.
pub(super) fn show<S: AsRef<str>>(tokens: &[S]) -> String {
    tokens.iter().map(|token| format!("/{}", token.as_ref().replace('~', "~0").replace('/', "~1"))).collect()
}

/// The place in an array that a token names: digits without zeros before them.
pub(super) fn index(token: &str) -> Option<usize> {
    let plain = token == "0" || (!token.starts_with('0') && token.bytes().all(|b| b.is_ascii_digit()));
    plain.then(|| token.parse().ok())?
}

/// One token further.
fn step<'a>(node: &'a Node, token: &str) -> Option<&'a Node> {
    match &node.kind {
        Kind::Array(items) => items.get(index(token)?),
        _ => node.member(token),
    }
}

/// The value there, if there is one.
pub(super) fn find<'a, S: AsRef<str>>(node: &'a Node, tokens: &[S]) -> Option<&'a Node> {
    tokens.iter().try_fold(node, |node, token| step(node, token.as_ref()))
}

/// The value there.
///
/// # Errors
/// There is none; the error names the longest part of the pointer that is there, and what is below.
pub(super) fn require<'a>(
    document: &'a Document,
    path: &str,
    tokens: &[String],
) -> Result<&'a Node, StepError> {
    let mut node = &document.root;
    for (i, token) in tokens.iter().enumerate() {
        match step(node, token) {
            Some(next) => node = next,
            None => return Err(missing(path, tokens, i, node)),
        }
    }
    Ok(node)
}

/// There is nothing at `tokens`: the first `depth` of them lead to `node`, and no further.
fn missing(path: &str, tokens: &[String], depth: usize, node: &Node) -> StepError {
    let there = match depth {
        0 => "the document".to_owned(),
        _ => format!("`{}`", show(&tokens[..depth])),
    };
    let token = tokens[depth].as_str();
    let (found, hint) = match &node.kind {
        Kind::Object(members) if members.is_empty() => ("an object without members".to_owned(), None),
        Kind::Object(members) => {
            let shown: Vec<String> =
                members.iter().take(LISTED).map(|member| format!("`{}`", member.key)).collect();
            let more = members.len().saturating_sub(LISTED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let near = did_you_mean(token, members.iter().map(|member| member.key.as_str()));
            (format!("an object with the keys {}{more}", shown.join(", ")), near)
        }
        Kind::Array(items) if items.is_empty() => ("an array without elements".to_owned(), None),
        Kind::Array(items) => {
            let what = format!("an array with the elements 0 to {}", items.len() - 1);
            let hint = index(token).is_none().then(|| format!("expected a number in place of `{token}`"));
            (what, hint)
        }
        _ => (format!("a value of the type {} and has nothing below", node.kind()), None),
    };
    let message = format!("`{path}` has nothing at `{}`: {there} is {found}", show(tokens));
    let error = StepError::new(ErrorClass::NotFound, message);
    match hint {
        Some(hint) => error.hint(hint),
        None => error.hint(format!("python3 -m json.tool {}", engine::host::shell_word(path))),
    }
}
