//! Values of flags, as people have them in scripts.

use dfget_core::{Decimal, Digest, RangeHeader, RangeSpec};

/// Bytes: a number, perhaps with a unit; all units are powers of 1024, as they have always been here. `0` is none.
///
/// # Errors
/// What to write.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "write bytes a second, such as 20MB".to_owned();
    let (number, unit) = Decimal::take(text.trim()).ok_or_else(wrong)?;
    let unit = unit.trim_end_matches("/s").trim().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    let bytes = number.times(1 << (10 * power)).and_then(|bytes| u64::try_from(bytes).ok());
    bytes.filter(|bytes| *bytes < MOST).ok_or_else(wrong)
}

/// Bytes a second that no network has.
const MOST: u64 = 1_000_000_000_000_000;

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

#[cfg(test)]
mod tests {
    use super::*;

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
