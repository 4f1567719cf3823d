//! Reads hosts and groups, of a playbook or of an inventory: names with ranges, values of their own, groups of groups.

use super::{
    fields::{Fields, entries, kind, short},
    model::{GroupDef, HostDef, Inventory, Template},
    raw::{self, Node, NodeValue},
    template::Reader,
};
use crate::diagnostic::{Code, Diagnostic, Diagnostics, Source, Span, did_you_mean};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The most hosts that a range may stand for, and that there may be in all.
const MAX_HOSTS: usize = 10_000;
/// The group of all hosts.
const ALL: &str = "all";

/// Reads an inventory: a file with `hosts` and `groups`.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text.
pub fn read_inventory(source: &Arc<Source>) -> Result<Inventory, Diagnostics> {
    let mut found = Diagnostics::new(source.clone());
    let Some(root) = raw::parse_visible(source, 0, &mut found) else { return Err(found) };
    let mut inventory = Inventory::default();
    if let Some(mut fields) = Fields::of(&root, "inventory", &mut found) {
        let mut reader = Reader { found: &mut found, exprs: Vec::new() };
        inventory.hosts =
            fields.take("hosts").map(|(_, node)| read_hosts(node, &mut reader)).unwrap_or_default();
        inventory.groups =
            fields.take("groups").map(|(_, node)| read_groups(node, &mut reader)).unwrap_or_default();
        let expressions: Vec<Span> = reader.exprs.iter().map(|placed| placed.span()).collect();
        fields.finish(&[], &mut found);
        for span in expressions {
            let message = "an inventory holds no expressions: it is the same for every playbook";
            found.push(Diagnostic::error(Code::OutOfPlace, message, span));
        }
        check_groups(&inventory, &mut found);
    }
    if found.has_errors() { Err(found) } else { Ok(inventory) }
}

/// The hosts of a section; one with a range in its name stands for many.
pub(super) fn read_hosts(node: &Node, reader: &mut Reader<'_>) -> Vec<HostDef> {
    let mut hosts: Vec<HostDef> = Vec::new();
    let mut seen: BTreeMap<String, Span> = BTreeMap::new();
    for (pattern, span, node) in entries(node, "hosts", reader.found) {
        let Some(names) = names(pattern, span, reader.found) else { continue };
        let nothing = matches!(node.value, NodeValue::Scalar(Value::Null));
        let mut keys = HostKeys::default();
        if !nothing {
            let Some(mut fields) = Fields::of(node, "host", reader.found) else { continue };
            for (slot, key) in keys.slots() {
                *slot = fields.take(key).and_then(|(_, node)| destination(key, node, reader));
            }
            keys.vars = fields.take("vars").map(|(_, node)| values(node, reader)).unwrap_or_default();
            fields.finish(&[], reader.found);
        }
        for (name, indices) in names {
            let own =
                |template: &Option<Template>| template.as_ref().map(|template| put_in(template, &indices));
            // An alias of `ssh_config` is the usual way to name a host.
            let ssh = own(&keys.ssh).unwrap_or_else(|| Template::Literal(Value::String(name.clone())));
            if let Some(first) = seen.insert(name.clone(), span) {
                let message = format!("the host `{name}` exists already");
                reader
                    .found
                    .push(Diagnostic::error(Code::Duplicate, message, span).related(first, "first here"));
            }
            hosts.push(HostDef {
                ssh,
                known_hosts: own(&keys.known_hosts),
                config: own(&keys.config),
                identity: own(&keys.identity),
                vars: keys.vars.clone(),
                name,
                span,
            });
        }
        if hosts.len() > MAX_HOSTS {
            let message = format!("these are more than {MAX_HOSTS} hosts");
            reader.found.push(Diagnostic::error(Code::BadValue, message, span));
            break;
        }
    }
    hosts
}

#[derive(Default)]
struct HostKeys {
    ssh: Option<Template>,
    known_hosts: Option<Template>,
    config: Option<Template>,
    identity: Option<Template>,
    vars: Vec<(String, Template)>,
}

