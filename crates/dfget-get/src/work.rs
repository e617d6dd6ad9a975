//! From what the user wants to what lies on the disk.

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dfget_core::{ContentReference, Digest, public_url};
use dfget_origin::Identity;
use dfget_origin::headers::content_length;
use dfget_run::{Feeding, Sources, Spared, Tenancy, Variables, Wish, own_way};
use http::header::{ACCEPT, CONTENT_ENCODING, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::Incoming;
use url::Url;

use crate::error::GetError;
use crate::event::{Event, Observer};
use crate::layout::{self, Resolved};
use crate::login::Logins;
use crate::manifest::{self, Content, Document};
use crate::name;
use crate::net::Net;
use crate::order::{Order, Output, Report, check, hints};
use crate::part::{Part, file_name};
use crate::place::{conflict, conflict_before, is_special, room_for, stream_to, target};
use crate::reference::{Image, Reference};
use crate::session::Session;
use crate::transfer::{Sink, Wanted, fetch};

/// How often is asked where the bytes come from.
const LOOK: Duration = Duration::from_millis(400);

/// What is counted meanwhile.
struct Counting {
    to: Arc<dyn Observer>,
    present: AtomicU64,
    grown: AtomicU64,
    settling: AtomicBool,
}

/// All that one order is carried out with.
struct Work<'a> {
    order: &'a Order,
    net: &'a Net,
    logins: &'a Logins,
    observer: &'a dyn Observer,
}

impl Observer for Counting {
    fn hear(&self, event: Event<'_>) {
        match event {
            Event::Present(bytes) => drop(self.present.fetch_add(bytes, Ordering::Relaxed)),
            Event::Grown(bytes) => drop(self.grown.fetch_add(bytes, Ordering::Relaxed)),
            Event::Lost(bytes) => {
                let kept = self.present.load(Ordering::Relaxed).saturating_sub(bytes);
                self.present.store(kept, Ordering::Relaxed);
            }
            Event::Settling => self.settling.store(true, Ordering::Relaxed),
            _ => {}
        }
        self.to.hear(event);
    }
}

/// Carries out an order. `variables`: the environment. Returns also the daemon that may still feed other nodes, in a
/// cluster: what has come is in place before.
///
/// # Errors
/// [`GetError`] by cause.
///
/// # Cancel safety
/// Dropped at any moment it leaves no file under the output's name; what came is kept beside it. Blocking work
/// (a daemon that is looked for) may still end in the background.
pub async fn get(
    order: Order,
    variables: Variables,
    observer: Arc<dyn Observer>,
) -> Result<(Report, Option<Feeding>), GetError> {
    check(&order)?;
    if let Some(report) = conflict_before(&order)? {
        return Ok((report, None));
    }
    let named = order.login_file.as_deref();
    let logins = Logins::read(&variables, named, &mut |line| observer.hear(Event::Warning(&line)));
    let logins = logins.map_err(GetError::Configuration)?;
    let tenancy = if order.direct { None } else { tenancy(&order, &variables, &observer).await? };
    let counting = Arc::new(Counting {
        to: Arc::clone(&observer),
        present: AtomicU64::new(0),
        grown: AtomicU64::new(0),
        settling: AtomicBool::new(false),
    });
    let own = own_way(variables);
    let heard = Arc::clone(&counting) as Arc<dyn Observer>;
    let net = Net::new(tenancy.as_ref(), &own, order.rate, !order.hints.stored_only, heard)?;
    let work = Work { order: &order, net: &net, logins: &logins, observer: &*counting };
    let outcome = watched(work.run(), tenancy.as_ref(), &counting).await;
    let told = match &tenancy {
        Some(tenancy) => tenancy.spared().await,
        None => None,
    };
    let direct = net.through_daemon().is_none();
    let feeding = match tenancy {
        // It may take moments; who is cancelled meanwhile has the output already.
        Some(tenancy) => tokio::task::spawn_blocking(move || tenancy.end()).await.ok().flatten(),
        None => None,
    };
    let report = outcome?;
    let resumed = counting.present.load(Ordering::Relaxed);
    let sources = sources(told, counting.grown.load(Ordering::Relaxed));
    Ok((Report { resumed, sources, direct, ..report }, feeding))
}

