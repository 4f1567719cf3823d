//! How long the daemon tries while a store is locked or away.

use std::time::{Duration, Instant};

use crate::config::DatabaseSettings;
use crate::stop::Stop;

/// Between two tries within the busy timeout.
const SLICE: Duration = Duration::from_millis(5);
/// The longest pause between two rounds of tries.
const LONGEST: Duration = Duration::from_secs(5);

/// Why a store did not do what it was asked.
#[derive(Debug)]
pub(super) enum Refused {
    /// It is locked, or away: another try may do.
    ForNow(String),
    /// Another try would change nothing.
    ForGood(String),
}

/// Tries for as long as the settings say, and not after SIGTERM.
#[derive(Debug)]
pub(super) struct Patience {
    /// The store, for messages.
    name: String,
    busy: Duration,
    max_retries: u32,
    first_pause: Duration,
    stop: Stop,
}

impl Patience {
    pub(super) fn new(name: String, settings: &DatabaseSettings, stop: Stop) -> Self {
        Self {
            name,
            busy: Duration::from_millis(settings.busy_timeout_ms),
            max_retries: settings.max_retries,
            first_pause: Duration::from_millis(settings.retry_delay_ms.max(1)),
            stop,
        }
    }

    /// Up to the busy timeout, and that `max_retries` times again with growing pauses.
    pub(super) fn retried<T>(
        &self,
        what: &str,
        mut action: impl FnMut() -> Result<T, Refused>,
    ) -> Result<T, String> {
        let name = &self.name;
        let mut pause = self.first_pause;
        let mut retries = 0;
        let mut began = Instant::now();
        loop {
            let error = match action() {
                Ok(value) => return Ok(value),
                Err(Refused::ForGood(error)) => return Err(format!("cannot {what} {name}: {error}")),
                Err(Refused::ForNow(error)) => error,
            };
            if self.stop.asked() {
                return Err(format!("cannot {what} {name}: {error}, at the end of the daemon"));
            }
            if began.elapsed() < self.busy {
                self.stop.wait(SLICE);
                continue;
            }
            if retries == self.max_retries {
                return Err(format!("cannot {what} {name} after {} tries: {error}", retries + 1));
            }
            self.stop.wait(pause);
            pause = (pause * 2).min(LONGEST);
            retries += 1;
            began = Instant::now();
        }
    }

    /// One try.
    pub(super) fn once<T>(
        &self,
        what: &str,
        action: impl FnOnce() -> Result<T, Refused>,
    ) -> Result<T, String> {
        action().map_err(|(Refused::ForNow(error) | Refused::ForGood(error))| {
            format!("cannot {what} {}: {error}", self.name)
        })
    }
}
