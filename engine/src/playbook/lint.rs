//! What a valid playbook had better not do. `check` shows it, `check --strict` refuses it.
//!
//! A step that has a reason says so in a comment beside or above its id:
//! `# shakedown: allow no-undo: the log line may stay`.

mod allow;

use super::{Body, Keep, Playbook, StepDef, Template, shown::shown};
use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics},
    event::Phase,
    graph::Graph,
    registry::Registry,
    step::{Description, Effect, ParamsView},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The lints, for comments that allow one and for the documentation.
pub const LINTS: [Code; 7] = [
    Code::NoUndo,
    Code::NoTimeout,
    Code::Unordered,
    Code::SecretInArgv,
    Code::ShellValue,
    Code::Wildcard,
    Code::IgnoredEffect,
];

/// Everything that a playbook had better not do: warnings, in the order of the text.
#[must_use]
pub fn lint(playbook: &Playbook, registry: &Registry) -> Diagnostics {
    let mut found = Diagnostics::of(playbook.sources.clone());
    let mut lints = Lints { playbook, registry, found: Vec::new() };
    for position in 0..playbook.steps.len() {
        lints.step(position);
    }
    lints.order();
    let mut allowed = allow::Allowed::read(playbook);
    for (position, diagnostic) in lints.found {
        if !allowed.take(position, diagnostic.code) {
            found.push(diagnostic);
        }
    }
    allowed.finish(&mut found);
    found
}

struct Lints<'p> {
    playbook: &'p Playbook,
    registry: &'p Registry,
    /// What was found, each with the position of its step.
    found: Vec<(usize, Diagnostic)>,
}

impl Lints<'_> {
    fn warn(&mut self, position: usize, code: Code, message: String, hint: &str) {
        let span = self.playbook.steps[position].span;
        self.found.push((position, Diagnostic::warning(code, message, span).hint(hint)));
    }

    fn step(&mut self, position: usize) {
        let step = &self.playbook.steps[position];
        let id = &step.id;
        let Some(description) = describe(&step.body, self.registry) else { return };
        let lasts = matches!(step.phase, Phase::Prepare | Phase::Monitor) && step.keep != Keep::Always;
        if description.effect == Effect::NeedsWrittenUndo && step.undo.is_none() && lasts {
            let message = format!("`{id}` changes something, and nothing takes it back");
            let hint =
                "write an `undo`; if it only reads, say `reads: true`; if it is to stay, `keep: always`";
            self.warn(position, Code::NoUndo, message, hint);
        }
        if step.continue_on_error && !description.effect.is_read_only() && step.phase != Phase::Cleanup {
            let message = format!("`{id}` changes something, and the run passes even if it fails");
            let hint = "drop `continue_on_error`, or let a step that only reads say whether it may fail";
            self.warn(position, Code::IgnoredEffect, message, hint);
        }
        let (params, _) = shown(&step.body.params);
        let open = params.get("until").is_some() || params.get("watch").is_some();
        if description.waits && open && step.timeout.is_none() {
            let message = format!("`{id}` waits without a limit of its own: it may take 30 minutes to fail");
            self.warn(position, Code::NoTimeout, message, "say how long it may take, such as `timeout: 5m`");
        }
        for body in [Some(&step.body), step.undo.as_ref()].into_iter().flatten() {
            self.words(position, body);
        }
        let removes = [(step.phase == Phase::Cleanup).then_some(&step.body), step.undo.as_ref()];
        if let Some(script) = removes.into_iter().flatten().find_map(removes_by_wildcard) {
            let message =
                format!("`{id}` removes by a wildcard: `{script}` may match what is not of this run");
            let hint = "name what the run made, such as `steps.ID.out.path`, or put `run.id` into its name";
            self.warn(position, Code::Wildcard, message, hint);
        }
    }

    /// Secrets and pasted values in the words of a command.
    fn words(&mut self, position: usize, body: &Body) {
        let id = &self.playbook.steps[position].id;
        let Some(words) = argv(&body.params) else { return };
        let secret = words.iter().any(|word| {
            let mut found = false;
            word.for_each_expr(&mut |expr| {
                found |= expr.references().iter().any(|name| name.path[0] == "secrets")
            });
            found
        });
        if secret {
            let message =
                format!("`{id}` has a secret among its arguments, which every user of the machine can read");
            self.warn(position, Code::SecretInArgv, message, "hand it over by `env` or `stdin`");
        }
        if let Some(name) = pasted_into_shell(words) {
            let message =
                format!("`{id}` pastes a value into the script of `{name} -c`, where it is read as code");
            let hint = "hand it over by `env` and write \"$NAME\", or as a further word: \"$1\"";
            self.warn(position, Code::ShellValue, message, hint);
        }
    }

    /// Effects of one phase on the same thing, with no order between them.
    fn order(&mut self) {
        let steps = &self.playbook.steps;
        let mut touched: BTreeMap<(Phase, String), Vec<usize>> = BTreeMap::new();
        for (position, step) in steps.iter().enumerate() {
            for thing in touches(step, self.registry) {
                touched.entry((step.phase, thing)).or_default().push(position);
            }
        }
        touched.retain(|_, positions| positions.len() > 1);
        // Cycles were looked for before.
        let Ok(graph) = Graph::new(self.playbook) else { return };
        let mut place = vec![0; steps.len()];
        graph.order().into_iter().enumerate().for_each(|(at, position)| place[position] = at);
        for ((_, thing), mut positions) in touched {
            // If each comes after the one before it, all are in order.
            positions.sort_by_key(|position| place[*position]);
            for pair in positions.windows(2).filter(|pair| !comes_before(&graph, pair[0], pair[1])) {
                let (first, second) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
                let (one, other) = (&steps[first].id, &steps[second].id);
                let message = format!("`{one}` and `{other}` both change {thing}, in no order");
                let hint = format!("say which comes first: needs: [{one}]");
                self.warn(second, Code::Unordered, message, &hint);
            }
        }
    }
}

