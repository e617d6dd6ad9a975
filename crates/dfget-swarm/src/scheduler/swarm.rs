//! One swarm: its members, who asks whom, and who fetches what from the origin.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use dfget_core::{UNITS, piece_count, unit_length};

use super::member::{Kind, Member, State};
use super::{Order, SchedulerOptions, What};
use crate::pieces::Pieces;
use crate::words::{HostInfo, Parent};

/// In swarms of up to so many members everybody asks everybody.
const SMALL: usize = 9;

/// A peer gets at most so many times `most_parents`, counting those that others chose it for.
const MOST_MUTUAL: usize = 2;

/// Changes that can wait are told together, after this long.
const GATHER: Duration = Duration::from_millis(200);

/// How often time alone is looked at.
const ROUND: Duration = Duration::from_millis(500);

/// A round looks at this part of the members.
const ROUNDS_FOR_ALL: usize = 4;

/// Pieces of the first grant, when the length is not known.
const FIRST_GRANT: u32 = 32;

/// The part of a content that one grant is about, and its limits in bytes.
const GRANTS: u64 = 16;
const GRANT_AT_LEAST: u64 = 16 << 20;
const GRANT_AT_MOST: u64 = 256 << 20;

/// A grant that brings no new piece for this long goes to another, or longer if pieces are long or others
/// are slow, too.
const GRANT_STALLS: Duration = Duration::from_secs(8);

/// The same if it is known how long a piece takes, and this many times that is less: before the first of those that
/// wait loses its patience, and fetches for itself (see `Patience`).
const GRANT_STALLS_AT_LEAST: Duration = Duration::from_millis(2500);
const GRANT_STALLS_AFTER: u32 = 16;

/// A grant of which no more than this is left makes room for the next.
const NEARLY: u32 = 2;

/// At the end, half of a grant that brought nothing new for this long goes to another, or longer if all are
/// slow.
const GRANT_IS_SLOW: Duration = Duration::from_secs(2);

/// Bytes a second that are to be expected from an origin, at least.
const ORIGIN_AT_LEAST: u64 = 4 << 20;

/// When so many, or half of those that download, had nothing from a member, what it has does not count.
const DOUBTERS: usize = 3;

/// How long a peer that got nowhere with a grant gets no other.
const UNFIT: Duration = Duration::from_secs(120);

/// A peer that takes orders and gets nothing new for this long gets other parents, or a grant.
const STUCK: Duration = Duration::from_secs(4);

/// How long another client's peer waits for a parent before it goes to the origin, and at most if many
/// are there already.
const STOCK_WAITS: Duration = Duration::from_secs(2);
const STOCK_WAITS_AT_MOST: Duration = Duration::from_secs(8);

/// Candidates that another client's peer gets.
const STOCK_PARENTS: usize = 4;

/// A run of pieces that one peer fetches from the origin.
#[derive(Debug)]
struct Grant {
    slot: u32,
    range: Range<u32>,
    /// Pieces of it that the peer lacks.
    left: u32,
    /// When it was given, or last moved.
    moved: Duration,
}

/// A swarm.
#[derive(Debug)]
pub(super) struct Swarm {
    members: Vec<Option<Member>>,
    free: Vec<u32>,
    /// Slots in use, in no order.
    list: Vec<u32>,
    total: Option<u64>,
    /// The total is the word of a holder.
    total_sure: bool,
    count: u32,
    /// Some fetch it with a credential: what strangers have is nothing to count on.
    private: bool,
    /// How many that count have each piece, those that have all not counted. Empty until somebody has less than all:
    /// of what is only held, nothing is kept that is as long as the content.
    copies: Vec<u32>,
    /// How many that count have all.
    completes: u32,
    /// Peers that take orders and are not done.
    pulling: usize,
    grants: Vec<Grant>,
    /// The one that fetches all of it, when the origin takes no notice of ranges, or another client does.
    whole: Option<u32>,
    whole_only: bool,
    /// The one of those that take nothing without proof that fetches all, so that it can prove it to the others.
    witness: Option<u32>,
    /// What a granted piece takes, from the last ones.
    granted_piece: Option<Duration>,
    /// How many grants stalled in a row.
    stalls: u32,
    stale: Vec<u32>,
    waiting: Vec<u32>,
    /// When somebody last had something new, or came.
    moved: Duration,
    /// The next round begins here in `list`.
    cursor: usize,
    next_round: Duration,
    next_flush: Option<Duration>,
}

/// What all functions of a swarm need.
pub(super) struct Context<'a> {
    pub(super) options: &'a SchedulerOptions,
    pub(super) random: &'a mut fastrand::Rng,
    pub(super) now: Duration,
    pub(super) orders: &'a mut Vec<Order>,
}

// === impl Swarm ===

impl Swarm {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            members: Vec::new(),
            free: Vec::new(),
            list: Vec::new(),
            total: None,
            total_sure: false,
            count: 0,
            private: false,
            copies: Vec::new(),
            completes: 0,
            pulling: 0,
            grants: Vec::new(),
            whole: None,
            whole_only: false,
            witness: None,
            granted_piece: None,
            stalls: 0,
            stale: Vec::new(),
            waiting: Vec::new(),
            moved: now,
            cursor: 0,
            next_round: now,
            next_flush: None,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn member(&self, slot: u32) -> &Member {
        self.members[slot as usize].as_ref().expect("a slot in use")
    }

