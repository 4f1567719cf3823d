//! The work on a document while its lock is held: reads, changes, and takes changes back.

use super::{
    Check, Health, Output,
    change::{Back, Change, done},
    lock::Turn,
    pointer,
    store::{self, Found, Place, Record, absent, require_writable},
    style::Style,
    tree::{By, Document, Kind, Node, alike},
};
use engine::{
    ErrorClass, StepError,
    step::{Leftover, Undone},
};

/// How deeply a value for an output may be nested: it is written into journals and reports, whose readers allow
/// [`super::tree::DEEPEST`] levels in all.
const DEEPEST_OUTPUT: usize = 96;
/// How long the text of a value for an output may be, in bytes: it has to fit into the journal.
const LONGEST_OUTPUT: usize = 1 << 20;

fn required(path: &str) -> Result<Found, StepError> {
    store::read(path)?.ok_or_else(|| absent(path))
}

/// Values at pointers within an element.
pub(super) type Wanted = Vec<(Vec<String>, Document)>;

/// The value at a pointer, or of an array the element that is wanted.
pub(super) fn get(path: &str, tokens: &[String], wanted: Option<&Wanted>) -> Result<Output, StepError> {
    let found = required(path)?;
    let document = store::parse(path, &found.text)?;
    let node = pointer::require(&document, path, tokens)?;
    let Some(wanted) = wanted else { return shown(path, tokens, &document, node) };
    let Kind::Array(items) = &node.kind else {
        let message = format!(
            "`{path}` at `{}` is of the type {}: expected an array, for `where` chooses an element",
            pointer::show(tokens),
            node.kind()
        );
        return Err(StepError::new(ErrorClass::Invalid, message));
    };
    let has = |item: &Node, (at, value): &(Vec<String>, Document)| {
        pointer::find(item, at).is_some_and(|node| alike(By::Value, value, &value.root, &document, node))
    };
    let mut fitting = items.iter().enumerate().filter(|(_, item)| wanted.iter().all(|one| has(item, one)));
    let Some((index, first)) = fitting.next() else {
        return Ok(Output { kind: Some("null".into()), ..Output::default() });
    };
    let output = shown(path, tokens, &document, first)?;
    let others = fitting.count() as u64;
    Ok(Output { index: Some(index as u64), same: others, ..output })
}

fn shown(path: &str, tokens: &[String], document: &Document, node: &Node) -> Result<Output, StepError> {
    let size = document.raw(node).len();
    if size > LONGEST_OUTPUT {
        let message = format!(
            "what `{path}` has at `{}` has {size} bytes: expected at most {LONGEST_OUTPUT}",
            pointer::show(tokens)
        );
        return Err(StepError::new(ErrorClass::Unsupported, message)
            .hint("name something deeper in it, or an element with `where`"));
    }
    let depth = node.depth();
    if depth > DEEPEST_OUTPUT {
        let message = format!(
            "what `{path}` has at `{}` is nested {depth} levels deep: expected at most {DEEPEST_OUTPUT}",
            pointer::show(tokens)
        );
        return Err(StepError::new(ErrorClass::Unsupported, message).hint("name something deeper in it"));
    }
    Ok(Output {
        value: document.value(node),
        kind: Some(node.kind().to_owned()),
        count: node.count().map(|count| count as u64),
        ..Output::default()
    })
}

/// What must hold of a document.
pub(super) fn check(path: &str, wanted: &[Check]) -> Result<Output, StepError> {
    let found = required(path)?;
    let mut health = Health { size: found.metadata.len(), ..Health::default() };
    if wanted.iter().any(|check| *check != Check::Exists) {
        let document = store::parse(path, &found.text)?;
        health.kind = Some(document.root.kind().to_owned());
        if wanted.contains(&Check::Writable) {
            require_writable(path, &found, &document)?;
            health.writable = Some(true);
        }
        health.duplicate_key = document.twice;
    }
    Ok(Output { health: Some(health), ..Output::default() })
}

