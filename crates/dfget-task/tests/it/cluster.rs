//! A cluster that a test plays.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dfget_core::{TaskId, piece_count, piece_range, unit_length};
use dfget_swarm::{Failure, HostInfo, Parent, Pieces};
use dfget_task::{
    Boxed, Heard, Held, Join, Membership, Network, Offer, Orders, PieceHashes, Told, WantedPiece,
};
use dfget_testkit::Blob;
use tokio::sync::{mpsc, watch};

/// What a peer does with a request for one of its pieces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    Right,
    /// It sends other bytes of the same length, and says that they are the piece.
    WrongBytes,
    /// It sends the piece before, or after.
    AnotherPiece,
    Missing,
    Broken,
    /// What it sends is seen to be wrong at once.
    SeenWrong,
    Silent,
    /// As [`Self::Right`], once the gate of the cluster is open.
    AfterGate,
}

/// What a peer says of the hashes of its pieces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Hashes {
    None,
    Right,
    /// Those of piece 0 and of the pieces that are wrong are exchanged for others.
    BlamesPieceZero,
    /// It takes the wrong bytes for right ones.
    CoversUp,
    Silent,
}

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) way: Way,
    /// What it does with single pieces, if that differs.
    pub(crate) odd: HashMap<u32, Way>,
    pub(crate) complete: bool,
    pub(crate) offers: Option<Vec<u32>>,
    pub(crate) total: u64,
    pub(crate) hashes: Hashes,
    /// It has begun anew so often.
    pub(crate) attempt: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) told: Vec<Told>,
    pub(crate) joins: Vec<Join>,
    pub(crate) finished: usize,
    pub(crate) failed: usize,
    pub(crate) banned: HashSet<Arc<str>>,
    pub(crate) held: Vec<Held>,
    /// Hosts that passed on wrong bytes.
    pub(crate) passed: Vec<String>,
    /// Pieces that were asked for, of whom.
    pub(crate) asked: Vec<(String, u32)>,
    pub(crate) listened: Vec<String>,
}

pub(crate) type Line = mpsc::Sender<Orders>;

/// Shared with the memberships that it gave.
pub(crate) struct Cluster {
    pub(crate) blob: Blob,
    peers: Mutex<HashMap<String, Peer>>,
    joins: Mutex<VecDeque<Option<mpsc::Receiver<Orders>>>>,
    seen: Arc<Mutex<Seen>>,
    pub(crate) gate: watch::Sender<bool>,
}

struct Place {
    orders: mpsc::Receiver<Orders>,
    seen: Arc<Mutex<Seen>>,
}

struct Words(VecDeque<Offer>);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn address(name: &str) -> SocketAddr {
    let last = name.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), 65_002)
}

/// A peer that does everything right.
pub(crate) fn good(blob: &Blob) -> Peer {
    Peer {
        way: Way::Right,
        odd: HashMap::new(),
        complete: true,
        offers: None,
        total: blob.len() as u64,
        hashes: Hashes::Right,
        attempt: 0,
    }
}

// === impl Cluster ===

impl Cluster {
    pub(crate) fn new(blob: Blob) -> Arc<Self> {
        Arc::new(Self {
            blob,
            peers: Mutex::default(),
            joins: Mutex::default(),
            seen: Arc::default(),
            gate: watch::Sender::new(false),
        })
    }

    pub(crate) fn total(&self) -> u64 {
        self.blob.len() as u64
    }

    pub(crate) fn count(&self) -> u32 {
        u32::try_from(piece_count(self.total(), unit_length(self.total()))).unwrap()
    }

    pub(crate) fn put(&self, name: &str, peer: Peer) {
        lock(&self.peers).insert(name.to_owned(), peer);
    }

    /// Two peers that together have everything: `one` has a single piece, `others` the rest.
    pub(crate) fn put_two(&self, piece: u32, of_one: Way, of_others: Way) {
        let all = good(&self.blob);
        let rest = (0..self.count()).filter(|number| *number != piece).collect();
        self.put("one", Peer { way: of_one, offers: Some(vec![piece]), ..all.clone() });
        self.put("others", Peer { way: of_others, offers: Some(rest), ..all });
    }

