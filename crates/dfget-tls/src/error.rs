//! What can go wrong with a CA, a leaf or a trust root. Each text of a file's content has two halves,
//! parted by its last `; `: what is wrong, and the remedy. File names are added by whoever read the
//! file.

use std::io;
use std::path::PathBuf;

/// Why a certificate authority was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// The certificate file holds no PEM block at all.
    #[error(
        "the certificate is not PEM (no -----BEGIN line); if it is DER, convert it: \
         openssl x509 -inform der -in OLD -out ca.crt"
    )]
    CertificateNotPem,
    /// The certificate file is PEM, but of something else.
    #[error("there is no CERTIFICATE block, only {found}; are `cert` and `key` swapped?")]
    NoCertificate {
        /// The labels of the blocks that are there, joined by commas.
        found: String,
    },
    /// A CERTIFICATE block that cannot be decoded.
    #[error("certificate number {number} of the file cannot be read ({reason}); export it again")]
    BadCertificate {
        /// Position in the file, from 1.
        number: usize,
        /// What the decoder said.
        reason: String,
    },
    /// basicConstraints says CA:FALSE or is missing: no client accepts leaves of it.
    #[error(
        "the certificate of {subject} is no CA certificate (basicConstraints CA:TRUE is missing); \
         sign it again with `-extfile openssl.conf -extensions v3_ca`"
    )]
    NotCa {
        /// Whose certificate it is.
        subject: String,
    },
    /// keyUsage is there and lacks keyCertSign.
    #[error(
        "the CA certificate of {subject} may not sign certificates (keyUsage lacks keyCertSign); \
         make one with `keyUsage = critical, keyCertSign` or without keyUsage"
    )]
    MayNotSign {
        /// Whose certificate it is.
        subject: String,
    },
    /// extendedKeyUsage is there and lacks serverAuth.
    #[error(
        "the CA certificate of {subject} is not for servers (extendedKeyUsage lacks serverAuth); \
         make one with serverAuth or without extendedKeyUsage"
    )]
    NotForServers {
        /// Whose certificate it is.
        subject: String,
    },
    /// The CA's time has not come, or the clock is wrong.
    #[error("the CA certificate is valid from {not_before} only; is the clock of this host right?")]
    NotYetValid {
        /// Start of validity, UTC.
        not_before: String,
    },
    /// The CA's time is over.
    #[error(
        "the CA certificate expired at {not_after}; make a new one (`dfget ca rotate`) and give it to the clients"
    )]
    Expired {
        /// End of validity, UTC.
        not_after: String,
    },
    /// The key file holds no PEM block at all.
    #[error(
        "the key is not PEM (no -----BEGIN line); if it is DER, convert it: \
         openssl pkey -inform der -in OLD -out ca.key"
    )]
    KeyNotPem,
    /// The key file is PEM, but of something else.
    #[error("there is no private key, only {found}; are `cert` and `key` swapped?")]
    NoKey {
        /// The labels of the blocks that are there, joined by commas.
        found: String,
    },
    /// The key needs a passphrase, which a daemon has nobody to ask for.
    #[error("the key is encrypted; decrypt it for the daemon: openssl pkey -in OLD -out ca.key")]
    EncryptedKey,
    /// A private key block that cannot be decoded.
    #[error("the private key cannot be read ({reason}); export it again")]
    BadKey {
        /// What the decoder said; never a byte of the key.
        reason: String,
    },
    /// A kind of key that leaves cannot be signed with.
    #[error(
        "the key is {found}, which cannot sign here; use RSA of 2048 to 8192 bits, EC on P-256 or \
         P-384, or Ed25519 (openssl genrsa -out ca.key 3072)"
    )]
    UnsupportedKey {
        /// What it is, in words.
        found: String,
    },
    /// Key and certificate are not of one pair.
    #[error(
        "the key does not match the first certificate of the file, that of {subject}; \
         openssl pkey -in ca.key -pubout and openssl x509 -in ca.crt -noout -pubkey must agree"
    )]
    KeyMismatch {
        /// Whose certificate it is.
        subject: String,
    },
}

