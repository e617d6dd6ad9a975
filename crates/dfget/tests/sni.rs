//! Listeners for clients that a hosts file or DNS has led to the daemon (`hijackHTTPS.sni`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use dfget_testkit::ca::Leaf;
use dfget_testkit::{
    Answer, Blob, Client, Connection, Daemon, DaemonOptions, Origin, Registry, Request, TestCa,
};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

/// A registry by a name that the hosts file gives the daemon's own address, and a daemon that knows better.
struct Led {
    ca: TestCa,
    registry: Registry,
    daemon: Daemon,
}

impl Led {
    fn new() -> Self {
        Self::with(|options| options)
    }

    fn with(change: impl FnOnce(DaemonOptions) -> DaemonOptions) -> Self {
        let ca = TestCa::new("authority of the test registry");
        let registry = Registry::https_named(&ca, "registry.test");
        let daemon = change(options(&ca, &registry.origin, "registry.test")).start();
        Self { ca, registry, daemon }
    }

    /// The URL of a blob, by the registry's name.
    fn put(&self, blob: &Blob) -> String {
        let url = self.registry.put("some/image", blob);
        url.replace(&self.registry.origin.address().ip().to_string(), "registry.test")
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.registry.origin.address().port())
    }

    /// A client that trusts the daemon's authority.
    fn client(&self) -> Client {
        Client::new(listener(&self.registry.origin), self.daemon.client_tls())
    }

    /// A client that trusts the registry's own certificate.
    fn outsider(&self) -> Client {
        Client::new(listener(&self.registry.origin), self.ca.client_config(&[]))
    }
}

/// Where the daemon takes what is for the origin: the origin's port, at another address, of which nobody else takes
/// ports. Of 127.0.0.1 every client takes some.
fn listener(origin: &Origin) -> SocketAddr {
    // Origins have 64 to 191 in the second place.
    let mut listener = origin.address();
    if let IpAddr::V4(ip) = listener.ip() {
        let [net, process, high, low] = ip.octets();
        listener.set_ip(Ipv4Addr::new(net, 160 + process / 2, high, low).into());
    }
    listener
}

fn options(ca: &TestCa, origin: &Origin, names: &str) -> DaemonOptions {
    let (ip, listener) = (origin.address().ip(), listener(origin));
    let (listen, port) = (listener.ip(), listener.port());
    let resolve: Vec<_> = names.split(',').map(|name| format!("{name}: {ip}")).collect();
    DaemonOptions::new(DFGET)
        .trust(ca)
        .hosts(&format!(
            "[{{regx: '^(registry|self|dead)\\.test:'}}], sni: [{{listen: {listen}, port: {port}}}]"
        ))
        .extra(&format!(
            "download: {{resolve: {{{}, self.test: {listen}, mine.test: {listen}}}}}",
            resolve.join(", ")
        ))
}

/// The alert that ends a handshake.
fn alert(opened: io::Result<Connection>) -> String {
    opened.expect_err("the handshake must not end well").to_string()
}

#[test]
fn a_name_of_hosts_is_hijacked_and_its_blobs_are_cached() {
    let led = Led::new();
    let blob = Blob::random(500_000, 1);
    let url = led.put(&blob);
    for turn in ["cold", "warm"] {
        let mut connection = led.client().open_led(&url).expect("our certificate");
        for _ in 0..2 {
            let answer = connection.fetch(&Request::get(&url)).expect("an answer");
            assert!(answer.status == 200 && answer.body == blob.bytes[..], "{turn}: {}", answer.text());
        }
    }
    assert_eq!(led.registry.downloads(&blob.digest), 1);
    assert_eq!(led.daemon.done_lines().len(), 4);
}

#[test]
fn other_names_get_their_own_host_unopened() {
    let ca = TestCa::new("authority of the test registry");
    let registry = Registry::https_named(&ca, "other.test");
    let daemon = options(&ca, &registry.origin, "other.test").start();
    let blob = Blob::random(300_000, 2);
    let url = registry.put("some/image", &blob);
    let url = url.replace(&registry.origin.address().ip().to_string(), "other.test");
    let outsider = Client::new(listener(&registry.origin), ca.client_config(&[]));
    let mut connection = outsider.open_led(&url).expect("the registry's own certificate");
    let answer = connection.fetch(&Request::get(&url)).expect("an answer");
    assert!(answer.status == 200 && answer.body == blob.bytes[..], "{}", answer.text());
    assert_eq!(answer.header("x-dragonfly-task"), None);
    daemon.wait_for_log("other.test");
    assert!(daemon.log().contains("matches no hijackHTTPS.hosts[].regx"), "{}", daemon.log());
    assert_eq!(daemon.done_lines().len(), 0);
}

#[test]
fn a_client_without_a_name_is_told_so_by_an_alert_and_the_log_once() {
    let led = Led::new();
    let url = led.url("127.0.0.1", "/v2/");
    for _ in 0..3 {
        let told = alert(led.client().open_led(&url));
        assert!(told.contains("UnrecognisedName") || told.contains("UnrecognizedName"), "{told}");
    }
    led.daemon.wait_for_log("name no host (SNI)");
    assert_eq!(led.daemon.log().matches("name no host (SNI)").count(), 1);
    // What is no TLS at all is ended too.
    let said = led.client().send_raw(b"GET / HTTP/1.1\r\nHost: registry.test\r\n\r\n").expect("an end");
    assert!(!said.starts_with(b"HTTP/"), "{said:?}");
}

