//! The proxy of the site, which a daemon reaches origins through.

use dfget_testkit::site_proxy::Asked;
use dfget_testkit::{
    Answer, Blob, Daemon, DaemonOptions, Origin, Registry, Request, Response, SiteProxy, TestCa,
};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

/// A name that nobody here can resolve but the site's proxy.
const NAME: &str = "registry.test";

/// base64 of `user:p@canary`
const LOGIN: &str = "Basic dXNlcjpwQGNhbmFyeQ==";

/// A registry that only the site's proxy leads to, with a blob.
struct Site {
    ca: TestCa,
    registry: Registry,
    proxy: SiteProxy,
    blob: Blob,
    url: String,
}

impl Site {
    fn new() -> Self {
        let ca = TestCa::new("authority of the test registry");
        let registry = Registry::https_named(&ca, NAME);
        let proxy = SiteProxy::to(registry.origin.address());
        let blob = Blob::random(600_000, 41);
        let url =
            registry.put("p/image", &blob).replace(&registry.origin.authority(), &format!("{NAME}:443"));
        Self { ca, registry, proxy, blob, url }
    }

    fn options(&self) -> DaemonOptions {
        DaemonOptions::new(DFGET).trust(&self.ca).hosts("[{regx: '^registry\\.test:443$'}]")
    }

    /// The proxy's URL with a login.
    fn address(&self) -> String {
        format!("http://user:p%40canary@{}", self.proxy.address())
    }

    fn get(&self, daemon: &Daemon) -> Response {
        daemon.client().fetch(&Request::get(&self.url)).expect("an answer")
    }

    fn assert_pulled(&self, daemon: &Daemon) {
        let answer = self.get(daemon);
        assert!(
            answer.status == 200 && answer.body == self.blob.bytes[..],
            "{} {}",
            answer.status,
            answer.reason
        );
        let asked = self.proxy.asked();
        let wanted = Asked { target: format!("{NAME}:443"), login: Some(LOGIN.to_owned()) };
        assert!(!asked.is_empty() && asked.iter().all(|asked| *asked == wanted), "{asked:?}");
        let said = daemon.everything_said();
        assert!(said.contains(&self.proxy.address().to_string()), "the way is told: {said}");
        assert!(!said.contains("canary") && !said.contains(LOGIN), "its login is not: {said}");
    }
}

#[test]
fn origins_are_reached_through_the_proxy_of_the_environment() {
    for name in ["HTTPS_PROXY", "https_proxy", "D7Y_SOURCE_PROXY"] {
        let site = Site::new();
        let daemon = site.options().environment(name, &site.address()).start();
        for _ in ["cold", "warm"] {
            site.assert_pulled(&daemon);
        }
        assert_eq!(site.registry.downloads(&site.blob.digest), 1, "{name}");
    }
}

#[test]
fn the_proxy_of_the_configuration_wins_over_the_environment() {
    let site = Site::new();
    let extra = format!("download: {{resourceClients: {{https: {{proxy: '{}'}}}}}}", site.address());
    let nobody = "http://127.0.0.1:9";
    let daemon = site
        .options()
        .extra(&extra)
        .environment("HTTPS_PROXY", nobody)
        .environment("D7Y_SOURCE_PROXY", nobody)
        .start();
    site.assert_pulled(&daemon);
}

#[test]
fn no_proxy_names_hosts_that_are_reached_directly() {
    let site = Site::new();
    let daemon = site
        .options()
        .environment("HTTPS_PROXY", &site.address())
        .environment("NO_PROXY", "localhost,.test")
        .start();
    assert_eq!(site.get(&daemon).status, 502);
    assert_eq!(site.proxy.asked(), []);
}

