//! What kinds of values an expression can have, told from its text alone.

use super::{Expr, refs::path_of};
use cel::{
    IdedExpr,
    common::ast::{ComprehensionExpr, Expr as Ast, LiteralValue, operators as op},
};
use serde_json::Value;
use std::ops::{BitAnd, BitOr, Range};

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
            (Self::BOOL, "a truth value"),
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

/// An operator between values that can never go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The operator as it is written.
    pub operator: &'static str,
    /// Where it stands in the expression's text.
    pub range: Range<usize>,
    /// What stands before it.
    pub left: Kinds,
    /// What stands behind it.
    pub right: Kinds,
    /// Whether it compares.
    pub compares: bool,
}

impl Expr {
    /// What kinds of values it can have; `of_name` tells those of a name such as `steps.a.out.size`.
    #[must_use]
    pub fn kinds(&self, of_name: &mut dyn FnMut(&[String]) -> Kinds) -> Kinds {
        Types { of_name, local: Vec::new(), clashes: Vec::new() }.of(&self.0.ast)
    }

    /// The operators in it whose operands can never go together.
    #[must_use]
    pub fn clashes(&self, of_name: &mut dyn FnMut(&[String]) -> Kinds) -> Vec<Clash> {
        let mut types = Types { of_name, local: Vec::new(), clashes: Vec::new() };
        types.of(&self.0.ast);
        let place = |(id, mut clash): (u64, Clash)| {
            let start = self.0.info.offset_for(id).map_or(0, |(start, _)| start as usize);
            // The parser counts characters, we count bytes.
            let start = self.0.text.char_indices().nth(start).map_or(0, |(byte, _)| byte);
            clash.range = match self.0.text[start..].starts_with(clash.operator) {
                true => start..start + clash.operator.len(),
                false => 0..self.0.text.len(),
            };
            clash
        };
        types.clashes.into_iter().map(place).collect()
    }
}

struct Types<'n> {
    of_name: &'n mut dyn FnMut(&[String]) -> Kinds,
    /// Names bound by `map`, `filter`, `all` and `exists`, with their kinds.
    local: Vec<(String, Kinds)>,
    /// With the id of the node.
    clashes: Vec<(u64, Clash)>,
}

/// All numbers can be compared with each other.
fn numbers_alike(kinds: Kinds) -> Kinds {
    if kinds.meets(Kinds::NUMBER) { kinds | Kinds::NUMBER } else { kinds }
}

impl Types<'_> {
    /// Notes an operator whose operands do not go together.
    fn operator(&mut self, node: &IdedExpr, name: &str, left: Kinds, right: Kinds) {
        let compares = matches!(name, op::EQUALS | op::NOT_EQUALS);
        let Some(operator) = super::explain::binary(name) else { return };
        let needs_numbers = matches!(name, op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO);
        let clash = match needs_numbers {
            true => !left.meets(Kinds::NUMBER) || !right.meets(Kinds::NUMBER),
            false => !numbers_alike(left).meets(numbers_alike(right)),
        };
        // Whether something is null may be asked of anything.
        let null = compares && (left == Kinds::NULL || right == Kinds::NULL);
        if clash && !null && !left.is_empty() && !right.is_empty() {
            self.clashes.push((node.id, Clash { operator, range: 0..0, left, right, compares }));
        }
    }

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
                (op::CONDITIONAL, [condition, yes, no]) => {
                    self.of(condition);
                    self.of(yes) | self.of(no)
                }
                (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, [a, b]) => {
                    let (a, b) = (self.of(a), self.of(b));
                    self.operator(node, &call.func_name, a, b);
                    // Operands of different kinds are an error in the run; then there is no value at all.
                    match (a & b).is_empty() {
                        true => Kinds::ANY,
                        false => a & b,
                    }
                }
                (
                    op::EQUALS
                    | op::NOT_EQUALS
                    | op::LESS
                    | op::LESS_EQUALS
                    | op::GREATER
                    | op::GREATER_EQUALS,
                    [a, b],
                ) => {
                    let (a, b) = (self.of(a), self.of(b));
                    self.operator(node, &call.func_name, a, b);
                    Kinds::BOOL
                }
                (op::NEGATE, [a]) => self.of(a),
                (name, args) => {
                    for arg in call.target.iter().map(AsRef::as_ref).chain(args) {
                        self.of(arg);
                    }
                    of_function(name)
                }
            },
            _ => Kinds::ANY,
        }
    }

    fn comprehension(&mut self, made: &ComprehensionExpr) -> Kinds {
        let bound = self.local.len();
        self.of(&made.iter_range);
        let start = self.of(&made.accu_init);
        self.local.push((made.iter_var.clone(), Kinds::ANY));
        self.local.extend(made.iter_var2.clone().map(|name| (name, Kinds::ANY)));
        self.local.push((made.accu_var.clone(), start));
        self.of(&made.loop_step);
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
