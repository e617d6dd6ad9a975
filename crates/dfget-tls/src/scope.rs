//! For which hosts an authority may sign: the name constraints of its certificate.
//!
//! One type for both ends: what a new authority is to be bound to, and what an existing certificate
//! is bound to. It knows the two kinds of names that servers have, DNS names and addresses;
//! constraints on other kinds (people, directories) bind no server and are passed over.
//!
//! A permitted name covers the names below it (`registry.example` also `a.registry.example`), as
//! RFC 5280 section 4.2.1.10 says: constraints cannot name one host and not its subdomains.

use std::fmt;
use std::net::IpAddr;

use x509_parser::extensions::{GeneralName, GeneralSubtree};
use x509_parser::prelude::X509Certificate;

use crate::error::LeafError;
use crate::host::HostName;

/// The hosts that an authority may sign for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scope {
    pub(crate) permitted: Subtrees,
    pub(crate) excluded: Subtrees,
}

/// Names and networks; a name stands for itself and all below it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Subtrees {
    /// Lower case; the empty one is above all names.
    pub(crate) names: Vec<String>,
    pub(crate) networks: Vec<Network>,
}

/// An address with its mask, both of one length: 4 bytes or 16.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Network {
    pub(crate) address: Vec<u8>,
    pub(crate) mask: Vec<u8>,
}

// === impl Scope ===

impl Scope {
    /// Without bounds: whoever gets the key can impersonate every host.
    #[must_use]
    pub fn any_host() -> Self {
        Self::default()
    }

    /// These hosts and no other: DNS names (and, as constraints are, what lies below them), and
    /// addresses (IPv6 with or without brackets), all without a port.
    ///
    /// What is not named is excluded, each kind of address by a rule of its own, since verifiers
    /// differ in whether a permitted IPv4 address bounds IPv6.
    ///
    /// # Errors
    /// [`LeafError::InvalidHost`] for a host that no certificate can name; [`LeafError::NoHost`]
    /// for none at all.
    pub fn of_hosts<H: AsRef<str>>(hosts: impl IntoIterator<Item = H>) -> Result<Self, LeafError> {
        let mut permitted = Subtrees::default();
        for host in hosts {
            match HostName::parse(host.as_ref())? {
                HostName::Dns(name) if !permitted.names.contains(&name) => permitted.names.push(name),
                HostName::Ip(address) => {
                    let network = Network::single(address);
                    if !permitted.networks.contains(&network) {
                        permitted.networks.push(network);
                    }
                }
                HostName::Dns(_) => {}
            }
        }
        if permitted.is_empty() {
            return Err(LeafError::NoHost);
        }
        let names = if permitted.names.is_empty() { vec![String::new()] } else { Vec::new() };
        let networks = [IPV4_BYTES, IPV6_BYTES]
            .into_iter()
            .filter(|bytes| permitted.networks.iter().all(|network| network.address.len() != *bytes))
            .map(Network::all)
            .collect();
        Ok(Self { permitted, excluded: Subtrees { names, networks } })
    }

    /// That of a certificate. Broken name constraints count as none: what clients make of them is
    /// not known.
    pub(crate) fn of_certificate(certificate: &X509Certificate<'_>) -> Self {
        let Ok(Some(constraints)) = certificate.name_constraints() else { return Self::any_host() };
        let subtrees = |list: &Option<Vec<GeneralSubtree<'_>>>| {
            let mut found = Subtrees::default();
            for subtree in list.iter().flatten() {
                found.add(&subtree.base);
            }
            found
        };
        Self {
            permitted: subtrees(&constraints.value.permitted_subtrees),
            excluded: subtrees(&constraints.value.excluded_subtrees),
        }
    }

    /// Whether no host lies outside.
    #[must_use]
    pub fn is_any_host(&self) -> bool {
        self.permitted.is_empty() && self.excluded.is_empty()
    }

    /// Whether clients will accept a leaf for `host`: a DNS name or an address, without a port.
    /// What is neither lies in no scope.
    #[must_use]
    pub fn contains(&self, host: &str) -> bool {
        match HostName::parse(host) {
            Ok(HostName::Dns(name)) => {
                let permitted = &self.permitted.names;
                (permitted.is_empty() || permitted.iter().any(|above| is_below(&name, above)))
                    && !self.excluded.names.iter().any(|above| is_below(&name, above))
            }
            Ok(HostName::Ip(address)) => {
                let permitted = &self.permitted.networks;
                (permitted.is_empty() || permitted.iter().any(|network| network.contains(address)))
                    && !self.excluded.networks.iter().any(|network| network.contains(address))
            }
            Err(_) => false,
        }
    }

    /// The permitted DNS names, as `registry.example`; none when DNS names are not bounded so.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.permitted.names.iter().map(String::as_str)
    }

    /// The permitted addresses, as `192.0.2.7`, or `192.0.2.0/24` of a whole network.
    pub fn addresses(&self) -> impl Iterator<Item = String> {
        self.permitted.networks.iter().map(Network::to_string)
    }
}

