//! Who gets in at a door, and what those who do not are told.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dfget_cluster::{ClusterKey, Dialer, Door, DoorError, Identity, PeerStream};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const LONG: Duration = Duration::from_secs(20);
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A clock that is off by some seconds.
#[derive(Debug)]
struct Off(i64);

impl TimeProvider for Off {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now.checked_add_signed(self.0)?)))
    }
}

fn identity(key: u8, off: i64) -> Identity {
    named(key, off, "127.0.0.1")
}

fn named(key: u8, off: i64, address: &str) -> Identity {
    let key = ClusterKey::from_bytes([key; 32]);
    Identity::with_clock(&key, &["node1-job7".to_owned(), address.to_owned()], Arc::new(Off(off)))
        .expect("it can be had")
}

fn door(identity: &Identity) -> Door {
    Door { tls: Some(identity.server()), plain: false }
}

/// What both sides get of one meeting. The client reads once, so that it hears what the server has
/// against it.
async fn meet(door: Door, dialer: Dialer) -> (Result<PeerStream, DoorError>, Result<PeerStream, String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("it can be had");
    let to = listener.local_addr().expect("it can be had");
    let client = async {
        let mut stream = dialer.dial(to, LONG).await.map_err(|error| error.to_string())?;
        let mut hello = [0; 2];
        stream.read_exact(&mut hello).await.map_err(|error| error.to_string())?;
        Ok(stream)
    };
    let server = async {
        let mut stream = door.admit(listener.accept().await.expect("it can be had").0).await?;
        stream.write_all(b"in").await.expect("it can be had");
        stream.flush().await.expect("it can be had");
        Ok(stream)
    };
    tokio::join!(server, client)
}

fn texts<T, U, E: std::fmt::Display>(pair: (Result<T, DoorError>, Result<U, E>)) -> (String, String) {
    let server = pair.0.err().map_or_else(|| "in".to_owned(), |error| error.to_string());
    (server, pair.1.err().map_or_else(|| "in".to_owned(), |error| error.to_string()))
}

/// What becomes of a stranger that does this.
async fn stranger(door: Door, sends: &'static [u8], goes: bool) -> DoorError {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("it can be had");
    let mut socket =
        TcpStream::connect(listener.local_addr().expect("it can be had")).await.expect("it can be had");
    socket.write_all(sends).await.expect("it can be had");
    if goes {
        socket.shutdown().await.expect("it can be had");
    }
    let refused =
        door.admit(listener.accept().await.expect("it can be had").0).await.expect_err("it is refused");
    drop(socket);
    refused
}

#[tokio::test]
async fn nodes_with_one_key_meet_and_say_so() {
    let (one, two) = (identity(1, 0), identity(1, 0));
    let (server, client) = meet(door(&one), Dialer { tls: Some(two.client()) }).await;
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    assert!(server.is_keyed() && client.is_keyed() && server.plain().is_none());
    assert_eq!(server.peer_addr().unwrap(), client.socket().local_addr().unwrap());
    assert!([&server, &client].iter().all(|end| end.socket().system().unwrap().nodelay().unwrap()));

    let content: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (head, tail) = content.split_at(5);
    let write = async {
        let sent = client.write_vectored(&[IoSlice::new(head), IoSlice::new(tail)]).await.unwrap();
        client.write_all(&content[sent..]).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, read) = tokio::join!(write, server.read_to_end(&mut got));
    read.unwrap();
    assert!(got == content, "{} bytes", got.len());
}

#[tokio::test]
async fn a_wrong_key_is_told_to_both_sides_with_the_remedy() {
    let (one, two) = (identity(1, 0), identity(2, 0));
    let (server, client) = texts(meet(door(&one), Dialer { tls: Some(two.client()) }).await);
    for text in [server, client] {
        assert!(text.starts_with("its cluster key is another one: copy the key file"), "{text}");
        assert!(text.contains("/etc/dragonfly/cluster.key"), "{text}");
    }
}