impl HostKeys {
    fn slots(&mut self) -> [(&mut Option<Template>, &'static str); 4] {
        [
            (&mut self.ssh, "ssh"),
            (&mut self.known_hosts, "known_hosts"),
            (&mut self.config, "config"),
            (&mut self.identity, "identity"),
        ]
    }
}

fn destination(key: &'static str, node: &Node, reader: &mut Reader<'_>) -> Option<Template> {
    match &node.value {
        NodeValue::Scalar(Value::String(text)) => {
            if text.starts_with('-') {
                let message = format!("`{key}` cannot begin with `-`, found `{}`", short(text));
                reader.found.push(Diagnostic::error(Code::BadValue, message, node.span));
            }
            Some(reader.text(text, node))
        }
        _ => {
            let message = format!("`{key}`: expected text, found {}", kind(node));
            reader.found.push(Diagnostic::error(Code::WrongType, message, node.span));
            None
        }
    }
}

fn values(node: &Node, reader: &mut Reader<'_>) -> Vec<(String, Template)> {
    entries(node, "vars", reader.found)
        .into_iter()
        .map(|(name, _, node)| (name.to_owned(), reader.value(node)))
        .collect()
}

/// The groups of a section; members are not looked for yet.
pub(super) fn read_groups(node: &Node, reader: &mut Reader<'_>) -> Vec<GroupDef> {
    let mut groups = Vec::new();
    for (name, span, node) in entries(node, "groups", reader.found) {
        if name == ALL || !is_name(name) {
            let message = match name {
                ALL => "`all` is the group of all hosts: choose another name".to_owned(),
                _ => format!("a group's name has letters, digits, `_`, `-` and `.`, found `{}`", short(name)),
            };
            reader.found.push(Diagnostic::error(Code::BadName, message, span));
            continue;
        }
        let (list, vars) = match &node.value {
            NodeValue::Seq(_) => (Some(node), Vec::new()),
            _ => {
                let Some(mut fields) = Fields::of(node, "group", reader.found) else { continue };
                let list = fields.require("hosts", reader.found);
                let vars = fields.take("vars").map(|(_, node)| values(node, reader)).unwrap_or_default();
                fields.finish(&[], reader.found);
                (list, vars)
            }
        };
        let items: &[Node] = match list.map(|node| &node.value) {
            Some(NodeValue::Seq(items)) => items,
            Some(_) => {
                let message = format!("`{name}`: expected a list of hosts and groups");
                reader.found.push(Diagnostic::error(Code::WrongType, message, node.span));
                continue;
            }
            None => continue,
        };
        let mut members = Vec::new();
        for item in items {
            match &item.value {
                NodeValue::Scalar(Value::String(pattern)) => {
                    let expanded = names(pattern, item.span, reader.found).unwrap_or_default();
                    members.extend(expanded.into_iter().map(|(name, _)| (name, item.span)));
                }
                _ => {
                    let message =
                        format!("`{name}`: expected the name of a host or a group, found {}", kind(item));
                    reader.found.push(Diagnostic::error(Code::WrongType, message, item.span));
                }
            }
        }
        groups.push(GroupDef { name: name.to_owned(), members, vars, span });
    }
    groups
}

/// Whether every member exists, no group holds itself, and no name is both.
pub(super) fn check_groups(inventory: &Inventory, found: &mut Diagnostics) {
    let hosts: BTreeSet<&str> = inventory.hosts.iter().map(|host| host.name.as_str()).collect();
    for group in &inventory.groups {
        if hosts.contains(group.name.as_str()) {
            let message = format!("`{}` is the name of a host, too", group.name);
            found.push(Diagnostic::error(Code::Duplicate, message, group.span));
        }
        for (member, span) in &group.members {
            let known = hosts.iter().copied().chain(inventory.groups.iter().map(|group| group.name.as_str()));
            if known.clone().any(|name| name == member) {
                continue;
            }
            let message = format!("unknown host or group `{}`", short(member));
            let diagnostic = Diagnostic::error(Code::UnknownName, message, *span);
            found.push(match did_you_mean(member, known) {
                Some(hint) => diagnostic.hint(hint),
                None => diagnostic,
            });
        }
        if inventory.reaches(&group.name, &group.name) {
            let message = format!("the group `{}` holds itself", group.name);
            found.push(Diagnostic::error(Code::Cycle, message, group.span));
        }
    }
}

impl Inventory {
    /// This one, with all of another, which wins where both know a name.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        let theirs: BTreeSet<&str> = other.hosts.iter().map(|host| host.name.as_str()).collect();
        self.hosts.retain(|host| !theirs.contains(host.name.as_str()));
        self.hosts.extend(other.hosts.iter().cloned());
        self.groups.retain(|group| other.groups.iter().all(|theirs| theirs.name != group.name));
        self.groups.extend(other.groups.iter().cloned());
        self
    }

