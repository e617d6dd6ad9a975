//! What this node is called, and by which addresses it is reached.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of all interfaces, loopback included, each once. Empty where `/proc` tells nothing.
#[must_use]
pub fn local_addresses() -> Vec<IpAddr> {
    let v4 = fs::read_to_string("/proc/self/net/fib_trie").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default();
    let mut all: Vec<IpAddr> = from_trie(&v4).into_iter().map(IpAddr::V4).collect();
    all.extend(from_inet6(&v6).into_iter().map(IpAddr::V6));
    let mut seen = std::collections::HashSet::new();
    all.retain(|address| seen.insert(*address));
    all
}

/// The name that the system goes by.
#[must_use]
pub fn system_hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase()
}

/// The job of Slurm that this process belongs to (`SLURM_JOB_ID`); `None` outside one.
#[must_use]
pub fn slurm_job(variable: Option<&str>) -> Option<u64> {
    variable.and_then(|id| id.trim().parse().ok())
}

/// The gRPC port of a job's daemons: every fourth from 20000 to 31996, so that two jobs on a node
/// rarely want the same, and below the ports that systems give to outgoing connections.
#[must_use]
pub fn port_of_job(job: u64) -> u16 {
    20_000 + 4 * u16::try_from(job % 3000).unwrap_or(0)
}

/// The name in the cluster: what the site calls the node, and the job where there is one, so that
/// a job's daemon and the system's are two.
#[must_use]
pub fn cluster_hostname(name: &str, job: Option<u64>) -> String {
    job.map_or_else(|| name.to_owned(), |job| format!("{name}-job{job}"))
}

/// `/proc/net/fib_trie`: an address line, then `/32 host LOCAL` if it is one of ours.
fn from_trie(text: &str) -> Vec<Ipv4Addr> {
    let mut last = None;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last
        {
            found.push(address);
        }
    }
    found
}

/// `/proc/net/if_inet6`: the address in 32 hexadecimal digits, then others. Addresses of one link
/// (`fe80::`) are left out: they mean nothing without the link's name.
fn from_inet6(text: &str) -> Vec<Ipv6Addr> {
    let address = |line: &str| {
        let digits = line.split_whitespace().next()?;
        let bits = (digits.len() == 32).then(|| u128::from_str_radix(digits, 16).ok())??;
        Some(Ipv6Addr::from(bits)).filter(|address| !address.is_unicast_link_local())
    };
    text.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_the_interfaces_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
                    Local:\n  +-- 0.0.0.0/0 2 0 2\n     +-- 10.1.0.0/24 2 0 2\n        |-- 10.1.0.7\n\
                    \x20          /32 host LOCAL\n        |-- 10.1.0.255\n           /32 link BROADCAST\n";
        assert_eq!(from_trie(trie), [Ipv4Addr::new(10, 1, 0, 7)]);
        let inet6 = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     20010db8000000000000000000000007 02 40 00 80     eth0\n\
                     fe800000000000000000000000000007 02 40 20 80     eth0\nnonsense\n";
        assert_eq!(from_inet6(inet6), [Ipv6Addr::LOCALHOST, "2001:db8::7".parse::<Ipv6Addr>().unwrap()]);
        assert!(local_addresses().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }

    #[test]
    fn a_job_has_a_port_and_a_name_of_its_own() {
        assert_eq!(slurm_job(Some("1234567")), Some(1_234_567));
        assert_eq!(slurm_job(Some("")), None);
        assert_eq!(port_of_job(1_234_567), 20_000 + 4 * 1567);
        assert_eq!(port_of_job(u64::MAX) % 4, 0);
        assert!((0..9000).all(|job| (20_000..=31_996).contains(&port_of_job(job))));
        assert_eq!(cluster_hostname("n1", Some(7)), "n1-job7");
        assert_eq!(cluster_hostname("n1", None), "n1");
    }
}
