//! What a daemon tells its own user, and root, of what it has stored.

use dfget_core::unix_seconds;
use dfget_lease::{FromDaemon, Look, PROTOCOL, Peer, Seen, SeenContent};
use dfget_storage::{EntryKey, Store};

/// The answer to a look, or why there is none.
pub(super) fn answer(
    look: &Look,
    peer: Option<Peer>,
    store: Option<&Store>,
    place: &Result<String, String>,
) -> FromDaemon {
    let own = rustix::process::geteuid().as_raw();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    if !peer.is_some_and(|peer| peer.uid == own || peer.uid == 0) {
        let reason = "what is stored is told to root and to the daemon's own user only".to_owned();
        return FromDaemon::Refused { protocol: PROTOCOL, version, reason };
    }
    let seen = |name: &String| {
        let entry = store?.get(&EntryKey::new(name.as_str()))?;
        Some(SeenContent {
            complete: entry.is_complete(),
            total: entry.total(),
            bytes: entry.allocated_bytes(),
            accessed: unix_seconds(entry.accessed()),
        })
    };
    FromDaemon::Seen(Seen {
        version,
        pid: std::process::id(),
        store: place.clone().ok(),
        contents: look.names.iter().map(seen).collect(),
    })
}
