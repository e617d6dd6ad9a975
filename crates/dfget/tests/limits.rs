//! `download.totalRateLimit` and `download.perTaskRateLimit`. How much is let through when is proved in `dfget-core`
//! in simulated time; here, that every way from an origin goes through it, and that who waits hurts nobody.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use dfget_testkit::{Answer, Blob, Origin, Request, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const MIB: usize = 1 << 20;
/// At the rates below it takes minutes.
const HUGE: usize = 64 * MIB;

/// The counter of reads that had to wait.
fn held_up(stage: &Stage) -> u64 {
    let log = stage.daemon.log();
    let (_, rest) = log.split_once("serve health and metrics at tcp://").expect("the log names the address");
    let address =
        rest.split(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).next().expect("an address");
    let mut stream = TcpStream::connect(address).expect("the port is open");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("taken");
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).expect("an answer");
    let line = metrics.lines().find_map(|line| line.strip_prefix("dfget_limited_reads_total "));
    line.expect("the counter").trim().parse().expect("a number")
}

fn limited(lines: &str) -> Stage {
    Stage::with(DFGET, |options| options.extra(&format!("download: {{{lines}}}")))
}

#[test]
fn a_download_that_waits_for_its_turn_holds_up_no_other() {
    for shaper in ["plain", "sampling"] {
        let stage = limited(&format!("totalRateLimit: 256Ki, trafficShaperType: {shaper}, prefetch: false"));
        let (huge, small) = (Blob::random(HUGE, 1), Blob::random(20_000, 2));
        let (huge_url, small_url) = (stage.registry.put(IMAGE, &huge), stage.registry.put(IMAGE, &small));
        let mut connections: Vec<_> =
            (0..2).map(|_| stage.client().open(&huge_url).expect("an answer").expect("granted")).collect();
        let mut incoming: Vec<_> = connections
            .iter_mut()
            .map(|connection| connection.start(&Request::get(&huge_url)).expect("a head"))
            .collect();
        for incoming in &mut incoming {
            assert!(incoming.read(1000) == huge.bytes[..1000], "{shaper}: all have begun");
        }
        assert!(stage.get(&small_url).body == small.bytes[..], "{shaper}");
        let asked = stage.registry.origin.asked("GET", &huge.digest);
        assert!(asked.len() == 1 && asked[0].outcome.is_none(), "{shaper}: it goes on: {asked:?}");
        assert!(held_up(&stage) > 0, "{shaper}");
    }
}

#[test]
fn waiting_for_the_limit_is_no_stall_of_the_origins() {
    // A read is granted every two seconds, an origin is given up after one.
    let stage = limited("perTaskRateLimit: 32Ki, stallTimeout: 1s");
    let blob = Blob::random(140_000, 3);
    let url = stage.registry.put(IMAGE, &blob);
    assert!(stage.get(&url).body == blob.bytes[..]);
    assert_eq!(stage.registry.origin.asked("GET", &blob.digest).len(), 1, "asked once");
    assert!(!stage.daemon.log().contains("download interrupted"));
    assert!(held_up(&stage) > 0);
}

#[test]
fn a_client_with_a_stream_of_its_own_is_limited_too() {
    let stage = limited("perTaskRateLimit: 128Ki");
    let huge = Blob::random(HUGE, 4);
    let (bytes, tag) = (huge.bytes.clone(), "\"1\"");
    let origin = Origin::https(&stage.ca, move |request| {
        // Without a validator it is not stored.
        let answer = Answer::new(200).body(bytes.clone());
        if request.target.contains("tagged") { answer.header("ETag", tag).into() } else { answer.into() }
    });
    let begin = |request: &Request, what: &str| {
        let before = held_up(&stage);
        let mut connection = stage.client().open(&origin.url("/")).expect("an answer").expect("granted");
        let mut incoming = connection.start(request).expect("a head");
        // More than is let through at once.
        assert!(incoming.read(130_000) == huge.bytes[..130_000], "{what}");
        assert!(held_up(&stage) > before, "{what}");
    };
    begin(&Request::get(origin.url("/files/tagged")), "a task");
    begin(&Request::get(origin.url("/files/plain")), "not stored");
    let conditional = Request::get(origin.url("/files/other")).header("If-None-Match", "\"2\"");
    let named = conditional.header("X-Dragonfly-Digest", huge.digest.clone());
    begin(&named, "the client's own request, verified");
}

#[test]
fn what_is_only_forwarded_is_not_limited() {
    let stage = limited("totalRateLimit: 1");
    let blob = Blob::random(4 * MIB, 5);
    let bytes = blob.bytes.clone();
    let origin = Origin::https(&stage.ca, move |_| Answer::new(200).body(bytes.clone()).into());
    assert!(stage.get(&origin.url("/other/file")).body == blob.bytes[..]);
    assert_eq!(held_up(&stage), 0);
}

#[test]
fn a_download_that_a_limit_slows_is_not_split() {
    let stage = limited("perTaskRateLimit: 256Ki, concurrent: {thresholdSize: 1Mi}");
    let blob = Blob::random(HUGE, 6);
    let url = stage.registry.put(IMAGE, &blob);
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    let mut incoming = connection.start(&Request::get(&url)).expect("a head");
    // By then it has been looked at, as it was more than a second at this rate.
    assert!(incoming.read(600_000) == blob.bytes[..600_000]);
    assert_eq!(stage.registry.origin.asked("GET", &blob.digest).len(), 1);
    assert!(!stage.daemon.log().contains("ranges at once"));
}
