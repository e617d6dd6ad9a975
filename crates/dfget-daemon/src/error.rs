//! Why the daemon does not start, or does not go on.

use std::io;
use std::path::PathBuf;

use dfget_config::{ConfigErrors, Listen};
use dfget_storage::StoreError;
use dfget_telemetry::logging::LogError;
use dfget_tls::{CaError, CertificateListError, LeafError, ListenerError, PairError, TrustError};

/// Why the daemon does not run. Each text says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store belongs to somebody else.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A PEM file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    PemFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pair of `hijackHTTPS.cert` and `key` cannot sign certificates.
    #[error("hijackHTTPS.cert ({cert}), hijackHTTPS.key ({key}): {source}")]
    Ca {
        /// Where the certificate is from.
        cert: String,
        /// Where the key is from.
        key: String,
        /// Why.
        source: CaError,
    },
    /// The proxy's own port cannot speak TLS.
    #[error("proxy.security.cert ({cert}), proxy.security.key ({key}): {source}")]
    Listener {
        /// Where the certificate is from.
        cert: String,
        /// Where the key is from.
        key: String,
        /// Why.
        source: ListenerError,
    },
    /// Our own authority cannot be used, or not be made.
    #[error("the certificate authority of the hijack: {0}")]
    Pair(#[from] PairError),
    /// The hosts that are spelled out are none that an authority can be for.
    #[error("hijackHTTPS.hosts: {0}; spell them out, or make an authority by `dfget ca create --host HOST`")]
    Scope(#[source] LeafError),
    /// No leaf key can be made.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// `hijackHTTPS.hosts[].certs` cannot be used.
    #[error("hijackHTTPS.hosts[{host}].certs: {source}")]
    HostCertificates {
        /// Which entry of `hosts`, from 0.
        host: usize,
        /// Why.
        source: TrustError,
    },
    /// The same, for certificates that stand in the configuration itself.
    #[error("hijackHTTPS.hosts[{host}].certs: {source}")]
    InlineCertificates {
        /// Which entry of `hosts`, from 0.
        host: usize,
        /// Why.
        source: CertificateListError,
    },
    /// `certs` of a registry that is mirrored cannot be used.
    #[error("certs of the mirror of {registry}: {source}")]
    MirrorCertificates {
        /// Which.
        registry: String,
        /// Why.
        source: RootsError,
    },
    /// `tracing.caCert` cannot be used.
    #[error("tracing.caCert: {0}")]
    CollectorRoots(#[source] RootsError),
    /// No origin could be verified at all.
    #[error(transparent)]
    Trust(TrustError),
    /// None of the ports is free.
    #[error(
        "cannot listen on {listen} for the {what}: {source}; stop what has the port \
         (`ss -ltnp` shows it), or set `{key}` to another"
    )]
    Port {
        /// Where.
        listen: Listen,
        /// What for.
        what: &'static str,
        /// The key to change.
        key: &'static str,
        /// Why.
        source: io::Error,
    },
    /// What was downloaded last could not be made durable.
    #[error(
        "the last downloads may be lost: {source}; look at the disk's free space (`df {}`) before the \
         next start",
        dir.display()
    )]
    Flush {
        /// The directory of the store.
        dir: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// Threads, signals.
    #[error("the system refuses what the daemon needs to run: {0}")]
    System(#[from] io::Error),
}

/// Why certificates to be trusted cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// Those of a file, or all together.
    #[error(transparent)]
    File(#[from] TrustError),
    /// Those that stand in the configuration itself.
    #[error(transparent)]
    Inline(#[from] CertificateListError),
}

impl RunError {
    /// What the process is to exit with: 78 for what the configuration's author has to mend,
    /// 1 for the rest.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::PemFile { .. }
            | Self::Ca { .. }
            | Self::Listener { .. }
            | Self::Scope(_)
            | Self::HostCertificates { .. }
            | Self::InlineCertificates { .. }
            | Self::MirrorCertificates { .. }
            | Self::CollectorRoots(_) => ConfigErrors::EXIT_CODE,
            Self::Pair(PairError::Create(_) | PairError::Io { .. }) => 1,
            Self::Pair(_) => ConfigErrors::EXIT_CODE,
            Self::Log(_)
            | Self::Store(_)
            | Self::Leaf(_)
            | Self::Trust(_)
            | Self::Port { .. }
            | Self::Flush { .. }
            | Self::System(_) => 1,
        }
    }
}
