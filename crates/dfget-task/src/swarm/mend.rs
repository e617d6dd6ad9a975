//! What to do when pieces of several peers together are not the content.
//!
//! Three things can be trusted: what the origin sends, what has the digest, and that who has not verified a
//! content may have its bytes from others. So:
//!
//! - Those that have verified the content are asked for the hashes of its pieces. One that takes the wrong
//!   content for the right one lies. Of the others, one piece about which it and this node differ is settled at
//!   the origin; who is right there is believed, and what is kept are the pieces that have its hashes.
//! - Where nobody can be believed, what is kept is what came from the origin itself. One piece of each sender
//!   that says it has verified all is settled there, too: it lies if that is wrong.
//! - What is missing then comes as before, by the scheduler's grants and from peers: from those that have
//!   verified the content, or have begun anew for the same reason. All of a swarm that was fed wrong bytes begin
//!   anew, with what each of them had from the origin; so the registry sends no more than one of them would need.
//! - Whose bytes were wrong is known once the content is right. It is proof against those that had verified it,
//!   by their own word, and none against others: they are noted, and left if it happens again and again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dfget_core::ByteRange;
use dfget_storage::{Entry, ReadError, WriteError};
use dfget_swarm::{Disputes, HostInfo, MOST_ROUNDS_AT_ALL};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::hashes::{hash_all, hash_parts, hash_piece};
use super::network::{Network, PieceHashes};
use super::state::{Expected, Layout, Rejected, Sender};
use crate::content::read_range;
use crate::prefix::PrefixHasher;
use crate::proof::fetch_part;
use crate::task::Task;

/// Peers that are asked for the hashes of the pieces; who has not verified them has none.
const MOST_ASKED: usize = 16;

/// Senders of which a piece is settled at the origin.
const MOST_TESTED: usize = 4;

/// How long all that are asked for hashes may take together: they may have to hash the whole content first,
/// for which they get a second for so many bytes besides.
const PATIENCE: Duration = Duration::from_secs(10);
const HASHED_A_SECOND: u64 = 200 << 20;

/// A content that was wrong, kept until it is known which of its pieces were.
#[derive(Debug)]
pub(crate) struct Suspects {
    old: Arc<Entry>,
    senders: Vec<(u32, Sender)>,
}

/// A wrong content, looked at.
struct Case {
    old: Arc<Entry>,
    layout: Layout,
    /// The hashes of its pieces.
    mine: Vec<[u8; 32]>,
    /// Pieces that the origin was asked for since.
    settled: Vec<(u32, Vec<u8>)>,
}

/// What the origin says of a piece.
enum Truth {
    /// That it is this.
    Hash([u8; 32]),
    /// Nothing, at present.
    Unknown,
    /// That there is no such piece.
    Other,
}

/// What becomes of a piece that came.
pub(super) enum Verdict {
    Taken,
    /// It is not what it should be by the word of somebody who is believed for now.
    Refused,
    /// It is not what the origin sends, which is this.
    Replaced(Vec<u8>),
}

/// Something turned out to be otherwise than can be mended.
struct Beyond;

impl Task {
    /// Begins anew with the pieces of a wrong content that are right, as far as can be known. `false` if
    /// everything has to be fetched from the origin alone.
    pub(crate) async fn mend(self: &Arc<Self>, old: &Arc<Entry>) -> bool {
        let Some(layout) = old.total().and_then(Layout::of) else { return false };
        let Some(network) = self.tasks.network().cloned() else { return false };
        let entry = Arc::clone(old);
        let Ok(Ok(mine)) = tokio::task::spawn_blocking(move || hash_all(&entry, &layout)).await else {
            return false;
        };
        let mut case = Case { old: Arc::clone(old), layout, mine, settled: Vec::new() };
        self.judge_believed(&case, &*network);
        if self.state.lock().generation >= MOST_ROUNDS_AT_ALL {
            return false;
        }
        let expected = match self.believed(&mut case, &*network).await {
            Ok(expected) => expected,
            Err(Beyond) => return false,
        };
        if expected.is_none() && self.test_senders(&mut case, &*network).await.is_err() {
            return false;
        }
        self.judge_settled(&case, &*network);
        let task = Arc::clone(self);
        match tokio::task::spawn_blocking(move || task.begin_round(&case, expected)).await {
            Ok(Ok(lacks)) => {
                info!(task = %self.id, "{lacks} of {} pieces are fetched anew", layout.count);
                self.bump();
                self.advance();
                true
            }
            Ok(Err(error)) => {
                warn!(task = %self.id, "wrong pieces cannot be replaced: {error}");
                false
            }
            Err(_) => false,
        }
    }

