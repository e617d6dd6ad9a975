//! `dfget run` where a proxy of the site is set already, by the real binary.

use std::net::TcpListener;

use dfget_testkit::site_proxy::Asked;
use dfget_testkit::{Blob, Ended, Registry, Session, SiteProxy};

/// A name that nobody here can resolve but the site's proxy.
const NAME: &str = "registry.test";

/// A registry that only the site's proxy leads to, with a blob.
fn behind_a_proxy() -> (Session, SiteProxy, Blob, String) {
    let session = Session::with(env!("CARGO_BIN_EXE_dfget"), |ca| Registry::https_named(ca, NAME));
    let proxy = SiteProxy::to(session.registry.origin.address());
    let blob = Blob::random(600_000, 41);
    let url = session.registry.put("p/image", &blob);
    let url = url.replace(&session.registry.origin.authority(), NAME);
    (session, proxy, blob, url)
}

fn pull(session: &Session, url: &str, set: &[(&str, &str)]) -> (Ended, Vec<u8>) {
    let _ = std::fs::remove_file(session.path("home/got"));
    let ended = Ended::of(session.curl(url, "got").envs(set.iter().copied()));
    (ended, std::fs::read(session.path("home/got")).unwrap_or_default())
}

#[test]
fn origins_are_reached_through_the_proxy_that_was_set() {
    for name in ["HTTPS_PROXY", "https_proxy"] {
        let (session, proxy, blob, url) = behind_a_proxy();
        let address = format!("http://user:p%40ss@{}", proxy.address());
        for _ in ["cold", "warm"] {
            let (ended, got) = pull(&session, &url, &[(name, &address)]);
            assert!(ended.code == 0 && got == blob.bytes[..], "{}", ended.stderr);
            assert!(ended.stderr.contains("through the proxy that was set before"), "{}", ended.stderr);
            assert!(!ended.stderr.contains("p%40ss"), "no password is shown: {}", ended.stderr);
        }
        assert_eq!(session.registry.downloads(&blob.digest), 1);
        // base64 of user:p@ss
        let login = Some("Basic dXNlcjpwQHNz".to_owned());
        let wanted = Asked { target: format!("{NAME}:443"), login };
        let asked = proxy.asked();
        assert!(!asked.is_empty() && asked.iter().all(|asked| *asked == wanted), "{asked:?}");
        assert!(!session.log().contains("p%40ss") && !session.log().contains("p@ss"), "{}", session.log());
    }
}

#[test]
fn what_is_not_hijacked_goes_through_it_too() {
    let (session, proxy, blob, url) = behind_a_proxy();
    let address = proxy.address().to_string();
    let script = format!("curl -sS --fail -o got {url}");
    let mut command = session.run(&["--host", "other.test", "--", "sh", "-c", &script]);
    let _ = Ended::of(command.env("HTTPS_PROXY", &address)).ok();
    assert!(std::fs::read(session.path("home/got")).unwrap() == blob.bytes[..]);
    assert!(proxy.asked().iter().any(|asked| asked.target == format!("{NAME}:443")), "{:?}", proxy.asked());
}

/// Those who come by different ways share no daemon.
#[test]
fn another_proxy_is_another_daemon() {
    let (session, proxy, _, url) = behind_a_proxy();
    let second = SiteProxy::to(session.registry.origin.address());
    for proxy in [&proxy, &second] {
        let (ended, _) = pull(&session, &url, &[("HTTPS_PROXY", &proxy.address().to_string())]);
        let _ = ended.ok();
    }
    assert_eq!(session.daemons().len(), 2);
    assert!(!proxy.asked().is_empty() && !second.asked().is_empty());
}

/// A proxy that cannot be used is told and left out; what can be reached directly is.
#[test]
fn a_wrong_proxy_is_told_and_done_without() {
    for wrong in ["socks5://127.0.0.1:1080", "https://user:secret@proxy.test", "::", "http://"] {
        let session = Session::new(env!("CARGO_BIN_EXE_dfget"));
        let blob = Blob::random(50_000, 43);
        let url = session.registry.put("p/image", &blob);
        let (ended, got) = pull(&session, &url, &[("HTTPS_PROXY", wrong)]);
        assert!(ended.code == 0 && got == blob.bytes[..], "{wrong}: {}", ended.stderr);
        let told = "HTTPS_PROXY or HTTP_PROXY cannot be used: ";
        assert!(ended.stderr.contains(told) && ended.stderr.contains("; going without"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    }
}

/// A proxy at which nobody listens: no pull can succeed, and the message names the proxy.
#[test]
fn a_dead_proxy_is_named() {
    let (session, _, _, url) = behind_a_proxy();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (ended, _) = pull(&session, &url, &[("HTTPS_PROXY", &format!("http://{free}"))]);
    assert_ne!(ended.code, 0);
    assert!(session.log().contains(&free.to_string()), "the log names it: {}", session.log());
    assert!(
        ended.stderr.contains("502") || ended.stderr.contains("504"),
        "curl shows our answer: {}",
        ended.stderr
    );
}

#[test]
fn no_proxy_holds_for_the_way_to_origins() {
    let (session, proxy, _, url) = behind_a_proxy();
    let set = [("HTTPS_PROXY", &*proxy.address().to_string()), ("NO_PROXY", ".test,localhost")];
    let (ended, _) = pull(&session, &url, &set);
    assert_ne!(ended.code, 0, "nobody can resolve the name");
    assert_eq!(proxy.asked(), []);
}
