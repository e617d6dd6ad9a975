//! A member with the cluster's key that lies. It costs time, and nothing else.

use dfget_testkit::cluster::assert_all_right;
use dfget_testkit::content::sha256;
use dfget_testkit::{Blob, Cluster};

use crate::evil::{Evil, Lie};
use crate::support::{in_namespace, pull, put, seal, setup, share_sent, until};

/// What became of the pulls of two nodes beside a liar and an honest holder.
struct Told {
    asked: usize,
    sent: f64,
    /// Lines in the logs of the two that name the liar and say that it is not asked any more.
    named: usize,
}

/// A member that is not quite like the others has what nobody else has any more.
fn beside_an_odd_one(lie: Lie) -> (Cluster, Blob, String, Evil) {
    let mut cluster = setup(3).start();
    let (blob, url) = put(&cluster, 8);
    cluster.node_mut(3).daemon.kill();
    let other = Evil::start(&cluster, 3, &blob, lie);
    (cluster, blob, url, other)
}

#[test]
fn a_clock_that_is_an_hour_off_is_no_reason_to_leave_a_member() {
    in_namespace(|| {
        let (cluster, blob, url, other) = beside_an_odd_one(Lie::ClockOfTheNextHour);
        seal(&cluster);
        pull(&cluster, 1..=2, &blob, &url);
        assert!(other.asked() > 0);
        assert!(!cluster.logs().contains("clock"), "{}", cluster.logs());
    });
}

#[test]
fn a_member_of_another_version_is_named_once_and_takes_part() {
    in_namespace(|| {
        let (mut cluster, blob, url, other) = beside_an_odd_one(Lie::Version);
        // Members ask each other soon after their start, and seldom later.
        cluster.node_mut(1).daemon.stop();
        cluster.node_mut(1).daemon.start_again();
        cluster.node(1).daemon.wait_for_log("runs dfget 99.1.2");
        seal(&cluster);
        until("the holder to be known", || {
            let answer = cluster.node(1).get(&url);
            (answer.status == 200 && answer.is_complete()).then_some(())
        });
        pull(&cluster, 1..=2, &blob, &url);
        assert!(other.asked() > 0);
        let name = format!("{}:65000 runs dfget 99.1.2", cluster.node(3).place.address());
        let said = cluster.node(1).daemon.log();
        assert_eq!(said.lines().filter(|line| line.contains(&name)).count(), 1, "{said}");
    });
}

#[test]
fn a_member_with_the_clock_of_another_day_is_refused_with_a_word_about_it_and_costs_no_pull() {
    in_namespace(|| {
        let (cluster, blob, url, other) = beside_an_odd_one(Lie::ClockOfAnotherDay);
        pull(&cluster, 1..=2, &blob, &url);
        assert_eq!(other.asked(), 0);
        let logs = cluster.node(1).daemon.everything_said() + &cluster.node(2).daemon.everything_said();
        let address = cluster.node(3).place.address().to_string();
        let told = |line: &&str| line.contains(&address) && line.contains("compare the clocks of both nodes");
        let told = logs.lines().filter(told).count();
        assert!((1..=20).contains(&told), "{told} lines\n{}", cluster.logs());
        assert!(share_sent(&cluster, &blob) <= 2.1);
    });
}

/// Two nodes pull at once what a third has and a fourth says it has. `exact`: their first answers are right, not only
/// not wrong.
fn beside(lie: Lie, exact: bool) -> Told {
    let mut cluster = setup(4).start();
    let (blob, url) = put(&cluster, 24);
    pull(&cluster, [1], &blob, &url);
    cluster.node_mut(4).daemon.kill();
    let evil = Evil::start(&cluster, 4, &blob, lie);
    let answers = cluster.get_at_once(2..=3, &url);
    if exact {
        assert_all_right(&answers, &blob.digest);
    }
    for answer in &answers {
        let well = answer.status == 200 && answer.is_complete();
        assert!(!well || sha256(&answer.body) == blob.digest, "{lie:?}: wrong bytes ended well");
        eprintln!("{lie:?}: status {}, {} bytes, {:?}", answer.status, answer.body.len(), answer.end);
    }
    until("the pulls to end right", || {
        let answers = cluster.get_at_once(2..=3, &url);
        answers.iter().all(|answer| answer.is_complete() && sha256(&answer.body) == blob.digest).then_some(())
    });
    let asked = evil.asked();
    assert!(
        asked > 0 || lie == Lie::Total || lie == Lie::EndlessWords,
        "nobody asked the liar: {}",
        cluster.logs()
    );
    let said = |number: usize| cluster.node(number).daemon.everything_said();
    let logs = said(2) + &said(3);
    let named =
        logs.lines().filter(|line| line.contains(&evil.id()) && line.contains("is not asked any more"));
    let named = named.count();
    let sent = share_sent(&cluster, &blob);
    eprintln!("{lie:?}: {asked} pieces asked of the liar, {named} lines name it");
    // Whoever found it out does not ask it for another content either.
    if named == 2 {
        let other = Blob::random(8 << 20, 99);
        let url = cluster.registry.put("public/blob", &other);
        drop(evil);
        let evil = Evil::start(&cluster, 4, &other, lie);
        pull(&cluster, 2..=3, &other, &url);
        assert_eq!(evil.asked(), 0, "a liar is asked again");
    }
    Told { asked, sent, named }
}

