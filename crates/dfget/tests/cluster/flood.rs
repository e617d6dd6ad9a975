//! A stranger that talks to a scheduler in clear and never ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dfget_proto::host_id;
use dfget_proto::messages::common::v2::{Download, Host, Piece};
use dfget_proto::messages::dfget::v1::cluster_client::ClusterClient;
use dfget_proto::messages::dfget::v1::{Held, HoldRequest};
use dfget_proto::messages::scheduler::v2::announce_peer_request::Request as Arm;
use dfget_proto::messages::scheduler::v2::scheduler_client::SchedulerClient;
use dfget_proto::messages::scheduler::v2::{
    AnnounceHostRequest, AnnouncePeerRequest, DownloadPieceFinishedRequest, RegisterPeerRequest,
};
use dfget_testkit::{Blob, Place};
use futures_util::stream;
use tokio::runtime::Runtime;

use crate::stock::connect;

/// It talks until dropped.
pub(crate) struct Flood {
    said: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

// === impl Flood ===

impl Flood {
    /// Says from `place` to the scheduler at `to` that it has the blob, a content more with each message, and pieces of
    /// the blob without end.
    pub(crate) fn start(place: &Place, to: String, blob: &Blob, url: &str) -> Self {
        let said = Arc::new(AtomicUsize::new(0));
        let (ip, counter) = (place.address().into(), Arc::clone(&said));
        let host = Host {
            id: host_id(ip, "stranger"),
            hostname: "stranger".to_owned(),
            ip: ip.to_string(),
            port: 4000,
            ..Host::default()
        };
        let (task, url) = (blob.digest.trim_start_matches("sha256:").to_owned(), url.to_owned());
        let total = blob.len() as u64;
        let runtime = place.within(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
            // On a thread of the runtime, which is at the place for good.
            let begun = runtime.spawn(async move {
                let channel = connect(&to).await.expect("the port is open");
                let mut scheduler = SchedulerClient::new(channel.clone());
                let request =
                    AnnounceHostRequest { host: Some(host.clone()), ..AnnounceHostRequest::default() };
                scheduler.announce_host(request).await.expect("strangers may come in");
                let (holds, pieces) =
                    (holdings(host.clone(), task.clone(), total, &url), pieces(host, task, total, url));
                let (holds, pieces) = (counted(holds, Arc::clone(&counter)), counted(pieces, counter));
                (scheduler, ClusterClient::new(channel), holds, pieces)
            });
            let (mut scheduler, mut cluster, holds, pieces) = runtime.block_on(begun).expect("it begins");
            runtime.spawn(async move {
                let hold = async {
                    let Ok(replies) = cluster.hold(stream::iter(holds)).await else { return };
                    let mut replies = replies.into_inner();
                    while let Ok(Some(_)) = replies.message().await {}
                };
                let announce = async {
                    let Ok(answers) = scheduler.announce_peer(stream::iter(pieces)).await else { return };
                    let mut answers = answers.into_inner();
                    while let Ok(Some(_)) = answers.message().await {}
                };
                tokio::join!(hold, announce);
            });
            runtime
        });
        Self { said, runtime: Some(runtime) }
    }

    /// How many messages have gone out.
    pub(crate) fn said(&self) -> usize {
        self.said.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The same messages, counted as they go out.
fn counted<T>(messages: impl Iterator<Item = T>, counter: Arc<AtomicUsize>) -> impl Iterator<Item = T> {
    messages.inspect(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    })
}

fn holdings(host: Host, task: String, total: u64, url: &str) -> impl Iterator<Item = HoldRequest> + use<> {
    let origin = url.split("/v2/").next().expect("it begins with the authority").to_owned();
    let held = move |task_id| Held { task_id, total, origins: vec![origin.clone()], private: false };
    let first = HoldRequest { host: Some(host), add: vec![held(task)], remove: Vec::new() };
    let more = (0_u64..).map(move |number| HoldRequest {
        host: None,
        add: (0..16).map(|low| held(format!("{:064x}", number * 16 + low))).collect(),
        remove: Vec::new(),
    });
    std::iter::once(first).chain(more)
}

fn pieces(
    host: Host,
    task: String,
    total: u64,
    url: String,
) -> impl Iterator<Item = AnnouncePeerRequest> + use<> {
    let peer_id = format!("{}-endless", host.id);
    let message = move |arm| AnnouncePeerRequest {
        host_id: host.id.clone(),
        task_id: task.clone(),
        peer_id: peer_id.clone(),
        request: Some(arm),
        swarm: None,
    };
    let download = Download { url, actual_content_length: Some(total), ..Download::default() };
    let first = message(Arm::RegisterPeerRequest(RegisterPeerRequest { download: Some(download) }));
    let more = (0_u32..).map(move |number| {
        let piece = Some(Piece { number: number % 4, length: 4 << 20, ..Piece::default() });
        message(Arm::DownloadPieceFinishedRequest(DownloadPieceFinishedRequest { piece }))
    });
    std::iter::once(first).chain(more)
}
