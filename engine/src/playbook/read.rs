//! Reads a whole playbook.

use super::{
    fields::{Fields, entries, kind, short},
    hosts::{check_groups, read_groups, read_hosts},
    names::{Allowed, Names, by_id, order_vars},
    raw::{self, Node, NodeValue, to_json},
    secrets::read_secrets,
    steps::{Around, StepReader, check_name},
    template::Reader,
};
use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, Source, Span, did_you_mean},
    event::Phase,
    graph::Graph,
    playbook::{Inventory, Param, ParamType, Playbook, Var},
    registry::Registry,
};
use serde_json::Value;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::Path,
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

/// Reads a playbook that may also name the hosts and groups of `inventory`: gives it with the warnings, or everything
/// that is wrong with it.
///
/// # Errors
/// All mistakes, in the order of the text.
pub fn read(
    source: Arc<Source>,
    registry: &Registry,
    inventory: &Inventory,
) -> Result<(Playbook, Diagnostics), Diagnostics> {
    let mut found = Diagnostics::new(source.clone());
    let Some(root) = raw::parse_visible(&source, &mut found) else { return Err(found) };
    let playbook = read_root(&root, registry, inventory, &mut found);
    match playbook {
        Some(playbook) if !found.has_errors() => {
            if let Err(cycles) = Graph::new(&playbook) {
                for cycle in cycles {
                    let span = cycle.steps.first().map_or(Span::default(), |step| playbook.steps[*step].span);
                    let message = format!("these steps wait for each other: {}", cycle.names(&playbook));
                    let hint = "remove one of their `needs` or references";
                    found.push(Diagnostic::error(Code::Cycle, message, span).hint(hint));
                }
                return Err(found);
            }
            Ok((playbook, found))
        }
        _ => Err(found),
    }
}

fn read_root(
    root: &Node,
    registry: &Registry,
    inventory: &Inventory,
    found: &mut Diagnostics,
) -> Option<Playbook> {
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
    let mut steps = StepReader {
        reader: &mut reader,
        registry,
        inventory: &inventory,
        around: Around::default(),
        conditions: Vec::new(),
        uses: Vec::new(),
        steps: Vec::new(),
        ids: BTreeMap::new(),
    };
    let mut on_places = Vec::new();
    for phase in Phase::ALL {
        if let Some((_, node)) = fields.take(phase.name()) {
            steps.phase(phase, node);
            find_hosts(node, 0, &mut on_places);
        }
    }
    let uses = steps.take_uses();
    let steps = steps.steps;
    let exprs = reader.exprs;
    fields.finish(&[], found);
    if steps.is_empty() && !found.has_errors() {
        let message = "the playbook has no steps";
        found.push(
            Diagnostic::error(Code::MissingKey, message, root.span)
                .hint("add a `precheck`, `prepare` or `monitor`"),
        );
    }

    let mut names = Names {
        params: &params,
        vars: &vars,
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
    check(var_exprs, &Allowed::default(), &mut names, found);
    check(host_exprs, &Allowed::default(), &mut names, found);
    for of in &uses {
        check(of.exprs.clone(), &Allowed::from(of), &mut names, found);
    }
    names.needs(found);
    names.host_names(&on_places, found);
    for param in &params {
        if !names.used.contains(&format!("params.{}", param.name)) {
            found.push(Diagnostic::warning(
                Code::Unused,
                format!("param `{}` is never used", param.name),
                param.span,
            ));
        }
    }
    for var in &vars {
        if !names.used.contains(&format!("vars.{}", var.name)) {
            found.push(Diagnostic::warning(
                Code::Unused,
                format!("var `{}` is never used", var.name),
                var.span,
            ));
        }
    }
    for secret in &secrets {
        if !names.used.contains(&format!("secrets.{}", secret.name)) {
            let message = format!("secret `{}` is never used", secret.name);
            found.push(Diagnostic::warning(Code::Unused, message, secret.span));
        }
    }
    let vars = match order_vars(vars) {
        Ok(vars) => vars,
        Err((cycle, span)) => {
            let message = format!("these vars wait for each other: {}", cycle.join(" -> "));
            found.push(Diagnostic::error(Code::Cycle, message, span));
            return None;
        }
    };
    Some(Playbook {
        sources: found.sources().clone(),
        name,
        description,
        params,
        vars,
        inventory,
        secrets,
        max_parallel,
        steps,
    })
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

fn read_params(node: &Node, found: &mut Diagnostics) -> Vec<Param> {
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

fn read_vars(node: &Node, reader: &mut Reader<'_>) -> Vec<Var> {
    let entries = named(node, "vars", "a var's name", reader.found);
    entries
        .into_iter()
        .map(|(name, span, node)| Var { name: name.to_owned(), value: reader.value(node), span })
        .collect()
}

/// The literal values of `on` below a section; whether it is a step's own.
fn find_hosts(node: &Node, depth: usize, places: &mut Vec<(String, Span, bool)>) {
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
                    (NodeValue::Map(_), "retry" | "values" | "params" | "env") => {}
                    _ => find_hosts(value, depth + 1, places),
                }
            }
        }
    }
}
