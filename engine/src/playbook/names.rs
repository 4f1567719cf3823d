//! Whether every name that an expression uses exists and may be used in its place.

use super::{fields::short, kinds::walk, steps::Use, template::Placed};
use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, Span, did_you_mean},
    event::Phase,
    expr::{ROOTS, Reference},
    playbook::{Inventory, Param, SecretDef, StepDef, Var, global, local},
    registry::Registry,
};
use serde_json::Value;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// What `run` has.
const RUN: [&str; 7] = ["id", "stamp", "started_at", "host", "user", "dir", "exe"];

/// The names that a text declares: the playbook, or a fragment that it includes.
pub(super) struct Space<'p> {
    /// The id of the include.
    pub(super) include: Option<&'p str>,
    pub(super) params: &'p [Param],
    pub(super) vars: &'p [Var],
}

/// The names of a playbook.
pub(super) struct Names<'p> {
    /// The playbook's own, then those of its includes.
    pub(super) spaces: Vec<Space<'p>>,
    pub(super) inventory: &'p Inventory,
    pub(super) secrets: &'p [SecretDef],
    pub(super) steps: &'p [StepDef],
    /// The same by their ids: thousands of steps are each looked for among all.
    pub(super) by_id: BTreeMap<&'p str, &'p StepDef>,
    pub(super) registry: &'p Registry,
    /// What is used: the space and `params.NAME`.
    pub(super) used: BTreeSet<(usize, String)>,
    /// The schemas of outputs by step type.
    pub(super) schemas: RefCell<BTreeMap<String, Rc<Value>>>,
}

/// Steps by their ids; of two with the same the first.
pub(super) fn by_id(steps: &[StepDef]) -> BTreeMap<&str, &StepDef> {
    steps.iter().rev().map(|step| (step.id.as_str(), step)).collect()
}

/// What an expression may use beside `params`, `vars` and `run`.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowed {
    pub(super) steps: bool,
    pub(super) hosts: bool,
    pub(super) out: bool,
    /// The names of a `watch`, with their step types.
    pub(super) watched: Vec<(String, Option<String>)>,
    pub(super) each: Option<Option<String>>,
    /// The step it belongs to.
    pub(super) step: Option<usize>,
    /// The text it stands in.
    pub(super) space: usize,
    /// The step type of which `out` is the output, where that is another step's than its own.
    pub(super) out_kind: Option<String>,
}

impl Allowed {
    /// The name that `as` gives to the item.
    fn alias(&self) -> Option<&str> {
        self.each.as_ref()?.as_deref()
    }

    /// Whether a name was made by the step itself, with `as` or `watch`.
    pub(super) fn binds(&self, name: &str) -> bool {
        self.alias() == Some(name) || self.watched.iter().any(|(watched, _)| watched == name)
    }
}

impl From<&Use> for Allowed {
    fn from(of: &Use) -> Self {
        Self {
            steps: of.steps,
            hosts: true,
            out: of.out,
            watched: of.watched.clone(),
            each: of.each.clone(),
            step: of.step,
            space: of.space,
            out_kind: of.out_kind.clone(),
        }
    }
}

