//! Which host gives out the tokens of a registry: it is named by the registry's challenge.

use std::collections::HashMap;
use std::time::Duration;

use dfget_core::{Authority, Scheme, bearer_realm};
use dfget_origin::{OriginClient, empty_body};
use http::header::{USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request};
use parking_lot::Mutex;

/// How long a command waits for a registry to tell; without an answer its token host is tunnelled.
const PATIENCE: Duration = Duration::from_secs(2);

/// What registries have told.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    known: Mutex<HashMap<Authority, Option<String>>>,
}

// === impl Challenges ===

impl Challenges {
    /// The host of the tokens of `registry`, if it has one other than itself.
    pub(crate) async fn token_host(&self, origin: &OriginClient, registry: &Authority) -> Option<String> {
        if let Some(known) = self.known.lock().get(registry) {
            return known.clone();
        }
        let mut request = Request::new(empty_body());
        *request.uri_mut() = format!("{registry}/v2/").parse().ok()?;
        request
            .headers_mut()
            .insert(USER_AGENT, HeaderValue::from_static(concat!("dfget/", env!("CARGO_PKG_VERSION"))));
        let answer = tokio::time::timeout(PATIENCE, origin.send(request)).await.ok()?.ok()?;
        let host = realm_host(answer.headers()).filter(|host| *host != registry.host);
        self.known.lock().insert(registry.clone(), host.clone());
        host
    }
}

/// The host of the realm of a Bearer challenge: only https has certificates.
fn realm_host(headers: &HeaderMap) -> Option<String> {
    let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let authority = Authority::of_url(&challenges.filter_map(bearer_realm).next()?)?;
    (authority.scheme == Scheme::Https).then_some(authority.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(challenge: &'static str) -> Option<String> {
        realm_host(&HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))]))
    }

    #[test]
    fn only_a_bearer_challenge_over_tls_names_a_host() {
        let good = r#"Bearer realm="https://auth.example:8443/token",service="r",scope="x""#;
        assert_eq!(host(good).as_deref(), Some("auth.example"));
        assert_eq!(
            host(r#"bearer service="r",realm="https://Auth.example/t?a=b""#).as_deref(),
            Some("auth.example")
        );
        for other in [
            r#"Basic realm="https://auth.example/""#,
            r#"Bearer realm="http://auth.example/""#,
            r#"Bearer realm="registry""#,
            "Bearer",
            "Bearer realm=",
        ] {
            assert_eq!(host(other), None, "{other}");
        }
    }
}
