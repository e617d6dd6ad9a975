//! Which CAs are taken, which are refused and with what words, what is found weak.

use std::time::{Duration, SystemTime};

use dfget_tls::{CaError, CertificateAuthority, Weakness};

use crate::leaves::{hosts_verify_strictly, leaf_chain};
use crate::openssl::{PLAIN_CA, Workshop};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[test]
fn every_usual_form_of_key_is_taken_and_its_leaves_verify() {
    for (form, commands) in [
        ("BEGIN PRIVATE KEY", &["genrsa -out ca.key 2048"][..]),
        ("BEGIN RSA PRIVATE KEY", &["genrsa -traditional -out ca.key 3072"]),
        ("BEGIN EC PRIVATE KEY", &["ecparam -name prime256v1 -genkey -out ca.key"]),
        ("BEGIN PRIVATE KEY", &["genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ca.key"]),
        ("BEGIN EC PRIVATE KEY", &["ecparam -name secp384r1 -genkey -noout -out ca.key"]),
        ("BEGIN PRIVATE KEY", &["genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out ca.key"]),
        ("BEGIN PRIVATE KEY", &["genpkey -algorithm ed25519 -out ca.key"]),
    ] {
        let workshop = Workshop::new();
        for command in commands {
            workshop.openssl(command);
        }
        assert!(String::from_utf8_lossy(&workshop.read("ca.key")).contains(form), "{commands:?}");
        workshop.authority(PLAIN_CA);
        hosts_verify_strictly(&workshop, &["registry.example"]);
    }
}

#[test]
fn accessors_agree_with_openssl() {
    let workshop = Workshop::with_authority();
    let authority = workshop.load().expect("a CA");
    assert_eq!(authority.subject(), "CN=Test-CA");
    let printed = workshop.openssl("x509 -in ca.crt -noout -fingerprint -sha256");
    assert_eq!(printed.trim().rsplit('=').next(), Some(authority.fingerprint().as_str()));
    let lifetime = authority.not_after().duration_since(authority.not_before()).expect("in order");
    assert_eq!(lifetime, 30 * DAY);
    let debug = format!("{authority:?}");
    assert!(debug.contains("CN=Test-CA") && !debug.to_lowercase().contains("key"), "{debug}");
}

#[test]
fn the_issuer_name_is_copied_byte_for_byte() {
    let workshop = Workshop::new();
    workshop.ec_key("ca.key");
    let subject = "/DC=org/DC=example/C=DE/O=Gr\u{fc}n/OU=One/OU=Two/CN=CA/emailAddress=a@example.org";
    workshop.self_signed("ca", subject, PLAIN_CA, "-utf8");
    hosts_verify_strictly(&workshop, &["registry.example"]);
    workshop.self_signed("ca", subject, PLAIN_CA, "-utf8 -multivalue-rdn");
    hosts_verify_strictly(&workshop, &["registry.example"]);
}

#[test]
fn the_chain_of_an_intermediate_is_sent_without_root_and_strangers() {
    let workshop = Workshop::with_authority();
    for (old, new) in [("ca.crt", "root.crt"), ("ca.key", "root.key")] {
        workshop.write(new, workshop.read(old));
    }
    workshop.signed_by("root", "upper", "basicConstraints = critical, CA:TRUE\n");
    workshop.signed_by("upper", "ca", "basicConstraints = critical, CA:TRUE\n");
    workshop.ec_key("stranger.key");
    workshop.self_signed("stranger", "/CN=stranger", PLAIN_CA, "");
    let file = ["ca.crt", "stranger.crt", "root.crt", "upper.crt"].map(|name| workshop.read(name)).concat();
    workshop.write("ca.crt", file);

    let chain = leaf_chain(&workshop, "registry.example");
    let issuers: Vec<String> = chain.iter().map(|certificate| issuer_of(certificate)).collect();
    assert_eq!(issuers, ["CN=ca", "CN=upper", "CN=Test-CA"]);
}

fn issuer_of(certificate: &[u8]) -> String {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).expect("a certificate");
    parsed.issuer().to_string()
}

#[test]
fn certificates_that_clients_would_not_believe_are_refused() {
    let workshop = Workshop::new();
    workshop.ec_key("ca.key");
    workshop.authority("basicConstraints = CA:FALSE\n");
    assert!(matches!(workshop.load(), Err(CaError::NotCa { subject }) if subject == "CN=Test-CA"));

    workshop.openssl("req -new -config x509.conf -key ca.key -subj /CN=Test-CA -out ca.csr");
    workshop.openssl("x509 -req -in ca.csr -signkey ca.key -out ca.crt");
    assert!(matches!(workshop.load(), Err(CaError::NotCa { .. })), "version 1 has no basicConstraints");

    workshop.authority("basicConstraints = CA:TRUE\nkeyUsage = digitalSignature, cRLSign\n");
    assert!(matches!(workshop.load(), Err(CaError::MayNotSign { .. })));

    workshop.authority("basicConstraints = CA:TRUE\nextendedKeyUsage = clientAuth\n");
    assert!(matches!(workshop.load(), Err(CaError::NotForServers { .. })));

    for purpose in ["serverAuth, clientAuth", "anyExtendedKeyUsage"] {
        workshop.authority(&format!("basicConstraints = CA:TRUE\nextendedKeyUsage = {purpose}\n"));
        workshop.load().expect(purpose);
    }
}

