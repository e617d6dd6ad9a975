//! Who may use the proxy, and for which targets (`basicAuth`, `whiteList`).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dfget_core::Authority;
use http::HeaderMap;
use http::header::PROXY_AUTHORIZATION;
use regex::Regex;

/// The whole `Proxy-Authorization` that a client must send; kept as a hash.
#[derive(Clone)]
pub struct ProxyLogin {
    expected: [u8; 32],
}

/// One entry of `whiteList`.
#[derive(Clone, Debug)]
pub struct AllowedTarget {
    /// This host exactly.
    pub host: Option<String>,
    /// Any host in which this is found.
    pub regx: Option<Regex>,
    /// Ports of it that may be reached; empty = all.
    pub ports: Vec<u16>,
}

/// Both rules together.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// What a client must present; `None` = nothing.
    pub login: Option<ProxyLogin>,
    /// Targets that may be reached; empty = all.
    pub targets: Vec<AllowedTarget>,
}

// === impl ProxyLogin ===

impl ProxyLogin {
    /// The login by this user and password (RFC 7617).
    #[must_use]
    pub fn basic(username: &str, password: &str) -> Self {
        Self { expected: hash(BASE64_STANDARD.encode(format!("{username}:{password}")).as_bytes()) }
    }

    /// Compares hashes in constant time: neither length nor content of what is expected shows.
    fn accepts(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(PROXY_AUTHORIZATION).map(http::HeaderValue::as_bytes).unwrap_or_default();
        let scheme = given.split(|&byte| byte == b' ').next().unwrap_or_default();
        let token = given[scheme.len()..].trim_ascii();
        let same = verify_slices_are_equal(&hash(token), &self.expected).is_ok();
        same && scheme.eq_ignore_ascii_case(b"basic")
    }
}

impl std::fmt::Debug for ProxyLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProxyLogin([redacted])")
    }
}

// === impl Admission ===

impl Admission {
    /// Whether the headers carry the login that is asked for.
    #[must_use]
    pub fn admits_client(&self, headers: &HeaderMap) -> bool {
        self.login.as_ref().is_none_or(|login| login.accepts(headers))
    }

    /// Whether the target may be reached: the first entry that names its host decides.
    #[must_use]
    pub fn admits_target(&self, target: &Authority) -> bool {
        let decides = self.deciding(target).map(|index| &self.targets[index]);
        self.targets.is_empty()
            || decides.is_some_and(|entry| entry.ports.is_empty() || entry.ports.contains(&target.port))
    }

    /// The first entry that names the target's host.
    #[must_use]
    pub fn deciding(&self, target: &Authority) -> Option<usize> {
        let names = |entry: &&AllowedTarget| {
            entry.host.as_ref().is_some_and(|host| host.eq_ignore_ascii_case(&target.host))
                || entry.regx.as_ref().is_some_and(|regx| regx.is_match(&target.host))
        };
        self.targets.iter().position(|entry| names(&entry))
    }
}

fn hash(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, data).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use dfget_core::Scheme;
    use http::HeaderValue;

    use super::*;

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(PROXY_AUTHORIZATION, HeaderValue::from_str(value).expect("a value"))])
    }

    #[test]
    fn only_the_right_login_is_admitted() {
        let admission =
            Admission { login: Some(ProxyLogin::basic("Aladdin", "open sesame")), targets: Vec::new() };
        // RFC 7617, section 2.
        assert!(admission.admits_client(&with("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")));
        assert!(admission.admits_client(&with("basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ==")));
        for wrong in
            ["Basic QWxhZGRpbjpvcGVuIHNlc2FtZR==", "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic", "Basic "]
        {
            assert!(!admission.admits_client(&with(wrong)), "{wrong}");
        }
        assert!(!admission.admits_client(&HeaderMap::new()));
        assert!(Admission::default().admits_client(&HeaderMap::new()));
    }

    #[test]
    fn the_first_entry_that_names_the_host_decides() {
        let entry = |host: Option<&str>, regx: Option<&str>, ports: &[u16]| AllowedTarget {
            host: host.map(ToOwned::to_owned),
            regx: regx.map(|regx| Regex::new(regx).expect("a pattern")),
            ports: ports.to_vec(),
        };
        let targets = vec![
            entry(Some("R.test"), None, &[443]),
            entry(None, Some("\\.test$"), &[]),
            entry(None, Some("r"), &[80]),
        ];
        let admission = Admission { login: None, targets };
        let admits = |text: &str| {
            admission.admits_target(&Authority::parse(Scheme::Https, text).expect("an authority"))
        };
        assert!(admits("r.test:443") && admits("s.test:5000") && admits("r.other:80"));
        assert!(!admits("r.test:80") && !admits("other:443") && !admits("r.other:443"));
    }
}
