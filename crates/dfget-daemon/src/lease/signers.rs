//! Whose connections a lease may open, and who signs for them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use dfget_core::{Authority, Rule, Scheme};
use dfget_lease::LeaseRequest;
use dfget_origin::OriginClient;
use dfget_proxy::{AllowedTarget, Hijack};
use dfget_tls::{CertificateAuthority, LeafCache, NewAuthority, PairFiles, Scope, Unusable};
use parking_lot::Mutex;
use regex::Regex;
use tracing::warn;

use super::challenge::Challenges;

/// What a lease opens.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) hijack: Arc<Hijack>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) targets: Vec<AllowedTarget>,
    /// Names of hosts that are hijacked; empty = all.
    pub(crate) hosts: Vec<String>,
    /// Certificates of those who sign, PEM.
    pub(crate) authorities: Vec<String>,
    pub(crate) notes: Vec<String>,
}

/// Where signers come from.
#[derive(Debug)]
pub(crate) enum Signers {
    /// The configuration's authority, for the configuration's hosts.
    Configured(ArcSwap<Configured>),
    /// Authorities of our own, one for each host.
    Own(Own),
}

/// What the configuration says of hijacking.
#[derive(Debug)]
pub(crate) struct Configured {
    pub(crate) hijack: Arc<Hijack>,
    pub(crate) patterns: Vec<Regex>,
    pub(crate) authority: String,
    pub(crate) rules: Vec<Rule>,
    pub(crate) targets: Vec<AllowedTarget>,
}

/// Authorities that are made as they are needed, each bound to one host. Those live in files, so
/// that the next daemon has the same; the one for all hosts lives in memory alone.
#[derive(Debug)]
pub(crate) struct Own {
    dir: Option<PathBuf>,
    leaves: Mutex<HashMap<String, Arc<LeafCache>>>,
    for_all: Mutex<Option<Arc<LeafCache>>>,
    challenges: Challenges,
}

/// What is an image, in whatever way it is named.
const IMAGES: [&str; 5] = [
    "blobs/sha256.*",
    "manifests/sha256.*",
    "/v1/imagefile/",
    r"^[^?]*\.(sif|simg|img|sqsh|sqfs|squashfs)(\?|$)",
    r"^https://depot\.galaxyproject\.org/singularity/",
];

// === impl Signers ===

impl Signers {
    /// What a request gets.
    ///
    /// # Errors
    /// Why it gets nothing, for its user.
    pub(crate) async fn open(&self, request: &LeaseRequest, origin: &OriginClient) -> Result<Opened, String> {
        match self {
            Self::Configured(configured) => configured.load().open(request),
            Self::Own(own) if request.all_hosts => own.open_all(request),
            Self::Own(own) => own.open(request, origin).await,
        }
    }
}

// === impl Configured ===

impl Configured {
    fn open(&self, request: &LeaseRequest) -> Result<Opened, String> {
        if request.all_hosts {
            return Err("it hijacks the hosts of its configuration only".to_owned());
        }
        let hijacked = |host: &String| {
            let authority = Authority::parse(Scheme::Https, host);
            authority
                .is_ok_and(|authority| self.patterns.iter().any(|regx| regx.is_match(&authority.host_port())))
        };
        if let Some(other) = request.hosts.iter().find(|host| !hijacked(host)) {
            return Err(format!("{other} matches no hijackHTTPS.hosts[].regx of its configuration"));
        }
        Ok(Opened {
            hijack: Arc::clone(&self.hijack),
            rules: with_images(self.rules.clone(), &request.images),
            targets: self.targets.clone(),
            hosts: request.hosts.clone(),
            authorities: vec![self.authority.clone()],
            notes: Vec::new(),
        })
    }
}

// === impl Own ===

