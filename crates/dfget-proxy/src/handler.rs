//! From a request to its answer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use dfget_core::{Authority, UrlFilter, decide};
use dfget_origin::{ConnectError, OriginClient};
use dfget_task::Tasks;
use dfget_telemetry::{Metrics, redact_url};
use http::header::HOST;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;
use url::Url;

use crate::access::{Access, AccessOptions};
use crate::body::{ResponseBody, counted};
use crate::entrance::Entrance;
use crate::respond;
use crate::turns::Turns;

/// What the proxy is to do.
#[derive(Debug)]
pub struct ProxyOptions {
    /// `defaultFilter`.
    pub filter: UrlFilter,
    /// `defaultTag`.
    pub tag: String,
    /// `defaultApplication`.
    pub application: String,
    /// How long the origin's word on a credential counts.
    pub access: AccessOptions,
    /// First part of the names by which attempts stand in the log: `<address>-<process>`.
    pub peer_prefix: String,
    /// Key of this node under which permissions are remembered.
    pub secret: [u8; 32],
}

/// The proxy. Cheap to clone.
#[derive(Clone)]
pub struct Proxy {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: ArcSwap<ProxyOptions>,
    pub(crate) tasks: Tasks,
    pub(crate) access: Arc<Access>,
    /// Origins whose certificate was found good, and when.
    pub(crate) verified: Mutex<HashMap<Authority, Instant>>,
    pub(crate) verifying: Turns<Authority>,
    /// Origins that could not be verified a moment ago, and why.
    pub(crate) unverified: Mutex<HashMap<Authority, (Instant, Arc<ConnectError>)>>,
    /// Hosts of which it was said already that they are tunnelled.
    pub(crate) tunnelled: Mutex<HashSet<String>>,
    pub(crate) tracker: TaskTracker,
    pub(crate) closing: CancellationToken,
}

impl Proxy {
    /// A proxy before these tasks.
    #[must_use]
    pub fn new(options: ProxyOptions, tasks: Tasks) -> Self {
        let tracker = TaskTracker::new();
        let access = Arc::new(Access::new(options.access, &tasks, &options.secret, tracker.clone()));
        let inner = Inner {
            options: ArcSwap::from_pointee(options),
            tasks,
            access,
            verified: Mutex::default(),
            verifying: Turns::default(),
            unverified: Mutex::default(),
            tunnelled: Mutex::default(),
            tracker,
            closing: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Changes what the proxy is to do, for requests that come from now on. The secret stays the
    /// first one. Origins are verified anew: they may be trusted by other roots now.
    pub fn set_options(&self, options: ProxyOptions) {
        self.inner.access.set_options(options.access);
        self.inner.options.store(Arc::new(options));
        self.inner.verified.lock().clear();
        self.inner.unverified.lock().clear();
        self.inner.tunnelled.lock().clear();
    }

    pub(crate) fn origin(&self) -> &OriginClient {
        self.inner.tasks.origin()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        self.inner.tasks.metrics()
    }

    /// Answers a request as it comes to the listener of an entrance.
    pub(crate) async fn answer(
        &self,
        entrance: &Arc<Entrance>,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let entrance = &entrance.current();
        let running = self.metrics().request(request.method().as_str());
        let response = self.dispatch(entrance, request).await;
        counted(response, running, self.metrics(), entrance)
    }

    async fn dispatch(&self, entrance: &Arc<Entrance>, request: Request<Incoming>) -> Response<ResponseBody> {
        if !entrance.admission.admits_client(request.headers()) {
            return respond::login_needed();
        }
        if request.method() == Method::CONNECT {
            return Box::pin(self.connect(entrance, request)).await;
        }
        let url = Url::parse(&request.uri().to_string()).ok();
        let Some((url, authority)) =
            url.and_then(|url| Authority::of_url(&url).map(|authority| (url, authority)))
        else {
            return respond::text(
                StatusCode::NOT_FOUND,
                "this is an HTTP proxy, not a web server: set HTTPS_PROXY (or HTTP_PROXY) to this address; \
                 serving as a registry mirror is not supported yet",
            );
        };
        if !url.username().is_empty() || url.password().is_some() {
            return respond::text(
                StatusCode::BAD_REQUEST,
                "the URL holds a user or a password; send them as a header instead",
            );
        }
        if !entrance.admission.admits_target(&authority) {
            return respond::target_refused(&authority);
        }
        self.exchange(entrance, url, request).await
    }

    /// Answers a request that came inside of a hijacked connection to `authority`.
    pub(crate) async fn answer_hijacked(
        &self,
        entrance: &Arc<Entrance>,
        authority: &Authority,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let entrance = &entrance.current();
        let running = self.metrics().request(request.method().as_str());
        let response = self.dispatch_hijacked(entrance, authority, request).await;
        counted(response, running, self.metrics(), entrance)
    }

    async fn dispatch_hijacked(
        &self,
        entrance: &Entrance,
        authority: &Authority,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let host = request.uri().authority().map(http::uri::Authority::as_str);
        let host = host.or_else(|| request.headers().get(HOST).and_then(|host| host.to_str().ok()));
        let named = host.map(|host| Authority::parse(authority.scheme, host));
        if named.is_some_and(|named| named.as_ref() != Ok(authority)) {
            let message = format!("this connection is to {authority} alone; open another for another host");
            return respond::text(StatusCode::MISDIRECTED_REQUEST, &message);
        }
        // Asked when the connection began; a reload may have changed the answer.
        if !entrance.admission.admits_target(authority) {
            return respond::target_refused(authority);
        }
        let target = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        match Url::parse(&format!("{authority}{target}")) {
            Ok(url) if target.starts_with('/') => self.exchange(entrance, url, request).await,
            _ => respond::text(StatusCode::BAD_REQUEST, "the request's target is no path"),
        }
    }

    async fn exchange(
        &self,
        entrance: &Entrance,
        url: Url,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let decision = match decide(&entrance.rules, request.method() == Method::GET, &url) {
            Ok(decision) => decision,
            Err(error) => return respond::text(StatusCode::BAD_GATEWAY, &error.to_string()),
        };
        debug!(
            rule = decision.rule,
            task = decision.task,
            "{} {}",
            request.method(),
            redact_url(url.as_str())
        );
        if decision.task {
            self.accelerate(decision.url, request).await
        } else {
            Box::pin(self.forward(&decision.url, request)).await
        }
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("options", &self.inner.options.load()).finish_non_exhaustive()
    }
}
