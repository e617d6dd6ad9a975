//! A way into the proxy: who may come through it, what is hijacked there, what becomes a task.
//!
//! One proxy may have several: the port of the configuration, and one for each lease. All share
//! the tasks, the store and what is known of origins; nothing else.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use dfget_core::{Authority, Rule};
use dfget_tls::LeafCache;
use parking_lot::Mutex;
use regex::Regex;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admission::Admission;
use crate::mirror::Mirrors;
use crate::realms::Realms;

/// What holds for the clients that come by one listener.
#[derive(Debug, Default)]
pub struct Entrance {
    /// Who may come in, and where to.
    pub admission: Admission,
    /// What becomes a task, in order (`proxies`).
    pub rules: Vec<Rule>,
    /// Which registries are served to clients that take the port for one.
    pub mirrors: Mirrors,
    /// Whose connections are opened; `None` = every CONNECT is a blind tunnel.
    pub hijack: Option<Arc<Hijack>>,
    /// Clients speak TLS to the listener itself; `None` = plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// A host that cannot be verified, or whose clients do not trust us, is tunnelled instead of
    /// refused: the client then judges its certificate itself.
    pub lenient: bool,
    /// What was handed out to the clients.
    pub tally: Arc<Tally>,
    /// Cancelled when no connection is to be taken any more.
    pub closing: CancellationToken,
    /// Hosts whose clients refused our certificate; told by a lenient entrance alone.
    pub distrust: Arc<Distrust>,
    /// What has taken its place, for those who have held it since before.
    pub latest: Arc<Successor>,
}

/// What has taken the place of an entrance, if something has.
#[derive(Default)]
pub struct Successor(ArcSwapOption<Entrance>);

/// Which hosts are hijacked, and who signs for them.
pub struct Hijack {
    signer: Signer,
    /// Signs for hosts that hijacked registries have their tokens from.
    token_hosts: Option<Arc<LeafCache>>,
}

type Signer = Box<dyn Fn(&Authority) -> Option<Arc<LeafCache>> + Send + Sync>;

/// Hosts whose clients do not trust our authority.
#[derive(Debug, Default)]
pub struct Distrust {
    hosts: Mutex<HashSet<String>>,
}

/// Counts of one entrance.
#[derive(Debug, Default)]
pub struct Tally {
    tasks: AtomicU64,
    bytes: AtomicU64,
    spared_tasks: AtomicU64,
    spared_bytes: AtomicU64,
    cache_bytes: AtomicU64,
    peer_bytes: AtomicU64,
}

/// A [`Tally`] at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tallied {
    /// Contents handed out, whole or in part.
    pub tasks: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// How many of them no request of these clients fetched: stored before, or fetched for others.
    pub spared_tasks: u64,
    /// Bytes of these.
    pub spared_bytes: u64,
    /// Bytes of contents that were whole in the store before.
    pub cache_bytes: u64,
    /// Bytes that other nodes have sent for the contents handed out.
    pub peer_bytes: u64,
}

/// In a response's extensions: the count of bytes that other nodes have sent for it so far.
#[derive(Clone, Debug)]
pub(crate) struct FromPeers(pub(crate) Arc<AtomicU64>);

/// Marks a response whose bytes were not fetched for its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spared;

// === impl Entrance ===

impl Entrance {
    /// Puts `next` in its place: requests that come from now on, on old connections too, are
    /// answered by that. The listener, the counts and the end stay what they are.
    pub fn replace(&self, next: Self) {
        let next = Self {
            lenient: self.lenient,
            tally: Arc::clone(&self.tally),
            closing: self.closing.clone(),
            distrust: Arc::clone(&self.distrust),
            latest: Arc::clone(&self.latest),
            ..next
        };
        self.latest.0.store(Some(Arc::new(next)));
    }

    /// What holds now: the entrance itself, or what has taken its place.
    pub(crate) fn current(self: &Arc<Self>) -> Arc<Self> {
        self.latest.0.load_full().unwrap_or_else(|| Arc::clone(self))
    }

