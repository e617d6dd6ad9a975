//! Requests for one repository or URL: with the login that it asks for, by the way that works.

use std::time::Duration;

use bytes::Bytes;
use dfget_core::{Backoff, ContentReference, RegistryPath, public_url};
use dfget_origin::{BoxError, FetchRequest, OriginError};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
    WWW_AUTHENTICATE,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::timeout;
use url::Url;

use crate::challenge::Challenge;
use crate::credential::{basic, bearer, take_login, token_request};
use crate::error::GetError;
use crate::event::Event;
use crate::login::{Known, Login, Logins};
use crate::net::Net;
use crate::said::{said_in, words};

/// An answer by which a daemon says that itself, or what it has tried, has failed.
const DAEMONS_ERROR: HeaderName = HeaderName::from_static("x-dragonfly-error-type");

/// An answer of this length is no token.
const LONGEST_TOKEN: u64 = 1 << 20;

/// Of the body of an error so much is looked at.
const LONGEST_ERROR: u64 = 64 << 10;

/// How often an origin that is not well is asked again.
const MOST_TRIES: u32 = 3;

/// Waits before that.
const BETWEEN_TRIES: Backoff = Backoff { first: Duration::from_millis(300), ceiling: Duration::from_secs(3) };

/// The longest `Retry-After` that is sat out.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a token or a manifest may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Requests for one repository or URL.
pub(crate) struct Session<'a> {
    net: &'a Net,
    logins: &'a Logins,
    /// The host as the user names it, for logins.
    host: String,
    /// The repository, if it is one of a registry.
    repository: Option<String>,
    /// Headers that the user wants to be sent.
    fixed: HeaderMap,
    /// Headers for a daemon alone.
    hints: HeaderMap,
    /// What is shown to the origin, once it has asked for it.
    shown: Mutex<Option<HeaderValue>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

// === impl Session ===

impl<'a> Session<'a> {
    /// For a repository of a registry.
    pub(crate) fn of_repository(net: &'a Net, logins: &'a Logins, host: &str, repository: &str) -> Self {
        Self {
            net,
            logins,
            host: host.to_owned(),
            repository: Some(repository.to_owned()),
            fixed: HeaderMap::new(),
            hints: HeaderMap::new(),
            shown: Mutex::new(None),
        }
    }

    /// For a URL, from which the login is taken out. `fixed`: headers of the user's; `hints`: for a daemon alone.
    pub(crate) fn of_url(
        net: &'a Net,
        logins: &'a Logins,
        url: &mut Url,
        mut fixed: HeaderMap,
        mut hints: HeaderMap,
    ) -> Self {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = format!("{}{port}", url.host_str().unwrap_or_default());
        let for_daemons: Vec<HeaderName> =
            fixed.keys().filter(|name| name.as_str().starts_with("x-dragonfly-")).cloned().collect();
        for name in for_daemons {
            let value = fixed.remove(&name);
            hints.extend(value.map(|value| (name, value)));
        }
        if let Some(login) = take_login(url) {
            fixed.entry(AUTHORIZATION).or_insert(login);
        }
        let repository = match (ContentReference::of_path(url.path()), RegistryPath::of_path(url.path())) {
            (Some(content), _) => Some(content.repository),
            (None, Some(RegistryPath::Manifest { repository, .. })) => Some(repository),
            _ => None,
        };
        Self { net, logins, host, repository, fixed, hints, shown: Mutex::new(None) }
    }

