//! Which piece to ask of whom next.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use dfget_core::UNITS;

use crate::pieces::Pieces;

/// An ask that is younger than this is never called late.
const LATE_AT_LEAST: Duration = Duration::from_secs(3);

/// The same of an ask of a parent that has given nothing yet: it may be one that never will.
const UNKNOWN_LATE_AT_LEAST: Duration = Duration::from_secs(1);

/// Asks under way, with those that are late and do not count any more, are no more than so many times
/// those that count: where all is slow, more asks make it slower.
const MOST_WITH_LATE: usize = 2;

/// An ask that is older than this many times the usual is late: it is asked elsewhere as well.
const LATE: u32 = 4;

/// At the end, when all that is missing is asked for, an ask may be doubled after this many times the
/// usual.
const LATE_AT_THE_END: u32 = 2;

/// How long a parent that broke is not asked, though the scheduler names it again.
const ASIDE: Duration = Duration::from_secs(10);

/// How long this node may have no new piece from the origin until parents are asked for those, too.
const ORIGIN_LATE: Duration = Duration::from_secs(10);

/// One ask in so many goes to the first piece that is missing and not to the rarest.
const IN_ORDER: u32 = 8;

/// The rarest of so many pieces, drawn by chance, is asked for: were it the rarest of all, all would ask
/// for the same one at once.
const DRAWN: usize = 3;

/// Pieces that are asked of parents while the origin sends, so that what it sends is not slowed. Where several nodes
/// share the origin's link each has room for more than it sends: with 2 they fell behind all others. With 8 the pulls of
/// 4 and 8 nodes took longer (`make bench ONLY=cluster`).
const MOST_BESIDE_ORIGIN: usize = 4;

/// A parent that offers so many pieces and has none of them when asked is put aside.
const MOST_DENIED: u32 = 3;

/// How a download picks.
#[derive(Clone, Copy, Debug)]
pub struct PickerOptions {
    /// Pieces asked for and not here yet, at all parents together.
    pub most_asked: usize,
    /// Of those, at one parent; less if there are other parents for them.
    pub most_at_one: usize,
}

impl Default for PickerOptions {
    fn default() -> Self {
        Self { most_asked: 8, most_at_one: 4 }
    }
}

/// One piece to be asked of one parent.
///
/// Pieces here are units; a parent that knows no units is asked for the eight of a whole piece at once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ask {
    /// Id of the parent's host.
    pub host: Arc<str>,
    /// Number of the piece; of several that come together, that of one of them.
    pub piece: u32,
}

/// Why a piece did not come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The parent could not be reached, or the transfer broke off or stalled.
    Broken,
    /// The parent said that it does not have it (any more).
    Missing,
    /// What came was not the piece: its length or checksum was wrong.
    Wrong,
}

/// What this download thinks of a host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trust {
    Fine,
    /// Broke or was too slow; may be asked again when named by the scheduler after this moment.
    Aside(Duration),
    /// Sent what was wrong: never asked again.
    Banned,
}

/// A host that is or was a parent.
#[derive(Debug)]
struct Source {
    host: Arc<str>,
    /// Named by the scheduler, now.
    listed: bool,
    trust: Trust,
    /// It knows no units: what is asked of it comes with all of the piece that it is part of.
    whole: bool,
    offers: Pieces,
    /// Pieces asked of it and not here yet.
    asked: usize,
    /// Pieces that it gave.
    gave: u32,
    /// Pieces that it offered and did not have when asked, since it last gave one.
    denied: u32,
    /// How long a piece of it takes, from the ask; zero as long as none came. Of several that come
    /// together, each takes its part of the time.
    took: Duration,
}

/// A piece that is asked for.
#[derive(Clone, Debug)]
struct Flight {
    source: usize,
    piece: u32,
    /// All that comes with it, itself among them.
    range: Range<u32>,
    since: Duration,
}

