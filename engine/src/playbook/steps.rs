//! Reads steps: the keys that all have, and exactly one step type.

use super::{
    fields::{Fields, kind, short},
    include::{Context, Library, is_include},
    model::IncludeDef,
    raw::{Node, NodeValue},
    shown::shown,
    template::Reader,
};
use crate::{
    diagnostic::{Code, Diagnostic, Source, Span, did_you_mean},
    error::ErrorClass,
    event::Phase,
    expr::Kinds,
    playbook::{Body, Foreach, Inventory, Keep, RetryDef, StepDef, Template},
    registry::Registry,
    step::{Description, ParamsView},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, ops::Range, sync::Arc};

/// Which expressions (by position in [`Reader::exprs`]) may use which names.
#[derive(Clone, Debug)]
pub(super) struct Use {
    pub(super) exprs: Range<usize>,
    /// Whether `out` is this step's output.
    pub(super) out: bool,
    /// Names of a `watch`, with their step types.
    pub(super) watched: Vec<(String, Option<String>)>,
    /// Whether `steps` may be used.
    pub(super) steps: bool,
    /// The `as` of a `foreach`, if the step has one.
    pub(super) each: Option<Option<String>>,
    /// The step that the expression belongs to, if to one.
    pub(super) step: Option<usize>,
    /// The text it stands in: 0 is the playbook, 1 its first include.
    pub(super) space: usize,
    /// The step type of which `out` is the output, where that is a step inside of this one.
    pub(super) out_kind: Option<String>,
}

/// What the conditions among the parameters of a step type can see of the steps beside them.
#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    /// The names of a `watch`, with their step types.
    pub(super) watched: Vec<(String, Option<String>)>,
    /// The step type of an `until`.
    pub(super) until: Option<String>,
}

/// Reads the steps of a playbook.
pub(super) struct StepReader<'r, 'a> {
    pub(super) reader: &'r mut Reader<'a>,
    pub(super) registry: &'r Registry,
    pub(super) inventory: &'r Inventory,
    /// The steps inside of the one that is being read.
    pub(super) around: Around,
    /// Conditions among parameters: they may use `out` and the watched names.
    pub(super) conditions: Vec<(usize, Around)>,
    pub(super) uses: Vec<Use>,
    pub(super) steps: Vec<StepDef>,
    /// Their ids: thousands of steps are each looked for among all.
    pub(super) ids: BTreeMap<String, Span>,
    /// The playbook's own text.
    pub(super) main: Arc<Source>,
    /// Where steps are read.
    pub(super) context: Context,
    /// Finds fragments.
    pub(super) library: &'r dyn Library,
    pub(super) includes: Vec<IncludeDef>,
    pub(super) included_bytes: usize,
    /// Whether a limit of includes has been passed.
    pub(super) too_much: bool,
    /// Where the texts of fragments begin, by their names.
    pub(super) bases: BTreeMap<String, usize>,
    /// Names of hosts that stand in steps as they are; whether it is a step's own `on`.
    pub(super) on_places: Vec<(String, Span, bool)>,
}

pub(super) const STEP_KEYS: [&str; 14] = [
    "name",
    "needs",
    "when",
    "foreach",
    "as",
    "timeout",
    "retry",
    "expect",
    "undo",
    "keep",
    "continue_on_error",
    "on",
    "lock",
    "hint",
];

impl StepReader<'_, '_> {
    /// All steps of a phase.
    pub(super) fn phase(&mut self, phase: Phase, node: &Node) {
        let NodeValue::Map(entries) = &node.value else {
            if !matches!(node.value, NodeValue::Scalar(Value::Null)) {
                let message = format!("`{phase}`: expected a map of steps, found {}", kind(node));
                let diagnostic = Diagnostic::error(Code::WrongType, message, node.span);
                self.reader.found.push(match node.value {
                    NodeValue::Seq(_) => diagnostic.hint("give each step an id: `id:` instead of `- `"),
                    _ => diagnostic,
                });
            }
            return;
        };
        for (id, span, body) in entries {
            match is_include(body) {
                true => self.include(phase, id, *span, body),
                false => self.step(phase, id, *span, body),
            }
        }
    }

