//! From a valid playbook and the caller's values to a plan. Pure: asks the system nothing.

use super::{
    Each, Forecast, PLAN_VERSION, Place, Plan, PlanProblem, PlannedStep, diagnostics,
    fixed::{Fixed, any_run},
    preview::{Preview, preview},
    render::{render, with_each},
};
use crate::{
    event::{Phase, StepId},
    expr::{Expr, LESS, Outside, Scope, plan_costs_too_much},
    graph::{self, Graph},
    playbook::{Body, Playbook, RetryDef, RetryPolicy, StepDef, Template},
    quantity::Millis,
    registry::Registry,
    step::{Description, ParamsView, RunInfo},
};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The limit of one attempt where the playbook gives none, by what the step is.
const DEFAULT_TIMEOUT: Millis = Millis(5 * 60_000);
/// Prechecks run side by side and are to be over within five seconds in all.
const PRECHECK_TIMEOUT: Millis = Millis(5_000);
/// Waits are bounded too, or a playbook could hang.
const WAIT_TIMEOUT: Millis = Millis(30 * 60_000);
/// The most steps a plan may have after `foreach`.
const MAX_STEPS: usize = 20_000;
/// The most pairs of a step and one that it waits for. Two lists of a thousand items each are within it.
const MAX_EDGES: usize = 1_000_000;

/// What the caller hands in beside the playbook.
pub struct Inputs {
    /// Values for params, by name.
    pub params: Map<String, Value>,
    /// The run that is to carry the plan out.
    pub run: RunInfo,
    /// Overrides the playbook's `max_parallel`.
    pub max_parallel: Option<usize>,
    /// How many local steps may work at once if nobody says so.
    pub default_parallel: usize,
    /// Overrides the `keep` of all steps.
    pub keep: Option<crate::playbook::Keep>,
    /// What expressions may read.
    pub outside: Arc<dyn Outside>,
    /// The inventory that the playbook was read with, absolute.
    pub inventory: Option<String>,
}

/// The plan of a playbook.
///
/// # Errors
/// All problems with params, vars, hosts, `foreach` and cycles.
pub fn build(playbook: &Playbook, inputs: &Inputs, registry: &Registry) -> Result<Plan, Vec<PlanProblem>> {
    let graph = Graph::new(playbook).map_err(|cycles| {
        let problem = |cycle: &graph::Cycle| {
            let problem =
                PlanProblem::new(format!("these steps wait for each other: {}", cycle.names(playbook)))
                    .hint("remove one of their `needs` or references");
            match cycle.steps.first() {
                Some(first) => problem.at(playbook.steps[*first].span),
                None => problem,
            }
        };
        cycles.iter().map(problem).collect::<Vec<_>>()
    })?;
    let fixed = Fixed::new(playbook, inputs, &inputs.run)?;
    let mut builder = Builder {
        playbook,
        registry,
        fixed: &fixed,
        problems: Vec::new(),
        keep: inputs.keep,
        places: BTreeMap::new(),
    };
    let mut steps = builder.steps(&graph);
    if builder.problems.is_empty() && fixed.scope.meter().is_some_and(|meter| meter.left() == 0) {
        builder.problems.push(PlanProblem::new(plan_costs_too_much()).hint(LESS));
    }
    if !builder.problems.is_empty() {
        return Err(builder.problems);
    }
    diagnostics::add(&mut steps, registry, &fixed);
    let same_of_any = same_of_any_run(playbook, inputs);
    let mut plan = Plan {
        version: PLAN_VERSION,
        hash: String::new(),
        playbook: playbook.name.clone(),
        description: playbook.description.clone(),
        source: playbook.sources.main().name.clone(),
        run: inputs.run.clone(),
        inventory: inputs.inventory.clone(),
        params: fixed.params,
        vars: fixed.vars,
        includes: fixed.includes,
        hosts: fixed.hosts,
        secrets: fixed.secrets,
        max_parallel: inputs.max_parallel.or(playbook.max_parallel).unwrap_or(inputs.default_parallel).max(1),
        steps,
    };
    plan.hash = plan.compute_hash(&same_of_any);
    Ok(plan)
}

