//! The way to origins: the proxy of the site, and where connections may lead.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::Path;

use dfget_config::{Config, Listen, Secret, WhiteListEntry};
use dfget_core::Authority;
use dfget_origin::{Destinations, Redirects, Upstream, is_local};
use tracing::{info, warn};

/// The proxy of 2.0.9, for both schemes.
const SOURCE_PROXY: &str = "D7Y_SOURCE_PROXY";

/// The proxy that leads to origins: for each scheme that of the configuration, else that of the
/// environment. One that is the daemon itself, which happens where `HTTPS_PROXY` is set for all programs
/// of a machine, is left out, and so is a variable that names none; both are said.
pub(crate) fn upstream(
    config: &Config,
    variable: impl Fn(&str) -> Option<String>,
    listening: SocketAddr,
    announce: &dyn Fn(&str),
) -> Option<Upstream> {
    let clients = &config.download.resource_clients;
    let say = |warning: String| {
        warn!("{warning}");
        announce(&format!("warning: {warning}"));
    };
    let choose = |key: &str, configured: &Option<Secret>, names: [&str; 2]| {
        let configured = configured.iter().map(|url| (key.to_owned(), url.expose().to_owned()));
        let variables = [SOURCE_PROXY, names[0], names[1]].into_iter();
        let variables = variables.filter_map(|name| Some((name.to_owned(), variable(name)?)));
        for (name, value) in configured.chain(variables).filter(|(_, value)| !value.is_empty()) {
            match Upstream::place(&value) {
                Err(error) => say(format!("{name} cannot be used: {error}; going without")),
                Ok(place) if is_ourselves(&place, listening) => {
                    say(format!("{name} names this daemon itself; origins are reached without it"));
                }
                Ok(place) => {
                    info!("origins are reached through {}, by {name}", place.host_port());
                    return value;
                }
            }
        }
        String::new()
    };
    let https =
        choose("download.resourceClients.https.proxy", &clients.https.proxy, ["HTTPS_PROXY", "https_proxy"]);
    let http =
        choose("download.resourceClients.http.proxy", &clients.http.proxy, ["HTTP_PROXY", "http_proxy"]);
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let no = set("NO_PROXY").or_else(|| set("no_proxy")).unwrap_or_default();
    Upstream::new(&https, &http, &no).ok().flatten()
}

/// Whether the address of a proxy leads to where we listen. Its name is looked up only where the
/// port agrees.
fn is_ourselves(place: &Authority, listening: SocketAddr) -> bool {
    let own = |ip: IpAddr| {
        ip.to_canonical() == listening.ip().to_canonical()
            || (listening.ip().is_unspecified() && is_local(ip.to_canonical()))
    };
    place.port == listening.port()
        && (place.host.as_str(), place.port)
            .to_socket_addrs()
            .is_ok_and(|mut addresses| addresses.any(|address| own(address.ip())))
}

/// Where the configuration lets connections lead.
pub(crate) fn destinations(config: &Config) -> Destinations {
    let (proxy, redirects) = (&config.proxy, &config.download.redirects);
    let (white_list, rules) = (proxy.white_list.clone(), proxy.rules.clone());
    let hosts = proxy.hijack.iter().flat_map(|hijack| &hijack.hosts);
    let literal: Vec<String> = hosts.filter_map(dfget_config::HijackHost::literal).collect();
    let mut sni = proxy.hijack.iter().flat_map(|hijack| &hijack.sni);
    let mirrors: Vec<Authority> =
        proxy.mirrors.configured().map(|mirror| mirror.url.authority().clone()).collect();
    let admission = crate::settings::admission(proxy);
    Destinations {
        loopback: is_own_loopback(&proxy.listen, proxy.namespace.as_deref())
            && sni.all(|sni| is_own_loopback(&sni.listen, sni.namespace.as_deref())),
        named: Box::new(move |target| {
            white_list.iter().any(|entry| names(entry, target))
                || rules.iter().any(|rule| rule.names(target))
                || literal.contains(&target.host)
                || mirrors.contains(target)
        }),
        admitted: Box::new(move |target| admission.admits_target(target)),
        redirects: Redirects {
            networks: redirects.networks.clone(),
            hosts: redirects.hosts.clone(),
            downgrade: redirects.downgrade,
        },
        resolve: config.download.resolve.iter().map(|(name, ip)| (name.clone(), vec![*ip])).collect(),
    }
}

/// Whether only programs of this host, in the daemon's own network namespace, can be clients there.
fn is_own_loopback(listen: &Listen, namespace: Option<&Path>) -> bool {
    listen.ip.is_loopback() && namespace.is_none()
}

