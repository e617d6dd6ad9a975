//! Which paths there are and what they answer.

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use dfget_core::{METRICS_PATH, PingPath};
use dfget_telemetry::Metrics;

use crate::page::Page;

/// What one admin listener shows.
#[derive(Clone, Debug)]
pub struct Console {
    metrics: Metrics,
    ping_path: Option<PingPath>,
    page: Option<Page>,
}

// === impl Console ===

impl Console {
    /// Health at `ping_path`, and `/metrics`.
    pub const fn new(metrics: Metrics, ping_path: PingPath) -> Self {
        Self { metrics, ping_path: Some(ping_path), page: None }
    }

    /// `/metrics` alone, for a listener of its own (`metrics` of `dfget.yaml`).
    pub const fn metrics_only(metrics: Metrics) -> Self {
        Self { metrics, ping_path: None, page: None }
    }

    /// The same, with the web page where no other path is in its way.
    #[must_use]
    pub fn with_page(self, page: Page) -> Self {
        Self { page: Some(page), ..self }
    }

    /// The routes; HEAD is answered where GET is, other methods are 405.
    pub(crate) fn router(self) -> Router {
        let metrics = self.metrics;
        let mut router = Router::new().route(METRICS_PATH, get(async move || scrape(&metrics)));
        if let Some(path) = &self.ping_path {
            router = router.route(path.as_str(), get(async || pong()));
        }
        let page = self.page;
        router.fallback(async move |request: Request| {
            let shown = match page {
                Some(page) => page.answer(request).await,
                None => None,
            };
            shown.unwrap_or_else(|| (StatusCode::NOT_FOUND, "404 not found\n").into_response())
        })
    }
}

/// Alive, whatever the state: the JSON text `"OK"`, quotes included, as Dragonfly 2.0.9 answers.
fn pong() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json; charset=utf-8")], "\"OK\"")
}

fn scrape(metrics: &Metrics) -> impl IntoResponse + use<> {
    ([(CONTENT_TYPE, Metrics::CONTENT_TYPE), (CACHE_CONTROL, "no-store")], metrics.encode())
}
