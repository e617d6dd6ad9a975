//! The certificates shown to clients, made on demand and kept for a while.
//!
//! A pull opens several connections to one host, so the first makes the leaf and the others find
//! it. At most [`CAPACITY`] hosts are kept; the one unused for longest goes first. A leaf is made
//! outside of the lock: two connections that miss at the same moment both make one, either will do.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::authority::CertificateAuthority;
use crate::error::LeafError;
use crate::host::HostName;
use crate::leaf::{self, Leaf};
use crate::{instant, provider};

/// One ready TLS server configuration for each host, signed by one CA.
pub struct LeafCache {
    authority: Arc<CertificateAuthority>,
    key: Arc<dyn SigningKey>,
    public_key_info: Vec<u8>,
    entries: Mutex<Entries>,
}

/// The cached configurations. `uses` counts up with every use and so orders them.
#[derive(Default)]
struct Entries {
    by_host: HashMap<HostName, Entry>,
    uses: u64,
}

struct Entry {
    config: Arc<ServerConfig>,
    not_before: Timestamp,
    renew_at: Timestamp,
    last_use: u64,
}

// === impl LeafCache ===

impl LeafCache {
    /// An empty cache. Draws the one ECDSA P-256 key of all leaves, which lives in memory only.
    ///
    /// # Errors
    /// [`LeafError::Cryptography`]: no key could be made.
    pub fn new(authority: Arc<CertificateAuthority>) -> Result<Self, LeafError> {
        let failed = || LeafError::Cryptography { operation: "make the key of the leaves" };
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| failed())?;
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| failed())?;
        let private = pair.to_pkcs8v1().map_err(|_| failed())?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(private.as_ref()));
        Ok(Self {
            authority,
            key: any_ecdsa_type(&private).map_err(|_| failed())?,
            public_key_info: public.as_ref().to_vec(),
            entries: Mutex::default(),
        })
    }

    /// The TLS server configuration for `host`, a DNS name (any case, a final dot is dropped) or an
    /// IP address (IPv6 with or without brackets), without a port.
    ///
    /// TLS 1.2 and 1.3, `http/1.1` preferred to `h2`, neither session tickets nor early data. The
    /// leaf is valid at `now` and for at least an hour more, unless its CA ends before.
    ///
    /// # Errors
    /// [`LeafError::InvalidHost`], [`LeafError::CaExpired`] and [`LeafError::CaNotYetValid`] by
    /// cause; the others mean that the cryptographic library failed.
    pub fn server_config(&self, host: &str, now: SystemTime) -> Result<Arc<ServerConfig>, LeafError> {
        let host = HostName::parse(host)?;
        let now = instant::from_system(now);
        if let Some(config) = self.entries.lock().find(&host, now) {
            return Ok(config);
        }
        let leaf = leaf::mint(&self.authority, &self.public_key_info, &host, now)?;
        let config = self.configure(&leaf, &host)?;
        self.entries.lock().insert(host, &leaf, Arc::clone(&config));
        Ok(config)
    }

    /// The CA that signs.
    pub fn authority(&self) -> &Arc<CertificateAuthority> {
        &self.authority
    }

    fn configure(&self, leaf: &Leaf, host: &HostName) -> Result<Arc<ServerConfig>, LeafError> {
        let mut chain = vec![leaf.certificate.clone()];
        chain.extend_from_slice(self.authority.chain());
        let certified = CertifiedKey::new(chain, Arc::clone(&self.key));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|source| LeafError::Unusable { host: host.to_string(), source })?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for LeafCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LeafCache")
            .field("authority", &self.authority)
            .field("hosts", &self.entries.lock().by_host.len())
            .finish_non_exhaustive()
    }
}

// === impl Entries ===

impl Entries {
    fn find(&mut self, host: &HostName, now: Timestamp) -> Option<Arc<ServerConfig>> {
        self.uses += 1;
        let entry = self.by_host.get_mut(host)?;
        if now < entry.not_before || now >= entry.renew_at {
            return None;
        }
        entry.last_use = self.uses;
        Some(Arc::clone(&entry.config))
    }

    fn insert(&mut self, host: HostName, leaf: &Leaf, config: Arc<ServerConfig>) {
        if self.by_host.len() >= CAPACITY && !self.by_host.contains_key(&host) {
            let oldest = self.by_host.iter().min_by_key(|(_, entry)| entry.last_use);
            if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
                self.by_host.remove(&oldest);
            }
        }
        let (not_before, renew_at) = (leaf.not_before, leaf.renew_at);
        self.by_host.insert(host, Entry { config, not_before, renew_at, last_use: self.uses });
    }
}

/// More hosts than any site hijacks; a bound for what clients can make us keep.
const CAPACITY: usize = 1024;