#[test]
fn the_white_list_holds_for_them_too() {
    let led = Led::with(|options| options.proxy("whiteList: [{host: allowed.test}]"));
    let told = alert(led.client().open_led(&led.url("registry.test", "/v2/")));
    assert!(told.contains("AccessDenied"), "{told}");
    led.daemon.wait_for_log("is not in the whiteList");
    assert_eq!(led.registry.origin.connections(), 0);
}

#[test]
fn a_host_other_than_the_name_is_a_421() {
    let led = Led::new();
    let mut connection = led.client().open_led(&led.url("registry.test", "/v2/")).expect("our certificate");
    let answer = connection.fetch(&Request::get(led.url("other.test", "/v2/"))).expect("an answer");
    assert_eq!(answer.status, 421, "{}", answer.text());
    let answer = connection.fetch(&Request::get(led.url("registry.test", "/v2/"))).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The very thing a hosts file does: the name leads here, and the daemon knows no other place.
#[test]
fn a_name_that_leads_back_here_is_a_508_or_an_alert_and_no_loop() {
    let ca = TestCa::new("authority of the test registry");
    let origin = Origin::https(&ca, |_| Answer::new(200).into());
    let listen = listener(&origin);
    let daemon = options(&ca, &origin, "registry.test")
        .hosts(&format!(
            "[{{regx: '^self\\.test:'}}], sni: [{{listen: {}, port: {}}}]",
            listen.ip(),
            listen.port()
        ))
        .start();
    let client = Client::new(listen, daemon.client_tls());
    let url = format!("https://self.test:{}/v2/", origin.address().port());
    let mut connection = client.open_led(&url).expect("our certificate, to tell by");
    let answer = connection.fetch(&Request::get(&url)).expect("an answer");
    assert_eq!(answer.status, 508, "{}", answer.text());
    assert!(answer.text().contains("back to this proxy"), "{}", answer.text());
    // A name that is not hijacked.
    let url = format!("https://mine.test:{}/v2/", origin.address().port());
    let told = alert(client.open_led(&url));
    assert!(told.contains("InternalError"), "{told}");
    daemon.wait_for_log("download.resolve");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn nobody_sees_our_certificate_in_place_of_a_bad_one() {
    let ca = TestCa::new("authority of the test registry");
    let origin = Origin::https_with(|_| Leaf::self_signed(&["registry.test"]), |_| Answer::new(200).into());
    let daemon = options(&ca, &origin, "registry.test").start();
    let client = Client::new(listener(&origin), daemon.client_tls());
    let told = alert(client.open_led(&format!("https://registry.test:{}/", origin.address().port())));
    assert!(told.contains("InternalError"), "{told}");
    daemon.wait_for_log("is turned away");
    assert!(origin.journal().is_empty());
}

/// No origin, so no certificate of one that ours could stand for: clients are told in words.
#[test]
fn a_dead_origin_is_a_502_in_words() {
    let led = Led::new();
    led.registry.origin.go_down();
    let url = led.url("registry.test", "/v2/");
    let mut connection = led.client().open_led(&url).expect("our certificate");
    let answer = connection.fetch(&Request::get(&url)).expect("an answer");
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains("refused"), "{}", answer.text());
    let told = alert(led.outsider().open_led(&led.url("localhost", "/")));
    assert!(told.contains("InternalError"), "{told}");
}

/// Clients would refuse a certificate that the authority may not sign.
#[test]
fn a_name_outside_of_the_authoritys_scope_gets_its_own_host_unopened() {
    let ca = TestCa::new("authority of the test registry");
    let registry = Registry::https_named(&ca, "registry.test");
    let daemon = options(&ca, &registry.origin, "registry.test").try_start(|home| {
        let mut create = Command::new(DFGET);
        create.args(["ca", "create", "--host", "self.test", "--force", "--dir"]).arg(home);
        assert!(create.output().expect("the binary is there").status.success());
    });
    let daemon = daemon.expect("it starts");
    let url = format!("https://registry.test:{}/v2/", registry.origin.address().port());
    let outsider = Client::new(listener(&registry.origin), ca.client_config(&[]));
    let mut connection = outsider.open_led(&url).expect("the registry's own certificate");
    assert_eq!(connection.fetch(&Request::get(&url)).expect("an answer").status, 200);
    daemon.wait_for_log("lies outside of what our certificate authority is for");
}

#[test]
fn http_2_is_spoken_where_the_client_offers_it_alone() {
    let led = Led::new();
    let client = Client::new(listener(&led.registry.origin), led.daemon.client_tls_offering(&["h2"]));
    let connection = client.open_led(&led.url("registry.test", "/v2/")).expect("our certificate");
    assert_eq!(connection.alpn().as_deref(), Some("h2"));
}
