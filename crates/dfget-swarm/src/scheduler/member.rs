//! One peer, or one holder, in a swarm.

use std::sync::Arc;
use std::time::Duration;

use crate::pieces::Pieces;
use crate::words::HostInfo;

/// What a member is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// It takes orders.
    Ours,
    /// Another client of the protocol.
    Stock,
    /// A host that has all, and downloads nothing.
    Holder,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// Of another client: it has no answer yet.
    Waiting {
        /// It goes to the origin if there is no parent by then.
        until: Duration,
        /// It does not wait any longer than this.
        last: Duration,
    },
    /// Of another client: it has said that it announces only, and not yet that it has all.
    Announcing,
    /// Of another client: sent to the origin, has not begun.
    SentToOrigin,
    /// It downloads.
    Pulling,
    /// Of another client: it downloads from the origin.
    AtOrigin,
    /// It has all.
    Complete,
}

/// A peer or a holder.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) peer: Arc<str>,
    pub(super) host: Arc<HostInfo>,
    pub(super) kind: Kind,
    pub(super) state: State,
    /// What it has; not kept up when it is complete.
    pub(super) have: Pieces,
    /// Pieces are fetched or were fetched with a credential.
    pub(super) private: bool,
    /// It takes nothing without proof: those that have all can give it, and the origin.
    pub(super) wants_proof: bool,
    /// Its host has been caught with wrong pieces.
    pub(super) banned: bool,
    /// What it has counts: others may have it from here.
    pub(super) counted: bool,
    /// Hosts that were told to ask it and had nothing from it, since it last had something new.
    pub(super) doubters: Vec<Arc<str>>,
    /// It has had something new since it came.
    pub(super) proven: bool,
    /// So many that what it has does not count.
    pub(super) doubted: bool,
    /// Who it is told to ask, as slots; the best first.
    pub(super) parents: Vec<u32>,
    /// Who is told to ask it.
    pub(super) children: Vec<u32>,
    /// Hosts that it does not get as parents.
    pub(super) avoid: Vec<Avoided>,
    /// When it came.
    pub(super) since: Duration,
    /// When it last had something new.
    pub(super) moved: Duration,
    /// When its parents were last changed because it got nowhere.
    pub(super) helped: Duration,
    /// It is not sent to the origin until then: it got nowhere with its last pieces.
    pub(super) unfit: Duration,
    /// It fetches all from the origin by itself: nobody may feed it.
    pub(super) alone: bool,
    /// It is told anew at the next occasion.
    pub(super) stale: bool,
    /// Fingerprint of what it was told last.
    pub(super) told: Option<u64>,
    /// Its place in the list of members.
    pub(super) at: usize,
}

/// A host that a peer keeps away from.
#[derive(Clone, Debug)]
pub(super) struct Avoided {
    host: Arc<str>,
    /// Until then; or, if this is the last moment that there is, whatever becomes of the host.
    until: Duration,
    /// Since then. What comes from the host later is another peer: it may have died and be back.
    since: Duration,
}

// === impl Avoided ===

impl Avoided {
    fn is(&self, parent: &Member, now: Duration) -> bool {
        let same = parent.since <= self.since || self.until == Duration::MAX;
        self.until > now && same && self.host == parent.host.id
    }
}

// === impl Member ===

impl Member {
    pub(super) fn new(peer: Arc<str>, host: Arc<HostInfo>, kind: Kind, state: State, now: Duration) -> Self {
        Self {
            peer,
            host,
            kind,
            state,
            have: Pieces::none(0),
            private: false,
            wants_proof: false,
            banned: false,
            counted: false,
            doubters: Vec::new(),
            doubted: false,
            proven: false,
            parents: Vec::new(),
            children: Vec::new(),
            avoid: Vec::new(),
            since: now,
            moved: now,
            helped: now,
            unfit: Duration::ZERO,
            alone: false,
            stale: false,
            told: None,
            at: 0,
        }
    }

    /// Whether it takes orders, and needs some.
    pub(super) fn is_pulling(&self) -> bool {
        self.kind == Kind::Ours && self.state == State::Pulling
    }

    /// Whether it says that it has every piece, of a content whose length is known.
    pub(super) const fn have_all(&self) -> bool {
        self.have.count() > 0 && self.have.is_full()
    }

    /// Whether it has all, or fetches it by whatever way.
    pub(super) const fn has_or_will_have(&self) -> bool {
        matches!(self.state, State::Pulling | State::AtOrigin | State::Complete)
    }

    /// Whether what it has may go to others at all.
    pub(super) fn gives(&self) -> bool {
        !self.host.disable_shared
            && !self.banned
            && self.has_or_will_have()
            && (!self.private || self.host.keyed)
    }

    /// Whether pieces may go from `parent` to this one.
    pub(super) fn may_ask(&self, parent: &Self, now: Duration) -> bool {
        let private = self.private || parent.private;
        parent.gives()
            && parent.host.id != self.host.id
            && (!self.wants_proof || parent.state == State::Complete)
            && (!private || (self.host.keyed && parent.host.keyed))
            && !self.avoid.iter().any(|avoided| avoided.is(parent, now))
    }

    /// Keeps away from a host for a while.
    pub(super) fn avoid(&mut self, host: &Arc<str>, until: Duration, now: Duration) {
        let before = self.avoid.iter().find(|avoided| avoided.host == *host).map(|avoided| avoided.until);
        self.avoid.retain(|avoided| avoided.until > now && avoided.host != *host);
        let until = before.map_or(until, |before| before.max(until));
        self.avoid.push(Avoided { host: host.clone(), until, since: now });
    }
}