    /// A client broke the handshake off. One that does not know our authority never will, so its
    /// host is tunnelled from now on where that is allowed.
    pub(crate) fn handshake_refused(&self, target: &Authority, error: &std::io::Error, lenient: bool) {
        let host_port = target.host_port();
        if lenient && refuses_authority(error) {
            self.distrust.hosts.lock().insert(target.host.clone());
            info!("a client does not trust our authority for {host_port}: it is tunnelled from now on");
        } else {
            info!(
                "a client does not finish the TLS handshake for {host_port}: {error}; does it trust our CA \
                 (SSL_CERT_FILE)?"
            );
        }
    }
}

impl fmt::Debug for Successor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Itself is within.
        f.debug_tuple("Successor").field(&self.0.load().is_some()).finish()
    }
}

// === impl Distrust ===

impl Distrust {
    pub(crate) fn is_told_of(&self, host: &str) -> bool {
        self.hosts.lock().contains(host)
    }
}

/// Whether a handshake ended with the alert of a client that does not know the authority.
fn refuses_authority(error: &std::io::Error) -> bool {
    use rustls::AlertDescription::{BadCertificate, CertificateUnknown, UnknownCA};
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::AlertReceived(BadCertificate | CertificateUnknown | UnknownCA)))
}

// === impl Hijack ===

impl Hijack {
    /// Hijacks the hosts for which `signer` has certificates.
    #[must_use]
    pub fn new(signer: impl Fn(&Authority) -> Option<Arc<LeafCache>> + Send + Sync + 'static) -> Self {
        Self { signer: Box::new(signer), token_hosts: None }
    }

    /// Hijacks the hosts in whose `host:port` one of the patterns is found (`hosts[].regx`), and with
    /// `token_hosts` those too that these name in their challenges.
    #[must_use]
    pub fn matching(hosts: Vec<Regex>, leaves: impl Into<Arc<LeafCache>>, token_hosts: bool) -> Self {
        let leaves = leaves.into();
        let for_tokens = token_hosts.then(|| Arc::clone(&leaves));
        let hijack = Self::new(move |authority| {
            let name = authority.host_port();
            hosts.iter().any(|regx| regx.is_match(&name)).then(|| Arc::clone(&leaves))
        });
        Self { token_hosts: for_tokens, ..hijack }
    }

    /// Who signs for a host that a registry of `realms`, itself hijacked, has its tokens from.
    pub(crate) fn leaves_for_tokens(&self, host: &Authority, realms: &Realms) -> Option<Arc<LeafCache>> {
        let leaves = self.token_hosts.as_ref()?;
        let mut registries = realms.registries_of(host).into_iter();
        registries.any(|registry| self.leaves_for(&registry).is_some()).then(|| Arc::clone(leaves))
    }

    pub(crate) fn leaves_for(&self, authority: &Authority) -> Option<Arc<LeafCache>> {
        (self.signer)(authority)
    }
}

impl fmt::Debug for Hijack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hijack").finish_non_exhaustive()
    }
}

// === impl Tally ===

impl Tally {
    /// What has been counted so far.
    #[must_use]
    pub fn now(&self) -> Tallied {
        Tallied {
            tasks: self.tasks.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            spared_tasks: self.spared_tasks.load(Ordering::Relaxed),
            spared_bytes: self.spared_bytes.load(Ordering::Relaxed),
            cache_bytes: self.cache_bytes.load(Ordering::Relaxed),
            peer_bytes: self.peer_bytes.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn count_task(&self, spared: bool) {
        self.tasks.fetch_add(1, Ordering::Relaxed);
        self.spared_tasks.fetch_add(u64::from(spared), Ordering::Relaxed);
    }

    pub(crate) fn count_bytes(&self, bytes: u64, spared: bool) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if spared {
            self.spared_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_from_cache(&self, bytes: u64) {
        self.cache_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_from_peers(&self, bytes: u64) {
        self.peer_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
