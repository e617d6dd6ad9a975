//! The port as a registry: `registryMirror` and `extraRegistryMirrors`.
//!
//! Origins of these tests stand on loopback, where a client must not lead by a name of its own; what it may lead to is
//! tested with the real clients (`real_clients/mirror.rs`), which have a network.

use dfget_testkit::{
    Answer, Blob, Daemon, DaemonOptions, Origin, Registry, Reply, Request, Response, TestCa,
};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
const IMAGE: &str = "lab/image";
const REGISTRY: &str = "X-Dragonfly-Registry";

/// A registry over TLS, and a daemon whose port serves as its mirror.
struct Site {
    registry: Registry,
    daemon: Daemon,
}

impl Site {
    /// `keys` go beside `url` into `registryMirror`.
    fn new(keys: &str) -> Self {
        Self::with(|options, url| {
            let options = options.extra("access: {ttl: 0s}");
            options.proxy(&format!("registryMirror: {{url: '{url}', {keys}}}"))
        })
    }

    fn with(change: impl FnOnce(DaemonOptions, &str) -> DaemonOptions) -> Self {
        let ca = TestCa::new("authority of the test registry");
        let registry = Registry::https(&ca);
        let options = DaemonOptions::new(DFGET).trust(&ca).rules("[]");
        let daemon = change(options, &registry.origin.url("")).start();
        Self { registry, daemon }
    }

    fn get(&self, path: &str) -> Response {
        self.fetch(self.request(path))
    }

    fn request(&self, path: &str) -> Request {
        Request::get(format!("http://{}{path}", self.daemon.address()))
    }

    fn fetch(&self, request: Request) -> Response {
        fetch(&self.daemon, &request)
    }
}

fn fetch(daemon: &Daemon, request: &Request) -> Response {
    let mut connection = daemon.client().open_registry().expect("the daemon listens");
    connection.fetch(request).expect("the daemon answers")
}

/// The status of a request that is sent as it is.
fn status_of(daemon: &Daemon, request: &str) -> String {
    let answer = daemon.client().ask_raw(request).expect("an answer");
    String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().to_owned()
}

fn blob_path(blob: &Blob) -> String {
    format!("/v2/{IMAGE}/blobs/{}", blob.digest)
}

fn assert_is(response: &Response, blob: &Blob) {
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(response.is_complete() && response.body == blob.bytes[..]);
}

// --- Rows of the table of outcomes ---

#[test]
fn outcome_registry_mirror_url_unset_is_a_404_that_says_how_to_enable_it() {
    let daemon = DaemonOptions::new(DFGET).start();
    for path in ["/", "/v2/", "/v2/lab/image/manifests/1?ns=registry.test", "/env", "/debug/pprof/"] {
        let request = Request::get(format!("http://{}{path}", daemon.address()));
        let response = fetch(&daemon, &request.header(REGISTRY, "https://registry.test"));
        assert_eq!(response.status, 404, "{path}");
        let text = response.text();
        assert!(text.contains("registryMirror: {url: https://registry.example.com}"), "{path}: {text}");
        assert!(text.contains("dfget.yaml") && text.contains("HTTPS_PROXY"), "{path}: {text}");
    }
}

#[test]
fn outcome_origin_refuses_connection_mirror_is_a_502_with_the_reason() {
    let site = Site::new("");
    let blob = Blob::random(100_000, 1);
    site.registry.origin.go_down();
    for path in ["/v2/".to_owned(), format!("/v2/{IMAGE}/manifests/1"), blob_path(&blob)] {
        let response = site.get(&path);
        assert_eq!(response.status, 502, "{path}: {}", response.text());
        let reason = format!("cannot connect to {}", site.registry.origin.authority());
        assert!(response.text().contains(&reason), "{path}: {}", response.text());
    }
}

#[test]
fn a_registry_that_does_not_answer_is_a_504() {
    let silent = Origin::plain(|_| Reply::Silence);
    let keys = format!("registryMirror: {{url: '{}'}}", silent.url(""));
    let daemon = DaemonOptions::new(DFGET).proxy(&keys).extra("download: {stallTimeout: 500ms}").start();
    let response = fetch(&daemon, &Request::get(format!("http://{}/v2/", daemon.address())));
    assert_eq!(response.status, 504);
    assert!(response.text().contains("sent no answer within"), "{}", response.text());
}

