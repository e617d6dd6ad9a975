//! Headers in the log (`dumpHTTPContent`): all names, and the values that cannot hold a secret.
//!
//! A list of headers with secrets is never complete; so it is the harmless ones that are listed.

use dfget_telemetry::redact_url;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCEPT_RANGES, AGE, ALLOW, CACHE_CONTROL, CONNECTION,
    CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, EXPECT,
    EXPIRES, HOST, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, LOCATION, RANGE, RETRY_AFTER, SERVER, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, USER_AGENT, VARY, VIA, WWW_AUTHENTICATE,
};
use http::{Request, Response};
use tracing::debug;

/// A URL, which may hold a user.
const REGISTRY: HeaderName = HeaderName::from_static("x-dragonfly-registry");

/// Values are cut to so many characters.
const LONGEST: usize = 200;

/// One request whose headers are logged, for its answer to be told by the same name.
#[derive(Debug)]
pub(crate) struct Dump {
    name: String,
}

// === impl Dump ===

impl Dump {
    /// Logs what a client sent.
    pub(crate) fn request<B>(request: &Request<B>) -> Self {
        let target = redact_url(&request.uri().to_string());
        let name = format!("{} {}", request.method(), target);
        debug!("client: {name} {:?}: {}", request.version(), shown(request.headers()));
        Self { name }
    }

    /// Logs what it is answered.
    pub(crate) fn answer<B>(&self, response: &Response<B>) {
        debug!("answer: {} to {}: {}", response.status().as_u16(), self.name, shown(response.headers()));
    }
}

fn shown(headers: &HeaderMap) -> String {
    let fields = headers.iter().map(|(name, value)| format!("{name}: {}", value_of(name, value)));
    fields.collect::<Vec<_>>().join("; ")
}

fn value_of(name: &HeaderName, value: &HeaderValue) -> String {
    let Ok(text) = value.to_str() else { return hidden(value) };
    let text = match *name {
        LOCATION => redact_url(text),
        _ if *name == REGISTRY => redact_url(text),
        // The others hand out tokens of their own.
        WWW_AUTHENTICATE if starts_with(text, "bearer") || starts_with(text, "basic") => text.to_owned(),
        _ if is_harmless(name) => text.to_owned(),
        _ => return hidden(value),
    };
    text.chars().take(LONGEST).collect()
}

fn hidden(value: &HeaderValue) -> String {
    format!("({} bytes, not shown)", value.len())
}

fn starts_with(text: &str, scheme: &str) -> bool {
    text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

fn is_harmless(name: &HeaderName) -> bool {
    const HARMLESS: [HeaderName; 33] = [
        ACCEPT,
        ACCEPT_ENCODING,
        ACCEPT_LANGUAGE,
        ACCEPT_RANGES,
        AGE,
        ALLOW,
        CACHE_CONTROL,
        CONNECTION,
        CONTENT_ENCODING,
        CONTENT_LANGUAGE,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        DATE,
        ETAG,
        EXPECT,
        EXPIRES,
        HOST,
        IF_MATCH,
        IF_MODIFIED_SINCE,
        IF_NONE_MATCH,
        IF_RANGE,
        IF_UNMODIFIED_SINCE,
        LAST_MODIFIED,
        RANGE,
        RETRY_AFTER,
        SERVER,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        USER_AGENT,
        VARY,
    ];
    let ours = ["x-dragonfly-", "docker-", "proxy-connection", "keep-alive"];
    HARMLESS.contains(name) || *name == VIA || ours.iter().any(|start| name.as_str().starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &'static str, value: &'static str) -> String {
        shown(&HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]))
    }

    #[test]
    fn only_values_that_are_known_to_be_harmless_are_shown() {
        assert_eq!(line("range", "bytes=0-1"), "range: bytes=0-1");
        assert_eq!(line("docker-content-digest", "sha256:1"), "docker-content-digest: sha256:1");
        for name in
            ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-auth-token", "private-token"]
        {
            assert_eq!(line(name, "canary"), format!("{name}: (6 bytes, not shown)"));
        }
        assert_eq!(line("www-authenticate", "Bearer realm=\"r\""), "www-authenticate: Bearer realm=\"r\"");
        assert_eq!(line("www-authenticate", "Negotiate canary"), "www-authenticate: (16 bytes, not shown)");
        let location = line("location", "https://s.test/blob?X-Amz-Signature=canary");
        assert!(location.contains("s.test/blob") && !location.contains("canary"), "{location}");
    }

    #[test]
    fn a_long_value_is_cut() {
        let value = HeaderValue::from_str(&"x".repeat(1000)).unwrap();
        assert!(shown(&HeaderMap::from_iter([(USER_AGENT, value)])).len() < 250);
    }
}
