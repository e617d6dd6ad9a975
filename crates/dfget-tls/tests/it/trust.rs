//! Which origins are believed, and what is said of the others.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dfget_tls::{OriginTrust, Roots, TrustError, certificates_from_pem, describe, read_certificates};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::UnixTime;

use crate::handshake::{answer_with, origin, shake};
use crate::openssl::{PLAIN_CA, Workshop};

const SERVER: &str = "subjectAltName = DNS:registry.example, IP:192.0.2.7\n";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A workshop with a CA and an origin certificate of it, `server.crt`.
fn workshop() -> Workshop {
    let workshop = Workshop::with_authority();
    workshop.signed_by("ca", "server", SERVER);
    workshop
}

fn trusting(workshop: &Workshop, file: &str) -> OriginTrust {
    let extra_roots = read_certificates(&workshop.path(file)).expect("certificates");
    OriginTrust { insecure: false, extra_roots }
}

fn insecure() -> OriginTrust {
    OriginTrust { insecure: true, extra_roots: Vec::new() }
}

fn client(trust: &OriginTrust) -> Arc<ClientConfig> {
    Roots::new(Vec::new()).0.client_config(trust).expect("a client")
}

/// What a client that trusts so says of the origin: nothing, or the described error.
fn verdict(trust: &OriginTrust, server: &Arc<ServerConfig>, name: &str) -> Result<(), String> {
    shake(&client(trust), server, name).map(|_| ()).map_err(|error| describe(&error))
}

const UNKNOWN: &str =
    "certificate signed by an unknown authority (trust it by `certs` in dfget.yaml, or by SSL_CERT_FILE)";

#[test]
fn an_origin_is_believed_for_its_roots_and_its_names_only() {
    let workshop = workshop();
    let server = Arc::new(origin(&workshop, "server.crt", "server.key"));
    let trust = trusting(&workshop, "ca.crt");
    assert_eq!(verdict(&trust, &server, "registry.example"), Ok(()));
    assert_eq!(verdict(&trust, &server, "192.0.2.7"), Ok(()));
    assert_eq!(verdict(&OriginTrust::default(), &server, "registry.example"), Err(UNKNOWN.to_owned()));
    assert_eq!(
        verdict(&trust, &server, "other.example"),
        Err("certificate valid for registry.example, 192.0.2.7, not for other.example".to_owned())
    );
    let system = Roots::new(trust.extra_roots).0;
    let client = system.client_config(&OriginTrust::default()).expect("a client");
    shake(&client, &server, "registry.example").expect("the system's roots count without certs");
}

#[test]
fn the_client_offers_http_1_1_only() {
    let workshop = workshop();
    let mut server = origin(&workshop, "server.crt", "server.key");
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let trust = trusting(&workshop, "ca.crt");
    let done = shake(&client(&trust), &Arc::new(server.clone()), "registry.example").expect("a handshake");
    assert_eq!(done.protocol.as_deref(), Some(&b"http/1.1"[..]));

    server.alpn_protocols = vec![b"h2".to_vec()];
    assert_eq!(
        verdict(&trust, &Arc::new(server), "registry.example"),
        Err("the server refused the TLS handshake: it does not speak http/1.1".to_owned())
    );
}

/// A clock that stands still.
#[derive(Debug)]
struct Clock(SystemTime);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        self.0.duration_since(SystemTime::UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}

fn verdict_at(trust: &OriginTrust, server: &Arc<ServerConfig>, now: SystemTime) -> Result<(), String> {
    let mut client = ClientConfig::clone(&client(trust));
    client.time_provider = Arc::new(Clock(now));
    shake(&Arc::new(client), server, "registry.example").map(|_| ()).map_err(|error| describe(&error))
}

