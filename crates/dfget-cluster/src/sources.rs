//! Where the members are named, read again while the daemon runs.
//!
//! What cannot be read keeps its last members, and is told once for each reason. All sources add up.

use std::collections::HashMap;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dfget_core::{ListedHost, MOST_HOSTS, expand_hostlist};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::members::{Itself, Members, Resolver, by_dns};

/// Where the members are named.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sources {
    /// Hostlists of the configuration or the command line.
    pub hostlists: Vec<String>,
    /// A file of hostlists, one a line, `#` begins a comment.
    pub file: Option<PathBuf>,
    /// A name whose addresses are the members, and their port.
    pub dns: Option<(String, u16)>,
}

/// Tells the members anew when a source changes. Somebody must [`run`](Self::run) it.
#[derive(Debug)]
pub struct MemberWatch {
    orders: watch::Receiver<Sources>,
    members: watch::Sender<Arc<Members>>,
    itself: Itself,
    resolver: Arc<Resolver>,
    seen: Seen,
}

/// Has the members read again at once. When it is dropped they are still read from time to time.
#[derive(Clone, Debug)]
pub struct MemberControl {
    orders: watch::Sender<Sources>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Seen {
    hostlists: Vec<ListedHost>,
    file: Vec<ListedHost>,
    dns: Vec<ListedHost>,
    stamp: Option<Stamp>,
    /// What was told of each source last.
    told: HashMap<&'static str, String>,
    remarks: Vec<String>,
}

/// A file changes together with one of these: time, length, number.
type Stamp = (SystemTime, u64, u64);

// === impl Sources ===

impl Sources {
    /// Whether no member is named anywhere: the daemon works alone.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.hostlists.is_empty() && self.file.is_none() && self.dns.is_none()
    }

    /// All hosts that are named now, and what could not be read; DNS gets no longer than `patience`.
    pub(crate) async fn read(&self, patience: Duration) -> (Vec<ListedHost>, Vec<String>) {
        let written = lists(self.hostlists.iter().map(String::as_str).enumerate(), "cluster.members, list");
        let file = self.file.as_deref().map(|path| named(path, read_file(path)));
        let dns = match &self.dns {
            None => None,
            Some((name, port)) => {
                let found = tokio::time::timeout(patience, by_dns(name, *port)).await;
                let found =
                    found.unwrap_or_else(|_| Err(format!("cannot resolve {name}: no answer in time")));
                Some(found.map_err(|reason| format!("cluster.dns: {reason}")))
            }
        };
        let (mut hosts, mut failed) = (Vec::new(), Vec::new());
        for read in [Some(written), file, dns].into_iter().flatten() {
            match read {
                Ok(more) => hosts.extend(more),
                Err(reason) => failed.push(reason),
            }
        }
        hosts.truncate(MOST_HOSTS);
        (hosts, failed)
    }
}

// === impl MemberControl ===

impl MemberControl {
    /// Reads all sources again, which may be other ones now.
    pub fn reload(&self, sources: Sources) {
        self.orders.send_replace(sources);
    }
}

// === impl MemberWatch ===

impl MemberWatch {
    /// Reads all sources once.
    pub async fn start(
        sources: Sources,
        itself: Itself,
    ) -> (Self, MemberControl, watch::Receiver<Arc<Members>>) {
        let (control, orders) = watch::channel(sources);
        let resolver = Arc::<Resolver>::default();
        let (nobody, _) = Members::new(Vec::new(), &itself, Arc::clone(&resolver)).await;
        let (members, receiver) = watch::channel(Arc::new(nobody));
        let mut this = Self { orders, members, itself, resolver, seen: Seen::default() };
        this.look(true, true).await;
        (this, MemberControl { orders: control }, receiver)
    }

    /// Looks at the file every three seconds and at DNS every thirty, until it is dropped.
    pub async fn run(mut self) {
        let mut next_dns = Instant::now() + DNS_PAUSE;
        let mut is_controlled = true;
        loop {
            let next_file = sleep_until(Instant::now() + FILE_PAUSE);
            let ordered = tokio::select! {
                () = next_file => false,
                changed = self.orders.changed(), if is_controlled => {
                    is_controlled = changed.is_ok();
                    is_controlled
                }
            };
            let dns_is_due = ordered || Instant::now() >= next_dns;
            if dns_is_due {
                next_dns = Instant::now() + DNS_PAUSE;
            }
            self.look(ordered, dns_is_due).await;
        }
    }

