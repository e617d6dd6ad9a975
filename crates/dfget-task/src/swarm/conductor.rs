//! One download's side of its swarm: joins it, asks parents for pieces, tells what is here.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use dfget_core::{ByteRange, public_url};
use dfget_storage::{Entry, WriteError};
use dfget_swarm::{Ask, Failure, Parent, Patience, Picker, PickerOptions, Pieces, Take, Trust, Waiting};
use dfget_telemetry::PieceFailure;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::mend::Verdict;
use super::network::{Boxed, Join, Membership, Network, Offer, Orders, Told, WantedPiece};
use super::state::{Layout, Sender};
use crate::meta::TaskMeta;
use crate::task::{Outcome, Task};

/// Bytes of pieces that are on their way and not written yet, for one download; with those that are late,
/// twice as many.
const BUFFER: u64 = 32 << 20;

/// How long peers that bring nothing are hoped for once the origin has failed.
const HOPE: Duration = Duration::from_secs(60);

/// What a parent may tell while the number of pieces is not known yet; twice the pieces once it is.
const MOST_WORDS: usize = 1 << 18;

/// A unit is so much of a piece.
const UNITS_OF_PIECE: u32 = dfget_core::UNITS;

/// The first pause before a parent is listened to that has nothing of the task yet; each is half as long
/// again, up to the longest.
const LISTEN_AGAIN: Duration = Duration::from_millis(50);
const LISTEN_AGAIN_MOST: Duration = Duration::from_secs(2);

/// The first pause before a scheduler is looked for again; it doubles.
const REJOIN: Duration = Duration::from_millis(200);

/// The longest.
const REJOIN_MOST: Duration = Duration::from_secs(10);

/// How often it is looked whether the download stands still.
const LOOK: Duration = Duration::from_millis(500);

/// Peers that are asked for hashes at once.
const MOST_WEIGHED: usize = 16;

/// Words of parents that are still to be read.
const HEARD: usize = 256;

/// The one that asks, tells and decides for a running task.
pub(super) struct Conductor {
    task: Arc<Task>,
    network: Arc<dyn Network>,
    began: Instant,
    membership: Option<Box<dyn Membership>>,
    joining: Option<Boxed<'static, Option<Box<dyn Membership>>>>,
    rejoin: Duration,
    join_at: Option<Instant>,
    layout: Option<Layout>,
    picker: Option<Picker>,
    orders: Orders,
    parents: HashMap<Arc<str>, Listened>,
    heard: (mpsc::Sender<Word>, mpsc::Receiver<Word>),
    asks: JoinSet<Answer>,
    asked: Vec<Asked>,
    /// Hosts that cannot be told of yet, for want of a scheduler.
    wrong: Vec<Arc<str>>,
    lost: Vec<Arc<str>>,
    /// When something came last, and what was here then.
    moved: (Instant, u64),
    /// When that was looked for last.
    looked: Instant,
    /// How many pieces the scheduler was told of last.
    told: u32,
    patience: Patience,
    /// Something may have come from the origin.
    written: bool,
    /// There is something here that the scheduler does not know of.
    news: bool,
    /// The origin has failed.
    no_origin: bool,
    /// From whom what is taken.
    trust: Trust,
    /// Peers from which nothing is taken, of which the scheduler was told.
    left: HashSet<Arc<str>>,
    /// Peers whose hashes are or were asked for: each once, and whether they are believed.
    weighing: JoinSet<Weighed>,
    weighed: HashSet<Arc<str>>,
    /// Held by the one of them for which the origin is asked.
    asking: Arc<tokio::sync::Mutex<()>>,
    /// The generation of the content that is being fetched; `u32::MAX` once peers are asked no more.
    generation: u32,
}

/// A parent whose announcements are heard.
struct Listened {
    /// Its id there: another attempt of the same host is another parent.
    peer: Arc<str>,
    /// It says that it has verified the whole.
    complete: bool,
    place: Option<std::net::SocketAddr>,
    /// It is a peer of another kind, which knows pieces and no units.
    stock: bool,
    /// It has shown the cluster's key.
    keyed: bool,
    listening: AbortHandle,
}

/// Something that a parent was asked for.
struct Asked {
    ask: Ask,
    /// Bytes that are to come.
    len: u64,
    /// It is a whole piece.
    stock: bool,
    fetching: AbortHandle,
}

/// What was heard of a parent.
struct Word {
    host: Arc<str>,
    /// Its id.
    peer: Arc<str>,
    what: Result<Option<Offer>, Failure>,
}

/// Of whom a piece was asked, and for which generation of the content.
#[derive(Clone)]
struct AskedOf {
    host: Arc<str>,
    complete: bool,
    generation: u32,
}

/// Whether the hashes of a peer that says that it has verified the content are believed.
struct Weighed {
    host: Arc<str>,
    peer: Arc<str>,
    generation: u32,
    believed: bool,
}

/// How an ask ended.
struct Answer {
    ask: Ask,
    /// What was to come: one unit, or all of a piece.
    units: Range<u32>,
    took: Duration,
    outcome: Result<u64, Trouble>,
}

enum Trouble {
    Peer(Failure),
    /// It is not what it should be; the origin may have sent it instead.
    Doubtful,
    /// It came after another had brought it.
    Late,
    Store(WriteError),
}

/// What woke the conductor.
enum Event {
    Orders(Option<Orders>),
    Joined(Option<Box<dyn Membership>>),
    Word(Word),
    Answer(Answer),
    /// An ask ended without an answer.
    Lost(tokio::task::Id),
    Weighed(Weighed),
    /// Something changed in the task.
    Written,
    /// It is time to look.
    Look,
    Ended,
}

