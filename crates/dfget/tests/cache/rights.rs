//! What was imported goes to nobody whose own credential could not fetch it.

use dfget_testkit::{Blob, Request, Stage};

use crate::kit::{DFGET, IMAGE, MIB, cache, command, digests, json, pulled};

const ALICE: &str = "Bearer alice";
const EVE: &str = "Bearer eve";

/// A stage whose daemon has imported `blob`, which its registry has for Alice alone.
fn imported(blob: &Blob) -> (Stage, String) {
    let source = Stage::new(DFGET);
    pulled(&source, IMAGE, blob);
    assert_eq!(cache(&source.daemon, &["export", "bundle.tar"]).code, 0);
    let stage = Stage::with(DFGET, |options| options.extra("access: {ttl: 1s}"));
    let bundle = source.daemon.home().join("bundle.tar").display().to_string();
    let ended = cache(&stage.daemon, &["import", &bundle]).ok();
    assert!(ended.stdout.starts_with("imported 1 content, "), "{}", ended.stdout);
    let url = stage.registry.put(IMAGE, blob);
    stage.registry.close(IMAGE);
    stage.registry.grant(IMAGE, ALICE);
    (stage, url)
}

#[test]
fn an_imported_content_is_served_once_a_registry_has_proved_to_have_it() {
    let blob = Blob::random(5 * MIB, 1);
    let (stage, url) = imported(&blob);
    let listed = cache(&stage.daemon, &["ls"]).ok().stdout;
    assert!(listed.contains("  imported  "), "{listed}");
    let seen = json(&stage.daemon, &["ls"])["contents"][0].clone();
    assert_eq!((&seen["imported"], &seen["private"]), (&true.into(), &true.into()));

    let refused = stage.fetch(&Request::get(&url).authorization(EVE));
    assert_eq!(refused.status, 401, "{}", refused.text());
    let anonymous = stage.fetch(&Request::get(&url));
    assert_eq!(anonymous.status, 401, "{}", anonymous.text());

    let alice = stage.fetch(&Request::get(&url).authorization(ALICE));
    assert!(alice.is_complete() && alice.body == blob.bytes[..], "{}", alice.status);
    assert_eq!(
        alice.header("docker-content-digest"),
        Some(blob.digest.as_str()),
        "described as its registry does"
    );
    let asked = stage.registry.origin.asked("GET", &blob.digest);
    let sent: u64 = asked.iter().map(|entry| entry.sent).sum();
    assert!(sent < MIB as u64, "only a proof was fetched: {sent} bytes");
    let origin = &json(&stage.daemon, &["ls"])["contents"][0]["origins"][0];
    assert_eq!(origin["places"], serde_json::json!([IMAGE]));
    assert_eq!(stage.fetch(&Request::get(&url).authorization(EVE)).status, 401, "that was Alice's right");
}

#[test]
fn an_imported_content_is_nobodys_while_no_registry_answers() {
    let blob = Blob::random(MIB, 2);
    let (stage, url) = imported(&blob);
    stage.registry.set_outage(Some(503));
    for authorization in [ALICE, EVE] {
        let response = stage.fetch(&Request::get(&url).authorization(authorization));
        assert!(response.status >= 500, "{}", response.status);
        assert!(!response.body.windows(64).any(|part| part == &blob.bytes[..64]), "no byte of it");
    }
    stage.registry.set_outage(None);
}

#[test]
fn a_registry_that_says_yes_to_everything_opens_nothing() {
    let blob = Blob::random(MIB, 3);
    let (stage, url) = imported(&blob);
    // Eve's own repository has other bytes under the name that she knows.
    let other = Blob::random(MIB, 4);
    stage.registry.put_as("eve/own", &blob.digest, &other.bytes);
    let response = stage.fetch(&Request::get(url.replace(IMAGE, "eve/own")).authorization(EVE));
    assert!(!response.is_complete() || response.body != blob.bytes[..], "{}", response.status);
    assert!(
        !response.body.windows(64).any(|part| blob.bytes.windows(64).next() == Some(part)),
        "no byte of it"
    );
    assert_eq!(
        digests(&stage.daemon, &[]),
        std::slice::from_ref(&blob.digest),
        "and what is stored stays what it was"
    );
}

#[test]
fn bytes_of_private_contents_leave_by_the_socket_alone() {
    let stage = Stage::new(DFGET);
    pulled(&stage, IMAGE, &Blob::random(MIB, 5));
    let log = stage.daemon.log();
    let (_, rest) = log.split_once("serve health and metrics at tcp://").expect("it says where");
    let port: String = rest.chars().take_while(|c| *c != '"' && !c.is_whitespace()).collect();
    let port = port.trim();
    let ask = |path: &str, token: &str| {
        let mut stream = std::net::TcpStream::connect(port).expect("it listens");
        let head = format!("GET {path} HTTP/1.1\r\nHost: {port}\r\n{token}Connection: close\r\n\r\n");
        std::io::Write::write_all(&mut stream, head.as_bytes()).expect("sent");
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).expect("an answer");
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let paths = ["/api/v1/contents", "/api/v1/node", "/api/v1/bytes?key=x", "/api/v1/gc", "/api/v1/flush"];
    for path in paths {
        assert_eq!(ask(path, ""), "401", "{path}");
    }
    // Who has the token of the web page looks, and gets no byte.
    let page = page_of(&stage.daemon);
    let (_, token) = page.trim().split_once("#token=").expect("an address");
    let token = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(paths.map(|path| ask(path, &token)), ["200", "200", "404", "404", "404"]);
    let mut to_pipe = command(&stage.daemon, &["export", "-"]);
    assert!(to_pipe.output().expect("it runs").stdout.len() > MIB);
}

/// What `dfget top --web` prints.
fn page_of(daemon: &dfget_testkit::Daemon) -> String {
    let mut asking = std::process::Command::new(DFGET);
    let asked = asking
        .args(["top", "--web"])
        .envs(command(daemon, &[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
    String::from_utf8(asked.output().expect("it runs").stdout).expect("text")
}
