//! How units are stopped and started again, one after the other, and what is told of those that are left.

use super::{
    Action,
    effect::Record,
    manager::Manager,
    reach::{Role, list, reach},
    started::started,
    unit::arg,
};
use engine::{
    StepError,
    step::{Leftover, Undone},
};

/// An undo at work.
pub(super) struct Work<'a> {
    manager: &'a Manager<'a>,
    before: &'a [Record],
    done: bool,
    /// The unit, why it is left, and what would put it back.
    trouble: Vec<(String, String, String)>,
}

impl<'a> Work<'a> {
    pub(super) fn new(manager: &'a Manager<'a>, before: &'a [Record]) -> Self {
        Self { manager, before, done: false, trouble: Vec::new() }
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
                Ok(now) if now.has_failed() => {
                    self.control("reset-failed", name).await;
                }
                Ok(now) if now.is_up() => {
                    let state = now.unit().in_words();
                    self.leave("stop", name, &format!("it was stopped, and is {state} again"));
                }
                Ok(_) => {}
                Err(error) => self.leave("stop", name, &error.message),
            }
        }
    }

    /// The units that would go down with it and are not to, or that want it and were started after it.
    async fn needed_by(&self, name: &str, stopped: &[String]) -> Result<Option<String>, StepError> {
        let facts = self.manager.one(name).await?;
        let reached = reach(self.manager, &facts, Action::Stop).await?;
        let down = reached.iter().filter(|(role, unit)| {
            *role == Role::Stopped
                && unit.is_up()
                && !unit.is("StopWhenUnneeded")
                && !stopped.iter().any(|name| name == unit.id())
        });
        let mut needed: Vec<String> = down.map(|(_, unit)| unit.id().to_owned()).collect();
        let wanted = self.manager.facts(&facts.units(&["WantedBy", "UpheldBy"])).await?;
        let since = facts.number("InactiveExitTimestampMonotonic");
        let new = wanted.iter().filter(|unit| {
            unit.is_up()
                && unit.number("InactiveExitTimestampMonotonic") > since
                && !self.before.iter().any(|record| record.unit == unit.id())
        });
        needed.extend(new.map(|unit| unit.id().to_owned()));
        let names: Vec<&str> = needed.iter().map(String::as_str).collect();
        Ok((!names.is_empty()).then(|| list(&names)))
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
