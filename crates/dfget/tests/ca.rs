//! `dfget ca`, by the real binary.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const DFGET: &str = env!("CARGO_BIN_EXE_dfget");

/// A home with a `dfget.yaml` that hijacks these patterns.
struct Site(TempDir);

// === impl Site ===

impl Site {
    fn new(patterns: &[&str]) -> Self {
        let hosts: Vec<_> = patterns.iter().map(|pattern| format!("{{regx: '{pattern}'}}")).collect();
        let hosts = hosts.join(", ");
        Self::with(&format!("proxies: [{{regx: blobs}}]\nhijackHTTPS: {{hosts: [{hosts}]}}\n"))
    }

    fn with(yaml: &str) -> Self {
        let site = Self(tempfile::tempdir().expect("a directory"));
        fs::write(site.path("dfget.yaml"), yaml).expect("written");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(DFGET);
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_clear()
            .env("HOME", self.0.path())
            .env("DFGET_CONFIG", "dfget.yaml");
        command
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        texts(&self.command(arguments).output().expect("the binary is there"))
    }

    /// Must end with 0; what was printed on standard output.
    fn ok(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {stdout}{stderr}");
        stdout
    }

    /// Must end with this and nothing on standard output; what was printed on standard error.
    fn refused(&self, arguments: &[&str], expected: i32) -> String {
        let (code, stdout, stderr) = self.run(arguments);
        assert_eq!((code, stdout.as_str()), (Some(expected), ""), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("-----BEGIN C") && !stderr.contains("-----BEGIN P"), "{stderr}");
        stderr
    }

