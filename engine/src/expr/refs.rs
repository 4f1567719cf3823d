//! The names that an expression uses, found without evaluating it.

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
}

/// All references of an expression in the order of its text, and its unknown functions as roots.
pub(super) fn references(ast: &IdedExpr, info: &SourceInfo, text: &str) -> Vec<Reference> {
    let mut finder = Finder { info, text, found: Vec::new(), local: Vec::new() };
    finder.visit(ast);
    finder.found.sort_by_key(|reference| reference.range.start);
    finder.found
}

struct Finder<'a> {
    info: &'a SourceInfo,
    text: &'a str,
    found: Vec<Reference>,
    /// Names bound by `map`, `filter`, `all` and `exists`.
    local: Vec<String>,
}

impl Finder<'_> {
    fn visit(&mut self, node: &IdedExpr) {
        if let Some((path, ident)) = path_of(node) {
            if !self.local.contains(&path[0]) && !path[0].starts_with('@') {
                let guarded = matches!(&node.expr, Ast::Select(select) if select.test);
                let range = self.locate(ident, &path);
                self.found.push(Reference { path, range, guarded, by_own_key: false });
            }
            return;
        }
        match &node.expr {
            Ast::Call(call) if self.by_own_key(call) => {}
            Ast::Call(call) => {
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
        self.found.push(Reference { path, range, guarded: false, by_own_key: true });
        let range = self.locate(key_ident, &key);
        self.found.push(Reference { path: key, range, guarded: false, by_own_key: false });
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
fn path_of(node: &IdedExpr) -> Option<(Vec<String>, u64)> {
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
