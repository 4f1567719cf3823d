//! What else a job on a unit moves: the units that systemd stops and starts along with it.

use super::{Action, facts::Facts, manager::Manager};
use engine::StepError;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Why a unit may be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// It is the unit of the step.
    Itself,
    /// It is stopped along with another.
    Stopped,
    /// It is started because another asks for it.
    Started,
    /// It may be started later by a socket, a timer or a path that the job starts.
    Triggered,
    /// It is reloaded along with another, and may go down of it.
    Reloaded,
    /// It is asked for by units that are active already, or by those that are started again: it may be started.
    Asked,
}

/// By which a stop goes on to others.
const STOPS: [&str; 5] = ["RequiredBy", "BoundBy", "ConsistsOf", "RequisiteOf", "PropagatesStopTo"];
/// Those that a unit needs, which may be stopped once nothing needs them.
const NEEDS: [&str; 4] = ["Requires", "BindsTo", "Wants", "Upholds"];
/// Those that are stopped where a unit is started.
const CONFLICTS: [&str; 2] = ["Conflicts", "ConflictedBy"];
/// Those that are started once a unit has ended.
const AFTERWARDS: [&str; 2] = ["OnSuccess", "OnFailure"];

/// What happens to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Move {
    Stop,
    /// It is stopped if nothing else needs it.
    Unneeded,
    Start,
    /// It is started if its trigger fires.
    Trigger,
    /// An active unit, or one that is started again, asks for it.
    Ask,
    /// It is started again after a stop.
    Again,
    /// It reads its settings again.
    Reload,
}

/// The units that an action on `root` may move, with their properties before it: the unit itself first, then those nearest
/// to it.
pub(super) async fn reach(
    manager: &Manager<'_>,
    root: &Facts,
    action: Action,
) -> Result<Vec<(Role, Facts)>, StepError> {
    let mut level = Vec::new();
    if matches!(action, Action::Stop | Action::Restart) {
        level.push((root.id().to_owned(), Move::Stop));
    }
    match action {
        Action::Start => level.push((root.id().to_owned(), Move::Start)),
        Action::Restart => level.push((root.id().to_owned(), Move::Again)),
        Action::Reload => level.push((root.id().to_owned(), Move::Reload)),
        Action::Stop => {}
    }
    let mut known = Known(BTreeMap::from([(root.id().to_owned(), root.clone())]));
    let mut seen = BTreeSet::new();
    let mut order: Vec<(Role, String)> = vec![(Role::Itself, root.id().to_owned())];
    while !level.is_empty() {
        known.ask(manager, &level).await?;
        let mut next = Vec::new();
        for (name, what) in level {
            let Some(facts) = known.0.get(&name) else { continue };
            if !seen.insert((facts.id().to_owned(), what)) {
                continue;
            }
            if let Some(role) = moves(facts, what, &mut next)
                && !order.iter().any(|(_, id)| id == facts.id())
            {
                order.push((role, facts.id().to_owned()));
            }
        }
        level = next;
    }
    let facts = |id: &String| known.0.get(id).cloned().unwrap_or_default();
    Ok(order.iter().map(|(role, id)| (*role, facts(id))).collect())
}

/// Units by each of their names.
struct Known(BTreeMap<String, Facts>);

impl Known {
    async fn ask(&mut self, manager: &Manager<'_>, level: &[(String, Move)]) -> Result<(), StepError> {
        let names = level.iter().map(|(name, _)| name).filter(|name| !self.0.contains_key(*name));
        let names: Vec<String> = names.cloned().collect::<BTreeSet<_>>().into_iter().collect();
        if names.is_empty() {
            return Ok(());
        }
        for (name, facts) in names.iter().zip(manager.facts(&names).await?) {
            self.0.insert(facts.id().to_owned(), facts.clone());
            self.0.insert(name.clone(), facts);
        }
        Ok(())
    }
}

/// What a move means for this unit, and which moves follow from it.
fn moves(facts: &Facts, what: Move, next: &mut Vec<(String, Move)>) -> Option<Role> {
    let mut follow = |keys: &[&str], what: Move| {
        next.extend(facts.units(keys).into_iter().map(|name| (name, what)));
    };
    match what {
        Move::Unneeded if facts.is("StopWhenUnneeded") => follow_itself(facts, next),
        Move::Unneeded => None,
        Move::Stop if !facts.is_up() => None,
        Move::Stop => {
            follow(&STOPS, Move::Stop);
            follow(&NEEDS, Move::Unneeded);
            follow(&AFTERWARDS, Move::Ask);
            next.push((facts.id().to_owned(), Move::Again));
            Some(Role::Stopped)
        }
        Move::Reload => {
            follow(&["PropagatesReloadTo"], Move::Reload);
            facts.is_up().then_some(Role::Reloaded)
        }
        _ if facts.text("LoadState") != "loaded" => None,
        // systemd asks an active unit for what it needs all the same.
        Move::Start | Move::Trigger | Move::Ask if facts.is_up() => {
            follow(&NEEDS, Move::Ask);
            None
        }
        Move::Start | Move::Trigger => {
            follow(&NEEDS, what);
            follow(&CONFLICTS, Move::Stop);
            follow(&AFTERWARDS, Move::Ask);
            if facts.is_trigger() {
                follow(&["Triggers"], Move::Trigger);
            }
            Some(if what == Move::Start { Role::Started } else { Role::Triggered })
        }
        Move::Ask | Move::Again => {
            follow(&NEEDS, Move::Ask);
            follow(&CONFLICTS, Move::Stop);
            if facts.is_trigger() {
                follow(&["Triggers"], Move::Ask);
            }
            (what == Move::Ask).then_some(Role::Asked)
        }
    }
}