/// Why no certificate for a host could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeafError {
    /// The name fits neither a DNS name (RFC 1034, ASCII) nor an IP address.
    #[error("no certificate can name the host {host:?}: {reason}")]
    InvalidHost {
        /// As asked for.
        host: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An authority for no host at all.
    #[error("an authority must be for one host at least; name it by `--host`")]
    NoHost,
    /// The CA expired while the daemon ran.
    #[error("the CA certificate expired at {not_after}; make a new one and restart the daemon")]
    CaExpired {
        /// End of the CA's validity, UTC.
        not_after: String,
    },
    /// The clock went back to before the CA's start.
    #[error("the CA certificate is valid from {not_before} only; set the clock of this host right")]
    CaNotYetValid {
        /// Start of the CA's validity, UTC.
        not_before: String,
    },
    /// The cryptographic library failed: no random bytes, no memory.
    #[error("the cryptographic library could not {operation}; restart the daemon")]
    Cryptography {
        /// What it was asked to do.
        operation: &'static str,
    },
    /// rustls refused what was made.
    #[error("the certificate for {host} could not be put to use")]
    Unusable {
        /// For whom it was made.
        host: String,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
}

/// Why no authority could be made: the cryptographic library failed.
#[derive(Debug, thiserror::Error)]
#[error("the cryptographic library could not {operation}; try again, and look for a lack of memory")]
pub struct CreateError {
    /// What it was asked to do.
    pub operation: &'static str,
}

/// Why a file with the certificate of an authority is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFileError {
    /// It cannot be read.
    #[error("{} cannot be read: {source}; check the path and its permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It holds no authority.
    #[error("{}: {source}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CaError,
    },
}

/// Why a pair of files could not be found, made or replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PairError {
    /// There is one already, and none was to be replaced.
    #[error("{} is there already; `dfget ca rotate` replaces it", path.display())]
    Exists {
        /// The file that is there.
        path: PathBuf,
    },
    /// The certificate is there and its key is not.
    #[error(
        "{} is there without its key {}; bring the key back, or make a new pair with `dfget ca rotate`",
        cert.display(), key.display()
    )]
    KeyMissing {
        /// The certificate.
        cert: PathBuf,
        /// Where the key should be.
        key: PathBuf,
    },
    /// The key is there and no certificate, in its file or beside it.
    #[error(
        "{} is there without its certificate {}; bring it back, or move the key away to have a new pair",
        key.display(), cert.display()
    )]
    CertificateMissing {
        /// Where the certificate should be.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// Somebody else has the key, or may have it.
    #[error("{} {reason}; if nobody has used it: `{remedy}`, else `dfget ca rotate`", key.display())]
    Exposed {
        /// The key.
        key: PathBuf,
        /// Why, in words that follow its name.
        reason: String,
        /// A command.
        remedy: String,
    },
    /// The pair cannot sign.
    #[error("{}, {}: {source}", cert.display(), key.display())]
    Refused {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        #[source]
        source: CaError,
    },
    /// A new one could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The file system did not do it.
    #[error("cannot {operation} {}: {source}; look at its directory with `ls -ld {}`", path.display(), directory(path))]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why there is no bundle of the system's authorities.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// None of the usual places has one.
    #[error(
        "no file of the system's authorities was found (looked for {looked_for}); install the package \
         ca-certificates, or name one by SSL_CERT_FILE"
    )]
    NotFound {
        /// The places, joined by commas.
        looked_for: String,
    },
    /// It cannot be read.
    #[error("{} cannot be read: {source}; name another by SSL_CERT_FILE", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn directory(path: &std::path::Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
}

/// Why trust towards an origin could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A file of `certs` cannot be read.
    #[error("{}: cannot be read: {source}; check the path and its permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of `certs` without a certificate.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        #[source]
        reason: CertificateListError,
    },
    /// A certificate that cannot be a trust root.
    #[error("certificate number {number} of `certs` cannot be trusted: {reason}; take it out of the file")]
    BadRoot {
        /// Position in the list, from 1.
        number: usize,
        /// What the parser said.
        reason: String,
    },
    /// rustls refused the set-up.
    #[error("TLS towards origins could not be set up: {0}; restart the daemon")]
    Setup(#[source] rustls::Error),
}