/// A lease at a daemon, if one can be had.
async fn tenancy(
    order: &Order,
    variables: &Variables,
    observer: &Arc<dyn Observer>,
) -> Result<Option<Tenancy>, GetError> {
    let images = match &order.reference {
        Reference::Url(url) => {
            let mut url = url.clone();
            let _ = (url.set_username(""), url.set_password(None));
            url.set_fragment(None);
            vec![url.to_string()]
        }
        Reference::File(_) | Reference::Image(_) => Vec::new(),
    };
    let strict = order.hints.stored_only;
    let wish = Wish {
        hosts: vec![order.reference.host()],
        images,
        cluster: order.cluster.clone(),
        fail_open: !strict,
        verbose: order.verbose,
    };
    let variables = variables.clone();
    // Nobody reads what it would say: the streams' own failures tell.
    let sought = tokio::task::spawn_blocking(move || Tenancy::begin(wish, variables, |_| ())).await;
    let found = sought.unwrap_or_else(|_| Err("it could not be looked for".to_owned()));
    match found {
        Ok(tenancy) => {
            tenancy.warnings().iter().for_each(|line| observer.hear(Event::Warning(line)));
            tenancy.notes().iter().for_each(|line| observer.hear(Event::Note(line)));
            Ok(Some(tenancy))
        }
        Err(reason) if strict => Err(GetError::TryAgain {
            place: order.reference.to_string(),
            reason: format!("no daemon, and --disable-back-source forbids to go without: {reason}"),
        }),
        Err(reason) => {
            observer.hear(Event::Note(&format!("no daemon: {reason}; going directly, without a cache")));
            Ok(None)
        }
    }
}

/// Runs `work`, and asks meanwhile where the bytes come from.
async fn watched<T>(work: impl Future<Output = T>, tenancy: Option<&Tenancy>, counting: &Counting) -> T {
    let mut work = pin!(work);
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = look.tick() => {}
        }
        let told = async {
            match tenancy {
                Some(tenancy) => tenancy.spared().await,
                None => None,
            }
        };
        let told = tokio::select! {
            done = &mut work => return done,
            told = told => told,
        };
        let grown = counting.grown.load(Ordering::Relaxed);
        if grown > 0 && !counting.settling.load(Ordering::Relaxed) {
            counting.to.hear(Event::From(sources(told, grown)));
        }
    }
}

/// Where `grown` bytes came from, as far as the daemon tells. What it does not count has come from the origin.
fn sources(told: Option<Spared>, grown: u64) -> Sources {
    let told = told.unwrap_or_default();
    let (cache, peers) = match told.sources {
        Some(Sources { cache, peers, .. }) => (cache, peers),
        None => (told.spared_bytes, 0),
    };
    let cache = cache.min(grown);
    let peers = peers.min(grown - cache);
    Sources { cache, peers, origin: grown - cache - peers }
}

// === impl Work ===

