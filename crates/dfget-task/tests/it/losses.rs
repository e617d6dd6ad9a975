//! What goes away in the middle.

use std::collections::HashMap;

use dfget_task::Orders;
use dfget_testkit::{Cut, Reply};

use crate::cluster::{Way, good};
use crate::stage::{Stage, read};

#[tokio::test(flavor = "multi_thread")]
async fn peers_have_the_rest_where_the_origin_dies() {
    let stage = Stage::new(5);
    stage.registry.every_blob(|_| Reply::Cut(Cut::Reset));
    stage.order(&["good"], &[0..3]);
    stage.right(&stage.pull().await);
    assert!(stage.sent() < f64::EPSILON);
    assert!(stage.cluster.seen().told.iter().any(|told| told.no_origin));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_origin_and_peers_die_the_pull_ends_with_an_error() {
    for way in [Way::Broken, Way::Missing] {
        let stage = Stage::new(4);
        stage.registry.every_blob(|_| Reply::Cut(Cut::Reset));
        let mut dying = good(&stage.cluster.blob);
        dying.odd = HashMap::from([(2, way)]);
        stage.cluster.put("dying", dying);
        stage.order(&["dying"], &[1..2]);
        let got = stage.pull().await;
        assert!(got.broken.is_some(), "{way:?}");
        stage.until("the task ends", |stage| stage.tasks.running() == 0).await;
        stage.until("that is told", |stage| stage.cluster.seen().failed == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_download_and_its_place() {
    let stage = Stage::new(5);
    stage.cluster.put_two(3, Way::Silent, Way::Right);
    stage.order(&["one", "others"], &[]);
    let reader = stage.reader().await;
    stage
        .until("a piece", |stage| stage.cluster.seen().told.iter().any(|told| told.have.present() > 0))
        .await;
    drop(reader);
    stage.until("the end", |stage| stage.tasks.running() == 0).await;
    stage.until("the place is given up", |stage| stage.cluster.seen().failed == 1).await;
    stage.tasks.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_room_lets_the_bytes_through() {
    let stage = Stage::new(5).small_store(768 << 10);
    // Had it known the length, it would not have begun to store it.
    let orders = Orders { total: None, ..stage.cluster.orders(&["good"], &[]) };
    stage.line.try_send(orders).unwrap();
    stage.right(&stage.pull().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_that_leaves_the_store_in_the_middle_reaches_its_client() {
    let stage = Stage::new(5);
    stage.cluster.put_two(3, Way::AfterGate, Way::Right);
    stage.order(&["one", "others"], &[]);
    let reader = stage.reader().await;
    stage.until("pieces", |stage| stage.cluster.seen().told.iter().any(|told| told.have.present() > 1)).await;
    for entry in stage.store.entries() {
        stage.store.remove(&entry);
    }
    stage.cluster.gate.send_replace(true);
    stage.right(&read(reader).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_come_back_after_a_while_are_asked_again() {
    let stage = Stage::new(4);
    stage.registry.every_blob(|_| Reply::Cut(Cut::Reset));
    let mut broken = good(&stage.cluster.blob);
    broken.way = Way::Broken;
    stage.cluster.put("broken", broken);
    stage.order(&["broken"], &[]);
    let reader = stage.reader().await;
    stage
        .until("the loss is told", |stage| {
            stage.cluster.seen().told.iter().any(|told| !told.lost_hosts.is_empty())
        })
        .await;
    stage.order(&["good"], &[]);
    stage.right(&read(reader).await);
}