/// The choices of one download.
#[derive(Debug)]
pub struct Picker {
    options: PickerOptions,
    random: fastrand::Rng,
    have: Pieces,
    /// Pieces that this node fetches from the origin.
    origin: Pieces,
    /// When there was last something new from the origin.
    origin_moved: Duration,
    sources: Vec<Source>,
    flights: Vec<Flight>,
    /// How many parents that may be asked offer each piece.
    offered: Vec<u32>,
    /// Who gave each piece, as index of `sources`.
    givers: Vec<Option<u32>>,
    /// The last times from ask to piece, of whatever parent.
    times: Vec<Duration>,
    next_time: usize,
    wrong: Vec<Arc<str>>,
    lost: Vec<Arc<str>>,
}

// === impl Source ===

impl Source {
    fn is_live(&self) -> bool {
        self.listed && self.trust == Trust::Fine
    }

    /// How many more pieces may be asked of it: one until it has proved itself.
    fn room(&self, most: usize) -> usize {
        let most = if self.gave == 0 { 1 } else { most };
        if self.is_live() { most.saturating_sub(self.asked) } else { 0 }
    }

    /// How long one more piece from it is expected to take.
    fn expected(&self, usual: Duration) -> Duration {
        let took = if self.gave == 0 { usual } else { self.took };
        took * u32::try_from(self.asked + 1).unwrap_or(u32::MAX)
    }
}

// === impl Flight ===

impl Flight {
    /// What takes so long for each piece, for all that comes with this ask.
    fn scaled(&self, each: Duration) -> Duration {
        each.saturating_mul(self.range.end.saturating_sub(self.range.start).max(1))
    }
}

// === impl Picker ===

impl Picker {
    /// A download of a content of `have.count()` pieces of which `have` are here.
    #[must_use]
    pub fn new(options: PickerOptions, have: Pieces, seed: u64) -> Self {
        let count = have.count();
        Self {
            options,
            random: fastrand::Rng::with_seed(seed),
            origin: Pieces::none(count),
            origin_moved: Duration::ZERO,
            sources: Vec::new(),
            flights: Vec::new(),
            offered: vec![0; count as usize],
            givers: vec![None; count as usize],
            times: Vec::new(),
            next_time: 0,
            wrong: Vec::new(),
            lost: Vec::new(),
            have,
        }
    }

    /// The parents to ask from now on (ids of hosts); what is known of those that stay is kept.
    pub fn set_parents(&mut self, hosts: &[Arc<str>], now: Duration) {
        for at in 0..self.sources.len() {
            let named = hosts.contains(&self.sources[at].host);
            let again = matches!(self.sources[at].trust, Trust::Aside(until) if named && until <= now);
            self.change(at, |source| {
                source.listed = named;
                if again {
                    source.trust = Trust::Fine;
                    (source.gave, source.denied) = (0, 0);
                }
            });
        }
        for host in hosts {
            if self.source(host).is_none() {
                self.sources.push(Source {
                    host: host.clone(),
                    listed: true,
                    trust: Trust::Fine,
                    whole: false,
                    offers: Pieces::none(self.have.count()),
                    asked: 0,
                    gave: 0,
                    denied: 0,
                    took: Duration::ZERO,
                });
            }
        }
    }

    /// A host is a parent anew, by another attempt: nothing is known of what it has, and it is asked again even if
    /// the attempt before was left; not if it is proved to have sent what was wrong.
    pub fn renew(&mut self, host: &str) {
        let Some(at) = self.source(host) else { return };
        let none = Pieces::none(self.have.count());
        self.change(at, |source| {
            (source.offers, source.whole) = (none, false);
            (source.gave, source.denied) = (0, 0);
            if source.trust != Trust::Banned {
                source.trust = Trust::Fine;
            }
        });
    }

