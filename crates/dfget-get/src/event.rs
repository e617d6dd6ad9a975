//! What happens meanwhile, for whoever shows it.

use dfget_run::Sources;

/// Hears of events, from any thread, and does not hold them up.
pub trait Observer: Send + Sync {
    /// Something has happened.
    fn hear(&self, event: Event<'_>);
}

/// What has happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The user should know.
    Warning(&'a str),
    /// What was decided, and why.
    Note(&'a str),
    /// The bytes begin.
    Begun {
        /// What the output is called.
        name: &'a str,
        /// How many bytes it will have, if known.
        total: Option<u64>,
        /// What is broken off is kept, and gone on with by the next try.
        keeps: bool,
    },
    /// So many bytes there will be, where that was not known when they began.
    Sized(u64),
    /// So many bytes were here already, from a try before.
    Present(u64),
    /// So many bytes have come.
    Grown(u64),
    /// So many bytes that were here are of no use, and come again.
    Lost(u64),
    /// Where the bytes have come from so far.
    From(Sources),
    /// All is here; it is made safe on the disk.
    Settling,
}

/// One that hears nothing.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Observer for Silent {
    fn hear(&self, _: Event<'_>) {}
}