impl Task {
    /// Begins to take part in the swarm of the content, if there is one and this task does not yet.
    /// `membership` is there already if the scheduler was asked before, with its first orders.
    pub(crate) fn begin_swarm(self: &Arc<Self>, joined: Option<(Box<dyn Membership>, Orders)>) {
        let Some(network) = self.tasks.network().cloned() else { return };
        {
            let mut state = self.state.lock();
            if state.outcome.is_some() || state.swarm.is_some() {
                return;
            }
            state.swarm = Some(super::Swarm { active: true, ..super::Swarm::default() });
        }
        let conductor = Conductor::new(Arc::clone(self), network, joined);
        let task = Arc::clone(self);
        let running = self.tasks.inner.tracker.spawn(conductor.run());
        self.tasks.inner.tracker.spawn(async move {
            if let Err(lost) = running.await {
                // Without it nobody would lift what it has held back.
                warn!(task = %task.id, "going on without peers: {lost}");
                if let Some(swarm) = &mut task.state.lock().swarm {
                    (swarm.active, swarm.alone, swarm.origin_failed) = (false, true, None);
                }
                task.advance();
            }
        });
    }

    /// Bytes that are here, whole pieces or not.
    pub(crate) fn present(&self) -> u64 {
        let entry = Arc::clone(&self.state.lock().entry);
        let total = entry.total().unwrap_or(0);
        let missing: u64 = entry.gaps(0..total).iter().map(|gap| gap.end - gap.start).sum();
        total.saturating_sub(missing)
    }

    /// Writes a piece that a peer sent; returns how many bytes of it were not here before. Blocking.
    fn write_piece(&self, entry: &Arc<Entry>, start: u64, chunks: &[Bytes]) -> Result<u64, WriteError> {
        let parts: Vec<&[u8]> = chunks.iter().map(AsRef::as_ref).collect();
        let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let written = entry.append_parts(start, &parts)?;
        self.bump();
        // What lay there before may be something else than what came now.
        self.hash_on(entry, start, if written == len { chunks } else { &[] });
        Ok(written)
    }

    /// Hashes what was just stored if it is next, and all that follows it in the store: pieces come
    /// in any order, and at the end nobody should have to wait for the hash. Blocking.
    pub(crate) fn hash_on(&self, written: &Arc<Entry>, start: u64, chunks: &[Bytes]) {
        let Some(mut prefix) = self.prefix.try_lock() else { return };
        let Some(prefix) = prefix.as_mut() else { return };
        let entry = Arc::clone(&self.state.lock().entry);
        if !Arc::ptr_eq(&entry, written) {
            return;
        }
        let mut offset = start;
        for bytes in chunks {
            prefix.feed(offset, bytes);
            offset += bytes.len() as u64;
        }
        let present = entry.contiguous_from(prefix.hashed());
        // What cannot be read now will be found out at the end.
        let _ = prefix.catch_up(&entry, present);
    }

    /// Holds the fetches from the origin to what is granted.
    fn cut_flights(&self) {
        let state = self.state.lock();
        let Some(swarm) = &state.swarm else { return };
        for flight in state.flying.values() {
            let range = flight.range();
            let position = state.entry.contiguous_from(range.start).clamp(range.start, range.end);
            if position < range.end {
                flight.end_at(swarm.end_of(position, range.end));
            }
        }
    }
}

// === impl Listened ===

impl Drop for Listened {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

// === impl Conductor ===

impl Conductor {
    fn new(
        task: Arc<Task>,
        network: Arc<dyn Network>,
        joined: Option<(Box<dyn Membership>, Orders)>,
    ) -> Self {
        let (membership, orders) = joined.unzip();
        let now = Instant::now();
        Self {
            task,
            network,
            began: now,
            membership,
            joining: None,
            rejoin: REJOIN,
            join_at: None,
            layout: None,
            picker: None,
            orders: orders.unwrap_or_default(),
            parents: HashMap::new(),
            heard: mpsc::channel(HEARD),
            asks: JoinSet::new(),
            asked: Vec::new(),
            wrong: Vec::new(),
            lost: Vec::new(),
            moved: (now, 0),
            looked: now,
            told: 0,
            patience: Patience::new(fastrand::f64()),
            written: true,
            news: false,
            no_origin: false,
            trust: Trust::default(),
            left: HashSet::new(),
            weighing: JoinSet::new(),
            weighed: HashSet::new(),
            asking: Arc::default(),
            generation: 0,
        }
    }

    async fn run(mut self) {
        if self.membership.is_none() {
            self.join_at = Some(Instant::now());
        }
        self.obey();
        let mut progress = self.task.progress();
        loop {
            self.look();
            self.ask_on();
            let event = self.next_event(&mut progress).await;
            match event {
                Event::Ended => break,
                Event::Orders(Some(orders)) => {
                    self.rejoin = REJOIN;
                    self.orders = orders;
                    self.obey();
                }
                Event::Orders(None) => self.scheduler_lost(),
                Event::Joined(membership) => self.joined(membership),
                Event::Word(word) => self.hear(word),
                Event::Answer(answer) => self.answered(answer),
                Event::Lost(id) => self.lost(id),
                Event::Weighed(weighed) => self.is_weighed(&weighed),
                Event::Written => self.written = true,
                Event::Look => {}
            }
        }
        self.end();
    }

