//! The client's end of TLS 1.3, made to cost less than any server.
//!
//! rustls does the handshake. Records are then opened here, in place, in one large buffer that whole reads of the
//! socket go into: no copy and no allocation per record, and still every byte is decrypted and authenticated, as a
//! real client does. One cipher suite (AES-128-GCM, what Go's clients take) and one group (X25519) are offered, so
//! that all contenders speak the same.
//!
//! Certificates are looked at by [`Trust::Verify`] once for each contender; the load itself goes by
//! [`Trust::Accept`], so that the client's arithmetic is no part of what is measured.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::{ClientConfig, ConnectionTrafficSecrets, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Whether the server's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It must be of one of the authorities given.
    Verify,
    /// It is not looked at.
    Accept,
}

/// The settings of both kinds of handshakes.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    verify: Arc<ClientConfig>,
    accept: Arc<ClientConfig>,
}

/// One side's records.
struct Direction {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

/// An open TLS 1.3 connection.
pub struct TlsStream {
    tcp: TcpStream,
    buffer: Vec<u8>,
    filled: Range<usize>,
    incoming: Direction,
    outgoing: Direction,
}

// === impl TlsSettings ===

impl TlsSettings {
    /// Settings that trust the authorities in this PEM text where certificates are verified.
    ///
    /// # Errors
    /// The text holds no certificate, or one that cannot be read.
    pub fn new(authorities: &[u8]) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities) {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        let provider = Arc::new(CryptoProvider {
            cipher_suites: vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![provider::kx_group::X25519],
            ..provider::default_provider()
        });
        let builder = || {
            ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .map_err(io::Error::other)
        };
        let verify = builder()?.with_root_certificates(roots).with_no_client_auth();
        let accept = builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAll))
            .with_no_client_auth();
        Ok(Self { verify: settled(verify), accept: settled(accept) })
    }
}

fn settled(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.enable_secret_extraction = true;
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

// === impl TlsStream ===

impl TlsStream {
    /// Makes a full handshake over `tcp`.
    ///
    /// # Errors
    /// The handshake fails, or the connection breaks.
    pub fn handshake(
        mut tcp: TcpStream,
        name: &str,
        trust: Trust,
        settings: &TlsSettings,
    ) -> io::Result<Self> {
        let config = match trust {
            Trust::Verify => &settings.verify,
            Trust::Accept => &settings.accept,
        };
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        // rustls gets one record at a time, so that nothing behind the handshake is left inside it.
        let mut records = Records::default();
        loop {
            while connection.wants_write() {
                connection.write_tls(&mut tcp)?;
            }
            if !connection.is_handshaking() {
                break;
            }
            let mut record = records.next(&mut tcp)?;
            while !record.is_empty() {
                connection.read_tls(&mut record)?;
            }
            connection.process_new_packets().map_err(io::Error::other)?;
        }
        let secrets = connection.dangerous_extract_secrets().map_err(io::Error::other)?;
        let (buffer, filled) = records.into_rest();
        Ok(Self {
            tcp,
            buffer,
            filled,
            incoming: Direction::new(&secrets.rx)?,
            outgoing: Direction::new(&secrets.tx)?,
        })
    }

    /// Sends `data`, which fits into one record, as one.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, data: &[u8]) -> io::Result<()> {
        let mut sealed = data.to_vec();
        sealed.push(APPLICATION_DATA);
        let length = u16::try_from(sealed.len() + TAG).map_err(io::Error::other)?.to_be_bytes();
        let header = [APPLICATION_DATA, 3, 3, length[0], length[1]];
        let nonce = self.outgoing.next_nonce();
        self.outgoing
            .key
            .seal_in_place_append_tag(nonce, Aad::from(header), &mut sealed)
            .map_err(|_| io::Error::other("a record cannot be sealed"))?;
        let mut record = header.to_vec();
        record.append(&mut sealed);
        self.tcp.write_all(&record)
    }

    /// The next data; `None` after the server said that no more comes.
    ///
    /// # Errors
    /// The connection broke or ended without a word, or a record is not genuine.
    pub fn receive(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            let record = next_record(&mut self.tcp, &mut self.buffer, &mut self.filled)?;
            let start = record.start + HEADER;
            let (header, sealed) = self.buffer[record].split_at_mut(HEADER);
            if header[0] == CHANGE_CIPHER_SPEC {
                continue;
            }
            let additional: [u8; HEADER] = header.try_into().map_err(io::Error::other)?;
            let nonce = self.incoming.next_nonce();
            let inner = self
                .incoming
                .key
                .open_in_place(nonce, Aad::from(additional), sealed)
                .map_err(|_| io::Error::other("a record is not genuine"))?;
            let end = inner
                .iter()
                .rposition(|byte| *byte != 0)
                .ok_or_else(|| io::Error::other("an empty record"))?;
            match (inner[end], inner.first()) {
                (APPLICATION_DATA, _) => return Ok(Some(&self.buffer[start..start + end])),
                (HANDSHAKE, Some(&NEW_SESSION_TICKET)) => {}
                (ALERT, _) if inner.get(1) == Some(&0) => return Ok(None),
                (kind, first) => {
                    return Err(io::Error::other(format!(
                        "a record of type {kind} that begins with {first:?}"
                    )));
                }
            }
        }
    }
}