    fn shown(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[&["ca", "show", "--output", "json"], arguments].concat());
        serde_json::from_str(&text).expect(&text)
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        let output = command.args(arguments.split_whitespace()).current_dir(self.0.path()).output();
        let output = output.expect("openssl is needed: apt-get install openssl");
        assert!(output.status.success(), "openssl {arguments}: {}", texts(&output).2);
    }
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn create_makes_a_pair_for_the_hosts_of_the_configuration() {
    let site = Site::new(&[r"^registry\.example\.com:443$", "^192.0.2.7:5000$"]);
    let said = site.ok(&["ca", "create"]);
    let cert = site.path("ca.crt");
    for words in [
        &format!("made {} and {}\n", cert.display(), site.path("ca.key").display()),
        "\n  subject      CN=dfget on ",
        "\n  fingerprint  ",
        "\n  for          registry.example.com, 192.0.2.7\n",
        "\n  expires      ",
        "\nnext: start `dfget daemon`, and let clients trust it, by SSL_CERT_FILE=",
    ] {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
    assert!(!said.contains("PRIVATE"));
    assert_eq!((mode(&cert), mode(&site.path("ca.key"))), (0o644, 0o600));

    let shown = site.shown(&[]);
    assert_eq!(
        (&shown["version"], &shown["anyHost"], &shown["expired"]),
        (&1.into(), &false.into(), &false.into())
    );
    assert_eq!(shown["names"], serde_json::json!(["registry.example.com"]));
    assert_eq!(shown["addresses"], serde_json::json!(["192.0.2.7"]));
    assert_eq!((&shown["key"], &shown["keyFile"]["mode"]), (&"EC P-256".into(), &"0600".into()));
    assert_eq!(shown["weaknesses"], serde_json::json!([]));
    let end = shown["notAfter"].as_str().expect("text");
    assert!(end.len() == 20 && end.ends_with('Z') && end.contains('T'), "{end}");
    assert!(said.contains(shown["fingerprint"].as_str().expect("text")));

    let before = fs::read(&cert).expect("there");
    let again = site.refused(&["ca", "create"], 1);
    assert!(again.contains("ca.key is there already; `dfget ca rotate` replaces it"), "{again}");
    assert_eq!(fs::read(&cert).expect("there"), before);
    site.ok(&["ca", "create", "--force"]);
    assert_ne!(fs::read(&cert).expect("there"), before);
}

#[test]
fn of_many_that_create_at_once_one_does() {
    let site = Site::new(&[r"^registry\.example\.com:443$"]);
    let children: Vec<_> = (0..8)
        .map(|_| {
            let mut command = site.command(&["ca", "create"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary is there")
        })
        .collect();
    let ended: Vec<_> =
        children.into_iter().map(|child| texts(&child.wait_with_output().expect("it ends"))).collect();
    let made: Vec<_> = ended.iter().filter(|(code, ..)| *code == Some(0)).collect();
    assert_eq!(made.len(), 1, "{ended:?}");
    assert!(
        ended.iter().all(|(code, _, said)| *code == Some(0) || said.contains("is there already")),
        "{ended:?}"
    );
    assert!(made[0].1.contains(site.shown(&[])["fingerprint"].as_str().expect("text")));
    site.ok(&["config", "check", "dfget.yaml"]);
}

#[test]
fn create_makes_the_files_that_the_configuration_names() {
    let yaml = "proxies: [{regx: blobs}]\nhijackHTTPS: {cert: pki/a.crt, key: pki/a.key, hosts: [{regx: '^r.io:443$'}]}\n";
    let site = Site::with(yaml);
    site.ok(&["ca", "create", "--days", "10"]);
    assert_eq!(site.shown(&[])["file"], site.path("pki/a.crt").display().to_string());
    assert_eq!(mode(&site.path("pki")), 0o700);
    site.ok(&["config", "check", "dfget.yaml"]);
    assert_eq!(site.shown(&[])["weaknesses"].as_array().map(Vec::len), Some(1), "it expires soon");
}

#[test]
fn patterns_that_spell_no_host_need_a_word() {
    let site = Site::new(&[r"^r\.example\.com:443$", r"^.*\.example\.org:443$"]);
    let said = site.refused(&["ca", "create"], 78);
    assert!(
        said.contains(r"`^.*\.example\.org:443$` spells no host") && said.contains("`--host HOST`"),
        "{said}"
    );
    site.ok(&["ca", "create", "--host", "r.example.com", "--host", "example.org"]);
    assert_eq!(site.shown(&[])["names"], serde_json::json!(["r.example.com", "example.org"]));
    site.ok(&["ca", "create", "--any-host", "--dir", "any"]);
    let any = site.shown(&["any/ca.crt"]);
    assert_eq!((&any["anyHost"], any["weaknesses"].as_array().map(Vec::len)), (&true.into(), Some(1)));
}

#[test]
fn wrong_command_lines_end_with_2() {
    let site = Site::new(&[]);
    for (arguments, words) in [
        (&["ca", "create", "--host", "*.example.com"][..], "no certificate can name the host"),
        (&["ca", "create", "--host", "a.b:443"], "without a port"),
        (&["ca", "create"], "`--host HOST`"),
        (&["ca", "create", "--host", "a.b", "--any-host"], "cannot be used with"),
        (&["ca", "create", "--host", "a.b", "--days", "0"], "0 is not in"),
        (&["ca", "create", "--host", "a.b", "--days", "3651"], "3651 is not in"),
        (&["ca", "install", "x.crt", "--remove"], "cannot be used with"),
        (&["ca"], "Usage: "),
    ] {
        let said = site.refused(arguments, 2);
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    assert!(!site.path("ca.key").exists());
}

#[test]
fn a_configuration_that_cannot_be_used_ends_with_78() {
    let site = Site::with("proxies: [{regx: '('}]\n");
    for command in ["create", "show", "bundle", "rotate", "install"] {
        let said = site.refused(&["ca", command], 78);
        assert!(said.starts_with("error: dfget.yaml:1:18: proxies[0].regx: "), "{command}: {said}");
    }
    site.ok(&["ca", "create", "--host", "r.example.com", "--dir", "here"]);
    let inline = Site::with(
        "proxies: [{regx: a}]\nhijackHTTPS: {cert: '-----BEGIN CERTIFICATE-----', key: '-----BEGIN KEY-----'}\n",
    );
    let said = inline.refused(&["ca", "rotate"], 78);
    assert!(said.contains("holds the authority itself") && !said.contains("BEGIN"), "{said}");
}

#[test]
fn without_a_configuration_the_users_own_directory_is_taken() {
    let site = Site::new(&[]);
    let directory = site.path(".config/dragonfly");
    let mut command = site.command(&["ca", "create", "--host", "r.example.com"]);
    as_nobody(&site, &mut command);
    command.env_remove("DFGET_CONFIG");
    // A machine with a configuration of its own would be looked at first.
    if Path::new("/etc/dragonfly/dfget.yaml").exists() {
        return;
    }
    let (code, said, errors) = texts(&command.output().expect("the binary is there"));
    assert_eq!(code, Some(0), "{errors}");
    assert!(said.contains(&format!("made {}", directory.join("ca.crt").display())), "{said}");
    assert_eq!(mode(&directory), 0o700);
}

/// Lets the command run as somebody who is not root, with the site as home.
fn as_nobody(site: &Site, command: &mut Command) {
    const NOBODY: u32 = 65534;
    // Only root may become somebody else; anybody else is an ordinary user already.
    if chown(site.0.path(), Some(NOBODY), Some(NOBODY)).is_ok() {
        let binary = site.path("dfget");
        // Not by this process: a descriptor for writing that another test's child inherits makes the file "busy".
        let copied = Command::new("cp").arg(DFGET).arg(&binary).status().expect("cp runs");
        assert!(copied.success(), "a copy where everybody may go");
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let mut other = Command::new(&binary);
        other.args(arguments).current_dir(site.0.path()).env_clear().env("HOME", site.0.path());
        other.env("DFGET_CONFIG", "dfget.yaml").uid(NOBODY).gid(NOBODY);
        *command = other;
    }
}

#[test]
fn the_authority_of_the_page_is_shown_with_its_weaknesses() {
    let site = Site::with(
        "proxies: [{regx: a}]\nhijackHTTPS: {cert: ca.crt, key: ca.key, hosts: [{regx: '^r:443$'}]}\n",
    );
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/real-clients/page/openssl.conf");
    fs::copy(page, site.path("openssl.conf")).expect("copied");
    site.openssl("genrsa -out ca.key 2048");
    site.openssl("req -new -key ca.key -nodes -out ca.csr -config openssl.conf -subj /C=DE/CN=Proxy");
    site.openssl("x509 -req -days 36500 -extfile openssl.conf -extensions v3_ca -in ca.csr -signkey ca.key -out ca.crt");
    fs::set_permissions(site.path("ca.key"), fs::Permissions::from_mode(0o644)).expect("opened");
    let said = site.ok(&["ca", "show"]);
    for words in [
        "\n  subject      C=DE, CN=Proxy\n",
        "\n  for          any host\n",
        "\n  key          RSA 2048, in ",
        " (mode 0644)\n",
        "\n  weak: its RSA key has 2048 bits",
        "\n  weak: it is valid for 100 years",
        "\n  weak: it has no name constraints",
        "\n  weak: it has no keyUsage",
        "\n  weak: every user of this host can read its key; `chmod 600 ",
    ] {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
    let missing = site.refused(&["ca", "show", "no.crt"], 1);
    assert!(missing.contains("no.crt cannot be read"), "{missing}");
    let key = site.refused(&["ca", "show", "ca.key"], 1);
    assert!(key.contains("there is no CERTIFICATE block"), "{key}");
}

#[test]
fn the_bundle_holds_all_authorities_once() {
    let site = Site::new(&[r"^r\.example\.com:443$"]);
    assert!(site.refused(&["ca", "bundle"], 1).contains("make one by `dfget ca create`"));
    site.ok(&["ca", "create"]);
    site.ok(&["ca", "create", "--any-host", "--dir", "other"]);
    let ours = fs::read_to_string(site.path("ca.crt")).expect("there");
    let other = fs::read_to_string(site.path("other/ca.crt")).expect("there");
    let count = |text: &str| text.matches("BEGIN CERTIFICATE").count();

    fs::write(site.path("base.pem"), format!("# a comment\n{other}\n{ours}{other}")).expect("written");
    let bundle = |arguments: &[&str], base: &str| {
        let mut command = site.command(&[&["ca", "bundle"], arguments].concat());
        texts(&command.env("SSL_CERT_FILE", base).output().expect("the binary is there"))
    };
    let (code, stdout, _) = bundle(&[], "base.pem");
    assert_eq!((code, stdout.as_str(), count(&stdout)), (Some(0), format!("{other}{ours}").as_str(), 2));
    let (code, stdout, stderr) = bundle(&["-O", "all.pem"], "base.pem");
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert_eq!(fs::read_to_string(site.path("all.pem")).expect("there"), format!("{other}{ours}"));
    assert_eq!(mode(&site.path("all.pem")), 0o644);
    let (code, _, stderr) = bundle(&[], "dfget.yaml");
    assert!(code == Some(1) && stderr.contains("dfget.yaml holds no certificate"), "{stderr}");
    let (code, _, stderr) = bundle(&[], "gone.pem");
    assert!(code == Some(1) && stderr.contains("SSL_CERT_FILE=gone.pem cannot be read"), "{stderr}");
    let (code, _, stderr) = bundle(&["-O", "no/all.pem"], "base.pem");
    assert!(code == Some(1) && stderr.contains("no/all.pem cannot be written"), "{stderr}");

    // The system's own, where it has one.
    if dfget_tls::system_bundle_path().is_some() {
        let all = site.ok(&["ca", "bundle"]);
        assert!(count(&all) > 10 && all.ends_with(&ours), "{} certificates", count(&all));
    }
}

#[test]
fn rotate_keeps_the_scope_and_the_old_certificate() {
    let site = Site::new(&[r"^r\.example\.com:443$"]);
    let missing = site.refused(&["ca", "rotate"], 1);
    assert!(missing.contains("make one by `dfget ca create`"), "{missing}");
    site.ok(&["ca", "create", "--host", "r.example.com", "--host", "::1"]);
    let old = fs::read(site.path("ca.crt")).expect("there");
    let said = site.ok(&["ca", "rotate"]);
    assert!(said.contains("for          r.example.com, ::1\n"), "{said}");
    assert!(
        said.contains("ca.crt.old; its key is destroyed\n") && said.contains("restart `dfget daemon`"),
        "{said}"
    );
    assert_eq!(fs::read(site.path("ca.crt.old")).expect("kept"), old);
    assert_ne!(fs::read(site.path("ca.crt")).expect("there"), old);
    assert_eq!(mode(&site.path("ca.key")), 0o600);
    site.ok(&["config", "check", "dfget.yaml"]);
    site.ok(&["ca", "rotate", "--host", "other.example.com"]);
    assert_eq!(site.shown(&[])["names"], serde_json::json!(["other.example.com"]));
    fs::write(site.path("ca.crt"), "no certificate").expect("written");
    let said = site.refused(&["ca", "rotate"], 1);
    assert!(said.contains("`--host HOST`"), "{said}");
    site.ok(&["ca", "rotate", "--host", "r.example.com"]);
}

#[test]
fn install_tells_an_ordinary_user_what_to_type() {
    let site = Site::new(&[]);
    site.ok(&["ca", "create", "--any-host", "--dir", "."]);
    let mut command = site.command(&["ca", "install", "ca.crt"]);
    as_nobody(&site, &mut command);
    let (code, stdout, stderr) = texts(&command.output().expect("the binary is there"));
    assert!(stderr.contains("warning: ca.crt is for any host: "), "{stderr}");
    if Path::new("/usr/local/share/ca-certificates").is_dir() {
        assert_eq!((code, stdout.as_str()), (Some(77), ""), "{stderr}");
        let by_hand = "type: sudo sh -c 'cp ca.crt /usr/local/share/ca-certificates/dfget.crt && update-ca-certificates'";
        assert!(stderr.contains(by_hand), "{stderr}");
    } else {
        assert!(code == Some(1) || code == Some(77), "{stderr}");
    }
}

#[test]
fn every_help_fits_80_columns_and_has_examples() {
    let site = Site::new(&[]);
    assert!(site.ok(&["ca", "--help"]).lines().all(|line| line.chars().count() <= 80));
    for command in ["create", "show", "bundle", "install", "rotate"] {
        let help = site.ok(&["ca", command, "--help"]);
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        assert!(help.contains("Examples:\n") && help.contains("Exit status: 0 "), "{help}");
    }
}