/// Why a list of certificates could not be taken from a PEM text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateListError {
    /// No PEM block at all.
    #[error("is not PEM (no -----BEGIN line); convert it: openssl x509 -inform der -in OLD -out NEW")]
    NotPem,
    /// PEM blocks, none of them a certificate.
    #[error("holds no CERTIFICATE block, only {found}; name a file of certificates")]
    NoCertificate {
        /// The labels of the blocks that are there, joined by commas.
        found: String,
    },
    /// A block that cannot be decoded.
    #[error("certificate number {number} cannot be read ({reason}); export it again")]
    BadCertificate {
        /// Position in the text, from 1.
        number: usize,
        /// What the decoder said.
        reason: String,
    },
}

// === impl CaError ===

impl CaError {
    /// Whether the key's file is at fault, and not the certificate's.
    #[must_use]
    pub const fn is_about_key(&self) -> bool {
        matches!(
            self,
            Self::KeyNotPem
                | Self::NoKey { .. }
                | Self::EncryptedKey
                | Self::BadKey { .. }
                | Self::UnsupportedKey { .. }
                | Self::KeyMismatch { .. }
        )
    }

    /// What is wrong, and the remedy.
    #[must_use]
    pub fn halves(&self) -> (String, String) {
        halves(self.to_string())
    }
}

// === impl CertificateListError ===

impl CertificateListError {
    /// What is wrong, and the remedy.
    #[must_use]
    pub fn halves(&self) -> (String, String) {
        halves(self.to_string())
    }
}

// === impl TrustError ===

impl TrustError {
    /// What is wrong, and the remedy.
    #[must_use]
    pub fn halves(&self) -> (String, String) {
        halves(self.to_string())
    }
}

fn halves(text: String) -> (String, String) {
    match text.rsplit_once("; ") {
        Some((problem, remedy)) => (problem.to_owned(), remedy.to_owned()),
        None => (text, String::new()),
    }
}

impl From<CertificateListError> for CaError {
    fn from(error: CertificateListError) -> Self {
        match error {
            CertificateListError::NotPem => Self::CertificateNotPem,
            CertificateListError::NoCertificate { found } => Self::NoCertificate { found },
            CertificateListError::BadCertificate { number, reason } => {
                Self::BadCertificate { number, reason }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each; names hold what could be taken for the end of the first half.
    fn all() -> [CaError; 15] {
        let text = || "a; b".to_owned();
        [
            CaError::CertificateNotPem,
            CaError::NoCertificate { found: text() },
            CaError::BadCertificate { number: 1, reason: text() },
            CaError::NotCa { subject: text() },
            CaError::MayNotSign { subject: text() },
            CaError::NotForServers { subject: text() },
            CaError::NotYetValid { not_before: text() },
            CaError::Expired { not_after: text() },
            CaError::KeyNotPem,
            CaError::NoKey { found: text() },
            CaError::EncryptedKey,
            CaError::BadKey { reason: text() },
            CaError::UnsupportedKey { found: text() },
            CaError::KeyMismatch { subject: text() },
            CertificateListError::NotPem.into(),
        ]
    }

    #[test]
    fn every_refusal_of_a_ca_has_a_remedy_whatever_its_names_hold() {
        for error in all() {
            let (problem, remedy) = error.halves();
            assert_eq!(format!("{problem}; {remedy}"), error.to_string());
            assert!(!remedy.starts_with('b') && !remedy.is_empty(), "{error}");
        }
    }

    #[test]
    fn the_key_is_blamed_for_the_key_alone() {
        for error in all() {
            let about_key =
                error.to_string().starts_with("the key") || error.to_string().contains("private key");
            assert_eq!(error.is_about_key(), about_key, "{error}");
        }
    }
}
