//! The authority that dfget makes: taken by the clients for its hosts alone, installed, rotated.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use dfget_tls::{LeafCache, NewAuthority, PairFiles, Scope, Unusable};

use super::support::{
    Client, Daemon, Finished, Image, Reference, Registries, Tool, User, dfget_binary, in_namespace, run,
};

/// No authority is named.
const CONFIG: &str = r"
proxies: [{regx: blobs/sha256.*}, {regx: manifests/sha256.*}]
hijackHTTPS: {hosts: [{regx: '^registry\.test:443$'}]}
";
const SYSTEM_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
const DEBIAN_FILE: &str = "/usr/local/share/ca-certificates/dfget.crt";

fn dfget(arguments: &[&str]) -> Finished {
    run(&mut dfget_command(arguments))
}

fn dfget_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(dfget_binary());
    command.args(arguments).env_remove("SSL_CERT_FILE");
    command
}

fn write_config() {
    fs::create_dir("/etc/dragonfly").expect("/etc is ours");
    fs::write("/etc/dragonfly/dfget.yaml", CONFIG).expect("/etc is ours");
}

fn mode(path: &str) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn the_daemons_own_authority_serves_every_client() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        write_config();
        let image = Image::of_mib(4);
        let open = Reference { registry: "open", repository: "public/sif" };
        let mut daemon = Daemon::start_in(Path::new("/"));
        for tool in [Tool::Apptainer, Tool::Oras, Tool::Crane, Tool::Curl] {
            Client::proxied(User::Nobody).pull(tool, open, &image);
        }
        registries.assert_downloaded_once("open", &image);
        let made = fs::read("/etc/dragonfly/ca.crt").expect("it was made");
        daemon.kill();
        drop(daemon);
        let _again = Daemon::start_in(Path::new("/"));
        Client::proxied(User::Nobody).pull(Tool::Apptainer, open, &image);
        assert_eq!(fs::read("/etc/dragonfly/ca.crt").expect("there"), made);
    });
}

/// A TLS server for one client after the other, with a leaf for any host. It counts those that went on to ask for
/// something.
struct Server {
    asked: Arc<AtomicUsize>,
}

// === impl Server ===

impl Server {
    fn start(leaves: &Arc<LeafCache>, address: &str, host: &str) -> Self {
        let listener = TcpListener::bind((address, 8443)).expect("all of the network is ours");
        let config = leaves.server_config(host, SystemTime::now()).expect("a leaf");
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a configuration");
                let mut stream = rustls::StreamOwned::new(connection, stream);
                let mut request = [0; 4096];
                if matches!(stream.read(&mut request), Ok(read) if read > 0) {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let answer =
                        b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
                    // A client that has left is no concern of ours.
                    let _ = stream.write_all(answer);
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            }
        });
        Self { asked }
    }

    /// What the client said; whether it trusted the leaf.
    fn visit(&self, command: &mut Command) -> (Finished, bool) {
        let before = self.asked.load(Ordering::SeqCst);
        let ended = run(command);
        (ended, self.asked.load(Ordering::SeqCst) > before)
    }
}

#[test]
fn clients_take_leaves_within_the_constraints_and_refuse_others() {
    in_namespace(|| {
        let files = PairFiles::in_directory(Path::new("/tmp/pair"));
        let scope = Scope::of_hosts(["inside.test", "198.51.100.101"]).expect("hosts");
        let new = NewAuthority::of_this_host(scope);
        let opened = files.load_or_create(&new, Unusable::Refuse, SystemTime::now()).expect("made");
        let leaves = Arc::new(LeafCache::new(Arc::new(opened.authority)).expect("a key"));
        let table = [
            ("198.51.100.101", "198.51.100.101", true),
            ("198.51.100.102", "198.51.100.102", false),
            ("198.51.100.103", "inside.test", true),
            ("198.51.100.104", "below.inside.test", true),
            ("198.51.100.105", "outside.test", false),
        ];
        let mut names = fs::read_to_string("/etc/hosts").expect("there");
        names.extend(table.iter().map(|(address, host, _)| format!("{address} {host}\n")));
        fs::write("/etc/hosts", names).expect("/etc is ours");
        for (address, host, inside) in table {
            let server = Server::start(&leaves, address, host);
            let client = Client::direct(User::Nobody);
            let at = format!("{host}:8443");

            let mut crane = client.command("crane");
            crane.args(["digest", &format!("{at}/public/sif:1")]).env("SSL_CERT_FILE", &files.cert);
            let (said, trusted) = server.visit(&mut crane);
            assert_eq!(trusted, inside, "{host}: {}", said.stderr);
            assert_eq!(said.stderr.contains("x509: "), !inside, "{host}: {}", said.stderr);

            let mut apptainer = client.command("apptainer");
            apptainer
                .args(["pull", "pulled", &format!("oras://{at}/public/sif:1")])
                .env("SSL_CERT_FILE", &files.cert);
            let (said, trusted) = server.visit(&mut apptainer);
            assert_eq!(trusted, inside, "{host}: {}", said.stderr);

            let mut curl = client.command("curl");
            curl.args(["--silent", "--cacert"]).arg(&files.cert).arg(format!("https://{at}/"));
            assert_eq!(server.visit(&mut curl).1, inside, "curl: {host}");

            let mut gnutls = Command::new("sh");
            gnutls.args([
                "-c",
                "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | gnutls-cli --x509cafile $0 --port 8443 $1",
            ]);
            let (said, _) = server.visit(gnutls.arg(&files.cert).arg(host));
            assert_eq!(said.success, inside, "{host}: {}{}", said.stdout, said.stderr);
        }
    });
}

