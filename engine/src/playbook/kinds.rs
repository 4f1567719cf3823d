//! What kinds of values names have, told from params, vars and the outputs of step types, and whether an expression can
//! be what its place expects.

use super::{
    fields::short,
    model::{ParamType, StepDef, Template, global},
    names::{Allowed, Names},
    template::Placed,
};
use crate::{
    diagnostic::{Code, Diagnostic, did_you_mean},
    expr::{Clash, Kinds},
};
use serde_json::Value;
use std::rc::Rc;

/// How far vars are followed that are made of vars.
const MAX_DEPTH: usize = 16;

/// A field that a value does not have.
pub(super) struct NoField {
    /// Which part of the path, from 0.
    pub(super) at: usize,
    /// The fields that it has.
    pub(super) known: Vec<String>,
}

impl NoField {
    /// The nearest of the fields that there are, or all.
    pub(super) fn hint(&self, name: &str, there_are: &str) -> String {
        did_you_mean(name, self.known.iter().map(String::as_str))
            .unwrap_or_else(|| format!("{there_are}: {}", self.known.join(", ")))
    }
}

/// Follows a path through the schema of an output.
pub(super) fn walk(schema: &Value, path: &[String]) -> Result<Kinds, NoField> {
    let mut schema = schema;
    for (at, field) in path.iter().enumerate() {
        // An optional map is a choice between the map and null.
        let choices = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key)?.as_array());
        if let Some(choices) = choices {
            let mut real = choices.iter().filter(|choice| Kinds::of_schema(choice) != Kinds::NULL);
            match (real.next(), real.next()) {
                (Some(only), None) => schema = only,
                _ => return Ok(Kinds::ANY),
            }
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        match (properties.and_then(|properties| properties.get(field)), schema.get("additionalProperties")) {
            (Some(inner), _) | (None, Some(inner @ Value::Object(_))) => schema = inner,
            (None, Some(Value::Bool(true))) => return Ok(Kinds::ANY),
            (None, _) => match properties.filter(|properties| !properties.is_empty()) {
                Some(properties) => return Err(NoField { at, known: properties.keys().cloned().collect() }),
                None => return Ok(Kinds::ANY),
            },
        }
    }
    Ok(Kinds::of_schema(schema))
}

/// Follows a path through a value that is written in the playbook.
fn walk_template(template: &Template, path: &[String]) -> Option<Result<Template, NoField>> {
    let mut at_hand = template.clone();
    for (at, field) in path.iter().enumerate() {
        let known = match at_hand {
            Template::Map(entries) => match entries.iter().find(|(key, _)| key == field) {
                Some((_, inner)) => {
                    at_hand = inner.clone();
                    continue;
                }
                None => entries.into_iter().map(|(key, _)| key).collect(),
            },
            Template::Literal(Value::Object(map)) => match map.get(field) {
                Some(inner) => {
                    at_hand = Template::Literal(inner.clone());
                    continue;
                }
                None => map.keys().cloned().collect(),
            },
            _ => return None,
        };
        return Some(Err(NoField { at, known }));
    }
    Some(Ok(at_hand))
}

