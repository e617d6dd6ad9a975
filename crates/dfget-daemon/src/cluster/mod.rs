//! This node in its cluster: the ports for other nodes, the scheduler that it is for some tasks, and
//! the way to the others.
//!
//! Without it, or when a part of it does not work, pulls go on from the origin.

mod askers;
mod choice;
mod guest;
mod holdings;
mod host;
mod itself;
mod network;
mod options;
mod spread;
mod status;
mod survey;
mod taking;
mod versions;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dfget_cluster::{ClusterOptions, ClusterSetup, MemberControl};
use dfget_config::{Config, SharePrivate};
use dfget_net::Listener;
use dfget_peer::{Asker, PeerClient, UploadOptions, Uploads};
use dfget_scheduler::{Caller, Dragonfly, Pace, SchedulerService, Schedulers, serve_grpc};
use dfget_swarm::SchedulerOptions;
use dfget_task::{Network as _, Tasks};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::RoutesBuilder;
use tonic::service::interceptor::InterceptedService;
use tracing::{info, warn};

use self::askers::Askers;
use self::holdings::Shelf;
use self::host::OwnHost;
use self::itself::Itself;
use self::network::{Asked, Swarms};
pub use self::options::cluster_options;
use self::options::{guest_options, sources};
pub(crate) use self::spread::{Refusal, Spreader};
pub use self::status::{
    AskDaemon, ClusterStatus, StatusError, cluster_status, cluster_status_by_daemon, dragonfly_status,
};
pub(crate) use self::survey::Survey;
use self::taking::Takers;
use self::versions::Versions;

/// How often it is looked which contents have left the store.
const RECONCILE: Duration = Duration::from_secs(20);

/// How often it is looked whether others are still pulling, how many of them are asked each time, and
/// how many times in a row nothing may be seen of it.
const ASK: Duration = Duration::from_secs(2);
const ASK_SELDOM: Duration = Duration::from_mins(1);
const SAMPLE: usize = 16;
const IDLE: u32 = 3;

/// What runs for the cluster.
pub(crate) struct Cluster {
    way: Way,
    uploads: Uploads,
    feeding: Arc<AtomicBool>,
    /// Somebody wants to know that.
    watched: Arc<AtomicBool>,
    own: OwnHost,
    askers: Askers,
    /// None in a Dragonfly cluster, whose peers take no orders.
    spreader: Option<Spreader>,
    running: TaskTracker,
    ended: CancellationToken,
}

/// By which schedulers nodes find each other.
enum Way {
    /// By those in daemons like this one.
    Own { schedulers: Schedulers, scheduler: SchedulerService, control: MemberControl, key: String },
    /// By those of Dragonfly.
    Dragonfly { schedulers: Dragonfly, itself: Arc<Itself> },
}

// === impl Cluster ===

impl Cluster {
    /// Opens the ports for other nodes and makes `tasks` those of a member. `None` if there is no
    /// cluster, or it cannot be joined, which is said.
    pub(crate) async fn start(
        config: &Config,
        options: Option<ClusterOptions>,
        tasks: &Tasks,
        announce: &dyn Fn(&str),
    ) -> Option<Self> {
        if let Some(options) = guest_options(config, |name| std::env::var_os(name)) {
            return Self::visit(config, &options, tasks, announce).await;
        }
        let options = options?;
        let in_clear = options.allow_plaintext.then(|| {
            "peers without the cluster's key are let in (cluster.allowPlaintextPeers): what goes to and from them can \
             be read and changed on its way"
                .to_owned()
        });
        announced(Self::open(config, &options, tasks).await, in_clear, announce)
    }

