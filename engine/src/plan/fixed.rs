//! What a plan knows before its steps: params, vars, hosts, secrets, and the same of the fragments it includes.

use super::{
    Inputs, PlanProblem, PlannedInclude, bind_params, convert,
    render::render,
    values::{eval_hosts, eval_secrets, eval_vars},
};
use crate::{
    expr::Scope,
    host::HostSpec,
    playbook::{IncludeDef, Playbook, StepDef, Template},
    secret::{SecretSource, marks},
    step::RunInfo,
};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, path::Path};

/// The values that steps can use, and the names by which each text knows them.
pub(super) struct Fixed {
    pub(super) params: Map<String, Value>,
    pub(super) vars: Map<String, Value>,
    pub(super) hosts: Vec<HostSpec>,
    pub(super) secrets: BTreeMap<String, SecretSource>,
    pub(super) includes: BTreeMap<String, PlannedInclude>,
    /// The names that the playbook's own expressions see.
    pub(super) scope: Scope,
    /// The same for the expressions of each include.
    inner: BTreeMap<String, Scope>,
}

impl Fixed {
    pub(super) fn new(playbook: &Playbook, inputs: &Inputs, run: &RunInfo) -> Result<Self, Vec<PlanProblem>> {
        let dir = Path::new(&run.dir);
        let params = bind_params(playbook, &inputs.params, dir)?;
        let mut scope = Scope::new(inputs.outside.clone()).metered();
        scope.set("params", Value::Object(params.clone()));
        scope.set("run", serde_json::to_value(run).unwrap_or_default());
        // A var may hold the mark of a secret, whose place may be told by a var: the marks come first, for they depend
        // on nothing but the names.
        scope.set("secrets", marks(playbook.secrets.iter().map(|secret| &secret.name)));
        let vars = eval_vars(&playbook.vars, &mut scope)?;
        let hosts = eval_hosts(playbook, &scope, dir)?;
        let names: Map<String, Value> = hosts
            .iter()
            .map(|host| (host.name.clone(), serde_json::to_value(host).unwrap_or_default()))
            .collect();
        scope.set("hosts", Value::Object(names));
        let secrets = eval_secrets(playbook, &scope, dir)?;
        let (includes, inner) = (BTreeMap::new(), BTreeMap::new());
        let mut fixed = Self { params, vars, hosts, secrets, includes, scope, inner };
        let mut problems = Vec::new();
        for include in &playbook.includes {
            if let Err(found) = fixed.include(include, dir) {
                problems.extend(found);
            }
        }
        if problems.is_empty() { Ok(fixed) } else { Err(problems) }
    }

    /// The names that the expressions of a step see.
    pub(super) fn scope_of(&self, def: &StepDef) -> &Scope {
        self.scope_in(def.include.as_deref())
    }

    /// The names that the expressions of an include see; those of the playbook itself without one.
    pub(super) fn scope_in(&self, include: Option<&str>) -> &Scope {
        include.and_then(|id| self.inner.get(id)).unwrap_or(&self.scope)
    }

    fn include(&mut self, include: &IncludeDef, dir: &Path) -> Result<(), Vec<PlanProblem>> {
        let outer = self.scope_in(include.within.as_deref());
        let mut problems = Vec::new();
        let mut params = Map::new();
        let mut given = BTreeMap::new();
        for param in &include.params {
            let with = include.with.iter().find(|(name, ..)| *name == param.name);
            let (value, template, span) = match (with, &param.default) {
                (Some((_, span, template)), _) => (render(template, outer), template.clone(), *span),
                (None, Some(default)) => {
                    (Ok(default.clone()), Template::Literal(default.clone()), param.span)
                }
                // Reading has told of it.
                (None, None) => continue,
            };
            let value = value.map_err(|error| error.message).and_then(|value| convert(param, &value, dir));
            match value {
                Ok(value) => {
                    params.insert(param.name.clone(), value);
                    given.insert(param.name.clone(), template);
                }
                Err(why) => {
                    let message = format!("`{}`: `with.{}`: {why}", include.id, param.name);
                    problems.push(PlanProblem::new(message).at(span));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut scope = outer.clone();
        scope.set("params", Value::Object(params.clone()));
        let vars = eval_vars(&include.vars, &mut scope)?;
        let planned = PlannedInclude { source: include.source.clone(), given, params, vars };
        self.includes.insert(include.id.clone(), planned);
        self.inner.insert(include.id.clone(), scope);
        Ok(())
    }
}

/// A run of no time and no name: what a plan is apart from the run that carries it out is told with it.
pub(super) fn any_run(run: &RunInfo) -> RunInfo {
    RunInfo {
        id: "00000000000000000000000000".into(),
        stamp: "20000101_000000".into(),
        started_at: "2000-01-01T00:00:00+00:00".into(),
        ..run.clone()
    }
}
