//! What an evaluation may cost. One unit is about a byte that is read, compared, copied or made; whatever takes time
//! apart from bytes, such as a turn of a loop, has a price in them.
//!
//! An evaluation stays on its thread from its beginning to its end, and the functions of the evaluator hold no state: so the
//! budget is the thread's.

use cel::{
    ExecutionError,
    common::{
        types::{CelBytes, CelList, CelMap, CelMapKey, CelOptional, CelString},
        value::Val,
    },
};
use regex::Regex;
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

/// What one evaluation may cost.
pub(super) const MAX_COST: u64 = 32 << 20;
/// What all evaluations of one plan may cost together.
pub(crate) const MAX_PLAN_COST: u64 = 512 << 20;
/// What an item of a list costs beside its content.
pub(super) const ITEM: u64 = 32;
/// The function that fails where a budget does.
pub(super) const BUDGET: &str = "@budget";

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(0) };
    static OVER: Cell<bool> = const { Cell::new(false) };
    /// The patterns of this evaluation, each with what it costs for a byte of text.
    static PATTERNS: RefCell<HashMap<String, (Regex, u64)>> = RefCell::new(HashMap::new());
}

/// What several evaluations may cost together: those of a plan.
#[derive(Debug)]
pub struct Meter(AtomicU64);

impl Meter {
    /// With so much to spend.
    pub(crate) fn new(most: u64) -> Self {
        Self(AtomicU64::new(most))
    }

    pub(crate) fn left(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes `cost`; false if there was less.
    pub(super) fn take(&self, cost: u64) -> bool {
        let taken = self.0.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost));
        if taken.is_err() {
            self.0.store(0, Ordering::Relaxed);
        }
        taken.is_ok()
    }
}

/// What an evaluation came to.
pub(super) struct Spent<T> {
    pub(super) value: T,
    pub(super) cost: u64,
    /// Whether it cost more than it may: its value counts for nothing then, for `||` and `exists` go on past an error.
    pub(super) over: bool,
}

/// Evaluates something that may cost so much.
pub(super) fn within<T>(most: u64, evaluate: impl FnOnce() -> T) -> Spent<T> {
    LEFT.set(most);
    OVER.set(false);
    PATTERNS.take();
    let value = evaluate();
    Spent { value, cost: most - LEFT.get(), over: OVER.get() }
}

/// Takes from the budget; once there is too little, nothing more is done.
pub(super) fn spend(cost: u64) -> Result<(), ExecutionError> {
    if let (false, Some(left)) = (OVER.get(), LEFT.get().checked_sub(cost)) {
        LEFT.set(left);
        return Ok(());
    }
    LEFT.set(0);
    OVER.set(true);
    Err(ExecutionError::function_error(BUDGET, "it costs too much"))
}

/// About how many bytes a value has; the count ends where the budget would.
pub(super) fn size(value: &dyn Val) -> u64 {
    let mut size = 0;
    count(value, &mut size, LEFT.get());
    size
}

fn count(value: &dyn Val, size: &mut u64, most: u64) {
    if *size > most {
        return;
    }
    if let Some(text) = value.downcast_ref::<CelString>() {
        *size += text.inner().len() as u64;
    } else if let Some(bytes) = value.downcast_ref::<CelBytes>() {
        *size += bytes.inner().len() as u64;
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        for item in list.inner() {
            *size += ITEM;
            count(item.as_ref(), size, most);
            if *size > most {
                return;
            }
        }
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        for (key, value) in map.inner() {
            *size += ITEM + key_size(key);
            count(value.as_ref(), size, most);
            if *size > most {
                return;
            }
        }
    } else if let Some(inner) = value.downcast_ref::<CelOptional>().and_then(CelOptional::inner) {
        count(inner, size, most);
    }
}

fn key_size(key: &CelMapKey<'_>) -> u64 {
    match key {
        CelMapKey::String(text) => text.inner().len() as u64,
        _ => 0,
    }
}

/// About how many bytes a value takes; the count ends above `most`.
pub(crate) fn size_of(value: &Value, most: u64) -> u64 {
    fn count(value: &Value, size: &mut u64, most: u64) {
        if *size > most {
            return;
        }
        match value {
            Value::String(text) => *size += text.len() as u64,
            Value::Array(items) => {
                for item in items {
                    *size += ITEM;
                    count(item, size, most);
                    if *size > most {
                        return;
                    }
                }
            }
            Value::Object(map) => {
                for (key, value) in map {
                    *size += ITEM + key.len() as u64;
                    count(value, size, most);
                    if *size > most {
                        return;
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut size = 0;
    count(value, &mut size, most);
    size
}

/// Whether a pattern matches. Patterns are compiled once in an evaluation, and only up to a size.
pub(super) fn matches(text: &str, pattern: &str) -> Result<bool, ExecutionError> {
    let compiled = PATTERNS.with_borrow(|known| known.get(pattern).cloned());
    let (regex, price) = match compiled {
        Some(compiled) => compiled,
        None => {
            spend(COMPILING + pattern.len() as u64 * 256)?;
            let compiled = compile(pattern)?;
            PATTERNS.with_borrow_mut(|known| known.insert(pattern.to_owned(), compiled.clone()));
            compiled
        }
    };
    spend(price.saturating_mul(text.len() as u64))?;
    Ok(regex.is_match(text))
}

const COMPILING: u64 = 256 << 10;
/// How large a pattern may be when compiled, and what it then costs for a byte of text: in the worst case each byte is
/// held against all of it.
const PATTERN_SIZES: [(usize, u64); 3] = [(16 << 10, 2), (128 << 10, 8), (1 << 20, 32)];

fn compile(pattern: &str) -> Result<(Regex, u64), ExecutionError> {
    let mut why = String::new();
    for (size, price) in PATTERN_SIZES {
        match regex::RegexBuilder::new(pattern).size_limit(size).dfa_size_limit(1 << 20).build() {
            Ok(regex) => return Ok((regex, price)),
            Err(regex::Error::CompiledTooBig(_)) => {
                why = "the pattern is too large: it repeats too much".into();
            }
            Err(error) => {
                why = error.to_string();
                break;
            }
        }
    }
    Err(ExecutionError::function_error("matches", why))
}
