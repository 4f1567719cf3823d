//! Reads `defaults`: what steps of a text have unless they say otherwise.

use super::{
    fields::{Fields, entries, kind, short},
    raw::{Node, NodeValue},
};
use crate::{
    diagnostic::{Code, Diagnostic, Diagnostics, Span, did_you_mean},
    event::Phase,
};
use std::{cell::RefCell, collections::BTreeSet};

/// The step keys that may have a default.
const KEYS: [&str; 4] = ["timeout", "retry", "keep", "lock"];

/// A key, its place, its value.
type Entry = (String, Span, Node);

/// The defaults of one text. A step's own key wins over that of its phase, and that over the one for all. A value is
/// taken as it stands: nothing is known of it before a step uses it.
#[derive(Clone, Debug, Default)]
pub(super) struct Defaults {
    all: Vec<Entry>,
    phases: Vec<(Phase, Vec<Entry>)>,
    params: Vec<Entry>,
    used: RefCell<BTreeSet<Span>>,
}

impl Defaults {
    /// The section `defaults`; `kinds` are the step types.
    pub(super) fn read(node: &Node, kinds: &[&str], found: &mut Diagnostics) -> Self {
        let mut defaults = Self::default();
        for (key, span, value) in entries(node, "defaults", found) {
            let entry = || (key.to_owned(), span, value.clone());
            if KEYS.contains(&key) {
                defaults.all.push(entry());
            } else if let Some(phase) = Phase::ALL.into_iter().find(|phase| phase.name() == key) {
                let of_phase = entries(value, key, found);
                for (key, span, _) in of_phase.iter().filter(|(key, ..)| !KEYS.contains(key)) {
                    found.push(unknown(key, *span, KEYS));
                }
                let known = of_phase.into_iter().filter(|(key, ..)| KEYS.contains(key));
                let known = known.map(|(key, span, value)| (key.to_owned(), span, value.clone()));
                defaults.phases.push((phase, known.collect()));
            } else if !kinds.contains(&key) {
                let phases = Phase::ALL.map(Phase::name);
                let known = KEYS.iter().chain(&phases).chain(kinds).copied();
                found.push(unknown(key, span, known));
            } else if matches!(value.value, NodeValue::Map(_)) {
                defaults.params.push(entry());
            } else {
                let message =
                    format!("`defaults.{key}`: expected a map of parameters, found {}", kind(value));
                found.push(Diagnostic::error(Code::WrongType, message, value.span));
            }
        }
        defaults
    }

    /// Gives a step of this phase what it does not say itself.
    pub(super) fn fill<'n>(&'n self, phase: Phase, fields: &mut Fields<'n>) {
        let of_phase = self.phases.iter().filter(|(of, _)| *of == phase).flat_map(|(_, entries)| entries);
        for (key, span, value) in of_phase.chain(&self.all) {
            if fields.add(key, *span, value) {
                self.used.borrow_mut().insert(*span);
            }
        }
    }

    /// The parameters of a step type with those that it does not name itself.
    pub(super) fn merged(&self, kind: &str, node: &Node) -> Option<Node> {
        let (_, span, defaults) = self.params.iter().find(|(of, ..)| of == kind)?;
        let (NodeValue::Map(own), NodeValue::Map(defaults)) = (&node.value, &defaults.value) else {
            return None;
        };
        self.used.borrow_mut().insert(*span);
        let missing = defaults.iter().filter(|(key, ..)| !own.iter().any(|(name, ..)| name == key));
        let value = NodeValue::Map(own.iter().chain(missing).cloned().collect());
        Some(Node { value, span: node.span })
    }

    /// Notes what no step has taken.
    pub(super) fn finish(&self, found: &mut Diagnostics) {
        let phases = self.phases.iter().flat_map(|(_, entries)| entries);
        let used = self.used.borrow();
        for (key, span, _) in self.all.iter().chain(phases).chain(&self.params) {
            if !used.contains(span) {
                let message = format!("the default `{key}` is never used");
                found.push(Diagnostic::warning(Code::Unused, message, *span));
            }
        }
    }
}

fn unknown<'a>(key: &str, span: Span, known: impl IntoIterator<Item = &'a str>) -> Diagnostic {
    let message = format!("defaults: unknown key `{}`", short(key));
    let known: Vec<&str> = known.into_iter().collect();
    let hint = did_you_mean(key, known.iter().copied())
        .unwrap_or_else(|| format!("known keys are: {}", known.join(", ")));
    Diagnostic::error(Code::UnknownKey, message, span).hint(hint)
}
