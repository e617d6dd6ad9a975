//! Peers that lie. Each pull ends right, or breaks where the client could see what was wrong; whoever
//! lied is named, and nobody else.

use dfget_core::ByteRange;

use crate::cluster::{Hashes, Way, good};
use crate::stage::{Got, Stage, read};

/// A swarm of five pieces in which `bad` alone offers pieces 1 and 2, sent in some wrong way, and what
/// holders say of the hashes.
fn stage(way: Way, holder: Hashes) -> Stage {
    let stage = Stage::new(5);
    let mut bad = good(&stage.cluster.blob);
    (bad.way, bad.offers, bad.complete, bad.hashes) = (way, Some(vec![1, 2]), false, Hashes::None);
    stage.cluster.put("bad", bad);
    let mut fair = good(&stage.cluster.blob);
    (fair.offers, fair.hashes) = (Some(vec![0, 3, 4]), holder);
    stage.cluster.put("fair", fair);
    stage.order(&["bad", "fair"], &[]);
    stage
}

/// Right, or not ended well.
fn right_or_broken(stage: &Stage, got: &Got) {
    if got.broken.is_none() {
        stage.right(got);
    }
    eprintln!("{} bytes, {:?}", got.bytes.len(), got.broken);
}

async fn found_out(stage: &Stage, most_sent: f64) {
    stage.until("the end", |stage| stage.tasks.running() == 0).await;
    assert!(stage.cluster.is_banned_now("bad"));
    assert_eq!(stage.cluster.seen().banned.len(), 1, "{:?}", stage.cluster.seen().banned);
    stage.until("the scheduler is told who", |stage| stage.cluster.was_told_of("bad")).await;
    stage.right(&stage.pull().await);
    assert!(stage.sent() <= most_sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_found_by_a_holders_hashes_and_replaced() {
    let stage = stage(Way::WrongBytes, Hashes::Right);
    right_or_broken(&stage, &stage.pull().await);
    found_out(&stage, 0.55).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_piece_in_the_place_of_one_is_found_out() {
    let stage = stage(Way::AnotherPiece, Hashes::Right);
    right_or_broken(&stage, &stage.pull().await);
    found_out(&stage, 0.55).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_blames_the_innocent_is_not_believed() {
    let stage = stage(Way::WrongBytes, Hashes::BlamesPieceZero);
    right_or_broken(&stage, &stage.pull().await);
    found_out(&stage, 0.8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_covers_up_costs_one_more_download() {
    let stage = stage(Way::WrongBytes, Hashes::CoversUp);
    right_or_broken(&stage, &stage.pull().await);
    found_out(&stage, 1.55).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_knows_the_hashes_everything_comes_anew() {
    let stage = stage(Way::WrongBytes, Hashes::None);
    right_or_broken(&stage, &stage.pull().await);
    found_out(&stage, 1.01).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_keeps_silent_holds_up_nobody_while_another_tells() {
    let stage = stage(Way::WrongBytes, Hashes::Silent);
    let mut knows = good(&stage.cluster.blob);
    knows.offers = Some(vec![]);
    stage.cluster.put("knows", knows);
    stage.order(&["bad", "fair", "knows"], &[]);
    right_or_broken(&stage, &stage.pull().await);
    found_out(&stage, 0.55).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_seen_to_be_wrong_at_once_costs_nothing() {
    let stage = stage(Way::SeenWrong, Hashes::Right);
    stage.order(&["bad", "fair", "good"], &[]);
    stage.right(&stage.pull().await);
    found_out(&stage, 0.55).await;
    assert_eq!(stage.cluster.asked_of("bad"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_names_another_length_is_not_asked() {
    let stage = Stage::new(4);
    let mut other = good(&stage.cluster.blob);
    other.total += 5;
    stage.cluster.put("other", other);
    stage.order(&["other", "good"], &[]);
    stage.right(&stage.pull().await);
    assert_eq!(stage.cluster.asked_of("other"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn parents_that_never_send_are_left_for_the_origin() {
    let stage = stage(Way::Silent, Hashes::Silent);
    stage.right(&stage.pull().await);
    assert!(stage.sent() < 0.6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_handed_out_only_once_what_peers_sent_is_proved() {
    let stage = Stage::new(5);
    stage.cluster.put_two(4, Way::AfterGate, Way::Right);
    stage.order(&["one", "others"], &[]);
    let whole = stage.reader().await;
    stage.until("pieces", |stage| stage.cluster.seen().told.iter().any(|told| told.have.contains(0))).await;
    let seat = stage.seat().await.unwrap();
    assert!(seat.is_unproven());
    drop(seat);
    let range = ByteRange { start: 0, end: 1000 };
    let part = stage.part(range);
    tokio::pin!(part);
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut part).await;
    assert!(early.is_err(), "unproven bytes left: {early:?}");
    stage.cluster.gate.send_replace(true);
    let part = part.await;
    assert_eq!(part.broken, None);
    assert!(part.bytes == stage.cluster.blob.bytes[..1000]);
    stage.right(&read(whole).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_peers_sent_before_a_restart_is_as_unproven_after_it() {
    let mut stage = Stage::new(5);
    stage.cluster.put_two(4, Way::Silent, Way::WrongBytes);
    stage.order(&["one", "others"], &[]);
    let whole = stage.reader().await;
    stage.until("pieces", |stage| stage.cluster.seen().told.iter().any(|told| told.have.contains(0))).await;
    drop(whole);
    stage.until("the end", |stage| stage.tasks.running() == 0).await;
    stage.restart().await;
    let seat = stage.seat().await.unwrap();
    assert!(seat.is_unproven(), "bytes of a peer that nothing has proved");
    drop(seat);
    stage.until("the end", |stage| stage.tasks.running() == 0).await;
    // And who wants the whole is not told that it is right: nobody knows any more who sent what.
    right_or_broken(&stage, &stage.pull().await);
    stage.until("the end", |stage| stage.tasks.running() == 0).await;
    stage.right(&stage.pull().await);
}