    pub(super) fn member_mut(&mut self, slot: u32) -> &mut Member {
        self.members[slot as usize].as_mut().expect("a slot in use")
    }

    fn find(&self, mut which: impl FnMut(&Member) -> bool) -> Option<u32> {
        self.list.iter().copied().find(|&slot| which(self.member(slot)))
    }

    /// When the swarm is to be looked at again, if ever.
    pub(super) fn due(&self) -> Option<Duration> {
        let round = (self.pulling > 0 || !self.waiting.is_empty()).then_some(self.next_round);
        match (round, self.next_flush) {
            (Some(round), Some(flush)) => Some(round.min(flush)),
            (round, flush) => round.or(flush),
        }
    }

    // --- members come and go ---

    /// Adds a member; its slot.
    pub(super) fn add(&mut self, mut member: Member) -> u32 {
        member.at = self.list.len();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            u32::try_from(self.members.len() - 1).unwrap_or(u32::MAX)
        });
        self.pulling += usize::from(member.is_pulling());
        if member.private && member.host.keyed && !std::mem::replace(&mut self.private, true) {
            for at in 0..self.list.len() {
                if !self.member(self.list[at]).host.keyed {
                    self.uncount(self.list[at]);
                }
            }
        }
        self.members[slot as usize] = Some(member);
        self.list.push(slot);
        slot
    }

    /// Takes a member out: its peer id. Those that asked it get others.
    pub(super) fn remove(&mut self, slot: u32, context: &mut Context<'_>) -> Arc<str> {
        let children = self.unplug(slot);
        let member = self.members[slot as usize].take().expect("a slot in use");
        self.pulling -= usize::from(member.is_pulling());
        self.list.swap_remove(member.at);
        if let Some(&moved) = self.list.get(member.at) {
            self.member_mut(moved).at = member.at;
        }
        self.waiting.retain(|&other| other != slot);
        self.stale.retain(|&other| other != slot);
        self.free.push(slot);
        self.after_loss(&children, context);
        member.peer
    }

    /// Takes from a member all that depends on it. Returns those that asked it.
    fn unplug(&mut self, slot: u32) -> Vec<u32> {
        self.uncount(slot);
        self.drop_parents(slot);
        let children = std::mem::take(&mut self.member_mut(slot).children);
        for &child in &children {
            self.member_mut(child).parents.retain(|&other| other != slot);
        }
        self.grants.retain(|grant| grant.slot != slot);
        self.whole = self.whole.filter(|&whole| whole != slot);
        self.witness = self.witness.filter(|&witness| witness != slot);
        children
    }

    /// Finds new parents for those that lost one, and new fetchers for what went with it.
    fn after_loss(&mut self, children: &[u32], context: &mut Context<'_>) {
        for &child in children {
            let left = self.member(child).parents.len();
            if left * 2 < context.options.most_parents {
                self.find_parents(child, context);
            }
            self.restale(child, context.now);
            if left == 0 {
                self.tell(child, context);
            }
        }
        self.plan(context);
    }

    /// Its host has been caught: it gives nothing any more.
    pub(super) fn ban(&mut self, slot: u32, context: &mut Context<'_>) {
        let member = self.member_mut(slot);
        if std::mem::replace(&mut member.banned, true) {
            return;
        }
        let parents = member.parents.clone();
        let children = self.unplug(slot);
        for parent in parents {
            self.connect(slot, parent);
        }
        self.restale(slot, context.now);
        self.after_loss(&children, context);
    }

    /// Its host was caught long ago: it gives again.
    pub(super) fn pardon(&mut self, slot: u32) {
        self.member_mut(slot).banned = false;
        self.count_in(slot);
    }

    /// Its host is what it was before, or has a new description.
    pub(super) fn describe(&mut self, slot: u32, host: Arc<HostInfo>) {
        self.uncount(slot);
        self.member_mut(slot).host = host;
        self.count_in(slot);
    }

    /// Counts what a member has, if it gives.
    fn count_in(&mut self, slot: u32) {
        let Self { members, copies, completes, private, count, .. } = self;
        let Some(member) = members[slot as usize].as_mut() else { return };
        if member.counted || member.doubted || !member.gives() || (*private && !member.host.keyed) {
            return;
        }
        member.counted = true;
        if member.state == State::Complete {
            *completes += 1;
        } else {
            copies.resize(*count as usize, 0);
            member.have.iter().for_each(|piece| copies[piece as usize] += 1);
        }
    }

    fn uncount(&mut self, slot: u32) {
        let Self { members, copies, completes, .. } = self;
        let Some(member) = members[slot as usize].as_mut() else { return };
        if !std::mem::replace(&mut member.counted, false) {
            return;
        }
        if member.state == State::Complete {
            *completes -= 1;
        } else {
            member.have.iter().for_each(|piece| copies[piece as usize] -= 1);
        }
    }

    /// A length is told. The first word counts, until a holder says otherwise. `true` if it is news.
    pub(super) fn learn_total(&mut self, total: u64, sure: bool, context: &mut Context<'_>) -> bool {
        if self.total == Some(total) || (self.total.is_some() && (!sure || self.total_sure)) {
            self.total_sure |= sure && self.total == Some(total);
            return false;
        }
        for at in 0..self.list.len() {
            self.uncount(self.list[at]);
        }
        self.total = Some(total);
        self.total_sure = sure;
        self.count = u32::try_from(piece_count(total, unit_length(total))).unwrap_or(u32::MAX);
        self.copies = Vec::new();
        for at in 0..self.list.len() {
            let slot = self.list[at];
            let count = self.count;
            let member = self.member_mut(slot);
            if member.have.count() != count && member.state != State::Complete {
                member.have = Pieces::none(count);
            }
            self.count_in(slot);
            if self.member(slot).is_pulling() {
                self.restale(slot, context.now);
            }
        }
        for grant in &mut self.grants {
            grant.range.end = grant.range.end.min(self.count);
            grant.left = grant.range.end.saturating_sub(grant.range.start);
        }
        self.grants.retain(|grant| grant.left > 0);
        true
    }

    /// Whether a holder of another length is not believed: another holder has told its length, or it has not shown the
    /// cluster's key and anybody has.
    pub(super) fn denies(&self, total: u64, keyed: bool) -> bool {
        (self.total_sure || !keyed) && self.total.is_some_and(|known| known != total)
    }

    // --- who asks whom ---

    fn connect(&mut self, child: u32, parent: u32) {
        if !self.member(child).parents.contains(&parent) {
            self.member_mut(child).parents.push(parent);
            self.member_mut(parent).children.push(child);
        }
    }

    fn disconnect(&mut self, child: u32, parent: u32) {
        self.member_mut(child).parents.retain(|&other| other != parent);
        self.member_mut(parent).children.retain(|&other| other != child);
    }

    fn drop_parents(&mut self, slot: u32) {
        for parent in std::mem::take(&mut self.member_mut(slot).parents) {
            self.member_mut(parent).children.retain(|&other| other != slot);
        }
    }

    /// Members to look at: all of a small swarm, else some by chance.
    fn sample(&self, wanted: usize, random: &mut fastrand::Rng) -> Vec<u32> {
        let len = self.list.len();
        if len <= SMALL.max(wanted * 2) {
            let mut all = self.list.clone();
            random.shuffle(&mut all);
            return all;
        }
        let mut some: Vec<u32> = (0..wanted).map(|_| self.list[random.usize(..len)]).collect();
        some.sort_unstable();
        some.dedup();
        random.shuffle(&mut some);
        some
    }

    fn most_parents(&self, options: &SchedulerOptions) -> usize {
        if self.list.len() <= SMALL { SMALL } else { options.most_parents }
    }

    /// Fills up the parents of a peer that takes orders; and makes it a parent of theirs.
    fn find_parents(&mut self, slot: u32, context: &mut Context<'_>) {
        let most = self.most_parents(context.options);
        let lacks = most.saturating_sub(self.member(slot).parents.len());
        if lacks == 0 || self.member(slot).alone {
            return;
        }
        let now = context.now;
        let mut found: Vec<(f64, f64, u32)> = Vec::new();
        for other in self.sample(lacks * 4, context.random) {
            let (child, parent) = (self.member(slot), self.member(other));
            if other != slot && child.may_ask(parent, now) && !child.parents.contains(&other) {
                let load = load(parent, most) - context.random.f64() / 2.0;
                found.push((load, nearness(&child.host, &parent.host), other));
            }
        }
        found.sort_by(|one, two| (one.0 - one.1).total_cmp(&(two.0 - two.1)));
        let near = lacks.div_ceil(2).min(found.len());
        found[near..].sort_by(|one, two| one.0.total_cmp(&two.0));
        for (_, _, other) in found.into_iter().take(lacks) {
            self.connect(slot, other);
            self.connect_back(slot, other, most, now);
        }
        self.restale(slot, now);
    }

    /// Makes `slot` a parent of the peer that has become its own.
    fn connect_back(&mut self, slot: u32, other: u32, most: usize, now: Duration) {
        let child = self.member(other);
        let room = child.is_pulling() && !child.alone && child.parents.len() < most * MOST_MUTUAL;
        if room && child.may_ask(self.member(slot), now) {
            self.connect(other, slot);
            self.restale(other, now);
        }
    }

    /// A newcomer that has all (or something) is made a parent of some that lack it.
    pub(super) fn find_children(&mut self, slot: u32, context: &mut Context<'_>) {
        let most = self.most_parents(context.options);
        for other in self.sample(most * 2, context.random) {
            if self.member(slot).children.len() < most {
                self.connect_back(slot, other, most, context.now);
            }
        }
    }

    /// What a peer said of its parents: it does not get them (for a while).
    pub(super) fn part(
        &mut self,
        slot: u32,
        host: &Arc<str>,
        until: Duration,
        context: &mut Context<'_>,
    ) -> bool {
        self.member_mut(slot).avoid(host, until, context.now);
        let parent = self.member(slot).parents.iter().copied().find(|&at| self.member(at).host.id == *host);
        let Some(parent) = parent else { return false };
        self.disconnect(slot, parent);
        self.doubt(parent, slot, context);
        if self.member(slot).is_pulling() {
            self.find_parents(slot, context);
            self.restale(slot, context.now);
        }
        true
    }

    /// A peer had nothing from this one. When enough say so, what it claims to have is fetched anew.
    fn doubt(&mut self, slot: u32, by: u32, context: &mut Context<'_>) {
        let doubter = self.member(by).host.id.clone();
        let pulling = self.pulling;
        let member = self.member_mut(slot);
        if member.doubted || member.doubters.contains(&doubter) {
            return;
        }
        member.doubters.push(doubter);
        if member.doubters.len() >= DOUBTERS || member.doubters.len() * 2 >= pulling {
            member.doubted = true;
            self.uncount(slot);
            self.plan(context);
        }
    }

    /// When nobody gets anything, what was claimed by those that never got anything, or are doubted, does
    /// not count, and is fetched anew.
    fn check_claims(&mut self, context: &mut Context<'_>) {
        let stands = context.now >= self.moved + STUCK && self.grants.is_empty() && self.whole.is_none();
        if self.pulling == 0 || !stands {
            return;
        }
        self.moved = context.now;
        for slot in self.list.clone() {
            let member = self.member_mut(slot);
            let claims = member.state == State::Pulling && member.have.present() > 0 && !member.proven;
            if claims || !member.doubters.is_empty() {
                member.doubted = true;
                self.uncount(slot);
            }
        }
        self.plan(context);
    }

    /// A peer that has something new is alive.
    fn believe(&mut self, slot: u32) {
        let member = self.member_mut(slot);
        member.doubters.clear();
        if std::mem::replace(&mut member.doubted, false) {
            self.count_in(slot);
        }
    }

    // --- a peer that takes orders ---

    /// What a new peer has.
    pub(super) fn begin(&mut self, slot: u32, have: Pieces) {
        self.uncount(slot);
        let none = Pieces::none(self.count);
        self.member_mut(slot).have = if have.count() == self.count { have } else { none };
    }

    /// The first orders of a peer that takes some.
    pub(super) fn start(&mut self, slot: u32, context: &mut Context<'_>) {
        self.count_in(slot);
        self.set_alone(slot);
        self.find_parents(slot, context);
        self.plan(context);
        self.tell(slot, context);
    }

    /// Whether nobody may feed this peer, now or later: it goes to the origin by itself.
    fn set_alone(&mut self, slot: u32) {
        let member = self.member(slot);
        let alone = if member.private && !member.host.keyed {
            true
        } else if member.gives() {
            false
        } else {
            let others = |other: &Member| other.gives() && other.host.id != member.host.id;
            self.completes == 0 && self.find(others).is_none()
        };
        self.member_mut(slot).alone = alone;
    }

    /// What a peer says that it has now.
    pub(super) fn progress(&mut self, slot: u32, have: &Pieces, context: &mut Context<'_>) {
        if have.count() != self.count || !self.member(slot).is_pulling() {
            return;
        }
        let Self { members, copies, count, .. } = self;
        copies.resize(*count as usize, 0);
        let Some(member) = members[slot as usize].as_mut() else { return };
        let (mut news, mut losses, counted) = (0, 0, member.counted);
        let first = member.have.present() == 0;
        for piece in have.without(&member.have) {
            news += 1;
            copies[piece as usize] += u32::from(counted);
        }
        for piece in member.have.without(have) {
            losses += 1;
            copies[piece as usize] -= u32::from(counted);
        }
        member.have.clone_from(have);
        if news > 0 {
            member.moved = context.now;
            member.proven = true;
            self.moved = context.now;
            self.moved_grants(slot, context.now);
            self.believe(slot);
        }
        if news > 0 && first {
            self.answer_waiting(context);
        }
        if losses > 0 || self.has_grant_to_end(slot) {
            self.plan(context);
        }
    }

    /// A peer has all.
    pub(super) fn finish(&mut self, slot: u32, context: &mut Context<'_>) {
        let was = self.member(slot).is_pulling();
        self.pulling -= usize::from(was);
        self.uncount(slot);
        self.drop_parents(slot);
        self.member_mut(slot).state = State::Complete;
        self.count_in(slot);
        self.grants.retain(|grant| grant.slot != slot);
        self.whole = self.whole.filter(|&whole| whole != slot);
        self.witness = self.witness.filter(|&witness| witness != slot);
        self.waiting.retain(|&other| other != slot);
        self.answer_waiting(context);
        self.plan(context);
    }

    // --- the origin ---

    /// Notes which pieces of its grants a peer has got.
    fn moved_grants(&mut self, slot: u32, now: Duration) {
        let Self { grants, members, granted_piece, stalls, .. } = self;
        let Some(member) = members[slot as usize].as_ref() else { return };
        for grant in grants.iter_mut().filter(|grant| grant.slot == slot) {
            let left = grant.range.clone().filter(|&piece| !member.have.contains(piece)).count();
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            if left < grant.left {
                let each = now.saturating_sub(grant.moved) / (grant.left - left);
                *granted_piece = Some(granted_piece.map_or(each, |before| (before * 3 + each) / 4));
                grant.left = left;
                grant.moved = now;
                *stalls = 0;
            }
        }
    }

    fn has_grant_to_end(&self, slot: u32) -> bool {
        self.grants.iter().any(|grant| grant.slot == slot && grant.left <= NEARLY)
    }

    /// Says who fetches what, until enough are at the origin or nothing is left to say.
    pub(super) fn plan(&mut self, context: &mut Context<'_>) {
        self.end_grants(context.now);
        self.call_witness(context);
        if self.pulling == 0 || self.whole.is_some() {
            return;
        }
        if self.whole_only {
            self.grants.clear();
            if self.completes == 0
                && let Some(slot) = self.fetcher(context)
            {
                self.whole = Some(slot);
                self.tell(slot, context);
            }
            return;
        }
        while self.at_origin() < context.options.most_at_origin {
            let Some(range) = self.next_run() else { return };
            let Some(slot) = self.fetcher(context) else { return };
            let left = range.end - range.start;
            self.grants.push(Grant { slot, range, left, moved: context.now });
            self.tell(slot, context);
        }
    }

    /// Where some take nothing without proof, and nobody has verified the content, one of them fetches all of it:
    /// what all of them lack, one proves to all. Which one is left to chance: it may be a liar.
    fn call_witness(&mut self, context: &mut Context<'_>) {
        if self.completes > 0 || self.witness.is_some() {
            return;
        }
        let fit = |member: &Member| member.is_pulling() && member.wants_proof && member.unfit <= context.now;
        let fit: Vec<u32> = self.list.iter().copied().filter(|&slot| fit(self.member(slot))).collect();
        if fit.is_empty() {
            return;
        }
        let slot = fit[context.random.usize(..fit.len())];
        self.witness = Some(slot);
        self.member_mut(slot).moved = context.now;
        self.tell(slot, context);
    }

    /// A witness that gets nowhere makes room for another.
    fn check_witness(&mut self, context: &mut Context<'_>) {
        let late = |slot: &u32| context.now >= self.member(*slot).moved + GRANT_STALLS;
        let Some(slot) = self.witness.filter(late) else { return self.call_witness(context) };
        self.witness = None;
        self.member_mut(slot).unfit = context.now + UNFIT;
        self.tell(slot, context);
        self.call_witness(context);
    }

    /// A peer says whether it takes anything without proof.
    pub(super) fn set_wants_proof(&mut self, slot: u32, wants: bool, context: &mut Context<'_>) {
        if std::mem::replace(&mut self.member_mut(slot).wants_proof, wants) == wants {
            return;
        }
        if self.witness == Some(slot) && !wants {
            self.witness = None;
        }
        self.find_parents(slot, context);
        self.restale(slot, context.now);
        self.call_witness(context);
    }

    /// Grants that are done are forgotten, and what their peers were told of them.
    fn end_grants(&mut self, now: Duration) {
        let done = |grant: &Grant| grant.left == 0;
        let ended: Vec<u32> =
            self.grants.iter().filter(|grant| done(grant)).map(|grant| grant.slot).collect();
        self.grants.retain(|grant| !done(grant));
        for slot in ended {
            self.restale(slot, now);
        }
    }

    /// How many grants are in full swing: one that is nearly done makes room for the next.
    fn at_origin(&self) -> usize {
        let small = self.count <= FIRST_GRANT && self.total.is_some();
        self.grants.iter().filter(|grant| grant.left > NEARLY || small).count()
    }

    /// Whether nobody that counts has a piece, but those that have all.
    fn has_nobody(&self, piece: u32) -> bool {
        self.copies.get(piece as usize).is_none_or(|&copies| copies == 0)
    }

    /// How many pieces are counted.
    #[cfg(test)]
    pub(super) const fn counted(&self) -> usize {
        self.copies.len()
    }

    /// The next pieces that nobody has and nobody fetches.
    fn next_run(&self) -> Option<Range<u32>> {
        let Some(total) = self.total else {
            return self.grants.is_empty().then_some(0..FIRST_GRANT);
        };
        if self.completes > 0 {
            return None;
        }
        let length = unit_length(total);
        let bytes = (total / GRANTS).clamp(GRANT_AT_LEAST, GRANT_AT_MOST);
        let most = u32::try_from(bytes / length).unwrap_or(u32::MAX).max(1);
        let open = |piece: u32| {
            self.has_nobody(piece) && !self.grants.iter().any(|grant| grant.range.contains(&piece))
        };
        let start = (0..self.count).find(|&piece| open(piece))?;
        let end = (start..self.count.min(start + most)).find(|&piece| !open(piece));
        Some(start..end.unwrap_or_else(|| self.count.min(start + most)))
    }

    /// The peer that fetches next: of some, the one that has most. Its link is shared between the origin and its
    /// parents then, and whoever is behind would fall behind further.
    fn fetcher(&self, context: &mut Context<'_>) -> Option<u32> {
        let now = context.now;
        let fit = |member: &Member| {
            member.is_pulling() && !member.alone && member.gives() && !member.doubted && !member.have_all()
        };
        let free = |slot: u32| !self.grants.iter().any(|grant| grant.slot == slot && grant.left > NEARLY);
        let good = |slot: u32| {
            let member = self.member(slot);
            fit(member) && member.unfit <= now && free(slot)
        };
        let some = self.sample(8, context.random).into_iter().filter(|&slot| good(slot));
        let best = some.max_by_key(|&slot| self.member(slot).have.present());
        best.or_else(|| self.list.iter().copied().find(|&slot| good(slot))).or_else(|| {
            // Better one that failed, or one that does not give, than none.
            let lacks = |member: &Member| member.is_pulling() && !member.alone && !member.have_all();
            let any = |&slot: &u32| lacks(self.member(slot)) && free(slot);
            let unfit = |&slot: &u32| (!fit(self.member(slot)), self.member(slot).unfit);
            let idle = self.grants.is_empty();
            self.list.iter().copied().filter(any).filter(|_| idle).min_by_key(unfit)
        })
    }

    /// The origin takes no notice of ranges: one peer fetches all.
    pub(super) fn set_whole_only(&mut self, slot: u32, context: &mut Context<'_>) {
        if std::mem::replace(&mut self.whole_only, true) {
            return;
        }
        let had: Vec<u32> = self.grants.drain(..).map(|grant| grant.slot).collect();
        if self.whole.is_none() && self.completes == 0 && self.member(slot).is_pulling() {
            self.whole = Some(slot);
        }
        self.tell(slot, context);
        for other in had {
            self.tell(other, context);
        }
    }

    /// The origin gives a peer nothing more: what it was to fetch goes to others.
    pub(super) fn set_no_origin(&mut self, slot: u32, context: &mut Context<'_>) {
        self.member_mut(slot).unfit = context.now + UNFIT;
        let before = self.grants.len();
        self.grants.retain(|grant| grant.slot != slot);
        let whole = self.whole == Some(slot) && self.pulling > 1;
        self.whole = self.whole.filter(|_| !whole);
        if whole || before != self.grants.len() {
            self.plan(context);
            self.tell(slot, context);
        }
    }

    /// Takes grants from those that get nowhere.
    fn check_grants(&mut self, context: &mut Context<'_>) {
        let length = self.total.map_or(0, unit_length);
        let piece = Duration::from_secs(length / ORIGIN_AT_LEAST);
        let patience = match self.granted_piece {
            Some(usual) => {
                let soon = (usual * GRANT_STALLS_AFTER).max(GRANT_STALLS_AT_LEAST);
                soon.min(GRANT_STALLS + piece).max(usual * 4)
            }
            None => GRANT_STALLS_AT_LEAST + piece,
        };
        let patience = patience * (1 << self.stalls.min(6));
        let now = context.now;
        let stalled = self.grants.iter().find(|grant| now >= grant.moved + patience).map(|grant| grant.slot);
        if let Some(slot) = stalled
            && self.pulling > 1
        {
            self.stalls += 1;
            self.grants.retain(|grant| grant.slot != slot);
            self.member_mut(slot).unfit = now + UNFIT;
            self.plan(context);
            self.tell(slot, context);
        }
    }

    /// At the end, the tail of a slow grant goes to another.
    fn split_grants(&mut self, context: &mut Context<'_>) {
        let Some(usual) = self.granted_piece else { return };
        if self.whole.is_some()
            || self.at_origin() >= context.options.most_at_origin
            || self.next_run().is_some()
        {
            return;
        }
        let now = context.now;
        let patience = (usual * 3 * UNITS).max(GRANT_IS_SLOW);
        let late = |grant: &&Grant| grant.left >= 2 * UNITS && now >= grant.moved + patience;
        let Some(at) = self.grants.iter().position(|grant| late(&grant)) else { return };
        let Some(slot) = self.fetcher(context).filter(|&slot| slot != self.grants[at].slot) else { return };
        let grant = &mut self.grants[at];
        let (from, end) = (grant.slot, grant.range.end);
        let middle = end - grant.left / 2;
        grant.range.end = middle;
        grant.left -= end - middle;
        self.grants.push(Grant { slot, range: middle..end, left: end - middle, moved: now });
        self.moved_grants(slot, now);
        self.tell(from, context);
        self.tell(slot, context);
    }

    // --- telling ---

    fn restale(&mut self, slot: u32, now: Duration) {
        let member = self.member_mut(slot);
        if member.is_pulling() && !std::mem::replace(&mut member.stale, true) {
            self.stale.push(slot);
            self.next_flush.get_or_insert(now + GATHER);
        }
    }

    /// Tells a peer its parents and its part of the origin, unless it knows.
    fn tell(&mut self, slot: u32, context: &mut Context<'_>) {
        let member = self.member(slot);
        if !member.is_pulling() {
            return;
        }
        let parents: Vec<Parent> = member.parents.iter().map(|&at| parent(self.member(at))).collect();
        let mut origin: Vec<Range<u32>> = if member.alone
            || self.whole == Some(slot)
            || self.witness == Some(slot)
        {
            std::iter::once(0..u32::MAX).collect()
        } else {
            self.grants.iter().filter(|grant| grant.slot == slot).map(|grant| grant.range.clone()).collect()
        };
        origin.sort_by_key(|range| range.start);
        let mut hasher = DefaultHasher::new();
        let mut peers: Vec<&Arc<str>> = parents.iter().map(|parent| &parent.peer).collect();
        peers.sort_unstable();
        (peers, &origin, self.total).hash(&mut hasher);
        let told = Some(hasher.finish());
        let (peer, total) = (member.peer.clone(), self.total);
        let member = self.member_mut(slot);
        if std::mem::replace(&mut member.stale, false) {
            self.stale.retain(|&other| other != slot);
        }
        let member = self.member_mut(slot);
        if std::mem::replace(&mut member.told, told) != told {
            context.orders.push(Order { peer, what: What::Parents { parents, origin, total } });
        }
    }

    // --- time ---

    /// What is due by time alone.
    pub(super) fn tick(&mut self, context: &mut Context<'_>) {
        if self.next_flush.is_some_and(|at| at <= context.now) {
            self.next_flush = None;
            for slot in std::mem::take(&mut self.stale) {
                self.member_mut(slot).stale = false;
                self.tell(slot, context);
            }
        }
        if self.next_round <= context.now {
            self.next_round = context.now + ROUND;
            self.check_grants(context);
            self.check_witness(context);
            self.check_claims(context);
            self.split_grants(context);
            self.check_whole(context);
            self.answer_waiting(context);
            self.help_some(context);
        }
    }

    /// A peer of another client that fetches all and gets nowhere is not waited for.
    fn check_whole(&mut self, context: &mut Context<'_>) {
        let Some(slot) = self.whole else { return };
        let member = self.member(slot);
        if member.kind == Kind::Stock && context.now >= member.moved + GRANT_STALLS {
            self.whole = None;
            self.plan(context);
        }
    }

    /// Looks at a part of the peers for those that get nowhere.
    fn help_some(&mut self, context: &mut Context<'_>) {
        let part = self.list.len().div_ceil(ROUNDS_FOR_ALL).max(SMALL).min(self.list.len());
        for _ in 0..part {
            self.cursor = (self.cursor + 1) % self.list.len();
            let slot = self.list[self.cursor];
            if self.member(slot).is_pulling() {
                self.help(slot, context);
            }
        }
    }

    fn help(&mut self, slot: u32, context: &mut Context<'_>) {
        let now = context.now;
        let was = self.member(slot).alone;
        self.set_alone(slot);
        if self.member(slot).alone != was {
            self.find_parents(slot, context);
            self.tell(slot, context);
        }
        let member = self.member(slot);
        let stuck = now >= member.moved.max(member.helped) + STUCK;
        let few = member.parents.len() * 2 < self.most_parents(context.options).min(self.list.len());
        if !stuck && !few {
            return;
        }
        let fetches = self.whole == Some(slot) || self.grants.iter().any(|grant| grant.slot == slot);
        if stuck && !fetches && !self.member(slot).alone {
            self.member_mut(slot).helped = now;
            self.shake(slot, context);
        }
        self.find_parents(slot, context);
    }

    /// A peer that gets nowhere: parents that have nothing for it make room for others; and what nobody
    /// that it can see has is fetched by itself.
    fn shake(&mut self, slot: u32, context: &mut Context<'_>) {
        let have = &self.member(slot).have;
        let useful =
            |parent: &Member| parent.state == State::Complete || parent.have.without(have).next().is_some();
        let useless: Vec<u32> =
            self.member(slot).parents.iter().copied().filter(|&at| !useful(self.member(at))).collect();
        if self.list.len() > SMALL {
            for parent in useless {
                self.disconnect(slot, parent);
            }
        }
        let moving = self.grants.iter().any(|grant| context.now < grant.moved + GRANT_STALLS * 2);
        let waits_for_origin = self.whole.is_some() || (moving && self.origin_is_the_brake(slot));
        let long = context.now >= self.member(slot).moved + STUCK * 3 && !self.member(slot).wants_proof;
        if long && !waits_for_origin && self.at_origin() < context.options.most_at_origin && !self.whole_only
        {
            self.grant_missing(slot, context);
        }
    }

    /// Whether all that others have is here already, so that waiting is the origin's fault.
    fn origin_is_the_brake(&self, slot: u32) -> bool {
        let have = &self.member(slot).have;
        self.completes == 0 && have.missing().all(|piece| self.has_nobody(piece))
    }

    /// Lets a peer fetch itself what it lacks, a run at a time.
    fn grant_missing(&mut self, slot: u32, context: &mut Context<'_>) {
        let have = &self.member(slot).have;
        let Some(start) = have.missing().next() else { return };
        let end = (start..self.count.min(start + FIRST_GRANT)).find(|&piece| have.contains(piece));
        let range = start..end.unwrap_or_else(|| self.count.min(start + FIRST_GRANT));
        let left = range.end - range.start;
        self.grants.push(Grant { slot, range, left, moved: context.now });
        self.tell(slot, context);
    }

    // --- other clients ---

    /// The first answer to another client's peer.
    pub(super) fn start_stock(&mut self, slot: u32, insists: bool, context: &mut Context<'_>) {
        let now = context.now;
        if self.member(slot).kind != Kind::Stock {
            return;
        }
        let first = insists || !self.list.iter().any(|&other| other != slot && self.will_have(other, slot));
        if first {
            self.send_to_origin(slot, "nobody has it yet", context);
        } else if !self.answer_stock(slot, context) {
            self.member_mut(slot).state =
                State::Waiting { until: now + STOCK_WAITS, last: now + STOCK_WAITS_AT_MOST };
            if !self.waiting.contains(&slot) {
                self.waiting.push(slot);
            }
        }
    }

    /// Whether a member has it or is on its way, and on another host.
    fn will_have(&self, slot: u32, child: u32) -> bool {
        let (member, child) = (self.member(slot), self.member(child));
        let on_its_way = member.has_or_will_have() || member.state == State::SentToOrigin;
        let private = member.private || child.private;
        on_its_way
            && member.host.id != child.host.id
            && !member.host.disable_shared
            && !member.banned
            && (!private || (member.host.keyed && child.host.keyed))
    }

    fn send_to_origin(&mut self, slot: u32, why: &'static str, context: &mut Context<'_>) {
        self.drop_parents(slot);
        let member = self.member_mut(slot);
        member.state = State::SentToOrigin;
        let order = Order { peer: member.peer.clone(), what: What::BackToSource(why) };
        context.orders.push(order);
    }

    /// Another client says that it fetches from its parents; or has what it announced, which it will say.
    pub(super) fn started(&mut self, slot: u32, context: &mut Context<'_>) {
        let member = self.member_mut(slot);
        if member.kind == Kind::Stock && member.state == State::Pulling {
            member.moved = context.now;
            self.answer_waiting(context);
        }
    }

    /// Another client says that it fetches from the origin.
    pub(super) fn at_origin_now(&mut self, slot: u32, context: &mut Context<'_>) {
        let member = self.member_mut(slot);
        if member.kind != Kind::Stock || member.state == State::Complete {
            return;
        }
        member.state = State::AtOrigin;
        member.moved = context.now;
        self.waiting.retain(|&other| other != slot);
        self.drop_parents(slot);
        self.count_in(slot);
        if self.whole.is_none() && self.grants.is_empty() {
            self.whole = Some(slot);
        }
        self.find_children(slot, context);
        self.answer_waiting(context);
    }

    /// Another client has a piece.
    pub(super) fn stock_piece(&mut self, slot: u32, piece: u32, now: Duration) {
        let count = self.count;
        let Self { members, copies, .. } = self;
        let Some(member) = members[slot as usize].as_mut() else { return };
        if member.have.count() != count {
            member.have = Pieces::none(count);
        }
        member.moved = now;
        let first = piece.saturating_mul(UNITS).min(count);
        for unit in first..first.saturating_add(UNITS).min(count) {
            if member.state != State::Complete && member.have.insert(unit) && member.counted {
                copies[unit as usize] += 1;
            }
        }
    }

    /// Gives another client's peer parents, if there are some.
    fn answer_stock(&mut self, slot: u32, context: &mut Context<'_>) -> bool {
        self.drop_parents(slot);
        let now = context.now;
        let most = context.options.most_parents;
        let mut found: Vec<(f64, u32)> = Vec::new();
        for other in self.sample(STOCK_PARENTS * 8, context.random) {
            let (child, parent) = (self.member(slot), self.member(other));
            if other != slot && child.may_ask(parent, now) && !self.asks(other, slot) {
                let ready = f64::from(u8::from(parent.state == State::Complete));
                let score = load(parent, most) - ready - nearness(&child.host, &parent.host);
                found.push((score, other));
            }
        }
        found.sort_by(|one, two| one.0.total_cmp(&two.0));
        found.truncate(STOCK_PARENTS);
        if found.is_empty() {
            return false;
        }
        for (_, other) in found {
            self.connect(slot, other);
        }
        let member = self.member(slot);
        let parents = member.parents.iter().map(|&at| parent(self.member(at))).collect();
        let what = What::Parents { parents, origin: Vec::new(), total: self.total };
        context.orders.push(Order { peer: member.peer.clone(), what });
        self.member_mut(slot).state = State::Pulling;
        self.count_in(slot);
        true
    }

    /// Whether a member of another client asks `target`, itself or by way of its parents. Peers of our
    /// own get all in the end, whoever asks them.
    fn asks(&self, slot: u32, target: u32) -> bool {
        let mut seen = vec![slot];
        let mut at = 0;
        while let Some(&next) = seen.get(at) {
            at += 1;
            if next == target {
                return true;
            }
            if self.member(next).kind == Kind::Stock && self.member(next).state == State::Pulling {
                for &parent in &self.member(next).parents {
                    if !seen.contains(&parent) {
                        seen.push(parent);
                    }
                }
            }
        }
        false
    }

    /// Looks whether there is an answer for those that wait, or no time left.
    fn answer_waiting(&mut self, context: &mut Context<'_>) {
        for slot in std::mem::take(&mut self.waiting) {
            let State::Waiting { until, last } = self.member(slot).state else { continue };
            if self.answer_stock(slot, context) {
                continue;
            }
            let there = |other: &Member| matches!(other.state, State::SentToOrigin | State::AtOrigin);
            let crowd = self.list.iter().filter(|&&other| there(self.member(other))).count();
            let room = crowd < context.options.most_at_origin;
            if context.now >= last || (context.now >= until && room) {
                self.send_to_origin(slot, "no parent in time", context);
            } else {
                self.waiting.push(slot);
            }
        }
    }
}

