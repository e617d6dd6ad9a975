//! TLS of a listener of our own (`proxy.security`): its certificate, and whose clients may come in.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::error::{CaError, CertificateListError};
use crate::{describe, pem, provider};

/// Why a listener cannot speak TLS. No text holds a part of a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenerError {
    /// Its certificate cannot be read.
    #[error(transparent)]
    Certificate(CertificateListError),
    /// Its key cannot be read.
    #[error(transparent)]
    Key(CaError),
    /// Certificate and key do not belong together, or are of no use.
    #[error(
        "certificate and key are no pair for a server ({reason}); name the key that the certificate was made for"
    )]
    Pair {
        /// What rustls said.
        reason: String,
    },
    /// The authority of the clients cannot be read.
    #[error(transparent)]
    Clients(CertificateListError),
    /// It cannot vouch for anybody.
    #[error(
        "the clients cannot be verified by it ({reason}); name the authority that signed their certificates"
    )]
    ClientRoots {
        /// What rustls said.
        reason: String,
    },
}

// === impl ListenerError ===

impl ListenerError {
    /// Whether it is the key that is wrong, and not a certificate.
    #[must_use]
    pub const fn is_about_key(&self) -> bool {
        matches!(self, Self::Key(_) | Self::Pair { .. })
    }

    /// What is wrong, and the remedy.
    #[must_use]
    pub fn halves(&self) -> (String, String) {
        let text = self.to_string();
        let halves = text.rsplit_once("; ").map(|(problem, remedy)| (problem.to_owned(), remedy.to_owned()));
        halves.unwrap_or((text, String::new()))
    }
}

/// How a listener speaks TLS: 1.2 and 1.3, `http/1.1` only. `certificate` is its own, then those
/// that lead to a root. With `clients` only who has a certificate of one of these authorities comes in.
///
/// # Errors
/// [`ListenerError`].
pub fn listener_config(
    certificate: &[u8],
    key: &[u8],
    clients: Option<&[u8]>,
) -> Result<Arc<ServerConfig>, ListenerError> {
    let chain = pem::certificates(certificate).map_err(ListenerError::Certificate)?;
    let key = pem::private_key(key).map_err(ListenerError::Key)?;
    let unusable = |error: &rustls::Error| ListenerError::Pair { reason: describe(error) };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| unusable(&error))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            let refused = |reason: String| ListenerError::ClientRoots { reason };
            for root in pem::certificates(clients).map_err(ListenerError::Clients)? {
                roots.add(root).map_err(|error| refused(describe(&error)))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| refused(error.to_string()))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["proxy.test".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_pair_is_taken_with_and_without_an_authority_for_the_clients() {
        let (certificate, key) = pair();
        let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
        let config = listener_config(certificate, key, None).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
        assert!(listener_config(certificate, key, Some(certificate)).is_ok());
    }

    #[test]
    fn what_cannot_work_is_told_with_the_half_that_is_wrong() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        let refused = |certificate: &str, key: &str, clients: Option<&str>| {
            let clients = clients.map(str::as_bytes);
            let error = listener_config(certificate.as_bytes(), key.as_bytes(), clients).unwrap_err();
            let (problem, remedy) = error.halves();
            assert!(!problem.is_empty() && !remedy.is_empty(), "{error}");
            error.is_about_key()
        };
        assert!(refused(&certificate, &other, None), "another's key");
        assert!(refused(&certificate, &certificate, None), "no key");
        assert!(!refused(&key, &key, None), "no certificate");
        assert!(!refused(&certificate, &key, Some("nothing")), "no authority");
    }
}