/// The values of vars, includes and lists of `foreach` as they are in any run: those of two plans differ only if the
/// playbook does, or a file or variable that it reads. Null where a value takes more than the form of a run's id.
fn same_of_any_run(playbook: &Playbook, inputs: &Inputs) -> Value {
    let run = any_run(&inputs.run);
    let Ok(fixed) = Fixed::new(playbook, inputs, &run) else { return Value::Null };
    let items = playbook.steps.iter().map(|def| {
        let items = def.foreach.as_ref().map(|foreach| render(&foreach.items, fixed.scope_of(def)));
        items.and_then(Result::ok).unwrap_or_default()
    });
    let items: Value = items.filter(|items| !items.is_null()).collect();
    json!({ "vars": fixed.vars, "includes": fixed.includes, "items": items })
}

struct Builder<'a> {
    playbook: &'a Playbook,
    registry: &'a Registry,
    fixed: &'a Fixed,
    problems: Vec<PlanProblem>,
    keep: Option<crate::playbook::Keep>,
    /// Where the lines of each text begin, by its name.
    places: BTreeMap<String, Places>,
}

/// Where the lines of a text begin: found once, for thousands of steps ask.
struct Places(Vec<usize>);

impl Places {
    fn new(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    fn of(&self, text: &str, byte: usize) -> Place {
        let line = self.0.partition_point(|start| *start <= byte);
        let start = self.0[line - 1];
        let before = text.get(start..byte).unwrap_or_default();
        Place { line, column: before.chars().count() + 1 }
    }
}

impl Builder<'_> {
    fn steps(&mut self, graph: &Graph) -> Vec<PlannedStep> {
        let defs = &self.playbook.steps;
        let items: Vec<Vec<Option<Each>>> = defs.iter().map(|def| self.items(def)).collect();
        let count: usize = items.iter().map(Vec::len).sum();
        if count > MAX_STEPS {
            let message = format!("the plan has {count} steps, at most {MAX_STEPS} are allowed");
            self.problems.push(PlanProblem::new(message).hint("shorten the lists of `foreach`"));
            return Vec::new();
        }
        let keys: Vec<Vec<Option<Value>>> = items
            .iter()
            .map(|items| items.iter().map(|each| each.as_ref().map(|each| each.key.clone())).collect())
            .collect();
        let mut first = 0;
        let instances: Vec<Vec<StepId>> = items
            .iter()
            .map(|items| {
                let ids = (first..first + items.len()).map(StepId).collect();
                first += items.len();
                ids
            })
            .collect();
        let by_id: BTreeMap<&str, usize> =
            defs.iter().enumerate().map(|(i, def)| (def.id.as_str(), i)).collect();
        let mut steps = Vec::with_capacity(count);
        let mut edges = 0_usize;
        for (position, (def, items)) in defs.iter().zip(items).enumerate() {
            let needed: BTreeSet<usize> =
                def.needs.iter().filter_map(|(id, _)| by_id.get(id.as_str()).copied()).collect();
            let read: Vec<(usize, bool)> = graph::references(def)
                .into_iter()
                .filter_map(|(id, own_key)| Some((*by_id.get(id.as_str())?, own_key)))
                .map(|(up, own_key)| (up, own_key && keys[up] == keys[position]))
                .collect();
            let before = graph.before(position);
            // Items that wait or read pair by pair need one each; else each needs them all.
            let whole = |up: usize| needed.contains(&up) || !read.contains(&(up, true));
            let each_waits: usize =
                before.iter().filter(|up| whole(**up)).map(|up| instances[*up].len()).sum();
            let each_reads: usize =
                read.iter().filter(|(_, own_key)| !own_key).map(|(up, _)| instances[*up].len()).sum();
            edges = edges.saturating_add(each_waits.max(each_reads).saturating_mul(items.len()));
            if edges > MAX_EDGES {
                let message = format!(
                    "`{}`: each of its {} items waits for {} others; a plan holds at most {MAX_EDGES} such pairs",
                    def.id,
                    items.len(),
                    each_waits.max(each_reads)
                );
                let hint =
                    "put a step without `foreach` between the two: it waits for all, and all wait for it";
                self.problems.push(PlanProblem::new(message).at(def.span).hint(hint));
                return Vec::new();
            }
            for (item, each) in items.into_iter().enumerate() {
                let mut needs = BTreeSet::new();
                let mut reads = BTreeSet::new();
                for (up, own_key) in &read {
                    match own_key {
                        true => reads.extend(instances[*up].get(item)),
                        false => reads.extend(&instances[*up]),
                    }
                }
                for up in &before {
                    match whole(*up) {
                        true => needs.extend(&instances[*up]),
                        false => needs.extend(instances[*up].get(item)),
                    }
                }
                steps.extend(self.step(def, each, needs.into_iter().collect(), reads.into_iter().collect()));
            }
        }
        steps
    }

