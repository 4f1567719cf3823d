//! Moments as people and machines write them.

use jiff::{Timestamp, tz::TimeZone};

/// A moment in UTC, such as `2025-01-23T10:15:00.123Z`, from milliseconds since 1970.
#[must_use]
pub fn rfc3339(ms: u64) -> String {
    format!("{:.3}", timestamp(ms))
}

/// The time of day in a zone, such as `10:15:00.123`.
#[must_use]
pub fn clock(ms: u64, zone: &TimeZone) -> String {
    timestamp(ms).to_zoned_datetime(zone.clone()).strftime("%H:%M:%S%.3f").to_string()
}

/// Milliseconds beyond what can be written become the last moment that can.
fn timestamp(ms: u64) -> Timestamp {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::{clock, rfc3339};
    use jiff::tz::{Offset, TimeZone};

    #[test]
    fn moments_carry_milliseconds() {
        assert_eq!(rfc3339(1_737_627_300_005), "2025-01-23T10:15:00.005Z");
        assert_eq!(clock(1_737_627_300_005, &TimeZone::UTC), "10:15:00.005");
        assert_eq!(clock(1_737_627_300_005, &TimeZone::fixed(Offset::constant(8))), "18:15:00.005");
    }

    #[test]
    fn an_impossible_moment_is_no_panic() {
        assert!(rfc3339(u64::MAX).starts_with("9999-"));
    }
}
