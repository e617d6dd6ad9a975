//! Where connections may lead, after the name is resolved: what a client or a registry names must not
//! reach services that trust this machine.
//!
//! Each connection goes to the very address that was judged here; nothing is resolved a second time.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use dfget_core::{Authority, Network};

use crate::AddressClass;

/// What the configuration says about where connections may lead.
pub struct Destinations {
    /// Loopback may be reached by everybody: no client comes from another host.
    pub loopback: bool,
    /// Whether the administrator has named this host, so that it may be reached wherever it stands.
    pub named: Judge,
    /// Whether this host may be reached at all; asked for the places that redirects lead to.
    pub admitted: Judge,
    /// What redirects may lead to besides what they may anyway.
    pub redirects: Redirects,
    /// Addresses of hosts that are not looked up, by name in lower case.
    pub resolve: HashMap<String, Vec<IpAddr>>,
}

/// A yes or no on a host.
pub type Judge = Box<dyn Fn(&Authority) -> bool + Send + Sync>;

/// What redirects may lead to although their target's class or scheme speaks against it.
#[derive(Clone, Debug, Default)]
pub struct Redirects {
    /// Addresses.
    pub networks: Vec<Network>,
    /// Hosts by name, lower case.
    pub hosts: Vec<String>,
    /// From https to http.
    pub downgrade: bool,
}

// === impl Destinations ===

impl Destinations {
    /// For a daemon whose clients are its own user on its own host: they may go wherever they could go
    /// without it.
    #[must_use]
    pub fn of_own_user() -> Self {
        Self { named: Box::new(|_| true), ..Self::default() }
    }

    /// Whether a connection to `authority` may lead to `address`. `registry`: the class of the address
    /// that redirects there, if one does.
    pub(crate) fn permits(
        &self,
        authority: &Authority,
        address: IpAddr,
        registry: Option<AddressClass>,
    ) -> bool {
        let class = AddressClass::of(address);
        match registry {
            Some(registry) => class.may_follow(registry) || self.redirects.name(authority, address),
            None => match class {
                AddressClass::Network => true,
                // Linux takes 0.0.0.0 for loopback.
                AddressClass::Loopback | AddressClass::NoHost => self.loopback || (self.named)(authority),
                AddressClass::LinkLocal | AddressClass::Metadata => (self.named)(authority),
            },
        }
    }
}

impl Default for Destinations {
    /// What holds without a word of the configuration, for clients of this host.
    fn default() -> Self {
        Self {
            loopback: true,
            named: Box::new(|_| false),
            admitted: Box::new(|_| true),
            redirects: Redirects::default(),
            resolve: HashMap::new(),
        }
    }
}

impl fmt::Debug for Destinations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Destinations")
            .field("loopback", &self.loopback)
            .field("redirects", &self.redirects)
            .field("resolve", &self.resolve)
            .finish_non_exhaustive()
    }
}

// === impl Redirects ===

impl Redirects {
    fn name(&self, authority: &Authority, address: IpAddr) -> bool {
        self.hosts.contains(&authority.host) || self.networks.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use dfget_core::Scheme;

    use super::*;

    fn permits(destinations: &Destinations, host: &str, address: &str, from: Option<AddressClass>) -> bool {
        let authority = Authority::parse(Scheme::Https, host).expect("an authority");
        destinations.permits(&authority, address.parse().expect("an address"), from)
    }

    #[test]
    fn clients_of_this_host_reach_everything_but_the_link_and_metadata() {
        let ours = Destinations::default();
        for address in ["10.0.0.1", "127.0.0.1", "::1", "2001:db8::1"] {
            assert!(permits(&ours, "x.test", address, None), "{address}");
        }
        for address in ["169.254.169.254", "fd00:ec2::254", "fe80::1", "::ffff:169.254.169.254"] {
            assert!(!permits(&ours, "x.test", address, None), "{address}");
        }
    }

    #[test]
    fn clients_of_other_hosts_do_not_reach_loopback_either() {
        let named = |authority: &Authority| authority.host == "here.test";
        let shared = Destinations { loopback: false, named: Box::new(named), ..Destinations::default() };
        for address in ["127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1"] {
            assert!(!permits(&shared, "x.test", address, None), "{address}");
            assert!(permits(&shared, "here.test", address, None), "{address}");
        }
        assert!(permits(&shared, "here.test", "169.254.169.254", None));
        assert!(permits(&shared, "x.test", "10.0.0.1", None));
    }

    #[test]
    fn redirects_lead_where_the_configuration_allows() {
        let redirects = Redirects {
            networks: vec!["127.0.0.0/8".parse().expect("a range")],
            hosts: vec!["cdn.test".to_owned()],
            downgrade: false,
        };
        let allowed = Destinations { redirects, ..Destinations::of_own_user() };
        let network = Some(AddressClass::Network);
        assert!(permits(&allowed, "x.test", "127.0.0.1", network));
        assert!(permits(&allowed, "cdn.test", "169.254.1.1", network));
        assert!(!permits(&allowed, "x.test", "::1", network), "no client's own wish counts here");
        assert!(permits(&allowed, "x.test", "::1", Some(AddressClass::Loopback)));
    }
}