    /// The pieces that this node fetches from the origin itself: not asked of parents, unless it gets
    /// nowhere with them for a long time.
    pub fn set_origin(&mut self, pieces: &[Range<u32>], now: Duration) {
        let mut origin = Pieces::none(self.have.count());
        for range in pieces {
            for piece in range.start..range.end.min(self.have.count()) {
                origin.insert(piece);
            }
        }
        if origin != self.origin {
            self.origin = origin;
            self.origin_moved = now;
        }
    }

    /// A parent has these pieces, all of them.
    pub fn offers(&mut self, host: &str, have: &Pieces, _now: Duration) {
        if let Some(at) = self.source(host).filter(|_| have.count() == self.have.count()) {
            self.change(at, |source| source.offers = have.clone());
        }
    }

    /// A parent has this piece, too.
    pub fn offer(&mut self, host: &str, piece: u32, _now: Duration) {
        if let Some(at) = self.source(host)
            && self.sources[at].offers.insert(piece)
            && self.sources[at].is_live()
        {
            self.offered[piece as usize] += 1;
        }
    }

    /// A parent of another kind, which knows no units, has this piece, too: these units of it.
    pub fn offer_whole(&mut self, host: &str, units: Range<u32>, now: Duration) {
        if let Some(at) = self.source(host) {
            self.sources[at].whole = true;
        }
        for unit in units.start..units.end.min(self.have.count()) {
            self.offer(host, unit, now);
        }
    }

    /// A piece is here, from wherever. Returns other asks that would bring nothing else.
    pub fn arrived(&mut self, piece: u32, now: Duration) -> Vec<Ask> {
        self.have.insert(piece);
        if self.origin.contains(piece) {
            self.origin_moved = now;
        }
        let usual = self.usual();
        let mut others = Vec::new();
        let have = &self.have;
        let superfluous = |flight: &Flight| {
            flight.range.contains(&piece) && flight.range.clone().all(|unit| have.contains(unit))
        };
        let ended: Vec<Flight> = self.flights.extract_if(.., |flight| superfluous(flight)).collect();
        for flight in ended {
            let source = flight.source;
            self.sources[source].asked -= 1;
            others.push(Ask { host: self.sources[source].host.clone(), piece: flight.piece });
            if self.is_late(&flight, usual, now) && self.sources[source].is_live() {
                self.put_aside(source, now);
            }
        }
        others
    }

    /// A piece that was thought to be here is not, or is not right: it is missing again. Whoever gave it
    /// is told, if a parent did (see [`Self::convict`]).
    pub fn discard(&mut self, piece: u32) -> Option<Arc<str>> {
        self.have.remove(piece);
        let giver = self.givers.get_mut(piece as usize)?.take()?;
        Some(self.sources.get(giver as usize)?.host.clone())
    }

    /// The parent that gave a piece, if one did.
    #[must_use]
    pub fn giver(&self, piece: u32) -> Option<&Arc<str>> {
        let giver = (*self.givers.get(piece as usize)?)?;
        Some(&self.sources.get(giver as usize)?.host)
    }

    /// A host is proved to have sent what was wrong: it is never asked again, and reported.
    pub fn convict(&mut self, host: &str) {
        if let Some(at) = self.source(host) {
            self.ban(at);
        }
    }

    /// The next piece to ask for, if any may be asked for now; noted as asked. `first` is the first
    /// piece that a waiting client lacks.
    pub fn next(&mut self, first: u32, now: Duration) -> Option<Ask> {
        self.leave_the_slow(now);
        let most = if self.origin_sends(now) { MOST_BESIDE_ORIGIN } else { usize::MAX };
        let most = self.options.most_asked.min(most);
        if self.counting(now) >= most || self.flights.len() >= most * MOST_WITH_LATE {
            return None;
        }
        let wanted = self.wanted(now);
        let chosen = match wanted.present() {
            0 => self.hedge(now),
            _ => self.choose(&wanted, first),
        };
        let (source, piece) = chosen?;
        self.sources[source].asked += 1;
        let range = self.comes_with(source, piece);
        self.flights.push(Flight { source, piece, range, since: now });
        Some(Ask { host: self.sources[source].host.clone(), piece })
    }

