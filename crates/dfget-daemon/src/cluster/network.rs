//! The cluster as downloads see it: the clients of schedulers and peers behind one face.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dfget_config::SharePrivate;
use dfget_core::TaskId;
use dfget_peer::{ErrorKind, Patience, PeerClient, PeerError, SyncItem, SyncStream};
use dfget_proto::vortex::UNIT;
use dfget_scheduler::{Progress, Schedulers};
use dfget_swarm::{Failure, HostInfo};
use dfget_task::{
    Boxed, Heard, Held, Join, Membership, Network, Offer, Orders, PieceHashes, Told, WantedPiece,
};
use parking_lot::Mutex;
use tracing::debug;

use super::host::OwnHost;

/// For how long a host that sent wrong bytes is not asked: somebody may mend it meanwhile.
const BAN: Duration = Duration::from_hours(1);

/// Of so many contents in that time a host has passed on wrong bytes until it is taken for a liar: who is fed by
/// one passes on what it gets until it finds out, and leaves it then.
const MOST_PASSED: usize = 3;

/// The schedulers and peers of this node's cluster.
pub(super) struct Swarms {
    schedulers: Schedulers,
    peers: PeerClient,
    /// Goes to peers without the cluster's key, if they may take part (`cluster.allowPlaintextPeers`).
    strangers: Option<PeerClient>,
    host: OwnHost,
    share: SharePrivate,
    banned: Mutex<HashMap<Arc<str>, Instant>>,
    /// Tasks of which a host passed on wrong bytes.
    passed: Mutex<HashMap<Arc<str>, Passed>>,
}

/// Tasks, and since when each.
type Passed = Vec<(TaskId, Instant)>;

/// A place at a scheduler.
struct Place(dfget_scheduler::Membership);

/// What a parent tells.
struct Listener {
    items: SyncStream,
    /// Its pieces are there and nowhere else: a stranger must not send us about.
    only_at: Option<IpAddr>,
}

// === impl Swarms ===

impl Swarms {
    pub(super) fn new(schedulers: Schedulers, peers: PeerClient, host: OwnHost, share: SharePrivate) -> Self {
        let (banned, passed) = (Mutex::default(), Mutex::default());
        Self { schedulers, peers, strangers: None, host, share, banned, passed }
    }

    /// Lets peers without the cluster's key be parents, too.
    pub(super) fn with_strangers(mut self) -> Self {
        self.strangers = Some(self.peers.in_clear());
        self
    }

    /// The way to a parent; `None` if it has no key and may not take part.
    fn peers(&self, keyed: bool) -> Option<PeerClient> {
        if keyed { Some(self.peers.clone()) } else { self.strangers.clone() }
    }

    /// A content has left this node.
    pub(super) fn drop_task(&self, task: &str) {
        self.schedulers.drop_task(task);
    }
}

