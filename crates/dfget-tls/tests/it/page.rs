//! The CA that Dragonfly's page on Singularity makes, by the page's commands.

use std::time::SystemTime;

use dfget_tls::Weakness;

use crate::leaves::hosts_verify;
use crate::openssl::Workshop;

/// `openssl.conf` as the page prints it.
const OPENSSL_CONF: &str = "\
[ req ]
#default_bits = 2048
#default_md = sha256
#default_keyfile = privkey.pem
distinguished_name = req_distinguished_name
attributes = req_attributes
extensions               = v3_ca
req_extensions           = v3_ca

[ req_distinguished_name ]
countryName = Country Name (2 letter code)
countryName_min = 2
countryName_max = 2
stateOrProvinceName = State or Province Name (full name)
localityName = Locality Name (eg, city)
0.organizationName = Organization Name (eg, company)
organizationalUnitName = Organizational Unit Name (eg, section)
commonName = Common Name (eg, fully qualified host name)
commonName_max = 64
emailAddress = Email Address
emailAddress_max = 64

[ req_attributes ]
challengePassword = A challenge password
challengePassword_min = 4
challengePassword_max = 20

[ v3_ca ]
basicConstraints         = CA:TRUE
";

fn ca_of_the_page(typed: &str) -> Workshop {
    let workshop = Workshop::new();
    workshop.write("openssl.conf", OPENSSL_CONF);
    workshop.openssl("genrsa -out ca.key 2048");
    workshop.openssl_typing("req -new -key ca.key -nodes -out ca.csr -config openssl.conf", typed);
    workshop.openssl(
        "x509 -req -days 36500 -extfile openssl.conf -extensions v3_ca -in ca.csr -signkey ca.key -out ca.crt",
    );
    workshop
}

#[test]
fn the_ca_of_the_page_works_with_a_country_and_a_name() {
    let workshop = ca_of_the_page("DE\n\n\n\n\nProxy CA\n\n\n");
    let authority = workshop.load().expect("the page's CA is taken");
    assert_eq!(authority.subject(), "C=DE, CN=Proxy CA");
    assert_eq!(
        authority.weaknesses(SystemTime::now()),
        [
            Weakness::ShortRsaKey { bits: 2048 },
            Weakness::LongValidity { years: 100 },
            Weakness::NoNameConstraints,
            Weakness::NoKeyUsage,
        ]
    );
    hosts_verify(&workshop, &["your.private.registry", "192.0.2.7", "2001:db8::1"]);
}

#[test]
fn the_ca_of_the_page_works_with_every_prompt_answered() {
    let workshop =
        ca_of_the_page("DE\nBayern\nM\u{fc}nchen\nSite & Sons\nHPC, IT\nProxy CA\nroot@example.org\nword\n");
    hosts_verify(&workshop, &["your.private.registry"]);
}
