//! What is right or wrong with a request by itself, whatever it asks for (RFC 9110, RFC 9112).

use dfget_core::{Authority, Scheme};
use http::header::{CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode, Version};

use crate::body::ResponseBody;
use crate::respond;

/// Why a request is not answered: the status, and what is wrong and to be done.
pub(crate) type Fault = (StatusCode, &'static str);

/// The refusal of a request that is wrong by itself; `None` if there is nothing wrong with it.
pub(crate) fn refusal<B>(request: &Request<B>) -> Option<Response<ResponseBody>> {
    let (status, message) = fault(request)?;
    let mut response = respond::text(status, message);
    if request.version() <= Version::HTTP_11 {
        // Where the next request begins on such a connection nobody can be sure of.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Some(response)
}

fn fault<B>(request: &Request<B>) -> Option<Fault> {
    let headers = request.headers();
    host_fault(request).or_else(|| coding_fault(headers)).or_else(|| expectation_fault(request))
}

/// RFC 9112, section 3.2; RFC 9113, section 8.3.1.
fn host_fault<B>(request: &Request<B>) -> Option<Fault> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Some((StatusCode::BAD_REQUEST, "the request has more than one Host; send one"));
    }
    let Some(host) = host else {
        let missing = request.version() == Version::HTTP_11;
        return missing
            .then_some((StatusCode::BAD_REQUEST, "the request has no Host; HTTP/1.1 asks for one"));
    };
    let named = host.to_str().ok().filter(|host| !host.is_empty());
    let named = named.map(|host| Authority::parse(Scheme::Https, host));
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    match (named, target) {
        // Whoever names the target in full may leave it empty.
        (None, Some(_)) if host.is_empty() => None,
        (None | Some(Err(_)), _) => Some((StatusCode::BAD_REQUEST, "the request's Host names no host")),
        // A Host beside a target in full does not count, unless the two must be one.
        (Some(Ok(named)), Some(target)) if request.version() == Version::HTTP_2 => {
            let other = Authority::parse(Scheme::Https, target).as_ref() != Ok(&named);
            other.then_some((StatusCode::BAD_REQUEST, "the request's Host is another than its :authority"))
        }
        (Some(Ok(_)), _) => None,
    }
}

/// What is received is handed on decoded, and `chunked` is all that is decoded (RFC 9112, section 6.1).
fn coding_fault(headers: &HeaderMap) -> Option<Fault> {
    let chunked = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    let codings: Vec<_> = headers.get_all(TRANSFER_ENCODING).iter().map(chunked).collect();
    match *codings.as_slice() {
        [] | [true] => None,
        [true, true] => Some((StatusCode::BAD_REQUEST, "the request's body is chunked twice over")),
        _ => Some((
            StatusCode::NOT_IMPLEMENTED,
            "of transfer codings only chunked is known here; send the body without another",
        )),
    }
}

/// RFC 9110, section 10.1.1.
fn expectation_fault<B>(request: &Request<B>) -> Option<Fault> {
    let known = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"100-continue");
    let all_known = request.headers().get_all(EXPECT).iter().all(known);
    (!all_known).then_some((
        StatusCode::EXPECTATION_FAILED,
        "of expectations only 100-continue is known here; send the request without another",
    ))
}

/// Whether the client waits for a word before it sends its body.
pub(crate) fn expects_continue<B>(request: &Request<B>) -> bool {
    request.version() >= Version::HTTP_11 && request.headers().contains_key(EXPECT)
}

/// Whether the client takes trailer fields. In HTTP/1.1 `Connection` has to name `TE`, else it was meant for
/// another connection (RFC 9110, section 10.1.4).
pub(crate) fn takes_trailers<B>(request: &Request<B>) -> bool {
    let has = |name: HeaderName, member: &str| {
        let values = request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(member))
    };
    has(TE, "trailers") && (request.version() == Version::HTTP_2 || has(CONNECTION, "te"))
}