    /// Whose hashes were believed and all there: if that is not the content, they were wrong.
    fn judge_believed(&self, case: &Case, network: &dyn Network) {
        let expected = self.state.lock().swarm.as_mut().and_then(|swarm| swarm.expected.take());
        if let Some(expected) = expected
            && expected.hashes.sha256 == case.mine
        {
            self.convict(network, &expected.by, "tells wrong hashes");
        }
    }

    /// Who has verified a content, and sent another piece than the origin does, lies.
    fn judge_settled(&self, case: &Case, network: &dyn Network) {
        for (number, bytes) in &case.settled {
            let sender = {
                let state = self.state.lock();
                state.swarm.as_ref().and_then(|swarm| swarm.senders.get(number).cloned())
            };
            let wrong = case.mine.get(*number as usize) != Some(&hash_parts([bytes.as_slice()]));
            if let Some(sender) = sender.filter(|sender| wrong && sender.complete) {
                self.convict(network, &sender.host, &format!("sent wrong bytes (piece {number})"));
            }
        }
    }

    /// The hashes of somebody who can be believed, if there is one.
    async fn believed(
        self: &Arc<Self>,
        case: &mut Case,
        network: &dyn Network,
    ) -> Result<Option<Expected>, Beyond> {
        let mut asking = JoinSet::new();
        for parent in self.parents_to_ask(network) {
            let answer = network.hashes(Arc::clone(&parent), self.id.clone());
            asking.spawn(async move { (Arc::clone(&parent.id), answer.await) });
        }
        let hashing = Duration::from_secs(case.layout.total / HASHED_A_SECOND);
        let until = Instant::now() + PATIENCE + hashing;
        loop {
            // Nobody waits for the slowest: clients do for this.
            let answer = tokio::select! {
                () = self.cancel.cancelled() => return Err(Beyond),
                answer = tokio::time::timeout_at(until, asking.join_next()) => answer,
            };
            let Ok(Some(answer)) = answer else { return Ok(None) };
            let Ok((by, Some(hashes))) = answer else { continue };
            if let Some(expected) = self.weigh(case, network, by, hashes).await? {
                return Ok(Some(expected));
            }
        }
    }

    /// Asks a parent that says that it has verified the content for the hashes of its pieces, while the download
    /// runs. Believes them, if they are not known to be wrong: by the pieces that the origin was asked for, one at
    /// least. Whether somebody is believed then.
    pub(super) async fn weigh_parent(
        self: &Arc<Self>,
        network: &dyn Network,
        parent: Arc<HostInfo>,
        generation: u32,
        asking: &tokio::sync::Mutex<()>,
    ) -> bool {
        let (entry, by) = (Arc::clone(&self.state.lock().entry), Arc::clone(&parent.id));
        let Some(layout) = entry.total().and_then(Layout::of).filter(|layout| layout.count > 0) else {
            return false;
        };
        let patience = PATIENCE + Duration::from_secs(layout.total / HASHED_A_SECOND);
        let hashes = tokio::select! {
            () = self.cancel.cancelled() => return false,
            hashes = tokio::time::timeout(patience, network.hashes(parent, self.id.clone())) => hashes,
        };
        let Ok(Some(hashes)) = hashes else { return false };
        if hashes.total != layout.total || hashes.sha256.len() != layout.count as usize {
            return false;
        }
        // One piece is enough for all.
        let asking = asking.lock().await;
        let none = self.state.lock().swarm.as_ref().is_none_or(|swarm| swarm.truths.is_empty());
        if none {
            let number = fastrand::u32(..layout.count);
            // Where the origin does not answer, nobody else can tell.
            if let Ok(Some(bytes)) = self.ask_origin(&layout, number).await
                && let Some(swarm) = &mut self.state.lock().swarm
            {
                swarm.truths.insert(number, hash_parts([bytes.as_slice()]));
            }
        }
        drop(asking);
        let lies = {
            let mut state = self.state.lock();
            if state.generation != generation || state.outcome.is_some() {
                return false;
            }
            let Some(swarm) = state.swarm.as_mut().filter(|swarm| !swarm.closed) else { return false };
            let lies =
                swarm.truths.iter().any(|(number, truth)| hashes.sha256.get(*number as usize) != Some(truth));
            if !lies && swarm.expected.is_none() {
                debug!(task = %self.id, "{by} is believed to have verified the content");
                let (hashes, by) = (Arc::new(hashes), Arc::clone(&by));
                swarm.expected = Some(Expected { hashes, by, disputes: Disputes::default() });
            }
            lies
        };
        if lies {
            self.convict(network, &by, "tells wrong hashes");
        }
        !lies
    }

