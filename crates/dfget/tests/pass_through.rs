//! What is no task: tunnels, pushes, HEAD, token calls and every host and path that no rule names. It passes in both
//! directions as it is, byte by byte.

use dfget_testkit::{
    Answer, Blob, Client, Cut, End, Gate, Origin, Registry, Reply, Request, Response, Stage, h2,
};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";

#[test]
fn a_host_that_is_not_hijacked_keeps_its_own_certificate() {
    let stage = Stage::with(DFGET, |options| options.hosts("[{regx: 'registry\\.test'}]"));
    let blob = Blob::random(100_000, 1);
    let url = stage.registry.put(IMAGE, &blob);
    assert!(stage.client().open(&url).is_err(), "the tunnel is blind: no leaf of the hijack here");
    let direct = Client::new(stage.daemon.address(), stage.ca.client_config(&[]));
    for turn in 1..=2 {
        let response = direct.fetch(&Request::get(&url)).expect("an answer");
        assert!(response.status == 200 && response.body == blob.bytes[..]);
        assert_eq!(stage.registry.downloads(&blob.digest), turn, "nothing is kept of what is not seen");
    }
}

#[test]
fn a_tunnel_carries_any_protocol_and_each_direction_ends_for_itself() {
    use std::io::{Read as _, Write as _};
    let stage = Stage::with(DFGET, |options| options.hosts("[{regx: 'registry\\.test'}]"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let authority = listener.local_addr().expect("an address").to_string();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the daemon comes");
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).expect("until the client is done");
        heard.reverse();
        stream.write_all(&heard).expect("the other direction is still open");
    });
    let mut wire = stage.client().connect(&authority).expect("an answer").expect("granted");
    wire.write_all(b"\x00\x01\x02 not http").expect("it is taken");
    wire.finish().expect("this direction ends");
    let mut answer = Vec::new();
    wire.read_to_end(&mut answer).expect("the other goes on");
    assert_eq!(answer, b"ptth ton \x02\x01\x00");
    echo.join().expect("the echo ends");
}

#[test]
fn absolute_form_requests_are_served_and_matched_by_the_rules() {
    let stage = Stage::new(DFGET);
    let registry = Registry::plain();
    let blob = Blob::random(300_000, 2);
    let url = registry.put(IMAGE, &blob);
    for turn in ["cold", "warm"] {
        let response = stage.get(&url);
        assert_eq!(response.status, 200, "{turn}: {}", response.text());
        assert!(response.is_complete() && response.body == blob.bytes[..], "{turn}");
    }
    assert_eq!(registry.downloads(&blob.digest), 1);
    let ping = stage.get(&registry.origin.url("/v2/"));
    assert_eq!((ping.status, ping.text().as_str()), (200, "{}"));
    let asked = registry.origin.asked("GET", "/v2/");
    assert!(asked.iter().all(|entry| entry.target.starts_with('/')), "origins are asked in origin form");
}

#[test]
fn what_is_between_client_and_proxy_stays_there() {
    let stage = Stage::new(DFGET);
    let registry = Registry::plain();
    let request = Request::get(registry.origin.url("/v2/"))
        .header("Proxy-Authorization", "Basic bGVhc2U6c2VjcmV0")
        .header("Proxy-Connection", "keep-alive")
        .header("Connection", "X-Only-Here, close")
        .header("X-Only-Here", "1")
        .header("X-Further", "2")
        .header("TE", "trailers");
    assert_eq!(stage.fetch(&request).status, 200);
    let asked = registry.origin.journal();
    for name in ["proxy-authorization", "proxy-connection", "x-only-here", "te", "keep-alive"] {
        assert_eq!(asked[0].headers.get(name), None, "{name}");
    }
    assert_eq!(asked[0].headers.get("x-further"), Some("2"));
    for name in ["x-forwarded-for", "traceparent", "forwarded"] {
        assert_eq!(asked[0].headers.get(name), None, "{name}: the origin learns nothing of the node");
    }
    // For loops to be found; it names no node.
    let via = asked[0].headers.get("via").unwrap_or_default();
    let pseudonym = via.strip_prefix("1.1 dfget-").expect("who forwards in plain text signs");
    assert!(pseudonym.len() == 16 && pseudonym.bytes().all(|byte| byte.is_ascii_hexdigit()), "{via}");
}