#[test]
fn dates_are_checked_by_chain_and_for_certificates_trusted_as_they_are() {
    let workshop = workshop();
    let server = Arc::new(origin(&workshop, "server.crt", "server.key"));
    let now = SystemTime::now();
    for file in ["ca.crt", "server.crt"] {
        let trust = trusting(&workshop, file);
        assert_eq!(verdict_at(&trust, &server, now), Ok(()), "{file}");
        let expired = verdict_at(&trust, &server, now + 31 * DAY).expect_err("expired");
        assert!(expired.starts_with("certificate expired at 20") && expired.ends_with(" UTC"), "{expired}");
        let early = verdict_at(&trust, &server, now - DAY).expect_err("not valid yet");
        assert!(early.starts_with("certificate valid from 20") && early.ends_with(" UTC only"), "{early}");
        assert_eq!(verdict_at(&insecure(), &server, now + 31 * DAY), Ok(()));
    }
}

#[test]
fn a_self_signed_server_is_believed_when_its_own_certificate_is_listed() {
    let workshop = Workshop::new();
    workshop.ec_key("server.key");
    for extensions in
        [SERVER.to_owned(), format!("{SERVER}{PLAIN_CA}"), format!("{SERVER}basicConstraints = CA:FALSE\n")]
    {
        workshop.self_signed("server", "/CN=registry", &extensions, "");
        let server = Arc::new(origin(&workshop, "server.crt", "server.key"));
        let trust = trusting(&workshop, "server.crt");
        assert_eq!(verdict(&trust, &server, "registry.example"), Ok(()), "{extensions}");
        assert_eq!(verdict(&OriginTrust::default(), &server, "registry.example"), Err(UNKNOWN.to_owned()));
        let wrong = verdict(&trust, &server, "other.example").expect_err("not its name");
        assert!(wrong.ends_with("not for other.example"), "{wrong}");
    }
}

#[test]
fn insecure_takes_any_certificate_but_only_from_the_holder_of_its_key() {
    let workshop = workshop();
    workshop.ec_key("other.key");
    workshop.openssl("req -new -config x509.conf -key other.key -subj /CN=v1 -out v1.csr");
    workshop.openssl("x509 -req -in v1.csr -signkey other.key -out v1.crt");
    workshop.openssl("genrsa -out rsa.key 2048");
    workshop.self_signed("rsa", "/CN=rsa", "", "");
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let server = |certificate, key| {
            let resolver = Arc::clone(&origin(&workshop, certificate, key).cert_resolver);
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)
                .expect("versions")
                .with_no_client_auth()
                .with_cert_resolver(resolver);
            Arc::new(config)
        };
        for (certificate, key) in
            [("server.crt", "server.key"), ("v1.crt", "other.key"), ("rsa.crt", "rsa.key")]
        {
            assert_eq!(verdict(&insecure(), &server(certificate, key), "x.example"), Ok(()), "{certificate}");
        }
        assert_eq!(
            verdict(&insecure(), &server("server.crt", "other.key"), "x.example"),
            Err("certificate or handshake with a wrong signature".to_owned())
        );
    }
}

#[test]
fn certificates_of_clients_are_told_apart_from_those_of_servers() {
    let workshop = workshop();
    workshop.signed_by("ca", "server", &format!("{SERVER}extendedKeyUsage = clientAuth\n"));
    let server = Arc::new(origin(&workshop, "server.crt", "server.key"));
    assert_eq!(
        verdict(&trusting(&workshop, "ca.crt"), &server, "registry.example"),
        Err("certificate not for servers (extendedKeyUsage lacks serverAuth)".to_owned())
    );
    workshop.signed_by("ca", "server", "basicConstraints = CA:FALSE\n");
    let server = Arc::new(origin(&workshop, "server.crt", "server.key"));
    assert_eq!(
        verdict(&trusting(&workshop, "ca.crt"), &server, "registry.example"),
        Err("certificate without a name (subjectAltName), asked for registry.example".to_owned())
    );
}