#[test]
fn a_certificate_outside_of_its_time_is_refused_with_the_date() {
    let workshop = Workshop::with_authority();
    let load = |now| CertificateAuthority::load(&workshop.read("ca.crt"), &workshop.read("ca.key"), now);
    let now = SystemTime::now();
    let (start, end) = {
        let authority = load(now).expect("valid now");
        (authority.not_before(), authority.not_after())
    };
    load(start).expect("valid from its first second");
    load(end).expect("valid to its last second");
    let second = Duration::from_secs(1);
    assert!(matches!(load(start - second), Err(CaError::NotYetValid { .. })));
    let error = load(end + second).expect_err("expired").to_string();
    assert!(error.starts_with("the CA certificate expired at 20") && error.contains(" UTC; "), "{error}");
}

#[test]
fn files_of_the_wrong_kind_are_named_for_what_they_are() {
    let workshop = Workshop::with_authority();
    let (certificate, key) = (workshop.read("ca.crt"), workshop.read("ca.key"));
    let refusal = |certificate: &[u8], key: &[u8]| {
        CertificateAuthority::load(certificate, key, SystemTime::now()).expect_err("refused")
    };
    assert!(matches!(refusal(b"", &key), CaError::CertificateNotPem));
    assert!(
        matches!(refusal(&key, &certificate), CaError::NoCertificate { found } if found == "PRIVATE KEY")
    );
    assert!(
        matches!(refusal(&certificate, &certificate), CaError::NoKey { found } if found == "CERTIFICATE")
    );
    assert!(matches!(refusal(&certificate, b"\0\x01"), CaError::KeyNotPem));

    let text = String::from_utf8(certificate.clone()).expect("PEM is text");
    let cut = text.replace("-----END CERTIFICATE-----\n", "");
    assert!(matches!(refusal(cut.as_bytes(), &key), CaError::BadCertificate { number: 1, .. }));
    let junk = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    assert!(matches!(refusal(junk.as_bytes(), &key), CaError::BadCertificate { number: 1, .. }));
    let second = format!("{text}{junk}");
    assert!(matches!(refusal(second.as_bytes(), &key), CaError::BadCertificate { number: 2, .. }));

    let error = refusal(&certificate, b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0!\n-----END PRIVATE KEY-----\n");
    assert!(matches!(error, CaError::BadKey { .. }));
    assert!(!format!("{error} {error:?}").contains("c2Vj"), "part of the key in {error:?}");
}

#[test]
fn keys_that_cannot_sign_here_are_refused_with_the_reason() {
    let workshop = Workshop::with_authority();
    let refused = |command: &str, expected: &str| {
        workshop.openssl(command);
        match workshop.load() {
            Err(CaError::UnsupportedKey { found }) => assert_eq!(found, expected, "{command}"),
            other => {
                assert!(expected == "encrypted" && matches!(other, Err(CaError::EncryptedKey)), "{other:?}")
            }
        }
    };
    refused("genrsa -out ca.key 1024", "an RSA key of a wrong size, or a damaged one");
    refused("genrsa -traditional -out ca.key 1024", "an RSA key of a wrong size, or a damaged one");
    refused(
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out ca.key",
        "an EC key on the curve 1.3.132.0.10",
    );
    refused("ecparam -name secp521r1 -genkey -out ca.key", "an EC key on another curve");
    refused("genpkey -algorithm RSA-PSS -out ca.key", "an RSA key for PSS signatures only");
    refused("genpkey -algorithm ed448 -out ca.key", "a key of the kind 1.3.101.113");
    refused("genrsa -aes256 -passout pass:word -out ca.key 2048", "encrypted");
    refused("genrsa -traditional -aes256 -passout pass:word -out ca.key 2048", "encrypted");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let workshop = Workshop::with_authority();
    workshop.ec_key("ca.key");
    assert!(matches!(workshop.load(), Err(CaError::KeyMismatch { subject }) if subject == "CN=Test-CA"));
    workshop.openssl("genrsa -out ca.key 2048");
    assert!(matches!(workshop.load(), Err(CaError::KeyMismatch { .. })), "of another kind even");
}

#[test]
fn a_careful_ca_has_no_weakness_until_its_end_is_near() {
    let workshop = Workshop::new();
    workshop.ec_key("ca.key");
    let careful = format!("{PLAIN_CA}nameConstraints = critical, permitted;DNS:registry.example\n");
    workshop.self_signed("ca", "/CN=Test-CA", &careful, "-days 3650");
    let authority = workshop.load().expect("a CA");
    let now = SystemTime::now();
    assert_eq!(authority.weaknesses(now), []);
    let late = authority.weaknesses(now + 3640 * DAY);
    assert!(matches!(&late[..], [Weakness::ExpiresSoon { .. }]), "{late:?}");
}

#[test]
fn each_weakness_is_found() {
    let workshop = Workshop::new();
    workshop.openssl("genrsa -out ca.key 2048");
    workshop.self_signed("ca", "/CN=Test-CA", "basicConstraints = CA:TRUE\n", "-sha1 -days 4000");
    let found = workshop.load().expect("a CA").weaknesses(SystemTime::now());
    assert_eq!(
        found,
        [
            Weakness::ShortRsaKey { bits: 2048 },
            Weakness::LongValidity { years: 10 },
            Weakness::BrokenHash { name: "SHA-1" },
            Weakness::NoNameConstraints,
            Weakness::NoKeyUsage,
        ]
    );
}