#[tokio::test]
async fn a_clock_that_is_an_hour_off_does_no_harm() {
    for off in [-HOUR, HOUR, -23 * HOUR, 23 * HOUR] {
        let (one, two) = (identity(1, 0), identity(1, off));
        let met = texts(meet(door(&one), Dialer { tls: Some(two.client()) }).await);
        assert_eq!(met, ("in".to_owned(), "in".to_owned()), "{off}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_time_is_refused_with_a_word_about_the_clock() {
    for off in [-40 * DAY, -2 * DAY, 2 * DAY, 40 * DAY] {
        let (one, two) = (identity(1, 0), identity(1, off));
        let (server, client) = texts(meet(door(&one), Dialer { tls: Some(two.client()) }).await);
        for text in [server, client] {
            assert!(text.contains("compare the clocks of both nodes"), "{off}: {text}");
        }
    }
}

#[tokio::test]
async fn the_certificate_of_a_node_that_runs_for_long_is_made_anew() {
    /// A clock that somebody turns.
    #[derive(Debug, Default)]
    struct Turned(std::sync::atomic::AtomicI64);
    impl TimeProvider for Turned {
        fn current_time(&self) -> Option<UnixTime> {
            Off(self.0.load(std::sync::atomic::Ordering::Relaxed)).current_time()
        }
    }
    let clock = Arc::new(Turned::default());
    let turn = |to| clock.0.store(to, std::sync::atomic::Ordering::Relaxed);
    let key = ClusterKey::from_bytes([1; 32]);
    let clock_of_node: Arc<dyn TimeProvider> = Arc::<Turned>::clone(&clock);
    let old = Identity::with_clock(&key, &["127.0.0.1".to_owned()], clock_of_node).unwrap();
    for off in [0, 100 * DAY, 3650 * DAY, -100 * DAY] {
        turn(off);
        let new = identity(1, off);
        let met = texts(meet(door(&old), Dialer { tls: Some(new.client()) }).await);
        assert_eq!(met, ("in".to_owned(), "in".to_owned()), "{off}");
        let met = texts(meet(door(&new), Dialer { tls: Some(old.client()) }).await);
        assert_eq!(met, ("in".to_owned(), "in".to_owned()), "{off}");
    }
}

#[tokio::test]
async fn another_node_than_the_one_that_was_dialled_is_refused() {
    let (one, two) = (named(1, 0, "192.0.2.1"), identity(1, 0));
    let (server, client) = texts(meet(door(&one), Dialer { tls: Some(two.client()) }).await);
    assert!(client.contains("is not the node with this address"), "{client}");
    assert!(server.contains("addresses of both nodes"), "{server}");
}

#[tokio::test]
async fn plain_text_comes_in_only_where_it_is_allowed() {
    let keyed = identity(1, 0);
    let write = |door: Door| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialer = Dialer { tls: None };
        let mut client = dialer.dial(listener.local_addr().unwrap(), LONG).await.unwrap();
        client.write_all(b"\0\0\0\0").await.unwrap();
        door.admit(listener.accept().await.unwrap().0).await
    };
    let refused = write(door(&keyed)).await.unwrap_err();
    assert!(matches!(refused, DoorError::PlainText), "{refused}");
    assert!(refused.to_string().contains("cluster.allowPlaintextPeers"));

    let mut admitted = write(Door { plain: true, ..door(&keyed) }).await.unwrap();
    assert!(!admitted.is_keyed() && admitted.plain().is_some());
    let mut all = [1; 4];
    admitted.read_exact(&mut all).await.unwrap();
    assert_eq!(all, [0; 4], "the bytes that were looked at are still there");

    let both = Door { plain: true, ..door(&keyed) };
    assert!(meet(both, Dialer { tls: Some(keyed.client()) }).await.0.unwrap().is_keyed());
}

#[tokio::test]
async fn a_node_with_a_key_is_told_that_the_other_has_none() {
    let keyed = identity(1, 0);
    let (server, client) =
        texts(meet(Door { tls: None, plain: true }, Dialer { tls: Some(keyed.client()) }).await);
    assert!(server.contains("this node has none: copy the key file"), "{server}");
    assert_ne!(client, "in");
}

#[tokio::test]
async fn tls_without_a_key_is_told_to_bring_it() {
    let keyed = identity(1, 0);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let nobody = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous(provider)))
        .with_no_client_auth();
    let (server, client) = texts(meet(door(&keyed), Dialer { tls: Some(Arc::new(nobody)) }).await);
    assert!(server.contains("shows no cluster key"), "{server}");
    assert!(client.contains("wants a certificate"), "{client}");
}

