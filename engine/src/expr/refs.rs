//! The names that an expression uses, found without evaluating it.

use crate::diagnostic::did_you_mean;
use cel::{
    IdedExpr,
    common::ast::{CallExpr, EntryExpr, Expr as Ast, LiteralValue, SourceInfo, operators},
};
use std::ops::Range;

/// The names that stand at the root of a reference in a playbook.
pub const ROOTS: [&str; 9] = ["params", "vars", "steps", "out", "each", "hosts", "secrets", "run", "true"];

/// A use of a name, such as `steps.media.out.path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its parts, at least one.
    pub path: Vec<String>,
    /// Where it starts in the expression's text, and how far it reaches.
    pub range: Range<usize>,
    /// Whether it only asks if the value is there: `has(...)`.
    pub guarded: bool,
    /// Whether it is indexed by `each.key`: an item of a `foreach` reads the same item of another.
    pub by_own_key: bool,
}

impl Reference {
    /// The step it refers to, if it does.
    #[must_use]
    pub fn step(&self) -> Option<&str> {
        (self.path[0] == "steps").then(|| self.path.get(1).map(String::as_str)).flatten()
    }

    /// Where one part of the path stands, if all of it stands there letter by letter; else the whole.
    #[must_use]
    pub fn part(&self, index: usize) -> Range<usize> {
        let whole = self.path.iter().map(|part| part.len() + 1).sum::<usize>() == self.range.len() + 1;
        match (whole, self.path.get(index)) {
            (true, Some(part)) => {
                let before: usize = self.path[..index].iter().map(|part| part.len() + 1).sum();
                self.range.start + before..self.range.start + before + part.len()
            }
            _ => self.range.clone(),
        }
    }
}

/// A call of a function that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCall {
    /// The function's name.
    pub name: String,
    /// Where it stands in the expression's text.
    pub range: Range<usize>,
    /// Whether it is called on a value: `value.name()`.
    pub on_value: bool,
}

/// The functions that are called as `name(…)`.
const FUNCTIONS: [&str; 16] = [
    "size", "string", "int", "uint", "double", "bool", "bytes", "type", "dyn", "matches", "has", "load",
    "env", "basename", "dirname", "range",
];

/// The functions that are called as `value.name(…)`.
const METHODS: [&str; 31] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "join",
    "lowerAscii",
    "upperAscii",
    "trim",
    "replace",
    "split",
    "substring",
    "format",
    "reverse",
    "slice",
    "flatten",
    "distinct",
    "sort",
    "sortBy",
    "map",
    "filter",
    "all",
    "exists",
    "exists_one",
    "existsOne",
    "hasValue",
    "orValue",
    "value",
];

impl UnknownCall {
    /// What could have been meant.
    #[must_use]
    pub fn hint(&self) -> String {
        let (here, there): (&[&str], &[&str]) =
            if self.on_value { (&METHODS, &FUNCTIONS) } else { (&FUNCTIONS, &METHODS) };
        if there.contains(&self.name.as_str()) {
            return match self.on_value {
                true => format!("it is called as `{}(…)`", self.name),
                false => format!("it is called on a value: `value.{}(…)`", self.name),
            };
        }
        did_you_mean(&self.name, here.iter().copied())
            .unwrap_or_else(|| format!("the functions are: {}", here.join(", ")))
    }
}

/// What `load` is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// A path that is written out.
    Path(String),
    /// The value of a param.
    Param(String),
}

/// What a walk over an expression finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) references: Vec<Reference>,
    pub(super) unknown: Vec<UnknownCall>,
    /// Names that `map` and the like bind.
    pub(super) bound: Vec<(String, Range<usize>)>,
    /// What is loaded, each with its place.
    pub(super) loads: Vec<(Loaded, Range<usize>)>,
}

/// All references of an expression in the order of its text, its unknown functions, and the names it binds.
pub(super) fn find(ast: &IdedExpr, info: &SourceInfo, text: &str) -> Found {
    let mut finder = Finder { info, text, found: Found::default(), local: Vec::new() };
    finder.visit(ast);
    finder.found.references.sort_by_key(|reference| reference.range.start);
    finder.found
}

/// Where a word stands that is followed by `mark`; the whole text if nowhere.
fn word(text: &str, name: &str, mark: char) -> Range<usize> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name)
        .find(|(at, _)| {
            !text[..*at].ends_with(part) && text[at + name.len()..].trim_start().starts_with(mark)
        })
        .map_or(0..text.len(), |(at, _)| at..at + name.len())
}

struct Finder<'a> {
    info: &'a SourceInfo,
    text: &'a str,
    found: Found,
    /// Names bound by `map`, `filter`, `all` and `exists`.
    local: Vec<String>,
}

