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
use dfget_scheduler::{Dragonfly, DragonflyMembership, Progress, Schedulers};
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

/// Whom downloads ask who has a content.
#[derive(Clone)]
pub(super) enum Asked {
    /// The schedulers of daemons like this one.
    Own(Schedulers),
    /// Those of Dragonfly.
    Dragonfly(Dragonfly),
}

/// The schedulers and peers of this node's cluster.
pub(super) struct Swarms {
    asked: Asked,
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

/// A place at a scheduler of Dragonfly.
struct Guest(DragonflyMembership);

/// What a parent tells.
struct Listener {
    items: SyncStream,
    /// Its pieces are there and nowhere else: a stranger must not send us about.
    only_at: Option<IpAddr>,
}

// === impl Swarms ===

impl Swarms {
    pub(super) fn new(asked: Asked, peers: PeerClient, host: OwnHost, share: SharePrivate) -> Self {
        let (banned, passed) = (Mutex::default(), Mutex::default());
        Self { asked, peers, strangers: None, host, share, banned, passed }
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
        match &self.asked {
            Asked::Own(schedulers) => schedulers.drop_task(task),
            Asked::Dragonfly(schedulers) => schedulers.drop_task(task),
        }
    }

    /// Whether what was fetched with a credential has anybody to go to and come from. Dragonfly's peers show no key.
    const fn shares_private(&self) -> bool {
        match (&self.asked, self.share) {
            (_, SharePrivate::All) => true,
            (_, SharePrivate::Never) | (Asked::Dragonfly(_), SharePrivate::Keyed) => false,
            (Asked::Own(_), SharePrivate::Keyed) => true,
        }
    }
}

impl Network for Swarms {
    fn join(&self, join: Join) -> Boxed<'static, Option<Box<dyn Membership>>> {
        let asked = self.asked.clone();
        let alone = join.private && !self.shares_private();
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
                trace: join.trace,
                wants_proof: join.wants_proof,
            };
            let joined = match asked {
                Asked::Own(schedulers) => schedulers.join(&join).await.map(|place| boxed(Place(place))),
                Asked::Dragonfly(schedulers) => schedulers.join(&join).await.map(|place| boxed(Guest(place))),
            };
            match joined {
                Ok(membership) => Some(membership),
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
        if held.private && !self.shares_private() {
            return;
        }
        match &self.asked {
            Asked::Own(schedulers) => {
                schedulers.hold(held.task.as_str(), held.total, held.origins, held.private);
            }
            Asked::Dragonfly(schedulers) => {
                if let Some(origin) = held.origins.first() {
                    schedulers.hold(held.task.as_str(), held.total, origin);
                }
            }
        }
    }

    fn peer_id(&self) -> String {
        self.host.peer_id()
    }

    fn may_share(&self, private: bool, total: Option<u64>) -> bool {
        let counts = match self.asked {
            Asked::Own(_) => true,
            Asked::Dragonfly(_) => total.is_none_or(Dragonfly::counts),
        };
        counts && (!private || self.shares_private())
    }

    fn needs_length(&self) -> bool {
        matches!(self.asked, Asked::Dragonfly(_))
    }

    fn trusts_strangers(&self) -> bool {
        matches!(self.asked, Asked::Dragonfly(_)) && self.share == SharePrivate::All
    }
}

fn boxed(membership: impl Membership + 'static) -> Box<dyn Membership> {
    Box::new(membership)
}

fn orders(orders: dfget_scheduler::Orders) -> Orders {
    let dfget_scheduler::Orders { parents, origin, total, .. } = orders;
    Orders { parents, origin, total }
}

fn progress(state: Told) -> Progress {
    Progress {
        have: state.have,
        total: state.total,
        whole_only: state.whole_only,
        no_origin: state.no_origin,
        wants_proof: state.wants_proof,
        came: state.came,
        wrong_hosts: state.wrong_hosts,
        lost_hosts: state.lost_hosts,
    }
}

// === impl Place ===

impl Membership for Place {
    fn next(&mut self) -> Boxed<'_, Option<Orders>> {
        Box::pin(async move { self.0.next().await.map(orders) })
    }

    fn tell(&self, state: Told) {
        self.0.tell(progress(state));
    }

    fn finish(self: Box<Self>) {
        self.0.finish();
    }

    fn fail(self: Box<Self>, reason: &str) {
        self.0.fail(reason);
    }
}

// === impl Guest ===

impl Membership for Guest {
    fn next(&mut self) -> Boxed<'_, Option<Orders>> {
        Box::pin(async move { self.0.next().await.map(orders) })
    }

    fn tell(&self, state: Told) {
        self.0.tell(&progress(state));
    }

    fn starved(&self) {
        self.0.starved();
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
