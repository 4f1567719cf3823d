//! From a node to a template: finds `${{ … }}` and compiles what stands inside, with places.

use super::raw::{Node, NodeValue};
use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, Span},
    expr::Expr,
    playbook::{Part, Template},
};
use serde_json::Value;

/// An expression that was read, with where its text begins in the source. `exact` is false where escapes or folding
/// make the place of a name inside of it unsure: then `span` is that of the whole value.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) expr: Expr,
    pub(super) span: Span,
    pub(super) exact: bool,
    /// Whether it is a bare condition rather than a value.
    pub(super) condition: bool,
}

impl Placed {
    /// The place of a part of the expression's text.
    pub(super) fn place(&self, range: &std::ops::Range<usize>) -> Span {
        match self.exact {
            true => Span::new(self.span.start + range.start, self.span.start + range.end),
            false => self.span,
        }
    }
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
                self.compile(text, self.inside(node, text, 0), node.span, true)
            }
            NodeValue::Scalar(Value::Bool(flag)) => self.compile(&flag.to_string(), None, node.span, true),
            _ => {
                let message = format!("`{key}`: expected an expression, found {}", super::fields::kind(node));
                self.found.push(Diagnostic::error(Code::WrongType, message, node.span));
                None
            }
        }
    }

    /// Where `part` of a scalar's value stands in the source, if the value stands there letter by letter.
    fn inside(&self, node: &Node, part: &str, after: usize) -> Option<Span> {
        let raw = self.found.sources().slice(node.span)?;
        let at = raw.get(after.min(raw.len())..)?.find(part)? + after.min(raw.len());
        Some(Span::new(node.span.start + at, node.span.start + at + part.len()))
    }

    fn compile(&mut self, text: &str, exact: Option<Span>, whole: Span, condition: bool) -> Option<Expr> {
        match Expr::compile(text) {
            Ok(expr) => {
                let span = exact.unwrap_or(whole);
                self.exprs.push(Placed { expr: expr.clone(), span, exact: exact.is_some(), condition });
                Some(expr)
            }
            Err(error) => {
                let span = exact.map_or(whole, |exact| {
                    Span::new(
                        exact.start + error.range.start,
                        exact.start + error.range.end.max(error.range.start),
                    )
                });
                self.found.push(Diagnostic::error(Code::Syntax, error.message, span));
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
        let mut after = 0;
        while let Some(open) = rest.find("${{") {
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            let inside = &rest[open + 3..];
            let Some(close) = end_of(inside) else {
                let span = self.inside(node, "${{", after).unwrap_or(node.span);
                let diagnostic = Diagnostic::error(Code::Syntax, "this `${{` has no `}}`", span);
                self.found.push(diagnostic.hint("an expression ends with `}}`"));
                return Template::Literal(Value::String(text.to_owned()));
            };
            let expression = inside[..close].trim();
            let place = self.inside(node, expression, after);
            if let Some(place) = place {
                after = place.end - node.span.start;
            }
            match self.compile(expression, place, node.span, false) {
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
            _ => Template::Text(parts),
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
