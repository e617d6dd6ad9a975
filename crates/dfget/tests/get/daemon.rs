//! Through a daemon, and when there is none.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixListener;

use dfget_testkit::session::{kill, until};
use dfget_testkit::{Blob, Ended, Gate, Registry, Running, Session, SiteProxy};

use super::support::{DFGET, Files, WAYS, dfget, get, get_json, got, home, names, session};

const LEN: usize = 3_000_000;

#[test]
fn the_second_get_comes_from_the_cache_of_this_node() {
    let session = session();
    let blob = Blob::random(LEN, 1);
    let url = session.registry.put("p/image", &blob);
    let first = get_json(&session, &[], &[&url, "-O", "a"]);
    assert_eq!(
        (&first["throughDaemon"], &first["sources"]["origin"]),
        (&true.into(), &LEN.into()),
        "{first}"
    );
    let second = get_json(&session, &[], &[&url, "-O", "b"]);
    assert_eq!(second["sources"]["cache"], LEN, "{second}");
    assert_eq!(session.registry.downloads(&blob.digest), 1);
    assert!(fs::read(home(&session, "b")).unwrap() == blob.bytes[..]);
    let direct = get_json(&session, &["--direct"], &[&url, "-O", "c"]);
    assert_eq!(
        (&direct["throughDaemon"], &direct["sources"]["origin"]),
        (&false.into(), &LEN.into()),
        "{direct}"
    );
}

#[test]
fn any_file_that_is_named_is_cached() {
    let session = session();
    let blob = Blob::random(LEN, 2);
    let files = Files::https(&session, &blob);
    got(&session, &[], &[&files.url("data.bin?a=b"), "-O", "a"]);
    let second = get_json(&session, &[], &[&files.url("data.bin?a=b"), "-O", "b"]);
    assert_eq!(second["sources"]["cache"], LEN, "{second}");
    assert!(fs::read(home(&session, "b")).unwrap() == blob.bytes[..]);
}

#[test]
fn the_daemon_ends_after_its_last_get() {
    let session = session();
    let url = session.registry.put("p/image", &Blob::random(1000, 3));
    got(&session, &[], &[&url, "-O", "a"]);
    session.wait_for_no_daemon();
}

#[test]
fn a_daemon_that_dies_does_not_end_the_download() {
    let session = session();
    let blob = Blob::random(LEN, 4);
    let url = session.registry.put("p/image", &blob);
    let gate = Gate::new();
    let held = gate.clone();
    session.registry.next_blob(move |answer| answer.hold_after(2_000_000, &held).into());
    let running = Running::start(&mut dfget(&session, &[&url, "-O", "x", "-v", "--tag", "t"]));
    until("bytes to come", || {
        names(&session)
            .iter()
            .find(|name| name.ends_with(".part"))
            .filter(|name| fs::metadata(home(&session, name)).is_ok_and(|part| part.len() >= 1_000_000))
            .cloned()
    });
    kill(session.daemon());
    gate.open();
    let ended = running.wait().ok();
    assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..], "{}", ended.stderr);
    assert!(ended.stderr.contains("not through the daemon any more, but directly: "), "{}", ended.stderr);
    for entry in session.registry.origin.journal() {
        let ours =
            entry.headers.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("x-dragonfly-"));
        assert!(!ours, "what is for daemons alone reaches no origin: {entry:?}");
    }
}

