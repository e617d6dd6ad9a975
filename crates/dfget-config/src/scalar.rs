//! Single values: durations, sizes, numbers, ports, addresses and patterns from their text.
//!
//! Owns the formats of Dragonfly 2.0.9, digit for digit. Pure functions of text; where the text
//! stood and which key it belongs to is the reader's business.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use dfget_core::{Decimal, DurationError, parse_go_duration};
use regex::Regex;

use crate::{Listen, PortRange};

/// Why a text is not the value that was wanted. Shown as the "what is wrong" of a message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ScalarError {
    #[error(transparent)]
    Duration(#[from] DurationError),
    #[error("not a size")]
    NoSize,
    #[error("not a whole number")]
    NoInteger,
    #[error("no mode of a directory")]
    NoMode,
    #[error("not a number")]
    NoNumber,
    #[error("too big")]
    TooBig,
    #[error("out of range, {0} to {1} is possible")]
    OutOfRange(i64, i64),
    #[error("not true or false")]
    NoBool,
    #[error("not an IP address")]
    NoIp,
    #[error("not an address with a port")]
    NoAddress,
    #[error("not a valid regular expression: {0}")]
    BadRegex(String),
}

/// A duration as Go writes it.
///
/// # Errors
/// As [`parse_go_duration`].
pub(crate) fn duration(text: &str) -> Result<Duration, ScalarError> {
    Ok(parse_go_duration(text)?)
}

/// A duration, or a whole number of nanoseconds: what 2.0.9 takes for `aliveTime` and its like.
///
/// # Errors
/// As [`duration`].
pub(crate) fn duration_or_nanoseconds(text: &str) -> Result<Duration, ScalarError> {
    match text.parse::<i64>() {
        Ok(number) => {
            u64::try_from(number).map(Duration::from_nanos).map_err(|_| DurationError::Negative.into())
        }
        Err(_) => duration(text),
    }
}

/// A rate or size: a number, a fraction allowed, then at most `k`/`m`/`g`/`t`/`p`, `i` and `b` in
/// any case. Always powers of 1024.
///
/// # Errors
/// Anything else, and what does not fit 63 bits.
pub(crate) fn rate(text: &str) -> Result<u64, ScalarError> {
    let (number, rest) = Decimal::take(text).ok_or(ScalarError::NoSize)?;
    if !number.has_integer() {
        return Err(ScalarError::NoSize);
    }
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    scaled(&number, rest, "kmgtp")
}

/// A number of bytes: digits, at most a fraction of zeros, then as [`rate`] but also `e` and no
/// space. Blank is 0.
///
/// # Errors
/// Anything else, and what does not fit 63 bits.
pub(crate) fn bytes(text: &str) -> Result<u64, ScalarError> {
    if text.trim().is_empty() {
        return Ok(0);
    }
    let (number, rest) = Decimal::take(text).ok_or(ScalarError::NoSize)?;
    if !number.has_integer() || !number.is_whole() {
        return Err(ScalarError::NoSize);
    }
    scaled(&number, rest, "kmgtpe")
}

fn scaled(number: &Decimal<'_>, suffix: &str, prefixes: &str) -> Result<u64, ScalarError> {
    let suffix = suffix.to_ascii_lowercase();
    let power = suffix.chars().next().and_then(|first| prefixes.find(first)).map(|index| index + 1);
    let rest = if power.is_some() { &suffix[1..] } else { suffix.as_str() };
    if !matches!(rest, "" | "i" | "b" | "ib") {
        return Err(ScalarError::NoSize);
    }
    let total = number.times(1 << (10 * power.unwrap_or(0))).ok_or(ScalarError::TooBig)?;
    if total > MAX_SIGNED {
        return Err(ScalarError::TooBig);
    }
    u64::try_from(total).map_err(|_| ScalarError::TooBig)
}

/// A whole number: decimal, `0x…` or `0o…`, with a sign or without, between the bounds.
///
/// # Errors
/// Anything else, and what lies outside of the bounds.
pub(crate) fn integer(text: &str, min: i64, max: i64) -> Result<i64, ScalarError> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(ScalarError::NoInteger);
    }
    match i64::from_str_radix(&format!("{sign}{digits}"), radix) {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(ScalarError::OutOfRange(min, max)),
    }
}

