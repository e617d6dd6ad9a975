//! Points in time as certificates know them: whole seconds of UTC.

use std::time::SystemTime;

use jiff::Timestamp;
use x509_parser::time::ASN1Time;

/// `time` cut to whole seconds. A clock beyond what a calendar can say becomes its nearest end,
/// so that it fails the validity checks instead of a conversion.
pub(crate) fn from_system(time: SystemTime) -> Timestamp {
    let saturated = || {
        if time < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX }
    };
    whole_seconds(Timestamp::try_from(time).unwrap_or_else(|_| saturated()))
}

/// A time of a parsed certificate. `None` when it lies outside of the years -9999 to 9999.
pub(crate) fn from_asn1(time: ASN1Time) -> Option<Timestamp> {
    Timestamp::from_second(time.timestamp()).ok()
}

/// `time` as a human reads it in a message: `2026-11-23 08:15:00 UTC`.
pub(crate) fn text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_system_time_loses_its_fraction_only() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_999);
        assert_eq!(text(from_system(time)), "2023-11-14 22:13:20 UTC");
    }

    #[test]
    fn a_clock_beyond_the_calendar_is_its_nearest_end() {
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
        assert_eq!(from_system(far).as_second(), Timestamp::MAX.as_second());
    }
}
