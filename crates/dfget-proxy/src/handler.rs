//! From a request to its answer.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dfget_core::{Authority, Decision, UrlFilter, decide};
use dfget_origin::{Arrival, ConnectError, OriginClient, ServerWide};
use dfget_task::Tasks;
use dfget_telemetry::{Metrics, redact_url};
use dfget_trace::Tracer;
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
use url::Url;

use crate::access::{Access, AccessOptions};
use crate::answers::Answers;
use crate::body::{ResponseBody, counted};
use crate::collapse::Asked;
use crate::dump::Dump;
use crate::entrance::Entrance;
use crate::mirror::Mirrored;
use crate::permission::Permission;
use crate::realms::Realms;
use crate::slots::Slots;
use crate::turns::Turns;
use crate::wishes::Wishes;
use crate::{message, respond, spans};

/// Things remembered for being said once only.
const MOST_SAID: usize = 1000;

/// What the proxy is to do.
#[derive(Debug)]
pub struct ProxyOptions {
    /// `defaultFilter`.
    pub filter: UrlFilter,
    /// `defaultTag`.
    pub tag: String,
    /// `defaultApplication`.
    pub application: String,
    /// `defaultPriority`, 0 to 6.
    pub priority: u8,
    /// How long the origin's word on a credential counts.
    pub access: AccessOptions,
    /// How long what a tag means is taken for unchanged (`manifests.freshness`).
    pub freshness: Duration,
    /// Where registries have their tokens from.
    pub realms: Realms,
    /// Log the headers of requests and answers at debug level (`dumpHTTPContent`).
    pub dump_headers: bool,
    /// The address by which this node is known to its network.
    pub address: IpAddr,
    /// Requests that run at once (`maxConcurrency`); `None` = without bound.
    pub max_concurrency: Option<usize>,
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
    pub(crate) slots: Slots,
    pub(crate) access: Arc<Access>,
    /// What registries said to small questions, and whose turn it is to ask them.
    pub(crate) answers: Answers,
    pub(crate) collapsing: Turns<Permission>,
    pub(crate) realms: Realms,
    /// Origins whose certificate was found good, and when.
    pub(crate) verified: Mutex<HashMap<Authority, Instant>>,
    pub(crate) verifying: Turns<Authority>,
    /// Origins that could not be verified a moment ago, and why.
    pub(crate) unverified: Mutex<HashMap<Authority, (Instant, Arc<ConnectError>)>>,
    /// What was said already, and need not be said again.
    pub(crate) said: Mutex<HashSet<String>>,
    pub(crate) tracker: TaskTracker,
    pub(crate) closing: CancellationToken,
}

