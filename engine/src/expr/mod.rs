//! Expressions: CEL, compiled once, with references found statically and false ones explained.

mod bounds;
mod budget;
mod convert;
mod explain;
mod functions;
mod refs;
mod scope;
mod syntax;
mod types;

use budget::MAX_PLAN_COST;
pub use budget::Meter;
pub(crate) use budget::size_of;
pub(crate) use convert::kind_of;
pub use refs::{Loaded, ROOTS, Reference, UnknownCall};
use scope::{Kept, Seen};
pub use scope::{Outside, Scope};
pub use types::{Clash, Kinds};

use crate::{
    error::{ErrorClass, StepError},
    quantity::Bytes,
};
use cel::{
    Context as CelContext, Env, FunctionContext, IdedExpr, Value as CelValue, common::ast::SourceInfo,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;
use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    ops::Range,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

/// The longest expression, in bytes.
pub const MAX_LENGTH: usize = 1024;
/// The most operators in one expression. The parser recurses: a sum of 2,000 terms overflows a 2 MiB stack.
pub const MAX_OPERATORS: usize = 100;
/// The largest value of an expression, in bytes; a number or a list's place for an item counts as 32.
pub const MAX_VALUE: u64 = 16 << 20;
/// What it costs to load a file, beside its content.
const LOADING: u64 = 512 << 10;
/// The longest message about a value, in bytes.
const MAX_MESSAGE: usize = 1_000;
/// The stack on which expressions are compiled and evaluated, in bytes.
const STACK: usize = 16 << 20;

/// CEL's standard library and its extensions for strings and lists.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    let added = [env.add_extension(cel::extensions::strings), env.add_extension(cel::extensions::lists)];
    let own = functions::add(&mut env);
    debug_assert!(own && added.iter().all(Result::is_ok), "an extension does not fit the standard library");
    Arc::new(env)
});

/// A compiled expression. Cheap to clone; two are equal if their texts are.
#[derive(Clone)]
pub struct Expr(Arc<Compiled>);

struct Compiled {
    text: String,
    ast: IdedExpr,
    /// The same within bounds: what is evaluated.
    bounded: IdedExpr,
    info: SourceInfo,
    found: refs::Found,
}

/// What is wrong with an expression, or with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprError {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes of the expression's text.
    pub range: Range<usize>,
    /// What to do.
    pub hint: Option<String>,
    /// Whether it would cost more than it may.
    pub costly: bool,
}

/// What to do about an expression that costs too much.
pub(crate) const LESS: &str =
    "loop over less, take what is needed into a var once, or let a `command` do the work";

/// What is wrong with a plan whose expressions cost more than they may together.
pub(crate) fn plan_costs_too_much() -> String {
    format!(
        "the expressions of this plan cost too much: what they read, compare and make is more than {}",
        Bytes(MAX_PLAN_COST)
    )
}

impl ExprError {
    fn new(message: impl Into<String>, range: Range<usize>) -> Self {
        Self { message: message.into(), range, hint: None, costly: false }
    }

    /// As the error of a step, of what is named.
    pub(crate) fn of(self, what: &str) -> StepError {
        let error = StepError::new(ErrorClass::Invalid, format!("{what}: {}", self.message));
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

impl Expr {
    /// Compiles an expression.
    ///
    /// # Errors
    /// It is too long, has too many operators, or is no CEL.
    pub fn compile(text: &str) -> Result<Self, ExprError> {
        let whole = 0..text.len();
        if text.len() > MAX_LENGTH {
            let message =
                format!("the expression has {} bytes, at most {MAX_LENGTH} are allowed", text.len());
            return Err(ExprError::new(message, whole));
        }
        let operators = count_operators(text);
        if operators > MAX_OPERATORS {
            let message =
                format!("the expression has {operators} operators, at most {MAX_OPERATORS} are allowed");
            return Err(ExprError::new(message, whole));
        }
        if text.trim().is_empty() {
            return Err(ExprError::new("the expression is empty", whole));
        }
        let (ast, info) = stacker::grow(STACK, || ENVIRONMENT.parser().parse_with_source_info(text))
            .map_err(|errors| {
                let first = errors.errors.first();
                let range = first.map_or(whole, |error| at(text, error.pos));
                let message = first.map_or("this is no expression".into(), |error| syntax::plain(&error.msg));
                ExprError { hint: syntax::hint(text, range.start), ..ExprError::new(message, range) }
            })?;
        let found = refs::find(&ast, &info, text);
        Ok(Self(Arc::new(Compiled {
            bounded: bounds::bounded(&ast),
            text: text.to_owned(),
            ast,
            info,
            found,
        })))
    }

    /// The text it was compiled from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The names it uses, each with its place in the text.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.0.found.references
    }

    /// Calls of functions that do not exist.
    #[must_use]
    pub fn unknown_functions(&self) -> &[UnknownCall] {
        &self.0.found.unknown
    }

    /// The files that it loads, as far as they are written out, each with its place in the text.
    #[must_use]
    pub fn loads(&self) -> &[(Loaded, Range<usize>)] {
        &self.0.found.loads
    }

    /// The names that `map`, `exists` and the like bind, each with its place in the text.
    #[must_use]
    pub fn bound(&self) -> &[(String, Range<usize>)] {
        &self.0.found.bound
    }

    /// Its value, if it uses neither names nor the world nor loops: then it is the same at any time.
    #[must_use]
    pub fn constant(&self) -> Option<Result<Value, ExprError>> {
        let found = &self.0.found;
        let world = ["load", "env", "range"].iter().any(|name| self.0.text.contains(name));
        let known = found.references.is_empty() && found.unknown.is_empty() && found.bound.is_empty();
        (known && !world).then(|| self.eval(&Scope::default()))
    }

    /// The ids of the steps it refers to, in the order of the text.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.0.found.references.iter().filter_map(Reference::step)
    }

