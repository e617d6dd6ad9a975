//! Requests to origins, one hop each.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use dfget_core::{Authority, Backoff, READ, Scheme};
use dfget_trace::{Kind, Tracer, span_name};
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, TRANSFER_ENCODING, VIA,
    WWW_AUTHENTICATE,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use crate::budget::{Budget, Budgets, Rest};
use crate::connect::{Reached, VANISHED_AFTER, Way, reach, secure};
use crate::error::cause;
use crate::outgoing::{Arrival, Listening, Ourselves, Outgoing};
use crate::pool::{Connection, Pool};
use crate::spans;
use crate::{AddressClass, ConnectError, Destinations, Flow, Limiter, OriginError, Upstream};

/// Bytes read from a connection at once, where nothing bounds the rate.
const READ_AT_ONCE: usize = 512 << 10;

/// How long the addresses of a name are waited for where nothing is to be connected to.
const RESOLVED_IN: Duration = Duration::from_secs(1);

/// Any error that a body may end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request to an origin.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// How an origin's certificate is judged.
#[derive(Clone, Debug)]
pub struct Trust {
    /// What the TLS handshake is done with.
    pub config: Arc<rustls::ClientConfig>,
    /// Whether any certificate is accepted (`insecure: true` of the host).
    pub insecure: bool,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a name and each address.
    pub connect: Duration,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the head of an answer to a request without a body.
    pub head: Duration,
    /// For the next byte of a content; after that the stream is resumed.
    pub stall: Duration,
    /// A connection on which nothing came for so long is probed.
    pub keep_alive: Duration,
    /// An idle connection older than this is not used again: most servers close theirs after a
    /// minute or more.
    pub idle: Duration,
    /// Idle connections kept to all origins of the scheme; `None` = by those to one origin alone.
    pub most_idle: Option<usize>,
}

/// Something that may differ between plain text and TLS.
#[derive(Clone, Copy, Debug, Default)]
pub struct PerScheme<T> {
    /// For plain text.
    pub http: T,
    /// For TLS.
    pub https: T,
}

/// How a content is continued whose connection broke.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    /// Waits between tries.
    pub between: Backoff,
    /// Tries in a row that may bring nothing before the stream ends in an error.
    pub most: u32,
}

/// Told of each request that is sent: to whom, and whether the origin's certificate was left unverified.
pub type Observer = Box<dyn Fn(&Authority, bool) + Send + Sync>;

/// What an [`OriginClient`] is made of.
pub struct OriginOptions {
    /// The trust that an authority is given.
    pub trust: Box<dyn Fn(&Authority) -> Trust + Send + Sync>,
    /// Limits on waiting.
    pub timeouts: PerScheme<Timeouts>,
    /// The proxy of the site; `None` = origins are reached directly.
    pub upstream: Option<Upstream>,
    /// Where connections may lead.
    pub destinations: Destinations,
    /// Requests to one authority at most; `None` = as many as there are.
    pub budget: Option<Budget>,
    /// How a broken content is continued.
    pub retries: Retries,
    /// Try IPv6 addresses first.
    pub prefer_ipv6: bool,
    /// Bounds how fast contents are read; `None` = nothing does.
    pub limiter: Option<Limiter>,
    /// Called for each request sent.
    pub observe: Observer,
    /// Tells of the requests that belong to a trace.
    pub tracer: Tracer,
}

/// Sends requests to origins. Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct OriginClient {
    inner: Arc<Inner>,
}

struct Inner {
    options: OriginOptions,
    timeouts: ArcSwap<PerScheme<Timeouts>>,
    limiter: ArcSwapOption<Limiter>,
    destinations: RwLock<Arc<Destinations>>,
    ourselves: Ourselves,
    quiet: bool,
    pool: Pool,
    budgets: Budgets,
    connections: TaskTracker,
}

/// In the extensions of a request: it is for the server as a whole, `OPTIONS *` (RFC 9112, section 3.2.4).
#[derive(Clone, Copy, Debug)]
pub struct ServerWide;

/// A body without a byte.
#[must_use]
pub fn empty_body() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

// === impl Timeouts ===

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            keep_alive: VANISHED_AFTER,
            idle: Duration::from_secs(50),
            most_idle: None,
        }
    }
}

// === impl PerScheme ===

impl<T> PerScheme<T> {
    /// What holds for the scheme.
    pub const fn of(&self, scheme: Scheme) -> &T {
        match scheme {
            Scheme::Http => &self.http,
            Scheme::Https => &self.https,
        }
    }
}