    async fn weigh(
        self: &Arc<Self>,
        case: &mut Case,
        network: &dyn Network,
        by: Arc<str>,
        hashes: PieceHashes,
    ) -> Result<Option<Expected>, Beyond> {
        if hashes.total != case.layout.total || hashes.sha256.len() != case.mine.len() {
            return Ok(None);
        }
        let differs = (0..case.layout.count).zip(case.mine.iter().zip(&hashes.sha256));
        let wrong: Vec<u32> =
            differs.filter(|(_, (mine, theirs))| mine != theirs).map(|(number, _)| number).collect();
        // What the origin has sent already tells for nothing; so all that tell the same lie cost one piece.
        let known = wrong.iter().find(|number| case.settled.iter().any(|(settled, _)| settled == *number));
        let Some(&one) = known.or_else(|| fastrand::choice(&wrong)) else {
            self.convict(network, &by, "takes wrong bytes for the content");
            return Ok(None);
        };
        match self.truth(case, one).await {
            Truth::Other => Err(Beyond),
            Truth::Hash(hash) if hashes.sha256.get(one as usize) != Some(&hash) => {
                self.convict(network, &by, "tells wrong hashes");
                Ok(None)
            }
            Truth::Hash(_) | Truth::Unknown => {
                debug!(task = %self.id, "{by} says that pieces {wrong:?} are wrong");
                Ok(Some(Expected { hashes: Arc::new(hashes), by, disputes: Disputes::default() }))
            }
        }
    }

    /// Asks the origin for a piece of each sender that says it has verified all, or of any one if none says so.
    async fn test_senders(self: &Arc<Self>, case: &mut Case, network: &dyn Network) -> Result<(), Beyond> {
        let mut senders: Vec<(u32, Sender)> = {
            let state = self.state.lock();
            let senders = state.swarm.iter().flat_map(|swarm| &swarm.senders);
            senders.map(|(number, sender)| (*number, sender.clone())).collect()
        };
        fastrand::shuffle(&mut senders);
        senders.sort_by_key(|(_, sender)| !sender.complete);
        let mut tested: Vec<Arc<str>> = Vec::new();
        for (number, sender) in senders {
            if tested.contains(&sender.host) || network.is_banned(&sender.host) {
                continue;
            }
            if tested.len() >= MOST_TESTED || (!sender.complete && !tested.is_empty()) {
                break;
            }
            match self.truth(case, number).await {
                Truth::Other => return Err(Beyond),
                Truth::Unknown => return Ok(()),
                Truth::Hash(hash) => {
                    let right = case.mine.get(number as usize) == Some(&hash);
                    if let Some(swarm) = self.state.lock().swarm.as_mut().filter(|_| right && sender.complete)
                    {
                        swarm.tested.insert(Arc::clone(&sender.host));
                    }
                    tested.push(sender.host);
                }
            }
        }
        Ok(())
    }

    /// What the origin says of a piece.
    async fn truth(&self, case: &mut Case, number: u32) -> Truth {
        if let Some((_, bytes)) = case.settled.iter().find(|(settled, _)| *settled == number) {
            return Truth::Hash(hash_parts([bytes.as_slice()]));
        }
        match self.ask_origin(&case.layout, number).await {
            Ok(Some(bytes)) => {
                let hash = hash_parts([bytes.as_slice()]);
                case.settled.push((number, bytes));
                Truth::Hash(hash)
            }
            Ok(None) => Truth::Other,
            Err(error) => {
                debug!(task = %self.id, "piece {number} cannot be settled at the origin: {error}");
                Truth::Unknown
            }
        }
    }

    /// A piece as the origin has it; `None` if it has none such.
    async fn ask_origin(&self, layout: &Layout, number: u32) -> Result<Option<Vec<u8>>, String> {
        let source = self.state.lock().sources.last().cloned().ok_or("there is nobody to ask for")?;
        let range = layout.range(number);
        let part = ByteRange { start: range.start, end: range.end };
        let fetched = tokio::select! {
            () = self.cancel.cancelled() => return Err("nobody wants it any more".to_owned()),
            fetched = fetch_part(self.tasks.origin(), &source, part, layout.total) => fetched,
        };
        let bytes = fetched.map_err(|error| error.to_string())?.map(|(_, bytes)| bytes);
        if bytes.is_some() {
            self.tasks.metrics().from_origin(part.len());
            self.book.sent(part.len());
        }
        Ok(bytes)
    }

