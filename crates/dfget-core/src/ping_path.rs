//! The path of the health check: which texts can be one.

use std::fmt;

/// A path of the admin port that answers liveness probes (`health.path` of `dfget.yaml`).
///
/// Absolute; only ASCII letters, digits and `/ - . _ ~`, so that it means the same in a route, a
/// request line and a probe's settings; never [`METRICS_PATH`].
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PingPath(String);

/// Why a text is no [`PingPath`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PingPathError {
    /// It is no absolute path.
    #[error("it does not start with a `/`")]
    Relative,
    /// A character that is not taken literally everywhere.
    #[error("it may hold only letters, digits and / - . _ ~")]
    Characters,
    /// The metrics are there.
    #[error("`{METRICS_PATH}` is taken by the metrics")]
    Taken,
}

// === impl PingPath ===

impl PingPath {
    /// Takes the path from a text.
    ///
    /// # Errors
    /// [`PingPathError`], the first rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, PingPathError> {
        if !text.starts_with('/') {
            return Err(PingPathError::Relative);
        }
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || "/-._~".contains(c)) {
            return Err(PingPathError::Characters);
        }
        if text == METRICS_PATH {
            return Err(PingPathError::Taken);
        }
        Ok(Self(text.to_owned()))
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for PingPath {
    /// `/server/ping`, where Dragonfly's daemon answers.
    fn default() -> Self {
        Self("/server/ping".to_owned())
    }
}

impl fmt::Display for PingPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Where the metrics are, on every admin port.
pub const METRICS_PATH: &str = "/metrics";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_of_plain_characters_are_taken() {
        for path in ["/", "/healthz", "/server/ping", "/a/b-c.d_e~f", "/metrics/"] {
            assert_eq!(PingPath::parse(path).map(|path| path.to_string()), Ok(path.to_owned()));
        }
        assert_eq!(PingPath::parse(PingPath::default().as_str()), Ok(PingPath::default()));
    }

    #[test]
    fn what_is_no_route_is_refused_with_its_reason() {
        let table = [
            ("", PingPathError::Relative),
            ("ping", PingPathError::Relative),
            ("/{name}", PingPathError::Characters),
            ("/a b", PingPathError::Characters),
            ("/a?b", PingPathError::Characters),
            ("/a%20b", PingPathError::Characters),
            ("/\u{e4}", PingPathError::Characters),
            ("/metrics", PingPathError::Taken),
        ];
        for (path, reason) in table {
            assert_eq!(PingPath::parse(path), Err(reason), "{path}");
        }
    }
}