/// The answer to a request that must go no further (RFC 9110, section 7.6.2); else counts this hop.
pub(crate) fn end_of_way<B>(request: &mut Request<B>) -> Option<Response<ResponseBody>> {
    const MAX_FORWARDS: &str = "max-forwards";
    if !matches!(*request.method(), Method::TRACE | Method::OPTIONS) {
        return None;
    }
    let left: u64 = request.headers().get(MAX_FORWARDS)?.to_str().ok()?.trim().parse().ok()?;
    if let Some(left) = left.checked_sub(1) {
        request.headers_mut().insert(MAX_FORWARDS, HeaderValue::from(left));
        return None;
    }
    Some(if request.method() == Method::TRACE { respond::trace(request) } else { respond::options() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, uri: &str, headers: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::new(());
        *request.version_mut() = version;
        *request.uri_mut() = uri.parse().expect("a target");
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        request
    }

    fn status(version: Version, uri: &str, headers: &[(&'static str, &str)]) -> Option<u16> {
        fault(&request(version, uri, headers)).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn there_is_one_host_and_it_is_one() {
        const H1: Version = Version::HTTP_11;
        assert_eq!(status(H1, "/x", &[("host", "a.test:1")]), None);
        assert_eq!(status(H1, "/x", &[]), Some(400));
        assert_eq!(status(Version::HTTP_10, "/x", &[]), None);
        assert_eq!(status(H1, "/x", &[("host", "a.test"), ("host", "a.test")]), Some(400));
        for wrong in ["a b", "a.test:x", "user@a.test", "a.test/x", ""] {
            assert_eq!(status(H1, "/x", &[("host", wrong)]), Some(400), "{wrong}");
        }
        assert_eq!(status(H1, "http://a.test/x", &[("host", "")]), None);
        assert_eq!(status(H1, "http://a.test/x", &[("host", "b.test")]), None, "it does not count");
        assert_eq!(status(Version::HTTP_2, "https://a.test/x", &[]), None);
        assert_eq!(status(Version::HTTP_2, "https://a.test/x", &[("host", "A.test:443")]), None);
        assert_eq!(status(Version::HTTP_2, "https://a.test/x", &[("host", "b.test")]), Some(400));
    }

    #[test]
    fn only_what_can_be_kept_is_promised() {
        let status = |name, value| status(Version::HTTP_11, "/x", &[("host", "a.test"), (name, value)]);
        assert_eq!(status("transfer-encoding", "Chunked"), None);
        assert_eq!(status("transfer-encoding", "gzip, chunked"), Some(501));
        assert_eq!(status("expect", "100-Continue"), None);
        assert_eq!(status("expect", "200-ok"), Some(417));
        assert_eq!(status("expect", "100-continue, x=y"), Some(417));
    }

    #[test]
    fn a_hop_is_counted_where_the_method_says_so() {
        let asked = |method: Method, left: &str| {
            let mut request = request(Version::HTTP_11, "/x", &[("max-forwards", left)]);
            *request.method_mut() = method;
            let ended = end_of_way(&mut request).map(|response| response.status().as_u16());
            (ended, request.headers()["max-forwards"].to_str().expect("text").to_owned())
        };
        assert_eq!(asked(Method::TRACE, "0").0, Some(200));
        assert_eq!(asked(Method::OPTIONS, "0").0, Some(200));
        assert_eq!(asked(Method::OPTIONS, "10"), (None, "9".to_owned()));
        assert_eq!(asked(Method::TRACE, "many"), (None, "many".to_owned()));
        assert_eq!(asked(Method::GET, "0"), (None, "0".to_owned()), "of other methods it means nothing");
    }

    #[test]
    fn trailers_are_for_who_asks_for_them() {
        let takes = |version, te: &str, connection: &str| {
            takes_trailers(&request(version, "/", &[("te", te), ("connection", connection)]))
        };
        let h1 = Version::HTTP_11;
        assert!(takes(h1, "trailers", "TE") && takes(h1, "gzip;q=0.5, Trailers", "close, te"));
        assert!(!takes(h1, "gzip", "te") && !takes(h1, "trailers-not", "te") && !takes(h1, "", "te"));
        assert!(!takes(h1, "trailers", "close") && takes(Version::HTTP_2, "trailers", ""));
    }
}