    async fn open(
        config: &Config,
        options: &ClusterOptions,
        tasks: &Tasks,
    ) -> Result<(Self, String), String> {
        let setup = ClusterSetup::prepare(options).await.map_err(|error| error.to_string())?;
        let (grpc, pieces) = (listen(setup.grpc, "gRPC")?, listen(setup.pieces, "piece")?);
        let (running, ended) = (TaskTracker::new(), CancellationToken::new());
        let ready = format!(
            "cluster: {} members, this node is {} at {} (gRPC {}, pieces {}), cluster key {}",
            setup.members.borrow().all().len(),
            setup.members.borrow().me().unwrap_or("none of them, and takes part as a peer only"),
            setup.ip,
            setup.grpc.port(),
            setup.pieces.port(),
            setup.key_fingerprint,
        );
        let own = OwnHost::new(config, &setup);
        let host = own.clone();
        let schedulers = Schedulers::new(
            setup.members.clone(),
            setup.dialer.clone(),
            move || host.message(),
            Pace::default(),
        );
        let shelf = Shelf::new(tasks.clone(), config.cluster.share_private, own.clone());
        let mut told = UploadOptions::new(setup.ip, setup.pieces.port());
        told.rate = rate(config);
        let askers = shelf.askers();
        let uploads = Uploads::new(told, Arc::new(shelf.clone()));
        let share = config.cluster.share_private;
        let takers = Takers::new(tasks.clone(), share, running.clone(), ended.clone());
        let itself = Arc::new(Itself::new(shelf, own.clone(), takers));
        let scheduler = SchedulerService::new(SchedulerOptions::default(), seed(), itself)
            .with_tracer(tasks.origin().tracer().clone());
        let client = PeerClient::new(setup.dialer.clone(), setup.host_id.clone());
        let mut network = Swarms::new(Asked::Own(schedulers.clone()), client, own.clone(), share);
        if setup.door.plain {
            network = network.with_strangers();
        }
        let network = Arc::new(network);
        tasks.set_network(network.clone());

        let mut routes = RoutesBuilder::default();
        scheduler.mount(&mut routes);
        routes.add_service(InterceptedService::new(uploads.service(), introduce));
        let grpc = serve_grpc(grpc, setup.door.clone(), routes.routes(), ended.clone().cancelled_owned());
        running.spawn(grpc);
        let serving = (uploads.clone(), setup.door, ended.clone());
        running.spawn(async move {
            let (uploads, door, ended) = serving;
            uploads.serve(pieces, door, ended).await;
        });
        let clock = scheduler.clone();
        running.spawn(ended.clone().run_until_cancelled_owned(async move { clock.keep_time().await }));
        running.spawn(ended.clone().run_until_cancelled_owned(setup.watch.run()));
        let reconcile = keep_told(tasks.clone(), network, share);
        running.spawn(ended.clone().run_until_cancelled_owned(reconcile));
        let (feeding, watched) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let asking =
            keep_asking(schedulers.clone(), tasks.clone(), Arc::clone(&feeding), Arc::clone(&watched));
        running.spawn(ended.clone().run_until_cancelled_owned(asking));
        let (control, key) = (setup.control, setup.key_fingerprint);
        let spreader = Some(Spreader::new(schedulers.clone(), tasks.clone(), share));
        let way = Way::Own { schedulers, scheduler, control, key };
        Ok((Self { way, uploads, feeding, watched, own, askers, spreader, running, ended }, ready))
    }

    /// Tells whether other nodes still need this one.
    pub(crate) fn feeding(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        self.watched.store(true, Ordering::Relaxed);
        let feeding = Arc::clone(&self.feeding);
        move || feeding.load(Ordering::Relaxed)
    }

    /// Takes over what it can of another configuration: the members and the rate.
    pub(crate) fn apply(&self, config: &Config) {
        if let Way::Own { control, .. } = &self.way {
            control.reload(sources(&config.cluster));
        }
        self.uploads.set_rate(rate(config));
        self.own.set_limit(config);
    }

    /// Who has asked for what lately.
    pub(crate) fn askers(&self) -> Askers {
        self.askers.clone()
    }

    /// Asks all members how they are.
    pub(crate) fn survey(&self) -> Survey {
        match &self.way {
            Way::Own { schedulers, key, .. } => Survey::new(schedulers.clone(), key.clone()),
            Way::Dragonfly { schedulers, itself } => Survey::of_guest(schedulers.clone(), Arc::clone(itself)),
        }
    }

