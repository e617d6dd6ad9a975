//! What origins and command lines refuse: one line, the right exit status, and nothing left behind.

use std::fs;

use dfget_testkit::{Answer, Blob, Ended, Origin, Reply};

use super::support::{Files, WAYS, dfget, get, get_json, got, home, names, session};

#[test]
fn each_refusal_has_its_exit_status() {
    for way in WAYS {
        let session = session();
        let files = Files::https(&session, &Blob::random(1000, 1));
        for (status, code) in [(401, 77), (403, 77), (404, 1), (410, 1), (500, 75), (503, 75)] {
            for _ in 0..12 {
                files.fault(move |_| Answer::new(status).body(b"a page\n".to_vec()).into());
            }
            let object = get_json(&session, way, &[&files.url(&format!("x{status}"))]);
            assert_eq!(object["exitCode"], code, "{object}");
            let told = object["error"].as_str().unwrap();
            assert!(told.contains(&format!("/x{status}: the answer is {status}")), "{told}");
            files.heal();
        }
        assert!(names(&session).is_empty(), "{:?}", names(&session));
    }
}

#[test]
fn a_registry_is_asked_again_after_a_pause_and_believed_in_the_end() {
    for way in WAYS {
        let session = session();
        let blob = Blob::random(1000, 2);
        let files = Files::https(&session, &blob);
        files.fault(|_| Answer::new(429).header("Retry-After", "1").into());
        got(&session, way, &[&files.url("x")]);
        assert!(fs::read(home(&session, "x")).unwrap() == blob.bytes[..]);
        session.registry.set_outage_for(429, 600);
        let told = get_json(&session, way, &[&session.registry.blob_url("p", &blob.digest), "-O", "y"]);
        assert_eq!(told["exitCode"], 75, "{told}");
        assert!(told["error"].as_str().unwrap().contains("429"), "{told}");
    }
}

#[test]
fn nobody_there_and_nobody_trusted_are_told_apart() {
    let session = session();
    let gone = Origin::https(&session.ca, |_| Answer::new(200).into());
    gone.go_down();
    let other = dfget_testkit::TestCa::new("an authority that nobody trusts");
    let strange = Origin::https(&other, |_| Answer::new(200).into());
    for way in WAYS {
        let ended = get(&session, way, &[&gone.url("/x")]);
        assert_eq!(ended.code, 75, "{}", ended.stderr);
        assert!(ended.stderr.contains("cannot connect to"), "{}", ended.stderr);
        let ended = get(&session, way, &[&strange.url("/x")]);
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert!(ended.stderr.contains("certificate"), "{}", ended.stderr);
        let ended = get(&session, way, &["https://no-such-host.invalid/x"]);
        assert_eq!(ended.code, 75, "{}", ended.stderr);
        assert!(ended.stderr.contains("cannot resolve no-such-host.invalid"), "{}", ended.stderr);
    }
}

#[test]
fn time_that_is_over_ends_it() {
    for way in WAYS {
        let session = session();
        let files = Files::https(&session, &Blob::random(300_000, 3));
        files.fault(|_| Reply::Silence);
        let ended = get(&session, way, &[&files.url("x"), "--timeout", "2500ms"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (124, "error: not done within 2500 ms\n"));
        assert!(names(&session).is_empty(), "{:?}", names(&session));
    }
}

#[test]
fn a_wrong_command_line_gives_2_and_says_what_to_write() {
    let session = session();
    for (arguments, told) in [
        (&["https://h.test/x", "--diegst", "x"][..], "--digest"),
        (&["--no-such-flag", "https://h.test/x"], "unexpected argument"),
        (&["h.test/x"], "write it as https://…"),
        (&["library://a/b/c"], "dfget run -- apptainer pull"),
        (&["https://h.test/x", "-r"], "xargs"),
        (&["https://h.test/x", "--range", "5-1"], "such as 0-9"),
        (&["https://h.test/x", "--range", "0-1", "--digest", DIGEST], "leave one of them out"),
        (&["https://h.test/x", "--digest", "md5:00"], "can be forged"),
        (&["https://h.test/x", "-O", "a", "--output", "b"], "two files"),
        (&["https://h.test/x", "-O", "-", "--output", "json"], "standard output"),
        (&["oras://h.test/x", "-H", "Authorization: canary"], "apptainer registry login"),
        (&["oras://h.test/x", "--platform", "linux"], "such as linux/arm64"),
        (&["get"], "Usage: dfget get"),
        (&["https://h.test/x", "https://h.test/y"], "unexpected argument"),
    ] {
        let ended = get(&session, &[], arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.stderr);
        assert!(
            ended.stderr.starts_with("error: ") && ended.stderr.contains(told),
            "{arguments:?}: {}",
            ended.stderr
        );
        assert!(!ended.stderr.contains("canary"));
    }
    assert!(session.daemons().is_empty(), "nothing was begun");
}

const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

#[test]
fn an_old_flag_without_meaning_is_told_once() {
    let session = session();
    let files = Files::https(&session, &Blob::random(1000, 4));
    let ended = get(&session, &["--direct"], &[&files.url("x"), "--workhome", "/w", "--console", "-b"]).ok();
    assert_eq!(
        ended.stderr,
        "warning: dfget get: --console, --workhome have no meaning any more; leave them out\n"
    );
}

#[test]
fn a_file_of_logins_that_cannot_be_used_is_named() {
    let session = session();
    let blob = Blob::random(1000, 5);
    let url = session.registry.put("p/image", &blob);
    fs::create_dir(home(&session, ".docker")).unwrap();
    fs::write(home(&session, ".docker/config.json"), r#"{"auths":{"r":"canary"}}"#).unwrap();
    let ended = get(&session, &["--direct"], &[&url, "-O", "x"]).ok();
    assert!(
        ended.stderr.starts_with("warning: dfget get: no login is taken from ")
            && ended.stderr.contains(".docker/config.json: it is no file of logins (line 1, column ")
            && ended.stderr.lines().count() == 1,
        "{}",
        ended.stderr
    );
    let path = home(&session, ".docker/config.json").display().to_string();
    let named = get(&session, &["--direct"], &[&url, "-O", "y", "--authfile", &path]);
    assert_eq!(named.code, 78, "{}", named.stderr);
    let missing = get(&session, &["--direct"], &[&url, "-O", "y", "--authfile", "/no/such/file"]);
    assert_eq!(
        (missing.code, missing.stderr.as_str()),
        (78, "error: /no/such/file: there is no such file of logins\n")
    );
    assert!(!format!("{}{}", ended.stderr, named.stderr).contains("canary"));
}

#[test]
fn the_help_says_what_the_exit_statuses_are() {
    let session = session();
    let help = Ended::of(&mut dfget(&session, &["get", "--help"])).ok().stdout;
    for word in
        ["75 try again later", "77 not allowed", "124 --timeout is over", "130 interrupted", "-O <FILE>"]
    {
        assert!(help.contains(word), "{word}: {help}");
    }
    assert!(!help.contains("--workhome"), "what has no meaning is not offered");
}
