//! Who may use the proxy at all, and for which hosts: `basicAuth` and `whiteList`.

use dfget_testkit::{Origin, Registry, Request, Stage};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
/// `user:canary-password` in base64.
const RIGHT: &str = "Basic dXNlcjpjYW5hcnktcGFzc3dvcmQ=";

#[test]
fn without_the_right_password_there_is_a_407_with_a_challenge() {
    let stage =
        Stage::with(DFGET, |options| options.proxy("basicAuth: {username: user, password: canary-password}"));
    let registry = Registry::plain();
    for wrong in [None, Some("Basic dXNlcjp3cm9uZw=="), Some("Basic !!"), Some("Bearer x")] {
        let mut client = stage.client();
        let mut request = Request::get(registry.origin.url("/v2/"));
        if let Some(wrong) = wrong {
            client = client.with_connect_header("Proxy-Authorization", wrong);
            request = request.header("Proxy-Authorization", wrong);
        }
        let tunnel = client.connect(&stage.registry.origin.authority()).expect("an answer");
        let refusal = tunnel.expect_err("no tunnel without the password");
        let forwarded = client.fetch(&request).expect("an answer");
        for answer in [refusal, forwarded] {
            assert_eq!(answer.status, 407, "{wrong:?}");
            let challenge = answer.header("proxy-authenticate").unwrap_or_default();
            assert!(challenge.starts_with("Basic "), "{wrong:?}: {challenge}");
        }
    }
    assert!(registry.origin.journal().is_empty());
    let client = stage.client().with_connect_header("Proxy-Authorization", RIGHT);
    assert_eq!(
        client.fetch(&Request::get(stage.registry.origin.url("/v2/"))).expect("an answer").status,
        200
    );
    let request = Request::get(registry.origin.url("/v2/")).header("Proxy-Authorization", RIGHT);
    assert_eq!(stage.fetch(&request).status, 200);
    for origin in [&registry.origin, &stage.registry.origin] {
        assert_eq!(origin.journal()[0].headers.get("proxy-authorization"), None);
    }
    assert!(!stage.daemon.everything_said().contains("canary-password"));
}

#[test]
fn hosts_and_ports_that_the_white_list_does_not_name_are_a_403() {
    let allowed = Registry::plain();
    let refused = Registry::plain();
    let (host, port) = parts(&allowed.origin);
    let stage = Stage::with(DFGET, |options| {
        options.proxy(&format!("whiteList: [{{host: {host}, ports: ['{port}']}}]"))
    });
    assert_eq!(stage.get(&allowed.origin.url("/v2/")).status, 200);
    assert!(stage.client().connect(&allowed.origin.authority()).is_ok());
    assert_eq!(stage.get(&refused.origin.url("/v2/")).status, 403);
    for authority in [refused.origin.authority(), format!("{host}:1")] {
        let refusal = stage.client().connect(&authority).expect("an answer").expect_err("not on the list");
        assert_eq!(refusal.status, 403, "{authority}");
        assert!(refusal.reason.contains("whiteList"), "the key to change is named: {}", refusal.reason);
    }
    assert!(refused.origin.journal().is_empty());
}

fn parts(origin: &Origin) -> (String, String) {
    let authority = origin.authority();
    let (host, port) = authority.split_once(':').expect("an authority has a port");
    (host.to_owned(), port.to_owned())
}
