//! The whole effect of a job: all units that it moved, what became of them, and how they are put back.

use super::{
    Intent,
    facts::{Facts, is_up},
    manager::Manager,
    reach::{Role, list},
    story::Story,
    unit::{Along, Unit, arg},
    work::Work,
};
use engine::{
    ErrorClass, StepError,
    host::Exec,
    step::{Leftover, Presence, Undone},
};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How long units that follow on their own may take to come to rest before the step goes on.
const REST: Duration = Duration::from_secs(5);

/// A unit as it was at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) unit: String,
    pub(super) role: Role,
    pub(super) active: String,
    /// Which of its starts it was in, or the last.
    #[serde(default)]
    pub(super) invocation: String,
    /// How often it was restarted on its own.
    #[serde(default)]
    pub(super) restarts: u64,
    /// Whether processes of it ran on though it was down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) remains: bool,
}

impl Record {
    /// What older versions noted: the step's own unit alone.
    pub(super) fn of(unit: &Unit) -> Self {
        Self {
            unit: unit.unit.clone(),
            role: Role::Itself,
            active: unit.active_state.clone(),
            invocation: String::new(),
            restarts: unit.n_restarts,
            remains: false,
        }
    }

    fn is_up(&self) -> bool {
        is_up(&self.active)
    }

    /// Whether the unit, once as `before`, was started since.
    pub(super) fn is_a_start_after(&self, before: &Self) -> bool {
        self.is_up() && self.invocation != before.invocation
    }

    /// Whether the job moves the unit in any case.
    pub(super) fn is_moved_for_sure(&self) -> bool {
        matches!(self.role, Role::Itself | Role::Stopped | Role::Started)
    }
}

/// The units of a job as they are.
pub(super) fn records(reached: &[(Role, Facts)]) -> Vec<Record> {
    let record = |(role, facts): &(Role, Facts)| Record {
        unit: facts.id().to_owned(),
        role: *role,
        active: facts.text("ActiveState").to_owned(),
        invocation: facts.text("InvocationID").to_owned(),
        restarts: facts.number("NRestarts"),
        remains: facts.has_remains(),
    };
    reached.iter().map(record).collect()
}

/// Refuses to stop what could not be started again: then nothing could be put back.
pub(super) async fn can_be_started_again(
    manager: &Manager<'_>,
    reached: &[(Role, Facts)],
) -> Result<(), StepError> {
    for (role, facts) in reached {
        if !matches!(role, Role::Itself | Role::Stopped) || !facts.is_up() {
            continue;
        }
        let why = match facts.text("LoadState") {
            "loaded" if facts.is("Transient") => {
                "it was made by hand (transient) and is gone once it is stopped"
            }
            "loaded" if is_user_manager(facts.id()) => "what runs in it does not come back with it",
            "loaded" if facts.text("CanStart") == "no" => "it may not be started by hand",
            "loaded" if facts.is("NeedDaemonReload") && !has_its_file(manager, facts).await? => {
                "its file is no longer there"
            }
            "loaded" => continue,
            "masked" => "it is masked",
            _ => "it has no unit file any more",
        };
        let (root, unit) = (reached.first().map_or("", |(_, root)| root.id()), facts.id());
        let message = match role {
            Role::Itself => format!("`{unit}` could not be started again after a stop: {why}"),
            _ => format!("stopping `{root}` takes along `{unit}`, which could not be started again: {why}"),
        };
        let hint = manager.scope.typed(&format!("cat {}", arg(unit)));
        return Err(StepError::expectation(message).hint(hint).without_effect());
    }
    Ok(())
}

/// Whether a unit runs units of its own, which only it knows.
fn is_user_manager(unit: &str) -> bool {
    unit.starts_with("user@") && unit.ends_with(".service")
}

/// Whether the file is there from which the unit was read.
async fn has_its_file(manager: &Manager<'_>, facts: &Facts) -> Result<bool, StepError> {
    let path = facts.text("FragmentPath");
    if path.is_empty() {
        return Ok(true);
    }
    Ok(manager.cx.exec(Exec::new(["test", "-e", path]).repeatable()).await?.code != Some(1))
}

async fn look(manager: &Manager<'_>, records: &[Record]) -> Result<Vec<Facts>, StepError> {
    let names: Vec<String> = records.iter().map(|record| record.unit.clone()).collect();
    manager.facts(&names).await
}

