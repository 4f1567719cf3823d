//! A playbook that has been read and found valid. Nothing here is evaluated yet.

use crate::{diagnostic::Span, event::Phase, expr::Expr, quantity::Millis, sources::Sources};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A valid playbook.
#[derive(Clone, Debug)]
pub struct Playbook {
    /// The text it was read from, and those it includes.
    pub sources: Sources,
    /// Its name.
    pub name: String,
    /// What it proves, in a sentence.
    pub description: String,
    /// The caller's contract, in the order of the file.
    pub params: Vec<Param>,
    /// Derived once before the plan, in an order in which each can be evaluated.
    pub vars: Vec<Var>,
    /// The hosts and groups: its own and those of the caller's inventory.
    pub inventory: Inventory,
    /// The secrets, in the order of the file.
    pub secrets: Vec<SecretDef>,
    /// How many local steps may work at once; the number of cores if not given.
    pub max_parallel: Option<usize>,
    /// The fragments that it includes, each after the one that includes it.
    pub includes: Vec<IncludeDef>,
    /// All steps, phase by phase, in the order of the file.
    pub steps: Vec<StepDef>,
    /// The files that its expressions load, as far as their names are known without a run.
    pub files: Vec<LoadedFile>,
}

/// A file that an expression loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedFile {
    /// Its path, as it is written or as the default of a param.
    pub path: String,
    /// Where the path or the param stands in the expression.
    pub span: Span,
}

/// A fragment in the place where it is included.
#[derive(Clone, Debug)]
pub struct IncludeDef {
    /// The id of the entry, as the whole playbook knows it.
    pub id: String,
    /// The fragment's file, or `bundled:NAME`.
    pub source: String,
    /// The include whose fragment it stands in; none in the playbook itself.
    pub within: Option<String>,
    /// The params of the fragment.
    pub params: Vec<Param>,
    /// `with`: values for them, with their places; expressions of the text that includes.
    pub with: Vec<(String, Span, Template)>,
    /// The vars of the fragment, in an order in which each can be evaluated.
    pub vars: Vec<Var>,
    /// Where the id of the entry stands.
    pub span: Span,
}

/// The id by which the whole playbook knows a step that a text calls `id`: the steps of an include begin with its id.
#[must_use]
pub fn global(include: Option<&str>, id: &str) -> String {
    include.map_or_else(|| id.to_owned(), |include| format!("{include}_{id}"))
}

/// What a text calls the step `id`; nothing if it does not know it.
#[must_use]
pub fn local<'i>(include: Option<&str>, id: &'i str) -> Option<&'i str> {
    match include {
        None => Some(id),
        Some(include) => id.strip_prefix(include)?.strip_prefix('_'),
    }
}

/// A parameter of a playbook.
#[derive(Clone, Debug)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: ParamType,
    /// Its default; without one the caller must give a value.
    pub default: Option<Value>,
    /// What it is for.
    pub description: String,
    /// The allowed values, if they are few.
    pub choices: Option<Vec<Value>>,
    /// Where its name stands.
    pub span: Span,
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamType {
    /// Any text.
    String,
    /// A whole number.
    Int,
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// A size such as `10MB`; a whole number of bytes in expressions.
    Bytes,
    /// A duration such as `12m`; text in expressions, fit for every key that takes a duration.
    Duration,
    /// A path; relative to the working directory, absolute in expressions.
    Path,
    /// A list.
    List,
    /// A map.
    Map,
}

/// A derived value.
#[derive(Clone, Debug)]
pub struct Var {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Template,
    /// Where its name stands.
    pub span: Span,
}

/// A host that steps can name with `on`.
#[derive(Clone, Debug)]
pub struct HostDef {
    /// Its name.
    pub name: String,
    /// `ssh`: the destination.
    pub ssh: Template,
    /// `known_hosts`: an explicit file.
    pub known_hosts: Option<Template>,
    /// `config`: an explicit `ssh_config`.
    pub config: Option<Template>,
    /// `identity`: an explicit private key.
    pub identity: Option<Template>,
    /// `vars`: values of its own.
    pub vars: Vec<(String, Template)>,
    /// Where its name stands.
    pub span: Span,
}

/// A group of hosts: a step that names it with `on` runs on each.
#[derive(Clone, Debug)]
pub struct GroupDef {
    /// Its name.
    pub name: String,
    /// The names of hosts and groups, with places.
    pub members: Vec<(String, Span)>,
    /// `vars`: values for its hosts; a host's own win.
    pub vars: Vec<(String, Template)>,
    /// Where its name stands.
    pub span: Span,
}

/// Hosts and groups.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// The hosts, in the order of the file, ranges expanded.
    pub hosts: Vec<HostDef>,
    /// The groups, in the order of the file.
    pub groups: Vec<GroupDef>,
}

/// A secret that values name and never hold.
#[derive(Clone, Debug)]
pub struct SecretDef {
    /// Its name.
    pub name: String,
    /// The key that says where it is found: `env`, `file` or `credential`.
    pub key: &'static str,
    /// The variable, the path or the credential's name.
    pub place: Template,
    /// Where its name stands.
    pub span: Span,
}