// --- What is cached ---

#[test]
fn blobs_and_manifests_by_digest_are_fetched_once_without_a_rule() {
    let site = Site::new("");
    let blob = Blob::random(300_000, 2);
    site.registry.put(IMAGE, &blob);
    let manifest = Blob::of(b"{\"schemaVersion\":2}".to_vec());
    site.registry.put_manifest(IMAGE, &manifest.digest, &manifest.bytes);
    for _ in ["cold", "warm"] {
        assert_is(&site.get(&blob_path(&blob)), &blob);
        assert_is(&site.get(&format!("/v2/{IMAGE}/manifests/{}", manifest.digest)), &manifest);
    }
    assert_eq!(site.registry.downloads(&blob.digest), 1);
    assert_eq!(site.registry.downloads(&manifest.digest), 1);
    assert!(site.daemon.done_lines().len() >= 4, "{:?}", site.daemon.done_lines());
    let part = site.fetch(site.request(&blob_path(&blob)).range("bytes=10-19"));
    assert!(part.status == 206 && part.body == blob.bytes[10..20]);
}

#[test]
fn what_comes_by_the_mirror_and_by_the_hijack_is_stored_once() {
    let site = Site::with(|options, url| {
        options.rules("[{regx: 'blobs/sha256.*'}]").proxy(&format!("registryMirror: {{url: '{url}'}}"))
    });
    let blob = Blob::random(300_000, 3);
    let url = site.registry.put(IMAGE, &blob);
    assert_is(&site.get(&blob_path(&blob)), &blob);
    assert_is(&site.daemon.client().fetch(&Request::get(url)).expect("an answer"), &blob);
    assert_eq!(site.registry.downloads(&blob.digest), 1);
}

#[test]
fn a_blob_with_other_bytes_than_its_digest_says_is_an_error() {
    let site = Site::new("");
    let (blob, other) = (Blob::random(30_000, 4), Blob::random(30_000, 5));
    site.registry.put_as(IMAGE, &blob.digest, &other.bytes);
    assert_eq!(site.get(&blob_path(&blob)).status, 502);
}

#[test]
fn the_rest_is_passed_on_as_it_is() {
    let site = Site::new("");
    site.registry.put_manifest(IMAGE, "1", b"{\"schemaVersion\":2}");
    let manifest = site.get(&format!("/v2/{IMAGE}/manifests/1"));
    assert_eq!((manifest.status, manifest.text().as_str()), (200, "{\"schemaVersion\":2}"));
    assert!(manifest.header("docker-content-digest").is_some());
    assert_eq!(site.get("/v2/").status, 200);
    let unknown = site.get("/v2/lab/none/manifests/1");
    assert!(unknown.status == 404 && unknown.text().contains("NAME_UNKNOWN"), "{}", unknown.text());
    let head = Request::new("HEAD", format!("http://{}/v2/{IMAGE}/manifests/1", site.daemon.address()));
    assert_eq!(site.fetch(head).status, 200);

    let pushed = Blob::random(500, 6);
    let push = |method: &str, path: String, body: &[u8]| {
        let url = format!("http://{}{path}", site.daemon.address());
        site.fetch(Request::new(method, url).body(body)).status
    };
    assert_eq!(push("POST", format!("/v2/{IMAGE}/blobs/uploads/"), b""), 202);
    assert_eq!(push("PATCH", format!("/v2/{IMAGE}/blobs/uploads/1"), &pushed.bytes), 202);
    let put = format!("/v2/{IMAGE}/blobs/uploads/1?digest={}", pushed.digest);
    assert_eq!(push("PUT", put, b""), 201);
    assert_is(&site.get(&blob_path(&pushed)), &pushed);
}

