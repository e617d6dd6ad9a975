//! Container tools, by the port as a mirror and through the proxy: skopeo, podman, buildah, containerd, apptainer.
//!
//! Every pull is by a client with nothing of its own, so each would ask the registry for all of the image.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::support::{
    Client, Daemon, Finished, Image, Registries, User, clients_dir, in_namespace, run, until,
};

/// A program that pulls container images.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tool {
    Skopeo,
    Podman,
    Buildah,
    /// By its client `ctr`; each pull has a containerd of its own.
    Containerd,
    /// `apptainer pull docker://…`
    Apptainer,
}

/// A running containerd; killed when dropped.
#[derive(Debug)]
pub(crate) struct Containerd {
    child: Child,
    socket: PathBuf,
}

impl Tool {
    /// What it says to a client that may not read.
    const REFUSALS: [&str; 5] = ["unauthorized", "authentication required", "denied", "401", "403"];

    /// Pulls `HOST/REPOSITORY:4` with a client of its own.
    fn pull(self, client: &Client, user: User, host: &str, repository: &str) -> Finished {
        let image = format!("{host}/{repository}:4");
        let plain = host.ends_with(":5080");
        let storage = |program: &str| {
            let mut command = client.command(program);
            command
                .env("CONTAINERS_CONF", "/etc/containers/containers.conf")
                .env("PODMAN_IGNORE_CGROUPSV1_WARNING", "true")
                .args(["--root", "store", "--runroot", "run", "--storage-driver", "vfs", "pull", "--quiet"])
                .arg(&image);
            command
        };
        match self {
            Self::Skopeo => {
                let mut command = client.command("skopeo");
                run(command.args(["copy", "--quiet", &format!("docker://{image}"), "dir:pulled"]))
            }
            Self::Podman => run(&mut storage("podman")),
            Self::Buildah => run(&mut storage("buildah")),
            Self::Containerd => {
                let containerd = Containerd::start(client);
                let mut command = client.command("ctr");
                command.arg("--address").arg(&containerd.socket);
                command.args(["images", "pull", "--local", "--snapshotter", "native"]);
                command.args(["--hosts-dir", "/etc/containerd/certs.d"]);
                if let Some((name, password)) = user.credential() {
                    command.args(["--user", &format!("{name}:{password}")]);
                }
                if plain {
                    command.arg("--plain-http");
                }
                run(command.arg(&image))
            }
            Self::Apptainer => {
                let mut command = client.command("apptainer");
                command.args(["--silent", "pull", "--force"]);
                if plain {
                    command.arg("--no-https");
                }
                run(command.args(["pulled.sif", &format!("docker://{image}")]))
            }
        }
    }
}

// === impl Containerd ===

impl Containerd {
    pub(crate) fn start(client: &Client) -> Self {
        let home = client.file("containerd");
        fs::create_dir_all(&home).expect("/tmp is ours");
        let socket = home.join("socket");
        let configuration = format!(
            "version = 3\nroot = '{0}/root'\nstate = '{0}/state'\n\
             disabled_plugins = ['io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime', \
             'io.containerd.grpc.v1.cri']\n[grpc]\naddress = '{1}'\n",
            home.display(),
            socket.display()
        );
        fs::write(home.join("config.toml"), configuration).expect("/tmp is ours");
        let said = File::create(home.join("said")).expect("/tmp is ours");
        let mut command = client.command("containerd");
        command.arg("--config").arg(home.join("config.toml"));
        let errors = said.try_clone().expect("a file can be cloned");
        let child = command.stdout(said).stderr(errors).spawn().expect("containerd is there");
        let mut containerd = Self { child, socket };
        until("containerd to answer", || {
            if let Ok(Some(status)) = containerd.child.try_wait() {
                let said = fs::read_to_string(home.join("said")).unwrap_or_default();
                panic!("containerd ended with {status}:\n{said}");
            }
            let version = run(Command::new("ctr").arg("--address").arg(&containerd.socket).arg("version"));
            version.success.then_some(())
        });
        containerd
    }