#[test]
fn a_server_without_tls_is_told_so() {
    let client = client(&OriginTrust::default());
    for answer in
        ["HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "220 mail.example ESMTP\r\n"]
    {
        assert_eq!(
            describe(&answer_with(&client, answer.as_bytes())),
            "the server speaks no TLS on this port"
        );
    }
    assert_eq!(
        describe(&answer_with(&client, &[21, 3, 3, 0, 2, 2, 70])),
        "the server refused the TLS handshake: it wants another version of TLS"
    );
    assert_eq!(
        describe(&answer_with(&client, &[21, 3, 3, 0, 2, 2, 112])),
        "the server refused the TLS handshake: it does not know this name"
    );
}

#[test]
fn files_of_certs_are_refused_with_their_path_and_reason() {
    let workshop = Workshop::with_authority();
    let missing = read_certificates(&workshop.path("missing.crt")).expect_err("missing");
    assert!(matches!(missing, TrustError::Unreadable { .. }));
    assert!(missing.to_string().contains("missing.crt: cannot be read: No such file"), "{missing}");
    let key = read_certificates(&workshop.path("ca.key")).expect_err("a key");
    assert!(key.to_string().contains("ca.key: holds no CERTIFICATE block, only PRIVATE KEY; "), "{key}");
    workshop.openssl("x509 -in ca.crt -outform der -out ca.der");
    let der = read_certificates(&workshop.path("ca.der")).expect_err("DER");
    assert!(der.to_string().contains("ca.der: is not PEM"), "{der}");

    let twice = [workshop.read("ca.crt"), workshop.read("ca.crt")].concat();
    assert_eq!(certificates_from_pem(&twice).expect("two certificates").len(), 2);
    let mut text = workshop.openssl("x509 -in ca.crt -text").into_bytes();
    text.splice(0..0, *b"# root of the site\r\n");
    assert_eq!(certificates_from_pem(&text).expect("text around it").len(), 1);
}

/// Runs [`roots_of_a_process`] in a process with these variables, and returns what it printed.
fn roots_with(variables: &HashMap<&str, std::path::PathBuf>) -> String {
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["trust::roots_of_a_process", "--exact", "--ignored", "--nocapture"])
        .env_remove("SSL_CERT_FILE")
        .env_remove("SSL_CERT_DIR")
        .envs(variables)
        .output()
        .expect("this test runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "run by the test below in a process of its own, for its environment"]
fn roots_of_a_process() {
    let own =
        std::env::var_os("OWN_AUTHORITY").map(|path| read_certificates(path.as_ref()).expect("certificates"));
    let (roots, warnings) = Roots::load(own.as_ref().and_then(|certificates| certificates.first()));
    println!("{roots:?} {warnings:?}");
    roots.client_config(&OriginTrust::default()).expect("never fatal");
}

#[test]
fn ssl_cert_file_and_dir_replace_the_store_and_faults_are_warnings() {
    let workshop = workshop();
    let with = |variable, name: &str| roots_with(&HashMap::from([(variable, workshop.path(name))]));
    let one = with("SSL_CERT_FILE", "ca.crt");
    assert!(one.contains("Roots { certificates: 1 } []"), "{one}");
    let missing = with("SSL_CERT_FILE", "missing.crt");
    assert!(missing.contains("Roots { certificates: 0 }"), "{missing}");
    assert!(missing.contains("missing.crt") && missing.contains("ca-certificates"), "{missing}");
    assert!(missing.contains("env -u SSL_CERT_FILE dfget daemon"), "{missing}");
    let own = roots_with(&HashMap::from([
        ("SSL_CERT_FILE", workshop.path("ca.crt")),
        ("OWN_AUTHORITY", workshop.path("ca.crt")),
    ]));
    assert!(own.contains("Roots { certificates: 0 }"), "our own authority vouches for no origin: {own}");
    assert!(own.contains("the daemon's own authority") && own.contains("env -u SSL_CERT_FILE"), "{own}");
    std::fs::create_dir(workshop.path("certs")).expect("a directory");
    std::fs::copy(workshop.path("ca.crt"), workshop.path("certs/site.pem")).expect("a copy");
    let directory = with("SSL_CERT_DIR", "certs");
    assert!(directory.contains("Roots { certificates: 1 } []"), "{directory}");
}