#[test]
fn the_registry_sees_its_own_name_and_nothing_that_was_for_the_mirror() {
    let site = Site::new("");
    let blob = Blob::random(1000, 7);
    site.registry.put(IMAGE, &blob);
    for path in [blob_path(&blob), format!("/v2/{IMAGE}/manifests/1")] {
        let request = site.request(&format!("{path}?a=1&ns=registry.example.com&b=%2f%20c"));
        let request = request
            .header(REGISTRY, "https://registry.example.com")
            .header("X-Dragonfly-Tag", "t")
            .header("Proxy-Authorization", "Basic eDp5")
            .header("Accept", "*/*");
        let _ = site.fetch(request);
        let journal = site.registry.origin.asked("GET", &path);
        let entry = journal.last().expect("it was asked");
        assert_eq!(entry.target, format!("{path}?a=1&b=%2f%20c"));
        assert_eq!(entry.headers.get("host"), Some(site.registry.origin.authority().as_str()));
        for name in ["x-dragonfly-registry", "x-dragonfly-tag", "proxy-authorization"] {
            assert_eq!(entry.headers.get(name), None, "{path}: {name}");
        }
    }
    let _ = site.get("/v2/?ns=registry.example.com");
    assert_eq!(site.registry.origin.journal().last().map(|entry| entry.target.clone()), Some("/v2/".into()));
}

#[test]
fn direct_caches_nothing() {
    let site = Site::with(|options, url| {
        options
            .rules("[{regx: 'blobs/sha256.*'}]")
            .proxy(&format!("registryMirror: {{url: '{url}', direct: true, useProxies: true}}"))
    });
    let blob = Blob::random(100_000, 8);
    site.registry.put(IMAGE, &blob);
    for turn in 1..=2 {
        assert_is(&site.get(&blob_path(&blob)), &blob);
        assert_eq!(site.registry.downloads(&blob.digest), turn);
    }
}

#[test]
fn without_use_proxies_the_rules_have_no_say() {
    let elsewhere = Registry::plain();
    let rule =
        format!("[{{regx: 'blobs/sha256.*', redirect: '{}', direct: true}}]", elsewhere.origin.authority());
    let site =
        Site::with(|options, url| options.rules(&rule).proxy(&format!("registryMirror: {{url: '{url}'}}")));
    let blob = Blob::random(100_000, 9);
    site.registry.put(IMAGE, &blob);
    for _ in ["cold", "warm"] {
        assert_is(&site.get(&blob_path(&blob)), &blob);
    }
    assert_eq!(site.registry.downloads(&blob.digest), 1);
    assert!(elsewhere.origin.journal().is_empty());
}

#[test]
fn with_use_proxies_the_rules_say_what_is_cached_and_where_it_is() {
    let elsewhere = Registry::plain();
    let rules = format!(
        "[{{regx: 'https://[^/]+/v2/lab/moved/blobs', redirect: 'http://{}/v2/other/blobs'}}, {{regx: '/files/'}}]",
        elsewhere.origin.authority()
    );
    let files = |request: &dfget_testkit::origin::Received| {
        let body = format!("file for {}", request.target);
        Answer::new(200).header("ETag", "\"1\"").body(body.into_bytes()).into()
    };
    let ca = TestCa::new("authority of the test registry");
    let origin = Origin::https(&ca, files);
    let options = DaemonOptions::new(DFGET).trust(&ca).rules(&rules).extra("access: {ttl: 0s}");
    let mirror = format!("registryMirror: {{url: '{}', useProxies: true}}", origin.url(""));
    let daemon = options.proxy(&mirror).start();
    let get = |path: &str| fetch(&daemon, &Request::get(format!("http://{}{path}", daemon.address())));

    let blob = Blob::random(100_000, 10);
    elsewhere.put("other", &blob);
    for _ in ["cold", "warm"] {
        assert_is(&get(&format!("/v2/lab/moved/blobs/{}", blob.digest)), &blob);
        assert_eq!(get("/files/a").text(), "file for /files/a");
        assert_eq!(get("/v2/x/blobs/none").text(), "file for /v2/x/blobs/none");
    }
    assert_eq!(elsewhere.downloads(&blob.digest), 1, "a rule may lead elsewhere");
    assert!(origin.asked("GET", "lab/moved").is_empty());
    let conditional = |path: &str| {
        let asked = origin.asked("GET", path);
        asked.iter().map(|entry| entry.headers.get("if-none-match").is_some()).collect::<Vec<_>>()
    };
    assert_eq!(conditional("/files/a"), [false, true], "what a rule matches is a task");
    assert_eq!(conditional("/v2/x/blobs/none"), [false, false], "what none matches is not");
}

