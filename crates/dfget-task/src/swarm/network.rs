//! What a download needs of the cluster, whoever provides it.

use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use dfget_core::{ByteRange, TaskId};
use dfget_storage::Entry;
use dfget_swarm::{Failure, HostInfo, Parent, Pieces};
use dfget_trace::Context;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A future that can be sent and kept.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The cluster as a download sees it. Nothing here is trusted: what comes is checked by the digest
/// of the whole, and whatever fails leads back to the source.
pub trait Network: Send + Sync + 'static {
    /// Registers at the scheduler of the task. `None` if none answers, or there is nobody to share
    /// with; that is told within about a second.
    fn join(&self, join: Join) -> Boxed<'static, Option<Box<dyn Membership>>>;

    /// Begins to listen to what a parent has of a task of `count` pieces; 0 = not known yet.
    fn listen(
        &self,
        parent: Arc<HostInfo>,
        task: TaskId,
        count: u32,
    ) -> Boxed<'static, Result<Box<dyn Heard>, Failure>>;

    /// Fetches one piece; its checksum, number, place and length have been compared.
    fn fetch(&self, from: SocketAddr, piece: WantedPiece) -> Boxed<'static, Result<Vec<Bytes>, Failure>>;

    /// The SHA-256 of each piece, from a parent that has verified the content. `None` if it does not
    /// tell.
    fn hashes(&self, parent: Arc<HostInfo>, task: TaskId) -> Boxed<'static, Option<PieceHashes>>;

    /// Whether the host is not to be asked any more: it sent wrong bytes before.
    fn is_banned(&self, host: &str) -> bool;

    /// Notes that the host sent wrong bytes: it is not asked any more, for whatever task.
    fn ban(&self, host: &str);

    /// Notes that the host, which had not verified the content itself, sent wrong bytes of this task: it may have
    /// had them from others. `true` if that has happened too often.
    fn passed_on(&self, host: &str, task: &TaskId) -> bool;

    /// Tells the cluster that this node has the whole content, verified.
    fn hold(&self, held: Held);

    /// How a peer of a new attempt is called.
    fn peer_id(&self) -> String;

    /// Whether a content is to be shared at all: one that was fetched with a credential or not, of this many
    /// bytes, if that is known.
    fn may_share(&self, _private: bool, _total: Option<u64>) -> bool {
        true
    }

    /// Whether its scheduler has to be told at once how long the content is.
    fn needs_length(&self) -> bool {
        false
    }

    /// Whether what was fetched with a credential is taken of hosts that have not shown the cluster's key.
    fn trusts_strangers(&self) -> bool {
        false
    }
}

/// A download's place in its swarm. Dropped, the scheduler takes the peer for gone.
pub trait Membership: Send {
    /// What to do from now on; each replaces the one before. `None`: the scheduler is gone.
    ///
    /// Safe to drop while waiting.
    fn next(&mut self) -> Boxed<'_, Option<Orders>>;

    /// What this peer has now.
    fn tell(&self, state: Told);

    /// Nothing has come from the parents for a while, and the origin is asked for everything until there are
    /// other orders.
    fn starved(&self) {}

    /// The content is whole and verified here.
    fn finish(self: Box<Self>);

    /// The download has ended without it.
    fn fail(self: Box<Self>, reason: &str);
}

/// What one parent says of itself.
pub trait Heard: Send {
    /// The next of it; `None` when it has told everything it will ever have.
    ///
    /// Safe to drop while waiting.
    fn next(&mut self) -> Boxed<'_, Option<Result<Offer, Failure>>>;
}

/// What is told to the scheduler at first.
#[derive(Clone, Debug)]
pub struct Join {
    /// Id of the task.
    pub task: TaskId,
    /// Id of this attempt.
    pub peer: String,
    /// URL of the content, without its query.
    pub url: String,
    /// Length in bytes, if known.
    pub total: Option<u64>,
    /// What is here of it already.
    pub have: Pieces,
    /// It is fetched with a credential.
    pub private: bool,
    /// The span within which it is asked, if that is recorded.
    pub trace: Option<Context>,
    /// It takes nothing without proof: what peers sent was wrong too often.
    pub wants_proof: bool,
}

/// What a scheduler wants this peer to do.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// Whom to ask.
    pub parents: Vec<Parent>,
    /// The pieces that this peer is to fetch from the origin; the end `u32::MAX` = to the last.
    pub origin: Vec<Range<u32>>,
    /// Length of the content in bytes, if another knows.
    pub total: Option<u64>,
}

/// What a peer says of itself.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Whole pieces here.
    pub have: Pieces,
    /// Length in bytes, once known.
    pub total: Option<u64>,
    /// The origin takes no notice of ranges.
    pub whole_only: bool,
    /// It can fetch nothing from the origin.
    pub no_origin: bool,
    /// Units that came of hosts since the last time.
    pub came: Vec<(Range<u32>, Arc<str>)>,
    /// It takes nothing without proof.
    pub wants_proof: bool,
    /// Hosts that sent wrong bytes.
    pub wrong_hosts: Vec<Arc<str>>,
    /// Hosts that could not be reached, or were too slow.
    pub lost_hosts: Vec<Arc<str>>,
}

/// Pieces that a parent has.
#[derive(Clone, Debug)]
pub enum Offer {
    /// All of these, of a content of so many bytes.
    All {
        /// The units, in the form of the wire.
        have: Vec<u8>,
        /// Length of the content in bytes.
        total: u64,
        /// Where they are to be fetched.
        from: SocketAddr,
        /// So often the parent had wrong bytes from others, and has begun anew without them.
        round: u32,
    },
    /// This piece, too, of a peer that knows no units.
    One {
        /// Its number, of pieces.
        number: u32,
        /// Where it is to be fetched.
        from: SocketAddr,
    },
}

/// One piece to be fetched.
#[derive(Clone, Debug)]
pub struct WantedPiece {
    /// Id of the task.
    pub task: TaskId,
    /// Number of the piece, or unit.
    pub number: u32,
    /// It is a piece, of a peer that knows no units.
    pub stock: bool,
    /// The parent has shown the cluster's key; if not, it is spoken to in clear.
    pub keyed: bool,
    /// The bytes that it must be.
    pub range: ByteRange,
}

/// The hashes of all pieces of a content.
#[derive(Clone, Debug)]
pub struct PieceHashes {
    /// Length of the content in bytes.
    pub total: u64,
    /// SHA-256 of each piece, in order.
    pub sha256: Vec<[u8; 32]>,
}

/// A content that this node has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// Id of the task.
    pub task: TaskId,
    /// Length in bytes.
    pub total: u64,
    /// The authorities that have delivered it, or proved to have it.
    pub origins: Vec<String>,
    /// It was fetched with a credential.
    pub private: bool,
}

/// Bytes of a task that can be handed to peers.
#[derive(Clone, Debug)]
pub struct Holding {
    /// Where they are.
    pub entry: Arc<Entry>,
    /// Changes when there are more; `None` if all are there.
    pub progress: Option<watch::Receiver<()>>,
    /// Cancelled when no more will come.
    pub ended: CancellationToken,
    /// So often bytes of peers turned out to be wrong; these were fetched since, or are known to be right.
    pub round: u32,
}
