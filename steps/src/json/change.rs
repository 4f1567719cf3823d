//! What a change means: which piece of text comes in place of which.

use super::{
    by_hand::Hand,
    edit::{self, Splice},
    pointer,
    store::Record,
    style::{New, Style},
    tree::{By, Document, Kind, Node, alike},
};
use engine::{ErrorClass, StepError};
use std::path::Path;

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
    /// Whether an element that is there already need not be appended: a written undo may be carried out twice.
    pub(super) once: bool,
    /// For a person: the document and its lock.
    pub(super) hand: Hand,
}

pub(super) fn below(at: &[String], token: &str) -> Vec<String> {
    [at, &[token.to_owned()]].concat()
}

pub(super) fn internal() -> StepError {
    StepError::internal("a place of the document was found and then was not")
}

impl Change {
    pub(super) fn path(&self) -> &str {
        &self.hand.document
    }

    /// The same change in the document after it was moved, with its lock if that stood beside it.
    pub(super) fn at(&self, path: &str) -> Self {
        let mut moved = self.clone();
        if moved.hand.lock == moved.hand.document {
            path.clone_into(&mut moved.hand.lock);
        } else if !Path::new(&moved.hand.lock).exists()
            && let (Some(folder), Some(name)) =
                (Path::new(path).parent(), Path::new(&moved.hand.lock).file_name())
        {
            moved.hand.lock = folder.join(name).to_string_lossy().into_owned();
        }
        path.clone_into(&mut moved.hand.document);
        moved
    }

    /// What it has put into the document or taken out of it, for a message.
    pub(super) fn thing(&self) -> String {
        match &self.action {
            Action::Set(at) => format!("value at `{}`", pointer::show(at)),
            Action::Append(to) => format!("the element appended to `{}`", pointer::show(to)),
            Action::Remove(at) => format!("what was removed from `{}`", pointer::show(at)),
        }
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
            Action::Append(to) => self.plan_append(document, style, to),
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
    ) -> Result<Option<(Splice, Record)>, StepError> {
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
                if self.once && self.equal(document, items).contains(&i) {
                    return Ok(None);
                }
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
        if self.once && same > 0 {
            return Ok(None);
        }
        let index = items.len();
        let splice = edit::insert(document, style, to, index, None, New::Value(&self.wanted));
        let record = Record {
            index: Some(index),
            same,
            similar: self.similar(document, items).len() as u64,
            elsewhere: self.elsewhere(document, to).len() as u64,
            ..Record::default()
        };
        Ok(Some((splice.ok_or_else(internal)?, record)))
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
                let same = |item: &&Node| alike(By::Writing, document, node, document, item);
                record.same = items.iter().filter(same).count() as u64;
            }
            _ => {}
        }
        Ok(Some((edit::take_out(parent, i).ok_or_else(internal)?, record)))
    }

    pub(super) fn has_id(&self, document: &Document, item: &Node, id: &[String], own: &Node) -> bool {
        pointer::find(item, id).is_some_and(|other| alike(By::Value, &self.wanted, own, document, other))
    }

    /// The places of elements that are equal to the value.
    pub(super) fn equal(&self, document: &Document, items: &[Node]) -> Vec<usize> {
        let wanted = &self.wanted;
        let equal = |item: &Node| alike(By::Writing, wanted, &wanted.root, document, item);
        items.iter().enumerate().filter(|(_, item)| equal(item)).map(|(i, _)| i).collect()
    }

    /// The places of elements that may be the one that was appended, changed since: the same but for the writing of
    /// numbers, or half of its members the same.
    pub(super) fn similar(&self, document: &Document, items: &[Node]) -> Vec<usize> {
        let wanted = &self.wanted;
        let similar = |item: &Node| match (&wanted.root.kind, &item.kind) {
            (Kind::Object(ours), Kind::Object(_)) if !ours.is_empty() => {
                let same = ours.iter().filter(|member| {
                    item.member(&member.key)
                        .is_some_and(|now| alike(By::Value, wanted, &member.value, document, now))
                });
                same.count() * 2 >= ours.len()
            }
            _ => alike(By::Value, wanted, &wanted.root, document, item),
        };
        items.iter().enumerate().filter(|(_, item)| similar(item)).map(|(i, _)| i).collect()
    }

    /// The places of our element in all of the document but the array at `to`. Of numbers and the like there are too
    /// many equal ones to say anything.
    pub(super) fn elsewhere(&self, document: &Document, to: &[String]) -> Vec<Vec<String>> {
        let wanted = &self.wanted;
        let own = self.id.as_ref().and_then(|id| Some((id, pointer::find(&wanted.root, id)?)));
        let telling = matches!(wanted.root.kind, Kind::Object(_) | Kind::String(_));
        let is = |node: &Node| match own {
            Some((id, own)) => self.has_id(document, node, id, own),
            None => telling && alike(By::Writing, wanted, &wanted.root, document, node),
        };
        let (mut found, mut open) = (Vec::new(), vec![(Vec::new(), &document.root)]);
        while let Some((at, node)) = open.pop() {
            let beyond = at.split_last().is_none_or(|(_, parents)| parents != to);
            if beyond && is(node) {
                found.push(at);
                continue;
            }
            match &node.kind {
                Kind::Array(items) => {
                    open.extend(items.iter().enumerate().map(|(i, item)| (below(&at, &i.to_string()), item)));
                }
                Kind::Object(members) => {
                    open.extend(members.iter().map(|member| (below(&at, &member.key), &member.value)));
                }
                _ => {}
            }
        }
        found
    }
}