/// What a change would come to, without making it.
pub(super) fn foresee(change: Option<&Change>, path: &str, create: bool) -> Result<String, StepError> {
    let Some(found) = store::read(path)? else {
        return match (create, change) {
            (true, Some(change)) => {
                let document = store::parse(path, change.skeleton())?;
                change.plan(&document, &Style::fresh()).map(|_| "not there, is made".to_owned())
            }
            (true, None) => Ok("not there, is made".to_owned()),
            (false, _) => Err(absent(path)),
        };
    };
    let document = store::parse(path, &found.text)?;
    require_writable(path, &found, &document)?;
    if let Some(change) = change {
        change.plan(&document, &Style::of(&document))?;
    }
    Ok(format!("writable, {}", document.root.kind()))
}

/// What the output says of a change.
pub(super) fn output(change: &Change, record: &Record) -> Result<Output, StepError> {
    let mut output =
        Output { changed: true, created: record.created, same: record.same, ..Output::default() };
    output.index = record.index.map(|index| index as u64);
    if let Some(raw) = record.earlier.as_ref().filter(|raw| raw.len() <= LONGEST_OUTPUT) {
        let earlier = store::parse(&change.hand.document, raw)?;
        if earlier.root.depth() <= DEEPEST_OUTPUT {
            output.earlier = Some(earlier.value(&earlier.root));
        }
    }
    Ok(output)
}

/// Makes the change; with `keep` so that it can be taken back.
pub(super) fn run(
    change: &Change,
    place: &Place,
    create: bool,
    keep: bool,
    unlocked: bool,
) -> Result<Turn<Output>, StepError> {
    let path = place.path.as_str();
    let found = store::read(path)?;
    let text = match &found {
        // It was made in the moment since we looked for it to lock it.
        Some(_) if unlocked => return Ok(Turn::Moved),
        Some(found) => found.text.as_str(),
        None if create => change.skeleton(),
        None => return Err(absent(path)),
    };
    let document = store::parse(path, text)?;
    let style = match &found {
        Some(found) => {
            require_writable(path, found, &document)?;
            Style::of(&document)
        }
        None => Style::fresh(),
    };
    let Some((splice, mut record)) = change.plan(&document, &style)? else {
        return Ok(Turn::Done(Output::default()));
    };
    let made = splice.apply(text);
    // What is written is read first: nobody is given a document that we could not read ourselves.
    Document::parse(made.clone()).map_err(|flaw| {
        let message = format!("`{path}` could not be read any more with this change: {}", flaw.message);
        StepError::new(ErrorClass::Invalid, message).hint("make `value` less deep")
    })?;
    if made.len() as u64 > store::LARGEST {
        let message = format!(
            "`{path}` would have {} bytes with this change: expected at most {}, or its undo could not read it",
            made.len(),
            store::LARGEST
        );
        return Err(StepError::new(ErrorClass::Unsupported, message));
    }
    record.created = found.is_none();
    record.before = store::sha256(text);
    record.after = store::sha256(&made);
    (record.at, record.inserted) = (splice.at, splice.text.len());
    record.removed = text[splice.at..splice.at + splice.removed].to_owned();
    let output = output(change, &record)?;
    let changed = place.change(found.as_ref(), &made, keep.then_some(&record))?;
    Ok(if changed { Turn::Done(output) } else { Turn::Moved })
}

