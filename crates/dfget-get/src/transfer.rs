//! One content: asked for, gone on with after whatever breaks, checked.

use bytes::Bytes;
use dfget_core::{ByteRange, ContentRange, Digest, Hasher, RangeSpec, public_url};
use dfget_origin::headers::{content_length, text};
use dfget_origin::{ContentStream, FetchError, Identity};
use http::header::{CONTENT_RANGE, HeaderName, HeaderValue, IF_RANGE, RANGE};
use http::{Response, StatusCode};
use hyper::body::Incoming;
use url::Url;

use crate::error::GetError;
use crate::event::Event;
use crate::part::Part;
use crate::session::Session;
use crate::writer::{Out, Writer, Written};

/// How often in a row a content is asked for anew where that brings no byte.
const MOST_REOPENED: u32 = 3;

/// What is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Where it is.
    pub(crate) url: Url,
    /// What it must hash to.
    pub(crate) digest: Option<Digest>,
    /// How long it must be.
    pub(crate) size: Option<u64>,
    /// The part of it that is wanted.
    pub(crate) range: Option<RangeSpec>,
    /// What tells it from another content under the same URL, where there is no digest.
    pub(crate) known: Option<Identity>,
}

/// Where it goes.
pub(crate) enum Sink<'a> {
    /// Into a part, from `base` on; `present` bytes of it are there.
    Part {
        /// The part.
        part: &'a Part,
        /// The content's first byte in the part.
        base: u64,
        /// Bytes of it that are there.
        present: u64,
    },
    /// To somewhere that takes nothing back.
    Stream(Option<Box<dyn std::io::Write + Send>>),
}

/// What has come of it.
pub(crate) struct Fetched {
    /// Bytes of the content, those that were there before included.
    pub(crate) bytes: u64,
    /// Its digest, by the algorithm of the wanted one, else sha256.
    pub(crate) digest: Digest,
    /// The stream that was written to.
    pub(crate) stream: Option<Box<dyn std::io::Write + Send>>,
}

/// How one pass over a content ended.
enum Pass {
    Done(Fetched),
    /// What is there is of no use.
    Again(String),
}

/// A content's bytes, and how many of the next ones were handed on before.
struct Opened {
    stream: ContentStream,
    skip: u64,
    /// How many are wanted at most.
    left: u64,
}

/// Gets a content into `sink`. `first`: an answer to a request for the whole that is there already.
///
/// # Errors
/// [`GetError`] by cause. What came stays in the part, unless it is wrong.
pub(crate) async fn fetch(
    session: &Session<'_>,
    wanted: &Wanted,
    sink: &mut Sink<'_>,
    first: Option<Response<Incoming>>,
) -> Result<Fetched, GetError> {
    let mut first = first;
    let mut again = true;
    loop {
        match pass(session, wanted, sink, first.take()).await? {
            Pass::Done(fetched) => return Ok(fetched),
            Pass::Again(reason) => {
                let place = public_url(&wanted.url);
                let Sink::Part { part, base, present } = sink else {
                    return Err(GetError::TryAgain { place, reason });
                };
                let have = part.len()?.saturating_sub(*base);
                part.cut(*base)?;
                *present = 0;
                if !std::mem::replace(&mut again, false) {
                    return Err(GetError::TryAgain { place, reason });
                }
                session.net().observer().hear(Event::Note(&format!("{reason}; beginning anew")));
                session.net().observer().hear(Event::Lost(have));
            }
        }
    }
}