#[test]
fn blind_tunnels_go_through_it_too() {
    let site = Site::new();
    let daemon =
        site.options().hosts("[{regx: 'other'}]").environment("HTTPS_PROXY", &site.address()).start();
    let tunnel = daemon.client().connect(&format!("{NAME}:443")).expect("an answer").expect("a tunnel");
    let _end_to_end =
        tunnel.start_tls(NAME, site.ca.client_config(&[])).expect("the registry's own certificate");
    assert_eq!(site.proxy.asked().len(), 1);
}

/// The proxy's own link is no more for clients than ours.
#[test]
fn an_address_that_is_refused_is_not_asked_of_the_proxy_either() {
    let site = Site::new();
    let proxy = site.address();
    let daemon = site.options().environment("HTTPS_PROXY", &proxy).environment("HTTP_PROXY", &proxy).start();
    for place in
        ["169.254.169.254", "0xa9fea9fe", "2852039166", "[fd00:ec2::254]", "[::ffff:169.254.169.254]"]
    {
        let tunnel = daemon.client().connect(&format!("{place}:80")).expect("an answer");
        assert_eq!(tunnel.expect_err("no tunnel there").status, 403, "{place}");
        let answer = daemon.client().fetch(&Request::get(format!("http://{place}:80/latest/")));
        assert_eq!(answer.expect("an answer").status, 403, "{place}");
    }
    assert_eq!(site.proxy.asked(), []);
}

/// A proxy that asks for another login, whatever it is asked for.
fn refusing() -> Origin {
    Origin::plain(|_| {
        Answer::new(407)
            .reason("Proxy Authentication Required")
            .header("Proxy-Authenticate", "Basic realm=\"site\"")
            .header("Connection", "close")
            .into()
    })
}

/// A client that sees a 407 would send us its own login, or ask its user for one.
#[test]
fn a_login_that_the_proxy_refuses_is_a_502_that_says_so() {
    let site = Site::new();
    for login in ["", "user:canary@"] {
        let proxy = refusing();
        let address = format!("http://{login}{}", proxy.authority());
        let daemon =
            site.options().environment("HTTPS_PROXY", &address).environment("HTTP_PROXY", &address).start();
        let tunnel = daemon.client().connect(&format!("{NAME}:443")).expect("an answer");
        let refusal = tunnel.expect_err("no tunnel");
        let plain = |path: &str| {
            daemon.client().fetch(&Request::get(format!("http://{NAME}:80{path}"))).expect("an answer")
        };
        for answer in [refusal, plain("/v2/"), plain("/files/x")] {
            let said = answer.text();
            assert_eq!(answer.status, 502, "{said}");
            assert!(
                said.contains("site's proxy") && said.contains("407") && said.contains("login"),
                "{said}"
            );
            assert_eq!(answer.header("proxy-authenticate"), None);
        }
        assert!(!daemon.everything_said().contains("canary"));
    }
}

#[test]
fn without_the_proxy_there_is_a_502_and_stored_content_still_flows() {
    let site = Site::new();
    let proxy = refusing();
    let gone = proxy.authority();
    let mut daemon = site.options().environment("HTTPS_PROXY", &site.address()).start();
    site.assert_pulled(&daemon);
    assert!(daemon.stop().success());
    let data = daemon.data_dir();
    let start = |address: &str| {
        site.options().data_dir(&data).environment("HTTPS_PROXY", address).extra("access: {ttl: 0s}").start()
    };
    // A proxy that refuses, and one that is gone.
    for turn in ["refuses", "gone"] {
        let mut daemon = start(&gone);
        let answer = site.get(&daemon);
        assert!(answer.status == 200 && answer.body == site.blob.bytes[..], "{turn}: {}", answer.reason);
        let other = site.url.replace("sha256:", "sha256:00");
        let answer = daemon.client().fetch(&Request::get(&other)).expect("an answer");
        assert_eq!(answer.status, 502, "{turn}: {} {}", answer.reason, answer.text());
        assert!(answer.text().contains("site's proxy"), "{turn}: {}", answer.text());
        assert!(daemon.stop().success());
        proxy.go_down();
    }
}
