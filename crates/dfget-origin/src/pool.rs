//! Idle connections, kept for the next request to the same authority.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dfget_core::Authority;
use http::HeaderValue;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;

use crate::{AddressClass, Body};

/// An idle connection older than this is not used again: most servers close theirs after a
/// minute or more.
const IDLE_LIMIT: Duration = Duration::from_secs(50);

/// Idle connections kept for one authority.
const MOST_IDLE: usize = 32;

/// A connection that takes requests, one at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Sends requests down the connection.
    pub(crate) sender: SendRequest<Body>,
    /// The class of the origin's address.
    pub(crate) class: AddressClass,
    /// The proxy that requests are given to as they are; its login.
    pub(crate) upstream: Option<Option<HeaderValue>>,
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
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<Authority, Vec<Connection>>>,
    generation: AtomicU64,
}

// === impl Connection ===

impl Connection {
    pub(crate) fn new(
        sender: SendRequest<Body>,
        class: AddressClass,
        insecure: bool,
        generation: u64,
    ) -> Self {
        Self { sender, class, upstream: None, used: false, insecure, generation, since: Instant::now() }
    }
}

// === impl Pool ===

impl Pool {
    /// Takes an idle connection to an address that `registry`'s redirects may lead to
    /// (see [`crate::connect::reach`]), the most recently used one first.
    pub(crate) fn take(&self, authority: &Authority, registry: Option<AddressClass>) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let connections = idle.get_mut(authority)?;
        connections.retain(alive);
        let fits = |connection: &Connection| {
            connection.sender.is_ready()
                && registry.is_none_or(|registry| connection.class.may_follow(registry))
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
            idle.retain(|_, connections| {
                connections.retain(alive);
                !connections.is_empty()
            });
        }
        let connections = idle.entry(authority.clone()).or_default();
        if connections.len() < MOST_IDLE {
            connections.push(connection);
        }
    }

    /// Whether an idle connection to the authority stands.
    pub(crate) fn has(&self, authority: &Authority) -> bool {
        let idle = self.idle.lock();
        idle.get(authority).is_some_and(|all| all.iter().any(|one| alive(one) && one.sender.is_ready()))
    }

    /// Closes every idle connection, and those in use when they have become idle.
    pub(crate) fn clear(&self) {
        let mut idle = self.idle.lock();
        self.generation.fetch_add(1, Ordering::AcqRel);
        idle.clear();
    }
}

fn alive(connection: &Connection) -> bool {
    // A connection whose answer is still being read is not idle, however long that takes.
    !connection.sender.is_closed()
        && (!connection.sender.is_ready() || connection.since.elapsed() < IDLE_LIMIT)
}