#[test]
fn wrong_bytes_with_the_right_sum_are_found_out() {
    in_namespace(|| {
        let told = beside(Lie::WrongBytes, false);
        assert!(told.named >= 1 && told.sent <= 5.1, "{} {}", told.named, told.sent);
    });
}

#[test]
fn wrong_bytes_and_lies_about_the_hashes_are_found_out() {
    in_namespace(|| {
        let told = beside(Lie::WrongBytesAndHashes, false);
        assert!(told.named >= 1 && told.sent <= 5.1, "{} {}", told.named, told.sent);
    });
}

#[test]
fn another_piece_for_the_one_that_is_asked_for_is_found_out() {
    in_namespace(|| {
        let told = beside(Lie::Replay, false);
        assert!(told.named >= 1 && told.sent <= 5.1, "{} {}", told.named, told.sent);
    });
}

/// Three nodes pull at once what only a liar says that it holds: they feed each other its bytes before anybody can
/// know that they are wrong.
#[test]
fn forged_bytes_that_spread_cost_one_more_download_of_all_and_are_blamed_on_the_liar_alone() {
    in_namespace(|| {
        let mut cluster = setup(4).start();
        let (blob, url) = put(&cluster, 48);
        cluster.node_mut(4).daemon.kill();
        let evil = Evil::start(&cluster, 4, &blob, Lie::WrongBytes);
        for answer in cluster.get_at_once(1..=3, &url) {
            let well = answer.status == 200 && answer.is_complete();
            assert!(!well || sha256(&answer.body) == blob.digest, "wrong bytes ended well");
            eprintln!("status {}, {} bytes, {:?}", answer.status, answer.body.len(), answer.end);
        }
        until("the pulls to end right", || {
            let answers = cluster.get_at_once(1..=3, &url);
            let right =
                answers.iter().all(|answer| answer.is_complete() && sha256(&answer.body) == blob.digest);
            right.then_some(())
        });
        let asked = evil.asked();
        assert!(asked > 0, "nobody asked the liar: {}", cluster.logs());
        let sent = share_sent(&cluster, &blob);
        let logs: String = (1..=3).map(|number| cluster.node(number).daemon.everything_said()).collect();
        let blamed: Vec<&str> = logs.lines().filter(|line| line.contains("is not asked any more")).collect();
        eprintln!("{asked} units asked of the liar, {} lines blame", blamed.len());
        assert!(!blamed.is_empty() && blamed.iter().all(|line| line.contains(&evil.id())), "{blamed:#?}");
        assert!(sent <= 1.2, "the registry sent {sent} x: {logs}");
        // It is left: a second content is not asked of it by those that found it out.
        drop(evil);
        let other = Blob::random(8 << 20, 99);
        let url = cluster.registry.put("public/blob", &other);
        let evil = Evil::start(&cluster, 4, &other, Lie::WrongBytes);
        pull(&cluster, 1..=3, &other, &url);
        let asked = evil.asked();
        assert!(asked == 0 || blamed.len() < 3, "a liar is asked again: {asked}");
    });
}

/// The lies that a child sees before it takes a byte: the liar is asked once by each.
fn seen_at_once(lie: Lie) {
    let told = beside(lie, true);
    assert!(told.asked <= 2 && told.named >= 1, "{} {}", told.asked, told.named);
    assert!(told.sent <= 2.1, "{}", told.sent);
}

#[test]
fn another_length_is_seen_at_once() {
    in_namespace(|| seen_at_once(Lie::Length));
}

#[test]
fn another_place_is_seen_at_once() {
    in_namespace(|| seen_at_once(Lie::Offset));
}

#[test]
fn another_number_is_seen_at_once() {
    in_namespace(|| seen_at_once(Lie::Number));
}

#[test]
fn another_digest_is_seen_at_once() {
    in_namespace(|| seen_at_once(Lie::Digest));
}

#[test]
fn a_digest_in_hex_is_seen_at_once() {
    in_namespace(|| seen_at_once(Lie::DigestInHex));
}

#[test]
fn a_frame_of_4_gib_is_not_read() {
    in_namespace(|| seen_at_once(Lie::FrameOf4GiB));
}

#[test]
fn a_piece_of_4_gib_is_not_read() {
    in_namespace(|| seen_at_once(Lie::PieceOf4GiB));
}

/// The lies that cost a time-out: the liar is left for others, and the pulls are right at the first try.
fn left(lie: Lie) {
    let told = beside(lie, true);
    assert!(told.sent <= 2.1, "{}", told.sent);
}

#[test]
fn what_is_claimed_and_missing_is_fetched_elsewhere() {
    in_namespace(|| left(Lie::Missing));
}

#[test]
fn bytes_without_end_after_a_piece_are_not_read() {
    in_namespace(|| left(Lie::EndlessPiece));
}

#[test]
fn a_silent_liar_is_left() {
    in_namespace(|| left(Lie::Silent));
}

#[test]
fn a_liar_that_drips_is_left() {
    in_namespace(|| left(Lie::Drip));
}

#[test]
fn another_length_of_the_content_is_not_believed() {
    // Who is told another length than the registry tells goes to the registry, each by itself.
    in_namespace(|| {
        let told = beside(Lie::Total, true);
        assert!(told.sent <= 3.1, "{}", told.sent);
    });
}

#[test]
fn words_without_end_are_not_listened_to() {
    in_namespace(|| left(Lie::EndlessWords));
}
