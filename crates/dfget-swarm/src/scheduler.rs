//! The scheduler's core: hosts, swarms, peers in; orders out.

mod member;
mod swarm;

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use self::member::{Kind, Member, State};
use self::swarm::{Context, Swarm};
use crate::pieces::Pieces;
use crate::words::{HostInfo, Parent, SwarmKey};

/// So many hosts must have had wrong pieces from a host until nobody gets it any more, and more than still ask it:
/// some may slander.
const ACCUSERS: usize = 2;

/// A host's word against others counts for so many of them.
const ACCUSATIONS: u32 = 16;

/// How long a host that others accuse is handed to nobody the first time, four times as long each time after; it may
/// be honest. Who has proof keeps away from it by itself.
const BANNED_FIRST: Duration = Duration::from_secs(120);

/// How long at most.
const BANNED: Duration = Duration::from_secs(3600);

/// How long a peer does not get a host again that it could not reach.
const LOST: Duration = Duration::from_secs(15);

/// How the scheduler decides.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerOptions {
    /// Peers of one swarm that fetch from the origin at once.
    pub most_at_origin: usize,
    /// Candidate parents for one peer.
    pub most_parents: usize,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self { most_at_origin: 4, most_parents: 8 }
    }
}

/// A peer that begins.
#[derive(Clone, Debug)]
pub struct Register {
    /// Its swarm.
    pub key: SwarmKey,
    /// Its id.
    pub peer: Arc<str>,
    /// The host it is on, which has been announced.
    pub host: Arc<str>,
    /// Length of the content in bytes, if it knows.
    pub total: Option<u64>,
    /// What it has, if it takes orders: a daemon of our own. `None` = another client of the
    /// protocol, which knows parents or the origin and nothing between.
    pub have: Option<Pieces>,
    /// It fetches with a credential.
    pub private: bool,
    /// It takes nothing without proof: what peers sent was wrong too often.
    pub wants_proof: bool,
    /// It only announces what it has (`metadata_only`).
    pub metadata_only: bool,
    /// It insists on the origin (`need_back_to_source`).
    pub back_to_source: bool,
}

/// What a peer tells later.
#[derive(Clone, Debug)]
pub enum Report {
    /// Of a peer that takes orders: the whole of what it has.
    Progress {
        /// Whole pieces; empty as long as the total is unknown.
        have: Pieces,
        /// Length of the content in bytes, once known.
        total: Option<u64>,
        /// The origin takes no notice of ranges.
        whole_only: bool,
        /// It can fetch nothing from the origin.
        no_origin: bool,
        /// It takes nothing without proof.
        wants_proof: bool,
        /// Hosts whose piece was wrong.
        wrong_hosts: Vec<Arc<str>>,
        /// Hosts that could not be reached or were too slow.
        lost_hosts: Vec<Arc<str>>,
    },
    /// Of another client: it fetches from peers, or has what it announced.
    Started,
    /// Of another client: it fetches from the origin.
    BackToSourceStarted,
    /// Of another client: it has this piece.
    Piece(u32),
    /// Of another client: this parent did not give a piece.
    PieceFailed {
        /// The peer that did not.
        parent: Arc<str>,
    },
    /// Of another client: these parents are used up.
    Reschedule {
        /// The peers.
        parents: Vec<Arc<str>>,
    },
    /// It has all.
    Finished,
    /// It gave up.
    Failed,
    /// Its stream broke off.
    Gone,
}

/// What a peer is to be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Order {
    /// Who.
    pub peer: Arc<str>,
    /// What.
    pub what: What,
}

