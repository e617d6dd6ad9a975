//! Frames of the piece transfer (Dragonfly's vortex over TCP).
//!
//! A frame is a header of six bytes (number, tag, length of the value) and a value; all integers are
//! big-endian. A child asks by a [`Request`]; the parent answers by a [`Content`], behind which the bytes
//! of the piece follow outside of the frame, or by a [`Failure`].
//!
//! The decoders look at bytes that came from the net: they say how many more they need, never more than
//! [`MOST_FRAME`], and what they do not know they skip by its length. They allocate nothing but short texts.

use bytes::BufMut as _;

/// Bytes of a header.
pub const HEADER_LEN: usize = 6;

/// Bytes of a request, header and all.
pub const REQUEST_LEN: usize = HEADER_LEN + TASK_LEN + 4;

/// The longest frame that is taken, in bytes. A content frame of Dragonfly has about 200.
pub const MOST_FRAME: usize = 4096;

/// Bytes of a task's id.
const TASK_LEN: usize = 64;

/// Bytes of a content's metadata beside its two texts.
const METADATA_LEN: usize = 45;

/// The longest digest that is taken, in bytes: that of sha512 in hex, and its name.
const MOST_DIGEST: usize = 7 + 128;

/// The longest parent's name that is taken, in bytes.
const MOST_NAME: usize = 512;

/// The longest text of an error that is kept, in bytes.
const MOST_TEXT: usize = 512;

const REQUEST: u8 = 0;
const CONTENT: u8 = 1;
const CLOSE: u8 = 254;
const ERROR: u8 = 255;

/// Asks for a piece of a task.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Request {
    /// The task's id: 64 printable ASCII bytes.
    pub task: String,
    /// Number of the piece, from 0.
    pub number: u32,
}

/// What a child says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Asked {
    /// It wants a piece.
    Piece(Request),
    /// It goes.
    Close,
    /// Something of a later version, without meaning here.
    Unknown,
}

/// What stands before the bytes of a piece.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Content {
    /// Number of the piece, from 0.
    pub number: u32,
    /// Where in the content it begins.
    pub offset: u64,
    /// How many bytes follow.
    pub length: u64,
    /// `crc32:` and the CRC-32 of those in decimal; empty if the parent does not tell.
    pub digest: String,
    /// Who the parent had it from; empty if from the origin.
    pub parent_id: String,
    /// Dragonfly's traffic type.
    pub traffic_type: u8,
    /// How long that took, in whole seconds.
    pub cost_seconds: u64,
    /// When, in seconds since 1970.
    pub created_at: i64,
}

/// Why there is no piece.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Code {
    /// Not told.
    Unknown,
    /// The request makes no sense.
    InvalidArgument,
    /// The parent does not have it (yet).
    NotFound,
    /// The parent cannot read it.
    Internal,
}

/// Says that there is no piece.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Why.
    pub code: Code,
    /// The same for a person; not to be trusted.
    pub text: String,
}

/// In a number that one of dfget's own daemons asks another for: it counts units and not pieces. No content
/// has so many pieces that another client could mean this bit.
pub const UNIT: u32 = 1 << 31;

/// What a parent says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answered {
    /// A piece, whose bytes follow the frame.
    Piece(Content),
    /// None.
    Failed(Failure),
    /// It goes.
    Close,
    /// Something of a later version, without meaning here.
    Unknown,
}

/// What the bytes so far are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step<T> {
    /// So many bytes are needed in all, at the least.
    More(usize),
    /// A frame, and its length in bytes.
    Frame(T, usize),
}

/// The other end does not speak as it should; nothing more can be read from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// A frame too long to be meant.
    #[error("a frame (tag {tag}) of {length} bytes is longer than any")]
    TooLong {
        /// Of the frame.
        tag: u8,
        /// As it says.
        length: u32,
    },
    /// One that this side does not take, or whose value is not as it must be.
    #[error("a frame with tag {tag} makes no sense here")]
    Malformed {
        /// Of the frame.
        tag: u8,
    },
}

// === impl Request ===

impl Request {
    /// Whether an id can be asked for at all.
    #[must_use]
    pub fn is_task(task: &[u8]) -> bool {
        task.len() == TASK_LEN && task.iter().all(u8::is_ascii_graphic)
    }

    /// The frame; `None` if the task's id has no 64 bytes. `id` is free to choose, and nobody looks at it.
    #[must_use]
    pub fn encode(&self, id: u8) -> Option<[u8; REQUEST_LEN]> {
        if !Self::is_task(self.task.as_bytes()) {
            return None;
        }
        let mut frame = [0; REQUEST_LEN];
        let mut at = &mut frame[..];
        put_header(&mut at, id, REQUEST, REQUEST_LEN - HEADER_LEN);
        at.put_slice(self.task.as_bytes());
        at.put_u32(self.number);
        Some(frame)
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let (task, number) = value.split_at_checked(TASK_LEN)?;
        let number = u32::from_be_bytes(number.try_into().ok()?);
        let task = Self::is_task(task).then(|| std::str::from_utf8(task).ok())??;
        Some(Self { task: task.to_owned(), number })
    }
}