/// Takes the change back; `output` is what is known of it if it ended.
pub(super) fn undo(
    change: &Change,
    place: &Place,
    output: Option<&Output>,
    unlocked: bool,
) -> Result<Turn<Undone>, StepError> {
    let Some(record) = place.record()? else {
        place.clear()?;
        return Ok(Turn::Done(match trace(change, place, output)? {
            Some(mut left) => {
                left.why = "the record of how to take it back is gone".into();
                Undone::Left(left)
            }
            None => Undone::NothingToDo,
        }));
    };
    // A document that is gone took the change with it.
    let Some(found) = store::read(&place.path)? else {
        place.clear()?;
        return Ok(Turn::Done(Undone::NothingToDo));
    };
    if unlocked {
        return Ok(Turn::Moved);
    }
    let undone = match (found.sha256 == record.after, found.sha256 == record.before) {
        (true, _) => exactly(place, &record, &found)?,
        (_, true) if !record.created => Some(Undone::NothingToDo),
        _ => among_others(change, place, &record, &found)?,
    };
    let Some(undone) = undone else { return Ok(Turn::Moved) };
    place.clear()?;
    Ok(Turn::Done(undone))
}

/// Nobody changed the document since: it becomes what it was, byte for byte.
fn exactly(place: &Place, record: &Record, found: &Found) -> Result<Option<Undone>, StepError> {
    if record.created {
        return Ok(place.remove_document(found)?.then_some(Undone::Removed));
    }
    let before = record.text_before(&found.text).ok_or_else(|| {
        let path = place.record_file();
        StepError::new(
            ErrorClass::Corrupt,
            format!("the record `{}` does not lead back to the document before", path.display()),
        )
    })?;
    place.release()?;
    Ok(place.restore(found, &before)?.then_some(Undone::Removed))
}

/// Others have worked on the document since: only what this step did is taken back.
fn among_others(
    change: &Change,
    place: &Place,
    record: &Record,
    found: &Found,
) -> Result<Option<Undone>, StepError> {
    let path = place.path.as_str();
    let document = store::parse(path, &found.text)?;
    if let Some(twice) = &document.twice {
        return Ok(Some(Undone::Left(Leftover {
            what: format!("what was changed at `{}` of `{path}`", pointer::show(change.tokens())),
            why: format!("the document holds the key at `{twice}` twice now"),
            remove_with: super::by_hand::look(&change.hand),
        })));
    }
    let splice = match change.take_back(&document, record)? {
        Back::Left(left) => return Ok(Some(Undone::Left(left))),
        Back::Document => return Ok(place.remove_document(found)?.then_some(Undone::Removed)),
        Back::Nothing => None,
        Back::Text(splice) => Some(splice),
    };
    let text = splice.as_ref().map_or_else(|| found.text.clone(), |splice| splice.apply(&found.text));
    let mut left = None;
    if record.created {
        let now = store::parse(path, &text)?;
        let empty = matches!(&now.root.kind, Kind::Array(items) if items.is_empty())
            || matches!(&now.root.kind, Kind::Object(members) if members.is_empty());
        if empty {
            return Ok(place.remove_document(found)?.then_some(Undone::Removed));
        }
        left = Some(Leftover {
            what: format!("document `{path}`"),
            why: "others have written into it since it was made".into(),
            remove_with: format!("rm -- {}", engine::host::shell_word(path)),
        });
    }
    if splice.is_none() {
        return Ok(Some(left.map_or(Undone::NothingToDo, Undone::Left)));
    }
    place.release()?;
    Ok(place.restore(found, &text)?.then(|| done(left)))
}

/// What is left of a change whose record is gone.
pub(super) fn trace(
    change: &Change,
    place: &Place,
    output: Option<&Output>,
) -> Result<Option<Leftover>, StepError> {
    let Some(output) = output.filter(|output| output.changed) else { return Ok(None) };
    let Some(found) = store::read(&place.path)? else { return Ok(None) };
    let document = store::parse(&place.path, &found.text)?;
    // Where the value was the same before but for its writing, it tells nothing.
    if let Some(earlier) = &output.earlier
        && let Ok(earlier) = Document::parse(earlier.to_string())
        && super::tree::alike(
            super::tree::By::Value,
            &earlier,
            &earlier.root,
            &change.wanted,
            &change.wanted.root,
        )
    {
        return Ok(None);
    }
    Ok(change.trace(&document, output.changed, output.same))
}
