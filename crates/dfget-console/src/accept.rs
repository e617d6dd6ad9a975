//! Taking connections, at the port and at the socket alike.

use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

/// Answers each connection that `accept` brings by `answer`, a task of its own, until `shutdown` is over; so many at
/// once at most as [`MAX_CONNECTIONS`]. Returns those that are still answered. `place` says in the log where that is.
///
/// # Cancel safety
/// Dropping the future ends every connection.
pub(crate) async fn accept_until<S, A>(
    place: &str,
    mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>>,
    shutdown: impl Future<Output = ()>,
    mut answer: impl FnMut(S) -> A,
) -> JoinSet<()>
where
    A: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return connections,
            Some(_) = connections.join_next() => {}
            accepted = poll_fn(&mut accept), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok(stream) => {
                    connections.spawn(answer(stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "the {place} cannot accept a connection");
                    sleep(AFTER_FAILED_ACCEPT).await;
                }
            },
        }
    }
}

/// More wait in the kernel's queue.
pub(crate) const MAX_CONNECTIONS: usize = 64;
/// Out of file descriptors, most often: trying again at once would only burn the processor.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_pauses_and_the_next_connection_is_taken() {
        let (stop, stopped) = oneshot::channel::<()>();
        let mut turns = vec![Ok(7), Err(io::Error::other("no descriptor"))];
        let accept = |_: &mut Context<'_>| turns.pop().map_or(Poll::Pending, Poll::Ready);
        let mut stop = Some(stop);
        let began = Instant::now();
        let shutdown = async {
            let _ = stopped.await;
        };
        let mut left = accept_until("port", accept, shutdown, |number: u8| {
            assert_eq!((number, began.elapsed()), (7, AFTER_FAILED_ACCEPT));
            drop(stop.take());
            std::future::ready(())
        })
        .await;
        while left.join_next().await.is_some() {}
    }

    #[tokio::test]
    async fn no_more_are_answered_at_once_than_may_be() {
        let (stop, stopped) = oneshot::channel::<()>();
        let (mut stop, mut taken) = (Some(stop), 0);
        let accept = |_: &mut Context<'_>| Poll::Ready(Ok(()));
        let shutdown = async {
            let _ = stopped.await;
        };
        let left = accept_until("port", accept, shutdown, |()| {
            taken += 1;
            if taken == MAX_CONNECTIONS {
                drop(stop.take());
            }
            std::future::pending()
        })
        .await;
        assert_eq!((left.len(), taken), (MAX_CONNECTIONS, MAX_CONNECTIONS));
    }
}
