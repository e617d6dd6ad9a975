//! Many nodes in one process: the real cores on a made-up network and clock.

pub(crate) mod net;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dfget_core::{piece_count, piece_range, unit_length};
use dfget_swarm::{
    Ask, Disputes, Failure, HostInfo, MOST_ROUNDS_AT_ALL, Order, Parent, Patience, Picker, PickerOptions,
    Pieces, Register, Report, Scheduler, SchedulerOptions, SwarmKey, Take, Trust, Waiting, What,
};

use self::net::{FlowId, Net};

/// What kind of world it is.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) nodes: usize,
    /// Length of the content in bytes.
    pub(crate) total: u64,
    /// Bytes a second.
    pub(crate) origin: f64,
    pub(crate) up: f64,
    pub(crate) down: f64,
    /// Seconds from one node to another, and back; and to the origin, and back.
    pub(crate) rtt: f64,
    pub(crate) origin_rtt: f64,
    /// Uploads that a node serves at once; others wait in line.
    pub(crate) uploads: usize,
    /// Of those in line, the one whose piece was sent least is first; but so many seconds of waiting
    /// count for one time less. Very small: first come, first served.
    pub(crate) patience: f64,
    /// Pieces that a node fetches from the origin at once.
    pub(crate) origin_streams: usize,
    pub(crate) scheduler: SchedulerOptions,
    pub(crate) picker: PickerOptions,
    pub(crate) seed: u64,
}

impl Setup {
    /// So many nodes with the link of the origin, 100 Mbit/s.
    pub(crate) fn equal(nodes: usize, total: u64, seed: u64) -> Self {
        Self {
            nodes,
            total,
            origin: 12.5e6,
            up: 12.5e6,
            down: 12.5e6,
            rtt: 0.000_5,
            origin_rtt: 0.03,
            uploads: 8,
            patience: 0.1,
            origin_streams: 1,
            scheduler: SchedulerOptions::default(),
            picker: PickerOptions::default(),
            seed,
        }
    }

    /// Seconds that the content takes over one link.
    pub(crate) fn ideal(&self) -> f64 {
        self.total as f64 / self.origin.min(self.down)
    }
}

/// What a node does to others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Manner {
    Honest,
    /// Says that it has all, and sends what is not it.
    Wrong,
    /// Says that it has all, and says that it has not when asked.
    Missing,
    /// Says that it has all, and is silent when asked.
    Silent,
    /// Says that it has all, and sends what is not it with a checksum that fits.
    Forged,
    /// The same, and says that it has verified it; asked for hashes, it tells those of what it sends.
    Perjured,
    /// The same, but tells no hashes.
    Mute,
    /// Forges, says that it has begun anew as often as whoever asks, and comes as another peer again and again. Where
    /// it is to fetch something, it does not.
    Turncoat,
    /// Does what it should, but says of all its parents that they sent what is wrong. It fetches nothing by itself.
    Slanderer,
}

// === impl Manner ===

impl Manner {
    /// Whether it takes part as a node should.
    pub(crate) const fn pulls(self) -> bool {
        matches!(self, Self::Honest | Self::Slanderer)
    }

    /// Whether it says that it has verified what it sends.
    const fn swears(self) -> bool {
        matches!(self, Self::Perjured | Self::Mute)
    }

    const fn forges(self) -> bool {
        matches!(self, Self::Forged | Self::Turncoat) || self.swears()
    }
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) host: Arc<str>,
    peer: Arc<str>,
    pub(crate) manner: Manner,
    pub(crate) alive: bool,
    lives: u32,
    /// On which side of the split, and at which scheduler.
    pub(crate) side: usize,
    scheduler: usize,
    up: usize,
    down: usize,
    picker: Option<Picker>,
    /// Pieces that are not what they should be.
    pub(crate) tainted: Vec<u32>,
    /// Pieces that came from the origin.
    own: Vec<u32>,
    pub(crate) trust: Trust,
    patience: Patience,
    disputes: Disputes,
    /// When something came last, and what was here then.
    moved: (f64, u32),
    /// It takes everything from the origin.
    pub(crate) alone: bool,
    /// It does so for good.
    pub(crate) closed: bool,
    /// What the scheduler ordered last of the origin.
    pub(crate) ordered: Vec<Range<u32>>,
    /// Hosts that are proved to have lied; peers of which the scheduler was told that nothing is taken.
    pub(crate) banned: Vec<usize>,
    left: Vec<Arc<str>>,
    pub(crate) parents: Vec<usize>,
    /// Who hears of its new pieces.
    children: Vec<usize>,
    origin: Vec<Range<u32>>,
    from_origin: Vec<(u32, FlowId)>,
    serving: usize,
    queue: VecDeque<(usize, Ask, f64)>,
    /// How often it has sent each piece.
    sent: Vec<u32>,
    knows_total: bool,
    /// News for the scheduler are on their way or will be at this time.
    telling: bool,
    told_at: f64,
    wrong: Vec<Arc<str>>,
    lost: Vec<Arc<str>>,
    wake: u64,
    pub(crate) started: f64,
    pub(crate) done: Option<f64>,
    /// Wrong pieces that it had, by whom.
    pub(crate) bad: Vec<usize>,
}

#[derive(Debug)]
enum Load {
    Origin { node: usize, piece: u32 },
    Peer { parent: usize, child: usize, ask: Ask, asked: f64 },
}

enum Event {
    Flow(FlowId, u32),
    Register(usize, u32),
    Report(usize, u32, Box<Report>),
    Hold(usize, u32),
    Leave(usize, usize),
    Orders(usize, u32, Box<What>),
    Tick(usize),
    Total(usize, u32),
    Tell(usize, u32),
    Wake(usize),
    Request(usize, usize, Ask, f64),
    Fail(usize, u32, Ask, Failure),
    Rejoin(usize, u32),
    Look(usize, u32),
    Turn(usize, u32),
}

