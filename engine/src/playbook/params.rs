//! The parameters of a step type, checked against the JSON Schema of its `Params`.

use super::{
    fields::{kind, short},
    raw::{Node, NodeValue},
    steps::{Around, StepReader},
    template::{Placed, fold_list, fold_map},
};
use crate::{
    diagnostic::{Code, Diagnostic, Span, did_you_mean},
    expr::{Expr, Kinds, ROOTS},
    playbook::Template,
    quantity::{Bytes, Millis},
};
use serde_json::Value;

impl StepReader<'_, '_> {
    /// A node as the template of a value that `schema` describes.
    pub(super) fn shaped(&mut self, node: &Node, schema: &Value, what: &str) -> Template {
        match schema.get("format").and_then(Value::as_str) {
            Some("condition") => return self.condition(node, what),
            Some("step") => return self.nested(node, what),
            _ => {}
        }
        if let NodeValue::Scalar(Value::String(text)) = &node.value
            && text.contains("${{")
        {
            let template = self.reader.text(text, node);
            if let Template::Expr(expr) = &template {
                self.reader.expect(what, &expected(schema), Kinds::of_schema(schema));
                self.constant(expr, schema, what);
            }
            if let (Template::Text(_), false) = (&template, allows(schema, "string")) {
                let message =
                    format!("`{what}`: expected {}, found text around an expression", expected(schema));
                let hint = "let one `${{ … }}` be the whole value: it keeps its type";
                self.reader.found.push(Diagnostic::error(Code::WrongType, message, node.span).hint(hint));
            }
            return template;
        }
        if let Some(chosen) = alternative(schema, node) {
            return self.shaped(node, chosen, what);
        }
        match &node.value {
            NodeValue::Map(entries) if allows(schema, "object") => {
                self.object(entries, node.span, schema, what)
            }
            NodeValue::Seq(items) if allows(schema, "array") => {
                let any = Value::Bool(true);
                let inner = schema.get("items").unwrap_or(&any);
                fold_list(items.iter().map(|item| self.shaped(item, inner, what)).collect())
            }
            NodeValue::Scalar(value) if fits(schema, value) => {
                self.check_scalar(value, node.span, schema, what);
                Template::Literal(value.clone())
            }
            _ => {
                let mut message = format!("`{what}`: expected {}, found {}", expected(schema), kind(node));
                let mut diagnostic = Diagnostic::error(Code::WrongType, String::new(), node.span);
                match &node.value {
                    NodeValue::Scalar(Value::Number(number))
                        if schema.get("format").is_some_and(|f| f == "duration") =>
                    {
                        diagnostic = diagnostic.hint(format!("add a unit: {number}s"));
                    }
                    NodeValue::Scalar(Value::Number(_) | Value::Bool(_)) if allows(schema, "string") => {
                        diagnostic = diagnostic.hint("put it in quotes");
                    }
                    NodeValue::Map(entries)
                        if entries.first().is_some_and(|(key, ..)| key.starts_with('{')) =>
                    {
                        diagnostic = diagnostic.hint("an expression is written \"${{ … }}\", in quotes");
                    }
                    NodeValue::Scalar(Value::Null) => {
                        message = format!("`{what}`: expected {}, found nothing", expected(schema))
                    }
                    _ => {}
                }
                diagnostic.message = message;
                self.reader.found.push(diagnostic);
                Template::Literal(Value::Null)
            }
        }
    }

    /// An expression without names and functions of the world has its value already.
    fn constant(&mut self, expr: &Expr, schema: &Value, what: &str) {
        let Some(span) = self.reader.exprs.last().map(Placed::span) else { return };
        match expr.constant() {
            None => {}
            Some(Err(error)) => {
                if let Some(last) = self.reader.exprs.last_mut() {
                    last.expected = None;
                }
                self.reader.found.push(Diagnostic::error(Code::BadValue, error.message, span));
            }
            // A value of another kind is reported with the others, once all names are known.
            Some(Ok(value)) if Kinds::of(&value).meets(Kinds::of_schema(schema)) => {
                self.check_scalar(&value, span, schema, what);
            }
            Some(Ok(_)) => {}
        }
    }