    /// Reads what is due; tells the members if they are others than before.
    async fn look(&mut self, all: bool, dns: bool) {
        let sources = self.orders.borrow_and_update().clone();
        let before = self.seen.hosts();
        if all {
            let lists =
                lists(sources.hostlists.iter().map(String::as_str).enumerate(), "cluster.members, list");
            self.seen.hostlists = self.seen.take("cluster.members", lists, |seen| &seen.hostlists);
        }
        self.look_at_file(sources.file.as_deref(), all);
        match &sources.dns {
            Some((name, port)) if dns => {
                let found = by_dns(name, *port).await.map_err(|reason| format!("cluster.dns: {reason}"));
                self.seen.dns = self.seen.take("cluster.dns", found, |seen| &seen.dns);
            }
            Some(_) => {}
            None => self.seen.dns.clear(),
        }
        let hosts = self.seen.hosts();
        if hosts != before || all {
            self.tell(hosts).await;
        }
    }

    fn look_at_file(&mut self, path: Option<&Path>, all: bool) {
        let Some(path) = path else {
            self.seen.file.clear();
            self.seen.stamp = None;
            return;
        };
        let stamp = stamp(path);
        if !all && stamp.is_some() && stamp == self.seen.stamp {
            return;
        }
        self.seen.stamp = stamp;
        let read = named(path, read_file(path));
        self.seen.file = self.seen.take("cluster.membersFile", read, |seen| &seen.file);
    }

    async fn tell(&mut self, hosts: Vec<ListedHost>) {
        let (members, remarks) = Members::new(hosts, &self.itself, Arc::clone(&self.resolver)).await;
        for remark in remarks.iter().filter(|remark| !self.seen.remarks.contains(remark)) {
            tracing::warn!("cluster members: {remark}");
        }
        self.seen.remarks = remarks;
        tracing::info!(members = members.all().len(), me = members.me(), "cluster members");
        self.members.send_replace(Arc::new(members));
    }
}

// === impl Seen ===

impl Seen {
    fn hosts(&self) -> Vec<ListedHost> {
        let all = [&self.hostlists, &self.file, &self.dns].into_iter().flatten();
        all.take(MOST_HOSTS).cloned().collect()
    }

    /// What was read, or else what `last` was; a failure is told unless it was told before.
    fn take(
        &mut self,
        source: &'static str,
        read: Result<Vec<ListedHost>, String>,
        last: impl Fn(&Self) -> &Vec<ListedHost>,
    ) -> Vec<ListedHost> {
        match read {
            Ok(hosts) => {
                if self.told.remove(source).is_some() {
                    tracing::info!("{source} can be read again");
                }
                hosts
            }
            Err(reason) => {
                if self.told.get(source) != Some(&reason) {
                    tracing::warn!("{reason}; the members stay as they were");
                    self.told.insert(source, reason);
                }
                last(self).clone()
            }
        }
    }
}

/// All hosts of these lists; `what` and a list's number, from 1, are said with an error.
fn lists<'a>(all: impl Iterator<Item = (usize, &'a str)>, what: &str) -> Result<Vec<ListedHost>, String> {
    let mut hosts = Vec::new();
    for (number, list) in all {
        let expanded = expand_hostlist(list).map_err(|error| format!("{what} {}: {error}", number + 1))?;
        if hosts.len() + expanded.len() > MOST_HOSTS {
            return Err(format!("{what} {}: more than {MOST_HOSTS} hosts in all", number + 1));
        }
        hosts.extend(expanded);
    }
    Ok(hosts)
}

/// An error of the members' file, with its name.
fn named<T>(path: &Path, read: Result<T, String>) -> Result<T, String> {
    read.map_err(|reason| format!("cluster.membersFile {}: {reason}", path.display()))
}

/// The hosts of a file of lists. A file without any is taken at its word.
fn read_file(path: &Path) -> Result<Vec<ListedHost>, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    if !file.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mut text = String::new();
    file.take(LIMIT_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if u64::try_from(text.len()).is_ok_and(|length| length > LIMIT_BYTES) {
        return Err(format!("it is larger than {} MiB", LIMIT_BYTES >> 20));
    }
    let line = |(number, line)| (number, uncommented(line));
    lists(text.lines().enumerate().map(line).filter(|(_, line)| !line.is_empty()), "line")
}

