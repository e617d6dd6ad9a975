//! Leaves as clients see them, and how long they are kept.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dfget_tls::{LeafCache, LeafError};
use rustls::ProtocolVersion;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::X509Certificate;

use crate::handshake::{self, Handshake};
use crate::openssl::{PLAIN_CA, Workshop};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn cache(workshop: &Workshop) -> LeafCache {
    LeafCache::new(Arc::new(workshop.load().expect("a CA"))).expect("a key")
}

/// The chain that the server of `host` presents now.
pub(crate) fn leaf_chain(workshop: &Workshop, host: &str) -> Vec<CertificateDer<'static>> {
    chain_at(&cache(workshop), host, SystemTime::now())
}

/// The same of this cache at this time.
pub(crate) fn chain_at(cache: &LeafCache, host: &str, now: SystemTime) -> Vec<CertificateDer<'static>> {
    let server = cache.server_config(host, now).expect(host);
    // Dates and chain are not this client's business: openssl judges those below.
    let roots = dfget_tls::Roots::new(Vec::new()).0;
    let trust = dfget_tls::OriginTrust { insecure: true, ..Default::default() };
    let client = roots.client_config(&trust).expect("a client");
    handshake::shake(&client, &server, host).expect("a handshake").chain
}

/// Has `openssl verify` judge the leaves of `hosts` (names or addresses) as a client would.
pub(crate) fn hosts_verify(workshop: &Workshop, hosts: &[&str]) {
    judge(workshop, hosts, "");
}

/// The same by the letter of RFC 5280, which the CA must obey as well.
pub(crate) fn hosts_verify_strictly(workshop: &Workshop, hosts: &[&str]) {
    judge(workshop, hosts, "-x509_strict");
}

fn judge(workshop: &Workshop, hosts: &[&str], options: &str) {
    let cache = cache(workshop);
    for host in hosts {
        let chain = chain_at(&cache, host, SystemTime::now());
        workshop.write("leaf.der", &chain[0]);
        workshop.openssl("x509 -inform der -in leaf.der -out leaf.crt");
        let check = if host.parse::<IpAddr>().is_ok() { "verify_ip" } else { "verify_hostname" };
        let verdict = workshop.openssl(&format!(
            "verify {options} -partial_chain -no-CApath -no-CAstore -CAfile ca.crt -purpose sslserver \
             -{check} {host} leaf.crt"
        ));
        assert_eq!(verdict.trim(), "leaf.crt: OK");
    }
}

fn parse(der: &[u8]) -> X509Certificate<'_> {
    x509_parser::parse_x509_certificate(der).expect("a certificate").1
}

#[test]
fn a_leaf_has_exactly_the_fields_it_should() {
    let workshop = Workshop::with_authority();
    let authority = workshop.load().expect("a CA");
    let chain = leaf_chain(&workshop, "Registry.Example.");
    assert_eq!(chain.len(), 1, "a self-signed CA is not sent");
    let leaf = parse(&chain[0]);
    let issuer = parse(authority.certificate());

    assert_eq!(leaf.issuer().as_raw(), issuer.subject().as_raw());
    assert_eq!(leaf.subject().to_string(), "CN=registry.example");
    assert_eq!(leaf.raw_serial().len(), 16);
    assert!(leaf.raw_serial()[0] < 0x80, "a serial is positive");
    assert_ne!(leaf.public_key().raw, issuer.public_key().raw);
    assert_eq!(leaf.extensions().len(), 5);
    let constraints = leaf.basic_constraints().expect("readable").expect("there");
    assert!(constraints.critical && !constraints.value.ca);
    let usage = leaf.key_usage().expect("readable").expect("there");
    assert!(usage.critical && usage.value.flags == 1, "digitalSignature alone");
    let purpose = leaf.extended_key_usage().expect("readable").expect("there").value;
    assert!(purpose.server_auth && !purpose.client_auth && !purpose.any && purpose.other.is_empty());
    let names = leaf.subject_alternative_name().expect("readable").expect("there");
    assert!(!names.critical);
    assert_eq!(names.value.general_names, [GeneralName::DNSName("registry.example")]);
    let identifier = |certificate: &X509Certificate<'_>| {
        certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(own) => Some(own.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(issuers) => {
                issuers.key_identifier.as_ref().map(|identifier| identifier.0.to_vec())
            }
            _ => None,
        })
    };
    assert_eq!(identifier(&leaf), identifier(&issuer));
}

#[test]
fn a_ca_without_identifier_gives_leaves_without_one() {
    let workshop = Workshop::new();
    workshop.ec_key("ca.key");
    workshop.authority("basicConstraints = critical, CA:TRUE\nsubjectKeyIdentifier = none\n");
    let chain = leaf_chain(&workshop, "registry.example");
    assert_eq!(parse(&chain[0]).extensions().len(), 4);
}

#[test]
fn names_and_addresses_of_every_kind_verify() {
    let workshop = Workshop::with_authority();
    let long = format!("{}.{}.example", "a".repeat(63), "b".repeat(63));
    hosts_verify_strictly(&workshop, &["r", "xn--bcher-kva.example", &long, "127.0.0.1", "2001:db8::1"]);
    let chain = leaf_chain(&workshop, &long);
    let leaf = parse(&chain[0]);
    assert_eq!(leaf.subject().as_raw(), [0x30, 0], "too long for a common name");
    assert!(leaf.subject_alternative_name().expect("readable").expect("there").critical);
}