    /// A piece that was asked for has come whole, `len` bytes after `took`. It counts as here.
    pub fn came(&mut self, ask: &Ask, _len: u64, took: Duration, _now: Duration) {
        let Some(at) = self.source(&ask.host) else { return };
        let range = self.land_ask(at, ask.piece);
        let took = took / range.end.saturating_sub(range.start).max(1);
        let source = &mut self.sources[at];
        source.took = if source.gave == 0 { took } else { (source.took * 3 + took) / 4 };
        source.gave += 1;
        source.denied = 0;
        for piece in range {
            if self.have.insert(piece) {
                self.givers[piece as usize] = u32::try_from(at).ok();
            }
        }
        self.note_time(took);
    }

    /// A piece that was asked for did not come.
    pub fn failed(&mut self, ask: &Ask, why: Failure, now: Duration) {
        let Some(at) = self.source(&ask.host) else { return };
        let range = self.land_ask(at, ask.piece);
        match why {
            Failure::Missing => {
                self.change(at, |source| {
                    for piece in range {
                        source.offers.remove(piece);
                    }
                    source.denied += 1;
                });
                if self.sources[at].denied >= MOST_DENIED {
                    self.put_aside(at, now);
                }
            }
            Failure::Broken => self.put_aside(at, now),
            Failure::Wrong => self.ban(at),
        }
    }

    /// A parent can no longer be heard: its stream of announcements broke.
    pub fn lost(&mut self, host: &str, now: Duration) {
        if let Some(at) = self.source(host) {
            self.put_aside(at, now);
        }
    }