#[test]
fn an_absolute_form_request_to_a_dead_host_is_a_502_with_the_cause() {
    let stage = Stage::new(DFGET);
    let origin = Origin::plain(|_| Answer::new(200).into());
    origin.go_down();
    let response = stage.get(&origin.url("/v2/"));
    assert_eq!(response.status, 502);
    assert!(response.text().contains(&origin.authority()), "{}", response.text());
}

#[test]
fn a_push_through_the_proxy_arrives() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(3 << 20, 3);
    let origin = &stage.registry.origin;
    let mut connection = stage.client().open(&origin.url("/")).expect("an answer").expect("granted");
    let mut send = |method: &str, path: &str, body: &[u8]| {
        connection.fetch(&Request::new(method, origin.url(path)).body(body)).expect("an answer")
    };
    let head = send("HEAD", &format!("/v2/{IMAGE}/blobs/{}", blob.digest), b"");
    assert_eq!(head.status, 404, "a push asks first whether it is there");
    let post = send("POST", &format!("/v2/{IMAGE}/blobs/uploads/"), b"");
    assert_eq!((post.status, post.header("location")), (202, Some("/v2/lab/image/blobs/uploads/1")));
    let patch = send("PATCH", &format!("/v2/{IMAGE}/blobs/uploads/1"), &blob.bytes);
    assert_eq!((patch.status, patch.header("range")), (202, Some("0-3145727")));
    let put = send("PUT", &format!("/v2/{IMAGE}/blobs/uploads/1?digest={}", blob.digest), b"");
    assert_eq!(put.status, 201);
    let manifest = send("PUT", &format!("/v2/{IMAGE}/manifests/4"), b"{\"schemaVersion\":2}");
    assert_eq!(manifest.status, 201);
    let head = send("HEAD", &format!("/v2/{IMAGE}/blobs/{}", blob.digest), b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("3145728")));
    assert!(stage.get(&stage.registry.blob_url(IMAGE, &blob.digest)).body == blob.bytes[..]);
}

#[test]
fn the_body_of_a_push_streams() {
    let stage = Stage::new(DFGET);
    let origin = &stage.registry.origin;
    for framing in ["Content-Length: 200000", "Transfer-Encoding: chunked"] {
        let (name, value) = framing.split_once(": ").expect("a field");
        let seen = origin.journal().len();
        let mut connection = stage.client().open(&origin.url("/")).expect("an answer").expect("granted");
        let request = Request::new("PATCH", origin.url("/v2/lab/image/blobs/uploads/1")).header(name, value);
        connection.send_head(&request).expect("it is taken");
        let half = vec![7; 100_000];
        let send_half = |connection: &mut dfget_testkit::Connection| {
            if value == "chunked" {
                connection.send(b"186a0\r\n").expect("it is taken");
            }
            connection.send(&half).expect("it is taken");
            if value == "chunked" {
                connection.send(b"\r\n").expect("it is taken");
            }
        };
        send_half(&mut connection);
        origin.wait_until("half of the body is there", |journal| {
            journal.get(seen).is_some_and(|entry| entry.body_received == 100_000)
        });
        send_half(&mut connection);
        if value == "chunked" {
            connection.send(b"0\r\n\r\n").expect("it is taken");
        }
        let response = connection.receive("PATCH").expect("an answer").read_all();
        assert_eq!(response.status, 202, "{framing}");
        assert_eq!(origin.journal()[seen].body_received, 200_000, "{framing}");
    }
}

