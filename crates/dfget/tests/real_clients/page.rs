//! The documented page, step by step, with one step added: the client is told to trust `ca.crt`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::support::{
    CORE_LOG, Client, Daemon, Finished, Image, PAGE_CONFIG, PAGE_OPENSSL_CONF, Registries, User,
    in_namespace, run,
};

/// What is typed at the prompts: a country, a name, and Enter at the others.
const ANSWERS: &str = "DE\n\n\n\n\nproxy of the test\n\n\n";

#[test]
fn documented_page_with_the_certificate_beside_the_configuration() {
    in_namespace(|| {
        let directory = Path::new("/etc/dragonfly");
        fs::create_dir(directory).unwrap();
        follow_the_page(directory, Path::new("/"));
    });
}

#[test]
fn documented_page_with_the_certificate_in_the_working_directory() {
    in_namespace(|| {
        let directory = Path::new("/tmp/somewhere");
        fs::create_dir(directory).unwrap();
        fs::create_dir("/etc/dragonfly").unwrap();
        follow_the_page(directory, directory);
    });
}

/// All of the page: certificate made in `made_in`, daemon started in `started_in`.
fn follow_the_page(made_in: &Path, started_in: &Path) {
    let registries = Registries::start(&["open"]);
    let image = Image::of_mib(16);
    generate_ca(made_in);
    fs::write("/etc/dragonfly/dfget.yaml", PAGE_CONFIG.replace("<your.private.registry>", "registry.test"))
        .unwrap();
    let _daemon = Daemon::start_in(started_in);

    pull_as_documented(&made_in.join("ca.crt"), &image);
    registries.assert_downloaded_once("open", &image);
    let first = verify();
    assert!(!first.is_empty());

    // Another client, with nothing in its cache.
    pull_as_documented(&made_in.join("ca.crt"), &image);
    registries.assert_downloaded_once("open", &image);
    let second = verify();
    assert!(second.len() > first.len(), "the second pull has a line too: {second:#?}");
    for line in &second {
        for field in [r#""level":"info""#, r#""ts":""#, r#""caller":""#, r#""peer":""#, r#""task":""#] {
            assert!(line.contains(field), "{field} is missing in {line}");
        }
        assert!(line.contains(r#""component":"PeerTask""#), "{line}");
    }
}

/// "Generate CA certificate".
fn generate_ca(directory: &Path) {
    let shell = |command: &str| run(Command::new("sh").args(["-c", command]).current_dir(directory)).ok();
    shell("openssl genrsa -out ca.key 2048");
    fs::write(directory.join("openssl.conf"), PAGE_OPENSSL_CONF).unwrap();

    // Without a terminal of its own openssl reads what is typed from its input.
    let mut asking = Command::new("setsid")
        .args(["--wait", "sh", "-c", "openssl req -new -key ca.key -nodes -out ca.csr -config openssl.conf"])
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    asking.stdin.take().unwrap().write_all(ANSWERS.as_bytes()).unwrap();
    let asked = Finished::new("openssl req".to_owned(), &asking.wait_with_output().unwrap()).ok();
    let prompts = asked.stdout + &asked.stderr;
    assert!(prompts.contains("Country Name (2 letter code)"), "{prompts}");

    shell(
        "openssl x509 -req -days 36500 -extfile openssl.conf \
            -extensions v3_ca -in ca.csr -signkey ca.key -out ca.crt",
    );
}

/// "Pull images with proxy".
fn pull_as_documented(ca: &Path, image: &Image) {
    let client = Client::direct(User::Nobody);
    let pull = format!(
        "no_proxy='' NO_PROXY='' HTTPS_PROXY=127.0.0.1:65001 singularity pull  oras://registry.test/public/sif:{}",
        image.tag
    );
    let mut command = client.command("sh");
    run(command.args(["-c", &pull]).env("SSL_CERT_FILE", ca)).ok();
    image.assert_same(&client.file(&format!("sif_{}.sif", image.tag)));
}

/// "Verify".
fn verify() -> Vec<String> {
    let found = run(Command::new("sh").args(["-c", &format!(r#"grep "peer task done" {CORE_LOG}"#)])).ok();
    found.stdout.lines().map(str::to_owned).collect()
}
