//! Which addresses a redirect may lead to.
//!
//! A registry that answers a blob by a redirect chooses where the daemon connects to. It must
//! not be able to aim it at services that trust this machine: loopback, link-local and cloud
//! metadata addresses are refused, unless the registry itself stands there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What reach an address has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AddressClass {
    /// This machine alone.
    Loopback,
    /// The link alone; cloud metadata services among them.
    LinkLocal,
    /// A cloud's metadata service outside of the link-local range.
    Metadata,
    /// No host at all: unspecified, multicast, broadcast.
    NoHost,
    /// Any other.
    Network,
}

/// Metadata services that have no link-local address.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

impl AddressClass {
    /// The class of `address`; an IPv4 address in IPv6 form counts as what it stands for.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        if METADATA.contains(&address) {
            return Self::Metadata;
        }
        match address {
            IpAddr::V4(v4) if v4.is_loopback() => Self::Loopback,
            IpAddr::V4(v4) if v4.is_link_local() => Self::LinkLocal,
            // All of 0.0.0.0/8 means "this host" (RFC 1122, 3.2.1.3), and Linux takes 0.0.0.0 for loopback.
            IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast() => Self::NoHost,
            IpAddr::V6(v6) if v6.is_loopback() => Self::Loopback,
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Self::LinkLocal,
            IpAddr::V6(v6) if v6.is_unspecified() || v6.is_multicast() => Self::NoHost,
            IpAddr::V4(_) | IpAddr::V6(_) => Self::Network,
        }
    }

    /// Whether a registry at an address of class `registry` may redirect to one of this class.
    #[must_use]
    pub fn may_follow(self, registry: Self) -> bool {
        match self {
            Self::Network => true,
            Self::Loopback | Self::LinkLocal => self == registry,
            Self::Metadata | Self::NoHost => false,
        }
    }
}

/// Puts IPv6 addresses before the others; among their like they stay as the resolver has them.
pub(crate) fn ipv6_first(addresses: &mut [SocketAddr]) {
    addresses.sort_by_key(|address| !address.is_ipv6());
}

/// The address that a host is, in whatever form: `169.254.169.254`, `0xa9fea9fe` and `2852039166` are
/// one, and every resolver takes them for it.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    host.parse().ok().or_else(|| match url::Host::parse(host) {
        Ok(url::Host::Ipv4(address)) => Some(address.into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_known_in_every_form() {
        let metadata = "169.254.169.254".parse().ok();
        for text in ["169.254.169.254", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518"] {
            assert_eq!(literal(text), metadata, "{text}");
        }
        assert_eq!(literal("fd00:ec2::254"), "fd00:ec2::254".parse().ok());
        for text in ["registry.example", "a1", "localhost", "1.2.3.4.5x"] {
            assert_eq!(literal(text), None, "{text}");
        }
    }

    fn class(text: &str) -> AddressClass {
        AddressClass::of(text.parse().expect("an address"))
    }

    #[test]
    fn addresses_are_told_apart() {
        for text in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(class(text), AddressClass::Loopback, "{text}");
        }
        for text in ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254"] {
            assert_eq!(class(text), AddressClass::LinkLocal, "{text}");
        }
        for text in ["100.100.100.200", "fd00:ec2::254", "168.63.129.16"] {
            assert_eq!(class(text), AddressClass::Metadata, "{text}");
        }
        for text in ["0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "255.255.255.255", "ff02::1"] {
            assert_eq!(class(text), AddressClass::NoHost, "{text}");
        }
        for text in ["10.0.0.1", "192.168.1.1", "203.0.113.9", "2001:db8::1", "fd00::1"] {
            assert_eq!(class(text), AddressClass::Network, "{text}");
        }
    }

    #[test]
    fn only_a_registry_that_stands_there_may_lead_there() {
        use AddressClass::{LinkLocal, Loopback, Metadata, Network, NoHost};
        for registry in [Loopback, LinkLocal, Metadata, Network, NoHost] {
            assert!(Network.may_follow(registry));
            assert!(!Metadata.may_follow(registry) && !NoHost.may_follow(registry));
            assert_eq!(Loopback.may_follow(registry), registry == Loopback);
            assert_eq!(LinkLocal.may_follow(registry), registry == LinkLocal);
        }
    }

    #[test]
    fn ipv6_comes_first_and_the_resolvers_order_stays_otherwise() {
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let mut addresses = ["192.0.2.2:1", "[2001:db8::2]:1", "192.0.2.1:1", "[2001:db8::1]:1"].map(parse);
        ipv6_first(&mut addresses);
        assert_eq!(
            addresses,
            ["[2001:db8::2]:1", "[2001:db8::1]:1", "192.0.2.2:1", "192.0.2.1:1"].map(parse)
        );
    }
}
