//! A body that is written while it is sent, by a thread that may wait.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use hyper::body::{Bytes, Frame};
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Parts that may wait to be sent.
const WAITING: usize = 8;

/// The end that is written to.
pub(super) struct Pipe {
    parts: Sender<io::Result<Bytes>>,
}

/// The end that is sent.
struct Parts {
    parts: Receiver<io::Result<Bytes>>,
}

pub(super) fn pipe() -> (Pipe, Body) {
    let (sender, receiver) = channel(WAITING);
    (Pipe { parts: sender }, Body::new(Parts { parts: receiver }))
}

// === impl Pipe ===

impl Pipe {
    /// Sends these bytes, as fast as the other end takes them; `false` if it is gone.
    pub(super) fn send(&self, bytes: Bytes) -> bool {
        self.parts.blocking_send(Ok(bytes)).is_ok()
    }

    /// Sends a line of JSON; `false` if the other end is gone.
    pub(super) fn line(&self, value: &impl Serialize) -> bool {
        let Ok(mut line) = serde_json::to_vec(value) else { return false };
        line.push(b'\n');
        self.send(line.into())
    }

    /// Breaks the body off.
    pub(super) fn fail(&self, reason: String) {
        let _ = self.parts.blocking_send(Err(io::Error::other(reason)));
    }
}

// === impl Parts ===

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.parts.poll_recv(context).map(|part| part.map(|part| part.map(Frame::data)))
    }
}
