//! What kinds of values an expression can have, told from its text alone.

use super::{Expr, refs::path_of};
use cel::{
    IdedExpr,
    common::ast::{ComprehensionExpr, Expr as Ast, LiteralValue, operators as op},
};
use serde_json::Value;
use std::ops::{BitAnd, BitOr};

/// A set of kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// Null.
    pub const NULL: Self = Self(1);
    /// True or false.
    pub const BOOL: Self = Self(2);
    /// A whole number.
    pub const INT: Self = Self(4);
    /// A number that is not whole.
    pub const FLOAT: Self = Self(8);
    /// Text.
    pub const TEXT: Self = Self(16);
    /// A list.
    pub const LIST: Self = Self(32);
    /// A map.
    pub const MAP: Self = Self(64);
    /// Anything: nothing is known.
    pub const ANY: Self = Self(127);
    /// No kind: the expression has no value.
    pub const NONE: Self = Self(0);
    /// Any number.
    pub const NUMBER: Self = Self(4 | 8);

    /// Whether there is no kind in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Whether a value can be of one of both.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        !(self & other).is_empty()
    }

    /// The kind of a value.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOL,
            Value::Number(n) if n.is_f64() => Self::FLOAT,
            Value::Number(_) => Self::INT,
            Value::String(_) => Self::TEXT,
            Value::Array(_) => Self::LIST,
            Value::Object(_) => Self::MAP,
        }
    }

    /// What a JSON Schema allows; only its types are looked at.
    #[must_use]
    pub fn of_schema(schema: &Value) -> Self {
        let named = |name: &str| match name {
            "null" => Self::NULL,
            "boolean" => Self::BOOL,
            "integer" => Self::INT,
            "number" => Self::NUMBER,
            "string" => Self::TEXT,
            "array" => Self::LIST,
            "object" => Self::MAP,
            _ => Self::ANY,
        };
        let all = |kinds: &mut dyn Iterator<Item = Self>| kinds.fold(Self::NONE, BitOr::bitor);
        match schema.get("type") {
            Some(Value::String(name)) => named(name),
            Some(Value::Array(names)) => all(&mut names.iter().filter_map(Value::as_str).map(named)),
            _ => {
                if let Some(constant) = schema.get("const") {
                    return Self::of(constant);
                }
                let list = |key: &str| schema.get(key).and_then(Value::as_array);
                if let Some(values) = list("enum") {
                    return all(&mut values.iter().map(Self::of));
                }
                match list("anyOf").or_else(|| list("oneOf")) {
                    Some(branches) => all(&mut branches.iter().map(Self::of_schema)),
                    None => Self::ANY,
                }
            }
        }
    }

    /// In words: `text or null`.
    #[must_use]
    pub fn words(self) -> String {
        let number = self & Self::NUMBER == Self::NUMBER;
        let names = [
            (Self::BOOL, "true or false"),
            (
                if number { Self::NUMBER } else { Self::INT },
                if number { "a number" } else { "a whole number" },
            ),
            (if number { Self::NONE } else { Self::FLOAT }, "a number"),
            (Self::TEXT, "text"),
            (Self::LIST, "a list"),
            (Self::MAP, "a map"),
            (Self::NULL, "null"),
        ];
        let there: Vec<&str> =
            names.iter().filter(|(kind, _)| self.meets(*kind)).map(|(_, words)| *words).collect();
        there.join(" or ")
    }
}

impl BitOr for Kinds {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Kinds {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Expr {
    /// What kinds of values it can have; `of_name` tells those of a name such as `steps.a.out.size`.
    #[must_use]
    pub fn kinds(&self, of_name: &mut dyn FnMut(&[String]) -> Kinds) -> Kinds {
        Types { of_name, local: Vec::new() }.of(&self.0.ast)
    }
}

struct Types<'n> {
    of_name: &'n mut dyn FnMut(&[String]) -> Kinds,
    /// Names bound by `map`, `filter`, `all` and `exists`, with their kinds.
    local: Vec<(String, Kinds)>,
}

impl Types<'_> {
    fn of(&mut self, node: &IdedExpr) -> Kinds {
        if let Ast::Select(select) = &node.expr
            && select.test
        {
            return Kinds::BOOL;
        }
        if let Some((path, _)) = path_of(node) {
            return match self.local.iter().rev().find(|(name, _)| *name == path[0]) {
                Some((_, kinds)) if path.len() == 1 => *kinds,
                Some(_) => Kinds::ANY,
                None => (self.of_name)(&path),
            };
        }
        match &node.expr {
            Ast::Literal(literal) => match literal {
                LiteralValue::Boolean(_) => Kinds::BOOL,
                LiteralValue::Int(_) | LiteralValue::UInt(_) => Kinds::INT,
                LiteralValue::Double(_) => Kinds::FLOAT,
                LiteralValue::String(_) | LiteralValue::Bytes(_) => Kinds::TEXT,
                LiteralValue::Null => Kinds::NULL,
            },
            Ast::List(_) => Kinds::LIST,
            Ast::Map(_) | Ast::Struct(_) => Kinds::MAP,
            Ast::Comprehension(made) => self.comprehension(made),
            Ast::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
                (op::CONDITIONAL, [_, yes, no]) => self.of(yes) | self.of(no),
                (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, [a, b]) => {
                    let (a, b) = (self.of(a), self.of(b));
                    // Operands of different kinds are an error in the run; then there is no value at all.
                    match (a & b).is_empty() {
                        true => Kinds::ANY,
                        false => a & b,
                    }
                }
                (op::NEGATE, [a]) => self.of(a),
                (name, _) => of_function(name),
            },
            _ => Kinds::ANY,
        }
    }

    fn comprehension(&mut self, made: &ComprehensionExpr) -> Kinds {
        let bound = self.local.len();
        let start = self.of(&made.accu_init);
        self.local.push((made.iter_var.clone(), Kinds::ANY));
        self.local.extend(made.iter_var2.clone().map(|name| (name, Kinds::ANY)));
        self.local.push((made.accu_var.clone(), start));
        let kinds = self.of(&made.result);
        self.local.truncate(bound);
        kinds
    }
}

/// What a function gives.
fn of_function(name: &str) -> Kinds {
    match name {
        op::LOGICAL_AND
        | op::LOGICAL_OR
        | op::LOGICAL_NOT
        | op::EQUALS
        | op::NOT_EQUALS
        | op::LESS
        | op::LESS_EQUALS
        | op::GREATER
        | op::GREATER_EQUALS
        | op::IN
        | "contains"
        | "startsWith"
        | "endsWith"
        | "matches"
        | "bool" => Kinds::BOOL,
        "size" | "int" | "uint" | "indexOf" | "lastIndexOf" => Kinds::INT,
        "double" => Kinds::FLOAT,
        "string" | "env" | "basename" | "dirname" | "replace" | "trim" | "lowerAscii" | "upperAscii"
        | "substring" | "charAt" | "join" | "format" | "strings.quote" => Kinds::TEXT,
        "range" | "lists.range" | "split" | "flatten" | "distinct" | "sort" | "slice" => Kinds::LIST,
        _ => Kinds::ANY,
    }
}