#[test]
fn install_on_debian_and_rotate_after_it() {
    in_namespace(|| {
        private_local_share();
        fs::create_dir("/usr/local/share/ca-certificates").expect("ours");
        let _registries = Registries::start(&["open"]);
        write_config();
        dfget(&["ca", "create"]).ok();
        let said = dfget(&["ca", "install"]).ok();
        assert!(
            said.stdout.contains(DEBIAN_FILE) && said.stdout.contains("for registry.test"),
            "{}",
            said.stdout
        );
        assert_eq!(said.stderr, "");
        assert_eq!(mode(DEBIAN_FILE), 0o644);
        let ours = fs::read_to_string("/etc/dragonfly/ca.crt").expect("there");
        assert!(fs::read_to_string(SYSTEM_BUNDLE).expect("there").contains(&ours));

        let image = Image::of_mib(4);
        let pull = || {
            let client = Client::proxied(User::Nobody);
            let reference = Reference { registry: "open", repository: "public/sif" };
            let mut command = client.apptainer_pull(Tool::Apptainer, reference, &image);
            run(command.env_remove("SSL_CERT_FILE"))
        };
        let daemon = Daemon::start_in(Path::new("/"));
        pull().ok();
        drop(daemon);

        let said = dfget(&["ca", "rotate"]).ok();
        assert!(
            said.stdout.contains(&format!("installed it as {DEBIAN_FILE} in place of the old one")),
            "{}",
            said.stdout
        );
        let bundle = fs::read_to_string(SYSTEM_BUNDLE).expect("there");
        let new = fs::read_to_string("/etc/dragonfly/ca.crt").expect("there");
        assert!(new != ours && bundle.contains(&new) && !bundle.contains(&ours));
        let daemon = Daemon::start_in(Path::new("/"));
        pull().ok();

        let said = dfget(&["ca", "install", "--remove"]).ok();
        assert!(said.stdout.contains(&format!("removed {DEBIAN_FILE}")), "{}", said.stdout);
        assert!(!Path::new(DEBIAN_FILE).exists());
        assert!(!fs::read_to_string(SYSTEM_BUNDLE).expect("there").contains(&new));
        let refused = pull().failed();
        assert!(refused.stderr.contains("certificate signed by unknown authority"), "{}", refused.stderr);
        assert!(dfget(&["ca", "install", "--remove"]).ok().stdout.contains("nothing to remove"));
        drop(daemon);
    });
}

#[test]
fn an_unbounded_authority_is_installed_with_a_warning_where_update_ca_trust_is() {
    in_namespace(|| {
        private_local_share();
        let neither = dfget(&["ca", "create", "--any-host"]).ok();
        assert!(neither.stdout.contains("any host"), "{}", neither.stdout);
        assert_eq!((mode("/etc/dragonfly"), mode("/etc/dragonfly/ca.key")), (0o755, 0o600));
        let refused = dfget(&["ca", "install"]).failed();
        assert_eq!(refused.status.code(), Some(1));
        assert!(refused.stderr.contains("export SSL_CERT_FILE=/etc/dragonfly/ca.crt"), "{}", refused.stderr);

        fs::create_dir_all("/etc/pki/ca-trust/source/anchors").expect("/etc is ours");
        fs::create_dir("/tmp/bin").expect("/tmp is ours");
        let stand_in = "/tmp/bin/update-ca-trust";
        fs::write(stand_in, "#!/bin/sh\necho \"$*\" >>/tmp/updated\n").expect("/tmp is ours");
        fs::set_permissions(stand_in, fs::Permissions::from_mode(0o755)).expect("/tmp is ours");
        let with_stand_in = |arguments: &[&str]| {
            let path = format!("/tmp/bin:{}", std::env::var("PATH").expect("text"));
            run(dfget_command(arguments).env("PATH", path))
        };
        let said = with_stand_in(&["ca", "install"]).ok();
        assert!(said.stderr.contains("warning: /etc/dragonfly/ca.crt is for any host: "), "{}", said.stderr);
        let file = "/etc/pki/ca-trust/source/anchors/dfget.crt";
        assert_eq!(fs::read(file).expect("there"), fs::read("/etc/dragonfly/ca.crt").expect("there"));
        with_stand_in(&["ca", "install", "--remove"]).ok();
        assert!(!Path::new(file).exists());
        assert_eq!(fs::read_to_string("/tmp/updated").expect("it was run"), "extract\nextract\n");

        fs::write(stand_in, "#!/bin/sh\necho 'no room' >&2\nexit 3\n").expect("/tmp is ours");
        let failed = with_stand_in(&["ca", "install"]).failed();
        assert_eq!(failed.status.code(), Some(1));
        assert!(failed.stderr.contains("`update-ca-trust extract` ended with"), "{}", failed.stderr);
        assert!(failed.stderr.contains("no room"), "{}", failed.stderr);
    });
}

/// An empty `/usr/local/share` for this run alone.
pub(crate) fn private_local_share() {
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/usr/local/share"])).ok();
}