// === impl Retries ===

impl Default for Retries {
    /// Together about half a minute.
    fn default() -> Self {
        let between = Backoff { first: Duration::from_millis(200), ceiling: Duration::from_secs(10) };
        Self { between, most: 8 }
    }
}

// === impl OriginClient ===

impl OriginClient {
    /// A client without connections.
    #[must_use]
    pub fn new(options: OriginOptions) -> Self {
        Self::knowing(Ourselves::new(), false, options)
    }

    /// Another client of the same process, which recognizes its requests: where they lead back to
    /// us, they are refused. It is for who says himself what goes wrong: it logs no pauses.
    #[must_use]
    pub fn beside(&self, options: OriginOptions) -> Self {
        Self::knowing(self.inner.ourselves.clone(), true, options)
    }

    fn knowing(ourselves: Ourselves, quiet: bool, mut options: OriginOptions) -> Self {
        let destinations = RwLock::new(Arc::new(std::mem::take(&mut options.destinations)));
        let timeouts = ArcSwap::from_pointee(options.timeouts);
        let limiter = ArcSwapOption::new(options.limiter.take().map(Arc::new));
        let pool = Pool::new(options.timeouts);
        let budgets = Budgets::new(options.budget);
        let connections = TaskTracker::new();
        let inner =
            Inner { options, timeouts, limiter, destinations, ourselves, quiet, pool, budgets, connections };
        Self { inner: Arc::new(inner) }
    }

    /// Begins the spans of what is asked of origins, and of what leads to it.
    #[must_use]
    pub fn tracer(&self) -> &Tracer {
        &self.inner.options.tracer
    }

