//! One leaf certificate: which fields it has, and its signing.
//!
//! A leaf names exactly one host, serves TLS servers only, lives a day, and carries a public key
//! that is not the CA's. It never outlives the CA nor starts before it.

use aws_lc_rs::rand;
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateDer;

use crate::authority::CertificateAuthority;
use crate::der;
use crate::error::LeafError;
use crate::host::HostName;

/// A signed leaf and the span within which it should be used.
pub(crate) struct Leaf {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) not_before: Timestamp,
    /// From here on a new one is due: an hour before the end, or the CA's own end where a new leaf
    /// would not last longer.
    pub(crate) renew_at: Timestamp,
}

/// Signs a leaf for `host` with the public key `public_key_info` (SubjectPublicKeyInfo, DER).
///
/// # Errors
/// The CA is not valid at `now`, or the cryptographic library failed.
pub(crate) fn mint(
    authority: &CertificateAuthority,
    public_key_info: &[u8],
    host: &HostName,
    now: Timestamp,
) -> Result<Leaf, LeafError> {
    let (ca_start, ca_end) = authority.validity_at(now)?;
    let not_before = now.saturating_sub(BACKDATE).unwrap_or(ca_start).max(ca_start);
    let wanted_end = now.saturating_add(LIFETIME).unwrap_or(ca_end);
    let not_after = wanted_end.min(ca_end);
    let renew_at =
        if wanted_end > ca_end { not_after } else { not_after.saturating_sub(RENEWAL).unwrap_or(not_after) };

    let algorithm = authority.key().signature_algorithm();
    let to_be_signed = der::sequence(&[
        &VERSION_3,
        &der::value(der::INTEGER, &serial_number()?),
        algorithm,
        authority.subject_der(),
        &der::sequence(&[&der::time(not_before), &der::time(not_after)]),
        &subject(host),
        public_key_info,
        &der::context(3, &extensions(host, authority.key_identifier())),
    ]);
    let signature = authority
        .key()
        .sign(&to_be_signed)
        .map_err(|_| LeafError::Cryptography { operation: "sign a certificate" })?;
    let certificate = der::sequence(&[&to_be_signed, algorithm, &der::bit_string(&signature)]);
    Ok(Leaf { certificate: certificate.into(), not_before, renew_at })
}

/// 16 random bytes, positive and of full length: 126 bits that cannot be guessed.
pub(crate) fn serial_number() -> Result<[u8; 16], LeafError> {
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| LeafError::Cryptography { operation: "draw random bytes" })?;
    serial[0] = (serial[0] & 0x3f) | 0x40;
    Ok(serial)
}

/// The common name, for people only: verifiers read the alternative name. There is none where it
/// would do harm: a host longer than a common name may be (64, RFC 5280 appendix A.1), and an
/// address, which openssl and GnuTLS take for a DNS name then, and refuse under a CA whose name
/// constraints permit the address and no such name.
fn common_name(host: &HostName) -> Option<&str> {
    match host {
        HostName::Dns(name) if name.len() <= MAX_COMMON_NAME => Some(name),
        HostName::Dns(_) | HostName::Ip(_) => None,
    }
}

fn subject(host: &HostName) -> Vec<u8> {
    let Some(name) = common_name(host) else { return der::sequence(&[]) };
    let attribute = der::sequence(&[COMMON_NAME, &der::value(der::UTF8_STRING, name.as_bytes())]);
    der::sequence(&[&der::set_of_one(&attribute)])
}

fn extensions(host: &HostName, authority_key_identifier: Option<&[u8]>) -> Vec<u8> {
    let name = match host {
        HostName::Dns(name) => der::context_primitive(2, name.as_bytes()),
        HostName::Ip(std::net::IpAddr::V4(address)) => der::context_primitive(7, &address.octets()),
        HostName::Ip(std::net::IpAddr::V6(address)) => der::context_primitive(7, &address.octets()),
    };
    // RFC 5280 section 4.2.1.6: without a subject the alternative name must be critical.
    let nameless = common_name(host).is_none();
    let mut all = vec![
        extension(BASIC_CONSTRAINTS, true, &der::sequence(&[])),
        extension(KEY_USAGE, true, &DIGITAL_SIGNATURE),
        extension(EXTENDED_KEY_USAGE, false, &der::sequence(&[SERVER_AUTH])),
        extension(SUBJECT_ALT_NAME, nameless, &der::sequence(&[&name])),
    ];
    if let Some(identifier) = authority_key_identifier {
        let identifier = der::sequence(&[&der::context_primitive(0, identifier)]);
        all.push(extension(AUTHORITY_KEY_IDENTIFIER, false, &identifier));
    }
    der::sequence(&all.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn extension(id: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let id = der::value(der::OBJECT_IDENTIFIER, id);
    let content = der::value(der::OCTET_STRING, content);
    if critical { der::sequence(&[&id, &der::TRUE, &content]) } else { der::sequence(&[&id, &content]) }
}

/// Clocks of clients may be behind ours.
const BACKDATE: SignedDuration = SignedDuration::from_hours(1);
const LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// How long before its end a leaf is replaced.
const RENEWAL: SignedDuration = SignedDuration::from_hours(1);
const MAX_COMMON_NAME: usize = 64;

/// `[0] EXPLICIT INTEGER 2`: version 3.
const VERSION_3: [u8; 5] = [0xa0, 0x03, 0x02, 0x01, 0x02];
/// The bit string whose only bit is the first one, seven bits unused.
const DIGITAL_SIGNATURE: [u8; 4] = [der::BIT_STRING, 0x02, 0x07, 0x80];
/// id-kp-serverAuth 1.3.6.1.5.5.7.3.1, complete.
const SERVER_AUTH: &[u8] = &[der::OBJECT_IDENTIFIER, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
/// id-at-commonName 2.5.4.3, complete.
const COMMON_NAME: &[u8] = &[der::OBJECT_IDENTIFIER, 0x03, 0x55, 0x04, 0x03];
/// id-ce-basicConstraints 2.5.29.19
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// id-ce-keyUsage 2.5.29.15
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// id-ce-extKeyUsage 2.5.29.37
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// id-ce-subjectAltName 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// id-ce-authorityKeyIdentifier 2.5.29.35
const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
