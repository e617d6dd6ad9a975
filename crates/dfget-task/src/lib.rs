//! One download for many readers.
//!
//! A task is one content being fetched: its writers append what the origin sends to the store,
//! and every response, one or a thousand, is a reader that follows what has been written. No
//! client is waited for and none holds a copy in memory. What must be fetched next is decided in
//! pure code (`plan`), and so is what a response may already release (`gate`).
//!
//! States: leading (one client's request is at the origin, others for the same content wait for
//! its answer) → running → verified and published, or failed, or retired (nobody wants more; what
//! is there stays on disk and is continued later).
//!
//! It answers to nobody's permission: whoever calls it has made sure that the client may have
//! the content. If the store fails, readers go on with their own stream from the origin.

mod content;
mod direct;
mod error;
mod gate;
mod lately;
mod lead;
mod map;
mod meta;
mod ordered;
mod plan;
mod prefix;
mod proof;
mod reader;
mod recent;
mod request;
mod spans;
mod split;
mod swarm;
mod tagged;
mod task;
mod tasks;
mod view;
mod worker;

pub use content::Stored;
pub use direct::Direct;
pub use error::{ContentError, Mismatch};
pub use lately::{EndedView, TaskProgress};
pub use lead::{Begun, Joined, Lead};
pub use meta::TaskMeta;
pub use ordered::{OfferError, TakeError, TakeOrder};
pub use reader::{Part, Reader};
pub use request::{TaskRequest, entry_names};
pub use split::SplitOptions;
pub use swarm::{
    Boxed, Heard, Held, Holding, Join, Membership, Network, Offer, Orders, PieceHashes, Told, WantedPiece,
};
pub use tagged::Tagged;
pub use task::{OnEnd, Seat, Task};
pub use tasks::{Found, TaskOptions, Tasks};
pub use view::TaskView;