impl Names<'_> {
    /// Whether an expression can be what its place expects.
    pub(super) fn fits(&self, placed: &Placed, allowed: &Allowed) -> Option<Diagnostic> {
        let expected = placed.expected.as_ref()?;
        let found = placed.expr.kinds(&mut |path| self.kinds_of(path, allowed, MAX_DEPTH));
        if found.is_empty() || found.meets(expected.kinds) {
            return None;
        }
        let words = found.words();
        let what = match expected.what.as_str() {
            "this condition" | "inside of text" => expected.what.clone(),
            key => format!("`{}`", short(key)),
        };
        let message = format!("{what}: expected {}, and this expression is {words}", expected.words);
        let diagnostic = Diagnostic::error(Code::WrongType, message, placed.span()).label(words);
        let number = expected.kinds.meets(Kinds::NUMBER) && found == Kinds::TEXT;
        let text = expected.kinds.meets(Kinds::TEXT);
        Some(match () {
            () if number => diagnostic.hint("text becomes a number by `int(…)` or `double(…)`"),
            () if text && found == Kinds::LIST => diagnostic.hint("a list becomes text by `.join(\", \")`"),
            () if text && !found.meets(Kinds::MAP | Kinds::LIST | Kinds::NULL) => {
                let unit = if expected.words.contains("duration") { " + \"s\"" } else { "" };
                diagnostic.hint(format!("it becomes text by `string(…){unit}`"))
            }
            () if placed.condition => diagnostic.hint("compare it, as in `… == …`"),
            () => diagnostic,
        })
    }

    /// Operators whose operands can never go together.
    pub(super) fn operands(&self, placed: &Placed, allowed: &Allowed) -> Vec<Diagnostic> {
        let of_name = &mut |path: &[String]| self.kinds_of(path, allowed, MAX_DEPTH);
        let one = |clash: Clash| {
            let (operator, left, right) = (clash.operator, clash.left.words(), clash.right.words());
            let message = match clash.compares {
                true => format!("`{operator}` compares {left} with {right}: they are never equal"),
                false => format!("`{operator}` cannot go between {left} and {right}"),
            };
            let diagnostic = Diagnostic::error(Code::WrongType, message, placed.place(&clash.range));
            match clash.left.meets(Kinds::TEXT) || clash.right.meets(Kinds::TEXT) {
                true => diagnostic.hint("`string(…)` makes text of a value, `int(…)` a number of text"),
                false => diagnostic,
            }
        };
        placed.expr.clashes(of_name).into_iter().map(one).collect()
    }

    fn kinds_of(&self, path: &[String], allowed: &Allowed, depth: usize) -> Kinds {
        let field = path.get(1).map(String::as_str);
        if allowed.binds(&path[0]) {
            return Kinds::ANY;
        }
        match (path[0].as_str(), field) {
            ("params", Some(name)) if path.len() == 2 => {
                let param = self.spaces[allowed.space].params.iter().find(|param| param.name == name);
                param.map_or(Kinds::ANY, |param| of_param(param.ty))
            }
            ("vars", Some(name)) => {
                let vars = self.spaces[allowed.space].vars;
                let Some(var) = vars.iter().find(|var| var.name == name) else { return Kinds::ANY };
                match walk_template(&var.value, &path[2..]) {
                    Some(Ok(template)) => self.of_template(&template, allowed.space, depth),
                    _ => Kinds::ANY,
                }
            }
            ("run" | "secrets", Some(_)) => Kinds::TEXT,
            ("params" | "vars" | "run" | "secrets" | "hosts" | "steps", None) => Kinds::MAP,
            ("out", _) => match self.own_output(allowed) {
                Some(schema) => walk(&schema, &path[1..]).unwrap_or(Kinds::ANY),
                None => Kinds::ANY,
            },
            ("steps", Some(id)) => match path.get(2).map(String::as_str) {
                Some("status") if path.len() == 3 => Kinds::TEXT,
                Some("out") => {
                    match self.step_called(id, allowed.space).and_then(|step| self.output_of(step)) {
                        Some(schema) => walk(&schema, &path[3..]).unwrap_or(Kinds::ANY),
                        None => Kinds::ANY,
                    }
                }
                _ => Kinds::ANY,
            },
            _ => Kinds::ANY,
        }
    }

    /// The step that a text calls so.
    pub(super) fn step_called(&self, id: &str, space: usize) -> Option<&StepDef> {
        match self.spaces[space].include {
            None => self.by_id.get(id).copied(),
            include => self.by_id.get(global(include, id).as_str()).copied(),
        }
    }

    fn of_template(&self, template: &Template, space: usize, depth: usize) -> Kinds {
        match template {
            Template::Literal(value) => Kinds::of(value),
            Template::Text(_) => Kinds::TEXT,
            Template::List(_) => Kinds::LIST,
            Template::Map(_) => Kinds::MAP,
            Template::Expr(expr) | Template::Condition(expr) => match depth.checked_sub(1) {
                Some(depth) => {
                    let allowed = Allowed { space, ..Allowed::default() };
                    expr.kinds(&mut |path| self.kinds_of(path, &allowed, depth))
                }
                None => Kinds::ANY,
            },
        }
    }

    /// A field of a var that is written in the playbook and does not have it.
    pub(super) fn no_field_of_var(&self, path: &[String], space: usize) -> Option<NoField> {
        let var = self.spaces[space].vars.iter().find(|var| Some(&var.name) == path.get(1))?;
        walk_template(&var.value, &path[2..])?.err()
    }

    /// The schema of a step's output; none for one that runs several times, whose output holds those of all.
    pub(super) fn output_of(&self, step: &StepDef) -> Option<Rc<Value>> {
        let once = step.foreach.is_none() && self.inventory.group_of(step.body.on.as_ref()).is_none();
        once.then(|| self.schema(&step.body.kind)).flatten()
    }

    /// The schema of what `out` is in an expression.
    pub(super) fn own_output(&self, allowed: &Allowed) -> Option<Rc<Value>> {
        let kind = match (&allowed.out_kind, allowed.step) {
            (Some(kind), _) => kind,
            (None, Some(step)) if allowed.out => &self.steps.get(step)?.body.kind,
            _ => return None,
        };
        self.schema(kind)
    }

    /// The schema of the output of a step type; made once, for thousands of steps ask.
    pub(super) fn schema(&self, kind: &str) -> Option<Rc<Value>> {
        if let Some(known) = self.schemas.borrow().get(kind) {
            return Some(known.clone());
        }
        let schema = Rc::new(self.registry.get(kind)?.output_schema());
        self.schemas.borrow_mut().insert(kind.to_owned(), schema.clone());
        Some(schema)
    }
}

fn of_param(ty: ParamType) -> Kinds {
    match ty {
        ParamType::String | ParamType::Duration | ParamType::Path => Kinds::TEXT,
        ParamType::Int | ParamType::Bytes => Kinds::INT,
        ParamType::Number => Kinds::NUMBER,
        ParamType::Bool => Kinds::BOOL,
        ParamType::List => Kinds::LIST,
        ParamType::Map => Kinds::MAP,
    }
}
