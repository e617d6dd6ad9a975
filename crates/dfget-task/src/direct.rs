//! A content that goes from the origin to one client without being stored: the way that is left
//! when the store is broken or full, or when the bytes in it are not this client's to have.

use bytes::Bytes;
use dfget_core::{Digest, Hasher};
use dfget_origin::ContentStream;

use crate::error::{ContentError, Mismatch};
use crate::gate::{HOLD_WHOLE, Holdback};

/// The stream of one client, verified like any other: a whole content named by a digest passes
/// the integrity gate.
#[derive(Debug)]
pub struct Direct {
    stream: ContentStream,
    origin: String,
    check: Option<Check>,
    gate: Holdback,
    ended: bool,
    verified: Option<Verified>,
}

/// What to do when the whole content has turned out to be right.
struct Verified(Box<dyn FnOnce() + Send + Sync>);

#[derive(Debug)]
struct Check {
    expected: Digest,
    hasher: Hasher,
}

impl Direct {
    /// Hands on what `stream` brings. `digest` is what the whole of it must hash to, for a
    /// stream from the first byte to the last; a part of a content cannot be checked.
    #[must_use]
    pub fn new(stream: ContentStream, origin: String, digest: Option<Digest>) -> Self {
        let check = digest.map(|expected| Check { hasher: Hasher::like(&expected), expected });
        let gate = Holdback::starting_at(stream.position());
        Self { stream, origin, check, gate, ended: false, verified: None }
    }

    /// As [`Self::new`], for a client that has received all bytes before the stream's position,
    /// which are hashed in `hasher`.
    pub(crate) fn continuing(
        stream: ContentStream,
        origin: String,
        expected: Digest,
        hasher: Hasher,
    ) -> Self {
        let gate = Holdback::starting_at(stream.position());
        let check = Some(Check { expected, hasher });
        Self { stream, origin, check, gate, ended: false, verified: None }
    }

    /// Has `action` done once the content has turned out to be what its digest says.
    #[must_use]
    pub fn when_verified(mut self, action: impl FnOnce() + Send + Sync + 'static) -> Self {
        self.verified = Some(Verified(Box::new(action)));
        self
    }

    /// The content's length, once known.
    #[must_use]
    pub const fn total(&self) -> Option<u64> {
        self.stream.identity().total
    }

    /// Reads as much as must be known before the head of the response goes out: all of a short
    /// content that is to be checked, or enough to know that it is not short, and the first bytes
    /// of any.
    ///
    /// # Errors
    /// As [`Self::next`]; no byte has left then.
    pub async fn prime(&mut self) -> Result<(), ContentError> {
        let short = |total: Option<u64>| total.is_none_or(|total| total <= HOLD_WHOLE);
        while self.check.is_some()
            && !self.ended
            && short(self.stream.identity().total)
            && self.stream.position() <= HOLD_WHOLE
        {
            self.step().await?;
        }
        if self.gate.is_empty() && !self.ended {
            self.step().await?;
        }
        Ok(())
    }

    /// The next bytes that may leave; `None` at the verified end.
    ///
    /// # Errors
    /// [`ContentError::Fetch`] if the origin fails, [`ContentError::Mismatch`] if the content is
    /// not what its digest says; the response must then break.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ContentError> {
        loop {
            let open = self.check.is_none() || self.ended;
            if let Some(bytes) = self.gate.pop(self.stream.identity().total, open) {
                return Ok(Some(bytes));
            }
            if self.ended {
                return Ok(None);
            }
            self.step().await?;
        }
    }

    async fn step(&mut self) -> Result<(), ContentError> {
        let next = self.stream.next().await;
        match next.map_err(|source| ContentError::Fetch { origin: self.origin.clone(), source })? {
            Some(bytes) => {
                if let Some(check) = &mut self.check {
                    check.hasher.update(&bytes);
                }
                self.gate.push(bytes);
            }
            None => {
                if let Some(check) = &self.check {
                    let actual = check.hasher.clone().finish();
                    if actual != check.expected {
                        let (origin, expected) = (self.origin.clone(), check.expected);
                        return Err(ContentError::Mismatch(Box::new(Mismatch { origin, expected, actual })));
                    }
                    if let Some(Verified(action)) = self.verified.take() {
                        action();
                    }
                }
                self.ended = true;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verified")
    }
}
