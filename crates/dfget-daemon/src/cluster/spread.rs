//! Contents of this node to other members, before clients ask for them there.
//!
//! Each member that is chosen has the contents come from the swarm, which this node feeds at first; who cannot is
//! replaced by the next. No credential goes with an order.

use std::time::Duration;

use dfget_config::SharePrivate;
use dfget_core::ReferenceKind;
use dfget_lease::{NodeSpread, NotSpread, Spread, SpreadSeen, SpreadState};
use dfget_proto::messages::dfget::v1::TakeRequest;
use dfget_scheduler::{Schedulers, manifest_type};
use dfget_task::{OfferError, TakeOrder, Tasks};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use url::Url;

use super::choice::Choice;
use super::survey::shown;

/// How often is told how far it is.
const TELL: Duration = Duration::from_millis(500);

/// A client has the last bytes of a content a moment before it is in the store.
const SETTLING: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(100);

/// Contents of one order: no image has more.
const MOST_CONTENTS: usize = 10_100;

/// Why nothing is spread.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) cause: NotSpread,
    pub(crate) reason: String,
}

/// Has members take contents of this node. Clones are the same.
#[derive(Clone)]
pub(crate) struct Spreader {
    schedulers: Schedulers,
    tasks: Tasks,
    share: SharePrivate,
}

/// How all stand that were asked.
#[derive(Debug, Default)]
struct Board {
    total: u64,
    wanted: u32,
    nodes: Mutex<Vec<NodeSpread>>,
}

// === impl Spreader ===

impl Spreader {
    pub(super) const fn new(schedulers: Schedulers, tasks: Tasks, share: SharePrivate) -> Self {
        Self { schedulers, tasks, share }
    }

    /// Has the wanted members take the contents; returns when as many have them as should, when nobody is left to
    /// ask, or when the time is over.
    ///
    /// # Errors
    /// Why nothing was begun.
    ///
    /// # Cancel safety
    /// Dropped, all orders are given up; what has come stays where it is.
    pub(crate) async fn spread(
        &self,
        wanted: &Spread,
        told: &watch::Sender<SpreadSeen>,
    ) -> Result<SpreadSeen, Refusal> {
        let until = wanted.within_ms.map(|within| Instant::now() + Duration::from_millis(within));
        let seed = wanted.contents.first().map_or("", |url| url.rsplit(':').next().unwrap_or_default());
        let me = self.schedulers.me();
        let choice = Choice::new(&wanted.nodes, self.schedulers.members(seed), me.as_deref());
        let choice = choice.map_err(|reason| Refusal { cause: NotSpread::Nodes, reason })?;
        let orders = self.orders(&wanted.contents).await?;
        let total = orders.iter().fold(0_u64, |sum, order| sum.saturating_add(order.total));
        let count = u32::try_from(choice.wanted()).unwrap_or(u32::MAX);
        let board = Board { total, wanted: count, nodes: Mutex::default() };
        if orders.is_empty() {
            return Ok(board.seen(true));
        }
        self.have_taken(choice, &orders, me.as_deref(), &board, told, until).await;
        Ok(board.seen(true))
    }

    async fn have_taken(
        &self,
        mut choice: Choice,
        orders: &[TakeRequest],
        me: Option<&str>,
        board: &Board,
        told: &watch::Sender<SpreadSeen>,
        until: Option<Instant>,
    ) {
        let mut asking = FuturesUnordered::new();
        let mut tell = tokio::time::interval(TELL);
        let over = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let mut over = std::pin::pin!(over);
        loop {
            while let Some(name) = choice.next() {
                let own = me == Some(name.as_str());
                let at = board.add(&name, own);
                if own {
                    board.settle(at, Ok(()));
                    choice.settled(true);
                } else {
                    asking.push(
                        async move { (at, self.fill(&name, orders, |have| board.has(at, have)).await) },
                    );
                }
            }
            if choice.is_over() {
                return;
            }
            tokio::select! {
                Some((at, outcome)) = asking.next() => {
                    choice.settled(outcome.is_ok());
                    board.settle(at, outcome);
                }
                _ = tell.tick() => drop(told.send_replace(board.seen(false))),
                () = &mut over => return board.give_up("not in time"),
            }
        }
    }

