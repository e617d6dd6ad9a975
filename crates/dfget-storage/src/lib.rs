//! Pieces on disk, crash-safe index, quota and eviction.
//!
//! The store keeps *entries*: the bytes of one content each, in a plain file, filled in any order
//! by blocks of 128 KiB ([`BLOCK`]) and served while they come. It owns its directory
//! (`tasks/`, `index.redb`, `lock`) and lets no second daemon and no other user near it.
//!
//! What it promises:
//! - **No wrong byte.** A finished block is compared with its CRC-32 each time before it is handed
//!   out (of what the kernel sends by itself, in the last minute: [`FilePart`]). What changed on disk is [`ReadError::Rotten`], to be fetched again.
//! - **Kill it at any moment.** The index is written in groups, each second or every 64 MiB, and
//!   speaks only of bytes that are on the disk by then. What came later is fetched again.
//! - **No reader is disturbed.** An entry that is evicted, replaced or removed is read to its end
//!   by those who hold it. No call of a reader or writer waits for a flush.
//! - **A full or broken disk stops no pull.** [`StoreError::TooLarge`] says beforehand, and
//!   [`WriteError::Full`] later, that old entries cannot or did not make room; the caller streams on
//!   without the store.
//!
//! What it leaves to its users: digests (a CRC finds rot, it proves nothing about the origin),
//! who may read what, and the meaning of names and [`Entry::meta`].
//!
//! All calls block, since files do; an async caller makes them on a thread for that. Only
//! [`Entry::read`] with `nowait` is fit for the threads of a runtime.

mod blocks;
mod buffer;
mod commit;
mod entry;
mod error;
mod evict;
mod files;
mod home;
mod index;
mod key;
mod open;
mod peek;
mod queue;
mod send;
mod shared;
mod space;
mod store;
mod time;
mod transfer;

pub use self::{
    blocks::BLOCK,
    buffer::{Buffer, Pool},
    entry::{Entry, Glance, Pin},
    error::{ReadError, RepairError, StoreError, WriteError},
    evict::Reason,
    home::{OpenWarning, network_file_system},
    key::EntryKey,
    open::{OpenReport, Rebuilt},
    peek::{PeekError, Peeked, peek},
    send::FilePart,
    space::Evicted,
    store::{Options, Space, Store, SweepReport, Usage},
};

#[cfg(test)]
mod tests;
