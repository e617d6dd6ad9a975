//! CONNECT: hijacked where a host matches, a blind tunnel otherwise.
//!
//! The origin of a hijacked connection is verified before the CONNECT is answered: a client must
//! never see our good certificate for an origin with a bad one, and only now can it be told why
//! not, by the reason phrase. The connection made for that is kept for the request that follows.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use dfget_core::{Authority, Scheme};
use dfget_origin::{ConnectError, Outgoing};
use dfget_telemetry::Source;
use dfget_tls::LeafCache;
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use crate::body::{ResponseBody, empty};
use crate::entrance::Entrance;
use crate::handler::Proxy;
use crate::respond;

/// How long an origin's good certificate is taken for good.
const VERIFIED_FOR: Duration = Duration::from_secs(180);

/// How long those who come for the same origin are told the same failure: as long as it takes
/// to wake those who waited.
const FAILED_FOR: Duration = Duration::from_millis(500);

/// How long a CONNECT waits for its origin where the clients could be served without it.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a client may take for its side of the handshake.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(30);

/// Encrypted bytes given to the kernel at once.
const WRITE_AT_ONCE: usize = 256 << 10;

/// How long tunnels may go on when the daemon ends.
const TUNNEL_END: Duration = Duration::from_secs(5);

/// Who signs for a host.
pub(crate) struct Signer {
    pub(crate) leaves: Arc<LeafCache>,
    /// A host that cannot be verified, or whose clients do not trust us, is tunnelled.
    pub(crate) lenient: bool,
}