    /// The scheduler that answers the next join; it says nothing until told.
    pub(crate) fn scheduler(&self) -> Line {
        let (line, orders) = mpsc::channel(16);
        lock(&self.joins).push_back(Some(orders));
        line
    }

    /// Orders that name these peers.
    pub(crate) fn orders(&self, parents: &[&str], origin: &[std::ops::Range<u32>]) -> Orders {
        let peers = lock(&self.peers);
        let parent = |name: &&str| {
            let place = address(name);
            let host = HostInfo {
                id: Arc::from(*name),
                hostname: (*name).to_owned(),
                ip: place.ip(),
                port: 65_000,
                idc: String::new(),
                location: String::new(),
                uplink: 0,
                keyed: true,
                disable_shared: false,
            };
            let peer = format!("{name}-{}", peers[*name].attempt);
            Parent { peer: peer.into(), host: Arc::new(host), complete: peers[*name].complete }
        };
        Orders {
            parents: parents.iter().map(parent).collect(),
            origin: origin.to_vec(),
            total: Some(self.total()),
        }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    pub(crate) fn is_banned_now(&self, name: &str) -> bool {
        self.seen().banned.contains(name)
    }

    /// Whether the scheduler was told that a host sent wrong bytes.
    pub(crate) fn was_told_of(&self, name: &str) -> bool {
        self.seen().told.iter().any(|told| told.wrong_hosts.iter().any(|host| &**host == name))
    }

    pub(crate) fn asked_of(&self, name: &str) -> usize {
        self.seen().asked.iter().filter(|(host, _)| host == name).count()
    }

    fn peer_at(&self, place: SocketAddr) -> (String, Peer) {
        let peers = lock(&self.peers);
        let (name, peer) = peers.iter().find(|(name, _)| address(name) == place).unwrap();
        (name.clone(), peer.clone())
    }

    fn piece(&self, number: u32) -> Vec<u8> {
        let total = self.total();
        let range = piece_range(u64::from(number), total, unit_length(total)).unwrap();
        let at = |at: u64| usize::try_from(at).unwrap();
        self.blob.bytes[at(range.start)..at(range.end)].to_vec()
    }

    fn hashes_of(&self, peer: &Peer) -> PieceHashes {
        let hash = |number: u32, wrong: bool| {
            let mut bytes = self.piece(number);
            if wrong {
                bytes[0] ^= 1;
            }
            let mut hasher = dfget_core::Hasher::sha256();
            hasher.update(&bytes);
            <[u8; 32]>::try_from(hasher.finish().bytes()).unwrap()
        };
        let wrong = |number: u32| match peer.hashes {
            // The piece that is right is called wrong, the others are told as they are.
            Hashes::BlamesPieceZero => number == 0,
            // What the hostile sends is what it says is right.
            Hashes::CoversUp => {
                let peers = lock(&self.peers);
                number == 0
                    || peers.values().any(|peer| {
                        peer.way == Way::WrongBytes || peer.odd.get(&number) == Some(&Way::WrongBytes)
                    })
            }
            _ => false,
        };
        let sha256 = (0..self.count()).map(|number| hash(number, wrong(number))).collect();
        PieceHashes { total: peer.total, sha256 }
    }
}

impl Network for Face {
    fn join(&self, join: Join) -> Boxed<'static, Option<Box<dyn Membership>>> {
        let seen = Arc::clone(&self.0.seen);
        lock(&seen).joins.push(join);
        let orders = lock(&self.0.joins).pop_front().flatten();
        Box::pin(async move { orders.map(|orders| Box::new(Place { orders, seen }) as Box<dyn Membership>) })
    }