    fn parents_to_ask(&self, network: &dyn Network) -> Vec<Arc<HostInfo>> {
        let state = self.state.lock();
        let parents = state.swarm.iter().flat_map(|swarm| swarm.parents.iter().cloned());
        parents.filter(|parent| !network.is_banned(&parent.id)).take(MOST_ASKED).collect()
    }

    /// A host is proved to have lied.
    fn convict(&self, network: &dyn Network, host: &Arc<str>, what: &str) {
        if network.is_banned(host) {
            return;
        }
        warn!(task = %self.id, "{host} {what} and is not asked any more; look at that node's memory and disk, or remove it from the cluster");
        network.ban(host);
        if let Some(swarm) = &mut self.state.lock().swarm {
            swarm.wrong.push(Arc::clone(host));
        }
    }

    /// Puts a new entry in the place of a wrong one, with the pieces that are kept. Returns how many are missing.
    /// Blocking.
    fn begin_round(&self, case: &Case, expected: Option<Expected>) -> Result<usize, ReplaceError> {
        let Case { old, layout, mine, settled } = case;
        let (inherited, from_peers): (bool, HashSet<u32>) = {
            let state = self.state.lock();
            let senders = state.swarm.iter().flat_map(|swarm| swarm.senders.keys().copied());
            (state.inherited, senders.collect())
        };
        let is_settled = |number: &u32| settled.iter().any(|(other, _)| other == number);
        let keeps = |number: &u32| match &expected {
            Some(expected) => expected.hashes.sha256.get(*number as usize) == mine.get(*number as usize),
            None => !inherited && !from_peers.contains(number),
        };
        let store = self.tasks.store().ok_or(ReplaceError::NoStore)?;
        let meta = self.state.lock().meta.to_bytes();
        let fresh = store.create(old.key(), meta, Some(layout.total), SystemTime::now())?;
        let kept: Vec<u32> =
            (0..layout.count).filter(|number| keeps(number) && !is_settled(number)).collect();
        for number in &kept {
            copy(old, &fresh, layout, *number)?;
        }
        for (number, bytes) in settled {
            fresh.append(layout.range(*number).start, bytes)?;
        }
        // Held until the entry is the new one: what is hashed from now on is hashed of that.
        let mut prefix = self.prefix.lock();
        *prefix = self.digest.as_ref().map(PrefixHasher::like);
        let mut state = self.state.lock();
        state.suspect(old);
        state.pin = Some(fresh.pin());
        state.entry = fresh;
        state.next_generation(&self.cancel);
        state.inherited &= expected.is_some();
        if let Some(swarm) = &mut state.swarm {
            swarm.senders.retain(|number, _| kept.contains(number));
            swarm.from_peers = swarm.senders.keys().map(|number| layout.length(*number)).sum();
            (swarm.alone, swarm.origin_failed, swarm.granted) = (false, None, Vec::new());
            swarm.expected = expected;
            swarm
                .truths
                .extend(settled.iter().map(|(number, bytes)| (*number, hash_parts([bytes.as_slice()]))));
        }
        Ok((layout.count as usize).saturating_sub(kept.len() + settled.len()))
    }

    /// Holds a piece that came against the hashes that are believed. If it differs, the origin is asked who is wrong.
    pub(super) async fn examine(
        self: &Arc<Self>,
        number: u32,
        sender: &Sender,
        layout: &Layout,
        parts: &[Bytes],
    ) -> Verdict {
        let (expected, by, disputes) = {
            let state = self.state.lock();
            let expected = state.swarm.as_ref().and_then(|swarm| swarm.expected.as_ref());
            let of =
                |it: &Expected| Some((*it.hashes.sha256.get(number as usize)?, it.by.clone(), it.disputes));
            let Some(hash) = expected.and_then(of) else { return Verdict::Taken };
            hash
        };
        let parts = parts.to_vec();
        let hash = tokio::task::spawn_blocking(move || hash_parts(parts.iter().map(AsRef::as_ref))).await;
        let Ok(hash) = hash else { return Verdict::Refused };
        let Some(network) = self.tasks.network().filter(|_| hash != expected) else { return Verdict::Taken };
        if !disputes.goes_to_origin() {
            if let Some(swarm) = &mut self.state.lock().swarm {
                swarm.reject(Rejected { number, sender: sender.clone(), hash });
            }
            return Verdict::Refused;
        }
        match self.ask_origin(layout, number).await {
            Ok(Some(bytes)) if hash_parts([bytes.as_slice()]) == hash => {
                self.convict(&**network, &by, "tells wrong hashes");
                if let Some(swarm) = &mut self.state.lock().swarm {
                    swarm.expected = None;
                }
                Verdict::Taken
            }
            Ok(Some(bytes)) => {
                if let Some(expected) =
                    self.state.lock().swarm.as_mut().and_then(|swarm| swarm.expected.as_mut())
                {
                    expected.disputes.won();
                }
                if sender.complete {
                    self.convict(&**network, &sender.host, &format!("sent wrong bytes (piece {number})"));
                }
                Verdict::Replaced(bytes)
            }
            Ok(None) | Err(_) => {
                // Nobody is accused before the content is right.
                if let Some(swarm) = &mut self.state.lock().swarm {
                    swarm.reject(Rejected { number, sender: sender.clone(), hash });
                }
                Verdict::Refused
            }
        }
    }