/// A step as it is written.
#[derive(Clone, Debug)]
pub struct StepDef {
    /// Its id, unique in the playbook; of a fragment with that of the include before it.
    pub id: String,
    /// The include whose fragment it stands in; none in the playbook itself. Its expressions see the names of that.
    pub include: Option<String>,
    /// The phase it stands in.
    pub phase: Phase,
    /// `name`: what people call it.
    pub name: Option<String>,
    /// `needs`, with places.
    pub needs: Vec<(String, Span)>,
    /// `when`.
    pub when: Option<Expr>,
    /// `foreach` and `as`.
    pub foreach: Option<Foreach>,
    /// `timeout`, for one attempt.
    pub timeout: Option<Template>,
    /// `retry`.
    pub retry: Option<RetryDef>,
    /// `expect`.
    pub expect: Option<Expr>,
    /// `undo`.
    pub undo: Option<Body>,
    /// `keep`.
    pub keep: Keep,
    /// `continue_on_error`.
    pub continue_on_error: bool,
    /// `lock`.
    pub lock: Option<Template>,
    /// `hint`.
    pub hint: Option<Template>,
    /// The step type with its parameters, and `on`.
    pub body: Body,
    /// Where its id stands.
    pub span: Span,
}

/// A step type with its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Body {
    /// The step type.
    pub kind: String,
    /// Its parameters, a map.
    pub params: Template,
    /// `on`: the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Template>,
}

/// `foreach` and `as`.
#[derive(Clone, Debug)]
pub struct Foreach {
    /// The list or map; known when planning.
    pub items: Template,
    /// A name of its own for `each.value`.
    pub alias: Option<String>,
}

/// `retry`. Numbers and durations may be expressions.
#[derive(Clone, Debug)]
pub struct RetryDef {
    /// How many attempts in all.
    pub attempts: Template,
    /// How long to wait before the second.
    pub delay: Option<Template>,
    /// What the delay is multiplied with each time.
    pub backoff: Option<Template>,
    /// The longest delay.
    pub max_delay: Option<Template>,
    /// The share of the delay, 0 to 1, by which it may vary.
    pub jitter: Option<Template>,
    /// The error classes that are worth another attempt; all if empty.
    pub on: Vec<crate::error::ErrorClass>,
}

/// How long an effect lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// For the run only, like a test fixture.
    #[default]
    Never,
    /// It stays if the run failed.
    OnFailure,
    /// It stays if the run passed.
    OnSuccess,
    /// It stays.
    Always,
}

/// When a step is tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RetryPolicy {
    /// How many attempts in all, at least 1.
    pub attempts: u32,
    /// How long to wait before the second.
    pub delay: Millis,
    /// What the delay is multiplied with each time.
    pub backoff: f64,
    /// The longest delay.
    pub max_delay: Millis,
    /// The share of the delay, 0 to 1, by which it may vary.
    pub jitter: f64,
    /// The error classes that are worth another attempt; all if empty.
    pub on: Vec<crate::error::ErrorClass>,
}

impl Default for RetryPolicy {
    /// One attempt; with more, one second that doubles up to one minute, varied by a tenth.
    fn default() -> Self {
        Self {
            attempts: 1,
            delay: Millis(1_000),
            backoff: 2.0,
            max_delay: Millis(60_000),
            jitter: 0.1,
            on: Vec::new(),
        }
    }
}

/// A value in which expressions may stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// A value without expressions.
    Literal(Value),
    /// One `${{ … }}` and nothing else: it keeps its type.
    Expr(Expr),
    /// Text with `${{ … }}` inside: becomes text.
    Text(Vec<Part>),
    /// A list with expressions somewhere below.
    List(Vec<Template>),
    /// A map with expressions somewhere below, in the order of the file.
    Map(Vec<(String, Template)>),
    /// A bare condition such as `succeed_when`: handed to the step as text, evaluated by it.
    Condition(Expr),
}

/// A piece of a [`Template::Text`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Text as it stands.
    Text(String),
    /// The value of an expression; text, number or truth value.
    Expr(Expr),
}

impl Template {
    /// Calls `found` with every expression below, conditions too.
    pub fn for_each_expr<'a>(&'a self, found: &mut dyn FnMut(&'a Expr)) {
        match self {
            Self::Literal(_) => {}
            Self::Expr(expr) | Self::Condition(expr) => found(expr),
            Self::Text(parts) => {
                for part in parts {
                    if let Part::Expr(expr) = part {
                        found(expr);
                    }
                }
            }
            Self::List(items) => items.iter().for_each(|item| item.for_each_expr(found)),
            Self::Map(entries) => entries.iter().for_each(|(_, value)| value.for_each_expr(found)),
        }
    }
}

impl Body {
    /// Calls `found` with every expression of the parameters and of `on`.
    pub fn for_each_expr<'a>(&'a self, found: &mut dyn FnMut(&'a Expr)) {
        self.params.for_each_expr(found);
        if let Some(on) = &self.on {
            on.for_each_expr(found);
        }
    }
}
