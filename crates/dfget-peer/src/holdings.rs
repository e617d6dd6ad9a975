//! What this node has for others: asked of whoever keeps it.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use dfget_proto::messages::common::v2::Network;
use dfget_storage::Entry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asker {
    /// It has shown the cluster's key.
    pub keyed: bool,
    /// From where it comes.
    pub address: SocketAddr,
}

/// A content that is here, whole or in part.
#[derive(Clone, Debug)]
pub struct Holding {
    /// Its bytes. Its length may become known later.
    pub entry: Arc<Entry>,
    /// Changes when a piece may have become whole, and when the length becomes known; `None` for a complete
    /// content. To tell it for every write costs more than it brings.
    pub progress: Option<watch::Receiver<()>>,
    /// Cancelled when the download is over, well (the entry is complete then) or badly.
    pub ended: CancellationToken,
    /// Bytes of others turned out to be wrong, and the download has begun anew without them.
    pub round: u32,
}

/// What there is to hand out, and what becomes of it.
pub trait Holdings: Send + Sync + 'static {
    /// The content of that task, if it is here and this asker may have it. Must not wait.
    fn find(&self, task: &str, asker: &Asker) -> Option<Holding>;

    /// A block that was to be sent changed on disk since it was written. It was not sent.
    fn rotten(&self, task: &str, block: Range<u64>) {
        let _ = (task, block);
    }

    /// Bandwidths, for those who ask each second. Must not wait.
    fn network(&self) -> Network {
        Network::default()
    }

    /// Something to count. Called from the threads that send; must not wait.
    fn happened(&self, event: UploadEvent) {
        let _ = event;
    }
}

/// Something to count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum UploadEvent {
    /// Bytes of pieces were given to the system to send.
    Bytes {
        /// How many.
        sent: u64,
        /// To whom.
        to: IpAddr,
    },
    /// A piece was sent whole.
    Piece,
    /// Somebody did not get what they asked for.
    Refused(Refusal),
}

/// Why somebody did not get what they asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// The piece is not here, or not for them.
    NotHere,
    /// It cannot be read.
    Unreadable,
    /// The request made no sense.
    Malformed,
    /// Too many connections, of all or of this address.
    TooMany,
    /// They did not come in at the door.
    Door,
    /// They stopped taking what was sent.
    Stalled,
}
