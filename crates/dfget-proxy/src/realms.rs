//! Where the tokens of registries are from: each names the place in its challenge.
//!
//! Known only from what registries answered to requests that came through here; nothing is asked for it.

use std::collections::HashMap;
use std::sync::Arc;

use dfget_core::{Authority, ContentReference, Scheme, bearer_realm};
use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use parking_lot::Mutex;
use tracing::info;
use url::Url;

/// Realms remembered for one registry: one with more of them is up to no good.
const MOST_REALMS: usize = 4;

/// Registries remembered.
const MOST_REGISTRIES: usize = 1024;

/// The realms of all registries. Cheap to clone; clones know the same.
#[derive(Clone, Debug, Default)]
pub struct Realms {
    known: Arc<Mutex<HashMap<Authority, Vec<Url>>>>,
}

impl Realms {
    /// Notes what a registry's answer (401) says. Only for registries that somebody has chosen: what any other host
    /// says must not change what becomes of others' requests.
    pub(crate) fn learn(&self, registry: &Authority, answer: &HeaderMap) {
        let challenges = answer.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        for mut realm in challenges.filter_map(bearer_realm) {
            realm.set_query(None);
            realm.set_fragment(None);
            let mut known = self.known.lock();
            if known.len() >= MOST_REGISTRIES
                && !known.contains_key(registry)
                && let Some(other) = known.keys().next().cloned()
            {
                known.remove(&other);
            }
            let realms = known.entry(registry.clone()).or_default();
            if realms.len() < MOST_REALMS && !realms.contains(&realm) {
                info!("{registry} has its tokens from {}", realm.origin().ascii_serialization());
                realms.push(realm);
            }
        }
    }

    /// Nothing is known any more.
    pub(crate) fn clear(&self) {
        self.known.lock().clear();
    }

    /// The registries that have their tokens from `host`, are not at the same place, and were asked by TLS.
    #[must_use]
    pub fn registries_of(&self, host: &Authority) -> Vec<Authority> {
        let known = self.known.lock();
        let names = |realm: &Url| Authority::of_url(realm).as_ref() == Some(host);
        let found = known.iter().filter(|(registry, realms)| {
            *registry != host && registry.scheme == Scheme::Https && realms.iter().any(names)
        });
        found.map(|(registry, _)| registry.clone()).collect()
    }

    /// The registries that have their tokens from `url`.
    pub(crate) fn registries_at(&self, url: &Url) -> Vec<Authority> {
        let known = self.known.lock();
        let same = |realm: &Url| realm.origin() == url.origin() && realm.path() == url.path();
        let found = known.iter().filter(|(_, realms)| realms.iter().any(same));
        found.map(|(registry, _)| registry.clone()).collect()
    }

    /// Whether `url` is where some registry has its tokens from.
    pub(crate) fn is_realm(&self, url: &Url) -> bool {
        // What a registry serves by digest is no token, whatever anybody says.
        ContentReference::of_path(url.path()).is_none() && !self.registries_at(url).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn https(host: &str) -> Authority {
        Authority::parse(Scheme::Https, host).expect("an authority")
    }

    fn challenge(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_str(value).expect("a value"))])
    }

    #[test]
    fn the_place_of_tokens_is_known_from_the_challenge() {
        let (realms, url) = (Realms::default(), |text: &str| Url::parse(text).expect("a URL"));
        assert!(realms.registries_of(&https("auth.test")).is_empty());
        realms.learn(
            &https("r.test"),
            &challenge("Bearer realm=\"https://auth.test/token?x=y\",service=\"r\""),
        );
        realms.learn(&https("own.test"), &challenge("Bearer realm=\"https://own.test/jwt\""));
        realms.learn(&https("basic.test"), &challenge("Basic realm=\"https://other.test/\""));
        assert_eq!(realms.registries_of(&https("auth.test")), [https("r.test")]);
        assert!(realms.registries_of(&https("auth.test:8443")).is_empty());
        assert!(realms.registries_of(&https("own.test")).is_empty(), "a registry is no other's");
        assert!(realms.registries_of(&https("other.test")).is_empty());
        assert!(realms.is_realm(&url("https://auth.test/token?scope=a")));
        assert!(realms.is_realm(&url("https://own.test/jwt")));
        assert!(!realms.is_realm(&url("https://auth.test/token/other")));
        assert!(!realms.is_realm(&url("http://auth.test/token")));
        let plain = Authority::parse(Scheme::Http, "p.test").expect("an authority");
        realms.learn(&plain, &challenge("Bearer realm=\"https://hijack.test/\""));
        assert!(realms.registries_of(&https("hijack.test")).is_empty(), "anybody could have said so");
        let blob = format!("https://v.test/v2/a/blobs/sha256:{}", "ab".repeat(32));
        realms.learn(&https("r.test"), &challenge(&format!("Bearer realm=\"{blob}\"")));
        assert!(!realms.is_realm(&url(&blob)), "a blob is no token");
    }

    #[test]
    fn no_registry_may_name_any_number_of_places() {
        let realms = Realms::default();
        for at in 0..100 {
            realms.learn(&https("r.test"), &challenge(&format!("Bearer realm=\"https://h{at}.test/\"")));
        }
        let known =
            (0..100).filter(|at| !realms.registries_of(&https(&format!("h{at}.test"))).is_empty()).count();
        assert_eq!(known, MOST_REALMS);
    }
}