#[test]
fn validity_is_a_day_within_that_of_the_ca() {
    let workshop = Workshop::with_authority();
    let cache = cache(&workshop);
    let (start, end) = (cache.authority().not_before(), cache.authority().not_after());
    let span = |now| {
        let chain = chain_at(&cache, "registry.example", now);
        let seconds = |time: x509_parser::time::ASN1Time| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).expect("after 1970"))
        };
        let leaf = parse(&chain[0]);
        (seconds(leaf.validity().not_before), seconds(leaf.validity().not_after))
    };
    assert_eq!(span(start), (start, start + 24 * HOUR), "not before the CA's first second");
    let noon = start + 100 * HOUR;
    assert_eq!(span(noon), (noon - HOUR, noon + 24 * HOUR));
    let late = end - 5 * HOUR;
    assert_eq!(span(late), (late - HOUR, end), "not after the CA's last second");
}

#[test]
fn a_ca_outside_of_its_time_signs_nothing() {
    let workshop = Workshop::with_authority();
    let cache = cache(&workshop);
    let (start, end) = (cache.authority().not_before(), cache.authority().not_after());
    let early = cache.server_config("registry.example", start - MINUTE).expect_err("too early");
    assert!(matches!(early, LeafError::CaNotYetValid { .. }));
    let late = cache.server_config("registry.example", end).expect_err("too late");
    assert!(matches!(late, LeafError::CaExpired { .. }));
}

#[test]
fn one_host_is_served_from_the_cache_until_renewal_is_due() {
    let workshop = Workshop::with_authority();
    let cache = cache(&workshop);
    let now = cache.authority().not_before() + 100 * HOUR;
    let config = |host, now| cache.server_config(host, now).expect(host);
    let first = config("registry.example", now);
    assert!(Arc::ptr_eq(&first, &config("REGISTRY.example.", now + 22 * HOUR)));
    assert!(!Arc::ptr_eq(&first, &config("other.example", now)));

    let renewed = config("registry.example", now + 23 * HOUR);
    assert!(!Arc::ptr_eq(&first, &renewed), "an hour before its end a leaf is replaced");
    assert!(Arc::ptr_eq(&renewed, &config("registry.example", now + 22 * HOUR)), "valid then too");
    let earlier = config("registry.example", now + 21 * HOUR);
    assert!(!Arc::ptr_eq(&renewed, &earlier), "the clock went back to before its start");
}

#[test]
fn a_leaf_that_cannot_outlast_the_ca_is_kept_to_the_end() {
    let workshop = Workshop::with_authority();
    let cache = cache(&workshop);
    let end = cache.authority().not_after();
    let config = |now| cache.server_config("registry.example", now).expect("valid still");
    let first = config(end - 50 * MINUTE);
    assert!(Arc::ptr_eq(&first, &config(end - MINUTE)));
}

#[test]
fn the_host_unused_for_longest_leaves_a_full_cache() {
    let workshop = Workshop::with_authority();
    let cache = cache(&workshop);
    let now = SystemTime::now();
    let config = |number: usize| cache.server_config(&format!("h{number}.example"), now).expect("a leaf");
    let configs: Vec<_> = (0..1024).map(config).collect();
    assert!(Arc::ptr_eq(&configs[0], &config(0)), "1,024 hosts fit");
    config(1024);
    assert!(Arc::ptr_eq(&configs[0], &config(0)), "used a moment ago");
    assert!(Arc::ptr_eq(&configs[2], &config(2)), "only one had to go");
    assert!(!Arc::ptr_eq(&configs[1], &config(1)), "the one unused for longest went");
}

#[test]
fn all_leaves_share_one_key_and_no_serial() {
    let workshop = Workshop::with_authority();
    let cache = cache(&workshop);
    let now = SystemTime::now();
    let chains: Vec<_> = (0..20).map(|number| chain_at(&cache, &format!("h{number}.example"), now)).collect();
    let keys: HashSet<_> = chains.iter().map(|chain| parse(&chain[0]).public_key().raw.to_vec()).collect();
    let serials: HashSet<_> = chains.iter().map(|chain| parse(&chain[0]).raw_serial().to_vec()).collect();
    assert_eq!((keys.len(), serials.len()), (1, 20));
}

#[test]
fn hosts_without_a_valid_name_get_no_leaf() {
    let workshop = Workshop::with_authority();
    let cache = cache(&workshop);
    for host in ["", "*.example", "a b", "registry.example:443"] {
        let error = cache.server_config(host, SystemTime::now()).expect_err(host);
        assert!(matches!(error, LeafError::InvalidHost { .. }), "{error:?}");
    }
}

fn with_protocols(protocols: &[&[u8]]) -> Result<Handshake, rustls::Error> {
    let workshop = Workshop::with_authority();
    let server = cache(&workshop).server_config("registry.example", SystemTime::now()).expect("a leaf");
    let client = handshake::client(&workshop, &[&TLS13], protocols);
    handshake::shake(&client, &server, "registry.example")
}

#[test]
fn http_1_1_is_preferred_where_the_client_offers_both() {
    let agreed = |protocols| with_protocols(protocols).expect("a handshake").protocol;
    assert_eq!(agreed(&[b"h2", b"http/1.1"]).as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(agreed(&[b"h2"]).as_deref(), Some(&b"h2"[..]));
    assert_eq!(agreed(&[]), None);
    assert!(with_protocols(&[b"spdy/3"]).is_err());
}

#[test]
fn both_versions_of_tls_work_and_no_session_is_resumed() {
    let workshop = Workshop::new();
    workshop.openssl("genrsa -out ca.key 2048");
    workshop.authority(PLAIN_CA);
    let server = cache(&workshop).server_config("192.0.2.7", SystemTime::now()).expect("a leaf");
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let client = handshake::client(&workshop, &[version], &[b"http/1.1"]);
        for _ in 0..2 {
            let done = handshake::shake(&client, &server, "192.0.2.7").expect("a handshake");
            assert_eq!(done.version, expected);
            assert_ne!(done.kind, rustls::HandshakeKind::Resumed);
        }
    }
}