impl fmt::Display for Scope {
    /// `registry.example, 192.0.2.7`, or `any host`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.permitted.is_empty() {
            formatter.write_str("any host")?;
            if !self.excluded.is_empty() {
                write!(formatter, " but {}", self.excluded)?;
            }
            return Ok(());
        }
        write!(formatter, "{}", self.permitted)?;
        let mut open = Vec::new();
        if self.permitted.names.is_empty() && !self.excluded.names.iter().any(String::is_empty) {
            open.push("any name");
        }
        if self.permitted.networks.is_empty() && !self.excluded.excludes_every_address() {
            open.push("any address");
        }
        for kind in open {
            write!(formatter, ", {kind}")?;
        }
        Ok(())
    }
}

// === impl Subtrees ===

impl Subtrees {
    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.networks.is_empty()
    }

    fn excludes_every_address(&self) -> bool {
        [IPV4_BYTES, IPV6_BYTES].into_iter().all(|bytes| self.networks.contains(&Network::all(bytes)))
    }

    fn add(&mut self, base: &GeneralName<'_>) {
        match base {
            GeneralName::DNSName(name) => {
                let printable = |c: char| if c.is_ascii_graphic() { c.to_ascii_lowercase() } else { '?' };
                self.names.push(name.chars().map(printable).take(300).collect());
            }
            GeneralName::IPAddress(bytes) if [2 * IPV4_BYTES, 2 * IPV6_BYTES].contains(&bytes.len()) => {
                let (address, mask) = bytes.split_at(bytes.len() / 2);
                self.networks.push(Network { address: address.to_vec(), mask: mask.to_vec() });
            }
            _ => {}
        }
    }
}

impl fmt::Display for Subtrees {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name: &String| if name.is_empty() { "all names".to_owned() } else { name.clone() };
        let all: Vec<String> =
            self.names.iter().map(name).chain(self.networks.iter().map(Network::to_string)).collect();
        formatter.write_str(&all.join(", "))
    }
}

// === impl Network ===

impl Network {
    fn single(address: IpAddr) -> Self {
        let address = bytes(address);
        Self { mask: vec![0xff; address.len()], address }
    }

    fn all(bytes: usize) -> Self {
        Self { address: vec![0; bytes], mask: vec![0; bytes] }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let address = bytes(address);
        address.len() == self.address.len()
            && address
                .iter()
                .zip(&self.address)
                .zip(&self.mask)
                .all(|((byte, base), mask)| byte & mask == base & mask)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |bytes: &[u8]| match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
            (Ok(v4), _) => IpAddr::from(v4).to_string(),
            (_, Ok(v6)) => IpAddr::from(v6).to_string(),
            _ => "?".to_owned(),
        };
        formatter.write_str(&shown(&self.address))?;
        let ones: u32 = self.mask.iter().map(|byte| byte.leading_ones()).sum();
        let set: u32 = self.mask.iter().map(|byte| byte.count_ones()).sum();
        let is_prefix = ones == set && self.mask.windows(2).all(|pair| pair[0] == 0xff || pair[1] == 0);
        if !is_prefix {
            write!(formatter, "/{}", shown(&self.mask))
        } else if ones as usize == 8 * self.mask.len() {
            Ok(())
        } else {
            write!(formatter, "/{ones}")
        }
    }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Whether `name` is `above` or lies below it. A leading dot, which is no RFC 5280, means what it