struct Due(u64, u64, Event);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) nodes: Vec<Node>,
    schedulers: Vec<Scheduler>,
    ticks: Vec<u64>,
    net: Net,
    origin_end: usize,
    loads: Vec<Option<Load>>,
    heap: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    pub(crate) now: f64,
    count: u32,
    /// Bytes that the origin has sent, and how often it began each piece.
    pub(crate) origin_sent: f64,
    pub(crate) origin_times: Vec<u32>,
    /// When it last sent something.
    pub(crate) origin_end_at: f64,
    /// Bytes that came from peers whole and right.
    pub(crate) good: f64,
    /// What the schedulers' cores took, in calls and time.
    pub(crate) cpu: Duration,
    pub(crate) calls: u64,
    pub(crate) orders: u64,
    pub(crate) picker_cpu: Duration,
    pub(crate) events: u64,
    /// How often a node fetched everything, for nothing came.
    pub(crate) gone_alone: u32,
    /// Pieces that the origin was asked for to see who is right.
    pub(crate) settled: u32,
    random: fastrand::Rng,
}

/// How often a node looks whether anything comes.
const LOOK: f64 = 0.5;

/// How long it takes until who waits for a node that is gone gives up; the scheduler takes ten times as long.
const SILENCE: f64 = 5.0;

/// How often a turncoat comes as another peer.
const TURN: f64 = 3.0;

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

// === impl World ===

impl World {
    pub(crate) fn new(setup: Setup) -> Self {
        let mut net = Net::default();
        let origin_end = net.end(setup.origin);
        let count = piece_count(setup.total, unit_length(setup.total)) as u32;
        let mut world = Self {
            nodes: Vec::new(),
            schedulers: vec![Scheduler::new(setup.scheduler, setup.seed)],
            ticks: vec![u64::MAX],
            net,
            origin_end,
            loads: Vec::new(),
            heap: BinaryHeap::new(),
            sequence: 0,
            now: 0.0,
            count,
            origin_sent: 0.0,
            origin_end_at: 0.0,
            origin_times: vec![0; count as usize],
            good: 0.0,
            cpu: Duration::ZERO,
            calls: 0,
            orders: 0,
            picker_cpu: Duration::ZERO,
            events: 0,
            gone_alone: 0,
            settled: 0,
            random: fastrand::Rng::with_seed(setup.seed ^ 0x5eed),
            setup,
        };
        for number in 0..world.setup.nodes {
            world.add(number);
        }
        world
    }

    fn add(&mut self, number: usize) {
        let (up, down) = (self.net.end(self.setup.up), self.net.end(self.setup.down));
        self.nodes.push(Node {
            host: format!("n{number}").into(),
            peer: format!("p{number}.0").into(),
            manner: Manner::Honest,
            alive: false,
            lives: 0,
            side: 0,
            scheduler: 0,
            up,
            down,
            picker: None,
            tainted: Vec::new(),
            own: Vec::new(),
            trust: Trust::default(),
            patience: Patience::new(0.0),
            disputes: Disputes::default(),
            moved: (0.0, 0),
            alone: false,
            closed: false,
            ordered: Vec::new(),
            banned: Vec::new(),
            left: Vec::new(),
            parents: Vec::new(),
            children: Vec::new(),
            origin: Vec::new(),
            from_origin: Vec::new(),
            serving: 0,
            queue: VecDeque::new(),
            sent: vec![0; self.count as usize],
            knows_total: false,
            telling: false,
            told_at: -1.0,
            wrong: Vec::new(),
            lost: Vec::new(),
            wake: u64::MAX,
            started: 0.0,
            done: None,
            bad: Vec::new(),
        });
    }

    fn clock(&self) -> Duration {
        Duration::from_secs_f64(self.now)
    }

    fn at(&mut self, when: f64, event: Event) {
        self.sequence += 1;
        self.heap.push(Reverse(Due(nanos(when.max(self.now)), self.sequence, event)));
    }

    fn after(&mut self, seconds: f64, event: Event) {
        self.at(self.now + seconds, event);
    }

    fn message(&self) -> f64 {
        self.setup.rtt / 2.0 + 0.000_2
    }

    fn key() -> SwarmKey {
        SwarmKey { task: "a".into(), authority: "https://registry.example".into() }
    }

    fn length(&self, piece: u32) -> u64 {
        let total = self.setup.total;
        piece_range(piece.into(), total, unit_length(total)).map_or(0, |range| range.end - range.start)
    }

    // --- what a scenario does ---

    /// A node begins to pull, with nothing.
    pub(crate) fn start(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        n.alive = true;
        n.started = self.now;
        n.done = None;
        n.lives += 1;
        n.peer = format!("p{node}.{}", n.lives).into();
        n.picker = None;
        n.knows_total = false;
        n.told_at = -1.0;
        n.trust = Trust::default();
        n.patience = Patience::new(self.random.f64());
        n.moved = (self.now, 0);
        (n.alone, n.closed) = (false, false);
        n.ordered.clear();
        if !n.manner.pulls() {
            self.make_picker(node, Pieces::all(self.count));
        }
        self.announce(node);
        let life = self.nodes[node].lives;
        let delay = self.message();
        match self.nodes[node].manner {
            manner if manner.swears() => self.after(delay, Event::Hold(node, life)),
            _ => self.after(delay, Event::Register(node, life)),
        }
        match self.nodes[node].manner {
            manner if manner.pulls() => self.after(LOOK, Event::Look(node, life)),
            Manner::Turncoat => self.after(TURN, Event::Turn(node, life)),
            _ => {}
        }
    }

