//! Values of flags that several commands take.

use std::time::Duration;

use dfget_core::parse_duration;

/// How long: a number of seconds, or numbers with their units: `90`, `1h30m`, `300ms`; `0` is none. A month at most.
///
/// # Errors
/// What to write.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let is_bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let time = if is_bare { parse_duration(&format!("{text}s")) } else { parse_duration(text) };
    time.ok()
        .filter(|time| *time <= LONGEST)
        .ok_or_else(|| "write seconds, or numbers with ms, s, m or h, such as 1m30s".to_owned())
}

/// How long ago: numbers with their units: `30m`, `12h`, `7d`, `1d12h`, `2w`.
///
/// # Errors
/// What to write.
pub(crate) fn age(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|_| "write a number and s, m, h, d or w, such as 7d".to_owned())
}

/// More is not meant.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_have_units() {
        let millis = |text: &str| duration(text).map(|time| time.as_millis()).ok();
        assert_eq!(
            ["0", "90", "90s", "300ms", "1m30s", "1.5h", "1h30m", "2d"].map(millis),
            [0, 90_000, 90_000, 300, 90_000, 5_400_000, 5_400_000, 172_800_000].map(Some)
        );
        for wrong in ["", "m", ".", "-1", "-1s", "1m30", "1 s", "32d", "9999999999999999999h", "nan", "1e9"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_age_has_a_unit() {
        let seconds = |text| age(text).ok().map(|age| age.as_secs());
        assert_eq!(
            ["90s", "2m", "3h", "7d", "1w", "1d12h"].map(seconds),
            [90, 120, 10_800, 604_800, 604_800, 129_600].map(Some)
        );
        for wrong in ["", "d", "7", "-1d", "7 d", "99999999999999999w", "7é"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}
