//! Whom to believe among origins: the system's roots, and what the configuration adds for a host.
//!
//! A broken or empty system store is no reason to refuse the start: each origin it would have
//! vouched for fails on its own, with its cause, and hosts with `certs` of their own still work.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

use crate::error::{CertificateListError, TrustError};
use crate::verifier::{NoVerification, OriginVerifier};
use crate::{pem, provider};

/// What the configuration says about one host (`insecure`, `certs`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OriginTrust {
    /// Accept any certificate of this host. The handshake's signature is still checked.
    pub insecure: bool,
    /// Trusted for this host in addition to the system's: roots, or the server's own certificate.
    pub extra_roots: Vec<CertificateDer<'static>>,
}

/// The roots of the system, read once.
#[derive(Clone)]
pub struct Roots {
    store: Arc<RootCertStore>,
    certificates: Arc<HashSet<CertificateDer<'static>>>,
}

// === impl Roots ===

impl Roots {
    /// Reads the system's store, or only what `SSL_CERT_FILE` and `SSL_CERT_DIR` name if one is
    /// set. `own` is the authority that signs for hijacked hosts: it vouches for no origin and is
    /// left out. The texts are warnings: what could not be read, a variable that was meant for
    /// clients, and an empty result.
    pub fn load(own: Option<&CertificateDer<'_>>) -> (Self, Vec<String>) {
        let found = rustls_native_certs::load_native_certs();
        let mut warnings: Vec<String> =
            found.errors.iter().map(|error| format!("system certificates: {error}")).collect();
        let all = found.certs.len();
        let certificates: Vec<_> =
            found.certs.into_iter().filter(|certificate| own != Some(certificate)).collect();
        let variable = Variable::set();
        if let (true, Some(variable)) = (certificates.len() < all, &variable) {
            warnings.push(format!(
                "{variable} holds the daemon's own authority, which is left out, for it vouches for no \
                 origin; the variable is for clients: {}",
                variable.remedy()
            ));
        }
        let (roots, refused) = Self::new(certificates);
        if refused > 0 {
            warnings.push(format!("system certificates: {refused} could not be used as roots"));
        }
        if roots.store.is_empty() {
            warnings.push(match &variable {
                Some(variable) => format!(
                    "{variable} holds no authority of origins, so none can be verified but those with \
                     `certs` of their own; {}, or name the system's (Debian: \
                     /etc/ssl/certs/ca-certificates.crt)",
                    variable.remedy()
                ),
                None => "system certificates: none found, so no origin can be verified; install the \
                         package ca-certificates, or set SSL_CERT_FILE for the daemon"
                    .to_owned(),
            });
        }
        (roots, warnings)
    }

    /// Exactly these roots; also how many of them could not be parsed as one.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> (Self, usize) {
        let mut store = RootCertStore::empty();
        let (_, refused) = store.add_parsable_certificates(certificates.iter().cloned());
        let roots =
            Self { store: Arc::new(store), certificates: Arc::new(certificates.into_iter().collect()) };
        (roots, refused)
    }

    /// How to speak TLS with an origin: TLS 1.2 and 1.3, `http/1.1` only, its certificate verified
    /// as `trust` says. Sessions are resumed through the configuration, so keep one for each host.
    ///
    /// # Errors
    /// [`TrustError::BadRoot`]: one of `extra_roots` cannot be a root.
    pub fn client_config(&self, trust: &OriginTrust) -> Result<Arc<ClientConfig>, TrustError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TrustError::Setup)?
            .dangerous();
        let builder = if trust.insecure {
            builder.with_custom_certificate_verifier(Arc::new(NoVerification))
        } else {
            builder.with_custom_certificate_verifier(Arc::new(self.verifier(&trust.extra_roots)?))
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn verifier(&self, extra_roots: &[CertificateDer<'static>]) -> Result<OriginVerifier, TrustError> {
        let mut store = Arc::clone(&self.store);
        for (index, root) in extra_roots.iter().enumerate() {
            Arc::make_mut(&mut store).add(root.clone()).map_err(|error| TrustError::BadRoot {
                number: index + 1,
                reason: crate::describe(&error),
            })?;
        }
        let chain = match WebPkiServerVerifier::builder_with_provider(store, provider()).build() {
            Ok(verifier) => Some(verifier),
            Err(VerifierBuilderError::NoRootAnchors) => None,
            Err(other) => {
                return Err(TrustError::Setup(rustls::Error::General(other.to_string())));
            }
        };
        Ok(OriginVerifier {
            chain,
            exact: Arc::clone(&self.certificates),
            extra: extra_roots.iter().cloned().collect(),
        })
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Roots").field("certificates", &self.certificates.len()).finish()
    }
}

/// A variable of the environment that names the roots in place of the system's store.
struct Variable {
    name: &'static str,
    value: String,
}

// === impl Variable ===

impl Variable {
    /// The first that is set.
    fn set() -> Option<Self> {
        ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().find_map(|name| {
            let value = std::env::var_os(name)?.to_string_lossy().into_owned();
            Some(Self { name, value })
        })
    }

    fn remedy(&self) -> String {
        format!("start the daemon without it (`env -u {} dfget daemon`)", self.name)
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.name, self.value)
    }
}

/// The certificates of one PEM file of `certs`, in order; at least one.
///
/// # Errors
/// [`TrustError::Unreadable`] and [`TrustError::Invalid`], both with the path.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let text =
        std::fs::read(path).map_err(|source| TrustError::Unreadable { path: path.to_owned(), source })?;
    certificates_from_pem(&text).map_err(|reason| TrustError::Invalid { path: path.to_owned(), reason })
}

/// The certificates of a PEM text, in order; at least one. Other blocks are ignored.
///
/// # Errors
/// [`CertificateListError`]: no PEM, no certificate in it, or a broken one.
pub fn certificates_from_pem(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateListError> {
    pem::certificates(text)
}
