//! The work on a document while its lock is held: reads, changes, and takes changes back.

use super::{
    Check, Health, Output,
    back::{Back, done},
    change::Change,
    lineage::{self, Fate, Folder, Known},
    lock::Turn,
    pointer,
    store::{self, Found, Place, Record, absent, require_writable},
    style::Style,
    tree::{By, Document, Kind, Node, alike},
};
use crate::identity::Identity;
use engine::{
    ErrorClass, StepError,
    step::{Leftover, Presence, Settled, Undone},
};
use std::{os::unix::fs::MetadataExt, path::Path};

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

/// Takes what is about to have the document's name, with its record, or that nothing is.
type Announce<'a> = dyn Fn(Option<(Identity, &Record)>) -> Result<(), StepError> + 'a;

/// Makes the change; with `keep` so that it can be taken back. `announce` is told what is known before the new document
/// gets its name, and that it did not get it.
pub(super) fn run(
    change: &Change,
    place: &Place,
    create: bool,
    keep: bool,
    unlocked: bool,
    announce: &Announce<'_>,
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
        if !keep {
            // Another attempt may have been killed on the way.
            place.clear()?;
        }
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
    record.modified = found.as_ref().map(|it| (it.metadata.mtime(), it.metadata.mtime_nsec()));
    record.before = store::sha256(text);
    record.after = store::sha256(&made);
    (record.at, record.inserted) = (splice.at, splice.text.len());
    record.removed = text[splice.at..splice.at + splice.removed].to_owned();
    let output = output(change, &record)?;
    let announce = |new: Option<Identity>| announce(new.map(|new| (new, &record)));
    let changed = place.change(found.as_ref(), &made, keep.then_some(&record), &announce)?;
    Ok(if changed { Turn::Done(output) } else { Turn::Moved })
}

/// What became of the change, told before anything is tried again.
pub(super) fn settle(change: &Change, place: &Place, known: &Known) -> Result<Settled<Output>, StepError> {
    if !matches!(lineage::folder(place, known)?, Folder::Here) {
        return Ok(Settled::Unclear(lineage::no_folder(change, place).why));
    }
    Ok(match lineage::fate(place, known)? {
        Fate::Never => Settled::NotHappened,
        Fate::Happened(record) => Settled::Happened(output(change, &record.unwrap_or_default())?),
    })
}

/// What was seen before anything is taken back.
enum Seen {
    /// It is settled what the undo comes to.
    Undone(Undone),
    /// The record, and the document; nothing if there is none.
    Document(Box<(Record, Option<Found>)>),
}

/// Takes the change back; `output` is what is known of it if it ended. `mark` makes known, before that happens, that the document is
/// about to be removed or the record that tells of the change is.
pub(super) fn undo(
    change: &Change,
    place: &Place,
    known: &Known,
    output: Option<&Output>,
    unlocked: bool,
    mark: &dyn Fn(Known),
) -> Result<Turn<Undone>, StepError> {
    if known.taken_back {
        place.clear()?;
        return Ok(Turn::Done(Undone::NothingToDo));
    }
    let seen = match see(change, place, known, output) {
        // Nothing has been touched yet, so what stands in the way of the look is all that there is to tell.
        Err(error) if !may_pass(error.class) => {
            return Ok(Turn::Done(Undone::CannotTell(unseen(change, place, error))));
        }
        seen => seen?,
    };
    let (record, found) = match seen {
        Seen::Undone(undone) => return Ok(Turn::Done(undone)),
        Seen::Document(seen) => *seen,
    };
    if let Some(left) = moved_away(change, place, known, &record, found.as_ref()) {
        settle_files(change, place, false)?;
        return Ok(Turn::Done(Undone::Left(left)));
    }
    // A document that is gone took the change with it, if it is not somewhere else.
    let Some(found) = found else {
        let undone = match known.removing {
            true => Undone::Removed,
            false => lineage::elsewhere(change, place, known, &record, Undone::NothingToDo),
        };
        settle_files(change, place, !matches!(undone, Undone::Left(_) | Undone::CannotTell(_)))?;
        return Ok(Turn::Done(undone));
    };
    if unlocked {
        return Ok(Turn::Moved);
    }
    let is_published = known.published.as_ref().is_some_and(|published| published.is(&found.identity));
    if record.created {
        mark(Known { removing: true, ..known.clone() });
    }
    let before = (found.sha256 == record.after).then(|| record.text_before(&found.text)).flatten();
    let undone = match (before, found.sha256 == record.before) {
        _ if record.created && found.sha256 == record.after => {
            place.remove_document(&found)?.then_some(Undone::Removed)
        }
        // Nobody changed the document since: it becomes what it was, byte for byte.
        (Some(before), _) => place.restore_whole(&found, &before, &record)?.then_some(Undone::Removed),
        (_, true) if !record.created => Some(Undone::NothingToDo),
        _ => among_others(change, place, &record, &found)?,
    };
    let Some(mut undone) = undone else { return Ok(Turn::Moved) };
    let second = is_published && found.metadata.nlink() > 1;
    undone = match undone {
        // Another has given it a second name: under that it is still there.
        Undone::Removed if second => lineage::elsewhere(change, place, known, &record, Undone::Removed),
        Undone::NothingToDo if !is_published && lineage::exists(place, known) => {
            lineage::elsewhere(change, place, known, &record, Undone::NothingToDo)
        }
        other => other,
    };
    if record.created && undone != Undone::Removed {
        mark(known.clone());
    }
    let done = !matches!(undone, Undone::Left(_) | Undone::CannotTell(_));
    if done && known.record.is_none() {
        mark(Known { taken_back: true, ..known.clone() });
    }
    settle_files(change, place, done)?;
    Ok(Turn::Done(undone))
}

