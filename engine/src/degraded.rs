//! What would protect a run, or let it notice things at once, and could not be used on a machine. The run goes on without
//! it, and says so: its word is worth less there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Something that could not be used, and what that means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Degraded {
    /// What, and why not.
    pub what: String,
    /// What may happen for want of it.
    pub means: String,
}

impl Degraded {
    /// Without a control group the processes of a command are known by less. `host` is none for this machine, where what
    /// loses its parent becomes a child of the run.
    #[must_use]
    pub fn no_control_group(host: Option<&str>, why: &str) -> Self {
        let place = host.map_or_else(|| "this machine".to_owned(), |host| format!("`{host}`"));
        let when = if host.is_none() { " if the run is killed" } else { "" };
        Self {
            what: format!("no control groups on {place}: {why}"),
            means: format!(
                "a process that clears its environment and leaves its session may outlive the run{when}"
            ),
        }
    }
}

/// What has been noted in a run, each thing once.
#[derive(Debug, Default)]
pub struct Degradations(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    all: Vec<Degraded>,
    /// How many of them have been told.
    told: usize,
}

impl Degradations {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that something could not be used.
    pub fn note(&self, degraded: Degraded) {
        let mut noted = self.noted();
        if !noted.all.iter().any(|known| known.what == degraded.what) {
            noted.all.push(degraded);
        }
    }

    /// What was noted since the last call.
    #[must_use]
    pub fn news(&self) -> Vec<Degraded> {
        let mut noted = self.noted();
        let news = noted.all[noted.told..].to_vec();
        noted.told = noted.all.len();
        news
    }

    /// What the history of the run tells already.
    pub fn told(&self, degraded: &Degraded) {
        self.note(degraded.clone());
        let mut noted = self.noted();
        noted.told = noted.all.len();
    }
}

#[cfg(test)]
mod tests {
    use super::{Degradations, Degraded};

    #[test]
    fn each_thing_is_news_once() {
        let (all, one) = (Degradations::default(), Degraded::no_control_group(None, "no /sys"));
        all.told(&one);
        all.note(one);
        assert_eq!(all.news(), []);
        let other = Degraded { what: "no bus".into(), means: "systemctl is asked".into() };
        all.note(other.clone());
        assert_eq!(all.news(), std::slice::from_ref(&other));
        all.note(other);
        assert_eq!(all.news(), []);
    }
}