/// Permissions: octal as `0700` or `0o700`, or the number that 2.0.9 made of it (448).
///
/// # Errors
/// Anything else; `700` too, which would be 0o1274.
pub(crate) fn mode(text: &str) -> Result<u32, ScalarError> {
    let octal = text.strip_prefix("0o").or_else(|| text.strip_prefix('0').filter(|rest| !rest.is_empty()));
    let (radix, digits) = octal.map_or((10, text), |digits| (8, digits));
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(ScalarError::NoMode);
    }
    u32::from_str_radix(digits, radix).ok().filter(|mode| *mode <= 0o777).ok_or(ScalarError::NoMode)
}

/// A number between 0 and 100, a fraction allowed.
///
/// # Errors
/// Anything else.
pub(crate) fn percent(text: &str) -> Result<f64, ScalarError> {
    let number = number(text)?;
    if (0.0..=100.0).contains(&number) { Ok(number) } else { Err(ScalarError::OutOfRange(0, 100)) }
}

/// A finite number, a fraction allowed.
///
/// # Errors
/// Anything else.
pub(crate) fn number(text: &str) -> Result<f64, ScalarError> {
    let digits = text.trim_start_matches(['-', '+']);
    if !digits.starts_with(|c: char| c == '.' || c.is_ascii_digit()) {
        return Err(ScalarError::NoNumber);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(ScalarError::NoNumber),
    }
}

/// `true` or `false`, in any case.
///
/// # Errors
/// Anything else: `yes` and `on` were no booleans for 2.0.9 either.
pub(crate) fn boolean(text: &str) -> Result<bool, ScalarError> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err(ScalarError::NoBool)
    }
}

/// An IP address as a literal.
///
/// # Errors
/// Anything else, names included.
pub(crate) fn ip(text: &str) -> Result<IpAddr, ScalarError> {
    text.parse().map_err(|_| ScalarError::NoIp)
}

/// `address:port`, or `:port` for loopback.
///
/// # Errors
/// Anything else, names other than `localhost` included.
pub(crate) fn address(text: &str) -> Result<Listen, ScalarError> {
    let local = text.strip_prefix("localhost").unwrap_or(text);
    if let Some(port) = local.strip_prefix(':') {
        let port = port.parse().map_err(|_| ScalarError::NoAddress)?;
        return Ok(Listen { ip: Ipv4Addr::LOCALHOST.into(), ports: PortRange::exactly(port) });
    }
    let address: SocketAddr = text.parse().map_err(|_| ScalarError::NoAddress)?;
    Ok(Listen { ip: address.ip(), ports: PortRange::exactly(address.port()) })
}

/// A pattern for an unanchored search.
///
/// # Errors
/// The reason of the regex library, on one line.
pub(crate) fn pattern(text: &str) -> Result<Regex, ScalarError> {
    Regex::new(text).map_err(|error| {
        let reason = match error {
            regex::Error::CompiledTooBig(_) => "it is too big".to_owned(),
            other => {
                let message = other.to_string();
                let last = message.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
                last.trim().trim_start_matches("error: ").to_owned()
            }
        };
        ScalarError::BadRegex(reason)
    })
}

