//! From a node to a template: finds `${{ … }}` and compiles what stands inside, with places.

use super::{
    raw::{Node, NodeValue},
    scalar::Origins,
};
use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, Span},
    expr::{Expr, Kinds},
    playbook::{Part, Template},
};
use serde_json::Value;
use std::ops::Range;

/// An expression that was read, and where.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) expr: Expr,
    /// The place of the whole value that it stands in.
    whole: Span,
    /// The origins of that value, and where in it the expression begins; none where an alias stands for it.
    origins: Option<(Origins, usize)>,
    /// Whether it is a bare condition rather than a value.
    pub(super) condition: bool,
    /// What its value must be, if its place says so.
    pub(super) expected: Option<Expected>,
}

/// What the value of an expression must be.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// The key, or another name for the place.
    pub(super) what: String,
    /// What is expected, in words.
    pub(super) words: String,
    /// The kinds that fit.
    pub(super) kinds: Kinds,
}

impl Placed {
    /// The place of the expression.
    pub(super) fn span(&self) -> Span {
        self.place(&(0..self.expr.text().len()))
    }

    /// The place of a part of the expression's text.
    pub(super) fn place(&self, range: &Range<usize>) -> Span {
        place(self.origins.as_ref(), range).unwrap_or(self.whole)
    }
}

fn place(origins: Option<&(Origins, usize)>, range: &Range<usize>) -> Option<Span> {
    let (origins, begin) = origins?;
    origins.place(begin + range.start, begin + range.end)
}

/// Compiles expressions and remembers all of them.
pub(super) struct Reader<'a> {
    pub(super) found: &'a mut Diagnostics,
    pub(super) exprs: Vec<Placed>,
}

