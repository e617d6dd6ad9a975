//! Where the schedulers of a Dragonfly cluster are.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dfget_proto::Ring;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::super::member::Roll;

/// Between two look-ups of names (Dragonfly: `dynconfig.refreshInterval`).
const REFRESH: Duration = Duration::from_mins(1);

/// The same while there is a name that does not resolve.
const REFRESH_SOON: Duration = Duration::from_secs(5);

/// For one name.
const LOOK_UP: Duration = Duration::from_secs(5);

/// For all names, before a daemon is ready.
const AT_START: Duration = Duration::from_millis(500);

/// Schedulers of one name that are taken notice of.
const MOST_ADDRESSES: usize = 256;

/// The schedulers as of one moment, by `ip:port`: so their ring is that of Dragonfly's own peers.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    ring: Ring,
}

/// What looking names up came to.
#[derive(Debug, Default, Eq, PartialEq)]
struct Found {
    addresses: BTreeSet<SocketAddr>,
    /// Why there are not more, or empty.
    missing: String,
}

// === impl Addresses ===

impl Addresses {
    fn new(addresses: &BTreeSet<SocketAddr>) -> Self {
        Self { ring: Ring::new(addresses.iter().map(ToString::to_string)) }
    }

    /// These names and ports; what is to be run keeps to what they resolve to.
    pub(crate) async fn follow(
        names: Vec<(String, u16)>,
    ) -> (watch::Receiver<Arc<Self>>, impl Future<Output = ()> + Send + use<>) {
        let first = timeout(AT_START, look_up(&names)).await.unwrap_or_default();
        let literal = |(host, port): &(String, u16)| Some(SocketAddr::new(host.parse().ok()?, *port));
        let mut known = first.addresses;
        known.extend(names.iter().filter_map(literal));
        let (sender, receiver) = watch::channel(Arc::new(Self::new(&known)));
        let keep = async move {
            let mut said = String::new();
            let mut fresh = true;
            loop {
                let found = look_up(&names).await;
                if found.missing != said && !found.missing.is_empty() {
                    tracing::warn!("{}", found.missing);
                }
                let whole = found.missing.is_empty();
                said = found.missing;
                // What resolved before and does not now may still be there.
                if (whole || fresh) && !found.addresses.is_empty() && found.addresses != known {
                    known = found.addresses;
                    tracing::info!("schedulers: {}", listed(&known));
                    sender.send_replace(Arc::new(Self::new(&known)));
                    fresh = false;
                }
                sleep(if whole { REFRESH } else { REFRESH_SOON }).await;
            }
        };
        (receiver, keep)
    }
}

// === impl Roll for Addresses ===

#[tonic::async_trait]
impl Roll for Addresses {
    fn ring(&self) -> &Ring {
        &self.ring
    }

    fn me(&self) -> Option<&str> {
        None
    }

    async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, String> {
        name.parse().map(|address| vec![address]).map_err(|_| format!("{name} is no address"))
    }
}

/// Those names that do not resolve, and why.
pub(crate) async fn missing(names: &[(String, u16)]) -> Vec<(String, String)> {
    let mut missing = Vec::new();
    for name in names {
        let found = timeout(AT_START, look_up(std::slice::from_ref(name))).await;
        let why = found.map_or_else(|_| "DNS does not answer in time".to_owned(), |found| found.missing);
        if !why.is_empty() {
            missing.push((format!("{}:{}", name.0, name.1), why));
        }
    }
    missing
}

async fn look_up(names: &[(String, u16)]) -> Found {
    let mut found = Found::default();
    for (host, port) in names {
        match timeout(LOOK_UP, lookup_host((host.as_str(), *port))).await {
            Ok(Ok(all)) => found.addresses.extend(preferred(all.collect())),
            Ok(Err(error)) => found.note(host, &error.to_string()),
            Err(_) => found.note(host, "DNS does not answer in time"),
        }
    }
    found
}

/// Those of IPv4, if there are any, as Dragonfly's own peers have it.
fn preferred(mut all: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let old = |address: &SocketAddr| matches!(address.ip().to_canonical(), IpAddr::V4(_));
    if all.iter().any(old) {
        all.retain(old);
    }
    all.sort_unstable();
    all.truncate(MOST_ADDRESSES);
    all
}

fn listed(addresses: &BTreeSet<SocketAddr>) -> String {
    let mut text = String::new();
    for address in addresses {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}{address}");
    }
    text
}

// === impl Found ===

impl Found {
    fn note(&mut self, host: &str, why: &str) {
        let comma = if self.missing.is_empty() { "" } else { "; " };
        let _ = write!(self.missing, "{comma}cannot resolve the scheduler {host}: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_name_with_both_kinds_of_addresses_those_of_ipv4_count() {
        let all = ["[2001:db8::1]:8002", "10.0.0.2:8002", "10.0.0.1:8002"];
        let all = all.map(|text| text.parse().expect("an address")).to_vec();
        assert_eq!(
            preferred(all).iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.1:8002", "10.0.0.2:8002"]
        );
        let six: Vec<SocketAddr> = vec!["[2001:db8::1]:8002".parse().expect("an address")];
        assert_eq!(preferred(six.clone()), six);
    }

    #[tokio::test]
    async fn an_address_needs_no_look_up_and_the_ring_has_it_by_its_own_name() {
        let names = vec![("10.0.0.2".to_owned(), 8002), ("10.0.0.1".to_owned(), 8002)];
        let (addresses, _keep) = Addresses::follow(names).await;
        let addresses = Arc::clone(&addresses.borrow());
        let mut all: Vec<&str> = addresses.ring().order("t").collect();
        all.sort_unstable();
        assert_eq!(all, ["10.0.0.1:8002", "10.0.0.2:8002"]);
        assert_eq!(addresses.resolve("10.0.0.2:8002").await.map(|all| all.len()), Ok(1));
    }
}
