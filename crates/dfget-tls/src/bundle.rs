//! Bundles: many authorities in one PEM text, as `SSL_CERT_FILE` takes them.
//!
//! Programs that are given a file of authorities trust nothing else; so a client that is to trust
//! ours and the public ones needs both in one file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::error::BundleError;

/// The certificates of `base` and then those of `extra`, each once, as PEM without comments.
///
/// `base` is PEM text of any length. What is no certificate, and blocks that cannot be decoded,
/// are left out: one broken root must not take the others away.
#[must_use]
pub fn merged_bundle(base: &[u8], extra: &[CertificateDer<'_>]) -> String {
    let base: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(base).filter_map(Result::ok).collect();
    let mut seen: HashSet<&[u8]> = HashSet::new();
    let mut merged = String::new();
    for certificate in base.iter().chain(extra) {
        if seen.insert(certificate.as_ref()) {
            merged.push_str(&certificate_pem(certificate));
        }
    }
    merged
}

/// Where this system keeps the authorities it trusts, as one PEM file; `None` where it has none.
#[must_use]
pub fn system_bundle_path() -> Option<PathBuf> {
    PLACES.iter().map(Path::new).find(|path| path.is_file()).map(Path::to_path_buf)
}

/// That file and its content.
///
/// # Errors
/// [`BundleError`]: there is none, or it cannot be read.
pub fn system_bundle() -> Result<(PathBuf, Vec<u8>), BundleError> {
    let path = system_bundle_path().ok_or_else(|| BundleError::NotFound { looked_for: PLACES.join(", ") })?;
    match std::fs::read(&path) {
        Ok(content) => Ok((path, content)),
        Err(source) => Err(BundleError::Unreadable { path, source }),
    }
}

/// One block (RFC 7468).
pub(crate) fn certificate_pem(certificate: &CertificateDer<'_>) -> String {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = STANDARD.encode(certificate);
    while !rest.is_empty() {
        let tail = rest.split_off(rest.len().min(LINE));
        pem.push_str(&rest);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// Characters of a line of base64.
const LINE: usize = 64;

/// In this order: Debian, Arch and Gentoo; Fedora and RHEL; openSUSE; Alpine and the BSDs; RHEL's
/// newer place.
const PLACES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(byte: u8, length: usize) -> CertificateDer<'static> {
        CertificateDer::from(vec![byte; length])
    }

    #[test]
    fn each_certificate_is_there_once_and_comments_are_gone() {
        let (first, second, ours) = (certificate(1, 48), certificate(2, 49), certificate(3, 1000));
        let base = format!(
            "# Some Root\n{}junk\n{}\r\n{}-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n\
             -----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n{}",
            certificate_pem(&first),
            certificate_pem(&second).replace('\n', "\r\n"),
            certificate_pem(&first),
            certificate_pem(&ours),
        );
        let merged = merged_bundle(base.as_bytes(), &[ours.clone(), second.clone()]);
        let expected = [&first, &second, &ours].map(|one| certificate_pem(one)).concat();
        assert_eq!(merged, expected);
        assert!(merged.lines().all(|line| line.len() <= LINE));
        assert_eq!(merged_bundle(merged.as_bytes(), &[]), merged);
    }

    #[test]
    fn a_text_that_breaks_off_keeps_what_came_before() {
        let (first, ours) = (certificate(1, 100), certificate(2, 100));
        let base = format!("{}-----BEGIN CERTIFICATE-----\nAAAA", certificate_pem(&first));
        let merged = merged_bundle(base.as_bytes(), std::slice::from_ref(&ours));
        assert_eq!(merged, certificate_pem(&first) + &certificate_pem(&ours));
        assert_eq!(merged_bundle(b"", &[]), "");
    }
}
