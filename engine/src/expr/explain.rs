//! Why an expression is false: the values of its operands.

use super::{bounds, budget, convert};
use cel::{
    Context, IdedExpr, Value as CelValue,
    common::ast::{Expr as Ast, LiteralValue, operators as op},
};

/// The longest value shown, in characters.
const SHOWN: usize = 200;

/// A line for each operand that is no literal.
pub(super) fn operands(node: &IdedExpr, context: &Context<'_, '_>) -> Vec<String> {
    let mut lines = Vec::new();
    collect(node, context, &mut lines);
    let mut seen = std::collections::HashSet::new();
    lines.retain(|line| seen.insert(line.clone()));
    lines
}

fn collect(node: &IdedExpr, context: &Context<'_, '_>, lines: &mut Vec<String>) {
    match &node.expr {
        Ast::Call(call) if matches!(call.func_name.as_str(), op::LOGICAL_AND | op::LOGICAL_OR) => {
            let deciding = call.func_name == op::LOGICAL_OR;
            for arg in &call.args {
                // Of `a && b`, what is true did not make it false.
                let innocent = !deciding && matches!(value(arg, context), Ok(CelValue::Bool(true)));
                if !innocent {
                    collect(arg, context, lines);
                }
            }
        }
        Ast::Call(call) if is_operator(&call.func_name) => {
            for arg in call.target.iter().map(AsRef::as_ref).chain(&call.args) {
                match &arg.expr {
                    Ast::Literal(_) => {}
                    Ast::Call(inner) if is_operator(&inner.func_name) => collect(arg, context, lines),
                    _ => lines.push(line(arg, context)),
                }
            }
        }
        Ast::Literal(_) => {}
        _ => lines.push(line(node, context)),
    }
}

fn value(node: &IdedExpr, context: &Context<'_, '_>) -> cel::ResolveResult {
    let bounded = bounds::bounded(node);
    let value = CelValue::resolve_val(&bounded, context)?;
    budget::spend(budget::size(value.as_ref()))?;
    CelValue::try_from(value.as_ref())
}

fn line(node: &IdedExpr, context: &Context<'_, '_>) -> String {
    match value(node, context) {
        Ok(value) => format!("{} is {}", text(node), show(&value)),
        Err(_) => format!("{} has no value", text(node)),
    }
}

fn is_operator(name: &str) -> bool {
    binary(name).is_some() || matches!(name, op::LOGICAL_NOT | op::NEGATE | op::CONDITIONAL)
}

pub(super) fn binary(name: &str) -> Option<&'static str> {
    Some(match name {
        op::LOGICAL_AND => "&&",
        op::LOGICAL_OR => "||",
        op::SUBSTRACT => "-",
        op::ADD => "+",
        op::MULTIPLY => "*",
        op::DIVIDE => "/",
        op::MODULO => "%",
        op::EQUALS => "==",
        op::NOT_EQUALS => "!=",
        op::GREATER_EQUALS => ">=",
        op::LESS_EQUALS => "<=",
        op::GREATER => ">",
        op::LESS => "<",
        op::IN => "in",
        _ => return None,
    })
}

/// A value as it is shown to a person: JSON, cut.
pub(super) fn show(value: &CelValue) -> String {
    let text = convert::to_json(value).map_or_else(|_| format!("{value:?}"), |json| json.to_string());
    if text.chars().count() <= SHOWN {
        return text;
    }
    text.chars().take(SHOWN).chain(['…']).collect()
}

/// An expression as text again, in the usual spelling.
fn text(node: &IdedExpr) -> String {
    let list = |items: &[IdedExpr]| items.iter().map(text).collect::<Vec<_>>().join(", ");
    match &node.expr {
        Ast::Ident(name) => name.clone(),
        Ast::Literal(literal) => literal_text(literal),
        Ast::Select(select) if select.test => format!("has({}.{})", text(&select.operand), select.field),
        Ast::Select(select) => format!("{}.{}", text(&select.operand), select.field),
        Ast::List(made) => format!("[{}]", list(&made.elements)),
        Ast::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (op::INDEX, [from, index]) => format!("{}[{}]", text(from), text(index)),
            (op::LOGICAL_NOT, [arg]) => format!("!{}", text(arg)),
            (op::NEGATE, [arg]) => format!("-{}", text(arg)),
            (op::CONDITIONAL, [a, b, c]) => format!("{} ? {} : {}", text(a), text(b), text(c)),
            (name, [a, b]) if binary(name).is_some() => {
                format!("{} {} {}", text(a), binary(name).unwrap_or(name), text(b))
            }
            (name, args) => match &call.target {
                Some(target) => format!("{}.{name}({})", text(target), list(args)),
                None => format!("{name}({})", list(args)),
            },
        },
        Ast::Comprehension(c) => format!("{}.(…)", text(&c.iter_range)),
        Ast::Map(_) | Ast::Struct(_) | Ast::Unspecified => "{…}".to_owned(),
    }
}

fn literal_text(literal: &LiteralValue) -> String {
    match literal {
        LiteralValue::Boolean(b) => b.inner().to_string(),
        LiteralValue::Int(i) => i.inner().to_string(),
        LiteralValue::UInt(u) => format!("{}u", u.inner()),
        LiteralValue::Double(d) => d.inner().to_string(),
        LiteralValue::String(s) => format!("{:?}", s.inner()),
        LiteralValue::Bytes(_) => "b\"…\"".to_owned(),
        LiteralValue::Null => "null".to_owned(),
    }
}