#[test]
fn a_path_of_the_registrys_url_stands_before_that_of_the_request() {
    let blob = Blob::random(100_000, 11);
    let paths =
        [format!("/hub/v2/{IMAGE}/blobs/{}", blob.digest), format!("/v2/{IMAGE}/blobs/{}", blob.digest)];
    let bytes = blob.bytes.clone();
    let allowed = paths[0].clone();
    let origin = Origin::plain(move |request| {
        if request.target == allowed && request.headers.get("authorization") == Some("Bearer hub") {
            Answer::new(200).body(bytes.clone()).into()
        } else {
            Answer::new(403).body(b"not yours".to_vec()).into()
        }
    });
    let mirrors = format!("registryMirror: {{url: '{}/hub/'}}", origin.url(""));
    let daemon = DaemonOptions::new(DFGET).proxy(&mirrors).extra("access: {ttl: 10m}").start();
    let request = Request::get(format!("http://{}{}", daemon.address(), blob_path(&blob)));
    for _ in ["cold", "warm"] {
        assert_is(&fetch(&daemon, &request.clone().authorization("Bearer hub")), &blob);
    }
    assert_eq!(fetch(&daemon, &request).status, 403);
    let other = Request::get(origin.url(&paths[1])).authorization("Bearer hub");
    let beside = daemon.client().fetch(&other).expect("an answer");
    assert_eq!(beside.status, 403, "the same repository without that path is another one");
    let whole = origin.asked("GET", &paths[0]).iter().filter(|entry| entry.sent == 100_000).count();
    assert_eq!(whole, 1);
}

// --- Which registry is meant ---

#[test]
fn further_registries_are_chosen_by_their_name() {
    let ca = TestCa::new("authority of the test registries");
    let registries: Vec<Registry> = (0..3).map(|_| Registry::https(&ca)).collect();
    let [main, second, third] = registries.as_slice() else { panic!("there are three") };
    for (registry, name) in registries.iter().zip(["main", "second", "third"]) {
        registry.put_manifest(IMAGE, "1", name.as_bytes());
    }
    let url = |registry: &Registry| registry.origin.url("");
    let mirrors = format!(
        "registryMirror: {{url: '{}'}}\nextraRegistryMirrors: [{{url: '{}'}}, {{url: '{}', direct: true}}]",
        url(main),
        url(second),
        url(third)
    );
    let daemon = DaemonOptions::new(DFGET).trust(&ca).proxy(&mirrors).start();
    let manifest = |query: &str, header: &str| {
        let url = format!("http://{}/v2/{IMAGE}/manifests/1{query}", daemon.address());
        let request =
            if header.is_empty() { Request::get(url) } else { Request::get(url).header(REGISTRY, header) };
        fetch(&daemon, &request).text()
    };
    let named = |registry: &Registry| format!("?ns={}", registry.origin.authority().replace(':', "%3A"));
    assert_eq!(manifest("", ""), "main");
    assert_eq!(manifest(&named(second), ""), "second");
    assert_eq!(manifest(&named(third), ""), "third");
    assert_eq!(manifest("", &url(third)), "third");
    assert_eq!(manifest(&named(second), &url(third)), "third", "the header wins");
    assert_eq!(manifest(&named(second), &url(main)), "main");
    assert_eq!(manifest("?ns=unknown.test", "https://unknown.test"), "main", "any other name is left out");

    let blob = Blob::random(100_000, 12);
    second.put(IMAGE, &blob);
    third.put(IMAGE, &blob);
    for registry in [second, third] {
        for _ in ["cold", "warm"] {
            let path = format!("{}{}", blob_path(&blob), named(registry));
            assert_is(&fetch(&daemon, &Request::get(format!("http://{}{path}", daemon.address()))), &blob);
        }
    }
    assert_eq!(
        (second.downloads(&blob.digest), third.downloads(&blob.digest)),
        (1, 2),
        "each has its own keys"
    );
}