    /// Has a member take all contents, one after another.
    async fn fill(&self, name: &str, orders: &[TakeRequest], told: impl Fn(u64)) -> Result<(), String> {
        let mut before = 0_u64;
        for order in orders {
            let refused = |error: dfget_scheduler::TakeRefused| shown(&error.to_string());
            let mut take = self.schedulers.take(name, order.clone()).await.map_err(refused)?;
            loop {
                match take.next().await.map_err(refused)? {
                    Some((_, true)) => break,
                    Some((have, false)) => told(before.saturating_add(have.min(order.total))),
                    None => return Err("it has ended before its time".to_owned()),
                }
            }
            before = before.saturating_add(order.total);
            told(before);
        }
        Ok(())
    }

    /// What members are to be told of the contents.
    async fn orders(&self, contents: &[String]) -> Result<Vec<TakeRequest>, Refusal> {
        let refusal = |url: &str, reason: &str| Refusal {
            cause: NotSpread::Contents,
            reason: format!("{url} cannot be given to other nodes: {reason}"),
        };
        if contents.len() > MOST_CONTENTS {
            return Err(refusal("that much", "they are too many contents for one image"));
        }
        let until = Instant::now() + SETTLING;
        let mut orders = Vec::with_capacity(contents.len());
        for text in contents {
            let url: Url = text.parse().map_err(|_| refusal("a content", "its URL is none"))?;
            let shown = dfget_core::public_url(&url);
            let offered = loop {
                match self.tasks.offer(&url) {
                    Err(OfferError::Absent) if Instant::now() < until => sleep(LOOK).await,
                    offered => break offered,
                }
            };
            let offered = offered.map_err(|error| refusal(&shown, &error.to_string()))?;
            if offered.private && self.share == SharePrivate::Never {
                let never = "it was fetched with a credential, and cluster.sharePrivate is never";
                return Err(refusal(&shown, never));
            }
            // A manifest that this node itself would not take by order is small, and left to each node.
            orders.extend(request(&offered));
        }
        Ok(orders)
    }
}

fn request(offered: &TakeOrder) -> Option<TakeRequest> {
    let media_type = match offered.kind {
        ReferenceKind::Blob => "",
        ReferenceKind::Manifest => manifest_type(offered.media_type.as_deref()?)?,
    };
    Some(TakeRequest {
        task_id: offered.digest.hex(),
        total: offered.total,
        url: offered.url.to_string(),
        private: offered.private,
        media_type: media_type.to_owned(),
    })
}

// === impl Board ===

impl Board {
    fn add(&self, name: &str, own: bool) -> usize {
        let mut nodes = self.nodes.lock();
        nodes.push(NodeSpread { name: name.to_owned(), own, ..NodeSpread::default() });
        nodes.len() - 1
    }

    fn has(&self, at: usize, have: u64) {
        if let Some(node) = self.nodes.lock().get_mut(at) {
            node.have = have;
        }
    }

    fn settle(&self, at: usize, outcome: Result<(), String>) {
        let mut nodes = self.nodes.lock();
        let Some(node) = nodes.get_mut(at) else { return };
        match outcome {
            Ok(()) => (node.state, node.have) = (SpreadState::There, self.total),
            Err(reason) => (node.state, node.reason) = (SpreadState::Failed, Some(reason)),
        }
    }

    fn give_up(&self, why: &str) {
        for node in self.nodes.lock().iter_mut().filter(|node| node.state == SpreadState::Coming) {
            (node.state, node.reason) = (SpreadState::Failed, Some(why.to_owned()));
        }
    }

    fn seen(&self, ended: bool) -> SpreadSeen {
        let Self { total, wanted, nodes } = self;
        SpreadSeen { total: *total, wanted: *wanted, nodes: nodes.lock().clone(), ended }
    }
}
