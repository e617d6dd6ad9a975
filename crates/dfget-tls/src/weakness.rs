//! What is weak in a CA that works: said aloud at start, refused never.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use x509_parser::prelude::X509Certificate;
use x509_parser::public_key::PublicKey;

use crate::instant;

/// One thing a careful site would not leave so; `Display` is a sentence for the log.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Weakness {
    /// An RSA key below the 3072 bits that NIST SP 800-57 asks for beyond 2030.
    ShortRsaKey {
        /// Its size in bits.
        bits: usize,
    },
    /// Valid for more than ten years.
    LongValidity {
        /// Whole years.
        years: i64,
    },
    /// The certificate itself is signed with SHA-1 or MD5.
    BrokenHash {
        /// The hash by name.
        name: &'static str,
    },
    /// Whoever has the key can impersonate every host to whoever trusts the CA.
    NoNameConstraints,
    /// Nothing says what the key may be used for.
    NoKeyUsage,
    /// The end is near.
    ExpiresSoon {
        /// When, UTC.
        not_after: String,
    },
}

// === impl Weakness ===

impl fmt::Display for Weakness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShortRsaKey { bits } => {
                write!(formatter, "its RSA key has {bits} bits; 3072 or more are advised")
            }
            Self::LongValidity { years } => {
                write!(formatter, "it is valid for {years} years; at most 10 are advised")
            }
            Self::BrokenHash { name } => write!(formatter, "it is signed with {name}; use SHA-256"),
            Self::NoNameConstraints => formatter.write_str(
                "it has no name constraints: whoever gets its key can impersonate any host to \
                 every client that trusts it",
            ),
            Self::NoKeyUsage => formatter.write_str("it has no keyUsage; `critical, keyCertSign` is advised"),
            Self::ExpiresSoon { not_after } => {
                write!(formatter, "it expires at {not_after}; make a new one now")
            }
        }
    }
}

/// What does not change with time.
pub(crate) fn of_certificate(certificate: &X509Certificate<'_>) -> Vec<Weakness> {
    let mut found = Vec::new();
    if let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed() {
        let bits = key.key_size();
        if bits < ADVISED_RSA_BITS {
            found.push(Weakness::ShortRsaKey { bits });
        }
    }
    let validity = certificate.validity();
    let seconds = validity.not_after.timestamp().saturating_sub(validity.not_before.timestamp());
    if seconds > ADVISED_YEARS * YEAR_SECONDS + LEAP_DAYS_SECONDS {
        found.push(Weakness::LongValidity { years: seconds / YEAR_SECONDS });
    }
    if let Some(name) = broken_hash(certificate) {
        found.push(Weakness::BrokenHash { name });
    }
    if !matches!(certificate.name_constraints(), Ok(Some(_))) {
        found.push(Weakness::NoNameConstraints);
    }
    if !matches!(certificate.key_usage(), Ok(Some(_))) {
        found.push(Weakness::NoKeyUsage);
    }
    found
}

/// What comes with time.
pub(crate) fn of_remaining_time(not_after: Timestamp, now: Timestamp) -> Option<Weakness> {
    (not_after.duration_since(now) < SOON)
        .then(|| Weakness::ExpiresSoon { not_after: instant::text(not_after) })
}

/// The hash of the certificate's own signature, when it is one that can be forged.
fn broken_hash(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    match certificate.signature_algorithm.algorithm.to_id_string().as_str() {
        // sha1WithRSAEncryption and ecdsa-with-SHA1, RFC 3279 section 2.2
        "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => Some("SHA-1"),
        // md5WithRSAEncryption
        "1.2.840.113549.1.1.4" => Some("MD5"),
        _ => None,
    }
}

const ADVISED_RSA_BITS: usize = 3072;
const ADVISED_YEARS: i64 = 10;
const YEAR_SECONDS: i64 = 365 * 24 * 3600;
/// Ten calendar years hold up to three leap days.
const LEAP_DAYS_SECONDS: i64 = 3 * 24 * 3600;
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);