const MAX_SIGNED: u128 = i64::MAX as u128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_whole_number_is_nanoseconds_where_the_wrapper_type_is_used() {
        assert_eq!(duration_or_nanoseconds("1000000000"), Ok(Duration::from_secs(1)));
        assert_eq!(duration_or_nanoseconds("6h"), Ok(Duration::from_secs(21_600)));
        assert_eq!(duration_or_nanoseconds("-5"), Err(DurationError::Negative.into()));
        let days = duration_or_nanoseconds("7d").map_err(|error| error.to_string());
        assert_eq!(days, Err("the unit `d` is not known".to_owned()));
    }

    #[test]
    fn rates_are_powers_of_1024_whatever_the_suffix() {
        let table = [
            ("0", 0),
            ("1024", 1024),
            ("1M", 1 << 20),
            ("1Mi", 1 << 20),
            ("1MB", 1 << 20),
            ("1 MiB", 1 << 20),
            ("1mib", 1 << 20),
            ("1.5G", 3 << 29),
            ("512Mi", 512 << 20),
            ("1024Mi", 1 << 30),
            ("3T", 3 << 40),
            ("3P", 3 << 50),
            ("7b", 7),
        ];
        for (text, bytes) in table {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", ".5M", "1  M", "1E", "1Mx", "-1M", "1e3", "1MiBs"] {
            assert_eq!(rate(text), Err(ScalarError::NoSize), "{text}");
        }
        assert_eq!(rate("99999P"), Err(ScalarError::TooBig));
    }

    #[test]
    fn bytes_take_only_fractions_of_zeros() {
        let table =
            [("", 0), (" ", 0), ("50Gi", 50 << 30), ("1.0k", 1024), ("1.M", 1 << 20), ("2E", 2 << 60)];
        for (text, expected) in table {
            assert_eq!(bytes(text), Ok(expected), "{text:?}");
        }
        for text in ["1.5G", "1 M", "x", "-1", "1Q"] {
            assert_eq!(bytes(text), Err(ScalarError::NoSize), "{text}");
        }
        assert_eq!(bytes("8E"), Err(ScalarError::TooBig));
    }

    #[test]
    fn integers_know_their_bounds_and_bases() {
        assert_eq!(integer("65001", 0, 65535), Ok(65001));
        assert_eq!(integer("0x10", 0, 65535), Ok(16));
        assert_eq!(integer("0o17", 0, 65535), Ok(15));
        assert_eq!(integer("-1", -1, 6), Ok(-1));
        assert_eq!(integer("65536", 0, 65535), Err(ScalarError::OutOfRange(0, 65535)));
        assert_eq!(integer("99999999999999999999", 0, 1), Err(ScalarError::OutOfRange(0, 1)));
        for text in ["", "-", "0x", "1_000", "1.0", "1k", "--1", "+-1", "ä"] {
            assert_eq!(integer(text, 0, 10), Err(ScalarError::NoInteger), "{text}");
        }
    }

    #[test]
    fn percents_lie_between_0_and_100() {
        assert_eq!(percent("95"), Ok(95.0));
        assert_eq!(percent("80.5"), Ok(80.5));
        assert_eq!(percent("101"), Err(ScalarError::OutOfRange(0, 100)));
        for text in ["95%", "NaN", "inf", "", "-"] {
            assert_eq!(percent(text), Err(ScalarError::NoNumber), "{text}");
        }
    }

    #[test]
    fn booleans_are_true_and_false() {
        assert_eq!(boolean("True"), Ok(true));
        assert_eq!(boolean("FALSE"), Ok(false));
        assert_eq!(boolean("yes"), Err(ScalarError::NoBool));
    }

    #[test]
    fn addresses_are_literals_and_a_bare_port_is_loopback() {
        assert_eq!(ip("::1"), Ok("::1".parse().unwrap()));
        assert_eq!(ip("localhost"), Err(ScalarError::NoIp));
        assert_eq!(address(":8000").unwrap().to_string(), "127.0.0.1:8000");
        assert_eq!(address("localhost:8000").unwrap().to_string(), "127.0.0.1:8000");
        assert_eq!(address("0.0.0.0:8000").unwrap().to_string(), "0.0.0.0:8000");
        assert_eq!(address("[::1]:8000").unwrap().to_string(), "[::1]:8000");
        for text in ["8000", ":", ":70000", "node:1", "localhost"] {
            assert_eq!(address(text), Err(ScalarError::NoAddress), "{text}");
        }
    }

    #[test]
    fn the_reason_of_a_bad_pattern_is_one_line() {
        assert_eq!(
            pattern("blobs/(sha256").unwrap_err().to_string(),
            "not a valid regular expression: unclosed group"
        );
        let ScalarError::BadRegex(reason) = pattern("(?P<n>a){9999}{9999}").unwrap_err() else {
            panic!("another error")
        };
        assert!(!reason.contains('\n'), "{reason}");
        assert!(pattern("blobs/sha256.*").unwrap().is_match("https://r/v2/a/blobs/sha256:1?x"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = (duration_or_nanoseconds(&text), rate(&text), bytes(&text), percent(&text));
            let _ = (integer(&text, 0, 1), ip(&text), address(&text), pattern(&text));
        }

        #[test]
        fn whole_milliseconds_survive(millis in 0_u64..1 << 40) {
            prop_assert_eq!(duration(&format!("{millis}ms")), Ok(Duration::from_millis(millis)));
        }
    }
}