// === impl Direction ===

impl Direction {
    fn new((sequence, secrets): &(u64, ConnectionTrafficSecrets)) -> io::Result<Self> {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            return Err(io::Error::other("another cipher suite than was offered"));
        };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).map_err(|_| io::Error::other("a bad key"))?;
        let iv = iv.as_ref().try_into().map_err(io::Error::other)?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence: *sequence })
    }

    /// RFC 8446, 5.3.
    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, part) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= part;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Records of the handshake, as they lie in the buffer that the connection goes on with.
#[derive(Default)]
struct Records {
    buffer: Vec<u8>,
    filled: Range<usize>,
}

// === impl Records ===

impl Records {
    fn next(&mut self, tcp: &mut TcpStream) -> io::Result<&[u8]> {
        if self.buffer.is_empty() {
            self.buffer.resize(SMALL_BUFFER, 0);
        }
        let record = next_record(tcp, &mut self.buffer, &mut self.filled)?;
        Ok(&self.buffer[record])
    }

    fn into_rest(self) -> (Vec<u8>, Range<usize>) {
        (self.buffer, self.filled)
    }
}

fn next_record(
    tcp: &mut TcpStream,
    buffer: &mut Vec<u8>,
    filled: &mut Range<usize>,
) -> io::Result<Range<usize>> {
    fill(tcp, buffer, filled, HEADER)?;
    let header: [u8; HEADER] =
        buffer[filled.start..filled.start + HEADER].try_into().map_err(io::Error::other)?;
    let length = HEADER + usize::from(u16::from_be_bytes([header[3], header[4]]));
    if length > MAX_RECORD {
        return Err(io::Error::other("a record is too long"));
    }
    fill(tcp, buffer, filled, length)?;
    let record = filled.start..filled.start + length;
    filled.start = record.end;
    Ok(record)
}

/// Reads until `wanted` bytes are there, as much at once as comes.
fn fill(
    tcp: &mut TcpStream,
    buffer: &mut Vec<u8>,
    filled: &mut Range<usize>,
    wanted: usize,
) -> io::Result<()> {
    while filled.len() < wanted {
        if filled.start > 0 {
            buffer.copy_within(filled.clone(), 0);
            *filled = 0..filled.len();
        }
        let count = tcp.read(&mut buffer[filled.end..])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled.end += count;
        // A connection that carries much gets room for it, one that is idle keeps little.
        if filled.end == buffer.len() && buffer.len() < LARGE_BUFFER {
            buffer.resize(LARGE_BUFFER, 0);
        }
    }
    Ok(())
}

/// Takes every certificate, and every signature unseen.
#[derive(Debug)]
struct AcceptAll;

// === impl AcceptAll ===

impl ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

const HEADER: usize = 5;
const TAG: usize = 16;
const MAX_RECORD: usize = HEADER + (1 << 14) + 256;
const SMALL_BUFFER: usize = MAX_RECORD;
const LARGE_BUFFER: usize = 256 * 1024;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const NEW_SESSION_TICKET: u8 = 4;
