//! What changes the store, and what hands out its bytes: for the daemon's own user and root alone.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, RawQuery};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use http_body_util::BodyExt as _;
use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use url::form_urlencoded;

use super::lines::{self, Pipe};
use super::shapes::{Collected, Failed, Gc, Import, Kept, Keys, Kind, Removed, Verified, Verify};
use super::{View, blocking, json};

/// Names of contents in one call: some 100 bytes each.
const LONGEST_BODY: usize = 64 << 20;

/// What can be done. Calls may wait for the disk, and long; they are made on threads for that.
pub trait Control: View {
    /// Takes contents out of the store. Whoever reads one reads on; one that is being downloaded stays.
    ///
    /// # Errors
    /// There is no store.
    fn remove(&self, keys: &[String]) -> Result<Removed, Failed>;

    /// Lets leave what is too much, by the store's own rules.
    ///
    /// # Errors
    /// There is no store.
    fn collect(&self, wanted: &Gc) -> Result<Collected, Failed>;

    /// Reads contents and compares them with their digests. `tell` hears of each step, and says
    /// whether to go on.
    ///
    /// # Errors
    /// There is no store.
    fn verify(&self, wanted: &Verify, tell: &mut dyn FnMut(Verified) -> bool) -> Result<(), Failed>;

    /// The bytes of a whole content.
    ///
    /// # Errors
    /// It is not there, or not whole.
    fn read(&self, key: &str) -> Result<Box<dyn Reading>, Failed>;

    /// Makes what was done durable; it is within a second all the same.
    ///
    /// # Errors
    /// The disk does not take it.
    fn flush(&self) -> Result<(), Failed>;

    /// A place for a content that is to come.
    ///
    /// # Errors
    /// There is no room, or no store. `Ok(None)`: it is there already.
    fn import(&self, wanted: &Import) -> Result<Option<Box<dyn Keeping>>, Failed>;
}

/// A stored content that is read from its beginning.
pub trait Reading: Send {
    /// Its length.
    fn total(&self) -> u64;

    /// The next bytes; empty at the end.
    ///
    /// # Errors
    /// What is wrong with them.
    fn next(&mut self) -> Result<Bytes, String>;
}

/// A content that comes. Nothing of it is kept if it is dropped.
pub trait Keeping: Send {
    /// The next bytes.
    ///
    /// # Errors
    /// They cannot be stored, or are too many.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failed>;

    /// Keeps it, if all is here and is what its digest says.
    ///
    /// # Errors
    /// It is not.
    fn finish(self: Box<Self>) -> Result<Kept, Failed>;
}

/// The paths of `control`.
pub(super) fn router(control: &Arc<dyn Control>) -> Router {
    let with = || Arc::clone(control);
    let (removing, collecting, verifying, reading, keeping) = (with(), with(), with(), with(), with());
    let flushing = with();
    Router::new()
        .route(
            "/api/v1/contents",
            delete(async move |body: Bytes| {
                blocking(move || Ok(json(&removing.remove(&read::<Keys>(&body)?.keys)?))).await
            }),
        )
        .route(
            "/api/v1/gc",
            post(async move |body: Bytes| {
                blocking(move || Ok(json(&collecting.collect(&read(&body)?)?))).await
            }),
        )
        .route(
            "/api/v1/flush",
            post(async move || {
                blocking(move || {
                    Ok(json(&serde_json::json!({ "durable": flushing.flush().map(|()| true)? })))
                })
                .await
            }),
        )
        .route("/api/v1/verify", post(async move |body: Bytes| verify(verifying, &body)))
        .route(
            "/api/v1/bytes",
            get(async move |RawQuery(query): RawQuery| {
                let key = parameter(query.as_deref().unwrap_or_default(), "key").unwrap_or_default();
                blocking(move || Ok(bytes(reading.read(&key)?))).await
            }),
        )
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .merge(Router::new().route(
            "/api/v1/import",
            post(async move |RawQuery(query): RawQuery, body: Body| {
                match import(keeping, query.as_deref().unwrap_or_default(), body).await {
                    Ok(kept) => json(&kept),
                    Err(failed) => failed.into_response(),
                }
            }),
        ))
}

