//! Running downloads as others may see them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dfget_core::{Authority, ContentReference, Digest, TaskId, public_url};

use crate::map::map;
use crate::swarm::Layout;
use crate::task::Task;
use crate::tasks::Tasks;

/// A running download. Holds no credential and no query of a URL.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// The content's name in the cluster.
    pub id: TaskId,
    /// This download's name in the log.
    pub peer: Arc<str>,
    /// The URL that it was begun with, without query and login.
    pub url: String,
    /// Where it is fetched from.
    pub authority: Authority,
    /// The repository, where the URL names one and a digest.
    pub repository: Option<String>,
    /// What it must hash to, if that is known.
    pub digest: Option<Digest>,
    /// Its length, once that is known.
    pub total: Option<u64>,
    /// The length of the pieces that [`Self::pieces`] counts; only of a content of known length.
    pub piece_length: Option<u64>,
    /// Which pieces are whole here, in order.
    pub pieces: Vec<Range<u32>>,
    /// What of it is here, from the first byte to the last in cells of about the same size, 256 at most: `.`
    /// nothing, `+` something, `o` all of it from the origin (or from before), `p` most of it from other
    /// nodes. Empty while the length is not known.
    pub map: String,
    /// Bytes that are here.
    pub present: u64,
    /// Bytes that were here before it began.
    pub from_cache: u64,
    /// Bytes that other nodes have sent.
    pub from_peers: u64,
    /// Bytes that origins have sent.
    pub from_origin: u64,
    /// The nodes that have sent something, and how many bytes of what is here, most first.
    pub parents: Vec<(String, u64)>,
    /// Responses that read it.
    pub readers: usize,
    /// For how long it has run.
    pub age: Duration,
}

impl Tasks {
    /// The running downloads, the oldest first, `most` at most. May wait for the disk.
    #[must_use]
    pub fn views(&self, most: usize) -> Vec<TaskView> {
        let mut tasks = self.all_running();
        tasks.sort_by_key(|task| task.started);
        tasks.iter().take(most).map(|task| task.view()).collect()
    }
}

impl Task {
    fn view(&self) -> TaskView {
        let (entry, readers, from_peers, parents, sent) = {
            let state = self.state.lock();
            let swarm = state.swarm.as_ref();
            let total = state.entry.total().unwrap_or(0);
            let senders = swarm.map(|swarm| swarm.senders(total)).unwrap_or_default();
            let parents = senders.into_iter().map(|(host, bytes)| (host.to_owned(), bytes)).collect();
            let from_peers = swarm.map_or(0, |swarm| swarm.from_peers);
            let sent: Vec<u32> = swarm.iter().flat_map(|swarm| swarm.senders.keys().copied()).collect();
            (Arc::clone(&state.entry), state.wanted.len(), from_peers, parents, sent)
        };
        let total = entry.total();
        let layout = total.and_then(Layout::of);
        let gaps = layout.map(|layout| entry.gaps(0..layout.total)).unwrap_or_default();
        let missing: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
        let url = &self.first.fetch.url;
        TaskView {
            id: self.id.clone(),
            peer: Arc::clone(&self.peer),
            url: public_url(url),
            authority: self.key.authority.clone(),
            repository: ContentReference::of_path(url.path()).map(|reference| reference.repository),
            digest: self.digest,
            total,
            piece_length: layout.map(|layout| layout.piece),
            pieces: layout.map(|layout| whole(&layout, &gaps)).unwrap_or_default(),
            map: layout.map(|layout| map(&layout, &gaps, sent.into_iter())).unwrap_or_default(),
            present: layout
                .map_or_else(|| entry.allocated_bytes(), |layout| layout.total.saturating_sub(missing)),
            from_cache: self.had,
            from_peers,
            from_origin: self.from_origin.load(Ordering::Relaxed),
            parents,
            readers,
            age: self.started.elapsed(),
        }
    }
}

/// The pieces that none of `gaps`, which are in order, touches.
fn whole(layout: &Layout, gaps: &[Range<u64>]) -> Vec<Range<u32>> {
    let mut pieces: Vec<Range<u32>> = Vec::new();
    let mut next = 0;
    for gap in gaps {
        let (first, last) = (layout.piece_at(gap.start), layout.piece_at(gap.end.saturating_sub(1)));
        if first > next {
            pieces.push(next..first);
        }
        next = next.max(last.saturating_add(1));
    }
    if next < layout.count {
        pieces.push(next..layout.count);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pieces_without_a_gap_are_whole() {
        let layout = Layout { total: 95, piece: 10, count: 10 };
        let all = |gaps: &[(u64, u64)]| {
            let gaps: Vec<_> = gaps.iter().map(|&(start, end)| start..end).collect();
            whole(&layout, &gaps).into_iter().map(|pieces| (pieces.start, pieces.end)).collect::<Vec<_>>()
        };
        assert_eq!(all(&[]), [(0, 10)]);
        assert_eq!(all(&[(0, 95)]), []);
        assert_eq!(all(&[(0, 1), (25, 30), (94, 95)]), [(1, 2), (3, 9)]);
        assert_eq!(all(&[(5, 6), (7, 8), (40, 61)]), [(1, 4), (7, 10)]);
    }
}
