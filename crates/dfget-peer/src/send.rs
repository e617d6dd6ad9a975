//! The answer to one request.
//!
//! In clear the kernel sends by itself what was read and compared lately; all else is read here, block by block,
//! and every block is compared with its CRC before it goes.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dfget_cluster::PeerStream;
use dfget_core::{ByteRange, piece_length, piece_range, unit_length};
use dfget_proto::vortex::{Code, Content, Failure, Request, UNIT};
use dfget_storage::{Entry, FilePart, ReadError};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::timeout;

use crate::connection::End;
use crate::holdings::{Asker, Refusal, UploadEvent};
use crate::uploads::Shared;

/// A piece that is here.
struct Found {
    entry: Arc<Entry>,
    range: ByteRange,
    crc: u32,
}

/// Answers one request; what comes after it is in order again.
///
/// # Errors
/// [`End`]: nothing more can be said on this connection.
pub(crate) async fn answer(
    shared: &Arc<Shared>,
    stream: &mut PeerStream,
    asker: &Asker,
    request: &Request,
) -> Result<(), End> {
    let found = match find(shared, asker, request).await {
        Ok(found) => found,
        Err((code, text)) => {
            shared.refused(if code == Code::NotFound { Refusal::NotHere } else { Refusal::Unreadable });
            return refuse(shared, stream, code, text).await;
        }
    };
    // Waiting, it holds nothing but its place: the queue is as fair as it is long.
    let _turn = shared.turns.acquire().await;
    if send(shared, stream, asker, request, &found).await? {
        shared.holdings.happened(UploadEvent::Piece);
    }
    Ok(())
}

async fn find(shared: &Shared, asker: &Asker, request: &Request) -> Result<Found, (Code, &'static str)> {
    let holding = shared.holdings.find(&request.task, asker).ok_or(NOT_HERE)?;
    let entry = holding.entry;
    let total = entry.total().ok_or(NOT_HERE)?;
    let range = match request.number & UNIT {
        0 => piece_range(request.number.into(), total, piece_length(total)),
        _ => piece_range((request.number & !UNIT).into(), total, unit_length(total)),
    };
    let range = range.ok_or(NOT_HERE)?;
    let stretch = range.start..range.end;
    let crc = match entry.crc_of(stretch.clone(), true) {
        Err(ReadError::WouldBlock) => {
            let entry = Arc::clone(&entry);
            let crc = spawn_blocking(move || entry.crc_of(stretch, false)).await;
            crc.map_err(|_| UNREADABLE)?
        }
        known => known,
    };
    match crc {
        Ok(crc) => Ok(Found { entry, range, crc }),
        Err(ReadError::Absent) => Err(NOT_HERE),
        Err(error) => {
            tracing::warn!(%error, "a piece cannot be handed out");
            Err(UNREADABLE)
        }
    }
}

/// Sends a piece; `false` if it said instead that there is none.
async fn send(
    shared: &Arc<Shared>,
    stream: &mut PeerStream,
    asker: &Asker,
    request: &Request,
    found: &Found,
) -> Result<bool, End> {
    let Found { entry, range, crc } = found;
    let head = Content {
        number: request.number,
        offset: range.start,
        length: range.len(),
        digest: format!("crc32:{crc}"),
        ..Content::default()
    };
    let mut head = Some(Bytes::from(head.encode(fastrand::u8(..))));
    let mut at = range.start;
    let mut by_kernel = stream.plain().is_some();
    while at < range.end {
        let most = shared.chunk().min(range.end - at);
        shared.may_send(most).await;
        let goal = at + most;
        while at < goal {
            let part = by_kernel.then(|| entry.sendable(at, goal - at, Instant::now())).flatten();
            let before = at;
            if let (Some(part), Some(_)) = (part, stream.plain()) {
                if let Some(head) = head.take() {
                    in_time(shared, async { Ok(stream.write_all(&head).await?) }).await?;
                }
                let Some(socket) = stream.plain() else { return Err(End::Unreadable) };
                let sent = in_time(shared, send_file(socket, part)).await?;
                at += sent.bytes;
                by_kernel = sent.whole;
            } else {
                let blocks = match read(shared, entry, &request.task, at..goal).await {
                    Err(_) if head.is_some() => {
                        refuse(shared, stream, UNREADABLE.0, UNREADABLE.1).await?;
                        return Ok(false);
                    }
                    read => read?,
                };
                at += blocks.iter().map(|block| block.len() as u64).sum::<u64>();
                let parts = head.take().into_iter().chain(blocks).collect();
                in_time(shared, write_all(stream, parts)).await?;
            }
            shared.holdings.happened(UploadEvent::Bytes { sent: at - before, to: asker.address.ip() });
        }
        // The kernel takes megabytes for one child before it makes us wait; the others want a turn.
        yield_now().await;
    }
    Ok(true)
}