    async fn next_event(&mut self, progress: &mut tokio::sync::watch::Receiver<()>) -> Event {
        let wake = self.wake();
        let joining = async {
            match &mut self.joining {
                Some(joining) => joining.await,
                None => std::future::pending().await,
            }
        };
        let orders = async {
            match &mut self.membership {
                Some(membership) => membership.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.task.cancel.cancelled() => Event::Ended,
            orders = orders => Event::Orders(orders),
            joined = joining => Event::Joined(joined),
            Some(word) = self.heard.1.recv() => Event::Word(word),
            Some(answer) = self.asks.join_next_with_id(), if !self.asks.is_empty() => match answer {
                Ok((_, answer)) => Event::Answer(answer),
                // Stopped, or lost.
                Err(lost) => Event::Lost(lost.id()),
            },
            Some(Ok(weighed)) = self.weighing.join_next(), if !self.weighing.is_empty() => Event::Weighed(weighed),
            changed = progress.changed() => if changed.is_ok() { Event::Written } else { Event::Ended },
            () = tokio::time::sleep_until(wake) => Event::Look,
        }
    }

    fn wake(&self) -> Instant {
        let mut wake = Instant::now() + LOOK;
        if let Some(due) = self.picker.as_ref().and_then(|picker| picker.wake(self.now())) {
            wake = wake.min(self.began + due);
        }
        self.join_at.filter(|_| self.joining.is_none()).map_or(wake, |at| wake.min(at))
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Notes what has changed in the task, and tells of it.
    fn look(&mut self) {
        self.follow_generation();
        self.follow_belief();
        self.learn_layout();
        if std::mem::take(&mut self.written) {
            let came = self.find_fetched();
            self.stop_superfluous(came);
        }
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            let present = self.task.present();
            if present > self.moved.1 {
                self.moved = (Instant::now(), present);
            }
        }
        self.join_again();
        self.report();
        self.give_up_waiting();
        if self.patience.comes_back(self.now()) {
            self.obey();
        }
    }

    /// Hashes are believed now, or no longer.
    fn follow_belief(&mut self) {
        let believes = {
            let state = self.task.state.lock();
            state.swarm.as_ref().is_some_and(|swarm| swarm.expected.is_some())
        };
        if self.generation == u32::MAX || self.trust.round() == 0 || self.trust.believes() == believes {
            return;
        }
        self.trust.believe(believes);
        self.news = true;
        self.obey();
    }

    /// What was here turned out to be wrong: begins anew with what is left of it, or, when peers are asked no more,
    /// stands back.
    fn follow_generation(&mut self) {
        let (generation, closed, believes) = {
            let state = self.task.state.lock();
            let swarm = state.swarm.as_ref();
            let believes = swarm.is_some_and(|swarm| swarm.expected.is_some());
            (state.generation, swarm.is_none_or(|swarm| swarm.closed), believes)
        };
        if self.generation == u32::MAX || (self.generation == generation && !closed) {
            return;
        }
        // What was asked for is forgotten with its answers.
        self.asks = JoinSet::new();
        self.asked.clear();
        self.moved = (Instant::now(), 0);
        // Before it goes, the scheduler is told whose bytes were wrong; and of the next attempt again.
        self.wrong.extend(self.task.take_wrong());
        let wrong = self.wrong.clone();
        self.report();
        (self.layout, self.picker) = (None, None);
        self.generation = if closed { u32::MAX } else { generation };
        if closed {
            return;
        }
        // Another attempt, by another peer: nobody takes what it had before for what it has now.
        if let Some(membership) = self.membership.take() {
            membership.fail("it had wrong bytes, and begins anew without them");
        }
        (self.joining, self.rejoin, self.join_at) = (None, REJOIN, Some(Instant::now()));
        self.orders = Orders::default();
        self.parents.clear();
        self.trust.begin_anew(believes);
        self.patience.begin_anew();
        self.wrong = wrong;
        self.left.clear();
        self.weighing = JoinSet::new();
        self.weighed.clear();
        self.written = true;
    }

    /// Once the length is known, pieces can be counted.
    fn learn_layout(&mut self) {
        if self.layout.is_some() || self.generation == u32::MAX {
            return;
        }
        let entry = Arc::clone(&self.task.state.lock().entry);
        let Some(layout) = entry.total().and_then(Layout::of) else { return };
        let have = self.pieces_here(&layout);
        self.layout = Some(layout);
        self.picker = Some(Picker::new(PickerOptions::default(), have, fastrand::u64(..)));
        self.obey();
        self.news = true;
    }

    fn pieces_here(&self, layout: &Layout) -> Pieces {
        let entry = Arc::clone(&self.task.state.lock().entry);
        let mut have = Pieces::none(layout.count);
        for number in 0..layout.count {
            let range = layout.range(number);
            if entry.contiguous_from(range.start) >= range.end {
                have.insert(number);
            }
        }
        have
    }

    /// Those of some pieces that are in the store.
    fn which_are_here(&self, pieces: Range<u32>) -> Vec<u32> {
        let Some(layout) = self.layout else { return Vec::new() };
        let entry = Arc::clone(&self.task.state.lock().entry);
        let is_here = |range: Range<u64>| entry.contiguous_from(range.start) >= range.end;
        pieces.filter(|number| is_here(layout.range(*number))).collect()
    }

    /// Pieces that the origin has brought since.
    fn find_fetched(&mut self) -> Vec<u32> {
        let (Some(layout), Some(picker)) = (&self.layout, &self.picker) else { return Vec::new() };
        let state = self.task.state.lock();
        let Some(swarm) = &state.swarm else { return Vec::new() };
        let everything = 0..layout.total;
        let flying = state.flying.values().map(crate::task::Flight::range);
        let places: Vec<Range<u64>> = match swarm.alone {
            true => vec![everything],
            false => swarm.granted.iter().cloned().chain(flying).collect(),
        };
        let entry = Arc::clone(&state.entry);
        drop(state);
        let mut came = Vec::new();
        for place in places.into_iter().filter(|place| place.start < place.end) {
            let last = layout.piece_at(place.end.min(layout.total).saturating_sub(1));
            for number in layout.piece_at(place.start)..=last {
                let range = layout.range(number);
                if !picker.have().contains(number) && entry.contiguous_from(range.start) >= range.end {
                    came.push(number);
                }
            }
        }
        came
    }

    fn stop_superfluous(&mut self, came: impl IntoIterator<Item = u32>) {
        let now = self.now();
        for piece in came {
            let others = self.picker.as_mut().map(|picker| picker.arrived(piece, now)).unwrap_or_default();
            self.stop(&others);
        }
    }

    /// Stops what is being asked in vain.
    fn stop(&mut self, asks: &[Ask]) {
        self.asked.retain(|asked| {
            let superfluous = asks.contains(&asked.ask);
            if superfluous {
                asked.fetching.abort();
            }
            !superfluous
        });
    }

    /// Carries out what the scheduler wants.
    fn obey(&mut self) {
        if let Some(total) = self.orders.total
            && let Err(error) = self.learn_total(total)
        {
            warn!(task = %self.task.id, "the cluster says that the content has {total} bytes: {error}");
        }
        // Other clients' peers want to be told which pieces are wanted.
        if self.layout.is_none() {
            self.learn_layout();
            if self.layout.is_some() {
                return;
            }
        }
        self.take_grants();
        self.take_parents();
        self.task.advance();
    }

    fn learn_total(&self, total: u64) -> Result<(), String> {
        let entry = {
            let state = self.task.state.lock();
            // Once what peers sent was wrong, the origin alone tells.
            if state.generation > 0 {
                return Ok(());
            }
            Arc::clone(&state.entry)
        };
        match entry.total() {
            Some(known) if known == total => Ok(()),
            Some(known) => Err(format!("the origin says {known}, and is believed")),
            None => entry.set_total(total).map_err(|error| error.to_string()),
        }
    }

    fn take_grants(&mut self) {
        // Before the length is known only the first answer runs, which stays within its range.
        let Some(layout) = self.layout else { return };
        let starved = self.patience.stays_alone(self.now());
        if self.membership.is_none() || starved {
            return;
        }
        let granted = self.orders.origin.iter().map(|pieces| layout.bytes(pieces)).collect();
        let (changed, failed) = {
            let mut state = self.task.state.lock();
            let Some(swarm) = state.swarm.as_mut().filter(|swarm| !swarm.closed) else { return };
            let failed = swarm.origin_failed.is_some();
            let changed = swarm.alone || swarm.granted != granted;
            swarm.granted = granted;
            swarm.alone = false;
            (changed, failed)
        };
        let now = self.now();
        if let Some(picker) = &mut self.picker {
            // What the origin does not give, parents are asked for.
            picker.set_origin(if failed { &[] } else { &self.orders.origin }, now);
        }
        if changed {
            debug!(task = %self.task.id, "pieces from the origin: {:?}", self.orders.origin);
            self.task.cut_flights();
        }
    }

    fn take_parents(&mut self) {
        let private = self.task.state.lock().meta.private;
        let (mut wanted, mut unproven) = (HashMap::new(), Vec::new());
        let named: Vec<Parent> = self.orders.parents.clone();
        for parent in named.into_iter().filter(|parent| !self.network.is_banned(&parent.host.id)) {
            match self.trust.of(&parent) {
                Take::Nothing => Self::leave(&mut self.left, &mut self.lost, &parent.peer, &parent.host.id),
                _ if !parent.host.keyed && private => {}
                Take::Pieces => {
                    wanted.insert(Arc::clone(&parent.host.id), parent);
                }
                Take::AfterHashes => unproven.push(parent),
            }
        }
        for parent in &unproven {
            self.weigh(parent);
            if self.has_passed(&parent.host.id) {
                wanted.insert(Arc::clone(&parent.host.id), parent.clone());
            }
        }
        unproven.retain(|parent| !wanted.contains_key(&parent.host.id));
        let now = self.now();
        let same = |known: &Listened, parent: &Parent| {
            // Of one that has verified it meanwhile everything is taken, of another not.
            known.peer == parent.peer && (self.generation == 0 || known.complete == parent.complete)
        };
        self.parents.retain(|id, known| wanted.get(id).is_some_and(|parent| same(known, parent)));
        for parent in wanted.values() {
            if self.trust.meet(parent)
                && let Some(picker) = &mut self.picker
            {
                picker.renew(&parent.host.id);
            }
            if let Some(known) = self.parents.get_mut(&parent.host.id) {
                known.complete = parent.complete;
            }
        }
        // Each parent is listened to from the first orders that name it, and again from the next after
        // it could no longer be heard.
        for parent in wanted.values() {
            if !self.parents.contains_key(&parent.host.id) {
                self.listen(parent);
            }
        }
        if let Some(swarm) = &mut self.task.state.lock().swarm {
            // Those first that are known to have all; of others it may not have been told yet. What a stranger
            // says of others counts for nothing.
            let named = wanted.values().chain(&unproven);
            let mut parents: Vec<&Parent> = named.filter(|parent| parent.host.keyed).collect();
            parents.sort_unstable_by_key(|parent| !parent.complete);
            swarm.parents = parents.into_iter().map(|parent| Arc::clone(&parent.host)).collect();
        }
        let hosts: Vec<Arc<str>> = wanted.into_keys().collect();
        if let Some(picker) = &mut self.picker {
            picker.set_parents(&hosts, now);
        }
    }

    /// Tells the scheduler, once, that nothing is taken from a peer, so that it does not count on it.
    fn leave(left: &mut HashSet<Arc<str>>, lost: &mut Vec<Arc<str>>, peer: &str, host: &Arc<str>) {
        if left.insert(peer.into()) {
            lost.push(Arc::clone(host));
        }
    }

    /// Asks a parent that says that it has verified the content for the hashes of the pieces, once.
    fn weigh(&mut self, parent: &Parent) {
        // What a stranger says counts for nothing.
        if !parent.host.keyed
            || self.weighing.len() >= MOST_WEIGHED
            || !self.weighed.insert(Arc::clone(&parent.peer))
        {
            return;
        }
        let (task, network, generation) =
            (Arc::clone(&self.task), Arc::clone(&self.network), self.generation);
        let (parent, peer, asking) =
            (Arc::clone(&parent.host), Arc::clone(&parent.peer), Arc::clone(&self.asking));
        self.weighing.spawn(async move {
            let host = Arc::clone(&parent.id);
            let believed = task.weigh_parent(&*network, parent, generation, &asking).await;
            Weighed { host, peer, generation, believed }
        });
    }

    /// Whether a piece of a host was right when it was tested: as long as not everything has to be proved, that will do
    /// of one that tells no hashes.
    fn has_passed(&self, host: &str) -> bool {
        let state = self.task.state.lock();
        !self.trust.wants_proof() && state.swarm.as_ref().is_some_and(|swarm| swarm.tested.contains(host))
    }

    fn is_weighed(&mut self, weighed: &Weighed) {
        if weighed.generation == self.generation && !weighed.believed && !self.has_passed(&weighed.host) {
            Self::leave(&mut self.left, &mut self.lost, &weighed.peer, &weighed.host);
        }
        // There may be room for the next; where hashes are believed now, that is followed.
        self.take_parents();
    }

    fn listen(&mut self, parent: &Parent) {
        let (host, peer, complete) = (&parent.host, Arc::clone(&parent.peer), parent.complete);
        let (words, id) = (self.heard.0.clone(), Arc::clone(&host.id));
        let pieces = self.layout.map_or(0, |layout| layout.count.div_ceil(UNITS_OF_PIECE));
        let count = self.layout.map_or(MOST_WORDS / 2, |layout| layout.count as usize);
        let (network, parent, task) = (Arc::clone(&self.network), Arc::clone(host), self.task.id.clone());
        let of = Arc::clone(&peer);
        let listening = self.task.tasks.inner.tracker.spawn(async move {
            let told = |what| Word { host: Arc::clone(&id), peer: Arc::clone(&of), what };
            let mut pause = LISTEN_AGAIN;
            let mut heard = loop {
                match network.listen(Arc::clone(&parent), task.clone(), pieces).await {
                    Ok(heard) => break heard,
                    // It has registered as well, and waits for the origin's word or the first byte.
                    Err(Failure::Missing) if pause <= LISTEN_AGAIN_MOST => {
                        tokio::time::sleep(pause).await;
                        pause = pause * 3 / 2;
                    }
                    Err(failure) => return words.send(told(Err(failure))).await.unwrap_or_default(),
                }
            };
            let mut left = 2 * count + 16;
            loop {
                let mut what = heard.next().await.transpose();
                left = left.saturating_sub(1);
                if left == 0 {
                    what = Err(Failure::Wrong);
                }
                let last = !matches!(what, Ok(Some(_)));
                if words.send(told(what)).await.is_err() || last {
                    return;
                }
            }
        });
        let listening = listening.abort_handle();
        let known = Listened { peer, complete, place: None, stock: false, keyed: host.keyed, listening };
        self.parents.insert(Arc::clone(&host.id), known);
    }

    fn hear(&mut self, word: Word) {
        let now = self.now();
        // It may be another attempt by now.
        let parent = self.parents.get_mut(&word.host).filter(|parent| parent.peer == word.peer);
        let Some(parent) = parent else { return };
        match word.what {
            // After something was wrong, those are asked who know better than this node did.
            Ok(Some(ref offer)) if !parent.complete && !self.trust.takes_round(round_of(offer)) => {
                let peer = Arc::clone(&parent.peer);
                Self::leave(&mut self.left, &mut self.lost, &peer, &word.host);
            }
            Ok(Some(Offer::All { have, total, from, .. })) => {
                parent.place = Some(from);
                if self.orders.total.is_none() && self.layout.is_none() {
                    // The first to know: the parent's word counts until the content is checked.
                    let _ = self.learn_total(total);
                    self.learn_layout();
                }
                let (Some(layout), Some(picker)) = (&self.layout, &mut self.picker) else { return };
                if layout.total == total {
                    picker.offers(&word.host, &Pieces::from_bytes(&have, layout.count), now);
                } else {
                    warn!(task = %self.task.id, "{} says that the content has {total} bytes, it has {}; not asked", word.host, layout.total);
                    picker.lost(&word.host, now);
                    if let Some(parent) = self.parents.get(&word.host) {
                        parent.listening.abort();
                    }
                }
            }
            Ok(Some(Offer::One { number, from })) => {
                (parent.place, parent.stock) = (Some(from), true);
                let (Some(layout), Some(picker)) = (&self.layout, &mut self.picker) else { return };
                picker.offer_whole(&word.host, layout.units_of(number), now);
            }
            // It has told all; what it offered stays good.
            Ok(None) => {}
            Err(Failure::Wrong) => {
                if let Some(picker) = &mut self.picker {
                    picker.convict(&word.host);
                }
                self.ban(&word.host, "tells of pieces that there cannot be");
            }
            Err(_) => {
                debug!(task = %self.task.id, "{} can no longer be heard", word.host);
                if let Some(picker) = &mut self.picker {
                    picker.lost(&word.host, now);
                }
                self.parents.remove(&word.host);
            }
        }
    }

    /// A host is not to be asked any more, for whatever task.
    fn ban(&mut self, host: &Arc<str>, why: &str) {
        self.parents.remove(host);
        if !self.network.is_banned(host) {
            warn!(task = %self.task.id, "{host} {why} and is not asked any more; look at that node's version, memory and disk, or remove it from the cluster");
            self.network.ban(host);
        }
    }

    /// Asks for as many pieces as may be under way.
    fn ask_on(&mut self) {
        let Some(layout) = self.layout else { return };
        let first = self.first_missing(&layout);
        loop {
            let now = self.now();
            let Some(picker) = &mut self.picker else { return };
            let len = |late: bool| -> u64 {
                let counts = |asked: &&Asked| late || picker.hopes_for(&asked.ask, now);
                self.asked.iter().filter(counts).map(|asked| asked.len).sum()
            };
            // What is late takes no place from others; within limits, for it may come all the same.
            let full = len(false) + layout.piece > BUFFER || len(true) + layout.piece > BUFFER * 2;
            if !self.asked.is_empty() && full {
                return;
            }
            let Some(ask) = picker.next(first, now) else { return };
            match self.parents.get(&ask.host) {
                // Another download has found it out meanwhile.
                Some(_) if self.network.is_banned(&ask.host) => picker.failed(&ask, Failure::Wrong, now),
                Some(&Listened { place: Some(place), stock, keyed, .. }) => {
                    self.ask(ask, place, (stock, keyed), &layout);
                }
                _ => picker.failed(&ask, Failure::Missing, now),
            }
        }
    }

    fn first_missing(&self, layout: &Layout) -> u32 {
        let entry = Arc::clone(&self.task.state.lock().entry);
        layout.piece_at(entry.contiguous_from(0))
    }

    fn ask(&mut self, ask: Ask, place: std::net::SocketAddr, (stock, keyed): (bool, bool), layout: &Layout) {
        let piece = ask.piece / UNITS_OF_PIECE;
        let (number, units) = match stock {
            true => (piece, layout.units_of(piece)),
            false => (ask.piece, ask.piece..ask.piece + 1),
        };
        let range = layout.bytes(&units);
        let wanted = WantedPiece {
            task: self.task.id.clone(),
            number,
            stock,
            keyed,
            range: ByteRange { start: range.start, end: range.end },
        };
        let complete = self.parents.get(&ask.host).is_some_and(|parent| parent.complete);
        let from = AskedOf { host: Arc::clone(&ask.host), complete, generation: self.generation };
        let (layout, len) = (*layout, range.end - range.start);
        let fetching = self.network.fetch(place, wanted);
        let (task, began, asked) = (Arc::clone(&self.task), Instant::now(), ask.clone());
        let fetching = self.asks.spawn(async move {
            let fetched = fetching.await;
            let took = began.elapsed();
            let outcome = match fetched {
                Err(failure) => Err(Trouble::Peer(failure)),
                Ok(chunks) => task.store_units(&from, units.clone(), &layout, chunks).await,
            };
            Answer { ask: asked, units, took, outcome }
        });
        self.asked.push(Asked { ask, len, stock, fetching });
    }

    fn answered(&mut self, answer: Answer) {
        let Answer { ask, units, took, outcome } = answer;
        self.asked.retain(|asked| asked.ask != ask);
        let now = self.now();
        let Some(picker) = &mut self.picker else { return };
        match outcome {
            Ok(len) => {
                self.patience.fed();
                debug!(task = %self.task.id, parent = %ask.host, "piece {} came, {len} bytes in {took:?}", ask.piece);
                picker.came(&ask, len, took, now);
                self.stop_superfluous(units);
                if self.picker.as_ref().is_some_and(|picker| picker.have().is_full()) {
                    self.task.advance();
                }
            }
            Err(Trouble::Peer(failure)) => {
                picker.failed(&ask, failure, now);
                self.task.tasks.metrics().peer_failed(counted(failure));
                if failure == Failure::Wrong {
                    self.ban(&ask.host, &format!("sent something else for piece {}", ask.piece));
                } else {
                    info!(task = %self.task.id, "piece {} did not come from {}: {failure:?}", ask.piece, ask.host);
                }
            }
            Err(Trouble::Doubtful) => {
                info!(task = %self.task.id, "piece {} of {} is not what it should be", ask.piece, ask.host);
                picker.failed(&ask, Failure::Broken, now);
                // Of a whole piece, some units may have been what they should be.
                let here = self.which_are_here(units);
                self.stop_superfluous(here);
            }
            // Whoever was first is named as the sender; this one did what it was asked.
            Err(Trouble::Late) => picker.came(&ask, 0, took, now),
            Err(Trouble::Store(error)) => {
                warn!(task = %self.task.id, "streaming on without the store: {error}");
                self.task.end(Outcome::Unstored);
            }
        }
    }

    /// An ask ended without an answer: it was stopped from here, or it panicked.
    fn lost(&mut self, id: tokio::task::Id) {
        let Some(at) = self.asked.iter().position(|asked| asked.fetching.id() == id) else { return };
        let Asked { ask, .. } = self.asked.swap_remove(at);
        let now = self.now();
        if let Some(picker) = &mut self.picker {
            picker.failed(&ask, Failure::Broken, now);
        }
    }

    /// Tells the scheduler what is here, if that or anything else is new.
    fn report(&mut self) {
        if let Some(picker) = &mut self.picker {
            let (wrong, lost) = picker.reports();
            self.wrong.extend(wrong);
            self.lost.extend(lost);
        }
        self.wrong.extend(self.task.take_wrong());
        let no_origin = {
            let state = self.task.state.lock();
            state.swarm.as_ref().is_some_and(|swarm| swarm.origin_failed.is_some())
        };
        let newly = no_origin && !std::mem::replace(&mut self.no_origin, no_origin);
        if newly {
            // From now on it counts what peers bring.
            self.moved.0 = Instant::now();
            let now = self.now();
            if let Some(picker) = &mut self.picker {
                picker.set_origin(&[], now);
            }
        }
        let Some(membership) = &self.membership else { return };
        let here = self.picker.as_ref().map_or(0, |picker| picker.have().present());
        let more = !self.wrong.is_empty() || !self.lost.is_empty() || here != self.told || newly;
        if !std::mem::take(&mut self.news) && !more {
            return;
        }
        self.told = here;
        let have = self.picker.as_ref().map(|picker| picker.have().clone()).unwrap_or_default();
        let state = self.task.state.lock();
        let told = Told {
            total: state.entry.total(),
            whole_only: state.whole_only,
            no_origin,
            wants_proof: self.trust.wants_proof(),
            have,
            wrong_hosts: std::mem::take(&mut self.wrong),
            lost_hosts: std::mem::take(&mut self.lost),
        };
        drop(state);
        membership.tell(told);
    }

    fn scheduler_lost(&mut self) {
        info!(task = %self.task.id, "the scheduler is gone, looking for the next");
        self.membership = None;
        self.join_at = Some(Instant::now());
    }

    fn join_again(&mut self) {
        let due = self.join_at.is_some_and(|at| at <= Instant::now());
        if self.joining.is_some() || self.membership.is_some() || !due {
            return;
        }
        let have = self.picker.as_ref().map(|picker| picker.have().clone()).unwrap_or_default();
        let join = self.task.join_request(have, self.network.peer_id());
        self.joining = Some(self.network.join(Join { wants_proof: self.trust.wants_proof(), ..join }));
    }

    fn joined(&mut self, membership: Option<Box<dyn Membership>>) {
        self.joining = None;
        self.join_at = None;
        if membership.is_none() {
            self.join_at = Some(Instant::now() + self.rejoin);
            self.rejoin = (self.rejoin * 2).min(REJOIN_MOST);
            if self.parents.is_empty() {
                self.go_alone("no scheduler answers");
            }
        }
        self.told = u32::MAX;
        self.left.clear();
        self.membership = membership;
    }

    /// Fetches from the origin whatever is missing, as if there were no cluster.
    fn go_alone(&self, why: &str) {
        let changed = {
            let mut state = self.task.state.lock();
            let Some(swarm) = &mut state.swarm else { return };
            !std::mem::replace(&mut swarm.alone, true)
        };
        if changed {
            info!(task = %self.task.id, "{why}: back to source");
            self.task.advance();
        }
    }

    /// Where nothing comes any more, the origin is asked for everything; where it gives nothing
    /// either, the download has failed.
    fn give_up_waiting(&mut self) {
        let waited = self.moved.0.elapsed();
        let waiting = Waiting {
            waited,
            age: self.now(),
            // A whole piece counts when all of it is here.
            whole: self.asked.iter().any(|asked| asked.stock),
            several: self.parents.len() > 1,
        };
        if !self.patience.is_over(waiting, &self.trust) {
            return;
        }
        let (alone, failed, busy) = {
            let state = self.task.state.lock();
            let Some(swarm) = &state.swarm else { return };
            (swarm.alone, swarm.origin_failed.clone(), state.settling)
        };
        match failed {
            _ if busy => {}
            Some(error) if self.asked.is_empty() || waited > HOPE => {
                self.task.end_logged(Outcome::Failed(error));
            }
            Some(_) => {}
            None if !alone => {
                self.patience.go_alone(self.now(), &self.trust);
                self.go_alone("nothing has come from peers for a while");
            }
            None => {}
        }
    }

    fn end(mut self) {
        let outcome = self.task.state.lock().outcome.clone();
        self.asks.abort_all();
        self.parents.clear();
        let verified = matches!(outcome, Some(Outcome::Verified));
        self.news |= verified;
        self.report();
        match (self.membership.take(), verified) {
            (Some(membership), true) => membership.finish(),
            (Some(membership), false) => membership.fail("the download ended"),
            (None, _) => {}
        }
    }
}

impl Task {
    /// Writes what came of these units, each for itself.
    async fn store_units(
        self: &Arc<Self>,
        from: &AskedOf,
        units: Range<u32>,
        layout: &Layout,
        mut chunks: Vec<Bytes>,
    ) -> Result<u64, Trouble> {
        if units.len() == 1 {
            return self.store_piece(from, units.start, layout, chunks).await;
        }
        let mut stored = 0;
        for unit in units {
            let range = layout.range(unit);
            let mut left = range.end - range.start;
            // Parts end where units do.
            let of_unit = chunks.iter().take_while(|chunk| {
                let more = left > 0;
                left = left.saturating_sub(chunk.len() as u64);
                more
            });
            let rest = chunks.split_off(of_unit.count());
            let this = std::mem::replace(&mut chunks, rest);
            match self.store_piece(from, unit, layout, this).await {
                Ok(len) => stored += len,
                Err(Trouble::Late) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(stored)
    }

    /// Writes a piece away from the conductor.
    async fn store_piece(
        self: &Arc<Self>,
        from: &AskedOf,
        piece: u32,
        layout: &Layout,
        chunks: Vec<Bytes>,
    ) -> Result<u64, Trouble> {
        let sender = Sender { host: Arc::clone(&from.host), complete: from.complete };
        match self.examine(piece, &sender, layout, &chunks).await {
            Verdict::Taken => {}
            Verdict::Refused => return Err(Trouble::Doubtful),
            Verdict::Replaced(bytes) => return Err(self.store_right(from, piece, layout, bytes).await),
        }
        let len: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let start = layout.range(piece).start;
        let (task, from) = (Arc::clone(self), from.clone());
        let write = move || {
            let Some(entry) = task.take_from(piece, sender, from.generation, len) else {
                return Err(Trouble::Late);
            };
            let written = task.write_piece(&entry, start, &chunks).map_err(Trouble::Store);
            if let Ok(0) = written {
                task.took_nothing(piece, from.generation, len);
            }
            // Here, for the last piece may end the task before anybody waits for this.
            if written.is_ok() {
                task.count_from_peer(&from.host, len);
            }
            // Whether or not the conductor waits for this ask still.
            if entry.is_whole() {
                task.advance();
            }
            written
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(_)) => Ok(len),
            Ok(Err(trouble)) => Err(trouble),
            Err(lost) => Err(Trouble::Store(WriteError::Io(std::io::Error::other(lost)))),
        }
    }

    /// Writes what the origin sent for a piece that came wrong.
    async fn store_right(
        self: &Arc<Self>,
        from: &AskedOf,
        piece: u32,
        layout: &Layout,
        bytes: Vec<u8>,
    ) -> Trouble {
        let entry = {
            let state = self.state.lock();
            let same = state.generation == from.generation && state.outcome.is_none();
            same.then(|| Arc::clone(&state.entry))
        };
        let Some(entry) = entry else { return Trouble::Late };
        let (task, start) = (Arc::clone(self), layout.range(piece).start);
        let write = move || {
            let written = task.write_piece(&entry, start, &[Bytes::from(bytes)]);
            if entry.is_whole() {
                task.advance();
            }
            written
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(_)) => Trouble::Doubtful,
            Ok(Err(error)) => Trouble::Store(error),
            Err(lost) => Trouble::Store(WriteError::Io(std::io::Error::other(lost))),
        }
    }