async fn pass(
    session: &Session<'_>,
    wanted: &Wanted,
    sink: &mut Sink<'_>,
    first: Option<Response<Incoming>>,
) -> Result<Pass, GetError> {
    let resumed = sink.present();
    let hasher = sink.hasher(wanted.digest)?;
    if let Some(early) = of_what_is_there(wanted, resumed, &hasher) {
        return Ok(early);
    }
    let known = wanted.known.clone();
    let Some(opened) = open(session, wanted, resumed, known, first).await? else {
        return Ok(Pass::Again("it is another content now".to_owned()));
    };
    if let (None, Some(size), Some(total)) = (wanted.range, wanted.size, opened.stream.identity().total)
        && size != total
    {
        let reason = format!("it has {total} bytes, and should have {size}");
        return Err(GetError::Unusable { place: public_url(&wanted.url), reason });
    }
    if let (None, Some(total)) = (wanted.size, opened.total(wanted)) {
        session.net().observer().hear(Event::Sized(total));
    }
    let out = sink.out(resumed)?;
    let writer = Writer::start(out, hasher, wanted.digest)
        .map_err(|error| GetError::Configuration(format!("the system gives no thread: {error}")))?;
    let mut bytes = resumed;
    let pumped = pump(session, wanted, opened, &writer, &mut bytes).await;
    match (writer.finish().await, pumped) {
        (Err(error), _) => Err(sink.failed(&error)),
        (Ok(_), Err(error)) => Err(error),
        (Ok(_), Ok(Some(reason))) => Ok(Pass::Again(reason)),
        (Ok(written), Ok(None)) => judge(wanted, resumed, bytes, written),
    }
}

/// What a pass comes to by what is there already, if nobody needs to be asked.
fn of_what_is_there(wanted: &Wanted, resumed: u64, hasher: &Hasher) -> Option<Pass> {
    if resumed == 0 {
        return None;
    }
    // All of it may be there, from a try that was ended before it could tell.
    let digest = hasher.clone().finish();
    let is_all = match wanted.digest {
        Some(expected) => expected == digest,
        None => wanted.size == Some(resumed),
    };
    if is_all {
        return Some(Pass::Done(Fetched { bytes: resumed, digest, stream: None }));
    }
    let is_too_much = wanted.size.is_some_and(|size| size <= resumed);
    is_too_much.then(|| Pass::Again("what was there is not a part of it".to_owned()))
}

/// Hands on the bytes of a content, over whatever breaks. `Some`: why all has to begin anew. A disk that takes no
/// more ends it, and is told by the writer.
async fn pump(
    session: &Session<'_>,
    wanted: &Wanted,
    mut opened: Opened,
    writer: &Writer,
    bytes: &mut u64,
) -> Result<Option<String>, GetError> {
    let mut idle = 0;
    while opened.left > 0 {
        let next = match opened.stream.next().await {
            Ok(Some(next)) => opened.fresh(next),
            Ok(None) => break,
            Err(error) => {
                let identity = opened.stream.identity().clone();
                match recover(session, wanted, &error, (*bytes, identity), &mut idle).await? {
                    Some(next) => opened = next,
                    None => return Ok(Some(error.to_string())),
                }
                continue;
            }
        };
        if next.is_empty() {
            continue;
        }
        (*bytes, idle) = (*bytes + next.len() as u64, 0);
        if let Some(size) = wanted.size.filter(|size| *bytes > *size) {
            let reason = format!("more bytes come than the {size} that it should have");
            return Err(GetError::Unusable { place: public_url(&wanted.url), reason });
        }
        session.net().observer().hear(Event::Grown(next.len() as u64));
        if !writer.write(next).await {
            break;
        }
    }
    Ok(None)
}

/// Whether what was written is what was wanted.
fn judge(wanted: &Wanted, resumed: u64, bytes: u64, written: Written) -> Result<Pass, GetError> {
    let place = || public_url(&wanted.url);
    if let Some(expected) = wanted.digest
        && written.digest != expected
    {
        if resumed > 0 {
            return Ok(Pass::Again("what was there is not a part of it".to_owned()));
        }
        return Err(GetError::Digest {
            place: place(),
            expected: Box::new(expected),
            actual: Box::new(written.digest),
        });
    }
    if let Some(size) = wanted.size.filter(|size| *size != bytes) {
        let reason = format!("only {bytes} of {size} bytes came");
        return Err(GetError::TryAgain { place: place(), reason });
    }
    let stream = match written.out {
        Out::Stream(stream) => Some(stream),
        Out::File(_) => None,
    };
    Ok(Pass::Done(Fetched { bytes, digest: written.digest, stream }))
}

