//! What a change means: which piece of text comes in place of which, and how it is taken back in a document on which
//! others have worked since.

use super::{
    by_hand::{self, Hand},
    edit::{self, Splice},
    pointer,
    store::Record,
    style::{New, Style},
    tree::{By, Document, Kind, Node, alike},
};
use engine::{
    ErrorClass, StepError,
    step::{Leftover, Undone},
};

/// Which change it is and where.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Set(Vec<String>),
    Append(Vec<String>),
    Remove(Vec<String>),
}

/// A change with its value, secrets put in.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) action: Action,
    /// What is set or appended; of a removal `null`.
    pub(super) wanted: Document,
    /// Which part of an element tells it from others.
    pub(super) id: Option<Vec<String>>,
    /// Whether something that is not there may be removed.
    pub(super) lenient: bool,
    /// For a person: the document and its lock.
    pub(super) hand: Hand,
}

/// How a change is taken back.
#[derive(Debug)]
pub(super) enum Back {
    /// Nothing of it is there.
    Nothing,
    Text(Splice),
    /// The whole document is what was made.
    Document,
    Left(Leftover),
}

fn internal() -> StepError {
    StepError::internal("a place of the document was found and then was not")
}

impl Change {
    fn path(&self) -> &str {
        &self.hand.document
    }

    pub(super) fn tokens(&self) -> &[String] {
        match &self.action {
            Action::Set(tokens) | Action::Append(tokens) | Action::Remove(tokens) => tokens,
        }
    }

