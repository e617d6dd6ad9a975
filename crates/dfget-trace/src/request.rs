//! What spans say of HTTP (OpenTelemetry's semantic conventions for HTTP, stable since 1.23).
//!
//! Of a URL only host, port and path: a query may be a signature, and a login is nobody's business.

use http::{Method, StatusCode};

use crate::span::{Kind, Span};

/// A request, as far as its span tells of it.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// Its method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Whom it is for.
    pub host: &'a str,
    /// The port there.
    pub port: u16,
    /// The path of its URL.
    pub path: &'a str,
}

/// The method as spans name it; what is none of RFC 9110 or RFC 5789 could be anything.
fn known(method: &Method) -> Option<&'static str> {
    Some(match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "OPTIONS" => "OPTIONS",
        "TRACE" => "TRACE",
        "CONNECT" => "CONNECT",
        _ => return None,
    })
}

/// The name of a request's span.
#[must_use]
pub fn span_name(method: &Method) -> &'static str {
    known(method).unwrap_or("HTTP")
}

// === impl Span ===

impl Span {
    /// Says what a request asks for.
    pub fn describe(&mut self, facts: &RequestFacts<'_>) {
        if self.context().is_none() {
            return;
        }
        let path = facts.path.split(['?', '#']).next().unwrap_or_default();
        self.set("http.request.method", || known(facts.method).unwrap_or("_OTHER"));
        self.set("url.scheme", || facts.scheme);
        self.set("server.address", || facts.host.to_owned());
        self.set("server.port", || facts.port);
        self.set("url.path", || path.to_owned());
    }

    /// Says how it was answered: a server has failed by a 5xx, for a client a 4xx is a failure too.
    pub fn answered(&mut self, status: StatusCode) {
        self.set("http.response.status_code", || status.as_u16());
        let failed = match self.kind() {
            Kind::Client => status.as_u16() >= 400,
            Kind::Server | Kind::Internal => status.is_server_error(),
        };
        if failed {
            self.fail(|| status.as_str().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use opentelemetry::KeyValue;
    use opentelemetry::trace::Status;

    use super::*;
    use crate::span::{Tracer, TracerOptions};

    #[test]
    fn neither_a_query_nor_a_strange_method_is_told() {
        let (tracer, spans) = Tracer::new(TracerOptions { ratio: 1.0, lost: Box::new(|_| {}) });
        let strange = Method::from_bytes(b"SECRET").unwrap();
        let mut span = tracer.enter(&mut HeaderMap::new(), span_name(&strange));
        span.describe(&RequestFacts {
            method: &strange,
            scheme: "https",
            host: "r.test",
            port: 443,
            path: "/v2/a?sig=secret#secret",
        });
        span.answered(StatusCode::NOT_FOUND);
        drop(span);
        let ended = spans.take();
        assert!(
            ended[0].status == Status::Unset && !format!("{ended:?}").to_lowercase().contains("secret"),
            "{ended:?}"
        );
        assert!(ended[0].attributes.contains(&KeyValue::new("url.path", "/v2/a")));
    }

    #[test]
    fn who_failed_depends_on_the_side() {
        let (tracer, spans) = Tracer::new(TracerOptions { ratio: 1.0, lost: Box::new(|_| {}) });
        let mut headers = HeaderMap::new();
        let mut server = tracer.enter(&mut headers, "GET");
        let mut client = tracer.child(&headers, Kind::Client, "GET");
        client.answered(StatusCode::UNAUTHORIZED);
        server.answered(StatusCode::UNAUTHORIZED);
        drop((client, server));
        let failed: Vec<_> = spans.take().iter().map(|span| span.status != Status::Unset).collect();
        assert_eq!(failed, [true, false]);
    }
}
