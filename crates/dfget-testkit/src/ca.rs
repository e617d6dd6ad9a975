//! Certificate authorities and leaves, sound ones and flawed ones.
//!
//! Keys are ECDSA P-256: making one takes well under a millisecond. Nothing is kept on disk unless a test writes it.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
pub use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

/// A certificate authority of its own name and key.
#[derive(Debug)]
pub struct TestCa {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate for a server, with its private key.
#[derive(Debug)]
pub struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pem: (String, String),
}

/// Believes every server.
#[derive(Debug)]
struct Credulous;

// === impl TestCa ===

impl TestCa {
    /// A new authority, valid from 2020 to 2099, whose subject is `CN=name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, new_key()).expect("sound parameters sign");
        Self { issuer }
    }

    /// The certificate in PEM, for a trust store.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// The private key in PEM (PKCS#8).
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A leaf for these DNS names or addresses.
    #[must_use]
    pub fn leaf(&self, names: &[&str]) -> Leaf {
        self.sign(leaf_params(names))
    }

    /// A leaf that was valid in 2020 only.
    #[must_use]
    pub fn expired_leaf(&self, names: &[&str]) -> Leaf {
        let mut params = leaf_params(names);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 12, 31);
        self.sign(params)
    }

    /// A leaf for a client and not for a server.
    #[must_use]
    pub fn client_leaf(&self, name: &str) -> Leaf {
        let mut params = leaf_params(&[name]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// TLS settings of a client that trusts this authority alone and offers `alpn` (none when empty).
    #[must_use]
    pub fn client_config(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority is a sound root");
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// The same of a client that shows `leaf`.
    ///
    /// # Panics
    /// If key and certificate do not belong together.
    #[must_use]
    pub fn client_config_as(&self, leaf: &Leaf, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority is a sound root");
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(leaf.chain.clone(), leaf.key.clone_key())
            .expect("the key belongs to the certificate");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// TLS settings of a client that takes any server for good, as a stranger does who wants to see what it gets, and
    /// shows `leaf` if it has one.
    ///
    /// # Panics
    /// If key and certificate do not belong together.
    #[must_use]
    pub fn credulous_client_config(leaf: Option<&Leaf>) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider speaks TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous));
        let config = match leaf {
            Some(leaf) => builder
                .with_client_auth_cert(leaf.chain.clone(), leaf.key.clone_key())
                .expect("the key belongs to the certificate"),
            None => builder.with_no_client_auth(),
        };
        Arc::new(config)
    }

    fn sign(&self, params: CertificateParams) -> Leaf {
        let key = new_key();
        let certificate = params.signed_by(&key, &self.issuer).expect("sound parameters sign");
        Leaf::new(&certificate, &key)
    }
}

// === impl Leaf ===

impl Leaf {
    /// A leaf that nobody signed but itself.
    #[must_use]
    pub fn self_signed(names: &[&str]) -> Self {
        let key = new_key();
        let certificate = leaf_params(names).self_signed(&key).expect("sound parameters sign");
        Self::new(&certificate, &key)
    }

    /// TLS settings of a server that shows this leaf and speaks HTTP/1.1 only.
    #[must_use]
    pub fn server_config(self) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(self.chain, self.key)
            .expect("the key belongs to the certificate");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// The leaf and its key, both in PEM.
    #[must_use]
    pub fn pem(&self) -> (&str, &str) {
        (&self.pem.0, &self.pem.1)
    }

    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        let pem = (certificate.pem(), key.serialize_pem());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Self { chain: vec![certificate.der().clone()], key, pem }
    }
}

// === impl Credulous ===

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A self-signed certificate without `CA:TRUE` and its key, both in PEM: what a hijack must refuse as its authority.
#[must_use]
pub fn no_authority(name: &str) -> (String, String) {
    let key = new_key();
    let mut params = named(name);
    params.is_ca = IsCa::ExplicitNoCa;
    let certificate = params.self_signed(&key).expect("sound parameters sign");
    (certificate.pem(), key.serialize_pem())
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2099, 12, 31);
    params
}

fn leaf_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let subject = names.first().cloned().unwrap_or_default();
    let mut params = named(&subject);
    params.subject_alt_names =
        CertificateParams::new(names).expect("a test names hosts that can exist").subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("the system gives random bytes")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(ca: &TestCa, leaf: &Leaf, name: &str) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.issuer.der().clone()).expect("sound root");
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .expect("one root is enough");
        let name = ServerName::try_from(name.to_owned()).expect("a sound name");
        ServerCertVerifier::verify_server_cert(
            verifier.as_ref(),
            &leaf.chain[0],
            &[],
            &name,
            &[],
            UnixTime::now(),
        )
        .map(|_| ())
    }

    #[test]
    fn a_leaf_holds_for_its_names_and_addresses_only() {
        let ca = TestCa::new("test authority");
        let leaf = ca.leaf(&["registry.test", "127.0.0.1"]);
        assert_eq!(verdict(&ca, &leaf, "registry.test"), Ok(()));
        assert_eq!(verdict(&ca, &leaf, "127.0.0.1"), Ok(()));
        assert!(verdict(&ca, &leaf, "other.test").is_err());
        assert!(verdict(&TestCa::new("another"), &leaf, "registry.test").is_err());
    }

    #[test]
    fn flawed_leaves_are_refused() {
        let ca = TestCa::new("test authority");
        assert!(verdict(&ca, &ca.expired_leaf(&["a.test"]), "a.test").is_err());
        assert!(verdict(&ca, &Leaf::self_signed(&["a.test"]), "a.test").is_err());
    }
}
