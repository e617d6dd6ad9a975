//! Peers that lie. Each pull ends right, or breaks where the client could see what was wrong; whoever
//! lied is named, and nobody else.

use dfget_core::ByteRange;
use dfget_testkit::{Cut, Reply};

use crate::cluster::{Hashes, Line, Way, good};
use crate::stage::{Got, Stage, read};

/// A swarm of five pieces in which `bad` alone offers pieces 1 and 2, sent in some wrong way though it says that it
/// has verified all, and what holders say of the hashes.
fn stage(way: Way, holder: Hashes) -> Stage {
    let stage = Stage::new(5);
    let mut bad = good(&stage.cluster.blob);
    (bad.way, bad.offers, bad.hashes) = (way, Some(vec![1, 2]), Hashes::None);
    stage.cluster.put("bad", bad);
    let mut fair = good(&stage.cluster.blob);
    (fair.offers, fair.hashes) = (Some(vec![0, 3, 4]), holder);
    stage.cluster.put("fair", fair);
    stage.order(&["bad", "fair"], &[]);
    stage
}

/// What the scheduler says when the node begins anew.
fn then(stage: &Stage, parents: &[&str], origin: &[std::ops::Range<u32>]) -> Line {
    let line = stage.cluster.scheduler();
    line.try_send(stage.cluster.orders(parents, origin)).unwrap();
    line
}

/// Right, or not ended well.
fn right_or_broken(stage: &Stage, got: &Got) {
    if got.broken.is_none() {
        stage.right(got);
    }
    eprintln!("{} bytes, {:?}", got.bytes.len(), got.broken);
}

/// Pulls until it is right; these are banned then, and the scheduler knows why; the registry has sent no more than
/// so many times the content.
async fn found_out(stage: &Stage, liars: &[&str], most_sent: f64) {
    right_or_broken(stage, &stage.pull().await);
    stage.until("the end", |stage| stage.tasks.running() == 0).await;
    let mut banned: Vec<String> = stage.cluster.seen().banned.iter().map(ToString::to_string).collect();
    banned.sort_unstable();
    assert_eq!(banned, liars);
    for liar in liars {
        stage.until("the scheduler is told who", |stage| stage.cluster.was_told_of(liar)).await;
    }
    stage.right(&stage.pull().await);
    assert!(stage.sent() <= most_sent);
}