/// Whether an entry of `whiteList` spells the target; a pattern may match what nobody thought of.
fn names(entry: &WhiteListEntry, target: &Authority) -> bool {
    entry.host.as_ref().is_some_and(|host| host.eq_ignore_ascii_case(&target.host))
        && (entry.ports.is_empty() || entry.ports.contains(&target.port))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use dfget_config::{Paths, Proxy};
    use dfget_core::Scheme;

    use super::*;

    fn config() -> Config {
        Config::new(Proxy::default(), Paths { log_dir: None, data_dir: "/nowhere".into() })
    }

    /// What is said, and whether there is a proxy for https and for http.
    fn chosen(config: &Config, variables: &[(&str, &str)]) -> (Vec<String>, [bool; 2]) {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        let said = RefCell::new(Vec::new());
        let announce = |line: &str| said.borrow_mut().push(line.to_owned());
        let listening = SocketAddr::from(([127, 0, 0, 1], 65001));
        let variable = |name: &str| variables.get(name).map(|value| (*value).to_owned());
        let upstream = upstream(config, variable, listening, &announce);
        let has = |scheme| {
            let target = Authority::parse(scheme, "r.test").expect("an authority");
            upstream.as_ref().is_some_and(|upstream| !upstream.excludes(&target))
        };
        (said.take(), [has(Scheme::Https), has(Scheme::Http)])
    }

    #[test]
    fn loopback_is_for_clients_of_this_host_and_hosts_that_are_spelled() {
        let mut config = config();
        assert!(destinations(&config).loopback);
        config.proxy.namespace = Some("/run/netns/container".into());
        assert!(!destinations(&config).loopback, "a container's loopback is not ours");
        config.proxy.namespace = None;
        config.proxy.listen.ip = IpAddr::from([0, 0, 0, 0]);
        let entry = |host: Option<&str>, regx: Option<&str>, ports: &[u16]| WhiteListEntry {
            host: host.map(str::to_owned),
            regx: regx.map(|regx| regex::Regex::new(regx).expect("a pattern")),
            ports: ports.to_vec(),
        };
        config.proxy.white_list = vec![entry(Some("here.test"), None, &[5000]), entry(None, Some("."), &[])];
        let destinations = destinations(&config);
        let target = |text| Authority::parse(Scheme::Https, text).expect("an authority");
        assert!(!destinations.loopback && (destinations.named)(&target("HERE.test:5000")));
        for other in ["here.test:5001", "there.test:5000"] {
            assert!(!(destinations.named)(&target(other)), "{other}: a pattern spells nothing");
        }
        assert!((destinations.admitted)(&target("there.test:1")));
    }

    #[test]
    fn the_environment_is_heard_for_each_scheme() {
        assert_eq!(chosen(&config(), &[]), (vec![], [false, false]));
        assert_eq!(chosen(&config(), &[("HTTPS_PROXY", "http://p.test:1")]), (vec![], [true, false]));
        assert_eq!(chosen(&config(), &[("http_proxy", "p.test:1")]), (vec![], [false, true]));
        assert_eq!(chosen(&config(), &[("D7Y_SOURCE_PROXY", "http://p.test:1")]), (vec![], [true, true]));
        let excluded = [("HTTPS_PROXY", "http://p.test:1"), ("NO_PROXY", ".test")];
        assert_eq!(chosen(&config(), &excluded), (vec![], [false, false]));
    }

    #[test]
    fn the_configuration_wins_over_the_environment() {
        let mut config = config();
        config.download.resource_clients.https.proxy = Some(Secret::new("http://u:p@p.test:1".to_owned()));
        // Otherwise the variable's would be told to be of no use.
        let (said, _) = chosen(&config, &[("HTTPS_PROXY", "socks5://x")]);
        assert_eq!(said, Vec::<String>::new());
    }

    #[test]
    fn the_daemon_is_no_proxy_of_its_own() {
        for own in ["http://127.0.0.1:65001", "127.0.0.1:65001", "http://localhost:65001/"] {
            let (said, has) = chosen(&config(), &[("HTTPS_PROXY", own)]);
            assert_eq!(has, [false, false], "{own}");
            assert_eq!(
                said,
                ["warning: HTTPS_PROXY names this daemon itself; origins are reached without it"],
                "{own}"
            );
        }
        assert_eq!(chosen(&config(), &[("HTTPS_PROXY", "http://127.0.0.2:65001")]).1, [true, false]);
        let (said, has) = chosen(&config(), &[("HTTPS_PROXY", "https://u:secret@p.test")]);
        assert!(!has[0] && said.len() == 1 && !said[0].contains("secret"), "{said:?}");
    }
}