    /// Hosts to be reported since the last call: those that sent what was wrong, and those that
    /// were lost or too slow. They are not asked again.
    pub fn reports(&mut self) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        (std::mem::take(&mut self.wrong), std::mem::take(&mut self.lost))
    }

    /// What is here.
    #[must_use]
    pub const fn have(&self) -> &Pieces {
        &self.have
    }

    /// Pieces that are asked for at present, those asked for twice counted twice.
    #[must_use]
    pub const fn asked(&self) -> usize {
        self.flights.len()
    }

    /// Whether an ask is under way and something is hoped of it: it is not late, and its parent was not left.
    #[must_use]
    pub fn hopes_for(&self, ask: &Ask, now: Duration) -> bool {
        let usual = self.usual();
        let is_it =
            |flight: &Flight| flight.piece == ask.piece && self.sources[flight.source].host == ask.host;
        self.flights.iter().any(|flight| is_it(flight) && self.counts(flight, usual, now))
    }

    /// Whether no parent that is left offers anything that is missing and not asked for: others are
    /// needed, or the origin.
    #[must_use]
    pub fn is_starving(&self) -> bool {
        let mut open =
            self.have.missing().filter(|&piece| !self.origin.contains(piece) && !self.is_asked(piece));
        let mut some = false;
        let offered = open.any(|piece| {
            some = true;
            self.offered[piece as usize] > 0
        });
        some && !offered
    }

    /// When to call [`Self::next`] again though nothing happened.
    #[must_use]
    pub fn wake(&self, now: Duration) -> Option<Duration> {
        let usual = self.usual();
        let at_the_end = self.wanted(now).present() == 0;
        let flights = self.flights.iter().flat_map(|flight| {
            let late = self.late_after(flight, usual);
            let end = if at_the_end { late_at_the_end(flight, usual).min(late) } else { late };
            [end, late, late * 2].map(|limit| flight.since + limit)
        });
        let origin = (self.origin.present() > 0).then(|| self.origin_moved + ORIGIN_LATE);
        flights.chain(origin).filter(|&at| at > now).min()
    }

    // --- choices ---

    /// Missing, not asked for in good hope, and offered by somebody.
    fn wanted(&self, now: Duration) -> Pieces {
        let mut wanted = Pieces::none(self.have.count());
        let patient = now < self.origin_moved + ORIGIN_LATE;
        for piece in self.have.missing() {
            if self.offered[piece as usize] > 0 && !(patient && self.origin.contains(piece)) {
                wanted.insert(piece);
            }
        }
        let usual = self.usual();
        for flight in self.flights.iter().filter(|flight| self.counts(flight, usual, now)) {
            for piece in flight.range.clone() {
                wanted.remove(piece);
            }
        }
        wanted
    }

    /// Asks that something is hoped of: not those that are late, nor those of parents that were left.
    fn counting(&self, now: Duration) -> usize {
        let usual = self.usual();
        self.flights.iter().filter(|flight| self.counts(flight, usual, now)).count()
    }

    fn counts(&self, flight: &Flight, usual: Duration, now: Duration) -> bool {
        self.sources[flight.source].is_live() && !self.is_late(flight, usual, now)
    }

    fn is_late(&self, flight: &Flight, usual: Duration, now: Duration) -> bool {
        now >= flight.since + self.late_after(flight, usual)
    }

    /// How old an ask may be until it is late, if one piece usually takes `usual`.
    fn late_after(&self, flight: &Flight, usual: Duration) -> Duration {
        let known = self.sources[flight.source].gave > 0;
        let least =
            if known { LATE_AT_LEAST } else { flight.scaled(UNKNOWN_LATE_AT_LEAST).min(LATE_AT_LEAST) };
        flight.scaled(usual).saturating_mul(LATE).max(least)
    }

    /// Whether this node gets something from the origin at present.
    fn origin_sends(&self, now: Duration) -> bool {
        now < self.origin_moved + ORIGIN_LATE && self.origin.without(&self.have).next().is_some()
    }

    /// The parent that is likely to be the soonest, and the piece to ask of it.
    fn choose(&mut self, wanted: &Pieces, first: u32) -> Option<(usize, u32)> {
        let usual = self.usual();
        let live = self.sources.iter().filter(|source| source.is_live()).count();
        let most = self.options.most_asked.div_ceil(live.max(1)).clamp(1, self.options.most_at_one.max(1));
        let mut free: Vec<(Duration, u32, usize)> = (0..self.sources.len())
            .filter(|&at| self.sources[at].room(most) > 0)
            .map(|at| (self.sources[at].expected(usual), self.random.u32(..), at))
            .collect();
        free.sort_unstable();
        for (_, _, at) in free {
            if let Some(piece) = self.piece_of(at, wanted, first) {
                return Some((at, piece));
            }
        }
        None
    }

    /// The piece to ask of this parent: the rarest, of some drawn by chance; now and then the first.
    fn piece_of(&mut self, at: usize, wanted: &Pieces, first: u32) -> Option<u32> {
        let open = wanted.both(&self.sources[at].offers).filter(|&piece| !self.is_asked_of(at, piece));
        let open: Vec<u32> = open.collect();
        if self.random.u32(..IN_ORDER) == 0 {
            let next = open.iter().copied().find(|&piece| piece >= first);
            return next.or_else(|| open.first().copied());
        }
        let drawn = (0..DRAWN).filter_map(|_| Some(*open.get(self.random.usize(..open.len().max(1)))?));
        drawn.min_by_key(|&piece| self.offered[piece as usize])
    }

    /// A second parent for a piece that lets itself be waited for, when there is nothing else to ask.
    fn hedge(&mut self, now: Duration) -> Option<(usize, u32)> {
        let usual = self.usual();
        let mut wanted = Pieces::none(self.have.count());
        for flight in
            self.flights.iter().filter(|flight| now >= flight.since + late_at_the_end(flight, usual))
        {
            for piece in flight.range.clone().filter(|piece| !self.have.contains(*piece)) {
                let hoped = |other: &&Flight| other.range.contains(&piece) && self.counts(other, usual, now);
                if self.flights.iter().filter(hoped).count() <= 1 {
                    wanted.insert(piece);
                }
            }
        }
        if wanted.present() == 0 { None } else { self.choose(&wanted, 0) }
    }

    /// Leaves the parents that are far behind the others.
    fn leave_the_slow(&mut self, now: Duration) {
        if self.times.len() < 3 {
            return;
        }
        let usual = self.usual();
        let slow = |flight: &&Flight| now >= flight.since + self.late_after(flight, usual) * 2;
        let slow: Vec<usize> = self.flights.iter().filter(slow).map(|flight| flight.source).collect();
        for at in slow {
            if self.sources[at].is_live() {
                self.put_aside(at, now);
            }
        }
    }

    /// How long a piece usually takes from the ask: the median of the last.
    fn usual(&self) -> Duration {
        let mut times = self.times.clone();
        let middle = times.len() / 2;
        if times.is_empty() { Duration::ZERO } else { *times.select_nth_unstable(middle).1 }
    }

    // --- books ---

    fn source(&self, host: &str) -> Option<usize> {
        self.sources.iter().position(|source| &*source.host == host)
    }

    /// Changes a source, and what it counts for in `offered`.
    fn change(&mut self, at: usize, change: impl FnOnce(&mut Source)) {
        let source = &mut self.sources[at];
        if source.is_live() {
            source.offers.iter().for_each(|piece| self.offered[piece as usize] -= 1);
        }
        change(source);
        if source.is_live() {
            source.offers.iter().for_each(|piece| self.offered[piece as usize] += 1);
        }
    }

    fn put_aside(&mut self, at: usize, now: Duration) {
        if self.sources[at].trust == Trust::Banned {
            return;
        }
        if self.sources[at].trust == Trust::Fine {
            self.lost.push(self.sources[at].host.clone());
        }
        self.change(at, |source| source.trust = Trust::Aside(now + ASIDE));
    }

    fn ban(&mut self, at: usize) {
        if self.sources[at].trust != Trust::Banned {
            self.wrong.push(self.sources[at].host.clone());
            self.change(at, |source| source.trust = Trust::Banned);
        }
    }

    /// All that comes with a piece of this source.
    fn comes_with(&self, source: usize, piece: u32) -> Range<u32> {
        if !self.sources[source].whole {
            return piece..piece + 1;
        }
        let first = piece / UNITS * UNITS;
        first..first.saturating_add(UNITS).min(self.have.count())
    }

    /// Ends the flight of an ask, if it is not over; returns what it was to bring.
    fn land_ask(&mut self, source: usize, piece: u32) -> Range<u32> {
        let flight = self.flights.iter().position(|flight| flight.source == source && flight.piece == piece);
        let Some(at) = flight else { return self.comes_with(source, piece) };
        self.sources[source].asked -= 1;
        self.flights.swap_remove(at).range
    }

    fn is_asked(&self, piece: u32) -> bool {
        self.flights.iter().any(|flight| flight.range.contains(&piece))
    }

    fn is_asked_of(&self, source: usize, piece: u32) -> bool {
        self.flights.iter().any(|flight| flight.source == source && flight.range.contains(&piece))
    }

    fn note_time(&mut self, took: Duration) {
        const KEPT: usize = 16;
        if self.times.len() < KEPT {
            self.times.push(took);
        } else {
            self.times[self.next_time % KEPT] = took;
            self.next_time += 1;
        }
    }
}

/// How old an ask may be until, with nothing else to ask for, it is doubled.
fn late_at_the_end(flight: &Flight, usual: Duration) -> Duration {
    flight.scaled(usual).saturating_mul(LATE_AT_THE_END).max(LATE_AT_LEAST / 2)
}

#[cfg(test)]
mod tests;