    /// As a conductor does: where nothing comes for long, it is fetched from the origin.
    fn look(&mut self, node: usize) {
        let now = self.clock();
        let here = self.have(node);
        let n = &mut self.nodes[node];
        if n.done.is_some() {
            return;
        }
        if here > n.moved.1 {
            n.moved = (self.now, here);
        }
        let waiting = Waiting {
            waited: Duration::from_secs_f64(self.now - n.moved.0),
            age: Duration::from_secs_f64(self.now - n.started),
            whole: false,
            several: n.parents.len() > 1,
            ordered: false,
        };
        if !n.alone && n.manner == Manner::Honest && n.patience.is_over(waiting, &n.trust) {
            n.patience.go_alone(now, &n.trust);
            n.alone = true;
            self.gone_alone += 1;
            n.origin = std::iter::once(0..u32::MAX).collect();
            if n.picker.is_none() {
                let (delay, life) = (self.setup.origin_rtt, n.lives);
                self.after(delay, Event::Total(node, life));
            }
            self.pump(node);
        } else if n.patience.comes_back(now) && !n.closed {
            n.alone = false;
            n.origin.clone_from(&n.ordered);
            if let Some(picker) = &mut n.picker {
                picker.set_origin(&n.origin, now);
            }
            self.pump(node);
        }
        let life = self.nodes[node].lives;
        self.after(LOOK, Event::Look(node, life));
    }

    /// A node that has all, and has said so.
    pub(crate) fn start_full(&mut self, node: usize) {
        self.nodes[node].alive = true;
        self.nodes[node].lives += 1;
        self.nodes[node].done = Some(self.now);
        self.make_picker(node, Pieces::all(self.count));
        self.announce(node);
        let life = self.nodes[node].lives;
        self.after(0.0, Event::Hold(node, life));
    }

    fn announce(&mut self, node: usize) {
        let n = &self.nodes[node];
        let [_, b, c, d] = (node as u32).to_be_bytes();
        let info = HostInfo {
            id: n.host.clone(),
            hostname: n.host.to_string(),
            ip: IpAddr::V4(Ipv4Addr::new(10, b, c, d)),
            port: 65000,
            idc: String::new(),
            location: format!("site|rack{}", node / 32),
            uplink: 0,
            keyed: true,
            disable_shared: false,
        };
        let now = self.clock();
        let scheduler = n.scheduler;
        self.schedulers[scheduler].announce(info, now);
    }

    /// A node dies, with all that it had; its connections break.
    pub(crate) fn kill(&mut self, node: usize) {
        self.end(node, 0.001);
    }

    /// A node is gone at once, as if its cable were cut: nobody hears of it, what was asked of it is given up after
    /// some seconds.
    pub(crate) fn vanish(&mut self, node: usize) {
        self.end(node, SILENCE);
    }

    /// Who fetches something from the origin at present.
    pub(crate) fn fetchers(&self) -> Vec<usize> {
        let fetches = |node: &usize| !self.nodes[*node].from_origin.is_empty();
        (0..self.nodes.len()).filter(fetches).collect()
    }

    fn end(&mut self, node: usize, unheard: f64) {
        if !self.nodes[node].alive {
            return;
        }
        self.nodes[node].alive = false;
        self.nodes[node].lives += 1;
        self.nodes[node].picker = None;
        self.nodes[node].tainted.clear();
        let of_it = |flow: &Load| {
            matches!(flow, Load::Peer { parent, child, .. } if *parent == node || *child == node)
                || matches!(flow, Load::Origin { node: other, .. } if *other == node)
        };
        self.cut_after(of_it, unheard);
        let queue = std::mem::take(&mut self.nodes[node].queue);
        for (child, ask, _) in queue {
            self.fail_soon(child, ask, Failure::Broken, unheard);
        }
        for child in std::mem::take(&mut self.nodes[node].children) {
            let host = self.nodes[node].host.clone();
            let now = self.clock();
            self.nodes[child].parents.retain(|&other| other != node);
            if unheard >= 1.0 {
                continue;
            }
            if let Some(picker) = self.nodes[child].picker.as_mut() {
                picker.lost(&host, now);
            }
            self.pump(child);
        }
        for parent in std::mem::take(&mut self.nodes[node].parents) {
            self.nodes[parent].children.retain(|&other| other != node);
            self.nodes[parent].queue.retain(|(child, ..)| *child != node);
        }
        self.nodes[node].origin.clear();
        let delay = self.message() + unheard * 10.0;
        let scheduler = self.nodes[node].scheduler;
        self.after(delay, Event::Leave(node, scheduler));
    }

    /// Splits the nodes: those of `side` 1 get a scheduler of their own.
    pub(crate) fn split(&mut self) {
        if self.schedulers.len() < 2 {
            self.schedulers.push(Scheduler::new(self.setup.scheduler, self.setup.seed + 1));
            self.ticks.push(u64::MAX);
        }
        let sides: Vec<usize> = self.nodes.iter().map(|node| node.side).collect();
        self.cut(|flow| matches!(flow, Load::Peer { parent, child, .. } if sides[*parent] != sides[*child]));
        for node in 0..self.nodes.len() {
            let parents = self.nodes[node].parents.clone();
            for parent in parents.into_iter().filter(|&parent| sides[parent] != sides[node]) {
                self.part(node, parent);
                let host = self.nodes[parent].host.clone();
                let now = self.clock();
                if let Some(picker) = self.nodes[node].picker.as_mut() {
                    picker.lost(&host, now);
                }
            }
            if sides[node] == 1 && self.nodes[node].alive {
                self.after(1.0, Event::Leave(node, 0));
                let life = self.nodes[node].lives;
                self.nodes[node].scheduler = 1;
                self.after(1.0, Event::Rejoin(node, life));
            }
        }
    }

    /// Joins the sides again: all come back to the first scheduler.
    pub(crate) fn heal(&mut self) {
        for node in 0..self.nodes.len() {
            let n = &mut self.nodes[node];
            if std::mem::replace(&mut n.side, 0) == 1 && n.alive {
                n.scheduler = 0;
                let life = n.lives;
                self.after(0.5, Event::Leave(node, 1));
                self.after(0.5, Event::Rejoin(node, life));
            }
        }
    }