impl Reader<'_> {
    /// A bare expression such as the value of `when`.
    pub(super) fn bare(&mut self, key: &str, node: &Node) -> Option<Expr> {
        match &node.value {
            NodeValue::Scalar(Value::String(text)) if text.trim_start().starts_with("${{") => {
                let message = format!("`{key}` holds a bare expression, without `${{{{ }}}}`");
                let inner = text.trim().trim_start_matches("${{").trim_end_matches("}}").trim();
                let hint = format!("write: {key}: {inner}");
                self.found.push(Diagnostic::error(Code::Syntax, message, node.span).hint(hint));
                None
            }
            NodeValue::Scalar(Value::String(text)) => {
                let origins = self.origins(node, text).map(|origins| (origins, 0));
                self.compile(text, origins, node.span, true)
            }
            NodeValue::Scalar(Value::Bool(flag)) => self.compile(&flag.to_string(), None, node.span, true),
            _ => {
                let message = format!("`{key}`: expected an expression, found {}", super::fields::kind(node));
                self.found.push(Diagnostic::error(Code::WrongType, message, node.span));
                None
            }
        }
    }

    /// Where the bytes of a scalar's value come from.
    fn origins(&self, node: &Node, value: &str) -> Option<Origins> {
        Origins::of(self.found.sources().slice(node.span)?, value, node.span.start)
    }

    /// Says what the value of the expression that was read last must be.
    pub(super) fn expect(&mut self, what: &str, words: &str, kinds: Kinds) {
        if let Some(last) = self.exprs.last_mut() {
            last.expected = Some(Expected { what: what.to_owned(), words: words.to_owned(), kinds });
        }
    }

    fn compile(
        &mut self,
        text: &str,
        origins: Option<(Origins, usize)>,
        whole: Span,
        condition: bool,
    ) -> Option<Expr> {
        match Expr::compile(text) {
            Ok(expr) => {
                let expected = condition.then(|| Expected {
                    what: "this condition".into(),
                    words: "true or false".into(),
                    kinds: Kinds::BOOL,
                });
                self.exprs.push(Placed { expr: expr.clone(), whole, origins, condition, expected });
                Some(expr)
            }
            Err(error) => {
                let span = place(origins.as_ref(), &error.range).unwrap_or(whole);
                let diagnostic = Diagnostic::error(Code::Syntax, error.message, span);
                self.found.push(match error.hint {
                    Some(hint) => diagnostic.hint(hint),
                    None => diagnostic,
                });
                None
            }
        }
    }

    /// A value in which expressions may stand anywhere.
    pub(super) fn value(&mut self, node: &Node) -> Template {
        match &node.value {
            NodeValue::Scalar(Value::String(text)) => self.text(text, node),
            NodeValue::Scalar(value) => Template::Literal(value.clone()),
            NodeValue::Seq(items) => {
                let items: Vec<Template> = items.iter().map(|item| self.value(item)).collect();
                fold_list(items)
            }
            NodeValue::Map(entries) => {
                let entries =
                    entries.iter().map(|(key, _, value)| (key.clone(), self.value(value))).collect();
                fold_map(entries)
            }
        }
    }

    /// Text with `${{ … }}` in it.
    pub(super) fn text(&mut self, text: &str, node: &Node) -> Template {
        let mut parts = Vec::new();
        let mut rest = text;
        let origins = text.contains("${{").then(|| self.origins(node, text)).flatten();
        let first = self.exprs.len();
        while let Some(open) = rest.find("${{") {
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            let begin = text.len() - rest.len() + open;
            let inside = &rest[open + 3..];
            let Some(close) = end_of(inside) else {
                let span = origins.as_ref().and_then(|origins| origins.place(begin, begin + 3));
                let span = span.unwrap_or(node.span);
                let diagnostic = Diagnostic::error(Code::Syntax, "this `${{` has no `}}`", span);
                self.found.push(diagnostic.hint("an expression ends with `}}`"));
                return Template::Literal(Value::String(text.to_owned()));
            };
            let blank = inside.len() - inside.trim_start().len();
            let place = origins.clone().map(|origins| (origins, begin + 3 + blank.min(close)));
            match self.compile(inside[..close].trim(), place, node.span, false) {
                Some(expr) => parts.push(Part::Expr(expr)),
                None => return Template::Literal(Value::String(text.to_owned())),
            }
            rest = &inside[close + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        match parts.as_slice() {
            [] => Template::Literal(Value::String(String::new())),
            [Part::Text(_)] => {
                if text.contains("{{") && text.contains("}}") {
                    let warning = Diagnostic::warning(
                        Code::Syntax,
                        "this text holds `{{ }}`, which is no expression",
                        node.span,
                    );
                    self.found.push(warning.hint("an expression is written `${{ … }}`"));
                }
                Template::Literal(Value::String(text.to_owned()))
            }
            [Part::Expr(expr)] => Template::Expr(expr.clone()),
            _ => {
                for placed in &mut self.exprs[first..] {
                    placed.expected = Some(Expected {
                        what: "inside of text".into(),
                        words: "text, a number or a truth value".into(),
                        kinds: Kinds::TEXT | Kinds::NUMBER | Kinds::BOOL,
                    });
                }
                Template::Text(parts)
            }
        }
    }
}

/// Where `}}` ends an expression: not inside of text.
fn end_of(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') if depth > 0 => depth -= 1,
            (None, '}') if text[at..].starts_with("}}") => return Some(at),
            (None, _) => {}
        }
    }
    None
}

/// A list is a literal if all of it is.
pub(super) fn fold_list(items: Vec<Template>) -> Template {
    let literal: Option<Vec<Value>> = items.iter().map(literal).collect();
    literal.map_or(Template::List(items), |values| Template::Literal(Value::Array(values)))
}

/// A map is a literal if all of it is.
pub(super) fn fold_map(entries: Vec<(String, Template)>) -> Template {
    let all: Option<serde_json::Map<String, Value>> =
        entries.iter().map(|(key, value)| Some((key.clone(), literal(value)?))).collect();
    all.map_or(Template::Map(entries), |map| Template::Literal(Value::Object(map)))
}

fn literal(template: &Template) -> Option<Value> {
    match template {
        Template::Literal(value) => Some(value.clone()),
        _ => None,
    }
}
