//! How long others are waited for, and how often. The waits are counted.

use crate::sqlite::Effort;
use engine::quantity::Millis;
use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::{Duration, Instant},
};

/// A lock that takes longer than this counts as a wait. The server does not tell of waits that ended well, so the first
/// try is given up after this time and the second one has all of the rest.
const NOTICED: Duration = Duration::from_millis(100);
/// The first and the longest pause before another try after a deadlock.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// The waiting of one step.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    begun: Instant,
    /// Since when others have been in the way.
    since: Option<Instant>,
    tries: u32,
    effort: Effort,
}

impl Patience {
    pub(super) fn new(limit: Millis) -> Self {
        let begun = Instant::now();
        Self { limit: limit.duration(), begun, since: None, tries: 0, effort: Effort::default() }
    }

    /// How long others are waited for in all.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    /// How long the next statement may wait for locks.
    pub(super) fn next_limit(&self) -> Duration {
        match self.since {
            None => NOTICED.min(self.limit),
            Some(_) => self.left(),
        }
    }

    /// Another was in the way. How long to pause before the next try; none if there is no time left.
    pub(super) fn another_try(&mut self, by_a_lock: bool) -> Option<Duration> {
        let waited = if by_a_lock { NOTICED.min(self.limit) } else { Duration::ZERO };
        if self.since.is_none() {
            self.since = Instant::now().checked_sub(waited);
        }
        self.effort.waits += 1;
        self.tries += 1;
        let left = self.left();
        if left.is_zero() {
            return None;
        }
        // The place in the queue for a lock is lost by a pause; two that met in a deadlock must not meet again.
        let pause = match by_a_lock {
            true => Duration::ZERO,
            false => PAUSES.1.min(PAUSES.0 * 2u32.saturating_pow(self.tries.min(10))).mul_f64(draw()),
        };
        Some(pause.min(left))
    }

    /// What was waited for has come about.
    pub(super) fn done(&mut self) {
        if let Some(since) = self.since.take() {
            let waited = Millis::from(since.elapsed()).0;
            self.effort.wait_ms += waited;
            self.effort.longest_wait_ms = self.effort.longest_wait_ms.max(waited);
        }
        self.tries = 0;
    }

    /// What it took so far.
    pub(super) fn effort(&self) -> Effort {
        Effort { operations: 1, took_ms: Millis::from(self.begun.elapsed()).0, ..self.effort.clone() }
    }
}

/// A number from a half to one.
fn draw() -> f64 {
    // Each state has random keys.
    let bits = RandomState::new().build_hasher().finish() >> 40;
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
    let share = bits as f64 / (1u64 << 24) as f64;
    0.5 + share / 2.0
}

#[cfg(test)]
mod tests {
    use super::{NOTICED, PAUSES, Patience};
    use engine::quantity::Millis;
    use std::time::Duration;

    #[test]
    fn the_first_look_at_a_lock_is_short_and_the_second_has_the_rest() {
        let mut patience = Patience::new(Millis(30_000));
        assert_eq!(patience.next_limit(), NOTICED);
        assert_eq!(patience.another_try(true), Some(Duration::ZERO));
        assert!(patience.next_limit() > NOTICED && patience.next_limit() <= Duration::from_secs(30));
        patience.done();
        let effort = patience.effort();
        assert!(
            effort.waits == 1 && effort.wait_ms >= 100 && effort.longest_wait_ms == effort.wait_ms,
            "{effort:?}"
        );
        assert_eq!(patience.next_limit(), NOTICED);
    }

    #[test]
    fn pauses_grow_and_end_with_the_limit() {
        let mut patience = Patience::new(Millis(30_000));
        for tries in 1..12 {
            let pause = patience.another_try(false).expect("time is left");
            let longest = PAUSES.1.min(PAUSES.0 * 2u32.pow(tries.min(10)));
            assert!(pause >= longest / 2 && pause <= longest, "{tries}: {pause:?}");
        }
        let mut none = Patience::new(Millis(0));
        assert_eq!(none.another_try(true), None);
    }
}
