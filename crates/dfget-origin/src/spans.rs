//! What the span of a request to an origin says: until the head of the answer, one for each hop.

use dfget_core::{Authority, Scheme};
use dfget_trace::{RequestFacts, Span};
use http::{Request, Response};

use crate::client::Body;
use crate::{ConnectError, OriginError};

/// What is asked, and of whom.
pub(crate) fn describe(span: &mut Span, authority: &Authority, request: &Request<Body>) {
    span.describe(&RequestFacts {
        method: request.method(),
        scheme: match authority.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        },
        host: &authority.host,
        port: authority.port,
        path: request.uri().path(),
    });
}

/// What came of it. The words of an error are not told: they may be an origin's.
pub(crate) fn tell<B, C>(mut span: Span, sent: &Result<(Response<B>, C), OriginError>) {
    match sent {
        Ok((response, _)) => span.answered(response.status()),
        Err(error) => span.fail(|| kind(error)),
    }
}

/// A word for each kind of failure.
const fn kind(error: &OriginError) -> &'static str {
    match error {
        OriginError::Connect(error) => match error {
            ConnectError::Resolve { .. } => "resolve",
            ConnectError::Connect { .. } => "connect",
            ConnectError::TimedOut { .. } => "timeout",
            ConnectError::Tls { .. } => "tls",
            ConnectError::Forbidden { .. }
            | ConnectError::NotForClients { .. }
            | ConnectError::Refused { .. } => "forbidden",
            ConnectError::SiteProxy { .. } => "site_proxy",
            ConnectError::Loop { .. } => "loop",
            ConnectError::Closing => "closing",
        },
        OriginError::Http { .. } => "broken",
        OriginError::Target { .. } => "target",
        OriginError::TimedOut { .. } => "timeout",
        OriginError::NotAdmitted { .. } => "not_admitted",
        OriginError::Redirect(_) => "redirect",
        OriginError::Resting { .. } => "resting",
    }
}
