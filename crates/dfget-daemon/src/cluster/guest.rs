//! This node as a peer of a Dragonfly cluster: its ports for other peers, and the way to the schedulers.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dfget_cluster::{ClusterOptions, Guest};
use dfget_config::{Config, SharePrivate};
use dfget_peer::{PeerClient, UploadOptions, Uploads};
use dfget_scheduler::{Dragonfly, mount_health, serve_grpc};
use dfget_task::Tasks;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::RoutesBuilder;
use tonic::service::interceptor::InterceptedService;

use super::holdings::Shelf;
use super::host::OwnHost;
use super::itself::Itself;
use super::network::{Asked, Swarms};
use super::taking::Takers;
use super::{Cluster, Way, announced, introduce, keep_told, listen, rate};

// === impl Cluster ===

impl Cluster {
    /// Opens the ports for peers of a Dragonfly cluster, and joins it. `None` if that is not possible, which is said.
    pub(super) async fn visit(
        config: &Config,
        options: &ClusterOptions,
        tasks: &Tasks,
        announce: &dyn Fn(&str),
    ) -> Option<Self> {
        let plain = in_clear(config.cluster.share_private);
        announced(Self::join(config, options, tasks).await, Some(plain), announce)
    }

    async fn join(
        config: &Config,
        options: &ClusterOptions,
        tasks: &Tasks,
    ) -> Result<(Self, String), String> {
        let addresses = &config.scheduler.addresses;
        let guest = Guest::prepare(options, addresses).await.map_err(|error| error.to_string())?;
        let (grpc, pieces) = (listen(guest.grpc, "gRPC")?, listen(guest.pieces, "piece")?);
        let (running, ended) = (TaskTracker::new(), CancellationToken::new());
        let ready = format!(
            "cluster: a peer of Dragonfly's scheduler{}, as {} at {} (gRPC {}, pieces {})",
            named(addresses),
            guest.hostname,
            guest.ip,
            guest.grpc.port(),
            guest.pieces.port(),
        );
        let share = config.cluster.share_private;
        let own = OwnHost::new(config, &guest);
        let shelf = Shelf::new(tasks.clone(), share, own.clone());
        let mut told = UploadOptions::new(guest.ip, guest.pieces.port());
        told.rate = rate(config);
        let askers = shelf.askers();
        let uploads = Uploads::new(told, Arc::new(shelf.clone()));
        let itself = Arc::new(Itself::new(
            shelf,
            own.clone(),
            Takers::new(tasks.clone(), share, running.clone(), ended.clone()),
        ));

        // Whoever is sent here finds the ports open.
        let mut routes = RoutesBuilder::default();
        mount_health(&mut routes);
        routes.add_service(InterceptedService::new(uploads.service(), introduce));
        let grpc = serve_grpc(grpc, guest.door.clone(), routes.routes(), ended.clone().cancelled_owned());
        running.spawn(grpc);
        let serving = (uploads.clone(), guest.door, ended.clone());
        running.spawn(async move {
            let (uploads, door, ended) = serving;
            uploads.serve(pieces, door, ended).await;
        });

        let (host, peers) = (own.clone(), own.clone());
        let interval = config.scheduler.announce_interval;
        let schedulers =
            Dragonfly::start(addresses.clone(), interval, move || host.message(), move || peers.peer_id());
        let schedulers = schedulers.await;
        let client = PeerClient::new(guest.dialer, guest.host_id);
        let asked = Asked::Dragonfly(schedulers.clone());
        let network = Arc::new(Swarms::new(asked, client, own.clone(), share).with_strangers());
        tasks.set_network(network.clone());
        let reconcile = keep_told(tasks.clone(), network, share);
        running.spawn(ended.clone().run_until_cancelled_owned(reconcile));
        let (feeding, watched) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let way = Way::Dragonfly { schedulers, itself };
        Ok((Self { way, uploads, feeding, watched, own, askers, spreader: None, running, ended }, ready))
    }
}

fn named(addresses: &[(String, u16)]) -> String {
    let mut text = String::new();
    for (host, port) in addresses {
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let before = if text.is_empty() { " " } else { ", " };
        let _ = write!(text, "{before}{host}:{port}");
    }
    if addresses.len() > 1 { format!("s{text}") } else { text }
}

fn in_clear(share: SharePrivate) -> String {
    let private = match share {
        SharePrivate::All => {
            "what was fetched with a credential goes to whoever asks, too (cluster.sharePrivate: all)"
        }
        SharePrivate::Keyed | SharePrivate::Never => {
            "only what was fetched without a credential is shared (cluster.sharePrivate)"
        }
    };
    format!(
        "Dragonfly's schedulers and peers know no key and speak in clear: what goes to and from them can be read on \
         its way; {private}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedulers_are_named_as_they_are_written() {
        let of =
            |hosts: &[&str]| named(&hosts.iter().map(|host| ((*host).to_owned(), 8002)).collect::<Vec<_>>());
        assert_eq!(of(&["a"]), " a:8002");
        assert_eq!(of(&["a", "2001:db8::1"]), "s a:8002, [2001:db8::1]:8002");
    }
}
