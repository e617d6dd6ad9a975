//! Errors as answers: the one place that decides what a client is told.
//!
//! The text names the host and the cause and says what to do; it repeats nothing that the client
//! sent, so no credential can be in it. On a CONNECT the cause stands in the reason phrase, which
//! is what the real clients print.

use bytes::Bytes;
use dfget_core::Authority;
use dfget_origin::{ConnectError, OriginError, Verdict};
use dfget_task::ContentError;
use http::header::{CONTENT_TYPE, HeaderValue, PROXY_AUTHENTICATE, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::ext::ReasonPhrase;

use crate::body::ResponseBody;
use crate::slots::Busy;

/// Seconds after which a refused request may come again (`Retry-After`).
const COME_BACK_AFTER: &str = "10";

/// An answer of our own: a status and one line of text.
pub(crate) fn text(status: StatusCode, message: &str) -> Response<ResponseBody> {
    let mut line = String::from("dfget: ");
    line.push_str(message);
    line.push('\n');
    let body = Full::new(Bytes::from(line)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The same with the text as reason phrase too, for answers to CONNECT.
pub(crate) fn refusal(status: StatusCode, message: &str) -> Response<ResponseBody> {
    let mut response = text(status, message);
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let phrase: String = message.chars().map(printable).take(300).collect();
    if let Ok(phrase) = ReasonPhrase::try_from(phrase.into_bytes()) {
        response.extensions_mut().insert(phrase);
    }
    response
}

/// 407 with the challenge that a client needs to try again (RFC 9110, section 15.5.8).
pub(crate) fn login_needed() -> Response<ResponseBody> {
    let mut response = refusal(
        StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        "this proxy asks for a login: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT",
    );
    response.headers_mut().insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"dfget\""));
    response
}

/// 403 for a target that `whiteList` does not admit.
pub(crate) fn target_refused(target: &Authority) -> Response<ResponseBody> {
    let message = format!("{} is not in the whiteList of this proxy", target.host_port());
    refusal(StatusCode::FORBIDDEN, &message)
}

/// 503 for a request that found no place among those that run (`maxConcurrency`).
pub(crate) fn busy(busy: &Busy) -> Response<ResponseBody> {
    let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, &busy.to_string());
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(COME_BACK_AFTER));
    response
}

/// The answer to a request whose origin gave none.
pub(crate) fn origin_failed(error: &OriginError) -> Response<ResponseBody> {
    text(gateway_status(error.verdict()), &error.to_string())
}

/// The answer to a CONNECT whose target cannot be reached or trusted.
pub(crate) fn connect_failed(error: &ConnectError) -> Response<ResponseBody> {
    refusal(gateway_status(error.verdict()), &error.to_string())
}

/// The answer to a request whose content cannot be had.
pub(crate) fn content_failed(error: &ContentError) -> Response<ResponseBody> {
    text(gateway_status(error.verdict()), &error.to_string())
}

/// 508 for a request of our own that has come back to us.
pub(crate) fn own_request() -> Response<ResponseBody> {
    refusal(
        StatusCode::LOOP_DETECTED,
        "the way to this target leads back to this proxy; point HTTPS_PROXY, download.resourceClients, the \
         redirects of `proxies` and the hosts file of its node at something else",
    )
}

const fn gateway_status(verdict: Verdict) -> StatusCode {
    match verdict {
        Verdict::Bad => StatusCode::BAD_GATEWAY,
        Verdict::Late => StatusCode::GATEWAY_TIMEOUT,
        Verdict::Refused => StatusCode::FORBIDDEN,
        Verdict::Loop => StatusCode::LOOP_DETECTED,
    }
}
