//! From whom a download takes what, once something was wrong; and how long it waits for that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::words::Parent;

/// How often a content is begun anew among peers of whom nothing is proved. After that nothing is taken without
/// proof: from the origin, or what has the hashes of somebody who can be believed.
pub const MOST_ROUNDS: u32 = 1;

/// How often it is begun anew at all: after that the origin alone is asked.
pub const MOST_ROUNDS_AT_ALL: u32 = 4;

/// How often the origin is asked who is right, the hashes that are believed or a peer's piece.
const MOST_DISPUTES: u32 = 3;

/// Who takes nothing without proof waits at least so long for it.
const PROOF_AT_LEAST: Duration = Duration::from_secs(10);

/// And at most, for each by chance as long again.
const PROOF_AT_MOST: Duration = Duration::from_secs(300);

/// What is taken from a parent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Take {
    /// Its pieces.
    Pieces,
    /// Its pieces, once the hashes that it tells of them can be believed: it says that it has verified the content.
    AfterHashes,
    /// Nothing.
    Nothing,
}

/// What one download thinks of those that feed it.
///
/// Each time that a content turns out to be wrong, it is begun anew: another *round*. Who is in a round has only
/// pieces that the origin sent, or that somebody in that round or a later one had: so what was wrong before does not
/// come back, and a round goes wrong only if somebody lies in it.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// How often it has begun anew, and how often without proof.
    round: u32,
    unproven: u32,
    /// The hashes of the pieces are known, by the word of somebody who is believed.
    believes: bool,
    /// Which peer of each host was to be asked in the rounds before: what it has may be as wrong as what it had then.
    shunned: HashMap<Arc<str>, Arc<str>>,
    /// Which was to be asked last, in this round.
    met: HashMap<Arc<str>, Arc<str>>,
}

/// How often the hashes that are believed were right where a peer's piece was not what they say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disputes(u32);

// === impl Disputes ===

impl Disputes {
    /// Whether the origin is asked who is right. Once the hashes were right some times, a piece that has others is only
    /// thrown away: each that lies would cost the origin a piece.
    #[must_use]
    pub const fn goes_to_origin(self) -> bool {
        self.0 < MOST_DISPUTES
    }

    /// The origin has said that the hashes are right.
    pub const fn won(&mut self) {
        self.0 = self.0.saturating_add(1);
    }
}

// === impl Trust ===

impl Trust {
    /// How often this download has begun anew: it is told to those that ask it.
    #[must_use]
    pub const fn round(&self) -> u32 {
        self.round
    }

    /// What came was wrong: begins anew. `believes`: the hashes of its pieces are known now, as far as somebody can
    /// be believed.
    pub fn begin_anew(&mut self, believes: bool) {
        self.round += 1;
        self.unproven += u32::from(!believes);
        self.believe(believes);
        self.shunned.extend(self.met.drain());
    }

    /// The hashes of the pieces are known now, as far as somebody can be believed; or whoever told them lied.
    pub const fn believe(&mut self, believes: bool) {
        self.believes = believes;
    }

    /// Whether the hashes of the pieces are known.
    #[must_use]
    pub const fn believes(&self) -> bool {
        self.believes
    }

    /// Whether nothing is taken without proof, and there is none yet.
    #[must_use]
    pub const fn wants_proof(&self) -> bool {
        self.unproven > MOST_ROUNDS && !self.believes
    }

    /// What is taken from a parent that the scheduler names. Of one that has not verified the content, only if it says
    /// that it has begun anew as often (see [`Self::takes_round`]).
    #[must_use]
    pub fn of(&self, parent: &Parent) -> Take {
        let shunned = || self.shunned.get(&parent.host.id) == Some(&parent.peer);
        if self.round == 0 {
            Take::Pieces
        } else if parent.complete {
            if self.believes { Take::Pieces } else { Take::AfterHashes }
        } else if self.wants_proof() || shunned() {
            Take::Nothing
        } else {
            Take::Pieces
        }
    }

    /// Whether anything is taken from a peer that has not verified the content, and has begun anew so often. One that
    /// has done so less often may still have what was wrong. Where hashes tell, that does no harm.
    #[must_use]
    pub const fn takes_round(&self, round: u32) -> bool {
        let least = if self.believes && self.round > 0 { 1 } else { self.round };
        round >= least && !self.wants_proof()
    }

    /// A parent is to be asked. `true` if it is another peer of its host than the one before.
    pub fn meet(&mut self, parent: &Parent) -> bool {
        let before = self.met.insert(Arc::clone(&parent.host.id), Arc::clone(&parent.peer));
        before.is_some_and(|before| before != parent.peer)
    }

    /// How long a download that takes nothing without proof waits until it fetches everything from the origin, if it
    /// began so long ago: at most three times as long again. One of all that wait is fetching for them; and if it does
    /// not, not all of them begin at once. `chance` is between 0 and 1, for each another.
    #[must_use]
    pub fn patience(&self, began: Duration, chance: f64) -> Duration {
        let least = began.clamp(PROOF_AT_LEAST, PROOF_AT_MOST);
        least + least.mul_f64(chance.clamp(0.0, 1.0) * 2.0)
    }
}

#[cfg(test)]
mod tests;