    /// Where it is asked.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // Either may fail when it ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tells every tool that the daemon's port is the mirror of this host, as `docs/integrations` does.
fn configure_tools(host: &str) {
    configure_containers(&format!(
        "[[registry]]\nlocation = \"{host}\"\ninsecure = {}\n\n\
         [[registry.mirror]]\nlocation = \"127.0.0.1:65001\"\ninsecure = true\n",
        host.ends_with(":5080")
    ));
    let server = if host.ends_with(":5080") { format!("http://{host}") } else { format!("https://{host}") };
    configure_containerd(
        host,
        &format!(
            "server = \"{server}\"\n\n[host.\"http://127.0.0.1:65001\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        ),
    );
}

pub(crate) fn configure_containers(registries: &str) {
    let directory = Path::new("/etc/containers");
    fs::create_dir_all(directory).expect("/etc is ours");
    let root = clients_dir().join("root");
    let engine = format!(
        "[engine]\ncgroup_manager = \"cgroupfs\"\nlock_type = \"file\"\nconmon_path = [\"{0}/bin/conmon\"]\n\
         helper_binaries_dir = [\"{0}/lib/podman\"]\nruntime = \"crun\"\n\
         [engine.runtimes]\ncrun = [\"{0}/bin/crun\"]\n",
        root.display()
    );
    fs::write(directory.join("containers.conf"), engine).expect("/etc is ours");
    let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
    fs::write(directory.join("policy.json"), policy).expect("/etc is ours");
    fs::write(directory.join("registries.conf"), registries).expect("/etc is ours");
}

pub(crate) fn configure_containerd(host: &str, hosts_toml: &str) {
    let directory = Path::new("/etc/containerd/certs.d").join(host);
    fs::create_dir_all(&directory).expect("/etc is ours");
    fs::write(directory.join("hosts.toml"), hosts_toml).expect("/etc is ours");
}

fn repository(registry: &str) -> &'static str {
    if matches!(registry, "basic" | "token") { "private/oci" } else { "public/oci" }
}

/// The first client makes the registry send each layer once, the second none; who has no right gets nothing.
fn cold_then_warm(tool: Tool, registry: &str, client: fn(User) -> Client) {
    let registries = Registries::start(&[registry]);
    let (host, repository) = (Registries::host(registry), repository(registry));
    let protected = repository.starts_with("private");
    let user = if protected { User::Dev } else { User::Nobody };
    tool.pull(&client(user), user, &host, repository).ok();
    let cold = registries.blobs(registry);
    assert_eq!(cold.len(), 2, "each of two layers once: {cold:#?}");

    let again = client(user);
    tool.pull(&again, user, &host, repository).ok();
    let warm = registries.blobs(registry);
    assert_eq!(warm.len(), 2, "the second client had all from the cache: {warm:#?}");
    assert!(Daemon::tasks_done().len() >= 4, "{:#?}", Daemon::tasks_done());
    if tool == Tool::Skopeo {
        assert_layers(&again.file("pulled"));
    }
    for other in if protected { &[User::Nobody, User::Guest, User::Forger][..] } else { &[] } {
        let refused = tool.pull(&client(*other), *other, &host, repository).failed();
        let said = refused.stderr.to_lowercase() + &refused.stdout.to_lowercase();
        assert!(Tool::REFUSALS.iter().any(|word| said.contains(word)), "{other:?}: {said}");
    }
    assert_eq!(registries.blobs(registry).len(), 2);
}

/// Every file that is named by a digest hashes to its name, and the large layer is among them.
fn assert_layers(directory: &Path) {
    let mut large = 0;
    for file in fs::read_dir(directory).expect("skopeo made it") {
        let path = file.expect("skopeo made it").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.len() == 64 {
            assert_eq!(super::support::sha256(&path), name);
            large += usize::from(fs::metadata(&path).expect("it is there").len() > 4 << 20);
        }
    }
    assert_eq!(large, 1);
}

fn by_mirror(tool: Tool, registry: &str) {
    configure_tools(&Registries::host(registry));
    let _daemon = Daemon::start_as(&format!("registryMirror:\n  url: {}\n", Registries::url(registry)));
    cold_then_warm(tool, registry, Client::direct);
}

fn by_proxy(tool: Tool, registry: &str) {
    configure_containers("");
    let _daemon = Daemon::start();
    cold_then_warm(tool, registry, Client::proxied);
}

/// A test for each tool and registry.
macro_rules! scenarios {
    ($($name:ident: $way:ident, $tool:ident, $registry:literal;)*) => {$(
        #[test]
        fn $name() {
            in_namespace(|| $way(Tool::$tool, $registry));
        }
    )*};
}

scenarios! {
    skopeo_by_the_mirror_of_the_open_registry: by_mirror, Skopeo, "open";
    skopeo_by_the_mirror_of_the_basic_registry: by_mirror, Skopeo, "basic";
    skopeo_by_the_mirror_of_the_token_registry: by_mirror, Skopeo, "token";
    skopeo_by_the_mirror_of_the_redirecting_registry: by_mirror, Skopeo, "redirect";
    skopeo_by_the_mirror_of_a_registry_without_tls: by_mirror, Skopeo, "plain";
    skopeo_through_the_proxy_from_the_open_registry: by_proxy, Skopeo, "open";
    skopeo_through_the_proxy_from_the_basic_registry: by_proxy, Skopeo, "basic";
    skopeo_through_the_proxy_from_the_token_registry: by_proxy, Skopeo, "token";
    skopeo_through_the_proxy_from_the_redirecting_registry: by_proxy, Skopeo, "redirect";
    podman_by_the_mirror_of_the_open_registry: by_mirror, Podman, "open";
    podman_by_the_mirror_of_the_basic_registry: by_mirror, Podman, "basic";
    podman_by_the_mirror_of_the_token_registry: by_mirror, Podman, "token";
    podman_by_the_mirror_of_the_redirecting_registry: by_mirror, Podman, "redirect";
    podman_through_the_proxy_from_the_token_registry: by_proxy, Podman, "token";
    buildah_by_the_mirror_of_the_open_registry: by_mirror, Buildah, "open";
    buildah_by_the_mirror_of_the_token_registry: by_mirror, Buildah, "token";
    containerd_by_the_mirror_of_the_open_registry: by_mirror, Containerd, "open";
    containerd_by_the_mirror_of_the_basic_registry: by_mirror, Containerd, "basic";
    containerd_by_the_mirror_of_the_token_registry: by_mirror, Containerd, "token";
    containerd_by_the_mirror_of_the_redirecting_registry: by_mirror, Containerd, "redirect";
    containerd_by_the_mirror_of_a_registry_without_tls: by_mirror, Containerd, "plain";
    apptainer_docker_by_the_mirror_of_the_open_registry: by_mirror, Apptainer, "open";
    apptainer_docker_by_the_mirror_of_the_token_registry: by_mirror, Apptainer, "token";
    apptainer_docker_through_the_proxy_from_the_open_registry: by_proxy, Apptainer, "open";
    apptainer_docker_through_the_proxy_from_the_token_registry: by_proxy, Apptainer, "token";
    apptainer_docker_through_the_proxy_from_the_redirecting_registry: by_proxy, Apptainer, "redirect";
}

#[test]
fn containerd_by_its_own_proxy_variables() {
    in_namespace(|| {
        configure_containers("");
        let _daemon = Daemon::start();
        cold_then_warm(Tool::Containerd, "open", Client::proxied);
    });
}

/// Each registry has its own place in containerd's configuration; all lead to the same port.
fn several_registries(configuration: &str) {
    let registries = Registries::start(&["open", "token", "plain"]);
    let _daemon = Daemon::start_as(configuration);
    let default = "[host.\"http://127.0.0.1:65001\"]\ncapabilities = [\"pull\", \"resolve\"]\n";
    configure_containerd("_default", default);
    for registry in ["open", "token"] {
        for _ in ["cold", "warm"] {
            let client = Client::direct(User::Dev);
            Tool::Containerd.pull(&client, User::Dev, &Registries::host(registry), "public/oci").ok();
        }
    }
    // The same layers: the one that was asked first has sent them, the other has shown that it has them.
    assert_eq!(registries.blobs("open").len(), 2);
    let proofs: u64 = registries.blobs("token").iter().map(|request| request.body_bytes).sum();
    assert!(proofs < 1 << 20, "{:#?}", registries.blobs("token"));
    let tags = |registry: &str| {
        let asked = registries.requests(registry);
        asked.iter().filter(|request| request.path.contains("/manifests/4")).count()
    };
    assert!(tags("open") > 0 && tags("token") > 0, "each registry was asked for its own tag");
    let leaked = ["open", "token"].map(|registry| registries.requests(registry));
    assert!(!leaked.iter().flatten().any(|request| request.path.contains("ns=")), "{leaked:#?}");
}

#[test]
fn containerd_names_any_registry_by_ns() {
    in_namespace(|| several_registries("registryMirror:\n  dynamic: true\n"));
}

#[test]
fn containerd_names_one_of_those_that_are_configured() {
    in_namespace(|| {
        several_registries(
            "registryMirror:\n  url: https://registry.test\nextraRegistryMirrors:\n  - url: https://token.registry.test\n",
        );
    });
}

#[test]
fn a_header_names_any_registry_of_the_network_and_none_of_this_machine() {
    in_namespace(|| {
        let _registries = Registries::start(&["open", "plain"]);
        let _daemon =
            Daemon::start_as("registryMirror:\n  dynamic: true\nproxies: [{regx: 'blobs/sha256.*'}]\n");
        // A name may lead anywhere; what counts is the address behind it.
        let hosts =
            fs::read_to_string("/etc/hosts").unwrap() + "127.0.0.1 inside.test\n198.51.100.16 outside.test\n";
        fs::write("/etc/hosts", hosts).unwrap();
        let ask = |registry: &str, path: &str| {
            let header = format!("X-Dragonfly-Registry: {registry}");
            let url = format!("http://127.0.0.1:65001{path}");
            let arguments = ["--silent", "--write-out", "\n%{http_code}", "--header", &header, &url];
            let said = run(Client::direct(User::Nobody).command("curl").args(arguments)).ok().stdout;
            let (body, status) = said.rsplit_once('\n').unwrap();
            (status.to_owned(), body.to_owned())
        };
        // What a proxy's client was given from there, and is kept, is not for one of the mirror.
        let blob = fs::read(clients_dir().join("images/4.sif")).unwrap();
        fs::create_dir_all("/tmp/www/v2/x/blobs").unwrap();
        let path = format!("/v2/x/blobs/sha256:{}", Image::of_mib(4).digest);
        fs::write(format!("/tmp/www{path}"), blob).unwrap();
        let mut server = Command::new("python3")
            .args(["-m", "http.server", "--bind", "127.0.0.1", "--directory", "/tmp/www", "40777"])
            .spawn()
            .unwrap();
        let url = format!("http://inside.test:40777{path}");
        until("the server inside to answer, by the proxy", || {
            let mut command = Client::direct(User::Nobody).command("curl");
            let fetched =
                command.args(["--silent", "--fail", "--proxy", "127.0.0.1:65001", "--output", "x", &url]);
            run(fetched).success.then_some(())
        });
        assert_eq!(Daemon::tasks_done().len(), 1, "it is kept");
        assert_eq!(ask("http://inside.test:40777", &path).0, "403");
        server.kill().unwrap();
        server.wait().unwrap();
        assert_eq!(ask("https://registry.test", "/v2/").0, "200");
        assert_eq!(ask("http://outside.test:5080", "/v2/").0, "200");
        for registry in ["http://inside.test:40901", "http://127.0.0.1:40901", "http://localhost:40901"] {
            let (status, body) = ask(registry, "/metrics");
            assert_eq!(status, "403", "{registry}: {body}");
            assert!(body.contains("loopback, link-local and metadata"), "{registry}: {body}");
        }
    });
}

#[test]
fn a_mirror_that_is_gone_leaves_the_registry_to_the_clients() {
    in_namespace(|| {
        let registries = Registries::start(&["open"]);
        configure_tools(&Registries::host("open"));
        let mut daemon = Daemon::start_as("registryMirror:\n  url: https://registry.test\n");
        daemon.kill();
        for tool in [Tool::Skopeo, Tool::Podman, Tool::Containerd] {
            tool.pull(&Client::direct(User::Nobody), User::Nobody, "registry.test", "public/oci").ok();
        }
        assert_eq!(registries.blobs("open").len(), 6);
        // Apptainer asks only the mirror for layers, which docs/integrations says.
        let user = User::Nobody;
        let refused =
            Tool::Apptainer.pull(&Client::direct(user), user, "registry.test", "public/oci").failed();
        assert!(refused.stderr.contains("connection refused"), "{}", refused.stderr);
    });
}
