//! Contents that come here because another node wants it.

use std::sync::Arc;

use dfget_config::SharePrivate;
use dfget_proto::messages::dfget::v1::TakeReply;
use dfget_scheduler::{Caller, Takes, Taking};
use dfget_task::{TakeOrder, Tasks};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tracing::{debug, info};

/// Contents that come at once by order, and orders that wait for their turn besides.
const AT_ONCE: usize = 4;
const WAITING: usize = 60;

/// Words that wait for whoever ordered.
const WORDS: usize = 4;

/// Carries orders out, a few at a time.
pub(super) struct Takers {
    tasks: Tasks,
    share: SharePrivate,
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    running: TaskTracker,
    ended: CancellationToken,
}

/// One order, and where to tell how far it is.
struct Carried {
    order: TakeOrder,
    told: mpsc::Sender<Result<TakeReply, Status>>,
    _place: OwnedSemaphorePermit,
}

// === impl Takers ===

impl Takers {
    /// Orders run on `running` until `ended`.
    pub(super) fn new(
        tasks: Tasks,
        share: SharePrivate,
        running: TaskTracker,
        ended: CancellationToken,
    ) -> Self {
        let (places, turns) = (Semaphore::new(AT_ONCE + WAITING), Semaphore::new(AT_ONCE));
        Self { tasks, share, places: Arc::new(places), turns: Arc::new(turns), running, ended }
    }

    /// Begins with an order of a caller that has the key.
    pub(super) fn take(&self, wanted: Taking, caller: &Caller) -> Result<Takes, Status> {
        if wanted.private && self.share == SharePrivate::Never {
            return Err(Status::failed_precondition(
                "it takes nothing from others that was fetched with a credential (cluster.sharePrivate: never)",
            ));
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| {
            Status::resource_exhausted(format!("it has {} such orders already", AT_ONCE + WAITING))
        })?;
        info!(task = %wanted.task, "{} orders this content of {} bytes to be here", caller.address, wanted.total);
        let Taking { digest, kind, total, url, private, media_type, .. } = wanted;
        let media_type = media_type.map(ToOwned::to_owned);
        let order = TakeOrder { digest, kind, total, url, private, media_type };
        let (told, heard) = mpsc::channel(WORDS);
        let carried = Carried { order, told, _place: place };
        let carrying = carried.carry_out(self.tasks.clone(), Arc::clone(&self.turns));
        self.running.spawn(self.ended.clone().run_until_cancelled_owned(carrying));
        Ok(Box::pin(stream::unfold(heard, |mut heard| async move { Some((heard.recv().await?, heard)) })))
    }
}

// === impl Carried ===

impl Carried {
    async fn carry_out(self, tasks: Tasks, turns: Arc<Semaphore>) {
        let tell = |have| {
            // Whoever reads slowly hears of it the next time.
            let _ = self.told.try_send(Ok(TakeReply { have, ..TakeReply::default() }));
        };
        let taking = async {
            // It is never closed.
            let _turn = turns.acquire().await;
            tasks.take(&self.order, &tell).await
        };
        let last = tokio::select! {
            () = self.told.closed() => {
                debug!(digest = %self.order.digest, "whoever ordered this content does not want it any more");
                return;
            }
            taken = taking => match taken {
                Ok(()) => TakeReply { have: self.order.total, done: true, ..TakeReply::default() },
                Err(error) => {
                    info!(digest = %self.order.digest, "an ordered content is not here: {error}");
                    TakeReply { failed: error.to_string(), ..TakeReply::default() }
                }
            },
        };
        let _ = self.told.send(Ok(last)).await;
    }
}
