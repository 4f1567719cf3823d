//! Bounds on what an expression may cost. CEL always ends, and yet a few nested loops over long lists, or text that
//! doubles in each, would take years and all memory.
//!
//! Before it is evaluated an expression is rewritten: each loop first announces how often it turns, and each operation
//! that makes text or lists announces what it made. Both count towards one budget of the evaluation.

use super::convert;
use cel::{
    Context, ExecutionError, FunctionContext, IdedExpr, ResolveResult, Value as CelValue,
    common::ast::{CallExpr, EntryExpr, Expr as Ast, operators as op},
    extractors::Arguments,
    objects::Key,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How often all loops of one evaluation may turn.
const MAX_TURNS: u64 = 100_000;
/// How many bytes of text and lists one evaluation may make.
const MAX_MADE: u64 = 32 << 20;
/// The longest template and list of `format`, and the longest list of `join`, in bytes.
const MAX_FORMAT: u64 = 64 << 10;
/// The longest list that `range` makes.
const MAX_RANGE: i64 = 10_000;
/// What an item of a list costs beside its content, in bytes.
const ITEM: u64 = 32;

const LOOP: &str = "@loop";
const MADE: &str = "@made";
const SMALL: &str = "@small";
const REPLACE: &str = "@replace";

/// The same expression within bounds.
pub(super) fn bounded(node: &IdedExpr) -> IdedExpr {
    let mut node = node.clone();
    visit(&mut node);
    node
}

/// What stands inside of the calls that were added: the expression as it was written.
pub(super) fn as_written(node: &IdedExpr) -> &IdedExpr {
    match &node.expr {
        Ast::Call(call) if matches!(call.func_name.as_str(), LOOP | MADE | SMALL) => {
            match call.args.first() {
                Some(inner) => as_written(inner),
                None => node,
            }
        }
        _ => node,
    }
}

/// The name of a function as it was written.
pub(super) fn written_name(name: &str) -> &str {
    name.trim_start_matches('@')
}

fn wrap(node: &mut IdedExpr, name: &str) {
    let inner = std::mem::take(node);
    let id = inner.id;
    let call = CallExpr { func_name: name.to_owned(), target: None, args: vec![inner] };
    *node = IdedExpr { id, expr: Ast::Call(call) };
}

fn visit(node: &mut IdedExpr) {
    let mut makes = false;
    match &mut node.expr {
        Ast::Call(call) => {
            if let Some(target) = &mut call.target {
                visit(target);
            }
            call.args.iter_mut().for_each(visit);
            makes = call.func_name == op::ADD;
            bound_call(call);
        }
        Ast::Select(select) => visit(&mut select.operand),
        Ast::List(list) => list.elements.iter_mut().for_each(visit),
        Ast::Map(map) => map.entries.iter_mut().for_each(|entry| visit_entry(&mut entry.expr)),
        Ast::Struct(made) => made.entries.iter_mut().for_each(|entry| visit_entry(&mut entry.expr)),
        Ast::Comprehension(c) => {
            for part in [&mut c.iter_range, &mut c.accu_init, &mut c.loop_cond, &mut c.result] {
                visit(part);
            }
            wrap(&mut c.iter_range, LOOP);
            visit_step(&mut c.loop_step);
        }
        Ast::Ident(_) | Ast::Literal(_) | Ast::Unspecified => {}
    }
    if makes {
        wrap(node, MADE);
    }
}

/// The step of a loop. The shape of that of `map`, `@result + [expr]`, is kept, for it is known to the evaluator, which
/// would copy the list in each turn otherwise.
fn visit_step(node: &mut IdedExpr) {
    match &mut node.expr {
        Ast::Call(call) if call.func_name == op::ADD => {
            for arg in &mut call.args {
                match &mut arg.expr {
                    Ast::List(list) => {
                        for element in &mut list.elements {
                            visit(element);
                            wrap(element, MADE);
                        }
                    }
                    _ => visit(arg),
                }
            }
        }
        Ast::Call(call) if call.func_name == op::CONDITIONAL => {
            if let [condition, yes, no] = call.args.as_mut_slice() {
                visit(condition);
                visit_step(yes);
                visit_step(no);
            }
        }
        _ => visit(node),
    }
}

fn visit_entry(entry: &mut EntryExpr) {
    match entry {
        EntryExpr::StructField(field) => visit(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            visit(&mut entry.key);
            visit(&mut entry.value);
        }
    }
}

/// The functions of which the result can be far larger than what they are given.
fn bound_call(call: &mut CallExpr) {
    let Some(target) = &mut call.target else { return };
    match call.func_name.as_str() {
        "replace" => {
            let target = std::mem::take(&mut **target);
            call.func_name = REPLACE.to_owned();
            call.target = None;
            call.args.insert(0, target);
        }
        "format" | "join" => {
            wrap(target, SMALL);
            call.args.iter_mut().for_each(|arg| wrap(arg, SMALL));
        }
        _ => {}
    }
}

/// Adds what [`bounded`] calls to a context, and `range`, with a budget of its own.
pub(super) fn add_functions(context: &mut Context<'_, '_>) {
    let turns = Arc::new(AtomicU64::new(0));
    let made = Arc::new(AtomicU64::new(0));
    let (made_by_replace, made_by_range) = (made.clone(), made.clone());
    let added = [
        context.add_function(LOOP, move |ftx: &FunctionContext, range: CelValue| {
            spend(ftx, &turns, items(&range), MAX_TURNS, "turns of loops").map(|()| in_order(range))
        }),
        context.add_function(MADE, move |ftx: &FunctionContext, value: CelValue| {
            spend(ftx, &made, size(&value), MAX_MADE, "bytes of text and lists").map(|()| value)
        }),
        context.add_function(SMALL, |ftx: &FunctionContext, value: CelValue| match size(&value) {
            small if small <= MAX_FORMAT => Ok(value),
            large => Err(ftx.error(format!("{large} bytes are given, at most {MAX_FORMAT} are allowed"))),
        }),
        context.add_function(REPLACE, move |ftx: &FunctionContext, Arguments(args): Arguments| {
            replace(ftx, &made_by_replace, &args)
        }),
        context.add_function("range", move |ftx: &FunctionContext, end: i64| {
            let Some(items) = u64::try_from(end).ok().filter(|_| end <= MAX_RANGE) else {
                return Err(ftx.error(format!("expected a number from 0 to {MAX_RANGE}, found {end}")));
            };
            spend(ftx, &made_by_range, items * ITEM, MAX_MADE, "bytes of text and lists")?;
            Ok(CelValue::List(Arc::new((0..end).map(CelValue::Int).collect())))
        }),
    ];
    debug_assert!(added.iter().all(Result::is_ok), "these names are free");
}

fn spend(
    ftx: &FunctionContext<'_, '_>,
    spent: &AtomicU64,
    more: u64,
    most: u64,
    what: &str,
) -> Result<(), ExecutionError> {
    let before = spent.fetch_add(more, Ordering::Relaxed);
    match before.saturating_add(more) <= most {
        true => Ok(()),
        false => Err(ftx.error(format!("the expression costs more than {most} {what}"))),
    }
}

fn items(value: &CelValue) -> u64 {
    match value {
        CelValue::List(items) => items.len() as u64,
        CelValue::Map(map) => map.map.len() as u64,
        _ => 0,
    }
}

/// What a loop goes over. Of a map these are its keys, and they are sorted: the map itself gives them in an order that
/// differs from process to process, and an undo must mean what its step meant.
fn in_order(range: CelValue) -> CelValue {
    let CelValue::Map(map) = &range else { return range };
    let mut keys: Vec<&Key> = map.map.keys().collect();
    keys.sort_unstable();
    let keys = keys.into_iter().map(|key| match key {
        Key::Int(int) => CelValue::Int(*int),
        Key::Uint(uint) => CelValue::UInt(*uint),
        Key::Bool(truth) => CelValue::Bool(*truth),
        Key::String(text) => CelValue::String(text.clone()),
    });
    CelValue::List(Arc::new(keys.collect()))
}

/// About how many bytes a value has.
fn size(value: &CelValue) -> u64 {
    match value {
        CelValue::String(text) => text.len() as u64,
        CelValue::Bytes(bytes) => bytes.len() as u64,
        CelValue::List(items) => items.iter().map(|item| ITEM + size(item)).sum(),
        CelValue::Map(map) => {
            map.map.iter().map(|(key, value)| ITEM + convert::key_text(key).len() as u64 + size(value)).sum()
        }
        _ => 0,
    }
}

/// `text.replace(from, to)` and `text.replace(from, to, count)`, counted before it is done.
fn replace(ftx: &FunctionContext<'_, '_>, made: &AtomicU64, args: &[CelValue]) -> ResolveResult {
    let (text, from, to, count) = match args {
        [CelValue::String(text), CelValue::String(from), CelValue::String(to)] => (text, from, to, None),
        [CelValue::String(text), CelValue::String(from), CelValue::String(to), CelValue::Int(count)] => {
            (text, from, to, usize::try_from(*count).ok())
        }
        _ => return Err(ftx.error("expected text.replace(text, text) or text.replace(text, text, number)")),
    };
    let found = text.matches(from.as_str()).count().min(count.unwrap_or(usize::MAX)) as u64;
    let grown = found.saturating_mul(to.len() as u64).saturating_add(text.len() as u64);
    spend(ftx, made, grown, MAX_MADE, "bytes of text and lists")?;
    let replaced = match count {
        Some(count) => text.replacen(from.as_str(), to, count),
        None => text.replace(from.as_str(), to),
    };
    Ok(CelValue::String(Arc::new(replaced)))
}
