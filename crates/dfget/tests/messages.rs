//! Messages as RFC 9110 and RFC 9112 have them, by raw sockets: what is hop by hop and what is not, expectations, trailer
//! fields, and forms that are wrong or could be read in two ways, from clients and from origins.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dfget_testkit::{Answer, Blob, Cut, Origin, Registry, Reply, Request, Stage, h2};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";

/// An origin without TLS that takes one connection, and on it does what `script` says.
fn scripted<T: Send + 'static>(
    script: impl FnOnce(&mut TcpStream) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let authority = listener.local_addr().expect("an address").to_string();
    let played = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the daemon comes");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        script(&mut stream)
    });
    (authority, played)
}

/// Reads until what came ends with `end`, and returns it.
fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).expect("something comes"), 1, "{}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

fn dial(stage: &Stage) -> TcpStream {
    let stream = TcpStream::connect(stage.daemon.address()).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    stream
}

/// Sends bytes and reads all until the daemon ends the connection.
fn exchange(stage: &Stage, bytes: &[u8]) -> String {
    let mut stream = dial(stage);
    // An answer may come, and the connection end, before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    // What has been sent in vain may end it by a reset.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or_default()
}

fn answers_in(bytes: &str) -> usize {
    bytes.lines().filter(|line| line.starts_with("HTTP/1.1 ")).count()
}

/// The daemon still does its work.
fn assert_serves(stage: &Stage) {
    let url = stage.registry.put("other/image", &Blob::random(1000, 99));
    assert_eq!(stage.get(&url).status, 200);
}

/// The head of a request to be broken, in absolute form for the port and in origin form for the hijack; with `AUTHORITY`
/// and `TARGET` to be filled in.
type Broken = (&'static str, &'static [u8], u16);

