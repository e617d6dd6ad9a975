//! Requests to origins, one hop each.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dfget_core::{Authority, Scheme};
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, WWW_AUTHENTICATE};
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::connect::{Reached, reach, secure};
use crate::error::cause;
use crate::pool::{Connection, Pool};
use crate::{AddressClass, ConnectError, OriginError, Upstream};

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
    /// For a name, each address and the handshake.
    pub connect: Duration,
    /// For the head of an answer to a request without a body.
    pub head: Duration,
    /// For the next byte of a content; after that the stream is resumed.
    pub stall: Duration,
}

/// What an [`OriginClient`] is made of.
pub struct OriginOptions {
    /// The trust that an authority is given.
    pub trust: Box<dyn Fn(&Authority) -> Trust + Send + Sync>,
    /// Limits on waiting.
    pub timeouts: Timeouts,
    /// The proxy of the site; `None` = origins are reached directly.
    pub upstream: Option<Upstream>,
    /// Called for each request sent, with whether the origin's certificate was left unverified.
    pub observe: Box<dyn Fn(bool) + Send + Sync>,
}

/// Sends requests to origins. Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct OriginClient {
    inner: Arc<Inner>,
}

struct Inner {
    options: OriginOptions,
    pool: Pool,
    connections: TaskTracker,
}

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
            head: Duration::from_secs(60),
            stall: Duration::from_secs(30),
        }
    }
}

// === impl OriginClient ===

impl OriginClient {
    /// A client without connections.
    #[must_use]
    pub fn new(options: OriginOptions) -> Self {
        let inner = Inner { options, pool: Pool::default(), connections: TaskTracker::new() };
        Self { inner: Arc::new(inner) }
    }

    /// The limits on waiting.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.inner.options.timeouts
    }

    /// Makes sure that a verified connection to the authority stands, for a request to follow.
    ///
    /// # Errors
    /// [`ConnectError`] with the cause in words fit for a reason phrase.
    pub async fn verify(&self, authority: &Authority) -> Result<(), ConnectError> {
        if !self.inner.pool.has(authority) {
            let connection = self.connect(authority, None).await?;
            self.inner.pool.put(authority, connection);
        }
        Ok(())
    }

    /// A bare TCP connection to the authority, for a tunnel.
    ///
    /// # Errors
    /// [`ConnectError`] if none can be had.
    pub async fn tunnel(&self, authority: &Authority) -> Result<TcpStream, ConnectError> {
        // A tunnel is asked for by CONNECT, whatever goes through it.
        let authority = Authority { scheme: Scheme::Https, ..authority.clone() };
        self.reach(&authority, None).await.map(|reached| reached.stream)
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
        let lookup = tokio::net::lookup_host((authority.host.as_str(), authority.port));
        let mut found = timeout(RESOLVED_IN, lookup).await.ok()?.ok()?.peekable();
        let address = found.peek()?.ip();
        let inside = found.all(|address| AddressClass::of(address.ip()) != AddressClass::Network);
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
        let bodiless =
            matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_end_stream();
        let again = bodiless.then(|| repeat(&request));
        let head_limit = bodiless.then_some(self.timeouts().head);
        if let Some(connection) = self.inner.pool.take(&authority, registry) {
            let class = connection.class;
            let refused = match self.exchange(&authority, connection, request, head_limit).await {
                Ok(response) => return Ok((response, class)),
                Err(refused) => *refused,
            };
            request = match (refused.unsent, again) {
                (Some(unsent), _) => unsent,
                (None, Some(again)) if refused.used && !refused.error.is_timeout() => again,
                _ => return Err(refused.error),
            };
        }
        let connection = self.connect(&authority, registry).await?;
        let class = connection.class;
        let answer = self.exchange(&authority, connection, request, head_limit).await;
        answer.map(|response| (response, class)).map_err(|refused| refused.error)
    }

    /// Closes idle connections and waits for those in use.
    pub async fn close(&self) {
        self.inner.pool.clear();
        self.inner.connections.close();
        self.inner.connections.wait().await;
    }

    async fn connect(
        &self,
        authority: &Authority,
        registry: Option<AddressClass>,
    ) -> Result<Connection, ConnectError> {
        if self.inner.connections.is_closed() {
            return Err(ConnectError::Closing);
        }
        let trust = (self.inner.options.trust)(authority);
        let Reached { stream, class, upstream } = self.reach(authority, registry).await?;
        let wire = secure(stream, authority, &trust, self.timeouts()).await?;
        let insecure = trust.insecure && authority.scheme == Scheme::Https;
        let (sender, driver) =
            http1::Builder::new().max_buf_size(512 << 10).handshake(TokioIo::new(wire)).await.map_err(
                |error| ConnectError::Connect {
                    host_port: authority.host_port(),
                    source: std::io::Error::other(error),
                },
            )?;
        let host_port = authority.host_port();
        self.inner.connections.spawn(async move {
            if let Err(error) = driver.await {
                debug!(origin = host_port, "connection ended: {}", cause(&error));
            }
        });
        let mut connection = Connection::new(sender, class, insecure);
        connection.upstream = upstream.map(|via| via.login);
        Ok(connection)
    }

    async fn reach(
        &self,
        authority: &Authority,
        registry: Option<AddressClass>,
    ) -> Result<Reached, ConnectError> {
        reach(authority, registry, self.timeouts(), self.inner.options.upstream.as_ref()).await
    }

    async fn exchange(
        &self,
        authority: &Authority,
        mut connection: Connection,
        mut request: Request<Body>,
        head_limit: Option<Duration>,
    ) -> Result<Response<Incoming>, Box<Refused>> {
        if let Some(login) = &connection.upstream {
            address_to_proxy(&mut request, authority, login.as_ref());
        }
        (self.inner.options.observe)(connection.insecure);
        let bound = binds_connection(request.headers());
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
                // Who such a connection belongs to was decided on it; it is nobody else's.
                if !bound && !binds_connection(response.headers()) {
                    self.inner.pool.put(authority, connection);
                }
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
        f.debug_struct("OriginClient").field("timeouts", self.timeouts()).finish_non_exhaustive()
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
    let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
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

/// The same request once more; it must have no body.
fn repeat(request: &Request<Body>) -> Request<Body> {
    let mut again = Request::new(empty_body());
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    again
}
