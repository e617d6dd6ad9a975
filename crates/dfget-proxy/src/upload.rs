//! The body of a request that is forwarded, as the client sends it.
//!
//! A client that expects `100 Continue` waits for the origin's word, not for ours: its body is read, and so asked for,
//! only once the origin has said so. If the origin answers at once (401, 413) that answer is the client's, and not a
//! byte of the body is on its way (RFC 9110, section 10.1.1).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use dfget_origin::BoxError;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::body::ResponseBody;

/// How long an origin is given to say `100 Continue`; old ones do not know it.
const PATIENCE: Duration = Duration::from_secs(1);

/// A body on its way to the origin.
pub(crate) struct Upload {
    body: Incoming,
    wait: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    broken: Arc<AtomicBool>,
}

/// Where a body stands that waits for the origin's word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    None,
    Continue,
    /// The origin has answered without the body.
    Answered,
    /// That answer has been handed on.
    Over,
}

/// What is to be known of an upload while its answer is awaited.
pub(crate) struct Watched {
    broken: Arc<AtomicBool>,
    word: Option<watch::Sender<Word>>,
}

/// Lets a body go that nobody wants any more, once the answer that told so has been handed on.
struct Answered<B> {
    body: B,
    word: watch::Sender<Word>,
}

/// Makes the body of `request` ready to be sent on. It waits for the origin's word where the client does.
pub(crate) fn watch(request: Request<Incoming>, waits: bool) -> (Request<dfget_origin::Body>, Watched) {
    let broken = Arc::new(AtomicBool::new(false));
    let waits = waits && !request.body().is_end_stream();
    let (word, heard) = watch::channel(Word::None);
    let wait = waits.then(|| Box::pin(asked_for(heard)) as Pin<Box<dyn Future<Output = bool> + Send>>);
    let shared = Arc::clone(&broken);
    let mut request = request.map(|body| Upload { body, wait, broken: shared }.boxed_unsync());
    if waits {
        let told = word.clone();
        hyper::ext::on_informational(&mut request, move |interim| {
            if interim.status() == StatusCode::CONTINUE {
                told.send_replace(Word::Continue);
            }
        });
    }
    (request, Watched { broken, word: waits.then_some(word) })
}

/// Whether the body is to be sent, as soon as that is known.
async fn asked_for(mut heard: watch::Receiver<Word>) -> bool {
    let word = match timeout(PATIENCE, heard.wait_for(|word| *word != Word::None)).await {
        Err(_) => return true,
        Ok(Err(_)) => return false,
        Ok(Ok(word)) => *word,
    };
    if word == Word::Answered {
        // To end the body now would end the connection that the answer comes on.
        let _ = heard.wait_for(|word| *word == Word::Over).await;
    }
    word == Word::Continue
}

// === impl Watched ===

impl Watched {
    /// Whether the client broke off the body, or its framing.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Tells the body that the origin has answered.
    pub(crate) fn answered(self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        let Some(word) = self.word else { return response };
        let unsent = word.send_if_modified(|word| {
            let unsent = *word == Word::None;
            if unsent {
                *word = Word::Answered;
            }
            unsent
        });
        if unsent { response.map(|body| Answered { body, word }.boxed_unsync()) } else { response }
    }
}

// === impl Upload ===

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(wait) = &mut self.wait {
            let wanted = ready!(wait.as_mut().poll(cx));
            self.wait = None;
            if !wanted {
                return Poll::Ready(Some(Err("the origin answered without the body".into())));
            }
        }
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if matches!(polled, Some(Err(_))) {
            self.broken.store(true, Ordering::Relaxed);
        }
        Poll::Ready(polled.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl Answered ===

impl<B: Body + Unpin> Body for Answered<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Answered<B> {
    fn drop(&mut self) {
        self.word.send_replace(Word::Over);
    }
}
