//! Which paths there are and what they answer.

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use dfget_telemetry::Metrics;

/// What one admin listener shows.
#[derive(Clone, Debug)]
pub struct Console {
    metrics: Metrics,
    ping_path: Option<String>,
}

/// Why an admin listener cannot be set up as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// The path of the health check cannot be one.
    #[error("health.path {path:?} {reason}; the default is {}", Console::DEFAULT_PING_PATH)]
    PingPath {
        /// As configured.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

// === impl Console ===

impl Console {
    /// Where Dragonfly's daemon answers health checks (`health.path` of `dfget.yaml`).
    pub const DEFAULT_PING_PATH: &str = "/server/ping";

    /// Health at `ping_path`, and `/metrics`.
    ///
    /// # Errors
    /// [`ConsoleError::PingPath`]: not an absolute path of plain characters, or that of the metrics.
    pub fn new(metrics: Metrics, ping_path: &str) -> Result<Self, ConsoleError> {
        let refused = |reason| Err(ConsoleError::PingPath { path: ping_path.to_owned(), reason });
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
        if !ping_path.starts_with('/') {
            return refused("does not start with a slash");
        }
        if !ping_path.chars().all(plain) {
            return refused("may hold only letters, digits and / - . _ ~");
        }
        if ping_path == METRICS_PATH {
            return refused("is taken by the metrics");
        }
        Ok(Self { metrics, ping_path: Some(ping_path.to_owned()) })
    }

    /// `/metrics` alone, for a listener of its own (`metrics` of `dfget.yaml`).
    pub fn metrics_only(metrics: Metrics) -> Self {
        Self { metrics, ping_path: None }
    }

    /// The routes; HEAD is answered where GET is, other methods are 405.
    pub(crate) fn router(self) -> Router {
        let metrics = self.metrics;
        let mut router = Router::new().route(METRICS_PATH, get(async move || scrape(&metrics)));
        if let Some(path) = &self.ping_path {
            router = router.route(path, get(async || pong()));
        }
        router.fallback(async || (StatusCode::NOT_FOUND, "404 not found\n"))
    }
}

/// Alive, whatever the state: the JSON text `"OK"`, quotes included, as Dragonfly 2.0.9 answers.
fn pong() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json; charset=utf-8")], "\"OK\"")
}

fn scrape(metrics: &Metrics) -> impl IntoResponse + use<> {
    ([(CONTENT_TYPE, Metrics::CONTENT_TYPE), (CACHE_CONTROL, "no-store")], metrics.encode())
}

const METRICS_PATH: &str = "/metrics";

#[cfg(test)]
mod tests {
    use dfget_telemetry::BuildInfo;

    use super::*;

    #[test]
    fn paths_that_cannot_be_routes_are_refused_by_name() {
        let metrics = Metrics::new(BuildInfo { version: "0.1.0", commit: "" });
        for path in ["", "ping", "/{name}", "/a b", "/a?b", "/\u{e4}", "/metrics"] {
            let error = Console::new(metrics.clone(), path).expect_err(path).to_string();
            assert!(error.starts_with(&format!("health.path {path:?} ")), "{error}");
            assert!(error.ends_with("the default is /server/ping"), "{error}");
        }
        for path in ["/", "/healthz", "/server/ping", "/a/b-c.d_e~f"] {
            let _ = Console::new(metrics.clone(), path).expect(path).router();
        }
    }
}
