//! What is counted by name: for each registry and each other node.
//!
//! Names of hosts are for those who may look into the daemon, not for a scrape of `/metrics`, where every name would
//! be a series of its own. So they stand here, and their number is bounded: what finds no place is counted
//! together under [`OTHERS`].

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Under which all are counted that find no place.
pub const OTHERS: &str = "others";

/// Registries that have a place.
const MOST_REGISTRIES: usize = 64;

/// Nodes that have a place, of those that feed this one and of those that it feeds.
const MOST_NODES: usize = 1024;

/// Different logins that are told apart for one registry.
const MOST_LOGINS: usize = 4096;

/// Counts by name. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    registries: Mutex<BTreeMap<String, Arc<Book>>>,
    parents: Mutex<BTreeMap<Arc<str>, u64>>,
    children: Mutex<BTreeMap<IpAddr, u64>>,
}

/// What is counted of one registry, or of any other origin.
#[derive(Debug, Default)]
pub struct Book {
    requests: AtomicU64,
    bytes: AtomicU64,
    saved_requests: AtomicU64,
    saved_bytes: AtomicU64,
    logins: Mutex<HashSet<u64>>,
}

/// A [`Book`] at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RegistryCount {
    /// `host:port`, or [`OTHERS`].
    pub name: String,
    /// Requests that it was sent, of whatever kind.
    pub requests: u64,
    /// Bytes of contents that it sent.
    pub bytes: u64,
    /// Requests of clients that were answered without one for the same to the registry.
    pub saved_requests: u64,
    /// Bytes that clients got from this node or others and not from the registry.
    pub saved_bytes: u64,
    /// Different logins that clients came with; to have none counts as one.
    pub logins: u64,
}

// === impl Ledger ===

impl Ledger {
    /// Where things of this registry are counted; `host_port` as it is in its URL.
    #[must_use]
    pub fn registry(&self, host_port: &str) -> Arc<Book> {
        let mut books = self.shared.registries.lock();
        if let Some(book) = books.get(host_port) {
            return Arc::clone(book);
        }
        let name = if books.len() < MOST_REGISTRIES { host_port } else { OTHERS };
        Arc::clone(books.entry(name.to_owned()).or_default())
    }

    /// Another node, by the id of its host, has sent so many bytes of a piece.
    pub fn from_parent(&self, host: &Arc<str>, bytes: u64) {
        let mut parents = self.shared.parents.lock();
        if let Some(sum) = parents.get_mut(host) {
            *sum += bytes;
        } else {
            let name = if parents.len() < MOST_NODES { Arc::clone(host) } else { OTHERS.into() };
            *parents.entry(name).or_default() += bytes;
        }
    }

    /// So many bytes were sent to another node at this address. Without a place it is not counted.
    pub fn to_child(&self, address: IpAddr, bytes: u64) {
        let mut children = self.shared.children.lock();
        let is_full = children.len() >= MOST_NODES;
        match children.get_mut(&address) {
            Some(sum) => *sum += bytes,
            None if is_full => {}
            None => drop(children.insert(address, bytes)),
        }
    }

    /// All registries, by name.
    #[must_use]
    pub fn registries(&self) -> Vec<RegistryCount> {
        self.shared.registries.lock().iter().map(|(name, book)| book.count(name)).collect()
    }

    /// Bytes that each node has sent here, by the id of its host.
    #[must_use]
    pub fn parents(&self) -> Vec<(Arc<str>, u64)> {
        self.shared.parents.lock().iter().map(|(host, bytes)| (Arc::clone(host), *bytes)).collect()
    }

    /// Bytes that each node was sent, by its address.
    #[must_use]
    pub fn children(&self) -> Vec<(IpAddr, u64)> {
        self.shared.children.lock().iter().map(|(address, bytes)| (*address, *bytes)).collect()
    }
}

// === impl Book ===

impl Book {
    /// It was sent a request.
    pub fn asked(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// It sent so many bytes of a content.
    pub fn sent(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A client was answered without it.
    pub fn saved_request(&self) {
        self.saved_requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A client got so many bytes that it did not send for that.
    pub fn saved_bytes(&self, bytes: u64) {
        self.saved_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A client came with this credential, of which only what stands for it is known here.
    pub fn seen(&self, credential: &str) {
        // The text is an HMAC in hex: its first half tells logins apart as well as all of it.
        let short = credential.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let mut logins = self.logins.lock();
        if logins.len() < MOST_LOGINS {
            logins.insert(short.unwrap_or_default());
        }
    }

    fn count(&self, name: &str) -> RegistryCount {
        RegistryCount {
            name: name.to_owned(),
            requests: self.requests.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            saved_requests: self.saved_requests.load(Ordering::Relaxed),
            saved_bytes: self.saved_bytes.load(Ordering::Relaxed),
            logins: self.logins.lock().len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_registry_has_its_own_counts_and_too_many_share_one() {
        let ledger = Ledger::default();
        for number in 0..MOST_REGISTRIES + 5 {
            let book = ledger.registry(&format!("r{number:03}:443"));
            book.asked();
            book.sent(10);
            book.saved_request();
            book.saved_bytes(5);
        }
        ledger.registry("r000:443").asked();
        let all = ledger.registries();
        assert_eq!(all.len(), MOST_REGISTRIES + 1);
        let of = |name: &str| all.iter().find(|count| count.name == name).expect("it is there");
        assert_eq!((of("r000:443").requests, of("r000:443").bytes), (2, 10));
        assert_eq!((of(OTHERS).requests, of(OTHERS).saved_requests, of(OTHERS).saved_bytes), (5, 5, 25));
    }

    #[test]
    fn a_login_counts_once() {
        let book = Book::default();
        for credential in ["00000000000000aa11", "00000000000000aa11", "00000000000000bb11", "short"] {
            book.seen(credential);
        }
        assert_eq!(book.count("r").logins, 3);
    }

    #[test]
    fn nodes_are_counted_apart_and_bounded() {
        let ledger = Ledger::default();
        let host: Arc<str> = "10.0.0.1-n1".into();
        ledger.from_parent(&host, 3);
        ledger.from_parent(&host, 4);
        for number in 0..2 * MOST_NODES as u32 {
            ledger.from_parent(&number.to_string().into(), 1);
            ledger.to_child(IpAddr::from(number.to_be_bytes()), 2);
        }
        let parents = ledger.parents();
        assert_eq!(parents.len(), MOST_NODES + 1);
        assert!(parents.contains(&(host, 7)) && parents.contains(&(OTHERS.into(), MOST_NODES as u64 + 1)));
        assert_eq!(ledger.children().len(), MOST_NODES);
    }
}