    /// Whether it uses the name `root`, such as `out`.
    #[must_use]
    pub fn uses(&self, root: &str) -> bool {
        self.0.found.references.iter().any(|reference| reference.path[0] == root)
    }

    /// Its value.
    ///
    /// # Errors
    /// A name has no value, an operation does not fit its operands, or it costs more than it may.
    pub fn eval(&self, scope: &Scope) -> Result<Value, ExprError> {
        self.within(scope, |context| {
            let value = CelValue::resolve_val(&self.0.bounded, context)?;
            let size = budget::size(value.as_ref());
            budget::spend(size)?;
            match size <= MAX_VALUE {
                true => CelValue::try_from(value.as_ref()),
                false => Err(cel::ExecutionError::function_error(
                    budget::BUDGET,
                    format!("its value has more than {}", Bytes(MAX_VALUE)),
                )),
            }
        })?
        .map_err(|error| self.describe(&error))
        .and_then(|value| {
            convert::to_json(&value).map_err(|message| ExprError::new(message, 0..self.0.text.len()))
        })
    }

    /// Its value, which must be true or false.
    ///
    /// # Errors
    /// As [`Expr::eval`], or it is neither.
    pub fn truth(&self, scope: &Scope) -> Result<bool, ExprError> {
        match self.eval(scope)? {
            Value::Bool(truth) => Ok(truth),
            other => {
                let message = format!("expected true or false, found {}", convert::kind_of(&other));
                Err(ExprError::new(message, 0..self.0.text.len()))
            }
        }
    }

    /// The values behind it, a line each: ``out.status is "failed"``. Of `a && b` only what made it false.
    #[must_use]
    pub fn explain(&self, scope: &Scope) -> Vec<String> {
        self.within(scope, |context| explain::operands(&self.0.ast, context)).unwrap_or_default()
    }

    /// Evaluates on a stack that is large enough, within what one evaluation and all that share the scope's meter may cost.
    fn within<T>(
        &self,
        scope: &Scope,
        evaluate: impl FnOnce(&CelContext<'_, '_>) -> T,
    ) -> Result<T, ExprError> {
        stacker::grow(STACK, || {
            let left = scope.meter().map_or(u64::MAX, Meter::left);
            if left == 0 {
                return Err(self.too_much(&plan_costs_too_much()));
            }
            // What it reads is not its cost, yet a plan of thousands that read much takes its time.
            let mut read = 0;
            let visible = scope.visible(&self.0.found.references);
            let mut kept = Kept::default();
            let spent = budget::within(left.min(budget::MAX_COST), || {
                for (name, seen) in &visible {
                    if let Seen::Kept(value, made) = seen {
                        read += made;
                        kept.0.insert(name, *value);
                    }
                }
                let mut context = CelContext::with_env(ENVIRONMENT.clone());
                context.set_variable_resolver(&kept);
                for (name, seen) in &visible {
                    if !matches!(seen, Seen::Kept(..)) {
                        context.add_variable_as_val(*name, convert::seen_to_val(seen, &mut read));
                    }
                }
                add_functions(&mut context, scope);
                evaluate(&context)
            });
            let enough = scope.meter().is_none_or(|meter| meter.take(spent.cost.saturating_add(read)));
            match (spent.over, enough) {
                (false, true) => Ok(spent.value),
                (true, true) if left >= budget::MAX_COST => Err(self.too_much(&format!(
                    "it costs too much: what it reads, compares and makes is more than {}",
                    Bytes(budget::MAX_COST)
                ))),
                _ => Err(self.too_much(&plan_costs_too_much())),
            }
        })
    }