    /// Has other members take contents of this one.
    pub(crate) fn spreader(&self) -> Option<Spreader> {
        self.spreader.clone()
    }

    /// Leaves the cluster and closes the ports.
    pub(crate) async fn close(&self) {
        match &self.way {
            Way::Own { schedulers, scheduler, .. } => {
                scheduler.close();
                schedulers.close().await;
            }
            Way::Dragonfly { schedulers, .. } => schedulers.close().await,
        }
        self.ended.cancel();
        self.running.close();
        self.running.wait().await;
    }
}

/// Says what became of joining a cluster; `in_clear`: what is to be known of peers without a key.
fn announced(
    joined: Result<(Cluster, String), String>,
    in_clear: Option<String>,
    announce: &dyn Fn(&str),
) -> Option<Cluster> {
    let warned = |text: &str| {
        warn!("{text}");
        announce(&format!("warning: {text}"));
    };
    match joined {
        Ok((cluster, ready)) => {
            info!("{ready}");
            announce(&ready);
            in_clear.iter().for_each(|text| warned(text));
            Some(cluster)
        }
        Err(error) => {
            warned(&format!("{error}; until then this node pulls from the origin alone"));
            None
        }
    }
}

fn rate(config: &Config) -> u64 {
    config.upload.rate_limit.map_or(0, std::num::NonZeroU64::get)
}

/// Something that differs from node to node.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Without it two schedulers would leave the same to chance: no harm.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u64::from_ne_bytes(bytes)
}

fn listen(address: SocketAddr, what: &str) -> Result<Listener, String> {
    dfget_peer::listen(address).map_err(|error| {
        format!(
            "the {what} port for other nodes cannot be opened at {address}: {error}; end what uses it, or set \
             another `cluster.port` on all nodes"
        )
    })
}

/// Tells the upload service who asks.
fn introduce(mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
    if let Some(caller) = request.extensions().get::<Caller>() {
        let asker = Asker { keyed: caller.keyed, address: caller.address };
        request.extensions_mut().insert(asker);
    }
    Ok(request)
}

/// Finds out whether other nodes still need this one: it sends them something, or one of those that
/// are asked is still pulling. Where nobody wants to know, they are asked for their version alone.
async fn keep_asking(
    schedulers: Schedulers,
    tasks: Tasks,
    feeding: Arc<AtomicBool>,
    watched: Arc<AtomicBool>,
) {
    let (mut sent, mut idle) = (0, 0);
    let mut versions = Versions::new(crate::parts::version());
    let mut pause = ASK;
    loop {
        tokio::time::sleep(pause).await;
        pause = if watched.load(Ordering::Relaxed) { ASK } else { ASK_SELDOM };
        let [_, _, to_peers] = tasks.metrics().exchanged();
        let others = schedulers.sample(SAMPLE).await;
        for member in &others {
            if let Ok(reply) = &member.reply
                && let Some(remark) = versions.heard(&member.name, &reply.version)
            {
                warn!("{remark}");
            }
        }
        let pulling = others
            .iter()
            .any(|member| !member.own && member.reply.as_ref().is_ok_and(|reply| reply.running_tasks > 0));
        idle = if pulling || to_peers > sent { 0 } else { idle + 1 };
        sent = to_peers;
        feeding.store(idle < IDLE, Ordering::Relaxed);
    }
}

/// Tells the cluster what is in the store: all of it at the start, and later what has left it.
async fn keep_told(tasks: Tasks, network: Arc<Swarms>, share: SharePrivate) {
    let mut told = std::collections::HashSet::new();
    loop {
        let look = tasks.clone();
        let held = tokio::task::spawn_blocking(move || look.held()).await.unwrap_or_default();
        let now: std::collections::HashSet<String> =
            held.iter().map(|held| held.task.as_str().to_owned()).collect();
        for gone in told.difference(&now) {
            network.drop_task(gone);
        }
        for held in held {
            if !(held.private && share == SharePrivate::Never) {
                network.hold(held);
            }
        }
        told = now;
        tokio::time::sleep(RECONCILE).await;
    }
}
