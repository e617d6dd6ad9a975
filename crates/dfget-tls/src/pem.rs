//! PEM texts (RFC 7468): certificates in order, and one private key.
//!
//! Text around the blocks is ignored, as `openssl x509 -text` writes it. Labels are named in errors,
//! contents never.

use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::{CaError, CertificateListError};

/// The certificates of `pem`, in the order of the file; at least one.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateListError> {
    let mut found = Vec::new();
    for block in CertificateDer::pem_slice_iter(pem) {
        let number = found.len() + 1;
        let bad = |reason| CertificateListError::BadCertificate { number, reason };
        let certificate = block.map_err(|error| bad(reason(&error)))?;
        match X509Certificate::from_der(&certificate) {
            Ok(([], _)) => {}
            Ok(_) => return Err(bad("bytes after its end".to_owned())),
            Err(_) => return Err(bad("not the encoding of a certificate".to_owned())),
        }
        found.push(certificate);
    }
    if found.is_empty() {
        return Err(match labels(pem) {
            None => CertificateListError::NotPem,
            Some(found) => CertificateListError::NoCertificate { found },
        });
    }
    Ok(found)
}

/// The first private key of `pem`.
pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, CaError> {
    if is_encrypted(pem) {
        return Err(CaError::EncryptedKey);
    }
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(PemError::NoItemsFound) => Err(match labels(pem) {
            None => CaError::KeyNotPem,
            Some(found) => match unsupported(&found) {
                Some(kind) => CaError::UnsupportedKey { found: kind.to_owned() },
                None => CaError::NoKey { found },
            },
        }),
        Err(error) => Err(CaError::BadKey { reason: reason(&error) }),
    }
}

/// Both forms of an encrypted key: PKCS #8, and the header of the older ones (RFC 1421).
fn is_encrypted(pem: &[u8]) -> bool {
    lines(pem).any(|line| line == "-----BEGIN ENCRYPTED PRIVATE KEY-----" || line == "Proc-Type: 4,ENCRYPTED")
}

/// Private keys in a form of their own that the common decoder steps over.
fn unsupported(labels: &str) -> Option<&'static str> {
    labels.split(", ").find_map(|label| match label {
        "DSA PRIVATE KEY" => Some("a DSA key"),
        "OPENSSH PRIVATE KEY" => Some("a key in OpenSSH's own format"),
        _ => None,
    })
}

/// The labels of all blocks, joined by commas; `None` when there is no block.
fn labels(pem: &[u8]) -> Option<String> {
    let found: Vec<String> = lines(pem)
        .filter_map(|line| {
            let label = line.strip_prefix("-----BEGIN ")?.strip_suffix("-----")?;
            let harmless = |c: &char| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == ' ';
            Some(label.chars().filter(harmless).take(40).collect())
        })
        .collect();
    (!found.is_empty()).then(|| found.join(", "))
}

fn lines(pem: &[u8]) -> impl Iterator<Item = &str> {
    pem.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()).map(str::trim)
}

/// The decoder's error without the line it stumbled over, which may be part of a key.
fn reason(error: &PemError) -> String {
    match error {
        PemError::MissingSectionEnd { .. } => "its -----END line is missing",
        PemError::IllegalSectionStart { .. } => "its -----BEGIN line is broken",
        PemError::Base64Decode(_) => "not base64 between its -----BEGIN and -----END lines",
        _ => "not a well-formed PEM block",
    }
    .to_owned()
}