    fn listen(
        &self,
        parent: Arc<HostInfo>,
        _: TaskId,
        _: u32,
    ) -> Boxed<'static, Result<Box<dyn Heard>, Failure>> {
        let name = parent.id.to_string();
        self.0.seen().listened.push(name.clone());
        let peer = lock(&self.0.peers).get(&name).cloned();
        let from = address(&name);
        let count = u32::try_from(piece_count(
            peer.as_ref().map_or(0, |peer| peer.total),
            unit_length(peer.as_ref().map_or(0, |peer| peer.total)),
        ))
        .unwrap();
        Box::pin(async move {
            let Some(peer) = peer else { return Err(Failure::Broken) };
            let mut have = Pieces::none(count);
            for piece in peer.offers.unwrap_or_else(|| (0..count).collect()) {
                have.insert(piece);
            }
            let all = Offer::All { have: have.to_bytes(), total: peer.total, from, round: peer.attempt };
            Ok(Box::new(Words(VecDeque::from([all]))) as Box<dyn Heard>)
        })
    }

    fn fetch(&self, from: SocketAddr, piece: WantedPiece) -> Boxed<'static, Result<Vec<Bytes>, Failure>> {
        let (name, peer) = self.0.peer_at(from);
        self.0.seen().asked.push((name, piece.number));
        let way = peer.odd.get(&piece.number).copied().unwrap_or(peer.way);
        let len = usize::try_from(piece.range.len()).unwrap();
        let cluster = Arc::clone(&self.0);
        Box::pin(async move {
            // Nobody is as fast as a call of a function.
            tokio::time::sleep(Duration::from_millis(2)).await;
            let number = piece.number;
            let bytes = match way {
                Way::Right => cluster.piece(number),
                Way::AfterGate => {
                    let mut gate = cluster.gate.subscribe();
                    let _ = gate.wait_for(|open| *open).await;
                    cluster.piece(number)
                }
                Way::WrongBytes => {
                    let mut bytes = cluster.piece(number);
                    bytes[0] ^= 1;
                    bytes
                }
                Way::AnotherPiece => {
                    let mut bytes = cluster.piece(if number == 0 { 1 } else { number - 1 });
                    bytes.resize(len, 0);
                    bytes
                }
                Way::Missing => return Err(Failure::Missing),
                Way::Broken => return Err(Failure::Broken),
                Way::SeenWrong => return Err(Failure::Wrong),
                Way::Silent => std::future::pending().await,
            };
            let bytes = Bytes::from(bytes);
            Ok(bytes.chunks(128 << 10).map(|part| bytes.slice_ref(part)).collect())
        })
    }

    fn hashes(&self, parent: Arc<HostInfo>, _: TaskId) -> Boxed<'static, Option<PieceHashes>> {
        let peer = lock(&self.0.peers).get(&*parent.id).cloned();
        let cluster = Arc::clone(&self.0);
        Box::pin(async move {
            let peer = peer?;
            match peer.hashes {
                Hashes::None => None,
                Hashes::Silent => std::future::pending().await,
                _ => Some(cluster.hashes_of(&peer)),
            }
        })
    }

    fn is_banned(&self, host: &str) -> bool {
        self.0.seen().banned.contains(host)
    }

    fn ban(&self, host: &str) {
        self.0.seen().banned.insert(Arc::from(host));
    }

    fn passed_on(&self, host: &str, _: &TaskId) -> bool {
        self.0.seen().passed.push(host.to_owned());
        false
    }

    fn hold(&self, held: Held) {
        self.0.seen().held.push(held);
    }

    fn peer_id(&self) -> String {
        "127.0.0.1-here-1".to_owned()
    }
}

/// The face of the cluster that tasks see.
pub(crate) struct Face(pub(crate) Arc<Cluster>);

impl Membership for Place {
    fn next(&mut self) -> Boxed<'_, Option<Orders>> {
        Box::pin(self.orders.recv())
    }

    fn tell(&self, state: Told) {
        lock(&self.seen).told.push(state);
    }

    fn finish(self: Box<Self>) {
        lock(&self.seen).finished += 1;
    }

    fn fail(self: Box<Self>, _: &str) {
        lock(&self.seen).failed += 1;
    }
}

impl Heard for Words {
    fn next(&mut self) -> Boxed<'_, Option<Result<Offer, Failure>>> {
        Box::pin(async move {
            match self.0.pop_front() {
                Some(offer) => Some(Ok(offer)),
                // It lives, and has nothing more to say.
                None => std::future::pending().await,
            }
        })
    }
}
