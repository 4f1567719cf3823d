//! Reads `include`: the steps of a fragment, put in the place of one entry. All of it is done while reading: what a
//! fragment holds depends on nothing but its text and the values of `with`.

use super::{
    defaults::Defaults,
    fields::{Fields, entries, kind, short},
    model::{IncludeDef, Param, Template, global},
    names::order_vars,
    raw::{self, Node, NodeValue},
    read::{find_hosts, read_params, read_vars},
    steps::{STEP_KEYS, StepReader, check_name},
};
use crate::{
    diagnostic::{Code, Diagnostic, Source, Span, did_you_mean},
    event::Phase,
    plan::convert,
};
use serde_json::Value;
use std::{collections::BTreeSet, path::Path, rc::Rc, sync::Arc};

/// How deep fragments may include others.
const MAX_DEPTH: usize = 8;
/// The most includes of a playbook, those of its fragments counted.
const MAX_INCLUDES: usize = 500;
/// The most bytes that all included texts may have together.
const MAX_BYTES: usize = raw::MAX_BYTES;

/// Finds the texts that playbooks include. The engine reads no files of its own accord.
pub trait Library {
    /// The fragment that `name` means in the text `from`. Two names that mean the same text give the same
    /// [`Source::name`].
    ///
    /// # Errors
    /// There is none, or it cannot be read: in words for the user, with a hint if one helps.
    fn find(&self, name: &str, from: &Source) -> Result<Arc<Source>, (String, Option<String>)>;
}

/// A library without a fragment.
#[derive(Clone, Copy, Debug)]
pub struct NoLibrary;

impl Library for NoLibrary {
    fn find(&self, name: &str, _: &Source) -> Result<Arc<Source>, (String, Option<String>)> {
        Err((format!("the fragment `{name}` cannot be read here"), None))
    }
}

/// Where steps are read: in the playbook itself, or in a fragment that it includes.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    /// The id of the include; steps of the playbook itself have none.
    pub(super) include: Option<String>,
    /// Its number: 0 is the playbook, 1 its first include.
    pub(super) space: usize,
    /// What the steps have unless they say otherwise.
    pub(super) defaults: Rc<Defaults>,
    /// `on` of the include.
    on: Option<(Span, Node)>,
    /// What the steps need beside what they say, ids as the whole playbook knows them.
    needs: Vec<(String, Span)>,
    /// The texts that led here, with the place of the include in each.
    chain: Vec<(Arc<Source>, Span)>,
}

impl Context {
    /// The playbook's own text.
    pub(super) fn of_playbook(defaults: Rc<Defaults>) -> Self {
        Self { defaults, ..Self::default() }
    }

    /// The id by which the whole playbook knows a step or an include of this text.
    pub(super) fn global(&self, id: &str) -> String {
        global(self.include.as_deref(), id)
    }

    /// Gives a step what its include and the defaults of its text say.
    pub(super) fn fill<'n>(&'n self, phase: Phase, fields: &mut Fields<'n>) {
        self.defaults.fill(phase, fields);
        if let Some((span, node)) = &self.on {
            fields.add("on", *span, node);
        }
    }

    /// What all steps of this text need.
    pub(super) fn needs(&self) -> impl Iterator<Item = (String, Span)> {
        self.needs.iter().cloned()
    }
}

/// A fragment as it was found.
struct Fragment {
    source: Arc<Source>,
    root: Node,
}

/// Whether an entry of a phase is an include rather than a step.
pub(super) fn is_include(node: &Node) -> bool {
    matches!(&node.value, NodeValue::Map(entries) if entries.iter().any(|(key, ..)| key == "include"))
}