/// After a stream has given up: another one, if there is hope; `None` to begin anew.
async fn recover(
    session: &Session<'_>,
    wanted: &Wanted,
    error: &FetchError,
    (position, identity): (u64, Identity),
    idle: &mut u32,
) -> Result<Option<Opened>, GetError> {
    let place = || public_url(&wanted.url);
    match error {
        FetchError::Changed(_) => return Ok(None),
        // The token has expired; the next request is asked for another.
        FetchError::Denied(_) => {}
        _ if session.net().leave_daemon(&error.to_string()) => {}
        FetchError::GaveUp { .. } if wanted.digest.is_none() && is_unknown(&identity) => return Ok(None),
        FetchError::GaveUp { .. } => {
            return Err(GetError::TryAgain { place: place(), reason: error.to_string() });
        }
        _ => return Err(GetError::Unusable { place: place(), reason: error.to_string() }),
    }
    *idle += 1;
    if *idle > MOST_REOPENED {
        return Err(GetError::TryAgain { place: place(), reason: error.to_string() });
    }
    if wanted.range.is_some() && position > 0 {
        return Ok(None);
    }
    open(session, wanted, position, Some(identity), None).await
}

/// Asks for the content from `from` on. `None`: there is nothing there, or another content.
async fn open(
    session: &Session<'_>,
    wanted: &Wanted,
    from: u64,
    identity: Option<Identity>,
    first: Option<Response<Incoming>>,
) -> Result<Option<Opened>, GetError> {
    let named = wanted.digest.is_some();
    if !named && from > 0 && identity.as_ref().is_none_or(is_unknown) {
        return Ok(None);
    }
    let mut extra = Vec::new();
    let range = match wanted.range {
        Some(range) if from == 0 => Some(range.to_string()),
        _ if from > 0 => Some(format!("bytes={from}-")),
        _ => None,
    };
    let header = |text: &str| HeaderValue::from_str(text).ok();
    extra.extend(range.as_deref().and_then(header).map(|value| (RANGE, value)));
    let validator = identity.as_ref().filter(|_| !named && from > 0);
    let validator = validator.and_then(|known| known.etag.as_deref().or(known.last_modified.as_deref()));
    extra.extend(validator.and_then(header).map(|value: HeaderValue| (IF_RANGE, value)));
    let answer = match first {
        Some(answer) if from == 0 => answer,
        _ => session.get(&wanted.url, &extra as &[(HeaderName, HeaderValue)]).await?,
    };
    if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
        return match wanted.range {
            Some(range) if from == 0 => Err(GetError::Unusable {
                place: public_url(&wanted.url),
                reason: format!("it has no {range}"),
            }),
            _ => Ok(None),
        };
    }
    let sent = text(answer.headers(), &CONTENT_RANGE).and_then(ContentRange::parse);
    let sent = sent.filter(|_| answer.status() == StatusCode::PARTIAL_CONTENT);
    let total = sent.map_or_else(|| content_length(answer.headers()), |sent| sent.total);
    if let Some(known) = identity.filter(|_| !named) {
        let now = Identity::of(answer.headers(), false, total);
        if (&known.etag, &known.last_modified) != (&now.etag, &now.last_modified) {
            return Ok(None);
        }
    }
    let unusable = |reason: String| GetError::Unusable { place: public_url(&wanted.url), reason };
    let asked = match wanted.range {
        _ if from > 0 => Some(ByteRange { start: from, end: u64::MAX }),
        Some(range) => Some(resolve(range, total).ok_or_else(|| {
            unusable("it does not tell its length, so its last bytes cannot be told".to_owned())
        })?),
        None => None,
    };
    let request = session.request(&wanted.url).await;
    let client = session.net().client().clone();
    let mut stream = ContentStream::new(client, request, answer, asked, named)
        .map_err(|error| unusable(error.to_string()))?;
    let start = asked.map_or(0, |asked| asked.start);
    if let Some(asked) = asked {
        stream.end_at(asked.end);
    }
    let skip = start.saturating_sub(stream.position());
    let left = asked.map_or(u64::MAX, |asked| asked.end - asked.start.min(asked.end));
    Ok(Some(Opened { stream, skip, left }))
}