    fn object(
        &mut self,
        entries: &[(String, Span, Node)],
        span: Span,
        schema: &Value,
        what: &str,
    ) -> Template {
        let empty = serde_json::Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let additional = schema.get("additionalProperties");
        let mut made = Vec::new();
        let around = self.around_of(entries, properties);
        let outer = std::mem::replace(&mut self.around, around);
        for (key, key_span, value) in entries {
            match (properties.get(key), additional) {
                (Some(inner), _) => made.push((key.clone(), self.shaped(value, inner, key))),
                (None, Some(Value::Bool(false))) => {
                    let known = properties.keys().map(String::as_str);
                    let message = format!("`{what}`: unknown key `{}`", short(key));
                    let hint = did_you_mean(key, known.clone()).unwrap_or_else(|| {
                        format!("known keys are: {}", known.collect::<Vec<_>>().join(", "))
                    });
                    self.reader
                        .found
                        .push(Diagnostic::error(Code::UnknownKey, message, *key_span).hint(hint));
                }
                (None, Some(inner @ Value::Object(_))) => {
                    made.push((key.clone(), self.shaped(value, inner, key)))
                }
                (None, _) => made.push((key.clone(), self.reader.value(value))),
            }
        }
        self.around = outer;
        for required in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            if let Some(name) = required.as_str()
                && !entries.iter().any(|(key, ..)| key == name)
            {
                let message = format!("`{what}`: the key `{name}` is missing");
                self.reader.found.push(Diagnostic::error(Code::MissingKey, message, span));
            }
        }
        fold_map(made)
    }

    fn condition(&mut self, node: &Node, what: &str) -> Template {
        let from = self.reader.exprs.len();
        let template =
            self.reader.bare(what, node).map_or(Template::Literal(Value::Bool(true)), Template::Condition);
        let around = self.around.clone();
        self.conditions.extend((from..self.reader.exprs.len()).map(|index| (index, around.clone())));
        template
    }

    /// The steps among the parameters of a step type, as its conditions see them.
    fn around_of(
        &mut self,
        entries: &[(String, Span, Node)],
        properties: &serde_json::Map<String, Value>,
    ) -> Around {
        let mut around = Around::default();
        for (key, _, node) in entries {
            let (Some(schema), NodeValue::Map(inner)) = (properties.get(key), &node.value) else { continue };
            if holds_steps(schema) {
                for (name, span, step) in inner {
                    if ROOTS.contains(&name.as_str()) {
                        let message = format!("`{key}`: `{name}` is a name of the language");
                        let diagnostic = Diagnostic::error(Code::BadName, message, *span);
                        self.reader.found.push(diagnostic.hint("choose another name"));
                    }
                    around.watched.push((name.clone(), self.kind_in(step)));
                }
            } else if is_step(schema) {
                around.until = self.kind_in(node);
            }
        }
        around
    }

    /// The step type among the keys of a step.
    fn kind_in(&self, step: &Node) -> Option<String> {
        let NodeValue::Map(entries) = &step.value else { return None };
        let mut names = entries.iter().map(|(name, ..)| name);
        names.find(|name| self.registry.get(name).is_some()).cloned()
    }

    /// A read-only step inside of another's parameters.
    fn nested(&mut self, node: &Node, what: &str) -> Template {
        let Some(body) = self.body_of(node, what) else { return Template::Literal(Value::Null) };
        if !self.describe(&body).is_none_or(|description| description.effect.is_read_only()) {
            let message =
                format!("`{what}`: `{}` changes something here; expected a step that only reads", body.kind);
            let diagnostic = Diagnostic::error(Code::EffectInReadOnly, message, node.span);
            self.reader.found.push(match body.kind.as_str() {
                "command" | "ssh" | "redis" | "http" => {
                    diagnostic.hint("if it only reads, say so: reads: true")
                }
                _ => diagnostic,
            });
        }
        let mut entries = vec![(body.kind, body.params)];
        entries.extend(body.on.map(|on| ("on".to_owned(), on)));
        fold_map(entries)
    }

    fn check_scalar(&mut self, value: &Value, span: Span, schema: &Value, what: &str) {
        let problem = match (schema.get("format").and_then(Value::as_str), value) {
            (Some("duration"), Value::String(text)) => text.parse::<Millis>().err(),
            (Some("bytes"), Value::String(text)) => text.parse::<Bytes>().err(),
            _ => None,
        };
        if let Some(problem) = problem {
            let message = format!("`{what}`: {problem}");
            self.reader.found.push(Diagnostic::error(Code::BadValue, message, span));
        }
        if let Some(allowed) = choices(schema)
            && !allowed.contains(value)
        {
            let names: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
            let shown = value.as_str().map_or(value.to_string(), str::to_owned);
            let message = format!("`{what}`: unknown value `{}`", short(&shown));
            let hint = did_you_mean(&shown, names.iter().copied())
                .unwrap_or_else(|| format!("expected one of: {}", names.join(", ")));
            self.reader.found.push(Diagnostic::error(Code::BadValue, message, span).hint(hint));
        }
        let number = value.as_f64();
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        if let Some(number) = number {
            let below = bound("minimum").filter(|minimum| number < *minimum);
            let above = bound("maximum").filter(|maximum| number > *maximum);
            let message = match (below, above) {
                (Some(minimum), _) => format!("`{what}`: expected at least {minimum}, found {value}"),
                (_, Some(maximum)) => format!("`{what}`: expected at most {maximum}, found {value}"),
                _ => return,
            };
            self.reader.found.push(Diagnostic::error(Code::BadValue, message, span));
        }
    }
}