impl StepReader<'_, '_> {
    /// Puts the steps of a fragment in the place of an entry.
    pub(super) fn include(&mut self, phase: Phase, id: &str, span: Span, node: &Node) {
        check_name(id, "an include's id", span).into_iter().for_each(|wrong| self.reader.found.push(wrong));
        let global = self.context.global(id);
        self.new_id(&global, id, span);
        let Some(mut fields) = Fields::of(node, "include", self.reader.found) else { return };
        let named = fields.take("include").map(|(_, node)| node);
        let own_needs = self.needs(&mut fields);
        let on = fields.take("on");
        let with = fields.take("with").map(|(_, node)| entries(node, "with", self.reader.found));
        self.refuse_step_keys(&mut fields);
        fields.finish(&[], self.reader.found);
        let on = on.filter(|(_, node)| self.is_host(node)).map(|(span, node)| (span, node.clone()));
        let Some(Fragment { source, root }) = named.and_then(|named| self.fragment(named)) else { return };

        let mark = self.reader.exprs.len();
        let with = with.unwrap_or_default();
        let with = with.into_iter().map(|(key, span, node)| (key.to_owned(), span, self.reader.value(node)));
        let with: Vec<(String, Span, Template)> = with.collect();
        self.use_since(mark, self.context.space);

        let Some(mut fields) = Fields::of(&root, "fragment", self.reader.found) else { return };
        fields.text("name", self.reader.found);
        fields.text("description", self.reader.found);
        let params = fields.take("params").map(|(_, node)| read_params(node, self.reader.found));
        let params = params.unwrap_or_default();
        self.check_with(&params, &with, span, &source);
        let space = self.includes.len() + 1;
        let mark = self.reader.exprs.len();
        let vars = fields.take("vars").map(|(_, node)| read_vars(node, self.reader)).unwrap_or_default();
        self.use_since(mark, space);
        let vars = order_vars(vars).unwrap_or_else(|(cycle, spans)| {
            let message = format!("these vars wait for each other: {}", cycle.join(" -> "));
            self.reader.found.push(Diagnostic::error(Code::Cycle, message, spans[0]));
            Vec::new()
        });
        let kinds = self.registry.kinds();
        let defaults =
            fields.take("defaults").map(|(_, node)| Defaults::read(node, &kinds, self.reader.found));
        let steps = fields.require("steps", self.reader.found);
        for phase in Phase::ALL {
            if let Some((key, span, _)) = fields.rest().into_iter().find(|(key, ..)| *key == phase.name()) {
                let message =
                    format!("a fragment has no `{key}`: it has `steps`, and the phase where it is included");
                let diagnostic = Diagnostic::error(Code::OutOfPlace, message, span);
                self.reader.found.push(diagnostic.hint("include fragments; run playbooks"));
                fields.accept(key);
            }
        }
        fields.finish(&[], self.reader.found);
        self.includes.push(IncludeDef {
            id: global.clone(),
            source: source.name.clone(),
            within: self.context.include.clone(),
            params,
            with,
            vars,
            span,
        });
        let Some(steps) = steps else { return };
        find_hosts(steps, 0, &mut self.on_places);
        let inherited = self.context.needs.iter().cloned().chain(own_needs).collect();
        let mut chain = self.context.chain.clone();
        chain.push((source, named.map_or(span, |node| node.span)));
        let inner = Context {
            include: Some(global),
            space,
            defaults: Rc::new(defaults.unwrap_or_default()),
            on: on.or_else(|| self.context.on.clone()),
            needs: inherited,
            chain,
        };
        let outer = std::mem::replace(&mut self.context, inner);
        self.phase(phase, steps);
        self.context.defaults.finish(self.reader.found);
        self.context = outer;
    }

    /// Finds the fragment and parses it.
    fn fragment(&mut self, named: &Node) -> Option<Fragment> {
        let span = named.span;
        let mut wrong = |code, message: String, hint: Option<String>| {
            let diagnostic = Diagnostic::error(code, message, span);
            self.reader.found.push(match hint {
                Some(hint) => diagnostic.hint(hint),
                None => diagnostic,
            });
        };
        let name = match &named.value {
            NodeValue::Scalar(Value::String(name)) if name.contains("${{") => {
                let hint = "an include is known before anything is evaluated".to_owned();
                wrong(Code::WrongType, "`include`: an expression cannot stand here".into(), Some(hint));
                return None;
            }
            NodeValue::Scalar(Value::String(name)) if !name.trim().is_empty() => name,
            _ => {
                let message = format!("`include`: expected the name of a fragment, found {}", kind(named));
                let hint = "a path, from the folder of this file, or bundled:NAME".to_owned();
                wrong(Code::WrongType, message, Some(hint));
                return None;
            }
        };
        let from = self.context.chain.last().map_or(&self.main, |(source, _)| source).clone();
        let source = match self.library.find(name, &from) {
            Ok(source) => source,
            Err((message, hint)) => {
                wrong(Code::UnknownName, format!("`include`: {message}"), hint);
                return None;
            }
        };
        let led_here =
            || std::iter::once(&self.main).chain(self.context.chain.iter().map(|(source, _)| source));
        if let Some(at) = led_here().position(|before| before.name == source.name) {
            let mut names: Vec<&str> = led_here().skip(at).map(|source| source.name.as_str()).collect();
            names.push(&source.name);
            let message = format!("these files include each other: {}", names.join(" -> "));
            let mut diagnostic = Diagnostic::error(Code::Cycle, message, span);
            for (_, place) in &self.context.chain[at..] {
                diagnostic = diagnostic.related(*place, "by way of this one");
            }
            self.reader.found.push(diagnostic);
            return None;
        }
        if self.too_much {
            return None;
        }
        self.included_bytes = self.included_bytes.saturating_add(source.text.len());
        let limit = match () {
            () if self.context.chain.len() >= MAX_DEPTH => {
                Some(format!("fragments include each other more than {MAX_DEPTH} deep"))
            }
            () if self.includes.len() >= MAX_INCLUDES => {
                Some(format!("these are more than {MAX_INCLUDES} includes"))
            }
            () if self.included_bytes > MAX_BYTES => {
                Some(format!("the included texts have more than {MAX_BYTES} bytes together"))
            }
            () => None,
        };
        if let Some(message) = limit {
            // Said once: whoever built it knows the rest.
            self.too_much = true;
            self.reader.found.push(Diagnostic::error(Code::BadValue, message, span));
            return None;
        }
        // A text that is included twice has one place: its mistakes are told once.
        let base = match self.bases.get(&source.name) {
            Some(base) => *base,
            None => {
                let base = self.reader.found.add_source(source.clone());
                self.bases.insert(source.name.clone(), base);
                base
            }
        };
        let root = raw::parse_visible(&source, base, self.reader.found)?;
        Some(Fragment { source, root })
    }

