//! The scheduler's core with its clock, and the ways to those that it gives orders.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use dfget_proto::messages::common::v2::{Host, Task};
use dfget_swarm::{HostInfo, Order, Register, Report, Scheduler, SchedulerOptions, What};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::limits;
use crate::mailbox::Mailbox;
use crate::words::{self, Wanted};

/// Everything that the streams of one scheduler share.
#[derive(Debug)]
pub(crate) struct Room {
    /// Made anew at each start.
    pub(crate) instance: String,
    started: Instant,
    state: Mutex<State>,
    /// Something has happened: what is due may have changed.
    happened: Notify,
}

#[derive(Debug)]
struct State {
    core: Scheduler,
    hosts: HashMap<Arc<str>, HostLine>,
    peers: HashMap<Arc<str>, PeerLine>,
    tasks: HashMap<Arc<str>, TaskLine>,
    /// What hosts without the cluster's key have, all together.
    strangers: Strangers,
    generations: u64,
    /// When silent hosts were last looked for.
    swept: Duration,
    orders: Vec<Order>,
}

/// How many there are of hosts without the cluster's key, and of what they have.
#[derive(Debug, Default)]
struct Strangers {
    hosts: usize,
    peers: usize,
    held: usize,
}

/// A host that has announced itself.
#[derive(Debug)]
struct HostLine {
    message: Host,
    keyed: bool,
    /// Silent for twice as long, it is forgotten.
    interval: Duration,
    seen: Duration,
    /// Its downloads that have a stream.
    peers: HashSet<Arc<str>>,
    /// Its Hold stream: the newest one.
    hold: Option<u64>,
    /// Cancelled when a newer Hold stream takes over from that one.
    replaced: CancellationToken,
    /// Tasks that it is known to have.
    held: HashSet<Arc<str>>,
}

/// A download that has a stream.
#[derive(Debug)]
struct PeerLine {
    mailbox: Arc<Mailbox>,
    host: Arc<str>,
    task: Arc<str>,
    /// Takes orders.
    ours: bool,
}

/// What can be said of a task.
#[derive(Debug, Default)]
struct TaskLine {
    total: Option<u64>,
    running: u32,
    holders: u32,
}

/// A host as its announcement describes it, in both forms.
#[derive(Debug)]
pub(crate) struct Announced {
    info: HostInfo,
    message: Host,
    interval: Duration,
}

/// One register message, checked.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) peer: Arc<str>,
    pub(crate) host: Arc<str>,
    pub(crate) wanted: Wanted,
    pub(crate) metadata_only: bool,
    pub(crate) back_to_source: bool,
}

// === impl Announced ===

impl Announced {
    pub(crate) fn read(message: Host, keyed: bool, interval: Option<Duration>) -> Result<Self, Status> {
        let info = words::host_info(&message, keyed)?;
        let interval = interval.unwrap_or(INTERVAL).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
        Ok(Self { info, message, interval })
    }
}

// === impl Room ===

impl Room {
    pub(crate) fn new(options: SchedulerOptions, seed: u64) -> Self {
        let state = State {
            core: Scheduler::new(options, seed),
            hosts: HashMap::new(),
            peers: HashMap::new(),
            tasks: HashMap::new(),
            strangers: Strangers::default(),
            generations: 0,
            swept: Duration::ZERO,
            orders: Vec::new(),
        };
        Self {
            instance: uuid::Uuid::new_v4().to_string(),
            started: Instant::now(),
            state: Mutex::new(state),
            happened: Notify::new(),
        }
    }

    /// Does what time alone brings; never ends.
    pub(crate) async fn keep_time(&self) {
        loop {
            let next = self.with(|state, now| {
                let next = state.core.tick(now, &mut state.orders);
                state.forget_silent(now);
                next.map_or(LONGEST_NAP, |at| at.saturating_sub(now).clamp(SHORTEST_NAP, LONGEST_NAP))
            });
            let _woken = timeout(next, self.happened.notified()).await;
            sleep(SHORTEST_NAP).await;
        }
    }

    /// Notes a host.
    pub(crate) fn announce(&self, announced: Announced) -> Result<(), Status> {
        self.act(|state, now| state.announce(announced, now))
    }

    /// Notes a host that opens a Hold stream, whose number this returns, and what is cancelled when
    /// a newer one takes over; an older one counts no more.
    pub(crate) fn hold_begins(&self, announced: Announced) -> Result<(u64, CancellationToken), Status> {
        self.act(|state, now| {
            let id = announced.info.id.clone();
            state.announce(announced, now)?;
            state.generations += 1;
            let generation = state.generations;
            let Some(line) = state.hosts.get_mut(&id) else {
                return Ok((generation, CancellationToken::new()));
            };
            let before = line.hold.replace(generation).map(|_| line.held.clone());
            let replaced = std::mem::take(&mut line.replaced);
            let token = line.replaced.clone();
            replaced.cancel();
            for task in before.into_iter().flatten() {
                state.drop_task(&id, &task, now);
            }
            Ok((generation, token))
        })
    }