/// Whether a schema is a map of nested steps, such as `wait.watch`.
fn holds_steps(schema: &Value) -> bool {
    schema.pointer("/additionalProperties/format").and_then(Value::as_str) == Some("step")
        || branches(schema).iter().any(|branch| holds_steps(branch))
}

/// Whether a schema is a nested step, such as `wait.until`.
fn is_step(schema: &Value) -> bool {
    schema.get("format").and_then(Value::as_str) == Some("step")
        || branches(schema).iter().any(|branch| is_step(branch))
}

fn branches(schema: &Value) -> Vec<&Value> {
    ["anyOf", "oneOf"].iter().filter_map(|key| schema.get(key)?.as_array()).flatten().collect()
}

/// Of alternatives, the one that a node is meant to be.
fn alternative<'s>(schema: &'s Value, node: &Node) -> Option<&'s Value> {
    if choices(schema).is_some() {
        return None;
    }
    let branches = branches(schema);
    let fitting =
        branches.iter().find(|branch| match (&node.value, branch.get("format").and_then(Value::as_str)) {
            (NodeValue::Map(_), Some("step")) => true,
            (NodeValue::Map(_), _) => allows(branch, "object"),
            (NodeValue::Seq(_), _) => allows(branch, "array"),
            (NodeValue::Scalar(value), _) => fits(branch, value),
        });
    fitting.or_else(|| branches.iter().find(|branch| !fits(branch, &Value::Null))).copied()
}

/// The values of an `enum`, or of a `oneOf` of constants.
fn choices(schema: &Value) -> Option<Vec<Value>> {
    if let Some(list) = schema.get("enum").and_then(Value::as_array) {
        return Some(list.iter().filter(|value| !value.is_null()).cloned().collect());
    }
    let mut all = Vec::new();
    for branch in branches(schema) {
        match (branch.get("const"), branch.get("enum").and_then(Value::as_array)) {
            (Some(constant), _) => all.push(constant.clone()),
            (None, Some(list)) => all.extend(list.iter().cloned()),
            (None, None) if branch.get("type").and_then(Value::as_str) == Some("null") => {}
            (None, None) => return None,
        }
    }
    (!all.is_empty()).then_some(all)
}

/// Whether a schema allows values of a JSON type.
fn allows(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == name || (only == "number" && name == "integer"),
        Some(Value::Array(types)) => {
            types.iter().any(|ty| ty == name || (ty == "number" && name == "integer"))
        }
        _ => match branches(schema) {
            branches if !branches.is_empty() => branches.iter().any(|branch| allows(branch, name)),
            _ if schema.get("const").is_some() || schema.get("enum").is_some() => name == "string",
            _ => true,
        },
    }
}

fn fits(schema: &Value, value: &Value) -> bool {
    let name = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    allows(schema, name)
}

/// What a schema expects, in words.
fn expected(schema: &Value) -> String {
    match schema.get("format").and_then(Value::as_str) {
        Some("duration") => return "a duration such as `10s`".into(),
        Some("bytes") => return "a size such as `10MB`".into(),
        _ => {}
    }
    let names = [
        ("string", "text"),
        ("integer", "a whole number"),
        ("number", "a number"),
        ("boolean", "true or false"),
        ("array", "a list"),
        ("object", "a map"),
    ];
    let number = allows(schema, "number");
    let wanted: Vec<&str> = names
        .iter()
        .filter(|(ty, _)| allows(schema, ty) && !(*ty == "integer" && number))
        .map(|(_, words)| *words)
        .collect();
    match wanted.as_slice() {
        [] => "another value".into(),
        words => words.join(" or "),
    }
}
