//! What is still to be said to a scheduler of Dragonfly about one download.

use std::collections::VecDeque;
use std::sync::Arc;

use dfget_proto::messages::scheduler::v2::AnnouncePeerRequest;
use dfget_proto::messages::scheduler::v2::announce_peer_request::Request as Arm;
use futures_util::{Stream, stream};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::outgoing::Names;

/// Messages that wait; who does not read so many is told of no more pieces.
const MOST_WAITING: usize = 4096;

/// Messages in order, until the last word.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    arms: VecDeque<Arm>,
    /// Nothing comes after what waits.
    closed: bool,
}

// === impl Outbox ===

impl Outbox {
    /// Says these. After the last word nothing is said any more.
    pub(crate) fn say(&self, arms: impl IntoIterator<Item = Arm>) {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return;
        }
        for arm in arms {
            if waiting.arms.len() < MOST_WAITING || !is_of_piece(&arm) {
                waiting.arms.push_back(arm);
            }
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// Says the last word.
    pub(crate) fn part(&self, last: Arm) {
        self.say([last]);
        self.waiting.lock().closed = true;
        self.news.notify_one();
    }

    /// The next message; `None` after the last word.
    fn take(&self) -> Option<Option<Arm>> {
        let mut waiting = self.waiting.lock();
        match waiting.arms.pop_front() {
            Some(arm) => Some(Some(arm)),
            None if waiting.closed => Some(None),
            None => None,
        }
    }
}

/// Whether a message only counts what has come.
const fn is_of_piece(arm: &Arm) -> bool {
    matches!(arm, Arm::DownloadPieceFinishedRequest(_) | Arm::DownloadPieceBackToSourceFinishedRequest(_))
}

/// The stream of messages. It stays open after the last word: the scheduler ends the talk.
pub(crate) fn messages(outbox: Arc<Outbox>, names: Names) -> impl Stream<Item = AnnouncePeerRequest> {
    stream::unfold((outbox, names), |(outbox, names)| async move {
        let arm = loop {
            match outbox.take() {
                Some(arm) => break arm?,
                None => outbox.news.notified().await,
            }
        };
        let message = names.message(Some(arm), None);
        Some((message, (outbox, names)))
    })
}
