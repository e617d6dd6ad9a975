//! The members, any of which may be a task's scheduler, and which of them answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dfget_cluster::Members;
use dfget_proto::Ring;
use dfget_proto::messages::dfget::v1::StatusReply;
use parking_lot::Mutex;

use super::line::Line;

/// Who belongs to the cluster, as of one moment.
#[tonic::async_trait]
pub trait Roll: Send + Sync + 'static {
    /// The members' names on their ring.
    fn ring(&self) -> &Ring;

    /// The name of this node, if it is a member.
    fn me(&self) -> Option<&str>;

    /// Where the gRPC port of a member is; or why that is not known.
    async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, String>;
}

/// How a member is, as this node sees it.
#[derive(Clone, Debug)]
pub struct MemberState {
    /// `name:port`.
    pub name: String,
    /// It is this node.
    pub own: bool,
    /// What it answers, or why it does not.
    pub reply: Result<StatusReply, String>,
}

/// One member, and the connection to it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Locked while it is dialled.
    pub(crate) line: tokio::sync::Mutex<Option<Arc<Line>>>,
    /// While it is not asked: why, and for how long.
    down: Mutex<Option<Down>>,
}

#[derive(Clone, Debug)]
struct Down {
    wait: Duration,
    why: String,
}

// === impl Roll for Members ===

#[tonic::async_trait]
impl Roll for Members {
    fn ring(&self) -> &Ring {
        self.ring()
    }

    fn me(&self) -> Option<&str> {
        self.me()
    }

    async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, String> {
        self.resolve(name).await
    }
}

// === impl Member ===

impl Member {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), line: tokio::sync::Mutex::default(), down: Mutex::default() }
    }

    /// Whether it may be asked.
    pub(crate) fn is_up(&self) -> bool {
        self.down.lock().is_none()
    }

    /// Why it is not asked.
    pub(crate) fn why_down(&self) -> Option<String> {
        self.down.lock().as_ref().map(|down| down.why.clone())
    }

    /// It is not asked for now; `true` if it was until now, so that a probe is to be begun.
    pub(crate) fn put_down(&self, why: String, wait: Duration) -> bool {
        let mut down = self.down.lock();
        let fresh = down.is_none();
        if fresh {
            *down = Some(Down { wait, why });
        }
        fresh
    }

    /// How long to wait before the next probe.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.down.lock().as_ref().map(|down| down.wait)
    }

    /// A probe has failed.
    pub(crate) fn still_down(&self, why: String, longest: Duration) {
        if let Some(down) = self.down.lock().as_mut() {
            down.wait = (down.wait * 2).min(longest);
            down.why = why;
        }
    }

    /// It answers.
    pub(crate) fn put_up(&self) {
        *self.down.lock() = None;
    }
}
