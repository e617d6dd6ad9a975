//! What can go wrong with a CA, a leaf or a trust root. Each text names the remedy; file names are
//! added by whoever read the file.

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
    #[error("the CA certificate expired at {not_after}; make a new one and give it to the clients")]
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
        "the key does not belong to the first certificate of the file, that of {subject}; \
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

/// Why trust towards an origin could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A file of `certs` cannot be read.
    #[error("{}: cannot be read; check the path and its permissions", path.display())]
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
    #[error("certificate number {number} of `certs` cannot be trusted: {reason}")]
    BadRoot {
        /// Position in the list, from 1.
        number: usize,
        /// What the parser said.
        reason: String,
    },
    /// rustls refused the set-up.
    #[error("TLS towards origins could not be set up")]
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
    #[error("holds no CERTIFICATE block, only {found}")]
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