impl Network for Swarms {
    fn join(&self, join: Join) -> Boxed<'static, Option<Box<dyn Membership>>> {
        let schedulers = self.schedulers.clone();
        let alone = join.private && self.share == SharePrivate::Never;
        Box::pin(async move {
            if alone {
                return None;
            }
            let join = dfget_scheduler::Join {
                task: join.task.as_str().to_owned(),
                peer: join.peer,
                url: join.url,
                total: join.total,
                have: join.have,
                private: join.private,
                wants_proof: join.wants_proof,
            };
            match schedulers.join(&join).await {
                Ok(membership) => Some(Box::new(Place(membership)) as Box<dyn Membership>),
                Err(none) => {
                    debug!(task = %join.task, "no scheduler: {none}");
                    None
                }
            }
        })
    }

    fn listen(
        &self,
        parent: Arc<HostInfo>,
        task: TaskId,
        count: u32,
    ) -> Boxed<'static, Result<Box<dyn Heard>, Failure>> {
        let peers = self.peers(parent.keyed);
        Box::pin(async move {
            let Some(peers) = peers else {
                debug!(%task, "{}: it has no key of this cluster, and is not asked", parent.id);
                return Err(Failure::Broken);
            };
            let grpc = SocketAddr::new(parent.ip, parent.port);
            let stream = peers.sync(grpc, task.as_str(), count, &Patience::default()).await;
            let only_at = (!parent.keyed).then_some(parent.ip);
            match stream {
                Ok(items) => Ok(Box::new(Listener { items, only_at }) as Box<dyn Heard>),
                Err(error) => {
                    debug!(%task, "{}: {error}", parent.id);
                    Err(failure(&error))
                }
            }
        })
    }

    fn fetch(&self, from: SocketAddr, piece: WantedPiece) -> Boxed<'static, Result<Vec<Bytes>, Failure>> {
        let peers = self.peers(piece.keyed);
        Box::pin(async move {
            let WantedPiece { task, number, stock, range, .. } = piece;
            let peers = peers.ok_or(Failure::Broken)?;
            let number = if stock { number } else { number | UNIT };
            let fetched = peers.fetch(from, task.as_str(), number, range, &Patience::default()).await;
            fetched.map_err(|error| {
                debug!(%task, "piece {number} from {from}: {error}");
                failure(&error)
            })
        })
    }

    fn hashes(&self, parent: Arc<HostInfo>, task: TaskId) -> Boxed<'static, Option<PieceHashes>> {
        let peers = self.peers(parent.keyed);
        Box::pin(async move {
            let peers = peers?;
            let grpc = SocketAddr::new(parent.ip, parent.port);
            match peers.piece_hashes(grpc, task.as_str(), &Patience::default()).await {
                Ok((total, sha256)) => Some(PieceHashes { total, sha256 }),
                Err(error) => {
                    debug!(%task, "{}: {error}", parent.id);
                    None
                }
            }
        })
    }

    fn is_banned(&self, host: &str) -> bool {
        self.banned.lock().get(host).is_some_and(|since| since.elapsed() < BAN)
    }

    fn ban(&self, host: &str) {
        let mut banned = self.banned.lock();
        banned.retain(|_, since| since.elapsed() < BAN);
        banned.insert(host.into(), Instant::now());
    }

    fn passed_on(&self, host: &str, task: &TaskId) -> bool {
        let mut passed = self.passed.lock();
        passed.retain(|_, tasks| {
            tasks.retain(|(_, since)| since.elapsed() < BAN);
            !tasks.is_empty()
        });
        let tasks = passed.entry(host.into()).or_default();
        if !tasks.iter().any(|(other, _)| other == task) {
            tasks.push((task.clone(), Instant::now()));
        }
        let often = tasks.len() >= MOST_PASSED;
        if often {
            passed.remove(host);
        }
        often
    }

    fn hold(&self, held: Held) {
        if !(held.private && self.share == SharePrivate::Never) {
            self.schedulers.hold(held.task.as_str(), held.total, held.origins, held.private);
        }
    }

    fn peer_id(&self) -> String {
        self.host.peer_id()
    }
}

// === impl Place ===

impl Membership for Place {
    fn next(&mut self) -> Boxed<'_, Option<Orders>> {
        Box::pin(async move {
            let dfget_scheduler::Orders { parents, origin, total, .. } = self.0.next().await?;
            Some(Orders { parents, origin, total })
        })
    }

    fn tell(&self, state: Told) {
        self.0.tell(Progress {
            have: state.have,
            total: state.total,
            whole_only: state.whole_only,
            no_origin: state.no_origin,
            wants_proof: state.wants_proof,
            wrong_hosts: state.wrong_hosts,
            lost_hosts: state.lost_hosts,
        });
    }

    fn finish(self: Box<Self>) {
        self.0.finish();
    }

    fn fail(self: Box<Self>, reason: &str) {
        self.0.fail(reason);
    }
}

// === impl Listener ===

impl Heard for Listener {
    fn next(&mut self) -> Boxed<'_, Option<Result<Offer, Failure>>> {
        Box::pin(async move {
            let item = self.items.next().await?;
            let offer = item.map(offer).map_err(|error| failure(&error));
            let elsewhere = |from: SocketAddr| self.only_at.is_some_and(|ip| from.ip() != ip);
            Some(match offer {
                Ok(Offer::All { from, .. } | Offer::One { from, .. }) if elsewhere(from) => {
                    Err(Failure::Wrong)
                }
                offer => offer,
            })
        })
    }
}

fn offer(item: SyncItem) -> Offer {
    match item {
        SyncItem::All { have, total, pieces, round } => Offer::All { have, total, from: pieces, round },
        SyncItem::One { number, pieces, .. } => Offer::One { number, from: pieces },
    }
}

const fn failure(error: &PeerError) -> Failure {
    match error.kind() {
        ErrorKind::Broken => Failure::Broken,
        ErrorKind::Missing => Failure::Missing,
        ErrorKind::Wrong => Failure::Wrong,
    }
}
