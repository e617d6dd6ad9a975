//! What a live view of this node shows, kept up to date at little cost.
//!
//! Each second the counters are looked at, for rates. All else is put together when somebody looks, from what is in
//! memory. What takes time, the members of the cluster and the room on the disk, is asked in the background and
//! only while somebody looks; the view has what was known last.

mod meter;
mod shown;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use dfget_console::{Live, LiveView};
use dfget_lease::ClusterSeen;
use dfget_storage::Space;
use dfget_task::Tasks;
use dfget_telemetry::{Ledger, Metrics};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::meter::{EVERY, Meters, Traffic};
use crate::admin::Children;
use crate::cluster::Survey;

/// The least pause before members are asked again for a live view.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// So much longer for each member: views of large clusters must not keep them busy.
const ASK_AGAIN_FOR_EACH: Duration = Duration::from_millis(20);

/// What a node's live view is made of. Clones are the same.
#[derive(Clone)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
}

/// What the parts of a daemon give to it.
pub(crate) struct Watched {
    pub(crate) tasks: Tasks,
    /// Where the store is, or why there is none.
    pub(crate) place: Result<String, String>,
    /// What the host is called.
    pub(crate) host: String,
    /// Who asks for what; see [`Children`].
    pub(crate) children: Option<Children>,
    /// Asks the members of the cluster.
    pub(crate) survey: Option<Survey>,
}

struct Shared {
    watched: Watched,
    started: SystemTime,
    rates: Mutex<AllRates>,
    slow: Mutex<Slow>,
    /// Somebody looks.
    looked: Notify,
}

#[derive(Default)]
struct AllRates {
    traffic: Traffic,
    /// By the name of the download in the log.
    tasks: Meters<Arc<str>>,
    parents: Meters<Arc<str>>,
    children: Meters<IpAddr>,
    registries: Meters<String>,
}

/// What was asked in the background.
#[derive(Default)]
struct Slow {
    space: Option<Space>,
    members: Option<(SystemTime, Arc<ClusterSeen>)>,
}

// === impl Watch ===

impl Watch {
    pub(crate) fn new(watched: Watched) -> Self {
        let shared = Shared {
            watched,
            started: SystemTime::now(),
            rates: Mutex::default(),
            slow: Mutex::default(),
            looked: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Keeps it up to date, for ever.
    pub(crate) async fn keep(self) {
        tokio::join!(self.sample_on(), self.ask_on());
    }

    async fn sample_on(&self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sample(Instant::now());
        }
    }

    fn sample(&self, now: Instant) {
        let tasks = &self.shared.watched.tasks;
        let (metrics, ledger) = (tasks.metrics(), tasks.metrics().ledger());
        let mut rates = self.shared.rates.lock();
        rates.traffic.sample(totals(metrics), now);
        rates.tasks.sample(tasks.progress().into_iter().map(|task| (task.peer, task.came)), now);
        rates.parents.sample(ledger.parents(), now);
        rates.children.sample(ledger.children(), now);
        rates.registries.sample(registry_bytes(ledger), now);
    }

    async fn ask_on(&self) {
        loop {
            self.shared.looked.notified().await;
            self.look_at_disk().await;
            let members = self.ask_members().await;
            let pause = ASK_AGAIN_FOR_EACH * u32::try_from(members).unwrap_or(u32::MAX);
            sleep(ASK_AGAIN.saturating_add(pause)).await;
        }
    }

    async fn look_at_disk(&self) {
        if let Some(store) = self.shared.watched.tasks.store().cloned()
            && let Ok(space) = tokio::task::spawn_blocking(move || store.space()).await
        {
            self.shared.slow.lock().space = Some(space);
        }
    }

    /// Asks how the members are; returns how many there are.
    async fn ask_members(&self) -> usize {
        let Some(survey) = &self.shared.watched.survey else { return 0 };
        let seen = survey.look().await;
        let count = seen.members.len();
        self.shared.slow.lock().members = Some((SystemTime::now(), Arc::new(seen)));
        count
    }
}

impl LiveView for Watch {
    fn live(&self, most: usize) -> Live {
        self.shared.looked.notify_one();
        self.shared.live(SystemTime::now(), most)
    }
}

fn totals(metrics: &Metrics) -> meter::Totals {
    let [from_peers, from_origin, to_peers] = metrics.exchanged();
    let [clients, cache] = metrics.handed_out();
    [from_origin, from_peers, clients, cache, to_peers]
}

fn registry_bytes(ledger: &Ledger) -> impl Iterator<Item = (String, u64)> {
    ledger.registries().into_iter().map(|registry| (registry.name, registry.bytes))
}