impl Names<'_> {
    /// Checks all references of an expression.
    pub(super) fn check(&mut self, placed: &Placed, allowed: &Allowed, found: &mut Diagnostics) {
        for reference in placed.expr.references() {
            let span = placed.place(&reference.range);
            if let Some(diagnostic) = self.reference(reference, placed, allowed, span) {
                found.push(diagnostic);
            }
        }
        for call in placed.expr.unknown_functions() {
            let message = format!("unknown function `{}`", short(&call.name));
            let diagnostic = Diagnostic::error(Code::UnknownName, message, placed.place(&call.range));
            found.push(diagnostic.hint(call.hint()));
        }
        self.shadowed(placed, allowed, found);
        if placed.expr.unknown_functions().is_empty() {
            self.operands(placed, allowed).into_iter().for_each(|diagnostic| found.push(diagnostic));
            self.fits(placed, allowed).into_iter().for_each(|diagnostic| found.push(diagnostic));
        }
    }

    /// Names that `map`, `exists` and the like bind, and that hide others.
    fn shadowed(&self, placed: &Placed, allowed: &Allowed, found: &mut Diagnostics) {
        for (name, range) in placed.expr.bound() {
            if !allowed.binds(name) && !ROOTS.contains(&name.as_str()) {
                continue;
            }
            let message = format!("`{name}` hides the `{name}` that can be used here");
            let diagnostic = Diagnostic::warning(Code::Shadowed, message, placed.place(range));
            found.push(diagnostic.hint("choose another name"));
        }
    }

    fn reference(
        &mut self,
        reference: &Reference,
        placed: &Placed,
        allowed: &Allowed,
        span: Span,
    ) -> Option<Diagnostic> {
        let root = reference.path[0].as_str();
        let field = reference.path.get(1).map(String::as_str);
        let at_field = placed.place(&reference.part(1));
        if allowed.binds(root) {
            let (_, kind) = allowed.watched.iter().find(|(name, _)| name == root)?;
            let schema = self.schema(kind.as_deref()?)?;
            let whose = format!("the output of `{}`", kind.as_deref()?);
            return self.no_output(&schema, reference, 1, &whose, placed);
        }
        match root {
            "params" => {
                let names =
                    self.spaces[allowed.space].params.iter().map(|param| param.name.as_str()).collect();
                self.known(root, field, names, allowed.space, at_field)
            }
            "vars" => {
                let names = self.spaces[allowed.space].vars.iter().map(|var| var.name.as_str()).collect();
                self.known(root, field, names, allowed.space, at_field).or_else(|| {
                    let missing = self.no_field_of_var(&reference.path, allowed.space)?;
                    let at = missing.at + 2;
                    let message = format!(
                        "`{}` has no key `{}`",
                        reference.path[..at].join("."),
                        short(&reference.path[at])
                    );
                    let hint = missing.hint(&reference.path[at], "its keys are");
                    let span = placed.place(&reference.part(at));
                    Some(Diagnostic::error(Code::UnknownName, message, span).hint(hint))
                })
            }
            "hosts" if allowed.hosts => {
                let names = self.inventory.hosts.iter().map(|host| host.name.as_str()).collect();
                self.known(root, field, names, 0, at_field)
            }
            "run" => self.known(root, field, RUN.to_vec(), 0, at_field),
            "secrets" if placed.condition => {
                let message = "a condition cannot see a secret: it would show whether the secret is the same";
                Some(Diagnostic::error(Code::OutOfPlace, message, span))
            }
            "secrets" => {
                let names = self.secrets.iter().map(|secret| secret.name.as_str()).collect();
                self.known(root, field, names, 0, at_field)
            }
            "out" if allowed.out && allowed.watched.is_empty() => {
                let schema = self.own_output(allowed)?;
                let kind = allowed.out_kind.as_deref();
                let kind = kind.or_else(|| Some(&*self.steps.get(allowed.step?)?.body.kind))?;
                self.no_output(&schema, reference, 1, &format!("the output of `{kind}`"), placed)
            }
            "out" if allowed.out => {
                let message = "`out` does not exist beside `watch`: its steps have names".to_owned();
                let hint = format!(
                    "use one of: {}",
                    allowed.watched.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
                );
                Some(Diagnostic::error(Code::OutOfPlace, message, span).hint(hint))
            }
            "out" => {
                let message = "`out` is known only in `expect` and in conditions such as `succeed_when`";
                Some(
                    Diagnostic::error(Code::OutOfPlace, message, span)
                        .hint("read another step by `steps.ID.out`"),
                )
            }
            "each" if allowed.each.is_some() => match field {
                Some("key" | "value") => None,
                _ => {
                    let message = "`each` has `each.key` and `each.value`";
                    Some(Diagnostic::error(Code::UnknownName, message, span))
                }
            },
            "each" => {
                let message = "`each` is known only in a step with `foreach`";
                Some(Diagnostic::error(Code::OutOfPlace, message, span))
            }
            "steps" if allowed.steps => self.step(reference, placed, allowed, span),
            "steps" | "hosts" => {
                let message =
                    format!("`{root}` is not known here: this value is needed before any step runs");
                Some(Diagnostic::error(Code::OutOfPlace, message, span))
            }
            _ => {
                let mut known = vec!["params", "vars", "steps", "hosts", "secrets", "run"];
                if allowed.out {
                    known.push("out");
                }
                if allowed.each.is_some() {
                    known.push("each");
                }
                known.extend(allowed.alias());
                known.extend(allowed.watched.iter().map(|(name, _)| name.as_str()));
                let message = format!("unknown name `{}`", short(root));
                let hint = did_you_mean(root, known.iter().copied()).unwrap_or_else(|| {
                    format!("known names are: {}; text stands in quotes", known.join(", "))
                });
                Some(Diagnostic::error(Code::UnknownName, message, span).hint(hint))
            }
        }
    }

    fn known(
        &mut self,
        root: &str,
        field: Option<&str>,
        names: Vec<&str>,
        space: usize,
        span: Span,
    ) -> Option<Diagnostic> {
        let Some(field) = field else {
            self.used.extend(names.iter().map(|name| (space, format!("{root}.{name}"))));
            return None;
        };
        if names.contains(&field) {
            self.used.insert((space, format!("{root}.{field}")));
            return None;
        }
        let message = format!("unknown name `{root}.{}`", short(field));
        let hint = did_you_mean(field, names.iter().copied()).unwrap_or_else(|| match names.as_slice() {
            [] if space > 0 => format!("this fragment has no `{root}` of its own"),
            [] => format!("the playbook has no `{root}`"),
            names => format!("`{root}` has: {}", names.join(", ")),
        });
        Some(Diagnostic::error(Code::UnknownName, message, span).hint(hint))
    }

    fn step(
        &mut self,
        reference: &Reference,
        placed: &Placed,
        allowed: &Allowed,
        span: Span,
    ) -> Option<Diagnostic> {
        let id = reference.path.get(1)?;
        let own = allowed.step.and_then(|step| self.steps.get(step));
        let include = self.spaces[allowed.space].include;
        let Some(other) = self.by_id.get(global(include, id).as_str()).copied() else {
            let hint = self.near(include, id);
            let message = format!("unknown step `{}`", short(id));
            let span = placed.place(&reference.part(1));
            return Some(Diagnostic::error(Code::UnknownName, message, span).hint(hint));
        };
        let own = own?;
        if std::ptr::eq(own, other) {
            let message = format!("`{id}` refers to itself");
            return Some(
                Diagnostic::error(Code::Cycle, message, span).hint("its own output is `out`, in `expect`"),
            );
        }
        if other.phase > own.phase || (own.phase == Phase::Cleanup && other.phase == Phase::OnFailure) {
            let message = format!("`{id}` runs in `{}`, after `{}`", other.phase, own.phase);
            let diagnostic = Diagnostic::error(Code::OutOfPlace, message, span);
            return Some(diagnostic.related(other.span, format!("`{id}` is here")));
        }
        match reference.path.get(2).map(String::as_str) {
            Some("status") | None => None,
            Some("out") => self.output(reference, other, own, placed, span),
            Some(field) => {
                let message = format!("unknown name `steps.{id}.{}`", short(field));
                let hint = format!("a step has `steps.{id}.out` and `steps.{id}.status`");
                let span = placed.place(&reference.part(2));
                Some(Diagnostic::error(Code::UnknownName, message, span).hint(hint))
            }
        }
    }

    fn output(
        &self,
        reference: &Reference,
        other: &StepDef,
        own: &StepDef,
        placed: &Placed,
        span: Span,
    ) -> Option<Diagnostic> {
        // As the text calls it.
        let id = reference.step()?;
        let asked = placed
            .expr
            .references()
            .iter()
            .any(|r| r.step() == Some(id) && (r.guarded || r.path.get(2).is_some_and(|f| f == "status")));
        let both_guarded = own
            .when
            .as_ref()
            .is_some_and(|when| when.steps().any(|step| step == id) || Some(when) == other.when.as_ref());
        if other.when.is_some() && !asked && !both_guarded && !reference.guarded {
            let message = format!("`{id}` may be skipped by its `when`: it may have no output");
            let hint =
                format!("ask first: has(steps.{id}.out) ? … : …, or give this step a `when` on steps.{id}");
            let diagnostic = Diagnostic::error(Code::MayBeSkipped, message, span);
            return Some(diagnostic.related(other.span, "this step has a `when`").hint(hint));
        }
        let schema = self.output_of(other)?;
        self.no_output(
            &schema,
            reference,
            3,
            &format!("`{id}` is a `{}` step: its output", other.body.kind),
            placed,
        )
    }

    /// A field, `from` the third or so part of a reference, that an output does not have.
    fn no_output(
        &self,
        schema: &Value,
        reference: &Reference,
        from: usize,
        whose: &str,
        placed: &Placed,
    ) -> Option<Diagnostic> {
        let missing = walk(schema, reference.path.get(from..)?).err()?;
        let at = from + missing.at;
        let within = match missing.at {
            0 => String::new(),
            _ => format!(" in `{}`", reference.path[from..at].join(".")),
        };
        let field = &reference.path[at];
        let message = format!("{whose} has no `{}`{within}", short(field));
        let hint = missing.hint(field, "it has");
        let span = placed.place(&reference.part(at));
        Some(Diagnostic::error(Code::UnknownName, message, span).hint(hint))
    }

    /// What to say where a step is not known: the nearest, or all of its text.
    fn near(&self, include: Option<&str>, id: &str) -> String {
        let of_include = global(include, id);
        let below: Vec<&str> = self
            .steps
            .iter()
            .filter(|step| step.include.as_ref().is_some_and(|within| *within == of_include))
            .filter_map(|step| local(include, &step.id))
            .collect();
        if !below.is_empty() {
            return format!("`{}` is an include: its steps are: {}", short(id), below.join(", "));
        }
        let names: Vec<&str> = self.steps.iter().filter_map(|step| local(include, &step.id)).collect();
        did_you_mean(id, names.iter().copied())
            .unwrap_or_else(|| format!("the steps are: {}", names.join(", ")))
    }

    /// `needs` names steps of the same phase.
    pub(super) fn needs(&self, found: &mut Diagnostics) {
        for step in self.steps {
            let include = step.include.as_deref();
            for (need, span) in &step.needs {
                let called = local(include, need).unwrap_or(need);
                let diagnostic = match self.by_id.get(need.as_str()) {
                    Some(other) if other.id == step.id => {
                        Some(Diagnostic::error(Code::Cycle, format!("`{called}` needs itself"), *span))
                    }
                    Some(other) if other.phase != step.phase => {
                        let message =
                            format!("`{called}` runs in `{}`, this step in `{}`", other.phase, step.phase);
                        let hint =
                            "phases follow each other by themselves; `needs` orders steps of one phase";
                        let diagnostic = Diagnostic::error(Code::OutOfPlace, message, *span);
                        Some(diagnostic.related(other.span, format!("`{need}` is here")).hint(hint))
                    }
                    Some(_) => None,
                    None => {
                        let names = self
                            .steps
                            .iter()
                            .filter(|other| other.phase == step.phase)
                            .filter_map(|other| local(include, &other.id));
                        let message = format!("unknown step `{}`", short(called));
                        let diagnostic = Diagnostic::error(Code::UnknownName, message, *span);
                        Some(match did_you_mean(called, names) {
                            Some(hint) => diagnostic.hint(hint),
                            None => diagnostic,
                        })
                    }
                };
                diagnostic.into_iter().for_each(|diagnostic| found.push(diagnostic));
            }
        }
    }

    /// Params and vars that nothing uses.
    pub(super) fn unused(&self, found: &mut Diagnostics) {
        for (space, Space { params, vars, .. }) in self.spaces.iter().enumerate() {
            let params = params.iter().map(|param| ("param", "params", &param.name, param.span));
            let vars = vars.iter().map(|var| ("var", "vars", &var.name, var.span));
            for (what, root, name, span) in params.chain(vars) {
                if !self.used.contains(&(space, format!("{root}.{name}"))) {
                    let message = format!("{what} `{name}` is never used");
                    found.push(Diagnostic::warning(Code::Unused, message, span));
                }
            }
        }
    }

    /// Literal names of hosts.
    pub(super) fn host_names(&self, places: &[(String, Span, bool)], found: &mut Diagnostics) {
        let hosts = &self.inventory.hosts;
        let names: BTreeSet<&str> = hosts.iter().map(|host| host.name.as_str()).chain(["local"]).collect();
        for (name, span, of_step) in places.iter().filter(|(name, ..)| !names.contains(name.as_str())) {
            if self.inventory.has_group(name) {
                if !of_step {
                    let message = format!("`{}` is a group, and one host is asked here", short(name));
                    let hint = "let the step itself run `on` the group; here stands: on: ${{ each.key }}";
                    found.push(Diagnostic::error(Code::OutOfPlace, message, *span).hint(hint));
                }
                continue;
            }
            let message = format!("unknown host `{}`", short(name));
            let hint = did_you_mean(name, names.iter().copied()).unwrap_or_else(|| {
                let names: Vec<&str> = names.iter().copied().take(20).collect();
                format!("the hosts are: {}; more can come from an inventory: --hosts FILE", names.join(", "))
            });
            found.push(Diagnostic::error(Code::UnknownName, message, *span).hint(hint));
        }
    }
}

