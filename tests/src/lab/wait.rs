//! Waiting for a condition; tests never sleep for a fixed time and hope.

use std::time::{Duration, Instant};

/// Whether `condition` holds within `limit`; it is asked ever less often, up to every 50 ms.
pub(crate) fn holds(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// After a generous limit, with `what` should have come true.
#[track_caller]
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds(super::LIMIT, condition), "never came true within {:?}: {what}", super::LIMIT);
}

/// Lets a fault last for so long: its length is what is tested. To wait until something has happened there is
/// [`until`].
pub fn lasts(length: Duration) {
    std::thread::sleep(length);
}
