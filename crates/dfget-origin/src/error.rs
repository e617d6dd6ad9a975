//! What can go wrong on the way to an origin, in words for the client and for the log.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use http::StatusCode;

use crate::budget::Reason;
use crate::redirect::RedirectError;

/// Why no connection to an origin stands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name has no address.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name asked for.
        host: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// No address of the host takes the connection.
    #[error("cannot connect to {host_port}: {source}")]
    Connect {
        /// Where to.
        host_port: String,
        /// The last address' refusal.
        source: io::Error,
    },
    /// Name, address or handshake took too long.
    #[error("{host_port} did not answer within {} s", .after.as_secs())]
    TimedOut {
        /// Where to.
        host_port: String,
        /// How long was waited.
        after: Duration,
    },
    /// The TLS handshake failed: an unverified certificate, or no TLS at all.
    #[error("{host_port}: {reason}")]
    Tls {
        /// Where to.
        host_port: String,
        /// The cause in plain words.
        reason: String,
    },
    /// A redirect led to an address that it must not lead to.
    #[error(
        "refused to follow a redirect to {host_port} ({address}): loopback, link-local and metadata addresses are not for registries to name; allow it by download.redirects.allow"
    )]
    Forbidden {
        /// Where to.
        host_port: String,
        /// The address found.
        address: IpAddr,
    },
    /// A client named a registry at an address that it must not name.
    #[error(
        "{host_port} ({address}) is not for a client to name: loopback, link-local and metadata addresses are \
         served only where the configuration names them (`registryMirror.url`, `extraRegistryMirrors`)"
    )]
    NotForClients {
        /// What was named.
        host_port: String,
        /// The address found.
        address: IpAddr,
    },
    /// The target stands at an address that clients must not reach through us.
    #[error(
        "{host_port} leads to {address}, and loopback, link-local and metadata addresses are not to be reached through this proxy; if this one is, name it by `host` in whiteList"
    )]
    Refused {
        /// Where to.
        host_port: String,
        /// The address found.
        address: IpAddr,
    },
    /// The site's proxy cannot be reached, or opens no way.
    #[error("the site's proxy {proxy} gives no way to {host_port}: {reason}")]
    SiteProxy {
        /// Host and port of the proxy.
        proxy: String,
        /// Where to.
        host_port: String,
        /// The cause in plain words.
        reason: String,
    },
    /// The way leads back to ourselves.
    #[error(
        "{host_port} leads back to this proxy{through}; point HTTPS_PROXY, download.resourceClients, the redirects of `proxies` and the hosts file at something else"
    )]
    Loop {
        /// Where to.
        host_port: String,
        /// By whom, if not directly: ` through …`.
        through: String,
    },
    /// The daemon ends.
    #[error("the daemon is shutting down")]
    Closing,
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke, or what came over it was not HTTP.
    #[error("{host_port}: {reason}")]
    Http {
        /// Who.
        host_port: String,
        /// The cause in plain words.
        reason: String,
    },
    /// The URL cannot be asked for.
    #[error("a request to {place} cannot be sent: its host is no name that a certificate could be for")]
    Target {
        /// Scheme and host of the URL: the rest may hold credentials.
        place: String,
    },
    /// No answer in time.
    #[error("{host_port} sent no answer within {} s", .after.as_secs())]
    TimedOut {
        /// Who.
        host_port: String,
        /// How long was waited.
        after: Duration,
    },
    /// A redirect to a host that may not be reached.
    #[error("{from} redirects to {to}, which is not in the whiteList of this proxy")]
    NotAdmitted {
        /// Who redirects.
        from: String,
        /// Whereto.
        to: String,
    },
    /// A redirect that is not followed.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// The origin is left alone for a while.
    #[error("{host_port} {}; asked again in {} s", said(.reason), whole_seconds(.wait))]
    Resting {
        /// Who.
        host_port: String,
        /// How long still.
        wait: Duration,
        /// Why.
        reason: Reason,
    },
}

/// Why a content's stream ended before its end.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The credential that the stream was begun with is no longer accepted.
    #[error("the origin answers {0} to the request that continues the download")]
    Denied(StatusCode),
    /// The origin has another content now.
    #[error("the origin's content changed during the download: {0}")]
    Changed(String),
    /// Too many tries in a row brought no byte.
    #[error("gave up after {attempts} tries without progress: {last}")]
    GaveUp {
        /// How many.
        attempts: u32,
        /// The last one's failure.
        last: String,
    },
    /// What came cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// What kind of failure it is that a client is told of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The origin is not there, or not as it should be (502).
    Bad,
    /// Time ran out (504).
    Late,
    /// The client must not go there (403).
    Refused,
    /// The way leads back here (508).
    Loop,
}

// === impl ConnectError ===

impl ConnectError {
    /// What kind of failure it is.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::TimedOut { .. } => Verdict::Late,
            Self::Refused { .. } | Self::NotForClients { .. } => Verdict::Refused,
            Self::Loop { .. } => Verdict::Loop,
            _ => Verdict::Bad,
        }
    }

    /// Whether the origin could not be reached, as opposed to being there and not to be trusted, or
    /// not to be reached at all.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        !matches!(
            self,
            Self::Forbidden { .. }
                | Self::NotForClients { .. }
                | Self::Refused { .. }
                | Self::Loop { .. }
                | Self::Tls { .. }
        )
    }
}

// === impl OriginError ===

impl OriginError {
    /// Whether the origin could not be reached or did not answer at all, as opposed to having
    /// answered something that cannot be used.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        match self {
            Self::Redirect(_) | Self::Target { .. } | Self::NotAdmitted { .. } => false,
            Self::Connect(error) => error.is_unreachable(),
            Self::Http { .. } | Self::TimedOut { .. } | Self::Resting { .. } => true,
        }
    }

    /// What became of a request whose host the client chose: not a redirect, but its own word led
    /// to an address that is refused.
    pub(crate) fn of_clients_choice(self) -> Self {
        match self {
            Self::Connect(ConnectError::Forbidden { host_port, address }) => {
                Self::Connect(ConnectError::NotForClients { host_port, address })
            }
            other => other,
        }
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::TimedOut { .. } => Verdict::Late,
            Self::NotAdmitted { .. } => Verdict::Refused,
            Self::Connect(error) => error.verdict(),
            _ => Verdict::Bad,
        }
    }

    /// Whether it was time that ran out.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(self.verdict(), Verdict::Late)
    }

    /// How long to wait before the origin may be asked, where that is known: in whole seconds (429).
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Resting { wait, .. } => Some(whole_seconds(wait)),
            _ => None,
        }
    }
}

const fn said(reason: &Reason) -> &'static str {
    match reason {
        Reason::Asked => "has asked for a pause (429 Too Many Requests)",
        Reason::Spent => "has had its budget of requests (download.originBudget)",
    }
}

fn whole_seconds(wait: &Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// The innermost causes of `error`, without the outer layers' repetitions.
pub(crate) fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = inner.source();
    }
    text
}
