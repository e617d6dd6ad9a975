//! `/api/v1`: what is stored, what runs, how the node is. JSON in both directions.
//!
//! Views change nothing ([`Api::views`]): they are what another listener may show to whoever has
//! shown a right to see it. Names in JSON are camelCase, times are seconds since 1970, lengths are
//! bytes; what is not known is `null`. Fields may be added; none changes its meaning within `v1`.

mod control;
mod lines;
mod selection;
mod shapes;
mod stat;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Serialize;
use url::form_urlencoded;

pub use self::control::{Control, Keeping, Reading};
pub use self::selection::{Order, Selection};
pub use self::shapes::{
    Collected, Content, Contents, Counters, Evicted, Failed, Gc, Import, Kept, Keys, Kind, Node, NodeStore,
    Origin, Parent, RegistryUse, Removed, ServedBy, Stat, TaskBytes, TaskSeen, Tasks, Verified, Verify,
};
pub use self::stat::stat;
use crate::live::LiveView;
use crate::page::PageAddress;

/// What there is to see. Calls may wait for the disk; they are made on threads for that.
pub trait View: Send + Sync + 'static {
    /// How the node is.
    fn node(&self) -> Node;

    /// Has `look` see all that is stored, whole or in part, in no order.
    fn contents(&self, look: &mut dyn FnMut(&[&Content]));

    /// The downloads that run, the oldest first.
    fn tasks(&self) -> Vec<TaskSeen>;
}

/// The API over one view. Clones are the same.
#[derive(Clone)]
pub struct Api {
    view: Arc<dyn View>,
    control: Option<Arc<dyn Control>>,
    live: Option<Arc<dyn LiveView>>,
    page: Option<PageAddress>,
}

// === impl Api ===

impl Api {
    /// What `view` tells.
    #[must_use]
    pub fn new(view: Arc<dyn View>) -> Self {
        Self { view, control: None, live: None, page: None }
    }

    /// What `control` tells and can do; the latter only on a socket.
    #[must_use]
    pub fn with_control(control: Arc<dyn Control>) -> Self {
        let view = Arc::<dyn Control>::clone(&control);
        Self { control: Some(control), ..Self::new(view) }
    }

    /// The same, and what a live view needs.
    #[must_use]
    pub fn with_live(self, live: Arc<dyn LiveView>) -> Self {
        Self { live: Some(live), ..self }
    }

    /// The same, and who may do everything is told where the web page is.
    #[must_use]
    pub fn with_page(self, page: PageAddress) -> Self {
        Self { page: Some(page), ..self }
    }

    /// All paths that only tell: GET and HEAD below `/api/v1`.
    pub(crate) fn views(&self) -> Router {
        let route = |tell: fn(&dyn View, &str) -> Result<Response, Failed>| {
            let view = Arc::clone(&self.view);
            get(async move |RawQuery(query): RawQuery| {
                blocking(move || tell(&*view, query.as_deref().unwrap_or_default())).await
            })
        };
        let live = self.live.clone();
        let tell_live = get(async move |RawQuery(query): RawQuery| match live {
            Some(live) => {
                blocking(move || Ok(json(&live.live(most(query.as_deref().unwrap_or_default())?)))).await
            }
            None => Failed::new(404, "this daemon has no live view").into_response(),
        });
        Router::new()
            .route("/api/v1/live", tell_live)
            .route("/api/v1/node", route(|view, _| Ok(json(&view.node()))))
            .route("/api/v1/tasks", route(|view, _| Ok(json(&Tasks { tasks: view.tasks() }))))
            .route("/api/v1/contents", route(contents))
            .route("/api/v1/stat", route(|view, _| Ok(json(&seen(view, stat)))))
    }

    /// All paths, for those who may do everything.
    pub(crate) fn router(&self) -> Router {
        let page = self.page.clone();
        let tell_page = get(async move || match page {
            Some(page) => json(&page),
            None => Failed::new(404, NO_PAGE).into_response(),
        });
        let views = self.views().route("/api/v1/page", tell_page);
        let all = match &self.control {
            Some(control) => views.merge(control::router(control)),
            None => views,
        };
        all.fallback(async || Failed::new(404, "there is no such path; see docs/cache.md").into_response())
    }
}

/// Where there is no port.
const NO_PAGE: &str = "this daemon has no web page, for it has no admin port: look at it by `dfget top`";

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

fn contents(view: &dyn View, query: &str) -> Result<Response, Failed> {
    let selection = Selection::parse(query).map_err(|wrong| Failed::new(400, wrong))?;
    Ok(json(&seen(view, |contents| selection.of(contents))))
}

/// How much of each list is asked for by the query of `/api/v1/live`.
fn most(query: &str) -> Result<usize, Failed> {
    let mut most = usize::MAX;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let wrong = |reason| Err(Failed::new(400, reason));
        match (&*key, value.parse()) {
            ("most", Ok(number)) => most = number,
            ("most", Err(_)) => return wrong(format!("{key}={value} is not understood")),
            _ => return wrong(format!("{key} is no parameter of this call")),
        }
    }
    Ok(most)
}

/// What `tell` makes of all contents.
fn seen<T: Default>(view: &dyn View, tell: impl Fn(&[&Content]) -> T) -> T {
    let mut told = T::default();
    view.contents(&mut |contents| told = tell(contents));
    told
}

/// Runs what may wait for the disk where it may.
async fn blocking(work: impl FnOnce() -> Result<Response, Failed> + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(response)) => response,
        Ok(Err(failed)) => failed.into_response(),
        Err(error) => Failed::new(500, error.to_string()).into_response(),
    }
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response(),
        Err(error) => Failed::new(500, error.to_string()).into_response(),
    }
}

// === impl Failed ===

impl Failed {
    pub(crate) fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, json(&self)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_much_is_asked_for_is_read_from_the_query() {
        assert_eq!(most("").ok(), Some(usize::MAX));
        assert_eq!(most("most=12").ok(), Some(12));
        for (wrong, reason) in [
            ("most=-1", "most=-1 is not understood"),
            ("most=", "most= is not understood"),
            ("most=1&page=2", "page is no parameter of this call"),
        ] {
            let failed = most(wrong).expect_err(wrong);
            assert_eq!((failed.status, failed.error.as_str()), (400, reason));
        }
    }
}
