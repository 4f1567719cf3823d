//! The functions that cost more, or make more, than a look at each operand tells: each says what it will cost before it begins.

use super::budget::{BUDGET, ITEM, matches, size, spend};
use cel::{
    Env, ExecutionError,
    common::{
        functions::Function,
        types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelString, DYN_TYPE},
        value::{CowVal, Val},
    },
};

type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Evaluated<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// Prices that are put around operands, the price of what goes over the operand once.
pub(super) const PAY: &str = "@pay";
/// … of what orders it.
pub(super) const SORTED: &str = "@sorted";
/// … of what holds each of its items against each other.
pub(super) const PAIRS: &str = "@pairs";
/// … of what counts it: only text has to be gone over.
pub(super) const COUNTED: &str = "@counted";
/// … of what makes a list of so many items.
pub(super) const COUNT: &str = "@count";
/// … of a loop over it.
pub(super) const LOOP: &str = "@loop";
/// What may stand in brackets behind a value.
pub(super) const INDEX: &str = "@index";
/// … of what makes text of it by a template.
pub(super) const SMALL: &str = "@small";
/// What one turn of a loop costs for each part of its expression.
const STEP: u64 = 16;
/// The longest template and list of `format`, in bytes.
const MAX_FORMAT: u64 = 64 << 10;
/// The longest list that `range` makes.
pub(super) const MAX_RANGE: i64 = 10_000;

/// Functions that stand for one of the same name, with its target as their first operand.
pub(super) const OWN: [&str; 6] = ["matches", "replace", "split", "join", "indexOf", "lastIndexOf"];

/// Adds them all.
pub(super) fn add(env: &mut Env) -> bool {
    let added: [(&str, usize, Function); 22] = [
        (PAY, 1, pay),
        (SORTED, 1, sorted),
        (PAIRS, 1, pairs),
        (COUNT, 1, count),
        (COUNTED, 1, counted),
        (SMALL, 1, small),
        (INDEX, 1, index),
        (LOOP, 2, turns),
        ("@_==_", 2, |args| equal(args).map(truth)),
        ("@_!=_", 2, |args| equal(args).map(|equal| truth(!equal))),
        ("@@in", 2, is_in),
        ("range", 1, range),
        ("@matches", 2, |args| Ok(truth(matches(text(&args, 0)?, text(&args, 1)?)?))),
        ("@replace", 3, replace),
        ("@replace", 4, replace),
        ("@split", 2, split),
        ("@split", 3, split),
        ("@join", 1, join),
        ("@join", 2, join),
        ("@indexOf", 2, index_of),
        ("@indexOf", 3, index_of),
        ("@lastIndexOf", 2, last_index_of),
    ];
    let all = added.into_iter().chain([("@lastIndexOf", 3, last_index_of as Function)]);
    all.map(|(name, count, function)| {
        env.add_overload(name, &format!("{name}/{count}"), (0..count).map(|_| DYN_TYPE).collect(), function)
            .is_ok()
    })
    .fold(true, |all, one| all & one)
}

fn first<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    args.into_iter().next().ok_or_else(|| ExecutionError::function_error(BUDGET, "an operand is missing"))
}

fn wrong(why: impl ToString) -> ExecutionError {
    // The function that was written stands before it.
    ExecutionError::function_error("", why)
}

fn truth<'b, 'v>(truth: bool) -> CowVal<'b, 'v> {
    CowVal::owned(CelBool::from(truth))
}

fn text<'a>(args: &'a Args<'_, '_>, at: usize) -> Result<&'a str, ExecutionError> {
    let found = args.get(at).and_then(|arg| arg.downcast_ref::<CelString>());
    found.map(CelString::inner).ok_or_else(|| wrong(format!("expected text, found {}", type_of(args, at))))
}

fn number(args: &Args<'_, '_>, at: usize) -> Result<Option<i64>, ExecutionError> {
    let Some(arg) = args.get(at) else { return Ok(None) };
    let found = arg.downcast_ref::<CelInt>().map(|int| *int.inner());
    found.map(Some).ok_or_else(|| wrong(format!("expected a whole number, found {}", type_of(args, at))))
}

fn type_of(args: &Args<'_, '_>, at: usize) -> String {
    args.get(at).map_or_else(|| "nothing".into(), |arg| arg.get_type().name().to_owned())
}

fn length(value: &dyn Val) -> u64 {
    if let Some(list) = value.downcast_ref::<CelList>() {
        list.inner().len() as u64
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        map.inner().len() as u64
    } else {
        0
    }
}

fn pay<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    let value = first(args)?;
    spend(1 + size(value.as_ref()))?;
    Ok(value)
}