    /// The items of a step's `foreach`; one `None` without it.
    fn items(&mut self, def: &StepDef) -> Vec<Option<Each>> {
        let Some(foreach) = &def.foreach else { return self.hosts_of(def).unwrap_or_else(|| vec![None]) };
        let each = |key: Value, value: Value| Some(Each { key, value, alias: foreach.alias.clone() });
        match render(&foreach.items, self.fixed.scope_of(def)) {
            Ok(Value::Array(items)) => {
                items.into_iter().enumerate().map(|(i, value)| each(Value::from(i), value)).collect()
            }
            Ok(Value::Object(map)) => {
                map.into_iter().map(|(key, value)| each(Value::from(key), value)).collect()
            }
            Ok(other) => {
                let message = format!("`{}`: `foreach`: expected a list or a map, found `{other}`", def.id);
                self.problems.push(PlanProblem::new(message).at(def.span));
                Vec::new()
            }
            Err(error) => {
                let message = format!("`{}`: `foreach`: {}", def.id, error.message);
                self.problems.push(PlanProblem::new(message).at(def.span));
                Vec::new()
            }
        }
    }

    /// The hosts of a step that runs on a group.
    fn hosts_of(&self, def: &StepDef) -> Option<Vec<Option<Each>>> {
        let inventory = &self.playbook.inventory;
        let members = inventory.members(inventory.group_of(def.body.on.as_ref())?)?;
        let specs = self.fixed.scope.get("hosts")?.as_object()?;
        let each = |host: &str| {
            let value = specs.get(host).cloned().unwrap_or_default();
            Some(Each { key: Value::from(host), value, alias: None })
        };
        Some(members.into_iter().map(each).collect())
    }

    fn step(
        &mut self,
        def: &StepDef,
        each: Option<Each>,
        needs: Vec<StepId>,
        reads: Vec<StepId>,
    ) -> Option<PlannedStep> {
        let scope = with_each(self.fixed.scope_of(def), each.as_ref());
        let id = match &each {
            Some(each) => {
                format!("{}[{}]", def.id, each.key.as_str().map_or(each.key.to_string(), str::to_owned))
            }
            None => def.id.clone(),
        };
        let step = self.registry.get(&def.body.kind)?;
        let mut preview = Preview::new(&scope);
        let (value, unknown) = preview.map(&def.body.params);
        let costly = preview.costly;
        let description = step.describe(&ParamsView::new(&value, &unknown));
        if unknown.is_empty()
            && let Err(error) = step.accepts(&value)
        {
            self.problems.push(PlanProblem::new(format!("`{id}`: {}", error.message)).at(def.span));
        }
        let forecast = self.first_forecast(def, &scope, unknown.is_empty(), &description);
        // Where all of them together cost too much, that is told once.
        let told = !self.problems.is_empty() && scope.meter().is_some_and(|meter| meter.left() == 0);
        if let (Some(error), false) = (costly, told || matches!(forecast, Forecast::Skipped(_))) {
            self.problems.push(PlanProblem::of(&format!("`{id}`"), error).at(def.span));
        }
        let timeout = self.timeout(def, &scope, &description);
        let retry = self.retry(def, &scope);
        let lock = def.lock.as_ref().and_then(|lock| match render(lock, &scope) {
            Ok(Value::String(name)) => Some(name),
            Ok(other) => {
                let message = format!("`{id}`: `lock`: expected a name, found `{other}`");
                self.problems.push(PlanProblem::new(message).at(def.span));
                None
            }
            Err(error) => {
                self.problems
                    .push(PlanProblem::new(format!("`{id}`: `lock`: {}", error.message)).at(def.span));
                None
            }
        });
        let (source, span) = self.playbook.sources.at(def.span);
        let places = self.places.entry(source.name.clone()).or_insert_with(|| Places::new(&source.text));
        let at = places.of(&source.text, span.start);
        let body = body_of(def, each.as_ref(), &scope);
        Some(PlannedStep {
            id,
            base: def.id.clone(),
            include: def.include.clone(),
            each,
            name: def.name.clone(),
            phase: def.phase,
            needs,
            reads,
            when: def.when.clone(),
            expect: def.expect.clone(),
            body,
            undo: def.undo.clone(),
            timeout,
            retry,
            keep: self.keep.unwrap_or(def.keep),
            continue_on_error: def.continue_on_error,
            lock,
            hint: def.hint.clone(),
            description,
            forecast,
            at,
        })
    }

