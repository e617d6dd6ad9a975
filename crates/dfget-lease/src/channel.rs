//! Lines and descriptors over a unix stream socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg,
    socket_with,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;

/// A message longer than this is none of ours.
const LONGEST: usize = 4 << 20;

/// Descriptors that one message may carry.
const MOST_DESCRIPTORS: usize = 4;

/// One end of a connection, for a thread that may wait.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    inbox: Inbox,
}

/// What has come and was not read yet: bytes up to a line's end make a message.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

// === impl Channel ===

impl Channel {
    /// Connects to the socket at `path`; neither this nor what follows waits longer than `patience`
    /// for the other end.
    ///
    /// # Errors
    /// Those of the socket: nobody listens, or it is not ours to use; [`io::ErrorKind::WouldBlock`]
    /// where somebody listens and takes nobody.
    pub fn connect(path: &Path, patience: Duration) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // It bounds connect(2) as well, which waits where the queue of the other end is full.
        set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        let channel = Self::over(UnixStream::from(socket));
        channel.set_patience(Some(patience))?;
        Ok(channel)
    }

    /// A channel over a connection that stands.
    #[must_use]
    pub fn over(stream: UnixStream) -> Self {
        Self { stream, inbox: Inbox::default() }
    }

    /// How long [`Self::receive`] waits; `None` = for ever.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn set_patience(&self, limit: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(limit)?;
        self.stream.set_write_timeout(limit)
    }

    /// Sends a message, with copies of these descriptors.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(&self.stream, message, descriptors)
    }

    /// Waits for the next message; `None` when the other end has closed.
    ///
    /// # Errors
    /// Those of the socket; [`io::ErrorKind::InvalidData`] for a line that is no such message.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some((message, _)) = self.inbox.take()? {
                return Ok(Some(message));
            }
            if receive_some(&self.stream, &mut self.inbox)? == 0 {
                return Ok(None);
            }
        }
    }

    /// The socket.
    #[must_use]
    pub const fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

// === impl Inbox ===

impl Inbox {
    /// The next message that is whole, with all descriptors that have come so far.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a line that is no such message, or has no end.
    pub fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Some(end) = self.bytes.iter().position(|&byte| byte == b'\n') else {
            let too_long = self.bytes.len() > LONGEST;
            return if too_long { Err(io::ErrorKind::InvalidData.into()) } else { Ok(None) };
        };
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        let message = serde_json::from_slice(&line)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        Ok(Some((message, std::mem::take(&mut self.descriptors))))
    }
}

/// One message as a line.
fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Sends a message, with copies of these descriptors, over a socket that may not block. One without
/// room is an error: messages are short, and whoever does not read them is gone.
///
/// # Errors
/// Those of the socket.
pub fn send(socket: impl AsFd, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_all(socket, &line(message)?, descriptors)
}

/// Sends a message that may be long on a socket of the runtime, as its other end reads.
///
/// # Errors
/// Those of the socket.
pub async fn send_long(stream: &tokio::net::UnixStream, message: &impl Serialize) -> io::Result<()> {
    let line = line(message)?;
    let mut rest = line.as_slice();
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits for the next message on a socket of the runtime; `None` when the other end has closed.
///
/// # Errors
/// As [`Channel::receive`].
///
/// # Cancel safety
/// What has come stays in `inbox`.
pub async fn next<T: DeserializeOwned>(
    stream: &tokio::net::UnixStream,
    inbox: &mut Inbox,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    loop {
        if let Some(message) = inbox.take()? {
            return Ok(Some(message));
        }
        let received = stream.async_io(Interest::READABLE, || receive_some(stream, inbox)).await?;
        if received == 0 {
            return Ok(None);
        }
    }
}

/// Sends a serialized message; the descriptors go with its first byte.
fn send_all(socket: impl AsFd, mut bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    while !bytes.is_empty() {
        let sent = sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
        bytes = &bytes[sent..];
        control.clear();
    }
    Ok(())
}

/// Reads what is there into `inbox`; 0 when the other end has closed.
fn receive_some(socket: impl AsFd, inbox: &mut Inbox) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = [0; 16 << 10];
    let received =
        recvmsg(&socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            inbox.descriptors.extend(descriptors);
        }
    }
    inbox.bytes.extend_from_slice(&buffer[..received.bytes]);
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::{FromDaemon, Grant, ToDaemon};

    #[test]
    fn a_message_brings_its_descriptors() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut far, near) = UnixStream::pair().unwrap();
        Channel::over(one).send(&ToDaemon::Child, &[near.as_fd()]).unwrap();
        drop(near);
        let mut inbox = Inbox::default();
        receive_some(&other, &mut inbox).unwrap();
        let (message, descriptors) = inbox.take::<ToDaemon>().unwrap().unwrap();
        assert_eq!((message, descriptors.len()), (ToDaemon::Child, 1));
        let mut passed = UnixStream::from(descriptors.into_iter().next().unwrap());
        passed.write_all(b"x").unwrap();
        let mut byte = [0];
        far.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn messages_are_cut_by_lines_and_the_end_is_told() {
        let (mut one, other) = UnixStream::pair().unwrap();
        let mut channel = Channel::over(other);
        let sent = FromDaemon::Granted(Grant { authorities: vec!["a\nb".repeat(9000)], ..Grant::default() });
        let writer = std::thread::spawn({
            let sent = sent.clone();
            move || {
                let line = line(&sent).unwrap();
                one.write_all(&line[..5]).unwrap();
                one.write_all(&line[5..]).unwrap();
                one.write_all(b"nonsense\n").unwrap();
            }
        });
        assert_eq!(channel.receive::<FromDaemon>().unwrap(), Some(sent));
        assert_eq!(channel.receive::<FromDaemon>().unwrap_err().kind(), io::ErrorKind::InvalidData);
        writer.join().unwrap();
        assert_eq!(channel.receive::<FromDaemon>().unwrap(), None);
    }

    #[tokio::test]
    async fn a_long_message_waits_for_its_reader() {
        let (one, other) = UnixStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        let one = tokio::net::UnixStream::from_std(one).unwrap();
        let sent = FromDaemon::Granted(Grant { authorities: vec!["a".repeat(2 << 20)], ..Grant::default() });
        let reader = std::thread::spawn(move || Channel::over(other).receive::<FromDaemon>());
        send_long(&one, &sent).await.unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), Some(sent));
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut inbox = Inbox { bytes: vec![b'x'; LONGEST + 1], descriptors: Vec::new() };
        assert_eq!(inbox.take::<ToDaemon>().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