impl Asked {
    /// Looks at what a child has sent.
    ///
    /// # Errors
    /// [`FrameError`]: a kind of request that is not answered here is [`FrameError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Step<Self>, FrameError> {
        decode(bytes, |tag, value| match tag {
            REQUEST => Request::decode(value).map(Self::Piece),
            CLOSE => Some(Self::Close),
            8..CLOSE => Some(Self::Unknown),
            _ => None,
        })
    }
}

// === impl Content ===

impl Content {
    /// The frame, the piece's bytes excepted. Texts that are too long to be taken are cut.
    #[must_use]
    pub fn encode(&self, id: u8) -> Vec<u8> {
        let digest = cut(&self.digest, MOST_DIGEST).as_bytes();
        let parent = cut(&self.parent_id, MOST_NAME).as_bytes();
        let metadata = METADATA_LEN + digest.len() + parent.len();
        let mut frame = Vec::with_capacity(HEADER_LEN + 4 + metadata);
        put_header(&mut frame, id, CONTENT, 4 + metadata);
        frame.put_u32(metadata as u32);
        frame.put_u32(self.number);
        frame.put_u64(self.offset);
        frame.put_u64(self.length);
        frame.put_u32(digest.len() as u32);
        frame.put_slice(digest);
        frame.put_u32(parent.len() as u32);
        frame.put_slice(parent);
        frame.put_u8(self.traffic_type);
        frame.put_u64(self.cost_seconds);
        frame.put_i64(self.created_at);
        frame
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let mut rest = Rest(value);
        if rest.u32()? as usize != rest.0.len() {
            return None;
        }
        Some(Self {
            number: rest.u32()?,
            offset: rest.u64()?,
            length: rest.u64()?,
            digest: rest.text(MOST_DIGEST)?,
            parent_id: rest.text(MOST_NAME)?,
            traffic_type: rest.take::<1>()?[0],
            cost_seconds: rest.u64()?,
            created_at: i64::from_be_bytes(rest.take()?),
        })
    }
}

// === impl Code ===

impl From<u8> for Code {
    fn from(code: u8) -> Self {
        match code {
            1 => Self::InvalidArgument,
            2 => Self::NotFound,
            3 => Self::Internal,
            _ => Self::Unknown,
        }
    }
}

// === impl Failure ===

impl Failure {
    /// The frame. A text that is too long is cut.
    #[must_use]
    pub fn encode(&self, id: u8) -> Vec<u8> {
        let text = cut(&self.text, MOST_TEXT).as_bytes();
        let mut frame = Vec::with_capacity(HEADER_LEN + 1 + text.len());
        put_header(&mut frame, id, ERROR, 1 + text.len());
        frame.put_u8(self.code as u8);
        frame.put_slice(text);
        frame
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let (&code, text) = value.split_first()?;
        let text = String::from_utf8_lossy(text);
        let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        Some(Self { code: code.into(), text: cut(&text, MOST_TEXT).to_owned() })
    }
}

// === impl Answered ===

impl Answered {
    /// Looks at what a parent has sent.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(bytes: &[u8]) -> Result<Step<Self>, FrameError> {
        decode(bytes, |tag, value| match tag {
            CONTENT => Content::decode(value).map(Self::Piece),
            ERROR => Failure::decode(value).map(Self::Failed),
            CLOSE => Some(Self::Close),
            8..CLOSE => Some(Self::Unknown),
            _ => None,
        })
    }
}

/// A value that is being read.
struct Rest<'b>(&'b [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// A text after its length.
    fn text(&mut self, most: usize) -> Option<String> {
        let len = self.u32()? as usize;
        let (text, rest) = self.0.split_at_checked(len).filter(|_| len <= most)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(str::to_owned)
    }
}

/// One frame, whose value `read` understands; `None` from it is a value without sense.
fn decode<T>(bytes: &[u8], read: impl FnOnce(u8, &[u8]) -> Option<T>) -> Result<Step<T>, FrameError> {
    let Some((&[_id, tag, length @ ..], rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Ok(Step::More(HEADER_LEN));
    };
    let length = u32::from_be_bytes(length);
    let len = length as usize;
    if len > MOST_FRAME - HEADER_LEN {
        return Err(FrameError::TooLong { tag, length });
    }
    let Some(value) = rest.get(..len) else { return Ok(Step::More(HEADER_LEN + len)) };
    let frame = read(tag, value).ok_or(FrameError::Malformed { tag })?;
    Ok(Step::Frame(frame, HEADER_LEN + len))
}

fn put_header(to: &mut impl bytes::BufMut, id: u8, tag: u8, len: usize) {
    to.put_u8(id);
    to.put_u8(tag);
    to.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

/// The front of a text, at most so many bytes.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
#[path = "tests/vortex.rs"]
mod tests;
