//! One connection to a parent, and one piece over it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use dfget_cluster::{PeerStream, describe_io};
use dfget_core::ByteRange;
use dfget_proto::vortex::{Answered, Code, Content, Failure, HEADER_LEN, REQUEST_LEN, Step};
use dfget_storage::{BLOCK, Pool};
use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use crate::client::Patience;
use crate::error::PeerError;

/// A connection on which nothing is under way.
#[derive(Debug)]
pub(crate) struct Link {
    stream: PeerStream,
    /// What came behind the last frame.
    behind: Vec<u8>,
}

/// How an attempt ended that brought no piece.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The connection was dead before the other said anything: it may have been for long.
    Dead(PeerError),
    /// The other has no such piece; the connection is as good as before.
    Refused(PeerError),
    /// All else.
    Other(PeerError),
}

/// A piece.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) parts: Vec<Bytes>,
    /// Whether the other named a CRC.
    pub(crate) checked: bool,
}

/// What a piece must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) number: u32,
    pub(crate) range: ByteRange,
}

/// How fast a body comes, judged once in a while.
struct Pace {
    patience: Patience,
    until: Instant,
    got: u64,
}

// === impl Link ===

impl Link {
    pub(crate) const fn new(stream: PeerStream) -> Self {
        Self { stream, behind: Vec::new() }
    }

    /// Whether it is open and silent, as far as can be told without asking.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        self.behind.is_empty() && self.stream.read(&mut byte).now_or_never().is_none()
    }

    /// Asks for a piece and takes it.
    pub(crate) async fn fetch(
        &mut self,
        request: &[u8; REQUEST_LEN],
        expected: Expected,
        patience: Patience,
        buffers: &Arc<Pool>,
    ) -> Result<Fetched, Failed> {
        let until = Instant::now() + patience.answer;
        let answer = async {
            self.stream.write_all(request).await.map_err(gone)?;
            self.stream.flush().await.map_err(gone)?;
            self.answer().await
        };
        let answered = timeout_at(until, answer)
            .await
            .unwrap_or_else(|_| Err(Failed::Other(PeerError::broken("it does not answer in time"))))?;
        match answered {
            Answered::Piece(content) => {
                let crc = expected.check(&content).map_err(Failed::Other)?;
                let parts = self.body(expected.range.len(), crc, patience, buffers).await;
                Ok(Fetched { parts: parts.map_err(Failed::Other)?, checked: crc.is_some() })
            }
            Answered::Failed(failure) => Err(refused(failure)),
            Answered::Close | Answered::Unknown => Err(Failed::Dead(PeerError::broken("it went away"))),
        }
    }

    /// What the other says first.
    async fn answer(&mut self) -> Result<Answered, Failed> {
        let mut unknown = 0;
        let mut silent = self.behind.is_empty();
        loop {
            let step = Answered::decode(&self.behind);
            let wanted = match step.map_err(|error| Failed::Other(PeerError::wrong(error.to_string())))? {
                Step::More(wanted) => wanted,
                Step::Frame(answered, len) => {
                    self.behind.drain(..len);
                    if answered != Answered::Unknown {
                        return Ok(answered);
                    }
                    unknown += 1;
                    if unknown > CHATTER {
                        return Err(Failed::Other(PeerError::wrong("it sends frames without end")));
                    }
                    continue;
                }
            };
            let room = wanted.max(AHEAD) - self.behind.len();
            self.behind.reserve_exact(room);
            let mut limited = (&mut self.stream).take(room as u64);
            match limited.read_buf(&mut self.behind).await {
                Ok(0) if silent => return Err(Failed::Dead(PeerError::broken("it closed the connection"))),
                Ok(0) => return Err(Failed::Other(PeerError::broken("it closed the connection in a frame"))),
                Ok(_) => silent = false,
                Err(error) if silent => return Err(gone(error)),
                Err(error) => return Err(Failed::Other(broken(&error))),
            }
        }
    }

    /// Takes the bytes of a piece, so many and no more.
    async fn body(
        &mut self,
        len: u64,
        crc: Option<u32>,
        patience: Patience,
        buffers: &Arc<Pool>,
    ) -> Result<Vec<Bytes>, PeerError> {
        let mut parts = Vec::new();
        let mut left = len;
        let mut sum = crc32fast::Hasher::new();
        let mut pace = Pace::new(patience);
        while left > 0 {
            let mut buffer = buffers.take(usize::try_from(left.min(BLOCK)).unwrap_or(0));
            let bytes = buffer.as_mut();
            let ready = self.behind.len().min(bytes.len());
            bytes[..ready].copy_from_slice(&self.behind[..ready]);
            self.behind.drain(..ready);
            let mut filled = ready;
            while filled < bytes.len() {
                let got = pace.read(&mut self.stream, &mut bytes[filled..]).await?;
                filled += got;
            }
            sum.update(bytes);
            left -= filled as u64;
            parts.push(buffer.freeze());
        }
        match crc {
            Some(crc) if crc != sum.finalize() => {
                Err(PeerError::wrong("the bytes of a piece are not those of its CRC"))
            }
            _ => Ok(parts),
        }
    }
}