/// What became of the units, once they have come to rest.
pub(super) async fn left(manager: &Manager<'_>, before: &[Record]) -> Result<Vec<Record>, StepError> {
    let roles = before.iter().map(|record| record.role);
    Ok(records(&roles.zip(rested(manager, before).await?).collect::<Vec<_>>()))
}

/// The units once they have come to rest: those that follow on their own do so after the job is done, and the job of a run
/// that died goes on without it.
async fn rested(manager: &Manager<'_>, records: &[Record]) -> Result<Vec<Facts>, StepError> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        let found = look(manager, records).await?;
        if !found.iter().any(Facts::is_moving) || began.elapsed() >= REST {
            return Ok(found);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_millis(200)),
            () = manager.cx.cancel.cancelled() => {
                return Err(StepError::new(ErrorClass::Cancelled, "the look at other units was stopped"));
            }
        }
    }
}

/// The other units that are up now and were not, or the other way round.
pub(super) fn along(before: &[Record], after: &[Record]) -> Vec<Along> {
    let pairs =
        before.iter().zip(after).filter(|(was, is)| was.role != Role::Itself && was.is_up() != is.is_up());
    pairs
        .map(|(was, is)| Along { unit: was.unit.clone(), was: was.active.clone(), is: is.active.clone() })
        .collect()
}

/// What is known of a unit that a job may have moved.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// As it was before, or changed by nothing of ours.
    Fine,
    Start,
    Stop,
    /// It failed through the job, and was at rest before.
    Reset,
    /// It is at rest as it was, but processes of it run on.
    Remains,
    /// It changed since the step, and is left alone: why.
    Anothers(&'static str),
}

fn fate(was: &Record, left: Option<&Record>, now: &Facts, story: &Story) -> Fate {
    let (was_up, now_up) = (was.is_up(), now.is_up());
    let failed_since = now.has_failed() && left.is_some_and(|left| left.active != "failed");
    if was_up == now_up {
        if now.has_remains() && !was.remains {
            return Fate::Remains;
        }
        let by_us = left.is_none_or(|left| left.active == "failed" || left.is_up());
        let fresh = now.has_failed() && was.active != "failed";
        return match () {
            () if fresh && by_us && matches!(was.role, Role::Itself | Role::Started) => Fate::Reset,
            () => Fate::Fine,
        };
    }
    // Killed before it was seen what the job did: all that is other than before is taken for its work.
    let Some(left) = left else { return if was_up { Fate::Start } else { Fate::Stop } };
    let invocation = now.text("InvocationID");
    // systemd forgets a unit that is at rest, and with it which start was its last: then none is known that was another's.
    let same = invocation == left.invocation
        || invocation.is_empty()
        || story.has_started(now)
        || now.number("NRestarts") > left.restarts;
    if left.is_up() == was_up {
        let of_a_trigger = was.role == Role::Triggered && now_up;
        return match () {
            () if of_a_trigger => Fate::Stop,
            // Of another step of the run, which says itself what is left.
            () if now_up && story.has_started(now) => Fate::Fine,
            () if was_up && now.has_failed() => {
                Fate::Anothers("it was active after the step, and failed since")
            }
            () if was.role == Role::Itself && was_up => Fate::Anothers("another stopped it after the step"),
            () if was.role == Role::Itself => Fate::Anothers("another started it after the step"),
            // No work of ours, nor of anybody who was told to leave it.
            () => Fate::Fine,
        };
    }
    match (left.is_up(), same) {
        (true, true) => Fate::Stop,
        (true, false) => Fate::Anothers("another started it anew after the step"),
        (false, _) if failed_since => Fate::Anothers("the step stopped it, and it failed since"),
        (false, true) => Fate::Start,
        (false, false) => Fate::Anothers("another started and stopped it after the step"),
    }
}

/// What is known of each unit, the step's own first.
fn fates(before: &[Record], left: &[Record], found: &[Facts], story: &Story) -> Vec<Fate> {
    let root = before.first().zip(found.first());
    let moved = root.is_some_and(|(was, now)| {
        fate(was, left.first(), now, story) != Fate::Fine || was.invocation != now.text("InvocationID")
    });
    let pairs = before.iter().zip(found).enumerate();
    pairs
        .map(|(at, (was, now))| match (left.get(at), fate(was, left.get(at), now, story)) {
            // Killed, and the job never came to be: others are as others made them.
            (None, _) if !moved && was.role != Role::Reloaded => Fate::Fine,
            (None, Fate::Start | Fate::Stop) if was.role == Role::Asked => {
                Fate::Anothers("it changed since, and nobody saw whether through the step")
            }
            (_, fate) => fate,
        })
        .collect()
}

