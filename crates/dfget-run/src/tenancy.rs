//! A lease for this very process: `dfget get` goes through a daemon as a command of `dfget run` does.
//!
//! The process is its own client: no environment is changed and no bundle is written. A guard watches over
//! the lease all the same, so that connections go on directly when the daemon dies.

use std::fmt;
use std::net::SocketAddr;

use dfget_lease::Spared;

use crate::bundle::Bundles;
use crate::guard::{Guard, Post};
use crate::variables::{Variables, Way};
use crate::{ClusterWish, Feeding, Options, Setting};

/// What a process wants a daemon for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Hosts to hijack, `host` or `host:port`.
    pub hosts: Vec<String>,
    /// URLs that are to be stored whatever they look like.
    pub images: Vec<String>,
    /// The nodes that feed each other; their daemon is one of its own kind.
    pub cluster: Option<ClusterWish>,
    /// Whether connections may go directly when the daemon is gone.
    pub fail_open: bool,
    /// Let a daemon that is started for this log at debug level.
    pub verbose: bool,
}

/// A proxy for this process, for as long as this value lives.
pub struct Tenancy {
    guard: Guard,
    feeding: Option<Feeding>,
    address: SocketAddr,
    secret: String,
    authorities: Vec<String>,
    notes: Vec<String>,
    warnings: Vec<String>,
}

// === impl Tenancy ===

impl Tenancy {
    /// Finds a daemon, or starts one. `lost` is told, from another thread, that the daemon has gone.
    ///
    /// It waits, up to a minute where a daemon starts badly; call it where that holds nobody up.
    ///
    /// # Errors
    /// Why there is none, for the user.
    pub fn begin(wish: Wish, variables: Variables, lost: fn(&str)) -> Result<Self, String> {
        let Wish { hosts, images, cluster, fail_open, verbose } = wish;
        let options = Options { hosts, cluster, verbose, ..Options::default() };
        let mut setting = Setting::new(options, variables).map_err(|error| error.to_string())?;
        setting.references.images = images;
        let runtime = setting.runtime()?;
        let (lease, listener, seeker) = setting.seek(runtime)?;
        let secret = seeker.request.secret.clone();
        let authorities = lease.grant.authorities.clone();
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let feeding = Feeding::of(&setting, &lease);
        let post = Post { listener, seeker, bundles: Bundles::default(), say: lost, fail_open };
        let guard = Guard::begin(lease, post).map_err(|error| error.to_string())?;
        let Setting { notes, warnings, .. } = setting;
        Ok(Self { guard, feeding, address, secret, authorities, notes, warnings })
    }

    /// The proxy with its login, as `HTTPS_PROXY` would have it.
    #[must_use]
    pub fn proxy(&self) -> String {
        format!("http://lease:{}@{}", self.secret, self.address)
    }

    /// Where the proxy listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Certificates (PEM) of the authorities that sign for hijacked hosts.
    #[must_use]
    pub fn authorities(&self) -> &[String] {
        &self.authorities
    }

    /// What was decided, and why.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the user should know.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What was handed out so far, and from where; `None` while there is no daemon to say it.
    pub async fn spared(&self) -> Option<Spared> {
        self.guard.spared().await
    }

    /// Gives the lease back. It may wait for moments; call it where that holds nobody up. In a cluster other
    /// nodes may still be fed: whoever ends at once ends that too, where Slurm ends what a step has started.
    #[must_use]
    pub fn end(self) -> Option<Feeding> {
        let _ = self.guard.finish();
        self.feeding
    }
}

impl fmt::Debug for Tenancy {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenancy").field("address", &self.address).finish_non_exhaustive()
    }
}

/// How origins are reached without a daemon: the proxy of the environment, as it was before any
/// `dfget run` around this process.
#[must_use]
pub fn own_way(variables: Variables) -> Way {
    Way::of(&crate::variables::original(variables).0)
}