async fn refuse(shared: &Shared, stream: &mut PeerStream, code: Code, text: &str) -> Result<(), End> {
    let frame = Failure { code, text: text.to_owned() }.encode(fastrand::u8(..));
    in_time(shared, write_all(stream, [Bytes::from(frame)].into())).await
}

/// What the kernel sent of a part.
struct Sent {
    bytes: u64,
    /// All of it; else the file was written meanwhile.
    whole: bool,
}

async fn send_file(socket: &TcpStream, mut part: FilePart) -> Result<Sent, End> {
    let len = part.len();
    while !part.is_empty() {
        socket.writable().await?;
        match socket.try_io(Interest::WRITABLE, || part.send(socket.as_fd())) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Sent { bytes: len - part.len(), whole: part.is_empty() })
}

/// The blocks of a range, its last one cut, each found right.
async fn read(
    shared: &Shared,
    entry: &Arc<Entry>,
    task: &str,
    range: Range<u64>,
) -> Result<VecDeque<Bytes>, End> {
    let blocks = match blocks(entry, &range, true) {
        Err(ReadError::WouldBlock) => {
            let (entry, range) = (Arc::clone(entry), range);
            spawn_blocking(move || blocks(&entry, &range, false)).await.map_err(|_| End::Unreadable)?
        }
        read => read,
    };
    blocks.map_err(|error| {
        shared.refused(Refusal::Unreadable);
        tracing::warn!(task, %error, "a piece cannot be sent to its end");
        if let ReadError::Rotten { block } = error {
            shared.holdings.rotten(task, block);
        }
        End::Unreadable
    })
}

fn blocks(entry: &Entry, range: &Range<u64>, nowait: bool) -> Result<VecDeque<Bytes>, ReadError> {
    let mut blocks = VecDeque::new();
    let mut at = range.start;
    while at < range.end && blocks.len() < AT_ONCE {
        match entry.read_noting(at, nowait, Instant::now()) {
            Ok(mut block) => {
                block.truncate(usize::try_from(range.end - at).unwrap_or(usize::MAX));
                at += block.len() as u64;
                blocks.push_back(block);
            }
            // What is in memory goes first.
            Err(ReadError::WouldBlock) if !blocks.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(blocks)
}

/// Writes all parts, as many as can be by one call.
async fn write_all(stream: &mut PeerStream, mut parts: VecDeque<Bytes>) -> Result<(), End> {
    while !parts.is_empty() {
        let mut slices = [IoSlice::new(&[]); AT_ONCE + 1];
        for (slice, part) in slices.iter_mut().zip(&parts) {
            *slice = IoSlice::new(part);
        }
        let mut written = stream.write_vectored(&slices[..parts.len().min(AT_ONCE + 1)]).await?;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        while let Some(first) = parts.front_mut() {
            if written < first.len() {
                let _ = first.split_to(written);
                break;
            }
            written -= first.len();
            parts.pop_front();
        }
    }
    Ok(stream.flush().await?)
}

/// Sends, within the time that a child may take for one go.
async fn in_time<T>(shared: &Shared, sending: impl Future<Output = Result<T, End>>) -> Result<T, End> {
    timeout(shared.options.stall, sending).await.unwrap_or(Err(End::Stalled))
}

/// What is said where there is no piece.
const NOT_HERE: (Code, &str) = (Code::NotFound, "this piece is not here");
const UNREADABLE: (Code, &str) = (Code::Internal, "this piece cannot be read");
/// Blocks that are read and written at once.
const AT_ONCE: usize = 4;