    fn count_from_peer(&self, host: &Arc<str>, len: u64) {
        let metrics = self.tasks.metrics();
        metrics.from_peer(len);
        metrics.ledger().from_parent(host, len);
        self.book.saved_bytes(len);
    }

    /// Notes, before it can be read, that a piece comes from a peer; where it is to be written. `None`
    /// if another has sent it before, or the content has been begun anew since it was asked for.
    fn take_from(&self, piece: u32, sender: Sender, generation: u32, len: u64) -> Option<Arc<Entry>> {
        let mut state = self.state.lock();
        if state.generation != generation || state.outcome.is_some() {
            return None;
        }
        let swarm = state.swarm.as_mut().filter(|swarm| !swarm.closed)?;
        // One sender for each piece: whoever is blamed for it later sent all of it that was missing.
        if swarm.senders.contains_key(&piece) {
            return None;
        }
        swarm.senders.insert(piece, sender);
        swarm.from_peers += len;
        self.from_peers.fetch_add(len, Ordering::Relaxed);
        let entry = Arc::clone(&state.entry);
        if !state.meta.unproven {
            let meta = TaskMeta { unproven: true, ..TaskMeta::clone(&state.meta) };
            entry.set_meta(meta.to_bytes());
            state.meta = Arc::new(meta);
        }
        Some(entry)
    }

