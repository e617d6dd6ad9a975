//! Proof that an authority has a content that another delivered.
//!
//! A digest in a URL is only a name, and whoever knows the name of somebody's private content
//! could ask for it at a registry of their own, which says yes to everything. So an authority
//! that never delivered the content must first show that it has it, to the credential of the
//! client that asks: bytes at places that it cannot foresee must equal the stored ones.

use std::sync::Arc;
use std::time::Duration;

use dfget_core::{ByteRange, ContentRange};
use dfget_origin::headers::{representation, text};
use dfget_origin::{FetchRequest, OriginClient, OriginError};
use dfget_storage::Entry;
use http::header::{CONTENT_RANGE, HeaderName, HeaderValue, RANGE};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::ContentError;
use crate::content::read_range;
use crate::request::TaskRequest;

/// Parts asked for.
const PARTS: usize = 3;

/// Length of each part; a content that is no longer than all of them together is asked for whole.
const PART: u64 = 16 << 10;

/// The headers by which the request's authority describes the content, if it has shown to have
/// it; `None` if it has not.
pub(crate) async fn prove(
    origin: &OriginClient,
    request: &TaskRequest,
    entry: &Arc<Entry>,
    total: u64,
) -> Result<Option<HeaderMap>, ContentError> {
    let mut headers = HeaderMap::new();
    for part in parts(total, std::array::from_fn(|_| fastrand::f64())) {
        let Some((described, theirs)) = fetch_part(origin, &request.fetch, part, total).await? else {
            return Ok(None);
        };
        headers = described;
        let entry = Arc::clone(entry);
        let ours = tokio::task::spawn_blocking(move || read_range(&entry, part))
            .await
            .map_err(|error| ContentError::Internal(error.to_string()))??;
        if ours != theirs {
            return Ok(None);
        }
    }
    Ok(Some(headers))
}

/// A part of a content of `total` bytes as the origin has it, and the headers by which it describes the
/// content. `None` if it does not show that part of such a content.
///
/// # Errors
/// Those of the request: nobody knows what it has.
pub(crate) async fn fetch_part(
    origin: &OriginClient,
    request: &FetchRequest,
    part: ByteRange,
    total: u64,
) -> Result<Option<(HeaderMap, Vec<u8>)>, OriginError> {
    let extra: [(HeaderName, HeaderValue); 1] = [(RANGE, header(part))];
    let answer = origin.fetch(request, &extra).await?.response;
    let sent = match answer.status() {
        StatusCode::PARTIAL_CONTENT => text(answer.headers(), &CONTENT_RANGE).and_then(ContentRange::parse),
        StatusCode::OK if part.len() == total => Some(ContentRange { range: part, total: Some(total) }),
        _ => None,
    };
    if sent.is_none_or(|sent| sent.range != part || sent.total.is_some_and(|sent| sent != total)) {
        return Ok(None);
    }
    let headers = representation(answer.headers());
    let bytes = collect(answer.into_body(), part.len(), origin.timeouts().stall).await;
    Ok(bytes.map(|bytes| (headers, bytes)))
}

/// The parts of a content of `total` bytes that are to be shown; `random` are uniform in 0..1.
fn parts(total: u64, random: [f64; PARTS]) -> Vec<ByteRange> {
    if total == 0 {
        return Vec::new();
    }
    if total <= PART * PARTS as u64 {
        return vec![ByteRange { start: 0, end: total }];
    }
    let places = total - PART + 1;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a place in the content; which one exactly does not matter"
    )]
    let place = |random: f64| ((random * places as f64) as u64).min(places - 1);
    random.into_iter().map(place).map(|start| ByteRange { start, end: start + PART }).collect()
}

fn header(range: ByteRange) -> HeaderValue {
    range.to_header().try_into().unwrap_or_else(|_| HeaderValue::from_static("bytes=0-0"))
}

/// The body if it has exactly `length` bytes and never pauses for longer than `stall`.
async fn collect(mut body: Incoming, length: u64, stall: Duration) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while let Some(frame) = timeout(stall, body.frame()).await.ok()? {
        if let Ok(bytes) = frame.ok()?.into_data() {
            out.extend_from_slice(&bytes);
        }
        if out.len() as u64 > length {
            return None;
        }
    }
    (out.len() as u64 == length).then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_contents_are_shown_whole() {
        assert_eq!(parts(2, [0.0; PARTS]), [ByteRange { start: 0, end: 2 }]);
        assert!(parts(0, [0.0; PARTS]).is_empty());
    }

    proptest! {
        #[test]
        fn parts_lie_within_the_content(total in PART * 3 + 1..1_u64 << 44, random in prop::array::uniform3(0.0..1.0_f64)) {
            let parts = parts(total, random);
            prop_assert_eq!(parts.len(), PARTS);
            for part in parts {
                prop_assert!(part.len() == PART && part.end <= total);
            }
        }
    }
}
