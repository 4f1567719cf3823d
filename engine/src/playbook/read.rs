//! Reads a whole playbook.

use super::{
    defaults::Defaults,
    fields::{Fields, entries, kind, short},
    hosts::{check_groups, read_groups, read_hosts},
    include::{Context, Library},
    names::{Allowed, Names, Space, by_id, order_vars},
    raw::{self, Node, NodeValue, to_json},
    secrets::read_secrets,
    steps::{Around, StepReader, Use, check_name},
    template::{Placed, Reader},
};
use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, Source, Span, did_you_mean},
    event::Phase,
    expr::Loaded,
    graph::{Cycle, Graph},
    playbook::{IncludeDef, Inventory, LoadedFile, Param, ParamType, Playbook, StepDef, Var, local},
    registry::Registry,
};
use serde_json::Value;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
    rc::Rc,
    sync::Arc,
};

const TYPES: [(&str, ParamType); 9] = [
    ("string", ParamType::String),
    ("int", ParamType::Int),
    ("number", ParamType::Number),
    ("bool", ParamType::Bool),
    ("bytes", ParamType::Bytes),
    ("duration", ParamType::Duration),
    ("path", ParamType::Path),
    ("list", ParamType::List),
    ("map", ParamType::Map),
];

/// Reads a playbook that may also name the hosts and groups of `inventory`, and include the fragments of `library`:
/// gives it with the warnings, or everything that is wrong with it.
///
/// # Errors
/// All mistakes, in the order of the text; those of the included texts come after its own.
pub fn read(
    source: Arc<Source>,
    registry: &Registry,
    inventory: &Inventory,
    library: &dyn Library,
) -> Result<(Playbook, Diagnostics), Diagnostics> {
    let mut found = Diagnostics::new(source.clone());
    let Some(root) = raw::parse_visible(&source, 0, &mut found) else { return Err(found) };
    let Some((playbook, places)) = read_root(&source, &root, registry, inventory, library, &mut found) else {
        return Err(found);
    };
    // Beside other mistakes, two steps of one name are one to the graph, and a step that needs itself is told already.
    let wrong = found.has_errors();
    let doubled = found.iter().any(|mistake| mistake.code == Code::Duplicate);
    for cycle in Graph::new(&playbook).err().unwrap_or_default() {
        if !wrong || (!doubled && cycle.steps.len() > 1) {
            found.push(places.cycle(&cycle, &playbook));
        }
    }
    if found.has_errors() { Err(found) } else { Ok((playbook, found)) }
}

/// The expressions of a playbook and the steps they belong to.
struct Places {
    exprs: Vec<Placed>,
    uses: Vec<Use>,
}

impl Places {
    /// A cycle with each of its edges.
    fn cycle(&self, cycle: &Cycle, playbook: &Playbook) -> Diagnostic {
        let steps = &playbook.steps;
        let message = format!("these steps wait for each other: {}", cycle.names(playbook));
        let first = cycle.steps.first().map_or(Span::default(), |step| steps[*step].span);
        let hint = "remove one of these `needs` or references";
        let mut diagnostic = Diagnostic::error(Code::Cycle, message, first).hint(hint);
        let next = cycle.steps.iter().cycle().skip(1);
        for (before, after) in cycle.steps.iter().zip(next) {
            let (before, step) = (&steps[*before], &steps[*after]);
            let need = step.needs.iter().find(|(id, _)| *id == before.id).map(|(_, span)| *span);
            let exprs = self
                .uses
                .iter()
                .filter(|of| of.step == Some(*after))
                .flat_map(|of| &self.exprs[of.exprs.clone()]);
            let called = local(step.include.as_deref(), &before.id).unwrap_or(&before.id);
            if let Some(span) = need.or_else(|| reference_to(exprs, &["steps", called])) {
                diagnostic = diagnostic.related(span, format!("`{}` waits for `{}`", step.id, before.id));
            }
        }
        diagnostic
    }
}

/// The first place where an expression uses a name.
fn reference_to<'p>(exprs: impl IntoIterator<Item = &'p Placed>, name: &[&str]) -> Option<Span> {
    exprs.into_iter().find_map(|placed| {
        let reference = placed.expr.references().iter().find(|reference| {
            name.iter().enumerate().all(|(at, part)| reference.path.get(at).is_some_and(|own| own == part))
        })?;
        Some(placed.place(&reference.range))
    })
}

