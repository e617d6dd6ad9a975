//! The certificate of an authority without its key: what it says of itself, to be shown and judged.
//!
//! Anybody may read a certificate, and one that has expired must be readable to be replaced; so
//! nothing here asks for the key or for the time.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::error::X509Error;
use x509_parser::oid_registry as oid;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::error::{CaError, CertificateFileError};
use crate::scope::Scope;
use crate::weakness::{self, Weakness};
use crate::{bundle, instant, pem};

/// A certificate that may sign for servers.
pub struct AuthorityCertificate {
    certificate: CertificateDer<'static>,
    subject: String,
    not_before: Timestamp,
    not_after: Timestamp,
    key_kind: String,
    scope: Scope,
    standing_weaknesses: Vec<Weakness>,
}

// === impl AuthorityCertificate ===

impl AuthorityCertificate {
    /// The first certificate of a PEM text.
    ///
    /// # Errors
    /// [`CaError`]: no PEM, unreadable, no authority, or one that may not sign for servers.
    pub fn from_pem(text: &[u8]) -> Result<Self, CaError> {
        let mut certificates = pem::certificates(text)?.into_iter();
        let certificate = certificates.next().ok_or(CaError::CertificateNotPem)?;
        Self::of(certificate)
    }

    /// The first certificate of a PEM file.
    ///
    /// # Errors
    /// [`CertificateFileError`], with the path: the file cannot be read, or as
    /// [`from_pem`](Self::from_pem).
    pub fn read(path: &Path) -> Result<Self, CertificateFileError> {
        let text = std::fs::read(path)
            .map_err(|source| CertificateFileError::Unreadable { path: path.to_owned(), source })?;
        Self::from_pem(&text)
            .map_err(|source| CertificateFileError::Refused { path: path.to_owned(), source })
    }

    pub(crate) fn of(certificate: CertificateDer<'static>) -> Result<Self, CaError> {
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|_| unreadable("not the encoding of a certificate"))?;
        let subject = printable(&parsed.subject().to_string());
        check_purpose(&parsed, &subject)?;
        let validity = parsed.validity();
        let outside = || unreadable("its dates are beyond the calendar");
        Ok(Self {
            subject,
            not_before: instant::from_asn1(validity.not_before).ok_or_else(outside)?,
            not_after: instant::from_asn1(validity.not_after).ok_or_else(outside)?,
            key_kind: key_kind(&parsed),
            scope: Scope::of_certificate(&parsed),
            standing_weaknesses: weakness::of_certificate(&parsed),
            certificate,
        })
    }

    /// Whose certificate it is, as text: `C=DE, O=Site, CN=Proxy CA`. Free of control characters.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Start of validity.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before.into()
    }

    /// End of validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after.into()
    }

    /// Start of validity as text: `2026-11-23 08:15:00 UTC`.
    #[must_use]
    pub fn not_before_text(&self) -> String {
        instant::text(self.not_before)
    }

    /// End of validity as text.
    #[must_use]
    pub fn not_after_text(&self) -> String {
        instant::text(self.not_after)
    }

    /// Whether its time is over at `now`.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        instant::from_system(now) > self.not_after
    }

    /// SHA-256 of the certificate: 32 upper-case hexadecimal pairs with colons between, as
    /// `openssl x509 -fingerprint -sha256` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let hash = digest(&SHA256, &self.certificate);
        let pairs: Vec<String> = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }

    /// The kind of its key: `EC P-256`, `RSA 2048`.
    #[must_use]
    pub fn key_kind(&self) -> &str {
        &self.key_kind
    }

    /// For which hosts it may sign.
    #[must_use]
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What a careful site would not leave so. Empty for a CA without fault.
    #[must_use]
    pub fn weaknesses(&self, now: SystemTime) -> Vec<Weakness> {
        let mut found = self.standing_weaknesses.clone();
        found.extend(weakness::of_remaining_time(self.not_after, instant::from_system(now)));
        found
    }

    /// The certificate in DER.
    #[must_use]
    pub const fn der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The certificate as one PEM block.
    #[must_use]
    pub fn to_pem(&self) -> String {
        bundle::certificate_pem(&self.certificate)
    }

    pub(crate) const fn validity(&self) -> (Timestamp, Timestamp) {
        (self.not_before, self.not_after)
    }
}

impl fmt::Debug for AuthorityCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AuthorityCertificate")
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

fn key_kind(certificate: &X509Certificate<'_>) -> String {
    let key = certificate.public_key();
    let algorithm = &key.algorithm;
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa.key_size()),
        Ok(PublicKey::EC(_)) => {
            let curve = algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
            match curve {
                Some(curve) if curve == oid::OID_EC_P256 => "EC P-256".to_owned(),
                Some(curve) if curve == oid::OID_NIST_EC_P384 => "EC P-384".to_owned(),
                Some(curve) => format!("EC {curve}"),
                None => "EC".to_owned(),
            }
        }
        _ if algorithm.algorithm == oid::OID_SIG_ED25519 => "Ed25519".to_owned(),
        _ => algorithm.algorithm.to_id_string(),
    }
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
