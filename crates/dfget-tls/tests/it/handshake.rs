//! TLS handshakes in memory: what a client and a server make of each other's configuration.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, Error, HandshakeKind, ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::openssl::Workshop;

/// What a client knows after a handshake.
pub(crate) struct Handshake {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) protocol: Option<Vec<u8>>,
    pub(crate) version: rustls::ProtocolVersion,
    pub(crate) kind: HandshakeKind,
}

/// Runs both sides until the client is done or one of them fails: the client's verdict.
pub(crate) fn shake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<Handshake, Error> {
    let name = ServerName::try_from(name.to_owned()).expect("a server name");
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    let mut server_error = None;
    while client.is_handshaking() || server.is_handshaking() {
        let to_server = client_sends(&mut client);
        server.read_tls(&mut to_server.as_slice()).expect("reading from memory");
        if let Err(error) = server.process_new_packets() {
            server_error = Some(error);
        }
        let mut to_client = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut to_client).expect("writing to memory");
        }
        if to_client.is_empty() && to_server.is_empty() {
            return Err(server_error.expect("a handshake only rests when a side has failed"));
        }
        client.read_tls(&mut to_client.as_slice()).expect("reading from memory");
        client.process_new_packets()?;
    }
    Ok(Handshake {
        chain: client.peer_certificates().expect("a server has certificates").to_vec(),
        protocol: client.alpn_protocol().map(<[u8]>::to_vec),
        version: client.protocol_version().expect("agreed"),
        kind: client.handshake_kind().expect("done"),
    })
}

fn client_sends(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("writing to memory");
    }
    bytes
}

/// What a client says of a server that answers its hello with `bytes`.
pub(crate) fn answer_with(client: &Arc<ClientConfig>, bytes: &[u8]) -> Error {
    let name = ServerName::try_from("registry.example").expect("a server name");
    let mut client = ClientConnection::new(Arc::clone(client), name).expect("a client");
    client_sends(&mut client);
    client.read_tls(&mut &*bytes).expect("reading from memory");
    client.process_new_packets().map(|_| ()).expect_err("that is no handshake")
}

/// An origin that presents the certificates of `certificate` with the key of `key`, fitting or not.
pub(crate) fn origin(workshop: &Workshop, certificate: &str, key: &str) -> ServerConfig {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&workshop.read(certificate)).collect();
    let key = PrivateKeyDer::from_pem_slice(&workshop.read(key)).expect("a private key");
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a supported key");
    let certified = CertifiedKey::new(chain.expect("certificates"), key);
    let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(certified));
    ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the default versions")
        .with_no_client_auth()
        .with_cert_resolver(resolver)
}

/// A client that trusts the CA of the workshop and offers `protocols`.
pub(crate) fn client(
    workshop: &Workshop,
    versions: &[&'static rustls::SupportedProtocolVersion],
    protocols: &[&[u8]],
) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(&workshop.read("ca.crt")).expect("a certificate");
    roots.add(authority).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .expect("versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}