    /// Notes an id; `called` is what the text calls it.
    pub(super) fn new_id(&mut self, id: &str, called: &str, span: Span) {
        if let Some(first) = self.ids.get(id) {
            let message = format!("the step `{}` exists already", short(called));
            let hint = match self.includes.is_empty() {
                true => "ids are unique over all phases",
                false => "ids are unique over all phases; the steps of an include begin with its id and `_`",
            };
            let diagnostic = Diagnostic::error(Code::Duplicate, message, span).related(*first, "first here");
            self.reader.found.push(diagnostic.hint(hint));
        } else {
            self.ids.insert(id.to_owned(), span);
        }
    }

    fn step(&mut self, phase: Phase, id: &str, span: Span, node: &Node) {
        let valid = check_name(id, "a step's id", span);
        if let Some(diagnostic) = valid {
            self.reader.found.push(diagnostic);
        }
        let global = self.context.global(id);
        self.new_id(&global, id, span);
        let context = self.context.clone();
        let Some(mut fields) = Fields::of(node, "step", self.reader.found) else { return };
        context.fill(phase, &mut fields);
        let position = self.steps.len();
        let mut mark = self.reader.exprs.len();
        let alias_span = fields.peek("as").map_or(span, |node| node.span);
        let alias = fields.text("as", self.reader.found);
        let foreach_node = fields.take("foreach");
        let group = fields.peek("on").and_then(|node| match &node.value {
            NodeValue::Scalar(Value::String(name)) if self.inventory.has_group(name) => {
                Some((name, node.span))
            }
            _ => None,
        });
        if let (Some((name, at)), Some(_)) = (group, foreach_node) {
            let message =
                format!("`foreach` cannot go with the group `{name}`: the step runs once for each host");
            self.reader.found.push(Diagnostic::error(Code::Conflict, message, at));
        }
        let each = foreach_node.map(|_| alias.clone()).or(group.map(|_| None));
        let foreach = foreach_node.map(|(_, node)| Foreach { items: self.items(node), alias: alias.clone() });
        self.note(&mut mark, position, false, false, None);
        if let (None, Some(alias)) = (&foreach, &alias) {
            let message = format!("`as: {}` stands without `foreach`", short(alias));
            self.reader.found.push(Diagnostic::error(Code::Conflict, message, alias_span));
        }
        if let Some(alias) = &alias
            && crate::expr::ROOTS.contains(&alias.as_str())
        {
            let message = format!("`as`: `{alias}` is a name of the language");
            let diagnostic = Diagnostic::error(Code::BadName, message, alias_span);
            self.reader.found.push(diagnostic.hint("choose another name"));
        } else if let Some(alias) = &alias
            && let Some(diagnostic) = check_name(alias, "the name of an item", alias_span)
        {
            self.reader.found.push(diagnostic);
        }

        let name = fields.text("name", self.reader.found);
        let needs: Vec<_> = self.needs(&mut fields).into_iter().chain(context.needs()).collect();
        let keep = self.keep(&mut fields);
        let continue_on_error = fields.flag("continue_on_error", self.reader.found);
        let duration = json!({ "type": "string", "format": "duration" });
        let timeout = fields.take("timeout").map(|(_, node)| self.shaped(node, &duration, "timeout"));
        let retry = fields.take("retry").and_then(|(_, node)| self.retry(node));
        let lock = self.text_field(&mut fields, "lock");
        self.note(&mut mark, position, false, false, each.clone());
        let when = fields.take("when").and_then(|(_, node)| self.reader.bare("when", node));
        let hint = self.text_field(&mut fields, "hint");
        let on = self.text_field(&mut fields, "on");
        self.note(&mut mark, position, false, true, each.clone());
        let expect = fields.take("expect").and_then(|(_, node)| self.reader.bare("expect", node));
        self.note(&mut mark, position, true, true, each.clone());
        let undo_node = fields.take("undo");
        let undo = undo_node.and_then(|(_, node)| self.body_of(node, "undo"));
        if let (Some(undo), Some((_, node))) = (&undo, undo_node) {
            self.check_final(undo, node.span);
        }
        self.note(&mut mark, position, false, true, each.clone());
        let body = self.kind_of(&mut fields, span, on);
        self.note(&mut mark, position, false, true, each);
        fields.finish(&self.registry.kinds(), self.reader.found);
        let Some(body) = body else { return };
        if phase == Phase::Cleanup {
            self.check_final(&body, span);
        }
        let undo = undo.map(|undo| Body { on: self.undo_host(&undo, &body), ..undo });
        if let Some(description) = self.describe(&body) {
            let reads = description.effect.is_read_only();
            if !reads && matches!(phase, Phase::Precheck | Phase::OnFailure) {
                let message = format!("`{}` changes something, and `{phase}` may only read", short(id));
                let diagnostic = Diagnostic::error(Code::EffectInReadOnly, message, span);
                self.reader.found.push(match body.kind.as_str() {
                    "command" | "ssh" => {
                        diagnostic.hint("if it only reads, say so: reads: true; else move it to `prepare`")
                    }
                    _ => diagnostic.hint("move it to `prepare`, where it is undone, or to `cleanup`"),
                });
            }
            if let (true, Some((undo, _))) = (reads, undo_node) {
                let message = format!("`{}` only reads: its `undo` is never used", short(id));
                self.reader.found.push(Diagnostic::warning(Code::Unused, message, undo));
            }
        }
        self.steps.push(StepDef {
            id: global,
            include: context.include,
            phase,
            name,
            needs,
            when,
            foreach,
            timeout,
            retry,
            expect,
            undo,
            keep,
            continue_on_error,
            lock,
            hint,
            body,
            span,
        });
    }