    /// Nothing of a piece was missing when it came.
    fn took_nothing(&self, piece: u32, generation: u32, len: u64) {
        let mut state = self.state.lock();
        let same = state.generation == generation;
        if let Some(swarm) = state.swarm.as_mut().filter(|_| same) {
            swarm.senders.remove(&piece);
            swarm.from_peers = swarm.from_peers.saturating_sub(len);
            self.from_peers.fetch_sub(len, Ordering::Relaxed);
        }
    }

    /// What is told to a scheduler at first.
    pub(crate) fn join_request(&self, have: Pieces, peer: String) -> Join {
        let state = self.state.lock();
        Join {
            task: self.id.clone(),
            peer,
            url: public_url(&self.first.fetch.url),
            total: state.entry.total(),
            have,
            private: state.meta.private,
            wants_proof: false,
        }
    }

    /// Whether this task may take part in a swarm: what cannot be checked is not taken from peers.
    pub(crate) fn can_swarm(&self) -> bool {
        self.tasks.network().is_some() && self.first.is_shared()
    }
}

/// How often a peer has begun anew; one of another kind never says so.
const fn round_of(offer: &Offer) -> u32 {
    match offer {
        Offer::All { round, .. } => *round,
        Offer::One { .. } => 0,
    }
}

/// A failure as it is counted.
const fn counted(failure: Failure) -> PieceFailure {
    match failure {
        Failure::Broken => PieceFailure::Broken,
        Failure::Missing => PieceFailure::Missing,
        Failure::Wrong => PieceFailure::Wrong,
    }
}