#[tokio::test]
async fn whoever_is_no_node_is_told_apart() {
    let keyed = identity(1, 0);
    let refused = stranger(door(&keyed), b"", true).await;
    assert!(refused.is_idle(), "{refused}");
    let refused = stranger(door(&keyed), b"\x16\x03\x01\x02\x00\x01", true).await;
    assert!(refused.is_idle(), "half a hello: {refused}");
    let refused = stranger(door(&keyed), b"\x16\x03\x01\x00\x04AAAA", false).await;
    assert!(matches!(refused, DoorError::Tls(_)), "{refused}");
    let refused = stranger(door(&keyed), b"GET / HTTP/1.1\r\n\r\n", false).await;
    assert!(matches!(refused, DoorError::Http), "{refused}");
    let open = Door { plain: true, ..door(&keyed) };
    let refused = stranger(open, b"POST /v2/ HTTP/1.1\r\n\r\n", false).await;
    assert!(matches!(refused, DoorError::Http), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn whoever_holds_the_door_is_sent_away_in_time() {
    let keyed = identity(1, 0);
    for sends in [&b""[..], b"\x16", b"P", b"\x16\x03", b"\x16\x03\x01\x02\x00\x01\x00"] {
        let refused = stranger(door(&keyed), sends, false).await;
        assert!(matches!(refused, DoorError::TimedOut), "{sends:?}: {refused}");
    }
}

#[tokio::test]
async fn endless_bytes_are_not_listened_to() {
    for begins in
        [&b"\x16\x03\x01\x40\x00\x01\xff\xff\xff"[..], b"\x16\x03\x01\x40\x00\x01\x00\x20\x00", b"\0"]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let flood = async {
            let mut socket = TcpStream::connect(to).await.unwrap();
            socket.write_all(begins).await.unwrap();
            // Ends when the door is shut.
            while socket.write_all(&[0; 65_536]).await.is_ok() {}
        };
        let admit = async {
            let keyed = identity(1, 0);
            door(&keyed).admit(listener.accept().await.unwrap().0).await.unwrap_err()
        };
        let ((), refused) = tokio::join!(flood, admit);
        assert!(matches!(refused, DoorError::Tls(_) | DoorError::PlainText), "{begins:?}: {refused}");
    }
}

#[tokio::test]
async fn nobody_at_home_is_told_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to: SocketAddr = listener.local_addr().unwrap();
    drop(listener);
    let refused = Dialer { tls: None }.dial(to, LONG).await.unwrap_err();
    assert!(refused.to_string().starts_with(&format!("cannot connect to {to}: ")), "{refused}");
}

#[tokio::test]
async fn another_program_at_the_port_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    let other = async {
        let mut socket = listener.accept().await.unwrap().0;
        socket.write_all(b"SSH-2.0-none\r\n").await.unwrap();
        // It reads on, so that its words are not lost with a reset.
        let _ = socket.read_to_end(&mut Vec::new()).await;
    };
    let dialer = Dialer { tls: Some(identity(1, 0).client()) };
    let ((), refused) = tokio::join!(other, dialer.dial(to, LONG));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("another program listens there"), "{refused}");
}

/// Believes every server.
#[derive(Debug)]
struct Credulous(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