/// How a member is named to others.
fn parent(member: &Member) -> Parent {
    Parent { peer: member.peer.clone(), host: member.host.clone(), complete: member.state == State::Complete }
}

/// How busy a parent is: its children over what it may have, more if its uplink is thin. A parent that
/// has all counts a bit less.
fn load(parent: &Member, most: usize) -> f64 {
    /// The uplink of a usual node: 1 Gbit/s.
    const USUAL: f64 = 125e6;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let (children, most) = (parent.children.len() as f64, most.max(1) as f64);
    #[expect(clippy::cast_precision_loss, reason = "a weight")]
    let uplink = if parent.host.uplink == 0 { 1.0 } else { parent.host.uplink as f64 / USUAL };
    let bonus = if parent.state == State::Complete { 0.5 } else { 0.0 };
    children / most / uplink.clamp(0.1, 10.0) - bonus
}

/// How near two hosts are, from 0 to 1.5.
fn nearness(one: &HostInfo, two: &HostInfo) -> f64 {
    let levels = |host: &str| host.split('|').filter(|level| !level.is_empty()).count();
    let deepest = levels(&one.location).max(levels(&two.location));
    let same = one.location.split('|').zip(two.location.split('|'));
    let same = same.take_while(|(one, two)| !one.is_empty() && one.eq_ignore_ascii_case(two)).count();
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let place = if deepest == 0 { 0.0 } else { same as f64 / deepest as f64 };
    let idc = !one.idc.is_empty() && one.idc.eq_ignore_ascii_case(&two.idc);
    place + if idc { 0.5 } else { 0.0 }
}
