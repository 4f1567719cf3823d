//! The wish to end, and waits that heed it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

/// A wait looks at the flag this often: well below the 100 ms in which SIGTERM must end the daemon.
const SLICE: Duration = Duration::from_millis(20);

/// Set by SIGTERM or SIGINT; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    asked: Arc<AtomicBool>,
    ignored: Arc<AtomicBool>,
}

impl Stop {
    /// A flag, not a blocked signal mask: the daemon also runs within another program whose threads it did
    /// not start, and a mask would be inherited by `ssh`.
    pub(crate) fn on_signals() -> std::io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, stop.asked.clone())?;
        }
        Ok(stop)
    }

    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && !self.ignored.load(Ordering::Relaxed)
    }

    /// As the fault `ignore_sigterm` says.
    pub(crate) fn ignore(&self, ignored: bool) {
        self.ignored.store(ignored, Ordering::Relaxed);
    }

    /// Waits; false at once when it is time to end.
    pub(crate) fn wait(&self, duration: Duration) -> bool {
        let until = Instant::now() + duration;
        self.poll(|| Instant::now() >= until)
    }

    /// Waits until `done`; false at once when it is time to end.
    pub(crate) fn poll(&self, mut done: impl FnMut() -> bool) -> bool {
        // Short slices first: what is waited for often takes only a few milliseconds.
        let mut slice = Duration::from_millis(1);
        loop {
            if self.asked() {
                return false;
            }
            if done() {
                return true;
            }
            std::thread::sleep(slice);
            slice = (slice * 2).min(SLICE);
        }
    }

    #[cfg(test)]
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Stop;
    use std::time::Duration;

    #[test]
    fn a_wait_ends_when_asked_unless_ignored() {
        let stop = Stop::default();
        stop.ask();
        assert!(!stop.wait(Duration::from_secs(3600)));
        stop.ignore(true);
        assert!(stop.wait(Duration::from_millis(1)));
        assert!(!stop.asked());
    }
}
