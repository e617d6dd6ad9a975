//! Numbers with a fraction, as they stand before a unit.

/// Digits with at most one point in them, kept as text so that nothing is rounded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decimal<'a> {
    integer: &'a str,
    fraction: &'a str,
}

// === impl Decimal ===

impl<'a> Decimal<'a> {
    /// The number at the start and what follows it; `None` when there is no digit.
    #[must_use]
    pub fn take(text: &'a str) -> Option<(Self, &'a str)> {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (integer, rest) = text.split_at(digits(text));
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", rest),
        };
        (!integer.is_empty() || !fraction.is_empty()).then_some((Self { integer, fraction }, rest))
    }

    /// Whether a digit stands before the point.
    #[must_use]
    pub const fn has_integer(&self) -> bool {
        !self.integer.is_empty()
    }

    /// Whether nothing but zeros stands behind the point.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.fraction.bytes().all(|digit| digit == b'0')
    }

    /// The number times `unit`, rounded down; `None` when it does not fit.
    #[must_use]
    pub fn times(&self, unit: u64) -> Option<u128> {
        let integer: u64 = if self.has_integer() { self.integer.parse().ok()? } else { 0 };
        // Digits beyond the 18th are less than one of anything here.
        let fraction = self.fraction.get(..18).unwrap_or(self.fraction);
        let numerator: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
        let denominator = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        Some(u128::from(integer) * u128::from(unit) + numerator * u128::from(unit) / denominator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_ends_where_its_unit_begins() {
        let rest = |text| Decimal::take(text).map(|(_, rest)| rest);
        assert_eq!(["1.5h", "7", ".5s", "5.s", "1.2.3"].map(rest), ["h", "", "s", "s", ".3"].map(Some));
        assert_eq!(["", ".", "h", "-1", "+1"].map(rest), [None; 5]);
    }

    #[test]
    fn nothing_is_rounded_but_the_product() {
        let times = |text, unit| Decimal::take(text).and_then(|(number, _)| number.times(unit));
        assert_eq!(times("1.5", 3), Some(4));
        assert_eq!(times("0.1000000000000000000009", 10), Some(1));
        assert_eq!(times("18446744073709551615", u64::MAX), Some(u128::from(u64::MAX).pow(2)));
        assert_eq!(times("18446744073709551616", 1), None);
        let whole = |text| Decimal::take(text).map(|(number, _)| (number.is_whole(), number.has_integer()));
        assert_eq!(["5.00", "5.01", ".0"].map(whole), [(true, true), (false, true), (true, false)].map(Some));
    }
}