/// Whether nothing tells a content from another under the same URL.
const fn is_unknown(identity: &Identity) -> bool {
    identity.etag.is_none() && identity.last_modified.is_none()
}

/// The bytes that a range means of a content of this length.
fn resolve(range: RangeSpec, total: Option<u64>) -> Option<ByteRange> {
    match range {
        RangeSpec::FromTo(first, last) => Some(ByteRange { start: first, end: last.saturating_add(1) }),
        RangeSpec::From(first) => Some(ByteRange { start: first, end: u64::MAX }),
        RangeSpec::Suffix(length) => {
            let total = total?;
            Some(ByteRange { start: total.saturating_sub(length), end: total })
        }
    }
}

// === impl Opened ===

impl Opened {
    /// How many bytes are wanted in all, if that is known.
    fn total(&self, wanted: &Wanted) -> Option<u64> {
        let start = wanted.range.map_or(0, |_| self.stream.position() + self.skip);
        let end = self.stream.end()?;
        Some(if wanted.range.is_some() { end.saturating_sub(start).min(self.left) } else { end })
    }

    /// What of `bytes` is wanted, and was not handed on before.
    fn fresh(&mut self, mut bytes: Bytes) -> Bytes {
        let known = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= known as u64;
        let mut fresh = bytes.split_off(known);
        fresh.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= fresh.len() as u64;
        fresh
    }
}

// === impl Sink ===

impl Sink<'_> {
    fn present(&self) -> u64 {
        match self {
            Self::Part { present, .. } => *present,
            Self::Stream(_) => 0,
        }
    }

    /// A hasher that has taken in what is there.
    fn hasher(&self, like: Option<Digest>) -> Result<Hasher, GetError> {
        let hasher = like.as_ref().map_or_else(Hasher::sha256, Hasher::like);
        match self {
            Self::Part { part, base, present } if *present > 0 => {
                let (start, end) = (*base, *base + *present);
                tokio::task::block_in_place(|| part.hash(hasher, start, end))
            }
            _ => Ok(hasher),
        }
    }

    fn out(&mut self, from: u64) -> Result<Out, GetError> {
        match self {
            Self::Part { part, base, .. } => part.writer(*base + from).map(Out::File),
            Self::Stream(stream) => match stream.take() {
                Some(stream) => Ok(Out::Stream(stream)),
                None => Err(GetError::Usage("the output was begun already".to_owned())),
            },
        }
    }

    fn failed(&self, error: &std::io::Error) -> GetError {
        match self {
            Self::Part { part, .. } => part.failed(error),
            Self::Stream(_) if error.kind() == std::io::ErrorKind::BrokenPipe => GetError::Output {
                path: "standard output".into(),
                reason: "whoever reads it has closed it".to_owned(),
            },
            Self::Stream(_) => crate::part::refused(std::path::Path::new("the output"), error, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_means_these_bytes() {
        let of = |range, total| resolve(range, total).map(|range| (range.start, range.end));
        assert_eq!(of(RangeSpec::FromTo(0, 9), None), Some((0, 10)));
        assert_eq!(of(RangeSpec::FromTo(0, u64::MAX), None), Some((0, u64::MAX)));
        assert_eq!(of(RangeSpec::From(5), Some(9)), Some((5, u64::MAX)));
        assert_eq!(of(RangeSpec::Suffix(5), Some(9)), Some((4, 9)));
        assert_eq!(of(RangeSpec::Suffix(50), Some(9)), Some((0, 9)));
        assert_eq!(of(RangeSpec::Suffix(5), None), None);
    }
}