/// seems to: below only.
fn is_below(name: &str, above: &str) -> bool {
    if let Some(strictly) = above.strip_prefix('.') {
        return name.strip_suffix(strictly).is_some_and(|rest| rest.ends_with('.'));
    }
    above.is_empty() || name.strip_suffix(above).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

const IPV4_BYTES: usize = 4;
const IPV6_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hosts: &[&str]) -> Scope {
        Scope::of_hosts(hosts).expect("hosts")
    }

    #[test]
    fn a_name_is_itself_and_what_lies_below() {
        let scope = of(&["Registry.Example.", "registry.example"]);
        for inside in ["registry.example", "REGISTRY.example.", "a.b.registry.example"] {
            assert!(scope.contains(inside), "{inside}");
        }
        for outside in
            ["example", "not-registry.example", "registry.example.org", "192.0.2.7", "[::1]", "", "*"]
        {
            assert!(!scope.contains(outside), "{outside}");
        }
        assert_eq!(scope.to_string(), "registry.example");
        assert_eq!(scope.names().collect::<Vec<_>>(), ["registry.example"]);
    }

    #[test]
    fn an_address_bounds_the_other_kind_and_all_names() {
        let scope = of(&["192.0.2.7"]);
        assert!(scope.contains("192.0.2.7"));
        for outside in ["192.0.2.8", "::1", "::ffff:192.0.2.7", "registry.example"] {
            assert!(!scope.contains(outside), "{outside}");
        }
        let six = of(&["[2001:db8::1]"]);
        assert!(six.contains("2001:db8::1") && !six.contains("2001:db8::2") && !six.contains("127.0.0.1"));
        assert_eq!(six.to_string(), "2001:db8::1");
    }

    #[test]
    fn names_and_addresses_go_together() {
        let scope = of(&["registry.example", "192.0.2.7", "::1"]);
        for inside in ["registry.example", "192.0.2.7", "::1"] {
            assert!(scope.contains(inside), "{inside}");
        }
        assert_eq!(scope.to_string(), "registry.example, 192.0.2.7, ::1");
        assert_eq!(scope.excluded, Subtrees::default());
    }

    #[test]
    fn any_host_is_any_host() {
        let scope = Scope::any_host();
        assert!(
            scope.is_any_host() && scope.contains("a.b") && scope.contains("::1") && !scope.contains("a b")
        );
        assert_eq!(scope.to_string(), "any host");
    }

    #[test]
    fn no_host_and_no_name_are_refused() {
        assert!(matches!(Scope::of_hosts([""; 0]), Err(LeafError::NoHost)));
        assert!(matches!(Scope::of_hosts(["*.example"]), Err(LeafError::InvalidHost { .. })));
    }

    #[test]
    fn what_others_write_is_shown_as_it_is() {
        let network =
            |address: &[u8], mask: &[u8]| Network { address: address.to_vec(), mask: mask.to_vec() };
        let names = vec![".example".to_owned()];
        let networks = vec![network(&[10, 0, 0, 0], &[255, 0, 0, 0])];
        let scope = Scope { permitted: Subtrees { names, networks }, excluded: Subtrees::default() };
        assert!(scope.contains("a.example") && !scope.contains("example") && scope.contains("10.2.3.4"));
        assert_eq!(scope.to_string(), ".example, 10.0.0.0/8");
        assert_eq!(network(&[1, 2, 3, 4], &[255, 0, 255, 0]).to_string(), "1.2.3.4/255.0.255.0");
        let only_names = Scope {
            permitted: Subtrees { names: vec!["example".to_owned()], ..Subtrees::default() },
            ..Scope::default()
        };
        assert_eq!(only_names.to_string(), "example, any address");
        assert!(only_names.contains("::1"));
        let all_but = Scope {
            excluded: Subtrees { names: vec!["example".to_owned()], ..Subtrees::default() },
            ..Scope::default()
        };
        assert_eq!(all_but.to_string(), "any host but example");
        assert!(!all_but.is_any_host());
    }
}
