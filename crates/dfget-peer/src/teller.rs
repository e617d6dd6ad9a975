//! Tells one child which pieces are here, as they come.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dfget_core::{piece_count, piece_length, piece_range, unit_length};
use dfget_proto::messages::dfdaemon::v2::SyncPiecesResponse;
use dfget_storage::Entry;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tonic::Status;

use crate::holdings::Holding;

/// Which pieces a child wants to hear of.
#[derive(Debug)]
pub(crate) enum Interest {
    /// All units, in dfget's own words.
    All,
    /// These, one item each.
    Some(BTreeSet<u32>),
}

/// What one child was told, and is to be told.
#[derive(Debug)]
pub(crate) struct Teller {
    holding: Holding,
    pieces: SocketAddr,
    /// `None` until the length of the content is known.
    open: Option<Open>,
    interest: Interest,
    /// To be told now.
    queue: VecDeque<SyncPiecesResponse>,
    over: bool,
}

/// The pieces that the child was not told of.
#[derive(Clone, Debug)]
struct Open {
    total: u64,
    length: u64,
    numbers: Vec<u32>,
    /// Those that are here, in the form of the wire.
    have: Vec<u8>,
}

// === impl Teller ===

impl Teller {
    pub(crate) fn new(mut holding: Holding, pieces: SocketAddr, interest: Interest) -> Self {
        // What ends here alone must end nothing elsewhere.
        holding.ended = holding.ended.child_token();
        Self { holding, pieces, open: None, interest, queue: VecDeque::new(), over: false }
    }

    /// The next item; `None` when all was told, after an error too.
    pub(crate) async fn next(&mut self) -> Option<Result<SyncPiecesResponse, Status>> {
        loop {
            if let Some(item) = self.queue.pop_front() {
                return Some(Ok(item));
            }
            if self.over {
                return None;
            }
            // Before the look: what comes after it is seen the next time.
            let (complete, ended) = (self.is_complete(), self.holding.ended.is_cancelled());
            if let Some(progress) = &mut self.holding.progress {
                progress.mark_unchanged();
            }
            if let Err(status) = self.look().await {
                self.over = true;
                return Some(Err(status));
            }
            let wants_more = match (&self.interest, &self.open) {
                (Interest::Some(_), Some(open)) => !open.numbers.is_empty(),
                _ => true,
            };
            if complete || !wants_more {
                self.over = true;
            } else if !self.queue.is_empty() {
                // Told first.
            } else if ended {
                self.over = true;
                return Some(Err(Status::aborted("the download of this task has failed here")));
            } else {
                self.wait().await;
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.holding.progress.is_none() || self.holding.entry.is_complete()
    }

    /// Waits for news, and a little longer: they come in swarms.
    async fn wait(&mut self) {
        if let Some(progress) = &mut self.holding.progress {
            let changed = async {
                if progress.changed().await.is_err() {
                    self.holding.ended.cancel();
                }
            };
            tokio::select! {
                () = self.holding.ended.cancelled() => {}
                () = changed => {}
            }
        }
        sleep(match self.interest {
            Interest::All => PAUSE_OF_OWN,
            Interest::Some(_) => PAUSE,
        })
        .await;
    }

    /// Puts what is new into the queue.
    async fn look(&mut self) -> Result<(), Status> {
        let Some(total) = self.holding.entry.total() else { return Ok(()) };
        let first = self.open.is_none();
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(total)?,
        };
        let entry = Arc::clone(&self.holding.entry);
        // The first look may have to read the index.
        let (here, mut open) = if first {
            let looked = spawn_blocking(move || (open.take_here(&entry), open)).await;
            looked.map_err(|_| Status::internal("what is here cannot be told"))?
        } else {
            (open.take_here(&entry), open)
        };
        match self.interest {
            Interest::All => {
                open.note(&here);
                if first || !here.is_empty() {
                    self.queue.push_back(all(&open, self.pieces, self.holding.round));
                }
            }
            Interest::Some(_) => {
                let items = here.iter().filter_map(|number| one(&open, *number, self.pieces));
                self.queue.extend(items);
            }
        }
        self.open = Some(open);
        Ok(())
    }

    fn begin(&self, total: u64) -> Result<Open, Status> {
        let length = match self.interest {
            Interest::All => unit_length(total),
            Interest::Some(_) => piece_length(total),
        };
        let count = u32::try_from(piece_count(total, length)).unwrap_or(u32::MAX);
        if count > MOST_PIECES {
            return Err(Status::failed_precondition("the content has too many pieces to be told"));
        }
        let numbers = match &self.interest {
            Interest::All => (0..count).collect(),
            Interest::Some(numbers) => numbers.range(..count).copied().collect(),
        };
        let have = vec![0; usize::try_from(count.div_ceil(8)).unwrap_or_default()];
        Ok(Open { total, length, numbers, have })
    }
}

// === impl Open ===

impl Open {
    fn note(&mut self, here: &[u32]) {
        for number in here {
            if let Some(byte) = self.have.get_mut(*number as usize / 8) {
                *byte |= 1_u8 << (number % 8);
            }
        }
    }

    /// Takes out the pieces that are here.
    fn take_here(&mut self, entry: &Entry) -> Vec<u32> {
        let mut here = Vec::new();
        let (total, length) = (self.total, self.length);
        self.numbers.retain(|number| {
            let range = piece_range((*number).into(), total, length);
            let is_here = range.is_some_and(|range| entry.contiguous_from(range.start) >= range.end);
            if is_here {
                here.push(*number);
            }
            !is_here
        });
        here
    }
}

fn all(open: &Open, pieces: SocketAddr, round: u32) -> SyncPiecesResponse {
    SyncPiecesResponse { have: open.have.clone(), total: open.total, round, ..item(pieces) }
}

fn one(open: &Open, number: u32, pieces: SocketAddr) -> Option<SyncPiecesResponse> {
    let range = piece_range(number.into(), open.total, open.length)?;
    Some(SyncPiecesResponse { number, offset: range.start, length: range.len(), ..item(pieces) })
}

fn item(pieces: SocketAddr) -> SyncPiecesResponse {
    SyncPiecesResponse {
        ip: pieces.ip().to_string(),
        tcp_port: Some(pieces.port().into()),
        ..SyncPiecesResponse::default()
    }
}

/// How long to wait for more news after some.
const PAUSE: Duration = Duration::from_millis(5);
/// The same for our own, who are told all at once each time.
const PAUSE_OF_OWN: Duration = Duration::from_millis(60);
/// Pieces of the longest content that is told of: 16 TiB.
const MOST_PIECES: u32 = 1 << 21;