/// One piece of five, the last of which is short.
const PIECE: f64 = 0.25;

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_found_by_a_holders_hashes_and_come_from_another_holder() {
    for way in [Way::WrongBytes, Way::AnotherPiece] {
        let stage = stage(way, Hashes::Right);
        let _then = then(&stage, &["bad", "fair", "good"], &[]);
        // One piece is settled at the origin, the other one comes from a peer.
        found_out(&stage, &["bad"], PIECE).await;
        let seen = stage.cluster.seen();
        assert_eq!(seen.asked.iter().filter(|(host, _)| host == "good").count(), 1);
        assert_eq!(seen.asked.iter().filter(|(host, _)| host == "bad").count(), 2);
        assert_eq!(seen.joins.len(), 2);
        assert_eq!(seen.joins[1].have.present(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_other_peer_has_comes_from_the_origin_and_no_more() {
    let stage = stage(Way::WrongBytes, Hashes::Right);
    let _then = then(&stage, &["bad", "fair"], &[1..3]);
    found_out(&stage, &["bad"], 2.0 * PIECE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_origin_wrong_pieces_are_mended_by_peers() {
    let stage = stage(Way::WrongBytes, Hashes::Right);
    stage.registry.every_blob(|_| Reply::Cut(Cut::Reset));
    let _then = then(&stage, &["bad", "fair", "good"], &[]);
    found_out(&stage, &["bad"], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_shunned_until_it_has_begun_anew_and_is_not_blamed() {
    let stage = Stage::new(5);
    let mut relay = good(&stage.cluster.blob);
    (relay.way, relay.complete, relay.hashes) = (Way::WrongBytes, false, Hashes::None);
    stage.cluster.put("relay", relay.clone());
    stage.order(&["relay"], &[0..1]);
    let line = then(&stage, &["relay"], &[]);
    let reader = stage.reader().await;
    let script = async {
        stage.until("it begins anew", |stage| stage.cluster.seen().joins.len() == 2).await;
        // What came from the origin is kept, and handed on.
        stage
            .until("it is told", |stage| {
                stage.cluster.seen().told.last().is_some_and(|told| told.have.contains(0))
            })
            .await;
        let before = stage.cluster.asked_of("relay");
        let listened = stage.cluster.seen().listened.len();
        let (holding, _) = stage.tasks.holding(stage.request.id.as_str()).unwrap();
        assert_eq!(holding.round, 1);
        // It has found out, too.
        (relay.way, relay.attempt) = (Way::Right, 1);
        stage.cluster.put("relay", relay);
        line.try_send(stage.cluster.orders(&["relay"], &[])).unwrap();
        (before, listened)
    };
    let (got, (before, listened)) = tokio::join!(read(reader), script);
    right_or_broken(&stage, &got);
    stage.until("the end", |stage| stage.tasks.running() == 0).await;
    stage.right(&stage.pull().await);
    assert_eq!((before, listened), (4, 1), "a relay that had not begun anew was asked");
    assert!(stage.cluster.asked_of("relay") > before);
    assert!(stage.cluster.seen().banned.is_empty());
    assert!(stage.cluster.seen().passed.iter().all(|host| host == "relay"));
    assert!(!stage.cluster.seen().passed.is_empty());
    // Of the first piece, and one of those that were wrong.
    assert!(stage.sent() <= 2.0 * PIECE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_has_verified_the_content_meanwhile_is_asked_again() {
    let stage = Stage::new(5);
    let mut relay = good(&stage.cluster.blob);
    (relay.way, relay.complete, relay.hashes) = (Way::WrongBytes, false, Hashes::None);
    stage.cluster.put("relay", relay.clone());
    stage.order(&["relay"], &[]);
    let line = then(&stage, &["relay"], &[]);
    let reader = stage.reader().await;
    let script = async {
        stage.until("it begins anew", |stage| stage.cluster.seen().joins.len() == 2).await;
        (relay.way, relay.complete, relay.hashes) = (Way::Right, true, Hashes::Right);
        stage.cluster.put("relay", relay);
        line.try_send(stage.cluster.orders(&["relay"], &[])).unwrap();
    };
    let (got, ()) = tokio::join!(read(reader), script);
    right_or_broken(&stage, &got);
    stage.until("the end", |stage| stage.tasks.running() == 0).await;
    stage.right(&stage.pull().await);
    assert!(stage.cluster.seen().banned.is_empty());
    assert!(stage.sent() <= PIECE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_has_not_begun_anew_is_not_asked_by_one_that_has() {
    let stage = stage(Way::WrongBytes, Hashes::None);
    let mut late = good(&stage.cluster.blob);
    (late.way, late.complete) = (Way::WrongBytes, false);
    stage.cluster.put("late", late);
    let _then = then(&stage, &["late", "fair"], &[1..3]);
    found_out(&stage, &["bad"], 4.0 * PIECE).await;
    assert_eq!(stage.cluster.asked_of("late"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_blames_the_innocent_is_not_believed() {
    let stage = stage(Way::WrongBytes, Hashes::BlamesPieceZero);
    let _then = then(&stage, &["bad", "fair", "good"], &[]);
    found_out(&stage, &["bad", "fair"], 2.0 * PIECE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_covers_up_is_found_out() {
    let stage = stage(Way::WrongBytes, Hashes::CoversUp);
    let _then = then(&stage, &["bad", "fair", "good"], &[]);
    found_out(&stage, &["bad", "fair"], 2.0 * PIECE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_knows_the_hashes_the_senders_are_tested_at_the_origin() {
    let stage = stage(Way::WrongBytes, Hashes::None);
    let _then = then(&stage, &["bad", "fair"], &[1..3]);
    found_out(&stage, &["bad"], 3.0 * PIECE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn liars_that_never_say_they_have_verified_anything_are_believed_twice_and_no_other_is_blamed() {
    let stage = Stage::new(5);
    let mut liar = good(&stage.cluster.blob);
    (liar.way, liar.complete, liar.attempt) = (Way::WrongBytes, false, 1);
    liar.hashes = Hashes::None;
    let mut lines = Vec::new();
    for (round, name) in ["first", "second", "third"].into_iter().enumerate() {
        stage.cluster.put(name, liar.clone());
        match round {
            0 => stage.order(&[name], &[]),
            1 => lines.push(then(&stage, &[name], &[])),
            // The scheduler has one of those fetch all that want proof.
            _ => lines.push(then(&stage, &[name], &[0..u32::MAX])),
        }
    }
    found_out(&stage, &[], 1.0 + 2.0 * PIECE).await;
    let wants: Vec<bool> = stage.cluster.seen().joins.iter().map(|join| join.wants_proof).collect();
    assert_eq!(wants, [false, false, true]);
    assert_eq!(stage.cluster.asked_of("third"), 0);
    let passed = stage.cluster.seen().passed.clone();
    assert!(["first", "second"].iter().all(|name| passed.iter().any(|host| host == name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_without_proof_takes_what_a_holder_proves_and_finds_out_who_forges_proofs() {
    let stage = Stage::new(5);
    let mut liar = good(&stage.cluster.blob);
    (liar.way, liar.complete, liar.attempt, liar.hashes) = (Way::WrongBytes, false, 1, Hashes::None);
    for name in ["first", "second", "third"] {
        stage.cluster.put(name, liar.clone());
    }
    let mut forger = good(&stage.cluster.blob);
    (forger.way, forger.hashes) = (Way::WrongBytes, Hashes::CoversUp);
    stage.cluster.put("forger", forger);
    stage.order(&["first"], &[]);
    let _then = then(&stage, &["second"], &[]);
    let line = then(&stage, &["forger", "third"], &[]);
    let reader = stage.reader().await;
    let script = async {
        stage.until("the forger is found out", |stage| stage.cluster.is_banned_now("forger")).await;
        line.try_send(stage.cluster.orders(&["forger", "third", "good"], &[])).unwrap();
    };
    let (got, ()) = tokio::join!(read(reader), script);
    right_or_broken(&stage, &got);
    stage.until("the end", |stage| stage.tasks.running() == 0).await;
    stage.right(&stage.pull().await);
    assert_eq!(stage.cluster.seen().banned.len(), 1);
    assert_eq!(stage.cluster.asked_of("forger"), 0);
    // Once hashes tell what is right, it does no harm to ask whoever may know.
    assert!(stage.cluster.asked_of("third") <= 1);
    // What the senders were tested by, and what the third sent.
    assert!(stage.sent() <= 3.0 * PIECE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_keeps_silent_holds_up_nobody_while_another_tells() {
    let stage = stage(Way::WrongBytes, Hashes::Silent);
    let mut knows = good(&stage.cluster.blob);
    knows.offers = Some(vec![]);
    stage.cluster.put("knows", knows);
    stage.order(&["bad", "fair", "knows"], &[]);
    let _then = then(&stage, &["bad", "fair", "knows"], &[1..3]);
    found_out(&stage, &["bad"], 2.0 * PIECE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_seen_to_be_wrong_at_once_costs_nothing() {
    let stage = stage(Way::SeenWrong, Hashes::Right);
    stage.order(&["bad", "fair", "good"], &[]);
    stage.right(&stage.pull().await);
    found_out(&stage, &["bad"], 0.0).await;
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