    /// The scheduler is replaced by one that knows nothing; all come to it.
    pub(crate) fn replace_scheduler(&mut self) {
        self.schedulers[0] = Scheduler::new(self.setup.scheduler, self.setup.seed + 2);
        self.ticks[0] = u64::MAX;
        for node in 0..self.nodes.len() {
            if self.nodes[node].alive {
                let life = self.nodes[node].lives;
                self.after(0.3 + 0.000_7 * (node % 1000) as f64, Event::Rejoin(node, life));
            }
        }
    }

    /// Gives a node another link.
    pub(crate) fn link(&mut self, node: usize, up: f64, down: f64) {
        assert!(!self.nodes[node].alive, "before it begins");
        (self.nodes[node].up, self.nodes[node].down) = (self.net.end(up), self.net.end(down));
    }

    pub(crate) fn run_until(&mut self, end: f64) {
        while self.step(end) {}
        self.now = self.now.max(end);
    }

    /// Runs until all that live have all, or to the limit. When the last one of the honest was done.
    pub(crate) fn run(&mut self, limit: f64) -> Option<f64> {
        let mut turn = 0_u32;
        loop {
            turn += 1;
            if turn.is_multiple_of(64) && self.all_done() {
                break;
            }
            if !self.step(limit) {
                break;
            }
        }
        self.all_done().then(|| self.nodes.iter().filter_map(|node| node.done).fold(0.0, f64::max))
    }

    pub(crate) fn all_done(&self) -> bool {
        self.nodes.iter().all(|n| !n.alive || n.manner != Manner::Honest || n.done.is_some())
    }

    pub(crate) fn have(&self, node: usize) -> u32 {
        self.nodes[node].picker.as_ref().map_or(0, |picker| picker.have().present())
    }

    /// Hosts that the first scheduler hands to nobody.
    pub(crate) fn banned_hosts(&self) -> Vec<usize> {
        let banned = self.schedulers[0].banned(self.clock());
        banned.map(|host| host[1..].parse().expect("a number")).collect()
    }

    pub(crate) fn origin_ratio(&self) -> f64 {
        self.origin_sent / self.setup.total as f64
    }

    // --- events ---

