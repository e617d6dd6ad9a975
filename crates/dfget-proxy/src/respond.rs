//! Errors as answers: the one place that decides what a client is told.
//!
//! The text names the host and the cause and says what to do; it repeats nothing that the client
//! sent, so no credential can be in it. On a CONNECT the cause stands in the reason phrase, which
//! is what the real clients print.

use bytes::Bytes;
use dfget_core::Authority;
use dfget_origin::{ConnectError, OriginError, Verdict};
use dfget_task::ContentError;
use http::header::{
    ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, RETRY_AFTER,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::ext::ReasonPhrase;

use crate::body::{ResponseBody, empty};
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
    of(ErrorType::Proxy, response)
}

/// Where an error of ours came about, in the words of the Rust client. An answer of the origin is
/// passed on as it is, whatever its status, and has no such header.
#[derive(Clone, Copy, Debug)]
enum ErrorType {
    /// The origin gave no answer, or one that cannot be used.
    Backend,
    /// The proxy refuses the request.
    Proxy,
    /// The daemon failed.
    Daemon,
}

fn of(kind: ErrorType, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    const ERROR_TYPE: HeaderName = HeaderName::from_static("x-dragonfly-error-type");
    let name = match kind {
        ErrorType::Backend => "backend",
        ErrorType::Proxy => "proxy",
        ErrorType::Daemon => "dfdaemon",
    };
    response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(name));
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

/// The request as it came here, for TRACE (RFC 9110, section 9.3.8), without what may be secret.
pub(crate) fn trace<B>(request: &Request<B>) -> Response<ResponseBody> {
    const SECRET: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];
    let path = request.uri().path();
    let mut text = format!("TRACE {path} {:?}\r\n", request.version()).into_bytes();
    for (name, value) in request.headers().iter().filter(|(name, _)| !SECRET.contains(name)) {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("message/http"));
    response
}

/// What this proxy says of itself to OPTIONS (RFC 9110, section 9.3.7).
pub(crate) fn options() -> Response<ResponseBody> {
    let mut response = Response::new(empty());
    let methods = "GET, HEAD, POST, PUT, PATCH, DELETE, CONNECT, OPTIONS, TRACE";
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
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
    of(ErrorType::Backend, gateway(error.verdict(), error.retry_after(), &error.to_string()))
}

/// The answer to a CONNECT whose target cannot be reached or trusted.
pub(crate) fn connect_failed(error: &ConnectError) -> Response<ResponseBody> {
    of(ErrorType::Backend, refusal(gateway_status(error.verdict()), &error.to_string()))
}

/// The answer to a request whose content cannot be had.
pub(crate) fn content_failed(error: &ContentError) -> Response<ResponseBody> {
    let kind = if error.is_the_origins() { ErrorType::Backend } else { ErrorType::Daemon };
    of(kind, gateway(error.verdict(), error.retry_after(), &error.to_string()))
}

/// 429 with the time to come back (RFC 6585, section 4) where that is known, else what the verdict says.
fn gateway(verdict: Verdict, retry_after: Option<u64>, message: &str) -> Response<ResponseBody> {
    let Some(seconds) = retry_after else { return text(gateway_status(verdict), message) };
    let mut response = text(StatusCode::TOO_MANY_REQUESTS, message);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// 508 for a request of our own that has come back to us.
pub(crate) fn own_request() -> Response<ResponseBody> {
    refusal(
        StatusCode::LOOP_DETECTED,
        "the way to this target leads back to this proxy; point HTTPS_PROXY, download.resourceClients, the \
         redirects of `proxies` and the hosts file of its node at something else",
    )
}

pub(crate) const fn gateway_status(verdict: Verdict) -> StatusCode {
    match verdict {
        Verdict::Bad => StatusCode::BAD_GATEWAY,
        Verdict::Late => StatusCode::GATEWAY_TIMEOUT,
        Verdict::Refused => StatusCode::FORBIDDEN,
        Verdict::Loop => StatusCode::LOOP_DETECTED,
    }
}
