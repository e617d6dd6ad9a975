//! Starts that are refused, each with its cause and the next step, and ends that lose nothing.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use dfget_testkit::daemon::Refusal;
use dfget_testkit::{Blob, DaemonOptions, Gate, Request, Stage, TestCa, ca};

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");
/// The exit code for a configuration that cannot be used (EX_CONFIG of sysexits.h).
const CONFIG: Option<i32> = Some(78);

fn refused(options: DaemonOptions, prepare: impl FnOnce(&Path)) -> Refusal {
    options.try_start(prepare).expect_err("the start must be refused")
}

fn assert_says(refusal: &Refusal, words: &[&str]) {
    for word in words {
        assert!(refusal.printed.contains(word), "{word:?} is not in:\n{}", refusal.printed);
    }
}

#[test]
fn a_missing_ca_file_is_named_with_its_key() {
    let refusal = refused(DaemonOptions::new(DFGET), |home| {
        fs::remove_file(home.join("ca.crt")).expect("it was there");
    });
    assert_eq!(refusal.code, CONFIG, "{}", refusal.printed);
    assert_says(&refusal, &["dfget.yaml:", "hijackHTTPS.cert", "ca.crt"]);
}

#[test]
fn a_missing_ca_key_is_named_with_its_key() {
    let refusal = refused(DaemonOptions::new(DFGET), |home| {
        fs::remove_file(home.join("ca.key")).expect("it was there");
    });
    assert_eq!(refusal.code, CONFIG, "{}", refusal.printed);
    assert_says(&refusal, &["dfget.yaml:", "hijackHTTPS.key", "ca.key"]);
}

#[test]
fn a_certificate_without_ca_true_is_refused() {
    let refusal = refused(DaemonOptions::new(DFGET), |home| {
        let (certificate, key) = ca::no_authority("just a server");
        fs::write(home.join("ca.crt"), certificate).expect("it can be written");
        fs::write(home.join("ca.key"), key).expect("it can be written");
    });
    assert_eq!(refusal.code, CONFIG, "{}", refusal.printed);
    assert_says(&refusal, &["ca.crt", "CA:TRUE"]);
}

#[test]
fn a_key_that_does_not_match_is_refused() {
    let other = TestCa::new("another");
    let refusal = refused(DaemonOptions::new(DFGET), |home| {
        fs::write(home.join("ca.key"), other.key_pem()).expect("it can be written");
    });
    assert_eq!(refusal.code, CONFIG, "{}", refusal.printed);
    assert_says(&refusal, &["ca.key", "match"]);
    assert!(!refusal.printed.contains("PRIVATE KEY"));
}

#[test]
fn files_that_hold_no_certificate_or_key_are_refused() {
    for name in ["ca.crt", "ca.key"] {
        let refusal = refused(DaemonOptions::new(DFGET), |home| {
            fs::write(home.join(name), "these are not the lines you look for\n").expect("it can be written");
        });
        assert_eq!(refusal.code, CONFIG, "{}", refusal.printed);
        assert_says(&refusal, &[name]);
        assert!(!refusal.printed.contains("not the lines"), "what stands in such a file is not printed");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    let refusal = refused(DaemonOptions::new(DFGET).port(port), |_| {});
    assert_ne!(refusal.code, Some(0));
    assert_says(&refusal, &[&format!("127.0.0.1:{port}"), "in use"]);
}

#[test]
fn a_store_in_use_is_not_shared() {
    let stage = Stage::new(DFGET);
    let store = stage.daemon.data_dir();
    let refusal = refused(DaemonOptions::new(DFGET).data_dir(&store), |_| {});
    assert_ne!(refusal.code, Some(0));
    assert_says(&refusal, &[&store.display().to_string()]);
    let blob = Blob::random(1000, 1);
    let url = stage.registry.put("lab/image", &blob);
    assert!(stage.get(&url).body == blob.bytes[..], "the first goes on");
}

#[test]
fn the_start_says_which_file_clients_must_trust() {
    let stage = Stage::new(DFGET);
    let said = stage.daemon.everything_said();
    assert!(said.contains(&stage.daemon.ca_file().display().to_string()), "{said}");
    assert!(said.contains("SSL_CERT_FILE"), "{said}");
}

#[test]
fn sigterm_lets_a_running_answer_end_well() {
    let mut stage = Stage::new(DFGET);
    let blob = Blob::random(2 << 20, 2);
    let url = stage.registry.put("lab/image", &blob);
    let gate = Gate::new();
    let held = gate.clone();
    stage.registry.next_blob(move |answer| answer.hold_after(1 << 20, &held).into());
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    let mut incoming = connection.start(&Request::get(&url)).expect("a head");
    assert!(incoming.read(1000) == blob.bytes[..1000]);
    stage.daemon.terminate();
    let address = stage.daemon.address();
    while std::net::TcpStream::connect(address).is_ok() {
        std::thread::yield_now();
    }
    gate.open();
    let rest = incoming.read_all();
    assert!(rest.is_complete() && rest.body == blob.bytes[1000..], "{:?}", rest.end);
    assert!(stage.daemon.wait().success());
}

#[test]
fn sigterm_does_not_wait_for_idle_connections() {
    let mut stage = Stage::new(DFGET);
    let url = stage.registry.put("lab/image", &Blob::random(1000, 3));
    let mut connection = stage.client().open(&url).expect("an answer").expect("granted");
    assert_eq!(connection.fetch(&Request::get(&url)).expect("an answer").status, 200);
    let _tunnel =
        stage.client().connect(&stage.registry.origin.authority()).expect("an answer").expect("granted");
    assert!(stage.daemon.stop().success());
}
