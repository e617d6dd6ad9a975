//! The certificate that a node shows: made from the cluster's authority, renewed while it runs.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::time_provider::TimeProvider;

/// Makes certificates for one node.
pub(crate) struct Leaves {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    /// What is certified; the same for all certificates of a process.
    pub(crate) key: KeyPair,
    pub(crate) signer: Arc<dyn SigningKey>,
    /// Host names and addresses.
    pub(crate) names: Vec<String>,
    pub(crate) clock: Arc<dyn TimeProvider>,
    pub(crate) current: Mutex<Option<Current>>,
}

/// The certificate in use.
pub(crate) struct Current {
    certified: Arc<CertifiedKey>,
    /// When it was made, in seconds since 1970.
    made: u64,
}

// === impl Leaves ===

impl Leaves {
    /// One that is good now: the last one, unless it is old or from a future that the clock left.
    pub(crate) fn get(&self) -> Result<Arc<CertifiedKey>, String> {
        let now = self.clock.current_time().ok_or("the system has no time of day")?.as_secs();
        let mut current = self.current.lock();
        if let Some(current) = &*current
            && (current.made..current.made.saturating_add(RENEWAL)).contains(&now)
        {
            return Ok(Arc::clone(&current.certified));
        }
        let certified = Arc::new(self.make(now)?);
        *current = Some(Current { certified: Arc::clone(&certified), made: now });
        Ok(certified)
    }

    fn make(&self, now: u64) -> Result<CertifiedKey, String> {
        let failed = |error: rcgen::Error| error.to_string();
        let mut parameters = CertificateParams::new(self.names.clone()).map_err(failed)?;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        // The calendar of certificates ends with the year 9999.
        let at = |seconds: u64| epoch + Duration::from_secs(seconds.min(250_000_000_000));
        parameters.not_before = at(now.saturating_sub(BACKDATE));
        parameters.not_after = at(now.saturating_add(LIFETIME));
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, "dfget node");
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = parameters.signed_by(&self.key, &self.issuer).map_err(failed)?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], Arc::clone(&self.signer)))
    }

    fn for_handshake(&self) -> Option<Arc<CertifiedKey>> {
        self.get().inspect_err(|reason| tracing::error!(reason, "cannot make the cluster certificate")).ok()
    }
}

impl std::fmt::Debug for Leaves {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Leaves").field("names", &self.names).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Leaves {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.for_handshake()
    }
}

impl ResolvesClientCert for Leaves {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.for_handshake()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Clocks of other nodes may be behind ours: a day.
const BACKDATE: u64 = 86_400;
/// How long a certificate lives: 30 days.
const LIFETIME: u64 = 30 * 86_400;
/// Its age when a new one is made: 10 days.
const RENEWAL: u64 = 10 * 86_400;