    /// The limits on waiting that do not depend on the scheme.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts_of(Scheme::Https)
    }

    /// Changes the limits on waiting; those of idle connections stay.
    pub fn set_timeouts(&self, timeouts: PerScheme<Timeouts>) {
        self.inner.timeouts.store(Arc::new(timeouts));
    }

    /// Changes how fast contents are read, for downloads that begin from now on.
    pub fn set_limiter(&self, limiter: Option<Limiter>) {
        self.inner.limiter.store(limiter.map(Arc::new));
    }

    /// Changes how many requests an origin is sent at most.
    pub fn set_budget(&self, budget: Option<Budget>) {
        self.inner.budgets.set(budget);
    }

    /// Takes new connections from now on: the old ones were made with a trust that may not hold any
    /// more. What is under way on them goes on.
    pub fn forget_connections(&self) {
        self.inner.pool.clear();
    }

    pub(crate) fn retries(&self) -> Retries {
        self.inner.options.retries
    }

    /// A task for the rate limits, if there are any; see [`crate::ContentStream::count_for`].
    #[must_use]
    pub fn flow(&self) -> Option<Flow> {
        self.inner.limiter.load().as_deref().map(Limiter::flow)
    }

    /// Bytes read from a connection at once, at the most.
    fn read_at_once(&self) -> usize {
        // What is read is read: under a limit it must not be more than what is granted at once.
        let granted = usize::try_from(READ).unwrap_or(READ_AT_ONCE);
        if self.inner.limiter.load().is_some() { granted } else { READ_AT_ONCE }
    }

    /// Where connections may lead.
    pub(crate) fn destinations(&self) -> Arc<Destinations> {
        Arc::clone(&self.inner.destinations.read())
    }

    /// Changes where connections may lead, for those that are opened from now on; idle ones are closed.
    pub fn set_destinations(&self, destinations: Destinations) {
        *self.inner.destinations.write() = Arc::new(destinations);
        self.inner.pool.clear();
    }

    /// Notes where our clients reach us, for as long as the result lives.
    #[must_use]
    pub fn listen(&self, address: SocketAddr) -> Listening {
        self.inner.ourselves.listen(address)
    }

    /// Whether a request is our own: it came on a connection that we opened, or by us before (`Via`).
    #[must_use]
    pub fn is_own_request(&self, arrival: Arrival, headers: &HeaderMap) -> bool {
        self.is_own_connection(arrival) || self.inner.ourselves.are_named(headers)
    }

    /// Whether we opened the connection that was accepted.
    #[must_use]
    pub fn is_own_connection(&self, arrival: Arrival) -> bool {
        self.inner.ourselves.opened(arrival)
    }

    /// Makes sure that a verified connection to the authority stands, for a request to follow. `asked`:
    /// the headers of the CONNECT that it is for.
    ///
    /// # Errors
    /// [`ConnectError`] with the cause in words fit for a reason phrase.
    pub async fn verify(&self, authority: &Authority, asked: &HeaderMap) -> Result<(), ConnectError> {
        if !self.inner.pool.has(authority) {
            let connection = self.connect(authority, None, asked).await?;
            self.inner.pool.put(authority, connection);
        }
        Ok(())
    }

    /// A bare TCP connection to the authority, for a tunnel. `asked`: the headers of the CONNECT that it is for.
    ///
    /// # Errors
    /// [`ConnectError`] if none can be had.
    pub async fn tunnel(&self, authority: &Authority, asked: &HeaderMap) -> Result<Outgoing, ConnectError> {
        // A tunnel is asked for by CONNECT, whatever goes through it.
        let authority = Authority { scheme: Scheme::Https, ..authority.clone() };
        self.reach(&authority, None, asked).await.map(|reached| reached.stream)
    }

    /// Sends one request and returns the head of its answer with the body to come, whatever
    /// its status. Redirects are not followed.
    ///
    /// The request's URI must be absolute. A GET or HEAD that fails on a connection that was
    /// used before is sent again on a new one: the origin may just have closed it.
    ///
    /// # Errors
    /// [`OriginError`] if there is no answer.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, OriginError> {
        self.send_hop(request, None).await.map(|(response, _)| response)
    }

    /// As [`Self::send`] to a host that the client chose, which must not be this machine, a host of the
    /// link, or a metadata service.
    ///
    /// # Errors
    /// As [`Self::send`], and [`ConnectError::NotForClients`].
    pub async fn send_to_clients_choice(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, OriginError> {
        let sent = self.send_hop(request, Some(AddressClass::Network)).await;
        sent.map(|(response, _)| response).map_err(OriginError::of_clients_choice)
    }

    /// Why a host must not be a client's choice: by all its addresses it is this machine, a host of the link,
    /// or a metadata service. For what is answered without a connection; one is refused to such an address
    /// anyway. A name whose addresses cannot be told in a moment is let be.
    pub async fn refuses_clients_choice(&self, authority: &Authority) -> Option<ConnectError> {
        if self.inner.options.upstream.as_ref().is_some_and(|upstream| upstream.via(authority).is_some()) {
            return None;
        }
        let found: Vec<IpAddr> = match self.destinations().resolve.get(&authority.host) {
            Some(addresses) => addresses.clone(),
            None => {
                let lookup = tokio::net::lookup_host((authority.host.as_str(), authority.port));
                timeout(RESOLVED_IN, lookup).await.ok()?.ok()?.map(|address| address.ip()).collect()
            }
        };
        let address = *found.first()?;
        let inside = found.iter().all(|address| AddressClass::of(*address) != AddressClass::Network);
        inside.then(|| ConnectError::NotForClients { host_port: authority.host_port(), address })
    }

    /// As [`Self::send`]; `registry` restricts the addresses (see [`crate::connect::reach`]).
    /// Returns the class of the address that answered too.
    pub(crate) async fn send_hop(
        &self,
        mut request: Request<Body>,
        registry: Option<AddressClass>,
    ) -> Result<(Response<Incoming>, AddressClass), OriginError> {
        let authority = prepare(&mut request)?;
        let mut span = self.tracer().child(request.headers(), Kind::Client, span_name(request.method()));
        spans::describe(&mut span, &authority, &request);
        span.mark(request.headers_mut());
        let sent = self.send_prepared(&authority, request, registry).await;
        spans::tell(span, &sent);
        sent
    }

    async fn send_prepared(
        &self,
        authority: &Authority,
        mut request: Request<Body>,
        registry: Option<AddressClass>,
    ) -> Result<(Response<Incoming>, AddressClass), OriginError> {
        let bodiless =
            matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_end_stream();
        let again = bodiless.then(|| repeat(&request));
        let head_limit = bodiless.then_some(self.timeouts_of(authority.scheme).head);
        let turn = self.turn(authority, &request)?;
        if !turn.is_zero() {
            tokio::time::sleep(turn).await;
        }
        let destinations = self.destinations();
        let permitted = |address| destinations.permits(authority, address, registry);
        if let Some(connection) = self.inner.pool.take(authority, permitted) {
            let class = connection.class();
            let refused = match self.exchange(authority, connection, request, head_limit).await {
                Ok(response) => return Ok((response, class)),
                Err(refused) => *refused,
            };
            request = match (refused.unsent, again) {
                (Some(unsent), _) => unsent,
                (None, Some(again)) if refused.used && !refused.error.is_timeout() => again,
                _ => return Err(refused.error),
            };
        }
        let connection = self.connect(authority, registry, &HeaderMap::new()).await?;
        let class = connection.class();
        let answer = self.exchange(authority, connection, request, head_limit).await;
        answer.map(|response| (response, class)).map_err(|refused| refused.error)
    }

    /// How long a request waits until the origin may be asked.
    fn turn(&self, authority: &Authority, request: &Request<Body>) -> Result<Duration, OriginError> {
        let budgets = &self.inner.budgets;
        let turn = budgets.enter(authority, request.method(), budgets.credential(request), Instant::now());
        turn.map_err(|Rest { wait, reason }| OriginError::Resting {
            host_port: authority.host_port(),
            wait,
            reason,
        })
    }

    /// Closes idle connections and waits for those in use.
    pub async fn close(&self) {
        self.inner.pool.clear();
        if let Some(limiter) = self.inner.limiter.load_full() {
            limiter.close().await;
        }
        self.inner.connections.close();
        self.inner.connections.wait().await;
    }

    async fn connect(
        &self,
        authority: &Authority,
        registry: Option<AddressClass>,
        asked: &HeaderMap,
    ) -> Result<Connection, ConnectError> {
        if self.inner.connections.is_closed() {
            return Err(ConnectError::Closing);
        }
        let generation = self.inner.pool.generation();
        let trust = (self.inner.options.trust)(authority);
        let Reached { stream, address, upstream } = self.reach(authority, registry, asked).await?;
        let wire = secure(stream, authority, &trust, &self.timeouts_of(authority.scheme)).await?;
        let insecure = trust.insecure && authority.scheme == Scheme::Https;
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(self.read_at_once())
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|error| ConnectError::Connect {
                host_port: authority.host_port(),
                source: std::io::Error::other(error),
            })?;
        let host_port = authority.host_port();
        self.inner.connections.spawn(async move {
            if let Err(error) = driver.await {
                debug!(origin = host_port, "connection ended: {}", cause(&error));
            }
        });
        let mut connection = Connection::new(sender, address, insecure, generation);
        connection.upstream = upstream;
        Ok(connection)
    }

    async fn reach(
        &self,
        authority: &Authority,
        registry: Option<AddressClass>,
        asked: &HeaderMap,
    ) -> Result<Reached, ConnectError> {
        let destinations = self.destinations();
        let timeouts = self.timeouts_of(authority.scheme);
        let way = Way {
            timeouts: &timeouts,
            upstream: self.inner.options.upstream.as_ref(),
            destinations: &destinations,
            ourselves: &self.inner.ourselves,
            registry,
            prefer_ipv6: self.inner.options.prefer_ipv6,
        };
        let mut trail: HeaderMap = asked.get_all(VIA).iter().map(|hop| (VIA, hop.clone())).collect();
        self.inner.ourselves.sign(&mut trail);
        reach(authority, way, &trail).await
    }

    fn timeouts_of(&self, scheme: Scheme) -> Timeouts {
        *self.inner.timeouts.load().of(scheme)
    }

    /// Notes whether the origin asks to be left alone.
    fn hear(&self, authority: &Authority, credential: Option<u64>, response: &Response<Incoming>) {
        let (status, answer) = (response.status(), response.headers());
        let paused = self.inner.budgets.heard(authority, credential, status, answer, Instant::now());
        if let Some(pause) = paused.filter(|_| !self.inner.quiet) {
            let host_port = authority.host_port();
            info!("{host_port} answers {status}: it is not asked with this credential for {pause:?}");
        }
    }

    async fn exchange(
        &self,
        authority: &Authority,
        mut connection: Connection,
        mut request: Request<Body>,
        head_limit: Option<Duration>,
    ) -> Result<Response<Incoming>, Box<Refused>> {
        let upstream = connection.upstream.clone();
        if let Some(via) = &upstream {
            address_to_proxy(&mut request, authority, via.login.as_ref());
        }
        if authority.scheme == Scheme::Http {
            // Others may stand between, and send it back to us.
            self.inner.ourselves.sign(request.headers_mut());
        }
        (self.inner.options.observe)(authority, connection.insecure);
        let bound = binds_connection(request.headers());
        let credential = self.inner.budgets.credential(&request);
        let bodiless = request.method() == Method::HEAD;
        let used = std::mem::replace(&mut connection.used, true);
        let refuse = |unsent, error| Box::new(Refused { unsent, error, used });
        let answer = connection.sender.try_send_request(request);
        let answered = match head_limit {
            None => answer.await,
            Some(limit) => match timeout(limit, answer).await {
                Ok(answered) => answered,
                Err(_) => {
                    let error = OriginError::TimedOut { host_port: authority.host_port(), after: limit };
                    return Err(refuse(None, error));
                }
            },
        };
        match answered {
            Ok(response) => {
                if let Some(reason) = framing_fault(&response, bodiless) {
                    let host_port = authority.host_port();
                    return Err(refuse(None, OriginError::Http { host_port, reason: reason.to_owned() }));
                }
                // The proxy's challenge is for us; our client has nothing to answer it with.
                if let Some(via) = upstream
                    && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED
                {
                    let line = format!("{:?} {}", response.version(), response.status());
                    return Err(refuse(None, via.refused(authority, &line).into()));
                }
                // Who such a connection belongs to was decided on it; it is nobody else's.
                if !bound && !binds_connection(response.headers()) {
                    self.inner.pool.put(authority, connection);
                }
                self.hear(authority, credential, &response);
                Ok(response)
            }
            Err(mut failed) => {
                let unsent = failed.take_message();
                let reason = cause(failed.error());
                Err(refuse(unsent, OriginError::Http { host_port: authority.host_port(), reason }))
            }
        }
    }
}

