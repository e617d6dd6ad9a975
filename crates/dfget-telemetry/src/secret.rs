//! Values that must never be printed.

use std::fmt;

/// A credential, or anything else that no log, error or metric may show. `Debug` and `Display`
/// print `[redacted]`; the value itself comes out through [`expose`](Self::expose) alone, which is
/// easy to search for.
#[derive(Clone, Default, Eq, Hash, PartialEq)]
pub struct Secret<T>(T);

// === impl Secret ===

impl<T> Secret<T> {
    /// Hides `value` from now on.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one place that needs it.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// The value, no longer hidden.
    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(REDACTED)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(REDACTED)
    }
}

const REDACTED: &str = "[redacted]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_printed_nowhere_and_still_there() {
        let secret = Secret::new("hunter2".to_owned());
        let printed = format!("{secret} {secret:?} {secret:#?} {:>40}", secret.clone());
        assert!(!printed.contains("hunter2"), "{printed}");
        assert_eq!(printed.matches(REDACTED).count(), 4);
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(secret.into_exposed(), "hunter2");
    }
}
