//! Why a TLS handshake with an origin failed, in words that fit a reason phrase.
//!
//! The clients print the reason phrase of a refused CONNECT and nothing else, so one line has to
//! say it: ASCII, no control characters, at most [`MAX_LENGTH`] bytes, whatever the peer sent.

use std::io;

use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};
use rustls_pki_types::{ServerName, UnixTime};

use crate::instant;

/// The cause of `error` in plain words.
pub fn describe(error: &Error) -> String {
    reason_phrase(&match error {
        Error::InvalidCertificate(cause) => certificate(cause),
        Error::InvalidMessage(cause) => message(cause),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "unexpected message in the TLS handshake".to_owned()
        }
        Error::AlertReceived(alert) => alert_received(*alert),
        Error::NoCertificatesPresented => "the server sent no certificate".to_owned(),
        Error::PeerIncompatible(cause) => incompatible(cause),
        Error::PeerMisbehaved(_) => "the server broke the rules of TLS".to_owned(),
        Error::UnsupportedNameType => "the name cannot be verified".to_owned(),
        Error::PeerSentOversizedRecord => "the server sent an oversized TLS record".to_owned(),
        Error::DecryptError => "a TLS record was damaged on its way".to_owned(),
        Error::NoApplicationProtocol => "no common protocol: http/1.1 was offered".to_owned(),
        other => format!("TLS failed: {other}"),
    })
}

/// The cause of a failed handshake as the I/O layer reports it: [`describe`] for what rustls said,
/// else how the connection ended.
pub fn describe_io(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    if let Some(tls) = tls {
        return describe(tls);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "connection closed during the TLS handshake".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "connection reset during the TLS handshake".to_owned()
        }
        io::ErrorKind::TimedOut => "no answer to the TLS handshake".to_owned(),
        _ => reason_phrase(&format!("TLS handshake failed: {error}")),
    }
}

fn certificate(cause: &CertificateError) -> String {
    use CertificateError as E;
    match cause {
        E::ExpiredContext { not_after, .. } => {
            format!("certificate expired at {}", time(*not_after))
        }
        E::Expired => "certificate expired".to_owned(),
        E::NotValidYetContext { not_before, .. } => {
            format!("certificate valid from {} only", time(*not_before))
        }
        E::NotValidYet => "certificate not valid yet".to_owned(),
        E::UnknownIssuer => "certificate signed by an unknown authority (trust it by `certs` in dfget.yaml, or by SSL_CERT_FILE)".to_owned(),
        E::NotValidForNameContext { expected, presented } => wrong_name(expected, presented),
        E::NotValidForName => "certificate not valid for this name".to_owned(),
        E::InvalidPurposeContext { .. } | E::InvalidPurpose => {
            "certificate not for servers (extendedKeyUsage lacks serverAuth)".to_owned()
        }
        E::BadSignature => "certificate or handshake with a wrong signature".to_owned(),
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "certificate signed with an unsupported algorithm (such as SHA-1)".to_owned()
        }
        E::BadEncoding => "certificate not readable".to_owned(),
        E::UnhandledCriticalExtension => "certificate with an unknown critical extension".to_owned(),
        E::Revoked => "certificate revoked".to_owned(),
        other => format!("certificate refused: {other}"),
    }
}

fn wrong_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let expected = expected.to_str();
    let names: Vec<&str> = presented.iter().filter_map(|name| bare_name(name)).collect();
    if names.is_empty() {
        return format!("certificate without a name (subjectAltName), asked for {expected}");
    }
    let shown = names.iter().take(MAX_NAMES).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => format!("certificate valid for {shown}, not for {expected}"),
        more => format!("certificate valid for {shown} and {more} more, not for {expected}"),
    }
}

/// The name within rustls' rendering of one: `DnsName("a.example")` or `IpAddress(192.0.2.1)`.
fn bare_name(rendered: &str) -> Option<&str> {
    let inner = rendered
        .strip_prefix("DnsName(")
        .or_else(|| rendered.strip_prefix("IpAddress("))?
        .strip_suffix(')')?;
    Some(inner.trim_matches('"'))
}

fn message(cause: &InvalidMessage) -> String {
    match cause {
        InvalidMessage::InvalidContentType
        | InvalidMessage::UnknownProtocolVersion
        | InvalidMessage::MessageTooLarge => "the server speaks no TLS on this port".to_owned(),
        _ => "the server sent a malformed TLS message".to_owned(),
    }
}

fn alert_received(alert: AlertDescription) -> String {
    let meaning = match alert {
        AlertDescription::ProtocolVersion => "it wants another version of TLS",
        AlertDescription::HandshakeFailure => "no common cipher or key exchange",
        AlertDescription::UnrecognisedName => "it does not know this name",
        AlertDescription::NoApplicationProtocol => "it does not speak http/1.1",
        AlertDescription::CertificateRequired => "it wants a client certificate",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::InternalError => "internal error of the server",
        _ => return format!("the server refused the TLS handshake (alert {})", u8::from(alert)),
    };
    format!("the server refused the TLS handshake: {meaning}")
}

fn incompatible(cause: &PeerIncompatible) -> String {
    match cause {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            "the server speaks no TLS 1.2 or 1.3".to_owned()
        }
        _ => "the server shares no TLS parameters with us".to_owned(),
    }
}

fn time(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(|| "an unknown time".to_owned(), instant::text)
}

/// Makes any text fit a reason phrase: what is not printable ASCII becomes `?`.
fn reason_phrase(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).take(MAX_LENGTH).collect()
}

/// How many names of a certificate are shown.
const MAX_NAMES: usize = 3;
/// Longest text, in bytes.
const MAX_LENGTH: usize = 200;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_are_shown_without_their_wrapping_and_a_few_only() {
        let expected = ServerName::try_from("asked.example").expect("a name");
        let presented: Vec<String> =
            ["a", "b", "c", "d", "e"].iter().map(|name| format!("DnsName(\"{name}.example\")")).collect();
        assert_eq!(
            wrong_name(&expected, &presented),
            "certificate valid for a.example, b.example, c.example and 2 more, not for asked.example"
        );
        assert_eq!(
            wrong_name(&expected, &["IpAddress(192.0.2.1)".to_owned()]),
            "certificate valid for 192.0.2.1, not for asked.example"
        );
        assert_eq!(
            wrong_name(&expected, &[]),
            "certificate without a name (subjectAltName), asked for asked.example"
        );
    }

    #[test]
    fn what_the_peer_sent_cannot_break_the_line() {
        let hostile = "x\r\nSet-Cookie: a=b\u{7f}\u{e4}".repeat(40);
        let text = reason_phrase(&hostile);
        assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text}");
        assert_eq!(text.len(), MAX_LENGTH);
    }

    #[test]
    fn an_expiry_comes_with_its_date() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let error = CertificateError::ExpiredContext { time: at(9), not_after: at(1_700_000_000) };
        assert_eq!(describe(&error.into()), "certificate expired at 2023-11-14 22:13:20 UTC");
    }

    #[test]
    fn an_io_error_that_carries_a_tls_error_is_described_by_it() {
        let tls = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        let error = io::Error::new(io::ErrorKind::InvalidData, tls);
        assert_eq!(describe_io(&error), "the server speaks no TLS on this port");
        assert_eq!(
            describe_io(&io::ErrorKind::UnexpectedEof.into()),
            "connection closed during the TLS handshake"
        );
    }
}
