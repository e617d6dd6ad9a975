//! The certificate authority of `hijackHTTPS`: one certificate, its key, and its chain.
//!
//! A CA is checked once, when it is loaded, for everything that would make clients refuse its
//! leaves later. What clients accept but a careful site would not have is no error, only a
//! [`Weakness`]: the CA that Dragonfly's documentation makes is accepted as it is.

use std::fmt;
use std::time::SystemTime;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority_key::AuthorityKey;
use crate::certificate::AuthorityCertificate;
use crate::error::{CaError, LeafError};
use crate::scope::Scope;
use crate::weakness::Weakness;
use crate::{instant, pem};

/// A CA that signs leaves. `Debug` shows its certificate's data, nothing of the key.
pub struct CertificateAuthority {
    facts: AuthorityCertificate,
    issuers: Vec<CertificateDer<'static>>,
    key: AuthorityKey,
    subject_der: Vec<u8>,
    key_identifier: Option<Vec<u8>>,
}

// === impl CertificateAuthority ===

impl CertificateAuthority {
    /// Takes the CA from two PEM texts.
    ///
    /// The first certificate of `cert_pem` is the CA; others of the file that lead from it towards
    /// its root are sent along with each leaf, unrelated ones are left out. `key_pem` holds its key
    /// in PKCS #1, PKCS #8 or SEC 1: RSA of 2048 to 8192 bits, EC on P-256 or P-384, or Ed25519.
    ///
    /// # Errors
    /// One reason for each refusal, see [`CaError`]: unreadable, no CA, not allowed to sign, not
    /// valid at `now`, a key that is encrypted, unsupported or of another certificate.
    pub fn load(cert_pem: &[u8], key_pem: &[u8], now: SystemTime) -> Result<Self, CaError> {
        let mut certificates = pem::certificates(cert_pem)?.into_iter();
        let certificate = certificates.next().ok_or(CaError::CertificateNotPem)?;
        let facts = AuthorityCertificate::of(certificate.clone())?;
        let (not_before, not_after) = facts.validity();
        let now = instant::from_system(now);
        if now < not_before {
            return Err(CaError::NotYetValid { not_before: instant::text(not_before) });
        }
        if now > not_after {
            return Err(CaError::Expired { not_after: instant::text(not_after) });
        }

        let key = AuthorityKey::load(key_pem)?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| CaError::CertificateNotPem)?;
        if key.public_key() != parsed.public_key().subject_public_key.data.as_ref() {
            return Err(CaError::KeyMismatch { subject: facts.subject().to_owned() });
        }
        Ok(Self {
            issuers: issuers(&certificate, certificates.collect()),
            key,
            subject_der: parsed.subject().as_raw().to_vec(),
            key_identifier: key_identifier(&parsed),
            facts,
        })
    }

    /// What its certificate says.
    #[must_use]
    pub const fn facts(&self) -> &AuthorityCertificate {
        &self.facts
    }

    /// Whose certificate it is, as text: `C=DE, O=Site, CN=Proxy CA`. Free of control characters.
    pub fn subject(&self) -> &str {
        self.facts.subject()
    }

    /// For which hosts it may sign.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        self.facts.scope()
    }

    /// Start of validity.
    pub fn not_before(&self) -> SystemTime {
        self.facts.not_before()
    }

    /// End of validity.
    pub fn not_after(&self) -> SystemTime {
        self.facts.not_after()
    }

    /// SHA-256 of the certificate: 32 upper-case hexadecimal pairs with colons between, as
    /// `openssl x509 -fingerprint -sha256` prints it.
    pub fn fingerprint(&self) -> String {
        self.facts.fingerprint()
    }

    /// What a careful site would not leave so. Empty for a CA without fault.
    pub fn weaknesses(&self, now: SystemTime) -> Vec<Weakness> {
        self.facts.weaknesses(now)
    }

    /// The CA's certificate in DER, which clients must trust.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.facts.der()
    }

    /// The same as PEM text, one block.
    pub fn certificate_pem(&self) -> String {
        crate::bundle::certificate_pem(self.certificate())
    }

    /// What follows a leaf in the handshake: the CA and its issuers, up to the root but without it,
    /// since clients have it or will not believe it. Empty for a self-signed CA.
    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.issuers
    }

    /// The subject, DER as in the certificate: the issuer of each leaf.
    pub(crate) fn subject_der(&self) -> &[u8] {
        &self.subject_der
    }

    /// The subjectKeyIdentifier, if the certificate has one.
    pub(crate) fn key_identifier(&self) -> Option<&[u8]> {
        self.key_identifier.as_deref()
    }

    pub(crate) fn key(&self) -> &AuthorityKey {
        &self.key
    }

    /// The CA's validity, provided that it holds at `now`.
    pub(crate) fn validity_at(&self, now: Timestamp) -> Result<(Timestamp, Timestamp), LeafError> {
        let (not_before, not_after) = self.facts.validity();
        if now < not_before {
            return Err(LeafError::CaNotYetValid { not_before: instant::text(not_before) });
        }
        if now >= not_after {
            return Err(LeafError::CaExpired { not_after: instant::text(not_after) });
        }
        Ok((not_before, not_after))
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CertificateAuthority")
            .field("subject", &self.subject())
            .field("not_before", &self.facts.validity().0)
            .field("not_after", &self.facts.validity().1)
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

/// The certificates from `ca` upwards, each signed by the next, without a self-signed one.
fn issuers(
    ca: &CertificateDer<'static>,
    mut others: Vec<CertificateDer<'static>>,
) -> Vec<CertificateDer<'static>> {
    let mut chain = Vec::new();
    let mut current = ca.clone();
    loop {
        let Ok((_, parsed)) = X509Certificate::from_der(&current) else { return chain };
        let issuer = parsed.issuer().as_raw().to_vec();
        if parsed.subject().as_raw() == issuer {
            return chain;
        }
        chain.push(current.clone());
        let signs_current = |other: &CertificateDer<'static>| {
            X509Certificate::from_der(other).is_ok_and(|(_, other)| other.subject().as_raw() == issuer)
        };
        let Some(position) = others.iter().position(signs_current) else { return chain };
        current = others.swap_remove(position);
    }
}

fn key_identifier(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
        _ => None,
    })
}
