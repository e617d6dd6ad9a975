//! The certificate authority of `hijackHTTPS`: one certificate, its key, and its chain.
//!
//! A CA is checked once, when it is loaded, for everything that would make clients refuse its
//! leaves later. What clients accept but a careful site would not have is no error, only a
//! [`Weakness`]: the CA that Dragonfly's documentation makes is accepted as it is.

use std::fmt;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::error::X509Error;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority_key::AuthorityKey;
use crate::error::{CaError, LeafError};
use crate::weakness::{self, Weakness};
use crate::{instant, pem};

/// A CA that signs leaves. `Debug` shows its certificate's data, nothing of the key.
pub struct CertificateAuthority {
    certificate: CertificateDer<'static>,
    issuers: Vec<CertificateDer<'static>>,
    key: AuthorityKey,
    subject: String,
    subject_der: Vec<u8>,
    key_identifier: Option<Vec<u8>>,
    not_before: Timestamp,
    not_after: Timestamp,
    standing_weaknesses: Vec<Weakness>,
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
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|_| unreadable("not the encoding of a certificate"))?;
        let subject = printable(&parsed.subject().to_string());
        check_purpose(&parsed, &subject)?;

        let validity = parsed.validity();
        let outside = || unreadable("its dates are beyond the calendar");
        let not_before = instant::from_asn1(validity.not_before).ok_or_else(outside)?;
        let not_after = instant::from_asn1(validity.not_after).ok_or_else(outside)?;
        let now = instant::from_system(now);
        if now < not_before {
            return Err(CaError::NotYetValid { not_before: instant::text(not_before) });
        }
        if now > not_after {
            return Err(CaError::Expired { not_after: instant::text(not_after) });
        }

        let key = AuthorityKey::load(key_pem)?;
        if key.public_key() != parsed.public_key().subject_public_key.data.as_ref() {
            return Err(CaError::KeyMismatch { subject });
        }
        Ok(Self {
            issuers: issuers(&certificate, certificates.collect()),
            key,
            subject,
            subject_der: parsed.subject().as_raw().to_vec(),
            key_identifier: key_identifier(&parsed),
            not_before,
            not_after,
            standing_weaknesses: weakness::of_certificate(&parsed),
            certificate,
        })
    }

    /// Whose certificate it is, as text: `C=DE, O=Site, CN=Proxy CA`. Free of control characters.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Start of validity.
    pub fn not_before(&self) -> SystemTime {
        self.not_before.into()
    }

    /// End of validity.
    pub fn not_after(&self) -> SystemTime {
        self.not_after.into()
    }

    /// SHA-256 of the certificate: 32 upper-case hexadecimal pairs with colons between, as
    /// `openssl x509 -fingerprint -sha256` prints it.
    pub fn fingerprint(&self) -> String {
        let hash = digest(&SHA256, &self.certificate);
        let pairs: Vec<String> = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }

    /// What a careful site would not leave so. Empty for a CA without fault.
    pub fn weaknesses(&self, now: SystemTime) -> Vec<Weakness> {
        let mut found = self.standing_weaknesses.clone();
        found.extend(weakness::of_remaining_time(self.not_after, instant::from_system(now)));
        found
    }

    /// The CA's certificate in DER, which clients must trust.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
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
        if now < self.not_before {
            return Err(LeafError::CaNotYetValid { not_before: instant::text(self.not_before) });
        }
        if now >= self.not_after {
            return Err(LeafError::CaExpired { not_after: instant::text(self.not_after) });
        }
        Ok((self.not_before, self.not_after))
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CertificateAuthority")
            .field("subject", &self.subject)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

/// Whether clients would accept leaves of this certificate (RFC 5280 sections 4.2.1.3, .9, .12).
fn check_purpose(certificate: &X509Certificate<'_>, subject: &str) -> Result<(), CaError> {
    let broken = |_: X509Error| unreadable("one of its extensions is broken or there twice");
    let constraints = certificate.basic_constraints().map_err(broken)?;
    if !constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(CaError::NotCa { subject: subject.to_owned() });
    }
    let usage = certificate.key_usage().map_err(broken)?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(CaError::MayNotSign { subject: subject.to_owned() });
    }
    let purpose = certificate.extended_key_usage().map_err(broken)?;
    if purpose.is_some_and(|purpose| !purpose.value.server_auth && !purpose.value.any) {
        return Err(CaError::NotForServers { subject: subject.to_owned() });
    }
    Ok(())
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

/// A name from a certificate may hold anything; a terminal should see text only.
fn printable(name: &str) -> String {
    if name.is_empty() {
        return "nobody (its subject is empty)".to_owned();
    }
    name.chars().map(|c| if c.is_control() { '?' } else { c }).take(300).collect()
}

fn unreadable(reason: &str) -> CaError {
    CaError::BadCertificate { number: 1, reason: reason.to_owned() }
}
