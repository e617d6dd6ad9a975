//! The services of the scheduler's port.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dfget_proto::messages::common::v2::Task;
use dfget_proto::messages::dfget::v1::cluster_server::{Cluster, ClusterServer};
use dfget_proto::messages::dfget::v1::{
    HoldReply, HoldRequest, PieceHashesReply, PieceHashesRequest, StatusReply, StatusRequest, TakeReply,
    TakeRequest,
};
use dfget_proto::messages::grpc::health::v1::health_check_response::ServingStatus;
use dfget_proto::messages::grpc::health::v1::health_server::{Health, HealthServer};
use dfget_proto::messages::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse};
use dfget_proto::messages::scheduler::v2::scheduler_server::{Scheduler, SchedulerServer};
use dfget_proto::messages::scheduler::v2::{
    AnnounceHostRequest, AnnouncePeerRequest, AnnouncePeerResponse, DeleteHostRequest, DeletePeerRequest,
    DeleteTaskRequest, ListHostsRequest, ListHostsResponse, StatTaskRequest,
};
use dfget_swarm::SchedulerOptions;
use dfget_trace::{Span, Tracer};
use futures_util::{Stream, StreamExt as _};
use tonic::service::RoutesBuilder;
use tonic::{Request, Response, Status, Streaming};

use crate::room::{Announced, Room};
use crate::serve::Caller;
use crate::take::{Takes, Taking};
use crate::{announce, hold, limits, words};

/// What only the daemon itself can say.
#[tonic::async_trait]
pub trait Member: Send + Sync + 'static {
    /// How it is. What it knows as a scheduler is filled in here.
    async fn status(&self) -> StatusReply;

    /// The SHA-256 of the pieces of a verified content; `None` = not here, or not for this caller.
    async fn piece_hashes(&self, task: &str, caller: &Caller) -> Option<PieceHashesReply>;

    /// Has a content come here from peers alone, for a caller with the key. Who drops what is returned
    /// gives the order up.
    ///
    /// # Errors
    /// Why it is not done.
    async fn take(&self, _wanted: Taking, _caller: &Caller) -> Result<Takes, Status> {
        Err(Status::unimplemented("it takes no contents by order"))
    }
}

/// The scheduler of a daemon, as its services `scheduler.v2.Scheduler`, `grpc.health.v1.Health` and
/// `dfget.v1.Cluster`. Clones are the same scheduler.
#[derive(Clone)]
pub struct SchedulerService {
    room: Arc<Room>,
    member: Arc<dyn Member>,
    tracer: Tracer,
}

// === impl SchedulerService ===

impl SchedulerService {
    /// A scheduler that knows nobody yet; `seed` is for what it leaves to chance.
    #[must_use]
    pub fn new(options: SchedulerOptions, seed: u64, member: Arc<dyn Member>) -> Self {
        Self { room: Arc::new(Room::new(options, seed)), member, tracer: Tracer::off() }
    }

    /// Tells of the downloads that join, to whoever collects the traces that they belong to.
    #[must_use]
    pub fn with_tracer(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Adds the services to those of a port, which [`serve_grpc`](crate::serve_grpc) answers on.
    pub fn mount(&self, routes: &mut RoutesBuilder) {
        let size = limits::MESSAGE;
        routes.add_service(SchedulerServer::new(self.clone()).max_decoding_message_size(size));
        routes.add_service(ClusterServer::new(self.clone()).max_decoding_message_size(size));
        mount_health(routes);
    }

    /// Does what time alone brings: it never ends, and has to run as long as the services are there.
    pub async fn keep_time(&self) {
        self.room.keep_time().await;
    }

    /// Ends the streams of all downloads: the daemon stops, and its peers find another scheduler.
    pub fn close(&self) {
        self.room.close();
    }

    /// The span of a download's first question, if who asks has the key, and has sent a trace.
    fn joining<T>(&self, request: &Request<T>, caller: &Caller) -> Span {
        if !caller.keyed {
            return Span::none();
        }
        let mut span = self.tracer.answer(request.metadata().as_ref(), "scheduler.v2.Scheduler/AnnouncePeer");
        span.set("rpc.system", || "grpc");
        span.set("rpc.service", || "scheduler.v2.Scheduler");
        span.set("rpc.method", || "AnnouncePeer");
        span
    }

    /// How many tasks and hosts it knows.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        self.room.counts()
    }

    /// Whether it knows a peer or a holder of a task.
    #[must_use]
    pub fn knows(&self, task: &str) -> bool {
        self.room.stat(task).is_some()
    }
}

impl std::fmt::Debug for SchedulerService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchedulerService").field("instance", &self.room.instance).finish_non_exhaustive()
    }
}

/// The same answers; the first ends the span.
fn told<T>(
    mut span: Span,
    answers: impl Stream<Item = Result<T, Status>>,
) -> impl Stream<Item = Result<T, Status>> {
    answers.inspect(move |answer| {
        let mut span = std::mem::take(&mut span);
        if let Err(status) = answer {
            span.fail(|| format!("{:?}", status.code()));
        }
    })
}