#[test]
fn the_body_of_a_forwarded_answer_streams() {
    let stage = Stage::new(DFGET);
    let gate = Gate::new();
    let held = gate.clone();
    let body = Blob::random(1 << 20, 4);
    let bytes = body.bytes.clone();
    let origin = Origin::https(&stage.ca, move |_| {
        Answer::new(200).header("X-Note", "kept").body(bytes.clone()).hold_after(10, &held).into()
    });
    let url = origin.url("/no/rule/names/this");
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    let mut incoming = connection.start(&Request::get(&url)).expect("a head");
    assert_eq!(incoming.head.headers.get("x-note"), Some("kept"));
    assert!(incoming.read(10) == body.bytes[..10], "the gate is closed, and yet");
    gate.open();
    let rest = incoming.read_all();
    assert!(rest.is_complete() && rest.body == body.bytes[10..]);
}

#[test]
fn a_forwarded_answer_that_breaks_off_breaks_off_for_the_client() {
    let stage = Stage::new(DFGET);
    for how in [Cut::Finish, Cut::Fin, Cut::Reset] {
        let origin = Origin::https(&stage.ca, move |_| {
            Answer::new(200).body(Blob::random(100_000, 5).bytes).cut_after(50_000, how).into()
        });
        let response = stage.get(&origin.url("/no/rule/names/this"));
        assert!(!response.is_complete(), "{how:?}: {:?}", response.end);
        assert_ne!(response.end, End::Stalled, "{how:?}");
    }
    let origin = Origin::https(&stage.ca, |_| Reply::Raw(b"garbage\r\n\r\n".to_vec()));
    let response = stage.get(&origin.url("/no/rule/names/this"));
    assert_eq!(response.status, 502, "{}", response.text());
}

#[test]
fn a_head_is_the_origins_each_time() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(1234, 6);
    let head = Request::new("HEAD", stage.registry.blob_url(IMAGE, &blob.digest));
    assert_eq!(stage.fetch(&head).status, 404);
    stage.registry.put(IMAGE, &blob);
    let response = stage.fetch(&head);
    assert_eq!((response.status, response.header("content-length")), (200, Some("1234")));
    assert_eq!(response.header("docker-content-digest"), Some(blob.digest.as_str()));
    assert!(response.body.is_empty());
    assert_eq!(stage.registry.origin.asked("HEAD", &blob.digest).len(), 2);
}

#[test]
fn redirects_and_cookies_of_forwarded_requests_are_the_clients_business() {
    let stage = Stage::new(DFGET);
    let origin = Origin::https(&stage.ca, |_| {
        Answer::new(307)
            .header("Location", "https://elsewhere.test/x")
            .header("Set-Cookie", "a=1")
            .header("Set-Cookie", "b=2")
            .body(b"over there".to_vec())
            .into()
    });
    let response = stage.get(&origin.url("/v2/x/manifests/latest"));
    assert_eq!((response.status, response.text().as_str()), (307, "over there"));
    assert_eq!(response.header("location"), Some("https://elsewhere.test/x"));
    assert_eq!(response.headers.all("set-cookie").collect::<Vec<_>>(), ["a=1", "b=2"]);
}

#[test]
fn requests_on_one_connection_are_answered_one_after_another() {
    let stage = Stage::new(DFGET);
    let blobs: Vec<_> = (0..5).map(|seed| Blob::random(100_000, 50 + seed)).collect();
    let mut connection =
        stage.client().open(&stage.registry.origin.url("/")).expect("an answer").expect("granted");
    for round in 0..2 {
        for blob in &blobs {
            let url = stage.registry.put(IMAGE, blob);
            let response = connection.fetch(&Request::get(&url)).expect("an answer");
            assert!(response.status == 200 && response.body == blob.bytes[..], "round {round}");
        }
        let missing = connection.fetch(&Request::get(stage.registry.blob_url(IMAGE, "sha256:00")));
        assert_eq!(missing.expect("an answer").status, 404);
    }
}

