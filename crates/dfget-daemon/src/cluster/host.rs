//! How this node describes itself to others (Dragonfly v2, AnnounceHost).

use std::fs;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dfget_cluster::{ClusterSetup, Guest};
use dfget_config::Config;
use dfget_proto::messages::common::v2::{Build, Cpu, Host, Memory, Network};

/// What is assumed of a network card that does not tell its speed, in bits a second: schedulers of
/// Dragonfly take 0 for a node that cannot send.
const USUAL_SPEED: u64 = 10_000_000_000;

/// How this node is known, and where it is reached.
pub(super) struct Known {
    pub(super) id: String,
    pub(super) hostname: String,
    pub(super) ip: IpAddr,
    pub(super) port: u16,
}

/// What this node says of itself. Clones are the same.
#[derive(Clone)]
pub(super) struct OwnHost {
    facts: Arc<Facts>,
}

struct Facts {
    id: String,
    hostname: String,
    ip: IpAddr,
    port: u16,
    idc: String,
    location: String,
    processors: u32,
    kernel: String,
    /// The card's speed, in bits a second.
    card: u64,
    /// What others may count on of it; it changes with `upload.rateLimit`.
    uplink: AtomicU64,
}

// === impl Known ===

impl From<&ClusterSetup> for Known {
    fn from(setup: &ClusterSetup) -> Self {
        let (id, hostname) = (setup.host_id.clone(), setup.hostname.clone());
        Self { id, hostname, ip: setup.ip, port: setup.grpc.port() }
    }
}

impl From<&Guest> for Known {
    fn from(guest: &Guest) -> Self {
        let (id, hostname) = (guest.host_id.clone(), guest.hostname.clone());
        Self { id, hostname, ip: guest.ip, port: guest.grpc.port() }
    }
}

// === impl OwnHost ===

impl OwnHost {
    pub(super) fn new(config: &Config, known: impl Into<Known>) -> Self {
        let Known { id, hostname, ip, port } = known.into();
        let card = card_speed().unwrap_or(USUAL_SPEED);
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let facts = Facts {
            id,
            hostname,
            ip,
            port,
            idc: config.host.idc.clone(),
            location: config.host.location.clone(),
            processors: u32::try_from(processors).unwrap_or(u32::MAX),
            kernel: text("/proc/sys/kernel/osrelease"),
            card,
            uplink: AtomicU64::new(uplink(config, card)),
        };
        Self { facts: Arc::new(facts) }
    }

    /// Takes over `upload.rateLimit`; it is told with the next announcement.
    pub(super) fn set_limit(&self, config: &Config) {
        self.facts.uplink.store(uplink(config, self.facts.card), Ordering::Relaxed);
    }

    pub(super) fn peer_id(&self) -> String {
        dfget_proto::peer_id(self.facts.ip, &self.facts.hostname)
    }

    pub(super) fn network(&self) -> Network {
        let told = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let uplink = self.facts.uplink.load(Ordering::Relaxed);
        Network {
            location: told(&self.facts.location),
            idc: told(&self.facts.idc),
            max_rx_bandwidth: uplink,
            rx_bandwidth: None,
            max_tx_bandwidth: uplink,
            tx_bandwidth: None,
        }
    }

    /// The announcement.
    pub(super) fn message(&self) -> Host {
        let facts = &self.facts;
        let processors = facts.processors;
        Host {
            id: facts.id.clone(),
            hostname: facts.hostname.clone(),
            ip: facts.ip.to_string(),
            port: i32::from(facts.port),
            download_port: i32::from(facts.port),
            os: "linux".to_owned(),
            platform: "linux".to_owned(),
            platform_family: "unix".to_owned(),
            kernel_version: facts.kernel.clone(),
            cpu: Some(Cpu { logical_count: processors, physical_count: processors, ..Cpu::default() }),
            memory: Some(memory(&text("/proc/meminfo"))),
            network: Some(self.network()),
            build: Some(Build {
                git_version: format!("dfget/{}", crate::parts::version()),
                ..Build::default()
            }),
            name: facts.hostname.clone(),
            ..Host::default()
        }
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// What of a card others may count on, in bits a second.
fn uplink(config: &Config, card: u64) -> u64 {
    let limit = config.upload.rate_limit.map(|limit| limit.get().saturating_mul(8));
    limit.map_or(card, |limit| limit.min(card))
}

/// The fastest card that is up, in bits a second.
fn card_speed() -> Option<u64> {
    let cards = fs::read_dir("/sys/class/net").ok()?;
    let speed = |card: fs::DirEntry| {
        let read = |name: &str| fs::read_to_string(card.path().join(name)).ok();
        let up = read("operstate").is_some_and(|state| state.trim() == "up");
        // Megabits; cards that do not know say -1.
        read("speed")?.trim().parse::<u64>().ok().filter(|_| up)
    };
    cards.flatten().filter_map(speed).max().filter(|speed| *speed > 0).map(|speed| speed * 1_000_000)
}

fn memory(meminfo: &str) -> Memory {
    let bytes = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0).saturating_mul(1024)
    };
    let (total, available) = (bytes("MemTotal"), bytes("MemAvailable"));
    let used = total.saturating_sub(available);
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    let used_percent = if total == 0 { 0.0 } else { used as f64 / total as f64 * 100.0 };
    Memory { total, available, used, used_percent, process_used_percent: 0.0, free: bytes("MemFree") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_table() {
        let memory = memory("MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     250 kB\n");
        assert_eq!((memory.total, memory.free, memory.used), (1_024_000, 102_400, 768_000));
        assert!((memory.used_percent - 75.0).abs() < 1e-9);
        assert!(super::memory("nothing").used_percent.abs() < f64::EPSILON);
    }
}
