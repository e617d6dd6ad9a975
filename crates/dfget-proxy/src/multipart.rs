//! Several parts of a stored content as one body: `multipart/byteranges` (RFC 9110, section 14.6).

use std::vec::IntoIter;

use bytes::Bytes;
use dfget_core::{ByteRange, ContentRange};
use dfget_task::{ContentError, Reader, Stored, TaskRequest};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

/// The body. Only what is stored, and so verified, is given in parts.
#[derive(Debug)]
pub(crate) struct Multipart {
    stored: Stored,
    request: TaskRequest,
    boundary: String,
    /// The content's own type.
    content_type: Option<HeaderValue>,
    parts: IntoIter<ByteRange>,
    begun: bool,
    /// Of the part that is under way.
    reader: Option<Reader>,
    /// The first part's, made before the head of the response went out.
    first: Option<Reader>,
    ended: bool,
}

impl Multipart {
    /// A body with these parts, of a content that is described by `headers`.
    pub(crate) fn new(
        stored: Stored,
        request: TaskRequest,
        headers: &HeaderMap,
        parts: Vec<ByteRange>,
    ) -> Self {
        let content_type = headers.get(CONTENT_TYPE).cloned();
        // Nothing a content could be made to hold.
        let boundary = format!("{:032x}", fastrand::u128(..));
        let parts = parts.into_iter();
        Self {
            stored,
            request,
            boundary,
            content_type,
            parts,
            begun: false,
            reader: None,
            first: None,
            ended: false,
        }
    }

    /// The type of the response.
    pub(crate) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// Bytes of the whole body. To be asked before any was taken.
    pub(crate) fn length(&self) -> u64 {
        let ranges = self.parts.as_slice();
        let frames =
            ranges.iter().enumerate().map(|(index, range)| self.head_of(*range, index > 0).len() as u64);
        let bytes = ranges.iter().map(|range| range.len());
        frames.chain(bytes).sum::<u64>() + self.tail().len() as u64
    }

    /// Waits until the first bytes can be read: later the response could only break off.
    ///
    /// # Errors
    /// [`ContentError`] if they cannot.
    pub(crate) async fn prime(&mut self) -> Result<(), ContentError> {
        if let Some(range) = self.parts.as_slice().first() {
            let mut reader = self.stored.reader(&self.request, Some(*range));
            reader.prime().await?;
            self.first = Some(reader);
        }
        Ok(())
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`ContentError`]; the response must then break.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ContentError> {
        if let Some(reader) = &mut self.reader {
            if let Some(bytes) = reader.next().await? {
                return Ok(Some(bytes));
            }
            self.reader = None;
        }
        if let Some(range) = self.parts.next() {
            let first = self.first.take();
            self.reader = Some(first.unwrap_or_else(|| self.stored.reader(&self.request, Some(range))));
            let begun = std::mem::replace(&mut self.begun, true);
            return Ok(Some(self.head_of(range, begun).into()));
        }
        let ended = std::mem::replace(&mut self.ended, true);
        Ok((!ended).then(|| self.tail().into()))
    }

    /// What stands before a part.
    fn head_of(&self, range: ByteRange, begun: bool) -> Vec<u8> {
        let mut head = Vec::with_capacity(160);
        head.extend_from_slice(if begun { b"\r\n--" } else { b"--" });
        head.extend_from_slice(self.boundary.as_bytes());
        if let Some(content_type) = &self.content_type {
            head.extend_from_slice(b"\r\nContent-Type: ");
            head.extend_from_slice(content_type.as_bytes());
        }
        let range = ContentRange { range, total: Some(self.stored.total()) };
        head.extend_from_slice(format!("\r\nContent-Range: {range}\r\n\r\n").as_bytes());
        head
    }

    fn tail(&self) -> Vec<u8> {
        format!("\r\n--{}--\r\n", self.boundary).into_bytes()
    }
}