fn uncommented(line: &str) -> &str {
    line.split_once('#').map_or(line, |(list, _)| list).trim()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// Pause between two looks at the file, and between two questions to DNS.
const FILE_PAUSE: Duration = Duration::from_secs(3);
const DNS_PAUSE: Duration = Duration::from_secs(30);
/// A file of ten thousand names takes less than one.
const LIMIT_BYTES: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn itself() -> Itself {
        Itself { hostnames: vec!["n1".to_owned()], addresses: Vec::new(), port: 7 }
    }

    fn names(members: &watch::Receiver<Arc<Members>>) -> Vec<String> {
        members.borrow().all().iter().map(|member| member.name.clone()).collect()
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("members");
        std::fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[tokio::test]
    async fn all_sources_add_up() {
        let (_directory, path) = file("# the rack\nn[2-3] # two\n\n  n9:1\n");
        let sources = Sources {
            hostlists: vec!["n1".to_owned()],
            file: Some(path),
            dns: Some(("localhost".to_owned(), 5)),
        };
        let (_, _, members) = MemberWatch::start(sources, itself()).await;
        let names = names(&members);
        assert_eq!(names[..4], ["n1:7", "n2:7", "n3:7", "n9:1"]);
        assert!(names[4..].iter().any(|name| name == "127.0.0.1:5" || name == "[::1]:5"), "{names:?}");
        assert_eq!(members.borrow().me(), Some("n1:7"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_changes_is_read_and_one_that_is_broken_keeps_its_members() {
        let (_directory, path) = file("n[1-2]\n");
        let sources = Sources { file: Some(path.clone()), ..Sources::default() };
        let (watch, _control, mut members) = MemberWatch::start(sources, itself()).await;
        assert_eq!(names(&members), ["n1:7", "n2:7"]);
        members.mark_unchanged();
        let reading = async {
            std::fs::write(&path, "n[1-3]\n").unwrap();
            members.changed().await.unwrap();
            assert_eq!(names(&members), ["n1:7", "n2:7", "n3:7"]);
            for broken in ["n[1-", "n[1-99999999]", "\u{0}"] {
                std::fs::write(&path, broken).unwrap();
                tokio::time::sleep(FILE_PAUSE * 3).await;
            }
            std::fs::remove_file(&path).unwrap();
            tokio::time::sleep(FILE_PAUSE * 3).await;
            assert!(!members.has_changed().unwrap());
            assert_eq!(names(&members), ["n1:7", "n2:7", "n3:7"]);
            std::fs::write(&path, "n4").unwrap();
            members.changed().await.unwrap();
            assert_eq!(names(&members), ["n4:7"]);
        };
        tokio::select! {
            () = watch.run() => unreachable!("it runs on"),
            () = reading => {}
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_file_is_told_with_its_line() {
        let (_directory, path) = file("n1\n# none\nn[2-\n");
        assert_eq!(read_file(&path).unwrap_err(), "line 3: a number is missing at character 5");
        let (_directory, path) = file("n[1-65536]\nm\n");
        assert_eq!(read_file(&path).unwrap_err(), "line 2: more than 65536 hosts in all");
        assert_eq!(read_file(Path::new("/")).unwrap_err(), "it is no regular file");
        assert!(read_file(Path::new("/dev/zero")).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn another_configuration_counts_at_once() {
        let of = |list: &str| Sources { hostlists: vec![list.to_owned()], ..Sources::default() };
        let (watch, control, mut members) = MemberWatch::start(of("n1"), itself()).await;
        members.mark_unchanged();
        let reading = async {
            control.reload(of("n[1-2]"));
            members.changed().await.unwrap();
            assert_eq!(names(&members), ["n1:7", "n2:7"]);
            drop(control);
            tokio::time::sleep(DNS_PAUSE * 2).await;
            assert!(!members.has_changed().unwrap());
        };
        tokio::select! {
            () = watch.run() => unreachable!("it runs on"),
            () = reading => {}
        }
    }
}