impl Proxy {
    /// A proxy before these tasks.
    #[must_use]
    pub fn new(options: ProxyOptions, tasks: Tasks) -> Self {
        let tracker = TaskTracker::new();
        let access = Arc::new(Access::new(options.access, &tasks, &options.secret, tracker.clone()));
        let slots = Slots::new(options.max_concurrency);
        let inner = Inner {
            realms: options.realms.clone(),
            answers: Answers::default(),
            collapsing: Turns::default(),
            options: ArcSwap::from_pointee(options),
            slots,
            tasks,
            access,
            verified: Mutex::default(),
            verifying: Turns::default(),
            unverified: Mutex::default(),
            said: Mutex::default(),
            tracker,
            closing: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Changes what the proxy is to do, for requests that come from now on. The secret stays the
    /// first one. Origins are verified anew: they may be trusted by other roots now.
    pub fn set_options(&self, options: ProxyOptions) {
        self.inner.access.set_options(options.access);
        self.inner.slots.set_most(options.max_concurrency);
        self.inner.options.store(Arc::new(options));
        self.inner.verified.lock().clear();
        self.inner.unverified.lock().clear();
        self.inner.said.lock().clear();
        // Learnt while others were trusted, perhaps.
        self.inner.answers.clear();
        self.inner.realms.clear();
    }

    pub(crate) fn origin(&self) -> &OriginClient {
        self.inner.tasks.origin()
    }

    /// Whether this has not been said yet; it has from now on.
    pub(crate) fn is_new(&self, what: String) -> bool {
        let mut said = self.inner.said.lock();
        if said.len() >= MOST_SAID {
            said.clear();
        }
        said.insert(what)
    }

    pub(crate) fn tracer(&self) -> &Tracer {
        self.origin().tracer()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        self.inner.tasks.metrics()
    }

    /// Answers a request as it comes to the listener of an entrance.
    pub(crate) async fn answer(
        &self,
        entrance: &Arc<Entrance>,
        arrival: Arrival,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let entrance = &entrance.current();
        let running = self.metrics().request(request.method().as_str());
        let dump = self.inner.options.load().dump_headers.then(|| Dump::request(&request));
        let connect = request.method() == Method::CONNECT;
        let mut response = if self.origin().is_own_request(arrival, request.headers()) {
            self.say_loop(&request);
            respond::own_request()
        } else {
            self.dispatch(entrance, request).await
        };
        if connect && !response.status().is_success() {
            // What the client has sent ahead was for the tunnel, and is no request.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        dump.inspect(|dump| dump.answer(&response));
        counted(response, running, self.metrics(), entrance)
    }

    /// Says once for each target that it leads back here.
    fn say_loop(&self, request: &Request<Incoming>) {
        let uri = request.uri().authority().map(ToString::to_string);
        let host = uri.or_else(|| request.headers().get(HOST)?.to_str().ok().map(str::to_owned));
        let host = host.unwrap_or_default();
        if self.is_new(format!("loop {host}")) {
            warn!("a request of our own for {host} has come back to us: answered 508");
        }
    }

    async fn dispatch(&self, entrance: &Arc<Entrance>, request: Request<Incoming>) -> Response<ResponseBody> {
        if !entrance.admission.admits_client(request.headers()) {
            return respond::login_needed();
        }
        if let Some(refusal) = message::refusal(&request) {
            return refusal;
        }
        if request.method() == Method::CONNECT {
            return Box::pin(self.connect(entrance, request)).await;
        }
        if request.method() == Method::OPTIONS && request.uri().path() == "*" {
            return respond::options();
        }
        if request.uri().scheme().is_none() {
            return Box::pin(self.serve_as_registry(entrance, request)).await;
        }
        let url = Url::parse(&request.uri().to_string()).ok();
        let Some((url, authority)) =
            url.and_then(|url| Authority::of_url(&url).map(|authority| (url, authority)))
        else {
            return respond::text(
                StatusCode::NOT_FOUND,
                "this is a proxy for http and https; the request's URL is of neither kind, or names no host",
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
        let dump = self.inner.options.load().dump_headers.then(|| Dump::request(&request));
        let response = self.dispatch_hijacked(entrance, authority, request).await;
        dump.inspect(|dump| dump.answer(&response));
        counted(response, running, self.metrics(), entrance)
    }

    async fn dispatch_hijacked(
        &self,
        entrance: &Entrance,
        authority: &Authority,
        mut request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        if let Some(refusal) = message::refusal(&request) {
            return refusal;
        }
        request.extensions_mut().insert(Hijacked);
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
        let server_wide = target == "*" && request.method() == Method::OPTIONS;
        let target = if server_wide { "/" } else { target };
        match Url::parse(&format!("{authority}{target}")) {
            Ok(url) if server_wide => {
                request.extensions_mut().insert(ServerWide);
                self.exchange(entrance, url, request).await
            }
            Ok(url) if target.starts_with('/') => self.exchange(entrance, url, request).await,
            _ => respond::text(StatusCode::BAD_REQUEST, "the request's target is no path"),
        }
    }

    pub(crate) async fn exchange(
        &self,
        entrance: &Entrance,
        url: Url,
        mut request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let span = spans::enter(self.tracer(), &url, &mut request);
        let mut response = Box::pin(self.in_turn(entrance, url, request)).await;
        spans::answered(span, &mut response);
        response
    }

    async fn in_turn(
        &self,
        entrance: &Entrance,
        url: Url,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let slot = match self.inner.slots.take().await {
            Ok(slot) => slot,
            Err(busy) => return respond::busy(&busy),
        };
        let shown = request.headers().get(AUTHORIZATION).cloned();
        let mut response = self.decided(entrance, url, request).await;
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            && let Some(token) = shown.as_ref().and_then(bearer)
        {
            self.inner.answers.spent(token);
        }
        response.extensions_mut().insert(slot);
        response
    }

    async fn decided(
        &self,
        entrance: &Entrance,
        url: Url,
        mut request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let wishes = match Wishes::read(request.headers()) {
            Ok(wishes) => wishes,
            Err(refused) => return respond::text(StatusCode::BAD_REQUEST, &refused.to_string()),
        };
        let (get, reads) = (request.method() == Method::GET, reads(request.method()));
        let decided = match request.extensions_mut().get_mut::<Mirrored>() {
            Some(mirrored) => mirrored.decide(&entrance.rules, reads, &url),
            None => decide(&entrance.rules, reads, &url),
        };
        let decision = match decided {
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
        if let Some(refused) = refused_rewriting(entrance, &url, &decision) {
            return respond::target_refused(&refused);
        }
        // A rule's `direct` is the site's word, and stands above the client's.
        let direct = decision.rule.is_some_and(|rule| entrance.rules[rule].direct)
            || request.extensions().get::<Mirrored>().is_some_and(Mirrored::is_direct);
        let wanted = get && (wishes.stored_only || (wishes.use_p2p && decision.rule.is_none() && !direct));
        let verified = get && wishes.digest.is_some();
        if !direct
            && !wanted
            && !verified
            && let Some(asked) = self.collapsible(&decision.url, &request)
            && (!decision.task || matches!(asked, Asked::Ping | Asked::Manifest { digest: None, .. }))
        {
            let chosen = request.extensions().get::<Hijacked>().is_some()
                || request.extensions().get::<Mirrored>().is_some_and(|mirrored| !mirrored.clients_choice);
            return Box::pin(self.collapse(asked, decision.url, &request, chosen)).await;
        }
        if decision.task || wanted {
            return self.accelerate(decision.url, wishes, request).await;
        }
        if verified {
            // No task, and yet nothing with another digest may reach the client.
            return Box::pin(self.verified(decision.url, wishes, request)).await;
        }
        let method = request.method().clone();
        self.note_push(&decision.url, &method);
        let response = Box::pin(self.forward(&decision.url, request)).await;
        // Whoever asked while it was under way may have been told of before it.
        self.note_push(&decision.url, &method);
        response
    }
}

/// Marks a request that came inside of a hijacked connection.
#[derive(Clone, Copy, Debug)]
struct Hijacked;

/// The token in an `Authorization`.
fn bearer(shown: &HeaderValue) -> Option<&str> {
    let (scheme, token) = shown.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether a request only asks for a content.
const fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The place that a rule's rewriting leads to, if the client and not the rule has chosen it and it may
/// not be reached.
fn refused_rewriting(entrance: &Entrance, url: &Url, decision: &Decision) -> Option<Authority> {
    let (asked, target) = (Authority::of_url(url), Authority::of_url(&decision.url)?);
    let same = asked.is_some_and(|asked| (asked.host, asked.port) == (target.host.clone(), target.port));
    let named = decision.rule.is_some_and(|rule| entrance.rules[rule].names(&target));
    (!same && !named && !entrance.admission.admits_target(&target)).then_some(target)
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("options", &self.inner.options.load()).finish_non_exhaustive()
    }
}