// === impl Expected ===

impl Expected {
    /// The CRC that the bytes must have; `None` if the other does not say.
    fn check(&self, content: &Content) -> Result<Option<u32>, PeerError> {
        let Content { number, offset, length, digest, .. } = content;
        let ByteRange { start, .. } = self.range;
        if *number != self.number {
            return Err(PeerError::wrong(format!("it answers piece {} with piece {number}", self.number)));
        }
        if (*offset, *length) != (start, self.range.len()) {
            return Err(PeerError::wrong(format!(
                "its piece {number} has {length} bytes at {offset}; it should have {} at {start}",
                self.range.len()
            )));
        }
        if digest.is_empty() {
            return Ok(None);
        }
        let decimal =
            digest.strip_prefix("crc32:").filter(|crc| crc.bytes().all(|byte| byte.is_ascii_digit()));
        let crc = decimal.and_then(|crc| crc.parse().ok());
        crc.map(Some).ok_or_else(|| PeerError::wrong("the digest of a piece is not a CRC-32 in decimal"))
    }
}

// === impl Pace ===

impl Pace {
    fn new(patience: Patience) -> Self {
        Self { patience, until: Instant::now() + patience.stall, got: 0 }
    }

    async fn read(&mut self, stream: &mut PeerStream, into: &mut [u8]) -> Result<usize, PeerError> {
        loop {
            match timeout_at(self.until, stream.read(into)).await {
                Ok(Ok(0)) => return Err(PeerError::broken("it closed the connection in a piece")),
                Ok(Ok(got)) => {
                    self.got += got as u64;
                    // An answer that is always ready would never let the time run out.
                    if Instant::now() >= self.until {
                        self.judge()?;
                    }
                    return Ok(got);
                }
                Ok(Err(error)) => return Err(broken(&error)),
                Err(_) => self.judge()?,
            }
        }
    }

    fn judge(&mut self) -> Result<(), PeerError> {
        if self.got < self.patience.least {
            return Err(PeerError::broken("it sends too slowly"));
        }
        self.got = 0;
        self.until = Instant::now() + self.patience.stall;
        Ok(())
    }
}

fn refused(failure: Failure) -> Failed {
    let text = format!("it says: {}", failure.text);
    match failure.code {
        Code::NotFound => Failed::Refused(PeerError::missing(text)),
        _ => Failed::Refused(PeerError::broken(text)),
    }
}

fn gone(error: io::Error) -> Failed {
    Failed::Dead(broken(&error))
}

fn broken(error: &io::Error) -> PeerError {
    PeerError::broken(describe_io(error))
}

/// Frames without meaning that are skipped before an answer.
const CHATTER: u32 = 8;
/// Bytes that are read at once while a frame is waited for: it, and little of what follows.
const AHEAD: usize = HEADER_LEN + 250;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn check(digest: &str) -> Result<Option<u32>, ErrorKind> {
        let expected = Expected { number: 1, range: ByteRange { start: 10, end: 30 } };
        let content =
            Content { number: 1, offset: 10, length: 20, digest: digest.into(), ..Content::default() };
        expected.check(&content).map_err(|error| error.kind())
    }

    #[test]
    fn a_digest_is_a_crc_in_decimal_or_nothing() {
        assert_eq!(check("crc32:2533597436"), Ok(Some(2_533_597_436)));
        assert_eq!(check(""), Ok(None));
        let sha256 = format!("sha256:{}", "0".repeat(64));
        for wrong in ["crc32:864bbb04", "crc32:4294967296", "crc32:", "crc32:+1", "crc32: 1", "1", &sha256] {
            assert_eq!(check(wrong), Err(ErrorKind::Wrong), "{wrong}");
        }
    }
}