/// Puts vars in an order in which each can be evaluated.
///
/// # Errors
/// The names of a cycle, each made of the next, and where each stands.
pub(super) fn order_vars(vars: Vec<Var>) -> Result<Vec<Var>, (Vec<String>, Vec<Span>)> {
    let needs: BTreeMap<String, Vec<String>> = vars
        .iter()
        .map(|var| {
            let mut names = Vec::new();
            var.value.for_each_expr(&mut |expr| {
                let used = expr
                    .references()
                    .iter()
                    .filter(|r| r.path[0] == "vars")
                    .filter_map(|r| r.path.get(1).cloned());
                names.extend(used);
            });
            (var.name.clone(), names)
        })
        .collect();
    let mut left = vars;
    let mut ordered: Vec<Var> = Vec::new();
    while !left.is_empty() {
        let ready = left.iter().position(|var| {
            needs[&var.name]
                .iter()
                .all(|need| !needs.contains_key(need) || ordered.iter().any(|done| done.name == *need))
        });
        match ready {
            Some(at) => ordered.push(left.remove(at)),
            None => {
                let mut path = vec![left[0].name.clone()];
                loop {
                    let last = &path[path.len() - 1];
                    let next =
                        needs[last].iter().find(|need| left.iter().any(|var| var.name == **need)).cloned();
                    let next = next.unwrap_or_else(|| last.clone());
                    if let Some(at) = path.iter().position(|name| *name == next) {
                        let mut cycle = path.split_off(at);
                        cycle.push(next);
                        let place = |name: &String| {
                            left.iter().find(|var| var.name == *name).map_or(left[0].span, |var| var.span)
                        };
                        let spans = cycle.iter().map(place).collect();
                        return Err((cycle, spans));
                    }
                    path.push(next);
                }
            }
        }
    }
    Ok(ordered)
}
