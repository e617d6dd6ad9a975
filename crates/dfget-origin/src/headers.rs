//! Which headers go on, which stay.

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCEPT_RANGES, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH,
    CONTENT_RANGE, ETAG, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, LAST_MODIFIED, PRAGMA, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};

/// Prefix of the headers that speak to a Dragonfly daemon, not to the origin.
const DRAGONFLY_PREFIX: &str = "x-dragonfly-";

/// Headers that concern one connection only (RFC 9110, section 7.6.1), whether or not
/// `Connection` names them.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Removes what concerns only the connection it came on: the known hop-by-hop headers and
/// every header that `Connection` names.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in nominated.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Removes the headers that speak to a Dragonfly daemon.
pub fn strip_dragonfly(headers: &mut HeaderMap) {
    let ours: Vec<_> =
        headers.keys().filter(|name| name.as_str().starts_with(DRAGONFLY_PREFIX)).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

/// The headers of a request that fetches a content for a task: the client's own, without what
/// names a part of the content, its coding, or its framing.
///
/// The coding asked for is `identity`: what is stored under a digest are the bytes that the
/// digest names.
#[must_use]
pub fn for_content(client: &HeaderMap) -> HeaderMap {
    let mut headers = client.clone();
    strip_hop_by_hop(&mut headers);
    for name in [RANGE, IF_RANGE, HOST, EXPECT, CONTENT_LENGTH] {
        headers.remove(name);
    }
    strip_dragonfly(&mut headers);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

/// The headers that describe a content, and may be handed to whoever may have the content.
///
/// Everything else in an answer (cookies, rate limits, request ids) belongs to the one client
/// that it was for. `Content-Length`, `Content-Range` and `Content-Encoding` are left out too:
/// they describe one answer, and are set anew for each.
#[must_use]
pub fn representation(answer: &HeaderMap) -> HeaderMap {
    let describes = |name: &HeaderName| {
        let text = name.as_str();
        let content = text.starts_with("content-")
            && ![CONTENT_LENGTH, CONTENT_RANGE].contains(name)
            && text != "content-encoding";
        content
            // Others tell whose quota an answer was counted against.
            || matches!(text, "docker-content-digest" | "docker-distribution-api-version")
            || [ETAG, LAST_MODIFIED, ACCEPT_RANGES, CACHE_CONTROL].contains(name)
    };
    answer
        .iter()
        .filter(|(name, _)| describes(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// `Content-Length`, if there is one that counts: beside `Transfer-Encoding` it does not
/// (RFC 9112, section 6.3).
#[must_use]
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    text(headers, &CONTENT_LENGTH)?.parse().ok()
}

/// Whether a request header says nothing about who asks. All others may: `Authorization` and
/// `Cookie`, and the tokens that registries have headers of their own for.
#[must_use]
pub fn is_impersonal(name: &HeaderName) -> bool {
    const IMPERSONAL: [HeaderName; 13] = [
        ACCEPT,
        ACCEPT_ENCODING,
        ACCEPT_LANGUAGE,
        CACHE_CONTROL,
        IF_MODIFIED_SINCE,
        IF_NONE_MATCH,
        IF_RANGE,
        PRAGMA,
        RANGE,
        USER_AGENT,
        HeaderName::from_static("baggage"),
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("tracestate"),
    ];
    IMPERSONAL.contains(name)
}

/// Whether a request header only tells to which trace a request belongs (W3C Trace Context and Baggage).
#[must_use]
pub fn is_of_trace(name: &HeaderName) -> bool {
    matches!(name.as_str(), "traceparent" | "tracestate" | "baggage")
}

/// The value of `name` as text, if there is one and it is text.
#[must_use]
pub fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether an entity tag is a strong one (RFC 9110, section 8.8.1): only such a tag says that
/// two contents are the same byte for byte.
#[must_use]
pub fn is_strong(etag: &str) -> bool {
    etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn nominated_headers_stay_on_their_connection() {
        let mut headers = map(&[
            ("connection", "close, X-Secret ,, authorization"),
            ("x-secret", "1"),
            ("authorization", "Bearer x"),
            ("te", "trailers"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(names(&headers), ["accept"]);
    }

    #[test]
    fn a_content_is_asked_for_whole_and_uncoded() {
        let headers = for_content(&map(&[
            ("range", "bytes=0-1"),
            ("if-range", "\"x\""),
            ("accept-encoding", "gzip"),
            ("authorization", "Bearer x"),
            ("x-dragonfly-tag", "t"),
            ("host", "registry.test"),
            ("user-agent", "go-containerregistry"),
        ]));
        assert_eq!(names(&headers), ["accept-encoding", "authorization", "user-agent"]);
        assert_eq!(headers["accept-encoding"], "identity");
    }

    #[test]
    fn only_what_describes_the_content_is_kept() {
        let headers = representation(&map(&[
            ("content-type", "application/octet-stream"),
            ("content-length", "5"),
            ("content-range", "bytes 0-4/9"),
            ("docker-content-digest", "sha256:x"),
            ("etag", "\"x\""),
            ("set-cookie", "session=1"),
            ("ratelimit-remaining", "99"),
            ("date", "now"),
        ]));
        assert_eq!(names(&headers), ["content-type", "docker-content-digest", "etag"]);
    }

    #[test]
    fn a_length_beside_a_transfer_coding_does_not_count() {
        let mut headers = map(&[("content-length", "5"), ("transfer-encoding", "chunked")]);
        assert_eq!(content_length(&headers), None);
        strip_hop_by_hop(&mut headers);
        assert!(headers.is_empty());
        assert_eq!(content_length(&map(&[("content-length", "5")])), Some(5));
    }

    #[test]
    fn weak_tags_are_told_from_strong_ones() {
        assert!(is_strong("\"abc\"") && is_strong("\"\""));
        assert!(!is_strong("W/\"abc\"") && !is_strong("abc") && !is_strong("\""));
    }
}
