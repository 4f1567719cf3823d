//! How units are stopped and started again, one after the other, and what is told of those that are left.

use super::{
    Action,
    effect::Record,
    facts::Facts,
    manager::Manager,
    reach::{Role, list, reach},
    started::started,
    story::Story,
    unit::arg,
};
use engine::{
    ErrorClass, StepError,
    step::{Leftover, Undone},
};
use std::time::{Duration, Instant};

/// How long a unit waits for others of this run that need it: the undos of their steps go on beside this one.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// An undo at work.
pub(super) struct Work<'a> {
    manager: &'a Manager<'a>,
    before: &'a [Record],
    story: &'a Story,
    done: bool,
    /// The unit, why it is left, and what would put it back.
    trouble: Vec<(String, String, String)>,
}

impl<'a> Work<'a> {
    pub(super) fn new(manager: &'a Manager<'a>, before: &'a [Record], story: &'a Story) -> Self {
        Self { manager, before, story, done: false, trouble: Vec::new() }
    }

    /// Whether anything is left.
    pub(super) fn has_trouble(&self) -> bool {
        !self.trouble.is_empty()
    }

    /// Names a unit that is left, with the verb that would put it back.
    pub(super) fn leave(&mut self, verb: &str, unit: &str, why: &str) {
        let typed = self.manager.scope.typed(&format!("{verb} {}", arg(unit)));
        self.trouble.push((unit.to_owned(), why.to_owned(), typed));
    }

    /// Names a unit that is down and has left processes: whose they are by now, such as sessions of a login, nobody can tell.
    pub(super) fn leave_remains(&mut self, unit: &str) {
        self.leave("kill -s KILL", unit, "it is stopped, and processes of it run on (`KillMode=`)");
    }

    fn had_remains(&self, unit: &str) -> bool {
        self.before.iter().any(|record| record.unit == unit && record.remains)
    }

    pub(super) async fn control(&mut self, verb: &str, name: &str) -> bool {
        match self.manager.control(verb, name).await {
            Ok(()) => {
                self.done = true;
                true
            }
            Err(error) => {
                self.leave(verb, name, &error.message);
                false
            }
        }
    }

    /// Stops what the job brought up, unless something else has come to need it.
    pub(super) async fn stop_all(&mut self, names: &[String]) {
        for name in names {
            match self.needed_by(name, names).await {
                Ok(None) => {}
                Ok(Some(by)) => {
                    self.leave("stop", name, &format!("{by} needs it now"));
                    continue;
                }
                Err(error) => {
                    self.leave("stop", name, &error.message);
                    continue;
                }
            }
            if !self.control("stop", name).await {
                continue;
            }
            // One whose end goes wrong is at rest all the same, and was not failed before.
            match self.manager.one(name).await {
                Ok(now) if now.is_up() => {
                    let state = now.unit().in_words();
                    self.leave("stop", name, &format!("it was stopped, and is {state} again"));
                }
                Ok(now) => {
                    if now.has_failed() {
                        self.control("reset-failed", name).await;
                    }
                    if now.has_remains() && !self.had_remains(name) {
                        self.leave_remains(name);
                    }
                }
                Err(error) => self.leave("stop", name, &error.message),
            }
        }
    }

    /// What needs it now, once those that this run has started itself have had their time to end.
    async fn needed_by(&self, name: &str, stopped: &[String]) -> Result<Option<String>, StepError> {
        let began = Instant::now();
        loop {
            let needed = self.all_that_need(name, stopped).await?;
            if needed.is_empty() {
                return Ok(None);
            }
            if !needed.iter().all(|unit| self.story.has_started(unit)) || began.elapsed() >= PATIENCE {
                return Ok(Some(list(&needed.iter().map(Facts::id).collect::<Vec<_>>())));
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.manager.cx.cancel.cancelled() => {
                    return Err(StepError::new(ErrorClass::Cancelled, "the undo was stopped"));
                }
            }
        }
    }

    /// The units that would go down with it and are not to, or that want it and were started after it.
    async fn all_that_need(&self, name: &str, stopped: &[String]) -> Result<Vec<Facts>, StepError> {
        let facts = self.manager.one(name).await?;
        let reached = reach(self.manager, &facts, Action::Stop).await?;
        let down = reached.into_iter().filter(|(role, unit)| {
            *role == Role::Stopped
                && unit.is_up()
                && !unit.is("StopWhenUnneeded")
                && !stopped.iter().any(|name| name == unit.id())
        });
        let mut needed: Vec<Facts> = down.map(|(_, unit)| unit).collect();
        let wanted = self.manager.facts(&facts.units(&["WantedBy", "UpheldBy"])).await?;
        let since = facts.number("InactiveExitTimestampMonotonic");
        needed.extend(wanted.into_iter().filter(|unit| {
            unit.is_up()
                && unit.number("InactiveExitTimestampMonotonic") > since
                && !self.before.iter().any(|record| record.unit == unit.id())
        }));
        Ok(needed)
    }

    pub(super) async fn start_all(&mut self, names: &[String]) {
        for name in names {
            if let Err(error) = self.start(name).await {
                self.leave("start", name, &error.message);
            }
        }
    }

    async fn start(&mut self, name: &str) -> Result<(), StepError> {
        let before = self.manager.one(name).await?;
        // The start of one before it may have brought it up.
        if before.is_up() {
            return Ok(());
        }
        let mut result = self.manager.control("start", name).await;
        if result.is_err() && self.manager.one(name).await?.text("Result") == "start-limit-hit" {
            // It was started too often: the count is all that is forgotten.
            self.manager.control("reset-failed", name).await?;
            result = self.manager.control("start", name).await;
        }
        result?;
        started(self.manager, &before).await?;
        self.done = true;
        Ok(())
    }

    pub(super) fn end(self) -> Undone {
        if self.trouble.is_empty() {
            return if self.done { Undone::Removed } else { Undone::NothingToDo };
        }
        let join = |part: fn(&(String, String, String)) -> String, by: &str| {
            self.trouble.iter().map(part).collect::<Vec<_>>().join(by)
        };
        let what = join(|(unit, ..)| format!("`{unit}`"), ", ");
        Undone::Left(Leftover {
            what: format!("{} {what}", if self.trouble.len() == 1 { "unit" } else { "units" }),
            why: match self.trouble.as_slice() {
                [(_, why, _)] => why.clone(),
                _ => join(|(unit, why, _)| format!("`{unit}`: {why}"), "; "),
            },
            remove_with: join(|(.., typed)| typed.clone(), "; "),
        })
    }
}