/// What a step does, told from what is written.
fn describe(body: &Body, registry: &Registry) -> Option<Description> {
    let (value, unknown) = shown(&body.params);
    registry.get(&body.kind).map(|kind| kind.describe(&ParamsView::new(&value, &unknown)))
}

/// The things that an effect changes, in words, as far as they are the same for all items of a `foreach`.
fn touches(step: &StepDef, registry: &Registry) -> Vec<String> {
    let Some(kind) = registry.get(&step.body.kind) else { return Vec::new() };
    let (value, unknown) = shown(&step.body.params);
    let view = ParamsView::new(&value, &unknown);
    if kind.describe(&view).effect.is_read_only() {
        return Vec::new();
    }
    let place = step.body.host_words().map(|host| format!(" on {host}")).unwrap_or_default();
    kind.touches(&view).into_iter().map(|thing| format!("{thing}{place}")).collect()
}

/// Whether a step comes before another of its phase.
fn comes_before(graph: &Graph, one: usize, other: usize) -> bool {
    let mut seen = BTreeSet::from([other]);
    let mut open = vec![other];
    while let Some(step) = open.pop() {
        for before in graph.before(step) {
            if before == one {
                return true;
            }
            if seen.insert(before) {
                open.push(before);
            }
        }
    }
    false
}

/// The words of `run`, as written.
fn argv(params: &Template) -> Option<&[Template]> {
    match params {
        Template::Map(entries) => {
            entries.iter().find(|(key, _)| key == "run").and_then(|(_, words)| match words {
                Template::List(words) => Some(words.as_slice()),
                _ => None,
            })
        }
        _ => None,
    }
}

/// The shell whose script has an expression inside of longer text, or is one.
fn pasted_into_shell(words: &[Template]) -> Option<String> {
    let name = text_of(words.first()?)?.rsplit('/').next()?.to_owned();
    if !["sh", "bash", "dash", "ash", "zsh", "ksh", "busybox"].contains(&name.as_str()) {
        return None;
    }
    let script = words.iter().skip_while(|word| !text_of(word).is_some_and(is_c)).nth(1)?;
    matches!(script, Template::Expr(_) | Template::Text(_)).then_some(name)
}

/// Whether a word of a shell's command line says that a script follows: `-c`, `-ec`.
fn is_c(word: &str) -> bool {
    word.starts_with('-') && !word.starts_with("--") && word.ends_with('c')
}

fn text_of(word: &Template) -> Option<&str> {
    match word {
        Template::Literal(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// The line of a script that removes by a wildcard.
fn removes_by_wildcard(body: &Body) -> Option<String> {
    let script = match &body.params {
        Template::Literal(value) => scripts(value),
        Template::Map(_) => scripts(&shown(&body.params).0),
        _ => None,
    }?;
    let removes = |line: &&str| {
        let mut words = line.split([' ', '\t', ';', '&', '|', '(']).filter(|word| !word.is_empty());
        let removes = words.any(|word| matches!(word.rsplit('/').next(), Some("rm" | "unlink" | "shred")));
        let wild =
            words.any(|word| !word.starts_with('#') && word.contains(['*', '?']) && !word.contains("$?"));
        removes && wild
    };
    script.lines().map(str::trim).find(removes).map(super::fields::short)
}

/// The text that a shell reads: `shell`, or what follows `-c` in `run`.
fn scripts(params: &Value) -> Option<String> {
    if let Some(script) = params.get("shell").and_then(Value::as_str) {
        return Some(script.to_owned());
    }
    let words = params.get("run")?.as_array()?;
    words.iter().skip_while(|word| !word.as_str().is_some_and(is_c)).nth(1)?.as_str().map(str::to_owned)
}
