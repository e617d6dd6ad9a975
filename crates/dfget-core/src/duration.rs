//! Stretches of time as people write them.

use std::time::Duration;

use crate::decimal::Decimal;

/// Why a text is no duration. Shown as the "what is wrong" of a message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DurationError {
    /// There is no number where one must stand.
    #[error("not a duration")]
    NoDuration,
    /// A number that could be of anything.
    #[error("a number without a unit is no duration")]
    NoUnit,
    /// Whatever it means, it is none of the units.
    #[error("the unit `{0}` is not known")]
    UnknownUnit(String),
    /// Time does not go back.
    #[error("a duration cannot be negative")]
    Negative,
    /// More than 63 bits of nanoseconds, 292 years.
    #[error("too big")]
    TooBig,
}

/// A duration as Go writes it: `300ms`, `1.5h`, `1m30s`, `0`; units ns, us, µs, ms, s, m, h.
///
/// # Errors
/// Anything else, a negative one, and what does not fit 63 bits of nanoseconds (292 years).
pub fn parse_go_duration(text: &str) -> Result<Duration, DurationError> {
    if let Some(rest) = text.strip_prefix('-') {
        return parse_go_duration(rest)
            .and_then(|value| if value.is_zero() { Ok(value) } else { Err(DurationError::Negative) });
    }
    sum(text.strip_prefix('+').unwrap_or(text), go_unit)
}

/// A duration of a command line: as [`parse_go_duration`] reads it, without a sign, and with days and weeks: `7d`,
/// `2w`, `1d12h`.
///
/// # Errors
/// As [`parse_go_duration`].
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    sum(text, |unit| match unit {
        "d" => Some(24 * HOUR),
        "w" => Some(7 * 24 * HOUR),
        other => go_unit(other),
    })
}

/// Numbers with their units, added up; a bare `0` needs none.
fn sum(text: &str, unit_of: impl Fn(&str) -> Option<u64>) -> Result<Duration, DurationError> {
    match text {
        "" => return Err(DurationError::NoDuration),
        "0" => return Ok(Duration::ZERO),
        _ => {}
    }
    let (mut rest, mut total) = (text, 0_u128);
    while !rest.is_empty() {
        let (number, after) = Decimal::take(rest).ok_or(DurationError::NoDuration)?;
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(DurationError::NoUnit);
        }
        let scale = unit_of(unit).ok_or_else(|| DurationError::UnknownUnit(unit.to_owned()))?;
        total += number.times(scale).ok_or(DurationError::TooBig)?;
        if total > MOST {
            return Err(DurationError::TooBig);
        }
        rest = after;
    }
    u64::try_from(total).map(Duration::from_nanos).map_err(|_| DurationError::TooBig)
}

/// Nanoseconds of a unit.
fn go_unit(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => HOUR,
        _ => return None,
    })
}

/// What Go can tell, in nanoseconds.
const MOST: u128 = i64::MAX as u128;
/// In nanoseconds.
const HOUR: u64 = 3_600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let table = [
            ("0", 0),
            ("+0", 0),
            ("-0s", 0),
            ("300ms", 300_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1us", 1_000),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s", 1_000),
            ("1h1m1s1ms1us1ns", 3_661_001_001_001),
            ("0.100000000000000000000h", 360_000_000_000),
            ("2562047h47m16.854775807s", i64::MAX as u64),
        ];
        for (text, nanos) in table {
            assert_eq!(parse_go_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn texts_that_go_takes_for_no_duration_are_refused() {
        let table = [
            ("", DurationError::NoDuration),
            ("soon", DurationError::NoDuration),
            (".s", DurationError::NoDuration),
            ("+", DurationError::NoDuration),
            ("1m ", DurationError::UnknownUnit("m ".into())),
            ("60", DurationError::NoUnit),
            ("1m30", DurationError::NoUnit),
            ("7d", DurationError::UnknownUnit("d".into())),
            ("-1s", DurationError::Negative),
            ("--1s", DurationError::Negative),
            ("3000000h", DurationError::TooBig),
            ("99999999999999999999s", DurationError::TooBig),
        ];
        for (text, error) in table {
            assert_eq!(parse_go_duration(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_command_line_knows_days_and_weeks_and_no_sign() {
        let seconds = |text| parse_duration(text).map(|time| time.as_secs());
        assert_eq!(
            ["7d", "2w", "1d12h", "90s", "0"].map(seconds),
            [604_800, 1_209_600, 129_600, 90, 0].map(Ok)
        );
        for wrong in ["", "7", "-1d", "+1d", "7 d", "7é", "99999999999999999w", "1y"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
