//! Authorities that we make, judged by others: `openssl`, GnuTLS and rustls.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dfget_tls::{AuthorityCertificate, CertificateAuthority, LeafCache, NewAuthority, Scope, Weakness};
use x509_parser::prelude::X509Certificate;

use crate::handshake;
use crate::leaves::chain_at;
use crate::openssl::Workshop;

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

/// A workshop with a new authority for these hosts in `ca.crt` and `ca.key`.
fn made_for(scope: Scope) -> Workshop {
    let workshop = Workshop::new();
    let pair = NewAuthority::new(scope, "dfget on node").make(SystemTime::now()).expect("made");
    workshop.write("ca.crt", &pair.cert_pem);
    workshop.write("ca.key", pair.key_pem.expose());
    workshop
}

/// Who took the leaf of `host`, of those who were asked.
fn takers(workshop: &Workshop, host: &str) -> Vec<&'static str> {
    let cache = LeafCache::new(Arc::new(workshop.load().expect("a CA"))).expect("a key");
    let leaf = chain_at(&cache, host, SystemTime::now()).remove(0);
    workshop.write("leaf.der", &leaf);
    workshop.openssl("x509 -inform der -in leaf.der -out leaf.crt");
    let succeeds = |program: &str, arguments: &str| {
        let mut command = Command::new(program);
        command.args(arguments.split_whitespace()).current_dir(workshop.path(""));
        command.output().expect("openssl and gnutls-bin are needed: apt-get install them").status.success()
    };
    let check = if host.parse::<IpAddr>().is_ok() { "verify_ip" } else { "verify_hostname" };
    let openssl = format!(
        "verify -x509_strict -no-CApath -no-CAstore -CAfile ca.crt -purpose sslserver -{check} {host} leaf.crt"
    );
    let gnutls = format!(
        "--verify --verify-purpose 1.3.6.1.5.5.7.3.1 --load-ca-certificate ca.crt --verify-hostname {host} \
         --infile leaf.crt"
    );
    let mut takers = Vec::new();
    if succeeds("openssl", &openssl) {
        takers.push("openssl");
    }
    if succeeds("certtool", &gnutls) {
        takers.push("gnutls");
    }
    let client = handshake::client(workshop, &[&rustls::version::TLS13], &[]);
    let server = cache.server_config(host, SystemTime::now()).expect("a server");
    if handshake::shake(&client, &server, host).is_ok() {
        takers.push("rustls");
    }
    takers
}

const ALL: [&str; 3] = ["openssl", "gnutls", "rustls"];

#[test]
fn leaves_for_a_name_are_taken_by_all_and_others_by_none() {
    let workshop = made_for(Scope::of_hosts(["registry.example"]).expect("a host"));
    for host in ["registry.example", "below.registry.example"] {
        assert_eq!(takers(&workshop, host), ALL, "{host}");
    }
    for host in ["other.example", "registry.example.org", "not-registry.example", "192.0.2.7", "2001:db8::1"]
    {
        assert_eq!(takers(&workshop, host), [""; 0], "{host}");
    }
}

#[test]
fn leaves_for_an_address_are_taken_by_all_and_others_by_none() {
    let workshop = made_for(Scope::of_hosts(["192.0.2.7"]).expect("a host"));
    assert_eq!(takers(&workshop, "192.0.2.7"), ALL);
    for host in ["192.0.2.8", "::1", "registry.example"] {
        assert_eq!(takers(&workshop, host), [""; 0], "{host}");
    }
    let workshop = made_for(Scope::of_hosts(["[2001:db8::1]"]).expect("a host"));
    assert_eq!(takers(&workshop, "2001:db8::1"), ALL);
    for host in ["2001:db8::2", "127.0.0.1", "registry.example"] {
        assert_eq!(takers(&workshop, host), [""; 0], "{host}");
    }
}

#[test]
fn an_authority_may_be_for_several_hosts_of_all_kinds() {
    let scope = Scope::of_hosts(["registry.example", "mirror.example", "192.0.2.7", "::1"]).expect("hosts");
    let workshop = made_for(scope);
    for host in ["registry.example", "mirror.example", "192.0.2.7", "::1"] {
        assert_eq!(takers(&workshop, host), ALL, "{host}");
    }
    for host in ["example", "192.0.2.8", "::2"] {
        assert_eq!(takers(&workshop, host), [""; 0], "{host}");
    }
}

#[test]
fn an_unbounded_authority_is_taken_for_all() {
    let workshop = made_for(Scope::any_host());
    for host in ["registry.example", "192.0.2.7", "::1"] {
        assert_eq!(takers(&workshop, host), ALL, "{host}");
    }
    let authority = workshop.load().expect("a CA");
    assert_eq!(authority.weaknesses(SystemTime::now()), [Weakness::NoNameConstraints]);
}

