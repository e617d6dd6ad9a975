//! The port of pieces: who comes in, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dfget_cluster::Door;
use dfget_net::{Listener, Socket};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection;
use crate::holdings::Refusal;
use crate::places::Place;
use crate::uploads::Shared;

/// Listens at `address`, as [`Listener::bind`].
///
/// # Errors
/// Somebody else listens there, or it is no address of this machine.
pub fn listen(address: SocketAddr) -> io::Result<Listener> {
    Listener::bind(address)
}

/// What every connection of a listener needs.
struct Port {
    shared: Arc<Shared>,
    door: Door,
    /// Nothing more is to be begun.
    shutdown: CancellationToken,
    /// All is to end.
    cut: CancellationToken,
}

pub(crate) async fn serve(shared: &Arc<Shared>, listener: Listener, door: Door, shutdown: CancellationToken) {
    let port = Arc::new(Port { shared: Arc::clone(shared), door, shutdown, cut: CancellationToken::new() });
    // Dropped, it ends what is left when this future is dropped.
    let _cut = port.cut.clone().drop_guard();
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = port.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, from)) => match shared.places.enter(from.ip()) {
                Some(place) => drop(connections.spawn(Arc::clone(&port).answer(socket, from, place))),
                None => {
                    shared.refused(Refusal::TooMany);
                    shared.complain(from, &"it has too many connections already");
                }
            },
            // No file descriptor, most likely: it does not get better by asking again at once.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection at the port of pieces");
                sleep(AGAIN).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(FAREWELL, connections.wait()).await.is_err() {
        port.cut.cancel();
        connections.wait().await;
    }
}

// === impl Port ===

impl Port {
    async fn answer(self: Arc<Self>, socket: Socket, from: SocketAddr, _place: Place) {
        let shared = &self.shared;
        let all = async {
            match self.door.admit(socket).await {
                Ok(stream) => connection::answer(shared, stream, from, &self.shutdown).await,
                Err(error) if error.is_idle() => {}
                Err(error) => {
                    shared.refused(Refusal::Door);
                    shared.complain(from, &error);
                }
            }
        };
        self.cut.run_until_cancelled(all).await;
    }
}

/// Pause after one could not be accepted.
const AGAIN: Duration = Duration::from_millis(100);
/// Time for the rest of a piece at the end.
const FAREWELL: Duration = Duration::from_secs(5);
