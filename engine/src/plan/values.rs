//! The values that a plan begins with: vars, hosts, and where its secrets are.

use super::{PlanProblem, render::render};
use crate::{
    expr::Scope,
    host::HostSpec,
    playbook::{Playbook, Template, Var},
    secret::SecretSource,
};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, path::Path};

pub(super) fn eval_vars(defs: &[Var], scope: &mut Scope) -> Result<Map<String, Value>, Vec<PlanProblem>> {
    let mut vars = Map::new();
    let mut problems = Vec::new();
    scope.set("vars", Value::Object(Map::new()));
    for var in defs {
        match render(&var.value, scope) {
            Ok(value) => {
                scope.put("vars", &var.name, value.clone());
                vars.insert(var.name.clone(), value);
            }
            Err(error) => {
                // A var that only fails because another one did is not worth a line of its own.
                let mut follows = false;
                var.value.for_each_expr(&mut |expr| {
                    follows |= expr.references().iter().any(|reference| {
                        reference.path[0] == "vars"
                            && reference.path.get(1).is_some_and(|name| !vars.contains_key(name))
                    });
                });
                if !follows {
                    let problem =
                        PlanProblem::new(format!("var `{}`: {}", var.name, error.message)).at(var.span);
                    problems.push(match error.hint {
                        Some(hint) => problem.hint(hint),
                        None => problem,
                    });
                }
            }
        }
    }
    if problems.is_empty() { Ok(vars) } else { Err(problems) }
}

/// The text that a template must give, or why it does not.
fn text(template: &Template, scope: &Scope) -> Result<String, String> {
    match render(template, scope) {
        Ok(Value::String(text)) if !text.is_empty() => Ok(text),
        Ok(other) => Err(format!("expected text, found `{other}`")),
        Err(error) => Err(error.message),
    }
}

pub(super) fn eval_secrets(
    playbook: &Playbook,
    scope: &Scope,
    dir: &Path,
) -> Result<BTreeMap<String, SecretSource>, Vec<PlanProblem>> {
    let mut problems = Vec::new();
    let mut secrets = BTreeMap::new();
    for secret in &playbook.secrets {
        let text = match text(&secret.place, scope) {
            Ok(text) => text,
            Err(why) => {
                let message = format!("secret `{}`: `{}`: {why}", secret.name, secret.key);
                problems.push(PlanProblem::new(message).at(secret.span));
                continue;
            }
        };
        let source = match secret.key {
            "env" => SecretSource::Env(text),
            "file" => SecretSource::File(dir.join(text).display().to_string()),
            _ => SecretSource::Credential(text),
        };
        secrets.insert(secret.name.clone(), source);
    }
    if problems.is_empty() { Ok(secrets) } else { Err(problems) }
}

/// A file that ssh is told of, seen from where the run is planned; what ssh itself expands stays as it is.
fn from_here(path: String, dir: &Path) -> String {
    if path.starts_with(['/', '~', '%']) || path == "none" {
        return path;
    }
    dir.join(path).display().to_string()
}

pub(super) fn eval_hosts(
    playbook: &Playbook,
    scope: &Scope,
    dir: &Path,
) -> Result<Vec<HostSpec>, Vec<PlanProblem>> {
    let mut problems = Vec::new();
    let mut hosts = Vec::new();
    let group_vars = playbook.inventory.group_vars();
    for host in &playbook.inventory.hosts {
        let mut text = |key: &str, template: &Template| {
            text(template, scope)
                .map_err(|why| {
                    let message = format!("host `{}`: `{key}`: {why}", host.name);
                    problems.push(PlanProblem::new(message).at(host.span));
                })
                .ok()
        };
        let Some(ssh) = text("ssh", &host.ssh) else { continue };
        let mut file = |key: &str, template: &Option<Template>| {
            template.as_ref().and_then(|template| text(key, template)).map(|path| from_here(path, dir))
        };
        let known_hosts = file("known_hosts", &host.known_hosts);
        let config = file("config", &host.config);
        let identity = file("identity", &host.identity);
        if ssh.starts_with('-') {
            let message =
                format!("host `{}`: an ssh destination cannot begin with `-`, found `{ssh}`", host.name);
            problems.push(PlanProblem::new(message).at(host.span));
            continue;
        }
        let mut vars = Map::new();
        let by_groups = group_vars.get(host.name.as_str()).into_iter().flatten().copied();
        for (name, template) in by_groups.chain(&host.vars) {
            match render(template, scope) {
                Ok(value) => {
                    vars.insert(name.clone(), value);
                }
                Err(error) => {
                    let message = format!("host `{}`: `vars.{name}`: {}", host.name, error.message);
                    problems.push(PlanProblem::new(message).at(host.span));
                }
            }
        }
        hosts.push(HostSpec { name: host.name.clone(), ssh, known_hosts, config, identity, vars });
    }
    if problems.is_empty() { Ok(hosts) } else { Err(problems) }
}