    pub(crate) fn net(&self) -> &'a Net {
        self.net
    }

    /// Asks by GET, with `extra` headers, until there is an answer that means something: 200, 206 or 416.
    ///
    /// # Errors
    /// [`GetError`] by what the origin says, or why it says nothing.
    pub(crate) async fn get(
        &self,
        url: &Url,
        extra: &[(HeaderName, HeaderValue)],
    ) -> Result<Response<Incoming>, GetError> {
        let (mut renewed, mut tries) = (false, 1);
        loop {
            let request = self.request(url).await;
            let answer = match self.net.client().fetch_patiently(&request, extra).await {
                Ok(answer) => answer.response,
                Err(error) if self.net.leave_daemon(&error.to_string()) => continue,
                Err(error) => return Err(failed(url, &error)),
            };
            let status = answer.status();
            let by_daemon =
                self.net.through_daemon().is_some() && answer.headers().contains_key(DAEMONS_ERROR);
            if by_daemon
                && status != StatusCode::TOO_MANY_REQUESTS
                && self.net.leave_daemon(&format!("it answers {status}"))
            {
                continue;
            }
            match status.as_u16() {
                200 | 206 | 416 => return Ok(answer),
                401 if !renewed && self.renew(answer.headers()).await? => renewed = true,
                408 | 425 | 500 | 502 | 503 | 504 if tries < MOST_TRIES && !by_daemon => {
                    tokio::time::sleep(pause(answer.headers(), tries)).await;
                    tries += 1;
                }
                _ => return Err(self.refused(url, answer).await),
            }
        }
    }

    /// As [`Self::get`], the whole body, of `longest` bytes at most.
    ///
    /// # Errors
    /// As [`Self::get`], and where the body breaks off or is too long.
    pub(crate) async fn get_all(
        &self,
        url: &Url,
        extra: &[(HeaderName, HeaderValue)],
        longest: u64,
    ) -> Result<(HeaderMap, Vec<u8>), GetError> {
        loop {
            let (head, body) = self.get(url, extra).await?.into_parts();
            match timeout(PATIENCE, read_all(body, longest)).await {
                Ok(Ok(bytes)) => return Ok((head.headers, bytes)),
                Ok(Err(reason)) if self.net.leave_daemon(&reason) => {}
                Ok(Err(reason)) => return Err(GetError::TryAgain { place: public_url(url), reason }),
                Err(_) => {
                    let reason = format!("no end of the answer within {} s", PATIENCE.as_secs());
                    return Err(GetError::TryAgain { place: public_url(url), reason });
                }
            }
        }
    }

    /// A request with all that is to be shown by now.
    pub(crate) async fn request(&self, url: &Url) -> FetchRequest {
        let mut headers = self.fixed.clone();
        if let Some(shown) = &*self.shown.lock().await {
            headers.insert(AUTHORIZATION, shown.clone());
        }
        if self.net.through_daemon().is_some() {
            headers.extend(self.hints.clone());
        }
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        FetchRequest { url: url.clone(), headers, clients_choice: false }
    }

    /// Gets what the challenges ask for; returns whether there is something new to show.
    async fn renew(&self, headers: &HeaderMap) -> Result<bool, GetError> {
        if self.fixed.contains_key(AUTHORIZATION) {
            return Ok(false);
        }
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<_> = values.flat_map(Challenge::all).collect();
        let repository = self.repository.as_deref();
        let Known { login, .. } =
            repository.map_or_else(Known::default, |name| self.logins.of(&self.host, name));
        if let Some((_, from)) = &login {
            self.note(&format!("the login for {} is from {from}", self.host));
        }
        let login = login.map(|(login, _)| login);
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let shown = match (of("bearer"), of("basic"), login) {
            (Some(_), _, Some(Login::Token(token))) => bearer(token),
            (Some(challenge), _, login) => match self.token(challenge, login).await? {
                Some(token) => bearer(&token),
                None => None,
            },
            (None, Some(_), Some(Login::Account { name, password })) => basic(name, password),
            _ => None,
        };
        let Some(shown) = shown else { return Ok(false) };
        *self.shown.lock().await = Some(shown);
        Ok(true)
    }

    /// A token from where the challenge says that they are given out; `None` if it says no place.
    async fn token(&self, challenge: &Challenge, login: Option<&Login>) -> Result<Option<String>, GetError> {
        let realm = challenge.parameter("realm").and_then(|realm| Url::parse(realm).ok());
        let Some(mut realm) = realm.filter(|url| matches!(url.scheme(), "http" | "https")) else {
            return Ok(None);
        };
        let _ = (realm.set_username(""), realm.set_password(None));
        let own = realm.host_str().is_some_and(|host| self.host.split(':').next() == Some(host));
        if realm.scheme() == "http" && login.is_some() && !own {
            return Err(GetError::Unusable {
                place: self.host.clone(),
                reason: format!(
                    "it wants the login to be sent in plain text to {}, which is not done",
                    public_url(&realm)
                ),
            });
        }
        let scope = challenge
            .parameter("scope")
            .map(ToOwned::to_owned)
            .or_else(|| self.repository.as_ref().map(|repository| format!("repository:{repository}:pull")));
        let asked = [("service", challenge.parameter("service")), ("scope", scope.as_deref())];
        let asked: Vec<_> = asked.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let request = token_request(&mut realm, &asked, login)?;
        self.note(&format!("asking {} for a token", public_url(&realm)));
        let answer = match timeout(PATIENCE, self.send_for_token(request, &realm)).await {
            Ok(answer) => answer?,
            Err(_) => {
                let reason = format!("no token within {} s", PATIENCE.as_secs());
                return Err(GetError::TryAgain { place: public_url(&realm), reason });
            }
        };
        let unusable = |reason: String| GetError::Unusable { place: public_url(&realm), reason };
        let body = read_all(answer.into_body(), LONGEST_TOKEN).await.map_err(unusable)?;
        // The library's own words would show what it has read.
        let token: TokenAnswer = serde_json::from_slice(&body)
            .map_err(|_| unusable("what came in place of a token cannot be read".to_owned()))?;
        let token = if token.token.is_empty() { token.access_token } else { token.token };
        if token.is_empty() {
            return Err(unusable("there is no token in the answer".to_owned()));
        }
        Ok(Some(token))
    }

    async fn send_for_token(
        &self,
        request: (HeaderMap, Option<String>),
        realm: &Url,
    ) -> Result<Response<Incoming>, GetError> {
        let (headers, form) = request;
        loop {
            let outcome = match &form {
                None => {
                    let request =
                        FetchRequest { url: realm.clone(), headers: headers.clone(), clients_choice: false };
                    self.net.client().fetch_patiently(&request, &[]).await.map(|answer| answer.response)
                }
                Some(form) => {
                    let body = Full::new(Bytes::from(form.clone()));
                    let body = body.map_err(|never| -> BoxError { match never {} }).boxed_unsync();
                    let mut request = Request::new(body);
                    *request.method_mut() = Method::POST;
                    *request.uri_mut() = realm.as_str().parse().map_err(|_| GetError::Unusable {
                        place: public_url(realm),
                        reason: "tokens cannot be asked for there".to_owned(),
                    })?;
                    *request.headers_mut() = headers.clone();
                    self.net.client().send(request).await
                }
            };
            match outcome {
                Ok(answer) if answer.status() == StatusCode::OK => return Ok(answer),
                Ok(answer)
                    if answer.headers().contains_key(DAEMONS_ERROR)
                        && answer.status() != StatusCode::TOO_MANY_REQUESTS
                        && self.net.leave_daemon(&format!("it answers {}", answer.status())) => {}
                Ok(answer) => return Err(self.refused(realm, answer).await),
                Err(error) if self.net.leave_daemon(&error.to_string()) => {}
                Err(error) => return Err(failed(realm, &error)),
            }
        }
    }

    /// What an answer that is none of a content means.
    async fn refused(&self, url: &Url, answer: Response<Incoming>) -> GetError {
        let (head, body) = answer.into_parts();
        let status = head.status;
        let read = timeout(Duration::from_secs(5), read_all(body, LONGEST_ERROR)).await;
        let by_daemon = head.headers.contains_key(DAEMONS_ERROR);
        let said = match read {
            Ok(Ok(body)) if by_daemon => words(&String::from_utf8_lossy(&body)),
            Ok(Ok(body)) => said_in(&body),
            _ => None,
        };
        let said =
            said.map_or_else(|| format!("the answer is {status}"), |said| format!("{said} ({status})"));
        let place = public_url(url);
        match status.as_u16() {
            401 | 403 | 407 => GetError::NotAllowed { place, said, remedy: self.remedy() },
            408 | 425 | 429 | 500..=599 => {
                let wait = retry_after(&head.headers);
                let wait =
                    wait.map_or_else(String::new, |wait| format!("; it asks for {} s", wait.as_secs()));
                GetError::TryAgain { place, reason: format!("{said}{wait}") }
            }
            _ => GetError::Unusable { place, reason: said },
        }
    }

    /// What to do about a refusal.
    fn remedy(&self) -> String {
        if self.fixed.contains_key(AUTHORIZATION) {
            return "look at the login in the URL or in -H".to_owned();
        }
        let Some(repository) = &self.repository else {
            return "show a login by -H 'Authorization: …'".to_owned();
        };
        match self.logins.of(&self.host, repository) {
            Known { login: Some((_, from)), .. } => {
                format!("the login is from {from}: log in again, or ask for the right to it")
            }
            Known { hint: Some(hint), .. } => hint,
            Known { .. } => format!(
                "if it is there, it needs a login: apptainer registry login --username NAME oras://{}",
                self.host
            ),
        }
    }

    fn note(&self, line: &str) {
        self.net.observer().hear(Event::Note(line));
    }
}

/// Why there is no answer.
pub(crate) fn failed(url: &Url, error: &OriginError) -> GetError {
    let (place, reason) = (public_url(url), error.to_string());
    if error.is_unreachable() {
        GetError::TryAgain { place, reason }
    } else {
        GetError::Unusable { place, reason }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn pause(headers: &HeaderMap, tries: u32) -> Duration {
    retry_after(headers).map_or_else(|| BETWEEN_TRIES.wait(tries, 0.5), |asked| asked.min(LONGEST_PAUSE))
}

async fn read_all(mut body: Incoming, longest: u64) -> Result<Vec<u8>, String> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer breaks off: {error}"))?;
        if let Ok(data) = frame.into_data() {
            if (read.len() + data.len()) as u64 > longest {
                return Err(format!("the answer is longer than {longest} bytes"));
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read)
}

/// What requests call themselves.
pub(crate) const AGENT: &str = concat!("dfget/", env!("CARGO_PKG_VERSION"));