    /// What a document is made from that does not exist.
    pub(super) fn skeleton(&self) -> &'static str {
        match self.action {
            Action::Append(_) => "[]\n",
            _ => "{}\n",
        }
    }

    /// The change in this document, with what its record has to know; nothing if all is as wanted already.
    pub(super) fn plan(
        &self,
        document: &Document,
        style: &Style,
    ) -> Result<Option<(Splice, Record)>, StepError> {
        match &self.action {
            Action::Set(at) => self.plan_set(document, style, at),
            Action::Append(to) => self.plan_append(document, style, to).map(Some),
            Action::Remove(at) => self.plan_remove(document, at),
        }
    }

    fn plan_set(
        &self,
        document: &Document,
        style: &Style,
        at: &[String],
    ) -> Result<Option<(Splice, Record)>, StepError> {
        let new = New::Value(&self.wanted);
        if let Some(node) = pointer::find(&document.root, at) {
            if alike(By::Writing, &self.wanted, &self.wanted.root, document, node) {
                return Ok(None);
            }
            let record = Record { earlier: Some(document.raw(node).to_owned()), ..Record::default() };
            let splice = edit::replace(document, style, at, new).ok_or_else(internal)?;
            return Ok(Some((splice, record)));
        }
        let (last, parents) = at.split_last().ok_or_else(internal)?;
        let parent = pointer::require(document, self.path(), parents)?;
        match &parent.kind {
            Kind::Object(members) => {
                let splice = edit::insert(document, style, parents, members.len(), Some(last), new);
                Ok(Some((splice.ok_or_else(internal)?, Record::default())))
            }
            Kind::Array(items) if last == "-" || pointer::index(last) == Some(items.len()) => {
                let message = format!(
                    "`{}` would add an element to the array at `{}`: expected the place of one that is there",
                    pointer::show(at),
                    pointer::show(parents)
                );
                let hint = format!("append: {{ to: '{}', value: … }}", pointer::show(parents));
                Err(StepError::new(ErrorClass::Invalid, message).hint(hint))
            }
            _ => pointer::require(document, self.path(), at).and(Err(internal())),
        }
    }

    fn plan_append(
        &self,
        document: &Document,
        style: &Style,
        to: &[String],
    ) -> Result<(Splice, Record), StepError> {
        let node = pointer::require(document, self.path(), to)?;
        let Kind::Array(items) = &node.kind else {
            let message = format!(
                "`{}` at `{}` is of the type {}: expected an array to append to",
                self.path(),
                pointer::show(to),
                node.kind()
            );
            return Err(
                StepError::new(ErrorClass::Invalid, message).hint("use `set` for a member of an object")
            );
        };
        if let Some(id) = &self.id {
            let Some(own) = pointer::find(&self.wanted.root, id) else {
                let message = format!("`id` is `{}`: `value` has nothing there", pointer::show(id));
                return Err(
                    StepError::new(ErrorClass::Invalid, message).hint("id: /name-of-a-member-of-value")
                );
            };
            if let Some(i) = items.iter().position(|item| self.has_id(document, item, id, own)) {
                let message = format!(
                    "`{}` has an element at `{}` whose `{}` is the same already",
                    self.path(),
                    pointer::show(&[to, &[i.to_string()]].concat()),
                    pointer::show(id)
                );
                return Err(StepError::new(ErrorClass::Exists, message)
                    .hint("choose another value for it, such as one with `run.id`"));
            }
        }
        let same = self.equal(document, items).len() as u64;
        let index = items.len();
        let splice = edit::insert(document, style, to, index, None, New::Value(&self.wanted));
        let record = Record { index: Some(index), same, ..Record::default() };
        Ok((splice.ok_or_else(internal)?, record))
    }

    fn plan_remove(&self, document: &Document, at: &[String]) -> Result<Option<(Splice, Record)>, StepError> {
        let Some((last, parents)) = at.split_last() else {
            let message = "`remove` names the whole document: expected something in it";
            return Err(StepError::new(ErrorClass::Invalid, message).hint("file: { remove: PATH }"));
        };
        if self.lenient && pointer::find(&document.root, at).is_none() {
            return Ok(None);
        }
        let node = pointer::require(document, self.path(), at)?;
        let parent = pointer::require(document, self.path(), parents)?;
        let i = edit::place(parent, last).ok_or_else(internal)?;
        let mut record =
            Record { earlier: Some(document.raw(node).to_owned()), index: Some(i), ..Record::default() };
        match &parent.kind {
            Kind::Object(members) => record.previous = i.checked_sub(1).map(|i| members[i].key.clone()),
            Kind::Array(items) => {
                let same = |item: &&Node| alike(By::Value, document, node, document, item);
                record.same = items.iter().filter(same).count() as u64;
            }
            _ => {}
        }
        Ok(Some((edit::take_out(parent, i).ok_or_else(internal)?, record)))
    }

    fn has_id(&self, document: &Document, item: &Node, id: &[String], own: &Node) -> bool {
        pointer::find(item, id).is_some_and(|other| alike(By::Value, &self.wanted, own, document, other))
    }

    /// The places of elements that are equal to the value.
    fn equal(&self, document: &Document, items: &[Node]) -> Vec<usize> {
        let wanted = &self.wanted;
        let equal = |item: &Node| alike(By::Value, wanted, &wanted.root, document, item);
        items.iter().enumerate().filter(|(_, item)| equal(item)).map(|(i, _)| i).collect()
    }

    /// How the change is taken back in a document on which others have worked since.
    pub(super) fn take_back(&self, document: &Document, record: &Record) -> Result<Back, StepError> {
        let style = Style::of(document);
        match &self.action {
            Action::Set(at) => self.take_back_set(document, &style, at, record),
            Action::Append(to) => self.take_back_append(document, to, record),
            Action::Remove(at) => self.take_back_remove(document, &style, at, record),
        }
    }

    fn take_back_set(
        &self,
        document: &Document,
        style: &Style,
        at: &[String],
        record: &Record,
    ) -> Result<Back, StepError> {
        let Some(node) = pointer::find(&document.root, at) else { return Ok(Back::Nothing) };
        let earlier = record.earlier.as_deref().filter(|_| !(record.created && at.is_empty()));
        if let Some(raw) = earlier {
            let before = super::store::parse(self.path(), raw)?;
            if alike(By::Writing, &before, &before.root, document, node) {
                return Ok(Back::Nothing);
            }
        }
        if !alike(By::Value, &self.wanted, &self.wanted.root, document, node) {
            return Ok(Back::Left(self.left("value", at, "it was changed since it was set", earlier)));
        }
        let splice = match (earlier, at.split_last()) {
            (Some(raw), _) => edit::replace(document, style, at, New::Raw(raw)),
            (None, Some((last, parents))) => pointer::find(&document.root, parents)
                .and_then(|parent| edit::take_out(parent, edit::place(parent, last)?)),
            (None, None) => return Ok(Back::Document),
        };
        splice.map(Back::Text).ok_or_else(internal)
    }

    fn take_back_append(
        &self,
        document: &Document,
        to: &[String],
        record: &Record,
    ) -> Result<Back, StepError> {
        let Some(node) = pointer::find(&document.root, to) else { return Ok(Back::Nothing) };
        let Kind::Array(items) = &node.kind else { return Ok(Back::Nothing) };
        let wanted = &self.wanted.root;
        let at = |i: usize| [to, &[i.to_string()]].concat();
        let out = |i: usize| edit::take_out(node, i).map(Back::Text).ok_or_else(internal);
        let holds = |item: &Node| alike(By::Members, &self.wanted, wanted, document, item);
        if let Some(id) = &self.id
            && let Some(own) = pointer::find(wanted, id)
        {
            let found: Vec<usize> =
                (0..items.len()).filter(|i| self.has_id(document, &items[*i], id, own)).collect();
            return match found.as_slice() {
                [] => Ok(Back::Nothing),
                [i] if holds(&items[*i]) => out(*i),
                [i] => {
                    let changed = self.changed_members(document, &items[*i]);
                    let why = format!("{changed} changed since it was appended");
                    Ok(Back::Left(self.left("element", &at(*i), &why, None)))
                }
                [.., i] => {
                    let why = format!("{} elements have its `{}`", found.len(), pointer::show(id));
                    Ok(Back::Left(self.left("element", &at(*i), &why, None)))
                }
            };
        }
        let equal = self.equal(document, items);
        // In its place, and not equal: the program under test may have written into ours, and what is equal is another's.
        let grown = record.index.filter(|i| {
            items.get(*i).is_some_and(|item| matches!(item.kind, Kind::Object(_)) && holds(item))
                && !equal.contains(i)
        });
        if let Some(i) = grown {
            let why = "members were added since; with `id` the element would be known for sure";
            return Ok(Back::Left(self.left("element", &at(i), why, None)));
        }
        if equal.len() as u64 > record.same {
            let own = record.index.filter(|i| equal.contains(i)).or(equal.last().copied());
            return out(own.ok_or_else(internal)?);
        }
        Ok(Back::Nothing)
    }

    /// Those members of the value that an element has no longer, for a message.
    fn changed_members(&self, document: &Document, item: &Node) -> String {
        let Kind::Object(members) = &self.wanted.root.kind else { return "its value".into() };
        let same = |key: &str, value: &Node| {
            item.member(key).is_some_and(|now| alike(By::Members, &self.wanted, value, document, now))
        };
        let changed = members.iter().filter(|member| !same(&member.key, &member.value));
        let names: Vec<String> = changed.map(|member| format!("`{}`", member.key)).collect();
        names.join(", ")
    }

    fn take_back_remove(
        &self,
        document: &Document,
        style: &Style,
        at: &[String],
        record: &Record,
    ) -> Result<Back, StepError> {
        let (last, parents) = at.split_last().ok_or_else(internal)?;
        let raw = record.earlier.as_deref().ok_or_else(internal)?;
        let before = super::store::parse(self.path(), raw)?;
        let alike_before = |node: &Node| alike(By::Value, &before, &before.root, document, node);
        let left = |why: &str| Ok(Back::Left(self.left("value", at, why, Some(raw))));
        let splice = match pointer::find(&document.root, parents).map(|parent| &parent.kind) {
            // Only an array had elements like it: `same` counts at least itself there.
            Some(Kind::Object(members)) if record.same == 0 => {
                if let Some(now) = members.iter().rfind(|member| member.key == *last) {
                    return match alike_before(&now.value) {
                        true => Ok(Back::Nothing),
                        false => left("another value was put in its place since it was removed"),
                    };
                }
                let i = match &record.previous {
                    None => 0,
                    Some(previous) => members
                        .iter()
                        .position(|member| member.key == *previous)
                        .map_or(members.len(), |i| i + 1),
                };
                edit::insert(document, style, parents, i, Some(last), New::Raw(raw))
            }
            Some(Kind::Array(items)) if record.same > 0 => {
                if items.iter().filter(|item| alike_before(item)).count() as u64 >= record.same {
                    return Ok(Back::Nothing);
                }
                edit::insert(document, style, parents, record.index.unwrap_or(0), None, New::Raw(raw))
            }
            _ => return left("what it stood in is another value now"),
        };
        splice.map(Back::Text).ok_or_else(internal)
    }

    fn left(&self, thing: &str, at: &[String], why: &str, earlier: Option<&str>) -> Leftover {
        let remove_with = match (&self.action, earlier) {
            (Action::Remove(_), Some(raw)) => by_hand::put(&self.hand, at, raw, true),
            (_, Some(raw)) => by_hand::put(&self.hand, at, raw, false),
            (_, None) => by_hand::delete(&self.hand, at),
        };
        Leftover {
            what: format!("{thing} at `{}` of `{}`", pointer::show(at), self.path()),
            why: why.to_owned(),
            remove_with,
        }
    }

    /// What is left of it in the document, told without the record: `changed` and `same` are from the output.
    pub(super) fn trace(&self, document: &Document, changed: bool, same: u64) -> Option<Leftover> {
        if !changed {
            return None;
        }
        let wanted = &self.wanted;
        let why = "it is still there";
        match &self.action {
            Action::Set(at) => {
                let node = pointer::find(&document.root, at)?;
                alike(By::Value, wanted, &wanted.root, document, node)
                    .then(|| self.left("value", at, why, None))
            }
            Action::Append(to) => {
                let node = pointer::find(&document.root, to)?;
                let Kind::Array(items) = &node.kind else { return None };
                let found = match &self.id {
                    Some(id) => {
                        let own = pointer::find(&wanted.root, id)?;
                        items.iter().rposition(|item| self.has_id(document, item, id, own))
                    }
                    None => {
                        let equal = self.equal(document, items);
                        equal.last().copied().filter(|_| equal.len() as u64 > same)
                    }
                };
                found.map(|i| self.left("element", &[&to[..], &[i.to_string()]].concat(), why, None))
            }
            Action::Remove(at) => {
                let (last, parents) = at.split_last()?;
                let parent = pointer::find(&document.root, parents)?;
                let gone = matches!(parent.kind, Kind::Object(_)) && parent.member(last).is_none();
                gone.then(|| Leftover {
                    what: format!("the place of `{}` in `{}`", pointer::show(at), self.path()),
                    why: "what was removed was not put back".into(),
                    remove_with: by_hand::look(&self.hand),
                })
            }
        }
    }
}

/// What an undo came to once its text is written.
pub(super) fn done(left: Option<Leftover>) -> Undone {
    left.map_or(Undone::Removed, Undone::Left)
}