fn read_root(
    source: &Arc<Source>,
    root: &Node,
    registry: &Registry,
    inventory: &Inventory,
    library: &dyn Library,
    found: &mut Diagnostics,
) -> Option<(Playbook, Places)> {
    if let NodeValue::Scalar(Value::Null) = root.value {
        let hint = "write a commented starter: shakedown new FILE";
        found.push(Diagnostic::error(Code::MissingKey, "the playbook is empty", Span::new(0, 0)).hint(hint));
        return None;
    }
    let mut fields = Fields::of(root, "playbook", found)?;
    let name = match fields.require("name", found) {
        None => String::new(),
        Some(node) => match &node.value {
            NodeValue::Scalar(Value::String(name)) if !name.trim().is_empty() => name.clone(),
            _ => {
                let message = format!("`name`: expected text, found {}", kind(node));
                found.push(Diagnostic::error(Code::WrongType, message, node.span));
                String::new()
            }
        },
    };
    let description = fields.text("description", found).unwrap_or_default();
    let max_parallel = fields.take("max_parallel").and_then(|(_, node)| match &node.value {
        NodeValue::Scalar(Value::Number(n)) if n.as_u64().is_some_and(|n| (1..=1_000).contains(&n)) => {
            n.as_u64().and_then(|n| usize::try_from(n).ok())
        }
        _ => {
            let message =
                format!("`max_parallel`: expected a whole number from 1 to 1000, found {}", kind(node));
            found.push(Diagnostic::error(Code::BadValue, message, node.span));
            None
        }
    });
    let params = fields.take("params").map(|(_, node)| read_params(node, found)).unwrap_or_default();
    let mut reader = Reader { found, exprs: Vec::new() };
    let vars = fields.take("vars").map(|(_, node)| read_vars(node, &mut reader)).unwrap_or_default();
    let var_exprs = 0..reader.exprs.len();
    let own = Inventory {
        hosts: fields.take("hosts").map(|(_, node)| read_hosts(node, &mut reader)).unwrap_or_default(),
        groups: fields.take("groups").map(|(_, node)| read_groups(node, &mut reader)).unwrap_or_default(),
    };
    let inventory = own.with(inventory);
    check_groups(&inventory, reader.found);
    let secrets = fields.take("secrets").map(|(_, node)| read_secrets(node, &mut reader)).unwrap_or_default();
    let host_exprs = var_exprs.end..reader.exprs.len();
    let kinds = registry.kinds();
    let defaults = fields.take("defaults").map(|(_, node)| Defaults::read(node, &kinds, reader.found));
    let defaults = Rc::new(defaults.unwrap_or_default());
    let mut steps = StepReader {
        reader: &mut reader,
        registry,
        inventory: &inventory,
        around: Around::default(),
        conditions: Vec::new(),
        uses: Vec::new(),
        steps: Vec::new(),
        ids: BTreeMap::new(),
        main: source.clone(),
        context: Context::of_playbook(defaults.clone()),
        library,
        includes: Vec::new(),
        included_bytes: 0,
        too_much: false,
        bases: BTreeMap::new(),
        on_places: Vec::new(),
    };
    for phase in Phase::ALL {
        if let Some((_, node)) = fields.take(phase.name()) {
            steps.phase(phase, node);
            find_hosts(node, 0, &mut steps.on_places);
        }
    }
    let StepReader { uses, mut steps, includes, on_places, .. } = steps;
    let exprs = reader.exprs;
    if let Some((_, span, _)) = fields.rest().into_iter().find(|(key, ..)| *key == "steps") {
        let message = "a playbook has phases, and a fragment has `steps`";
        let hint = "include a fragment in a phase of a playbook: ID: { include: FILE }";
        found.push(Diagnostic::error(Code::OutOfPlace, message, span).hint(hint));
        fields.accept("steps");
    }
    fields.finish(&[], found);
    defaults.finish(found);
    need_whole_includes(&mut steps, &includes);
    if steps.is_empty() && !found.has_errors() {
        let message = "the playbook has no steps";
        found.push(
            Diagnostic::error(Code::MissingKey, message, root.span)
                .hint("add a `precheck`, `prepare` or `monitor`"),
        );
    }

    let mut spaces = vec![Space { include: None, params: &params, vars: &vars }];
    spaces.extend(includes.iter().map(|include| Space {
        include: Some(&include.id),
        params: &include.params,
        vars: &include.vars,
    }));
    let mut names = Names {
        spaces,
        inventory: &inventory,
        secrets: &secrets,
        steps: &steps,
        by_id: by_id(&steps),
        registry,
        used: BTreeSet::new(),
        schemas: RefCell::default(),
    };
    let check = |range: Range<usize>, allowed: &Allowed, names: &mut Names<'_>, found: &mut Diagnostics| {
        exprs[range].iter().for_each(|placed| names.check(placed, allowed, found));
    };
    let var_range = var_exprs.clone();
    check(var_exprs, &Allowed::default(), &mut names, found);
    check(host_exprs, &Allowed::default(), &mut names, found);
    for of in &uses {
        check(of.exprs.clone(), &Allowed::from(of), &mut names, found);
    }
    names.needs(found);
    names.host_names(&on_places, found);
    names.unused(found);
    for secret in &secrets {
        if !names.used.contains(&(0, format!("secrets.{}", secret.name))) {
            let message = format!("secret `{}` is never used", secret.name);
            found.push(Diagnostic::warning(Code::Unused, message, secret.span));
        }
    }
    let vars = match order_vars(vars) {
        Ok(vars) => vars,
        Err((cycle, spans)) => {
            let message = format!("these vars wait for each other: {}", cycle.join(" -> "));
            let mut diagnostic = Diagnostic::error(Code::Cycle, message, spans[0]);
            for (at, name) in cycle[1..].iter().enumerate() {
                let behind =
                    exprs[var_range.clone()].iter().filter(|placed| placed.span().start >= spans[at].start);
                if let Some(span) = reference_to(behind, &["vars", name]) {
                    diagnostic = diagnostic.related(span, format!("`{}` is made of `{name}`", cycle[at]));
                }
            }
            found.push(diagnostic.hint("write one of them without the other"));
            return None;
        }
    };
    let files = files(&exprs, &uses, &params);
    let playbook = Playbook {
        sources: found.sources().clone(),
        name,
        description,
        params,
        vars,
        inventory,
        secrets,
        max_parallel,
        includes,
        steps,
        files,
    };
    Some((playbook, Places { exprs, uses }))
}