fn sorted<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    let value = first(args)?;
    let rounds = u64::from(length(value.as_ref()).max(1).ilog2()) + 2;
    spend(size(value.as_ref()).saturating_mul(rounds))?;
    Ok(value)
}

fn pairs<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    let value = first(args)?;
    let size = size(value.as_ref());
    spend(size.saturating_add(length(value.as_ref()).saturating_mul(size / 16)))?;
    Ok(value)
}

fn counted<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    let value = first(args)?;
    let text = value.downcast_ref::<CelString>().map_or(0, |text| text.inner().len());
    spend(1 + text as u64)?;
    Ok(value)
}

fn count<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    if let Ok(Some(items)) = number(&args, 0) {
        spend(u64::try_from(items).unwrap_or(0).saturating_mul(ITEM))?;
    }
    first(args)
}

fn small<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    let value = first(args)?;
    match size(value.as_ref()) {
        // A number may be written with 1,000 digits by a clause of few bytes.
        small if small <= MAX_FORMAT => spend(small * 32).map(|()| value),
        large => Err(ExecutionError::function_error(
            "format",
            format!("{large} bytes are given, at most {MAX_FORMAT} are allowed"),
        )),
    }
}

/// An index that is no whole number is refused here: the evaluator would copy the whole list into its message.
fn index<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    let value = first(args)?;
    if let Some(float) = value.downcast_ref::<CelDouble>().map(|float| *float.inner())
        && float.fract() != 0.0
    {
        return Err(ExecutionError::function_error(BUDGET, format!("the index {float} is no whole number")));
    }
    spend(1 + size(value.as_ref()))?;
    Ok(value)
}

/// What a loop goes over. Of a map these are its keys, and they are sorted: the map itself gives them in an order that
/// differs from process to process, and an undo must mean what its step meant.
fn turns<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    let parts = number(&args, 1)?.and_then(|parts| u64::try_from(parts).ok()).unwrap_or(1);
    let range = first(args)?;
    let steps = length(range.as_ref()).saturating_mul(parts).saturating_mul(STEP);
    // Each item is copied into its name.
    spend(steps.saturating_add(size(range.as_ref())))?;
    let Some(map) = range.downcast_ref::<CelMap>() else { return Ok(range) };
    let mut keys: Vec<&CelMapKey<'_>> = map.inner().keys().collect();
    keys.sort_unstable();
    let keys: Vec<Box<dyn Val + 'v>> = keys.into_iter().map(|key| key.inner().clone_as_boxed()).collect();
    Ok(CowVal::owned(CelList::from(keys)))
}

fn equal(args: Args<'_, '_>) -> Result<bool, ExecutionError> {
    let [a, b] = args.as_slice() else { return Err(wrong("expected two values")) };
    let texts = (a.downcast_ref::<CelString>(), b.downcast_ref::<CelString>());
    let differ = match texts {
        (Some(a), Some(b)) => a.inner().len() != b.inner().len(),
        _ => length(a.as_ref()) != length(b.as_ref()),
    };
    spend(if differ { 1 } else { 1 + size(a.as_ref()) })?;
    Ok(a == b)
}

fn is_in<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    let [value, all] = args.as_slice() else { return Err(wrong("expected two values")) };
    let overload = || ExecutionError::no_such_overload("@in", vec![type_of(&args, 0), type_of(&args, 1)]);
    let mut cost = 1 + size(value.as_ref());
    if all.downcast_ref::<CelMap>().is_none() {
        // Text that begins alike is compared to where it differs; a list or map may be compared to its end.
        let each = match length(value.as_ref()) {
            0 => 2 + cost / 16,
            _ => cost,
        };
        cost += length(all.as_ref()).saturating_mul(each);
    }
    spend(cost)?;
    let container = all.as_container().ok_or_else(overload)?;
    container.contains(value.as_ref()).map(truth).map_err(|_| overload())
}

fn range<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    let end = number(&args, 0)?.unwrap_or(0);
    let Some(items) = u64::try_from(end).ok().filter(|_| end <= MAX_RANGE) else {
        return Err(ExecutionError::function_error(
            "range",
            format!("expected a number from 0 to {MAX_RANGE}, found {end}"),
        ));
    };
    spend(items * ITEM)?;
    let items: Vec<Box<dyn Val + 'v>> =
        (0..end).map(|item| Box::new(CelInt::from(item)) as Box<dyn Val + 'v>).collect();
    Ok(CowVal::owned(CelList::from(items)))
}