impl Work<'_> {
    async fn run(&self) -> Result<Report, GetError> {
        match &self.order.reference {
            Reference::Url(url) => self.url(url.clone()).await,
            Reference::File(image) => self.file(image).await,
            Reference::Image(image) => self.image(image).await,
        }
    }

    async fn url(&self, mut url: Url) -> Result<Report, GetError> {
        let order = self.order;
        url.set_fragment(None);
        let hints = hints(&order.hints, order.digest, &url)?;
        let session = Session::of_url(self.net, self.logins, &mut url, order.headers.clone(), hints);
        let target = target(&order.output, || name::of_url(&url))?;
        let named = order.digest.or_else(|| ContentReference::of_path(url.path()).map(|named| named.digest));
        let digest = named.filter(|_| order.range.is_none());
        let wanted = Wanted { url: url.clone(), digest, size: None, range: order.range, known: None };
        let shown = target.as_deref().map_or_else(|| public_url(&url), file_name);
        match target {
            Some(target) if !is_special(&target) => {
                let report = self.to_file(&session, wanted, &target, &shown).await?;
                Ok(Report { output: Some(target), ..report })
            }
            target => {
                self.observer.hear(Event::Begun { name: &shown, total: None, keeps: false });
                let out = stream_to(target.as_deref())?;
                let fetched = fetch(&session, &wanted, &mut Sink::Stream(Some(out)), None).await?;
                let named = ContentReference::of_path(url.path()).map(|_| public_url(&url));
                Ok(Report {
                    output: target,
                    bytes: fetched.bytes,
                    digest: Some(fetched.digest),
                    contents: named.into_iter().collect(),
                    ..Report::default()
                })
            }
        }
    }

    /// Gets one content to a file, going on with what an earlier try has left.
    async fn to_file(
        &self,
        session: &Session<'_>,
        mut wanted: Wanted,
        target: &Path,
        shown: &str,
    ) -> Result<Report, GetError> {
        let (mut first, mut meant, mut keep) = (None, String::new(), true);
        match (wanted.digest, wanted.range) {
            (Some(digest), None) => meant = digest.to_string(),
            _ => {
                let answer = match wanted.range {
                    None => Some(session.get(&wanted.url, &[]).await?),
                    Some(_) => None,
                };
                let known = answer.as_ref().and_then(identity);
                keep = known.is_some();
                if let Some(known) = known {
                    wanted.size = known.total;
                    meant = format!(
                        "{} {:?} {:?} {:?}",
                        public_url(&wanted.url),
                        known.etag,
                        known.last_modified,
                        known.total
                    );
                    wanted.known = Some(known);
                }
                first = answer;
            }
        }
        let part = Part::open(target, &name::key(&meant), keep)?;
        let present = part.len()?;
        if present > 0 {
            // What was asked only to learn what it is now is asked again, for the rest.
            first = None;
        }
        let total =
            wanted.size.or_else(|| first.as_ref().and_then(|answer| content_length(answer.headers())));
        if let Some(total) = total {
            room_for(target, total.saturating_sub(present))?;
        }
        self.observer.hear(Event::Begun { name: shown, total, keeps: keep });
        if present > 0 {
            self.observer.hear(Event::Present(present));
        }
        let mut sink = Sink::Part { part: &part, base: 0, present };
        let fetched = match fetch(session, &wanted, &mut sink, first).await {
            Ok(fetched) => fetched,
            Err(error) => {
                if matches!(error, GetError::Digest { .. }) {
                    part.discard();
                }
                return Err(error);
            }
        };
        part.cut(fetched.bytes)?;
        self.observer.hear(Event::Settling);
        tokio::task::block_in_place(|| part.publish(self.order.replace))?;
        Ok(Report { bytes: fetched.bytes, digest: Some(fetched.digest), ..Report::default() })
    }

    /// `oras://`: one file.
    async fn file(&self, image: &Image) -> Result<Report, GetError> {
        let session = Session::of_repository(self.net, self.logins, &image.host, &image.repository);
        let resolved = self.resolve(&session, image).await?;
        let unusable = |reason| GetError::Unusable { place: format!("oras://{image}"), reason };
        let content = resolved.manifest.file().map_err(unusable)?;
        let target = target(&self.order.output, || Some(title(image, content)))?;
        let url = image.url("blobs", &content.digest.to_string());
        let url = url.map_err(|error| GetError::Usage(error.to_string()))?;
        let (digest, size) = (Some(content.digest), Some(content.size));
        let wanted = Wanted { url, digest, size, range: None, known: None };
        let Some(target) = target.filter(|target| !is_special(target)) else {
            self.observer.hear(Event::Begun { name: &title(image, content), total: size, keeps: false });
            let special = match &self.order.output {
                Output::Path(path) => Some(path.clone()),
                Output::Standard | Output::Named => None,
            };
            let out = stream_to(special.as_deref())?;
            let fetched = fetch(&session, &wanted, &mut Sink::Stream(Some(out)), None).await?;
            let mut contents: Vec<_> = resolved.place.iter().chain([&wanted.url]).map(public_url).collect();
            let mut bytes = fetched.bytes;
            let config = &resolved.manifest.config;
            if self.order.everything && config.digest != content.digest {
                let wanted = Resolved::wanted(image, config)?;
                let mut nowhere = Sink::Stream(Some(Box::new(std::io::sink())));
                bytes += fetch(&session, &wanted, &mut nowhere, None).await?.bytes;
                contents.push(public_url(&wanted.url));
            }
            return Ok(Report { output: special, bytes, digest, contents, ..Report::default() });
        };
        if let Some(report) = conflict(&target, self.order.replace, digest, size)? {
            return Ok(report);
        }
        let report = self.to_file(&session, wanted, &target, &file_name(&target)).await?;
        Ok(Report { output: Some(target), ..report })
    }

    /// `docker://`: a layout.
    async fn image(&self, image: &Image) -> Result<Report, GetError> {
        let session = Session::of_repository(self.net, self.logins, &image.host, &image.repository);
        let resolved = self.resolve(&session, image).await?;
        let (bytes, digest) = (resolved.total(), Some(resolved.digest));
        let target = match &self.order.output {
            // An empty directory, or a layout, is the output itself and not where it goes into.
            Output::Path(path) if path.is_dir() => Some(path.clone()),
            output => target(output, || Some(name::of_image(image, "")))?,
        };
        let contents = resolved.manifest.contents().into_iter();
        let contents = contents.filter_map(|content| image.url("blobs", &content.digest.to_string()).ok());
        let contents =
            resolved.place.clone().into_iter().chain(contents).map(|url| public_url(&url)).collect();
        let report = Report { output: target.clone(), bytes, digest, contents, ..Report::default() };
        let begin = |name: &str, keeps| self.observer.hear(Event::Begun { name, total: Some(bytes), keeps });
        let Some(target) = target.filter(|target| !is_special(target)) else {
            begin(&image.to_string(), false);
            let out = stream_to(report.output.as_deref())?;
            layout::stream(&session, image, &resolved, out).await?;
            return Ok(report);
        };
        let is_archive = target.extension().is_some_and(|end| end == "tar") && !target.is_dir();
        if is_archive {
            conflict(&target, self.order.replace, None, None)?;
        } else if layout::holds(&target, &resolved.digest) && !self.order.replace {
            return Ok(Report { unchanged: true, ..report });
        } else if fs::symlink_metadata(&target).is_ok_and(|found| !found.is_dir()) {
            return Err(GetError::Output {
                path: target,
                reason: "it is no directory; an image becomes one, or an archive where the name ends in .tar"
                    .to_owned(),
            });
        }
        room_for(&target, bytes)?;
        begin(&file_name(&target), true);
        if is_archive {
            layout::archive(&session, image, &resolved, &target, self.order.replace).await?;
        } else {
            layout::directory(&session, image, &resolved, &target, self.order.replace).await?;
        }
        Ok(report)
    }

    /// The manifest that a reference means, checked.
    async fn resolve(&self, session: &Session<'_>, image: &Image) -> Result<Resolved, GetError> {
        let mut expected = image.digest.or(self.order.digest);
        if let (Some(named), Some(asked)) = (image.digest, self.order.digest)
            && named != asked
        {
            return Err(GetError::Usage("--digest is another than the one in the reference".to_owned()));
        }
        let mut selector = image.selector();
        for _ in 0..MOST_INDEXES {
            let url =
                image.url("manifests", &selector).map_err(|error| GetError::Usage(error.to_string()))?;
            let accept = [(ACCEPT, HeaderValue::from_static(manifest::ACCEPT))];
            let (_, bytes) = session.get_all(&url, &accept, manifest::LONGEST).await?;
            let place = public_url(&url);
            let digest = expected.map_or_else(|| Digest::sha256(&bytes), |like| like.of_same_kind(&bytes));
            if let Some(expected) = expected.filter(|expected| *expected != digest) {
                return Err(GetError::Digest {
                    place,
                    expected: Box::new(expected),
                    actual: Box::new(digest),
                });
            }
            let document = Document::parse(&bytes);
            match document.map_err(|reason| GetError::Unusable { place: place.clone(), reason })? {
                Document::Image(manifest) => {
                    self.observer.hear(Event::Note(&format!("{} is {digest}", self.order.reference)));
                    let place = ContentReference::of_path(url.path()).map(|_| url);
                    return Ok(Resolved { manifest: *manifest, bytes, digest, place });
                }
                Document::Index(contents) => {
                    let chosen = Document::choose(&contents, &self.order.platform)
                        .map_err(|reason| GetError::Unusable { place, reason })?;
                    (selector, expected) = (chosen.digest.to_string(), Some(chosen.digest));
                }
            }
        }
        let reason = "it names other indexes again and again".to_owned();
        Err(GetError::Unusable { place: self.order.reference.to_string(), reason })
    }
}