/// Puts all units back that the job moved.
pub(super) async fn put_back(
    manager: &Manager<'_>,
    intent: &Intent,
    story: &Story,
) -> Result<Undone, StepError> {
    let (before, left) = (&intent.before(), &intent.left);
    let found = match rested(manager, before).await {
        Ok(found) => found,
        Err(error) => return Ok(Undone::CannotTell(unseen(before, &error))),
    };
    let fates = fates(before, left, &found, story);
    let with = |wanted: Fate| {
        let fates = before.iter().zip(&fates);
        fates.filter(|(_, fate)| **fate == wanted).map(|(was, _)| was.unit.clone()).collect::<Vec<_>>()
    };
    let mut work = Work::new(manager, before, story);
    for (was, fate) in before.iter().zip(&fates) {
        match fate {
            Fate::Anothers(why) => work.leave(if was.is_up() { "start" } else { "stop" }, &was.unit, why),
            Fate::Remains => work.leave_remains(&was.unit),
            _ => {}
        }
    }
    work.stop_all(&with(Fate::Stop)).await;
    let mut starts = with(Fate::Start);
    // A socket cannot listen any more once its service runs.
    starts.sort_by_key(|name| !name.ends_with(".socket"));
    let mut noted = Intent { restoring: true, ..intent.clone() };
    if !starts.is_empty() && !story.is_restoring {
        // A journal that takes no more is no reason to leave them as they are.
        let _best_effort = manager.cx.amend(&noted).await;
    }
    work.start_all(&starts).await;
    if !starts.is_empty() || story.is_restoring {
        // What is started again brings up what it wants, also what was at rest before.
        match rested(manager, before).await {
            Ok(now) => {
                noted.back = starts_made(&noted, &now, &starts, story.is_restoring);
                let _best_effort = manager.cx.amend(&noted).await;
                let names: Vec<String> = now
                    .iter()
                    .zip(before)
                    .zip(&found)
                    .filter(|((now, was), then)| now.is_up() && !was.is_up() && !then.is_up())
                    .map(|((_, was), _)| was.unit.clone())
                    .collect();
                work.stop_all(&names).await;
            }
            Err(error) if !work.has_trouble() => {
                return Ok(Undone::CannotTell(unseen(before, &error)));
            }
            // What is known to be left says already that not all is as it was.
            Err(_) => {}
        }
    }
    for name in with(Fate::Reset) {
        work.control("reset-failed", &name).await;
    }
    Ok(work.end())
}

/// The invocations of units that this undo has started, now or in a try before that did not come to its end.
fn starts_made(intent: &Intent, now: &[Facts], starts: &[String], is_restoring: bool) -> Vec<String> {
    let before = intent.before();
    let made = before.iter().enumerate().zip(now).filter(|((place, was), now)| {
        let before_this = is_restoring && intent.left.get(*place).is_none_or(|left| !left.is_up());
        was.is_up() && now.is_up() && (before_this || starts.contains(&was.unit))
    });
    made.map(|(_, now)| now.text("InvocationID").to_owned()).collect()
}

/// Units that nobody can tell of, for the look at them failed.
fn unseen(before: &[Record], error: &StepError) -> Leftover {
    let names: Vec<&str> = before.iter().map(|record| record.unit.as_str()).collect();
    Leftover {
        what: format!("{} {}", if names.len() == 1 { "unit" } else { "units" }, list(&names)),
        why: format!("cannot be looked at: {}", error.message),
        // What would put them back depends on what nobody saw.
        remove_with: String::new(),
    }
}

/// What is there of what the job moved.
pub(super) async fn presence(
    manager: &Manager<'_>,
    intent: &Intent,
    story: &Story,
) -> Result<Presence, StepError> {
    let before = intent.before();
    let found = rested(manager, &before).await?;
    let mut work = Work::new(manager, &before, story);
    let judged = story.before_all(&before);
    // What is not ours to judge counts for which others belong to the job all the same.
    let all: Vec<Record> =
        judged.iter().zip(&before).map(|(judged, was)| judged.clone().unwrap_or(was.clone())).collect();
    let fates = fates(&all, &intent.left, &found, story);
    for ((was, now), fate) in judged.iter().zip(&found).zip(fates) {
        let Some(was) = was else { continue };
        let (verb, why) = match fate {
            Fate::Start => {
                ("start", format!("it was {} before the run, and is {}", was.active, now.unit().in_words()))
            }
            Fate::Stop => {
                ("stop", format!("it was {} before the run, and is {}", was.active, now.unit().in_words()))
            }
            Fate::Anothers(why) => (if was.is_up() { "start" } else { "stop" }, why.to_owned()),
            Fate::Remains => {
                work.leave_remains(&was.unit);
                continue;
            }
            Fate::Fine | Fate::Reset => continue,
        };
        work.leave(verb, &was.unit, &why);
    }
    Ok(match work.end() {
        Undone::Left(left) => Presence::Present(left),
        _ => Presence::Gone,
    })
}