/// Whether the engine does well to try again.
pub(super) fn may_pass(class: ErrorClass) -> bool {
    use ErrorClass::{Busy, Cancelled, Timeout, Unreachable};
    matches!(class, Busy | Cancelled | Timeout | Unreachable)
}

/// Clears away what is beside the document. The record stays if a person needs it to put back what was there.
fn settle_files(change: &Change, place: &Place, done: bool) -> Result<(), StepError> {
    if done || !change.hand.by_record { place.clear() } else { place.clear_but_record() }
}

fn see(change: &Change, place: &Place, known: &Known, output: Option<&Output>) -> Result<Seen, StepError> {
    match lineage::folder(place, known)? {
        Folder::Here => {}
        Folder::Renamed(folder) => {
            let there = place.within(&folder);
            return Ok(Seen::Undone(match lineage::fate(&there, known)? {
                Fate::Never => {
                    there.clear()?;
                    Undone::NothingToDo
                }
                Fate::Happened(record) => {
                    let why = format!("its folder was renamed to `{}` since", folder.display());
                    let mut change = change.clone();
                    change.hand.record = there.record_file().to_string_lossy().into_owned();
                    let left = lineage::left_in(&change, Path::new(&there.path), record.as_ref(), &why);
                    settle_files(&change, &there, left.is_none())?;
                    left.map_or(Undone::NothingToDo, Undone::Left)
                }
            }));
        }
        Folder::Lost => return Ok(Seen::Undone(Undone::CannotTell(lineage::no_folder(change, place)))),
    }
    let gone = "the record of how to take it back is gone";
    let record = match lineage::fate(place, known)? {
        Fate::Happened(Some(record)) => record,
        Fate::Never if output.is_none_or(|output| !output.changed) => {
            place.clear()?;
            return Ok(Seen::Undone(Undone::NothingToDo));
        }
        Fate::Happened(None) if output.is_none() => {
            place.clear()?;
            let what = format!("{} of `{}`", change.thing(), place.path);
            let remove_with = super::by_hand::look(&change.hand);
            let left = Leftover { what, why: gone.into(), remove_with };
            return Ok(Seen::Undone(Undone::CannotTell(left)));
        }
        Fate::Never | Fate::Happened(None) => {
            place.clear()?;
            return Ok(Seen::Undone(match trace(change, place, output)? {
                Some(left) => Undone::Left(Leftover { why: gone.into(), ..left }),
                None => Undone::NothingToDo,
            }));
        }
    };
    Ok(Seen::Document(Box::new((record, store::read(&place.path)?))))
}

/// What could not be looked at.
pub(super) fn unseen(change: &Change, place: &Place, error: StepError) -> Leftover {
    let what = format!("{} of `{}`", change.thing(), place.path);
    let remove_with = format!("ls -ld {}", engine::host::shell_word(&place.path));
    Leftover { what, why: error.message, remove_with }
}

/// The change in a document that was moved or rotated away while another took its name.
pub(super) fn moved_away(
    change: &Change,
    place: &Place,
    known: &Known,
    record: &Record,
    found: Option<&Found>,
) -> Option<Leftover> {
    let published = known.published.as_ref()?;
    if found.is_some_and(|found| published.is(&found.identity)) {
        return None;
    }
    let renamed = |path: &Path| format!("the document was renamed to `{}` since", path.display());
    if let Some(path) = lineage::moved(place, published) {
        return lineage::left_in(change, &path, Some(record), &renamed(&path));
    }
    // Its writers have replaced it since. If it does not hold what was written, or anybody's equal value would do, one
    // that was rotated away may.
    let holds = lineage::holds(change, Path::new(&place.path), record);
    if holds && change.id.is_some() {
        return None;
    }
    let path = lineage::kin(change, place, known, record)?;
    lineage::left_in(change, &path, Some(record), &renamed(&path))
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
            remove_with: super::by_hand::look(&change.hand),
        });
    }
    if splice.is_none() {
        return Ok(Some(left.map_or(Undone::NothingToDo, Undone::Left)));
    }
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

/// Whether something of the change is still there.
pub(super) fn presence(
    change: &Change,
    place: &Place,
    known: &Known,
    output: Option<&Output>,
) -> Result<Presence, StepError> {
    let place = match lineage::folder(place, known)? {
        Folder::Here => place.clone(),
        Folder::Renamed(folder) => place.within(&folder),
        Folder::Lost => return Ok(Presence::Unknown(lineage::no_folder(change, place).why)),
    };
    let beside = place.presence()?;
    if beside != Presence::Gone {
        return Ok(beside);
    }
    let change = change.at(&place.path);
    if let Some(left) = trace(&change, &place, output)? {
        return Ok(Presence::Present(left));
    }
    let Some(record) = output.and(known.record.as_ref()) else { return Ok(Presence::Gone) };
    let Some(published) = &known.published else { return Ok(Presence::Gone) };
    let renamed = lineage::moved(&place, published).and_then(|path| {
        lineage::left_in(&change, &path, Some(record), "the document was renamed to it since")
    });
    Ok(renamed.map_or(Presence::Gone, Presence::Present))
}