    /// Finds out, now that the content is right, who sent pieces that were not. Blocking.
    pub(crate) fn blame(&self) {
        let (suspects, rejected, expected, right) = {
            let mut state = self.state.lock();
            let (rejected, expected) = match &mut state.swarm {
                Some(swarm) => (std::mem::take(&mut swarm.rejected), swarm.expected.take()),
                None => (Vec::new(), None),
            };
            (std::mem::take(&mut state.suspects), rejected, expected, Arc::clone(&state.entry))
        };
        let Some(network) = self.tasks.network().cloned() else { return };
        let Some(layout) = right.total().and_then(Layout::of) else { return };
        for Suspects { old, senders } in suspects {
            for (number, sender) in senders {
                let range = layout.range(number);
                let range = ByteRange { start: range.start, end: range.end };
                // What cannot be read accuses nobody.
                if let (Ok(theirs), Ok(ours)) = (read_range(&old, range), read_range(&right, range))
                    && theirs != ours
                {
                    self.sent_wrong(&*network, number, &sender);
                }
            }
        }
        for Rejected { number, sender, hash } in rejected {
            if hash_piece(&right, &layout, number).is_ok_and(|right| right != hash) {
                self.sent_wrong(&*network, number, &sender);
            }
        }
        if let Some(expected) = expected
            && hash_all(&right, &layout).is_ok_and(|right| right != expected.hashes.sha256)
        {
            self.convict(&*network, &expected.by, "tells wrong hashes");
        }
    }

    fn sent_wrong(&self, network: &dyn Network, number: u32, sender: &Sender) {
        if sender.complete {
            self.convict(network, &sender.host, &format!("sent wrong bytes (piece {number})"));
        } else if network.passed_on(&sender.host, &self.id) {
            self.convict(network, &sender.host, "passes on wrong bytes again and again");
        } else {
            debug!(task = %self.id, "{} passed on wrong bytes (piece {number}), as others may have sent them to it", sender.host);
        }
    }

    /// Hosts that were found to have sent wrong bytes since the last call.
    pub(super) fn take_wrong(&self) -> Vec<Arc<str>> {
        let mut state = self.state.lock();
        state.swarm.as_mut().map(|swarm| std::mem::take(&mut swarm.wrong)).unwrap_or_default()
    }
}

impl crate::task::State {
    /// Keeps a wrong content to find out later whose pieces it was made of.
    pub(crate) fn suspect(&mut self, old: &Arc<Entry>) {
        let Some(swarm) = &self.swarm else { return };
        if !swarm.senders.is_empty() {
            let senders = swarm.senders.iter().map(|(number, sender)| (*number, sender.clone())).collect();
            self.suspects.push(Suspects { old: Arc::clone(old), senders });
        }
    }

    /// The entry is another one: what was handed out of the one before is handed out no more.
    pub(crate) fn next_generation(&mut self, cancel: &CancellationToken) {
        self.shared.cancel();
        self.shared = cancel.child_token();
        self.generation += 1;
        self.settling = false;
    }
}

/// Why the wrong pieces could not be replaced.
#[derive(Debug, thiserror::Error)]
enum ReplaceError {
    #[error("there is no store")]
    NoStore,
    #[error(transparent)]
    Store(#[from] dfget_storage::StoreError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

fn copy(old: &Entry, fresh: &Arc<Entry>, layout: &Layout, number: u32) -> Result<(), ReplaceError> {
    let range = layout.range(number);
    let mut next = range.start;
    while next < range.end {
        let mut bytes = old.read(next, false)?;
        bytes.truncate(usize::try_from(range.end - next).unwrap_or(usize::MAX));
        fresh.append(next, &bytes)?;
        next += bytes.len() as u64;
    }
    Ok(())
}