    fn too_much(&self, message: &str) -> ExprError {
        ExprError { hint: Some(LESS.into()), costly: true, ..ExprError::new(message, 0..self.0.text.len()) }
    }

    fn describe(&self, error: &cel::ExecutionError) -> ExprError {
        let whole = 0..self.0.text.len();
        let message = match error {
            cel::ExecutionError::NoSuchKey(key) => format!("no such key `{key}`"),
            cel::ExecutionError::UndeclaredReference(name) => format!("unknown name `{name}`"),
            cel::ExecutionError::DivisionByZero(_) | cel::ExecutionError::RemainderByZero(_) => {
                "division by zero".to_owned()
            }
            cel::ExecutionError::FunctionError { function, message } => {
                match bounds::written_name(function) {
                    "" | "budget" => message.clone(),
                    name => format!("`{name}`: {message}"),
                }
            }
            cel::ExecutionError::IndexOutOfBounds(index) => {
                format!("index {} is out of bounds", explain::show(index))
            }
            other => lower_first(&other.to_string()),
        };
        ExprError::new(cut(message), whole)
    }
}

/// A message that quotes a value may be as long as the value.
fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        message.truncate((0..=MAX_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0));
        message.push('…');
    }
    message
}

/// Adds Shakedown's own functions. None has a clock, randomness or side effects.
fn add_functions(context: &mut CelContext<'_, '_>, scope: &Scope) {
    let outside = scope.outside();
    let for_env = outside.clone();
    // A file is one thing in one evaluation.
    let loaded: Mutex<HashMap<Arc<String>, Value>> = Mutex::default();
    let added = [
        context.add_function("load", move |ftx: &FunctionContext, path: Arc<String>| {
            let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
            if !loaded.contains_key(&path) {
                budget::spend(LOADING)?;
                let value = outside.load(&path).map_err(|message| ftx.error(message))?;
                loaded.insert(path.clone(), value);
            }
            let value = loaded.get(&path).unwrap_or(&Value::Null);
            budget::spend(size_of(value, budget::MAX_COST))?;
            Ok::<_, cel::ExecutionError>(convert::to_cel(value))
        }),
        context.add_function("env", move |ftx: &FunctionContext, name: Arc<String>| {
            let value =
                for_env.env(&name).ok_or_else(|| ftx.error(format!("the variable `{name}` is not set")))?;
            budget::spend(value.len() as u64)?;
            Ok::<_, cel::ExecutionError>(CelValue::String(Arc::new(value)))
        }),
        context.add_function("basename", |path: Arc<String>| -> String {
            path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
        }),
        context.add_function("dirname", |path: Arc<String>| -> String {
            match path.trim_end_matches('/').rsplit_once('/') {
                Some(("", _)) => "/".to_owned(),
                Some((folder, _)) => folder.to_owned(),
                None => ".".to_owned(),
            }
        }),
    ];
    debug_assert!(added.iter().all(Result::is_ok), "a function of ours has the name of a standard one");
}

/// Counts operators outside of text literals; a run of operator characters is one.
fn count_operators(text: &str) -> usize {
    let mut count = 0;
    let mut quote = None;
    let mut in_operator = false;
    let mut escaped = false;
    for c in text.chars() {
        if let Some(open) = quote {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if c == open => quote = None,
                _ => {}
            }
            continue;
        }
        match c {
            '"' | '\'' => (quote, in_operator) = (Some(c), false),
            '(' | '[' | '{' | '?' | '!' | '-' => (count, in_operator) = (count + 1, false),
            '+' | '*' | '/' | '%' | '<' | '>' | '=' | '&' | '|' => {
                count += usize::from(!in_operator);
                in_operator = true;
            }
            _ => in_operator = false,
        }
    }
    count
}

/// The place that the parser names, as bytes of the text.
fn at(text: &str, (line, column): (isize, isize)) -> Range<usize> {
    let line = usize::try_from(line).unwrap_or(1).max(1);
    let column = usize::try_from(column).unwrap_or(0);
    let before: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = &text[before.min(text.len())..];
    let start = before + rest.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum::<usize>();
    let width = text[start.min(text.len())..].chars().next().map_or(0, char::len_utf8);
    start.min(text.len())..(start + width).min(text.len())
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expr({:?})", self.0.text)
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.text)
    }
}

impl JsonSchema for Expr {
    fn schema_name() -> Cow<'static, str> {
        "Expression".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "cel" })
    }
}

impl<'de> Deserialize<'de> for Expr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::compile(&text).map_err(|error| D::Error::custom(format!("`{text}`: {}", error.message)))
    }
}

#[cfg(test)]
mod tests;