    /// The group that an `on` names; nothing if it names one host, or none that is known yet.
    #[must_use]
    pub fn group_of<'t>(&self, on: Option<&'t Template>) -> Option<&'t str> {
        match on? {
            Template::Literal(Value::String(name)) if self.has_group(name) => Some(name),
            _ => None,
        }
    }

    /// Whether steps can run on all hosts of a group of that name.
    #[must_use]
    pub fn has_group(&self, name: &str) -> bool {
        name == ALL || self.groups.iter().any(|group| group.name == name)
    }

    /// The hosts of a group, in the order of its list, each once; nothing if there is no such group.
    #[must_use]
    pub fn members(&self, name: &str) -> Option<Vec<&str>> {
        if name == ALL {
            return Some(self.hosts.iter().map(|host| host.name.as_str()).collect());
        }
        let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
        let mut left: Vec<&str> = vec![&self.groups.iter().find(|group| group.name == name)?.name];
        while let Some(next) = left.pop() {
            if !seen.insert(next) {
                continue;
            }
            match self.groups.iter().find(|group| group.name == next) {
                Some(group) => left.extend(group.members.iter().rev().map(|(member, _)| member.as_str())),
                None => names.push(next),
            }
        }
        Some(names)
    }

    /// The values that hosts have by their groups, the first group first.
    pub(crate) fn group_vars(&self) -> BTreeMap<&str, Vec<&(String, Template)>> {
        let mut vars: BTreeMap<&str, Vec<&(String, Template)>> = BTreeMap::new();
        for group in self.groups.iter().filter(|group| !group.vars.is_empty()) {
            for host in self.members(&group.name).unwrap_or_default() {
                vars.entry(host).or_default().extend(&group.vars);
            }
        }
        vars
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
        while let Some(next) = left.pop() {
            let members =
                self.groups.iter().filter(|group| group.name == next).flat_map(|group| &group.members);
            for (member, _) in members {
                if member == to {
                    return true;
                }
                if seen.insert(member.as_str()) {
                    left.push(member);
                }
            }
        }
        false
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        && name.len() <= 253
}

/// A range of a pattern as it stands there, and the number that takes its place.
type Index = (String, String);

/// The names that a pattern such as `edge-[01:50]` stands for, each with the numbers that made it.
fn names(pattern: &str, span: Span, found: &mut Diagnostics) -> Option<Vec<(String, Vec<Index>)>> {
    let mut names = vec![(String::new(), Vec::new())];
    let mut rest = pattern;
    while let Some(open) = rest.find('[') {
        let close = rest[open..].find(']').map(|close| open + close);
        let range = close.and_then(|close| numbers(&rest[open + 1..close]));
        let (Some(close), Some(range)) = (close, range) else {
            let message = format!("`{}`: this is no range", short(pattern));
            let hint = "a range is two numbers, the first not above the second, as in `edge-[01:50]`";
            found.push(Diagnostic::error(Code::BadName, message, span).hint(hint));
            return None;
        };
        if names.len().saturating_mul(range.len()) > MAX_HOSTS {
            let message = format!("`{}` stands for more than {MAX_HOSTS} hosts", short(pattern));
            found.push(Diagnostic::error(Code::BadValue, message, span));
            return None;
        }
        let written = &rest[open..=close];
        let made = names.iter().flat_map(|(name, indices)| {
            range.iter().map(move |number| {
                let mut indices: Vec<Index> = indices.clone();
                indices.push((written.to_owned(), number.clone()));
                (format!("{name}{}{number}", &rest[..open]), indices)
            })
        });
        names = made.collect();
        rest = &rest[close + 1..];
    }
    names.iter_mut().for_each(|(name, _)| name.push_str(rest));
    let bad = names.iter().find(|(name, _)| !is_name(name) || name == "local" || name == ALL);
    if let Some((name, _)) = bad {
        let message = match name.as_str() {
            "local" => "`local` is this machine: choose another name".to_owned(),
            ALL => "`all` is the group of all hosts".to_owned(),
            _ => format!("a host's name has letters, digits, `_`, `-` and `.`, found `{}`", short(name)),
        };
        found.push(Diagnostic::error(Code::BadName, message, span));
        return None;
    }
    Some(names)
}

/// The numbers of `01:50`, as wide as the first is written.
fn numbers(range: &str) -> Option<Vec<String>> {
    let (first, last) = range.split_once(':')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok()).flatten()
    };
    let (from, to) = (number(first)?, number(last)?);
    let width = if first.starts_with('0') { first.len() } else { 1 };
    (from <= to).then(|| (from..=to).map(|number| format!("{number:0width$}")).collect())
}

/// The text of one host: a range that stands in it as it stands in the name becomes that host's number.
fn put_in(template: &Template, indices: &[Index]) -> Template {
    let Template::Literal(Value::String(text)) = template else { return template.clone() };
    let mut text = text.clone();
    for (written, number) in indices {
        text = text.replacen(written, number, 1);
    }
    Template::Literal(Value::String(text))
}