impl Finder<'_> {
    fn visit(&mut self, node: &IdedExpr) {
        if let Some((path, ident)) = path_of(node) {
            if !self.local.contains(&path[0]) && !path[0].starts_with('@') {
                let guarded = matches!(&node.expr, Ast::Select(select) if select.test);
                let range = self.locate(ident, &path);
                self.found.references.push(Reference { path, range, guarded, by_own_key: false });
            }
            return;
        }
        match &node.expr {
            Ast::Call(call) if self.by_own_key(call) => {}
            Ast::Call(call) => {
                self.note_unknown(call);
                self.note_load(call);
                if let Some(target) = &call.target {
                    self.visit(target);
                }
                call.args.iter().for_each(|arg| self.visit(arg));
            }
            Ast::Select(select) => self.visit(&select.operand),
            Ast::List(list) => list.elements.iter().for_each(|item| self.visit(item)),
            Ast::Map(map) => map.entries.iter().for_each(|entry| self.entry(&entry.expr)),
            Ast::Struct(made) => made.entries.iter().for_each(|entry| self.entry(&entry.expr)),
            Ast::Comprehension(c) => {
                self.visit(&c.iter_range);
                let bound = self.local.len();
                for name in std::iter::once(&c.iter_var).chain(&c.iter_var2).filter(|n| !n.starts_with('@')) {
                    self.found.bound.push((name.clone(), word(self.text, name, ',')));
                }
                self.local.push(c.iter_var.clone());
                self.local.extend(c.iter_var2.clone());
                self.local.push(c.accu_var.clone());
                for part in [&c.accu_init, &c.loop_cond, &c.loop_step, &c.result] {
                    self.visit(part);
                }
                self.local.truncate(bound);
            }
            Ast::Ident(_) | Ast::Literal(_) | Ast::Unspecified => {}
        }
    }

    fn note_unknown(&mut self, call: &CallExpr) {
        let name = call.func_name.as_str();
        let on_value = call.target.is_some();
        let known: &[&str] = if on_value { &METHODS } else { &FUNCTIONS };
        // Operators and what macros make have names that nobody can write.
        let written = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with('_');
        if written && !known.contains(&name) {
            let range = word(self.text, name, '(');
            self.found.unknown.push(UnknownCall { name: name.to_owned(), range, on_value });
        }
    }

    fn note_load(&mut self, call: &CallExpr) {
        let ("load", [path]) = (call.func_name.as_str(), call.args.as_slice()) else { return };
        if let Ast::Literal(LiteralValue::String(path)) = &path.expr {
            let path = path.inner();
            let range = self.text.find(path).map_or(0..self.text.len(), |at| at..at + path.len());
            self.found.loads.push((Loaded::Path(path.to_owned()), range));
        }
        if let Some((name, ident)) = path_of(path)
            && let [root, param] = name.as_slice()
            && root == "params"
        {
            self.found.loads.push((Loaded::Param(param.clone()), self.locate(ident, &name)));
        }
    }

    /// Notes `steps.a.out[each.key]`; false if the call is anything else.
    fn by_own_key(&mut self, call: &CallExpr) -> bool {
        let [list, index] = call.args.as_slice() else { return false };
        let (Some((path, ident)), Some((key, key_ident))) = (path_of(list), path_of(index)) else {
            return false;
        };
        if call.func_name != operators::INDEX || key != ["each", "key"] || self.local.contains(&path[0]) {
            return false;
        }
        let range = self.locate(ident, &path);
        self.found.references.push(Reference { path, range, guarded: false, by_own_key: true });
        let range = self.locate(key_ident, &key);
        self.found.references.push(Reference { path: key, range, guarded: false, by_own_key: false });
        true
    }

    fn entry(&mut self, entry: &EntryExpr) {
        match entry {
            EntryExpr::StructField(field) => self.visit(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.visit(&entry.key);
                self.visit(&entry.value);
            }
        }
    }

    /// From the first name to the end of the dotted path as it stands in the text.
    fn locate(&self, ident: u64, path: &[String]) -> Range<usize> {
        let start = self.info.offset_for(ident).map_or(0, |(start, _)| start as usize);
        // The parser counts characters, we count bytes.
        let start = self.text.char_indices().nth(start).map_or(0, |(byte, _)| byte);
        let rest = &self.text[start..];
        let dotted = path.join(".");
        let length = if rest.starts_with(&dotted) {
            dotted.len()
        } else if rest.starts_with(&path[0]) {
            path[0].len()
        } else {
            rest.len()
        };
        start..start + length
    }
}

/// `a.b["c"].d` as its parts, with the id of the node that names `a`.
pub(super) fn path_of(node: &IdedExpr) -> Option<(Vec<String>, u64)> {
    match &node.expr {
        Ast::Ident(name) => Some((vec![name.clone()], node.id)),
        Ast::Select(select) => {
            let (mut path, ident) = path_of(&select.operand)?;
            path.push(select.field.clone());
            Some((path, ident))
        }
        Ast::Call(call) if call.func_name == operators::INDEX && call.args.len() == 2 => {
            let Ast::Literal(LiteralValue::String(key)) = &call.args[1].expr else { return None };
            let (mut path, ident) = path_of(&call.args[0])?;
            path.push(key.inner().to_owned());
            Some((path, ident))
        }
        _ => None,
    }
}