    /// A host tells what it has and no longer has; `false` if another Hold stream has taken over.
    pub(crate) fn hold(&self, host: &str, generation: u64, add: &[Holding], remove: &[String]) -> bool {
        self.act(|state, now| {
            if state.hosts.get(host).is_none_or(|line| line.hold != Some(generation)) {
                return false;
            }
            for task in remove {
                state.drop_task(host, task, now);
            }
            for holding in add {
                state.hold(host, holding, now);
            }
            true
        })
    }

    /// A Hold stream has ended: the host is gone, if it has no newer one.
    pub(crate) fn hold_ends(&self, host: &str, generation: u64) {
        self.act(|state, now| {
            if state.hosts.get(host).is_some_and(|line| line.hold == Some(generation)) {
                state.leave(host, now);
            }
        });
    }

    /// Forgets a host.
    pub(crate) fn leave(&self, host: &str) {
        self.act(|state, now| state.leave(host, now));
    }

    /// Forgets that a host has a task.
    pub(crate) fn drop_task(&self, host: &str, task: &str) {
        self.act(|state, now| state.drop_task(host, task, now));
    }

    /// Whether whoever shows a key or none may speak for this host.
    pub(crate) fn check_voice(&self, host: &str, keyed: bool) -> Result<(), Status> {
        self.with(|state, _| state.check_voice(host, keyed))
    }

    /// A download begins; its answers come to the mailbox.
    pub(crate) fn register(&self, application: Application, keyed: bool) -> Result<Arc<Mailbox>, Status> {
        self.act(|state, now| state.register(application, keyed, now))
    }

    /// A download with a stream tells something.
    pub(crate) fn report(&self, peer: &str, report: Report) {
        self.act(|state, now| state.core.report(peer, report, now, &mut state.orders));
    }

    /// The stream of a download is over, with its last word.
    pub(crate) fn ends(&self, peer: &str, mailbox: &Arc<Mailbox>, last: Report) {
        self.act(|state, now| state.ends(peer, mailbox, last, now));
    }

    /// Forgets a download of a host.
    pub(crate) fn delete_peer(&self, host: &str, peer: &str) {
        self.act(|state, now| {
            let line = state.peers.get(peer).filter(|line| line.host.as_ref() == host);
            if let Some(mailbox) = line.map(|line| line.mailbox.clone()) {
                state.ends(peer, &mailbox, Report::Gone, now);
                mailbox.end(Err(Status::aborted("the peer was deleted")));
            }
        });
    }

    /// What is known of a task.
    pub(crate) fn stat(&self, id: &str) -> Option<Task> {
        self.with(|state, _| {
            let line = state.tasks.get(id)?;
            let total = line.total.unwrap_or(0);
            Some(Task {
                id: id.to_owned(),
                content_length: total,
                piece_count: words::count(total),
                state: if line.holders > 0 { "Succeeded" } else { "Running" }.to_owned(),
                peer_count: line.running.saturating_add(line.holders),
                has_available_peer: line.holders > 0,
                ..Task::default()
            })
        })
    }

    /// All hosts as they announced themselves, those of one type or all.
    pub(crate) fn hosts(&self, kind: Option<u32>) -> Vec<Host> {
        self.with(|state, _| {
            let messages = state.hosts.values().map(|line| &line.message);
            messages.filter(|host| kind.is_none_or(|kind| host.r#type == kind)).cloned().collect()
        })
    }

    /// How many tasks and hosts are known.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.with(|state, _| (state.tasks.len() as u64, state.hosts.len() as u64))
    }

    /// Ends all streams: the daemon is about to stop.
    pub(crate) fn close(&self) {
        self.with(|state, _| {
            for line in state.peers.values() {
                line.mailbox.end(Err(Status::unavailable("the scheduler stops")));
            }
        });
    }

    fn act<T>(&self, what: impl FnOnce(&mut State, Duration) -> T) -> T {
        let result = self.with(what);
        self.happened.notify_one();
        result
    }

    /// Does something, then hands the orders on that came of it.
    fn with<T>(&self, what: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = self.state.lock();
        let result = what(&mut state, self.started.elapsed());
        state.deliver();
        result
    }
}

// === impl State ===

impl State {
    fn check_voice(&self, host: &str, keyed: bool) -> Result<(), Status> {
        match self.hosts.get(host) {
            Some(line) if line.keyed && !keyed => Err(Status::permission_denied(
                "the host is known by the cluster's key, which you have not shown",
            )),
            _ => Ok(()),
        }
    }