/// An index may name another index; more in a row are none that anybody has made in earnest.
const MOST_INDEXES: usize = 4;

/// What a file of a registry is called.
fn title(image: &Image, content: &Content) -> String {
    let suffix = if content.is_sif() { ".sif" } else { "" };
    content.title().and_then(name::plain).unwrap_or_else(|| name::of_image(image, suffix))
}

/// What tells the content of an answer from its later selves; `None` if nothing does.
fn identity(answer: &Response<Incoming>) -> Option<Identity> {
    let headers = answer.headers();
    if answer.status() != StatusCode::OK || headers.contains_key(CONTENT_ENCODING) {
        return None;
    }
    let identity = Identity::of(headers, false, content_length(headers));
    (identity.etag.is_some() || identity.last_modified.is_some()).then_some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_daemon_does_not_count_has_come_from_the_origin() {
        let of = |cache, peers, grown| {
            let told = Spared { sources: Some(Sources { cache, peers, origin: 7 }), ..Spared::default() };
            let Sources { cache, peers, origin } = sources(Some(told), grown);
            (cache, peers, origin)
        };
        assert_eq!(of(0, 0, 10), (0, 0, 10));
        assert_eq!(of(4, 3, 10), (4, 3, 3));
        assert_eq!(of(14, 3, 10), (10, 0, 0), "no more than has come");
        let old = Spared { spared_bytes: 6, bytes: 10, ..Spared::default() };
        assert_eq!(sources(Some(old), 10), Sources { cache: 6, peers: 0, origin: 4 });
        assert_eq!(sources(None, 10), Sources { cache: 0, peers: 0, origin: 10 });
    }
}