/// The files that expressions load, as far as their names are known without a run.
fn files(exprs: &[Placed], uses: &[Use], params: &[Param]) -> Vec<LoadedFile> {
    // The params of fragments are known by the same names, and are others.
    let of_fragments: BTreeSet<usize> =
        uses.iter().filter(|of| of.space > 0).flat_map(|of| of.exprs.clone()).collect();
    let own = exprs.iter().enumerate().filter(|(at, _)| !of_fragments.contains(at)).map(|(_, placed)| placed);
    let path = |loaded: &Loaded| match loaded {
        Loaded::Path(path) => Some(path.clone()),
        Loaded::Param(name) => {
            let param = params.iter().find(|param| param.name == *name)?;
            param.default.as_ref()?.as_str().map(str::to_owned)
        }
    };
    let one = |placed: &Placed| {
        let loads = placed.expr.loads().iter();
        let found = loads.filter_map(|(loaded, range)| {
            Some(LoadedFile { path: path(loaded)?, span: placed.place(range) })
        });
        found.collect::<Vec<_>>()
    };
    own.flat_map(one).collect()
}

/// Who needs an include needs all of its steps.
fn need_whole_includes(steps: &mut [StepDef], includes: &[IncludeDef]) {
    let ids: BTreeSet<&str> = includes.iter().map(|include| include.id.as_str()).collect();
    if !steps.iter().any(|step| step.needs.iter().any(|(need, _)| ids.contains(need.as_str()))) {
        return;
    }
    let within: BTreeMap<&str, Option<&str>> =
        includes.iter().map(|include| (include.id.as_str(), include.within.as_deref())).collect();
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for step in steps.iter() {
        let mut include = step.include.as_deref();
        while let Some(id) = include {
            members.entry(id.to_owned()).or_default().push(step.id.clone());
            include = within.get(id).copied().flatten();
        }
    }
    for step in steps {
        let needs = std::mem::take(&mut step.needs);
        for (need, span) in needs {
            match (ids.contains(need.as_str()), members.get(&need)) {
                (true, Some(all)) => step.needs.extend(all.iter().map(|id| (id.clone(), span))),
                (true, None) => {}
                (false, _) => step.needs.push((need, span)),
            }
        }
    }
}

