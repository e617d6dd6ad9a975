//! What a registry's challenge says (RFC 9110, section 11.6.1; RFC 6750, section 3).

use url::Url;

/// Where the tokens of a `WWW-Authenticate` value are from: the realm of its Bearer challenge, an
/// http(s) URL.
#[must_use]
pub fn bearer_realm(challenge: &str) -> Option<Url> {
    let (scheme, parameters) = challenge.trim_start().split_once(' ')?;
    let (_, rest) = parameters.split_once("realm=\"")?;
    let realm = scheme.eq_ignore_ascii_case("bearer").then(|| rest.split('"').next()).flatten()?;
    Url::parse(realm).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realm(challenge: &str) -> Option<String> {
        bearer_realm(challenge).map(Into::into)
    }

    #[test]
    fn only_a_bearer_challenge_names_where_tokens_are_from() {
        let good = r#"Bearer realm="https://auth.example:8443/token",service="r",scope="x""#;
        assert_eq!(realm(good).as_deref(), Some("https://auth.example:8443/token"));
        let other = r#"bearer service="r",realm="http://Auth.example/t?a=b""#;
        assert_eq!(realm(other).as_deref(), Some("http://auth.example/t?a=b"));
        for bad in [
            r#"Basic realm="https://auth.example/""#,
            r#"Bearer realm="registry""#,
            r#"Bearer realm="file:///etc/passwd""#,
            "Bearer",
            "Bearer realm=",
            "",
        ] {
            assert_eq!(realm(bad), None, "{bad}");
        }
    }
}
