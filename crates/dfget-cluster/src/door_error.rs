//! Why two nodes did not meet, in words that say what to do about it.
//!
//! A client of TLS 1.3 is through with the handshake before the server has judged its certificate:
//! what the server has against it comes with the first read. So the errors of a
//! [`PeerStream`](crate::PeerStream) are explained too.

use std::io;
use std::net::SocketAddr;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Why a connection between two nodes came to nothing. The text names no address, except where we
/// dialled; who logs it adds the peer's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoorError {
    /// Nobody answers.
    #[error("cannot connect to {to}: {source}")]
    Connect {
        /// Who was dialled.
        to: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The other took too long, or sent nothing.
    #[error("it did not finish its greeting in time")]
    TimedOut,
    /// The other went before it was in: a port scan, a health check.
    #[error("it left before its greeting was complete")]
    Left,
    /// Plain text where the key is wanted.
    #[error(
        "it speaks plain text, but nodes of this cluster must show its key: give it the cluster's key file, or set cluster.allowPlaintextPeers if peers without one may come"
    )]
    PlainText,
    /// Plain text of somebody who took us for a web server.
    #[error("it sent an HTTP/1 request, but this port is for nodes of the cluster only")]
    Http,
    /// TLS, and we have no key.
    #[error("it wants to show a cluster key, but this node has none: copy the key file from another node")]
    NoKey,
    /// The handshake failed.
    #[error("{0}")]
    Tls(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
}

// === impl DoorError ===

impl DoorError {
    /// Of a handshake that ended so.
    pub(crate) fn of_handshake(error: io::Error) -> Self {
        match tls(&error) {
            Some(cause) => Self::Tls(describe(cause)),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Left,
            None => Self::Broken(error),
        }
    }

    /// Whether it is nobody's fault and not worth a warning: whoever only looked if the port is open.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self, Self::Left)
    }
}

/// What an I/O error of a connection between nodes means: what TLS says in our words, else as it is.
#[must_use]
pub fn describe_io(error: &io::Error) -> String {
    tls(error).map_or_else(|| error.to_string(), describe)
}

/// The same error; one of TLS says its cause and the remedy.
pub(crate) fn explained(error: io::Error) -> io::Error {
    match tls(&error) {
        Some(cause) => io::Error::new(error.kind(), describe(cause)),
        None => error,
    }
}

fn tls(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn describe(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(cause) => of_certificate(cause),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::NoCertificatesPresented => NO_CERTIFICATE.to_owned(),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge,
        ) => NO_TLS.to_owned(),
        Error::PeerIncompatible(cause) => {
            format!("it speaks another TLS than 1.3 ({cause:?}): is it a node of this cluster?")
        }
        other => format!("TLS with it failed: {other}"),
    }
}

fn of_certificate(cause: &CertificateError) -> String {
    use CertificateError as E;
    match cause {
        E::UnknownIssuer | E::BadSignature => OTHER_KEY.to_owned(),
        E::Expired | E::ExpiredContext { .. } => {
            format!("its certificate has expired by our clock: {CLOCK}")
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            format!("its certificate is not valid yet by our clock: {CLOCK}")
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            "it holds the cluster's key but is not the node with this address: set host.advertiseIP on it, or look for two nodes with one address".to_owned()
        }
        other => format!("its certificate is refused ({other}): is it a node of this cluster?"),
    }
}

fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => OTHER_KEY.to_owned(),
        AlertDescription::CertificateExpired => {
            format!("by its clock our certificate is not valid: {CLOCK}")
        }
        AlertDescription::CertificateRequired => {
            "it wants a certificate that we did not show: is it a node of this cluster?".to_owned()
        }
        AlertDescription::BadCertificate => {
            "it refuses our certificate: compare the addresses of both nodes with host.advertiseIP".to_owned()
        }
        other => format!("it refused us (TLS alert {}): is it a node of this cluster?", u8::from(other)),
    }
}

const OTHER_KEY: &str = "its cluster key is another one: copy the key file (/etc/dragonfly/cluster.key) from one node to all others";
const CLOCK: &str = "compare the clocks of both nodes (they may differ by a day at most)";
const NO_CERTIFICATE: &str = "it speaks TLS but shows no cluster key: give it the cluster's key file";
const NO_TLS: &str = "it speaks no TLS: it has no cluster key, or another program listens there";
