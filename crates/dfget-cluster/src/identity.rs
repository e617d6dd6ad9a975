//! What a node shows to the others, and how it judges what they show.
//!
//! The authority is never sent nor stored: whoever has the key makes it anew, byte for byte the same.

use std::sync::Arc;

use aws_lc_rs::signature::Ed25519KeyPair;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ED25519, SerialNumber,
};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::key::ClusterKey;
use crate::leaves::Leaves;

/// TLS 1.3 under a cluster's key, towards both sides.
#[derive(Clone, Debug)]
pub struct Identity {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// The cryptographic library refused something that it should not.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {operation} for the cluster ({reason}); this is a fault of dfget: please report it")]
pub struct IdentityError {
    operation: &'static str,
    reason: String,
}

// === impl Identity ===

impl Identity {
    /// The identity of the node that goes by `names`: host names and addresses, as others dial it.
    ///
    /// # Errors
    /// [`IdentityError`]: a name that is none, or the cryptographic library fails.
    pub fn from_key(key: &ClusterKey, names: &[String]) -> Result<Self, IdentityError> {
        Self::with_clock(key, names, Arc::new(DefaultTimeProvider))
    }

    /// The same by another clock.
    ///
    /// # Errors
    /// As [`from_key`](Self::from_key).
    pub fn with_clock(
        key: &ClusterKey,
        names: &[String],
        clock: Arc<dyn TimeProvider>,
    ) -> Result<Self, IdentityError> {
        let (issuer, root) = authority(key)?;
        let own = KeyPair::generate().map_err(failed("make a key"))?;
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.serialize_der()));
        let signer = provider::sign::any_ecdsa_type(&secret).map_err(failed("take a key"))?;
        let clock_of_leaves = Arc::clone(&clock);
        let (names, current) = (names.to_vec(), Mutex::new(None));
        let leaves = Arc::new(Leaves { issuer, key: own, signer, names, clock: clock_of_leaves, current });
        // What cannot be made should be told now, not to the first peer.
        leaves.get().map_err(failed("make a certificate"))?;
        let mut roots = RootCertStore::empty();
        roots.add(root).map_err(failed("take the authority"))?;
        let roots = Arc::new(roots);
        Ok(Self {
            server: Arc::new(server(&roots, &leaves, &clock)?),
            client: Arc::new(client(roots, leaves, clock)?),
        })
    }

    /// For doors: whoever comes must show that it holds the key.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For dialers: shows that we hold the key, and wants to see the same.
    #[must_use]
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }
}

fn server(
    roots: &Arc<RootCertStore>,
    leaves: &Arc<Leaves>,
    clock: &Arc<dyn TimeProvider>,
) -> Result<ServerConfig, IdentityError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), ciphers())
        .build()
        .map_err(failed("verify nodes"))?;
    let config = ServerConfig::builder_with_details(ciphers(), Arc::clone(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed("speak TLS 1.3"))?;
    Ok(config.with_client_cert_verifier(verifier).with_cert_resolver(Arc::<Leaves>::clone(leaves)))
}

fn client(
    roots: Arc<RootCertStore>,
    leaves: Arc<Leaves>,
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, IdentityError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, ciphers())
        .build()
        .map_err(failed("verify nodes"))?;
    let config = ClientConfig::builder_with_details(ciphers(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed("speak TLS 1.3"))?;
    Ok(config.with_webpki_verifier(verifier).with_client_cert_resolver(leaves))
}

/// The authority that all holders of the key share: its signing half, and its certificate.
fn authority(key: &ClusterKey) -> Result<(Issuer<'static, KeyPair>, CertificateDer<'static>), IdentityError> {
    let seed = key.derive(b"dfget cluster authority v1 ed25519 seed");
    let seed = seed.ok_or_else(|| failed("derive a key")("HKDF failed"))?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(failed("derive a key"))?;
    let pair = pair.to_pkcs8v1().map_err(failed("derive a key"))?;
    let pair = PrivatePkcs8KeyDer::from(pair.as_ref().to_vec());
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&pair, &PKCS_ED25519);
    let pair = pair.map_err(failed("take a key"))?;

    let mut parameters = CertificateParams::default();
    parameters.serial_number = Some(SerialNumber::from(1));
    parameters.not_before = rcgen::date_time_ymd(2000, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(9999, 12, 31);
    parameters.distinguished_name = DistinguishedName::new();
    // A name for each key: of another cluster's certificate it is the issuer that is unknown.
    let name = format!("dfget cluster {}", key.fingerprint());
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let certificate = parameters.self_signed(&pair).map_err(failed("sign a certificate"))?;
    let der = certificate.der().clone();
    Ok((Issuer::new(parameters, pair), der))
}

/// aws-lc-rs, its cheapest cipher first: AES-128-GCM is in the hardware of all servers.
fn ciphers() -> Arc<CryptoProvider> {
    let cipher_suites = vec![
        provider::cipher_suite::TLS13_AES_128_GCM_SHA256,
        provider::cipher_suite::TLS13_AES_256_GCM_SHA384,
        provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(CryptoProvider { cipher_suites, ..provider::default_provider() })
}

fn failed<E: std::fmt::Display>(operation: &'static str) -> impl Fn(E) -> IdentityError {
    move |error| IdentityError { operation, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_nodes_make_the_same_authority_from_one_key_and_another_from_another() {
        let key = ClusterKey::from_bytes([7; 32]);
        let (_, one) = authority(&key).unwrap();
        let (_, same) = authority(&key).unwrap();
        let (_, other) = authority(&ClusterKey::from_bytes([8; 32])).unwrap();
        assert_eq!(one, same);
        assert_ne!(one, other);
    }

    #[test]
    fn a_name_that_no_certificate_can_hold_is_told_at_once() {
        let error = Identity::from_key(&ClusterKey::from_bytes([7; 32]), &["kn\u{f6}ten".to_owned()]);
        assert!(error.unwrap_err().to_string().contains("make a certificate"));
    }
}