impl Own {
    /// Authorities are kept in `dir`, if that is given.
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        Self { dir, leaves: Mutex::default(), for_all: Mutex::default(), challenges: Challenges::default() }
    }

    async fn open(&self, request: &LeaseRequest, origin: &OriginClient) -> Result<Opened, String> {
        let mut hosts: Vec<String> = Vec::new();
        let mut registries = Vec::new();
        for host in &request.hosts {
            let authority =
                Authority::parse(Scheme::Https, host).map_err(|error| format!("{host}: {error}"))?;
            push_new(&mut hosts, authority.host.clone());
            registries.push(authority);
        }
        let asked = registries.iter().map(|registry| self.challenges.token_host(origin, registry));
        for token_host in futures_util::future::join_all(asked).await.into_iter().flatten() {
            push_new(&mut hosts, token_host);
        }
        let mut signers = HashMap::new();
        let mut notes = Vec::new();
        for host in &hosts {
            match self.leaves_of(host) {
                Ok(leaves) => {
                    signers.insert(host.clone(), leaves);
                }
                Err(reason) => notes.push(format!("{host} is not hijacked: {reason}")),
            }
        }
        if signers.is_empty() {
            return Err(notes.join("; "));
        }
        let pem = |leaves: &Arc<LeafCache>| leaves.authority().certificate_pem();
        Ok(Opened {
            authorities: signers.values().map(pem).collect(),
            hosts: hosts.into_iter().filter(|host| signers.contains_key(host)).collect(),
            hijack: Arc::new(Hijack::new(move |authority| signers.get(&authority.host).map(Arc::clone))),
            rules: with_images(image_rules(), &request.images),
            targets: Vec::new(),
            notes,
        })
    }

    fn open_all(&self, request: &LeaseRequest) -> Result<Opened, String> {
        let leaves = {
            let mut for_all = self.for_all.lock();
            match &*for_all {
                Some(leaves) => Arc::clone(leaves),
                None => {
                    let made = in_memory(&NewAuthority::of_this_host(Scope::any_host()))?;
                    Arc::clone(for_all.insert(made))
                }
            }
        };
        // Other ports carry other protocols than HTTP.
        let signer = Arc::clone(&leaves);
        let hijack = Hijack::new(move |authority| (authority.port == 443).then(|| Arc::clone(&signer)));
        Ok(Opened {
            hijack: Arc::new(hijack),
            rules: with_images(image_rules(), &request.images),
            targets: Vec::new(),
            hosts: Vec::new(),
            authorities: vec![leaves.authority().certificate_pem()],
            notes: Vec::new(),
        })
    }

    /// The certificates of one host.
    fn leaves_of(&self, host: &str) -> Result<Arc<LeafCache>, String> {
        let mut all = self.leaves.lock();
        if let Some(leaves) = all.get(host)
            && leaves.authority().not_after() > SystemTime::now()
        {
            return Ok(Arc::clone(leaves));
        }
        let scope = Scope::of_hosts([host]).map_err(|error| error.to_string())?;
        let new = NewAuthority::of_this_host(scope);
        let leaves = match &self.dir {
            Some(dir) => {
                let files =
                    PairFiles { cert: dir.join(format!("{host}.crt")), key: dir.join(format!("{host}.key")) };
                match files.load_or_create(&new, Unusable::Replace, SystemTime::now()) {
                    Ok(opened) => leaf_cache(opened.authority)?,
                    Err(error) => {
                        warn!("the authority for {host} lives in memory only: {error}");
                        in_memory(&new)?
                    }
                }
            }
            None => in_memory(&new)?,
        };
        all.insert(host.to_owned(), Arc::clone(&leaves));
        Ok(leaves)
    }
}

/// An authority that ends with this process.
fn in_memory(new: &NewAuthority) -> Result<Arc<LeafCache>, String> {
    let now = SystemTime::now();
    let pair = new.make(now).map_err(|error| error.to_string())?;
    let authority =
        CertificateAuthority::load(pair.cert_pem.as_bytes(), pair.key_pem.expose().as_bytes(), now);
    leaf_cache(authority.map_err(|error| error.to_string())?)
}

fn leaf_cache(authority: CertificateAuthority) -> Result<Arc<LeafCache>, String> {
    LeafCache::new(Arc::new(authority)).map(Arc::new).map_err(|error| error.to_string())
}

fn image_rules() -> Vec<Rule> {
    IMAGES.iter().filter_map(|pattern| Regex::new(pattern).ok()).map(task_rule).collect()
}

/// The rules, and before them one for each URL that is an image by the command's own word.
fn with_images(mut rules: Vec<Rule>, images: &[String]) -> Vec<Rule> {
    let exact = |url: &String| Regex::new(&format!("^{}$", regex::escape(url))).ok();
    rules.splice(0..0, images.iter().filter_map(exact).map(task_rule));
    rules
}

fn task_rule(regx: Regex) -> Rule {
    Rule { regx, use_https: false, direct: false, redirect: None }
}

fn push_new(hosts: &mut Vec<String>, host: String) {
    if !hosts.contains(&host) {
        hosts.push(host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_image_becomes_a_task() {
        let rules = with_images(image_rules(), &["https://files.example/a?b=1".to_owned()]);
        let is_task = |url: &str| {
            let url = url::Url::parse(url).expect("a URL");
            dfget_core::decide(&rules, true, &url).expect("no rewriting").task
        };
        for image in [
            "https://r.example/v2/a/b/blobs/sha256:00",
            "https://r.example/v2/a/b/manifests/sha256:00",
            "https://library.example/v1/imagefile/a/b:c",
            "https://files.example/x.sif",
            "https://files.example/x.simg?sig=1",
            "https://depot.galaxyproject.org/singularity/samtools:1.2--3",
            "https://files.example/a?b=1",
        ] {
            assert!(is_task(image), "{image}");
        }
        for other in [
            "https://r.example/v2/",
            "https://r.example/v2/a/b/manifests/latest",
            "https://auth.example/token?scope=repository:x.sif:pull",
            "https://files.example/a?b=2",
            "https://files.example/x.sif.sha256",
        ] {
            assert!(!is_task(other), "{other}");
        }
    }

    #[test]
    fn each_host_has_its_own_authority_and_the_next_daemon_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = Own::new(Some(dir.path().join("ca")));
        let one = own.leaves_of("one.example").expect("an authority");
        let other = own.leaves_of("other.example").expect("an authority");
        assert_ne!(one.authority().fingerprint(), other.authority().fingerprint());
        assert!(one.authority().scope().contains("one.example"));
        assert!(!one.authority().scope().contains("other.example"));
        let again = Own::new(Some(dir.path().join("ca"))).leaves_of("one.example").expect("the same");
        assert_eq!(again.authority().fingerprint(), one.authority().fingerprint());
    }
}