    fn announce(&mut self, announced: Announced, now: Duration) -> Result<(), Status> {
        let Announced { info, message, interval } = announced;
        self.check_voice(&info.id, info.keyed)?;
        if !self.hosts.contains_key(&info.id) && self.hosts.len() >= limits::HOSTS {
            return Err(Status::resource_exhausted("too many hosts"));
        }
        match self.hosts.get(&info.id) {
            None if !info.keyed && self.strangers.hosts >= limits::STRANGERS => {
                return Err(Status::resource_exhausted(
                    "too many hosts that have not shown the cluster's key",
                ));
            }
            None => self.strangers.hosts += usize::from(!info.keyed),
            // It has shown the key now.
            Some(line) if !line.keyed && info.keyed => {
                self.strangers.hosts -= 1;
                self.strangers.peers -= line.peers.len();
                self.strangers.held -= line.held.len();
            }
            Some(_) => {}
        }
        let line = self.hosts.entry(info.id.clone()).or_insert_with(|| HostLine {
            message: Host::default(),
            keyed: info.keyed,
            interval,
            seen: now,
            peers: HashSet::new(),
            hold: None,
            replaced: CancellationToken::new(),
            held: HashSet::new(),
        });
        line.keyed |= info.keyed;
        line.message = message;
        line.interval = interval;
        line.seen = now;
        self.core.announce(info, now);
        Ok(())
    }

    fn register(
        &mut self,
        application: Application,
        keyed: bool,
        now: Duration,
    ) -> Result<Arc<Mailbox>, Status> {
        let Application { peer, host, wanted, metadata_only, back_to_source } = application;
        self.check_voice(&host, keyed)?;
        let Some(line) = self.hosts.get_mut(&host).filter(|_| self.core.knows(&host)) else {
            return Err(Status::not_found(format!("host {host} not found")));
        };
        if self.peers.contains_key(&peer) {
            return Err(Status::already_exists(format!("peer {peer} is registered")));
        }
        let most = if line.keyed { limits::PEERS_OF_HOST } else { limits::PEERS_OF_STRANGER };
        let crowd = !line.keyed && self.strangers.peers >= limits::PEERS_OF_STRANGERS;
        if self.peers.len() >= limits::PEERS || line.peers.len() >= most || crowd {
            return Err(Status::resource_exhausted("too many downloads at once"));
        }
        self.strangers.peers += usize::from(!line.keyed);
        line.peers.insert(peer.clone());
        let ours = wanted.have.is_some();
        let mailbox = Arc::new(Mailbox::new(ours));
        let task = wanted.key.task.clone();
        let known = self.tasks.entry(task.clone()).or_default();
        known.total = wanted.total.or(known.total);
        known.running += 1;
        self.peers
            .insert(peer.clone(), PeerLine { mailbox: mailbox.clone(), host: host.clone(), task, ours });
        let total = wanted.total;
        let register = Register {
            key: wanted.key,
            peer,
            host,
            total,
            have: wanted.have,
            private: wanted.private,
            wants_proof: wanted.wants_proof,
            metadata_only,
            back_to_source,
        };
        self.core.register(register, now, &mut self.orders);
        self.deliver();
        if ours && mailbox.is_empty() {
            // Says at least that it is registered.
            mailbox.push(words::parents_response(&[], Some(&[]), total));
        }
        Ok(mailbox)
    }

    fn ends(&mut self, peer: &str, mailbox: &Arc<Mailbox>, last: Report, now: Duration) {
        if self.peers.get(peer).is_none_or(|line| !Arc::ptr_eq(&line.mailbox, mailbox)) {
            return;
        }
        let finished = matches!(last, Report::Finished);
        self.core.report(peer, last, now, &mut self.orders);
        self.deliver();
        let Some(line) = self.peers.remove(peer) else { return };
        if let Some(host) = self.hosts.get_mut(&line.host) {
            self.strangers.peers -= usize::from(host.peers.remove(peer) && !host.keyed);
            host.seen = now;
        }
        if let Some(task) = self.tasks.get_mut(&line.task) {
            task.running = task.running.saturating_sub(1);
        }
        if finished && self.may_hold(&line.host, &line.task) {
            self.note_holder(&line.host, &line.task, None);
        } else if finished {
            self.core.drop_task(&line.host, &line.task, now, &mut self.orders);
        }
        self.sweep_task(&line.task);
    }

    fn hold(&mut self, host: &str, holding: &Holding, now: Duration) {
        if holding.keys.first().is_none_or(|key| !self.may_hold(host, &key.task)) {
            return;
        }
        for key in &holding.keys {
            self.core.hold(host, key.clone(), holding.total, holding.private, now, &mut self.orders);
        }
        if let Some(key) = holding.keys.first() {
            self.note_holder(host, &key.task, Some(holding.total));
        }
    }

