//! What a peer answers by gRPC (Dragonfly's `DfdaemonUpload`).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dfget_proto::messages::common::v2::Host;
use dfget_proto::messages::dfdaemon::v2::dfdaemon_upload_server::DfdaemonUpload;
use dfget_proto::messages::dfdaemon::v2::{SyncHostRequest, SyncPiecesRequest, SyncPiecesResponse};
use dfget_proto::vortex;
use futures_util::{Stream, stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{MissedTickBehavior, interval};
use tonic::{Code, Request, Response, Status};

use crate::holdings::{Asker, Refusal};
use crate::teller::{Interest, Teller};
use crate::uploads::Shared;

/// The longest request that is taken, in bytes.
pub(crate) const MOST_REQUEST: usize = 256 << 10;

/// Answers by gRPC; made by [`Uploads::service`](crate::Uploads::service).
pub struct UploadService {
    shared: Arc<Shared>,
}

/// What is sent as it comes.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

// === impl UploadService ===

impl UploadService {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.shared.streams).try_acquire_owned().map_err(|_| {
            self.shared.refused(Refusal::TooMany);
            Status::resource_exhausted("too many peers listen to this one")
        })
    }
}

#[tonic::async_trait]
impl DfdaemonUpload for UploadService {
    type SyncPiecesStream = Answers<SyncPiecesResponse>;
    type SyncHostStream = Answers<Host>;

    async fn sync_pieces(
        &self,
        request: Request<SyncPiecesRequest>,
    ) -> Result<Response<Self::SyncPiecesStream>, Status> {
        let permit = self.permit()?;
        let asker = asker(&request);
        let SyncPiecesRequest { task_id, interested_piece_numbers, all, .. } = request.into_inner();
        if !vortex::Request::is_task(task_id.as_bytes()) {
            self.shared.refused(Refusal::Malformed);
            return Err(Status::invalid_argument("task_id: an id of 64 characters is wanted"));
        }
        let holding = self.shared.holdings.find(&task_id, &asker).ok_or_else(|| {
            self.shared.refused(Refusal::NotHere);
            Status::new(Code::NotFound, "this task is not here")
        })?;
        let interest = if all {
            Interest::All
        } else {
            Interest::Some(interested_piece_numbers.into_iter().collect::<BTreeSet<_>>())
        };
        let teller = Teller::new(holding, self.shared.options.pieces, interest);
        let items = stream::unfold((teller, permit), |(mut teller, permit)| async {
            teller.next().await.map(|item| (item, (teller, permit)))
        });
        Ok(Response::new(Box::pin(items)))
    }

    async fn sync_host(
        &self,
        _request: Request<SyncHostRequest>,
    ) -> Result<Response<Self::SyncHostStream>, Status> {
        let permit = self.permit()?;
        let shared = Arc::clone(&self.shared);
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let hosts = stream::unfold((shared, seconds, permit), |(shared, mut seconds, permit)| async {
            seconds.tick().await;
            let host = Host { network: Some(shared.holdings.network()), ..Host::default() };
            Some((Ok(host), (shared, seconds, permit)))
        });
        Ok(Response::new(Box::pin(hosts)))
    }
}

/// Who asks, as whoever let them in says; without a word, a stranger.
fn asker<T>(request: &Request<T>) -> Asker {
    let known = request.extensions().get::<Asker>().copied();
    known.unwrap_or_else(|| {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Asker { keyed: false, address: request.remote_addr().unwrap_or(nowhere) }
    })
}
