//! Times as the index keeps them: whole seconds since 1970.
//!
//! The clock may say anything. A time before 1970 counts as 1970, and one that the platform cannot
//! express as 1970 as well; what is compared with such a time only becomes older.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(crate) fn to_unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time so many seconds after 1970.
pub(crate) fn from_unix(seconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_clocks_are_1970() {
        assert_eq!(to_unix(UNIX_EPOCH - Duration::from_secs(5)), 0);
        assert_eq!(from_unix(u64::MAX), UNIX_EPOCH);
        assert_eq!(to_unix(from_unix(1_700_000_000)), 1_700_000_000);
    }
}