    /// Notes what the expressions read since `mark` may use.
    fn note(&mut self, mark: &mut usize, step: usize, out: bool, steps: bool, each: Option<Option<String>>) {
        let conditions = std::mem::take(&mut self.conditions);
        for index in *mark..self.reader.exprs.len() {
            let condition = conditions.iter().find(|(at, _)| *at == index);
            let around = condition.map(|(_, around)| around.clone()).unwrap_or_default();
            let out = out || condition.is_some();
            self.uses.push(Use {
                exprs: index..index + 1,
                out,
                watched: around.watched,
                steps,
                each: each.clone(),
                step: Some(step),
                space: self.context.space,
                out_kind: around.until,
            });
        }
        *mark = self.reader.exprs.len();
    }

    /// The list or map of a `foreach`.
    fn items(&mut self, node: &Node) -> Template {
        let items = self.reader.value(node);
        match &items {
            Template::Expr(_) => self.reader.expect("foreach", "a list or a map", Kinds::LIST | Kinds::MAP),
            Template::Literal(Value::Array(_) | Value::Object(_)) | Template::List(_) | Template::Map(_) => {}
            _ => {
                let message = format!("`foreach`: expected a list or a map, found {}", kind(node));
                self.reader.found.push(Diagnostic::error(Code::WrongType, message, node.span));
            }
        }
        items
    }

    /// Notes that the expressions read since `mark` belong to no step, and see the names of a text.
    pub(super) fn use_since(&mut self, mark: usize, space: usize) {
        let exprs = mark..self.reader.exprs.len();
        let (out, steps) = (false, false);
        self.uses.push(Use {
            exprs,
            out,
            watched: Vec::new(),
            steps,
            each: None,
            step: None,
            space,
            out_kind: None,
        });
    }

    fn text_field(&mut self, fields: &mut Fields<'_>, key: &'static str) -> Option<Template> {
        let (_, node) = fields.take(key)?;
        Some(self.shaped(node, &json!({ "type": "string" }), key))
    }

    /// `needs`, with ids as the whole playbook knows them.
    pub(super) fn needs(&mut self, fields: &mut Fields<'_>) -> Vec<(String, Span)> {
        let Some((_, node)) = fields.take("needs") else { return Vec::new() };
        let items: Vec<&Node> = match &node.value {
            NodeValue::Seq(items) => items.iter().collect(),
            _ => vec![node],
        };
        let mut needs = Vec::new();
        for item in items {
            match &item.value {
                NodeValue::Scalar(Value::String(id)) => needs.push((self.context.global(id), item.span)),
                _ => {
                    let message = format!("`needs`: expected the id of a step, found {}", kind(item));
                    self.reader.found.push(Diagnostic::error(Code::WrongType, message, item.span));
                }
            }
        }
        needs
    }

