//! What a host says it has, for as long as it lives.

use std::sync::Arc;

use dfget_proto::messages::dfget::v1::{Held, HoldReply, HoldRequest};
use dfget_swarm::SwarmKey;
use futures_util::{Stream, stream};
use prost::Message as _;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::limits;
use crate::room::{Announced, Holding, Room};
use crate::serve::Caller;
use crate::words;

/// Answers a Hold stream.
pub(crate) fn listen(
    room: Arc<Room>,
    caller: Caller,
    inbound: Streaming<HoldRequest>,
) -> impl Stream<Item = Result<HoldReply, Status>> {
    let hearing = Hearing { room, caller, inbound, holder: None, over: false };
    stream::unfold(hearing, |mut hearing| async move { hearing.next().await.map(|reply| (reply, hearing)) })
}

struct Hearing {
    room: Arc<Room>,
    caller: Caller,
    inbound: Streaming<HoldRequest>,
    holder: Option<(Arc<str>, u64, CancellationToken)>,
    over: bool,
}

// === impl Hearing ===

impl Hearing {
    async fn next(&mut self) -> Option<Result<HoldReply, Status>> {
        if self.over {
            return None;
        }
        let reply = match self.holder.clone() {
            None => self.begin().await.map(Some),
            Some((host, generation, replaced)) => {
                let hear = replaced.run_until_cancelled(self.hear(&host, generation));
                hear.await.unwrap_or_else(|| Err(taken_over())).map(|()| None)
            }
        };
        self.over = !matches!(reply, Ok(Some(_)));
        reply.transpose()
    }

    async fn begin(&mut self) -> Result<HoldReply, Status> {
        let message = timeout(limits::FIRST_MESSAGE, self.inbound.message()).await;
        let message = message.map_err(|_| Status::deadline_exceeded("no first message came"))??;
        let mut message = message.ok_or_else(|| words::invalid("host", "is missing"))?;
        let host = message.host.take().ok_or_else(|| words::invalid("host", "is missing"))?;
        let id: Arc<str> = host.id.as_str().into();
        let (generation, replaced) =
            self.room.hold_begins(Announced::read(host, self.caller.keyed, None)?)?;
        self.holder = Some((id.clone(), generation, replaced));
        self.note(&id, generation, message).await?;
        Ok(HoldReply { instance: self.room.instance.clone() })
    }

    async fn hear(&mut self, host: &str, generation: u64) -> Result<(), Status> {
        while let Some(message) = self.inbound.message().await? {
            self.note(host, generation, message).await?;
        }
        Ok(())
    }

    async fn note(&self, host: &str, generation: u64, message: HoldRequest) -> Result<(), Status> {
        self.caller.meter.count(message.encoded_len()).await;
        if message.add.len() > limits::HELD_IN_MESSAGE || message.remove.len() > limits::HELD_IN_MESSAGE {
            return Err(words::invalid("add", "has more than 1000 contents"));
        }
        let add: Vec<_> = message.add.iter().filter_map(|held| holding(held, self.caller.keyed)).collect();
        if add.len() < message.add.len() {
            let skipped = message.add.len() - add.len();
            tracing::debug!(host, skipped, "a host says that it holds what cannot be");
        }
        if self.room.hold(host, generation, &add, &message.remove) { Ok(()) } else { Err(taken_over()) }
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        if let Some((host, generation, _)) = self.holder.take() {
            self.room.hold_ends(&host, generation);
        }
    }
}

fn taken_over() -> Status {
    Status::aborted("another stream of this host has taken over")
}

/// Reads what a host has; `None` if that cannot be.
fn holding(held: &Held, keyed: bool) -> Option<Holding> {
    let task = words::task(&held.task_id).ok()?;
    let total = words::checked_total(held.total).ok()?;
    let most = if keyed { limits::ORIGINS } else { limits::ORIGINS_OF_STRANGER };
    let origins = held.origins.iter().take(most).filter(|text| text.len() <= limits::AUTHORITY);
    let origins = origins.filter_map(|origin| words::origin_of(origin).ok());
    let keys: Vec<_> =
        origins.map(|origin| SwarmKey { task: task.clone(), authority: origin.into() }).collect();
    (!keys.is_empty()).then_some(Holding { keys, total, private: held.private })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_not_noted() {
        let good = Held {
            task_id: "a".repeat(64),
            total: 5,
            origins: vec!["HTTPS://R.test:443".to_owned(), "no authority".to_owned()],
            private: true,
        };
        let read = holding(&good, true).expect("good");
        assert_eq!(read.keys.len(), 1);
        assert_eq!(read.keys[0].authority.as_ref(), "https://r.test");
        assert!(holding(&Held { total: u64::MAX, ..good.clone() }, true).is_none());
        assert!(holding(&Held { task_id: "x".to_owned(), ..good.clone() }, true).is_none());
        assert!(holding(&Held { origins: Vec::new(), ..good.clone() }, true).is_none());
        let origins = (0..9).map(|number| format!("https://r{number}.test")).collect();
        let many = Held { origins, ..good };
        let keys = |keyed| holding(&many, keyed).map(|read| read.keys.len());
        assert_eq!((keys(true), keys(false)), (Some(9), Some(1)));
    }
}