#[test]
fn without_a_url_only_what_is_named_is_served() {
    let site = Site::with(|options, url| options.proxy(&format!("extraRegistryMirrors: [{{url: '{url}'}}]")));
    let name = site.registry.origin.authority();
    assert_eq!(site.get(&format!("/v2/?ns={name}")).status, 200);
    for path in ["/v2/", "/v2/?ns=unknown.test"] {
        let response = site.get(path);
        assert_eq!(response.status, 404, "{path}");
        assert!(response.text().contains("registryMirror.url"), "{}", response.text());
    }
}

#[test]
fn a_registry_is_verified_by_its_own_keys() {
    let (known, unknown) = (TestCa::new("known"), TestCa::new("unknown"));
    let registries: Vec<Registry> = (0..3).map(|_| Registry::https(&unknown)).collect();
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("unknown.crt");
    std::fs::write(&file, unknown.certificate_pem()).expect("it can be written");
    let url = |index: usize| registries[index].origin.url("");
    let mirrors = format!(
        "registryMirror: {{url: '{}'}}\nextraRegistryMirrors: [{{url: '{}', certs: ['{}']}}, {{url: '{}', insecure: true}}]",
        url(0),
        url(1),
        file.display(),
        url(2)
    );
    let daemon = DaemonOptions::new(DFGET).trust(&known).proxy(&mirrors).start();
    let blob = Blob::random(100_000, 13);
    for (index, status) in [(0, 502), (1, 200), (2, 200)] {
        registries[index].put(IMAGE, &blob);
        for path in ["/v2/".to_owned(), blob_path(&blob)] {
            let url =
                format!("http://{}{path}?ns={}", daemon.address(), registries[index].origin.authority());
            let response = fetch(&daemon, &Request::get(url));
            assert_eq!(response.status, status, "registry {index}: {}", response.text());
            assert!(status == 200 || response.text().contains("certificate"), "{}", response.text());
        }
    }
    assert!(daemon.log().contains("this registry's certificate is not verified (insecure: true)"));
}