fn follow_itself(facts: &Facts, next: &mut Vec<(String, Move)>) -> Option<Role> {
    next.push((facts.id().to_owned(), Move::Stop));
    None
}

/// Those that stay up where the unit is stopped, and may start it again.
pub(super) async fn triggers(
    manager: &Manager<'_>,
    reached: &[(Role, Facts)],
) -> Result<Vec<String>, StepError> {
    let names = reached.first().map(|(_, facts)| facts.units(&["TriggeredBy"])).unwrap_or_default();
    let stopped: BTreeSet<&str> = reached.iter().map(|(_, facts)| facts.id()).collect();
    let found = manager.facts(&names).await?;
    let stay = found.iter().filter(|facts| facts.is_up() && !stopped.contains(facts.id()));
    Ok(stay.map(|facts| facts.id().to_owned()).collect())
}

/// The set in words for a plan, to be read after the unit's own state.
pub(super) fn in_words(reached: &[(Role, Facts)], triggers: &[String]) -> String {
    let named = |role: Role| {
        let names = reached.iter().filter(|(its, _)| *its == role).map(|(_, facts)| facts.id());
        list(&names.collect::<Vec<_>>())
    };
    let mut words = String::new();
    for (role, says) in [
        (Role::Stopped, "takes along"),
        (Role::Started, "brings up"),
        (Role::Triggered, "may set off"),
        (Role::Reloaded, "reloads"),
    ] {
        let names = named(role);
        if !names.is_empty() {
            words.push_str(&format!("; {says} {names}"));
        }
    }
    if !triggers.is_empty() {
        let names: Vec<&str> = triggers.iter().map(String::as_str).collect();
        words.push_str(&format!("; {} may start it again", list(&names)));
    }
    words
}

/// A few names, and how many more.
pub(super) fn list(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::{Facts, Move, Role, list, moves};

    fn follows(facts: &str, what: Move) -> (Option<Role>, Vec<(String, Move)>) {
        let mut next = Vec::new();
        let role = moves(&Facts::parse(facts)[0], what, &mut next);
        (role, next)
    }

    #[test]
    fn a_stop_goes_on_to_what_needs_the_unit_and_only_if_it_is_up() {
        let up = "Id=a\nLoadState=loaded\nActiveState=active\nRequiredBy=b\nConsistsOf=c\nWants=d\n";
        let (role, next) = follows(up, Move::Stop);
        assert_eq!(role, Some(Role::Stopped));
        let named = |name: &str, what| next.contains(&(name.to_owned(), what));
        assert!(named("b", Move::Stop) && named("c", Move::Stop) && named("d", Move::Unneeded));
        assert!(named("a", Move::Again), "its undo starts it, which may bring up what it wants");
        assert_eq!(follows(&up.replace("=active", "=inactive"), Move::Stop), (None, Vec::new()));
        assert_eq!(follows("Id=d\nActiveState=active\nStopWhenUnneeded=no\n", Move::Unneeded).1, Vec::new());
        let unneeded = "Id=d\nActiveState=active\nStopWhenUnneeded=yes\n";
        assert_eq!(follows(unneeded, Move::Unneeded).1, [("d".to_owned(), Move::Stop)]);
    }

    #[test]
    fn a_start_brings_up_what_is_wanted_and_stops_what_conflicts() {
        let down =
            "Id=a.socket\nLoadState=loaded\nActiveState=inactive\nWants=b\nConflicts=c\nTriggers=a.service\n";
        let (role, next) = follows(down, Move::Start);
        assert_eq!(role, Some(Role::Started));
        let named = |name: &str, what| next.contains(&(name.to_owned(), what));
        assert!(named("b", Move::Start) && named("c", Move::Stop) && named("a.service", Move::Trigger));
        // One that is up is asked for what it wants, and stays as it is.
        let (role, next) = follows(&down.replace("=inactive", "=active"), Move::Start);
        assert_eq!((role, next), (None, vec![("b".to_owned(), Move::Ask)]));
        assert_eq!(
            follows("Id=x\nLoadState=masked\nActiveState=inactive\nWants=b\n", Move::Start),
            (None, vec![])
        );
    }

    #[test]
    fn many_names_are_counted() {
        assert_eq!(list(&["a", "b"]), "`a`, `b`");
        assert!(list(&["a"; 10]).ends_with("and 2 more"));
    }
}