/// `text.replace(from, to)` and `text.replace(from, to, count)`.
fn replace<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    let (of, from, to) = (text(&args, 0)?, text(&args, 1)?, text(&args, 2)?);
    let count = number(&args, 3)?.and_then(|count| usize::try_from(count).ok());
    // The search goes over it twice: once to tell what it makes.
    spend(of.len() as u64 * 2)?;
    let found = of.matches(from).count().min(count.unwrap_or(usize::MAX)) as u64;
    spend(found.saturating_mul(to.len() as u64).saturating_add(of.len() as u64))?;
    let replaced = match count {
        Some(count) => of.replacen(from, to, count),
        None => of.replace(from, to),
    };
    Ok(CowVal::owned(CelString::from(replaced)))
}

/// `text.split(by)` and `text.split(by, count)`. An empty separator splits between characters.
fn split<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    let (of, by) = (text(&args, 0)?, text(&args, 1)?);
    let most = number(&args, 2)?.and_then(|count| usize::try_from(count).ok());
    spend(of.len() as u64 * 2)?;
    let ends: Box<dyn Iterator<Item = (usize, usize)>> = match by.is_empty() {
        true => Box::new(of.char_indices().skip(1).map(|(at, _)| (at, at))),
        false => Box::new(of.match_indices(by).map(|(at, found)| (at, at + found.len()))),
    };
    let mut parts: Vec<Box<dyn Val + 'v>> = Vec::new();
    let part = |part: &str| Box::new(CelString::from(part.to_owned())) as Box<dyn Val + 'v>;
    let nothing = most == Some(0) || (of.is_empty() && by.is_empty());
    let mut from = 0;
    for (end, next) in ends.take(most.map_or(usize::MAX, |most| most.saturating_sub(1))) {
        spend(ITEM)?;
        parts.push(part(&of[from..end]));
        from = next;
    }
    if !nothing {
        parts.push(part(&of[from..]));
    }
    Ok(CowVal::owned(CelList::from(parts)))
}

/// `list.join()` and `list.join(between)`.
fn join<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    let between = if args.len() > 1 { text(&args, 1)? } else { "" };
    let Some(list) = args.first().and_then(|list| list.downcast_ref::<CelList>()) else {
        return Err(wrong(format!("expected a list, found {}", type_of(&args, 0))));
    };
    spend(size(list).saturating_add(length(list).saturating_mul(between.len() as u64)))?;
    let mut joined = String::new();
    for (at, item) in list.inner().iter().enumerate() {
        let item = item.downcast_ref::<CelString>().ok_or_else(|| {
            wrong(format!("expected a list of text, found {} in it", item.get_type().name()))
        })?;
        if at > 0 {
            joined.push_str(between);
        }
        joined.push_str(item.inner());
    }
    Ok(CowVal::owned(CelString::from(joined)))
}

/// Where the text behind so many characters begins, in bytes; the end of the text for more.
fn byte_at(text: &str, chars: usize) -> usize {
    text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at)
}

/// How many characters stand before a byte.
fn position<'b, 'v>(text: &str, byte: Option<usize>) -> CowVal<'b, 'v> {
    let position = byte.map_or(-1, |byte| i64::try_from(text[..byte].chars().count()).unwrap_or(-1));
    CowVal::owned(CelInt::from(position))
}

/// The operands of both searches, paid for, and the offset.
fn search<'a>(args: &'a Args<'_, '_>) -> Result<(&'a str, &'a str, Option<usize>), ExecutionError> {
    let (of, what) = (text(args, 0)?, text(args, 1)?);
    spend((of.len() as u64 * 4).saturating_add(what.len() as u64))?;
    let Some(offset) = number(args, 2)? else { return Ok((of, what, None)) };
    let within = usize::try_from(offset).ok().filter(|at| what.is_empty() || byte_at(of, *at) < of.len());
    within.map(|at| (of, what, Some(at))).ok_or_else(|| wrong(format!("index out of range: {offset}")))
}

fn index_of<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    let (of, what, offset) = search(&args)?;
    let from = byte_at(of, offset.unwrap_or(0));
    Ok(position(of, of[from..].find(what).map(|at| from + at)))
}

fn last_index_of<'b, 'v>(args: Args<'b, 'v>) -> Evaluated<'b, 'v> {
    let (of, what, offset) = search(&args)?;
    // The last one that begins at the offset or before it.
    let end = offset.map_or(of.len(), |at| byte_at(of, at).saturating_add(what.len()).min(of.len()));
    let end = (end..=of.len()).find(|end| of.is_char_boundary(*end)).unwrap_or(of.len());
    let found = of[..end].rfind(what);
    Ok(position(of, found))
}
