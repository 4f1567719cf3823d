//! How a change is taken back in a document on which others have worked since.

use super::{
    by_hand,
    change::{Action, Change, below, internal},
    edit::{self, Splice},
    pointer,
    store::Record,
    style::{New, Style},
    tree::{By, Document, Kind, Node, alike},
};
use engine::{
    StepError,
    step::{Leftover, Undone},
};
use std::path::Path;

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

impl Change {
    /// The command that takes it back in a document that holds it.
    pub(super) fn undo_by_hand(&self, path: &Path, record: &Record) -> Option<String> {
        let found = super::store::read(path.to_str()?).ok()??;
        let document = super::store::parse(path.to_str()?, &found.text).ok()?;
        Some(match &self.action {
            Action::Set(at) => match &record.earlier {
                Some(raw) => by_hand::put(&self.hand, &document, at, raw, false),
                None => by_hand::delete(&self.hand, &document, at),
            },
            Action::Append(to) => {
                let Kind::Array(items) = &pointer::find(&document.root, to)?.kind else { return None };
                let by_id = self.id.as_ref().and_then(|id| {
                    let own = pointer::find(&self.wanted.root, id)?;
                    items.iter().rposition(|item| self.has_id(&document, item, id, own))
                });
                let equal = self.equal(&document, items);
                let i = by_id.or(record.index.filter(|i| equal.contains(i))).or(equal.last().copied())?;
                by_hand::delete(&self.hand, &document, &below(to, &i.to_string()))
            }
            Action::Remove(at) => by_hand::put(&self.hand, &document, at, record.earlier.as_deref()?, true),
        })
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
        let earlier = record.earlier.as_deref().filter(|_| !(record.created && at.is_empty()));
        let Some(node) = pointer::find(&document.root, at) else {
            // With what it stood in, the earlier value would be gone, too.
            let parent = at.split_last().and_then(|(_, parents)| pointer::find(&document.root, parents));
            let missed = parent.is_some_and(|parent| matches!(parent.kind, Kind::Object(_)));
            return Ok(match earlier.filter(|_| missed) {
                Some(_) => {
                    let why = "another removed it, and the value from before is not back";
                    Back::Left(self.left("value", document, at, why, earlier))
                }
                None => Back::Nothing,
            });
        };
        if let Some(raw) = earlier {
            let before = super::store::parse(self.path(), raw)?;
            if alike(By::Writing, &before, &before.root, document, node) {
                return Ok(Back::Nothing);
            }
        }
        if !alike(By::Writing, &self.wanted, &self.wanted.root, document, node) {
            let why = "it was changed since it was set";
            return Ok(Back::Left(self.changed("value", at, why, earlier)));
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
        let nothing = || Ok(self.moved_within(document, to, record).map_or(Back::Nothing, Back::Left));
        let Some(node) = pointer::find(&document.root, to) else { return nothing() };
        let Kind::Array(items) = &node.kind else { return nothing() };
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
                [] => nothing(),
                [i] if holds(&items[*i]) => out(*i),
                [i] => {
                    let changed = self.changed_members(document, &items[*i]);
                    let why = format!("{changed} changed since it was appended");
                    Ok(Back::Left(self.changed("element", &at(*i), &why, None)))
                }
                [.., i] => {
                    let why = format!("{} elements have its `{}`", found.len(), pointer::show(id));
                    Ok(Back::Left(self.changed("element", &at(*i), &why, None)))
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
            return Ok(Back::Left(self.changed("element", &at(i), why, None)));
        }
        if equal.len() as u64 > record.same {
            let own = record.index.filter(|i| equal.contains(i)).or(equal.last().copied());
            return out(own.ok_or_else(internal)?);
        }
        let similar = self.similar(document, items);
        if similar.len() as u64 > record.similar
            && let Some(i) = record.index.filter(|i| similar.contains(i)).or(similar.last().copied())
        {
            let why =
                "it may be the one that was appended, changed since; with `id` it would be known for sure";
            return Ok(Back::Left(self.changed("element", &at(i), why, None)));
        }
        nothing()
    }

    /// Our element where the program under test has put it.
    fn moved_within(&self, document: &Document, to: &[String], record: &Record) -> Option<Leftover> {
        let found = self.elsewhere(document, to);
        let at = found.first().filter(|_| found.len() as u64 > record.elsewhere)?;
        let why = format!("it was moved there since it was appended to `{}`", pointer::show(to));
        Some(self.left("element", document, at, &why, None))
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
        let alike_before = |node: &Node| alike(By::Writing, &before, &before.root, document, node);
        let left = |why: &str| Ok(Back::Left(self.left("value", document, at, why, Some(raw))));
        let splice = match pointer::find(&document.root, parents).map(|parent| &parent.kind) {
            // Only an array had elements like it: `same` counts at least itself there.
            Some(Kind::Object(members)) if record.same == 0 => {
                if let Some(now) = members.iter().rfind(|member| member.key == *last) {
                    return match alike_before(&now.value) {
                        true => Ok(Back::Nothing),
                        false => {
                            let why = "another value was put in its place since it was removed";
                            Ok(Back::Left(self.changed("value", at, why, Some(raw))))
                        }
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

    /// What another made of it is shown, never overwritten; what was there before is told, or shown with it.
    fn changed(&self, thing: &str, at: &[String], why: &str, earlier: Option<&str>) -> Leftover {
        let look = by_hand::look(&self.hand);
        let (why, remove_with) = match earlier {
            None => (why.to_owned(), look),
            Some(_) if self.hand.by_record => {
                (why.to_owned(), format!("{look} && {}", by_hand::look_at_record(&self.hand)))
            }
            Some(raw) => (format!("{why}; before, it was {raw}"), look),
        };
        let what = format!("{thing} at `{}` of `{}`", pointer::show(at), self.path());
        Leftover { what, why, remove_with }
    }

    fn left(
        &self,
        thing: &str,
        document: &Document,
        at: &[String],
        why: &str,
        earlier: Option<&str>,
    ) -> Leftover {
        let remove_with = match (&self.action, earlier) {
            (Action::Remove(_), Some(raw)) => by_hand::put(&self.hand, document, at, raw, true),
            (_, Some(raw)) => by_hand::put(&self.hand, document, at, raw, false),
            (_, None) => by_hand::delete(&self.hand, document, at),
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
                alike(By::Writing, wanted, &wanted.root, document, node)
                    .then(|| self.left("value", document, at, why, None))
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
                found.map(|i| self.left("element", document, &below(to, &i.to_string()), why, None))
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