    fn keep(&mut self, fields: &mut Fields<'_>) -> Keep {
        let Some((_, node)) = fields.take("keep") else { return Keep::Never };
        let schema = json!({ "type": "string", "enum": ["never", "on_failure", "on_success", "always"] });
        let template = self.shaped(node, &schema, "keep");
        match template {
            Template::Literal(value) => serde_json::from_value(value).unwrap_or_default(),
            _ => {
                let message = "`keep` must be known: an expression cannot stand here";
                self.reader.found.push(Diagnostic::error(Code::WrongType, message, node.span));
                Keep::Never
            }
        }
    }

    fn retry(&mut self, node: &Node) -> Option<RetryDef> {
        let mut fields = Fields::of(node, "`retry`", self.reader.found)?;
        let number = json!({ "type": "number", "minimum": 0 });
        let attempts = json!({ "type": "integer", "minimum": 1, "maximum": 1000 });
        let duration = json!({ "type": "string", "format": "duration" });
        let attempts = fields
            .require("attempts", self.reader.found)
            .map(|node| self.shaped(node, &attempts, "attempts"));
        let delay = fields.take("delay").map(|(_, node)| self.shaped(node, &duration, "delay"));
        let backoff = fields.take("backoff").map(|(_, node)| self.shaped(node, &number, "backoff"));
        let max_delay = fields.take("max_delay").map(|(_, node)| self.shaped(node, &duration, "max_delay"));
        let share = json!({ "type": "number", "minimum": 0, "maximum": 1 });
        let jitter = fields.take("jitter").map(|(_, node)| self.shaped(node, &share, "jitter"));
        let names: Vec<&str> = ErrorClass::ALL.iter().map(|class| class.name()).collect();
        let classes = json!({ "type": "array", "items": { "type": "string", "enum": names } });
        let on = fields.take("on").map(|(_, node)| (node.span, self.shaped(node, &classes, "on")));
        let on = match on {
            None => Vec::new(),
            Some((_, Template::Literal(value))) => serde_json::from_value(value).unwrap_or_default(),
            // Read as "all classes" it would try again what the user excluded.
            Some((span, _)) => {
                let message = "`on` of a `retry` must be known: an expression cannot stand here";
                let hint = "name the classes themselves: [timeout, unreachable]";
                self.reader.found.push(Diagnostic::error(Code::WrongType, message, span).hint(hint));
                Vec::new()
            }
        };
        fields.finish(&[], self.reader.found);
        Some(RetryDef { attempts: attempts?, delay, backoff, max_delay, jitter, on })
    }

    /// A body of its own: exactly one step type and `on`.
    pub(super) fn body_of(&mut self, node: &Node, what: &str) -> Option<Body> {
        let mut fields = Fields::of(node, "step", self.reader.found)?;
        let on = self.text_field(&mut fields, "on");
        let body = self.kind_of(&mut fields, node.span, on);
        for key in STEP_KEYS {
            if key != "on" && fields.rest().iter().any(|(name, ..)| *name == key) {
                let span = fields
                    .rest()
                    .iter()
                    .find(|(name, ..)| *name == key)
                    .map_or(node.span, |(_, span, _)| *span);
                let message = format!("`{key}` cannot stand inside `{what}`");
                self.reader.found.push(
                    Diagnostic::error(Code::OutOfPlace, message, span).hint("set it on the step itself"),
                );
                fields.accept(key);
            }
        }
        fields.finish(&self.registry.kinds(), self.reader.found);
        body
    }