fn read<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Failed> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| Failed::new(400, error.to_string()))
}

fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn verify(control: Arc<dyn Control>, body: &[u8]) -> Response {
    let wanted = match read::<Verify>(body) {
        Ok(wanted) => wanted,
        Err(failed) => return failed.into_response(),
    };
    let (pipe, body) = lines::pipe();
    // A thread of its own, for it lowers its priority.
    let spawned = std::thread::Builder::new().name("dfget-verify".to_owned()).spawn(move || {
        let _ = rustix::process::nice(19);
        let mut tell = |verified: Verified| pipe.line(&verified);
        if let Err(failed) = control.verify(&wanted, &mut tell) {
            pipe.line(&failed);
        }
    });
    match spawned {
        Ok(_) => {
            ([(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")], body).into_response()
        }
        Err(error) => Failed::new(503, format!("there is no thread for it: {error}")).into_response(),
    }
}

fn bytes(mut reading: Box<dyn Reading>) -> Response {
    let length = HeaderValue::from(reading.total());
    let (pipe, body) = lines::pipe();
    spawn_blocking(move || send(&mut *reading, &pipe));
    let headers = [(CONTENT_LENGTH, length), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (headers, body).into_response()
}

fn send(reading: &mut dyn Reading, pipe: &Pipe) {
    loop {
        match reading.next() {
            Ok(bytes) if bytes.is_empty() => return,
            Ok(bytes) => {
                if !pipe.send(bytes) {
                    return;
                }
            }
            Err(reason) => {
                tracing::warn!("a content is not handed out: {reason}");
                return pipe.fail(reason);
            }
        }
    }
}

async fn import(control: Arc<dyn Control>, query: &str, mut body: Body) -> Result<Kept, Failed> {
    let kept = take_in(control, query, &mut body).await;
    // Who still sends when the connection ends may not see the answer.
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = timeout(REST, rest).await;
    kept
}

async fn take_in(control: Arc<dyn Control>, query: &str, body: &mut Body) -> Result<Kept, Failed> {
    let wanted = Import::parse(query).map_err(|wrong| Failed::new(400, wrong))?;
    let begun = on_thread(move || control.import(&wanted)).await?;
    let Some(mut keeping) = begun else { return Ok(Kept { present: true }) };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failed::new(400, format!("it was cut short: {error}")))?;
        if let Ok(bytes) = frame.into_data() {
            keeping = on_thread(move || keeping.write(&bytes).map(|()| keeping)).await?;
        }
    }
    on_thread(move || keeping.finish()).await
}

/// What is not wanted any more is read for so long.
const REST: Duration = Duration::from_secs(30);

async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, Failed> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(Failed::new(500, error.to_string())))
}

// === impl Import ===

impl Import {
    fn parse(query: &str) -> Result<Self, String> {
        let of = |name: &str| parameter(query, name).ok_or_else(|| format!("{name} is missing"));
        let kind = match of("kind")?.as_str() {
            "blob" => Kind::Blob,
            "manifest" => Kind::Manifest,
            other => return Err(format!("kind={other} is not understood")),
        };
        let size = of("size")?.parse().map_err(|_| "size is no number".to_owned())?;
        Ok(Self { digest: of("digest")?, kind, size })
    }

    /// As a query.
    #[must_use]
    pub fn to_query(&self) -> String {
        let kind = if self.kind == Kind::Manifest { "manifest" } else { "blob" };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs([
            ("digest", self.digest.as_str()),
            ("kind", kind),
            ("size", &self.size.to_string()),
        ]);
        query.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_imported_is_read_back_from_its_query() {
        let import = Import { digest: "sha256:a&b".to_owned(), kind: Kind::Manifest, size: 7 };
        assert_eq!(Import::parse(&import.to_query()), Ok(import));
        for wrong in ["", "digest=a&kind=url&size=1", "digest=a&kind=blob&size=-1", "kind=blob&size=1"] {
            assert!(Import::parse(wrong).is_err(), "{wrong}");
        }
    }
}