/// What a peer is to be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// Parents to ask, and for a peer that takes orders the pieces that it has to fetch from the
    /// origin. Replaces what it was told before.
    Parents {
        /// The candidates, best first.
        parents: Vec<Parent>,
        /// Pieces from the origin, in order; the end `u32::MAX` = to the last one.
        origin: Vec<Range<u32>>,
        /// Length of the content in bytes, if anybody knows.
        total: Option<u64>,
    },
    /// To the origin for all that is missing (other clients).
    BackToSource(&'static str),
    /// The content is empty.
    Empty,
    /// The announcement is noted.
    MetadataOnly,
    /// The stream is to be ended well.
    Close,
    /// The stream is to be ended with an error; the text says why.
    Refuse(&'static str),
}

/// Hosts and swarms, and who is to do what.
///
/// After every call, [`Self::due`] says when to call [`Self::tick`] next.
#[derive(Debug)]
pub struct Scheduler {
    options: SchedulerOptions,
    random: fastrand::Rng,
    hosts: HashMap<Arc<str>, Host>,
    peers: HashMap<Arc<str>, (u32, u32)>,
    keys: HashMap<SwarmKey, u32>,
    tasks: HashMap<Arc<str>, Vec<u32>>,
    swarms: Vec<Option<(SwarmKey, Swarm)>>,
    free: Vec<u32>,
    agenda: BTreeSet<(Duration, u32)>,
    /// When each swarm stands in the agenda.
    dues: Vec<Option<Duration>>,
}

/// A host, and what is said of it.
#[derive(Debug)]
struct Host {
    info: Arc<HostInfo>,
    /// Its members: swarm and slot.
    members: BTreeSet<(u32, u32)>,
    /// Hosts that had wrong pieces from it.
    accusers: Vec<Arc<str>>,
    /// How many hosts it has accused.
    accused: u32,
    banned: Option<Duration>,
    /// How often it was.
    bans: u32,
}

impl Scheduler {
    /// A scheduler that knows nobody yet. `seed` is for what it leaves to chance.
    #[must_use]
    pub fn new(options: SchedulerOptions, seed: u64) -> Self {
        Self {
            options,
            random: fastrand::Rng::with_seed(seed),
            hosts: HashMap::new(),
            peers: HashMap::new(),
            keys: HashMap::new(),
            tasks: HashMap::new(),
            swarms: Vec::new(),
            free: Vec::new(),
            agenda: BTreeSet::new(),
            dues: Vec::new(),
        }
    }

    /// Notes a host, or what has changed of it.
    pub fn announce(&mut self, host: HostInfo, now: Duration) {
        let info = Arc::new(host);
        let Some(known) = self.hosts.get_mut(&info.id) else {
            let host = Host {
                info: info.clone(),
                members: BTreeSet::new(),
                accusers: Vec::new(),
                accused: 0,
                banned: None,
                bans: 0,
            };
            self.hosts.insert(info.id.clone(), host);
            return;
        };
        if known.banned.is_some_and(|until| until <= now) {
            known.banned = None;
            known.accusers.clear();
            for (swarm, slot) in known.members.clone() {
                if let Some((_, swarm)) = self.swarms[swarm as usize].as_mut() {
                    swarm.pardon(slot);
                }
            }
        }
        if known.info == info {
            return;
        }
        known.info = info.clone();
        for (swarm, slot) in known.members.clone() {
            if let Some((_, swarm)) = self.swarms[swarm as usize].as_mut() {
                swarm.describe(slot, info.clone());
            }
        }
    }

    /// Whether the host has been announced.
    #[must_use]
    pub fn knows(&self, host: &str) -> bool {
        self.hosts.contains_key(host)
    }

    /// All hosts, in no order.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<HostInfo>> {
        self.hosts.values().map(|host| &host.info)
    }

    /// The hosts that are handed to nobody, because they were caught.
    pub fn banned(&self, now: Duration) -> impl Iterator<Item = &Arc<str>> {
        let banned = move |host: &&Host| host.banned.is_some_and(|until| until > now);
        self.hosts.values().filter(banned).map(|host| &host.info.id)
    }

    /// How many swarms it knows.
    #[must_use]
    pub fn swarms(&self) -> usize {
        self.keys.len()
    }

    /// How many peers and holders it knows, in all swarms.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// When [`Self::tick`] is to be called, if ever.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// Forgets a host and all its peers. What is known against it is kept if it is banned.
    pub fn leave(&mut self, host: &str, now: Duration, orders: &mut Vec<Order>) {
        let Some(known) = self.hosts.get(host) else { return };
        for (swarm, slot) in known.members.clone() {
            self.remove(swarm, slot, now, orders);
        }
        if self.hosts.get(host).is_some_and(|host| host.banned.is_none_or(|until| until <= now)) {
            self.hosts.remove(host);
        }
    }

    /// A host says that it has all of a content, verified.
    pub fn hold(
        &mut self,
        host: &str,
        key: SwarmKey,
        total: u64,
        private: bool,
        now: Duration,
        orders: &mut Vec<Order>,
    ) {
        let Some(known) = self.hosts.get(host) else { return };
        let (info, banned) = (known.info.clone(), known.banned.is_some_and(|until| until > now));
        let swarm = self.swarm(&key, now);
        if self.swarms[swarm as usize].as_ref().is_some_and(|(_, swarm)| swarm.denies(total, info.keyed)) {
            return;
        }
        let mine: Vec<u32> =
            known_slots(self.hosts.get(host), swarm).filter(|&slot| self.is_done(swarm, slot)).collect();
        if let Some(&slot) = mine.first() {
            self.with(swarm, now, orders, |swarm, _| swarm.member_mut(slot).private = private);
            return;
        }
        let keyed = info.keyed;
        let task: String = key.task.chars().take(16).collect();
        // Another name each time: who has lost this host is to know that it is back.
        let peer: Arc<str> = format!("{host}-holds-{task}-{swarm}-{}", now.as_millis()).into();
        let mut member = Member::new(peer, info, Kind::Holder, State::Complete, now);
        member.private = private;
        member.banned = banned;
        self.add(swarm, member, now, orders, |swarm, slot, context| {
            swarm.learn_total(total, keyed, context);
            swarm.find_children(slot, context);
            swarm.finish(slot, context);
        });
    }

    /// A host no longer has it, in whatever swarm of the task.
    pub fn drop_task(&mut self, host: &str, task: &str, now: Duration, orders: &mut Vec<Order>) {
        let swarms = self.tasks.get(task).cloned().unwrap_or_default();
        for swarm in swarms {
            let slots: Vec<u32> =
                known_slots(self.hosts.get(host), swarm).filter(|&slot| self.is_done(swarm, slot)).collect();
            for slot in slots {
                self.remove(swarm, slot, now, orders);
            }
        }
    }

    /// A peer begins.
    pub fn register(&mut self, register: Register, now: Duration, orders: &mut Vec<Order>) {
        let refuse = |why| Order { peer: register.peer.clone(), what: What::Refuse(why) };
        let Some(host) = self.hosts.get(&register.host) else {
            orders.push(refuse("host not found"));
            return;
        };
        let (info, banned) = (host.info.clone(), host.banned.is_some_and(|until| until > now));
        if let Some(&(swarm, slot)) = self.peers.get(&register.peer) {
            if self.member(swarm, slot).is_some_and(|member| member.host.id != register.host) {
                orders.push(refuse("the id of this peer is another's"));
                return;
            }
            self.remove(swarm, slot, now, orders);
        }
        let swarm = self.swarm(&register.key, now);
        // Who fetches it has it no more; unless it says that it does.
        let gone: Vec<u32> = known_slots(self.hosts.get(&register.host), swarm)
            .filter(|&slot| self.is_done(swarm, slot))
            .collect();
        if !register.metadata_only && register.have.as_ref().is_none_or(|have| !have.is_full()) {
            for slot in gone {
                self.remove(swarm, slot, now, orders);
            }
        }
        // The last member may have gone, and the swarm with it.
        let swarm = self.swarm(&register.key, now);
        let ours = register.have.is_some();
        let kind = if ours { Kind::Ours } else { Kind::Stock };
        let state = if ours { State::Pulling } else { State::Announcing };
        let mut member = Member::new(register.peer.clone(), info, kind, state, now);
        member.private = register.private;
        member.wants_proof = register.wants_proof;
        member.banned = banned;
        self.add(swarm, member, now, orders, |swarm, slot, context| {
            if let Some(total) = register.total {
                swarm.learn_total(total, false, context);
            }
            if let Some(have) = register.have {
                swarm.begin(slot, have);
                swarm.start(slot, context);
            } else if register.metadata_only {
                context.orders.push(Order { peer: register.peer, what: What::MetadataOnly });
            } else if register.total == Some(0) {
                context.orders.push(Order { peer: register.peer, what: What::Empty });
            } else {
                swarm.start_stock(slot, register.back_to_source, context);
            }
        });
    }

    /// A peer tells something.
    pub fn report(&mut self, peer: &str, report: Report, now: Duration, orders: &mut Vec<Order>) {
        let Some(&(swarm, slot)) = self.peers.get(peer) else {
            if !matches!(report, Report::Gone | Report::Finished | Report::Failed) {
                orders.push(Order { peer: peer.into(), what: What::Refuse("peer not found") });
            }
            return;
        };
        match report {
            Report::Progress { have, total, whole_only, no_origin, wants_proof, wrong_hosts, lost_hosts } => {
                self.with(swarm, now, orders, |swarm, context| {
                    let news = total.is_some_and(|total| swarm.learn_total(total, false, context));
                    swarm.progress(slot, &have, context);
                    if news {
                        swarm.plan(context);
                    }
                    for host in lost_hosts {
                        swarm.part(slot, &host, now + LOST, context);
                    }
                    swarm.set_wants_proof(slot, wants_proof, context);
                    if whole_only {
                        swarm.set_whole_only(slot, context);
                    }
                    if no_origin {
                        swarm.set_no_origin(slot, context);
                    }
                });
                for host in wrong_hosts {
                    self.accuse(swarm, slot, &host, now, orders);
                }
            }
            Report::Started => self.with(swarm, now, orders, |swarm, context| swarm.started(slot, context)),
            Report::BackToSourceStarted => {
                self.with(swarm, now, orders, |swarm, context| swarm.at_origin_now(slot, context));
            }
            Report::Piece(piece) => {
                self.with(swarm, now, orders, |swarm, context| swarm.stock_piece(slot, piece, context.now));
            }
            Report::PieceFailed { parent } => self.part_peers(swarm, slot, &[parent], now, orders),
            Report::Reschedule { parents } => {
                self.part_peers(swarm, slot, &parents, now, orders);
                self.with(swarm, now, orders, |swarm, context| swarm.start_stock(slot, false, context));
            }
            Report::Finished => {
                self.with(swarm, now, orders, |swarm, context| swarm.finish(slot, context));
                orders.push(Order { peer: peer.into(), what: What::Close });
            }
            Report::Failed => {
                self.remove(swarm, slot, now, orders);
                orders.push(Order { peer: peer.into(), what: What::Close });
            }
            Report::Gone if self.is_done(swarm, slot) => {}
            Report::Gone => self.remove(swarm, slot, now, orders),
        }
    }

    /// What is due by time alone. Returns when to be called next, if ever.
    pub fn tick(&mut self, now: Duration, orders: &mut Vec<Order>) -> Option<Duration> {
        while let Some(&(at, swarm)) = self.agenda.first().filter(|(at, _)| *at <= now) {
            self.agenda.remove(&(at, swarm));
            self.dues[swarm as usize] = None;
            self.with(swarm, now, orders, |swarm, context| swarm.tick(context));
        }
        self.due()
    }

    // --- books ---

    /// The swarm of a key, made if there is none.
    fn swarm(&mut self, key: &SwarmKey, now: Duration) -> u32 {
        if let Some(&at) = self.keys.get(key) {
            return at;
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.swarms.push(None);
            self.dues.push(None);
            u32::try_from(self.swarms.len() - 1).unwrap_or(u32::MAX)
        });
        self.swarms[at as usize] = Some((key.clone(), Swarm::new(now)));
        self.keys.insert(key.clone(), at);
        self.tasks.entry(key.task.clone()).or_default().push(at);
        at
    }

    fn member(&self, swarm: u32, slot: u32) -> Option<&Member> {
        self.swarms[swarm as usize].as_ref().map(|(_, swarm)| swarm.member(slot))
    }

    fn is_done(&self, swarm: u32, slot: u32) -> bool {
        self.member(swarm, slot).is_some_and(|member| member.state == State::Complete)
    }

    /// Does something with a swarm, and notes when it wants to be called next; drops it if it is empty.
    fn with<T: Default>(
        &mut self,
        at: u32,
        now: Duration,
        orders: &mut Vec<Order>,
        act: impl FnOnce(&mut Swarm, &mut Context<'_>) -> T,
    ) -> T {
        let Some((key, swarm)) = self.swarms[at as usize].as_mut() else { return T::default() };
        let mut context = Context { options: &self.options, random: &mut self.random, now, orders };
        let result = act(swarm, &mut context);
        let due = swarm.due().filter(|_| !swarm.is_empty());
        if swarm.is_empty() {
            self.keys.remove(key);
            if let Some(swarms) = self.tasks.get_mut(&key.task) {
                swarms.retain(|&other| other != at);
                if swarms.is_empty() {
                    self.tasks.remove(&key.task);
                }
            }
            self.swarms[at as usize] = None;
            self.free.push(at);
        }
        let before = &mut self.dues[at as usize];
        if *before != due {
            if let Some(before) = *before {
                self.agenda.remove(&(before, at));
            }
            if let Some(due) = due {
                self.agenda.insert((due, at));
            }
            *before = due;
        }
        result
    }

    fn add(
        &mut self,
        swarm: u32,
        member: Member,
        now: Duration,
        orders: &mut Vec<Order>,
        begin: impl FnOnce(&mut Swarm, u32, &mut Context<'_>),
    ) {
        let (peer, host) = (member.peer.clone(), member.host.id.clone());
        let slot = self.with(swarm, now, orders, |swarm, context| {
            let slot = swarm.add(member);
            begin(swarm, slot, context);
            slot
        });
        self.peers.insert(peer, (swarm, slot));
        if let Some(host) = self.hosts.get_mut(&host) {
            host.members.insert((swarm, slot));
        }
    }

    fn remove(&mut self, swarm: u32, slot: u32, now: Duration, orders: &mut Vec<Order>) {
        let Some(host) = self.member(swarm, slot).map(|member| member.host.id.clone()) else { return };
        if let Some(host) = self.hosts.get_mut(&host) {
            host.members.remove(&(swarm, slot));
        }
        let peer = self.with(swarm, now, orders, |swarm, context| Some(swarm.remove(slot, context)));
        if let Some(peer) = peer {
            self.peers.remove(&peer);
        }
    }

    /// Another client's peer had nothing from these.
    fn part_peers(
        &mut self,
        swarm: u32,
        slot: u32,
        peers: &[Arc<str>],
        now: Duration,
        orders: &mut Vec<Order>,
    ) {
        for peer in peers {
            let host = self.peers.get(peer).and_then(|&(other, slot)| self.member(other, slot));
            let Some(host) = host.map(|member| member.host.id.clone()) else { continue };
            self.with(swarm, now, orders, |swarm, context| swarm.part(slot, &host, now + BANNED, context));
        }
    }

    /// A peer had wrong pieces from a host, which counts if it had been told to ask it.
    fn accuse(&mut self, swarm: u32, slot: u32, culprit: &Arc<str>, now: Duration, orders: &mut Vec<Order>) {
        let Some(accuser) = self.member(swarm, slot).map(|member| member.host.id.clone()) else { return };
        let told =
            self.with(swarm, now, orders, |swarm, context| swarm.part(slot, culprit, Duration::MAX, context));
        let Some(host) = self.hosts.get(culprit) else { return };
        if !told || host.accusers.contains(&accuser) {
            return;
        }
        match self.hosts.get_mut(&accuser) {
            Some(host) if host.accused < ACCUSATIONS => host.accused += 1,
            _ => return,
        }
        let Some(host) = self.hosts.get_mut(culprit) else { return };
        host.accusers.push(accuser);
        let accusers = host.accusers.len();
        if accusers < ACCUSERS || accusers <= self.children(culprit) || self.are_many_banned(now) {
            return;
        }
        let Some(host) = self.hosts.get_mut(culprit) else { return };
        if host.banned.is_none_or(|until| until <= now) {
            let longer = 4_u32.saturating_pow(host.bans);
            host.banned = Some(now + BANNED_FIRST.saturating_mul(longer).min(BANNED));
            host.bans += 1;
            for (swarm, slot) in host.members.clone() {
                self.with(swarm, now, orders, |swarm, context| swarm.ban(slot, context));
            }
        }
    }

    /// How many are told to ask a host.
    fn children(&self, host: &str) -> usize {
        let members = self.hosts.get(host).into_iter().flat_map(|host| &host.members);
        members
            .filter_map(|&(swarm, slot)| self.member(swarm, slot))
            .map(|member| member.children.len())
            .sum()
    }

    /// Whether half of all hosts are banned: the others have no better name than these.
    fn are_many_banned(&self, now: Duration) -> bool {
        (self.banned(now).count() + 1) * 2 > self.hosts.len()
    }
}

/// The slots of a host in a swarm.
fn known_slots(host: Option<&Host>, swarm: u32) -> impl Iterator<Item = u32> {
    let all = (swarm, 0)..=(swarm, u32::MAX);
    host.into_iter().flat_map(move |host| host.members.range(all.clone())).map(|(_, slot)| *slot)
}

#[cfg(test)]
mod tests;
