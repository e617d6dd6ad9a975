//! The two ways to an origin: through a daemon of this node, and directly.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dfget_core::{RateLimits, Share};
use dfget_origin::{Destinations, Limiter, OriginClient, OriginOptions, PerScheme, Retries, Trust, Upstream};
use dfget_run::{Tenancy, Way};
use dfget_tls::{OriginTrust, Roots, certificates_from_pem};

use crate::error::GetError;
use crate::event::{Event, Observer};

/// Clients of origins. It begins with the daemon, if there is one, and changes over at most once.
pub(crate) struct Net {
    daemon: Option<OriginClient>,
    direct: OriginClient,
    /// The daemon is not used any more.
    left: AtomicBool,
    /// It may be left: origins may be asked without it.
    may_leave: bool,
    observer: Arc<dyn Observer>,
}

// === impl Net ===

impl Net {
    /// `own`: the proxy that origins are reached through without a daemon. `rate`: bytes a second at most.
    ///
    /// # Errors
    /// The system has no cryptography that works, or the authorities of the daemon are none.
    pub(crate) fn new(
        tenancy: Option<&Tenancy>,
        own: &Way,
        rate: Option<NonZeroU64>,
        may_leave: bool,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, GetError> {
        let (roots, odd) = Roots::load(None);
        odd.iter().for_each(|line| observer.hear(Event::Note(line)));
        let limits = RateLimits { total: rate, per_task: None, share: Share::default() };
        let limiter = rate.map(|_| Limiter::new(&limits, || ()));
        let upstream = own.upstream().unwrap_or_else(|error| {
            let line = format!("HTTPS_PROXY or HTTP_PROXY cannot be used: {error}; going without");
            observer.hear(Event::Warning(&line));
            None
        });
        let direct = client(&roots, OriginTrust::default(), upstream, limiter.clone(), Retries::default())?;
        let daemon = match tenancy {
            None => None,
            Some(tenancy) => {
                let parsed = tenancy.authorities().iter().map(|pem| certificates_from_pem(pem.as_bytes()));
                let extra_roots = parsed.collect::<Result<Vec<_>, _>>().map_err(|error| {
                    GetError::Configuration(format!("the daemon's authorities cannot be used: {error}"))
                })?;
                let trust = OriginTrust { insecure: false, extra_roots: extra_roots.concat() };
                let proxy = Upstream::everywhere(&tenancy.proxy()).map_err(|error| {
                    GetError::Configuration(format!("the daemon's proxy cannot be used: {error}"))
                })?;
                // It has tried whatever can be tried; what is broken off goes on without it.
                let once = Retries { most: 1, ..Retries::default() };
                Some(client(&roots, trust, Some(proxy), limiter, once)?)
            }
        };
        Ok(Self { daemon, direct, left: AtomicBool::new(false), may_leave, observer })
    }

    /// The client to ask by now.
    pub(crate) fn client(&self) -> &OriginClient {
        self.through_daemon().unwrap_or(&self.direct)
    }

    /// The daemon's, while it is used.
    pub(crate) fn through_daemon(&self) -> Option<&OriginClient> {
        self.daemon.as_ref().filter(|_| !self.left.load(Ordering::Relaxed))
    }

    /// Something failed; returns whether there is another way to try it.
    pub(crate) fn leave_daemon(&self, why: &str) -> bool {
        let leaves = self.may_leave && self.daemon.is_some() && !self.left.swap(true, Ordering::Relaxed);
        if leaves {
            let line = format!("not through the daemon any more, but directly: {why}");
            self.observer.hear(Event::Note(&line));
        }
        leaves
    }

    pub(crate) fn observer(&self) -> &dyn Observer {
        &*self.observer
    }
}

fn client(
    roots: &Roots,
    trust: OriginTrust,
    upstream: Option<Upstream>,
    limiter: Option<Limiter>,
    retries: Retries,
) -> Result<OriginClient, GetError> {
    let config = roots
        .client_config(&trust)
        .map_err(|error| GetError::Configuration(format!("TLS cannot be set up: {error}")))?;
    let trust = Trust { config, insecure: false };
    Ok(OriginClient::new(OriginOptions {
        trust: Box::new(move |_| trust.clone()),
        timeouts: PerScheme::default(),
        upstream,
        destinations: Destinations::of_own_user(),
        budget: None,
        retries,
        prefer_ipv6: false,
        limiter,
        observe: Box::new(|_, _| {}),
        tracer: Default::default(),
    }))
}
