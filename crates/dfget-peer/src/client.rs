//! The child's side: pieces from parents.
//!
//! A connection carries one piece at a time, and is kept for the next. Who wants several pieces at once fetches
//! them at once; each has a connection then, and none waits for another.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dfget_cluster::Dialer;
use dfget_core::{ByteRange, MAX_PIECE_LENGTH};
use dfget_proto::vortex::{REQUEST_LEN, Request};
use dfget_storage::Pool;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::PeerError;
use crate::link::{Expected, Failed, Link};

/// How long to wait for another node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience {
    /// For a connection, handshake included.
    pub connect: Duration,
    /// For the answer to a request. A parent that sends to many others at once lets wait.
    pub answer: Duration,
    /// In each such stretch of time...
    pub stall: Duration,
    /// ...at least so many bytes of a piece must come.
    pub least: u64,
}

/// Fetches pieces from parents. Clones share the same connections.
#[derive(Clone)]
pub struct PeerClient {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) dialer: Dialer,
    pub(crate) host_id: String,
    buffers: Arc<Pool>,
    idle: Mutex<HashMap<SocketAddr, VecDeque<(Instant, Link)>>>,
    warned: AtomicBool,
}

// === impl Patience ===

impl Default for Patience {
    /// Two seconds to connect, ten for an answer, and at least 64 KiB in five seconds.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            answer: Duration::from_secs(10),
            stall: Duration::from_secs(5),
            least: 64 << 10,
        }
    }
}

// === impl PeerClient ===

impl PeerClient {
    /// A client without connections. `host_id` is who we are, as parents are told.
    #[must_use]
    pub fn new(dialer: Dialer, host_id: String) -> Self {
        let inner = Inner {
            dialer,
            host_id,
            buffers: Arc::default(),
            idle: Mutex::default(),
            warned: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The same client for parents that have no key: it goes to them in clear, by connections of its own.
    #[must_use]
    pub fn in_clear(&self) -> Self {
        Self::new(Dialer { tls: None }, self.inner.host_id.clone())
    }

    /// Fetches piece `number` of a task from the parent whose port of pieces is `pieces`.
    ///
    /// The bytes are in parts of 128 KiB, the last one possibly shorter, together as long as `expected`. They have
    /// the CRC-32 that the parent named, if it named one: this finds accidents, and proves nothing.
    ///
    /// # Errors
    /// [`PeerError`], [`ErrorKind::Wrong`](crate::ErrorKind::Wrong) if number, place, length or CRC are others.
    ///
    /// # Cancel safety
    /// Dropped, it closes its connection.
    pub async fn fetch(
        &self,
        pieces: SocketAddr,
        task: &str,
        number: u32,
        expected: ByteRange,
        patience: &Patience,
    ) -> Result<Vec<Bytes>, PeerError> {
        let request = Request { task: task.to_owned(), number }.encode(fastrand::u8(..));
        let request = request.ok_or_else(|| PeerError::missing("no parent knows a task by such an id"))?;
        if expected.is_empty() || expected.len() > MAX_PIECE_LENGTH {
            return Err(PeerError::missing("no piece has such a length"));
        }
        let expected = Expected { number, range: expected };
        if let Some(link) = self.take(pieces) {
            match self.attempt(link, pieces, &request, expected, patience).await {
                // It was closed while it lay idle, which is nobody's fault.
                Err(Failed::Dead(_)) => {}
                Err(Failed::Refused(error) | Failed::Other(error)) => return Err(error),
                Ok(parts) => return Ok(parts),
            }
        }
        let stream = self.inner.dialer.dial_for_bulk(pieces, patience.connect).await;
        let stream = stream.map_err(|error| PeerError::broken(error.to_string()))?;
        let attempt = self.attempt(Link::new(stream), pieces, &request, expected, patience).await;
        attempt.map_err(|failed| match failed {
            Failed::Dead(error) | Failed::Refused(error) | Failed::Other(error) => error,
        })
    }

    async fn attempt(
        &self,
        mut link: Link,
        pieces: SocketAddr,
        request: &[u8; REQUEST_LEN],
        expected: Expected,
        patience: &Patience,
    ) -> Result<Vec<Bytes>, Failed> {
        let fetched = link.fetch(request, expected, *patience, &self.inner.buffers).await;
        if let Ok(fetched) = &fetched
            && !fetched.checked
            && !self.inner.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(parent = %pieces, "a parent names no CRC for its pieces; only the digest of the whole is compared");
        }
        if matches!(fetched, Ok(_) | Err(Failed::Refused(_))) {
            self.keep(pieces, link);
        }
        fetched.map(|fetched| fetched.parts)
    }

    /// An idle connection to that parent that is open still, the one used last.
    fn take(&self, pieces: SocketAddr) -> Option<Link> {
        loop {
            let (since, mut link) = {
                let mut idle = self.inner.idle.lock();
                let links = idle.get_mut(&pieces)?;
                let last = links.pop_back();
                if links.is_empty() {
                    idle.remove(&pieces);
                }
                last?
            };
            if since.elapsed() < IDLE && link.is_quiet() {
                return Some(link);
            }
        }
    }

    /// Keeps a connection for the next piece, and lets go of those that nobody has used for long.
    fn keep(&self, pieces: SocketAddr, link: Link) {
        let now = Instant::now();
        let mut idle = self.inner.idle.lock();
        let links = idle.entry(pieces).or_default();
        links.push_back((now, link));
        if links.len() > IDLE_OF_ONE {
            links.pop_front();
        }
        idle.retain(|_, links| {
            links.retain(|(since, _)| now.duration_since(*since) < IDLE);
            !links.is_empty()
        });
    }
}

impl fmt::Debug for PeerClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerClient").field("host_id", &self.inner.host_id).finish_non_exhaustive()
    }
}

/// How long an idle connection is kept: less than a parent keeps it.
const IDLE: Duration = Duration::from_secs(25);
/// Idle connections to one parent.
const IDLE_OF_ONE: usize = 8;