#[test]
fn the_certificate_has_exactly_the_fields_it_should() {
    let now = SystemTime::now();
    let scope = Scope::of_hosts(["registry.example"]).expect("a host");
    let pair = NewAuthority::new(scope.clone(), "dfget on node").make(now).expect("made");
    let facts = AuthorityCertificate::from_pem(pair.cert_pem.as_bytes()).expect("readable");
    assert_eq!(facts.weaknesses(now), []);
    assert_eq!((facts.scope(), facts.key_kind()), (&scope, "EC P-256"));
    let subject = facts.subject().strip_prefix("CN=dfget on node ").expect("the name as given");
    assert!(subject.len() == 8 && subject.chars().all(|c| c.is_ascii_hexdigit()), "{subject}");
    let lifetime = facts.not_after().duration_since(facts.not_before()).expect("in order");
    assert_eq!(lifetime, 1825 * DAY + HOUR);
    let early = now.duration_since(facts.not_before()).expect("back-dated");
    assert!(early >= HOUR && early < HOUR + Duration::from_secs(2), "{early:?}");

    let (_, parsed) = x509_parser::parse_x509_certificate(facts.der()).expect("a certificate");
    assert_eq!(parsed.extensions().len(), 5);
    let constraints = parsed.basic_constraints().expect("readable").expect("there");
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = parsed.key_usage().expect("readable").expect("there");
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature());
    let purpose = parsed.extended_key_usage().expect("readable").expect("there").value;
    assert!(purpose.server_auth && !purpose.client_auth && !purpose.any);
    assert!(parsed.name_constraints().expect("readable").expect("there").critical);
    assert!(has_key_identifier(&parsed));
    assert!(parsed.raw_serial().len() >= 8 && parsed.raw_serial()[0] < 0x80);

    let debug = format!("{pair:?}");
    assert!(debug.contains("BEGIN CERTIFICATE") && !debug.contains("PRIVATE"), "{debug}");
}

fn has_key_identifier(certificate: &X509Certificate<'_>) -> bool {
    certificate.iter_extensions().any(|extension| extension.oid.to_id_string() == "2.5.29.14")
}

#[test]
fn two_authorities_of_one_name_differ() {
    let make = || {
        let pair =
            NewAuthority::new(Scope::any_host(), "n".repeat(100)).make(SystemTime::now()).expect("made");
        AuthorityCertificate::from_pem(pair.cert_pem.as_bytes()).expect("readable")
    };
    let (one, other) = (make(), make());
    assert_ne!(one.subject(), other.subject());
    assert_eq!(one.subject().len(), "CN=".len() + 64);
}

#[test]
fn a_life_is_as_long_as_asked_for() {
    let life = |days| {
        let new = NewAuthority::of_this_host(Scope::any_host()).living_days(days);
        let pair = new.make(SystemTime::now()).expect("made");
        let facts = AuthorityCertificate::from_pem(pair.cert_pem.as_bytes()).expect("readable");
        assert!(facts.subject().starts_with("CN=dfget on "), "{}", facts.subject());
        facts.not_after().duration_since(facts.not_before()).expect("in order") - HOUR
    };
    assert_eq!((life(1), life(0), life(u32::MAX)), (DAY, DAY, 3650 * DAY));
}

#[test]
fn an_authority_of_1969_does_not_break_anything() {
    let new = NewAuthority::new(Scope::any_host(), "n");
    let pair = new.make(SystemTime::UNIX_EPOCH - 40000 * DAY).expect("made");
    let loaded = CertificateAuthority::load(
        pair.cert_pem.as_bytes(),
        pair.key_pem.expose().as_bytes(),
        SystemTime::now(),
    );
    assert!(loaded.is_err());
    new.make(SystemTime::UNIX_EPOCH + 9_000_000 * DAY).expect("made");
}

#[test]
fn a_certificate_by_openssl_is_read_as_it_is() {
    let workshop = Workshop::new();
    workshop.ec_key("ca.key");
    workshop.authority(
        "basicConstraints = critical, CA:TRUE\n\
         nameConstraints = critical, permitted;DNS:Site.Example, permitted;IP:10.0.0.0/255.0.0.0, excluded;DNS:x.site.example\n",
    );
    let facts = AuthorityCertificate::read(&workshop.path("ca.crt")).expect("readable");
    let scope = facts.scope();
    assert_eq!(scope.to_string(), "site.example, 10.0.0.0/8");
    for (host, inside) in
        [("a.site.example", true), ("x.site.example", false), ("10.1.2.3", true), ("11.0.0.1", false)]
    {
        assert_eq!(scope.contains(host), inside, "{host}");
    }
    assert!(scope.contains("10.0.0.1") && !scope.is_any_host());
    let missing = AuthorityCertificate::read(&workshop.path("no.crt")).expect_err("there is none");
    assert!(missing.to_string().contains("no.crt cannot be read: "), "{missing}");
}