/// Who asks, after the message is counted.
async fn caller<T: prost::Message>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = stream_caller(request)?;
    caller.meter.count(request.get_ref().encoded_len()).await;
    Ok(caller)
}

fn stream_caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| Status::internal("the caller is not known"))
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

// === impl Scheduler for SchedulerService ===

#[tonic::async_trait]
impl Scheduler for SchedulerService {
    type AnnouncePeerStream = Answers<AnnouncePeerResponse>;

    async fn announce_peer(
        &self,
        request: Request<Streaming<AnnouncePeerRequest>>,
    ) -> Result<Response<Self::AnnouncePeerStream>, Status> {
        let caller = stream_caller(&request)?;
        let span = self.joining(&request, &caller);
        let answers = announce::converse(Arc::clone(&self.room), caller, request.into_inner());
        Ok(Response::new(Box::pin(told(span, answers))))
    }

    async fn stat_task(&self, request: Request<StatTaskRequest>) -> Result<Response<Task>, Status> {
        caller(&request).await?;
        let task = &request.get_ref().task_id;
        let found = self.room.stat(task);
        found.map(Response::new).ok_or_else(|| Status::not_found(format!("task {task} not found")))
    }

    async fn delete_task(&self, request: Request<DeleteTaskRequest>) -> Result<Response<()>, Status> {
        let caller = caller(&request).await?;
        let request = request.into_inner();
        self.room.check_voice(&request.host_id, caller.keyed)?;
        self.room.drop_task(&request.host_id, &request.task_id);
        Ok(Response::new(()))
    }

    async fn delete_peer(&self, request: Request<DeletePeerRequest>) -> Result<Response<()>, Status> {
        let caller = caller(&request).await?;
        let request = request.into_inner();
        self.room.check_voice(&request.host_id, caller.keyed)?;
        self.room.delete_peer(&request.host_id, &request.peer_id);
        Ok(Response::new(()))
    }

    async fn announce_host(&self, request: Request<AnnounceHostRequest>) -> Result<Response<()>, Status> {
        let caller = caller(&request).await?;
        let request = request.into_inner();
        let host = request.host.ok_or_else(|| words::invalid("host", "is missing"))?;
        let seconds = request.interval.and_then(|interval| u64::try_from(interval.seconds).ok());
        self.room.announce(Announced::read(host, caller.keyed, seconds.map(Duration::from_secs))?)?;
        Ok(Response::new(()))
    }

    async fn list_hosts(
        &self,
        request: Request<ListHostsRequest>,
    ) -> Result<Response<ListHostsResponse>, Status> {
        caller(&request).await?;
        let hosts = self.room.hosts(request.get_ref().r#type);
        Ok(Response::new(ListHostsResponse { hosts }))
    }

    async fn delete_host(&self, request: Request<DeleteHostRequest>) -> Result<Response<()>, Status> {
        let caller = caller(&request).await?;
        let host = &request.get_ref().host_id;
        self.room.check_voice(host, caller.keyed)?;
        self.room.leave(host);
        Ok(Response::new(()))
    }
}

// === impl Cluster for SchedulerService ===

#[tonic::async_trait]
impl Cluster for SchedulerService {
    type HoldStream = Answers<HoldReply>;

    async fn hold(
        &self,
        request: Request<Streaming<HoldRequest>>,
    ) -> Result<Response<Self::HoldStream>, Status> {
        let caller = stream_caller(&request)?;
        let replies = hold::listen(Arc::clone(&self.room), caller, request.into_inner());
        Ok(Response::new(Box::pin(replies)))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        caller(&request).await?;
        let mut reply = self.member.status().await;
        (reply.scheduled_tasks, reply.known_hosts) = self.room.counts();
        Ok(Response::new(reply))
    }

    async fn piece_hashes(
        &self,
        request: Request<PieceHashesRequest>,
    ) -> Result<Response<PieceHashesReply>, Status> {
        let caller = caller(&request).await?;
        let task = words::task(&request.get_ref().task_id)?;
        let found = self.member.piece_hashes(&task, &caller).await;
        found.map(Response::new).ok_or_else(|| Status::not_found(format!("task {task} not found")))
    }

    type TakeStream = Answers<TakeReply>;

    async fn take(&self, request: Request<TakeRequest>) -> Result<Response<Takes>, Status> {
        let caller = caller(&request).await?;
        if !caller.keyed {
            return Err(Status::permission_denied(
                "only nodes that show the cluster's key may have contents taken",
            ));
        }
        let wanted = Taking::read(request.get_ref())?;
        self.member.take(wanted, &caller).await.map(Response::new)
    }
}

/// Adds to a port the word that it serves: whoever answers at all answers for all services of the port.
pub fn mount_health(routes: &mut RoutesBuilder) {
    routes.add_service(HealthServer::new(Alive).max_decoding_message_size(limits::MESSAGE));
}

/// Says that it serves.
struct Alive;

// === impl Health for Alive ===

#[tonic::async_trait]
impl Health for Alive {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        caller(&request).await?;
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }
}
