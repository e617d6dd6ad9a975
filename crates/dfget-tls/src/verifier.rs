//! How an origin's certificate is judged.
//!
//! [`OriginVerifier`] asks for a chain to a trusted root, dates and name, with one rule of its own:
//! a server certificate that is itself among the trusted ones needs no chain. Registries with a
//! self-signed certificate (`openssl req -x509`, which also says CA:TRUE) work so with the real
//! clients. [`NoVerification`] is for `insecure: true`: any certificate will do, but the handshake
//! must be signed with its key.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::provider;

/// Verifies against roots and exactly named certificates.
pub(crate) struct OriginVerifier {
    /// `None` when there is not one root: nothing can be verified by a chain then.
    pub(crate) chain: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates that are trusted as they are.
    pub(crate) exact: Arc<HashSet<CertificateDer<'static>>>,
    pub(crate) extra: HashSet<CertificateDer<'static>>,
}

// === impl OriginVerifier ===

impl ServerCertVerifier for OriginVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.exact.contains(end_entity) || self.extra.contains(end_entity) {
            check_dates(end_entity, now)?;
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        let Some(chain) = &self.chain else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).map_err(
            |error| match error {
                // A self-signed certificate that says CA:TRUE is refused for being a CA's; what its
                // owner has to know is that nobody vouches for it.
                Error::InvalidCertificate(CertificateError::Other(_)) if self_signed(end_entity) => {
                    CertificateError::UnknownIssuer.into()
                }
                other => other,
            },
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl fmt::Debug for OriginVerifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OriginVerifier")
            .field("trusted", &self.exact.len())
            .field("extra", &self.extra.len())
            .finish_non_exhaustive()
    }
}

/// Verifies nothing about the certificate, only that the peer holds its key.
#[derive(Debug)]
pub(crate) struct NoVerification;

// === impl NoVerification ===

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parsed = parse(certificate)?;
        let key = parsed.public_key().subject_public_key.data.as_ref();
        // A scheme of TLS 1.2 fixes the hash but not the curve, hence several candidates.
        let candidates = algorithms()
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme)
            .map_or(&[][..], |(_, candidates)| candidates);
        let holds = |algorithm: &&dyn rustls_pki_types::SignatureVerificationAlgorithm| {
            algorithm.verify_signature(key, message, signed.signature()).is_ok()
        };
        if candidates.iter().any(holds) {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parsed = parse(certificate)?;
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, signed, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}

fn check_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let parsed = parse(certificate)?;
    let seconds = |time: i64| std::time::Duration::from_secs(u64::try_from(time).unwrap_or(0));
    let not_before = UnixTime::since_unix_epoch(seconds(parsed.validity().not_before.timestamp()));
    let not_after = UnixTime::since_unix_epoch(seconds(parsed.validity().not_after.timestamp()));
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    Ok(())
}

fn self_signed(certificate: &CertificateDer<'_>) -> bool {
    parse(certificate).is_ok_and(|parsed| parsed.subject().as_raw() == parsed.issuer().as_raw())
}
