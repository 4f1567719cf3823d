//! Bounds on what an expression may cost. CEL always ends, and yet a few nested loops over long lists, or text that
//! doubles in each, would take years and all memory.
//!
//! Before it is evaluated an expression is rewritten: what reads, compares, copies or makes a value first pays for it, from one
//! budget of the evaluation. The functions that are put in have names that nobody can write.

use super::functions::{COUNT, COUNTED, INDEX, LOOP, OWN, PAIRS, PAY, SMALL, SORTED};
use cel::{
    IdedExpr,
    common::ast::{CallExpr, EntryExpr, Expr as Ast, LiteralValue, operators as op},
};

/// Text that is written out and shorter than this costs nothing.
const SHORT: usize = 64;

/// The same expression within bounds.
pub(super) fn bounded(node: &IdedExpr) -> IdedExpr {
    let mut node = node.clone();
    visit(&mut node);
    node
}

/// The name of a function as it was written.
pub(super) fn written_name(name: &str) -> &str {
    name.trim_start_matches('@')
}

fn call(node: &mut IdedExpr, name: &str, more: Option<LiteralValue>) {
    let inner = std::mem::take(node);
    let id = inner.id;
    let more = more.map(|literal| IdedExpr { id, expr: Ast::Literal(literal) });
    let args = std::iter::once(inner).chain(more).collect();
    *node = IdedExpr { id, expr: Ast::Call(CallExpr { func_name: name.to_owned(), target: None, args }) };
}

fn wrap(node: &mut IdedExpr, name: &str) {
    call(node, name, None);
}

fn pay(node: &mut IdedExpr) {
    let free = match &node.expr {
        Ast::Literal(LiteralValue::String(text)) => text.inner().len() < SHORT,
        Ast::Literal(LiteralValue::Bytes(bytes)) => bytes.inner().len() < SHORT,
        Ast::Literal(_) => true,
        Ast::List(list) => list.elements.is_empty(),
        _ => false,
    };
    if !free {
        wrap(node, PAY);
    }
}

/// How many parts an expression has: each is evaluated in each turn of a loop. What loops inside it counts for itself.
fn parts(node: &IdedExpr) -> i64 {
    let entry = |entry: &EntryExpr| match entry {
        EntryExpr::StructField(field) => parts(&field.value),
        EntryExpr::MapEntry(entry) => parts(&entry.key) + parts(&entry.value),
    };
    1 + match &node.expr {
        Ast::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).map(parts).sum(),
        Ast::Select(select) => parts(&select.operand),
        Ast::List(list) => list.elements.iter().map(parts).sum(),
        Ast::Map(map) => map.entries.iter().map(|one| entry(&one.expr)).sum(),
        Ast::Struct(made) => made.entries.iter().map(|one| entry(&one.expr)).sum(),
        Ast::Comprehension(c) => parts(&c.iter_range) + parts(&c.accu_init) + parts(&c.result),
        Ast::Ident(_) | Ast::Literal(_) | Ast::Unspecified => 0,
    }
}

fn visit(node: &mut IdedExpr) {
    let mut copies = false;
    match &mut node.expr {
        Ast::Call(call) => {
            if let Some(target) = &mut call.target {
                visit(target);
            }
            call.args.iter_mut().for_each(visit);
            copies = matches!(call.func_name.as_str(), op::OPT_INDEX | op::OPT_SELECT);
            bound_call(call);
        }
        Ast::Select(select) => visit(&mut select.operand),
        Ast::List(list) => {
            for element in &mut list.elements {
                visit(element);
                pay(element);
            }
        }
        Ast::Map(map) => map.entries.iter_mut().for_each(|entry| visit_entry(&mut entry.expr)),
        Ast::Struct(made) => made.entries.iter_mut().for_each(|entry| visit_entry(&mut entry.expr)),
        Ast::Comprehension(c) => {
            let turn = parts(&c.loop_cond) + parts(&c.loop_step);
            for part in [&mut c.iter_range, &mut c.accu_init, &mut c.loop_cond, &mut c.result] {
                visit(part);
            }
            pay(&mut c.accu_init);
            call(&mut c.iter_range, LOOP, Some(LiteralValue::Int(turn.into())));
            visit_step(&mut c.loop_step, &c.accu_var);
        }
        Ast::Ident(_) | Ast::Literal(_) | Ast::Unspecified => {}
    }
    if copies {
        wrap(node, PAY);
    }
}

/// The step of a loop. The shape of that of `map`, `@result + [expr]`, is kept, for it is known to the evaluator, which
/// would copy the list in each turn otherwise.
fn visit_step(node: &mut IdedExpr, result: &str) {
    let is_result = |arg: &IdedExpr| matches!(&arg.expr, Ast::Ident(name) if name == result);
    match &mut node.expr {
        Ast::Call(call) if call.func_name == op::ADD && call.args.first().is_some_and(is_result) => {
            call.args.iter_mut().for_each(visit);
        }
        Ast::Call(call) if call.func_name == op::CONDITIONAL => {
            if let [condition, yes, no] = call.args.as_mut_slice() {
                visit(condition);
                visit_step(yes, result);
                visit_step(no, result);
            }
        }
        _ => visit(node),
    }
}

fn visit_entry(entry: &mut EntryExpr) {
    let (key, value) = match entry {
        EntryExpr::StructField(field) => (None, &mut field.value),
        EntryExpr::MapEntry(entry) => (Some(&mut entry.key), &mut entry.value),
    };
    for part in key.into_iter().chain([value]) {
        visit(part);
        pay(part);
    }
}

/// A call whose operands have been visited.
fn bound_call(call: &mut CallExpr) {
    let name = call.func_name.as_str();
    match name {
        op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT | op::CONDITIONAL | op::NOT_STRICTLY_FALSE => {}
        op::EQUALS | op::NOT_EQUALS | op::IN => call.func_name.insert(0, '@'),
        op::INDEX | op::OPT_INDEX | op::OPT_SELECT => {
            if let Some(index) = call.args.get_mut(1)
                && !matches!(index.expr, Ast::Literal(LiteralValue::Int(_) | LiteralValue::String(_)))
            {
                wrap(index, INDEX);
            }
        }
        _ if OWN.contains(&name) => {
            call.func_name.insert(0, '@');
            if let Some(target) = call.target.take() {
                call.args.insert(0, *target);
            }
        }
        _ => {
            let price = match name {
                "sort" | "@sortByAssociatedKeys" => SORTED,
                "distinct" => PAIRS,
                "size" => COUNTED,
                "format" => SMALL,
                "range" if call.target.is_some() => COUNT,
                _ => PAY,
            };
            let one = |node: &mut IdedExpr| if price == PAY { pay(node) } else { wrap(node, price) };
            if let Some(target) = &mut call.target
                && !is_namespace(target, name)
            {
                one(target);
            }
            call.args.iter_mut().for_each(one);
        }
    }
}

/// Whether what stands before a function is no value but a part of its name.
fn is_namespace(target: &IdedExpr, function: &str) -> bool {
    let Ast::Ident(name) = &target.expr else { return false };
    matches!(
        (name.as_str(), function),
        ("optional", "of" | "ofNonZeroValue" | "none") | ("lists", "range") | ("strings", "quote")
    )
}
