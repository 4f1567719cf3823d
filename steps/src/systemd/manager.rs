//! The service manager of a step: asked over its bus where there is one, else by `systemctl`.

use super::{
    bus::{Bus, Trouble},
    facts::{Facts, OF_SERVICES, OF_UNITS},
    unit::{Scope, arg, run, trouble},
};
use engine::{ErrorClass, StepError, step::Context};

/// How many units one `systemctl` is asked for.
const AT_ONCE: usize = 100;

/// The manager that a step means.
pub(super) struct Manager<'a> {
    pub(super) cx: &'a Context,
    pub(super) scope: Scope,
    bus: Option<Bus>,
}

impl<'a> Manager<'a> {
    pub(super) async fn open(cx: &'a Context, scope: Scope) -> Self {
        Self { cx, scope, bus: Bus::open(cx, scope).await }
    }

    /// The unit's properties.
    pub(super) async fn one(&self, name: &str) -> Result<Facts, StepError> {
        let found = self.facts(&[name.to_owned()]).await?;
        found.into_iter().next().ok_or_else(|| {
            StepError::new(ErrorClass::Unsupported, format!("systemd says nothing of `{name}`"))
        })
    }

    /// The units' properties, in the order of the names.
    pub(super) async fn facts(&self, names: &[String]) -> Result<Vec<Facts>, StepError> {
        let asked = async {
            match &self.bus {
                Some(bus) => bus.facts(names).await,
                None => self.show(names).await,
            }
        };
        tokio::select! {
            found = asked => found,
            () = self.cx.cancel.cancelled() => {
                let message = format!("looking at `{}` was stopped", names.join("`, `"));
                Err(StepError::new(ErrorClass::Cancelled, message))
            }
        }
    }

    async fn show(&self, names: &[String]) -> Result<Vec<Facts>, StepError> {
        let mut found = Vec::new();
        for names in names.chunks(AT_ONCE) {
            let asked = |timestamp: Option<&str>| {
                let mut argv = self.scope.systemctl();
                argv.extend(["show".into(), "-p".into(), [&OF_UNITS[..], &OF_SERVICES].concat().join(",")]);
                argv.extend(timestamp.map(str::to_owned));
                argv.push("--".to_owned());
                argv.extend(names.iter().cloned());
                run(self.cx, argv, true)
            };
            let mut ended = asked(Some("--timestamp=unix")).await?;
            // systemd before version 247 writes times for people only.
            if !ended.success() && ended.stderr_text().contains("--timestamp") {
                ended = asked(None).await?;
            }
            if !ended.success() {
                return Err(trouble(
                    self.cx,
                    self.scope,
                    ended,
                    &format!("systemctl show {}", names.join(" ")),
                ));
            }
            let some = Facts::parse(&ended.stdout_text());
            if some.len() != names.len() {
                let message =
                    format!("`systemctl show` told of {} units, expected {}", some.len(), names.len());
                return Err(StepError::new(ErrorClass::Unsupported, message));
            }
            found.extend(some);
        }
        Ok(found)
    }

    /// Brings the unit there, and waits until systemd has done it.
    pub(super) async fn control(&self, verb: &str, name: &str) -> Result<(), StepError> {
        let Some(bus) = &self.bus else {
            let mut argv = self.scope.systemctl();
            argv.extend([verb.to_owned(), "--".to_owned(), name.to_owned()]);
            let ended = run(self.cx, argv, false).await?;
            if ended.success() {
                return Ok(());
            }
            return Err(trouble(self.cx, self.scope, ended, &format!("systemctl {verb} {}", arg(name))));
        };
        bus.control(verb, name, &self.cx.cancel).await.map_err(|trouble| match trouble {
            Trouble::Error(mut error) => {
                if error.class == ErrorClass::Denied {
                    let typed = self.scope.typed(&format!("{verb} {}", arg(name)));
                    error.hint = Some(format!("run as root, or allow it by polkit; try: {typed}"));
                }
                error
            }
            Trouble::Job(result) => {
                let message = format!("systemd could not {verb} `{name}`: the job ended as `{result}`");
                StepError::new(ErrorClass::Exit, message)
            }
        })
    }

    /// The conditions of a unit that did not hold when it was last to be started, as its file has them.
    pub(super) async fn unmet(&self, facts: &Facts) -> Vec<String> {
        let told = facts.text("Conditions").lines().chain(facts.text("Asserts").lines());
        let told: Vec<String> = told.filter(|line| line.contains('=')).map(str::to_owned).collect();
        if self.bus.is_some() || !told.is_empty() {
            return told;
        }
        // `show` does not print them; `status` has a line for each.
        let mut argv = self.scope.systemctl();
        argv.extend(["status", "--no-pager", "--lines=0", "--"].map(str::to_owned));
        argv.push(facts.id().to_owned());
        let Ok(ended) = run(self.cx, argv, true).await else { return Vec::new() };
        let text = ended.stdout_text();
        let lines = text.lines().filter_map(|line| line.split_once(" was not met"));
        lines
            .filter_map(|(line, _)| {
                line.find("Condition").or(line.find("Assert")).map(|at| line[at..].into())
            })
            .collect()
    }
}
