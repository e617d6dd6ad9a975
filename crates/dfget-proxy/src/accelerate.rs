//! Requests that become a task: found in the store, joined while running, or begun.

use std::sync::Arc;
use std::time::SystemTime;

use dfget_core::RangeHeader;
use dfget_origin::{Answer, Identity};
use dfget_task::{Begun, ContentError, Found, OnEnd, Seat, Stored, TaskRequest};
use http::header::HeaderMap;
use http::{Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use tracing::{debug, warn};
use url::Url;

use crate::accelerated::Accelerated;
use crate::access::Verdict;
use crate::answer::{failed, not_stored, own, refuse_or_pass_on, unsatisfiable};
use crate::body::ResponseBody;
use crate::handler::Proxy;
use crate::permission::{self, Permission};
use crate::respond;
use crate::wishes::Wishes;

/// What a look at a stored or running content led to.
enum Step {
    Respond(Response<ResponseBody>),
    /// The content is gone or another by now: look again, with the answer that told so if it
    /// is the content itself.
    Again(Option<Answer>),
}

impl Proxy {
    /// Answers a GET that is no task with what the origin sends for it alone, if that has the
    /// digest which the client names.
    pub(crate) async fn verified(
        &self,
        url: Url,
        wishes: Wishes,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        self.metrics().not_via_dragonfly();
        match self.read(url, wishes, &request) {
            Ok(accelerated) => self.own_request(&accelerated).await,
            Err(refused) => respond::text(StatusCode::BAD_REQUEST, refused),
        }
    }

    fn read(
        &self,
        url: Url,
        wishes: Wishes,
        request: &Request<Incoming>,
    ) -> Result<Accelerated, &'static str> {
        let permissions = self.inner.access.permissions();
        let read = Accelerated::read(&self.inner.options.load(), permissions, url, wishes, request)?;
        Ok(Accelerated { trace: self.tracer().trace(request.headers()), ..read })
    }

    /// Answers a GET that becomes a task: a rule says so, or the client.
    pub(crate) async fn accelerate(
        &self,
        url: Url,
        wishes: Wishes,
        request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let accelerated = match self.read(url.clone(), wishes, &request) {
            Ok(accelerated) => accelerated,
            Err(refused) => return respond::text(StatusCode::BAD_REQUEST, refused),
        };
        let conditional = !accelerated.conditions.is_empty();
        if accelerated.task.digest.is_none() && (conditional || !request.body().is_end_stream()) {
            if accelerated.stored_only {
                return not_stored(&accelerated);
            }
            // What such a request means is for the origin to decide.
            return Box::pin(self.forward(&url, request)).await;
        }
        if accelerated.head {
            return match Box::pin(self.head_of_stored(&accelerated)).await {
                Some(response) => response,
                None => Box::pin(self.forward(&url, request)).await,
            };
        }
        self.metrics().via_dragonfly();
        let TaskRequest { id, peer, priority, .. } = &accelerated.task;
        debug!(task = %id, peer = &**peer, priority, "a request becomes a task");
        let request = accelerated;
        if conditional {
            if let Some(stored) = self.inner.tasks.stored(&request.task)
                && let Step::Respond(response) = self.serve_stored(&request, stored).await
            {
                return response;
            }
            // The same, but what comes of it must have the digest all the same.
            return Box::pin(self.own_request(&request)).await;
        }
        let mut carried = None;
        loop {
            let step = match self.inner.tasks.find(&request.task).await {
                Found::Stored(stored) => self.serve_stored(&request, stored).await,
                _ if request.stored_only => Step::Respond(not_stored(&request)),
                Found::Running(task) => Box::pin(self.join_running(&request, task)).await,
                Found::Unanswered => Step::Respond(Box::pin(self.own_request(&request)).await),
                Found::Absent(lead) => {
                    Step::Respond(Box::pin(self.lead(&request, lead, carried.take())).await)
                }
            };
            match step {
                Step::Respond(response) => return response,
                Step::Again(answer) => carried = answer,
            }
        }
    }

    pub(crate) fn permission(&self, request: &Accelerated, content: &permission::Content) -> Permission {
        let fetch = &request.task.fetch;
        let permissions = self.inner.access.permissions();
        permissions.of(&request.task.authority, content, &fetch.headers, &fetch.url)
    }

    /// The origin has begun to give this content to this client; whether it was the right one is
    /// told later.
    pub(crate) fn accepted(&self, request: &Accelerated, identity: &Identity) -> OnEnd {
        let permission = self.permission(request, &request.content(identity));
        self.inner.access.remember(permission);
        let accepted = SystemTime::now();
        let (proxy, authority) = (self.clone(), request.task.authority.clone());
        Box::new(move |right| {
            if right {
                proxy.inner.access.confirm(permission, &authority, accepted);
            } else {
                proxy.inner.access.withdraw(permission);
            }
        })
    }

    async fn verdict(&self, request: &Accelerated, identity: &Identity) -> Verdict {
        let content = request.content(identity);
        let permission = self.permission(request, &content);
        match content {
            permission::Content::Named { .. } => {
                self.inner.access.check_named(permission, &request.task, identity.total).await
            }
            permission::Content::Unnamed { .. } => {
                Box::pin(self.inner.access.check_unnamed(permission, &request.task, identity)).await
            }
        }
    }

    /// The answer to a HEAD, if its content is stored and the client may have it; else its own
    /// request is to go on, and starts nothing.
    async fn head_of_stored(&self, request: &Accelerated) -> Option<Response<ResponseBody>> {
        let stored = self.inner.tasks.stored(&request.task)?;
        if !stored.admits(&request.task) || !stored.is_known_to(&request.task.authority) {
            return None;
        }
        let verdict = self.verdict(request, &stored.identity()).await;
        if !matches!(verdict, Verdict::Allowed) {
            return None;
        }
        self.metrics().via_dragonfly();
        Some(self.respond_stored(request, stored).await)
    }

    async fn serve_stored(&self, request: &Accelerated, mut stored: Stored) -> Step {
        if !stored.admits(&request.task) {
            return Step::Respond(Box::pin(self.own_request(request)).await);
        }
        let verdict = self.verdict(request, &stored.identity()).await;
        let verdict = match verdict {
            Verdict::Changed(answer) => {
                stored.forget();
                return Step::Again(Some(answer));
            }
            verdict => verdict,
        };
        if let Some(response) = self.refused(request, verdict).await {
            return Step::Respond(response);
        }
        let authority = &request.task.authority;
        if !stored.is_known_to(authority) {
            let proved = Box::pin(stored.prove(&request.task)).await.unwrap_or_else(|error| {
                warn!(task = %request.task.id, "{authority} could not prove to have the content: {error}");
                false
            });
            if !proved {
                return Step::Respond(Box::pin(self.own_request(request)).await);
            }
        }
        self.metrics().cache_hit();
        Step::Respond(self.respond_stored(request, stored).await)
    }

    async fn join_running(&self, request: &Accelerated, task: Seat) -> Step {
        let part = request.task.range != RangeHeader::Whole;
        if !task.admits(&request.task) || (part && task.is_unproven()) {
            return Step::Respond(Box::pin(self.own_request(request)).await);
        }
        let verdict = match self.verdict(request, &task.identity()).await {
            Verdict::Changed(answer) if task.supersede() => return Step::Again(Some(answer)),
            verdict => verdict,
        };
        if let Some(response) = self.refused(request, verdict).await {
            return Step::Respond(response);
        }
        if let Some(response) = self.join(request, &task, task.headers(), false).await {
            self.metrics().cache_hit();
            return Step::Respond(response);
        }
        // Held, it might never end.
        let ending = Arc::clone(&task);
        drop(task);
        ending.ended().await;
        Step::Again(None)
    }

    pub(crate) async fn begin(
        &self,
        request: &Accelerated,
        begun: Result<Begun, ContentError>,
    ) -> Response<ResponseBody> {
        match begun {
            Ok(Begun::Task { task, own_headers }) => {
                let headers = own_headers.map_or_else(|| task.headers(), own);
                let joined = self.join(request, &task, headers, true).await;
                joined.unwrap_or_else(|| failed(request, &ContentError::Closing))
            }
            Ok(Begun::Direct { body, status, headers }) => {
                self.respond_direct(request, *body, status, headers).await
            }
            Ok(Begun::Unstored) => self.own_request(request).await,
            Ok(Begun::Answer(answer)) => refuse_or_pass_on(request, answer),
            Err(error) => failed(request, &error),
        }
    }

    /// Makes the client a reader of a running task; `None` if that has ended meanwhile.
    pub(crate) async fn join(
        &self,
        request: &Accelerated,
        task: &Seat,
        headers: HeaderMap,
        leads: bool,
    ) -> Option<Response<ResponseBody>> {
        let range = match task.resolve(request.wanted(&task.headers())).await {
            Ok(range) => range,
            Err(error) => return Some(unsatisfiable(error)),
        };
        let reader = task.join(&request.task, range.map(|(range, _)| range), leads)?;
        Some(self.respond(request, reader, headers, range).await)
    }

    /// The answer for a client that must not have what is here; `None` if it may.
    async fn refused(&self, request: &Accelerated, verdict: Verdict) -> Option<Response<ResponseBody>> {
        match verdict {
            Verdict::Allowed => None,
            Verdict::Ask => Some(Box::pin(self.own_request(request)).await),
            Verdict::Answer(answer) => Some(refuse_or_pass_on(request, answer)),
            Verdict::Changed(answer) => Some(Box::pin(self.own_answer(request, answer.response)).await),
            Verdict::Unreachable(error) => Some(failed(request, &error.into())),
        }
    }
}