impl fmt::Debug for OriginClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginClient").field("timeouts", &self.timeouts()).finish_non_exhaustive()
    }
}

/// A request that got no answer, and whether it may be sent again.
struct Refused {
    unsent: Option<Request<Body>>,
    error: OriginError,
    used: bool,
}

/// Brings a request into the form that goes over a connection to its authority: a path for a
/// target, and a `Host`.
fn prepare(request: &mut Request<Body>) -> Result<Authority, OriginError> {
    let uri = request.uri();
    let bad = || OriginError::Target {
        place: format!("{}://{}", uri.scheme_str().unwrap_or("?"), uri.host().unwrap_or("?")),
    };
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(bad()),
    };
    let host = uri.authority().map_or("", http::uri::Authority::as_str);
    let authority = Authority::parse(scheme, host).map_err(|_| bad())?;
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let target = if request.extensions().get::<ServerWide>().is_some() { "*" } else { path };
    let target = target.parse().map_err(|_| bad())?;
    let host = HeaderValue::from_str(&authority.host_header()).map_err(|_| bad())?;
    *request.uri_mut() = target;
    *request.version_mut() = http::Version::HTTP_11;
    request.headers_mut().insert(HOST, host);
    Ok(authority)
}

/// Brings a request into the form that a proxy takes (RFC 9112, section 3.2.2).
fn address_to_proxy(request: &mut Request<Body>, authority: &Authority, login: Option<&HeaderValue>) {
    let target = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    if let Ok(absolute) = format!("http://{}{target}", authority.host_header()).parse() {
        *request.uri_mut() = absolute;
    }
    if let Some(login) = login {
        request.headers_mut().insert(PROXY_AUTHORIZATION, login.clone());
    }
}