    /// Where a written undo acts: where it says, else where its step does.
    fn undo_host(&self, undo: &Body, step: &Body) -> Option<Template> {
        let takes_on = self.registry.get(&undo.kind).is_some_and(|kind| kind.docs().on_host);
        if undo.on.is_some() || !takes_on {
            return undo.on.clone();
        }
        let named = || {
            let (value, unknown) = shown(&step.params);
            let param = self.registry.get(&step.kind)?.host_param(&ParamsView::new(&value, &unknown))?;
            match &step.params {
                Template::Map(entries) => {
                    entries.iter().find(|(key, _)| key == param).map(|(_, host)| host.clone())
                }
                Template::Literal(Value::Object(map)) => map.get(param).cloned().map(Template::Literal),
                _ => None,
            }
        };
        step.on.clone().or_else(named)
    }

    /// Takes the one step type among the fields.
    fn kind_of(&mut self, fields: &mut Fields<'_>, span: Span, on: Option<Template>) -> Option<Body> {
        let kinds = self.registry.kinds();
        let there: Vec<_> = fields.rest().into_iter().filter(|(key, ..)| kinds.contains(key)).collect();
        let (kind, kind_span, node) = match there.as_slice() {
            [] => {
                let near = fields
                    .rest()
                    .into_iter()
                    .find_map(|(key, span, _)| Some((span, did_you_mean(key, kinds.iter().copied())?)));
                let message = "this step has no step type".to_owned();
                let (at, hint) = match near {
                    // The unknown key itself is reported with the same suggestion.
                    Some((_, _)) => return None,
                    None => (span, format!("add one of: {}", kinds.join(", "))),
                };
                self.reader.found.push(Diagnostic::error(Code::MissingKey, message, at).hint(hint));
                return None;
            }
            [only] => *only,
            [first, second, ..] => {
                let message =
                    format!("`{}` cannot go with `{}`: a step has exactly one step type", second.0, first.0);
                let diagnostic = Diagnostic::error(Code::Conflict, message, second.1);
                let diagnostic = diagnostic.related(first.1, "the first is here");
                self.reader.found.push(diagnostic.hint("make two steps of it"));
                there.iter().for_each(|(key, ..)| fields.accept(key));
                return None;
            }
        };
        fields.accept(kind);
        let step = self.registry.get(kind)?.clone();
        if !step.docs().on_host
            && let Some(Template::Literal(Value::String(host))) = &on
            && host != "local"
        {
            let message = format!("`{kind}` cannot run `on` a host");
            self.reader.found.push(Diagnostic::error(Code::Conflict, message, kind_span));
        }
        let errors_before = self.reader.found.iter().count();
        let merged = self.context.defaults.merged(kind, node);
        let node = merged.as_ref().unwrap_or(node);
        let params = self.shaped(node, &step.params_schema(), kind);
        let body = Body { kind: kind.to_owned(), params, on };
        if self.reader.found.iter().count() == errors_before {
            let (value, unknown) = shown(&body.params);
            for (key, message) in step.check(&ParamsView::new(&value, &unknown)) {
                let span = match &node.value {
                    NodeValue::Map(entries) => {
                        entries.iter().find(|(name, ..)| *name == key).map(|(_, span, _)| *span)
                    }
                    _ => None,
                };
                let message = format!("`{kind}`: {message}");
                self.reader.found.push(Diagnostic::error(Code::Conflict, message, span.unwrap_or(kind_span)));
            }
        }
        Some(body)
    }

    /// What a step does, told from what is written.
    pub(super) fn describe(&self, body: &Body) -> Option<Description> {
        let (value, unknown) = shown(&body.params);
        self.registry.get(&body.kind).map(|step| step.describe(&ParamsView::new(&value, &unknown)))
    }
}

/// Why a name cannot be one.
pub(super) fn check_name(name: &str, what: &str, span: Span) -> Option<Diagnostic> {
    let mut chars = name.chars();
    let good = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.len() <= 64;
    if good {
        return None;
    }
    let message = format!("{what} has up to 64 letters, digits and `_`, found `{}`", short(name));
    let diagnostic = Diagnostic::error(Code::BadName, message, span);
    Some(match name.contains('-') && !name.contains("..") {
        true => diagnostic
            .hint(format!("in expressions `-` is minus; write `{}`", short(&name.replace('-', "_")))),
        false => diagnostic,
    })
}