impl Proxy {
    /// Answers a CONNECT; what happens inside of it goes on afterwards.
    pub(crate) async fn connect(
        &self,
        entrance: &Arc<Entrance>,
        mut request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let target = request.uri().authority().map_or("", http::uri::Authority::as_str);
        let target = match Authority::parse(Scheme::Https, target) {
            Ok(target) => target,
            Err(error) => {
                let message = format!("the CONNECT target is {error}");
                return respond::refusal(StatusCode::BAD_REQUEST, &message);
            }
        };
        if !entrance.admission.admits_target(&target) {
            return respond::target_refused(&target);
        }
        // Until the CONNECT is answered: what happens inside of it counts by itself.
        let _slot = match self.inner.slots.take().await {
            Ok(slot) => slot,
            Err(busy) => return respond::busy(&busy),
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let asked = std::mem::take(request.headers_mut());
        let answered = match self.signer(entrance, &target) {
            Some(signer) => self.hijack(entrance, signer, target, asked, upgrade).await,
            None => self.tunnel(entrance, target, &asked, upgrade).await,
        };
        answered.map_or_else(
            |error| {
                if self.is_new(format!("no way {error}")) {
                    info!("a CONNECT is refused: {error}");
                }
                respond::connect_failed(&error)
            },
            |()| Response::new(empty()),
        )
    }

    /// Who signs for the target, if its connections are opened; else says once why they are not.
    pub(crate) fn signer(&self, entrance: &Entrance, target: &Authority) -> Option<Signer> {
        let hijack = entrance.hijack.as_ref();
        let signer = match hijack.and_then(|hijack| hijack.leaves_for(target)) {
            Some(leaves) if !may_sign(&leaves, target) => {
                let reason = "lies outside of what our certificate authority is for";
                self.say_tunnelled(entrance, target, reason);
                return None;
            }
            Some(leaves) => Some(Signer { leaves, lenient: entrance.lenient }),
            // Nobody has asked us to hijack such a host: it must not be worse off for it.
            None => hijack
                .and_then(|hijack| hijack.leaves_for_tokens(target, &self.inner.realms))
                .filter(|leaves| may_sign(leaves, target))
                .map(|leaves| Signer { leaves, lenient: true }),
        };
        if signer.is_none() {
            self.say_tunnelled(entrance, target, "matches no hijackHTTPS.hosts[].regx");
        }
        signer.filter(|_| !entrance.distrust.is_told_of(&target.host))
    }

    async fn hijack(
        &self,
        entrance: &Arc<Entrance>,
        signer: Signer,
        target: Authority,
        asked: HeaderMap,
        upgrade: OnUpgrade,
    ) -> Result<(), Arc<ConnectError>> {
        match self.verify(&target, &asked).await {
            Err(error) if signer.lenient && is_untrusted(&error) => {
                info!("{error}: tunnelled, for its client to judge");
                return self.tunnel(entrance, target, &asked, upgrade).await;
            }
            verified => verified?,
        }
        let Signer { leaves, lenient } = signer;
        let config = leaves.server_config(&target.host, SystemTime::now());
        let config = config.map_err(|error| no_leaf(&target, &error.to_string()))?;
        let (proxy, entrance) = (self.clone(), Arc::clone(entrance));
        self.inner.tracker.spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            // In boxes of their own: an idle connection then holds nothing of the handshake.
            let accept = TlsAcceptor::from(config).accept(TokioIo::new(upgraded));
            let accepted = tokio::select! {
                accepted = Box::pin(timeout(HANDSHAKE, accept)) => accepted,
                () = proxy.too_late() => return,
            };
            match accepted {
                Ok(Ok(mut stream)) => {
                    stream.get_mut().1.set_buffer_limit(Some(WRITE_AT_ONCE));
                    Box::pin(proxy.serve_hijacked(&entrance, target, stream)).await;
                }
                Ok(Err(error)) => entrance.handshake_refused(&target, &error, lenient),
                Err(_) => debug!("a client began no TLS handshake for {}", target.host_port()),
            }
        });
        Ok(())
    }

    /// Makes sure that the origin is who it should be, or that its clients can do without it.
    pub(crate) async fn verify(
        &self,
        target: &Authority,
        asked: &HeaderMap,
    ) -> Result<(), Arc<ConnectError>> {
        if self.is_verified(target) {
            return Ok(());
        }
        let _turn = self.inner.verifying.take(target.clone()).await;
        // Of many clients that come at once one has verified the origin for all, or failed to.
        if self.is_verified(target) {
            return Ok(());
        }
        if let Some(error) = self.failed_lately(target) {
            return if self.inner.access.has_grace(target) && !is_untrusted(&error) {
                Ok(())
            } else {
                Err(error)
            };
        }
        let verify = self.origin().verify(target, asked);
        tokio::pin!(verify);
        let outcome = match timeout(PATIENCE, &mut verify).await {
            Ok(outcome) => outcome,
            Err(_) if self.inner.access.has_grace(target) => {
                info!("{} does not answer; going on with what is stored", target.host_port());
                let late = ConnectError::TimedOut { host_port: target.host_port(), after: PATIENCE };
                self.note_failed(target, &Arc::new(late));
                return Ok(());
            }
            Err(_) => verify.await,
        };
        match outcome {
            Ok(()) => {
                let mut verified = self.inner.verified.lock();
                verified.retain(|_, at| at.elapsed() < VERIFIED_FOR);
                verified.insert(target.clone(), Instant::now());
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                self.note_failed(target, &error);
                if !is_untrusted(&error) && self.inner.access.has_grace(target) {
                    info!("{error}; going on with what is stored");
                    return Ok(());
                }
                warn!("no connection: {error}");
                Err(error)
            }
        }
    }

    fn note_failed(&self, target: &Authority, error: &Arc<ConnectError>) {
        let mut unverified = self.inner.unverified.lock();
        unverified.retain(|_, (at, _)| at.elapsed() < FAILED_FOR);
        unverified.insert(target.clone(), (Instant::now(), Arc::clone(error)));
    }

    /// Why the origin could not be verified a moment ago: those who waited need not try again.
    fn failed_lately(&self, target: &Authority) -> Option<Arc<ConnectError>> {
        let unverified = self.inner.unverified.lock();
        let (at, error) = unverified.get(target)?;
        (at.elapsed() < FAILED_FOR).then(|| Arc::clone(error))
    }

    fn is_verified(&self, target: &Authority) -> bool {
        self.inner.verified.lock().get(target).is_some_and(|at| at.elapsed() < VERIFIED_FOR)
    }

    async fn tunnel(
        &self,
        entrance: &Arc<Entrance>,
        target: Authority,
        asked: &HeaderMap,
        upgrade: OnUpgrade,
    ) -> Result<(), Arc<ConnectError>> {
        let origin = self.origin().tunnel(&target, asked).await?;
        let (proxy, entrance) = (self.clone(), Arc::clone(entrance));
        self.inner.tracker.spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            proxy.copy(&entrance, &target, TokioIo::new(upgraded), origin).await;
        });
        Ok(())
    }

    /// Copies both ways until both sides have ended, or the daemon or the entrance does.
    pub(crate) async fn copy(
        &self,
        entrance: &Entrance,
        target: &Authority,
        mut client: impl AsyncRead + AsyncWrite + Unpin,
        mut origin: Outgoing,
    ) {
        self.metrics().served(Source::Tunnelled);
        let closing = async {
            tokio::select! {
                () = self.inner.closing.cancelled() => {}
                () = entrance.closing.cancelled() => {}
            }
            tokio::time::sleep(TUNNEL_END).await;
        };
        let copied = tokio::select! {
            copied = tokio::io::copy_bidirectional(&mut client, &mut origin) => copied,
            () = closing => return,
        };
        match copied {
            Ok((_, down)) => self.metrics().served_bytes(Source::Tunnelled, down),
            Err(error) => debug!("tunnel to {} ended: {error}", target.host_port()),
        }
    }

    /// Says once for each host that its pulls are not accelerated, and what would change that.
    fn say_tunnelled(&self, entrance: &Entrance, target: &Authority, reason: &str) {
        if entrance.lenient {
            return;
        }
        let name = target.host_port();
        if self.is_new(format!("tunnelled {name}")) {
            info!("{name} {reason}: its connections are tunnelled, nothing of them is cached");
        }
    }
}

/// Whether clients would take what is signed for the host.
fn may_sign(leaves: &LeafCache, target: &Authority) -> bool {
    let scope = leaves.authority().scope();
    scope.is_any_host() || scope.contains(&target.host)
}

/// Whether the origin answered but is not to be trusted, or must not be reached at all.
pub(crate) const fn is_untrusted(error: &ConnectError) -> bool {
    !error.is_unreachable()
}

fn no_leaf(target: &Authority, reason: &str) -> ConnectError {
    ConnectError::Tls {
        host_port: target.host_port(),
        reason: format!("no certificate for this host: {reason}"),
    }
}