    /// What can be said without asking the system.
    fn first_forecast(
        &self,
        def: &StepDef,
        scope: &Scope,
        known: bool,
        description: &Description,
    ) -> Forecast {
        if let Some(when) = &def.when {
            if is_known(when, scope) && when.truth(scope) == Ok(false) {
                return Forecast::Skipped(why_false(when, scope));
            }
            if !is_known(when, scope) {
                return Forecast::Unknown("whether it runs is known in the run".into());
            }
        }
        match graph::references(def).into_keys().next() {
            Some(after) if !known => Forecast::Unknown(format!("known after {after}")),
            _ if description.waits => Forecast::Unknown("known in the run".into()),
            _ if description.effect.is_read_only() => Forecast::Unknown("known in the run".into()),
            _ => Forecast::Will,
        }
    }

    fn timeout(&mut self, def: &StepDef, scope: &Scope, description: &Description) -> Millis {
        let default = match def.phase {
            _ if description.waits => WAIT_TIMEOUT,
            Phase::Precheck => PRECHECK_TIMEOUT,
            _ => DEFAULT_TIMEOUT,
        };
        self.value(def, "timeout", def.timeout.as_ref(), scope).unwrap_or(default)
    }

    fn retry(&mut self, def: &StepDef, scope: &Scope) -> RetryPolicy {
        let default = RetryPolicy::default();
        let Some(RetryDef { attempts, delay, backoff, max_delay, jitter, on }) = &def.retry else {
            return default;
        };
        RetryPolicy {
            attempts: self.value(def, "retry.attempts", Some(attempts), scope).unwrap_or(1).max(1),
            delay: self.value(def, "retry.delay", delay.as_ref(), scope).unwrap_or(default.delay),
            backoff: self
                .value(def, "retry.backoff", backoff.as_ref(), scope)
                .unwrap_or(default.backoff)
                .max(1.0),
            max_delay: self
                .value(def, "retry.max_delay", max_delay.as_ref(), scope)
                .unwrap_or(default.max_delay),
            jitter: self
                .value(def, "retry.jitter", jitter.as_ref(), scope)
                .unwrap_or(default.jitter)
                .clamp(0.0, 1.0),
            on: on.clone(),
        }
    }

    /// The value of a key that must be known when planning.
    fn value<T: serde::de::DeserializeOwned>(
        &mut self,
        def: &StepDef,
        key: &str,
        template: Option<&Template>,
        scope: &Scope,
    ) -> Option<T> {
        let rendered = render(template?, scope).map_err(|error| error.message);
        match rendered.and_then(|value| T::deserialize(value).map_err(|error| error.to_string())) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problems
                    .push(PlanProblem::new(format!("`{}`: `{key}`: {message}", def.id)).at(def.span));
                None
            }
        }
    }
}

/// Whether all steps are in the scope that an expression reads: none is before a probe has seen its output.
pub(super) fn knows_steps(expr: &Expr, scope: &Scope) -> bool {
    let seen = |step: &str| scope.get("steps").is_some_and(|steps| steps.get(step).is_some());
    expr.references().iter().filter(|of| of.path[0] == "steps").all(|of| of.step().is_some_and(seen))
}

/// Whether the value of an expression can be known before the step runs.
pub(super) fn is_known(expr: &Expr, scope: &Scope) -> bool {
    !expr.uses("out") && knows_steps(expr, scope)
}

/// Why a `when` is false: with the values behind it, where they say more than the condition itself.
pub(super) fn why_false(when: &Expr, scope: &Scope) -> String {
    let text = when.text().trim();
    let values: Vec<String> = when.explain(scope).into_iter().filter(|line| line != text).collect();
    match values.as_slice() {
        [] => format!("`{text}` is false"),
        values => format!("`{text}` is false: {}", values.join(", ")),
    }
}

/// The body of one item: of a group, on that host. A host that is known by now stands there by its name.
fn body_of(def: &StepDef, each: Option<&Each>, scope: &Scope) -> Body {
    let mut body = def.body.clone();
    if let (None, Some(each), Some(on)) = (&def.foreach, each, &mut body.on) {
        *on = Template::Literal(each.key.clone());
    }
    body.on = match body.on {
        Some(on @ (Template::Expr(_) | Template::Text(_))) => match preview(&on, scope) {
            (Value::String(host), true) if host == "local" => None,
            (host @ Value::String(_), true) => Some(Template::Literal(host)),
            _ => Some(on),
        },
        on => on,
    };
    body
}