#[cfg(test)]
mod tests {
    use super::{Facts, Fate, Record, Role, Story, fate, fates};

    fn record(role: Role, active: &str, invocation: &str) -> Record {
        Record {
            unit: "a.service".into(),
            role,
            active: active.into(),
            invocation: invocation.into(),
            restarts: 0,
            remains: false,
        }
    }

    fn now(active: &str, invocation: &str, restarts: u32) -> Facts {
        Facts::parse(&format!(
            "Id=a.service\nActiveState={active}\nInvocationID={invocation}\nNRestarts={restarts}\n"
        ))
        .remove(0)
    }

    #[test]
    fn what_the_job_moved_is_put_back_and_what_another_moved_is_named() {
        let none = Story::default();
        let (down, up) = (record(Role::Started, "inactive", "0"), record(Role::Started, "active", "1"));
        // Started by the job: stopped, if it still is that start, or one of its own restarts.
        assert_eq!(fate(&down, Some(&up), &now("active", "1", 0), &none), Fate::Stop);
        assert_eq!(fate(&down, Some(&up), &now("active", "2", 1), &none), Fate::Stop);
        assert!(matches!(fate(&down, Some(&up), &now("active", "2", 0), &none), Fate::Anothers(_)));
        let ours = Story::with_starts(["2"]);
        assert_eq!(fate(&down, Some(&up), &now("active", "2", 0), &ours), Fate::Stop, "a later step's");
        assert_eq!(fate(&down, Some(&up), &now("inactive", "1", 0), &none), Fate::Fine, "another stopped it");
        assert_eq!(fate(&down, Some(&up), &now("failed", "1", 0), &none), Fate::Reset);
        // Stopped by the job: started, unless it failed or was used meanwhile.
        let stopped = record(Role::Stopped, "inactive", "1");
        assert_eq!(fate(&up, Some(&stopped), &now("inactive", "1", 0), &none), Fate::Start);
        assert_eq!(fate(&up, Some(&stopped), &now("inactive", "", 0), &none), Fate::Start, "forgotten");
        assert!(matches!(fate(&up, Some(&stopped), &now("failed", "1", 0), &none), Fate::Anothers(_)));
        assert!(matches!(fate(&up, Some(&stopped), &now("inactive", "2", 0), &none), Fate::Anothers(_)));
        assert_eq!(fate(&up, Some(&stopped), &now("active", "2", 0), &none), Fate::Fine);
    }

    #[test]
    fn a_unit_that_the_job_did_not_move_is_nobodys_business_but_a_failure_is_named() {
        let none = Story::default();
        let (up, down) = (record(Role::Asked, "active", "1"), record(Role::Asked, "inactive", "0"));
        assert_eq!(fate(&down, Some(&down), &now("active", "1", 0), &none), Fate::Fine);
        assert_eq!(fate(&up, Some(&up), &now("inactive", "1", 0), &none), Fate::Fine);
        assert!(matches!(fate(&up, Some(&up), &now("failed", "1", 0), &none), Fate::Anothers(_)));
        let socket = record(Role::Triggered, "inactive", "0");
        assert_eq!(fate(&socket, Some(&socket), &now("active", "1", 0), &none), Fate::Stop);
    }

    #[test]
    fn after_a_kill_what_is_other_than_before_is_put_back_if_the_job_came_to_be() {
        let none = Story::default();
        let of = |root: Facts, other: Facts, role| {
            let before = [record(Role::Itself, "active", "1"), record(role, "inactive", "0")];
            fates(&before, &[], &[root, other], &none).remove(1)
        };
        let (stopped, other) = (now("inactive", "1", 0), now("active", "5", 0));
        assert_eq!(of(stopped.clone(), other.clone(), Role::Started), Fate::Stop);
        assert!(matches!(of(stopped, other.clone(), Role::Asked), Fate::Anothers(_)));
        assert_eq!(of(now("active", "1", 0), other, Role::Started), Fate::Fine, "the job never came to be");
    }
}
