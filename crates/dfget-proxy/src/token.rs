//! How long a registry's token lasts (distribution's token specification; RFC 6749, section 5.1).

use std::time::Duration;

use serde::Deserialize;

/// A token is not given to anybody in the last part of its life: its user has still to use it.
const BEFORE_ITS_END: Duration = Duration::from_secs(30);

/// A login that was taken back opens nothing for longer than this, whatever the token says.
const LONGEST: Duration = Duration::from_secs(3600);

/// Life of a token that says nothing of it.
const UNSAID: u64 = 60;

#[derive(Deserialize)]
struct Grant {
    /// Registries send the one, the other, or both.
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// The token of an answer, and how long that may be given to others with the same credential: not at all if it is
/// about to end. `None` if there is no token in it.
pub(crate) fn read(body: &[u8]) -> Option<(String, Duration)> {
    let grant: Grant = serde_json::from_slice(body).ok()?;
    let token = grant.token.or(grant.access_token)?;
    let life = Duration::from_secs(grant.expires_in.unwrap_or(UNSAID)).min(LONGEST);
    Some((token, life.saturating_sub(BEFORE_ITS_END)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_until_shortly_before_its_end() {
        let seconds = |body: &str| read(body.as_bytes()).map(|(token, time)| (token, time.as_secs()));
        let some = |seconds| Some(("x".to_owned(), seconds));
        assert_eq!(seconds(r#"{"token":"x","expires_in":300}"#), some(270));
        assert_eq!(seconds(r#"{"access_token":"x","issued_at":"2026-01-01T00:00:00Z"}"#), some(30));
        assert_eq!(seconds(r#"{"token":"x","access_token":"x","expires_in":31}"#), some(1));
        assert_eq!(seconds(r#"{"token":"x","expires_in":43200}"#), some(3570));
        assert_eq!(seconds(r#"{"token":"x","expires_in":30}"#), some(0));
        assert_eq!(seconds(r#"{"token":"x","expires_in":0}"#), some(0));
        for no in
            [r#"{"expires_in":300}"#, r#"{"token":"x","expires_in":-5}"#, r#"{"token":5}"#, "<html>", ""]
        {
            assert_eq!(seconds(no), None, "{no}");
        }
    }
}