#[test]
fn without_a_daemon_it_goes_directly_and_says_so_if_asked() {
    let session = session();
    let blob = Blob::random(LEN, 5);
    let url = session.registry.put("p/image", &blob);
    // Where the daemon of the user would be, something else is.
    got(&session, &[], &[&url, "-O", "first"]);
    let socket = session.files().into_iter().find(|path| path.extension().is_some_and(|end| end == "sock"));
    session.wait_for_no_daemon();
    let listener = UnixListener::bind(socket.expect("the daemon listened")).unwrap();
    let stranger = std::thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(b"220 mail.example.org ESMTP\r\n");
        }
    });
    let quiet = get(&session, &[], &[&url, "-O", "x"]).ok();
    assert_eq!(quiet.stderr, "", "it is no failure");
    let told = get(&session, &[], &[&url, "-O", "y", "-v"]).ok().stderr;
    assert!(
        told.contains("dfget get: no daemon: ") && told.contains("; going directly, without a cache"),
        "{told}"
    );
    assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..]);
    let strict = get(&session, &[], &[&url, "-O", "z", "--disable-back-source"]);
    assert_eq!(strict.code, 75, "{}", strict.stderr);
    assert!(strict.stderr.contains("--disable-back-source forbids to go without"), "{}", strict.stderr);
    stranger.join().unwrap();
}

#[test]
fn a_socket_that_nobody_answers_at_is_passed_over() {
    let session = session();
    let blob = Blob::random(LEN, 6);
    let url = session.registry.put("p/image", &blob);
    // A daemon that speaks another language.
    let listener = UnixListener::bind(session.path("system.sock")).unwrap();
    let stranger = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"{\"type\":\"somethingNew\"}\n");
    });
    let ended = get(&session, &["-v"], &[&url, "-O", "x"]).ok();
    assert!(ended.stderr.contains("gives no answer that this version understands"), "{}", ended.stderr);
    assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..]);
    stranger.join().unwrap();
}

#[test]
fn what_is_not_stored_is_not_fetched_if_that_is_forbidden() {
    let session = session();
    let blob = Blob::random(LEN, 7);
    let files = Files::https(&session, &blob);
    let url = files.url("x.sif");
    let strict = ["--disable-back-source"];
    let ended = get(&session, &strict, &[&url, "-O", "a"]);
    assert_eq!(ended.code, 75, "{}", ended.stderr);
    assert!(ended.stderr.contains("not stored here"), "{}", ended.stderr);
    assert!(names(&session).is_empty(), "{:?}", names(&session));
    got(&session, &[], &[&url, "-O", "a"]);
    let stored = get_json(&session, &strict, &[&url, "-O", "b"]);
    assert_eq!(stored["sources"]["cache"], LEN, "{stored}");
}

/// A name that nobody here can resolve but the site's proxy.
const NAME: &str = "registry.test";

#[test]
fn the_proxy_of_the_site_is_used_either_way_and_within_dfget_run_too() {
    for way in WAYS {
        let session = Session::with(DFGET, |ca| Registry::https_named(ca, NAME));
        let proxy = SiteProxy::to(session.registry.origin.address());
        let blob = Blob::random(LEN, 8);
        let url = session.registry.put("p/image", &blob).replace(&session.registry.origin.authority(), NAME);
        let address = format!("http://user:canary@{}", proxy.address());
        let mut alone = dfget(&session, &[&[url.as_str(), "-O", "a", "-v"][..], way].concat());
        let told = Ended::of(alone.env("HTTPS_PROXY", &address)).ok().stderr;
        let within = [&["--", DFGET, &url, "-O", "b", "-v"][..], way].concat();
        let more = Ended::of(session.run(&within).env("HTTPS_PROXY", &address)).ok().stderr;
        for name in ["a", "b"] {
            assert!(fs::read(home(&session, name)).unwrap() == blob.bytes[..]);
        }
        assert!(proxy.asked().iter().all(|asked| asked.login.is_some()), "{:?}", proxy.asked());
        assert!(!format!("{told}{more}{}", session.log()).contains("canary"), "{told}{more}");
    }
}

#[test]
fn a_proxy_of_the_site_that_is_none_is_told() {
    let session = session();
    let files = Files::https(&session, &Blob::random(1000, 9));
    let mut command = dfget(&session, &[&files.url("x"), "--direct"]);
    let ended = Ended::of(command.env("HTTPS_PROXY", "socks5://user:canary@h")).ok();
    assert!(
        ended.stderr.starts_with("warning: dfget get: HTTPS_PROXY or HTTP_PROXY cannot be used: ")
            && !ended.stderr.contains("canary"),
        "{}",
        ended.stderr
    );
}
