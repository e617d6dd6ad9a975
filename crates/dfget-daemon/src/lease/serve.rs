//! The socket that leases are asked for by, and the life of each.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dfget_lease::{FromDaemon, Grant, Inbox, LeaseRequest, PROTOCOL, Peer, Sources, Spared, ToDaemon};
use dfget_origin::OriginClient;
use dfget_proxy::{Admission, Entrance, Proxy, ProxyLogin};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketType, sockopt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::signers::{Configured, Opened, Signers};
use super::{look, spread};
use crate::cluster::{Spreader, Survey};

/// How long somebody who connects may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often the daemon looks whether a command without its holder still runs.
const ORPHAN_CHECK: Duration = Duration::from_millis(250);

/// All leases of the daemon. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Leases {
    inner: Arc<Inner>,
}

struct Inner {
    proxy: Proxy,
    origin: OriginClient,
    signers: Signers,
    /// Where the store is; or why there is none.
    store: Result<String, String>,
    /// The cluster that the daemon belongs to, if it does.
    cluster: OnceLock<(Survey, Option<Spreader>)>,
    held: watch::Sender<usize>,
    tracker: TaskTracker,
    closing: CancellationToken,
}

/// Counts as a lease from the first byte on.
struct Held(Leases);

// === impl Leases ===

