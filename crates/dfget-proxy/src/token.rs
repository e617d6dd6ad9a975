//! How long a registry's token lasts (distribution's token specification; RFC 6749, section 5.1).

use std::time::Duration;

use serde::Deserialize;

/// A token is not given to anybody in the last part of its life: its user has still to use it.
const BEFORE_ITS_END: Duration = Duration::from_secs(30);

/// Life of a token that says nothing of it.
const UNSAID: u64 = 60;

#[derive(Deserialize)]
struct Grant {
    /// Registries send the one, the other, or both.
    token: Option<serde::de::IgnoredAny>,
    access_token: Option<serde::de::IgnoredAny>,
    expires_in: Option<u64>,
}

/// How long an answer with a token may be given to others with the same credential. `None` if it is no token, or is
/// about to end.
pub(crate) fn holds(body: &[u8]) -> Option<Duration> {
    let grant: Grant = serde_json::from_slice(body).ok()?;
    if grant.token.is_none() && grant.access_token.is_none() {
        return None;
    }
    let life = Duration::from_secs(grant.expires_in.unwrap_or(UNSAID));
    life.checked_sub(BEFORE_ITS_END).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_until_shortly_before_its_end() {
        let seconds = |body: &str| holds(body.as_bytes()).map(|time| time.as_secs());
        assert_eq!(seconds(r#"{"token":"x","expires_in":300}"#), Some(270));
        assert_eq!(seconds(r#"{"access_token":"x","issued_at":"2026-01-01T00:00:00Z"}"#), Some(30));
        assert_eq!(seconds(r#"{"token":"x","access_token":"x","expires_in":31}"#), Some(1));
        for no in [
            r#"{"token":"x","expires_in":30}"#,
            r#"{"token":"x","expires_in":0}"#,
            r#"{"expires_in":300}"#,
            r#"{"token":"x","expires_in":-5}"#,
            "<html>",
            "",
        ] {
            assert_eq!(seconds(no), None, "{no}");
        }
    }
}