    fn step(&mut self, limit: f64) -> bool {
        for (when, flow, version) in std::mem::take(&mut self.net.news) {
            self.at(when, Event::Flow(flow, version));
        }
        if self.heap.peek().is_none_or(|Reverse(due)| due.0 > nanos(limit)) {
            return false;
        }
        let Some(Reverse(Due(at, _, event))) = self.heap.pop() else { return false };
        self.now = self.now.max(at as f64 / 1e9);
        self.events += 1;
        self.handle(event);
        true
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Flow(flow, version) if self.net.is_current(flow, version) => self.flow_ends(flow),
            Event::Register(node, life) if self.lives(node, life) => self.register(node),
            Event::Rejoin(node, life) if self.lives(node, life) => {
                self.announce(node);
                if self.nodes[node].done.is_some() || self.nodes[node].manner.swears() {
                    self.handle(Event::Hold(node, life));
                } else {
                    self.nodes[node].peer = format!("p{node}.{life}.{}", self.sequence).into();
                    self.register(node);
                }
            }
            Event::Report(node, life, report) if self.lives(node, life) => {
                let (peer, scheduler) = (self.nodes[node].peer.clone(), self.nodes[node].scheduler);
                self.ask(scheduler, |core, now, orders| core.report(&peer, *report, now, orders));
            }
            Event::Hold(node, life) if self.lives(node, life) => {
                let (host, total) = (self.nodes[node].host.clone(), self.setup.total);
                let scheduler = self.nodes[node].scheduler;
                self.ask(scheduler, |core, now, orders| {
                    core.hold(&host, Self::key(), total, false, now, orders)
                });
            }
            Event::Leave(node, scheduler) => {
                let host = self.nodes[node].host.clone();
                self.ask(scheduler, |core, now, orders| core.leave(&host, now, orders));
            }
            Event::Orders(node, life, what) if self.lives(node, life) => self.ordered(node, *what),
            Event::Tick(scheduler) => {
                self.ticks[scheduler] = u64::MAX;
                self.ask(scheduler, |core, now, orders| {
                    core.tick(now, orders);
                });
            }
            Event::Total(node, life) if self.lives(node, life) => {
                self.learn_total(node);
                self.tell(node);
                self.pump(node);
            }
            Event::Tell(node, life) if self.lives(node, life) => self.tell_now(node),
            Event::Look(node, life) if self.lives(node, life) => self.look(node),
            Event::Turn(node, life) if self.lives(node, life) => {
                let (peer, scheduler) = (self.nodes[node].peer.clone(), self.nodes[node].scheduler);
                self.ask(scheduler, |core, now, orders| core.report(&peer, Report::Failed, now, orders));
                self.handle(Event::Rejoin(node, life));
                self.after(TURN, Event::Turn(node, life));
            }
            Event::Wake(node) => {
                // Seconds as floating point may have lost the last digit.
                if self.nodes[node].wake <= nanos(self.now) + 1_000 {
                    self.nodes[node].wake = u64::MAX;
                }
                self.pump(node);
            }
            Event::Request(child, parent, ask, asked) => self.requested(child, parent, ask, asked),
            Event::Fail(node, life, ask, why) if self.lives(node, life) => self.failed(node, &ask, why),
            _ => {}
        }
    }

    fn lives(&self, node: usize, life: u32) -> bool {
        self.nodes[node].alive && self.nodes[node].lives == life
    }

    fn ask(&mut self, scheduler: usize, act: impl FnOnce(&mut Scheduler, Duration, &mut Vec<Order>)) {
        let mut orders = Vec::new();
        let now = self.clock();
        let begin = Instant::now();
        act(&mut self.schedulers[scheduler], now, &mut orders);
        self.cpu += begin.elapsed();
        self.calls += 1;
        self.orders += orders.len() as u64;
        let delay = self.message();
        for order in orders {
            let number: String = order.peer[1..].chars().take_while(char::is_ascii_digit).collect();
            let node: usize = number.parse().expect("the number of a node");
            if self.nodes[node].peer == order.peer {
                let life = self.nodes[node].lives;
                self.after(delay, Event::Orders(node, life, Box::new(order.what)));
            }
        }
        if let Some(due) = self.schedulers[scheduler].due() {
            let due = due.as_secs_f64() + 1e-6;
            if nanos(due) < self.ticks[scheduler] {
                self.ticks[scheduler] = nanos(due);
                self.at(due, Event::Tick(scheduler));
            }
        }
    }

    fn register(&mut self, node: usize) {
        let n = &self.nodes[node];
        let have = n.picker.as_ref().map_or_else(|| Pieces::none(0), |picker| picker.have().clone());
        let register = Register {
            key: Self::key(),
            peer: n.peer.clone(),
            host: n.host.clone(),
            total: n.knows_total.then_some(self.setup.total),
            have: Some(have),
            private: false,
            wants_proof: n.trust.wants_proof() || n.manner == Manner::Turncoat,
            metadata_only: false,
            back_to_source: false,
        };
        let scheduler = n.scheduler;
        self.ask(scheduler, |core, now, orders| core.register(register, now, orders));
    }

    fn make_picker(&mut self, node: usize, have: Pieces) {
        let seed = self.setup.seed.wrapping_mul(1_000_003).wrapping_add(node as u64);
        self.nodes[node].picker = Some(Picker::new(self.setup.picker, have, seed));
        self.nodes[node].knows_total = true;
    }

    fn learn_total(&mut self, node: usize) {
        if !self.nodes[node].knows_total {
            self.make_picker(node, Pieces::none(self.count));
        }
    }

    fn ordered(&mut self, node: usize, what: What) {
        let What::Parents { parents, origin, total } = what else {
            // A scheduler that does not know the peer is joined anew, once.
            if matches!(what, What::Refuse(_)) && self.nodes[node].done.is_none() {
                let life = self.nodes[node].lives;
                self.after(0.1, Event::Rejoin(node, life));
            }
            return;
        };
        if !self.nodes[node].manner.pulls() || self.nodes[node].done.is_some() {
            return;
        }
        let now = self.clock();
        let n = &mut self.nodes[node];
        n.ordered.clone_from(&origin);
        if !n.closed && !n.patience.stays_alone(now) {
            n.alone = false;
            n.origin = origin;
        }
        if n.manner == Manner::Slanderer {
            n.wrong.extend(parents.iter().map(|parent| parent.host.id.clone()));
            self.tell(node);
        }
        if total.is_some() {
            self.learn_total(node);
        } else if !self.nodes[node].knows_total {
            if !self.nodes[node].origin.is_empty() {
                let (delay, life) = (self.setup.origin_rtt, self.nodes[node].lives);
                self.after(delay, Event::Total(node, life));
            }
            // The parents are known when the length is: the orders come again.
            return;
        }
        self.set_parents(node, &parents);
        self.pump(node);
    }

    fn set_parents(&mut self, node: usize, parents: &[Parent]) {
        let now = self.clock();
        let parents: Vec<Parent> = parents.iter().filter(|it| self.may_ask(node, it)).cloned().collect();
        let numbers: Vec<usize> = parents.iter().map(|parent| parent.host.id[1..].parse().unwrap()).collect();
        let hosts: Vec<Arc<str>> = parents.iter().map(|parent| parent.host.id.clone()).collect();
        let origin = self.nodes[node].origin.clone();
        let picker = self.nodes[node].picker.as_mut().expect("the length is known");
        picker.set_parents(&hosts, now);
        picker.set_origin(&origin, now);
        for old in self.nodes[node].parents.clone() {
            if !numbers.contains(&old) {
                self.part(node, old);
            }
        }
        for parent in numbers {
            assert_ne!(parent, node, "no node asks itself");
            if self.nodes[node].parents.contains(&parent) {
                continue;
            }
            let reached = self.nodes[parent].alive && self.nodes[parent].side == self.nodes[node].side;
            let host = self.nodes[parent].host.clone();
            if reached {
                self.nodes[node].parents.push(parent);
                self.nodes[parent].children.push(node);
                let have = self.nodes[parent].picker.as_ref().map(|picker| picker.have().clone());
                if let (Some(have), Some(picker)) = (have, self.nodes[node].picker.as_mut()) {
                    picker.offers(&host, &have, now);
                }
            } else if let Some(picker) = self.nodes[node].picker.as_mut() {
                picker.lost(&host, now);
            }
        }
    }

    /// Whether a node takes anything from a parent; of one that it does not the scheduler is told.
    fn may_ask(&mut self, node: usize, parent: &Parent) -> bool {
        let number: usize = parent.host.id[1..].parse().unwrap();
        if self.nodes[node].closed || self.nodes[node].banned.contains(&number) {
            return false;
        }
        let other = &self.nodes[number];
        let round = if other.manner == Manner::Turncoat { u32::MAX } else { other.trust.round() };
        let trust = &self.nodes[node].trust;
        let takes = match trust.of(parent) {
            Take::Pieces => parent.complete || trust.takes_round(round),
            Take::AfterHashes => self.weigh(node, number),
            Take::Nothing => false,
        };
        let n = &mut self.nodes[node];
        if takes {
            n.trust.meet(parent);
        } else if !n.left.contains(&parent.peer) {
            n.left.push(parent.peer.clone());
            n.lost.push(parent.host.id.clone());
            self.tell(node);
        }
        takes
    }

    /// Asks a parent that says that it has verified the content for the hashes, and the origin for a piece about which
    /// they tell something new. Whether they are believed.
    fn weigh(&mut self, node: usize, parent: usize) -> bool {
        let (manner, done) = (self.nodes[parent].manner, self.nodes[parent].done.is_some());
        if manner == Manner::Mute || !(done || manner.swears()) {
            return false;
        }
        // What came from the origin itself tells whether a liar lies; and so does a lie that is known. All lie alike.
        let n = &self.nodes[node];
        let known = !n.own.is_empty() || n.banned.iter().any(|&liar| self.nodes[liar].manner == manner);
        if !(known && manner.swears()) {
            self.settle();
        }
        if manner.swears() {
            self.convict(node, parent);
            self.tell(node);
            return false;
        }
        self.nodes[node].trust.believe(true);
        self.tell(node);
        true
    }

    /// A node has proof that another lies.
    fn convict(&mut self, node: usize, liar: usize) {
        let host = self.nodes[liar].host.clone();
        let n = &mut self.nodes[node];
        if !n.banned.contains(&liar) {
            n.banned.push(liar);
            n.wrong.push(host);
        }
    }

    /// A piece is asked of the origin to see who is right.
    fn settle(&mut self) {
        self.origin_sent += self.length(0) as f64;
        self.settled += 1;
    }

    fn part(&mut self, node: usize, parent: usize) {
        self.nodes[node].parents.retain(|&other| other != parent);
        self.nodes[parent].children.retain(|&other| other != node);
    }

    /// Asks for all that may be asked for, of parents and of the origin.
    fn pump(&mut self, node: usize) {
        if !self.nodes[node].alive || self.nodes[node].done.is_some() || self.nodes[node].picker.is_none() {
            return;
        }
        self.pump_origin(node);
        let now = self.clock();
        let delay = self.message();
        loop {
            let begin = Instant::now();
            let picker = self.nodes[node].picker.as_mut().expect("it has one");
            let first = picker.have().missing().next().unwrap_or(0);
            let ask = picker.next(first, now);
            self.picker_cpu += begin.elapsed();
            let Some(ask) = ask else { break };
            assert!(!self.nodes[node].picker.as_ref().unwrap().have().contains(ask.piece));
            let parent: usize = ask.host[1..].parse().unwrap();
            self.after(delay, Event::Request(node, parent, ask, self.now));
        }
        let picker = self.nodes[node].picker.as_mut().expect("it has one");
        let (wrong, lost) = picker.reports();
        let wake = picker.wake(now);
        let news = !wrong.is_empty() || !lost.is_empty();
        for host in wrong.iter().chain(&lost) {
            let parent = host[1..].parse().unwrap();
            self.part(node, parent);
        }
        self.nodes[node].wrong.extend(wrong);
        self.nodes[node].lost.extend(lost);
        if news {
            self.tell(node);
        }
        if let Some(wake) = wake.map(|at| at.as_secs_f64() + 1e-6)
            && nanos(wake) < self.nodes[node].wake
        {
            self.nodes[node].wake = nanos(wake);
            self.at(wake, Event::Wake(node));
        }
    }

    fn pump_origin(&mut self, node: usize) {
        let wanted =
            |world: &Self, piece: u32| world.nodes[node].origin.iter().any(|range| range.contains(&piece));
        let stopped: Vec<(u32, FlowId)> =
            self.nodes[node].from_origin.iter().filter(|(piece, _)| !wanted(self, *piece)).copied().collect();
        for (piece, flow) in stopped {
            let left = self.net.stop(flow, self.now);
            self.loads[flow] = None;
            self.origin_sent += self.length(piece) as f64 - left;
            self.nodes[node].from_origin.retain(|(other, _)| *other != piece);
        }
        while self.nodes[node].from_origin.len() < self.setup.origin_streams {
            let n = &self.nodes[node];
            let picker = n.picker.as_ref().expect("it has one");
            let ranges = n.origin.iter().flat_map(|range| range.start..range.end.min(self.count));
            let mut open = ranges.filter(|&piece| !picker.have().contains(piece));
            let Some(piece) = open.find(|piece| !n.from_origin.iter().any(|(other, _)| other == piece))
            else {
                break;
            };
            let flow = self.net.start(self.origin_end, n.down, self.length(piece) as f64, self.now);
            self.origin_times[piece as usize] += 1;
            self.nodes[node].from_origin.push((piece, flow));
            self.load(flow, Load::Origin { node, piece });
        }
    }

    fn load(&mut self, flow: FlowId, load: Load) {
        if self.loads.len() <= flow {
            self.loads.resize_with(flow + 1, || None);
        }
        self.loads[flow] = Some(load);
    }

    fn requested(&mut self, child: usize, parent: usize, ask: Ask, asked: f64) {
        let p = &self.nodes[parent];
        if !p.alive || p.side != self.nodes[child].side {
            self.fail_soon(child, ask, Failure::Broken, 0.5);
            return;
        }
        let has = p.picker.as_ref().is_some_and(|picker| picker.have().contains(ask.piece));
        match p.manner {
            Manner::Silent => self.fail_soon(child, ask, Failure::Broken, 10.0),
            Manner::Missing => self.fail_soon(child, ask, Failure::Missing, 0.001),
            _ if !has => self.fail_soon(child, ask, Failure::Missing, 0.001),
            _ => {
                self.nodes[parent].queue.push_back((child, ask, asked));
                self.serve(parent);
            }
        }
    }

    /// The next to be served.
    fn next_of_queue(&mut self, parent: usize) -> Option<(usize, Ask, f64)> {
        let n = &mut self.nodes[parent];
        let rank = |(_, ask, asked): &(usize, Ask, f64)| {
            f64::from(n.sent[ask.piece as usize]) - (self.now - asked) / self.setup.patience
        };
        let least = n.queue.iter().enumerate().min_by(|one, two| rank(one.1).total_cmp(&rank(two.1)));
        let at = least?.0;
        let next = n.queue.remove(at)?;
        n.sent[next.1.piece as usize] += 1;
        Some(next)
    }

    fn serve(&mut self, parent: usize) {
        while self.nodes[parent].serving < self.setup.uploads {
            let Some((child, ask, asked)) = self.next_of_queue(parent) else { break };
            if !self.nodes[child].alive {
                continue;
            }
            let bytes = self.length(ask.piece) as f64;
            let flow = self.net.start(self.nodes[parent].up, self.nodes[child].down, bytes, self.now);
            self.nodes[parent].serving += 1;
            self.load(flow, Load::Peer { parent, child, ask, asked });
        }
    }

    fn fail_soon(&mut self, node: usize, ask: Ask, why: Failure, after: f64) {
        let life = self.nodes[node].lives;
        self.after(after, Event::Fail(node, life, ask, why));
    }

    fn failed(&mut self, node: usize, ask: &Ask, why: Failure) {
        let now = self.clock();
        if why == Failure::Broken {
            let parent = ask.host[1..].parse().unwrap();
            self.part(node, parent);
        }
        if let Some(picker) = self.nodes[node].picker.as_mut() {
            picker.failed(ask, why, now);
        }
        self.pump(node);
    }

    /// Breaks transfers off.
    fn cut(&mut self, which: impl Fn(&Load) -> bool) {
        self.cut_after(which, 0.001);
    }

    fn cut_after(&mut self, which: impl Fn(&Load) -> bool, unheard: f64) {
        for flow in 0..self.loads.len() {
            if !self.loads[flow].as_ref().is_some_and(&which) {
                continue;
            }
            let left = self.net.stop(flow, self.now);
            match self.loads[flow].take().expect("it is there") {
                Load::Origin { node, piece } => {
                    self.origin_sent += self.length(piece) as f64 - left;
                    self.nodes[node].from_origin.retain(|(other, _)| *other != piece);
                }
                Load::Peer { parent, child, ask, .. } => {
                    self.nodes[parent].serving -= 1;
                    self.fail_soon(child, ask, Failure::Broken, unheard);
                    self.serve(parent);
                }
            }
        }
    }

    fn flow_ends(&mut self, flow: FlowId) {
        self.net.stop(flow, self.now);
        match self.loads[flow].take().expect("a transfer has a load") {
            Load::Origin { node, piece } => {
                self.origin_sent += self.length(piece) as f64;
                self.origin_end_at = self.now;
                self.nodes[node].from_origin.retain(|(other, _)| *other != piece);
                let picker = self.nodes[node].picker.as_ref();
                if picker.is_some_and(|picker| !picker.have().contains(piece)) {
                    self.nodes[node].own.push(piece);
                }
                self.arrived(node, piece);
            }
            Load::Peer { parent, child, ask, asked } => {
                self.nodes[parent].serving -= 1;
                self.serve(parent);
                self.came(parent, child, &ask, asked);
            }
        }
    }

    fn came(&mut self, parent: usize, child: usize, ask: &Ask, asked: f64) {
        if self.nodes[child].picker.is_none() || self.nodes[child].done.is_some() {
            return;
        }
        let now = self.clock();
        if self.nodes[parent].manner == Manner::Wrong {
            self.nodes[child].bad.push(parent);
            self.failed(child, ask, Failure::Wrong);
            return;
        }
        let forges = self.nodes[parent].manner.forges();
        let tainted = forges || self.nodes[parent].tainted.contains(&ask.piece);
        if tainted && self.nodes[child].trust.believes() {
            // Hashes tell at once; the origin says who is right, the first times.
            self.nodes[child].bad.push(parent);
            if !self.nodes[child].disputes.goes_to_origin() {
                self.failed(child, ask, Failure::Broken);
                return;
            }
            self.settle();
            self.nodes[child].disputes.won();
            if self.nodes[parent].manner.swears() {
                self.convict(child, parent);
            }
            self.nodes[child].own.push(ask.piece);
            self.failed(child, ask, Failure::Broken);
            self.arrived(child, ask.piece);
            return;
        }
        let length = self.length(ask.piece);
        let picker = self.nodes[child].picker.as_mut().expect("it has one");
        let fresh = !picker.have().contains(ask.piece);
        self.nodes[child].patience.fed();
        let picker = self.nodes[child].picker.as_mut().expect("it has one");
        picker.came(ask, length, Duration::from_secs_f64(self.now - asked), now);
        if !fresh {
            self.pump(child);
            return;
        }
        if tainted {
            self.nodes[child].tainted.push(ask.piece);
            self.nodes[child].bad.push(parent);
        } else {
            self.good += length as f64;
        }
        self.arrived(child, ask.piece);
    }

    fn arrived(&mut self, node: usize, piece: u32) {
        let now = self.clock();
        let Some(picker) = self.nodes[node].picker.as_mut() else { return };
        let others = picker.arrived(piece, now);
        for other in others {
            self.cancel(node, other.host[1..].parse().unwrap(), other.piece);
        }
        let host = self.nodes[node].host.clone();
        for child in self.nodes[node].children.clone() {
            if let Some(picker) = self.nodes[child].picker.as_mut() {
                let idle = picker.asked() < self.setup.picker.most_asked;
                picker.offer(&host, piece, now);
                if idle && self.nodes[child].done.is_none() {
                    self.pump(child);
                }
            }
        }
        let full = self.nodes[node].picker.as_ref().is_some_and(|picker| picker.have().is_full());
        if full {
            self.check(node);
        } else {
            self.tell(node);
            self.pump(node);
        }
    }

    fn cancel(&mut self, child: usize, parent: usize, piece: u32) {
        self.nodes[parent].queue.retain(|(other, ask, _)| *other != child || ask.piece != piece);
        let flow = self.loads.iter().position(|load| {
            matches!(load, Some(Load::Peer { parent: p, child: c, ask, .. }) if *p == parent && *c == child && ask.piece == piece)
        });
        if let Some(flow) = flow {
            self.net.stop(flow, self.now);
            self.loads[flow] = None;
            self.nodes[parent].serving -= 1;
            self.serve(parent);
        }
    }

    /// All is here: is it right? What is not is fetched again, from others.
    fn check(&mut self, node: usize) {
        let tainted = std::mem::take(&mut self.nodes[node].tainted);
        if tainted.is_empty() {
            self.nodes[node].done = Some(self.now);
            for parent in std::mem::take(&mut self.nodes[node].parents) {
                self.nodes[parent].children.retain(|&other| other != node);
                self.nodes[parent].queue.retain(|(child, ..)| *child != node);
            }
            let (delay, life) = (self.message(), self.nodes[node].lives);
            self.after(delay, Event::Report(node, life, Box::new(Report::Finished)));
            self.after(delay, Event::Hold(node, life));
            return;
        }
        self.begin_anew(node, &tainted);
    }

    /// As a daemon does that finds its content wrong: it keeps what a holder's hashes prove, or what it had from the
    /// origin itself; it tests those that gave their word; and it comes back as another peer.
    fn begin_anew(&mut self, node: usize, tainted: &[u32]) {
        assert!(!self.nodes[node].closed, "what the origin sends is right");
        let n = &self.nodes[node];
        let picker = n.picker.as_ref().expect("it has one");
        let is_holder = |&parent: &usize| {
            let other = &self.nodes[parent];
            !n.banned.contains(&parent) && (other.done.is_some() || other.manner.swears())
        };
        let holders: Vec<usize> = n.parents.iter().copied().filter(is_holder).collect();
        let honest = holders.iter().any(|&holder| !self.nodes[holder].manner.swears());
        // Each liar that is asked for hashes, or tested, costs a piece, and each holder that is believed.
        let gave = |&parent: &usize| {
            let host = &self.nodes[parent].host;
            tainted.iter().any(|&piece| picker.giver(piece) == Some(host))
        };
        let is = |parent: usize, manner: Manner| self.nodes[parent].manner == manner;
        let told = holders.iter().copied().filter(|&parent| is(parent, Manner::Perjured));
        let mut caught: Vec<usize> = told.take(16).collect();
        if !honest {
            let mute = holders.iter().copied().filter(|&parent| is(parent, Manner::Mute));
            caught.extend(mute.filter(gave).take(4));
        }
        // All that tell the same lie are found out together.
        let perjured = caught.iter().filter(|&&parent| is(parent, Manner::Perjured)).count();
        let settled = caught.len() - perjured + perjured.min(1) + usize::from(honest);
        let mut kept = Pieces::none(self.count);
        if honest {
            picker.have().iter().filter(|piece| !tainted.contains(piece)).for_each(|piece| {
                kept.insert(piece);
            });
        } else {
            n.own.iter().for_each(|&piece| {
                kept.insert(piece);
            });
        }
        for &piece in tainted.iter().take(settled) {
            kept.insert(piece);
        }
        (0..settled).for_each(|_| self.settle());
        let wrong: Vec<Arc<str>> = caught.iter().map(|&parent| self.nodes[parent].host.clone()).collect();
        self.nodes[node].trust.begin_anew(honest);
        self.leave_and_return(node, kept, wrong, &caught);
    }

    fn leave_and_return(&mut self, node: usize, kept: Pieces, wrong: Vec<Arc<str>>, caught: &[usize]) {
        let total = self.setup.total;
        let n = &mut self.nodes[node];
        let (peer, scheduler) = (n.peer.clone(), n.scheduler);
        n.banned.extend(caught);
        n.patience.begin_anew();
        n.closed = n.trust.round() > MOST_ROUNDS_AT_ALL;
        n.alone = n.closed;
        n.moved = (self.now, 0);
        n.lives += 1;
        n.peer = format!("p{node}.{}", n.lives).into();
        n.origin = if n.closed { std::iter::once(0..u32::MAX).collect() } else { Vec::new() };
        n.ordered.clear();
        n.left.clear();
        n.own.retain(|&piece| kept.contains(piece));
        (n.telling, n.wake) = (false, u64::MAX);
        let (host, life) = (n.host.clone(), n.lives);
        n.wrong.clone_from(&wrong);
        self.cut(|load| matches!(load, Load::Peer { child, .. } if *child == node));
        for parent in std::mem::take(&mut self.nodes[node].parents) {
            self.nodes[parent].children.retain(|&other| other != node);
            self.nodes[parent].queue.retain(|(child, ..)| *child != node);
        }
        for child in std::mem::take(&mut self.nodes[node].children) {
            self.nodes[child].parents.retain(|&other| other != node);
            if let Some(picker) = self.nodes[child].picker.as_mut() {
                picker.renew(&host);
            }
        }
        self.make_picker(node, kept);
        let report = Report::Progress {
            have: Pieces::all(self.count),
            total: Some(total),
            whole_only: false,
            no_origin: false,
            wants_proof: false,
            wrong_hosts: wrong,
            lost_hosts: Vec::new(),
        };
        self.ask(scheduler, |core, now, orders| core.report(&peer, report, now, orders));
        self.ask(scheduler, |core, now, orders| core.report(&peer, Report::Failed, now, orders));
        let delay = self.message();
        self.after(delay, Event::Register(node, life));
        self.after(LOOK, Event::Look(node, life));
        self.tell(node);
        self.pump(node);
    }

    /// Tells the scheduler soon: at most five times a second.
    fn tell(&mut self, node: usize) {
        if !std::mem::replace(&mut self.nodes[node].telling, true) {
            let when = (self.nodes[node].told_at + 0.2).max(self.now);
            let life = self.nodes[node].lives;
            self.at(when, Event::Tell(node, life));
        }
    }

    fn tell_now(&mut self, node: usize) {
        let total = self.setup.total;
        let (delay, now) = (self.message(), self.now);
        let n = &mut self.nodes[node];
        n.telling = false;
        n.told_at = now;
        let Some(picker) = n.picker.as_ref().filter(|_| n.done.is_none()) else { return };
        let report = Report::Progress {
            have: picker.have().clone(),
            total: Some(total),
            whole_only: false,
            no_origin: false,
            wants_proof: n.trust.wants_proof(),
            wrong_hosts: std::mem::take(&mut n.wrong),
            lost_hosts: std::mem::take(&mut n.lost),
        };
        let life = n.lives;
        self.after(delay, Event::Report(node, life, Box::new(report)));
    }
}
