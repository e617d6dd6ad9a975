//! Where the tokens of registries are from: each names the place in its challenge.
//!
//! Known only from what registries answered to requests that came through here; nothing is asked for it.

use std::collections::HashMap;
use std::sync::Arc;

use dfget_core::{Authority, bearer_realm};
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
    /// Notes what a registry's answer (401) says.
    pub(crate) fn learn(&self, registry: &Authority, answer: &HeaderMap) {
        let challenges = answer.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        for mut realm in challenges.filter_map(bearer_realm) {
            realm.set_query(None);
            realm.set_fragment(None);
            let mut known = self.known.lock();
            if known.len() >= MOST_REGISTRIES && !known.contains_key(registry) {
                return;
            }
            let realms = known.entry(registry.clone()).or_default();
            if realms.len() < MOST_REALMS && !realms.contains(&realm) {
                info!("{registry} has its tokens from {}", realm.origin().ascii_serialization());
                realms.push(realm);
            }
        }
    }

    /// The registry that has its tokens from `host`, if one has, and is not at the same place.
    #[must_use]
    pub fn registry_of(&self, host: &Authority) -> Option<Authority> {
        let known = self.known.lock();
        let names = |realm: &Url| Authority::of_url(realm).as_ref() == Some(host);
        let found = known.iter().find(|(registry, realms)| *registry != host && realms.iter().any(names));
        found.map(|(registry, _)| registry.clone())
    }

    /// Whether `url` is where some registry has its tokens from.
    pub(crate) fn is_realm(&self, url: &Url) -> bool {
        let known = self.known.lock();
        let same = |realm: &Url| realm.origin() == url.origin() && realm.path() == url.path();
        known.values().flatten().any(same)
    }
}

#[cfg(test)]
mod tests {
    use dfget_core::Scheme;
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
        assert_eq!(realms.registry_of(&https("auth.test")), None);
        realms.learn(
            &https("r.test"),
            &challenge("Bearer realm=\"https://auth.test/token?x=y\",service=\"r\""),
        );
        realms.learn(&https("own.test"), &challenge("Bearer realm=\"https://own.test/jwt\""));
        realms.learn(&https("basic.test"), &challenge("Basic realm=\"https://other.test/\""));
        assert_eq!(realms.registry_of(&https("auth.test")), Some(https("r.test")));
        assert_eq!(realms.registry_of(&https("auth.test:8443")), None);
        assert_eq!(realms.registry_of(&https("own.test")), None, "a registry is no other's");
        assert_eq!(realms.registry_of(&https("other.test")), None);
        assert!(realms.is_realm(&url("https://auth.test/token?scope=a")));
        assert!(realms.is_realm(&url("https://own.test/jwt")));
        assert!(!realms.is_realm(&url("https://auth.test/token/other")));
        assert!(!realms.is_realm(&url("http://auth.test/token")));
    }

    #[test]
    fn no_registry_may_name_any_number_of_places() {
        let realms = Realms::default();
        for at in 0..100 {
            realms.learn(&https("r.test"), &challenge(&format!("Bearer realm=\"https://h{at}.test/\"")));
        }
        let known =
            (0..100).filter(|at| realms.registry_of(&https(&format!("h{at}.test"))).is_some()).count();
        assert_eq!(known, MOST_REALMS);
    }
}