#[test]
fn a_client_that_offers_both_protocols_gets_http_1() {
    let stage = Stage::new(DFGET);
    let url = stage.registry.origin.url("/");
    let chosen = |alpn: &[&str]| {
        let client = stage.daemon.client_offering(alpn);
        client.open(&url).expect("an answer").expect("granted").alpn()
    };
    assert_eq!(chosen(&["h2", "http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(chosen(&["h2"]).as_deref(), Some("h2"));
    assert_eq!(chosen(&["http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(chosen(&[]), None);
}

fn over_h2(stage: &Stage, requests: &[Request]) -> Vec<Response> {
    let answers = h2::fetch_all(&stage.client(), requests).expect("the proxy speaks h2");
    answers.into_iter().map(|answer| answer.expect("a head comes")).collect()
}

#[test]
fn http_2_inside_the_hijack_is_served_cold_warm_and_ranged() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(5 << 20, 7);
    let url = stage.registry.put(IMAGE, &blob);
    let mut downloads = Vec::new();
    for turn in ["cold", "warm"] {
        let requests = [
            Request::get(&url),
            Request::get(&url).range("bytes=4194300-4194310"),
            Request::get(stage.registry.blob_url(IMAGE, "sha256:00")),
            Request::new("HEAD", &url),
        ];
        let answers = over_h2(&stage, &requests);
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 206, 404, 200], "{turn}");
        assert!(answers.iter().all(Response::is_complete), "{turn}");
        assert!(answers[0].body == blob.bytes[..], "{turn}");
        assert!(answers[1].body == blob.bytes[4_194_300..=4_194_310], "{turn}");
        assert!(answers[2].text().contains("no such blob"), "{turn}: {}", answers[2].text());
        assert!(answers[3].body.is_empty(), "{turn}");
        downloads.push(stage.registry.downloads(&blob.digest));
    }
    assert_eq!(downloads[0], downloads[1], "the second turn was served from the store");
}

#[test]
fn a_push_over_http_2_arrives() {
    let stage = Stage::new(DFGET);
    let url = stage.registry.origin.url("/v2/lab/image/manifests/4");
    let put = Request::new("PUT", &url).body(b"{\"schemaVersion\":2}".as_slice());
    assert_eq!(over_h2(&stage, &[put])[0].status, 201);
    assert_eq!(stage.get(&url).text(), "{\"schemaVersion\":2}");
}

#[test]
fn a_wrong_blob_over_http_2_is_a_502_or_a_reset_stream_and_the_others_go_on() {
    let stage = Stage::new(DFGET);
    let good = Blob::random(300_000, 9);
    for len in [1000, 300_000] {
        let blob = Blob::random(len, 8);
        let wrong = stage.registry.put_as(IMAGE, &blob.digest, &blob.with_flipped_byte(5));
        let requests = [Request::get(wrong), Request::get(stage.registry.put(IMAGE, &good))];
        let answers = h2::fetch_all(&stage.client(), &requests).expect("answers");
        let [wrong, right] = answers.try_into().expect("as many answers as requests");
        assert!(
            wrong.is_err() || wrong.is_ok_and(|answer| answer.status == 502 || !answer.is_complete()),
            "{len}"
        );
        assert!(
            right.is_ok_and(|answer| answer.is_complete() && answer.body == good.bytes[..]),
            "{len} bytes"
        );
    }
}

#[test]
fn a_hijacked_connection_is_good_for_its_own_host_only() {
    let stage = Stage::new(DFGET);
    let other = Registry::https(&stage.ca);
    let mut connection =
        stage.client().open(&stage.registry.origin.url("/")).expect("an answer").expect("granted");
    let response = connection.fetch(&Request::get(other.origin.url("/v2/"))).expect("an answer");
    assert_eq!(response.status, 421);
    assert!(other.origin.journal().is_empty());
    let response = connection.fetch(&Request::get(stage.registry.origin.url("/v2/"))).expect("an answer");
    assert_eq!(response.status, 200, "the connection itself is still good");
}
