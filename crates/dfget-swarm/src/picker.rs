//! Which piece to ask of whom next.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::pieces::Pieces;

/// How a download picks.
#[derive(Clone, Copy, Debug)]
pub struct PickerOptions {
    /// Pieces asked for and not here yet, at all parents together.
    pub most_asked: usize,
    /// Of those, at one parent.
    pub most_at_one: usize,
}

/// One piece to be asked of one parent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ask {
    /// Id of the parent's host.
    pub host: Arc<str>,
    /// Number of the piece.
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

/// The choices of one download.
#[derive(Debug)]
pub struct Picker {
    _options: PickerOptions,
}

#[expect(clippy::unimplemented, reason = "being built")]
impl Picker {
    /// A download of a content of `count` pieces of which `have` are here.
    #[must_use]
    pub fn new(options: PickerOptions, _have: Pieces, _seed: u64) -> Self {
        Self { _options: options }
    }

    /// The parents to ask from now on (ids of hosts); what is known of those that stay is kept.
    pub fn set_parents(&mut self, _hosts: &[Arc<str>], _now: Duration) {
        unimplemented!()
    }

    /// The pieces that this node fetches from the origin itself: not asked of parents.
    pub fn set_origin(&mut self, _pieces: &[Range<u32>]) {
        unimplemented!()
    }

    /// A parent has these pieces, all of them.
    pub fn offers(&mut self, _host: &str, _have: &Pieces, _now: Duration) {
        unimplemented!()
    }

    /// A parent has this piece, too.
    pub fn offer(&mut self, _host: &str, _piece: u32, _now: Duration) {
        unimplemented!()
    }

    /// A piece is here, from wherever. Returns other parents at which it is still asked for.
    pub fn arrived(&mut self, _piece: u32) -> Vec<Arc<str>> {
        unimplemented!()
    }

    /// The next piece to ask for, if any may be asked for now; noted as asked. `first` is the first
    /// piece that a waiting client lacks.
    pub fn next(&mut self, _first: u32, _now: Duration) -> Option<Ask> {
        unimplemented!()
    }

    /// A piece that was asked for has come whole, `len` bytes after `took`.
    pub fn came(&mut self, _ask: &Ask, _len: u64, _took: Duration, _now: Duration) {
        unimplemented!()
    }

    /// A piece that was asked for did not come.
    pub fn failed(&mut self, _ask: &Ask, _why: Failure, _now: Duration) {
        unimplemented!()
    }

    /// A parent can no longer be heard: its stream of announcements broke.
    pub fn lost(&mut self, _host: &str, _now: Duration) {
        unimplemented!()
    }

    /// Hosts to be reported since the last call: those that sent what was wrong, and those that
    /// were lost or too slow. They are not asked again.
    pub fn reports(&mut self) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        unimplemented!()
    }

    /// What is here.
    #[must_use]
    pub fn have(&self) -> &Pieces {
        unimplemented!()
    }

    /// Whether no parent that is left offers anything that is missing and not asked for: others are
    /// needed, or the origin.
    #[must_use]
    pub fn is_starving(&self) -> bool {
        unimplemented!()
    }

    /// When to call [`Self::next`] again though nothing happened.
    #[must_use]
    pub fn wake(&self, _now: Duration) -> Option<Duration> {
        unimplemented!()
    }
}