/// The entries of a section that is a map from names; notes names that cannot be one.
pub(super) fn named<'n>(
    node: &'n Node,
    what: &str,
    a_name: &str,
    found: &mut Diagnostics,
) -> Vec<(&'n str, Span, &'n Node)> {
    let entries = entries(node, what, found);
    for (name, span, _) in &entries {
        if let Some(diagnostic) = check_name(name, a_name, *span) {
            found.push(diagnostic);
        }
    }
    entries
}

pub(super) fn read_params(node: &Node, found: &mut Diagnostics) -> Vec<Param> {
    let mut params = Vec::new();
    for (name, span, node) in named(node, "params", "a param's name", found) {
        let Some(mut fields) = Fields::of(node, "param", found) else { continue };
        let type_node = fields.require("type", found);
        let default_node = fields.take("default").map(|(_, node)| node);
        let description = fields.text("description", found).unwrap_or_default();
        let choices = fields.take("choices").and_then(|(_, node)| match to_json(node) {
            Value::Array(values) if !values.is_empty() => Some(values),
            _ => {
                let message = format!("`choices`: expected a list of values, found {}", kind(node));
                found.push(Diagnostic::error(Code::WrongType, message, node.span));
                None
            }
        });
        fields.finish(&[], found);
        let Some(type_node) = type_node else { continue };
        let named = to_json(type_node);
        let named = named.as_str().unwrap_or_default();
        let Some((_, ty)) = TYPES.iter().find(|(known, _)| *known == named) else {
            let names: Vec<&str> = TYPES.iter().map(|(known, _)| *known).collect();
            let hint = did_you_mean(named, names.iter().copied())
                .unwrap_or_else(|| format!("the types are: {}", names.join(", ")));
            let message = format!("`type`: unknown type `{}`", short(named));
            found.push(Diagnostic::error(Code::BadValue, message, type_node.span).hint(hint));
            continue;
        };
        let default = default_node.map(to_json);
        let param = Param { name: name.to_owned(), ty: *ty, default, description, choices, span };
        if let (Some(default), Some(node)) = (&param.default, default_node) {
            if default.as_str().is_some_and(|text| text.contains("${{")) {
                let message = format!("the default of `{name}` cannot be an expression");
                found.push(
                    Diagnostic::error(Code::OutOfPlace, message, node.span).hint("derive it in `vars`"),
                );
            } else if let Err(message) = crate::plan::convert(&param, default, Path::new("/")) {
                found.push(Diagnostic::error(
                    Code::WrongType,
                    format!("the default of `{name}`: {message}"),
                    node.span,
                ));
            }
        }
        params.push(param);
    }
    params
}

pub(super) fn read_vars(node: &Node, reader: &mut Reader<'_>) -> Vec<Var> {
    let entries = named(node, "vars", "a var's name", reader.found);
    entries
        .into_iter()
        .map(|(name, span, node)| Var { name: name.to_owned(), value: reader.value(node), span })
        .collect()
}

/// The literal values of `on` below a section; whether it is a step's own.
pub(super) fn find_hosts(node: &Node, depth: usize, places: &mut Vec<(String, Span, bool)>) {
    match &node.value {
        NodeValue::Scalar(_) => {}
        NodeValue::Seq(items) => items.iter().for_each(|item| find_hosts(item, depth + 1, places)),
        NodeValue::Map(entries) => {
            for (key, _, value) in entries {
                match (&value.value, key.as_str()) {
                    (NodeValue::Scalar(Value::String(name)), "on") if !name.contains("${{") => {
                        places.push((name.clone(), value.span, depth == 1));
                    }
                    // Parameters of step types have keys of their own, except for nested steps.
                    (NodeValue::Map(_), "retry" | "values" | "params" | "env" | "with") => {}
                    _ => find_hosts(value, depth + 1, places),
                }
            }
        }
    }
}