    /// Keys of steps that an include does not have.
    fn refuse_step_keys(&mut self, fields: &mut Fields<'_>) {
        for (key, span, _) in fields.rest() {
            let kinds = self.registry.kinds();
            if !STEP_KEYS.contains(&key) && !kinds.contains(&key) {
                continue;
            }
            let message = format!("`{key}` cannot go with `include`");
            let hint = match key {
                "when" | "foreach" | "as" => "let the steps of the fragment ask: hand it in by `with`",
                _ if kinds.contains(&key) => "make two entries of it",
                _ => "set it on the steps of the fragment, or in its `defaults`",
            };
            self.reader.found.push(Diagnostic::error(Code::Conflict, message, span).hint(hint));
            fields.accept(key);
        }
    }

    fn is_host(&mut self, node: &Node) -> bool {
        match &node.value {
            NodeValue::Scalar(Value::String(name)) if !name.contains("${{") => true,
            _ => {
                let message = format!(
                    "`on` of an include: expected the name of a host or a group, found {}",
                    kind(node)
                );
                let hint = "a host that is an expression goes in by `with`: the fragment says `on: ${{ params.NAME }}`";
                self.reader.found.push(Diagnostic::error(Code::WrongType, message, node.span).hint(hint));
                false
            }
        }
    }

    /// `with` against the fragment's params, as far as it is known.
    fn check_with(
        &mut self,
        params: &[Param],
        with: &[(String, Span, Template)],
        span: Span,
        source: &Source,
    ) {
        let names: Vec<&str> = params.iter().map(|param| param.name.as_str()).collect();
        for (key, place, value) in with {
            let Some(param) = params.iter().find(|param| param.name == *key) else {
                let message = format!("`with`: the fragment `{}` has no param `{}`", source.name, short(key));
                let hint =
                    did_you_mean(key, names.iter().copied()).unwrap_or_else(|| match names.as_slice() {
                        [] => "it has no params".to_owned(),
                        names => format!("its params are: {}", names.join(", ")),
                    });
                self.reader.found.push(Diagnostic::error(Code::UnknownKey, message, *place).hint(hint));
                continue;
            };
            if let Template::Literal(value) = value
                && let Err(message) = convert(param, value, Path::new("/"))
            {
                let message = format!("`with.{key}`: {message}");
                self.reader.found.push(Diagnostic::error(Code::WrongType, message, *place));
            }
        }
        let given: BTreeSet<&str> = with.iter().map(|(key, ..)| key.as_str()).collect();
        for param in params.iter().filter(|param| param.default.is_none()) {
            if !given.contains(param.name.as_str()) {
                let message =
                    format!("the param `{}` of the fragment `{}` has no value", param.name, source.name);
                let hint = format!("set it: with: {{ {}: … }}", param.name);
                self.reader.found.push(Diagnostic::error(Code::MissingKey, message, span).hint(hint));
            }
        }
    }
}