#[test]
fn certificates_that_cannot_be_used_refuse_the_start() {
    let options =
        DaemonOptions::new(DFGET).proxy("registryMirror: {url: registry.example.com, certs: ['broken.crt']}");
    let refusal = options.try_start(|home| {
        std::fs::write(
            home.join("broken.crt"),
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .expect("it can be written");
    });
    let refusal = refusal.expect_err("no start");
    assert_eq!(refusal.code, Some(78), "{}", refusal.printed);
    assert!(refusal.printed.contains("registryMirror.certs"), "{}", refusal.printed);
}

#[test]
fn a_name_of_the_clients_own_does_not_lead_to_this_machine_or_link() {
    let site = Site::with(|options, url| {
        let options = options.rules("[{regx: 'blobs/sha256.*'}]");
        options.proxy(&format!("registryMirror: {{url: '{url}', dynamic: true}}"))
    });
    let inner = Registry::plain();
    let blob = Blob::random(100_000, 14);
    site.registry.put(IMAGE, &blob);
    inner.put(IMAGE, &blob);
    // Even what a proxy's client was given a moment ago, from there, is not for one of the mirror.
    let proxied = Request::get(inner.blob_url(IMAGE, &blob.digest));
    assert_is(&site.daemon.client().fetch(&proxied).expect("an answer"), &blob);
    let asked = inner.origin.journal().len();
    // What is configured is no choice of the client, wherever it stands.
    assert_is(
        &site.fetch(site.request(&blob_path(&blob)).header(REGISTRY, site.registry.origin.url(""))),
        &blob,
    );
    let (_, port) =
        inner.origin.authority().split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a port");
    for registry in [
        inner.origin.url(""),
        format!("http://localhost:{port}"),
        format!("https://localhost:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        format!("http://[::1]:{port}"),
        format!("http://0.0.0.0:{port}"),
        "http://169.254.169.254".to_owned(),
        "http://100.100.100.200".to_owned(),
        "http://[fe80::1]".to_owned(),
    ] {
        // Forwarded; to be fetched; and here already, so that only the access check goes out.
        let unknown = format!("/v2/{IMAGE}/blobs/{}", Blob::random(10, 15).digest);
        for path in ["/v2/".to_owned(), unknown, blob_path(&blob)] {
            let response = site.fetch(site.request(&path).header(REGISTRY, registry.as_str()));
            assert_eq!(response.status, 403, "{registry}{path}: {}", response.text());
            assert!(response.text().contains("registryMirror.url"), "{registry}: {}", response.text());
        }
    }
    let by_query = format!("{}?ns={}", blob_path(&blob), inner.origin.authority());
    assert_eq!(site.get(&by_query).status, 403);
    assert_eq!(inner.origin.journal().len(), asked);
    // As a proxy it goes on to serve what is asked for by its full name.
    assert_eq!(
        site.daemon.client().fetch(&Request::get(inner.origin.url("/v2/"))).expect("an answer").status,
        200
    );
}

#[test]
fn a_name_that_cannot_be_used_is_a_400_that_says_why() {
    let site = Site::new("dynamic: true");
    for (registry, reason) in [
        ("https://canary:password@registry.test", "a user or a password"),
        ("ftp://registry.test", "neither https:// nor http://"),
        ("https://", "not a host name"),
        ("https://registry.test:0", "not a TCP port"),
        ("https://registry.test/?x=1", "`?`"),
        ("https://registry.test/a/../b", "`..`"),
        ("https://2130706433", "not a host name"),
        ("https://0x7f.0.0.1", "not a host name"),
        ("reg istry.test", "not a host name"),
    ] {
        let response = site.fetch(site.request("/v2/").header(REGISTRY, registry));
        assert_eq!(response.status, 400, "{registry}");
        let text = response.text();
        assert!(text.contains("X-Dragonfly-Registry") && text.contains(reason), "{registry}: {text}");
        assert!(!text.contains("canary"), "{text}");
    }
    let twice = site.request("/v2/").header(REGISTRY, "https://a.test").header(REGISTRY, "https://b.test");
    assert_eq!(site.fetch(twice).status, 400);
    for query in ["ns=", "ns=https%3A%2F%2Fa.test", "ns=a.test%2Fb", "ns=u%40a.test", "ns=a.test&ns=b.test"] {
        assert_eq!(site.get(&format!("/v2/?{query}")).status, 400, "{query}");
    }
    assert!(site.registry.origin.journal().is_empty());
    assert!(!site.daemon.everything_said().contains("canary"));

    let fixed = Site::new("dynamic: false");
    for registry in ["https://canary:password@registry.test", "http://127.0.0.1:1", ""] {
        assert_eq!(
            fixed.fetch(fixed.request("/v2/?ns=").header(REGISTRY, registry)).status,
            200,
            "{registry}"
        );
    }
}

#[test]
fn a_path_that_may_be_read_in_two_ways_is_a_400() {
    let site = Site::with(|options, url| options.proxy(&format!("registryMirror: {{url: '{url}/hub'}}")));
    for target in [
        "/v2/../../admin",
        "/..",
        "/v2/%2e%2E/admin",
        "/v2/.%2e/admin",
        "/v2/..%2fadmin",
        "/v2/a%5Cb",
        "//evil.test/v2/",
        "/v2//lab/image/manifests/1",
        "/./v2/",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(status_of(&site.daemon, &request), "400", "{target}");
    }
    assert!(site.registry.origin.journal().is_empty());
}

#[test]
fn a_request_without_one_host_is_a_400() {
    let site = Site::new("");
    for (hosts, status) in [
        ("", "400"),
        ("Host: a\r\nHost: b\r\n", "400"),
        ("Host: a/b\r\n", "400"),
        ("Host: u@a\r\n", "400"),
        ("Host: 127.0.0.1:65001\r\n", "200"),
    ] {
        let request = format!("GET /v2/ HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        assert_eq!(status_of(&site.daemon, &request), status, "{hosts:?}");
    }
    assert_eq!(status_of(&site.daemon, "GET /v2/ HTTP/1.0\r\n\r\n"), "200");
}

// --- Who may ---

#[test]
fn the_proxys_own_login_is_asked_for() {
    let site = Site::with(|options, url| {
        let login = "basicAuth: {username: user, password: canary-password}";
        options.proxy(&format!("registryMirror: {{url: '{url}'}}\n{login}"))
    });
    let refused = site.get("/v2/");
    assert_eq!(refused.status, 407);
    assert!(refused.header("proxy-authenticate").unwrap_or_default().starts_with("Basic "));
    assert!(site.registry.origin.journal().is_empty());
    let right = site.request("/v2/").header("Proxy-Authorization", "Basic dXNlcjpjYW5hcnktcGFzc3dvcmQ=");
    assert_eq!(site.fetch(right).status, 200);
    assert_eq!(site.registry.origin.journal()[0].headers.get("proxy-authorization"), None);
}

#[test]
fn the_white_list_holds_for_registries_too() {
    let ca = TestCa::new("authority of the test registries");
    let (allowed, other) = (Registry::https(&ca), Registry::https(&ca));
    let host = |registry: &Registry| registry.origin.address().ip().to_string();
    let mirrors = format!(
        "registryMirror: {{url: '{}'}}\nextraRegistryMirrors: [{{url: '{}'}}]\nwhiteList: [{{host: '{}'}}]",
        allowed.origin.url(""),
        other.origin.url(""),
        host(&allowed)
    );
    let daemon = DaemonOptions::new(DFGET).trust(&ca).proxy(&mirrors).start();
    let get = |query: &str| fetch(&daemon, &Request::get(format!("http://{}/v2/{query}", daemon.address())));
    assert_eq!(get("").status, 200);
    let refused = get(&format!("?ns={}", other.origin.authority()));
    assert!(refused.status == 403 && refused.text().contains("whiteList"), "{}", refused.text());
    assert!(other.origin.journal().is_empty());
}

#[test]
fn what_one_user_fetched_is_not_thereby_anothers() {
    let site = Site::new("");
    let blob = Blob::random(200_000, 16);
    site.registry.put(IMAGE, &blob);
    site.registry.grant(IMAGE, "Bearer alice");
    site.registry.grant("bob/own", "Bearer bob");
    let get = |authorization: &str| {
        let request = site.request(&blob_path(&blob));
        site.fetch(if authorization.is_empty() { request } else { request.authorization(authorization) })
    };
    for _ in ["cold", "warm"] {
        assert_is(&get("Bearer alice"), &blob);
        for other in ["", "Bearer bob", "Bearer forged"] {
            let refused = get(other);
            assert_eq!(refused.status, 401, "{other}");
            let challenge = refused.header("www-authenticate").unwrap_or_default();
            assert!(challenge.contains("repository:lab/image:pull"), "{challenge}");
            assert!(refused.text().contains("show a token"), "{}", refused.text());
        }
    }
    let whole = site.registry.origin.asked("GET", &blob.digest);
    assert_eq!(whole.iter().filter(|entry| entry.sent == 200_000).count(), 1);
    site.registry.revoke(IMAGE, "Bearer alice");
    assert_eq!(get("Bearer alice").status, 401);
}

#[test]
fn a_registry_that_is_down_is_outlived_by_those_who_had_the_blob() {
    let site = Site::new("");
    let blob = Blob::random(200_000, 17);
    site.registry.put(IMAGE, &blob);
    site.registry.grant(IMAGE, "Bearer alice");
    assert_is(&site.fetch(site.request(&blob_path(&blob)).authorization("Bearer alice")), &blob);
    site.registry.origin.go_down();
    assert_is(&site.fetch(site.request(&blob_path(&blob)).authorization("Bearer alice")), &blob);
    assert_eq!(site.get(&blob_path(&blob)).status, 502);
}

#[test]
fn a_site_may_trust_two_registries_differently_without_hijacking_either() {
    let ca = TestCa::new("an authority that nobody knows");
    let registry = Registry::https(&ca);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), ca.certificate_pem()).expect("it can be written");
    let mirrors = format!(
        "registryMirror: {{url: '{}', certs: ['{}']}}",
        registry.origin.url(""),
        file.path().display()
    );
    let daemon = DaemonOptions::new(DFGET).rules("[]").hosts("[]").proxy(&mirrors).start();
    assert_eq!(fetch(&daemon, &Request::get(format!("http://{}/v2/", daemon.address()))).status, 200);
    daemon.wait_for_log(&format!("serve there as a mirror of {}", registry.origin.url("")));
}