impl Leases {
    pub(crate) fn new(
        proxy: Proxy,
        origin: OriginClient,
        signers: Signers,
        store: Result<String, String>,
    ) -> Self {
        let inner = Inner {
            proxy,
            origin,
            signers,
            store,
            cluster: OnceLock::new(),
            held: watch::Sender::new(0),
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Answers questions about this cluster from now on.
    pub(crate) fn know_cluster(&self, survey: Survey, spreader: Option<Spreader>) {
        let _ = self.inner.cluster.set((survey, spreader));
    }

    /// Gives leases until the daemon ends.
    pub(crate) async fn serve(&self, listener: &UnixListener) {
        loop {
            let accepted = tokio::select! {
                () = self.inner.closing.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let held = Held::take(self);
                    self.inner.tracker.spawn(async move { held.serve(stream).await });
                }
                Err(error) => {
                    warn!("cannot take a request for a lease: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Gives new leases by another configuration; those there are go on as they began.
    pub(crate) fn reconfigure(&self, configured: Configured) {
        if let Signers::Configured(current) = &self.inner.signers {
            current.store(Arc::new(configured));
        }
    }

    /// How many leases there are.
    pub(crate) fn held(&self) -> usize {
        *self.inner.held.borrow()
    }

    /// Returns when there has been no lease for `limit`.
    pub(crate) async fn unused(&self, limit: Duration) {
        let mut held = self.inner.held.subscribe();
        loop {
            if held.wait_for(|held| *held == 0).await.is_err() {
                return;
            }
            let used = tokio::time::timeout(limit, held.wait_for(|held| *held > 0)).await;
            if used.is_err() {
                return;
            }
        }
    }

    /// Ends all leases.
    pub(crate) async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }

    async fn grant(
        &self,
        request: &LeaseRequest,
        mut descriptors: Vec<OwnedFd>,
    ) -> Result<(Grant, Arc<Entrance>), String> {
        if request.protocol != PROTOCOL {
            let (theirs, version) = (request.protocol, &request.version);
            return Err(format!(
                "it speaks version {PROTOCOL} of the lease protocol and dfget {version} speaks {theirs}; \
                 end the older one when its commands have ended, and the next command starts a new one"
            ));
        }
        if request.secret.len() < 16 {
            return Err("the lease has no secret to be told apart by".to_owned());
        }
        let listener = descriptors.pop().ok_or("no listening socket came along")?;
        let listener =
            listening(listener).map_err(|error| format!("the listening socket cannot be used: {error}"))?;
        let opened = self.inner.signers.open(request, &self.inner.origin).await?;
        let Opened { hijack, rules, targets, hosts, authorities, mut notes } = opened;
        // Before the first connection is taken: the command's programs would break it off.
        if !request.trusts.is_empty() && authorities.iter().any(|ours| !request.trusts.contains(ours)) {
            return Err("its authorities are not those that the command began with".to_owned());
        }
        let entrance = Arc::new(Entrance {
            admission: Admission { login: Some(ProxyLogin::basic("lease", &request.secret)), targets },
            rules,
            hijack: Some(hijack),
            lenient: true,
            ..Entrance::default()
        });
        self.inner.proxy.spawn_serve(listener, Arc::clone(&entrance));
        let store = match &self.inner.store {
            Ok(place) => Some(place.clone()),
            Err(reason) => {
                notes.push(format!("no cache: {reason}"));
                None
            }
        };
        let grant = Grant {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            hosts,
            authorities,
            store,
            notes,
        };
        Ok((grant, entrance))
    }
}

/// Ends each connection at once, where no lease is to be had: who asks then need not wait to learn it.
pub(crate) async fn refuse(listener: &UnixListener) {
    loop {
        if let Err(error) = listener.accept().await {
            warn!("cannot refuse a request for a lease: {error}");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

// === impl Held ===

impl Held {
    fn take(leases: &Leases) -> Self {
        leases.inner.held.send_modify(|held| *held += 1);
        Self(leases.clone())
    }

    async fn serve(self, stream: UnixStream) {
        let peer = Peer::of(&stream).map_or_else(
            |error| error.to_string(),
            |peer| format!("process {} of user {}", peer.pid, peer.uid),
        );
        let mut inbox = Inbox::default();
        let first = tokio::time::timeout(PATIENCE, dfget_lease::next(&stream, &mut inbox)).await;
        let (request, descriptors) = match first {
            Ok(Ok(Some((ToDaemon::Lease(request), descriptors)))) => (request, descriptors),
            Ok(Ok(Some((ToDaemon::Look(wanted), _)))) => {
                let Inner { proxy, store, .. } = &*self.0.inner;
                let answer = look::answer(&wanted, Peer::of(&stream).ok(), proxy.store(), store);
                let _ = dfget_lease::send(&stream, &answer, &[]);
                return;
            }
            Ok(Ok(Some((ToDaemon::Cluster, _)))) => {
                self.tell_of_cluster(&stream).await;
                return;
            }
            Ok(Ok(Some((ToDaemon::Spread(wanted), _)))) => {
                let spreader = self.0.inner.cluster.get().and_then(|(_, spreader)| spreader.as_ref());
                let spreading = spread::answer(&stream, inbox, &wanted, spreader);
                let _ = self.0.inner.closing.run_until_cancelled(spreading).await;
                return;
            }
            // Somebody looked whether anybody is here.
            Ok(Ok(None)) => return,
            _ => {
                self.refuse(&stream, "this is no request for a lease".to_owned());
                return;
            }
        };
        let (grant, entrance) = match self.0.grant(&request, descriptors).await {
            Ok(granted) => granted,
            Err(reason) => {
                info!("no lease for {peer}: {reason}");
                self.refuse(&stream, reason);
                return;
            }
        };
        info!(
            "lease for {peer}: {}",
            if request.all_hosts { "all hosts".to_owned() } else { grant.hosts.join(", ") }
        );
        let closing = entrance.closing.clone().drop_guard();
        if dfget_lease::send(&stream, &FromDaemon::Granted(grant), &[]).is_ok() {
            tokio::select! {
                () = hold(&stream, &mut inbox, &entrance) => {}
                () = self.0.inner.closing.cancelled() => {}
            }
        }
        drop(closing);
        info!("lease of {peer} ended");
    }

    /// Who may use this node may know how its cluster is; of contents and users nothing is told.
    async fn tell_of_cluster(&self, stream: &UnixStream) {
        let Some((survey, _)) = self.0.inner.cluster.get() else {
            return self.refuse(stream, spread::ALONE.to_owned());
        };
        let answer = FromDaemon::Cluster(survey.look().await);
        let _ = tokio::time::timeout(PATIENCE, dfget_lease::send_long(stream, &answer)).await;
    }

    fn refuse(&self, stream: &UnixStream, reason: String) {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let _ = dfget_lease::send(stream, &FromDaemon::Refused { protocol: PROTOCOL, version, reason }, &[]);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.inner.held.send_modify(|held| *held -= 1);
    }
}

/// Waits for the end of a lease: that of the connection, and of the command where that is known.
async fn hold(stream: &UnixStream, inbox: &mut Inbox, entrance: &Entrance) {
    let mut command = None;
    loop {
        match dfget_lease::next(stream, inbox).await {
            Ok(Some((ToDaemon::Child, descriptors))) => command = descriptors.into_iter().next(),
            Ok(Some((ToDaemon::Done, _))) => {
                command = None;
                let tallied = entrance.tally.now();
                let spared = Spared {
                    tasks: tallied.tasks,
                    bytes: tallied.bytes,
                    spared_tasks: tallied.spared_tasks,
                    spared_bytes: tallied.spared_bytes,
                    sources: Some(Sources {
                        cache: tallied.cache_bytes,
                        peers: tallied.peer_bytes,
                        origin: tallied.bytes.saturating_sub(tallied.cache_bytes + tallied.peer_bytes),
                    }),
                };
                if dfget_lease::send(stream, &FromDaemon::Spared(spared), &[]).is_err() {
                    break;
                }
            }
            Ok(Some(_) | None) | Err(_) => break,
        }
    }
    // Whoever held the lease is gone without a word, but its command may still pull.
    if let Some(command) = command {
        debug!("a lease goes on without its holder until its command ends");
        while runs(&command) {
            tokio::time::sleep(ORPHAN_CHECK).await;
        }
    }
}

/// Whether the process of a pidfd still runs: it becomes readable at the end (pidfd_open(2)).
fn runs(pidfd: &OwnedFd) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&at_once)) == Ok(0)
}

/// A listening socket as it was handed over. Only one of this host's own loopback is taken: what
/// comes in there comes from nobody else's host.
fn listening(socket: OwnedFd) -> io::Result<TcpListener> {
    let wrong = |what| Err(io::Error::other(what));
    if sockopt::socket_type(&socket)? != SocketType::STREAM
        || !matches!(sockopt::socket_domain(&socket)?, AddressFamily::INET | AddressFamily::INET6)
        || !sockopt::socket_acceptconn(&socket)?
    {
        return wrong("it is no TCP socket that listens");
    }
    let listener = std::net::TcpListener::from(socket);
    if !listener.local_addr()?.ip().is_loopback() {
        return wrong("it does not listen on loopback");
    }
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
