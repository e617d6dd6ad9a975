//! How far downloads are, and how those ended that ended lately: for whoever looks once a second.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use dfget_core::{TaskId, public_url};
use parking_lot::Mutex;

use crate::task::{Outcome, Task};
use crate::tasks::Tasks;

/// Downloads that are remembered after their end.
const MOST_ENDED: usize = 32;

/// A download that has ended. Holds no credential and no query of a URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndedView {
    /// The content's name in the cluster.
    pub id: TaskId,
    /// The URL that it was begun with, without query and login.
    pub url: String,
    /// When it ended.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Length in bytes, if it was known.
    pub total: Option<u64>,
    /// Bytes that other nodes have sent.
    pub from_peers: u64,
    /// Why it failed; `None` if the content is whole and right.
    pub failure: Option<String>,
}

/// How far a running download is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TaskProgress {
    /// This download's name in the log, which no other has.
    pub peer: Arc<str>,
    /// Bytes that have come for it, from wherever.
    pub came: u64,
}

/// Those that ended last. The size is bounded.
#[derive(Debug, Default)]
pub(crate) struct EndedLately(Mutex<VecDeque<EndedView>>);

// === impl EndedLately ===

impl EndedLately {
    fn note(&self, ended: EndedView) {
        let mut list = self.0.lock();
        if list.len() >= MOST_ENDED {
            list.pop_front();
        }
        list.push_back(ended);
    }
}

// === impl Tasks ===

impl Tasks {
    /// How far all downloads are that run. Waits for nothing.
    #[must_use]
    pub fn progress(&self) -> Vec<TaskProgress> {
        self.all_running().iter().map(|task| task.come()).collect()
    }

    /// The downloads that ended last, the newest first.
    #[must_use]
    pub fn ended_lately(&self) -> Vec<EndedView> {
        self.inner.ended.0.lock().iter().rev().cloned().collect()
    }
}

// === impl Task ===

impl Task {
    fn come(&self) -> TaskProgress {
        let from_peers = self.state.lock().swarm.as_ref().map_or(0, |swarm| swarm.from_peers);
        TaskProgress {
            peer: Arc::clone(&self.peer),
            came: self.from_origin.load(Ordering::Relaxed).saturating_add(from_peers),
        }
    }

    /// Remembers how the download ended, where its end is one that somebody may want to know.
    pub(crate) fn note_end(&self, outcome: &Outcome) {
        let failure = match outcome {
            Outcome::Verified => None,
            Outcome::Failed(reason) => Some(reason.to_string()),
            Outcome::Unstored | Outcome::Retired => return,
        };
        let (total, from_peers) = {
            let state = self.state.lock();
            (state.entry.total(), state.swarm.as_ref().map_or(0, |swarm| swarm.from_peers))
        };
        self.tasks.inner.ended.note(EndedView {
            id: self.id.clone(),
            url: public_url(&self.first.fetch.url),
            at: SystemTime::now(),
            took: self.started.elapsed(),
            total,
            from_peers,
            failure,
        });
    }
}