/// Whether a login by NTLM or Negotiate is under way, which is for a connection, not a request.
fn binds_connection(headers: &HeaderMap) -> bool {
    let mut schemes = headers.get_all(AUTHORIZATION).iter().chain(headers.get_all(WWW_AUTHENTICATE));
    schemes.any(|value| {
        let value = value.as_bytes().to_ascii_lowercase();
        value.starts_with(b"ntlm") || value.starts_with(b"negotiate")
    })
}

/// What is wrong with the way an answer's body is framed: two parties could read it differently, or
/// what is handed on decoded would still be coded (RFC 9112, sections 6.1 and 6.3).
fn framing_fault<B>(response: &Response<B>, to_head: bool) -> Option<&'static str> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Some("the origin switched to another protocol unasked");
    }
    let chunked = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    let codings: Vec<_> = response.headers().get_all(TRANSFER_ENCODING).iter().map(chunked).collect();
    match *codings.as_slice() {
        [] => None,
        _ if to_head || response.status() == StatusCode::NOT_MODIFIED => None,
        _ if response.headers().contains_key(CONTENT_LENGTH) => {
            Some("the origin's answer has both a Content-Length and a Transfer-Encoding")
        }
        [true] => None,
        _ => Some("the origin's answer has a transfer coding that it was not asked for"),
    }
}

/// The same request once more; it must have no body.
fn repeat(request: &Request<Body>) -> Request<Body> {
    let mut again = Request::new(empty_body());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    again
}
