//! Contents that come because another node wants them to be here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dfget_core::ReferenceKind;
use dfget_task::{OfferError, TakeError, TakeOrder, TaskMeta};
use tokio::task::JoinSet;

use crate::cluster::{Hashes, Way, good};
use crate::stage::{Stage, read};

/// The order for the content of the stage.
fn order(stage: &Stage) -> TakeOrder {
    TakeOrder {
        digest: stage.request.digest.unwrap(),
        kind: ReferenceKind::Blob,
        total: stage.cluster.total(),
        url: stage.request.fetch.url.clone(),
        private: false,
        media_type: None,
    }
}

/// The content of the stage is being taken.
fn taken(stage: &Arc<Stage>) -> JoinSet<Result<(), TakeError>> {
    let stage = Arc::clone(stage);
    let mut taking = JoinSet::new();
    taking.spawn(async move { stage.tasks.take(&order(&stage), &|_| ()).await });
    taking
}

/// How often the registry was asked, for whatever.
fn asked(stage: &Stage) -> usize {
    stage.registry.origin.journal().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_content_comes_from_peers_and_the_origin_is_not_asked() {
    let stage = Stage::new(5);
    // What the scheduler grants before it knows is asked of parents as well.
    stage.order(&["good"], &[0..2]);
    let most = AtomicU64::new(0);
    let told = |have| {
        most.fetch_max(have, Ordering::Relaxed);
    };
    let wanted = TakeOrder { private: true, ..order(&stage) };
    stage.tasks.take(&wanted, &told).await.unwrap();
    assert_eq!(asked(&stage), 0);
    assert!(stage.cluster.seen().joins[0].private);
    assert!(stage.cluster.seen().told.iter().any(|told| told.no_origin), "the scheduler is told");
    assert!(stage.cluster.seen().held.iter().any(|held| held.private && held.origins.len() == 1));
    // It is of that authority, which need not prove it; and nobody's credential is among what is kept.
    let offered = stage.tasks.offer(&stage.request.fetch.url).unwrap();
    assert_eq!(offered, wanted);
    stage.right(&stage.pull().await);
    assert_eq!(asked(&stage), 0);
    stage.tasks.take(&wanted, &told).await.unwrap();
    assert_eq!(stage.cluster.asked_of("good"), 5, "it is there");
    let mut elsewhere = stage.request.fetch.url.clone();
    elsewhere.set_host(Some("elsewhere.test")).unwrap();
    assert_eq!(stage.tasks.offer(&elsewhere), Err(OfferError::Absent));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_peer_has_it_the_order_ends_and_the_origin_was_not_asked() {
    let stage = Stage::new(3);
    let mut none = good(&stage.cluster.blob);
    none.offers = Some(vec![]);
    stage.cluster.put("none", none);
    stage.order(&["none"], &[0..u32::MAX]);
    let failed = stage.tasks.take(&order(&stage), &|_| ()).await.unwrap_err();
    assert!(matches!(&failed, TakeError::Failed(_)), "{failed}");
    assert!(failed.to_string().contains("no other node"), "{failed}");
    assert_eq!((asked(&stage), stage.tasks.running()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_never_kept_nor_asked_of_the_origin_anew() {
    for hashes in [Hashes::None, Hashes::CoversUp] {
        let stage = Stage::new(3);
        let liar = good(&stage.cluster.blob);
        stage.cluster.put("good", crate::cluster::Peer { way: Way::WrongBytes, hashes, ..liar });
        let lines = [stage.cluster.scheduler(), stage.cluster.scheduler(), stage.cluster.scheduler()];
        stage.order(&["good"], &[]);
        for line in &lines {
            line.try_send(stage.cluster.orders(&["good"], &[])).unwrap();
        }
        let failed = stage.tasks.take(&order(&stage), &|_| ()).await.unwrap_err();
        eprintln!("{failed}");
        assert_eq!(asked(&stage), 0, "{:?}", stage.registry.origin.journal());
        assert!(stage.tasks.offer(&stage.request.fetch.url).is_err() && stage.tasks.held().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_meanwhile_has_the_rest_from_the_origin_by_its_own_request() {
    let stage = Stage::new(5);
    let mut half = good(&stage.cluster.blob);
    half.offers = Some(vec![0, 1, 2]);
    stage.cluster.put("half", half);
    stage.order(&["half"], &[]);
    let stage = Arc::new(stage);
    let mut taking = taken(&stage);
    stage.until("what there is", |stage| stage.cluster.asked_of("half") == 3).await;
    assert_eq!(asked(&stage), 0);
    let reader = stage.reader().await;
    stage
        .until("the scheduler knows better", |stage| {
            let seen = stage.cluster.seen();
            seen.told.iter().skip_while(|told| !told.no_origin).any(|told| !told.no_origin)
        })
        .await;
    stage.order(&["half"], &[3..u32::MAX]);
    stage.right(&read(reader).await);
    taking.join_next().await.unwrap().unwrap().unwrap();
    assert!(stage.sent() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_given_up_ends_the_download_and_the_next_goes_on() {
    let stage = Arc::new(Stage::new(5));
    let mut gated = good(&stage.cluster.blob);
    gated.odd = (3..5).map(|piece| (piece, Way::AfterGate)).collect();
    stage.cluster.put("gated", gated);
    stage.order(&["gated"], &[]);
    let mut taking = taken(&stage);
    stage.until("something is asked for", |stage| stage.cluster.asked_of("gated") >= 1).await;
    taking.shutdown().await;
    stage.until("nothing runs", |stage| stage.tasks.running() == 0).await;
    stage.cluster.gate.send_replace(true);
    let line = stage.cluster.scheduler();
    line.try_send(stage.cluster.orders(&["good"], &[])).unwrap();
    stage.tasks.take(&order(&stage), &|_| ()).await.unwrap();
    assert!(stage.cluster.asked_of("good") <= 5);
    assert_eq!(asked(&stage), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_in_use_leaves_for_an_order() {
    let stage = Stage::new(3);
    let room = stage.cluster.total() + 600_000;
    let stage = stage.small_store(room);
    let meta = TaskMeta::default().to_bytes();
    let other =
        stage.store.create("other".into(), meta, Some(700_000), std::time::SystemTime::now()).unwrap();
    other.append(0, &vec![1; 700_000]).unwrap();
    stage.order(&["good"], &[]);
    let refused = stage.tasks.take(&order(&stage), &|_| ()).await.unwrap_err();
    assert!(matches!(refused, TakeError::NoRoom { .. }), "{refused}");
    stage.store.remove(&other);
    stage.tasks.take(&order(&stage), &|_| ()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_for_another_length_brings_nothing() {
    let stage = Stage::new(3);
    stage.order(&["good"], &[]);
    let wrong = TakeOrder { total: stage.cluster.total() + 1, ..order(&stage) };
    stage.tasks.take(&wrong, &|_| ()).await.unwrap_err();
    assert_eq!(asked(&stage), 0);
    assert!(stage.tasks.held().is_empty());
}
