//! Which of two versions is the older one.

use std::cmp::Ordering;

/// The version of this command, which is that of all crates.
pub(crate) const OWN: &str = env!("CARGO_PKG_VERSION");

/// How a version differs from another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Skew {
    Same,
    Older,
    Newer,
    /// One of them is no version that can be put in order.
    Other,
}

// === impl Skew ===

impl Skew {
    /// How `version` differs from `than`.
    pub(crate) fn of(version: &str, than: &str) -> Self {
        if version == than {
            return Self::Same;
        }
        let (Some(one), Some(other)) = (parts(version), parts(than)) else { return Self::Other };
        match one.cmp(&other) {
            Ordering::Less => Self::Older,
            Ordering::Greater => Self::Newer,
            // They differ in what has no order, such as what each was built from.
            Ordering::Equal => Self::Other,
        }
    }
}

/// Numbers, then whether it is a release and not what comes before one (`1.2.0-rc1`); a trailing `+…` says nothing
/// of the order (semver.org, 10 and 11).
fn parts(version: &str) -> Option<([u64; 3], bool)> {
    let version = version.split('+').next()?;
    let (numbers, before) = version.split_once('-').map_or((version, false), |(numbers, _)| (numbers, true));
    let mut parts = numbers.split('.').map(|number| number.parse::<u64>().ok());
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some((three, !before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_put_in_order_by_their_numbers() {
        for (version, than, skew) in [
            ("1.2.3", "1.2.3", Skew::Same),
            ("0.9.9", "0.10.0", Skew::Older),
            ("1.0.0", "0.10.0", Skew::Newer),
            ("1.0.0-rc1", "1.0.0", Skew::Older),
            ("1.0.0", "1.0.0-rc1", Skew::Newer),
            ("1.0.0-rc1", "1.0.0-rc2", Skew::Other),
            ("1.0.0+a", "1.0.0+b", Skew::Other),
            ("1.0", "1.0.0", Skew::Other),
            ("", "1.0.0", Skew::Other),
            ("99999999999999999999.0.0", "1.0.0", Skew::Other),
        ] {
            assert_eq!(Skew::of(version, than), skew, "{version} {than}");
        }
    }
}