    /// Whether it may be noted that a host has a task.
    fn may_hold(&self, host: &str, task: &str) -> bool {
        let Some(line) = self.hosts.get(host) else { return false };
        let most = if line.keyed { limits::HELD } else { limits::HELD_OF_STRANGER };
        let crowd = !line.keyed && self.strangers.held >= limits::HELD_OF_STRANGERS;
        line.held.contains(task) || (line.held.len() < most && !crowd)
    }

    fn note_holder(&mut self, host: &str, task: &Arc<str>, total: Option<u64>) {
        let line = self.hosts.get_mut(host);
        let keyed = line.as_ref().is_some_and(|line| line.keyed);
        let fresh = line.is_some_and(|line| line.held.insert(task.clone()));
        self.strangers.held += usize::from(fresh && !keyed);
        let line = self.tasks.entry(task.clone()).or_default();
        line.total = total.or(line.total);
        line.holders += u32::from(fresh);
    }

    fn drop_task(&mut self, host: &str, task: &str, now: Duration) {
        self.core.drop_task(host, task, now, &mut self.orders);
        let line = self.hosts.get_mut(host);
        let keyed = line.as_ref().is_some_and(|line| line.keyed);
        if line.is_some_and(|line| line.held.remove(task)) {
            self.strangers.held -= usize::from(!keyed);
            if let Some(line) = self.tasks.get_mut(task) {
                line.holders = line.holders.saturating_sub(1);
            }
        }
        self.sweep_task(task);
    }

    fn leave(&mut self, host: &str, now: Duration) {
        let Some(line) = self.hosts.remove(host) else { return };
        if !line.keyed {
            self.strangers.hosts -= 1;
            self.strangers.peers -= line.peers.len();
            self.strangers.held -= line.held.len();
        }
        self.core.leave(host, now, &mut self.orders);
        self.deliver();
        for peer in line.peers {
            let Some(peer) = self.peers.remove(&peer) else { continue };
            peer.mailbox.end(Err(Status::unavailable("the host has left")));
            if let Some(task) = self.tasks.get_mut(&peer.task) {
                task.running = task.running.saturating_sub(1);
            }
            self.sweep_task(&peer.task);
        }
        for task in line.held {
            if let Some(line) = self.tasks.get_mut(&task) {
                line.holders = line.holders.saturating_sub(1);
            }
            self.sweep_task(&task);
        }
    }

    fn sweep_task(&mut self, task: &str) {
        if self.tasks.get(task).is_some_and(|line| line.running == 0 && line.holders == 0) {
            self.tasks.remove(task);
        }
    }

    /// Forgets hosts that have no stream and were silent for two of their intervals.
    fn forget_silent(&mut self, now: Duration) {
        if now < self.swept + LONGEST_NAP {
            return;
        }
        self.swept = now;
        let silent = |line: &HostLine| {
            line.hold.is_none() && line.peers.is_empty() && now > line.seen + line.interval * 2
        };
        let gone: Vec<_> =
            self.hosts.iter().filter(|(_, line)| silent(line)).map(|(id, _)| id.clone()).collect();
        for host in gone {
            tracing::info!(%host, "a host has been silent for too long and is forgotten");
            self.leave(&host, now);
        }
    }

    fn deliver(&mut self) {
        for Order { peer, what } in self.orders.drain(..) {
            let Some(line) = self.peers.get(&peer) else { continue };
            match what {
                What::Parents { parents, origin, total } => {
                    let origin = line.ours.then_some(origin.as_slice());
                    line.mailbox.push(words::parents_response(&parents, origin, total));
                }
                What::BackToSource(why) => line.mailbox.push(words::back_to_source(why)),
                What::Empty => line.mailbox.push(words::empty()),
                What::MetadataOnly => line.mailbox.push(words::metadata_only()),
                What::Close => line.mailbox.end(Ok(())),
                What::Refuse(why) => line.mailbox.end(Err(Status::failed_precondition(why))),
            }
        }
    }
}

/// A content that a host has, checked.
#[derive(Debug)]
pub(crate) struct Holding {
    /// Its swarms, all of one task.
    pub(crate) keys: Vec<dfget_swarm::SwarmKey>,
    pub(crate) total: u64,
    pub(crate) private: bool,
}

/// Of a host that names none (Dragonfly client: `scheduler.announceInterval`).
const INTERVAL: Duration = Duration::from_secs(300);
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);
/// What is due is looked for at least so often, and not more often.
const LONGEST_NAP: Duration = Duration::from_secs(1);
const SHORTEST_NAP: Duration = Duration::from_millis(10);
