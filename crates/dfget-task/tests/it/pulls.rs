//! Where everybody does what is asked.

use dfget_task::Orders;

use crate::cluster::{Way, good};
use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn all_comes_from_peers_and_is_told_and_kept() {
    let stage = Stage::new(5);
    stage.order(&["good"], &[]);
    stage.right(&stage.pull().await);
    assert!(stage.sent() < f64::EPSILON);
    stage.until("the scheduler is told the end", |stage| stage.cluster.seen().finished == 1).await;
    assert_eq!(stage.cluster.seen().held.len(), 1);
    assert_eq!(stage.cluster.seen().held[0].total, stage.cluster.total());
    stage.right(&stage.pull().await);
    assert_eq!(stage.cluster.asked_of("good"), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_origin_sends_what_is_granted_and_no_more() {
    let stage = Stage::new(5);
    let mut half = good(&stage.cluster.blob);
    half.offers = Some(vec![0, 3, 4]);
    stage.cluster.put("half", half);
    stage.order(&["half"], &[1..3]);
    stage.right(&stage.pull().await);
    assert_eq!(stage.registry.origin.body_bytes(&stage.cluster.blob.digest), 1 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_change_while_the_download_runs() {
    let stage = Stage::new(5);
    let mut none = good(&stage.cluster.blob);
    none.offers = Some(vec![]);
    stage.cluster.put("none", none);
    stage.order(&["none"], &[0..2]);
    let reader = stage.reader().await;
    stage
        .until("the first pieces", |stage| {
            stage.cluster.seen().told.iter().any(|told| told.have.contains(0) && told.have.contains(1))
        })
        .await;
    stage.order(&["none"], &[4..5]);
    stage
        .until("the last piece", |stage| stage.cluster.seen().told.iter().any(|told| told.have.contains(4)))
        .await;
    assert!(stage.sent() < 0.6);
    stage.order(&["none"], &[0..u32::MAX]);
    stage.right(&crate::stage::read(reader).await);
    assert!(stage.sent() < 1.01);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_length_may_be_learned_from_a_parent() {
    let stage = Stage::new(4);
    let orders = Orders { total: None, ..stage.cluster.orders(&["good"], &[]) };
    stage.line.try_send(orders).unwrap();
    stage.right(&stage.pull().await);
    assert!(stage.sent() < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_goes_is_replaced_by_the_next_which_is_told_what_is_here() {
    let mut stage = Stage::new(5);
    let mut half = good(&stage.cluster.blob);
    half.offers = Some(vec![0, 1]);
    stage.cluster.put("half", half);
    let next = stage.cluster.scheduler();
    stage.order(&["half"], &[]);
    let reader = stage.reader().await;
    stage
        .until("the first pieces", |stage| {
            stage.cluster.seen().told.iter().any(|told| told.have.contains(0) && told.have.contains(1))
        })
        .await;
    stage.line = next;
    stage.until("another scheduler is asked", |stage| stage.cluster.seen().joins.len() == 2).await;
    assert!(stage.cluster.seen().joins[1].have.contains(1));
    stage.order(&["half", "good"], &[]);
    stage.right(&crate::stage::read(reader).await);
    stage.until("the end is told", |stage| stage.cluster.seen().finished == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_scheduler_everything_comes_from_the_origin() {
    let stage = Stage::new(3);
    // It is there, and says nothing.
    stage.right(&stage.pull().await);
    assert!((stage.sent() - 1.0).abs() < 0.01);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_without_what_it_offers_costs_no_pull() {
    let stage = Stage::new(4);
    let mut forgetful = good(&stage.cluster.blob);
    forgetful.way = Way::Missing;
    stage.cluster.put("forgetful", forgetful);
    stage.order(&["forgetful", "good"], &[]);
    stage.right(&stage.pull().await);
    assert!(!stage.cluster.is_banned_now("forgetful"));
}