const BROKEN: [Broken; 28] = [
    ("both lengths", b"POST TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("both lengths, the other way round", b"POST TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
    ("two lengths", b"POST TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    ("a list of lengths", b"POST TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nContent-Length: 3, 4\r\n\r\nabcd", 400),
    ("a signed length", b"POST TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nContent-Length: +3\r\n\r\nabc", 400),
    ("a length past 2^64", b"POST TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nContent-Length: 18446744073709551619\r\n\r\nabc", 400),
    ("chunked, but not last", b"POST TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    ("no chunks at all", b"POST TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nTransfer-Encoding: identity\r\n\r\nabc", 400),
    ("something like chunked", b"POST TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    ("chunked twice over", b"POST TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("another coding", b"POST TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("chunks in HTTP/1.0", b"POST TARGET HTTP/1.0\r\nHost: AUTHORITY\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("lines that end with LF alone", b"GET TARGET HTTP/1.1\nHost: AUTHORITY\n\n", 400),
    ("one line that ends with LF alone", b"GET TARGET HTTP/1.1\r\nX-A: b\nHost: AUTHORITY\r\n\r\n", 400),
    ("a first line that ends with CR alone", b"GET TARGET HTTP/1.1\rHost: AUTHORITY\r\n\r\n", 400),
    ("a space in the target", b"GET TARGET/a b HTTP/1.1\r\nHost: AUTHORITY\r\n\r\n", 400),
    ("a folded line", b"GET TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nX-A: b\r\n c\r\n\r\n", 400),
    ("a folded first line", b"GET TARGET HTTP/1.1\r\n Host: AUTHORITY\r\n\r\n", 400),
    ("a space before the colon", b"GET TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nContent-Length : 3\r\n\r\nabc", 400),
    ("no colon", b"GET TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nnonsense\r\n\r\n", 400),
    ("no name", b"GET TARGET HTTP/1.1\r\nHost: AUTHORITY\r\n: x\r\n\r\n", 400),
    ("a NUL in a value", b"GET TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nX-A: b\0c\r\n\r\n", 400),
    ("a bare CR in a value", b"GET TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nX-A: b\rX-B: c\r\n\r\n", 400),
    ("no host", b"GET TARGET HTTP/1.1\r\nX-A: b\r\n\r\n", 400),
    ("two hosts", b"GET TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nHost: other.test\r\n\r\n", 400),
    ("a host that is none", b"GET TARGET HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    ("an expectation that nobody knows", b"POST TARGET HTTP/1.1\r\nHost: AUTHORITY\r\nExpect: 200-ok\r\nContent-Length: 3\r\n\r\n", 417),
    ("a version to come", b"GET TARGET HTTP/3.1\r\nHost: AUTHORITY\r\n\r\n", 505),
];

fn filled(template: &[u8], authority: &str, target: &str) -> Vec<u8> {
    // The templates hold bytes that are no text, but nothing that is not Latin-1.
    let text: String = template.iter().copied().map(char::from).collect();
    text.replace("AUTHORITY", authority).replace("TARGET", target).chars().map(|c| c as u8).collect()
}

#[test]
fn a_broken_request_to_the_port_is_refused_and_ends_the_connection() {
    let stage = Stage::new(DFGET);
    let origin = Origin::plain(|_| Answer::new(200).into());
    for (what, template, expected) in BROKEN {
        let mut bytes = filled(template, &origin.authority(), &origin.url("/broken"));
        // What a smuggler would want to be taken for a request.
        bytes.extend_from_slice(
            format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.url("/smuggled")).as_bytes(),
        );
        let answer = exchange(&stage, &bytes);
        assert_eq!(status(&answer), expected, "{what}: {answer}");
        assert_eq!(answers_in(&answer), 1, "{what}: {answer}");
        assert!(answer.contains("\r\n\r\ndfget: "), "{what}: why, and what to do: {answer}");
    }
    assert!(origin.journal().is_empty(), "nothing of it went on: {:?}", origin.journal());
    assert_serves(&stage);
}

#[test]
fn a_broken_request_inside_the_hijack_is_refused_and_ends_the_connection() {
    let stage = Stage::new(DFGET);
    let authority = stage.registry.origin.authority();
    for (what, template, expected) in BROKEN {
        let mut connection =
            stage.client().open(&stage.registry.origin.url("/")).expect("an answer").expect("granted");
        connection.send(&filled(template, &authority, "/broken")).expect("it is taken");
        let answer = connection.receive("GET").expect(what).read_all();
        assert_eq!(answer.status, expected, "{what}: {}", answer.text());
        assert!(answer.text().starts_with("dfget: "), "{what}: {}", answer.text());
        let _ = connection.send_head(&Request::get(stage.registry.origin.url("/smuggled")));
        assert!(connection.receive("GET").is_err(), "{what}: the connection is at its end");
    }
    assert!(stage.registry.origin.journal().is_empty());
    assert_serves(&stage);
}

#[test]
fn a_body_with_broken_chunks_is_refused_and_does_not_reach_the_origin_whole() {
    let stage = Stage::new(DFGET);
    for body in [
        "x\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3 \r\rabc\r\n0\r\n\r\n",
        "10000000000000003\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
    ] {
        let origin = Origin::plain(|_| Answer::new(200).into());
        let (authority, url) = (origin.authority(), origin.url("/upload"));
        let head = format!("POST {url} HTTP/1.1\r\nHost: {authority}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let smuggled = format!("GET {} HTTP/1.1\r\nHost: {authority}\r\n\r\n", origin.url("/smuggled"));
        let answer = exchange(&stage, format!("{head}{body}{smuggled}").as_bytes());
        assert_eq!(status(&answer), 400, "{body:?}: {answer}");
        assert_eq!(answers_in(&answer), 1, "{body:?}: {answer}");
        assert!(origin.journal().iter().all(|entry| entry.status == 0), "{body:?}: {:?}", origin.journal());
    }
    assert_serves(&stage);
}

#[test]
fn lengths_that_say_the_same_twice_are_one() {
    let stage = Stage::new(DFGET);
    let origin = Origin::plain(|request| Answer::new(200).body(request.body.clone()).into());
    let (authority, url) = (origin.authority(), origin.url("/"));
    let request = format!(
        "POST {url} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 3\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
    );
    let answer = exchange(&stage, request.as_bytes());
    assert!(status(&answer) == 200 && answer.ends_with("\r\n\r\nabc"), "{answer}");
    assert_eq!(origin.journal()[0].headers.all("content-length").collect::<Vec<_>>(), ["3"]);
}

#[test]
fn too_long_a_target_is_a_414_and_too_long_a_head_a_431() {
    let stage = Stage::new(DFGET);
    let origin = Origin::plain(|_| Answer::new(200).into());
    let authority = origin.authority();
    let long = "x".repeat(70_000);
    let target = format!("GET {} HTTP/1.1\r\nHost: {authority}\r\n\r\n", origin.url(&format!("/{long}")));
    assert_eq!(status(&exchange(&stage, target.as_bytes())), 414);
    let url = origin.url("/");
    let lines = format!("X-A: {long}\r\n").repeat(10);
    let head = format!("GET {url} HTTP/1.1\r\nHost: {authority}\r\n{lines}\r\n");
    assert_eq!(status(&exchange(&stage, head.as_bytes())), 431);
    let many = "X-A: b\r\n".repeat(500);
    let head = format!("GET {url} HTTP/1.1\r\nHost: {authority}\r\n{many}\r\n");
    assert_eq!(status(&exchange(&stage, head.as_bytes())), 431);
    let large = format!("Authorization: Bearer {}\r\n", "x".repeat(30_000));
    let head = format!("GET {url} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n{large}\r\n");
    assert_eq!(status(&exchange(&stage, head.as_bytes())), 200, "a large token is none too long");
}

#[test]
fn the_target_in_full_counts_and_the_host_beside_it_does_not() {
    let stage = Stage::new(DFGET);
    let origin = Origin::plain(|_| Answer::new(200).into());
    for host in ["other.test", "", "other.test:1"] {
        let request =
            format!("GET {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n", origin.url("/x"));
        assert_eq!(status(&exchange(&stage, request.as_bytes())), 200, "{host}");
    }
    for entry in origin.journal() {
        assert_eq!(entry.headers.all("host").collect::<Vec<_>>(), [origin.authority()]);
    }
}

#[test]
fn an_answer_that_can_be_read_in_two_ways_is_a_502() {
    let stage = Stage::new(DFGET);
    let answers: [(&str, &[u8]); 12] = [
        ("both lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        ("a signed length", b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc"),
        ("another coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("chunked, but not last", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        ("chunked twice over", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("chunks in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("a folded line", b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 0\r\n\r\n"),
        ("a space before the colon", b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc"),
        ("a NUL in a value", b"HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 0\r\n\r\n"),
        ("a bare CR in a value", b"HTTP/1.1 200 OK\r\nX-A: b\rX-B: c\r\nContent-Length: 0\r\n\r\n"),
        ("another protocol", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    ];
    for (what, bytes) in answers {
        let origin = Origin::https(&stage.ca, move |_| Reply::Raw(bytes.to_vec()));
        for path in ["/no/rule", "/v2/lab/image/blobs/sha256:00"] {
            let response = stage.get(&origin.url(path));
            assert_eq!(response.status, 502, "{what} {path}: {}", response.text());
            assert!(response.text().contains(&origin.authority()), "{what}: {}", response.text());
        }
    }
    assert_serves(&stage);
}

#[test]
fn an_answer_with_broken_chunks_breaks_off() {
    let stage = Stage::new(DFGET);
    for chunks in
        ["3\r\nabc\r\nx\r\n", "3\r\nabcd\r\n0\r\n\r\n", "3\r\nabc\r\n10000000000000003\r\n", "3\r\nabc\r\n"]
    {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let origin = Origin::https(&stage.ca, move |_| Reply::Raw(answer.clone().into_bytes()));
        let response = stage.get(&origin.url("/no/rule"));
        assert!(response.status == 502 || !response.is_complete(), "{chunks:?}: {:?}", response.end);
    }
}

#[test]
fn interim_answers_disturb_nothing() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(100_000, 1);
    let url = stage.registry.put(IMAGE, &blob);
    let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
    stage.registry.every_blob(move |answer| answer.preceded_by(*hints).into());
    assert!(stage.get(&url).body == blob.bytes[..]);
    let origin = Origin::https(&stage.ca, |_| Answer::new(200).body(*b"abc").preceded_by(*hints).into());
    for _ in 0..2 {
        assert_eq!(stage.get(&origin.url("/no/rule")).text(), "abc");
    }
}

#[test]
fn what_connection_names_goes_no_further() {
    let stage = Stage::new(DFGET);
    let origin = Origin::https(&stage.ca, |_| {
        Answer::new(200)
            .header("Connection", "X-Mine, keep-alive")
            .header("X-Mine", "1")
            .header("Keep-Alive", "timeout=5")
            .header("Proxy-Authenticate", "Basic realm=x")
            .header("X-Yours", "2")
            .into()
    });
    let request = Request::get(origin.url("/no/rule"))
        .header("Connection", "upgrade, X-Mine")
        .header("Connection", "http2-settings")
        .header("X-Mine", "1")
        .header("Upgrade", "websocket, h2c")
        .header("HTTP2-Settings", "AAMAAABkAAQAAP__")
        .header("Keep-Alive", "300")
        .header("Proxy-Connection", "keep-alive")
        .header("Proxy-Authorization", "Basic x")
        .header("Cookie", "b=1")
        .header("X-Yours", "2");
    let response = stage.fetch(&request);
    assert_eq!((response.status, response.header("x-yours")), (200, Some("2")));
    for name in ["x-mine", "keep-alive", "proxy-authenticate"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    let asked = origin.journal();
    let names: Vec<_> = asked[0].headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let mut names: Vec<_> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cookie", "host", "x-yours"]);
}

#[test]
fn a_credential_that_connection_names_is_none() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(100_000, 1);
    let url = stage.registry.put(IMAGE, &blob);
    stage.registry.grant(IMAGE, "Bearer a");
    assert_eq!(stage.fetch(&Request::get(&url).authorization("Bearer a")).status, 200);
    let request = |method: &str| {
        Request::new(method, &url).authorization("Bearer a").header("Connection", "authorization")
    };
    for method in ["GET", "HEAD"] {
        let response = stage.fetch(&request(method));
        assert_eq!(
            response.status, 401,
            "{method}: the store opens to the credential that the origin is shown"
        );
        assert!(response.header("www-authenticate").is_some());
    }
    let seen = stage.registry.origin.asked("HEAD", &blob.digest);
    assert!(seen.iter().all(|entry| entry.headers.get("authorization").is_none()));
}

#[test]
fn an_upload_that_expects_a_word_gets_the_origins() {
    let stage = Stage::new(DFGET);
    let (authority, origin) = scripted(|stream| {
        let head = read_to(stream, "\r\n\r\n");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").expect("it is taken");
        let body = read_to(stream, "end");
        stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").expect("it is taken");
        (head, body)
    });
    let mut client = dial(&stage);
    let head = format!(
        "PUT http://{authority}/x HTTP/1.1\r\nHost: {authority}\r\nExpect: 100-continue\r\nContent-Length: 8\r\n\r\n"
    );
    client.write_all(head.as_bytes()).expect("it is taken");
    assert_eq!(read_to(&mut client, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"bytesend").expect("it is taken");
    assert!(read_to(&mut client, "\r\n\r\n").starts_with("HTTP/1.1 201 "));
    let (head, body) = origin.join().expect("the origin was asked");
    assert!(head.to_ascii_lowercase().contains("\r\nexpect: 100-continue\r\n"), "{head}");
    assert_eq!(body, "bytesend");
}

#[test]
fn an_origin_that_wants_no_body_is_heard_before_the_body_is_sent() {
    let stage = Stage::new(DFGET);
    let (authority, origin) = scripted(|stream| {
        read_to(stream, "\r\n\r\n");
        stream
            .write_all(
                b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 4\r\n\r\nwho?",
            )
            .expect("it is taken");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        rest
    });
    let mut client = dial(&stage);
    let head = format!(
        "PUT http://{authority}/x HTTP/1.1\r\nHost: {authority}\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n"
    );
    client.write_all(head.as_bytes()).expect("it is taken");
    let answer = read_to(&mut client, "who?");
    assert!(answer.starts_with("HTTP/1.1 401 "), "the first word, and no 100 before it: {answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nwww-authenticate: basic\r\n"), "{answer}");
    drop(client);
    assert!(origin.join().expect("the origin was asked").is_empty(), "not a byte of the body was on its way");
    assert_serves(&stage);
}

#[test]
fn an_origin_that_knows_no_expectation_gets_the_body_after_a_moment() {
    let stage = Stage::new(DFGET);
    let origin = Origin::https(&stage.ca, |request| Answer::new(200).body(request.body.clone()).into());
    let request = Request::new("PUT", origin.url("/x")).body(*b"abc").header("Expect", "100-continue");
    let response = stage.fetch(&request);
    assert_eq!((response.status, response.text().as_str()), (200, "abc"));
}

#[test]
fn an_answer_in_the_middle_of_an_upload_reaches_the_client() {
    let stage = Stage::new(DFGET);
    let (authority, origin) = scripted(|stream| {
        read_to(stream, "first");
        stream
            .write_all(
                b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 4\r\n\r\nhalt",
            )
            .expect("it is taken");
    });
    let mut client = dial(&stage);
    let head = format!(
        "PUT http://{authority}/x HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 1000000\r\n\r\nfirst"
    );
    client.write_all(head.as_bytes()).expect("it is taken");
    let answer = read_to(&mut client, "halt");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    origin.join().expect("the origin was asked");
    assert_serves(&stage);
}

#[test]
fn a_refused_client_that_goes_on_sending_hears_why() {
    let stage = Stage::new(DFGET);
    let authority = stage.registry.origin.authority();
    let mut client = dial(&stage);
    let head = format!("PUT http://{authority}/x HTTP/1.1\r\nContent-Length: 60000000\r\n\r\n");
    client.write_all(head.as_bytes()).expect("it is taken");
    let megabyte = vec![0; 1 << 20];
    for _ in 0..5 {
        client.write_all(&megabyte).expect("nobody resets the connection");
    }
    drop(megabyte);
    client.shutdown(std::net::Shutdown::Write).expect("a socket");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("nor now");
    assert!(status(&answer) == 400 && answer.contains("no Host"), "{answer}");
}

#[test]
fn trailer_fields_of_a_request_go_on() {
    let stage = Stage::new(DFGET);
    let (authority, origin) = scripted(|stream| {
        let head = read_to(stream, "\r\n\r\n");
        let body = read_to(stream, "\r\n\r\n");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("it is taken");
        (head, body)
    });
    let request = format!(
        "PUT http://{authority}/x HTTP/1.1\r\nHost: {authority}\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\
         Connection: close\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 17\r\n\r\n"
    );
    assert_eq!(status(&exchange(&stage, request.as_bytes())), 200);
    let (head, body) = origin.join().expect("the origin was asked");
    assert!(head.to_ascii_lowercase().contains("\r\ntrailer: x-sum\r\n"), "{head}");
    assert_eq!(body.to_ascii_lowercase(), "3\r\nabc\r\n0\r\nx-sum: 17\r\n\r\n");
}

#[test]
fn trailer_fields_of_an_answer_go_on_to_who_takes_them() {
    let stage = Stage::new(DFGET);
    let bytes: &[u8] =
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 17\r\n\r\n";
    let plain = Origin::plain(move |_| Reply::Raw(bytes.to_vec()));
    let (authority, url) = (plain.authority(), plain.url("/x"));
    for (te, expected) in [("TE: trailers\r\n", true), ("", false)] {
        let request = format!("GET {url} HTTP/1.1\r\nHost: {authority}\r\n{te}Connection: close, te\r\n\r\n");
        let answer = exchange(&stage, request.as_bytes()).to_ascii_lowercase();
        assert!(answer.contains("\r\n3\r\nabc\r\n0\r\n"), "{answer}");
        assert_eq!(answer.ends_with("0\r\nx-sum: 17\r\n\r\n"), expected, "{answer}");
    }
    let asked = plain.journal();
    assert_eq!(
        (asked[0].headers.get("te"), asked[0].headers.get("connection")),
        (Some("trailers"), Some("te"))
    );
    assert_eq!(asked[1].headers.get("te"), None);

    let secure = Origin::https(&stage.ca, move |_| Reply::Raw(bytes.to_vec()));
    let request = Request::get(secure.url("/x")).header("te", "trailers");
    let answers = h2::fetch_all(&stage.client(), &[request]).expect("the proxy speaks h2");
    let answer = answers[0].as_ref().expect("a head comes");
    assert_eq!((answer.status, answer.text().as_str(), answer.header("x-sum")), (200, "abc", Some("17")));
}

#[test]
fn trailer_fields_of_a_content_disturb_nothing() {
    let stage = Stage::new(DFGET);
    let blob = Blob::random(100_000, 1);
    let mut answer =
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n".to_vec();
    answer.extend_from_slice(&blob.bytes);
    answer.extend_from_slice(b"\r\n0\r\nX-Sum: 17\r\n\r\n");
    let bytes = blob.bytes.clone();
    let origin = Origin::https(&stage.ca, move |request| match request.method.as_str() {
        "HEAD" => Answer::new(200).body(bytes.clone()).into(),
        _ => Reply::Raw(answer.clone()),
    });
    let url = origin.url(&format!("/v2/{IMAGE}/blobs/{}", blob.digest));
    for turn in ["cold", "warm"] {
        let response = stage.fetch(&Request::get(&url).header("TE", "trailers").header("Connection", "te"));
        assert!(response.is_complete() && response.body == blob.bytes[..], "{turn}");
    }
    assert_eq!(origin.asked("GET", &blob.digest).len(), 1);
}

#[test]
fn options_and_trace_end_where_max_forwards_says() {
    let stage = Stage::new(DFGET);
    let origin = Origin::https(&stage.ca, |request| {
        let left = request.headers.get("max-forwards").unwrap_or("none").to_owned();
        Answer::new(200).body(format!("{} {} {left}", request.method, request.target).into_bytes()).into()
    });
    let ask = |method: &str, left: &str| {
        let request = Request::new(method, origin.url("/x")).header("Max-Forwards", left);
        stage.fetch(&request.header("Cookie", "secret=1").header("X-Note", "kept"))
    };
    assert_eq!(ask("OPTIONS", "3").text(), "OPTIONS /x 2");
    assert_eq!(ask("TRACE", "1").text(), "TRACE /x 0");
    assert_eq!(ask("GET", "0").text(), "GET /x 0", "it means nothing there");
    let seen = origin.journal().len();
    let trace = ask("TRACE", "0");
    assert_eq!((trace.status, trace.header("content-type")), (200, Some("message/http")));
    assert!(trace.text().starts_with("TRACE /x HTTP/1.1\r\n") && trace.text().contains("x-note: kept\r\n"));
    assert!(!trace.text().contains("secret"), "{}", trace.text());
    let options = ask("OPTIONS", "0");
    assert_eq!((options.status, options.header("content-length")), (200, Some("0")));
    assert!(options.header("allow").is_some_and(|methods| methods.contains("GET")));
    assert_eq!(origin.journal().len(), seen, "neither went on");
}

#[test]
fn options_of_a_whole_server_are_asked_of_that_server() {
    let stage = Stage::new(DFGET);
    let origin =
        Origin::https(&stage.ca, |request| Answer::new(200).body(request.target.clone().into_bytes()).into());
    let mut connection = stage.client().open(&origin.url("/")).expect("an answer").expect("granted");
    let request = format!("OPTIONS * HTTP/1.1\r\nHost: {}\r\n\r\n", origin.authority());
    connection.send(request.as_bytes()).expect("it is taken");
    let response = connection.receive("OPTIONS").expect("an answer").read_all();
    assert_eq!((response.status, response.text().as_str()), (200, "*"));
    let answer = exchange(&stage, b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&answer), 200, "this proxy answers for itself: {answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nallow: get, "), "{answer}");
}

#[test]
fn methods_that_nobody_knows_go_on() {
    let stage = Stage::new(DFGET);
    let origin =
        Origin::https(&stage.ca, |request| Answer::new(200).body(request.method.clone().into_bytes()).into());
    for method in ["PROPFIND", "BREW", "x-!#$%"] {
        for path in ["/no/rule", "/v2/lab/image/blobs/sha256:00"] {
            let response = stage.fetch(&Request::new(method, origin.url(path)));
            assert_eq!((response.status, response.text().as_str()), (200, method), "{path}");
        }
    }
}

#[test]
fn a_client_of_http_1_0_is_served() {
    let stage = Stage::new(DFGET);
    let registry = Registry::plain();
    let blob = Blob::random(1000, 1);
    let url = registry.put(IMAGE, &blob);
    for turn in ["cold", "warm"] {
        let mut client = dial(&stage);
        client.write_all(format!("GET {url} HTTP/1.0\r\n\r\n").as_bytes()).expect("it is taken");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("the answer ends with the connection");
        assert!(answer.starts_with(b"HTTP/1.") && answer.ends_with(&blob.bytes), "{turn}");
    }
    let head = format!("GET {url} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let mut client = dial(&stage);
    for _ in 0..2 {
        client.write_all(head.as_bytes()).expect("it is taken");
        let answer = read_to(&mut client, "\r\n\r\n").to_ascii_lowercase();
        assert!(answer.contains("\r\nconnection: keep-alive\r\n"), "{answer}");
        client.read_exact(&mut [0; 1000]).expect("the body");
    }
}

#[test]
fn what_is_sent_ahead_of_a_refused_tunnel_is_no_request() {
    let stage = Stage::new(DFGET);
    let dead = Origin::plain(|_| Answer::new(200).into());
    dead.go_down();
    let origin = Origin::plain(|_| Answer::new(200).into());
    let connect = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", dead.authority());
    let ahead = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.url("/smuggled"));
    let answer = exchange(&stage, format!("{connect}{ahead}").as_bytes());
    assert_eq!((status(&answer), answers_in(&answer)), (502, 1), "{answer}");
    assert!(origin.journal().is_empty());
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    let stage = Stage::new(DFGET);
    let registry = Registry::plain();
    let blobs: Vec<_> = (0..3).map(|seed| Blob::random(100, seed)).collect();
    let urls: Vec<_> = blobs.iter().map(|blob| registry.put(IMAGE, blob)).collect();
    let mut requests = String::new();
    for url in &urls {
        requests += &format!("GET {url} HTTP/1.1\r\nHost: x\r\n\r\nHEAD {url} HTTP/1.1\r\nHost: x\r\n\r\n");
        requests += &format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
            registry.origin.url("/v2/")
        );
    }
    let mut client = dial(&stage);
    client.write_all(requests.as_bytes()).expect("it is taken");
    for blob in &blobs {
        for method in ["GET", "HEAD", "POST"] {
            let head = read_to(&mut client, "\r\n\r\n").to_ascii_lowercase();
            let (_, rest) = head.split_once("\r\ncontent-length: ").expect("a length");
            let len: usize = rest.split("\r\n").next().and_then(|len| len.parse().ok()).expect("a number");
            if method == "HEAD" {
                assert_eq!(len, 100, "{head}");
                continue;
            }
            let mut body = vec![0; len];
            client.read_exact(&mut body).expect("the body");
            assert!(method == "POST" || body == blob.bytes[..], "{head}");
        }
    }
}

#[test]
fn an_upload_that_breaks_off_is_no_whole_one_for_the_origin() {
    let stage = Stage::new(DFGET);
    for framing in ["Content-Length: 8", "Transfer-Encoding: chunked"] {
        let (authority, origin) = scripted(|stream| {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all);
            String::from_utf8_lossy(&all).into_owned()
        });
        let body = if framing.starts_with('C') { "abc" } else { "3\r\nabc\r\n" };
        let mut client = dial(&stage);
        let head =
            format!("PUT http://{authority}/x HTTP/1.1\r\nHost: {authority}\r\n{framing}\r\n\r\n{body}");
        client.write_all(head.as_bytes()).expect("it is taken");
        drop(client);
        let seen = origin.join().expect("the connection ends");
        assert!(!seen.ends_with("0\r\n\r\n"), "{seen}");
    }
    let origin = Origin::plain(|_| Reply::Cut(Cut::Reset));
    let request = Request::new("PUT", origin.url("/x")).body(vec![0; 100]);
    assert_eq!(stage.fetch(&request).status, 502, "an origin that breaks off is no fault of the client");
}

#[test]
fn a_large_token_is_taken_over_http_2_too() {
    let stage = Stage::new(DFGET);
    let origin = Origin::https(&stage.ca, |request| {
        let len = request.headers.get("authorization").map_or(0, str::len);
        Answer::new(200).body(len.to_string().into_bytes()).into()
    });
    let token = format!("Bearer {}", "x".repeat(30_000));
    let answers = h2::fetch_all(&stage.client(), &[Request::get(origin.url("/x")).authorization(&token)]);
    assert_eq!(answers.expect("the proxy speaks h2")[0].as_ref().expect("a head comes").text(), "30007");
}

/// Heads and bodies that one party could take for one request and another for two, in all combinations: what the origin
/// was asked must be what the client was answered.
#[test]
fn client_and_origin_agree_on_how_many_requests_there_were() {
    const CODINGS: [&str; 14] = [
        "",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding: CHUNKED \r\n",
        "Transfer-Encoding:\tchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        "Transfer_Encoding: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
    ];
    const LENGTHS: [&str; 9] = [
        "",
        "Content-Length: 0\r\n",
        "Content-Length: 6\r\n",
        "Content-Length: 40\r\n",
        "content-length:6 \r\n",
        "Content-Length: 6\r\nContent-Length: 7\r\n",
        "Content-Length: +6\r\n",
        "Content-Length: 6,6\r\n",
        "Content-Length\r\n: 6\r\n",
    ];
    const BODIES: [&str; 5] = [
        "0\r\n\r\nGET SMUGGLED HTTP/1.1\r\nHost: x\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
        "abcdef",
        "0\r\nX: y\r\n\r\n",
        "6\nabcdef\n0\n\n",
    ];
    let stage = Stage::new(DFGET);
    let origin = Origin::plain(|request| {
        Answer::new(200).body(format!("\nseen {} {}\n", request.method, request.target).into_bytes()).into()
    });
    let (first, smuggled, last) = (origin.url("/first"), origin.url("/smuggled"), origin.url("/last"));
    let (mut count, mut whole) = (0, 0);
    for coding in CODINGS {
        for length in LENGTHS {
            for body in BODIES {
                let before = origin.journal().len();
                let body = body.replace("SMUGGLED", &smuggled);
                let request = format!(
                    "POST {first} HTTP/1.1\r\nHost: x\r\n{coding}{length}\r\n{body}\
                     GET {last} HTTP/1.1\r\nHost: x\r\n\r\n{}\r\n\r\n",
                    "x".repeat(80)
                );
                let answer = exchange(&stage, request.as_bytes());
                let answered: Vec<_> = answer.lines().filter_map(|line| line.strip_prefix("seen ")).collect();
                let journal = origin.journal();
                let asked = journal[before..].iter().filter(|entry| entry.status == 200);
                let asked: Vec<_> = asked.map(|entry| format!("{} {}", entry.method, entry.target)).collect();
                assert_eq!(asked, answered, "{request:?}: {answer}");
                count += 1;
                whole += usize::from(answered.len() > 1);
            }
        }
    }
    assert!(count == 630 && whole > 20, "{whole} of {count} were good requests in a row");
    assert_serves(&stage);
}
