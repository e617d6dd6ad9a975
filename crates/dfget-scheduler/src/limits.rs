//! What one client may ask of a scheduler, and what a scheduler may send.

use std::time::Duration;

/// The longest message that is read, in bytes.
pub(crate) const MESSAGE: usize = 1 << 20;
/// The longest content, in bytes: 16 TiB, whose map of pieces takes 32 KiB.
pub(crate) const CONTENT: u64 = 1 << 44;
/// Streams at once on one connection.
pub(crate) const STREAMS: u32 = 1024;
/// Connections at once; more wait in the kernel's queue.
pub(crate) const CONNECTIONS: usize = 16_384;
/// Hosts that are known at once.
pub(crate) const HOSTS: usize = 32_768;
/// Streams of downloads at once, all hosts together.
pub(crate) const PEERS: usize = 131_072;
/// Streams of downloads at once of one host.
pub(crate) const PEERS_OF_HOST: usize = 4096;
/// Contents that one host may say it has.
pub(crate) const HELD: usize = 262_144;
/// The same of hosts that have not shown the cluster's key, which anybody can make up: hosts, and what one of them
/// and all together may have.
pub(crate) const STRANGERS: usize = 1024;
pub(crate) const PEERS_OF_STRANGER: usize = 1024;
pub(crate) const PEERS_OF_STRANGERS: usize = 4096;
pub(crate) const HELD_OF_STRANGER: usize = 4096;
pub(crate) const HELD_OF_STRANGERS: usize = 32_768;
/// Contents in one message of a Hold stream.
pub(crate) const HELD_IN_MESSAGE: usize = 1000;
/// Authorities of one content.
pub(crate) const ORIGINS: usize = 16;
/// The same by the word of a stranger.
pub(crate) const ORIGINS_OF_STRANGER: usize = 1;
/// Names in one list of hosts or peers.
pub(crate) const NAMES: usize = 256;
/// The longest id of a host or a peer, in bytes.
pub(crate) const NAME: usize = 512;
/// The longest authority, in bytes.
pub(crate) const AUTHORITY: usize = 320;
/// Answers that wait for one client.
pub(crate) const ANSWERS: usize = 16;
/// From opening a stream to its first message.
pub(crate) const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// Messages of one connection in a second, on average; a message counts once for each 4 KiB.
pub(crate) const MESSAGES_PER_SECOND: f64 = 1000.0;
/// Messages of one connection that come at once.
pub(crate) const MESSAGES_AT_ONCE: f64 = 4000.0;
