//! Values of flags, as people have them in scripts.

use std::time::Duration;

use dfget_core::{Digest, RangeHeader, RangeSpec};

/// A number of seconds, or numbers with their units as Go reads them: `90`, `1h30m`, `300ms`; `0` is none.
///
/// # Errors
/// What to write.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write seconds, or numbers with ms, s, m or h, such as 1m30s".to_owned();
    let mut all = Duration::ZERO;
    let mut rest = text;
    if text.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            // A number alone is one of seconds.
            "" if number.len() == text.len() => 1.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        all = all.checked_add(part).ok_or_else(wrong)?;
        rest = after;
    }
    if all > LONGEST { Err(wrong()) } else { Ok(all) }
}

/// Bytes: a number, perhaps with a unit; all units are powers of 1024, as they have always been here. `0` is none.
///
/// # Errors
/// What to write.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "write bytes a second, such as 20MB".to_owned();
    let text = text.trim().trim_end_matches("/s");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * 1024_f64.powi(power);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is in range, and a fraction of a byte is none"
    )]
    if (0.0..1e15).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

/// One range: `0-9`, `10-`, `-5`, with or without `bytes=`.
///
/// # Errors
/// What to write.
pub(crate) fn range(text: &str) -> Result<RangeSpec, String> {
    let text = text.trim();
    let header = if text.starts_with("bytes=") { text.to_owned() } else { format!("bytes={text}") };
    match RangeHeader::parse(&header) {
        RangeHeader::One(range) => Ok(range),
        RangeHeader::Whole => Err(format!(
            "--range {}: write the first and the last byte, counted from 0, such as 0-9",
            text.chars().take(40).collect::<String>()
        )),
    }
}

/// A digest that nobody can forge.
///
/// # Errors
/// What to write.
pub(crate) fn digest(text: &str) -> Result<Digest, String> {
    let shown: String = text.chars().take(140).collect();
    text.parse().map_err(|error| match text.split_once(':') {
        Some(("md5" | "sha1", _)) => {
            format!("--digest {shown}: md5 and sha1 can be forged and are not checked; give the sha256 of it")
        }
        _ => format!("--digest {shown}: {error}; write it as sha256:… with 64 digits"),
    })
}

/// A month: more is not meant.
const LONGEST: Duration = Duration::from_secs(31 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_have_units() {
        let millis = |text: &str| duration(text).map(|time| time.as_millis()).ok();
        assert_eq!(
            ["0", "90", "300ms", "1m30s", "1.5h", "1h"].map(millis),
            [Some(0), Some(90_000), Some(300), Some(90_000), Some(5_400_000), Some(3_600_000)]
        );
        for wrong in ["", "m", "-1", "1d", "1m30", "1 s", "99999999999h", "nan", "1e9"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        let of = |text: &str| size(text).ok();
        assert_eq!(
            ["0", "1000", "20MB", "20M", "20 MiB", "1.5GB", "1.0GB", "20MB/s"].map(of),
            [
                Some(0),
                Some(1000),
                Some(20 << 20),
                Some(20 << 20),
                Some(20 << 20),
                Some(3 << 29),
                Some(1 << 30),
                Some(20 << 20)
            ]
        );
        for wrong in ["", "MB", "-1", "1X", "inf", "9e99", "99999999TB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_are_one_and_digests_cannot_be_forged() {
        assert_eq!(range("0-9"), Ok(RangeSpec::FromTo(0, 9)));
        assert_eq!(range("bytes=5-"), Ok(RangeSpec::From(5)));
        assert_eq!(range("-5"), Ok(RangeSpec::Suffix(5)));
        for wrong in ["", "9-0", "0-1,3-4", "a-b"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
        assert!(digest("md5:d41d8cd98f00b204e9800998ecf8427e").unwrap_err().contains("can be forged"));
        assert!(digest("sha256:12").unwrap_err().contains("64 digits"));
    }
}
