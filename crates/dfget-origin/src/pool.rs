//! Idle connections, kept for the next request to the same authority.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dfget_core::{Authority, Scheme};
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;

use crate::upstream::Via;
use crate::{AddressClass, Body, PerScheme, Timeouts};

/// Idle connections kept for one authority.
const MOST_IDLE: usize = 32;

/// A connection that takes requests, one at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Sends requests down the connection.
    pub(crate) sender: SendRequest<Body>,
    /// The origin's address, where it was not left to a proxy to find it.
    pub(crate) address: Option<IpAddr>,
    /// The proxy that requests are given to as they are.
    pub(crate) upstream: Option<Via>,
    /// Whether a request has gone over it before.
    pub(crate) used: bool,
    /// Whether the origin's certificate was left unverified.
    pub(crate) insecure: bool,
    /// How often the pool had been cleared when it was begun.
    generation: u64,
    since: Instant,
}

/// All idle connections.
///
/// A connection is put back as soon as its answer's head is there; it is taken again only once
/// the answer's body has been read (that is when its sender becomes ready).
#[derive(Debug)]
pub(crate) struct Pool {
    keep: PerScheme<Timeouts>,
    idle: Mutex<HashMap<Authority, Vec<Connection>>>,
    generation: AtomicU64,
}

// === impl Connection ===

impl Connection {
    pub(crate) fn new(
        sender: SendRequest<Body>,
        address: Option<IpAddr>,
        insecure: bool,
        generation: u64,
    ) -> Self {
        Self { sender, address, upstream: None, used: false, insecure, generation, since: Instant::now() }
    }

    /// The class of the origin's address; what a proxy resolves counts as the network's.
    pub(crate) fn class(&self) -> AddressClass {
        self.address.map_or(AddressClass::Network, AddressClass::of)
    }
}

// === impl Pool ===

impl Pool {
    pub(crate) fn new(keep: PerScheme<Timeouts>) -> Self {
        Self { keep, idle: Mutex::default(), generation: AtomicU64::default() }
    }

    /// Takes an idle connection to an address that is permitted, the most recently used one first.
    pub(crate) fn take(
        &self,
        authority: &Authority,
        permitted: impl Fn(IpAddr) -> bool,
    ) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let connections = idle.get_mut(authority)?;
        let limit = self.keep.of(authority.scheme).idle;
        connections.retain(|connection| alive(connection, limit));
        let fits = |connection: &Connection| {
            connection.sender.is_ready() && connection.address.is_none_or(&permitted)
        };
        let place = connections.iter().rposition(fits);
        let taken = place.map(|place| connections.remove(place));
        if connections.is_empty() {
            idle.remove(authority);
        }
        taken
    }

    /// Goes into every connection that is begun now.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Keeps a connection for later, unless all were to be closed since it was begun.
    pub(crate) fn put(&self, authority: &Authority, mut connection: Connection) {
        connection.since = Instant::now();
        let mut idle = self.idle.lock();
        if connection.generation != self.generation() {
            return;
        }
        if !idle.contains_key(authority) {
            // A new authority is the moment to forget the connections of those no longer asked.
            idle.retain(|authority, connections| {
                let limit = self.keep.of(authority.scheme).idle;
                connections.retain(|connection| alive(connection, limit));
                !connections.is_empty()
            });
        }
        if let Some(most) = self.keep.of(authority.scheme).most_idle {
            make_room(&mut idle, authority.scheme, most);
        }
        let connections = idle.entry(authority.clone()).or_default();
        if connections.len() < MOST_IDLE {
            connections.push(connection);
        }
    }

    /// Whether an idle connection to the authority stands.
    pub(crate) fn has(&self, authority: &Authority) -> bool {
        let idle = self.idle.lock();
        let limit = self.keep.of(authority.scheme).idle;
        idle.get(authority)
            .is_some_and(|all| all.iter().any(|one| alive(one, limit) && one.sender.is_ready()))
    }

    /// Closes every idle connection, and those in use when they have become idle.
    pub(crate) fn clear(&self) {
        let mut idle = self.idle.lock();
        self.generation.fetch_add(1, Ordering::AcqRel);
        idle.clear();
    }
}

/// Closes the connections of a scheme that have been idle for longest, until there is room for one more.
fn make_room(idle: &mut HashMap<Authority, Vec<Connection>>, scheme: Scheme, most: usize) {
    let count = |idle: &HashMap<Authority, Vec<Connection>>| {
        idle.iter().filter(|(other, _)| other.scheme == scheme).map(|(_, all)| all.len()).sum::<usize>()
    };
    while count(idle) >= most {
        let same = idle.iter().filter(|(other, _)| other.scheme == scheme);
        let ages = same.filter_map(|(other, all)| Some((all.first()?.since, other)));
        let Some(oldest) = ages.min_by_key(|(since, _)| *since).map(|(_, other)| other.clone()) else {
            return;
        };
        if let Some(connections) = idle.get_mut(&oldest) {
            connections.remove(0);
            if connections.is_empty() {
                idle.remove(&oldest);
            }
        }
    }
}

fn alive(connection: &Connection, limit: Duration) -> bool {
    // A connection whose answer is still being read is not idle, however long that takes.
    !connection.sender.is_closed() && (!connection.sender.is_ready() || connection.since.elapsed() < limit)
}
