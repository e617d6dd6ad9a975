//! The scheduler's core: hosts, swarms, peers in; orders out.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::pieces::Pieces;
use crate::words::{HostInfo, Parent, SwarmKey};

/// How the scheduler decides.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerOptions {
    /// Peers of one swarm that fetch from the origin at once.
    pub most_at_origin: usize,
    /// Candidate parents for one peer.
    pub most_parents: usize,
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
#[derive(Debug)]
pub struct Scheduler {
    _options: SchedulerOptions,
}

#[expect(clippy::unimplemented, reason = "being built")]
impl Scheduler {
    /// A scheduler that knows nobody yet. `seed` is for what it leaves to chance.
    #[must_use]
    pub fn new(options: SchedulerOptions, _seed: u64) -> Self {
        Self { _options: options }
    }

    /// Notes a host, or what has changed of it.
    pub fn announce(&mut self, _host: HostInfo, _now: Duration) {
        unimplemented!()
    }

    /// Whether the host has been announced.
    #[must_use]
    pub fn knows(&self, _host: &str) -> bool {
        unimplemented!()
    }

    /// All hosts, in no order.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<HostInfo>> {
        std::iter::empty()
    }

    /// How many swarms it knows.
    #[must_use]
    pub fn swarms(&self) -> usize {
        unimplemented!()
    }

    /// Forgets a host and all its peers.
    pub fn leave(&mut self, _host: &str, _now: Duration, _orders: &mut Vec<Order>) {
        unimplemented!()
    }

    /// A host says that it has all of a content, verified.
    pub fn hold(
        &mut self,
        _host: &str,
        _key: SwarmKey,
        _total: u64,
        _private: bool,
        _now: Duration,
        _orders: &mut Vec<Order>,
    ) {
        unimplemented!()
    }

    /// A host no longer has it, in whatever swarm of the task.
    pub fn drop_task(&mut self, _host: &str, _task: &str, _now: Duration, _orders: &mut Vec<Order>) {
        unimplemented!()
    }

    /// A peer begins.
    pub fn register(&mut self, _register: Register, _now: Duration, _orders: &mut Vec<Order>) {
        unimplemented!()
    }

    /// A peer tells something.
    pub fn report(&mut self, _peer: &str, _report: Report, _now: Duration, _orders: &mut Vec<Order>) {
        unimplemented!()
    }

    /// What is due by time alone. Returns when to be called next, if ever.
    pub fn tick(&mut self, _now: Duration, _orders: &mut Vec<Order>) -> Option<Duration> {
        unimplemented!()
    }
}
