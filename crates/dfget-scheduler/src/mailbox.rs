//! What one peer is still to be told.

use std::collections::VecDeque;

use dfget_proto::messages::scheduler::v2::AnnouncePeerResponse;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tonic::Status;

use crate::limits;

/// Answers on their way to one peer; one reader.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// Each answer replaces those that have not gone out.
    latest_only: bool,
    inner: Mutex<Inner>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    answers: VecDeque<AnnouncePeerResponse>,
    /// Nothing comes after the answers; with a status, the stream fails.
    end: Option<Result<(), Status>>,
}

impl Mailbox {
    pub(crate) fn new(latest_only: bool) -> Self {
        Self { latest_only, inner: Mutex::default(), news: Notify::new() }
    }

    /// Adds an answer. A reader that lets too many lie is dismissed.
    pub(crate) fn push(&self, answer: AnnouncePeerResponse) {
        let mut inner = self.inner.lock();
        if inner.end.is_some() {
            return;
        }
        if self.latest_only {
            inner.answers.clear();
        }
        if inner.answers.len() < limits::ANSWERS {
            inner.answers.push_back(answer);
        } else {
            inner.end = Some(Err(Status::resource_exhausted("answers are not read")));
        }
        drop(inner);
        self.news.notify_one();
    }

    /// Whether nothing waits here, nor was said to be the end.
    pub(crate) fn is_empty(&self) -> bool {
        let inner = self.inner.lock();
        inner.answers.is_empty() && inner.end.is_none()
    }

    /// Nothing more comes; the first word counts.
    pub(crate) fn end(&self, how: Result<(), Status>) {
        self.inner.lock().end.get_or_insert(how);
        self.news.notify_one();
    }

    /// The next answer; `None` at the good end.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next(&self) -> Option<Result<AnnouncePeerResponse, Status>> {
        loop {
            if let Some(found) = self.take() {
                return found;
            }
            self.news.notified().await;
        }
    }

    #[expect(clippy::option_option, reason = "nothing yet, the end, or an item")]
    fn take(&self) -> Option<Option<Result<AnnouncePeerResponse, Status>>> {
        let mut inner = self.inner.lock();
        if let Some(answer) = inner.answers.pop_front() {
            return Some(Some(Ok(answer)));
        }
        inner.end.clone().map(|end| end.err().map(Err))
    }
}
